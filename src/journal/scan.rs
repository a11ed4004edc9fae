//! Walks the records of a journal, past damage.

use memchr::memmem;

use super::{MARKER, MAX_PAYLOAD_BYTES, RECORD_HEAD_BYTES, RECORD_TAIL_BYTES};
use crate::checksum;
use crate::decode::Decoder;

/// Longer damage is not searched for a flipped bit: each try hashes all of it.
const MAX_MENDED_BYTES: usize = 4096;

/// What stands at a place of a journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Item<'a> {
    /// A whole record with a right checksum.
    Record {
        /// Where it begins, counted from the first byte scanned.
        offset: usize,
        /// Where the next one begins.
        end: usize,
        /// What it holds.
        payload: &'a [u8],
    },
    /// Bytes that are no record, with whole records after them or of the length of one: something changed them.
    Damage {
        /// Where they begin.
        offset: usize,
        /// Where the next record begins, or the end.
        end: usize,
    },
    /// The beginning of a record at the very end, whose rest is missing or zeros: a writer was killed or lost power there,
    /// or the file was cut.
    Unfinished {
        /// Where it begins.
        offset: usize,
        /// The end.
        end: usize,
    },
}

enum Parsed<'a> {
    Whole { payload: &'a [u8], bytes: usize },
    Short,
    Wrong,
}

fn parse(bytes: &[u8]) -> Parsed<'_> {
    let mut decoder = Decoder::new(bytes);
    let head = bytes.get(..MARKER.len().min(bytes.len())).unwrap_or_default();
    if !MARKER.starts_with(head) {
        return Parsed::Wrong;
    }
    let (Ok(_), Ok(length)) = (decoder.array::<4>(), decoder.u32()) else { return Parsed::Short };
    let length = length as usize;
    if length > MAX_PAYLOAD_BYTES {
        return Parsed::Wrong;
    }
    let (Ok(payload), Ok(sum)) = (decoder.take(length), decoder.array::<RECORD_TAIL_BYTES>()) else {
        return Parsed::Short;
    };
    if checksum::of_parts(&[bytes.get(..RECORD_HEAD_BYTES).unwrap_or_default(), payload]) != sum {
        return Parsed::Wrong;
    }
    Parsed::Whole { payload, bytes: RECORD_HEAD_BYTES + length + RECORD_TAIL_BYTES }
}

/// Iterates over `bytes`, which begin where a record does.
pub fn scan(bytes: &[u8]) -> impl Iterator<Item = Item<'_>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        let rest = bytes.get(at..).filter(|rest| !rest.is_empty())?;
        let offset = at;
        let unfinished = match parse(rest) {
            Parsed::Whole { payload, bytes } => {
                at += bytes;
                return Some(Item::Record { offset, end: at, payload });
            }
            Parsed::Short => true,
            // After a power cut a file may have its new length and zeros in place of what was never flushed.
            Parsed::Wrong => {
                rest.last_chunk::<RECORD_TAIL_BYTES>().unwrap_or(&[0; RECORD_TAIL_BYTES]) == &[0; RECORD_TAIL_BYTES]
            }
        };
        let next = memmem::find_iter(rest.get(1..).unwrap_or_default(), &MARKER)
            .map(|found| found + 1)
            .find(|&found| matches!(rest.get(found..).map(parse), Some(Parsed::Whole { .. })));
        at = next.map_or(bytes.len(), |next| offset + next);
        Some(if unfinished && next.is_none() {
            Item::Unfinished { offset, end: at }
        } else {
            Item::Damage { offset, end: at }
        })
    })
}

/// Finds the one flipped bit that kept `bytes` from being a record, and gives the payload without it.
///
/// The checksum has 64 bits: no other payload could have it by chance.
pub fn mend(bytes: &[u8]) -> Option<Vec<u8>> {
    if bytes.len() > MAX_MENDED_BYTES {
        return None;
    }
    let mut tried = bytes.to_vec();
    for bit in 0..bytes.len() * 8 {
        let mask = 1 << (bit % 8);
        *tried.get_mut(bit / 8)? ^= mask;
        if let Parsed::Whole { payload, bytes: length } = parse(&tried)
            && length == bytes.len()
        {
            return Some(payload.to_vec());
        }
        *tried.get_mut(bit / 8)? ^= mask;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::push_framed;
    use super::*;
    use proptest::prelude::*;

    fn journal() -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut starts = Vec::new();
        for payload in [&b"first"[..], b"", b"the third one", b"fourth"] {
            starts.push(bytes.len());
            push_framed(&mut bytes, payload);
        }
        (bytes, starts)
    }

    fn payloads(bytes: &[u8]) -> Vec<Vec<u8>> {
        scan(bytes)
            .filter_map(|item| match item {
                Item::Record { payload, .. } => Some(payload.to_vec()),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_flipped_bit_costs_one_record() {
        let (bytes, starts) = journal();
        assert_eq!(payloads(&bytes).len(), 4);
        for at in 0..bytes.len() * 8 {
            let mut hurt = bytes.clone();
            hurt[at / 8] ^= 1 << (at % 8);
            let hit = starts.iter().rposition(|start| *start <= at / 8).expect("some record");
            let mut left = payloads(&bytes);
            left.remove(hit);
            assert_eq!(payloads(&hurt), left, "bit {at}");
            assert!(scan(&hurt).any(|item| !matches!(item, Item::Record { .. })));
        }
    }

    #[test]
    fn one_flipped_bit_can_be_undone() {
        let mut record = Vec::new();
        push_framed(&mut record, b"the third one");
        for at in 0..record.len() * 8 {
            let mut hurt = record.clone();
            hurt[at / 8] ^= 1 << (at % 8);
            assert_eq!(mend(&hurt).as_deref(), Some(&b"the third one"[..]), "bit {at}");
            hurt[(at / 8 + 1) % record.len()] ^= 1;
            assert_eq!(mend(&hurt), None, "bit {at} and another");
        }
    }

    #[test]
    fn a_cut_leaves_the_records_before_it() {
        let (bytes, starts) = journal();
        for end in 0..bytes.len() {
            let whole = starts.iter().skip(1).filter(|start| **start <= end).count();
            assert_eq!(payloads(&bytes[..end]).len(), whole, "{end}");
            let clean = starts.contains(&end);
            assert_eq!(scan(&bytes[..end]).any(|item| matches!(item, Item::Unfinished { .. })), !clean, "{end}");
        }
    }

    #[test]
    fn zeros_at_the_end_are_unfinished() {
        let (mut bytes, starts) = journal();
        let end = bytes.len();
        for zeroed in [starts[3]..end, starts[3] + 9..end, end - 8..end] {
            let mut hurt = bytes.clone();
            hurt[zeroed].fill(0);
            assert_eq!(scan(&hurt).last(), Some(Item::Unfinished { offset: starts[3], end }));
        }
        bytes.extend([0; 3]);
        assert_eq!(scan(&bytes).last(), Some(Item::Unfinished { offset: end, end: end + 3 }));
    }

    proptest! {
        #[test]
        fn scanning_covers_every_byte(bytes in proptest::collection::vec(prop_oneof![Just(0xf2u8), Just(b'r'), Just(b'u'), Just(b'n'), any::<u8>()], 0..200)) {
            let mut at = 0;
            for item in scan(&bytes) {
                let (Item::Record { offset, end, .. } | Item::Damage { offset, end } | Item::Unfinished { offset, end }) = item;
                prop_assert_eq!(offset, at);
                prop_assert!(end > offset);
                at = end;
            }
            prop_assert_eq!(at, bytes.len());
        }
    }
}
