//! Command lines that start a Python: what it runs, and with which options.
//!
//! Wrappers (`nohup`, `timeout`), tools that manage environments (`uv run`), shells and launchers (`coverage run`) are
//! followed to the program in Python that is meant in the end. Nothing is started; of files only the first lines of
//! scripts are read, to tell those of Python.

mod launchers;
mod python;
mod runners;
mod shebang;
mod shell;
#[cfg(test)]
mod tests;
mod wrappers;

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

use launchers::Target;
pub use python::is_python;
use runners::Form;

use crate::python::flags::Flags;
use crate::python::variables::Variables;

/// Wrappers within wrappers.
const MAX_DEPTH: usize = 16;
/// Programs that start others on several places, with so many options that they are passed over by what follows them.
const SCANNED: &[&str] =
    &["mpirun", "mpiexec", "orterun", "srun", "aprun", "jsrun", "horovodrun", "xargs", "parallel", "perf"];

/// What a Python is told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    /// A file; or a folder or an archive with a `__main__`.
    Script(PathBuf),
    /// `-m`: a module.
    Module(String),
    /// `-c`: this code.
    Command(String),
    /// What comes from standard input.
    StandardInput,
    /// What somebody types; or what comes from standard input, where that is no terminal.
    Interactive,
    /// A notebook, executed as a whole.
    Notebook(PathBuf),
    /// The cells that a notebook's front end sends.
    Kernel {
        /// The file by which the front end finds it.
        connection_file: Option<PathBuf>,
    },
    /// Nothing that the command line tells.
    Other,
}

/// A command line with a Python in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PythonCommand {
    /// The Python, as it is written; `None` where it is that of an environment, or of the launcher.
    pub python: Option<PathBuf>,
    /// What it is told to run.
    pub program: Program,
    /// The arguments of that.
    pub arguments: Vec<OsString>,
    /// The options that change what is imported.
    pub flags: Flags,
    /// What stands between the Python, or the tool that starts it, and the program: `uv run, coverage`.
    pub launcher: Option<String>,
    /// The folder that is gone to before, absolute or relative to where the command is started.
    pub folder: Option<PathBuf>,
    /// The project whose environment is used, where that is said: like the folder.
    pub project: Option<PathBuf>,
    /// Variables that are set before, or removed.
    pub variables: Vec<(OsString, Option<OsString>)>,
    /// Whether all other variables are removed before.
    pub clears_variables: bool,
}

impl PythonCommand {
    /// The variables that the program has, if the command is started with these.
    pub fn variables_from(&self, started_with: &Variables) -> Variables {
        let mut variables = if self.clears_variables { Variables::default() } else { started_with.clone() };
        for (name, value) in &self.variables {
            match value {
                Some(value) => variables.set(name, value),
                None => variables.remove(name),
            }
        }
        variables
    }

    /// Whether it is a helper that a library has started, such as a worker of multiprocessing or joblib: what it runs
    /// is its parent's program.
    pub fn is_worker(&self) -> bool {
        let has_argument = |name: &str| self.arguments.iter().any(|argument| argument == name);
        match &self.program {
            Program::Command(code) => {
                let modules = ["multiprocessing.", "multiprocess.", "joblib.externals.loky", "billiard.", "loky."];
                let code = code.trim_start();
                has_argument("--multiprocessing-fork")
                    || modules
                        .iter()
                        .any(|module| code.strip_prefix("from ").is_some_and(|code| code.starts_with(module)))
            }
            Program::Module(module) => {
                module.contains("loky.backend.")
                    || module.starts_with("multiprocessing.")
                    || has_argument("--multiprocessing-fork")
            }
            _ => has_argument("--multiprocessing-fork"),
        }
    }
}

/// Reads a command line; `None` where no Python is in it. Of files nothing is looked at but those that it names with
/// their full paths.
pub fn parse(argv: &[OsString]) -> Option<PythonCommand> {
    parse_in(argv, Path::new(""), &Variables::default())
}

/// Reads a command line that would be started in a folder, with variables: what they mean in it is filled in, and
/// programs are looked for on PATH.
pub fn parse_in(argv: &[OsString], folder: &Path, variables: &Variables) -> Option<PythonCommand> {
    let mut reading = Reading {
        start: folder,
        variables: variables.clone(),
        is_managed: false,
        depth: 0,
        launchers: Vec::new(),
        found: PythonCommand {
            python: None,
            program: Program::Other,
            arguments: Vec::new(),
            flags: Flags::default(),
            launcher: None,
            folder: None,
            project: None,
            variables: Vec::new(),
            clears_variables: false,
        },
    };
    reading.command(argv)?;
    let launcher = reading.launchers.join(", ");
    Some(PythonCommand { launcher: Some(launcher).filter(|launcher| !launcher.is_empty()), ..reading.found })
}

/// Whether a program of that name is one that may lead to a Python.
fn is_command(name: &str) -> bool {
    let name = base_name(OsStr::new(name));
    is_python(&name)
        || shell::is_shell(&name)
        || SCANNED.contains(&&*name)
        || wrappers::unwrap(&name, &[]).is_some()
        || ["uv", "poetry", "pdm", "hatch", "rye", "pipenv", "conda", "mamba", "micromamba", "pixi", "py"]
            .contains(&&*name)
}

/// The argument as text; what is no text is replaced.
fn text(argument: &OsString) -> Cow<'_, str> {
    argument.to_string_lossy()
}

/// The name of a program without its folder.
fn base_name(program: &OsStr) -> String {
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    name.strip_suffix(".exe").unwrap_or(&name).to_owned()
}

#[derive(Clone)]
struct Reading<'a> {
    start: &'a Path,
    variables: Variables,
    /// Whether a tool has chosen the environment, so that a bare name means the Python in it.
    is_managed: bool,
    depth: usize,
    launchers: Vec<String>,
    found: PythonCommand,
}

impl Reading<'_> {
    /// Reads a command; `None` where no Python is in it, and then what was noted counts for nothing.
    fn command(&mut self, argv: &[OsString]) -> Option<()> {
        self.depth += 1;
        let (program, arguments) = argv.split_first().filter(|_| self.depth <= MAX_DEPTH)?;
        let name = base_name(program);
        if is_python(&name) {
            let is_bare = Path::new(program).components().count() == 1;
            if !(self.is_managed && is_bare) {
                self.found.python = Some(program.into());
            }
            return self.python(arguments);
        }
        if name == "py" {
            return self.python_launcher(arguments);
        }
        if let Some(found) = wrappers::unwrap(&name, arguments) {
            self.go_to(found.folder.as_ref());
            if found.is_bare {
                self.clear();
            }
            for (variable, value) in found.variables {
                self.set(variable, value);
            }
            return self.command(&found.command);
        }
        if let Some(found) = runners::unwrap(&name, arguments) {
            return self.managed(found);
        }
        if shell::is_shell(&name) {
            let (script, behind) = shell::script(arguments)?;
            return self.shell(&name, &script, behind);
        }
        if SCANNED.contains(&&*name) {
            self.launchers.push(name);
            return self.scan(arguments);
        }
        if let Some((launcher, target)) = launchers::target(&name, arguments) {
            return self.launch(launcher, target);
        }
        self.script_of_python(program, arguments)
    }

    fn python(&mut self, arguments: &[OsString]) -> Option<()> {
        let started = python::read(arguments);
        self.found.flags = started.flags;
        match started.program {
            Program::Module(module) => match launchers::target(&module, &started.arguments) {
                Some((launcher, target)) => self.launch(launcher, target),
                None => self.done(Program::Module(module), started.arguments),
            },
            Program::Script(script) => self.script(script, started.arguments),
            program => self.done(program, started.arguments),
        }
    }

    /// Windows' launcher: `py -3.12 x.py`.
    fn python_launcher(&mut self, arguments: &[OsString]) -> Option<()> {
        let is_version = |argument: &OsString| {
            let argument = text(argument);
            argument.starts_with("-V:") || argument.strip_prefix('-').is_some_and(|rest| rest.starts_with(['2', '3']))
        };
        let rest = arguments.split_first().filter(|(first, _)| is_version(first)).map_or(arguments, |(_, rest)| rest);
        self.python(rest)
    }

    /// A file that a Python is given, which may itself be a launcher.
    fn script(&mut self, script: PathBuf, arguments: Vec<OsString>) -> Option<()> {
        let name = base_name(script.as_os_str());
        let folder = script.parent().map(|folder| base_name(folder.as_os_str())).unwrap_or_default();
        let target = match (&*name, &*folder) {
            // What editors start, from a folder of their own.
            ("debugpy", _) => launchers::target("debugpy", &arguments),
            ("launcher", "debugpy") => {
                let at = arguments.iter().position(|argument| argument == "--");
                let behind = at.and_then(|at| arguments.get(at + 1..)).unwrap_or_default();
                return self.launched("debugpy", behind);
            }
            ("pydevd.py", _) => {
                let at = arguments.iter().position(|argument| argument == "--file");
                let behind = at.and_then(|at| arguments.get(at + 1..)).unwrap_or_default();
                return self.launched("pydevd", behind);
            }
            ("ipykernel_launcher.py", _) => launchers::target("ipykernel_launcher", &arguments),
            // A command that was installed: the kernel has put its Python in front.
            (name, "bin" | "Scripts") if !name.contains('.') => launchers::target(name, &arguments),
            _ => None,
        };
        match target {
            Some((launcher, target)) => self.launch(launcher, target),
            None => self.done(Program::Script(script), arguments),
        }
    }

    /// What follows is read as if a Python had been given it.
    fn launched(&mut self, launcher: &str, arguments: &[OsString]) -> Option<()> {
        self.launchers.push(launcher.to_owned());
        let started = python::read(arguments);
        self.done(started.program, started.arguments)
    }

    fn launch(&mut self, launcher: &str, target: Target) -> Option<()> {
        self.launchers.push(launcher.to_owned());
        match target {
            Target::Command(command) => self.command(&command),
            // One may start another: `python -m cProfile -m pytest`.
            Target::Program(Program::Module(module), arguments) if module != launcher => {
                match launchers::target(&module, &arguments).filter(|_| self.launchers.len() < MAX_DEPTH) {
                    Some((launcher, target)) => self.launch(launcher, target),
                    None => self.done(Program::Module(module), arguments),
                }
            }
            Target::Program(Program::Script(script), arguments) if launcher != "pytest" => {
                self.script(script, arguments)
            }
            Target::Program(program, arguments) => self.done(program, arguments),
        }
    }

    fn managed(&mut self, found: runners::Managed) -> Option<()> {
        self.go_to(found.folder.map(OsString::from).as_ref());
        self.is_managed = true;
        self.launchers.push(found.runner);
        self.found.python = found.python.or_else(|| self.conda_environment(found.environment.as_deref()?));
        self.found.project = found.project;
        let (first, rest) = found.command.split_first()?;
        let is_script = Path::new(first).extension().is_some_and(|ending| ending == "py" || ending == "pyw");
        match found.form {
            Form::Command if first == "-" => self.done(Program::StandardInput, rest.to_vec()),
            Form::Command if !is_script => self.command(&found.command),
            Form::Module => match launchers::target(&text(first), rest) {
                Some((launcher, target)) => self.launch(launcher, target),
                None => self.done(Program::Module(text(first).into_owned()), rest.to_vec()),
            },
            _ => self.done(Program::Script(first.into()), rest.to_vec()),
        }
    }

    /// The folder of one of conda's environments, where the variables tell where they are.
    fn conda_environment(&self, name: &str) -> Option<PathBuf> {
        let root = match self.variables.path("MAMBA_ROOT_PREFIX") {
            Some(root) => root,
            None => self.variables.path("CONDA_EXE")?.parent()?.parent()?.to_owned(),
        };
        Some(if name == "base" { root } else { root.join("envs").join(name) })
    }

    /// The first command of a script in which a Python is.
    fn shell(&mut self, shell: &str, script: &str, behind: &[OsString]) -> Option<()> {
        let commands = shell::commands(script, behind, &self.variables);
        let mut others = 0usize;
        for words in &commands {
            let set = words.iter().take_while(|word| shell::assignment(word).is_some()).count();
            let (set, words) = words.split_at_checked(set).unwrap_or_default();
            let name = words.first().map(|word| text(word).into_owned());
            let arguments = words.get(1..).unwrap_or_default();
            match name.as_deref() {
                Some("cd" | "pushd") => {
                    self.go_to(arguments.iter().find(|argument| !text(argument).starts_with('-')));
                }
                Some("export") | None => {
                    for (variable, value) in set.iter().chain(arguments).filter_map(shell::assignment) {
                        self.set(variable.into(), Some(value.into()));
                    }
                }
                Some("unset") => arguments.iter().for_each(|variable| self.set(variable.clone(), None)),
                Some("source" | ".") => {
                    if let Some(folder) = arguments.first().and_then(|script| Path::new(script).parent()?.parent()) {
                        let is_activation = arguments.first().is_some_and(|script| text(script).ends_with("/activate"));
                        if is_activation {
                            let folder = self.folder().join(folder);
                            self.set("VIRTUAL_ENV".into(), Some(folder.into_os_string()));
                            self.is_managed = true;
                        }
                    }
                }
                Some("set" | "ulimit" | "umask" | "true" | "shopt" | "trap" | "wait" | "popd") => {}
                Some(_) => {
                    let mut attempt = self.clone();
                    for (variable, value) in set.iter().filter_map(shell::assignment) {
                        attempt.set(variable.into(), Some(value.into()));
                    }
                    if attempt.command(words).is_some() {
                        *self = attempt;
                        if others > 0 {
                            self.launchers.insert(0, format!("{shell}, its first Python"));
                        }
                        return Some(());
                    }
                    others += 1;
                }
            }
        }
        None
    }

    /// The first argument from which on it is a command that is known.
    fn scan(&mut self, arguments: &[OsString]) -> Option<()> {
        let starts = arguments.iter().enumerate().filter(|(_, argument)| is_command(&text(argument)));
        for (at, _) in starts {
            let mut attempt = self.clone();
            if attempt.command(arguments.get(at..)?).is_some() {
                *self = attempt;
                return Some(());
            }
        }
        None
    }

    /// A program that is itself a script of Python, by its first line or its ending.
    fn script_of_python(&mut self, program: &OsString, arguments: &[OsString]) -> Option<()> {
        let path = Path::new(program);
        let is_bare = path.components().count() == 1 && !path.has_root();
        let file = if is_bare {
            shebang::on_path(program, &self.folder(), &self.variables)
        } else {
            Some(self.folder().join(path))
        };
        if let Some(file) = file.filter(|file| file.is_absolute())
            && let Some(mut command) = shebang::command(&file)
        {
            command.push(if is_bare { file.into() } else { program.clone() });
            command.extend(arguments.iter().cloned());
            return self.command(&command);
        }
        let is_script = path.extension().is_some_and(|ending| ending == "py") && !is_bare;
        is_script.then(|| self.done(Program::Script(path.to_owned()), arguments.to_vec()))?
    }

    fn done(&mut self, program: Program, arguments: Vec<OsString>) -> Option<()> {
        (self.found.program, self.found.arguments) = (program, arguments);
        Some(())
    }

    fn folder(&self) -> PathBuf {
        self.found.folder.as_ref().map_or_else(|| self.start.to_owned(), |folder| self.start.join(folder))
    }

    fn go_to(&mut self, folder: Option<&OsString>) {
        let Some(folder) = folder else { return };
        let before = self.found.folder.take().unwrap_or_default();
        self.found.folder = Some(before.join(folder));
    }

    fn set(&mut self, name: OsString, value: Option<OsString>) {
        match &value {
            Some(value) => self.variables.set(&name, value),
            None => self.variables.remove(&name),
        }
        self.found.variables.retain(|(known, _)| *known != name);
        self.found.variables.push((name, value));
    }

    fn clear(&mut self) {
        self.variables = Variables::default();
        self.found.variables.clear();
        self.found.clears_variables = true;
    }
}
