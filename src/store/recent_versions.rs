//! The versions of objects that the next version is likely to be a difference to, held in memory.
//!
//! Whoever edits a file mostly edits it again. Its older versions stand in packs in which megabytes may have to be decoded
//! to get at them; here they are at hand.

use super::writer::base_position;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::ObjectId;
use crate::pack::compression::{compress_always, decompress};
use crate::pack::format::ObjectKind;

/// So many bytes are kept altogether.
const MAX_BYTES: usize = 256 << 10;
/// Longer content is not kept.
const MAX_VERSION_BYTES: usize = 64 << 10;
/// One of zstd's quickest: versions of one thing have most in common, and any level finds that.
const LEVEL: i32 = -3;

/// One version of an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version {
    /// Its id.
    pub id: ObjectId,
    /// The chain position of its frame, or a higher one: merges may have put it further down since.
    pub position: u32,
    /// Its bytes.
    pub content: Vec<u8>,
}

/// The newest version of something and those that it is a difference to, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    kind: ObjectKind,
    versions: Vec<Version>,
}

impl Chain {
    fn bytes(&self) -> usize {
        self.versions.iter().map(|version| version.content.len()).sum()
    }
}

/// The versions of what has changed of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentVersions {
    /// Those that have changed last stand last.
    chains: Vec<Chain>,
    /// The same as they were kept, as long as nobody has wanted them.
    kept: Option<Vec<u8>>,
}

impl RecentVersions {
    /// They, as they were encoded: decoded when they are opened.
    pub fn kept(bytes: &[u8]) -> Self {
        Self { chains: Vec::new(), kept: Some(bytes.to_vec()) }
    }

    /// Makes them ready for use. What cannot be read is forgotten.
    pub fn open(&mut self) {
        if let Some(kept) = self.kept.take() {
            self.chains = Self::decode(&mut Decoder::new(&kept)).map(|read| read.chains).unwrap_or_default();
        }
    }

    /// The version that the next version after `newest` is to be a difference to, and the next one's chain position.
    pub fn base(&self, kind: ObjectKind, newest: ObjectId) -> Option<(&Version, u32)> {
        let chain = self.chains.iter().rev().find(|chain| chain.is_of(kind, newest))?;
        let (position, wanted) = base_position(chain.versions.last()?.position)?;
        let base = chain.versions.iter().rev().find(|version| version.position <= wanted)?;
        // A difference to damaged content would be lost with it.
        (ObjectId::of(&base.content) == base.id).then_some((base, position))
    }

    /// Takes in a version that was stored as a difference to `base`, after `older`.
    pub fn add(&mut self, kind: ObjectKind, older: ObjectId, base: Version, version: Version) {
        let known = self.chains.iter().position(|chain| chain.is_of(kind, older));
        let mut versions = known.map(|place| self.chains.remove(place).versions).unwrap_or_default();
        versions.retain(|earlier| earlier.position < base.position);
        versions.push(base);
        versions.push(version);
        let chain = Chain { kind, versions };
        if chain.versions.iter().all(|version| version.content.len() <= MAX_VERSION_BYTES) {
            self.chains.push(chain);
        }
        let mut bytes: usize = self.chains.iter().map(Chain::bytes).sum();
        while bytes > MAX_BYTES {
            bytes -= self.chains.remove(0).bytes();
        }
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.kept = None;
        self.chains.clear();
    }

    /// Appends them to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if let Some(kept) = &self.kept {
            return out.extend_from_slice(kept);
        }
        let mut contents = Vec::new();
        push_varint(out, self.chains.len() as u64);
        for chain in &self.chains {
            out.push(chain.kind as u8);
            push_varint(out, chain.versions.len() as u64);
            for version in &chain.versions {
                out.extend(version.id.0);
                push_varint(out, version.position.into());
                push_varint(out, version.content.len() as u64);
                contents.extend_from_slice(&version.content);
            }
        }
        if contents.is_empty() {
            return;
        }
        let stored = compress_always(&contents, LEVEL);
        push_varint(out, stored.len() as u64);
        out.extend(stored);
    }

    fn decode(decoder: &mut Decoder<'_>) -> DecodeResult<Self> {
        let mut chains = Vec::new();
        let mut lengths = Vec::new();
        for _ in 0..decoder.count(2)? {
            let kind = ObjectKind::from_byte(decoder.u8()?)?;
            let mut versions = Vec::new();
            for _ in 0..decoder.count(34)? {
                let id = ObjectId(decoder.array()?);
                let position = u32::try_from(decoder.varint()?).map_err(|_| "a position over 32 bits")?;
                let length = usize::try_from(decoder.varint()?).ok().filter(|length| *length <= MAX_VERSION_BYTES);
                lengths.push(length.ok_or("a version that is too long")?);
                versions.push(Version { id, position, content: Vec::new() });
            }
            chains.push(Chain { kind, versions });
        }
        let total: usize = lengths.iter().sum();
        if total == 0 {
            return Ok(Self { chains, kept: None });
        }
        if total > MAX_BYTES {
            return Err(format!("{total} bytes of versions"));
        }
        let stored = decoder.count(1)?;
        let contents = decompress(decoder.take(stored)?, &[], total)?;
        let mut rest = contents.as_slice();
        for (version, length) in chains.iter_mut().flat_map(|chain| &mut chain.versions).zip(lengths) {
            let (content, later) = rest.split_at_checked(length).ok_or("contents that are too short")?;
            version.content = content.to_vec();
            rest = later;
        }
        Ok(Self { chains, kept: None })
    }
}

impl Chain {
    fn is_of(&self, kind: ObjectKind, newest: ObjectId) -> bool {
        self.kind == kind && self.versions.last().is_some_and(|version| version.id == newest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(number: u32) -> Version {
        let content = format!("version {number}").into_bytes();
        Version { id: ObjectId::of(&content), position: number, content }
    }

    #[test]
    fn the_base_is_the_position_with_its_lowest_one_bit_cleared() {
        let mut recent = RecentVersions::default();
        recent.add(ObjectKind::Chunk, version(0).id, version(0), version(1));
        for number in 2..=40u32 {
            let (base, position) = recent.base(ObjectKind::Chunk, version(number - 1).id).expect("a base");
            assert_eq!((base.position, position), (number & (number - 1), number));
            let base = base.clone();
            recent.add(ObjectKind::Chunk, version(number - 1).id, base, version(number));
        }
        assert_eq!(recent.base(ObjectKind::Chunk, version(39).id), None, "only the newest goes on");
        assert_eq!(recent.base(ObjectKind::Tree, version(40).id), None);
        let mut damaged = recent.clone();
        damaged.chains[0].versions.last_mut().expect("a version").content[0] ^= 1;
        assert_eq!(damaged.base(ObjectKind::Chunk, version(40).id), None);
        let mut bytes = Vec::new();
        recent.encode(&mut bytes);
        let mut decoder = Decoder::new(&bytes);
        assert_eq!(RecentVersions::decode(&mut decoder).as_ref(), Ok(&recent));
        assert!(decoder.is_empty());
        let mut kept = RecentVersions::kept(&bytes);
        let mut again = Vec::new();
        kept.encode(&mut again);
        assert_eq!(again, bytes);
        kept.open();
        assert_eq!(kept, recent);
    }

    #[test]
    fn room_is_bounded() {
        let mut recent = RecentVersions::default();
        let long = |number: u8, bytes| {
            let content = vec![number; bytes];
            Version { id: ObjectId::of(&content), position: 0, content }
        };
        let id = |number, bytes| long(number, bytes).id;
        for number in 1..=255 {
            let newer = Version { position: 1, ..long(number, 1000) };
            recent.add(ObjectKind::Chunk, id(0, 1000), long(0, 1000), newer);
        }
        assert!(recent.chains.iter().map(Chain::bytes).sum::<usize>() <= MAX_BYTES);
        assert!(recent.base(ObjectKind::Chunk, id(255, 1000)).is_some());
        assert!(recent.base(ObjectKind::Chunk, id(1, 1000)).is_none(), "the oldest went first");
        let too_long = long(201, MAX_VERSION_BYTES + 1);
        recent.add(ObjectKind::Chunk, id(200, 1), long(200, 1), too_long.clone());
        assert!(recent.base(ObjectKind::Chunk, too_long.id).is_none());
    }
}
