//! list: the runs that fit a filter, in an order.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::run_filter::{Filter, Key};
use crate::error::Result;
use crate::id::ObjectId;
use crate::snapshot::Entry;
use crate::store::{Run, Runs, Store};
use crate::tracked_path::TrackedPath;

/// Which runs, and how.
#[derive(Debug, Default)]
pub struct ListOptions {
    /// Runs of the project with this path alone.
    pub project: Option<String>,
    /// Runs of this sweep alone.
    pub sweep: Option<String>,
    /// Runs that this holds for alone.
    pub filter: Option<Filter>,
    /// Sorts by this key, and whether downwards; by time where absent.
    pub sort: Option<(Key, bool)>,
    /// Runs whose snapshot has this file alone.
    pub file: Option<TrackedPath>,
    /// At most so many: without a sort key the newest, else the first of the order.
    pub limit: Option<usize>,
}

/// A listed run.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed<'r> {
    /// The run.
    pub run: &'r Run,
    /// With [`ListOptions::file`], the content of that file in this run.
    pub file: Option<ObjectId>,
}

/// A sweep in the list of sweeps.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListedSweep {
    /// Its label, absent for the runs outside of any.
    pub sweep: Option<String>,
    /// How many runs it has.
    pub runs: u64,
    /// How many different snapshots they have.
    pub snapshots: u64,
    /// When its first run was captured.
    pub first: String,
    /// When its last run was captured.
    pub last: String,
}

/// Lists runs.
pub fn list<'r>(store: &Store, runs: &'r Runs, options: &'r ListOptions) -> Result<Vec<Listed<'r>>> {
    let mut listed: Vec<Listed<'r>> = chosen(runs, options).map(|run| Listed { run, file: None }).collect();
    if let Some(path) = &options.file {
        let mut known: HashMap<ObjectId, Option<ObjectId>> = HashMap::new();
        for one in &mut listed {
            let snapshot = one.run.start.snapshot;
            one.file = match known.get(&snapshot) {
                Some(found) => *found,
                None => {
                    let files = store.files_of(snapshot)?;
                    let found = files.entries.get(path).map(|entry| match entry {
                        Entry::File { id, .. } => *id,
                        Entry::Symlink { target } => ObjectId::of(target),
                    });
                    *known.entry(snapshot).or_insert(found)
                }
            };
        }
        listed.retain(|one| one.file.is_some());
    }
    match &options.sort {
        Some((key, descending)) => {
            let mut keyed: Vec<_> = listed.into_iter().map(|one| (key.value(one.run), one)).collect();
            keyed.sort_by(|(a, _), (b, _)| Key::compare_in_order(a, b, *descending));
            listed = keyed.into_iter().map(|(_, one)| one).collect();
            listed.truncate(options.limit.unwrap_or(usize::MAX));
        }
        None => {
            let skip = options.limit.map_or(0, |limit| listed.len().saturating_sub(limit));
            listed.drain(..skip);
        }
    }
    Ok(listed)
}

fn chosen<'r>(runs: &'r Runs, options: &'r ListOptions) -> impl Iterator<Item = &'r Run> {
    runs.runs
        .iter()
        .filter(|run| options.project.as_ref().is_none_or(|project| run.start.project.path == *project))
        .filter(|run| options.sweep.is_none() || run.start.sweep == options.sweep)
        .filter(|run| options.filter.as_ref().is_none_or(|filter| filter.matches(run)))
}

/// Lists sweeps in the order of their first runs.
pub fn list_sweeps(runs: &Runs, options: &ListOptions) -> Vec<ListedSweep> {
    let mut sweeps: BTreeMap<Option<&str>, Vec<&Run>> = BTreeMap::new();
    for run in chosen(runs, options) {
        sweeps.entry(run.start.sweep.as_deref()).or_default().push(run);
    }
    let mut out: Vec<ListedSweep> = sweeps
        .into_iter()
        .map(|(sweep, runs)| ListedSweep {
            sweep: sweep.map(str::to_owned),
            runs: runs.len() as u64,
            snapshots: runs.iter().map(|run| run.start.snapshot).collect::<std::collections::HashSet<_>>().len() as u64,
            first: runs.first().map(|run| run.start.time.clone()).unwrap_or_default(),
            last: runs.last().map(|run| run.start.time.clone()).unwrap_or_default(),
        })
        .collect();
    out.sort_by(|a, b| a.first.cmp(&b.first));
    out
}
