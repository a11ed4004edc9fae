//! Runs in segments: whatever is merged when, every record means what it meant in its journal.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use runsnap::id::{ObjectId, RunId, StoreId};
use runsnap::journal::{JournalWriter, encode_record};
use runsnap::operations::find_run::find_run;
use runsnap::operations::list::{ListOptions, list, list_sweeps};
use runsnap::operations::repair::{RepairOptions, repair};
use runsnap::operations::run_filter::{Filter, parse_sort};
use runsnap::operations::verify::{Problem, verify};
use runsnap::run_record::RunRecord;
use runsnap::segment::{Row, Segment};
use runsnap::storage::{LocalStorage, Lock, ReadFile, Storage, StoredFile, WriteFile};
use runsnap::store::{MergeExtent, Run, Runs, Store};
use serde_json::{Map, Value, json};

/// A store that holds what its journals are given.
struct Recorded {
    folder: tempfile::TempDir,
    journals: u64,
}

impl Recorded {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        Store::init(&folder.path().join("store")).expect("made");
        Self { folder, journals: 0 }
    }

    fn store(&self) -> Store {
        Store::open(&self.folder.path().join("store")).expect("opens")
    }

    /// Writes a journal of its own, which no writer will go on in.
    fn journal(&mut self, records: &[RunRecord]) {
        self.journals += 1;
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(self.folder.path().join("store")));
        let id: StoreId = self.store().config().store;
        // Hashed, so that the order of the names is not that of the making.
        let name = ObjectId::of(&self.journals.to_le_bytes()).short(16);
        let mut journal = JournalWriter::create(&*storage, &format!("runs/{name}.journal"), id).expect("created");
        let payloads: Vec<Vec<u8>> = records.iter().map(|record| encode_record(record).expect("encodes")).collect();
        journal.append(&payloads).expect("appended");
    }

    fn files(&self, ending: &str) -> Vec<String> {
        let listed = self.store().storage().list("runs").expect("listed");
        listed.into_iter().map(|file| file.name).filter(|name| name.ends_with(ending)).collect()
    }
}

fn run_id(number: u64) -> RunId {
    let random = *ObjectId::of(&number.to_le_bytes()).0.first_chunk().expect("eight bytes");
    RunId::new(1_795_000_000_000_000_000 + number * 1_234_567, random)
}

fn record(value: Value) -> RunRecord {
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
fn time_text(number: u64, offset: i64) -> String {
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

fn check(store: &Store, records: &[RunRecord]) {
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
fn plain_records(numbers: std::ops::Range<u64>) -> Vec<RunRecord> {
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
fn problems_with_records(store: &Store) -> Vec<Problem> {
    let mut problems = verify(store, false, &()).expect("verified").problems;
    problems.retain(|problem| !problem.what.contains("Missing from the store"));
    problems
}

/// The index is a cache: what merges could not tell it is no sign that anything is lost, however many merges have passed.
#[test]
fn an_index_that_was_busy_while_merges_went_on_accuses_nobody() {
    for locked in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let mut recorded = Recorded::new();
        let sources = |recorded: &Recorded| -> usize {
            let store = recorded.store();
            let runs = store.runs().expect("readable");
            runs.segments().iter().map(|segment| segment.sources.len()).sum()
        };
        // Two journals and a segment, and a run that no merge will leave there.
        let forget = json!({"type": "forget", "run": run_id(2).to_string(), "time": time_text(2, 900)});
        recorded.journal(&plain_records(0..2));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        recorded.journal(&plain_records(2..3));
        recorded.journal(&[record(forget)]);
        recorded.store().update_index(true).expect("written");
        let index = rusqlite::Connection::open(recorded.folder.path().join("store/index.sqlite")).expect("opens");
        index.execute_batch(locked).expect("locked");
        for number in 3..6 {
            recorded.journal(&plain_records(number..number + 1));
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        }
        assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1), "{locked}");
        index.execute_batch("ROLLBACK").expect("unlocked");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{locked}");
        let options = RepairOptions { dry_run: true, ..RepairOptions::default() };
        let repaired = repair(recorded.store(), &options, &()).expect("looked");
        assert_eq!(repaired.lost_runs, Vec::<String>::new(), "{locked}");
        // Once it has been told, nobody has to remember any more.
        recorded.journal(&plain_records(6..7));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{locked}");
        assert_eq!(sources(&recorded), 2, "{locked}: the segment before and the journal");
        assert_eq!(index.query_row("SELECT count(*) FROM journals", [], |row| row.get(0)), Ok(1), "{locked}");
    }
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

/// What is asked before each operation on a storage: its word and the path.
type Before = Arc<dyn Fn(&str, &str) -> runsnap::Result<()> + Send + Sync>;

/// Storage that asks before it does something that changes files, or lists a folder.
struct Asking {
    inner: LocalStorage,
    before: Before,
}

struct AskingFile(Box<dyn WriteFile>, Before);

impl ReadFile for AskingFile {
    fn read_range(&self, offset: u64, bytes: usize) -> runsnap::Result<Vec<u8>> {
        self.0.read_range(offset, bytes)
    }

    fn length(&self) -> runsnap::Result<u64> {
        self.0.length()
    }
}

impl WriteFile for AskingFile {
    fn write(&mut self, bytes: &[u8]) -> runsnap::Result<()> {
        (self.1)("write", "a file")?;
        self.0.write(bytes)
    }

    fn sync(&mut self) -> runsnap::Result<()> {
        (self.1)("sync", "a file")?;
        self.0.sync()
    }
}

impl Storage for Asking {
    fn root(&self) -> &Path {
        self.inner.root()
    }
    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        self.inner.at(root)
    }
    fn create_folder(&self, path: &str) -> runsnap::Result<bool> {
        self.inner.create_folder(path)
    }
    fn create(&self, path: &str) -> runsnap::Result<Box<dyn WriteFile>> {
        (self.before)("create", path)?;
        Ok(Box::new(AskingFile(self.inner.create(path)?, Arc::clone(&self.before))))
    }
    fn append(&self, path: &str) -> runsnap::Result<Box<dyn WriteFile>> {
        (self.before)("append", path)?;
        self.inner.append(path)
    }
    fn rename(&self, from: &str, to: &str) -> runsnap::Result<()> {
        (self.before)("rename", to)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> runsnap::Result<()> {
        (self.before)("remove", path)?;
        self.inner.remove(path)
    }
    fn sync_folder(&self, path: &str) -> runsnap::Result<()> {
        (self.before)("sync", path)?;
        self.inner.sync_folder(path)
    }
    fn read(&self, path: &str, limit: u64) -> runsnap::Result<Vec<u8>> {
        self.inner.read(path, limit)
    }
    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> runsnap::Result<Vec<u8>> {
        self.inner.read_range(path, offset, bytes)
    }
    fn look(&self, path: &str) -> runsnap::Result<StoredFile> {
        self.inner.look(path)
    }
    fn list(&self, path: &str) -> runsnap::Result<Vec<StoredFile>> {
        (self.before)("list", path)?;
        self.inner.list(path)
    }
    fn try_lock(&self, path: &str) -> runsnap::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(path)
    }
}

/// Refuses everything that changes files after so many changes.
fn refusing_after(changes: i64) -> Before {
    let left = std::sync::atomic::AtomicI64::new(changes);
    Arc::new(move |what, path| {
        if what == "list" || left.fetch_sub(1, std::sync::atomic::Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(runsnap::Error::io("write", Path::new(path), std::io::Error::other("refused")))
    })
}

/// A store whose journals others merge once, and then once more, when it reads the writers' notes after so many times.
fn overtaken(recorded: &Recorded, looks: u64) -> Store {
    let (store, more) = (recorded.store(), plain_records(4..6));
    let looked = std::sync::atomic::AtomicU64::new(0);
    let before: Before = Arc::new(move |what, path| {
        if (what, path) == ("list", "writers") && looked.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == looks {
            store.merge_runs(MergeExtent::Full).expect("merged");
            store.writer().and_then(|mut writer| writer.commit(&more)).expect("recorded");
            // The second merge knows nothing of what the first was made of.
            store.merge_runs(MergeExtent::Full).expect("merged");
        }
        Ok(())
    });
    recorded.asking(before)
}

#[test]
fn an_index_that_is_written_by_who_was_overtaken_names_nothing_that_is_gone() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    overtaken(&recorded, 0).update_index(true).expect("written");
    let index = rusqlite::Connection::open(recorded.folder.path().join("store/index.sqlite")).expect("opens");
    let count = |table: &str| {
        index.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).expect("a number")
    };
    assert_eq!((count("journals"), count("runs")), (1, 0), "the last segment, whose runs are not listed");
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

#[test]
fn a_verify_that_merges_overtake_accuses_nobody() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    recorded.store().update_index(true).expect("written");
    assert_eq!(problems_with_records(&overtaken(&recorded, 1)), Vec::new());
    assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1));
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[at] ^= 16;
    std::fs::write(path, bytes).expect("written");
}

fn killed_before(operation: &'static str, path: &'static str) -> Before {
    Arc::new(move |what, at| match (what, at) == (operation, path) {
        true => Err(runsnap::Error::io("write", Path::new(at), std::io::Error::other("killed"))),
        false => Ok(()),
    })
}

impl Recorded {
    fn asking(&self, before: Before) -> Store {
        let inner = LocalStorage::new(self.folder.path().join("store"));
        Store::open_in(Arc::new(Asking { inner, before })).expect("opens")
    }

    fn path(&self, ending: &str) -> std::path::PathBuf {
        self.folder.path().join("store/runs").join(&self.files(ending)[0])
    }
}

/// A segment that was damaged when it was written takes nothing with it.
#[test]
fn sources_stay_until_their_segment_has_been_read_back() {
    let all = [plain_records(0..2), plain_records(2..4)].concat();
    let recorded = || {
        let mut recorded = Recorded::new();
        recorded.journal(&plain_records(0..2));
        recorded.journal(&plain_records(2..4));
        recorded
    };

    // The disk keeps something else than it was given.
    let flipped = recorded();
    let folder = flipped.folder.path().join("store/runs");
    let flips = std::sync::atomic::AtomicBool::new(true);
    let before: Before = Arc::new(move |what, path| {
        let segments = std::fs::read_dir(&folder).expect("listed").map(|file| file.expect("readable").path());
        for segment in segments.filter(|path| path.extension().is_some_and(|ending| ending == "segment")) {
            if (what, path) == ("sync", "runs") && flips.swap(false, std::sync::atomic::Ordering::Relaxed) {
                flip(&segment, 60);
            }
        }
        Ok(())
    });
    flipped.asking(before).merge_runs(MergeExtent::Full).expect_err("it does not read back");
    assert_eq!((flipped.files(".journal").len(), flipped.files(".segment").len()), (2, 0));
    check(&flipped.store(), &all);

    // The same, and the merge was killed before it could find that.
    let killed = recorded();
    let merge = killed.asking(killed_before("rename", "runs/merges"));
    merge.merge_runs(MergeExtent::Full).expect_err("killed");
    flip(&killed.path(".segment"), 60);
    for _ in 0..2 {
        let _ = killed.store().merge_runs(MergeExtent::Full);
        assert_eq!((killed.files(".journal").len(), killed.files(".segment").len()), (2, 1));
    }
    std::fs::remove_file(killed.path(".segment")).expect("removed");
    check(&killed.store(), &all);
}

/// A journal that went on after a merge, and is gone: that the beginning of it is in a segment is no excuse.
#[test]
fn a_journal_that_is_merged_in_part_and_lost_is_told() {
    for is_indexed in [true, false] {
        let mut recorded = Recorded::new();
        let commit = |recorded: &Recorded, number| {
            let records = plain_records(number..number + 1);
            recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
        };
        commit(&recorded, 0);
        let merge = recorded.asking(killed_before("rename", "runs/merges"));
        merge.merge_runs(MergeExtent::Full).expect_err("killed");
        commit(&recorded, 1);
        if is_indexed {
            recorded.store().update_index(true).expect("written");
        }
        assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (1, 1), "it went on");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new());
        std::fs::remove_file(recorded.path(".journal")).expect("removed");
        for number in 2..5 {
            let problems = problems_with_records(&recorded.store());
            let lost: Vec<_> = problems.iter().flat_map(|problem| problem.runs.iter().cloned()).collect();
            // The writer's note knows no names.
            let expected = if is_indexed { vec!["run-1".to_owned()] } else { Vec::new() };
            assert_eq!((problems.len(), lost), (1, expected), "{number}: {problems:?}");
            if is_indexed {
                commit(&recorded, number);
            } else {
                recorded.journal(&plain_records(number..number + 1));
            }
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        }
    }
}

/// A power cut can bring an old note back. Its slot is held by somebody who appends nothing.
#[test]
fn an_old_note_of_a_held_slot_accuses_nobody() {
    let mut recorded = Recorded::new();
    recorded.store().writer().and_then(|mut writer| writer.commit(&plain_records(0..1))).expect("recorded");
    let slot = recorded.folder.path().join("store/writers/0000");
    let note = std::fs::read(&slot).expect("a note");
    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    std::fs::write(&slot, note).expect("written");
    let storage = LocalStorage::new(recorded.folder.path().join("store"));
    let held = storage.try_lock("writers/0000").expect("looked").expect("free");
    for number in 1..4 {
        recorded.journal(&plain_records(number..number + 1));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{number}");
    }
    drop(held);
    recorded.journal(&plain_records(4..5));
    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    assert!(!String::from_utf8_lossy(&std::fs::read(&slot).expect("there")).contains(".journal"), "cleared at last");
}

/// Notes of what was flushed are read after the journals, and tell of more.
#[test]
fn a_record_that_is_finished_while_verify_reads_is_no_damage() {
    let recorded = Recorded::new();
    let slot = recorded.folder.path().join("store/writers/0000");
    let commit = |number| {
        let records = plain_records(number..number + 1);
        recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
    };
    commit(0);
    let (journal, old_note) = (recorded.path(".journal"), std::fs::read(&slot).expect("a note"));
    let old_bytes = std::fs::metadata(&journal).expect("there").len() as usize;
    commit(1);
    let (whole, new_note) = (std::fs::read(&journal).expect("there"), std::fs::read(&slot).expect("a note"));
    std::fs::write(&journal, &whole[..old_bytes + 20]).expect("written");
    std::fs::write(&slot, old_note).expect("written");
    let looks = std::sync::atomic::AtomicU64::new(0);
    let before: Before = Arc::new(move |what, path| {
        if (what, path) == ("list", "writers") && looks.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 1 {
            std::fs::write(&journal, &whole).expect("written");
            std::fs::write(&slot, &new_note).expect("written");
        }
        Ok(())
    });
    assert_eq!(problems_with_records(&recorded.asking(before)), Vec::new());
}

/// What is moved away by hand of `repair` is known to be gone, whoever writes the index meanwhile.
#[test]
fn what_repair_moves_away_is_named_by_no_index() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    let (store, path) = (recorded.store(), recorded.path(".journal"));
    let name = recorded.files(".journal").remove(0);
    let moves = std::sync::atomic::AtomicBool::new(true);
    let before: Before = Arc::new(move |what, at| {
        if (what, at) == ("list", "writers") && moves.swap(false, std::sync::atomic::Ordering::Relaxed) {
            store.give_up_run_files(&[name.as_str()]).expect("told");
            std::fs::remove_file(&path).expect("moved");
        }
        Ok(())
    });
    recorded.asking(before).update_index(true).expect("written");
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

/// A reader that lists runs/ all the while must be told, even where it was another merge that wrote the segment.
#[test]
fn nothing_is_removed_before_the_mark_has_changed() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    let folder = recorded.folder.path().join("store");
    let killed = recorded.asking(killed_before("rename", "runs/merges"));
    killed.merge_runs(MergeExtent::Full).expect_err("killed");
    assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (2, 1));
    let mark = std::fs::read(folder.join("runs/merges")).ok();
    let (mark_path, is_checked) = (folder.join("runs/merges"), Arc::new(std::sync::atomic::AtomicBool::new(false)));
    let has_checked = Arc::clone(&is_checked);
    let checking = recorded.asking(Arc::new(move |what, path| {
        if what == "remove" && path.starts_with("runs/") {
            assert_ne!(std::fs::read(&mark_path).ok(), mark);
            is_checked.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(())
    }));
    checking.merge_runs(MergeExtent::Full).expect("merged");
    assert!(has_checked.load(std::sync::atomic::Ordering::Relaxed) && recorded.files(".journal").is_empty());
}

#[test]
fn a_merge_that_ends_anywhere_loses_nothing() {
    for extent in [MergeExtent::Full, MergeExtent::Step] {
        for changes in 0.. {
            let mut recorded = Recorded::new();
            let mut all = Vec::new();
            let forgets = json!({"type": "forget", "run": run_id(2).to_string(), "time": time_text(2, 900)});
            for number in 0..24 {
                let mut records = plain_records(number..number + 1);
                if number == 3 {
                    records.push(record(forgets.clone()));
                }
                if number == 7 {
                    // The journal that writers go on in.
                    recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
                } else {
                    recorded.journal(&records);
                }
                all.extend(records);
                if number == 5 {
                    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
                }
            }
            let is_done = recorded.asking(refusing_after(changes)).merge_runs(extent).is_ok();
            check(&recorded.store(), &all);
            // Captures go on, in the same journal where the merge has not got that far.
            let more = plain_records(40..41);
            recorded.store().writer().and_then(|mut writer| writer.commit(&more)).expect("recorded");
            all.extend(more);
            check(&recorded.store(), &all);
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
            check(&recorded.store(), &all);
            assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1), "{changes}");
            if is_done {
                assert!(changes > 8, "only {changes} changes were seen");
                break;
            }
        }
    }
}

#[test]
fn readers_miss_nothing_while_others_merge() {
    let mut recorded = Recorded::new();
    let done = std::sync::atomic::AtomicBool::new(false);
    let written = std::sync::atomic::AtomicU64::new(0);
    let folder = recorded.folder.path().join("store");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(std::sync::atomic::Ordering::Relaxed) {
                    let before = written.load(std::sync::atomic::Ordering::SeqCst);
                    let store = Store::open(&folder).expect("opens");
                    let runs = store.runs().expect("readable");
                    let seen = runs.len() as u64;
                    assert!(seen >= before, "{seen} of {before} runs");
                    // What was opened stays readable after it has been merged.
                    assert_eq!(runs.iter().count() as u64, seen);
                    assert_eq!(runs.late_problems(), []);
                    if before > 0 {
                        assert!(store.is_name_taken("run-0").expect("looked"));
                    }
                    assert_eq!(problems_with_records(&store), Vec::new());
                }
            });
        }
        for number in 0..60 {
            recorded.journal(&plain_records(number..number + 1));
            written.store(number + 1, std::sync::atomic::Ordering::SeqCst);
            if number % 3 == 0 {
                recorded.store().update_index(true).expect("written");
                recorded.store().merge_runs(MergeExtent::Full).expect("merged");
            }
        }
        done.store(true, std::sync::atomic::Ordering::Relaxed);
    });
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
