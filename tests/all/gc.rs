//! gc and the merges of captures, met at their worst moments: what a record names is there before, while and after.
//!
//! Another process stops where the test wants it to, between two operations on the store's files, and goes on when it is
//! told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use runsnap::Result;
use runsnap::id::ObjectId;
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::gc::{Collected, GcOptions, gc};
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::operations::verify::verify;
use runsnap::pack::Pack;
use runsnap::pack::format::{ObjectKind, Prefix};
use runsnap::storage::{LocalStorage, Lock, Storage, StoredFile, WriteFile};
use runsnap::store::{CONDEMNED_PATH, CompactionOptions, Reached, SETTLED_TIER, Store};

use crate::support::{Finished, Project, Tree, tree};

/// What a stopped process does, a line each: `capture` or `gc`, where it stops, the store, and the folder to capture.
const WORKER: &str = "RUNSNAP_TEST_STOPPED";
/// What it prints where it stops.
const STOPPED: &str = "stopped here";
/// The name of the run that it captures.
const LATE: &str = "late";

/// A storage that stops before the first operation of a kind until a line comes in.
struct StoppingStorage {
    inner: LocalStorage,
    /// The beginning of an operation and its path.
    place: String,
    /// How often it passes there before it stops.
    passes: AtomicUsize,
    has_read_list: AtomicBool,
    has_stopped: Arc<AtomicBool>,
}

impl StoppingStorage {
    fn pass(&self, operation: &str, path: &str) {
        let operation = format!("{operation} {path}");
        if path == CONDEMNED_PATH {
            self.has_read_list.store(true, Ordering::SeqCst);
        }
        // Opening a store lists its packs as well.
        let is_here = operation.starts_with(&self.place)
            && (self.place != "listed packs" || self.has_read_list.load(Ordering::SeqCst));
        let is_due = is_here
            && self.passes.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_err();
        if is_due && !self.has_stopped.swap(true, Ordering::SeqCst) {
            let mut out = std::io::stdout();
            writeln!(out, "\n{STOPPED}").and_then(|()| out.flush()).expect("somebody reads");
            std::io::stdin().read_line(&mut String::new()).expect("somebody writes");
        }
    }
}

impl Storage for StoppingStorage {
    fn root(&self) -> &Path {
        self.inner.root()
    }

    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        self.inner.at(root)
    }

    fn create_folder(&self, path: &str) -> Result<bool> {
        self.inner.create_folder(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        self.pass("write", path);
        self.inner.create(path)
    }

    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        self.pass("write", path);
        self.inner.append(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.pass("rename", to);
        self.inner.rename(from, to)?;
        self.pass("renamed", to);
        Ok(())
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.pass("remove", path);
        self.inner.remove(path)?;
        self.pass("removed", path);
        Ok(())
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.inner.sync_folder(path)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.pass("read", path);
        let content = self.inner.read(path, limit);
        self.pass("have read", path);
        content
    }

    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.inner.read_range(path, offset, bytes)
    }

    fn look(&self, path: &str) -> Result<StoredFile> {
        self.inner.look(path)
    }

    fn list(&self, path: &str) -> Result<Vec<StoredFile>> {
        let files = self.inner.list(path);
        self.pass("listed", path);
        files
    }

    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>> {
        self.pass("lock", path);
        let lock = self.inner.try_lock(path);
        self.pass("locked", path);
        lock
    }
}

/// A place that is stopped at when it has been passed so often.
fn after(passes: usize, place: &str) -> String {
    format!("{passes} {place}")
}

/// Not a test: what a process that is stopped does.
#[test]
#[ignore = "started by other tests"]
fn worker() {
    let Ok(task) = std::env::var(WORKER) else { return };
    let [what, place, store, folder] = task.lines().collect::<Vec<_>>()[..] else { panic!("not a task: {task:?}") };
    let has_stopped = Arc::new(AtomicBool::new(false));
    let counted = place.split_once(' ').and_then(|(passes, place)| Some((passes.parse().ok()?, place)));
    let (passes, place) = counted.unwrap_or((0, place));
    let storage = StoppingStorage {
        inner: LocalStorage::new(store),
        place: place.to_owned(),
        passes: AtomicUsize::new(passes),
        has_read_list: AtomicBool::new(false),
        has_stopped: Arc::clone(&has_stopped),
    };
    let store = Store::open_in(Arc::new(storage)).expect("opens");
    if what == "gc" {
        gc(&store, GcOptions { dry_run: false, patience: Duration::from_secs(600) }, &()).expect("collected");
    } else {
        let mut options = CaptureOptions::new(Target::Tree(PathBuf::from(folder)));
        options.name = Some(LATE.to_owned());
        assert_eq!(capture(&store, &options, &()).expect("captured").warnings, Vec::<String>::new());
    }
    assert!(has_stopped.load(Ordering::SeqCst), "it never came to where it is to stop");
}

/// A process that stands still.
struct Stopped {
    child: Child,
    out: BufReader<std::process::ChildStdout>,
}

impl Stopped {
    fn start(what: &str, place: &str, store: &Path, folder: &Path) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "gc::worker", "--ignored", "--nocapture"]);
        command.env(WORKER, format!("{what}\n{place}\n{}\n{}", store.display(), folder.display()));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let mut out = BufReader::new(child.stdout.take().expect("piped"));
        let mut line = String::new();
        while line.trim_end() != STOPPED {
            line.clear();
            if out.read_line(&mut line).expect("text") == 0 {
                let mut errors = String::new();
                child.stderr.take().expect("piped").read_to_string(&mut errors).expect("text");
                panic!("{what} did not stop at {place:?}: {errors}");
            }
        }
        Self { child, out }
    }

    /// Lets it go on to its end.
    fn finish(mut self) {
        self.child.stdin.take().expect("piped").write_all(b"\n").expect("it waits");
        let mut rest = String::new();
        self.out.read_to_string(&mut rest).expect("text");
        let finished = Finished::from(self.child.wait_with_output().expect("it ended"));
        assert_eq!((finished.status, finished.stderr.as_str()), (Some(0), ""), "{rest}");
    }

    fn kill(mut self) {
        self.child.kill().expect("its own child");
        self.child.wait().expect("it ended");
    }
}

/// A project, its store, and what each run that is not forgotten must come back as.
struct Field {
    project: Project,
    runs: BTreeMap<String, Tree>,
}

/// Differs at its start, so that versions of it are worth a difference.
fn long_text(first: &str) -> String {
    let lines: String = (0..400).map(|n| format!("LIMIT_{n} = {}\n", n * n * 7919 % 10_007)).collect();
    format!("{first}\n{lines}")
}

impl Field {
    fn new() -> Self {
        let project = Project::with_code();
        project.run(["init"]).expect(0);
        Self { project, runs: BTreeMap::new() }
    }

    fn open(&self) -> Store {
        Store::open(&self.project.store()).expect("opens")
    }

    fn capture(&mut self, name: &str) {
        self.project.capture(name);
        self.captured(name);
    }

    /// Notes that a run of the project as it is now has returned.
    fn captured(&mut self, name: &str) {
        self.runs.insert(name.to_owned(), tree(&self.project.root()));
    }

    fn forget(&mut self, name: &str) {
        self.project.run(["forget", name]).expect(0);
        self.runs.remove(name);
    }

    /// Collects garbage; waits for nobody.
    fn gc(&self) -> Collected {
        let options = GcOptions { dry_run: false, patience: Duration::ZERO };
        let collected = gc(&self.open(), options, &()).expect("collected");
        assert_eq!(collected.problems, Vec::<String>::new());
        collected
    }

    /// Every run comes back byte for byte, and nothing is wrong with the store.
    #[track_caller]
    fn check(&self, what: &str) {
        let store = self.open();
        let runs = store.runs().expect("readable");
        assert_eq!((runs.problems.as_slice(), runs.len()), (&[][..], self.runs.len()), "{what}");
        for (name, files) in &self.runs {
            let run = runs.iter().find(|run| run.label() == *name).unwrap_or_else(|| panic!("{what}: {name} is lost"));
            let output = self.project.beside("restored");
            let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
            let restored = restore(&store, &run, &options, &()).unwrap_or_else(|e| panic!("{what}: {name}: {e}"));
            assert_eq!(restored.problems, Vec::<String>::new(), "{what}: {name}");
            assert!(tree(&output) == *files, "{what}: {name} came back with other files");
            std::fs::remove_dir_all(output).expect("removed");
        }
        let verified = verify(&store, true, &()).expect("verified");
        // Leftovers of the dead are noted, and no problem.
        assert_eq!(verified.problems, Vec::new(), "{what}");
    }

    /// With nobody else about, gc gives back all room and leaves nothing lying about.
    #[track_caller]
    fn end(&self, what: &str) {
        self.check(what);
        let collected = self.gc();
        assert_eq!(verify(&self.open(), true, &()).expect("verified").notes, Vec::<String>::new(), "{what}");
        assert_eq!((collected.waiting_packs, self.waste()), (0, 0), "{what}: {collected:?}");
        assert_eq!(self.project.store_files("tmp"), Vec::<PathBuf>::new(), "{what}");
        assert!(!self.project.store().join(CONDEMNED_PATH).exists(), "{what}");
        self.check(what);
    }

    /// Uncompressed bytes of objects that no run needs, or that are there twice.
    fn waste(&self) -> usize {
        let store = self.open();
        let runs = store.runs().expect("readable");
        let reached = store.reach(runs.iter().map(|run| run.start.snapshot), |_, _| true).expect("reached");
        assert!(reached.is_complete);
        let mut needed = std::collections::HashSet::new();
        for snapshot in &reached.snapshots {
            needed.insert((ObjectKind::Snapshot, snapshot.id.key()));
            needed.extend(snapshot.trees.iter().map(|tree| (ObjectKind::Tree, tree.id.key())));
            for file in &snapshot.files {
                let chunks = store.chunks_of(file.id, file.bytes).expect("readable");
                needed.extend(chunks.iter().map(|chunk| (ObjectKind::Chunk, chunk.id.key())));
                needed.insert((ObjectKind::ChunkList, file.id.key()));
            }
        }
        let is_waste = |object: &&runsnap::pack::Object| !needed.remove(&(object.kind, object.name.key()));
        let packs = store.catalog().packs();
        packs.iter().flat_map(|pack| &pack.objects).filter(is_waste).map(|object| object.bytes).sum()
    }
}

/// Where a capture can stand still, in the order in which it comes by.
const STOPS: [&str; 8] = [
    "lock writers/0",
    "locked writers/0",
    "read condemned.json",
    "have read condemned.json",
    "listed packs",
    "write tmp/0",
    "renamed packs/",
    "write runs/",
];

/// The content of a forgotten run comes back, as it was or a little different, in a capture that stands still while gc runs.
#[test]
fn a_capture_that_stands_still_while_garbage_goes() {
    for is_forgotten_before in [true, false] {
        for is_difference in [false, true] {
            for place in STOPS {
                let what = format!("{place}, difference: {is_difference}, forgotten before: {is_forgotten_before}");
                let mut field = Field::new();
                field.project.write("momentum/signal.py", long_text("kept"));
                field.capture("kept");
                field.project.write("momentum/signal.py", long_text("old"));
                field.project.write("momentum/other.py", "OTHER = 1\n".repeat(30));
                field.capture("old");
                if is_difference {
                    field.project.write("momentum/signal.py", long_text("not so old"));
                }
                if is_forgotten_before {
                    field.forget("old");
                }
                if !is_difference && ["write tmp/0", "renamed packs/"].contains(&place) {
                    // Something of its own, so that it writes a pack.
                    field.project.write("momentum/own.py", "OWN = 1\n");
                }
                let stopped = Stopped::start("capture", place, &field.project.store(), &field.project.root());
                if !is_forgotten_before {
                    field.forget("old");
                }
                field.gc();
                field.check(&what);
                field.gc();
                field.check(&what);
                stopped.finish();
                field.captured(LATE);
                field.end(&what);
            }
        }
    }
}

/// gc dies between any two of its operations on packs; the next capture and the next gc go on.
#[test]
fn a_gc_that_is_killed() {
    // Behind the segment and the mark of the journals' merge.
    let pack = after(2, "write tmp/maintenance");
    let places = [
        "write tmp/maintenance",
        &pack,
        "renamed packs/",
        "remove packs/",
        "removed packs/",
        "rename condemned.json",
        "renamed condemned.json",
        "rename config.json",
        "renamed config.json",
        "remove condemned.json",
    ];
    for place in places {
        for is_known_content in [true, false] {
            let mut field = Field::new();
            for name in ["old-1", "kept", "old-2"] {
                field.project.write("momentum/signal.py", long_text(name));
                field.capture(name);
            }
            let old = tree(&field.project.root());
            field.forget("old-1");
            field.forget("old-2");
            Stopped::start("gc", place, &field.project.store(), &field.project.root()).kill();
            field.check(place);
            if !is_known_content {
                field.project.write("momentum/signal.py", long_text("newer than old-2"));
            }
            field.capture("again");
            field.check(place);
            assert!(!is_known_content || field.runs["again"] == old);
            field.end(place);
        }
    }
}

/// gc dies while it deletes packs that are differences to one another: of those that are left some are good for nothing.
#[test]
fn a_gc_that_is_killed_halfway_through_a_chain() {
    let old = ["old-1", "old-2", "old-3", "old-4", "old-5"];
    // The pack of the run that stays goes first: it is in the new one.
    for removed in 1..=old.len() {
        for next in ["gc", "capture"] {
            let mut field = Field::new();
            field.capture("kept");
            for name in old {
                field.project.write("momentum/signal.py", long_text(name));
                field.capture(name);
            }
            let (last, signal) = (tree(&field.project.root()), Path::new("momentum/signal.py"));
            old.iter().for_each(|name| field.forget(name));
            let place = after(removed, "removed packs/");
            Stopped::start("gc", &place, &field.project.store(), &field.project.root()).kill();
            assert_eq!(field.project.store_files("packs").len(), 1 + old.len() - removed, "{place}");
            field.check(&place);
            if next == "capture" {
                // Content that only packs have that are to go, and packs enough for a merge.
                for n in 0..8 {
                    field.project.write("momentum/own.py", format!("OWN = {n}\n"));
                    field.capture(&format!("again-{n}"));
                    field.check(&place);
                }
                assert!(!field.project.store().join(CONDEMNED_PATH).exists(), "a merge has ended the deletion");
                assert_eq!(field.runs["again-0"].get(signal), last.get(signal));
            }
            field.end(&place);
        }
    }
}

/// What a half-deleted pack still has is nothing to rely on: `repair` takes it from there while it can.
#[test]
fn repair_keeps_nothing_in_packs_that_are_half_deleted() {
    let mut field = Field::new();
    field.capture("kept");
    let other = |n: usize| (format!("momentum/other_{n}.py"), format!("OTHER = {n}\n{}", long_text("other")));
    for n in 0..4 {
        field.project.write(other(n).0, other(n).1);
        field.project.write("momentum/signal.py", long_text(&format!("old-{n}")));
        field.capture(&format!("old-{n}"));
    }
    field.project.write("momentum/signal.py", long_text("last"));
    field.capture("last");
    (0..4).for_each(|n| field.forget(&format!("old-{n}")));
    // Two packs are in the new one with all that they have; the other four hold garbage as well.
    Stopped::start("gc", &after(3, "removed packs/"), &field.project.store(), &field.project.root()).kill();
    let storage = LocalStorage::new(field.project.store());
    let packs: Vec<(PathBuf, Pack)> = field
        .project
        .store_files("packs")
        .into_iter()
        .map(|file| {
            let path = format!("packs/{}", file.file_name().expect("a name").to_str().expect("UTF-8"));
            (file, Pack::open(&storage, &path).expect("opens"))
        })
        .collect();
    let (settled, left): (Vec<_>, Vec<_>) = packs.iter().partition(|(_, pack)| pack.tier == SETTLED_TIER);
    assert_eq!((settled.len(), left.len()), (1, 2), "the new one and two that were to go");
    let objects = left.iter().flat_map(|(_, pack)| &pack.objects);
    assert_eq!(
        objects.filter(|object| object.kind == ObjectKind::Chunk).count(),
        4,
        "an old version and another file in each"
    );
    // Nothing is to be found in the project, and the new pack is good for nothing.
    for n in 0..4 {
        std::fs::remove_file(field.project.root().join(other(n).0)).expect("removed");
    }
    let damaged = &settled[0].0;
    let mut bytes = std::fs::read(damaged).expect("readable");
    bytes[80] ^= 1;
    std::fs::write(damaged, bytes).expect("written");
    field.project.run(["repair"]);
    // Two of the four files are lost indeed.
    field.project.run(["gc"]);
    assert!(!field.project.store().join(CONDEMNED_PATH).exists());
    let store = field.open();
    let here = (0..4).filter(|n| store.object(ObjectKind::Chunk, ObjectId::of(other(*n).1.as_bytes())).is_ok());
    assert_eq!(here.count(), 2, "those that were left");
}

/// A second gc waits for the first, or says that it does not.
#[test]
fn two_gcs_at_once() {
    for place in ["renamed packs/", "renamed condemned.json", "remove packs/"] {
        let mut field = Field::new();
        for name in ["old", "kept"] {
            field.project.write("momentum/signal.py", long_text(name));
            field.capture(name);
        }
        field.forget("old");
        let first = Stopped::start("gc", place, &field.project.store(), &field.project.root());
        field.project.run(["gc", "--wait", "0"]).expect_line(1, &[".runsnap"]);
        field.check(place);
        let second = field.project.command(["gc"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
        first.finish();
        let second = Finished::from(second.expect("it starts").wait_with_output().expect("it ended")).expect(0);
        assert_eq!(second.stderr, "");
        field.end(place);
    }
}

fn chunk(text: &str) -> (ObjectId, Vec<u8>) {
    (ObjectId::of(text.as_bytes()), text.as_bytes().to_vec())
}

/// A version that is stored twice, alone and as a difference: the copy at a high position does not stand in for the one at a
/// low position, which another difference may need.
#[test]
fn a_copy_at_a_higher_chain_position_replaces_none() {
    for raises_positions in [false, true] {
        let field = Field::new();
        let versions: Vec<_> = (0..4).map(|n| chunk(&long_text(&format!("version {n}")))).collect();
        let store = field.open();
        let write = |number: usize, older: Option<usize>| {
            let mut writer = store.writer().expect("a slot");
            let (id, bytes) = versions[number].clone();
            writer.add_copy(ObjectKind::Chunk, id, bytes, older.map(|n| versions[n].0)).expect("added");
            writer.flush_objects().expect("written");
            let name = writer.new_packs()[0].clone();
            drop(writer);
            store.catalog().refresh().expect("listed");
            store.catalog().packs().into_iter().find(|pack| pack.name().starts_with(&name)).expect("there")
        };
        let low = write(1, None);
        let dependent = write(2, Some(1));
        write(0, None);
        let high = write(1, Some(0));
        let position = |pack: &Pack| pack.frames[0].chain_position;
        assert_eq!((position(&low), position(&dependent), position(&high)), (0, 1, 1));
        assert!(matches!(dependent.frames[0].prefix, Prefix::Anywhere(_)));

        let maintenance = store.maintenance(Duration::ZERO).expect("locked").expect("free");
        let options = CompactionOptions { level: 3, tier: SETTLED_TIER, keeps_unreached: true, raises_positions };
        let compacted =
            store.compact(&[low], &Reached::default(), maintenance.temporary(), options, &()).expect("done");
        maintenance.delete_replaced(&compacted.replaced).expect("deleted");
        drop(maintenance);
        let store = field.open();
        for (id, bytes) in &versions[..3] {
            assert_eq!(&store.file(*id, bytes.len() as u64).expect("readable"), bytes);
        }
    }
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// A capture that has chosen a base in a pack of which a first gc moved the content to other chain positions stands still
/// while a second gc comes by.
#[test]
fn a_capture_that_stands_still_through_two_gcs() {
    let mut field = Field::new();
    // So many long versions of a path do not fit into one frame, and the second is a difference to the first. The first
    // version that another project has of that path comes in later, and so to a higher position than it was captured at.
    let common = noise(99, 4_000_000);
    let version_of = |version: u64| [&noise(version, 10), &common[..]].concat();
    for version in 0..16 {
        field.project.write("data.csv", version_of(version));
        field.capture(&format!("version-{version}"));
    }
    field.gc();
    std::fs::remove_file(field.project.path("data.csv")).expect("there");
    // So much that the first gc takes the large pack in, and the second does not.
    field.project.write("table.csv", noise(1, 14_000_000));
    field.capture("table");
    let other = field.project.beside("other");
    std::fs::create_dir(&other).expect("new");
    let write = |version: u64| {
        std::fs::write(other.join("data.csv"), version_of(version)).expect("written");
    };
    let capture_other = |field: &mut Field, name: &str| {
        let mut options = CaptureOptions::new(Target::Tree(other.clone()));
        options.name = Some(name.to_owned());
        capture(&field.open(), &options, &()).expect("captured");
        field.runs.insert(name.to_owned(), tree(&other));
    };
    write(100);
    capture_other(&mut field, "other");
    write(101);
    let stopped = Stopped::start("capture", "write tmp/0", &field.project.store(), &other);
    assert_eq!(field.gc().waiting_packs, 1, "the one with the version that got another position");
    field.check("after one gc");
    field.gc();
    field.check("after two");
    stopped.finish();
    field.runs.insert(LATE.to_owned(), tree(&other));
    field.end("after all");
}

/// A pack of which no more is needed than what another pack's frames are differences to goes as well.
#[test]
fn room_comes_back_from_packs_that_others_are_differences_to() {
    let mut field = Field::new();
    field.project.write("momentum/signal.py", long_text("first"));
    field.project.write("table.csv", noise(1, 200_000));
    field.capture("first");
    field.gc();
    std::fs::remove_file(field.project.path("table.csv")).expect("there");
    field.project.write("momentum/signal.py", long_text("second"));
    field.capture("second");
    field.gc();
    field.forget("first");
    let before = field.gc().packs_bytes_before;
    assert!(before > 200_000, "{before}");
    field.end("forgotten");
}

/// What is in a pack that cannot be opened just now may be a difference to anything: nothing is taken for garbage.
#[test]
fn what_an_unreadable_pack_needs_stays() {
    let mut field = Field::new();
    field.project.write("momentum/signal.py", long_text("first"));
    field.capture("first");
    // A pack of content alone, as a capture that ended early leaves one: the trees are in that of the next capture.
    let ((first, _), (second, bytes)) = (chunk(&long_text("first")), chunk(&long_text("second")));
    let store = field.open();
    let mut writer = store.writer().expect("a slot");
    assert!(writer.add(ObjectKind::Chunk, second, bytes, Some(first)).expect("added"));
    writer.flush_objects().expect("written");
    let pack = field.project.store().join(format!("packs/{}.pack", writer.new_packs()[0]));
    drop(writer);
    field.project.write("momentum/signal.py", long_text("second"));
    field.capture("second");
    field.forget("first");
    let content = std::fs::read(&pack).expect("there");
    std::fs::write(&pack, &content[..content.len() - 1]).expect("cut");
    let collected = gc(&field.open(), GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("collected");
    assert!(!collected.problems.is_empty());
    std::fs::write(&pack, content).expect("mended");
    field.end("mended");
}
