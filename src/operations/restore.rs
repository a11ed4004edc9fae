//! restore: writes the exact files of a run into a folder, and nothing outside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use rayon::prelude::*;
use serde::Serialize;

use super::restore_folder::{Existing, RestoreFolder, RestoredFile};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
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
    let existing = if options.force { Existing::Replace } else { Existing::Refuse };
    let (links, contents): (Vec<_>, Vec<_>) =
        wanted.iter().partition(|(_, entry)| matches!(entry, Entry::Symlink { .. }));
    let done = Mutex::new(Done { problems, files: 0, bytes: 0 });
    let note = |path: &TrackedPath, bytes: u64, result: Result<()>| {
        let mut done = done.lock().unwrap_or_else(PoisonError::into_inner);
        match result {
            Ok(()) => {
                done.files += 1;
                done.bytes += bytes;
                progress.advance(1);
            }
            Err(error) => done.problems.push(format!("Not restored: {path} ({error})")),
        }
    };
    let by_content = by_content(contents);
    let ids: Vec<ObjectId> = by_content.iter().map(|(id, _)| *id).collect();
    let of_pieces: Mutex<Vec<(ObjectId, &File<'_>)>> = Mutex::default();
    store.read_chunks(&ids, |number, content| {
        let Some((id, files)) = by_content.get(number) else { return };
        for file in files {
            match content {
                // No object has no bytes: an empty file is in no pack.
                Err(_) if file.bytes == 0 && *id == ObjectId::of(&[]) => {
                    note(file.path, 0, target.write(file.path, file.executable, existing, &[]));
                }
                Ok(content) if content.len() as u64 == file.bytes => {
                    note(file.path, file.bytes, target.write(file.path, file.executable, existing, content));
                }
                // It has several chunks, or cannot be read: then that is found out again, and why.
                _ => of_pieces.lock().unwrap_or_else(PoisonError::into_inner).push((*id, file)),
            }
        }
    });
    let of_pieces = of_pieces.into_inner().unwrap_or_else(PoisonError::into_inner);
    of_pieces.par_iter().for_each(|(id, file)| {
        let write = |to: &mut RestoredFile| store.read_file(*id, file.bytes, |piece| to.write(piece));
        note(file.path, file.bytes, target.write_pieces(file.path, file.executable, existing, write));
    });
    // Links come last: nothing is ever written through one that a snapshot brought.
    for (path, entry) in links {
        if let Entry::Symlink { target: to } = entry {
            note(path, to.len() as u64, target.link(path, to, existing));
        }
    }
    target.finish()?;
    progress.end();
    let Done { mut problems, files, bytes } = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    problems.sort();
    let output = options.output.clone();
    Ok(Restored { run: run.id(), snapshot: run.start.snapshot, output, files, bytes, problems })
}

/// What has been restored so far.
struct Done {
    problems: Vec<String>,
    files: u64,
    bytes: u64,
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

/// A file to be written.
struct File<'f> {
    path: &'f TrackedPath,
    bytes: u64,
    executable: bool,
}

/// Files by their content, which is read once however many have it.
fn by_content<'f>(files: Vec<(&'f TrackedPath, &'f Entry)>) -> Vec<(ObjectId, Vec<File<'f>>)> {
    let mut by_content: BTreeMap<ObjectId, Vec<File<'f>>> = BTreeMap::new();
    for (path, entry) in files {
        if let Entry::File { id, bytes, executable } = entry {
            by_content.entry(*id).or_default().push(File { path, bytes: *bytes, executable: *executable });
        }
    }
    by_content.into_iter().collect()
}
