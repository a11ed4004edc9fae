//! Programs in Python that run another one: profilers, debuggers, test runners, notebooks.

use std::ffi::OsString;

use super::{Program, text};

/// What a launcher is told to run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A program in Python, with its arguments.
    Program(Program, Vec<OsString>),
    /// A command, which may be a Python or anything else.
    Command(Vec<OsString>),
}

/// What kind of target a launcher has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A script; or a module behind `-m`, or code behind `-c`.
    Script,
    /// A module.
    Module,
    /// A command.
    Command,
    /// Files with tests.
    Tests,
    /// A notebook.
    Notebook,
    /// What the notebook's front end sends.
    Kernel,
    /// Nothing that the command line tells.
    Nothing,
}

/// How the arguments of a launcher are read.
#[derive(Debug, Clone, Copy)]
struct Launcher {
    /// The name under which it is recorded, also of its module.
    name: &'static str,
    /// Other names of its module, and its commands.
    others: &'static [&'static str],
    /// The first argument that this is about, if it has several uses.
    uses: &'static [&'static str],
    kind: Kind,
    /// Letters of options with a value.
    letters: &'static str,
    /// Long options with a value that may stand apart.
    options: &'static [&'static str],
    /// Long options without a value, where all others have one.
    flags: Option<&'static [&'static str]>,
}

const NONE: Launcher =
    Launcher { name: "", others: &[], uses: &[], kind: Kind::Script, letters: "", options: &[], flags: None };

const LAUNCHERS: &[Launcher] = &[
    Launcher { name: "cProfile", others: &["profile"], letters: "os", options: &["outfile", "sort"], ..NONE },
    Launcher { name: "pdb", others: &["ipdb", "pudb"], letters: "p", options: &["command", "pid"], ..NONE },
    Launcher { name: "trace", letters: "fC", options: &["file", "coverdir", "ignore-module", "ignore-dir"], ..NONE },
    Launcher {
        name: "debugpy",
        options: &[
            "listen",
            "connect",
            "log-to",
            "adapter-access-token",
            "parent-session-pid",
            "pid",
            "configure-qt",
            "configure-subProcess",
        ],
        ..NONE
    },
    Launcher { name: "runpy", kind: Kind::Module, ..NONE },
    Launcher {
        name: "coverage",
        others: &["coverage3"],
        uses: &["run"],
        options: &[
            "data-file",
            "include",
            "omit",
            "rcfile",
            "source",
            "source-pkgs",
            "source-dirs",
            "concurrency",
            "context",
            "debug",
            "save-signal",
        ],
        ..NONE
    },
    Launcher { name: "kernprof", letters: "ospu", options: &["outfile", "setup", "prof-mod", "unit"], ..NONE },
    Launcher {
        name: "scalene",
        options: &[
            "outfile",
            "profile-interval",
            "cpu-percent-threshold",
            "cpu-sampling-rate",
            "profile-only",
            "allocation-sampling-window",
            "malloc-threshold",
            "profile-exclude",
            "column-width",
            "program-path",
        ],
        letters: "o",
        ..NONE
    },
    Launcher { name: "memray", uses: &["run"], letters: "op", options: &["output", "live-port"], ..NONE },
    Launcher { name: "memory_profiler", letters: "o", options: &["pdb-mmem", "precision", "backend"], ..NONE },
    Launcher { name: "mprof", uses: &["run"], letters: "oT", options: &["output", "interval", "backend"], ..NONE },
    Launcher {
        name: "viztracer",
        letters: "o",
        options: &["output_file", "tracer_entries", "max_stack_depth"],
        ..NONE
    },
    Launcher {
        name: "pyinstrument",
        letters: "orp",
        options: &["outfile", "renderer", "interval", "render-option"],
        ..NONE
    },
    Launcher {
        name: "py-spy",
        uses: &["record", "top"],
        kind: Kind::Command,
        letters: "ofdrp",
        options: &["output", "format", "duration", "rate", "pid"],
        ..NONE
    },
    Launcher { name: "mpi4py", letters: "r", options: &["rc"], ..NONE },
    Launcher {
        name: "torch.distributed.run",
        others: &["torchrun", "torch.distributed.launch", "deepspeed", "deepspeed.launcher.runner"],
        letters: "rtH",
        flags: Some(&[
            "standalone",
            "no-python",
            "no_python",
            "module",
            "run-path",
            "run_path",
            "use-env",
            "use_env",
            "no_ssh",
            "no_local_rank",
            "force_multi",
        ]),
        ..NONE
    },
    Launcher {
        name: "accelerate",
        others: &["accelerate.commands.accelerate_cli", "accelerate-launch", "accelerate.commands.launch"],
        uses: &["launch"],
        flags: Some(&[
            "module",
            "no_python",
            "no-python",
            "multi_gpu",
            "multi-gpu",
            "cpu",
            "tpu",
            "quiet",
            "debug",
            "use_deepspeed",
            "use-deepspeed",
            "use_fsdp",
            "use-fsdp",
            "same_network",
            "use_megatron_lm",
            "mps",
        ]),
        ..NONE
    },
    Launcher { name: "streamlit", others: &["streamlit.web.cli"], uses: &["run"], flags: Some(&[]), ..NONE },
    Launcher {
        name: "marimo",
        uses: &["run", "edit"],
        letters: "p",
        options: &["port", "host", "base-url", "proxy"],
        ..NONE
    },
    Launcher {
        name: "panel",
        others: &["bokeh"],
        uses: &["serve"],
        options: &["port", "address", "num-procs"],
        ..NONE
    },
    Launcher {
        name: "IPython",
        others: &["ipython", "ipython3"],
        options: &["profile", "ipython-dir", "ext", "matplotlib"],
        ..NONE
    },
    Launcher { name: "pytest", others: &["py.test"], kind: Kind::Tests, ..NONE },
    Launcher { name: "unittest", kind: Kind::Tests, ..NONE },
    Launcher { name: "papermill", kind: Kind::Notebook, ..NONE },
    Launcher { name: "nbconvert", others: &["jupyter-nbconvert"], kind: Kind::Notebook, ..NONE },
    Launcher { name: "jupyter-execute", others: &["jupyter-run", "nbclient"], kind: Kind::Notebook, ..NONE },
    Launcher {
        name: "ipykernel_launcher",
        others: &[
            "ipykernel",
            "ipykernel.kernelapp",
            "spyder_kernels.console",
            "colab_kernel_launcher",
            "xpython_launcher",
            "google.colab._kernel",
        ],
        kind: Kind::Kernel,
        ..NONE
    },
    Launcher {
        name: "ray",
        uses: &["job submit"],
        kind: Kind::Command,
        options: &[
            "address",
            "job-id",
            "submission-id",
            "runtime-env",
            "runtime-env-json",
            "working-dir",
            "metadata-json",
            "entrypoint-num-cpus",
            "entrypoint-num-gpus",
            "log-style",
        ],
        ..NONE
    },
    Launcher {
        name: "dask",
        others: &["dask-worker", "dask-scheduler", "distributed.cli.dask_worker"],
        kind: Kind::Nothing,
        ..NONE
    },
];

/// The launcher of a command's or a module's name, and what it is told to run.
pub fn target(name: &str, arguments: &[OsString]) -> Option<(&'static str, Target)> {
    if name == "jupyter" {
        return Some(jupyter(arguments));
    }
    let is_it = |launcher: &&Launcher| launcher.name == name || launcher.others.contains(&name);
    let launcher = LAUNCHERS.iter().find(is_it)?;
    Some((launcher.name, read(launcher, arguments)))
}

fn jupyter(arguments: &[OsString]) -> (&'static str, Target) {
    let nothing = || ("jupyter", Target::Program(Program::Other, arguments.to_vec()));
    let Some((first, rest)) = arguments.split_first() else { return nothing() };
    match &*text(first) {
        "nbconvert" => target("nbconvert", rest).unwrap_or_else(nothing),
        "execute" | "run" => target("jupyter-execute", rest).unwrap_or_else(nothing),
        _ => nothing(),
    }
}

fn read(launcher: &Launcher, arguments: &[OsString]) -> Target {
    let itself = || Target::Program(Program::Module(launcher.name.to_owned()), arguments.to_vec());
    let nothing = || Target::Program(Program::Other, arguments.to_vec());
    let mut arguments = arguments;
    if !launcher.uses.is_empty() {
        let used = launcher.uses.iter().find_map(|used| after_words(arguments, used));
        match used {
            Some(rest) => arguments = rest,
            None => return nothing(),
        }
    }
    match launcher.kind {
        Kind::Nothing => nothing(),
        Kind::Kernel => {
            let connection_file = connection_file(arguments);
            Target::Program(Program::Kernel { connection_file }, arguments.to_vec())
        }
        Kind::Notebook => {
            let is_notebook = |argument: &&OsString| text(argument).ends_with(".ipynb");
            let runs = launcher.name != "nbconvert" || arguments.iter().any(|argument| text(argument) == "--execute");
            match arguments.iter().find(is_notebook).filter(|_| runs) {
                Some(notebook) => Target::Program(Program::Notebook(notebook.into()), arguments.to_vec()),
                None => nothing(),
            }
        }
        Kind::Tests => {
            let file = arguments.iter().find_map(|argument| {
                let argument = text(argument);
                let file = argument.split("::").next()?;
                (file.ends_with(".py") && !file.starts_with('-')).then(|| file.to_owned())
            });
            match file {
                Some(file) => Target::Program(Program::Script(file.into()), arguments.to_vec()),
                None => itself(),
            }
        }
        Kind::Script if launcher.name == "IPython" && after_words(arguments, "kernel").is_some() => {
            Target::Program(Program::Kernel { connection_file: connection_file(arguments) }, arguments.to_vec())
        }
        Kind::Script | Kind::Module | Kind::Command => {
            // Newer ones have a word for it.
            let arguments = after_words(arguments, "run").filter(|_| launcher.name == "scalene").unwrap_or(arguments);
            script(launcher, arguments).unwrap_or_else(itself)
        }
    }
}

/// What follows words that the arguments begin with.
fn after_words<'a>(arguments: &'a [OsString], words: &str) -> Option<&'a [OsString]> {
    let mut rest = arguments;
    for word in words.split(' ') {
        let (first, behind) = rest.split_first()?;
        rest = (first == word).then_some(behind)?;
    }
    Some(rest)
}

fn script(launcher: &Launcher, arguments: &[OsString]) -> Option<Target> {
    let mut is_module = launcher.kind == Kind::Module;
    let mut rest = arguments;
    while let Some((first, behind)) = rest.split_first() {
        let said = text(first);
        rest = behind;
        if said == "--" || said == "---" {
            let (first, behind) = rest.split_first()?;
            return Some(found(launcher, is_module, first, behind));
        }
        if let Some(option) = said.strip_prefix("--") {
            let has_value = match launcher.flags {
                _ if option.contains('=') => false,
                Some(flags) => !flags.contains(&option),
                None => launcher.options.contains(&option) || option.starts_with("configure-"),
            };
            is_module |= option == "module";
            if has_value && !option.contains('=') {
                rest = rest.split_first().map_or(rest, |(_, behind)| behind);
            }
            continue;
        }
        let Some(letters) = said.strip_prefix('-').filter(|letters| !letters.is_empty()) else {
            return Some(found(launcher, is_module, first, behind));
        };
        // `-c` is a command of the debugger's own to pdb.
        if let Some(attached) =
            letters.strip_prefix('c').filter(|_| launcher.name != "cProfile" && launcher.kind == Kind::Script)
        {
            let code = if attached.is_empty() {
                rest.split_first().map(|(code, _)| text(code))
            } else {
                Some(attached.into())
            };
            rest = if attached.is_empty() { rest.get(1..).unwrap_or_default() } else { rest };
            if launcher.name == "pdb" {
                continue;
            }
            return Some(Target::Program(Program::Command(code?.into_owned()), rest.to_vec()));
        }
        if let Some(attached) = letters.strip_prefix('m') {
            if launcher.kind == Kind::Script {
                if !attached.is_empty() && !attached.starts_with(|c: char| c.is_ascii_digit()) {
                    return Some(Target::Program(Program::Module(attached.to_owned()), rest.to_vec()));
                }
                is_module = true;
            }
            continue;
        }
        // `-fm`: the last of a cluster.
        if launcher.kind == Kind::Script && letters.ends_with('m') && !letters.contains(['/', '.', '-']) {
            is_module = true;
            continue;
        }
        let last = letters.chars().position(|letter| launcher.letters.contains(letter));
        if last.is_some_and(|last| last + 1 == letters.chars().count()) {
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    None
}

fn found(launcher: &Launcher, is_module: bool, first: &OsString, behind: &[OsString]) -> Target {
    let said = text(first);
    if is_module {
        return Target::Program(Program::Module(said.into_owned()), behind.to_vec());
    }
    if said.ends_with(".ipynb") {
        return Target::Program(Program::Notebook(first.into()), behind.to_vec());
    }
    let is_script = said.ends_with(".py") || said.ends_with(".pyw");
    if launcher.kind == Kind::Command || (!is_script && super::is_command(&said)) {
        return Target::Command(std::iter::once(first).chain(behind).cloned().collect());
    }
    if let (false, true) = (is_script, launcher.flags.is_some()) {
        // An option that is not known has a value perhaps, which was taken for the script.
        let is_script = |argument: &OsString| text(argument).ends_with(".py");
        if let Some(at) = behind.iter().position(is_script) {
            let (before, rest) = behind.split_at_checked(at).unwrap_or_default();
            if let (true, Some((script, rest))) =
                (before.iter().all(|word| text(word).starts_with('-')), rest.split_first())
            {
                return Target::Program(Program::Script(script.into()), rest.to_vec());
            }
        }
    }
    Target::Program(Program::Script(first.into()), behind.to_vec())
}

/// The file behind `-f`, `-f=`, `--f=` or the long name of the same.
fn connection_file(arguments: &[OsString]) -> Option<std::path::PathBuf> {
    let mut rest = arguments.iter();
    while let Some(argument) = rest.next() {
        let said = text(argument);
        if said == "-f" || said == "--f" {
            return rest.next().map(Into::into);
        }
        let attached =
            ["-f=", "--f=", "--IPKernelApp.connection_file="].iter().find_map(|name| said.strip_prefix(name));
        if let Some(file) = attached {
            return Some(file.into());
        }
    }
    None
}
