//! What a capture must know of other runs beforehand, by the index and what it lacks; and bringing the index up to date.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use serde_json::Value;

use super::Store;
use super::run_files::{JournalFile, MAX_TRIES, RunFiles, merged_into};
use super::slot::notes;
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
use crate::index::{Index, IndexError, IndexedFile, JournalTail, NewRun};
use crate::journal::{self, HEADER_BYTES, Item, decode_record};
use crate::run_record::RunRecord;
use crate::segment::{Class, Segment};

/// Unindexed journal bytes from which the index is brought up to date.
pub(super) const TAIL_BACKLOG_BYTES: u64 = 64 << 10;

impl Store {
    /// What the journals hold beyond the index.
    fn tails(&self, indexed: &[IndexedFile], journals: &[JournalFile]) -> Result<Vec<JournalTail>> {
        let indexed = lengths(indexed);
        let mut tails = Vec::new();
        for JournalFile { file, merged_bytes } in journals {
            let from = indexed.get(file.name.as_str()).copied().unwrap_or(0);
            if file.bytes <= from {
                continue;
            }
            // What segments have need not be in the index.
            let start = from.max(*merged_bytes);
            let read = match start {
                0 => self.read_past_header(file).map(|(bytes, _)| bytes),
                _ => self.read_journal(&file.name, start).map(Some),
            };
            let bytes = match read {
                Ok(Some(bytes)) => bytes,
                Err(error) if error.is_not_found() => return Err(error),
                _ => continue,
            };
            let skip = if start == 0 { HEADER_BYTES } else { 0 };
            let (mut runs, mut end) = (Vec::new(), start + skip as u64);
            for item in journal::scan(bytes.get(skip..).unwrap_or_default()) {
                let place = |n: usize| start + (skip + n) as u64;
                match item {
                    Item::Record { offset, end: record_end, payload } => {
                        end = place(record_end);
                        if let Ok(RunRecord::Start(start)) = decode_record(payload) {
                            runs.push(NewRun {
                                offset: place(offset),
                                run: start.run,
                                name: start.name,
                                project: start.project.path,
                                snapshot: start.snapshot,
                            });
                        }
                    }
                    Item::Damage { end: damage_end, .. } => end = place(damage_end),
                    Item::Unfinished { .. } => {}
                }
            }
            tails.push(JournalTail { name: file.name.clone(), from, bytes: end, runs, newest: Vec::new() });
        }
        Ok(tails)
    }

    /// The newest snapshot of a project.
    pub fn newest_of(&self, project: &str) -> Result<Option<ObjectId>> {
        let answer = self.catalog.ask_index(|index| Ok((index.journals()?, index.newest_of(project)?)));
        let (journals, indexed) = answer.unwrap_or_default();
        let known = lengths(&journals);
        self.with_run_files(|files| {
            let tails = self.tails(&journals, &files.journals)?;
            let outside = files.segments.iter().filter(|segment| !known.contains_key(segment.name.as_str()));
            let in_segments = outside.filter_map(|segment| newest_in(segment, Some(project)).into_values().next());
            let recent = tails.iter().flat_map(|tail| &tail.runs).filter(|run| run.project == project);
            let newest = recent.map(|run| (run.run, run.snapshot)).chain(indexed).chain(in_segments);
            Ok(newest.max_by_key(|(run, _)| *run).map(|(_, snapshot)| snapshot))
        })
    }

    /// The index, for who needs its word; `None` where there is none of this generation. Waits until then for whoever is
    /// writing it, and fails where that takes longer.
    pub fn wait_for_index(&self, deadline: Instant) -> Result<Option<Index>, IndexError> {
        let patience = deadline.saturating_duration_since(Instant::now());
        Index::open_waiting(&self.catalog.index_path(), self.config.store, self.config.generation, patience)
    }

    /// Whether there are so many packs that the index should know them, or a large one.
    pub fn has_many_packs(&self) -> bool {
        self.catalog.is_crowded()
    }

    /// Brings the index up to date when enough has gathered, or at any rate with `force`. A busy or read-only index is
    /// left for another time, unless forced.
    pub fn update_index(&self, force: bool) -> Result<()> {
        for _ in 0..MAX_TRIES {
            if self.try_to_update_index(force)? {
                return Ok(());
            }
        }
        if force { Err(self.changes_all_the_time()) } else { Ok(()) }
    }

    /// As [`Store::update_index`]; false where a merge has removed something since it was read.
    fn try_to_update_index(&self, force: bool) -> Result<bool> {
        let indexed = self.catalog.ask_index(|index| index.journals()).unwrap_or_default();
        let known = lengths(&indexed);
        let tails = self.with_run_files(|files| {
            let beyond = |file: &JournalFile| {
                let known = known.get(file.file.name.as_str()).copied().unwrap_or(0);
                file.file.bytes.saturating_sub(known.max(file.merged_bytes))
            };
            let tail_bytes: u64 = files.journals.iter().map(beyond).sum();
            let is_new = |segment: &&Arc<Segment>| !known.contains_key(segment.name.as_str());
            let new: Vec<&Arc<Segment>> = files.segments.iter().filter(is_new).collect();
            if !force && !self.catalog.has_backlog() && tail_bytes < TAIL_BACKLOG_BYTES && new.is_empty() {
                return Ok(None);
            }
            let mut tails = self.tails(&indexed, &files.journals)?;
            tails.extend(new.into_iter().map(segment_tail));
            tails.extend(merged_away(&indexed, &files).map(|name| JournalTail::gone(name.to_owned())));
            Ok(Some((tails, files.mark)))
        })?;
        let Some((mut tails, mark)) = tails else { return Ok(true) };
        if self.has_been_raised() {
            // Whoever has deleted packs since this store was opened has an index that belongs to what is there now.
            return Ok(true);
        }
        // A record beyond its writer's note may not be flushed yet: after a power cut its place would hold another one.
        let notes: HashMap<String, u64> =
            notes(&*self.storage)?.into_iter().map(|note| (note.journal, note.bytes)).collect();
        for tail in &mut tails {
            let limit = notes.get(&tail.name).copied().unwrap_or(u64::MAX);
            if tail.bytes > limit {
                tail.runs.retain(|run| run.offset < limit);
                tail.bytes = limit;
            }
        }
        let packs: Vec<Arc<crate::pack::Pack>> = self.catalog.unindexed();
        let is_current = || self.mark().is_ok_and(|now| now == mark);
        let added = self.catalog.add_to_index(&packs, &tails, &is_current);
        match added {
            Ok(false) => Ok(false),
            Err(error) if force => {
                let reason = std::io::Error::other(error.to_string());
                Err(Error::io("write the index", self.catalog.index_path(), reason))
            }
            _ => self.catalog.refresh().map(|()| true),
        }
    }
}

/// How far the index has read each journal.
fn lengths(indexed: &[IndexedFile]) -> HashMap<&str, u64> {
    indexed.iter().map(|journal| (journal.name.as_str(), journal.bytes)).collect()
}

/// The files that the index knows, and that are parts of a segment now, as far as the index has read them.
fn merged_away<'i>(indexed: &'i [IndexedFile], files: &RunFiles) -> impl Iterator<Item = &'i str> {
    let merged = merged_into(&files.segments);
    let present: HashSet<String> = files.journals.iter().map(|journal| journal.file.name.clone()).collect();
    let is_merged = move |file: &&IndexedFile| merged.get(&file.name).is_some_and(|bytes| file.bytes <= *bytes);
    let gone = indexed.iter().filter(is_merged).map(|file| file.name.as_str());
    gone.filter(move |name| !present.contains(*name))
}

/// What the index keeps of a segment: that it has seen it, and the newest runs of its projects.
fn segment_tail(segment: &Arc<Segment>) -> JournalTail {
    let newest = newest_in(segment, None).into_iter().map(|(project, (run, snapshot))| NewRun {
        offset: 0,
        run,
        name: None,
        project,
        snapshot,
    });
    let newest = newest.collect();
    JournalTail { name: segment.name.clone(), from: 0, bytes: segment.bytes, runs: Vec::new(), newest }
}

/// The newest run of each project in a segment, or of one project.
fn newest_in(segment: &Arc<Segment>, wanted: Option<&str>) -> BTreeMap<String, (RunId, ObjectId)> {
    let mut out: BTreeMap<String, (RunId, ObjectId)> = BTreeMap::new();
    let runs = segment.blocks.iter().enumerate().filter(|(_, summary)| summary.class == Class::Run);
    for (number, summary) in runs.rev() {
        if wanted.is_some() && out.values().next().is_some_and(|(newest, _)| *newest > summary.last) {
            continue;
        }
        let Ok(block) = segment.block(number) else { continue };
        let find = |path: &[&str]| -> Vec<_> { block.columns_at(path).filter_map(|n| block.column(n).ok()).collect() };
        let (projects, snapshots) = (find(&["start", "project", "path"]), find(&["start", "snapshot"]));
        let text = |columns: &[&crate::segment::Column], row: usize| {
            columns.iter().find_map(|column| column.value(row)).and_then(|value| match &*value {
                Value::String(text) => Some(text.clone()),
                _ => None,
            })
        };
        let mut seen = HashSet::new();
        for row in (0..summary.rows).rev() {
            let Some(project) = text(&projects, row) else { continue };
            if wanted.is_some_and(|wanted| wanted != project) || !seen.insert(project.clone()) {
                continue;
            }
            let Some(run) = block.ids().ok().and_then(|ids| ids.get(row).copied()) else { continue };
            let Some(snapshot) = text(&snapshots, row).and_then(|text| text.parse().ok()) else { continue };
            let newest = out.entry(project).or_insert((run, snapshot));
            if newest.0 < run {
                *newest = (run, snapshot);
            }
            if wanted.is_some() {
                break;
            }
        }
    }
    out
}
