//! The bytes of a state: `schema/store.md`, "states/".

use std::path::{Path, PathBuf};

use super::{Condition, FileState, FolderState, Structure, Taken, TreeState};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_header::{self, FileKind, Header};
use crate::id::{ObjectId, StoreId};
use crate::snapshot::{Entry, is_valid_target};
use crate::store::RecentVersions;
use crate::tracked_path::TrackedPath;

/// What every state begins with.
const FILE: FileKind = FileKind { word: "tree state", magic: *b"RUNSNAPT", version: 1 };
/// A longer file is no state.
pub(super) const MAX_BYTES: u64 = 1 << 30;
const CHECKSUM_BYTES: usize = 8;

/// In the byte before a file: what it is.
const FILE_KIND: u8 = 1;
const EXECUTABLE: u8 = 2;
const SYMLINK: u8 = 3;
const SECRET: u8 = 4;
/// Added where a stamp follows.
const STAMPED: u8 = 0x10;
/// Added where warnings follow.
const WARNED: u8 = 0x20;

pub(super) fn encode(state: &TreeState, store: StoreId) -> Vec<u8> {
    let mut out = FILE.encode(store).to_vec();
    out.extend(state.generation.to_le_bytes());
    out.extend(state.snapshot.0);
    push_varint(&mut out, state.packs.len() as u64);
    for pack in &state.packs {
        out.extend(pack.to_le_bytes());
    }
    push_varint(&mut out, state.files.len() as u64);
    let mut last: &[u8] = &[];
    for file in &state.files {
        let (kind, warned) = (kind_of(&file.taken), if file.warnings.is_empty() { 0 } else { WARNED });
        out.push(kind | warned | if file.stamp.is_some() { STAMPED } else { 0 });
        last = push_path(&mut out, last, file.path.as_bytes());
        out.extend(file.stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
        match &file.taken {
            Taken::Entry(Entry::File { id, bytes, .. }) => {
                push_varint(&mut out, *bytes);
                out.extend(id.0);
            }
            Taken::Entry(Entry::Symlink { target }) => push_bytes(&mut out, target),
            Taken::Secret => {}
        }
        if warned != 0 {
            push_texts(&mut out, &file.warnings);
        }
    }
    push_varint(&mut out, state.trees.len() as u64);
    let mut last: &[u8] = &[];
    for (path, tree) in &state.trees {
        last = push_path(&mut out, last, path.as_ref().map_or(&[][..], TrackedPath::as_bytes));
        out.extend(tree.0);
    }
    out.push(u8::from(state.structure.is_some()));
    if let Some(structure) = &state.structure {
        push_varint(&mut out, structure.folders.len() as u64);
        let mut last: &[u8] = &[];
        for folder in &structure.folders {
            out.push(if folder.stamp.is_some() { STAMPED } else { 0 });
            last = push_path(&mut out, last, folder.path.as_ref().map_or(&[][..], TrackedPath::as_bytes));
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
    state.recent.encode(&mut out);
    let checksum = checksum(&out);
    out.extend(checksum);
    out
}

pub(super) fn decode(bytes: &[u8], store: StoreId) -> DecodeResult<TreeState> {
    let split = bytes.len().checked_sub(CHECKSUM_BYTES).and_then(|end| bytes.split_at_checked(end));
    let (said, check) = split.ok_or("cut short")?;
    match FILE.decode(bytes)? {
        Header::Known(found) if found == store => {}
        _ => return Err("of another store or version".into()),
    }
    if check != checksum(said) {
        return Err("its checksum does not match".into());
    }
    let mut decoder = Decoder::new(said.get(file_header::BYTES..).unwrap_or_default());
    let (generation, snapshot) = (decoder.u64()?, ObjectId(decoder.array()?));
    let packs = (0..decoder.count(8)?).map(|_| decoder.u64()).collect::<DecodeResult<Vec<u64>>>()?;
    let mut files = Vec::new();
    let mut last = Vec::new();
    for _ in 0..decoder.count(3)? {
        let flags = decoder.u8()?;
        read_path(&mut decoder, &mut last)?;
        let path = TrackedPath::from_bytes(last.as_slice()).ok_or("a path that leads elsewhere")?;
        let stamp = if flags & STAMPED == 0 { None } else { Some(decoder.u64()?) };
        let taken = match flags & 0x0f {
            kind @ (FILE_KIND | EXECUTABLE) => {
                let (bytes, id) = (decoder.varint()?, ObjectId(decoder.array()?));
                Taken::Entry(Entry::File { id, bytes, executable: kind == EXECUTABLE })
            }
            SYMLINK => match read_bytes(&mut decoder)? {
                target if is_valid_target(target) => Taken::Entry(Entry::Symlink { target: target.to_vec() }),
                _ => return Err("a link that leads nowhere".into()),
            },
            SECRET => Taken::Secret,
            other => return Err(format!("file kind {other} is unknown")),
        };
        let warnings = if flags & WARNED == 0 { Vec::new() } else { read_texts(&mut decoder)? };
        files.push(FileState { path, stamp, taken, warnings });
    }
    let mut trees = Vec::new();
    let mut last = Vec::new();
    for _ in 0..decoder.count(34)? {
        trees.push((read_folder(&mut decoder, &mut last)?, ObjectId(decoder.array()?)));
    }
    let structure = match decoder.u8()? {
        0 => None,
        _ => Some(decode_structure(&mut decoder)?),
    };
    let recent = RecentVersions::kept(decoder.rest());
    if !files.is_sorted_by(|a, b| a.path < b.path) || !packs.is_sorted() || !trees.is_sorted_by(|a, b| a.0 < b.0) {
        return Err("not in order".into());
    }
    Ok(TreeState { generation, packs, snapshot, files, trees, structure, recent })
}

fn decode_structure(decoder: &mut Decoder<'_>) -> DecodeResult<Structure> {
    let mut structure = Structure::default();
    let mut last = Vec::new();
    for _ in 0..decoder.count(11)? {
        let flags = decoder.u8()?;
        let path = read_folder(decoder, &mut last)?;
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
    if !structure.folders.is_sorted_by(|a, b| a.path < b.path) {
        return Err("folders not in order".into());
    }
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

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    ObjectId::of(bytes).key().to_be_bytes()
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

/// Reads the path of a folder; the root's is empty.
fn read_folder(decoder: &mut Decoder<'_>, last: &mut Vec<u8>) -> DecodeResult<Option<TrackedPath>> {
    read_path(decoder, last)?;
    match last.as_slice() {
        [] => Ok(None),
        path => TrackedPath::from_bytes(path).map(Some).ok_or_else(|| "a path that leads elsewhere".to_owned()),
    }
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
            files: vec![
                file(".env", Some(9), Taken::Secret),
                file("a/one.py", Some(1), entry(false)),
                file("a/two.py", None, entry(false)),
                file("b", Some(2), link),
                warned,
            ],
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
            recent: RecentVersions::kept(&[0]),
        }
    }

    #[test]
    fn states_round_trip() {
        let store = StoreId([1; 16]);
        let bytes = encode(&state(), store);
        assert_eq!(decode(&bytes, store), Ok(state()));
        let bare = TreeState { structure: None, ..state() };
        assert_eq!(decode(&encode(&bare, store), store), Ok(bare));
        assert!(decode(&bytes, StoreId([2; 16])).is_err(), "of another store");
    }

    #[test]
    fn a_flipped_bit_or_a_cut_makes_it_no_state() {
        let store = StoreId([1; 16]);
        let bytes = encode(&state(), store);
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 0x10;
            assert!(decode(&flipped, store).is_err(), "byte {place}");
            assert!(decode(&bytes[..place], store).is_err(), "cut at {place}");
        }
    }

    proptest! {
        #[test]
        fn anything_else_is_refused(body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let store = StoreId([1; 16]);
            let mut bytes = FILE.encode(store).to_vec();
            bytes.extend(body);
            let check = checksum(&bytes);
            bytes.extend(check);
            let _ = decode(&bytes, store);
        }
    }
}
