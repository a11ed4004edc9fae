//! Tools that run a program in an environment that they manage: uv, poetry, conda and others.

use std::ffi::OsString;
use std::path::PathBuf;

use super::text;

/// What such a tool is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Managed {
    /// The tool, with the word for running.
    pub runner: String,
    /// The program with its arguments.
    pub command: Vec<OsString>,
    /// A Python that was asked for, or the folder of an environment.
    pub python: Option<PathBuf>,
    /// The project whose environment it is.
    pub project: Option<PathBuf>,
    /// The folder that it goes to.
    pub folder: Option<PathBuf>,
    /// The name of an environment of conda's.
    pub environment: Option<String>,
    /// Whether the command is a module (`-m`), or a script whatever its name is (`-s`).
    pub form: Form,
}

/// How a command is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Form {
    /// By its name.
    #[default]
    Command,
    /// A module.
    Module,
    /// A script.
    Script,
}

/// Options of uv with a value; all others have none.
const UV_OPTIONS: &[&str] = &[
    "with",
    "with-editable",
    "with-requirements",
    "python",
    "project",
    "directory",
    "env-file",
    "extra",
    "no-extra",
    "group",
    "no-group",
    "only-group",
    "package",
    "no-package",
    "index",
    "default-index",
    "index-url",
    "extra-index-url",
    "find-links",
    "refresh-package",
    "resolution",
    "prerelease",
    "fork-strategy",
    "config-file",
    "cache-dir",
    "color",
    "python-platform",
    "upgrade-package",
    "config-setting",
    "config-settings-package",
    "link-mode",
    "exclude-newer",
    "exclude-newer-package",
    "keyring-provider",
    "index-strategy",
    "no-build-isolation-package",
    "reinstall-package",
    "no-build-package",
    "no-binary-package",
    "allow-insecure-host",
    "python-preference",
    "upgrade-group",
];
const UV_LETTERS: &str = "pwifPCU";
const CONDA_OPTIONS: &[&str] = &["name", "prefix", "cwd"];
const PIXI_OPTIONS: &[&str] =
    &["environment", "manifest-path", "color", "auth-file", "pypi-keyring-provider", "feature"];
const OTHER_OPTIONS: &[&str] =
    &["directory", "project", "venv", "env", "env-var", "python", "config", "data-dir", "cache-dir"];

/// What a runner starts, if a program of that name is one and is told to run something.
pub fn unwrap(name: &str, arguments: &[OsString]) -> Option<Managed> {
    let (options, letters) = match name {
        "uv" => (UV_OPTIONS, UV_LETTERS),
        "conda" | "mamba" | "micromamba" => (CONDA_OPTIONS, "np"),
        "pixi" => (PIXI_OPTIONS, "e"),
        "poetry" => (OTHER_OPTIONS, "CP"),
        "pdm" => (OTHER_OPTIONS, "ps"),
        "hatch" => (OTHER_OPTIONS, "ep"),
        "rye" | "pipenv" => (OTHER_OPTIONS, ""),
        _ => return None,
    };
    let mut found = Managed { runner: format!("{name} run"), ..Managed::default() };
    let mut is_run = false;
    let mut rest = arguments;
    while let Some((first, behind)) = rest.split_first() {
        let said = text(first);
        if said == "--" && is_run {
            rest = behind;
            break;
        }
        if said == "-" || !said.starts_with('-') {
            if is_run {
                break;
            }
            // `hatch -e x run`, and no other word.
            is_run = said == "run";
            rest = behind;
            if !is_run {
                return None;
            }
            continue;
        }
        rest = behind;
        let (option, attached) = match said.split_once('=') {
            Some((option, value)) => (option.to_owned(), Some(OsString::from(value))),
            None => (said.clone().into_owned(), None),
        };
        let long = option.strip_prefix("--");
        let letter = option.strip_prefix('-').filter(|_| long.is_none()).map(|option| option.chars());
        let has_value = match (long, &letter) {
            (Some(long), _) => options.contains(&long),
            (None, Some(letter)) => letter.clone().next_back().is_some_and(|letter| letters.contains(letter)),
            _ => false,
        };
        // `-p3.12`, without anything in between.
        let joined =
            letter.and_then(|mut all| Some((all.next().filter(|first| letters.contains(*first))?, all.as_str())));
        let joined = joined.filter(|(_, value)| !value.is_empty()).map(|(letter, value)| (format!("-{letter}"), value));
        let (option, value) = match (joined, attached, rest.split_first()) {
            (Some((option, value)), None, _) => (option, Some(OsString::from(value))),
            (_, Some(value), _) => (option, Some(value)),
            (None, None, Some((value, behind))) if has_value => {
                rest = behind;
                (option, Some(value.clone()))
            }
            _ => (option, None),
        };
        note(name, &option, value, &mut found);
        if found.form != Form::Command {
            break;
        }
    }
    found.command = rest.to_vec();
    if name == "hatch" {
        // `hatch run test:python x.py`: the environment's name comes first.
        if let Some(first) = found.command.first_mut()
            && let Some((_, command)) = text(first).split_once(':').map(|(a, b)| (a.to_owned(), b.to_owned()))
        {
            *first = command.into();
        }
    }
    (is_run && !found.command.is_empty()).then_some(found)
}

fn note(name: &str, option: &str, value: Option<OsString>, found: &mut Managed) {
    match (name, option, value) {
        ("uv", "-m" | "--module", _) => found.form = Form::Module,
        ("uv", "-s" | "--script" | "--gui-script", _) => found.form = Form::Script,
        ("uv", "-p" | "--python", Some(python)) => found.python = Some(python.into()),
        ("uv" | "poetry" | "pdm", "--project" | "-P", Some(project)) if name != "uv" || option == "--project" => {
            found.project = Some(project.into());
        }
        ("pdm", "-p", Some(project)) => found.project = Some(project.into()),
        ("uv", "--directory", Some(folder)) | ("poetry", "-C" | "--directory", Some(folder)) => {
            found.folder = Some(folder.into());
        }
        ("conda" | "mamba" | "micromamba", "-p" | "--prefix", Some(prefix)) => found.python = Some(prefix.into()),
        ("conda" | "mamba" | "micromamba", "-n" | "--name", Some(name)) => {
            found.environment = Some(text(&name).into_owned());
        }
        ("conda" | "mamba" | "micromamba", "--cwd", Some(folder)) => found.folder = Some(folder.into()),
        _ => {}
    }
}
