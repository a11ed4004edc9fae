//! Files that are secrets as a whole: by name, and by what they begin with.

use memchr::memmem;

use super::MAX_KEY_HEADER_BYTES;
use crate::tracked_path::TrackedPath;

/// How much of a file's beginning [`is_whole_file_secret`] wants to see.
pub const HEAD_BYTES: usize = 64 << 10;

/// Names of files that are secrets as a whole.
pub(super) struct Rule {
    /// Lower-case names, `*` for any bytes; with folders before them where these must be there too.
    pub(super) names: &'static [&'static str],
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

pub(super) const RULES: &[Rule] = &[
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
    let ending = name.iter().rposition(|byte| *byte == b'.').and_then(|dot| name.get(dot + 1..)).unwrap_or_default();
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
