//! Damaged packs: what is whole in them is written again, and they are set aside.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use rayon::prelude::*;

use super::{Repaired, set_files_aside};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::format::{ObjectKind, ObjectName};
use crate::pack::{Frame, Object, Pack};
use crate::progress::Progress;
use crate::snapshot::decode_chunks;
use crate::storage::Without;
use crate::store::{PACKS, Store, list_packs};

/// An object by its kind and id.
pub type Key = (ObjectKind, ObjectId);

/// What reading every frame of every pack has shown.
#[derive(Debug, Default)]
pub struct Examined {
    /// Packs with a table that cannot be read, or with frames that are not what they were.
    pub damaged: BTreeSet<String>,
    /// Objects that are whole in one of the other packs.
    safe: HashSet<Key>,
    /// Packs that a killed gc was deleting. Whoever maintains the store next ends that.
    half_deleted: BTreeSet<String>,
    /// Objects that are whole in packs that will not stay.
    in_going: HashSet<Key>,
    /// Whether some pack is missing, and what a run needs may be in packs alone that will not stay.
    pub is_last_copy_going: bool,
}

impl Examined {
    /// Whether an object is whole anywhere.
    pub fn has(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.safe.contains(&(kind, id)) || self.in_going.contains(&(kind, id))
    }

    /// The trees that are whole.
    pub fn trees(&self) -> impl Iterator<Item = ObjectId> {
        let all = self.safe.iter().chain(&self.in_going);
        all.filter(|(kind, _)| *kind == ObjectKind::Tree).map(|(_, id)| *id)
    }
}

/// What became of one frame.
struct FrameState<'p> {
    pack: &'p Arc<Pack>,
    good: Vec<Key>,
    /// Whether the frame's own bytes are wrong, rather than those of a frame that it is a difference to.
    is_damaged: bool,
}

/// Reads and hashes everything. `is_complete` says that no pack is known to be missing: a list that asks for a chunk which
/// is nowhere is then itself wrong.
pub fn examine(store: &Store, is_complete: bool, progress: &dyn Progress) -> Result<Examined> {
    store.catalog().complete()?;
    let packs = store.catalog().packs();
    let half_deleted = store.half_deleted_packs()?.into_iter().map(|name| format!("{PACKS}/{name}")).collect();
    let mut examined = Examined { half_deleted, ..Examined::default() };
    let opened: HashSet<&str> = packs.iter().map(|pack| pack.name()).collect();
    let mut is_complete = is_complete;
    for file in list_packs(&**store.storage())?.into_iter().filter(|file| !opened.contains(file.name.as_str())) {
        is_complete = false;
        // A newer runsnap's pack is not damaged, and another store's is none of ours.
        let path = format!("{PACKS}/{}", file.name);
        if Pack::open(&**store.storage(), &path).is_err_and(|error| error.is_damage()) {
            examined.damaged.insert(path);
        }
    }
    let frames: Vec<_> = packs.iter().flat_map(|pack| pack.frames.iter().map(move |frame| (pack, frame))).collect();
    progress.begin("Reading packs", frames.len() as u64);
    let states: Vec<FrameState<'_>> = frames
        .par_iter()
        .map(|(pack, frame)| {
            progress.advance(1);
            examine_frame(store, pack, frame, is_complete)
        })
        .collect();
    progress.end();
    for state in states.iter().filter(|state| state.is_damaged) {
        examined.damaged.insert(state.pack.path.clone());
    }
    for state in states {
        let path = &state.pack.path;
        let is_going = examined.damaged.contains(path) || examined.half_deleted.contains(path);
        if is_going { &mut examined.in_going } else { &mut examined.safe }.extend(state.good);
    }
    let is_going = !examined.half_deleted.is_empty() && !examined.in_going.is_subset(&examined.safe);
    examined.is_last_copy_going = is_going && !is_complete;
    Ok(examined)
}

fn examine_frame<'p>(store: &Store, pack: &'p Arc<Pack>, frame: &Frame, is_complete: bool) -> FrameState<'p> {
    let objects = pack.objects.get(frame.objects.clone()).unwrap_or_default();
    match store.decode_frame(pack, frame) {
        Ok(raw) => {
            let is_good = |object: &&Object| is_whole(store, object, object.bytes_in(&raw), is_complete);
            let good: Vec<Key> = objects
                .iter()
                .filter(is_good)
                .map(|object| (object.kind, id_of(object, object.bytes_in(&raw))))
                .collect();
            FrameState { pack, is_damaged: good.len() < objects.len(), good }
        }
        Err(error) => {
            let full = store.storage().full_path(&pack.path);
            let is_damaged = matches!(&error, Error::Damaged { path, .. } if *path == full);
            FrameState { pack, good: Vec::new(), is_damaged }
        }
    }
}

/// The id of an object that is whole: where the table has a key alone, its content tells.
fn id_of(object: &Object, bytes: &[u8]) -> ObjectId {
    match object.name {
        ObjectName::Id(id) => id,
        ObjectName::Key(_) => ObjectId::of(bytes),
    }
}

/// Whether an object is what its id says. A list of chunks is, unless the file that its chunks make shows otherwise.
fn is_whole(store: &Store, object: &Object, bytes: &[u8], is_complete: bool) -> bool {
    if object.kind != ObjectKind::ChunkList {
        return object.is_hash_of(bytes);
    }
    let Ok(chunks) = decode_chunks(bytes) else { return false };
    let mut hasher = blake3::Hasher::new();
    for chunk in chunks {
        match store.object(ObjectKind::Chunk, chunk.id) {
            Ok(content) => drop(hasher.update(&content)),
            Err(_) => return !is_complete || !store.catalog().places(ObjectKind::Chunk, chunk.id).is_empty(),
        }
    }
    object.name.fits(ObjectId(*hasher.finalize().as_bytes()))
}

/// Writes what is whole in damaged packs and in half-deleted ones again, then moves the damaged ones out of the way.
///
/// They are moved only after everything that could be read before has been read without them.
pub fn set_aside(store: &Store, examined: &Examined, out: &mut Repaired, progress: &dyn Progress) -> Result<()> {
    let mut writer = store.writer()?;
    let mut again: Vec<Key> = examined.in_going.difference(&examined.safe).copied().collect();
    again.sort();
    for (kind, id) in &again {
        // Without a base, so at chain position 0: whatever is a difference to the old copy is one to this as well.
        writer.add_copy(*kind, *id, store.object(*kind, *id)?.to_vec(), None)?;
    }
    writer.flush_objects()?;
    out.rewritten_objects += again.len() as u64;
    if examined.damaged.is_empty() {
        return Ok(());
    }
    let going = examined.damaged.union(&examined.half_deleted).cloned().collect();
    let without = Without::new(Arc::clone(store.storage()), going);
    let left = examine(&Store::open_in(Arc::new(without))?, false, progress)?;
    let before: HashSet<&Key> = examined.safe.union(&examined.in_going).collect();
    let missing = before.iter().filter(|key| !left.safe.contains(**key)).count();
    if missing > 0 {
        out.notes.push(format!("Not set aside, {missing} objects would be lost without them: {}", names(examined)));
        return Ok(());
    }
    set_files_aside(store, PACKS, examined.damaged.iter().map(|path| path.rsplit('/').next().unwrap_or(path)), out)
}

fn names(examined: &Examined) -> String {
    examined.damaged.iter().cloned().collect::<Vec<_>>().join(", ")
}
