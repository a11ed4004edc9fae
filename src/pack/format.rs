//! The bytes of a pack's header, table and footer, as `schema/pack.md` lays them down. No I/O here.

use super::compression::{MAX_FRAME_BYTES, compress, decompress};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::file_footer::{self, FileEnd};
use crate::file_header::{self, FileKind};
use crate::id::ObjectId;

/// What every pack begins with.
pub const FILE: FileKind = FileKind { word: "pack", magic: *b"RUNSNAPK", version: 1 };
/// What every pack ends with.
pub const END: FileEnd = FileEnd { word: "pack", magic: *b"RSPKEND\n" };
/// The length of the header.
pub const HEADER_BYTES: usize = file_header::BYTES;
/// The highest place in a chain of versions: at most 8 frames are decoded before the one wanted.
pub const MAX_CHAIN_POSITION: u32 = 255;
/// The length of the footer.
pub const FOOTER_BYTES: usize = file_footer::BYTES;

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
    /// The kind that a byte in a table stands for.
    pub fn from_byte(byte: u8) -> DecodeResult<Self> {
        match byte {
            1 => Ok(Self::Chunk),
            2 => Ok(Self::ChunkList),
            3 => Ok(Self::Tree),
            4 => Ok(Self::Snapshot),
            _ => Err(format!("object kind {byte} is unknown")),
        }
    }

    /// Whether the table has its id in full. Trees and snapshots are known by their key: their ids follow from their
    /// content, and nothing is lost when the content has to be read to be sure of one.
    pub fn has_full_id(self) -> bool {
        matches!(self, Self::Chunk | Self::ChunkList)
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

/// What the table says of an object's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ObjectName {
    /// All of it.
    Id(ObjectId),
    /// Its [`ObjectId::key`].
    Key(u64),
}

impl ObjectName {
    /// What the table says of an object of that kind.
    pub fn of(kind: ObjectKind, id: ObjectId) -> Self {
        if kind.has_full_id() { Self::Id(id) } else { Self::Key(id.key()) }
    }

    /// The id's key.
    pub fn key(&self) -> u64 {
        match self {
            Self::Id(id) => id.key(),
            Self::Key(key) => *key,
        }
    }

    /// Whether it can be the name of the object with that id.
    pub fn fits(&self, id: ObjectId) -> bool {
        match self {
            Self::Id(own) => *own == id,
            Self::Key(key) => *key == id.key(),
        }
    }
}

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Id(id) => id.fmt(f),
            Self::Key(key) => write!(f, "{key:016x}..."),
        }
    }
}

/// How a frame's bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Codec {
    /// As they are.
    Plain,
    /// One zstd frame.
    Zstd,
    /// One zstd frame of trees and snapshots in a denser form, which has so many bytes.
    Dense(usize),
}

/// The content that a frame was compressed against.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Prefix {
    /// Nothing: the frame decodes alone.
    None,
    /// An object of any pack, named by its [`ObjectId::key`].
    Anywhere(u64),
    /// An object in an earlier frame of this pack, named by its place in the table.
    Here(u32),
}

/// One object in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TableObject {
    /// What it is.
    pub kind: ObjectKind,
    /// What the table says of its id.
    pub name: ObjectName,
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

/// A pack's table.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Table {
    /// How often its content has been merged: 0 as a capture wrote it.
    pub tier: u8,
    /// The frames in the order of the file.
    pub frames: Vec<TableFrame>,
}

/// The level at which the structure of a table is compressed: it is read often and seldom large.
const STRUCTURE_LEVEL: i32 = 12;

/// A shorter one, of a few objects, is left as it is: to begin with zstd takes longer than all else that is done for it, and the
/// next merge compresses it with others.
const SHORT_STRUCTURE_BYTES: usize = 128;

/// Encodes the table: its structure, compressed where that helps, then the ids, which do not compress.
pub fn encode_table(table: &Table) -> Vec<u8> {
    let (mut structure, mut ids) = (vec![table.tier], Vec::new());
    push_varint(&mut structure, table.frames.len() as u64);
    for frame in &table.frames {
        push_varint(&mut structure, frame.stored_bytes);
        structure.push(match frame.codec {
            Codec::Plain => 0,
            Codec::Zstd => 1,
            Codec::Dense(_) => 2,
        });
        match frame.prefix {
            Prefix::None => push_varint(&mut structure, 0),
            Prefix::Anywhere(key) => {
                push_varint(&mut structure, 1);
                structure.extend(key.to_be_bytes());
            }
            Prefix::Here(ordinal) => push_varint(&mut structure, u64::from(ordinal) + 2),
        }
        push_varint(&mut structure, u64::from(frame.chain_position));
        if let Codec::Dense(bytes) = frame.codec {
            push_varint(&mut structure, bytes as u64);
        }
        push_varint(&mut structure, frame.objects.len() as u64);
        for object in &frame.objects {
            structure.push(object.kind as u8);
            push_varint(&mut structure, object.bytes);
            match object.name {
                ObjectName::Id(id) if object.kind.has_full_id() => ids.extend(id.0),
                name => ids.extend(name.key().to_be_bytes()),
            }
        }
    }
    let mut out = Vec::with_capacity(structure.len() + ids.len() + 16);
    push_varint(&mut out, structure.len() as u64);
    let compressed = match structure.len() {
        0..SHORT_STRUCTURE_BYTES => None,
        _ => compress(&structure, &[], STRUCTURE_LEVEL),
    };
    let stored = compressed.unwrap_or(structure);
    push_varint(&mut out, stored.len() as u64);
    out.extend(stored);
    out.extend(ids);
    out
}

/// Decodes the table.
pub fn decode_table(bytes: &[u8]) -> DecodeResult<Table> {
    let mut decoder = Decoder::new(bytes);
    let raw_bytes = usize::try_from(decoder.varint()?).unwrap_or(usize::MAX);
    let stored_bytes = decoder.count(1)?;
    let stored = decoder.take(stored_bytes)?;
    let unpacked;
    let structure = match stored_bytes == raw_bytes {
        true => stored,
        false => {
            unpacked = decompress(stored, &[], raw_bytes)?;
            &unpacked
        }
    };
    decode_structure(structure, decoder)
}

/// Decodes a table's structure, and takes the objects' ids from `ids`.
fn decode_structure(structure: &[u8], mut ids: Decoder<'_>) -> DecodeResult<Table> {
    let mut decoder = Decoder::new(structure);
    let tier = decoder.u8()?;
    let frame_count = decoder.count(5)?;
    let mut frames = Vec::with_capacity(frame_count);
    let mut object_count = 0;
    for _ in 0..frame_count {
        let stored_bytes = decoder.varint()?;
        let codec = decoder.u8()?;
        let prefix = match decoder.varint()? {
            0 => Prefix::None,
            1 => Prefix::Anywhere(u64::from_be_bytes(decoder.array()?)),
            other => match u32::try_from(other - 2) {
                Ok(base) if (base as usize) < object_count => Prefix::Here(base),
                _ => return Err("a prefix that is in no earlier frame".into()),
            },
        };
        let position = decoder.varint()?;
        let chain_position = u32::try_from(position).ok().filter(|position| *position <= MAX_CHAIN_POSITION);
        let chain_position = chain_position.ok_or_else(|| format!("a chain position of {position}"))?;
        let codec = match codec {
            0 => Codec::Plain,
            1 => Codec::Zstd,
            2 => match usize::try_from(decoder.varint()?) {
                Ok(bytes) if (1..=MAX_FRAME_BYTES).contains(&bytes) => Codec::Dense(bytes),
                _ => return Err("a dense frame of an impossible length".into()),
            },
            other => return Err(format!("codec {other} is unknown")),
        };
        if (prefix == Prefix::None) != (chain_position == 0) || (codec != Codec::Zstd && prefix != Prefix::None) {
            return Err("a frame whose prefix does not go with its chain position or codec".into());
        }
        let count = decoder.count(2)?;
        // Each object has at least a key among the ids: no more are possible than have room there.
        if count > ids.rest().len() / 8 {
            return Err(format!("{count} objects, but not as many ids"));
        }
        let mut objects = Vec::with_capacity(count);
        let mut raw_bytes = 0u64;
        for _ in 0..count {
            let kind = ObjectKind::from_byte(decoder.u8()?)?;
            let bytes = decoder.varint()?;
            if bytes == 0 {
                return Err("an object without bytes".into());
            }
            if matches!(codec, Codec::Dense(_)) && kind.has_full_id() {
                return Err(format!("a {} in a dense frame", kind.word()));
            }
            raw_bytes = raw_bytes.checked_add(bytes).ok_or("a frame of over 64 bits of length")?;
            let name = match kind.has_full_id() {
                true => ObjectName::Id(ObjectId(ids.array()?)),
                false => ObjectName::Key(u64::from_be_bytes(ids.array()?)),
            };
            objects.push(TableObject { kind, name, bytes });
        }
        if count == 0 || stored_bytes == 0 {
            return Err("a frame without content".into());
        }
        if codec == Codec::Plain && raw_bytes != stored_bytes {
            return Err("a plain frame whose lengths differ".into());
        }
        object_count += count;
        frames.push(TableFrame { stored_bytes, codec, prefix, chain_position, objects });
    }
    decoder.finish()?;
    ids.finish()?;
    Ok(Table { tier, frames })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> Table {
        let chunk = |byte: u8, bytes| TableObject {
            kind: ObjectKind::Chunk,
            name: ObjectName::Id(ObjectId([byte; 32])),
            bytes,
        };
        let tree = |key, bytes| TableObject { kind: ObjectKind::Tree, name: ObjectName::Key(key), bytes };
        let frame = |stored_bytes, codec, prefix, chain_position, objects| TableFrame {
            stored_bytes,
            codec,
            prefix,
            chain_position,
            objects,
        };
        Table {
            tier: 2,
            frames: vec![
                frame(10, Codec::Plain, Prefix::None, 0, vec![chunk(1, 4), chunk(2, 6)]),
                frame(300, Codec::Zstd, Prefix::Anywhere(77), 3, vec![chunk(3, 70_000)]),
                frame(3, Codec::Zstd, Prefix::Here(1), 1, vec![chunk(4, 9), tree(5, 8)]),
                frame(44, Codec::Dense(60), Prefix::None, 0, vec![tree(6, 100)]),
            ],
        }
    }

    #[test]
    fn table_round_trips() {
        assert_eq!(decode_table(&encode_table(&sample())), Ok(sample()));
        assert_eq!(decode_table(&encode_table(&Table::default())), Ok(Table::default()));
        let frame = sample().frames.remove(0);
        let many = Table { tier: 0, frames: vec![frame; 1000] };
        let encoded = encode_table(&many);
        assert!(encoded.len() < 1000 * 64 + 200, "{}", encoded.len());
        assert_eq!(decode_table(&encoded), Ok(many));
    }

    #[test]
    fn a_prefix_is_in_an_earlier_frame() {
        let mut table = sample();
        table.frames[2].prefix = Prefix::Here(3);
        assert!(decode_table(&encode_table(&table)).is_err());
    }

    proptest! {
        #[test]
        fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), length in any::<u64>()) {
            let _ = FILE.decode(&bytes);
            let _ = END.decode(&bytes, length);
            if let Ok(table) = decode_table(&bytes) {
                prop_assert_eq!(decode_table(&encode_table(&table)), Ok(table));
            }
            let ids = vec![7; 200];
            let _ = decode_structure(&bytes, Decoder::new(&ids));
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
