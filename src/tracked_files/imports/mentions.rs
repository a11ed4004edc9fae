//! Names of modules in data: a configuration that says `strategies.momentum:Momentum`, a pickle of the project's classes.
//!
//! What is found are candidates. Only those that lead to a module of the project mean anything.

use std::collections::BTreeSet;
use std::path::Path;

/// Endings of files in which people write such names.
const TEXTS: [&str; 9] = ["yaml", "yml", "json", "toml", "ini", "cfg", "conf", "properties", "jsonc"];
/// Endings of files that Python's pickle makes, as they are or within something else.
const PICKLES: [&str; 6] = ["pkl", "pickle", "joblib", "p", "pt", "dill"];
/// Endings of file names, which are no attributes.
const NO_ATTRIBUTES: [&str; 12] =
    ["py", "csv", "json", "yaml", "yml", "txt", "toml", "ini", "parquet", "pkl", "log", "html"];
/// A longer name is none.
const MAX_NAME: usize = 256;

/// The names that a data file may mean modules by, sorted; none for other kinds of files, whose content is not asked for.
pub fn names_in<C: AsRef<[u8]>>(path: &Path, content: impl FnOnce() -> C) -> BTreeSet<String> {
    let Some(ending) = path.extension().and_then(|ending| ending.to_str()).map(str::to_ascii_lowercase) else {
        return BTreeSet::new();
    };
    if TEXTS.contains(&ending.as_str()) {
        dotted_names(&String::from_utf8_lossy(content().as_ref()))
    } else if PICKLES.contains(&ending.as_str()) {
        pickled_names(content().as_ref())
    } else {
        BTreeSet::new()
    }
}

/// Dotted names of at least two parts, and those before a colon.
fn dotted_names(text: &str) -> BTreeSet<String> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '.' || c == ':';
    let words = text.split(|c: char| !is_part(c)).filter(|word| word.len() <= MAX_NAME);
    words.filter_map(module_in).collect()
}

/// The module in `pkg.mod:Class` or `pkg.mod.Class`: all that may be part of its name.
fn module_in(word: &str) -> Option<String> {
    let word = word.trim_matches(':');
    let (name, attribute) = word.split_once(':').map_or((word, None), |(name, rest)| (name, Some(rest)));
    let is_name = |part: &str| part.starts_with(|c: char| c.is_alphabetic() || c == '_');
    let last = name.rsplit('.').next()?;
    let is_module = name.split('.').all(is_name)
        && (name.contains('.') || attribute.is_some_and(is_name))
        && !NO_ATTRIBUTES.contains(&last);
    is_module.then(|| name.to_owned())
}

/// The modules of the classes and functions that a pickle names.
///
/// Until protocol 3 each stands behind the opcode `c`, ended by a newline; from 4 on the module and the name are the two
/// short strings before the opcode 0x93. The opcodes are those of Python's Lib/pickletools.py.
fn pickled_names(content: &[u8]) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let text = |bytes: &[u8]| {
        let name = std::str::from_utf8(bytes).ok().filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
        let is_name = |part: &str| {
            part.starts_with(|c: char| c.is_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_alphanumeric() || c == '_')
        };
        name.split('.').all(is_name).then(|| name.to_owned())
    };
    for place in memchr::memchr2_iter(b'c', 0x8c, content) {
        let Some((opcode, rest)) = content.get(place..).and_then(<[u8]>::split_first) else { continue };
        if *opcode == b'c' {
            let line = rest.get(..MAX_NAME.min(rest.len())).unwrap_or_default();
            let mut lines = line.split(|byte| *byte == b'\n');
            if let (Some(module), Some(name)) = (lines.next(), lines.next())
                && lines.next().is_some()
                && text(name).is_some()
            {
                names.extend(text(module));
            }
        } else if let Some((length, rest)) = rest.split_first()
            && let Some((module, rest)) = rest.split_at_checked(usize::from(*length))
            && matches!(rest, [0x94, 0x8c, ..] | [0x8c, ..])
        {
            // Two strings, one behind the other, each perhaps kept for later.
            names.extend(text(module));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(path: &str, content: &[u8]) -> Vec<String> {
        names_in(Path::new(path), || content).into_iter().collect()
    }

    #[test]
    fn configurations_name_modules() {
        let text = b"strategy: \"strategies.momentum:Momentum\"\nhandler = desk_logging.Handler\nversion: 1.2.3\n\
                     data: prices.csv\nentry: run:main\nurl: http://example\ntime: 12:30\nplain: word\n";
        assert_eq!(told("a.yaml", text), ["desk_logging.Handler", "run", "strategies.momentum"]);
        assert!(told("a.md", text).is_empty());
        assert!(told("a", text).is_empty());
    }

    #[test]
    fn what_names_nothing_is_not_read() {
        for path in ["a.csv", "a.ico", "a", "a.json.gz"] {
            let unread = || -> Vec<u8> { unreachable!("{path} is read") };
            assert!(names_in(Path::new(path), unread).is_empty());
        }
    }

    #[test]
    fn pickles_name_modules() {
        assert_eq!(told("m.pkl", b"\x80\x02cfitted\nWINDOW\n."), ["fitted"]);
        let four = b"\x80\x04\x95\x1c\0\0\0\0\0\0\0\x8c\x0amodels.fit\x94\x8c\x05Model\x94\x93\x94.";
        assert_eq!(told("m.joblib", four), ["models.fit"]);
        assert!(told("m.pkl", b"c no name\nX\n, cut\x8c").is_empty());
        for end in 0..four.len() {
            let _ = told("m.pkl", &four[..end]);
        }
    }
}
