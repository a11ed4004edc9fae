//! gc: compacts the packs, gives back the room of what no run needs, and sweeps up what killed captures left.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;

use super::select::distinct_snapshots;
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::Pack;
use crate::pack::compression::COMPACT_LEVEL;
use crate::pack::format::{ObjectKind, Prefix};
use crate::progress::Progress;
use crate::storage::{Lock, StoredFile, remove_if_there};
use crate::store::name_filters::left_behind;
use crate::store::slot::{FOLDER, TEMPORARY};
use crate::store::{
    CompactionOptions, Maintenance, MergeExtent, NAMES_PATH, Place, Reached, SETTLED_TIER, STATES, Store, list_packs,
};

/// A compacted pack is compacted again once packs with a quarter of its content have gathered beside it, or once a fifth
/// of it is garbage. So each object is written again a few times in the life of a store, not at each `gc`.
const GROWTH: usize = 4;
const GARBAGE_SHARE: usize = 5;

/// How to collect garbage.
#[derive(Debug, Clone, Copy)]
pub struct GcOptions {
    /// Changes nothing, and tells what there is to do.
    pub dry_run: bool,
    /// How long to wait for captures that are under way.
    pub patience: Duration,
}

/// What gc did, or in a dry run would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Leftovers of writers that are gone.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
    /// The packs that were merged into a new one, or go without.
    pub compacted_packs: u64,
    /// Uncompressed bytes in the packs that no run needs.
    pub garbage_bytes: u64,
    /// The bytes of all packs before.
    pub packs_bytes_before: u64,
    /// The bytes of all packs afterwards; as before in a dry run.
    pub packs_bytes: u64,
    /// The journals and segments of run records that were merged into one segment.
    pub merged_journals: u64,
    /// Packs left for the next time, because captures that were under way may need them.
    pub waiting_packs: u64,
    /// What could not be read, a line each. It stays where it is.
    pub problems: Vec<String>,
}

impl Collected {
    fn count_removed(&mut self, file: &StoredFile) {
        self.removed_files += 1;
        self.removed_bytes += file.bytes;
    }
}

/// Collects garbage. Captures go on meanwhile; nothing that any run record names is touched.
pub fn gc(store: &Store, options: GcOptions, progress: &dyn Progress) -> Result<Collected> {
    let mut collected = Collected { packs_bytes_before: packs_bytes(store)?, ..Collected::default() };
    if options.dry_run {
        sweep_leftovers(store, true, &mut collected)?;
        sweep_states(store, true, &mut collected)?;
        let plan = plan(store, &mut collected)?;
        collected.compacted_packs = plan.map_or(0, |plan| plan.inputs.len() as u64);
        collected.packs_bytes = collected.packs_bytes_before;
        return Ok(collected);
    }
    let busy = || Error::Maintained { store: store.storage().root().to_owned() };
    let maintenance = store.maintenance(options.patience)?.ok_or_else(busy)?;
    for file in maintenance.clean_up()? {
        collected.count_removed(&file);
    }
    sweep_leftovers(store, false, &mut collected)?;
    sweep_states(store, false, &mut collected)?;
    // Records first: what all runs need is then told by the columns of a segment rather than by every record in memory.
    let runs = store.merge_runs(MergeExtent::Full)?;
    collected.merged_journals = runs.journals + runs.segments;
    // What it lists is in segments now. Of a journal that is still written to, the names are read once more.
    let _ = store.storage().remove(NAMES_PATH);
    store.catalog().refresh()?;
    if let Some(plan) = plan(store, &mut collected)? {
        compact(store, &maintenance, &plan, options, &mut collected, progress)?;
    }
    collected.packs_bytes = packs_bytes(store)?;
    // The generation may be another one now, and the index with it.
    let store = Store::open_in(Arc::clone(store.storage()))?;
    // The index is a cache: somebody else is writing it just now, or will.
    if let Err(error) = store.update_index(true) {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    // Of runs that are in segments now.
    store.catalog().shrink_index();
    let _ = store.catalog().keep_keys();
    drop(maintenance);
    Ok(collected)
}

fn packs_bytes(store: &Store) -> Result<u64> {
    Ok(list_packs(&**store.storage())?.iter().map(|pack| pack.bytes).sum())
}

/// The distinct snapshots of all runs, oldest first, and whether every record could be read.
fn snapshots(store: &Store) -> Result<(Vec<ObjectId>, bool)> {
    let runs = store.runs()?;
    let snapshots = distinct_snapshots(&runs);
    // A record that cannot be read may name anything.
    let is_complete = runs.problems.iter().chain(&runs.late_problems()).all(|problem| problem.unfinished);
    Ok((snapshots, is_complete))
}

/// What is to be compacted.
struct Plan {
    snapshots: Vec<ObjectId>,
    reached: Reached,
    inputs: Vec<Arc<Pack>>,
}

fn plan(store: &Store, collected: &mut Collected) -> Result<Option<Plan>> {
    let (snapshots, is_complete) = snapshots(store)?;
    let mut reached = store.reach(snapshots.iter().copied(), |_, _| true)?;
    reached.is_complete &= is_complete;
    if !reached.is_complete {
        let what = "some runs cannot be read in full, so nothing is taken for garbage; `runsnap verify` names them";
        collected.problems.push(what.to_owned());
    }
    let live = live_keys(store, &reached);
    let garbage = |pack: &Pack| -> usize {
        let is_garbage =
            |object: &&crate::pack::Object| reached.is_complete && !live.contains(&(object.kind, object.name.key()));
        pack.objects.iter().filter(is_garbage).map(|object| object.bytes).sum()
    };
    let mut packs = store.catalog().packs();
    for error in store.catalog().take_damaged() {
        collected.problems.push(error.to_string());
    }
    collected.garbage_bytes = packs.iter().map(|pack| garbage(pack) as u64).sum();
    let mut inputs: Vec<Arc<Pack>> = Vec::new();
    let is_due = |pack: &Pack| pack.tier < SETTLED_TIER || garbage(pack) * GARBAGE_SHARE > pack.raw_bytes();
    packs.retain(|pack| {
        let is_due = is_due(pack);
        if is_due {
            inputs.push(Arc::clone(pack));
        }
        !is_due
    });
    let mut gathered: usize = inputs.iter().map(|pack| pack.raw_bytes() - garbage(pack).min(pack.raw_bytes())).sum();
    packs.sort_by_key(|pack| pack.raw_bytes());
    let mut staying = packs.into_iter().peekable();
    while let Some(pack) = staying.next_if(|pack| gathered > 0 && pack.raw_bytes() <= gathered.saturating_mul(GROWTH)) {
        gathered += pack.raw_bytes();
        inputs.push(pack);
    }
    if reached.is_complete {
        add_dependents(store, &live, &mut inputs, staying.collect());
    }
    Ok((!inputs.is_empty()).then_some(Plan { snapshots, reached, inputs }))
}

/// Adds the packs with frames that are differences to garbage in `inputs` alone: that could never go otherwise.
fn add_dependents(
    store: &Store,
    live: &HashSet<(ObjectKind, u64)>,
    inputs: &mut Vec<Arc<Pack>>,
    mut staying: Vec<Arc<Pack>>,
) {
    let mut names: HashSet<String> = inputs.iter().map(|pack| pack.name().to_owned()).collect();
    loop {
        let needs_garbage = |pack: &Arc<Pack>| {
            pack.frames.iter().filter(|frame| matches!(frame.prefix, Prefix::Anywhere(_))).any(|frame| {
                let bases = store.catalog().bases(pack, frame);
                let goes = |base: &Place| {
                    names.contains(base.pack.name())
                        && base.object().is_some_and(|object| !live.contains(&(object.kind, object.name.key())))
                };
                !bases.is_empty() && bases.iter().all(goes)
            })
        };
        let (dependents, rest): (Vec<_>, Vec<_>) = staying.into_iter().partition(needs_garbage);
        if dependents.is_empty() {
            return;
        }
        names.extend(dependents.iter().map(|pack| pack.name().to_owned()));
        inputs.extend(dependents);
        staying = rest;
    }
}

/// The objects that runs need, by kind and key.
fn live_keys(store: &Store, reached: &Reached) -> HashSet<(ObjectKind, u64)> {
    let mut live = HashSet::new();
    for snapshot in &reached.snapshots {
        live.insert((ObjectKind::Snapshot, snapshot.id.key()));
        live.extend(snapshot.trees.iter().map(|tree| (ObjectKind::Tree, tree.id.key())));
        for file in &snapshot.files {
            live.insert((ObjectKind::Chunk, file.id.key()));
            live.insert((ObjectKind::ChunkList, file.id.key()));
            if !store.contains(ObjectKind::Chunk, file.id) {
                let chunks = store.chunks_of(file.id, file.bytes).unwrap_or_default();
                live.extend(chunks.iter().map(|chunk| (ObjectKind::Chunk, chunk.id.key())));
            }
        }
    }
    live
}

fn compact(
    store: &Store,
    maintenance: &Maintenance<'_>,
    plan: &Plan,
    options: GcOptions,
    collected: &mut Collected,
    progress: &dyn Progress,
) -> Result<()> {
    let how =
        CompactionOptions { level: COMPACT_LEVEL, tier: SETTLED_TIER, keeps_unreached: false, raises_positions: true };
    let compacted = store.compact(&plan.inputs, &plan.reached, maintenance.temporary(), how, progress)?;
    collected.problems.extend(compacted.problems.iter().map(Error::to_string));
    maintenance.delete_replaced(&compacted.replaced)?;
    let known: HashSet<ObjectId> = plan.snapshots.iter().copied().collect();
    let again = |store: &Store| snapshots(store).map(|(all, is_complete)| is_complete.then_some(all));
    let swept = maintenance.delete_doubtful(&compacted.doubtful, &known, again, options.patience)?;
    collected.compacted_packs = compacted.replaced.len() as u64 + swept.deleted;
    collected.waiting_packs = swept.waiting + swept.spared;
    Ok(())
}

/// Removes what captures that were killed have left in states/, and what is of segments that are gone. A capture that lives
/// only loses what it would have kept there.
fn sweep_states(store: &Store, dry_run: bool, collected: &mut Collected) -> Result<()> {
    let states = store.storage().list(STATES)?.into_iter().filter(|file| file.name.ends_with(".tmp"));
    for file in states.chain(left_behind(&**store.storage())?) {
        if !dry_run && !remove_if_there(&**store.storage(), &format!("{STATES}/{}", file.name))? {
            continue;
        }
        collected.count_removed(&file);
    }
    Ok(())
}

/// Removes what captures that were killed have left in tmp/.
fn sweep_leftovers(store: &Store, dry_run: bool, collected: &mut Collected) -> Result<()> {
    let storage = store.storage();
    // A temporary file begins with its writer's slot. Whoever holds that slot's lock may be writing it; while this holds
    // the lock, nobody is.
    let mut ours: Vec<Box<dyn Lock>> = Vec::new();
    let (mut free, mut busy) = (HashSet::new(), HashSet::new());
    for file in storage.list(TEMPORARY)? {
        let Some(slot) = file.name.split('-').next().map(str::to_owned) else { continue };
        if !free.contains(&slot) && !busy.contains(&slot) {
            match storage.try_lock(&format!("{FOLDER}/{slot}"))? {
                Some(lock) => {
                    ours.push(lock);
                    free.insert(slot.clone());
                }
                None => drop(busy.insert(slot.clone())),
            }
        }
        if free.contains(&slot) {
            // Where it is gone, its writer was still there when the folder was listed, and has given it its name since.
            if !dry_run && !remove_if_there(&**storage, &format!("{TEMPORARY}/{}", file.name))? {
                continue;
            }
            collected.count_removed(&file);
        }
    }
    Ok(())
}
