//! The cheapest of merges: the frames of small packs, as they are stored, one after the other in one pack.
//!
//! Nothing is decoded. What few versions a small pack has are differences to content of large packs, and to read that takes
//! ten times as long as all the rest. It is done later, for many such packs at once.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::pack::format::Codec;
use crate::pack::{Frame, Pack, PackWriter, PreparedFrame};
use crate::store::Store;

/// Packs that have more bytes together are worth to be compressed anew.
const SMALL_BYTES: u64 = 32 << 10;

impl Store {
    /// Puts the frames of `inputs` into one pack; `temporary` is a name for it in tmp/. The inputs, all of which can go at
    /// once then, by name.
    ///
    /// `None` where they are not small, have trees in dense form, which are told by other objects' places, or cannot be read.
    pub fn gather(&self, inputs: &[Arc<Pack>], tier: u8, temporary: String) -> Result<Option<Vec<String>>> {
        let is_dense = |frame: &Frame| matches!(frame.codec, Codec::Dense(_));
        if inputs.iter().map(|pack| pack.bytes).sum::<u64>() > SMALL_BYTES
            || inputs.iter().flat_map(|pack| &pack.frames).any(is_dense)
        {
            return Ok(None);
        }
        let mut writer = PackWriter::create(&*self.storage, temporary, self.config.store, tier)?;
        let mut all = Vec::new();
        for pack in inputs {
            let Ok(stored) = pack.read_all_stored(&*self.storage) else { return Ok(None) };
            let (first, mut rest) = (writer.objects(), stored.as_slice());
            for frame in &pack.frames {
                let Some((bytes, after)) = rest.split_at_checked(frame.stored_bytes as usize) else { return Ok(None) };
                rest = after;
                writer.add(PreparedFrame::stored(pack, frame, bytes.to_vec()).based_on(first))?;
            }
            all.extend(stored);
        }
        let read_back = |pack: &Arc<Pack>| match pack.read_all_stored(&*self.storage)? {
            stored if stored == all => Ok(()),
            _ => Err(Error::damaged(self.storage.full_path(&pack.path), "its frames are not what was written")),
        };
        self.finish_pack(writer, read_back)?;
        Ok(Some(inputs.iter().map(|pack| pack.name().to_owned()).collect()))
    }
}
