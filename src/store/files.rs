//! The files of a snapshot, as paths.

use std::collections::BTreeMap;

use super::Store;
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::snapshot::{Entry, MAX_DEPTH, Node, Snapshot};
use crate::tracked_path::TrackedPath;

/// Where the files from outside the project's root are found in a restored snapshot, each tree under its label.
pub const OUTSIDE_FOLDER: &str = ".runsnap-outside";

/// A snapshot with more files than this is taken for a forgery: trees that contain each other over and over.
const MAX_FILES: usize = 20_000_000;

/// A snapshot laid out as paths.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Files {
    /// The files and links.
    pub entries: BTreeMap<TrackedPath, Entry>,
    /// The trees, by folder; the root's has no path.
    pub trees: BTreeMap<Option<TrackedPath>, ObjectId>,
    /// What could not be read: the folder and why.
    pub problems: Vec<(Option<TrackedPath>, String)>,
}

/// The trees at the top of a snapshot, each with its folder and at depth 0: where a walk through it begins.
pub(super) fn top_trees(snapshot: Snapshot) -> Vec<(Option<TrackedPath>, ObjectId, usize)> {
    let outside = snapshot.outside.into_iter().map(|(label, tree)| {
        let path = TrackedPath::from_bytes(OUTSIDE_FOLDER).and_then(|outside| outside.join(&label));
        (path, tree, 0)
    });
    std::iter::once((None, snapshot.root, 0)).chain(outside).collect()
}

impl Store {
    /// Lays out a snapshot; a damaged tree is an error.
    pub fn files_of(&self, snapshot: ObjectId) -> Result<Files> {
        let mut first = None;
        let files = self.readable_files_of(snapshot, |error| {
            first.get_or_insert(error);
        })?;
        first.map_or(Ok(files), Err)
    }

    /// The file or link at one path of a snapshot. No trees are read but those on the way to it.
    pub fn entry_at(&self, snapshot: ObjectId, path: &TrackedPath) -> Result<Option<Entry>> {
        let snapshot = self.snapshot(snapshot)?;
        let parts: Vec<&[u8]> = path.parts().collect();
        let in_root = self.entry_below(snapshot.root, &parts);
        match (parts.as_slice(), in_root) {
            ([first, label, below @ ..], Ok(None)) if *first == OUTSIDE_FOLDER.as_bytes() => {
                snapshot.outside.get(*label).map_or(Ok(None), |tree| self.entry_below(*tree, below))
            }
            (_, found) => found,
        }
    }

    fn entry_below(&self, tree: ObjectId, parts: &[&[u8]]) -> Result<Option<Entry>> {
        let Some((name, folders)) = parts.split_last() else { return Ok(None) };
        let mut tree = tree;
        for folder in folders {
            match self.tree(tree)?.remove(*folder) {
                Some(Node::Folder(below)) => tree = below,
                _ => return Ok(None),
            }
        }
        match self.tree(tree)?.remove(*name) {
            Some(Node::Entry(entry)) => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    /// Lays out what can be read of a snapshot; damaged trees go to `report` and into [`Files::problems`].
    pub fn readable_files_of(&self, snapshot: ObjectId, mut report: impl FnMut(Error)) -> Result<Files> {
        let mut files = Files::default();
        let mut waiting = top_trees(self.snapshot(snapshot)?);
        while let Some((folder, id, depth)) = waiting.pop() {
            let nodes = match self.tree(id) {
                Ok(nodes) if depth <= MAX_DEPTH && files.entries.len() + files.trees.len() <= MAX_FILES => nodes,
                Ok(_) => {
                    report(Error::damaged(self.storage.root(), format!("tree {id} is nested too deeply or too often")));
                    continue;
                }
                Err(error) => {
                    files.problems.push((folder, error.to_string()));
                    report(error);
                    continue;
                }
            };
            for (name, node) in nodes {
                let path = TrackedPath::in_folder(folder.as_ref(), &name);
                // decode_tree lets no other name through.
                let Some(path) = path else { continue };
                match node {
                    Node::Entry(entry) => drop(files.entries.insert(path, entry)),
                    Node::Folder(id) => waiting.push((Some(path), id, depth + 1)),
                }
            }
            files.trees.insert(folder, id);
        }
        Ok(files)
    }
}
