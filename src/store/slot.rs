//! Writers' slots: which files of the store belong to which writer.
//!
//! A capture in flight holds the lock of one file in writers/, the first that is free, so that writers never wait for
//! each other. The file notes the writer's journal and the length of it that is flushed. Whoever takes the slot next
//! goes on in that journal; a journal that is shorter than its note has been cut.

use super::with_folders;
use crate::error::{Error, Result};
use crate::id::{ObjectId, StoreId, random_name};
use crate::journal::{JournalWriter, ROTATE_BYTES};
use crate::storage::{Lock, Storage};

/// The folder of the slots.
pub const FOLDER: &str = "writers";
/// The folder of the journals.
pub const JOURNALS: &str = "runs";
/// The ending of a journal's name.
pub const JOURNAL_ENDING: &str = ".journal";
/// The folder of files that have no name yet.
pub const TEMPORARY: &str = "tmp";
/// More writers than this at once are refused.
const MAX_SLOTS: usize = 4096;
const MAX_NOTE_BYTES: u64 = 4096;
/// The length of a note; behind it stands the token of the writer that has, or last had, the slot.
const NOTE_BYTES: usize = 47;
/// Stands in place of a note where there is none any more.
const NO_NOTE: [u8; NOTE_BYTES] = [b' '; NOTE_BYTES];

/// What a slot's file says about its journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// The slot.
    pub slot: String,
    /// The journal's name.
    pub journal: String,
    /// The length that was flushed when the note was written.
    pub bytes: u64,
}

impl Note {
    fn decode(slot: &str, bytes: &[u8]) -> Option<Self> {
        let text = str::from_utf8(bytes.get(..NOTE_BYTES)?).ok()?;
        let (said, check) = text.strip_suffix('\n')?.rsplit_once(' ')?;
        let (journal, bytes) = said.split_once(' ')?;
        if check != note_check(said) || !journal.ends_with(JOURNAL_ENDING) || journal.contains('/') {
            return None;
        }
        Some(Self { slot: slot.to_owned(), journal: journal.to_owned(), bytes: bytes.trim().parse().ok()? })
    }
}

/// Reads the notes of all slots; one that is empty or torn says nothing.
pub fn notes(storage: &dyn Storage) -> Result<Vec<Note>> {
    let slots = storage.list(FOLDER)?;
    Ok(slots.iter().filter(|slot| slot.bytes > 0).filter_map(|slot| read_note(storage, &slot.name)).collect())
}

fn read_note(storage: &dyn Storage, slot: &str) -> Option<Note> {
    Note::decode(slot, &storage.read(&format!("{FOLDER}/{slot}"), MAX_NOTE_BYTES).ok()?)
}

/// What a slot's file names, for whoever wants to be sure that nobody appends to a journal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlotNote {
    /// The slot.
    pub slot: String,
    /// The journal that its writer appends to, or that its next writer will go on in.
    pub journal: Option<String>,
    /// How much of that has been flushed.
    pub bytes: u64,
    /// Whether something stands there that cannot be read: perhaps a note that is being written just now.
    pub is_torn: bool,
}

/// Reads what all slots name.
pub fn slot_notes(storage: &dyn Storage) -> Result<Vec<SlotNote>> {
    let slots = storage.list(FOLDER)?.into_iter().filter(|slot| slot.name.bytes().all(|b| b.is_ascii_digit()));
    let read = |slot: crate::storage::StoredFile| {
        // A second look tells a note that was being written from one that is damaged; a slot that nobody holds has none.
        let note = (0..3).find_map(|_| read_note(storage, &slot.name));
        let (journal, bytes) = note.map_or((None, 0), |note| (Some(note.journal), note.bytes));
        let is_empty = || is_without_note(storage, &slot.name);
        let is_held = || storage.try_lock(&format!("{FOLDER}/{}", slot.name)).is_ok_and(|lock| lock.is_none());
        let is_torn = journal.is_none() && !is_empty() && is_held();
        SlotNote { slot: slot.name, journal, bytes, is_torn }
    };
    Ok(slots.map(read).collect())
}

/// Clears the note of a slot whose lock is held: its next writer begins a new journal.
pub fn free_journal(lock: &mut dyn Lock) -> Result<()> {
    lock.write_note(0, &NO_NOTE)
}

/// Whether a slot's file has no note, as it was made or freed; what stands behind the note does not matter.
fn is_without_note(storage: &dyn Storage, slot: &str) -> bool {
    storage.read_range(&format!("{FOLDER}/{slot}"), 0, NOTE_BYTES).is_ok_and(|note| {
        // A writer's token behind it leaves zeros in a new file.
        note.iter().all(|byte| *byte == 0) || note == NO_NOTE
    })
}

/// The end of a note, so that a flipped bit in it accuses no journal: eight digits of the hash of what stands before.
fn note_check(said: &str) -> String {
    ObjectId::of(said.as_bytes()).short(8)
}

/// The token of the writer that has, or last had, a slot; empty where it has not written one yet.
fn read_token(storage: &dyn Storage, slot: &str) -> Vec<u8> {
    let mut bytes = storage.read(&format!("{FOLDER}/{slot}"), MAX_NOTE_BYTES).unwrap_or_default();
    if bytes.len() > NOTE_BYTES { bytes.split_off(NOTE_BYTES) } else { Vec::new() }
}

/// A writer that is under way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActiveWriter {
    slot: String,
    token: Vec<u8>,
}

impl ActiveWriter {
    /// The writers that have a slot now.
    pub fn all(storage: &dyn Storage) -> Result<Vec<Self>> {
        let mut writers = Vec::new();
        for file in storage.list(FOLDER)? {
            let is_slot = file.name.len() == 4 && file.name.bytes().all(|b| b.is_ascii_digit());
            if is_slot && storage.try_lock(&format!("{FOLDER}/{}", file.name))?.is_none() {
                writers.push(Self { token: read_token(storage, &file.name), slot: file.name });
            }
        }
        Ok(writers)
    }

    /// Whether it has ended: the slot is free, or another writer has it.
    pub fn has_ended(&self, storage: &dyn Storage) -> Result<bool> {
        // A writer that had the slot but had not written its token yet when this one's was read looks like another: it
        // reads the list of condemned packs after it has written its token, so it has seen it.
        Ok(read_token(storage, &self.slot) != self.token
            || storage.try_lock(&format!("{FOLDER}/{}", self.slot))?.is_some())
    }
}

/// A slot that this process holds until it is dropped.
pub struct Slot {
    name: String,
    lock: Box<dyn Lock>,
    journal: Option<JournalWriter>,
    journal_name: String,
    /// The journal's length before the last records and after them.
    grown: (u64, u64),
    /// Whether it has made a journal.
    has_new_journal: bool,
}

impl Slot {
    /// Takes the first free slot.
    pub fn take(storage: &dyn Storage) -> Result<Self> {
        for number in 0..MAX_SLOTS {
            let name = format!("{number:04}");
            if let Some(mut lock) = storage.try_lock(&format!("{FOLDER}/{name}"))? {
                lock.write_note(NOTE_BYTES as u64, format!("{}\n", random_name()).as_bytes())?;
                let (journal, journal_name) = (None, String::new());
                return Ok(Self { name, lock, journal, journal_name, grown: (0, 0), has_new_journal: false });
            }
        }
        Err(Error::io("take a writer's place in", storage.full_path(FOLDER), std::io::ErrorKind::ResourceBusy.into()))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A new name for a file of this writer in tmp/. It begins with the slot, so that gc can tell whether its writer lives.
    pub fn temporary(&self) -> String {
        format!("{TEMPORARY}/{}-{}.tmp", self.name, random_name())
    }

    /// Appends records to this slot's journal and flushes them: the commit point.
    pub fn append(&mut self, storage: &dyn Storage, store: StoreId, payloads: &[Vec<u8>]) -> Result<()> {
        let bytes = self.append_with(storage, store, |journal| journal.append(payloads))?;
        self.note(bytes);
        Ok(())
    }

    /// Appends records to this slot's journal: safe from the end of the process, and once [`Slot::flush`] has flushed them
    /// from a power cut.
    pub fn write(&mut self, storage: &dyn Storage, store: StoreId, payloads: &[Vec<u8>]) -> Result<()> {
        self.append_with(storage, store, |journal| journal.write(payloads)).map(drop)
    }

    fn append_with(
        &mut self,
        storage: &dyn Storage,
        store: StoreId,
        append: impl FnOnce(&mut JournalWriter) -> Result<()>,
    ) -> Result<u64> {
        let earlier = self.journal.take();
        let mut journal = match earlier {
            Some(journal) if journal.bytes() < ROTATE_BYTES => journal,
            Some(_) => self.create_journal(storage, store)?,
            None => match self.continue_journal(storage, store)? {
                Some(journal) => journal,
                None => self.create_journal(storage, store)?,
            },
        };
        let before = journal.bytes();
        if let Err(error) = append(&mut journal) {
            // The journal's end is unknown now: without a note nobody goes on in it.
            let _ = self.lock.write_note(0, &NO_NOTE);
            return Err(error);
        }
        let bytes = journal.bytes();
        self.grown = (before, bytes);
        self.journal = Some(journal);
        Ok(bytes)
    }

    /// The journal that records are appended to, and its length: what is to be flushed.
    pub fn journal(&self) -> Option<(&str, u64)> {
        self.journal.as_ref().map(|journal| (self.journal_name.as_str(), journal.bytes()))
    }

    /// Where the last records stand: the journal, their beginning and their end.
    pub fn last_records(&self) -> (&str, u64, u64) {
        let (from, end) = self.grown;
        (&self.journal_name, from, end)
    }

    /// Whether the next record begins a new journal.
    pub fn is_journal_full(&self) -> bool {
        self.journal.as_ref().is_some_and(|journal| journal.bytes() >= ROTATE_BYTES)
    }

    /// Notes that so many bytes of a journal are flushed, if that is still the journal that records are appended to.
    pub fn note_flushed(&mut self, journal: &str, bytes: u64) {
        if self.journal.is_some() && self.journal_name == journal {
            self.note(bytes);
        }
    }

    /// Flushes what was written.
    pub fn flush(&mut self) -> Result<()> {
        let Some(journal) = &mut self.journal else { return Ok(()) };
        if let Err(error) = journal.sync() {
            self.give_up_journal();
            return Err(error);
        }
        let bytes = journal.bytes();
        self.note(bytes);
        Ok(())
    }

    /// After a failed write or flush: the journal's end is unknown, and nobody is to go on in it.
    pub fn give_up_journal(&mut self) {
        self.journal = None;
        let _ = self.lock.write_note(0, &NO_NOTE);
    }

    /// Becomes another writer in the same slot: maintenance no longer waits for what this one did before.
    ///
    /// Whatever was found before has to be looked up again.
    pub fn renew(&mut self) -> Result<()> {
        self.lock.write_note(NOTE_BYTES as u64, format!("{}\n", random_name()).as_bytes())
    }

    /// Whether the last records have brought the journal past a multiple of `bytes`.
    pub fn has_passed(&self, bytes: u64) -> bool {
        let (before, after) = self.grown;
        before.checked_div(bytes) != after.checked_div(bytes)
    }

    /// Whether it has made a journal.
    pub fn has_new_journal(&self) -> bool {
        self.has_new_journal
    }

    /// Notes how much of the journal is flushed: advice for those who come later, without which the records are safe.
    fn note(&mut self, bytes: u64) {
        let said = format!("{} {bytes:>12}", self.journal_name);
        let _ = self.lock.write_note(0, format!("{said} {}\n", note_check(&said)).as_bytes());
    }

    fn create_journal(&mut self, storage: &dyn Storage, store: StoreId) -> Result<JournalWriter> {
        self.has_new_journal = true;
        self.journal_name = format!("{}{JOURNAL_ENDING}", random_name());
        let path = format!("{JOURNALS}/{}", self.journal_name);
        let journal = with_folders(storage, || JournalWriter::create(storage, &path, store))?;
        // Before the first record, so that a reader never takes one that is not flushed yet for one that is.
        self.note(journal.bytes());
        Ok(journal)
    }

    /// Reopens the journal that the slot's last holder noted, if it ends with a whole record.
    fn continue_journal(&mut self, storage: &dyn Storage, store: StoreId) -> Result<Option<JournalWriter>> {
        let Some(note) = Note::decode(&self.name, &self.lock.read_note(0, NOTE_BYTES)?) else { return Ok(None) };
        let journal = JournalWriter::reopen(storage, &format!("{JOURNALS}/{}", note.journal), store, note.bytes)?;
        self.journal_name = note.journal;
        Ok(journal)
    }
}

#[cfg(test)]
mod tests {
    use super::note_check;

    #[test]
    fn the_documented_note_has_its_check() {
        assert_eq!(note_check("9f86d081884c7d65.journal         1234"), "9d5b8ab6");
    }
}
