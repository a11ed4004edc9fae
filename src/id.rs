//! The ids of everything that is stored, each a type of its own.
//!
//! How the bytes that are hashed are made is described in `schema/store.md`; this module only holds the values and
//! their text forms.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// So many random bytes are asked for together.
const POOL_BYTES: usize = 512;
/// The longest id.
const MAX_ID_BYTES: usize = 32;

/// Text that is not the hexadecimal form of an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("Not an id of {expected} hexadecimal digits: {text:?}")]
pub struct ParseIdError {
    expected: usize,
    text: String,
}

/// The two hexadecimal digits of each byte.
pub(crate) fn hex_digits(bytes: &[u8]) -> impl Iterator<Item = u8> {
    bytes.iter().flat_map(|byte| hex_pair(*byte))
}

fn hex_pair(byte: u8) -> [u8; 2] {
    let digit = |n: u8| if n < 10 { b'0' + n } else { b'a' + n - 10 };
    [digit(byte >> 4), digit(byte & 0xf)]
}

/// Each run's record has several ids: a write for each byte would take longer than all else in it.
fn write_hex<const N: usize>(bytes: &[u8; N], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    const { assert!(N <= MAX_ID_BYTES) };
    let mut digits = [0; 2 * MAX_ID_BYTES];
    for (pair, byte) in digits.as_chunks_mut().0.iter_mut().zip(bytes) {
        *pair = hex_pair(*byte);
    }
    f.write_str(digits.get(..2 * N).and_then(|digits| str::from_utf8(digits).ok()).unwrap_or_default())
}

fn parse_hex<const N: usize>(text: &str) -> Result<[u8; N], ParseIdError> {
    let error = || ParseIdError { expected: 2 * N, text: text.chars().take(80).collect() };
    if text.len() != 2 * N || !text.is_ascii() {
        return Err(error());
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let digit = |c: Option<&u8>| {
            c.and_then(|c| (*c as char).to_digit(16)).filter(|_| c.is_some_and(|c| !c.is_ascii_uppercase()))
        };
        match (digit(pair.first()), digit(pair.get(1))) {
            (Some(high), Some(low)) => *byte = (high * 16 + low) as u8,
            _ => return Err(error()),
        }
    }
    Ok(bytes)
}

macro_rules! id_type {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; $bytes]);

        impl $name {
            /// The first `digits` hexadecimal digits, as people read them.
            pub fn short(&self, digits: usize) -> String {
                let mut text = self.to_string();
                text.truncate(digits);
                text
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write_hex(&self.0, f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "({})"), self)
            }
        }

        impl FromStr for $name {
            type Err = ParseIdError;

            fn from_str(text: &str) -> Result<Self, ParseIdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

id_type!(
    /// The BLAKE3-256 hash of an object's content: a file, a chunk, a tree or a snapshot.
    ObjectId,
    32
);
id_type!(
    /// The id of one run: eight bytes of time in nanoseconds since 1970, big-endian, then eight random bytes.
    ///
    /// Ids of one host therefore sort by the time at which the runs were captured.
    RunId,
    16
);
id_type!(
    /// The random id that a store gets when it is made.
    StoreId,
    16
);

impl ObjectId {
    /// Hashes `content`.
    pub fn of(content: &[u8]) -> Self {
        Self(*blake3::hash(content).as_bytes())
    }

    /// The first eight bytes as a number: the key under which the index and a frame's prefix name an object.
    pub fn key(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

impl RunId {
    /// Joins a time and random bytes.
    pub fn new(unix_nanoseconds: u64, random: [u8; 8]) -> Self {
        let mut bytes = [0; 16];
        let (time, rest) = bytes.split_at_mut(8);
        time.copy_from_slice(&unix_nanoseconds.to_be_bytes());
        rest.copy_from_slice(&random);
        Self(bytes)
    }

    /// A new id, of a run of this time.
    pub fn at(unix_nanoseconds: u64) -> Self {
        Self::new(unix_nanoseconds, random_bytes())
    }

    /// The time in it: nanoseconds since 1970.
    pub fn nanoseconds(&self) -> u64 {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        u64::from_be_bytes([a, b, c, d, e, f, g, h])
    }
}

/// Random bytes from the operating system.
///
/// # Panics
///
/// Never in practice: only a system without any source of randomness makes it fail.
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    fill(&mut bytes).expect("the operating system has a source of randomness");
    bytes
}

/// Asks the kernel itself: the crate for all systems looks among shared libraries for the function that does it, and without any
/// it opens two devices.
#[cfg(target_os = "linux")]
fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    let filled = rustix::rand::getrandom(&mut *bytes, rustix::rand::GetRandomFlags::empty());
    // Some bytes may be all that it gives, where there are many to give.
    if filled == Ok(bytes.len()) { Ok(()) } else { getrandom::fill(bytes) }
}

#[cfg(not(target_os = "linux"))]
fn fill(bytes: &mut [u8]) -> Result<(), getrandom::Error> {
    getrandom::fill(bytes)
}

/// Random bytes for many ids, asked of the operating system together: each call takes as long as a twentieth of a session's run.
///
/// A forked process has the same bytes: it must begin with a new one.
#[derive(Default)]
pub struct RandomPool {
    bytes: Vec<u8>,
}

impl RandomPool {
    /// Bytes that nobody had before.
    pub fn take<const N: usize>(&mut self) -> [u8; N] {
        if self.bytes.len() < N {
            self.bytes = random_bytes::<POOL_BYTES>().to_vec();
        }
        let taken = self.bytes.last_chunk().copied();
        self.bytes.truncate(self.bytes.len().saturating_sub(N));
        taken.unwrap_or_else(random_bytes)
    }
}

/// Sixteen random hexadecimal digits, for the name of a new file.
pub fn random_name() -> String {
    format!("{:016x}", u64::from_le_bytes(random_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips_and_refuses_other_text() {
        let id = ObjectId::of(b"x");
        assert_eq!(id.to_string().parse::<ObjectId>(), Ok(id));
        for bad in ["", "00", &id.to_string().to_uppercase(), &format!("{}g", &id.to_string()[1..]), &"é".repeat(32)] {
            assert!(bad.parse::<ObjectId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_pool_gives_no_bytes_twice() {
        let mut pool = RandomPool::default();
        let taken: std::collections::HashSet<[u8; 8]> = (0..1000).map(|_| pool.take()).collect();
        assert_eq!(taken.len(), 1000);
        assert_ne!(pool.take::<1024>()[..512], [0; 512], "more than it holds");
    }

    #[test]
    fn run_ids_sort_by_time() {
        assert!(RunId::new(1, [255; 8]) < RunId::new(2, [0; 8]));
    }

    #[test]
    fn key_is_the_head_of_the_text_form() {
        let id = ObjectId::of(b"y");
        assert_eq!(format!("{:016x}", id.key()), id.short(16));
    }
}
