//! Damaged journals: records that can be mended are recorded again, and a journal of which nothing is lost is set aside.

use std::collections::BTreeMap;

use super::{Repaired, set_files_aside};
use crate::error::Result;
use crate::journal::{HEADER_BYTES, Item, MAX_JOURNAL_BYTES, decode_record, mend, scan};
use crate::run_record::RunRecord;
use crate::storage::Lock;
use crate::store::slot::{self, JOURNALS};
use crate::store::{JournalProblem, Runs, Store};

/// A damaged journal and what can be had from it.
pub struct DamagedJournal {
    name: String,
    /// The records that damage has hit and that could be mended.
    pub mended: Vec<RunRecord>,
    /// All other records.
    whole: Vec<RunRecord>,
    /// How many damaged places could not be mended.
    pub lost_places: u64,
}

/// Reads the journals that have damage in them. The beginning of a record that was never finished is none.
pub fn examine(store: &Store, runs: &Runs) -> Result<Vec<DamagedJournal>> {
    let flushed: BTreeMap<String, u64> =
        slot::notes(&**store.storage())?.into_iter().map(|note| (note.journal, note.bytes)).collect();
    let is_damage = |problem: &&JournalProblem| {
        !problem.unfinished || flushed.get(&problem.name).is_some_and(|flushed| problem.offset < *flushed)
    };
    let mut by_name: BTreeMap<&str, Vec<&JournalProblem>> = BTreeMap::new();
    for problem in runs.problems.iter().filter(is_damage) {
        by_name.entry(&problem.name).or_default().push(problem);
    }
    by_name.into_iter().map(|(name, problems)| read(store, name, &problems, flushed.get(name).copied())).collect()
}

fn read(store: &Store, name: &str, problems: &[&JournalProblem], flushed: Option<u64>) -> Result<DamagedJournal> {
    let bytes = store.storage().read(&format!("{JOURNALS}/{name}"), MAX_JOURNAL_BYTES)?;
    let mut journal = DamagedJournal { name: name.to_owned(), mended: Vec::new(), whole: Vec::new(), lost_places: 0 };
    let body = bytes.get(HEADER_BYTES..).unwrap_or_default();
    // A damaged header takes no record with it, unless so much of it is wrong that the journal may be another store's.
    if problems.iter().any(|problem| problem.offset == 0 && problem.end > HEADER_BYTES as u64) {
        journal.lost_places = 1;
        return Ok(journal);
    }
    for item in scan(body) {
        match item {
            Item::Record { payload, .. } => match decode_record(payload) {
                Ok(record) => journal.whole.push(record),
                // A newer runsnap can read it.
                Err(_) => journal.lost_places += 1,
            },
            Item::Damage { offset, end } | Item::Unfinished { offset, end } => {
                let mended = body.get(offset..end).and_then(mend).and_then(|payload| decode_record(&payload).ok());
                match mended {
                    Some(record) => journal.mended.push(record),
                    None if matches!(item, Item::Unfinished { .. })
                        && (offset + HEADER_BYTES) as u64 >= flushed.unwrap_or(0) => {}
                    None => journal.lost_places += 1,
                }
            }
        }
    }
    // One that is shorter than its note has lost its end.
    journal.lost_places += u64::from(flushed.is_some_and(|flushed| (bytes.len() as u64) < flushed));
    Ok(journal)
}

impl DamagedJournal {
    /// Where it is, for people.
    pub fn path(&self, store: &Store) -> String {
        store.storage().full_path(&format!("{JOURNALS}/{}", self.name)).display().to_string()
    }

    /// The records that no journal has in a readable form.
    pub fn missing<'j>(&'j self, known: &'j [RunRecord]) -> impl Iterator<Item = &'j RunRecord> {
        self.mended.iter().filter(|record| !known.contains(record))
    }
}

/// The readable records of the runs that damaged records are about: what was mended by an earlier repair is among them.
pub fn known_records(store: &Store, journals: &[DamagedJournal]) -> Result<Vec<RunRecord>> {
    let wanted: Vec<_> = journals.iter().flat_map(|journal| &journal.mended).map(RunRecord::run).collect();
    let mut known = Vec::new();
    for file in store.storage().list(JOURNALS)?.iter().filter(|_| !wanted.is_empty()) {
        let bytes = store.storage().read(&format!("{JOURNALS}/{}", file.name), MAX_JOURNAL_BYTES)?;
        for item in scan(bytes.get(HEADER_BYTES..).unwrap_or_default()) {
            if let Item::Record { payload, .. } = item
                && let Ok(record) = decode_record(payload)
                && wanted.contains(&record.run())
            {
                known.push(record);
            }
        }
    }
    Ok(known)
}

/// Records again what was mended. A journal of which nothing is lost is recorded again as a whole and set aside; any other
/// stays where it is, so that its loss keeps being told.
pub fn repair(store: &Store, journals: &[DamagedJournal], out: &mut Repaired) -> Result<()> {
    let known = known_records(store, journals)?;
    let mut locks: Vec<Box<dyn Lock>> = Vec::new();
    let mut set_aside = Vec::new();
    let mut records: Vec<RunRecord> = Vec::new();
    for journal in journals {
        let free = if journal.lost_places == 0 { let_go(store, &journal.name, &mut locks)? } else { false };
        out.mended_records += journal.missing(&known).count() as u64;
        if free {
            records.extend(journal.whole.iter().cloned());
            records.extend(journal.mended.iter().cloned());
            set_aside.push(journal.name.as_str());
        } else {
            records.extend(journal.missing(&known).cloned());
        }
    }
    if !records.is_empty() {
        store.writer()?.commit(&records)?;
    }
    if !set_aside.is_empty() {
        store.take_out_run_files(&set_aside, || set_files_aside(store, JOURNALS, set_aside.iter().copied(), out))?;
    }
    drop(locks);
    Ok(())
}

/// Makes sure that nobody appends to a journal any more: takes the slots that note it, and empties their notes. Whether
/// that was possible; a writer that has it now is left alone.
fn let_go(store: &Store, name: &str, locks: &mut Vec<Box<dyn Lock>>) -> Result<bool> {
    let storage = store.storage();
    for note in slot::notes(&**storage)?.into_iter().filter(|note| note.journal == name) {
        match storage.try_lock(&format!("{}/{}", slot::FOLDER, note.slot))? {
            Some(mut lock) => {
                slot::free_journal(&mut *lock)?;
                locks.push(lock);
            }
            None => return Ok(false),
        }
    }
    Ok(true)
}
