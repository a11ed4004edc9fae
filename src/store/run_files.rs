//! The files in runs/: journals and segments, read as they are at one moment although others may be merging them.
//!
//! A merge gives its segment a name, then changes the mark, and only then removes what it has merged. Who finds the mark
//! the same before listing the folder and after opening the last file has therefore missed no record: see
//! `schema/store.md`, "Reading while others merge".

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;

use serde_json::Value;

use super::Store;
use super::maintenance;
use super::slot::{JOURNAL_ENDING, JOURNALS};
use crate::error::{Error, Result};
use crate::file_header::Header;
use crate::id::{StoreId, random_name};
use crate::journal::{self, HEADER_BYTES, Item, MAX_JOURNAL_BYTES, decode_record};
use crate::run_record::RunRecord;
use crate::segment::{SEGMENT_ENDING, Segment, Source};
use crate::storage::{Storage, StoredFile, write_whole};

/// The file that a merge changes before it removes anything.
const MARK_PATH: &str = "runs/merges";
const MAX_MARK_BYTES: u64 = 4096;
/// So many merges may end while one reader opens its files.
pub(super) const MAX_TRIES: usize = 64;

/// Something wrong in a journal or segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalProblem {
    /// The file.
    pub path: PathBuf,
    /// The file's name in its folder.
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

/// A journal that has records beyond those that segments have.
#[derive(Debug, Clone)]
pub struct JournalFile {
    /// Its name and its length when the folder was listed.
    pub file: StoredFile,
    /// How much of it segments have, from its beginning.
    pub merged_bytes: u64,
}

/// What runs/ holds.
#[derive(Debug, Default)]
pub struct RunFiles {
    /// The journals with records that no segment has.
    pub journals: Vec<JournalFile>,
    /// The segments that are part of no other.
    pub segments: Vec<Arc<Segment>>,
    /// Files all of whose records are in another: leftovers of a merge that was killed.
    pub leftovers: Vec<StoredFile>,
    /// Segments that cannot be read.
    pub problems: Vec<JournalProblem>,
    /// The mark when they were listed: as long as it is the same, nothing of this has been removed.
    pub(super) mark: Vec<u8>,
}

/// A journal's bytes.
pub struct Journal {
    /// Its name.
    pub name: String,
    /// What was read of it.
    pub bytes: Vec<u8>,
    /// Where in the file that begins.
    pub from: u64,
}

/// The journals and segments whose records are in these segments, by name, with the lengths up to which they are.
pub fn merged_into(segments: &[Arc<Segment>]) -> HashMap<String, u64> {
    let mut merged = HashMap::new();
    for source in segments.iter().flat_map(|segment| &segment.sources) {
        let bytes = merged.entry(source.file_name(JOURNAL_ENDING)).or_default();
        *bytes = source.bytes.max(*bytes);
    }
    merged
}

/// Changes the mark, so that readers that have listed the folder before list it again.
///
/// For who holds the lock of maintenance.
pub fn change_mark(storage: &dyn Storage) -> Result<()> {
    let mark = format!("{}\n", random_name());
    write_whole(storage, &maintenance::temporary(), MARK_PATH, mark.as_bytes(), false)
}

impl Store {
    /// What every merge changes before it removes anything from runs/.
    pub(super) fn mark(&self) -> Result<Vec<u8>> {
        match self.storage.read(MARK_PATH, MAX_MARK_BYTES) {
            Err(error) if error.is_not_found() => Ok(Vec::new()),
            other => other,
        }
    }

    /// Reads something from the files in runs/ as they are at one moment.
    pub(super) fn with_run_files<T>(&self, read: impl Fn(RunFiles) -> Result<T>) -> Result<T> {
        self.at_one_moment(|mark| {
            let files = self.list_run_files()?;
            read(RunFiles { mark: mark.to_vec(), ..files })
        })
    }

    /// Looks at the files in runs/, again as long as a merge comes in between; `look` is given the mark.
    pub fn at_one_moment<T>(&self, look: impl Fn(&[u8]) -> Result<T>) -> Result<T> {
        for _ in 0..MAX_TRIES {
            let mark = self.mark()?;
            match look(&mark) {
                // A merge has removed it since it was listed.
                Err(error) if error.is_not_found() => continue,
                other if self.mark()? == mark => return other,
                _ => continue,
            }
        }
        Err(self.changes_all_the_time())
    }

    pub(super) fn changes_all_the_time(&self) -> Error {
        let reason = std::io::Error::other("its files change all the time");
        Error::io("read", self.storage.full_path(JOURNALS), reason)
    }

    /// Takes files out of runs/ by other means than a merge; the caller holds the lock of maintenance.
    pub fn take_out_run_files(&self, names: &[&str], take_out: impl FnOnce() -> Result<()>) -> Result<()> {
        let forget = || {
            change_mark(&*self.storage)?;
            let names: Vec<(String, u64)> = names.iter().map(|name| ((*name).to_owned(), u64::MAX)).collect();
            // The index is a cache: one that cannot be told now has to be made anew.
            let _ = self.catalog.forget_in_index(&names);
            Ok(())
        };
        forget()?;
        take_out()?;
        // Once more, for who has read them since.
        forget()
    }

    fn list_run_files(&self) -> Result<RunFiles> {
        let files = self.storage.list(JOURNALS)?;
        let mut out = RunFiles::default();
        let mut segments = Vec::new();
        for file in files.iter().filter(|file| file.name.ends_with(SEGMENT_ENDING)) {
            let path = format!("{JOURNALS}/{}", file.name);
            match Segment::open(&self.storage, &path, self.config.store) {
                Ok(segment) => segments.push(Arc::new(segment)),
                Err(error) if error.is_not_found() => return Err(error),
                Err(error) => out.problems.push(self.segment_problem(file, &error)),
            }
        }
        let sources = || segments.iter().flat_map(|segment| &segment.sources);
        let merged: HashSet<u64> = sources().filter(|s| s.is_segment).map(|s| s.number).collect();
        let mut journals: HashMap<u64, u64> = HashMap::new();
        for source in sources().filter(|source| !source.is_segment) {
            let bytes = journals.entry(source.number).or_default();
            *bytes = source.bytes.max(*bytes);
        }
        let (mut used, mut leftovers) = (Vec::new(), Vec::new());
        for segment in &segments {
            let stem = segment.name.strip_suffix(SEGMENT_ENDING).unwrap_or_default();
            if Source::number_of(stem).is_some_and(|number| merged.contains(&number)) {
                leftovers.push(StoredFile { name: segment.name.clone(), bytes: segment.bytes, stamp: 0 });
            } else {
                used.push(Arc::clone(segment));
            }
        }
        for file in files.into_iter().filter(|file| file.name.ends_with(JOURNAL_ENDING)) {
            let stem = file.name.strip_suffix(JOURNAL_ENDING).unwrap_or_default();
            let merged_bytes = Source::number_of(stem).and_then(|number| journals.get(&number).copied()).unwrap_or(0);
            if merged_bytes > 0 && file.bytes <= merged_bytes {
                leftovers.push(file);
            } else {
                out.journals.push(JournalFile { file, merged_bytes });
            }
        }
        Ok(RunFiles { segments: used, leftovers, ..out })
    }

    fn segment_problem(&self, file: &StoredFile, error: &Error) -> JournalProblem {
        let reason = match error {
            Error::Damaged { reason, .. } => reason.clone(),
            Error::NewerFormat { found, known, .. } => {
                format!("has format version {found}, this runsnap reads up to {known}")
            }
            other => other.to_string(),
        };
        let path = self.journal_path(&file.name);
        JournalProblem { path, name: file.name.clone(), offset: 0, end: file.bytes, unfinished: false, reason }
    }

    fn journal_path(&self, name: &str) -> PathBuf {
        self.storage.full_path(&format!("{JOURNALS}/{name}"))
    }

    /// Reads a journal from `offset` on and checks its header where that is the beginning.
    pub(super) fn read_journal(&self, name: &str, offset: u64) -> Result<Vec<u8>> {
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

    /// Reads what a journal has beyond the segments.
    pub(super) fn read_unmerged(&self, journal: &JournalFile) -> Result<(Option<Journal>, Option<JournalProblem>)> {
        let name = journal.file.name.clone();
        if journal.merged_bytes > 0 {
            let bytes = self.read_journal(&name, journal.merged_bytes)?;
            return Ok((Some(Journal { name, bytes, from: journal.merged_bytes }), None));
        }
        let (bytes, problem) = self.read_past_header(&journal.file)?;
        let body = bytes.map(|mut bytes| bytes.split_off(bytes.len().min(HEADER_BYTES)));
        Ok((body.map(|bytes| Journal { name, bytes, from: HEADER_BYTES as u64 }), problem))
    }

    /// Reads a whole journal even where its header is wrong: its bytes, where its records can be read, and the problem.
    pub(super) fn read_past_header(&self, file: &StoredFile) -> Result<(Option<Vec<u8>>, Option<JournalProblem>)> {
        let reason = match self.read_journal(&file.name, 0) {
            Ok(bytes) => return Ok((Some(bytes), None)),
            Err(Error::Damaged { reason, .. }) => reason,
            // A flipped bit looks the same, and records have checksums of their own.
            Err(Error::NewerFormat { found, known, .. }) => {
                format!("has format version {found}, this runsnap reads up to {known}")
            }
            Err(error) => return Err(error),
        };
        // The header is flushed before the first record is written: a file of no more holds none.
        let unfinished = file.bytes <= HEADER_BYTES as u64;
        // The records may be whole even where the header is not; those of another store are not ours.
        let path = format!("{JOURNALS}/{}", file.name);
        let head = self.storage.read_range(&path, 0, HEADER_BYTES);
        let bytes = match head.is_ok_and(|head| is_foreign(&head, self.config.store)) {
            true => None,
            false => self.storage.read(&path, MAX_JOURNAL_BYTES).ok(),
        };
        let end = if bytes.is_some() { file.bytes.min(HEADER_BYTES as u64) } else { file.bytes };
        let path = self.journal_path(&file.name);
        Ok((bytes, Some(JournalProblem { path, name: file.name.clone(), offset: 0, end, unfinished, reason })))
    }

    /// Decodes the records of a journal.
    pub(super) fn records_of(&self, journal: &Journal) -> (Vec<RunRecord>, Vec<JournalProblem>) {
        self.items_of(journal, decode_record)
    }

    /// Decodes the records of a journal as JSON.
    pub(super) fn values_of(&self, journal: &Journal) -> (Vec<Value>, Vec<JournalProblem>) {
        self.items_of(journal, journal::decode_value)
    }

    fn items_of<T>(
        &self,
        journal: &Journal,
        decode: impl Fn(&[u8]) -> crate::decode::DecodeResult<T>,
    ) -> (Vec<T>, Vec<JournalProblem>) {
        let mut records = Vec::new();
        let mut problems = Vec::new();
        let mut problem = |offset: usize, end: usize, unfinished: bool, reason: String| {
            let at = |n: usize| n as u64 + journal.from;
            let path = self.journal_path(&journal.name);
            let name = journal.name.clone();
            problems.push(JournalProblem { path, name, offset: at(offset), end: at(end), unfinished, reason });
        };
        for item in journal::scan(&journal.bytes) {
            match item {
                Item::Record { offset, end, payload } => match decode(payload) {
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
}

/// Whether a header that cannot be read is that of a journal of another store rather than ours with a few flipped bits.
fn is_foreign(head: &[u8], store: StoreId) -> bool {
    let (mine, id_at) = (journal::encode_header(store), HEADER_BYTES - 16);
    let differing: u32 = head.iter().zip(&mine).map(|(a, b)| (a ^ b).count_ones()).sum();
    head.get(..id_at) == mine.get(..id_at) && differing > 16
}
