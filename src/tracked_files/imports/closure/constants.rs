//! Puts the values of other modules into paths, once these have been read.

use std::path::PathBuf;

use super::Closure;
use crate::python::import_system::Found;
use crate::python::source::{Base, MARK, PathExpression};

/// Values that stand for each other.
const MAX_DEPTH: u32 = 8;

impl Closure<'_> {
    /// A path as the source says it, with every value of another module in its place, and the source that it is relative
    /// to; `None` where such a value is not known.
    pub(super) fn filled_in(&mut self, number: usize, path: &PathExpression) -> Option<(PathBuf, PathExpression)> {
        self.filled_in_below(number, path, 0)
    }

    fn filled_in_below(
        &mut self,
        number: usize,
        path: &PathExpression,
        depth: u32,
    ) -> Option<(PathBuf, PathExpression)> {
        let source = self.path_of(number)?;
        if !path.rest.contains(MARK) {
            return Some((source, path.clone()));
        }
        if depth >= MAX_DEPTH {
            return None;
        }
        let (mut source, mut base, mut text) = (source, path.base, String::new());
        for (at, part) in path.rest.split(MARK).enumerate() {
            // Names stand between two marks.
            if at % 2 == 0 {
                text.push_str(part);
                continue;
            }
            let (from, value) = self.value_of(number, part, depth)?;
            match (value.base, text.is_empty() && base == Base::Working) {
                (_, true) => (source, base, text) = (from, value.base, value.rest),
                (Base::Working, false) => text.push_str(&value.rest),
                _ => return None,
            }
        }
        let relative = base != Base::Absolute;
        let rest = if relative { text.trim_start_matches('/').to_owned() } else { text };
        Some((source, PathExpression { base, rest }))
    }

    /// What a name of another module stands for, which may have it from a third.
    fn value_of(&mut self, number: usize, name: &str, depth: u32) -> Option<(PathBuf, PathExpression)> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let (module, last) = name.rsplit_once('.')?;
        let named = module.trim_start_matches('.');
        let mut level = u32::try_from(module.len() - named.len()).ok()?;
        // Of `.X` the dot is split off: it is the package's own.
        if named.is_empty() {
            level += 1;
        }
        let module = self.absolute(number, level, named)?;
        let Found::Module(found) = self.find(self.finder_of(number), &module) else { return None };
        let holder = self.number_of(&found.file)?;
        let scan = self.scan_of(holder)?;
        if let Some((_, value)) = scan.scan.constants.iter().find(|(known, _)| known == last) {
            return self.filled_in_below(holder, value, depth + 1);
        }
        let import = scan.scan.imports.iter().find(|import| {
            import.names.iter().flatten().any(|known| known == last || known == "*") && import.module != module
        })?;
        let dots = ".".repeat(import.level as usize);
        let dot = if import.module.is_empty() { "" } else { "." };
        self.value_of(holder, &format!("{dots}{}{dot}{last}", import.module), depth + 1)
    }
}
