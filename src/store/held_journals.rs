//! Journals that nobody can append to, for as long as the slots that note them are held.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Store;
use super::run_files::{JournalFile, merged_into};
use super::slot::{FOLDER, JOURNALS, SlotNote, free_journal, slot_notes};
use crate::error::Result;
use crate::journal::HEADER_BYTES;
use crate::segment::Segment;
use crate::storage::{Lock, Storage, remove_if_there};

/// The slots that a merge holds, so that no writer appends to what it takes in.
pub struct HeldJournals {
    locks: BTreeMap<String, Box<dyn Lock>>,
    /// What the slots named when this looked.
    pub notes: Vec<SlotNote>,
    /// The notes of busy slots could not all be read: then no journal without a note is known to be free.
    is_unsure: bool,
}

impl HeldJournals {
    /// Looks at the slots. The journals must have been listed before: a writer notes its journal before the first record
    /// in it, so one that was listed with records and that no note names is nobody's.
    pub fn look(store: &Store) -> Result<Self> {
        let notes = slot_notes(&*store.storage)?;
        Ok(Self { locks: BTreeMap::new(), is_unsure: notes.iter().any(|note| note.is_torn), notes })
    }

    /// Whether a journal may be merged; if a note names it, its slot is ours from now on.
    pub fn take(&mut self, store: &Store, journal: &JournalFile) -> Result<bool> {
        let noting: Vec<SlotNote> =
            self.notes.iter().filter(|note| note.journal.as_ref() == Some(&journal.file.name)).cloned().collect();
        if noting.is_empty() {
            return Ok(!self.is_unsure && journal.file.bytes > HEADER_BYTES as u64);
        }
        for note in noting {
            if self.locks.contains_key(&note.slot) {
                continue;
            }
            let Some(lock) = store.storage.try_lock(&format!("{FOLDER}/{}", note.slot))? else { return Ok(false) };
            self.locks.insert(note.slot, lock);
        }
        Ok(true)
    }

    /// Clears notes that name a merged journal which is gone: a note is not flushed, so a power cut may bring it back. Nobody
    /// would know in the end that the journal is not missing.
    pub fn clear_old_notes(&self, storage: &dyn Storage, segments: &[Arc<Segment>]) -> Result<()> {
        let merged = merged_into(segments);
        let is_old = |note: &&SlotNote| {
            let is_merged = |journal: &&String| merged.get(*journal).is_some_and(|bytes| note.bytes <= *bytes);
            let journal = note.journal.as_ref().filter(is_merged);
            let length = journal.map(|journal| storage.length(&format!("{JOURNALS}/{journal}")));
            length.is_some_and(|length| length.is_err_and(|error| error.is_not_found()))
        };
        let old: Vec<SlotNote> = self.notes.iter().filter(is_old).cloned().collect();
        for note in old.into_iter().filter(|note| !self.locks.contains_key(&note.slot)) {
            // Whoever holds the slot begins a new journal, and notes that, if he appends anything.
            let Some(mut lock) = storage.try_lock(&format!("{FOLDER}/{}", note.slot))? else { continue };
            free_journal(&mut *lock)?;
        }
        Ok(())
    }

    /// Removes files whose records are in a segment with a durable name.
    pub fn remove_merged(&mut self, storage: &dyn Storage, names: &[String]) -> Result<()> {
        for note in self.notes.iter().filter(|note| note.journal.as_ref().is_some_and(|name| names.contains(name))) {
            if let Some(lock) = self.locks.get_mut(&note.slot) {
                // The next writer begins a new journal.
                free_journal(&mut **lock)?;
            }
        }
        for name in names {
            remove_if_there(storage, &format!("{JOURNALS}/{name}"))?;
        }
        storage.sync_folder(JOURNALS)
    }
}
