//! Texts that are put together: f-strings, sums, `%` and `format`.

use ruff_python_ast::{self as ast, Expr, Operator};

use super::evaluate::{At, Evaluator, MAX_STEPS, Piece, Value, push_text};

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
                    self.push_pieces(&field.expression, at.formatted(true), out);
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
                        Some(value) => self.push_pieces(value, at.formatted(true), out),
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

    /// `".".join([a, b])`; false where it is no such call.
    fn push_joined(&self, by: &str, list: Option<&'a Expr>, at: At, out: &mut Vec<Piece>) -> bool {
        let (elts, at) = match list.map(|list| self.followed(list, at)) {
            Some((Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. }), at)) => (elts, at),
            _ => return false,
        };
        for (number, item) in elts.iter().enumerate() {
            if number > 0 {
                push_text(out, by);
            }
            self.push_pieces(item, at, out);
        }
        true
    }

    /// `"{}/x".format(folder)`; false where it is no such call.
    pub(super) fn format_call(&self, call: &'a ast::ExprCall, at: At, out: &mut Vec<Piece>) -> bool {
        let Expr::Attribute(attribute) = call.func.as_ref() else { return false };
        if !matches!(attribute.attr.as_str(), "format" | "join") {
            return false;
        }
        let Some(Value::Text(format)) = self.value(&attribute.value, at) else { return false };
        if attribute.attr.as_str() == "join" {
            return self.push_joined(&format, call.arguments.args.first(), at, out);
        }
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
                    Some(value) => self.push_pieces(value, at.formatted(true), out),
                    None => out.push(Piece::Hole),
                }
                rest = after;
            }
        }
        push_text(out, rest);
        true
    }
}
