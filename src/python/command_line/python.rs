//! Python's own options.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use super::{Program, text};
use crate::python::flags::Flags;

/// What stands behind the name of a Python.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Started {
    /// What it runs.
    pub program: Program,
    /// The arguments of that.
    pub arguments: Vec<OsString>,
    /// The options that matter.
    pub flags: Flags,
}

/// Whether a program of that name is a Python: `python`, `python3.12`, `pypy3`, `pythonw.exe`.
pub fn is_python(name: &str) -> bool {
    let name = name.strip_suffix(".exe").unwrap_or(name);
    let Some(rest) = name.strip_prefix("python").or_else(|| name.strip_prefix("pypy")) else { return false };
    let rest = rest.strip_prefix('w').unwrap_or(rest);
    // Behind the version: free-threaded, a debug build, a window's.
    let version = rest.trim_end_matches(['t', 'd', 'w', 'm']);
    let behind = rest.len() - version.len();
    version.chars().all(|char| char.is_ascii_digit() || char == '.') && (behind == 0 || !version.is_empty())
}

/// Reads the options of a Python and what follows.
pub fn read(arguments: &[OsString]) -> Started {
    let mut flags = Flags::default();
    let mut rest = arguments.iter();
    let done = |program, rest: std::slice::Iter<'_, OsString>, flags| Started {
        program,
        arguments: rest.as_slice().to_vec(),
        flags,
    };
    while let Some(argument) = rest.next() {
        let said = text(argument);
        if said == "-" {
            return done(Program::StandardInput, rest, flags);
        }
        if said == "--" {
            break;
        }
        if let Some(name) = said.strip_prefix("--") {
            match name {
                "check-hash-based-pycs" | "jit" => drop(rest.next()),
                "version" => return done(Program::Other, rest, flags),
                _ if name.starts_with("help") => return done(Program::Other, rest, flags),
                _ => {}
            }
            continue;
        }
        let Some(letters) = said.strip_prefix('-') else {
            return done(Program::Script(PathBuf::from(argument)), rest, flags);
        };
        let mut letters = letters.chars();
        while let Some(letter) = letters.next() {
            match letter {
                'I' => flags.isolated = true,
                'S' => flags.no_site = true,
                's' => flags.no_user_site = true,
                'P' => flags.safe_path = true,
                'E' => flags.ignore_environment = true,
                'V' | 'h' | '?' => return done(Program::Other, rest, flags),
                'c' | 'm' | 'W' | 'X' => {
                    let attached = letters.as_str();
                    let value =
                        if attached.is_empty() { rest.next().map(|next| text(next)) } else { Some(attached.into()) };
                    let program = match (letter, value) {
                        (_, None) => Program::Other,
                        ('c', Some(code)) => Program::Command(code.into_owned()),
                        ('m', Some(module)) => Program::Module(module.into_owned()),
                        _ => break,
                    };
                    return done(program, rest, flags);
                }
                _ => {}
            }
        }
    }
    match rest.next() {
        Some(script) if script == OsStr::new("-") => done(Program::StandardInput, rest, flags),
        Some(script) => done(Program::Script(PathBuf::from(script)), rest, flags),
        None => done(Program::Interactive, rest, flags),
    }
}
