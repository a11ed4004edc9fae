//! Imports: which modules they bring in.

use std::path::{Path, PathBuf};

use foldhash::HashMap;

use super::super::graph::{Certainty, FileForm, Node, ReasonKind};
use super::{At, Attribute, Closure, Missing, Star, data_node};
use crate::python::import_system::{Form, Found, Module};
use crate::python::source::{How, Import};

impl Closure<'_> {
    /// The absolute name of what is imported from a file; `None` where dots lead above the top.
    pub(super) fn absolute(&mut self, number: usize, level: u32, module: &str) -> Option<String> {
        if level == 0 {
            return Some(module.to_owned());
        }
        let node = self.graph.node(number)?;
        let package = match node.package.clone() {
            Some(package) => {
                let mut package = package.as_str();
                for _ in 1..level {
                    package = package.rsplit_once('.')?.0;
                }
                package.to_owned()
            }
            // A script that imports relatively fails, unless something else runs it as a part of its package.
            None => {
                let (folder, finder) = (node.path.ancestors().nth(level as usize)?.to_owned(), node.finder);
                self.assumed_package(finder, folder)
            }
        };
        Some(if module.is_empty() { package } else { format!("{package}.{module}") })
    }

    /// The name by which a folder is known as a package though nothing says that it is one.
    pub(super) fn assumed_package(&mut self, finder: usize, folder: PathBuf) -> String {
        let next = format!("\0{}", self.assumed.len());
        let name = self.assumed.entry(folder.clone()).or_insert(next).clone();
        if let Some(finder) = self.finders.get_mut(finder) {
            finder.assume_package(&name, &folder);
        }
        name
    }

    pub(super) fn import(&mut self, number: usize, import: &Import) {
        let Some(certainty) = self.certainty(number, import.when) else { return };
        let finder = self.finder_of(number);
        let at = At { node: number, finder, line: import.line, certainty };
        let missing = || Missing { node: number, import: import.clone() };
        if import.how == How::Literal {
            return self.literal(at, import);
        }
        if import.how == How::Given {
            self.given.push((number, import.clone()));
            return;
        }
        if import.how == How::EntryPoints {
            self.plugins(at, &import.module);
            // Further folders of the search path may have more.
            self.missing.push(missing());
            return;
        }
        let Some(name) = self.absolute(number, import.level, &import.module) else {
            self.missing.push(missing());
            return;
        };
        let kind = if import.how == How::Statement { ReasonKind::Import } else { ReasonKind::DynamicImport };
        let is_found = self.touch(Some(at), &name, kind, certainty, import.line);
        if !is_found {
            self.missing.push(missing());
            return;
        }
        if matches!(import.how, How::Prefix | How::AllSubmodules) {
            let names = self.finders.get_mut(finder).map(|finder| finder.submodules(&name)).unwrap_or_default();
            for submodule in names {
                self.submodule(at, &name, &submodule, kind);
            }
        }
        if import.how == How::AllBelow {
            self.all_below(at, &name);
        }
        // What is imported from a plain module is none.
        let is_package = self.finders.get_mut(finder).is_some_and(|finder| finder.is_package(&name));
        for imported in import.names.iter().flatten().filter(|_| is_package) {
            if imported == "*" {
                self.stars.push(Star { from: number, finder, package: name.clone(), certainty, line: import.line });
            } else {
                self.submodule(at, &name, imported, kind);
            }
        }
    }

    /// Brings in the submodules of a package, and those of these.
    pub(super) fn all_below(&mut self, at: At, package: &str) {
        /// Packages within packages.
        const MAX_PARTS: usize = 20;
        let mut packages = vec![package.to_owned()];
        while let Some(package) = packages.pop() {
            let names = self.finders.get_mut(at.finder).map(|finder| finder.submodules(&package)).unwrap_or_default();
            for name in names {
                self.submodule(at, &package, &name, ReasonKind::DynamicImport);
                let full = format!("{package}.{name}");
                let is_package =
                    matches!(self.find(at.finder, &full), Found::Module(module) if !module.folders.is_empty());
                if is_package && full.split('.').count() < MAX_PARTS {
                    packages.push(full);
                }
            }
        }
    }

    /// Brings in what a string names, if it begins with the name of a local module.
    pub(super) fn literal(&mut self, at: At, import: &Import) {
        let at = At { certainty: at.certainty.max(Certainty::Lazy), ..at };
        if !self.beginning(at, &import.module, 2) {
            self.missing.push(Missing { node: at.node, import: import.clone() });
        }
    }

    /// Brings in the longest beginning of a name that is a module of the project, of at least so many parts if there are as
    /// many. False where nothing at all is there.
    pub(super) fn beginning(&mut self, at: At, name: &str, least: usize) -> bool {
        let ends = name.match_indices('.').map(|(end, _)| end).skip(least.saturating_sub(1)).chain([name.len()]);
        for part in ends.filter_map(|end| name.get(..end)).collect::<Vec<_>>().into_iter().rev() {
            match self.find(at.finder, part) {
                Found::Module(module) if !module.is_assumed => {
                    self.touch(Some(at), part, ReasonKind::DynamicImport, at.certainty, at.line);
                    return true;
                }
                Found::Module(_) | Found::Namespace(_) | Found::Installed => return true,
                Found::Missing => {}
            }
        }
        false
    }

    /// Brings in a submodule, if there is one of that name.
    pub(super) fn submodule(&mut self, at: At, package: &str, name: &str, kind: ReasonKind) {
        let full = format!("{package}.{name}");
        match self.find(at.finder, &full) {
            Found::Module(module) => self.bring_in(Some(at), &module, &full, kind, at.certainty, at.line),
            Found::Missing => {
                let (package, name) = (package.to_owned(), name.to_owned());
                self.attributes.push(Attribute { at, package, name, kind });
            }
            Found::Namespace(_) | Found::Installed => {}
        }
    }

    /// Brings in a module and the packages above it. Whether it is there, or at least installed.
    pub(super) fn touch(
        &mut self,
        at: Option<At>,
        name: &str,
        kind: ReasonKind,
        certainty: Certainty,
        line: u32,
    ) -> bool {
        let finder = at.map_or(0, |at| at.finder);
        let ends = name.match_indices('.').map(|(end, _)| end).chain([name.len()]);
        for end in ends {
            let part = name.get(..end).unwrap_or(name);
            let last = if end == name.len() { kind } else { ReasonKind::PackageInit };
            if let Some(number) = self.brought.get(finder).and_then(|known| known.get(part)) {
                self.connect(at, *number, last, certainty, line, true);
                continue;
            }
            match self.find(finder, part) {
                // Where a condition decides, what only lies in the project is not what Python finds: it goes the other way;
                // unless the program cannot do without that package anyway.
                Found::Module(module)
                    if module.is_assumed
                        && certainty == Certainty::Conditional
                        && part.len() == name.split('.').next().map_or(0, str::len)
                        && self.graph.number_of(&module.file).is_none() =>
                {
                    return false;
                }
                Found::Module(module) => self.bring_in(at, &module, part, last, certainty, line),
                Found::Namespace(_) => {}
                Found::Installed => {
                    let is_standard = self.finders.get(finder).is_some_and(|finder| finder.is_standard(part));
                    if certainty != Certainty::TypeOnly && !is_standard && !self.installed.contains(part) {
                        self.installed.insert(part.to_owned());
                    }
                    return true;
                }
                Found::Missing => return false,
            }
        }
        true
    }

    pub(super) fn bring_in(
        &mut self,
        at: Option<At>,
        module: &Module,
        name: &str,
        kind: ReasonKind,
        certainty: Certainty,
        line: u32,
    ) {
        let finder = at.map_or(0, |at| at.finder);
        let node = node_of(module, name, finder);
        let number = self.enqueue(at, node, kind, certainty, line);
        if self.brought.len() <= finder {
            self.brought.resize_with(finder + 1, HashMap::default);
        }
        if let Some(known) = self.brought.get_mut(finder) {
            known.insert(name.to_owned(), number);
        }
        if module.form == Form::Extension
            && let Some(source) = self.source_beside(finder, &module.file)
        {
            let base = module.base.clone();
            let node = data_node(source, base);
            self.enqueue(Some(At { node: number, finder, line: 0, certainty }), node, ReasonKind::Source, certainty, 0);
        }
    }

    /// The Cython source beside an extension module.
    pub(super) fn source_beside(&mut self, finder: usize, extension: &Path) -> Option<PathBuf> {
        let name = extension.file_name()?.to_str()?.split('.').next()?;
        let source = extension.with_file_name(format!("{name}.pyx"));
        self.finders.get_mut(finder)?.has_file(&source).then_some(source)
    }
}

pub(super) fn node_of(module: &Module, name: &str, finder: usize) -> Node {
    let is_package = !module.folders.is_empty();
    let parent = name.rsplit_once('.').map_or("", |(parent, _)| parent);
    let package = if is_package { name } else { parent };
    Node {
        path: module.file.clone(),
        base: module.base.clone(),
        form: FileForm::Python(module.form),
        is_main: false,
        // Top-level modules have no package: their relative imports fail.
        package: Some(package.to_owned()).filter(|package| !package.is_empty()),
        module: Some(name.to_owned()),
        is_assumed: module.is_assumed,
        finder,
    }
}
