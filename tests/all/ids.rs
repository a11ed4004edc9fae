//! Same files, same snapshot id: on any machine, for any user, in any store. Other files, another id.

use std::fs::{self, File, FileTimes, Permissions};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use runsnap::chunker::Chunker;
use runsnap::id::ObjectId;
use runsnap::operations::capture::{CaptureOptions, Target, capture};
use runsnap::storage::LocalStorage;
use runsnap::store::Store;
use serde_json::Value;

use crate::support::{Finished, Project, RUNSNAP, tree};

const NOBODY: u32 = 65_534;

/// Bytes that neither compress nor repeat.
fn noise(bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(b"noise").finalize_xof().fill(&mut out);
    out
}

/// Code, a file that is more than one chunk in any store, and names that are not plain.
fn project() -> Project {
    let project = Project::with_code();
    project.write("model.bin", noise(700 << 10));
    project.write("data/prices über.csv", "1,2\n".repeat(5_000));
    project
}

/// The id of what is in a folder now, captured into a new store each time.
fn id_of(folder: &Path) -> String {
    let parent = tempfile::tempdir().expect("a temporary folder");
    let (store, _) = Store::init(&parent.path().join("store")).expect("made");
    id_in(&store, folder).to_string()
}

fn id_in(store: &Store, folder: &Path) -> ObjectId {
    capture(store, &CaptureOptions::new(Target::Tree(folder.to_owned())), &()).expect("captured").snapshot
}

/// Copies a folder, the last name first, so that the new folders hold their names in another order.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    let mut paths: Vec<PathBuf> = fs::read_dir(from).expect("readable").map(|e| e.expect("readable").path()).collect();
    paths.sort();
    for path in paths.iter().rev() {
        let target = to.join(path.file_name().expect("a name"));
        let metadata = path.symlink_metadata().expect("there");
        if metadata.is_symlink() {
            symlink(fs::read_link(path).expect("a link"), target).expect("linked");
        } else if metadata.is_dir() {
            copy(path, &target);
        } else {
            fs::copy(path, target).expect("copied");
        }
    }
}

#[test]
fn the_same_from_another_folder() {
    let project = project();
    let first = id_of(&project.root());
    for other in ["elsewhere", "a folder/with sp ace/é/and deeper still"] {
        let other = project.beside(other);
        copy(&project.root(), &other);
        assert_eq!(tree(&other), tree(&project.root()));
        assert_eq!(id_of(&other), first);
    }
    let linked = project.beside("linked");
    symlink(project.root(), &linked).expect("linked");
    assert_eq!(id_of(&linked), first, "reached through a link");
}

/// Another user where the test may become one, else at least another umask, home and language.
#[test]
fn the_same_for_another_user() {
    let project = project();
    let first = project.capture("mine")["snapshot"].clone();
    let theirs = project.beside("theirs");
    copy(&project.root(), &theirs);
    fs::remove_dir_all(theirs.join(".runsnap")).expect("removed");
    // The binary may stand where only its owner can go. Another process copies it: a thread of this one that starts a
    // program meanwhile would keep the copy open for writing, and then it cannot be run.
    let binary = project.beside("runsnap");
    assert!(Command::new("cp").arg(RUNSNAP).arg(&binary).status().expect("cp starts").success());
    fs::set_permissions(project.folder.path(), Permissions::from_mode(0o755)).expect("chmod");
    let mut command = Command::new("sh");
    command.arg("-c").arg("umask 077 && exec \"$0\" capture --tree . --json").arg(&binary).current_dir(&theirs);
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "POSIX");
    if chown(&theirs, Some(NOBODY), Some(NOBODY)).is_ok() {
        for path in tree(&theirs).keys().flat_map(|path| path.ancestors()).filter(|path| !path.as_os_str().is_empty()) {
            std::os::unix::fs::lchown(theirs.join(path), Some(NOBODY), Some(NOBODY)).expect("as the folder");
        }
        fs::set_permissions(theirs.join("strategy.py"), Permissions::from_mode(0o400)).expect("chmod");
        command.uid(NOBODY).gid(NOBODY);
    }
    let captured = Finished::from(command.output().expect("it starts")).expect(0).json();
    assert_eq!((&captured["snapshot"], &captured["files"]), (&first, &Value::from(9)));
}

#[test]
fn the_same_in_another_store() {
    let project = project();
    let first = id_of(&project.root());
    let crowded = project.beside("crowded");
    let other = Project::with_code();
    other.write("model.bin", noise(300 << 10));
    let (store, _) = Store::init(&crowded).expect("made");
    id_in(&store, &other.root());
    assert_eq!(id_in(&store, &project.root()).to_string(), first, "a store with similar files in it");
    assert_eq!(id_in(&store, &project.root()).to_string(), first, "once more");
    assert_eq!(project.capture("inside")["snapshot"], Value::from(first), "a store inside of the project");
}

#[test]
fn the_same_with_another_chunker() {
    let project = project();
    let check = |min_bytes: u32, average_bytes: u32, max_bytes: u32| {
        let chunker = Chunker { min_bytes, average_bytes, max_bytes };
        let folder = project.beside(&format!("store-{average_bytes}"));
        let (store, _) = Store::init_in(Arc::new(LocalStorage::new(&folder)), chunker).expect("made");
        assert_eq!(store.config().chunker, chunker);
        assert_eq!(id_in(&store, &project.root()).to_string(), id_of(&project.root()), "{chunker:?}");
    };
    check(64, 256, 1_024);
    check(2_048, 10_000, 65_536);
    // Read in pieces, as are all files that may not fit into memory.
    project.write("large.bin", noise(3 << 20).repeat(11));
    check(1 << 20, 1 << 20, 1 << 20);
    check(1 << 20, 4 << 20, 16 << 20);
}

#[test]
fn the_same_in_another_order_of_captures() {
    let project = project();
    let version = |n: u32| {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n"));
        let mut model = noise(700 << 10);
        model.insert(100_000 + n as usize, n as u8);
        project.write("model.bin", model);
    };
    let ids = |order: &[u32]| -> Vec<(u32, ObjectId)> {
        let parent = tempfile::tempdir().expect("a temporary folder");
        let (store, _) = Store::init(&parent.path().join("store")).expect("made");
        let mut ids: Vec<(u32, ObjectId)> = order
            .iter()
            .map(|n| {
                version(*n);
                (*n, id_in(&store, &project.root()))
            })
            .collect();
        ids.sort();
        ids.dedup();
        ids
    };
    let first = ids(&[1, 2, 3, 4]);
    assert_eq!(first.len(), 4);
    assert_eq!(ids(&[4, 2, 1, 4, 3, 2]), first, "the order, and versions that come back");
}

#[test]
fn times_owners_and_other_modes_do_not_count() {
    let project = project();
    let first = id_of(&project.root());
    let path = project.path("strategy.py");
    let times = FileTimes::new().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1));
    File::options().append(true).open(&path).expect("opens").set_times(times).expect("set");
    assert_eq!(id_of(&project.root()), first, "modification time");
    if chown(&path, Some(NOBODY), Some(NOBODY)).is_ok() {
        assert_eq!(id_of(&project.root()), first, "owner");
    }
    for mode in [0o600, 0o644, 0o666, 0o444, 0o655, 0o611, 0o4644] {
        fs::set_permissions(&path, Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(id_of(&project.root()), first, "{mode:o}");
    }
    for mode in [0o700, 0o744, 0o777, 0o510] {
        fs::set_permissions(project.path("run.sh"), Permissions::from_mode(mode)).expect("chmod");
        assert_eq!(id_of(&project.root()), first, "{mode:o}");
    }
    fs::set_permissions(project.path("momentum"), Permissions::from_mode(0o700)).expect("chmod");
    assert_eq!(id_of(&project.root()), first, "a folder's mode");
    fs::create_dir_all(project.path("empty/folder")).expect("folder");
    assert_eq!(id_of(&project.root()), first, "an empty folder");
    fs::rename(&path, project.beside("first")).expect("moved");
    fs::hard_link(project.beside("first"), &path).expect("linked");
    assert_eq!(id_of(&project.root()), first, "a second name elsewhere");
}

#[test]
fn every_other_difference_counts() {
    let project = project();
    let mut ids = vec![id_of(&project.root())];
    let mut changed = |what: &str, change: &dyn Fn()| {
        change();
        let id = id_of(&project.root());
        assert!(!ids.contains(&id), "{what}");
        ids.push(id);
    };
    changed("a byte", &|| project.write("momentum/signal.py", "WINDOW = 21\n"));
    changed("a byte of a large file", &|| {
        let mut model = noise(700 << 10);
        model[650_000] ^= 1;
        project.write("model.bin", model);
    });
    changed("a byte less", &|| project.write("momentum/signal.py", "WINDOW = 21"));
    changed("a name", &|| fs::rename(project.path("strategy.py"), project.path("Strategy.py")).expect("moved"));
    changed("a folder's name", &|| fs::rename(project.path("data"), project.path("date")).expect("moved"));
    changed("another folder", &|| fs::rename(project.path("run.sh"), project.path("date/run.sh")).expect("moved"));
    changed("the executable bit", &|| {
        fs::set_permissions(project.path("date/run.sh"), Permissions::from_mode(0o644)).expect("chmod");
    });
    changed("a link's target", &|| {
        fs::remove_file(project.path("latest.py")).expect("removed");
        symlink("Strategy.py", project.path("latest.py")).expect("linked");
    });
    changed("the same target in other words", &|| {
        fs::remove_file(project.path("latest.py")).expect("removed");
        symlink("./Strategy.py", project.path("latest.py")).expect("linked");
    });
    changed("what was a link", &|| {
        fs::remove_file(project.path("latest.py")).expect("removed");
        fs::copy(project.path("Strategy.py"), project.path("latest.py")).expect("copied");
    });
    changed("an empty file more", &|| project.write("momentum/__main__.py", ""));
    changed("a file less", &|| fs::remove_file(project.path("date/prices über.csv")).expect("removed"));
    changed("one letter é, decomposed", &|| project.write("e\u{301}.py", ""));
    changed("the same letter é, composed", &|| {
        fs::rename(project.path("e\u{301}.py"), project.path("\u{e9}.py")).expect("moved");
    });
}

/// The snapshot that `schema/store.md` works out.
#[test]
fn the_golden_snapshot() {
    let page = include_str!("../../schema/store.md");
    let (_, section) = page.split_once("## Golden snapshot").expect("the heading");
    let (_, block) = section.split_once("```json\n").expect("its example");
    let golden: Value = serde_json::from_str(block.split("```").next().expect("its end")).expect("JSON");
    let folder = tempfile::tempdir().expect("a temporary folder");
    let root = folder.path().join("project");
    let files = golden["files"].as_array().expect("a list");
    for file in files {
        let path = root.join(file["path"].as_str().expect("text"));
        fs::create_dir_all(path.parent().expect("below")).expect("folders");
        match file["kind"].as_str() {
            Some("symlink") => symlink(file["target"].as_str().expect("text"), &path).expect("linked"),
            kind => {
                fs::write(&path, file["content"].as_str().expect("text")).expect("written");
                let mode = if kind == Some("executable") { 0o755 } else { 0o644 };
                fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
            }
        }
    }
    let project = Project::new();
    let mut command = project.command(["capture", "--json", "--tree"]);
    let captured = Finished::from(command.arg(&root).output().expect("it starts")).expect(0).json();
    assert_eq!(captured["snapshot"], golden["snapshot"]);
    assert_eq!(captured["files"].as_u64(), Some(files.len() as u64));
    let store = Store::open(&root.join(".runsnap")).expect("opens");
    let snapshot = store.snapshot(golden["snapshot"].as_str().expect("text").parse().expect("an id")).expect("stored");
    assert_eq!(Value::from(snapshot.root.to_string()), golden["root"]);
    // Not from the page: whoever changes the encoding must see that it changes every id.
    assert_eq!(golden["snapshot"], "f93af2ab67de6d828351e579694548536bd3b29422bca45c8a15d3ecce2dbe84");
}
