//! A record's payload: JSON, with its ids in binary, compressed against a text that has the same words.

use std::borrow::Cow;
use std::cell::RefCell;

use serde_json::Value;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, DParameter, ParamSwitch, ResetDirective, Strategy, compress_bound, get_error_name,
};

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::hex_digits;
use crate::pack::compression::MAX_FRAME_BYTES;
use crate::run_record::RunRecord;

/// The text that payloads are compressed against. It is part of the format: it never changes, a better one gets a
/// number of its own.
const DICTIONARY_1: &[u8] = include_bytes!("../../schema/run-record-dictionary-1.json");
/// The text as it is.
const PLAIN: u8 = 0;
/// One zstd frame with `DICTIONARY_1` as prefix.
const ZSTD_DICTIONARY_1: u8 = 1;
/// What a level higher finds makes a record shorter by one byte in thirty, and takes twice as long.
const LEVEL: i32 = 5;

/// The lengths in hexadecimal digits of the strings that are kept in binary: packs, run ids, git commits, object ids. The
/// place in this list plus one is the control character that stands for such a string; JSON has none of its own.
const HEX_DIGITS: [usize; 4] = [16, 32, 40, 64];

/// Encodes a record.
pub fn encode_record(record: &RunRecord) -> Result<Vec<u8>, String> {
    let json = serde_json::to_vec(record).map_err(|e| e.to_string())?;
    if json.len() > MAX_FRAME_BYTES {
        return Err(format!("it has {} bytes, the limit is {MAX_FRAME_BYTES}", json.len()));
    }
    let (text, ids) = extract_ids(&json);
    let stored = pack(&text).filter(|stored| stored.len() < text.len());
    let mut out = vec![if stored.is_some() { ZSTD_DICTIONARY_1 } else { PLAIN }];
    push_varint(&mut out, ids.len() as u64);
    push_varint(&mut out, text.len() as u64);
    out.extend(ids);
    out.extend(stored.unwrap_or(text));
    Ok(out)
}

/// Decodes a record.
pub fn decode_record(payload: &[u8]) -> DecodeResult<RunRecord> {
    serde_json::from_slice(&decode_json(payload)?).map_err(|e| format!("not a run record: {e}"))
}

/// The name that a record gives a run, if it is the start of one that has a name. A quarter of the work of decoding it.
pub fn decode_name(payload: &[u8]) -> DecodeResult<Option<String>> {
    #[derive(serde::Deserialize)]
    struct Named<'r> {
        #[serde(borrow, rename = "type")]
        kind: Cow<'r, str>,
        #[serde(borrow, default)]
        name: Option<Cow<'r, str>>,
    }
    let json = decode_json(payload)?;
    let named: Named<'_> = serde_json::from_slice(&json).map_err(|e| format!("not a run record: {e}"))?;
    Ok(named.name.filter(|_| named.kind == "start").map(Cow::into_owned))
}

/// Decodes a record as JSON, fields of newer versions included. It need not be a run record.
pub fn decode_value(payload: &[u8]) -> DecodeResult<Value> {
    serde_json::from_slice(&decode_json(payload)?).map_err(|e| format!("not JSON: {e}"))
}

fn decode_json(payload: &[u8]) -> DecodeResult<Vec<u8>> {
    let mut decoder = Decoder::new(payload);
    let encoding = decoder.u8()?;
    let id_bytes = decoder.count(1)?;
    let text_bytes = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
    let ids = decoder.take(id_bytes)?;
    let unpacked;
    let text = match encoding {
        PLAIN if decoder.rest().len() == text_bytes => decoder.rest(),
        PLAIN => return Err("a plain text of another length than it says".into()),
        ZSTD_DICTIONARY_1 => {
            unpacked = unpack(decoder.rest(), text_bytes)?;
            &unpacked
        }
        other => return Err(format!("record encoding {other} is unknown")),
    };
    insert_ids(text, ids)
}

/// Compresses a text. A thread keeps its context.
fn pack(text: &[u8]) -> Option<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<Option<PackingContext>> = const { RefCell::new(None) };
    }
    CONTEXT.with_borrow_mut(|context| {
        // What fails leaves no context behind.
        let (packed, used) = match context.take() {
            None => PackingContext::first(text)?,
            Some(context) => context.next(text)?,
        };
        *context = Some(used);
        Some(packed)
    })
}

/// A context of zstd for texts.
struct PackingContext {
    context: CCtx<'static>,
    has_dictionary: bool,
}

impl PackingContext {
    /// Compresses a thread's first text, which in a command is the only one: against the dictionary as it is.
    fn first(text: &[u8]) -> Option<(Vec<u8>, Self)> {
        let mut context = CCtx::create();
        for parameter in [
            CParameter::CompressionLevel(LEVEL),
            // A record and the dictionary are found in these. Tables of the level's own size take longer to clear than a
            // record takes to be compressed.
            CParameter::WindowLog(14),
            CParameter::HashLog(11),
            CParameter::ChainLog(11),
            CParameter::Strategy(Strategy::ZSTD_greedy),
            // A Huffman table for some dozen letters takes as long to make as all the rest.
            CParameter::LiteralCompressionMode(ParamSwitch::Disable),
            CParameter::ContentSizeFlag(false),
            CParameter::ChecksumFlag(false),
            CParameter::DictIdFlag(false),
        ] {
            context.set_parameter(parameter).ok()?;
        }
        context.ref_prefix(DICTIONARY_1).ok()?;
        Self { context, has_dictionary: false }.compress(text)
    }

    /// Compresses another: the dictionary is made ready once, which takes far longer than a text does.
    fn next(mut self, text: &[u8]) -> Option<(Vec<u8>, Self)> {
        if !self.has_dictionary {
            // It does not begin as a trained dictionary does: zstd takes it for plain content, as a prefix is.
            self.context.load_dictionary(DICTIONARY_1).ok()?;
            self.has_dictionary = true;
        }
        self.compress(text)
    }

    fn compress(mut self, text: &[u8]) -> Option<(Vec<u8>, Self)> {
        let mut out = Vec::with_capacity(compress_bound(text.len()));
        self.context.compress2(&mut out, text).ok()?;
        Some((out, self))
    }
}

/// Decompresses a text. A thread keeps its context: making one takes longer than the text itself.
fn unpack(stored: &[u8], text_bytes: usize) -> DecodeResult<Vec<u8>> {
    thread_local! {
        static CONTEXT: RefCell<DCtx<'static>> = RefCell::new(DCtx::create());
    }
    if text_bytes > MAX_FRAME_BYTES {
        return Err(format!("a text of {text_bytes} bytes is over the limit of {MAX_FRAME_BYTES}"));
    }
    let explain = |code| format!("zstd: {}", get_error_name(code));
    CONTEXT.with_borrow_mut(|context| {
        context.reset(ResetDirective::SessionAndParameters).map_err(explain)?;
        context.set_parameter(DParameter::WindowLogMax(27)).map_err(explain)?;
        context.ref_prefix(DICTIONARY_1).map_err(explain)?;
        let mut text = Vec::with_capacity(text_bytes);
        context.decompress(&mut text, stored).map_err(explain)?;
        if text.len() == text_bytes { Ok(text) } else { Err(format!("{} bytes in a text of {text_bytes}", text.len())) }
    })
}

/// Replaces `"` hexadecimal digits `"` of the lengths in `HEX_DIGITS` by one character each, and collects their bytes.
fn extract_ids(json: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut text, mut ids) = (Vec::with_capacity(json.len()), Vec::new());
    let mut rest = json;
    while let Some((&first, tail)) = rest.split_first() {
        text.push(first);
        rest = tail;
        if first != b'"' {
            continue;
        }
        let digits = tail.iter().take(65).take_while(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')).count();
        let Some(form) = HEX_DIGITS.iter().position(|d| *d == digits) else { continue };
        if tail.get(digits) != Some(&b'"') {
            continue;
        }
        let (hex, after) = tail.split_at(digits);
        let digit = |b: u8| if b.is_ascii_digit() { b - b'0' } else { b - b'a' + 10 };
        ids.extend(hex.chunks_exact(2).filter_map(|pair| Some(digit(*pair.first()?) << 4 | digit(*pair.get(1)?))));
        text.push(form as u8 + 1);
        rest = after;
    }
    (text, ids)
}

fn insert_ids(text: &[u8], ids: &[u8]) -> DecodeResult<Vec<u8>> {
    let mut ids = Decoder::new(ids);
    let mut json = Vec::with_capacity(text.len() + 2 * ids.rest().len());
    for &byte in text {
        match HEX_DIGITS.get(usize::from(byte).wrapping_sub(1)) {
            Some(digits) => {
                json.extend(hex_digits(ids.take(digits / 2)?));
            }
            None => json.push(byte),
        }
    }
    ids.finish()?;
    Ok(json)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::RunId;
    use crate::run_record::{RunForget, RunUpdate};
    use proptest::prelude::*;

    #[test]
    fn the_dictionary_is_part_of_the_format() {
        let hash = crate::id::ObjectId::of(DICTIONARY_1).to_string();
        let documented = include_str!("../../schema/store.md");
        assert!(documented.contains(&hash), "schema/store.md does not name {hash}");
    }

    #[test]
    fn ids_take_their_bytes_and_no_digits() {
        let record =
            RunRecord::Forget(RunForget { run: RunId([0xab; 16]), time: "2026-01-01T00:00:00.000000Z".to_owned() });
        let payload = encode_record(&record).expect("encodes");
        assert!(payload.windows(16).any(|w| w == [0xab; 16]));
        assert!(payload.len() < 60, "{}", payload.len());
        assert_eq!(decode_record(&payload), Ok(record));
    }

    #[test]
    fn the_first_text_of_a_thread_is_packed_as_well_as_others() {
        let text = br#"{"type":"start","name":"momentum-17","files":356,"bytes":5496860,"tracked_by":"tree"}"#;
        let (first, context) = PackingContext::first(text).expect("packs");
        let (second, context) = context.next(text).expect("packs");
        let (third, _) = context.next(text).expect("packs");
        assert_eq!((first.len(), &second), (third.len(), &third));
        assert!(first.len() < text.len() * 3 / 4, "{}", first.len());
        for packed in [first, second] {
            assert_eq!(unpack(&packed, text.len()).as_deref(), Ok(&text[..]));
        }
    }

    proptest! {
        #[test]
        fn any_tag_round_trips(tags in proptest::collection::vec("([0-9a-f]{32}|[0-9a-f\"\\\\]{30,70}|\\PC*)", 0..4)) {
            let record = RunRecord::Update(RunUpdate {
                run: RunId([1; 16]), time: String::new(), sequence: 0, metrics: Default::default(), tags,
            });
            prop_assert_eq!(decode_record(&encode_record(&record).expect("encodes")), Ok(record));
        }

        #[test]
        fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
            let _ = decode_record(&bytes);
        }
    }
}
