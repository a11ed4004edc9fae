//! A watcher keeps every state of a tree, captures it for others, and misleads nobody when it ends, hangs or is killed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::store::Store;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::support::{Finished, Project, RUNSNAP, tree};

/// A test that waits longer for something has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running watcher, which is killed when the test is over.
struct Watcher {
    child: Child,
    news: Receiver<Value>,
}

impl Watcher {
    /// Starts one, and waits until it answers.
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(["watch", "--json"]);
        let mut child = command.args(arguments).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let (sender, news) = channel();
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let _ = sender.send(serde_json::from_str(&line).expect("JSON"));
            }
        });
        let watcher = Self { child, news };
        while watcher.next().0 != "watching" {}
        watcher
    }

    /// What it tells of next, and of which run.
    fn next(&self) -> (String, Value) {
        let news = self.news.recv_timeout(PATIENCE).expect("it tells of something");
        let what = news["news"].as_str().expect("text").to_owned();
        let about = news[&what].clone();
        (what, about)
    }

    /// Waits until it has captured a change on its own account.
    #[track_caller]
    fn changed(&self) -> Value {
        let (what, captured) = self.next();
        assert_eq!(what, "changed", "{captured}");
        captured
    }

    /// Waits until it has answered.
    #[track_caller]
    fn answered(&self) -> Value {
        let (what, captured) = self.next();
        assert_eq!(what, "answered", "{captured}");
        captured
    }

    fn signal(&self, signal: Signal) {
        let process = Pid::from_raw(self.child.id().cast_signed()).expect("a process");
        kill_process(process, signal).expect("its own child");
    }

    /// Sends a signal and waits for the end; the exit status.
    fn end_by(&mut self, signal: Signal) -> Option<i32> {
        self.signal(signal);
        self.child.wait().expect("it ends").code()
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn capture_command(project: &Project, name: &str) -> Command {
    project.command(["capture", "--tree", ".", "--json", "--run", name])
}

/// How many runs have each name.
fn names(project: &Project) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    let listed = project.run(["list", "--json"]).expect(0).json();
    for run in listed["runs"].as_array().expect("a list") {
        *names.entry(run["name"].as_str().unwrap_or("").to_owned()).or_default() += 1;
    }
    names
}

fn files_in_watch(project: &Project, ending: &str) -> Vec<PathBuf> {
    let files = project.store_files("watch").into_iter();
    files.filter(|path| path.extension().is_some_and(|found| found == ending)).collect()
}

/// What a snapshot restores to.
fn restored(project: &Project, run: &Value) -> crate::support::Tree {
    project.restored(run["run"].as_str().expect("an id"))
}

#[test]
fn without_standard_files_it_takes_no_other_file_for_them() {
    let project = Project::with_code();
    project.run(["init"]).expect(0);
    let mut command = Command::new("sh");
    command.args(["-c", "exec \"$0\" watch <&- >&- 2>&-", RUNSNAP]).current_dir(project.root());
    let child = command.env_remove("RUNSNAP_STORE").spawn().expect("it starts");
    let mut watcher = Watcher { child, news: channel().1 };
    let begun = Instant::now();
    let folder = project.store().join("watch");
    while !folder.is_dir() || files_in_watch(&project, "sock").is_empty() {
        assert!(begun.elapsed() < PATIENCE, "it does not begin");
        thread::yield_now();
    }
    // What is opened next gets the first number that is free, and what is printed goes to numbers 1 and 2.
    for number in 0..3 {
        let file = fs::read_link(format!("/proc/{}/fd/{number}", watcher.child.id())).expect("open");
        assert_eq!(file, Path::new("/dev/null"), "{number}");
    }
    assert_eq!(watcher.end_by(Signal::TERM), Some(0));
}

#[test]
fn every_state_is_kept_once() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "20"]);
    let edits: [&dyn Fn(); 10] = [
        &|| project.write("momentum/signal.py", "WINDOW = 30\n"),
        &|| project.write("deep/er/new.py", "A = 1\n"),
        &|| project.write("deep/er/new.py", "A = 2\n"),
        &|| fs::rename(project.path("deep"), project.path("moved")).expect("renamed"),
        &|| project.write("moved/er/new.py", "A = 3\n"),
        &|| fs::set_permissions(project.path("strategy.py"), fs::Permissions::from_mode(0o755)).expect("chmod"),
        &|| fs::remove_file(project.path("latest.py")).expect("removed"),
        // As editors save: another file takes the name.
        &|| {
            fs::write(project.beside("saved.py"), "WINDOW = 40\n").expect("written");
            fs::rename(project.beside("saved.py"), project.path("momentum/signal.py")).expect("renamed");
        },
        &|| project.write(".gitignore", "moved/\n"),
        &|| fs::remove_file(project.path(".gitignore")).expect("removed"),
    ];
    for (number, edit) in edits.iter().enumerate() {
        edit();
        // One edit may be seen in two halves.
        let mut expected = without_cache(&project);
        if project.path(".gitignore").exists() {
            expected.retain(|path, _| !path.starts_with("moved"));
        }
        while restored(&project, &watcher.changed()) != expected {}
        // What changes nothing is no new state, nor is what is not part of a snapshot.
        project.write("strategy.py", fs::read(project.path("strategy.py")).expect("there"));
        project.write("__pycache__/strategy.pyc", number.to_string());
        // Once it has answered, it has nothing left to look at: the next edit alone makes it look.
        project.capture(&format!("quiet{number}"));
        watcher.answered();
    }
    project.write("moved/er/new.py", "A = 4\n");
    assert_eq!(restored(&project, &watcher.changed()), without_cache(&project));
    let own = project.run(["list", "--json", "--where", "tag = 'watch'"]).expect(0).json();
    let snapshots: Vec<&Value> = own["runs"].as_array().expect("a list").iter().map(|run| &run["snapshot"]).collect();
    assert!(snapshots.windows(2).all(|pair| pair[0] != pair[1]), "{snapshots:?}");
}

fn without_cache(project: &Project) -> crate::support::Tree {
    let mut files = tree(&project.root());
    files.retain(|path, _| !path.starts_with("__pycache__"));
    files
}

#[test]
fn a_tree_that_is_known_is_not_kept_again() {
    let project = Project::with_code();
    project.capture("before");
    drop(Watcher::start(&project, &[]));
    drop(Watcher::start(&project, &[]));
    assert_eq!(names(&project), BTreeMap::from([("before".to_owned(), 1)]));
}

#[test]
fn a_capture_has_what_was_written_just_before() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "60000"]);
    for number in 0..150 {
        let text = format!("WINDOW = {number}\n");
        project.write("momentum/signal.py", &text);
        if number % 10 == 0 {
            project.write(format!("new/{number}/rule.py"), &text);
        }
        let name = format!("n{number}");
        let folder = format!("runs/{name}");
        let mut command = capture_command(&project, &name);
        let captured =
            Finished::from(command.args(["--run-dir", &folder]).output().expect("it starts")).expect(0).json();
        // It may have looked by itself in between, if this took long.
        let answered =
            std::iter::repeat_with(|| watcher.next()).find(|(what, _)| what == "answered").expect("endless").1;
        assert_eq!(captured, answered);
        let store = Store::open(&project.store()).expect("a store");
        let files =
            store.files_of(captured["snapshot"].as_str().expect("text").parse().expect("an id")).expect("whole");
        let id = runsnap::id::ObjectId::of(text.as_bytes());
        let has = |path: &str| {
            let entry = files.entries.iter().find(|(file, _)| file.to_string() == path).map(|(_, entry)| entry);
            matches!(entry, Some(&runsnap::snapshot::Entry::File { id: found, .. }) if found == id)
        };
        assert!(has("momentum/signal.py"), "{number}");
        assert!(number % 10 != 0 || has(&format!("new/{number}/rule.py")), "{number}");
        assert!(project.path(folder).join("metadata/manifest.json").is_file());
    }
    assert_eq!(files_in_watch(&project, "cookie"), [] as [PathBuf; 0]);
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn many_clients_at_once_all_get_their_runs() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "0"]);
    for round in 0..4 {
        let clients: Vec<Child> = (0..12)
            .map(|number| {
                // The tree goes on changing under them.
                project.write("strategy.py", format!("NUMBER = {round}{number}\n"));
                spawn_capture(&project, &format!("n{round}-{number}"))
            })
            .collect();
        for client in clients {
            Finished::from(client.wait_with_output().expect("it ends")).expect(0);
        }
    }
    let names = names(&project);
    assert!((0..4).all(|round| (0..12).all(|number| names[&format!("n{round}-{number}")] == 1)), "{names:?}");
    assert!(watcher.news.try_iter().any(|news| news["news"] == "answered"));
    assert_eq!(files_in_watch(&project, "cookie"), [] as [PathBuf; 0]);
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn an_answer_says_what_a_capture_alone_would() {
    let project = Project::with_code();
    project.write(".env", "KEY=1\n");
    let arguments = ["capture", "--tree", ".", "--sweep", "s", "--param", "fast=0.1", "--tag", "t", "--json"];
    let alone = project.run(arguments).expect(0);
    let watcher = Watcher::start(&project, &[]);
    let asked = project.run(arguments).expect(0);
    watcher.answered();
    assert_eq!(alone.stderr, asked.stderr);
    let shown = |captured: &Finished| {
        let mut captured = captured.json();
        let mut shown = project.run(["show", "--json", captured["run"].as_str().expect("text")]).expect(0).json();
        for differs in ["run", "time", "new_bytes"] {
            captured[differs].take();
            shown[differs].take();
        }
        (captured, shown)
    };
    let (alone, asked) = (shown(&alone), shown(&asked));
    assert_eq!(alone.0, asked.0);
    // The packs that brought the content are named by the first of them.
    for key in ["name", "params", "tags", "sweep", "environment", "host", "files", "left_out", "warnings"] {
        assert_eq!(alone.1[key], asked.1[key], "{key}");
    }
}

#[test]
fn a_client_in_another_environment_gets_its_own() {
    let project = Project::with_code();
    fs::create_dir(project.beside("venv")).expect("a folder");
    fs::write(project.beside("venv/pyvenv.cfg"), "version = 3.99.1\n").expect("written");
    let watcher = Watcher::start(&project, &[]);
    let mut command = capture_command(&project, "a");
    let output = command.env("VIRTUAL_ENV", project.beside("venv")).output().expect("it starts");
    Finished::from(output).expect(0);
    watcher.answered();
    project.capture("b");
    watcher.answered();
    let python = |run| project.run(["show", "--json", run]).expect(0).json()["environment"]["python"].clone();
    assert_eq!((python("a"), python("b")), (json!("3.99.1"), Value::Null));
}

#[test]
fn a_capture_that_fails_fails_as_it_does_alone() {
    let project = Project::with_code();
    project.capture("a");
    let alone = project.run(["capture", "--tree", ".", "--run", "a"]);
    let watcher = Watcher::start(&project, &[]);
    assert_eq!(project.run(["capture", "--tree", ".", "--run", "a"]), alone.expect_line(1, &["\"a\" is in the store"]));
    project.capture("b");
    assert_eq!(watcher.answered()["name"], "b");
}

#[test]
fn other_trees_and_options_are_not_answered() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "60000"]);
    project.run(["capture", "--tree", "momentum"]).expect(0);
    project.run(["capture", "--tree", ".", "--include-secrets"]).expect(0);
    project.run(["capture", "strategy.py"]).expect(0);
    project.run(["init", "--store", "../other"]).expect(0);
    project.run(["capture", "--tree", ".", "--store", "../other"]).expect(0);
    // The same path, but another folder.
    fs::rename(project.root(), project.beside("moved")).expect("renamed");
    fs::create_dir(project.root()).expect("a folder");
    fs::rename(project.beside("moved/.runsnap"), project.store()).expect("renamed");
    project.write("other.py", "");
    let captured = project.capture("other");
    assert_eq!(captured["files"], 1);
    fs::remove_file(project.path("other.py")).expect("removed");
    fs::rename(project.store(), project.beside("moved/.runsnap")).expect("renamed");
    fs::remove_dir(project.root()).expect("removed");
    fs::rename(project.beside("moved"), project.root()).expect("renamed");
    project.capture("last");
    let news = std::iter::repeat_with(|| watcher.next()).find(|(what, _)| what == "answered").expect("endless").1;
    assert_eq!(news["name"], "last");
}

#[test]
fn a_watcher_whose_folder_goes_ends() {
    let project = Project::with_code();
    fs::create_dir(project.beside("elsewhere")).expect("a folder");
    project.run(["init", "--store", "../elsewhere/store"]).expect(0);
    let mut watcher = Watcher::start(&project, &["--store", "../elsewhere/store", "--debounce", "20"]);
    fs::rename(project.root(), project.beside("moved")).expect("renamed");
    assert_eq!(watcher.news.recv_timeout(PATIENCE), Err(RecvTimeoutError::Disconnected));
    assert_eq!(watcher.child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_second_watcher_is_refused() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &[]);
    let process = watcher.child.id().to_string();
    for arguments in [&["watch"][..], &["watch", "--include-secrets"]] {
        project.run(arguments).expect_line(1, &["Another process", &process, "watches"]);
    }
    project.capture("a");
    assert_eq!(watcher.answered()["name"], "a");
    // Another tree is another matter.
    drop(Watcher::start(&project, &["momentum"]));
}

#[test]
fn signals_end_it_cleanly() {
    let project = Project::with_code();
    for (signal, number) in [(Signal::TERM, 0), (Signal::INT, 1), (Signal::HUP, 2)] {
        let mut watcher = Watcher::start(&project, &["--debounce", "60000"]);
        let [socket] = files_in_watch(&project, "sock").try_into().expect("one socket");
        let metadata = fs::metadata(&socket).expect("there");
        assert!(metadata.file_type().is_socket());
        assert_eq!(metadata.permissions().mode() & 0o777, 0o600);
        project.write("strategy.py", format!("NUMBER = {number}\n"));
        project.capture(&format!("n{number}"));
        watcher.answered();
        // Nobody but the end makes it look at this one, of which it may not even have been told yet.
        project.write("strategy.py", format!("LAST = {number}\n"));
        assert_eq!(watcher.end_by(signal), Some(0));
        let last = watcher.changed();
        assert_eq!(restored(&project, &last), tree(&project.root()));
        let left = project.store_files("watch");
        assert!(left.iter().all(|path| path.extension().is_some_and(|ending| ending == "lock")), "{left:?}");
    }
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn after_a_kill_captures_go_on() {
    let project = Project::with_code();
    let mut watcher = Watcher::start(&project, &[]);
    watcher.end_by(Signal::KILL);
    assert_eq!(files_in_watch(&project, "sock").len(), 1);
    project.capture("alone");
    // The next one clears away what it has left, whatever its options.
    let watcher = Watcher::start(&project, &["--include-secrets"]);
    assert_eq!(files_in_watch(&project, "sock").len(), 1);
    drop(watcher);
    let watcher = Watcher::start(&project, &[]);
    project.capture("asked");
    assert_eq!(watcher.answered()["name"], "asked");
    assert_eq!(names(&project), BTreeMap::from([("", 1), ("alone", 1), ("asked", 1)].map(|(n, c)| (n.to_owned(), c))));
}

/// Numbers that are the same whenever the test runs.
fn random(state: &mut u64) -> u64 {
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
}

#[test]
fn killed_while_it_answers_it_costs_no_run_and_gives_none_twice() {
    let project = Project::with_code();
    let mut state = 0x5eed;
    for number in 0..40 {
        let mut watcher = Watcher::start(&project, &["--debounce", "60000"]);
        project.write("strategy.py", format!("NUMBER = {number}\n"));
        let name = format!("n{number}");
        let mut command = capture_command(&project, &name);
        let client =
            command.args(["--run-dir", &format!("runs/{name}")]).stdout(Stdio::piped()).spawn().expect("it starts");
        // Not to wait for anything: the kill is to come at any moment of the capture.
        thread::sleep(Duration::from_micros(random(&mut state) % 12_000));
        watcher.end_by(Signal::KILL);
        let captured = Finished::from(client.wait_with_output().expect("it ends")).expect(0).json();
        let shown = project.run(["show", &name, "--json"]).expect(0).json();
        assert_eq!(shown["run"], captured["run"]);
        let mut expected = tree(&project.root());
        expected.retain(|path, _| !path.starts_with("runs"));
        assert_eq!(restored(&project, &captured), expected);
        assert!(project.path(format!("runs/{name}/metadata/backtest_metadata.json")).is_file());
    }
    let names = names(&project);
    assert!((0..40).all(|number| names[&format!("n{number}")] == 1), "{names:?}");
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn stopped_before_it_answers_it_holds_nobody_up() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "60000"]);
    watcher.signal(Signal::STOP);
    project.run(["capture", "--tree", ".", "--tag", "alone"]).expect(0);
    assert_eq!(files_in_watch(&project, "cookie"), [] as [PathBuf; 0]);
    watcher.signal(Signal::CONT);
    project.capture("asked");
    assert_eq!(watcher.answered()["name"], "asked");
    assert_eq!(names(&project), BTreeMap::from([("", 2), ("asked", 1)].map(|(n, c)| (n.to_owned(), c))));
}

#[test]
fn stopped_at_any_moment_it_gives_no_run_twice() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "60000"]);
    let mut state = 0xfeed;
    for number in 0..12 {
        project.write("strategy.py", format!("NUMBER = {number}\n"));
        let name = format!("n{number}");
        let client =
            capture_command(&project, &name).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        thread::sleep(Duration::from_micros(random(&mut state) % 12_000));
        watcher.signal(Signal::STOP);
        let finished = Finished::from(client.wait_with_output().expect("it ends"));
        watcher.signal(Signal::CONT);
        // An answer by the watcher comes after all that it was asked for before.
        project.capture(&format!("after{number}"));
        let count = names(&project).get(&name).copied();
        match finished.status {
            Some(0) => assert_eq!(count, Some(1), "{finished:?}"),
            _ => assert!(
                count.unwrap_or_default() <= 1,
                "{:?}",
                finished.expect_line(1, &["was stopped while it captured"])
            ),
        }
    }
}

/// Stands in for a watcher that dies or hangs at a certain moment.
struct Impostor {
    listener: UnixListener,
    folder: PathBuf,
}

impl Impostor {
    fn new(project: &Project) -> Self {
        Watcher::start(project, &[]).end_by(Signal::KILL);
        let [socket] = files_in_watch(project, "sock").try_into().expect("one socket");
        fs::remove_file(&socket).expect("removed");
        Self { listener: UnixListener::bind(&socket).expect("bound"), folder: project.store().join("watch") }
    }

    /// Reads a request, and takes the client's cookie as a watcher does that has begun.
    fn accept(&self) -> (UnixStream, Value) {
        let (mut stream, _) = self.listener.accept().expect("a client");
        let mut length = [0; 4];
        stream.read_exact(&mut length).expect("a length");
        let mut request = vec![0; u32::from_le_bytes(length) as usize];
        stream.read_exact(&mut request).expect("a request");
        (stream, serde_json::from_slice(&request).expect("JSON"))
    }

    fn begin(&self) {
        let cookies = fs::read_dir(&self.folder).expect("readable").map(|entry| entry.expect("readable").path());
        let cookie = cookies.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "cookie"));
        fs::remove_file(cookie.expect("a cookie")).expect("removed");
    }
}

fn spawn_capture(project: &Project, name: &str) -> Child {
    let mut command = capture_command(project, name);
    command
        .args(["--run-dir", &format!("runs/{name}")])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts")
}

#[track_caller]
fn check_once(project: &Project, client: Child, name: &str) -> Value {
    let captured = Finished::from(client.wait_with_output().expect("it ends")).expect(0).json();
    assert_eq!(names(project)[name], 1);
    assert_eq!(project.run(["show", name, "--json"]).expect(0).json()["run"], captured["run"]);
    assert!(project.path(format!("runs/{name}/metadata/manifest.json")).is_file());
    assert!(project.path(format!("runs/{name}/metadata/backtest_metadata.json")).is_file());
    project.run(["verify", "--read-data"]).expect(0);
    captured
}

#[test]
fn a_watcher_that_dies_before_or_after_it_has_begun_is_replaced() {
    let project = Project::with_code();
    let impostor = Impostor::new(&project);
    for (name, has_begun) in [("before", false), ("begun", true)] {
        let client = spawn_capture(&project, name);
        let (stream, request) = impostor.accept();
        if has_begun {
            impostor.begin();
        }
        drop(stream);
        let captured = check_once(&project, client, name);
        // Where it is not known whether the watcher has captured it, the id is what tells.
        assert_eq!(captured["run"] == request["run"], has_begun);
    }
}

#[test]
fn a_run_that_a_watcher_has_captured_before_it_died_is_found() {
    let project = Project::with_code();
    let impostor = Impostor::new(&project);
    let client = spawn_capture(&project, "a");
    let (stream, request) = impostor.accept();
    impostor.begin();
    let run = request["run"].as_str().expect("text").parse().expect("an id");
    let options = CaptureOptions {
        run: Some(run),
        name: Some("a".into()),
        run_folder: Some(project.path("runs/a")),
        ..CaptureOptions::new(Target::Tree(project.root()))
    };
    let captured = capture(&Store::open(&project.store()).expect("a store"), &options, &()).expect("captured");
    // It has not come to these any more.
    fs::remove_dir_all(project.path("runs/a")).expect("removed");
    drop(stream);
    let found = check_once(&project, client, "a");
    assert_eq!(found, serde_json::to_value(captured).expect("JSON"));
}

#[test]
fn a_watcher_that_cannot_is_taken_at_its_word() {
    let project = Project::with_code();
    let impostor = Impostor::new(&project);
    for (name, answer) in [("declined", json!({ "declined": "no" })), ("failed", json!("failed"))] {
        let client = spawn_capture(&project, name);
        let (mut stream, _) = impostor.accept();
        if name == "failed" {
            impostor.begin();
        }
        let answer = answer.to_string();
        stream.write_all(&(answer.len() as u32).to_le_bytes()).expect("sent");
        stream.write_all(answer.as_bytes()).expect("sent");
        check_once(&project, client, name);
        assert_eq!(files_in_watch(&project, "cookie"), [] as [PathBuf; 0]);
    }
}

#[test]
fn an_answer_that_is_nonsense_is_none() {
    let project = Project::with_code();
    let impostor = Impostor::new(&project);
    for (number, answer) in
        [&b"\xff\xff\xff\xff"[..], b"\x02\0\0\0{}", b"\x04\0\0\0\xff\xff\xff\xff"].iter().enumerate()
    {
        let name = format!("n{number}");
        let client = spawn_capture(&project, &name);
        let (mut stream, _) = impostor.accept();
        stream.write_all(answer).expect("sent");
        check_once(&project, client, &name);
    }
}

#[test]
fn a_watcher_that_is_stopped_while_it_captures_is_told_of() {
    let project = Project::with_code();
    drop(Impostor::new(&project));
    let script = r"
import os, signal, socket, sys
folder, name = os.path.split(sys.argv[1])
os.chdir(folder)
os.remove(name)
listener = socket.socket(socket.AF_UNIX)
listener.bind(name)
listener.listen()
print('listening', flush=True)
client, _ = listener.accept()
client.recv(1 << 20)
os.remove(next(file for file in os.listdir('.') if file.endswith('.cookie')))
os.kill(os.getpid(), signal.SIGSTOP)
";
    let [socket] = files_in_watch(&project, "sock").try_into().expect("one socket");
    let mut command = Command::new("python3");
    let mut child = command.arg("-c").arg(script).arg(&socket).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("a line");
    let impostor = Watcher { child, news: channel().1 };
    let process = format!("process {},", impostor.child.id());
    let finished = project.run(["capture", "--tree", ".", "--run", "a"]);
    finished.expect_line(1, &[&process, "was stopped while it captured this run", "let it go on or end it"]);
    drop(impostor);
    assert_eq!(names(&project).get("a"), None);
}

#[test]
fn garbage_on_the_socket_is_put_up_with() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &[]);
    let [socket] = files_in_watch(&project, "sock").try_into().expect("one socket");
    let connect = || UnixStream::connect(&socket).expect("somebody listens");
    let message = |json: &str| [&(json.len() as u32).to_le_bytes()[..], json.as_bytes()].concat();
    // As from another container, where the root's path leads to another folder.
    let elsewhere = json!({
        "version": 1, "runsnap": env!("CARGO_PKG_VERSION"), "root": project.root(), "device": 1, "inode": 1, "include_secrets": false,
        "run": "00".repeat(16), "name": "a", "sweep": null, "params": {}, "tags": [], "run_folder": null,
        "environment": {}, "host": null,
    });
    let mut declined = Vec::new();
    for bytes in [
        Vec::new(),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 5000],
        vec![0; 4],
        message("{\"version\":1}")[..9].to_vec(),
        message("{\"version\":2,\"new\":true}"),
        message("{\"version\":1}"),
        message(&"[".repeat(100_000)),
        message(&elsewhere.to_string()),
    ] {
        let mut stream = connect();
        // Whoever listens may have hung up on what came first.
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        declined.extend(answer.get(4..).map(|json| serde_json::from_slice::<Value>(json).expect("JSON")));
    }
    let reasons: Vec<&str> = declined.iter().map(|answer| answer["declined"].as_str().expect("a reason")).collect();
    assert_eq!(reasons.len(), 5, "{reasons:?}");
    assert!(reasons.contains(&"another tree"), "{reasons:?}");
    assert!(reasons.contains(&"version 2 of the protocol, not 1"), "{reasons:?}");
    // One that says nothing does not keep others waiting for long.
    let silent = connect();
    project.capture("a");
    assert_eq!(watcher.answered()["name"], "a");
    drop(silent);
}

#[test]
fn a_store_with_a_long_path_has_a_watcher_too() {
    let project = Project::with_code();
    let folder = Path::new("..").join("long".repeat(30)).join("store");
    fs::create_dir_all(project.path(&folder)).expect("folders");
    let store = folder.to_str().expect("text");
    project.run(["init", "--store", store]).expect(0);
    let watcher = Watcher::start(&project, &["--store", store]);
    project.run(["capture", "--tree", ".", "--store", store, "--run", "a"]).expect(0);
    assert_eq!(watcher.answered()["name"], "a");
}

#[test]
fn its_own_runs_are_neither_the_latest_nor_savings() {
    let project = Project::with_code();
    project.capture("first");
    project.write("strategy.py", "VERSION = 2\n");
    project.capture("second");
    let before = project.run(["report", "--json"]).expect(0).json();
    let watcher = Watcher::start(&project, &["--debounce", "20"]);
    project.write("strategy.py", "VERSION = 3\n");
    watcher.changed();
    let latest = |text| project.run(["show", text, "--json"]).expect(0).json()["name"].clone();
    assert_eq!((latest("latest"), latest("latest~1")), (json!("second"), json!("first")));
    let report = project.run(["report", "--json"]).expect(0).json();
    for key in ["runs", "snapshots", "logical_bytes", "sweeps"] {
        assert_eq!(report[key], before[key], "{key}");
    }
    // With a name or another tag a run is somebody's.
    project.run(["capture", "--tree", ".", "--run", "third", "--tag", "watch"]).expect(0);
    assert_eq!(latest("latest"), json!("third"));
    // And they can be told from all others, to be forgotten.
    project.run(["forget", "--where", "tag = 'watch'", "--keep-within", "1000d"]).expect(0);
    assert_eq!(names(&project)[""], 1);
    project.run(["forget", "--where", "tag = 'watch' and snapshot != 'none'"]).expect(0);
    assert!(!names(&project).contains_key(""));
}

#[test]
fn maintenance_goes_on_beside_it() {
    let project = Project::with_code();
    let watcher = Watcher::start(&project, &["--debounce", "60000"]);
    for number in 0..20 {
        project.write("strategy.py", format!("NUMBER = {number}\n"));
        project.capture(&format!("n{number}"));
        watcher.answered();
        if number % 5 == 4 {
            project.run(["forget", &format!("n{}", number - 1)]).expect(0);
            project.run(["gc"]).expect(0);
            project.run(["reindex"]).expect(0);
        }
    }
    project.run(["repair"]).expect(0);
    project.run(["verify", "--read-data"]).expect(0);
    assert_eq!(project.restored("n19"), tree(&project.root()));
}
