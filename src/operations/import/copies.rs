//! Which copies of code there are to import, and what is refused before anything is touched.

use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::run_record::Layout;
use crate::tracked_path::TrackedPath;

/// Folders of these names make a folder more than a copy of code: its history or a store is in it.
pub const FORBIDDEN: [&str; 2] = [".git", ".runsnap"];
/// The folder that rustybt puts a run's copy into.
const CODE: &str = "code";
const METADATA: &str = "metadata";

/// The folders that one command imports, in the order in which they were named.
#[derive(Debug)]
pub struct Source {
    /// The folder, absolute and resolved.
    pub folder: PathBuf,
    /// The copies in it, by name.
    pub copies: Vec<RunCopy>,
}

/// One run's copy of code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunCopy {
    /// The run's folder.
    pub folder: PathBuf,
    /// Its name.
    pub name: TrackedPath,
    /// What is to be imported: the run's folder itself, or the folder `code` in it.
    pub tree: PathBuf,
    /// How it lies there.
    pub layout: Layout,
}

impl RunCopy {
    /// Whether the run's folder is the copy, so that what runsnap writes into it stands among the copied files.
    pub fn is_whole_folder(&self) -> bool {
        self.layout == Layout::Copies
    }
}

fn refuse(path: &Path, why: &str) -> Error {
    Error::Usage(format!("Not imported: {} {why}", path.display()))
}

/// Finds the copies in the named folders. `store` is where the store is or will be, `current` the current folder; both
/// absolute and resolved.
///
/// # Errors
///
/// What must not be imported, because deleting it afterwards could cost more than a copy: links, work trees, stores, the
/// current folder and what these are in.
pub fn find(folders: &[PathBuf], layout: Layout, store: &Path, current: &Path) -> Result<Vec<Source>> {
    let mut sources: Vec<Source> = Vec::new();
    for named in folders {
        let folder = resolve(named)?;
        if current.starts_with(&folder) {
            return Err(refuse(named, "is the current folder or one above it"));
        }
        if store.starts_with(&folder) || folder.starts_with(store) {
            return Err(refuse(named, &format!("is the store {}, or in it, or a folder above it", store.display())));
        }
        match sources.iter().find(|s| s.folder.starts_with(&folder) || folder.starts_with(&s.folder)) {
            Some(same) if same.folder == folder => continue,
            Some(other) => return Err(refuse(named, &format!("overlaps with {}", other.folder.display()))),
            None => {}
        }
        let copies = copies_in(&folder, layout)?;
        sources.push(Source { folder, copies });
    }
    Ok(sources)
}

/// The folder that was named, which must not be a link. Folders above it may be reached through one.
fn resolve(named: &Path) -> Result<PathBuf> {
    // A slash at the end would lead through a link.
    let plain: PathBuf = named.components().collect();
    let metadata = plain.symlink_metadata().map_err(|e| Error::io("read", named, e))?;
    if metadata.is_symlink() {
        return Err(refuse(named, "is a symbolic link"));
    }
    if !metadata.is_dir() {
        return Err(Error::Usage(format!("Not a folder: {}", named.display())));
    }
    plain.canonicalize().map_err(|e| Error::io("read", named, e))
}

fn copies_in(folder: &Path, layout: Layout) -> Result<Vec<RunCopy>> {
    let error = |e| Error::io("list", folder, e);
    let mut copies = Vec::new();
    for entry in folder.read_dir().map_err(error)? {
        let entry = entry.map_err(error)?;
        let (path, file_name) = (entry.path(), entry.file_name());
        if FORBIDDEN.iter().any(|name| file_name == *name) {
            return Err(refuse(folder, &format!("has {} in it", file_name.display())));
        }
        let kind = entry.file_type().map_err(|e| Error::io("read", &path, e))?;
        let tree = if layout == Layout::Rustybt { path.join(CODE) } else { path.clone() };
        if kind.is_symlink() && tree.is_dir() {
            return Err(refuse(&path, "is a symbolic link"));
        }
        // Files beside the runs' folders are none of ours.
        if !kind.is_dir() {
            continue;
        }
        if layout == Layout::Rustybt {
            if let Some(name) = FORBIDDEN.iter().find(|name| path.join(name).symlink_metadata().is_ok()) {
                return Err(refuse(&path, &format!("has {name} in it")));
            }
            match tree.symlink_metadata() {
                Ok(metadata) if metadata.is_symlink() => return Err(refuse(&tree, "is a symbolic link")),
                Ok(metadata) if metadata.is_dir() => {}
                _ => continue,
            }
            if path.join(METADATA).is_symlink() {
                return Err(refuse(&path.join(METADATA), "is a symbolic link"));
            }
        }
        let name = TrackedPath::from_path(Path::new(&file_name));
        let name = name.ok_or_else(|| refuse(&path, "has a name that cannot be stored"))?;
        copies.push(RunCopy { folder: path, name, tree, layout });
    }
    copies.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(copies)
}
