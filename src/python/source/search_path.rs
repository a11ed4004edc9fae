//! Edits of `sys.path` and of the own package's `__path__`.

use ruff_python_ast::{self as ast, Expr, Operator, Stmt};
use ruff_text_size::{Ranged, TextSize};

use super::evaluate::{argument, small_number};
use super::place::Place;
use super::walk::Walker;
use super::{Base, SearchPath, SearchPathEdit, listings};

/// Notes an edit by a call; false where it is none.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    match last {
        "insert" | "append" | "extend" => {
            let Expr::Attribute(method) = call.func.as_ref() else { return false };
            let Some(target) = target(walker, &method.value) else { return false };
            match last {
                "insert" => {
                    let first = argument(call, 0, &[]).and_then(small_number).is_some_and(|at| at <= 1);
                    if let Some(folder) = argument(call, 1, &[]) {
                        add(walker, folder, target, first);
                    }
                }
                "append" => {
                    if let Some(folder) = argument(call, 0, &[]) {
                        add(walker, folder, target, false);
                    }
                }
                _ => {
                    if let Some(folders) = argument(call, 0, &[]) {
                        add_all(walker, folders, target, false);
                    }
                }
            }
        }
        "addsitedir" => {
            if walker.qualified(&call.func).as_deref() == Some("site.addsitedir")
                && let Some(folder) = argument(call, 0, &["sitedir"])
            {
                add(walker, folder, SearchPath::Site, false);
            }
        }
        "remove" => {
            let Expr::Attribute(method) = call.func.as_ref() else { return false };
            let Some(folder) = argument(call, 0, &[]) else { return false };
            if target(walker, &method.value) != Some(SearchPath::Global) {
                return false;
            }
            add(walker, folder, SearchPath::Removed, false);
        }
        "chdir" | "fchdir" => {
            if matches!(walker.qualified(&call.func).as_deref(), Some("os.chdir" | "contextlib.chdir"))
                && let Some(folder) = argument(call, 0, &["path"])
            {
                add(walker, folder, SearchPath::Working, true);
            }
        }
        "declare_namespace" => {
            if walker.qualified(&call.func).as_deref() == Some("pkg_resources.declare_namespace") {
                every_portion(walker, call);
            }
        }
        "extend_path" => {
            if walker.qualified(&call.func).as_deref() == Some("pkgutil.extend_path")
                && argument(call, 0, &["path"]).is_some_and(|path| target(walker, path) == Some(SearchPath::OwnPackage))
            {
                every_portion(walker, call);
            }
        }
        _ => return false,
    }
    true
}

/// Notes an edit by an assignment.
pub(super) fn statement<'a>(walker: &mut Walker<'_, 'a>, stmt: &'a Stmt) {
    match stmt {
        Stmt::Assign(assign) => {
            for assigned in &assign.targets {
                assignment(walker, assigned, &assign.value);
            }
        }
        Stmt::AugAssign(assign) if assign.op == Operator::Add => {
            if let Some(target) = target(walker, &assign.target) {
                add_all(walker, &assign.value, target, false);
            }
        }
        _ => {}
    }
}

fn assignment<'a>(walker: &mut Walker<'_, 'a>, assigned: &'a Expr, value: &'a Expr) {
    match assigned {
        Expr::Subscript(subscript) => {
            let Some(target) = target(walker, &subscript.value) else { return };
            match subscript.slice.as_ref() {
                Expr::Slice(slice) if slice.step.is_none() => {
                    let lower = slice.lower.as_deref().map_or(Some(0), small_number);
                    match (lower, slice.upper.as_deref()) {
                        // `sys.path[:] = [x] + sys.path`.
                        (Some(0), None) => assignment_of_whole(walker, value, target),
                        (Some(at), Some(_)) => add_all(walker, value, target, at <= 1),
                        _ => add_all(walker, value, target, false),
                    }
                }
                index => {
                    let first = small_number(index).is_some_and(|at| at <= 1);
                    add(walker, value, target, first);
                }
            }
        }
        _ => {
            if let Some(target) = target(walker, assigned) {
                assignment_of_whole(walker, value, target);
            }
        }
    }
}

/// `sys.path = [x] + sys.path + [y]`: what stands before it goes first.
fn assignment_of_whole<'a>(walker: &mut Walker<'_, 'a>, value: &'a Expr, target: SearchPath) {
    let mut terms = Vec::new();
    let mut rest = value;
    for _ in 0..100 {
        let Expr::BinOp(ast::ExprBinOp { left, op: Operator::Add, right, .. }) = rest else { break };
        terms.push(&**right);
        rest = left;
    }
    terms.push(rest);
    let is_itself = |walker: &Walker<'_, 'a>, term: &Expr| match term {
        Expr::Subscript(whole) => self::target(walker, &whole.value) == Some(target),
        Expr::Call(call) => {
            call.arguments.args.first().is_some_and(|inner| self::target(walker, inner) == Some(target))
        }
        other => self::target(walker, other) == Some(target),
    };
    // From the right: what is before the old path is inserted last to be first.
    let mut first = false;
    let mut behind = Vec::new();
    for term in terms {
        if is_itself(walker, term) {
            first = true;
        } else if first {
            add_all(walker, term, target, true);
        } else {
            behind.push(term);
        }
    }
    for term in behind.into_iter().rev() {
        // A path that is replaced: its parts are all there is, and none of the others comes first.
        add_all(walker, term, target, false);
    }
}

/// Which search path an expression is. `__path__` is the own package's unless something else has that name.
fn target(walker: &Walker<'_, '_>, expr: &Expr) -> Option<SearchPath> {
    match expr {
        Expr::Name(name) if name.id.as_str() == "__path__" => {
            let bound = walker.scopes.lookup("__path__", walker.scopes.innermost());
            bound.is_none_or(|(scope, _)| scope == 0).then_some(SearchPath::OwnPackage)
        }
        Expr::Name(_) | Expr::Attribute(_) => {
            (walker.qualified(expr).as_deref() == Some("sys.path")).then_some(SearchPath::Global)
        }
        _ => None,
    }
}

fn add<'a>(walker: &mut Walker<'_, 'a>, folder: &'a Expr, target: SearchPath, first: bool) {
    if let Some(pattern) = listings::pattern_of(walker, folder) {
        walker.take(folder);
        return edit(walker, folder.start(), &pattern, target, first);
    }
    let evaluator = walker.evaluator();
    let places = walker.each(|| match evaluator.value_of(folder) {
        // The working folder.
        Some(super::evaluate::Value::Text(text)) if text.is_empty() => Some(Place::at(Base::Working)),
        _ => evaluator.path(folder),
    });
    walker.take(folder);
    for place in places.into_iter().flatten() {
        let edit = SearchPathEdit {
            line: walker.line(folder.start()),
            path: place.finish(),
            target,
            first,
            when: walker.when(),
        };
        walker.scan.search_path.push(edit);
    }
}

fn add_all<'a>(walker: &mut Walker<'_, 'a>, folders: &'a Expr, target: SearchPath, first: bool) {
    if let Some(pattern) = listings::pattern_of(walker, folders) {
        walker.take(folders);
        return edit(walker, folders.start(), &pattern, target, first);
    }
    let folders = walker.evaluator().resolved(folders);
    let elts = match folders {
        Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => elts,
        Expr::ListComp(ast::ExprListComp { elt, generators, .. })
        | Expr::Generator(ast::ExprGenerator { elt, generators, .. }) => {
            walker.scopes.enter_comprehension(generators);
            add(walker, elt, target, first);
            return walker.scopes.leave();
        }
        _ => return,
    };
    if first {
        // One by one, the last inserted is the first searched.
        elts.iter().rev().for_each(|folder| add(walker, folder, target, first));
    } else {
        elts.iter().for_each(|folder| add(walker, folder, target, first));
    }
}

/// Notes an edit by a folder that is known.
pub(super) fn edit(walker: &mut Walker<'_, '_>, at: TextSize, folder: &Place, target: SearchPath, first: bool) {
    let (line, path, when) = (walker.line(at), folder.finish(), walker.when());
    walker.scan.search_path.push(SearchPathEdit { line, path, target, first, when });
}

fn every_portion(walker: &mut Walker<'_, '_>, call: &ast::ExprCall) {
    let (path, target) = (Place::at(Base::Source(1)).finish(), SearchPath::EveryPortion);
    let edit = SearchPathEdit { line: walker.line(call.start()), path, target, first: false, when: walker.when() };
    walker.scan.search_path.push(edit);
}
