//! config.json: the format version, the features in use, the store's id and its generation.

use serde::{Deserialize, Serialize};

use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::id::{ObjectId, StoreId};
use crate::storage::{Storage, write_whole};

/// The file's path in the store.
pub const CONFIG_PATH: &str = "config.json";
/// The newest format version that this code writes and reads.
pub const VERSION: u64 = 1;
const FORMAT: &str = "runsnap-store";
pub(super) const MAX_BYTES: u64 = 64 << 10;

/// The features that a store uses beyond its format version. This runsnap knows none yet.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Features {
    /// Features that a runsnap that does not know them may ignore.
    pub compatible: Vec<String>,
    /// Features that a runsnap that does not know them must not write beside.
    pub read_only_compatible: Vec<String>,
    /// Features that a runsnap that does not know them must not touch.
    pub incompatible: Vec<String>,
}

/// What config.json says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    format: String,
    /// The format version.
    pub version: u64,
    /// The features in use.
    pub features: Features,
    /// The store's id.
    pub store: StoreId,
    /// Raised whenever packs are deleted.
    pub generation: u64,
    /// How content is cut.
    pub chunker: Chunker,
    /// BLAKE3 over the compact JSON of all the fields above.
    checksum: Option<ObjectId>,
}

impl Config {
    /// The configuration of a new store.
    pub fn new(store: StoreId, chunker: Chunker) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            features: Features::default(),
            store,
            generation: 0,
            chunker,
            checksum: None,
        }
    }

    fn checksum_of(&self) -> ObjectId {
        let bare = Self { checksum: None, ..self.clone() };
        ObjectId::of(&serde_json::to_vec(&bare).unwrap_or_default())
    }

    /// Whether there is nothing about it that has to be explained.
    fn is_whole(&self) -> bool {
        self.format == FORMAT
            && self.version == VERSION
            && self.features.incompatible.is_empty()
            && self.chunker.is_valid()
            && self.checksum == Some(self.checksum_of())
    }

    /// Reads the file; [`Error::is_not_found`] where it is missing.
    pub fn read(storage: &dyn Storage) -> Result<Self> {
        let bytes = storage.read(CONFIG_PATH, MAX_BYTES)?;
        Self::decode(storage, &bytes)
    }

    /// Decodes the file's content; errors name it.
    pub fn decode(storage: &dyn Storage, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        struct Head {
            format: String,
            version: u64,
            #[serde(default)]
            features: Features,
        }
        if let Ok(config) = serde_json::from_slice::<Self>(bytes)
            && config.is_whole()
        {
            return Ok(config);
        }
        let path = storage.full_path(CONFIG_PATH);
        let damaged = |reason: String| Error::damaged(&path, reason);
        let head: Head =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("not a store's configuration: {e}")))?;
        if head.format != FORMAT {
            return Err(damaged(format!("format is {:?}, not {FORMAT:?}", head.format)));
        }
        if head.version > VERSION {
            // Where the checksum is right for the version known here, a bit has flipped and nothing is newer.
            let known = serde_json::from_slice::<Self>(bytes).map(|config| Self { version: VERSION, ..config });
            return Err(match known {
                Ok(config) if config.checksum == Some(config.checksum_of()) => {
                    damaged(format!("its version has become {}", head.version))
                }
                _ => Error::NewerFormat { path, found: head.version, known: VERSION },
            });
        }
        // Before the rest is read: a feature may have changed its form.
        if let Some(feature) = head.features.incompatible.first() {
            return Err(Error::UnknownFeature { path: storage.root().to_owned(), feature: feature.clone() });
        }
        let config: Self =
            serde_json::from_slice(bytes).map_err(|e| damaged(format!("not a store's configuration: {e}")))?;
        if config.version == 0 {
            return Err(damaged("format version 0".into()));
        }
        if config.checksum != Some(config.checksum_of()) {
            return Err(damaged("its checksum does not match its content".into()));
        }
        if !config.chunker.is_valid() {
            return Err(damaged("impossible chunk sizes".into()));
        }
        Ok(config)
    }

    /// Writes the file so that it survives a power cut.
    pub fn write(&self, storage: &dyn Storage, temporary: &str) -> Result<()> {
        let sealed = Self { checksum: Some(self.checksum_of()), ..self.clone() };
        let mut bytes = serde_json::to_vec_pretty(&sealed).map_err(|e| Error::damaged(CONFIG_PATH, e.to_string()))?;
        bytes.push(b'\n');
        write_whole(storage, temporary, CONFIG_PATH, &bytes, true)
    }
}
