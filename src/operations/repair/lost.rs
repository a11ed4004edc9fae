//! What the runs need and the store cannot give.

use std::collections::{HashMap, HashSet};

use super::packs::Examined;
use crate::id::ObjectId;
use crate::operations::select::distinct_snapshots;
use crate::pack::format::ObjectKind;
use crate::snapshot::{Entry, Node};
use crate::store::{Runs, Store};

/// Content that is in no readable place of the store.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Whole files, with their lengths.
    pub files: HashMap<ObjectId, u64>,
    /// Chunks of files that have several, with their lengths.
    pub chunks: HashMap<ObjectId, u64>,
    /// Trees.
    pub trees: HashSet<ObjectId>,
    /// Snapshots.
    pub snapshots: HashSet<ObjectId>,
}

impl Lost {
    /// Finds what is lost of all runs.
    pub fn of(store: &Store, runs: &Runs, examined: &Examined) -> Self {
        let mut lost = Self::default();
        let (mut waiting, mut seen) = (Vec::new(), HashSet::new());
        for id in distinct_snapshots(runs) {
            match store.snapshot(id) {
                Ok(snapshot) => waiting.extend(snapshot.outside.into_values().chain([snapshot.root])),
                Err(_) => drop(lost.snapshots.insert(id)),
            }
        }
        while let Some(id) = waiting.pop() {
            if !seen.insert(id) {
                continue;
            }
            let Ok(nodes) = store.tree(id) else {
                lost.trees.insert(id);
                continue;
            };
            for node in nodes.into_values() {
                match node {
                    Node::Folder(id) => waiting.push(id),
                    Node::Entry(Entry::File { id, bytes, .. }) if seen.insert(id) => {
                        lost.look_for_file(store, examined, id, bytes);
                    }
                    Node::Entry(_) => {}
                }
            }
        }
        lost
    }

    fn look_for_file(&mut self, store: &Store, examined: &Examined, id: ObjectId, bytes: u64) {
        if bytes == 0 || examined.has(ObjectKind::Chunk, id) {
            return;
        }
        let is_listed = examined.has(ObjectKind::ChunkList, id);
        let chunks = if is_listed { store.chunks_of(id, bytes).unwrap_or_default() } else { Vec::new() };
        let missing: Vec<_> = chunks.iter().filter(|chunk| !examined.has(ObjectKind::Chunk, chunk.id)).collect();
        if chunks.is_empty() || !missing.is_empty() {
            self.files.insert(id, bytes);
        }
        self.chunks.extend(missing.into_iter().map(|chunk| (chunk.id, u64::from(chunk.bytes))));
    }

    /// Whether nothing is lost.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}
