//! Reads many chunks at once: each frame is decoded once, no further than it is wanted, and what comes out of it is handed
//! on while it is still being decoded.

use std::collections::{HashMap, HashSet};
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use rayon::Scope;

use super::Store;
use super::catalog::{Place, locked};
use super::objects::{Handed, ObjectBytes, is_long};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::format::{ObjectKind, Prefix};
use crate::pack::{Frame, Pack};

/// So many bytes, or so many chunks, are handed on together: a file is often shorter than what it costs to wake a thread.
const BATCH_BYTES: usize = 128 << 10;
const BATCH_CHUNKS: usize = 16;
/// While so many bytes wait for a thread, the one that decodes takes care of them itself: few enough to stay in the
/// processor's cache.
const MAX_WAITING_BYTES: usize = 512 << 10;

/// What is wanted of one frame.
struct Group {
    pack: Arc<Pack>,
    frame: usize,
    /// Places in the pack's table, with the place in the list of ids; bases of other frames have none.
    wanted: Vec<(usize, Option<usize>)>,
}

impl Group {
    fn frame(&self) -> Option<&Frame> {
        self.pack.frames.get(self.frame)
    }

    fn is_alone(&self) -> bool {
        self.frame().is_some_and(|frame| frame.prefix == Prefix::None)
    }
}

/// Chunks that have been decoded and not checked yet.
#[derive(Default)]
struct Batch {
    chunks: Vec<Chunk>,
    /// The bytes of those that share no memory with a decoded frame.
    copied: Vec<u8>,
    bytes: usize,
}

struct Chunk {
    number: usize,
    place: Place,
    bytes: ChunkBytes,
}

enum ChunkBytes {
    Kept(ObjectBytes),
    Copied(Range<usize>),
}

impl Batch {
    fn push(&mut self, number: usize, place: &Place, bytes: &Handed<'_>) {
        self.bytes += bytes.len();
        let bytes = match bytes {
            Handed::Kept(bytes) => ChunkBytes::Kept(bytes.clone()),
            Handed::Once(bytes) => {
                let start = self.copied.len();
                self.copied.extend_from_slice(bytes);
                ChunkBytes::Copied(start..self.copied.len())
            }
        };
        self.chunks.push(Chunk { number, place: place.clone(), bytes });
    }

    fn is_full(&self) -> bool {
        self.bytes >= BATCH_BYTES || self.chunks.len() >= BATCH_CHUNKS
    }
}

struct Reading<'r, S> {
    store: &'r Store,
    ids: &'r [ObjectId],
    sink: &'r S,
    waiting: AtomicUsize,
    /// Memory of batches that are done: what has just been used is quicker than what the system would have to clear.
    memory: Mutex<Vec<Vec<u8>>>,
}

impl Store {
    /// Reads the chunks with these ids and hands each to `sink`, with its place in `ids`, on several threads at once.
    ///
    /// What no table that is known has is not looked for any further: it may be the id of a file of several chunks.
    pub fn read_chunks<S: Fn(usize, Result<&[u8]>) + Sync>(&self, ids: &[ObjectId], sink: S) {
        let (groups, astray) = self.group_by_frame(ids);
        let reading = Reading { store: self, ids, sink: &sink, waiting: AtomicUsize::new(0), memory: Mutex::default() };
        let reading = &reading;
        rayon::scope(|writes| {
            // Those that others may be differences to come first.
            let (alone, differences): (Vec<Group>, Vec<Group>) = groups.into_iter().partition(Group::is_alone);
            for groups in [alone, differences] {
                rayon::scope(|decodes| {
                    for group in groups {
                        decodes.spawn(move |_| reading.read_group(&group, writes));
                    }
                });
            }
            for (number, id) in astray {
                (reading.sink)(number, Err(Error::Missing { kind: ObjectKind::Chunk.word(), id }));
            }
        });
    }

    /// The frames that chunks are in, those with most to decode first, and the chunks that are in none that is known.
    fn group_by_frame(&self, ids: &[ObjectId]) -> (Vec<Group>, Vec<(usize, ObjectId)>) {
        let mut groups: HashMap<(String, usize), Group> = HashMap::new();
        let mut astray = Vec::new();
        let position = |place: &Place| place.frame().map_or(u32::MAX, |frame| frame.chain_position);
        for (number, id) in ids.iter().enumerate() {
            let place = self.catalog.places(ObjectKind::Chunk, *id).into_iter().min_by_key(position);
            let Some((frame, place)) = place.and_then(|place| Some((place.object()?.frame, place))) else {
                astray.push((number, *id));
                continue;
            };
            let group = groups.entry((place.pack.path.clone(), frame));
            let group = group.or_insert_with(|| Group { pack: Arc::clone(&place.pack), frame, wanted: Vec::new() });
            group.wanted.push((place.ordinal, Some(number)));
        }
        self.add_bases(&mut groups);
        let mut groups: Vec<Group> = groups.into_values().collect();
        for group in &mut groups {
            group.wanted.sort_unstable();
        }
        groups.sort_by_cached_key(|group| std::cmp::Reverse(group.frame().map_or(0, |frame| frame.raw_bytes)));
        (groups, astray)
    }

    /// Has long frames that are decoded anyway keep what others of the frames are differences to.
    fn add_bases(&self, groups: &mut HashMap<(String, usize), Group>) {
        let mut waiting: Vec<(Arc<Pack>, usize)> = groups
            .values()
            .filter(|group| !group.is_alone())
            .map(|group| (Arc::clone(&group.pack), group.frame))
            .collect();
        let mut known = HashSet::new();
        let mut bases: Vec<Place> = Vec::new();
        while let Some((pack, frame)) = waiting.pop() {
            let Some(frame) = pack.frames.get(frame) else { continue };
            for base in self.catalog.bases(&pack, frame) {
                if !known.insert((base.pack.path.clone(), base.ordinal)) {
                    continue;
                }
                if let Some(object) = base.object() {
                    waiting.push((Arc::clone(&base.pack), object.frame));
                }
                bases.push(base);
            }
        }
        for base in bases {
            let (Some(object), Some(frame)) = (base.object(), base.frame()) else { continue };
            if let (true, Some(group)) = (is_long(frame), groups.get_mut(&(base.pack.path.clone(), object.frame))) {
                group.wanted.push((base.ordinal, None));
            }
        }
    }
}

impl<S: Fn(usize, Result<&[u8]>) + Sync> Reading<'_, S> {
    /// Decodes one frame, and leaves what comes out of it to the threads that have nothing to do.
    fn read_group<'s>(&'s self, group: &Group, writes: &Scope<'s>) {
        let mut batch = self.batch();
        let mut wanted = group.wanted.iter().peekable();
        let mut take = |ordinal: usize, bytes: Handed<'_>| {
            let bytes = match bytes {
                // To copy it would cost more than to do without its memory.
                Handed::Once(bytes) if bytes.len() >= BATCH_BYTES => Handed::Kept(std::mem::take(bytes).into()),
                other => other,
            };
            let place = Place { pack: Arc::clone(&group.pack), ordinal };
            // One object may be wanted under several numbers, and as a base besides.
            while let Some((_, number)) = wanted.next_if(|(wanted, _)| *wanted == ordinal) {
                match number {
                    Some(number) => batch.push(*number, &place, &bytes),
                    None => self.store.keep(&place, bytes.to_vec().into()),
                }
            }
            if batch.is_full() {
                self.hand_on(std::mem::replace(&mut batch, self.batch()), writes);
            }
        };
        let mut ordinals: Vec<usize> = group.wanted.iter().map(|(ordinal, _)| *ordinal).collect();
        ordinals.dedup();
        // What it does not hand over, for whatever reason, is looked for elsewhere.
        let _ = self.store.decode_or_recall(&group.pack, group.frame, &ordinals, &mut take);
        self.hand_on(batch, writes);
        for (_, number) in wanted {
            if let Some(number) = *number {
                writes.spawn(move |_| self.read_alone(number));
            }
        }
    }

    fn batch(&self) -> Batch {
        Batch { copied: locked(&self.memory).pop().unwrap_or_default(), ..Batch::default() }
    }

    fn hand_on<'s>(&'s self, batch: Batch, writes: &Scope<'s>) {
        if self.waiting.fetch_add(batch.bytes, Ordering::Relaxed) > MAX_WAITING_BYTES {
            self.finish(batch);
        } else {
            writes.spawn(move |_| self.finish(batch));
        }
    }

    fn finish(&self, mut batch: Batch) {
        for chunk in &batch.chunks {
            let bytes = match &chunk.bytes {
                ChunkBytes::Kept(bytes) => bytes,
                ChunkBytes::Copied(range) => batch.copied.get(range.clone()).unwrap_or_default(),
            };
            match self.store.check(&chunk.place, bytes) {
                Ok(_) => (self.sink)(chunk.number, Ok(bytes)),
                Err(_) => self.read_alone(chunk.number),
            }
        }
        self.waiting.fetch_sub(batch.bytes, Ordering::Relaxed);
        batch.copied.clear();
        if batch.copied.capacity() <= 2 * BATCH_BYTES {
            locked(&self.memory).push(batch.copied);
        }
    }

    /// Reads one chunk wherever it is whole.
    fn read_alone(&self, number: usize) {
        let Some(id) = self.ids.get(number) else { return };
        match self.store.object(ObjectKind::Chunk, *id) {
            Ok(bytes) => (self.sink)(number, Ok(&bytes)),
            Err(error) => (self.sink)(number, Err(error)),
        }
    }
}
