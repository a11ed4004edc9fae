//! Copies of code turned into runs: everything in them comes back, what must stay stays, and originals go only after that.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::{Seek, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, SystemTime};

use runsnap::id::ObjectId;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::snapshot::Entry;
use runsnap::store::Store;
use serde_json::{Value, json};

use crate::support::{Finished, Project, Tree, tree};

/// What a folder holds, folders included: by path, the kind, and the hash of the content or target.
type Listing = BTreeMap<PathBuf, (&'static str, ObjectId)>;

fn listing(root: &Path) -> Listing {
    let mut out = Listing::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            let metadata = path.symlink_metadata().expect("there");
            let (kind, content) = if metadata.is_symlink() {
                ("link", fs::read_link(&path).expect("a link").as_os_str().as_bytes().to_vec())
            } else if metadata.is_dir() {
                waiting.push(path.clone());
                ("folder", Vec::new())
            } else if metadata.is_file() {
                let executable = metadata.permissions().mode() & 0o100 != 0;
                (if executable { "executable" } else { "file" }, fs::read(&path).expect("readable"))
            } else {
                ("special", Vec::new())
            };
            out.insert(path.strip_prefix(root).expect("below").to_owned(), (kind, ObjectId::of(&content)));
        }
    }
    out
}

/// The room that a folder and all in it take on the disk.
fn allocated(root: &Path) -> u64 {
    let own = root.symlink_metadata().map_or(0, |metadata| metadata.blocks() * 512);
    let below: u64 = match root.symlink_metadata() {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(root).expect("readable").map(|entry| allocated(&entry.expect("readable").path())).sum()
        }
        _ => 0,
    };
    own + below
}

/// Not UTF-8: a Latin-1 name, as old archives have them.
fn latin() -> &'static OsStr {
    OsStr::from_bytes(b"caf\xe9.txt")
}

fn write(path: &Path, content: impl AsRef<[u8]>) {
    fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
    fs::write(path, content).expect("written");
}

fn module(number: usize, value: usize) -> String {
    let lines = (0..40).map(|line| format!("    window_{line} = prices.rolling({}).mean()\n", number * 100 + line));
    format!("\"\"\"Module {number}.\"\"\"\n\nLIMIT = {value}\n\n\ndef signal(prices):\n{}", lines.collect::<String>())
}

/// Writes one version of a project of some 30 files: everything that ignore rules and secrets' rules would leave out, links,
/// empty files, an executable and a name that is not UTF-8 among them.
fn write_code(code: &Path, version: usize) {
    for number in 0..22 {
        // One module or two change with each version.
        let value = if number == version % 22 || number == 3 { version } else { version / 22 };
        write(&code.join(format!("package_{}/module_{number}.py", number % 4)), module(number, value));
    }
    write(&code.join("package_0/__init__.py"), "");
    write(&code.join("package_1/__init__.py"), "");
    write(&code.join(".env"), format!("BROKER_PASSWORD=hunter{}\n", version / 10));
    write(&code.join(".gitignore"), "data/\n*.pyc\n");
    write(&code.join("data/prices.csv"), "1,2,3\n".repeat(200));
    write(&code.join("package_0/__pycache__/module_0.cpython-313.pyc"), b"\xa7\r\r\n cached");
    write(&code.join(latin()), "not UTF-8\n");
    write(&code.join("run.sh"), "#!/bin/sh\nexec python3 package_0/module_0.py\n");
    fs::set_permissions(code.join("run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
    symlink("package_0/module_0.py", code.join("main.py")).expect("link");
    symlink("/nowhere", code.join("package_2/dangling")).expect("link");
    symlink("../package_3", code.join("package_2/sibling")).expect("link");
}

fn metadata(number: usize) -> String {
    let (minute, hour) = (number % 60, number / 60);
    let text = json!({
        "backtest_id": format!("run-{number:03}"), "timestamp": format!("2025-10-18T{hour:02}:{minute:02}:11.123456+00:00"),
        "framework_version": "0.2.1", "python_version": "3.12.4",
        "strategy_entry_point": "/home/u/project/package_0/module_0.py", "captured_files": ["module_0.py"],
        "data_bundle_info": null, "params": { "fast": number, "kind": "ema" }, "odd": [1.50, "kept as it is"],
    });
    // Not in the form in which runsnap would write it.
    format!("{text}   \n")
}

/// Writes `count` runs as rustybt leaves them; what `code` of each holds.
fn write_rustybt(folder: &Path, count: usize) -> BTreeMap<String, Tree> {
    let mut codes = BTreeMap::new();
    for number in 0..count {
        let name = format!("run-{number:03}");
        let run = folder.join(&name);
        write_code(&run.join("code"), number);
        write(&run.join("results/result.csv"), format!("sharpe,{number}\n"));
        write(&run.join("metadata/backtest_metadata.json"), metadata(number));
        codes.insert(name, tree(&run.join("code")));
    }
    codes
}

#[track_caller]
fn import(project: &Project, arguments: &[&str]) -> Finished {
    project.run([&["import"], arguments].concat())
}

#[track_caller]
fn import_json(project: &Project, status: i32, arguments: &[&str]) -> Value {
    import(project, &[arguments, &["--json"]].concat()).expect(status).json()
}

/// Restores every run of a store, by name.
fn restored(project: &Project) -> BTreeMap<String, Tree> {
    let store = Store::open(&project.store()).expect("opens");
    let mut out = BTreeMap::new();
    for run in store.runs().expect("readable").iter() {
        let output = project.beside("restored");
        let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
        let done = restore(&store, &run, &options, &()).expect("restored");
        assert_eq!(done.problems, Vec::<String>::new());
        assert!(out.insert(run.label(), tree(&output)).is_none(), "{} is there twice", run.label());
        fs::remove_dir_all(output).expect("removed");
    }
    out
}

/// Reads every run of a store, by name, without a folder to restore into.
fn stored(project: &Project) -> BTreeMap<String, Tree> {
    let mut out = BTreeMap::new();
    if !project.store().join("config.json").exists() {
        return out;
    }
    let store = Store::open(&project.store()).expect("opens");
    for run in store.runs().expect("readable").iter() {
        let files = store.files_of(run.start.snapshot).expect("whole").entries;
        let read = files.into_iter().map(|(path, entry)| {
            let path = path.to_path().expect("a path of this system");
            match entry {
                Entry::File { id, bytes, executable } => {
                    (path, (if executable { "executable" } else { "file" }, store.file(id, bytes).expect("whole")))
                }
                Entry::Symlink { target } => (path, ("link", target)),
            }
        });
        assert!(out.insert(run.label(), read.collect()).is_none(), "{} is there twice", run.label());
    }
    out
}

#[track_caller]
fn assert_same(found: &Listing, expected: &Listing, what: &dyn std::fmt::Debug) {
    let more: Vec<_> = found.iter().filter(|(path, is)| expected.get(*path) != Some(is)).collect();
    let less: Vec<_> = expected.iter().filter(|(path, is)| found.get(*path) != Some(is)).collect();
    assert!(more.is_empty() && less.is_empty(), "{what:?}: is {more:?}, should be {less:?}");
}

/// What lies in no folder of that name.
fn others(listing: &Listing, part: &str) -> Listing {
    listing.iter().filter(|(path, _)| !path.iter().any(|name| name == part)).map(|(p, v)| (p.clone(), *v)).collect()
}

#[test]
fn three_hundred_copies_become_runs_and_nearly_all_of_their_room_is_free() {
    let project = Project::new();
    let folder = project.path("backtests");
    let codes = write_rustybt(&folder, 300);
    let code_before: u64 = codes.keys().map(|name| allocated(&folder.join(name).join("code"))).sum();
    let whole_before = allocated(&folder);
    let others_before = others(&listing(&folder), "code");

    let told = import_json(&project, 0, &["backtests", "--layout", "rustybt", "--delete-originals"]);
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(300));
    assert_eq!(told["kept"], json!([]));
    assert_eq!(told["kept_empty_folders"], json!([]));
    assert_eq!(told["deleted_files"], json!(codes.values().map(Tree::len).sum::<usize>()));

    // What is left of the code, what was added to the runs' folders, and the store.
    let left = allocated(&folder) - (whole_before - code_before) + allocated(&project.store());
    let gone = 1.0 - left as f64 / code_before as f64;
    println!("{code_before} bytes on disk before, {left} after: {:.2} % gone", 100.0 * gone);
    assert!(gone >= 0.95, "{code_before} bytes on disk before, {left} after");
    let mut after = listing(&folder);
    assert!(!after.keys().any(|path| path.ends_with("code")));
    after.retain(|path, _| !path.ends_with("metadata/manifest.json"));
    assert_same(&after, &others_before, &"other files");
    assert_eq!(restored(&project), codes);
    project.run(["verify", "--read-data"]).expect(0);

    let settled = listing(&project.root());
    for _ in 0..2 {
        let again = import_json(&project, 0, &["backtests", "--layout", "rustybt", "--delete-originals"]);
        assert_eq!((&again["runs"], &again["new_bytes"]), (&json!([]), &json!(0)));
        assert_same(&listing(&project.root()), &settled, &"it changed");
    }
}

#[test]
fn what_rustybt_noted_is_in_the_record_and_its_file_stays_as_it_is() {
    let project = Project::new();
    let folder = project.path("backtests");
    write_rustybt(&folder, 2);
    fs::remove_file(folder.join("run-001/metadata/backtest_metadata.json")).expect("removed");
    import(&project, &["backtests", "--layout", "rustybt", "--sweep", "old", "--tag", "moved"]).expect(0);
    let shown = project.run(["show", "run-000", "--json"]).expect(0).json();
    assert_eq!(shown["time"], "2025-10-18T00:00:11.123456Z");
    assert!(shown["run"].as_str().expect("text").starts_with("186f"), "{}", shown["run"]);
    assert_eq!(shown["params"], json!({ "fast": 0, "kind": "ema" }));
    assert_eq!(shown["entry_point"]["path"], "package_0/module_0.py");
    assert_eq!(shown["entry_point"]["found_by"], "metadata");
    assert_eq!(
        (&shown["environment"]["python"], &shown["environment"]["framework"]),
        (&json!("3.12.4"), &json!("0.2.1"))
    );
    assert_eq!((&shown["sweep"], &shown["tags"]), (&json!("old"), &json!(["moved"])));
    assert_eq!(shown["imported"], json!({ "layout": "rustybt", "from": folder, "path": "run-000" }));
    assert_eq!(fs::read_to_string(folder.join("run-000/metadata/backtest_metadata.json")).expect("there"), metadata(0));
    let bare = project.run(["show", "run-001", "--json"]).expect(0).json();
    assert_eq!(bare["run_folder"]["metadata_hash"], Value::Null);
    assert!(!folder.join("run-001/metadata/backtest_metadata.json").exists());
    project.run(["verify", "--read-data"]).expect(0);
    // The folder names its run.
    let found = project.run(["show", "backtests/run-001", "--json"]).expect(0).json();
    assert_eq!(found["run"], bare["run"]);
    fs::write(folder.join("run-000/metadata/backtest_metadata.json"), "{}").expect("written");
    project.run(["verify"]).expect(3);
}

/// Three copies in folders with times of their own; what each holds.
fn write_copies(folder: &Path) -> BTreeMap<String, Tree> {
    let mut codes = BTreeMap::new();
    for (age, name) in [(10, "newest"), (30, "oldest"), (20, "middle")] {
        write_code(&folder.join(name), 100 - age);
        // Of several chunks, most of them the same in all copies.
        let mut model = vec![0; 900_000];
        blake3::Hasher::new().update(b"model").finalize_xof().fill(&mut model);
        model[400_000] = age as u8;
        write(&folder.join(name).join("model.bin"), model);
        let time = SystemTime::now() - Duration::from_secs(age as u64 * 86_400);
        for path in listing(&folder.join(name)).into_iter().filter(|(_, (kind, _))| *kind != "link") {
            let file = fs::File::open(folder.join(name).join(path.0)).expect("there");
            file.set_modified(time).expect("set");
        }
        codes.insert(name.to_owned(), tree(&folder.join(name)));
    }
    codes
}

#[test]
fn plain_copies_stay_as_they_are_until_they_are_to_go() {
    let project = Project::new();
    let folder = project.path("old");
    let codes = write_copies(&folder);
    write(&folder.join("notes.txt"), "a file beside the copies\n");
    let before = listing(&folder);
    let told = import_json(&project, 0, &["old", "--layout", "copies"]);
    // Links, which are newer than all else here, do not count.
    let order: Vec<&str> = told["runs"].as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
    assert_eq!(order, ["oldest", "middle", "newest"]);
    assert_same(&listing(&folder), &before, &"it changed");
    assert_eq!(restored(&project), codes);

    let settled = listing(&project.root());
    assert_eq!(import_json(&project, 0, &["old", "--layout", "copies"])["already_imported"], json!(3));
    assert_same(&listing(&project.root()), &settled, &"it changed");

    // What a kill leaves of a manifest is no part of the copy, and does not stay.
    write(&folder.join("middle/metadata/manifest.json.0123456789abcdef.tmp"), "{\n  \"format\": \"runsnap-man");
    write(&folder.join("newest/metadata/manifest.json"), "");
    let told = import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"]);
    assert_eq!((&told["runs"], &told["already_imported"]), (&json!([]), &json!(3)));
    let left: Vec<PathBuf> = listing(&folder).into_keys().collect();
    let of = |name: &str| ["", "metadata", "metadata/manifest.json"].map(|path| PathBuf::from(name).join(path));
    let expected = [&of("middle")[..], &of("newest"), &[PathBuf::from("notes.txt")], &of("oldest")].concat();
    assert_eq!(left, expected);
    assert_eq!(restored(&project), codes);
    project.run(["verify", "--read-data"]).expect(0);
    let settled = listing(&project.root());
    import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"]);
    import_json(&project, 0, &["old", "--layout", "copies"]);
    assert_same(&listing(&project.root()), &settled, &"it changed");
}

#[test]
fn runs_are_in_the_order_of_their_copies_times() {
    let project = Project::new();
    for (age, name) in [(10, "b"), (30, "c"), (20, "a"), (20, "d"), (20, "e"), (20, "f"), (20, "g")] {
        let file = project.path(format!("old/{name}/strategy.py"));
        write(&file, format!("NAME = {name:?}\n"));
        let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 - age);
        fs::File::open(file).expect("there").set_modified(time).expect("set");
    }
    let told = import_json(&project, 0, &["old", "--layout", "copies"]);
    let listed = project.run(["list", "--json"]).expect(0).json();
    // Imported in that order as well, so that each is a difference to the one before it.
    for runs in [&told["runs"], &listed["runs"]] {
        let names: Vec<&str> = runs.as_array().expect("a list").iter().filter_map(|r| r["name"].as_str()).collect();
        assert_eq!(names, ["c", "a", "d", "e", "f", "g", "b"]);
    }
    assert_eq!(listed["runs"][0]["time"], "2023-11-14T22:12:50.000000Z");
}

#[test]
fn names_that_cannot_be_a_runs_are_kept_beside_it() {
    let project = Project::new();
    let names = [OsStr::new("two words"), OsStr::new(".hidden"), OsStr::new("latest"), latin()];
    for name in names {
        write(&project.path("old").join(name).join("strategy.py"), name.as_bytes());
    }
    let told = import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"]);
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(4));
    assert!(told["runs"].as_array().expect("a list").iter().all(|run| run["name"] == Value::Null));
    let listed = project.run(["list", "--json"]).expect(0).json();
    let of = |field: &str| -> Vec<&str> {
        let mut found: Vec<&str> = listed["runs"]
            .as_array()
            .expect("a list")
            .iter()
            .filter_map(|run| run["imported"][field].as_str())
            .collect();
        found.sort_unstable();
        found
    };
    assert_eq!(of("path"), [".hidden", "latest", "two words"]);
    assert_eq!(of("path_bytes"), ["Y2Fm6S50eHQ="]);
    let settled = listing(&project.root());
    assert_eq!(import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"])["already_imported"], 4);
    assert_same(&listing(&project.root()), &settled, &"it changed");
}

#[test]
fn other_content_under_a_known_name_is_named_and_left_alone() {
    let project = Project::new();
    write_copies(&project.path("old"));
    import(&project, &["old", "--layout", "copies"]).expect(0);
    write(&project.path("old/middle/package_0/module_0.py"), "edited\n");
    write(&project.path("other/newest/strategy.py"), "somebody else's\n");
    project.run(["forget", "oldest"]).expect(0);
    let before = listing(&project.root());
    for options in [&["--layout", "copies"][..], &["--layout", "copies", "--delete-originals", "--dry-run"]] {
        let told = import(&project, &[&["old", "other"], options].concat()).expect(3);
        assert!(
            told.stderr.contains("old/middle: the run middle is in the store with other content"),
            "{}",
            told.stderr
        );
        assert!(told.stderr.contains("other/newest: the run newest is in the store"), "{}", told.stderr);
    }
    let told = import_json(&project, 3, &["old", "other", "--layout", "copies", "--delete-originals"]);
    assert_eq!(told["problems"].as_array().map(Vec::len), Some(3), "{told:#}");
    // The name of a forgotten run is not given again, so its copy is not imported, and stays.
    let after = listing(&project.root());
    for part in ["old/middle", "old/oldest", "other"] {
        let of = |all: &Listing| -> Listing {
            all.iter().filter(|(p, _)| p.starts_with(part)).map(|(p, v)| (p.clone(), *v)).collect()
        };
        assert_eq!(of(&after), of(&before), "{part}");
    }
    assert!(!project.path("old/newest/run.sh").exists());
}

#[test]
fn a_copy_of_a_captured_run_is_that_run() {
    let project = Project::new();
    project.run(["init"]).expect(0);
    write(&project.path("code/strategy.py"), "import momentum\n");
    project.run(["capture", "--tree", "code", "--run", "first", "--run-dir", "results/first"]).expect(0);
    write(&project.path("old/first/strategy.py"), "import momentum\n");
    let told = import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"]);
    assert_eq!((&told["runs"], &told["already_imported"]), (&json!([]), &json!(1)));
    assert_eq!(listing(&project.path("old")).len(), 1, "the emptied folder alone");
    let settled = listing(&project.root());
    import_json(&project, 0, &["old", "--layout", "copies", "--delete-originals"]);
    assert_same(&listing(&project.root()), &settled, &"it changed");
}

#[test]
fn two_copies_of_one_run_are_one_run() {
    let project = Project::new();
    write_copies(&project.path("old"));
    write_copies(&project.path("older"));
    let told = import_json(&project, 0, &["old", "older", "old/", "--layout", "copies", "--delete-originals"]);
    assert_eq!((told["runs"].as_array().map(Vec::len), &told["already_imported"]), (Some(3), &json!(3)));
    assert!(!project.path("old/newest/run.sh").exists() && !project.path("older/newest/run.sh").exists());
    let told = import_json(&project, 0, &["older", "--layout", "copies", "--delete-originals"]);
    assert_eq!((&told["runs"], &told["already_imported"]), (&json!([]), &json!(3)));
    let shown = project.run(["show", "newest"]).expect(0).stdout;
    assert!(shown.contains(&format!("imported     {}/newest\n", project.path("old").display())), "{shown}");
}

#[test]
fn a_half_deleted_copy_is_recognised_and_only_what_still_matches_goes() {
    for with_manifest in [true, false] {
        let project = Project::new();
        let folder = project.path("backtests");
        let codes = write_rustybt(&folder, 2);
        import(&project, &["backtests", "--layout", "rustybt"]).expect(0);
        let code = folder.join("run-001/code");
        // As far as a deletion came: in the order of the paths.
        for path in [".env", ".gitignore"] {
            fs::remove_file(code.join(path)).expect("removed");
        }
        // Of the same length: only its hash tells.
        let edited = module(4, 0).replace("LIMIT = 0", "LIMIT = 7");
        assert_eq!(edited.len(), codes["run-001"][Path::new("package_0/module_4.py")].1.len());
        write(&code.join("package_0/module_4.py"), edited);
        write(&code.join("package_9/new.py"), "new since\n");
        if !with_manifest {
            fs::remove_file(folder.join("run-001/metadata/manifest.json")).expect("removed");
        }
        let told = import_json(&project, 3, &["backtests", "--layout", "rustybt", "--delete-originals"]);
        assert_eq!(told["runs"], json!([]), "{told:#}");
        let kept: Vec<&str> = told["kept"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        assert!(kept[0].contains("package_0/module_4.py") && kept[0].contains("changed"), "{kept:?}");
        assert!(kept[1].contains("package_9/new.py") && kept[1].contains("snapshot"), "{kept:?}");
        let left: Vec<PathBuf> = tree(&code).into_keys().collect();
        assert_eq!(left, [PathBuf::from("package_0/module_4.py"), PathBuf::from("package_9/new.py")]);
        assert!(folder.join("run-001/metadata/manifest.json").exists());
        assert!(!folder.join("run-000/code").exists());
        assert_eq!(restored(&project), codes);
    }
}

#[test]
fn new_code_in_the_place_of_imported_code_is_left_alone() {
    let project = Project::new();
    let folder = project.path("backtests");
    write_rustybt(&folder, 1);
    import(&project, &["backtests", "--layout", "rustybt"]).expect(0);
    // A file is missing and one differs, but a deletion does not come that way; nor does it where one is missing alone.
    fs::remove_file(folder.join("run-000/code/run.sh")).expect("removed");
    for content in ["another version\n".to_owned(), module(0, 0)] {
        write(&folder.join("run-000/code/package_0/module_0.py"), content);
        let before = listing(&folder);
        let told = import_json(&project, 3, &["backtests", "--layout", "rustybt", "--delete-originals"]);
        assert_eq!(told["problems"].as_array().map(Vec::len), Some(1));
        assert_same(&listing(&folder), &before, &"it changed");
    }
}

#[test]
fn what_no_snapshot_can_have_stays() {
    let project = Project::new();
    let copy = project.path("old/one");
    write(&copy.join("package/strategy.py"), "import socket\n");
    fs::create_dir_all(copy.join("package/empty/deeper")).expect("folders");
    fs::create_dir_all(copy.join("results")).expect("folders");
    let _socket = std::os::unix::net::UnixListener::bind(copy.join("package/socket")).expect("bound");
    let told = import_json(&project, 3, &["old", "--layout", "copies", "--delete-originals"]);
    assert_eq!(told["runs"].as_array().map(Vec::len), Some(1));
    assert_eq!(told["kept"].as_array().map(Vec::len), Some(1));
    assert!(told["kept"][0].as_str().expect("text").contains("package/socket"));
    assert_eq!(told["kept_empty_folders"], json!([copy.join("package/empty/deeper"), copy.join("results")]));
    let shown = project.run(["show", "one", "--json"]).expect(0).json();
    assert_eq!(shown["left_out"][0]["reason"], "special_file");
    assert!(copy.join("package/socket").exists() && copy.join("package/empty/deeper").is_dir());
    assert!(!copy.join("package/strategy.py").exists());
}

#[test]
fn what_cannot_be_read_back_stays() {
    let project = Project::new();
    let folder = project.path("backtests");
    let codes = write_rustybt(&folder, 2);
    import(&project, &["backtests", "--layout", "rustybt"]).expect(0);
    // A bit in the content of the first pack's first frame: tables stay whole.
    let packs = project.store_files("packs");
    for pack in &packs {
        let mut bytes = fs::read(pack).expect("readable");
        bytes[200] ^= 4;
        fs::write(pack, bytes).expect("written");
    }
    let told = import_json(&project, 3, &["backtests", "--layout", "rustybt", "--delete-originals"]);
    let kept = told["kept"].as_array().expect("a list");
    assert!(kept.iter().any(|line| line.as_str().is_some_and(|line| line.contains("read back"))), "{told:#}");
    // Whatever has gone can be restored, and all else is still there.
    for (name, code) in &codes {
        let left =
            if folder.join(name).join("code").is_dir() { tree(&folder.join(name).join("code")) } else { Tree::new() };
        let output = project.beside(&format!("restored-{name}"));
        let restored = project.run(["restore".as_ref(), name.as_ref(), "--output".as_ref(), output.as_os_str()]);
        assert!(matches!(restored.status, Some(0 | 1 | 3)));
        let restored = if output.exists() { tree(&output) } else { Tree::new() };
        for (path, content) in code {
            assert!(left.get(path) == Some(content) || restored.get(path) == Some(content), "{name}: {path:?} is lost");
        }
    }
    // The damaged run's copy is whole, and once the store is repaired from it, it can go.
    assert_eq!(tree(&folder.join("run-000/code")), codes["run-000"]);
    project.run(["repair"]).expect(0);
    import_json(&project, 0, &["backtests", "--layout", "rustybt", "--delete-originals"]);
    assert!(!folder.join("run-000/code").exists());
    assert_eq!(restored(&project), codes);
}

#[test]
fn more_than_a_copy_is_refused_before_anything_is_touched() {
    let project = Project::new();
    write_rustybt(&project.path("backtests"), 2);
    write_copies(&project.path("old"));
    symlink("backtests", project.path("linked")).expect("link");
    write(&project.path("with-git/run/code/strategy.py"), "1\n");
    write(&project.path("with-git/run/code/deep/er/.git"), "gitdir: elsewhere\n");
    write(&project.path("with-store/run/deep/.runsnap/config.json"), "{}\n");
    write(&project.path("linked-run/run/code/strategy.py"), "1\n");
    symlink("run", project.path("linked-run/latest")).expect("link");
    fs::create_dir_all(project.path("linked-code/run")).expect("folders");
    symlink("../../backtests/run-000/code", project.path("linked-code/run/code")).expect("link");
    fs::create_dir_all(project.path("inside/run")).expect("folders");
    write(&project.path("file.txt"), "1\n");
    let before = listing(&project.root());
    let root = project.root();
    let refused = |arguments: &[&str], parts: &[&str]| {
        for more in [&[][..], &["--dry-run"], &["--delete-originals"]] {
            import(&project, &[arguments, more].concat()).expect_line(2, parts);
        }
        assert_same(&listing(&root), &before, &"{arguments:?}");
    };
    let rustybt = |folder: &str, parts: &[&str]| refused(&[folder, "--layout", "rustybt"], parts);
    rustybt("linked", &["linked", "symbolic link"]);
    rustybt("linked/", &["linked", "symbolic link"]);
    rustybt("with-git", &["deep/er/.git"]);
    rustybt("linked-run", &["latest", "symbolic link"]);
    rustybt("linked-code", &["run/code", "symbolic link"]);
    rustybt(".", &["current folder"]);
    rustybt("..", &["current folder"]);
    rustybt("file.txt", &["Not a folder"]);
    refused(&["with-store", "--layout", "copies"], &["deep/.runsnap"]);
    refused(&["linked-run", "--layout", "copies"], &["latest", "symbolic link"]);
    // One that is refused stops all.
    refused(&["backtests", "linked", "--layout", "rustybt"], &["symbolic link"]);
    refused(&["backtests", "backtests/run-000", "--layout", "rustybt"], &["overlaps"]);
    // Not even where the refused folder is the one that would get the store.
    let inside =
        project.command(["import", "../../inside", "--layout", "copies"]).current_dir(root.join("inside/run")).output();
    Finished::from(inside.expect("it starts")).expect_line(2, &["current folder"]);
    assert_same(&listing(&root), &before, &"it changed");

    let project = Project::new();
    project.run(["init", "--store", "deep/er/store"]).expect(0);
    for folder in ["deep", "deep/er", "deep/er/store", "deep/er/store/packs"] {
        import(&project, &[folder, "--layout", "copies", "--store", "deep/er/store"]).expect_line(2, &["store"]);
    }
    import(&project, &["nowhere", "--layout", "copies"]).expect_line(1, &["nowhere"]);
    import(&project, &["deep", "--layout", "copies", "--store", "mistyped"]).expect(1);
    assert!(!project.path("mistyped").exists());
}

#[test]
fn a_dry_run_tells_and_touches_nothing() {
    let project = Project::new();
    let folder = project.path("backtests");
    let codes = write_rustybt(&folder, 30);
    let before = listing(&project.root());
    let arguments = ["backtests", "--layout", "rustybt", "--delete-originals", "--dry-run"];
    let told = import_json(&project, 0, &arguments);
    assert_same(&listing(&project.root()), &before, &"not even a store is made");
    let number = |field: &str| told[field].as_u64().expect("a number");
    assert_eq!((number("runs"), number("already_imported")), (30, 0));
    assert_eq!(number("files"), codes.values().map(Tree::len).sum::<usize>() as u64);
    let on_disk: u64 = codes.keys().map(|name| allocated(&folder.join(name).join("code"))).sum();
    assert_eq!(number("allocated_bytes"), on_disk);
    assert!(number("distinct_bytes") < number("bytes") / 5);

    let saved = {
        let whole = allocated(&folder);
        import(&project, &arguments[..4]).expect(0);
        whole - allocated(&folder) - allocated(&project.store())
    };
    // What is told is not more than what comes true, but for the blocks of the store's own few files.
    let estimated = number("estimated_saving_bytes");
    assert!(estimated <= saved + 100_000 && estimated * 10 >= saved * 9, "{estimated} estimated, {saved} saved");
    let again = import_json(&project, 0, &arguments);
    assert_eq!((&again["runs"], &again["files"], &again["allocated_bytes"]), (&json!(0), &json!(0), &json!(0)));
}

#[test]
fn a_file_that_is_being_written_keeps_its_copy_out() {
    let project = Project::new();
    let log = project.path("strategy.log");
    write(&log, "");
    let (stop, writes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let refused = thread::scope(|scope| {
        scope.spawn(|| {
            let mut file = fs::File::options().write(true).open(&log).expect("there");
            while !stop.load(Ordering::Relaxed) {
                let line = writes.fetch_add(1, Ordering::Relaxed);
                file.rewind()
                    .and_then(|()| file.write_all(format!("{line:08}\n").repeat(20_000).as_bytes()))
                    .expect("written");
            }
        });
        while writes.load(Ordering::Relaxed) < 3 {
            thread::yield_now();
        }
        // On a busy machine the writer may pause for as long as an import takes: then the file has held still.
        let refused = (0..200).find_map(|attempt| {
            let copy = format!("old-{attempt}/busy-{attempt}");
            write(&project.path(&copy).join("strategy.py"), "1\n");
            fs::hard_link(&log, project.path(&copy).join("strategy.log")).expect("linked");
            let folder = format!("old-{attempt}");
            let told = import(&project, &[&folder, "--layout", "copies", "--delete-originals", "--json"]);
            assert!(matches!(told.status, Some(0 | 3)), "{}", told.stderr);
            let told = told.json();
            (told["problems"] != json!([])).then_some((folder, copy, told))
        });
        stop.store(true, Ordering::Relaxed);
        refused
    });
    let (folder, copy, told) = refused.expect("one that was being written");
    assert_eq!((&told["runs"], &told["deleted_files"]), (&json!([]), &json!(0)), "{told:#}");
    assert!(told["problems"][0].as_str().expect("text").contains("strategy.log"), "{told:#}");
    assert!(project.path(&copy).join("strategy.py").exists());
    // Once it holds still it is imported.
    import(&project, &[&folder, "--layout", "copies", "--delete-originals"]).expect(0);
    assert!(!project.path(&copy).join("strategy.log").exists());
}

#[test]
fn an_index_that_a_kill_left_half_made_is_made_again() {
    let project = Project::new();
    write_copies(&project.path("old"));
    import(&project, &["old", "--layout", "copies"]).expect(0);
    fs::write(project.store().join("index.sqlite"), "").expect("written");
    assert!(project.run(["verify"]).expect(0).stdout.contains("index.sqlite: empty"));
    import(&project, &["old", "--layout", "copies"]).expect(0);
    assert!(!project.run(["verify"]).expect(0).stdout.contains("index.sqlite"));
}

#[test]
fn one_import_at_a_time() {
    let project = Project::new();
    write_copies(&project.path("old"));
    import(&project, &["old", "--layout", "copies"]).expect(0);
    let lock = fs::File::options().write(true).open(project.store().join("writers/import")).expect("there");
    lock.lock().expect("locked");
    import(&project, &["old", "--layout", "copies"]).expect_line(1, &["another import is under way"]);
    // Captures do not wait for it.
    project.capture("beside");
}

/// Kills an import after a while; whether the kill hit a live process.
fn import_and_kill(project: &Project, layout: &str, delay: Duration) -> bool {
    let arguments = ["import", "runs", "--layout", layout, "--delete-originals", "--quiet"];
    let mut command = project.command(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    thread::sleep(delay);
    child.kill().expect("its own child");
    let output = child.wait_with_output().expect("it ended");
    let killed = output.status.signal() == Some(9);
    if !killed {
        assert_eq!(Finished::from(output).expect(0).stderr, "");
    }
    killed
}

/// So many are imported again and again while their imports are killed.
const COPIES: usize = 8;

/// Kills imports of one set of copies at random moments until `kills` have hit, then lets one finish.
fn killed_again_and_again(layout: &str, kills: usize) {
    let smooth = Project::new();
    write_rustybt(&smooth.path("runs"), COPIES);
    import(&smooth, &["runs", "--layout", layout, "--delete-originals"]).expect(0);
    let expected = listing(&smooth.path("runs"));
    let mut random = 0x5eed_u64;
    let (mut hit, mut limit, mut rounds) = (0, 40_000.0f64, 0);
    while hit < kills {
        rounds += 1;
        assert!(rounds < 40, "imports end before they are killed");
        let project = Project::new();
        let folder = project.path("runs");
        let mut codes = write_rustybt(&folder, COPIES);
        if layout == "copies" {
            codes = codes.into_keys().map(|name| (name.clone(), tree(&folder.join(&name)))).collect();
        }
        let code_of = |name: &str| if layout == "copies" { folder.join(name) } else { folder.join(name).join("code") };
        let mut returned = false;
        while !returned && hit < kills {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let delay = limit * ((random >> 33) % 1_000) as f64 / 1_000.0;
            returned = !import_and_kill(&project, layout, Duration::from_micros(delay as u64));
            hit += usize::from(!returned);
            // Both happen often, on machines of any speed.
            limit *= if returned { 0.8 } else { 1.15 };
            // What is not on the disk any more can be restored, byte for byte.
            let restored = stored(&project);
            for (name, code) in &codes {
                let here = if code_of(name).is_dir() { tree(&code_of(name)) } else { Tree::new() };
                let run = restored.get(name);
                assert!(run.is_none_or(|run| run == code), "{name} is another run than its copy");
                for (path, content) in code {
                    let is_there =
                        here.get(path) == Some(content) || run.is_some_and(|run| run.get(path) == Some(content));
                    assert!(is_there, "{name}: {} is lost", path.display());
                }
            }
        }
        import(&project, &["runs", "--layout", layout, "--delete-originals"]).expect(0);
        assert_eq!(restored(&project), codes);
        project.run(["verify", "--read-data"]).expect(0);
        let left = listing(&folder);

        // As if it had never been killed.
        assert_eq!(left.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
        let plain = |listing: &Listing| -> Listing {
            listing.iter().filter(|(p, _)| !p.ends_with("manifest.json")).map(|(p, v)| (p.clone(), *v)).collect()
        };
        assert_same(&plain(&left), &plain(&expected), &layout);
        let settled = listing(&project.root());
        import(&project, &["runs", "--layout", layout, "--delete-originals"]).expect(0);
        assert_same(&listing(&project.root()), &settled, &"it changed");
    }
    println!("{layout}: {hit} kills in {rounds} rounds");
}

#[test]
fn fifty_kills_lose_nothing() {
    killed_again_and_again("rustybt", 50);
}

#[test]
fn kills_lose_nothing_of_plain_copies() {
    killed_again_and_again("copies", 25);
}
