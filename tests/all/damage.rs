//! A flipped bit, a truncation or a removal in each kind of file of a store: what `verify --read-data` names, and that
//! everything else comes back as it was.
//!
//! Damage is action x location. What it really costs is found out apart from verify: every run is restored from the
//! damaged store and compared with the files that were captured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use runsnap::chunker::Chunker;
use runsnap::journal::{HEADER_BYTES, Item, scan};
use runsnap::operations::find_run::find_run;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::pack::Pack;
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::{Runs, Store};
use serde_json::{Value, json};

use crate::support::{Finished, Project, Tree, tree};

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// A bit of that byte changes: another one each time, so that none is spared everywhere.
    Flip(u64),
    /// This bit of that byte changes.
    FlipBit(u64, u8),
    /// The file ends there.
    Cut(u64),
    /// From this byte on there are so many zeros.
    Zero(u64, u64),
    /// The file goes away.
    Remove,
}

impl Action {
    pub fn apply(self, path: &Path) {
        match self {
            Self::Flip(at) => Self::FlipBit(at, (at % 8) as u8).apply(path),
            Self::FlipBit(at, bit) => {
                let mut bytes = fs::read(path).expect("readable");
                bytes[at as usize] ^= 1 << bit;
                fs::write(path, bytes).expect("written");
            }
            Self::Zero(at, zeros) => {
                let mut bytes = fs::read(path).expect("readable");
                bytes[at as usize..(at + zeros) as usize].fill(0);
                fs::write(path, bytes).expect("written");
            }
            Self::Cut(bytes) => fs::File::options().write(true).open(path).expect("there").set_len(bytes).expect("cut"),
            Self::Remove => fs::remove_file(path).expect("removed"),
        }
    }
}

/// To nothing, to the half, by one byte, and all of it.
pub fn cuts_and_removal(bytes: u64) -> [Action; 4] {
    [Action::Cut(0), Action::Cut(bytes / 2), Action::Cut(bytes - 1), Action::Remove]
}

/// A store with runs of three projects, and what each run must come back as.
pub struct Field {
    pub project: Project,
    pub originals: BTreeMap<String, Tree>,
    copies: AtomicUsize,
}

/// Lines that look like prices, no two alike.
fn prices(lines: u64) -> Vec<u8> {
    let mut state = 7u64;
    let mut price = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 40
    };
    (0..lines).flat_map(|n| format!("2026-01-01 {n:06},{},EURUSD\n", price()).into_bytes()).collect()
}

impl Field {
    /// Two projects that share a module, and a third with a file of several chunks; versions of each; two runs with a
    /// folder; two journals; no index.
    pub fn new() -> Self {
        let mut field = Self { project: Project::new(), originals: BTreeMap::new(), copies: AtomicUsize::new(0) };
        // Chunk sizes at which a table of a few hundred kilobytes is cut.
        let chunker = Chunker { min_bytes: 8 << 10, average_bytes: 16 << 10, max_bytes: 16 << 10 };
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(field.project.store()));
        Store::init_in(storage, chunker).expect("made");
        let shared = "def clamp(x, low, high):\n    return max(low, min(x, high))\n".repeat(8);
        field.project.write("alpha/strategy.py", "from momentum import signal\nimport shared\n");
        field.project.write("alpha/shared.py", &shared);
        field.project.write("alpha/empty.py", "");
        for version in 1..=3 {
            field.edit_signal(version);
            field.capture("alpha", &format!("alpha-{version}"), &[]);
        }
        field.capture("alpha", "alpha-again", &["--run-dir", "results/alpha-again"]);
        // Who finds no note begins a new journal.
        fs::remove_file(field.project.store().join("writers/0000")).expect("a slot");
        field.project.write("beta/lib/shared.py", &shared);
        std::os::unix::fs::symlink("lib/shared.py", field.project.path("beta/link.py")).expect("link");
        for version in 1..=2 {
            field.project.write("beta/main.py", format!("import shared\nLIMIT = {version}\n"));
            field.capture("beta", &format!("beta-{version}"), &[]);
        }
        let mut table = prices(9_000);
        assert!(table.len() > chunker.whole_bytes(), "more than one chunk");
        for version in 1..=2 {
            table.splice(version * 100_000..version * 100_000 + 6, *b"edited");
            field.project.write("big/prices.csv", &table);
            field.project.write("big/main.py", format!("VERSION = {version}\n"));
            let options = ["--run-dir", "results/big-2"];
            field.capture("big", &format!("big-{version}"), if version == 2 { &options } else { &[] });
        }
        assert!(!field.project.store().join("index.sqlite").exists());
        assert_eq!(field.files("runs").len(), 2);
        field
    }

    /// The same with an index that knows everything.
    pub fn with_index() -> Self {
        let field = Self::new();
        field.project.run(["reindex"]).expect(0);
        field
    }

    /// The same with what was captured before a first gc and a second one in a pack each, the later with differences to
    /// the earlier, and with one run of each project that neither has seen. Some runs are forgotten, all records are in segments.
    pub fn compacted() -> Self {
        let mut field = Self::new();
        field.project.run(["gc", "--quiet"]).expect(0);
        for version in 4..=6 {
            field.edit_signal(version);
            field.project.write("beta/main.py", format!("import shared\nLIMIT = {version}\n"));
            field.capture("alpha", &format!("alpha-{version}"), &[]);
            field.capture("beta", &format!("beta-{version}"), &[]);
            if version == 5 {
                for forgotten in ["alpha-4", "beta-1"] {
                    field.project.run(["forget", forgotten]).expect(0);
                    field.originals.remove(forgotten);
                }
                field.project.run(["gc", "--quiet"]).expect(0);
            }
        }
        field
    }

    fn edit_signal(&self, version: usize) {
        let signal = format!("WINDOW = {version}\n{}", "# a line that stays as it is\n".repeat(40));
        self.project.write("alpha/momentum/signal.py", signal);
    }

    fn capture(&mut self, folder: &str, name: &str, options: &[&str]) {
        self.project.run([&["capture", "--tree", folder, "--run", name, "--quiet"], options].concat()).expect(0);
        self.originals.insert(name.to_owned(), tree(&self.project.path(folder)));
    }

    /// The paths of the files in one of the store's folders, relative to the store.
    pub fn files(&self, folder: &str) -> Vec<String> {
        let name = |path: PathBuf| format!("{folder}/{}", path.file_name().and_then(|n| n.to_str()).expect("a name"));
        self.project.store_files(folder).into_iter().map(name).collect()
    }

    pub fn bytes(&self, path: &str) -> u64 {
        fs::metadata(self.project.store().join(path)).expect("there").len()
    }

    pub fn pack(&self, path: &str) -> Pack {
        Pack::open(&LocalStorage::new(self.project.store()), path).expect("a whole pack")
    }

    /// A copy of the store with one file damaged.
    pub fn damaged(&self, path: &str, action: Action) -> Damaged<'_> {
        let number = self.copies.fetch_add(1, Ordering::Relaxed);
        let store = self.project.beside(&format!("copy-{number}"));
        copy(&self.project.store(), &store);
        action.apply(&store.join(path));
        Damaged { field: self, number, store, path: path.to_owned(), what: format!("{action:?} of {path}") }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("new");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        let to = to.join(entry.file_name());
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).expect("copied");
        }
    }
}

/// A copy of a field's store with one file damaged. It goes away when dropped: there are many.
pub struct Damaged<'f> {
    field: &'f Field,
    number: usize,
    pub store: PathBuf,
    path: String,
    pub what: String,
}

impl Drop for Damaged<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.store);
    }
}

/// A problem that verify told.
#[derive(Debug)]
pub struct Problem {
    pub file: String,
    runs: BTreeSet<String>,
    pub paths: BTreeSet<String>,
}

/// Whether an entry of a problem's `paths` is about a file.
fn covers(entry: &str, path: &str) -> bool {
    entry == "(all)" || entry == path || entry.ends_with('/') && path.starts_with(entry)
}

/// What verify said, and what restoring every run showed.
pub struct Found {
    pub problems: Vec<Problem>,
    /// By run, the files that did not come back.
    pub hit: BTreeMap<String, BTreeSet<String>>,
}

impl Found {
    pub fn named(&self) -> BTreeSet<&str> {
        self.problems.iter().flat_map(|problem| &problem.runs).map(String::as_str).collect()
    }

    pub fn hit(&self) -> BTreeSet<&str> {
        self.hit.keys().map(String::as_str).collect()
    }
}

impl Damaged<'_> {
    pub fn run(&self, arguments: &[&str]) -> Finished {
        let store = self.store.to_str().expect("UTF-8");
        let finished = self.field.project.run([arguments, &["--store", store]].concat());
        assert!(!finished.stderr.contains("panicked"), "{}: {arguments:?}: {}", self.what, finished.stderr);
        assert!(finished.status.is_some(), "{}: {arguments:?}: killed", self.what);
        finished
    }

    /// Restores a run into a new folder: the exit status and what is there.
    fn restore(&self, name: &str) -> (Option<i32>, Tree) {
        let output = self.store.join("restored");
        let finished = self.run(&["restore", name, "--quiet", "--output", output.to_str().expect("UTF-8")]);
        let restored = if output.exists() { tree(&output) } else { Tree::new() };
        let _ = fs::remove_dir_all(&output);
        (finished.status, restored)
    }

    /// Restores a run as the binary does, without the time that it takes to start.
    fn restore_here(&self, store: &Store, runs: &Runs, name: &str) -> (Option<i32>, Tree) {
        let Ok(run) = find_run(runs, name, None) else { return (Some(1), Tree::new()) };
        let output = self.store.join("restored");
        let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
        let status = match restore(store, &run, &options, &()) {
            Ok(restored) if restored.problems.is_empty() => 0,
            Ok(_) => 3,
            Err(_) => 1,
        };
        let restored = if output.exists() { tree(&output) } else { Tree::new() };
        let _ = fs::remove_dir_all(&output);
        (Some(status), restored)
    }

    /// The files of a run that do not come back. None ever comes back wrong, and each loss shows in the exit status.
    fn lost_files(&self, name: &str, (status, restored): (Option<i32>, Tree)) -> BTreeSet<String> {
        let original = &self.field.originals[name];
        for (path, content) in &restored {
            assert!(original.get(path) == Some(content), "{}: {name}: {} came back wrong", self.what, path.display());
        }
        let lost = original.keys().filter(|path| !restored.contains_key(*path));
        let lost: BTreeSet<String> = lost.map(|path| path.to_str().expect("UTF-8").to_owned()).collect();
        match status {
            Some(0) => assert!(lost.is_empty(), "{}: {name}: silently without {lost:?}", self.what),
            Some(1) => assert!(restored.is_empty(), "{}: {name} failed and left files", self.what),
            other => assert_eq!(other, Some(3), "{}: {name}", self.what),
        }
        lost
    }

    fn verify(&self) -> Vec<Problem> {
        let verified = self.run(&["verify", "--read-data", "--json"]);
        let texts = |value: &Value| -> BTreeSet<String> {
            value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
        };
        let problem = |line: &Value| Problem {
            file: line["file"].as_str().expect("text").to_owned(),
            runs: texts(&line["runs"]),
            paths: texts(&line["paths"]),
        };
        let problems: Vec<Problem> =
            verified.json()["problems"].as_array().expect("a list").iter().map(problem).collect();
        assert_eq!(verified.status, Some(if problems.is_empty() { 0 } else { 3 }), "{}: {problems:?}", self.what);
        problems
    }

    pub fn look(&self) -> Found {
        let mut hit = BTreeMap::new();
        let store = Store::open(&self.store).expect("it opens");
        let runs = store.runs().expect("the runs");
        for (n, name) in self.field.originals.keys().enumerate() {
            // Each run has its turn with the binary.
            let is_turn = n == self.number % self.field.originals.len();
            let restored = if is_turn { self.restore(name) } else { self.restore_here(&store, &runs, name) };
            let lost = self.lost_files(name, restored);
            if !lost.is_empty() {
                hit.insert(name.clone(), lost);
            }
        }
        Found { problems: self.verify(), hit }
    }

    fn look_at_this_file(&self) -> Found {
        let found = self.look();
        let file = self.store.join(&self.path);
        let names_file = |problem: &Problem| problem.file == file.to_str().expect("UTF-8");
        let (what, problems) = (&self.what, &found.problems);
        assert!(problems.iter().any(names_file), "{what}: the file is not named: {problems:?}");
        // Whatever goes wrong, the file that was damaged is the one to blame.
        assert!(problems.iter().all(names_file), "{what}: another file is blamed: {problems:?}");
        found
    }

    /// The damaged file is blamed for all that is lost, and for nothing else.
    fn check(&self) {
        let found = self.look_at_this_file();
        let (what, problems) = (&self.what, &found.problems);
        assert_eq!(found.named(), found.hit(), "{what}: named and hit: {problems:?}");
        if self.path.starts_with("runs/") {
            return;
        }
        for (run, lost) in &found.hit {
            let entries: Vec<&String> =
                problems.iter().filter(|p| p.runs.contains(run)).flat_map(|p| &p.paths).collect();
            for path in lost {
                assert!(
                    entries.iter().any(|entry| covers(entry, path)),
                    "{what}: {run}: {path} is not named: {entries:?}"
                );
            }
        }
        for problem in problems {
            let mut lost = problem.runs.iter().flat_map(|run| &found.hit[run]).peekable();
            let lost: Vec<&String> = if lost.peek().is_some() { lost.collect() } else { continue };
            for entry in &problem.paths {
                assert!(
                    lost.iter().any(|path| covers(entry, path)),
                    "{what}: {entry} is named and came back: {problem:?}"
                );
            }
        }
    }
}

/// A bit in every frame: at its beginning, in its middle or at its end by turns.
pub fn flips_in_frames(pack: &Pack) -> Vec<Action> {
    let place = |(n, frame): (usize, &runsnap::pack::Frame)| {
        let last = frame.stored_bytes - 1;
        Action::Flip(frame.offset + [0, last / 2, last][n % 3])
    };
    pack.frames.iter().enumerate().map(place).collect()
}

/// Bits in the header's magic, version, reserved bytes and store id, in the table, and in each field of the footer.
pub fn flips_around_frames(pack: &Pack) -> Vec<Action> {
    let table = pack.frames.last().map(|frame| frame.offset + frame.stored_bytes).expect("frames");
    let footer = pack.bytes - 56;
    let places = [0, 9, 12, 20, table, (table + footer) / 2, footer, footer + 9, footer + 20, pack.bytes - 1];
    places.map(Action::Flip).to_vec()
}

#[test]
fn packs() {
    let field = Field::new();
    let files = field.files("packs");
    for (n, file) in files.iter().enumerate() {
        let pack = field.pack(file);
        let mut actions = flips_in_frames(&pack);
        actions.extend(cuts_and_removal(pack.bytes));
        if n == 0 {
            actions.extend(flips_around_frames(&pack));
        }
        for action in actions {
            field.damaged(file, action).check();
        }
    }
}

#[test]
fn packs_that_an_index_knows() {
    let field = Field::with_index();
    for (n, file) in field.files("packs").iter().enumerate() {
        let pack = field.pack(file);
        // Another selection for each pack: frames, surroundings, cuts.
        let actions = [flips_in_frames(&pack), flips_around_frames(&pack), cuts_and_removal(pack.bytes).to_vec()];
        for actions in actions {
            field.damaged(file, actions[n % actions.len()]).check();
        }
    }
}

/// All of each frame but its ends, or what of it there is.
fn zeros_in_frames(pack: &Pack) -> Vec<Action> {
    pack.frames.iter().map(|frame| Action::Zero(frame.offset, frame.stored_bytes.div_ceil(2))).collect()
}

#[test]
fn compacted_packs() {
    let field = Field::compacted();
    let files = field.files("packs");
    let is_settled = |file: &&String| field.pack(file).tier == runsnap::store::SETTLED_TIER;
    assert_eq!(files.iter().filter(is_settled).count(), 2, "{files:?}");
    for (n, file) in files.iter().enumerate() {
        let pack = field.pack(file);
        let mut actions = [flips_in_frames(&pack), zeros_in_frames(&pack)].concat();
        actions.extend(cuts_and_removal(pack.bytes));
        if n == 0 || is_settled(&file) {
            actions.extend(flips_around_frames(&pack));
        }
        for action in actions {
            let damaged = field.damaged(file, action);
            if action != Action::Remove {
                damaged.check();
                continue;
            }
            // Records name many packs that merges have replaced, so which one is gone cannot always be told; whom it hits can.
            let found = damaged.look();
            assert_eq!(found.named(), found.hit(), "{}: {:?}", damaged.what, found.problems);
            assert!(found.problems.iter().all(|problem| problem.file.contains("/packs")), "{:?}", found.problems);
        }
    }
}

/// Where the records of a journal begin and end.
pub fn records(path: &Path) -> Vec<(u64, u64)> {
    let bytes = fs::read(path).expect("readable");
    let place = |item: Item<'_>| match item {
        Item::Record { offset, end, .. } => ((offset + HEADER_BYTES) as u64, (end + HEADER_BYTES) as u64),
        other => panic!("{other:?}"),
    };
    scan(&bytes[HEADER_BYTES..]).map(place).collect()
}

#[test]
fn journals() {
    let field = Field::with_index();
    for file in field.files("runs") {
        let records = records(&field.project.store().join(&file));
        assert_eq!(records.len(), 4);
        // Marker, length, payload and checksum of a record; the header's magic, version, reserved bytes and store id.
        let places = records.iter().enumerate().map(|(n, (from, to))| [from + 1, from + 4, (from + to) / 2, to - 1][n]);
        let flips = places.chain([3, 8, 11, 24]).map(Action::Flip);
        for action in flips.chain(cuts_and_removal(field.bytes(&file))) {
            field.damaged(&file, action).check();
        }
    }
}

#[test]
fn journals_without_an_index() {
    let field = Field::new();
    for file in field.files("runs") {
        let (from, to) = records(&field.project.store().join(&file))[2];
        // Which run a record was of shows as long as no more than a bit of it is wrong.
        for at in [from + 3, from + 5, from + 60, to - 2, 9] {
            field.damaged(&file, Action::Flip(at)).check();
        }
    }
    // What is gone is gone with its names. The last journal of a writer is noted in its slot.
    let noted = fs::read_to_string(field.project.store().join("writers/0000")).expect("a note");
    let noted = format!("runs/{}", noted.split(' ').next().expect("a name"));
    for action in cuts_and_removal(field.bytes(&noted)) {
        let damaged = field.damaged(&noted, action);
        let found = damaged.look_at_this_file();
        assert!(!found.hit.is_empty(), "{}", damaged.what);
    }
}

#[test]
fn config() {
    let field = Field::new();
    let id = |store: &Path| {
        let config: Value = serde_json::from_slice(&fs::read(store.join("config.json")).expect("there")).expect("JSON");
        config["store"].clone()
    };
    let text = fs::read_to_string(field.project.store().join("config.json")).expect("there");
    // The last character of a field, which is its value.
    let end = |field: &str| (text.find(field).expect("a field") + field.len() - 1) as u64;
    let flips = ["runsnap-store", "[]", "store\": ", "generation\": 0", "16384", "checksum"].map(end);
    let actions = flips.into_iter().chain([0, text.len() as u64 / 2]).map(Action::Flip);
    // Some of these make a higher version, and yet nothing newer.
    let actions = actions.chain((0..5).map(|bit| Action::FlipBit(end("version\": 1"), bit)));
    // The line feed at the end is not missed.
    for (n, action) in actions.chain(cuts_and_removal(text.trim_end().len() as u64)).enumerate() {
        let damaged = field.damaged("config.json", action);
        let what = &damaged.what;
        let found = damaged.look_at_this_file();
        assert!(found.hit.is_empty(), "{what}: {:?}", found.hit);
        let listed = damaged.run(&["list", "--all-projects", "--json"]).expect(3);
        assert!(listed.stderr.contains("config.json"), "{what}: {}", listed.stderr);
        assert_eq!(listed.json()["runs"].as_array().map(Vec::len), Some(field.originals.len()), "{what}");
        let capture = ["capture", "--tree", "alpha", "--run", "later", "--quiet"];
        damaged.run(&capture).expect_line(1, &["config.json", "runsnap init --store"]);
        damaged.run(&["init"]).expect(0);
        assert_eq!(id(&damaged.store), id(&field.project.store()), "{what}");
        if n % 4 == 0 {
            damaged.run(&capture).expect(0);
            assert_eq!(damaged.restore("later"), (Some(0), field.originals["alpha-3"].clone()), "{what}");
            assert!(damaged.look().problems.is_empty(), "{what}");
        }
    }
}

#[test]
fn index() {
    let field = Field::with_index();
    let names = |damaged: &Damaged<'_>| -> Vec<Value> {
        let listed = damaged.run(&["list", "--all-projects", "--json"]).expect(0).json();
        listed["runs"].as_array().expect("a list").iter().map(|run| run["name"].clone()).collect()
    };
    let whole = names(&field.damaged("index.sqlite", Action::Remove));
    let bytes = field.bytes("index.sqlite");
    let page =
        |path: &Path| fs::read(path).map(|bytes| u64::from(u16::from_be_bytes([bytes[16], bytes[17]]))).expect("there");
    let page = page(&field.project.store().join("index.sqlite"));
    // The file's header; of each page the head, and the end, where the first rows are.
    let pages = (0..bytes / page).map(|n| n * page).flat_map(|at| [at + 3, at + page - 3]);
    let flips = [0, 19, 30, 60].into_iter().chain(pages).map(Action::Flip);
    for (n, action) in flips.chain(cuts_and_removal(bytes)).enumerate() {
        let damaged = field.damaged("index.sqlite", action);
        let what = &damaged.what;
        assert_eq!(names(&damaged), whole, "{what}");
        let found = damaged.look();
        assert!(found.hit.is_empty(), "{what}: {:?}", found.hit);
        assert!(found.named().is_empty(), "{what}: runs are said to be hit: {:?}", found.problems);
        if n % 4 == 0 {
            damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
            assert_eq!(damaged.restore("later"), (Some(0), field.originals["alpha-3"].clone()), "{what}");
            damaged.run(&["reindex"]).expect(0);
            assert!(damaged.verify().is_empty(), "{what}");
        }
    }
    let removed = field.damaged("index.sqlite", Action::Cut(bytes / 2)).verify();
    assert!(removed.iter().any(|problem| problem.file.ends_with("index.sqlite")), "{removed:?}");
}

#[test]
fn slots_are_harmless() {
    let field = Field::new();
    let bytes = field.bytes("writers/0000");
    let flips = [0, 20, 30, bytes - 12, bytes - 3, bytes - 1].map(Action::Flip);
    for action in flips.into_iter().chain(cuts_and_removal(bytes)) {
        let damaged = field.damaged("writers/0000", action);
        assert!(damaged.verify().is_empty(), "{}: {:?}", damaged.what, damaged.verify());
        damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
        let found = damaged.look();
        assert!(found.problems.is_empty() && found.hit.is_empty(), "{}: {:?}", damaged.what, found.problems);
        assert_eq!(damaged.restore("later"), (Some(0), field.originals["alpha-3"].clone()), "{}", damaged.what);
    }
}

#[test]
fn files_of_run_folders() {
    let field = Field::new();
    for (run, name) in [("alpha-again", "manifest.json"), ("big-2", "backtest_metadata.json")] {
        let path = field.project.path(format!("results/{run}/metadata/{name}"));
        let whole = fs::read(&path).expect("there");
        let bytes = whole.len() as u64;
        for action in [3, bytes / 2, bytes - 1].map(Action::Flip).into_iter().chain(cuts_and_removal(bytes)) {
            action.apply(&path);
            let verified = field.project.run(["verify", "--json"]).expect(3).json();
            let problems = verified["problems"].as_array().expect("a list");
            assert_eq!(problems.len(), 1, "{action:?}: {problems:?}");
            assert_eq!(problems[0]["file"], json!(path), "{action:?}");
            assert_eq!(problems[0]["runs"], json!([run]), "{action:?}");
            assert_eq!(field.project.restored(run), field.originals[run]);
            fs::write(&path, &whole).expect("written");
        }
    }
    field.project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn a_store_whose_index_is_behind() {
    let mut field = Field::new();
    for version in 0..36 {
        field.project.write("beta/main.py", format!("import shared\nLIMIT = {version}.5\n"));
        field.capture("beta", &format!("later-{version:02}"), &[]);
        if version == 24 {
            field.project.run(["reindex"]).expect(0);
        }
    }
    let noted = fs::read_to_string(field.project.store().join("writers/0000")).expect("a note");
    let journal = format!("runs/{}", noted.split(' ').next().expect("a name"));
    // Most captures' packs have been merged since; each that is there costs what is in it.
    let packs = field.files("packs");
    assert!(packs.len() < 20, "{packs:?}");
    for pack in packs.iter().step_by(3) {
        field.damaged(pack, Action::Cut(100)).check();
    }
    let records = records(&field.project.store().join(&journal));
    field.damaged(&journal, Action::Flip(records[5].0 + 20)).check();
    field.damaged(&journal, Action::Flip(records[records.len() - 1].0 + 20)).check();
    // The index can name the runs that it knows, and no others.
    let found = field.damaged(&journal, Action::Remove).look_at_this_file();
    assert!(found.named().len() >= 20 && found.named().is_subset(&found.hit()), "{:?}", found.problems);
}

#[test]
fn what_is_captured_again_is_stored_again() {
    for field in [Field::new(), Field::with_index()] {
        for (n, file) in field.files("packs").iter().enumerate() {
            let action = [Action::Remove, Action::Cut(field.bytes(file) - 9), Action::Flip(1)][n % 3];
            let damaged = field.damaged(file, action);
            let lost = || damaged.lost_files("alpha-3", damaged.restore("alpha-3"));
            if lost().is_empty() {
                continue;
            }
            damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
            assert_eq!(damaged.restore("later"), (Some(0), field.originals["alpha-3"].clone()), "{}", damaged.what);
            // The runs that had the same content have it again.
            assert_eq!(lost(), BTreeSet::new(), "{}", damaged.what);
        }
    }
}
