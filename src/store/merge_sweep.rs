//! The rows of many blocks in the order of their ids, as the blocks of one segment.

use std::sync::Arc;

use rayon::prelude::*;

use crate::error::{Error, Result};
use crate::id::RunId;
use crate::segment::{BLOCK_ROWS, Block, Class, EncodedBlock, Row, Segment, SegmentWriter, encode_block};

/// So many rows are put together at a time.
const DECODED_ROWS: usize = 1024;
/// A block with fewer rows is joined with its neighbours rather than copied.
const COPIED_ROWS: usize = BLOCK_ROWS / 2;

/// Decodes a block again and compares it with the rows that it was made of.
pub fn check_block(block: &EncodedBlock, rows: &[Row]) -> Result<()> {
    let opened = Block::in_memory(block)?;
    decode_rows(&opened, 0..0)?;
    let slices: Vec<usize> = (0..rows.len()).step_by(DECODED_ROWS).collect();
    let is_same = |from: &usize| -> Result<bool> {
        let expected = rows.get(*from..rows.len().min(from + DECODED_ROWS)).unwrap_or_default();
        let back = decode_rows(&opened, *from..from + expected.len())?;
        Ok(back.len() == expected.len() && back.iter().zip(expected).all(|(a, b)| a.is_same(b)))
    };
    let same = slices.par_iter().map(is_same).collect::<Result<Vec<bool>>>()?;
    if same.into_iter().all(|same| same) && opened.summary.rows == rows.len() {
        return Ok(());
    }
    Err(Error::damaged("a new segment", "a block does not decode to what was encoded; nothing was removed"))
}

fn decode_rows(block: &Block, wanted: std::ops::Range<usize>) -> Result<Vec<Row>> {
    let mut damage = None;
    let rows = block.rows(wanted, &mut |error| damage = Some(error));
    damage.map_or(Ok(rows), Err)
}

/// The rows of a block that is being merged, a few of them in memory.
struct Cursor {
    block: Block,
    next: usize,
    rows: std::iter::Peekable<std::vec::IntoIter<Row>>,
}

impl Cursor {
    fn new(block: Block) -> Result<Self> {
        let mut cursor = Self { block, next: 0, rows: Vec::new().into_iter().peekable() };
        cursor.fill()?;
        Ok(cursor)
    }

    fn fill(&mut self) -> Result<()> {
        if self.rows.peek().is_none() && self.next < self.block.summary.rows {
            let end = self.block.summary.rows.min(self.next + DECODED_ROWS);
            self.rows = decode_rows(&self.block, self.next..end)?.into_iter().peekable();
            self.next = end;
        }
        Ok(())
    }

    fn run(&mut self) -> Option<RunId> {
        self.rows.peek().map(|row| row.run)
    }

    fn take(&mut self, run: RunId) -> Result<Option<Row>> {
        let row = self.rows.next_if(|row| row.run == run);
        self.fill()?;
        Ok(row)
    }
}

/// A block to be merged.
pub struct Part {
    first: RunId,
    last: RunId,
    rows: usize,
    class: Class,
    from: From,
}

enum From {
    Segment(Arc<Segment>, usize),
    Memory(EncodedBlock),
}

impl Part {
    /// A block of a segment.
    pub fn of_segment(segment: &Arc<Segment>, number: usize) -> Self {
        let summary = segment.blocks.get(number);
        let id = RunId([0; 16]);
        Self {
            first: summary.map_or(id, |summary| summary.first),
            last: summary.map_or(id, |summary| summary.last),
            rows: summary.map_or(0, |summary| summary.rows),
            class: summary.map_or(Class::Run, |summary| summary.class),
            from: From::Segment(Arc::clone(segment), number),
        }
    }

    /// A block that is in memory alone.
    pub fn in_memory(block: EncodedBlock) -> Self {
        let summary = &block.summary;
        let (first, last, rows, class) = (summary.first, summary.last, summary.rows, summary.class);
        Self { first, last, rows, class, from: From::Memory(block) }
    }

    fn open(&self) -> Result<Block> {
        match &self.from {
            From::Segment(segment, number) => segment.block(*number),
            From::Memory(block) => Block::in_memory(block),
        }
    }

    /// The block as it is.
    fn into_encoded(self) -> Result<EncodedBlock> {
        match self.from {
            From::Segment(segment, number) => {
                let no_such = || Error::damaged(segment.path(), "it has no such block");
                segment.copy_of(segment.blocks.get(number).ok_or_else(no_such)?)
            }
            From::Memory(block) => Ok(block),
        }
    }
}

/// Where merged rows go.
pub struct Output<'w, 's> {
    writer: &'w mut SegmentWriter<'s>,
    /// Rows that wait to be enough for a block, by class.
    waiting: [Vec<Row>; 3],
    /// The hash of each block.
    written: Vec<[u8; 32]>,
}

impl<'w, 's> Output<'w, 's> {
    /// Nothing is waiting and nothing written.
    pub fn new(writer: &'w mut SegmentWriter<'s>) -> Self {
        Self { writer, waiting: Default::default(), written: Vec::new() }
    }

    fn push(&mut self, row: Row) -> Result<()> {
        let class = row.class();
        let Some(waiting) = self.waiting.get_mut(class as usize) else { return Ok(()) };
        waiting.push(row);
        if waiting.len() == BLOCK_ROWS { self.flush(class) } else { Ok(()) }
    }

    fn flush(&mut self, class: Class) -> Result<()> {
        let Some(waiting) = self.waiting.get_mut(class as usize) else { return Ok(()) };
        let rows = std::mem::take(waiting);
        if rows.is_empty() {
            return Ok(());
        }
        let block = encode_block(class, &rows);
        check_block(&block, &rows)?;
        self.copy(block)
    }

    fn copy(&mut self, block: EncodedBlock) -> Result<()> {
        self.written.push(*blake3::hash(&block.bytes).as_bytes());
        self.writer.push(block)
    }

    /// Writes what waits; the hashes of all blocks.
    pub fn finish(mut self) -> Result<Vec<[u8; 32]>> {
        for class in [Class::Run, Class::Orphan, Class::Forgotten] {
            self.flush(class)?;
        }
        Ok(self.written)
    }
}

/// Goes through all blocks in the order of ids: blocks that overlap with no other are copied, all others merged row by
/// row. As many blocks are in memory as overlap at one place.
pub fn sweep(mut parts: Vec<Part>, out: &mut Output<'_, '_>) -> Result<()> {
    parts.sort_by_key(|part| std::cmp::Reverse(part.first));
    let mut open: Vec<Cursor> = Vec::new();
    loop {
        let next = open.iter_mut().filter_map(Cursor::run).min();
        let coming = parts.last().map(|part| part.first);
        let run = match (next, coming) {
            (None, None) => return Ok(()),
            (Some(next), coming) if coming.is_none_or(|coming| next < coming) => next,
            (next, Some(_)) => {
                let Some(part) = parts.pop() else { return Ok(()) };
                let is_alone = next.is_none_or(|next| part.last < next)
                    && parts.last().is_none_or(|other| part.last < other.first);
                if is_alone && part.class == Class::Run && part.rows >= COPIED_ROWS {
                    out.flush(Class::Run)?;
                    out.copy(part.into_encoded()?)?;
                } else {
                    open.push(Cursor::new(part.open()?)?);
                }
                continue;
            }
            (Some(next), None) => next,
        };
        let same = open.iter_mut().map(|cursor| cursor.take(run)).collect::<Result<Vec<Option<Row>>>>()?;
        open.retain_mut(|cursor| cursor.run().is_some());
        if let Some(row) = Row::join(same.into_iter().flatten().collect()) {
            out.push(row)?;
        }
    }
}
