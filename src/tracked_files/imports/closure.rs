//! Follows from the entry point what each file names, until nothing new is found.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::graph::{Certainty, Edge, FileForm, Graph, Line, Node, ReasonKind};
use super::listed::{is_pattern, matches};
use super::mentions;
use super::named_path::{Folders, candidates};
use super::sources::{Read, Sources};
use crate::python::import_system::{Finder, Form, Found, Module};
use crate::python::interpreter::pth;
use crate::python::source::{
    FileUse, How, Import, Listed, MARK, NamedFile, Package, Scan, SearchPath, SearchPathEdit, When,
};

/// An import that leads to nothing.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Unresolved {
    /// What is imported, as it is written: dots before the name are relative.
    pub module: String,
    /// The line that imports it.
    pub by: Line,
    /// How sure it is that the run gets there.
    pub certainty: Certainty,
}

/// What was found by following.
#[derive(Debug, Default)]
pub struct Followed {
    /// The files.
    pub graph: Graph,
    /// Imports that lead to nothing.
    pub unresolved: Vec<Unresolved>,
    /// Installed packages that are imported, standard library aside, by their top-level names.
    pub installed: BTreeSet<String>,
    /// What is wrong with files: the line and a sentence.
    pub problems: BTreeMap<PathBuf, (u32, String)>,
    /// Data files that are too long to be tracked.
    pub large: BTreeMap<PathBuf, Line>,
}

/// What the closure starts with.
pub enum Beginning {
    /// A file that runs as the main program.
    File {
        /// The file.
        path: PathBuf,
        /// The folder of the search path that it counts to.
        base: PathBuf,
        /// What it is.
        form: FileForm,
    },
    /// A module that runs as the main program, by its full name.
    Module(String),
    /// The text after `-c`.
    Command(String),
}

struct Missing {
    node: usize,
    import: Import,
}

/// A name that is imported from a package and is no submodule as far as is known: an attribute, most likely.
struct Attribute {
    at: At,
    package: String,
    name: String,
    kind: ReasonKind,
}

/// A data file that is named.
struct Data {
    at: At,
    path: PathBuf,
    kind: ReasonKind,
}

struct Star {
    from: usize,
    finder: usize,
    package: String,
    certainty: Certainty,
    line: u32,
}

/// Where in a file something is said.
#[derive(Clone, Copy)]
struct At {
    node: usize,
    finder: usize,
    line: u32,
    certainty: Certainty,
}

/// Follows files.
pub struct Closure<'a> {
    /// Those of the run itself and of the programs that it starts by their paths.
    finders: Vec<Finder<'a>>,
    by_folder: HashMap<PathBuf, usize>,
    sources: &'a mut Sources,
    folders: Folders,
    data_bytes: u64,
    graph: Graph,
    waiting: Vec<usize>,
    /// The files that were, or are, waiting to be read.
    queued: HashSet<usize>,
    /// The files of modules by their names, for each finder: most names are imported again and again.
    brought: Vec<HashMap<String, usize>>,
    /// What is connected already.
    connected: HashSet<(Option<usize>, usize, Certainty)>,
    reads: HashMap<usize, Rc<Read>>,
    missing: Vec<Missing>,
    /// Files that are named, which are looked for when all is read: what they are relative to may be said anywhere.
    named: Vec<(usize, NamedFile)>,
    /// Edits of the search path with values that are not known yet.
    edits: Vec<(usize, SearchPathEdit)>,
    /// How many folders the run goes to there were when these were looked for.
    looked_in: usize,
    listed: Vec<(usize, Listed)>,
    /// Data files, which belong to the run unless it writes them.
    data: Vec<Data>,
    attributes: Vec<Attribute>,
    stars: Vec<Star>,
    assumed: HashMap<PathBuf, String>,
    installed: BTreeSet<String>,
    problems: BTreeMap<PathBuf, (u32, String)>,
    large: BTreeMap<PathBuf, Line>,
}

impl<'a> Closure<'a> {
    /// Follows nothing yet. Data files of over `data_bytes` are not tracked.
    pub fn new(finder: Finder<'a>, sources: &'a mut Sources, folders: Folders, data_bytes: u64) -> Self {
        Self {
            finders: vec![finder],
            by_folder: HashMap::new(),
            sources,
            folders,
            data_bytes,
            graph: Graph::default(),
            waiting: Vec::new(),
            queued: HashSet::new(),
            brought: Vec::new(),
            connected: HashSet::new(),
            reads: HashMap::new(),
            missing: Vec::new(),
            named: Vec::new(),
            edits: Vec::new(),
            looked_in: 0,
            listed: Vec::new(),
            data: Vec::new(),
            attributes: Vec::new(),
            stars: Vec::new(),
            assumed: HashMap::new(),
            installed: BTreeSet::new(),
            problems: BTreeMap::new(),
            large: BTreeMap::new(),
        }
    }

    /// Follows everything from the beginning on, and from modules that Python imports before it.
    pub fn follow(mut self, beginning: Beginning, at_start: Vec<(&str, Module)>) -> Followed {
        for (name, module) in at_start {
            self.bring_in(None, &module, name, ReasonKind::Import, Certainty::Certain, 0);
        }
        self.begin(beginning);
        loop {
            while !self.waiting.is_empty() {
                self.read_waiting();
            }
            for (number, edit) in std::mem::take(&mut self.edits) {
                self.edit(number, &edit);
            }
            // A folder that was added to the search path may have what was missing before.
            let looked: Vec<bool> = self.finders.iter_mut().map(Finder::look_again).collect();
            if !looked.contains(&true) {
                self.look_for_files();
                if self.waiting.is_empty() {
                    self.take_data();
                }
                if self.waiting.is_empty() {
                    break;
                }
                continue;
            }
            for Missing { node, import } in std::mem::take(&mut self.missing) {
                self.import(node, &import);
            }
            for Attribute { at, package, name, kind } in std::mem::take(&mut self.attributes) {
                self.submodule(at, &package, &name, kind);
            }
        }
        let unresolved = self.missing.iter().filter_map(|missing| self.unresolved(missing)).collect::<BTreeSet<_>>();
        Followed {
            unresolved: unresolved.into_iter().collect(),
            graph: self.graph,
            installed: self.installed,
            problems: self.problems,
            large: self.large,
        }
    }

    /// The finder of the program that a file belongs to.
    pub(super) fn finder_of(&self, number: usize) -> usize {
        self.graph.node(number).map_or(0, |node| node.finder)
    }

    /// The path of a file by its number.
    pub(super) fn path_of(&self, number: usize) -> Option<PathBuf> {
        self.graph.node(number).map(|node| node.path.clone())
    }

    pub(super) fn number_of(&self, path: &Path) -> Option<usize> {
        self.graph.number_of(path)
    }

    pub(super) fn scan_of(&self, number: usize) -> Option<Rc<Read>> {
        self.reads.get(&number).cloned()
    }

    pub(super) fn find(&mut self, finder: usize, name: &str) -> Found {
        self.finders.get_mut(finder).map_or(Found::Missing, |finder| finder.find(name))
    }

    /// The finder of a program that is started by its path.
    fn finder_in(&mut self, started_by: usize, folder: &Path) -> usize {
        if let Some(known) = self.by_folder.get(folder) {
            return *known;
        }
        let Some(finder) = self.finders.get(started_by).map(|finder| finder.of_started(folder)) else { return 0 };
        let number = self.finders.len();
        self.finders.push(finder);
        self.by_folder.insert(folder.to_owned(), number);
        number
    }

    fn begin(&mut self, beginning: Beginning) {
        let node = |path: PathBuf, base, form| Node {
            path,
            base,
            form,
            is_main: true,
            package: None,
            module: None,
            is_assumed: false,
            finder: 0,
        };
        match beginning {
            Beginning::File { path, base, form } => {
                self.enqueue(None, node(path, base, form), ReasonKind::EntryPoint, Certainty::Certain, 0);
            }
            Beginning::Module(name) => {
                self.touch(None, &name, ReasonKind::EntryPoint, Certainty::Certain, 0);
                if let Found::Module(module) = self.find(0, &name) {
                    // Touched as a module already: it is the main program as well.
                    let main = Node { is_main: true, ..node_of(&module, &name, 0) };
                    self.enqueue(None, main, ReasonKind::EntryPoint, Certainty::Certain, 0);
                }
            }
            Beginning::Command(text) => {
                let main = node(PathBuf::new(), self.folders.working.clone(), FileForm::Command);
                let (number, _) = self.graph.add(main);
                self.graph.connect(Edge {
                    from: None,
                    to: number,
                    kind: ReasonKind::EntryPoint,
                    certainty: Certainty::Certain,
                    line: 0,
                    cell: None,
                });
                let read = Rc::new(self.sources.read_text(text.as_bytes()));
                self.take_in(number, &read);
            }
        }
    }

    fn read_waiting(&mut self) {
        let batch = std::mem::take(&mut self.waiting);
        let wanted: Vec<(PathBuf, FileForm)> = batch
            .iter()
            .filter_map(|number| self.graph.node(*number).map(|node| (node.path.clone(), node.form)))
            .collect();
        let reads = self.sources.read_all(&wanted);
        for (number, read) in batch.into_iter().zip(reads) {
            self.take_in(number, &Rc::new(read));
        }
        let (ready, later) = std::mem::take(&mut self.stars)
            .into_iter()
            .partition(|star: &Star| self.exports_of(star.finder, &star.package).is_some());
        self.stars = later;
        for Star { from, finder, package, certainty, line } in ready {
            for name in self.exports_of(finder, &package).unwrap_or_default() {
                let at = At { node: from, finder, line, certainty };
                if name != "*" {
                    self.submodule(at, &package, &name, ReasonKind::Import);
                    continue;
                }
                // What is there decides.
                let names = self.finders.get_mut(finder).map(|finder| finder.submodules(&package));
                for name in names.unwrap_or_default() {
                    self.submodule(at, &package, &name, ReasonKind::Import);
                }
            }
        }
    }

    /// The `__all__` of a package that has been read.
    fn exports_of(&mut self, finder: usize, package: &str) -> Option<Vec<String>> {
        let Found::Module(module) = self.find(finder, package) else { return Some(Vec::new()) };
        let read = self.graph.number_of(&module.file).and_then(|number| self.reads.get(&number))?;
        Some(read.scan.exports.clone().unwrap_or_default())
    }

    fn take_in(&mut self, number: usize, read: &Rc<Read>) {
        let Some(node) = self.graph.node(number) else { return };
        if let Some(problem) = &read.scan.problem {
            self.problems.insert(node.path.clone(), (problem.line, problem.message.clone()));
        }
        self.reads.insert(number, Rc::clone(read));
        let scan: &Scan = &read.scan;
        // In the order of the text, but for what functions do: they are called from anywhere.
        let (first, mut edits): (Vec<_>, Vec<_>) = scan.search_path.iter().partition(|edit| edit.when >= When::Lazy);
        first.into_iter().for_each(|edit| self.edit(number, edit));
        edits.sort_by_key(|edit| edit.line);
        let mut edits = edits.into_iter().peekable();
        for import in &scan.imports {
            while let Some(edit) = edits.next_if(|edit| edit.line <= import.line) {
                self.edit(number, edit);
            }
            self.import(number, import);
        }
        edits.for_each(|edit| self.edit(number, edit));
        for file in &scan.files {
            if !self.named_file(number, file) {
                self.named.push((number, file.clone()));
            }
        }
        self.listed.extend(scan.listings.iter().map(|listed| (number, listed.clone())));
    }

    /// Looks for the files that were not there yet, and for those that are listed.
    fn look_for_files(&mut self) {
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
    fn listed_files(&mut self, number: usize, listed: &Listed) {
        let Some((source, path)) = self.filled_in(number, &listed.path) else { return };
        let patterns = candidates(&self.folders, &source, &path);
        let last = listed.path.rest.rsplit('/').next().unwrap_or_default();
        let suffix = last.rsplit_once('.').map(|(_, suffix)| suffix).filter(|suffix| !is_pattern(suffix));
        let is_deep = listed.path.rest.split('/').any(|part| part == "**");
        for pattern in patterns {
            let fixed: PathBuf = pattern.iter().take_while(|part| !part.to_str().is_some_and(is_pattern)).collect();
            let holds_root = self.folders.root.starts_with(&fixed);
            if !fixed.starts_with(&self.folders.root) && !holds_root || holds_root && (is_deep || suffix.is_none()) {
                continue;
            }
            if suffix.is_none() && self.holds_code(&fixed) {
                continue;
            }
            let found = matches(&pattern);
            if suffix.is_none() && found.iter().any(|path| path.extension().is_some_and(|own| own == "py")) {
                continue;
            }
            let mut is_any = false;
            for path in found.into_iter().filter(|path| path.is_file()) {
                is_any = true;
                let path = crate::python::source::PathExpression {
                    base: crate::python::source::Base::Absolute,
                    rest: path.to_string_lossy().into_owned(),
                };
                let file = NamedFile { line: listed.line, path, usage: FileUse::Data, when: listed.when };
                self.named_file(number, &file);
            }
            if is_any {
                return;
            }
        }
    }

    /// Whether modules of the run lie in a folder.
    fn holds_code(&self, folder: &Path) -> bool {
        self.reads
            .keys()
            .filter_map(|number| self.graph.node(*number))
            .any(|node| node.path.starts_with(folder) && matches!(node.form, FileForm::Python(_)))
    }

    fn certainty(&self, number: usize, when: When) -> Option<Certainty> {
        match when {
            When::Always => Some(Certainty::Certain),
            When::Conditional => Some(Certainty::Conditional),
            When::MainOnly => self.graph.node(number).filter(|node| node.is_main).map(|_| Certainty::Certain),
            When::Lazy => Some(Certainty::Lazy),
            When::TypeOnly => Some(Certainty::TypeOnly),
            When::Never => None,
        }
    }

    fn edit(&mut self, number: usize, edit: &SearchPathEdit) {
        let certainty = self.certainty(number, edit.when);
        let Some(node) = self.graph.node(number) else { return };
        if certainty.is_none_or(|certainty| certainty == Certainty::TypeOnly) {
            return;
        }
        let (module, number_of_finder) = (node.module.clone(), node.finder);
        let Some((source, path)) = self.filled_in(number, &edit.path) else {
            self.edits.push((number, edit.clone()));
            return;
        };
        let mut folders = candidates(&self.folders, &source, &path);
        if edit.path.rest.split('/').any(is_pattern) {
            folders = folders.iter().flat_map(|pattern| matches(pattern)).collect();
        }
        if edit.target == SearchPath::Site {
            let version = self.finders.get(number_of_finder).map_or((3, 0, 0), Finder::version);
            for folder in folders.clone() {
                folders.extend(self.site_folder(number, edit.line, &folder, version));
            }
        }
        let Some(finder) = self.finders.get_mut(number_of_finder) else { return };
        for folder in folders {
            match (edit.target, &module) {
                (SearchPath::Global | SearchPath::Site, _) => finder.add_folder(&folder, edit.first),
                (SearchPath::Removed, _) if certainty == Some(Certainty::Certain) => finder.remove_folder(&folder),
                (SearchPath::Removed, _) => {}
                (SearchPath::Working, _) if !folder.is_dir() || self.folders.further.contains(&folder) => {}
                // Where it certainly goes is looked at first.
                (SearchPath::Working, _) if certainty == Some(Certainty::Certain) => {
                    self.folders.further.insert(0, folder);
                }
                (SearchPath::Working, _) => self.folders.further.push(folder),
                (SearchPath::OwnPackage, Some(package)) => finder.add_to_package(package, &folder),
                (SearchPath::EveryPortion, Some(package)) => finder.add_every_portion(package),
                (_, None) => {}
            }
        }
    }

    /// The folders that the `.pth` files in a folder name; the files belong to the run.
    fn site_folder(&mut self, number: usize, line: u32, folder: &Path, version: (u8, u8, u8)) -> Vec<PathBuf> {
        let mut names: Vec<PathBuf> = std::fs::read_dir(folder)
            .into_iter()
            .flatten()
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| path.extension().is_some_and(|extension| extension == "pth"))
            .collect();
        names.sort();
        let at = At { node: number, finder: self.finder_of(number), line, certainty: Certainty::Certain };
        let mut folders = Vec::new();
        for path in names.into_iter().filter(|path| self.folders.is_inside(path)).collect::<Vec<_>>() {
            for line in pth::read(&path, version).unwrap_or_default() {
                if let pth::Line::Path(added) = line {
                    folders.push(crate::python::import_system::normalised(&added));
                }
            }
            self.data.push(Data { at, path, kind: ReasonKind::Opened });
        }
        folders
    }

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
    fn assumed_package(&mut self, finder: usize, folder: PathBuf) -> String {
        let next = format!("\0{}", self.assumed.len());
        let name = self.assumed.entry(folder.clone()).or_insert(next).clone();
        if let Some(finder) = self.finders.get_mut(finder) {
            finder.assume_package(&name, &folder);
        }
        name
    }

    fn import(&mut self, number: usize, import: &Import) {
        let Some(certainty) = self.certainty(number, import.when) else { return };
        let finder = self.finder_of(number);
        let at = At { node: number, finder, line: import.line, certainty };
        let missing = || Missing { node: number, import: import.clone() };
        if import.how == How::Literal {
            return self.literal(at, import);
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
    fn all_below(&mut self, at: At, package: &str) {
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
    fn literal(&mut self, at: At, import: &Import) {
        let at = At { certainty: at.certainty.max(Certainty::Lazy), ..at };
        let name = &import.module;
        let ends = name.match_indices('.').map(|(end, _)| end).skip(1).chain([name.len()]);
        for part in ends.filter_map(|end| name.get(..end)).collect::<Vec<_>>().into_iter().rev() {
            match self.find(at.finder, part) {
                Found::Module(module) if module.is_assumed => return,
                Found::Module(_) => {
                    self.touch(Some(at), part, ReasonKind::DynamicImport, at.certainty, at.line);
                    return;
                }
                Found::Namespace(_) | Found::Installed => return,
                Found::Missing => {}
            }
        }
        self.missing.push(Missing { node: at.node, import: import.clone() });
    }

    /// Brings in a submodule, if there is one of that name.
    fn submodule(&mut self, at: At, package: &str, name: &str, kind: ReasonKind) {
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
    fn touch(&mut self, at: Option<At>, name: &str, kind: ReasonKind, certainty: Certainty, line: u32) -> bool {
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
                    if certainty != Certainty::TypeOnly && !is_standard {
                        self.installed.insert(part.to_owned());
                    }
                    return true;
                }
                Found::Missing => return false,
            }
        }
        true
    }

    fn bring_in(
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
            self.brought.resize_with(finder + 1, HashMap::new);
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
    fn source_beside(&mut self, finder: usize, extension: &Path) -> Option<PathBuf> {
        let name = extension.file_name()?.to_str()?.split('.').next()?;
        let source = extension.with_file_name(format!("{name}.pyx"));
        self.finders.get_mut(finder)?.has_file(&source).then_some(source)
    }

    fn enqueue(&mut self, at: Option<At>, node: Node, kind: ReasonKind, certainty: Certainty, line: u32) -> usize {
        let (number, is_more) = self.graph.add(node);
        self.connect(at, number, kind, certainty, line, !is_more);
        number
    }

    /// Notes what brings a file in, and has it read if it was not, or if there is more to read in it now.
    fn connect(
        &mut self,
        at: Option<At>,
        number: usize,
        kind: ReasonKind,
        certainty: Certainty,
        line: u32,
        is_known: bool,
    ) {
        // What only type checkers read leads nowhere.
        let is_read = certainty != Certainty::TypeOnly
            && self.graph.node(number).is_some_and(|node| !matches!(node.form, FileForm::Data | FileForm::Command));
        if is_read && (self.queued.insert(number) || !is_known) && !self.waiting.contains(&number) {
            self.waiting.push(number);
        }
        // The first line that says so is enough.
        if !self.connected.insert((at.map(|at| at.node), number, certainty)) {
            return;
        }
        let cell = at.and_then(|at| self.reads.get(&at.node)).and_then(|read| read.cell_of(line));
        let (line, cell) = cell.map_or((line, None), |(cell, line)| (line, Some(cell)));
        self.graph.connect(Edge { from: at.map(|at| at.node), to: number, kind, certainty, line, cell });
    }

    /// Brings in a file that is named; false where it is not there.
    fn named_file(&mut self, number: usize, file: &NamedFile) -> bool {
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

    /// Brings in the modules of the project that a data file names.
    fn names_in_data(&mut self, number: usize, finder: usize, path: &Path) {
        // A file that cannot be read is told when it is to be stored.
        let content = std::fs::read(path).unwrap_or_default();
        for name in mentions::names_in(path, &content) {
            let at = At { node: number, finder, line: 0, certainty: Certainty::Lazy };
            let mut part = name.as_str();
            loop {
                match self.find(finder, part) {
                    Found::Module(module) if !module.is_assumed => {
                        self.touch(Some(at), part, ReasonKind::DynamicImport, Certainty::Lazy, 0);
                        break;
                    }
                    Found::Missing => {}
                    _ => break,
                }
                match part.rsplit_once('.') {
                    Some((shorter, _)) => part = shorter,
                    None => break,
                }
            }
        }
    }

    /// Brings in the data files, but for those that the run writes: they are what comes of it.
    fn take_data(&mut self) {
        let mut written = BTreeSet::new();
        for (number, read) in self.reads.clone() {
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
            self.names_in_data(number, at.finder, &path);
        }
    }

    fn resource(&mut self, number: usize, package: &Package, rest: &str) -> Option<PathBuf> {
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

    fn line_of(&self, number: usize, line: u32) -> Line {
        let cell = self.reads.get(&number).and_then(|read| read.cell_of(line));
        let file = self.graph.node(number).filter(|node| node.form != FileForm::Command).map(|node| node.path.clone());
        let (line, cell) = cell.map_or((line, None), |(cell, line)| (line, Some(cell)));
        Line { file, line, cell }
    }

    fn unresolved(&self, missing: &Missing) -> Option<Unresolved> {
        let import = &missing.import;
        if import.how == How::Literal {
            return None;
        }
        let certainty = self.certainty(missing.node, import.when).filter(|c| *c != Certainty::TypeOnly)?;
        let dots = ".".repeat(import.level as usize);
        let module = format!("{dots}{}", import.module);
        Some(Unresolved { module, by: self.line_of(missing.node, import.line), certainty })
    }
}

fn data_node(path: PathBuf, base: PathBuf) -> Node {
    Node { path, base, form: FileForm::Data, is_main: false, package: None, module: None, is_assumed: false, finder: 0 }
}

fn node_of(module: &Module, name: &str, finder: usize) -> Node {
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
