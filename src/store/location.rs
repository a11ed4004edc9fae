//! Where is the store, and where does the project begin?

use std::path::{Path, PathBuf};

use super::config::CONFIG_PATH;
use crate::error::{Error, Result};
use crate::run_record::Project;

/// The folder that a store has beside its project's root marker.
pub const STORE_FOLDER: &str = ".runsnap";
const ROOT_MARKERS: [&str; 4] = [STORE_FOLDER, ".git", "pyproject.toml", "setup.py"];

/// The root of the project that `start` (an absolute folder) is in: the nearest folder upwards with a marker, else
/// `start` itself.
pub fn project_root(start: &Path) -> PathBuf {
    marked_root(start).unwrap_or_else(|| start.to_owned())
}

/// The nearest folder from `start` (an absolute folder) upwards with a root marker.
pub fn marked_root(start: &Path) -> Option<PathBuf> {
    let has_marker = |folder: &&Path| ROOT_MARKERS.iter().any(|marker| folder.join(marker).exists());
    start.ancestors().find(has_marker).map(Path::to_owned)
}

/// The nearest store from `start` (an absolute folder) upwards.
pub fn find_store(start: &Path) -> Result<PathBuf> {
    let candidate = start.ancestors().map(|folder| folder.join(STORE_FOLDER)).find(|folder| looks_like_store(folder));
    candidate.ok_or_else(|| Error::NoStore { start: start.to_owned() })
}

/// Whether a folder has what a store has, if perhaps damaged.
pub fn looks_like_store(folder: &Path) -> bool {
    let holds_files = |name: &str| folder.join(name).read_dir().is_ok_and(|mut entries| entries.next().is_some());
    folder.join(CONFIG_PATH).is_file() || holds_files("packs") || holds_files("runs")
}

/// Names a project with respect to a store: both paths absolute and resolved.
pub fn project_of(store: &Path, root: &Path) -> Project {
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let path = match store.parent().map(|beside| root.strip_prefix(beside)) {
        Some(Ok(relative)) if relative.as_os_str().is_empty() => ".".to_owned(),
        Some(Ok(relative)) => text(relative),
        _ => text(root),
    };
    Project { path, root: text(root) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_moves_with_its_store() {
        let path = |store, root| project_of(Path::new(store), Path::new(root)).path;
        assert_eq!(path("/a/p/.runsnap", "/a/p"), ".");
        assert_eq!(path("/a/store", "/a/p/q"), "p/q");
        assert_eq!(path("/b/store", "/a/p"), "/a/p");
    }
}
