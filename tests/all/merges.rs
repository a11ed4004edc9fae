//! The merges of packs that captures do by the way: what they make of small packs and of larger ones.

use std::collections::BTreeSet;
use std::fs;
use std::sync::Arc;

use runsnap::id::ObjectId;
use runsnap::pack::format::ObjectKind;
use runsnap::pack::{Object, Pack};
use runsnap::store::Store;

use crate::support::Project;

/// Eight packs of one tier make one of the next.
const FAN_IN: usize = 8;

fn open(project: &Project) -> Store {
    Store::open(&project.store()).expect("opens")
}

fn packs(project: &Project) -> Vec<Arc<Pack>> {
    open(project).catalog().packs()
}

/// The frames of packs as they are stored.
fn stored_frames(store: &Store, packs: &[Arc<Pack>]) -> BTreeSet<Vec<u8>> {
    let frames = packs.iter().flat_map(|pack| pack.frames.iter().map(move |frame| (pack, frame)));
    frames.map(|(pack, frame)| pack.read_stored(&**store.storage(), frame).expect("readable")).collect()
}

fn edit(project: &Project, number: usize) {
    project.write("momentum/signal.py", format!("WINDOW = {number}\n{}", "# a line that stays\n".repeat(40)));
}

fn name(number: usize) -> String {
    format!("run-{number:03}")
}

#[test]
fn small_packs_are_put_together_as_they_are_and_compressed_later() {
    let project = Project::with_code();
    // A capture takes one step: that of the higher tier comes with the next.
    let runs = FAN_IN * FAN_IN + 1;
    for number in 1..=runs {
        edit(&project, number);
        if number == FAN_IN {
            let before = packs(&project);
            let frames = stored_frames(&open(&project), &before);
            project.capture(&name(number));
            let after = packs(&project);
            assert_eq!((before.len(), after.len(), after[0].tier), (FAN_IN - 1, 1, 1));
            let now = stored_frames(&open(&project), &after);
            assert!(now.is_superset(&frames) && now.len() > frames.len(), "each is there as it was");
            // Those of the last capture came to them; all are differences to the first version, or to one after it.
            assert!(after[0].frames.iter().any(|frame| frame.chain_position > 1));
        } else {
            project.capture(&name(number));
        }
    }
    let mut after = packs(&project);
    after.sort_by_key(|pack| pack.tier);
    assert_eq!(after.iter().map(|pack| pack.tier).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(after[1].frames.len(), 2, "all versions in one frame, all trees in another");
    project.run(["verify", "--read-data"]).expect(0);
    for number in [1, FAN_IN - 1, FAN_IN, FAN_IN + 1, runs] {
        edit(&project, number);
        let expected = fs::read(project.path("momentum/signal.py")).expect("there");
        let file = project.run(["cat", &format!("{}:momentum/signal.py", name(number))]).expect(0);
        assert_eq!(file.stdout.as_bytes(), expected, "{number}");
    }
}

#[test]
fn larger_packs_are_compressed_anew() {
    let project = Project::with_code();
    let mut table = vec![0; 40 << 10];
    for number in 1..=FAN_IN {
        blake3::Hasher::new().update(&number.to_le_bytes()).finalize_xof().fill(&mut table);
        project.write(format!("data-{number}.bin"), &table);
        project.capture(&name(number));
    }
    let after = packs(&project);
    assert_eq!((after.len(), after[0].tier), (1, 1));
    assert_eq!(after[0].frames.len(), 2, "all contents in one frame, all trees in another");
}

#[test]
fn what_a_merge_makes_of_packs_does_not_depend_on_their_names() {
    let noise = |seed: usize, bytes: usize| {
        let mut noise = vec![0; bytes];
        blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
        noise
    };
    let merged = || {
        let project = Project::with_code();
        for number in 1..=FAN_IN {
            // Each version has most of the one before, and less of those before that.
            let blocks = (0..FAN_IN).map(|block| noise(block + 100 * usize::from(block < number), 700));
            project.write("table.bin", blocks.collect::<Vec<_>>().concat());
            project.write(format!("only-{number}.bin"), noise(1000 + number, 5 << 10));
            project.capture(&name(number));
        }
        let after = packs(&project);
        assert_eq!((after.len(), after[0].tier), (1, 1));
        // Snapshots are no versions of each other.
        let is_version = |object: &&Object| object.kind != ObjectKind::Snapshot;
        after[0].objects.iter().filter(is_version).map(|object| object.name).collect::<Vec<_>>()
    };
    let first = merged();
    for _ in 0..3 {
        assert_eq!(merged(), first);
    }
}

#[test]
fn damage_goes_with_its_frame_and_hits_no_other_run() {
    let project = Project::with_code();
    for number in 1..FAN_IN {
        edit(&project, number);
        project.write(format!("only-{number}.txt"), format!("{number} {}", ObjectId::of(&[number as u8])));
        project.capture(&name(number));
        fs::remove_file(project.path(format!("only-{number}.txt"))).expect("there");
    }
    // A bit in the frame that has the file of one run alone.
    let id = ObjectId::of(format!("4 {}", ObjectId::of(&[4])).as_bytes());
    let store = open(&project);
    let place = store.catalog().places(ObjectKind::Chunk, id).remove(0);
    let offset = place.frame().expect("there").offset as usize + 2;
    let path = project.store().join(&place.pack.path);
    let mut bytes = fs::read(&path).expect("readable");
    bytes[offset] ^= 1;
    fs::write(&path, bytes).expect("written");
    edit(&project, FAN_IN);
    project.capture(&name(FAN_IN));
    let after = packs(&project);
    assert_eq!((after.len(), after[0].tier), (1, 1));
    let verified = project.run(["verify", "--read-data", "--json"]).expect(3).json().to_string();
    for number in 1..=FAN_IN {
        assert_eq!(verified.contains(&name(number)), number == 4, "{number}: {verified}");
    }
    project.run(["cat", &format!("{}:only-4.txt", name(4))]).expect(1);
    let spared = project.run(["cat", &format!("{}:only-5.txt", name(5))]).expect(0);
    assert_eq!(spared.stdout, format!("5 {}", ObjectId::of(&[5])));
}
