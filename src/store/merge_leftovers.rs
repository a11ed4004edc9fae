//! What merges that were killed have left, and what of it must still be known.

use std::collections::HashSet;
use std::sync::Arc;

use super::Store;
use super::held_journals::HeldJournals;
use super::run_files::{JournalFile, JournalProblem, RunFiles, change_mark, merged_into};
use super::slot::{JOURNAL_ENDING, JOURNALS, notes, slot_notes};
use crate::error::Result;
use crate::segment::{SEGMENT_ENDING, Segment, Source};

/// What was done about leftovers.
pub struct RemovedLeftovers {
    /// The files that were removed: all their records are in a segment.
    pub removed: Vec<String>,
    /// How many damaged segments were removed, because all that they were made of is there.
    pub taken_back: u64,
}

impl Store {
    /// Removes what a segment has taken in and a killed merge has left.
    pub(super) fn remove_leftovers(&self, files: &RunFiles, held: &mut HeldJournals) -> Result<RemovedLeftovers> {
        let mut free = Vec::new();
        for file in &files.leftovers {
            let journal = JournalFile { file: file.clone(), merged_bytes: 0 };
            if !file.name.ends_with(SEGMENT_ENDING) && !held.take(self, &journal)? {
                continue;
            }
            // It may have grown before its slot was ours, or be shorter than it was.
            let is_as_listed = self.storage.length(&format!("{JOURNALS}/{}", file.name)).ok() == Some(file.bytes);
            if is_as_listed && !self.is_noted_beyond(&journal, &[])? {
                free.push(file.name.clone());
            }
        }
        // Who wrote the segments may have been killed before he read them back.
        let names_any = |segment: &&Arc<Segment>| {
            segment.sources.iter().any(|source| free.contains(&source.file_name(JOURNAL_ENDING)))
        };
        let (whole, damaged): (Vec<_>, Vec<_>) =
            files.segments.iter().filter(names_any).cloned().partition(|segment| segment.is_whole());
        if !damaged.is_empty() {
            let sure = merged_into(&whole);
            free.retain(|name| {
                let listed = files.leftovers.iter().find(|file| file.name == *name);
                listed.is_some_and(|file| sure.get(name).is_some_and(|bytes| file.bytes <= *bytes))
            });
        }
        let mut taken_back = 0;
        for segment in damaged {
            if self.sources_are_there(&segment, &whole)? {
                self.take_back(&segment.name)?;
                taken_back += 1;
            }
        }
        if !free.is_empty() {
            change_mark(&*self.storage)?;
            held.remove_merged(&*self.storage, &free)?;
        }
        Ok(RemovedLeftovers { removed: free, taken_back })
    }

    /// Whether all that a segment was made of can still be read without it: by itself or in one of `whole`.
    fn sources_are_there(&self, segment: &Segment, whole: &[Arc<Segment>]) -> Result<bool> {
        let others = merged_into(whole);
        for source in &segment.sources {
            let name = source.file_name(JOURNAL_ENDING);
            let path = format!("{JOURNALS}/{name}");
            let is_there = match self.storage.length(&path) {
                Err(error) if error.is_not_found() => false,
                Err(error) => return Err(error),
                Ok(_) if source.is_segment => Segment::open(&self.storage, &path, self.config.store)
                    .is_ok_and(|segment| Arc::new(segment).is_whole()),
                Ok(bytes) => bytes >= source.bytes,
            };
            if !is_there && others.get(&name).is_none_or(|bytes| *bytes < source.bytes) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Removes a segment that is not what was meant, and whose sources are there: they count again.
    pub(super) fn take_back(&self, name: &str) -> Result<()> {
        self.take_out_run_files(&[name], || {
            self.storage.remove(&format!("{JOURNALS}/{name}"))?;
            self.storage.sync_folder(JOURNALS)
        })
    }

    /// Of what segments were made of, that which must still be known when these segments are gone: files that are there all the
    /// same, for a merge was killed or a writer is in the way, those that a note names, and those that the index cannot be told
    /// of just now. Of a name that stood there alone it could not be said where its records are.
    pub(super) fn inherited<'f>(&self, segments: impl Iterator<Item = &'f Arc<Segment>>) -> Result<Vec<Source>> {
        let noted: HashSet<String> = slot_notes(&*self.storage)?.into_iter().filter_map(|note| note.journal).collect();
        let name_of = |source: &Source| source.file_name(JOURNAL_ENDING);
        let is_there = |source: &Source| {
            let length = self.storage.length(&format!("{JOURNALS}/{}", name_of(source)));
            noted.contains(&name_of(source)) || !length.is_err_and(|error| error.is_not_found())
        };
        let (mut there, gone): (Vec<Source>, Vec<Source>) =
            segments.flat_map(|segment| segment.sources.iter().cloned()).partition(is_there);
        if !gone.is_empty() {
            let names: Vec<(String, u64)> = gone.iter().map(|source| (name_of(source), source.bytes)).collect();
            match self.catalog.forget_in_index(&names) {
                Ok(kept) => there.extend(gone.into_iter().filter(|source| kept.contains(&name_of(source)))),
                Err(_) => there.extend(gone),
            }
        }
        Ok(there)
    }

    /// Whether a note or the index says that something was flushed which is not whole: then it is damage, and verify is
    /// to tell.
    pub(super) fn is_noted_beyond(&self, file: &JournalFile, problems: &[JournalProblem]) -> Result<bool> {
        let notes = notes(&*self.storage)?.into_iter().map(|note| (note.journal, note.bytes));
        let indexed = self.catalog.ask_index(|index| index.journals()).unwrap_or_default();
        let known = notes.chain(indexed.into_iter().map(|journal| (journal.name, journal.bytes)));
        let flushed = known.filter(|(name, _)| *name == file.file.name).map(|(_, bytes)| bytes).max().unwrap_or(0);
        Ok(file.file.bytes < flushed || problems.iter().any(|problem| problem.offset < flushed))
    }
}
