//! What the packs folder holds and where each object is: the index, and in memory whatever it does not know yet.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::id::{ObjectId, StoreId};
use crate::index::{Index, NewPack};
use crate::pack::format::{ObjectKind, Prefix};
use crate::pack::{Frame, Pack};
use crate::storage::{Storage, StoredFile};

/// The folder of the packs.
pub const PACKS: &str = "packs";
/// The ending of a pack's name.
pub const PACK_ENDING: &str = ".pack";
/// The index.
pub const INDEX_PATH: &str = "index.sqlite";
/// Packs with more objects than this are indexed; the tables of others are read as quickly as an index is asked.
const INDEXED_OBJECTS: usize = 16_384;
/// From this many packs that the index does not know, it gets them all.
const BACKLOG: usize = 256;

/// An object in an opened pack.
#[derive(Debug, Clone)]
pub struct Place {
    /// The pack.
    pub pack: Arc<Pack>,
    /// The object's place in [`Pack::objects`].
    pub ordinal: usize,
}

impl Place {
    /// What the table says of the object.
    pub fn object(&self) -> Option<&crate::pack::Object> {
        self.pack.objects.get(self.ordinal)
    }

    /// The frame that the object is in.
    pub fn frame(&self) -> Option<&Frame> {
        self.pack.frames.get(self.object()?.frame)
    }
}

struct Slot {
    name: String,
    pack: OnceLock<Option<Arc<Pack>>>,
}

#[derive(Default)]
struct State {
    slots: Vec<Arc<Slot>>,
    by_name: HashMap<String, usize>,
    /// Slot by the index's number.
    indexed: HashMap<i64, usize>,
    /// Objects of packs that the index does not know.
    overlay: HashMap<u64, Vec<(usize, usize)>>,
    in_overlay: Vec<bool>,
}

impl State {
    fn indexed_slots(&self) -> HashSet<usize> {
        self.indexed.values().copied().collect()
    }
}

/// The packs of a store.
pub struct Catalog {
    storage: Arc<dyn Storage>,
    store: StoreId,
    generation: u64,
    state: RwLock<State>,
    index: Mutex<Option<Index>>,
    complete: AtomicBool,
    /// Whether a listed pack was gone when it was to be read.
    vanished: AtomicBool,
    /// The packs that are about to be deleted, by name: what is written now must not rely on them.
    condemned: RwLock<HashSet<String>>,
    damaged: Mutex<Vec<Error>>,
}

/// A lock whose holder panicked is taken over: what it guards is a cache in any state.
pub(super) fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// The files in the packs folder that are packs.
pub fn list_packs(storage: &dyn Storage) -> Result<Vec<StoredFile>> {
    let mut files = storage.list(PACKS)?;
    files.retain(|file| file.name.ends_with(PACK_ENDING));
    Ok(files)
}

impl Catalog {
    /// Lists the packs and opens the index.
    pub fn open(storage: Arc<dyn Storage>, store: StoreId, generation: u64) -> Result<Self> {
        let index = Index::open(&storage.full_path(INDEX_PATH), store, generation);
        let catalog = Self {
            storage,
            store,
            generation,
            state: RwLock::default(),
            index: Mutex::new(index),
            complete: AtomicBool::new(false),
            vanished: AtomicBool::new(false),
            condemned: RwLock::default(),
            damaged: Mutex::default(),
        };
        catalog.refresh()?;
        Ok(catalog)
    }

    /// Where the index is.
    pub fn index_path(&self) -> PathBuf {
        self.storage.full_path(INDEX_PATH)
    }

    /// Lists the packs folder again and takes in what has come and gone.
    pub fn refresh(&self) -> Result<()> {
        let names = list_packs(&*self.storage)?.into_iter().map(|file| file.name);
        {
            let mut state = self.write_state();
            let mut fresh = State::default();
            for name in names {
                let slot = match state.by_name.get(&name).and_then(|slot| state.slots.get(*slot)) {
                    Some(slot) => Arc::clone(slot),
                    None => Arc::new(Slot { name: name.clone(), pack: OnceLock::new() }),
                };
                fresh.by_name.insert(name, fresh.slots.len());
                fresh.slots.push(slot);
            }
            fresh.in_overlay = vec![false; fresh.slots.len()];
            if let Some(Ok(packs)) = locked(&self.index).as_ref().map(Index::packs) {
                for pack in packs {
                    if let Some(slot) = fresh.by_name.get(&pack.name) {
                        fresh.indexed.insert(pack.number, *slot);
                    }
                }
            }
            *state = fresh;
        }
        self.complete.store(false, Ordering::Relaxed);
        let known = self.read_state().indexed_slots();
        self.overlay_packs(|slot| !known.contains(&slot));
        Ok(())
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write_state(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn overlay_packs(&self, wanted: impl Fn(usize) -> bool) {
        let slots: Vec<(usize, Arc<Slot>)> = {
            let state = self.read_state();
            let new = |slot: &usize| wanted(*slot) && !state.in_overlay.get(*slot).copied().unwrap_or(true);
            (0..state.slots.len())
                .filter(new)
                .filter_map(|slot| Some((slot, Arc::clone(state.slots.get(slot)?))))
                .collect()
        };
        // A thread of the pool may hold a frame, and takes on other work while it waits for what it has given away: work that
        // may want that frame.
        let is_in_pool = rayon::current_thread_index().is_some();
        let opened: Vec<(usize, Option<Arc<Pack>>)> = if slots.len() < 4 || is_in_pool {
            slots.iter().map(|(number, slot)| (*number, self.open_slot(slot))).collect()
        } else {
            slots.par_iter().map(|(number, slot)| (*number, self.open_slot(slot))).collect()
        };
        let mut state = self.write_state();
        for (number, pack) in opened {
            for (ordinal, object) in pack.iter().flat_map(|pack| pack.objects.iter().enumerate()) {
                state.overlay.entry(object.name.key()).or_default().push((number, ordinal));
            }
            if let Some(done) = state.in_overlay.get_mut(number) {
                *done = true;
            }
        }
    }

    fn open_slot(&self, slot: &Slot) -> Option<Arc<Pack>> {
        let open = || match Pack::open(&*self.storage, &format!("{PACKS}/{}", slot.name)) {
            Ok(pack) if pack.store == self.store => Some(Arc::new(pack)),
            Ok(pack) => {
                let reason = format!("it belongs to the store {}, not to {}", pack.store, self.store);
                locked(&self.damaged).push(Error::damaged(self.storage.full_path(&pack.path), reason));
                None
            }
            // It was listed, and has been merged into another since.
            Err(error) if error.is_not_found() => {
                self.note_vanished();
                None
            }
            Err(error) => {
                locked(&self.damaged).push(error);
                None
            }
        };
        slot.pack.get_or_init(open).clone()
    }

    /// Packs that could not be opened so far.
    pub fn take_damaged(&self) -> Vec<Error> {
        std::mem::take(&mut locked(&self.damaged))
    }

    /// Opens every pack; those that cannot be opened are in [`Catalog::take_damaged`].
    pub fn packs(&self) -> Vec<Arc<Pack>> {
        let slots = self.read_state().slots.clone();
        slots.par_iter().filter_map(|slot| self.open_slot(slot)).collect()
    }

    /// The places of all objects with a key, as far as index and overlay know.
    pub fn places_by_key(&self, key: u64) -> Vec<Place> {
        // The index of most stores has no pack in it: then it has nothing to say of an object either.
        let is_indexed = !self.read_state().indexed.is_empty();
        let answer = if is_indexed { locked(&self.index).as_ref().map(|index| index.places(key)) } else { None };
        let from_index = match answer {
            Some(Ok(places)) => places,
            Some(Err(_)) => {
                // Busy or broken: the packs' own tables say the same, and without a wait for each question.
                *locked(&self.index) = None;
                self.overlay_packs(|_| true);
                Vec::new()
            }
            None => Vec::new(),
        };
        let candidates: Vec<(Arc<Slot>, usize)> = {
            let state = self.read_state();
            let indexed = from_index.into_iter().filter_map(|(pack, ordinal)| {
                // Rows of packs that are gone point nowhere.
                Some((*state.indexed.get(&pack)?, usize::try_from(ordinal).ok()?))
            });
            let overlaid = state.overlay.get(&key).into_iter().flatten().copied();
            indexed
                .chain(overlaid)
                .filter_map(|(slot, ordinal)| Some((Arc::clone(state.slots.get(slot)?), ordinal)))
                .collect()
        };
        let mut places: Vec<Place> = Vec::new();
        for (slot, ordinal) in candidates {
            let Some(pack) = self.open_slot(&slot) else { continue };
            let place = Place { pack, ordinal };
            let right = place.object().is_some_and(|object| object.name.key() == key);
            if right && !places.iter().any(|p| p.ordinal == place.ordinal && Arc::ptr_eq(&p.pack, &place.pack)) {
                places.push(place);
            }
        }
        places
    }

    /// The places that an object may be at, as far as index and overlay know: no row is no proof that it is not there,
    /// and where a table has a key alone, only the content is proof that it is.
    pub fn places(&self, kind: ObjectKind, id: ObjectId) -> Vec<Place> {
        let mut places = self.places_by_key(id.key());
        places.retain(|place| place.object().is_some_and(|object| object.may_be(kind, id)));
        places
    }

    /// Those of [`Catalog::places`] that are not about to be deleted.
    pub fn lasting_places(&self, kind: ObjectKind, id: ObjectId) -> Vec<Place> {
        let mut places = self.places(kind, id);
        places.retain(|place| self.is_lasting(place));
        places
    }

    /// Whether a place is in a pack that is not about to be deleted.
    pub fn is_lasting(&self, place: &Place) -> bool {
        let condemned = self.condemned.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        condemned.is_empty() || !condemned.contains(place.pack.name())
    }

    /// Sets which packs are about to be deleted, by name.
    pub fn set_condemned(&self, packs: HashSet<String>) {
        *self.condemned.write().unwrap_or_else(std::sync::PoisonError::into_inner) = packs;
    }

    /// Notes that a listed pack is gone, so that [`Catalog::complete`] lists them again.
    pub fn note_vanished(&self) {
        self.vanished.store(true, Ordering::Relaxed);
    }

    /// The places of what a frame of `pack` may be a difference to. Only those of a lower chain position count: so no chain
    /// of them ever leads in a circle.
    pub fn bases(&self, pack: &Arc<Pack>, frame: &Frame) -> Vec<Place> {
        let mut places = match frame.prefix {
            Prefix::None => Vec::new(),
            Prefix::Here(ordinal) => vec![Place { pack: Arc::clone(pack), ordinal: ordinal as usize }],
            Prefix::Anywhere(key) => self.places_by_key(key),
        };
        places.retain(|place| place.frame().is_some_and(|base| base.chain_position < frame.chain_position));
        places
    }

    /// Takes every pack into memory, in case the index is wrong. Whether that was new.
    pub fn complete(&self) -> Result<bool> {
        let has_vanished = self.vanished.swap(false, Ordering::Relaxed);
        if self.complete.load(Ordering::Relaxed) && !has_vanished {
            return Ok(false);
        }
        self.refresh()?;
        self.overlay_packs(|_| true);
        self.complete.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether the index should be brought up to date: it lacks a large pack, or a great many.
    pub fn has_backlog(&self) -> bool {
        !self.unindexed().is_empty()
    }

    /// The packs that the index does not know and should.
    pub fn unindexed(&self) -> Vec<Arc<Pack>> {
        let mut packs = self.opened();
        if packs.len() < BACKLOG {
            packs.retain(|pack| pack.objects.len() > INDEXED_OBJECTS);
        }
        packs
    }

    /// The packs that the index does not know.
    pub fn opened(&self) -> Vec<Arc<Pack>> {
        let slots: Vec<Arc<Slot>> = {
            let state = self.read_state();
            let known = state.indexed_slots();
            let is_new = |(number, _): &(usize, &Arc<Slot>)| !known.contains(number);
            state.slots.iter().enumerate().filter(is_new).map(|(_, slot)| Arc::clone(slot)).collect()
        };
        slots.iter().filter_map(|slot| self.open_slot(slot)).collect()
    }

    /// Reads something from the index; `None` where there is none or it fails.
    pub fn ask_index<T>(&self, question: impl FnOnce(&Index) -> Result<T, crate::index::IndexError>) -> Option<T> {
        locked(&self.index).as_ref().and_then(|index| question(index).ok())
    }

    /// Closes the index, brings it up to date with `packs` and `journals`, and opens it again.
    pub fn add_to_index(
        &self,
        packs: &[Arc<Pack>],
        journals: &[crate::index::JournalTail],
    ) -> Result<(), crate::index::IndexError> {
        let mut index = locked(&self.index);
        let open = || Index::open_or_create(&self.index_path(), self.store, self.generation);
        let mut writer = match index.take() {
            Some(index) => index,
            None => open()?,
        };
        let new: Vec<NewPack<'_>> = packs
            .iter()
            .map(|pack| NewPack {
                name: pack.name(),
                bytes: pack.bytes,
                objects: pack.objects.iter().map(|object| object.name.key()).collect(),
            })
            .collect();
        let mut added = writer.add(&new, journals);
        if added.as_ref().is_err_and(|error| !crate::index::is_busy(error)) {
            // Somebody has removed the index since it was opened, to make it anew.
            drop(writer);
            writer = open()?;
            added = writer.add(&new, journals);
        }
        *index = Some(writer);
        added
    }
}
