//! restore: writes the exact files of a run into a folder, and nothing outside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;

use rayon::prelude::*;
use serde::Serialize;

use super::restore_folder::{Existing, RestoreFolder};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::snapshot::Entry;
use crate::store::{Run, Store};
use crate::tracked_path::TrackedPath;

/// How to restore.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RestoreOptions {
    /// The folder, which must be new or empty.
    pub output: PathBuf,
    /// Restores these files and folders alone; all where empty.
    pub paths: Vec<PathBuf>,
    /// Writes into a folder that is not empty: files of the snapshot's names are replaced, all others stay.
    pub force: bool,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// The run.
    pub run: RunId,
    /// Its snapshot.
    pub snapshot: ObjectId,
    /// The folder.
    pub output: PathBuf,
    /// How many files and links were written, or were there with the right content.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What could not be restored, a line each.
    pub problems: Vec<String>,
}

/// Restores the files of a run.
///
/// Every content is checked against its id before a file gets its name. What is damaged or in the way is reported in
/// [`Restored::problems`]; everything else is restored.
pub fn restore(store: &Store, run: &Run, options: &RestoreOptions, progress: &dyn Progress) -> Result<Restored> {
    let mut problems = Vec::new();
    let files = store.readable_files_of(run.start.snapshot, |_| {})?;
    for (folder, reason) in &files.problems {
        let folder = folder.as_ref().map_or_else(|| "the root folder".to_owned(), ToString::to_string);
        problems.push(format!("Not restored: {folder} ({reason})"));
    }
    let wanted = choose(run, files.entries, &options.paths, !problems.is_empty())?;
    let target = RestoreFolder::open(&options.output, options.force)?;
    progress.begin("Restoring", wanted.len() as u64);
    let problems = Mutex::new(problems);
    let report = |path: &TrackedPath, error: &dyn std::fmt::Display| {
        let mut problems = problems.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        problems.push(format!("Not restored: {path} ({error})"));
    };
    let existing = if options.force { Existing::Replace } else { Existing::Refuse };
    let (links, contents): (Vec<_>, Vec<_>) =
        wanted.iter().partition(|(_, entry)| matches!(entry, Entry::Symlink { .. }));
    let restored = |path: &TrackedPath, result: Result<u64>| match result {
        Ok(bytes) => {
            progress.advance(1);
            Some(bytes)
        }
        Err(error) => {
            report(path, &error);
            None
        }
    };
    let order = by_frame(store, contents);
    let written: Vec<u64> = order
        .par_iter()
        .flat_map_iter(|group| group.iter())
        .filter_map(|(path, entry)| restored(path, write_file(store, &target, path, entry, existing)))
        .collect();
    // Links come last: nothing is ever written through one that a snapshot brought.
    let linked: Vec<u64> = links
        .iter()
        .filter_map(|(path, entry)| match entry {
            Entry::Symlink { target: to } => restored(path, target.link(path, to, existing).map(|()| to.len() as u64)),
            Entry::File { .. } => None,
        })
        .collect();
    progress.end();
    let mut problems = problems.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    problems.sort();
    Ok(Restored {
        run: run.id(),
        snapshot: run.start.snapshot,
        output: options.output.clone(),
        files: (written.len() + linked.len()) as u64,
        bytes: written.iter().chain(&linked).sum(),
        problems,
    })
}

/// The files that were asked for.
fn choose(
    run: &Run,
    all: BTreeMap<TrackedPath, Entry>,
    paths: &[PathBuf],
    is_damaged: bool,
) -> Result<BTreeMap<TrackedPath, Entry>> {
    if paths.is_empty() {
        return Ok(all);
    }
    let mut wanted = BTreeMap::new();
    for text in paths {
        let no_such_path = || Error::NoSuchPath { run: run.label(), path: text.display().to_string() };
        let path = TrackedPath::from_path(text).ok_or_else(no_such_path)?;
        let found: Vec<_> =
            all.iter().filter(|(p, _)| p.is_within(&path)).map(|(p, e)| (p.clone(), e.clone())).collect();
        if found.is_empty() && !is_damaged {
            return Err(no_such_path());
        }
        wanted.extend(found);
    }
    Ok(wanted)
}

type File<'f> = (&'f TrackedPath, &'f Entry);

/// Groups files whose content begins in one frame, so that each frame is decoded by one thread, once.
fn by_frame<'f>(store: &Store, files: Vec<File<'f>>) -> Vec<Vec<File<'f>>> {
    let frame_of = |(_, entry): &File<'f>| match entry {
        Entry::File { id, .. } => {
            let places = store.catalog().places(ObjectKind::Chunk, *id);
            places.first().and_then(|place| Some((place.pack.path.clone(), place.frame()?.offset)))
        }
        Entry::Symlink { .. } => None,
    };
    let mut groups: BTreeMap<Option<(String, u64)>, Vec<File<'f>>> = BTreeMap::new();
    for file in files {
        groups.entry(frame_of(&file)).or_default().push(file);
    }
    // A large frame with many small files keeps every thread busy only if they share its files.
    groups.into_values().flat_map(|group| group.chunks(64).map(<[_]>::to_vec).collect::<Vec<_>>()).collect()
}

fn write_file(
    store: &Store,
    target: &RestoreFolder,
    path: &TrackedPath,
    entry: &Entry,
    existing: Existing,
) -> Result<u64> {
    let Entry::File { id, bytes, executable } = entry else { return Ok(0) };
    // The name is given only once the whole content has turned out right.
    target.write(path, *executable, existing, |file| store.read_file(*id, *bytes, |piece| file.write(piece)))?;
    Ok(*bytes)
}
