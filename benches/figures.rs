//! figures: what docs/performance.md tells of many captures, each with one command.
//!
//! ```text
//! cargo bench --bench figures -- sessions
//! cargo bench --bench figures -- edits
//! cargo bench --bench figures -- processes
//! cargo bench --bench figures -- runs
//! ```
//!
//! Unlike the other benches these go on for a fixed number of captures, of which the slowest matter as well, and work on
//! the disk below `RUNSNAP_FIGURES` (or /var/tmp) rather than in memory.

// It prints what it finds, and ends with what goes wrong.
#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use runsnap::id::{RunId, random_bytes};
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::session::{RunOptions, Session, SessionOptions};
use runsnap::run_record::{RunRecord, RunStart, RunUpdate};
use runsnap::store::Store;
use serde_json::Map;

const RUNS: u64 = 100_000;
const FOLDER_RUNS: u64 = 2_000;
const EDITS: u64 = 10_000;
const PROCESSES: usize = 64;
const LASTING: Duration = Duration::from_secs(20);
/// Captures of each of two stores, in turn.
const TURNS: usize = 2_000;
const SESSION_TURNS: u64 = 20_000;

fn main() {
    // Cargo says that this is a bench; what it is told comes after that, or before.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| word != "--bench").collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["sessions"] => sessions(),
        ["edits"] => edits(),
        ["edit", file] => edit_when_told(Path::new(file)),
        ["processes"] => processes(),
        ["capture", store, tree] => capture_until_told(Path::new(store), Path::new(tree)),
        ["runs"] => runs(),
        // Without a word it is only compiled, as with all benches together.
        [] => println!("figures: say which: sessions, edits, processes or runs"),
        other => panic!("unknown: {other:?}"),
    }
}

/// A new folder on the disk. It stays: to remove many files makes it slow for a while to create new ones.
fn work() -> PathBuf {
    let base = std::env::var_os("RUNSNAP_FIGURES").map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from);
    let folder = base.join(format!("runsnap-figures-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder to work in");
    println!("in {}", folder.display());
    folder
}

/// A project of so many modules of some kilobytes, twenty in a folder.
fn make_tree(root: &Path, files: u64) {
    for number in 0..files {
        let folder = root.join(format!("package{:02}", number / 400)).join(format!("part{:03}", number / 20));
        if number % 20 == 0 {
            fs::create_dir_all(&folder).expect("made");
        }
        let lines = (0..200).map(|line| format!("value_{line} = {}\n", (number * 1_000_003 + line * 7919) % 99_991));
        fs::write(folder.join(format!("module{number:05}.py")), lines.collect::<String>()).expect("written");
    }
    // A file that has only just been written is read again each time.
    std::thread::sleep(Duration::from_millis(50));
}

fn open(store: &Path, tree: &Path) -> Session {
    let target = Target::Tree(tree.to_owned());
    let options = SessionOptions { target, include_secrets: false, environment: BTreeMap::new(), host: None };
    Session::open(Store::init(store).expect("a store").0, options).expect("a session")
}

fn run_options(number: u64, folder: Option<PathBuf>) -> RunOptions {
    let mut run = RunOptions { sweep: Some("grid".to_owned()), run_folder: folder, ..RunOptions::default() };
    run.params.insert("fast".to_owned(), (number % 50).into());
    run.params.insert("slow".to_owned(), (number / 50).into());
    run
}

/// Median, 99.9th percentile and maximum, in microseconds.
fn tell(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e6;
    let mean = times.iter().sum::<Duration>().as_secs_f64() * 1e6 / times.len() as f64;
    println!(
        "{what}: {} runs, median {:.1} us, 99.9th percentile {:.1} us, slowest {:.0} us, mean {mean:.1} us",
        times.len(),
        at(0.5),
        at(0.999),
        at(1.0)
    );
}

fn timed(session: &mut Session, run: &RunOptions) -> Duration {
    let begin = Instant::now();
    let captured = session.capture(run).expect("captured");
    let taken = begin.elapsed();
    assert!(!captured.has_problems, "{:?}", captured.warnings);
    taken
}

/// Runs of trees that do not change.
fn sessions() {
    let work = work();
    for files in [10, 356, 10_000] {
        let tree = work.join(format!("tree-{files}"));
        make_tree(&tree, files);
        let mut session = open(&work.join(format!("store-{files}")), &tree);
        timed(&mut session, &run_options(0, None));
        let times = (1..=RUNS).map(|number| timed(&mut session, &run_options(number, None))).collect();
        tell(&format!("{files} files"), times);
        if files == 356 {
            for (what, is_there) in [("with a run folder", true), ("with a run folder that is made", false)] {
                let (times, bare) = in_run_folders(&mut session, &work.join(format!("runs-{is_there}")), is_there);
                tell(&format!("{files} files, {what}"), times);
                tell("the same files, written without a run", bare);
            }
        }
        println!("{:?}", session.statistics());
    }
}

/// Runs with folders of their own below `base`, and by turns the bare system calls that put the same two files into another.
fn in_run_folders(session: &mut Session, base: &Path, is_there: bool) -> (Vec<Duration>, Vec<Duration>) {
    let folder = |kind: &str, number: u64| {
        let folder = base.join(format!("{number:06}-{kind}"));
        if is_there {
            // As the frameworks make it, for what a run leaves.
            fs::create_dir_all(folder.join("metadata")).expect("made");
        }
        folder
    };
    let first = folder("first", 0);
    timed(session, &run_options(FOLDER_RUNS, Some(first.clone())));
    let contents = ["backtest_metadata.json", "manifest.json"]
        .map(|name| (name, fs::read(first.join("metadata").join(name)).expect("written")));
    println!("of {:?} bytes:", contents.each_ref().map(|(_, content)| content.len()));
    let (mut times, mut bare) = (Vec::new(), Vec::new());
    for number in 0..FOLDER_RUNS {
        // Whoever comes second finds some of what it needs in the processor's caches.
        let mut captures = || times.push(timed(session, &run_options(number, Some(folder("run", number)))));
        let mut writes = || bare.push(write_bare(&folder("bare", number), &contents, is_there));
        if number % 2 == 0 {
            captures();
            writes();
        } else {
            writes();
            captures();
        }
    }
    (times, bare)
}

fn write_bare(folder: &Path, contents: &[(&str, Vec<u8>)], is_there: bool) -> Duration {
    let metadata = folder.join("metadata");
    let begin = Instant::now();
    if !is_there {
        fs::create_dir(folder).expect("made");
        fs::create_dir(&metadata).expect("made");
    }
    for (name, content) in contents {
        let temporary = metadata.join(format!("{name}.tmp"));
        fs::File::create_new(&temporary).expect("made").write_all(content).expect("written");
        fs::rename(&temporary, metadata.join(name)).expect("renamed");
    }
    begin.elapsed()
}

/// Another process edits a file, and says so; the run that is captured then must have the edit.
fn edits() {
    let work = work();
    let tree = work.join("tree");
    make_tree(&tree, 356);
    let file = tree.join("package00/part003/module00070.py");
    let mut session = open(&work.join("store"), &tree);
    let mut last = session.capture(&run_options(0, None)).expect("captured").snapshot;
    let mut other = Command::new(std::env::current_exe().expect("this program"))
        .args(["edit".as_ref(), file.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("started");
    let (mut tell_it, mut told) = (other.stdin.take().expect("a pipe"), other.stdout.take().map(BufReader::new));
    let (mut missed, mut times) = (0, Vec::new());
    for number in 1..=EDITS {
        writeln!(tell_it, "{number}").expect("told");
        let mut answer = String::new();
        told.as_mut().expect("a pipe").read_line(&mut answer).expect("answered");
        let begin = Instant::now();
        let snapshot = session.capture(&run_options(number, None)).expect("captured").snapshot;
        times.push(begin.elapsed());
        missed += u64::from(snapshot == last);
        last = snapshot;
    }
    drop(tell_it);
    other.wait().expect("ended");
    tell("after an edit", times);
    println!("{EDITS} edits, {missed} missed; {:?}", session.statistics());
    assert_eq!(missed, 0);
}

fn edit_when_told(file: &Path) {
    let content = fs::read_to_string(file).expect("there");
    for line in std::io::stdin().lines() {
        let number = line.expect("a number");
        // In place every other time, and by a rename as editors do it.
        let new = format!("{content}edit = {number:0>8}\n");
        if number.ends_with(['0', '2', '4', '6', '8']) {
            fs::write(file, new).expect("written");
        } else {
            fs::write(file.with_extension("tmp"), new).expect("written");
            fs::rename(file.with_extension("tmp"), file).expect("renamed");
        }
        println!("done");
    }
}

/// Processes that capture at once, against one alone: by the command and in sessions.
fn processes() {
    let work = work();
    let tree = work.join("tree");
    make_tree(&tree, 356);
    for (what, by) in [("commands", by_commands as fn(&Path, &Path, usize) -> Vec<u64>), ("sessions", by_sessions)] {
        let mut rates = Vec::new();
        for processes in [1, PROCESSES] {
            let store = work.join(format!("store-{what}-{processes}"));
            Store::init(&store).expect("a store");
            let mut counts = by(&store, &tree, processes);
            counts.sort_unstable();
            let total: u64 = counts.iter().sum();
            let found = Store::open(&store).and_then(|store| store.runs()).expect("readable").len() as u64;
            assert!(found >= total, "{found} of {total} runs are there");
            rates.push(total as f64 / LASTING.as_secs_f64());
            println!(
                "{what}, {processes} at once: {:.0} runs a second; of one at least {}, at most {}",
                total as f64 / LASTING.as_secs_f64(),
                counts[0],
                counts[counts.len() - 1]
            );
        }
        println!("{what}: {:.2} of the rate of one alone", rates[1] / rates[0]);
    }
}

fn by_commands(store: &Path, tree: &Path, processes: usize) -> Vec<u64> {
    let capture = || {
        Command::new(env!("CARGO_BIN_EXE_runsnap"))
            .args(["capture", "--quiet", "--store"])
            .args([store.as_os_str(), "--tree".as_ref(), tree.as_os_str()])
            .stdin(Stdio::null())
            .status()
            .is_ok_and(|status| status.success())
    };
    assert!(capture());
    let end = Instant::now() + LASTING;
    std::thread::scope(|scope| {
        let work = || {
            let mut count = 0;
            while Instant::now() < end {
                assert!(capture(), "a capture failed");
                count += 1;
            }
            count
        };
        let workers: Vec<_> = (0..processes).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("captured")).collect()
    })
}

fn by_sessions(store: &Path, tree: &Path, processes: usize) -> Vec<u64> {
    let start = |_| {
        Command::new(std::env::current_exe().expect("this program"))
            .args(["capture".as_ref(), store.as_os_str(), tree.as_os_str()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("started")
    };
    let mut workers: Vec<_> = (0..processes).map(start).collect();
    // All are ready before the first begins.
    let mut answers: Vec<_> =
        workers.iter_mut().map(|worker| BufReader::new(worker.stdout.take().expect("a pipe"))).collect();
    for answer in &mut answers {
        answer.read_line(&mut String::new()).expect("ready");
    }
    let mut pipes: Vec<_> = workers.iter_mut().map(|worker| worker.stdin.take().expect("a pipe")).collect();
    for pipe in &mut pipes {
        writeln!(pipe, "begin").expect("told");
    }
    std::thread::sleep(LASTING);
    drop(pipes);
    let count = |mut answer: BufReader<_>| {
        let mut line = String::new();
        answer.read_line(&mut line).expect("counted");
        line.trim().parse().expect("a number")
    };
    let counts = answers.into_iter().map(count).collect();
    assert!(workers.iter_mut().all(|worker| worker.wait().is_ok_and(|status| status.success())));
    counts
}

fn capture_until_told(store: &Path, tree: &Path) {
    let mut session = open(store, tree);
    session.capture(&run_options(0, None)).expect("captured");
    println!("ready");
    let mut input = BufReader::new(std::io::stdin());
    input.read_line(&mut String::new()).expect("told to begin");
    let (is_over, count) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                let number = count.fetch_add(1, Ordering::Relaxed);
                session.capture(&run_options(number, None)).expect("captured");
            }
        });
        input.read_line(&mut String::new()).expect("the end");
        is_over.store(true, Ordering::Relaxed);
    });
    println!("{}", count.into_inner());
}

/// A project with a store of so many runs, each of one snapshot and with a name, parameters and a metric, as `gc` leaves it.
fn make_runs(project: &Path, runs: u64) -> PathBuf {
    make_tree(project, 20);
    let (store, _) = Store::init(&project.join(".runsnap")).expect("a store");
    capture(&store, &CaptureOptions::new(Target::Tree(project.to_owned())), &()).expect("captured");
    let first = store.runs().expect("readable").iter().next().expect("a run").start;
    let mut at = 1_700_000_000_000_000_000u64;
    let mut records_of = |number: u64| {
        at += 400_000_000 + u64::from_le_bytes(random_bytes()) % 400_000_000;
        let run = RunId::new(at, random_bytes());
        let (name, params) = (Some(format!("run-{number:07}")), run_options(number, None).params);
        let time = jiff::Timestamp::from_microsecond((at / 1000) as i64).map(|time| format!("{time:.6}"));
        let time = time.expect("a time");
        let start = RunStart { run, time, name, params, packs: Vec::new(), new_bytes: 0, ..first.clone() };
        let metrics = Map::from_iter([("sharpe".to_owned(), (number as f64).sin().into())]);
        let update = RunUpdate { run, time: start.time.clone(), sequence: 0, metrics, tags: Vec::new() };
        [RunRecord::Start(Box::new(start)), RunRecord::Update(update)]
    };
    for batch in 0..runs / 1000 {
        let records: Vec<RunRecord> = (0..1000).flat_map(|number| records_of(batch * 1000 + number)).collect();
        store.writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
    }
    gc(&store, GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("collected");
    store.storage().root().to_owned()
}

/// Captures into a store of few runs and one of many, in turn: by the command, with a new name each and every
/// fourth after an edit, and in sessions. What they merge by the way is counted.
fn runs() {
    let work = work();
    let trees = [(1_000, "few"), (1_000_000, "many")].map(|(runs, name)| (runs, work.join(name)));
    let stores = trees.each_ref().map(|(runs, tree)| make_runs(tree, *runs));
    let trees = trees.map(|(_, tree)| tree);
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..TURNS {
        for place in [turn % 2, 1 - turn % 2] {
            let name = format!("figures-{turn}");
            if turn % 4 == 0 {
                let edited = trees[place].join("package00/part000/module00007.py");
                fs::write(edited, format!("edit = {turn}\n").repeat(100)).expect("edited");
            }
            let begin = Instant::now();
            let status = Command::new(env!("CARGO_BIN_EXE_runsnap"))
                .args(["capture", "--quiet", "--run", &name, "--store"])
                .args([stores[place].as_os_str(), "--tree".as_ref(), trees[place].as_os_str()])
                .stdin(Stdio::null())
                .status();
            assert!(status.is_ok_and(|status| status.success()));
            times[place].push(begin.elapsed());
        }
    }
    compare("commands", times);
    let mut sessions = [0, 1].map(|place| open(&stores[place], &trees[place]));
    let mut times = [Vec::new(), Vec::new()];
    for turn in 0..SESSION_TURNS {
        for (session, times) in sessions.iter_mut().zip(&mut times) {
            times.push(timed(session, &run_options(turn, None)));
        }
    }
    compare("sessions", times);
}

fn compare(what: &str, times: [Vec<Duration>; 2]) {
    let mean = |times: &[Duration]| times.iter().sum::<Duration>().as_secs_f64() / times.len() as f64;
    let median = |times: &[Duration]| {
        let mut times = times.to_vec();
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64()
    };
    let [few, many] = &times;
    println!(
        "{what}: many runs to few, of the medians {:.2}, of the means {:.2}",
        median(many) / median(few),
        mean(many) / mean(few)
    );
    let [few, many] = times;
    tell(&format!("{what}, few runs"), few);
    tell(&format!("{what}, many runs"), many);
}
