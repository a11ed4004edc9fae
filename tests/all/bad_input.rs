//! Bad input gets one clear line and the right exit status, and loses nothing.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;
use runsnap::storage::{LocalStorage, Storage};
use runsnap::store::Store;
use serde_json::{Value, json};

use crate::support::{Project, RUNSNAP, tree};

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn wrong_usage_is_status_2() {
    let project = Project::with_code();
    let cases: [&[&str]; 14] = [
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
    let features = ["compatible", "read_only_compatible", "incompatible"].map(|k| format!("\"{k}\":{}", config["features"][k]));
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
    fs::set_permissions(project.path("locked.py"), fs::Permissions::from_mode(0o000)).expect("chmod");
    let mut command = project.command(["capture", "--tree", ".", "--run", "locked", "--json"]);
    if is_root() {
        // Nothing is unreadable for root: an ordinary user captures instead.
        use std::os::unix::process::CommandExt;
        let open = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).expect("chmod");
        open(project.folder.path());
        let copy = project.folder.path().join("runsnap");
        fs::copy(RUNSNAP, &copy).expect("copied");
        let store = project.beside("theirs");
        fs::create_dir(&store).expect("made");
        open(&store);
        let store = store.join("store");
        let arguments = ["capture", "--tree", ".", "--run", "locked", "--json", "--store"];
        Command::new(&copy).args(["init", "--store"]).arg(&store).uid(65534).gid(65534).output().expect("runs");
        command = Command::new(&copy);
        command.args(arguments).arg(&store).current_dir(project.root()).uid(65534).gid(65534);
    }
    let captured: crate::support::Finished = command.output().expect("runs").into();
    let captured = captured.expect(3);
    assert!(captured.stderr.contains("locked.py") && captured.stderr.contains("permission denied"), "{}", captured.stderr);
    assert_eq!(captured.json()["left_out"][0]["reason"], "unreadable");
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
}

#[test]
fn a_path_of_4000_bytes() {
    let project = Project::with_code();
    // Longer than the system takes in one piece: made folder by folder.
    let part = "d".repeat(200);
    let mut folder = rustix::fs::open(project.root(), rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).expect("open");
    let all = rustix::fs::Mode::from_raw_mode(0o755);
    for _ in 0..20 {
        rustix::fs::mkdirat(&folder, &part, all).expect("made");
        folder = rustix::fs::openat(&folder, &part, rustix::fs::OFlags::DIRECTORY, rustix::fs::Mode::empty()).expect("open");
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
    assert_eq!(fs::read(output.join("strategy.py")).expect("there"), fs::read(project.path("strategy.py")).expect("there"));
    // A path of 3,000 bytes fits.
    let project = Project::with_code();
    let long = vec!["d".repeat(100); 29].join("/");
    project.write(format!("{long}/fits.py"), "x = 1\n");
    project.capture("long");
    assert_eq!(project.restored("long"), tree(&project.root()));
}

#[test]
fn strategy_yaml_that_decides_nothing() {
    let project = Project::with_code();
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, n| {
        text + &format!("a{n}: &a{n} [{}]\n", vec![format!("*a{}", n - 1); 9].join(", "))
    }) + "files: []\n";
    let long = format!("files: []\n# {}\n", "x".repeat(1 << 20));
    let cases = ["files: [", "- a\n", "files: x\n", "other: 1\n", "\u{0}", &bomb, &long];
    for (n, text) in cases.into_iter().enumerate() {
        project.write("strategy.yaml", text);
        let captured = project.run(["capture", "strategy.py", "--run", &format!("bad-{n}"), "--json"]).expect(3);
        assert!(captured.stderr.contains("strategy.yaml decides nothing"), "{n}: {}", captured.stderr);
        assert_eq!(captured.json()["files"], 1, "{n}");
        assert_eq!(captured.json()["tracked_by"], "entry_point_only");
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
    let mut child = project.command(["show", "first"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    drop(child.stdout.take());
    let output = child.wait_with_output().expect("ends");
    assert!(!String::from_utf8_lossy(&output.stderr).contains("panicked"));
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
fn a_read_only_store_can_be_read() {
    let project = Project::with_code();
    for n in 0..34 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n"));
        project.capture(&format!("run-{n}"));
    }
    let store = project.store();
    let lock = |mode: u32| {
        for folder in [store.clone(), store.join("packs"), store.join("runs"), store.join("writers"), store.join("tmp")] {
            for entry in fs::read_dir(&folder).expect("there").flatten().filter(|e| e.path().is_file()) {
                fs::set_permissions(entry.path(), fs::Permissions::from_mode(mode & 0o666)).expect("chmod");
            }
            fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    };
    let mounted = is_root()
        && Command::new("mount").arg("--bind").arg(&store).arg(&store).status().is_ok_and(|s| s.success())
        && Command::new("mount").args(["-o", "remount,bind,ro"]).arg(&store).status().is_ok_and(|s| s.success());
    if !mounted {
        lock(0o555);
    }
    if mounted || !is_root() {
        for command in [&["list"][..], &["show", "run-3"], &["cat", "run-3:strategy.py"], &["report"], &["verify", "--read-data"]] {
            project.run(command).expect(0);
        }
        project.run(["diff", "run-3", "run-4"]).expect(0);
        assert_eq!(project.restored("run-33"), tree(&project.root()));
        let refused = project.run(["capture", "--tree", "."]).expect(1);
        assert_eq!(refused.stderr.lines().count(), 1, "{}", refused.stderr);
    } else {
        println!("skipped: root may not mount here");
    }
    if mounted {
        let _ = Command::new("umount").arg("-l").arg(&store).status();
    } else {
        lock(0o755);
    }
    project.capture("again");
}

#[test]
fn a_hostile_snapshot_writes_nothing_outside() {
    use runsnap::pack::format::{ObjectKind, Prefix};
    use runsnap::pack::{PackWriter, PreparedFrame};
    let project = Project::with_code();
    project.capture("first");
    let store = Store::open(&project.store()).expect("opens");
    let start = store.runs().expect("runs").runs[0].start.clone();
    for (n, name) in [&b".."[..], b"/tmp", b"a/b", b".", b""].into_iter().enumerate() {
        // What no capture writes: a tree with such a name, under its right hash.
        let content = b"planted";
        let file = ObjectId::of(content);
        let mut bytes = b"runsnap tree 1\n\x01".to_vec();
        bytes.extend((name.len() as u16).to_le_bytes());
        bytes.extend(name);
        bytes.extend((content.len() as u64).to_le_bytes());
        bytes.extend(file.0);
        let root = ObjectId::of(&bytes);
        let snapshot = runsnap::snapshot::Snapshot { root, outside: Default::default() }.encode();
        let storage: Arc<dyn Storage> = Arc::new(LocalStorage::new(project.store()));
        let mut pack = PackWriter::create(&*storage, format!("tmp/hostile-{n}"), store.config().store).expect("created");
        let objects = [
            (ObjectKind::Chunk, file, &content[..]),
            (ObjectKind::Tree, root, &bytes[..]),
            (ObjectKind::Snapshot, ObjectId::of(&snapshot), &snapshot[..]),
        ];
        pack.add(PreparedFrame::new(&objects, Prefix::None, &[], 0, 3)).expect("added");
        pack.finish(&format!("packs/000000000000000{n}.pack")).expect("finished");
        let mut record = start.clone();
        record.run = runsnap::id::RunId::new(n as u64, [n as u8; 8]);
        record.name = Some(format!("hostile-{n}"));
        record.snapshot = ObjectId::of(&snapshot);
        let record = runsnap::run_record::RunRecord::Start(Box::new(record));
        let mut writer = store.writer().expect("a writer");
        writer.commit(&[record]).expect("committed");
        drop(writer);
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
    if !done(Command::new("mkfs.vfat").arg(&image)) || !done(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&mounted)) {
        println!("skipped: no file system that takes Model.py and model.py for one can be made here");
        return;
    }
    let disk = SmallDisk { path: mounted.clone() };
    let output = mounted.join("out");
    let restored = project.run(["restore", "clash", "--output", output.to_str().expect("text")]).expect(3);
    assert!(restored.stderr.to_lowercase().contains("model.py"), "{}", restored.stderr);
    let written = fs::read_dir(&output).expect("there").flatten().filter(|e| e.file_name().eq_ignore_ascii_case("model.py")).count();
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
