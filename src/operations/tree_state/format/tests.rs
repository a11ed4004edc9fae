use proptest::prelude::*;

use super::super::{Condition, FileState, FolderState, Structure, Taken, Totals};
use super::*;
use crate::id::ObjectId;
use crate::run_record::{LeftOut, LeftOutReason};
use crate::snapshot::Entry;
use crate::tracked_path::TrackedPath;

fn path(text: &str) -> TrackedPath {
    TrackedPath::from_bytes(text).expect("valid")
}

fn state() -> TreeState {
    let file = |name: &str, stamp, taken| FileState { path: path(name), stamp, taken, warnings: Vec::new() };
    let id = ObjectId::of(b"content");
    let entry = |executable| Taken::Entry(Entry::File { id, bytes: 300, executable });
    let link = Taken::Entry(Entry::Symlink { target: b"b.py".to_vec() });
    let warned = FileState { warnings: vec!["c.py:1 looks bad".into()], ..file("c.py", Some(3), entry(true)) };
    TreeState {
        generation: 7,
        packs: vec![1, 2, u64::MAX],
        snapshot: ObjectId::of(b"snapshot"),
        files: Arc::new(vec![
            file(".env", Some(9), Taken::Secret),
            file("a/one.py", Some(1), entry(false)),
            file("a/two.py", None, entry(false)),
            file("b", Some(2), link),
            warned,
        ]),
        trees: vec![(None, id), (Some(path("a")), ObjectId::of(b"tree"))],
        structure: Some(Structure {
            folders: vec![
                FolderState { path: None, stamp: Some(4), names: 5 },
                FolderState { path: Some(path("a")), stamp: None, names: 6 },
            ],
            conditions: vec![
                Condition { path: "/home/me/.gitignore".into(), stamp: None },
                Condition { path: "/home/me/p/.git".into(), stamp: Some(0) },
            ],
            left_out: vec![LeftOut { path: path("pipe"), reason: LeftOutReason::SpecialFile, detail: None }],
            warnings: vec!["Ignore rules: odd".into()],
        }),
        recent: RecentVersions::kept(|| Some(vec![0]), Vec::new()),
        kept: None,
    }
}

struct InMemory(Vec<u8>);

impl ReadFile for InMemory {
    fn read_range(&self, offset: u64, bytes: usize) -> crate::error::Result<Vec<u8>> {
        Ok(self.0.iter().skip(offset as usize).take(bytes).copied().collect())
    }

    fn length(&self) -> crate::error::Result<u64> {
        Ok(self.0.len() as u64)
    }
}

fn outlined(bytes: &[u8], store: StoreId) -> DecodeResult<KeptState> {
    read(Box::new(InMemory(bytes.to_vec())), store)
}

fn decode(bytes: &[u8], store: StoreId) -> DecodeResult<TreeState> {
    outlined(bytes, store)?.open().ok_or_else(|| "its contents cannot be read".to_owned())
}

/// As it is kept, without a note on that.
fn kept_nowhere(state: DecodeResult<TreeState>) -> DecodeResult<TreeState> {
    state.map(|state| TreeState { kept: None, ..state })
}

/// A state and what was noted after it.
fn noted() -> (Vec<u8>, Vec<u8>, TreeState) {
    let store = StoreId([1; 16]);
    let whole = encode(&mut state(), store);
    let mut changed = decode(&whole, store).expect("decodes");
    changed.snapshot = ObjectId::of(b"another");
    changed.packs = vec![1, 5, u64::MAX];
    Arc::make_mut(&mut changed.files)[1].stamp = Some(77);
    Arc::make_mut(&mut changed.files)[1].taken =
        Taken::Entry(Entry::File { id: changed.snapshot, bytes: 3, executable: true });
    Arc::make_mut(&mut changed.files)[4].warnings.clear();
    changed.trees[1].1 = ObjectId::of(b"new");
    changed.structure.as_mut().expect("there").folders[1].stamp = Some(8);
    let kept = changed.kept.as_mut().expect("kept");
    kept.files.extend([1, 4]);
    kept.trees.insert(1);
    kept.folders.insert(1);
    let note = encode_note(&changed, changed.kept.as_ref().expect("kept")).expect("can be noted");
    (whole, note, TreeState { kept: None, ..changed })
}

#[test]
fn states_round_trip() {
    let store = StoreId([1; 16]);
    let bytes = encode(&mut state(), store);
    assert_eq!(kept_nowhere(decode(&bytes, store)), Ok(state()));
    let mut bare = TreeState { structure: None, ..state() };
    assert_eq!(kept_nowhere(decode(&encode(&mut bare, store), store)), Ok(bare));
    assert!(decode(&bytes, StoreId([2; 16])).is_err(), "of another store");
}

#[test]
fn a_flipped_bit_or_a_cut_makes_it_no_state() {
    let store = StoreId([1; 16]);
    let bytes = encode(&mut state(), store);
    // The recent versions, of which here there is the number alone, and their checksum.
    let recent = bytes.len() - checksum::BYTES - 1;
    for place in 0..bytes.len() {
        let mut flipped = bytes.clone();
        flipped[place] ^= 0x10;
        match decode(&flipped, store) {
            Ok(mut found) => {
                assert!(place >= recent, "byte {place}");
                found.recent.open();
                assert_eq!(found.recent, RecentVersions::default(), "byte {place}");
            }
            Err(_) => assert!(place < recent, "byte {place}"),
        }
        assert!(decode(&bytes[..place], store).is_err(), "cut at {place}");
    }
}

#[test]
fn what_is_noted_later_brings_the_state_up_to_date() {
    let store = StoreId([1; 16]);
    let (whole, note, changed) = noted();
    let bytes = [&whole[..], &note].concat();
    let found = decode(&bytes, store).expect("decodes");
    let kept = found.kept.clone().expect("kept");
    assert_eq!((kept.bytes, kept.base_bytes, &kept.packs), (bytes.len() as u64, whole.len() as u64, &found.packs));
    assert!(kept.files.is_empty() && kept.trees.is_empty() && kept.folders.is_empty());
    assert_eq!(kept_nowhere(Ok(found.clone())), Ok(changed));
    // Another one after it.
    let mut later = found;
    Arc::make_mut(&mut later.files)[3].stamp = None;
    later.kept.as_mut().expect("kept").files.insert(3);
    let second = encode_note(&later, later.kept.as_ref().expect("kept")).expect("can be noted");
    let bytes = [&whole[..], &note, &second].concat();
    assert_eq!(kept_nowhere(decode(&bytes, store)), Ok(TreeState { kept: None, ..later }));
}

#[test]
fn a_note_counts_only_after_what_it_was_noted_after() {
    let store = StoreId([1; 16]);
    let (whole, note, changed) = noted();
    // Somebody else has noted something after the same state.
    let mut other = decode(&whole, store).expect("decodes");
    Arc::make_mut(&mut other.files)[0].stamp = Some(1234);
    other.kept.as_mut().expect("kept").files.insert(0);
    let late = encode_note(&other, other.kept.as_ref().expect("kept")).expect("can be noted");
    let found = decode(&[&whole[..], &note, &late].concat(), store).expect("decodes");
    assert_eq!(found, changed, "and the next one writes the whole state");
    let found = decode(&[&whole[..], &late, &note].concat(), store).expect("decodes");
    assert_eq!((found.files[0].stamp, found.kept), (Some(1234), None));
    // The whole state is another one meanwhile.
    let mut newer = TreeState { generation: 8, ..state() };
    let found = decode(&[&encode(&mut newer, store)[..], &note].concat(), store).expect("decodes");
    assert_eq!(found, newer);
    for end in 1..note.len() {
        let found = decode(&[&whole[..], &note[..end]].concat(), store).expect("decodes");
        assert_eq!(found, state(), "cut at {end}");
        let mut flipped = note.clone();
        flipped[end] ^= 0x10;
        let found = decode(&[&whole[..], &flipped].concat(), store).expect("decodes");
        assert_eq!(found, state(), "byte {end}");
    }
}

/// A file of these parts, with checksums and ends that fit.
fn of_parts(parts: [&[u8]; 3], notes: &[u8], store: StoreId) -> Vec<u8> {
    let mut bytes = FILE.encode(store).to_vec();
    let mut end = HEAD_BYTES;
    for part in parts {
        end += part.len() + checksum::BYTES;
        bytes.extend((end as u32).to_le_bytes());
    }
    bytes.extend(parts[0]);
    let mut check = checksum::of(&bytes);
    bytes.extend(check);
    for part in &parts[1..] {
        check = next_checksum(check, part);
        bytes.extend(*part);
        bytes.extend(check);
    }
    if !notes.is_empty() {
        bytes.extend((notes.len() as u32).to_le_bytes());
        bytes.extend(next_checksum(check, notes));
        bytes.extend(notes);
    }
    bytes
}

#[test]
fn the_outline_alone_tells_what_the_files_come_to() {
    let store = StoreId([1; 16]);
    let bytes = encode(&mut state(), store);
    let kept = outlined(&bytes, store).expect("decodes");
    let totals = Totals { files: 4, bytes: 300 + 300 + 4 + 300, has_remarks: true };
    assert_eq!((kept.outline.totals, kept.outline.snapshot), (totals, state().snapshot));
    assert_eq!(kept.summary(), state().summary());
    let (_, note, changed) = noted();
    let kept = outlined(&[bytes, note].concat(), store).expect("decodes");
    assert_eq!((kept.outline.totals, kept.outline.snapshot), (changed.totals(), changed.snapshot));
    assert_eq!(kept.summary(), changed.summary());
}

#[test]
fn remarks_are_what_a_capture_has_to_say() {
    let plain = || {
        let mut plain = state();
        Arc::make_mut(&mut plain.files).retain(|file| file.taken != Taken::Secret && file.warnings.is_empty());
        let structure = plain.structure.as_mut().expect("there");
        (structure.left_out, structure.warnings) = Default::default();
        plain
    };
    assert!(!plain().totals().has_remarks);
    let mut states = [plain(), plain(), plain(), plain()];
    Arc::make_mut(&mut states[0].files)[0].taken = Taken::Secret;
    Arc::make_mut(&mut states[1].files)[0].warnings = vec!["odd".into()];
    states[2].structure = state().structure.map(|all| Structure { warnings: Vec::new(), ..all });
    states[3].structure = state().structure.map(|all| Structure { left_out: Vec::new(), ..all });
    assert!(states.iter().all(|state| state.totals().has_remarks));
}

/// The three parts of a state, without their checksums.
fn parts_of(bytes: &[u8], store: StoreId) -> [Vec<u8>; 3] {
    let [first, second, recent_end] = outlined(bytes, store).expect("decodes").unread.ends;
    let parts = [HEAD_BYTES..first - checksum::BYTES, first..second - checksum::BYTES, second..recent_end];
    parts.map(|part| bytes[part].to_vec())
}

#[test]
fn a_path_that_leads_elsewhere_makes_it_no_state() {
    let store = StoreId([1; 16]);
    let [outline, contents, recent] = parts_of(&encode(&mut state(), store), store);
    // Behind `a/one.py`: what is shared with it, the length of the rest, and that.
    let name = outline.windows(6).position(|name| name == b"two.py").expect("there");
    assert_eq!(outline[name - 2..name], [2, 6]);
    let with = |rest: &[u8]| {
        let told = [&outline[..name - 1], &[rest.len() as u8], rest, &outline[name + 6..]].concat();
        outlined(&of_parts([&told, &contents, &recent], &[], store), store)
    };
    assert!(with(b"two.py").expect("as it was").open().is_some());
    assert!(with(b"..").is_err(), "it would come before the other");
    assert!(with(b"zz/../../..").expect("its paths are only looked at").open().is_none());
}

proptest! {
    #[test]
    fn anything_else_is_refused(
        body in proptest::collection::vec(any::<u8>(), 0..300),
        note in proptest::collection::vec(any::<u8>(), 1..100),
    ) {
        let store = StoreId([1; 16]);
        let bytes = encode(&mut state(), store);
        let [outline, contents, recent] = parts_of(&bytes, store);
        let good: [&[u8]; 3] = [&outline, &contents, &recent];
        prop_assert_eq!(of_parts(good, &[], store), bytes);
        for bad in 0..3 {
            let mut parts = good;
            parts[bad] = &body;
            let _ = decode(&of_parts(parts, &[], store), store).map(|mut state| state.recent.open());
        }
        let _ = decode(&of_parts(good, &note, store), store);
        let of_both = [&[note.len() as u8][..], &note, &body].concat();
        let _ = decode(&of_parts(good, &of_both, store), store);
    }
}
