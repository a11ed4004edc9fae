//! What is to be captured, and what follows from that: the project's root, and how its files are found.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::path::{Path, PathBuf};

use super::tree_state::Structure;
use super::tree_state::stamp::{Horizon, of_metadata};
use super::{git_commit, tree_state};
use crate::entry_point::EntryPoint;
use crate::entry_point::find::{self, Program, ProgramTarget, Start, Started};
use crate::error::{Error, Result};
use crate::run_record::{DataFile, LeftOut, Project, TrackedBy};
use crate::store::location::{project_of, resolved_beside};
use crate::store::{Files, Store};
use crate::tracked_files::imports::{self, Analysis, Certainty, Seen};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_files::{Selection, strategy_yaml};
use crate::tracked_path::TrackedPath;

/// So many names are told in one warning.
const MAX_NAMES: usize = 5;

/// What to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every file below a folder, ignored ones aside.
    Tree(PathBuf),
    /// What a program uses.
    Program(Box<ProgramTarget>),
}

impl Target {
    /// What a script uses, started in its own folder, by the Python that is found there.
    pub fn script(path: PathBuf) -> Self {
        Self::Program(Box::new(ProgramTarget::new(Program::Path(path))))
    }

    /// The root of the project that the target is in: the tree itself, or the nearest folder above the program with a
    /// root marker.
    pub fn root(&self) -> Result<PathBuf> {
        match self {
            Self::Tree(folder) => {
                let resolved = folder.canonicalize().map_err(|e| Error::io("read", folder, e))?;
                let is_folder = resolved.is_dir();
                if is_folder { Ok(resolved) } else { Err(Error::Usage(format!("Not a folder: {}", folder.display()))) }
            }
            Self::Program(program) => find::root_of(program),
        }
    }
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
    program: Option<(Box<ProgramTarget>, Box<Start>)>,
}

impl Tracked {
    /// Finds out where a target is; `root` is its root, where that is known.
    pub fn find(store: &Store, target: &Target, root: Option<&Path>, include_secrets: bool) -> Result<Self> {
        let (root, program, key) = match target {
            Target::Tree(_) => (root.map_or_else(|| target.root(), |root| Ok(root.to_owned()))?, None, None),
            Target::Program(program) => {
                let start = find::find(program)?;
                let module = match &start.started {
                    Started::Module(name, _) => Some(start.root.join(name)),
                    _ => None,
                };
                let key = module.or_else(|| start.file.clone()).unwrap_or_else(|| start.working_folder.clone());
                (start.root.clone(), Some((program.clone(), Box::new(start))), Some(key))
            }
        };
        let store_folder = store.storage().root();
        let store_folder = resolved_beside(store_folder, &root).unwrap_or_else(|_| store_folder.to_owned());
        let project = project_of(&store_folder, &root);
        let state_path = tree_state::path_in_store(&root, key.as_deref(), include_secrets);
        Ok(Self { root, store_folder, project, include_secrets, state_path, program })
    }

    /// Whether it is an entry point rather than a whole tree.
    pub fn is_entry(&self) -> bool {
        self.program.is_some()
    }

    /// The entry point.
    pub fn entry_point(&self) -> Option<EntryPoint> {
        self.program.as_ref().map(|(_, start)| entry_point_of(start))
    }

    /// Versions of what would run it, beside those that the caller knows.
    pub fn environment(&self, known: &BTreeMap<String, String>) -> BTreeMap<String, String> {
        let mut environment = known.clone();
        let interpreter = self.program.as_ref().map(|(_, start)| &start.interpreter);
        if let Some(interpreter) = interpreter.filter(|interpreter| interpreter.executable.is_some()) {
            let (major, minor, micro) = interpreter.version;
            environment.insert("python".to_owned(), format!("{major}.{minor}.{micro}"));
        }
        environment
    }

    /// The commit that its git work tree stands at; `structure` is what has just been seen.
    pub fn git_commit(&self, structure: Option<&Structure>) -> Option<String> {
        git_commit::of_folder(&self.root, |path| structure.is_some_and(|structure| structure.has_nothing_at(path)))
    }

    /// Chooses its files.
    pub fn select(&self) -> Selection {
        match &self.program {
            None => walk(&self.root, &self.root, Some(&self.store_folder), IgnoreRules::Honoured),
            Some((program, start)) => Choice::of(start, program, Some(&self.store_folder)).selection,
        }
    }

    /// The files of the newest snapshot of its project; none where that cannot be read, which makes whole files be stored.
    pub fn files_of_newest(&self, store: &Store) -> Files {
        let newest = store.newest_of(&self.project.path).ok().flatten();
        newest.and_then(|snapshot| store.files_of(snapshot).ok()).unwrap_or_default()
    }
}

/// What the records say of an entry point.
pub fn entry_point_of(start: &Start) -> EntryPoint {
    let path =
        start.file.as_ref().and_then(|file| file.strip_prefix(&start.root).ok()).and_then(TrackedPath::from_path);
    let module = match &start.started {
        Started::Module(name, _) => Some(name.clone()),
        _ => None,
    };
    let (kind, launcher, found_by, confidence) = (start.kind, start.launcher.clone(), start.found_by, start.confidence);
    EntryPoint { path, kind, module, launcher, found_by, confidence }
}

/// The files of a program, and what was found out about them.
#[derive(Debug, Clone)]
pub struct Choice {
    /// What is to be taken.
    pub selection: Selection,
    /// What the files' text tells.
    pub analysis: Analysis,
}

impl Choice {
    /// Chooses the files of a program: by the strategy.yaml beside it, else by what it imports.
    pub fn of(start: &Start, program: &ProgramTarget, store: Option<&Path>) -> Self {
        let options = imports::Options {
            data_bytes: program.data_bytes,
            caches: program.caches.as_deref(),
            stamp: {
                let horizon = Horizon::now(&start.root);
                Box::new(move |path| seen(path, horizon))
            },
        };
        let analysis = imports::analyse(start, options);
        let folder = start.file.as_deref().and_then(Path::parent).unwrap_or(&start.working_folder);
        let mut warnings = start.warnings.clone();
        let listed = strategy_yaml::select(&start.root, folder, start.file.as_deref(), store, &mut warnings);
        let has_bad_list = listed.is_none() && warnings.len() > start.warnings.len();
        let mut selection = listed.map_or_else(|| by_imports(start, &analysis), |listed| beside(listed, &analysis));
        warnings.append(&mut selection.warnings);
        selection.warnings = warnings;
        selection.has_problems |= has_bad_list;
        Self { selection, analysis }
    }
}

/// Looks at a source. Once is enough for all but links.
fn seen(path: &Path, horizon: Horizon) -> Seen {
    let own = path.symlink_metadata().ok();
    let is_plain = own.as_ref().is_some_and(Metadata::is_file);
    let followed = own.filter(|own| !own.is_symlink()).or_else(|| path.metadata().ok());
    let stamp = followed.and_then(|metadata| of_metadata(&metadata, horizon).trusted());
    Seen { stamp, is_plain }
}

/// The files that a program uses.
fn by_imports(start: &Start, analysis: &Analysis) -> Selection {
    let mut selection = Selection::new(TrackedBy::Imports);
    if start.started == Started::Nothing {
        selection.problem("No entry point was found: nothing is captured of its code".to_owned());
    }
    selection.files = analysis.files.iter().map(|(path, file)| (path.clone(), file.disk.clone())).collect();
    selection.outside = analysis.outside.clone();
    selection.data = data_of(analysis);
    for path in &analysis.unplaced {
        selection.problem(format!("Left out, its name cannot be stored: {}", path.display()));
    }
    for (path, (line, message)) in &analysis.problems {
        let place = if *line == 0 { path.to_string() } else { format!("{path}:{line}") };
        selection.warnings.push(format!("{place} is tracked, but not all that it imports may be: {message}"));
    }
    // What a library asks for on the chance that it is there is nobody's mistake.
    let is_sure = |import: &&imports::Unresolved| import.certainty == Certainty::Certain;
    let mut missing: Vec<&str> =
        analysis.unresolved.iter().filter(is_sure).map(|import| import.module.as_str()).collect();
    missing.sort_unstable();
    missing.dedup();
    if !missing.is_empty() {
        selection.warnings.push(format!(
            "Not found, neither here nor where {} would look: {} (`runsnap detect` tells which lines import them)",
            start.interpreter.executable.as_ref().map_or("Python".into(), |python| python.to_string_lossy()),
            some_of(&missing)
        ));
    }
    selection
}

/// The files that strategy.yaml lists: it decides. What the run uses beyond it is said, so that nobody finds out at a
/// restore.
fn beside(mut listed: Selection, analysis: &Analysis) -> Selection {
    if listed.tracked_by == TrackedBy::EntryPointOnly {
        return listed;
    }
    let is_left_out = |path: &TrackedPath| {
        !listed.files.contains_key(path) && !listed.left_out.iter().any(|LeftOut { path: known, .. }| known == path)
    };
    let names: Vec<String> = analysis.files.keys().filter(|path| is_left_out(path)).map(ToString::to_string).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    if !names.is_empty() {
        let name = strategy_yaml::FILE_NAME;
        listed.warnings.push(format!("The run uses files that {name} does not list: {}", some_of(&names)));
    }
    listed.data = data_of(analysis);
    listed
}

fn data_of(analysis: &Analysis) -> Vec<DataFile> {
    let file = |file: &imports::LargeFile| DataFile { path: file.path.clone(), bytes: file.bytes, id: file.id };
    analysis.large.iter().map(file).collect()
}

/// A few names, and how many there are beyond them.
fn some_of(names: &[&str]) -> String {
    let shown = names.iter().take(MAX_NAMES).copied().collect::<Vec<_>>().join(", ");
    match names.len().saturating_sub(MAX_NAMES) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn a_link_is_known_by_what_it_leads_to() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = |name: &str| folder.path().join(name);
        let write = |text: &str, hours: u64| {
            fs::write(path("file.py"), text).expect("written");
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(hours * 3_600);
            let file = fs::File::options().write(true).open(path("file.py")).expect("there");
            file.set_modified(time).expect("a time is set");
        };
        write("import a", 1);
        symlink("file.py", path("link.py")).expect("linked");
        symlink("nowhere", path("broken.py")).expect("linked");
        std::thread::sleep(Duration::from_millis(50));
        let look = |name: &str| seen(&path(name), Horizon::now(folder.path()));
        let (file, link) = (look("file.py"), look("link.py"));
        assert!(file.is_plain && file.stamp.is_some());
        assert_eq!(link, Seen { is_plain: false, ..file });
        for name in ["broken.py", "gone.py"] {
            assert_eq!(look(name), Seen::default(), "{name}");
        }
        assert!(!look("").is_plain, "a folder");
        write("import b", 1);
        std::thread::sleep(Duration::from_millis(50));
        let changed = look("link.py");
        assert!(changed.stamp.is_some() && changed.stamp != link.stamp, "of the same length and time");
        assert_eq!(changed.stamp, look("file.py").stamp);
    }
}
