//! The 56 bytes that packs and segments both end with: where the table before them is, and the hash that holds header
//! and table together.

use crate::decode::{DecodeResult, Decoder};
use crate::file_header;

/// The length of the footer.
pub const BYTES: usize = 56;

/// The kind of file that a footer ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileEnd {
    /// Its word in messages.
    pub word: &'static str,
    /// Its last bytes.
    pub magic: [u8; 8],
}

/// Where a file's table is, and the hash that holds header and table together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the table begins.
    pub table_offset: u64,
    /// The table's length.
    pub table_bytes: u64,
    /// BLAKE3 over header, table and the two fields above.
    pub hash: [u8; 32],
}

impl Footer {
    /// The footer of a file with that header and that table.
    pub fn of(header: &[u8], table: &[u8], table_offset: u64) -> Self {
        let table_bytes = table.len() as u64;
        let mut hasher = blake3::Hasher::new();
        hasher.update(header).update(table);
        hasher.update(&table_offset.to_le_bytes()).update(&table_bytes.to_le_bytes());
        Self { table_offset, table_bytes, hash: *hasher.finalize().as_bytes() }
    }
}

impl FileEnd {
    /// Encodes a footer.
    pub fn encode(&self, footer: &Footer) -> Vec<u8> {
        let mut out = Vec::with_capacity(BYTES);
        out.extend(footer.table_offset.to_le_bytes());
        out.extend(footer.table_bytes.to_le_bytes());
        out.extend(footer.hash);
        out.extend(self.magic);
        out
    }

    /// Decodes the footer of a file of `file_bytes` bytes. The hash is for the caller to compare, once it has the table.
    pub fn decode(&self, bytes: &[u8], file_bytes: u64) -> DecodeResult<Footer> {
        let mut decoder = Decoder::new(bytes);
        let footer = Footer { table_offset: decoder.u64()?, table_bytes: decoder.u64()?, hash: decoder.array()? };
        if decoder.array::<8>()? != self.magic {
            return Err(format!("does not end as a {}: cut short or overwritten", self.word));
        }
        let end = footer.table_offset.checked_add(footer.table_bytes).and_then(|end| end.checked_add(BYTES as u64));
        if footer.table_offset < file_header::BYTES as u64 || end != Some(file_bytes) {
            return Err("the footer does not fit the file's length".into());
        }
        Ok(footer)
    }
}
