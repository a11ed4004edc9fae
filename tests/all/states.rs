//! What a capture has seen is kept for the next one: it must make that one quick, and must never make it miss a change.

use std::collections::BTreeSet;
use std::fs::{self, File, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use runsnap::id::ObjectId;
use runsnap::operations::capture::{CaptureOptions, Captured, Target, capture};
use runsnap::operations::forget::forget;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::session::{RunOptions, Session, SessionOptions};
use runsnap::store::Store;

use crate::support::{Project, bytes_read, time_passes, tree};

fn capture_into(store: &Path, root: &Path) -> Captured {
    let store = Store::init(store).expect("a store").0;
    capture(&store, &CaptureOptions::new(Target::Tree(root.to_owned())), &()).expect("captured")
}

#[test]
fn an_unchanged_file_is_not_read_and_a_changed_one_is() {
    let project = Project::with_code();
    let store = project.beside("store");
    let large = vec![7u8; 3 << 20];
    project.write("table.csv", &large);
    time_passes();
    let first = capture_into(&store, &project.root());
    let read_by = || {
        let before = bytes_read();
        let captured = capture_into(&store, &project.root());
        (captured, bytes_read() - before)
    };
    let (second, read) = read_by();
    assert_eq!((second.snapshot, second.new_bytes), (first.snapshot, 0));
    assert!(read < 1 << 20, "{read} bytes were read");
    // Its time alone: read once, and then it is known again.
    File::options()
        .write(true)
        .open(project.path("table.csv"))
        .expect("opens")
        .set_modified(SystemTime::UNIX_EPOCH)
        .expect("a time");
    time_passes();
    let (touched, read) = read_by();
    assert_eq!((touched.snapshot, touched.new_bytes), (first.snapshot, 0));
    assert!(read >= 3 << 20, "{read} bytes were read");
    assert!(read_by().1 < 1 << 20, "what was read was not kept");
    project.write("table.csv", &large[1..]);
    let (third, read) = read_by();
    assert_ne!(third.snapshot, first.snapshot);
    assert!(read >= 3 << 20, "{read} bytes were read");
}

/// The file in which it is kept what captures have seen.
fn state_of(store: &Path) -> PathBuf {
    let states = fs::read_dir(store.join("states")).expect("kept").map(|entry| entry.expect("readable").path());
    states.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "state")).expect("one")
}

#[test]
fn a_change_is_noted_behind_what_is_kept() {
    let project = Project::with_code();
    let store = project.beside("store");
    for number in 0..300 {
        project.write(format!("package/module{number}.py"), format!("NUMBER = {number}\n"));
    }
    time_passes();
    let first = capture_into(&store, &project.root());
    let kept = || {
        let metadata = state_of(&store).metadata().expect("there");
        (metadata.ino(), metadata.len())
    };
    let edit = |number: u32| {
        project.write("package/module7.py", format!("NUMBER = {}\n", 1_000_000 + number));
        time_passes();
        capture_into(&store, &project.root())
    };
    // The first comes with the version that it is a difference to, which is more than is noted.
    edit(1000);
    let (inode, whole) = kept();
    assert!(edit(0).new_bytes > 0);
    let (same, longer) = kept();
    assert_eq!(same, inode, "all of it was written again");
    assert!(longer > whole && longer < whole + whole / 4, "{whole} bytes became {longer}");
    // It does not grow for ever, and always leads to what is there.
    let mut lengths = vec![longer];
    for number in 1..40 {
        edit(number);
        lengths.push(kept().1);
    }
    assert!(lengths.iter().all(|length| *length < whole + whole / 2), "{lengths:?}");
    assert!(!lengths.is_sorted(), "it was never written anew");
    assert_eq!(edit(40).snapshot, capture_into(&project.beside("fresh"), &project.root()).snapshot);
    let before = bytes_read();
    assert_eq!(capture_into(&store, &project.root()).new_bytes, 0);
    assert!(bytes_read() - before < 3 * whole, "files were read again");
    project.write("package/module7.py", "NUMBER = 7\n");
    let back = capture_into(&store, &project.root());
    assert_eq!((back.snapshot, back.new_bytes), (first.snapshot, 0));
    assert_restorable(&store, back.snapshot, &project.root());
}

/// From some hundred files on a second thread helps to look.
#[test]
fn what_two_threads_see_is_all_that_has_changed() {
    let project = Project::with_code();
    let store = project.beside("store");
    let module = |number: u32| format!("package{}/module{number}.py", number % 7);
    for number in 0..1100 {
        project.write(module(number), format!("NUMBER = {number}\n"));
    }
    time_passes();
    let first = capture_into(&store, &project.root());
    let fresh = |number: u32| capture_into(&project.beside(&format!("fresh{number}")), &project.root()).snapshot;
    for (round, edited) in [&[0u32][..], &[1099], &[31, 32, 33], &[5, 95, 191, 512, 1090]].into_iter().enumerate() {
        for number in edited {
            project.write(module(*number), format!("NUMBER = {}\n", 1000 + round));
        }
        assert_eq!(capture_into(&store, &project.root()).snapshot, fresh(round as u32), "{edited:?}");
    }
    fs::remove_file(project.path(module(150))).expect("removed");
    project.write("package3/more.py", "MORE = 1\n");
    assert_eq!(capture_into(&store, &project.root()).snapshot, fresh(10));
    // A name that is taken is noticed beside the look, and costs nothing.
    let named = CaptureOptions { name: Some("one".into()), ..CaptureOptions::new(Target::Tree(project.root())) };
    let open = Store::init(&store).expect("a store").0;
    capture(&open, &named, &()).expect("captured");
    let taken = capture(&open, &named, &()).expect_err("taken");
    assert!(taken.to_string().contains("one"), "{taken}");
    assert_ne!(capture_into(&store, &project.root()).snapshot, first.snapshot);
}

/// An editor's file that came and went has changed the time of a folder: that its names are the same is found out once.
#[test]
fn a_folder_that_lists_as_before_is_listed_once() {
    for files in [3, 1100] {
        let project = Project::with_code();
        let store = project.beside("store");
        for number in 0..files {
            project.write(format!("package/module{number}.py"), format!("NUMBER = {number}\n"));
        }
        time_passes();
        capture_into(&store, &project.root());
        let kept = || fs::read(state_of(&store)).expect("there");
        let before = kept();
        project.write("package/module1.py~", "NUMBER = 1\n");
        fs::remove_file(project.path("package/module1.py~")).expect("removed");
        time_passes();
        capture_into(&store, &project.root());
        let noted = kept();
        assert_ne!(noted, before, "{files} files: it will be found out again");
        capture_into(&store, &project.root());
        assert_eq!(kept(), noted, "{files} files: something was found out again");
    }
}

#[test]
fn new_content_is_stored_without_a_look_into_packs() {
    let project = Project::with_code();
    let store = project.beside("store");
    let reads = || -> u64 {
        let text = fs::read_to_string("/proc/thread-self/io").expect("Linux tells");
        text.lines().find_map(|line| line.strip_prefix("syscr: ")).expect("it has that").parse().expect("a number")
    };
    let edit = |number: u32| {
        // Enough for a difference to be worth it.
        let lines: String = (0..60).map(|line| format!("value_{line} = {}\n", line * line)).collect();
        project.write("momentum/signal.py", format!("{lines}WINDOW = {number}\n"));
        time_passes();
        let before = reads();
        let captured = capture_into(&store, &project.root());
        assert!(captured.new_bytes > 0);
        (captured.snapshot, reads() - before)
    };
    let (old, _) = edit(1);
    for number in 2..5 {
        edit(number);
    }
    let (_, with_keys) = edit(5);
    fs::remove_file(store.join("states/packs")).expect("there");
    let (_, without_keys) = edit(6);
    // There are five packs then, and two reads of the list are saved.
    assert!(with_keys + 3 <= without_keys, "{with_keys} reads, and {without_keys} where nothing was known");
    assert!(edit(7).1 < without_keys, "what was read has been kept");
    let newest = project.path("momentum/signal.py");
    let text = fs::read_to_string(&newest).expect("there").replace("WINDOW = 7", "WINDOW = 1");
    fs::write(&newest, text).expect("written");
    let back = capture_into(&store, &project.root());
    assert_eq!((back.snapshot, back.new_bytes), (old, 0), "what is there is found");
}

/// What is kept so that nobody need read the journals for a name is never relied on.
#[test]
fn names_are_noted_where_the_next_capture_finds_them() {
    let project = Project::with_code();
    let store = Store::init(&project.beside("store")).expect("a store").0;
    let named = |name: &str| CaptureOptions {
        name: Some(name.to_owned()),
        ..CaptureOptions::new(Target::Tree(project.root()))
    };
    let record = |name: &str| capture(&store, &named(name), &()).map(|captured| captured.run);
    for number in 0..40 {
        record(&format!("run-{number}")).expect("captured");
    }
    let names = project.beside("store/states/names");
    let length = || fs::metadata(&names).expect("kept").len();
    let before = length();
    record("another").expect("captured");
    assert_eq!(length(), before + 40, "a note of 40 bytes");
    // A run without a name, and one whose name nobody has noted.
    capture(&store, &CaptureOptions::new(Target::Tree(project.root())), &()).expect("captured");
    let kept = fs::read(&names).expect("there");
    record("late").expect("captured");
    fs::write(&names, &kept).expect("written");
    let all_are_taken = || {
        let names = (0..40).map(|number| format!("run-{number}"));
        for name in names.chain(["another".to_owned(), "late".to_owned()]) {
            record(&name).expect_err("taken");
        }
    };
    all_are_taken();
    for damaged in [&kept[..kept.len() - 7], &kept[1..], &[]] {
        fs::write(&names, damaged).expect("written");
        all_are_taken();
    }
    fs::remove_file(&names).expect("there");
    all_are_taken();
    record("new").expect("captured");
    // The list is written anew once there are so many notes.
    let mut lengths = vec![length()];
    for number in 0..150 {
        record(&format!("many-{number}")).expect("captured");
        lengths.push(length());
    }
    assert!(!lengths.is_sorted(), "{lengths:?}");
    all_are_taken();
    gc(&store, GcOptions { dry_run: false, patience: Duration::from_secs(10) }, &()).expect("collected");
    assert!(!names.exists(), "there are no journals any more");
    all_are_taken();
}

#[test]
fn changes_within_a_tick_of_the_clock_are_seen() {
    let project = Project::with_code();
    let store = project.beside("store");
    for edit in 1000..1120 {
        // The same length each time, and mostly within one tick of the last look.
        project.write("momentum/signal.py", format!("WINDOW = {edit}\n"));
        let captured = capture_into(&store, &project.root());
        assert_eq!(captured.snapshot, capture_into(&project.beside("fresh"), &project.root()).snapshot, "{edit}");
        fs::remove_dir_all(project.beside("fresh")).expect("removed");
    }
}

#[test]
fn a_file_that_was_put_in_place_with_the_same_time_and_length_is_seen() {
    let project = Project::with_code();
    let store = project.beside("store");
    let path = project.path("momentum/signal.py");
    let old = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let put = |content: &str| {
        let beside = project.beside("new.py");
        fs::write(&beside, content).expect("written");
        File::options().write(true).open(&beside).expect("opens").set_modified(old).expect("a time");
        fs::rename(&beside, &path).expect("renamed");
    };
    put("WINDOW = 21\n");
    time_passes();
    let before = capture_into(&store, &project.root());
    put("WINDOW = 99\n");
    let after = capture_into(&store, &project.root());
    assert_ne!(after.snapshot, before.snapshot);
    // Written in place, and the time put back.
    time_passes();
    capture_into(&store, &project.root());
    fs::write(&path, "WINDOW = 77\n").expect("written");
    File::options().write(true).open(&path).expect("opens").set_modified(old).expect("a time");
    assert_ne!(capture_into(&store, &project.root()).snapshot, after.snapshot);
}

#[test]
fn content_that_gc_has_removed_is_stored_again() {
    let project = Project::with_code();
    let folder = project.beside("store");
    time_passes();
    let first = capture_into(&folder, &project.root());
    let store = Store::open(&folder).expect("opens");
    forget(&store, &BTreeSet::from([first.run])).expect("forgotten");
    gc(&store, GcOptions { dry_run: false, patience: Duration::from_secs(10) }, &()).expect("collected");
    assert!(Store::open(&folder).expect("opens").snapshot(first.snapshot).is_err(), "it was garbage");
    let again = capture_into(&folder, &project.root());
    assert!(again.new_bytes > 0);
    assert_restorable(&folder, again.snapshot, &project.root());
}

#[test]
fn a_damaged_state_is_no_state() {
    let project = Project::with_code();
    let store = project.beside("store");
    time_passes();
    let first = capture_into(&store, &project.root());
    let path = state_of(&store);
    let bytes = fs::read(&path).expect("readable");
    for place in (0..bytes.len()).step_by(7) {
        let mut flipped = bytes.clone();
        flipped[place] ^= 4;
        fs::write(&path, flipped).expect("written");
        assert_eq!(capture_into(&store, &project.root()).snapshot, first.snapshot, "byte {place}");
    }
}

/// Compares each file of a snapshot with the working tree.
#[track_caller]
fn assert_restorable(store: &Path, snapshot: ObjectId, root: &Path) {
    use runsnap::snapshot::Entry;
    let store = Store::open(store).expect("opens");
    let files = store.files_of(snapshot).expect("laid out");
    let expected = tree(root);
    assert_eq!(files.entries.len(), expected.len());
    for (path, entry) in &files.entries {
        let (_, content) = &expected[&path.to_path().expect("a path")];
        match entry {
            Entry::File { id, bytes, .. } => assert_eq!(store.file(*id, *bytes).expect("readable"), *content, "{path}"),
            Entry::Symlink { target } => assert_eq!(target, content, "{path}"),
        }
    }
}

/// Something that happens to a working tree.
#[derive(Debug, Clone)]
enum Happens {
    Write(usize, u8),
    Append(usize),
    Remove(usize),
    Rename(usize, usize),
    Replace(usize, u8),
    Execute(usize, bool),
    Link(usize, u8),
    Ignore(usize, u8),
    Environment(bool),
    RunFolder(bool),
    RemoveFolder(usize),
    TimePasses,
    ForgetAndCollect,
}

const FILES: [&str; 12] = [
    "main.py",
    "util.py",
    "a/one.py",
    "a/two.py",
    "a/b/three.py",
    "a/b/c/four.py",
    "d/five.py",
    "data.log",
    ".env",
    "a/key.txt",
    "d/e/six.py",
    "venv/lib.py",
];
const FOLDERS: [&str; 5] = ["a", "a/b", "d", "d/e", "venv"];
const IGNORES: [&str; 4] = [".gitignore", "a/.gitignore", ".runsnapignore", "../.gitignore"];
const RULES: [&str; 5] = ["", "*.log\n", ".gitignore\n*.txt\n", "b/\n", "*.py\n!main.py\n"];

fn happens() -> impl Strategy<Value = Happens> {
    let (file, folder) = (0..FILES.len(), 0..FOLDERS.len());
    prop_oneof![
        6 => (file.clone(), any::<u8>()).prop_map(|(f, b)| Happens::Write(f, b)),
        2 => file.clone().prop_map(Happens::Append),
        2 => file.clone().prop_map(Happens::Remove),
        1 => (file.clone(), file.clone()).prop_map(|(a, b)| Happens::Rename(a, b)),
        3 => (file.clone(), any::<u8>()).prop_map(|(f, b)| Happens::Replace(f, b)),
        1 => (file.clone(), any::<bool>()).prop_map(|(f, x)| Happens::Execute(f, x)),
        1 => (file, any::<u8>()).prop_map(|(f, b)| Happens::Link(f, b)),
        2 => (0..IGNORES.len(), 0..RULES.len() as u8).prop_map(|(f, r)| Happens::Ignore(f, r)),
        1 => any::<bool>().prop_map(Happens::Environment),
        1 => any::<bool>().prop_map(Happens::RunFolder),
        1 => folder.prop_map(Happens::RemoveFolder),
        4 => Just(Happens::TimePasses),
        1 => Just(Happens::ForgetAndCollect),
    ]
}

struct World {
    folder: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        let world = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        fs::create_dir_all(world.root().join("a/b")).expect("folders");
        // The project is a part of a git work tree, so that rules above it count.
        fs::create_dir(world.folder.path().join("work/.git")).expect("a folder");
        world.write("main.py", b"import a\n");
        world.write("a/one.py", b"ONE = 1\n");
        world
    }

    fn root(&self) -> PathBuf {
        self.folder.path().join("work/project")
    }

    fn write(&self, path: &str, content: &[u8]) {
        let path = self.root().join(path);
        let _ = fs::create_dir_all(path.parent().expect("it has a folder"));
        if path.is_symlink() {
            let _ = fs::remove_file(&path);
        }
        let _ = fs::write(path, content);
    }

    fn apply(&self, what: &Happens, store: &Path) {
        let at = |file: &usize| self.root().join(FILES[*file]);
        match what {
            Happens::Write(file, byte) => self.write(FILES[*file], format!("VALUE = {byte:3}\n").as_bytes()),
            Happens::Append(file) => {
                let mut content = fs::read(at(file)).unwrap_or_default();
                content.extend(b"more\n");
                self.write(FILES[*file], &content);
            }
            Happens::Remove(file) => drop(fs::remove_file(at(file))),
            Happens::Rename(from, to) => drop(fs::rename(at(from), at(to))),
            Happens::Replace(file, byte) => {
                let temporary = at(file).with_extension("new");
                if fs::write(&temporary, format!("VALUE = {byte:3}\n")).is_ok() {
                    let _ = fs::rename(&temporary, at(file));
                }
            }
            Happens::Execute(file, executable) => {
                let mode = if *executable { 0o755 } else { 0o644 };
                if !at(file).is_symlink() {
                    let _ = fs::set_permissions(at(file), Permissions::from_mode(mode));
                }
            }
            Happens::Link(file, byte) => {
                let _ = fs::remove_file(at(file));
                let _ = symlink(format!("target-{byte}"), at(file));
            }
            Happens::Ignore(file, rule) => {
                self.write(IGNORES[*file], RULES[usize::from(*rule)].as_bytes());
            }
            Happens::Environment(there) => {
                let marker = self.root().join("venv/pyvenv.cfg");
                let _ = if *there {
                    fs::create_dir_all(self.root().join("venv")).and_then(|()| fs::write(&marker, "home = /\n"))
                } else {
                    fs::remove_file(&marker)
                };
            }
            Happens::RunFolder(there) => {
                let manifest = self.root().join("d/metadata/manifest.json");
                if *there {
                    let _ = fs::create_dir_all(self.root().join("d/metadata"));
                    let _ = fs::write(&manifest, "{\"format\": \"runsnap-manifest\"}\n");
                } else {
                    let _ = fs::remove_file(&manifest);
                }
            }
            Happens::RemoveFolder(folder) => drop(fs::remove_dir_all(self.root().join(FOLDERS[*folder]))),
            Happens::TimePasses => time_passes(),
            Happens::ForgetAndCollect => {
                if let Ok(store) = Store::open(store) {
                    let runs: BTreeSet<_> = store.runs().expect("readable").iter().map(|run| run.start.run).collect();
                    forget(&store, &runs).expect("forgotten");
                    drop(store);
                    gc(
                        &Store::open(self.folder.path().join("store").as_path()).expect("opens"),
                        GcOptions { dry_run: false, patience: Duration::from_secs(10) },
                        &(),
                    )
                    .expect("collected");
                }
            }
        }
    }

    /// What a capture that knows nothing finds.
    fn fresh(&self, number: usize) -> Captured {
        capture_into(&self.folder.path().join(format!("fresh-{number}")), &self.root())
    }
}

fn said(captured: &Captured) -> (ObjectId, u64, u64, Vec<String>, BTreeSet<String>) {
    let left_out = captured.left_out.iter().map(|one| format!("{} {:?}", one.path, one.reason)).collect();
    (captured.snapshot, captured.files, captured.bytes, left_out, captured.warnings.iter().cloned().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, max_shrink_iters: 300, ..ProptestConfig::default() })]

    /// Whatever happens to a tree, a capture that goes by what the last one saw finds what one finds that knows nothing, and
    /// so does a session that goes by the kernel's word.
    #[test]
    fn what_was_seen_before_hides_nothing(steps in proptest::collection::vec(proptest::collection::vec(happens(), 0..4), 4..14)) {
        let world = World::new();
        let store = world.folder.path().join("store");
        let own = Store::init(&world.folder.path().join("session")).expect("a store").0;
        let options = SessionOptions {
            target: Target::Tree(world.root()), include_secrets: false, environment: Default::default(), host: None,
        };
        let mut session = Session::open(own, options).expect("a session");
        for (number, step) in steps.iter().enumerate() {
            for what in step {
                world.apply(what, &store);
            }
            let fresh = said(&world.fresh(number));
            let known = capture_into(&store, &world.root());
            prop_assert_eq!(said(&known), fresh.clone(), "step {}", number);
            if step.iter().any(|what| matches!(what, Happens::Ignore(3, _) | Happens::Environment(_) | Happens::RunFolder(_))) {
                // Of what is not in a tracked folder the kernel does not tell, and a session only learns in a moment.
                session.look_again();
            }
            let in_session = session.capture(&RunOptions::default()).expect("captured");
            prop_assert_eq!(said(&in_session), fresh, "session, step {}", number);
            let opened = Store::open(&store).expect("opens");
            let verified = runsnap::operations::verify::verify(&opened, true, &()).expect("verified");
            prop_assert_eq!(verified.problems, Vec::new(), "step {}", number);
        }
        drop(session);
        let opened = Store::open(&world.folder.path().join("session")).expect("opens");
        let verified = runsnap::operations::verify::verify(&opened, true, &()).expect("verified");
        prop_assert_eq!(verified.problems, Vec::new());
    }
}
