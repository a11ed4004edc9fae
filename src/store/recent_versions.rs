//! The versions of objects that the next version is likely to be a difference to, held in memory.
//!
//! Whoever edits a file mostly edits it again. Its older versions stand in packs in which megabytes may have to be decoded
//! to get at them; here they are at hand. Of each the difference is kept that its pack has as well: nothing is compressed
//! for this, and only what is wanted is decoded.

use std::cell::OnceCell;
use std::sync::Arc;

use super::writer::base_position;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::ObjectId;
use crate::pack::compression::{Decompressor, compress_always};
use crate::pack::format::ObjectKind;

/// So many bytes are kept altogether, compressed.
const MAX_BYTES: usize = 24 << 10;
/// Longer content is not kept.
const MAX_VERSION_BYTES: usize = 64 << 10;
/// Of the first version of a chain there is no difference; zstd's quickest ordinary level is for that.
const LEVEL: i32 = 1;

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

/// A version that has just been stored as a difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewVersion<'f> {
    /// Its id.
    pub id: ObjectId,
    /// Its chain position.
    pub position: u32,
    /// The length of its content.
    pub bytes: usize,
    /// The difference.
    pub stored: &'f [u8],
}

/// A version as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
struct KeptVersion {
    id: ObjectId,
    position: u32,
    bytes: usize,
    /// Compressed: by itself the first of a chain, each other as a difference to the one before.
    stored: Vec<u8>,
}

impl KeptVersion {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.id.0);
        push_varint(out, self.position.into());
        push_varint(out, self.bytes as u64);
        push_varint(out, self.stored.len() as u64);
        out.extend_from_slice(&self.stored);
    }

    fn decode(decoder: &mut Decoder<'_>) -> DecodeResult<Self> {
        let id = ObjectId(decoder.array()?);
        let position = u32::try_from(decoder.varint()?).map_err(|_| "a position over 32 bits")?;
        let bytes = usize::try_from(decoder.varint()?).ok().filter(|length| *length <= MAX_VERSION_BYTES);
        let bytes = bytes.ok_or("a version that is too long")?;
        let stored = decoder.count(1)?;
        Ok(Self { id, position, bytes, stored: decoder.take(stored)?.to_vec() })
    }
}

/// The newest version of something and those that it is a difference to, directly or in steps, oldest first.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Chain {
    kind: ObjectKind,
    versions: Vec<KeptVersion>,
}

impl Chain {
    fn is_of(&self, kind: ObjectKind, newest: ObjectId) -> bool {
        self.kind == kind && self.versions.last().is_some_and(|version| version.id == newest)
    }

    fn place_of(&self, id: ObjectId, position: u32) -> Option<usize> {
        self.versions.iter().position(|version| version.id == id && version.position == position)
    }

    fn stored_bytes(&self) -> usize {
        self.versions.iter().map(|version| version.stored.len()).sum()
    }

    /// Decodes its versions up to one into `contents`, the first first.
    fn decode_up_to<'c>(
        &self,
        place: usize,
        contents: &'c [OnceCell<Vec<u8>>],
        decompressor: &mut Decompressor<'c>,
    ) -> Option<&'c Vec<u8>> {
        let mut last: Option<&'c Vec<u8>> = None;
        for (version, content) in self.versions.get(..=place)?.iter().zip(contents) {
            let before = last.map(Vec::as_slice).unwrap_or_default();
            let decoded = decompressor.decompress(&version.stored, before, version.bytes).ok()?;
            last = Some(content.get_or_init(|| decoded));
        }
        last
    }
}

/// A version that others are wanted to be differences to.
struct Wanted<'r> {
    chain: &'r Chain,
    place: usize,
    /// The chain position of the next version.
    next: u32,
    contents: Vec<OnceCell<Vec<u8>>>,
}

/// A version that was added, and to what.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addition {
    kind: ObjectKind,
    /// What was the newest version.
    older: ObjectId,
    /// What the new one is a difference to.
    base: ObjectId,
    base_position: u32,
    /// That, where it is not among what is kept.
    whole: Option<KeptVersion>,
    version: KeptVersion,
}

impl Addition {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.kind as u8);
        out.extend(self.older.0);
        out.push(u8::from(self.whole.is_some()));
        match &self.whole {
            Some(whole) => whole.encode(out),
            None => {
                out.extend(self.base.0);
                push_varint(out, self.base_position.into());
            }
        }
        self.version.encode(out);
    }

    fn decode(decoder: &mut Decoder<'_>) -> DecodeResult<Self> {
        let kind = ObjectKind::from_byte(decoder.u8()?)?;
        let older = ObjectId(decoder.array()?);
        let (base, base_position, whole) = match decoder.u8()? {
            0 => {
                let base = ObjectId(decoder.array()?);
                (base, u32::try_from(decoder.varint()?).map_err(|_| "a position over 32 bits")?, None)
            }
            1 => {
                let whole = KeptVersion::decode(decoder)?;
                (whole.id, whole.position, Some(whole))
            }
            other => return Err(format!("base {other} is unknown")),
        };
        Ok(Self { kind, older, base, base_position, whole, version: KeptVersion::decode(decoder)? })
    }
}

/// The versions of what has changed of late.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentVersions {
    /// Those that have changed last stand last.
    chains: Vec<Chain>,
    /// The same as they were kept, and what was added later, as long as nobody has wanted them.
    kept: Option<(Later, Vec<u8>)>,
    /// What was added since they were kept; none where that does not tell what has become of them.
    added: Option<Vec<u8>>,
}

/// Bytes that are read once they are wanted; none where they cannot be read.
#[derive(Clone)]
struct Later(Arc<dyn Fn() -> Option<Vec<u8>> + Send + Sync>);

impl std::fmt::Debug for Later {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Later({:?})", (self.0)().map(|bytes| bytes.len()))
    }
}

impl PartialEq for Later {
    fn eq(&self, other: &Self) -> bool {
        (self.0)() == (other.0)()
    }
}

impl Eq for Later {}

impl RecentVersions {
    /// They, as they were encoded: read and decoded when they are opened. `added` is what was added later.
    pub fn kept(read: impl Fn() -> Option<Vec<u8>> + Send + Sync + 'static, added: Vec<u8>) -> Self {
        Self { chains: Vec::new(), kept: Some((Later(Arc::new(read)), added)), added: Some(Vec::new()) }
    }

    /// Makes them ready for use. What cannot be read is forgotten.
    pub fn open(&mut self) {
        let Some((kept, added)) = self.kept.take() else { return };
        let is_read = (kept.0)().is_some_and(|kept| self.read(&kept, &added).is_ok());
        if !is_read {
            self.clear();
        }
    }

    fn read(&mut self, kept: &[u8], added: &[u8]) -> DecodeResult<()> {
        self.chains = Self::decode(kept)?;
        let mut decoder = Decoder::new(added);
        while !decoder.is_empty() {
            let addition = Addition::decode(&mut decoder)?;
            self.apply(addition).ok_or("a difference to what is not kept")?;
        }
        Ok(())
    }

    /// For each object that a new version comes after: the version that the new one is to be a difference to, and the new one's
    /// chain position.
    pub fn bases(&self, newest: &[(ObjectKind, ObjectId)]) -> Vec<Option<(Version, u32)>> {
        let wanted: Vec<_> = newest.iter().map(|(kind, id)| self.wanted(*kind, *id)).collect();
        let mut decompressor = Decompressor::new();
        let mut bases = Vec::with_capacity(wanted.len());
        for wanted in &wanted {
            let base = wanted.as_ref().and_then(|Wanted { chain, place, next, contents }| {
                let content = chain.decode_up_to(*place, contents, &mut decompressor)?.clone();
                let version = chain.versions.get(*place)?;
                // A difference to damaged content would be lost with it.
                let version = Version { id: version.id, position: version.position, content };
                (ObjectId::of(&version.content) == version.id).then_some((version, *next))
            });
            bases.push(base);
        }
        bases
    }

    fn wanted(&self, kind: ObjectKind, newest: ObjectId) -> Option<Wanted<'_>> {
        let chain = self.chains.iter().rev().find(|chain| chain.is_of(kind, newest))?;
        let (next, wanted) = base_position(chain.versions.last()?.position)?;
        let place = chain.versions.iter().rposition(|version| version.position <= wanted)?;
        Some(Wanted { chain, place, next, contents: vec![OnceCell::new(); place + 1] })
    }

    /// Takes in a version that was stored as a difference to `base`, after `older`.
    pub fn add(&mut self, kind: ObjectKind, older: ObjectId, base: &Version, version: NewVersion<'_>) {
        if base.content.len() > MAX_VERSION_BYTES || version.bytes > MAX_VERSION_BYTES {
            return;
        }
        let known = self.chains.iter().find(|chain| chain.is_of(kind, older));
        let is_known = known.is_some_and(|chain| chain.place_of(base.id, base.position).is_some());
        let whole = || KeptVersion {
            id: base.id,
            position: base.position,
            bytes: base.content.len(),
            stored: compress_always(&base.content, LEVEL),
        };
        let NewVersion { id, position, bytes, stored } = version;
        let addition = Addition {
            kind,
            older,
            base: base.id,
            base_position: base.position,
            whole: (!is_known).then(whole),
            version: KeptVersion { id, position, bytes, stored: stored.to_vec() },
        };
        if let Some(added) = &mut self.added {
            addition.encode(added);
        }
        // What is not known comes with it.
        let _ = self.apply(addition);
    }

    fn apply(&mut self, addition: Addition) -> Option<()> {
        let Addition { kind, older, base, base_position, whole, version } = addition;
        let known = self.chains.iter().position(|chain| chain.is_of(kind, older));
        let mut versions = known.map(|place| self.chains.remove(place)).map(|chain| chain.versions).unwrap_or_default();
        match whole {
            Some(whole) => versions = vec![whole],
            None => {
                let place = versions.iter().position(|known| known.id == base && known.position == base_position)?;
                versions.truncate(place + 1);
            }
        }
        versions.push(version);
        self.chains.push(Chain { kind, versions });
        let mut bytes: usize = self.chains.iter().map(Chain::stored_bytes).sum();
        while bytes > MAX_BYTES {
            bytes -= self.chains.remove(0).stored_bytes();
        }
        Some(())
    }

    /// What was added since they were kept, if that tells all.
    pub fn added(&self) -> Option<&[u8]> {
        self.added.as_deref()
    }

    /// Notes that they are kept as they are now.
    pub fn note_kept(&mut self) {
        self.added = Some(Vec::new());
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Appends them to `out`.
    pub fn encode(&mut self, out: &mut Vec<u8>) {
        let as_kept = self.kept.as_ref().filter(|(_, added)| added.is_empty()).and_then(|(kept, _)| (kept.0)());
        if let Some(kept) = as_kept {
            return out.extend_from_slice(&kept);
        }
        self.open();
        push_varint(out, self.chains.len() as u64);
        for chain in &self.chains {
            out.push(chain.kind as u8);
            push_varint(out, chain.versions.len() as u64);
            for version in &chain.versions {
                version.encode(out);
            }
        }
    }

    fn decode(kept: &[u8]) -> DecodeResult<Vec<Chain>> {
        let mut decoder = Decoder::new(kept);
        let mut chains = Vec::new();
        for _ in 0..decoder.count(2)? {
            let kind = ObjectKind::from_byte(decoder.u8()?)?;
            let versions =
                (0..decoder.count(35)?).map(|_| KeptVersion::decode(&mut decoder)).collect::<DecodeResult<_>>()?;
            chains.push(Chain { kind, versions });
        }
        decoder.finish()?;
        Ok(chains)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept_as(bytes: &[u8], added: &[u8]) -> RecentVersions {
        let bytes = bytes.to_vec();
        RecentVersions::kept(move || Some(bytes.clone()), added.to_vec())
    }

    fn version(number: u32) -> Version {
        let content = format!("version {number}, and much that all versions have").into_bytes();
        Version { id: ObjectId::of(&content), position: number, content }
    }

    fn base(recent: &RecentVersions, kind: ObjectKind, newest: ObjectId) -> Option<(Version, u32)> {
        recent.bases(&[(ObjectKind::Tree, ObjectId::of(b"none")), (kind, newest)]).pop().flatten()
    }

    /// Adds a version in the way of a writer.
    fn add(recent: &mut RecentVersions, older: ObjectId, base: &Version, new: &Version) {
        let stored = crate::pack::compression::compress(&new.content, &base.content, 3).expect("smaller");
        let new = NewVersion { id: new.id, position: new.position, bytes: new.content.len(), stored: &stored };
        recent.add(ObjectKind::Chunk, older, base, new);
    }

    #[test]
    fn the_base_is_the_position_with_its_lowest_one_bit_cleared() {
        let mut recent = RecentVersions::default();
        add(&mut recent, version(0).id, &version(0), &version(1));
        for number in 2..=40u32 {
            let (base, position) = base(&recent, ObjectKind::Chunk, version(number - 1).id).expect("a base");
            assert_eq!((&base, position), (&version(number & (number - 1)), number));
            add(&mut recent, version(number - 1).id, &base, &version(number));
        }
        assert_eq!(base(&recent, ObjectKind::Chunk, version(39).id), None, "only the newest goes on");
        assert_eq!(base(&recent, ObjectKind::Tree, version(40).id), None);
        assert_eq!(recent.chains[0].versions.len(), 3, "40 is a difference to 32, and that to 0");
        let mut damaged = recent.clone();
        damaged.chains[0].versions[1].stored[20] ^= 1;
        assert!(base(&damaged, ObjectKind::Chunk, version(40).id).is_none());
        let mut bytes = Vec::new();
        recent.encode(&mut bytes);
        let mut kept = kept_as(&bytes, &[]);
        let mut again = Vec::new();
        kept.encode(&mut again);
        assert_eq!(again, bytes);
        kept.open();
        assert_eq!(kept.chains, recent.chains);
    }

    #[test]
    fn what_was_added_since_leads_to_the_same() {
        let mut recent = RecentVersions::default();
        add(&mut recent, version(0).id, &version(0), &version(1));
        assert_eq!(recent.added(), None, "there is nothing that it was added to");
        let mut bytes = Vec::new();
        recent.encode(&mut bytes);
        recent.note_kept();
        let other = Version { position: 5, ..version(1000) };
        let newer = Version { position: 6, ..version(1001) };
        add(&mut recent, other.id, &other, &newer);
        let (base, position) = base(&recent, ObjectKind::Chunk, version(1).id).expect("a base");
        assert_eq!(position, 2);
        add(&mut recent, version(1).id, &base, &version(2));
        let added = recent.added().expect("known").to_vec();
        let mut kept = kept_as(&bytes, &added);
        kept.open();
        assert_eq!(kept.chains, recent.chains);
        let mut whole = Vec::new();
        kept_as(&bytes, &added).encode(&mut whole);
        let mut once = kept_as(&whole, &[]);
        once.open();
        assert_eq!(once.chains, recent.chains);
        let mut cut = kept_as(&bytes, &added[..added.len() - 1]);
        cut.open();
        assert_eq!((cut.chains.len(), cut.added()), (0, None), "all or nothing");
        let mut elsewhere = kept_as(&[0], &added);
        elsewhere.open();
        assert_eq!(elsewhere.chains.len(), 0, "a difference to what is not kept");
    }

    #[test]
    fn room_is_bounded() {
        let mut recent = RecentVersions::default();
        let long = |number: u32, bytes: usize| {
            let content: Vec<u8> =
                (0..bytes as u32 / 4).flat_map(|i| (i ^ number).wrapping_mul(2_654_435_761).to_le_bytes()).collect();
            Version { id: ObjectId::of(&content), position: 0, content }
        };
        let after = |number: u32| {
            let content = [long(number, 1000).content, b"and more".to_vec()].concat();
            Version { id: ObjectId::of(&content), position: 1, content }
        };
        for number in 1..=255 {
            add(&mut recent, long(number, 1000).id, &long(number, 1000), &after(number));
        }
        assert!(recent.chains.iter().map(Chain::stored_bytes).sum::<usize>() <= MAX_BYTES);
        assert!(base(&recent, ObjectKind::Chunk, after(255).id).is_some());
        assert!(base(&recent, ObjectKind::Chunk, after(1).id).is_none(), "the oldest went first");
        let too_long = Version { position: 1, ..long(201, MAX_VERSION_BYTES + 4) };
        recent.add(
            ObjectKind::Chunk,
            long(200, 4).id,
            &long(200, 4),
            NewVersion { id: too_long.id, position: 1, bytes: too_long.content.len(), stored: &[] },
        );
        assert!(base(&recent, ObjectKind::Chunk, too_long.id).is_none());
    }
}
