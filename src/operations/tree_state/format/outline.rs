//! The first part of a state, which is enough to tell that nothing has changed: what there is, and the stamps of it.

use std::sync::Arc;

use super::super::kept::Kept;
use super::super::outline::{Outline, SeenFiles, Totals};
use super::super::{Condition, FolderState, Structure, TreeState};
use super::pieces::{
    checked, path_of, push_packs, push_path, push_paths, push_stamp, read_packs, read_path, read_paths, read_place,
    read_stamp, read_stamps,
};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::ObjectId;

pub(super) fn push(out: &mut Vec<u8>, state: &TreeState) {
    out.extend(state.generation.to_le_bytes());
    push_summed(out, state);
    push_packs(out, &state.packs);
    push_paths(out, state.files.iter().map(|file| Some(&file.path)));
    for file in &*state.files {
        push_stamp(out, file.stamp);
    }
    out.push(u8::from(state.structure.is_some()));
    let Some(structure) = &state.structure else { return };
    push_paths(out, structure.folders.iter().map(|folder| folder.path.as_ref()));
    for folder in &structure.folders {
        push_stamp(out, folder.stamp);
        out.extend(folder.names.to_le_bytes());
    }
    push_varint(out, structure.conditions.len() as u64);
    let mut last: &[u8] = &[];
    for condition in &structure.conditions {
        out.push(u8::from(condition.stamp.is_some()));
        last = push_path(out, last, condition.path.as_os_str().as_encoded_bytes());
        out.extend(condition.stamp.iter().flat_map(|stamp| stamp.to_le_bytes()));
    }
}

pub(super) fn read(decoder: &mut Decoder<'_>) -> DecodeResult<Outline> {
    let generation = decoder.u64()?;
    let (snapshot, totals) = read_summed(decoder)?;
    let packs = read_packs(decoder)?;
    if !packs.is_sorted() {
        return Err("not in order".into());
    }
    let paths = read_paths(decoder)?;
    let stamps = read_stamps(decoder, paths.count())?;
    let structure = match decoder.u8()? {
        0 => None,
        _ => Some(read_structure(decoder)?),
    };
    Ok(Outline { generation, packs, snapshot, totals, files: Arc::new(SeenFiles { paths, stamps }), structure })
}

fn read_structure(decoder: &mut Decoder<'_>) -> DecodeResult<Structure> {
    let mut structure = Structure::default();
    let paths = checked(read_paths(decoder)?)?;
    structure.folders.reserve_exact(paths.len());
    for path in paths {
        structure.folders.push(FolderState { path, stamp: read_stamp(decoder)?, names: decoder.u64()? });
    }
    let mut last = Vec::new();
    let conditions = decoder.count(3)?;
    structure.conditions.reserve_exact(conditions);
    for _ in 0..conditions {
        let has_stamp = decoder.u8()? != 0;
        read_path(decoder, &mut last)?;
        let path = path_of(&last).ok_or("a path of another system")?;
        let stamp = if has_stamp { Some(decoder.u64()?) } else { None };
        structure.conditions.push(Condition { path, stamp });
    }
    Ok(structure)
}

/// Appends what a later state has instead.
pub(super) fn push_note(out: &mut Vec<u8>, state: &TreeState, kept: &Kept) -> Option<()> {
    push_summed(out, state);
    let only_in = |some: &[u64], others: &[u64]| -> Vec<u64> {
        some.iter().copied().filter(|pack| others.binary_search(pack).is_err()).collect()
    };
    push_packs(out, &only_in(&kept.packs, &state.packs));
    push_packs(out, &only_in(&state.packs, &kept.packs));
    push_varint(out, kept.files.len() as u64);
    for place in &kept.files {
        push_varint(out, *place as u64);
        push_stamp(out, state.files.get(*place)?.stamp);
    }
    push_varint(out, kept.folders.len() as u64);
    for place in &kept.folders {
        push_varint(out, *place as u64);
        push_stamp(out, state.structure.as_ref()?.folders.get(*place)?.stamp);
    }
    Some(())
}

/// Brings an outline up to what was noted after it.
pub(super) fn apply_note(outline: &mut Outline, decoder: &mut Decoder<'_>) -> DecodeResult<()> {
    (outline.snapshot, outline.totals) = read_summed(decoder)?;
    let gone = read_packs(decoder)?;
    outline.packs.retain(|pack| !gone.contains(pack));
    outline.packs.extend(read_packs(decoder)?);
    outline.packs.sort_unstable();
    for _ in 0..decoder.count(9)? {
        let place = read_place(decoder)?;
        // Nobody else has it yet.
        let file = Arc::make_mut(&mut outline.files).stamps.get_mut(place);
        *file.ok_or("a file that the state has not")? = read_stamp(decoder)?;
    }
    for _ in 0..decoder.count(9)? {
        let place = read_place(decoder)?;
        let folder = outline.structure.as_mut().and_then(|structure| structure.folders.get_mut(place));
        folder.ok_or("a folder that the state has not")?.stamp = read_stamp(decoder)?;
    }
    Ok(())
}

/// What follows from the files, and their sums.
fn push_summed(out: &mut Vec<u8>, state: &TreeState) {
    let Totals { files, bytes, has_remarks } = state.totals();
    out.extend(state.snapshot.0);
    push_varint(out, files);
    push_varint(out, bytes);
    out.push(u8::from(has_remarks));
}

fn read_summed(decoder: &mut Decoder<'_>) -> DecodeResult<(ObjectId, Totals)> {
    let snapshot = ObjectId(decoder.array()?);
    let (files, bytes, has_remarks) = (decoder.varint()?, decoder.varint()?, decoder.u8()? != 0);
    Ok((snapshot, Totals { files, bytes, has_remarks }))
}
