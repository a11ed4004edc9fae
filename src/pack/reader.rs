//! Opens a pack by its table and reads single frames out of it.

use super::compression::{FrameDecoder, MAX_FRAME_BYTES, decompress};
use super::format::{Codec, END, FILE, FOOTER_BYTES, HEADER_BYTES, ObjectKind, ObjectName, Prefix, decode_table};
use crate::error::{Error, Result};
use crate::file_footer::Footer;
use crate::file_header::Header;
use crate::id::{ObjectId, StoreId};
use crate::storage::Storage;

/// One read fetches the footer and, of most packs that captures write, the table and all else with it.
const TAIL_BYTES: usize = 4 << 10;
/// A table longer than this is taken for damage.
const MAX_TABLE_BYTES: u64 = 1 << 30;

/// A frame and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its first byte in the pack.
    pub offset: u64,
    /// Its length in the pack.
    pub stored_bytes: u64,
    /// Its length uncompressed.
    pub raw_bytes: usize,
    /// How it is stored.
    pub codec: Codec,
    /// What it was compressed against.
    pub prefix: Prefix,
    /// Its place in its chain of versions.
    pub chain_position: u32,
    /// Its first object's place in [`Pack::objects`], and the one after its last.
    pub objects: std::ops::Range<usize>,
}

/// An object and where it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Object {
    /// What it is.
    pub kind: ObjectKind,
    /// What the table says of its id.
    pub name: ObjectName,
    /// The place of its frame in [`Pack::frames`].
    pub frame: usize,
    /// Its first byte in the uncompressed frame.
    pub offset: usize,
    /// Its length.
    pub bytes: usize,
}

/// An opened pack: its table, with the places worked out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pack {
    /// The pack's path in the storage.
    pub path: String,
    /// The store that it belongs to.
    pub store: StoreId,
    /// The file's length.
    pub bytes: u64,
    /// How often its content has been merged: 0 as a capture wrote it.
    pub tier: u8,
    /// The frames in the order of the file.
    pub frames: Vec<Frame>,
    /// The objects in the order of the frames.
    pub objects: Vec<Object>,
}

impl Object {
    /// Its bytes in its decoded frame; fewer only where the frame is too short.
    pub fn bytes_in<'f>(&self, frame: &'f [u8]) -> &'f [u8] {
        frame.get(self.offset..self.offset.saturating_add(self.bytes)).unwrap_or_default()
    }

    /// Whether it may be the object of that kind and id: where the table has a key alone, only its content can tell.
    pub fn may_be(&self, kind: ObjectKind, id: ObjectId) -> bool {
        self.kind == kind && self.name.fits(id)
    }

    /// Whether `bytes` have the hash that it is named by.
    pub fn is_hash_of(&self, bytes: &[u8]) -> bool {
        // A chunk list is filed under its file's id: the file's hash is what it is checked by.
        self.kind == ObjectKind::ChunkList || self.name.fits(ObjectId::of(bytes))
    }
}

impl Pack {
    /// Reads and checks header, table and footer.
    pub fn open(storage: &dyn Storage, path: &str) -> Result<Self> {
        let damaged = || Error::damaged(storage.full_path(path), "its table is too long");
        Self::open_up_to(storage, path, MAX_TABLE_BYTES)?.ok_or_else(damaged)
    }

    /// Reads and checks header, table and footer, unless the table is longer than so many bytes: then `None`.
    pub fn open_up_to(storage: &dyn Storage, path: &str, table_bytes: u64) -> Result<Option<Self>> {
        let damaged = |reason: String| Error::damaged(storage.full_path(path), reason);
        let bytes = storage.length(path)?;
        if bytes < (HEADER_BYTES + FOOTER_BYTES) as u64 {
            return Err(damaged(format!("cut short to {bytes} bytes")));
        }
        let tail_bytes = usize::try_from(bytes).map_or(TAIL_BYTES, |bytes| bytes.min(TAIL_BYTES));
        let tail_offset = bytes - tail_bytes as u64;
        let tail = storage.read_range(path, tail_offset, tail_bytes)?;
        let head;
        let header = match tail_offset {
            0 => tail.get(..HEADER_BYTES),
            _ => {
                head = storage.read_range(path, 0, HEADER_BYTES)?;
                head.get(..HEADER_BYTES)
            }
        }
        .ok_or_else(|| damaged("cut short".into()))?;
        let store = match FILE.decode(header).map_err(damaged)? {
            Header::Known(store) => store,
            Header::Newer(version) => {
                return Err(Error::NewerFormat {
                    path: storage.full_path(path),
                    found: version.into(),
                    known: FILE.version.into(),
                });
            }
        };
        let footer_at = tail.len().checked_sub(FOOTER_BYTES).ok_or_else(|| damaged("cut short".into()))?;
        let footer = END.decode(tail.get(footer_at..).unwrap_or_default(), bytes).map_err(damaged)?;
        if footer.table_bytes > MAX_TABLE_BYTES {
            return Err(damaged(format!("a table of {} bytes", footer.table_bytes)));
        }
        if footer.table_bytes > table_bytes {
            return Ok(None);
        }
        let far;
        let table = match footer.table_offset.checked_sub(tail_offset) {
            Some(start) => tail.get(start as usize..footer_at).unwrap_or_default(),
            None => {
                far = storage.read_range(path, footer.table_offset, footer.table_bytes as usize)?;
                &far
            }
        };
        if Footer::of(header, table, footer.table_offset) != footer {
            return Err(damaged("the table's hash does not match".into()));
        }
        let table = decode_table(table).map_err(damaged)?;
        let mut pack = Self {
            path: path.to_owned(),
            store,
            bytes,
            tier: table.tier,
            frames: Vec::with_capacity(table.frames.len()),
            objects: Vec::new(),
        };
        let mut offset = HEADER_BYTES as u64;
        for (number, frame) in table.frames.into_iter().enumerate() {
            let first = pack.objects.len();
            let mut raw_bytes = 0usize;
            for object in frame.objects {
                let bytes = usize::try_from(object.bytes).unwrap_or(usize::MAX);
                let (kind, name) = (object.kind, object.name);
                pack.objects.push(Object { kind, name, frame: number, offset: raw_bytes, bytes });
                raw_bytes = raw_bytes.saturating_add(bytes);
            }
            if raw_bytes > MAX_FRAME_BYTES {
                return Err(damaged(format!("frame {number} has {raw_bytes} bytes, the limit is {MAX_FRAME_BYTES}")));
            }
            pack.frames.push(Frame {
                offset,
                stored_bytes: frame.stored_bytes,
                raw_bytes,
                codec: frame.codec,
                prefix: frame.prefix,
                chain_position: frame.chain_position,
                objects: first..pack.objects.len(),
            });
            offset = offset.saturating_add(frame.stored_bytes);
        }
        if offset != footer.table_offset {
            return Err(damaged("the frames do not fill the space before the table".into()));
        }
        Ok(Some(pack))
    }

    /// The uncompressed length of all its frames.
    pub fn raw_bytes(&self) -> usize {
        self.frames.iter().map(|frame| frame.raw_bytes).sum()
    }

    /// The name within the packs folder.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// Reads one frame and decodes it; `prefix` is the content that [`Frame::prefix`] names.
    ///
    /// Of a frame in [`Codec::Dense`] that is the dense form, which the caller has to lay out.
    /// The bytes are not checked against any id here: whoever takes an object out of them does.
    pub fn read_frame(&self, storage: &dyn Storage, frame: &Frame, prefix: &[u8]) -> Result<Vec<u8>> {
        let stored = self.read_stored(storage, frame)?;
        let damaged = |reason: String| self.damaged(storage, frame, &reason);
        match frame.codec {
            Codec::Plain => Ok(stored),
            Codec::Zstd => decompress(&stored, prefix, frame.raw_bytes).map_err(damaged),
            Codec::Dense(bytes) => decompress(&stored, &[], bytes).map_err(damaged),
        }
    }

    /// Says what is wrong with a frame.
    pub fn damaged(&self, storage: &dyn Storage, frame: &Frame, reason: &str) -> Error {
        Error::damaged(storage.full_path(&self.path), format!("frame at byte {}: {reason}", frame.offset))
    }

    /// Reads one frame as it is stored.
    pub fn read_stored(&self, storage: &dyn Storage, frame: &Frame) -> Result<Vec<u8>> {
        let damaged = |reason: &str| self.damaged(storage, frame, reason);
        let length = usize::try_from(frame.stored_bytes).unwrap_or(usize::MAX);
        if frame.offset.saturating_add(frame.stored_bytes) > self.bytes {
            return Err(damaged("lies beyond the end"));
        }
        let stored = storage.read_range(&self.path, frame.offset, length)?;
        if stored.len() != length {
            return Err(damaged("the file has become shorter"));
        }
        Ok(stored)
    }

    /// Reads all frames as they are stored, one after the other.
    pub fn read_all_stored(&self, storage: &dyn Storage) -> Result<Vec<u8>> {
        let length = self.frames.iter().map(|frame| frame.stored_bytes as usize).sum();
        let stored = storage.read_range(&self.path, HEADER_BYTES as u64, length)?;
        match stored.len() == length {
            true => Ok(stored),
            false => Err(Error::damaged(storage.full_path(&self.path), "the file has become shorter")),
        }
    }

    /// Decodes a stored frame in [`Codec::Zstd`] as far as the last of `wanted`, which are places in [`Pack::objects`] in
    /// ascending order, and hands over the bytes of these, unchecked; `sink` may take them away, and says whether it wants more.
    pub fn decode_objects(
        &self,
        frame: &Frame,
        stored: &[u8],
        prefix: &[u8],
        wanted: impl Iterator<Item = usize>,
        mut sink: impl FnMut(usize, &mut Vec<u8>) -> bool,
    ) -> Result<(), String> {
        let mut decoder = FrameDecoder::new(stored, prefix)?;
        let (mut at, mut bytes) = (0, Vec::new());
        for ordinal in wanted {
            let object = self.objects.get(ordinal).ok_or("an object that is not in the table")?;
            decoder.skip(object.offset.checked_sub(at).ok_or("objects out of order")?)?;
            at = object.offset.saturating_add(object.bytes);
            decoder.read(object.bytes, &mut bytes)?;
            if !sink(ordinal, &mut bytes) {
                return Ok(());
            }
        }
        if at == frame.raw_bytes { decoder.finish() } else { Ok(()) }
    }
}
