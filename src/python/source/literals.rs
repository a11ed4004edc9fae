//! What strings in the code may name, whoever is given them: modules by their dotted names, and files by their paths.

use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_text_size::Ranged;

use super::How;
use super::evaluate::is_dotted;
use super::place::has_extension;
use super::readers::is_writer;
use super::walk::Walker;

/// A longer string names no module.
const MAX_NAME: usize = 200;
/// Names of modules that are taken from one source.
const MAX_NAMES: usize = 2000;
/// Items of a list that is an argument.
const MAX_ITEMS: usize = 64;

/// Notes a string that may name a module: `pkg.mod`, `pkg.mod.Class`, `pkg.mod:Class`.
pub(super) fn string(walker: &mut Walker<'_, '_>, literal: &ast::ExprStringLiteral) {
    let text = literal.value.to_str();
    if text.len() > MAX_NAME || !text.contains('.') || walker.is_taken(literal.range()) {
        return;
    }
    let module = match text.split_once(':') {
        Some((module, object)) if is_dotted(object) => module,
        Some(_) => return,
        None => text,
    };
    if module.contains('.') && is_dotted(module) && !is_file_name(text) && walker.may_name_more() {
        walker.import(literal.start(), 0, module, None, How::Literal);
    }
}

impl Walker<'_, '_> {
    /// Counts a string that may name a module; false where there were enough.
    pub(super) fn may_name_more(&mut self) -> bool {
        self.literals = self.literals.saturating_add(1);
        self.literals <= MAX_NAMES
    }
}

/// Whether a name of two parts is a file's rather than a module's.
fn is_file_name(text: &str) -> bool {
    let Some((stem, extension)) = text.split_once('.') else { return false };
    !stem.is_empty()
        && matches!(
            extension,
            "csv"
                | "json"
                | "txt"
                | "yaml"
                | "yml"
                | "toml"
                | "ini"
                | "cfg"
                | "py"
                | "ipynb"
                | "parquet"
                | "pkl"
                | "npy"
                | "npz"
                | "h5"
                | "db"
                | "png"
                | "pdf"
                | "html"
                | "md"
                | "log"
                | "xlsx"
                | "xml"
                | "zip"
                | "gz"
                | "bin"
                | "so"
                | "pt"
        )
}

/// Whether a statement is nothing but a string: a description.
pub(super) fn is_description(stmt: &Stmt) -> bool {
    matches!(stmt, Stmt::Expr(ast::StmtExpr { value, .. }) if value.is_string_literal_expr())
}

/// Takes the names in `__all__` out of what may name modules.
pub(super) fn take_exports<'a>(walker: &mut Walker<'_, 'a>, stmt: &'a Stmt) {
    let (targets, value) = match stmt {
        Stmt::Assign(assign) => (assign.targets.as_slice(), &assign.value),
        Stmt::AugAssign(assign) => (std::slice::from_ref(&*assign.target), &assign.value),
        _ => return,
    };
    let is_all = |target: &Expr| matches!(target, Expr::Name(name) if name.id.as_str() == "__all__");
    if targets.iter().any(is_all)
        && let Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) = &**value
    {
        elts.iter().for_each(|name| walker.take(name));
    }
}

/// Notes paths that are given to a function which may read them.
pub(super) fn arguments<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let arguments = &call.arguments;
    if arguments.is_empty() {
        return;
    }
    let last = match call.func.as_ref() {
        Expr::Attribute(attribute) => attribute.attr.as_str(),
        Expr::Name(name) => name.id.as_str(),
        _ => return,
    };
    if is_logger(last) && last.starts_with("get") {
        arguments.args.iter().for_each(|argument| walker.take(argument));
    }
    if matches!(last, "copy" | "copy2" | "copyfile" | "copytree" | "move")
        && walker.qualified(&call.func).is_some_and(|name| name.starts_with("shutil."))
        && let Some(written) = super::evaluate::argument(call, 1, &["dst"])
    {
        walker.write(written);
    }
    if !may_read(last) || is_of_text(walker, call) {
        return;
    }
    for argument in arguments.args.iter().chain(arguments.keywords.iter().map(|keyword| &keyword.value)) {
        match argument {
            Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }) => {
                elts.iter().take(MAX_ITEMS).for_each(|item| self::argument(walker, item));
            }
            argument => self::argument(walker, argument),
        }
    }
}

fn argument<'a>(walker: &mut Walker<'_, 'a>, argument: &'a Expr) {
    let is_candidate = match argument {
        Expr::StringLiteral(literal) => is_path(literal.value.to_str()),
        Expr::FString(_) | Expr::Name(_) | Expr::Subscript(_) | Expr::If(_) | Expr::BoolOp(_) => true,
        Expr::BinOp(operation) => operation.op != ast::Operator::Div,
        // Those that compute paths name them themselves.
        Expr::Call(call) => match call.func.as_ref() {
            Expr::Attribute(method) => matches!(method.attr.as_str(), "get" | "getenv" | "format"),
            Expr::Name(name) => name.id.as_str() == "getenv",
            _ => false,
        },
        _ => false,
    };
    if !is_candidate || walker.is_taken(argument.range()) {
        return;
    }
    for place in walker.evaluator().paths(argument) {
        if is_path(&place.rest) && place.package.is_none() {
            walker.mention_weakly(argument, &place);
        }
    }
}

/// Whether a text looks like the path of a file.
fn is_path(text: &str) -> bool {
    let has_shape = has_extension(text) || text.trim_matches('/').contains('/');
    has_shape && text.len() <= 1000 && !text.contains(['\n', '*', '?', '<', '>', '|']) && !text.contains("://")
}

fn is_logger(last: &str) -> bool {
    matches!(
        last,
        "getLogger" | "get_logger" | "debug" | "info" | "warning" | "warn" | "error" | "exception" | "critical" | "log"
    )
}

/// Whether a function of that name may read what it is given. Writers and what prints, compares and splits do not.
fn may_read(last: &str) -> bool {
    let is_error = ["Error", "Exception", "Warning"].iter().any(|kind| last.ends_with(kind));
    let writes = ["to_", "write", "save", "dump", "export", "sink_", "print"];
    let is_other = matches!(
        last,
        "rename"
            | "replace"
            | "renames"
            | "move"
            | "rmtree"
            | "removedirs"
            | "symlink_to"
            | "hardlink_to"
            | "exists"
            | "isfile"
            | "isdir"
            | "is_file"
            | "is_dir"
            | "startswith"
            | "endswith"
            | "split"
            | "rsplit"
            | "partition"
            | "rpartition"
            | "strip"
            | "lstrip"
            | "rstrip"
            | "removeprefix"
            | "removesuffix"
            | "find"
            | "rfind"
            | "index"
            | "count"
            | "strftime"
            | "strptime"
            | "fnmatch"
            | "match"
            | "fullmatch"
            | "sub"
            | "glob"
            | "rglob"
            | "iglob"
            | "setattr"
            | "getattr"
            | "hasattr"
            | "isinstance"
            | "input"
            | "join"
            | "joinpath"
            | "Path"
            | "system"
            | "popen"
            | "getoutput"
            | "magic"
            | "run_line_magic"
            | "run_cell_magic"
            | "loads"
            | "files"
            | "with_name"
            | "with_suffix"
            | "with_stem"
            | "relative_to"
            | "is_relative_to"
            | "import_module"
            | "__import__"
            | "PurePath"
            | "abspath"
            | "realpath"
            | "dirname"
            | "basename"
            | "splitext"
            | "normpath"
            | "relpath"
            | "len"
            | "str"
            | "repr"
            | "add_option"
            | "exit"
    );
    !is_error && !is_other && !is_logger(last) && !is_writer(last) && !writes.iter().any(|kind| last.starts_with(kind))
}

/// Whether a function is one that knows nothing of files.
fn is_of_text(walker: &Walker<'_, '_>, call: &ast::ExprCall) -> bool {
    let root = walker.qualified(&call.func).unwrap_or_default();
    let root = root.split('.').next().unwrap_or_default();
    matches!(
        root,
        "os" | "importlib"
            | "importlib_resources"
            | "pkgutil"
            | "pkg_resources"
            | "re"
            | "regex"
            | "fnmatch"
            | "logging"
            | "warnings"
            | "datetime"
            | "time"
            | "subprocess"
    )
}
