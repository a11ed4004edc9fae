//! The names that runs have, in memory: for who asks about one name after the other.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::run_files::{JournalFile, RunFiles};
use super::slot::{JOURNAL_ENDING, JOURNALS, notes};
use super::{STATES, Store};
use crate::checksum;
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
const FILE: FileKind = FileKind { word: "list of names", magic: *b"RUNSNAPN", version: 2 };
/// A longer one is no list: journals are merged long before.
const MAX_BYTES: u64 = 64 << 20;
/// Where the length of the list stands, that of the notes behind it aside.
const LENGTH_AT: usize = file_header::BYTES;
/// So many bytes of journals are read for one name before what was found is kept.
const UNREAD_BYTES: u64 = 1 << 10;
/// So many bytes of notes are read for one name before the list is written anew.
const NOTES_BYTES: usize = 4 << 10;
/// A note: four numbers and its checksum.
const NOTE_BYTES: usize = 4 * 8 + checksum::BYTES;

/// The names in journals, as far as these are flushed: by the number in the journal's name, how much of it was read and the
/// keys of the names in that.
#[derive(Debug, Default, PartialEq, Eq)]
struct NamesInJournals(BTreeMap<u64, (u64, Vec<u64>)>);

impl NamesInJournals {
    /// The list that is kept, and how many bytes of notes stand behind it.
    fn load(storage: &dyn Storage, store: StoreId) -> (Self, usize) {
        let bytes = storage.read(NAMES_PATH, MAX_BYTES).unwrap_or_default();
        Self::decode(&bytes, store).unwrap_or_default()
    }

    fn encode(&self, store: StoreId) -> Vec<u8> {
        let mut out = FILE.encode(store).to_vec();
        out.extend([0; 4]);
        push_varint(&mut out, self.0.len() as u64);
        for (journal, (read, keys)) in &self.0 {
            out.extend(journal.to_le_bytes());
            push_varint(&mut out, *read);
            push_varint(&mut out, keys.len() as u64);
            out.extend(keys.iter().flat_map(|key| key.to_le_bytes()));
        }
        let length = u32::try_from(out.len() + checksum::BYTES).unwrap_or(u32::MAX);
        if let Some(field) = out.get_mut(LENGTH_AT..LENGTH_AT + 4) {
            field.copy_from_slice(&length.to_le_bytes());
        }
        let check = checksum::of(&out);
        out.extend(check);
        out
    }

    fn decode(bytes: &[u8], store: StoreId) -> DecodeResult<(Self, usize)> {
        let length = Decoder::new(bytes.get(LENGTH_AT..).unwrap_or_default()).u32()? as usize;
        let (whole, notes) = bytes.split_at_checked(length).ok_or("cut short")?;
        let split = whole.len().checked_sub(checksum::BYTES).and_then(|end| whole.split_at_checked(end));
        let (said, check) = split.ok_or("cut short")?;
        if FILE.decode(bytes)? != Header::Known(store) || check != checksum::of(said) {
            return Err("of another store or version, or damaged".into());
        }
        let mut decoder = Decoder::new(said.get(LENGTH_AT + 4..).unwrap_or_default());
        let mut names = BTreeMap::new();
        for _ in 0..decoder.count(10)? {
            let (journal, read) = (decoder.u64()?, decoder.varint()?);
            let keys = (0..decoder.count(8)?).map(|_| decoder.u64()).collect::<DecodeResult<Vec<u64>>>()?;
            names.insert(journal, (read, keys));
        }
        decoder.finish()?;
        let mut names = Self(names);
        for note in notes.chunks_exact(NOTE_BYTES) {
            if let Some(note) = NameNote::decode(note) {
                names.add(&note);
            }
        }
        Ok((names, notes.len()))
    }

    /// Adds a name, if all that stands before its record is known.
    fn add(&mut self, note: &NameNote) {
        let begins = note.from == HEADER_BYTES as u64;
        let known = match self.0.get_mut(&note.journal) {
            None if begins => self.0.entry(note.journal).or_insert((note.from, Vec::new())),
            Some(known) => known,
            None => return,
        };
        if known.0 == note.from {
            known.0 = note.end;
            known.1.push(note.key);
        }
    }
}

/// A name that was recorded after the list was written, and where in its journal its record stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NameNote {
    journal: u64,
    from: u64,
    end: u64,
    key: u64,
}

impl NameNote {
    fn encode(self) -> Vec<u8> {
        let Self { journal, from, end, key } = self;
        let mut out: Vec<u8> = [journal, from, end, key].into_iter().flat_map(u64::to_le_bytes).collect();
        let check = checksum::of(&out);
        out.extend(check);
        out
    }

    /// What a note says that is whole.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (said, check) = bytes.split_at_checked(bytes.len().checked_sub(checksum::BYTES)?)?;
        let mut decoder = Decoder::new(said);
        let mut number = || decoder.u64().ok();
        let note = Self { journal: number()?, from: number()?, end: number()?, key: number()? };
        (check == checksum::of(said) && note.from < note.end).then_some(note)
    }
}

impl Store {
    /// Whether a run of that name exists.
    pub fn is_name_taken(&self, name: &str) -> Result<bool> {
        let key = key(name);
        let (kept, note_bytes) = NamesInJournals::load(&*self.storage, self.config.store);
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
            is_taken |= files.segments.iter().any(|segment| self.has_name(segment, name));
            Ok((is_taken, unread))
        })?;
        let unread_bytes = unread.iter().map(|(_, bytes, _)| bytes).sum::<u64>();
        if unread_bytes >= UNREAD_BYTES || note_bytes >= NOTES_BYTES {
            // Nothing depends on it.
            let _ = self.keep_names(kept, unread);
        }
        Ok(is_taken)
    }

    /// Notes the name of a run whose record was flushed, so that it is not read again for the next name.
    ///
    /// `record` is the journal, and where in it the record begins and ends.
    pub(super) fn note_name(&self, name: &str, (journal, from, end): (&str, u64, u64)) -> Result<()> {
        let Some(journal) = journal_number(journal) else { return Ok(()) };
        let note = NameNote { journal, from, end, key: key(name) };
        match self.storage.append(NAMES_PATH) {
            // Where no list is kept, there was nothing yet that was worth it.
            Err(error) if error.is_not_found() => Ok(()),
            file => file?.write(&note.encode()),
        }
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
            // Between these there would be names that are in no list, should the segment that has them be lost.
            if kept.0.get(&number).map_or(0, |(read, _)| *read) != tail.from {
                continue;
            }
            let (read, keys) = kept.0.entry(number).or_default();
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

#[cfg(test)]
mod tests {
    use super::*;

    const STORE: StoreId = StoreId([1; 16]);

    fn list() -> NamesInJournals {
        NamesInJournals(BTreeMap::from([(3, (500, vec![10, 11])), (8, (32, Vec::new()))]))
    }

    fn note(journal: u64, from: u64, key: u64) -> NameNote {
        NameNote { journal, from, end: from + 170, key }
    }

    #[test]
    fn a_name_counts_if_all_before_its_record_is_known() {
        let whole = list().encode(STORE);
        assert_eq!(NamesInJournals::decode(&whole, STORE), Ok((list(), 0)));
        let begins = HEADER_BYTES as u64;
        let notes = [
            note(3, 500, 12),
            note(3, 670, 13),
            // Between these somebody has recorded a run without a name, or with one that was not noted.
            note(3, 900, 14),
            note(4, begins, 15),
            note(5, begins + 100, 16),
            note(8, begins, 17),
            // Of two who have noted the same the first counts.
            note(8, begins, 18),
        ];
        let noted: Vec<u8> = notes.into_iter().flat_map(NameNote::encode).collect();
        let expected = BTreeMap::from([
            (3, (840, vec![10, 11, 12, 13])),
            (4, (begins + 170, vec![15])),
            (8, (begins + 170, vec![17])),
        ]);
        let bytes = [&whole[..], &noted].concat();
        assert_eq!(NamesInJournals::decode(&bytes, STORE), Ok((NamesInJournals(expected), noted.len())));
    }

    #[test]
    fn a_damaged_note_is_passed_over_and_a_damaged_list_is_none() {
        let whole = list().encode(STORE);
        let [first, second] = [note(3, 500, 12), note(3, 670, 13)].map(NameNote::encode);
        let with_first = BTreeMap::from([(3, (670, vec![10, 11, 12])), (8, (32, Vec::new()))]);
        for place in 0..second.len() {
            let mut flipped = second.clone();
            flipped[place] ^= 4;
            for last in [&flipped[..], &second[..place]] {
                let found = NamesInJournals::decode(&[&whole[..], &first, last].concat(), STORE).expect("a list");
                assert_eq!(found.0.0, with_first, "byte {place}");
            }
        }
        for place in 0..whole.len() {
            let mut flipped = [&whole[..], &first].concat();
            flipped[place] ^= 4;
            assert!(NamesInJournals::decode(&flipped, STORE).is_err(), "byte {place}");
            assert!(NamesInJournals::decode(&whole[..place], STORE).is_err(), "cut at {place}");
        }
        assert!(NamesInJournals::decode(&whole, StoreId([2; 16])).is_err(), "of another store");
    }
}
