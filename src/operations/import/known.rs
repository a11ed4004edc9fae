//! Which run of the store a copy is, where it was imported before: whole, or with some of its files deleted since.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs;
use std::rc::Rc;

use super::super::run_folder::{self, Manifest};
use super::copies::{RunCopy, Source};
use super::tree::Tree;
use crate::error::Result;
use crate::id::{RunId, StoreId};
use crate::run_record::{RunStart, check_name};
use crate::snapshot::Entry;
use crate::store::{Files, Runs, Store};
use crate::tracked_files::walk::{MANIFEST_PATH, MAX_MANIFEST_BYTES};
use crate::tracked_path::TrackedPath;

/// The runs of the store that the copies may be.
#[derive(Debug, Default)]
pub struct KnownRuns {
    store: Option<StoreId>,
    by_id: HashMap<RunId, Rc<RunStart>>,
    by_name: HashMap<String, Vec<Rc<RunStart>>>,
    by_origin: HashMap<(String, TrackedPath), Rc<RunStart>>,
}

/// What a copy is to the store.
#[derive(Debug)]
pub enum Standing {
    /// No run has it.
    New,
    /// A run has all of it, or all that is left of it after a deletion.
    Stored(Rc<RunStart>, Rc<Files>),
    /// It cannot be imported, for this reason.
    Refused(String),
}

/// How the files of a copy compare with those of a run.
struct Comparison {
    /// Files that the run has otherwise or not at all.
    other: Vec<TrackedPath>,
    /// Whether all of the run's files are there.
    is_whole: bool,
    /// Whether the files that are missing are those that a deletion would have taken first.
    is_half_deleted: bool,
}

/// The text that a run's record has for the folder that was imported.
pub fn origin_text(source: &Source) -> String {
    source.folder.to_string_lossy().into_owned()
}

/// The name that a copy's run gets, unless it cannot be one.
pub fn run_name(copy: &RunCopy) -> Option<String> {
    let name = std::str::from_utf8(copy.name.as_bytes()).ok()?;
    check_name(name).ok().map(|()| name.to_owned())
}

/// The manifest in a run's folder.
fn manifest(copy: &RunCopy) -> Option<Manifest> {
    let path = copy.folder.join(MANIFEST_PATH);
    let is_small = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= MAX_MANIFEST_BYTES);
    if is_small { Manifest::decode(&fs::read(path).ok()?) } else { None }
}

impl KnownRuns {
    /// Picks out of all runs those that one of the copies may be.
    pub fn new(store: &Store, runs: &Runs, sources: &[Source]) -> Self {
        let copies = || sources.iter().flat_map(|source| &source.copies);
        let names: HashSet<String> = copies().filter_map(run_name).collect();
        let origins: HashSet<String> = sources.iter().map(origin_text).collect();
        let manifests: HashSet<RunId> = copies().filter_map(manifest).map(|manifest| manifest.run).collect();
        let mut known = Self { store: Some(store.config().store), ..Self::default() };
        for run in runs.iter() {
            let start = run.start;
            let is_origin = start.imported.as_ref().is_some_and(|imported| origins.contains(&imported.from));
            let is_name = start.name.as_ref().is_some_and(|name| names.contains(name));
            if is_origin || is_name || manifests.contains(&start.run) {
                known.add(Rc::new(start));
            }
        }
        known
    }

    /// Adds a run that was made meanwhile.
    pub fn add(&mut self, start: Rc<RunStart>) {
        self.by_id.insert(start.run, Rc::clone(&start));
        if let Some(imported) = &start.imported {
            self.by_origin.insert((imported.from.clone(), imported.folder.clone()), Rc::clone(&start));
        }
        if let Some(name) = &start.name {
            self.by_name.entry(name.clone()).or_default().push(start);
        }
    }

    /// The run that was made of this very folder, by its manifest or by where the run says that it came from.
    fn made_of(&self, source: &Source, copy: &RunCopy) -> Option<&Rc<RunStart>> {
        let by_manifest = manifest(copy)
            .filter(|manifest| Some(manifest.store) == self.store)
            .and_then(|manifest| self.by_id.get(&manifest.run))
            .filter(|start| start.imported.is_some());
        by_manifest.or_else(|| self.by_origin.get(&(origin_text(source), copy.name.clone())))
    }

    /// Takes out of a copy's files what runsnap itself has put among them: the manifest, and what was left of one when
    /// its writer was killed.
    pub fn without_own_files(&self, source: &Source, copy: &RunCopy, tree: &mut Tree) {
        let Some(start) = self.made_of(source, copy).filter(|_| copy.is_whole_folder()) else { return };
        let Some(store) = self.store else { return };
        let own = run_folder::own_manifests(&copy.folder, &Manifest::of(start, store).encode());
        tree.files.retain(|_, path| !own.contains(path));
    }

    /// Finds out what a copy is. Its files are read where there is a run to compare them with.
    pub fn standing(&self, store: &Store, source: &Source, copy: &RunCopy, tree: &mut Tree) -> Result<Standing> {
        let made_of = self.made_of(source, copy);
        let name = run_name(copy);
        let named = name.as_ref().and_then(|name| self.by_name.get(name)).map(Vec::as_slice).unwrap_or_default();
        let mut candidates: Vec<&Rc<RunStart>> = made_of.into_iter().collect();
        candidates.extend(named.iter().filter(|start| made_of.is_none_or(|made| made.run != start.run)));
        // What was emptied, and is not known to be the rest of a run, is no copy of anything.
        if candidates.is_empty() || made_of.is_none() && tree.files.is_empty() {
            return match name {
                Some(name) if !tree.files.is_empty() && store.is_name_taken(&name)? => {
                    Ok(Standing::Refused(format!("the name {name} belonged to a run that was forgotten or lost")))
                }
                _ => Ok(Standing::New),
            };
        }
        let entries = tree.hash();
        let mut other = None;
        for start in candidates {
            let is_made_of = made_of.is_some_and(|made| made.run == start.run);
            let files = match store.files_of(start.snapshot) {
                Ok(files) => files,
                Err(error) => {
                    return Ok(Standing::Refused(format!("the run {} cannot be read ({error})", label(start))));
                }
            };
            let found = compare(&entries, &files.entries);
            if found.other.is_empty() && found.is_whole || is_made_of && found.is_half_deleted {
                return Ok(Standing::Stored(Rc::clone(start), Rc::new(files)));
            }
            other.get_or_insert_with(|| match found.other.as_slice() {
                [] => format!("a run named {} is in the store with more files than this", label(start)),
                [path] => format!("the run {} is in the store with other content: {path} differs", label(start)),
                [path, rest @ ..] => format!(
                    "the run {} is in the store with other content: {path} and {} more differ",
                    label(start),
                    rest.len()
                ),
            });
        }
        Ok(other.map_or(Standing::New, Standing::Refused))
    }
}

fn label(start: &RunStart) -> String {
    start.name.clone().unwrap_or_else(|| start.run.to_string())
}

fn compare(here: &BTreeMap<TrackedPath, Entry>, run: &BTreeMap<TrackedPath, Entry>) -> Comparison {
    let other: Vec<TrackedPath> =
        here.iter().filter(|(path, entry)| run.get(*path) != Some(entry)).map(|(path, _)| path.clone()).collect();
    let mut missing = run.keys().filter(|path| !here.contains_key(*path));
    let first_same = here.iter().find(|(path, entry)| run.get(*path) == Some(entry)).map(|(path, _)| path);
    // Files are deleted in the order of their paths. Where others are missing, somebody has put new code there.
    let last_missing = missing.next_back();
    let is_half_deleted = last_missing.is_some_and(|missing| match first_same {
        Some(same) => missing < same,
        None => other.is_empty(),
    });
    Comparison { is_whole: last_missing.is_none(), is_half_deleted, other }
}
