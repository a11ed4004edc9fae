//! Filters and keys on the columns of a block, without putting its runs together.
//!
//! Whatever columns cannot answer exactly as the run itself would (further updates of a run, mappings that replace each
//! other, damage) is left to the run: see [`Bound::is_slow`].

use std::borrow::Cow;

use serde_json::Value;

use super::{Condition, Filter, Key, Operator, Place, Test, compare_values, type_rank};
use crate::segment::{Block, Column, ColumnEntry, Statistics};
use crate::tracked_path::TrackedPath;

/// A filter and some keys, bound to the columns of one block.
pub struct Bound<'b> {
    condition: BoundCondition<'b>,
    keys: Vec<Source<'b>>,
    /// Rows that have a value here are left to the run.
    slow: Vec<&'b Column>,
}

enum BoundCondition<'b> {
    Known(bool),
    AllOf(Vec<BoundCondition<'b>>),
    AnyOf(Vec<BoundCondition<'b>>),
    Not(Box<BoundCondition<'b>>),
    Test(Source<'b>, &'b Test),
}

/// What is done with a value before it is what the key means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Plain,
    /// Null is a missing value.
    NotNull,
    /// An end without a status is null.
    ExitStatus,
    /// Sorted, each once.
    Tags,
    /// As people see paths.
    Path,
    /// The row's id.
    Run,
}

/// Where the values of a key stand in a block.
struct Source<'b> {
    block: &'b Block,
    /// Columns that take precedence first.
    columns: Vec<usize>,
    form: Form,
    read: Vec<&'b Column>,
    ends: Vec<&'b Column>,
}

impl<'b> Bound<'b> {
    /// Binds a filter and keys; `None` where every row is to be left to the run.
    pub fn new(filter: &'b Filter, keys: &[Key], block: &'b Block) -> Option<Self> {
        let mut slow: Vec<&Column> = block.more().into_iter().collect::<Result<_, _>>().ok()?;
        let tests_tags = filter.condition.any_key(&|key| key.is_tags()) || keys.iter().any(Key::is_tags);
        if tests_tags {
            for number in block.columns_at(&["update", "tags"]) {
                slow.push(block.column(number).ok()?);
            }
        }
        let condition = opened(vec![bind(&filter.condition, block)?])?.pop()?;
        let mut sources = Vec::with_capacity(keys.len());
        if !matches!(condition, BoundCondition::Known(false)) {
            for key in keys {
                sources.push(Source::of(key, block)?.open()?);
            }
        }
        Some(Self { condition, keys: sources, slow })
    }

    /// Whether a row is to be left to the run.
    pub fn is_slow(&self, row: usize) -> bool {
        self.slow.iter().any(|column| column.has(row))
    }

    /// Whether no row but those left to the run can fit.
    pub fn is_empty(&self) -> bool {
        matches!(self.condition, BoundCondition::Known(false))
    }

    /// Whether any row is left to the run.
    pub fn has_slow(&self) -> bool {
        !self.slow.is_empty()
    }

    /// Whether the filter holds for a row.
    pub fn holds(&self, row: usize) -> bool {
        self.condition.holds(row)
    }

    /// What a row has under each of the keys.
    pub fn values(&self, row: usize) -> Vec<Option<Cow<'b, Value>>> {
        self.keys.iter().map(|source| source.value(row)).collect()
    }
}

fn bind<'b>(condition: &'b Condition, block: &'b Block) -> Option<BoundCondition<'b>> {
    let all = |parts: &'b [Condition]| parts.iter().map(|part| bind(part, block)).collect::<Option<Vec<_>>>();
    Some(match condition {
        Condition::AllOf(parts) => {
            let mut parts = all(parts)?;
            parts.retain(|part| !matches!(part, BoundCondition::Known(true)));
            match parts.iter().any(|part| matches!(part, BoundCondition::Known(false))) {
                true => BoundCondition::Known(false),
                false if parts.is_empty() => BoundCondition::Known(true),
                false => BoundCondition::AllOf(opened(parts)?),
            }
        }
        Condition::AnyOf(parts) => {
            let mut parts = all(parts)?;
            parts.retain(|part| !matches!(part, BoundCondition::Known(false)));
            match parts.iter().any(|part| matches!(part, BoundCondition::Known(true))) {
                true => BoundCondition::Known(true),
                false if parts.is_empty() => BoundCondition::Known(false),
                false => BoundCondition::AnyOf(opened(parts)?),
            }
        }
        Condition::Not(inner) => match bind(inner, block)? {
            BoundCondition::Known(known) => BoundCondition::Known(!known),
            other => BoundCondition::Not(Box::new(opened(vec![other])?.pop()?)),
        },
        Condition::Test(key, test) => {
            let source = Source::of(key, block)?;
            match source.verdict(test) {
                Some(known) => BoundCondition::Known(known),
                None => BoundCondition::Test(source, test),
            }
        }
    })
}

/// Reads the columns of the tests that are left, which nothing else has decided.
fn opened(parts: Vec<BoundCondition<'_>>) -> Option<Vec<BoundCondition<'_>>> {
    let open = |part| match part {
        BoundCondition::Test(source, test) if source.read.is_empty() => {
            Some(BoundCondition::Test(source.open()?, test))
        }
        other => Some(other),
    };
    parts.into_iter().map(open).collect()
}

impl BoundCondition<'_> {
    fn holds(&self, row: usize) -> bool {
        match self {
            Self::Known(known) => *known,
            Self::AllOf(parts) => parts.iter().all(|part| part.holds(row)),
            Self::AnyOf(parts) => parts.iter().any(|part| part.holds(row)),
            Self::Not(inner) => !inner.holds(row),
            Self::Test(source, test) => test.holds(source.value(row).as_deref()),
        }
    }
}

impl Condition {
    fn any_key(&self, is: &dyn Fn(&Key) -> bool) -> bool {
        match self {
            Self::AllOf(parts) | Self::AnyOf(parts) => parts.iter().any(|part| part.any_key(is)),
            Self::Not(inner) => inner.any_key(is),
            Self::Test(key, _) => is(key),
        }
    }
}

impl Key {
    fn is_tags(&self) -> bool {
        self.place == Place::Field && matches!(self.name.as_str(), "tag" | "tags")
    }
}

impl<'b> Source<'b> {
    /// Finds the columns of a key; `None` where they do not say all.
    fn of(key: &Key, block: &'b Block) -> Option<Self> {
        let new = |columns: Vec<usize>, form| Some(Self { block, columns, form, read: Vec::new(), ends: Vec::new() });
        let at = |path: &[&str]| -> Vec<usize> { block.columns_at(path).collect() };
        let name = key.name.as_str();
        match (key.place, name) {
            (Place::Params, _) => new(in_mapping(block, &["start", "params"], name)?.0, Form::Plain),
            (Place::Metrics, _) => new(metrics(block, name)?, Form::Plain),
            (Place::ParamsOrMetrics, _) => {
                let mut columns = in_mapping(block, &["start", "params"], name)?.0;
                columns.extend(metrics(block, name)?);
                new(columns, Form::Plain)
            }
            (Place::Environment, _) => new(at(&["start", "environment", name]), Form::NotNull),
            (Place::Packs, _) => new(at(&["start", "packs"]), Form::NotNull),
            (Place::FirstTags, _) => new(at(&["start", "tags"]), Form::NotNull),
            (Place::RunFolder, _) => new(at(&["start", "run_folder", "path"]), Form::NotNull),
            (Place::Field, "project") => new(at(&["start", "project", "path"]), Form::NotNull),
            (Place::Field, "entry_point") if !at(&["start", "entry_point", "path_bytes"]).is_empty() => None,
            (Place::Field, "entry_point") => new(at(&["start", "entry_point", "path"]), Form::Path),
            (Place::Field, "exit_status") => new(at(&["end", "exit_status"]), Form::ExitStatus),
            (Place::Field, "tag" | "tags") => new(at(&["start", "tags"]), Form::Tags),
            (Place::Field, "run") => new(Vec::new(), Form::Run),
            (Place::Field, field) => new(at(&["start", field]), Form::NotNull),
        }
    }

    /// Reads the columns; `None` where that cannot be done.
    fn open(mut self) -> Option<Self> {
        self.read = self.columns.iter().map(|number| self.block.column(*number).ok()).collect::<Option<_>>()?;
        if self.form == Form::ExitStatus {
            let ends = self.block.columns_at(&["end", "time"]).map(|number| self.block.column(number).ok());
            self.ends = ends.collect::<Option<_>>()?;
        }
        if self.form == Form::Run {
            self.block.ids().ok()?;
        }
        Some(self)
    }

    fn value(&self, row: usize) -> Option<Cow<'b, Value>> {
        let found = self.read.iter().find_map(|column| column.value(row));
        match self.form {
            Form::Plain => found,
            Form::NotNull => found.filter(|value| !value.is_null()),
            Form::ExitStatus => found.or_else(|| {
                let has_ended = self.ends.iter().any(|column| column.has(row));
                has_ended.then_some(Cow::Owned(Value::Null))
            }),
            Form::Tags => {
                let Value::Array(mut tags) = found?.into_owned() else { return None };
                tags.sort_by(compare_values);
                tags.dedup();
                (!tags.is_empty()).then_some(Cow::Owned(Value::Array(tags)))
            }
            Form::Path => {
                let path = TrackedPath::from_bytes(found?.as_str()?.as_bytes())?;
                Some(Cow::Owned(path.to_string().into()))
            }
            Form::Run => {
                let id = self.block.ids().ok()?.get(row)?;
                Some(Cow::Owned(id.to_string().into()))
            }
        }
    }

    /// Whether a test holds for all rows or for none, as far as the directory tells.
    fn verdict(&self, test: &Test) -> Option<bool> {
        if !matches!(self.form, Form::Plain | Form::NotNull) {
            return None;
        }
        let rows = self.block.summary.rows;
        let entries: Vec<&ColumnEntry> = self.columns.iter().filter_map(|n| self.block.entries.get(*n)).collect();
        match entries.as_slice() {
            [] => return Some(test.holds(None)),
            [ColumnEntry { statistics: Statistics::Constant(value), present, .. }] if *present == rows => {
                return Some(test.holds(Some(value)));
            }
            _ => {}
        }
        if test.holds(None) {
            return None;
        }
        let cannot = |entry: &&ColumnEntry| match &entry.statistics {
            Statistics::None => false,
            Statistics::Constant(value) => !test.holds(Some(value)),
            Statistics::Range(low, high) => !test.may_hold_between(low, high),
        };
        entries.iter().all(cannot).then_some(false)
    }
}

impl Test {
    /// Whether it may hold for a value from `low` to `high`, which are numbers or text both.
    fn may_hold_between(&self, low: &Value, high: &Value) -> bool {
        let equal = |literal: &Value| compare_values(low, literal).is_le() && compare_values(high, literal).is_ge();
        match self {
            Self::Compare(operator, literal) => {
                let is_same_type = type_rank(low) == type_rank(literal);
                match operator {
                    Operator::Equal => equal(literal),
                    Operator::NotEqual => true,
                    _ if !is_same_type => false,
                    Operator::Less => compare_values(low, literal).is_lt(),
                    Operator::LessOrEqual => compare_values(low, literal).is_le(),
                    Operator::Greater => compare_values(high, literal).is_gt(),
                    Operator::GreaterOrEqual => compare_values(high, literal).is_ge(),
                }
            }
            Self::In(list) => list.iter().any(equal),
            Self::Begins(_) | Self::Contains(_) | Self::Exists => true,
        }
    }
}

/// The columns of a metric: those of the update first. `None` where they do not say all.
fn metrics(block: &Block, name: &str) -> Option<Vec<usize>> {
    let (mut columns, is_nested) = in_mapping(block, &["update", "metrics"], name)?;
    let (first, was_nested) = in_mapping(block, &["start", "metrics"], name)?;
    // A later mapping replaces the earlier one as a whole.
    if (is_nested || was_nested) && !columns.is_empty() && !first.is_empty() {
        return None;
    }
    columns.extend(first);
    Some(columns)
}

/// The columns of `name` in a mapping, and whether it leads into a mapping inside. `None` where several places could be
/// meant, or a mapping as a whole.
fn in_mapping(block: &Block, mapping: &[&str], name: &str) -> Option<(Vec<usize>, bool)> {
    let below = block.entries.iter().enumerate().filter_map(|(number, entry)| {
        let prefix = entry.path.get(..mapping.len())?;
        let names = entry.path.get(mapping.len()..)?;
        let first = names.first()?;
        let is_meant = first == name || name.strip_prefix(first.as_str()).is_some_and(|rest| rest.starts_with('.'));
        (prefix.iter().map(String::as_str).eq(mapping.iter().copied()) && is_meant).then_some((number, names))
    });
    let below: Vec<(usize, &[String])> = below.collect();
    let Some((_, names)) = below.first() else { return Some((Vec::new(), false)) };
    let is_one = below.iter().all(|(_, other)| other == names) && names.join(".") == name;
    let (_, outer) = names.split_last()?;
    if !is_one || outer.iter().any(|name| name.contains('.')) {
        return None;
    }
    Some((below.iter().map(|(number, _)| *number).collect(), names.len() > 1))
}
