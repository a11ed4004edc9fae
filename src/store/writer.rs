//! A writer: gathers new objects, writes them into packs, and commits records.
//!
//! The order is the promise: a pack is flushed and has its durable name before the record that needs it is appended
//! and flushed. `schema/store.md` tells why each step stands where it does.

use std::collections::HashSet;

use rayon::prelude::*;

use super::catalog::{PACK_ENDING, PACKS};
use super::recent_versions::{NewVersion, RecentVersions, Version};
use super::slot::Slot;
use super::{Store, with_folders};
use crate::error::{Error, Result};
use crate::id::{ObjectId, random_name};
use crate::journal::encode_record;
use crate::pack::compression::{BULK_LEVEL, CAPTURE_LEVEL, Compressor, MAX_FRAME_BYTES, SMALL_LEVEL};
use crate::pack::format::{MAX_CHAIN_POSITION, ObjectKind, ObjectName, Prefix};
use crate::pack::{PackSummary, PackWriter, PreparedFrame};
use crate::run_record::RunRecord;

/// Objects without an older version are compressed together up to this length.
const SOLID_FRAME_BYTES: usize = 4 << 20;
/// Objects wait in memory up to this length; then they are compressed and written.
const PENDING_BYTES: usize = 32 << 20;
/// A pack is finished and another begun once it is this long.
const PACK_BYTES: u64 = 256 << 20;

/// So many objects of so many bytes together are compressed by one core.
const SMALL_OBJECTS: usize = 32;
const SMALL_BYTES: usize = 256 << 10;

/// The tier of packs that captures write.
const CAPTURE_TIER: u8 = 0;

struct Pending {
    kind: ObjectKind,
    id: ObjectId,
    bytes: Vec<u8>,
    /// An object that is probably an older version of this one.
    older: Option<ObjectId>,
}

/// A capture in flight.
pub struct Writer<'s> {
    store: &'s Store,
    slot: Slot,
    pack: Option<PackWriter<'s>>,
    pending: Vec<Pending>,
    pending_bytes: usize,
    added: HashSet<(ObjectKind, ObjectId)>,
    is_flushed: bool,
    new_bytes: u64,
    new_packs: Vec<PackSummary>,
    recent: RecentVersions,
    level: i32,
}

impl Store {
    /// Begins a capture. Nothing may be looked up for it earlier: from now on gc spares what it finds.
    pub fn writer(&self) -> Result<Writer<'_>> {
        self.check_writable()?;
        self.writer_in(with_folders(&*self.storage, || Slot::take(&*self.storage))?)
    }

    /// Begins a capture in a slot whose token is new.
    pub fn writer_in(&self, slot: Slot) -> Result<Writer<'_>> {
        // After the slot, so that maintenance either sees this writer or is seen by it.
        self.catalog.set_condemned(super::maintenance::condemned(&*self.storage)?);
        self.catalog.forget_listing();
        Ok(Writer {
            store: self,
            slot,
            pack: None,
            pending: Vec::new(),
            pending_bytes: 0,
            added: HashSet::new(),
            is_flushed: false,
            new_bytes: 0,
            new_packs: Vec::new(),
            recent: RecentVersions::default(),
            level: CAPTURE_LEVEL,
        })
    }
}

impl<'s> Writer<'s> {
    /// The store that it writes to.
    pub fn store(&self) -> &'s Store {
        self.store
    }

    /// Whether packs are about to be deleted. It must not be relied on what is in them.
    pub fn has_condemned(&self) -> bool {
        self.store.catalog.has_condemned()
    }

    /// The store's generation. The writer has its slot: nothing that is found in this generation is deleted before it ends.
    pub fn generation(&self) -> Result<u64> {
        self.store.generation_now()
    }

    /// Says that all that was found is in packs with durable names: then nothing has to be flushed for it.
    pub fn found_durable(&mut self) {
        self.is_flushed = self.pack.is_none() && self.pending.is_empty();
    }

    /// Gives it versions that are stored for sure, which new ones are likely to be differences to.
    pub fn set_recent_versions(&mut self, recent: RecentVersions) {
        self.recent = recent;
    }

    /// The versions that were given, and those written since.
    pub fn take_recent_versions(&mut self) -> RecentVersions {
        std::mem::take(&mut self.recent)
    }

    /// Whether an object is stored or about to be.
    pub fn contains(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.added.contains(&(kind, id))
            || (!self.store.catalog.is_surely_new(id.key()) && self.store.contains_whole(kind, id))
    }

    /// Adds an object unless it is there; `older` is probably an earlier version of it. Whether it was new.
    pub fn add(&mut self, kind: ObjectKind, id: ObjectId, bytes: Vec<u8>, older: Option<ObjectId>) -> Result<bool> {
        if self.contains(kind, id) {
            return Ok(false);
        }
        self.add_copy(kind, id, bytes, older)?;
        Ok(true)
    }

    /// Adds an object even where there is one of its id, which may be damaged.
    pub fn add_copy(&mut self, kind: ObjectKind, id: ObjectId, bytes: Vec<u8>, older: Option<ObjectId>) -> Result<()> {
        if bytes.len() > MAX_FRAME_BYTES {
            let (what, length) = (kind.word(), bytes.len());
            return Err(Error::Usage(format!(
                "A {what} of {length} bytes is over the limit of {MAX_FRAME_BYTES}: too many files in one folder"
            )));
        }
        self.is_flushed = false;
        self.added.insert((kind, id));
        self.pending_bytes += bytes.len();
        self.pending.push(Pending { kind, id, bytes, older });
        if self.pending_bytes < PENDING_BYTES {
            return Ok(());
        }
        self.level = BULK_LEVEL;
        self.write_pending()
    }

    /// Gives the slot back, for a writer that goes on in it.
    pub fn into_slot(self) -> Slot {
        self.slot
    }

    /// The bytes of packs written so far.
    pub fn new_bytes(&self) -> u64 {
        self.new_bytes
    }

    /// The names of the packs written so far, without their ending.
    pub fn new_packs(&self) -> Vec<String> {
        self.new_packs.iter().map(|pack| pack.name().to_owned()).collect()
    }

    /// The packs written so far.
    pub fn take_new_packs(&mut self) -> Vec<PackSummary> {
        std::mem::take(&mut self.new_packs)
    }

    /// Compresses and writes what waits.
    fn write_pending(&mut self) -> Result<()> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_bytes = 0;
        // Contents and trees do not mix in a frame: who walks trees need not decode contents.
        let (mut contents, mut trees, mut single) = (SolidGroups::default(), SolidGroups::default(), Vec::new());
        for object in &pending {
            match object.kind {
                ObjectKind::Chunk | ObjectKind::Tree if object.older.is_some() => single.push(object),
                ObjectKind::Chunk => contents.push(object),
                _ => trees.push(object),
            }
        }
        let solid: Vec<Vec<&Pending>> = contents.groups.into_iter().chain(trees.groups).collect();
        let (store, level) = (self.store, self.level);
        let is_small =
            pending.len() <= SMALL_OBJECTS && pending.iter().map(|o| o.bytes.len()).sum::<usize>() <= SMALL_BYTES;
        let (frames, bases): (Vec<PreparedFrame>, Vec<Option<(Version, u32)>>) = if is_small {
            // To call up the other cores takes longer than that, and so does a context for each object.
            self.recent.open();
            // All of these have an older version.
            let older: Vec<_> = single.iter().filter_map(|object| Some((object.kind, object.older?))).collect();
            let found = self.recent.bases(&older).into_iter();
            let bases: Vec<_> = single
                .iter()
                .zip(found)
                .map(|(object, found)| found.or_else(|| choose_base(store, object.kind, object.older?)))
                .collect();
            let mut compressor = Compressor::new();
            let mut frames: Vec<PreparedFrame> =
                solid.iter().map(|group| solid_frame(group, &mut compressor, SMALL_LEVEL)).collect();
            for (object, base) in single.iter().zip(&bases) {
                frames.push(difference_frame(object, base.as_ref(), &mut compressor, SMALL_LEVEL));
            }
            drop(compressor);
            (frames, bases)
        } else {
            // The frames that take longest come first, so that no core is left waiting for one at the end.
            let solid = solid.par_iter().map(|group| solid_frame(group, &mut Compressor::new(), level));
            let single = single.par_iter().map(|object| {
                let base = object.older.and_then(|older| choose_base(store, object.kind, older));
                difference_frame(object, base.as_ref(), &mut Compressor::new(), level)
            });
            (solid.chain(single).collect(), Vec::new())
        };
        if is_small {
            // Frames of what has no older version stand before those of `single`.
            let stored = frames.iter().skip(solid.len()).zip(bases);
            for (object, (frame, base)) in single.iter().zip(stored) {
                debug_assert!(frame.objects().any(|(kind, name)| kind == object.kind && name.fits(object.id)));
                let (Some(older), Some((base, _))) = (object.older, base) else { continue };
                // Content that no compression makes smaller is no difference.
                let Some(stored) = frame.difference() else { continue };
                let new =
                    NewVersion { id: object.id, position: frame.chain_position(), bytes: object.bytes.len(), stored };
                self.recent.add(object.kind, older, &base, new);
            }
        } else {
            self.recent.clear();
        }
        for frame in frames {
            if self.pack.as_ref().is_some_and(|pack| pack.bytes() >= PACK_BYTES) {
                self.finish_pack()?;
            }
            let pack = match &mut self.pack {
                Some(pack) => pack,
                none => {
                    let (storage, id) = (&*self.store.storage, self.store.config.store);
                    let create = || PackWriter::create(storage, self.slot.temporary(), id, CAPTURE_TIER);
                    none.insert(with_folders(storage, create)?)
                }
            };
            pack.add(frame)?;
        }
        Ok(())
    }

    fn finish_pack(&mut self) -> Result<()> {
        if let Some(pack) = self.pack.take() {
            // The name is random so that it never comes back with other content.
            let summary = pack.finish(&format!("{PACKS}/{}{PACK_ENDING}", random_name()))?;
            self.new_bytes += summary.bytes;
            self.new_packs.push(summary);
        }
        Ok(())
    }

    /// Makes every added object durable, and every object that was found already there.
    pub fn flush_objects(&mut self) -> Result<()> {
        if !self.pending.is_empty() {
            self.write_pending()?;
        }
        if self.pack.is_some() {
            self.finish_pack()?;
        } else if !self.is_flushed {
            // Another writer may have renamed the pack that this capture relies on and not flushed the folder yet.
            self.store.storage.sync_folder(PACKS)?;
        }
        self.is_flushed = true;
        Ok(())
    }

    /// Appends records: once this returns they survive a power cut, with all that they refer to.
    pub fn commit(&mut self, records: &[RunRecord]) -> Result<()> {
        self.flush_objects()?;
        let encode = |record: &RunRecord| {
            encode_record(record).map_err(|e| Error::Usage(format!("Cannot encode the run record: {e}")))
        };
        let payloads = records.iter().map(encode).collect::<Result<Vec<_>>>()?;
        self.slot.append(&*self.store.storage, self.store.config.store, &payloads)?;
        self.is_flushed = false;
        Ok(())
    }

    /// Notes that the record that was committed last, and alone, gives a run that name: who asks for a name next need not read
    /// it. It is advice.
    pub fn note_name(&self, name: &str) {
        let _ = self.store.note_name(name, self.slot.last_records());
    }

    /// Whether this writer has brought its journal past a mark at which the index is to be brought up to date.
    pub fn has_journal_grown(&self) -> bool {
        self.slot.has_passed(super::run_index::TAIL_BACKLOG_BYTES)
    }

    /// Whether there may be so many journals now, or so much in them, that some are to be merged.
    pub fn may_have_much_to_merge(&self) -> bool {
        self.slot.has_new_journal() || self.has_journal_grown()
    }

    /// A new name in tmp/ for a file of this writer.
    pub fn temporary(&self) -> String {
        self.slot.temporary()
    }
}

/// Objects that are compressed together, in groups of at most [`SOLID_FRAME_BYTES`] or one object.
#[derive(Default)]
struct SolidGroups<'p> {
    groups: Vec<Vec<&'p Pending>>,
    bytes: usize,
}

impl<'p> SolidGroups<'p> {
    fn push(&mut self, object: &'p Pending) {
        match self.groups.last_mut() {
            Some(group) if self.bytes + object.bytes.len() <= SOLID_FRAME_BYTES => group.push(object),
            _ => {
                self.groups.push(vec![object]);
                self.bytes = 0;
            }
        }
        self.bytes += object.bytes.len();
    }
}

fn solid_frame(group: &[&Pending], compressor: &mut Compressor<'_>, level: i32) -> PreparedFrame {
    let objects: Vec<_> = group.iter().map(|o| (o.kind, o.id, o.bytes.as_slice())).collect();
    PreparedFrame::with(compressor, &objects, Prefix::None, &[], 0, level)
}

/// Compresses an object as a difference to an older version, or by itself where there is none that can be read.
fn difference_frame<'b>(
    object: &Pending,
    base: Option<&'b (Version, u32)>,
    compressor: &mut Compressor<'b>,
    level: i32,
) -> PreparedFrame {
    match base {
        Some((base, position)) => {
            let new = [(object.kind, object.id, object.bytes.as_slice())];
            PreparedFrame::with(compressor, &new, Prefix::Anywhere(base.id.key()), &base.content, *position, level)
        }
        None => solid_frame(&[object], compressor, level),
    }
}

/// The chain position after `position`, and that of the version that it is to be a difference to: not always the newest, so
/// that chains stay short. `None` at a chain's end.
///
/// Version n of a chain is a difference to version n with its lowest one bit cleared, as in a Fenwick tree. That version
/// is the newest (n - 1) or one of those that the newest is a difference to, directly or in steps; and the steps from n
/// down to 0 are as many as n has one bits.
pub(super) fn base_position(position: u32) -> Option<(u32, u32)> {
    let next = position.checked_add(1).filter(|next| *next <= MAX_CHAIN_POSITION)?;
    Some((next, next & (next - 1)))
}

/// Picks the version to store a difference to, and the chain position of that difference.
fn choose_base(store: &Store, kind: ObjectKind, older: ObjectId) -> Option<(Version, u32)> {
    let mut place = store.catalog.lasting_places(kind, older).into_iter().next()?;
    let (position, wanted) = base_position(place.frame()?.chain_position)?;
    while place.frame()?.chain_position > wanted {
        let bases = store.catalog.bases(&place.pack, place.frame()?);
        place = bases.into_iter().find(|base| store.catalog.is_lasting(base))?;
    }
    // Reading it checks its hash: a difference to damaged content would be lost as well.
    let content = store.take(&place).ok()?.to_vec();
    let id = match place.object()?.name {
        ObjectName::Id(id) => id,
        // Its key is among what has just been checked.
        ObjectName::Key(_) => ObjectId::of(&content),
    };
    Some((Version { id, position: place.frame()?.chain_position, content }, position))
}
