//! list: the runs that fit a filter, in an order.

use std::borrow::Cow;
use std::collections::btree_map::Entry as Slot;
use std::collections::{BTreeMap, HashMap, HashSet};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::run_filter::{Filter, Key};
use super::select::{self, chosen, chosen_from_newest};
use crate::error::Result;
use crate::id::ObjectId;
use crate::snapshot::Entry;
use crate::store::{RowRef, Runs, Store};
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// Its place.
    pub row: RowRef,
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
pub fn list(store: &Store, runs: &Runs, options: &ListOptions) -> Result<Vec<Listed>> {
    let filter = filter_of(options);
    let limit = options.limit.unwrap_or(usize::MAX);
    let mut rows = match (&options.sort, options.limit) {
        (Some((key, descending)), _) => {
            // The file is looked for in all that are sorted: it decides which are the first.
            let most = if options.file.is_some() { usize::MAX } else { limit };
            sorted(runs, &filter, key, *descending, most)
        }
        (None, Some(limit)) if options.file.is_none() => {
            let mut rows: Vec<RowRef> = chosen_from_newest(runs, &filter).take(limit).collect();
            rows.reverse();
            rows
        }
        (None, _) => chosen(runs, &filter),
    };
    let Some(path) = &options.file else {
        return Ok(rows.into_iter().map(|row| Listed { row, file: None }).collect());
    };
    let mut known: HashMap<ObjectId, Option<ObjectId>> = HashMap::new();
    let mut listed = Vec::new();
    if options.sort.is_none() {
        rows.reverse();
    }
    for row in rows {
        if listed.len() == limit {
            break;
        }
        let Some(run) = runs.run(row) else { continue };
        let snapshot = run.start.snapshot;
        let file = match known.get(&snapshot) {
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
        listed.extend(file.map(|file| Listed { row, file: Some(file) }));
    }
    if options.sort.is_none() {
        listed.reverse();
    }
    Ok(listed)
}

/// Whether there are runs of a project.
pub fn has_project(runs: &Runs, project: &str) -> bool {
    chosen_from_newest(runs, &Filter::of(Some(project), None)).next().is_some()
}

fn filter_of(options: &ListOptions) -> Filter {
    Filter::of(options.project.as_deref(), options.sweep.as_deref()).and(options.filter.clone())
}

/// The first runs of an order.
fn sorted(runs: &Runs, filter: &Filter, key: &Key, descending: bool, limit: usize) -> Vec<RowRef> {
    type Keyed = (Option<Value>, RowRef);
    let cut = |keyed: &mut Vec<Keyed>| {
        // By place as well: runs of one value keep their order.
        keyed.sort_by(|(a, a_row), (b, b_row)| Key::compare_in_order(a, b, descending).then_with(|| a_row.cmp(b_row)));
        keyed.truncate(limit);
    };
    let keys = std::slice::from_ref(key);
    let of_span = |span: usize| {
        let mut keyed: Vec<Keyed> = Vec::new();
        let most = limit.saturating_mul(2).max(1024);
        select::each(runs, span, filter, keys, |row, values| {
            keyed.push((values.first().and_then(|value| value.as_deref().cloned()), row));
            if keyed.len() > most {
                cut(&mut keyed);
            }
        });
        cut(&mut keyed);
        keyed
    };
    let join = |mut a: Vec<Keyed>, mut b: Vec<Keyed>| {
        a.append(&mut b);
        cut(&mut a);
        a
    };
    let keyed = match limit {
        usize::MAX => {
            let spans: Vec<Vec<Keyed>> = (0..runs.spans()).into_par_iter().map(of_span).collect();
            join(spans.into_iter().flatten().collect(), Vec::new())
        }
        _ => (0..runs.spans()).into_par_iter().map(of_span).reduce(Vec::new, join),
    };
    keyed.into_iter().map(|(_, row)| row).collect()
}

/// What is known of a sweep while its runs are gone through.
struct Gathered {
    runs: u64,
    snapshots: HashSet<String>,
    first: (RowRef, String),
    last: (RowRef, String),
}

/// Lists sweeps in the order of their first runs.
pub fn list_sweeps(runs: &Runs, options: &ListOptions) -> Vec<ListedSweep> {
    let filter = filter_of(options);
    let keys = ["sweep", "snapshot", "time"].map(Key::field);
    let of_span = |span: usize| {
        let mut sweeps: BTreeMap<Option<String>, Gathered> = BTreeMap::new();
        select::each(runs, span, &filter, &keys, |row, values| {
            let [sweep, snapshot, time] = values else { return };
            let text = |value: &Option<Cow<'_, Value>>| value.as_deref().and_then(Value::as_str).map(str::to_owned);
            let (snapshot, time) = (text(snapshot).unwrap_or_default(), text(time).unwrap_or_default());
            let one = Gathered {
                runs: 1,
                snapshots: HashSet::from([snapshot]),
                first: (row, time.clone()),
                last: (row, time),
            };
            add_sweep(&mut sweeps, text(sweep), one);
        });
        sweeps
    };
    let sweeps = (0..runs.spans()).into_par_iter().map(of_span).reduce(BTreeMap::new, |mut all, some| {
        some.into_iter().for_each(|(sweep, gathered)| add_sweep(&mut all, sweep, gathered));
        all
    });
    let mut out: Vec<ListedSweep> = sweeps
        .into_iter()
        .map(|(sweep, gathered)| ListedSweep {
            sweep,
            runs: gathered.runs,
            snapshots: gathered.snapshots.len() as u64,
            first: gathered.first.1,
            last: gathered.last.1,
        })
        .collect();
    out.sort_by(|a, b| a.first.cmp(&b.first));
    out
}

fn add_sweep(sweeps: &mut BTreeMap<Option<String>, Gathered>, sweep: Option<String>, one: Gathered) {
    match sweeps.entry(sweep) {
        Slot::Vacant(slot) => drop(slot.insert(one)),
        Slot::Occupied(mut slot) => {
            let known = slot.get_mut();
            known.runs += one.runs;
            known.snapshots.extend(one.snapshots);
            if one.first.0 < known.first.0 {
                known.first = one.first;
            }
            if one.last.0 > known.last.0 {
                known.last = one.last;
            }
        }
    }
}
