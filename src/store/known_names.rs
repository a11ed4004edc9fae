//! The names that runs have, in memory: for who asks about one name after the other.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use serde_json::Value;

use super::Store;
use super::run_files::{JournalFile, RunFiles};
use super::slot::JOURNAL_ENDING;
use crate::error::Result;
use crate::id::ObjectId;
use crate::journal::{self, HEADER_BYTES, Item, decode_record};
use crate::run_record::RunRecord;
use crate::segment::Segment;

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
                found.push(read_journal(store, &file.name, known)?);
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

fn read_journal(store: &Store, name: &str, from: u64) -> Result<(String, u64, Vec<u64>)> {
    let bytes = store.read_journal(name, from)?;
    let skip = if from == 0 { HEADER_BYTES } else { 0 };
    let (mut keys, mut end) = (Vec::new(), from + skip as u64);
    for item in journal::scan(bytes.get(skip..).unwrap_or_default()) {
        let place = |n: usize| from + (skip + n) as u64;
        match item {
            Item::Record { end: record_end, payload, .. } => {
                end = place(record_end);
                if let Ok(RunRecord::Start(start)) = decode_record(payload) {
                    keys.extend(start.name.as_deref().map(key));
                }
            }
            Item::Damage { end: damage_end, .. } => end = place(damage_end),
            // It may be finished by the next look.
            Item::Unfinished { .. } => {}
        }
    }
    Ok((name.to_owned(), end, keys))
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
