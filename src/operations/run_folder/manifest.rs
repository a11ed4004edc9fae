//! `metadata/manifest.json`: which run a folder is of.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::json::to_json;
use crate::error::Result;
use crate::id::{ObjectId, RunId, StoreId, random_name};
use crate::run_record::RunStart;
use crate::storage::{Storage, write_whole};
use crate::tracked_files::walk::{MANIFEST_FORMAT, MANIFEST_PATH};

const MANIFEST_VERSION: u64 = 1;

/// `metadata/manifest.json`, under 1 KiB however large the project: `schema/manifest.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u64,
    /// The run.
    pub run: RunId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
    /// Its code.
    pub snapshot: ObjectId,
    /// The store that has it.
    pub store: StoreId,
    /// When it was captured.
    pub time: String,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Manifest {
    /// The manifest of a run.
    pub fn of(start: &RunStart, store: StoreId) -> Self {
        Self {
            format: MANIFEST_FORMAT.to_owned(),
            version: MANIFEST_VERSION,
            run: start.run,
            name: start.name.clone(),
            sweep: start.sweep.clone(),
            snapshot: start.snapshot,
            store,
            time: start.time.clone(),
            files: start.files,
            bytes: start.bytes,
        }
    }

    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a manifest's content.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes)
            .ok()
            .filter(|m| m.format == MANIFEST_FORMAT && m.version == MANIFEST_VERSION)
    }
}

/// The files in a run's folder that are the run's manifest, or what was left of it when its writer was killed or the power
/// failed: `manifest.json` and its temporary names, where they hold the manifest or a beginning of it.
pub fn own_manifests(folder: &Path, manifest: &[u8]) -> Vec<PathBuf> {
    let path = folder.join(MANIFEST_PATH);
    let Some(entries) = path.parent().filter(|parent| !parent.is_symlink()).and_then(|p| p.read_dir().ok()) else {
        return Vec::new();
    };
    let is_own = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let rest = name.strip_prefix("manifest.json");
        let is_temporary = |rest: &str| {
            let random = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
            random.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= manifest.len() as u64);
        is_file
            && rest.is_some_and(|rest| rest.is_empty() || is_temporary(rest))
            && std::fs::read(path).is_ok_and(|bytes| manifest.starts_with(&bytes))
    };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_own).collect()
}

/// What stands where a run's manifest belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestState {
    /// The manifest.
    Whole,
    /// Nothing, or a beginning of the manifest.
    Missing,
    /// Something else.
    Foreign,
}

/// Looks at the manifest in a run's folder.
pub fn manifest_state(folder: &Path, manifest: &[u8]) -> ManifestState {
    let path = folder.join(MANIFEST_PATH);
    if path.parent().is_some_and(Path::is_symlink) {
        return ManifestState::Foreign;
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ManifestState::Missing,
        Ok(metadata) if metadata.is_file() && metadata.len() <= manifest.len() as u64 => match std::fs::read(&path) {
            Ok(bytes) if bytes == manifest => ManifestState::Whole,
            Ok(bytes) if manifest.starts_with(&bytes) => ManifestState::Missing,
            _ => ManifestState::Foreign,
        },
        _ => ManifestState::Foreign,
    }
}

/// Writes the manifest alone into a run's folder, and removes what killed writers have left of it.
pub fn write_manifest(folder: &dyn Storage, manifest: &[u8]) -> Result<()> {
    folder.create_folder("metadata")?;
    for left in own_manifests(folder.root(), manifest) {
        if let Some(name) = left.file_name().and_then(OsStr::to_str).filter(|name| name.ends_with(".tmp")) {
            folder.remove(&format!("metadata/{name}"))?;
        }
    }
    write_whole(folder, &format!("{MANIFEST_PATH}.{}.tmp", random_name()), MANIFEST_PATH, manifest, false)
}
