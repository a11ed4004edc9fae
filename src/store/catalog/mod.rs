//! What the packs folder holds and where each object is: the index, and in memory whatever it does not know yet.

mod kept_keys;
mod open_index;
mod packs;

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use rayon::prelude::*;

use self::open_index::OpenIndex;
use self::packs::{Listing, PackFile};
use super::pack_keys::PackKeys;
use crate::error::{Error, Result};
use crate::id::{ObjectId, StoreId};
use crate::index::{Index, IndexError, JournalTail, NewPack};
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
/// A table of no more bytes than this has few objects: an id takes 32 of them.
const SMALL_TABLE_BYTES: u64 = 32 * INDEXED_OBJECTS as u64;
/// So many questions are answered by going through the tables; for more their keys are sorted.
const SCANS: usize = 24;
/// So many packs are opened by all cores together: for fewer, calling these up takes longer.
const PARALLEL_PACKS: usize = 64;
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

/// Which packs are to be taken into memory.
#[derive(Clone, Copy)]
enum Which<'k> {
    All,
    /// Those whose tables are short.
    Small,
    /// All but these, by place, which the index knows.
    But(&'k HashSet<usize>),
}

/// The packs of a store. Nothing is listed and nothing opened before it is asked for.
pub struct Catalog {
    storage: Arc<dyn Storage>,
    store: StoreId,
    listing: RwLock<Listing>,
    index: OpenIndex,
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
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let index = OpenIndex::new(Arc::clone(&storage), store, generation);
        Self {
            storage,
            store,
            listing: RwLock::default(),
            index,
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
        self.index.path()
    }

    /// Takes what is known of the packs folder for old: it is listed again when it is next asked about.
    pub fn forget_listing(&self) {
        let mut listing = self.write_listing();
        (listing.is_listed, listing.is_taken_in) = (false, false);
        self.questions.store(0, Ordering::Relaxed);
    }

    /// The names of the packs, and the stamps of the files. No pack is opened for that.
    pub fn listed(&self) -> Result<Vec<(String, u64)>> {
        self.list_once()?;
        Ok(self.listing().files.iter().map(|file| (file.name.clone(), file.stamp)).collect())
    }

    /// The stamps of the packs' files. No pack is opened for that.
    pub fn stamps(&self) -> Result<Vec<u64>> {
        self.list_once()?;
        Ok(self.listing().files.iter().map(|file| file.stamp).collect())
    }

    fn list_once(&self) -> Result<()> {
        if self.listing().is_listed { Ok(()) } else { self.list() }
    }

    fn ensure_taken_in(&self) {
        // Where the folder cannot be listed, whoever misses something asks for everything, and is told why.
        if !self.listing().is_taken_in && self.list_once().is_ok() {
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
        let there = list_packs(&*self.storage)?;
        let mut listing = self.write_listing();
        *listing = listing.renewed(there);
        self.complete.store(false, Ordering::Relaxed);
        Ok(())
    }

    fn take_in(&self) {
        // SQLite takes longer to open than a few dozen tables: it is asked where there is a table that it saves us.
        if !self.index.is_opened() && self.listing().files.len() < BACKLOG {
            self.read_tables(Which::Small);
        }
        let is_left = self.listing().in_memory().iter().any(|is_in| !is_in);
        if is_left {
            self.take_in_indexed();
            let known = self.listing().indexed_places();
            self.read_tables(Which::But(&known));
        }
        self.write_listing().is_taken_in = true;
    }

    fn take_in_indexed(&self) {
        let Some(Ok(packs)) = self.index.ask(Index::packs) else { return };
        let mut listing = self.write_listing();
        for pack in packs {
            listing.note_indexed(&pack.name, pack.number);
        }
    }

    fn listing(&self) -> RwLockReadGuard<'_, Listing> {
        self.listing.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_listing(&self) -> RwLockWriteGuard<'_, Listing> {
        self.listing.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_tables(&self, which: Which<'_>) {
        let files: Vec<(usize, Arc<PackFile>)> = {
            let listing = self.listing();
            let is_wanted = |place: usize| match which {
                Which::Small | Which::All => true,
                Which::But(known) => !known.contains(&place),
            };
            let unread = listing.files.iter().zip(listing.in_memory()).enumerate().filter(|(_, (_, is_in))| !**is_in);
            unread.filter(|(place, _)| is_wanted(*place)).map(|(place, (file, _))| (place, Arc::clone(file))).collect()
        };
        // Whether it was looked at, even if it could not be opened.
        let read = |file: &PackFile| match which {
            Which::Small => self.open_small(file),
            _ => {
                self.open(file);
                true
            }
        };
        // A thread of the pool may hold a frame, and takes on other work while it waits for what it has given away: work that
        // may want that frame.
        let is_in_pool = rayon::current_thread_index().is_some();
        let read: Vec<&(usize, Arc<PackFile>)> = if files.len() < PARALLEL_PACKS || is_in_pool {
            files.iter().filter(|(_, file)| read(file)).collect()
        } else {
            files.par_iter().filter(|(_, file)| read(file)).collect()
        };
        let mut listing = self.write_listing();
        for (place, file) in read {
            listing.note_read(*place, file);
        }
    }

    /// Opens a pack unless its table is long; false where it is.
    fn open_small(&self, file: &PackFile) -> bool {
        if file.pack.get().is_some() {
            return true;
        }
        if file.is_large.load(Ordering::Relaxed) {
            return false;
        }
        let opened = Pack::open_up_to(&*self.storage, &format!("{PACKS}/{}", file.name), SMALL_TABLE_BYTES);
        let Some(opened) = opened.transpose() else {
            file.is_large.store(true, Ordering::Relaxed);
            return false;
        };
        file.pack.get_or_init(|| self.checked(opened));
        true
    }

    fn open(&self, file: &PackFile) -> Option<Arc<Pack>> {
        let open = || self.checked(Pack::open(&*self.storage, &format!("{PACKS}/{}", file.name)));
        file.pack.get_or_init(open).clone()
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
        let files = self.listing().files.clone();
        files.par_iter().filter_map(|file| self.open(file)).collect()
    }

    /// The places of all objects with a key, as far as the index and the tables in memory know.
    pub fn places_by_key(&self, key: u64) -> Vec<Place> {
        self.ensure_taken_in();
        let has_indexed = !self.listing().indexed.is_empty();
        let answer = if has_indexed { self.index.ask(|index| index.places(key)) } else { None };
        let from_index = match answer {
            Some(Ok(places)) => places,
            Some(Err(_)) => {
                // Busy or broken: the packs' own tables say the same, and without a wait for each question.
                self.index.give_up();
                self.read_tables(Which::All);
                Vec::new()
            }
            None => Vec::new(),
        };
        let sorts = self.asked.fetch_add(1, Ordering::Relaxed) >= SCANS;
        if sorts && !self.listing().is_arranged() {
            self.write_listing().arrange();
        }
        let candidates: Vec<(Arc<PackFile>, usize)> = {
            let listing = self.listing();
            let indexed = from_index.into_iter().filter_map(|(pack, ordinal)| {
                // Rows of packs that are gone point nowhere.
                Some((listing.files.get(*listing.indexed.get(&pack)?)?, usize::try_from(ordinal).ok()?))
            });
            indexed.chain(listing.find(key)).map(|(file, ordinal)| (Arc::clone(file), ordinal)).collect()
        };
        let mut places: Vec<Place> = Vec::new();
        for (file, ordinal) in candidates {
            let Some(pack) = self.open(&file) else { continue };
            let place = Place { pack, ordinal };
            let right = place.object().is_some_and(|object| object.name.key() == key);
            if right && !places.iter().any(|p| p.ordinal == place.ordinal && Arc::ptr_eq(&p.pack, &place.pack)) {
                places.push(place);
            }
        }
        places
    }

    /// The places that an object may be at, as far as the index and the tables in memory know: no row is no proof that it is not there,
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
        let condemned = self.condemned.read().unwrap_or_else(PoisonError::into_inner);
        condemned.is_empty() || !condemned.contains(place.pack.name())
    }

    /// Sets which packs are about to be deleted, by name.
    pub fn set_condemned(&self, packs: HashSet<String>) {
        *self.condemned.write().unwrap_or_else(PoisonError::into_inner) = packs;
    }

    /// Whether packs are about to be deleted.
    pub fn has_condemned(&self) -> bool {
        !self.condemned.read().unwrap_or_else(PoisonError::into_inner).is_empty()
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
        self.read_tables(Which::All);
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
    fn opened(&self) -> Vec<Arc<Pack>> {
        self.ensure_taken_in();
        if self.listing().indexed.is_empty() {
            self.take_in_indexed();
        }
        let known = self.listing().indexed_places();
        self.open_those(|place| !known.contains(&place))
    }

    /// The packs whose tables have been read. Those that the index has made unnecessary to read are not among them.
    pub fn in_memory(&self) -> Vec<Arc<Pack>> {
        self.ensure_taken_in();
        let in_memory = self.listing().in_memory().to_vec();
        self.open_those(|place| in_memory.get(place).copied().unwrap_or(false))
    }

    fn open_those(&self, is_wanted: impl Fn(usize) -> bool) -> Vec<Arc<Pack>> {
        let files = self.listing().files.clone();
        let wanted = files.iter().enumerate().filter(|(place, _)| is_wanted(*place));
        wanted.filter_map(|(_, file)| self.open(file)).collect()
    }

    /// Reads something from the index; `None` where there is none or it fails.
    pub fn ask_index<T>(&self, question: impl FnOnce(&Index) -> Result<T, IndexError>) -> Option<T> {
        self.index.ask(question).and_then(Result::ok)
    }

    /// Brings the index up to date with `packs` and `journals`; see [`Index::add`].
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
        self.index.write(|index| index.add(&new, journals, is_current))
    }

    /// Gives the room back that rows have left in the index, where it is most of the file.
    pub fn shrink_index(&self) {
        self.ask_index(|index| {
            index.shrink(0);
            Ok(())
        });
    }

    /// Tells the index, if there is one, that journals and segments are gone for good; see [`Index::forget`].
    pub fn forget_in_index(&self, journals: &[(String, u64)]) -> Result<Vec<String>, IndexError> {
        if !self.index_path().exists() {
            return Ok(Vec::new());
        }
        self.index.write(|index| index.forget(journals))
    }
}
