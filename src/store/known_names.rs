//! The names that runs have, in memory: for who asks about one name after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::run_files::{JournalFile, RunFiles};
use super::run_index::has_name;
use super::slot::{JOURNAL_ENDING, JOURNALS, notes};
use super::{STATES, Store};
use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::error::Result;
use crate::file_header::{self, FileKind, Header};
use crate::id::{ObjectId, StoreId, random_name};
use crate::journal::{self, HEADER_BYTES, Item, decode_name};
use crate::segment::{Segment, Source};
use crate::storage::{Storage, StoredFile, write_whole};

/// Where the names in journals are kept, so that these need not be read for each run: a cache.
pub const NAMES_PATH: &str = "states/names";
/// What it begins with.
const FILE: FileKind = FileKind { word: "list of names", magic: *b"RUNSNAPN", version: 1 };
/// A longer one is no list: journals are merged long before.
const MAX_BYTES: u64 = 64 << 20;
const CHECKSUM_BYTES: usize = 8;
/// So many bytes of journals are read for one name before what was found is kept.
const UNREAD_BYTES: u64 = 1 << 10;

/// The names in journals, as far as these are flushed: by the number in the journal's name, how much of it was read and the
/// keys of the names in that.
#[derive(Debug, Default, PartialEq, Eq)]
struct NamesInJournals(BTreeMap<u64, (u64, Vec<u64>)>);

impl NamesInJournals {
    fn load(storage: &dyn Storage, store: StoreId) -> Self {
        let bytes = storage.read(NAMES_PATH, MAX_BYTES).unwrap_or_default();
        Self::decode(&bytes, store).unwrap_or_default()
    }

    fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut out = FILE.encode(store).to_vec();
        push_varint(&mut out, self.0.len() as u64);
        for (journal, (read, keys)) in &self.0 {
            out.extend(journal.to_le_bytes());
            push_varint(&mut out, *read);
            push_varint(&mut out, keys.len() as u64);
            out.extend(keys.iter().flat_map(|key| key.to_le_bytes()));
        }
        let checksum = ObjectId::of(&out).key().to_be_bytes();
        out.extend(checksum);
        out
    }

    fn decode(bytes: &[u8], store: StoreId) -> DecodeResult<Self> {
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).and_then(|end| bytes.split_at_checked(end));
        let (said, check) = split.ok_or("cut short")?;
        if FILE.decode(bytes)? != Header::Known(store) || check != ObjectId::of(said).key().to_be_bytes() {
            return Err("of another store or version, or damaged".into());
        }
        let mut decoder = Decoder::new(said.get(file_header::BYTES..).unwrap_or_default());
        let mut names = BTreeMap::new();
        for _ in 0..decoder.count(10)? {
            let (journal, read) = (decoder.u64()?, decoder.varint()?);
            let keys = (0..decoder.count(8)?).map(|_| decoder.u64()).collect::<DecodeResult<Vec<u64>>>()?;
            names.insert(journal, (read, keys));
        }
        decoder.finish()?;
        Ok(Self(names))
    }
}

impl Store {
    /// Whether a run of that name exists.
    pub fn is_name_taken(&self, name: &str) -> Result<bool> {
        let key = key(name);
        let kept = NamesInJournals::load(&*self.storage, self.config.store);
        let (is_taken, unread) = self.with_run_files(|files| {
            let mut unread = Vec::new();
            let mut is_taken = false;
            for JournalFile { file, merged_bytes } in &files.journals {
                let number = journal_number(&file.name);
                let known = number.and_then(|number| kept.0.get(&number)).filter(|(read, _)| *read <= file.bytes);
                is_taken |= known.is_some_and(|(_, keys)| keys.contains(&key));
                let from = known.map_or(0, |(read, _)| *read).max(*merged_bytes);
                if file.bytes > from {
                    // A name must not come to mean other code: what cannot be read counts as taken.
                    let Ok(tail) = read_journal(self, &file.name, from) else {
                        is_taken |= file.bytes > HEADER_BYTES as u64;
                        continue;
                    };
                    is_taken |= tail.keys.contains(&key);
                    unread.push((number, file.bytes - from, tail));
                }
            }
            is_taken |= files.segments.iter().any(|segment| has_name(segment, name));
            Ok((is_taken, unread))
        })?;
        if unread.iter().map(|(_, bytes, _)| bytes).sum::<u64>() >= UNREAD_BYTES {
            // Nothing depends on it.
            let _ = self.keep_names(kept, unread);
        }
        Ok(is_taken)
    }

    fn keep_names(&self, mut kept: NamesInJournals, unread: Vec<(Option<u64>, u64, JournalTail)>) -> Result<()> {
        let notes: HashMap<String, u64> =
            notes(&*self.storage)?.into_iter().map(|note| (note.journal, note.bytes)).collect();
        for (number, _, tail) in unread {
            let Some(number) = number else { continue };
            // After a power cut there may be other records in place of those that were not flushed.
            if notes.get(&tail.journal).is_some_and(|flushed| *flushed < tail.end) {
                continue;
            }
            let (read, keys) = kept.0.entry(number).or_default();
            if *read > tail.from {
                continue;
            }
            *read = tail.end;
            keys.extend(tail.keys);
        }
        let there: HashSet<u64> =
            self.storage.list(JOURNALS)?.iter().filter_map(|file| journal_number(&file.name)).collect();
        kept.0.retain(|journal, _| there.contains(journal));
        let temporary = format!("{NAMES_PATH}-{}.tmp", random_name());
        self.storage.create_folder(STATES)?;
        write_whole(&*self.storage, &temporary, NAMES_PATH, &kept.encode(self.config.store), false)
    }
}

fn journal_number(name: &str) -> Option<u64> {
    Source::number_of(name.strip_suffix(JOURNAL_ENDING)?)
}

/// Names as the store's files had them when they were last looked at.
#[derive(Debug, Default)]
pub struct KnownNames {
    /// The first eight bytes of their hashes.
    keys: HashSet<u64>,
    /// How much of each journal has been read, and all of which segments.
    read: HashMap<String, u64>,
}

fn key(name: &str) -> u64 {
    ObjectId::of(name.as_bytes()).key()
}

impl KnownNames {
    /// Whether a run has that name. One in 10^13 says so of a million runs without reason.
    pub fn contains(&self, name: &str) -> bool {
        self.keys.contains(&key(name))
    }

    /// Notes the name of a run that is being recorded.
    pub fn add(&mut self, name: &str) {
        self.keys.insert(key(name));
    }

    /// Reads what the store's files have that has not been read yet.
    ///
    /// # Errors
    ///
    /// What cannot be read may hold any name: the names are not known then.
    pub fn refresh(&mut self, store: &Store) -> Result<()> {
        let found = store.with_run_files(|files| self.unread(store, &files))?;
        for (file, bytes, keys) in found {
            self.keys.extend(keys);
            self.read.insert(file, bytes);
        }
        Ok(())
    }

    fn unread(&self, store: &Store, files: &RunFiles) -> Result<Vec<(String, u64, Vec<u64>)>> {
        let mut found = Vec::new();
        for journal in &files.journals {
            let JournalFile { file, merged_bytes } = journal;
            let known = self.read.get(&file.name).copied().unwrap_or(0).max(*merged_bytes);
            if file.bytes > known {
                let tail = read_journal(store, &file.name, known)?;
                found.push((tail.journal, tail.end, tail.keys));
            }
        }
        for segment in files.segments.iter().filter(|segment| !self.read.contains_key(&segment.name)) {
            let keys = if self.has_read_sources(segment) { Vec::new() } else { read_segment(segment)? };
            found.push((segment.name.clone(), segment.bytes, keys));
        }
        Ok(found)
    }

    /// Whether all that a segment was made of has been read already.
    fn has_read_sources(&self, segment: &Segment) -> bool {
        segment
            .sources
            .iter()
            .all(|source| self.read.get(&source.file_name(JOURNAL_ENDING)).is_some_and(|read| *read >= source.bytes))
    }
}

/// The names in a part of a journal.
struct JournalTail {
    journal: String,
    /// Where the part begins.
    from: u64,
    /// Where its last whole record ends.
    end: u64,
    keys: Vec<u64>,
}

fn read_journal(store: &Store, name: &str, from: u64) -> Result<JournalTail> {
    let bytes = match from {
        0 => store.read_past_header(&StoredFile { name: name.to_owned(), bytes: 0, stamp: 0 })?.0.unwrap_or_default(),
        _ => store.read_journal(name, from)?,
    };
    let skip = if from == 0 { HEADER_BYTES } else { 0 };
    let (mut keys, mut end) = (Vec::new(), from + skip as u64);
    for item in journal::scan(bytes.get(skip..).unwrap_or_default()) {
        let place = |n: usize| from + (skip + n) as u64;
        match item {
            Item::Record { end: record_end, payload, .. } => {
                end = place(record_end);
                keys.extend(decode_name(payload).ok().flatten().as_deref().map(key));
            }
            Item::Damage { end: damage_end, .. } => end = place(damage_end),
            // It may be finished by the next look.
            Item::Unfinished { .. } => {}
        }
    }
    Ok(JournalTail { journal: name.to_owned(), from, end, keys })
}

fn read_segment(segment: &Arc<Segment>) -> Result<Vec<u64>> {
    let mut keys = Vec::new();
    for number in 0..segment.blocks.len() {
        let block = segment.block(number)?;
        let paths: [&[&str]; 2] = [&["start", "name"], &["forgotten", "name"]];
        for column in paths.into_iter().flat_map(|path| block.columns_at(path)) {
            let column = block.column(column)?;
            let text = |row| match column.value(row).as_deref() {
                Some(Value::String(name)) => Some(key(name)),
                _ => None,
            };
            keys.extend((0..block.summary.rows).filter_map(text));
        }
        keys.extend(block.rows_with_more().filter_map(|row| row.name().map(key)));
    }
    Ok(keys)
}
