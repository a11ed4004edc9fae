//! Merges packs into one: versions of one path side by side, oldest to newest, in large frames.
//!
//! Nothing is deleted here. The new pack is written, flushed, and read back; then this tells which packs it replaces.
//! `schema/store.md` has the rules for whoever deletes them.

mod frames;
mod gather;
mod selection;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::Store;
use super::catalog::{PACK_ENDING, PACKS, Place};
use super::reachable::Reached;
use crate::dense_trees::FileObject;
use crate::error::{Error, Result};
use crate::id::{ObjectId, random_name};
use crate::pack::format::{MAX_CHAIN_POSITION, ObjectKind, ObjectName, Prefix};
use crate::pack::{Frame, Pack, PackWriter};
use crate::progress::Progress;
use crate::tracked_path::TrackedPath;

/// Frames are compressed side by side up to this much content at a time.
const BATCH_BYTES: usize = 64 << 20;

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
    /// The packs, by name, all objects of which are in other packs now: they can go at once.
    pub replaced: Vec<String>,
    /// The packs, by name, that are replaced as far as is known: captures under way may have come to need what no snapshot
    /// needed, or rely on a chain position.
    pub doubtful: Vec<String>,
    /// What could not be read and stays where it is.
    pub problems: Vec<Error>,
}

/// An object as tables name it.
type Key = (ObjectKind, ObjectName);
/// An object, beyond doubt.
type Object = (ObjectKind, ObjectId);

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

struct Compaction<'s> {
    store: &'s Store,
    inputs: HashSet<String>,
    /// Objects of the inputs, each at its lowest chain position.
    at: HashMap<Key, Place>,
    /// The keys of objects that frames outside of the inputs are differences to.
    pinned: HashSet<u64>,
    options: CompactionOptions,
    problems: Vec<Error>,
    taken: HashSet<Object>,
    /// Objects that got a higher chain position, or stay at one in another pack.
    raised: HashSet<Object>,
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
            let built: Vec<frames::Built> = batch.par_iter().map(|unit| self.build(unit, options.level)).collect();
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
        let pack = self.finish_pack(writer, |pack| compaction.read_back(pack, progress))?;
        Ok(compaction.finish(inputs, reached, Some(&pack)))
    }

    /// Makes a pack part of the store, and has it read back. What is not as it was written is removed again.
    fn finish_pack(
        &self,
        writer: PackWriter<'_>,
        read_back: impl FnOnce(&Arc<Pack>) -> Result<()>,
    ) -> Result<Arc<Pack>> {
        let path = format!("{PACKS}/{}{PACK_ENDING}", random_name());
        writer.finish(&path)?;
        self.catalog.refresh()?;
        let pack = Arc::new(Pack::open(&*self.storage, &path)?);
        if let Err(error) = read_back(&pack) {
            // Nothing refers to it yet: the packs that it was to replace are all there.
            self.storage.remove(&path)?;
            self.catalog.refresh()?;
            return Err(error);
        }
        Ok(pack)
    }
}

impl<'s> Compaction<'s> {
    fn new(store: &'s Store, inputs: &[Arc<Pack>], options: CompactionOptions) -> Self {
        let names: HashSet<String> = inputs.iter().map(|pack| pack.name().to_owned()).collect();
        let mut at: HashMap<Key, Place> = HashMap::new();
        for pack in inputs {
            for (ordinal, object) in pack.objects.iter().enumerate() {
                let place = Place { pack: Arc::clone(pack), ordinal };
                let position = |place: &Place| place.frame().map_or(u32::MAX, |frame| frame.chain_position);
                let key = (object.kind, object.name);
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

    /// Decodes every frame of a new pack from the disk and checks every object in it.
    fn read_back(&self, pack: &Arc<Pack>, progress: &dyn Progress) -> Result<()> {
        progress.begin("Reading back", pack.frames.len() as u64);
        let check = |frame: &Frame| {
            let raw = self.store.decode_frame(pack, frame)?;
            for object in pack.objects.get(frame.objects.clone()).unwrap_or_default() {
                let bytes = object.bytes_in(&raw);
                let is_right = match self.at.get(&(object.kind, object.name)) {
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
        let moved: HashSet<Object> = new.iter().flat_map(|pack| self.objects_of(pack)).flatten().collect();
        let keeps_all = self.options.keeps_unreached || !reached.is_complete || !self.problems.is_empty();
        // Chunks are taken with their files, trees with their snapshots: what was not taken is garbage.
        let is_needed = |object: &Object| {
            if moved.contains(object) || (!keeps_all && !self.taken.contains(object)) {
                return false;
            }
            let (kind, id) = *object;
            let place = self.at.get(&(kind, ObjectName::of(kind, id)));
            let position = place.and_then(Place::frame).map_or(0, |frame| frame.chain_position);
            let highest = if self.raised.contains(object) { MAX_CHAIN_POSITION } else { position };
            !self.is_elsewhere(kind, id, highest)
        };
        let (mut doubtful, mut replaced) = (Vec::new(), Vec::new());
        for pack in inputs {
            // What cannot be read may be needed.
            let Some(objects) = self.objects_of(pack).collect::<Option<Vec<Object>>>() else { continue };
            if objects.iter().any(is_needed) {
                continue;
            }
            let is_doubtful = objects.iter().any(|object| self.raised.contains(object) || !self.taken.contains(object));
            if is_doubtful { &mut doubtful } else { &mut replaced }.push(pack.name().to_owned());
        }
        Compacted { replaced, doubtful, problems: self.problems }
    }

    /// The objects of a pack. Where the table has no more than a key, the content is read.
    fn objects_of<'p>(&'p self, pack: &'p Arc<Pack>) -> impl Iterator<Item = Option<Object>> + 'p {
        pack.objects.iter().enumerate().map(move |(ordinal, object)| match object.name {
            ObjectName::Id(id) => Some((object.kind, id)),
            ObjectName::Key(_) => {
                let bytes = self.store.take(&Place { pack: Arc::clone(pack), ordinal }).ok()?;
                Some((object.kind, ObjectId::of(&bytes)))
            }
        })
    }

    /// Whether an object is also in a pack that stays, with all that it needs, and at no higher chain position than
    /// `highest`: differences to a copy at a low position find none at a high one.
    fn is_elsewhere(&self, kind: ObjectKind, id: ObjectId, highest: u32) -> bool {
        self.store.catalog.places(kind, id).iter().any(|place| {
            self.stays(place)
                && place.frame().is_some_and(|frame| frame.chain_position <= highest)
                && self.is_whole(place)
                // Reading it is the only proof that it is not damaged there.
                && self.store.take(place).is_ok_and(|bytes| kind == ObjectKind::ChunkList || ObjectId::of(&bytes) == id)
        })
    }
}
