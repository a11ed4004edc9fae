//! What snapshots need: their trees and files in the order in which they first came, each with the path it came at.

use std::collections::HashSet;

use super::Store;
use super::files::top_trees;
use crate::error::Result;
use crate::id::ObjectId;
use crate::pack::format::ObjectKind;
use crate::snapshot::{Entry, MAX_DEPTH, Node};
use crate::tracked_path::TrackedPath;

/// A folder as it stood in some snapshot for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedTree {
    /// Its id.
    pub id: ObjectId,
    /// The folder; the root has none.
    pub path: Option<TrackedPath>,
}

/// A file's content as it stood in some snapshot for the first time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedFile {
    /// Its id.
    pub id: ObjectId,
    /// Its length.
    pub bytes: u64,
    /// The file.
    pub path: TrackedPath,
}

/// What one snapshot brought that none before it had.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReachedSnapshot {
    /// Its id.
    pub id: ObjectId,
    /// Its new trees, each before those that it has as folders.
    pub trees: Vec<ReachedTree>,
    /// Its new files, empty ones aside.
    pub files: Vec<ReachedFile>,
}

/// What a walk over snapshots finds.
#[derive(Debug, Default)]
pub struct Reached {
    /// The snapshots, in the order in which they were given.
    pub snapshots: Vec<ReachedSnapshot>,
    /// Whether all trees could be read. If not, more is needed than was found.
    pub is_complete: bool,
}

impl Store {
    /// Walks snapshots, oldest first, down to what `is_wanted` refuses; what lies below a refused tree is not looked at.
    pub fn reach(
        &self,
        snapshots: impl IntoIterator<Item = ObjectId>,
        is_wanted: impl Fn(ObjectKind, ObjectId) -> bool,
    ) -> Result<Reached> {
        let mut reached = Reached { snapshots: Vec::new(), is_complete: true };
        let (mut seen_trees, mut seen_files) = (HashSet::new(), HashSet::new());
        for id in snapshots {
            let mut one = ReachedSnapshot { id, trees: Vec::new(), files: Vec::new() };
            let Ok(snapshot) = self.snapshot(id) else {
                reached.is_complete = false;
                continue;
            };
            let mut waiting = top_trees(snapshot);
            while let Some((folder, tree, depth)) = waiting.pop() {
                if !is_wanted(ObjectKind::Tree, tree) || !seen_trees.insert(tree) {
                    continue;
                }
                let nodes = match self.tree(tree) {
                    Ok(nodes) if depth <= MAX_DEPTH => nodes,
                    _ => {
                        reached.is_complete = false;
                        continue;
                    }
                };
                for (name, node) in nodes {
                    let Some(path) = TrackedPath::in_folder(folder.as_ref(), &name) else { continue };
                    match node {
                        Node::Entry(Entry::File { id, bytes, .. }) if bytes > 0 && seen_files.insert(id) => {
                            one.files.push(ReachedFile { id, bytes, path });
                        }
                        Node::Entry(_) => {}
                        Node::Folder(id) => waiting.push((Some(path), id, depth + 1)),
                    }
                }
                one.trees.push(ReachedTree { id: tree, path: folder });
            }
            reached.snapshots.push(one);
        }
        Ok(reached)
    }

    /// The packs, by name, that hold something that snapshots need and that is in no pack that stays.
    pub(super) fn holders_of_unlasting(&self, snapshots: &[ObjectId]) -> Result<HashSet<String>> {
        let reached = self.reach(snapshots.iter().copied(), |_, _| true)?;
        let mut holders = HashSet::new();
        if !reached.is_complete {
            // What cannot be read may be anywhere.
            holders.extend(self.catalog.packs().iter().map(|pack| pack.name().to_owned()));
            return Ok(holders);
        }
        for snapshot in &reached.snapshots {
            self.hold(ObjectKind::Snapshot, snapshot.id, &mut holders);
            for tree in &snapshot.trees {
                self.hold(ObjectKind::Tree, tree.id, &mut holders);
            }
            for file in &snapshot.files {
                for chunk in self.chunks_of(file.id, file.bytes)? {
                    self.hold(ObjectKind::Chunk, chunk.id, &mut holders);
                    if chunk.id != file.id {
                        self.hold(ObjectKind::ChunkList, file.id, &mut holders);
                    }
                }
            }
        }
        Ok(holders)
    }

    fn hold(&self, kind: ObjectKind, id: ObjectId, holders: &mut HashSet<String>) {
        if self.contains_whole(kind, id) {
            return;
        }
        let mut waiting = self.catalog.places(kind, id);
        // A pack may hold a version and what that is a difference to, and this be a difference to something elsewhere.
        let mut known = HashSet::new();
        while let Some(place) = waiting.pop() {
            let Some(frame) = place.frame() else { continue };
            if known.insert((place.pack.name().to_owned(), frame.offset)) {
                holders.insert(place.pack.name().to_owned());
                waiting.extend(self.catalog.bases(&place.pack, frame));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::pack::format::Prefix;
    use crate::pack::{PackWriter, PreparedFrame};
    use crate::snapshot::{Entry, Node, Snapshot, encode_tree};
    use crate::store::{PACKS, SETTLED_TIER};

    #[test]
    fn what_a_chain_within_a_pack_begins_with_is_held_as_well() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = Store::init(&folder.path().join("store")).expect("made");
        let version = |number: usize| format!("{number}\n{}", "# a line that stays\n".repeat(40)).into_bytes();
        let id = |number: usize| ObjectId::of(&version(number));
        // The first version in a pack that no step merges.
        let first = format!("{PACKS}/{:016x}.pack", 7);
        let mut pack =
            PackWriter::create(&*store.storage, "tmp/first".into(), store.config.store, SETTLED_TIER).expect("created");
        let frame = PreparedFrame::new(&[(ObjectKind::Chunk, id(0), &version(0))], Prefix::None, &[], 0, 3);
        pack.add(frame).expect("added");
        pack.finish(&first).expect("finished");
        let mut snapshot = None;
        for number in 1..=8 {
            let mut writer = store.writer().expect("a slot");
            let bytes = version(number);
            let length = bytes.len() as u64;
            writer.add(ObjectKind::Chunk, id(number), bytes, Some(id(number - 1))).expect("added");
            if number == 8 {
                let file = Entry::File { id: id(7), bytes: length, executable: false };
                let tree = encode_tree(&BTreeMap::from([(b"a.py".to_vec(), Node::Entry(file))]));
                let root = ObjectId::of(&tree);
                let whole = Snapshot { root, outside: BTreeMap::new() }.encode();
                snapshot = Some(ObjectId::of(&whole));
                writer.add(ObjectKind::Tree, root, tree, None).expect("added");
                writer.add(ObjectKind::Snapshot, ObjectId::of(&whole), whole, None).expect("added");
            }
            writer.flush_objects().expect("written");
        }
        store.catalog.refresh().expect("lists");
        let merged = store.merge_packs_step().expect("merged");
        assert_eq!((merged.there.len(), merged.replaced.len()), (2, 8));
        let all: HashSet<String> = store.catalog.packs().iter().map(|pack| pack.name().to_owned()).collect();
        let positions = |place: &super::super::Place| place.frame().expect("there").chain_position;
        assert_eq!(store.catalog.places(ObjectKind::Chunk, id(7)).iter().map(positions).collect::<Vec<_>>(), [7]);
        store.catalog.set_condemned(all.clone());
        assert_eq!(store.holders_of_unlasting(&[snapshot.expect("written")]).expect("readable"), all);
    }
}
