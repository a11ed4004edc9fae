//! What a running process runs, as `/proc` shows it.
//!
//! Wrappers are followed down to the Python that they have started, workers of multiprocessing and joblib up to the
//! program that they work for.

mod follow;
mod notebook;
mod proc_files;
#[cfg(all(test, target_os = "linux"))]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};

pub use notebook::KernelNotebook;
use proc_files::Snapshot;

use crate::error::{Error, Result};
use crate::python::command_line::{Program, PythonCommand};
use crate::python::variables::Variables;

/// A Python process.
#[derive(Debug, Clone, PartialEq)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The processes over which it was found, the one that was asked for first; empty where that is this one.
    pub followed: Vec<u32>,
    /// Its command line.
    pub argv: Vec<OsString>,
    /// What that means; `None` where it is a Python that has overwritten its command line.
    pub command: Option<PythonCommand>,
    /// The script, the folder or archive, or the notebook that it was started with: absolute, links not resolved.
    pub script: Option<PathBuf>,
    /// The notebook that a kernel executes, as far as its variables tell.
    pub notebook: Option<KernelNotebook>,
    /// The folder in which it was started, as far as can be told: a process may change it.
    pub working_folder: PathBuf,
    /// Its variables, as they were at its start.
    pub variables: Variables,
    /// The Python by the path by which it was started, so that its environment can be found from it.
    pub executable: PathBuf,
    /// What is odd.
    pub warnings: Vec<String>,
    /// When it was started, in ticks after the system was.
    started: u64,
}

impl Process {
    /// Whether the number still belongs to the same process.
    pub fn is_same(&self, proc: &Path) -> bool {
        proc_files::stat(proc, self.pid).is_ok_and(|stat| stat.started == self.started)
    }
}

/// Looks at a process. `proc` is where the system shows them: `/proc`.
pub fn of_pid(pid: u32, proc: &Path) -> Result<Process> {
    if proc.join("self").symlink_metadata().is_err() {
        return Err(Error::NoProcessFolder { folder: proc.to_owned() });
    }
    let (found, followed) = follow::to_program(proc, pid)?;
    let Snapshot { pid, argv, command, folder, variables, resolved, started, parent, .. } = found;
    let executable = executable(&argv, &folder, &variables, resolved);
    let mut process = Process {
        pid,
        followed,
        argv,
        script: None,
        notebook: None,
        working_folder: folder,
        variables,
        executable,
        warnings: Vec::new(),
        started,
        command,
    };
    find_start(&mut process, proc, parent)?;
    if let Some(Program::Kernel { .. }) = process.command.as_ref().map(|command| &command.program) {
        process.notebook = notebook::of_kernel(&process.variables, &process.working_folder, &mut process.warnings);
    }
    if process.is_same(proc) { Ok(process) } else { Err(Error::NoSuchProcess { pid }) }
}

/// The path by which a Python was started: of an environment's it is a link, which the system shows resolved.
fn executable(argv: &[OsString], folder: &Path, variables: &Variables, resolved: PathBuf) -> PathBuf {
    let name = argv.first().map(PathBuf::from).unwrap_or_default();
    let is_it = |path: &PathBuf| path.canonicalize().is_ok_and(|path| path == resolved);
    if name.components().count() > 1 || name.has_root() {
        return Some(folder.join(&name)).filter(is_it).unwrap_or(resolved);
    }
    let folders = variables.non_empty("PATH").map(std::env::split_paths);
    let mut programs = folders.into_iter().flatten().map(|place| folder.join(place).join(&name));
    programs.find(is_it).unwrap_or(resolved)
}

/// Finds the folder in which the process was started, and the script in it.
///
/// What the system shows is the folder of now. Where the script is not in it, the process has gone elsewhere, and its
/// shell's PWD or its parent's folder tell where it was.
fn find_start(process: &mut Process, proc: &Path, parent: u32) -> Result<()> {
    let Some(command) = &process.command else { return Ok(()) };
    let wanted: Vec<PathBuf> = match &command.program {
        Program::Script(path) | Program::Notebook(path) => vec![path.clone()],
        Program::Module(module) => {
            let top = module.split('.').next().unwrap_or_default();
            vec![format!("{top}.py").into(), top.into()]
        }
        _ => return Ok(()),
    };
    let is_file = !matches!(command.program, Program::Module(_));
    let find_in = |folder: &Path| wanted.iter().map(|path| folder.join(path)).find(|path| path.exists());
    let now = process.working_folder.clone();
    let before = process.variables.path("PWD").filter(|folder| folder.is_absolute() && *folder != now);
    let others = before.clone().into_iter().chain(proc_files::folder(proc, parent).ok());
    let places: Vec<PathBuf> = std::iter::once(now.clone()).chain(others).collect();
    let found = places.iter().find_map(|folder| Some((folder.clone(), find_in(folder)?)));
    let Some((folder, path)) = found else {
        // A module may be installed.
        let Some(path) = wanted.first().filter(|_| is_file) else { return Ok(()) };
        let reason = format!("was started with {}, which is not there", path.display());
        return Err(Error::UnclearProcess { pid: process.pid, reason });
    };
    let other = before.filter(|_| folder == now).and_then(|before| find_in(&before));
    if let Some(other) = other.filter(|other| other.canonicalize().ok() != path.canonicalize().ok()) {
        process.warnings.push(format!("Process {} may have been started with {}", process.pid, other.display()));
    }
    if folder != now {
        process.warnings.push(format!(
            "Process {} has gone from {} to {}",
            process.pid,
            folder.display(),
            now.display()
        ));
    }
    process.working_folder = folder;
    process.script = Some(path).filter(|_| is_file);
    Ok(())
}
