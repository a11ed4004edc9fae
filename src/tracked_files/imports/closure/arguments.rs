//! The program's arguments: files that they name, and modules where the program imports by names that it is told.

use std::collections::HashSet;
use std::ffi::OsString;
use std::path::PathBuf;

use super::super::graph::{Certainty, FileForm, ReasonKind};
use super::{At, Closure, Data};
use crate::python::import_system::{Form, normalised};

/// Arguments that are looked at.
const MAX_ARGUMENTS: usize = 1000;
/// A longer argument names nothing.
const MAX_BYTES: usize = 4096;

/// What one argument may name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Argument {
    text: String,
    /// Whether it is where results go.
    is_output: bool,
}

/// What the arguments may name: each, and what stands behind `=` in it.
pub fn read(arguments: &[OsString]) -> Vec<Argument> {
    let mut out = Vec::new();
    let mut option = "";
    for text in arguments.iter().take(MAX_ARGUMENTS).filter_map(|argument| argument.to_str()) {
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        if let Some(value) = value {
            out.push(Argument { text: value.to_owned(), is_output: is_output(name) });
        }
        if text.starts_with('-') {
            option = if value.is_none() { name } else { "" };
            continue;
        }
        out.push(Argument { text: text.to_owned(), is_output: is_output(option) });
        option = "";
    }
    out.retain(|argument| !argument.text.is_empty() && argument.text.len() <= MAX_BYTES);
    out
}

/// Whether an option says where results go: what is there is of an earlier run.
fn is_output(option: &str) -> bool {
    let Some(name) = option.strip_prefix('-') else { return false };
    let name = name.trim_start_matches('-').to_ascii_lowercase().replace('_', "-");
    let first = name.split('-').next().unwrap_or_default();
    matches!(first, "o" | "out" | "output" | "outfile" | "outdir" | "logfile") || name == "log-file"
}

impl Closure<'_> {
    /// Brings in the files that arguments name. Python is followed: the program may run it.
    pub(super) fn files_in_arguments(&mut self, entry: Option<usize>) {
        let Some(node) = entry else { return };
        let at = At { node, finder: self.finder_of(node), line: 0, certainty: Certainty::Conditional };
        for argument in std::mem::take(&mut self.arguments) {
            let path = normalised(&self.folders.working.join(&argument.text));
            if !argument.is_output && path.is_file() && self.folders.is_inside(&path) {
                self.file_in_argument(at, path);
            }
            self.arguments.push(argument);
        }
    }

    fn file_in_argument(&mut self, at: At, path: PathBuf) {
        let form = match path.extension().and_then(|ending| ending.to_str()) {
            Some("py") => FileForm::Python(Form::Source),
            Some("ipynb") => FileForm::Notebook,
            _ => return self.data.push(Data { at, path, kind: ReasonKind::Argument }),
        };
        self.code_file(at, path, form, ReasonKind::Argument);
    }

    /// Brings in the modules that arguments name, for sources that import by names that are not known.
    pub(super) fn modules_in_arguments(&mut self) {
        if self.arguments.is_empty() {
            return;
        }
        let loads = self.reads.iter().filter_map(|(number, read)| Some((*number, read.scan.loads_unknown?)));
        let mut loads: Vec<(usize, u32)> = loads.collect();
        loads.sort_unstable();
        // They all find the same.
        let mut finders = HashSet::new();
        loads.retain(|(number, _)| finders.insert(self.finder_of(*number)));
        let names: Vec<String> = self.arguments.iter().filter_map(|argument| module_in(&argument.text)).collect();
        for (node, line) in loads {
            let at = At { node, finder: self.finder_of(node), line, certainty: Certainty::Lazy };
            for name in &names {
                self.beginning(at, name, 2);
            }
        }
    }
}

/// The module in `pkg.mod` or `pkg.mod:Class`.
fn module_in(text: &str) -> Option<String> {
    let name = text.split(':').next().unwrap_or(text);
    let is_name = |part: &str| {
        part.starts_with(|c: char| c.is_alphabetic() || c == '_')
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    };
    name.split('.').all(is_name).then(|| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(arguments: &[&str]) -> Vec<String> {
        let arguments: Vec<OsString> = arguments.iter().map(OsString::from).collect();
        let shown =
            |argument: Argument| if argument.is_output { format!("({})", argument.text) } else { argument.text };
        read(&arguments).into_iter().map(shown).collect()
    }

    #[test]
    fn arguments_name_files_and_where_results_go() {
        assert_eq!(told(&["--config", "a.json", "b.csv", "-x"]), ["a.json", "b.csv"]);
        assert_eq!(told(&["--config=a.json", "data.path=b.csv"]), ["a.json", "b.csv", "data.path=b.csv"]);
        assert_eq!(
            told(&["-o", "a.csv", "b.csv", "--output-file=c.csv", "--log_file", "d"]),
            ["(a.csv)", "b.csv", "(c.csv)", "(d)"]
        );
        assert_eq!(told(&["--out=", "", &"x".repeat(5000)]), [""; 0]);
    }

    #[test]
    fn modules_may_have_a_class() {
        for (text, expected) in [
            ("configs.production", Some("configs.production")),
            ("live:Config", Some("live")),
            ("a/b.py", None),
            ("1.5", None),
            ("a..b", None),
        ] {
            assert_eq!(module_in(text).as_deref(), expected, "{text}");
        }
    }
}
