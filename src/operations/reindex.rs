//! reindex: makes the index anew from packs and journals alone.

use serde::Serialize;

use crate::error::{Error, Result};
use crate::storage::remove_if_there;
use crate::store::{INDEX_PATH, Store};

/// What the new index holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Reindexed {
    /// How many packs.
    pub packs: u64,
    /// How many objects.
    pub objects: u64,
    /// How many runs.
    pub runs: u64,
    /// Packs and journals that could not be read, a line each.
    pub problems: Vec<String>,
}

/// Removes the index of a store and makes it again.
pub fn reindex(store: Store) -> Result<Reindexed> {
    let storage = store.storage().clone();
    drop(store);
    for ending in ["", "-journal"] {
        remove_if_there(&*storage, &format!("{INDEX_PATH}{ending}"))?;
    }
    // Or a power cut might bring it back, with names that merges have forgotten since.
    storage.sync_folder("")?;
    let store = Store::open_in(storage)?;
    store.update_index(true)?;
    let packs = store.catalog().packs();
    let runs = store.runs()?;
    let mut problems: Vec<String> = store.catalog().take_damaged().iter().map(Error::to_string).collect();
    let in_journals = runs.problems.iter().filter(|problem| !problem.unfinished);
    problems.extend(
        in_journals.map(|p| format!("Damaged: {}: bytes {} to {}: {}", p.path.display(), p.offset, p.end, p.reason)),
    );
    Ok(Reindexed {
        packs: packs.len() as u64,
        objects: packs.iter().map(|pack| pack.objects.len() as u64).sum(),
        runs: runs.len() as u64,
        problems,
    })
}
