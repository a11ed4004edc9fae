//! Follows from the entry point what each file names, until nothing new is found.

mod arguments;
mod constants;
mod entry_points;
mod files;
mod importers;
mod mentions;
mod modules;
mod search_path;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use arguments::Argument;
use foldhash::{HashMap, HashSet};

use super::graph::{Certainty, Edge, FileForm, Graph, Line, Node, ReasonKind};
use super::named_path::Folders;
use super::sources::{Read, Sources};
use crate::python::import_system::{Finder, Found, Module};
use crate::python::source::{How, Import, Listed, NamedFile, Scan, SearchPathEdit, When};

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
    /// The files that are known to be no links, by their numbers in the graph.
    pub plain: HashSet<usize>,
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
    /// What the program is given.
    arguments: Vec<Argument>,
    graph: Graph,
    waiting: Vec<usize>,
    /// The files that were, or are, waiting to be read.
    queued: HashSet<usize>,
    /// The files of modules by their names, for each finder: most names are imported again and again.
    brought: Vec<HashMap<String, usize>>,
    /// What is connected already.
    connected: HashSet<(Option<usize>, usize, Certainty)>,
    reads: HashMap<usize, Rc<Read>>,
    /// The files that are known to be no links.
    plain: HashSet<usize>,
    missing: Vec<Missing>,
    /// Names that are given to functions and classes which may import them.
    given: Vec<(usize, Import)>,
    /// The last parts of the names of functions and classes that do.
    importers: HashSet<String>,
    /// The groups and modules of entry points, for each finder that was asked.
    entry_points: HashMap<usize, Rc<Vec<(String, String)>>>,
    /// Files that are named, which are looked for when all is read: what they are relative to may be said anywhere.
    named: Vec<(usize, NamedFile)>,
    /// Edits of the search path with values that are not known yet.
    edits: Vec<(usize, SearchPathEdit)>,
    /// How many folders the run goes to there were when these were looked for.
    looked_in: usize,
    listed: Vec<(usize, Listed)>,
    /// Data files, which belong to the run unless it writes them.
    data: Vec<Data>,
    /// Data files of which the names are known.
    looked_into: HashSet<PathBuf>,
    /// Words in data files.
    words: Vec<(At, String)>,
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
            by_folder: HashMap::default(),
            sources,
            folders,
            data_bytes,
            arguments: Vec::new(),
            graph: Graph::default(),
            waiting: Vec::new(),
            queued: HashSet::default(),
            brought: Vec::new(),
            connected: HashSet::default(),
            reads: HashMap::default(),
            plain: HashSet::default(),
            missing: Vec::new(),
            given: Vec::new(),
            importers: HashSet::default(),
            entry_points: HashMap::default(),
            named: Vec::new(),
            edits: Vec::new(),
            looked_in: 0,
            listed: Vec::new(),
            data: Vec::new(),
            looked_into: HashSet::default(),
            words: Vec::new(),
            attributes: Vec::new(),
            stars: Vec::new(),
            assumed: HashMap::default(),
            installed: BTreeSet::new(),
            problems: BTreeMap::new(),
            large: BTreeMap::new(),
        }
    }

    /// Says what the program is given.
    pub fn with_arguments(self, arguments: &[OsString]) -> Self {
        Self { arguments: arguments::read(arguments), ..self }
    }

    /// Follows everything from the beginning on, and from modules that Python imports before it.
    pub fn follow(mut self, beginning: Beginning, at_start: Vec<(&str, Rc<Module>)>) -> Followed {
        for (name, module) in at_start {
            self.bring_in(None, &module, name, ReasonKind::Import, Certainty::Certain, 0);
        }
        let first = self.begin(beginning);
        self.files_in_arguments(first);
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
                self.look_at_given();
                self.modules_in_arguments();
                if self.waiting.is_empty() {
                    self.take_data();
                    self.modules_in_data();
                }
                if self.waiting.is_empty() && self.data.is_empty() {
                    break;
                }
                continue;
            }
            self.entry_points.clear();
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
            plain: self.plain,
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

    /// Brings in what the run starts with; its number, if it is there.
    fn begin(&mut self, beginning: Beginning) -> Option<usize> {
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
                Some(self.enqueue(None, node(path, base, form), ReasonKind::EntryPoint, Certainty::Certain, 0))
            }
            Beginning::Module(name) => {
                self.touch(None, &name, ReasonKind::EntryPoint, Certainty::Certain, 0);
                let Found::Module(module) = self.find(0, &name) else { return None };
                // Touched as a module already: it is the main program as well.
                let main = Node { is_main: true, ..modules::node_of(&module, &name, 0) };
                Some(self.enqueue(None, main, ReasonKind::EntryPoint, Certainty::Certain, 0))
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
                Some(number)
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
        for (number, (read, is_plain)) in batch.into_iter().zip(reads) {
            if is_plain {
                self.plain.insert(number);
            }
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
        self.note_importers(scan);
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

    fn line_of(&self, number: usize, line: u32) -> Line {
        let cell = self.reads.get(&number).and_then(|read| read.cell_of(line));
        let file = self.graph.node(number).filter(|node| node.form != FileForm::Command).map(|node| node.path.clone());
        let (line, cell) = cell.map_or((line, None), |(cell, line)| (line, Some(cell)));
        Line { file, line, cell }
    }

    fn unresolved(&self, missing: &Missing) -> Option<Unresolved> {
        let import = &missing.import;
        if matches!(import.how, How::Literal | How::EntryPoints | How::Given) {
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
