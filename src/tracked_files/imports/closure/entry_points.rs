//! Plugins that the metadata of installed packages names by entry points, as far as they are modules of the project.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::rc::Rc;

use super::super::graph::ReasonKind;
use super::{At, Closure, Data};
use crate::python::import_system::{Finder, Found};

/// A longer file is nobody's list of entry points.
const MAX_BYTES: u64 = 1 << 20;
/// Entry points of all packages.
const MAX_ENTRY_POINTS: usize = 10_000;
/// Groups that name commands, which a program does not load.
const COMMANDS: [&str; 2] = ["console_scripts", "gui_scripts"];

impl Closure<'_> {
    /// Brings in the modules of the project in a group of entry points; in any group where that is empty.
    pub(super) fn plugins(&mut self, at: At, group: &str) {
        for (own, module) in self.entry_points_of(at).iter() {
            let is_wanted = if group.is_empty() { !COMMANDS.contains(&own.as_str()) } else { own == group };
            if is_wanted && matches!(self.find(at.finder, module), Found::Module(_)) {
                self.touch(Some(at), module, ReasonKind::Plugin, at.certainty, at.line);
            }
        }
    }

    /// The groups and modules of all that is installed. What a package in development has beside it is read as the rest of
    /// the project is.
    fn entry_points_of(&mut self, at: At) -> Rc<Vec<(String, String)>> {
        if let Some(known) = self.entry_points.get(&at.finder) {
            return Rc::clone(known);
        }
        let files = self.finders.get_mut(at.finder).map(Finder::entry_points).unwrap_or_default();
        let mut found = Vec::new();
        for file in files {
            found.extend(entry_points(&content_of(&file)));
            found.truncate(MAX_ENTRY_POINTS);
            let is_installed = self.finders.get(at.finder).is_none_or(|finder| finder.is_installed(&file));
            if !is_installed && self.folders.is_inside(&file) {
                self.data.push(Data { at, path: file, kind: ReasonKind::Opened });
            }
        }
        let found = Rc::new(found);
        self.entry_points.insert(at.finder, Rc::clone(&found));
        found
    }
}

fn content_of(file: &Path) -> String {
    let mut bytes = Vec::new();
    // What cannot be read names nothing.
    let _ = File::open(file).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    String::from_utf8_lossy(&bytes).into_owned()
}

/// The groups and modules in the text of an `entry_points.txt`: `name = module:object [extra]` below `[group]`.
fn entry_points(text: &str) -> Vec<(String, String)> {
    let mut group = "";
    let mut out = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            group = name.trim();
        } else if let Some((_, target)) = line.split_once('=') {
            let module = target.split([':', '[']).next().unwrap_or_default().trim();
            if !module.is_empty() && out.len() < MAX_ENTRY_POINTS {
                out.push((group.to_owned(), module.to_owned()));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_points_name_modules_in_groups() {
        let text = "[console_scripts]\nrun = desk.cli:main\n\n# no\n[ desk.signals ]\nfast=desk_plugins.fast:signal [x]\n\
                    slow = desk_plugins.slow\nbroken\nnone =\n";
        let found = entry_points(text);
        let found: Vec<(&str, &str)> = found.iter().map(|(group, module)| (group.as_str(), module.as_str())).collect();
        let expected = [
            ("console_scripts", "desk.cli"),
            ("desk.signals", "desk_plugins.fast"),
            ("desk.signals", "desk_plugins.slow"),
        ];
        assert_eq!(found, expected);
    }
}
