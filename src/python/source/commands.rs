//! Calls that start other processes: what they run, when it is Python.

use ruff_python_ast::{self as ast, Expr, Operator};
use ruff_text_size::{Ranged, TextRange};

use super::evaluate::{Piece, Value, argument};
use super::place::Place;
use super::shell::{Runs, Word, commands, runs};
use super::walk::Walker;
use super::{Base, FileUse, dynamic};

/// How a function takes its command.
enum Takes {
    /// A list, or a line for a shell, at a place.
    Command(usize),
    /// The words as arguments of their own, from a place on.
    Words(usize),
}

/// Notes what a call runs; false where it is none of these.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    if !is_candidate(last) {
        return false;
    }
    let Some(takes) = walker.qualified(&call.func).and_then(|name| takes(&name)) else { return false };
    let mut found = Vec::new();
    match takes {
        Takes::Command(at) => {
            let Some(command) = argument(call, at, &["args", "cmd", "command", "program"]) else { return true };
            match walker.evaluator().resolved(command) {
                Expr::List(_) | Expr::Tuple(_) | Expr::BinOp(ast::ExprBinOp { op: Operator::Add, .. })
                    if is_list(walker, command) =>
                {
                    found.extend(walker.each(|| words(walker, command)));
                    take_words(walker, command);
                }
                _ => found.extend(walker.each(|| lines(walker, command)).into_iter().flatten()),
            }
        }
        Takes::Words(from) => {
            let words = call.arguments.args.iter().skip(from);
            words.clone().for_each(|word| walker.take(word));
            let words: Vec<&Expr> = words.take_while(|word| !word.is_starred_expr()).collect();
            found
                .extend(walker.each(|| words.iter().copied().map(|word| self::word(walker, word)).collect::<Vec<_>>()));
        }
    }
    let folder = argument(call, usize::MAX, &["cwd"]).filter(|folder| !folder.is_none_literal_expr());
    for words in found {
        let Some(runs) = runs(&words, walker.target.os_name == "nt") else { continue };
        match folder {
            None => note(walker, call.range(), runs),
            Some(folder) => {
                let folder = walker.evaluator().path(folder);
                note_in(walker, call.range(), runs, folder);
            }
        }
    }
    true
}

fn is_candidate(last: &str) -> bool {
    matches!(
        last,
        "run"
            | "Popen"
            | "call"
            | "check_call"
            | "check_output"
            | "getoutput"
            | "getstatusoutput"
            | "system"
            | "popen"
            | "startfile"
            | "create_subprocess_exec"
            | "create_subprocess_shell"
    ) || last.starts_with("exec")
        || last.starts_with("spawn")
        || last.starts_with("posix_spawn")
}

fn takes(name: &str) -> Option<Takes> {
    let (module, function) = name.rsplit_once('.')?;
    match (module, function) {
        ("subprocess", _) | ("asyncio" | "asyncio.subprocess", "create_subprocess_shell") => Some(Takes::Command(0)),
        ("os", "system" | "popen" | "startfile") => Some(Takes::Command(0)),
        ("asyncio" | "asyncio.subprocess", "create_subprocess_exec") => Some(Takes::Words(0)),
        ("os", "execv" | "execve" | "execvp" | "execvpe" | "posix_spawn" | "posix_spawnp") => Some(Takes::Command(1)),
        ("os", "execl" | "execle" | "execlp" | "execlpe") => Some(Takes::Words(1)),
        ("os", "spawnv" | "spawnve" | "spawnvp" | "spawnvpe") => Some(Takes::Command(2)),
        ("os", "spawnl" | "spawnle" | "spawnlp" | "spawnlpe") => Some(Takes::Words(2)),
        _ => None,
    }
}

/// Whether an expression is a list: a sum is one when what stands first in it is.
fn is_list(walker: &Walker<'_, '_>, expr: &Expr) -> bool {
    let mut expr = expr;
    for _ in 0..100 {
        match expr {
            Expr::List(_) | Expr::Tuple(_) => return true,
            Expr::BinOp(operation) => expr = &operation.left,
            Expr::Name(name) => match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost()) {
                Some((_, super::scopes::Binding::Value(value))) => expr = value,
                _ => return false,
            },
            _ => return false,
        }
    }
    false
}

/// The words of a list, as far as they are known.
fn words<'a>(walker: &Walker<'_, 'a>, list: &'a Expr) -> Vec<Word> {
    let mut out = Vec::new();
    let mut terms = Vec::new();
    let mut rest = walker.evaluator().resolved(list);
    for _ in 0..100 {
        let Expr::BinOp(ast::ExprBinOp { left, op: Operator::Add, right, .. }) = rest else { break };
        terms.push(&**right);
        rest = walker.evaluator().resolved(left);
    }
    terms.push(rest);
    for term in terms.into_iter().rev() {
        let (Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. })) =
            walker.evaluator().resolved(term)
        else {
            break;
        };
        for item in elts.iter().take(64) {
            if item.is_starred_expr() {
                return out;
            }
            out.push(word(walker, item));
        }
    }
    out
}

/// What stands in a command is no path that is merely mentioned.
fn take_words<'a>(walker: &mut Walker<'_, 'a>, list: &'a Expr) {
    if let Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) = list {
        elts.iter().for_each(|word| walker.take(word));
    }
}

fn word<'a>(walker: &Walker<'_, 'a>, expr: &'a Expr) -> Word {
    // `shutil.which("python")` is the one on the search path.
    if let Expr::Call(call) = expr
        && walker.qualified(&call.func).as_deref() == Some("shutil.which")
    {
        return call.arguments.args.first().map_or(Word::Unknown, |name| word(walker, name));
    }
    match walker.evaluator().value_of(expr) {
        Some(Value::Text(text)) => Word::Text(text),
        Some(Value::Place(place)) => Word::Place(place),
        Some(Value::Python) => Word::Python,
        None => Word::Unknown,
    }
}

/// The commands of a line for a shell, whose end may be unknown.
fn lines<'a>(walker: &Walker<'_, 'a>, line: &'a Expr) -> Vec<Vec<Word>> {
    /// Stands for `sys.executable` while the line is split.
    const PYTHON: &str = "python";
    let mut text = String::new();
    let mut places: Vec<(String, Place)> = Vec::new();
    for piece in walker.evaluator().pieces_of(line) {
        match piece {
            Piece::Text(more) => text.push_str(&more),
            Piece::Python => text.push_str(PYTHON),
            Piece::Place(place) => {
                let mark = format!("\u{1}{}\u{1}", places.len());
                text.push_str(&mark);
                places.push((mark, place));
            }
            // A variable, as far as the shell is concerned.
            Piece::Hole | Piece::OwnPackage => text.push('$'),
        }
    }
    let mut found = commands(&text);
    for word in found.iter_mut().flatten() {
        let Word::Text(text) = word else { continue };
        let Some((mark, place)) = places.iter().find(|(mark, _)| text.starts_with(mark.as_str())) else { continue };
        let mut place = place.clone();
        let rest = text.strip_prefix(mark.as_str()).unwrap_or_default();
        *word = match place.append_text(rest, walker.target.os_name == "nt") {
            Some(()) => Word::Place(place),
            None => Word::Unknown,
        };
    }
    found
}

/// Notes what a command runs in the working folder.
pub(super) fn note(walker: &mut Walker<'_, '_>, range: TextRange, runs: Runs) {
    match runs {
        Runs::Module(module) => dynamic::run_module(walker, &range, &module),
        Runs::Script(place) => walker.name_place(range, &place, FileUse::Process),
        Runs::Code(text) => walker.code(range.start(), &text),
    }
}

/// Notes what a command runs in another folder, or in one that is not known.
fn note_in(walker: &mut Walker<'_, '_>, range: TextRange, runs: Runs, folder: Option<Place>) {
    match (runs, folder) {
        (Runs::Script(place), _) if place.base != Base::Working => note(walker, range, Runs::Script(place)),
        (Runs::Script(place), Some(mut folder)) => {
            folder.join(&place, walker.target.os_name == "nt");
            note(walker, range, Runs::Script(folder));
        }
        (Runs::Script(_), None) => {}
        (module, _) => note(walker, range, module),
    }
}
