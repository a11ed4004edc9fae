//! Values that other modules give names: where they stand in a path, and what a source gives its own names.
//!
//! What `settings.DATA` is, is not known here. It is kept as a mark in the text: whoever knows that module's scan puts the
//! value in its place.

use ruff_python_ast::{self as ast, Expr, Stmt};

use super::evaluate::{Evaluator, Value, is_dotted};
use super::scopes::{Binding, Scopes};
use super::{PathExpression, place::Place};

/// Stands before and behind the dotted name of a value, leading dots included where the import is relative.
pub const MARK: char = '\u{2}';

/// What stands in a pattern for a value that is not known at all.
pub(super) const HOLE: &str = "\u{2}*\u{2}";

/// Constants of one source.
const MAX_CONSTANTS: usize = 1000;
/// A longer text is no part of a path.
const MAX_TEXT: usize = 300;

/// The mark of a value of another module; `None` where a name is none, or of a module that is known to have no paths.
pub(super) fn mark_of(name: &str) -> Option<String> {
    let (module, last) = name.rsplit_once('.')?;
    let root = module.trim_start_matches('.').split('.').next().unwrap_or_default();
    let is_known = matches!(
        root,
        "os" | "importlib"
            | "importlib_resources"
            | "sys"
            | "builtins"
            | "math"
            | "time"
            | "datetime"
            | "numpy"
            | "pandas"
            | "string"
            | "re"
            | "argparse"
            | "pathlib"
    );
    let is_module = module.chars().all(|c| c == '.') || is_dotted(module.trim_start_matches('.'));
    let is_of_path = matches!(last, "parent" | "parents" | "name" | "stem" | "suffix");
    (!is_known && is_module && is_dotted(last) && !last.starts_with("__") && !is_of_path)
        .then(|| format!("{MARK}{name}{MARK}"))
}

/// Whether a path is no more than another module's value that is named as constants are: a path object, most likely.
pub(super) fn is_constant(path: &str) -> bool {
    let name =
        path.strip_prefix(MARK).and_then(|path| path.split(MARK).next()).and_then(|name| name.rsplit('.').next());
    name.is_some_and(|name| name.chars().any(char::is_uppercase) && !name.chars().any(char::is_lowercase))
}

/// Whether a text holds the mark of a value.
pub(super) fn has_mark(text: &str) -> bool {
    text.contains(MARK)
}

/// What a source gives its names at the top of the module, once each, as far as it may be a path or a part of one.
pub(super) fn of_module(evaluator: &Evaluator<'_, '_>, body: &[Stmt]) -> Vec<(String, PathExpression)> {
    let mut out: Vec<(String, PathExpression)> = Vec::new();
    for name in body.iter().filter_map(bound) {
        if out.len() >= MAX_CONSTANTS {
            break;
        }
        let path = match evaluator.value_of_name(name) {
            Some(Value::Place(place)) if place.package.is_none() => place.finish(),
            Some(Value::Text(text)) if !text.is_empty() && text.len() <= MAX_TEXT => {
                match Place::from_text(&text, evaluator.is_windows()) {
                    Some(place) => place.finish(),
                    None => continue,
                }
            }
            _ => continue,
        };
        if !path.rest.is_empty() || path.base != super::Base::Working {
            out.push((name.to_owned(), path));
        }
    }
    out
}

fn bound(stmt: &Stmt) -> Option<&str> {
    let target = match stmt {
        Stmt::Assign(ast::StmtAssign { targets, .. }) => match targets.as_slice() {
            [target] => target,
            _ => return None,
        },
        Stmt::AnnAssign(assign) => &assign.target,
        _ => return None,
    };
    match target {
        Expr::Name(name) if !name.id.starts_with("__") => Some(name.id.as_str()),
        _ => None,
    }
}

impl Evaluator<'_, '_> {
    /// The value of a name at the top of the module.
    fn value_of_name(&self, name: &str) -> Option<Value> {
        match self.scopes.lookup(name, 0)? {
            (_, Binding::Value(value)) => self.value_of(value),
            _ => None,
        }
    }
}

impl Scopes<'_> {
    /// The mark of a value that an import brings.
    pub(super) fn mark(&self, expr: &Expr, from: usize) -> Option<String> {
        let mut root = expr;
        while let Expr::Attribute(attribute) = root {
            root = &attribute.value;
        }
        match root {
            Expr::Name(name) => match self.lookup(name.id.as_str(), from)?.1 {
                Binding::Import(_) => mark_of(&self.qualified(expr, from)?),
                _ => None,
            },
            _ => None,
        }
    }
}
