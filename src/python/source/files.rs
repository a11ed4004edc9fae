//! Calls that read, execute or load a file, and those that write one.

use ruff_python_ast::{self as ast, Expr};
use ruff_text_size::Ranged;

use super::constants::is_constant;
use super::evaluate::argument;
use super::place::{Place, has_extension};
use super::readers::{PATH_KEYWORDS, Reader, is_opener, is_writer, reader, writes};
use super::scopes::Binding;
use super::walk::Walker;
use super::{Base, FileUse};

/// Names the files of a call; false where it is none of these.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    match last {
        "exec"
        | "execfile"
        | "run_path"
        | "spec_from_file_location"
        | "SourceFileLoader"
        | "SourcelessFileLoader"
        | "load_source" => code(walker, call, last),
        "CDLL" | "PyDLL" | "WinDLL" | "OleDLL" | "LoadLibrary" | "load_library" => library(walker, call, last),
        _ if is_writer(last) => written(walker, call),
        _ => return opened(walker, call, last) || read(walker, call, last),
    }
    true
}

/// Whether a place looks like a file that somebody may read.
pub(super) fn is_file(place: &Place) -> bool {
    match place.base {
        Base::Package => !place.rest.is_empty(),
        _ => has_extension(&place.rest),
    }
}

fn code<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) {
    let name = walker.qualified(&call.func).unwrap_or_default();
    let path = match (name.as_str(), last) {
        ("builtins.exec", _) => argument(call, 0, &[]).and_then(|source| opened_in(walker, source, 0)),
        ("builtins.execfile", _) => argument(call, 0, &[]),
        ("runpy.run_path", _) => argument(call, 0, &["path_name"]),
        ("importlib.util.spec_from_file_location", _) => argument(call, 1, &["location"]),
        ("imp.load_source", _) => argument(call, 1, &["pathname"]),
        (name, "SourceFileLoader" | "SourcelessFileLoader") if name.starts_with("importlib.") => {
            argument(call, 1, &["path"])
        }
        _ => None,
    };
    if let Some(path) = path {
        let evaluator = walker.evaluator();
        let places = evaluator.paths(path);
        if !evaluator.is_known(&places, |evaluator| evaluator.paths(path)) {
            walker.load_unknown(call.start());
        }
        walker.name(path, FileUse::Code);
    }
}

/// The path of the file whose text an expression is: `open(p).read()`, `Path(p).read_text()`, `compile(..)` of these, and
/// names for them.
fn opened_in<'a>(walker: &Walker<'_, 'a>, source: &'a Expr, depth: usize) -> Option<&'a Expr> {
    let evaluator = walker.evaluator();
    let Expr::Call(call) = evaluator.resolved(source) else { return None };
    if depth > 4 {
        return None;
    }
    if walker.qualified(&call.func).as_deref() == Some("builtins.compile") {
        return opened_in(walker, argument(call, 0, &["source"])?, depth + 1);
    }
    let Expr::Attribute(attribute) = call.func.as_ref() else { return None };
    match attribute.attr.as_str() {
        "read_text" | "read_bytes" => Some(&attribute.value),
        // What is decoded was read before.
        "decode" | "encode" => opened_in(walker, &attribute.value, depth + 1),
        "read" => {
            let file = match attribute.value.as_ref() {
                Expr::Name(name) => match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost())?.1 {
                    Binding::Opened(file) | Binding::Value(file) => *file,
                    _ => return None,
                },
                other => other,
            };
            let Expr::Call(open) = file else { return None };
            if walker.qualified(&open.func).is_some_and(|name| is_opener(&name)) {
                return argument(open, 0, &["file", "filename"]);
            }
            match open.func.as_ref() {
                Expr::Attribute(method) if method.attr.as_str() == "open" => Some(&method.value),
                _ => None,
            }
        }
        _ => None,
    }
}

fn library<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) {
    let Some(path) = argument(call, 0, &["name", "libname", "path"]) else { return };
    let evaluator = walker.evaluator();
    let name = walker.qualified(&call.func).unwrap_or_default();
    let place = match (last, argument(call, 1, &["loader_path"])) {
        // numpy's: a name, and the folder it is in.
        ("load_library", Some(folder)) if name.starts_with("numpy.") => {
            evaluator.path(folder).and_then(|mut folder| {
                folder.push(&evaluator.text_of(path)?, evaluator.is_windows());
                Some(folder)
            })
        }
        _ => evaluator.path(path),
    };
    // A bare name is searched where the system keeps its libraries.
    let has_separator = evaluator.text_of(path).is_some_and(|text| text.contains('/'));
    let is_bare = |place: &Place| {
        place.base == Base::Working && !place.is_resolved && !place.rest.contains('/') && !has_separator
    };
    let place = place.filter(|place| !is_bare(place) || walker.target.os_name == "nt");
    walker.take(path);
    if let Some(place) = place {
        walker.name_place(path.range(), &place, FileUse::Library);
    }
}

fn written<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    if let Expr::Attribute(method) = call.func.as_ref() {
        walker.write(&method.value);
    }
    for argument in call.arguments.args.iter().chain(call.arguments.keywords.iter().map(|keyword| &keyword.value)) {
        walker.write(argument);
    }
}

/// `open` and its like, and the methods of path objects.
fn opened<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    let is_method = matches!(last, "open" | "read_text" | "read_bytes" | "open_binary" | "iterdir" | "read_lines");
    let is_candidate =
        is_method || matches!(last, "GzipFile" | "BZ2File" | "LZMAFile" | "FileIO" | "TarFile" | "open_code" | "xopen");
    if !is_candidate {
        return false;
    }
    let (path, mode) = match walker.qualified(&call.func) {
        Some(name) if is_opener(&name) => (argument(call, 0, &["file", "filename", "name", "path"]), 1),
        _ => match call.func.as_ref() {
            Expr::Attribute(method) if is_method => {
                let is_object = |place: Place| place.is_object || is_constant(&place.rest);
                let evaluator = walker.evaluator();
                let is_path = evaluator.path(&method.value).is_some_and(is_object)
                    || evaluator.paths_with_holes(&method.value).iter().any(|place| place.is_object);
                (is_path.then_some(&*method.value), 0)
            }
            _ => (None, 0),
        },
    };
    let Some(path) = path else { return false };
    let is_os = walker.qualified(&call.func).as_deref() == Some("os.open");
    let mode = argument(call, mode, &["mode"]).filter(|_| last != "read_text" && !is_os);
    if mode.is_none() && argument(call, 1, &["flags"]).is_some_and(|flags| has_writing_flag(flags, 0)) {
        walker.write(path);
        return true;
    }
    match mode.and_then(|mode| walker.evaluator().text_of(mode)) {
        Some(mode) if writes(&mode) => walker.write(path),
        _ => walker.name(path, FileUse::Data),
    }
    true
}

fn read<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    let Some(reader) = reader(last) else { return false };
    let mut keywords =
        PATH_KEYWORDS.iter().filter_map(|name| call.arguments.find_keyword(name)).map(|keyword| &keyword.value);
    let Some(path) = argument(call, 0, &[]).or_else(|| keywords.next()) else { return true };
    let is_written = call
        .arguments
        .args
        .iter()
        .skip(1)
        .chain(call.arguments.find_keyword("mode").map(|mode| &mode.value))
        .any(|mode| matches!(mode, Expr::StringLiteral(mode) if writes(mode.value.to_str())));
    let paths = match walker.evaluator().resolved(path) {
        Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => elts.as_slice(),
        _ => std::slice::from_ref(path),
    };
    for path in paths {
        if is_written
            && matches!(last, "File" | "HDFStore" | "Dataset" | "ZipFile" | "memmap" | "open_memmap" | "open_file")
        {
            walker.write(path);
            continue;
        }
        let evaluator = walker.evaluator();
        let places = evaluator.paths(path);
        let is_known = evaluator.is_known(&places, |evaluator| evaluator.paths(path));
        let is_likely = |place: &Place| {
            place.base != Base::Working || place.rest.contains(['/', super::MARK]) || has_extension(&place.rest)
        };
        if !is_known {
            walker.name_one_of(path, &FileUse::Data);
        }
        for place in places {
            if is_special(&place.rest) || reader != Reader::Sure && !is_likely(&place) {
                continue;
            }
            walker.take(path);
            walker.name_place(path.range(), &place, FileUse::Data);
        }
    }
    true
}

/// Whether the flags of `os.open` write.
fn has_writing_flag(flags: &Expr, depth: usize) -> bool {
    match flags {
        Expr::Attribute(flag) => matches!(flag.attr.as_str(), "O_WRONLY" | "O_CREAT" | "O_TRUNC" | "O_APPEND"),
        Expr::Name(flag) => matches!(flag.id.as_str(), "O_WRONLY" | "O_CREAT" | "O_TRUNC" | "O_APPEND"),
        Expr::BinOp(flags) if depth < 16 => {
            has_writing_flag(&flags.left, depth + 1) || has_writing_flag(&flags.right, depth + 1)
        }
        _ => false,
    }
}

/// Names that databases take for something else than a file, and text that is no path.
fn is_special(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(':') || rest.starts_with("file:") || rest.starts_with(['{', '[', '<'])
}
