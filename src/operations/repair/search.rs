//! Looks for lost content where it may still be: in working trees, run folders and the folders that the user names.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use walkdir::WalkDir;

use super::super::read_stable::open;
use super::super::run_folder::{self, METADATA_PATH};
use super::super::take_files::entry_of;
use super::lost::Lost;
use super::packs::Examined;
use crate::error::Result;
use crate::id::ObjectId;
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::run_record::RunStart;
use crate::snapshot::{ChunkRef, Entry, Snapshot, build_trees, encode_chunks};
use crate::store::{Runs, Store};
use crate::tracked_files::secrets::{HEAD_BYTES, is_whole_file_secret};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_path::TrackedPath;

/// Folders that are never looked into: what is in them is not a user's file.
const SKIPPED: [&str; 2] = [".git", ".runsnap"];
/// A longer metadata file is not read.
const MAX_METADATA_BYTES: u64 = 256 << 20;

/// Takes what was found: kind, id and bytes, which have that hash.
pub type Put<'p> = dyn FnMut(ObjectKind, ObjectId, Vec<u8>) -> Result<()> + 'p;

/// The folders in which lost content may be: the user's, the projects of the runs, their folders, and where imported ones
/// came from.
pub fn places(store: &Store, runs: &Runs, named: &[PathBuf]) -> Vec<PathBuf> {
    // A project that was moved together with its store is found from there.
    let beside = store.storage().root().canonicalize().ok().and_then(|root| root.parent().map(Path::to_owned));
    let mut places = BTreeSet::new();
    let mut add = |path: &Path| {
        if let Ok(path) = path.canonicalize()
            && path.is_dir()
        {
            places.insert(path);
        }
    };
    named.iter().for_each(|path| add(path));
    for run in runs.iter() {
        add(Path::new(&run.start.project.root));
        if let Some(beside) = &beside {
            add(&beside.join(&run.start.project.path));
        }
        if let Some(folder) = &run.start.run_folder {
            add(Path::new(&folder.path));
        }
        if let Some(imported) = &run.start.imported
            && let Some(name) = imported.folder.to_path()
        {
            add(&Path::new(&imported.from).join(name));
        }
    }
    places.into_iter().collect()
}

/// Searches all places for what is lost, and hands over what is found. How many objects were found.
pub fn search(
    store: &Store,
    runs: &Runs,
    examined: &Examined,
    mut lost: Lost,
    places: &[PathBuf],
    put: &mut Put<'_>,
    progress: &dyn Progress,
) -> Result<u64> {
    let mut found = 0;
    let mut put = |kind, id, bytes: Vec<u8>| {
        found += 1;
        put(kind, id, bytes)
    };
    snapshots_of_known_trees(&mut lost, examined, &mut put)?;
    for run in runs.iter() {
        if lost.has_structure() {
            for entries in listed_files(store, &run.start) {
                take_structure(&mut lost, examined, &entries, &mut put)?;
            }
        }
    }
    progress.begin("Searching", places.len() as u64);
    for place in places {
        // A place within another is looked at with that one, as far as files go.
        let is_inside = places.iter().any(|other| other != place && place.starts_with(other));
        if !is_inside && lost.has_content() {
            search_files(store, examined, &mut lost, place, &mut put)?;
        }
        if lost.has_structure() {
            for entries in full_copies(store, place) {
                take_structure(&mut lost, examined, &entries, &mut put)?;
            }
        }
        progress.advance(1);
    }
    progress.end();
    Ok(found)
}

impl Lost {
    fn has_structure(&self) -> bool {
        !self.trees.is_empty() || !self.snapshots.is_empty()
    }

    fn has_content(&self) -> bool {
        !self.files.is_empty() || !self.chunks.is_empty()
    }
}

fn snapshot_of(root: ObjectId) -> (ObjectId, Vec<u8>) {
    let encoded = Snapshot { root, outside: BTreeMap::new() }.encode();
    (ObjectId::of(&encoded), encoded)
}

/// A snapshot is little more than the id of a tree, and the tree may be whole.
fn snapshots_of_known_trees(lost: &mut Lost, examined: &Examined, put: &mut Put<'_>) -> Result<()> {
    let roots: Vec<ObjectId> = if lost.snapshots.is_empty() { Vec::new() } else { examined.trees().collect() };
    for root in roots {
        let (id, encoded) = snapshot_of(root);
        if lost.snapshots.remove(&id) {
            put(ObjectKind::Snapshot, id, encoded)?;
        }
    }
    Ok(())
}

/// Takes the trees of a set of files, and the snapshots that they are the roots of, where these are lost.
fn take_structure(
    lost: &mut Lost,
    examined: &Examined,
    entries: &BTreeMap<TrackedPath, Entry>,
    put: &mut Put<'_>,
) -> Result<()> {
    let trees = build_trees(entries).unwrap_or_default();
    let mut is_found = false;
    for tree in &trees {
        let (id, encoded) = snapshot_of(tree.id);
        if lost.snapshots.remove(&id) {
            put(ObjectKind::Snapshot, id, encoded)?;
            is_found = true;
        }
    }
    let mut taken = HashSet::new();
    for tree in trees {
        // Below a snapshot that was lost as a whole, nobody could tell which trees are lost.
        let is_lost = lost.trees.remove(&tree.id) || is_found && !examined.has(ObjectKind::Tree, tree.id);
        if is_lost && taken.insert(tree.id) {
            put(ObjectKind::Tree, tree.id, tree.bytes)?;
        }
    }
    Ok(())
}

/// The files that a run's metadata file lists, with their ids: enough to make its trees again.
fn listed_files(store: &Store, start: &RunStart) -> Vec<BTreeMap<TrackedPath, Entry>> {
    let Some(folder) = &start.run_folder else { return Vec::new() };
    let metadata = store.storage().at(Path::new(&folder.path)).read(METADATA_PATH, MAX_METADATA_BYTES);
    metadata.map_or_else(|_| Vec::new(), |metadata| run_folder::listed_files(&metadata))
}

/// What a folder would be as a snapshot: with everything in it, and as a capture would choose.
fn full_copies(store: &Store, folder: &Path) -> Vec<BTreeMap<TrackedPath, Entry>> {
    let files = |path: &Path| {
        let wanted = |entry: &walkdir::DirEntry| !SKIPPED.iter().any(|name| entry.file_name() == *name);
        WalkDir::new(path).min_depth(1).into_iter().filter_entry(wanted).filter_map(Result::ok)
    };
    let mut all = BTreeMap::new();
    for file in files(folder).filter(|file| !file.file_type().is_dir()) {
        let tracked = file.path().strip_prefix(folder).ok().and_then(TrackedPath::from_path);
        if let (Some(tracked), Ok(Some(entry))) = (tracked, entry_of(file.path())) {
            all.insert(tracked, entry);
        }
    }
    let chosen = walk(folder, folder, Some(store.storage().root()), IgnoreRules::Honoured).files;
    let is_secret = |tracked: &TrackedPath, path: &Path| {
        let mut head = Vec::new();
        let read = open(path).and_then(|(file, _)| file.take(HEAD_BYTES as u64).read_to_end(&mut head));
        read.is_ok() && is_whole_file_secret(tracked, &head)
    };
    let captured: BTreeMap<TrackedPath, Entry> = chosen
        .into_iter()
        .filter(|(tracked, path)| !is_secret(tracked, path))
        .filter_map(|(tracked, _)| all.get(&tracked).cloned().map(|entry| (tracked, entry)))
        .collect();
    vec![all, captured]
}

/// Looks at every file of the right length, and into large ones for single chunks.
fn search_files(store: &Store, examined: &Examined, lost: &mut Lost, place: &Path, put: &mut Put<'_>) -> Result<()> {
    let max = u64::from(store.config().chunker.max_bytes);
    let wanted = |entry: &walkdir::DirEntry| !SKIPPED.iter().any(|name| entry.file_name() == *name);
    for file in WalkDir::new(place).into_iter().filter_entry(wanted).filter_map(Result::ok) {
        if !lost.has_content() {
            return Ok(());
        }
        let Some(bytes) = file.metadata().ok().filter(|metadata| metadata.is_file()).map(|metadata| metadata.len())
        else {
            continue;
        };
        let is_candidate = lost.files.values().any(|length| *length == bytes);
        if bytes > max && (is_candidate || !lost.chunks.is_empty()) {
            take_chunks(store, examined, lost, file.path(), put)?;
        } else if is_candidate && let Ok(content) = read_all(file.path(), max) {
            let id = ObjectId::of(&content);
            if lost.files.remove(&id).is_some() {
                lost.chunks.remove(&id);
                put(ObjectKind::Chunk, id, content)?;
            }
        }
    }
    Ok(())
}

fn read_all(path: &Path, limit: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    open(path)?.0.take(limit + 1).read_to_end(&mut content)?;
    Ok(content)
}

/// Cuts a large file as the store does, and takes those of its chunks that are lost; all that are not whole in the store
/// if the file itself is.
fn take_chunks(store: &Store, examined: &Examined, lost: &mut Lost, path: &Path, put: &mut Put<'_>) -> Result<()> {
    let is_lost = match entry_of(path) {
        Ok(Some(Entry::File { id, .. })) if lost.files.contains_key(&id) => Some(id),
        _ => None,
    };
    let Ok((file, _)) = open(path) else { return Ok(()) };
    let (mut chunks, mut hasher) = (Vec::new(), blake3::Hasher::new());
    for chunk in store.config().chunker.cut_stream(BufReader::new(file)) {
        let Ok(chunk) = chunk else { return Ok(()) };
        let id = ObjectId::of(&chunk);
        hasher.update(&chunk);
        chunks.push(ChunkRef { id, bytes: chunk.len() as u32 });
        let is_wanted = is_lost.is_some() && !examined.has(ObjectKind::Chunk, id);
        if lost.chunks.remove(&id).is_some() || is_wanted {
            put(ObjectKind::Chunk, id, chunk)?;
        }
    }
    // It may have changed between its two reads.
    if let Some(id) = is_lost.filter(|id| ObjectId(*hasher.finalize().as_bytes()) == *id) {
        lost.files.remove(&id);
        if !examined.has(ObjectKind::ChunkList, id) {
            put(ObjectKind::ChunkList, id, encode_chunks(&chunks))?;
        }
    }
    Ok(())
}
