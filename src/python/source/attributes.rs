//! Attributes that a class, or a method on `self`, gives one value: `cls.folder`, `self.folder`, `Loader.folder`.

use std::collections::HashMap;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{self as ast, Expr, ExprContext, Stmt};
use ruff_text_size::Ranged;

use super::evaluate::{At, Evaluator, Piece};
use super::scopes::{Binding, Scopes, names_of};

/// Statements and expressions within each other.
const MAX_DEPTH: usize = 100;
/// A longer expression is nothing that is worth following.
const MAX_EXPRESSIONS: usize = 64;

/// What the methods of a class give the attributes of its instances.
pub(super) fn of_instances<'a>(body: &'a [Stmt]) -> HashMap<&'a str, Binding<'a>> {
    let mut out = HashMap::new();
    for method in body.iter().filter_map(Stmt::as_function_def_stmt) {
        let Some(receiver) = receiver(&method.parameters) else { continue };
        let mut assigned = Assigned { receiver, found: Vec::new(), depth: 0 };
        assigned.visit_body(&method.body);
        if assigned.found.is_empty() {
            continue;
        }
        let locals = names_of(&method.parameters, &method.body);
        for (name, value) in assigned.found {
            let binding = match value {
                Some(Expr::Name(value)) if matches!(locals.get(value.id.as_str()), Some(Binding::Parameter(_))) => {
                    locals.get(value.id.as_str()).cloned().unwrap_or(Binding::Unknown)
                }
                // What it is put together of has to mean the same in every method.
                Some(value) if free_names(value, |name| name != receiver && locals.contains_key(name)) => {
                    Binding::Value(value)
                }
                _ => Binding::Unknown,
            };
            out.entry(name).and_modify(|known| *known = Binding::Unknown).or_insert(binding);
        }
    }
    out
}

/// The name of a method's first parameter.
pub(super) fn receiver(parameters: &ast::Parameters) -> Option<&str> {
    let first = parameters.posonlyargs.iter().chain(&parameters.args).next()?;
    Some(first.parameter.name.as_str())
}

/// Whether an expression is short, and uses no name that is bound.
fn free_names(expr: &Expr, is_bound: impl Fn(&str) -> bool) -> bool {
    let mut names = Names { found: Vec::new(), count: 0 };
    names.visit_expr(expr);
    names.count <= MAX_EXPRESSIONS && !names.found.into_iter().any(is_bound)
}

struct Names<'a> {
    found: Vec<&'a str>,
    count: usize,
}

impl<'a> Visitor<'a> for Names<'a> {
    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::Name(name) = expr {
            self.found.push(name.id.as_str());
        }
        self.count += 1;
        if self.count <= MAX_EXPRESSIONS {
            walk_expr(self, expr);
        }
    }
}

/// Gathers what a method assigns to attributes of its first parameter.
struct Assigned<'a> {
    receiver: &'a str,
    found: Vec<(&'a str, Option<&'a Expr>)>,
    depth: usize,
}

impl<'a> Assigned<'a> {
    fn target(&self, target: &'a Expr) -> Option<&'a str> {
        match target {
            Expr::Attribute(attribute) => match attribute.value.as_ref() {
                Expr::Name(name) if name.id.as_str() == self.receiver => Some(attribute.attr.as_str()),
                _ => None,
            },
            _ => None,
        }
    }

    fn assign(&mut self, target: &'a Expr, value: Option<&'a Expr>) {
        match self.target(target) {
            Some(name) => self.found.push((name, value)),
            None => self.visit_expr(target),
        }
    }
}

impl<'a> Visitor<'a> for Assigned<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.assign(target, Some(&assign.value));
                }
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    self.assign(&assign.target, Some(value));
                }
            }
            Stmt::AugAssign(assign) => self.assign(&assign.target, None),
            Stmt::ClassDef(_) => {}
            _ if self.depth < MAX_DEPTH => {
                self.depth += 1;
                walk_stmt(self, stmt);
                self.depth -= 1;
            }
            _ => {}
        }
    }

    /// Loops and the like assign too.
    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Attribute(attribute) if attribute.ctx != ExprContext::Load => {
                let name = self.target(expr);
                self.found.extend(name.map(|name| (name, None)));
            }
            Expr::Tuple(_) | Expr::List(_) | Expr::Starred(_) if self.depth < MAX_DEPTH => {
                self.depth += 1;
                walk_expr(self, expr);
                self.depth -= 1;
            }
            _ => {}
        }
    }

    fn visit_annotation(&mut self, _: &'a Expr) {}

    fn visit_pattern(&mut self, _: &'a ast::Pattern) {}
}

impl<'a> Scopes<'a> {
    /// What an attribute of a class or of an instance stands for, and the scope that its value is seen from.
    pub(super) fn attribute(&self, attribute: &ast::ExprAttribute, from: usize) -> Option<(usize, Binding<'a>)> {
        let Expr::Name(name) = attribute.value.as_ref() else { return None };
        let wanted = attribute.attr.as_str();
        match self.lookup(name.id.as_str(), from)? {
            (scope, Binding::Parameter(_)) => {
                let (method, at_class) = (self.at(scope)?, scope.checked_sub(1)?);
                let class = self.at(at_class).filter(|_| method.receiver == Some(name.id.as_str()))?;
                match (class.names.get(wanted), class.attributes.get(wanted)) {
                    (Some(binding), None) => Some((at_class, binding.clone())),
                    (None, Some(Binding::Value(value))) => {
                        let is_free =
                            free_names(value, |name| method.receiver != Some(name) && method.names.contains_key(name));
                        is_free.then_some((scope, Binding::Value(value)))
                    }
                    (None, Some(binding)) => Some((scope, binding.clone())),
                    _ => None,
                }
            }
            (scope, Binding::Class(class)) => {
                let own = self.of_class(class);
                match own.names.get(wanted)? {
                    Binding::Value(value) if free_names(value, |name| own.names.contains_key(name)) => {
                        Some((scope, Binding::Value(value)))
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }
}

impl<'a> Evaluator<'_, 'a> {
    /// Pushes the value of an attribute of a class or of an instance; false where it is none that is known.
    pub(super) fn push_attribute(&self, attribute: &'a ast::ExprAttribute, at: At, out: &mut Vec<Piece>) -> bool {
        match self.scopes.attribute(attribute, at.scope) {
            Some((scope, Binding::Value(value))) if value.range() != attribute.range() => {
                self.push_pieces(value, At { scope, ..at }, out);
            }
            Some((_, Binding::Parameter(parameter))) => self.push_given(parameter, out),
            _ => return false,
        }
        true
    }
}
