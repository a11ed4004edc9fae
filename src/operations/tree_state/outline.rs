//! A state of which only so much has been read as tells whether anything has changed.

use std::sync::Arc;

use super::format::{self, Unread};
use super::{Structure, Summary, TreeState, is_stored};
use crate::error::Result;
use crate::id::ObjectId;
use crate::storage::open_file;
use crate::store::{Store, Writer};
use crate::tracked_path::SortedPaths;

/// What a state says first.
#[derive(Debug, Clone)]
pub struct Outline {
    /// As in [`TreeState::generation`].
    pub generation: u64,
    /// As in [`TreeState::packs`].
    pub packs: Vec<u64>,
    /// The snapshot.
    pub snapshot: ObjectId,
    /// What its files come to.
    pub totals: Totals,
    /// The files, and how they looked.
    pub files: Arc<SeenFiles>,
    /// Which files these are, if that can be told by stats; what was left out is not there.
    pub structure: Option<Structure>,
}

/// What files come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Whether there is something to be said of some: that they were left out, or a warning.
    pub has_remarks: bool,
}

/// The paths of files, which may lead anywhere, and the stamps that they had.
#[derive(Debug, Clone)]
pub struct SeenFiles {
    /// In ascending order.
    pub paths: SortedPaths,
    /// One for each, if it was settled when the file was read.
    pub stamps: Vec<Option<u64>>,
}

/// A state that is kept, as far as it has been read.
#[derive(Debug)]
pub struct KeptState {
    /// What has been read.
    pub outline: Outline,
    /// What has not.
    pub(super) unread: Unread,
}

impl KeptState {
    /// Reads the state that is kept under a path, as far as [`Outline`] goes; a missing or damaged one is none.
    pub fn load(store: &Store, path: &str) -> Option<Self> {
        format::read(open_file(store.storage(), path).ok()?, store.config().store).ok()
    }

    /// Reads the rest; what is damaged or gone is none.
    pub fn open(self) -> Option<TreeState> {
        self.unread.read(self.outline).ok()
    }

    /// What decides whether a later state is worth keeping in place of this.
    pub fn summary(&self) -> Summary {
        let Outline { generation, packs, snapshot, files, structure, .. } = &self.outline;
        Summary::of((*snapshot, *generation, packs), structure.as_ref(), files.stamps.iter().copied())
    }

    /// As [`TreeState::is_vouched_for`].
    pub fn is_vouched_for(&self, writer: &Writer<'_>) -> Result<bool> {
        is_stored(writer, self.outline.generation, &self.outline.packs)
    }
}
