//! Power is cut between any two operations of a capture, and what was not flushed is dropped, cut, zeroed or reordered:
//! every run whose capture had returned is there, and the store goes on.
//!
//! A storage that records stands between the store and its files. From the record, every state that a disk may be in
//! after a cut is made: a name (new, renamed, removed) is sure once its folder has been flushed, a file's bytes once the
//! file has. Of everything else each part may or may not be there, in any combination.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rayon::prelude::*;
use runsnap::Result;
use runsnap::chunker::Chunker;
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::forget::forget;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::verify::verify;
use runsnap::snapshot::Entry;
use runsnap::storage::{LocalStorage, Lock, ReadFile, Storage, StoredFile, WriteFile};
use runsnap::store::{MergeExtent, Store};

use crate::support::{Project, Tree, tree};

type Inode = usize;

#[derive(Debug, Clone)]
enum Operation {
    MakeFolder(PathBuf),
    /// A name comes to mean a file.
    Name(PathBuf, Inode),
    /// A name goes away.
    Unname(PathBuf),
    Append(Inode, Vec<u8>),
    Overwrite(Inode, usize, Vec<u8>),
    Sync(Inode),
    SyncFolder(PathBuf),
    /// A capture has returned: from here on this run must be there.
    Returned(String, Tree),
    /// A run is being forgotten: from here on it may be there or not.
    Forgotten(String),
    /// The index has been written; SQLite does not go through the storage.
    Index(Vec<u8>),
}

#[derive(Default)]
struct Record {
    operations: Vec<Operation>,
    names: HashMap<PathBuf, Inode>,
    inodes: usize,
}

impl Record {
    fn new_file(&mut self, path: PathBuf) -> Inode {
        self.inodes += 1;
        self.names.insert(path.clone(), self.inodes);
        self.operations.push(Operation::Name(path, self.inodes));
        self.inodes
    }
}

type Shared = Arc<Mutex<Record>>;

struct RecordingStorage {
    inner: LocalStorage,
    record: Shared,
}

struct RecordingFile {
    inner: Box<dyn WriteFile>,
    inode: Inode,
    record: Shared,
}

impl ReadFile for RecordingFile {
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.inner.read_range(offset, bytes)
    }

    fn length(&self) -> Result<u64> {
        self.inner.length()
    }
}

impl WriteFile for RecordingFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.record.lock().expect("unharmed").operations.push(Operation::Append(self.inode, bytes.to_vec()));
        self.inner.write(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        self.inner.sync()?;
        self.record.lock().expect("unharmed").operations.push(Operation::Sync(self.inode));
        Ok(())
    }
}

struct RecordingLock {
    inner: Box<dyn Lock>,
    inode: Inode,
    record: Shared,
}

impl Lock for RecordingLock {
    fn read_note(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.inner.read_note(offset, bytes)
    }

    fn write_note(&mut self, offset: u64, note: &[u8]) -> Result<()> {
        let operation = Operation::Overwrite(self.inode, offset as usize, note.to_vec());
        self.record.lock().expect("unharmed").operations.push(operation);
        self.inner.write_note(offset, note)
    }
}

impl RecordingStorage {
    fn record(&self) -> std::sync::MutexGuard<'_, Record> {
        self.record.lock().expect("unharmed")
    }
}

impl Storage for RecordingStorage {
    fn root(&self) -> &Path {
        self.inner.root()
    }

    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        Arc::new(Self { inner: LocalStorage::new(root), record: Arc::clone(&self.record) })
    }

    fn create_folder(&self, path: &str) -> Result<bool> {
        let full = self.inner.full_path(path);
        let mut missing: Vec<PathBuf> = full.ancestors().take_while(|f| !f.exists()).map(Path::to_owned).collect();
        let is_new = self.inner.create_folder(path)?;
        while let Some(folder) = missing.pop() {
            self.record().operations.push(Operation::MakeFolder(folder));
        }
        Ok(is_new)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        let inner = self.inner.create(path)?;
        let inode = self.record().new_file(self.inner.full_path(path));
        Ok(Box::new(RecordingFile { inner, inode, record: Arc::clone(&self.record) }))
    }

    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        let inner = self.inner.append(path)?;
        let inode = self.record().names[&self.inner.full_path(path)];
        Ok(Box::new(RecordingFile { inner, inode, record: Arc::clone(&self.record) }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.inner.rename(from, to)?;
        let (from, to) = (self.inner.full_path(from), self.inner.full_path(to));
        let mut record = self.record();
        let inode = record.names.remove(&from).expect("known");
        record.names.insert(to.clone(), inode);
        // The two folders are flushed one by one, so the two halves may part.
        record.operations.push(Operation::Name(to, inode));
        record.operations.push(Operation::Unname(from));
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.inner.remove(path)?;
        let path = self.inner.full_path(path);
        let mut record = self.record();
        record.names.remove(&path);
        record.operations.push(Operation::Unname(path));
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.inner.sync_folder(path)?;
        // `root/` and `root` are one.
        let folder: PathBuf = self.inner.full_path(path).components().collect();
        self.record().operations.push(Operation::SyncFolder(folder));
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.inner.read(path, limit)
    }

    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.inner.read_range(path, offset, bytes)
    }

    fn look(&self, path: &str) -> Result<StoredFile> {
        self.inner.look(path)
    }

    fn list(&self, path: &str) -> Result<Vec<StoredFile>> {
        self.inner.list(path)
    }

    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>> {
        let full = self.inner.full_path(path);
        let is_new = !full.exists();
        let Some(inner) = self.inner.try_lock(path)? else { return Ok(None) };
        let mut record = self.record();
        let inode = if is_new { record.new_file(full) } else { record.names[&full] };
        drop(record);
        Ok(Some(Box::new(RecordingLock { inner, inode, record: Arc::clone(&self.record) })))
    }
}

/// A storage that flushes nothing: for the look at a state after a cut, which no second cut follows.
struct Unflushed(LocalStorage);

struct UnflushedFile(Box<dyn WriteFile>);

impl ReadFile for UnflushedFile {
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.0.read_range(offset, bytes)
    }

    fn length(&self) -> Result<u64> {
        self.0.length()
    }
}

impl WriteFile for UnflushedFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write(bytes)
    }

    fn sync(&mut self) -> Result<()> {
        Ok(())
    }
}

impl Storage for Unflushed {
    fn root(&self) -> &Path {
        self.0.root()
    }

    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        Arc::new(Self(LocalStorage::new(root)))
    }

    fn create_folder(&self, path: &str) -> Result<bool> {
        self.0.create_folder(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        Ok(Box::new(UnflushedFile(self.0.create(path)?)))
    }

    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        Ok(Box::new(UnflushedFile(self.0.append(path)?)))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.0.remove(path)
    }

    fn sync_folder(&self, _path: &str) -> Result<()> {
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.0.read(path, limit)
    }

    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.0.read_range(path, offset, bytes)
    }

    fn look(&self, path: &str) -> Result<StoredFile> {
        self.0.look(path)
    }

    fn list(&self, path: &str) -> Result<Vec<StoredFile>> {
        self.0.list(path)
    }

    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>> {
        self.0.try_lock(path)
    }
}

/// A part of the state that a cut leaves open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Open {
    /// The operation on a name with this place in the record: there or not.
    Name(usize),
    /// The bytes of this file that were not flushed: all, none, half of them, or zeros in their place.
    Bytes(Inode),
    /// The index: as last written, missing, or cut.
    Index,
}

impl Open {
    fn choices(self) -> usize {
        match self {
            Self::Name(_) => 2,
            Self::Bytes(_) => 4,
            Self::Index => 3,
        }
    }
}

/// Whether the folder that `path` is in is flushed between the operations `from` and `to`.
fn is_flushed(operations: &[Operation], path: &Path, from: usize, to: usize) -> bool {
    let parent = path.parent().expect("below the root");
    operations[from..to].iter().any(|o| matches!(o, Operation::SyncFolder(folder) if folder == parent))
}

/// What is not sure after the first `end` operations.
fn open_parts(operations: &[Operation], end: usize) -> Vec<Open> {
    // By the place of the operation that opened it, so that the most recent comes last.
    let mut open: BTreeMap<Open, usize> = BTreeMap::new();
    for (at, operation) in operations[..end].iter().enumerate() {
        match operation {
            Operation::MakeFolder(path) | Operation::Name(path, _) | Operation::Unname(path) => {
                if !is_flushed(operations, path, at, end) {
                    open.insert(Open::Name(at), at);
                }
            }
            Operation::Append(inode, _) | Operation::Overwrite(inode, ..) => {
                if !operations[at..end].iter().any(|o| matches!(o, Operation::Sync(synced) if synced == inode)) {
                    open.insert(Open::Bytes(*inode), at);
                }
            }
            Operation::Index(_) => drop(open.insert(Open::Index, at)),
            Operation::Sync(_) | Operation::SyncFolder(_) | Operation::Returned(..) | Operation::Forgotten(_) => {}
        }
    }
    let mut parts: Vec<(Open, usize)> = open.into_iter().collect();
    parts.sort_by_key(|(_, at)| *at);
    parts.into_iter().map(|(part, _)| part).collect()
}

/// Makes the state after the first `end` operations with the given choices, `world` in place of `origin`.
fn make_state(
    operations: &[Operation],
    end: usize,
    choice: &BTreeMap<Open, usize>,
    origin: &Path,
    world: &Path,
    index: &Path,
) {
    let chosen = |open: Open| choice.get(&open).copied().unwrap_or(0);
    let mut contents: HashMap<Inode, Vec<u8>> = HashMap::new();
    let mut folders = BTreeSet::from([origin.to_owned()]);
    let mut names: BTreeMap<PathBuf, Inode> = BTreeMap::new();
    let mut index_bytes = None;
    for (at, operation) in operations[..end].iter().enumerate() {
        let is_kept = choice.get(&Open::Name(at)).is_none_or(|choice| *choice == 0);
        let is_sure = |inode: &Inode| operations[at..end].iter().any(|o| matches!(o, Operation::Sync(i) if i == inode));
        match operation {
            Operation::MakeFolder(path) if is_kept => drop(folders.insert(path.clone())),
            Operation::Name(path, inode) if is_kept => drop(names.insert(path.clone(), *inode)),
            Operation::Unname(path) if is_kept => drop(names.remove(path)),
            Operation::Append(inode, bytes) => {
                let content = contents.entry(*inode).or_default();
                match if is_sure(inode) { 0 } else { chosen(Open::Bytes(*inode)) } {
                    0 => content.extend(bytes),
                    1 => {}
                    2 => content.extend(&bytes[..bytes.len() / 2]),
                    _ => content.extend(vec![0; bytes.len()]),
                }
            }
            Operation::Overwrite(inode, offset, bytes) => {
                let arrived = match if is_sure(inode) { 0 } else { chosen(Open::Bytes(*inode)) } {
                    0 => bytes.clone(),
                    1 => continue,
                    2 => bytes[..bytes.len() / 2].to_vec(),
                    _ => vec![0; bytes.len()],
                };
                let content = contents.entry(*inode).or_default();
                content.resize(content.len().max(offset + arrived.len()), 0);
                content[*offset..offset + arrived.len()].copy_from_slice(&arrived);
            }
            Operation::Index(bytes) => {
                index_bytes = match chosen(Open::Index) {
                    0 => Some(bytes.clone()),
                    1 => None,
                    _ => Some(bytes[..bytes.len() / 2].to_vec()),
                }
            }
            _ => {}
        }
    }
    let moved = |path: &Path| world.join(path.strip_prefix(origin).expect("below the origin"));
    for folder in &folders {
        if folder.ancestors().take_while(|f| *f != origin).all(|f| folders.contains(f)) {
            fs::create_dir_all(moved(folder)).expect("made");
        }
    }
    for (path, inode) in &names {
        if moved(path).parent().is_some_and(Path::is_dir) {
            fs::write(moved(path), contents.get(inode).map_or(&[][..], Vec::as_slice)).expect("written");
        }
    }
    if let (Some(bytes), true) = (index_bytes, moved(index).parent().is_some_and(Path::is_dir)) {
        fs::write(moved(index), bytes).expect("written");
    }
}

/// The choices to try: every combination where they are few, else the extremes, each part alone, and a fixed sample.
fn combinations(open: &[Open], most: usize) -> Vec<BTreeMap<Open, usize>> {
    let total = open.iter().try_fold(1usize, |n, part| n.checked_mul(part.choices())).filter(|n| *n <= most);
    let of_number = |mut number: usize| -> BTreeMap<Open, usize> {
        let digit = |part: &Open| {
            let digit = number % part.choices();
            number /= part.choices();
            (*part, digit)
        };
        open.iter().map(digit).collect()
    };
    if let Some(total) = total {
        return (0..total).map(of_number).collect();
    }
    let all = |digit: fn(Open) -> usize| open.iter().map(|part| (*part, digit(*part))).collect::<BTreeMap<_, _>>();
    let mut out = BTreeSet::from([all(|_| 0), all(|_| 1)]);
    // What happened last is what a cut is about; older parts were open at every cut before as well.
    for part in open.iter().rev().take(most / 4) {
        for choice in 1..part.choices() {
            let mut others = all(|_| 0);
            others.insert(*part, choice);
            out.insert(others);
        }
    }
    let mut noise = blake3::Hasher::new().update(b"power cut").finalize_xof();
    for _ in 0..most {
        let mut digits = vec![0; open.len()];
        noise.fill(&mut digits);
        out.insert(open.iter().zip(digits).map(|(part, digit)| (*part, usize::from(digit) % part.choices())).collect());
    }
    out.into_iter().collect()
}

/// Whether a run can be read back exactly.
fn assert_restorable(store: &Store, name: &str, expected: &Tree) {
    let runs = store.runs().expect("readable");
    let run =
        runs.iter().find(|run| run.start.name.as_deref() == Some(name)).unwrap_or_else(|| panic!("{name} is lost"));
    let files = store.files_of(run.start.snapshot).unwrap_or_else(|e| panic!("{name}: {e}"));
    let found: Tree = files
        .entries
        .iter()
        .map(|(path, entry)| {
            let value = match entry {
                Entry::Symlink { target } => ("link", target.clone()),
                Entry::File { id, bytes, executable } => {
                    let content = store.file(*id, *bytes).unwrap_or_else(|e| panic!("{name}: {path}: {e}"));
                    (if *executable { "executable" } else { "file" }, content)
                }
            };
            (path.to_path().expect("a path"), value)
        })
        .collect();
    assert_eq!(&found, expected, "{name}");
}

fn options(project: &Project, name: &str, run_folder: Option<PathBuf>) -> CaptureOptions {
    CaptureOptions { name: Some(name.to_owned()), run_folder, ..CaptureOptions::new(Target::Tree(project.root())) }
}

/// Captures through the recording storage; the record ends with the return.
fn recorded(project: &Project, storage: &Arc<dyn Storage>, record: &Shared, name: &str, run_folder: Option<PathBuf>) {
    let (store, _) = Store::init_in(Arc::clone(storage), Chunker::default()).expect("opens");
    capture(&store, &options(project, name, run_folder), &()).expect("captures");
    record.lock().expect("unharmed").operations.push(Operation::Returned(name.to_owned(), tree(&project.root())));
}

/// Enough states at each cut for every run of the tests.
#[test]
fn what_had_returned_survives_every_cut() {
    cut_everywhere(6);
}

/// The same with many states at each: `cargo test --release --test all -- --ignored --nocapture many_ways`.
#[test]
#[ignore = "takes minutes"]
fn what_had_returned_survives_every_cut_in_many_ways() {
    cut_everywhere(64);
}

/// A project, and a folder for a store whose every operation is recorded.
fn recorded_world() -> (Project, PathBuf, Shared, Arc<dyn Storage>) {
    let project = Project::with_code();
    let world = project.beside("world");
    fs::create_dir(&world).expect("made");
    let record = Shared::default();
    let inner = LocalStorage::new(world.join("store"));
    let storage = Arc::new(RecordingStorage { inner, record: Arc::clone(&record) });
    (project, world, record, storage)
}

fn cut_everywhere(most: usize) {
    let (project, world, record, storage) = recorded_world();
    let index = world.join("store/index.sqlite");

    recorded(&project, &storage, &record, "first", None);
    project.write("momentum/signal.py", "WINDOW = 30\n");
    recorded(&project, &storage, &record, "changed", None);
    recorded(&project, &storage, &record, "unchanged", None);
    project.write("momentum/signal.py", "WINDOW = 31\n");
    recorded(&project, &storage, &record, "with-folder", Some(world.join("run-4")));
    let (store, _) = Store::init_in(Arc::clone(&storage), Chunker::default()).expect("opens");
    store.update_index(true).expect("indexed");
    record.lock().expect("unharmed").operations.push(Operation::Index(fs::read(&index).expect("there")));
    drop(store);
    project.write("momentum/added.py", "THRESHOLD = 0.5\n");
    recorded(&project, &storage, &record, "with-index", None);
    // A second writer at the same time has a slot and a journal of its own.
    let (store, _) = Store::init_in(Arc::clone(&storage), Chunker::default()).expect("opens");
    let held = store.writer().expect("a slot");
    project.write("momentum/added.py", "THRESHOLD = 0.6\n");
    recorded(&project, &storage, &record, "beside", Some(world.join("run-6")));
    drop(held);
    // All journals become a segment, and captures go on in new ones.
    drop(store);
    let (store, _) = Store::init_in(Arc::clone(&storage), Chunker::default()).expect("opens");
    let merged = store.merge_runs(MergeExtent::Full).expect("merged");
    assert_eq!((merged.journals, merged.rows), (2, 6));
    drop(store);
    recorded(&project, &storage, &record, "merged", None);

    let operations = std::mem::take(&mut record.lock().expect("unharmed").operations);
    // One thread a core: most of the time goes into flushing.
    let states: usize = (0..=operations.len())
        .into_par_iter()
        .map(|end| check_cut(&project, &operations, end, &world, &index, most))
        .sum();
    println!("{} operations, {states} states", operations.len());
    assert!(states > 4 * operations.len(), "{states}");
}

/// Captures that merge packs by the way, a forgotten run, and gc twice: first with garbage beside what is needed, then
/// with packs of which nothing is needed.
#[test]
fn what_had_returned_survives_every_cut_in_merges_and_gc() {
    cut_maintenance(4);
}

/// The same with many states at each: `cargo test --release --test all -- --ignored --nocapture many_ways_of_gc`.
#[test]
#[ignore = "takes minutes"]
fn what_had_returned_survives_every_cut_in_many_ways_of_gc() {
    cut_maintenance(64);
}

fn cut_maintenance(most: usize) {
    let (project, world, record, storage) = recorded_world();
    let index = world.join("store/index.sqlite");
    let done = || record.lock().expect("unharmed").operations.len();
    let packs = || fs::read_dir(world.join("store/packs")).expect("there").count();
    let collect = || {
        let store = Store::open_in(Arc::clone(&storage)).expect("opens");
        let options = GcOptions { dry_run: false, patience: Duration::ZERO };
        let collected = gc(&store, options, &()).expect("collected");
        assert_eq!((collected.waiting_packs, collected.problems), (0, Vec::new()));
        record.lock().expect("unharmed").operations.push(Operation::Index(fs::read(&index).expect("there")));
    };
    let forget_run = |name: &str| {
        let store = Store::open_in(Arc::clone(&storage)).expect("opens");
        let runs = store.runs().expect("readable");
        let run = runs.iter().find(|run| run.label() == name).expect("there").start.run;
        record.lock().expect("unharmed").operations.push(Operation::Forgotten(name.to_owned()));
        forget(&store, &BTreeSet::from([run])).expect("forgotten");
    };
    let text = |version: usize| format!("WINDOW = {version}\n{}", "# a line that stays\n".repeat(40));

    let mut start = 0;
    for version in 1..=8 {
        start = done();
        project.write("momentum/signal.py", text(version));
        recorded(&project, &storage, &record, &format!("version-{version}"), None);
    }
    assert_eq!(packs(), 1, "the last capture has merged all");
    project.write("momentum/signal.py", text(9));
    recorded(&project, &storage, &record, "version-9", None);
    forget_run("version-3");
    forget_run("version-9");
    collect();
    assert_eq!(packs(), 1);
    // What was garbage is back, and a file that only this run has goes with it.
    project.write("momentum/added.py", text(100));
    recorded(&project, &storage, &record, "version-9-again", None);
    project.write("momentum/added.py", text(101));
    recorded(&project, &storage, &record, "last", None);
    forget_run("version-9-again");
    collect();

    let operations = std::mem::take(&mut record.lock().expect("unharmed").operations);
    let states: usize = (start..=operations.len())
        .into_par_iter()
        .map(|end| check_cut(&project, &operations, end, &world, &index, most))
        .sum();
    println!("{} operations, cuts from {start} on, {states} states", operations.len());
    assert!(states > 3 * (operations.len() - start), "{states}");
}

/// Checks every state that a cut after `end` operations can leave; how many there were.
fn check_cut(
    project: &Project,
    operations: &[Operation],
    end: usize,
    world: &Path,
    index: &Path,
    most: usize,
) -> usize {
    let mut states = 0;
    {
        let mut returned: Vec<(&String, &Tree)> = Vec::new();
        for operation in &operations[..end] {
            match operation {
                Operation::Returned(name, tree) => returned.push((name, tree)),
                Operation::Forgotten(name) => returned.retain(|(returned, _)| *returned != name),
                _ => {}
            }
        }
        for choice in combinations(&open_parts(operations, end), most) {
            states += 1;
            let after = tempfile::tempdir().expect("a temporary folder");
            make_state(operations, end, &choice, world, after.path(), index);
            let context = format!("cut after operation {end} of {}, {choice:?}", operations.len());
            let check = std::panic::catch_unwind(|| check_state(project, &after.path().join("store"), &returned));
            assert!(check.is_ok(), "{context}");
        }
    }
    states
}

/// The store opens, has all that had returned, finds nothing wrong with itself, and takes another capture.
fn check_state(project: &Project, folder: &Path, returned: &[(&String, &Tree)]) {
    let after = format!("after-{}", returned.len());
    let storage: Arc<dyn Storage> = Arc::new(Unflushed(LocalStorage::new(folder)));
    if let Ok(store) = Store::open_in(Arc::clone(&storage)) {
        for (name, expected) in returned {
            assert_restorable(&store, name, expected);
        }
        let verified = verify(&store, true, &()).expect("verifies");
        // The two files of a run's folder are not flushed: they can be made again.
        let wrong: Vec<_> = verified.problems.iter().filter(|p| Path::new(&p.file).starts_with(folder)).collect();
        // Half an index is a damaged cache, which verify says and everything else works around.
        let wrong: Vec<_> = wrong.into_iter().filter(|p| !p.file.ends_with("index.sqlite")).collect();
        assert!(wrong.is_empty(), "{wrong:?}");
    } else {
        assert!(returned.is_empty(), "the store is lost");
    }
    let (store, _) = Store::init_in(storage, Chunker::default()).expect("goes on");
    capture(&store, &options(project, &after, None), &()).expect("captures");
    drop(store);
    let store = Store::open(folder).expect("opens again");
    assert_restorable(&store, &after, &tree(&project.root()));
    for (name, expected) in returned {
        assert_restorable(&store, name, expected);
    }
    store.merge_runs(MergeExtent::Full).expect("merges");
    let store = Store::open(folder).expect("opens once more");
    assert_restorable(&store, &after, &tree(&project.root()));
    for (name, expected) in returned {
        assert_restorable(&store, name, expected);
    }
}

#[test]
fn a_capture_that_finds_everything_flushes_the_folder_before_it_commits() {
    let project = Project::with_code();
    let record = Shared::default();
    let root = project.beside("store");
    let storage: Arc<dyn Storage> =
        Arc::new(RecordingStorage { inner: LocalStorage::new(&root), record: Arc::clone(&record) });
    recorded(&project, &storage, &record, "first", None);
    let flushed_before_commit = |name| {
        let before = record.lock().expect("unharmed").operations.len();
        recorded(&project, &storage, &record, name, None);
        let record = record.lock().expect("unharmed");
        let later = &record.operations[before..];
        let is_flush = |o: &Operation| matches!(o, Operation::SyncFolder(folder) if *folder == root.join("packs"));
        let committed = later.iter().position(|o| matches!(o, Operation::Append(..))).expect("a record");
        later[..committed].iter().any(is_flush)
    };
    // What it finds may have been renamed by a writer that has not flushed the folder yet.
    fs::remove_dir_all(root.join("states")).expect("there");
    assert!(flushed_before_commit("second"), "what was found may lose its name");
    // It has noted which packs these were after their folder was flushed.
    assert!(!flushed_before_commit("third"), "nothing is left to be flushed");
    // Another one, and the note says nothing of it.
    let pack = fs::read_dir(root.join("packs")).expect("packs").next().expect("one").expect("readable").path();
    fs::copy(&pack, root.join("copy")).expect("copied");
    fs::rename(root.join("copy"), &pack).expect("renamed");
    assert!(flushed_before_commit("fourth"), "a pack that was put in place meanwhile");
}
