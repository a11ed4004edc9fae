//! What every command starts from: the store, the current project, and the user's environment.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use runsnap::store::location::{STORE_FOLDER, find_store, looks_like_store, project_of, project_root};
use runsnap::store::{JournalProblem, Run, Runs, Store};
use runsnap::{Error, Result};

use super::output;

/// Names the store where no option does.
const STORE_VARIABLE: &str = "RUNSNAP_STORE";

/// The options that every command has, and what is found out from them.
pub struct Context {
    store: Option<PathBuf>,
    /// Whether to print JSON.
    pub json: bool,
    problems: Cell<bool>,
    late: RefCell<Option<Arc<Mutex<Vec<JournalProblem>>>>>,
}

impl Context {
    pub fn new(store: Option<PathBuf>, json: bool) -> Self {
        let from_environment = || std::env::var_os(STORE_VARIABLE).filter(|value| !value.is_empty()).map(PathBuf::from);
        Self { store: store.or_else(from_environment), json, problems: Cell::new(false), late: RefCell::default() }
    }

    /// The store that an option or the environment names.
    pub fn named_store(&self) -> Option<&Path> {
        self.store.as_deref()
    }

    fn warn_of(&self, problems: &[JournalProblem]) {
        for problem in problems.iter().filter(|problem| !problem.unfinished) {
            let file = problem.path.display();
            output::warn(&format!("{file}: bytes {} to {}: {}", problem.offset, problem.end, problem.reason));
            self.problems.set(true);
        }
    }

    /// Whether something was found that changes the exit status. What came to light while runs were read is told now.
    pub fn has_problems(&self) -> bool {
        if let Some(late) = self.late.borrow_mut().take() {
            let late = late.lock().map(|mut late| std::mem::take(&mut *late)).unwrap_or_default();
            self.warn_of(&late);
        }
        self.problems.get()
    }

    /// Opens the store without a word on its damage.
    pub fn open_quietly(&self) -> Result<Store> {
        let folder = match &self.store {
            Some(folder) => folder.clone(),
            None => find_store(&current_folder()?)?,
        };
        Store::open(&folder)
    }

    /// Opens the store to read it.
    pub fn open(&self) -> Result<Store> {
        let store = self.open_quietly()?;
        if let Some(problem) = store.config_problem() {
            output::warn(&problem.to_string());
            self.problems.set(true);
        }
        Ok(store)
    }

    /// Opens the store for a capture of a project, making it where there is none.
    pub fn open_or_init(&self, root: &Path) -> Result<Store> {
        let folder = match &self.store {
            // A mistyped --store must not quietly become a store of its own.
            Some(folder) => return Store::open(folder),
            None => find_store(root).unwrap_or_else(|_| root.join(STORE_FOLDER)),
        };
        if looks_like_store(&folder) {
            return Store::open(&folder);
        }
        Store::init(&folder).map(|(store, _)| store)
    }

    /// The folder of the store that a capture of a project would go to, if it is there.
    pub fn store_folder(&self, root: &Path) -> Option<PathBuf> {
        self.store.clone().or_else(|| find_store(root).ok())
    }

    /// Reads the runs and warns of records that cannot be read.
    pub fn runs(&self, store: &Store) -> Result<Runs> {
        let runs = store.runs()?;
        self.warn_of(&runs.problems);
        *self.late.borrow_mut() = Some(runs.late());
        Ok(runs)
    }

    /// The path of the project that the current folder is in, if the store has runs of it.
    pub fn project(&self, store: &Store, runs: &Runs) -> Option<String> {
        let root = project_root(&current_folder().ok()?.canonicalize().ok()?);
        let folder = store.storage().root().canonicalize().ok()?;
        let path = project_of(&folder, &root).path;
        runsnap::operations::list::has_project(runs, &path).then_some(path)
    }

    /// The run that the user names.
    pub fn find(&self, store: &Store, runs: &Runs, text: &str) -> Result<Run> {
        let project = text.starts_with("latest").then(|| self.project(store, runs)).flatten();
        runsnap::operations::find_run::find_run(runs, text, project.as_deref())
    }
}

pub fn current_folder() -> Result<PathBuf> {
    std::env::current_dir().map_err(|e| Error::io("find", "the current folder", e))
}

/// The host's name.
pub fn host() -> Option<String> {
    #[cfg(unix)]
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    #[cfg(not(unix))]
    let name = std::env::var("COMPUTERNAME").unwrap_or_default();
    Some(name).filter(|name| !name.is_empty())
}

/// Versions of what runs: runsnap, and Python's where a virtual environment says so.
pub fn environment(root: &Path) -> BTreeMap<String, String> {
    let mut out = BTreeMap::from([("runsnap".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]);
    let active = std::env::var_os("VIRTUAL_ENV").map(PathBuf::from);
    let python = active.into_iter().chain([root.join(".venv")]).find_map(|venv| {
        let text = std::fs::read_to_string(venv.join("pyvenv.cfg")).ok()?;
        let value = text.lines().filter_map(|line| line.split_once('='));
        let version = value.filter(|(key, _)| matches!(key.trim(), "version" | "version_info")).map(|(_, v)| v.trim());
        version.map(str::to_owned).next()
    });
    if let Some(version) = python {
        out.insert("python".to_owned(), version);
    }
    out
}

/// Where the user's programs keep what they could find out again.
pub fn cache_folder() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let caches = folder("XDG_CACHE_HOME").or_else(|| folder("HOME").map(|home| home.join(".cache")));
    #[cfg(windows)]
    let caches = caches.or_else(|| folder("LOCALAPPDATA"));
    caches.map(|caches| caches.join("runsnap"))
}
