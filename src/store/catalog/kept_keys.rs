//! What is known of packs without opening them: their keys in short, which a capture keeps for the next.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::packs::PackFile;
use super::{BACKLOG, Catalog, INDEXED_OBJECTS, SCANS, locked};
use crate::error::Result;
use crate::pack::PackSummary;
use crate::storage::StoredFile;
use crate::store::pack_keys::{KeysOfPack, PackKeys};

/// So many packs of which no keys are kept are opened for that alone.
const NEW_PACKS: usize = 4;

impl Catalog {
    /// Asks what is kept in short of each pack that is listed, until the answer is no; also where nothing is kept of a pack. No
    /// pack is opened for that.
    fn is_kept_of_all(&self, question: impl Fn(&KeysOfPack) -> bool) -> bool {
        if self.list_once().is_err() {
            return false;
        }
        let mut keys = locked(&self.keys);
        let keys = keys.get_or_insert_with(|| PackKeys::load(&*self.storage, self.store));
        self.listing().files.iter().all(|file| keys.get(file.stamp).is_some_and(&question))
    }

    /// Whether no pack has an object of that key, as far as can be told without opening any. If it is not known, one may.
    pub fn is_surely_new(&self, key: u64) -> bool {
        // Once the tables are in memory they are asked as quickly, and for many questions their keys are sorted.
        self.questions.fetch_add(1, Ordering::Relaxed) < SCANS
            && !self.listing().is_taken_in
            && self.is_kept_of_all(|pack| pack.lacks(key))
    }

    /// The tiers of the packs, and how much content each has, if that can be told without opening any.
    pub fn kept_tiers(&self) -> Option<Vec<(u8, u64)>> {
        let tiers = RefCell::new(Vec::new());
        let is_known = self.is_kept_of_all(|pack| {
            tiers.borrow_mut().push((pack.tier, pack.raw_bytes));
            true
        });
        is_known.then(|| tiers.into_inner())
    }

    /// Takes in packs that were just written, and keeps the keys of these and of others that are new or have been opened
    /// anyway; the stamps of those that were written. The folder is not listed again for that.
    pub fn take_written(&self, written: &[PackSummary]) -> Result<Vec<u64>> {
        let mut known = Vec::new();
        for pack in written {
            let StoredFile { name, stamp, .. } = match self.storage.look(&pack.path) {
                Ok(file) => file,
                // Another capture has merged it already.
                Err(error) if error.is_not_found() => {
                    self.forget_listing();
                    continue;
                }
                Err(error) => return Err(error),
            };
            known.push((stamp, KeysOfPack::of_written(pack, INDEXED_OBJECTS)));
            let mut listing = self.write_listing();
            if listing.is_listed && listing.add(&name, stamp) {
                self.complete.store(false, Ordering::Relaxed);
            }
        }
        let stamps = known.iter().map(|(stamp, _)| *stamp).collect();
        // Only a cache: a capture does without it.
        let _ = self.keep_keys_with(known);
        Ok(stamps)
    }

    /// Keeps the keys of packs that are new or have been opened anyway.
    pub fn keep_keys(&self) -> Result<()> {
        self.keep_keys_with(Vec::new())
    }

    fn keep_keys_with(&self, mut new: Vec<(u64, KeysOfPack)>) -> Result<()> {
        let there = self.stamps()?;
        let mut keys = locked(&self.keys);
        let keys = keys.get_or_insert_with(|| PackKeys::load(&*self.storage, self.store));
        let files = self.listing().files.clone();
        let is_unknown = |file: &&Arc<PackFile>| {
            keys.get(file.stamp).is_none() && !new.iter().any(|(stamp, _)| *stamp == file.stamp)
        };
        let unknown: Vec<&Arc<PackFile>> = files.iter().filter(is_unknown).collect();
        let unopened = unknown.iter().filter(|file| file.pack.get().is_none()).count();
        let wanted = unknown.iter().filter(|file| unopened <= NEW_PACKS || file.pack.get().is_some());
        new.extend(wanted.filter_map(|file| Some((file.stamp, KeysOfPack::of(&*self.open(file)?, INDEXED_OBJECTS)))));
        keys.add(&*self.storage, self.store, new, &there)
    }

    /// Whether the index may lack something that it should have, as far as can be told without it.
    pub fn is_crowded(&self) -> bool {
        if !self.listing().is_taken_in && self.is_kept_of_all(|pack| pack.keys.is_some()) {
            return self.listing().files.len() >= BACKLOG;
        }
        self.ensure_taken_in();
        let listing = self.listing();
        let is_large = |file: &Arc<PackFile>| {
            file.is_large.load(Ordering::Relaxed)
                || file.opened().is_some_and(|pack| pack.objects.len() > INDEXED_OBJECTS)
        };
        listing.files.len() >= BACKLOG || listing.files.iter().any(is_large)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{PACK_ENDING, PACKS, Store};

    #[test]
    fn a_pack_that_was_merged_meanwhile_is_not_waited_for() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = Store::init(&folder.path().join("store")).expect("made");
        let path = |name: &str| format!("{PACKS}/{name}{PACK_ENDING}");
        let pack = |path| PackSummary { path, bytes: 0, tier: 0, raw_bytes: 0, keys: Vec::new() };
        assert_eq!(store.catalog().listed().expect("lists"), []);
        drop(store.storage().create(&path("there")).expect("created"));
        let written = [pack(path("gone")), pack(path("there"))];
        let stamps = store.catalog().take_written(&written).expect("taken");
        let listed = store.catalog().listed().expect("lists");
        assert_eq!(
            listed.iter().map(|(name, stamp)| (name.as_str(), *stamp)).collect::<Vec<_>>(),
            [("there.pack", stamps[0])]
        );
        assert_eq!(stamps.len(), 1);
    }
}
