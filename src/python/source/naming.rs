//! What is noted of files: those that are named, mentioned or written, and what code in strings names.

use ruff_python_ast::Expr;
use ruff_text_size::{Ranged, TextRange};

use super::place::Place;
use super::walk::Walker;
use super::{Base, FileUse, Import, Listed, ListedUse, NamedFile, Scan, SearchPathEdit, When, files, patterns};

/// Patterns of one source.
const MAX_PATTERNS: usize = 500;

impl<'a> Walker<'_, 'a> {
    /// Takes a path out of the hands of what would call it mentioned, and with it the paths that it is made of.
    pub(super) fn take(&mut self, expr: &'a Expr) {
        self.taken.insert(expr.range());
        self.take_below(expr);
    }

    pub(super) fn is_taken(&self, range: TextRange) -> bool {
        self.taken.contains(&range)
    }

    /// Notes that a path is written.
    pub(super) fn write(&mut self, expr: &'a Expr) {
        self.take(expr);
        if matches!(self.when(), When::TypeOnly | When::Never) || expr.is_number_literal_expr() {
            return;
        }
        let places = self.evaluator().paths(expr);
        if places.is_empty() {
            let patterns = patterns::of(&self.evaluator(), expr, &FileUse::Data);
            self.written_patterns.extend(patterns);
        }
        for place in places {
            if !files::is_file(&place) && !place.rest.trim_matches('/').contains('/') {
                continue;
            }
            let path = place.finish();
            if place.package.is_none() && !self.scan.written.contains(&path) {
                self.scan.written.push(path);
            }
        }
        let bound = self.evaluator().resolved(expr).range();
        self.written.insert(bound);
    }

    /// Names the file that an expression stands for.
    pub(super) fn name(&mut self, expr: &'a Expr, usage: FileUse) {
        let evaluator = self.evaluator();
        let places = evaluator.paths(expr);
        let is_known = evaluator.is_known(&places, |evaluator| evaluator.paths(expr));
        self.take(expr);
        if !is_known {
            self.name_one_of(expr, &usage);
        }
        for place in places {
            self.name_place(expr.range(), &place, usage.clone());
        }
    }

    /// Names the files of a folder that an expression may stand for, of which some part is not known.
    pub(super) fn name_one_of(&mut self, expr: &'a Expr, usage: &FileUse) {
        let patterns = patterns::of(&self.evaluator(), expr, usage);
        let (line, when) = (self.line(expr.start()), self.when_given());
        for path in patterns {
            let listed = Listed { line, path, usage: ListedUse::OneOf, when };
            if self.scan.listings.len() < MAX_PATTERNS && !self.scan.listings.contains(&listed) {
                self.scan.listings.push(listed);
            }
        }
    }

    /// When something is done that somebody has to want.
    fn when_given(&self) -> When {
        match self.when() {
            when @ (When::MainOnly | When::TypeOnly | When::Never) => when,
            _ => When::Lazy,
        }
    }

    pub(super) fn name_place(&mut self, range: TextRange, place: &Place, usage: FileUse) {
        let path = place.finish();
        if path.rest.is_empty() && usage == FileUse::Data && path.base != Base::Source(0) {
            return;
        }
        let usage = place.package.clone().map_or(usage, FileUse::Resource);
        let file = NamedFile { line: self.line(range.start()), path, usage, when: self.when() };
        // What is executed is more than data.
        let named = self.named.entry(range).or_default();
        match named.iter_mut().find(|known| known.path == file.path) {
            Some(known) if known.usage != FileUse::Data => {}
            Some(known) => *known = file,
            None => named.push(file),
        }
    }

    /// Notes a path that an expression computes, whatever is done with it.
    pub(super) fn mention(&mut self, expr: &'a Expr) {
        let places = self.evaluator().paths(expr);
        for place in places.into_iter().filter(files::is_file) {
            let usage = place.package.clone().map_or(FileUse::Data, FileUse::Resource);
            let file = NamedFile { line: self.line(expr.start()), path: place.finish(), usage, when: self.when() };
            self.mentioned.push((expr.range(), file));
            self.take_below(expr);
        }
    }

    /// Notes a path that is given away: it is read at most when somebody wants it.
    pub(super) fn mention_weakly(&mut self, expr: &'a Expr, place: &Place) {
        let (line, when) = (self.line(expr.start()), self.when_given());
        let range = self.evaluator().resolved(expr).range();
        self.mentioned.push((range, NamedFile { line, path: place.finish(), usage: FileUse::Data, when }));
    }

    /// The paths that a path is made of are no paths of their own.
    fn take_below(&mut self, expr: &'a Expr) {
        let mut below = vec![expr];
        while let Some(expr) = below.pop() {
            match expr {
                Expr::BinOp(operation) if below.len() < 100 => below.extend([&*operation.left, &*operation.right]),
                Expr::Call(call) if below.len() < 100 => {
                    below.push(&call.func);
                    below.extend(&call.arguments.args);
                }
                Expr::Attribute(attribute) => below.push(&attribute.value),
                Expr::StringLiteral(_) => {}
                _ => continue,
            }
            self.taken.insert(expr.range());
        }
    }

    /// Takes what code in a string says for said here.
    pub(super) fn take_in(&mut self, range: TextRange, inner: Scan) {
        let (line, outer) = (self.line(range.start()), self.when());
        let imports = inner.imports.into_iter();
        self.scan.imports.extend(imports.map(|import| Import { line, when: outer.max(import.when), ..import }));
        let files = inner.files.into_iter().map(|file| NamedFile { line, when: outer.max(file.when), ..file });
        self.named.entry(range).or_default().extend(files);
        let edits = inner.search_path.into_iter();
        self.scan.search_path.extend(edits.map(|edit| SearchPathEdit { line, when: outer.max(edit.when), ..edit }));
        let listings = inner.listings.into_iter();
        self.scan.listings.extend(listings.map(|listed| Listed { line, when: outer.max(listed.when), ..listed }));
        self.scan.written.extend(inner.written);
        self.scan.importers.extend(inner.importers);
        if inner.loads_unknown.is_some() {
            self.scan.loads_unknown.get_or_insert(line);
        }
    }
}
