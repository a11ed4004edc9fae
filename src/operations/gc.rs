//! gc: sweeps up what killed captures left, and brings the index up to date.

use std::collections::HashSet;

use serde::Serialize;

use crate::error::Result;
use crate::progress::Progress;
use crate::storage::Lock;
use crate::store::Store;
use crate::store::slot::{FOLDER, TEMPORARY};

/// What gc did, or with `dry_run` would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Leftovers of writers that are gone.
    pub removed_files: u64,
    /// Their bytes.
    pub removed_bytes: u64,
}

/// Collects garbage. Captures go on meanwhile; nothing that any run record names is touched.
pub fn gc(store: &Store, dry_run: bool, progress: &dyn Progress) -> Result<Collected> {
    if !dry_run {
        store.check_writable()?;
    }
    let storage = store.storage();
    let mut collected = Collected::default();
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
            if !dry_run {
                match storage.remove(&format!("{TEMPORARY}/{}", file.name)) {
                    // Its writer was still there when the folder was listed, and has given it its name since.
                    Err(error) if error.is_not_found() => continue,
                    other => other?,
                }
            }
            collected.removed_files += 1;
            collected.removed_bytes += file.bytes;
        }
    }
    drop(ours);
    if !dry_run {
        // The index is a cache: somebody else is writing it just now, or will.
        if let Err(error) = store.update_index(true) {
            progress.warn(&format!("The index is not up to date: {error}"));
        }
    }
    Ok(collected)
}
