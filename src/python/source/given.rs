//! What the functions and classes of a source are given by its own calls.
//!
//! A call may stand behind the function, in another scope: what it gives is noted while the source is walked over, and
//! where a parameter was asked for, the source is walked over once more with all that is known then.

use std::cell::Cell;
use std::collections::HashMap;

use ruff_python_ast::{self as ast, Expr, Stmt};
use ruff_text_size::{Ranged, TextRange};

use super::evaluate::{Piece, Value};
use super::scopes::Binding;
use super::walk::Walker;

/// Values of one parameter.
const MAX_VALUES: usize = 64;
/// Parameters with values.
const MAX_PARAMETERS: usize = 2000;

/// The values of parameters, by where these stand.
#[derive(Debug, Default)]
pub(super) struct Given {
    values: HashMap<TextRange, Vec<Piece>>,
    defaults: HashMap<TextRange, Piece>,
    is_wanted: Cell<bool>,
}

impl Given {
    /// What a parameter is given.
    pub(super) fn of(&self, parameter: TextRange) -> &[Piece] {
        self.is_wanted.set(true);
        self.values.get(&parameter).map_or(&[], Vec::as_slice)
    }

    /// What a parameter is where it is not given.
    pub(super) fn default_of(&self, parameter: TextRange) -> Option<&Piece> {
        self.defaults.get(&parameter)
    }

    /// Whether another walk may find more.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_wanted.get() && !self.values.is_empty()
    }
}

/// Notes what the parameters of a function are where they are not given.
pub(super) fn defaults<'a>(walker: &mut Walker<'_, 'a>, parameters: &'a ast::Parameters) {
    for parameter in parameters.iter_non_variadic_params() {
        let Some(default) = parameter.default.as_deref() else { continue };
        let may_be_text = matches!(
            default,
            Expr::StringLiteral(_)
                | Expr::FString(_)
                | Expr::BinOp(_)
                | Expr::Call(_)
                | Expr::Name(_)
                | Expr::Attribute(_)
        );
        if !may_be_text || walker.given.defaults.len() >= MAX_PARAMETERS {
            continue;
        }
        if let Some(value) = walker.evaluator().value_of(default) {
            walker.given.defaults.insert(parameter.parameter.name.range(), piece(value));
        }
    }
}

fn piece(value: Value) -> Piece {
    match value {
        Value::Text(text) => Piece::Text(text),
        Value::Place(place) => Piece::Place(place),
        Value::Python => Piece::Python,
    }
}

/// Notes what a call gives to a function or a class of the source.
pub(super) fn call<'a>(walker: &mut Walker<'_, 'a>, call: &'a ast::ExprCall) {
    let Expr::Name(name) = call.func.as_ref() else { return };
    let (parameters, bound) = match walker.scopes.lookup(name.id.as_str(), walker.scopes.innermost()) {
        Some((_, Binding::Function(function))) => (&function.parameters, 0),
        // What a class is given its `__init__` gets, behind the instance.
        Some((_, Binding::Class(class))) => {
            let mut methods = class.body.iter().filter_map(Stmt::as_function_def_stmt);
            match methods.find(|method| method.name.as_str() == "__init__") {
                Some(method) => (&method.parameters, 1),
                None => return,
            }
        }
        _ => return,
    };
    let all = parameters.posonlyargs.iter().chain(&parameters.args).skip(bound);
    let by_place = all.zip(call.arguments.args.iter().take_while(|argument| !argument.is_starred_expr()));
    let mut given: Vec<(TextRange, &'a Expr)> =
        by_place.map(|(parameter, argument)| (parameter.parameter.name.range(), argument)).collect();
    for keyword in &call.arguments.keywords {
        let Some(name) = &keyword.arg else { continue };
        let mut named = parameters.args.iter().chain(&parameters.kwonlyargs);
        if let Some(parameter) = named.find(|parameter| parameter.parameter.name.as_str() == name.as_str()) {
            given.push((parameter.parameter.name.range(), &keyword.value));
        }
    }
    for (parameter, argument) in given {
        if walker.given.values.len() >= MAX_PARAMETERS {
            return;
        }
        let values = walker.each(|| walker.evaluator().value_of(argument));
        let known = walker.given.values.entry(parameter).or_default();
        for value in values.into_iter().flatten() {
            let piece = piece(value);
            if known.len() < MAX_VALUES && !known.contains(&piece) {
                known.push(piece);
            }
        }
    }
}
