//! The 32 bytes that packs, journals and segments begin with: magic, format version, store id.

use crate::decode::{DecodeResult, Decoder};
use crate::id::StoreId;

/// The length of the header.
pub const BYTES: usize = 32;

/// What a header can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Header {
    /// A file of this store.
    Known(StoreId),
    /// A file of a newer version.
    Newer(u16),
}

/// The kind of file that a header opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileKind {
    /// Its word in messages.
    pub word: &'static str,
    /// Its first bytes.
    pub magic: [u8; 8],
    /// The newest format version that is known here.
    pub version: u16,
}

impl FileKind {
    /// Encodes the header of a new file.
    pub fn encode(&self, store: StoreId) -> [u8; BYTES] {
        let mut out = [0; BYTES];
        let (magic, rest) = out.split_at_mut(8);
        magic.copy_from_slice(&self.magic);
        let (version, rest) = rest.split_at_mut(8);
        version.copy_from_slice(&u64::from(self.version).to_le_bytes());
        rest.copy_from_slice(&store.0);
        out
    }

    /// Decodes a header; what stands after it is not looked at.
    pub fn decode(&self, bytes: &[u8]) -> DecodeResult<Header> {
        let mut decoder = Decoder::new(bytes);
        if decoder.array::<8>()? != self.magic {
            return Err(format!("does not begin as a {}", self.word));
        }
        let version = decoder.u16()?;
        if version > self.version {
            return Ok(Header::Newer(version));
        }
        if version != self.version || decoder.array::<6>()? != [0; 6] {
            return Err("the header has an unknown version or flag".into());
        }
        decoder.array().map(|id| Header::Known(StoreId(id)))
    }
}
