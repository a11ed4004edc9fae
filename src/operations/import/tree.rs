//! What is in a copy of code: everything, whatever ignore rules say.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fs::Metadata;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rayon::prelude::*;
use walkdir::WalkDir;

use super::super::take_files::entry_of;
use super::copies::FORBIDDEN;
use crate::run_record::{LeftOut, LeftOutReason};
use crate::snapshot::{Entry, MAX_DEPTH};
use crate::tracked_path::TrackedPath;

/// The disk blocks that were counted already, by device and number: a file with two names takes its room once.
pub type SeenBlocks = HashSet<(u64, u64)>;

/// What is below a folder. Nothing of it has been read yet.
#[derive(Debug, Default)]
pub struct Tree {
    /// Files and links.
    pub files: BTreeMap<TrackedPath, PathBuf>,
    /// What cannot be part of a snapshot.
    pub left_out: Vec<LeftOut>,
    /// Folders without anything in them.
    pub empty_folders: BTreeSet<TrackedPath>,
    /// The newest modification time of a file. Links do not count: few tools that copy them keep their times.
    pub newest: Option<SystemTime>,
    /// The lengths of files and links.
    pub bytes: u64,
    /// The room that they and the folders take on the disk.
    pub allocated_bytes: u64,
    /// Something that makes this more than a copy of code: a work tree's history or a store.
    pub forbidden: Option<PathBuf>,
}

/// Looks at everything below `root`, which is a folder.
pub fn walk(root: &Path, seen: &mut SeenBlocks) -> Tree {
    let mut tree = Tree::default();
    if let Ok(metadata) = root.symlink_metadata() {
        tree.allocated_bytes += allocated(&metadata, seen);
    }
    let tracked = |path: &Path| path.strip_prefix(root).ok().and_then(TrackedPath::from_path);
    let mut folders = BTreeSet::new();
    let mut with_content = BTreeSet::new();
    for entry in WalkDir::new(root).min_depth(1).follow_links(false) {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                // The root itself is named by a file that nothing can have.
                let path = error.path().and_then(tracked).or_else(|| TrackedPath::from_bytes("(all)"));
                if let Some(path) = path {
                    let detail = error.io_error().map(|e| e.kind().to_string());
                    tree.left_out.push(LeftOut { path, reason: LeftOutReason::Unreadable, detail });
                }
                continue;
            }
        };
        if FORBIDDEN.iter().any(|name| entry.file_name() == *name) {
            tree.forbidden.get_or_insert_with(|| entry.path().to_owned());
        }
        let Some(path) = tracked(entry.path()) else { continue };
        if let Some(above) = entry.path().parent().and_then(tracked) {
            with_content.insert(above);
        }
        let leave_out = |reason, detail: Option<String>| LeftOut { path: path.clone(), reason, detail };
        let metadata = match entry.metadata() {
            Ok(metadata) => metadata,
            Err(error) => {
                let detail = error.io_error().map(|e| e.kind().to_string());
                tree.left_out.push(leave_out(LeftOutReason::Unreadable, detail));
                continue;
            }
        };
        tree.allocated_bytes += allocated(&metadata, seen);
        if metadata.is_dir() {
            folders.insert(path);
        } else if !metadata.is_file() && !metadata.is_symlink() {
            tree.left_out.push(leave_out(LeftOutReason::SpecialFile, None));
        } else if path.parts().count() > MAX_DEPTH {
            let detail = format!("over {MAX_DEPTH} folders deep");
            tree.left_out.push(leave_out(LeftOutReason::Name, Some(detail)));
        } else {
            tree.bytes += metadata.len();
            if metadata.is_file() {
                tree.newest = tree.newest.max(metadata.modified().ok());
            }
            tree.files.insert(path, entry.path().to_owned());
        }
    }
    tree.empty_folders = folders.difference(&with_content).cloned().collect();
    tree
}

/// The room that a file or folder takes on the disk, 0 where it was counted under another name.
#[cfg(unix)]
pub fn allocated(metadata: &Metadata, seen: &mut SeenBlocks) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let is_new = metadata.is_dir() || metadata.nlink() < 2 || seen.insert((metadata.dev(), metadata.ino()));
    if is_new { metadata.blocks() * 512 } else { 0 }
}

/// The room that a file or folder takes on the disk, as far as its length tells.
#[cfg(not(unix))]
pub fn allocated(metadata: &Metadata, _seen: &mut SeenBlocks) -> u64 {
    metadata.len()
}

impl Tree {
    /// Reads and hashes everything; what cannot be read, or would not hold still, is added to `left_out`.
    pub fn hash(&mut self) -> BTreeMap<TrackedPath, Entry> {
        let read: Vec<_> = self.files.par_iter().map(|(tracked, path)| (tracked.clone(), entry_of(path))).collect();
        let mut entries = BTreeMap::new();
        for (path, read) in read {
            match read {
                Ok(Some(entry)) => drop(entries.insert(path, entry)),
                Ok(None) => {
                    let detail = Some("it changes while it is read".to_owned());
                    self.left_out.push(LeftOut { path, reason: LeftOutReason::Unreadable, detail });
                }
                Err(error) => {
                    let detail = Some(error.kind().to_string());
                    self.left_out.push(LeftOut { path, reason: LeftOutReason::Unreadable, detail });
                }
            }
        }
        entries
    }

    /// Files that belong to the copy and could not be read: it is not whole without them.
    pub fn unreadable(&self) -> Vec<String> {
        unreadable(&self.left_out)
    }
}

/// The files among those left out that could have been read at another time.
pub fn unreadable(left_out: &[LeftOut]) -> Vec<String> {
    let is_lasting = |reason| matches!(reason, LeftOutReason::SpecialFile | LeftOutReason::Name);
    left_out
        .iter()
        .filter(|left_out| !is_lasting(left_out.reason))
        .map(|LeftOut { path, detail, .. }| match detail {
            Some(detail) => format!("{path} ({detail})"),
            None => path.to_string(),
        })
        .collect()
}
