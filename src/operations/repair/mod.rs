//! repair: saves what can be saved.
//!
//! In this order, each step safe to be killed in: records that can be mended are recorded again; what is whole in damaged
//! packs is written again before they are set aside; lost content is looked for and stored again; the files of runs'
//! folders and the index are made again. Nothing is deleted: what is set aside is moved into the store's folder `damaged`.

mod journals;
mod lost;
mod packs;
mod run_folders;
mod search;

use std::collections::HashSet;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::reindex::reindex;
use super::verify::{Problem, verify};
use crate::error::{Error, Result};
use crate::index::Index;
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::store::{INDEX_PATH, PACK_ENDING, Runs, Store, list_packs, merged_into};

use lost::Lost;
use packs::Examined;

/// Where damaged packs and journals are put.
pub const DAMAGED: &str = "damaged";
/// So often what was found may show that more is lost below it: a snapshot, its trees, their files.
const MAX_ROUNDS: usize = 600;

/// How to repair.
#[derive(Debug, Clone, Default)]
pub struct RepairOptions {
    /// Folders to look for lost content in, beside the projects and folders of the runs.
    pub from: Vec<PathBuf>,
    /// Tells what would be done, and changes nothing.
    pub dry_run: bool,
}

/// What repair did, or with `dry_run` would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Repaired {
    /// Records that were mended and recorded again.
    pub mended_records: u64,
    /// Packs and journals that were set aside: where they are now, or with `dry_run` where they are.
    pub set_aside: Vec<String>,
    /// Objects of damaged packs that were whole and were written again.
    pub rewritten_objects: u64,
    /// Lost objects that were found elsewhere and stored again.
    pub found_objects: u64,
    /// Files of runs' folders that were written again.
    pub written_files: Vec<String>,
    /// Whether the index was missing or wrong, or had to follow what was moved.
    pub rebuilt_index: bool,
    /// Runs that the index knew and that no journal has any more.
    pub lost_runs: Vec<String>,
    /// What is still wrong.
    pub problems: Vec<Problem>,
    /// What was left alone, and why, a line each.
    pub notes: Vec<String>,
}

impl Repaired {
    /// Whether anything was done.
    pub fn is_nothing(&self) -> bool {
        let counts = self.mended_records + self.rewritten_objects + self.found_objects;
        counts == 0 && self.set_aside.is_empty() && self.written_files.is_empty() && !self.rebuilt_index
    }
}

/// So long other maintenance is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// Repairs a store as far as that is possible.
pub fn repair(mut store: Store, options: &RepairOptions, progress: &dyn Progress) -> Result<Repaired> {
    let mut out = Repaired::default();
    // Packs and journals are moved: nobody may merge or delete any meanwhile.
    let _lock = match options.dry_run {
        true => None,
        false => {
            store.check_writable()?;
            let lock = store.lock_maintenance(PATIENCE)?;
            Some(lock.ok_or_else(|| Error::Maintained { store: store.storage().root().to_owned() })?)
        }
    };
    let is_index_wrong = is_index_wrong(&store)?;
    let mut runs = store.runs()?;
    out.lost_runs = runs_of_the_index_alone(&store, &runs);

    let damaged = journals::examine(&store, &runs)?;
    if options.dry_run {
        let known = journals::known_records(&store, &damaged)?;
        out.mended_records = damaged.iter().map(|journal| journal.missing(&known).count() as u64).sum();
        out.set_aside = damaged.iter().filter(|journal| journal.lost_places == 0).map(|j| j.path(&store)).collect();
    } else if !damaged.is_empty() {
        journals::repair(&store, &damaged, &mut out)?;
        runs = store.runs()?;
    }
    let mut examined = packs::examine(&store, is_complete(&store, &runs)?, progress)?;
    if !examined.damaged.is_empty() || examined.is_last_copy_going {
        if options.dry_run {
            let full = |path: &String| store.storage().full_path(path).display().to_string();
            out.set_aside.extend(examined.damaged.iter().map(full));
        } else {
            packs::set_aside(&store, &examined, &mut out, progress)?;
            store = reopen(store)?;
            examined = packs::examine(&store, false, progress)?;
        }
    }
    find_lost(&mut store, &runs, examined, options, &mut out, progress)?;
    run_folders::repair(&store, &runs, options.dry_run, &mut out);

    out.rebuilt_index = is_index_wrong || !out.set_aside.is_empty();
    if !options.dry_run && out.rebuilt_index {
        let storage = std::sync::Arc::clone(store.storage());
        reindex(store)?;
        store = Store::open_in(storage)?;
    }
    out.problems = verify(&store, true, progress)?.problems;
    Ok(out)
}

fn reopen(store: Store) -> Result<Store> {
    Store::open_in(std::sync::Arc::clone(store.storage()))
}

/// Looks for what is lost until nothing more is found: what is found may show what else is lost.
fn find_lost(
    store: &mut Store,
    runs: &Runs,
    mut examined: Examined,
    options: &RepairOptions,
    out: &mut Repaired,
    progress: &dyn Progress,
) -> Result<()> {
    let places = search::places(store, runs, &options.from);
    let mut stored = HashSet::new();
    for _ in 0..MAX_ROUNDS {
        let lost = Lost::of(store, runs, &examined);
        if lost.is_empty() {
            return Ok(());
        }
        let found = if options.dry_run {
            search::search(store, runs, &examined, lost, &places, &mut |_, _, _| Ok(()), progress)?
        } else {
            let mut writer = store.writer()?;
            let mut put = |kind: ObjectKind, id, bytes: Vec<u8>| {
                // The old place of what was lost may still be in a table; a new copy stands by itself.
                if stored.insert((kind, id)) { writer.add_copy(kind, id, bytes, None) } else { Ok(()) }
            };
            let found = search::search(store, runs, &examined, lost, &places, &mut put, progress)?;
            writer.flush_objects()?;
            found
        };
        out.found_objects += found;
        if found == 0 || options.dry_run {
            return Ok(());
        }
        *store = Store::open_in(std::sync::Arc::clone(store.storage()))?;
        examined = packs::examine(store, false, progress)?;
    }
    Ok(())
}

/// Whether the index is missing, unreadable, or not what the packs say.
fn is_index_wrong(store: &Store) -> Result<bool> {
    let path = store.storage().full_path(INDEX_PATH);
    if store.storage().length(INDEX_PATH).is_err() || Index::is_empty(&path) {
        return Ok(true);
    }
    let path = path.display().to_string();
    Ok(verify(store, false, &())?.problems.iter().any(|problem| problem.file == path))
}

/// The runs of journals that are gone or cut: only the index knows them, and it is about to be made anew.
fn runs_of_the_index_alone(store: &Store, runs: &Runs) -> Vec<String> {
    let present: HashSet<_> = runs.rows().filter_map(|row| runs.id(row)).collect();
    let catalog = store.catalog();
    let journals = catalog.ask_index(|index| index.journals()).unwrap_or_default();
    let merged = merged_into(runs.segments());
    let missing = journals
        .iter()
        .filter(|journal| merged.get(&journal.name).is_none_or(|bytes| journal.bytes > *bytes))
        .filter(|journal| {
            let length = store.storage().length(&format!("{}/{}", crate::store::slot::JOURNALS, journal.name));
            length.map_or_else(|error| Error::is_not_found(&error), |length| length < journal.bytes)
        });
    let known =
        missing.flat_map(|journal| catalog.ask_index(|index| index.runs_in(journal.number)).unwrap_or_default());
    known.filter(|run| !present.contains(&run.run)).map(|run| run.name.unwrap_or_else(|| run.run.to_string())).collect()
}

/// Whether all packs that the records name are there.
fn is_complete(store: &Store, runs: &Runs) -> Result<bool> {
    let present: HashSet<String> = list_packs(&**store.storage())?.into_iter().map(|file| file.name).collect();
    let mut named = runs.iter().flat_map(|run| run.start.packs);
    Ok(named.all(|name| present.contains(&format!("{name}{PACK_ENDING}"))))
}

/// Moves files of one of the store's folders to where nobody reads them, durably.
fn set_files_aside<'n>(
    store: &Store,
    folder: &str,
    names: impl IntoIterator<Item = &'n str>,
    out: &mut Repaired,
) -> Result<()> {
    let storage = store.storage();
    storage.create_folder(DAMAGED)?;
    for name in names {
        let target = format!("{DAMAGED}/{name}");
        storage.rename(&format!("{folder}/{name}"), &target)?;
        out.set_aside.push(storage.full_path(&target).display().to_string());
    }
    storage.sync_folder(DAMAGED)?;
    storage.sync_folder(folder)?;
    storage.sync_folder("")
}
