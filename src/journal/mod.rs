//! Journals: append-only files of run records, one per writer.
//!
//! The bytes are described in `schema/store.md`. A record is committed once it has been appended and flushed; what a
//! killed writer left unfinished at the end is no record, and damage in the middle costs the records that it hits alone,
//! because a reader finds the next one by its marker.

mod payload;
mod scan;

use crate::checksum;
use crate::error::{Error, Result};
use crate::file_header::{self, FileKind};
use crate::id::StoreId;
use crate::storage::{Storage, WriteFile, parent};

pub use payload::{decode_name, decode_record, decode_value, encode_record};
pub use scan::{Item, mend, scan};

/// What every journal begins with.
pub const FILE: FileKind = FileKind { word: "journal", magic: *b"RUNSNAPJ", version: 1 };
/// The length of the header.
pub const HEADER_BYTES: usize = file_header::BYTES;
/// The bytes before a record's payload: marker and length.
pub const RECORD_HEAD_BYTES: usize = 8;
/// The bytes after a record's payload: its checksum.
pub const RECORD_TAIL_BYTES: usize = checksum::BYTES;
/// The first bytes of every record.
pub const MARKER: [u8; 4] = [0xf2, b'r', b'u', b'n'];
/// A record's payload is never longer.
pub const MAX_PAYLOAD_BYTES: usize = 16 << 20;
/// A journal is read only up to this length.
pub const MAX_JOURNAL_BYTES: u64 = 1 << 30;
/// A writer goes on in a new journal once one is this long.
pub const ROTATE_BYTES: u64 = 1 << 20;

/// Encodes the header.
pub fn encode_header(store: StoreId) -> [u8; HEADER_BYTES] {
    FILE.encode(store)
}

/// Appends one payload as a record.
fn push_framed(out: &mut Vec<u8>, payload: &[u8]) {
    let from = out.len();
    out.reserve(RECORD_HEAD_BYTES + payload.len() + RECORD_TAIL_BYTES);
    out.extend(MARKER);
    out.extend((payload.len() as u32).to_le_bytes());
    out.extend_from_slice(payload);
    out.extend(checksum::of(out.get(from..).unwrap_or_default()));
}

/// A journal open for appending.
pub struct JournalWriter {
    file: Box<dyn WriteFile>,
    bytes: u64,
}

impl JournalWriter {
    /// Creates a journal; its name is durable once this returns, its records once [`JournalWriter::append`] does.
    pub fn create(storage: &dyn Storage, path: &str, store: StoreId) -> Result<Self> {
        let mut file = storage.create(path)?;
        let header = encode_header(store);
        let written = file.write(&header).and_then(|()| file.sync()).and_then(|()| storage.sync_folder(parent(path)));
        if let Err(error) = written {
            // A journal without a header is of no use; a leftover is reported by verify as what it is.
            let _ = storage.remove(path);
            return Err(error);
        }
        Ok(Self { file, bytes: header.len() as u64 })
    }

    /// Goes on in an existing journal of which `flushed` bytes are whole records for sure; `None` where the rest is not,
    /// or it is no journal of this store, is shorter than that, or full.
    pub fn reopen(storage: &dyn Storage, path: &str, store: StoreId, flushed: u64) -> Result<Option<Self>> {
        let Ok(file) = storage.append(path) else { return Ok(None) };
        let bytes = file.length()?;
        if bytes < flushed || bytes >= ROTATE_BYTES || file.read_range(0, HEADER_BYTES)? != encode_header(store) {
            return Ok(None);
        }
        // A writer that was killed before its note may have left a whole record, or a piece of one.
        let tail = if bytes > flushed { file.read_range(flushed, (bytes - flushed) as usize)? } else { Vec::new() };
        let is_whole = scan(&tail).all(|item| matches!(item, Item::Record { .. }));
        Ok(is_whole.then_some(Self { file, bytes }))
    }

    /// The length after the last record.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Appends records and flushes them: the commit point.
    ///
    /// After an error the journal's end is unknown: drop the writer and go on in a new journal.
    pub fn append(&mut self, payloads: &[Vec<u8>]) -> Result<()> {
        self.write(payloads)?;
        self.file.sync()
    }

    /// Flushes what was written.
    ///
    /// After an error nobody knows what of the journal is on the disk: drop the writer and go on in a new journal.
    pub fn sync(&mut self) -> Result<()> {
        self.file.sync()
    }

    /// Appends records. They survive the end of the process, and a power cut once the journal has been flushed.
    ///
    /// After an error the journal's end is unknown: drop the writer and go on in a new journal.
    pub fn write(&mut self, payloads: &[Vec<u8>]) -> Result<()> {
        if let Some(long) = payloads.iter().find(|p| p.len() > MAX_PAYLOAD_BYTES) {
            return Err(Error::Usage(format!(
                "A run record of {} bytes is over the limit of {MAX_PAYLOAD_BYTES}",
                long.len()
            )));
        }
        let mut records = Vec::new();
        for payload in payloads {
            push_framed(&mut records, payload);
        }
        self.file.write(&records)?;
        self.bytes += records.len() as u64;
        Ok(())
    }
}
