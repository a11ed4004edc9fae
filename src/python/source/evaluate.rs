//! The values of expressions that are known without running anything: strings, paths, and the Python that runs.

use std::cell::Cell;

use ruff_python_ast::{self as ast, Expr, Operator};

use super::place::Place;
use super::scopes::{Binding, Scopes};
use super::strings::{MAX_TEXT, push_text};
use super::{Base, Target};

/// A piece of a string or a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Known text.
    Text(String),
    /// A path that begins somewhere.
    Place(Place),
    /// `__package__`, or `__name__`, which in the package's `__init__.py` is the same.
    OwnPackage,
    /// `sys.executable`.
    Python,
    /// What is not known.
    Hole,
}

/// A known value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Value {
    Text(String),
    Place(Place),
    Python,
}

/// A string of which the beginning is known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Beginning {
    /// Whether the own package's name stands before the text.
    pub(super) own_package: bool,
    pub(super) text: String,
    /// Whether nothing follows.
    pub(super) is_whole: bool,
}

/// Evaluates expressions of one source.
pub(super) struct Evaluator<'w, 'a> {
    pub(super) scopes: &'w Scopes<'a>,
    pub(super) target: &'w Target,
    steps: Cell<u32>,
}

/// Expressions looked at for one value, which bounds names that stand for each other in ever more ways.
pub(super) const MAX_STEPS: u32 = 400;
/// Expressions within each other.
const MAX_DEPTH: u32 = 40;
/// Where an expression is seen from.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) scope: usize,
    depth: u32,
}

impl At {
    fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }
}

impl<'w, 'a> Evaluator<'w, 'a> {
    pub(super) fn new(scopes: &'w Scopes<'a>, target: &'w Target) -> Self {
        Self { scopes, target, steps: Cell::new(0) }
    }

    /// Seen from the innermost scope.
    pub(super) fn here(&self) -> At {
        At { scope: self.scopes.innermost(), depth: 0 }
    }

    pub(super) fn is_windows(&self) -> bool {
        self.target.os_name == "nt"
    }

    pub(super) fn qualified(&self, expr: &Expr, at: At) -> Option<String> {
        self.scopes.qualified(expr, at.scope)
    }

    /// The path that an expression stands for.
    pub(super) fn path(&self, expr: &'a Expr) -> Option<Place> {
        self.steps.set(0);
        self.place(expr, self.here())
    }

    /// The value of an expression.
    pub(super) fn value_of(&self, expr: &'a Expr) -> Option<Value> {
        self.steps.set(0);
        self.value(expr, self.here())
    }

    /// The whole text of an expression.
    pub(super) fn text_of(&self, expr: &'a Expr) -> Option<String> {
        match self.value_of(expr)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// How the text of an expression begins; `None` where nothing of it is known.
    pub(super) fn beginning_of(&self, expr: &'a Expr) -> Option<Beginning> {
        self.steps.set(0);
        let mut out = Beginning { is_whole: true, ..Beginning::default() };
        for (number, piece) in self.pieces(expr, self.here()).into_iter().enumerate() {
            match piece {
                Piece::Text(text) if out.is_whole => out.text.push_str(&text),
                Piece::OwnPackage if number == 0 => out.own_package = true,
                _ => out.is_whole = false,
            }
        }
        (out.is_whole || out.own_package || !out.text.is_empty()).then_some(out)
    }

    /// The pieces of an expression's text.
    pub(super) fn pieces_of(&self, expr: &'a Expr) -> Vec<Piece> {
        self.steps.set(0);
        self.pieces(expr, self.here())
    }

    /// What a name stands for, where it is bound once, and else the expression itself.
    pub(super) fn resolved(&self, expr: &'a Expr) -> &'a Expr {
        let mut at = self.here();
        let mut expr = expr;
        for _ in 0..8 {
            let Expr::Name(name) = expr else { return expr };
            match self.scopes.lookup(name.id.as_str(), at.scope) {
                Some((scope, Binding::Value(value))) => (at.scope, expr) = (scope, value),
                _ => return expr,
            }
        }
        expr
    }

    pub(super) fn place(&self, expr: &'a Expr, at: At) -> Option<Place> {
        match self.value(expr, at)? {
            Value::Place(place) => Some(place),
            Value::Text(text) if !text.is_empty() => Place::from_text(&text, self.is_windows()),
            _ => None,
        }
    }

    pub(super) fn value(&self, expr: &'a Expr, at: At) -> Option<Value> {
        let mut value = None;
        for piece in self.pieces(expr, at) {
            value = Some(match (value, piece) {
                (None, Piece::Text(text)) => Value::Text(text),
                (None, Piece::Place(place)) => Value::Place(place),
                (None, Piece::Python) => Value::Python,
                (Some(Value::Text(mut text)), Piece::Text(more)) => {
                    text.push_str(&more);
                    Value::Text(text)
                }
                (Some(Value::Text(text)), Piece::Place(place)) if text.is_empty() => Value::Place(place),
                (Some(Value::Place(mut place)), Piece::Text(more)) => {
                    place.append_text(&more, self.is_windows())?;
                    Value::Place(place)
                }
                _ => return None,
            });
        }
        value.filter(|value| !matches!(value, Value::Text(text) if text.len() > MAX_TEXT))
    }

    pub(super) fn pieces(&self, expr: &'a Expr, at: At) -> Vec<Piece> {
        let mut out = Vec::new();
        self.push_pieces(expr, at, &mut out);
        out
    }

    pub(super) fn push_pieces(&self, expr: &'a Expr, at: At, out: &mut Vec<Piece>) {
        let steps = self.steps.get();
        self.steps.set(steps + 1);
        if steps >= MAX_STEPS || at.depth >= MAX_DEPTH {
            return out.push(Piece::Hole);
        }
        let at = at.deeper();
        match expr {
            Expr::StringLiteral(literal) => push_text(out, literal.value.to_str()),
            Expr::FString(string) => {
                for part in &string.value {
                    match part {
                        ast::FStringPart::Literal(literal) => push_text(out, &literal.value),
                        ast::FStringPart::FString(string) => self.push_elements(&string.elements, at, out),
                    }
                }
            }
            Expr::BinOp(operation) => match operation.op {
                Operator::Add => self.push_sum(operation, at, out),
                Operator::Mod => self.push_percent(operation, at, out),
                Operator::Div => match self.quotient(operation, at) {
                    Some(place) => out.push(Piece::Place(place)),
                    None => out.push(Piece::Hole),
                },
                _ => out.push(Piece::Hole),
            },
            Expr::Name(name) => match (name.id.as_str(), self.scopes.lookup(name.id.as_str(), at.scope)) {
                ("__file__", None) => out.push(Piece::Place(Place::at(Base::Source(0)))),
                ("__name__" | "__package__", None) => out.push(Piece::OwnPackage),
                (_, Some((scope, Binding::Value(value)))) => self.push_pieces(value, At { scope, ..at }, out),
                _ => self.push_constant(expr, at, out),
            },
            Expr::Attribute(attribute) => match self.attribute(attribute, at) {
                Some(piece) => out.push(piece),
                None => self.push_constant(expr, at, out),
            },
            Expr::Subscript(subscript) => out.push(self.subscript(subscript, at).unwrap_or(Piece::Hole)),
            Expr::Call(call) => match self.format_call(call, at, out) {
                true => {}
                false => out.push(self.call(call, at).unwrap_or(Piece::Hole)),
            },
            _ => out.push(Piece::Hole),
        }
    }

    pub(super) fn push_constant(&self, expr: &'a Expr, at: At, out: &mut Vec<Piece>) {
        let name = self.qualified(expr, at).unwrap_or_default();
        match name.as_str() {
            "os.curdir" | "os.path.curdir" => push_text(out, "."),
            "os.pardir" | "os.path.pardir" => push_text(out, ".."),
            "os.sep" | "os.path.sep" if !self.is_windows() => push_text(out, "/"),
            "os.sep" | "os.path.sep" => push_text(out, "\\"),
            "sys.executable" => out.push(Piece::Python),
            "builtins.__spec__.parent" => out.push(Piece::OwnPackage),
            "builtins.__spec__.origin" => out.push(Piece::Place(Place::at(Base::Source(0)))),
            _ => out.push(Piece::Hole),
        }
    }
}

/// Whether a text is a module's name: identifiers with dots between.
pub(super) fn is_dotted(text: &str) -> bool {
    text.split('.').all(|part| {
        !part.is_empty()
            && !part.starts_with(|c: char| c.is_ascii_digit())
            && part.chars().all(|c| c.is_alphanumeric() || c == '_')
    })
}

/// An argument by its place or its names.
pub(super) fn argument<'a>(call: &'a ast::ExprCall, at: usize, names: &[&str]) -> Option<&'a Expr> {
    let arguments = &call.arguments;
    // Behind `*args` nobody knows which place an argument has.
    let positional = arguments.args.get(at).filter(|_| !arguments.args.iter().take(at + 1).any(Expr::is_starred_expr));
    positional.or_else(|| names.iter().find_map(|name| arguments.find_keyword(name)).map(|keyword| &keyword.value))
}

/// A literal number from 0 to 255.
pub(super) fn small_number(expr: &Expr) -> Option<u8> {
    match expr {
        Expr::NumberLiteral(ast::ExprNumberLiteral { value: ast::Number::Int(number), .. }) => number.as_u8(),
        _ => None,
    }
}
