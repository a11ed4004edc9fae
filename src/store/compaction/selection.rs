//! Which objects are moved, and where they stood in the order of the walk.

use super::{Compaction, Item, Key};
use crate::id::ObjectId;
use crate::pack::format::{MAX_CHAIN_POSITION, ObjectKind, ObjectName, Prefix};
use crate::store::catalog::Place;
use crate::store::reachable::Reached;
use crate::tracked_path::TrackedPath;

impl Compaction<'_> {
    /// An object of the inputs, unless it was taken already or is in a pack that stays.
    fn take(&mut self, kind: ObjectKind, id: ObjectId, path: Option<&TrackedPath>) -> Option<Item> {
        let place = self.at.get(&(kind, ObjectName::of(kind, id)))?.clone();
        let position = place.frame()?.chain_position;
        if !self.taken.insert((kind, id)) || self.is_elsewhere(kind, id, position) {
            return None;
        }
        let is_free = self.options.raises_positions && !self.pinned.contains(&id.key());
        let limit = if is_free { MAX_CHAIN_POSITION } else { position };
        if is_free && self.is_elsewhere(kind, id, limit) {
            self.raised.insert((kind, id));
            return None;
        }
        Some(Item { kind, id, bytes: place.object()?.bytes, place, path: path.cloned(), limit })
    }

    /// Whether a copy outside of the inputs needs none of them.
    pub(super) fn is_whole(&self, place: &Place) -> bool {
        let Some(frame) = place.frame() else { return false };
        let bases = || self.store.catalog.bases(&place.pack, frame).into_iter();
        frame.prefix == Prefix::None || bases().any(|base| self.stays(&base) && self.is_whole(&base))
    }

    pub(super) fn stays(&self, place: &Place) -> bool {
        !self.inputs.contains(place.pack.name()) && self.store.catalog.is_lasting(place)
    }

    /// Chooses what is moved: contents, and trees with their snapshots, in the order of the walk.
    pub(super) fn choose(&mut self, reached: &Reached) -> (Vec<Item>, Vec<Item>) {
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
        if self.at.contains_key(&(ObjectKind::Chunk, ObjectName::Id(id))) {
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
        let mut all: Vec<(Key, Place)> = self.at.iter().map(|(key, place)| (*key, place.clone())).collect();
        all.sort_by_key(|(key, _)| *key);
        for ((kind, name), place) in all {
            if matches!(name, ObjectName::Id(id) if self.taken.contains(&(kind, id))) {
                continue;
            }
            let id = match (name, self.store.take(&place)) {
                (ObjectName::Id(id), Ok(_)) => id,
                (ObjectName::Key(_), Ok(bytes)) => ObjectId::of(&bytes),
                (_, Err(error)) => {
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
    pub(super) fn outside_base(&self, place: &Place) -> Option<Place> {
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
}
