//! Names in data: a configuration that says `strategies.momentum:Momentum` or `data/prices.csv`, a pickle of the project's
//! classes.
//!
//! What is found are candidates. Only those that lead to a module or a file of the project mean anything.

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

/// Values of each kind that are taken from one file.
const MAX_VALUES: usize = 500;
/// A longer value is no path.
const MAX_PATH: usize = 300;
/// Words in the names of settings that say where something is written.
const OUTPUTS: [&str; 12] =
    ["out", "output", "outputs", "outfile", "outdir", "log", "logs", "logfile", "logging", "save", "export", "results"];

/// What a data file may name.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Mentions {
    /// Modules.
    pub names: BTreeSet<String>,
    /// Values that are one word: modules, where something is imported by what is read.
    pub words: BTreeSet<String>,
    /// Values that look like the paths of files which are read.
    pub paths: BTreeSet<String>,
}

/// What a data file names; `None` for kinds of files that are not looked into.
pub fn mentions_in(path: &Path, read: impl FnOnce() -> Vec<u8>) -> Option<Mentions> {
    let ending = path.extension()?.to_str()?.to_ascii_lowercase();
    if TEXTS.contains(&ending.as_str()) {
        let content = read();
        let text = String::from_utf8_lossy(&content);
        let mut mentions = Mentions { names: dotted_names(&text), ..Mentions::default() };
        values(&text, &mut mentions);
        Some(mentions)
    } else if PICKLES.contains(&ending.as_str()) {
        Some(Mentions { names: pickled_names(&read()), ..Mentions::default() })
    } else {
        None
    }
}

/// Notes the values of settings and lists, as JSON, YAML, TOML and INI write them alike.
fn values(text: &str, mentions: &mut Mentions) {
    for line in text.lines().filter(|line| !is_section(line)) {
        let line = line.split_once(" #").map_or(line, |(line, _)| line);
        for part in line.split([',', '[', ']', '{', '}']) {
            let (key, value) = setting(part);
            let value = value.trim().trim_matches(['"', '\'']);
            if is_word(value) && mentions.words.len() < MAX_VALUES {
                mentions.words.insert(value.to_owned());
            } else if is_path(value) && !is_output(key) && mentions.paths.len() < MAX_VALUES {
                mentions.paths.insert(value.to_owned());
            }
        }
    }
}

/// Whether a line is the head of a section: `[x.y]`.
fn is_section(line: &str) -> bool {
    let line = line.trim();
    line.starts_with('[') && line.ends_with(']') && !line.contains(['"', '\'', ',', ':'])
}

/// The name and the value of a setting; an item of a list has no name.
fn setting(part: &str) -> (&str, &str) {
    let part = part.trim();
    let part = part.strip_prefix("- ").unwrap_or(part);
    let is_end = |(at, _): &(usize, &str)| {
        part.get(at + 1..).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '"']))
    };
    let colon = part.match_indices(':').find(is_end).map(|(at, _)| at);
    match colon.or_else(|| part.find('=')).and_then(|at| part.split_at_checked(at)) {
        Some((key, value)) => (key, value.get(1..).unwrap_or_default()),
        None => ("", part),
    }
}

fn is_word(value: &str) -> bool {
    value.len() <= MAX_NAME
        && value.starts_with(|c: char| c.is_alphabetic() || c == '_')
        && value.chars().all(|c| c.is_alphanumeric() || c == '_')
}

/// Whether a value has the form of a path to a file, with an ending.
fn is_path(value: &str) -> bool {
    let name = value.rsplit('/').next().unwrap_or(value);
    let has_ending = name.rsplit_once('.').is_some_and(|(stem, ending)| {
        !stem.is_empty()
            && (1..=8).contains(&ending.len())
            && ending.bytes().all(|byte| byte.is_ascii_alphanumeric())
            && !ending.bytes().all(|byte| byte.is_ascii_digit())
            && ending != "log"
    });
    has_ending
        && value.len() <= MAX_PATH
        && !value.contains("://")
        && !value.contains(['*', '?', '<', '>', '|', '$', '%', '\0'])
}

/// Whether the name of a setting says that something is written there: what is there is of an earlier run.
fn is_output(key: &str) -> bool {
    let mut words = key.split(|c: char| !c.is_alphanumeric());
    words.any(|word| OUTPUTS.contains(&word.to_ascii_lowercase().as_str()))
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
        let mentions = mentions_in(Path::new(path), || content.to_vec()).unwrap_or_default();
        mentions.names.into_iter().collect()
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
            assert_eq!(mentions_in(Path::new(path), unread), None);
        }
    }

    #[test]
    fn configurations_have_values() {
        let told = |path: &str, text: &str| {
            let mentions = mentions_in(Path::new(path), || text.as_bytes().to_vec()).unwrap_or_default();
            let join = |names: BTreeSet<String>| names.into_iter().collect::<Vec<_>>().join(" ");
            (join(mentions.words), join(mentions.paths))
        };
        let is = |words: &str, paths: &str| (words.to_owned(), paths.to_owned());
        let yaml = "strategy: trend # the one\ndata: data/a.csv\nfiles:\n  - b.parquet\n  - 'c d.csv'\nn: 1.5\n\
                    output_file: out.csv\nlog: run.txt\nfile: run.log\nurl: http://x/y.csv\nat: 12:30\n";
        assert_eq!(told("a.yaml", yaml), is("trend", "b.parquet c d.csv data/a.csv"));
        let json = r#"{"strategy": "trend", "parts": ["p1", "a.csv"], "deep": {"path":"b/c.json", "results": "d.csv"}, "n": -1}"#;
        assert_eq!(told("a.json", json), is("p1 trend", "a.csv b/c.json"));
        assert_eq!(told("a.toml", "[x.y]\nname = \"trend\"\nfile=\"a.csv\"\n"), is("trend", "a.csv"));
        assert_eq!(
            told("a.ini", "; no\n[x]\nfile = a.csv\nlist = a.csv, b.csv\n*.csv = %(x)s.csv\n"),
            is("", "a.csv b.csv")
        );
        assert_eq!(told("a.csv", "a.csv"), is("", ""));
        assert_eq!(told("a.json", ":,=,{\"\":\"\"}\n- \n=\n: \n"), is("", ""));
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
