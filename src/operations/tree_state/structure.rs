//! Which files of a tree are tracked: what that depends on, and how it was seen.

use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::look::hash_of_names;
use super::stamp::{Below, Horizon, Kind, of_metadata, stamp_of};
use crate::run_record::{LeftOut, LeftOutReason};
use crate::tracked_files::Selection;
use crate::tracked_files::walk::IGNORE_FILES;
use crate::tracked_path::TrackedPath;

/// From this many folders on they are listed by all cores.
const PARALLEL_FOLDERS: usize = 128;

/// Stands for the stamp of a condition that is a folder.
const FOLDER: u64 = 0;

/// A folder as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FolderState {
    /// Its path; the root has none.
    pub path: Option<TrackedPath>,
    /// Its stamp, if that was settled when the folder was listed.
    pub stamp: Option<u64>,
    /// What its names and their types hash to.
    pub names: u64,
}

/// Something beside the tracked files that decides which files are tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Condition {
    /// Its absolute path.
    pub path: PathBuf,
    /// Its stamp, `None` where there is nothing.
    pub stamp: Option<u64>,
}

impl Condition {
    /// Whether it is as it was.
    pub(super) fn holds(&self) -> bool {
        let stamp = match self.path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => Some(FOLDER),
            Ok(metadata) => Some(stamp_of(&metadata)),
            Err(_) => None,
        };
        stamp == self.stamp
    }
}

/// Which files are tracked, as long as folders and conditions stay the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Structure {
    /// The folders that were walked, sorted.
    pub folders: Vec<FolderState>,
    /// What else must be as it was.
    pub conditions: Vec<Condition>,
    /// What the walk has left out: neither files nor folders nor links.
    pub left_out: Vec<LeftOut>,
    /// What the walk had to say.
    pub warnings: Vec<String>,
}

impl Structure {
    /// Whether there is something to be said of it.
    pub fn has_remarks(&self) -> bool {
        !self.left_out.is_empty() || !self.warnings.is_empty()
    }

    /// Whether it depends on there being nothing at a path.
    pub fn has_nothing_at(&self, path: &Path) -> bool {
        // Not by components: there may be a thousand, of earlier runs in the tree.
        let is_it = |condition: &Condition| condition.stamp.is_none() && condition.path.as_os_str() == path.as_os_str();
        self.conditions.iter().any(is_it)
    }

    /// What a walk has found, if a later look can tell whether another walk would find the same.
    ///
    /// `horizon` is of a moment before the walk.
    pub fn after_walk(root: &Path, selection: &Selection, horizon: Horizon) -> Option<Self> {
        let is_plain = |left_out: &LeftOut| left_out.reason == LeftOutReason::SpecialFile;
        if selection.has_problems || !selection.left_out.iter().all(is_plain) {
            return None;
        }
        let mut structure =
            Self { left_out: selection.left_out.clone(), warnings: selection.warnings.clone(), ..Self::default() };
        let mut conditions: Vec<PathBuf> = selection.conditions.clone();
        for ancestor in root.ancestors().skip(1) {
            conditions.extend(IGNORE_FILES.iter().chain(&[".git"]).map(|name| ancestor.join(name)));
        }
        conditions.push(root.join(".git"));
        let list = |folder: &PathBuf| -> Option<(FolderState, Vec<PathBuf>)> {
            let mut rules = Vec::new();
            let path = folder.strip_prefix(root).ok()?;
            let path = if path.as_os_str().is_empty() { None } else { Some(TrackedPath::from_path(path)?) };
            let below = Below::open(folder).ok()?;
            // Before the folder is listed, and settled before the walk: then both have seen the same names.
            let look = below.look(b"", horizon).filter(|look| look.kind == Kind::Folder && look.is_settled)?;
            let names = hash_of_names(folder, |name| {
                let is_rule = IGNORE_FILES.iter().any(|rule| rule.as_bytes() == name);
                let file = if is_rule { TrackedPath::in_folder(path.as_ref(), name) } else { None };
                if file.is_some_and(|file| !selection.files.contains_key(&file)) {
                    rules.extend(std::str::from_utf8(name).ok().map(|name| folder.join(name)));
                }
            })?;
            Some((FolderState { path, stamp: look.trusted(), names }, rules))
        };
        let listed: Option<Vec<_>> = if selection.folders.len() < PARALLEL_FOLDERS {
            selection.folders.iter().map(list).collect()
        } else {
            selection.folders.par_iter().map(list).collect()
        };
        for (folder, rules) in listed? {
            structure.folders.push(folder);
            conditions.extend(rules);
        }
        structure.folders.sort_by(|a, b| a.path.cmp(&b.path));
        for path in conditions {
            let stamp = match path.symlink_metadata() {
                Ok(metadata) => {
                    let look = of_metadata(&metadata, horizon);
                    // Of a folder it only matters that it is there.
                    match look.kind {
                        Kind::Folder => Some(FOLDER),
                        _ => Some(look.trusted()?),
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
                Err(_) => return None,
            };
            structure.conditions.push(Condition { path, stamp });
        }
        Some(structure)
    }
}
