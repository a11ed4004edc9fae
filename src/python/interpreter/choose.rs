//! Which Python is meant: what is named, or what a shell in that folder would start.

use std::path::{Path, PathBuf};

use super::environment::{programs, python_in};
use super::{Choice, pyenv};
use crate::error::{Error, Result};

/// Where programs are looked for when PATH is not set.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The executables to try, the first that works being the one.
#[derive(Debug, Default)]
pub struct Candidates {
    /// Executables.
    pub executables: Vec<PathBuf>,
    /// Whether the first was asked for by name: then no other will do.
    pub is_named: bool,
    /// What was looked at, whether it was there or not.
    pub conditions: Vec<PathBuf>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// Finds the executables to try.
pub fn candidates(choice: &Choice<'_>) -> Result<Candidates> {
    let mut found = Candidates::default();
    if let Some(python) = choice.python {
        let executable = named(choice, python, &mut found)?;
        return Ok(Candidates { executables: vec![executable], is_named: true, ..found });
    }
    for (variable, is_missed) in [("VIRTUAL_ENV", true), ("CONDA_PREFIX", false)] {
        let Some(folder) = choice.variables.path(variable) else { continue };
        let folder = choice.working_folder.join(folder);
        match python_in(&folder) {
            Some(python) => found.executables.push(python),
            None if is_missed => {
                found.warnings.push(format!("{variable} is {}, where there is no Python", folder.display()));
            }
            None => {}
        }
        found.conditions.push(programs(&folder));
    }
    for folder in folders_upwards(choice) {
        for name in [".venv", "venv"] {
            let environment = folder.join(name);
            found.conditions.push(environment.join("pyvenv.cfg"));
            // A folder of that name may be anything.
            if !environment.join("pyvenv.cfg").is_file() {
                continue;
            }
            match python_in(&environment) {
                Some(python) => found.executables.push(python),
                None => found.warnings.push(format!("{} has no Python that is there", environment.display())),
            }
        }
    }
    if found.executables.is_empty() {
        let python = on_path(choice, "python3", &mut found).or_else(|| on_path(choice, "python", &mut found));
        found.executables.extend(python);
    }
    Ok(found)
}

/// The candidates on PATH alone, for when the better ones do not work.
pub fn last_resort(choice: &Choice<'_>, found: &mut Candidates) -> Option<PathBuf> {
    on_path(choice, "python3", found).or_else(|| on_path(choice, "python", found))
}

/// The folders from the working folder up to the root; the root alone where that lies elsewhere.
fn folders_upwards<'a>(choice: &Choice<'a>) -> Vec<&'a Path> {
    if !choice.working_folder.starts_with(choice.root) {
        return vec![choice.root];
    }
    choice.working_folder.ancestors().take_while(|folder| folder.starts_with(choice.root)).collect()
}

fn named(choice: &Choice<'_>, python: &Path, found: &mut Candidates) -> Result<PathBuf> {
    let wrong = |what: &str| Error::NotAPython { path: python.to_owned(), reason: what.to_owned() };
    let path = choice.working_folder.join(python);
    if path.is_dir() {
        return python_in(&path).ok_or_else(|| wrong("there is no Python in that folder"));
    }
    let is_bare = python.components().count() == 1 && !path.is_file();
    if let Some(name) = python.to_str().filter(|_| is_bare && !python.has_root()) {
        let is_version = name.split('.').all(|part| part.parse::<u8>().is_ok());
        let name = if is_version { format!("python{name}") } else { name.to_owned() };
        return on_path(choice, &name, found).ok_or_else(|| wrong("it is not on PATH"));
    }
    if path.is_file() { Ok(path) } else { Err(wrong("there is no such file")) }
}

/// The first program of that name on PATH, through pyenv's shims.
fn on_path(choice: &Choice<'_>, name: &str, found: &mut Candidates) -> Option<PathBuf> {
    let path = choice.variables.non_empty("PATH").unwrap_or(DEFAULT_PATH.as_ref());
    let file_name = format!("{name}{}", std::env::consts::EXE_SUFFIX);
    for folder in std::env::split_paths(path) {
        let folder = choice.working_folder.join(folder);
        let program = folder.join(&file_name);
        if !is_executable(&program) {
            continue;
        }
        let Some(root) = pyenv::root_of_shims(&folder, choice.variables) else { return Some(program) };
        let resolved =
            pyenv::resolve(&root, &file_name, choice.working_folder, choice.variables, &mut found.conditions);
        match resolved {
            pyenv::Shim::Executable(program) => return Some(program),
            pyenv::Shim::System => {}
            pyenv::Shim::Missing(versions) => {
                let warning = format!("pyenv has no {name} of version {}", versions.join(", "));
                if !found.warnings.contains(&warning) {
                    found.warnings.push(warning);
                }
            }
        }
    }
    None
}

#[cfg(unix)]
fn is_executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_executable(path: &Path) -> bool {
    path.is_file()
}
