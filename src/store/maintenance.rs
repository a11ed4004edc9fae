//! Maintenance: one process at a time deletes what is not needed, while captures go on.
//!
//! A capture relies on packs that it has found, and says so in a record only at its end. So packs with garbage in them
//! are first listed in `condemned.json`. Captures that begin later treat what is in them as absent; those that began
//! earlier are waited for, and their records read, before anything is deleted. `schema/store.md` has the argument.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::Store;
use super::catalog::{PACKS, list_packs};
use super::slot::{ActiveWriter, FOLDER, TEMPORARY};
use crate::error::{Error, Result};
use crate::id::{ObjectId, random_name};
use crate::pack::format::Prefix;
use crate::storage::{Lock, Storage, StoredFile, remove_if_there, write_whole};

/// The list of packs that are about to be deleted.
pub const CONDEMNED_PATH: &str = "condemned.json";
/// The file whose lock whoever maintains a store holds, and the beginning of its names in tmp/.
const LOCK_NAME: &str = "maintenance";
const FORMAT: &str = "runsnap-condemned";
const MAX_BYTES: u64 = 64 << 20;
/// Between two looks at writers that are waited for.
const PAUSE: Duration = Duration::from_millis(2);

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct CondemnedList {
    format: String,
    version: u64,
    packs: Vec<String>,
    /// Whether nothing needs them any more and some may be gone already.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    deleting: bool,
    checksum: Option<ObjectId>,
}

impl CondemnedList {
    fn read(storage: &dyn Storage) -> Result<CondemnedFile> {
        let bytes = match storage.read(CONDEMNED_PATH, MAX_BYTES) {
            Ok(bytes) => bytes,
            Err(error) if error.is_not_found() => return Ok(CondemnedFile::Missing),
            Err(error) => return Err(error),
        };
        match serde_json::from_slice::<Self>(&bytes) {
            Ok(list) if list.version == 1 && list.checksum == Some(list.checksum_of()) => {
                Ok(CondemnedFile::Whole(list))
            }
            _ => Ok(CondemnedFile::Unreadable),
        }
    }

    fn checksum_of(&self) -> ObjectId {
        let bare = Self { checksum: None, ..self.clone() };
        ObjectId::of(&serde_json::to_vec(&bare).unwrap_or_default())
    }
}

/// What is found where the list may be.
enum CondemnedFile {
    Missing,
    Whole(CondemnedList),
    Unreadable,
}

/// The packs that are about to be deleted.
pub(super) fn condemned(storage: &dyn Storage) -> Result<HashSet<String>> {
    match CondemnedList::read(storage)? {
        CondemnedFile::Missing => Ok(HashSet::new()),
        CondemnedFile::Whole(list) => Ok(list.packs.into_iter().collect()),
        // Which packs are to go cannot be told: nothing that is written now relies on any of them.
        CondemnedFile::Unreadable => Ok(list_packs(storage)?.into_iter().map(|pack| pack.name).collect()),
    }
}

/// The packs whose deletion was begun. Nothing needs them, and what they are differences to may be gone.
pub(super) fn half_deleted(storage: &dyn Storage) -> Result<HashSet<String>> {
    match CondemnedList::read(storage)? {
        CondemnedFile::Whole(list) if list.deleting => Ok(list.packs.into_iter().collect()),
        _ => Ok(HashSet::new()),
    }
}

/// A new name in tmp/ for who holds the lock of maintenance. What is left of it the next gc removes.
pub(super) fn temporary() -> String {
    format!("{TEMPORARY}/{LOCK_NAME}-{}.tmp", random_name())
}

/// The right to merge and delete files of a store, which one process at a time has.
pub struct Maintenance<'s> {
    store: &'s Store,
    _lock: Box<dyn Lock>,
}

/// What became of condemned packs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Swept {
    /// The packs that were deleted.
    pub deleted: u64,
    /// The packs that a capture has come to need meanwhile.
    pub spared: u64,
    /// The packs left for another time, because captures under way may need them.
    pub waiting: u64,
}

impl Store {
    /// Takes the right to maintain the store; `None` where another process has it for longer than `patience`.
    pub fn maintenance(&self, patience: Duration) -> Result<Option<Maintenance<'_>>> {
        self.check_writable()?;
        Ok(self.lock_maintenance(patience)?.map(|lock| Maintenance { store: self, _lock: lock }))
    }

    /// Takes the lock of maintenance, for those who open the store anew while they have it.
    pub fn lock_maintenance(&self, patience: Duration) -> Result<Option<Box<dyn Lock>>> {
        let started = Instant::now();
        loop {
            if let Some(lock) = self.storage.try_lock(&format!("{FOLDER}/{LOCK_NAME}"))? {
                return Ok(Some(lock));
            }
            if started.elapsed() >= patience {
                return Ok(None);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Maintenance<'_> {
    /// A new name in tmp/.
    pub fn temporary(&self) -> String {
        temporary()
    }

    /// Removes what maintenance that was killed has left: unfinished files, packs whose deletion was begun, and the list of
    /// condemned packs.
    ///
    /// As long as no deletion was begun, the packs on the list are whole, and whoever goes on finds out again which may go.
    /// Returns the unfinished files.
    pub fn clean_up(&self) -> Result<Vec<StoredFile>> {
        let storage = &*self.store.storage;
        let mut removed = storage.list(TEMPORARY)?;
        removed.retain(|file| file.name.split('-').next() == Some(LOCK_NAME));
        for file in &removed {
            remove_if_there(storage, &format!("{TEMPORARY}/{}", file.name))?;
        }
        self.finish_deletion()?;
        self.pardon()?;
        Ok(removed)
    }

    /// Deletes the rest of the packs whose deletion was begun by maintenance that was killed. Captures have treated what is in
    /// them as absent ever since.
    pub fn finish_deletion(&self) -> Result<()> {
        let packs = half_deleted(&*self.store.storage)?;
        if packs.is_empty() {
            return Ok(());
        }
        self.remove(&packs)?;
        self.pardon()
    }

    fn pardon(&self) -> Result<()> {
        match remove_if_there(&*self.store.storage, CONDEMNED_PATH)? {
            true => self.store.storage.sync_folder(""),
            false => Ok(()),
        }
    }

    fn condemn(&self, packs: &HashSet<String>, deleting: bool) -> Result<()> {
        let mut packs: Vec<String> = packs.iter().cloned().collect();
        packs.sort();
        let mut list = CondemnedList { format: FORMAT.to_owned(), version: 1, packs, deleting, checksum: None };
        list.checksum = Some(list.checksum_of());
        let text = serde_json::to_vec_pretty(&list).map_err(|e| Error::Usage(format!("Cannot list packs: {e}")))?;
        write_whole(&*self.store.storage, &self.temporary(), CONDEMNED_PATH, &text, true)
    }

    /// Deletes packs all of whose objects are, flushed and read back, in other packs at no higher chain positions. Nothing
    /// has to be waited for: whoever found an object in them finds it in the others.
    pub fn delete_replaced(&self, packs: &[String]) -> Result<()> {
        if packs.is_empty() {
            return Ok(());
        }
        self.remove(packs)?;
        self.store.catalog.refresh()
    }

    /// Removes packs, durably. Some may be gone already.
    fn remove<'p>(&self, packs: impl IntoIterator<Item = &'p String>) -> Result<()> {
        for name in packs {
            remove_if_there(&*self.store.storage, &format!("{PACKS}/{name}"))?;
        }
        self.store.storage.sync_folder(PACKS)
    }

    /// Deletes packs that captures under way may need, once none of those can any more.
    ///
    /// `known` are the snapshots that were looked at when it was found that none needs the packs; `snapshots` tells those of
    /// all runs, or that some run cannot be read. Captures that were under way then are
    /// waited for up to `patience`; where they take longer, nothing is deleted.
    pub fn delete_doubtful(
        &self,
        packs: &[String],
        known: &HashSet<ObjectId>,
        snapshots: impl Fn(&Store) -> Result<Option<Vec<ObjectId>>>,
        patience: Duration,
    ) -> Result<Swept> {
        let storage = &*self.store.storage;
        let mut condemned: HashSet<String> = packs.iter().cloned().collect();
        if condemned.is_empty() {
            return Ok(Swept::default());
        }
        self.condemn(&condemned, false)?;
        // Whoever takes a slot from here on reads the list after that.
        let mut earlier = ActiveWriter::all(storage)?;
        let started = Instant::now();
        loop {
            let mut left = Vec::new();
            for writer in earlier {
                if !writer.has_ended(storage)? {
                    left.push(writer);
                }
            }
            earlier = left;
            if earlier.is_empty() {
                break;
            }
            if started.elapsed() >= patience {
                self.pardon()?;
                return Ok(Swept { waiting: condemned.len() as u64, ..Swept::default() });
            }
            std::thread::sleep(PAUSE);
        }
        // All that captures before the list have found is in a record now, or will never be.
        let spared = self.spare(&mut condemned, known, snapshots)?;
        if condemned.is_empty() {
            self.pardon()?;
            return Ok(Swept { spared, ..Swept::default() });
        }
        self.store.raise_generation(&self.temporary())?;
        // From here on some of them may be there without what they are differences to.
        self.condemn(&condemned, true)?;
        self.remove(&condemned)?;
        self.pardon()?;
        self.store.catalog.refresh()?;
        Ok(Swept { deleted: condemned.len() as u64, spared, waiting: 0 })
    }

    /// Takes from the condemned packs those that records or packs have come to need.
    fn spare(
        &self,
        condemned: &mut HashSet<String>,
        known: &HashSet<ObjectId>,
        snapshots: impl Fn(&Store) -> Result<Option<Vec<ObjectId>>>,
    ) -> Result<u64> {
        let before = condemned.len();
        loop {
            let count = condemned.len();
            self.store.catalog.refresh()?;
            self.store.catalog.set_condemned(condemned.clone());
            // A record that cannot be read may need anything.
            let Some(all) = snapshots(self.store)? else {
                condemned.clear();
                break;
            };
            let new: Vec<ObjectId> = all.into_iter().filter(|snapshot| !known.contains(snapshot)).collect();
            for holder in self.store.holders_of_unlasting(&new)? {
                condemned.remove(&holder);
            }
            // What is a difference to something in a condemned pack, and finds it nowhere else, needs that pack.
            for pack in self.store.catalog.packs() {
                if condemned.contains(pack.name()) {
                    continue;
                }
                for frame in pack.frames.iter().filter(|frame| matches!(frame.prefix, Prefix::Anywhere(_))) {
                    let bases = self.store.catalog.bases(&pack, frame);
                    if !bases.iter().any(|base| self.store.catalog.is_lasting(base)) {
                        for base in bases {
                            condemned.remove(base.pack.name());
                        }
                    }
                }
            }
            if condemned.len() == count {
                break;
            }
        }
        self.store.catalog.set_condemned(HashSet::new());
        Ok((before - condemned.len()) as u64)
    }
}
