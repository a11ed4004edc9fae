//! Writes a segment.

use super::block::EncodedBlock;
use super::table::{self, Source, Table};
use super::{BlockSummary, FILE, HEADER_BYTES};
use crate::error::Result;
use crate::id::StoreId;
use crate::storage::{Storage, WriteFile};

/// A segment being written under a temporary name.
pub struct SegmentWriter<'s> {
    storage: &'s dyn Storage,
    file: Box<dyn WriteFile>,
    temporary: String,
    header: [u8; HEADER_BYTES],
    offset: u64,
    blocks: Vec<BlockSummary>,
}

impl<'s> SegmentWriter<'s> {
    /// Begins a segment.
    pub fn create(storage: &'s dyn Storage, temporary: String, store: StoreId) -> Result<Self> {
        let mut file = storage.create(&temporary)?;
        let header = FILE.encode(store);
        file.write(&header)?;
        Ok(Self { storage, file, temporary, header, offset: HEADER_BYTES as u64, blocks: Vec::new() })
    }

    /// Appends a block.
    pub fn push(&mut self, block: EncodedBlock) -> Result<()> {
        self.file.write(&block.bytes)?;
        self.blocks.push(BlockSummary { offset: self.offset, ..block.summary });
        self.offset += block.bytes.len() as u64;
        Ok(())
    }

    /// How many rows it has so far.
    pub fn rows(&self) -> usize {
        self.blocks.iter().map(|block| block.rows).sum()
    }

    /// Writes the table, flushes the file and gives it its name, which is durable once this returns. Its length.
    pub fn finish(mut self, path: &str, sources: Vec<Source>) -> Result<u64> {
        let tail = table::encode(&self.header, &Table { blocks: self.blocks, sources });
        self.file.write(&tail)?;
        self.file.sync()?;
        self.storage.rename(&self.temporary, path)?;
        self.storage.sync_folder(crate::storage::parent(path))?;
        Ok(self.offset + tail.len() as u64)
    }

    /// Gives it up.
    pub fn discard(self) {
        // A leftover that cannot be removed is swept up by gc.
        let _ = self.storage.remove(&self.temporary);
    }
}
