//! Patterns of files of which only a folder and perhaps a part of the name is known: `open(DATA / f"{symbol}.csv")`.

use ruff_python_ast::Expr;

use super::constants::HOLE;
use super::evaluate::Evaluator;
use super::place::{Place, has_extension};
use super::{Base, FileUse, PathExpression};

/// The patterns of the files that an expression may stand for.
pub(super) fn of<'a>(evaluator: &Evaluator<'_, 'a>, expr: &'a Expr, usage: &FileUse) -> Vec<PathExpression> {
    let places = evaluator.paths_with_holes(expr);
    places.iter().filter_map(|place| pattern(place, usage)).collect()
}

/// A path with stars in place of what is not known; `None` where too little is known of it.
fn pattern(place: &Place, usage: &FileUse) -> Option<PathExpression> {
    if place.package.is_some() {
        return None;
    }
    let mut path = place.finish();
    path.rest = path.rest.replace(HOLE, "*");
    // `**` would be any number of folders.
    while path.rest.contains("**") {
        path.rest = path.rest.replace("**", "*");
    }
    let relative = path.rest.strip_prefix('/').unwrap_or(&path.rest);
    let (first, last) = (relative.split('/').next()?, relative.rsplit('/').next()?);
    let is_named = !first.contains('*') && relative.split('/').any(|part| !part.contains('*') && part != "..");
    let is_python = last.ends_with(".py");
    let has_ending =
        has_extension(&last.replace('*', "x")) && last.rsplit('.').next().is_some_and(|ending| !ending.contains('*'));
    let is_likely = match (usage, path.base) {
        (FileUse::Code, Base::Source(_) | Base::Main(1..)) => is_python,
        (FileUse::Code, Base::Working) => is_python && is_named,
        (FileUse::Data, Base::Source(_) | Base::Main(1..)) => !is_python && (is_named || has_ending),
        // Beside what is run there is anything: one name alone has to say what it is.
        (FileUse::Data, Base::Working) => !is_python && (is_named || has_ending && !relative.contains('/')),
        (FileUse::Data, Base::Absolute) => !is_python && is_named,
        _ => false,
    };
    is_likely.then_some(path)
}
