//! Command lines that run Python: lists of arguments, and lines for a shell.

use super::place::Place;

/// A word of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Text(String),
    /// A path that begins somewhere.
    Place(Place),
    /// `sys.executable`.
    Python,
    Unknown,
}

/// What a command runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Runs {
    /// `-m`.
    Module(String),
    /// A script.
    Script(Place),
    /// The text after `-c`.
    Code(String),
}

/// Words before Python that are looked over: `uv run`, `nice -n 5`, `env A=1`.
const MAX_WRAPPERS: usize = 6;

/// What a command runs, when it is Python or a script that names its interpreter itself.
pub(super) fn runs(words: &[Word], is_windows: bool) -> Option<Runs> {
    let mut words = words;
    while let [Word::Text(setting), rest @ ..] = words
        && is_assignment(setting)
    {
        words = rest;
    }
    if let Some(script) = words.first().and_then(|word| script(word, is_windows)) {
        return Some(Runs::Script(script));
    }
    let python = words.iter().take(MAX_WRAPPERS).position(is_python)?;
    let mut words = words.get(python + 1..)?.iter();
    while let Some(word) = words.next() {
        let Word::Text(text) = word else { return script(word, is_windows).map(Runs::Script) };
        match text.strip_prefix('-') {
            None => return script(word, is_windows).map(Runs::Script),
            Some("m") => {
                return match words.next() {
                    Some(Word::Text(module)) => Some(Runs::Module(module.clone())),
                    _ => None,
                };
            }
            Some("W" | "X" | "-check-hash-based-pycs") => drop(words.next()),
            // Standard input.
            Some("") => return None,
            Some("c") => return code(words.next()),
            Some(flags) if !flags.starts_with('-') && !flags.starts_with(['W', 'X']) => {
                // Several flags in one word: the last may be `m`, with its module behind it or in the next word.
                if flags.ends_with('c') {
                    return code(words.next());
                }
                if flags.contains('c') {
                    return None;
                }
                if let Some((_, module)) = flags.split_once('m') {
                    return match (module, words.next()) {
                        ("", Some(Word::Text(module))) => Some(Runs::Module(module.clone())),
                        ("", _) => None,
                        (module, _) => Some(Runs::Module(module.to_owned())),
                    };
                }
            }
            Some(_) => {}
        }
    }
    None
}

fn code(word: Option<&Word>) -> Option<Runs> {
    match word {
        Some(Word::Text(text)) => Some(Runs::Code(text.clone())),
        _ => None,
    }
}

fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

fn is_python(word: &Word) -> bool {
    match word {
        Word::Python => true,
        Word::Text(text) => {
            let name = text.rsplit(['/', '\\']).next().unwrap_or(text);
            let name = name.strip_suffix(".exe").unwrap_or(name);
            let version =
                ["pythonw", "python", "pypy", "ipython", "py"].iter().find_map(|kind| name.strip_prefix(kind));
            version.is_some_and(|version| version.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'))
        }
        Word::Place(_) | Word::Unknown => false,
    }
}

fn script(word: &Word, is_windows: bool) -> Option<Place> {
    let place = match word {
        Word::Text(text) => Place::from_text(text, is_windows)?,
        Word::Place(place) => place.clone(),
        Word::Python | Word::Unknown => return None,
    };
    let is_script = match place.rest.rsplit_once('.') {
        Some((_, extension)) => matches!(extension, "py" | "pyw" | "pyz" | "pyc" | "ipynb"),
        // The source itself.
        None => place.rest.is_empty() && place.base == super::Base::Source(0),
    };
    is_script.then_some(place)
}

/// The commands of a line for a shell, each as its words; what a variable or a command would give is unknown. Stops at
/// `cd`, behind which nobody knows where paths begin.
pub(super) fn commands(line: &str) -> Vec<Vec<Word>> {
    let mut out = vec![Vec::new()];
    let mut chars = line.chars().peekable();
    let mut word: Option<String> = None;
    let mut is_known = true;
    let end_word = |word: &mut Option<String>, is_known: &mut bool, out: &mut Vec<Vec<Word>>| {
        if let (Some(text), Some(command)) = (word.take(), out.last_mut()) {
            command.push(if *is_known { Word::Text(text) } else { Word::Unknown });
        }
        *is_known = true;
    };
    while let Some(c) = chars.next() {
        match c {
            ' ' | '\t' => end_word(&mut word, &mut is_known, &mut out),
            ';' | '&' | '|' | '\n' | '(' | ')' => {
                end_word(&mut word, &mut is_known, &mut out);
                if out.last().is_some_and(|command| command.first() == Some(&Word::Text("cd".into()))) {
                    break;
                }
                out.push(Vec::new());
            }
            '>' | '<' => {
                end_word(&mut word, &mut is_known, &mut out);
                // Files of redirections are none that run.
                while chars.next_if(|c| matches!(c, '>' | '<' | '&' | ' ')).is_some() {}
                while chars.next_if(|c| !matches!(c, ' ' | ';' | '|')).is_some() {}
            }
            '#' if word.is_none() => break,
            '\\' => word.get_or_insert_default().extend(chars.next().filter(|c| *c != '\n')),
            quote @ ('"' | '\'') => {
                let text = word.get_or_insert_default();
                while let Some(c) = chars.next_if(|c| *c != quote) {
                    is_known &= quote == '\'' || c != '$' && c != '`';
                    match c {
                        '\\' if quote == '"' => text.extend(chars.next()),
                        c => text.push(c),
                    }
                }
                chars.next();
            }
            c => {
                is_known &= c != '$' && c != '`';
                word.get_or_insert_default().push(c);
            }
        }
    }
    end_word(&mut word, &mut is_known, &mut out);
    out.retain(|command| !command.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::python::source::Base;

    fn script_of(line: &str) -> Option<String> {
        commands(line).iter().find_map(|words| runs(words, false)).map(|runs| match runs {
            Runs::Script(place) => place.finish().rest,
            Runs::Module(module) => format!("-m {module}"),
            Runs::Code(text) => format!("-c {text}"),
        })
    }

    #[test]
    fn python_is_found_in_command_lines() {
        for (line, expected) in [
            ("python train.py --n 3", "train.py"),
            ("python3.12 -u -X dev -W ignore a/b.py", "a/b.py"),
            ("/usr/bin/python3 -m pkg.mod x", "-m pkg.mod"),
            ("python -mpkg", "-m pkg"),
            ("python -um pkg", "-m pkg"),
            ("A=1 B=2 python x.py", "x.py"),
            ("uv run python x.py", "x.py"),
            ("echo hi && python 'my file.py' > log.py", "my file.py"),
            ("./tool.py --flag", "tool.py"),
            ("py -3 x.py", "x.py"),
            ("python -c 'import x' y", "-c import x"),
            ("python -uc 'import x'", "-c import x"),
        ] {
            assert_eq!(script_of(line).as_deref(), Some(expected), "{line}");
        }
        for line in [
            "python",
            "python -c $CODE",
            "python $SCRIPT x.py",
            "python \"$HOME/x.py\"",
            "cat x.py",
            "cd sub && python x.py",
            "pythonic x.py",
            "echo > x.py",
            "# python x.py",
            "python - x.py",
            "",
        ] {
            assert_eq!(script_of(line), None, "{line}");
        }
    }

    #[test]
    fn a_source_can_run_itself() {
        let words = [Word::Python, Word::Place(Place::at(Base::Source(0)))];
        assert_eq!(runs(&words, false), Some(Runs::Script(Place::at(Base::Source(0)))));
        let folder = [Word::Python, Word::Place(Place::at(Base::Source(1)))];
        assert_eq!(runs(&folder, false), None);
    }
}
