//! JSON documents, and the content of files as these show it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use crate::id::ObjectId;
use crate::snapshot::Entry;
use crate::text_or_base64::text_or_base64;

/// A document with an indent of two spaces, which ends with a newline.
pub fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Strings, numbers and lists: nothing that could fail to be written as JSON.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The content of a file or link as JSON shows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Content {
    /// The hash of a file's content; a link has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<ObjectId>,
    /// The length of the file, or of what a link leads to.
    bytes: u64,
    /// Whether its owner may execute the file.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    executable: bool,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    target: Option<String>,
    /// The same in base64, where it is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    target_bytes: Option<String>,
}

impl From<&Entry> for Content {
    fn from(entry: &Entry) -> Self {
        match entry {
            Entry::File { id, bytes, executable } => {
                Self { id: Some(*id), bytes: *bytes, executable: *executable, target: None, target_bytes: None }
            }
            Entry::Symlink { target } => {
                let (text, base64) = match text_or_base64(target) {
                    Ok(text) => (Some(text.to_owned()), None),
                    Err(base64) => (None, Some(base64)),
                };
                Self { id: None, bytes: target.len() as u64, executable: false, target: text, target_bytes: base64 }
            }
        }
    }
}

impl Content {
    /// The file or link that it is of; none where it is of neither.
    pub fn to_entry(&self) -> Option<Entry> {
        match (self.id, &self.target, &self.target_bytes) {
            (Some(id), None, None) => Some(Entry::File { id, bytes: self.bytes, executable: self.executable }),
            (None, Some(text), None) => Some(Entry::Symlink { target: text.clone().into_bytes() }),
            (None, None, Some(text)) => Some(Entry::Symlink { target: BASE64.decode(text).ok()? }),
            _ => None,
        }
    }
}
