//! IPython's commands: `%run`, `%load_ext`, `!python` and their like, as the calls that IPython makes of them. A script
//! that was exported from a notebook has them written out.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::{Ranged, TextRange};

use super::commands::note;
use super::evaluate::argument;
use super::place::{Place, has_extension};
use super::shell::{Runs, Word, commands, runs};
use super::walk::Walker;
use super::{FileUse, How};

/// Notes what a command loads; false where the call is none.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    if !matches!(last, "run_line_magic" | "magic" | "system" | "getoutput") {
        return false;
    }
    let Expr::Attribute(method) = call.func.as_ref() else { return false };
    let Expr::Call(shell_of) = method.value.as_ref() else { return false };
    if !matches!(walker.qualified(&shell_of.func).as_deref(), Some("builtins.get_ipython" | "IPython.get_ipython")) {
        return false;
    }
    let text = |at| argument(call, at, &[]).and_then(|text| walker.evaluator().text_of(text));
    let Some(first) = text(0) else { return true };
    let second = text(1).unwrap_or_default();
    match last {
        "run_line_magic" => magic(walker, &first, &second, call.range()),
        "magic" => line(walker, &first, call.range()),
        _ => shell(walker, &first, call.range()),
    }
    true
}

/// A magic with what follows it, as it was typed behind the `%`.
fn line(walker: &mut Walker<'_, '_>, line: &str, range: TextRange) {
    let (name, rest) = line.trim_start().split_once(char::is_whitespace).unwrap_or((line.trim(), ""));
    magic(walker, name, rest, range);
}

fn magic(walker: &mut Walker<'_, '_>, name: &str, rest: &str, range: TextRange) {
    match name {
        "run" => run(walker, rest, range),
        "load" | "loadpy" => load(walker, rest, range),
        "load_ext" | "reload_ext" => extension(walker, rest.trim(), range),
        "sx" | "system" => shell(walker, rest, range),
        // The line itself is the statement that is timed.
        "time" | "timeit" | "prun" | "memit" | "mprun" | "lprun" => timed(walker, rest, range),
        _ => {}
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
                return name(walker, &file, range);
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
            file => return name(walker, file, range),
        }
    }
}

fn name(walker: &mut Walker<'_, '_>, file: &str, range: TextRange) {
    if let Some(place) =
        Place::from_text(file, walker.target.os_name == "nt").filter(|place| has_extension(&place.rest))
    {
        walker.name_place(range, &place, FileUse::Code);
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
fn timed(walker: &mut Walker<'_, '_>, timed: &str, range: TextRange) {
    match timed.trim_start().split_at_checked(1) {
        Some(("%", inner)) if inner.starts_with("run ") => line(walker, inner, range),
        Some(("!", inner)) => shell(walker, inner, range),
        _ => {}
    }
}
