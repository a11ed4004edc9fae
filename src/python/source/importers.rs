//! The project's own importers: functions and classes that import what they are given, and calls that give names to them.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::Ranged;

use super::How;
use super::constants::mark_of;
use super::evaluate::is_dotted;
use super::scopes::Binding;
use super::walk::Walker;

/// A longer text names no module.
const MAX_NAME: usize = 100;
/// Texts of one call.
const MAX_TEXTS: usize = 8;
/// Attributes within each other.
const MAX_PARTS: usize = 8;
/// Importers of one source.
const MAX_IMPORTERS: usize = 200;
/// Packages with functions that take names of other things.
const OF_NAMES: [&str; 11] = [
    "typing",
    "typing_extensions",
    "logging",
    "collections",
    "dataclasses",
    "enum",
    "multiprocessing",
    "warnings",
    "unittest",
    "pytest",
    "click",
];

/// Notes the function or class whose parameter the name is that something is imported by.
pub(super) fn note<'a>(walker: &mut Walker<'_, 'a>, name: &'a Expr) {
    let scopes = &walker.scopes;
    let from = scopes.innermost();
    let bound = match name {
        Expr::Name(name) => scopes.lookup(name.id.as_str(), from).map(|(scope, binding)| (scope, binding.clone())),
        // An attribute that `__init__` sets belongs to the class, which stands around the method.
        Expr::Attribute(attribute) => {
            scopes.attribute(attribute, from).and_then(|(scope, binding)| Some((scope.checked_sub(1)?, binding)))
        }
        _ => None,
    };
    let Some((scope, Binding::Parameter(_))) = bound else { return };
    let names: Option<Vec<&str>> = (1..=scope).map(|number| scopes.at(number).and_then(|scope| scope.name)).collect();
    let Some(names) = names.filter(|names| !names.is_empty()) else { return };
    let name = names.join(".");
    // A class is called by its own name.
    let name = name.strip_suffix(".__init__").unwrap_or(&name).to_owned();
    let importers = &mut walker.scan.importers;
    if importers.len() < MAX_IMPORTERS && !importers.contains(&name) {
        importers.push(name);
    }
}

/// Notes texts that a call gives away and that may be modules: those with dots are noted wherever they stand.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let arguments = call.arguments.args.iter().chain(call.arguments.keywords.iter().map(|keyword| &keyword.value));
    let texts = arguments.filter_map(Expr::as_string_literal_expr).map(|literal| literal.value.to_str());
    let mut texts = texts.filter(|text| text.len() <= MAX_NAME && !text.contains('.') && is_dotted(text)).peekable();
    if texts.peek().is_none() {
        return;
    }
    let Some(callee) = callee(walker, &call.func) else { return };
    for text in texts.take(MAX_TEXTS) {
        if walker.may_name_more() {
            walker.import(call.start(), 0, text, Some(vec![callee.clone()]), How::Given);
        }
    }
}

/// The name of what is called: behind a colon where it is of this source.
fn callee(walker: &Walker<'_, '_>, func: &Expr) -> Option<String> {
    let mut parts = Vec::new();
    let mut root = func;
    while let Expr::Attribute(attribute) = root {
        parts.push(attribute.attr.as_str());
        root = &attribute.value;
        if parts.len() > MAX_PARTS {
            return None;
        }
    }
    let Expr::Name(name) = root else { return None };
    match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost())? {
        (0, Binding::Function(_) | Binding::Class(_)) => {
            parts.push(name.id.as_str());
            parts.reverse();
            Some(format!(":{}", parts.join(".")))
        }
        (_, Binding::Import(_) | Binding::Value(_)) => {
            let name = walker.qualified(func)?;
            let is_of_names = OF_NAMES.contains(&name.split('.').next().unwrap_or_default());
            (!is_of_names && mark_of(&name).is_some()).then_some(name)
        }
        _ => None,
    }
}
