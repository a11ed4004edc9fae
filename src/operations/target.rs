//! What is to be captured, and what follows from that: the project's root, and how its files are found.

use std::path::{Path, PathBuf};

use super::{git_commit, tree_state};
use crate::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use crate::error::{Error, Result};
use crate::run_record::{Project, TrackedBy};
use crate::store::location::{project_of, project_root};
use crate::store::{Files, Store};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_files::{Selection, strategy_yaml};
use crate::tracked_path::TrackedPath;

/// What to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every file below a folder, ignored ones aside.
    Tree(PathBuf),
    /// What a script uses.
    Entry(PathBuf),
}

impl Target {
    /// The root of the project that the target is in: the tree itself, or the nearest folder above the script with a
    /// root marker.
    pub fn root(&self) -> Result<PathBuf> {
        match self {
            Self::Tree(folder) => resolve(folder, Path::is_dir, "a folder"),
            Self::Entry(file) => {
                let file = resolve(file, Path::is_file, "a file")?;
                Ok(project_root(file.parent().unwrap_or(&file)))
            }
        }
    }
}

impl Target {
    /// The resolved path of the script, and what is to be said of it; `None` for a tree.
    fn entry(&self, root: &Path) -> Result<Option<(PathBuf, EntryPoint)>> {
        let Self::Entry(entry) = self else { return Ok(None) };
        let entry = resolve(entry, Path::is_file, "a file")?;
        let tracked = entry.strip_prefix(root).ok().and_then(TrackedPath::from_path);
        let path = tracked.ok_or_else(|| Error::Usage(format!("Its name cannot be stored: {}", entry.display())))?;
        let (kind, found_by) = (EntryPointKind::Script, FoundBy::CommandLine);
        Ok(Some((entry, EntryPoint { path, kind, found_by, confidence: 1.0 })))
    }
}

fn resolve(path: &Path, is_right: fn(&Path) -> bool, what: &str) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|e| Error::io("read", path, e))?;
    if is_right(&resolved) { Ok(resolved) } else { Err(Error::Usage(format!("Not {what}: {}", path.display()))) }
}

/// What is captured for a target: where it is, what it belongs to, and how its files are found.
#[derive(Debug, Clone)]
pub struct Tracked {
    /// The project's root.
    pub root: PathBuf,
    /// The store's folder.
    pub store_folder: PathBuf,
    /// The project.
    pub project: Project,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Where in the store it is kept what captures of this have seen.
    pub state_path: String,
    entry: Option<(PathBuf, EntryPoint)>,
}

impl Tracked {
    /// Finds out where a target is.
    pub fn find(store: &Store, target: &Target, include_secrets: bool) -> Result<Self> {
        let root = target.root()?;
        let store_folder = store.storage().root().canonicalize().unwrap_or_else(|_| store.storage().root().to_owned());
        let project = project_of(&store_folder, &root);
        let entry = target.entry(&root)?;
        let entry_path = entry.as_ref().map(|(path, _)| path.as_path());
        let state_path = tree_state::path_in_store(&root, entry_path, include_secrets);
        Ok(Self { root, store_folder, project, include_secrets, state_path, entry })
    }

    /// Whether it is an entry point rather than a whole tree.
    pub fn is_entry(&self) -> bool {
        self.entry.is_some()
    }

    /// The entry point.
    pub fn entry_point(&self) -> Option<EntryPoint> {
        self.entry.as_ref().map(|(_, entry_point)| entry_point.clone())
    }

    /// The commit that its git work tree stands at.
    pub fn git_commit(&self) -> Option<String> {
        git_commit::of_folder(&self.root)
    }

    /// Chooses its files.
    pub fn select(&self) -> Selection {
        select(&self.root, &self.store_folder, self.entry.as_ref())
    }

    /// The files of the newest snapshot of its project; none where that cannot be read, which makes whole files be stored.
    pub fn files_of_newest(&self, store: &Store) -> Files {
        let newest = store.newest_of(&self.project.path).ok().flatten();
        newest.and_then(|snapshot| store.files_of(snapshot).ok()).unwrap_or_default()
    }
}

/// Chooses the files of a tree, or of an entry point.
fn select(root: &Path, store: &Path, entry: Option<&(PathBuf, EntryPoint)>) -> Selection {
    let Some((entry, entry_point)) = entry else { return walk(root, root, Some(store), IgnoreRules::Honoured) };
    let path = &entry_point.path;
    let mut warnings = Vec::new();
    strategy_yaml::select(root, entry, Some(store), &mut warnings).unwrap_or_else(|| {
        let mut alone = Selection::new(TrackedBy::EntryPointOnly);
        alone.has_problems = !warnings.is_empty();
        alone.warnings = std::mem::take(&mut warnings);
        alone.warnings.push(format!(
            "Only {path} itself is tracked: list the other files of this run in a {} beside it",
            strategy_yaml::FILE_NAME
        ));
        alone.files.insert(path.clone(), entry.clone());
        alone
    })
}
