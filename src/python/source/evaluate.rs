//! The values of expressions that are known without running anything: strings, paths, and the Python that runs.

use std::cell::Cell;

use ruff_python_ast::{self as ast, Expr, Operator};

use super::place::Place;
use super::resources;
use super::scopes::{Binding, Scopes};
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
    steps: Cell<u32>,
}

/// Expressions looked at for one value, which bounds names that stand for each other in ever more ways.
const MAX_STEPS: u32 = 400;
/// Expressions within each other.
const MAX_DEPTH: u32 = 40;
/// A longer string is no path.
const MAX_TEXT: usize = 8192;

/// Where an expression is seen from.
#[derive(Debug, Clone, Copy)]
pub(super) struct At {
    scope: usize,
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

    fn pieces(&self, expr: &'a Expr, at: At) -> Vec<Piece> {
        let mut out = Vec::new();
        self.push_pieces(expr, at, &mut out);
        out
    }

    fn push_pieces(&self, expr: &'a Expr, at: At, out: &mut Vec<Piece>) {
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

    fn push_elements(&self, elements: &'a ast::InterpolatedStringElements, at: At, out: &mut Vec<Piece>) {
        for element in elements {
            match element {
                ast::InterpolatedStringElement::Literal(literal) => push_text(out, &literal.value),
                ast::InterpolatedStringElement::Interpolation(field)
                    if field.format_spec.is_none()
                        && field.debug_text.is_none()
                        && matches!(field.conversion, ast::ConversionFlag::None | ast::ConversionFlag::Str) =>
                {
                    self.push_pieces(&field.expression, at, out);
                }
                ast::InterpolatedStringElement::Interpolation(_) => out.push(Piece::Hole),
            }
        }
    }

    /// `a + b + c` leans to the left: it is taken apart by a loop.
    fn push_sum(&self, operation: &'a ast::ExprBinOp, at: At, out: &mut Vec<Piece>) {
        let mut terms = vec![operation.right.as_ref()];
        let mut left = operation.left.as_ref();
        while let Expr::BinOp(ast::ExprBinOp { left: more, op: Operator::Add, right, .. }) = left {
            terms.push(right);
            left = more;
            if terms.len() > usize::try_from(MAX_STEPS).unwrap_or(usize::MAX) {
                return out.push(Piece::Hole);
            }
        }
        terms.push(left);
        for term in terms.into_iter().rev() {
            self.push_pieces(term, at, out);
        }
    }

    /// `"%s/x" % folder`.
    fn push_percent(&self, operation: &'a ast::ExprBinOp, at: At, out: &mut Vec<Piece>) {
        let Some(Value::Text(format)) = self.value(&operation.left, at) else { return out.push(Piece::Hole) };
        let mut values = match operation.right.as_ref() {
            Expr::Tuple(tuple) => tuple.elts.iter().collect::<Vec<_>>(),
            other => vec![other],
        }
        .into_iter();
        let mut rest = format.as_str();
        while let Some((text, after)) = rest.split_once('%') {
            push_text(out, text);
            rest = match (after.chars().next(), after.get(1..)) {
                (Some('%'), Some(after)) => {
                    push_text(out, "%");
                    after
                }
                (Some('s'), Some(after)) => {
                    match values.next() {
                        Some(value) => self.push_pieces(value, at, out),
                        None => out.push(Piece::Hole),
                    }
                    after
                }
                // Widths, keys and numbers: what follows is not known either.
                _ => return out.push(Piece::Hole),
            };
        }
        push_text(out, rest);
    }

    /// `"{}/x".format(folder)`; false where it is no such call.
    fn format_call(&self, call: &'a ast::ExprCall, at: At, out: &mut Vec<Piece>) -> bool {
        let Expr::Attribute(attribute) = call.func.as_ref() else { return false };
        if attribute.attr.as_str() != "format" {
            return false;
        }
        let Some(Value::Text(format)) = self.value(&attribute.value, at) else { return false };
        let mut values = call.arguments.args.iter();
        let mut rest = format.as_str();
        while let Some(place) = rest.find(['{', '}']) {
            let (text, after) = rest.split_at_checked(place).unwrap_or((rest, ""));
            push_text(out, text);
            if let Some(after) = after.strip_prefix("{{") {
                push_text(out, "{");
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                push_text(out, "}");
                rest = after;
            } else {
                let Some((field, after)) = after.strip_prefix('{').and_then(|field| field.split_once('}')) else {
                    out.push(Piece::Hole);
                    return true;
                };
                let value = match (field, field.parse::<usize>()) {
                    ("", _) => values.next(),
                    (_, Ok(number)) => call.arguments.args.get(number),
                    _ => call.arguments.find_keyword(field).map(|keyword| &keyword.value),
                };
                match value.filter(|value| !value.is_starred_expr()) {
                    Some(value) => self.push_pieces(value, at, out),
                    None => out.push(Piece::Hole),
                }
                rest = after;
            }
        }
        push_text(out, rest);
        true
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
            _ => out.push(Piece::Hole),
        }
    }

    fn quotient(&self, operation: &'a ast::ExprBinOp, at: At) -> Option<Place> {
        let (left, right) = (self.value(&operation.left, at)?, self.value(&operation.right, at)?);
        let (mut place, other) = match (left, right) {
            (Value::Place(left), Value::Text(right)) => (left, Place::from_text(&right, self.is_windows())?),
            (Value::Place(left), Value::Place(right)) => (left, right),
            (Value::Text(left), Value::Place(right)) => (Place::from_text(&left, self.is_windows())?, right),
            _ => return None,
        };
        if !place.is_object && !other.is_object {
            return None;
        }
        place.join(&other, self.is_windows());
        place.is_object = true;
        Some(place)
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

    fn subscript(&self, subscript: &'a ast::ExprSubscript, at: At) -> Option<Piece> {
        let index = small_number(&subscript.slice)?;
        match subscript.value.as_ref() {
            Expr::Attribute(attribute) if attribute.attr.as_str() == "parents" => {
                let place = self.place(&attribute.value, at).filter(|place| place.is_object)?;
                (0..=index).try_fold(place, |place, _| place.parent()).map(Piece::Place)
            }
            Expr::Call(call) if self.qualified(&call.func, at).as_deref() == Some("os.path.split") => {
                let place = self.place(argument(call, 0, &["p"])?, at)?;
                match index {
                    0 => place.parent().map(Piece::Place),
                    1 => place.name().map(|name| Piece::Text(name.to_owned())),
                    _ => None,
                }
            }
            Expr::Call(call) if self.qualified(&call.func, at).as_deref() == Some("os.path.splitext") => {
                let place = self.place(argument(call, 0, &["p"])?, at)?;
                let stem = place.rest.rsplit_once('.').filter(|_| index == 0 && place.name().is_some())?.0.to_owned();
                Some(Piece::Place(Place { rest: stem, ..place }))
            }
            Expr::Name(name) if name.id.as_str() == "__path__" && index == 0 => {
                self.scopes.lookup("__path__", at.scope).is_none().then(|| Piece::Place(Place::at(Base::Source(1))))
            }
            _ => None,
        }
    }

    fn call(&self, call: &'a ast::ExprCall, at: At) -> Option<Piece> {
        let arguments = &call.arguments;
        if let Expr::Attribute(attribute) = call.func.as_ref()
            && let Some(piece) = self.method(attribute, arguments, at)
        {
            return Some(piece);
        }
        let first = argument(call, 0, &["path", "p", "filename", "object", "args"]);
        let name = self.qualified(&call.func, at)?;
        let name = name.strip_prefix("posixpath.").map(|rest| format!("os.path.{rest}")).unwrap_or(name);
        let place = match name.as_str() {
            "pathlib.Path"
            | "pathlib.PurePath"
            | "pathlib.PosixPath"
            | "pathlib.PurePosixPath"
            | "pathlib.WindowsPath"
            | "pathlib.PureWindowsPath" => {
                let place = Place { is_object: true, ..Place::at(Base::Working) };
                self.joined(place, &arguments.args, at)?
            }
            "os.path.join" => {
                let (first, rest) = arguments.args.split_first()?;
                let first = match self.value(first, at)? {
                    Value::Place(place) => place,
                    Value::Text(text) => Place::from_text(&text, self.is_windows())?,
                    Value::Python => return None,
                };
                Place { is_object: false, ..self.joined(first, rest, at)? }
            }
            "os.path.dirname" => match self.value(first?, at)? {
                Value::Text(text) => {
                    let folder = text.rsplit_once('/').map_or("", |(folder, _)| folder);
                    return Some(Piece::Text(
                        if folder.is_empty() && text.starts_with('/') { "/" } else { folder }.into(),
                    ));
                }
                Value::Place(place) => place.parent()?,
                Value::Python => return None,
            },
            "os.path.basename" => return Some(Piece::Text(self.place(first?, at)?.name()?.to_owned())),
            "os.path.abspath" | "os.path.realpath" => match self.value(first?, at)? {
                Value::Place(place) => place,
                Value::Text(text) => Place::from_text(&text, self.is_windows())?,
                Value::Python => return None,
            }
            .resolve(),
            "os.path.normpath" => Place { is_resolved: false, ..self.place(first?, at)?.resolve() },
            "os.path.expanduser" | "os.path.expandvars" | "os.path.normcase" | "os.fspath" | "builtins.str"
            | "os.fsdecode" => {
                let piece = match self.value(first?, at)? {
                    Value::Place(place) => Piece::Place(Place { is_object: false, ..place }),
                    Value::Text(text) if text.contains(['~', '$']) => return None,
                    Value::Text(text) => Piece::Text(text),
                    Value::Python => Piece::Python,
                };
                return Some(piece);
            }
            "os.getcwd" | "os.getcwdb" => Place { is_resolved: true, ..Place::at(Base::Working) },
            "pathlib.Path.cwd" => Place { is_resolved: true, is_object: true, ..Place::at(Base::Working) },
            "inspect.getfile" | "inspect.getsourcefile" | "inspect.getabsfile" => match first? {
                Expr::Call(inner) if self.qualified(&inner.func, at).as_deref() == Some("inspect.currentframe") => {
                    Place::at(Base::Source(0))
                }
                Expr::Lambda(_) => Place::at(Base::Source(0)),
                _ => return None,
            },
            "importlib.resources.files" | "importlib_resources.files" => {
                let package = match argument(call, 0, &["anchor", "package"]) {
                    Some(package) => self.package(package, at)?,
                    None => Package { level: 1, module: String::new() },
                };
                Place { is_object: true, package: Some(package), ..Place::at(Base::Package) }
            }
            "importlib.resources.as_file" | "importlib_resources.as_file" => self.place(first?, at)?,
            name if resources::is_function(name) => resources::place(self, call, name, at)?,
            _ => return None,
        };
        Some(Piece::Place(place))
    }

    fn method(&self, attribute: &'a ast::ExprAttribute, arguments: &'a ast::Arguments, at: At) -> Option<Piece> {
        let name = attribute.attr.as_str();
        if !matches!(
            name,
            "resolve"
                | "absolute"
                | "joinpath"
                | "with_name"
                | "with_suffix"
                | "with_stem"
                | "expanduser"
                | "as_posix"
                | "__str__"
        ) {
            return None;
        }
        let Value::Place(place) = self.value(&attribute.value, at)? else { return None };
        if !place.is_object {
            return None;
        }
        let text = || match self.value(arguments.args.first()?, at)? {
            Value::Text(text) if !text.contains('/') => Some(text),
            _ => None,
        };
        let place = match name {
            "resolve" => place.resolve(),
            "absolute" => Place { is_resolved: true, ..place },
            "joinpath" => self.joined(place, &arguments.args, at)?,
            "with_name" => {
                let mut place = place.parent()?;
                place.push(&text()?, self.is_windows());
                place
            }
            "with_suffix" | "with_stem" => {
                let old = place.name()?.to_owned();
                let (stem, suffix) = match old.rfind('.').filter(|dot| *dot > 0) {
                    Some(dot) => old.split_at_checked(dot)?,
                    None => (old.as_str(), ""),
                };
                let new = text()?;
                let mut place = place.parent()?;
                let new = if name == "with_stem" { format!("{new}{suffix}") } else { format!("{stem}{new}") };
                place.push(&new, self.is_windows());
                place
            }
            "as_posix" | "__str__" => Place { is_object: false, ..place },
            _ => place,
        };
        Some(Piece::Place(place))
    }

    fn joined(&self, mut place: Place, more: &'a [Expr], at: At) -> Option<Place> {
        for (number, expr) in more.iter().enumerate() {
            match self.value(expr, at)? {
                Value::Text(text) => place.join(&Place::from_text(&text, self.is_windows())?, self.is_windows()),
                Value::Place(other) if number == 0 && place.rest.is_empty() && place.base == Base::Working => {
                    place = Place { is_object: place.is_object, ..other };
                }
                Value::Place(other) => place.join(&other, self.is_windows()),
                Value::Python => return None,
            }
        }
        Some(place)
    }

    /// The package that an expression names or is.
    pub(super) fn package(&self, expr: &'a Expr, at: At) -> Option<Package> {
        let mut pieces = self.pieces(expr, at).into_iter();
        match (pieces.next(), pieces.next()) {
            (Some(Piece::OwnPackage), None) => Some(Package { level: 1, module: String::new() }),
            (Some(Piece::OwnPackage), Some(Piece::Text(rest))) if pieces.next().is_none() => {
                Some(Package { level: 1, module: rest.strip_prefix('.')?.to_owned() })
            }
            (Some(Piece::Text(text)), None) => Package::from_dotted(&text),
            (Some(Piece::Hole), None) => Package::from_dotted(self.qualified(expr, at)?.as_str()),
            _ => None,
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

fn push_text(out: &mut Vec<Piece>, text: &str) {
    if text.len() > MAX_TEXT {
        return out.push(Piece::Hole);
    }
    match out.last_mut() {
        Some(Piece::Text(last)) if last.len() <= MAX_TEXT => last.push_str(text),
        Some(Piece::Text(_)) => out.push(Piece::Hole),
        _ => out.push(Piece::Text(text.to_owned())),
    }
}
