//! Which files does a run use, as far as their text tells? Nothing is executed.
//!
//! `closure` follows what each file names, found by [`import_system`](crate::python::import_system) as the interpreter
//! would find it; `graph` keeps what brought what in; `layout` gives each file its place in a snapshot. What the text does
//! not tell (names that are computed, plugins found by listing a folder) is described in `docs/detection.md`.

mod cache;
mod closure;
mod graph;
mod layout;
mod listed;
mod mentions;
mod named_path;
mod sources;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use cache::ScanCache;
pub use closure::Unresolved;
use closure::{Beginning, Closure};
use graph::FileForm;
pub use graph::{Certainty, Line, Reason, ReasonKind};
use layout::Layout;
use named_path::Folders;
use sources::Sources;
pub use sources::{Seen, Stamp};

use crate::entry_point::EntryPointKind;
use crate::entry_point::find::{Start, Started};
use crate::id::ObjectId;
use crate::python::import_system::{Finder, Form, Found, Module};
use crate::python::source::Target;
use crate::tracked_path::TrackedPath;

/// A file that the run uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UsedFile {
    /// Where it is on this system.
    pub disk: PathBuf,
    /// The path that it was found by: through links, and into an archive for a member of one.
    pub found: PathBuf,
    /// Whether it is a link on the way to the file, which is kept as one.
    pub is_link: bool,
    /// Why it belongs to the run.
    pub reason: Reason,
}

/// A data file that is too long to be tracked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LargeFile {
    /// The file.
    pub path: TrackedPath,
    /// Its length.
    pub bytes: u64,
    /// The hash of its content.
    pub id: ObjectId,
    /// The line that names it.
    pub by: Line,
}

/// What the text of a run's files tells.
#[derive(Debug, Clone, Default)]
pub struct Analysis {
    /// The files that belong to the run.
    pub files: BTreeMap<TrackedPath, UsedFile>,
    /// Files that only type checkers read.
    pub type_only: BTreeMap<TrackedPath, UsedFile>,
    /// Imports that lead to nothing here.
    pub unresolved: Vec<Unresolved>,
    /// Installed packages that are imported.
    pub installed: BTreeSet<String>,
    /// Data files that are too long to be tracked.
    pub large: Vec<LargeFile>,
    /// What is wrong with files: the line, 0 for the whole, and a sentence.
    pub problems: BTreeMap<TrackedPath, (u32, String)>,
    /// The folders outside of the project that files are in, by the labels that stand for them.
    pub outside: BTreeMap<String, PathBuf>,
    /// Files whose names cannot be stored.
    pub unplaced: Vec<PathBuf>,
}

/// How to analyse.
pub struct Options<'a> {
    /// Data files of more bytes than this are not tracked.
    pub data_bytes: u64,
    /// Where to keep what sources say.
    pub caches: Option<&'a Path>,
    /// Tells whether a file is as it was.
    pub stamp: Box<Stamp>,
}

/// Finds the files that a run uses, from how it starts.
pub fn analyse(start: &Start, options: Options<'_>) -> Analysis {
    let target = Target {
        version: (start.interpreter.version.0, start.interpreter.version.1),
        platform: start.interpreter.platform.clone(),
        os_name: start.interpreter.os_name.clone(),
    };
    let beginning = match &start.started {
        Started::Nothing => return Analysis::default(),
        Started::File(path) => Beginning::File {
            path: path.clone(),
            base: start.search_path.first().cloned().unwrap_or_default(),
            form: match start.kind {
                EntryPointKind::Notebook => FileForm::Notebook,
                EntryPointKind::Bytecode => FileForm::Python(Form::Bytecode),
                _ => FileForm::Python(Form::Source),
            },
        },
        Started::Module(name, _) => Beginning::Module(name.clone()),
        Started::Command(text) => Beginning::Command(text.clone()),
    };
    let entry = start.file.as_deref().and_then(Path::parent).unwrap_or(&start.working_folder).to_owned();
    let folders =
        Folders { root: start.root.clone(), working: start.working_folder.clone(), entry, further: Vec::new() };
    let finder = Finder::new(&start.interpreter, &start.root, &start.search_path, fallback(&folders));
    let cache = options.caches.map_or_else(ScanCache::none, |caches| ScanCache::load(caches, &start.root, &target));
    let mut sources = Sources::new(target, cache, options.stamp);
    let at_start = at_start(start, &finder);
    let closure = Closure::new(finder, &mut sources, folders, options.data_bytes).with_arguments(&start.arguments);
    let followed = closure.follow(beginning, at_start);
    let (mut cache, stamp) = sources.into_parts();

    let mut analysis =
        Analysis { unresolved: followed.unresolved, installed: followed.installed, ..Analysis::default() };
    let reasons = followed.graph.reasons();
    let used = || reasons.iter().filter_map(|(number, reason)| Some((number, followed.graph.node(*number)?, reason)));
    let mut layout = Layout::new(&start.root);
    let is_outside = |path: &Path| !path.starts_with(&start.root);
    layout.label(used().filter(|(_, node, _)| is_outside(&node.path)).map(|(_, node, _)| node.base.clone()));
    for (number, node, reason) in used().filter(|(_, node, _)| node.form != FileForm::Command) {
        let Some(placed) = layout.place(&node.path, &node.base, followed.plain.contains(number)) else {
            analysis.unplaced.push(node.path.clone());
            continue;
        };
        if let Some((line, message)) = followed.problems.get(&node.path) {
            analysis.problems.insert(placed.tracked.clone(), (*line, message.clone()));
        }
        let is_type_only = reason.certainty == Certainty::TypeOnly;
        let files = if is_type_only { &mut analysis.type_only } else { &mut analysis.files };
        let links = placed.links.into_iter().map(|(tracked, disk)| (tracked, disk, true));
        for (tracked, disk, is_link) in links.chain([(placed.tracked, placed.disk, false)]) {
            let file = UsedFile { disk, found: node.path.clone(), is_link, reason: reason.clone() };
            // Of the members of an archive, and of ways to one file, the surest.
            match files.get_mut(&tracked) {
                Some(known) if (known.reason.certainty, known.reason.kind) <= (reason.certainty, reason.kind) => {}
                Some(known) => *known = file,
                None => drop(files.insert(tracked, file)),
            }
        }
    }
    // The entry point may be known to the user by a link.
    let entry = analysis.files.values().find(|file| file.reason.kind == ReasonKind::EntryPoint).cloned();
    let named = start.named.as_deref().and_then(|named| layout.place(named, &start.root, false));
    for (tracked, disk) in named.map(|placed| placed.links).unwrap_or_default() {
        if let Some(entry) = &entry {
            analysis.files.entry(tracked).or_insert_with(|| UsedFile { disk, is_link: true, ..entry.clone() });
        }
    }
    analysis.type_only.retain(|path, _| !analysis.files.contains_key(path));
    let paths: Vec<PathBuf> = followed.large.keys().cloned().collect();
    let hashes = sources::hash_large(&mut cache, &*stamp, &paths);
    for (disk, by) in followed.large {
        let placed = disk.parent().and_then(|base| layout.place(&disk, base, false));
        if let (Some(placed), Some((bytes, id))) = (placed, hashes.get(&disk)) {
            analysis.large.push(LargeFile { path: placed.tracked, bytes: *bytes, id: *id, by });
        }
    }
    analysis.outside = layout.outside();
    // A cache that cannot be kept costs time and nothing else.
    let _ = cache.save();
    analysis
}

/// The modules of the project that Python imports by itself before it runs anything: the two that `site` looks for, and
/// those that `.pth` files import.
fn at_start<'s>(start: &'s Start, finder: &Finder<'_>) -> Vec<(&'s str, Rc<Module>)> {
    let finder = finder.before_start(&start.at_start);
    let loaded = start.interpreter.loaded_at_start.iter().map(String::as_str);
    let mut names: Vec<&str> = loaded.chain(["sitecustomize", "usercustomize"]).collect();
    names.retain(|name| {
        !start.interpreter.standard_names.contains(*name) && !start.interpreter.built_in.contains(*name)
    });
    names.sort_unstable();
    names.dedup();
    let local = |name| match finder.find_on_path(name) {
        Found::Module(module) => Some((name, module)),
        _ => None,
    };
    names.into_iter().filter_map(local).collect()
}

/// Folders in which a project's modules are looked for that the interpreter would not find: the program may be run by
/// something else, from another folder, or with another search path.
fn fallback(folders: &Folders) -> Vec<PathBuf> {
    let mut out: Vec<PathBuf> = Vec::new();
    let is_package = |folder: &&Path| folder.join("__init__.py").is_file();
    let top = folders.entry.ancestors().take_while(is_package).last().and_then(Path::parent);
    let source = folders.root.join("src");
    for folder in [top, Some(&folders.entry), Some(&folders.working), Some(&folders.root), Some(&source)] {
        let Some(folder) = folder.filter(|folder| folder.starts_with(&folders.root)) else { continue };
        if !out.iter().any(|known| known == folder) {
            out.push(folder.to_owned());
        }
    }
    out
}
