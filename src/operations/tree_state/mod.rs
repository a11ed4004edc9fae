//! What a capture has seen of a working tree, so that the next one can tell by stats alone what has changed since.
//!
//! A state is kept in the store as a cache: see `schema/store.md`, "states/". Nothing that it says of a file is believed
//! unless the file's stamp is the same as then, and was settled then.

mod format;
pub mod kept;
mod look;
mod outline;
pub mod stamp;
mod structure;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use kept::Kept;
use look::{decides_what_is_tracked, hash_of_names};
use stamp::{Below, Horizon};

use super::take_files::FolderTrees;
use crate::error::Result;
use crate::id::ObjectId;
use crate::snapshot::{EncodedTree, Entry, Node, encode_tree};
use crate::storage::write_whole;
use crate::store::{MergedPacks, RecentVersions, STATES, Store, Writer};
use crate::tracked_path::TrackedPath;

pub use look::{Looked, TreeLook};
pub use outline::{KeptState, Totals};
pub use structure::{Condition, FolderState, Structure};

/// What became of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It is in the snapshot.
    Entry(Entry),
    /// It was left out as a secret.
    Secret,
}

/// A file as it was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileState {
    /// Its path.
    pub path: TrackedPath,
    /// Its stamp, if that was settled when the file was read.
    pub stamp: Option<u64>,
    /// What became of it.
    pub taken: Taken,
    /// What the user was told of it: tokens in it.
    pub warnings: Vec<String>,
}

/// A tree, or the files of a run, as a capture has seen them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TreeState {
    /// The store's generation.
    pub generation: u64,
    /// The stamps of packs with durable names, sorted: as long as they are all there as they were, so is everything that
    /// `files` and `recent` name.
    pub packs: Vec<u64>,
    /// The snapshot.
    pub snapshot: ObjectId,
    /// Its files, and the secrets that were left out of it, sorted.
    pub files: Arc<Vec<FileState>>,
    /// The trees of the folders that they are in, sorted; the root has no path.
    pub trees: FolderTrees,
    /// Which files these are, if that can be told by stats.
    pub structure: Option<Structure>,
    /// Versions of what has changed of late.
    pub recent: RecentVersions,
    /// How it is kept, where what has changed since can be told in short.
    pub kept: Option<Kept>,
}

/// What of a state decides whether a later one is worth keeping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    snapshot: ObjectId,
    generation: u64,
    packs: Vec<u64>,
    files: usize,
    has_structure: bool,
    stamps: u64,
}

impl Summary {
    fn of(
        (snapshot, generation, packs): (ObjectId, u64, &[u64]),
        structure: Option<&Structure>,
        files: impl ExactSizeIterator<Item = Option<u64>>,
    ) -> Self {
        let (packs, has_structure, count) = (packs.to_vec(), structure.is_some(), files.len());
        let folders = structure.into_iter().flat_map(|structure| &structure.folders).map(|folder| folder.stamp);
        // The order does not matter, and which of them differ does not either.
        let stamps = files.chain(folders).fold(0u64, |sum, stamp| sum.wrapping_add(stamp.unwrap_or(1)));
        Self { snapshot, generation, packs, files: count, has_structure, stamps }
    }
}

/// Whether nothing has been deleted from the store of that generation since these packs were there, but what was merged.
fn is_stored(writer: &Writer<'_>, generation: u64, packs: &[u64]) -> Result<bool> {
    if writer.has_condemned() || writer.generation()? != generation {
        return Ok(false);
    }
    let there = packs_now(writer.store())?;
    Ok(packs.iter().all(|pack| there.binary_search(pack).is_ok()))
}

/// Where the state of a tree, or of what an entry point uses, is kept.
pub fn path_in_store(root: &Path, entry: Option<&Path>, include_secrets: bool) -> String {
    let mut key = Vec::new();
    for part in [Some(root), entry] {
        key.extend(part.map(|path| path.as_os_str().as_encoded_bytes()).unwrap_or_default());
        key.push(0);
    }
    key.push(u8::from(entry.is_some()));
    key.push(u8::from(include_secrets));
    format!("{STATES}/{}.state", ObjectId::of(&key).short(16))
}

/// The stamps of the packs that are there now, sorted.
pub fn packs_now(store: &Store) -> Result<Vec<u64>> {
    let mut stamps = store.catalog().stamps()?;
    stamps.sort_unstable();
    Ok(stamps)
}

impl TreeState {
    /// Reads the state that is kept under a path; a missing or damaged one is none.
    pub fn load(store: &Store, path: &str) -> Option<Self> {
        KeptState::load(store, path)?.open()
    }

    /// Keeps the state under a path. It is a cache: nothing is flushed.
    ///
    /// Mostly one file has changed and a few trees with it. That is noted behind what is there; the whole would be written
    /// under another name and renamed, which has some file systems put it on the disk at once.
    pub fn save(&mut self, store: &Store, path: &str, temporary: &str) -> Result<()> {
        let storage = &**store.storage();
        let note = self.kept.as_ref().and_then(|kept| format::encode_note(self, kept));
        if let (Some(kept), Some(note)) = (&self.kept, note)
            && kept.has_room(note.len())
            && storage.append(path).and_then(|mut file| file.write(&note)).is_ok()
        {
            let check = format::last_checksum(&note, true);
            self.note_kept(Kept::new(kept.bytes + note.len() as u64, kept.base_bytes, check));
            return Ok(());
        }
        let bytes = format::encode(self, store.config().store);
        match write_whole(storage, temporary, path, &bytes, false) {
            Err(error) if error.is_not_found() => {
                storage.create_folder(STATES)?;
                write_whole(storage, temporary, path, &bytes, false)
            }
            other => other,
        }?;
        let length = bytes.len() as u64;
        self.note_kept(Kept::new(length, length, format::last_checksum(&bytes, false)));
        Ok(())
    }

    fn note_kept(&mut self, kept: Kept) {
        self.kept = Some(Kept { packs: self.packs.clone(), ..kept });
        self.recent.note_kept();
    }

    /// Puts a file in the place of the one that has its path; its place, if there is one.
    pub fn renew_file(&mut self, seen: FileState) -> Option<(usize, Taken)> {
        let place = self.files.binary_search_by(|file| file.path.cmp(&seen.path)).ok()?;
        let file = std::mem::replace(Arc::make_mut(&mut self.files).get_mut(place)?, seen);
        if let Some(kept) = &mut self.kept {
            kept.files.insert(place);
        }
        Some((place, file.taken))
    }

    /// Notes packs that were written for what it names.
    pub fn add_packs(&mut self, new: &[u64]) {
        self.packs.extend(new);
        self.packs.sort_unstable();
        self.packs.dedup();
    }

    /// Notes what a merge has made of the packs.
    pub fn replace_packs(&mut self, merged: &MergedPacks) {
        self.packs.extend(&merged.there);
        self.packs.retain(|pack| !merged.replaced.contains(pack));
        self.packs.sort_unstable();
        self.packs.dedup();
    }

    /// Whether everything that it names is still in the store: nothing has been deleted since but what was merged, and
    /// that is known. `writer` has its slot already, so nothing goes from now on.
    pub fn is_vouched_for(&self, writer: &Writer<'_>) -> Result<bool> {
        is_stored(writer, self.generation, &self.packs)
    }

    /// The file at a path.
    pub fn file(&self, path: &TrackedPath) -> Option<&FileState> {
        let place = self.files.binary_search_by(|file| file.path.cmp(path)).ok()?;
        self.files.get(place)
    }

    /// The files of the snapshot.
    pub fn entries(&self) -> impl Iterator<Item = (&TrackedPath, &Entry)> {
        self.files.iter().filter_map(|file| match &file.taken {
            Taken::Entry(entry) => Some((&file.path, entry)),
            Taken::Secret => None,
        })
    }

    /// The tree of a folder.
    pub fn tree(&self, folder: Option<&TrackedPath>) -> Option<ObjectId> {
        let place = self.trees.binary_search_by(|(known, _)| known.as_ref().cmp(&folder)).ok()?;
        self.trees.get(place).map(|(_, id)| *id)
    }

    /// What its files come to.
    pub fn totals(&self) -> Totals {
        let (files, bytes) =
            self.entries().fold((0, 0), |(files, bytes), (_, entry)| (files + 1, bytes + entry.bytes()));
        let has_remark = |file: &FileState| file.taken == Taken::Secret || !file.warnings.is_empty();
        let of_structure = self.structure.as_ref().is_some_and(Structure::has_remarks);
        let has_remarks = of_structure || self.files.iter().any(has_remark);
        Totals { files, bytes, has_remarks }
    }

    /// What decides whether a later state is worth keeping in place of this.
    pub fn summary(&self) -> Summary {
        let known = (self.snapshot, self.generation, self.packs.as_slice());
        Summary::of(known, self.structure.as_ref(), self.files.iter().map(|file| file.stamp))
    }

    /// Whether keeping this in place of an earlier state is worth the write.
    pub fn is_worth_keeping(&self, before: Option<&Summary>) -> bool {
        before.is_none_or(|before| *before != self.summary())
    }

    /// Looks at files, and at the names in folders, of which it is known that nothing else can have changed.
    pub fn look_at<'c>(
        &mut self,
        root: &Path,
        changed: impl Iterator<Item = (Option<&'c Option<TrackedPath>>, &'c [u8])>,
        horizon: Horizon,
    ) -> TreeLook {
        let Ok(below) = Below::open(root) else { return TreeLook::Walk };
        let mut places = Vec::new();
        let mut folders: BTreeSet<Option<&TrackedPath>> = BTreeSet::new();
        for (folder, name) in changed {
            let Some(folder) = folder else { return TreeLook::Walk };
            let path = TrackedPath::in_folder(folder.as_ref(), name);
            let known = path.as_ref().map(|path| self.files.binary_search_by(|file| file.path.cmp(path)));
            match (path, known) {
                (Some(path), Some(Ok(place))) if !decides_what_is_tracked(&path) => places.push(place),
                (Some(path), _) if decides_what_is_tracked(&path) => return TreeLook::Walk,
                // A file that is ignored, perhaps, and was written to.
                _ => drop(folders.insert(folder.as_ref())),
            }
        }
        let Some(structure) = &self.structure else { return TreeLook::Walk };
        for folder in folders {
            let place = structure.folders.binary_search_by(|known| known.path.as_ref().cmp(&folder));
            let known = place.ok().and_then(|place| structure.folders.get(place));
            let full = folder.map_or_else(|| Some(root.to_owned()), |path| Some(root.join(path.to_path()?)));
            let names = full.and_then(|full| hash_of_names(&full, |_| ()));
            if known.is_none_or(|known| names != Some(known.names)) {
                return TreeLook::Walk;
            }
        }
        // What the kernel tells of is read even where its stamp is the same: within a tick of the clock it can be.
        let is_there = |place: &usize| {
            let file = self.files.get(*place);
            file.is_some_and(|file| below.look(file.path.as_bytes(), horizon).is_some())
        };
        if places.iter().all(is_there) { TreeLook::Same(places) } else { TreeLook::Walk }
    }

    /// Whether what decides which files are tracked, outside of the folders, is as it was. More than so many conditions are
    /// not looked at.
    pub fn do_conditions_hold(&self, most: usize) -> bool {
        let conditions = self.structure.iter().flat_map(|structure| &structure.conditions);
        let is_many = self.structure.as_ref().is_some_and(|structure| structure.conditions.len() > most);
        is_many || conditions.into_iter().all(Condition::holds)
    }

    /// The files that have more names than one.
    pub fn linked_files(&self, root: &Path) -> Vec<TrackedPath> {
        let Ok(below) = Below::open(root) else { return Vec::new() };
        let horizon = Horizon::now(root);
        let is_linked = |path: &&TrackedPath| below.look(path.as_bytes(), horizon).is_some_and(|look| look.is_linked);
        self.files.iter().map(|file| &file.path).filter(is_linked).cloned().collect()
    }

    /// Encodes the trees of the folders that hold, or hold below them, one of `changed`, children first, and notes them. The
    /// last is the root's. With each comes the tree that stood in its place.
    pub fn renew_trees(&mut self, changed: &[usize]) -> Vec<(EncodedTree, Option<ObjectId>)> {
        let mut dirty: BTreeSet<Option<TrackedPath>> = BTreeSet::from([None]);
        for file in changed.iter().filter_map(|place| self.files.get(*place)) {
            let mut folder = parent(file.path.as_bytes());
            while let Some(path) = folder.and_then(TrackedPath::from_bytes) {
                folder = folder.and_then(parent);
                dirty.insert(Some(path));
            }
        }
        let mut dirty: Vec<Option<TrackedPath>> = dirty.into_iter().collect();
        dirty.sort_by_key(|folder| std::cmp::Reverse(folder.as_ref().map_or(0, |path| path.parts().count())));
        let mut encoded = Vec::new();
        for path in dirty {
            let folder = path.as_ref().map(|path| [path.as_bytes(), b"/"].concat()).unwrap_or_default();
            let mut nodes: BTreeMap<Vec<u8>, Node> = BTreeMap::new();
            for (name, file) in in_folder(&self.files, |file| file.path.as_bytes(), &folder) {
                if let Taken::Entry(entry) = &file.taken {
                    nodes.insert(name.to_vec(), Node::Entry(entry.clone()));
                }
            }
            for (name, (_, tree)) in in_folder(&self.trees, path_of_tree, &folder) {
                nodes.insert(name.to_vec(), Node::Folder(*tree));
            }
            let known = self.trees.binary_search_by(|(known, _)| known.cmp(&path));
            if path.is_some() && nodes.is_empty() {
                // Its only file has become a secret.
                if let Ok(place) = known {
                    self.kept = None;
                    self.trees.remove(place);
                }
                continue;
            }
            let bytes = encode_tree(&nodes);
            let id = ObjectId::of(&bytes);
            let older = match known {
                Ok(place) => {
                    if let Some(kept) = &mut self.kept {
                        kept.trees.insert(place);
                    }
                    self.trees.get_mut(place).map(|(_, tree)| std::mem::replace(tree, id))
                }
                Err(place) => {
                    self.kept = None;
                    self.trees.insert(place, (path.clone(), id));
                    None
                }
            };
            encoded.push((EncodedTree { path, id, bytes }, older));
        }
        encoded
    }
}

/// The path of a folder's tree, empty for the root's.
fn path_of_tree((path, _): &(Option<TrackedPath>, ObjectId)) -> &[u8] {
    path.as_ref().map_or(&[], TrackedPath::as_bytes)
}

/// Of what is sorted by paths, that which is in a folder itself, with its name there. `folder` ends with a slash, or is the
/// root's: empty.
fn in_folder<'a, T>(all: &'a [T], path: impl Fn(&T) -> &[u8], folder: &[u8]) -> Vec<(&'a [u8], &'a T)> {
    let first = all.partition_point(|item| path(item) < folder);
    let mut rest = all.get(first..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((item, after)) = rest.split_first() {
        let Some(name) = path(item).strip_prefix(folder) else { break };
        rest = match name.iter().position(|byte| *byte == b'/') {
            Some(slash) => {
                // All that is below this one comes together.
                let below = path(item).get(..=folder.len() + slash).unwrap_or_default();
                rest.get(rest.partition_point(|item| path(item).starts_with(below))..).unwrap_or_default()
            }
            None => {
                // The root itself is in no folder.
                if !name.is_empty() {
                    found.push((name, item));
                }
                after
            }
        };
    }
    found
}

/// The folder of a path, `None` for the root.
fn parent(path: &[u8]) -> Option<&[u8]> {
    let end = path.iter().rposition(|byte| *byte == b'/')?;
    path.get(..end)
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn what_is_in_a_folder_is_what_has_it_as_its_parent(
            mut paths in proptest::collection::vec("[a.]{1,2}(/[a.]{1,2}){0,3}", 0..20),
            folder in "([a.]{1,2}/){0,2}",
        ) {
            paths.push(String::new());
            paths.sort_unstable();
            paths.dedup();
            let found: Vec<&[u8]> = in_folder(&paths, |path| path.as_bytes(), folder.as_bytes())
                .into_iter()
                .map(|(name, path)| path.as_bytes().strip_suffix(name).map_or(&b"?"[..], |_| path.as_bytes()))
                .collect();
            let is_in = |path: &&[u8]| {
                !path.is_empty() && parent(path).map(|parent| [parent, b"/"].concat()).unwrap_or_default() == folder.as_bytes()
            };
            let expected: Vec<&[u8]> = paths.iter().map(|path| path.as_bytes()).filter(is_in).collect();
            proptest::prop_assert_eq!(found, expected);
        }
    }
}
