//! zstd as packs and journals use it: one call a frame, with another object's content as prefix where there is one.

use zstd::zstd_safe::{CCtx, CParameter, DCtx, DParameter, compress_bound, get_error_name};

/// The zstd level of captures.
///
/// Measured on 300 tuning edits of a 5.5 MB project: level 3 stores a quarter more, level 12 costs twice the time for
/// 3 % less. Compaction is where more effort pays.
pub const CAPTURE_LEVEL: i32 = 9;

/// The zstd level of captures that bring tens of megabytes at once, mostly the first of a large tree: a third of the time of
/// [`CAPTURE_LEVEL`]. Merges compress it again.
pub const BULK_LEVEL: i32 = 3;

/// The largest frame that is decoded, whatever a table says.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Longer content gets a window of its own length.
const LARGE_BYTES: usize = 2 << 20;

/// The zstd level of merges that captures do by the way: better than a capture's, at 50 to 150 MB/s.
pub const MERGE_LEVEL: i32 = 12;

/// The zstd level of `gc`: the best that pays. Level 22 takes twice the time for half a percent.
pub const COMPACT_LEVEL: i32 = 19;

/// The windowLog that covers `bytes` of prefix and content together.
fn window_log(bytes: usize) -> u32 {
    (usize::BITS - bytes.max(1024).leading_zeros()).clamp(10, 27)
}

/// Compresses `raw` against `prefix` (empty for none). `None` where the result would not be smaller.
pub fn compress(raw: &[u8], prefix: &[u8], level: i32) -> Option<Vec<u8>> {
    try_compress(raw, prefix, level).filter(|out| out.len() < raw.len())
}

/// Compresses `raw`, whether or not that makes it smaller.
pub fn compress_always(raw: &[u8], level: i32) -> Vec<u8> {
    // zstd fails for want of memory alone, or for parameters out of range.
    try_compress(raw, &[], level).expect("zstd compresses anything into a buffer of its bound")
}

fn try_compress(raw: &[u8], prefix: &[u8], level: i32) -> Option<Vec<u8>> {
    let mut context = CCtx::create();
    let mut parameters = vec![
        CParameter::CompressionLevel(level),
        // The pack's table has the length and the object ids are the checksum.
        CParameter::ContentSizeFlag(false),
        CParameter::ChecksumFlag(false),
        CParameter::DictIdFlag(false),
    ];
    let bytes = prefix.len() + raw.len();
    // A level's own window is smaller than a large frame, and always too small for a prefix before one.
    if !prefix.is_empty() || bytes > LARGE_BYTES {
        parameters.push(CParameter::WindowLog(window_log(bytes)));
    }
    for parameter in parameters {
        context.set_parameter(parameter).ok()?;
    }
    if !prefix.is_empty() {
        context.ref_prefix(prefix).ok()?;
    }
    let mut out = Vec::with_capacity(compress_bound(raw.len()));
    context.compress2(&mut out, raw).ok()?;
    Some(out)
}

/// Decompresses one zstd frame of exactly `raw_bytes`.
pub fn decompress(stored: &[u8], prefix: &[u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
    if raw_bytes > MAX_FRAME_BYTES {
        return Err(format!("a frame of {raw_bytes} bytes is over the limit of {MAX_FRAME_BYTES}"));
    }
    let explain = |code| format!("zstd: {}", get_error_name(code));
    let mut context = DCtx::create();
    context.set_parameter(DParameter::WindowLogMax(27)).map_err(explain)?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(explain)?;
    }
    let mut out = Vec::with_capacity(raw_bytes);
    context.decompress(&mut out, stored).map_err(explain)?;
    if out.len() != raw_bytes {
        return Err(format!("{} bytes in a frame of {raw_bytes}", out.len()));
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefix_makes_a_small_edit_small() {
        let old: Vec<u8> =
            (0..3000u32).flat_map(|i| format!("line {}\n", i.wrapping_mul(2654435761)).into_bytes()).collect();
        let mut new = old.clone();
        new.splice(20_000..20_003, *b"edited");
        let alone = compress(&new, &[], CAPTURE_LEVEL).expect("text compresses");
        let delta = compress(&new, &old, CAPTURE_LEVEL).expect("text compresses");
        assert!(delta.len() * 50 < alone.len(), "{} {}", delta.len(), alone.len());
        assert_eq!(decompress(&delta, &old, new.len()), Ok(new.clone()));
        assert_eq!(decompress(&alone, &[], new.len()), Ok(new));
    }

    #[test]
    fn wrong_bytes_are_an_error() {
        let raw = vec![7; 5000];
        let stored = compress(&raw, &[], 3).expect("zeros compress");
        assert!(decompress(&stored, &[], 4999).is_err());
        assert!(decompress(&stored, &[], 5001).is_err());
        assert!(decompress(&stored[..stored.len() - 1], &[], 5000).is_err());
        assert!(decompress(b"not zstd", &[], 10).is_err());
        assert!(decompress(&stored, &[], usize::MAX).is_err());
    }
}
