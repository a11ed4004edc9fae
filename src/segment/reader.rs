//! Opens a segment, and reads blocks and columns of it as they are asked for.

use std::sync::{Arc, OnceLock};

use rayon::prelude::*;

use super::block::{self, ColumnEntry, run_microseconds};
use super::bloom::{self, NameHash};
use super::column::Column;
use super::row::Row;
use super::table::{self, FOOTER_BYTES, Source};
use super::{BlockSummary, Chunk, EncodedBlock, FILE, HEADER_BYTES, Kind, MORE};
use crate::error::{Error, Result};
use crate::file_header::Header;
use crate::id::{RunId, StoreId};
use crate::storage::{ReadFile, Storage};

/// The table is mostly in the last bytes of this number: one read gets it.
const TAIL_BYTES: usize = 16 << 10;

/// An open segment.
pub struct Segment {
    /// Its name in its folder.
    pub name: String,
    /// Its length.
    pub bytes: u64,
    /// Its blocks, in the order of the file.
    pub blocks: Vec<BlockSummary>,
    /// The files that it was made from.
    pub sources: Vec<Source>,
    file: Box<dyn ReadFile>,
    path: std::path::PathBuf,
}

impl std::fmt::Debug for Segment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Segment({:?}, {} blocks)", self.path, self.blocks.len())
    }
}

impl Segment {
    /// Opens a segment of a store and reads its table. What was opened can be read even once the file has been removed.
    pub fn open(storage: &Arc<dyn Storage>, path: &str, store: StoreId) -> Result<Self> {
        let full = storage.full_path(path);
        let damaged = |reason: String| Error::damaged(&full, reason);
        let file = crate::storage::open_file(storage, path)?;
        let bytes = file.length()?;
        let header = file.read_range(0, HEADER_BYTES)?;
        match FILE.decode(&header).map_err(damaged)? {
            Header::Known(id) if id == store => {}
            Header::Known(_) => return Err(damaged("it belongs to another store".into())),
            Header::Newer(version) => {
                return Err(Error::NewerFormat { path: full, found: version.into(), known: FILE.version.into() });
            }
        }
        let last = bytes.min(TAIL_BYTES as u64) as usize;
        let mut tail = file.read_range(bytes - last as u64, last)?;
        let footer = tail.get(tail.len().saturating_sub(FOOTER_BYTES)..).unwrap_or_default();
        let footer = table::decode_footer(footer, bytes).map_err(damaged)?;
        let length = footer.table_bytes as usize;
        if length + FOOTER_BYTES > tail.len() {
            tail = file.read_range(footer.table_offset, length + FOOTER_BYTES)?;
        }
        let end = tail.len().saturating_sub(FOOTER_BYTES);
        let table = tail.get(end.saturating_sub(length)..end).unwrap_or_default();
        let table = table::decode(&header, table, &footer).map_err(damaged)?;
        let name = path.rsplit_once('/').map_or(path, |(_, name)| name).to_owned();
        Ok(Self { name, bytes, blocks: table.blocks, sources: table.sources, file, path: full })
    }

    /// Where it is, for messages.
    pub fn path(&self) -> &std::path::Path {
        &self.path
    }

    fn damaged(&self, summary: &BlockSummary, what: &str, reason: &str) -> Error {
        let (rows, first, last) = (summary.rows, summary.first, summary.last);
        Error::damaged(&self.path, format!("{what} of the {rows} runs from {first} to {last}: {reason}"))
    }

    fn read(&self, summary: &BlockSummary, chunk: &Chunk, what: &str) -> Result<Vec<u8>> {
        let stored = self.file.read_range(summary.offset + chunk.offset, chunk.stored_bytes)?;
        chunk.unpack(stored).map_err(|reason| self.damaged(summary, what, &reason))
    }

    /// Opens a block: reads its directory.
    pub fn block(self: &Arc<Self>, number: usize) -> Result<Block> {
        let no_such = || Error::damaged(&self.path, format!("it has no block {number}"));
        let summary = self.blocks.get(number).ok_or_else(no_such)?.clone();
        let bytes = self.read(&summary, &summary.directory, "directory")?;
        let entries = block::decode_directory(&bytes, &summary);
        let entries = entries.map_err(|reason| self.damaged(&summary, "directory", &reason))?;
        let columns = entries.iter().map(|_| OnceLock::new()).collect();
        Ok(Block { segment: Arc::clone(self), summary, entries, columns, ids: OnceLock::new() })
    }

    /// Whether every part of it can be read.
    pub fn is_whole(self: &Arc<Self>) -> bool {
        (0..self.blocks.len()).into_par_iter().all(|number| {
            let mut is_damaged = false;
            let block = self.block(number);
            block.is_ok_and(|block| {
                block.check(&mut |_| is_damaged = true);
                !is_damaged
            })
        })
    }

    /// Whether a block may have a run of the name that is asked for.
    pub fn may_have_name(&self, block: &BlockSummary, name: NameHash) -> Result<bool> {
        if block.filter_bytes == 0 {
            return Ok(false);
        }
        let at = filter_offset(block) + name.place(block.filter_bytes);
        Ok(name.may_be_in(&self.file.read_range(at, bloom::GROUP_BYTES)?))
    }

    /// The filter of a block's names.
    pub fn name_filter(&self, block: &BlockSummary) -> Result<Vec<u8>> {
        // Shorter than the block, of which the table has said that it is in the file.
        let bytes = block.filter_bytes.min(self.bytes) as usize;
        self.file.read_range(filter_offset(block), bytes)
    }

    /// The bytes of a block as they are, checked, to be copied into another segment.
    pub fn copy_of(&self, summary: &BlockSummary) -> Result<EncodedBlock> {
        let length = usize::try_from(summary.bytes).unwrap_or(usize::MAX);
        let bytes = self.file.read_range(summary.offset, length)?;
        if bytes.len() != length {
            return Err(self.damaged(summary, "block", "ends early"));
        }
        Ok(EncodedBlock { bytes, summary: summary.clone() })
    }
}

/// Where in the segment the filter of a block's names begins.
fn filter_offset(block: &BlockSummary) -> u64 {
    block.offset + block.directory.offset - block.filter_bytes
}

struct InMemory(Vec<u8>);

impl ReadFile for InMemory {
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(self.0.len());
        Ok(self.0.get(from..from.saturating_add(bytes).min(self.0.len())).unwrap_or_default().to_vec())
    }

    fn length(&self) -> Result<u64> {
        Ok(self.0.len() as u64)
    }
}

/// A block with its directory read; ids and columns are read when they are asked for.
#[derive(Debug)]
pub struct Block {
    segment: Arc<Segment>,
    /// What the table says of it.
    pub summary: BlockSummary,
    /// Its columns.
    pub entries: Vec<ColumnEntry>,
    columns: Vec<OnceLock<std::result::Result<Column, String>>>,
    ids: OnceLock<std::result::Result<Vec<RunId>, String>>,
}

impl Block {
    /// Opens a block that is in memory alone, in no file yet.
    pub fn in_memory(block: &EncodedBlock) -> Result<Self> {
        let segment = Segment {
            name: String::new(),
            bytes: block.bytes.len() as u64,
            blocks: vec![BlockSummary { offset: 0, ..block.summary.clone() }],
            sources: Vec::new(),
            file: Box::new(InMemory(block.bytes.clone())),
            path: std::path::PathBuf::from("a new segment"),
        };
        Arc::new(segment).block(0)
    }

    /// The ids of its rows.
    pub fn ids(&self) -> Result<&[RunId]> {
        let read = || {
            let bytes = self.segment.read(&self.summary, &self.summary.ids, "ids").map_err(reason)?;
            block::decode_ids(&bytes, &self.summary)
        };
        match self.ids.get_or_init(read) {
            Ok(ids) => Ok(ids),
            Err(reason) => Err(self.segment.damaged(&self.summary, "ids", reason)),
        }
    }

    /// A column by its place in [`Block::entries`].
    pub fn column(&self, number: usize) -> Result<&Column> {
        let no_such = || self.segment.damaged(&self.summary, "directory", "no such column");
        let entry = self.entries.get(number).ok_or_else(no_such)?;
        let column = self.columns.get(number).ok_or_else(no_such)?.get_or_init(|| self.read_column(entry));
        column.as_ref().map_err(|reason| self.segment.damaged(&self.summary, &entry.path.join("."), reason))
    }

    fn read_column(&self, entry: &ColumnEntry) -> std::result::Result<Column, String> {
        let bytes = self.segment.read(&self.summary, &entry.chunk, "column").map_err(reason)?;
        let runs: Vec<i64> = match entry.kind {
            Kind::Time => self.ids().map_err(reason)?.iter().map(|run| run_microseconds(*run)).collect(),
            _ => Vec::new(),
        };
        Column::decode(entry.kind, self.summary.rows, entry.present, &entry.statistics, &bytes, &runs)
    }

    /// The columns at a path.
    pub fn columns_at<'b>(&'b self, path: &'b [&str]) -> impl Iterator<Item = usize> + 'b {
        let is_there = |entry: &ColumnEntry| entry.path.iter().map(String::as_str).eq(path.iter().copied());
        self.entries.iter().enumerate().filter(move |(_, entry)| is_there(entry)).map(|(number, _)| number)
    }

    /// Puts rows together. What of them cannot be read is left out, and handed to `damage`.
    pub fn rows(&self, wanted: std::ops::Range<usize>, damage: &mut dyn FnMut(Error)) -> Vec<Row> {
        let ids = match self.ids() {
            Ok(ids) => ids,
            Err(error) => {
                damage(error);
                return Vec::new();
            }
        };
        let mut columns = Vec::with_capacity(self.entries.len());
        for (number, entry) in self.entries.iter().enumerate() {
            match self.column(number) {
                Ok(column) => columns.push((entry, column)),
                Err(error) => damage(error),
            }
        }
        block::rows_of(ids, &columns, wanted)
    }

    /// Whether rows have further records, and the column that tells which.
    pub fn more(&self) -> Option<Result<&Column>> {
        self.columns_at(&[MORE]).next().map(|number| self.column(number))
    }

    /// The rows that have further records.
    pub fn rows_with_more(&self) -> impl Iterator<Item = Row> {
        let column = self.more().and_then(Result::ok);
        let rows = (0..self.summary.rows).filter(move |row| column.is_some_and(|column| column.has(*row)));
        rows.flat_map(|row| self.rows(row..row + 1, &mut |_| {}))
    }

    /// Reads everything in it and compares it with its checksums.
    pub fn check(&self, damage: &mut dyn FnMut(Error)) {
        if let Err(error) = self.ids() {
            damage(error);
        }
        for number in 0..self.entries.len() {
            if let Err(error) = self.column(number) {
                damage(error);
            }
        }
    }
}

/// The words of an error without the file, which is added where it is handed out.
fn reason(error: Error) -> String {
    match error {
        Error::Damaged { reason, .. } => reason,
        other => other.to_string(),
    }
}
