//! One column of a block: the values that its rows have at one path, all of one kind, as bytes and in memory.

use std::borrow::Cow;
use std::collections::HashMap;

use serde_json::{Number, Value};

use super::numbers::{push_bits, push_doubles, push_integers, take_bits, take_doubles, take_integers};
use crate::decode::{DecodeResult, Decoder, push_varint};

/// A list of texts, or of ids, one after the other.
const PLAIN: u8 = 0;
/// The different ones, and the place of each row's in that list.
const DICTIONARY: u8 = 1;
/// Text that begins like this may be a time.
const TIME_BYTES: usize = 27;

/// The kind of a column's values. The number is the one on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// null.
    Null = 0,
    /// true and false.
    Bool = 1,
    /// Integers from -2^63 to 2^63 - 1.
    Integer = 2,
    /// IEEE doubles.
    Double = 3,
    /// Other text than the following.
    Text = 4,
    /// UTC times with microseconds.
    Time = 5,
    /// Everything else, as JSON text.
    Json = 6,
    /// 16 hexadecimal digits.
    Hex8 = 7,
    /// 32 hexadecimal digits.
    Hex16 = 8,
    /// 40 hexadecimal digits.
    Hex20 = 9,
    /// 64 hexadecimal digits.
    Hex32 = 10,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Null,
        Self::Bool,
        Self::Integer,
        Self::Double,
        Self::Text,
        Self::Time,
        Self::Json,
        Self::Hex8,
        Self::Hex16,
        Self::Hex20,
        Self::Hex32,
    ];

    /// The kind with a number.
    pub fn of_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// The kind of column that holds a value.
    pub fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) => Self::Bool,
            Value::Number(number) if number.as_i64().is_some() => Self::Integer,
            Value::Number(number) if number.is_f64() => Self::Double,
            Value::String(text) => Self::of_text(text),
            _ => Self::Json,
        }
    }

    fn of_text(text: &str) -> Self {
        let is_hex = || text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        match text.len() {
            16 if is_hex() => Self::Hex8,
            32 if is_hex() => Self::Hex16,
            40 if is_hex() => Self::Hex20,
            64 if is_hex() => Self::Hex32,
            TIME_BYTES if microseconds(text).is_some() => Self::Time,
            _ => Self::Text,
        }
    }

    fn hex_bytes(self) -> Option<usize> {
        match self {
            Self::Hex8 => Some(8),
            Self::Hex16 => Some(16),
            Self::Hex20 => Some(20),
            Self::Hex32 => Some(32),
            _ => None,
        }
    }
}

/// The microseconds since 1970 of a time in the form of the records; `None` for any other text, and for times before
/// 1970: those after 9999 have more digits, and of all others the order as text is that in time.
pub fn microseconds(text: &str) -> Option<i64> {
    let bytes: &[u8; TIME_BYTES] = text.as_bytes().try_into().ok()?;
    for (byte, form) in bytes.iter().zip(b"0000-00-00T00:00:00.000000Z") {
        if if *form == b'0' { !byte.is_ascii_digit() } else { byte != form } {
            return None;
        }
    }
    let number = |from: usize, to: usize| {
        bytes.get(from..to).unwrap_or_default().iter().fold(0i64, |sum, digit| sum * 10 + i64::from(digit - b'0'))
    };
    let (year, month, day) = (number(0, 4), number(5, 7), number(8, 10));
    let (hour, minute, second) = (number(11, 13), number(14, 16), number(17, 19));
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days_of_month = match month {
        2 => 28 + i64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    };
    let is_time = hour < 24 && minute < 60 && second < 60;
    if year < 1970 || !(1..=12).contains(&month) || !(1..=days_of_month).contains(&day) || !is_time {
        return None;
    }
    // Years are counted from March on, so that the day that some have more is their last.
    let (years, months) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = years * 365 + years / 4 - years / 100 + years / 400 + (months * 153 + 2) / 5 + day - 1 - 719_468;
    Some((((days * 24 + hour) * 60 + minute) * 60 + second) * 1_000_000 + number(20, 26))
}

/// The time in the form of the records.
pub fn time_text(microseconds: i64) -> Option<String> {
    jiff::Timestamp::from_microsecond(microseconds).ok().map(|time| format!("{time:.6}"))
}

/// The values of a column while a block is gathered.
#[derive(Debug, Default)]
pub struct ColumnBuilder {
    /// The rows that have a value, ascending.
    pub rows: Vec<u32>,
    integers: Vec<i64>,
    doubles: Vec<f64>,
    bytes: Vec<u8>,
    ends: Vec<usize>,
    /// The least and the greatest of times.
    times: Option<(i64, i64)>,
}

/// What a block's directory says of a column's values.
#[derive(Debug, Clone, PartialEq)]
pub enum Statistics {
    /// Nothing.
    None,
    /// All rows that have a value have this one.
    Constant(Value),
    /// The least and the greatest.
    Range(Value, Value),
}

/// The longest text that statistics repeat.
const MAX_SHOWN_BYTES: usize = 32;

impl ColumnBuilder {
    /// Adds the value of a row; `microseconds` are those of its run's id.
    pub fn push(&mut self, kind: Kind, row: u32, run_microseconds: i64, value: &Value) {
        self.rows.push(row);
        match (kind, value) {
            (Kind::Bool, value) => self.integers.push(i64::from(*value == Value::Bool(true))),
            (Kind::Integer, value) => self.integers.push(value.as_i64().unwrap_or_default()),
            (Kind::Double, value) => self.doubles.push(value.as_f64().unwrap_or_default()),
            (Kind::Time, Value::String(text)) => {
                let time = microseconds(text).unwrap_or_default();
                let (low, high) = self.times.unwrap_or((time, time));
                self.times = Some((low.min(time), high.max(time)));
                self.integers.push(time.wrapping_sub(run_microseconds));
            }
            (Kind::Text, Value::String(text)) => {
                self.bytes.extend(text.as_bytes());
                self.ends.push(self.bytes.len());
            }
            (Kind::Json, value) => {
                // Writing to memory does not fail.
                let _ = serde_json::to_writer(&mut self.bytes, value);
                self.ends.push(self.bytes.len());
            }
            (_, Value::String(text)) => {
                let digit = |b: &u8| if b.is_ascii_digit() { b - b'0' } else { b.wrapping_sub(b'a').wrapping_add(10) };
                let pair = |pair: &[u8]| pair.iter().fold(0u8, |byte, b| byte << 4 | (digit(b) & 0xf));
                self.bytes.extend(text.as_bytes().chunks(2).map(pair));
                self.ends.push(self.bytes.len());
            }
            _ => {}
        }
    }

    fn items(&self) -> Vec<&[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        starts.zip(&self.ends).map(|(start, end)| self.bytes.get(start..*end).unwrap_or_default()).collect()
    }

    /// Encodes the column of a block of `rows` rows: the statistics, and the body.
    pub fn encode(&self, kind: Kind, rows: usize) -> (Statistics, Vec<u8>) {
        let mut body = Vec::new();
        if self.rows.len() < rows {
            let mut has = vec![false; rows];
            for row in &self.rows {
                if let Some(bit) = has.get_mut(*row as usize) {
                    *bit = true;
                }
            }
            push_bits(&mut body, &has);
        }
        let statistics = self.statistics(kind);
        if !matches!(statistics, Statistics::Constant(_)) {
            match kind {
                Kind::Null => {}
                Kind::Bool => push_bits(&mut body, &self.integers.iter().map(|bit| *bit == 1).collect::<Vec<_>>()),
                Kind::Integer | Kind::Time => push_integers(&mut body, &self.integers),
                Kind::Double => push_doubles(&mut body, &self.doubles),
                Kind::Text | Kind::Json => push_texts(&mut body, &self.items()),
                _ => push_ids(&mut body, &self.items()),
            }
        }
        (statistics, body)
    }

    fn statistics(&self, kind: Kind) -> Statistics {
        fn range<T: PartialOrd + Copy>(values: impl Iterator<Item = T>) -> Option<(T, T)> {
            values.fold(None, |range, value| {
                let (low, high) = range.unwrap_or((value, value));
                Some((if value < low { value } else { low }, if value > high { value } else { high }))
            })
        }
        let shown = |low: Value, high: Value, same: bool| match same {
            true => Statistics::Constant(low),
            false => Statistics::Range(low, high),
        };
        let bits = range(self.doubles.iter().map(|value| value.to_bits()));
        match kind {
            Kind::Null => Statistics::Constant(Value::Null),
            Kind::Bool => match range(self.integers.iter().copied()) {
                Some((low, high)) if low == high => Statistics::Constant(Value::Bool(low == 1)),
                _ => Statistics::None,
            },
            Kind::Integer => range(self.integers.iter().copied())
                .map_or(Statistics::None, |(low, high)| shown(low.into(), high.into(), low == high)),
            Kind::Double => range(self.doubles.iter().copied()).map_or(Statistics::None, |(low, high)| {
                shown(low.into(), high.into(), bits.is_some_and(|(low, high)| low == high))
            }),
            Kind::Time => match self.times.map(|(low, high)| (low == high, time_text(low), time_text(high))) {
                Some((same, Some(low), Some(high))) => shown(low.into(), high.into(), same),
                _ => Statistics::None,
            },
            Kind::Text => match range(self.items().into_iter()) {
                Some((low, high)) if low == high || low.len().max(high.len()) <= MAX_SHOWN_BYTES => {
                    let text = |bytes: &[u8]| Value::from(String::from_utf8_lossy(bytes));
                    shown(text(low), text(high), low == high)
                }
                _ => Statistics::None,
            },
            Kind::Json => match range(self.items().into_iter()) {
                Some((low, high)) if low == high => {
                    serde_json::from_slice(low).map_or(Statistics::None, Statistics::Constant)
                }
                _ => Statistics::None,
            },
            _ => match range(self.items().into_iter()) {
                Some((low, high)) if low == high => Statistics::Constant(hex(low).into()),
                _ => Statistics::None,
            },
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digit = |n: u8| char::from(DIGITS.get(usize::from(n & 0xf)).copied().unwrap_or(b'0'));
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The different items in the order of their first appearance, and the number of each item's; `None` where there are
/// too many for that to pay.
fn dictionary<'a>(items: &[&'a [u8]]) -> Option<(Vec<&'a [u8]>, Vec<i64>)> {
    let mut numbers: HashMap<&[u8], i64> = HashMap::new();
    let (mut different, mut indices) = (Vec::new(), Vec::with_capacity(items.len()));
    for item in items {
        let number = *numbers.entry(item).or_insert_with(|| {
            different.push(*item);
            different.len() as i64 - 1
        });
        indices.push(number);
        if different.len() > 16 + items.len() / 4 {
            return None;
        }
    }
    Some((different, indices))
}

fn push_plain_texts(out: &mut Vec<u8>, items: &[&[u8]]) {
    push_integers(out, &items.iter().map(|item| item.len() as i64).collect::<Vec<_>>());
    items.iter().for_each(|item| out.extend(*item));
}

fn push_texts(out: &mut Vec<u8>, items: &[&[u8]]) {
    match dictionary(items) {
        Some((different, indices)) => {
            out.push(DICTIONARY);
            push_varint(out, different.len() as u64);
            push_plain_texts(out, &different);
            push_integers(out, &indices);
        }
        None => {
            out.push(PLAIN);
            push_plain_texts(out, items);
        }
    }
}

fn push_ids(out: &mut Vec<u8>, items: &[&[u8]]) {
    match dictionary(items) {
        Some((different, indices)) => {
            out.push(DICTIONARY);
            push_varint(out, different.len() as u64);
            different.iter().for_each(|item| out.extend(*item));
            push_integers(out, &indices);
        }
        None => {
            out.push(PLAIN);
            items.iter().for_each(|item| out.extend(*item));
        }
    }
}

#[derive(Debug)]
enum Values {
    Constant(Value),
    Bools(Vec<bool>),
    Integers(Vec<i64>),
    Doubles(Vec<f64>),
    Times(Vec<i64>),
    Texts { bytes: Vec<u8>, ends: Vec<usize> },
    Jsons { bytes: Vec<u8>, ends: Vec<usize> },
    Ids { bytes: Vec<u8>, width: usize },
    Dictionary { values: Vec<Value>, indices: Vec<u32> },
}

/// A decoded column.
#[derive(Debug)]
pub struct Column {
    /// For each row the place of its value, where not all rows have one.
    places: Option<Vec<u32>>,
    values: Values,
}

const ABSENT: u32 = u32::MAX;

impl Column {
    /// Decodes a body. `present` rows of `rows` have a value; `runs` has the microseconds of the rows' ids.
    pub fn decode(
        kind: Kind,
        rows: usize,
        present: usize,
        statistics: &Statistics,
        body: &[u8],
        runs: &[i64],
    ) -> DecodeResult<Self> {
        let mut decoder = Decoder::new(body);
        let places = if present < rows {
            let bits = take_bits(&mut decoder, rows)?;
            if bits.iter().filter(|bit| **bit).count() != present {
                return Err("another number of values than the directory says".into());
            }
            let mut next = 0..;
            Some(bits.into_iter().map(|bit| bit.then(|| next.next()).flatten().unwrap_or(ABSENT)).collect::<Vec<u32>>())
        } else {
            None
        };
        let values = match (statistics, kind) {
            (Statistics::Constant(value), _) => Values::Constant(value.clone()),
            (_, Kind::Null) => return Err("null is constant".into()),
            (_, Kind::Bool) => Values::Bools(take_bits(&mut decoder, present)?),
            (_, Kind::Integer) => Values::Integers(take_integers(&mut decoder, present)?),
            (_, Kind::Double) => Values::Doubles(take_doubles(&mut decoder, present)?),
            (_, Kind::Time) => {
                let mut times = take_integers(&mut decoder, present)?;
                let place =
                    |row: usize| places.as_ref().map_or(row, |p| p.get(row).map_or(usize::MAX, |p| *p as usize));
                for (row, run) in runs.iter().enumerate() {
                    if let Some(time) = times.get_mut(place(row)) {
                        *time = time.wrapping_add(*run);
                    }
                }
                Values::Times(times)
            }
            (_, Kind::Text | Kind::Json) => take_texts(&mut decoder, kind, present)?,
            (_, kind) => take_ids(&mut decoder, kind.hex_bytes().unwrap_or(1), present)?,
        };
        decoder.finish()?;
        Ok(Self { places, values })
    }

    /// The value of a row.
    pub fn value(&self, row: usize) -> Option<Cow<'_, Value>> {
        let place = match &self.places {
            Some(places) => places.get(row).filter(|place| **place != ABSENT).map(|place| *place as usize)?,
            None => row,
        };
        Some(match &self.values {
            Values::Constant(value) => Cow::Borrowed(value),
            Values::Bools(values) => Cow::Owned(Value::Bool(*values.get(place)?)),
            Values::Integers(values) => Cow::Owned(Value::from(*values.get(place)?)),
            Values::Doubles(values) => Cow::Owned(Value::Number(Number::from_f64(*values.get(place)?)?)),
            Values::Times(values) => Cow::Owned(time_text(*values.get(place)?)?.into()),
            Values::Texts { bytes, ends } => Cow::Owned(str::from_utf8(item(bytes, ends, place)?).ok()?.into()),
            Values::Jsons { bytes, ends } => Cow::Owned(serde_json::from_slice(item(bytes, ends, place)?).ok()?),
            Values::Ids { bytes, width } => Cow::Owned(hex(bytes.get(place * width..(place + 1) * width)?).into()),
            Values::Dictionary { values, indices } => Cow::Borrowed(values.get(*indices.get(place)? as usize)?),
        })
    }

    /// Whether one of so many rows has that text. Where texts are kept as such, no value is made for that.
    pub fn has_text(&self, text: &str, rows: usize) -> bool {
        match &self.values {
            Values::Texts { bytes, ends } => {
                (0..ends.len()).any(|place| item(bytes, ends, place) == Some(text.as_bytes()))
            }
            _ => (0..rows).any(|row| self.value(row).is_some_and(|value| *value == *text)),
        }
    }

    /// Whether a row has a value.
    pub fn has(&self, row: usize) -> bool {
        self.places.as_ref().is_none_or(|places| places.get(row).is_some_and(|place| *place != ABSENT))
    }
}

fn item<'a>(bytes: &'a [u8], ends: &[usize], place: usize) -> Option<&'a [u8]> {
    let start = place.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied())?;
    bytes.get(start..*ends.get(place)?)
}

fn take_plain_texts(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<(Vec<u8>, Vec<usize>)> {
    let mut end = 0usize;
    let lengths = take_integers(decoder, count)?;
    let ends = lengths.into_iter().map(|length| {
        end = usize::try_from(length).ok().and_then(|length| end.checked_add(length)).ok_or("a text of no length")?;
        Ok(end)
    });
    let ends = ends.collect::<DecodeResult<Vec<usize>>>()?;
    Ok((decoder.take(end)?.to_vec(), ends))
}

fn text_value(kind: Kind, bytes: &[u8]) -> DecodeResult<Value> {
    match kind {
        Kind::Json => serde_json::from_slice(bytes).map_err(|e| format!("not JSON: {e}")),
        _ => text(bytes).map(Value::from),
    }
}

fn text(bytes: &[u8]) -> DecodeResult<&str> {
    str::from_utf8(bytes).map_err(|_| "text that is not UTF-8".into())
}

/// Checks what [`text_value`] would make a value of.
fn check_text(kind: Kind, bytes: &[u8]) -> DecodeResult<()> {
    if kind == Kind::Json { text_value(kind, bytes).map(drop) } else { text(bytes).map(drop) }
}

fn take_indices(decoder: &mut Decoder<'_>, count: usize, different: usize) -> DecodeResult<Vec<u32>> {
    let index = |number: i64| {
        let index = u32::try_from(number).ok().filter(|index| (*index as usize) < different);
        index.ok_or_else(|| "a place beyond the dictionary".to_owned())
    };
    take_integers(decoder, count)?.into_iter().map(index).collect()
}

/// The count of a dictionary: no more items than rows.
fn take_count(decoder: &mut Decoder<'_>, count: usize) -> DecodeResult<usize> {
    let different = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
    if different > count { Err("more different values than rows".into()) } else { Ok(different) }
}

fn take_texts(decoder: &mut Decoder<'_>, kind: Kind, count: usize) -> DecodeResult<Values> {
    match decoder.u8()? {
        PLAIN => {
            let (bytes, ends) = take_plain_texts(decoder, count)?;
            (0..count).try_for_each(|n| check_text(kind, item(&bytes, &ends, n).unwrap_or_default()))?;
            Ok(if kind == Kind::Json { Values::Jsons { bytes, ends } } else { Values::Texts { bytes, ends } })
        }
        DICTIONARY => {
            let different = take_count(decoder, count)?;
            let (bytes, ends) = take_plain_texts(decoder, different)?;
            let value = |n| text_value(kind, item(&bytes, &ends, n).unwrap_or_default());
            let values = (0..different).map(value).collect::<DecodeResult<Vec<Value>>>()?;
            Ok(Values::Dictionary { values, indices: take_indices(decoder, count, different)? })
        }
        _ => Err("texts of an unknown form".into()),
    }
}

fn take_ids(decoder: &mut Decoder<'_>, width: usize, count: usize) -> DecodeResult<Values> {
    match decoder.u8()? {
        PLAIN => {
            let bytes = decoder.take(count.checked_mul(width).ok_or("too many ids")?)?.to_vec();
            Ok(Values::Ids { bytes, width })
        }
        DICTIONARY => {
            let different = take_count(decoder, count)?;
            let bytes = decoder.take(different.checked_mul(width).ok_or("too many ids")?)?;
            let values = bytes.chunks_exact(width).map(|id| Value::from(hex(id))).collect();
            Ok(Values::Dictionary { values, indices: take_indices(decoder, count, different)? })
        }
        _ => Err("ids of an unknown form".into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_times_in_the_form_of_the_records_are_times() {
        assert_eq!(microseconds("1970-01-01T00:00:00.000000Z"), Some(0));
        assert_eq!(microseconds("2026-01-01T00:00:00.000001Z"), Some(1_767_225_600_000_001));
        for bad in [
            "1969-12-31T23:59:59.999999Z",
            "2026-02-29T00:00:00.000000Z",
            "2026-13-01T00:00:00.000000Z",
            "2026-00-01T00:00:00.000000Z",
            "2026-01-00T00:00:00.000000Z",
            "2026-01-01T24:00:00.000000Z",
            "2026-01-01T23:59:60.000000Z",
            "2026-01-01t00:00:00.000000Z",
            "2026-01-01T00:00:00.000000z",
            "2026-01-01T00:00:00.00000Z",
            "2026-01-01 00:00:00.000000Z",
            "+026-01-01T00:00:00.000000Z",
            "",
        ] {
            assert_eq!(microseconds(bad), None, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_time_comes_back(time in 0i64..253_402_300_800_000_000) {
            let text = time_text(time).expect("a time");
            prop_assert_eq!(microseconds(&text), Some(time), "{}", text);
        }
    }
}
