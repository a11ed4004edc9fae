//! The values of expressions that are known without running anything: strings, paths, and the Python that runs.

use std::cell::Cell;

use ruff_python_ast::{self as ast, Expr, Operator};
use ruff_text_size::{Ranged, TextRange};

use super::constants::{HOLE, has_mark};
use super::given::Given;
use super::place::Place;
use super::scopes::{Binding, Scopes};
use super::several::Choices;
use super::{Base, Package, Target};

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
    pub(super) choices: &'w Choices,
    given: &'w Given,
    steps: Cell<u32>,
    /// Whether what is not known becomes a [`HOLE`].
    keeps_holes: Cell<bool>,
    /// Whether parameters are only what calls give them.
    skips_defaults: Cell<bool>,
    /// Whether a parameter's default was looked at.
    used_defaults: Cell<bool>,
}

/// Expressions looked at for one value, which bounds names that stand for each other in ever more ways.
pub(super) const MAX_STEPS: u32 = 400;
/// Expressions within each other.
const MAX_DEPTH: u32 = 40;
/// A longer string is no path.
const MAX_TEXT: usize = 8192;

/// Where an expression is seen from.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    pub(super) scope: usize,
    pub(super) depth: u32,
    /// Whether numbers become text, as they do in an f-string.
    pub(super) is_formatted: bool,
}

impl At {
    pub(super) fn deeper(self) -> Self {
        Self { depth: self.depth + 1, ..self }
    }

    /// Whether it is not too deep.
    pub(super) fn is_allowed(self) -> bool {
        self.depth < MAX_DEPTH
    }

    pub(super) fn formatted(self, is_formatted: bool) -> Self {
        Self { is_formatted, ..self }
    }
}

impl<'w, 'a> Evaluator<'w, 'a> {
    pub(super) fn new(scopes: &'w Scopes<'a>, target: &'w Target, choices: &'w Choices, given: &'w Given) -> Self {
        Self {
            scopes,
            target,
            choices,
            given,
            steps: Cell::new(0),
            keeps_holes: Cell::new(false),
            skips_defaults: Cell::new(false),
            used_defaults: Cell::new(false),
        }
    }

    /// Counts a step; false where there were enough.
    pub(super) fn may_step(&self) -> bool {
        let steps = self.steps.get();
        self.steps.set(steps.saturating_add(1));
        steps < MAX_STEPS
    }

    /// Seen from the innermost scope.
    pub(super) fn here(&self) -> At {
        At { scope: self.scopes.innermost(), depth: 0, is_formatted: false }
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

    /// The paths that an expression may stand for.
    pub(super) fn paths(&self, expr: &'a Expr) -> Vec<Place> {
        self.choices.each(|| self.path(expr)).into_iter().flatten().collect()
    }

    /// Whether an evaluation gives something that does not come of a parameter's default alone: `found` is what it has given.
    pub(super) fn is_known<T>(&self, found: &[T], again: impl FnOnce(&Self) -> Vec<T>) -> bool {
        if found.is_empty() || !self.used_defaults.replace(false) {
            return !found.is_empty();
        }
        self.skips_defaults.set(true);
        let is_known = !again(self).is_empty();
        self.skips_defaults.set(false);
        is_known
    }

    /// The paths that an expression may stand for, with holes in them where something is not known.
    pub(super) fn paths_with_holes(&self, expr: &'a Expr) -> Vec<Place> {
        self.keeps_holes.set(true);
        let mut paths = self.paths(expr);
        self.keeps_holes.set(false);
        paths.retain(|place| place.rest.contains(HOLE));
        paths
    }

    /// The texts that an expression may stand for.
    pub(super) fn texts_of(&self, expr: &'a Expr) -> Vec<String> {
        self.choices.each(|| self.text_of(expr)).into_iter().flatten().collect()
    }

    /// How the texts begin that an expression may stand for.
    pub(super) fn beginnings_of(&self, expr: &'a Expr) -> Vec<Beginning> {
        self.choices.each(|| self.beginning_of(expr)).into_iter().flatten().collect()
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
                // What another module gives is not known here.
                Piece::Text(text) if has_mark(&text) => {
                    if out.is_whole {
                        out.text.push_str(text.split(super::MARK).next().unwrap_or_default());
                    }
                    out.is_whole = false;
                }
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
            let piece = match piece {
                Piece::Hole if self.keeps_holes.get() => Piece::Text(HOLE.to_owned()),
                piece => piece,
            };
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
        if !self.may_step() || at.depth >= MAX_DEPTH {
            return out.push(Piece::Hole);
        }
        let at = at.deeper();
        match expr {
            Expr::StringLiteral(literal) if has_mark(literal.value.to_str()) => out.push(Piece::Hole),
            Expr::StringLiteral(literal) => push_text(out, literal.value.to_str()),
            Expr::FString(string) => {
                for part in &string.value {
                    match part {
                        ast::FStringPart::Literal(literal) => push_text(out, &literal.value),
                        ast::FStringPart::FString(string) => self.push_elements(&string.elements, at, out),
                    }
                }
            }
            Expr::NumberLiteral(ast::ExprNumberLiteral { value: ast::Number::Int(number), .. }) if at.is_formatted => {
                push_text(out, &number.to_string());
            }
            Expr::BinOp(operation) => match (operation.op, at.formatted(false)) {
                (Operator::Add, at) => self.push_sum(operation, at, out),
                (Operator::Mod, at) => self.push_percent(operation, at, out),
                (Operator::Div, at) => match self.quotient(operation, at) {
                    Some(place) => out.push(Piece::Place(place)),
                    None => out.push(Piece::Hole),
                },
                _ => out.push(Piece::Hole),
            },
            Expr::Name(name) => match (name.id.as_str(), self.scopes.lookup(name.id.as_str(), at.scope)) {
                ("__file__", None) => out.push(Piece::Place(Place::at(Base::Source(0)))),
                ("__name__" | "__package__", None) => out.push(Piece::OwnPackage),
                (_, Some((scope, Binding::Value(value)))) => self.push_pieces(value, At { scope, ..at }, out),
                (_, Some((_, Binding::Parameter(parameter)))) => self.push_given(*parameter, out),
                (_, Some((scope, Binding::Each(each)))) => self.push_each(each, At { scope, ..at }, out),
                _ => self.push_constant(expr, at, out),
            },
            Expr::Attribute(attribute) => match self.attribute(attribute, at) {
                Some(piece) => out.push(piece),
                None if self.push_attribute(attribute, at, out) => {}
                None => self.push_constant(expr, at, out),
            },
            Expr::Subscript(subscript) => match self.subscript(subscript, at) {
                Some(piece) => out.push(piece),
                None if self.push_picked(&subscript.value, &subscript.slice, subscript.range(), at, out) => {}
                None => out.push(Piece::Hole),
            },
            Expr::If(choice) => self.push_one_of(&[&choice.body, &choice.orelse], expr.range(), at, out),
            Expr::BoolOp(ast::ExprBoolOp { op: ast::BoolOp::Or, values, .. }) => {
                self.push_one_of(&values.iter().take(8).collect::<Vec<_>>(), expr.range(), at, out);
            }
            Expr::Call(call) => match self.format_call(call, at, out) || self.push_lookup(call, at, out) {
                true => {}
                false => out.push(self.call(call, at).unwrap_or(Piece::Hole)),
            },
            _ => out.push(Piece::Hole),
        }
    }

    /// Pushes what the calls of the source give a parameter, or its default.
    pub(super) fn push_given(&self, parameter: TextRange, out: &mut Vec<Piece>) {
        let given = self.given.of(parameter);
        let default = self.given.default_of(parameter).filter(|_| !self.skips_defaults.get());
        self.used_defaults.set(self.used_defaults.get() || default.is_some());
        // Whoever else calls it gives it something else.
        let chosen = self.choices.choose(parameter, given.len() + usize::from(default.is_some()) + 1);
        let piece = chosen.and_then(|number| given.iter().chain(default).nth(number));
        out.push(piece.cloned().unwrap_or(Piece::Hole));
    }

    fn push_constant(&self, expr: &'a Expr, at: At, out: &mut Vec<Piece>) {
        let name = self.qualified(expr, at).unwrap_or_default();
        match name.as_str() {
            "os.curdir" | "os.path.curdir" => push_text(out, "."),
            "os.pardir" | "os.path.pardir" => push_text(out, ".."),
            "os.sep" | "os.path.sep" if !self.is_windows() => push_text(out, "/"),
            "os.sep" | "os.path.sep" => push_text(out, "\\"),
            "sys.executable" => out.push(Piece::Python),
            "builtins.__spec__.parent" => out.push(Piece::OwnPackage),
            "builtins.__spec__.origin" => out.push(Piece::Place(Place::at(Base::Source(0)))),
            _ => match self.scopes.mark(expr, at.scope) {
                Some(mark) => push_text(out, &mark),
                None => out.push(Piece::Hole),
            },
        }
    }

    fn quotient(&self, operation: &'a ast::ExprBinOp, at: At) -> Option<Place> {
        let (left, right) = (self.value(&operation.left, at)?, self.value(&operation.right, at)?);
        let (mut place, other) = match (left, right) {
            (Value::Place(left), Value::Text(right)) => (left, Place::from_text(&right, self.is_windows())?),
            (Value::Place(left), Value::Place(right)) => (left, right),
            (Value::Text(left), Value::Place(right)) => (Place::from_text(&left, self.is_windows())?, right),
            // What another module has may be a path object.
            (Value::Text(left), Value::Text(right)) if has_mark(&left) => {
                (self.marked(&left)?, Place::from_text(&right, self.is_windows())?)
            }
            _ => return None,
        };
        if !place.is_object && !other.is_object {
            return None;
        }
        place.join(&other, self.is_windows());
        place.is_object = true;
        Some(place)
    }

    /// A path object that begins with another module's value.
    pub(super) fn marked(&self, text: &str) -> Option<Place> {
        let place = Place::from_text(text, self.is_windows())?;
        text.starts_with(super::MARK).then_some(Place { is_object: true, ..place })
    }

    fn attribute(&self, attribute: &'a ast::ExprAttribute, at: At) -> Option<Piece> {
        if !matches!(attribute.attr.as_str(), "parent" | "name" | "stem" | "suffix") {
            return None;
        }
        let Value::Place(place) = self.value(&attribute.value, at)? else { return None };
        if !place.is_object {
            return None;
        }
        let split = |name: &str| name.rfind('.').filter(|dot| *dot > 0 && dot + 1 < name.len());
        match attribute.attr.as_str() {
            "parent" => Some(Piece::Place(place.parent()?)),
            "name" => Some(Piece::Text(place.name()?.to_owned())),
            "stem" => place
                .name()
                .map(|name| Piece::Text(name.get(..split(name).unwrap_or(name.len())).unwrap_or(name).to_owned())),
            _ => place
                .name()
                .map(|name| Piece::Text(split(name).and_then(|dot| name.get(dot..)).unwrap_or_default().to_owned())),
        }
    }
}

impl Package {
    /// From a dotted name with its leading dots.
    pub(super) fn from_dotted(name: &str) -> Option<Self> {
        let module = name.trim_start_matches('.');
        if name.is_empty() || name.starts_with("builtins.") || !is_dotted(module) && !module.is_empty() {
            return None;
        }
        Some(Self { level: u32::try_from(name.len() - module.len()).ok()?, module: module.to_owned() })
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

pub(super) fn push_text(out: &mut Vec<Piece>, text: &str) {
    if text.len() > MAX_TEXT {
        return out.push(Piece::Hole);
    }
    match out.last_mut() {
        Some(Piece::Text(last)) if last.len() <= MAX_TEXT => last.push_str(text),
        Some(Piece::Text(_)) => out.push(Piece::Hole),
        _ => out.push(Piece::Text(text.to_owned())),
    }
}
