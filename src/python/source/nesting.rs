//! Keeps sources that nest too deeply away from the parser, and gives the others the stack that they may need.
//!
//! A syntax tree is dropped by recursion: a million nested brackets would overflow the stack, which ends the process. Two
//! numbers guard against that. The *bound* counts all that may nest anywhere in a text, strings and comments included:
//! cheap, and never too low, whatever the parser makes of a broken source. It decides how much stack is set aside, which
//! costs nothing until it is used. Where the bound is high, the text is lexed once more for its real depth, and what no
//! Python would take is refused: the parser's own recursion uses real memory, and nested f-strings take it time that
//! grows with the square of them.

use ruff_python_ast::token::TokenKind;
use ruff_python_parser::Mode;
use ruff_python_parser::lexer::lex;

use super::Problem;

/// A longer source is refused.
const MAX_BYTES: usize = 4 << 20;
/// Up to this bound a text is parsed unseen.
const MAX_UNSEEN: usize = 5_000;
/// Brackets open at once; Python takes 200.
const MAX_BRACKETS: usize = 250;
/// Blocks within blocks; Python takes 100.
const MAX_INDENTS: usize = 150;
/// Operators, calls and attributes that lean on each other in one expression, with those around it.
const MAX_CHAIN: usize = 10_000;

/// With a higher bound a text is refused when its tokens are damaged: the parser would make other tokens of it than were
/// looked at. Of other texts no tree is as deep as that.
const MAX_DAMAGED: usize = 50_000;

/// Stack that is needed however flat a source is, and per level of nesting; unoptimised code needs several times more.
/// The parser grows its own stack, but not everywhere: a level of defaults of lambdas takes most.
const STACK_BYTES: usize = if cfg!(debug_assertions) { 768 << 10 } else { 256 << 10 };
const LEVEL_BYTES: usize = if cfg!(debug_assertions) { 4096 } else { 1536 };

/// How deep a text may nest, which it takes to parse it.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::python) struct Depth {
    bound: usize,
}

impl Depth {
    /// Refuses a text that is too long or nests too deeply.
    pub(in crate::python) fn of(text: &str, mode: Mode) -> Result<Self, Problem> {
        if text.len() > MAX_BYTES {
            return Err(Problem { line: 1, message: format!("over {MAX_BYTES} bytes long") });
        }
        let bound = bound(text);
        if bound > MAX_UNSEEN {
            check_tokens(text, mode, bound)?;
        }
        Ok(Self { bound })
    }

    /// That of two texts, one of them at a time.
    pub(in crate::python) fn max(self, other: Self) -> Self {
        Self { bound: self.bound.max(other.bound) }
    }

    /// Runs `f` where there is enough stack to parse the text, to walk over it and to drop what came of it.
    pub(in crate::python) fn with_stack<R>(self, f: impl FnOnce() -> R) -> R {
        let bytes = STACK_BYTES + self.bound.min(MAX_DAMAGED) * LEVEL_BYTES;
        stacker::maybe_grow(bytes, bytes, f)
    }
}

/// How many levels a syntax tree of the text can have at most: every level takes an operator, a bracket or a keyword.
fn bound(text: &str) -> usize {
    let mut count = 0;
    let mut word = None;
    let bytes = text.as_bytes();
    for (at, byte) in bytes.iter().enumerate() {
        if byte.is_ascii_alphanumeric() || *byte == b'_' || *byte >= 0x80 {
            word = word.or(Some(at));
            continue;
        }
        count += usize::from(may_nest(*byte)) + word.take().map_or(0, |start| is_keyword(bytes.get(start..at)));
    }
    count + word.map_or(0, |start| is_keyword(bytes.get(start..)))
}

fn may_nest(byte: u8) -> bool {
    matches!(
        byte,
        b'(' | b'['
            | b'{'
            | b'.'
            | b':'
            | b'+'
            | b'-'
            | b'*'
            | b'/'
            | b'%'
            | b'@'
            | b'&'
            | b'|'
            | b'^'
            | b'~'
            | b'<'
            | b'>'
    )
}

fn is_keyword(word: Option<&[u8]>) -> usize {
    usize::from(matches!(
        word,
        Some(
            b"if"
                | b"else"
                | b"elif"
                | b"for"
                | b"in"
                | b"is"
                | b"not"
                | b"and"
                | b"or"
                | b"lambda"
                | b"await"
                | b"async"
                | b"yield"
                | b"def"
                | b"class"
                | b"while"
                | b"with"
                | b"try"
                | b"except"
                | b"finally"
                | b"match"
                | b"case"
                | b"from"
                | b"as"
                | b"lazy"
                | b"type"
                | b"return"
                | b"raise"
                | b"del"
                | b"assert"
        )
    ))
}

/// The real depth, as the lexer sees it.
fn check_tokens(text: &str, mode: Mode, bound: usize) -> Result<(), Problem> {
    let refused = |what: &str| Err(Problem { line: 1, message: format!("nested too deeply: {what}") });
    let mut lexer = lex(text, mode);
    let (mut indents, mut outer, mut chain) = (0usize, 0usize, 0usize);
    let mut is_damaged = false;
    // What `outer` and `chain` were before each bracket that is open.
    let mut open: Vec<(usize, usize)> = Vec::new();
    loop {
        match lexer.next_token() {
            TokenKind::EndOfFile if bound > MAX_DAMAGED && (is_damaged || !open.is_empty()) => {
                let message = "too long for a source with unclosed brackets or strings".to_owned();
                return Err(Problem { line: 1, message });
            }
            TokenKind::EndOfFile => return Ok(()),
            TokenKind::Unknown => is_damaged = true,
            TokenKind::Indent => indents += 1,
            TokenKind::Dedent => indents = indents.saturating_sub(1),
            TokenKind::Newline | TokenKind::Semi if open.is_empty() => (outer, chain) = (0, 0),
            TokenKind::Comma => chain = 0,
            TokenKind::Lpar | TokenKind::Lsqb | TokenKind::Lbrace => {
                open.push((outer, chain + 1));
                (outer, chain) = (outer + chain + 1, 0);
            }
            TokenKind::Rpar | TokenKind::Rsqb | TokenKind::Rbrace => match open.pop() {
                Some(before) => (outer, chain) = before,
                None => is_damaged = true,
            },
            kind if leans(kind) => chain += 1,
            _ => {}
        }
        if open.len() > MAX_BRACKETS {
            return refused("brackets");
        }
        if indents > MAX_INDENTS {
            return refused("blocks");
        }
        if outer + chain > MAX_CHAIN {
            return refused("one expression");
        }
    }
}

/// Whether a token puts one expression into another.
fn leans(kind: TokenKind) -> bool {
    matches!(
        kind,
        TokenKind::Dot
            | TokenKind::Colon
            | TokenKind::Plus
            | TokenKind::Minus
            | TokenKind::Star
            | TokenKind::DoubleStar
            | TokenKind::Slash
            | TokenKind::DoubleSlash
            | TokenKind::Percent
            | TokenKind::At
            | TokenKind::Amper
            | TokenKind::Vbar
            | TokenKind::CircumFlex
            | TokenKind::Tilde
            | TokenKind::LeftShift
            | TokenKind::RightShift
            | TokenKind::ColonEqual
            | TokenKind::Not
            | TokenKind::And
            | TokenKind::Or
            | TokenKind::If
            | TokenKind::Lambda
            | TokenKind::Await
            | TokenKind::Async
            | TokenKind::Yield
    )
}
