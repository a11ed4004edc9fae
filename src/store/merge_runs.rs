//! Merges journals and small segments into segments.
//!
//! The order is the promise: the new segment is written, flushed, named and read back before anything that it replaces
//! is removed. `schema/store.md` tells why a crash at any point leaves every record in at least one file, and how a
//! reader that is under way meanwhile misses none.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use rayon::prelude::*;
use serde::Serialize;

use super::Store;
use super::held_journals::HeldJournals;
use super::maintenance;
use super::merge_sweep::{Output, Part, check_block, sweep};
use super::run_files::{JournalFile, RunFiles, change_mark};
use super::slot::{JOURNAL_ENDING, JOURNALS};
use crate::error::{Error, Result};
use crate::id::{RunId, random_name};
use crate::index::JournalTail;
use crate::journal::{HEADER_BYTES, Item, decode_record, scan};
use crate::segment::{
    BLOCK_ROWS, Class, EncodedBlock, Fields, Row, SEGMENT_ENDING, Segment, SegmentWriter, Source, encode_block,
    fields_of,
};

/// A step merges so many files at most.
const STEP_FILES: usize = 16;
/// And about so many bytes of segments.
const STEP_BYTES: u64 = 8 << 20;
/// And of journals: some ten thousand records, which take a tenth of a second.
const STEP_JOURNAL_BYTES: u64 = 2 << 20;
/// A step takes a journal that captures go on in only from this length on.
const LONG_JOURNAL_BYTES: u64 = 256 << 10;
/// Journals are decoded in groups of so many bytes: what a group holds in memory is some ten times that.
const GROUP_BYTES: u64 = 3 << 20;
/// The first record of a journal is mostly within so many bytes.
const FIRST_RECORD_BYTES: usize = 4096;

/// How much is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MergeExtent {
    /// At most one level, and work for a moment: what a capture can do by the way.
    Step,
    /// Everything, into one segment.
    Full,
}

/// What a merge did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct MergedRuns {
    /// How many journals went into a segment.
    pub journals: u64,
    /// How many segments did.
    pub segments: u64,
    /// The bytes of these files.
    pub read_bytes: u64,
    /// The bytes of the new segment.
    pub written_bytes: u64,
    /// The rows in it.
    pub rows: u64,
    /// Leftovers of earlier merges that were removed.
    pub leftovers: u64,
    /// Damaged segments of merges that were killed, which were removed because all that they were made of was there.
    pub taken_back: u64,
    /// Journals that stay, because a record in them cannot be read.
    pub unreadable: u64,
}

/// Something to be merged.
enum Input {
    Journal(JournalFile),
    Segment(Arc<Segment>),
}

impl Store {
    /// Merges journals and segments. The caller holds the lock of maintenance: no other merge runs at the same time.
    ///
    /// Journals that writers are appending to stay as they are, and so does one with a record that cannot be read.
    pub fn merge_runs(&self, extent: MergeExtent) -> Result<MergedRuns> {
        self.check_writable()?;
        let mut files = self.with_run_files(Ok)?;
        let mut merged = MergedRuns::default();
        let mut held = HeldJournals::look(self)?;
        let left = self.remove_leftovers(&files, &mut held)?;
        (merged.leftovers, merged.taken_back) = (left.removed.len() as u64, left.taken_back);
        let mut gone = left.removed;
        if merged.taken_back > 0 {
            drop(held);
            files = self.with_run_files(Ok)?;
            held = HeldJournals::look(self)?;
        }
        held.clear_old_notes(&*self.storage, &files.segments)?;
        let inputs = self.choose(&files, extent, &mut held)?;
        if !inputs.is_empty() {
            self.merge_inputs(&files, inputs, &mut held, &mut merged, &mut gone)?;
        }
        drop(held);
        if !gone.is_empty() {
            // The index is a cache: where it is busy, its rows of what is gone point nowhere, and the next merge tells it.
            let tails: Vec<JournalTail> = gone.into_iter().map(JournalTail::gone).collect();
            let _ = self.catalog.add_to_index(&[], &tails, &|| true);
            let _ = self.update_index(false);
        }
        Ok(merged)
    }

    /// Merges journals, and then segments, if there are enough journals and nobody maintains the store just now.
    ///
    /// Whether there are enough is seen from the folder alone, so that it costs nearly nothing to ask.
    pub fn merge_runs_step(&self) -> Result<()> {
        let journals = self.storage.list(JOURNALS)?.into_iter().filter(|file| file.name.ends_with(JOURNAL_ENDING));
        let (files, bytes) = journals.fold((0, 0), |(files, bytes), file| (files + 1, bytes + file.bytes));
        if files < STEP_FILES && bytes < STEP_JOURNAL_BYTES {
            return Ok(());
        }
        let Some(_maintenance) = self.maintenance(Duration::ZERO)? else { return Ok(()) };
        if self.merge_runs(MergeExtent::Step)?.rows > 0 {
            self.merge_runs(MergeExtent::Step)?;
        }
        Ok(())
    }

    fn choose(&self, files: &RunFiles, extent: MergeExtent, held: &mut HeldJournals) -> Result<Vec<Input>> {
        let noted: HashSet<String> = held.notes.iter().filter_map(|note| note.journal.clone()).collect();
        let mut journals: Vec<&JournalFile> = files.journals.iter().collect();
        journals.retain(|journal| journal.file.bytes > HEADER_BYTES as u64);
        if extent == MergeExtent::Full {
            let mut inputs = Vec::new();
            for journal in journals {
                if held.take(self, journal)? {
                    inputs.push(Input::Journal(journal.clone()));
                }
            }
            // One segment of whole blocks is as good as it gets.
            if inputs.is_empty() && files.segments.len() <= 1 {
                return Ok(Vec::new());
            }
            inputs.extend(files.segments.iter().cloned().map(Input::Segment));
            return Ok(inputs);
        }
        // Journals that are closed come first; those in use only once they are long.
        journals.retain(|journal| !noted.contains(&journal.file.name) || journal.file.bytes >= LONG_JOURNAL_BYTES);
        let mut inputs = Vec::new();
        let mut bytes = 0;
        for journal in journals {
            if inputs.len() == STEP_FILES || bytes >= STEP_JOURNAL_BYTES {
                break;
            }
            if held.take(self, journal)? {
                bytes += journal.file.bytes;
                inputs.push(Input::Journal(journal.clone()));
            }
        }
        if inputs.len() == STEP_FILES || bytes >= STEP_JOURNAL_BYTES {
            return Ok(inputs);
        }
        Ok(choose_segments(&files.segments))
    }

    fn merge_inputs(
        &self,
        files: &RunFiles,
        inputs: Vec<Input>,
        held: &mut HeldJournals,
        merged: &mut MergedRuns,
        gone: &mut Vec<String>,
    ) -> Result<()> {
        let mut sources = Vec::new();
        let mut parts: Vec<Part> = Vec::new();
        let mut journals = Vec::new();
        for input in inputs {
            match input {
                Input::Journal(journal) => journals.push(journal),
                // What is damaged stays, so that what is left of it can still be told from what is not.
                Input::Segment(segment) if !segment.is_whole() => merged.unreadable += 1,
                Input::Segment(segment) => {
                    merged.segments += 1;
                    merged.read_bytes += segment.bytes;
                    sources.push(source_of(&segment.name, segment.bytes));
                    parts.extend((0..segment.blocks.len()).map(|block| Part::of_segment(&segment, block)));
                }
            }
        }
        // Journals of one time together: then most blocks need not be merged a second time.
        journals.sort_by_cached_key(|journal| self.first_run(journal));
        let mut group: Vec<JournalFile> = Vec::new();
        let mut group_bytes = 0;
        let mut journals = journals.into_iter().peekable();
        while let Some(journal) = journals.next() {
            group_bytes += journal.file.bytes;
            group.push(journal);
            if group_bytes >= GROUP_BYTES || journals.peek().is_none() {
                let read = self.read_group(&group)?;
                merged.unreadable += group.len() as u64 - read.sources.len() as u64;
                merged.journals += read.sources.len() as u64;
                merged.read_bytes += read.sources.iter().map(|source| source.bytes).sum::<u64>();
                sources.extend(read.sources);
                parts.extend(read.blocks.into_iter().map(Part::in_memory));
                (group, group_bytes) = (Vec::new(), 0);
            }
        }
        if sources.is_empty() || (merged.journals == 0 && sources.len() == 1) {
            return Ok(());
        }
        let removed: Vec<String> = sources.iter().map(|source| source.file_name(JOURNAL_ENDING)).collect();
        for source in self.inherited(files.segments.iter().filter(|segment| removed.contains(&segment.name)))? {
            match sources
                .iter_mut()
                .find(|known| known.number == source.number && known.is_segment == source.is_segment)
            {
                Some(known) => known.bytes = known.bytes.max(source.bytes),
                None => sources.push(source),
            }
        }
        sources.sort();
        let name = format!("{}{SEGMENT_ENDING}", random_name());
        let path = format!("{JOURNALS}/{name}");
        let mut writer = SegmentWriter::create(&*self.storage, maintenance::temporary(), self.config.store)?;
        let mut out = Output::new(&mut writer);
        let swept = sweep(parts, &mut out).and_then(|()| out.finish());
        let written = match swept {
            Ok(written) => written,
            Err(error) => {
                writer.discard();
                return Err(error);
            }
        };
        merged.rows = writer.rows() as u64;
        merged.written_bytes = writer.finish(&path, sources)?;
        if let Err(error) = self.check_written(&path, &written) {
            let _ = self.take_back(&name);
            return Err(error);
        }
        // From here on readers that have listed the folder earlier must list it again.
        change_mark(&*self.storage)?;
        held.remove_merged(&*self.storage, &removed)?;
        gone.extend(removed);
        Ok(())
    }

    /// Reads a group of journals into blocks in memory. One with a record that cannot be read is left out.
    fn read_group(&self, group: &[JournalFile]) -> Result<ReadGroup> {
        let read = group.par_iter().map(|file| self.read_whole(file)).collect::<Result<Vec<_>>>()?;
        let mut sources = Vec::new();
        let mut by_run: BTreeMap<RunId, Vec<Fields>> = BTreeMap::new();
        for (source, records) in read.into_iter().flatten() {
            sources.push(source);
            for (run, fields) in records {
                by_run.entry(run).or_default().push(fields);
            }
        }
        let by_run: Vec<(RunId, Vec<Fields>)> = by_run.into_iter().collect();
        let rows: Vec<Row> = by_run.into_par_iter().map(|(run, records)| Row::new(run, records)).collect();
        let mut by_class: BTreeMap<Class, Vec<Row>> = BTreeMap::new();
        for row in rows {
            by_class.entry(row.class()).or_default().push(row);
        }
        let mut blocks = Vec::new();
        for (class, rows) in by_class {
            let encoded: Vec<EncodedBlock> =
                rows.par_chunks(BLOCK_ROWS).map(|rows| encode_block(class, rows)).collect();
            // What is decoded again must be what was read, before anything relies on it.
            for (block, rows) in encoded.iter().zip(rows.chunks(BLOCK_ROWS)) {
                check_block(block, rows)?;
            }
            blocks.extend(encoded);
        }
        Ok(ReadGroup { sources, blocks })
    }

    /// The run of a journal's first record, if that can be read.
    fn first_run(&self, journal: &JournalFile) -> Option<RunId> {
        let from = journal.merged_bytes.max(HEADER_BYTES as u64);
        let path = format!("{JOURNALS}/{}", journal.file.name);
        let bytes = self.storage.read_range(&path, from, FIRST_RECORD_BYTES).ok()?;
        match scan(&bytes).next()? {
            Item::Record { payload, .. } => decode_record(payload).ok().map(|record| record.run()),
            _ => None,
        }
    }

    /// All records of a journal; `None` where one of them cannot be read.
    fn read_whole(&self, file: &JournalFile) -> Result<Option<ReadJournal>> {
        let (journal, problem) = self.read_unmerged(file)?;
        let (Some(journal), None) = (journal, problem) else { return Ok(None) };
        let end = journal.from + journal.bytes.len() as u64;
        let (values, problems) = self.values_of(&journal);
        // The beginning of a record at the very end is one that no capture returned for; who could go on in it is known
        // to be gone.
        if problems.iter().any(|problem| !problem.unfinished) || self.is_noted_beyond(file, &problems)? {
            return Ok(None);
        }
        let records = values.into_par_iter().map(fields_of).collect::<std::result::Result<Vec<_>, String>>();
        Ok(records.ok().map(|records| (source_of(&file.file.name, end), records)))
    }

    /// Reads a new segment back and compares it with what was meant to be in it.
    fn check_written(&self, path: &str, written: &[[u8; 32]]) -> Result<()> {
        let segment = Arc::new(Segment::open(&self.storage, path, self.config.store)?);
        if segment.blocks.len() != written.len() {
            return Err(self.not_as_written(path));
        }
        let blocks: Vec<usize> = (0..written.len()).collect();
        let check = |number: &usize| -> Result<bool> {
            let summary = segment.blocks.get(*number).ok_or_else(|| self.not_as_written(path))?;
            let bytes = segment.copy_of(summary)?.bytes;
            Ok(written.get(*number) == Some(blake3::hash(&bytes).as_bytes()))
        };
        let is_right = blocks.par_iter().map(check).collect::<Result<Vec<bool>>>()?;
        if is_right.into_iter().all(|right| right) { Ok(()) } else { Err(self.not_as_written(path)) }
    }

    fn not_as_written(&self, what: &str) -> Error {
        Error::damaged(self.storage.full_path(what), "it does not read back as it was written; nothing was removed")
    }
}

/// A journal as the source of a segment, and its records.
type ReadJournal = (Source, Vec<(RunId, Fields)>);

struct ReadGroup {
    sources: Vec<Source>,
    blocks: Vec<EncodedBlock>,
}

fn source_of(name: &str, bytes: u64) -> Source {
    let is_segment = name.ends_with(SEGMENT_ENDING);
    let stem = name.split('.').next().unwrap_or_default();
    Source { number: Source::number_of(stem).unwrap_or_default(), is_segment, bytes }
}

/// The small segments of one tier, if they are enough: each tier has eight times the rows of the one before.
fn choose_segments(segments: &[Arc<Segment>]) -> Vec<Input> {
    let mut tiers: BTreeMap<u32, Vec<&Arc<Segment>>> = BTreeMap::new();
    for segment in segments {
        let rows: u64 = segment.blocks.iter().map(|block| block.rows as u64).sum();
        tiers.entry(rows.max(1).ilog2() / 3).or_default().push(segment);
    }
    for (_, mut tier) in tiers {
        tier.sort_by_key(|segment| segment.blocks.iter().map(|block| block.first).min());
        let mut bytes = 0;
        let fits = |segment: &&&Arc<Segment>| {
            bytes += segment.bytes;
            bytes <= STEP_BYTES
        };
        let chosen: Vec<Input> =
            tier.iter().take(STEP_FILES).take_while(fits).map(|segment| Input::Segment(Arc::clone(segment))).collect();
        if chosen.len() >= STEP_FILES / 2 {
            return chosen;
        }
    }
    Vec::new()
}
