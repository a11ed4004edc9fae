//! Files and what brought them in, and the shortest and surest way from the entry point to each.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};

use foldhash::HashMap;
use serde::Serialize;

use crate::python::import_system::Form;

/// Why a file belongs to a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ReasonKind {
    /// The run starts with it.
    EntryPoint,
    /// An import statement names it.
    Import,
    /// It is the `__init__` of a package on the way to what is imported.
    PackageInit,
    /// A call imports it, by a name that stands in the text or by one that begins so.
    DynamicImport,
    /// The metadata of an installed package name it as a plugin, by an entry point.
    Plugin,
    /// It is run by its path: by `runpy`, `exec`, `%run`, or in another process.
    Run,
    /// The source beside an extension module.
    Source,
    /// A shared library that is loaded by its path.
    Library,
    /// A data file that the code names.
    Opened,
    /// An argument of the program names it.
    Argument,
    /// It decides which files are tracked, or is listed there.
    StrategyYaml,
}

/// How sure it is that the run loads a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// Nothing stands between the start and the import.
    Certain,
    /// A condition decides.
    Conditional,
    /// A function has to be called.
    Lazy,
    /// Only type checkers read it: it is no part of the run.
    TypeOnly,
}

/// The line that brought a file in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// The file that the line is in; none for a command given by `-c`.
    pub file: Option<PathBuf>,
    /// Its number, from 1; in a notebook, within the cell.
    pub line: u32,
    /// The number of the notebook's cell, from 1.
    pub cell: Option<u32>,
}

/// Why a file belongs to a run, and what brought it in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason {
    /// Why.
    pub kind: ReasonKind,
    /// How sure that is.
    pub certainty: Certainty,
    /// The line that says so; the entry point has none.
    pub by: Option<Line>,
    /// The name that it is imported by.
    pub module: Option<String>,
    /// Whether it was found only because it lies in the project: the interpreter does not search there.
    pub is_assumed: bool,
}

/// What a file is to the analysis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileForm {
    /// A module or script.
    Python(Form),
    /// A notebook.
    Notebook,
    /// Nothing that names other files.
    Data,
    /// The text after `-c`, which is in no file.
    Command,
}

/// A file of the run, or a member of an archive that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its path; into the archive for a member of one.
    pub path: PathBuf,
    /// The folder of the search path that it was found by.
    pub base: PathBuf,
    /// What it is.
    pub form: FileForm,
    /// Whether it runs as `__main__`.
    pub is_main: bool,
    /// The package that its relative imports start from.
    pub package: Option<String>,
    /// Its dotted name.
    pub module: Option<String>,
    /// Whether it was found only because it lies in the project.
    pub is_assumed: bool,
    /// Which search path it is under: that of the run, or of a program that the run starts.
    pub finder: usize,
}

/// What brings one file in from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edge {
    /// The file that names the other; none for what the start itself loads.
    pub from: Option<usize>,
    /// The file that is named.
    pub to: usize,
    /// Why it belongs to the run then.
    pub kind: ReasonKind,
    /// Under what conditions.
    pub certainty: Certainty,
    /// The line.
    pub line: u32,
    /// The cell of a notebook.
    pub cell: Option<u32>,
}

/// All files that were found.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    by_path: HashMap<PathBuf, usize>,
    edges: Vec<Edge>,
}

impl Graph {
    /// The number of a file, and whether there is more to read in it than before.
    pub fn add(&mut self, node: Node) -> (usize, bool) {
        match self.by_path.get(&node.path).copied() {
            None => {
                let number = self.nodes.len();
                self.by_path.insert(node.path.clone(), number);
                self.nodes.push(node);
                (number, true)
            }
            Some(number) => {
                let Some(known) = self.nodes.get_mut(number) else { return (number, false) };
                // As the main program it does more, and as a module it names more than as data.
                let is_more =
                    (node.is_main && !known.is_main) || known.form == FileForm::Data && node.form != known.form;
                if is_more {
                    known.is_main |= node.is_main;
                    known.form = node.form;
                    known.package = known.package.take().or(node.package);
                    known.module = known.module.take().or(node.module);
                }
                known.is_assumed &= node.is_assumed;
                (number, is_more)
            }
        }
    }

    /// Notes what brings a file in.
    pub fn connect(&mut self, edge: Edge) {
        self.edges.push(edge);
    }

    /// A file by its number.
    pub fn node(&self, number: usize) -> Option<&Node> {
        self.nodes.get(number)
    }

    /// The number of the file with that path.
    pub fn number_of(&self, path: &Path) -> Option<usize> {
        self.by_path.get(path).copied()
    }

    /// The files that the run uses, with the surest reason for each, and of these the one with the fewest steps. Files that
    /// only type checkers read come as such.
    pub fn reasons(&self) -> BTreeMap<usize, Reason> {
        let mut from: HashMap<Option<usize>, Vec<&Edge>> = HashMap::default();
        for edge in &self.edges {
            from.entry(edge.from).or_default().push(edge);
        }
        let mut reasons: BTreeMap<usize, Reason> = BTreeMap::new();
        let mut reached: Vec<Option<usize>> = vec![None];
        for certainty in [Certainty::Certain, Certainty::Conditional, Certainty::Lazy] {
            // What was reached before may lead further by less certain ways.
            let mut waiting: VecDeque<Option<usize>> = reached.iter().copied().collect();
            while let Some(number) = waiting.pop_front() {
                for edge in from.get(&number).into_iter().flatten().filter(|edge| edge.certainty <= certainty) {
                    if reasons.contains_key(&edge.to) {
                        continue;
                    }
                    reasons.insert(edge.to, self.reason(edge, certainty));
                    reached.push(Some(edge.to));
                    waiting.push_back(Some(edge.to));
                }
            }
        }
        for edge in self.edges.iter().filter(|edge| edge.certainty == Certainty::TypeOnly) {
            let is_used =
                edge.from.is_none_or(|from| reasons.get(&from).is_some_and(|r| r.certainty != Certainty::TypeOnly));
            if is_used && !reasons.contains_key(&edge.to) {
                reasons.insert(edge.to, self.reason(edge, Certainty::TypeOnly));
            }
        }
        reasons
    }

    fn reason(&self, edge: &Edge, certainty: Certainty) -> Reason {
        let node = self.nodes.get(edge.to);
        let by = edge.from.map(|from| {
            let file = self.nodes.get(from).filter(|node| node.form != FileForm::Command).map(|node| node.path.clone());
            Line { file, line: edge.line, cell: edge.cell }
        });
        let module = node.and_then(|node| node.module.clone()).filter(|module| !module.starts_with('\0'));
        Reason { kind: edge.kind, certainty, by, module, is_assumed: node.is_some_and(|node| node.is_assumed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str) -> Node {
        let (path, base) = (PathBuf::from(name), PathBuf::new());
        let form = FileForm::Python(Form::Source);
        Node { path, base, form, is_main: false, package: None, module: None, is_assumed: false, finder: 0 }
    }

    #[test]
    fn the_surest_way_counts_then_the_shortest() {
        let mut graph = Graph::default();
        let numbers: Vec<usize> = ["main", "a", "b", "c", "t"].iter().map(|name| graph.add(node(name)).0).collect();
        let [main, a, b, c, t] = numbers[..] else { panic!("five") };
        let mut connect = |from, to, certainty, line| {
            graph.connect(Edge { from, to, kind: ReasonKind::Import, certainty, line, cell: None });
        };
        connect(None, main, Certainty::Certain, 0);
        connect(Some(main), c, Certainty::Lazy, 1);
        connect(Some(main), a, Certainty::Conditional, 2);
        connect(Some(main), b, Certainty::Certain, 3);
        connect(Some(b), c, Certainty::Certain, 4);
        connect(Some(a), t, Certainty::TypeOnly, 5);
        connect(Some(a), b, Certainty::Certain, 6);
        let reasons = graph.reasons();
        let told: Vec<(usize, Certainty, u32)> =
            reasons.iter().filter_map(|(n, r)| Some((*n, r.certainty, r.by.as_ref()?.line))).collect();
        let expected = [
            (a, Certainty::Conditional, 2),
            (b, Certainty::Certain, 3),
            (c, Certainty::Certain, 4),
            (t, Certainty::TypeOnly, 5),
        ];
        assert_eq!(told, expected);
        // A module that is run as well is read once more.
        assert_eq!(graph.add(node("a")), (a, false));
        assert_eq!(graph.add(Node { is_main: true, ..node("a") }), (a, true));
    }
}
