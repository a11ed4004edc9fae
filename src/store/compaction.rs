//! Merges packs into one: versions of one path side by side, oldest to newest, in large frames.
//!
//! Nothing is deleted here. The new pack is written, flushed, and read back; then this tells which packs it replaces.
//! `schema/store.md` has the rules for whoever deletes them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::Store;
use super::catalog::{PACK_ENDING, PACKS, Place};
use super::reachable::Reached;
use crate::dense_trees::{DenseEncoder, FileObject};
use crate::error::{Error, Result};
use crate::id::{ObjectId, random_name};
use crate::pack::format::{MAX_CHAIN_POSITION, ObjectKind, ObjectName, Prefix};
use crate::pack::{Frame, Pack, PackWriter, PreparedFrame};
use crate::progress::Progress;
use crate::tracked_path::TrackedPath;

/// The content of a frame, so that one file is read in some ten milliseconds.
const FRAME_BYTES: usize = 16 << 20;
/// The trees of a frame, laid out.
const TREES_BYTES: usize = 8 << 20;
/// Frames are compressed side by side up to this much content at a time.
const BATCH_BYTES: usize = 64 << 20;
/// Versions of one path that have more content than this get frames of their own.
const LONG_HISTORY_BYTES: usize = 4 << 20;

/// So many frames of one path are differences one to the other: reading the last takes as many decodes.
const MAX_CHAIN_FRAMES: usize = 4;

/// How to merge.
#[derive(Debug, Clone, Copy)]
pub struct CompactionOptions {
    /// The zstd level.
    pub level: i32,
    /// The tier of the new pack.
    pub tier: u8,
    /// Whether objects that no snapshot was found to need are moved as well.
    pub keeps_unreached: bool,
    /// Whether objects may get higher chain positions than they had. Captures under way may be writing differences to
    /// them, so the packs that they are in then cannot go before those have ended.
    pub raises_positions: bool,
}

/// What came of a merge.
#[derive(Debug, Default)]
pub struct Compacted {
    /// The new pack's name, where there was anything to put into it.
    pub pack: Option<String>,
    /// Its length.
    pub bytes: u64,
    /// The packs, by name, all objects of which are in other packs now: they can go at once.
    pub replaced: Vec<String>,
    /// The packs, by name, that are replaced as far as is known: captures under way may have come to need what no snapshot
    /// needed, or rely on a chain position.
    pub doubtful: Vec<String>,
    /// What could not be read and stays where it is.
    pub problems: Vec<Error>,
}

type Key = (ObjectKind, u64);

/// An object to be moved.
struct Item {
    kind: ObjectKind,
    id: ObjectId,
    /// The copy with the lowest chain position.
    place: Place,
    /// The highest chain position that it may get.
    limit: u32,
    path: Option<TrackedPath>,
    bytes: usize,
}

impl Item {
    fn position(&self) -> u32 {
        self.place.frame().map_or(0, |frame| frame.chain_position)
    }
}

/// What goes into frames one after the other: differences to `base`, or where that is absent each to one before it.
struct Unit {
    base: Option<Place>,
    frames: Vec<Vec<Item>>,
}

impl Unit {
    fn bytes(&self) -> usize {
        self.frames.iter().flatten().map(|item| item.bytes).sum()
    }
}

struct Compaction<'s> {
    store: &'s Store,
    inputs: HashSet<String>,
    /// Objects of the inputs, each at its lowest chain position.
    at: HashMap<Key, Place>,
    /// The keys of objects that frames outside of the inputs are differences to.
    pinned: HashSet<u64>,
    options: CompactionOptions,
    problems: Vec<Error>,
    taken: HashSet<Key>,
    /// Objects that got a higher chain position, or stay at one in another pack.
    raised: HashSet<Key>,
}

impl Store {
    /// Merges `inputs` into one pack; `temporary` is a name for it in tmp/.
    ///
    /// `reached` is what the snapshots need of them, in its order. What is also in a pack that stays is not moved.
    pub fn compact(
        &self,
        inputs: &[Arc<Pack>],
        reached: &Reached,
        temporary: String,
        options: CompactionOptions,
        progress: &dyn Progress,
    ) -> Result<Compacted> {
        let mut compaction = Compaction::new(self, inputs, options);
        let (contents, folders) = compaction.choose(reached);
        if contents.is_empty() && folders.is_empty() {
            return Ok(compaction.finish(inputs, reached, None));
        }
        let (units, dense) = compaction.arrange(contents, folders);
        let mut writer = PackWriter::create(&*self.storage, temporary, self.config.store, options.tier)?;
        let mut files = HashMap::new();
        progress.begin("Compacting", units.iter().map(|unit| unit.bytes() as u64).sum());
        let mut units = units.into_iter().peekable();
        while units.peek().is_some() {
            let mut batch = Vec::new();
            let mut bytes = 0;
            while let Some(unit) = units.next_if(|unit| batch.is_empty() || bytes + unit.bytes() <= BATCH_BYTES) {
                bytes += unit.bytes();
                batch.push(unit);
            }
            let built: Vec<Built> = batch.par_iter().map(|unit| self.build(unit, options.level)).collect();
            for unit in built {
                let first = writer.objects();
                for frame in unit.frames {
                    for ((kind, name), ordinal) in frame.objects().zip(writer.objects()..) {
                        if let ObjectName::Id(id) = name {
                            files.insert(id, FileObject { ordinal, is_list: kind == ObjectKind::ChunkList });
                        }
                    }
                    writer.add(frame.based_on(first))?;
                }
                compaction.problems.extend(unit.problems);
                compaction.raised.extend(unit.raised);
            }
            progress.advance(bytes as u64);
        }
        progress.end();
        for frame in compaction.dense_frames(dense, &files) {
            writer.add(frame)?;
        }
        if writer.objects() == 0 {
            return Ok(compaction.finish(inputs, reached, None));
        }
        let name = format!("{}{PACK_ENDING}", random_name());
        let path = format!("{PACKS}/{name}");
        let summary = writer.finish(&path)?;
        self.catalog.refresh()?;
        let pack = Arc::new(Pack::open(&*self.storage, &path)?);
        if let Err(error) = compaction.read_back(&pack, progress) {
            // Nothing refers to it yet: the packs that it was to replace are all there.
            self.storage.remove(&path)?;
            self.catalog.refresh()?;
            return Err(error);
        }
        let compacted = compaction.finish(inputs, reached, Some(&pack));
        Ok(Compacted { pack: Some(name), bytes: summary.bytes, ..compacted })
    }

    /// The content of an object that is to be moved.
    fn read_item(&self, item: &Item) -> Result<super::ObjectBytes> {
        match self.take(&item.place) {
            // Where the table has a key alone, only the content can tell.
            Ok(bytes) if item.kind.has_full_id() || ObjectId::of(&bytes) == item.id => Ok(bytes),
            _ => self.object(item.kind, item.id),
        }
    }

    /// Compresses one unit.
    fn build(&self, unit: &Unit, level: i32) -> Built {
        let mut built = Built::default();
        let outside = unit.base.as_ref().and_then(|base| {
            let position = base.frame()?.chain_position + 1;
            Some((Prefix::Anywhere(base.object()?.name.key()), self.take(base).ok()?.to_vec(), position))
        });
        // Of each position the last version, as what later frames can be differences to.
        let mut last: Vec<(Prefix, Vec<u8>)> = Vec::new();
        let mut ordinal = 0;
        for items in &unit.frames {
            let mut read = Vec::with_capacity(items.len());
            for item in items {
                match self.read_item(item) {
                    Ok(bytes) => read.push((item, bytes)),
                    Err(error) => built.problems.push(error),
                }
            }
            let Some((_, newest)) = read.last() else { continue };
            let objects: Vec<_> = read.iter().map(|(item, bytes)| (item.kind, item.id, &bytes[..])).collect();
            let frame = match &outside {
                Some((prefix, content, position)) => PreparedFrame::new(&objects, *prefix, content, *position, level),
                None => {
                    let lowest = read.iter().map(|(item, _)| item.limit).min().unwrap_or(0) as usize;
                    // At the end of a chain the next begins with a difference to where this one did.
                    let next = if last.len() > MAX_CHAIN_FRAMES { 1 } else { last.len() };
                    let position = next.min(lowest);
                    last.truncate(position);
                    let (prefix, content) = match last.last() {
                        Some((prefix, content)) => (*prefix, content.as_slice()),
                        None => (Prefix::None, &[][..]),
                    };
                    PreparedFrame::new(&objects, prefix, content, position as u32, level)
                }
            };
            ordinal += objects.len() as u32;
            let position = frame.chain_position();
            let is_raised = |(item, _): &&(&Item, _)| position > item.position();
            built.raised.extend(read.iter().filter(is_raised).map(|(item, _)| (item.kind, item.id.key())));
            if unit.frames.len() > 1 && outside.is_none() {
                last.truncate(position as usize);
                last.push((Prefix::Here(ordinal - 1), newest.to_vec()));
            }
            built.frames.push(frame);
        }
        built
    }
}

#[derive(Default)]
struct Built {
    /// Frames, whose `Prefix::Here` still counts from the unit's first object.
    frames: Vec<PreparedFrame>,
    raised: Vec<Key>,
    problems: Vec<Error>,
}

impl<'s> Compaction<'s> {
    fn new(store: &'s Store, inputs: &[Arc<Pack>], options: CompactionOptions) -> Self {
        let names: HashSet<String> = inputs.iter().map(|pack| pack.name().to_owned()).collect();
        let mut at: HashMap<Key, Place> = HashMap::new();
        for pack in inputs {
            for (ordinal, object) in pack.objects.iter().enumerate() {
                let place = Place { pack: Arc::clone(pack), ordinal };
                let position = |place: &Place| place.frame().map_or(u32::MAX, |frame| frame.chain_position);
                let key = (object.kind, object.name.key());
                if at.get(&key).is_none_or(|known| position(known) > position(&place)) {
                    at.insert(key, place);
                }
            }
        }
        let mut pinned = HashSet::new();
        if options.raises_positions {
            for pack in store.catalog.packs().iter().filter(|pack| !names.contains(pack.name())) {
                pinned.extend(pack.frames.iter().filter_map(|frame| match frame.prefix {
                    Prefix::Anywhere(key) => Some(key),
                    _ => None,
                }));
            }
        }
        let (taken, raised) = (HashSet::new(), HashSet::new());
        Self { store, inputs: names, at, pinned, options, problems: Vec::new(), taken, raised }
    }

    /// An object of the inputs, unless it was taken already or is in a pack that stays.
    fn take(&mut self, kind: ObjectKind, id: ObjectId, path: Option<&TrackedPath>) -> Option<Item> {
        let key = (kind, id.key());
        let place = self.at.get(&key)?.clone();
        let position = place.frame()?.chain_position;
        if !self.taken.insert(key) || self.is_elsewhere(kind, id, position) {
            return None;
        }
        let is_free = self.options.raises_positions && !self.pinned.contains(&id.key());
        let limit = if is_free { MAX_CHAIN_POSITION } else { position };
        if is_free && self.is_elsewhere(kind, id, limit) {
            self.raised.insert(key);
            return None;
        }
        Some(Item { kind, id, bytes: place.object()?.bytes, place, path: path.cloned(), limit })
    }

    /// Whether a copy outside of the inputs needs none of them.
    fn is_whole(&self, place: &Place) -> bool {
        let Some(frame) = place.frame() else { return false };
        let bases = || self.store.catalog.bases(&place.pack, frame).into_iter();
        frame.prefix == Prefix::None || bases().any(|base| self.stays(&base) && self.is_whole(&base))
    }

    fn stays(&self, place: &Place) -> bool {
        !self.inputs.contains(place.pack.name()) && self.store.catalog.is_lasting(place)
    }

    /// Chooses what is moved: contents, and trees with their snapshots, in the order of the walk.
    fn choose(&mut self, reached: &Reached) -> (Vec<Item>, Vec<Item>) {
        let (mut contents, mut folders) = (Vec::new(), Vec::new());
        for snapshot in &reached.snapshots {
            for file in &snapshot.files {
                self.choose_file(file.id, file.bytes, &file.path, &mut contents);
            }
            for tree in &snapshot.trees {
                folders.extend(self.take(ObjectKind::Tree, tree.id, tree.path.as_ref()));
            }
            folders.extend(self.take(ObjectKind::Snapshot, snapshot.id, None));
        }
        if self.options.keeps_unreached || !reached.is_complete {
            self.choose_unreached(&mut contents, &mut folders);
        }
        (contents, folders)
    }

    fn choose_file(&mut self, id: ObjectId, bytes: u64, path: &TrackedPath, contents: &mut Vec<Item>) {
        if self.at.contains_key(&(ObjectKind::Chunk, id.key())) {
            contents.extend(self.take(ObjectKind::Chunk, id, Some(path)));
            return;
        }
        // What cannot be read is left where it is, and its packs with it.
        match self.store.chunks_of(id, bytes) {
            Ok(chunks) if chunks.iter().all(|chunk| chunk.id == id) => {}
            Ok(chunks) => {
                for chunk in chunks {
                    contents.extend(self.take(ObjectKind::Chunk, chunk.id, Some(path)));
                }
                contents.extend(self.take(ObjectKind::ChunkList, id, Some(path)));
            }
            Err(error) => self.problems.push(error),
        }
    }

    /// Objects that no snapshot led to: of captures under way, or of runs that are gone.
    fn choose_unreached(&mut self, contents: &mut Vec<Item>, folders: &mut Vec<Item>) {
        let mut rest: Vec<(Key, Place)> =
            self.at.iter().filter(|(key, _)| !self.taken.contains(*key)).map(|(k, p)| (*k, p.clone())).collect();
        rest.sort_by_key(|(key, _)| *key);
        for ((kind, _), place) in rest {
            let id = match self.store.take(&place) {
                Ok(bytes) => match place.object().map(|object| object.name) {
                    Some(ObjectName::Id(id)) => id,
                    _ => ObjectId::of(&bytes),
                },
                Err(error) => {
                    self.problems.push(error);
                    continue;
                }
            };
            let to = match kind {
                ObjectKind::Chunk | ObjectKind::ChunkList => &mut *contents,
                ObjectKind::Tree | ObjectKind::Snapshot => &mut *folders,
            };
            to.extend(self.take(kind, id, None));
        }
    }

    /// The object outside of the inputs that a place is a difference to, directly or in steps.
    fn outside_base(&self, place: &Place) -> Option<Place> {
        let mut place = place.clone();
        loop {
            let frame = place.frame()?;
            let bases = self.store.catalog.bases(&place.pack, frame);
            let stays = |base: &&Place| !self.inputs.contains(base.pack.name());
            if let Some(base) = bases.iter().find(stays).filter(|base| self.store.catalog.is_lasting(base)) {
                return self.is_whole(base).then(|| base.clone());
            }
            place = bases.into_iter().next()?;
        }
    }

    /// Sorts contents and trees into units; the trees that are left go into dense frames.
    fn arrange(&self, contents: Vec<Item>, folders: Vec<Item>) -> (Vec<Unit>, Vec<Item>) {
        let (mut solid, mut dense) = (Vec::new(), Vec::new());
        let mut differences: BTreeMap<(String, usize), (Place, Vec<Item>)> = BTreeMap::new();
        for item in contents.into_iter().chain(folders) {
            let has_versions = matches!(item.kind, ObjectKind::Chunk | ObjectKind::Tree);
            let base = if has_versions { self.outside_base(&item.place) } else { None };
            match base {
                Some(base) => {
                    let key = (base.pack.path.clone(), base.ordinal);
                    differences.entry(key).or_insert_with(|| (base, Vec::new())).1.push(item);
                }
                None if matches!(item.kind, ObjectKind::Tree | ObjectKind::Snapshot) => dense.push(item),
                None => solid.push(item),
            }
        }
        // What is alike stands side by side: files of one kind, and of those the versions of one path, oldest first.
        solid.sort_by_cached_key(|item| item.path.as_ref().map(|path| (extension(path), path.clone())));
        let mut units = Vec::new();
        let mut mixed: Vec<Item> = Vec::new();
        for history in chunk_by_path(solid) {
            if Self::is_long(&history) {
                units.push(Self::long_history(history));
            } else {
                mixed.extend(history);
            }
        }
        units.extend(cut(mixed, FRAME_BYTES).into_iter().map(|items| Unit { base: None, frames: vec![items] }));
        for (base, items) in differences.into_values() {
            let room = FRAME_BYTES.saturating_sub(base.object().map_or(0, |object| object.bytes));
            units.push(Unit { base: Some(base), frames: cut(items, room.max(1)) });
        }
        // Those that take longest first, so that no core waits for one at the end.
        units.sort_by_key(|unit| std::cmp::Reverse(unit.bytes()));
        (units, dense)
    }

    /// Whether the versions of a path are so much that they get frames of their own.
    fn is_long(history: &[Item]) -> bool {
        let bytes: usize = history.iter().map(|item| item.bytes).sum();
        bytes > LONG_HISTORY_BYTES
            && history.len() > 1
            && history.iter().all(|item| item.kind == ObjectKind::Chunk)
            && history.iter().skip(1).any(|item| item.limit > 0)
    }

    /// The first version alone, and frames of all others, each a difference to the end of the one before.
    ///
    /// An object that may get no position but 0 begins a chain of its own.
    fn long_history(history: Vec<Item>) -> Unit {
        let room = FRAME_BYTES.saturating_sub(history.iter().map(|item| item.bytes).max().unwrap_or(0)).max(1);
        let mut frames = Vec::new();
        let mut part = Vec::new();
        for item in history {
            if item.limit == 0 || (frames.is_empty() && part.is_empty()) {
                frames.extend(cut(std::mem::take(&mut part), room));
                frames.push(vec![item]);
            } else {
                part.push(item);
            }
        }
        frames.extend(cut(part, room));
        Unit { base: None, frames }
    }

    /// Trees and snapshots in their dense form, those that came together in one frame.
    fn dense_frames(&mut self, folders: Vec<Item>, files: &HashMap<ObjectId, FileObject>) -> Vec<PreparedFrame> {
        let mut frames = Vec::new();
        for mut window in cut(folders, TREES_BYTES) {
            // A folder's versions side by side, each tree after those that it may have as folders, snapshots last.
            window.sort_by_cached_key(|item| {
                let depth = item.path.as_ref().map_or(0, |path| path.parts().count());
                (item.kind, std::cmp::Reverse(depth), item.path.clone())
            });
            let mut encoder = DenseEncoder::default();
            for item in window {
                let Some(bytes) = self.read(&item) else { continue };
                let added = match item.kind {
                    ObjectKind::Tree => encoder.add_tree(item.id, &bytes, files),
                    _ => encoder.add_snapshot(item.id, &bytes),
                };
                if let Err(reason) = added {
                    let path = self.store.storage.full_path(&item.place.pack.path);
                    self.problems.push(Error::damaged(path, format!("{} {}: {reason}", item.kind.word(), item.id)));
                }
            }
            let (objects, dense) = encoder.finish();
            if !objects.is_empty() {
                frames.push(PreparedFrame::dense(&objects, &dense, self.options.level));
            }
        }
        frames
    }

    fn read(&mut self, item: &Item) -> Option<super::ObjectBytes> {
        self.store.read_item(item).map_err(|error| self.problems.push(error)).ok()
    }

    /// Decodes every frame of a new pack from the disk and checks every object in it.
    fn read_back(&self, pack: &Arc<Pack>, progress: &dyn Progress) -> Result<()> {
        progress.begin("Reading back", pack.frames.len() as u64);
        let check = |frame: &Frame| {
            let raw = self.store.decode_frame(pack, frame)?;
            for object in pack.objects.get(frame.objects.clone()).unwrap_or_default() {
                let bytes = object.bytes_in(&raw);
                let is_right = match self.at.get(&(object.kind, object.name.key())) {
                    // A list has no hash of its own: it is compared with what it was written from.
                    Some(source) if object.kind == ObjectKind::ChunkList => {
                        self.store.take(source).is_ok_and(|source| *source == *bytes)
                    }
                    _ => object.is_hash_of(bytes),
                };
                if !is_right || bytes.len() != object.bytes {
                    let reason = format!("{} {} is not what was written", object.kind.word(), object.name);
                    return Err(Error::damaged(self.store.storage.full_path(&pack.path), reason));
                }
            }
            progress.advance(1);
            Ok(())
        };
        let checked = pack.frames.par_iter().map(check).collect::<Result<()>>();
        progress.end();
        checked
    }

    /// Tells which of the inputs nothing is needed of: all that is needed is in the new pack, or in one that stays.
    fn finish(self, inputs: &[Arc<Pack>], reached: &Reached, new: Option<&Arc<Pack>>) -> Compacted {
        let moved: HashSet<Key> =
            new.iter().flat_map(|pack| &pack.objects).map(|object| (object.kind, object.name.key())).collect();
        let keeps_all = self.options.keeps_unreached || !reached.is_complete || !self.problems.is_empty();
        // Chunks are taken with their files, trees with their snapshots: what was not taken is garbage.
        let is_needed = |(ordinal, object): (usize, &crate::pack::Object), pack: &Arc<Pack>| {
            let key = (object.kind, object.name.key());
            if moved.contains(&key) || (!keeps_all && !self.taken.contains(&key)) {
                return false;
            }
            let id = match object.name {
                ObjectName::Id(id) => id,
                ObjectName::Key(_) => match self.store.take(&Place { pack: Arc::clone(pack), ordinal }) {
                    Ok(bytes) => ObjectId::of(&bytes),
                    Err(_) => return true,
                },
            };
            let position = self.at.get(&key).and_then(Place::frame).map_or(0, |frame| frame.chain_position);
            let highest = if self.raised.contains(&key) { MAX_CHAIN_POSITION } else { position };
            !self.is_elsewhere(object.kind, id, highest)
        };
        let is_safe = |pack: &&Arc<Pack>| !pack.objects.iter().enumerate().any(|object| is_needed(object, pack));
        let is_doubtful = |pack: &&Arc<Pack>| {
            pack.objects.iter().any(|object| {
                let key = (object.kind, object.name.key());
                self.raised.contains(&key) || !self.taken.contains(&key)
            })
        };
        let (doubtful, replaced): (Vec<_>, Vec<_>) = inputs.iter().filter(is_safe).partition(is_doubtful);
        let names = |packs: Vec<&Arc<Pack>>| packs.into_iter().map(|pack| pack.name().to_owned()).collect();
        let (doubtful, replaced) = (names(doubtful), names(replaced));
        Compacted { pack: None, bytes: 0, replaced, doubtful, problems: self.problems }
    }

    /// Whether an object is also in a pack that stays, with all that it needs, and at no higher chain position than
    /// `highest`: differences to a copy at a low position find none at a high one.
    fn is_elsewhere(&self, kind: ObjectKind, id: ObjectId, highest: u32) -> bool {
        self.store.catalog.places(kind, id).iter().any(|place| {
            self.stays(place)
                && place.frame().is_some_and(|frame| frame.chain_position <= highest)
                && self.is_whole(place)
                && (kind.has_full_id() || self.store.take(place).is_ok_and(|bytes| ObjectId::of(&bytes) == id))
        })
    }
}

fn extension(path: &TrackedPath) -> Vec<u8> {
    path.name().rsplit(|b| *b == b'.').next().unwrap_or_default().to_vec()
}

/// Splits sorted items where the path changes.
fn chunk_by_path(items: Vec<Item>) -> Vec<Vec<Item>> {
    let mut out: Vec<Vec<Item>> = Vec::new();
    for item in items {
        match out.last_mut() {
            Some(group) if group.last().is_some_and(|last| last.path.is_some() && last.path == item.path) => {
                group.push(item);
            }
            _ => out.push(vec![item]),
        }
    }
    out
}

/// Cuts items into groups of at most `bytes`, or of one.
fn cut(items: Vec<Item>, bytes: usize) -> Vec<Vec<Item>> {
    let mut out: Vec<Vec<Item>> = Vec::new();
    let mut filled = 0;
    for item in items {
        if filled + item.bytes > bytes || out.is_empty() {
            out.push(Vec::new());
            filled = 0;
        }
        filled += item.bytes;
        if let Some(last) = out.last_mut() {
            last.push(item);
        }
    }
    out
}
