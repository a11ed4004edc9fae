//! Every JSON file and record that is written, held against its schema; and each schema against what it must refuse.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;

use jsonschema::Validator;
use runsnap::id::{ObjectId, RunId};
use runsnap::journal::{HEADER_BYTES, Item, decode_record, scan};
use runsnap::run_record::{RunEnd, RunForget, RunRecord, RunUpdate};
use serde_json::{Map, Value, json};

use crate::support::{Finished, Project};

const CONFIG: &str = include_str!("../../schema/config.schema.json");
const MANIFEST: &str = include_str!("../../schema/manifest.schema.json");
const METADATA: &str = include_str!("../../schema/backtest_metadata.schema.json");
const RECORD: &str = include_str!("../../schema/run-record.schema.json");
const STRATEGY: &str = include_str!("../../schema/strategy.schema.json");

fn schema(text: &str) -> Validator {
    jsonschema::validator_for(&serde_json::from_str(text).expect("JSON")).expect("a schema")
}

#[track_caller]
fn assert_valid(schema: &Validator, instance: &Value) {
    let errors: Vec<String> =
        schema.iter_errors(instance).map(|error| format!("{}: {error}", error.instance_path)).collect();
    assert_eq!(errors, Vec::<String>::new(), "{instance:#}");
}

fn read(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("written")).expect("JSON")
}

/// The fields of an object, and of those in it, that a schema lets one leave out: as JSON pointers, with list indexes.
fn optional(schema: &Validator, whole: &Value) -> Vec<String> {
    fn walk(schema: &Validator, whole: &Value, pointer: &str, out: &mut Vec<String>) {
        match whole.pointer(pointer).expect("there") {
            Value::Object(fields) => {
                for key in fields.keys() {
                    let place = format!("{pointer}/{}", key.replace('~', "~0").replace('/', "~1"));
                    let mut less = whole.clone();
                    less.pointer_mut(pointer).and_then(Value::as_object_mut).expect("an object").remove(key);
                    if schema.is_valid(&less) {
                        out.push(place.clone());
                    }
                    walk(schema, whole, &place, out);
                }
            }
            Value::Array(items) => {
                for n in 0..items.len() {
                    walk(schema, whole, &format!("{pointer}/{n}"), out);
                }
            }
            _ => {}
        }
    }
    let mut out = Vec::new();
    walk(schema, whole, "", &mut out);
    out
}

/// Asserts that a schema refuses a field that it does not know, in each of the objects at these pointers.
#[track_caller]
fn assert_closed(schema: &Validator, whole: &Value, pointers: &[&str]) {
    for pointer in pointers {
        let mut more = whole.clone();
        let object = more.pointer_mut(pointer).and_then(Value::as_object_mut).expect("an object");
        object.insert("unheard_of".to_owned(), json!(1));
        assert!(!schema.is_valid(&more), "{pointer}");
    }
}

/// Asserts that a schema refuses each of these values in the places of those that it takes.
#[track_caller]
fn assert_refused(schema: &Validator, whole: &Value, wrong: &[(&str, Value)]) {
    for (pointer, value) in wrong {
        let mut changed = whole.clone();
        *changed.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer} in {whole:#}")) = value.clone();
        assert!(!schema.is_valid(&changed), "{pointer}: {value}");
    }
}

/// All records of a project's store, as the JSON that they were written from.
fn records(project: &Project) -> Vec<Value> {
    let mut out = Vec::new();
    for path in project.store_files("runs") {
        let bytes = fs::read(path).expect("readable");
        for item in scan(&bytes[HEADER_BYTES..]) {
            let Item::Record { payload, .. } = item else { panic!("{item:?}") };
            out.push(serde_json::to_value(decode_record(payload).expect("decodes")).expect("JSON"));
        }
    }
    out
}

/// A project with everything in it that has a form of its own in JSON.
fn odd_project() -> Project {
    let project = Project::with_code();
    project.write(Path::new(OsStr::from_bytes(b"momentum/\xff\xfe.py")), "odd = 1\n");
    symlink(OsStr::from_bytes(b"momentum/\xff\xfe.py"), project.path("odd.py")).expect("linked");
    symlink("strategy.py", project.path(OsStr::from_bytes(b"odd\xf0.py"))).expect("linked");
    project.write(".env", "PASSWORD=1\n");
    project.write(Path::new(OsStr::from_bytes(b"\xff/.env")), "PASSWORD=2\n");
    project.write("strategy.yaml", "files: ['momentum/**', .env, nothing.py]\n");
    project
}

#[test]
fn the_schemas_are_schemas() {
    for text in [CONFIG, MANIFEST, METADATA, RECORD, STRATEGY] {
        let schema: Value = serde_json::from_str(text).expect("JSON");
        assert!(jsonschema::meta::is_valid(&schema), "{}", schema["$id"]);
        assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    }
}

#[test]
fn config() {
    let project = Project::new();
    project.run(["init"]).expect(0);
    let (schema, config) = (schema(CONFIG), read(&project.store().join("config.json")));
    assert_valid(&schema, &config);
    assert_eq!(optional(&schema, &config), Vec::<String>::new());
    assert_closed(&schema, &config, &["", "/features", "/chunker"]);
    let wrong = [
        ("/format", json!("runsnap")),
        ("/version", json!(2)),
        ("/features/compatible", json!(["Upper Case"])),
        ("/store", json!("00")),
        ("/generation", json!(-1)),
        ("/chunker/min_bytes", json!(1)),
        ("/checksum", json!(null)),
    ];
    assert_refused(&schema, &config, &wrong);
}

/// The checksum is the hash of the compact text in the order of the schema, with null in its own place.
#[test]
fn config_checksum() {
    let project = Project::new();
    project.run(["init"]).expect(0);
    let text = fs::read_to_string(project.store().join("config.json")).expect("readable");
    let compact: String = text.split_whitespace().collect();
    let (head, rest) = compact.split_once("\"checksum\":\"").expect("a checksum");
    assert_eq!(rest.len(), 64 + "\"}".len(), "it comes last");
    assert_eq!(rest[..64], ObjectId::of(format!("{head}\"checksum\":null}}").as_bytes()).to_string());
}

#[test]
fn manifest() {
    let project = odd_project();
    project.run(["capture", "--tree", ".", "--run-dir", "runs/bare"]).expect(0);
    let named = ["capture", "--tree", ".", "--run", "first", "--sweep", "grid \"é\"", "--run-dir", "runs/named"];
    project.run(named).expect(0);
    let schema = schema(MANIFEST);
    let [bare, named] =
        ["bare", "named"].map(|run| read(&project.path("runs").join(run).join("metadata/manifest.json")));
    assert_valid(&schema, &bare);
    assert_valid(&schema, &named);
    assert_eq!((bare.get("name"), bare.get("sweep")), (None, None));
    assert_eq!((&named["name"], &named["sweep"]), (&json!("first"), &json!("grid \"é\"")));
    assert_eq!(optional(&schema, &named), ["/name", "/sweep"]);
    assert_closed(&schema, &named, &[""]);
    let wrong = [
        ("/format", json!("x")),
        ("/version", json!(2)),
        ("/name", json!(".x")),
        ("/name", json!("latest")),
        ("/name", json!("x".repeat(129))),
        ("/sweep", json!("a\nb")),
        ("/run", json!("A".repeat(32))),
        ("/snapshot", json!("ab")),
        ("/time", json!("2026-01-01T00:00:00Z")),
        ("/files", json!(-1)),
    ];
    assert_refused(&schema, &named, &wrong);
}

#[test]
fn manifest_stays_below_1_kib() {
    let project = Project::new();
    for n in 0..2_000 {
        project.write(format!("package_{}/module_{n}.py", n % 40), format!("VALUE = {n}\n"));
    }
    // The characters that take the most room as JSON and are allowed.
    let (name, sweep) = ("n".repeat(128), "\"\\".repeat(64));
    let arguments = ["capture", "--tree", ".", "--run", &name, "--sweep", &sweep, "--run-dir", "run", "--json"];
    let captured = project.run(arguments).expect(0).json();
    assert_eq!(captured["files"], 2_001);
    let path = project.path("run/metadata/manifest.json");
    assert!(path.metadata().expect("written").len() < 1_024, "{}", path.metadata().expect("written").len());
    let manifest = read(&path);
    assert_valid(&schema(MANIFEST), &manifest);
    assert_eq!((&manifest["name"], &manifest["sweep"]), (&json!(name), &json!(sweep)));
    assert_eq!(
        read(&project.path("run/metadata/backtest_metadata.json"))["files"].as_array().map(Vec::len),
        Some(2_001)
    );
}

#[test]
fn backtest_metadata() {
    let project = odd_project();
    let captures: [(&[&str], i32); 4] = [
        (&["--tree", "."], 0),
        (&["strategy.py"], 3),
        (&["momentum/signal.py"], 0),
        (&["--tree", "momentum", "--store", ".runsnap", "--run", "named", "--tag", "t", "--param", "fast=10"], 0),
    ];
    let schema = schema(METADATA);
    let mut all = Vec::new();
    for (n, (arguments, status)) in captures.into_iter().enumerate() {
        let folder = format!("runs/{n}");
        project.run([&["capture", "--run-dir", &folder], arguments].concat()).expect(status);
        let metadata = read(&project.path(folder).join("metadata/backtest_metadata.json"));
        assert_valid(&schema, &metadata);
        all.push(metadata);
    }
    let [tree, yaml, alone, named] = &all[..] else { panic!("four captures") };

    let list = |of: &Value, field: &str| of[field].as_array().expect("a list").clone();
    let files: Vec<(Value, Value)> = list(tree, "captured_files").into_iter().zip(list(tree, "files")).collect();
    assert_eq!(files.len(), list(tree, "files").len());
    let file = |path: &str| files.iter().find(|(listed, _)| listed == path).map(|(_, file)| file.clone()).expect(path);
    assert_eq!(file("run.sh")["executable"], true);
    assert_eq!((&file("latest.py")["target"], file("latest.py").get("id")), (&json!("strategy.py"), None));
    assert_eq!(file("odd.py")["target_bytes"], "bW9tZW50dW0v//4ucHk=");
    assert_eq!(file("momentum/empty.py")["bytes"], 0);
    assert_eq!(file("momentum/\u{fffd}\u{fffd}.py")["path_bytes"], "bW9tZW50dW0v//4ucHk=");
    assert_eq!(file("odd\u{fffd}.py")["path_bytes"], "b2Rk8C5weQ==");
    assert_eq!((&tree["file_status"], file("strategy.py").get("status")), (&json!("unknown"), None));
    let secret = list(tree, "left_out").iter().any(|file| file["path_bytes"] == "/y8uZW52");
    assert!(secret, "a secret in a folder whose name is not text");
    assert_eq!(tree["left_out"].as_array().map(Vec::len), Some(2));
    assert_eq!(tree["captured_files"], tree["code_capture"]["captured_files"]);
    assert_eq!(
        tree["code_capture"]["total_code_size_bytes"],
        read(&project.path("runs/0/metadata/manifest.json"))["bytes"]
    );

    let capture = |of: &Value| {
        let keys =
            ["code_capture_mode", "entry_point_file", "detection_method", "execution_context", "yaml_config_used"];
        Value::from(keys.map(|key| of["code_capture"][key].clone()).to_vec())
    };
    assert_eq!(capture(tree), json!(["tracked", null, "not_detected", "unknown", false]));
    assert_eq!(capture(yaml), json!(["yaml", "strategy.py", "yaml_override", "file", true]));
    assert_eq!(capture(alone), json!(["tracked", "momentum/signal.py", "ast_analysis", "file", false]));
    assert_eq!((&tree["strategy_entry_point"], &yaml["strategy_entry_point"]), (&json!(""), &json!("strategy.py")));
    assert_eq!((&named["backtest_id"], &tree["backtest_id"]), (&json!("named"), &tree["run"]));
    assert!(!yaml["code_capture"]["detection_warnings"].as_array().expect("a list").is_empty());

    let optional = optional(&schema, tree);
    let is_extra = |place: &String| place.ends_with("/executable") || place.ends_with("/path_bytes");
    assert!(optional.len() > 2 && optional.iter().all(is_extra), "{optional:?}");
    assert_closed(&schema, tree, &["", "/code_capture", "/files/0", "/left_out/0"]);
    let wrong = [
        ("/data_bundle_info", json!({})),
        ("/code_capture/code_capture_mode", json!("all")),
        ("/code_capture/detection_confidence", json!(1.5)),
        ("/captured_files/0", json!("../up")),
        ("/code_capture/captured_files/0", json!("/etc")),
        ("/files/0/bytes", json!(-1)),
        ("/files/1/id", json!("ab")),
        ("/file_status", json!("new")),
        ("/left_out/0/path", json!("../up")),
        ("/left_out/0/reason", json!("no reason")),
        ("/snapshot", json!("")),
    ];
    assert_refused(&schema, tree, &wrong);
}

#[test]
fn records_of_imported_and_forgotten_runs() {
    let project = Project::new();
    for name in [OsStr::new("run-1"), OsStr::from_bytes(b"caf\xe9")] {
        let folder = Path::new("old").join(name);
        project.write(folder.join("code/strategy.py"), "import momentum\n");
        let entry = json!({ "timestamp": "2025-10-18T14:32:11", "strategy_entry_point": "/home/u/strategy.py" });
        project.write(folder.join("metadata/backtest_metadata.json"), entry.to_string());
    }
    project.run(["import", "old", "--layout", "rustybt", "--sweep", "grid"]).expect(0);
    project.run(["forget", "run-1"]).expect(0);
    let records = records(&project);
    let schema = schema(RECORD);
    records.iter().for_each(|record| assert_valid(&schema, record));
    let types: Vec<&str> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    assert_eq!(types, ["start", "start", "forget"]);
    let named = records.iter().find(|record| record["name"] == "run-1").expect("there");
    let nameless = records.iter().find(|record| record["imported"]["path_bytes"] == "Y2Fm6Q==").expect("there");
    assert_eq!(nameless["name"], Value::Null);
    assert_eq!((&named["imported"]["path"], &named["entry_point"]["found_by"]), (&json!("run-1"), &json!("metadata")));
    assert!(optional(&schema, named).contains(&"/imported".to_owned()));
    assert_closed(&schema, named, &["", "/imported", "/run_folder"]);
    assert_refused(
        &schema,
        named,
        &[("/imported/layout", json!("zip")), ("/imported/from", json!("")), ("/entry_point/found_by", json!("guess"))],
    );
    let manifest = read(&project.path("old/run-1/metadata/manifest.json"));
    assert_valid(&self::schema(MANIFEST), &manifest);
}

#[test]
fn records_of_each_type() {
    let project = odd_project();
    fs::create_dir_all(project.path(".git/refs/heads")).expect("folders");
    fs::write(project.path(".git/HEAD"), "ref: refs/heads/main\n").expect("written");
    fs::write(project.path(".git/refs/heads/main"), format!("{}\n", "ab".repeat(20))).expect("written");
    std::os::unix::net::UnixListener::bind(project.path("socket")).expect("a socket");
    project.run(["capture", "momentum/signal.py"]).expect(0);
    project.run(["capture", "--tree", ".", "--run", "bare"]).expect(3);
    let full = ["capture", "strategy.py", "--run", "full", "--sweep", "grid", "--tag", "é t", "--run-dir", "runs/full"];
    let params = ["--param", "fast=10", "--param", "ratio=0.5", "--param", "name=x", "--param", "none=null"];
    project.run([&full[..], &params].concat()).expect(3);
    project.run(["log", "full", "--metric", "sharpe=1.25", "--metric", "note=good", "--tag", "later"]).expect(0);
    project.run(["log", "full", "--tag", "again"]).expect(0);
    let records = records(&project);
    let schema = schema(RECORD);
    records.iter().for_each(|record| assert_valid(&schema, record));
    let types: Vec<&str> = records.iter().filter_map(|record| record["type"].as_str()).collect();
    assert_eq!(types, ["start", "start", "start", "update", "update"]);
    let (tree, full) = (&records[1], &records[2]);
    let left_out = tree["left_out"].as_array().expect("a list");
    let reasons: Vec<&str> = left_out.iter().filter_map(|one| one["reason"].as_str()).collect();
    assert_eq!(reasons, ["secret", "special_file", "secret"]);
    let version = "import platform; print(platform.python_version())";
    let python = std::process::Command::new("python3").args(["-c", version]).output().expect("python3 starts");
    assert_eq!(full["environment"]["python"], String::from_utf8_lossy(&python.stdout).trim());

    let start = [
        "/entry_point",
        "/entry_point/path",
        "/git_commit",
        "/host",
        "/left_out",
        "/name",
        "/packs",
        "/params",
        "/params/fast",
        "/params/name",
        "/params/none",
        "/params/ratio",
        "/environment/python",
        "/run_folder",
        "/run_folder/metadata_hash",
        "/sweep",
        "/tags",
        "/warnings",
    ];
    let sorted = |mut list: Vec<String>| {
        list.sort();
        list
    };
    assert_eq!(sorted(optional(&schema, full)), sorted(start.map(str::to_owned).to_vec()));
    let update = ["/metrics", "/metrics/note", "/metrics/sharpe", "/tags"];
    assert_eq!(sorted(optional(&schema, &records[3])), update);
    assert_closed(&schema, full, &["", "/project", "/entry_point", "/left_out/0", "/run_folder"]);
    assert_closed(&schema, &records[3], &[""]);
    let wrong = [
        ("/type", json!("begin")),
        ("/run", json!("ab")),
        ("/time", json!("now")),
        ("/name", json!("a b")),
        ("/packs/0", json!("x.pack")),
        ("/project/path", json!("")),
        ("/tracked_by", json!("guess")),
        ("/file_status", json!("fine")),
        ("/entry_point/confidence", json!(2)),
        ("/tags/0", json!("")),
        ("/params", json!([])),
        ("/git_commit", json!("main")),
        ("/run_folder/metadata_hash", json!("")),
    ];
    assert_refused(&schema, full, &wrong);

    // The first version 1 does not write yet; it reads it.
    let (run, time) = (RunId([0xab; 16]), "2026-01-01T00:00:00.000000Z".to_owned());
    let end = |exit_status| RunRecord::End(RunEnd { run, time: time.clone(), sequence: 0, exit_status });
    let update = RunUpdate { run, time: time.clone(), sequence: u64::MAX, metrics: Map::new(), tags: Vec::new() };
    let rest =
        [end(Some(-1)), end(None), RunRecord::Forget(RunForget { run, time: time.clone() }), RunRecord::Update(update)];
    for (record, may_lack) in rest.iter().zip([&["/exit_status"][..], &[], &[], &[]]) {
        let record = serde_json::to_value(record).expect("JSON");
        assert_valid(&schema, &record);
        assert_eq!(optional(&schema, &record), may_lack, "{record}");
        assert_closed(&schema, &record, &[""]);
    }
}

/// A record that the library is asked for without any options has all that the schema demands.
#[test]
fn records_of_the_bare_library() {
    use runsnap::operations::capture::{CaptureOptions, Target, capture};
    let project = Project::with_code();
    let (store, _) = runsnap::store::Store::init(&project.store()).expect("made");
    capture(&store, &CaptureOptions::new(Target::Tree(project.root())), &()).expect("captured");
    let records = records(&project);
    assert_eq!(records.len(), 1);
    assert_valid(&schema(RECORD), &records[0]);
}

#[test]
fn strategy_yaml() {
    let schema = schema(STRATEGY);
    let yaml = |text: &str| -> Value { serde_yaml::from_str(text).expect("YAML") };
    let example = yaml(include_str!("../../examples/sma_crossover/strategy.yaml"));
    assert_valid(&schema, &example);
    assert!(example["files"].as_array().is_some_and(|files| !files.is_empty()));
    for good in ["files: []", "mode: entry_point_only", "files: [a.py]\nexclude: ['*.txt']\nmode: tracked\nother: 1"] {
        assert_valid(&schema, &yaml(good));
    }
    // What the schema refuses, the program does not take without a word either.
    for bad in [
        "{}",
        "[]",
        "files: a.py",
        "files: ['']",
        "files: [1]",
        "mode: tracked",
        "files: []\nmode: odd",
        "files: []\nexclude: a",
    ] {
        assert!(!schema.is_valid(&yaml(bad)), "{bad}");
        let project = Project::with_code();
        project.write("strategy.yaml", bad);
        let captured: Finished = project.run(["capture", "strategy.py", "--quiet"]).expect(3);
        assert!(captured.stderr.contains("strategy.yaml"), "{bad}: {}", captured.stderr);
    }
}
