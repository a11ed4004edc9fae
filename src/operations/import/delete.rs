//! Deletes the originals of imported copies: only what has just been read back from the packs, and only while it still is
//! what was stored.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::Path;

use rayon::prelude::*;

use super::super::run_folder::{Manifest, own_manifests};
use super::copies::RunCopy;
use super::shown;
use super::tree::{SeenBlocks, Tree, walk};
use crate::error::Result;
use crate::id::ObjectId;
use crate::run_record::RunStart;
use crate::snapshot::Entry;
use crate::store::slot::{JOURNAL_ENDING, JOURNALS};
use crate::store::{PACKS, Store};
use crate::tracked_path::TrackedPath;

/// What was deleted, and what was not.
#[derive(Debug, Default)]
pub struct Deleted {
    /// Files and links.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The room that they took on the disk.
    pub allocated_bytes: u64,
    /// What stays, and why, a line each.
    pub kept: Vec<String>,
    /// Folders that stay because they were empty before.
    pub empty_folders: Vec<String>,
}

/// Makes durable what earlier commands have written, so that nothing is deleted that a power cut could still take from the
/// store: a run that was found there may be one whose import was killed before its flush.
pub fn flush_store(store: &Store) -> Result<()> {
    let storage = store.storage();
    storage.sync_folder(PACKS)?;
    for journal in storage.list(JOURNALS)?.iter().filter(|file| file.name.ends_with(JOURNAL_ENDING)) {
        storage.append(&format!("{JOURNALS}/{}", journal.name))?.sync()?;
    }
    storage.sync_folder(JOURNALS)
}

/// Deletes the originals of runs whose records are committed and flushed.
///
/// The store is opened anew, so that what is read comes from its files and not from what was just written.
pub fn delete_originals(store: &Store, copies: &[(RunCopy, std::rc::Rc<RunStart>)], out: &mut Deleted) -> Result<()> {
    let fresh = Store::open_in(std::sync::Arc::clone(store.storage()))?;
    let mut wanted: BTreeMap<ObjectId, u64> = BTreeMap::new();
    let mut expected = Vec::new();
    for (copy, start) in copies {
        match fresh.files_of(start.snapshot) {
            Ok(files) => {
                wanted.extend(files.entries.values().filter_map(|entry| match entry {
                    Entry::File { id, bytes, .. } => Some((*id, *bytes)),
                    Entry::Symlink { .. } => None,
                }));
                expected.push((copy, start, files));
            }
            Err(error) => out.kept.push(format!("{}: its run cannot be read back ({error})", copy.tree.display())),
        }
    }
    let read_back: HashSet<ObjectId> = wanted
        .into_par_iter()
        .filter(|(id, bytes)| fresh.read_file(*id, *bytes, |_| Ok(())).is_ok())
        .map(|(id, _)| id)
        .collect();
    for (copy, start, files) in expected {
        let is_lost = |entry: &&Entry| matches!(entry, Entry::File { id, .. } if !read_back.contains(id));
        let lost = files.entries.values().filter(is_lost).count();
        // The copy is the better one then, and worth more whole.
        if lost > 0 {
            let what = format!("{lost} of its files cannot be read back from the store, so all of it stays");
            out.kept.push(format!("{}: {what}", copy.tree.display()));
            continue;
        }
        let mut reasons = platform::delete(&copy.tree, &files.entries, out);
        let folders: BTreeSet<&TrackedPath> = files.trees.keys().flatten().collect();
        // Children before their parents. What is not empty stays by itself, and nothing is followed.
        for folder in folders.iter().rev() {
            platform::remove_empty_folder(&copy.tree, folder);
        }
        if !copy.is_whole_folder() {
            let _ = std::fs::remove_dir(&copy.tree);
        }
        if copy.tree.is_dir() {
            let left = walk(&copy.tree, &mut SeenBlocks::new());
            tell_what_stays(copy, start, left, &mut reasons, store, out);
        }
    }
    Ok(())
}

fn tell_what_stays(
    copy: &RunCopy,
    start: &RunStart,
    left: Tree,
    reasons: &mut BTreeMap<TrackedPath, String>,
    store: &Store,
    out: &mut Deleted,
) {
    let own = if copy.is_whole_folder() {
        own_manifests(&copy.folder, &Manifest::of(start, store.config().store).encode())
    } else {
        Vec::new()
    };
    for (tracked, path) in left.files.iter().filter(|(_, path)| !own.contains(path)) {
        let reason = reasons.remove(tracked).unwrap_or_else(|| "it is not in the run's snapshot".to_owned());
        out.kept.push(format!("{}: {reason}", path.display()));
    }
    for left_out in &left.left_out {
        out.kept.push(format!("{}: it cannot be part of a snapshot", shown(copy, &left_out.path)));
    }
    out.empty_folders.extend(left.empty_folders.iter().map(|folder| shown(copy, folder)));
}

#[cfg(unix)]
mod platform {
    use std::fs::{File, Metadata};
    use std::io::{self, Read};
    use std::os::fd::{AsFd, OwnedFd};
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, readlinkat, statat, unlinkat};
    use rustix::io::Errno;

    use super::super::super::read_stable::is_executable;
    use super::{BTreeMap, Deleted, Entry, ObjectId, Path, TrackedPath};

    const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);
    const FILE: OFlags = OFlags::RDONLY.union(OFlags::NOFOLLOW).union(OFlags::NONBLOCK).union(OFlags::CLOEXEC);

    /// Opens the folder that a path is in, step by step and never through a link.
    fn open_parent(root: &Path, path: &TrackedPath) -> io::Result<OwnedFd> {
        let mut folder = openat(CWD, root, FOLDER, Mode::empty())?;
        let parts: Vec<&[u8]> = path.parts().collect();
        for part in parts.split_last().map(|(_, above)| above).unwrap_or_default() {
            folder = openat(folder.as_fd(), *part, FOLDER, Mode::empty())?;
        }
        Ok(folder)
    }

    /// Deletes the files and links that are what the run has; why others were not deleted, by path.
    pub fn delete(
        root: &Path,
        expected: &BTreeMap<TrackedPath, Entry>,
        out: &mut Deleted,
    ) -> BTreeMap<TrackedPath, String> {
        let mut reasons = BTreeMap::new();
        let mut parent: Option<(Vec<u8>, OwnedFd)> = None;
        for (path, entry) in expected {
            let bytes = path.as_bytes();
            let above = bytes.iter().rposition(|b| *b == b'/').and_then(|end| bytes.get(..end)).unwrap_or_default();
            if parent.as_ref().is_none_or(|(open, _)| open != above) {
                parent = match open_parent(root, path) {
                    Ok(folder) => Some((above.to_vec(), folder)),
                    Err(error) => {
                        if error.kind() != io::ErrorKind::NotFound {
                            reasons.insert(path.clone(), format!("its folder cannot be opened ({})", error.kind()));
                        }
                        None
                    }
                };
            }
            let Some((_, folder)) = &parent else { continue };
            match delete_one(folder, path.name(), entry) {
                Ok(Some((bytes, allocated))) => {
                    out.files += 1;
                    out.bytes += bytes;
                    out.allocated_bytes += allocated;
                }
                // It is gone already.
                Ok(None) => {}
                Err(reason) => drop(reasons.insert(path.clone(), reason)),
            }
        }
        reasons
    }

    fn delete_one(folder: &OwnedFd, name: &[u8], entry: &Entry) -> Result<Option<(u64, u64)>, String> {
        let refused = |error: io::Error| format!("it cannot be deleted ({})", error.kind());
        let changed = || "it has changed since it was stored".to_owned();
        let unlink = || unlinkat(folder.as_fd(), name, AtFlags::empty()).map_err(|e| refused(e.into()));
        let (id, bytes, executable) = match entry {
            Entry::Symlink { target } => {
                return match readlinkat(folder.as_fd(), name, Vec::new()) {
                    Err(Errno::NOENT) => Ok(None),
                    Ok(found) if found.as_bytes() == target.as_slice() => {
                        unlink()?;
                        Ok(Some((target.len() as u64, 0)))
                    }
                    _ => Err(changed()),
                };
            }
            Entry::File { id, bytes, executable } => (*id, *bytes, *executable),
        };
        let mut file: File = match openat(folder.as_fd(), name, FILE, Mode::empty()) {
            Ok(file) => file.into(),
            Err(Errno::NOENT) => return Ok(None),
            Err(Errno::LOOP) => return Err(changed()),
            Err(error) => return Err(format!("it cannot be read ({})", io::Error::from(error).kind())),
        };
        let before = file.metadata().map_err(refused)?;
        if !before.is_file() || before.len() != bytes || is_executable(&before) != executable {
            return Err(changed());
        }
        if hash(&mut file).map_err(refused)? != id {
            return Err(changed());
        }
        // The name must still lead to the file that was hashed, and nobody may have written to it meanwhile.
        let after = file.metadata().map_err(refused)?;
        let named = statat(folder.as_fd(), name, AtFlags::SYMLINK_NOFOLLOW).map_err(|e| refused(e.into()))?;
        if stamp(&before) != stamp(&after) || (named.st_dev, named.st_ino) != (after.dev(), after.ino()) {
            return Err(changed());
        }
        unlink()?;
        Ok(Some((bytes, if after.nlink() < 2 { after.blocks() * 512 } else { 0 })))
    }

    fn stamp(metadata: &Metadata) -> (u64, i64, i64, i64, i64) {
        (metadata.len(), metadata.mtime(), metadata.mtime_nsec(), metadata.ctime(), metadata.ctime_nsec())
    }

    fn hash(file: &mut File) -> io::Result<ObjectId> {
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; 64 << 10];
        loop {
            match file.read(&mut buffer) {
                Ok(0) => return Ok(ObjectId(*hasher.finalize().as_bytes())),
                Ok(read) => drop(hasher.update(buffer.get(..read).unwrap_or_default())),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Removes a folder if nothing is in it.
    pub fn remove_empty_folder(root: &Path, folder: &TrackedPath) {
        if let Ok(parent) = open_parent(root, folder) {
            // What is not empty, or no folder any more, stays.
            let _ = unlinkat(parent.as_fd(), folder.name(), AtFlags::REMOVEDIR);
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use super::{BTreeMap, Deleted, Entry, Path, TrackedPath};

    /// Deletes nothing: without handles of folders, what is checked could be another file than what is deleted.
    pub fn delete(
        _root: &Path,
        expected: &BTreeMap<TrackedPath, Entry>,
        _out: &mut Deleted,
    ) -> BTreeMap<TrackedPath, String> {
        let why = "originals are deleted on Unix systems alone";
        expected.keys().map(|path| (path.clone(), why.to_owned())).collect()
    }

    /// Removes nothing.
    pub fn remove_empty_folder(_root: &Path, _folder: &TrackedPath) {}
}
