//! zstd as packs and journals use it: one call a frame, with another object's content as prefix where there is one.

use std::cell::RefCell;

use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, compress_bound, get_error_name,
};

/// The zstd level of captures.
///
/// Measured on 300 tuning edits of a 5.5 MB project: level 3 stores a quarter more, level 12 costs twice the time for
/// 3 % less. Compaction is where more effort pays.
pub const CAPTURE_LEVEL: i32 = 9;

/// The zstd level of captures that bring tens of megabytes at once, mostly the first of a large tree: a third of the time of
/// [`CAPTURE_LEVEL`]. Merges compress it again.
pub const BULK_LEVEL: i32 = 3;

/// The zstd level of captures that bring a few objects of some kilobytes: for content as short as that, level 9 goes through
/// all possibilities, for a few bytes less.
pub const SMALL_LEVEL: i32 = 6;

/// The largest frame that is decoded, whatever a table says.
pub const MAX_FRAME_BYTES: usize = 64 << 20;

/// Longer content gets a window of its own length.
const LARGE_BYTES: usize = 2 << 20;

/// The zstd level of merges that captures do by the way: better than a capture's, at 50 to 150 MB/s.
pub const MERGE_LEVEL: i32 = 12;

/// The zstd level of `gc`: the best that pays. Level 22 takes twice the time for half a percent.
pub const COMPACT_LEVEL: i32 = 19;

/// The windowLog of frames of short files, 4 MiB, and of several long ones, 8 MiB: some versions of one stand in it.
///
/// Whoever wants a part of a long frame decodes it through no more memory than this, which stays in the processor's cache:
/// a history of 50 MB takes 7 ms so, and 55 ms with all of it laid out. Windows without bounds store 1 % less.
const WINDOW_LOG: u32 = 22;
const LONG_WINDOW_LOG: u32 = 23;
/// Longer files are long.
const LONG_FILE_BYTES: usize = 1 << 20;
/// Behind a longer prefix the window has to reach further.
const MAX_PREFIX_BYTES: usize = 4 << 20;

/// The windowLog that covers prefix and content together, as far as that pays; `typical` is as in [`Compressor::compress_files`].
fn window_log(prefix: usize, raw: usize, typical: usize) -> u32 {
    let most = match typical.max(prefix) {
        bytes if bytes <= LONG_FILE_BYTES => WINDOW_LOG,
        bytes if bytes <= MAX_PREFIX_BYTES => LONG_WINDOW_LOG,
        _ => MAX_READ_WINDOW_LOG,
    };
    (usize::BITS - (prefix + raw).max(1024).leading_zeros()).clamp(10, most)
}

/// The windowLog of the longest window that is read.
const MAX_READ_WINDOW_LOG: u32 = 27;

/// Compresses `raw` against `prefix` (empty for none). `None` where the result would not be smaller.
pub fn compress(raw: &[u8], prefix: &[u8], level: i32) -> Option<Vec<u8>> {
    try_compress(raw, prefix, level, raw.len()).filter(|out| out.len() < raw.len())
}

/// Compresses `raw`, whether or not that makes it smaller.
pub fn compress_always(raw: &[u8], level: i32) -> Vec<u8> {
    // zstd fails for want of memory alone, or for parameters out of range.
    try_compress(raw, &[], level, raw.len()).expect("zstd compresses anything into a buffer of its bound")
}

fn try_compress(raw: &[u8], prefix: &[u8], level: i32, typical: usize) -> Option<Vec<u8>> {
    Compressor::new().try_compress(raw, prefix, level, typical)
}

/// Compresses one thing after the other in the same memory. What it is given as prefixes must live as long as it does.
pub struct Compressor<'p> {
    context: CCtx<'p>,
}

impl Default for Compressor<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'p> Compressor<'p> {
    /// A new one.
    pub fn new() -> Self {
        Self { context: CCtx::create() }
    }

    /// Compresses as [`compress`] does. `raw` consists of files of up to `typical` bytes, one longer file aside: that has no
    /// other version there that it could be a difference to.
    pub fn compress_files(&mut self, raw: &[u8], prefix: &'p [u8], level: i32, typical: usize) -> Option<Vec<u8>> {
        self.try_compress(raw, prefix, level, typical).filter(|out| out.len() < raw.len())
    }

    fn try_compress(&mut self, raw: &[u8], prefix: &'p [u8], level: i32, typical: usize) -> Option<Vec<u8>> {
        let context = &mut self.context;
        context.reset(ResetDirective::SessionAndParameters).ok()?;
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
            let log = window_log(prefix.len(), raw.len(), typical);
            parameters.push(CParameter::WindowLog(log));
            if level == SMALL_LEVEL {
                // The level's own tables are twice as large, which shows in no pack, and take longer to clear.
                parameters.extend([CParameter::HashLog(log - 1), CParameter::ChainLog(log - 1)]);
            }
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
}

/// Decompresses one frame after the other in the same memory. What it is given as prefixes must live as long as it does.
pub struct Decompressor<'p> {
    context: DCtx<'p>,
}

impl Default for Decompressor<'_> {
    fn default() -> Self {
        Self::new()
    }
}

impl<'p> Decompressor<'p> {
    /// A new one.
    pub fn new() -> Self {
        Self { context: DCtx::create() }
    }

    /// Decompresses as [`decompress`] does.
    pub fn decompress(&mut self, stored: &[u8], prefix: &'p [u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
        self.context.reset(ResetDirective::SessionAndParameters).map_err(explain)?;
        prepare(&mut self.context, prefix)?;
        decompress_in(&mut self.context, stored, raw_bytes)
    }
}

fn decompress_in(context: &mut DCtx<'_>, stored: &[u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
    if raw_bytes > MAX_FRAME_BYTES {
        return Err(format!("a frame of {raw_bytes} bytes is over the limit of {MAX_FRAME_BYTES}"));
    }
    let mut out = Vec::with_capacity(raw_bytes);
    context.decompress(&mut out, stored).map_err(explain)?;
    if out.len() != raw_bytes {
        return Err(format!("{} bytes in a frame of {raw_bytes}", out.len()));
    }
    Ok(out)
}

/// Decompresses one zstd frame of exactly `raw_bytes`.
pub fn decompress(stored: &[u8], prefix: &[u8], raw_bytes: usize) -> Result<Vec<u8>, String> {
    if !prefix.is_empty() || raw_bytes > SHORT_BYTES {
        return decompress_in(&mut decoding_context(prefix)?, stored, raw_bytes);
    }
    // Tables of packs and the like, by the dozen: to make a context takes longer than to decode one.
    thread_local! {
        static CONTEXT: RefCell<Decompressor<'static>> = RefCell::new(Decompressor::new());
    }
    CONTEXT.with_borrow_mut(|context| context.decompress(stored, &[], raw_bytes))
}

/// What is no longer than this is decoded in a context that its thread keeps.
const SHORT_BYTES: usize = 256 << 10;

fn explain(code: ErrorCode) -> String {
    format!("zstd: {}", get_error_name(code))
}

fn decoding_context(prefix: &[u8]) -> Result<DCtx<'_>, String> {
    let mut context = DCtx::create();
    prepare(&mut context, prefix)?;
    Ok(context)
}

fn prepare<'p>(context: &mut DCtx<'p>, prefix: &'p [u8]) -> Result<(), String> {
    context.set_parameter(DParameter::WindowLogMax(MAX_READ_WINDOW_LOG)).map_err(explain)?;
    if !prefix.is_empty() {
        context.ref_prefix(prefix).map_err(explain)?;
    }
    Ok(())
}

/// Decompresses one zstd frame piece by piece, from its beginning to where the reader has enough.
pub struct FrameDecoder<'f> {
    context: DCtx<'f>,
    stored: InBuffer<'f>,
    /// What nobody wants is decoded into this.
    unwanted: Vec<u8>,
    ended: bool,
}

/// What nobody wants is decoded in pieces of this length.
const UNWANTED_BYTES: usize = 64 << 10;

impl<'f> FrameDecoder<'f> {
    /// Begins a frame; `prefix` is the content that it is a difference to, empty for none.
    pub fn new(stored: &'f [u8], prefix: &'f [u8]) -> Result<Self, String> {
        let context = decoding_context(prefix)?;
        Ok(Self { context, stored: InBuffer::around(stored), unwanted: Vec::new(), ended: false })
    }

    /// Puts the next `bytes` bytes into `out` and nothing else; the caller has held the number against a limit.
    pub fn read(&mut self, bytes: usize, out: &mut Vec<u8>) -> Result<(), String> {
        out.resize(bytes, 0);
        self.fill(out)
    }

    /// Passes over the next `bytes` bytes.
    pub fn skip(&mut self, bytes: usize) -> Result<(), String> {
        let mut unwanted = std::mem::take(&mut self.unwanted);
        unwanted.resize(UNWANTED_BYTES, 0);
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(UNWANTED_BYTES);
            self.fill(unwanted.get_mut(..piece).unwrap_or_default())?;
            left -= piece;
        }
        self.unwanted = unwanted;
        Ok(())
    }

    /// Refuses a frame that goes on, or that anything stands behind.
    pub fn finish(mut self) -> Result<(), String> {
        self.fill(&mut [])?;
        match self.stored.pos == self.stored.src.len() {
            true if self.ended => Ok(()),
            _ => Err("more bytes than its frame has".into()),
        }
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), String> {
        let wanted = out.len();
        let mut out = OutBuffer::around(out);
        // Without anything wanted there may still be the mark of the frame's end to be read.
        while out.pos() < wanted || (wanted == 0 && !self.ended) {
            if self.ended {
                return Err("fewer bytes than its frame should have".into());
            }
            let before = (out.pos(), self.stored.pos);
            let left = self.context.decompress_stream(&mut out, &mut self.stored).map_err(explain)?;
            self.ended = left == 0;
            if !self.ended && before == (out.pos(), self.stored.pos) {
                return Err(if wanted == 0 { "more bytes than its frame has" } else { "it is cut short" }.into());
            }
        }
        Ok(())
    }
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
    fn a_frame_is_decoded_as_far_as_is_wanted() {
        let old: Vec<u8> = (0..400_000u32).flat_map(|i| i.wrapping_mul(2654435761).to_le_bytes()).collect();
        let raw: Vec<u8> = old.iter().map(|byte| byte ^ u8::from(*byte == 7)).collect();
        for prefix in [&old[..], &[]] {
            let stored = compress_with(&raw, prefix);
            let mut decoder = FrameDecoder::new(&stored, prefix).expect("begins");
            decoder.skip(1000).expect("skips");
            let mut piece = vec![1; 700];
            decoder.read(500, &mut piece).expect("reads");
            assert_eq!(piece, raw[1000..1500]);
            decoder.skip(300_000).expect("skips");
            decoder.read(raw.len() - 301_500, &mut piece).expect("reads");
            assert_eq!(piece, raw[301_500..]);
            decoder.finish().expect("is at its end");
            let mut decoder = FrameDecoder::new(&stored, prefix).expect("begins");
            decoder.skip(raw.len() - 1).expect("skips");
            assert!(decoder.read(2, &mut piece).is_err(), "more than there is");
            let mut decoder = FrameDecoder::new(&stored, prefix).expect("begins");
            decoder.skip(raw.len() - 1).expect("skips");
            assert!(decoder.finish().is_err(), "it goes on");
            let mut decoder = FrameDecoder::new(&stored[..stored.len() / 2], prefix).expect("begins");
            assert!(decoder.skip(raw.len()).is_err(), "cut short");
            let twice = [&stored[..], &stored].concat();
            let mut decoder = FrameDecoder::new(&twice, prefix).expect("begins");
            decoder.skip(raw.len()).expect("skips");
            assert!(decoder.finish().is_err(), "something stands behind it");
        }
        assert!(FrameDecoder::new(b"not zstd", &[]).expect("begins").read(1, &mut Vec::new()).is_err());
    }

    fn compress_with(raw: &[u8], prefix: &[u8]) -> Vec<u8> {
        try_compress(raw, prefix, 3, raw.len()).expect("compresses")
    }

    #[test]
    fn windows_end_at_their_limit_except_behind_a_long_prefix() {
        assert_eq!(window_log(0, 500, 500), 11);
        assert_eq!(window_log(0, 16 << 20, LONG_FILE_BYTES), WINDOW_LOG);
        assert_eq!(window_log(0, 16 << 20, LONG_FILE_BYTES + 1), LONG_WINDOW_LOG);
        assert_eq!(window_log(MAX_PREFIX_BYTES, 16 << 20, 5), LONG_WINDOW_LOG);
        assert_eq!(window_log(MAX_PREFIX_BYTES + 1, 16 << 20, 5), 25);
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
