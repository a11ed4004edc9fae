//! Names of modules that are given to the project's own importers, wherever these are.

use super::Closure;
use crate::python::import_system::Found;
use crate::python::source::{How, Import, Scan};

/// Sources that have a function one from the other.
const MAX_DEPTH: u32 = 8;

fn last_of(name: &str) -> &str {
    name.rsplit(['.', ':']).next().unwrap_or(name)
}

impl Closure<'_> {
    /// Brings in what importers are given, of those that have been read.
    pub(super) fn look_at_given(&mut self) {
        // Most projects have none.
        if self.importers.is_empty() {
            return;
        }
        for (number, import) in std::mem::take(&mut self.given) {
            let callee = import.names.as_deref().and_then(<[String]>::first);
            let callee = callee.filter(|callee| self.importers.contains(last_of(callee)));
            if !callee.is_some_and(|callee| self.is_importer(number, callee, 0)) {
                self.given.push((number, import));
                continue;
            }
            self.import(number, &Import { how: How::Literal, names: None, ..import });
        }
    }

    /// Notes the importers of a source by the last parts of their names, by which nearly all other calls are told from theirs.
    pub(super) fn note_importers(&mut self, scan: &Scan) {
        self.importers.extend(scan.importers.iter().map(|name| last_of(name).to_owned()));
    }

    /// Whether what a source calls by a name imports what it is given.
    fn is_importer(&mut self, number: usize, callee: &str, depth: u32) -> bool {
        if let Some(own) = callee.strip_prefix(':') {
            return self.has_importer(number, own);
        }
        if depth >= MAX_DEPTH {
            return false;
        }
        let named = callee.trim_start_matches('.');
        let Ok(level) = u32::try_from(callee.len() - named.len()) else { return false };
        // What stands before the last dots may be a module, a class in one, or a module in that.
        let ends = named.rmatch_indices('.').map(|(end, _)| (named.get(..end), named.get(end + 1..)));
        for (module, name) in ends.chain([(Some(""), Some(named))]) {
            let (Some(module), Some(name)) = (module, name) else { continue };
            if level == 0 && module.is_empty() {
                continue;
            }
            let Some(full) = self.absolute(number, level, module) else { continue };
            let Found::Module(found) = self.find(self.finder_of(number), &full) else { continue };
            let Some(holder) = self.number_of(&found.file) else { continue };
            if self.has_importer(holder, name) {
                return true;
            }
            return self.imported_as(holder, name).is_some_and(|callee| self.is_importer(holder, &callee, depth + 1));
        }
        false
    }

    fn has_importer(&self, number: usize, name: &str) -> bool {
        self.scan_of(number).is_some_and(|read| read.scan.importers.iter().any(|known| known == name))
    }

    /// What a name of a source stands for that is imported from elsewhere.
    fn imported_as(&self, holder: usize, name: &str) -> Option<String> {
        let read = self.scan_of(holder)?;
        let first = name.split('.').next()?;
        let is_it = |import: &&Import| {
            import.how == How::Statement && import.names.iter().flatten().any(|known| known == first || known == "*")
        };
        let import = read.scan.imports.iter().find(is_it)?;
        let dot = if import.module.is_empty() { "" } else { "." };
        Some(format!("{}{}{dot}{name}", ".".repeat(import.level as usize), import.module))
    }
}
