//! verify: looks at every file of a store, and with `read_data` at every byte, and tells what damage costs.

mod run_files;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;

use super::run_filter::{Filter, Key};
use super::{run_folder, select};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::index::Index;
use crate::pack::Pack;
use crate::pack::format::{ObjectKind, ObjectName};
use crate::progress::Progress;
use crate::snapshot::Entry;
use crate::storage::Without;
use crate::store::slot::TEMPORARY;
use crate::store::{CONDEMNED_PATH, INDEX_PATH, PACK_ENDING, PACKS, RowRef, Runs, Store, list_packs};
use crate::tracked_files::walk::MANIFEST_PATH;

/// What to do about a damaged index.
const INDEX_ADVICE: &str = "it is a cache: `runsnap reindex` makes it again";

/// Longer than most writers of the index take.
const INDEX_PATIENCE: Duration = Duration::from_secs(10);

/// Where more packs than this may be the one that is gone, their folder is named in their place.
const MAX_LOST_PACKS: usize = 8;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// The file that is damaged or missing; the store's folder where it cannot be told.
    pub file: String,
    /// What is wrong.
    pub what: String,
    /// The runs that it hits, by name or id.
    pub runs: BTreeSet<String>,
    /// The files of those runs that it hits.
    pub paths: BTreeSet<String>,
}

/// What verify found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    /// How many runs there are.
    pub runs: u64,
    /// How many different snapshots they have.
    pub snapshots: u64,
    /// How many packs there are.
    pub packs: u64,
    /// How many objects the packs hold.
    pub objects: u64,
    /// How many bytes of content were read and hashed.
    pub read_bytes: u64,
    /// What is wrong.
    pub problems: Vec<Problem>,
    /// What is odd but harmless.
    pub notes: Vec<String>,
}

type Object = (ObjectKind, ObjectName);

struct Verification<'s> {
    store: &'s Store,
    out: Verified,
    /// Objects of which no good copy is known, and the file to blame.
    lost: HashMap<Object, Blame>,
    /// The packs that are gone or cannot be opened: what is nowhere else was in one of them.
    lost_packs: Vec<String>,
    /// Whether the index was waited for in vain when it was to be asked for journals.
    is_index_busy: bool,
}

/// The file to blame, and what is wrong.
type Blame = (String, String);

/// Verifies a store. Damage is reported, not returned as an error.
pub fn verify(store: &Store, read_data: bool, progress: &dyn Progress) -> Result<Verified> {
    let half_deleted = store.half_deleted_packs()?;
    if half_deleted.is_empty() {
        return verify_those_that_stay(store, read_data, progress);
    }
    // What is whole in them is so for a little while only, and not all that they are differences to is there.
    let packs = half_deleted.iter().map(|name| format!("{PACKS}/{name}")).collect();
    let store = Store::open_in(Arc::new(Without::new(Arc::clone(store.storage()), packs)))?;
    let mut verified = verify_those_that_stay(&store, read_data, progress)?;
    verified.notes.push(format!(
        "{}: a gc was killed, or is at work, while it deletes packs that no run needs; the next one ends that",
        store.storage().full_path(CONDEMNED_PATH).display()
    ));
    Ok(verified)
}

fn verify_those_that_stay(store: &Store, read_data: bool, progress: &dyn Progress) -> Result<Verified> {
    let mut verification = Verification {
        store,
        out: Verified::default(),
        lost: HashMap::new(),
        lost_packs: Vec::new(),
        is_index_busy: false,
    };
    if let Some(problem) = store.config_problem() {
        verification.blame_error(problem);
    }
    let runs = verification.run_files()?;
    store.catalog().complete()?;
    let packs = store.catalog().packs();
    for error in store.catalog().take_damaged() {
        verification.blame_error(&error);
    }
    verification.lost_packs = verification.find_lost_packs(&runs, &packs)?;
    verification.out.runs = runs.len() as u64;
    verification.out.packs = packs.len() as u64;
    verification.out.objects = packs.iter().map(|pack| pack.objects.len() as u64).sum();
    if read_data {
        verification.read_packs(&packs, progress);
    }
    verification.index(&packs);
    verification.snapshots(&runs, read_data, progress);
    verification.run_folders(&runs);
    verification.leftovers()?;
    let Verified { mut problems, .. } = verification.out;
    problems.sort();
    problems.dedup();
    Ok(Verified { problems, ..verification.out })
}

impl Verification<'_> {
    fn shown(&self, path: &Path) -> String {
        path.display().to_string()
    }

    fn full(&self, path: &str) -> String {
        self.shown(&self.store.storage().full_path(path))
    }

    fn blame(&mut self, file: String, what: impl Into<String>) {
        self.blame_for(file, what, BTreeSet::new(), BTreeSet::new());
    }

    fn blame_for(&mut self, file: String, what: impl Into<String>, runs: BTreeSet<String>, paths: BTreeSet<String>) {
        self.out.problems.push(Problem { file, what: what.into(), runs, paths });
    }

    fn blame_error(&mut self, error: &Error) {
        let (file, what) = split(error, &self.shown(self.store.storage().root()));
        self.blame(file, what);
    }

    /// Decodes every frame and hashes every object.
    fn read_packs(&mut self, packs: &[Arc<Pack>], progress: &dyn Progress) {
        let frames: Vec<_> = packs.iter().flat_map(|pack| pack.frames.iter().map(move |frame| (pack, frame))).collect();
        progress.begin("Reading packs", frames.len() as u64);
        let read_bytes = AtomicU64::new(0);
        let bad: Vec<(Object, Blame)> = frames
            .par_iter()
            .flat_map_iter(|(pack, frame)| {
                let decoded = self.store.decode_frame(pack, frame);
                progress.advance(1);
                let objects = pack.objects.get(frame.objects.clone()).unwrap_or_default();
                let file = self.full(&pack.path);
                match decoded {
                    Ok(raw) => {
                        read_bytes.fetch_add(raw.len() as u64, Ordering::Relaxed);
                        let is_bad = |object: &&crate::pack::Object| !object.is_hash_of(object.bytes_in(&raw));
                        let blame = |object: &crate::pack::Object| {
                            let what = format!(
                                "frame at byte {}: {} {} does not have its hash",
                                frame.offset,
                                object.kind.word(),
                                object.name
                            );
                            ((object.kind, object.name), (file.clone(), what))
                        };
                        objects.iter().filter(is_bad).map(blame).collect::<Vec<_>>()
                    }
                    // It was merged or deleted meanwhile: what runs need of it is looked for in other packs.
                    Err(_) if self.is_gone(pack) => Vec::new(),
                    Err(error) => {
                        let blame = self.place(&error);
                        objects.iter().map(|object| ((object.kind, object.name), blame.clone())).collect()
                    }
                }
            })
            .collect();
        progress.end();
        self.out.read_bytes = read_bytes.into_inner();
        for ((kind, name), (file, what)) in bad {
            self.blame(file.clone(), what.clone());
            // Another copy may be whole; the damaged one is a problem all the same.
            let is_lost = match name {
                ObjectName::Id(id) => kind == ObjectKind::ChunkList || self.store.object(kind, id).is_err(),
                // Nothing asks for the content of a tree or snapshot but by reading it.
                ObjectName::Key(_) => false,
            };
            if is_lost {
                self.lost.insert((kind, name), (file, what));
            }
        }
    }

    /// Whether a pack that was there is gone, or about to go.
    fn is_gone(&self, pack: &Pack) -> bool {
        self.store.storage().length(&pack.path).is_err_and(|error| error.is_not_found())
            || self.store.half_deleted_packs().is_ok_and(|packs| packs.contains(pack.name()))
    }

    /// The index against the packs that it describes.
    fn index(&mut self, packs: &[Arc<Pack>]) {
        let storage = self.store.storage();
        if storage.length(INDEX_PATH).is_err() {
            return;
        }
        let file = self.full(INDEX_PATH);
        let catalog = self.store.catalog();
        let wait = || self.store.wait_for_index(Instant::now() + INDEX_PATIENCE).ok();
        let Some(opened) = (!self.is_index_busy).then(wait).flatten() else {
            let what =
                "in use by another process all the time: not checked, nor whether it knows of runs that are gone";
            self.out.notes.push(format!("{file}: {what}"));
            return;
        };
        let Some(index) = opened else {
            let config = self.store.config();
            // It was removed a moment ago, to be made anew.
            if storage.length(INDEX_PATH).is_err() {
                return;
            }
            if self.store.has_been_raised() {
                self.out.notes.push(format!("{file}: not looked at, for a gc has begun it anew meanwhile"));
                return;
            }
            if Index::is_of_earlier_generation(&catalog.index_path(), config.store, config.generation) {
                self.out
                    .notes
                    .push(format!("{file}: a gc was killed before it came to the index; the next capture does"));
                return;
            }
            if Index::is_empty(&catalog.index_path()) {
                self.out.notes.push(format!("{file}: empty: who began it was killed; the next to update it makes it"));
                return;
            }
            self.blame(file, format!("cannot be read or is of another state of the store; {INDEX_ADVICE}"));
            return;
        };
        let by_name: HashMap<&str, &Arc<Pack>> = packs.iter().map(|pack| (pack.name(), pack)).collect();
        let mut wrong = index.integrity_problems();
        let indexed = index.packs().map_err(|error| wrong.push(error.to_string()));
        for known in indexed.unwrap_or_default() {
            let Some(pack) = by_name.get(known.name.as_str()) else { continue };
            let expected = pack.objects.iter().enumerate().map(|(ordinal, object)| (ordinal as u64, object.name.key()));
            let rows = index.objects_of(known.number);
            if !rows.is_ok_and(|rows| expected.eq(rows)) {
                wrong.push(format!("its rows for the pack {} are not what the pack has", known.name));
            }
        }
        for what in wrong {
            self.blame(file.clone(), format!("{what}; {INDEX_ADVICE}"));
        }
    }

    /// Every snapshot down to its chunks.
    fn snapshots(&mut self, runs: &Runs, read_data: bool, progress: &dyn Progress) {
        let mut runs_of: BTreeMap<ObjectId, Vec<RowRef>> = BTreeMap::new();
        for (row, snapshot) in having(runs, Key::field("snapshot")) {
            if let Some(snapshot) = snapshot.as_str().and_then(|text| text.parse().ok()) {
                runs_of.entry(snapshot).or_default().push(row);
            }
        }
        self.out.snapshots = runs_of.len() as u64;
        progress.begin("Checking snapshots", runs_of.len() as u64);
        let mut large: HashMap<ObjectId, bool> = HashMap::new();
        for (snapshot, rows) in runs_of {
            let blamed = self.check_snapshot(snapshot, read_data, &mut large);
            // Names are needed where something is wrong alone.
            let labels: BTreeSet<String> = match blamed.is_empty() {
                true => BTreeSet::new(),
                false => rows.iter().filter_map(|row| runs.run(*row)).map(|run| run.label()).collect(),
            };
            for ((file, what), paths) in blamed {
                match self.out.problems.iter_mut().find(|p| p.file == file && p.what == what) {
                    Some(problem) => {
                        problem.runs.extend(labels.iter().cloned());
                        problem.paths.extend(paths);
                    }
                    None => self.blame_for(file, what, labels.clone(), paths),
                }
            }
            progress.advance(1);
        }
        progress.end();
    }

    /// Packs that are there and cannot be opened; where there are none, those that the index names and that are gone; else
    /// those that run records name. Merges have replaced most of these, so many of them say no more than that some pack
    /// is gone.
    fn find_lost_packs(&self, runs: &Runs, packs: &[Arc<Pack>]) -> Result<Vec<String>> {
        let present: HashSet<&str> = packs.iter().map(|pack| pack.name()).collect();
        let listed = list_packs(&**self.store.storage())?.into_iter().map(|file| file.name).collect();
        let indexed = self.store.catalog().ask_index(|index| index.packs()).unwrap_or_default();
        let indexed = indexed.into_iter().map(|pack| pack.name).collect();
        let recorded = packs_of(runs).into_iter().map(|name| format!("{name}{PACK_ENDING}")).collect();
        for names in [listed, indexed, recorded] {
            let names: BTreeSet<String> = names;
            let lost: Vec<String> = names.into_iter().filter(|name| !present.contains(name.as_str())).collect();
            if lost.len() > MAX_LOST_PACKS {
                return Ok(vec![self.full(PACKS)]);
            }
            if !lost.is_empty() {
                return Ok(lost.into_iter().map(|name| self.full(&format!("{PACKS}/{name}"))).collect());
            }
        }
        Ok(Vec::new())
    }

    /// The file that an error is to be blamed on, and what is wrong with it.
    fn place(&self, error: &Error) -> Blame {
        let (file, what) = split(error, &self.shown(self.store.storage().root()));
        match (error, self.lost_packs.as_slice()) {
            (_, []) => (file, what),
            (Error::Missing { .. }, lost) => (lost.join(", "), format!("missing or unreadable, and so: {what}")),
            (Error::MissingBase { .. }, lost) => (lost.join(", "), format!("missing or unreadable, and so: {error}")),
            _ => (file, what),
        }
    }

    /// What is wrong with one snapshot, and the paths hit.
    fn check_snapshot(
        &self,
        snapshot: ObjectId,
        read_data: bool,
        large: &mut HashMap<ObjectId, bool>,
    ) -> BTreeMap<Blame, BTreeSet<String>> {
        let mut blamed: BTreeMap<Blame, BTreeSet<String>> = BTreeMap::new();
        let mut errors = Vec::new();
        let files = match self.store.readable_files_of(snapshot, |error| errors.push(self.place(&error))) {
            Ok(files) => files,
            Err(error) => {
                blamed.entry(self.place(&error)).or_default().insert("(all)".to_owned());
                return blamed;
            }
        };
        for ((folder, _), error) in files.problems.iter().zip(errors) {
            let folder = folder.as_ref().map_or_else(|| "(all)".to_owned(), |folder| format!("{folder}/"));
            blamed.entry(error).or_default().insert(folder);
        }
        for (path, entry) in &files.entries {
            let Entry::File { id, bytes, .. } = entry else { continue };
            if let Some(problem) = self.file_problem(*id, *bytes, read_data, large) {
                blamed.entry(problem).or_default().insert(path.to_string());
            }
        }
        blamed
    }

    /// What is wrong with a file's content; `large` keeps what reading a file of several chunks has shown.
    fn file_problem(
        &self,
        id: ObjectId,
        bytes: u64,
        read_data: bool,
        large: &mut HashMap<ObjectId, bool>,
    ) -> Option<Blame> {
        let chunks = match self.store.chunks_of(id, bytes) {
            Ok(chunks) => chunks,
            Err(error @ (Error::Missing { .. } | Error::MissingBase { .. })) => return Some(self.place(&error)),
            Err(error) => {
                let (file, what) = self.place(&error);
                let is_placed = file != self.shown(self.store.storage().root());
                return Some(if is_placed { (file, what) } else { self.blame_chunk_list(id, what) });
            }
        };
        if let Some(problem) = chunks.iter().find_map(|chunk| self.chunk_problem(id, chunk.id)) {
            return Some(problem);
        }
        // A chunk of the file's id has been checked as a chunk; an empty file has nothing to check.
        if !read_data || bytes == 0 || chunks.iter().any(|chunk| chunk.id == id) {
            return None;
        }
        let is_wrong = *large.entry(id).or_insert_with(|| self.store.read_file(id, bytes, |_| Ok(())).is_err());
        is_wrong.then(|| self.blame_chunk_list(id, format!("file {id} does not have its hash")))
    }

    /// A chunk list has no hash of its own: when its file turns out wrong, the pack that it is in is to blame.
    fn blame_chunk_list(&self, file: ObjectId, what: String) -> Blame {
        let places = self.store.catalog().places(ObjectKind::ChunkList, file);
        let pack = places.first().map(|place| self.full(&place.pack.path));
        (pack.unwrap_or_else(|| self.shown(self.store.storage().root())), what)
    }

    fn chunk_problem(&self, file: ObjectId, id: ObjectId) -> Option<Blame> {
        if let Some(blame) = self.lost.get(&(ObjectKind::Chunk, ObjectName::Id(id))) {
            return Some(blame.clone());
        }
        if self.store.contains_whole(ObjectKind::Chunk, id) {
            return None;
        }
        let error = Error::Missing { kind: "chunk", id };
        // Where no pack is lost, it is the list that asks for the wrong chunk.
        let is_list_wrong = self.lost_packs.is_empty() && file != id;
        Some(if is_list_wrong { self.blame_chunk_list(file, error.to_string()) } else { self.place(&error) })
    }

    /// The two files in the folders of runs, where the folder is still there.
    fn run_folders(&mut self, runs: &Runs) {
        for run in having(runs, Key::run_folder()).into_iter().filter_map(|(row, _)| runs.run(row)) {
            let Some(folder) = &run.start.run_folder else { continue };
            if !Path::new(&folder.path).is_dir() {
                continue;
            }
            let storage = self.store.storage().at(Path::new(&folder.path));
            let manifest = run_folder::Manifest::of(&run.start, self.store.config().store).encode();
            let expected = [
                (MANIFEST_PATH, Some(run_folder::metadata_hash(&manifest))),
                (run_folder::METADATA_PATH, folder.metadata_hash.clone()),
            ];
            for (path, hash) in expected {
                // An import found no such file: what stands there now is somebody else's.
                let Some(hash) = hash else { continue };
                let what = match storage.read(path, 1 << 30) {
                    Ok(bytes) if run_folder::metadata_hash(&bytes) == hash => continue,
                    Ok(_) => "edited or damaged: not what the capture wrote".to_owned(),
                    Err(error) if error.is_not_found() => "missing from the run's folder".to_owned(),
                    Err(error) => error.to_string(),
                };
                let file = self.shown(&storage.full_path(path));
                self.blame_for(file, what, BTreeSet::from([run.label()]), BTreeSet::new());
            }
        }
    }

    fn leftovers(&mut self) -> Result<()> {
        let files = self.store.storage().list(TEMPORARY)?;
        if !files.is_empty() {
            self.out.notes.push(format!(
                "{} leftovers of captures under way or killed in {}",
                files.len(),
                self.full(TEMPORARY)
            ));
        }
        Ok(())
    }
}

/// The runs that have something under a key, and what.
fn having(runs: &Runs, key: Key) -> Vec<(RowRef, Value)> {
    let (all, keys) = (Filter::of(None, None), [key]);
    let of_span = |span: usize| {
        let mut found = Vec::new();
        select::each(runs, span, &all, &keys, |row, values| {
            found.extend(values.iter().flatten().map(|value| (row, value.clone().into_owned())));
        });
        found
    };
    (0..runs.spans()).into_par_iter().flat_map_iter(of_span).collect()
}

/// The names of the packs that run records name.
fn packs_of(runs: &Runs) -> BTreeSet<String> {
    let all = having(runs, Key::packs()).into_iter().filter_map(|(_, packs)| serde_json::from_value(packs).ok());
    all.flat_map(|packs: Vec<String>| packs).collect()
}

/// The file that an error is about, and the rest of it.
fn split(error: &Error, otherwise: &str) -> (String, String) {
    match error {
        Error::Damaged { path, reason } => (path.display().to_string(), reason.clone()),
        Error::MissingBase { path, offset } => {
            let what = format!("frame at byte {offset}: the content it is a difference to is missing");
            (path.display().to_string(), what)
        }
        Error::Io { path, .. } | Error::NewerFormat { path, .. } => (path.display().to_string(), error.to_string()),
        _ => (otherwise.to_owned(), error.to_string()),
    }
}
