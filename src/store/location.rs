//! Where is the store, and where does the project begin?

use std::path::{Component, Path, PathBuf};

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

/// The resolved path of a folder, given another path that is resolved: where they go the same way, nobody has to look.
pub fn resolved_beside(folder: &Path, resolved: &Path) -> std::io::Result<PathBuf> {
    // Behind a link `..` leads elsewhere. Windows has a form of its own for what is resolved, and elsewhere `A` may be `a`.
    if cfg!(not(target_os = "linux"))
        || !folder.is_absolute()
        || folder.components().any(|part| part == Component::ParentDir)
    {
        return folder.canonicalize();
    }
    let mut path = PathBuf::new();
    let mut beside = Some(resolved.components());
    for part in folder.components() {
        path.push(part);
        if beside.as_mut().and_then(Iterator::next) == Some(part) {
            continue;
        }
        beside = None;
        if path.symlink_metadata()?.is_symlink() {
            return folder.canonicalize();
        }
    }
    Ok(path)
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

    #[cfg(unix)]
    #[test]
    fn a_path_beside_another_is_resolved_as_any_other() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().canonicalize().expect("there");
        std::fs::create_dir_all(root.join("a/b/c")).expect("made");
        std::fs::create_dir_all(root.join("d/b")).expect("made");
        symlink("a/b", root.join("link")).expect("linked");
        symlink("c", root.join("a/b/last")).expect("linked");
        for name in ["a/b/c", "d/b", "a", "link/c", "a/b/last", "link/../b", "./a//b/.", "link", ""] {
            let path = root.join(name);
            let expected = path.canonicalize().expect("there");
            for resolved in ["a/b", "a/b/c/e", "d/b/link", ""] {
                assert_eq!(
                    resolved_beside(&path, &root.join(resolved)).ok().as_ref(),
                    Some(&expected),
                    "{name} {resolved}"
                );
            }
        }
        assert!(resolved_beside(&root.join("a/none"), &root).is_err());
        assert!(resolved_beside(Path::new("none of these"), &root).is_err());
    }
}
