//! From the user's text to conditions and keys.

use serde_json::{Number, Value};

use super::{Condition, FIELDS, Key, Operator, Place, Test};
use crate::error::{Error, Result};

/// How deep parentheses may be nested.
pub(super) const MAX_DEPTH: usize = 64;

/// The longest piece of a user's text that an error repeats, in characters.
const MAX_QUOTED_CHARS: usize = 40;

/// The words that cannot be keys without backticks.
const RESERVED: [&str; 8] = ["and", "or", "not", "in", "exists", "true", "false", "null"];

/// Every operator and bracket, the longer ones first.
const SYMBOLS: [&str; 11] = ["==", "!=", "<=", ">=", "=", "<", ">", "~", "(", ")", ","];

/// One word, value or symbol of the text, which begins at byte `at`.
#[derive(Debug)]
pub(super) struct Token {
    at: usize,
    end: usize,
    pub(super) kind: Kind,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A run of letters, digits, `_`, `-` and `.`, or something in backticks, or both.
    Word {
        plain: String,
        quoted: Option<String>,
    },
    Text(String),
    Number(Number),
    Symbol(&'static str),
    End,
    /// What no token begins with or ends as, in words.
    Wrong(String),
}

pub(super) struct Parser<'a> {
    /// What the text should be.
    what: &'static str,
    text: &'a str,
    pub(super) token: Token,
    depth: usize,
}

impl<'a> Parser<'a> {
    pub(super) fn new(what: &'static str, text: &'a str) -> Self {
        Self { what, text, token: next_token(text, 0), depth: 0 }
    }

    /// Moves to the next token and returns the one before it.
    fn advance(&mut self) -> Token {
        let next = next_token(self.text, self.token.end);
        std::mem::replace(&mut self.token, next)
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let is_next =
            matches!(&self.token.kind, Kind::Word { plain, quoted: None } if plain.eq_ignore_ascii_case(keyword));
        if is_next {
            self.advance();
        }
        is_next
    }

    fn take_symbol(&mut self, symbol: &str) -> bool {
        let is_next = matches!(self.token.kind, Kind::Symbol(found) if found == symbol);
        if is_next {
            self.advance();
        }
        is_next
    }

    pub(super) fn any_of(&mut self) -> Result<Condition> {
        let mut parts = vec![self.all_of()?];
        while self.take_keyword("or") {
            parts.push(self.all_of()?);
        }
        Ok(single(&mut parts).unwrap_or(Condition::AnyOf(parts)))
    }

    fn all_of(&mut self) -> Result<Condition> {
        let mut parts = vec![self.one()?];
        while self.take_keyword("and") {
            parts.push(self.one()?);
        }
        Ok(single(&mut parts).unwrap_or(Condition::AllOf(parts)))
    }

    fn one(&mut self) -> Result<Condition> {
        let mut negated = false;
        while self.take_keyword("not") {
            negated = !negated;
        }
        let condition = if matches!(self.token.kind, Kind::Symbol("(")) {
            if self.depth == MAX_DEPTH {
                return Err(self.wrong_at(self.token.at, &format!("more than {MAX_DEPTH} nested parentheses")));
            }
            self.depth += 1;
            self.advance();
            let inner = self.any_of()?;
            if !self.take_symbol(")") {
                return Err(self.expected("an operator (= != < <= > >= ~ in exists and or) or )"));
            }
            self.depth -= 1;
            inner
        } else {
            let key = self.key()?;
            Condition::Test(key, self.test()?)
        };
        Ok(if negated { Condition::Not(Box::new(condition)) } else { condition })
    }

    pub(super) fn key(&mut self) -> Result<Key> {
        let Kind::Word { plain, quoted } = &self.token.kind else {
            return Err(self.expected("a key (such as name, params.fast, metrics.sharpe)"));
        };
        if quoted.is_none() && RESERVED.iter().any(|word| plain.eq_ignore_ascii_case(word)) {
            return Err(self.expected("a key (such as name, params.fast, metrics.sharpe)"));
        }
        let key = key_of(plain, quoted.as_deref()).map_err(|wrong| self.wrong_at(self.token.at, &wrong))?;
        self.advance();
        Ok(key)
    }

    fn test(&mut self) -> Result<Test> {
        if self.take_keyword("exists") {
            return Ok(Test::Exists);
        }
        if self.take_keyword("in") {
            return self.list().map(Test::In);
        }
        if self.take_symbol("~") {
            return match self.literal()? {
                (_, Value::String(part)) => Ok(Test::Contains(part)),
                (at, _) => Err(self.wrong_at(at, "~ looks for text in quotes")),
            };
        }
        let Kind::Symbol(symbol) = self.token.kind else { return Ok(Test::Exists) };
        let Some(operator) = Operator::of(symbol) else { return Ok(Test::Exists) };
        self.advance();
        match self.literal()? {
            (at, Value::Null) if !matches!(operator, Operator::Equal | Operator::NotEqual) => {
                Err(self.wrong_at(at, "null compares with = and != only"))
            }
            (_, value) => Ok(Test::Compare(operator, value)),
        }
    }

    fn list(&mut self) -> Result<Vec<Value>> {
        if !self.take_symbol("(") {
            return Err(self.expected("a list of values: (5, 10)"));
        }
        let mut values = Vec::new();
        loop {
            values.push(self.literal()?.1);
            if self.take_symbol(")") {
                return Ok(values);
            }
            if !self.take_symbol(",") {
                return Err(self.expected(", or )"));
            }
        }
    }

    /// A value and the place where it begins.
    fn literal(&mut self) -> Result<(usize, Value)> {
        let at = self.token.at;
        let value = match &self.token.kind {
            Kind::Number(number) => Value::Number(number.clone()),
            Kind::Text(text) => Value::String(text.clone()),
            Kind::Word { plain, quoted: None } => match plain.to_ascii_lowercase().as_str() {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                // Python's word is understood as well.
                "null" | "none" => Value::Null,
                _ => return Err(self.expected("a value (text needs quotes: 'text')")),
            },
            _ => return Err(self.expected("a value (a number, 'text', true, false or null)")),
        };
        self.advance();
        Ok((at, value))
    }

    /// The error at the current token, which is not what belongs there.
    pub(super) fn expected(&self, what: &str) -> Error {
        let found = match &self.token.kind {
            Kind::Wrong(wrong) => return self.wrong_at(self.token.at, wrong),
            Kind::End => "the end".to_owned(),
            _ => quote(self.text.get(self.token.at..self.token.end).unwrap_or_default()),
        };
        self.wrong_at(self.token.at, &format!("expected {what}, found {found}"))
    }

    fn wrong_at(&self, at: usize, wrong: &str) -> Error {
        let before = self.text.get(..at).unwrap_or(self.text);
        Error::Usage(format!("Not a {}: at character {}: {wrong}", self.what, before.chars().count() + 1))
    }
}

/// The only element of a list of one.
fn single(parts: &mut Vec<Condition>) -> Option<Condition> {
    if parts.len() == 1 { parts.pop() } else { None }
}

/// A piece of the user's text, on one line and not too long.
fn quote(text: &str) -> String {
    let mut start: String = text.chars().take(MAX_QUOTED_CHARS).collect();
    if start.len() < text.len() {
        start.push('…');
    }
    format!("{start:?}")
}

/// The key that a word means, or what is wrong with it.
fn key_of(plain: &str, quoted: Option<&str>) -> Result<Key, String> {
    let key = |place, name: &str| Ok(Key { place, name: name.to_owned() });
    let places = [("params", Place::Params), ("metrics", Place::Metrics), ("environment", Place::Environment)];
    for (prefix, place) in places {
        let Some(after_prefix) = plain.strip_prefix(prefix) else { continue };
        match (after_prefix.strip_prefix('.'), quoted) {
            (None, None) if after_prefix.is_empty() => return Err(format!("{prefix} needs a name: {prefix}.NAME")),
            (Some(""), None | Some("")) => return Err(format!("{prefix} needs a name: {prefix}.NAME")),
            (Some(""), Some(name)) | (Some(name), None) => return key(place, name),
            _ => {}
        }
    }
    for (mistaken, prefix) in [("param.", "params."), ("metric.", "metrics."), ("env.", "environment.")] {
        if plain.starts_with(mistaken) {
            return Err(format!("unknown key {mistaken}NAME, write {prefix}NAME"));
        }
    }
    match (plain, quoted) {
        ("", Some("")) => Err("expected a name between the backticks".to_owned()),
        ("", Some(name)) => key(Place::ParamsOrMetrics, name),
        (_, Some(_)) => Err("backticks follow params., metrics. or environment. or stand alone".to_owned()),
        (name, None) if FIELDS.contains(&name) => key(Place::Field, name),
        (name, None) => key(Place::ParamsOrMetrics, name),
    }
}

/// The first token from byte `from` on.
fn next_token(text: &str, from: usize) -> Token {
    let rest = text.get(from..).unwrap_or_default().trim_start();
    let at = text.len() - rest.len();
    let (kind, length) = match rest.chars().next() {
        None => (Kind::End, 0),
        Some(quote @ ('\'' | '"')) => match quoted_text(rest, quote) {
            Ok((text, length)) => (Kind::Text(text), length),
            Err(wrong) => (Kind::Wrong(wrong), rest.len()),
        },
        Some('`') => word(rest, 0),
        Some(c) if c.is_alphabetic() || c == '_' => {
            word(rest, rest.find(|c: char| !is_name_char(c)).unwrap_or(rest.len()))
        }
        Some('0'..='9' | '+' | '-' | '.') => number(rest),
        Some(c) => match SYMBOLS.into_iter().find(|symbol| rest.starts_with(symbol)) {
            Some(symbol) => (Kind::Symbol(symbol), symbol.len()),
            None => (Kind::Wrong(format!("unexpected {}", quote(&c.to_string()))), c.len_utf8()),
        },
    };
    Token { at, end: at + length, kind }
}

fn is_name_char(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

/// The word whose part before any backticks has `length` bytes.
fn word(rest: &str, length: usize) -> (Kind, usize) {
    let (plain, after) = rest.split_at_checked(length).unwrap_or((rest, ""));
    let plain = plain.to_owned();
    if !after.starts_with('`') {
        return (Kind::Word { plain, quoted: None }, length);
    }
    match quoted_text(after, '`') {
        Ok((name, more)) => (Kind::Word { plain, quoted: Some(name) }, length + more),
        Err(wrong) => (Kind::Wrong(wrong), rest.len()),
    }
}

/// Reads text from its opening to its closing quote: what it means, and its length with the quotes.
fn quoted_text(rest: &str, quote: char) -> Result<(String, usize), String> {
    let mut text = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return Ok((text, at + c.len_utf8()));
        }
        text.push(match c {
            '\\' => match chars.next() {
                Some((_, c @ ('\\' | '\'' | '"' | '`'))) => c,
                Some((_, 'n')) => '\n',
                Some((_, 'r')) => '\r',
                Some((_, 't')) => '\t',
                Some(_) => return Err("unknown escape in quoted text (a backslash itself is \\\\)".to_owned()),
                None => break,
            },
            c => c,
        });
    }
    Err(format!("no closing {quote}"))
}

fn number(rest: &str) -> (Kind, usize) {
    let mut before = ' ';
    let length = rest.find(|c: char| {
        let belongs = match c {
            '+' | '-' => matches!(before, ' ' | 'e' | 'E'),
            c => c.is_ascii_alphanumeric() || matches!(c, '.' | '_'),
        };
        before = c;
        !belongs
    });
    let text = rest.get(..length.unwrap_or(rest.len())).unwrap_or_default();
    let kind = match number_of(text.strip_prefix('+').unwrap_or(text)) {
        Some(number) => Kind::Number(number),
        None => Kind::Wrong(format!("{} is not a finite number", quote(text))),
    };
    (kind, text.len())
}

fn number_of(text: &str) -> Option<Number> {
    if let Ok(integer) = text.parse::<u64>() {
        return Some(integer.into());
    }
    if let Ok(integer) = text.parse::<i64>() {
        return Some(integer.into());
    }
    // Journals are read by serde_json: what it makes of a float's text must be the same here, to the last bit.
    serde_json::from_str(text).ok().or_else(|| Number::from_f64(text.parse().ok()?))
}
