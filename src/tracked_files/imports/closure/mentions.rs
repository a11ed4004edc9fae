//! Modules and files of the project that data files name.

use std::path::{Path, PathBuf};

use super::super::graph::{FileForm, ReasonKind};
use super::super::mentions::{Mentions, mentions_in};
use super::{At, Closure, Data};
use crate::python::import_system::{Form, normalised};

/// Words that are kept of all data files.
const MAX_WORDS: usize = 20_000;

impl Closure<'_> {
    /// Brings in what a data file names, and keeps the words that may be modules.
    pub(super) fn names_in_data(&mut self, at: At, path: &Path) {
        if !self.looked_into.insert(path.to_owned()) {
            return;
        }
        // A file that cannot be read is told when it is to be stored.
        let read = || std::fs::read(path).unwrap_or_default();
        let Some(Mentions { names, words, paths }) = mentions_in(path, read) else { return };
        for name in names {
            self.beginning(at, &name, 1);
        }
        for word in words {
            if self.words.len() < MAX_WORDS {
                self.words.push((at, word));
            }
        }
        for named in paths {
            if let Some(found) = self.named_in_data(path, &named) {
                self.file_in_data(at, found);
            }
        }
    }

    /// The file that a path in a data file leads to: from where the run is, or from where the data file is.
    fn named_in_data(&self, path: &Path, named: &str) -> Option<PathBuf> {
        let Self { folders, .. } = self;
        let from =
            [&folders.working, &folders.entry, &folders.root].map(PathBuf::as_path).into_iter().chain(path.parent());
        let found = from.map(|folder| normalised(&folder.join(named))).find(|found| found.is_file())?;
        folders.is_inside(&found).then_some(found)
    }

    fn file_in_data(&mut self, at: At, path: PathBuf) {
        if path.extension().is_none_or(|ending| ending != "py") {
            return self.data.push(Data { at, path, kind: ReasonKind::Opened });
        }
        self.code_file(at, path, FileForm::Python(Form::Source), ReasonKind::Opened);
    }

    /// Brings in the modules that words in data files name, if some source imports by names that are not known.
    pub(super) fn modules_in_data(&mut self) {
        if !self.words.is_empty() && self.reads.values().any(|read| read.scan.loads_unknown.is_some()) {
            for (at, word) in std::mem::take(&mut self.words) {
                self.beginning(at, &word, 1);
            }
        }
    }
}
