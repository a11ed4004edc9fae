//! The bytes of a state: `schema/store.md`, "states/".

mod contents;
mod outline;
mod pieces;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use super::TreeState;
use super::kept::Kept;
use super::outline::{KeptState, Outline};
use crate::checksum;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_header::{self, FileKind, Header};
use crate::id::StoreId;
use crate::storage::ReadFile;
use crate::store::RecentVersions;

/// What every state begins with.
const FILE: FileKind = FileKind { word: "tree state", magic: *b"RUNSNAPT", version: 5 };
/// A longer file is no state.
const MAX_BYTES: u64 = 1 << 30;
/// Where it stands where the three parts end: outline, contents and recent versions. Notes follow.
const ENDS_AT: usize = file_header::BYTES;
/// The header and these ends.
const HEAD_BYTES: usize = ENDS_AT + 3 * size_of::<u32>();
/// What stands before what was noted later: its length and its checksum.
const NOTE_HEAD_BYTES: usize = 4 + checksum::BYTES;

/// Encodes the whole state.
pub(super) fn encode(state: &mut TreeState, store: StoreId) -> Vec<u8> {
    let mut out = FILE.encode(store).to_vec();
    out.resize(HEAD_BYTES, 0);
    outline::push(&mut out, state);
    let (mut contents, mut recent) = (Vec::new(), Vec::new());
    contents::push(&mut contents, state);
    state.recent.encode(&mut recent);
    let first = out.len() + checksum::BYTES;
    let second = first + contents.len() + checksum::BYTES;
    let ends = [first, second, second + recent.len() + checksum::BYTES];
    if let Some(field) = out.get_mut(ENDS_AT..HEAD_BYTES) {
        field.copy_from_slice(&ends.map(|end| u32::try_from(end).unwrap_or(u32::MAX).to_le_bytes()).concat());
    }
    let mut check = checksum::of(&out);
    out.extend(check);
    for part in [contents, recent] {
        check = next_checksum(check, &part);
        out.extend(part);
        out.extend(check);
    }
    out
}

/// Encodes what has changed since a state was kept, to stand behind it; `None` where only the whole can tell.
pub(super) fn encode_note(state: &TreeState, kept: &Kept) -> Option<Vec<u8>> {
    let mut first = Vec::new();
    outline::push_note(&mut first, state, kept)?;
    let mut out = vec![0; NOTE_HEAD_BYTES];
    push_varint(&mut out, first.len() as u64);
    out.extend(first);
    contents::push_note(&mut out, state, kept)?;
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

/// Reads the outline of a state. Mostly nothing has changed, and nobody asks for the rest.
pub(super) fn read(file: Box<dyn ReadFile>, store: StoreId) -> DecodeResult<KeptState> {
    let length = file.length().ok().filter(|length| *length <= MAX_BYTES).ok_or("of no length that a state has")?;
    let head = read_all(&*file, 0, HEAD_BYTES)?;
    match FILE.decode(&head)? {
        Header::Known(found) if found == store => {}
        _ => return Err("of another store or version".into()),
    }
    let mut ends = Decoder::new(head.get(ENDS_AT..).unwrap_or_default());
    let (first, second, whole) = (ends.u32()? as usize, ends.u32()? as usize, ends.u32()? as usize);
    let recent_end = whole.checked_sub(checksum::BYTES).ok_or("ends that do not fit")?;
    if first > second || second > recent_end || whole as u64 > length {
        return Err("ends that do not fit".into());
    }
    let bytes = read_all(&*file, 0, first)?;
    let (said, first_check) = bytes.split_last_chunk::<{ checksum::BYTES }>().ok_or("cut short")?;
    if *first_check != checksum::of(said) {
        return Err("its checksum does not match".into());
    }
    let later = read_all(&*file, recent_end, length as usize)?;
    let (recent_check, notes) = later.split_first_chunk::<{ checksum::BYTES }>().ok_or("cut short")?;
    let mut kept = Kept::new(length, whole as u64, *recent_check);
    let (known_notes, is_all_known) = known_notes(notes, &mut kept);

    let mut decoder = Decoder::new(said.get(HEAD_BYTES..).unwrap_or_default());
    let mut outline = outline::read(&mut decoder)?;
    decoder.finish()?;
    let mut notes = Vec::new();
    for note in known_notes {
        let mut decoder = Decoder::new(note);
        let bytes = decoder.count(1)?;
        let mut first = Decoder::new(decoder.take(bytes)?);
        outline::apply_note(&mut outline, &mut first)?;
        first.finish()?;
        notes.push(decoder.rest().to_vec());
    }
    let unread = Unread {
        file: file.into(),
        ends: [first, second, recent_end],
        first_check: *first_check,
        recent_check: *recent_check,
        notes,
        kept: is_all_known.then_some(kept),
    };
    Ok(KeptState { outline, unread })
}

/// What has not been read of a state.
pub(super) struct Unread {
    file: Arc<dyn ReadFile>,
    /// Where the first two parts end, and the third before its checksum.
    ends: [usize; 3],
    first_check: [u8; checksum::BYTES],
    recent_check: [u8; checksum::BYTES],
    /// What was noted later of the contents.
    notes: Vec<Vec<u8>>,
    /// How it is kept, where all notes are known.
    kept: Option<Kept>,
}

impl std::fmt::Debug for Unread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Unread({:?})", self.ends)
    }
}

impl Unread {
    /// Reads the contents. The recent versions are left in the file until somebody wants them.
    pub(super) fn read(self, outline: Outline) -> DecodeResult<TreeState> {
        let [first, second, recent_end] = self.ends;
        let bytes = read_all(&*self.file, first, second)?;
        let (said, second_check) = bytes.split_last_chunk::<{ checksum::BYTES }>().ok_or("cut short")?;
        if *second_check != next_checksum(self.first_check, said) {
            return Err("its checksum does not match".into());
        }
        let mut decoder = Decoder::new(said);
        let mut state = contents::read(&mut decoder, outline)?;
        decoder.finish()?;
        let mut added = Vec::new();
        for note in &self.notes {
            added.extend_from_slice(contents::apply_note(&mut state, note)?);
        }
        state.kept = self.kept.map(|kept| Kept { packs: state.packs.clone(), ..kept });
        let (file, before, said) = (self.file, *second_check, self.recent_check);
        let recent = move || {
            let bytes = read_all(&*file, second, recent_end).ok()?;
            (next_checksum(before, &bytes) == said).then_some(bytes)
        };
        state.recent = RecentVersions::kept(recent, added);
        Ok(state)
    }
}

fn read_all(file: &dyn ReadFile, from: usize, to: usize) -> DecodeResult<Vec<u8>> {
    let length = to.checked_sub(from).ok_or("ends that do not fit")?;
    let bytes = file.read_range(from as u64, length).map_err(|e| e.to_string())?;
    if bytes.len() == length { Ok(bytes) } else { Err("cut short".to_owned()) }
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

/// The checksum of what stands behind something else, by which it also says behind what.
fn next_checksum(before: [u8; checksum::BYTES], body: &[u8]) -> [u8; checksum::BYTES] {
    checksum::of_parts(&[&before, body])
}
