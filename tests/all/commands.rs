//! What each command prints and does when all is well.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;

use insta::assert_snapshot;
use serde_json::{Value, json};

use crate::support::{Finished, Project, Tree, tree};

/// A command's output, with what differs from time to time put in brackets.
fn told(project: &Project, text: &str) -> String {
    let text = text.replace(project.folder.path().to_str().expect("text"), "[folder]");
    let fits = |pattern: &str, text: &str| {
        let mut chars = text.chars();
        pattern.chars().all(|p| match (p, chars.next()) {
            ('9', Some(c)) => c.is_ascii_digit(),
            ('f', Some(c)) => c.is_ascii_digit() || ('a'..='f').contains(&c),
            (p, c) => c == Some(p),
        })
    };
    let run_id = "f".repeat(32);
    let mut out = String::new();
    let mut rest = text.as_str();
    while let Some(c) = rest.chars().next() {
        let hex = rest.chars().take_while(|c| c.is_ascii_hexdigit()).count();
        let (shown, length) = if hex == 32 && fits(&run_id, rest) {
            ("[run]", 32)
        } else if fits("9999-99-99T99:99:99.999999Z", rest) {
            ("[time]", 27)
        } else if fits("9999-99-99 99:99:99", rest) {
            ("[time]             ", 19)
        } else {
            out.extend(rest.chars().take(hex.max(1)));
            rest = &rest[if hex > 0 { hex } else { c.len_utf8() }..];
            continue;
        };
        out += shown;
        rest = &rest[length..];
    }
    out.replace("[time]             \n", "[time]\n")
}

/// What a command that has nothing to complain of prints.
#[track_caller]
fn printed(project: &Project, arguments: &[&str]) -> String {
    let finished = project.run(arguments).expect(0);
    assert_eq!(finished.stderr, "");
    told(project, &finished.stdout)
}

#[track_caller]
fn json_of(project: &Project, arguments: &[&str]) -> Value {
    let finished = project.run([arguments, &["--json"]].concat()).expect(0);
    assert_eq!(finished.stderr, "");
    finished.json()
}

/// One field of each run that `list` gives.
#[track_caller]
fn listed(project: &Project, arguments: &[&str]) -> Vec<String> {
    let listed = json_of(project, &[&["list"], arguments].concat());
    listed["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| run["name"].as_str().unwrap_or("-").to_owned())
        .collect()
}

/// The paths in a run's snapshot, by `show`.
#[track_caller]
fn paths(project: &Project, run: &str) -> Vec<String> {
    let shown = json_of(project, &["show", run]);
    shown["files"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|file| file["path"].as_str().expect("text").to_owned())
        .collect()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().expect("an object").keys().map(String::as_str).collect()
}

fn names(tree: &Tree) -> Vec<&str> {
    tree.keys().filter_map(|path| path.to_str()).collect()
}

#[test]
fn capture_and_restore_give_back_every_byte() {
    let project = Project::with_code();
    let captured = project.capture("first");
    assert_eq!(captured["files"], 7);
    assert_eq!(project.restored("first"), tree(&project.root()));
}

#[test]
fn unchanged_code_writes_no_pack() {
    let project = Project::with_code();
    let first = project.capture("first");
    let second = project.capture("second");
    assert_eq!(first["snapshot"], second["snapshot"]);
    assert_eq!(second["new_bytes"], 0);
    assert_eq!(project.store_files("packs").len(), 1);
    assert_eq!(project.store_files("runs").len(), 1);
}

#[test]
fn each_version_comes_back_as_it_was() {
    let project = Project::with_code();
    let mut versions = Vec::new();
    for n in 0..40 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n{}", "# a line that stays\n".repeat(200)));
        project.write(format!("momentum/new_{}.py", n % 7), format!("VALUE = {n}\n"));
        project.capture(&format!("run-{n}"));
        versions.push(tree(&project.root()));
    }
    for (n, version) in versions.iter().enumerate() {
        assert_eq!(&project.restored(&format!("run-{n}")), version, "run-{n}");
    }
    project.run(["verify", "--read-data"]).expect(0);
    let packs = project.store_files("packs").len() as u64;
    assert!(packs < 16, "{packs} packs: captures merge them by the way");
    let indexed = project.run(["reindex", "--json"]).expect(0).json();
    assert_eq!((indexed["runs"].as_u64(), indexed["packs"].as_u64()), (Some(40), Some(packs)));
    fs::remove_file(project.store().join("index.sqlite")).expect("made");
    assert_eq!(&project.restored("run-11"), &versions[11]);
    assert_eq!(&project.restored("run-39"), &versions[39]);
}

#[test]
fn init() {
    let project = Project::new();
    assert_snapshot!(printed(&project, &["init"]), @"Made a store in [folder]/project/.runsnap");
    assert_snapshot!(printed(&project, &["init"]), @"There is a store already in [folder]/project/.runsnap");
    assert_eq!(fs::read_to_string(project.store().join(".gitignore")).expect("written"), "*\n");
    let mut names: Vec<_> =
        fs::read_dir(project.store()).expect("there").map(|e| e.expect("readable").file_name()).collect();
    names.sort();
    assert_eq!(names, [".gitignore", "config.json", "packs", "runs", "tmp", "writers"]);

    let again = json_of(&project, &["init"]);
    assert_eq!((&again["created"], again["store"].as_str().map(str::len)), (&json!(false), Some(32)));
    let other = json_of(&project, &["init", "new/folder"]);
    assert_eq!((&other["path"], &other["created"]), (&json!("new/folder/.runsnap"), &json!(true)));
    assert_ne!(other["store"], again["store"]);
    let named = json_of(&project, &["init", "--store", "named"]);
    assert_eq!((&named["path"], &named["created"]), (&json!("named"), &json!(true)));
    assert!(project.path("named/config.json").is_file());
    let both = project.run(["init", "new", "--store", "named"]).expect(2);
    assert!(both.stderr.contains("cannot be used with"), "{}", both.stderr);

    let mut by_variable = project.command(["init", "--json"]);
    let by_variable =
        Finished::from(by_variable.env("RUNSNAP_STORE", "variable").output().expect("it starts")).expect(0);
    assert_eq!(by_variable.json()["path"], "variable");
    let mut option_first = project.command(["list", "--json", "--store", "named"]);
    Finished::from(option_first.env("RUNSNAP_STORE", "nowhere").output().expect("it starts")).expect(0);
    let mut empty = project.command(["list", "--json"]);
    Finished::from(empty.env("RUNSNAP_STORE", "").output().expect("it starts")).expect(0);
}

#[test]
fn the_store_is_the_nearest_upwards() {
    let project = Project::with_code();
    project.capture("first");
    let mut below = project.command(["list", "--json"]);
    below.current_dir(project.path("momentum"));
    assert_eq!(Finished::from(below.output().expect("it starts")).expect(0).json()["runs"][0]["name"], "first");
    project.write("inner/setup.py", "");
    let mut inner = project.command(["capture", "--tree", ".", "--json"]);
    let inner = Finished::from(inner.current_dir(project.path("inner")).output().expect("it starts")).expect(0).json();
    assert_eq!((&inner["store"], &inner["files"]), (&json!(project.store()), &json!(1)));
}

#[test]
fn capture_text() {
    let project = Project::with_code();
    let first = printed(&project, &["capture", "--tree", ".", "--run", "first"]);
    let (known, new) = first.rsplit_once(", ").expect("parts");
    assert_snapshot!(known, @"Captured first: snapshot 8fc80159766b, 7 files, 148 B");
    assert!(new.ends_with(" B new in the store\n"), "{new}");
    assert_snapshot!(printed(&project, &["capture", "--tree", "."]), @"Captured [run]: snapshot 8fc80159766b, 7 files, 148 B, nothing new");
    assert_eq!(printed(&project, &["capture", "--tree", ".", "--quiet"]), "");
    assert_eq!(printed(&project, &["capture", "--tree", ".", "-q"]), "");
    assert_eq!(listed(&project, &[]), ["first", "-", "-", "-"]);
}

#[test]
fn capture_json() {
    let project = Project::with_code();
    let arguments = ["capture", "--tree", ".", "--run", "first", "--sweep", "grid", "--tag", "t", "--param", "fast=10"];
    let captured = json_of(&project, &arguments);
    let fields = [
        "bytes",
        "data",
        "entry_point",
        "files",
        "left_out",
        "name",
        "new_bytes",
        "run",
        "snapshot",
        "statuses",
        "store",
        "tracked_by",
        "warnings",
    ];
    assert_eq!(keys(&captured), fields);
    let bytes: usize = tree(&project.root()).values().map(|(_, content)| content.len()).sum();
    assert_eq!(
        (&captured["name"], &captured["files"], &captured["bytes"]),
        (&json!("first"), &json!(7), &json!(bytes))
    );
    let packs: u64 = project.store_files("packs").iter().map(|pack| pack.metadata().expect("there").len()).sum();
    assert_eq!((&captured["new_bytes"], &captured["tracked_by"]), (&json!(packs), &json!("tree")));
    assert_eq!(
        (captured["run"].as_str().map(str::len), captured["snapshot"].as_str().map(str::len)),
        (Some(32), Some(64))
    );
    assert_eq!(
        (&captured["left_out"], &captured["warnings"], &captured["entry_point"]),
        (&json!([]), &json!([]), &json!(null))
    );
}

#[test]
fn parameters_are_numbers_where_they_look_like_it() {
    let project = Project::with_code();
    let params = [
        "int=10",
        "float=0.5",
        "small=1e-9",
        "yes=true",
        "none=null",
        "text=abc",
        "empty=",
        "equals=a=b",
        "list=[1]",
        "id=007",
    ];
    let arguments: Vec<&str> = params.iter().flat_map(|param| ["--param", param]).collect();
    project.run([&["capture", "--tree", ".", "--run", "first"], &arguments[..]].concat()).expect(0);
    let expected = json!({
        "int": 10, "float": 0.5, "small": 1e-9, "yes": true, "none": null, "text": "abc", "empty": "", "equals": "a=b",
        "list": "[1]", "id": "007",
    });
    assert_eq!(json_of(&project, &["show", "first"])["params"], expected);
}

#[test]
fn capture_of_an_entry_with_strategy_yaml() {
    let project = Project::with_code();
    project.write(
        "strategies/strategy.yaml",
        "files:\n  - ../momentum/**/*.py\n  - config\n  - '*.md'\nexclude: ['config/old', '../momentum/empty.py']\n",
    );
    project.write("strategies/live.py", "import momentum\n");
    project.write("strategies/notes.md", "\n");
    project.write("strategies/other.py", "\n");
    project.write("strategies/config/a.ini", "[a]\n");
    project.write("strategies/config/deep/b.ini", "[b]\n");
    project.write("strategies/config/old/c.ini", "[c]\n");
    project.write("momentum/deep/more.py", "\n");
    // What is asked for by name is taken, ignored or not.
    project.write(".gitignore", "config/\n");
    let captured = json_of(&project, &["capture", "strategies/live.py", "--run", "live"]);
    assert_eq!(captured["tracked_by"], "strategy_yaml");
    let entry_point =
        json!({"path": "strategies/live.py", "kind": "script", "found_by": "command_line", "confidence": 1.0});
    assert_eq!(captured["entry_point"], entry_point);
    let expected = [
        "momentum/__init__.py",
        "momentum/deep/more.py",
        "momentum/signal.py",
        "strategies/config/a.ini",
        "strategies/config/deep/b.ini",
        "strategies/live.py",
        "strategies/notes.md",
        "strategies/strategy.yaml",
    ];
    assert_eq!(paths(&project, "live"), expected);
    assert_eq!(names(&project.restored("live")), expected);
}

#[test]
fn a_strategy_yaml_of_the_entry_point_alone() {
    let project = Project::with_code();
    project.write("strategy.yaml", "mode: entry_point_only\nfiles: ['momentum/**']\n");
    assert_eq!(json_of(&project, &["capture", "strategy.py", "--run", "first"])["tracked_by"], "entry_point_only");
    assert_eq!(paths(&project, "first"), ["strategy.py", "strategy.yaml"]);
}

#[test]
fn a_strategy_yaml_that_asks_for_what_is_not_there() {
    let project = Project::with_code();
    project.write("strategy.yaml", "files: [momentum/signal.py, gone.py, 'no/*.ini', ../up.py, /etc/passwd]\n");
    let captured = project.run(["capture", "strategy.py", "--run", "first"]).expect(3);
    assert_snapshot!(told(&project, &captured.stderr), @r#"
    warning: [folder]/project/strategy.yaml: not found: "gone.py"
    warning: [folder]/project/strategy.yaml: nothing matches "no/*.ini"
    warning: [folder]/project/strategy.yaml: leads out of the project: "../up.py"
    warning: [folder]/project/strategy.yaml: an absolute path is not taken: "/etc/passwd"
    warning: The run uses files that strategy.yaml does not list: momentum/__init__.py
    "#);
    assert_eq!(paths(&project, "first"), ["momentum/signal.py", "strategy.py", "strategy.yaml"]);
    assert_eq!(json_of(&project, &["show", "first"])["warnings"].as_array().map(Vec::len), Some(5));
    project.write("strategy.yaml", "files: [\n");
    let captured = project.run(["capture", "strategy.py", "--json"]).expect(3);
    assert!(captured.stderr.contains("strategy.yaml decides nothing: not valid YAML"), "{}", captured.stderr);
    assert_eq!((&captured.json()["tracked_by"], &captured.json()["files"]), (&json!("imports"), &json!(3)));
}

#[test]
fn capture_of_an_entry_follows_its_imports() {
    let project = Project::with_code();
    project.write("strategy.py", "import momentum, not_there\nopen('long.csv')\nopen('short.csv')\n");
    project.write("short.csv", "1\n");
    project.write("long.csv", "1\n".repeat(1 << 20));
    let captured = project.run(["capture", "strategy.py", "--run", "first", "--json"]).expect(0);
    assert!(captured.stderr.contains("would look: not_there ("), "{}", captured.stderr);
    let expected = ["momentum/__init__.py", "momentum/signal.py", "short.csv", "strategy.py"];
    assert_eq!(paths(&project, "first"), expected);
    let captured = captured.json();
    assert_eq!(captured["tracked_by"], "imports");
    let shown = json_of(&project, &["show", "first"]);
    assert_eq!(shown["entry_point"]["path"], "strategy.py");
    let id = runsnap::id::ObjectId::of("1\n".repeat(1 << 20).as_bytes()).to_string();
    assert_eq!(shown["data"], json!([{"path": "long.csv", "bytes": 2 << 20, "id": id}]));
    assert_eq!(captured["data"], shown["data"]);
    // With what it did not find before, and with a higher limit.
    project.write("not_there.py", "");
    let captured =
        project.run(["capture", "strategy.py", "--run", "second", "--data-limit", "3MB", "--quiet"]).expect(0);
    assert_eq!((captured.stdout.as_str(), captured.stderr.as_str()), ("", ""));
    assert_eq!(paths(&project, "second").len(), 6);
}

#[test]
fn detect_tells_what_is_tracked_and_why() {
    let project = Project::with_code();
    project.write(
        "strategy.py",
        "import momentum\nfrom typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import types_only\n\
         def plot():\n    import plots\nopen('prices.csv')\nimport gone_away\n",
    );
    for file in ["types_only.py", "plots.py", "prices.csv", "other.py"] {
        project.write(file, "");
    }
    let detected = project.run(["detect", "strategy.py"]).expect(0).stdout;
    let (head, tree) = detected.split_once("\n\n").expect("two parts");
    assert!(head.starts_with("entry point  strategy.py, script\nproject      "), "{head}");
    assert_snapshot!(tree, @r"
    strategy.py
      momentum/__init__.py  (import, line 1)
        momentum/signal.py  (import, line 1)
      plots.py  (import, line 6, in a function)
      prices.csv  (data, line 7)

    5 files

    read by type checkers alone:
      types_only.py

    imported, but not found:
      gone_away, strategy.py:8
    ");
    let json = project.run(["detect", "strategy.py", "--json"]).expect(0).json();
    let signal = json["files"].as_array().expect("a list").iter().find(|f| f["path"] == "momentum/signal.py");
    let expected = json!({
        "path": "momentum/signal.py", "reason": "import", "certainty": "certain", "module": "momentum.signal",
        "by": {"path": "momentum/__init__.py", "line": 1},
    });
    assert_eq!(signal, Some(&expected));
    let entry = json_of(&project, &["detect", "--entry-only", "-m", "momentum.signal"]);
    assert_eq!(entry.get("files"), None);
    assert_eq!(
        (&entry["entry_point"]["kind"], &entry["entry_point"]["module"]),
        (&json!("module"), &json!("momentum.signal"))
    );
    project.run(["detect", "-m", "no.such"]).expect_line(2, &["No module no.such"]);
    project.run(["detect", "gone.py"]).expect_line(1, &["gone.py"]);
    project.run(["detect"]).expect_line(2, &["Name a program"]);
    project.run(["detect", "strategy.py", "--python", "no/such/python"]).expect_line(1, &["no/such/python"]);
}

#[test]
fn arguments_of_the_program_name_files_and_modules() {
    let project = Project::with_code();
    project.write("strategy.py", "import importlib, sys\nimportlib.import_module(sys.argv[1])\n");
    for file in ["configs/live.py", "configs/paper.py", "params.json", "extra.py", "old.json", "long.csv"] {
        project.write(file, "1\n".repeat(if file == "long.csv" { 1 << 20 } else { 1 }));
    }
    let arguments = ["configs.live", "--params=params.json", "--out", "old.json", "extra.py", "long.csv", "../x", "/"];
    let with = |command: &[&'static str]| [command, &["--"], &arguments].concat();
    let json = project.run(with(&["detect", "strategy.py", "--json"])).expect(0).json();
    let files = json["files"].as_array().expect("a list");
    let told: Vec<String> = files.iter().map(|f| format!("{} {} {}", f["path"], f["reason"], f["certainty"])).collect();
    let expected = [
        r#""configs/live.py" "dynamic_import" "lazy""#,
        r#""extra.py" "argument" "conditional""#,
        r#""params.json" "argument" "conditional""#,
        r#""strategy.py" "entry_point" "certain""#,
    ];
    assert_eq!(told, expected);
    assert_eq!(json["data"][0]["path"], "long.csv");
    let text = project.run(with(&["detect", "strategy.py"])).expect(0).stdout;
    assert!(text.contains("  params.json  (argument, conditional)\n"), "{text}");
    assert!(text.contains("  long.csv (2.1 MB), strategy.py\n"), "{text}");
    project.run(with(&["capture", "strategy.py", "--run", "with"])).expect(0);
    project.run(["capture", "strategy.py", "--run", "without"]).expect(0);
    assert_eq!(paths(&project, "with"), ["configs/live.py", "extra.py", "params.json", "strategy.py"]);
    assert_eq!(paths(&project, "without"), ["strategy.py"]);
    for command in [&["capture", "--tree", "."][..], &["detect", "--pid", "1"]] {
        project.run(with(command)).expect_line(2, &["cannot be used with"]);
    }
}

#[test]
fn files_outside_of_the_project_are_kept_beside_it() {
    let project = Project::with_code();
    project.write("strategy.py", "import momentum, shared.costs\nprint(shared.costs.FEE)\n");
    for (path, text) in [("lib/shared/__init__.py", ""), ("lib/shared/costs.py", "FEE = 7\n"), ("lib/unused.py", "")] {
        let path = project.beside(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    }
    let library = project.beside("lib");
    let mut capture = project.command(["capture", "strategy.py", "--run", "first"]);
    let captured: Finished = capture.env("PYTHONPATH", &library).output().expect("it starts").into();
    assert_eq!(captured.expect(0).stderr, "");
    let expected = [
        ".runsnap-outside/lib/shared/__init__.py",
        ".runsnap-outside/lib/shared/costs.py",
        "momentum/__init__.py",
        "momentum/signal.py",
        "strategy.py",
    ];
    assert_eq!(paths(&project, "first"), expected);
    let real = library.canonicalize().expect("there");
    assert_eq!(json_of(&project, &["show", "first"])["outside"], json!({"lib": real}));
    let output = project.beside("restored");
    let told = printed(&project, &["restore", "first", "--output", output.to_str().expect("UTF-8")]);
    assert!(told.ends_with("outside of the project, are in [folder]/restored/.runsnap-outside/lib\n"), "{told}");
    fs::remove_dir_all(&library).expect("gone");
    let ran = std::process::Command::new("python3")
        .arg("strategy.py")
        .current_dir(&output)
        .env("PYTHONPATH", output.join(".runsnap-outside/lib"))
        .output()
        .expect("python3 starts");
    assert_eq!(String::from_utf8_lossy(&ran.stdout), "7\n");
    // The snapshot has no absolute path in it: the same files elsewhere are the same snapshot.
    project.run(["verify", "--read-data"]).expect(0);
    project.run(["gc"]).expect(0);
    assert_eq!(paths(&project, "first"), expected);
}

#[test]
#[cfg(target_os = "linux")]
fn a_running_process_is_captured() {
    use std::io::BufRead as _;
    let project = Project::with_code();
    project.write("strategy.py", "import momentum, sys\nprint('runs', flush=True)\nsys.stdin.read()\n");
    let mut running = std::process::Command::new("python3")
        .arg("strategy.py")
        .current_dir(project.root())
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let mut line = String::new();
    let output = running.stdout.take().expect("piped");
    std::io::BufReader::new(output).read_line(&mut line).expect("it says that it runs");
    let captured = json_of(&project, &["capture", "--pid", &running.id().to_string(), "--run", "first"]);
    drop(running.stdin.take());
    running.wait().expect("it ends");
    let entry_point = json!({"path": "strategy.py", "kind": "script", "found_by": "process", "confidence": 1.0});
    assert_eq!(captured["entry_point"], entry_point);
    assert_eq!(paths(&project, "first"), ["momentum/__init__.py", "momentum/signal.py", "strategy.py"]);
    project.run(["capture", "--pid", "0"]).expect_line(1, &["0"]);
}

/// A private key's beginning, in two pieces: this file holds none.
fn key_header() -> String {
    format!("-----BEGIN {} KEY-----\nMIIEow\n", ["RSA", "PRIVATE"].join(" "))
}

#[test]
fn secrets_are_left_out_and_listed() {
    let project = Project::with_code();
    project.write(".env", "PASSWORD=1\n");
    project.write(".env.example", "PASSWORD=\n");
    project.write("deploy/id_rsa", key_header());
    // The certificate comes first in many such files.
    project.write("server.pem", format!("-----BEGIN CERTIFICATE-----\n{}\n{}", "MIIC\n".repeat(2_000), key_header()));
    project.write("ca.pem", "-----BEGIN CERTIFICATE-----\nMIIC\n");
    let captured = project.run(["capture", "--tree", ".", "--run", "first", "--json", "--run-dir", "run"]).expect(0);
    assert_snapshot!(captured.stderr, @r"
    warning: Left out, a secret: .env (--include-secrets takes it in)
    warning: Left out, a secret: deploy/id_rsa (--include-secrets takes it in)
    warning: Left out, a secret: server.pem (--include-secrets takes it in)
    ");
    let secret = |path: &str| json!({"path": path, "reason": "secret"});
    let left_out = json!([secret(".env"), secret("deploy/id_rsa"), secret("server.pem")]);
    assert_eq!(captured.json()["left_out"], left_out);
    assert_eq!(json_of(&project, &["show", "first"])["left_out"], left_out);
    let metadata = fs::read(project.path("run/metadata/backtest_metadata.json")).expect("written");
    assert_eq!(serde_json::from_slice::<Value>(&metadata).expect("JSON")["left_out"], left_out);
    let restored = project.restored("first");
    assert!(restored.contains_key(Path::new("ca.pem")) && restored.contains_key(Path::new(".env.example")));
    assert!([".env", "deploy/id_rsa", "server.pem"].iter().all(|path| !restored.contains_key(Path::new(path))));
    for path in project.store_files("packs").iter().chain(&project.store_files("runs")) {
        let bytes = fs::read(path).expect("readable");
        assert!(!bytes.windows(10).any(|window| window == b"PASSWORD=1"), "{}", path.display());
    }

    let kept = project.run(["capture", "--tree", ".", "--run", "kept", "--include-secrets", "--json"]).expect(0);
    assert_eq!((kept.stderr.as_str(), &kept.json()["left_out"]), ("", &json!([])));
    let mut expected = tree(&project.root());
    expected.retain(|path, _| !path.starts_with("run"));
    assert_eq!(project.restored("kept"), expected);
}

#[test]
fn code_with_a_token_is_stored_with_a_warning() {
    let project = Project::with_code();
    let token = format!("{}{}", "AKIA", "QWERTYUIOPASDFGH");
    project.write("broker.py", format!("import os\n\nKEY = \"{token}\"\n"));
    let captured = project.run(["capture", "--tree", ".", "--run", "first"]).expect(0);
    assert_snapshot!(captured.stderr, @"warning: broker.py:3 holds what looks like a secret (AWS access key id); it is stored with the code");
    assert_eq!(project.restored("first"), tree(&project.root()));
    let journals: Vec<u8> =
        project.store_files("runs").iter().flat_map(|path| fs::read(path).expect("readable")).collect();
    assert!(!journals.windows(token.len()).any(|window| window == token.as_bytes()), "the record has no token");
}

#[test]
fn ignored_files_and_environments_are_left_out() {
    let project = Project::with_code();
    let code = names(&tree(&project.root())).into_iter().map(str::to_owned).collect::<BTreeSet<_>>();
    project.write(".gitignore", "*.log\n/results/\n!keep.log\n");
    project.write(".runsnapignore", "big.csv\n");
    project.write("momentum/.gitignore", "local_*\n");
    for path in [
        "a.log",
        "momentum/b.log",
        "results/c.csv",
        "big.csv",
        "momentum/local_d.py",
        ".git/HEAD",
        ".git/objects/ab/cdef",
        "momentum/__pycache__/signal.cpython-312.pyc",
        "venv/pyvenv.cfg",
        "venv/lib/site.py",
        "conda/conda-meta/history",
        "conda/lib/x.py",
        "nested/.runsnap/config.json",
    ] {
        project.write(path, "x\n");
    }
    let kept =
        [".gitignore", ".runsnapignore", "keep.log", "momentum/.gitignore", "momentum/results/e.csv", ".hidden/f.py"];
    project.write("keep.log", "");
    project.write("momentum/results/e.csv", "");
    project.write(".hidden/f.py", "");
    project.capture("first");
    let expected: BTreeSet<String> = code.into_iter().chain(kept.map(str::to_owned)).collect();
    assert_eq!(paths(&project, "first").into_iter().collect::<BTreeSet<_>>(), expected);
}

#[test]
fn folders_of_earlier_runs_are_left_out() {
    let project = Project::with_code();
    let expected = project.capture("first");
    for n in 0..3 {
        let folder = format!("output/runs/{n}");
        let captured =
            json_of(&project, &["capture", "--tree", ".", "--run-dir", &folder, "--run", &format!("run-{n}")]);
        assert_eq!(captured["snapshot"], expected["snapshot"]);
        // What a backtest writes beside them is its result, not its code.
        project.write(format!("output/runs/{n}/equity.csv"), "1\n");
    }
    // The tree's own root can be a run's folder.
    for name in ["own", "again"] {
        let captured = json_of(&project, &["capture", "--tree", ".", "--run-dir", ".", "--run", name]);
        assert_eq!(captured["snapshot"], expected["snapshot"]);
    }
    assert!(project.path("metadata/manifest.json").is_file());
}

#[test]
fn run_folders_have_two_files() {
    let project = Project::with_code();
    let captured = json_of(&project, &["capture", "--tree", ".", "--run", "first", "--run-dir", "runs/first"]);
    let files = tree(&project.path("runs/first"));
    assert_eq!(names(&files), ["metadata/backtest_metadata.json", "metadata/manifest.json"]);
    let manifest: Value = serde_json::from_slice(&files[Path::new("metadata/manifest.json")].1).expect("JSON");
    for field in ["run", "name", "snapshot", "files", "bytes"] {
        assert_eq!(manifest[field], captured[field], "{field}");
    }
    let shown = json_of(&project, &["show", "first"]);
    assert_eq!((&manifest["store"], &manifest["time"]), (&shown["store"], &shown["time"]));
    assert_eq!(shown["run_folder"]["path"], json!(project.path("runs/first")));
    // Into one folder twice: the later run has it.
    project.run(["capture", "--tree", ".", "--run", "second", "--run-dir", "runs/first"]).expect(0);
    let manifest: Value =
        serde_json::from_slice(&fs::read(project.path("runs/first/metadata/manifest.json")).expect("there"))
            .expect("JSON");
    assert_eq!(manifest["name"], "second");
    // A run is more than its folder.
    fs::remove_dir_all(project.path("runs")).expect("removed");
    project.run(["verify", "--read-data"]).expect(0);
    assert_eq!(project.restored("first"), project.restored("second"));
}

#[test]
fn an_empty_tree_is_a_run_too() {
    let project = Project::new();
    fs::remove_file(project.path("pyproject.toml")).expect("removed");
    fs::create_dir_all(project.path("empty/folders")).expect("folders");
    let captured = project.capture("nothing");
    assert_eq!((&captured["files"], &captured["bytes"]), (&json!(0), &json!(0)));
    assert_eq!(project.restored("nothing"), Tree::new());
    project.write("a.py", "");
    assert_eq!(project.capture("something")["bytes"], 0);
    assert_eq!(names(&project.restored("something")), ["a.py"]);
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn log() {
    let project = Project::with_code();
    project.run(["capture", "--tree", ".", "--run", "first", "--tag", "b"]).expect(0);
    assert_eq!(
        printed(&project, &["log", "first", "--metric", "sharpe=1.5", "--metric", "note=good", "--tag", "c"]),
        ""
    );
    let logged = json_of(&project, &["log", "latest", "--metric", "sharpe=2", "--tag", "a", "--tag", "b"]);
    assert_eq!(
        (keys(&logged), &logged["metrics"], &logged["tags"]),
        (vec!["metrics", "run", "tags"], &json!({"sharpe": 2}), &json!(["a", "b"]))
    );
    let shown = json_of(&project, &["show", "first"]);
    assert_eq!((&shown["metrics"], &shown["tags"]), (&json!({"note": "good", "sharpe": 2}), &json!(["a", "b", "c"])));
    project.run(["log", "first"]).expect_line(2, &["Nothing to log", "--metric"]);
    project.run(["log", "first", "--metric", "sharpe"]).expect(2);
    project.run(["log", "second", "--tag", "a"]).expect_line(1, &["No run \"second\""]);
}

/// Six runs of two sweeps, and one outside of any.
fn with_runs() -> Project {
    let project = Project::with_code();
    for (n, sharpe) in [0.5, 1.5, 2.5, 1.0, 3.0, 2.0].into_iter().enumerate() {
        let name = format!("run-{n}");
        project.write("momentum/signal.py", format!("WINDOW = {}\n", n / 2));
        if n == 3 {
            project.write("momentum/late.py", "LATE = True\n");
        }
        let (sweep, fast) = (if n < 4 { "grid" } else { "random" }, format!("fast={}", 10 * n));
        project
            .run(["capture", "--tree", ".", "--run", &name, "--sweep", sweep, "--param", &fast, "--quiet"])
            .expect(0);
        project.run(["log", &name, "--metric", &format!("sharpe={sharpe}")]).expect(0);
    }
    project.capture("alone");
    project
}

#[test]
fn list() {
    let project = with_runs();
    project.run(["log", "run-5", "--tag", "best", "--tag", "again"]).expect(0);
    assert_snapshot!(printed(&project, &["list"]), @r#"
    RUN    TIME                 SWEEP   SNAPSHOT      FILES  PARAMS   METRICS     TAGS
    run-0  [time]               grid    c895183d5792      7  fast=0   sharpe=0.5
    run-1  [time]               grid    c895183d5792      7  fast=10  sharpe=1.5
    run-2  [time]               grid    c812dd5fb7d7      7  fast=20  sharpe=2.5
    run-3  [time]               grid    47f123bb0748      8  fast=30  sharpe=1
    run-4  [time]               random  f9d7d06dfef9      8  fast=40  sharpe=3
    run-5  [time]               random  f9d7d06dfef9      8  fast=50  sharpe=2    again best
    alone  [time]                       f9d7d06dfef9      8
    "#);
    assert_snapshot!(printed(&project, &["list", "--sweeps"]), @r#"
    SWEEP   RUNS  SNAPSHOTS  FIRST                LAST
    grid       4          3  [time]               [time]
    random     2          1  [time]               [time]
    (none)     1          1  [time]               [time]
    "#);
    assert_snapshot!(printed(&project, &["list", "--file", "momentum/late.py", "--limit", "2"]), @r#"
    RUN    TIME                 SWEEP   SNAPSHOT      FILE          FILES  PARAMS   METRICS   TAGS
    run-5  [time]               random  f9d7d06dfef9  71bc0bd9e396      8  fast=50  sharpe=2  again best
    alone  [time]                       f9d7d06dfef9  71bc0bd9e396      8
    "#);
    assert_snapshot!(printed(&project, &["list", "--sweep", "none"]), @"RUN  TIME  SWEEP  SNAPSHOT  FILES  PARAMS  METRICS  TAGS");

    assert_eq!(listed(&project, &[]), ["run-0", "run-1", "run-2", "run-3", "run-4", "run-5", "alone"]);
    assert_eq!(listed(&project, &["--sweep", "random"]), ["run-4", "run-5"]);
    assert_eq!(listed(&project, &["--where", "metrics.sharpe > 1.5 and params.fast < 50"]), ["run-2", "run-4"]);
    assert_eq!(listed(&project, &["--where", "tag = 'best' or not sharpe exists"]), ["run-5", "alone"]);
    assert_eq!(
        listed(&project, &["--sort", "metrics.sharpe", "--sweep", "grid"]),
        ["run-0", "run-3", "run-1", "run-2"]
    );
    assert_eq!(listed(&project, &["--sort", "-metrics.sharpe", "--limit", "3"]), ["run-4", "run-2", "run-5"]);
    assert_eq!(listed(&project, &["--limit", "2"]), ["run-5", "alone"]);
    assert_eq!(listed(&project, &["--limit", "0"]), [""; 0]);
    assert_eq!(listed(&project, &["--file", "momentum/late.py"]), ["run-3", "run-4", "run-5", "alone"]);
    assert_eq!(listed(&project, &["--file", "momentum"]), [""; 0], "a folder is no file");
    let with_file = json_of(&project, &["list", "--file", "momentum/signal.py", "--limit", "1"]);
    let shown = json_of(&project, &["show", "alone"]);
    let signal = shown["files"].as_array().expect("a list").iter().find(|file| file["path"] == "momentum/signal.py");
    assert_eq!(with_file["runs"][0]["file"], signal.expect("there")["id"]);
    let sweeps = json_of(&project, &["list", "--sweeps"]);
    let counts: Vec<Value> = sweeps["sweeps"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|s| json!([s["sweep"], s["runs"], s["snapshots"]]))
        .collect();
    assert_eq!(counts, [json!(["grid", 4, 3]), json!(["random", 2, 1]), json!([null, 1, 1])]);
    let first = json_of(&project, &["list", "--limit", "1", "--sort", "time"])["runs"][0].clone();
    assert_eq!(
        (&first["run"].as_str().map(str::len), &first["name"], &first["sweep"]),
        (&Some(32), &json!("run-0"), &json!("grid"))
    );
    assert_eq!(
        (&first["params"], &first["metrics"], &first["tags"]),
        (&json!({"fast": 0}), &json!({"sharpe": 0.5}), &json!([]))
    );
    project.run(["list", "--where", "sharpe >"]).expect_line(2, &["filter"]);
    project.run(["list", "--sort", "a b"]).expect_line(2, &["key"]);
    project.run(["list", "--sweeps", "--sort", "time"]).expect(2);
}

/// A store may serve several projects; what is asked for without saying more is the current one's.
#[test]
fn projects_that_share_a_store() {
    let (one, two) = (Project::with_code(), Project::with_code());
    two.write("strategy.py", "print(2)\n");
    one.run(["init"]).expect(0);
    let store = one.store();
    let run = |project: &Project, arguments: &[&str]| {
        let mut command = project.command(arguments);
        Finished::from(command.env("RUNSNAP_STORE", &store).output().expect("it starts")).expect(0)
    };
    for (project, name) in [(&one, "a"), (&two, "b"), (&one, "c"), (&two, "d")] {
        run(project, &["capture", "--tree", ".", "--run", name]);
    }
    let listed = |project: &Project, arguments: &[&str]| -> Vec<String> {
        let json = run(project, &[&["list", "--json"], arguments].concat()).json();
        json["runs"]
            .as_array()
            .expect("a list")
            .iter()
            .map(|run| run["name"].as_str().expect("text").to_owned())
            .collect()
    };
    assert_eq!((listed(&one, &[]), listed(&two, &[])), (vec!["a".into(), "c".into()], vec!["b".into(), "d".into()]));
    assert_eq!(listed(&two, &["--all-projects"]), ["a", "b", "c", "d"]);
    let stranger = Project::new();
    assert_eq!(listed(&stranger, &[]), ["a", "b", "c", "d"], "a folder that the store has no runs of");
    let latest = |project: &Project, text: &str| run(project, &["show", text, "--json"]).json()["name"].clone();
    assert_eq!(
        (latest(&one, "latest"), latest(&one, "latest~1"), latest(&two, "latest~1")),
        (json!("c"), json!("a"), json!("b"))
    );
    assert_eq!(latest(&stranger, "latest~3"), "a");
    assert_eq!(latest(&one, "d"), "d", "a name counts in the whole store");
    run(&two, &["restore", "a", "--output", two.beside("a").to_str().expect("text")]);
    assert_eq!(tree(&two.beside("a")), tree(&one.root()));
    let taken = Finished::from(
        two.command(["capture", "--tree", ".", "--run", "a"]).env("RUNSNAP_STORE", &store).output().expect("it starts"),
    );
    taken.expect_line(1, &["\"a\" is in the store already"]);
}

#[test]
fn show() {
    let project = Project::with_code();
    project.write("strategy.yaml", "files: ['**']\n");
    let arguments =
        ["--run", "first", "--sweep", "grid", "--param", "fast=10", "--tag", "b", "--tag", "a", "--run-dir", "run"];
    project.run([&["capture", "strategy.py"], &arguments[..]].concat()).expect(0);
    project.run(["log", "first", "--metric", "sharpe=1.5"]).expect(0);
    let host = json_of(&project, &["show", "first"])["host"].as_str().expect("text").to_owned();
    let shown =
        printed(&project, &["show", "first"]).replace(&format!("host         {host}\n"), "host         [host]\n");
    assert_snapshot!(shown, @r#"
    run          [run]
    name         first
    sweep        grid
    host         [host]
    time         [time]
    project      [folder]/project
    entry point  strategy.py
    snapshot     a59423caaa1d4ce099c2a79873e68ca2242a95a54058e1ba876956881ce5d668
    files        8 files, 162 B
    params       fast = 10
    metrics      sharpe = 1.5
    tags         a, b
    run folder   [folder]/project/run

                         link latest.py -> strategy.py
    010668799aa0         27   momentum/__init__.py
    af1349b9f5f9          0   momentum/empty.py
    7a230475aded         12   momentum/signal.py
    d51882116fb7         24   pyproject.toml
    bdd9fa088183         35 x run.sh
    70ab64affbf4         39   strategy.py
    6b0443bb3a3f         14   strategy.yaml
    "#);
    let json = json_of(&project, &["show", "first"]);
    let files = json["files"].as_array().expect("a list");
    assert_eq!((files.len() as u64, &json["file_count"]), (8, &json!(8)));
    let line = |path: &str| files.iter().find(|file| file["path"] == path).expect("there");
    assert_eq!(keys(line("strategy.py")), ["bytes", "id", "path", "status"]);
    assert_eq!(keys(line("run.sh")), ["bytes", "executable", "id", "path", "status"]);
    assert_eq!(
        line("latest.py"),
        &json!({"path": "latest.py", "bytes": 11, "target": "strategy.py", "status": "unknown"})
    );
}

#[test]
fn cat() {
    let project = Project::with_code();
    let binary: Vec<u8> = (0..=255).collect();
    project.write("data.bin", &binary);
    project.write("name:with:colons.py", "x = 1\n");
    project.capture("first");
    let cat = |place: &str| project.command(["cat", place]).output().expect("it starts");
    assert_eq!(cat("first:momentum/signal.py").stdout, b"WINDOW = 20\n");
    assert_eq!(cat("latest:./momentum/signal.py").stdout, b"WINDOW = 20\n");
    assert_eq!(cat("first:data.bin").stdout, binary);
    assert_eq!(cat("first:momentum/empty.py").stdout, b"");
    assert_eq!(cat("first:latest.py").stdout, b"strategy.py", "where the link leads");
    assert_eq!(cat("first:name:with:colons.py").stdout, b"x = 1\n");
    assert_eq!(json_of(&project, &["cat", "first:run.sh"])["text"], "#!/bin/sh\nexec python3 strategy.py\n");
    assert_eq!(json_of(&project, &["cat", "first:data.bin"])["bytes"], 256);
    for path in ["momentum", "gone.py", "../strategy.py", ""] {
        project
            .run(["cat", &format!("first:{path}")])
            .expect_line(1, &[&format!("{path:?} is not in the snapshot of run first")]);
    }
    project.run(["cat", "first"]).expect_line(2, &["Not RUN:PATH"]);
}

#[test]
fn restore() {
    let project = Project::with_code();
    project.capture("first");
    let whole = tree(&project.root());
    assert_snapshot!(printed(&project, &["restore", "first", "--output", "../all"]), @"Restored first into ../all: 7 files, 148 B");
    assert_eq!(tree(&project.beside("all")), whole);
    let json = json_of(&project, &["restore", "first", "-o", "../json/deep"]);
    assert_eq!(keys(&json), ["bytes", "files", "output", "problems", "run", "snapshot"]);
    assert_eq!((&json["files"], &json["bytes"], &json["problems"]), (&json!(7), &json!(148), &json!([])));

    assert_eq!(printed(&project, &["restore", "first", "--output", "../some", "--quiet", "momentum/", "run.sh"]), "");
    let mut some = whole.clone();
    some.retain(|path, _| path.starts_with("momentum") || path == Path::new("run.sh"));
    assert_eq!(tree(&project.beside("some")), some);
    let missing = project.run(["restore", "first", "--output", "../none", "momentum", "gone.py"]);
    missing.expect_line(1, &["\"gone.py\" is not in the snapshot"]);
    assert!(!project.beside("none").exists(), "nothing is made for a path that is not there");

    project.run(["restore", "first", "--output", "../all"]).expect_line(1, &["Not empty", "--force"]);
    fs::write(project.beside("all/strategy.py"), "edited").expect("written");
    fs::write(project.beside("all/mine.txt"), "mine").expect("written");
    fs::remove_file(project.beside("all/momentum/signal.py")).expect("removed");
    fs::set_permissions(project.beside("all/run.sh"), fs::Permissions::from_mode(0o600)).expect("chmod");
    printed(&project, &["restore", "first", "--output", "../all", "--force"]);
    let mut expected = whole.clone();
    expected.insert("mine.txt".into(), ("file", b"mine".to_vec()));
    assert_eq!(tree(&project.beside("all")), expected);
    // A folder of one's own that is empty is as good as none.
    fs::create_dir(project.beside("empty")).expect("folder");
    printed(&project, &["restore", "first", "--output", "../empty"]);
    assert_eq!(tree(&project.beside("empty")), whole);
}

#[test]
fn diff() {
    let project = Project::with_code();
    project.write("data.bin", [0, 1, 2]);
    project.run(["capture", "--tree", ".", "--run", "old", "--param", "fast=10", "--param", "gone=1"]).expect(0);
    project.write("momentum/signal.py", "WINDOW = 30\nFAST = 1\n");
    project.write("momentum/new.py", "NEW = 1\n");
    project.write("data.bin", [0, 1, 3]);
    fs::remove_file(project.path("momentum/empty.py")).expect("removed");
    fs::set_permissions(project.path("run.sh"), fs::Permissions::from_mode(0o644)).expect("chmod");
    fs::remove_file(project.path("latest.py")).expect("removed");
    symlink("momentum/new.py", project.path("latest.py")).expect("linked");
    let tree_diff = printed(&project, &["diff", "old", "--working-tree"]);
    project.run(["capture", "--tree", ".", "--run", "new", "--param", "fast=12", "--param", "name=x"]).expect(0);
    let diff = printed(&project, &["diff", "old", "new"]);
    assert_snapshot!(diff, @r#"
    param fast: 10 -> 12
    param gone: 1 -> (none)
    param name: (none) -> "x"
    Binary files a/data.bin and b/data.bin differ
    --- a/latest.py
    +++ b/latest.py
    @@ -1 +1 @@
    --> strategy.py
    +-> momentum/new.py
    --- a/momentum/empty.py
    +++ /dev/null (gone)
    --- /dev/null
    +++ b/momentum/new.py (new)
    @@ -0,0 +1 @@
    +NEW = 1
    --- a/momentum/signal.py
    +++ b/momentum/signal.py
    @@ -1 +1,2 @@
    -WINDOW = 20
    +WINDOW = 30
    +FAST = 1
    --- a/run.sh
    +++ b/run.sh (type or executable bit changed)
    "#);
    assert!(!diff.contains('\x1b'), "no colours where nobody sees them");
    assert_snapshot!(printed(&project, &["diff", "old", "new", "--stat"]), @r#"
    param fast: 10 -> 12
    param gone: 1 -> (none)
    param name: (none) -> "x"
    data.bin           | binary
    latest.py          | +1 -1
    momentum/empty.py  | +0 -0 (gone)
    momentum/new.py    | +1 -0 (new)
    momentum/signal.py | +2 -1
    run.sh             | +0 -0 (type or executable bit changed)
    6 files changed, 4 lines added, 2 lines removed
    "#);
    // The working tree has no parameters; the files were the same as they are now in `new`.
    let files: String =
        diff.lines().filter(|line| !line.starts_with("param ")).map(|line| format!("{line}\n")).collect();
    assert_eq!(tree_diff, files);
    assert_eq!(printed(&project, &["diff", "old"]), files);
    assert_eq!(printed(&project, &["diff", "new"]), "");
    assert_eq!(printed(&project, &["diff", "new", "new"]), "");
    let json = json_of(&project, &["diff", "old", "new"]);
    let kinds: Vec<Value> =
        json["files"].as_array().expect("a list").iter().map(|f| json!([f["path"], f["kind"]])).collect();
    let expected = [
        json!(["data.bin", "modified"]),
        json!(["latest.py", "modified"]),
        json!(["momentum/empty.py", "removed"]),
        json!(["momentum/new.py", "added"]),
        json!(["momentum/signal.py", "modified"]),
        json!(["run.sh", "type_changed"]),
    ];
    assert_eq!(kinds, expected);
    assert_eq!(json["params"][1], json!({"name": "gone", "old": 1, "new": null}));
    project.run(["diff", "old", "new", "--working-tree"]).expect(2);
}

/// The lengths, allocated bytes and numbers of the files below a folder that a test chooses.
fn usage(root: &Path, is_part: &dyn Fn(&Path) -> bool) -> Value {
    let (mut bytes, mut allocated, mut files, mut folders) = (0, 0, 0, 0);
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let metadata = path.symlink_metadata().expect("there");
        if metadata.is_dir() {
            waiting.extend(fs::read_dir(&path).expect("readable").map(|entry| entry.expect("readable").path()));
        }
        if is_part(path.strip_prefix(root).expect("below")) {
            allocated += metadata.blocks() * 512;
            if metadata.is_dir() {
                folders += 1;
            } else {
                bytes += metadata.len();
                files += 1;
            }
        }
    }
    json!({"bytes": bytes, "allocated_bytes": allocated, "files": files, "folders": folders})
}

#[test]
fn report() {
    let project = Project::with_code();
    let mut logical = (0, 0, 0);
    for n in 0..40 {
        project.write("momentum/signal.py", format!("WINDOW = {}\n{}", n / 2, "# a line that stays\n".repeat(300)));
        let sweep = if n < 30 { "grid" } else { "random" };
        let run_dir = format!("../runs/{n}");
        project
            .run([
                "capture",
                "--tree",
                ".",
                "--run",
                &format!("run-{n}"),
                "--sweep",
                sweep,
                "--run-dir",
                &run_dir,
                "-q",
            ])
            .expect(0);
        let copy = tree(&project.root());
        logical.0 += copy.values().map(|(_, content)| content.len()).sum::<usize>();
        logical.1 += copy.len();
        logical.2 += 2;
    }
    project.run(["gc"]).expect(0);
    let report = json_of(&project, &["report"]);
    let figure = |key: &str| report[key].as_u64().unwrap_or_else(|| panic!("{key}"));
    assert_eq!((figure("runs"), figure("snapshots")), (40, 20));
    assert_eq!(
        (figure("logical_bytes"), figure("logical_files"), figure("logical_folders")),
        (logical.0 as u64, logical.1 as u64, logical.2)
    );

    let store = project.store();
    type IsPart<'a> = &'a dyn Fn(&Path) -> bool;
    let parts: [(&str, IsPart<'_>); 4] = [
        ("packs", &|path| path.starts_with("packs") && path != Path::new("packs")),
        ("journals", &|path| path.starts_with("runs") && path != Path::new("runs")),
        ("index", &|path| path == Path::new("index.sqlite")),
        ("other", &|path| {
            !["packs", "runs"].iter().any(|part| path.starts_with(part) && path != Path::new(part))
                && path != Path::new("index.sqlite")
        }),
    ];
    let mut sum = [0; 4];
    let mut add = |part: &Value| {
        for (sum, key) in sum.iter_mut().zip(["bytes", "allocated_bytes", "files", "folders"]) {
            *sum += part[key].as_u64().expect("a number");
        }
    };
    for (name, is_part) in parts {
        let walked = usage(&store, is_part);
        assert_eq!(report[name], walked, "{name}");
        add(&walked);
    }
    let run_folders = usage(&project.beside("runs"), &|path| path.extension().is_some());
    assert_eq!(report["run_folders"], run_folders);
    assert_eq!(run_folders["files"], 80);
    add(&run_folders);
    let [bytes, allocated_bytes, files, folders] = sum;
    assert_eq!(
        report["stored"],
        json!({"bytes": bytes, "allocated_bytes": allocated_bytes, "files": files, "folders": folders})
    );
    let reduction = 100.0 * (1.0 - bytes as f64 / logical.0 as f64);
    assert!((report["reduction_percent"].as_f64().expect("a number") - reduction).abs() < 1e-9);
    assert_eq!(report["files_saved"].as_i64(), Some(logical.1 as i64 - files as i64));
    assert_eq!(report["inodes_saved"].as_i64(), Some((logical.1 as u64 + logical.2) as i64 - (files + folders) as i64));

    let sweeps = report["sweeps"].as_array().expect("a list");
    let facts: Vec<Value> =
        sweeps.iter().map(|s| json!([s["sweep"], s["runs"], s["snapshots"], s["run_folders"]["files"]])).collect();
    assert_eq!(facts, [json!(["grid", 30, 15, 60]), json!(["random", 10, 5, 20])]);
    let content = |sweep: &Value| sweep["content_bytes"].as_u64().expect("a number");
    assert!(
        sweeps
            .iter()
            .all(|sweep| content(sweep) > 0 && content(sweep) < report["packs"]["bytes"].as_u64().expect("a number"))
    );

    let grid = json_of(&project, &["report", "--sweep", "grid"]);
    assert_eq!((&grid["runs"], &grid["snapshots"], &grid["sweeps"][0]), (&json!(30), &json!(15), &sweeps[0]));
    assert_eq!(grid["packs"], report["packs"], "the store's own figures are the whole store's");
    let none = json_of(&project, &["report", "--sweep", "none"]);
    assert_eq!(
        (&none["runs"], &none["logical_bytes"], &none["reduction_percent"]),
        (&json!(0), &json!(0), &json!(0.0))
    );

    let text = printed(&project, &["report"]);
    assert!(text.starts_with("40 runs of 20 different snapshots\n"), "{text}");
    assert!(text.contains(&format!("reduction {reduction:.2} %, ")), "{text}");
    let rows: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    let expected = [
        "40",
        "BYTES",
        "full",
        "packs",
        "index",
        "journals",
        "other",
        "run",
        "stored",
        "reduction",
        "SWEEP",
        "grid",
        "random",
    ];
    assert_eq!(rows, expected);
    printed(&project, &["report", "--html", "../report.html"]);
    let page = fs::read_to_string(project.beside("report.html")).expect("written");
    assert!(page.contains("<html") && page.contains("grid") && page.contains(&format!("{reduction:.2}")), "{page}");
}

#[test]
fn verify() {
    let project = Project::with_code();
    project.capture("first");
    project.write("momentum/signal.py", "WINDOW = 21\n");
    project.run(["capture", "--tree", ".", "--run", "second", "--run-dir", "../run"]).expect(0);
    assert_snapshot!(printed(&project, &["verify"]), @"2 runs, 2 snapshots, 2 packs, 12 objects: nothing wrong");
    assert_snapshot!(printed(&project, &["verify", "--read-data"]), @"2 runs, 2 snapshots, 2 packs, 12 objects, 1.1 KB read: nothing wrong");
    let json = json_of(&project, &["verify", "--read-data"]);
    assert_eq!(keys(&json), ["notes", "objects", "packs", "problems", "read_bytes", "runs", "snapshots"]);
    assert_eq!((&json["runs"], &json["problems"], &json["notes"]), (&json!(2), &json!([]), &json!([])));
}

#[test]
fn reindex() {
    let project = Project::with_code();
    for n in 0..3 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n"));
        project.capture(&format!("run-{n}"));
    }
    let index = project.store().join("index.sqlite");
    assert!(!index.exists(), "three runs are not worth an index yet");
    let told = printed(&project, &["reindex"]);
    assert!(told.starts_with("Indexed 3 packs, ") && told.ends_with(" objects, 3 runs\n"), "{told}");
    fs::write(&index, "no database at all").expect("written");
    let again = json_of(&project, &["reindex"]);
    assert_eq!((&again["packs"], &again["runs"], &again["problems"]), (&json!(3), &json!(3), &json!([])));
    assert!(fs::read(&index).expect("made").starts_with(b"SQLite format 3\0"));
    project.run(["verify", "--read-data"]).expect(0);
    assert_eq!(listed(&project, &[]), ["run-0", "run-1", "run-2"]);
    project.run(["capture", "--tree", ".", "--run", "run-1"]).expect_line(1, &["in the store already"]);
    assert_eq!(project.capture("run-3")["new_bytes"], 0);
}

#[test]
fn gc_takes_what_the_dead_left_and_nothing_of_the_living() {
    let project = Project::with_code();
    project.capture("first");
    let store = project.store();
    let dead = [
        "0007-00000000000000aa.tmp",
        "0007-00000000000000ab.tmp",
        "init-config-00000000000000ac.tmp",
        "maintenance-00000000000000ae.tmp",
    ];
    let live = "0003-00000000000000ad.tmp";
    for name in dead.iter().chain([&live]) {
        fs::write(store.join("tmp").join(name), "0123456789").expect("written");
    }
    let lock = File::create(store.join("writers/0003")).expect("made");
    lock.lock().expect("locked");
    assert_snapshot!(printed(&project, &["gc", "--dry-run"]), @r"
    Would compact 1 pack
    Would remove 4 leftover files, 40 B
    ");
    assert_eq!(project.store_files("tmp").len(), 5);
    let noted = json_of(&project, &["verify"])["notes"].clone();
    assert!(noted[0].as_str().is_some_and(|note| note.starts_with("5 leftovers")), "{noted}");
    let collected = json_of(&project, &["gc"]);
    assert_eq!((&collected["removed_files"], &collected["removed_bytes"]), (&json!(4), &json!(40)));
    assert_eq!(project.store_files("tmp"), [store.join("tmp").join(live)]);
    assert_eq!(printed(&project, &["gc", "--quiet"]), "");
    assert!(store.join("tmp").join(live).exists());
    drop(lock);
    assert_snapshot!(printed(&project, &["gc"]), @r"
    Compacted 0 packs
    Removed 1 leftover file, 10 B
    ");
    assert_eq!(project.restored("first"), tree(&project.root()));
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn completions() {
    let project = Project::new();
    let commands =
        ["init", "capture", "log", "list", "show", "cat", "diff", "restore", "report", "verify", "reindex", "gc"];
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let script = printed(&project, &["completions", shell]);
        for command in commands {
            assert!(script.contains(command), "{command} for {shell}");
        }
        assert!(script.contains("include-secrets") && script.contains("all-projects"), "{shell}");
    }
    project.run(["completions", "tcsh"]).expect(2);
    assert!(!project.store().exists(), "no store is needed");
}

#[test]
fn every_form_of_a_run() {
    let project = Project::with_code();
    let mut ids = Vec::new();
    for (n, name) in ["alpha-1", "alpha-10", "beta"].into_iter().enumerate() {
        let folder = format!("../runs/{n}");
        let captured = json_of(&project, &["capture", "--tree", ".", "--run", name, "--run-dir", &folder]);
        ids.push(captured["run"].as_str().expect("text").to_owned());
    }
    let unnamed = json_of(&project, &["capture", "--tree", "."]);
    ids.push(unnamed["run"].as_str().expect("text").to_owned());
    let found = |text: &str| json_of(&project, &["show", text])["run"].as_str().expect("text").to_owned();
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(&found(id), id);
        let unique =
            (1..=32).map(|length| &id[..length]).find(|text| ids.iter().filter(|id| id.starts_with(text)).count() == 1);
        assert_eq!(&found(unique.expect("ids differ")), id, "a prefix of an id");
        assert_eq!(&found(&format!("latest~{}", 3 - n)), id);
    }
    assert_eq!((found("latest"), found("latest~0")), (ids[3].clone(), ids[3].clone()));
    assert_eq!((found("beta"), found("be")), (ids[2].clone(), ids[2].clone()));
    assert_eq!(found("alpha-1"), ids[0], "a name in full comes before a longer one");
    assert_eq!(found("alpha-10"), ids[1]);
    let folder = project.beside("runs/1");
    for path in ["../runs/1", "../runs/1/", "../runs/1/metadata/manifest.json", folder.to_str().expect("text")] {
        assert_eq!(found(path), ids[1], "{path}");
    }
    project
        .run(["show", "alpha"])
        .expect_line(1, &["\"alpha\" is ambiguous", "alpha-1 (", "alpha-10 (", &ids[0], "write more of it"]);
    for unknown in ["gamma", "latest~4", "latest~x", "", "../runs", "../runs/1/metadata", &"0".repeat(32)] {
        project.run(["show", unknown]).expect_line(1, &[&format!("No run {unknown:?}"), "runsnap list"]);
    }
    // Each command that takes a run takes it in each of these forms.
    for form in ["beta", "latest~1", "../runs/2", &ids[2]] {
        project.run(["log", form, "--tag", "seen"]).expect(0);
        project.run(["diff", form, "latest"]).expect(0);
        project.run(["cat", &format!("{form}:strategy.py")]).expect(0);
        let output = project.beside("restored");
        project.run(["restore".as_ref(), form.as_ref(), "--output".as_ref(), output.as_os_str()]).expect(0);
        assert_eq!(tree(&output), tree(&project.root()));
        fs::remove_dir_all(output).expect("removed");
    }
    assert_eq!(json_of(&project, &["show", "beta"])["tags"], json!(["seen"]));
}

#[test]
fn exit_statuses_and_help() {
    let project = Project::new();
    let nothing = project.run([""; 0]).expect(2);
    assert!(nothing.stderr.contains("Usage: runsnap"), "{}", nothing.stderr);
    let version = printed(&project, &["--version"]);
    assert_eq!(version, format!("runsnap {}\n", env!("CARGO_PKG_VERSION")));
    let help = printed(&project, &["--help"]);
    for command in [
        "init",
        "capture",
        "log",
        "list",
        "show",
        "cat",
        "diff",
        "restore",
        "report",
        "verify",
        "reindex",
        "gc",
        "completions",
    ] {
        assert!(help.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {help}");
        let own = printed(&project, &[command, "--help"]);
        assert!(
            own.contains(&format!("Usage: runsnap {command}"))
                && own.contains("--store <DIR>")
                && own.contains("--json"),
            "{own}"
        );
    }
    project.run(["list"]).expect_line(1, &["No store in", "runsnap init"]);
    project.run(["unheard-of"]).expect(2);
}
