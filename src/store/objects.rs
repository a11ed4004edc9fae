//! Reads objects: finds the frame, decodes what it was compressed against first, and checks every object's hash.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use super::Store;
use super::catalog::{Place, locked};
use crate::dense_trees::{self, DenseFrame, TableFile};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::format::{Codec, ObjectKind, ObjectName, Prefix};
use crate::pack::{Frame, Pack};
use crate::snapshot::{ChunkRef, Node, Snapshot, decode_chunks, decode_tree};

/// Decoded frames are kept up to this many bytes.
const CACHE_BYTES: usize = 64 << 20;
/// Frames of up to this many bytes are decoded whole, whatever is wanted of them.
const LONG_FRAME_BYTES: usize = 4 << 20;
/// So many times packs may go while an object is looked for.
const ATTEMPTS: usize = 8;

/// An object's bytes, which share the memory of their frame.
#[derive(Debug, Clone)]
pub struct ObjectBytes {
    frame: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl From<Vec<u8>> for ObjectBytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self { range: 0..bytes.len(), frame: Arc::new(bytes) }
    }
}

impl Deref for ObjectBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame.get(self.range.clone()).unwrap_or_default()
    }
}

/// A whole frame, decoded.
#[derive(Clone)]
enum Decoded {
    Raw(Arc<Vec<u8>>),
    Dense(Arc<Mutex<DenseFrame>>),
}

/// What has been decoded of a frame.
#[derive(Default)]
struct Known {
    whole: Option<Decoded>,
    /// Single objects of a frame that has not been decoded to its end, by their places in the pack's table.
    objects: HashMap<usize, ObjectBytes>,
}

type Cell = Arc<Mutex<Known>>;

/// Decoded frames, and objects of long ones. A frame that is being decoded is waited for rather than decoded twice.
#[derive(Default)]
pub struct FrameCache {
    cells: Mutex<Cells>,
}

#[derive(Default)]
struct Cells {
    by_place: HashMap<(String, u64), Cell>,
    /// In the order of arrival, with their lengths.
    order: VecDeque<((String, u64), usize)>,
    bytes: usize,
}

impl FrameCache {
    fn cell(&self, pack: &Pack, frame: &Frame) -> Cell {
        let mut cells = locked(&self.cells);
        let key = (pack.path.clone(), frame.offset);
        Arc::clone(cells.by_place.entry(key).or_default())
    }

    /// Counts bytes that a cell has got, and lets go of what came first.
    fn count(&self, pack: &Pack, frame: &Frame, bytes: usize) {
        let mut cells = locked(&self.cells);
        cells.order.push_back(((pack.path.clone(), frame.offset), bytes));
        cells.bytes += bytes;
        while cells.bytes > CACHE_BYTES && cells.order.len() > 1 {
            if let Some((oldest, bytes)) = cells.order.pop_front() {
                cells.by_place.remove(&oldest);
                cells.bytes -= bytes;
            }
        }
    }
}

/// Bytes on their way out of a frame.
pub(super) enum Handed<'b> {
    /// They share the memory of their frame.
    Kept(ObjectBytes),
    /// The next ones come in the same memory, unless it is taken away.
    Once(&'b mut Vec<u8>),
}

impl Deref for Handed<'_> {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Kept(bytes) => bytes,
            Self::Once(bytes) => bytes,
        }
    }
}

/// Whether a frame is decoded no further than to what is wanted of it: where that is more than a matter of a few
/// milliseconds.
pub(super) fn is_long(frame: &Frame) -> bool {
    frame.codec == Codec::Zstd && frame.raw_bytes > LONG_FRAME_BYTES
}

impl Store {
    /// Does something again that failed for want of a base, which may be in a pack that has come since the folder was
    /// listed. That is done here and not where the base is missed: there a frame is held that other threads wait for,
    /// and packs are opened by all threads.
    fn with_all_packs<T>(&self, read: impl Fn() -> Result<T>) -> Result<T> {
        match read() {
            Err(error) if error.is_damage() && self.catalog.complete()? => read(),
            other => other,
        }
    }

    /// Decodes a frame, and those that it needs, without the cache for itself.
    pub fn decode_frame(&self, pack: &Arc<Pack>, frame: &Frame) -> Result<Vec<u8>> {
        self.with_all_packs(|| match frame.codec {
            Codec::Dense(_) => self.expand(pack, frame, &pack.read_frame(&*self.storage, frame, &[])?),
            _ => self.decode_raw(pack, frame),
        })
    }

    fn decode_raw(&self, pack: &Arc<Pack>, frame: &Frame) -> Result<Vec<u8>> {
        if frame.prefix == Prefix::None {
            return pack.read_frame(&*self.storage, frame, &[]);
        }
        let first = pack.objects.get(frame.objects.start);
        self.with_base(pack, frame, |prefix| {
            let raw = pack.read_frame(&*self.storage, frame, prefix)?;
            let is_right = first.is_none_or(|object| object.is_hash_of(object.bytes_in(&raw)));
            Ok(is_right.then_some(raw))
        })
    }

    /// Decodes a frame as far as the last of `wanted`, places in the pack's table in ascending order, and hands over
    /// their bytes, unchecked.
    fn decode_objects(
        &self,
        pack: &Arc<Pack>,
        frame: &Frame,
        wanted: &[usize],
        sink: &mut dyn FnMut(usize, &mut Vec<u8>),
    ) -> Result<()> {
        let storage = &*self.storage;
        let stored = pack.read_stored(storage, frame)?;
        let damaged = |reason: String| pack.damaged(storage, frame, &reason);
        let all = || wanted.iter().copied();
        if frame.prefix == Prefix::None {
            let every = |ordinal, bytes: &mut Vec<u8>| {
                sink(ordinal, bytes);
                true
            };
            return pack.decode_objects(frame, &stored, &[], all(), every).map_err(damaged);
        }
        let first = frame.objects.start;
        let begins_with_first = wanted.first() == Some(&first);
        let with_first = || (!begins_with_first).then_some(first).into_iter().chain(all());
        self.with_base(pack, frame, |prefix| {
            let mut is_right = false;
            let checked = |ordinal, bytes: &mut Vec<u8>| {
                // The first object tells whether it is the right base: nothing is handed over before it does.
                if ordinal == first {
                    is_right = pack.objects.get(first).is_some_and(|object| object.is_hash_of(bytes));
                }
                if is_right && (ordinal != first || begins_with_first) {
                    sink(ordinal, bytes);
                }
                is_right
            };
            pack.decode_objects(frame, &stored, prefix, with_first(), checked).map_err(damaged)?;
            Ok(is_right.then_some(()))
        })
    }

    /// Tries all that a frame may be a difference to. Two ids can share a key, and one content can be in several packs: the
    /// first that leads to the right hash is it.
    fn with_base<T>(
        &self,
        pack: &Arc<Pack>,
        frame: &Frame,
        mut decode: impl FnMut(&[u8]) -> Result<Option<T>>,
    ) -> Result<T> {
        let mut last = Error::MissingBase { path: self.storage.full_path(&pack.path), offset: frame.offset };
        for base in self.catalog.bases(pack, frame) {
            match self.take_known(&base).and_then(|(prefix, _)| decode(&prefix)) {
                Ok(Some(decoded)) => return Ok(decoded),
                Ok(None) => last = pack.damaged(&*self.storage, frame, "its content does not have its hash"),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Lays out the trees and snapshots of a dense frame.
    fn expand(&self, pack: &Pack, frame: &Frame, dense: &[u8]) -> Result<Vec<u8>> {
        let objects = pack.objects.get(frame.objects.clone()).unwrap_or_default();
        let objects = objects.iter().map(|object| (object.kind, object.bytes));
        dense_trees::expand(dense, objects, |ordinal| file_in(pack, ordinal))
            .map_err(|reason| pack.damaged(&*self.storage, frame, &reason))
    }

    /// The bytes of an object, unchecked.
    fn bytes_at(&self, place: &Place) -> Result<ObjectBytes> {
        let beyond = || Error::damaged(&place.pack.path, "a place beyond the table");
        let (pack, object) = (&place.pack, place.object().ok_or_else(beyond)?);
        let frame = place.frame().ok_or_else(beyond)?;
        let cell = self.frames.cell(pack, frame);
        // Frames only wait for frames of a lower chain position, so these locks cannot form a circle.
        let mut known = locked(&cell);
        if let Some(bytes) = known.objects.get(&place.ordinal) {
            return Ok(bytes.clone());
        }
        if known.whole.is_none() && known.objects.is_empty() && is_long(frame) {
            // One object is wanted of a frame more often than many. Who comes a second time gets the frame decoded whole.
            let mut found = Vec::new();
            self.decode_objects(pack, frame, &[place.ordinal], &mut |_, bytes| found = std::mem::take(bytes))?;
            let bytes = ObjectBytes::from(found);
            known.objects.insert(place.ordinal, bytes.clone());
            self.frames.count(pack, frame, bytes.len());
            return Ok(bytes);
        }
        let whole = match &known.whole {
            Some(whole) => whole.clone(),
            None => {
                let whole = self.decode_whole(pack, frame)?;
                known.whole = Some(whole.clone());
                self.frames.count(pack, frame, frame.raw_bytes);
                whole
            }
        };
        drop(known);
        match whole {
            Decoded::Raw(raw) => Ok(ObjectBytes { frame: raw, range: object.offset..object.offset + object.bytes }),
            Decoded::Dense(dense) => {
                let listed = |place: usize| {
                    let object = pack.objects.get(frame.objects.start.checked_add(place)?);
                    object.filter(|_| place < frame.objects.len()).map(|object| (object.kind, object.bytes))
                };
                let number = place.ordinal.saturating_sub(frame.objects.start);
                let canonical = locked(&dense).object(number, listed, |ordinal| file_in(pack, ordinal));
                let canonical = canonical.map_err(|reason| pack.damaged(&*self.storage, frame, &reason))?;
                Ok(ObjectBytes { range: 0..canonical.len(), frame: canonical })
            }
        }
    }

    /// Hands over the bytes of `wanted`, places in the pack's table in ascending order, unchecked: as far as that
    /// comes, where there is an error.
    pub(super) fn decode_or_recall(
        &self,
        pack: &Arc<Pack>,
        frame: usize,
        wanted: &[usize],
        sink: &mut dyn FnMut(usize, Handed<'_>),
    ) -> Result<()> {
        let found = pack.frames.get(frame).ok_or_else(|| Error::damaged(&pack.path, "a frame beyond the table"))?;
        let is_whole = || locked(&self.frames.cell(pack, found)).whole.is_some();
        if is_long(found) && !is_whole() {
            return self.decode_objects(pack, found, wanted, &mut |ordinal, bytes| sink(ordinal, Handed::Once(bytes)));
        }
        for ordinal in wanted {
            let bytes = self.bytes_at(&Place { pack: Arc::clone(pack), ordinal: *ordinal })?;
            sink(*ordinal, Handed::Kept(bytes));
        }
        Ok(())
    }

    /// Keeps an object of a long frame for the frames that are differences to it.
    pub(super) fn keep(&self, place: &Place, bytes: ObjectBytes) {
        let Some(frame) = place.frame() else { return };
        let cell = self.frames.cell(&place.pack, frame);
        let length = bytes.len();
        if locked(&cell).objects.insert(place.ordinal, bytes).is_none() {
            self.frames.count(&place.pack, frame, length);
        }
    }

    fn decode_whole(&self, pack: &Arc<Pack>, frame: &Frame) -> Result<Decoded> {
        if !matches!(frame.codec, Codec::Dense(_)) {
            return Ok(Decoded::Raw(Arc::new(self.decode_raw(pack, frame)?)));
        }
        let dense = pack.read_frame(&*self.storage, frame, &[])?;
        let kinds = pack.objects.get(frame.objects.clone()).unwrap_or_default().iter().map(|object| object.kind);
        let is_list = |ordinal| file_in(pack, ordinal).map(|(_, _, is_list)| is_list);
        let dense = DenseFrame::new(dense, kinds, is_list);
        let dense = dense.map_err(|reason| pack.damaged(&*self.storage, frame, &reason))?;
        Ok(Decoded::Dense(Arc::new(Mutex::new(dense))))
    }

    /// Checks the bytes of the object at a place against what the table says of its id. What is handed back is the id, of
    /// which the table may have no more than a key.
    pub(super) fn check(&self, place: &Place, bytes: &[u8]) -> Result<ObjectId> {
        let object = place.object().ok_or_else(|| Error::damaged(&place.pack.path, "a place beyond the table"))?;
        let id = match (object.kind, object.name) {
            // A chunk list is filed under its file's id: the file's hash is what it is checked by.
            (ObjectKind::ChunkList, ObjectName::Id(id)) => id,
            _ => ObjectId::of(bytes),
        };
        if bytes.len() != object.bytes || !object.name.fits(id) {
            let reason = format!("{} {} does not have its hash", object.kind.word(), object.name);
            return Err(Error::damaged(self.storage.full_path(&place.pack.path), reason));
        }
        Ok(id)
    }

    fn take_known(&self, place: &Place) -> Result<(ObjectBytes, ObjectId)> {
        let bytes = self.bytes_at(place)?;
        let id = self.check(place, &bytes)?;
        Ok((bytes, id))
    }

    /// The bytes of the object at a place, checked against what the table says of its id, and its id.
    fn take_with_id(&self, place: &Place) -> Result<(ObjectBytes, ObjectId)> {
        self.with_all_packs(|| self.take_known(place))
    }

    /// The bytes of the object at a place, checked against what the table says of its id.
    pub(super) fn take(&self, place: &Place) -> Result<ObjectBytes> {
        self.take_with_id(place).map(|(bytes, _)| bytes)
    }

    /// Reads an object wherever it is whole.
    pub fn object(&self, kind: ObjectKind, id: ObjectId) -> Result<ObjectBytes> {
        let missing = || Error::Missing { kind: kind.word(), id };
        let mut last = missing();
        for _ in 0..ATTEMPTS {
            last = missing();
            for place in self.catalog.places(kind, id) {
                match self.take_with_id(&place) {
                    // The table may have no more than a key of it.
                    Ok((bytes, found)) if found == id => return Ok(bytes),
                    Ok(_) => {}
                    // The pack has been merged into another since the folder was listed.
                    Err(error) if error.is_not_found() => self.catalog.note_vanished(),
                    Err(error) => last = error,
                }
            }
            // Only when index and tables in memory lead nowhere is every pack looked into.
            if !self.catalog.complete()? {
                break;
            }
        }
        Err(last)
    }

    /// Whether an object is in the store, as far as the index and the tables in memory know.
    pub fn contains(&self, kind: ObjectKind, id: ObjectId) -> bool {
        !self.catalog.places(kind, id).is_empty()
    }

    /// Whether an object is in the store with all that its frame is a difference to: a lost pack takes later versions of
    /// its content with it. What is in packs that are about to be deleted does not count.
    pub fn contains_whole(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.catalog.lasting_places(kind, id).iter().any(|place| {
            // A key alone is no proof: the content is.
            self.has_bases(place)
                && (kind.has_full_id() || self.take_with_id(place).is_ok_and(|(_, found)| found == id))
        })
    }

    fn has_bases(&self, place: &Place) -> bool {
        let Some(frame) = place.frame() else { return false };
        let bases = || self.catalog.bases(&place.pack, frame).into_iter();
        frame.prefix == Prefix::None || bases().any(|base| self.catalog.is_lasting(&base) && self.has_bases(&base))
    }

    /// Reads a snapshot.
    pub fn snapshot(&self, id: ObjectId) -> Result<Snapshot> {
        let bytes = self.object(ObjectKind::Snapshot, id)?;
        Snapshot::decode(&bytes)
            .map_err(|reason| Error::damaged(self.storage.root(), format!("snapshot {id}: {reason}")))
    }

    /// Reads a tree.
    pub fn tree(&self, id: ObjectId) -> Result<std::collections::BTreeMap<Vec<u8>, Node>> {
        let bytes = self.object(ObjectKind::Tree, id)?;
        decode_tree(&bytes).map_err(|reason| Error::damaged(self.storage.root(), format!("tree {id}: {reason}")))
    }

    /// The chunks of a file's content: none where it is empty, one of the file's id where it was not cut.
    pub fn chunks_of(&self, id: ObjectId, bytes: u64) -> Result<Vec<ChunkRef>> {
        if bytes == 0 {
            return Ok(Vec::new());
        }
        let whole = self.catalog.places(ObjectKind::Chunk, id);
        if let (false, Ok(bytes)) = (whole.is_empty(), u32::try_from(bytes)) {
            return Ok(vec![ChunkRef { id, bytes }]);
        }
        match self.object(ObjectKind::ChunkList, id) {
            Ok(list) => {
                let damaged =
                    |reason: String| Error::damaged(self.storage.root(), format!("chunk list of file {id}: {reason}"));
                let chunks = decode_chunks(&list).map_err(damaged)?;
                let total: u64 = chunks.iter().map(|chunk| u64::from(chunk.bytes)).sum();
                if total != bytes {
                    return Err(damaged(format!("{total} bytes in place of {bytes}")));
                }
                Ok(chunks)
            }
            // The search for the list has brought every pack to light.
            Err(Error::Missing { .. }) if self.contains(ObjectKind::Chunk, id) => {
                Ok(vec![ChunkRef { id, bytes: u32::try_from(bytes).unwrap_or(u32::MAX) }])
            }
            Err(Error::Missing { .. }) => Err(Error::Missing { kind: "file", id }),
            Err(error) => Err(error),
        }
    }

    /// Hands the content of a file to `sink`, piece by piece, each piece checked.
    ///
    /// For a file of one chunk that check is the file's own; for others the caller gets an error at the end when the
    /// whole does not have the file's hash, and must not keep what it has written by then.
    pub fn read_file(&self, id: ObjectId, bytes: u64, mut sink: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let chunks = self.chunks_of(id, bytes)?;
        if chunks.is_empty() {
            return if id == ObjectId::of(&[]) { Ok(()) } else { Err(Error::Missing { kind: "file", id }) };
        }
        let wrong = |reason: &str| Error::damaged(self.storage.root(), format!("file {id}: {reason}"));
        // The chunk's own check is the file's only where they are one.
        let is_whole = matches!(chunks.as_slice(), [only] if only.id == id);
        let mut hasher = blake3::Hasher::new();
        let mut done = 0;
        for chunk in &chunks {
            let content = match self.object(ObjectKind::Chunk, chunk.id) {
                Ok(content) => content,
                // Since its list was read, a merge may have put the file's chunks together.
                Err(Error::Missing { .. }) if !is_whole && self.contains(ObjectKind::Chunk, id) => {
                    let whole = self.object(ObjectKind::Chunk, id)?;
                    return sink(whole.get(done..).unwrap_or_default());
                }
                Err(error) => return Err(error),
            };
            if content.len() as u64 != u64::from(chunk.bytes) {
                return Err(wrong("a chunk's length differs from the list"));
            }
            if !is_whole {
                hasher.update(&content);
            }
            done += content.len();
            sink(&content)?;
        }
        if !is_whole && ObjectId(*hasher.finalize().as_bytes()) != id {
            return Err(wrong("its chunks do not have its hash together"));
        }
        Ok(())
    }

    /// The content of a file in memory, not copied where it is in one piece.
    pub fn content(&self, id: ObjectId, bytes: u64) -> Result<ObjectBytes> {
        if !self.catalog.places(ObjectKind::Chunk, id).is_empty()
            && let Ok(whole) = self.object(ObjectKind::Chunk, id)
            && whole.len() as u64 == bytes
        {
            return Ok(whole);
        }
        self.file(id, bytes).map(ObjectBytes::from)
    }

    /// The content of a file in memory.
    pub fn file(&self, id: ObjectId, bytes: u64) -> Result<Vec<u8>> {
        let mut content = Vec::new();
        self.read_file(id, bytes, |piece| {
            content.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(content)
    }
}

/// A file of a pack, by its place in the table.
fn file_in(pack: &Pack, ordinal: usize) -> Option<TableFile> {
    let object = pack.objects.get(ordinal)?;
    let ObjectName::Id(id) = object.name else { return None };
    Some((id, object.bytes as u64, object.kind == ObjectKind::ChunkList))
}
