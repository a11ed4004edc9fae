//! What a shell is told with `-c`: simple commands, as far as they can be told apart without running them.

use std::ffi::OsString;

use crate::python::variables::Variables;

/// A longer script is not read.
const MAX_CHARS: usize = 256 << 10;

/// Whether a program of that name is a shell.
pub fn is_shell(name: &str) -> bool {
    ["sh", "bash", "dash", "zsh", "ksh", "ash", "fish"].contains(&name.strip_suffix(".exe").unwrap_or(name))
}

/// The script that a shell is given, and `$0` and the arguments behind it; `None` where it reads it from elsewhere.
pub fn script(arguments: &[OsString]) -> Option<(String, &[OsString])> {
    let mut rest = arguments;
    while let Some((first, behind)) = rest.split_first() {
        let said = first.to_str()?;
        rest = behind;
        match said.strip_prefix('-').or_else(|| said.strip_prefix('+')) {
            Some("o" | "O") => rest = behind.split_first()?.1,
            Some("-rcfile" | "-init-file") => rest = behind.split_first()?.1,
            Some(letters) if !letters.starts_with('-') && said.starts_with('-') && letters.contains('c') => {
                let (script, behind) = behind.split_first()?;
                return Some((script.to_str()?.to_owned(), behind));
            }
            Some(_) => {}
            None => return None,
        }
    }
    None
}

/// The simple commands of a script in their order, each as its words.
pub fn commands(script: &str, arguments: &[OsString], variables: &Variables) -> Vec<Vec<OsString>> {
    let mut splitter = Splitter {
        arguments,
        variables: variables.clone(),
        commands: Vec::new(),
        words: Vec::new(),
        word: None,
        is_redirected: false,
    };
    if script.chars().count() <= MAX_CHARS {
        splitter.read(script);
    }
    splitter.end_command();
    splitter.commands
}

struct Splitter<'a> {
    arguments: &'a [OsString],
    /// As they are at this place of the script.
    variables: Variables,
    commands: Vec<Vec<OsString>>,
    words: Vec<OsString>,
    word: Option<OsString>,
    /// Whether the next word names a file that is redirected to.
    is_redirected: bool,
}

impl Splitter<'_> {
    fn read(&mut self, script: &str) {
        let mut chars = script.chars().peekable();
        while let Some(char) = chars.next() {
            match char {
                '\'' => {
                    let mut inner = String::new();
                    inner.extend(chars.by_ref().take_while(|char| *char != '\''));
                    self.push(&inner);
                }
                '"' => {
                    self.push("");
                    while let Some(char) = chars.next().filter(|char| *char != '"') {
                        match char {
                            '\\' => match chars.next() {
                                Some('\n') | None => {}
                                Some(next @ ('"' | '\\' | '$' | '`')) => self.push(next.encode_utf8(&mut [0; 4])),
                                Some(next) => self.push(&format!("\\{next}")),
                            },
                            '$' => self.expand(&mut chars, true),
                            char => self.push(char.encode_utf8(&mut [0; 4])),
                        }
                    }
                }
                '\\' => match chars.next() {
                    Some('\n') | None => {}
                    Some(next) => self.push(next.encode_utf8(&mut [0; 4])),
                },
                '$' => self.expand(&mut chars, false),
                '~' if self.word.is_none() => {
                    let home = self.variables.get("HOME").filter(|_| matches!(chars.peek(), None | Some('/' | ' ')));
                    self.word = Some(home.map_or_else(|| "~".into(), OsString::from));
                }
                '#' if self.word.is_none() => while chars.next().is_some_and(|char| char != '\n') {},
                '\n' | ';' | '|' | '&' | '(' | ')' => {
                    // `2>&1`: no end of a command.
                    if char == '&' && self.is_redirected && self.word.is_none() {
                        continue;
                    }
                    if char == '&' && chars.peek() == Some(&'>') {
                        continue;
                    }
                    self.end_command();
                }
                '>' | '<' => {
                    // A number in front says what is redirected.
                    if self.word.as_ref().is_some_and(|word| word.to_string_lossy().chars().all(|c| c.is_ascii_digit()))
                    {
                        self.word = None;
                    }
                    self.end_word();
                    self.is_redirected = true;
                }
                char if char.is_whitespace() => self.end_word(),
                char => self.push(char.encode_utf8(&mut [0; 4])),
            }
        }
    }

    fn push(&mut self, piece: &str) {
        self.word.get_or_insert_default().push(piece);
    }

    /// What stands behind a `$`. What is not known is left as it is written.
    fn expand(&mut self, chars: &mut std::iter::Peekable<std::str::Chars<'_>>, is_quoted: bool) {
        if let Some(sign @ ('@' | '*')) = chars.peek().copied() {
            chars.next();
            let behind = self.arguments.get(1..).unwrap_or_default();
            for (place, argument) in behind.iter().enumerate() {
                if place > 0 && (sign == '@' || !is_quoted) {
                    self.end_word();
                } else if place > 0 {
                    self.push(" ");
                }
                self.word.get_or_insert_default().push(argument);
            }
            // An empty "$@" is no word at all.
            if behind.is_empty() && self.word.as_ref().is_some_and(|word| word.is_empty()) {
                self.word = None;
            }
            return;
        }
        let has_braces = chars.next_if_eq(&'{').is_some();
        let mut name = String::new();
        let is_number = chars.peek().is_some_and(char::is_ascii_digit);
        while let Some(char) = chars.next_if(|char| char.is_ascii_alphanumeric() || *char == '_') {
            name.push(char);
            if is_number && !has_braces {
                break;
            }
        }
        let is_whole = !has_braces || chars.next_if_eq(&'}').is_some();
        let number = name.parse::<usize>().ok();
        let value = match number {
            Some(place) => self.arguments.get(place).map(OsString::as_os_str),
            None => self.variables.get(&name),
        };
        match value.filter(|_| is_whole) {
            Some(value) => self.word.get_or_insert_default().push(value),
            None => {
                let (open, close) = if has_braces { ("{", if is_whole { "}" } else { "" }) } else { ("", "") };
                self.push(&format!("${open}{name}{close}"));
            }
        }
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        if !std::mem::take(&mut self.is_redirected) {
            self.words.push(word);
        }
    }

    fn end_command(&mut self) {
        self.end_word();
        self.is_redirected = false;
        let words = std::mem::take(&mut self.words);
        let is_keyword = |word: &&OsString| {
            let keywords = ["then", "else", "do", "{", "}", "!", "if", "elif", "while", "until", "fi", "done"];
            word.to_str().is_some_and(|word| keywords.contains(&word))
        };
        let skipped = words.iter().take_while(is_keyword).count();
        let words: Vec<OsString> = words.into_iter().skip(skipped).collect();
        let set = words.iter().skip(usize::from(words.first().is_some_and(|word| word == "export")));
        let set: Option<Vec<_>> = set.map(assignment).collect();
        for (name, value) in set.unwrap_or_default() {
            self.variables.set(name, value);
        }
        if !words.is_empty() {
            self.commands.push(words);
        }
    }
}

/// The name and the value of a word that sets a variable.
pub fn assignment(word: &OsString) -> Option<(&str, &str)> {
    let (name, value) = word.to_str()?.split_once('=')?;
    let is_name = !name.starts_with(|char: char| char.is_ascii_digit()) && !name.is_empty();
    (is_name && name.chars().all(|char| char.is_ascii_alphanumeric() || char == '_')).then_some((name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(script: &str) -> Vec<Vec<String>> {
        let variables = [("HOME", "/home/me"), ("A", "a b")].into_iter().collect();
        let arguments = ["zero", "one", "two words"].map(OsString::from);
        let found = commands(script, &arguments, &variables);
        found
            .into_iter()
            .map(|words| words.into_iter().map(|word| word.into_string().expect("text")).collect())
            .collect()
    }

    #[test]
    fn words_are_split_as_a_shell_does() {
        let cases: &[(&str, &[&[&str]])] = &[
            ("python x.py", &[&["python", "x.py"]]),
            (r#"python 'a b' "c d" e\ f ''"#, &[&["python", "a b", "c d", "e f", ""]]),
            (r#"echo "a\"b\n$A${A}\$" '$A' $B ${B}"#, &[&["echo", "a\"b\\na ba b$", "$A", "$B", "${B}"]]),
            ("exec \"$@\"", &[&["exec", "one", "two words"]]),
            ("python \"$0\" $1 ${2}0", &[&["python", "zero", "one", "two words0"]]),
            ("cd /a && python x > log 2>&1 &", &[&["cd", "/a"], &["python", "x"]]),
            ("a | b; c || d\ne", &[&["a"], &["b"], &["c"], &["d"], &["e"]]),
            ("if true; then python x; fi # end", &[&["true"], &["python", "x"]]),
            ("(python ~/x ~y a~)", &[&["python", "/home/me/x", "~y", "a~"]]),
            ("python x &> log < in", &[&["python", "x"]]),
            ("python \\\n x", &[&["python", "x"]]),
            ("x 'open", &[&["x", "open"]]),
            ("", &[]),
        ];
        for (script, expected) in cases {
            assert_eq!(split(script), *expected, "{script}");
        }
    }

    #[test]
    fn the_script_is_the_word_behind_c() {
        let read = |words: &[&str]| {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            script(&words).map(|(script, behind)| (script, behind.len()))
        };
        assert_eq!(read(&["-c", "x", "a", "b"]), Some(("x".into(), 2)));
        assert_eq!(read(&["-lc", "x"]), Some(("x".into(), 0)));
        assert_eq!(read(&["-e", "-o", "pipefail", "--norc", "-c", "x"]), Some(("x".into(), 0)));
        assert_eq!(read(&["run.sh", "-c", "x"]), None);
        assert_eq!(read(&["--rcfile", "f", "-c"]), None);
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(script in "[a'\"\\\\$@{}~#;|&()<> \n0-2]{0,40}") {
            let _ = split(&script);
        }
    }
}
