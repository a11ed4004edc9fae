//! The walk over a syntax tree: which statements and expressions are asked, and under which conditions they stand.

use std::collections::{HashMap, HashSet};

use ruff_python_ast::visitor::{self, Visitor};
use ruff_python_ast::{self as ast, Expr, Operator, Stmt};
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::conditions::{self, Conditions, Verdict, verdict};
use super::evaluate::Evaluator;
use super::exports::Exports;
use super::given::Given;
use super::lines::Lines;
use super::scopes::Scopes;
use super::several::Choices;
use super::{How, Import, ListedUse, NamedFile, PathExpression, Scan, Target, When};
use super::{calls, constants, given, importers, literals, search_path};

/// Levels of the tree that are looked at: nothing real comes close, and stack is limited.
const MAX_DEPTH: usize = 400;

/// Walks over one source.
pub(in crate::python) struct Walker<'w, 'a> {
    lines: &'w Lines,
    pub(super) target: &'w Target,
    pub(super) scopes: Scopes<'a>,
    choices: Choices,
    pub(super) given: Given,
    is_again: bool,
    conditions: Conditions,
    depth: usize,
    function_depth: usize,
    pub(super) scan: Scan,
    exports: Exports,
    /// Paths that some call has taken already, so that they are not taken for mentioned alone.
    pub(super) taken: HashSet<TextRange>,
    /// Files with the expression that names them.
    pub(super) named: HashMap<TextRange, Vec<NamedFile>>,
    /// Paths that are written.
    pub(super) written: HashSet<TextRange>,
    /// Strings that may name a module, so far.
    pub(super) literals: usize,
    /// In how many strings of code this one stands.
    pub(super) within: u8,
    /// Bytes of code in strings, so far.
    pub(super) inner_bytes: usize,
    /// Whether folders or packages are listed anywhere.
    pub(super) lists: bool,
    /// Patterns of paths that are written.
    pub(super) written_patterns: HashSet<PathExpression>,
    /// Whether names that begin with an underscore are told from others.
    pub(super) tells_private: bool,
    /// Paths that are mentioned, by a path object or a join: read unless it is seen that they are written.
    pub(super) mentioned: Vec<(TextRange, NamedFile)>,
}

impl<'w, 'a> Walker<'w, 'a> {
    /// Begins at the top of a module.
    pub(in crate::python) fn new(lines: &'w Lines, target: &'w Target, body: &'a [Stmt]) -> Self {
        Self {
            lines,
            target,
            scopes: Scopes::module(body),
            choices: Choices::default(),
            given: Given::default(),
            is_again: false,
            conditions: Conditions::default(),
            depth: 0,
            function_depth: 0,
            scan: Scan::default(),
            exports: Exports::default(),
            taken: HashSet::new(),
            named: HashMap::new(),
            written: HashSet::new(),
            literals: 0,
            within: 0,
            inner_bytes: 0,
            lists: false,
            written_patterns: HashSet::new(),
            tells_private: false,
            mentioned: Vec::new(),
        }
    }

    /// Says in how many strings of code this one stands.
    pub(super) fn within(self, within: u8) -> Self {
        Self { within, ..self }
    }

    /// Walks over the module's statements and gives what they say.
    pub(in crate::python) fn walk(mut self, body: &'a [Stmt]) -> Scan {
        self.visit_body(body);
        if self.given.is_wanted() && !self.is_again {
            // With what functions are given.
            let again = Walker::new(self.lines, self.target, body).within(self.within);
            return Walker { given: self.given, is_again: true, ..again }.walk(body);
        }
        self.scan.constants = constants::of_module(&self.evaluator(), body);
        let Self { mut scan, exports, named, written, mentioned, lists, written_patterns, tells_private, .. } = self;
        let mut named: Vec<(TextRange, NamedFile)> =
            named.into_iter().flat_map(|(range, files)| files.into_iter().map(move |file| (range, file))).collect();
        // A path that is read is named by the read; one that is only written is not named at all.
        let known: HashSet<PathExpression> = named.iter().map(|(_, file)| file.path.clone()).collect();
        let is_new = |file: &NamedFile| file.when != When::Lazy || !known.contains(&file.path);
        named.extend(mentioned.into_iter().filter(|(range, file)| !written.contains(range) && is_new(file)));
        named.sort_by_key(|(range, _)| (range.start(), range.end()));
        let mut seen = HashSet::new();
        scan.files = named.into_iter().map(|(_, file)| file).filter(|file| seen.insert(file.clone())).collect();
        scan.exports = exports.finish(lists);
        if scan.loads_unknown.is_some() {
            let usage = if tells_private { ListedUse::PublicModules } else { ListedUse::Modules };
            let listed = scan.listings.iter_mut().filter(|listed| listed.usage == ListedUse::Data);
            listed.for_each(|listed| listed.usage = usage);
        }
        // What comes of the run is no part of it.
        scan.listings.retain(|listed| listed.usage != ListedUse::OneOf || !written_patterns.contains(&listed.path));
        scan
    }

    pub(super) fn evaluator(&self) -> Evaluator<'_, 'a> {
        Evaluator::new(&self.scopes, self.target, &self.choices, &self.given)
    }

    /// Evaluates once for each combination of what loops and lookups give.
    pub(super) fn each<T: PartialEq>(&self, evaluate: impl FnMut() -> T) -> Vec<T> {
        self.choices.each(evaluate)
    }

    pub(super) fn line(&self, at: TextSize) -> u32 {
        self.lines.of(at)
    }

    pub(super) fn when(&self) -> When {
        self.conditions.when()
    }

    pub(super) fn import(&mut self, at: TextSize, level: u32, module: &str, names: Option<Vec<String>>, how: How) {
        let (line, when) = (self.line(at), self.when());
        self.scan.imports.push(Import { line, module: module.to_owned(), level, names, how, when });
    }

    /// Notes that something is loaded by a name that is not known.
    pub(super) fn load_unknown(&mut self, at: TextSize) {
        if !matches!(self.when(), When::TypeOnly | When::Never) {
            let line = self.line(at);
            self.scan.loads_unknown.get_or_insert(line);
        }
    }

    fn under(&mut self, conditions: Conditions, walk: impl FnOnce(&mut Self)) {
        let outer = std::mem::replace(&mut self.conditions, conditions);
        walk(self);
        self.conditions = outer;
    }

    fn deeper(&mut self, walk: impl FnOnce(&mut Self)) {
        if self.depth < MAX_DEPTH {
            self.depth += 1;
            walk(self);
            self.depth -= 1;
        }
    }

    fn verdict(&self, test: &Expr) -> Verdict {
        verdict(test, &self.scopes, self.target)
    }

    fn visit_if(&mut self, stmt: &'a ast::StmtIf) {
        self.visit_expr(&stmt.test);
        let mut verdict = self.verdict(&stmt.test);
        if verdict == Verdict::Known(false) && conditions::is_for_type_checkers(&stmt.body) {
            verdict = Verdict::TypeChecking(true);
        }
        let (inside, mut rest) = self.conditions.branches(verdict);
        self.under(inside, |walker| walker.visit_body(&stmt.body));
        for clause in &stmt.elif_else_clauses {
            let inside = match &clause.test {
                None => rest,
                Some(test) => {
                    self.under(rest, |walker| walker.visit_expr(test));
                    let (inside, others) = rest.branches(self.verdict(test));
                    rest = others;
                    inside
                }
            };
            self.under(inside, |walker| walker.visit_body(&clause.body));
        }
    }

    fn visit_function(&mut self, function: &'a ast::StmtFunctionDef) {
        for decorator in &function.decorator_list {
            self.visit_expr(&decorator.expression);
        }
        self.visit_defaults(&function.parameters);
        self.scopes.enter_function(Some(&function.parameters), &function.body);
        self.scopes.name(function.name.as_str());
        self.function_depth += 1;
        let lazy = Conditions { lazy: true, ..self.conditions };
        self.under(lazy, |walker| walker.visit_body(&function.body));
        self.function_depth -= 1;
        self.scopes.leave();
    }

    fn visit_defaults(&mut self, parameters: &'a ast::Parameters) {
        given::defaults(self, parameters);
        for default in parameters.iter_non_variadic_params().filter_map(|parameter| parameter.default.as_deref()) {
            self.visit_expr(default);
        }
    }

    fn visit_class(&mut self, class: &'a ast::StmtClassDef) {
        for decorator in &class.decorator_list {
            self.visit_expr(&decorator.expression);
        }
        if let Some(arguments) = &class.arguments {
            self.visit_arguments(arguments);
        }
        self.scopes.enter_class(&class.body);
        self.scopes.name(class.name.as_str());
        self.function_depth += 1;
        self.visit_body(&class.body);
        self.function_depth -= 1;
        self.scopes.leave();
    }

    fn visit_try(&mut self, stmt: &'a ast::StmtTry) {
        let inside = if stmt.handlers.is_empty() { self.conditions } else { self.conditions.maybe() };
        self.under(inside, |walker| {
            walker.visit_body(&stmt.body);
            for ast::ExceptHandler::ExceptHandler(handler) in &stmt.handlers {
                if let Some(kind) = &handler.type_ {
                    walker.visit_expr(kind);
                }
                walker.visit_body(&handler.body);
            }
            walker.visit_body(&stmt.orelse);
        });
        self.visit_body(&stmt.finalbody);
    }

    fn visit_import_from(&mut self, import: &'a ast::StmtImportFrom) {
        let names = import.names.iter().map(|alias| alias.name.as_str().to_owned()).collect();
        let module = import.module.as_ref().map_or("", |module| module.as_str());
        let conditions = Conditions { lazy: self.conditions.lazy || import.is_lazy, ..self.conditions };
        self.under(conditions, |walker| {
            walker.import(import.start(), import.level, module, Some(names), How::Statement);
        });
    }

    fn visit_import(&mut self, import: &'a ast::StmtImport) {
        let conditions = Conditions { lazy: self.conditions.lazy || import.is_lazy, ..self.conditions };
        self.under(conditions, |walker| {
            for alias in &import.names {
                walker.import(alias.start(), 0, alias.name.as_str(), None, How::Statement);
            }
        });
    }

    fn visit_inner(&mut self, stmt: &'a Stmt) {
        match stmt {
            Stmt::Import(import) => self.visit_import(import),
            Stmt::ImportFrom(import) => self.visit_import_from(import),
            Stmt::FunctionDef(function) => self.visit_function(function),
            Stmt::ClassDef(class) => self.visit_class(class),
            Stmt::If(stmt) => self.visit_if(stmt),
            Stmt::Try(stmt) => self.visit_try(stmt),
            Stmt::For(stmt) => {
                self.visit_expr(&stmt.iter);
                self.under(self.conditions.maybe(), |walker| {
                    walker.visit_body(&stmt.body);
                    walker.visit_body(&stmt.orelse);
                });
            }
            Stmt::While(stmt) => {
                self.visit_expr(&stmt.test);
                let (inside, rest) = self.conditions.branches(self.verdict(&stmt.test));
                self.under(inside.maybe(), |walker| walker.visit_body(&stmt.body));
                self.under(rest.maybe(), |walker| walker.visit_body(&stmt.orelse));
            }
            Stmt::With(stmt) => {
                let mut suppresses = false;
                for item in &stmt.items {
                    self.visit_expr(&item.context_expr);
                    suppresses |= calls::is_suppress(self, &item.context_expr);
                }
                let inside = if suppresses { self.conditions.maybe() } else { self.conditions };
                self.under(inside, |walker| walker.visit_body(&stmt.body));
            }
            Stmt::Match(stmt) => {
                self.visit_expr(&stmt.subject);
                self.under(self.conditions.maybe(), |walker| {
                    for case in &stmt.cases {
                        if let Some(guard) = &case.guard {
                            walker.visit_expr(guard);
                        }
                        walker.visit_body(&case.body);
                    }
                });
            }
            Stmt::TypeAlias(_) => {}
            _ => {
                if literals::is_description(stmt) {
                    return;
                }
                literals::take_exports(self, stmt);
                search_path::statement(self, stmt);
                if self.function_depth == 0 {
                    self.exports.statement(stmt, &self.scopes);
                }
                visitor::walk_stmt(self, stmt);
            }
        }
    }

    fn visit_inner_expr(&mut self, expr: &'a Expr) {
        match expr {
            Expr::Call(call) => {
                let is_path = calls::call(self, call);
                if is_path && !self.taken.contains(&expr.range()) {
                    self.mention(expr);
                }
                literals::arguments(self, call);
                given::call(self, call);
                importers::call(self, call);
                visitor::walk_expr(self, expr);
            }
            Expr::BinOp(operation) => {
                if operation.op == Operator::Div && !self.taken.contains(&expr.range()) {
                    self.mention(expr);
                }
                self.visit_expr(&operation.right);
                // Operators lean to the left: a loop, since thousands of them are not rare.
                let mut left = operation.left.as_ref();
                while let Expr::BinOp(operation) = left {
                    if operation.op == Operator::Div && !self.taken.contains(&left.range()) {
                        self.mention(left);
                    }
                    self.visit_expr(&operation.right);
                    left = &operation.left;
                }
                self.visit_expr(left);
            }
            Expr::If(choice) => {
                self.visit_expr(&choice.test);
                let (yes, no) = self.conditions.branches(self.verdict(&choice.test));
                self.under(yes, |walker| walker.visit_expr(&choice.body));
                self.under(no, |walker| walker.visit_expr(&choice.orelse));
            }
            Expr::BoolOp(operation) => {
                let outer = self.conditions;
                for value in &operation.values {
                    self.visit_expr(value);
                    let (yes, no) = self.conditions.branches(self.verdict(value));
                    self.conditions = if operation.op == ast::BoolOp::And { yes } else { no };
                }
                self.conditions = outer;
            }
            Expr::Lambda(lambda) => {
                if let Some(parameters) = &lambda.parameters {
                    self.visit_defaults(parameters);
                }
                self.scopes.enter_function(lambda.parameters.as_deref(), &[]);
                let lazy = Conditions { lazy: true, ..self.conditions };
                self.under(lazy, |walker| walker.visit_expr(&lambda.body));
                self.scopes.leave();
            }
            Expr::ListComp(ast::ExprListComp { generators, .. })
            | Expr::SetComp(ast::ExprSetComp { generators, .. })
            | Expr::DictComp(ast::ExprDictComp { generators, .. })
            | Expr::Generator(ast::ExprGenerator { generators, .. }) => {
                self.scopes.enter_comprehension(generators);
                self.under(self.conditions.maybe(), |walker| visitor::walk_expr(walker, expr));
                self.scopes.leave();
            }
            _ => visitor::walk_expr(self, expr),
        }
    }
}

impl<'a> Visitor<'a> for Walker<'_, 'a> {
    fn visit_stmt(&mut self, stmt: &'a Stmt) {
        self.deeper(|walker| walker.visit_inner(stmt));
    }

    fn visit_expr(&mut self, expr: &'a Expr) {
        if let Expr::StringLiteral(literal) = expr {
            return literals::string(self, literal);
        }
        // Nearly all expressions are one of these, and none of them says anything.
        if !matches!(
            expr,
            Expr::Name(_)
                | Expr::NumberLiteral(_)
                | Expr::NoneLiteral(_)
                | Expr::BooleanLiteral(_)
                | Expr::BytesLiteral(_)
                | Expr::EllipsisLiteral(_)
        ) {
            self.deeper(|walker| walker.visit_inner_expr(expr));
        }
    }

    /// Annotations load nothing.
    fn visit_annotation(&mut self, _: &'a Expr) {}
}
