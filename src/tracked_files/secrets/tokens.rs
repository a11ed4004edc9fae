//! Lines of a file that hold a token: well-known forms, found in one pass.

use std::ops::{Range, RangeInclusive};

use memchr::{memchr_iter, memmem};

use super::MAX_KEY_HEADER_BYTES;

/// The most tokens that [`find_tokens`] reports.
pub(super) const MAX_TOKENS: usize = 10;

/// The longest content that is searched for tokens.
pub(super) const MAX_SEARCHED_BYTES: usize = 1 << 20;

/// A NUL in that many bytes makes content binary.
const BINARY_HEAD_BYTES: usize = 8 << 10;

/// A token in the text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The line that it begins in, counted from 1.
    pub line: usize,
    /// What it is, for people.
    pub kind: &'static str,
}

/// The form of a token that is one word: letters, digits, `_` and `-` between other characters.
pub(super) struct Form {
    pub(super) kind: &'static str,
    /// What it can begin with.
    pub(super) heads: &'static [&'static str],
    /// How many bytes follow.
    pub(super) length: RangeInclusive<usize>,
    /// Which bytes these can be.
    pub(super) alphabet: fn(u8) -> bool,
    /// What else must hold for the text before the word and for the bytes after the head.
    pub(super) also: fn(&[u8], &[u8]) -> bool,
}

pub(super) const FORMS: &[Form] = &[
    Form {
        kind: "AWS access key id",
        heads: &["AKIA", "ASIA"],
        length: 16..=16,
        alphabet: |b| b.is_ascii_uppercase() || b.is_ascii_digit(),
        also: |_, _| true,
    },
    Form {
        kind: "GitHub token",
        heads: &["ghp_", "gho_", "ghu_", "ghs_", "ghr_"],
        length: 36..=251,
        alphabet: |b| b.is_ascii_alphanumeric(),
        also: |_, _| true,
    },
    Form {
        kind: "GitHub token",
        heads: &["github_pat_"],
        length: 82..=244,
        alphabet: |b| b.is_ascii_alphanumeric() || b == b'_',
        also: |_, _| true,
    },
    Form {
        kind: "Slack token",
        heads: &["xoxa-", "xoxb-", "xoxp-", "xoxr-", "xoxs-"],
        length: 20..=250,
        alphabet: |b| b.is_ascii_alphanumeric() || b == b'-',
        also: |_, rest| count(rest, u8::is_ascii_digit) >= 8,
    },
    Form {
        kind: "Stripe live key",
        heads: &["sk_live_", "rk_live_"],
        length: 24..=247,
        alphabet: |b| b.is_ascii_alphanumeric(),
        also: |_, _| true,
    },
    Form {
        kind: "Google API key",
        heads: &["AIza"],
        length: 35..=35,
        alphabet: is_word_byte,
        also: |_, rest| is_random_looking(rest),
    },
    Form {
        kind: "API key of the form sk-...",
        heads: &["sk-"],
        length: 40..=250,
        alphabet: is_word_byte,
        also: |_, rest| is_random_looking(rest),
    },
    Form {
        kind: "Telegram bot token",
        heads: &["AA"],
        length: 33..=33,
        alphabet: is_word_byte,
        also: |before, _| ends_with_bot_id(before),
    },
];

/// What the heads of all forms begin with.
pub(super) const FIRST_BYTES: &[u8] = b"Agrsx";

/// The shortest token of all forms.
pub(super) const MIN_WORD_BYTES: usize = 20;

/// Where the body of a private key must begin, counted from its header; lines such as `Proc-Type` may come before it.
const KEY_BODY_BYTES: usize = 600;

/// Finds well-known tokens in text: the first ten at most, one per line and kind.
///
/// Content over 1 MiB and binary content is not searched. The time is linear in the length.
pub fn find_tokens(content: &[u8]) -> Vec<Token> {
    let head = content.get(..BINARY_HEAD_BYTES).unwrap_or(content);
    if content.len() > MAX_SEARCHED_BYTES || head.contains(&0) {
        return Vec::new();
    }
    let keys = private_keys(content).map(|at| (at, "private key"));
    let mut found: Vec<(usize, &'static str)> = keys.take(MAX_TOKENS).collect();
    let enough = found.len() + MAX_TOKENS;
    for_each_long_word(content, |word| {
        let start = word.start;
        if let Some(kind) = kind_of(content, word).filter(|_| found.len() < enough) {
            found.push((start, kind));
        }
    });
    found.sort_unstable();
    found.truncate(MAX_TOKENS);
    let (mut line, mut counted) = (1, 0);
    let mut tokens: Vec<Token> = Vec::with_capacity(found.len());
    for (at, kind) in found {
        line += memchr_iter(b'\n', content.get(counted..at).unwrap_or_default()).count();
        counted = at;
        let token = Token { line, kind };
        if !tokens.contains(&token) {
            tokens.push(token);
        }
    }
    tokens
}

pub(super) const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// How many bytes the search for long words looks at together, one for each bit of a mask.
const BLOCK_BYTES: usize = 64;

/// Visits the words of at least [`MIN_WORD_BYTES`], in their order.
///
/// All tokens but private keys are such words, and ordinary code has hardly any, so that one pass over the text does
/// the work of a search for each head. It takes a block at a time as a mask with a bit per byte, set in words.
pub(super) fn for_each_long_word(content: &[u8], mut visit: impl FnMut(Range<usize>)) {
    let (blocks, tail) = content.as_chunks::<BLOCK_BYTES>();
    // What follows the last whole block is filled up with bytes that belong to no word. These end the last word too,
    // for the tail is shorter than a block.
    let mut last = [0; BLOCK_BYTES];
    last.iter_mut().zip(tail).for_each(|(byte, tail)| *byte = *tail);
    // How long the word is that reaches to the end of the previous block.
    let mut open = 0;
    for (number, bytes) in blocks.iter().chain([&last]).enumerate() {
        let (block, mask) = (number * BLOCK_BYTES, word_mask(bytes));
        let continued = mask.trailing_ones() as usize;
        if continued == BLOCK_BYTES {
            open += BLOCK_BYTES;
            continue;
        }
        if open + continued >= MIN_WORD_BYTES {
            visit(block - open..block + continued);
        }
        open = mask.leading_ones() as usize;
        // Without the words that the block's edges cut.
        let mask = mask & (u64::MAX << continued) & (u64::MAX >> open);
        let mut starts = runs_of_min_word_bytes(mask);
        while starts != 0 {
            let start = starts.trailing_zeros();
            let end = start + (mask >> start).trailing_ones();
            visit(block + start as usize..block + end as usize);
            // The highest bit of the mask is never set, so that `end` is below 64.
            starts &= u64::MAX << end;
        }
    }
}

/// A bit for each byte, the first one lowest, set in words. Written so that the compiler makes vector code of it.
fn word_mask(block: &[u8; BLOCK_BYTES]) -> u64 {
    let flags = block.map(|byte| {
        let is_letter = (byte | 0x20).wrapping_sub(b'a') < 26;
        let is_digit = byte.wrapping_sub(b'0') < 10;
        u8::from(is_letter | is_digit | (byte == b'_') | (byte == b'-'))
    });
    let (eights, _) = flags.as_chunks::<8>();
    // The product moves the lowest bit of each byte into the highest byte.
    let bits = |eight: &[u8; 8]| u64::from_le_bytes(*eight).wrapping_mul(0x0102_0408_1020_4080) >> 56;
    eights.iter().rev().fold(0, |mask, eight| mask << 8 | bits(eight))
}

/// A bit wherever [`MIN_WORD_BYTES`] set bits begin.
fn runs_of_min_word_bytes(mask: u64) -> u64 {
    let two = mask & mask >> 1;
    let four = two & two >> 2;
    let eight = four & four >> 4;
    let sixteen = eight & eight >> 8;
    sixteen & four >> 16
}

/// The kind of token that a word is, if it is one.
fn kind_of(content: &[u8], word: Range<usize>) -> Option<&'static str> {
    let (before, rest) = content.get(..word.end)?.split_at_checked(word.start)?;
    let word = match rest {
        // The end of an escape, as in "\nAKIA...".
        [b'n' | b'r' | b't', rest @ ..] if before.ends_with(b"\\") => rest,
        rest => rest,
    };
    let word = word.get(word.iter().position(|b| *b != b'-')?..)?;
    if !word.first().is_some_and(|b| FIRST_BYTES.contains(b)) {
        return None;
    }
    let form = FORMS.iter().find(|form| {
        form.heads.iter().filter_map(|head| without_head(word, head.as_bytes())).any(|rest| {
            form.length.contains(&rest.len())
                && rest.iter().all(|b| (form.alphabet)(*b))
                && (form.also)(before, rest)
                && !is_placeholder(rest)
                && !has_sequence(rest)
        })
    })?;
    Some(form.kind)
}

/// [`slice::strip_prefix`] for heads of a few bytes that rarely fit: it calls no function to compare them.
fn without_head<'a>(word: &'a [u8], head: &[u8]) -> Option<&'a [u8]> {
    let (start, rest) = word.split_at_checked(head.len())?;
    start.iter().zip(head).all(|(a, b)| a == b).then_some(rest)
}

fn count(bytes: &[u8], is_counted: fn(&u8) -> bool) -> usize {
    bytes.iter().filter(|b| is_counted(b)).count()
}

/// Letters of both cases, digits, and a stretch without separators: no name that people gave.
fn is_random_looking(bytes: &[u8]) -> bool {
    count(bytes, u8::is_ascii_uppercase) >= 2
        && count(bytes, u8::is_ascii_lowercase) >= 2
        && count(bytes, u8::is_ascii_digit) >= 2
        && bytes.split(|b| matches!(b, b'_' | b'-')).any(|part| part.len() >= 12)
}

/// Whether the text ends with `:` after a number of 8 to 10 digits.
fn ends_with_bot_id(before: &[u8]) -> bool {
    let Some(number) = before.strip_suffix(b":") else { return false };
    let mut after_number = number.iter().rev().take(11).skip_while(|b| b.is_ascii_digit());
    let digits = number.iter().rev().take(11).take_while(|b| b.is_ascii_digit()).count();
    (8..=10).contains(&digits) && after_number.next().is_none_or(|b| !b.is_ascii_alphanumeric() && *b != b'_')
}

/// `EXAMPLE` in it, or hardly any different bytes: nothing that a service gave out.
fn is_placeholder(bytes: &[u8]) -> bool {
    let mut seen = [false; 256];
    for byte in bytes {
        if let Some(seen) = seen.get_mut(usize::from(*byte)) {
            *seen = true;
        }
    }
    seen.iter().filter(|seen| **seen).count() < 6
        || bytes.windows(7).any(|window| window.eq_ignore_ascii_case(b"example"))
}

/// Whether eight bytes in a row are the same or count upwards: `XXXXXXXX`, `12345678`.
fn has_sequence(bytes: &[u8]) -> bool {
    let has_step = |step: u8| {
        let mut length = 1;
        bytes.windows(2).any(|pair| {
            let continues = matches!(pair, [a, b] if a.checked_add(step) == Some(*b));
            length = if continues { length + 1 } else { 1 };
            length >= 8
        })
    };
    has_step(0) || has_step(1)
}

/// Where private keys begin: a header, and soon after it what can be the first line of a key. The header alone is
/// what programs that read keys have in them.
fn private_keys(content: &[u8]) -> impl Iterator<Item = usize> {
    // Nearly no text has one. The first search by memmem in a process asks the processor what it can do, which takes longer
    // than to search some kilobytes where it is a virtual one.
    let has_none = std::str::from_utf8(content).is_ok_and(|text| !text.contains("PRIVATE KEY"));
    let places = (!has_none).then(|| memmem::find_iter(content, b"PRIVATE KEY"));
    places.into_iter().flatten().filter_map(|at| {
        let before = content.get(at.saturating_sub(MAX_KEY_HEADER_BYTES)..at)?;
        let begin = memmem::rfind(before, b"-----BEGIN ")?;
        let kind = before.get(begin + b"-----BEGIN ".len()..)?;
        let rest = content.get(at + b"PRIVATE KEY".len()..)?;
        let rest = rest.strip_prefix(b" BLOCK").unwrap_or(rest).strip_prefix(b"-----")?;
        let near = rest.get(..KEY_BODY_BYTES).unwrap_or(rest);
        let body = near.get(..memmem::find(near, b"-----").unwrap_or(near.len()))?;
        let is_header = kind.iter().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || *b == b' ');
        let mut lines = body.split(|b| !b.is_ascii_alphanumeric() && !matches!(b, b'+' | b'/' | b'='));
        let has_body = lines.any(|line| line.len() >= 40 && !is_placeholder(line));
        (is_header && has_body).then(|| at - (before.len() - begin))
    })
}
