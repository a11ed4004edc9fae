//! What is said on the socket: one request, one answer, each a length and JSON.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::TreeKey;
use crate::id::RunId;
use crate::operations::capture::Captured;

/// The version that is spoken here.
pub const VERSION: u32 = 1;
/// A longer request is neither sent nor read.
pub const MAX_REQUEST_BYTES: usize = 4 << 20;
/// A longer answer is neither sent nor read.
pub const MAX_ANSWER_BYTES: usize = 64 << 20;
/// How much is read at once.
const PIECE_BYTES: usize = 8 << 10;

/// Asks for a capture.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// The protocol's version.
    pub version: u32,
    /// The client's version. Another one might capture something else.
    pub runsnap: String,
    /// Which tree.
    #[serde(flatten)]
    pub tree: TreeKey,
    /// The run's id, which names the cookie as well.
    pub run: RunId,
    /// The run's name.
    pub name: Option<String>,
    /// The sweep that it is part of.
    pub sweep: Option<String>,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The folder that gets its two files; absolute.
    pub run_folder: Option<PathBuf>,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// It is captured, and survives a power cut.
    Captured {
        /// The run.
        captured: Box<Captured>,
        /// Whether something that was asked for could not be done.
        has_problems: bool,
    },
    /// The watcher will not do it, for that reason.
    Declined(String),
    /// The watcher has tried. Its error is not handed on: the client tries as well, and meets it itself.
    Failed,
}

impl Request {
    /// Reads a request: `Err` has the reason why it cannot be answered.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Head {
            version: u32,
        }
        let head: Head = serde_json::from_slice(bytes).map_err(|e| format!("not a request: {e}"))?;
        if head.version != VERSION {
            return Err(format!("version {} of the protocol, not {VERSION}", head.version));
        }
        serde_json::from_slice(bytes).map_err(|e| format!("not a request: {e}"))
    }
}

/// A message as it is sent: its length and its JSON. Nothing if it is longer than `limit` or holds what JSON cannot say.
pub fn encode(message: &impl Serialize, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message).ok()?;
    let length = bytes.len() - 4;
    if length > limit {
        return None;
    }
    let length = u32::try_from(length).ok()?.to_le_bytes();
    bytes.splice(..4, length);
    Some(bytes)
}

/// Reads the JSON of one message, of at most `limit` bytes, until `end` at the latest. When nothing has come for as long as
/// the stream waits, `goes_on` decides.
pub fn read_message(
    mut stream: impl Read,
    limit: usize,
    end: Option<Instant>,
    mut goes_on: impl FnMut() -> bool,
) -> io::Result<Vec<u8>> {
    let (mut bytes, mut piece) = (Vec::new(), [0; PIECE_BYTES]);
    loop {
        if let Some((length, rest)) = bytes.split_first_chunk::<4>() {
            let length = u32::from_le_bytes(*length) as usize;
            if length > limit || rest.len() > length {
                return Err(io::ErrorKind::InvalidData.into());
            }
            if rest.len() == length {
                return Ok(rest.to_vec());
            }
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match stream.read(&mut piece) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => bytes.extend(piece.iter().take(count)),
            Err(error) => match error.kind() {
                io::ErrorKind::Interrupted => {}
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut if goes_on() => {}
                _ => return Err(error),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn request() -> Request {
        Request {
            version: VERSION,
            runsnap: "1.2.3".into(),
            tree: TreeKey { root: "/tree".into(), device: u64::MAX, inode: 2, include_secrets: true },
            run: RunId::new(1, [2; 8]),
            name: Some("a".into()),
            sweep: None,
            params: Map::from_iter([("fast".to_owned(), 0.1.into())]),
            tags: vec!["t".into()],
            run_folder: Some("/runs/a".into()),
            environment: BTreeMap::from([("python".into(), "3.12".into())]),
            host: None,
        }
    }

    fn read(bytes: &[u8], limit: usize) -> io::Result<Vec<u8>> {
        read_message(bytes, limit, None, || false)
    }

    #[test]
    fn messages_come_back_as_they_went() {
        let sent = encode(&request(), MAX_REQUEST_BYTES).expect("short enough");
        let read = read(&sent, MAX_REQUEST_BYTES).expect("whole");
        assert_eq!(Request::decode(&read), Ok(request()));
        assert_eq!(encode(&request(), 10), None);
    }

    #[test]
    fn a_version_is_looked_at_before_the_rest() {
        let error = Request::decode(br#"{"version":7,"what":"else"}"#).unwrap_err();
        assert_eq!(error, "version 7 of the protocol, not 1");
        assert!(Request::decode(br#"{"version":1}"#).unwrap_err().starts_with("not a request: missing field"));
    }

    #[test]
    fn wrong_lengths_are_refused() {
        let kind = |bytes: &[u8], limit| read(bytes, limit).map_err(|error| error.kind());
        assert_eq!(kind(b"\x02\0\0\0{}", 2), Ok(b"{}".to_vec()));
        assert_eq!(kind(b"\x03\0\0\0{} ", 2), Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(b"\x01\0\0\0{}", 9), Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(b"\x03\0\0\0{}", 9), Err(io::ErrorKind::UnexpectedEof));
        assert_eq!(kind(b"\xff\xff\xff\xff{}", MAX_ANSWER_BYTES), Err(io::ErrorKind::InvalidData));
        assert_eq!(kind(b"\x02\0", 9), Err(io::ErrorKind::UnexpectedEof));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(&bytes, 200);
            let _ = Request::decode(&bytes);
            let _ = serde_json::from_slice::<Answer>(&bytes);
        }
    }
}
