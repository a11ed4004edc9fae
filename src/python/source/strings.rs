//! The pieces of strings: f-strings, sums, `%` and `.format`.

use ruff_python_ast::{self as ast, Expr, Operator};

use super::evaluate::{At, Evaluator, MAX_STEPS, Piece, Value};

/// A longer string is no path.
pub(super) const MAX_TEXT: usize = 8192;

impl<'a> Evaluator<'_, 'a> {
    pub(super) fn push_elements(&self, elements: &'a ast::InterpolatedStringElements, at: At, out: &mut Vec<Piece>) {
        for element in elements {
            match element {
                ast::InterpolatedStringElement::Literal(literal) => push_text(out, &literal.value),
                ast::InterpolatedStringElement::Interpolation(field)
                    if field.format_spec.is_none()
                        && field.debug_text.is_none()
                        && matches!(field.conversion, ast::ConversionFlag::None | ast::ConversionFlag::Str) =>
                {
                    self.push_pieces(&field.expression, at, out);
                }
                ast::InterpolatedStringElement::Interpolation(_) => out.push(Piece::Hole),
            }
        }
    }

    /// `a + b + c` leans to the left: it is taken apart by a loop.
    pub(super) fn push_sum(&self, operation: &'a ast::ExprBinOp, at: At, out: &mut Vec<Piece>) {
        let mut terms = vec![operation.right.as_ref()];
        let mut left = operation.left.as_ref();
        while let Expr::BinOp(ast::ExprBinOp { left: more, op: Operator::Add, right, .. }) = left {
            terms.push(right);
            left = more;
            if terms.len() > usize::try_from(MAX_STEPS).unwrap_or(usize::MAX) {
                return out.push(Piece::Hole);
            }
        }
        terms.push(left);
        for term in terms.into_iter().rev() {
            self.push_pieces(term, at, out);
        }
    }

    /// `"%s/x" % folder`.
    pub(super) fn push_percent(&self, operation: &'a ast::ExprBinOp, at: At, out: &mut Vec<Piece>) {
        let Some(Value::Text(format)) = self.value(&operation.left, at) else { return out.push(Piece::Hole) };
        let mut values = match operation.right.as_ref() {
            Expr::Tuple(tuple) => tuple.elts.iter().collect::<Vec<_>>(),
            other => vec![other],
        }
        .into_iter();
        let mut rest = format.as_str();
        while let Some((text, after)) = rest.split_once('%') {
            push_text(out, text);
            rest = match (after.chars().next(), after.get(1..)) {
                (Some('%'), Some(after)) => {
                    push_text(out, "%");
                    after
                }
                (Some('s'), Some(after)) => {
                    match values.next() {
                        Some(value) => self.push_pieces(value, at, out),
                        None => out.push(Piece::Hole),
                    }
                    after
                }
                // Widths, keys and numbers: what follows is not known either.
                _ => return out.push(Piece::Hole),
            };
        }
        push_text(out, rest);
    }

    /// `"{}/x".format(folder)`; false where it is no such call.
    pub(super) fn format_call(&self, call: &'a ast::ExprCall, at: At, out: &mut Vec<Piece>) -> bool {
        let Expr::Attribute(attribute) = call.func.as_ref() else { return false };
        if attribute.attr.as_str() != "format" {
            return false;
        }
        let Some(Value::Text(format)) = self.value(&attribute.value, at) else { return false };
        let mut values = call.arguments.args.iter();
        let mut rest = format.as_str();
        while let Some(place) = rest.find(['{', '}']) {
            let (text, after) = rest.split_at_checked(place).unwrap_or((rest, ""));
            push_text(out, text);
            if let Some(after) = after.strip_prefix("{{") {
                push_text(out, "{");
                rest = after;
            } else if let Some(after) = after.strip_prefix("}}") {
                push_text(out, "}");
                rest = after;
            } else {
                let Some((field, after)) = after.strip_prefix('{').and_then(|field| field.split_once('}')) else {
                    out.push(Piece::Hole);
                    return true;
                };
                let value = match (field, field.parse::<usize>()) {
                    ("", _) => values.next(),
                    (_, Ok(number)) => call.arguments.args.get(number),
                    _ => call.arguments.find_keyword(field).map(|keyword| &keyword.value),
                };
                match value.filter(|value| !value.is_starred_expr()) {
                    Some(value) => self.push_pieces(value, at, out),
                    None => out.push(Piece::Hole),
                }
                rest = after;
            }
        }
        push_text(out, rest);
        true
    }
}

/// Appends text to the pieces.
pub(super) fn push_text(out: &mut Vec<Piece>, text: &str) {
    if text.len() > MAX_TEXT {
        return out.push(Piece::Hole);
    }
    match out.last_mut() {
        Some(Piece::Text(last)) if last.len() <= MAX_TEXT => last.push_str(text),
        Some(Piece::Text(_)) => out.push(Piece::Hole),
        _ => out.push(Piece::Text(text.to_owned())),
    }
}
