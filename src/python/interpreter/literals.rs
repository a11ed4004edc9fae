//! Reads the small part of Python that generated files are made of: literals, imports, and calls with literals.
//!
//! Build backends write such files with `repr`. A parser of the whole language would be asked to read what anybody may
//! have put there; this one knows no recursion that input could drive, beyond a fixed depth.

/// Values within values.
const MAX_DEPTH: usize = 8;

/// A literal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Literal {
    /// A string.
    Text(String),
    /// A list, a tuple or a set.
    Sequence(Vec<Literal>),
    /// A dictionary.
    Mapping(Vec<(Literal, Literal)>),
    /// A name or a number.
    Word(String),
}

impl Literal {
    /// The string, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }

    /// The strings of a list, a tuple or a set; of anything else none.
    pub fn texts(&self) -> Vec<&str> {
        if let Self::Sequence(values) = self { values.iter().filter_map(Self::text).collect() } else { Vec::new() }
    }

    /// The entries of a dictionary whose keys are strings; of anything else none.
    pub fn entries(&self) -> Vec<(&str, &Literal)> {
        let Self::Mapping(entries) = self else { return Vec::new() };
        entries.iter().filter_map(|(key, value)| Some((key.text()?, value))).collect()
    }
}

/// A position in a text.
#[derive(Debug, Clone)]
struct Reader<'t> {
    rest: &'t str,
}

impl<'t> Reader<'t> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self) -> Option<&'t str> {
        self.skip_space();
        let is_inside = |char: char| char.is_alphanumeric() || matches!(char, '_' | '.' | '-');
        let end = self.rest.find(|char| !is_inside(char)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!word.is_empty()).then_some(word)
    }

    fn literal(&mut self, depth: usize) -> Option<Literal> {
        if depth > MAX_DEPTH {
            return None;
        }
        self.skip_space();
        match self.rest.chars().next()? {
            '\'' | '"' => self.strings().map(Literal::Text),
            '[' => self.sequence("[", "]", depth),
            '(' => self.sequence("(", ")", depth),
            '{' => self.braces(depth),
            _ => {
                let mut ahead = self.clone();
                match ahead.word()? {
                    "r" | "R" | "u" if ahead.rest.starts_with(['\'', '"']) => self.strings().map(Literal::Text),
                    "set" if ahead.rest.starts_with("()") => {
                        self.rest = ahead.rest.get(2..)?;
                        Some(Literal::Sequence(Vec::new()))
                    }
                    word => {
                        self.rest = ahead.rest;
                        Some(Literal::Word(word.to_owned()))
                    }
                }
            }
        }
    }

    fn sequence(&mut self, open: &str, close: &str, depth: usize) -> Option<Literal> {
        self.eat(open);
        let mut values = Vec::new();
        while !self.eat(close) {
            values.push(self.literal(depth + 1)?);
            if !self.eat(",") && !self.rest.trim_start().starts_with(close) {
                return None;
            }
        }
        Some(Literal::Sequence(values))
    }

    fn braces(&mut self, depth: usize) -> Option<Literal> {
        self.eat("{");
        let (mut values, mut entries) = (Vec::new(), Vec::new());
        while !self.eat("}") {
            let value = self.literal(depth + 1)?;
            if self.eat(":") {
                entries.push((value, self.literal(depth + 1)?));
            } else {
                values.push(value);
            }
            if !self.eat(",") && !self.rest.trim_start().starts_with('}') {
                return None;
            }
        }
        match (values.is_empty(), entries.is_empty()) {
            (false, true) => Some(Literal::Sequence(values)),
            (true, _) => Some(Literal::Mapping(entries)),
            _ => None,
        }
    }

    /// One string, or several that stand one after the other.
    fn strings(&mut self) -> Option<String> {
        let mut text = self.string()?;
        loop {
            self.skip_space();
            if !self.rest.starts_with(['\'', '"']) {
                return Some(text);
            }
            text += &self.string()?;
        }
    }

    fn string(&mut self) -> Option<String> {
        self.skip_space();
        let is_raw = self.rest.starts_with(['r', 'R']);
        let body = self.rest.trim_start_matches(['r', 'R', 'u']);
        let quote = body.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
        let mut chars = body.char_indices().skip(1);
        let mut text = String::new();
        while let Some((at, char)) = chars.next() {
            match char {
                '\n' => return None,
                '\\' if is_raw => {
                    text.push('\\');
                    text.push(chars.next()?.1);
                }
                '\\' => {
                    let digits = match chars.next()?.1 {
                        'n' => {
                            text.push('\n');
                            continue;
                        }
                        'r' => {
                            text.push('\r');
                            continue;
                        }
                        't' => {
                            text.push('\t');
                            continue;
                        }
                        'x' => 2,
                        'u' => 4,
                        'U' => 8,
                        same @ ('\\' | '\'' | '"') => {
                            text.push(same);
                            continue;
                        }
                        _ => return None,
                    };
                    let hex: String = chars.by_ref().take(digits).map(|(_, digit)| digit).collect();
                    text.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)?);
                }
                char if char == quote => {
                    self.rest = body.get(at + 1..)?;
                    return Some(text);
                }
                char => text.push(char),
            }
        }
        None
    }
}

/// The value that a name has been given at the beginning of a line, with a type or without.
pub fn assigned(text: &str, name: &str) -> Option<Literal> {
    let mut rest = text;
    loop {
        let line = rest.strip_prefix(name).filter(|after| after.starts_with([' ', ':', '=']));
        if let Some((_, value)) = line.and_then(|after| after.split_once('=')) {
            return Reader { rest: value }.literal(0);
        }
        rest = rest.split_once('\n')?.1;
    }
}

/// The arguments of the last call of a name at the beginning of a line, if all of them are literals.
pub fn last_call(text: &str, name: &str) -> Option<Vec<Literal>> {
    let open = format!("{name}(");
    let begin = if text.starts_with(&open) { 0 } else { text.rfind(&format!("\n{open}"))? + 1 };
    arguments(text.get(begin + name.len()..)?)
}

/// The arguments of the last call of a name anywhere in a text, if all of them are literals.
pub fn last_call_within(text: &str, name: &str) -> Option<Vec<Literal>> {
    arguments(text.get(text.rfind(&format!("{name}("))? + name.len()..)?)
}

/// The arguments of each call of a name at the beginning of a line, where all of them are literals.
pub fn calls(text: &str, name: &str) -> Vec<Vec<Literal>> {
    let open = |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with('('));
    let lines = text.lines().filter(|line| open(line));
    lines.filter_map(|line| arguments(line.get(name.len()..)?)).collect()
}

fn arguments(text: &str) -> Option<Vec<Literal>> {
    let mut reader = Reader { rest: text };
    match reader.sequence("(", ")", 0)? {
        Literal::Sequence(values) => Some(values),
        _ => None,
    }
}

/// A statement of a line in a `.pth` file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Statement {
    /// `import a.b, c`: the modules' full names.
    Import(Vec<String>),
    /// `a.b("c")`: the name of what is called, and the arguments.
    Call(String, Vec<Literal>),
    /// Anything else.
    Other,
}

/// The statements of a line. Whatever is not understood is [`Statement::Other`].
pub fn statements(line: &str) -> Vec<Statement> {
    let mut found = Vec::new();
    for part in split_statements(line) {
        let words = part.trim();
        let statement = if let Some(names) = words.strip_prefix("import ").or_else(|| words.strip_prefix("import\t")) {
            let name = |name: &str| name.split_whitespace().next().unwrap_or_default().to_owned();
            Statement::Import(names.split(',').map(name).collect())
        } else if let Some((module, _)) = words.strip_prefix("from ").and_then(|rest| rest.trim().split_once(' ')) {
            Statement::Import(vec![module.to_owned()])
        } else {
            let mut reader = Reader { rest: words };
            let called = reader.word().map(str::to_owned);
            let arguments = if reader.rest.starts_with('(') { reader.sequence("(", ")", 0) } else { None };
            match (called, arguments) {
                (Some(called), Some(Literal::Sequence(values))) if reader.rest.trim().is_empty() => {
                    Statement::Call(called, values)
                }
                _ => Statement::Other,
            }
        };
        found.push(statement);
    }
    found
}

/// Cuts a line at its semicolons, but not within strings.
fn split_statements(line: &str) -> Vec<&str> {
    let (mut quote, mut is_escaped) = (None, false);
    let is_end = |char: char| {
        match (quote, char) {
            (Some(_), '\\') if !is_escaped => {
                is_escaped = true;
                return false;
            }
            (Some(open), close) if open == close && !is_escaped => quote = None,
            (None, '\'' | '"') => quote = Some(char),
            (None, ';') => return true,
            _ => {}
        }
        is_escaped = false;
        false
    };
    line.split(is_end).filter(|part| !part.trim().is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &str) -> Literal {
        Literal::Text(text.into())
    }

    #[test]
    fn what_repr_writes_is_read() {
        let cases = [
            (r"'a'", Some(text("a"))),
            (r#""it's""#, Some(text("it's"))),
            (r"'C:\\x\t\x41\u00e9\U0001F600'", Some(text("C:\\x\tAé😀"))),
            (r"r'C:\x'", Some(text(r"C:\x"))),
            ("'a' 'b'", Some(text("ab"))),
            ("[]", Some(Literal::Sequence(vec![]))),
            ("set()", Some(Literal::Sequence(vec![]))),
            ("('a',)", Some(Literal::Sequence(vec![text("a")]))),
            ("{'a', 'b'}", Some(Literal::Sequence(vec![text("a"), text("b")]))),
            ("{'a': ['b'],\n}", Some(Literal::Mapping(vec![(text("a"), Literal::Sequence(vec![text("b")]))]))),
            ("{}", Some(Literal::Mapping(vec![]))),
            ("-1.5", Some(Literal::Word("-1.5".into()))),
            ("'a", None),
            ("['a' 1]", None),
            ("{'a': }", None),
            ("{'a', 'b': 1}", None),
            ("[1 + 2]", None),
            ("f'{x}'", Some(Literal::Word("f".into()))),
            (r"'\N{DASH}'", None),
        ];
        for (source, expected) in cases {
            assert_eq!(Reader { rest: source }.literal(0), expected, "{source}");
        }
        assert_eq!(Reader { rest: &"[".repeat(1_000_000) }.literal(0), None);
    }

    #[test]
    fn assignments_and_calls_are_found_at_the_beginning_of_lines() {
        let source =
            "x = {}\n# MAPPING = 1\n  MAPPING = 2\nMAPPINGS = 3\nMAPPING: dict[str, str] = {'a': 'b'}\nA = 'b'\n";
        assert_eq!(assigned(source, "MAPPING").expect("there").entries(), [("a", &text("b"))]);
        assert_eq!(assigned(source, "A"), Some(text("b")));
        assert_eq!(assigned(source, "B"), None);
        let source = "def install(a):\n    pass\n\ninstall(\n    {'a'},\n    '/b',\n    None)\n";
        let found = last_call(source, "install").expect("there");
        assert_eq!(found, [Literal::Sequence(vec![text("a")]), text("/b"), Literal::Word("None".into())]);
        assert_eq!(last_call("install(x + 1)", "install"), None);
        let source = "F.install()\nF.map_module('a', '/a.py')\nF.map_module(b)\nF.map_modules('c')\n";
        assert_eq!(calls(source, "F.map_module"), [vec![text("a"), text("/a.py")], vec![Literal::Word("b".into())]]);
    }

    #[test]
    fn lines_are_cut_into_statements() {
        let found = statements("import os, a.b as c; site.addsitedir('/x;\\'y'); x = 1; from d.e import f;");
        assert_eq!(
            found,
            [
                Statement::Import(vec!["os".into(), "a.b".into()]),
                Statement::Call("site.addsitedir".into(), vec![text("/x;'y")]),
                Statement::Other,
                Statement::Import(vec!["d.e".into()]),
            ]
        );
        assert_eq!(statements("import sys; sys.path.insert(0, '/x')").len(), 2);
        assert_eq!(statements("import a; f('x') and g()").last(), Some(&Statement::Other));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics(source in ".{0,60}", pieces in "[\\[\\](){}'\"\\\\a:,;= rux0\n]{0,40}") {
            let _ = (statements(&source), assigned(&source, "a"), last_call(&source, "a"), calls(&source, "a"));
            let _ = (statements(&pieces), assigned(&pieces, "a"), last_call(&pieces, "a"), calls(&pieces, "a"));
        }
    }
}
