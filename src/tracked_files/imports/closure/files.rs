//! Files that are named by their paths, listed, or named in data.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::super::graph::{Certainty, FileForm, Node, ReasonKind};
use super::super::listed::{is_pattern, matches};
use super::super::named_path::candidates;
use super::{At, Closure, Data, data_node};
use crate::python::import_system::Form;
use crate::python::source::{Base, FileUse, Listed, ListedUse, MARK, NamedFile, Package, PathExpression};

/// Files that one path may mean of which a part is not known.
const MAX_ONE_OF: usize = 100;

impl Closure<'_> {
    /// Looks for the files that were not there yet, and for those that are listed.
    pub(super) fn look_for_files(&mut self) {
        let further = self.folders.further.len();
        let has_more = std::mem::replace(&mut self.looked_in, further) != further;
        for (number, file) in std::mem::take(&mut self.named) {
            let is_open = has_more || file.path.rest.contains(MARK);
            if !is_open || !self.named_file(number, &file) {
                self.named.push((number, file));
            }
        }
        for (number, listed) in std::mem::take(&mut self.listed) {
            self.listed_files(number, &listed);
        }
    }

    /// Brings in the files that are listed, but for those of folders with code, unless the pattern asks for some kind.
    pub(super) fn listed_files(&mut self, number: usize, listed: &Listed) {
        let Some((source, path)) = self.filled_in(number, &listed.path) else { return };
        let patterns = candidates(&self.folders, &source, &path);
        let last = listed.path.rest.rsplit('/').next().unwrap_or_default();
        let suffix = last.rsplit_once('.').map(|(_, suffix)| suffix).filter(|suffix| !is_pattern(suffix));
        let is_deep = listed.path.rest.split('/').any(|part| part == "**");
        for pattern in patterns {
            let fixed: PathBuf = pattern.iter().take_while(|part| !part.to_str().is_some_and(is_pattern)).collect();
            let holds_root = self.folders.root.starts_with(&fixed);
            let loads = matches!(listed.usage, ListedUse::Modules | ListedUse::PublicModules);
            let may_be_modules = suffix.is_none() && loads && !(holds_root && is_deep);
            if may_be_modules && self.listed_modules(number, listed, &pattern) {
                return;
            }
            if !fixed.starts_with(&self.folders.root) && !holds_root || holds_root && (is_deep || suffix.is_none()) {
                continue;
            }
            if suffix.is_none() && self.holds_code(&fixed) {
                continue;
            }
            let found = matches(&pattern);
            // Which of so many is meant nobody knows.
            if listed.usage == ListedUse::OneOf && found.len() > MAX_ONE_OF {
                continue;
            }
            if suffix.is_none() && found.iter().any(|path| path.extension().is_some_and(|own| own == "py")) {
                continue;
            }
            let mut is_any = false;
            for path in found.into_iter().filter(|path| path.is_file()) {
                is_any = true;
                let path = PathExpression { base: Base::Absolute, rest: path.to_string_lossy().into_owned() };
                let file = NamedFile { line: listed.line, path, usage: FileUse::Data, when: listed.when };
                self.named_file(number, &file);
            }
            if is_any {
                return;
            }
        }
    }

    /// Brings in the modules directly in a folder that is listed by who loads modules by names that are not known. Whether
    /// there are any.
    fn listed_modules(&mut self, number: usize, listed: &Listed, pattern: &Path) -> bool {
        let Some(certainty) = self.certainty(number, listed.when) else { return true };
        let finder = self.finder_of(number);
        if !self.folders.is_inside(pattern.parent().unwrap_or(pattern)) {
            return false;
        }
        let is_private = |path: &Path| path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"_"));
        let mut found = matches(&pattern.with_extension("py"));
        found.retain(|path| path.is_file() && !(listed.usage == ListedUse::PublicModules && is_private(path)));
        let at = At { node: number, finder, line: listed.line, certainty };
        let is_any = !found.is_empty();
        for path in found {
            self.code_file(at, path, FileForm::Python(Form::Source), ReasonKind::Run);
        }
        is_any
    }

    /// Brings in code that is known by its path, and is followed as what names it is.
    pub(super) fn code_file(&mut self, at: At, path: PathBuf, form: FileForm, kind: ReasonKind) {
        let base = path.parent().unwrap_or(&path).to_owned();
        let node = Node { form, finder: at.finder, ..data_node(path, base) };
        self.enqueue(Some(at), node, kind, at.certainty, at.line);
    }

    /// Whether modules of the run lie in a folder.
    pub(super) fn holds_code(&self, folder: &Path) -> bool {
        self.reads
            .keys()
            .filter_map(|number| self.graph.node(*number))
            .any(|node| node.path.starts_with(folder) && matches!(node.form, FileForm::Python(_)))
    }

    /// Brings in a file that is named; false where it is not there.
    pub(super) fn named_file(&mut self, number: usize, file: &NamedFile) -> bool {
        let Some(certainty) = self.certainty(number, file.when) else { return true };
        let Some(node) = self.graph.node(number) else { return true };
        let path = node.path.clone();
        let found = match &file.usage {
            FileUse::Resource(package) => self.resource(number, package, &file.path.rest),
            _ if file.path.rest.contains(MARK) => {
                let Some((source, path)) = self.filled_in(number, &file.path) else { return false };
                candidates(&self.folders, &source, &path).into_iter().find(|path| path.is_file())
            }
            _ => candidates(&self.folders, &path, &file.path).into_iter().find(|path| path.is_file()),
        };
        let Some(found) = found.filter(|found| self.folders.is_inside(found)) else { return false };
        let finder = self.finder_of(number);
        let at = At { node: number, finder, line: file.line, certainty };
        let base = found.parent().unwrap_or(&found).to_owned();
        let code = match found.extension().and_then(|extension| extension.to_str()) {
            Some("ipynb") => FileForm::Notebook,
            Some("pyc") => FileForm::Python(Form::Bytecode),
            _ => FileForm::Python(Form::Source),
        };
        // Python that is named may be run in ways that cannot be seen.
        let is_source = found.extension().is_some_and(|extension| extension == "py") && file.line > 0;
        let (kind, node) = match &file.usage {
            FileUse::Data if is_source => {
                let form = FileForm::Python(Form::Source);
                (ReasonKind::Opened, Node { form, finder, ..data_node(found, base) })
            }
            FileUse::Code => (ReasonKind::Run, Node { form: code, is_main: true, finder, ..data_node(found, base) }),
            FileUse::Process => {
                // In a process of its own it finds its neighbours first.
                let finder = self.finder_in(finder, &base);
                (ReasonKind::Run, Node { form: code, is_main: true, finder, ..data_node(found, base) })
            }
            FileUse::Library => (ReasonKind::Library, data_node(found, base)),
            FileUse::Data | FileUse::Resource(_) => {
                // Of bytecode, what stands in line 0 is the source that it was made from.
                let kind = if file.line == 0 { ReasonKind::Source } else { ReasonKind::Opened };
                self.data.push(Data { at, path: found, kind });
                return true;
            }
        };
        self.enqueue(Some(at), node, kind, certainty, file.line);
        true
    }

    /// Brings in the data files, but for those that the run writes: they are what comes of it.
    pub(super) fn take_data(&mut self) {
        let mut written = BTreeSet::new();
        let writing = self.reads.iter().filter(|(_, read)| !read.scan.written.is_empty());
        for (number, read) in writing.map(|(number, read)| (*number, Rc::clone(read))).collect::<Vec<_>>() {
            let filled = read.scan.written.iter().filter_map(|path| self.filled_in(number, path)).collect::<Vec<_>>();
            let paths = filled.iter().map(|(source, path)| candidates(&self.folders, source, path));
            written.extend(paths.filter_map(|paths| paths.into_iter().find(|path| path.is_file())));
        }
        for Data { at, path, kind } in std::mem::take(&mut self.data) {
            if written.contains(&path) {
                continue;
            }
            if path.metadata().is_ok_and(|metadata| metadata.len() > self.data_bytes) {
                let is_module = self.graph.number_of(&path).is_some();
                if at.certainty != Certainty::TypeOnly && !is_module {
                    let by = self.line_of(at.node, at.line);
                    self.large.entry(path).or_insert(by);
                }
                continue;
            }
            let base = path.parent().unwrap_or(&path).to_owned();
            let number = self.enqueue(Some(at), data_node(path.clone(), base), kind, at.certainty, at.line);
            self.names_in_data(At { node: number, line: 0, certainty: Certainty::Lazy, ..at }, &path);
        }
    }

    pub(super) fn resource(&mut self, number: usize, package: &Package, rest: &str) -> Option<PathBuf> {
        let name = match self.graph.node(number) {
            Some(node) if package.level > 0 && node.package.is_none() && package.module.is_empty() => {
                return Some(node.path.parent()?.join(rest)).filter(|path| path.is_file());
            }
            _ => self.absolute(number, package.level, &package.module)?,
        };
        let finder = self.finder_of(number);
        let folders = self.finders.get_mut(finder)?.folders_of(&name);
        folders.into_iter().map(|folder| folder.join(rest)).find(|path| path.is_file())
    }
}
