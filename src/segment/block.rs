//! A block: some thousand rows as ids, columns, a filter of names, and a directory of the columns.

use std::collections::HashMap;

use rayon::prelude::*;
use serde_json::Value;

use super::column::{Column, ColumnBuilder, Kind, Statistics};
use super::numbers::{push_integers, take_integers};
use super::row::{Class, Fields, Part, Row};
use super::{BlockSummary, LEVEL, MAX_BLOCK_ROWS, bloom};
use crate::checksum;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::RunId;
use crate::pack::compression::{compress, decompress};

/// A block has at most so many columns; records that would need more are kept as text.
pub const MAX_COLUMNS: usize = 1024;
/// Mappings are columns of their own down to this depth, counted from the record.
const MAX_DEPTH: usize = 6;
/// The path of the column of further records.
pub const MORE: &str = "more";

/// Bytes in a file, perhaps compressed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Chunk {
    /// Where they begin, counted from the beginning of the block.
    pub offset: u64,
    /// Their length in the file.
    pub stored_bytes: usize,
    /// Their length when unpacked; the same where they are not compressed.
    pub raw_bytes: usize,
    /// The first eight bytes of the BLAKE3 hash of the bytes in the file.
    pub checksum: [u8; 8],
}

impl Chunk {
    /// Appends bytes to a block, compressed where that makes them shorter.
    pub fn push(block: &mut Vec<u8>, raw: Vec<u8>) -> Self {
        let packed = compress(&raw, &[], LEVEL);
        Self::push_packed(block, raw.len(), packed.unwrap_or(raw))
    }

    fn push_packed(block: &mut Vec<u8>, raw_bytes: usize, stored: Vec<u8>) -> Self {
        let offset = block.len() as u64;
        block.extend(&stored);
        Self { offset, stored_bytes: stored.len(), raw_bytes, checksum: checksum::of(&stored) }
    }

    /// Appends what a directory says of it.
    pub fn encode(&self, out: &mut Vec<u8>) {
        push_varint(out, self.stored_bytes as u64);
        push_varint(out, self.raw_bytes as u64);
        if self.stored_bytes > 0 {
            out.extend(self.checksum);
        }
    }

    /// Reads what a directory says of it; `offset` is where the one before ends.
    pub fn decode(decoder: &mut Decoder<'_>, offset: &mut u64) -> DecodeResult<Self> {
        let length = |decoder: &mut Decoder<'_>| {
            u32::try_from(decoder.varint()?).map(|n| n as usize).map_err(|_| "a length over the limit".to_owned())
        };
        let (stored_bytes, raw_bytes) = (length(decoder)?, length(decoder)?);
        if stored_bytes > raw_bytes {
            return Err("longer compressed than plain".into());
        }
        let checksum = if stored_bytes > 0 { decoder.array()? } else { [0; 8] };
        let chunk = Self { offset: *offset, stored_bytes, raw_bytes, checksum };
        *offset += stored_bytes as u64;
        Ok(chunk)
    }

    /// Checks and unpacks the bytes in the file.
    pub fn unpack(&self, stored: Vec<u8>) -> DecodeResult<Vec<u8>> {
        if self.stored_bytes == 0 && self.raw_bytes == 0 {
            return Ok(Vec::new());
        }
        if stored.len() != self.stored_bytes || checksum::of(&stored) != self.checksum {
            return Err("does not have its checksum".into());
        }
        if self.stored_bytes == self.raw_bytes { Ok(stored) } else { decompress(&stored, &[], self.raw_bytes) }
    }
}

/// A column in a block's directory.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnEntry {
    /// The part of the row, then the names that lead to the value.
    pub path: Vec<String>,
    /// The kind of its values.
    pub kind: Kind,
    /// How many rows have a value.
    pub present: usize,
    /// What is known of the values.
    pub statistics: Statistics,
    /// Where its body is.
    pub chunk: Chunk,
}

/// An encoded block.
pub struct EncodedBlock {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// What the table says of it.
    pub summary: BlockSummary,
}

/// The microseconds of a run's id.
pub fn run_microseconds(run: RunId) -> i64 {
    (run.nanoseconds() / 1000).cast_signed()
}

#[derive(Default)]
struct Gathered {
    columns: Vec<(Vec<String>, Kind, ColumnBuilder)>,
    root: Node,
}

#[derive(Default)]
struct Node {
    below: HashMap<String, Node>,
    columns: [Option<usize>; 11],
}

impl Gathered {
    /// Adds the leaves of a mapping; `false`, and nothing, where that would be too many columns.
    fn add(&mut self, word: &str, row: u32, run: i64, fields: &Fields) -> bool {
        let mut path = vec![word];
        let mut leaves = Vec::new();
        collect(&mut path, fields, &mut leaves);
        let mut numbers = Vec::with_capacity(leaves.len());
        let before = self.columns.len();
        for (path, value) in &leaves {
            numbers.push(self.column(path, Kind::of(value)));
        }
        if self.columns.len() > MAX_COLUMNS {
            self.columns.truncate(before);
            // The nodes are made anew from the columns that stay.
            self.root = Node::default();
            for (number, (path, kind, _)) in self.columns.iter().enumerate() {
                let path: Vec<&str> = path.iter().map(String::as_str).collect();
                if let Some(place) = self.root.at(&path).columns.get_mut(*kind as usize) {
                    *place = Some(number);
                }
            }
            return false;
        }
        for ((_, value), number) in leaves.iter().zip(numbers) {
            if let Some((_, kind, builder)) = self.columns.get_mut(number) {
                builder.push(*kind, row, run, value);
            }
        }
        true
    }

    fn column(&mut self, path: &[&str], kind: Kind) -> usize {
        let node = self.root.at(path);
        let next = self.columns.len();
        match node.columns.get_mut(kind as usize) {
            Some(Some(number)) => *number,
            Some(place) => {
                *place = Some(next);
                self.columns.push((
                    path.iter().map(|name| (*name).to_owned()).collect(),
                    kind,
                    ColumnBuilder::default(),
                ));
                next
            }
            None => next,
        }
    }
}

impl Node {
    fn at(&mut self, path: &[&str]) -> &mut Self {
        let mut node = self;
        for name in path {
            // No entry API: it would make a text for each look.
            if !node.below.contains_key(*name) {
                node.below.insert((*name).to_owned(), Self::default());
            }
            node = node.below.entry((*name).to_owned()).or_default();
        }
        node
    }
}

fn collect<'v>(path: &mut Vec<&'v str>, fields: &'v Fields, leaves: &mut Vec<(Vec<&'v str>, &'v Value)>) {
    for (name, value) in fields {
        path.push(name);
        match value {
            Value::Object(inner) if !inner.is_empty() && path.len() < MAX_DEPTH => collect(path, inner, leaves),
            _ => leaves.push((path.clone(), value)),
        }
        path.pop();
    }
}

/// A record as text in text, so that it may be nested as deeply as in a journal.
fn as_text(fields: &Fields) -> Value {
    serde_json::to_string(fields).unwrap_or_default().into()
}

fn gather(rows: &[Row]) -> Gathered {
    let mut gathered = Gathered::default();
    for (number, row) in rows.iter().enumerate() {
        let (number, run) = (number as u32, run_microseconds(row.run));
        let mut more: Vec<Value> = Vec::new();
        for part in Part::ALL {
            let Some(fields) = row.part(part) else { continue };
            if !gathered.add(part.word(), number, run, fields) {
                let mut fields = fields.clone();
                fields.insert("type".to_owned(), part.word().into());
                more.push(as_text(&fields));
            }
        }
        more.extend(row.more.iter().map(as_text));
        if !more.is_empty() {
            let column = gathered.column(&[MORE], Kind::Json);
            if let Some((_, _, builder)) = gathered.columns.get_mut(column) {
                builder.push(Kind::Json, number, run, &Value::Array(more));
            }
        }
    }
    gathered
}

/// Encodes rows of one class, which are sorted by run.
pub fn encode(class: Class, rows: &[Row]) -> EncodedBlock {
    let mut columns = gather(rows).columns;
    columns.sort_by(|(a, a_kind, _), (b, b_kind, _)| a.cmp(b).then_with(|| a_kind.cmp(b_kind)));
    let (packed_ids, bodies) = rayon::join(
        || {
            let mut raw = Vec::new();
            push_integers(&mut raw, &rows.iter().map(|row| row.run.nanoseconds().cast_signed()).collect::<Vec<_>>());
            raw.extend(rows.iter().flat_map(|row| row.run.0.into_iter().skip(8)));
            (raw.len(), compress(&raw, &[], LEVEL).unwrap_or(raw))
        },
        || -> Vec<_> {
            let encoded = columns.par_iter().map(|(_, kind, builder)| {
                let (statistics, body) = builder.encode(*kind, rows.len());
                (statistics, body.len(), compress(&body, &[], LEVEL).unwrap_or(body))
            });
            encoded.collect()
        },
    );
    let mut bytes = Vec::new();
    let ids = Chunk::push_packed(&mut bytes, packed_ids.0, packed_ids.1);
    let mut directory = Vec::new();
    push_varint(&mut directory, columns.len() as u64);
    for ((path, kind, builder), (statistics, raw_bytes, stored)) in columns.iter().zip(bodies) {
        let chunk = Chunk::push_packed(&mut bytes, raw_bytes, stored);
        encode_entry(&mut directory, path, *kind, builder.rows.len(), &statistics, &chunk);
    }
    let names: Vec<&str> = rows.iter().filter_map(Row::name).collect();
    let filter = bloom::make(names.into_iter());
    let filter_bytes = filter.len() as u64;
    bytes.extend(filter);
    let directory = Chunk::push(&mut bytes, directory);
    let id = |row: Option<&Row>| row.map_or(RunId([0; 16]), |row| row.run);
    let summary = BlockSummary {
        class,
        rows: rows.len(),
        first: id(rows.first()),
        last: id(rows.last()),
        bytes: bytes.len() as u64,
        filter_bytes,
        ids,
        directory,
        offset: 0,
    };
    EncodedBlock { bytes, summary }
}

fn encode_entry(
    out: &mut Vec<u8>,
    path: &[String],
    kind: Kind,
    present: usize,
    statistics: &Statistics,
    chunk: &Chunk,
) {
    let text = |text: &[u8], out: &mut Vec<u8>| {
        push_varint(out, text.len() as u64);
        out.extend(text);
    };
    push_varint(out, path.len() as u64);
    path.iter().for_each(|name| text(name.as_bytes(), out));
    out.push(kind as u8);
    push_varint(out, present as u64);
    let json = |value: &Value| value.to_string().into_bytes();
    match statistics {
        Statistics::None => out.push(0),
        Statistics::Constant(value) => {
            out.push(1);
            text(&json(value), out);
        }
        Statistics::Range(low, high) => {
            out.push(2);
            text(&json(low), out);
            text(&json(high), out);
        }
    }
    chunk.encode(out);
}

/// Decodes the directory of a block of `rows` rows.
pub fn decode_directory(bytes: &[u8], summary: &BlockSummary) -> DecodeResult<Vec<ColumnEntry>> {
    let mut decoder = Decoder::new(bytes);
    let count = decoder.count(6)?;
    if count > MAX_COLUMNS + 1 {
        return Err(format!("{count} columns, the limit is {}", MAX_COLUMNS + 1));
    }
    let mut offset = summary.ids.stored_bytes as u64;
    let mut columns: Vec<ColumnEntry> = Vec::with_capacity(count);
    for _ in 0..count {
        let names = decoder.count(1)?;
        let text = |decoder: &mut Decoder<'_>| {
            let bytes = decoder.count(1)?;
            str::from_utf8(decoder.take(bytes)?).map(str::to_owned).map_err(|_| "a name that is not UTF-8".to_owned())
        };
        if names == 0 || names > MAX_DEPTH {
            return Err("a path of no or too many names".into());
        }
        let path = (0..names).map(|_| text(&mut decoder)).collect::<DecodeResult<Vec<String>>>()?;
        let number = decoder.u8()?;
        let kind = Kind::of_number(number).ok_or_else(|| format!("kind {number} of column is unknown"))?;
        let present = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
        if present == 0 || present > summary.rows {
            return Err("a column with no or too many values".into());
        }
        let json = |decoder: &mut Decoder<'_>| {
            serde_json::from_str::<Value>(&text(decoder)?).map_err(|e| format!("statistics that are not JSON: {e}"))
        };
        let statistics = match decoder.u8()? {
            0 => Statistics::None,
            1 => Statistics::Constant(json(&mut decoder)?),
            2 => Statistics::Range(json(&mut decoder)?, json(&mut decoder)?),
            other => return Err(format!("statistics {other} are unknown")),
        };
        let chunk = Chunk::decode(&mut decoder, &mut offset)?;
        let entry = ColumnEntry { path, kind, present, statistics, chunk };
        if columns.last().is_some_and(|last| (&last.path, last.kind) >= (&entry.path, entry.kind)) {
            return Err("columns out of order".into());
        }
        columns.push(entry);
    }
    decoder.finish()?;
    if offset.checked_add(summary.filter_bytes) != Some(summary.directory.offset) {
        return Err("columns of another length than the block".into());
    }
    Ok(columns)
}

/// Decodes the ids of a block of `rows` rows.
pub fn decode_ids(bytes: &[u8], summary: &BlockSummary) -> DecodeResult<Vec<RunId>> {
    if summary.rows > MAX_BLOCK_ROWS {
        return Err("too many rows".into());
    }
    let mut decoder = Decoder::new(bytes);
    let times = take_integers(&mut decoder, summary.rows)?;
    let mut ids = Vec::with_capacity(summary.rows);
    for time in times {
        ids.push(RunId::new(time.cast_unsigned(), decoder.array()?));
    }
    decoder.finish()?;
    if !ids.is_sorted_by(|a, b| a < b) || ids.first() != Some(&summary.first) || ids.last() != Some(&summary.last) {
        return Err("ids out of order".into());
    }
    Ok(ids)
}

/// Puts rows together from the columns that could be read.
pub fn rows_of(ids: &[RunId], columns: &[(&ColumnEntry, &Column)], wanted: std::ops::Range<usize>) -> Vec<Row> {
    let rows = wanted.filter_map(|number| Some((number, *ids.get(number)?)));
    rows.map(|(number, run)| {
        let mut row = Row::empty(run);
        let mut more = Vec::new();
        for (entry, column) in columns {
            let Some(value) = column.value(number) else { continue };
            if entry.path.first().is_some_and(|word| word == MORE) {
                if let Value::Array(records) = value.into_owned() {
                    more.extend(records.iter().filter_map(|record| serde_json::from_str(record.as_str()?).ok()));
                }
                continue;
            }
            insert(&mut row, &entry.path, value.into_owned());
        }
        if more.is_empty() {
            return row;
        }
        row.more = more;
        row.arranged()
    })
    .collect()
}

fn insert(row: &mut Row, path: &[String], value: Value) {
    let Some((word, names)) = path.split_first() else { return };
    let Some(part) = Part::ALL.into_iter().find(|part| part.word() == word) else { return };
    let Some((last, between)) = names.split_last() else { return };
    let mut fields = row.part_mut(part).get_or_insert_default();
    for name in between {
        // No entry API: it would make a text for each look.
        if !fields.contains_key(name) {
            fields.insert(name.clone(), Value::Object(Fields::new()));
        }
        match fields.get_mut(name) {
            Some(Value::Object(inner)) => fields = inner,
            _ => return,
        }
    }
    fields.insert(last.clone(), value);
}
