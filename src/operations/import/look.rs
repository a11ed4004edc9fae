//! Looks at all copies before anything is written: what there is, when it was, and what must not be imported.

use std::path::{Path, PathBuf};

use super::ImportOptions;
use super::copies::{self, RunCopy, Source};
use super::metadata::{self, Metadata};
use super::tree::{SeenBlocks, Tree, walk};
use crate::error::{Error, Result};
use crate::progress::Progress;
use crate::run_record::{Layout, check_label};
use crate::storage::LocalStorage;
use crate::store::location::{marked_root, project_root};

/// The copies that were found, with nothing refused among them.
#[derive(Debug)]
pub struct Found {
    pub(super) sources: Vec<Source>,
    /// The copies of each, in the order of their times.
    pub(super) seen: Vec<Vec<Seen>>,
}

/// Finds the copies to import, looks at everything in them, and refuses what must not be imported. Nothing is written;
/// `store` is where the store is or will be.
pub fn find(options: &ImportOptions, store: &Path, progress: &dyn Progress) -> Result<Found> {
    if let Some(sweep) = &options.sweep {
        check_label("sweep", sweep)?;
    }
    options.tags.iter().try_for_each(|tag| check_label("tag", tag))?;
    let sources = copies::find(&options.folders, options.layout, store, &options.current_folder)?;
    progress.begin("Looking", sources.iter().map(|source| source.copies.len() as u64).sum());
    let seen = sources.iter().map(|source| look(source, progress)).collect::<Result<_>>()?;
    progress.end();
    Ok(Found { sources, seen })
}

/// The root of the project that copies belong to: that of the nearest root marker above their folder, else that of the
/// current folder.
pub fn project_root_of(folder: &Path, current: &Path) -> PathBuf {
    folder.parent().and_then(marked_root).unwrap_or_else(|| project_root(current))
}

/// A copy that has been looked at. Its paths are not kept: there may be many copies, and all are looked at first.
#[derive(Debug)]
pub struct Seen {
    /// The copy.
    pub copy: RunCopy,
    /// How many files and links it has.
    pub files: u64,
    /// What rustybt has noted of its run.
    pub metadata: Metadata,
    /// When its run was.
    pub time: jiff::Timestamp,
}

/// Looks at all copies of a folder, and puts them in the order of their times.
fn look(source: &Source, progress: &dyn Progress) -> Result<Vec<Seen>> {
    let mut seen = Vec::new();
    for copy in &source.copies {
        let tree = walk(&copy.tree, &mut SeenBlocks::new());
        if let Some(path) = &tree.forbidden {
            return Err(Error::Usage(format!("Not imported: {} is more than a copy of code", path.display())));
        }
        let metadata = match copy.layout {
            Layout::Rustybt => metadata::read(&LocalStorage::new(&copy.folder)),
            Layout::Copies => Metadata::default(),
        };
        let time = metadata.time.unwrap_or_else(|| newest_time(&tree, &copy.tree));
        progress.advance(1);
        seen.push(Seen { copy: copy.clone(), files: tree.files.len() as u64, metadata, time });
    }
    // Copies of one time stay in the order of their names.
    seen.sort_by_key(|one| one.time);
    Ok(seen)
}

/// The newest modification time of a copy's files, or that of its folder where it has none: not before 1970, and not in the future.
fn newest_time(tree: &Tree, folder: &Path) -> jiff::Timestamp {
    let newest = tree.newest.or_else(|| folder.symlink_metadata().and_then(|m| m.modified()).ok());
    let time = newest.and_then(|time| jiff::Timestamp::try_from(time).ok()).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    time.clamp(jiff::Timestamp::UNIX_EPOCH, jiff::Timestamp::now())
}
