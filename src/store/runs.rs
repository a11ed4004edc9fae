//! The runs of a store, in the order of their ids: rows of segments, and in memory the records that no segment has.
//!
//! Blocks whose ids overlap, and the records in memory that are about runs in their range, make a **span**. Most spans
//! are one block with nothing else: their rows are the block's rows, and nothing is read of them before it is asked for.
//! Only where several files know of the same time are ids read and merged.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, OnceLock};

use rayon::prelude::*;

use super::Store;
use super::catalog::locked;
use super::run_files::{Journal, JournalProblem, RunFiles};
use super::run_join::{Run, join};
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::run_record::RunRecord;
use crate::segment::{Block, Class, NameHash, Row, Segment};

/// So many blocks are kept for those who put one run together after the other.
const CACHED_BLOCKS: usize = 8;
/// No block, or no records in memory.
const NONE: u32 = u32::MAX;

/// A run's place among all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RowRef {
    /// The span.
    pub span: u32,
    /// Its place in the span.
    pub row: u32,
}

/// A block of one of the segments.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct BlockRef {
    segment: usize,
    block: usize,
}

/// A run in a span of several sources.
#[derive(Debug)]
struct MergedRow {
    block: u32,
    row: u32,
    in_memory: u32,
    /// Where else it is: the same run in two segments.
    others: Option<Box<[(u32, u32)]>>,
}

#[derive(Debug, Default)]
struct Merged {
    ids: Vec<RunId>,
    rows: Vec<MergedRow>,
}

#[derive(Debug)]
struct Span {
    first: RunId,
    last: RunId,
    blocks: Vec<BlockRef>,
    /// The runs in memory that fall into it.
    in_memory: Range<usize>,
    rows: usize,
    merged: OnceLock<Merged>,
}

impl Span {
    fn is_plain(&self) -> bool {
        self.blocks.len() == 1 && self.in_memory.is_empty()
    }
}

/// What is known of a run outside of the blocks of runs.
#[derive(Debug)]
struct InMemory {
    run: RunId,
    records: Vec<RunRecord>,
    has_start: bool,
    is_forgotten: bool,
}

/// Where a row of a span is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    /// In one row of one block of the span and nowhere else.
    InBlock {
        /// The block's place in [`Runs::blocks_of`].
        block: usize,
        /// The row.
        row: usize,
    },
    /// In several places, or in memory.
    Joined,
}

/// All runs.
#[derive(Debug, Default)]
pub struct Runs {
    /// What could not be read while they were opened.
    pub problems: Vec<JournalProblem>,
    segments: Vec<Arc<Segment>>,
    in_memory: Vec<InMemory>,
    spans: Vec<Span>,
    cache: Mutex<Vec<(BlockRef, Arc<Block>)>>,
    late: Arc<Mutex<Vec<JournalProblem>>>,
}

impl Store {
    /// Opens all runs. Journals are read; what segments have is read when it is asked for.
    pub fn runs(&self) -> Result<Runs> {
        self.with_run_files(|files| self.runs_in(files))
    }

    fn runs_in(&self, files: RunFiles) -> Result<Runs> {
        let mut runs = Runs { problems: files.problems, segments: files.segments, ..Runs::default() };
        let mut journals: Vec<Journal> = Vec::new();
        for journal in &files.journals {
            let (journal, problem) = self.read_unmerged(journal)?;
            runs.problems.extend(problem);
            journals.extend(journal);
        }
        // Threads are started for what takes longer than that does.
        let read: Vec<(Vec<RunRecord>, Vec<JournalProblem>)> = match journals.len() {
            0 | 1 => journals.iter().map(|journal| self.records_of(journal)).collect(),
            _ => journals.par_iter().map(|journal| self.records_of(journal)).collect(),
        };
        drop(journals);
        let mut by_run: BTreeMap<RunId, Vec<RunRecord>> = BTreeMap::new();
        for (records, problems) in read {
            runs.problems.extend(problems);
            for record in records {
                by_run.entry(record.run()).or_default().push(record);
            }
        }
        let orphans = runs.blocks_of_class(Class::Orphan).collect::<Vec<_>>();
        for place in orphans {
            let Some(block) = runs.open_block(place) else { continue };
            for row in block.rows(0..block.summary.rows, &mut |error| runs.note(place.segment, &error)) {
                by_run.entry(row.run).or_default().extend(row.into_records());
            }
        }
        runs.in_memory = by_run
            .into_iter()
            .map(|(run, records)| InMemory {
                run,
                has_start: records.iter().any(|record| matches!(record, RunRecord::Start(_))),
                is_forgotten: records.iter().any(|record| matches!(record, RunRecord::Forget(_))),
                records,
            })
            .collect();
        runs.forget_in_memory();
        runs.make_spans();
        runs.problems.append(&mut locked(&runs.late));
        Ok(runs)
    }
}

impl Runs {
    fn blocks_of_class(&self, class: Class) -> impl Iterator<Item = BlockRef> {
        let blocks = self.segments.iter().enumerate().flat_map(|(segment, opened)| {
            opened.blocks.iter().enumerate().map(move |(block, summary)| (BlockRef { segment, block }, summary.class))
        });
        blocks.filter(move |(_, found)| *found == class).map(|(place, _)| place)
    }

    fn range_of(&self, place: BlockRef) -> (RunId, RunId, usize) {
        let summary = self.segments.get(place.segment).and_then(|segment| segment.blocks.get(place.block));
        summary.map_or((RunId([0; 16]), RunId([0; 16]), 0), |summary| (summary.first, summary.last, summary.rows))
    }

    /// Forgets the runs in memory whose start and forget records a segment has seen.
    fn forget_in_memory(&mut self) {
        let forgotten: Vec<BlockRef> = self.blocks_of_class(Class::Forgotten).collect();
        for place in forgotten {
            let (first, last, _) = self.range_of(place);
            let from = self.in_memory.partition_point(|one| one.run < first);
            let to = self.in_memory.partition_point(|one| one.run <= last);
            if from == to {
                continue;
            }
            let Some(block) = self.open_block(place) else { continue };
            let Ok(ids) = block.ids() else { continue };
            for one in self.in_memory.get_mut(from..to).unwrap_or_default() {
                one.is_forgotten |= ids.binary_search(&one.run).is_ok();
            }
        }
    }

    fn make_spans(&mut self) {
        let with_range = |place: BlockRef| {
            let (first, last, rows) = self.range_of(place);
            (first, last, rows, place)
        };
        let mut blocks: Vec<_> = self.blocks_of_class(Class::Run).map(with_range).collect();
        // A run that was forgotten in one segment may be in another still.
        let hides = |forgotten: &(RunId, RunId, usize, BlockRef)| {
            let (first, last, _, place) = forgotten;
            blocks.iter().any(|(a, b, _, other)| other.segment != place.segment && a <= last && first <= b)
        };
        let hiding: Vec<_> = self.blocks_of_class(Class::Forgotten).map(with_range).filter(hides).collect();
        blocks.extend(hiding);
        blocks.sort();
        let mut spans: Vec<Span> = Vec::new();
        for (first, last, rows, place) in blocks {
            match spans.last_mut() {
                Some(span) if first <= span.last => {
                    span.last = span.last.max(last);
                    span.blocks.push(place);
                    span.rows += rows;
                }
                _ => spans.push(Span {
                    first,
                    last,
                    blocks: vec![place],
                    in_memory: 0..0,
                    rows,
                    merged: OnceLock::new(),
                }),
            }
        }
        let mut all = Vec::with_capacity(spans.len() + 1);
        let mut next = 0;
        for mut span in spans {
            let before = self.in_memory.partition_point(|one| one.run < span.first);
            let end = self.in_memory.partition_point(|one| one.run <= span.last);
            all.extend(self.span_in_memory(next..before));
            span.in_memory = before..end;
            next = end;
            all.push(span);
        }
        all.extend(self.span_in_memory(next..self.in_memory.len()));
        self.spans = all;
    }

    /// The span of runs that are in memory alone.
    fn span_in_memory(&self, range: Range<usize>) -> Option<Span> {
        let runs = self.in_memory.get(range.clone())?;
        let (first, last) = (runs.first()?.run, runs.last()?.run);
        Some(Span { first, last, blocks: Vec::new(), in_memory: range, rows: 0, merged: OnceLock::new() })
    }

    fn merged<'s>(&self, span: &'s Span) -> &'s Merged {
        let shown = |one: &InMemory| one.has_start && !one.is_forgotten;
        // Nothing of this waits for another span, so that threads of one pool may ask for the same.
        span.merged.get_or_init(|| {
            let mut all: Vec<(RunId, u32, u32)> = Vec::with_capacity(span.rows);
            for (number, place) in span.blocks.iter().enumerate() {
                let Some(block) = self.open_block(*place) else { continue };
                match block.ids() {
                    Ok(ids) => all.extend(ids.iter().enumerate().map(|(row, id)| (*id, number as u32, row as u32))),
                    Err(error) => self.note(place.segment, &error),
                }
            }
            all.sort_unstable();
            let is_hiding = |number: u32| {
                let place = span.blocks.get(number as usize);
                place
                    .and_then(|place| self.segments.get(place.segment)?.blocks.get(place.block))
                    .is_some_and(|summary| summary.class == Class::Forgotten)
            };
            let mut out = Merged::default();
            let mut in_memory = span.in_memory.clone().peekable();
            let only_in_memory = |number: usize, out: &mut Merged| {
                let Some(one) = self.in_memory.get(number).filter(|one| shown(one)) else { return };
                out.ids.push(one.run);
                out.rows.push(MergedRow { block: NONE, row: 0, in_memory: number as u32, others: None });
            };
            for same in all.chunk_by(|a, b| a.0 == b.0) {
                let Some((id, block, row)) = same.first().copied() else { continue };
                let run_of = |number: usize| self.in_memory.get(number).map(|one| one.run);
                while let Some(number) = in_memory.next_if(|number| run_of(*number).is_some_and(|run| run < id)) {
                    only_in_memory(number, &mut out);
                }
                let beside = in_memory.next_if(|number| run_of(*number) == Some(id));
                let one = beside.and_then(|number| self.in_memory.get(number));
                if one.is_some_and(|one| one.is_forgotten) || same.iter().any(|(_, block, _)| is_hiding(*block)) {
                    continue;
                }
                let others: Vec<(u32, u32)> = same.iter().skip(1).map(|(_, block, row)| (*block, *row)).collect();
                out.ids.push(id);
                out.rows.push(MergedRow {
                    block,
                    row,
                    in_memory: beside.map_or(NONE, |number| number as u32),
                    others: (!others.is_empty()).then(|| others.into_boxed_slice()),
                });
            }
            in_memory.for_each(|number| only_in_memory(number, &mut out));
            out
        })
    }

    /// How many spans there are.
    pub fn spans(&self) -> usize {
        self.spans.len()
    }

    /// Whether a span is one block with nothing beside it.
    pub fn is_plain(&self, span: usize) -> bool {
        self.spans.get(span).is_some_and(Span::is_plain)
    }

    /// How many runs a span has.
    pub fn rows_in(&self, span: usize) -> usize {
        match self.spans.get(span) {
            Some(span) if span.is_plain() => span.rows,
            Some(span) => self.merged(span).rows.len(),
            None => 0,
        }
    }

    /// How many runs there are.
    pub fn len(&self) -> usize {
        (0..self.spans.len()).map(|span| self.rows_in(span)).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All places, in the order of the runs' ids.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = RowRef> {
        (0..self.spans.len())
            .flat_map(|span| (0..self.rows_in(span)).map(move |row| RowRef { span: span as u32, row: row as u32 }))
    }

    /// All runs, each put together when its turn comes.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Run> {
        self.rows().filter_map(|row| self.run(row))
    }

    /// The blocks of a span, without those that cannot be read.
    pub fn blocks_of(&self, span: usize) -> Vec<Option<Arc<Block>>> {
        let blocks = self.spans.get(span).map(|span| span.blocks.as_slice()).unwrap_or_default();
        blocks.iter().map(|place| self.open_block(*place)).collect()
    }

    /// Where a row of a span is.
    pub fn find(&self, span: usize, row: usize) -> Found {
        let Some(found) = self.spans.get(span) else { return Found::Joined };
        if found.is_plain() {
            return Found::InBlock { block: 0, row };
        }
        match self.merged(found).rows.get(row) {
            Some(MergedRow { block, row, in_memory: NONE, others: None }) if *block != NONE => {
                Found::InBlock { block: *block as usize, row: *row as usize }
            }
            _ => Found::Joined,
        }
    }

    /// A run's id.
    pub fn id(&self, place: RowRef) -> Option<RunId> {
        let span = self.spans.get(place.span as usize)?;
        if !span.is_plain() {
            return self.merged(span).ids.get(place.row as usize).copied();
        }
        let block = self.block(*span.blocks.first()?)?;
        block.ids().ok()?.get(place.row as usize).copied()
    }

    /// The places of the runs from one id to another.
    pub fn between(&self, first: RunId, last: RunId) -> Vec<RowRef> {
        let mut out = Vec::new();
        for (number, span) in self.spans.iter().enumerate().filter(|(_, span)| span.first <= last && first <= span.last)
        {
            let block = match span.is_plain() {
                true => span.blocks.first().and_then(|place| self.block(*place)),
                false => None,
            };
            let ids = match &block {
                Some(block) => block.ids().unwrap_or_default(),
                None if span.is_plain() => &[],
                None => &self.merged(span).ids,
            };
            let (from, to) = (ids.partition_point(|id| *id < first), ids.partition_point(|id| *id <= last));
            out.extend((from..to).map(|row| RowRef { span: number as u32, row: row as u32 }));
        }
        out
    }

    /// Puts one run together; `None` where damage has taken its start.
    pub fn run(&self, place: RowRef) -> Option<Run> {
        let span = self.spans.get(place.span as usize)?;
        let mut places = Vec::new();
        let mut records = Vec::new();
        if span.is_plain() {
            places.push((0, place.row));
        } else {
            let row = self.merged(span).rows.get(place.row as usize)?;
            if row.block != NONE {
                places.push((row.block, row.row));
            }
            places.extend(row.others.iter().flat_map(|others| others.iter().copied()));
            let in_memory = self.in_memory.get(row.in_memory as usize);
            records.extend(in_memory.into_iter().flat_map(|one| one.records.iter().cloned()));
        }
        for (block, row) in places {
            let place = *span.blocks.get(block as usize)?;
            let Some(block) = self.block(place) else { continue };
            let row = row as usize;
            let rows = block.rows(row..row + 1, &mut |error| self.note(place.segment, &error));
            records.extend(rows.into_iter().flat_map(Row::into_records));
        }
        join(records).into_iter().next()
    }

    /// Whether a block may have a run of that name.
    pub fn may_have_name(&self, span: usize, name: NameHash) -> bool {
        let Some(span) = self.spans.get(span) else { return false };
        let may = |place: &BlockRef| {
            let segment = self.segments.get(place.segment)?;
            segment.may_have_name(segment.blocks.get(place.block)?, name).ok()
        };
        !span.in_memory.is_empty() || span.blocks.iter().any(|place| may(place).unwrap_or(true))
    }

    /// The segments.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// What could not be read since the runs were opened, each part once.
    pub fn late_problems(&self) -> Vec<JournalProblem> {
        std::mem::take(&mut locked(&self.late))
    }

    /// Where later problems gather, for those who outlive the runs.
    pub fn late(&self) -> Arc<Mutex<Vec<JournalProblem>>> {
        Arc::clone(&self.late)
    }

    fn note(&self, segment: usize, error: &Error) {
        let Some(segment) = self.segments.get(segment) else { return };
        let reason = match error {
            Error::Damaged { reason, .. } => reason.clone(),
            other => other.to_string(),
        };
        let (path, name) = (segment.path().to_owned(), segment.name.clone());
        let problem = JournalProblem { path, name, offset: 0, end: segment.bytes, unfinished: false, reason };
        let mut late = locked(&self.late);
        if !late.contains(&problem) && !self.problems.contains(&problem) {
            late.push(problem);
        }
    }

    fn open_block(&self, place: BlockRef) -> Option<Arc<Block>> {
        match self.segments.get(place.segment)?.block(place.block) {
            Ok(block) => Some(Arc::new(block)),
            Err(error) => {
                self.note(place.segment, &error);
                None
            }
        }
    }

    /// A block that is likely to be asked for again.
    fn block(&self, place: BlockRef) -> Option<Arc<Block>> {
        let mut cache = locked(&self.cache);
        if let Some(at) = cache.iter().position(|(cached, _)| *cached == place) {
            let found = cache.remove(at);
            let block = Arc::clone(&found.1);
            cache.push(found);
            return Some(block);
        }
        let block = self.open_block(place)?;
        if cache.len() == CACHED_BLOCKS {
            cache.remove(0);
        }
        cache.push((place, Arc::clone(&block)));
        Some(block)
    }

    /// Reads every block of every segment to its end; what is wrong is in [`Runs::late_problems`].
    pub fn check(&self) {
        let blocks: Vec<BlockRef> = [Class::Run, Class::Orphan, Class::Forgotten]
            .into_iter()
            .flat_map(|class| self.blocks_of_class(class).collect::<Vec<_>>())
            .collect();
        blocks.par_iter().for_each(|place| {
            if let Some(block) = self.open_block(*place) {
                block.check(&mut |error| self.note(place.segment, &error));
            }
        });
    }
}
