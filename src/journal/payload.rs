//! A record's payload: JSON, with its ids in binary, compressed against a text that has the same words.

use std::borrow::Cow;
use std::cell::RefCell;

use lz4_flex::block::{compress_with_dict, decompress_with_dict};
use serde_json::Value;
use zstd::zstd_safe::{DCtx, DParameter, ResetDirective, get_error_name};

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::hex_digits;
use crate::pack::compression::MAX_FRAME_BYTES;
use crate::run_record::RunRecord;

/// The text that payloads are compressed against. It is part of the format: it never changes, a better one gets a
/// number of its own.
const DICTIONARY_1: &[u8] = include_bytes!("../../schema/run-record-dictionary-1.json");
/// The text as it is.
const PLAIN: u8 = 0;
/// One zstd frame with `DICTIONARY_1` as prefix: read, and no longer written. It is shorter by a seventh until the journal is
/// merged, and took as long as all else in a session's run.
const ZSTD_DICTIONARY_1: u8 = 1;
/// One LZ4 block with `DICTIONARY_1` as prefix.
const LZ4_DICTIONARY_1: u8 = 2;
/// What most records need before they are compressed.
const USUAL_JSON_BYTES: usize = 1024;

/// The lengths in hexadecimal digits of the strings that are kept in binary: packs, run ids, git commits, object ids. The
/// place in this list plus one is the control character that stands for such a string; JSON has none of its own.
const HEX_DIGITS: [usize; 4] = [16, 32, 40, 64];

/// Encodes a record.
pub fn encode_record(record: &RunRecord) -> Result<Vec<u8>, String> {
    let mut json = Vec::with_capacity(USUAL_JSON_BYTES);
    serde_json::to_writer(&mut json, record).map_err(|e| e.to_string())?;
    if json.len() > MAX_FRAME_BYTES {
        return Err(format!("it has {} bytes, the limit is {MAX_FRAME_BYTES}", json.len()));
    }
    let (text, ids) = extract_ids(&json);
    let stored = compress_with_dict(&text, DICTIONARY_1);
    let (encoding, stored) = if stored.len() < text.len() { (LZ4_DICTIONARY_1, &stored) } else { (PLAIN, &text) };
    let mut out = vec![encoding];
    push_varint(&mut out, ids.len() as u64);
    push_varint(&mut out, text.len() as u64);
    out.extend(ids);
    out.extend(stored);
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
            unpacked = unpack_zstd(decoder.rest(), text_bytes)?;
            &unpacked
        }
        LZ4_DICTIONARY_1 => {
            unpacked = unpack_lz4(decoder.rest(), text_bytes)?;
            &unpacked
        }
        other => return Err(format!("record encoding {other} is unknown")),
    };
    insert_ids(text, ids)
}

/// Decompresses an LZ4 block.
fn unpack_lz4(stored: &[u8], text_bytes: usize) -> DecodeResult<Vec<u8>> {
    // A byte of a block stands for 255 bytes at most, so that the allocation has a limit that the input sets.
    if text_bytes > MAX_FRAME_BYTES || text_bytes / 256 > stored.len() {
        return Err(format!("a text of {text_bytes} bytes in {}", stored.len()));
    }
    let text = decompress_with_dict(stored, text_bytes, DICTIONARY_1).map_err(|e| format!("LZ4: {e}"))?;
    if text.len() == text_bytes { Ok(text) } else { Err(format!("{} bytes in a text of {text_bytes}", text.len())) }
}

/// Decompresses a zstd frame. A thread keeps its context: making one takes longer than the text itself.
fn unpack_zstd(stored: &[u8], text_bytes: usize) -> DecodeResult<Vec<u8>> {
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

fn is_digit(character: u8) -> bool {
    matches!(character, b'0'..=b'9' | b'a'..=b'f')
}

/// The value of a hexadecimal digit: letters begin at 61, digits at 30.
fn digit(character: u8) -> u8 {
    (character & 0xf) + 9 * (character >> 6)
}

/// The form of the id that a text begins with, up to a quotation mark, and its digits.
fn id_at(text: &[u8]) -> Option<(u8, &[u8])> {
    // Mostly there is none.
    text.first().filter(|first| is_digit(**first))?;
    (1..).zip(HEX_DIGITS).find_map(|(form, digits)| {
        let (hex, rest) = text.split_at_checked(digits)?;
        // All of them, rather than up to the first that is none: so they are looked at many at once.
        let is_id = rest.first() == Some(&b'"') && hex.iter().fold(true, |all, character| all & is_digit(*character));
        is_id.then_some((form, hex))
    })
}

/// Replaces `"` hexadecimal digits `"` of the lengths in `HEX_DIGITS` by one character each, and collects their bytes.
fn extract_ids(json: &[u8]) -> (Vec<u8>, Vec<u8>) {
    let (mut text, mut ids) = (Vec::with_capacity(json.len()), Vec::new());
    // What stands between ids is copied in one piece: a record has some dozen fields, and two marks for each.
    let mut copied = 0;
    for (mark, _) in json.iter().enumerate().filter(|(_, character)| **character == b'"') {
        let Some((form, hex)) = json.get(mark + 1..).and_then(id_at) else { continue };
        ids.extend(hex.as_chunks().0.iter().map(|[high, low]| digit(*high) << 4 | digit(*low)));
        text.extend_from_slice(json.get(copied..=mark).unwrap_or_default());
        text.push(form);
        copied = mark + 1 + hex.len();
    }
    text.extend_from_slice(json.get(copied..).unwrap_or_default());
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
    fn records_that_zstd_has_compressed_are_still_read() {
        // {"type":"forget","run":"<02>","time":"2026-01-01T00:00:00.000000Z"}
        let text = b"{\"type\":\"forget\",\"run\":\"\x02\",\"time\":\"2026-01-01T00:00:00.000000Z\"}";
        let mut context = zstd::zstd_safe::CCtx::create();
        context.ref_prefix(DICTIONARY_1).expect("a prefix");
        let mut stored = Vec::with_capacity(zstd::zstd_safe::compress_bound(text.len()));
        context.compress2(&mut stored, text).expect("compresses");
        let mut payload = vec![ZSTD_DICTIONARY_1, 16, text.len() as u8];
        payload.extend([0xab; 16]);
        payload.extend(stored);
        let time = "2026-01-01T00:00:00.000000Z".to_owned();
        assert_eq!(decode_record(&payload), Ok(RunRecord::Forget(RunForget { run: RunId([0xab; 16]), time })));
    }

    #[test]
    fn an_lz4_block_reaches_into_the_dictionary() {
        // As schema/store.md has it.
        let run = [0x18, 0x86, 0x72, 0x51, 0xed, 0xfa, 0, 0, 1, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef];
        let mut payload = vec![LZ4_DICTIONARY_1, 16, 64];
        payload.extend(run);
        payload.extend([0x0f, 0x9b, 0x04, 0x05, 0x1b, 0x02, 0x9c, 0x04, 0xf0, 0x09]);
        payload.extend(b"01-01T00:00:00.000000Z\"}");
        assert_eq!(payload.len(), 53);
        let time = "2026-01-01T00:00:00.000000Z".to_owned();
        assert_eq!(decode_record(&payload), Ok(RunRecord::Forget(RunForget { run: RunId(run), time })));
        // Five bytes of the dictionary, and then these again: a match from one into the other.
        let end = DICTIONARY_1.last_chunk::<5>().expect("long enough");
        assert_eq!(unpack_lz4(&[0x06, 5, 0, 0x10, b'x'], 11), Ok([&end[..], end, b"x"].concat()));
        for (block, text_bytes) in
            [(&[0x06, 5, 0][..], 11), (&[0x06, 0, 0, 0x10, b'x'], 11), (&[0x06, 0xff, 0xff, 0x10, b'x'], 11)]
        {
            assert!(unpack_lz4(block, text_bytes).is_err(), "{block:?}");
        }
    }

    #[test]
    fn a_long_record_round_trips() {
        let tags: Vec<String> = (0..20_000).map(|n| format!("tag-{}", n * n)).collect();
        let update =
            RunUpdate { run: RunId([1; 16]), time: String::new(), sequence: 0, metrics: Default::default(), tags };
        let record = RunRecord::Update(update);
        let payload = encode_record(&record).expect("encodes");
        assert_eq!(payload.first(), Some(&LZ4_DICTIONARY_1));
        assert_eq!(decode_record(&payload), Ok(record));
    }

    #[test]
    fn no_length_decides_an_allocation_by_itself() {
        let mut payload = vec![LZ4_DICTIONARY_1, 0];
        push_varint(&mut payload, MAX_FRAME_BYTES as u64);
        payload.extend([0x10, b'{']);
        let reason = decode_record(&payload).expect_err("too long");
        assert!(reason.starts_with("a text of 67108864 bytes in 2"), "{reason}");
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

        #[test]
        fn a_changed_payload_never_panics(at in any::<proptest::sample::Index>(), byte in any::<u8>(), cut in 0_usize..40) {
            let tags = vec!["baseline".to_owned(), "0123456789abcdef".to_owned()];
            let record = RunRecord::Update(RunUpdate {
                run: RunId([1; 16]), time: "2026-01-01T00:00:00.000000Z".to_owned(), sequence: 0, metrics: Default::default(), tags,
            });
            let mut payload = encode_record(&record).expect("encodes");
            prop_assert_eq!(payload.first(), Some(&LZ4_DICTIONARY_1));
            payload.truncate(payload.len() - cut);
            let at = at.index(payload.len());
            payload[at] = byte;
            let _ = decode_record(&payload);
        }
    }
}
