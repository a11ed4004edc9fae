//! The names that `from x import *` takes: a literal `__all__`.

use ruff_python_ast::{self as ast, Expr, Operator, Stmt};

use super::scopes::{Binding, Scopes};

/// What is known of `__all__` so far.
#[derive(Debug, Default)]
pub(super) struct Exports {
    names: Option<Vec<String>>,
    is_unknown: bool,
}

/// Terms of a sum that are looked at.
const MAX_TERMS: usize = 1000;

impl Exports {
    /// Looks at a statement of the module.
    pub(super) fn statement(&mut self, stmt: &Stmt, scopes: &Scopes<'_>) {
        match stmt {
            Stmt::Assign(assign) if assign.targets.iter().any(is_all) => self.set(&assign.value, scopes),
            Stmt::AnnAssign(ast::StmtAnnAssign { target, value: Some(value), .. }) if is_all(target) => {
                self.set(value, scopes)
            }
            Stmt::AugAssign(assign) if is_all(&assign.target) => match assign.op {
                Operator::Add => self.add(list(&assign.value, scopes)),
                _ => self.is_unknown = true,
            },
            Stmt::Expr(ast::StmtExpr { value, .. }) => self.call(value, scopes),
            Stmt::Delete(delete) if delete.targets.iter().any(is_all) => *self = Self::default(),
            _ => {}
        }
    }

    /// The names, where all of them are known; `*` where they come of a list of the package's own files or modules.
    pub(super) fn finish(self, lists: bool) -> Option<Vec<String>> {
        if self.is_unknown && lists {
            return Some(vec!["*".to_owned()]);
        }
        self.names.filter(|_| !self.is_unknown)
    }

    fn set(&mut self, value: &Expr, scopes: &Scopes<'_>) {
        // `__all__ = __all__ + [..]` goes on; anything else begins anew.
        let names = match value {
            Expr::BinOp(operation) if operation.op == Operator::Add && is_all(&operation.left) => {
                return self.add(list(&operation.right, scopes));
            }
            value => list(value, scopes),
        };
        self.is_unknown = names.is_none();
        self.names = names;
    }

    fn add(&mut self, more: Option<Vec<String>>) {
        match (more, &mut self.names) {
            (Some(more), Some(names)) => names.extend(more),
            _ => self.is_unknown = true,
        }
    }

    /// `__all__.append("x")`.
    fn call(&mut self, expr: &Expr, scopes: &Scopes<'_>) {
        let Expr::Call(call) = expr else { return };
        let Expr::Attribute(method) = call.func.as_ref() else { return };
        if !is_all(&method.value) {
            return;
        }
        let argument = call.arguments.args.first();
        match (method.attr.as_str(), argument) {
            ("append", Some(Expr::StringLiteral(name))) => self.add(Some(vec![name.value.to_str().to_owned()])),
            ("extend", Some(names)) => self.add(list(names, scopes)),
            ("remove", Some(Expr::StringLiteral(name))) => match &mut self.names {
                Some(names) => names.retain(|known| known != name.value.to_str()),
                None => self.is_unknown = true,
            },
            ("sort" | "reverse", _) => {}
            _ => self.is_unknown = true,
        }
    }
}

fn is_all(expr: &Expr) -> bool {
    matches!(expr, Expr::Name(name) if name.id.as_str() == "__all__")
}

/// The strings of a literal list or tuple, or of a sum of these.
fn list(value: &Expr, scopes: &Scopes<'_>) -> Option<Vec<String>> {
    let mut terms = Vec::new();
    let mut rest = value;
    while let Expr::BinOp(ast::ExprBinOp { left, op: Operator::Add, right, .. }) = rest {
        terms.push(&**right);
        rest = left;
        if terms.len() > MAX_TERMS {
            return None;
        }
    }
    terms.push(rest);
    let mut out = Vec::new();
    for term in terms.into_iter().rev() {
        let term = match term {
            Expr::Name(name) => match scopes.lookup(name.id.as_str(), 0)?.1 {
                Binding::Value(value) => value,
                _ => return None,
            },
            Expr::Call(call) => match (call.func.as_ref(), call.arguments.args.as_ref()) {
                (Expr::Name(name), [inner]) if matches!(name.id.as_str(), "list" | "tuple" | "sorted") => inner,
                _ => return None,
            },
            other => other,
        };
        let (Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. })) = term else {
            return None;
        };
        for item in elts {
            let Expr::StringLiteral(name) = item else { return None };
            out.push(name.value.to_str().to_owned());
        }
    }
    Some(out)
}
