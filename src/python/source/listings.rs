//! Files that are listed: `glob`, `os.listdir`, `os.walk`, `Path.iterdir` and their like.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::Ranged;

use super::constants::is_constant;
use super::evaluate::argument;
use super::place::Place;
use super::scopes::Binding;
use super::walk::Walker;
use super::{Base, Listed, ListedUse};

/// Notes what a call lists; false where it is none of these.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    if !is_listing(last) {
        return false;
    }
    let Some(places) = listed(walker, call, last) else { return false };
    walker.lists = true;
    for place in places.into_iter().filter(|place| place.package.is_none()) {
        let (line, path, when) = (walker.line(call.start()), place.finish(), walker.when());
        let listed = Listed { line, path, usage: ListedUse::Data, when };
        if !walker.scan.listings.contains(&listed) {
            walker.scan.listings.push(listed);
        }
    }
    true
}

fn is_listing(last: &str) -> bool {
    matches!(last, "glob" | "iglob" | "rglob" | "listdir" | "scandir" | "walk" | "fwalk" | "iterdir" | "glob1")
}

/// The patterns of what a call lists; `None` where it is no such call.
fn listed<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> Option<Vec<Place>> {
    let name = walker.qualified(&call.func).unwrap_or_default();
    let (folder, pattern) = match (name.as_str(), last) {
        ("glob.glob" | "glob.iglob", _) => (argument(call, 0, &["pathname"])?, String::new()),
        ("os.listdir" | "os.scandir", _) => match argument(call, 0, &["path"]) {
            Some(folder) => (folder, "*".to_owned()),
            None => return Some(Vec::new()),
        },
        ("os.walk" | "os.fwalk", _) => (argument(call, 0, &["top"])?, "**/*".to_owned()),
        (_, "iterdir" | "glob" | "rglob" | "walk") => {
            let Expr::Attribute(method) = call.func.as_ref() else { return None };
            let is_object = |place: &Place| place.is_object || is_constant(&place.rest);
            let is_path = walker.evaluator().paths(&method.value).iter().any(is_object);
            if !is_path {
                return None;
            }
            let pattern = match last {
                "iterdir" => "*".to_owned(),
                "walk" => "**/*".to_owned(),
                _ => walker.evaluator().text_of(argument(call, 0, &["pattern"])?)?,
            };
            let pattern = if last == "rglob" { format!("**/{pattern}") } else { pattern };
            (&*method.value, pattern)
        }
        _ => return None,
    };
    let is_windows = walker.target.os_name == "nt";
    let mut places = walker.evaluator().paths(folder);
    places.iter_mut().for_each(|place| place.push(&pattern, is_windows));
    walker.take(folder);
    Some(places)
}

/// The pattern that an expression is a list of, or one thing out of that: `sorted(glob.glob("libs/*.egg"))`, and the
/// variable of a loop over it.
pub(super) fn pattern_of<'a>(walker: &Walker<'_, 'a>, expr: &'a Expr) -> Option<Place> {
    let evaluator = walker.evaluator();
    let mut expr = evaluator.resolved(expr);
    for _ in 0..4 {
        match expr {
            Expr::Name(name) => match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost()) {
                Some((_, Binding::Each(each))) => expr = evaluator.resolved(each.first()?.over),
                _ => return None,
            },
            Expr::Call(call) => match walker.qualified(&call.func).as_deref() {
                Some("glob.glob" | "glob.iglob") => {
                    let place = evaluator.path(argument(call, 0, &["pathname"])?)?;
                    return Some(place).filter(|place| place.base != Base::Package && place.package.is_none());
                }
                Some(
                    "builtins.sorted" | "builtins.list" | "builtins.str" | "builtins.reversed" | "os.path.abspath",
                ) => {
                    expr = evaluator.resolved(call.arguments.args.first()?);
                }
                None => {
                    let Expr::Attribute(method) = call.func.as_ref() else { return None };
                    if method.attr.as_str() != "glob" {
                        return None;
                    }
                    let mut place = evaluator.path(&method.value).filter(|place| place.is_object)?;
                    let pattern = evaluator.text_of(argument(call, 0, &["pattern"])?)?;
                    place.push(&pattern, walker.target.os_name == "nt");
                    return Some(place);
                }
                _ => return None,
            },
            _ => return None,
        }
    }
    None
}
