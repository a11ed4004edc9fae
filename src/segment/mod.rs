//! Segments: immutable files of run records in columns, into which journals are merged.
//!
//! The bytes are described in `schema/segment.md`. A segment is a row of blocks, each of which can be read by itself, and
//! a table that says what they hold. What records mean, and when a segment is written or removed, is not known here.

mod block;
mod bloom;
mod column;
mod numbers;
mod reader;
mod row;
mod table;
mod writer;

use crate::file_header::{self, FileKind};
use crate::id::RunId;

pub use block::{Chunk, ColumnEntry, EncodedBlock, MORE, encode as encode_block};
pub use bloom::{GROUP_BYTES as NAME_GROUP_BYTES, NameHash};
pub use column::{Column, Kind, Statistics};
pub use reader::{Block, Segment};
pub use row::{Class, Fields, Part, Row, fields_of};
pub use table::Source;
pub use writer::SegmentWriter;

/// What every segment begins with.
pub const FILE: FileKind = FileKind { word: "segment", magic: *b"RUNSNAPS", version: 1 };
/// The length of the header.
pub const HEADER_BYTES: usize = file_header::BYTES;
/// The ending of a segment's name.
pub const SEGMENT_ENDING: &str = ".segment";
/// A block is written once it has so many rows.
pub const BLOCK_ROWS: usize = 8192;
/// A block with more rows is refused.
pub const MAX_BLOCK_ROWS: usize = 65_536;
/// The zstd level of columns.
const LEVEL: i32 = 6;

/// What a segment's table says of a block.
#[derive(Debug, Clone, PartialEq)]
pub struct BlockSummary {
    /// What its rows have in common.
    pub class: Class,
    /// How many rows it has.
    pub rows: usize,
    /// The run of its first row.
    pub first: RunId,
    /// The run of its last row.
    pub last: RunId,
    /// Its length in the file.
    pub bytes: u64,
    /// The length of its filter of names, which ends where the directory begins.
    pub filter_bytes: u64,
    /// Its ids, with which it begins.
    pub ids: Chunk,
    /// Its directory, with which it ends.
    pub directory: Chunk,
    /// Where it begins in the file.
    pub offset: u64,
}
