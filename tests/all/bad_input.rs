//! Bad input gets one clear line and the right exit status, and loses nothing.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;
use runsnap::pack::format::{ObjectKind, Prefix};
use runsnap::pack::{PackWriter, PreparedFrame};
use runsnap::run_record::RunRecord;
use runsnap::snapshot::{Entry, Node, Snapshot, encode_tree};
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::Store;
use serde_json::{Value, json};

use crate::support::{Project, RUNSNAP, time_passes, tree};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn wrong_usage_is_status_2() {
    let project = Project::with_code();
    let long = "x".repeat(129);
    let cases: [&[&str]; 20] = [
        &["capture", "--tree", ".", "--run", &long],
        &["capture", "--tree", ".", "--run", ""],
        &["capture", "--tree", ".", "--tag", "two\nlines"],
        &["capture", "--tree", ".", "--param", "=5"],
        &["list", "--limit", "-1"],
        &["restore", "--store", "", "x", "--output", "y"],
        &[],
        &["no-such-command"],
        &["capture"],
        &["capture", "strategy.py", "--tree", "."],
        &["capture", "--tree", ".", "--param", "novalue"],
        &["capture", "--tree", ".", "--run", ".hidden"],
        &["capture", "--tree", ".", "--run", "a/b"],
        &["capture", "--tree", ".", "--run", "latest"],
        &["capture", "--tree", ".", "--sweep", "two\nlines"],
        &["capture", "--tree", "strategy.py"],
        &["capture", "momentum"],
        &["restore", "x"],
        &["list", "--where", "sharpe >"],
        &["cat", "no-colon"],
    ];
    project.capture("kept");
    for case in cases {
        let finished = project.run(case).expect(2);
        assert!(!finished.stderr.is_empty() && !finished.stderr.contains("panicked"), "{case:?}: {}", finished.stderr);
    }
    assert_eq!(project.restored("kept"), tree(&project.root()));
    assert_eq!(project.run(["list", "--json"]).expect(0).json()["runs"].as_array().map(Vec::len), Some(1));
}

#[test]
fn no_store_and_not_a_store() {
    let project = Project::with_code();
    for command in [&["list"][..], &["show", "x"], &["report"], &["verify"], &["gc"], &["reindex"]] {
        project.run(command).expect_line(1, &["No store in", "runsnap init"]);
    }
    project.run(["list", "--store", "momentum"]).expect_line(1, &["Not a store", "momentum"]);
    project.run(["list", "--store", "nowhere"]).expect_line(1, &["Not a store", "nowhere"]);
    // A mistyped --store does not become a store.
    project.run(["capture", "--tree", ".", "--store", "nowhere"]).expect_line(1, &["Not a store", "nowhere"]);
    assert!(!project.path("nowhere").exists());
    project.run(["list", "--store", "strategy.py"]).expect(1);
}

/// Rewrites config.json with a right checksum.
fn change_config(project: &Project, change: impl FnOnce(&mut Value)) {
    let path = project.store().join("config.json");
    let text = fs::read_to_string(&path).expect("there");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    change(&mut config);
    // In the order in which the program writes its fields.
    let fields = ["format", "version", "features", "store", "generation", "chunker"];
    let features =
        ["compatible", "read_only_compatible", "incompatible"].map(|k| format!("\"{k}\":{}", config["features"][k]));
    let sizes = ["min_bytes", "average_bytes", "max_bytes"].map(|k| format!("\"{k}\":{}", config["chunker"][k]));
    let shown = |key: &str| match key {
        "features" => format!("\"features\":{{{}}}", features.join(",")),
        "chunker" => format!("\"chunker\":{{{}}}", sizes.join(",")),
        key => format!("\"{key}\":{}", config[key]),
    };
    let bare = format!("{{{},\"checksum\":null}}", fields.map(shown).join(","));
    config["checksum"] = json!(ObjectId::of(bare.as_bytes()));
    fs::write(path, serde_json::to_vec(&config).expect("JSON")).expect("written");
}

#[test]
fn unknown_features_are_named() {
    let project = Project::with_code();
    project.capture("first");
    let feature = |kind: &'static str| {
        move |config: &mut Value| {
            config["features"] = json!({"compatible": [], "read_only_compatible": [], "incompatible": []});
            config["features"][kind] = json!(["from-the-future"]);
        }
    };
    change_config(&project, feature("compatible"));
    project.run(["list"]).expect(0);
    project.capture("second");
    change_config(&project, feature("read_only_compatible"));
    project.run(["list"]).expect(0);
    assert_eq!(project.restored("first"), tree(&project.root()));
    project.run(["capture", "--tree", "."]).expect_line(1, &["from-the-future", "newer runsnap"]);
    change_config(&project, feature("incompatible"));
    project.run(["list"]).expect_line(1, &["from-the-future", "newer runsnap"]);
    project.run(["init"]).expect_line(1, &["from-the-future"]);
    project.run(["capture", "--tree", "."]).expect_line(1, &["from-the-future"]);
    change_config(&project, |config| {
        feature("compatible")(config);
        config["version"] = json!(99);
    });
    project.run(["list"]).expect_line(1, &["config.json", "version 99", "up to 1"]);
    project.run(["init"]).expect_line(1, &["version 99"]);
    change_config(&project, |config| config["version"] = json!(1));
    assert_eq!(project.restored("second"), tree(&project.root()));
}

#[test]
fn a_pack_or_journal_of_a_newer_version_is_named() {
    let project = Project::with_code();
    project.capture("first");
    for folder in ["packs", "runs"] {
        let path = project.store_files(folder).remove(0);
        let whole = fs::read(&path).expect("there");
        let mut newer = whole.clone();
        newer[8] = 7;
        fs::write(&path, &newer).expect("written");
        let name = path.file_name().and_then(|n| n.to_str()).expect("text").to_owned();
        let verified = project.run(["verify", "--read-data"]);
        assert_ne!(verified.status, Some(0));
        let said = verified.stdout + &verified.stderr;
        assert!(said.contains(&name) && said.contains("version 7"), "{said}");
        fs::write(&path, whole).expect("written");
    }
    project.run(["verify", "--read-data"]).expect(0);
}

#[test]
fn a_journal_of_a_newer_version_hides_no_run_and_no_name() {
    let project = Project::with_code();
    project.capture("first");
    let path = project.store_files("runs").remove(0);
    let mut newer = fs::read(&path).expect("there");
    newer[8] = 7;
    fs::write(&path, &newer).expect("written");
    let listed = project.run(["list", "--json"]).expect(3);
    assert!(listed.stderr.contains("version 7") && listed.stderr.contains("up to 1"), "{}", listed.stderr);
    assert_eq!(listed.json()["runs"][0]["name"], "first");
    let output = project.beside("out");
    project.run(["restore", "first", "--output", output.to_str().expect("text"), "--quiet"]).expect(3);
    assert_eq!(tree(&output), tree(&project.root()));
    project.run(["capture", "--tree", ".", "--run", "first"]).expect_line(1, &["first", "already"]);
    project.run(["capture", "--tree", ".", "--run", "second"]).expect(0);
    assert_eq!(fs::read(&path).expect("there"), newer, "nobody writes to it");
}

#[test]
fn a_manifest_that_names_no_run_is_an_unknown_run() {
    let project = Project::with_code();
    project.run(["capture", "--tree", ".", "--run", "first", "--run-dir", "../run", "--quiet"]).expect(0);
    let manifest = project.beside("run/metadata/manifest.json");
    let whole = fs::read(&manifest).expect("there");
    for named in [&["show", "../run"], &["show", "../run/metadata/manifest.json"]] {
        assert!(project.run(named).expect(0).stdout.contains("first"));
    }
    let other = project.capture("other")["run"].as_str().map(str::to_owned).expect("text");
    let text = String::from_utf8(whole.clone()).expect("text");
    let cases = [
        b"{".to_vec(),
        b"null".to_vec(),
        whole[..whole.len() / 2].to_vec(),
        text.replace("runsnap-manifest", "something-else").into_bytes(),
        text.replace("\"version\": 1", "\"version\": 2").into_bytes(),
        text.replace(&text[text.find("\"run\": \"").expect("a run") + 8..][..32], &"0".repeat(32)).into_bytes(),
        [whole.clone(), vec![b' '; 5000]].concat(),
    ];
    for case in cases {
        fs::write(&manifest, &case).expect("written");
        let shown = String::from_utf8_lossy(&case).into_owned();
        let finished = project.run(["restore", "../run", "--output", "out"]);
        assert_eq!(finished.status, Some(1), "{shown}: {}", finished.stderr);
        finished.expect_line(1, &["No run \"../run\""]);
        assert!(!project.path("out").exists());
    }
    project.run(["show", &other]).expect(0);
}

#[test]
fn pipes_are_not_waited_for() {
    let project = Project::with_code();
    project.run(["capture", "--tree", ".", "--run", "first", "--run-dir", "../run", "--quiet"]).expect(0);
    let pipe = |path: &Path| {
        let _ = fs::remove_file(path);
        rustix::fs::mkfifoat(rustix::fs::CWD, path, rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    };
    pipe(&project.beside("pipe"));
    project.run(["show", "../pipe"]).expect_line(1, &["No run \"../pipe\""]);
    project.run(["capture", "../pipe"]).expect_line(2, &["Not a file"]);
    pipe(&project.beside("run/metadata/manifest.json"));
    let verified = project.run(["verify"]).expect(3);
    assert!(verified.stdout.contains("not a regular file"), "{}", verified.stdout);
    pipe(&project.path("strategy.yaml"));
    let captured = project.run(["capture", "strategy.py"]).expect(3);
    assert!(captured.stderr.contains("strategy.yaml decides nothing: not a file"), "{}", captured.stderr);
    let store = project.beside("other");
    fs::create_dir(&store).expect("made");
    pipe(&store.join("config.json"));
    project.run(["list", "--store", store.to_str().expect("text")]).expect(1);
}

#[test]
fn unknown_ambiguous_and_taken_names() {
    let project = Project::with_code();
    for name in ["fast-1", "fast-2", "slow"] {
        project.capture(name);
    }
    project.run(["show", "nothing"]).expect_line(1, &["No run \"nothing\"", "list"]);
    project.run(["show", "fast"]).expect_line(1, &["ambiguous", "fast-1", "fast-2"]);
    project.run(["show", ""]).expect_line(1, &["No run"]);
    project.run(["show", "latest~99"]).expect_line(1, &["latest~99"]);
    project.run(["capture", "--tree", ".", "--run", "slow"]).expect_line(1, &["slow", "already"]);
    project.run(["cat", "slow:nothing.py"]).expect_line(1, &["nothing.py", "slow"]);
    project.run(["restore", "slow", "--output", "out", "nothing.py"]).expect_line(1, &["nothing.py"]);
    assert_eq!(project.run(["list", "--json"]).expect(0).json()["runs"].as_array().map(Vec::len), Some(3));
}

#[test]
fn paths_that_lead_out_are_refused() {
    let project = Project::with_code();
    project.capture("first");
    for path in ["../secret", "/etc/passwd", "momentum/../../x"] {
        project.run(["cat", &format!("first:{path}")]).expect_line(1, &["is not in the snapshot"]);
        project.run(["restore", "first", "--output", "out", path]).expect_line(1, &["is not in the snapshot"]);
    }
}

#[test]
fn restore_stays_in_its_folder() {
    let project = Project::with_code();
    project.capture("first");
    let outside = project.beside("outside");
    fs::create_dir(&outside).expect("made");
    let output = project.beside("output");
    fs::create_dir(&output).expect("made");
    std::os::unix::fs::symlink(&outside, output.join("momentum")).expect("link");
    fs::write(output.join("mine.txt"), "mine").expect("written");
    let arguments = ["restore", "first", "--output", output.to_str().expect("text")];
    project.run(arguments).expect_line(1, &["Not empty", "--force"]);
    let forced = project.run(arguments.into_iter().chain(["--force"])).expect(3);
    assert!(forced.stderr.contains("momentum"), "{}", forced.stderr);
    assert_eq!(fs::read_dir(&outside).expect("there").count(), 0, "something was written through the link");
    assert_eq!(fs::read(output.join("mine.txt")).expect("there"), b"mine");
    assert_eq!(fs::read(output.join("run.sh")).expect("there"), fs::read(project.path("run.sh")).expect("there"));
    project.run(["restore", "first", "--output", "strategy.py"]).expect(1);
}

#[test]
fn special_and_unreadable_files_are_named() {
    let project = Project::with_code();
    rustix::fs::mkfifoat(rustix::fs::CWD, project.path("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).expect("made");
    let captured = project.run(["capture", "--tree", ".", "--run", "pipe", "--json"]).expect(3);
    assert!(captured.stderr.contains("pipe"), "{}", captured.stderr);
    assert_eq!(captured.json()["left_out"], json!([{"path": "pipe", "reason": "special_file"}]));
    fs::remove_file(project.path("pipe")).expect("removed");
    let expected = tree(&project.root());
    assert_eq!(project.restored("pipe"), expected);

    project.write("locked.py", "x = 1\n");
    project.write("closed/inside.py", "x = 1\n");
    let lock =
        |path: &str, mode| fs::set_permissions(project.path(path), fs::Permissions::from_mode(mode)).expect("chmod");
    lock("locked.py", 0o000);
    lock("closed", 0o000);
    let copy = project.folder.path().join("runsnap");
    let store = project.beside("theirs");
    if is_root() {
        // Nothing is unreadable for root: an ordinary user captures instead.
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        open(project.folder.path());
        // By a process of its own: a file that a fork of this one still has open for writing cannot be run.
        assert!(Command::new("cp").arg(RUNSNAP).arg(&copy).status().is_ok_and(|status| status.success()));
        fs::create_dir(&store).expect("made");
        open(&store);
        let store = store.join("store");
        Command::new(&copy).args(["init", "--store"]).arg(&store).uid(65534).gid(65534).output().expect("runs");
    }
    let capture = |name: &str, status| {
        let arguments = ["capture", "--tree", ".", "--run", name, "--json"];
        let mut command = project.command(arguments);
        if is_root() {
            command = Command::new(&copy);
            command.args(arguments).arg("--store").arg(store.join("store")).current_dir(project.root());
            command.uid(65534).gid(65534);
        }
        crate::support::Finished::from(command.output().expect("runs")).expect(status)
    };
    let captured = capture("locked", 3);
    let told = |captured: &crate::support::Finished| {
        captured.stderr.contains("locked.py") && captured.stderr.contains("permission denied")
    };
    assert!(told(&captured), "{}", captured.stderr);
    lock("closed", 0o755);
    let unreadable = |path: &str| json!({"path": path, "reason": "unreadable", "detail": "permission denied"});
    assert_eq!(captured.json()["left_out"], json!([unreadable("closed"), unreadable("locked.py")]));

    // It is told of each time, also where nothing has changed since, until it can be read.
    time_passes();
    for name in ["open", "unchanged"] {
        let captured = capture(name, 3);
        assert!(told(&captured), "{name}: {}", captured.stderr);
        assert_eq!(captured.json()["left_out"], json!([unreadable("locked.py")]), "{name}");
    }
    lock("locked.py", 0o644);
    let before = captured.json()["files"].as_u64().expect("a number");
    let captured = capture("readable", 0).json();
    assert_eq!((&captured["left_out"], &captured["files"]), (&json!([]), &json!(before + 2)));
}

#[test]
fn names_that_are_not_utf_8_are_kept() {
    let project = Project::with_code();
    let name = std::ffi::OsStr::from_bytes(b"caf\xe9.py");
    project.write(Path::new("data").join(name), "x = 1\n");
    project.run(["capture", "--tree", ".", "--run", "raw", "--run-dir", "../run"]).expect(0);
    assert_eq!(project.restored("raw"), tree(&project.root()));
    let shown = project.run(["show", "raw", "--json"]).expect(0).json();
    let files = shown["files"].as_array().expect("a list");
    assert!(files.iter().any(|file| file["path_bytes"] == "ZGF0YS9jYWbpLnB5"), "{shown}");
    project.run(["show", "raw"]).expect(0);
    let metadata = fs::read(project.beside("run/metadata/backtest_metadata.json")).expect("written");
    assert!(serde_json::from_slice::<Value>(&metadata).is_ok());
    // They can be written on the command line like others.
    let place = std::ffi::OsStr::from_bytes(b"raw:data/caf\xe9.py");
    assert_eq!(project.run(["cat".as_ref(), place]).expect(0).stdout, "x = 1\n");
    let path = std::ffi::OsStr::from_bytes(b"data/caf\xe9.py");
    project.run(["restore".as_ref(), "raw".as_ref(), "--output".as_ref(), "../one".as_ref(), path]).expect(0);
    assert_eq!(tree(&project.beside("one")).len(), 1);
    let listed = project.run(["list".as_ref(), "--json".as_ref(), "--file".as_ref(), path]).expect(0).json();
    assert_eq!(listed["runs"].as_array().map(Vec::len), Some(1));
    let odd = std::ffi::OsStr::from_bytes(b"raw:data/caf\xff.py");
    project.run(["cat".as_ref(), odd]).expect_line(1, &["is not in the snapshot"]);
    project.run(["show".as_ref(), std::ffi::OsStr::from_bytes(b"r\xff")]).expect(2);
    // Links that lead to such names are links all the same.
    std::os::unix::fs::symlink(name, project.path("data/link.py")).expect("link");
    project.capture("linked");
    assert_eq!(project.restored("linked"), tree(&project.root()));
    let shown = project.run(["show", "linked", "--json"]).expect(0).json();
    let files = shown["files"].as_array().expect("a list");
    assert!(files.iter().any(|file| file["target_bytes"] == "Y2Fm6S5weQ=="), "{shown}");
}

#[test]
fn a_path_of_4000_bytes() {
    let project = Project::with_code();
    // Longer than the system takes in one piece: made folder by folder.
    let part = "d".repeat(200);
    let mut folder =
        rustix::fs::open(project.root(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).expect("open");
    let all = rustix::fs::Mode::from_raw_mode(0o755);
    for _ in 0..20 {
        rustix::fs::mkdirat(&folder, &part, all).expect("made");
        folder =
            rustix::fs::openat(&folder, &part, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).expect("open");
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    drop(rustix::fs::openat(&folder, "deep.py", flags, all).expect("made"));
    let captured = project.run(["capture", "--tree", ".", "--run", "deep", "--json"]);
    assert!(matches!(captured.status, Some(0 | 3)), "{captured:?}");
    if captured.status == Some(3) {
        assert!(captured.stderr.contains("warning: ") && captured.stderr.contains(&part), "{}", captured.stderr);
    }
    let output = project.beside("out");
    project.run(["restore", "deep", "--output", output.to_str().expect("text")]).expect(0);
    assert_eq!(
        fs::read(output.join("strategy.py")).expect("there"),
        fs::read(project.path("strategy.py")).expect("there")
    );
    // A path of 3,000 bytes fits.
    let project = Project::with_code();
    let long = vec!["d".repeat(100); 29].join("/");
    project.write(format!("{long}/fits.py"), "x = 1\n");
    project.capture("long");
    assert_eq!(project.restored("long"), tree(&project.root()));
}

#[test]
fn a_path_of_more_folders_than_a_snapshot_has_is_left_out() {
    let project = Project::with_code();
    let expected = tree(&project.root());
    let fits = vec!["d"; 511].join("/");
    project.write(format!("{fits}/fits.py"), "x = 1\n");
    let captured = project.capture("fits");
    assert_eq!(captured["left_out"], json!([]));
    assert_eq!(project.restored("fits"), tree(&project.root()));
    project.write(format!("{fits}/d/deep.py"), "x = 2\n");
    let captured = project.run(["capture", "--tree", ".", "--run", "deep", "--json"]).expect(3);
    assert_eq!(captured.json()["left_out"][0]["path"], format!("{fits}/d/deep.py"));
    assert_eq!(captured.json()["left_out"][0]["reason"], "name");
    let mut restored = project.restored("deep");
    restored.remove(&PathBuf::from(format!("{fits}/fits.py"))).expect("it fits");
    assert_eq!(restored, expected);
}

#[test]
fn strategy_yaml_that_decides_nothing() {
    let project = Project::with_code();
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))
    }) + "files: []\n";
    let long = format!("files: []\n# {}\n", "x".repeat(1 << 20));
    let deep = format!("files: {}", "[{".repeat(100_000));
    let cases = ["files: [", "- a\n", "files: x\n", "other: 1\n", "\u{0}", &bomb, &long, &deep];
    for (n, text) in cases.into_iter().enumerate() {
        project.write("strategy.yaml", text);
        let captured = project.run(["capture", "strategy.py", "--run", &format!("bad-{n}"), "--json"]).expect(3);
        assert!(captured.stderr.contains("strategy.yaml decides nothing"), "{n}: {}", captured.stderr);
        assert_eq!(captured.json()["files"], 3, "{n}");
        assert_eq!(captured.json()["tracked_by"], "imports");
    }
    project.write("strategy.yaml", b"files: [\xff]\n");
    project.run(["capture", "strategy.py"]).expect(3);
}

#[test]
fn entries_of_strategy_yaml_are_refused_one_by_one() {
    let project = Project::with_code();
    let text = "files: [momentum/signal.py, /etc/passwd, ../../etc/passwd, missing.py, 'no-match-*.py', 3, '[']\n";
    project.write("strategy.yaml", text);
    let captured = project.run(["capture", "strategy.py", "--run", "some", "--json"]).expect(3);
    for part in ["/etc/passwd", "leads out of the project", "not found: \"missing.py\"", "no-match", "not a path: 3"] {
        assert!(captured.stderr.contains(part), "{part}: {}", captured.stderr);
    }
    let names: Vec<PathBuf> = project.restored("some").into_keys().collect();
    assert_eq!(names, ["momentum/signal.py", "strategy.py", "strategy.yaml"].map(PathBuf::from));
    project.write("strategy.yaml", "files: []\n");
    project.run(["capture", "strategy.py", "--run", "none"]).expect(0);
    assert_eq!(project.restored("none").len(), 2);
}

#[test]
fn links_to_folders_in_strategy_yaml() {
    let project = Project::with_code();
    fs::create_dir(project.beside("outside")).expect("made");
    fs::write(project.beside("outside/secret.py"), "x = 1\n").expect("written");
    std::os::unix::fs::symlink("../outside", project.path("out")).expect("link");
    std::os::unix::fs::symlink("momentum", project.path("in")).expect("link");
    let capture = |name: &str, files: &str| {
        project.write("strategy.yaml", format!("files: [{files}]\n"));
        let captured = project.run(["capture", "strategy.py", "--run", name]);
        (captured.status, captured.stderr, project.restored(name).into_keys().collect::<Vec<_>>())
    };
    let plain = ["strategy.py", "strategy.yaml"].map(PathBuf::from).to_vec();
    for (n, files) in ["out/secret.py", "out/*.py", "'out/**/*.py'", "out/../out/secret.py"].into_iter().enumerate() {
        let (status, stderr, restored) = capture(&format!("out-{n}"), files);
        assert_eq!((status, restored), (Some(3), plain.clone()), "{files}: {stderr}");
        assert!(stderr.contains("leads out of the project"), "{files}: {stderr}");
    }
    let (status, stderr, restored) = capture("link", "out");
    assert_eq!((status, restored.contains(&"out".into()), restored.len()), (Some(3), true, 3), "{stderr}");
    // A link within the project comes with what lies behind it, under its own name.
    for (n, files) in ["in/signal.py", "in, in/signal.py", "in/sig*.py", "'in/**/signal.py'"].into_iter().enumerate() {
        let (_, stderr, restored) = capture(&format!("in-{n}"), files);
        let expected = ["in", "momentum/signal.py", "strategy.py", "strategy.yaml"].map(PathBuf::from);
        assert_eq!(restored, expected, "{files}: {stderr}");
    }
}

#[test]
fn a_run_folder_that_cannot_be_written_costs_no_run() {
    let project = Project::with_code();
    fs::write(project.beside("taken"), "a file").expect("written");
    let captured = project.run(["capture", "--tree", ".", "--run", "first", "--run-dir", "../taken"]).expect(3);
    assert!(captured.stderr.contains("The run is captured"), "{}", captured.stderr);
    assert_eq!(project.restored("first"), tree(&project.root()));
}

#[test]
fn a_closed_pipe_is_no_panic() {
    let project = Project::with_code();
    project.capture("first");
    let mut child =
        project.command(["show", "first"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
    // It has not been killed either.
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn output_that_cannot_be_written_is_a_failure() {
    let project = Project::with_code();
    project.capture("first");
    let Ok(full) = fs::File::options().write(true).open("/dev/full") else {
        println!("skipped: this system has no /dev/full");
        return;
    };
    for command in
        [&["list"][..], &["show", "first"], &["cat", "first:strategy.py"], &["verify"], &["report", "--json"]]
    {
        let output = project.command(command).stdout(full.try_clone().expect("cloned")).output();
        let finished: crate::support::Finished = output.expect("runs").into();
        finished.expect_line(1, &["standard output", "o space"]);
    }
}

#[test]
fn a_current_folder_that_is_gone() {
    let project = Project::with_code();
    project.capture("first");
    let (gone, store) = (project.path("gone"), project.store());
    let script = "cd gone && rmdir ../gone && exec \"$0\" \"$@\"";
    for (arguments, status) in
        [(&["list"][..], 1), (&["capture", "--tree", "."], 1), (&["show", "first", "--store"], 0)]
    {
        fs::create_dir(&gone).expect("made");
        let mut command = Command::new("sh");
        command.args(["-c", script, RUNSNAP]).args(arguments).current_dir(project.root()).env_remove("RUNSNAP_STORE");
        if status == 0 {
            command.arg(&store);
        }
        let finished: crate::support::Finished = command.output().expect("runs").into();
        let finished = if status == 0 { finished.expect(0) } else { finished.expect_line(status, &["Cannot"]) };
        assert!(!finished.stderr.contains("panicked"));
    }
}

/// A tmpfs of a few hundred KiB; `None` where this user may not mount.
struct SmallDisk {
    path: PathBuf,
}

impl SmallDisk {
    fn mount(path: PathBuf) -> Option<Self> {
        fs::create_dir(&path).expect("made");
        let mount = Command::new("mount").args(["-t", "tmpfs", "-o", "size=512k", "tmpfs"]).arg(&path).output();
        mount.is_ok_and(|output| output.status.success()).then_some(Self { path })
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.path).status();
    }
}

#[test]
fn a_full_disk_loses_nothing() {
    let project = Project::with_code();
    // Content that does not compress, so that a capture needs some room.
    let mut noise = vec![0; 60_000];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut noise);
    let Some(disk) = SmallDisk::mount(project.beside("disk")) else {
        println!("skipped: this user may not mount a small disk");
        return;
    };
    let store = disk.path.join("store");
    let store = store.to_str().expect("text");
    project.run(["init", "--store", store]).expect(0);
    let capture = |name: &str| {
        let run_folder = disk.path.join("runs").join(name);
        let run_folder = run_folder.to_str().expect("text").to_owned();
        project.run(["capture", "--tree", ".", "--store", store, "--run", name, "--run-dir", &run_folder, "--quiet"])
    };
    capture("before").expect(0);
    let before = tree(&project.root());
    let (mut refused, mut captured) = (0, 0);
    for free in (0..120).step_by(4) {
        project.write("data.bin", [&noise[..], format!("{free}").as_bytes()].concat());
        let filler = disk.path.join("filler");
        let room = rustix::fs::statvfs(&disk.path).expect("statvfs");
        let bytes = (room.f_bavail * room.f_frsize).saturating_sub(free * 1024);
        fs::write(&filler, vec![1; usize::try_from(bytes).expect("small")]).expect("filled");
        let name = format!("free-{free}");
        let finished = capture(&name);
        match finished.status {
            Some(0 | 3) => captured += 1,
            _ => {
                refused += 1;
                finished.expect_line(1, &["o space", "free some space"]);
            }
        }
        fs::remove_file(&filler).expect("removed");
        let leftovers = fs::read_dir(format!("{store}/tmp")).expect("there").count();
        assert_eq!(leftovers, 0, "leftovers with {free} KiB free");
        let verified = project.run(["verify", "--read-data", "--json", "--store", store]).json();
        let in_store = |problem: &&Value| problem["file"].as_str().is_some_and(|file| file.starts_with(store));
        let wrong: Vec<_> = verified["problems"].as_array().expect("a list").iter().filter(in_store).collect();
        assert!(wrong.is_empty(), "{free}: {wrong:?}");
        let output = project.beside(&format!("restored-{free}"));
        let output_text = output.to_str().expect("text");
        project.run(["restore", "before", "--store", store, "--output", output_text]).expect(0);
        assert_eq!(tree(&output), before);
        if captured > 0 {
            let output = project.beside(&format!("new-{free}"));
            project.run(["restore", &name, "--store", store, "--output", output.to_str().expect("text")]).expect(0);
            assert_eq!(tree(&output), tree(&project.root()));
            break;
        }
    }
    assert!(refused >= 5 && captured == 1, "{refused} refused, {captured} captured");
}

#[test]
fn a_full_disk_makes_no_half_store_and_costs_no_index() {
    let project = Project::with_code();
    let Some(disk) = SmallDisk::mount(project.beside("disk")) else {
        println!("skipped: this user may not mount a small disk");
        return;
    };
    let fill = |free: u64| {
        let room = rustix::fs::statvfs(&disk.path).expect("statvfs");
        let bytes = (room.f_bavail * room.f_frsize).saturating_sub(free * 1024);
        fs::write(disk.path.join("filler"), vec![1; usize::try_from(bytes).expect("small")]).expect("filled");
    };
    let empty = || fs::remove_file(disk.path.join("filler")).expect("removed");
    let store = disk.path.join("store");
    let store = store.to_str().expect("text");
    fill(0);
    project.run(["init", "--store", store]).expect_line(1, &["o space", "free some space"]);
    project.run(["list", "--store", store]).expect_line(1, &["Not a store"]);
    empty();
    project.run(["init", "--store", store]).expect(0);
    let capture = |name: &str| project.run(["capture", "--tree", ".", "--store", store, "--run", name, "--quiet"]);
    for n in 0..31 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n"));
        capture(&format!("run-{n}")).expect(0);
    }
    let index = Path::new(store).join("index.sqlite");
    let whole_index = || fs::metadata(&index).is_ok_and(|metadata| metadata.len() > 8 << 10);
    assert!(!whole_index());
    // From here on each capture wants to write the index as well, which is no reason to fail.
    let (mut without, mut captured) = (0, 31);
    for free in (0..).step_by(4) {
        fill(free);
        project.write("momentum/signal.py", format!("WINDOW = {free}.5\n"));
        let finished = capture(&format!("full-{free}"));
        let is_captured = finished.status == Some(0);
        if !is_captured {
            finished.expect_line(1, &["o space"]);
        }
        captured += u64::from(is_captured);
        let verified = project.run(["verify", "--read-data", "--store", store, "--json"]).json();
        assert_eq!(verified["runs"], captured);
        let wrong = verified["problems"].as_array().expect("a list");
        assert!(wrong.iter().all(|p| p["file"] == json!(index)), "{free}: {wrong:?}");
        empty();
        if whole_index() {
            break;
        }
        without += u64::from(is_captured);
    }
    assert!(without > 0, "the index was written at once");
    project.run(["gc", "--store", store]).expect(0);
    project.run(["verify", "--read-data", "--store", store]).expect(0);
}

#[test]
fn what_does_not_fit_is_not_restored_and_told() {
    let project = Project::with_code();
    project.write("data.csv", "1,2,3\n".repeat(20_000));
    project.capture("first");
    let Some(disk) = SmallDisk::mount(project.beside("disk")) else {
        println!("skipped: this user may not mount a small disk");
        return;
    };
    fs::write(disk.path.join("filler"), vec![1; 440 << 10]).expect("filled");
    let output = disk.path.join("output");
    let output_text = output.to_str().expect("text");
    let finished = project.run(["restore", "first", "--output", output_text, "--json"]).expect(3);
    assert!(finished.stderr.contains("data.csv") && finished.stderr.contains("o space"), "{}", finished.stderr);
    // Others that were being written at the same moment may have found no room either.
    let (original, restored) = (tree(&project.root()), tree(&output));
    assert!(restored.iter().all(|(path, content)| original.get(path) == Some(content)), "{:?}", restored.keys());
    let told = finished.json()["problems"].as_array().map(Vec::len);
    assert_eq!(told, Some(original.len() - restored.len()), "{}", finished.stderr);
}

#[test]
fn a_read_only_store_can_be_read() {
    let project = Project::with_code();
    for n in 0..34 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n"));
        project.capture(&format!("run-{n}"));
    }
    let store = project.store();
    let lock = |mode: u32| {
        for folder in [store.clone(), store.join("packs"), store.join("runs"), store.join("writers"), store.join("tmp")]
        {
            for entry in fs::read_dir(&folder).expect("there").flatten().filter(|e| e.path().is_file()) {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode & 0o666)).expect("chmod");
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    let done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    let bound = is_root() && done(Command::new("mount").arg("--bind").arg(&store).arg(&store));
    let mount = bound.then(|| SmallDisk { path: store.clone() });
    let mounted = bound && done(Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&store));
    if !mounted {
        lock(0o555);
    }
    if mounted || !is_root() {
        for command in
            [&["list"][..], &["show", "run-3"], &["cat", "run-3:strategy.py"], &["report"], &["verify", "--read-data"]]
        {
            project.run(command).expect(0);
        }
        project.run(["diff", "run-3", "run-4"]).expect(0);
        assert_eq!(project.restored("run-33"), tree(&project.root()));
        for command in [&["capture", "--tree", "."][..], &["log", "run-3", "--tag", "good"], &["reindex"]] {
            let refused = project.run(command).expect_line(1, &[]);
            assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
        }
        project.run(["list"]).expect(0);
    } else {
        println!("skipped: root may not mount here");
    }
    drop(mount);
    if !mounted {
        lock(0o755);
    }
    project.capture("again");
}

/// Puts objects into a store that no capture would write, and a run of that name that has them.
fn plant(store: &Store, name: &str, objects: &[(ObjectKind, ObjectId, &[u8])], snapshot: ObjectId) {
    let storage = store.storage();
    let mut pack = PackWriter::create(&**storage, format!("tmp/{name}"), store.config().store, 0).expect("created");
    pack.add(PreparedFrame::new(objects, Prefix::None, &[], 0, 3)).expect("added");
    pack.finish(&format!("packs/{name}.pack")).expect("finished");
    let mut record = store.runs().expect("runs").iter().next().expect("a run").start;
    record.run = runsnap::id::RunId(runsnap::id::random_bytes());
    record.name = Some(name.to_owned());
    record.snapshot = snapshot;
    let mut writer = store.writer().expect("a writer");
    writer.commit(&[RunRecord::Start(Box::new(record))]).expect("committed");
}

#[test]
fn a_hostile_snapshot_writes_nothing_outside() {
    let project = Project::with_code();
    project.capture("first");
    let store = Store::open(&project.store()).expect("opens");
    for (n, name) in [&b".."[..], b"/tmp", b"a/b", b".", b""].into_iter().enumerate() {
        // A tree with such a name, under its right hash.
        let content = b"planted";
        let file = ObjectId::of(content);
        let mut bytes = b"runsnap tree 1\n\x01".to_vec();
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name);
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(file.0);
        let root = ObjectId::of(&bytes);
        let snapshot = Snapshot { root, outside: BTreeMap::new() }.encode();
        let objects = [
            (ObjectKind::Chunk, file, &content[..]),
            (ObjectKind::Tree, root, &bytes[..]),
            (ObjectKind::Snapshot, ObjectId::of(&snapshot), &snapshot[..]),
        ];
        plant(&store, &format!("hostile-{n}"), &objects, ObjectId::of(&snapshot));
        let output = project.beside(&format!("deep/er/out-{n}"));
        let finished = project.run(["restore", &format!("hostile-{n}"), "--output", output.to_str().expect("text")]);
        assert!(matches!(finished.status, Some(1 | 3)), "{finished:?}");
        assert!(!finished.stderr.contains("panicked"));
        let beside = project.beside("deep");
        assert!(tree(&beside).is_empty(), "{:?}", tree(&beside).keys());
    }
    assert_eq!(project.restored("first"), tree(&project.root()));
}

#[test]
fn a_link_in_place_of_the_outside_folder_leads_nowhere() {
    let project = Project::with_code();
    project.capture("first");
    let store = Store::open(&project.store()).expect("opens");
    let target = project.beside("target");
    fs::create_dir(&target).expect("made");
    // Both trees are in order by themselves; together they have a link where a folder should be.
    let content = b"planted";
    let file = Entry::File { id: ObjectId::of(content), bytes: content.len() as u64, executable: false };
    let link = Entry::Symlink { target: target.as_os_str().as_bytes().to_vec() };
    let encoded = |name: &str, entry| encode_tree(&BTreeMap::from([(name.into(), Node::Entry(entry))]));
    let (root, outside) = (encoded(".runsnap-outside", link), encoded("x.py", file));
    let outside_trees = BTreeMap::from([(b"lib".to_vec(), ObjectId::of(&outside))]);
    let snapshot = Snapshot { root: ObjectId::of(&root), outside: outside_trees }.encode();
    let objects = [
        (ObjectKind::Chunk, ObjectId::of(content), &content[..]),
        (ObjectKind::Tree, ObjectId::of(&root), &root[..]),
        (ObjectKind::Tree, ObjectId::of(&outside), &outside[..]),
        (ObjectKind::Snapshot, ObjectId::of(&snapshot), &snapshot[..]),
    ];
    plant(&store, "hostile", &objects, ObjectId::of(&snapshot));
    let output = project.beside("output");
    let restore = ["restore", "hostile", "--output", output.to_str().expect("text")];
    let finished = project.run(restore).expect(3);
    assert!(finished.stderr.contains(".runsnap-outside"), "{}", finished.stderr);
    // And where an earlier restore or somebody else has left the link.
    fs::remove_dir_all(output.join(".runsnap-outside")).expect("the folder of the file");
    std::os::unix::fs::symlink(&target, output.join(".runsnap-outside")).expect("link");
    project.run(restore.into_iter().chain(["--force"])).expect(3);
    assert_eq!(fs::read_dir(&target).expect("there").count(), 0, "something was written through the link");
}

#[test]
fn names_that_are_one_for_the_file_system_are_told() {
    let project = Project::with_code();
    project.write("Model.py", "x = 1\n");
    project.write("model.py", "x = 2\n");
    project.capture("clash");
    let image = project.beside("fat.img");
    let mounted = project.beside("fat");
    fs::create_dir(&mounted).expect("made");
    fs::File::create(&image).and_then(|file| file.set_len(4 << 20)).expect("an image");
    let done = |command: &mut Command| command.output().is_ok_and(|output| output.status.success());
    if !done(Command::new("mkfs.vfat").arg(&image))
        || !done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted))
    {
        println!("skipped: no file system that takes Model.py and model.py for one can be made here");
        return;
    }
    let disk = SmallDisk { path: mounted.clone() };
    let output = mounted.join("out");
    let restored = project.run(["restore", "clash", "--output", output.to_str().expect("text")]).expect(3);
    assert!(restored.stderr.to_lowercase().contains("model.py"), "{}", restored.stderr);
    let written = fs::read_dir(&output)
        .expect("there")
        .flatten()
        .filter(|e| e.file_name().eq_ignore_ascii_case("model.py"))
        .count();
    assert_eq!(written, 1);
    drop(disk);
}

#[test]
fn chunk_sizes_that_make_no_sense_are_refused() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(folder.path().join("store")));
    let chunker = Chunker { min_bytes: 10, average_bytes: 5, max_bytes: 1 };
    assert!(Store::init_in(storage, chunker).is_err());
}
