//! From what the user names to what Python would start with: its first file, its search path, and who would run it.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::process::{self, Process};
use super::{EntryPointKind, FoundBy};
use crate::error::{Error, Result};
use crate::python::command_line::{Program as Command, PythonCommand};
use crate::python::flags::Flags;
use crate::python::import_system::listing::is_runnable_archive;
use crate::python::import_system::{Finder, Found, normalised};
use crate::python::interpreter::{self, Choice, Interpreter};
use crate::python::variables::Variables;
use crate::store::location::{marked_root, project_root};

/// Data files of more bytes than this are not tracked, unless told otherwise.
pub const DATA_BYTES: u64 = 1 << 20;

/// What the user names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A script, notebook, archive, or a folder with a `__main__.py`.
    Path(PathBuf),
    /// A module or package, as for `python -m`.
    Module(String),
    /// A running process.
    Process(u32),
}

/// A program, and around it what decides how Python would run it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProgramTarget {
    /// The program.
    pub program: Program,
    /// The program's own arguments. Those of a running process are known.
    pub arguments: Vec<OsString>,
    /// The folder that it is started in.
    pub working_folder: PathBuf,
    /// The variables that it is started with.
    pub variables: Variables,
    /// The interpreter, where one is named.
    pub python: Option<PathBuf>,
    /// Data files of more bytes than this are not tracked.
    pub data_bytes: u64,
    /// Where it is kept between runs what interpreters and sources have said; nowhere unless told.
    pub caches: Option<PathBuf>,
}

impl ProgramTarget {
    /// A program that is started in the current folder, without variables.
    pub fn new(program: Program) -> Self {
        Self {
            program,
            arguments: Vec::new(),
            working_folder: PathBuf::from("."),
            variables: Variables::default(),
            python: None,
            data_bytes: DATA_BYTES,
            caches: None,
        }
    }
}

/// What starts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Started {
    /// A file that runs as `__main__`. Of a folder or an archive it is the `__main__.py` in it.
    File(PathBuf),
    /// A module that runs as `__main__`: its full name and its file.
    Module(String, PathBuf),
    /// The text after `-c`.
    Command(String),
    /// Nothing whose code could be had.
    Nothing,
}

/// How a run starts.
#[derive(Debug, Clone)]
pub struct Start {
    /// What starts.
    pub started: Started,
    /// What that is.
    pub kind: EntryPointKind,
    /// How it was found.
    pub found_by: FoundBy,
    /// 1.0 certain, 0.0 nothing known.
    pub confidence: f64,
    /// What was started in order to start it.
    pub launcher: Option<String>,
    /// The file that the user would call the entry point: an archive rather than what is in it.
    pub file: Option<PathBuf>,
    /// The path that it was named by, where links lead from that to the file.
    pub named: Option<PathBuf>,
    /// The project's root.
    pub root: PathBuf,
    /// The program's own arguments, as far as they are known.
    pub arguments: Vec<OsString>,
    /// The folder that the run starts in.
    pub working_folder: PathBuf,
    /// What `sys.path` begins with, before the interpreter's own folders.
    pub search_path: Vec<PathBuf>,
    /// The same without the program's own folder: what there is before the program starts.
    pub at_start: Vec<PathBuf>,
    /// The interpreter that would run it.
    pub interpreter: Interpreter,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
}

/// A program as the command line has it.
struct Named {
    program: Naming,
    flags: Flags,
    launcher: Option<String>,
    found_by: FoundBy,
    confidence: f64,
    warnings: Vec<String>,
}

enum Naming {
    Path(PathBuf),
    Module(String),
    Command(String),
    Nothing(EntryPointKind),
}

/// Finds the root of the project that a program is in, as far as that can be told without an interpreter. Modules are
/// taken to be in the project of the working folder.
pub fn root_of(target: &ProgramTarget) -> Result<PathBuf> {
    match &target.program {
        Program::Path(path) => {
            let path = resolve(path, &target.working_folder)?;
            Ok(root_of_path(&path))
        }
        Program::Module(_) => Ok(project_root(&working_folder(target)?)),
        Program::Process(pid) => {
            let process = process::of_pid(*pid, Path::new("/proc"))?;
            // A script that is installed says nothing of the project.
            let script = process.script.as_deref().and_then(|path| path.canonicalize().ok());
            let marked = script.as_deref().and_then(Path::parent).and_then(marked_root);
            Ok(marked.unwrap_or_else(|| project_root(&process.working_folder)))
        }
    }
}

fn root_of_path(path: &Path) -> PathBuf {
    let folder = if path.is_dir() { path } else { path.parent().unwrap_or(path) };
    project_root(folder)
}

fn working_folder(target: &ProgramTarget) -> Result<PathBuf> {
    target.working_folder.canonicalize().map_err(|e| Error::io("read", &target.working_folder, e))
}

fn resolve(path: &Path, working_folder: &Path) -> Result<PathBuf> {
    let full = working_folder.join(path);
    full.canonicalize().map_err(|e| Error::io("read", full, e))
}

/// Finds what starts and how.
pub fn find(target: &ProgramTarget) -> Result<Start> {
    match &target.program {
        Program::Path(path) => start(target, target.python.as_deref(), named(Naming::Path(path.clone()))),
        Program::Module(name) => start(target, target.python.as_deref(), named(Naming::Module(name.clone()))),
        Program::Process(pid) => {
            let process = process::of_pid(*pid, Path::new("/proc"))?;
            let (executable, working_folder) = (process.executable.clone(), process.working_folder.clone());
            let named = of_process(&process);
            let arguments = process.command.map(|command| command.arguments).unwrap_or_default();
            let of_process =
                ProgramTarget { arguments, working_folder, variables: process.variables, ..target.clone() };
            start(&of_process, Some(target.python.as_deref().unwrap_or(&executable)), named)
        }
    }
}

fn named(program: Naming) -> Named {
    let (found_by, confidence) = (FoundBy::CommandLine, 1.0);
    Named { program, flags: Flags::default(), launcher: None, found_by, confidence, warnings: Vec::new() }
}

fn of_process(process: &Process) -> Named {
    let mut warnings = process.warnings.clone();
    let Some(PythonCommand { program, flags, launcher, .. }) = process.command.clone() else {
        let program = Naming::Nothing(EntryPointKind::Unknown);
        return Named { confidence: 0.0, warnings, found_by: FoundBy::Process, ..named(program) };
    };
    let (program, confidence) = match program {
        Command::Script(path) => {
            let path = process.script.clone().unwrap_or(path);
            (Naming::Path(path), if launcher.is_some() { 0.8 } else { 1.0 })
        }
        Command::Module(name) => (Naming::Module(name), if launcher.is_some() { 0.8 } else { 1.0 }),
        Command::Notebook(path) => (Naming::Path(process.script.clone().unwrap_or(path)), 0.9),
        Command::Command(text) => (Naming::Command(text), 1.0),
        Command::StandardInput => (Naming::Nothing(EntryPointKind::StandardInput), 0.0),
        Command::Interactive => (Naming::Nothing(EntryPointKind::Interactive), 0.0),
        Command::Kernel { .. } => match process.notebook.clone() {
            Some(notebook) => (Naming::Path(notebook.path), notebook.confidence),
            None => {
                warnings.push(format!("Process {} is a notebook's kernel, and nothing tells whose", process.pid));
                (Naming::Nothing(EntryPointKind::Notebook), 0.0)
            }
        },
        Command::Other => (Naming::Nothing(EntryPointKind::Unknown), 0.0),
    };
    Named { program, flags, launcher, found_by: FoundBy::Process, confidence, warnings }
}

fn start(target: &ProgramTarget, python: Option<&Path>, named: Named) -> Result<Start> {
    let working_folder = working_folder(target)?;
    let path = match &named.program {
        Naming::Path(path) => Some(resolve(path, &working_folder)?),
        _ => None,
    };
    let named_path = match &named.program {
        Naming::Path(named) => Some(working_folder.join(named)).filter(|named| Some(named) != path.as_ref()),
        _ => None,
    };
    let root = path.as_deref().map_or_else(|| project_root(&working_folder), root_of_path);
    let flags = named.flags.with_variables(&target.variables);
    let choice = Choice { python, root: &root, working_folder: &working_folder, variables: &target.variables, flags };
    let (interpreter, mut warnings) = interpreter::find(&choice, target.caches.as_deref())?;
    warnings.extend(named.warnings);
    let mut start = Start {
        started: Started::Nothing,
        kind: EntryPointKind::Unknown,
        found_by: named.found_by,
        confidence: named.confidence,
        launcher: named.launcher,
        file: None,
        named: None,
        root,
        arguments: target.arguments.clone(),
        search_path: Vec::new(),
        at_start: Vec::new(),
        interpreter,
        warnings,
        working_folder: working_folder.clone(),
    };
    let mut first = working_folder;
    match named.program {
        Naming::Path(_) => {
            let Some(path) = path else { return Err(Error::Usage("No program is named".into())) };
            (start.started, start.kind, first) = of_path(&path)?;
            let file = match &start.started {
                Started::File(file) if start.kind == EntryPointKind::Folder => file.clone(),
                _ => path,
            };
            start.file = Some(file);
            start.named = named_path;
        }
        Naming::Module(_) => start.kind = EntryPointKind::Module,
        Naming::Command(ref text) => {
            (start.started, start.kind) = (Started::Command(text.clone()), EntryPointKind::Command);
        }
        Naming::Nothing(kind) => start.kind = kind,
    }
    if !flags.safe_path || matches!(start.kind, EntryPointKind::Folder | EntryPointKind::Zipapp) {
        start.search_path.push(first);
    }
    if !flags.ignore_environment {
        let variable = target.variables.non_empty("PYTHONPATH");
        let folders = variable.into_iter().flat_map(std::env::split_paths);
        start.at_start = folders.map(|folder| normalised(&start.working_folder.join(folder))).collect();
        start.search_path.extend_from_slice(&start.at_start);
    }
    if let Naming::Module(name) = named.program {
        find_module(&mut start, &name)?;
    }
    leave_installed(&mut start);
    Ok(start)
}

/// What a path starts, what that is, and the folder that `sys.path` begins with.
fn of_path(path: &Path) -> Result<(Started, EntryPointKind, PathBuf)> {
    if path.is_dir() {
        let main = path.join("__main__.py");
        if !main.is_file() {
            return Err(Error::Usage(format!("A folder without a __main__.py cannot be run: {}", path.display())));
        }
        return Ok((Started::File(main), EntryPointKind::Folder, path.to_owned()));
    }
    if !path.is_file() {
        return Err(Error::Usage(format!("Not a file: {}", path.display())));
    }
    let folder = path.parent().unwrap_or(path).to_owned();
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match extension {
        "ipynb" => Ok((Started::File(path.to_owned()), EntryPointKind::Notebook, folder)),
        "pyc" => Ok((Started::File(path.to_owned()), EntryPointKind::Bytecode, folder)),
        "py" => Ok((Started::File(path.to_owned()), EntryPointKind::Script, folder)),
        _ if is_runnable_archive(path) => {
            Ok((Started::File(path.join("__main__.py")), EntryPointKind::Zipapp, path.to_owned()))
        }
        _ => Ok((Started::File(path.to_owned()), EntryPointKind::Script, folder)),
    }
}

/// Finds the module that `-m` names, and the project that it is in.
fn find_module(start: &mut Start, name: &str) -> Result<()> {
    let mut finder = Finder::new(&start.interpreter, &start.root, &start.search_path, Vec::new());
    let mut full = name.to_owned();
    let found = match finder.find(name) {
        Found::Module(module) if !module.folders.is_empty() => {
            full = format!("{name}.__main__");
            finder.find(&full)
        }
        Found::Namespace(_) => {
            full = format!("{name}.__main__");
            finder.find(&full)
        }
        found => found,
    };
    match found {
        Found::Module(module) => {
            let file = module.file.canonicalize().unwrap_or_else(|_| module.file.clone());
            // Of a project without a marker, the folder that the top-level package is in.
            let base = module.base.canonicalize().unwrap_or_else(|_| module.base.clone());
            start.root = file.parent().and_then(marked_root).unwrap_or(base);
            start.file = Some(file.clone());
            start.started = Started::Module(full, file);
            Ok(())
        }
        Found::Installed => {
            start.warnings.push(format!("{name} is installed, and no part of the project"));
            start.confidence = 0.0;
            start.launcher = start.launcher.take().or_else(|| Some(name.to_owned()));
            Ok(())
        }
        Found::Missing | Found::Namespace(_) => {
            let what = if full == name { "module" } else { "package that can be run" };
            let searched: Vec<String> = start.search_path.iter().map(|folder| folder.display().to_string()).collect();
            Err(Error::Usage(format!("No {what} {name}: looked in {}", searched.join(", "))))
        }
    }
}

/// A script that is installed, such as a package's command, is no part of the project.
fn leave_installed(start: &mut Start) {
    let Some(file) = start.file.clone() else { return };
    let is_command = start.kind == EntryPointKind::Script
        && start.found_by == FoundBy::Process
        && file.starts_with(start.interpreter.prefix.join("bin"));
    // Where a project is marked it is nobody's but the user's, wherever it lies.
    let is_marked = || marked_root(file.parent().unwrap_or(&file)).is_some();
    let is_installed = |root: Option<&Path>| start.interpreter.is_installed(&file, root).is_some();
    if is_command || is_installed(None) && (!is_marked() || is_installed(Some(start.root.as_path()))) {
        start.warnings.push(format!("{} is installed, and no part of the project", file.display()));
        start.launcher = start.launcher.take().or_else(|| Some(file.file_name()?.to_str()?.to_owned()));
        (start.started, start.file, start.confidence) = (Started::Nothing, None, 0.0);
        start.root = project_root(&start.working_folder);
    }
}
