//! A segment's table and footer, as bytes.

use super::block::Chunk;
use super::row::Class;
use super::{BlockSummary, HEADER_BYTES, MAX_BLOCK_ROWS, bloom};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_footer::{self, FileEnd, Footer};
use crate::id::RunId;

/// The length of the footer.
pub const FOOTER_BYTES: usize = file_footer::BYTES;
/// What every segment ends with.
const END: FileEnd = FileEnd { word: "segment", magic: *b"RSSGEND\n" };
/// Table and footer together are never longer.
pub const MAX_TABLE_BYTES: u64 = 64 << 20;

/// A file whose records a segment has.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Source {
    /// The 16 hexadecimal digits that its name begins with.
    pub number: u64,
    /// Whether it is a segment; else a journal.
    pub is_segment: bool,
    /// How much of it the segment has, from its beginning.
    pub bytes: u64,
}

impl Source {
    /// Its name with its ending, which is `journal_ending` for a journal.
    pub fn file_name(&self, journal_ending: &str) -> String {
        format!("{:016x}{}", self.number, if self.is_segment { super::SEGMENT_ENDING } else { journal_ending })
    }

    /// The number that a file's name without its ending stands for; other names than those of the store are none.
    pub fn number_of(stem: &str) -> Option<u64> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        let is_number = stem.len() == 16 && stem.bytes().all(is_digit);
        if is_number { u64::from_str_radix(stem, 16).ok() } else { None }
    }
}

/// What the end of a segment says.
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    /// The blocks, in the order of the file.
    pub blocks: Vec<BlockSummary>,
    /// The files that it was made from.
    pub sources: Vec<Source>,
}

fn class_number(class: Class) -> u8 {
    match class {
        Class::Run => 0,
        Class::Orphan => 1,
        Class::Forgotten => 2,
    }
}

/// Encodes table and footer for a file with this header.
pub fn encode(header: &[u8], table: &Table) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, table.sources.len() as u64);
    for source in &table.sources {
        out.extend(source.number.to_be_bytes());
        out.push(u8::from(source.is_segment));
        push_varint(&mut out, source.bytes);
    }
    push_varint(&mut out, table.blocks.len() as u64);
    for block in &table.blocks {
        out.push(class_number(block.class));
        push_varint(&mut out, block.rows as u64);
        out.extend(block.first.0);
        out.extend(block.last.0);
        push_varint(&mut out, block.bytes);
        push_varint(&mut out, block.filter_bytes);
        block.ids.encode(&mut out);
        block.directory.encode(&mut out);
    }
    let offset = HEADER_BYTES as u64 + table.blocks.iter().map(|block| block.bytes).sum::<u64>();
    let footer = Footer::of(header, &out, offset);
    out.extend(END.encode(&footer));
    out
}

/// Decodes the footer of a file of `bytes` bytes.
pub fn decode_footer(footer: &[u8], bytes: u64) -> DecodeResult<Footer> {
    let footer = END.decode(footer, bytes)?;
    if footer.table_bytes > MAX_TABLE_BYTES {
        return Err(format!("a table of {} bytes", footer.table_bytes));
    }
    Ok(footer)
}

/// Decodes the table of a file with this header and this footer.
pub fn decode(header: &[u8], table: &[u8], footer: &Footer) -> DecodeResult<Table> {
    let table_offset = footer.table_offset;
    if Footer::of(header, table, table_offset) != *footer {
        return Err("the table does not have its hash".into());
    }
    let mut decoder = Decoder::new(table);
    let sources = (0..decoder.count(10)?).map(|_| decode_source(&mut decoder)).collect::<DecodeResult<Vec<_>>>()?;
    let mut offset = HEADER_BYTES as u64;
    let count = decoder.count(40)?;
    let mut blocks = Vec::with_capacity(count);
    for _ in 0..count {
        let block = decode_block(&mut decoder, offset)?;
        offset = offset.checked_add(block.bytes).ok_or("blocks longer than any file")?;
        blocks.push(block);
    }
    decoder.finish()?;
    if offset != table_offset {
        return Err("blocks of another length than the file".into());
    }
    Ok(Table { blocks, sources })
}

fn decode_source(decoder: &mut Decoder<'_>) -> DecodeResult<Source> {
    let number = u64::from_be_bytes(decoder.array()?);
    let is_segment = match decoder.u8()? {
        0 => false,
        1 => true,
        other => return Err(format!("source {other} is unknown")),
    };
    Ok(Source { number, is_segment, bytes: decoder.varint()? })
}

fn decode_block(decoder: &mut Decoder<'_>, offset: u64) -> DecodeResult<BlockSummary> {
    let class = match decoder.u8()? {
        0 => Class::Run,
        1 => Class::Orphan,
        2 => Class::Forgotten,
        other => return Err(format!("class {other} of blocks is unknown")),
    };
    let rows = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
    let (first, last) = (RunId(decoder.array()?), RunId(decoder.array()?));
    let (bytes, filter_bytes) = (decoder.varint()?, decoder.varint()?);
    let ids = Chunk::decode(decoder, &mut 0)?;
    // Its length is known only once it has been read; its place is the end of the block.
    let directory = Chunk::decode(decoder, &mut 0)?;
    let start = bytes.checked_sub(directory.stored_bytes as u64).ok_or("a directory longer than its block")?;
    if rows == 0 || rows > MAX_BLOCK_ROWS || first > last || ids.raw_bytes > 32 + 16 * rows {
        return Err("a block of impossible size".into());
    }
    if filter_bytes > bloom::longest(rows) {
        return Err("a filter of more names than rows".into());
    }
    if filter_bytes % 32 != 0 || filter_bytes.saturating_add(ids.stored_bytes as u64) > start {
        return Err("a block shorter than its parts".into());
    }
    let directory = Chunk { offset: start, ..directory };
    Ok(BlockSummary { class, rows, first, last, bytes, filter_bytes, ids, directory, offset })
}
