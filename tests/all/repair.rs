//! Damaged stores repaired: what can be saved is there again, and what is lost is named, exactly.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::thread;
use std::time::Duration;

use runsnap::id::ObjectId;
use runsnap::pack::Frame;
use runsnap::pack::format::ObjectKind;
use serde_json::{Value, json};

use crate::damage::{Action, Damaged, Field, Found, cuts_and_removal, flips_around_frames, flips_in_frames, records};
use crate::support::{Project, Tree, tree};

/// The files of a folder by their hashes, without what only helps to find things.
fn listing(folder: &Path) -> BTreeMap<PathBuf, ObjectId> {
    let files = tree(folder).into_iter().map(|(path, (_, content))| (path, ObjectId::of(&content)));
    files.filter(|(path, _)| path != Path::new("index.sqlite") && !path.starts_with("writers")).collect()
}

/// What repair tells, and the exit status that must go with it.
#[track_caller]
fn repair(damaged: &Damaged<'_>, arguments: &[&str]) -> Value {
    let finished = damaged.run(&[&["repair", "--json"], arguments].concat());
    assert!(matches!(finished.status, Some(0 | 3)), "{}: {}", damaged.what, finished.stderr);
    let told = finished.json();
    let is_whole = told["problems"] == json!([]) && told["lost_runs"] == json!([]);
    assert_eq!(finished.status == Some(0), is_whole, "{}: {told:#}", damaged.what);
    told
}

/// Nothing is left to do, and nothing is done.
#[track_caller]
fn assert_settled(damaged: &Damaged<'_>, arguments: &[&str]) {
    let before = listing(&damaged.store);
    let told = repair(damaged, arguments);
    for count in ["mended_records", "rewritten_objects", "found_objects"] {
        assert_eq!(told[count], json!(0), "{}: {count}: {told:#}", damaged.what);
    }
    assert_eq!(told["set_aside"], json!([]), "{}", damaged.what);
    assert_eq!((&told["written_files"], &told["rebuilt_index"]), (&json!([]), &json!(false)), "{}", damaged.what);
    assert_eq!(listing(&damaged.store), before, "{}", damaged.what);
}

/// Writes the files of a run as they were captured.
fn write_tree(folder: &Path, files: &Tree) {
    for (path, (kind, content)) in files {
        let path = folder.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("folders");
        if *kind == "link" {
            symlink(std::str::from_utf8(content).expect("text"), &path).expect("link");
        } else {
            fs::write(&path, content).expect("written");
            let mode = if *kind == "executable" { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
        }
    }
}

/// A folder with copies of all runs' code.
fn copies(field: &Field) -> String {
    let folder = field.project.beside("copies");
    for (name, files) in &field.originals {
        write_tree(&folder.join(name), files);
    }
    folder.to_str().expect("text").to_owned()
}

/// The pack that a run's capture wrote.
fn pack_of(field: &Field, run: &str) -> String {
    let shown = field.project.run(["show", run, "--json"]).expect(0).json();
    format!("packs/{}.pack", shown["packs"][0].as_str().expect("a pack"))
}

/// Whether a content is in the working tree of one of the projects.
fn is_in_working_tree(field: &Field, content: &[u8]) -> bool {
    ["alpha", "beta", "big"]
        .iter()
        .any(|name| tree(&field.project.path(name)).values().any(|(_, there)| there == content))
}

/// Repairs without and then with copies of everything, and looks at what comes back each time.
fn repair_and_look(field: &Field, damaged: &Damaged<'_>, copies: &str) {
    let what = &damaged.what;
    let before = damaged.look();
    repair(damaged, &[]);
    let after = damaged.look();
    assert_eq!(after.named(), after.hit(), "{what}: named and hit: {:?}", after.problems);
    for (run, lost) in &after.hit {
        for path in lost {
            assert!(
                before.hit.get(run).is_some_and(|lost| lost.contains(path)),
                "{what}: {run}: {path} was whole before"
            );
            let (kind, content) = &field.originals[run][Path::new(path)];
            let is_there = *kind != "link" && !content.is_empty() && is_in_working_tree(field, content);
            // Where trees are lost, nobody knows which files a run had.
            let is_known = after.problems.iter().any(|problem| problem.paths.contains(path));
            assert!(!(is_there && is_known), "{what}: {run}: {path} is in the working tree");
        }
    }
    assert_settled(damaged, &[]);
    let told = repair(damaged, &["--from", copies]);
    assert_eq!(told["problems"], json!([]), "{what}: {told:#}");
    let Found { problems, hit } = damaged.look();
    assert!(problems.is_empty() && hit.is_empty(), "{what}: {problems:?} {hit:?}");
    assert_settled(damaged, &["--from", copies]);
}

#[test]
fn packs() {
    let field = Field::new();
    let copies = copies(&field);
    for (n, file) in field.files("packs").iter().enumerate() {
        let pack = field.pack(file);
        let mut actions = flips_in_frames(&pack);
        actions.extend([cuts_and_removal(pack.bytes)[n % 3], Action::Remove]);
        actions.push(flips_around_frames(&pack)[n % 10]);
        // Another version in the header is a newer runsnap's until something shows otherwise.
        for action in actions.into_iter().filter(|action| *action != Action::Flip(9)) {
            repair_and_look(&field, &field.damaged(file, action), &copies);
        }
    }
}

#[test]
fn a_pack_of_a_newer_format_is_left_alone() {
    let field = Field::new();
    for file in field.files("packs") {
        let damaged = field.damaged(&file, Action::FlipBit(8, 1));
        let told = repair(&damaged, &[]);
        assert_eq!(told["set_aside"], json!([]), "{told:#}");
        assert!(told["problems"].to_string().contains("format version 3"), "{told:#}");
        assert!(damaged.store.join(file).exists());
    }
}

#[test]
fn packs_that_an_index_knows() {
    let field = Field::with_index();
    let copies = copies(&field);
    for (n, file) in field.files("packs").iter().enumerate() {
        let pack = field.pack(file);
        let action = [flips_in_frames(&pack)[0], flips_around_frames(&pack)[4], Action::Remove][n % 3];
        repair_and_look(&field, &field.damaged(file, action), &copies);
    }
}

#[test]
fn what_the_working_tree_has_comes_back() {
    let field = Field::new();
    let mut came_back = 0;
    for file in field.files("packs") {
        let damaged = field.damaged(&file, Action::Remove);
        let before = damaged.look();
        repair(&damaged, &[]);
        let after = damaged.look();
        // The last versions are in the working trees, each whole.
        for run in ["alpha-3", "alpha-again", "beta-2", "big-2"] {
            assert!(!after.hit.contains_key(run), "{}: {run}: {:?}", damaged.what, after.hit);
            came_back += usize::from(before.hit.contains_key(run));
        }
    }
    assert!(came_back > 3, "{came_back}");
}

#[test]
fn a_damaged_pack_is_set_aside_and_what_depends_on_it_stays_readable() {
    let field = Field::new();
    for file in field.files("packs") {
        let pack = field.pack(&file);
        let Some(last) = pack.frames.last().filter(|_| pack.frames.len() > 1) else { continue };
        // The last frame alone: all others in it are whole, and others are differences to them.
        let damaged = field.damaged(&file, Action::Flip(last.offset + last.stored_bytes / 2));
        let before = damaged.look();
        let told = repair(&damaged, &[]);
        let name = file.strip_prefix("packs/").expect("a pack");
        assert_eq!(told["set_aside"], json!([damaged.store.join("damaged").join(name)]), "{}", damaged.what);
        assert!(!damaged.store.join(&file).exists());
        let whole = pack.objects.len() - last.objects.len();
        assert!(told["rewritten_objects"].as_u64().expect("a number") >= whole as u64, "{}: {told:#}", damaged.what);
        let after = damaged.look();
        for (run, lost) in &after.hit {
            assert!(before.hit.get(run).is_some_and(|before| lost.is_subset(before)), "{}: {run}", damaged.what);
        }
        // The next capture of the same code stores what is lost anew.
        damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
        damaged.run(&["show", "later"]).expect(0);
    }
}

#[test]
fn a_lost_snapshot_is_made_again_from_its_tree() {
    let field = Field::new();
    let mut tried = 0;
    for file in field.files("packs") {
        let pack = field.pack(&file);
        let is_snapshot =
            |frame: &&Frame| pack.objects[frame.objects.clone()].iter().all(|o| o.kind == ObjectKind::Snapshot);
        for frame in pack.frames.iter().filter(is_snapshot) {
            let damaged = field.damaged(&file, Action::Flip(frame.offset + frame.stored_bytes / 2));
            assert!(!damaged.look().hit.is_empty(), "{}", damaged.what);
            assert_eq!(repair(&damaged, &[])["problems"], json!([]), "{}", damaged.what);
            assert!(damaged.look().hit.is_empty(), "{}", damaged.what);
            tried += 1;
        }
    }
    assert!(tried > 1, "{tried}");
}

#[test]
fn lost_trees_are_made_again_from_the_list_in_the_run_folder() {
    let field = Field::new();
    // The working tree has moved on, so it is no copy of the run any more.
    field.project.write("big/main.py", "VERSION = 3\n");
    let file = pack_of(&field, "big-2");
    let pack = field.pack(&file);
    let has_trees = |frame: &&Frame| {
        pack.objects[frame.objects.clone()]
            .iter()
            .all(|o| o.kind != ObjectKind::Chunk && o.kind != ObjectKind::ChunkList)
    };
    let frames: Vec<&Frame> = pack.frames.iter().filter(has_trees).collect();
    let damaged = field.damaged(&file, Action::Flip(frames[0].offset + 3));
    frames[1..].iter().for_each(|frame| Action::Flip(frame.offset + 3).apply(&damaged.store.join(&file)));
    assert!(damaged.look().hit.contains_key("big-2"));
    assert_eq!(repair(&damaged, &[])["problems"], json!([]));
    assert!(damaged.look().hit.is_empty());
}

#[test]
fn single_chunks_of_a_large_file_come_back_from_another_version() {
    let field = Field::new();
    let file = pack_of(&field, "big-1");
    let mut prices = fs::read(field.project.path("big/prices.csv")).expect("there");
    let end = prices.len() - 6;
    prices[end..].copy_from_slice(b"later\n");
    field.project.write("big/prices.csv", prices);
    let pack = field.pack(&file);
    let has_chunks =
        |frame: &&Frame| pack.objects[frame.objects.clone()].iter().filter(|o| o.kind == ObjectKind::Chunk).count() > 2;
    let frame = pack.frames.iter().find(has_chunks).expect("a frame of chunks");
    let damaged = field.damaged(&file, Action::Flip(frame.offset + 3));
    let found = repair(&damaged, &[])["found_objects"].as_u64().expect("a number");
    // No file in the working tree is what was lost, yet most chunks of one are.
    assert!(found >= 2, "{found}");
    assert!(damaged.look().hit.contains_key("big-1"));
}

#[test]
fn several_damaged_packs_at_once() {
    let field = Field::with_index();
    let copies = copies(&field);
    let files = field.files("packs");
    for offset in 0..3 {
        let damaged = field.damaged(&files[offset], Action::Remove);
        for (n, file) in files.iter().enumerate().filter(|(n, _)| n % 3 != offset) {
            let place = field.pack(file).frames[0].offset + 2 + n as u64 % 5;
            Action::Flip(place).apply(&damaged.store.join(file));
        }
        repair_and_look(&field, &damaged, &copies);
    }
    // All of them gone.
    let damaged = field.damaged(&files[0], Action::Remove);
    files[1..].iter().for_each(|file| Action::Remove.apply(&damaged.store.join(file)));
    repair_and_look(&field, &damaged, &copies);
}

#[test]
fn one_flipped_bit_in_a_journal_is_mended() {
    for field in [Field::new(), Field::with_index()] {
        for file in field.files("runs") {
            let records = records(&field.project.store().join(&file));
            let places =
                records.iter().enumerate().map(|(n, (from, to))| [from + 1, from + 4, (from + to) / 2, to - 1][n]);
            for at in places.chain([3, 9, 24]) {
                let damaged = field.damaged(&file, Action::Flip(at));
                let told = repair(&damaged, &[]);
                assert_eq!(told["mended_records"], json!(u64::from(at >= 32)), "{}", damaged.what);
                assert_eq!(told["set_aside"].as_array().map(Vec::len), Some(1), "{}", damaged.what);
                let Found { problems, hit } = damaged.look();
                assert!(problems.is_empty() && hit.is_empty(), "{}: {problems:?} {hit:?}", damaged.what);
                assert_settled(&damaged, &[]);
                damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
            }
        }
    }
}

#[test]
fn what_no_journal_has_is_named_and_stays_named() {
    let field = Field::new();
    let noted = fs::read_to_string(field.project.store().join("writers/0000")).expect("a note");
    let file = format!("runs/{}", noted.split(' ').next().expect("a name"));
    let places = records(&field.project.store().join(&file));
    // Two bits of one record, and a bit of another.
    let damaged = field.damaged(&file, Action::Flip(places[1].0 + 30));
    Action::Flip(places[1].0 + 40).apply(&damaged.store.join(&file));
    Action::Flip(places[3].0 + 30).apply(&damaged.store.join(&file));
    let told = repair(&damaged, &[]);
    assert_eq!((&told["mended_records"], &told["set_aside"]), (&json!(1), &json!([])), "{told:#}");
    assert_eq!(damaged.look().hit.len(), 1);
    assert!(damaged.store.join(&file).exists());
    // What was mended is safe elsewhere now, and is not recorded a second time.
    let again = repair(&damaged, &[]);
    assert_eq!((&again["mended_records"], &again["problems"]), (&json!(0), &told["problems"]));
    for action in cuts_and_removal(field.bytes(&file)) {
        let damaged = field.damaged(&file, action);
        let told = repair(&damaged, &[]);
        assert!(told["problems"].to_string().contains(&file), "{}: {told:#}", damaged.what);
    }
    // Where only the index knew the runs, they are named once more before it is made anew.
    let field = Field::with_index();
    let other = field.files("runs").into_iter().find(|other| !noted_in(&field, other)).expect("two journals");
    let damaged = field.damaged(&other, Action::Remove);
    fs::write(damaged.store.join(&field.files("packs")[0]), "nonsense").expect("written");
    assert_eq!(repair(&damaged, &[])["lost_runs"].as_array().map(Vec::len), Some(4));
}

fn noted_in(field: &Field, journal: &str) -> bool {
    let note = fs::read_to_string(field.project.store().join("writers/0000")).expect("a note");
    journal.ends_with(note.split(' ').next().expect("a name"))
}

#[test]
fn the_index_is_made_again() {
    let field = Field::with_index();
    let bytes = field.bytes("index.sqlite");
    for action in [Action::Remove, Action::Cut(0), Action::Cut(bytes / 2), Action::Flip(3), Action::Flip(19)] {
        let damaged = field.damaged("index.sqlite", action);
        assert_eq!(repair(&damaged, &[])["rebuilt_index"], json!(true), "{}", damaged.what);
        assert!(damaged.store.join("index.sqlite").exists());
        assert!(damaged.look().problems.is_empty(), "{}", damaged.what);
        assert_settled(&damaged, &[]);
    }
}

/// A capture that is killed when it begins the index leaves it empty.
#[test]
fn an_index_that_was_only_begun_is_no_damage() {
    let field = Field::with_index();
    let damaged = field.damaged("index.sqlite", Action::Cut(0));
    assert!(damaged.look().problems.is_empty());
    assert!(damaged.run(&["verify"]).expect(0).stdout.contains("index.sqlite: empty"));
    damaged.run(&["gc"]).expect(0);
    assert!(!damaged.run(&["verify"]).expect(0).stdout.contains("index.sqlite"));
}

#[test]
fn config_is_written_again() {
    let field = Field::with_index();
    let damaged = field.damaged("config.json", Action::Remove);
    assert_eq!(repair(&damaged, &[])["rewrote_config"], json!(true));
    damaged.run(&["capture", "--tree", "alpha", "--run", "later", "--quiet"]).expect(0);
    assert!(damaged.look().problems.is_empty());
}

#[test]
fn files_of_run_folders_are_made_again_unless_somebody_edited_them() {
    let field = Field::with_index();
    let files = [
        ("alpha-again", "manifest.json"),
        ("alpha-again", "backtest_metadata.json"),
        ("big-2", "manifest.json"),
        ("big-2", "backtest_metadata.json"),
    ];
    let project = &field.project;
    for (run, name) in files {
        let path = project.path(format!("results/{run}/metadata/{name}"));
        let whole = fs::read(&path).expect("there");
        for action in cuts_and_removal(whole.len() as u64 - 1) {
            action.apply(&path);
            let told = project.run(["repair", "--dry-run", "--json"]).expect(3).json();
            assert_eq!(told["written_files"], json!([path]), "{action:?}");
            let told = project.run(["repair", "--json"]).expect(0).json();
            assert_eq!(told["written_files"], json!([path]), "{action:?}");
            assert_eq!(fs::read(&path).expect("there"), whole);
        }
        let text = String::from_utf8(whole.clone()).expect("text");
        let edited = text.replacen('{', "{\n  \"mine\": true,", 1);
        fs::write(&path, &edited).expect("written");
        let told = project.run(["repair", "--json"]).expect(3).json();
        assert_eq!(told["written_files"], json!([]));
        assert!(told["notes"][0].as_str().expect("text").contains("edited"), "{told:#}");
        assert_eq!(fs::read_to_string(&path).expect("there"), edited);
        fs::write(&path, whole).expect("written");
    }
    // The whole folder metadata/ is made again, and a folder that is gone is not missed.
    fs::remove_dir_all(project.path("results/big-2/metadata")).expect("removed");
    fs::remove_dir_all(project.path("results/alpha-again")).expect("removed");
    assert_eq!(project.run(["repair", "--json"]).expect(0).json()["written_files"].as_array().map(Vec::len), Some(2));
    project.run(["verify", "--read-data"]).expect(0);
    assert!(!project.path("results/alpha-again").exists());
}

#[test]
fn a_dry_run_changes_nothing() {
    let field = Field::with_index();
    let first = pack_of(&field, "alpha-1");
    let damaged = field.damaged(&first, Action::Flip(field.pack(&first).frames[0].offset + 3));
    Action::Remove.apply(&damaged.store.join(pack_of(&field, "beta-2")));
    let journal = &field.files("runs")[0];
    let place = records(&field.project.store().join(journal))[1].0 + 30;
    Action::Flip(place).apply(&damaged.store.join(journal));
    let before = tree(&damaged.store);
    let told = repair(&damaged, &["--dry-run"]);
    assert_eq!(tree(&damaged.store), before);
    assert_eq!((&told["dry_run"], &told["mended_records"]), (&json!(true), &json!(1)));
    assert_eq!(told["set_aside"], json!([damaged.store.join(journal), damaged.store.join(&first)]));
    let text = damaged.run(&["repair"]).stdout;
    assert!(text.contains("1 record mended") && text.contains("set aside"), "{text}");
    assert!(damaged.run(&["repair"]).stdout.starts_with("Nothing to repair\n"));
}

#[test]
fn a_whole_store_is_left_alone() {
    let project = Project::with_code();
    project.capture("first");
    project.run(["reindex"]).expect(0);
    File::create(project.store().join("writers/maintenance")).expect("as a repair makes it");
    let before = tree(&project.store());
    let told = project.run(["repair"]).expect(0);
    assert_eq!((told.stdout.as_str(), told.stderr.as_str()), ("Nothing to repair\nNothing is wrong\n", ""));
    assert_eq!(tree(&project.store()), before);
    project.run(["repair", "--from", "nowhere"]).expect_line(2, &["nowhere"]);
}

#[test]
fn a_repair_may_be_killed_and_run_again() {
    let field = Field::new();
    let (first, second) = (pack_of(&field, "alpha-1"), pack_of(&field, "big-1"));
    let journal = &field.files("runs")[0];
    let place = records(&field.project.store().join(journal))[1].0 + 30;
    let last_frame = |file: &str| field.pack(file).frames.last().map(|frame| frame.offset + 3).expect("frames");
    let (mut random, mut limit, mut killed) = (0x5eed_u64, 80_000.0f64, 0);
    for _ in 0..8 {
        let damaged = field.damaged(&first, Action::Flip(last_frame(&first)));
        Action::Flip(last_frame(&second)).apply(&damaged.store.join(&second));
        Action::Flip(place).apply(&damaged.store.join(journal));
        let mut hit = damaged.look().hit;
        for _ in 0..3 {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut command = field.project.command(["repair", "--json", "--store"]);
            command.arg(&damaged.store).stdout(Stdio::null()).stderr(Stdio::null());
            let mut child = command.spawn().expect("it starts");
            thread::sleep(Duration::from_micros((limit * ((random >> 33) % 1_000) as f64 / 1_000.0) as u64));
            child.kill().expect("its own child");
            let is_killed = child.wait().expect("it ended").signal() == Some(9);
            killed += usize::from(is_killed);
            limit *= if is_killed { 1.15 } else { 0.8 };
            let now = damaged.look().hit;
            for (run, lost) in &now {
                assert!(
                    hit.get(run).is_some_and(|before| lost.is_subset(before)),
                    "{run}: {lost:?} were readable before"
                );
            }
            hit = now;
        }
        repair(&damaged, &[]);
        let after = damaged.look();
        assert_eq!(after.named(), after.hit(), "{:?}", after.problems);
        assert_settled(&damaged, &[]);
    }
    assert!(killed > 4, "{killed}");
}
