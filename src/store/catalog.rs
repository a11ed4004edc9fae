//! What the packs folder holds and where each object is: the index, and in memory whatever it does not know yet.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use rayon::prelude::*;

use super::pack_keys::{KeysOfPack, PackKeys};
use crate::error::{Error, Result};
use crate::id::{ObjectId, StoreId};
use crate::index::{Index, IndexError, JournalTail, NewPack};
use crate::pack::format::{ObjectKind, Prefix};
use crate::pack::{Frame, Pack, PackSummary};
use crate::storage::{Storage, StoredFile};

/// The folder of the packs.
pub const PACKS: &str = "packs";
/// The ending of a pack's name.
pub const PACK_ENDING: &str = ".pack";
/// The index.
pub const INDEX_PATH: &str = "index.sqlite";
/// Packs with more objects than this are indexed; the tables of others are read as quickly as an index is asked.
const INDEXED_OBJECTS: usize = 16_384;
/// A table of no more bytes than this has few objects: an id takes 32 of them.
const SMALL_TABLE_BYTES: u64 = 32 * INDEXED_OBJECTS as u64;
/// So many questions are answered by going through the tables.
const SCANS: usize = 24;
/// So many packs are opened by all cores together: for fewer, calling these up takes longer.
const PARALLEL_PACKS: usize = 64;
/// From this many packs that the index does not know, it gets them all.
const BACKLOG: usize = 256;
/// So many packs of which no keys are kept are opened for that alone.
const NEW_PACKS: usize = 4;

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
    stamp: u64,
    pack: OnceLock<Option<Arc<Pack>>>,
    /// Whether its table was found to be too long to be read without having asked the index first.
    is_large: AtomicBool,
}

impl Slot {
    fn new(name: String, stamp: u64) -> Self {
        Self { name, stamp, pack: OnceLock::new(), is_large: AtomicBool::new(false) }
    }
}

#[derive(Default)]
struct State {
    slots: Vec<Arc<Slot>>,
    by_name: HashMap<String, usize>,
    /// Slot by the index's number.
    indexed: HashMap<i64, usize>,
    /// Objects of packs that the index does not know.
    overlay: HashMap<u64, Vec<(usize, usize)>, BuildHasherDefault<KeyHasher>>,
    /// Which packs' tables are in memory, by slot, and of which the objects are in `overlay` already.
    in_overlay: Vec<bool>,
    in_map: Vec<bool>,
    /// Whether the folder has been listed since somebody asked for that.
    is_listed: bool,
    /// Whether what was listed is in the overlay or known to be in the index.
    is_taken_in: bool,
}

/// Keys are the beginnings of hashes: they need no other.
#[derive(Default)]
struct KeyHasher(u64);

impl Hasher for KeyHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

impl State {
    /// The packs whose tables are in memory.
    fn opened(&self) -> impl Iterator<Item = (usize, &Arc<Pack>)> {
        let slots = self.slots.iter().enumerate().zip(&self.in_overlay).filter(|(_, is_in)| **is_in);
        slots.filter_map(|((number, slot), _)| Some((number, slot.pack.get()?.as_ref()?)))
    }

    /// Where the tables in memory have a key, by going through them.
    fn scan(&self, key: u64) -> Vec<(usize, usize)> {
        let objects = self.opened().flat_map(|(slot, pack)| pack.objects.iter().enumerate().map(move |o| (slot, o)));
        objects.filter(|(_, (_, object))| object.name.key() == key).map(|(slot, (n, _))| (slot, n)).collect()
    }

    /// Puts the objects of all tables in memory into the map.
    fn fill_map(&mut self) {
        self.in_map.resize(self.slots.len(), false);
        for (number, slot) in self.slots.iter().enumerate() {
            let is_in = self.in_overlay.get(number).copied().unwrap_or(false);
            let Some(in_map) = self.in_map.get_mut(number).filter(|done| is_in && !**done) else { continue };
            *in_map = true;
            for (ordinal, object) in
                slot.pack.get().iter().copied().flatten().flat_map(|p| p.objects.iter().enumerate())
            {
                self.overlay.entry(object.name.key()).or_default().push((number, ordinal));
            }
        }
    }

    fn is_map_full(&self) -> bool {
        let in_map = self.in_map.iter().chain(std::iter::repeat(&false));
        self.in_overlay.iter().zip(in_map).all(|(is_in, in_map)| !is_in || *in_map)
    }

    fn indexed_slots(&self) -> HashSet<usize> {
        self.indexed.values().copied().collect()
    }
}

/// The index, once it was needed.
#[derive(Default)]
enum IndexState {
    #[default]
    Unopened,
    Absent,
    Open(Index),
}

/// Which packs are to be taken into memory.
#[derive(Clone, Copy)]
enum Overlay<'k> {
    All,
    /// Those whose tables are short.
    Small,
    /// All but these slots, which the index knows.
    But(&'k HashSet<usize>),
}

/// The packs of a store. Nothing is listed and nothing opened before it is asked for.
pub struct Catalog {
    storage: Arc<dyn Storage>,
    store: StoreId,
    generation: u64,
    state: RwLock<State>,
    index: Mutex<IndexState>,
    complete: AtomicBool,
    /// How often it was asked for a key, and whether no pack has one.
    asked: AtomicUsize,
    questions: AtomicUsize,
    /// Whether a listed pack was gone when it was to be read.
    vanished: AtomicBool,
    /// The keys of the packs, as they are kept in short, once they were needed.
    keys: Mutex<Option<PackKeys>>,
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
    /// The packs of a store in that generation.
    pub fn new(storage: Arc<dyn Storage>, store: StoreId, generation: u64) -> Self {
        Self {
            storage,
            store,
            generation,
            state: RwLock::default(),
            index: Mutex::default(),
            complete: AtomicBool::new(false),
            asked: AtomicUsize::new(0),
            questions: AtomicUsize::new(0),
            vanished: AtomicBool::new(false),
            keys: Mutex::default(),
            condemned: RwLock::default(),
            damaged: Mutex::default(),
        }
    }

    /// Where the index is.
    pub fn index_path(&self) -> PathBuf {
        self.storage.full_path(INDEX_PATH)
    }

    /// Takes what is known of the packs folder for old: it is listed again when it is next asked about.
    pub fn forget_listing(&self) {
        let mut state = self.write_state();
        (state.is_listed, state.is_taken_in) = (false, false);
        self.questions.store(0, Ordering::Relaxed);
    }

    /// The names of the packs, and the stamps of the files. No pack is opened for that.
    pub fn listed(&self) -> Result<Vec<(String, u64)>> {
        if !self.read_state().is_listed {
            self.list()?;
        }
        Ok(self.read_state().slots.iter().map(|slot| (slot.name.clone(), slot.stamp)).collect())
    }

    /// Asks what is kept in short of each pack that is listed, until the answer is no; also where nothing is kept of a pack. No
    /// pack is opened for that.
    fn is_kept_of_all(&self, question: impl Fn(&KeysOfPack) -> bool) -> bool {
        if !self.read_state().is_listed && self.list().is_err() {
            return false;
        }
        let mut keys = locked(&self.keys);
        let keys = keys.get_or_insert_with(|| PackKeys::load(&*self.storage, self.store));
        self.read_state().slots.iter().all(|slot| keys.get(slot.stamp).is_some_and(&question))
    }

    /// Whether no pack has an object of that key, as far as can be told without opening any. If it is not known, one may.
    pub fn is_surely_new(&self, key: u64) -> bool {
        // Once the tables are in memory they are asked as quickly, and for many questions they are made a map of.
        self.questions.fetch_add(1, Ordering::Relaxed) < SCANS
            && !self.read_state().is_taken_in
            && self.is_kept_of_all(|pack| pack.lacks(key))
    }

    /// The tiers of the packs, and how much content each has, if that can be told without opening any.
    pub fn kept_tiers(&self) -> Option<Vec<(u8, u64)>> {
        let tiers = std::cell::RefCell::new(Vec::new());
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
            let mut state = self.write_state();
            if state.is_listed && !state.by_name.contains_key(&name) {
                let number = state.slots.len();
                state.by_name.insert(name.clone(), number);
                state.slots.push(Arc::new(Slot::new(name, stamp)));
                state.in_overlay.push(false);
                state.is_taken_in = false;
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
        let there = self.listed()?;
        let mut keys = locked(&self.keys);
        let keys = keys.get_or_insert_with(|| PackKeys::load(&*self.storage, self.store));
        let slots = self.read_state().slots.clone();
        let is_unknown =
            |slot: &&Arc<Slot>| keys.get(slot.stamp).is_none() && !new.iter().any(|(stamp, _)| *stamp == slot.stamp);
        let unknown: Vec<&Arc<Slot>> = slots.iter().filter(is_unknown).collect();
        let unopened = unknown.iter().filter(|slot| slot.pack.get().is_none()).count();
        let is_wanted = |slot: &&&Arc<Slot>| unopened <= NEW_PACKS || slot.pack.get().is_some();
        let opened = unknown.iter().filter(is_wanted);
        new.extend(
            opened.filter_map(|slot| Some((slot.stamp, KeysOfPack::of(&*self.open_slot(slot)?, INDEXED_OBJECTS)))),
        );
        let there: Vec<u64> = there.into_iter().map(|(_, stamp)| stamp).collect();
        keys.add(&*self.storage, self.store, new, &there)
    }

    fn ensure_taken_in(&self) {
        if self.read_state().is_taken_in {
            return;
        }
        // Where the folder cannot be listed, whoever misses something asks for everything, and is told why.
        if self.read_state().is_listed || self.list().is_ok() {
            self.take_in();
        }
    }

    /// Lists the packs folder again and takes in what has come and gone.
    pub fn refresh(&self) -> Result<()> {
        self.list()?;
        self.take_in();
        Ok(())
    }

    fn list(&self) -> Result<()> {
        let files = list_packs(&*self.storage)?;
        let mut state = self.write_state();
        let mut fresh = State { is_listed: true, ..State::default() };
        for StoredFile { name, stamp, .. } in files {
            let known = state.by_name.get(&name).and_then(|slot| state.slots.get(*slot));
            let slot = match known.filter(|slot| slot.stamp == stamp) {
                Some(slot) => Arc::clone(slot),
                None => Arc::new(Slot::new(name.clone(), stamp)),
            };
            fresh.by_name.insert(name, fresh.slots.len());
            fresh.slots.push(slot);
        }
        fresh.in_overlay = vec![false; fresh.slots.len()];
        *state = fresh;
        self.complete.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn take_in(&self) {
        // SQLite takes longer to open than a few dozen tables: it is asked where there is a table that it saves us.
        if !self.is_index_opened() && self.read_state().slots.len() < BACKLOG {
            self.overlay_packs(Overlay::Small);
        }
        let is_left = {
            let state = self.read_state();
            state.in_overlay.iter().any(|done| !done)
        };
        if is_left {
            self.take_in_indexed();
            let known = self.read_state().indexed_slots();
            self.overlay_packs(Overlay::But(&known));
        }
        self.write_state().is_taken_in = true;
    }

    fn is_index_opened(&self) -> bool {
        matches!(*locked(&self.index), IndexState::Open(_))
    }

    /// Runs `question` on the index, which is opened if it was not.
    fn with_index<T>(&self, question: impl FnOnce(&Index) -> T) -> Option<T> {
        let mut index = locked(&self.index);
        if matches!(*index, IndexState::Unopened) {
            let opened = Index::open(&self.index_path(), self.store, self.generation);
            *index = opened.map_or(IndexState::Absent, IndexState::Open);
        }
        match &*index {
            IndexState::Open(index) => Some(question(index)),
            _ => None,
        }
    }

    fn take_in_indexed(&self) {
        let Some(Ok(packs)) = self.with_index(Index::packs) else { return };
        let mut state = self.write_state();
        for pack in packs {
            if let Some(slot) = state.by_name.get(&pack.name).copied() {
                state.indexed.insert(pack.number, slot);
            }
        }
    }

    fn read_state(&self) -> std::sync::RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn write_state(&self) -> std::sync::RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn overlay_packs(&self, which: Overlay<'_>) {
        let slots: Vec<(usize, Arc<Slot>)> = {
            let state = self.read_state();
            let is_wanted = |slot: usize| match which {
                Overlay::Small | Overlay::All => true,
                Overlay::But(known) => !known.contains(&slot),
            };
            let new = |slot: &usize| is_wanted(*slot) && !state.in_overlay.get(*slot).copied().unwrap_or(true);
            (0..state.slots.len())
                .filter(new)
                .filter_map(|slot| Some((slot, Arc::clone(state.slots.get(slot)?))))
                .collect()
        };
        let open = |slot: &Slot| match which {
            Overlay::Small => self.open_small(slot),
            _ => Some(self.open_slot(slot)),
        };
        // A thread of the pool may hold a frame, and takes on other work while it waits for what it has given away: work that
        // may want that frame.
        let is_in_pool = rayon::current_thread_index().is_some();
        let opened: Vec<(usize, Option<Option<Arc<Pack>>>)> = if slots.len() < PARALLEL_PACKS || is_in_pool {
            slots.iter().map(|(number, slot)| (*number, open(slot))).collect()
        } else {
            slots.par_iter().map(|(number, slot)| (*number, open(slot))).collect()
        };
        let mut state = self.write_state();
        for (number, pack) in opened {
            let Some(pack) = pack else { continue };
            // One that could not be opened has been looked at as well.
            drop(pack);
            if let Some(done) = state.in_overlay.get_mut(number) {
                *done = true;
            }
        }
    }

    /// Opens a pack unless its table is long; `None` where it is.
    fn open_small(&self, slot: &Slot) -> Option<Option<Arc<Pack>>> {
        if let Some(pack) = slot.pack.get() {
            return Some(pack.clone());
        }
        if slot.is_large.load(Ordering::Relaxed) {
            return None;
        }
        match Pack::open_up_to(&*self.storage, &format!("{PACKS}/{}", slot.name), SMALL_TABLE_BYTES) {
            Ok(None) => {
                slot.is_large.store(true, Ordering::Relaxed);
                None
            }
            Ok(Some(pack)) => Some(slot.pack.get_or_init(|| self.checked(Ok(pack))).clone()),
            Err(error) => Some(slot.pack.get_or_init(|| self.checked(Err(error))).clone()),
        }
    }

    fn open_slot(&self, slot: &Slot) -> Option<Arc<Pack>> {
        let open = || self.checked(Pack::open(&*self.storage, &format!("{PACKS}/{}", slot.name)));
        slot.pack.get_or_init(open).clone()
    }

    /// Takes an opened pack if it is this store's, and notes what is wrong with it.
    fn checked(&self, opened: Result<Pack>) -> Option<Arc<Pack>> {
        match opened {
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
        }
    }

    /// Packs that could not be opened so far.
    pub fn take_damaged(&self) -> Vec<Error> {
        std::mem::take(&mut locked(&self.damaged))
    }

    /// Opens every pack; those that cannot be opened are in [`Catalog::take_damaged`].
    pub fn packs(&self) -> Vec<Arc<Pack>> {
        self.ensure_taken_in();
        let slots = self.read_state().slots.clone();
        slots.par_iter().filter_map(|slot| self.open_slot(slot)).collect()
    }

    /// The places of all objects with a key, as far as index and overlay know.
    pub fn places_by_key(&self, key: u64) -> Vec<Place> {
        self.ensure_taken_in();
        let has_indexed = !self.read_state().indexed.is_empty();
        let answer = if has_indexed { self.with_index(|index| index.places(key)) } else { None };
        let from_index = match answer {
            Some(Ok(places)) => places,
            Some(Err(_)) => {
                // Busy or broken: the packs' own tables say the same, and without a wait for each question.
                *locked(&self.index) = IndexState::Absent;
                self.overlay_packs(Overlay::All);
                Vec::new()
            }
            None => Vec::new(),
        };
        // To make a map takes as long as to go through the tables so many times.
        if self.asked.fetch_add(1, Ordering::Relaxed) >= SCANS && !self.read_state().is_map_full() {
            self.write_state().fill_map();
        }
        let candidates: Vec<(Arc<Slot>, usize)> = {
            let state = self.read_state();
            let overlaid = match state.is_map_full() {
                true => state.overlay.get(&key).cloned().unwrap_or_default(),
                false => state.scan(key),
            };
            let indexed = from_index.into_iter().filter_map(|(pack, ordinal)| {
                // Rows of packs that are gone point nowhere.
                Some((*state.indexed.get(&pack)?, usize::try_from(ordinal).ok()?))
            });
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

    /// Whether packs are about to be deleted.
    pub fn has_condemned(&self) -> bool {
        !self.condemned.read().unwrap_or_else(std::sync::PoisonError::into_inner).is_empty()
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
        self.overlay_packs(Overlay::All);
        self.complete.store(true, Ordering::Relaxed);
        Ok(true)
    }

    /// Whether the index should be brought up to date: it lacks a large pack, or a great many.
    pub fn has_backlog(&self) -> bool {
        !self.unindexed().is_empty()
    }

    /// Whether the index may lack something that it should have, as far as can be told without it.
    pub fn is_crowded(&self) -> bool {
        if !self.read_state().is_taken_in && self.is_kept_of_all(|pack| pack.keys.is_some()) {
            return self.read_state().slots.len() >= BACKLOG;
        }
        self.ensure_taken_in();
        let state = self.read_state();
        let large = |slot: &Arc<Slot>| {
            slot.pack.get().and_then(Option::as_ref).is_some_and(|p| p.objects.len() > INDEXED_OBJECTS)
        };
        state.slots.len() >= BACKLOG
            || state.slots.iter().any(|slot| slot.is_large.load(Ordering::Relaxed) || large(slot))
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
    fn opened(&self) -> Vec<Arc<Pack>> {
        self.ensure_taken_in();
        if self.read_state().indexed.is_empty() {
            self.take_in_indexed();
        }
        let known = self.read_state().indexed_slots();
        self.open_slots(|number| !known.contains(&number))
    }

    /// The packs whose tables have been read. Those that the index has made unnecessary to read are not among them.
    pub fn in_memory(&self) -> Vec<Arc<Pack>> {
        self.ensure_taken_in();
        let in_overlay = self.read_state().in_overlay.clone();
        self.open_slots(|number| in_overlay.get(number).copied().unwrap_or(false))
    }

    fn open_slots(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<Arc<Pack>> {
        let slots = self.read_state().slots.clone();
        let wanted = slots.iter().enumerate().filter(|(number, _)| is_wanted(*number));
        wanted.filter_map(|(_, slot)| self.open_slot(slot)).collect()
    }

    /// Reads something from the index; `None` where there is none or it fails.
    pub fn ask_index<T>(&self, question: impl FnOnce(&Index) -> Result<T, IndexError>) -> Option<T> {
        self.with_index(question).and_then(Result::ok)
    }

    /// Closes the index, brings it up to date with `packs` and `journals`, and opens it again; see [`Index::add`].
    pub fn add_to_index(
        &self,
        packs: &[Arc<Pack>],
        journals: &[JournalTail],
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool, IndexError> {
        let new: Vec<NewPack<'_>> = packs
            .iter()
            .map(|pack| NewPack {
                name: pack.name(),
                bytes: pack.bytes,
                objects: pack.objects.iter().map(|object| object.name.key()).collect(),
            })
            .collect();
        self.write_index(|index| index.add(&new, journals, is_current))
    }

    /// Tells the index, if there is one, that journals and segments are gone for good; see [`Index::forget`].
    pub fn forget_in_index(&self, journals: &[String]) -> Result<(), IndexError> {
        if !self.index_path().exists() {
            return Ok(());
        }
        self.write_index(|index| index.forget(journals))
    }

    fn write_index<T>(&self, write: impl Fn(&mut Index) -> Result<T, IndexError>) -> Result<T, IndexError> {
        let mut index = locked(&self.index);
        let open = || Index::open_or_create(&self.index_path(), self.store, self.generation);
        let mut writer = match std::mem::take(&mut *index) {
            IndexState::Open(index) => index,
            _ => open()?,
        };
        let mut written = write(&mut writer);
        if written.as_ref().is_err_and(|error| !crate::index::is_busy(error)) {
            // Somebody has removed the index since it was opened, to make it anew.
            drop(writer);
            writer = open()?;
            written = write(&mut writer);
        }
        *index = IndexState::Open(writer);
        written
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

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
