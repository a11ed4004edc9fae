//! Many processes on one store at once: nobody waits, nobody fails, nothing is lost.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;

use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Finished, Project, Tree, tree};

const PROCESSES: u64 = 8;
const RUNS: u64 = 200;
/// Which worker a process is: its number, the store and the folder that the projects are in, a line each.
const WORKER: &str = "RUNSNAP_TEST_WORKER";

/// The files of a worker's project at its n-th run: some are the worker's own, some are the same for all workers.
fn files(worker: u64, run: u64) -> Tree {
    let edits = run / 4;
    let mut files = BTreeMap::from([
        ("pyproject.toml".to_owned(), "[project]\nname = \"sweep\"\n".to_owned()),
        ("strategy.py".to_owned(), format!("import common\nWORKER = {worker}\n")),
        ("momentum/__init__.py".to_owned(), String::new()),
        ("momentum/signal.py".to_owned(), format!("WINDOW = {edits}\n{}", format!("# {worker}\n").repeat(60))),
        ("common/__init__.py".to_owned(), format!("VERSION = {}\n{}", edits / 3, "# shared\n".repeat(60))),
    ]);
    if edits % 5 == 4 {
        files.insert(format!("common/extra_{}.py", edits / 5), format!("EXTRA = {}\n", edits / 5));
    }
    files.into_iter().map(|(path, text)| (PathBuf::from(path), ("file", text.into_bytes()))).collect()
}

/// Makes a folder hold these files and no others.
fn lay_out(root: &Path, files: &Tree) {
    let old = if root.exists() { tree(root) } else { Tree::new() };
    for path in old.keys().filter(|path| !files.contains_key(*path)) {
        fs::remove_file(root.join(path)).expect("removed");
    }
    for (path, (_, content)) in files {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("below")).expect("folders");
        if fs::read(&path).ok().as_ref() != Some(content) {
            // A new file: some file systems flush one that is cut to nothing and written again.
            let _ = fs::remove_file(&path);
            fs::write(path, content).expect("written");
        }
    }
}

fn run_name(worker: u64, run: u64) -> String {
    format!("w{worker}-{run}")
}

/// The worker and the number of a run's name.
fn numbers(name: &str) -> (u64, u64) {
    let (worker, run) = name.strip_prefix('w').and_then(|name| name.split_once('-')).expect("a run's name");
    (worker.parse().expect("a number"), run.parse().expect("a number"))
}

/// Not a test: what each process of `eight_processes_with_200_captures_each` does.
#[test]
#[ignore = "started by another test"]
fn worker() {
    let Ok(task) = std::env::var(WORKER) else { return };
    let [number, store, folder] = task.lines().collect::<Vec<_>>()[..] else { panic!("not a task: {task:?}") };
    let number: u64 = number.parse().expect("a number");
    let root = Path::new(folder).join(format!("project-{number}"));
    let store = Store::open(Path::new(store)).expect("opens");
    for run in 0..RUNS {
        lay_out(&root, &files(number, run));
        let mut options = CaptureOptions::new(Target::Tree(root.clone()));
        options.name = Some(run_name(number, run));
        options.sweep = Some(format!("sweep-{number}"));
        let captured = capture(&store, &options, &()).expect("captured");
        assert_eq!((captured.warnings, captured.has_problems), (Vec::new(), false));
    }
}

fn finished(child: Child) -> Finished {
    child.wait_with_output().expect("it ended").into()
}

/// Runs a command that succeeds and has nothing to say.
#[track_caller]
fn silently(mut command: Command) {
    let finished = Finished::from(command.output().expect("it starts")).expect(0);
    assert_eq!((finished.stdout, finished.stderr), (String::new(), String::new()));
}

/// Starts all, then waits for all.
fn at_once(commands: impl IntoIterator<Item = Command>) -> Vec<Finished> {
    let start = |mut command: Command| {
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts")
    };
    let children: Vec<Child> = commands.into_iter().map(start).collect();
    children.into_iter().map(finished).collect()
}

struct Folder {
    folder: tempfile::TempDir,
    project: Project,
}

impl Folder {
    /// A store, and an empty project from which to run commands on it.
    fn new() -> Self {
        let this = Self { folder: tempfile::tempdir().expect("a temporary folder"), project: Project::new() };
        this.run(&["init"]);
        this
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.project.command(arguments);
        command.arg("--store").arg(self.store());
        command
    }

    #[track_caller]
    fn run(&self, arguments: &[&str]) -> Finished {
        let finished = Finished::from(self.command(arguments).output().expect("it starts")).expect(0);
        assert_eq!(finished.stderr, "");
        finished
    }

    /// A capture of a worker's project at its n-th run.
    fn capture(&self, worker: u64, run: u64) -> Command {
        let root = self.folder.path().join(format!("project-{worker}"));
        lay_out(&root, &files(worker, run));
        let mut command = self.command(&["capture", "--quiet", "--run", &run_name(worker, run)]);
        command.arg("--tree").arg(root).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn count(&self, folder: &str) -> usize {
        fs::read_dir(self.store().join(folder)).expect("the folder is there").count()
    }

    fn listed(&self) -> Vec<Value> {
        let listed = self.run(&["list", "--json", "--all-projects"]).json();
        listed["runs"].as_array().expect("a list").clone()
    }

    #[track_caller]
    fn verify(&self) {
        let verified = self.run(&["verify", "--read-data", "--json"]).json();
        assert_eq!((&verified["problems"], &verified["notes"]), (&json!([]), &json!([])));
    }

    /// Restores every run and compares it with what its worker had.
    fn restore_all(&self) {
        let store = Store::open(&self.store()).expect("opens");
        let runs = store.runs().expect("readable");
        assert_eq!(runs.problems, []);
        for run in runs.iter() {
            let output = self.folder.path().join(run.label());
            let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
            let restored = restore(&store, &run, &options, &()).expect("restored");
            assert_eq!(restored.problems, Vec::<String>::new());
            let (worker, number) = numbers(&run.label());
            assert_eq!(tree(&output), files(worker, number), "{}", run.label());
            fs::remove_dir_all(output).expect("removed");
        }
    }
}

#[test]
fn eight_processes_with_200_captures_each() {
    let folder = Folder::new();
    let workers = (0..PROCESSES).map(|number| {
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "concurrency::worker", "--ignored"]);
        command.env(WORKER, format!("{number}\n{}\n{}", folder.store().display(), folder.folder.path().display()));
        command
    });
    for finished in at_once(workers) {
        assert_eq!(finished.clone().expect(0).stderr, "");
        assert!(finished.stdout.contains("1 passed"), "{}", finished.stdout);
    }

    let listed = folder.listed();
    assert_eq!(listed.len() as u64, PROCESSES * RUNS);
    let field = |name: &str| -> BTreeSet<&str> { listed.iter().map(|run| run[name].as_str().expect("text")).collect() };
    let expected: BTreeSet<String> = (0..PROCESSES).flat_map(|w| (0..RUNS).map(move |run| run_name(w, run))).collect();
    assert_eq!(field("name"), expected.iter().map(String::as_str).collect());
    assert_eq!(field("run").len(), listed.len());
    let versions: BTreeSet<Tree> = (0..PROCESSES).flat_map(|w| (0..RUNS).map(move |run| files(w, run))).collect();
    assert_eq!(field("snapshot").len(), versions.len());
    let sweeps = folder.run(&["list", "--sweeps", "--json", "--all-projects"]).json();
    let counts: Vec<u64> =
        sweeps["sweeps"].as_array().expect("a list").iter().filter_map(|s| s["runs"].as_u64()).collect();
    assert_eq!(counts, vec![RUNS; PROCESSES as usize]);

    // One journal and one slot for each writer, no pack without something new, and nothing left over.
    let processes = PROCESSES as usize;
    assert!(folder.count("runs") <= processes, "{} journals", folder.count("runs"));
    assert!(
        folder.count("writers") <= processes + 2,
        "{} slots with those of init and maintenance",
        folder.count("writers")
    );
    assert!(folder.count("packs") <= versions.len(), "{} packs for {} versions", folder.count("packs"), versions.len());
    assert_eq!(folder.count("tmp"), 0);
    folder.verify();
    folder.restore_all();
    println!("{} runs of {} versions by {PROCESSES} processes, all listed and restored", listed.len(), versions.len());
}

#[test]
fn eight_threads_of_one_shot_captures() {
    let folder = Folder::new();
    thread::scope(|scope| {
        for worker in 0..PROCESSES {
            let folder = &folder;
            scope.spawn(move || {
                (0..25).for_each(|run| silently(folder.capture(worker, run)));
            });
        }
    });
    let listed = folder.listed();
    assert_eq!(listed.len(), 200);
    let names: BTreeSet<&str> = listed.iter().filter_map(|run| run["name"].as_str()).collect();
    assert_eq!(names.len(), 200);
    assert!(folder.count("runs") <= 8);
    assert_eq!(folder.count("tmp"), 0);
    folder.verify();
    folder.restore_all();
}

/// Captures go on while gc, reindex, verify and list do, and none of these fails because of the others.
#[test]
fn maintenance_while_captures_go_on() {
    let folder = Folder::new();
    thread::scope(|scope| {
        let folder = &folder;
        let captures: Vec<_> = (0..4)
            .map(|worker| scope.spawn(move || (0..30).for_each(|run| silently(folder.capture(worker, 4 * run)))))
            .collect();
        while captures.iter().any(|capture| !capture.is_finished()) {
            folder.run(&["gc", "--quiet"]);
            folder.run(&["list"]);
            folder.run(&["verify"]);
            folder.run(&["reindex"]);
        }
    });
    assert_eq!(folder.listed().len(), 120);
    folder.run(&["gc"]);
    assert_eq!(folder.count("tmp"), 0);
    folder.verify();
    folder.restore_all();
}

/// Takes the lock of a file as a capture does, and keeps it.
fn hold(path: &Path) -> File {
    let file = File::options().write(true).create(true).truncate(false).open(path).expect("opens");
    file.lock().expect("locked");
    file
}

#[test]
fn held_slots_and_a_locked_index_keep_nobody_waiting() {
    let folder = Folder::new();
    let capture = |run: u64| silently(folder.capture(0, 4 * run));
    (0..3).for_each(capture);
    folder.run(&["gc"]);
    assert_eq!(
        (folder.count("runs"), folder.count("writers")),
        (2, 3),
        "a segment and the mark of merges; a slot, init and maintenance"
    );

    let slots = ["0000", "0001"].map(|slot| hold(&folder.store().join("writers").join(slot)));
    let index = rusqlite::Connection::open(folder.store().join("index.sqlite")).expect("opens");
    index.execute_batch("BEGIN EXCLUSIVE").expect("locked");
    // Each of these would hang here if it waited for any of the three locks. Over 32 packs the index is due as well.
    (3..40).for_each(capture);
    assert_eq!((folder.count("runs"), folder.count("writers")), (3, 5), "the third slot, with a journal of its own");
    assert_eq!(folder.listed().len(), 40);
    folder.run(&["show", "w0-0"]);
    folder.run(&["report"]);
    let collected = Finished::from(folder.command(&["gc"]).output().expect("it starts")).expect(0);
    assert!(collected.stderr.starts_with("warning: The index is not up to date"), "{}", collected.stderr);
    folder.restore_all();

    index.execute_batch("ROLLBACK").expect("unlocked");
    drop(slots);
    capture(40);
    assert_eq!(
        (folder.count("runs"), folder.count("writers")),
        (3, 5),
        "the first slot again, with a journal where gc left none"
    );
    folder.verify();
    folder.restore_all();
}

/// A capture that is stopped, wherever it is, holds up no other; and it goes on as if nothing had been.
#[test]
fn a_stopped_capture_holds_up_nobody() {
    let folder = Folder::new();
    for run in 0..40 {
        let stopped = folder.capture(0, 4 * run).spawn().expect("it starts");
        let id = Pid::from_child(&stopped);
        thread::sleep(std::time::Duration::from_micros(run * 397 % 12_000));
        kill_process(id, Signal::STOP).expect("its own child");
        silently(folder.capture(1, 4 * run));
        kill_process(id, Signal::CONT).expect("its own child");
        assert_eq!(finished(stopped).expect(0).stderr, "");
    }
    assert_eq!(folder.listed().len(), 80);
    folder.verify();
    folder.restore_all();
}

#[test]
fn processes_that_race_to_make_a_store_make_one() {
    for _ in 0..10 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (project, store) = (Project::new(), folder.path().join("deep/store"));
        let init = || {
            let mut command = project.command(["init", "--json", "--store"]);
            command.arg(&store);
            command
        };
        let made: Vec<Value> = at_once((0..6).map(|_| init())).into_iter().map(|made| made.expect(0).json()).collect();
        let ids: BTreeSet<&str> = made.iter().filter_map(|made| made["store"].as_str()).collect();
        assert_eq!(ids.len(), 1, "{made:?}");
        assert_eq!(made.iter().filter(|made| made["created"] == true).count(), 1, "{made:?}");
        assert_eq!(fs::read_dir(store.join("tmp")).expect("there").count(), 0);
    }
}

#[test]
fn first_captures_that_race_make_one_store() {
    for _ in 0..10 {
        let project = Project::with_code();
        let commands =
            (0..4).map(|n| project.command(["capture", "--tree", ".", "--json", "--run", &format!("first-{n}")]));
        let captured: Vec<Value> = at_once(commands).into_iter().map(|captured| captured.expect(0).json()).collect();
        assert!(
            captured.iter().all(|one| one["snapshot"] == captured[0]["snapshot"] && one["files"] == 7),
            "{captured:?}"
        );
        let listed = project.run(["list", "--json"]).expect(0).json();
        assert_eq!(listed["runs"].as_array().map(Vec::len), Some(4));
        project.run(["verify", "--read-data"]).expect(0);
    }
}

/// A name that is known is refused. Of captures that race for one, some may be refused and some may keep it; each that
/// returned 0 has its run, and a name that several have is ambiguous, never one of them in silence.
#[test]
fn captures_that_race_for_a_name() {
    let project = Project::with_code();
    let capture = |name: &str| project.command(["capture", "--tree", ".", "--json", "--run", name]);
    let mut total = 0;
    for round in 0..10 {
        let name = format!("same-{round}");
        let mut ids = BTreeSet::new();
        for finished in at_once((0..4).map(|_| capture(&name))) {
            if finished.status == Some(0) {
                ids.insert(finished.json()["run"].as_str().expect("an id").to_owned());
            } else {
                finished.expect_line(1, &[&name, "in the store already"]);
            }
        }
        assert!(!ids.is_empty(), "nobody was first");
        total += ids.len();
        let shown = project.run(["show", "--json", &name]);
        match ids.len() {
            1 => assert_eq!(shown.expect(0).json()["run"].as_str(), ids.first().map(String::as_str)),
            _ => drop(shown.expect_line(1, &ids.iter().map(String::as_str).chain(["ambiguous"]).collect::<Vec<_>>())),
        }
        for id in &ids {
            assert_eq!(&project.run(["show", "--json", id]).expect(0).json()["name"], &json!(name));
        }
        let refused = Finished::from(capture(&name).output().expect("it starts"));
        refused.expect_line(1, &[&name, "in the store already"]);
    }
    let listed = project.run(["list", "--json"]).expect(0).json();
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(total));
}
