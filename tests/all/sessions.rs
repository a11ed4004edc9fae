//! Sessions: many runs of one tree from one process.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use runsnap::Error;
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::forget::forget;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::session::{RunOptions, Session, SessionOptions};
use runsnap::store::Store;

use crate::support::{Project, bytes_read, tree};

/// Names the task of a process that this binary starts of itself.
const CAPTURER: &str = "RUNSNAP_TEST_SESSION";

fn open(store: &Path, root: &Path) -> Session {
    let options = SessionOptions {
        target: Target::Tree(root.to_owned()),
        include_secrets: false,
        environment: BTreeMap::new(),
        host: Some("here".to_owned()),
    };
    Session::open(Store::init(store).expect("a store").0, options).expect("a session")
}

fn named(name: impl Into<String>) -> RunOptions {
    RunOptions { name: Some(name.into()), ..RunOptions::default() }
}

#[test]
fn runs_of_a_session_are_runs_like_others() {
    let project = Project::with_code();
    let mut session = open(&project.store(), &project.root());
    for run in 0..300u64 {
        let options = RunOptions {
            name: Some(format!("run-{run:03}")),
            sweep: Some("grid".to_owned()),
            params: serde_json::Map::from_iter([("fast".to_owned(), run.into())]),
            tags: vec!["tuned".to_owned()],
            run: None,
            run_folder: (run % 100 == 0).then(|| project.beside(&format!("runs/{run}"))),
        };
        let captured = session.capture(&options).expect("captured");
        assert_eq!((captured.warnings, captured.has_problems), (Vec::<String>::new(), false));
        if run == 150 {
            project.write("momentum/signal.py", "WINDOW = 21\n");
        }
    }
    let statistics = session.statistics();
    assert_eq!((statistics.runs, statistics.changed, statistics.untrusted.as_deref()), (300, 1, None));
    assert!(statistics.notified >= 290, "{statistics:?}");
    drop(session);
    let listed = project.run(["list", "--sweep", "grid", "--json"]).expect(0).json();
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(300));
    assert_eq!(project.restored("run-299"), tree(&project.root()));
    assert_eq!(project.restored("run-150")[Path::new("momentum/signal.py")].1, b"WINDOW = 20\n");
    project.run(["verify", "--read-data"]).expect(0);
    let folder = project.beside("runs/200");
    assert_eq!(project.run(["show", folder.to_str().expect("UTF-8"), "--json"]).expect(0).json()["name"], "run-200");
    // What the session has seen serves the next capture.
    assert_eq!(project.capture("after")["new_bytes"], 0);
}

#[test]
fn names_are_refused_that_anybody_has() {
    let project = Project::with_code();
    project.capture("mine");
    let mut session = open(&project.store(), &project.root());
    let is_refused = |result| matches!(result, Err(Error::NameInUse { .. }));
    assert!(is_refused(session.capture(&named("mine"))));
    session.capture(&named("first")).expect("free");
    assert!(is_refused(session.capture(&named("first"))));
    assert!(matches!(session.capture(&named("not a name")), Err(Error::Usage(_))));
    project.run(["capture", "--tree", ".", "--run", "first"]).expect_line(1, &["first"]);
    // Another process's name is known once what is known of the store is renewed.
    project.capture("theirs");
    session.flush().expect("flushed");
    drop(session);
    let mut session = open(&project.store(), &project.root());
    assert!(is_refused(session.capture(&named("theirs"))));
}

#[test]
fn what_gc_removes_under_a_session_is_stored_again() {
    let project = Project::with_code();
    let mut session = open(&project.store(), &project.root());
    let first = session.capture(&named("first")).expect("captured");
    session.flush().expect("flushed");
    let store = Store::open(&project.store()).expect("opens");
    forget(&store, &BTreeSet::from([first.run])).expect("forgotten");
    // It waits for the session's slot, which is given back once the session rests.
    let collected =
        gc(&store, GcOptions { dry_run: false, patience: Duration::from_secs(10) }, &()).expect("collected");
    assert_eq!(collected.waiting_packs, 0, "{collected:?}");
    let second = session.capture(&named("second")).expect("captured");
    assert_eq!(second.snapshot, first.snapshot);
    drop(session);
    assert_eq!(project.restored("second"), tree(&project.root()));
    project.run(["verify", "--read-data"]).expect(0);
}

/// Of many sessions at once, those would get nowhere that read what the others have just recorded.
#[test]
fn who_has_a_state_reads_no_records_of_others() {
    let project = Project::with_code();
    let mut session = open(&project.store(), &project.root());
    let first = session.capture(&RunOptions::default()).expect("captured");
    // In the journal of another session, and not indexed, are far more bytes than the project has.
    let other = Project::with_code();
    let mut others = open(&project.store(), &other.root());
    for _ in 0..3000 {
        others.capture(&RunOptions::default()).expect("captured");
    }
    let journals = std::fs::read_dir(project.store().join("runs")).expect("lists");
    let recorded: u64 = journals.map(|file| file.and_then(|file| file.metadata()).expect("there").len()).sum();
    // The packs are others now: the session has to find out anew what is stored.
    let store = Store::open(&project.store()).expect("opens");
    session.flush().expect("flushed");
    gc(&store, GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("collected");
    project.write("momentum/signal.py", "WINDOW = 3\n");
    let before = bytes_read();
    let second = session.capture(&RunOptions::default()).expect("captured");
    let read = bytes_read() - before;
    assert_ne!(second.snapshot, first.snapshot);
    assert!(read < recorded / 2, "{read} bytes were read where {recorded} are in journals");
}

#[test]
fn two_sessions_and_a_command_share_a_store() {
    let project = Project::with_code();
    let mut sessions = [open(&project.store(), &project.root()), open(&project.store(), &project.root())];
    for run in 0..60 {
        project.write("momentum/signal.py", format!("WINDOW = {run}\n"));
        for (number, session) in sessions.iter_mut().enumerate() {
            session.capture(&named(format!("s{number}-{run}"))).expect("captured");
        }
        if run % 20 == 0 {
            project.capture(&format!("c-{run}"));
        }
    }
    drop(sessions);
    for run in [0, 31, 59] {
        for number in 0..2 {
            let restored = project.restored(&format!("s{number}-{run}"));
            assert_eq!(restored[Path::new("momentum/signal.py")].1, format!("WINDOW = {run}\n").as_bytes());
        }
    }
    project.run(["verify", "--read-data"]).expect(0);
}

/// A process of this binary that captures when it is told to, and says so.
fn capturer(store: &Path, root: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "sessions::capturer_process", "--ignored", "--nocapture"]);
    command.env(CAPTURER, format!("{}\n{}", store.display(), root.display()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts")
}

/// Not a test: captures a run for each line that it reads, and prints its name once that has returned.
#[test]
#[ignore = "started by other tests"]
fn capturer_process() {
    let Ok(task) = std::env::var(CAPTURER) else { return };
    let [store, root] = task.lines().collect::<Vec<_>>()[..] else { panic!("not a task: {task:?}") };
    let mut session = open(Path::new(store), Path::new(root));
    for line in std::io::stdin().lines() {
        let name = line.expect("readable");
        let captured = session.capture(&named(name.as_str())).expect("captured");
        println!("\ncaptured {name} {}", captured.snapshot);
    }
}

fn answer(output: &mut impl BufRead) -> String {
    loop {
        let mut line = String::new();
        assert!(output.read_line(&mut line).expect("readable") > 0, "it ended");
        if let Some(rest) = line.strip_prefix("captured ") {
            return rest.trim().to_owned();
        }
    }
}

#[test]
fn a_killed_session_loses_no_run_that_returned() {
    let project = Project::with_code();
    let store = project.store();
    let mut returned = Vec::new();
    for round in 0..4 {
        let mut child = capturer(&store, &project.root());
        let mut input = child.stdin.take().expect("piped");
        let mut output = BufReader::new(child.stdout.take().expect("piped"));
        for run in 0..25 {
            project.write("momentum/signal.py", format!("WINDOW = {}\n", round * 100 + run));
            writeln!(input, "r{round}-{run}").expect("it reads");
            returned.push((answer(&mut output), round * 100 + run));
        }
        child.kill().expect("killed");
        child.wait().expect("it ended");
    }
    for (answer, value) in returned {
        let (name, snapshot) = answer.split_once(' ').expect("name and snapshot");
        let shown = project.run(["show", name, "--json"]).expect(0).json();
        assert_eq!(shown["snapshot"], snapshot);
        let content = project.run(["cat", &format!("{name}:momentum/signal.py")]).expect(0).stdout;
        assert_eq!(content, format!("WINDOW = {value}\n"));
    }
    project.run(["verify", "--read-data"]).expect(0);
}

/// Rows of runs whose journals have become a segment leave no room behind in the index.
#[test]
fn gc_makes_the_index_as_small_as_a_new_one() {
    let project = Project::with_code();
    let mut session = open(&project.store(), &project.root());
    for number in 0..300 {
        session.capture(&named(format!("run-{number}"))).expect("captured");
    }
    drop(session);
    let bytes = || std::fs::metadata(project.store().join("index.sqlite")).expect("made").len();
    project.run(["reindex"]).expect(0);
    let full = bytes();
    project.run(["gc"]).expect(0);
    let collected = bytes();
    project.run(["reindex"]).expect(0);
    assert_eq!(collected, bytes());
    assert!(collected < full / 2, "{collected} of {full}");
}

/// Not a test: captures, forks, and captures on both sides.
#[cfg(target_os = "linux")]
#[test]
#[ignore = "started by other tests"]
#[allow(unsafe_code)]
fn forking_process() {
    let Ok(task) = std::env::var(CAPTURER) else { return };
    let [store, root] = task.lines().collect::<Vec<_>>()[..] else { panic!("not a task: {task:?}") };
    let root = Path::new(root);
    let mut session = open(Path::new(store), root);
    session.capture(&named("before")).expect("captured");
    // SAFETY: the child calls nothing but the session, the file system and `_exit`; its `alarm` ends it where it waits for a
    // thread that has stayed in the parent.
    let child = unsafe { libc::fork() };
    if child == 0 {
        unsafe { libc::alarm(60) };
        let mut captures = || {
            session.capture(&named("child-same")).ok()?;
            for number in 0..EDITED_BY_CHILD {
                std::fs::write(root.join(format!("momentum/part_{number}.py")), format!("PART = {number}\n")).ok()?;
            }
            session.capture(&named("child-edited")).ok()?;
            let mut own = open(Path::new(store), root);
            own.capture(&named("child-own")).ok()?;
            for number in 0..EDITED_BY_CHILD {
                std::fs::write(root.join(format!("momentum/part_{number}.py")), format!("PART = -{number}\n")).ok()?;
            }
            let mut options = CaptureOptions::new(Target::Tree(root.to_owned()));
            options.name = Some("child-alone".to_owned());
            capture(&Store::open(Path::new(store)).ok()?, &options, &()).ok()?;
            (session.statistics().forks == 1).then_some(())
        };
        let status = if captures().is_some() { 0 } else { 1 };
        drop(session);
        unsafe { libc::_exit(status) };
    }
    let mut status = 0;
    assert_eq!(unsafe { libc::waitpid(child, &mut status, 0) }, child);
    assert_eq!(status, 0, "the child failed, or waited for ever");
    session.capture(&named("parent-after")).expect("captured");
    assert_eq!(session.statistics().forks, 0);
    drop(session);
}

/// So many that they are read, and compressed, by several threads.
#[cfg(target_os = "linux")]
const EDITED_BY_CHILD: usize = 40;

/// The child has a journal, a watch and random numbers of its own, and takes no event from the parent.
#[cfg(target_os = "linux")]
#[test]
fn a_session_survives_a_fork() {
    let project = Project::with_code();
    // The first capture must have threads to divide its work among, which the child has not.
    for number in 0..EDITED_BY_CHILD {
        project.write(format!("momentum/part_{number}.py"), "PART = None\n");
    }
    let mut command = Command::new(std::env::current_exe().expect("this binary"));
    command.args(["--exact", "sessions::forking_process", "--ignored", "--nocapture"]);
    command.env(CAPTURER, format!("{}\n{}", project.store().display(), project.root().display()));
    let ended = command.output().expect("it runs");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let shown = |name: &str| project.run(["show", name, "--json"]).expect(0).json();
    let [before, same, edited, own, alone, after] =
        ["before", "child-same", "child-edited", "child-own", "child-alone", "parent-after"]
            .map(|name| shown(name)["snapshot"].clone());
    assert_eq!((&same, &own, &after), (&before, &edited, &alone));
    assert_ne!(before, edited);
    let random = |name: &str| shown(name)["run"].as_str().expect("an id")[16..].to_owned();
    assert_ne!(random("child-same"), random("parent-after"));
    assert_eq!(project.restored("parent-after"), tree(&project.root()));
    project.run(["verify", "--read-data"]).expect(0);
}

/// How many edits `no_edit_is_missed` makes; `RUNSNAP_EDITS` sets another number.
fn edits() -> u64 {
    std::env::var("RUNSNAP_EDITS").ok().and_then(|edits| edits.parse().ok()).unwrap_or(1_000)
}

/// Another process edits a file and says so; the very next capture has it.
#[test]
fn no_edit_is_missed() {
    let project = Project::with_code();
    let store = project.store();
    let mut session = open(&store, &project.root());
    session.capture(&RunOptions::default()).expect("captured");
    let script = "import sys\n\
        for line in sys.stdin:\n\
        \x20   with open('momentum/signal.py', 'r+') as f: f.write('WINDOW = %s\\n' % line.strip())\n\
        \x20   print(flush=True)\n";
    let mut editor = Command::new("python3");
    editor.args(["-c", script]).current_dir(project.root()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut editor = editor.spawn().expect("python3");
    let mut input = editor.stdin.take().expect("piped");
    let mut output = BufReader::new(editor.stdout.take().expect("piped"));
    let signal = runsnap::tracked_path::TrackedPath::from_bytes("momentum/signal.py").expect("a path");
    for edit in 0..edits() {
        writeln!(input, "{edit:06}").expect("it reads");
        output.read_line(&mut String::new()).expect("it has written");
        let captured = session.capture(&RunOptions::default()).expect("captured");
        let files = Store::open(&store).expect("opens").files_of(captured.snapshot).expect("stored");
        let expected = runsnap::id::ObjectId::of(format!("WINDOW = {edit:06}\n").as_bytes());
        let runsnap::snapshot::Entry::File { id, .. } = files.entries[&signal] else { panic!("not a file") };
        assert_eq!(id, expected, "edit {edit}");
    }
    drop(input);
    assert!(editor.wait().expect("it ends").success());
    let statistics = session.statistics();
    assert_eq!(statistics.untrusted, None);
    assert!(statistics.notified > statistics.looked_at, "{statistics:?}");
}

#[test]
fn an_entry_point_can_be_captured_in_a_session() {
    let project = Project::with_code();
    project.write("strategy.yaml", "files:\n  - momentum\n");
    let options = SessionOptions {
        target: Target::script(project.path("strategy.py")),
        include_secrets: false,
        environment: BTreeMap::new(),
        host: None,
    };
    let mut session = Session::open(Store::init(&project.store()).expect("a store").0, options).expect("a session");
    let first = session.capture(&named("first")).expect("captured");
    project.write("momentum/signal.py", "WINDOW = 3\n");
    let second = session.capture(&named("second")).expect("captured");
    assert_ne!(first.snapshot, second.snapshot);
    let alone = CaptureOptions::new(Target::script(project.path("strategy.py")));
    let fresh = capture(&Store::init(&project.beside("fresh")).expect("a store").0, &alone, &()).expect("captured");
    assert_eq!((second.snapshot, second.files), (fresh.snapshot, fresh.files));
    assert_eq!(second.entry_point, fresh.entry_point);
    assert!(session.statistics().untrusted.is_some(), "its files are looked at each time");
}
