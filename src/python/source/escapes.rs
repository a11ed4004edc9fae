//! IPython's commands: `%run`, `%load_ext`, `!python` and their like, as the calls that notebooks become.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::{Ranged, TextRange};

use super::commands::note;
use super::evaluate::argument;
use super::place::{Place, has_extension};
use super::scopes::Binding;
use super::shell::{Runs, Word, commands, runs};
use super::walk::Walker;
use super::{FileUse, How, SearchPath, search_path};

/// Notes what a magic loads, from the line behind its `%`.
fn magic(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    let (name, rest) = line.trim_start().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    match name {
        "run" => run(walker, rest, range),
        "load" | "loadpy" => load(walker, rest, range),
        "load_ext" | "reload_ext" => extension(walker, rest.trim(), range),
        "sx" | "system" => shell(walker, rest, range),
        "cd" | "pushd" => go_to(walker, rest, range),
        // The line itself is the statement that is timed.
        "time" | "timeit" | "prun" | "memit" | "mprun" | "lprun" => timed(walker, rest, range),
        _ => {}
    }
}

/// `get_ipython().run_line_magic("run", "x.py")`, and its `system` and `run_cell_magic`; false where it is none of these.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    let Expr::Attribute(method) = call.func.as_ref() else { return false };
    let text = |walker: &Walker<'_, 'a>, at: usize| walker.evaluator().text_of(argument(call, at, &[])?);
    match last {
        "run_line_magic" | "magic" | "run_cell_magic" => {
            let (Some(name), line) = (text(walker, 0), text(walker, 1).unwrap_or_default()) else { return true };
            let range = call.range();
            magic(walker, format!("{name} {line}").trim(), range);
            if let Some(body) = text(walker, 2) {
                match name.as_str() {
                    "bash" | "sh" | "script" => shell(walker, &body, range),
                    "time" | "timeit" | "prun" | "capture" => walker.code(range.start(), &body),
                    _ => {}
                }
            }
            true
        }
        "system" | "getoutput" if is_shell(walker, &method.value) => {
            if let Some(line) = text(walker, 0) {
                shell(walker, &line, call.range());
            }
            true
        }
        _ => false,
    }
}

fn is_shell(walker: &Walker<'_, '_>, expr: &Expr) -> bool {
    let is_named = |expr: &Expr| match expr {
        Expr::Call(call) => match call.func.as_ref() {
            Expr::Name(name) => name.id.as_str() == "get_ipython",
            Expr::Attribute(attribute) => attribute.attr.as_str() == "get_ipython",
            _ => false,
        },
        _ => false,
    };
    match expr {
        Expr::Name(name) => match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost()) {
            Some((_, Binding::Value(value))) => is_named(value),
            _ => false,
        },
        other => is_named(other),
    }
}

/// `%cd folder`: relative paths begin there, and so does what a notebook imports.
fn go_to(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    let words = words(line);
    let folder = words.iter().find_map(|word| match word {
        Word::Text(text) if !text.starts_with('-') => Place::from_text(text, walker.target.os_name == "nt"),
        _ => None,
    });
    if let Some(folder) = folder {
        for target in [SearchPath::Working, SearchPath::Global] {
            search_path::edit(walker, range.start(), &folder, target, true);
        }
    }
}

fn shell(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    // `{name}` is replaced by IPython; of what may stand there only the interpreter is known.
    let line = line.replace("{sys.executable}", "python").replace("{executable}", "python").replace('{', "$");
    let is_windows = walker.target.os_name == "nt";
    for found in commands(&line).iter().filter_map(|words| runs(words, is_windows)) {
        note(walker, range, found);
    }
}

fn words(line: &str) -> Vec<Word> {
    commands(&line.replace('{', "$")).into_iter().next().unwrap_or_default()
}

/// `%run -i x.py`, `%run -m pkg.mod`.
fn run(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    let words = words(line);
    let mut words = words.iter();
    while let Some(Word::Text(word)) = words.next() {
        match word.as_str() {
            "-m" => {
                if let Some(Word::Text(module)) = words.next() {
                    note(walker, range, Runs::Module(module.clone()));
                }
                return;
            }
            // These take a value.
            "-l" | "-s" | "-T" | "-D" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            file => {
                // Without an extension, IPython looks for a source of that name.
                let file = if has_extension(file) { file.to_owned() } else { format!("{file}.py") };
                return name(walker, &file, range, FileUse::Process);
            }
        }
    }
}

/// `%load x.py`, which puts the text into the cell, to be run next time.
fn load(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    let words = words(line);
    let mut words = words.iter();
    while let Some(Word::Text(word)) = words.next() {
        match word.as_str() {
            "-r" | "-s" => drop(words.next()),
            flag if flag.starts_with('-') => {}
            file => return name(walker, file, range, FileUse::Code),
        }
    }
}

fn name(walker: &mut Walker<'_, '_>, file: &str, range: TextRange, usage: FileUse) {
    if let Some(place) =
        Place::from_text(file, walker.target.os_name == "nt").filter(|place| has_extension(&place.rest))
    {
        walker.name_place(range, &place, usage);
    }
}

fn extension(walker: &mut Walker<'_, '_>, module: &str, range: TextRange) {
    // The ones that IPython brings are found by their last name.
    let module = match module {
        "autoreload" | "storemagic" | "deduperreload" => format!("IPython.extensions.{module}"),
        other => other.to_owned(),
    };
    if super::evaluate::is_dotted(&module) {
        walker.import(range.start(), 0, &module, None, How::Call);
    }
}

/// `%time run(x)` is an expression like any other, but for its place; what `%time %run x.py` runs is what matters.
fn timed(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    match line.trim_start().split_at_checked(1) {
        Some(("%", inner)) if inner.starts_with("run") => magic(walker, inner, range),
        Some(("!", inner)) => shell(walker, inner, range),
        _ => {}
    }
}
