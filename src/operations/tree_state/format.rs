//! The bytes of a state: `schema/store.md`, "states/".

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::kept::Kept;
use super::{Condition, FileState, FolderState, Structure, Taken, TreeState};
use crate::checksum;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_header::{self, FileKind, Header};
use crate::id::{ObjectId, StoreId};
use crate::snapshot::{Entry, is_valid_target};
use crate::storage::ReadFile;
use crate::store::RecentVersions;
use crate::tracked_path::{SortedPaths, TrackedPath};

/// What every state begins with.
const FILE: FileKind = FileKind { word: "tree state", magic: *b"RUNSNAPT", version: 4 };
/// A longer file is no state.
const MAX_BYTES: u64 = 1 << 30;
/// Where two lengths stand: of the whole state, what was noted later aside, and of its first part, the recent versions
/// aside.
const LENGTHS_AT: usize = file_header::BYTES;
/// The header and the lengths.
const HEAD_BYTES: usize = LENGTHS_AT + 8;
/// What stands before what was noted later: its length and its checksum.
const NOTE_HEAD_BYTES: usize = 4 + checksum::BYTES;

/// In the byte before a file: what it is.
const FILE_KIND: u8 = 1;
const EXECUTABLE: u8 = 2;
const SYMLINK: u8 = 3;
const SECRET: u8 = 4;
/// Added where a stamp follows.
const STAMPED: u8 = 0x10;
/// Added where warnings follow.
const WARNED: u8 = 0x20;

/// Encodes the whole state.
pub(super) fn encode(state: &mut TreeState, store: StoreId) -> Vec<u8> {
    let mut out = FILE.encode(store).to_vec();
    out.extend([0; HEAD_BYTES - LENGTHS_AT]);
    out.extend(state.generation.to_le_bytes());
    out.extend(state.snapshot.0);
    push_packs(&mut out, &state.packs);
    push_paths(&mut out, state.files.iter().map(|file| Some(&file.path)));
    for file in &*state.files {
        out.push(flags_of(file));
        push_rest_of_file(&mut out, file);
    }
    push_paths(&mut out, state.trees.iter().map(|(path, _)| path.as_ref()));
    for (_, tree) in &state.trees {
        out.extend(tree.0);
    }
    out.push(u8::from(state.structure.is_some()));
    if let Some(structure) = &state.structure {
        push_paths(&mut out, structure.folders.iter().map(|folder| folder.path.as_ref()));
        for folder in &structure.folders {
            out.push(if folder.stamp.is_some() { STAMPED } else { 0 });
            out.extend(folder.stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
            out.extend(folder.names.to_le_bytes());
        }
        push_varint(&mut out, structure.conditions.len() as u64);
        let mut last: &[u8] = &[];
        for condition in &structure.conditions {
            out.push(if condition.stamp.is_some() { STAMPED } else { 0 });
            last = push_path(&mut out, last, condition.path.as_os_str().as_encoded_bytes());
            out.extend(condition.stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
        }
        // Lists and strings: nothing that could fail to be written as JSON.
        push_bytes(&mut out, &serde_json::to_vec(&structure.left_out).unwrap_or_default());
        push_texts(&mut out, &structure.warnings);
    }
    let mut recent = Vec::new();
    state.recent.encode(&mut recent);
    let first = out.len() + checksum::BYTES;
    let whole = first + recent.len() + checksum::BYTES;
    let lengths = [whole, first].map(|length| u32::try_from(length).unwrap_or(u32::MAX));
    if let Some(field) = out.get_mut(LENGTHS_AT..HEAD_BYTES) {
        field.copy_from_slice(&lengths.map(u32::to_le_bytes).concat());
    }
    let check = checksum::of(&out);
    out.extend(check);
    out.extend_from_slice(&recent);
    out.extend(next_checksum(check, &recent));
    out
}

/// Encodes what has changed since a state was kept, to stand behind it; `None` where only the whole can tell.
pub(super) fn encode_note(state: &TreeState, kept: &Kept) -> Option<Vec<u8>> {
    let mut out = vec![0; NOTE_HEAD_BYTES];
    out.extend(state.snapshot.0);
    let only_in = |some: &[u64], others: &[u64]| -> Vec<u64> {
        some.iter().copied().filter(|pack| others.binary_search(pack).is_err()).collect()
    };
    push_packs(&mut out, &only_in(&kept.packs, &state.packs));
    push_packs(&mut out, &only_in(&state.packs, &kept.packs));
    push_varint(&mut out, kept.files.len() as u64);
    for place in &kept.files {
        let file = state.files.get(*place)?;
        push_varint(&mut out, *place as u64);
        out.push(flags_of(file));
        push_rest_of_file(&mut out, file);
    }
    push_varint(&mut out, kept.trees.len() as u64);
    for place in &kept.trees {
        push_varint(&mut out, *place as u64);
        out.extend(state.trees.get(*place)?.1.0);
    }
    push_varint(&mut out, kept.folders.len() as u64);
    for place in &kept.folders {
        let stamp = state.structure.as_ref()?.folders.get(*place)?.stamp;
        push_varint(&mut out, *place as u64);
        out.push(if stamp.is_some() { STAMPED } else { 0 });
        out.extend(stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
    }
    out.extend_from_slice(state.recent.added()?);
    let body = out.get(NOTE_HEAD_BYTES..)?;
    let length = u32::try_from(body.len()).ok()?;
    let check = next_checksum(kept.check, body);
    let head = [&length.to_le_bytes()[..], &check].concat();
    out.get_mut(..NOTE_HEAD_BYTES)?.copy_from_slice(&head);
    Some(out)
}

/// The checksum that a note ends the file with.
pub(super) fn last_checksum(bytes: &[u8], is_note: bool) -> [u8; checksum::BYTES] {
    let check = match is_note {
        true => bytes.get(4..NOTE_HEAD_BYTES),
        false => bytes.last_chunk::<{ checksum::BYTES }>().map(|check| &check[..]),
    };
    check.and_then(|check| check.try_into().ok()).unwrap_or_default()
}

/// Reads a state. The recent versions are left in the file until somebody wants them: mostly nobody does.
pub(super) fn decode(file: Box<dyn ReadFile>, store: StoreId) -> DecodeResult<TreeState> {
    let read = |from: usize, to: usize| {
        let length = to.checked_sub(from).ok_or("lengths that do not fit")?;
        let bytes = file.read_range(from as u64, length).map_err(|e| e.to_string())?;
        if bytes.len() == length { Ok(bytes) } else { Err("cut short".to_owned()) }
    };
    let end = file.length().ok().filter(|length| *length <= MAX_BYTES).ok_or("of no length that a state has")? as usize;
    let head = read(0, HEAD_BYTES)?;
    match FILE.decode(&head)? {
        Header::Known(found) if found == store => {}
        _ => return Err("of another store or version".into()),
    }
    let mut lengths = Decoder::new(head.get(LENGTHS_AT..).unwrap_or_default());
    let (whole, first) = (lengths.u32()? as usize, lengths.u32()? as usize);
    // Before the checksums.
    let recent_end = whole.checked_sub(checksum::BYTES).filter(|recent_end| first <= *recent_end && whole <= end);
    let (Some(recent_end), Some(said_bytes)) = (recent_end, first.checked_sub(checksum::BYTES)) else {
        return Err("lengths that do not fit".into());
    };
    let bytes = read(0, first)?;
    let (said, check) = bytes.split_at_checked(said_bytes).ok_or("cut short")?;
    let first_check = checksum::of(said);
    if check != first_check {
        return Err("its checksum does not match".into());
    }
    let later = read(recent_end, end)?;
    let (recent_check, notes) = later.split_first_chunk::<{ checksum::BYTES }>().ok_or("cut short")?;
    let mut kept = Kept::new(end as u64, whole as u64, *recent_check);
    let (known_notes, is_all_known) = known_notes(notes, &mut kept);
    let (mut state, added) = decode_whole(said, &known_notes)?;
    if is_all_known {
        kept.packs.clone_from(&state.packs);
        state.kept = Some(kept);
    }
    let recent_check = *recent_check;
    let recent = move || {
        let bytes = file.read_range(first as u64, recent_end.checked_sub(first)?).ok()?;
        (next_checksum(first_check, &bytes) == recent_check).then_some(bytes)
    };
    state.recent = RecentVersions::kept(recent, added);
    Ok(state)
}

/// The notes that were noted after this state, and whether that is all of them.
fn known_notes<'n>(mut notes: &'n [u8], kept: &mut Kept) -> (Vec<&'n [u8]>, bool) {
    // Of two captures that note something after the same state, the second has not seen what the first notes.
    let mut is_all_known = true;
    let mut known = Vec::new();
    while !notes.is_empty() {
        let mut decoder = Decoder::new(notes);
        let found = decoder.u32().and_then(|length| Ok((decoder.array()?, decoder.take(length as usize)?)));
        let Ok((check, body)) = found else {
            is_all_known = false;
            break;
        };
        notes = decoder.rest();
        if check == next_checksum(kept.check, body) {
            kept.check = check;
            known.push(body);
        } else {
            is_all_known = false;
        }
    }
    (known, is_all_known)
}

/// Decodes a state but for the recent versions, and then what was noted after it; what was added to those is left.
fn decode_whole(said: &[u8], notes: &[&[u8]]) -> DecodeResult<(TreeState, Vec<u8>)> {
    let mut decoder = Decoder::new(said.get(HEAD_BYTES..).unwrap_or_default());
    let (generation, snapshot) = (decoder.u64()?, ObjectId(decoder.array()?));
    let packs = read_packs(&mut decoder)?;
    let paths = read_paths(&mut decoder)?;
    let mut files = Vec::with_capacity(paths.len());
    for path in paths {
        let flags = decoder.u8()?;
        files.push(read_rest_of_file(&mut decoder, flags, path.ok_or("a file without a path")?)?);
    }
    let paths = read_paths(&mut decoder)?;
    let trees = paths.map(|path| Ok((path, ObjectId(decoder.array()?)))).collect::<DecodeResult<_>>()?;
    let structure = match decoder.u8()? {
        0 => None,
        _ => Some(decode_structure(&mut decoder)?),
    };
    decoder.finish()?;
    if !packs.is_sorted() {
        return Err("not in order".into());
    }
    let mut state = TreeState {
        generation,
        packs,
        snapshot,
        files: Arc::new(files),
        trees,
        structure,
        recent: RecentVersions::default(),
        kept: None,
    };
    let mut added = Vec::new();
    for note in notes {
        added.extend_from_slice(apply_note(&mut state, note)?);
    }
    Ok((state, added))
}

/// Brings a state up to what was noted after it; what was added to the recent versions is left.
fn apply_note<'n>(state: &mut TreeState, note: &'n [u8]) -> DecodeResult<&'n [u8]> {
    let mut decoder = Decoder::new(note);
    state.snapshot = ObjectId(decoder.array()?);
    let gone = read_packs(&mut decoder)?;
    state.packs.retain(|pack| !gone.contains(pack));
    state.packs.extend(read_packs(&mut decoder)?);
    state.packs.sort_unstable();
    let place = |decoder: &mut Decoder<'_>| -> DecodeResult<usize> {
        usize::try_from(decoder.varint()?).map_err(|_| "a place over 64 bits".to_owned())
    };
    for _ in 0..decoder.count(2)? {
        let place = place(&mut decoder)?;
        let file = Arc::make_mut(&mut state.files).get_mut(place).ok_or("a file that the state has not")?;
        let flags = decoder.u8()?;
        *file = read_rest_of_file(&mut decoder, flags, file.path.clone())?;
    }
    for _ in 0..decoder.count(33)? {
        let tree = state.trees.get_mut(place(&mut decoder)?).ok_or("a tree that the state has not")?;
        tree.1 = ObjectId(decoder.array()?);
    }
    for _ in 0..decoder.count(2)? {
        let place = place(&mut decoder)?;
        let folder = state.structure.as_mut().and_then(|structure| structure.folders.get_mut(place));
        let stamp = if decoder.u8()? & STAMPED == 0 { None } else { Some(decoder.u64()?) };
        folder.ok_or("a folder that the state has not")?.stamp = stamp;
    }
    Ok(decoder.rest())
}

fn push_packs(out: &mut Vec<u8>, packs: &[u64]) {
    push_varint(out, packs.len() as u64);
    for pack in packs {
        out.extend(pack.to_le_bytes());
    }
}

fn read_packs(decoder: &mut Decoder<'_>) -> DecodeResult<Vec<u64>> {
    (0..decoder.count(8)?).map(|_| decoder.u64()).collect()
}

/// The byte that stands before a file.
fn flags_of(file: &FileState) -> u8 {
    let warned = if file.warnings.is_empty() { 0 } else { WARNED };
    kind_of(&file.taken) | warned | if file.stamp.is_some() { STAMPED } else { 0 }
}

/// Appends what stands behind a file's path.
fn push_rest_of_file(out: &mut Vec<u8>, file: &FileState) {
    out.extend(file.stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
    match &file.taken {
        Taken::Entry(Entry::File { id, bytes, .. }) => {
            push_varint(out, *bytes);
            out.extend(id.0);
        }
        Taken::Entry(Entry::Symlink { target }) => push_bytes(out, target),
        Taken::Secret => {}
    }
    if !file.warnings.is_empty() {
        push_texts(out, &file.warnings);
    }
}

fn read_rest_of_file(decoder: &mut Decoder<'_>, flags: u8, path: TrackedPath) -> DecodeResult<FileState> {
    let stamp = if flags & STAMPED == 0 { None } else { Some(decoder.u64()?) };
    let taken = match flags & 0x0f {
        kind @ (FILE_KIND | EXECUTABLE) => {
            let (bytes, id) = (decoder.varint()?, ObjectId(decoder.array()?));
            Taken::Entry(Entry::File { id, bytes, executable: kind == EXECUTABLE })
        }
        SYMLINK => match read_bytes(decoder)? {
            target if is_valid_target(target) => Taken::Entry(Entry::Symlink { target: target.to_vec() }),
            _ => return Err("a link that leads nowhere".into()),
        },
        SECRET => Taken::Secret,
        other => return Err(format!("file kind {other} is unknown")),
    };
    let warnings = if flags & WARNED == 0 { Vec::new() } else { read_texts(decoder)? };
    Ok(FileState { path, stamp, taken, warnings })
}

fn decode_structure(decoder: &mut Decoder<'_>) -> DecodeResult<Structure> {
    let mut structure = Structure::default();
    for path in read_paths(decoder)? {
        let flags = decoder.u8()?;
        let stamp = if flags & STAMPED == 0 { None } else { Some(decoder.u64()?) };
        structure.folders.push(FolderState { path, stamp, names: decoder.u64()? });
    }
    let mut last = Vec::new();
    for _ in 0..decoder.count(3)? {
        let flags = decoder.u8()?;
        read_path(decoder, &mut last)?;
        let path = path_of(&last).ok_or("a path of another system")?;
        let stamp = if flags & STAMPED == 0 { None } else { Some(decoder.u64()?) };
        structure.conditions.push(Condition { path, stamp });
    }
    structure.left_out = serde_json::from_slice(read_bytes(decoder)?).map_err(|e| e.to_string())?;
    structure.warnings = read_texts(decoder)?;
    Ok(structure)
}

fn kind_of(taken: &Taken) -> u8 {
    match taken {
        Taken::Entry(Entry::File { executable: false, .. }) => FILE_KIND,
        Taken::Entry(Entry::File { executable: true, .. }) => EXECUTABLE,
        Taken::Entry(Entry::Symlink { .. }) => SYMLINK,
        Taken::Secret => SECRET,
    }
}

/// The checksum of what stands behind something else, by which it also says behind what.
fn next_checksum(before: [u8; checksum::BYTES], body: &[u8]) -> [u8; checksum::BYTES] {
    checksum::of_parts(&[&before, body])
}

/// Appends a path as what it shares with the one before, and the rest.
fn push_path<'p>(out: &mut Vec<u8>, last: &[u8], path: &'p [u8]) -> &'p [u8] {
    let shared = last.iter().zip(path).take_while(|(a, b)| a == b).count();
    push_varint(out, shared as u64);
    push_bytes(out, path.get(shared..).unwrap_or_default());
    path
}

fn read_path(decoder: &mut Decoder<'_>, last: &mut Vec<u8>) -> DecodeResult<()> {
    let shared = usize::try_from(decoder.varint()?).ok().filter(|shared| *shared <= last.len());
    last.truncate(shared.ok_or("shares more with the path before than that has")?);
    last.extend_from_slice(read_bytes(decoder)?);
    Ok(())
}

/// Appends paths in ascending order: how many, and each as what it shares with the one before; the root has none.
fn push_paths<'p>(out: &mut Vec<u8>, paths: impl ExactSizeIterator<Item = Option<&'p TrackedPath>>) {
    push_varint(out, paths.len() as u64);
    let mut last: &[u8] = &[];
    for path in paths {
        last = push_path(out, last, path.map_or(&[][..], TrackedPath::as_bytes));
    }
}

fn read_paths(decoder: &mut Decoder<'_>) -> DecodeResult<impl ExactSizeIterator<Item = Option<TrackedPath>> + use<>> {
    let count = decoder.count(2)?;
    let mut paths = SortedPaths::with_capacity(count, decoder.rest().len());
    for _ in 0..count {
        let shared = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
        if !paths.push(shared, read_bytes(decoder)?) {
            return Err("a path that is out of order or leads elsewhere".into());
        }
    }
    Ok(paths.finish())
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn read_bytes<'d>(decoder: &mut Decoder<'d>) -> DecodeResult<&'d [u8]> {
    let count = decoder.count(1)?;
    decoder.take(count)
}

fn push_texts(out: &mut Vec<u8>, texts: &[String]) {
    push_varint(out, texts.len() as u64);
    for text in texts {
        push_bytes(out, text.as_bytes());
    }
}

fn read_texts(decoder: &mut Decoder<'_>) -> DecodeResult<Vec<String>> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| e.to_string());
    (0..decoder.count(1)?).map(|_| read_bytes(decoder).and_then(text)).collect()
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(|path| Path::new(path).to_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::run_record::{LeftOut, LeftOutReason};

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

    fn decode(bytes: &[u8], store: StoreId) -> DecodeResult<TreeState> {
        super::decode(Box::new(InMemory(bytes.to_vec())), store)
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

    proptest! {
        #[test]
        fn anything_else_is_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let store = StoreId([1; 16]);
            let mut bytes = FILE.encode(store).to_vec();
            let first = (HEAD_BYTES + body.len() + checksum::BYTES) as u32;
            bytes.extend([first + checksum::BYTES as u32, first].map(u32::to_le_bytes).concat());
            bytes.extend(&body);
            let check = checksum::of(&bytes);
            bytes.extend(check);
            bytes.extend(next_checksum(check, &[]));
            let _ = decode(&bytes, store);
            let _ = apply_note(&mut state(), &body);
        }
    }
}
