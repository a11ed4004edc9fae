//! Tests that are decided without running anything: versions, platforms, type checkers and the main program.

use ruff_python_ast::{self as ast, BoolOp, CmpOp, Expr, Stmt, UnaryOp};

use super::evaluate::small_number;
use super::scopes::{Binding, Scopes};
use super::{Target, When};

/// What a test comes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Decided.
    Known(bool),
    /// True for type checkers alone, or for all but them.
    TypeChecking(bool),
    /// True in the main program alone, or in all others.
    Main(bool),
    Unknown,
}

/// The conditions that a place in a source stands under.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conditions {
    pub(super) conditional: bool,
    pub(super) main_only: bool,
    pub(super) lazy: bool,
    pub(super) type_only: bool,
    pub(super) never: bool,
}

impl Conditions {
    pub(super) fn when(self) -> When {
        match self {
            Self { never: true, .. } => When::Never,
            Self { type_only: true, .. } => When::TypeOnly,
            Self { lazy: true, .. } => When::Lazy,
            Self { main_only: true, .. } => When::MainOnly,
            Self { conditional: true, .. } => When::Conditional,
            _ => When::Always,
        }
    }

    pub(super) fn maybe(self) -> Self {
        Self { conditional: true, ..self }
    }

    /// Where a test is true, and where it is not.
    pub(super) fn branches(self, verdict: Verdict) -> (Self, Self) {
        let never = Self { never: true, ..self };
        let type_only = Self { type_only: true, ..self };
        let main_only = Self { main_only: true, ..self };
        match verdict {
            Verdict::Known(true) => (self, never),
            Verdict::Known(false) => (never, self),
            Verdict::TypeChecking(true) => (type_only, self),
            Verdict::TypeChecking(false) => (self, type_only),
            Verdict::Main(true) => (main_only, self.maybe()),
            Verdict::Main(false) => (self.maybe(), main_only),
            Verdict::Unknown => (self.maybe(), self.maybe()),
        }
    }
}

impl Verdict {
    fn not(self) -> Self {
        match self {
            Self::Known(value) => Self::Known(!value),
            Self::TypeChecking(value) => Self::TypeChecking(!value),
            Self::Main(value) => Self::Main(!value),
            Self::Unknown => Self::Unknown,
        }
    }

    /// Type checkers do not run.
    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(false), _) | (_, Self::Known(false)) => Self::Known(false),
            (Self::TypeChecking(true), _) | (_, Self::TypeChecking(true)) => Self::TypeChecking(true),
            (Self::Known(true), other) | (other, Self::Known(true)) => other,
            (Self::TypeChecking(false), other) | (other, Self::TypeChecking(false)) => other,
            // What is guarded is at most for the main program; what is not is open.
            (Self::Main(true), _) | (_, Self::Main(true)) => Self::Main(true),
            (Self::Main(false), Self::Main(false)) => Self::Main(false),
            _ => Self::Unknown,
        }
    }

    fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Known(true), _) | (_, Self::Known(true)) => Self::Known(true),
            (Self::Known(false), other) | (other, Self::Known(false)) => other,
            (same, other) if same == other => same,
            (Self::TypeChecking(true), other) | (other, Self::TypeChecking(true)) => other,
            _ => Self::Unknown,
        }
    }
}

/// Tests within tests that are looked at.
const MAX_DEPTH: usize = 20;

/// What a test comes to on `target`.
pub(super) fn verdict(test: &Expr, scopes: &Scopes<'_>, target: &Target) -> Verdict {
    Tests { scopes, target }.verdict(test, MAX_DEPTH)
}

/// Whether a block under `if False:` is the old way to tell type checkers what to import.
pub(super) fn is_for_type_checkers(body: &[Stmt]) -> bool {
    body.iter().any(|stmt| match stmt {
        Stmt::ImportFrom(import) => import.module.as_ref().is_some_and(|module| is_typing(module.as_str())),
        Stmt::Import(import) => import.names.iter().any(|alias| is_typing(alias.name.as_str())),
        _ => false,
    })
}

fn is_typing(module: &str) -> bool {
    matches!(module, "typing" | "typing_extensions")
}

struct Tests<'s, 'a> {
    scopes: &'s Scopes<'a>,
    target: &'s Target,
}

impl Tests<'_, '_> {
    fn verdict(&self, test: &Expr, depth: usize) -> Verdict {
        let Some(depth) = depth.checked_sub(1) else { return Verdict::Unknown };
        match test {
            Expr::BooleanLiteral(literal) => Verdict::Known(literal.value),
            Expr::NoneLiteral(_) => Verdict::Known(false),
            Expr::NumberLiteral(literal) => match &literal.value {
                ast::Number::Int(number) => number.as_u64().map_or(Verdict::Known(true), |n| Verdict::Known(n != 0)),
                _ => Verdict::Unknown,
            },
            Expr::StringLiteral(literal) => Verdict::Known(!literal.value.is_empty()),
            Expr::UnaryOp(ast::ExprUnaryOp { op: UnaryOp::Not, operand, .. }) => self.verdict(operand, depth).not(),
            Expr::BoolOp(operation) => {
                let verdicts = operation.values.iter().map(|value| self.verdict(value, depth));
                match operation.op {
                    BoolOp::And => verdicts.reduce(Verdict::and),
                    BoolOp::Or => verdicts.reduce(Verdict::or),
                }
                .unwrap_or(Verdict::Unknown)
            }
            Expr::Compare(compare) => self.comparison(compare),
            Expr::Call(call) => self.call(call),
            Expr::Name(_) | Expr::Attribute(_) => self.named(test, depth),
            _ => Verdict::Unknown,
        }
    }

    fn named(&self, test: &Expr, depth: usize) -> Verdict {
        let from = self.scopes.innermost();
        if let Expr::Name(name) = test
            && let Some((_, Binding::Value(value))) = self.scopes.lookup(name.id.as_str(), from)
        {
            return match (name.id.as_str(), value) {
                ("TYPE_CHECKING" | "MYPY", Expr::BooleanLiteral(literal)) => Verdict::TypeChecking(!literal.value),
                // `PY3 = sys.version_info[0] == 3`, but not a switch that somebody may turn.
                (_, Expr::Compare(_) | Expr::Call(_) | Expr::UnaryOp(_) | Expr::BoolOp(_)) => {
                    match self.verdict(value, depth) {
                        known @ (Verdict::Known(_) | Verdict::TypeChecking(_)) => known,
                        _ => Verdict::Unknown,
                    }
                }
                (_, Expr::Attribute(_)) => self.verdict(value, depth),
                _ => Verdict::Unknown,
            };
        }
        let name = self.scopes.qualified(test, from).unwrap_or_default();
        match name.rsplit_once('.') {
            Some((module, "TYPE_CHECKING")) if is_typing(module) => Verdict::TypeChecking(true),
            _ => match name.as_str() {
                "builtins.__debug__" => Verdict::Unknown,
                _ => Verdict::Unknown,
            },
        }
    }

    fn comparison(&self, compare: &ast::ExprCompare) -> Verdict {
        let ([op], [right]) = (compare.ops.as_ref(), compare.comparators.as_ref()) else { return Verdict::Unknown };
        let left = compare.left.as_ref();
        self.compared(left, *op, right)
            .or_else(|| self.compared(right, mirrored(*op)?, left))
            .unwrap_or(Verdict::Unknown)
    }

    fn compared(&self, left: &Expr, op: CmpOp, right: &Expr) -> Option<Verdict> {
        if let Some(own) = self.version(left) {
            let literal = version_literal(right)?;
            // Beyond minor the target says nothing: `(3, 11, 2)` is decided by the first two, unless those are equal.
            let ordering = match own.as_slice() {
                whole @ [_, _] if matches!(left, Expr::Attribute(_) | Expr::Name(_)) => {
                    let known = literal.get(..literal.len().min(2))?;
                    match whole.get(..known.len())?.cmp(known) {
                        // The whole tuple is longer than any literal of one or two numbers.
                        std::cmp::Ordering::Equal if literal.len() <= 2 => std::cmp::Ordering::Greater,
                        std::cmp::Ordering::Equal => return None,
                        decided => decided,
                    }
                }
                part => part.cmp(&literal),
            };
            return decided(op, ordering).map(Verdict::Known);
        }
        let name = match left {
            Expr::Call(call) if call.arguments.is_empty() => {
                format!("{}()", self.scopes.qualified(&call.func, self.scopes.innermost())?)
            }
            left => self.scopes.qualified(left, self.scopes.innermost())?,
        };
        if let (CmpOp::In | CmpOp::NotIn, Some(items)) = (op, items_of(right)) {
            let own = self.system(&name)?;
            let texts = items.iter().map(|item| literal_text(item)).collect::<Option<Vec<_>>>()?;
            return Some(Verdict::Known(texts.contains(&own) == (op == CmpOp::In)));
        }
        let text = literal_text(right)?;
        if name == "builtins.__name__" && text == "__main__" {
            return match op {
                CmpOp::Eq => Some(Verdict::Main(true)),
                CmpOp::NotEq => Some(Verdict::Main(false)),
                _ => None,
            };
        }
        let own = self.system(&name)?;
        match op {
            CmpOp::Eq => Some(Verdict::Known(own == text)),
            CmpOp::NotEq => Some(Verdict::Known(own != text)),
            _ => None,
        }
    }

    /// `sys.platform.startswith("win")`.
    fn call(&self, call: &ast::ExprCall) -> Verdict {
        let known = || {
            let Expr::Attribute(attribute) = call.func.as_ref() else { return None };
            let own = self.system(&self.scopes.qualified(&attribute.value, self.scopes.innermost())?)?;
            let [argument] = call.arguments.args.as_ref() else { return None };
            let prefixes = match items_of(argument) {
                Some(items) => items.iter().map(literal_text).collect::<Option<Vec<_>>>()?,
                None => vec![literal_text(argument)?],
            };
            match attribute.attr.as_str() {
                "startswith" => Some(prefixes.iter().any(|prefix| own.starts_with(prefix))),
                "endswith" => Some(prefixes.iter().any(|prefix| own.ends_with(prefix))),
                _ => None,
            }
        };
        known().map_or(Verdict::Unknown, Verdict::Known)
    }

    fn system(&self, name: &str) -> Option<&str> {
        match name {
            "sys.platform" => Some(&self.target.platform),
            "os.name" => Some(&self.target.os_name),
            "platform.system()" => match self.target.platform.as_str() {
                "linux" => Some("Linux"),
                "darwin" => Some("Darwin"),
                "win32" => Some("Windows"),
                _ => None,
            },
            "sys.implementation.name" => Some("cpython"),
            "platform.python_implementation()" => Some("CPython"),
            _ => None,
        }
    }

    /// The numbers that `sys.version_info`, a part of it or a slice of it stands for.
    fn version(&self, expr: &Expr) -> Option<Vec<u64>> {
        let (major, minor) = (u64::from(self.target.version.0), u64::from(self.target.version.1));
        let is_info =
            |expr: &Expr| self.scopes.qualified(expr, self.scopes.innermost()).as_deref() == Some("sys.version_info");
        match expr {
            Expr::Subscript(subscript) if is_info(&subscript.value) => match subscript.slice.as_ref() {
                Expr::Slice(slice) if slice.lower.is_none() && slice.step.is_none() => {
                    match small_number(slice.upper.as_deref()?)? {
                        1 => Some(vec![major]),
                        2 => Some(vec![major, minor]),
                        _ => None,
                    }
                }
                index => match small_number(index)? {
                    0 => Some(vec![major]),
                    1 => Some(vec![minor]),
                    _ => None,
                },
            },
            Expr::Attribute(attribute) if is_info(&attribute.value) => match attribute.attr.as_str() {
                "major" => Some(vec![major]),
                "minor" => Some(vec![minor]),
                _ => None,
            },
            _ if is_info(expr) => Some(vec![major, minor]),
            _ => None,
        }
    }
}

fn items_of(expr: &Expr) -> Option<&[Expr]> {
    match expr {
        Expr::Tuple(ast::ExprTuple { elts, .. })
        | Expr::List(ast::ExprList { elts, .. })
        | Expr::Set(ast::ExprSet { elts, .. }) => Some(elts),
        _ => None,
    }
}

fn literal_text(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::StringLiteral(literal) => Some(literal.value.to_str()),
        _ => None,
    }
}

fn version_literal(expr: &Expr) -> Option<Vec<u64>> {
    match expr {
        Expr::Tuple(tuple) => tuple.elts.iter().map(|item| small_number(item).map(u64::from)).collect(),
        number => small_number(number).map(|number| vec![u64::from(number)]),
    }
}

fn mirrored(op: CmpOp) -> Option<CmpOp> {
    match op {
        CmpOp::Eq | CmpOp::NotEq => Some(op),
        CmpOp::Lt => Some(CmpOp::Gt),
        CmpOp::LtE => Some(CmpOp::GtE),
        CmpOp::Gt => Some(CmpOp::Lt),
        CmpOp::GtE => Some(CmpOp::LtE),
        _ => None,
    }
}

fn decided(op: CmpOp, ordering: std::cmp::Ordering) -> Option<bool> {
    match op {
        CmpOp::Eq => Some(ordering.is_eq()),
        CmpOp::NotEq => Some(ordering.is_ne()),
        CmpOp::Lt => Some(ordering.is_lt()),
        CmpOp::LtE => Some(ordering.is_le()),
        CmpOp::Gt => Some(ordering.is_gt()),
        CmpOp::GtE => Some(ordering.is_ge()),
        _ => None,
    }
}
