//! Writes one pack: frames as they come, then the table, then the flush and the rename that make it part of the store.

use super::compression::{Compressor, compress_always};
use super::format::{Codec, END, FILE, ObjectKind, ObjectName, Prefix, Table, TableFrame, TableObject, encode_table};
use super::reader::{Frame, Object, Pack};
use crate::error::Result;
use crate::file_footer::Footer;
use crate::id::{ObjectId, StoreId};
use crate::storage::{Storage, WriteFile, parent};

/// Bytes are gathered up to this length before they are handed to the operating system.
const BUFFER_BYTES: usize = 1 << 20;

/// A compressed frame, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PreparedFrame {
    stored: Vec<u8>,
    frame: TableFrame,
}

impl PreparedFrame {
    /// Compresses objects into one frame; `prefix` is the content that `prefix_ref` names, empty for none.
    pub fn new(
        objects: &[(ObjectKind, ObjectId, &[u8])],
        prefix_ref: Prefix,
        prefix: &[u8],
        chain_position: u32,
        level: i32,
    ) -> Self {
        Self::with(&mut Compressor::new(), objects, prefix_ref, prefix, chain_position, level)
    }

    /// [`PreparedFrame::new`] in the memory of a compressor.
    pub fn with<'p>(
        compressor: &mut Compressor<'p>,
        objects: &[(ObjectKind, ObjectId, &[u8])],
        prefix_ref: Prefix,
        prefix: &'p [u8],
        chain_position: u32,
        level: i32,
    ) -> Self {
        let raw: Vec<u8>;
        let raw = match objects {
            [(_, _, one)] => *one,
            several => {
                let parts: Vec<&[u8]> = several.iter().map(|(_, _, bytes)| *bytes).collect();
                raw = parts.concat();
                &raw
            }
        };
        let in_table = |&(kind, id, bytes): &(ObjectKind, ObjectId, &[u8])| TableObject {
            kind,
            name: ObjectName::of(kind, id),
            bytes: bytes.len() as u64,
        };
        let mut lengths: Vec<usize> = objects.iter().map(|(_, _, bytes)| bytes.len()).collect();
        lengths.sort_unstable();
        let typical = lengths.iter().rev().take(2).min().copied().unwrap_or(0);
        let objects: Vec<_> = objects.iter().map(in_table).collect();
        match compressor.compress_files(raw, prefix, level, typical) {
            Some(stored) => Self {
                frame: TableFrame {
                    stored_bytes: stored.len() as u64,
                    codec: Codec::Zstd,
                    prefix: prefix_ref,
                    chain_position,
                    objects,
                },
                stored,
            },
            None => Self {
                stored: raw.to_vec(),
                frame: TableFrame {
                    stored_bytes: raw.len() as u64,
                    codec: Codec::Plain,
                    prefix: Prefix::None,
                    chain_position: 0,
                    objects,
                },
            },
        }
    }

    /// Compresses trees and snapshots that are in their dense form, `dense`, and have `objects` as their kinds, ids and
    /// canonical lengths.
    pub fn dense(objects: &[(ObjectKind, ObjectId, u64)], dense: &[u8], level: i32) -> Self {
        let in_table = |&(kind, id, bytes): &(ObjectKind, ObjectId, u64)| TableObject {
            kind,
            name: ObjectName::of(kind, id),
            bytes,
        };
        let stored = compress_always(dense, level);
        Self {
            frame: TableFrame {
                stored_bytes: stored.len() as u64,
                codec: Codec::Dense(dense.len()),
                prefix: Prefix::None,
                chain_position: 0,
                objects: objects.iter().map(in_table).collect(),
            },
            stored,
        }
    }

    /// A frame as it is stored in a pack, to be copied into another: not one in [`Codec::Dense`], which names files by their
    /// places in its own.
    pub fn stored(pack: &Pack, frame: &Frame, stored: Vec<u8>) -> Self {
        let in_table =
            |object: &Object| TableObject { kind: object.kind, name: object.name, bytes: object.bytes as u64 };
        let objects = pack.objects.get(frame.objects.clone()).unwrap_or_default();
        Self {
            frame: TableFrame {
                stored_bytes: stored.len() as u64,
                codec: frame.codec,
                prefix: frame.prefix,
                chain_position: frame.chain_position,
                objects: objects.iter().map(in_table).collect(),
            },
            stored,
        }
    }

    /// Counts the objects that a [`Prefix::Here`] names from `first` on.
    #[must_use]
    pub fn based_on(mut self, first: u32) -> Self {
        if let Prefix::Here(ordinal) = &mut self.frame.prefix {
            *ordinal += first;
        }
        self
    }

    /// Its objects' kinds and names.
    pub fn objects(&self) -> impl Iterator<Item = (ObjectKind, ObjectName)> {
        self.frame.objects.iter().map(|object| (object.kind, object.name))
    }

    /// Its place in its chain of versions.
    pub fn chain_position(&self) -> u32 {
        self.frame.chain_position
    }

    /// What is stored of it, where that is a difference to other content.
    pub fn difference(&self) -> Option<&[u8]> {
        (self.frame.codec == Codec::Zstd && self.frame.prefix != Prefix::None).then_some(self.stored.as_slice())
    }

    /// The length in the pack.
    pub fn stored_bytes(&self) -> u64 {
        self.frame.stored_bytes
    }
}

/// What a finished pack is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackSummary {
    /// Its path in the storage.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its tier.
    pub tier: u8,
    /// The length of its content.
    pub raw_bytes: u64,
    /// The keys of its objects.
    pub keys: Vec<u64>,
}

impl PackSummary {
    /// Its name, without folder and ending.
    pub fn name(&self) -> &str {
        let name = self.path.rsplit('/').next().unwrap_or_default();
        name.split_once('.').map_or(name, |(name, _)| name)
    }
}

/// A pack under its temporary name. Dropped before [`PackWriter::finish`], it removes what it wrote.
pub struct PackWriter<'a> {
    storage: &'a dyn Storage,
    temporary: String,
    file: Option<Box<dyn WriteFile>>,
    buffer: Vec<u8>,
    header: [u8; super::format::HEADER_BYTES],
    table: Table,
    objects: u32,
    offset: u64,
}

impl<'a> PackWriter<'a> {
    /// Creates the file under its temporary name.
    pub fn create(storage: &'a dyn Storage, temporary: String, store: StoreId, tier: u8) -> Result<Self> {
        let file = storage.create(&temporary)?;
        let header = FILE.encode(store);
        Ok(Self {
            storage,
            temporary,
            file: Some(file),
            buffer: header.to_vec(),
            header,
            table: Table { tier, frames: Vec::new() },
            objects: 0,
            offset: header.len() as u64,
        })
    }

    /// The bytes written so far.
    pub fn bytes(&self) -> u64 {
        self.offset
    }

    /// How many objects it has: the place in the table that the next one gets.
    pub fn objects(&self) -> u32 {
        self.objects
    }

    /// Appends a frame.
    pub fn add(&mut self, frame: PreparedFrame) -> Result<()> {
        self.offset += frame.frame.stored_bytes;
        self.objects += frame.frame.objects.len() as u32;
        self.buffer.extend(frame.stored);
        self.table.frames.push(frame.frame);
        if self.buffer.len() >= BUFFER_BYTES { self.write_buffer() } else { Ok(()) }
    }

    fn write_buffer(&mut self) -> Result<()> {
        let buffer = std::mem::take(&mut self.buffer);
        self.file.as_mut().map_or(Ok(()), |file| file.write(&buffer))
    }

    /// Writes the table, flushes the file and gives it its name; once this returns the pack survives a power cut.
    pub fn finish(mut self, path: &str) -> Result<PackSummary> {
        let table = encode_table(&self.table);
        let footer = END.encode(&Footer::of(&self.header, &table, self.offset));
        self.buffer.extend(&table);
        self.buffer.extend(&footer);
        self.write_buffer()?;
        if let Some(mut file) = self.file.take() {
            file.sync().inspect_err(|_| drop(self.storage.remove(&self.temporary)))?;
        }
        let named = match self.storage.rename(&self.temporary, path) {
            Err(error) if error.is_not_found() => {
                self.storage.create_folder(parent(path))?;
                self.storage.sync_folder("").and_then(|()| self.storage.rename(&self.temporary, path))
            }
            named => named,
        };
        named.inspect_err(|_| drop(self.storage.remove(&self.temporary)))?;
        self.storage.sync_folder(parent(path))?;
        let raw_bytes = |frame: &TableFrame| match frame.codec {
            Codec::Dense(bytes) => bytes as u64,
            _ => frame.objects.iter().map(|object| object.bytes).sum(),
        };
        let objects = self.table.frames.iter().flat_map(|frame| &frame.objects);
        Ok(PackSummary {
            path: path.to_owned(),
            bytes: self.offset + (table.len() + footer.len()) as u64,
            tier: self.table.tier,
            raw_bytes: self.table.frames.iter().map(raw_bytes).sum(),
            keys: objects.map(|object| object.name.key()).collect(),
        })
    }
}

impl Drop for PackWriter<'_> {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            // An unfinished pack is of no use to anybody; gc finds it if even this fails.
            let _ = self.storage.remove(&self.temporary);
        }
    }
}
