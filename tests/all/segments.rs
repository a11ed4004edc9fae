//! Runs in segments: whatever is merged when, every record means what it meant in its journal.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use runsnap::id::{ObjectId, RunId, StoreId};
use runsnap::journal::{JournalWriter, encode_record};
use runsnap::operations::find_run::find_run;
use runsnap::operations::list::{ListOptions, list, list_sweeps};
use runsnap::operations::run_filter::{Filter, parse_sort};
use runsnap::operations::verify::{Problem, verify};
use runsnap::run_record::RunRecord;
use runsnap::segment::{Row, Segment};
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::{MergeExtent, Run, Runs, Store};
use serde_json::{Map, Value, json};

/// A store that holds what its journals are given.
pub struct Recorded {
    pub folder: tempfile::TempDir,
    journals: u64,
}

impl Recorded {
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Store::init(&folder.path().join("store")).expect("made");
        Self { folder, journals: 0 }
    }

    pub fn store(&self) -> Store {
        Store::open(&self.folder.path().join("store")).expect("opens")
    }

    /// Writes a journal of its own, which no writer will go on in.
    pub fn journal(&mut self, records: &[RunRecord]) {
        self.journals += 1;
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(self.folder.path().join("store")));
        let id: StoreId = self.store().config().store;
        // Hashed, so that the order of the names is not that of the making.
        let name = ObjectId::of(&self.journals.to_le_bytes()).short(16);
        let mut journal = JournalWriter::create(&*storage, &format!("runs/{name}.journal"), id).expect("created");
        let payloads: Vec<Vec<u8>> = records.iter().map(|record| encode_record(record).expect("encodes")).collect();
        journal.append(&payloads).expect("appended");
    }

    pub fn files(&self, ending: &str) -> Vec<String> {
        let listed = self.store().storage().list("runs").expect("listed");
        listed.into_iter().map(|file| file.name).filter(|name| name.ends_with(ending)).collect()
    }
}

pub fn run_id(number: u64) -> RunId {
    let random = *ObjectId::of(&number.to_le_bytes()).0.first_chunk().expect("eight bytes");
    RunId::new(1_795_000_000_000_000_000 + number * 1_234_567, random)
}

pub fn record(value: Value) -> RunRecord {
    serde_json::from_value(value).expect("a record")
}

fn start(number: u64, time: i64, more: &Value) -> RunRecord {
    let mut fields = json!({
        "type": "start",
        "run": run_id(number).to_string(),
        "time": time_text(number, time),
        "snapshot": ObjectId::of(&[number as u8 % 3]).to_string(),
        "files": 3, "bytes": 100 + number, "new_bytes": 0,
        "project": {"path": if number % 4 == 3 { "other" } else { "." }, "root": "/home/u/p"},
        "tracked_by": "tree", "file_status": "unknown",
        "environment": {"runsnap": "0.0.1"},
    });
    let fields_map = fields.as_object_mut().expect("an object");
    fields_map.extend(more.as_object().expect("an object").clone());
    record(fields)
}

/// A time near that of the run's id.
pub fn time_text(number: u64, offset: i64) -> String {
    let micros = (1_795_000_000_000_000_000 + number * 1_234_567) as i64 / 1000 + offset;
    format!("{:.6}", jiff_time(micros))
}

fn jiff_time(micros: i64) -> jiff::Timestamp {
    jiff::Timestamp::from_microsecond(micros).expect("a time")
}

/// The plain join of all records: what the store must show.
fn joined(records: &[RunRecord]) -> Vec<Run> {
    let mut runs: BTreeMap<RunId, Run> = BTreeMap::new();
    for record in records {
        if let RunRecord::Start(start) = record {
            let (metrics, tags) = (start.metrics.clone(), start.tags.clone());
            let run = Run { start: (**start).clone(), metrics, tags, exit_status: None };
            runs.insert(start.run, run);
        }
    }
    let text = |record: &RunRecord| serde_json::to_string(record).expect("JSON");
    let key = |record: &RunRecord| match record {
        RunRecord::Start(r) => (r.time.clone(), r.run, 0),
        RunRecord::Update(r) => (r.time.clone(), r.run, r.sequence),
        RunRecord::End(r) => (r.time.clone(), r.run, r.sequence),
        RunRecord::Forget(r) => (r.time.clone(), r.run, u64::MAX),
    };
    let mut later: Vec<&RunRecord> = records.iter().collect();
    later.sort_by_key(|record| (key(record), text(record)));
    for record in later {
        match record {
            RunRecord::Update(update) => {
                if let Some(run) = runs.get_mut(&update.run) {
                    run.metrics.extend(update.metrics.clone());
                    run.tags.extend(update.tags.clone());
                }
            }
            RunRecord::End(end) => {
                if let Some(run) = runs.get_mut(&end.run) {
                    run.exit_status = Some(end.exit_status);
                }
            }
            RunRecord::Start(_) | RunRecord::Forget(_) => {}
        }
    }
    for record in records {
        if let RunRecord::Forget(forget) = record {
            runs.remove(&forget.run);
        }
    }
    for run in runs.values_mut() {
        run.tags.sort();
        run.tags.dedup();
    }
    runs.into_values().collect()
}

/// Every bit of a run: -0.0 is not 0.0 here.
fn bits(run: &Run) -> (String, String, Vec<String>, Option<Option<i32>>) {
    let text = |value: Value| value.to_string();
    (text(json!(run.start)), text(json!(run.metrics)), run.tags.clone(), run.exit_status)
}

const FILTERS: [&str; 18] = [
    "metrics.m > 0.5",
    "metrics.m <= 1 and not params.p = 2",
    "params.p = 1 or params.p = 1.0",
    "params.p in (1, 'x', null)",
    "params.a.b > 0",
    "metrics.a.b exists",
    "params.a exists",
    "a.b = 1 or m < 0",
    "tag = 't1' and not tag = 't2'",
    "tags ~ 't'",
    "exit_status = 0",
    "exit_status != null",
    "name ~ 'run' or sweep = 's1'",
    "project = 'other'",
    "time >= '2026-11-18T10:00' and bytes > 102",
    "environment.python = '3.13' or host exists",
    "run ~ '18'",
    "not (params.p exists) and snapshot exists",
];
const KEYS: [&str; 9] =
    ["metrics.m", "-metrics.m", "params.p", "-p", "params.a.b", "-tags", "exit_status", "name", "-time"];

pub fn check(store: &Store, records: &[RunRecord]) {
    let expected = joined(records);
    let runs = store.runs().expect("readable");
    assert_eq!(runs.problems, []);
    assert_eq!(runs.iter().map(|run| bits(&run)).collect::<Vec<_>>(), expected.iter().map(bits).collect::<Vec<_>>());
    assert_eq!(runs.len(), expected.len());
    let of = |runs: &Runs, listed: Vec<runsnap::operations::list::Listed>| -> Vec<String> {
        listed.iter().map(|one| runs.run(one.row).expect("there").id().to_string()).collect()
    };
    let ids = |chosen: Vec<&Run>| -> Vec<String> { chosen.iter().map(|run| run.id().to_string()).collect() };
    for text in FILTERS {
        let filter = Filter::parse(text).expect(text);
        let fits: Vec<&Run> = expected.iter().filter(|run| filter.matches(run)).collect();
        let options = ListOptions { filter: Some(filter), ..ListOptions::default() };
        assert_eq!(of(&runs, list(store, &runs, &options).expect("listed")), ids(fits.clone()), "{text}");
        let options = ListOptions { limit: Some(2), ..options };
        let newest = fits[fits.len().saturating_sub(2)..].to_vec();
        assert_eq!(of(&runs, list(store, &runs, &options).expect("listed")), ids(newest), "{text}");
    }
    for text in KEYS {
        let (key, descending) = parse_sort(text).expect(text);
        let mut sorted: Vec<&Run> = expected.iter().collect();
        sorted.sort_by(|a, b| {
            runsnap::operations::run_filter::Key::compare_in_order(&key.value(a), &key.value(b), descending)
        });
        for limit in [None, Some(3)] {
            let options = ListOptions { sort: Some((key.clone(), descending)), limit, ..ListOptions::default() };
            let first = sorted.iter().copied().take(limit.unwrap_or(usize::MAX)).collect();
            assert_eq!(of(&runs, list(store, &runs, &options).expect("listed")), ids(first), "{text}");
        }
    }
    let sweeps: u64 = list_sweeps(&runs, &ListOptions::default()).iter().map(|sweep| sweep.runs).sum();
    assert_eq!(sweeps, expected.len() as u64);
    for run in &expected {
        let id = run.id().to_string();
        assert_eq!(find_run(&runs, &id, None).expect("there").id(), run.id());
        if let Some(name) = &run.start.name {
            let same: Vec<&Run> = expected.iter().filter(|other| other.start.name.as_ref() == Some(name)).collect();
            assert_eq!(find_run(&runs, name, None).is_ok(), same.len() == 1, "{name}");
        }
    }
    let latest = find_run(&runs, "latest", Some("other")).ok().map(|run| run.id());
    assert_eq!(latest, expected.iter().rev().find(|run| run.start.project.path == "other").map(Run::id));
    // Whatever is forgotten, names stay taken.
    for record in records {
        if let RunRecord::Start(start) = record
            && let Some(name) = &start.name
        {
            assert!(store.is_name_taken(name).expect("looked"), "{name} is free");
        }
    }
    assert!(!store.is_name_taken("nobody").expect("looked"));
    assert_eq!(runs.late_problems(), []);
}

fn any_leaf() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!(1)),
        Just(json!(1.0)),
        Just(json!(2)),
        Just(json!(-0.0)),
        Just(json!(0.0)),
        Just(Value::Null),
        Just(json!(u64::MAX)),
        Just(json!(i64::MIN)),
        Just(json!(f64::MAX)),
        any::<bool>().prop_map(Value::from),
        (-300i64..300).prop_map(|n| json!(n as f64 / 100.0)),
        prop::num::f64::NORMAL.prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[0-9a-f]{16}|[0-9a-f]{32}|x|\\PC{0,5}|2026-01-01T00:00:00.00000[0-9]Z".prop_map(Value::from),
    ]
}

fn any_value() -> impl Strategy<Value = Value> {
    any_leaf().prop_recursive(3, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec(("a|b|b.c", inner), 0..3)
                .prop_map(|pairs| Value::Object(pairs.into_iter().collect())),
        ]
    })
}

fn any_mapping() -> impl Strategy<Value = Value> {
    let pairs = prop::collection::vec((prop_oneof!["m", "p", "a", "a.b", "odd key"], any_value()), 0..4);
    pairs.prop_map(|pairs| Value::Object(pairs.into_iter().collect::<Map<_, _>>()))
}

fn any_record() -> impl Strategy<Value = RunRecord> {
    let number = 0u64..12;
    let tags = prop::collection::vec("t[1-3]", 0..3);
    let starts =
        (number.clone(), prop::option::of("[a-z]{1,3}"), any_mapping(), any_mapping(), tags.clone(), any::<u8>());
    let starts = starts.prop_map(|(number, sweep, params, metrics, tags, odd)| {
        // One start for each run: what two different ones would mean is not said anywhere.
        let mut more = json!({"params": params, "metrics": metrics, "tags": tags});
        let fields = more.as_object_mut().expect("an object");
        if odd & 1 == 0 {
            fields.insert("name".into(), json!(format!("run-{}", odd % 5)));
        }
        if odd & 2 == 0 {
            fields.insert("sweep".into(), json!(sweep.unwrap_or("s1".into())));
        }
        if odd & 4 == 0 {
            fields.insert("environment".into(), json!({"runsnap": "0.0.1", "python": "3.13"}));
        }
        if odd & 8 == 0 {
            fields.insert("host".into(), json!("h"));
            fields.insert("warnings".into(), json!(["w", "\u{1}"]));
        }
        start(number, i64::from(odd & 16), &more)
    });
    let updates = (number.clone(), 0i64..3, 0u64..2, any_mapping(), tags);
    let updates = updates.prop_map(|(number, time, sequence, metrics, tags)| {
        record(json!({"type": "update", "run": run_id(number).to_string(), "time": time_text(number, 500 + time),
            "sequence": sequence, "metrics": metrics, "tags": tags}))
    });
    let ends = (number.clone(), 0i64..3, prop::option::of(-1i32..2)).prop_map(|(number, time, status)| {
        let mut end = json!({"type": "end", "run": run_id(number).to_string(), "time": time_text(number, 700 + time),
            "sequence": 0});
        if let Some(status) = status {
            end.as_object_mut().expect("an object").insert("exit_status".into(), json!(status));
        }
        record(end)
    });
    let forgets = number.prop_map(|number| {
        record(json!({"type": "forget", "run": run_id(number).to_string(), "time": time_text(number, 900)}))
    });
    prop_oneof![4 => starts, 4 => updates, 2 => ends, 1 => forgets]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Journals that are merged in any steps, with others that come later and repeat what is merged already.
    #[test]
    fn merged_runs_mean_what_their_records_said(
        batches in prop::collection::vec((prop::collection::vec(any_record(), 1..12), any::<u8>()), 1..7),
    ) {
        let mut recorded = Recorded::new();
        let mut all: Vec<RunRecord> = Vec::new();
        let mut starts: BTreeMap<RunId, RunRecord> = BTreeMap::new();
        for (batch, what) in batches {
            let mut batch: Vec<RunRecord> = batch
                .into_iter()
                .map(|record| match record {
                    RunRecord::Start(_) => starts.entry(record.run()).or_insert(record).clone(),
                    other => other,
                })
                .collect();
            if what & 8 == 0 {
                batch.extend(all.iter().take(3).cloned());
            }
            recorded.journal(&batch);
            all.extend(batch);
            if what & 1 == 0 {
                let merged = recorded.store().merge_runs(MergeExtent::Full).expect("merged");
                prop_assert_eq!(merged.unreadable, 0);
                prop_assert_eq!(recorded.files(".journal"), Vec::<String>::new());
                prop_assert_eq!(recorded.files(".segment").len(), 1);
            } else if what & 2 == 0 {
                recorded.store().merge_runs(MergeExtent::Step).expect("merged");
            }
            if what & 4 == 0 {
                recorded.store().update_index(true).expect("indexed");
            }
            check(&recorded.store(), &all);
        }
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        check(&recorded.store(), &all);
    }
}

/// Records of some runs, each with an update, as captures and `log` leave them.
pub fn plain_records(numbers: std::ops::Range<u64>) -> Vec<RunRecord> {
    let of = |number: u64| {
        let more = json!({"name": format!("run-{number}"), "params": {"p": number % 3, "q": number as f64 / 7.0}});
        let update = json!({"type": "update", "run": run_id(number).to_string(), "time": time_text(number, 500),
            "sequence": 0, "metrics": {"m": number as f64 / 3.0}});
        [start(number, 0, &more), record(update)]
    };
    numbers.flat_map(of).collect()
}

#[test]
fn steps_keep_the_number_of_files_small() {
    let mut recorded = Recorded::new();
    let mut all = Vec::new();
    for number in 0..300 {
        let records = plain_records(number..number + 1);
        recorded.journal(&records);
        all.extend(records);
        recorded.store().merge_runs(MergeExtent::Step).expect("merged");
        let files = recorded.files("").len();
        assert!(files < 40, "{files} files after {number} journals");
    }
    assert!(!recorded.files(".journal").is_empty(), "steps wait for 16 journals");
    check(&recorded.store(), &all);
    let merged = recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    assert_eq!((merged.rows, recorded.files(".journal").len(), recorded.files(".segment").len()), (300, 0, 1));
    check(&recorded.store(), &all);
    // Nothing is left to do.
    assert_eq!(recorded.store().merge_runs(MergeExtent::Full).expect("merged"), Default::default());
}

#[test]
fn a_journal_in_use_is_not_merged() {
    let mut recorded = Recorded::new();
    let store = recorded.store();
    let first = plain_records(0..3);
    let mut writer = store.writer().expect("a writer");
    writer.commit(&first).expect("recorded");
    recorded.journal(&plain_records(5..6));
    let merged = recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    assert_eq!((merged.journals, recorded.files(".journal").len()), (1, 1));
    let second = plain_records(3..5);
    writer.commit(&second).expect("recorded");
    drop(writer);
    let all = [first, second, plain_records(5..6)].concat();
    check(&recorded.store(), &all);
    // A journal that the next writer would go on in is one that captures use: only `gc` takes it while it is short.
    assert_eq!(recorded.store().merge_runs(MergeExtent::Step).expect("merged").journals, 0);
    assert_eq!(recorded.store().merge_runs(MergeExtent::Full).expect("merged").journals, 1);
    assert_eq!(recorded.files(".journal"), Vec::<String>::new());
    let third = plain_records(6..8);
    recorded.store().writer().and_then(|mut writer| writer.commit(&third)).expect("recorded");
    check(&recorded.store(), &[all, third].concat());
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

/// What verify finds wrong, but for the snapshots of these runs, which were never stored.
pub fn problems_with_records(store: &Store) -> Vec<Problem> {
    let mut problems = verify(store, false, &()).expect("verified").problems;
    problems.retain(|problem| !problem.what.contains("Missing from the store"));
    problems
}

#[test]
fn a_journal_with_damage_stays() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..3));
    let path = recorded.folder.path().join("store/runs").join(&recorded.files(".journal")[0]);
    let mut bytes = std::fs::read(&path).expect("readable");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    std::fs::write(&path, &bytes).expect("written");
    recorded.journal(&plain_records(3..6));
    let merged = recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    assert_eq!((merged.journals, merged.unreadable), (1, 1));
    assert_eq!(std::fs::read(&path).expect("still there"), bytes);
    assert_eq!(recorded.store().runs().expect("readable").problems.len(), 1);
}

#[test]
fn a_flipped_bit_costs_what_it_hits_and_is_told() {
    let mut recorded = Recorded::new();
    let records = plain_records(0..40);
    recorded.journal(&records);
    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    let expected: BTreeMap<RunId, Run> = joined(&records).into_iter().map(|run| (run.id(), run)).collect();
    let path = recorded.folder.path().join("store/runs").join(&recorded.files(".segment")[0]);
    let whole = std::fs::read(&path).expect("readable");
    let store = recorded.store();
    let filter = {
        let runs = store.runs().expect("readable");
        let block = &runs.segments()[0].blocks[0];
        let end = block.offset + block.directory.offset;
        end - block.filter_bytes..end
    };
    let (mut partly, mut lost) = (0, 0);
    for at in (0..whole.len()).step_by(3) {
        let mut hurt = whole.clone();
        hurt[at] ^= 1 << (at % 8);
        std::fs::write(&path, &hurt).expect("written");
        let runs = store.runs().expect("readable");
        runs.check();
        let told = runs.problems.len() + runs.late_problems().len();
        assert_eq!(told == 0, filter.contains(&(at as u64)), "byte {at}: {told} problems");
        let left: Vec<Run> = runs.iter().collect();
        for run in &left {
            let whole = &expected[&run.id()];
            assert_eq!(run.start.snapshot, whole.start.snapshot);
            assert!(run.metrics.iter().all(|(name, value)| whole.metrics[name] == *value));
            assert!(run.start.params.iter().all(|(name, value)| whole.start.params[name] == *value));
        }
        partly += usize::from(left.len() == 40 && told > 0);
        lost += usize::from(left.is_empty());
    }
    assert!(partly > 0 && lost > 0, "{partly} {lost}");
}

/// The bytes of the worked example: two hexadecimal digits each, `#` begins a comment.
fn example() -> Vec<u8> {
    let text = include_str!("../../schema/segment.md");
    let from = text.find("```hex\n").expect("the block is there") + 7;
    let block = &text[from..from + text[from..].find("\n```").expect("the block ends")];
    let digits = block.lines().flat_map(|line| line.split('#').next().unwrap_or_default().split_whitespace());
    digits.map(|pair| u8::from_str_radix(pair, 16).unwrap_or_else(|_| panic!("{pair:?} is no byte"))).collect()
}

fn example_records() -> Vec<RunRecord> {
    let text = include_str!("../../schema/segment.md");
    let from = text.find("```json\n").expect("the block is there") + 8;
    let block = &text[from..from + text[from..].find("\n```").expect("the block ends")];
    serde_json::from_str::<Vec<RunRecord>>(block).expect("records")
}

#[test]
fn the_worked_example_decodes() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path()));
    std::fs::write(folder.path().join("example"), example()).expect("written");
    let id: StoreId = "000102030405060708090a0b0c0d0e0f".parse().expect("an id");
    let segment = Arc::new(Segment::open(&storage, "example", id).expect("a segment"));
    let blocks = (0..segment.blocks.len()).map(|number| segment.block(number).expect("a block"));
    let rows = blocks.flat_map(|block| block.rows(0..block.summary.rows, &mut |error| panic!("{error}")));
    let records: Vec<RunRecord> = rows.flat_map(Row::into_records).collect();
    assert_eq!(records, example_records());
    assert_eq!(segment.sources[0].number, 0x9f86_d081_884c_7d65);
}
