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
        while let Some(place) = waiting.pop() {
            if let (Some(frame), true) = (place.frame(), holders.insert(place.pack.name().to_owned())) {
                waiting.extend(self.catalog.bases(&place.pack, frame));
            }
        }
    }
}
