//! What of a state has changed since it was kept: so much is written of it, and no more.

use std::collections::BTreeSet;

/// How a state is kept, and what of it is another since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// The length of its file.
    pub bytes: u64,
    /// The length of the part in which it stands whole.
    pub base_bytes: u64,
    /// The last checksum in the file.
    pub check: [u8; 8],
    /// The packs that it named.
    pub packs: Vec<u64>,
    /// The files that have changed, by their places.
    pub files: BTreeSet<usize>,
    /// The folders whose trees have.
    pub trees: BTreeSet<usize>,
    /// The folders whose stamps have.
    pub folders: BTreeSet<usize>,
}

impl Kept {
    /// Nothing has changed yet.
    pub fn new(bytes: u64, base_bytes: u64, check: [u8; 8]) -> Self {
        let (files, trees, folders) = Default::default();
        Self { bytes, base_bytes, check, packs: Vec::new(), files, trees, folders }
    }

    /// Whether there is room for so many more bytes before the whole is better written again.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes + bytes as u64 <= self.base_bytes + self.base_bytes / 4
    }
}
