//! Calls: who is asked about which.

use std::borrow::Cow;

use ruff_python_ast::{self as ast, Expr};

use super::scopes::Binding;
use super::walk::Walker;
use super::{commands, dynamic, escapes, files, inner_code, listings, search_path};

/// Asks about a call; true where it may compute a path, which nobody has taken yet.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) -> bool {
    let last = match call.func.as_ref() {
        Expr::Attribute(attribute) => Cow::Borrowed(attribute.attr.as_str()),
        Expr::Name(name) => match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost()) {
            None => Cow::Borrowed(name.id.as_str()),
            Some((_, Binding::Import(module))) => Cow::Owned(last_of(module).to_owned()),
            Some((_, Binding::Value(_))) => match walker.qualified(&call.func) {
                Some(name) => Cow::Owned(last_of(&name).to_owned()),
                None => return false,
            },
            Some(_) => return false,
        },
        _ => return false,
    };
    let last = last.as_ref();
    if last == "startswith" && is_given_underscore(call) {
        walker.tells_private = true;
    }
    let _ = dynamic::call(walker, call, last)
        || commands::call(walker, call, last)
        || search_path::call(walker, call, last)
        || inner_code::call(walker, call, last)
        || escapes::call(walker, call, last)
        || listings::call(walker, call, last)
        || files::call(walker, call, last);
    // Texts are joined too.
    let joins = || walker.qualified(&call.func).is_some_and(|name| name.ends_with("path.join"));
    computes_path(last) && (last != "join" || joins())
}

/// Whether a method is given what names begin with that are nobody else's.
fn is_given_underscore(call: &ast::ExprCall) -> bool {
    matches!(call.arguments.args.first(), Some(Expr::StringLiteral(text)) if text.value.to_str() == "_")
}

fn last_of(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}

/// Whether a function of that name, by whatever module, makes a path worth a mention.
fn computes_path(last: &str) -> bool {
    matches!(
        last,
        "Path"
            | "PurePath"
            | "PosixPath"
            | "PurePosixPath"
            | "WindowsPath"
            | "PureWindowsPath"
            | "join"
            | "joinpath"
            | "with_name"
            | "with_suffix"
            | "with_stem"
            | "resolve"
            | "absolute"
            | "abspath"
            | "realpath"
            | "normpath"
            | "as_file"
            | "read_text"
            | "read_binary"
            | "open_text"
            | "open_binary"
            | "path"
            | "get_data"
            | "resource_filename"
            | "resource_string"
            | "resource_stream"
    )
}

/// Whether a context manager lets errors pass: `contextlib.suppress(ImportError)`.
pub(super) fn is_suppress(walker: &Walker<'_, '_>, context: &Expr) -> bool {
    match context {
        Expr::Call(call) => walker.qualified(&call.func).as_deref() == Some("contextlib.suppress"),
        _ => false,
    }
}

impl Walker<'_, '_> {
    /// The dotted name that an expression stands for here.
    pub(super) fn qualified(&self, expr: &Expr) -> Option<String> {
        self.scopes.qualified(expr, self.scopes.innermost())
    }
}
