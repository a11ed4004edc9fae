//! The runs of a store: every record of every journal, joined into one picture per run.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Map, Value};

use super::Store;
use super::slot::{JOURNAL_ENDING, JOURNALS, notes};
use crate::error::{Error, Result};
use crate::file_header::Header;
use crate::id::{ObjectId, RunId};
use crate::index::{IndexedFile, IndexedRun, JournalTail, NewRun};
use crate::journal::{self, HEADER_BYTES, Item, MAX_JOURNAL_BYTES, decode_record};
use crate::run_record::{RunRecord, RunStart};
use crate::storage::StoredFile;

/// Unindexed journal bytes from which the index is brought up to date.
const TAIL_BACKLOG_BYTES: u64 = 64 << 10;

/// A run with everything that its records say.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How it began.
    pub start: RunStart,
    /// The latest value of each metric.
    pub metrics: Map<String, Value>,
    /// All tags, sorted.
    pub tags: Vec<String>,
    /// The exit status of its process, once it has ended.
    pub exit_status: Option<Option<i32>>,
}

impl Run {
    /// Its id.
    pub fn id(&self) -> RunId {
        self.start.run
    }

    /// Its name, or its id where it has none.
    pub fn label(&self) -> String {
        self.start.name.clone().unwrap_or_else(|| self.start.run.to_string())
    }
}

/// Something wrong in a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalProblem {
    /// The journal.
    pub path: PathBuf,
    /// The journal's name in its folder.
    pub name: String,
    /// The first byte hit.
    pub offset: u64,
    /// The first byte after it.
    pub end: u64,
    /// Whether it is no more than the end of a record that a killed writer began.
    pub unfinished: bool,
    /// What it is, for people.
    pub reason: String,
}

/// All runs.
#[derive(Debug, Default)]
pub struct Runs {
    /// In the order of their ids, which is the order of their times.
    pub runs: Vec<Run>,
    /// What could not be read.
    pub problems: Vec<JournalProblem>,
}

struct Journal {
    name: String,
    bytes: Vec<u8>,
}

impl Store {
    fn journal_names(&self) -> Result<Vec<StoredFile>> {
        let mut files = self.storage.list(JOURNALS)?;
        files.retain(|file| file.name.ends_with(JOURNAL_ENDING));
        Ok(files)
    }

    fn journal_path(&self, name: &str) -> PathBuf {
        self.storage.full_path(&format!("{JOURNALS}/{name}"))
    }

    /// Reads a journal from `offset` on and checks its header where that is the beginning.
    fn read_journal(&self, name: &str, offset: u64) -> Result<Vec<u8>> {
        let path = format!("{JOURNALS}/{name}");
        let damaged = |reason: String| Error::damaged(self.storage.full_path(&path), reason);
        let length = self.storage.length(&path)?;
        if length > MAX_JOURNAL_BYTES {
            return Err(damaged(format!("{length} bytes long, the limit is {MAX_JOURNAL_BYTES}")));
        }
        let bytes = self.storage.read_range(&path, offset, length.saturating_sub(offset) as usize)?;
        if offset > 0 {
            return Ok(bytes);
        }
        match journal::FILE.decode(&bytes).map_err(&damaged)? {
            Header::Known(store) if store == self.config.store => Ok(bytes),
            Header::Known(_) => Err(damaged("it belongs to another store".into())),
            Header::Newer(version) => Err(Error::NewerFormat {
                path: self.storage.full_path(&path),
                found: version.into(),
                known: journal::FILE.version.into(),
            }),
        }
    }

    /// Reads a whole journal even where its header is wrong: its bytes, where its records can be read, and the problem.
    fn read_past_header(&self, file: &StoredFile) -> Result<(Option<Vec<u8>>, Option<JournalProblem>)> {
        let reason = match self.read_journal(&file.name, 0) {
            Ok(bytes) => return Ok((Some(bytes), None)),
            Err(Error::Damaged { reason, .. }) => reason,
            // A flipped bit looks the same, and records have checksums of their own.
            Err(Error::NewerFormat { found, known, .. }) => {
                format!("has format version {found}, this runsnap reads up to {known}")
            }
            // Maintenance has merged it since it was listed.
            Err(error) if error.is_not_found() => return Ok((None, None)),
            Err(error) => return Err(error),
        };
        // The header is flushed before the first record is written: a file of no more holds none.
        let unfinished = file.bytes <= HEADER_BYTES as u64;
        // The records may be whole even where the header is not; those of another store are not ours.
        let path = format!("{JOURNALS}/{}", file.name);
        let is_foreign = self.storage.read_range(&path, 0, HEADER_BYTES).is_ok_and(|head| {
            let (mine, id_at) = (journal::encode_header(self.config.store), HEADER_BYTES - 16);
            head.get(..id_at) == mine.get(..id_at) && differs_much(&head, &mine)
        });
        let bytes = if is_foreign { None } else { self.storage.read(&path, MAX_JOURNAL_BYTES).ok() };
        let end = if bytes.is_some() { file.bytes.min(HEADER_BYTES as u64) } else { file.bytes };
        let path = self.journal_path(&file.name);
        Ok((bytes, Some(JournalProblem { path, name: file.name.clone(), offset: 0, end, unfinished, reason })))
    }

    /// Reads all records of all journals.
    pub fn runs(&self) -> Result<Runs> {
        let mut problems = Vec::new();
        let mut journals = Vec::new();
        for file in self.journal_names()? {
            let (bytes, problem) = self.read_past_header(&file)?;
            problems.extend(problem);
            journals.extend(bytes.map(|bytes| Journal { name: file.name, bytes }));
        }
        let read: Vec<(Vec<RunRecord>, Vec<JournalProblem>)> =
            journals.par_iter().map(|j| self.records_of(j)).collect();
        let mut records = Vec::new();
        for (some, wrong) in read {
            records.extend(some);
            problems.extend(wrong);
        }
        Ok(Runs { runs: join(records), problems })
    }

    fn records_of(&self, journal: &Journal) -> (Vec<RunRecord>, Vec<JournalProblem>) {
        let mut records = Vec::new();
        let mut problems = Vec::new();
        let body = journal.bytes.get(HEADER_BYTES..).unwrap_or_default();
        let mut problem = |offset: usize, end: usize, unfinished: bool, reason: String| {
            let at = |n: usize| (n + HEADER_BYTES) as u64;
            let path = self.journal_path(&journal.name);
            problems.push(JournalProblem {
                path,
                name: journal.name.clone(),
                offset: at(offset),
                end: at(end),
                unfinished,
                reason,
            });
        };
        for item in journal::scan(body) {
            match item {
                Item::Record { offset, end, payload } => match decode_record(payload) {
                    Ok(record) => records.push(record),
                    Err(reason) => {
                        problem(offset, end, false, format!("a record that this runsnap cannot read: {reason}"))
                    }
                },
                Item::Damage { offset, end } => problem(offset, end, false, "damaged".to_owned()),
                Item::Unfinished { offset, end } => {
                    problem(offset, end, true, "the beginning of a record that was never finished".to_owned());
                }
            }
        }
        (records, problems)
    }

    /// What the journals hold beyond the index.
    fn tails(&self, indexed: &[IndexedFile]) -> Result<Vec<JournalTail>> {
        let indexed = lengths(indexed);
        let mut tails = Vec::new();
        for file in self.journal_names()? {
            let from = indexed.get(file.name.as_str()).copied().unwrap_or(0);
            if file.bytes <= from {
                continue;
            }
            let bytes = match from {
                0 => self.read_past_header(&file).ok().and_then(|(bytes, _)| bytes),
                _ => self.read_journal(&file.name, from).ok(),
            };
            let Some(bytes) = bytes else { continue };
            let skip = if from == 0 { HEADER_BYTES } else { 0 };
            let (mut runs, mut end) = (Vec::new(), from + skip as u64);
            for item in journal::scan(bytes.get(skip..).unwrap_or_default()) {
                let place = |n: usize| from + (skip + n) as u64;
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
            tails.push(JournalTail { name: file.name, from, bytes: end, runs });
        }
        Ok(tails)
    }

    /// How many bytes the journals hold beyond the index.
    fn tail_bytes(&self, indexed: &[IndexedFile]) -> Result<u64> {
        let indexed = lengths(indexed);
        let beyond = |bytes: u64, name: &str| bytes.saturating_sub(indexed.get(name).copied().unwrap_or(0));
        Ok(self.journal_names()?.iter().map(|file| beyond(file.bytes, &file.name)).sum())
    }

    /// Whether a run of that name exists, and the newest snapshot of a project: what a capture must know beforehand.
    pub fn look_before_capture(&self, name: Option<&str>, project: &str) -> Result<(bool, Option<ObjectId>)> {
        // One question, so that what the index cannot say now is all read from the journals. Their lengths come first:
        // what is indexed later is in both, never in neither.
        let answer = self.catalog.ask_index(|index| {
            let journals = index.journals()?;
            Ok((journals, name.map_or(Ok(Vec::new()), |name| index.runs_named(name))?, index.newest_of(project)?))
        });
        let (journals, same_name, indexed) = answer.unwrap_or_default();
        let tails = self.tails(&journals)?;
        let recent = || tails.iter().flat_map(|tail| &tail.runs);
        let named = name.is_some_and(|name| {
            recent().any(|run| run.name.as_deref() == Some(name))
                || self.is_name_in_journals(name, &same_name, &journals)
        });
        let newest = recent()
            .filter(|run| run.project == project)
            .map(|run| (run.run, run.snapshot))
            .chain(indexed)
            .max_by_key(|(run, _)| *run);
        Ok((named, newest.map(|(_, snapshot)| snapshot)))
    }

    /// Whether the journals agree that one of these runs, which the index knows, has the name.
    fn is_name_in_journals(&self, name: &str, runs: &[IndexedRun], journals: &[IndexedFile]) -> bool {
        runs.iter().any(|run| {
            let Some(journal) = journals.iter().find(|j| j.number == run.journal) else { return false };
            // A run whose record is lost keeps its name: it must not come to mean other code.
            let Ok(bytes) = self.read_journal(&journal.name, run.offset.max(1)) else { return true };
            match journal::scan(&bytes).next() {
                Some(Item::Record { payload, .. }) => match decode_record(payload) {
                    Ok(RunRecord::Start(start)) => start.name.as_deref() == Some(name),
                    _ => true,
                },
                _ => true,
            }
        })
    }

    /// Brings the index up to date when enough has gathered, or at any rate with `force`. A busy or read-only index is
    /// left for another time, unless forced.
    pub fn update_index(&self, force: bool) -> Result<()> {
        let indexed = self.catalog.ask_index(|index| index.journals()).unwrap_or_default();
        if !force && !self.catalog.has_backlog() && self.tail_bytes(&indexed)? < TAIL_BACKLOG_BYTES {
            return Ok(());
        }
        let mut tails = self.tails(&indexed)?;
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
        let added = self.catalog.add_to_index(&packs, &tails);
        match added {
            Err(error) if force => {
                let reason = std::io::Error::other(error.to_string());
                Err(Error::io("write the index", self.catalog.index_path(), reason))
            }
            _ => self.catalog.refresh(),
        }
    }
}

/// Whether two headers have different ids rather than one id with a few flipped bits.
fn differs_much(a: &[u8], b: &[u8]) -> bool {
    a.iter().zip(b).map(|(a, b)| (a ^ b).count_ones()).sum::<u32>() > 16
}

/// How far the index has read each journal.
fn lengths(indexed: &[IndexedFile]) -> HashMap<&str, u64> {
    indexed.iter().map(|journal| (journal.name.as_str(), journal.bytes)).collect()
}

/// Joins records into runs. Per field the latest wins, by (time, run, sequence).
fn join(records: Vec<RunRecord>) -> Vec<Run> {
    let mut runs: BTreeMap<RunId, Run> = BTreeMap::new();
    let mut later = Vec::new();
    for record in records {
        match record {
            RunRecord::Start(start) => {
                let start = *start;
                runs.insert(
                    start.run,
                    Run { metrics: start.metrics.clone(), tags: start.tags.clone(), exit_status: None, start },
                );
            }
            other => later.push(other),
        }
    }
    later.sort_by(|a, b| order(a).cmp(&order(b)));
    for record in later {
        if let RunRecord::Forget(forget) = &record {
            runs.remove(&forget.run);
        }
        let Some(run) = runs.get_mut(&record.run()) else { continue };
        match record {
            RunRecord::Update(update) => {
                run.metrics.extend(update.metrics);
                run.tags.extend(update.tags);
            }
            RunRecord::End(end) => run.exit_status = Some(end.exit_status),
            RunRecord::Start(_) | RunRecord::Forget(_) => {}
        }
    }
    for run in runs.values_mut() {
        run.tags.sort();
        run.tags.dedup();
    }
    runs.into_values().collect()
}

fn order(record: &RunRecord) -> (&str, RunId, u64) {
    match record {
        RunRecord::Start(r) => (&r.time, r.run, 0),
        RunRecord::Update(r) => (&r.time, r.run, r.sequence),
        RunRecord::End(r) => (&r.time, r.run, r.sequence),
        RunRecord::Forget(r) => (&r.time, r.run, u64::MAX),
    }
}
