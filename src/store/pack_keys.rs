//! The keys of the objects in each pack, kept in short: a cache by which a capture learns that content is new without
//! opening the packs. See `schema/store.md`, "states/".
//!
//! That a pack has no object of a key is believed: at worst something is stored twice. That it may have one is only a reason to
//! look.

use foldhash::{HashMap, HashMapExt};

use super::STATES;
use crate::checksum;
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::error::Result;
use crate::file_header::{self, FileKind, Header};
use crate::id::{StoreId, random_name};
use crate::pack::{Pack, PackSummary};
use crate::storage::{Storage, write_whole};

/// Where they are kept.
pub const PACK_KEYS_PATH: &str = "states/packs";
/// What the file begins with.
const FILE: FileKind = FileKind { word: "list of keys", magic: *b"RUNSNAPP", version: 1 };
/// A longer one is none.
const MAX_BYTES: u64 = 16 << 20;
/// What a record begins with: the length of its body.
const LENGTH_BYTES: usize = 4;
/// So much of the file may be of packs that are gone, or half of it.
const MAX_STALE_BYTES: usize = 4 << 10;
/// Of each key the highest bits: so many that hardly a pack has another object with the same.
const KEY_BITS: u32 = 24;

/// What is known of a pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysOfPack {
    /// The pack's tier.
    pub tier: u8,
    /// The length of its content.
    pub raw_bytes: u64,
    /// Shortened keys, sorted; none for a pack that has too many objects.
    pub keys: Option<Vec<u32>>,
}

impl KeysOfPack {
    /// Takes the keys of a pack, unless it has more than so many objects.
    pub fn of(pack: &Pack, most: usize) -> Self {
        let keys = pack.objects.iter().map(|object| object.name.key());
        Self::new(pack.tier, pack.raw_bytes() as u64, keys, most)
    }

    /// The same of a pack that was just written.
    pub fn of_written(pack: &PackSummary, most: usize) -> Self {
        Self::new(pack.tier, pack.raw_bytes, pack.keys.iter().copied(), most)
    }

    fn new(tier: u8, raw_bytes: u64, keys: impl ExactSizeIterator<Item = u64>, most: usize) -> Self {
        let keys = (keys.len() <= most).then(|| {
            let mut keys: Vec<u32> = keys.map(shortened).collect();
            keys.sort_unstable();
            keys
        });
        Self { tier, raw_bytes, keys }
    }

    /// Whether the pack has no object of that key for sure.
    pub fn lacks(&self, key: u64) -> bool {
        self.keys.as_ref().is_some_and(|keys| keys.binary_search(&shortened(key)).is_err())
    }

    fn encode(&self, stamp: u64) -> Vec<u8> {
        let mut body = stamp.to_le_bytes().to_vec();
        body.push(self.tier);
        push_varint(&mut body, self.raw_bytes);
        body.push(u8::from(self.keys.is_some()));
        if let Some(keys) = &self.keys {
            push_varint(&mut body, keys.len() as u64);
            let mut last = 0;
            for key in keys {
                push_varint(&mut body, u64::from(key - last));
                last = *key;
            }
        }
        let mut out = (body.len() as u32).to_le_bytes().to_vec();
        out.extend(checksum::of(&body));
        out.extend(body);
        out
    }

    /// Decodes a record, the length before it aside.
    fn decode(record: &[u8]) -> DecodeResult<Self> {
        let mut decoder = Decoder::new(record);
        let check: [u8; checksum::BYTES] = decoder.array()?;
        if check != checksum::of(decoder.rest()) {
            return Err("its checksum does not match".into());
        }
        let (_stamp, tier, raw_bytes) = (decoder.u64()?, decoder.u8()?, decoder.varint()?);
        let keys = match decoder.u8()? {
            0 => None,
            _ => {
                let mut last = 0u64;
                let count = decoder.count(1)?;
                let mut keys = Vec::with_capacity(count);
                for _ in 0..count {
                    last = last.saturating_add(decoder.varint()?);
                    keys.push(u32::try_from(last).map_err(|_| "a key that is too long")?);
                }
                Some(keys)
            }
        };
        decoder.finish()?;
        Ok(Self { tier, raw_bytes, keys })
    }
}

fn shortened(key: u64) -> u32 {
    (key >> (u64::BITS - KEY_BITS)) as u32
}

/// A record, decoded once it is asked for: most are of packs that are gone.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    /// Its length.
    bytes: usize,
    /// Where in the file it begins, the length before it aside.
    start: usize,
    known: Option<KeysOfPack>,
}

/// What is known of the packs, by the stamps of their files.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PackKeys {
    /// The file as it was read.
    text: Vec<u8>,
    records: HashMap<u64, Record>,
    /// The length of the file; none where nothing can be appended to it.
    bytes: Option<usize>,
}

impl PackKeys {
    /// Reads what is kept. What is damaged is not known.
    pub fn load(storage: &dyn Storage, store: StoreId) -> Self {
        let bytes = storage.read(PACK_KEYS_PATH, MAX_BYTES).unwrap_or_default();
        Self::decode(bytes, store).unwrap_or_default()
    }

    /// What is known of a pack.
    pub fn get(&mut self, stamp: u64) -> Option<&KeysOfPack> {
        let record = self.records.get_mut(&stamp)?;
        if record.known.is_none() {
            let text = self.text.get(record.start..record.start + record.bytes - LENGTH_BYTES);
            record.known = text.and_then(|text| KeysOfPack::decode(text).ok());
            if record.known.is_none() {
                // Where the others begin is in doubt as well.
                self.bytes = None;
            }
        }
        record.known.as_ref()
    }

    fn decode(text: Vec<u8>, store: StoreId) -> DecodeResult<Self> {
        if FILE.decode(&text)? != Header::Known(store) {
            return Err("of another store or version".into());
        }
        let (mut records, mut bytes) = (HashMap::new(), Some(text.len()));
        let mut decoder = Decoder::new(text.get(file_header::BYTES..).unwrap_or_default());
        while !decoder.is_empty() {
            let found = decoder.u32().and_then(|length| {
                let start = text.len() - decoder.rest().len();
                let record = decoder.take(length as usize + checksum::BYTES)?;
                let stamp = Decoder::new(record.get(checksum::BYTES..).unwrap_or_default()).u64()?;
                Ok((stamp, Record { bytes: LENGTH_BYTES + record.len(), start, known: None }))
            });
            let Ok((stamp, record)) = found else {
                // Where the next record begins is not known any more.
                bytes = None;
                break;
            };
            records.insert(stamp, record);
        }
        Ok(Self { text, records, bytes })
    }

    /// Keeps what is known of further packs. `there` has the stamps of all that are there: the others are forgotten once they
    /// take too much room.
    pub fn add(
        &mut self,
        storage: &dyn Storage,
        store: StoreId,
        new: Vec<(u64, KeysOfPack)>,
        there: &[u64],
    ) -> Result<()> {
        let mut added = Vec::new();
        for (stamp, keys) in new {
            let record = keys.encode(stamp);
            self.records.insert(stamp, Record { bytes: record.len(), start: 0, known: Some(keys) });
            added.extend(record);
        }
        let needed: usize = there.iter().filter_map(|stamp| self.records.get(stamp)).map(|record| record.bytes).sum();
        let is_tidy = |bytes: usize| bytes <= file_header::BYTES + needed + needed.max(MAX_STALE_BYTES);
        if let Some(bytes) = self.bytes.map(|bytes| bytes + added.len()).filter(|bytes| is_tidy(*bytes)) {
            // A record in one write: that of another capture comes before it or after it.
            if added.is_empty() || storage.append(PACK_KEYS_PATH).and_then(|mut file| file.write(&added)).is_ok() {
                self.bytes = Some(bytes);
                return Ok(());
            }
        }
        let mut out = FILE.encode(store).to_vec();
        for stamp in there {
            out.extend(self.get(*stamp).iter().flat_map(|keys| keys.encode(*stamp)));
        }
        self.records.retain(|stamp, record| there.contains(stamp) && record.known.is_some());
        let temporary = format!("{PACK_KEYS_PATH}-{}.tmp", random_name());
        storage.create_folder(STATES)?;
        write_whole(storage, &temporary, PACK_KEYS_PATH, &out, false)?;
        self.bytes = Some(out.len());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::LocalStorage;

    fn keys(tier: u8, keys: &[u64]) -> KeysOfPack {
        let mut keys: Vec<u32> = keys.iter().map(|key| shortened(*key)).collect();
        keys.sort_unstable();
        KeysOfPack { tier, raw_bytes: 1234, keys: Some(keys) }
    }

    #[test]
    fn what_was_kept_is_known_and_what_is_gone_goes() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let storage = LocalStorage::new(folder.path());
        let store = StoreId([7; 16]);
        let mut first = PackKeys::load(&storage, store);
        assert_eq!(first, PackKeys::default());
        let (low, high) = (3 << 50, u64::MAX);
        let large = KeysOfPack { tier: 255, raw_bytes: 5, keys: None };
        first.add(&storage, store, vec![(1, keys(0, &[high, low])), (2, large)], &[1, 2]).expect("kept");
        first.add(&storage, store, vec![(3, keys(4, &[low]))], &[1, 2, 3]).expect("kept");
        let mut read = PackKeys::load(&storage, store);
        let mut of = |stamp| read.get(stamp).expect("known").clone();
        assert!(!of(1).lacks(high) && !of(1).lacks(low) && of(1).lacks(5 << 50));
        assert!(!of(2).lacks(5 << 50), "it has too many to tell");
        assert_eq!((of(3).tier, of(3).raw_bytes), (4, 1234));
        assert!(read.get(4).is_none());
        assert_eq!(PackKeys::load(&storage, StoreId([8; 16])), PackKeys::default(), "of another store");
        // Many packs come and go.
        for stamp in 10..1000 {
            first.add(&storage, store, vec![(stamp, keys(0, &[stamp]))], &[1, stamp]).expect("kept");
        }
        let bytes = std::fs::metadata(folder.path().join(PACK_KEYS_PATH)).expect("there").len();
        assert!(bytes < 3 * MAX_STALE_BYTES as u64, "{bytes}");
        let mut read = PackKeys::load(&storage, store);
        assert!(read.get(1).is_some() && read.get(999).is_some() && read.get(10).is_none());
    }

    #[test]
    fn what_is_damaged_is_not_known_and_written_anew() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let storage = LocalStorage::new(folder.path());
        let store = StoreId([7; 16]);
        PackKeys::default().add(&storage, store, vec![(1, keys(0, &[9]))], &[1]).expect("kept");
        PackKeys::load(&storage, store).add(&storage, store, vec![(2, keys(0, &[9]))], &[1, 2]).expect("kept");
        let path = folder.path().join(PACK_KEYS_PATH);
        let whole = std::fs::read(&path).expect("read");
        for place in 0..whole.len() {
            let mut flipped = whole.clone();
            flipped[place] ^= 0x20;
            for bytes in [&flipped, &whole[..place]] {
                let mut found = PackKeys::decode(bytes.to_vec(), store).unwrap_or_default();
                let known: Vec<_> = [1, 2].iter().filter_map(|stamp| found.get(*stamp).cloned()).collect();
                assert!(known.len() < 2 && known.iter().all(|known| *known == keys(0, &[9])), "byte {place}");
            }
        }
        std::fs::write(&path, &whole[..whole.len() - 1]).expect("cut");
        let both = || {
            let mut read = PackKeys::load(&storage, store);
            [1, 3].map(|stamp| read.get(stamp).is_some())
        };
        let mut cut = PackKeys::load(&storage, store);
        assert_eq!((cut.records.len(), cut.bytes), (1, None));
        cut.add(&storage, store, vec![(3, keys(0, &[8]))], &[1, 3]).expect("kept");
        assert_eq!(both(), [true; 2], "nothing is appended behind what cannot be read");
        // What is found damaged when it is asked for is written anew as well.
        let mut flipped = whole.clone();
        flipped[whole.len() - 1] ^= 1;
        std::fs::write(&path, &flipped).expect("written");
        let mut read = PackKeys::load(&storage, store);
        assert!(read.get(1).is_some() && read.get(2).is_none());
        read.add(&storage, store, vec![(3, keys(0, &[8]))], &[1, 2, 3]).expect("kept");
        assert_eq!((both(), PackKeys::load(&storage, store).records.len()), ([true; 2], 2));
    }
}
