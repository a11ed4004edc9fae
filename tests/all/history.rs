//! Random histories: edits, captures and everything that a store goes through, compared with plain copies in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use proptest::sample::Index;
use runsnap::chunker::Chunker;
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::forget::forget;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::reindex::reindex;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::operations::verify::verify;
use runsnap::snapshot::Entry;
use runsnap::storage::LocalStorage;
use runsnap::store::{MergeExtent, Store};
use runsnap::tracked_path::TrackedPath;

use crate::support::{Tree, tree};

/// Files can be under these names, in these folders: few, so that edits meet each other.
const NAMES: [&str; 5] = ["a.py", "b.py", "c.txt", "d.bin", "é \u{1}.csv"];
const FOLDERS: [&str; 5] = ["", "lib", "lib/deep", "lib/deep/er", "data"];

/// One step of a history. An `Index` picks among what there is when its turn comes.
#[derive(Debug, Clone)]
enum Step {
    Write(usize, usize, Vec<u8>),
    /// A file of over 256 KiB, from a seed.
    WriteLarge(usize, usize, u8, usize),
    Append(Index, Vec<u8>),
    Insert(Index, Index, Vec<u8>),
    Cut(Index, Index, usize),
    Rename(Index, usize, usize),
    Copy(Index, usize, usize),
    Delete(Index),
    DeleteFolder(usize),
    SwitchExecutable(Index),
    Link(usize, usize, String),
    Capture,
    /// The files of an earlier capture come back, as when an edit is undone.
    Revert(Index),
    Restore(Index),
    /// One file of a run, as `cat` reads it.
    ReadFile(Index, Index),
    Forget(Index),
    MergePacks,
    MergeRuns,
    Collect,
    RemoveIndex,
    Reindex,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    let name = || (0..FOLDERS.len(), 0..NAMES.len());
    let bytes = || {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..40),
            "[a-z]{1,12} = [0-9]{1,4}\n".prop_map(|line| line.repeat(30).into_bytes()),
        ]
    };
    let any_one = any::<Index>;
    prop_oneof![
        4 => (name(), bytes()).prop_map(|((folder, name), bytes)| Step::Write(folder, name, bytes)),
        1 => (name(), any::<u8>(), 262_100..700_000usize).prop_map(|((f, n), seed, bytes)| Step::WriteLarge(f, n, seed, bytes)),
        3 => (any_one(), bytes()).prop_map(|(file, bytes)| Step::Append(file, bytes)),
        3 => (any_one(), any_one(), bytes()).prop_map(|(file, at, bytes)| Step::Insert(file, at, bytes)),
        2 => (any_one(), any_one(), 1..100_000usize).prop_map(|(file, at, bytes)| Step::Cut(file, at, bytes)),
        2 => (any_one(), name()).prop_map(|(file, (folder, name))| Step::Rename(file, folder, name)),
        1 => (any_one(), name()).prop_map(|(file, (folder, name))| Step::Copy(file, folder, name)),
        1 => any_one().prop_map(Step::Delete),
        1 => (1..FOLDERS.len()).prop_map(Step::DeleteFolder),
        1 => any_one().prop_map(Step::SwitchExecutable),
        1 => (name(), "(\\.\\./)?[a-z.]{1,8}").prop_map(|((folder, name), target)| Step::Link(folder, name, target)),
        8 => Just(Step::Capture),
        1 => any_one().prop_map(Step::Revert),
        2 => any_one().prop_map(Step::Restore),
        1 => (any_one(), any_one()).prop_map(|(run, file)| Step::ReadFile(run, file)),
        1 => any_one().prop_map(Step::Forget),
        1 => Just(Step::MergePacks),
        1 => Just(Step::MergeRuns),
        2 => Just(Step::Collect),
        1 => Just(Step::RemoveIndex),
        1 => Just(Step::Reindex),
        1 => Just(Step::Reopen),
    ]
}

fn chunker() -> impl Strategy<Value = Chunker> {
    prop_oneof![
        Just(Chunker::default()),
        Just(Chunker { min_bytes: 1_024, average_bytes: 4_096, max_bytes: 16_384 }),
        Just(Chunker { min_bytes: 64, average_bytes: 1_024, max_bytes: 1_024 }),
    ]
}

/// A project, its store, and what both must hold.
struct History {
    folder: tempfile::TempDir,
    store: Option<Store>,
    /// The project's files as they are now.
    files: Tree,
    /// Those of each run, by name.
    runs: BTreeMap<String, Tree>,
    /// How many runs there ever were: a name is never given twice.
    captures: usize,
}

impl History {
    fn new(chunker: Chunker) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        fs::create_dir(folder.path().join("project")).expect("folder");
        let (store, _) =
            Store::init_in(Arc::new(LocalStorage::new(folder.path().join("store"))), chunker).expect("made");
        Self { folder, store: Some(store), files: Tree::new(), runs: BTreeMap::new(), captures: 0 }
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("always there between steps")
    }

    fn reopen(&mut self) {
        self.store = Some(Store::open(&self.folder.path().join("store")).expect("opens"));
    }

    fn picked(&self, index: &Index) -> Option<PathBuf> {
        (!self.files.is_empty()).then(|| self.files.keys().nth(index.index(self.files.len())).expect("within").clone())
    }

    fn picked_run(&self, index: &Index) -> Option<(&String, &Tree)> {
        (!self.runs.is_empty()).then(|| self.runs.iter().nth(index.index(self.runs.len())).expect("within"))
    }

    /// Applies an edit to the content of a regular file.
    fn edit(&mut self, file: &Index, change: impl FnOnce(&mut Vec<u8>)) {
        let Some(path) = self.picked(file) else { return };
        if let Some((kind, content)) = self.files.get_mut(&path).filter(|(kind, _)| *kind != "link") {
            change(content);
            put(&self.folder.path().join("project").join(&path), kind, content);
        }
    }

    fn set(&mut self, path: PathBuf, kind: &'static str, content: Vec<u8>) {
        put(&self.folder.path().join("project").join(&path), kind, &content);
        self.files.insert(path, (kind, content));
    }

    fn remove(&mut self, path: &Path) -> Option<(&'static str, Vec<u8>)> {
        fs::remove_file(self.folder.path().join("project").join(path)).expect("removed");
        self.files.remove(path)
    }

    /// Restores a run and compares it with what was captured.
    fn check(&self, name: &str, expected: &Tree) -> Result<(), TestCaseError> {
        let runs = self.store().runs().expect("readable");
        prop_assert_eq!(&runs.problems, &[]);
        let run = runs.iter().find(|run| run.label() == name);
        let run = run.ok_or_else(|| TestCaseError::fail(format!("{name} is lost")))?;
        let output = self.folder.path().join("restored");
        let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
        let restored = restore(self.store(), &run, &options, &()).expect("restored");
        prop_assert_eq!(restored.problems, Vec::<String>::new());
        prop_assert!(tree(&output) == *expected, "{} came back with other files", name);
        fs::remove_dir_all(output).expect("removed");
        Ok(())
    }

    /// The content or target that a run has at a path.
    fn read(&self, name: &str, path: &Path) -> Result<Vec<u8>, TestCaseError> {
        let runs = self.store().runs().expect("readable");
        let run = runs.iter().find(|run| run.label() == name);
        let run = run.ok_or_else(|| TestCaseError::fail(format!("{name} is lost")))?;
        let files = self.store().files_of(run.start.snapshot).expect("readable");
        let path = TrackedPath::from_path(path).expect("a path");
        Ok(match files.entries.get(&path) {
            Some(Entry::Symlink { target }) => target.clone(),
            Some(Entry::File { id, bytes, .. }) => self.store().file(*id, *bytes).expect("readable"),
            None => return Err(TestCaseError::fail(format!("{name} has no {path}"))),
        })
    }

    /// After a gc, reading any object decodes a few frames beyond its own.
    fn check_depths(&self) -> Result<(), TestCaseError> {
        let catalog = self.store().catalog();
        for pack in catalog.packs() {
            for frame in &pack.frames {
                let (mut depth, mut bases) = (0, catalog.bases(&pack, frame));
                while let Some(base) = bases.first().cloned() {
                    depth += 1;
                    bases = catalog.bases(&base.pack, base.frame().expect("in a frame"));
                }
                prop_assert!(depth <= 4, "{} frames beyond one of {}", depth, pack.path);
            }
        }
        Ok(())
    }

    fn take(&mut self, step: Step) -> Result<(), TestCaseError> {
        let place = |folder: usize, name: usize| Path::new(FOLDERS[folder]).join(NAMES[name]);
        match step {
            Step::Write(folder, name, content) => self.set(place(folder, name), "file", content),
            Step::WriteLarge(folder, name, seed, bytes) => self.set(place(folder, name), "file", noise(seed, bytes)),
            Step::Append(file, bytes) => self.edit(&file, |content| content.extend(bytes)),
            Step::Insert(file, at, bytes) => self.edit(&file, |content| {
                let at = at.index(content.len() + 1);
                content.splice(at..at, bytes);
            }),
            Step::Cut(file, at, bytes) => self.edit(&file, |content| {
                let at = at.index(content.len() + 1);
                let end = (at + bytes).min(content.len());
                content.drain(at..end);
            }),
            Step::Rename(file, folder, name) => {
                if let Some(old) = self.picked(&file) {
                    let (kind, content) = self.remove(&old).expect("it was there");
                    self.set(place(folder, name), kind, content);
                }
            }
            Step::Copy(file, folder, name) => {
                if let Some((kind, content)) = self.picked(&file).and_then(|path| self.files.get(&path).cloned()) {
                    self.set(place(folder, name), kind, content);
                }
            }
            Step::Delete(file) => {
                if let Some(path) = self.picked(&file) {
                    self.remove(&path);
                }
            }
            Step::DeleteFolder(folder) => {
                let _ = fs::remove_dir_all(self.folder.path().join("project").join(FOLDERS[folder]));
                self.files.retain(|path, _| !path.starts_with(FOLDERS[folder]));
            }
            Step::SwitchExecutable(file) => {
                if let Some((path, (kind, content))) =
                    self.picked(&file).and_then(|p| Some((p.clone(), self.files.get(&p)?.clone())))
                {
                    let kind = match kind {
                        "file" => "executable",
                        "executable" => "file",
                        other => other,
                    };
                    self.set(path, kind, content);
                }
            }
            Step::Link(folder, name, target) => self.set(place(folder, name), "link", target.into_bytes()),
            Step::Capture => {
                let mut options = CaptureOptions::new(Target::Tree(self.folder.path().join("project")));
                options.name = Some(format!("run-{}", self.captures));
                self.captures += 1;
                let captured = capture(self.store(), &options, &()).expect("captured");
                prop_assert_eq!(captured.warnings, Vec::<String>::new());
                prop_assert_eq!(captured.files as usize, self.files.len());
                prop_assert_eq!(
                    captured.bytes as usize,
                    self.files.values().map(|(_, content)| content.len()).sum::<usize>()
                );
                self.runs.insert(options.name.expect("given"), self.files.clone());
            }
            Step::Revert(run) => {
                if let Some(files) = self.picked_run(&run).map(|(_, files)| files.clone()) {
                    fs::remove_dir_all(self.folder.path().join("project")).expect("removed");
                    fs::create_dir(self.folder.path().join("project")).expect("folder");
                    self.files.clear();
                    files.into_iter().for_each(|(path, (kind, content))| self.set(path, kind, content));
                }
            }
            Step::Restore(run) => {
                if let Some((name, files)) = self.picked_run(&run) {
                    self.check(name, files)?;
                }
            }
            Step::ReadFile(run, file) => {
                if let Some((name, files)) = self.picked_run(&run).filter(|(_, files)| !files.is_empty()) {
                    let (path, (_, content)) = files.iter().nth(file.index(files.len())).expect("within");
                    prop_assert!(self.read(name, path)? == *content, "{} of {}", path.display(), name);
                }
            }
            Step::Forget(run) => {
                if let Some(name) = self.picked_run(&run).map(|(name, _)| name.clone()) {
                    let runs = self.store().runs().expect("readable");
                    let id = runs.iter().find(|run| run.label() == name).expect("not lost").start.run;
                    forget(self.store(), &BTreeSet::from([id])).expect("forgotten");
                    self.runs.remove(&name);
                }
            }
            Step::MergePacks => drop(self.store().merge_packs_step().expect("merged")),
            Step::MergeRuns => drop(self.store().merge_runs(MergeExtent::Full).expect("merged")),
            Step::Collect => {
                let collected = gc(self.store(), GcOptions { dry_run: false, patience: Duration::ZERO }, &());
                let collected = collected.expect("collected");
                prop_assert_eq!((collected.waiting_packs, collected.problems), (0, Vec::new()));
                // The generation is another one now.
                self.reopen();
                self.check_depths()?;
            }
            Step::RemoveIndex => {
                self.store = None;
                let _ = fs::remove_file(self.folder.path().join("store/index.sqlite"));
                self.reopen();
            }
            Step::Reindex => {
                let reindexed = reindex(self.store.take().expect("there")).expect("indexed");
                prop_assert_eq!((reindexed.runs as usize, reindexed.problems), (self.runs.len(), Vec::new()));
                self.reopen();
            }
            Step::Reopen => self.reopen(),
        }
        Ok(())
    }
}

fn noise(seed: u8, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&[seed]).finalize_xof().fill(&mut out);
    // Half of it compresses.
    out.iter_mut().skip(bytes / 2).for_each(|byte| *byte &= 3);
    out
}

/// Puts a file or link where something else may be.
fn put(path: &Path, kind: &str, content: &[u8]) {
    fs::create_dir_all(path.parent().expect("below")).expect("folders");
    if path.symlink_metadata().is_ok() {
        fs::remove_file(path).expect("removed");
    }
    if kind == "link" {
        return symlink(std::str::from_utf8(content).expect("made of text"), path).expect("linked");
    }
    fs::write(path, content).expect("written");
    let mode = if kind == "executable" { 0o755 } else { 0o644 };
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 400, ..ProptestConfig::default() })]

    #[test]
    fn any_history_comes_back(chunker in chunker(), steps in proptest::collection::vec(step(), 8..48)) {
        let mut history = History::new(chunker);
        for step in steps {
            history.take(step)?;
        }
        prop_assert!(tree(&history.folder.path().join("project")) == history.files, "the test's own copy");
        let verified = verify(history.store(), true, &()).expect("verified");
        prop_assert_eq!((verified.problems, verified.notes), (Vec::new(), Vec::new()));
        prop_assert_eq!(verified.runs as usize, history.runs.len());
        history.reopen();
        for (name, files) in &history.runs {
            history.check(name, files)?;
        }
    }
}
