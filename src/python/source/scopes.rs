//! What the names of a source stand for: imports under their aliases, values that are bound once, or nothing known.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use ruff_python_ast::visitor::{Visitor, walk_expr, walk_stmt};
use ruff_python_ast::{self as ast, Expr, ExprContext, Stmt};
use ruff_text_size::{Ranged, TextRange};

use super::attributes;

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Binding<'a> {
    /// A module or something in it, by its dotted name; leading dots where the import is relative.
    Import(String),
    /// An expression, to which the name is bound once.
    Value(&'a Expr),
    /// What a `with` statement opens.
    Opened(&'a Expr),
    /// A function of the source.
    Function(&'a ast::StmtFunctionDef),
    /// A class of the source.
    Class(&'a ast::StmtClassDef),
    /// A parameter, by where it stands.
    Parameter(TextRange),
    /// What loops give it one by one.
    Each(Vec<Each<'a>>),
    /// Something else, or more than one thing.
    Unknown,
}

/// What a loop gives a name.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Each<'a> {
    /// What is looped over.
    pub(super) over: &'a Expr,
    /// Which part of an item it is: of `for i, (a, b) in`, `b` is `[1, 1]`.
    pub(super) part: Vec<usize>,
}

/// Loops that give one name its values.
const MAX_LOOPS: usize = 8;

/// The names of a module, a function or a class.
#[derive(Debug, Default)]
pub(super) struct Scope<'a> {
    pub(super) names: HashMap<&'a str, Binding<'a>>,
    is_class: bool,
    /// The name of the function or class.
    pub(super) name: Option<&'a str>,
    /// Of a class, what its methods give the attributes of its instances.
    pub(super) attributes: HashMap<&'a str, Binding<'a>>,
    /// Of a method, the name of its first parameter.
    pub(super) receiver: Option<&'a str>,
}

/// The scopes around a place, from the module inwards.
#[derive(Debug, Default)]
pub(super) struct Scopes<'a> {
    stack: Vec<Scope<'a>>,
    /// What the bodies of classes bind that were asked for, by where they stand.
    classes: RefCell<HashMap<TextRange, Rc<Scope<'a>>>>,
}

impl<'a> Scopes<'a> {
    /// The scopes at the top of a module.
    pub(super) fn module(body: &'a [Stmt]) -> Self {
        let mut collector = Collector::default();
        collector.visit_body(body);
        let mut globals = Globals { names: Vec::new(), depth: 0 };
        globals.visit_body(body);
        for name in globals.names {
            collector.bind(name, Binding::Unknown);
        }
        Self { stack: vec![collector.scope], classes: RefCell::default() }
    }

    /// Enters a function.
    pub(super) fn enter_function(&mut self, parameters: Option<&'a ast::Parameters>, body: &'a [Stmt]) {
        let mut scope = Collector::of_function(parameters, body);
        if self.stack.last().is_some_and(|outer| outer.is_class) {
            scope.receiver = parameters.and_then(attributes::receiver);
        }
        self.stack.push(scope);
    }

    /// Enters a class.
    pub(super) fn enter_class(&mut self, body: &'a [Stmt]) {
        let mut scope = Collector::of_class(body);
        scope.attributes = attributes::of_instances(body);
        self.stack.push(scope);
    }

    /// Gives what was entered last its name.
    pub(super) fn name(&mut self, name: &'a str) {
        if let Some(scope) = self.stack.last_mut() {
            scope.name = Some(name);
        }
    }

    /// The names that the body of a class binds.
    pub(super) fn of_class(&self, class: &'a ast::StmtClassDef) -> Rc<Scope<'a>> {
        let mut classes = self.classes.borrow_mut();
        Rc::clone(classes.entry(class.range()).or_insert_with(|| Rc::new(Collector::of_class(&class.body))))
    }

    /// One of the scopes around.
    pub(super) fn at(&self, number: usize) -> Option<&Scope<'a>> {
        self.stack.get(number)
    }

    /// Enters a comprehension.
    pub(super) fn enter_comprehension(&mut self, generators: &'a [ast::Comprehension]) {
        let mut collector = Collector::default();
        for generator in generators {
            collector.bind_each(&generator.target, &generator.iter, &[]);
        }
        self.stack.push(collector.scope);
    }

    /// Leaves what was entered last.
    pub(super) fn leave(&mut self) {
        self.stack.pop();
    }

    /// The innermost scope, from which names are looked up.
    pub(super) fn innermost(&self) -> usize {
        self.stack.len().saturating_sub(1)
    }

    /// What a name stands for seen from a scope, and the scope that binds it; `None` for builtins.
    pub(super) fn lookup(&self, name: &str, from: usize) -> Option<(usize, &Binding<'a>)> {
        let seen = self.stack.iter().enumerate().take(from + 1).rev();
        seen.filter(|(at, scope)| !scope.is_class || *at == from)
            .find_map(|(at, scope)| scope.names.get(name).map(|binding| (at, binding)))
    }

    /// The dotted name that an expression stands for by the imports of the source: `il.import_module` is
    /// `importlib.import_module` after `import importlib as il`. Builtins begin with `builtins.`.
    pub(super) fn qualified(&self, expr: &Expr, from: usize) -> Option<String> {
        const MAX_PARTS: usize = 12;
        let mut parts: Vec<&str> = Vec::new();
        let (mut expr, mut from) = (expr, from);
        // One step more than parts: names that stand for names are followed too.
        for _ in 0..2 * MAX_PARTS {
            match expr {
                Expr::Attribute(attribute) => {
                    parts.push(attribute.attr.as_str());
                    expr = &attribute.value;
                }
                Expr::Name(name) => {
                    let root = match self.lookup(name.id.as_str(), from) {
                        None => format!("builtins.{}", name.id),
                        Some((_, Binding::Import(module))) => module.clone(),
                        Some((at, Binding::Value(value))) if matches!(value, Expr::Attribute(_) | Expr::Name(_)) => {
                            expr = value;
                            from = at;
                            continue;
                        }
                        Some(_) => return None,
                    };
                    return Some(parts.iter().rev().fold(root, |mut name, part| {
                        if !name.ends_with('.') {
                            name.push('.');
                        }
                        name.push_str(part);
                        name
                    }));
                }
                _ => return None,
            }
        }
        None
    }
}

/// Statements within statements and expressions within expressions that are looked at: what a broken source nests more
/// deeply binds nothing.
const MAX_DEPTH: usize = 300;

/// Gathers what one scope binds; functions and classes within it are left to their own.
#[derive(Default)]
struct Collector<'a> {
    scope: Scope<'a>,
    /// Names that it declares as global or nonlocal.
    globals: Vec<&'a str>,
    depth: usize,
}

/// The names that a function binds.
pub(super) fn names_of<'a>(parameters: &'a ast::Parameters, body: &'a [Stmt]) -> HashMap<&'a str, Binding<'a>> {
    Collector::of_function(Some(parameters), body).names
}

impl<'a> Collector<'a> {
    fn of_function(parameters: Option<&'a ast::Parameters>, body: &'a [Stmt]) -> Scope<'a> {
        let mut collector = Self::default();
        for parameter in parameters.into_iter().flatten() {
            let binding = match parameter {
                ast::AnyParameterRef::NonVariadic(parameter) => Binding::Parameter(parameter.parameter.name.range()),
                ast::AnyParameterRef::Variadic(_) => Binding::Unknown,
            };
            collector.bind(parameter.name().as_str(), binding);
        }
        collector.visit_body(body);
        for name in collector.globals {
            collector.scope.names.remove(name);
        }
        collector.scope
    }

    fn of_class(body: &'a [Stmt]) -> Scope<'a> {
        let mut collector = Self::default();
        collector.visit_body(body);
        collector.scope.is_class = true;
        collector.scope
    }

    fn deeper(&mut self, walk: impl FnOnce(&mut Self)) {
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            walk(self);
            self.depth -= 1;
        }
    }

    fn bind(&mut self, name: &'a str, binding: Binding<'a>) {
        let merged = match (self.scope.names.get(name), binding) {
            (None, binding) => binding,
            // `try: import x` with a fallback: what is imported first counts.
            (Some(Binding::Import(_)), Binding::Import(_)) => return,
            (Some(Binding::Import(_)), Binding::Value(value)) if is_constant(value) => return,
            (Some(Binding::Value(value)), Binding::Import(module)) if is_constant(value) => Binding::Import(module),
            (Some(Binding::Each(known)), Binding::Each(more)) if known.len() < MAX_LOOPS => {
                let mut known = known.clone();
                known.extend(more.into_iter().filter(|each| !known.contains(each)).collect::<Vec<_>>());
                Binding::Each(known)
            }
            _ => Binding::Unknown,
        };
        self.scope.names.insert(name, merged);
    }

    /// Binds the variables of a loop.
    fn bind_each(&mut self, target: &'a Expr, over: &'a Expr, part: &[usize]) {
        match target {
            Expr::Name(name) => {
                self.bind(name.id.as_str(), Binding::Each(vec![Each { over, part: part.to_vec() }]));
            }
            Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }) if part.len() < 4 => {
                // Behind a starred one nobody knows which part is meant.
                let starred = elts.iter().position(Expr::is_starred_expr).unwrap_or(elts.len());
                for (number, target) in elts.iter().enumerate() {
                    match number < starred {
                        true => self.bind_each(target, over, &[part, &[number]].concat()),
                        false => self.bind_target(target, None),
                    }
                }
            }
            _ => self.bind_target(target, None),
        }
    }

    fn bind_target(&mut self, target: &'a Expr, value: Option<&'a Expr>) {
        match target {
            Expr::Name(name) => self.bind(name.id.as_str(), value.map_or(Binding::Unknown, Binding::Value)),
            // `A, B = "a", "b"`.
            Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }) => {
                let values = match value {
                    Some(Expr::Tuple(tuple)) if tuple.elts.len() == elts.len() => Some(&tuple.elts),
                    _ => None,
                };
                for (at, target) in elts.iter().enumerate() {
                    self.bind_target(target, values.and_then(|values| values.get(at)).filter(|v| !v.is_starred_expr()));
                }
            }
            Expr::Starred(starred) => self.bind_target(&starred.value, None),
            _ => {}
        }
    }
}

/// What stands for "not there" beside an import.
fn is_constant(value: &Expr) -> bool {
    matches!(value, Expr::NoneLiteral(_) | Expr::BooleanLiteral(_))
}

impl<'a> Visitor<'a> for Collector<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::FunctionDef(function) => return self.bind(function.name.as_str(), Binding::Function(function)),
            Stmt::ClassDef(class) => return self.bind(class.name.as_str(), Binding::Class(class)),
            Stmt::Import(import) => {
                for alias in &import.names {
                    let name = alias.name.as_str();
                    match &alias.asname {
                        Some(bound) => self.bind(bound.as_str(), Binding::Import(name.to_owned())),
                        None => {
                            let root = name.split('.').next().unwrap_or(name);
                            self.bind(root, Binding::Import(root.to_owned()));
                        }
                    }
                }
                return;
            }
            Stmt::ImportFrom(import) => {
                let mut module = ".".repeat(usize::try_from(import.level.min(64)).unwrap_or(64));
                module.push_str(import.module.as_ref().map_or("", |module| module.as_str()));
                for alias in import.names.iter().filter(|alias| alias.name.as_str() != "*") {
                    let bound = alias.asname.as_ref().unwrap_or(&alias.name);
                    let dot = if module.is_empty() || module.ends_with('.') { "" } else { "." };
                    self.bind(bound.as_str(), Binding::Import(format!("{module}{dot}{}", alias.name.as_str())));
                }
                return;
            }
            Stmt::Assign(assign) => {
                for target in &assign.targets {
                    self.bind_target(target, Some(&assign.value));
                }
                return self.visit_expr(&assign.value);
            }
            Stmt::AnnAssign(assign) => {
                if let Some(value) = &assign.value {
                    self.bind_target(&assign.target, Some(value));
                    self.visit_expr(value);
                }
                return;
            }
            Stmt::For(stmt) => {
                self.bind_each(&stmt.target, &stmt.iter, &[]);
                self.visit_expr(&stmt.iter);
                return self.deeper(|collector| {
                    collector.visit_body(&stmt.body);
                    collector.visit_body(&stmt.orelse);
                });
            }
            Stmt::With(with) => {
                for item in &with.items {
                    if let (Some(Expr::Name(name)), opened) = (item.optional_vars.as_deref(), &item.context_expr) {
                        self.bind(name.id.as_str(), Binding::Opened(opened));
                    } else if let Some(target) = &item.optional_vars {
                        self.bind_target(target, None);
                    }
                }
                return self.deeper(|collector| collector.visit_body(&with.body));
            }
            Stmt::Global(ast::StmtGlobal { names, .. }) | Stmt::Nonlocal(ast::StmtNonlocal { names, .. }) => {
                self.globals.extend(names.iter().map(|name| name.as_str()));
            }
            // What these bind are names in an expression's place, found below.
            _ => {}
        }
        self.deeper(|collector| walk_stmt(collector, stmt));
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Name(name) if name.ctx != ExprContext::Load => self.bind(name.id.as_str(), Binding::Unknown),
            // These have scopes of their own, and nothing else in an expression binds a name but `:=`.
            Expr::Lambda(_) | Expr::ListComp(_) | Expr::SetComp(_) | Expr::DictComp(_) | Expr::Generator(_) => {}
            Expr::Named(_)
            | Expr::Tuple(_)
            | Expr::List(_)
            | Expr::Starred(_)
            | Expr::BoolOp(_)
            | Expr::Compare(_)
            | Expr::UnaryOp(_)
            | Expr::If(_) => self.deeper(|collector| walk_expr(collector, expr)),
            _ => {}
        }
    }

    fn visit_annotation(&mut self, _: &'a Expr) {}

    fn visit_except_handler(&mut self, handler: &'a ast::ExceptHandler) {
        let ast::ExceptHandler::ExceptHandler(handler) = handler;
        if let Some(name) = &handler.name {
            self.bind(name.as_str(), Binding::Unknown);
        }
        self.visit_body(&handler.body);
    }

    fn visit_pattern(&mut self, pattern: &'a ast::Pattern) {
        let name = match pattern {
            ast::Pattern::MatchAs(pattern) => pattern.name.as_ref(),
            ast::Pattern::MatchStar(pattern) => pattern.name.as_ref(),
            ast::Pattern::MatchMapping(pattern) => pattern.rest.as_ref(),
            _ => None,
        };
        if let Some(name) = name {
            self.bind(name.as_str(), Binding::Unknown);
        }
        self.deeper(|collector| ast::visitor::walk_pattern(collector, pattern));
    }
}

/// Gathers the names that functions of a module declare as global.
struct Globals<'a> {
    names: Vec<&'a str>,
    depth: usize,
}

impl<'a> Visitor<'a> for Globals<'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Global(global) => self.names.extend(global.names.iter().map(|name| name.as_str())),
            _ if self.depth < MAX_DEPTH => {
                self.depth += 1;
                walk_stmt(self, stmt);
                self.depth -= 1;
            }
            _ => {}
        }
    }

    fn visit_expr(&mut self, _: &'a Expr) {}

    fn visit_pattern(&mut self, _: &'a ast::Pattern) {}
}
