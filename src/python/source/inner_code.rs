//! Code in strings: `exec`, `eval`, `compile`, `timeit`, `python -c`.

use ruff_python_ast as ast;
use ruff_text_size::{Ranged, TextRange, TextSize};

use super::evaluate::argument;
use super::walk::Walker;

/// Strings of code within each other.
const MAX_WITHIN: u8 = 3;
/// Code in the strings of one source.
const MAX_BYTES: usize = 1 << 20;

/// Reads the code that a call is given as text; false where it is no such call, or none is known.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall, last: &str) -> bool {
    if !matches!(last, "exec" | "eval" | "compile" | "timeit" | "repeat" | "Timer") {
        return false;
    }
    let arguments = match walker.qualified(&call.func).as_deref() {
        Some("builtins.exec" | "builtins.eval" | "builtins.compile") => [argument(call, 0, &["source"]), None],
        Some("timeit.timeit" | "timeit.repeat" | "timeit.Timer") => {
            // What is set up goes first.
            [argument(call, 1, &["setup"]), argument(call, 0, &["stmt"])]
        }
        _ => return false,
    };
    let mut is_known = false;
    for expr in arguments.into_iter().flatten() {
        let texts = walker.evaluator().texts_of(expr);
        if !texts.is_empty() {
            is_known = true;
            walker.take(expr);
        }
        for text in texts {
            walker.code(call.start(), &text);
        }
    }
    is_known
}

impl Walker<'_, '_> {
    /// Reads code that stands in a string.
    pub(super) fn code(&mut self, at: TextSize, text: &str) {
        self.inner_bytes = self.inner_bytes.saturating_add(text.len());
        if self.within >= MAX_WITHIN || self.inner_bytes > MAX_BYTES {
            return;
        }
        let inner = super::scan_text(text, self.target, self.within + 1);
        self.take_in(TextRange::empty(at), inner);
    }
}
