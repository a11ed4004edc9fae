//! Which files are secrets as a whole, and which lines of other files hold a token.
//!
//! The former are left out of snapshots, the latter are stored and warned about: code that is missing from a snapshot
//! cannot be restored, a `.env` that is missing was never part of the code. Both lists hold well-known forms only;
//! nothing here guesses by entropy.

use std::ops::{Range, RangeInclusive};

use memchr::{memchr, memchr_iter, memmem, memrchr};

use crate::tracked_path::TrackedPath;

/// How much of a file's beginning [`is_whole_file_secret`] wants to see.
pub const HEAD_BYTES: usize = 64 << 10;

/// The most tokens that [`find_tokens`] reports.
const MAX_TOKENS: usize = 10;

/// The longest content that is searched for tokens.
const MAX_SEARCHED_BYTES: usize = 1 << 20;

/// How far the header line of a private key is followed: the longest in use has some 40 bytes.
const MAX_KEY_HEADER_BYTES: usize = 64;

/// A NUL in that many bytes makes content binary.
const BINARY_HEAD_BYTES: usize = 8 << 10;

/// Names of files that are secrets as a whole.
struct Rule {
    /// Lower-case names, `*` for any bytes; with folders before them where these must be there too.
    names: &'static [&'static str],
    /// What else must hold.
    when: When,
}

enum When {
    Always,
    /// No part of the name says that it is a template.
    NoTemplate,
    /// The beginning of the file is of this kind.
    Head(fn(&[u8]) -> bool),
}

const RULES: &[Rule] = &[
    // Environment variables.
    Rule { names: &["*.env", ".env.*"], when: When::NoTemplate },
    // Private keys. A PEM file may as well hold certificates or public keys.
    Rule { names: &["id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"], when: When::Always },
    Rule {
        names: &["*.pem", "*.key", "*.ppk", "*.p8", "*.pk8", "*.der", "*.priv", "*.asc", "*.gpg"],
        when: When::Head(holds_private_key),
    },
    // Key stores and password stores.
    Rule { names: &["*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"], when: When::Always },
    // Credentials of programs and services.
    Rule {
        names: &[".netrc", "_netrc", ".pgpass", "pgpass.conf", ".htpasswd", ".git-credentials"],
        when: When::Always,
    },
    Rule { names: &[".pypirc", ".cargo/credentials", ".cargo/credentials.toml"], when: When::Always },
    Rule { names: &[".aws/credentials", ".kube/config", ".dockercfg", ".vault-token"], when: When::Always },
    Rule { names: &[".npmrc"], when: When::Head(|head| holds(head, "_auth") || holds(head, "_password")) },
    Rule { names: &[".docker/config.json"], when: When::Head(|head| holds(head, "\"auths\"")) },
    Rule { names: &["kaggle.json"], when: When::Always },
    // Google's service accounts and OAuth clients.
    Rule { names: &["credentials.json", "application_default_credentials.json"], when: When::Always },
    Rule { names: &["*service*account*.json", "client_secret*.json"], when: When::NoTemplate },
    Rule { names: &["*.json"], when: When::Head(is_service_account) },
    // Settings that projects keep apart because they are secret; the last one is freqtrade's.
    Rule { names: &["secrets.yaml", "secrets.yml", "secrets.json", "secrets.toml"], when: When::Always },
    Rule { names: &[".secrets.yaml", ".secrets.yml", ".secrets.json", ".secrets.toml"], when: When::Always },
    Rule { names: &["config-private.json"], when: When::Always },
    // Whatever its name is.
    Rule { names: &["*"], when: When::Head(begins_as_private_key) },
];

/// Words in a file's name that say that it only shows which values are needed.
const TEMPLATE_WORDS: [&str; 8] =
    ["example", "examples", "sample", "template", "dist", "default", "defaults", "schema"];

/// Whether a file is a secret as a whole, going by its path and the first [`HEAD_BYTES`] of its content.
pub fn is_whole_file_secret(path: &TrackedPath, content_head: &[u8]) -> bool {
    let path = path.as_bytes().to_ascii_lowercase();
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let ending = memrchr(b'.', name).and_then(|dot| name.get(dot + 1..)).unwrap_or_default();
    if is_source_ending(ending) && !name.starts_with(b".env.") {
        return false;
    }
    RULES.iter().any(|rule| {
        rule.names.iter().any(|pattern| path_fits(pattern, &path))
            && match rule.when {
                When::Always => true,
                When::NoTemplate => !is_template(name),
                When::Head(is_secret) => is_secret(content_head),
            }
    })
}

/// The endings of source code and prose, which is never a secret as a whole, whatever text is in it.
#[rustfmt::skip]
fn is_source_ending(ending: &[u8]) -> bool {
    matches!(
        ending,
        b"py" | b"pyi" | b"pyx" | b"pxd" | b"ipynb" | b"rs" | b"c" | b"h" | b"cc" | b"hh" | b"cpp" | b"hpp" | b"cu"
            | b"java" | b"kt" | b"scala" | b"cs" | b"js" | b"jsx" | b"mjs" | b"cjs" | b"ts" | b"tsx" | b"go" | b"rb"
            | b"php" | b"pl" | b"lua" | b"r" | b"rmd" | b"jl" | b"m" | b"f90" | b"swift" | b"sh" | b"bash" | b"zsh"
            | b"ps1" | b"bat" | b"sql" | b"q" | b"mq4" | b"mq5" | b"pine"
            | b"md" | b"rst" | b"adoc" | b"tex" | b"html" | b"htm" | b"css"
    )
}

/// Whether the last parts of a path fit all the parts of a pattern.
fn path_fits(pattern: &str, path: &[u8]) -> bool {
    // Nearly all patterns fail here already.
    if !pattern.ends_with('*') && pattern.as_bytes().last() != path.last() {
        return false;
    }
    let mut parts = path.rsplit(|b| *b == b'/');
    pattern.rsplit('/').all(|pattern| parts.next().is_some_and(|name| name_fits(pattern, name)))
}

fn name_fits(pattern: &str, name: &[u8]) -> bool {
    let mut pieces = pattern.split('*').map(str::as_bytes);
    let Some(rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
    let Some(last) = pieces.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    pieces.all(|piece| match memmem::find(rest, piece) {
        Some(at) => {
            rest = rest.get(at + piece.len()..).unwrap_or_default();
            true
        }
        None => false,
    })
}

fn is_template(name: &[u8]) -> bool {
    name.split(|b| !b.is_ascii_alphanumeric()).any(|word| TEMPLATE_WORDS.iter().any(|t| t.as_bytes() == word))
}

fn holds(head: &[u8], text: &str) -> bool {
    memmem::find(head, text.as_bytes()).is_some()
}

/// Google's file is some 2 KiB long: a large JSON file that has these words further down is something else.
fn is_service_account(head: &[u8]) -> bool {
    let head = head.get(..4 << 10).unwrap_or(head);
    holds(head, "\"service_account\"") && holds(head, "\"private_key\"")
}

fn holds_private_key(head: &[u8]) -> bool {
    holds(head, "PRIVATE KEY") || begins_as_private_key(head) || is_der_private_key(head)
}

/// PKCS#1, PKCS#8 and SEC 1 in DER: a sequence whose first element is a version number of 0 or 1.
fn is_der_private_key(head: &[u8]) -> bool {
    matches!(
        head,
        [0x30, 0x82, _, _, 0x02, 0x01, 0 | 1, ..]
            | [0x30, 0x81, _, 0x02, 0x01, 0 | 1, ..]
            | [0x30, ..=0x7f, 0x02, 0x01, 0 | 1, ..]
    )
}

/// Whether the first line that is not blank opens a private key.
fn begins_as_private_key(head: &[u8]) -> bool {
    let text = head.strip_prefix(b"\xef\xbb\xbf").unwrap_or(head).trim_ascii_start();
    if text.starts_with(b"PuTTY-User-Key-File-") || text.starts_with(b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY") {
        return true;
    }
    let Some(title) = text.strip_prefix(b"-----BEGIN ") else { return false };
    let title = title.get(..MAX_KEY_HEADER_BYTES).unwrap_or(title);
    let line = title.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default().trim_ascii_end();
    line.ends_with(b"PRIVATE KEY-----") || line.ends_with(b"PRIVATE KEY BLOCK-----")
}

/// A token in the text of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// The line that it begins in, counted from 1.
    pub line: usize,
    /// What it is, for people.
    pub kind: &'static str,
}

/// The form of a token that is one word: letters, digits, `_` and `-` between other characters.
struct Form {
    kind: &'static str,
    /// What it can begin with.
    heads: &'static [&'static str],
    /// How many bytes follow.
    length: RangeInclusive<usize>,
    /// Which bytes these can be.
    alphabet: fn(u8) -> bool,
    /// What else must hold for the text before the word and for the bytes after the head.
    also: fn(&[u8], &[u8]) -> bool,
}

const FORMS: &[Form] = &[
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
const FIRST_BYTES: &[u8] = b"Agrsx";

/// The shortest token of all forms.
const MIN_WORD_BYTES: usize = 20;

/// Where the body of a private key must begin, counted from its header; lines such as `Proc-Type` may come before it.
const KEY_BODY_BYTES: usize = 600;

/// Finds well-known tokens in text: the first ten at most, one per line and kind.
///
/// Content over 1 MiB and binary content is not searched. The time is linear in the length.
pub fn find_tokens(content: &[u8]) -> Vec<Token> {
    let head = content.get(..BINARY_HEAD_BYTES).unwrap_or(content);
    if content.len() > MAX_SEARCHED_BYTES || memchr(0, head).is_some() {
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

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// How many bytes the search for long words looks at together, one for each bit of a mask.
const BLOCK_BYTES: usize = 64;

/// Visits the words of at least [`MIN_WORD_BYTES`], in their order.
///
/// All tokens but private keys are such words, and ordinary code has hardly any, so that one pass over the text does
/// the work of a search for each head. It takes a block at a time as a mask with a bit per byte, set in words.
fn for_each_long_word(content: &[u8], mut visit: impl FnMut(Range<usize>)) {
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
    memmem::find_iter(content, b"PRIVATE KEY").filter_map(|at| {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Random-looking text that is made up here, so that no scanner takes this file for a leak.
    fn noise(length: usize, alphabet: &[u8]) -> String {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(*alphabet.get((state >> 33) as usize % alphabet.len()).expect("within the alphabet"))
        };
        (0..length).map(|_| next()).collect()
    }

    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const MIXED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    const DIGITS: &[u8] = b"0123456789";

    fn pem(kind: &str, body: &str) -> String {
        let dashes = "-".repeat(5);
        format!("{dashes}BEGIN {kind}{dashes}\n{body}\n{dashes}END {kind}{dashes}\n")
    }

    fn private_key(kind: &str) -> String {
        pem(&format!("{kind}PRIVATE {}", "KEY"), &noise(64, MIXED))
    }

    fn is_secret(path: &str, head: impl AsRef<[u8]>) -> bool {
        is_whole_file_secret(&TrackedPath::from_bytes(path).expect("a path"), head.as_ref())
    }

    #[test]
    fn secrets_by_name() {
        for path in [
            ".env",
            "a/b/.env",
            ".ENV",
            ".env.local",
            ".env.production",
            ".env.py",
            "prod.env",
            "config/.staging.env",
            "id_rsa",
            "keys/ID_ED25519",
            "id_ecdsa_sk",
            "cert.p12",
            "cert.PFX",
            "x.jks",
            "release.keystore",
            "passwords.kdbx",
            ".netrc",
            "_netrc",
            ".pypirc",
            ".pgpass",
            ".htpasswd",
            "home/.git-credentials",
            ".aws/credentials",
            "home/.AWS/Credentials",
            ".kaggle/kaggle.json",
            "kaggle.json",
            "credentials.json",
            "service_account.json",
            "my-service-account-key.json",
            "gcp_ServiceAccount_prod.json",
            "client_secret_123.apps.googleusercontent.com.json",
            "secrets.yaml",
            "conf/Secrets.yml",
            "secrets.json",
            "secrets.toml",
            ".streamlit/secrets.toml",
            ".secrets.toml",
            "user_data/config-private.json",
        ] {
            assert!(is_secret(path, b"x"), "{path}");
            assert!(is_secret(path, b""), "{path}, empty");
        }
    }

    #[test]
    fn not_secrets_by_name() {
        for path in [
            ".env.example",
            ".env.sample",
            ".env.template",
            ".env.dist",
            ".env.defaults",
            ".env.production.EXAMPLE",
            "example.env",
            ".envrc",
            "env",
            ".env/lib/site.cfg",
            "environment.py",
            "strategy.env.py",
            "id_rsa.pub",
            "my_id_rsa",
            "credentials",
            "aws/credentials",
            ".aws/config",
            "credentials.py",
            "config.json",
            "docker/config.json",
            "secrets.py",
            "secrets/__init__.py",
            "secrets.md",
            "secrets_manager.json",
            "service.json",
            "account_service.json",
            "service-account.example.json",
            "service_account.py",
            "netrc",
            "monkey.json",
            "p12",
            "keystore",
            "kaggle.json.md",
            "data/prices.csv",
        ] {
            assert!(!is_secret(path, b"x"), "{path}");
        }
    }

    #[test]
    fn secrets_by_content() {
        let rsa = private_key("RSA ");
        let bundle = pem("CERTIFICATE", "MIID") + &private_key("");
        let putty = "PuTTY-User-Key-File-3: ssh-ed25519\n";
        let service = r#"{"type": "service_account", "private_key": "x"}"#;
        let der = [0x30, 0x82, 0x04, 0xa4, 0x02, 0x01, 0x00, 0x02];
        for (path, head) in [
            ("server.pem", rsa.as_bytes()),
            ("server.PEM", bundle.as_bytes()),
            ("server.key", rsa.as_bytes()),
            ("AuthKey.p8", rsa.as_bytes()),
            ("putty.ppk", putty.as_bytes()),
            ("server.key", &der),
            ("ec.der", &[0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30]),
            ("ed25519.der", &[0x30, 0x2e, 0x02, 0x01, 0x00, 0x30]),
            ("secring.asc", pem(&format!("PGP PRIVATE {} BLOCK", "KEY"), "").as_bytes()),
            ("deploy", rsa.as_bytes()),
            ("go", rsa.as_bytes()),
            ("deploy.txt", format!("\u{feff}\r\n\n  {rsa}").as_bytes()),
            ("deploy.bak", rsa.replace('\n', "\r\n").as_bytes()),
            ("deploy.txt", putty.as_bytes()),
            ("gcp-prod.json", service.as_bytes()),
            (".docker/config.json", br#"{"auths": {"registry": {"auth": "x"}}}"#),
            (".npmrc", b"//registry.npmjs.org/:_authToken=x"),
        ] {
            assert!(is_secret(path, head), "{path}");
        }
    }

    #[test]
    fn not_secrets_by_content() {
        let rsa = private_key("RSA ");
        let certificate = pem("CERTIFICATE", "MIID");
        let public = pem("PUBLIC KEY", "MIIB");
        let der_certificate = [0x30, 0x82, 0x03, 0xa4, 0x30, 0x82, 0x02, 0x8c];
        for (path, head) in [
            ("ca.pem", certificate.as_bytes()),
            ("public.pem", public.as_bytes()),
            ("slides.key", b"PK\x03\x04"),
            ("ca.der", &der_certificate),
            ("test_tls.py", rsa.as_bytes()),
            ("tls.rs", rsa.as_bytes()),
            ("README.MD", rsa.as_bytes()),
            ("notes.txt", format!("A key begins as\n{rsa}").as_bytes()),
            ("notes.txt", certificate.as_bytes()),
            ("ca.crt", certificate.as_bytes()),
            ("schema.json", br#"{"type": "service_account"}"#),
            (".docker/config.json", br#"{"credsStore": "desktop"}"#),
            (".npmrc", b"save-exact=true"),
            ("empty", b""),
            ("blank", b"\n\n  "),
        ] {
            assert!(!is_secret(path, head), "{path}");
        }
    }

    #[test]
    fn tokens_are_found_where_they_begin() {
        let slack = format!("{}{}-{}", "xoxb-", noise(12, DIGITS), noise(24, MIXED));
        let cases = [
            (["AK", "IA", &noise(16, UPPER)].concat(), "AWS access key id"),
            (["AS", "IA", &noise(16, UPPER)].concat(), "AWS access key id"),
            (["gh", "p_", &noise(36, MIXED)].concat(), "GitHub token"),
            (["gh", "s_", &noise(36, MIXED)].concat(), "GitHub token"),
            (["github", "_pat_", &noise(22, MIXED), "_", &noise(59, MIXED)].concat(), "GitHub token"),
            (slack, "Slack token"),
            (["sk_", "live_", &noise(24, MIXED)].concat(), "Stripe live key"),
            (["rk_", "live_", &noise(99, MIXED)].concat(), "Stripe live key"),
            (["AI", "za", &noise(35, MIXED)].concat(), "Google API key"),
            (["sk", "-", &noise(48, MIXED)].concat(), "API key of the form sk-..."),
            (["sk", "-proj-", &noise(60, MIXED), "_-", &noise(60, MIXED)].concat(), "API key of the form sk-..."),
            ([&noise(9, b"123456789"), ":", "AA", &noise(33, MIXED)].concat(), "Telegram bot token"),
        ];
        for (token, kind) in &cases {
            for (text, line) in [
                (token.clone(), 1),
                (format!("\n\nKEY = '{token}'  # {token}\n"), 3),
                (format!("a\r\n\tKEY={token}"), 2),
                (format!("\"a\\n{token}\\n\""), 1),
                (format!("x\n--{token},"), 2),
                (format!("{}\n{token}", "a_long_name_of_something ".repeat(50)), 2),
                (format!("https://u:{token}@host/"), 1),
            ] {
                if *kind == "Telegram bot token" && text.contains("\\n") {
                    continue;
                }
                assert_eq!(find_tokens(text.as_bytes()), [Token { line, kind }], "{text}");
            }
            for text in [format!("x{token}"), format!("_{token}")] {
                assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
            }
            assert_eq!(find_tokens(format!("{token}\0").as_bytes()), []);
            assert_eq!(find_tokens(format!("{token} {}", " ".repeat(MAX_SEARCHED_BYTES)).as_bytes()), []);
        }
        let all: Vec<String> = cases.iter().map(|(token, _)| format!("{token}\n")).collect();
        let found = find_tokens(all.concat().as_bytes());
        assert_eq!(found.iter().map(|token| token.line).collect::<Vec<_>>(), (1..=MAX_TOKENS).collect::<Vec<_>>());
        let with_key_first = private_key("") + &all.concat();
        let found = find_tokens(with_key_first.as_bytes());
        assert_eq!(found.len(), MAX_TOKENS);
        assert_eq!(found.first(), Some(&Token { line: 1, kind: "private key" }));
    }

    #[test]
    fn what_only_resembles_a_token_is_not_one() {
        for text in [
            ["AK", "IA", "IOSFODNN7EXAMPLE"].concat(),
            ["AK", "IA", &noise(15, UPPER)].concat(),
            ["AK", "IA", &noise(17, UPPER)].concat(),
            ["AK", "IA", &noise(16, UPPER).to_lowercase()].concat(),
            ["AK", "IA", &"X".repeat(16)].concat(),
            ["gh", "p_", &noise(35, MIXED)].concat(),
            ["gh", "p_", &"x".repeat(36)].concat(),
            ["gh", "p_", "1234567890abcdefghijklmnopqrstuvwxyz"].concat(),
            ["gh", "p_", &noise(20, MIXED), &"0".repeat(16)].concat(),
            ["gh", "x_", &noise(36, MIXED)].concat(),
            ["github", "_pat_", &noise(22, MIXED)].concat(),
            "xoxb-your-slack-bot-token-goes-here-please".to_owned(),
            ["sk_", "test_", &noise(24, MIXED)].concat(),
            ["AI", "za", &noise(34, MIXED)].concat(),
            "sk-toggleable__label-arrow-and-a-long-tail-of-names-2".to_owned(),
            ["sk", "-", &noise(30, MIXED)].concat(),
            ["sk", "-", &noise(48, b"abcdefghijklmnop")].concat(),
            ["ri", "sk", "-", &noise(48, MIXED)].concat(),
            ["12345:", "AA", &noise(33, MIXED)].concat(),
            ["12345678901:", "AA", &noise(33, MIXED)].concat(),
            ["x12345678:", "AA", &noise(33, MIXED)].concat(),
            noise(100, MIXED),
            noise(10_000, MIXED),
            "-".repeat(80),
            "a_function_with_a_rather_long_name_in_a_test".to_owned(),
            "blake3:".to_owned() + &noise(64, b"0123456789abcdef"),
        ] {
            assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn private_keys_in_text_need_a_body() {
        let rsa = private_key("RSA ");
        let found = |line| vec![Token { line, kind: "private key" }];
        let legacy = rsa.replacen('\n', "\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1);
        let armor = pem(&format!("PGP PRIVATE {} BLOCK", "KEY"), &format!("\n{}", noise(64, MIXED)));
        assert_eq!(find_tokens(format!("a\nKEY = '''\n{rsa}'''").as_bytes()), found(3));
        assert_eq!(find_tokens(rsa.replace('\n', "\\n").as_bytes()), found(1));
        assert_eq!(find_tokens(private_key("").as_bytes()), found(1));
        assert_eq!(find_tokens(legacy.as_bytes()), found(1));
        assert_eq!(find_tokens(armor.as_bytes()), found(1));
        let header = format!("PRIVATE {}", "KEY");
        for text in [
            pem(&header, ""),
            pem(&header, "..."),
            pem(&header, &"x".repeat(64)),
            pem(&header, &(noise(50, MIXED) + "EXAMPLE")),
            pem("CERTIFICATE", &noise(64, MIXED)),
            pem(&format!("PUBLIC {}", "KEY"), &noise(64, MIXED)),
            format!("if '{0}BEGIN {header}{0}' in text:\n    pass\n", "-".repeat(5)),
            format!("{header}{}", noise(64, MIXED)),
            pem(&format!("no {header}"), &noise(64, MIXED)),
        ] {
            assert_eq!(find_tokens(text.as_bytes()), [], "{text}");
        }
    }

    #[test]
    fn the_tables_agree_with_the_search() {
        for form in FORMS {
            let shortest = form.heads.iter().map(|head| head.len()).min().unwrap_or(0) + form.length.start();
            assert!(shortest >= MIN_WORD_BYTES, "{}", form.kind);
            assert!(form.heads.iter().all(|head| head.bytes().all(is_word_byte)), "{}", form.kind);
            assert!(
                form.heads.iter().all(|head| head.bytes().next().is_some_and(|b| FIRST_BYTES.contains(&b))),
                "{}",
                form.kind
            );
        }
        for name in RULES.iter().flat_map(|rule| rule.names) {
            assert_eq!(*name, name.to_ascii_lowercase(), "names are compared in lower case");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_can_be_searched(bytes in prop::collection::vec(any::<u8>(), 0..300), path in "[a-z./_*]{1,20}") {
            find_tokens(&bytes);
            if let Some(path) = TrackedPath::from_bytes(path) {
                is_whole_file_secret(&path, &bytes);
            }
        }

        #[test]
        fn any_pieces_can_be_searched(pieces in prop::collection::vec(prop::sample::select(vec![
            "AKIA", "sk-", "ghp_", "xoxb-", ":AA", "12345678", "-----", "BEGIN ", "PRIVATE KEY", "\\n", "\n", "-", "é",
            "a7Bc9Qx2",
        ]), 0..60)) {
            let text = pieces.concat();
            let tokens = find_tokens(text.as_bytes());
            prop_assert!(tokens.len() <= MAX_TOKENS);
            prop_assert!(tokens.iter().all(|token| (1..=text.lines().count()).contains(&token.line)));
        }

        #[test]
        fn long_words_are_those_between_other_bytes(
            text in "([a-zA-Z0-9_-]{1,40}|[a-z]{15,25}|[a-z]{60,70}|[a-z]{124,132}|[ .\n@Z\\[`\\{/:]{1,3}){0,12}"
        ) {
            let expected: Vec<&str> =
                text.split(|c: char| !is_word_byte(c as u8)).filter(|word| word.len() >= MIN_WORD_BYTES).collect();
            let mut found: Vec<&str> = Vec::new();
            for_each_long_word(text.as_bytes(), |word| found.push(&text[word]));
            prop_assert_eq!(found, expected);
        }
    }
}
