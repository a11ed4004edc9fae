//! The Python that would run a program, and what its import system would find where.
//!
//! What only the interpreter itself knows it is asked once (`ask.rs`), isolated and without `site`; everything that
//! depends on the environment is worked out here from files, as Python's `site` does it (`site.rs`).

mod answer;
mod ask;
mod cache;
mod choose;
mod defaults;
mod editable;
mod environment;
mod literals;
pub(crate) mod pth;
mod pyenv;
mod site;
#[cfg(all(test, unix))]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use answer::{Answer, Reach};
use cache::{Cache, Stamp, file_name};
use environment::Environment;
use foldhash::HashSet;

use crate::error::{Error, Result};
use crate::python::flags::Flags;
use crate::python::variables::Variables;

/// Older ones cannot be asked.
const OLDEST: (u8, u8, u8) = (3, 6, 0);
/// Older ones are not what this is tested with.
const OLDEST_TESTED: (u8, u8, u8) = (3, 9, 0);

/// A Python and what it would find where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interpreter {
    /// Where it is; `None`: no Python was found, a table of defaults stands in.
    pub executable: Option<PathBuf>,
    /// Its version.
    pub version: (u8, u8, u8),
    /// `sys.platform`.
    pub platform: String,
    /// `os.name`.
    pub os_name: String,
    /// The folder of the environment, where it belongs to one; else of the installation.
    pub prefix: PathBuf,
    /// The folder that the environment's programs are in: `bin`.
    pub programs: PathBuf,
    /// Trees of the standard library, as found and resolved.
    pub standard_library: Vec<PathBuf>,
    /// Trees of installed packages, as found and resolved, whether they are searched or not.
    pub site_packages: Vec<PathBuf>,
    /// `sys.path` behind the script's folder and PYTHONPATH.
    pub search_path: Vec<PathBuf>,
    /// Names that editable installs map, with a file or the folder of a package.
    pub editable_modules: BTreeMap<String, PathBuf>,
    /// Namespace packages of editable installs, with the folders that they have beside the mapped modules in them; often
    /// none.
    pub editable_namespaces: BTreeMap<String, Vec<PathBuf>>,
    /// Those of the mapped names that win over the search path; the others are asked for after it.
    pub editable_first: BTreeSet<String>,
    /// Names of modules that are in the executable, compiled in or frozen. They win over files.
    pub built_in: HashSet<String>,
    /// Names of top-level modules that are loaded before the script's folder counts: a local file of that name never is.
    pub loaded_at_start: HashSet<String>,
    /// Names of the standard library's top-level modules, of all platforms.
    pub standard_names: HashSet<String>,
    /// The endings of compiled modules, the first winning.
    pub extension_suffixes: Vec<String>,
    /// Files and folders whose change can change this answer, whether they are there or not.
    pub conditions: Vec<PathBuf>,
}

/// What a Python is chosen by.
#[derive(Debug, Clone, Copy)]
pub struct Choice<'a> {
    /// What the user has named: a path, a command, a version, or the folder of an environment.
    pub python: Option<&'a Path>,
    /// The project's root.
    pub root: &'a Path,
    /// The folder in which the program would be started. Absolute, as the root.
    pub working_folder: &'a Path,
    /// The variables that the program would have.
    pub variables: &'a Variables,
    /// The options that Python would have.
    pub flags: Flags,
}

/// What an installed file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The standard library.
    StandardLibrary,
    /// Packages that were installed.
    SitePackages,
}

/// Finds the Python that would run a program, with warnings.
///
/// `cache` is a folder in which answers are kept; without it the interpreter is asked each time.
pub fn find(choice: &Choice<'_>, cache: Option<&Path>) -> Result<(Interpreter, Vec<String>)> {
    let cache = Cache::in_folder(cache);
    let mut candidates = choose::candidates(choice)?;
    let mut tried = Vec::new();
    let mut executables = std::mem::take(&mut candidates.executables).into_iter();
    let mut is_last = candidates.is_named;
    loop {
        let executable = match executables.next() {
            Some(executable) => executable,
            None if is_last => break,
            None => {
                is_last = true;
                match choose::last_resort(choice, &mut candidates) {
                    Some(executable) if !tried.contains(&executable) => executable,
                    _ => break,
                }
            }
        };
        let mut conditions = std::mem::take(&mut candidates.conditions);
        let mut warnings = std::mem::take(&mut candidates.warnings);
        match learn(&executable, choice, &cache, &mut conditions, &mut warnings) {
            Ok(known) => {
                let interpreter = assembled(known, choice, &cache, conditions, &mut warnings);
                return Ok((interpreter, warnings));
            }
            Err(reason) if candidates.is_named => return Err(Error::NotAPython { path: executable, reason }),
            Err(reason) => warnings.push(format!("{} cannot be used: {reason}", executable.display())),
        }
        (candidates.conditions, candidates.warnings) = (conditions, warnings);
        tried.push(executable);
    }
    let mut warnings = candidates.warnings;
    warnings.push("no Python was found; files are looked for as a plain Python 3.14 would".to_owned());
    Ok((without_python(candidates.conditions), warnings))
}

impl Interpreter {
    /// What an installed file belongs to; `None` where it is nobody's but the user's.
    ///
    /// The path is absolute and resolved. Of all trees the innermost decides. A project's root that is said to be local is
    /// such a tree, wherever it lies.
    pub fn is_installed(&self, path: &Path, local_root: Option<&Path>) -> Option<Place> {
        let standard = self.standard_library.iter().map(|tree| (tree.as_path(), Some(Place::StandardLibrary)));
        let site = self.site_packages.iter().map(|tree| (tree.as_path(), Some(Place::SitePackages)));
        let local = local_root.map(|root| (root, None));
        let around = standard.chain(site).chain(local).filter(|(tree, _)| path.starts_with(tree));
        // Of equal ones the last is taken: what is said of the root comes before what is found.
        around.max_by_key(|(tree, _)| tree.components().count()).and_then(|(_, place)| place)
    }
}

/// What is known of one interpreter before the folders of packages are looked at.
struct Known {
    executable: PathBuf,
    environment: Option<Environment>,
    answer: Answer,
}

/// Asks the interpreter, or looks up what it has answered before; an error says why it is none.
fn learn(
    executable: &Path,
    choice: &Choice<'_>,
    cache: &Cache,
    conditions: &mut Vec<PathBuf>,
    warnings: &mut Vec<String>,
) -> Result<Known, String> {
    let resolved = executable.canonicalize().map_err(|e| e.kind().to_string())?;
    let metadata = resolved.metadata().map_err(|e| e.kind().to_string())?;
    conditions.extend([executable.to_owned(), resolved.clone()]);
    let mut environment = environment::of_executable(executable, conditions);
    // All environments that are made from one Python share what it has said: their own say the same.
    let home = environment.as_ref().and_then(|environment| environment.home.as_deref());
    let about = match home {
        Some(home) => [home.as_bytes(), resolved.as_os_str().as_encoded_bytes()].join(&0),
        None => executable.as_os_str().as_encoded_bytes().to_vec(),
    };
    let stamp = Stamp::of(&metadata);
    let (name, key) = (file_name("python", &[&about]), (about, stamp));
    let mut executable = executable.to_owned();
    let answer = match cache.get::<_, Answer>(&name, &key).filter(Answer::is_sound) {
        Some(answer) => answer,
        None => {
            let now = SystemTime::now();
            let answer = ask::ask(&executable, choice.working_folder, choice.variables)?;
            let said = answer.executable.path();
            let is_itself = said.canonicalize().is_ok_and(|said| said == resolved);
            if is_itself && stamp.is_settled(now) {
                cache.put(&name, key, &answer);
            } else if !is_itself && said.is_file() {
                // Something that stands in for an interpreter, and may choose another the next time.
                environment = environment::of_executable(&said, conditions);
                executable = said;
            }
            answer
        }
    };
    let (major, minor, _) = answer.version;
    if answer.version < OLDEST {
        return Err(format!("it is Python {major}.{minor}, 3.9 or newer is needed"));
    }
    if answer.version < OLDEST_TESTED {
        warnings.push(format!("{} is Python {major}.{minor}, older than what is tested", executable.display()));
    }
    Ok(Known { executable, environment, answer })
}

fn assembled(
    known: Known,
    choice: &Choice<'_>,
    cache: &Cache,
    mut conditions: Vec<PathBuf>,
    warnings: &mut Vec<String>,
) -> Interpreter {
    let Known { executable, environment, mut answer } = known;
    let flags = choice.flags.with_variables(choice.variables);
    if let Some(home) = choice.variables.non_empty("PYTHONHOME").filter(|_| !flags.ignore_environment) {
        warnings.push(format!("PYTHONHOME moves the standard library to {}", home.display()));
        let mut homes = std::env::split_paths(home);
        let prefix = homes.next().unwrap_or_default();
        answer = answer.moved(&prefix, &homes.next().unwrap_or_else(|| prefix.clone()));
    }
    let reach = match &environment {
        None => Reach::Base,
        Some(environment) if environment.includes_base => Reach::EnvironmentAndBase(&environment.prefix),
        Some(environment) => Reach::Environment(&environment.prefix),
    };
    let found = site::look(&answer, reach, flags, choice.variables, cache);
    conditions.extend(found.conditions);
    warnings.extend(found.warnings);
    let prefix = environment.map_or_else(|| answer.base_prefix.path(), |environment| environment.prefix);
    let standard = answer.standard_library.iter().chain(&answer.path).map(answer::SaidPath::path);
    Interpreter {
        programs: executable.parent().map_or_else(|| environment::programs(&prefix), Path::to_owned),
        executable: Some(executable),
        version: answer.version,
        prefix,
        standard_library: with_resolved(standard),
        site_packages: with_resolved(found.site_packages.into_iter()),
        search_path: found.search_path,
        editable_modules: found.editable.modules,
        editable_namespaces: found.editable.namespaces,
        editable_first: found.editable.first,
        built_in: answer.built_in.into_iter().collect(),
        loaded_at_start: answer.loaded_at_start.into_iter().chain(found.loaded).collect(),
        standard_names: answer.standard_names.into_iter().collect(),
        extension_suffixes: answer.extension_suffixes,
        platform: answer.platform,
        os_name: answer.os_name,
        conditions,
    }
}

/// A table of defaults in place of an interpreter.
fn without_python(conditions: Vec<PathBuf>) -> Interpreter {
    let answer = Answer::of_no_interpreter();
    Interpreter {
        executable: None,
        version: answer.version,
        platform: answer.platform,
        os_name: answer.os_name,
        prefix: PathBuf::new(),
        programs: PathBuf::new(),
        standard_library: Vec::new(),
        site_packages: Vec::new(),
        search_path: Vec::new(),
        editable_modules: BTreeMap::new(),
        editable_namespaces: BTreeMap::new(),
        editable_first: BTreeSet::new(),
        built_in: answer.built_in.into_iter().collect(),
        loaded_at_start: answer.loaded_at_start.into_iter().collect(),
        standard_names: answer.standard_names.into_iter().collect(),
        extension_suffixes: answer.extension_suffixes,
        conditions,
    }
}

/// Each path, and what it resolves to where that is another.
fn with_resolved(paths: impl Iterator<Item = PathBuf>) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = Vec::new();
    for path in paths {
        if all.contains(&path) {
            continue;
        }
        let resolved = path.canonicalize().ok();
        for path in [Some(path), resolved].into_iter().flatten() {
            if !all.contains(&path) {
                all.push(path);
            }
        }
    }
    all
}

/// The bytes of a file; `None` where it cannot be read, or is longer than anything of its kind.
fn read_limited(path: &Path, most: u64) -> Option<Vec<u8>> {
    // Looked at first: a pipe or a device would be waited for, or read for ever.
    let metadata = path.metadata().ok().filter(|metadata| metadata.is_file() && metadata.len() <= most)?;
    let file = std::fs::File::open(path).ok()?;
    // One more than there is: the end is seen without another read.
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?.saturating_add(1));
    file.take(most).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}
