//! Which files are secrets as a whole, and which lines of other files hold a token.
//!
//! The former are left out of snapshots, the latter are stored and warned about: code that is missing from a snapshot
//! cannot be restored, a `.env` that is missing was never part of the code. Both lists hold well-known forms only;
//! nothing here guesses by entropy.

use std::ops::{Range, RangeInclusive};

use memchr::{memchr, memchr_iter, memmem};

use crate::tracked_path::TrackedPath;

/// How much of a file's beginning [`is_whole_file_secret`] wants to see.
pub const HEAD_BYTES: usize = 64 << 10;

/// The most tokens that [`find_tokens`] reports.
const MAX_TOKENS: usize = 10;

/// The longest content that is searched for tokens.
const MAX_SEARCHED_BYTES: usize = 1 << 20;

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
    Rule {
        names: &["id_rsa", "id_dsa", "id_ecdsa", "id_ecdsa_sk", "id_ed25519", "id_ed25519_sk"],
        when: When::Always,
    },
    Rule {
        names: &["*.pem", "*.key", "*.ppk", "*.p8", "*.pk8", "*.der", "*.priv", "*.asc", "*.gpg"],
        when: When::Head(holds_private_key),
    },
    // Key stores and password stores.
    Rule { names: &["*.p12", "*.pfx", "*.jks", "*.keystore", "*.kdbx"], when: When::Always },
    // Credentials of programs and services.
    Rule { names: &[".netrc", "_netrc", ".pgpass", "pgpass.conf", ".htpasswd", ".git-credentials"], when: When::Always },
    Rule { names: &[".pypirc", ".cargo/credentials", ".cargo/credentials.toml"], when: When::Always },
    Rule { names: &[".aws/credentials", ".kube/config", ".dockercfg", ".vault-token"], when: When::Always },
    Rule { names: &[".npmrc"], when: When::Head(|head| holds(head, "_auth") || holds(head, "_password")) },
    Rule { names: &[".docker/config.json"], when: When::Head(|head| holds(head, "\"auths\"")) },
    Rule { names: &["kaggle.json"], when: When::Always },
    // Google's service accounts and OAuth clients.
    Rule { names: &["credentials.json", "application_default_credentials.json"], when: When::Always },
    Rule { names: &["*service*account*.json", "client_secret*.json"], when: When::NoTemplate },
    Rule {
        names: &["*.json"],
        when: When::Head(|head| holds(head, "\"service_account\"") && holds(head, "\"private_key\"")),
    },
    // Settings that projects keep apart because they are secret; the last one is freqtrade's.
    Rule { names: &["secrets.yaml", "secrets.yml", "secrets.json", "secrets.toml"], when: When::Always },
    Rule { names: &[".secrets.yaml", ".secrets.yml", ".secrets.json", ".secrets.toml"], when: When::Always },
    Rule { names: &["config-private.json"], when: When::Always },
    // Whatever its name is.
    Rule { names: &["*"], when: When::Head(begins_as_private_key) },
];

/// Words in a file's name that say that it only shows which values are needed.
const TEMPLATE_WORDS: [&str; 8] = ["example", "examples", "sample", "template", "dist", "default", "defaults", "schema"];

/// Endings of source code and prose, which is never a secret as a whole, whatever text is in it.
const SOURCE_ENDINGS: &[&str] = &[
    "py", "pyi", "pyx", "pxd", "ipynb", "rs", "c", "h", "cc", "hh", "cpp", "hpp", "cu", "java", "kt", "scala", "cs", "js",
    "jsx", "mjs", "cjs", "ts", "tsx", "go", "rb", "php", "pl", "lua", "r", "rmd", "jl", "m", "f90", "swift", "sh", "bash",
    "zsh", "ps1", "bat", "sql", "q", "mq4", "mq5", "pine", "md", "rst", "adoc", "tex", "html", "htm", "css",
];

/// Whether a file is a secret as a whole, going by its path and the first [`HEAD_BYTES`] of its content.
pub fn is_whole_file_secret(path: &TrackedPath, content_head: &[u8]) -> bool {
    let path = path.as_bytes().to_ascii_lowercase();
    let name = path.rsplit(|b| *b == b'/').next().unwrap_or_default();
    let ending = name.rsplit(|b| *b == b'.').next().unwrap_or_default();
    if SOURCE_ENDINGS.iter().any(|source| source.as_bytes() == ending) && !name.starts_with(b".env.") {
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

/// Whether the last parts of a path fit all the parts of a pattern.
fn path_fits(pattern: &str, path: &[u8]) -> bool {
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
    let line = text.split(|b| matches!(b, b'\n' | b'\r')).next().unwrap_or_default().trim_ascii_end();
    let is_pem = line.starts_with(b"-----BEGIN ")
        && (line.ends_with(b"PRIVATE KEY-----") || line.ends_with(b"PRIVATE KEY BLOCK-----"));
    is_pem || line.starts_with(b"PuTTY-User-Key-File-") || line.starts_with(b"---- BEGIN SSH2 ENCRYPTED PRIVATE KEY")
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

/// The shortest token of all forms: words below that are skipped without a look at each of their bytes.
const MIN_WORD_BYTES: usize = 20;

/// The longest header line of a private key up to the words `PRIVATE KEY`.
const MAX_KEY_HEADER_BYTES: usize = 48;

/// Where the body of a private key must begin, counted from its header; lines such as `Proc-Type` may come before it.
const KEY_BODY_BYTES: usize = 600;

/// Finds well-known tokens in text: the first ten at most, one per line and kind.
///
/// Content over 1 MiB and binary content is not searched. The time is linear in the length, and the step over ordinary
/// code is long: only words of 20 bytes and more are looked at.
pub fn find_tokens(content: &[u8]) -> Vec<Token> {
    let head = content.get(..BINARY_HEAD_BYTES).unwrap_or(content);
    if content.len() > MAX_SEARCHED_BYTES || memchr(0, head).is_some() {
        return Vec::new();
    }
    let words = long_words(content).filter_map(|word| Some((word.start, kind_of(content, word)?)));
    let keys = private_keys(content).map(|at| (at, "private key"));
    let mut found: Vec<(usize, &'static str)> = words.take(MAX_TOKENS).chain(keys.take(MAX_TOKENS)).collect();
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

/// [`is_word_byte`] as a table: the search below looks up a few bytes in each step.
const WORD_BYTES: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 256 {
        table[byte] = is_word_byte(byte as u8);
        byte += 1;
    }
    table
};

fn ends_word(byte: &u8) -> bool {
    !WORD_BYTES.get(usize::from(*byte)).copied().unwrap_or(false)
}

/// The words of at least [`MIN_WORD_BYTES`].
///
/// `at` always stands at the beginning of a word. The last byte between words within reach leads to the next beginning
/// worth a look, so that most bytes are never read.
fn long_words(content: &[u8]) -> impl Iterator<Item = Range<usize>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let (near, far) = content.get(at..)?.split_at_checked(MIN_WORD_BYTES)?;
            if let Some(end) = near.iter().rposition(ends_word) {
                at += end + 1;
                continue;
            }
            let start = at;
            at += MIN_WORD_BYTES + far.iter().position(ends_word).unwrap_or(far.len());
            return Some(start..at);
        }
    })
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
    let form = FORMS.iter().find(|form| {
        form.heads.iter().filter_map(|head| word.strip_prefix(head.as_bytes())).any(|rest| {
            form.length.contains(&rest.len())
                && rest.iter().all(|b| (form.alphabet)(*b))
                && (form.also)(before, rest)
                && !is_placeholder(rest)
                && !has_sequence(rest)
        })
    })?;
    Some(form.kind)
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
            alphabet[(state >> 33) as usize % alphabet.len()] as char
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
            ("secring.asc", pem(&format!("PGP PRIVATE {} BLOCK", "KEY"), "").as_bytes()),
            ("deploy", rsa.as_bytes()),
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
            "AKIA", "sk-", "ghp_", "xoxb-", ":AA", "12345678", "-----", "BEGIN ", "PRIVATE KEY", "\\n", "\n", "-", "é", "a7Bc9Qx2",
        ]), 0..60)) {
            let text = pieces.concat();
            let tokens = find_tokens(text.as_bytes());
            prop_assert!(tokens.len() <= MAX_TOKENS);
            prop_assert!(tokens.iter().all(|token| (1..=text.lines().count()).contains(&token.line)));
        }

        #[test]
        fn long_words_are_those_between_other_bytes(text in "[ab_.\n -]{0,200}|[ab .]{0,40}[a-z]{15,60}[ .ab]{0,40}") {
            let expected: Vec<&str> =
                text.split(|c: char| !is_word_byte(c as u8)).filter(|word| word.len() >= MIN_WORD_BYTES).collect();
            let found: Vec<&str> = long_words(text.as_bytes()).map(|range| &text[range]).collect();
            prop_assert_eq!(found, expected);
        }
    }
}
