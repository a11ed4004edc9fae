//! What the parts of a state are made of.

use std::path::{Path, PathBuf};

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::tracked_path::{SortedPaths, TrackedPath};

/// Stands for the stamp of what was not settled when it was looked at. A stamp that comes out as this is worth no more.
const NO_STAMP: u64 = 0;

pub(super) fn push_stamp(out: &mut Vec<u8>, stamp: Option<u64>) {
    out.extend(stamp.unwrap_or(NO_STAMP).to_le_bytes());
}

pub(super) fn read_stamp(decoder: &mut Decoder<'_>) -> DecodeResult<Option<u64>> {
    decoder.u64().map(stamp_of)
}

/// Reads so many stamps.
pub(super) fn read_stamps(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<Vec<Option<u64>>> {
    let bytes = decoder.take(count.checked_mul(size_of::<u64>()).ok_or("too many stamps")?)?;
    let (stamps, _) = bytes.as_chunks();
    Ok(stamps.iter().map(|stamp| stamp_of(u64::from_le_bytes(*stamp))).collect())
}

fn stamp_of(stamp: u64) -> Option<u64> {
    (stamp != NO_STAMP).then_some(stamp)
}

pub(super) fn push_packs(out: &mut Vec<u8>, packs: &[u64]) {
    push_varint(out, packs.len() as u64);
    out.extend(packs.iter().flat_map(|pack| pack.to_le_bytes()));
}

pub(super) fn read_packs(decoder: &mut Decoder<'_>) -> DecodeResult<Vec<u64>> {
    (0..decoder.count(8)?).map(|_| decoder.u64()).collect()
}

/// The place of something in a list.
pub(super) fn read_place(decoder: &mut Decoder<'_>) -> DecodeResult<usize> {
    usize::try_from(decoder.varint()?).map_err(|_| "a place over 64 bits".to_owned())
}

/// Appends a path as what it shares with the one before, and the rest.
pub(super) fn push_path<'p>(out: &mut Vec<u8>, last: &[u8], path: &'p [u8]) -> &'p [u8] {
    let shared = last.iter().zip(path).take_while(|(a, b)| a == b).count();
    push_varint(out, shared as u64);
    push_bytes(out, path.get(shared..).unwrap_or_default());
    path
}

pub(super) fn read_path(decoder: &mut Decoder<'_>, last: &mut Vec<u8>) -> DecodeResult<()> {
    let shared = usize::try_from(decoder.varint()?).ok().filter(|shared| *shared <= last.len());
    last.truncate(shared.ok_or("shares more with the path before than that has")?);
    last.extend_from_slice(read_bytes(decoder)?);
    Ok(())
}

/// Appends paths in ascending order: how many, and each as what it shares with the one before; the root has none.
pub(super) fn push_paths<'p>(out: &mut Vec<u8>, paths: impl ExactSizeIterator<Item = Option<&'p TrackedPath>>) {
    push_varint(out, paths.len() as u64);
    let mut last: &[u8] = &[];
    for path in paths {
        last = push_path(out, last, path.map_or(&[][..], TrackedPath::as_bytes));
    }
}

/// Reads paths, of which it is not known yet that they lead nowhere else.
pub(super) fn read_paths(decoder: &mut Decoder<'_>) -> DecodeResult<SortedPaths> {
    let count = decoder.count(2)?;
    let mut paths = SortedPaths::with_capacity(count, decoder.rest().len());
    for _ in 0..count {
        let shared = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
        if !paths.push(shared, read_bytes(decoder)?) {
            return Err("a path out of order".into());
        }
    }
    Ok(paths)
}

/// The paths, checked.
pub(super) fn checked(paths: SortedPaths) -> DecodeResult<impl ExactSizeIterator<Item = Option<TrackedPath>>> {
    paths.finish().ok_or_else(|| "a path that leads elsewhere".to_owned())
}

pub(super) fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn read_bytes<'d>(decoder: &mut Decoder<'d>) -> DecodeResult<&'d [u8]> {
    let count = decoder.count(1)?;
    decoder.take(count)
}

pub(super) fn push_texts(out: &mut Vec<u8>, texts: &[String]) {
    push_varint(out, texts.len() as u64);
    for text in texts {
        push_bytes(out, text.as_bytes());
    }
}

pub(super) fn read_texts(decoder: &mut Decoder<'_>) -> DecodeResult<Vec<String>> {
    let text = |bytes: &[u8]| std::str::from_utf8(bytes).map(str::to_owned).map_err(|e| e.to_string());
    (0..decoder.count(1)?).map(|_| read_bytes(decoder).and_then(text)).collect()
}

#[cfg(unix)]
pub(super) fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt;
    Some(Path::new(std::ffi::OsStr::from_bytes(bytes)).to_owned())
}

#[cfg(not(unix))]
pub(super) fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(|path| Path::new(path).to_owned())
}
