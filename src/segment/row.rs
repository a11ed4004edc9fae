//! A row: all records of one run that a segment holds, in the one form that does not depend on how they came together.

use std::cmp::Ordering;

use serde::Deserialize;
use serde_json::{Map, Value};

use crate::decode::DecodeResult;
use crate::id::RunId;
use crate::run_record::RunRecord;

/// The fields of a JSON object.
pub type Fields = Map<String, Value>;

/// A part of a row, which is also the first name of its columns' paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The start record.
    Start,
    /// The first update record.
    Update,
    /// The first end record.
    End,
    /// The first forget record.
    Forget,
    /// What is kept of a start record that was dropped because the run is forgotten: its name.
    Forgotten,
}

impl Part {
    /// All parts, in the order of their places in a row.
    pub const ALL: [Self; 5] = [Self::Start, Self::Update, Self::End, Self::Forget, Self::Forgotten];

    /// Its name in the paths of columns. Those of records are the records' types.
    pub fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Update => "update",
            Self::End => "end",
            Self::Forget => "forget",
            Self::Forgotten => "forgotten",
        }
    }

    fn of_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.word() == word)
    }
}

/// What the rows of a block have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Rows with a start record.
    Run,
    /// Rows whose start record is elsewhere.
    Orphan,
    /// Rows of forgotten runs whose start record was there: their ids, names and forget records.
    Forgotten,
}

/// Everything that a segment holds of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The run.
    pub run: RunId,
    parts: [Option<Fields>; 5],
    /// Further records of the run, with their types.
    pub more: Vec<Fields>,
}

/// A record as a row holds it: its fields without the run, its type among them.
pub fn fields_of(record: Value) -> DecodeResult<(RunId, Fields)> {
    let typed = RunRecord::deserialize(&record).map_err(|e| format!("not a run record: {e}"))?;
    let Value::Object(mut fields) = record else { return Err("not an object".into()) };
    fields.remove("run");
    Ok((typed.run(), fields))
}

fn part_of(fields: &Fields) -> Option<Part> {
    fields.get("type").and_then(Value::as_str).and_then(Part::of_word)
}

/// The order in which the records of one run and type count: by time, then sequence; the text decides between others.
fn order(a: &Fields, b: &Fields) -> Ordering {
    let time = |fields: &'_ Fields| fields.get("time").and_then(Value::as_str).unwrap_or_default().to_owned();
    let sequence = |fields: &Fields| fields.get("sequence").and_then(Value::as_u64).unwrap_or_default();
    time(a).cmp(&time(b)).then_with(|| sequence(a).cmp(&sequence(b))).then_with(|| text(a).cmp(&text(b)))
}

fn text(fields: &Fields) -> String {
    serde_json::to_string(fields).unwrap_or_default()
}

/// Whether two records are the same to the last bit: `==` takes 0.0 for -0.0.
fn is_same(a: &Fields, b: &Fields) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|((a_name, a), (b_name, b))| a_name == b_name && is_same_value(a, b))
}

fn is_same_value(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Object(a), Value::Object(b)) => is_same(a, b),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same_value(a, b)),
        (Value::Number(a), Value::Number(b)) if a.is_f64() && b.is_f64() => {
            a.as_f64().map(f64::to_bits) == b.as_f64().map(f64::to_bits)
        }
        _ => a == b,
    }
}

impl Row {
    /// An empty row, to be filled from columns.
    pub fn empty(run: RunId) -> Self {
        Self { run, parts: [None, None, None, None, None], more: Vec::new() }
    }

    /// Arranges records of one run, which have their types in them. Identical ones count once.
    pub fn new(run: RunId, records: Vec<Fields>) -> Self {
        let mut row = Self::empty(run);
        let mut by_part: [Vec<Fields>; 5] = Default::default();
        for fields in records {
            match part_of(&fields).and_then(|part| by_part.get_mut(part as usize)) {
                Some(list) => list.push(fields),
                None => row.more.push(fields),
            }
        }
        for (list, part) in by_part.iter_mut().zip(&mut row.parts) {
            if list.len() > 1 {
                list.sort_by(order);
                list.dedup_by(|a, b| is_same(a, b));
            }
            let mut rest = std::mem::take(list).into_iter();
            *part = rest.next().map(|mut first| {
                first.remove("type");
                first
            });
            row.more.extend(rest);
        }
        row.forgotten()
    }

    /// Drops what a forgotten run does not need, if both its start and its forget record are here.
    fn forgotten(mut self) -> Self {
        let name = self.part(Part::Start).map(|start| start.get("name").cloned().unwrap_or(Value::Null));
        if self.part(Part::Forget).is_none() || (name.is_none() && self.part(Part::Forgotten).is_none()) {
            return self;
        }
        let [start, update, end, _, forgotten] = &mut self.parts;
        (*start, *update, *end) = (None, None, None);
        let name = name.filter(|name| !name.is_null());
        match forgotten {
            Some(old) if name.is_none() || old.get("name").is_some_and(|old| !old.is_null()) => {}
            _ => *forgotten = Some(Fields::from_iter([("name".to_owned(), name.unwrap_or(Value::Null))])),
        }
        self.more.clear();
        self
    }

    /// Joins what several segments hold of one run.
    pub fn join(rows: Vec<Self>) -> Option<Self> {
        let run = rows.first()?.run;
        if rows.len() == 1 {
            return rows.into_iter().next();
        }
        Some(Self::new(run, rows.into_iter().flat_map(Self::into_fields).collect()))
    }

    /// The same records in the one form that rows have.
    pub fn arranged(self) -> Self {
        Self::new(self.run, self.into_fields().collect())
    }

    /// All of its parts and further records, each with its type.
    fn into_fields(self) -> impl Iterator<Item = Fields> {
        let parts = Part::ALL.into_iter().zip(self.parts).filter_map(|(part, fields)| {
            let mut fields = fields?;
            fields.insert("type".to_owned(), part.word().into());
            Some(fields)
        });
        parts.chain(self.more)
    }

    /// The records in it that can be read; those that damage has taken necessary fields from cannot.
    pub fn into_records(self) -> impl Iterator<Item = RunRecord> {
        let run = Value::from(self.run.to_string());
        self.into_fields().filter(|fields| part_of(fields) != Some(Part::Forgotten)).filter_map(move |mut fields| {
            fields.insert("run".to_owned(), run.clone());
            serde_json::from_value(Value::Object(fields)).ok()
        })
    }

    /// One part.
    pub fn part(&self, part: Part) -> Option<&Fields> {
        self.parts.get(part as usize)?.as_ref()
    }

    /// One part, to be changed.
    pub fn part_mut(&mut self, part: Part) -> &mut Option<Fields> {
        let [start, update, end, forget, forgotten] = &mut self.parts;
        match part {
            Part::Start => start,
            Part::Update => update,
            Part::End => end,
            Part::Forget => forget,
            Part::Forgotten => forgotten,
        }
    }

    /// The class of the block that it belongs into.
    pub fn class(&self) -> Class {
        match (self.part(Part::Start), self.part(Part::Forgotten)) {
            (_, Some(_)) => Class::Forgotten,
            (Some(_), None) => Class::Run,
            (None, None) => Class::Orphan,
        }
    }

    /// The name that it keeps taken.
    pub fn name(&self) -> Option<&str> {
        let named = self.part(Part::Start).or(self.part(Part::Forgotten))?;
        named.get("name")?.as_str()
    }

    /// Whether another row is the same to the last bit.
    pub fn is_same(&self, other: &Self) -> bool {
        let fields = |a: &Option<Fields>, b: &Option<Fields>| match (a, b) {
            (Some(a), Some(b)) => is_same(a, b),
            (a, b) => a.is_none() && b.is_none(),
        };
        self.run == other.run
            && self.parts.iter().zip(&other.parts).all(|(a, b)| fields(a, b))
            && self.more.len() == other.more.len()
            && self.more.iter().zip(&other.more).all(|(a, b)| is_same(a, b))
    }
}
