//! Names and lookups that have one of several known values: loops over literals, dictionaries of literals, choices.
//!
//! An expression with such names in it is evaluated once for each combination. What was chosen at each place is kept in
//! [`Choices`]; the next evaluation makes the same choices but for the last one that has another value left.

use std::cell::{Cell, RefCell};

use ruff_python_ast::{self as ast, Expr, Operator};
use ruff_text_size::{Ranged, TextRange};

use super::evaluate::{At, Evaluator, Piece, Value, argument, small_number};
use super::scopes::{Binding, Each};

/// Values of one expression.
const MAX_VALUES: usize = 256;
/// Places with several values in one expression: with more not all combinations could be looked at anyway.
const MAX_PLACES: usize = 16;
/// Combinations that are looked at in one source beyond the first of each expression.
const MAX_COMBINATIONS: usize = 50_000;
/// Lists within lists.
const MAX_DEPTH: u32 = 8;
/// Items that are looked at in one source, which bounds long lists that are used over and over.
const MAX_ITEMS: usize = 400_000;

/// What is chosen at the places that have several values.
#[derive(Debug, Default)]
pub(super) struct Choices {
    is_active: Cell<bool>,
    made: RefCell<Vec<Choice>>,
    looked_at: Cell<usize>,
    combinations: Cell<usize>,
}

#[derive(Debug)]
struct Choice {
    at: TextRange,
    number: usize,
    count: usize,
}

impl Choices {
    /// Evaluates once for each combination, and gives the different results in their order.
    pub(super) fn each<T: PartialEq>(&self, mut evaluate: impl FnMut() -> T) -> Vec<T> {
        // Within another one the choices are its own.
        if self.is_active.replace(true) {
            return vec![evaluate()];
        }
        let mut out = Vec::new();
        for _ in 0..MAX_VALUES {
            let value = evaluate();
            if !out.contains(&value) {
                out.push(value);
            }
            let combinations = self.combinations.get();
            if !self.next() || combinations >= MAX_COMBINATIONS {
                break;
            }
            self.combinations.set(combinations + 1);
        }
        self.made.borrow_mut().clear();
        self.is_active.set(false);
        out
    }

    /// Which of so many values the place has now; `None` where it has several, and one is asked for.
    pub(super) fn choose(&self, at: TextRange, count: usize) -> Option<usize> {
        if count <= 1 || !self.is_active.get() {
            return (count == 1).then_some(0);
        }
        let mut made = self.made.borrow_mut();
        if let Some(choice) = made.iter().find(|choice| choice.at == at) {
            return (choice.number < count).then_some(choice.number);
        }
        if made.len() >= MAX_PLACES {
            return None;
        }
        made.push(Choice { at, number: 0, count });
        Some(0)
    }

    /// Goes on to the next combination, if there is one.
    fn next(&self) -> bool {
        let mut made = self.made.borrow_mut();
        while let Some(last) = made.last_mut() {
            last.number += 1;
            if last.number < last.count {
                return true;
            }
            made.pop();
        }
        false
    }

    fn may_look(&self, count: usize) -> bool {
        let looked_at = self.looked_at.get().saturating_add(count);
        self.looked_at.set(looked_at);
        looked_at <= MAX_ITEMS
    }
}

/// Something in a list.
#[derive(Debug, Clone)]
pub(super) enum Item<'a> {
    /// An expression, and the scope that it is seen from.
    One(&'a Expr, usize),
    /// Several things at once, as `enumerate`, `zip` and `items` give them.
    Several(Vec<Item<'a>>),
    /// Text that is no expression of its own.
    Text(String),
    /// What is not known.
    Unknown,
}

impl<'a> Evaluator<'_, 'a> {
    /// Pushes what a loop's variable is.
    pub(super) fn push_each(&self, each: &[Each<'a>], at: At, out: &mut Vec<Piece>) {
        let item = self.item_of(each, at);
        self.push_item(item, at, out);
    }

    fn push_item(&self, item: Option<Item<'a>>, at: At, out: &mut Vec<Piece>) {
        match item {
            Some(Item::One(expr, scope)) => self.push_pieces(expr, At { scope, ..at }, out),
            Some(Item::Text(text)) => out.push(Piece::Text(text)),
            Some(Item::Several(_) | Item::Unknown) | None => out.push(Piece::Hole),
        }
    }

    /// The item that is chosen for a loop's variable.
    fn item_of(&self, each: &[Each<'a>], at: At) -> Option<Item<'a>> {
        let mut items = Vec::new();
        for each in each {
            let own = self.items(each.over, at, 0);
            items.extend(own.into_iter().map(|item| (item, &each.part)));
        }
        let number = self.choices.choose(each.first()?.over.range(), items.len())?;
        let (mut item, part) = items.into_iter().nth(number)?;
        for at_part in part {
            item = self.part_of(item, *at_part, at)?;
        }
        Some(item)
    }

    fn part_of(&self, item: Item<'a>, number: usize, at: At) -> Option<Item<'a>> {
        match item {
            Item::Several(items) => items.into_iter().nth(number),
            Item::One(expr, scope) => match self.followed(expr, At { scope, ..at }) {
                (Expr::Tuple(ast::ExprTuple { elts, .. }) | Expr::List(ast::ExprList { elts, .. }), at) => {
                    elts.get(number).map(|part| Item::One(part, at.scope))
                }
                _ => None,
            },
            Item::Text(_) | Item::Unknown => None,
        }
    }

    /// What a name that is bound once stands for.
    pub(super) fn followed(&self, expr: &'a Expr, at: At) -> (&'a Expr, At) {
        let (mut expr, mut at) = (expr, at);
        for _ in 0..MAX_DEPTH {
            let Expr::Name(name) = expr else { break };
            match self.scopes.lookup(name.id.as_str(), at.scope) {
                Some((scope, Binding::Value(value))) => (at.scope, expr) = (scope, value),
                _ => break,
            }
        }
        (expr, at)
    }

    /// What is in a list, a dictionary or a call that gives one; nothing where that is not known.
    pub(super) fn items(&self, list: &'a Expr, at: At, depth: u32) -> Vec<Item<'a>> {
        if depth >= MAX_DEPTH || !self.may_step() {
            return Vec::new();
        }
        let (list, at) = self.followed(list, at);
        let items = match list {
            Expr::List(ast::ExprList { elts, .. })
            | Expr::Tuple(ast::ExprTuple { elts, .. })
            | Expr::Set(ast::ExprSet { elts, .. }) => {
                let mut items = Vec::new();
                for item in elts.iter().take(MAX_VALUES) {
                    match item {
                        Expr::Starred(starred) => items.extend(self.items(&starred.value, at, depth + 1)),
                        item => items.push(Item::One(item, at.scope)),
                    }
                }
                items
            }
            Expr::Dict(dict) => self.pairs(dict, at, depth).into_iter().map(|(key, _)| key).collect(),
            Expr::BinOp(ast::ExprBinOp { left, op: Operator::Add, right, .. }) => {
                let mut items = self.items(left, at, depth + 1);
                items.extend(self.items(right, at, depth + 1));
                items
            }
            Expr::If(choice) => {
                let mut items = self.items(&choice.body, at, depth + 1);
                items.extend(self.items(&choice.orelse, at, depth + 1));
                items
            }
            Expr::Call(call) => self.items_of_call(call, at, depth),
            Expr::Subscript(subscript) => match self.picked(&subscript.value, &subscript.slice, at, depth) {
                Some(picked) => self.items_in(picked, subscript.range(), at, depth),
                None => Vec::new(),
            },
            // A list out of a list of lists.
            Expr::Name(name) => match self.scopes.lookup(name.id.as_str(), at.scope) {
                Some((scope, Binding::Each(each))) => {
                    let at = At { scope, ..at }.deeper();
                    match if at.is_allowed() { self.item_of(each, at) } else { None } {
                        Some(Item::One(inner, scope)) => self.items(inner, At { scope, ..at }, depth + 1),
                        Some(Item::Several(items)) => items,
                        _ => Vec::new(),
                    }
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        };
        if self.choices.may_look(items.len()) { items } else { Vec::new() }
    }

    fn items_in(&self, picked: Vec<Item<'a>>, range: TextRange, at: At, depth: u32) -> Vec<Item<'a>> {
        let number = self.choices.choose(range, picked.len());
        match number.and_then(|number| picked.into_iter().nth(number)) {
            Some(Item::One(inner, scope)) => self.items(inner, At { scope, ..at }, depth + 1),
            Some(Item::Several(items)) => items,
            _ => Vec::new(),
        }
    }

    fn items_of_call(&self, call: &'a ast::ExprCall, at: At, depth: u32) -> Vec<Item<'a>> {
        let first = call.arguments.args.first();
        if let Expr::Attribute(method) = call.func.as_ref() {
            return match (method.attr.as_str(), self.followed(&method.value, at)) {
                ("keys", (dict, at)) => self.items(dict, at, depth + 1),
                ("values", (Expr::Dict(dict), at)) => {
                    self.pairs(dict, at, depth).into_iter().map(|(_, value)| value).collect()
                }
                ("items", (Expr::Dict(dict), at)) => self
                    .pairs(dict, at, depth)
                    .into_iter()
                    .map(|(key, value)| Item::Several(vec![key, value]))
                    .collect(),
                ("split", (Expr::StringLiteral(text), _)) => {
                    let text = text.value.to_str();
                    let words: Vec<&str> = match first {
                        None => text.split_whitespace().collect(),
                        Some(Expr::StringLiteral(by)) if !by.value.is_empty() => {
                            text.split(by.value.to_str()).collect()
                        }
                        Some(_) => Vec::new(),
                    };
                    words.into_iter().take(MAX_VALUES).map(|word| Item::Text(word.to_owned())).collect()
                }
                _ => Vec::new(),
            };
        }
        let Some(first) = first else { return Vec::new() };
        let name = self.qualified(&call.func, at).unwrap_or_default();
        match name.rsplit('.').next().unwrap_or_default() {
            "sorted" | "list" | "tuple" | "set" | "frozenset" | "reversed" | "iter" | "tqdm" | "dict" | "track" => {
                self.items(first, at, depth + 1)
            }
            "enumerate" => {
                let items = self.items(first, at, depth + 1).into_iter();
                items.map(|item| Item::Several(vec![Item::Unknown, item])).collect()
            }
            "zip" => {
                let mut columns: Vec<_> = call
                    .arguments
                    .args
                    .iter()
                    .take(8)
                    .map(|list| self.items(list, at, depth + 1).into_iter())
                    .collect();
                let mut rows = Vec::new();
                loop {
                    let row: Vec<_> = columns.iter_mut().map(Iterator::next).collect();
                    if row.iter().all(Option::is_none) {
                        return rows;
                    }
                    rows.push(Item::Several(row.into_iter().map(|item| item.unwrap_or(Item::Unknown)).collect()));
                }
            }
            "range" if name == "builtins.range" => {
                let numbers: Option<Vec<u8>> = call.arguments.args.iter().map(small_number).collect();
                match numbers.as_deref() {
                    Some([end]) => (0..*end).map(|number| Item::Text(number.to_string())).collect(),
                    Some([start, end]) => (*start..*end).map(|number| Item::Text(number.to_string())).collect(),
                    _ => Vec::new(),
                }
            }
            _ => Vec::new(),
        }
    }

    fn pairs(&self, dict: &'a ast::ExprDict, at: At, depth: u32) -> Vec<(Item<'a>, Item<'a>)> {
        let mut pairs = Vec::new();
        for item in dict.items.iter().take(MAX_VALUES) {
            match &item.key {
                Some(key) => pairs.push((Item::One(key, at.scope), Item::One(&item.value, at.scope))),
                None if depth < MAX_DEPTH && self.may_step() => {
                    if let (Expr::Dict(inner), at) = self.followed(&item.value, at) {
                        pairs.extend(self.pairs(inner, at, depth + 1));
                    }
                }
                None => {}
            }
        }
        pairs
    }

    /// What `value[index]` may be; `None` where nothing is known of it.
    fn picked(&self, value: &'a Expr, index: &'a Expr, at: At, depth: u32) -> Option<Vec<Item<'a>>> {
        if depth >= MAX_DEPTH {
            return None;
        }
        let (value, inner) = self.followed(value, at);
        let found = match value {
            Expr::Dict(dict) => {
                let pairs = self.pairs(dict, inner, depth);
                let key = match self.value(index, at.deeper()) {
                    Some(Value::Text(key)) => Some(key),
                    _ => None,
                };
                let is_it = |item: &Item<'a>| match (item, &key) {
                    (Item::One(Expr::StringLiteral(literal), _), Some(key)) => literal.value.to_str() == key.as_str(),
                    _ => false,
                };
                match pairs.iter().rev().find(|(item, _)| is_it(item)) {
                    Some((_, value)) => vec![value.clone()],
                    None if key.is_some() && pairs.iter().all(|(item, _)| is_text(item)) => return None,
                    None => pairs.into_iter().map(|(_, value)| value).collect(),
                }
            }
            Expr::List(ast::ExprList { elts, .. }) | Expr::Tuple(ast::ExprTuple { elts, .. })
                if !index.is_slice_expr() =>
            {
                let item = |item| Item::One(item, inner.scope);
                match small_number(index) {
                    Some(number) => vec![item(elts.get(usize::from(number))?)],
                    None => elts.iter().take(MAX_VALUES).map(item).collect(),
                }
            }
            Expr::Subscript(outer) => {
                let picked = self.picked(&outer.value, &outer.slice, inner, depth + 1)?;
                let number = self.choices.choose(outer.range(), picked.len())?;
                match picked.into_iter().nth(number)? {
                    Item::One(value, scope) => self.picked(value, index, At { scope, ..at }, depth + 1)?,
                    _ => return None,
                }
            }
            _ => return None,
        };
        self.choices.may_look(found.len()).then_some(found)
    }

    /// Pushes what is looked up in a literal; false where nothing is known of it.
    pub(super) fn push_picked(
        &self,
        value: &'a Expr,
        index: &'a Expr,
        range: TextRange,
        at: At,
        out: &mut Vec<Piece>,
    ) -> bool {
        let Some(picked) = self.picked(value, index, at, 0) else { return false };
        let number = self.choices.choose(range, picked.len());
        self.push_item(number.and_then(|number| picked.into_iter().nth(number)), at, out);
        true
    }

    /// Pushes one of several expressions: the branches of `a if x else b`, what stands around `or`.
    pub(super) fn push_one_of(&self, choices: &[&'a Expr], range: TextRange, at: At, out: &mut Vec<Piece>) {
        match self.choices.choose(range, choices.len()).and_then(|number| choices.get(number).copied()) {
            Some(chosen) => self.push_pieces(chosen, at, out),
            None => out.push(Piece::Hole),
        }
    }

    /// `os.environ.get("NAME", default)` and `MODULES.get(key, default)`; false where it is none of these.
    pub(super) fn push_lookup(&self, call: &'a ast::ExprCall, at: At, out: &mut Vec<Piece>) -> bool {
        let is_get = match call.func.as_ref() {
            Expr::Attribute(method) => matches!(method.attr.as_str(), "get" | "getenv" | "setdefault"),
            Expr::Name(_) => true,
            _ => false,
        };
        if !is_get {
            return false;
        }
        let default = argument(call, 1, &["default"]);
        if matches!(
            self.qualified(&call.func, at).as_deref(),
            Some("os.environ.get" | "os.getenv" | "os.environ.setdefault")
        ) {
            match default {
                Some(default) => self.push_pieces(default, at, out),
                None => out.push(Piece::Hole),
            }
            return true;
        }
        match (call.func.as_ref(), call.arguments.args.first()) {
            (Expr::Attribute(method), Some(key)) if method.attr.as_str() == "get" => {
                self.push_picked(&method.value, key, call.range(), at, out)
            }
            _ => false,
        }
    }
}

fn is_text(item: &Item<'_>) -> bool {
    matches!(item, Item::One(Expr::StringLiteral(_), _))
}
