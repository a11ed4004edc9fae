//! The bytes of a pack's header, table and footer, as `schema/pack.md` lays them down. No I/O here.

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_header::{self, FileKind};
use crate::id::ObjectId;

/// What every pack begins with.
pub const FILE: FileKind = FileKind { word: "pack", magic: *b"RUNSNAPK", version: 1 };
/// The last bytes of every pack.
pub const END_MAGIC: [u8; 8] = *b"RSPKEND\n";
/// The length of the header.
pub const HEADER_BYTES: usize = file_header::BYTES;
/// The highest place in a chain of versions: at most 8 frames are decoded before the one wanted.
pub const MAX_CHAIN_POSITION: u32 = 255;
/// The length of the footer.
pub const FOOTER_BYTES: usize = 56;

/// What an object is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum ObjectKind {
    /// A piece of file content; its id is the hash of its bytes.
    Chunk = 1,
    /// The chunks of one file, under the file's id.
    ChunkList = 2,
    /// One directory.
    Tree = 3,
    /// The trees of one snapshot.
    Snapshot = 4,
}

impl ObjectKind {
    fn from_byte(byte: u8) -> DecodeResult<Self> {
        match byte {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::ChunkList),
            3 => Ok(Self::Tree),
            4 => Ok(Self::Snapshot),
            _ => Err(format!("object kind {byte} is unknown")),
        }
    }

    /// The word for it in messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Chunk => "chunk",
            Self::ChunkList => "chunk list",
            Self::Tree => "tree",
            Self::Snapshot => "snapshot",
        }
    }
}

/// How a frame's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Codec {
    /// As they are.
    Plain = 0,
    /// One zstd frame.
    Zstd = 1,
}

/// The content that a frame was compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Nothing: the frame decodes alone.
    None,
    /// An object of any pack, named by its [`ObjectId::key`].
    Anywhere(u64),
    /// An object of this pack, named by its place in the table.
    Here(u32),
}

/// One object in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableObject {
    /// What it is.
    pub kind: ObjectKind,
    /// Its id.
    pub id: ObjectId,
    /// Its length, uncompressed.
    pub bytes: u64,
}

/// One frame in the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableFrame {
    /// The length in the pack.
    pub stored_bytes: u64,
    /// How it is stored.
    pub codec: Codec,
    /// What it was compressed against.
    pub prefix: Prefix,
    /// The place in its chain of versions: 0 for a frame without prefix. The number of prefixes to decode before it is
    /// at most the number of one bits in it.
    pub chain_position: u32,
    /// The objects in it, in the order of their bytes.
    pub objects: Vec<TableObject>,
}

/// Where a pack's table is, and the hash that holds header and table together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Footer {
    /// Where the table begins.
    pub table_offset: u64,
    /// The table's length.
    pub table_bytes: u64,
    /// BLAKE3 over header, table and the two fields above.
    pub hash: [u8; 32],
}

/// Encodes the table.
pub fn encode_table(frames: &[TableFrame]) -> Vec<u8> {
    let mut out = Vec::new();
    push_varint(&mut out, frames.len() as u64);
    for frame in frames {
        push_varint(&mut out, frame.stored_bytes);
        out.push(frame.codec as u8);
        match frame.prefix {
            Prefix::None => push_varint(&mut out, 0),
            Prefix::Anywhere(key) => {
                push_varint(&mut out, 1);
                out.extend(key.to_be_bytes());
            }
            Prefix::Here(ordinal) => push_varint(&mut out, u64::from(ordinal) + 2),
        }
        push_varint(&mut out, u64::from(frame.chain_position));
        push_varint(&mut out, frame.objects.len() as u64);
        for object in &frame.objects {
            out.push(object.kind as u8);
            push_varint(&mut out, object.bytes);
            out.extend(object.id.0);
        }
    }
    out
}

/// Decodes the table.
pub fn decode_table(bytes: &[u8]) -> DecodeResult<Vec<TableFrame>> {
    let mut decoder = Decoder::new(bytes);
    let frame_count = decoder.count(5)?;
    let mut frames = Vec::with_capacity(frame_count);
    for _ in 0..frame_count {
        let stored_bytes = decoder.varint()?;
        let codec = match decoder.u8()? {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            other => return Err(format!("codec {other} is unknown")),
        };
        let prefix = match decoder.varint()? {
            0 => Prefix::None,
            1 => Prefix::Anywhere(u64::from_be_bytes(decoder.array()?)),
            other => Prefix::Here(u32::try_from(other - 2).map_err(|_| "a prefix beyond the table")?),
        };
        let position = decoder.varint()?;
        let chain_position = u32::try_from(position).ok().filter(|position| *position <= MAX_CHAIN_POSITION);
        let chain_position = chain_position.ok_or_else(|| format!("a chain position of {position}"))?;
        if (prefix == Prefix::None) != (chain_position == 0) || (codec == Codec::Plain && prefix != Prefix::None) {
            return Err("a frame whose prefix does not go with its chain position or codec".into());
        }
        let count = decoder.count(34)?;
        let mut objects = Vec::with_capacity(count);
        let mut raw_bytes = 0u64;
        for _ in 0..count {
            let kind = ObjectKind::from_byte(decoder.u8()?)?;
            let bytes = decoder.varint()?;
            if bytes == 0 {
                return Err("an object without bytes".into());
            }
            raw_bytes = raw_bytes.checked_add(bytes).ok_or("a frame of over 64 bits of length")?;
            objects.push(TableObject { kind, id: ObjectId(decoder.array()?), bytes });
        }
        if count == 0 || stored_bytes == 0 {
            return Err("a frame without content".into());
        }
        if codec == Codec::Plain && raw_bytes != stored_bytes {
            return Err("a plain frame whose lengths differ".into());
        }
        frames.push(TableFrame { stored_bytes, codec, prefix, chain_position, objects });
    }
    decoder.finish()?;
    Ok(frames)
}

/// The hash that the footer carries.
pub fn table_hash(header: &[u8], table: &[u8], table_offset: u64) -> [u8; 32] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(header).update(table);
    hasher.update(&table_offset.to_le_bytes()).update(&(table.len() as u64).to_le_bytes());
    *hasher.finalize().as_bytes()
}

/// Encodes the footer.
pub fn encode_footer(footer: &Footer) -> Vec<u8> {
    let mut out = Vec::with_capacity(FOOTER_BYTES);
    out.extend(footer.table_offset.to_le_bytes());
    out.extend(footer.table_bytes.to_le_bytes());
    out.extend(footer.hash);
    out.extend(END_MAGIC);
    out
}

/// Decodes the footer of a pack of `pack_bytes` bytes.
pub fn decode_footer(bytes: &[u8], pack_bytes: u64) -> DecodeResult<Footer> {
    let mut decoder = Decoder::new(bytes);
    let footer = Footer { table_offset: decoder.u64()?, table_bytes: decoder.u64()?, hash: decoder.array()? };
    if decoder.array::<8>()? != END_MAGIC {
        return Err("does not end as a pack: cut short or overwritten".into());
    }
    let end = footer.table_offset.checked_add(footer.table_bytes).and_then(|end| end.checked_add(FOOTER_BYTES as u64));
    if footer.table_offset < HEADER_BYTES as u64 || end != Some(pack_bytes) {
        return Err("the footer does not fit the file's length".into());
    }
    Ok(footer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Vec<TableFrame> {
        let object = |byte: u8, bytes| TableObject { kind: ObjectKind::Chunk, id: ObjectId([byte; 32]), bytes };
        vec![
            TableFrame {
                stored_bytes: 10,
                codec: Codec::Plain,
                prefix: Prefix::None,
                chain_position: 0,
                objects: vec![object(1, 4), object(2, 6)],
            },
            TableFrame {
                stored_bytes: 300,
                codec: Codec::Zstd,
                prefix: Prefix::Anywhere(77),
                chain_position: 3,
                objects: vec![object(3, 70_000)],
            },
            TableFrame {
                stored_bytes: 3,
                codec: Codec::Zstd,
                prefix: Prefix::Here(0),
                chain_position: 1,
                objects: vec![object(4, 9)],
            },
        ]
    }

    #[test]
    fn table_round_trips() {
        assert_eq!(decode_table(&encode_table(&sample())), Ok(sample()));
        assert_eq!(decode_table(&encode_table(&[])), Ok(Vec::new()));
    }

    proptest! {
        #[test]
        fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length in any::<u64>()) {
            let _ = FILE.decode(&bytes);
            let _ = decode_footer(&bytes, length);
            if let Ok(frames) = decode_table(&bytes) {
                prop_assert_eq!(encode_table(&frames), bytes);
            }
        }

        #[test]
        fn damaged_tables_never_panic(at in 0usize..200, byte in any::<u8>()) {
            let mut bytes = encode_table(&sample());
            let at = at % bytes.len();
            bytes[at] = byte;
            let _ = decode_table(&bytes);
        }
    }
}
