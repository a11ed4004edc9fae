//! A store with a million runs, really recorded and merged. Not part of the usual tests: it takes minutes. It makes the
//! store in the folder that `RUNSNAP_MILLION` names, so that commands can be measured on it afterwards:
//!
//! ```text
//! RUNSNAP_MILLION=/tmp/million cargo test --release --locked --test all million -- --ignored --nocapture
//! ```
//!
//! With `RUNSNAP_MILLION_RECORDED` it leaves the journals as they are, `RUNSNAP_MILLION_RUNS` sets how many runs, and with
//! `RUNSNAP_MILLION_NAMES` they have names.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use runsnap::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use runsnap::id::{ObjectId, RunId, random_bytes};
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::run_record::{FileStatus, Project, RunRecord, RunStart, RunUpdate, TrackedBy};
use runsnap::store::Store;
use runsnap::tracked_path::TrackedPath;
use serde_json::{Map, json};

const BATCH: u64 = 1000;

fn runs() -> u64 {
    std::env::var("RUNSNAP_MILLION_RUNS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000)
}

/// A number from 0 to 1 with all bits of a double's fraction.
fn fraction() -> f64 {
    (u64::from_le_bytes(random_bytes()) >> 11) as f64 / (1u64 << 53) as f64
}

fn records(number: u64, at: &mut u64, first: &RunStart) -> [RunRecord; 2] {
    let text = |nanoseconds: u64| {
        let time = jiff::Timestamp::from_microsecond((nanoseconds / 1000) as i64).expect("a time");
        format!("{time:.6}")
    };
    *at += 400_000_000 + u64::from_le_bytes(random_bytes()) % 400_000_000;
    let run = RunId::new(*at, random_bytes());
    // Drawn at random from a grid: no run tells anything of the next.
    let drawn = |count: u64| u64::from_le_bytes(random_bytes()) % count;
    let params = [
        ("fast", json!(5 + drawn(20))),
        ("slow", json!(30 + drawn(90))),
        ("stop", json!((1 + drawn(50)) as f64 / 1000.0)),
    ];
    let named = std::env::var_os("RUNSNAP_MILLION_NAMES").is_some();
    let start = RunStart {
        run,
        time: text(*at),
        name: named.then(|| format!("run-{number:07}")),
        params: params.into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
        ..first.clone()
    };
    let metrics = [("sharpe", json!(fraction() * 6.0 - 3.0)), ("drawdown", json!(-fraction()))];
    let metrics: Map<_, _> = metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    let later = *at + 200_000_000 + u64::from_le_bytes(random_bytes()) % 100_000_000;
    let update = RunUpdate { run, time: text(later), sequence: 0, metrics, tags: Vec::new() };
    [RunRecord::Start(Box::new(start)), RunRecord::Update(update)]
}

fn bytes_of(folder: &Path) -> (u64, u64) {
    let files =
        fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable").metadata().expect("there"));
    files.filter(|metadata| metadata.is_file()).fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.len()))
}

/// The most memory that this process has had, as Linux tells it.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM unknown").to_owned()
}

#[test]
#[ignore = "takes minutes"]
fn a_million_runs() {
    let temporary = tempfile::tempdir().expect("a temporary folder");
    let root = std::env::var_os("RUNSNAP_MILLION").map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    fs::create_dir_all(root.join("project")).expect("made");
    fs::write(root.join("project/pyproject.toml"), "[project]\nname = \"million\"\n").expect("written");
    fs::write(root.join("project/strategy.py"), "print('a strategy')\n").expect("written");
    let folder = root.join("project/.runsnap");
    let (store, _) = Store::init(&folder).expect("made");
    // A real capture, so that the snapshot is there.
    capture(&store, &CaptureOptions::new(Target::Tree(root.join("project"))), &()).expect("captured");
    let first = store.runs().expect("readable").iter().next().expect("a run").start;
    let first = RunStart {
        snapshot: first.snapshot,
        packs: Vec::new(),
        new_bytes: 0,
        project: Project { path: ".".to_owned(), root: "/home/user/project".to_owned() },
        entry_point: Some(EntryPoint {
            path: TrackedPath::from_bytes("strategy.py"),
            module: None,
            launcher: None,
            kind: EntryPointKind::Script,
            found_by: FoundBy::CommandLine,
            confidence: 1.0,
        }),
        tracked_by: TrackedBy::StrategyYaml,
        file_status: FileStatus::Unknown,
        sweep: Some("grid".to_owned()),
        environment: BTreeMap::from([
            ("python".to_owned(), "3.13.1".to_owned()),
            ("runsnap".to_owned(), "0.0.1".to_owned()),
        ]),
        git_commit: Some(ObjectId::of(b"commit").short(40)),
        host: Some("worker-1".to_owned()),
        ..first
    };
    let began = Instant::now();
    let mut at = 1_795_000_000_000_000_000;
    // A store that was recorded before is only merged.
    let is_recorded = bytes_of(&folder.join("runs")).1 > 1 << 20;
    for batch in (0..runs() / BATCH).take_while(|_| !is_recorded) {
        let records: Vec<RunRecord> = (0..BATCH).flat_map(|n| records(batch * BATCH + n, &mut at, &first)).collect();
        store.writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
    }
    let (files, bytes) = bytes_of(&folder.join("runs"));
    println!("recorded {} runs in {:.1?}: {files} journals, {bytes} bytes, {}", runs(), began.elapsed(), peak_memory());
    if std::env::var_os("RUNSNAP_MILLION_RECORDED").is_some() {
        return;
    }
    let began = Instant::now();
    let collected = gc(&store, GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("collected");
    println!("gc in {:.1?}, {}: {collected:?}", began.elapsed(), peak_memory());
    let store = Store::open(&folder).expect("opens");
    let (files, bytes) = bytes_of(&folder.join("runs"));
    let index = fs::metadata(folder.join("index.sqlite")).map(|metadata| metadata.len()).unwrap_or(0);
    println!("{files} files, {bytes} bytes: {:.2} a run; index {index} bytes", bytes as f64 / runs() as f64);
    assert!(store.runs().expect("readable").len() as u64 > runs());
}
