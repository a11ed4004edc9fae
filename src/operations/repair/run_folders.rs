//! The two files in the folders of runs, made again from records and snapshots where they are missing or cut.

use std::path::Path;

use super::super::run_folder::{self, METADATA_PATH, Manifest, ManifestState};
use super::Repaired;
use crate::error::Result;
use crate::id::random_name;
use crate::run_record::RunStart;
use crate::storage::{Storage, write_whole};
use crate::store::{Runs, Store};
use crate::tracked_files::walk::MANIFEST_PATH;

/// A longer metadata file is not read.
const MAX_METADATA_BYTES: u64 = 1 << 30;

/// Writes what is missing or cut. What somebody has edited stays as it is.
pub fn repair(store: &Store, runs: &Runs, dry_run: bool, out: &mut Repaired) {
    for run in runs.iter() {
        let Some(folder) = &run.start.run_folder else { continue };
        if !Path::new(&folder.path).is_dir() {
            continue;
        }
        let folder = store.storage().at(Path::new(&folder.path));
        let shown = |path: &str| folder.full_path(path).display().to_string();
        match metadata(store, &run.start, &*folder, dry_run) {
            Ok(true) => out.written_files.push(shown(METADATA_PATH)),
            Ok(false) => {}
            Err(reason) => out.notes.push(format!("{}: {reason}", shown(METADATA_PATH))),
        }
        match manifest(store, &run.start, &*folder, dry_run) {
            Ok(true) => out.written_files.push(shown(MANIFEST_PATH)),
            Ok(false) => {}
            Err(reason) => out.notes.push(format!("{}: {reason}", shown(MANIFEST_PATH))),
        }
    }
}

/// Whether the metadata file had to be written.
fn metadata(store: &Store, start: &RunStart, folder: &dyn Storage, dry_run: bool) -> Result<bool, String> {
    let Some(expected) = start.run_folder.as_ref().and_then(|folder| folder.metadata_hash.as_ref()) else {
        return Ok(false);
    };
    match folder.read(METADATA_PATH, MAX_METADATA_BYTES) {
        Ok(bytes) if run_folder::metadata_hash(&bytes) == *expected => return Ok(false),
        Ok(bytes) if serde_json::from_slice::<serde_json::Value>(&bytes).is_ok() => {
            return Err("somebody has edited it, so it stays".to_owned());
        }
        Ok(_) => {}
        Err(error) if error.is_not_found() => {}
        Err(error) => return Err(error.to_string()),
    }
    let files = store.files_of(start.snapshot).map_err(|error| format!("it cannot be made again ({error})"))?;
    let bytes = run_folder::metadata(start, store.config().store, &files.entries);
    if run_folder::metadata_hash(&bytes) != *expected {
        return Err("it cannot be made again: another program or version wrote it".to_owned());
    }
    if !dry_run {
        let temporary = format!("{METADATA_PATH}.{}.tmp", random_name());
        let write = || {
            folder.create_folder("metadata")?;
            write_whole(folder, &temporary, METADATA_PATH, &bytes, false)
        };
        write().map_err(|error| error.to_string())?;
    }
    Ok(true)
}

/// Whether the manifest had to be written.
fn manifest(store: &Store, start: &RunStart, folder: &dyn Storage, dry_run: bool) -> Result<bool, String> {
    let bytes = Manifest::of(start, store.config().store).encode();
    match run_folder::manifest_state(folder.root(), &bytes) {
        ManifestState::Whole => return Ok(false),
        ManifestState::Missing => {}
        ManifestState::Foreign => match folder.read(MANIFEST_PATH, MAX_METADATA_BYTES) {
            // No program writes half of a JSON document on purpose.
            Ok(there) if serde_json::from_slice::<serde_json::Value>(&there).is_err() => {}
            Ok(_) => return Err("somebody has edited it, so it stays".to_owned()),
            Err(error) => return Err(error.to_string()),
        },
    }
    if !dry_run {
        run_folder::write_manifest(folder, &bytes).map_err(|error| error.to_string())?;
    }
    Ok(true)
}
