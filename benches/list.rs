//! list: opening a store of a million runs, filtering and sorting them, and finding one of them.
//!
//! `RUNSNAP_BENCH_RUNS` sets another number of runs: to make a million takes minutes.

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use runsnap::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use runsnap::id::{ObjectId, RunId, random_bytes};
use runsnap::operations::find_run::find_run;
use runsnap::operations::gc::{GcOptions, gc};
use runsnap::operations::list::{ListOptions, list};
use runsnap::operations::run_filter::{Filter, parse_sort};
use runsnap::run_record::{FileStatus, Project, RunRecord, RunStart, RunUpdate, TrackedBy, now};
use runsnap::store::Store;
use runsnap::tracked_path::TrackedPath;
use serde_json::{Map, Value, json};
use support::Numbers;

/// The runs, unless the environment says otherwise.
const RUNS: u64 = 1_000_000;
/// Runs are recorded in batches of this many.
const BATCH: u64 = 500;

fn number_of_runs() -> u64 {
    let set = std::env::var("RUNSNAP_BENCH_RUNS").ok().and_then(|runs| runs.parse().ok());
    set.unwrap_or(RUNS).next_multiple_of(BATCH)
}

fn mapping(pairs: &[(&str, Value)]) -> Map<String, Value> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect()
}

/// The two records that a run with a metric leaves.
fn records(number: u64, numbers: &mut Numbers) -> [RunRecord; 2] {
    let (time, nanoseconds) = now();
    let run = RunId::new(nanoseconds, random_bytes());
    let (fast, slow) = (5 + numbers.below(20), 30 + numbers.below(90));
    let start = RunStart {
        run,
        time: time.clone(),
        name: Some(format!("run-{number:05}")),
        sweep: Some(format!("sweep-{}", number % 4)),
        snapshot: ObjectId::of(&(number / 100).to_le_bytes()),
        files: 350,
        bytes: 4_000_000,
        new_bytes: 0,
        packs: Vec::new(),
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
        statuses: Vec::new(),
        left_out: Vec::new(),
        data: Vec::new(),
        warnings: Vec::new(),
        params: mapping(&[("fast", json!(fast)), ("slow", json!(slow))]),
        metrics: Map::new(),
        tags: Vec::new(),
        outside: BTreeMap::new(),
        environment: BTreeMap::from([("runsnap".to_owned(), env!("CARGO_PKG_VERSION").to_owned())]),
        git_commit: Some("0123456789abcdef0123456789abcdef01234567".to_owned()),
        host: Some("host".to_owned()),
        run_folder: None,
        imported: None,
    };
    let metrics = mapping(&[("sharpe", json!(numbers.below(30_000) as f64 / 10_000.0))]);
    let update = RunUpdate { run, time, sequence: 0, metrics, tags: Vec::new() };
    [RunRecord::Start(Box::new(start)), RunRecord::Update(update)]
}

fn lists(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let (store, _) = Store::init(&folder.path().join("store")).expect("a new store");
    let mut numbers = Numbers(3);
    let count = number_of_runs();
    for batch in 0..count / BATCH {
        let records: Vec<RunRecord> = (0..BATCH).flat_map(|n| records(batch * BATCH + n, &mut numbers)).collect();
        store.writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
    }
    gc(&store, GcOptions { dry_run: false, patience: Duration::ZERO }, &()).expect("merged");
    let store = Store::open(&folder.path().join("store")).expect("opens");
    let mut group = criterion.benchmark_group("list");
    group.sampling_mode(SamplingMode::Flat);
    group.throughput(Throughput::Elements(count));

    group.bench_function("open all runs", |bencher| {
        bencher.iter(|| assert_eq!(store.runs().expect("readable").len() as u64, count));
    });

    let runs = store.runs().expect("readable");
    let options = ListOptions {
        filter: Some(Filter::parse("metrics.sharpe > 1.5 and params.fast < 20").expect("a filter")),
        sort: Some(parse_sort("-metrics.sharpe").expect("a key")),
        ..ListOptions::default()
    };
    group.bench_function("filter and sort", |bencher| {
        bencher.iter(|| assert!(!list(&store, &runs, &options).expect("listed").is_empty()));
    });

    group.bench_function("find by name", |bencher| {
        bencher.iter(|| find_run(&runs, "run-01234", None).expect("there").id());
    });
    group.finish();
}

criterion_group!(name = benches; config = support::criterion(); targets = lists);
criterion_main!(benches);
