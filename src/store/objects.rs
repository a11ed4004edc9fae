//! Reads objects: finds the frame, decodes what it was compressed against first, and checks every object's hash.

use std::collections::{HashMap, VecDeque};
use std::ops::{Deref, Range};
use std::sync::{Arc, Mutex};

use super::Store;
use super::catalog::{Place, locked};
use crate::dense_trees;
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::format::{Codec, ObjectKind, ObjectName, Prefix};
use crate::pack::{Frame, Pack};
use crate::snapshot::{ChunkRef, Node, Snapshot, decode_chunks, decode_tree};

/// Decoded frames are kept up to this many bytes.
const CACHE_BYTES: usize = 64 << 20;
/// So many times packs may go while an object is looked for.
const ATTEMPTS: usize = 8;

/// An object's bytes, which share the memory of their frame.
#[derive(Debug, Clone)]
pub struct ObjectBytes {
    frame: Arc<Vec<u8>>,
    range: Range<usize>,
}

impl Deref for ObjectBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.frame.get(self.range.clone()).unwrap_or_default()
    }
}

type Cell = Arc<Mutex<Option<Arc<Vec<u8>>>>>;

/// Decoded frames. A frame that is being decoded is waited for rather than decoded twice.
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
        if let Some(cell) = cells.by_place.get(&key) {
            return Arc::clone(cell);
        }
        let cell = Cell::default();
        cells.by_place.insert(key.clone(), Arc::clone(&cell));
        cells.order.push_back((key, frame.raw_bytes));
        cells.bytes += frame.raw_bytes;
        while cells.bytes > CACHE_BYTES && cells.order.len() > 1 {
            if let Some((oldest, bytes)) = cells.order.pop_front() {
                cells.by_place.remove(&oldest);
                cells.bytes -= bytes;
            }
        }
        cell
    }
}

impl Store {
    /// Decodes the frame that a place is in.
    fn frame(&self, place: &Place) -> Result<Arc<Vec<u8>>> {
        let frame = place.frame().ok_or_else(|| Error::damaged(&place.pack.path, "an object without a frame"))?;
        let cell = self.frames.cell(&place.pack, frame);
        // Frames only wait for frames of a lower chain position, so these locks cannot form a circle.
        let mut content = locked(&cell);
        if let Some(content) = &*content {
            return Ok(Arc::clone(content));
        }
        let decoded = Arc::new(self.decode_frame(&place.pack, frame)?);
        *content = Some(Arc::clone(&decoded));
        Ok(decoded)
    }

    /// Decodes a frame, and those that it needs, without the cache for itself.
    pub fn decode_frame(&self, pack: &Arc<Pack>, frame: &Frame) -> Result<Vec<u8>> {
        let storage = &*self.storage;
        if frame.prefix == Prefix::None {
            let raw = pack.read_frame(storage, frame, &[])?;
            return if matches!(frame.codec, Codec::Dense(_)) { self.expand(pack, frame, &raw) } else { Ok(raw) };
        }
        let mut bases = self.catalog.bases(pack, frame);
        if bases.is_empty() && self.catalog.complete()? {
            bases = self.catalog.bases(pack, frame);
        }
        let mut last = Error::MissingBase { path: storage.full_path(&pack.path), offset: frame.offset };
        // Two ids can share a key, and one content can be in several packs: the first that leads to the right hash is it.
        for base in bases {
            let decoded = self.take(&base).and_then(|prefix| pack.read_frame(storage, frame, &prefix));
            match decoded {
                Ok(raw) if first_object_is_right(pack, frame, &raw) => return Ok(raw),
                Ok(_) => {
                    let reason = format!("frame at byte {}: its content does not have its hash", frame.offset);
                    last = Error::damaged(storage.full_path(&pack.path), reason);
                }
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Lays out the trees and snapshots of a dense frame.
    fn expand(&self, pack: &Pack, frame: &Frame, dense: &[u8]) -> Result<Vec<u8>> {
        let objects = pack.objects.get(frame.objects.clone()).unwrap_or_default();
        let file = |ordinal: usize| {
            let object = pack.objects.get(ordinal)?;
            let ObjectName::Id(id) = object.name else { return None };
            Some((id, object.bytes as u64, object.kind == ObjectKind::ChunkList))
        };
        dense_trees::expand(dense, objects.iter().map(|object| (object.kind, object.bytes)), file).map_err(|reason| {
            let path = self.storage.full_path(&pack.path);
            Error::damaged(path, format!("frame at byte {}: {reason}", frame.offset))
        })
    }

    /// The bytes of the object at a place, checked against what the table says of its id.
    pub(super) fn take(&self, place: &Place) -> Result<ObjectBytes> {
        let object = *place.object().ok_or_else(|| Error::damaged(&place.pack.path, "a place beyond the table"))?;
        let frame = self.frame(place)?;
        let bytes = ObjectBytes { frame, range: object.offset..object.offset.saturating_add(object.bytes) };
        if bytes.len() != object.bytes || !object.is_hash_of(&bytes) {
            let reason = format!("{} {} does not have its hash", object.kind.word(), object.name);
            return Err(Error::damaged(self.storage.full_path(&place.pack.path), reason));
        }
        Ok(bytes)
    }

    /// Reads an object wherever it is whole.
    pub fn object(&self, kind: ObjectKind, id: ObjectId) -> Result<ObjectBytes> {
        let missing = || Error::Missing { kind: kind.word(), id };
        let mut last = missing();
        for _ in 0..ATTEMPTS {
            last = missing();
            for place in self.catalog.places(kind, id) {
                match self.take(&place) {
                    // The table may have no more than a key of it.
                    Ok(bytes) if kind.has_full_id() || ObjectId::of(&bytes) == id => return Ok(bytes),
                    Ok(_) => {}
                    // The pack has been merged into another since the folder was listed.
                    Err(error) if error.is_not_found() => self.catalog.note_vanished(),
                    Err(error) => last = error,
                }
            }
            // Only when index and overlay lead nowhere is every pack looked into.
            if !self.catalog.complete()? {
                break;
            }
        }
        Err(last)
    }

    /// Whether an object is in the store, as far as index and overlay know.
    pub fn contains(&self, kind: ObjectKind, id: ObjectId) -> bool {
        !self.catalog.places(kind, id).is_empty()
    }

    /// Whether an object is in the store with all that its frame is a difference to: a lost pack takes later versions of
    /// its content with it. What is in packs that are about to be deleted does not count.
    pub fn contains_whole(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.catalog.lasting_places(kind, id).iter().any(|place| {
            // A key alone is no proof: the content is.
            self.has_bases(place)
                && (kind.has_full_id() || self.take(place).is_ok_and(|bytes| ObjectId::of(&bytes) == id))
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

fn first_object_is_right(pack: &Pack, frame: &Frame, raw: &[u8]) -> bool {
    pack.objects.get(frame.objects.start).is_none_or(|object| object.is_hash_of(object.bytes_in(raw)))
}
