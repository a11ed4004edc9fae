//! The files on this system that a pattern stands for.

use std::fs;
use std::path::{Path, PathBuf};

/// Files that one pattern gives.
const MAX_FOUND: usize = 256;
/// Entries that are looked at for one pattern.
const MAX_ENTRIES: usize = 8192;
/// Folders within each other below `**`.
const MAX_DEPTH: usize = 12;

/// What a pattern's path gives, sorted: files and folders.
pub fn matches(pattern: &Path) -> Vec<PathBuf> {
    let parts: Vec<&str> = pattern.iter().filter_map(|part| part.to_str()).collect();
    let fixed = parts.iter().take_while(|part| !is_pattern(part)).count();
    let folder: PathBuf = parts.iter().take(fixed).collect();
    let mut found = Vec::new();
    let mut looked_at = 0;
    gather(&folder, parts.get(fixed..).unwrap_or_default(), 0, &mut looked_at, &mut found);
    found.sort();
    found.dedup();
    found
}

/// Whether a part of a path stands for several.
pub fn is_pattern(part: &str) -> bool {
    part.contains(['*', '?', '['])
}

fn gather(folder: &Path, parts: &[&str], depth: usize, looked_at: &mut usize, found: &mut Vec<PathBuf>) {
    let Some((part, rest)) = parts.split_first() else { return };
    if !is_pattern(part) {
        let path = folder.join(part);
        match rest {
            [] if path.exists() => found.push(path),
            [] => {}
            rest => gather(&path, rest, depth, looked_at, found),
        }
        return;
    }
    let is_any_depth = *part == "**";
    if is_any_depth && !rest.is_empty() {
        gather(folder, rest, depth, looked_at, found);
    }
    let mut entries: Vec<PathBuf> = fs::read_dir(folder)
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .map(|entry| entry.path())
        .take(MAX_ENTRIES)
        .collect();
    entries.sort();
    for path in entries {
        *looked_at += 1;
        if *looked_at > MAX_ENTRIES || found.len() >= MAX_FOUND {
            return;
        }
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        // As glob does, but for patterns that ask for them.
        if name.starts_with('.') && !part.starts_with('.') || name == "__pycache__" {
            continue;
        }
        if is_any_depth {
            // Links may lead around.
            if path.is_dir() && !path.is_symlink() && depth < MAX_DEPTH {
                gather(&path, parts, depth + 1, looked_at, found);
            }
        } else if fits(part.as_bytes(), name.as_bytes()) {
            match rest {
                [] => found.push(path),
                rest if path.is_dir() => gather(&path, rest, depth, looked_at, found),
                _ => {}
            }
        }
    }
}

/// Whether a name fits a pattern of `*`, `?` and `[...]`.
fn fits(pattern: &[u8], name: &[u8]) -> bool {
    let (mut at, mut seen) = (0, 0);
    // Where to go on when what follows the last star does not fit.
    let mut retry = None;
    loop {
        let step = match (pattern.get(at), name.get(seen)) {
            (None, None) => return true,
            (Some(b'*'), _) => {
                retry = Some((at + 1, seen));
                at += 1;
                continue;
            }
            (Some(b'?'), Some(_)) => Some(1),
            (Some(b'['), Some(byte)) => match class(pattern.get(at..).unwrap_or_default(), *byte) {
                Some((true, length)) => Some(length),
                Some((false, _)) => None,
                None => (*byte == b'[').then_some(1),
            },
            (Some(own), Some(byte)) => (own == byte).then_some(1),
            (None, Some(_)) | (Some(_), None) => None,
        };
        match (step, retry) {
            (Some(length), _) => (at, seen) = (at + length, seen + 1),
            (None, Some((after, from))) if from < name.len() => {
                retry = Some((after, from + 1));
                (at, seen) = (after, from + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a byte is in the class that a pattern begins with, and how long that is; `None` where it has no end.
fn class(pattern: &[u8], byte: u8) -> Option<(bool, usize)> {
    let is_negated = pattern.get(1) == Some(&b'!');
    let start = if is_negated { 2 } else { 1 };
    let length = pattern.iter().skip(start + 1).position(|byte| *byte == b']')? + 1;
    let inner = pattern.get(start..start + length)?;
    let mut is_in = false;
    let mut at = 0;
    while let Some(first) = inner.get(at) {
        match (inner.get(at + 1), inner.get(at + 2)) {
            (Some(b'-'), Some(last)) => {
                is_in |= (*first..=*last).contains(&byte);
                at += 3;
            }
            _ => {
                is_in |= *first == byte;
                at += 1;
            }
        }
    }
    Some((is_in != is_negated, start + length + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_as_in_python() {
        for (pattern, name, expected) in [
            ("*.csv", "a.csv", true),
            ("*.csv", "a.csv.gz", false),
            ("a*b*c", "aXbYbc", true),
            ("a*b*c", "aXbYb", false),
            ("?.txt", "a.txt", true),
            ("?.txt", "ab.txt", false),
            ("[ab].x", "b.x", true),
            ("[!ab].x", "b.x", false),
            ("[0-9]*", "7x", true),
            ("[0-9]*", "x7", false),
            ("[", "[", true),
            ("*", "", true),
            ("", "a", false),
        ] {
            assert_eq!(fits(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn patterns_give_what_is_there() {
        let folder = tempfile::tempdir().expect("a folder");
        for file in ["a.csv", "b.csv", "c.txt", ".hidden.csv", "d/e.csv", "d/f/g.csv", "d/__pycache__/h.csv"] {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        }
        let found = |pattern: &str| {
            let paths = matches(&folder.path().join(pattern));
            let relative =
                paths.iter().map(|path| path.strip_prefix(folder.path()).expect("below").display().to_string());
            relative.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("*.csv"), "a.csv b.csv");
        assert_eq!(found("**/*.csv"), "a.csv b.csv d/e.csv d/f/g.csv");
        assert_eq!(found("*/e.csv"), "d/e.csv");
        assert_eq!(found("d/*"), "d/e.csv d/f");
        assert_eq!(found("nowhere/*"), "");
        assert_eq!(found(".*.csv"), ".hidden.csv");
    }
}
