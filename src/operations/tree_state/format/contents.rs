//! The second part of a state, which is read once something has changed or there is something to say: what became of the
//! files, the trees that they are in, and what was left out.

use std::sync::Arc;

use super::super::kept::Kept;
use super::super::outline::{Outline, SeenFiles};
use super::super::{FileState, Taken, TreeState};
use super::pieces::{checked, push_bytes, push_paths, push_texts, read_bytes, read_paths, read_place, read_texts};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::ObjectId;
use crate::snapshot::{Entry, is_valid_target};
use crate::store::RecentVersions;

/// In the byte before a file: what it is.
const FILE_KIND: u8 = 1;
const EXECUTABLE: u8 = 2;
const SYMLINK: u8 = 3;
const SECRET: u8 = 4;
/// Added where warnings follow.
const WARNED: u8 = 0x20;

pub(super) fn push(out: &mut Vec<u8>, state: &TreeState) {
    for file in &*state.files {
        push_file(out, file);
    }
    push_paths(out, state.trees.iter().map(|(path, _)| path.as_ref()));
    for (_, tree) in &state.trees {
        out.extend(tree.0);
    }
    if let Some(structure) = &state.structure {
        // Lists and strings: nothing that could fail to be written as JSON.
        push_bytes(out, &serde_json::to_vec(&structure.left_out).unwrap_or_default());
        push_texts(out, &structure.warnings);
    }
}

/// Reads what an outline lacks.
pub(super) fn read(decoder: &mut Decoder<'_>, outline: Outline) -> DecodeResult<TreeState> {
    let Outline { generation, packs, snapshot, files, mut structure, .. } = outline;
    // Somebody may still be looking at them.
    let SeenFiles { paths, stamps } = Arc::unwrap_or_clone(files);
    let mut files = Vec::with_capacity(stamps.len());
    for (path, stamp) in checked(paths)?.zip(stamps) {
        let (taken, warnings) = read_file(decoder)?;
        files.push(FileState { path: path.ok_or("a file without a path")?, stamp, taken, warnings });
    }
    let paths = checked(read_paths(decoder)?)?;
    let trees = paths.map(|path| Ok((path, ObjectId(decoder.array()?)))).collect::<DecodeResult<_>>()?;
    if let Some(structure) = &mut structure {
        structure.left_out = serde_json::from_slice(read_bytes(decoder)?).map_err(|e| e.to_string())?;
        structure.warnings = read_texts(decoder)?;
    }
    let (files, recent, kept) = (files.into(), RecentVersions::default(), None);
    Ok(TreeState { generation, packs, snapshot, files, trees, structure, recent, kept })
}

/// Appends what a later state has instead.
pub(super) fn push_note(out: &mut Vec<u8>, state: &TreeState, kept: &Kept) -> Option<()> {
    push_varint(out, kept.files.len() as u64);
    for place in &kept.files {
        push_varint(out, *place as u64);
        push_file(out, state.files.get(*place)?);
    }
    push_varint(out, kept.trees.len() as u64);
    for place in &kept.trees {
        push_varint(out, *place as u64);
        out.extend(state.trees.get(*place)?.1.0);
    }
    out.extend_from_slice(state.recent.added()?);
    Some(())
}

/// Brings a state up to what was noted after it; what was added to the recent versions is left.
pub(super) fn apply_note<'n>(state: &mut TreeState, note: &'n [u8]) -> DecodeResult<&'n [u8]> {
    let mut decoder = Decoder::new(note);
    for _ in 0..decoder.count(2)? {
        let file = Arc::make_mut(&mut state.files).get_mut(read_place(&mut decoder)?);
        let file = file.ok_or("a file that the state has not")?;
        (file.taken, file.warnings) = read_file(&mut decoder)?;
    }
    for _ in 0..decoder.count(33)? {
        let tree = state.trees.get_mut(read_place(&mut decoder)?).ok_or("a tree that the state has not")?;
        tree.1 = ObjectId(decoder.array()?);
    }
    Ok(decoder.rest())
}

/// Appends what became of a file, and what the user was told of it.
fn push_file(out: &mut Vec<u8>, file: &FileState) {
    let kind = match &file.taken {
        Taken::Entry(Entry::File { executable: false, .. }) => FILE_KIND,
        Taken::Entry(Entry::File { executable: true, .. }) => EXECUTABLE,
        Taken::Entry(Entry::Symlink { .. }) => SYMLINK,
        Taken::Secret => SECRET,
    };
    out.push(kind | if file.warnings.is_empty() { 0 } else { WARNED });
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

fn read_file(decoder: &mut Decoder<'_>) -> DecodeResult<(Taken, Vec<String>)> {
    let flags = decoder.u8()?;
    let taken = match flags & !WARNED {
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
    Ok((taken, warnings))
}
