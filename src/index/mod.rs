//! The SQLite index: a cache that says in which pack an object is and in which journal a run.
//!
//! It may be behind the store, and after a power cut or a flipped bit it may be nonsense: whoever reads a row looks at
//! the pack or journal before believing it, and whoever gets an error or no row can do without. Its tables are in
//! `schema/index.sql`, which is the very text that makes them.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::id::{ObjectId, RunId, StoreId};

const DDL: &str = include_str!("../../schema/index.sql");
const APPLICATION_ID: i64 = 0x5253_4e50;
const VERSION: i64 = 1;
/// Readers wait this long for a writer's last step; after that they do without the index.
const BUSY: Duration = Duration::from_millis(20);

/// By the way an index of fewer pages stays as it is.
const MIN_SHRUNK_PAGES: i64 = 1024;

/// Why the index cannot be used now. It is never a reason to fail.
pub type IndexError = rusqlite::Error;

/// A pack or journal that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedFile {
    /// The number under which rows name it.
    pub number: i64,
    /// Its name in its folder.
    pub name: String,
    /// The length that has been read into the index.
    pub bytes: u64,
}

/// A run that the index knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexedRun {
    /// The number of its journal.
    pub journal: i64,
    /// Where its start record begins.
    pub offset: u64,
    /// Its id.
    pub run: RunId,
    /// Its name.
    pub name: Option<String>,
}

/// A pack to be added.
pub struct NewPack<'a> {
    /// Its name.
    pub name: &'a str,
    /// Its length.
    pub bytes: u64,
    /// The keys of its objects, in the order of the table.
    pub objects: Vec<u64>,
}

/// What has been read of a journal or segment since the index last knew.
pub struct JournalTail {
    /// Its name.
    pub name: String,
    /// The length up to which the index had read it before.
    pub from: u64,
    /// The length up to which it has been read now.
    pub bytes: u64,
    /// The start records in it.
    pub runs: Vec<NewRun>,
    /// For a segment, whose runs are not listed one by one: the newest run of each of its projects.
    pub newest: Vec<NewRun>,
}

impl JournalTail {
    /// A journal or segment whose records are in a segment now, and which the index is to forget.
    pub fn gone(name: String) -> Self {
        Self { name, from: u64::MAX, bytes: 0, runs: Vec::new(), newest: Vec::new() }
    }

    fn is_gone(&self) -> bool {
        self.from == u64::MAX
    }
}

/// A run to be added.
pub struct NewRun {
    /// Where its start record begins.
    pub offset: u64,
    /// Its id.
    pub run: RunId,
    /// Its name.
    pub name: Option<String>,
    /// The path of its project.
    pub project: String,
    /// Its snapshot.
    pub snapshot: ObjectId,
}

/// An open index of one store.
#[derive(Debug)]
pub struct Index {
    connection: Connection,
}

/// The key of a run in the table `runs`.
fn run_key(run: RunId, name: Option<&str>) -> i64 {
    let text = name.map_or_else(|| run.to_string(), str::to_owned);
    ObjectId::of(text.as_bytes()).key().cast_signed()
}

impl Index {
    /// Opens the index to read it. `None` where there is none, or none that belongs to this state of the store.
    pub fn open(path: &Path, store: StoreId, generation: u64) -> Option<Self> {
        Self::open_within(path, store, generation, BUSY).ok().flatten()
    }

    /// As [`Index::open`], for who needs its word, and waits for whoever is writing it, now and at each question. Fails where that
    /// takes longer than `patience`.
    pub fn open_waiting(
        path: &Path,
        store: StoreId,
        generation: u64,
        patience: Duration,
    ) -> Result<Option<Self>, IndexError> {
        let open = || match Self::open_within(path, store, generation, patience) {
            Err(error) if !is_busy(&error) => Ok(None),
            other => other,
        };
        if let Some(index) = open()? {
            return Ok(Some(index));
        }
        // Somebody may be making it anew.
        Self::wait_for_writer(path, patience)?;
        open()
    }

    fn open_within(
        path: &Path,
        store: StoreId,
        generation: u64,
        patience: Duration,
    ) -> Result<Option<Self>, IndexError> {
        if !path.exists() {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX;
        // A store on a read-only medium can still be read; a writable one may have to finish a killed writer's rollback.
        let connection = Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_WRITE)
            .or_else(|_| Connection::open_with_flags(path, flags | OpenFlags::SQLITE_OPEN_READ_ONLY))?;
        connection.busy_timeout(patience)?;
        let index = Self { connection };
        Ok(index.belongs_to(store, generation)?.then_some(index))
    }

    /// Returns once nobody is writing the index; fails where somebody still is after `patience`.
    fn wait_for_writer(path: &Path, patience: Duration) -> Result<(), IndexError> {
        let flags = OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_WRITE;
        let wait = || {
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(patience)?;
            connection.execute_batch("BEGIN IMMEDIATE; ROLLBACK")
        };
        match wait() {
            Err(error) if is_busy(&error) => Err(error),
            // What is no database, or may not be written, nobody is writing.
            _ => Ok(()),
        }
    }

    /// Opens the index to write it, making it anew where it is missing, damaged or of another state of the store.
    ///
    /// One of a higher generation is another's where the store `is_raised`: has reached another generation than this one.
    pub fn open_or_create(
        path: &Path,
        store: StoreId,
        generation: u64,
        is_raised: &dyn Fn() -> bool,
    ) -> Result<Self, IndexError> {
        if let Some(index) = Self::open(path, store, generation) {
            return Ok(index);
        }
        let create = || {
            let connection = Connection::open(path)?;
            connection.busy_timeout(BUSY)?;
            // A cache needs no flush: what a power cut leaves of it is checked against packs and journals.
            connection.execute_batch("PRAGMA page_size = 1024; PRAGMA synchronous = OFF; BEGIN IMMEDIATE;")?;
            if connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))? == 0 {
                connection.execute_batch(DDL)?;
                connection.execute(
                    "INSERT INTO store VALUES (?1, ?2)",
                    params![store.to_string(), generation.cast_signed()],
                )?;
                connection.execute_batch(&format!(
                    "PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION};"
                ))?;
            }
            connection.execute_batch("COMMIT")?;
            Ok::<_, IndexError>(Self { connection })
        };
        match create().and_then(|index| Ok(index.belongs_to(store, generation)?.then_some(index))) {
            Ok(Some(index)) => Ok(index),
            Err(error) if is_busy(&error) => Err(error),
            // Maintenance has deleted packs since this store was opened: what the index is now is not ours to write.
            _ if Self::generation_of(path, store).is_some_and(|found| found > generation) && is_raised() => Err(busy()),
            // Of another store or state, or no database at all: a cache is thrown away rather than mended.
            _ => {
                for ending in ["", "-journal", "-wal", "-shm"] {
                    let mut name = path.as_os_str().to_owned();
                    name.push(ending);
                    let _ = std::fs::remove_file(name);
                }
                create()
            }
        }
    }

    /// Whether the index is whole but of an earlier generation: maintenance has deleted packs since, and has not come to
    /// making it anew.
    pub fn is_of_earlier_generation(path: &Path, store: StoreId, generation: u64) -> bool {
        Self::generation_of(path, store).is_some_and(|found| found < generation)
    }

    /// The generation of an index of that store that can be read.
    fn generation_of(path: &Path, store: StoreId) -> Option<u64> {
        let (id, generation) = owner(&read_only(path).ok()?).ok()??;
        (id == store.to_string()).then_some(generation)
    }

    /// Whether it has no tables yet: whoever began to make it was killed.
    pub fn is_empty(path: &Path) -> bool {
        let count = |connection: Connection| {
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get::<_, i64>(0))
        };
        read_only(path).and_then(count).is_ok_and(|count| count == 0)
    }

    fn belongs_to(&self, store: StoreId, generation: u64) -> Result<bool, IndexError> {
        let version: i64 = self.connection.query_row("PRAGMA user_version", [], |row| row.get(0))?;
        if version != VERSION {
            return Ok(false);
        }
        Ok(owner(&self.connection)?.is_some_and(|owner| owner == (store.to_string(), generation)))
    }

    fn files(&self, sql: &str) -> Result<Vec<IndexedFile>, IndexError> {
        let mut statement = self.connection.prepare_cached(sql)?;
        let rows = statement.query_map([], |row| {
            Ok(IndexedFile { number: row.get(0)?, name: row.get(1)?, bytes: row.get::<_, i64>(2)?.cast_unsigned() })
        })?;
        rows.collect()
    }

    /// The packs whose objects are in the index.
    pub fn packs(&self) -> Result<Vec<IndexedFile>, IndexError> {
        self.files("SELECT number, name, bytes FROM packs")
    }

    /// The journals whose records are in the index.
    pub fn journals(&self) -> Result<Vec<IndexedFile>, IndexError> {
        self.files("SELECT number, name, bytes FROM journals")
    }

    /// The places of the objects with a key: number of the pack, place in its table.
    pub fn places(&self, key: u64) -> Result<Vec<(i64, u64)>, IndexError> {
        let mut statement = self.connection.prepare_cached("SELECT pack, ordinal FROM objects WHERE key = ?1")?;
        let rows =
            statement.query_map([key.cast_signed()], |row| Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned())))?;
        rows.collect()
    }

    /// The ordinals that the index has for a pack, sorted, with their keys.
    pub fn objects_of(&self, pack: i64) -> Result<Vec<(u64, u64)>, IndexError> {
        let mut statement =
            self.connection.prepare_cached("SELECT ordinal, key FROM objects WHERE pack = ?1 ORDER BY ordinal")?;
        let rows = statement.query_map([pack], |row| {
            Ok((row.get::<_, i64>(0)?.cast_unsigned(), row.get::<_, i64>(1)?.cast_unsigned()))
        })?;
        rows.collect()
    }

    /// The runs whose records are in a journal.
    pub fn runs_in(&self, journal: i64) -> Result<Vec<IndexedRun>, IndexError> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT journal, offset, run, name FROM runs WHERE journal = ?1 ORDER BY offset")?;
        let rows = statement.query_map([journal], indexed_run)?;
        rows.collect()
    }

    /// The newest run of a project that the index knows.
    pub fn newest_of(&self, project: &str) -> Result<Option<(RunId, ObjectId)>, IndexError> {
        let mut statement = self.connection.prepare_cached("SELECT run, snapshot FROM projects WHERE path = ?1")?;
        statement.query_row([project], |row| Ok((RunId(row.get(0)?), ObjectId(row.get(1)?)))).optional()
    }

    /// SQLite's own look at its file; empty where it finds nothing wrong.
    pub fn integrity_problems(&self) -> Vec<String> {
        let check = || {
            let mut statement = self.connection.prepare("PRAGMA integrity_check(5)")?;
            let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<Result<Vec<_>, IndexError>>()
        };
        match check() {
            Ok(lines) => lines.into_iter().filter(|line| line != "ok").collect(),
            Err(error) => vec![error.to_string()],
        }
    }

    /// Adds packs and journal tails in one transaction; fails at once where another process is doing so.
    ///
    /// `is_current` is asked when nobody else can write any more: where it says that what was read has been overtaken,
    /// nothing is added, and this returns false.
    pub fn add(
        &mut self,
        packs: &[NewPack<'_>],
        journals: &[JournalTail],
        is_current: &dyn Fn() -> bool,
    ) -> Result<bool, IndexError> {
        self.connection.execute_batch("PRAGMA synchronous = OFF")?;
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if !is_current() {
            return Ok(false);
        }
        {
            let mut known = transaction.prepare_cached("SELECT 1 FROM packs WHERE name = ?1")?;
            let mut add_pack = transaction.prepare_cached("INSERT INTO packs (name, bytes) VALUES (?1, ?2)")?;
            let mut add_object = transaction.prepare_cached("INSERT OR REPLACE INTO objects VALUES (?1, ?2, ?3)")?;
            let mut rows = Vec::new();
            for pack in packs {
                // Another process may have added it since this one looked.
                if known.exists([pack.name])? {
                    continue;
                }
                add_pack.execute(params![pack.name, pack.bytes.cast_signed()])?;
                let number = transaction.last_insert_rowid();
                rows.extend(
                    pack.objects.iter().enumerate().map(|(ordinal, key)| (key.cast_signed(), number, ordinal as i64)),
                );
            }
            // In the order of the key pages are filled once, not split over and over.
            rows.sort_unstable();
            for (key, pack, ordinal) in rows {
                add_object.execute(params![key, pack, ordinal])?;
            }
            let mut journal_of = transaction.prepare_cached("SELECT number, bytes FROM journals WHERE name = ?1")?;
            let mut add_journal = transaction.prepare_cached("INSERT INTO journals (name, bytes) VALUES (?1, 0)")?;
            let mut set_bytes = transaction.prepare_cached("UPDATE journals SET bytes = ?2 WHERE number = ?1")?;
            let mut add_run = transaction.prepare_cached("INSERT OR REPLACE INTO runs VALUES (?1, ?2, ?3, ?4, ?5)")?;
            let mut set_newest = transaction.prepare_cached(
                "INSERT INTO projects VALUES (?1, ?2, ?3)
                 ON CONFLICT (path) DO UPDATE SET run = excluded.run, snapshot = excluded.snapshot WHERE excluded.run > run",
            )?;
            for journal in journals {
                let found = journal_of
                    .query_row([&journal.name], |row| {
                        Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
                    })
                    .optional()?;
                let (number, indexed) = match found {
                    Some(found) => found,
                    None => {
                        add_journal.execute([&journal.name])?;
                        (transaction.last_insert_rowid(), 0)
                    }
                };
                if journal.is_gone() {
                    transaction.execute("DELETE FROM journals WHERE number = ?1", [number])?;
                    continue;
                }
                // An index made anew in the meantime lacks what came before: it will read that itself.
                if indexed >= journal.bytes || indexed < journal.from {
                    continue;
                }
                for run in &journal.runs {
                    let key = run_key(run.run, run.name.as_deref());
                    add_run.execute(params![key, number, run.offset.cast_signed(), run.run.0, run.name])?;
                }
                for run in journal.runs.iter().chain(&journal.newest) {
                    set_newest.execute(params![run.project, run.run.0, run.snapshot.0])?;
                }
                set_bytes.execute(params![number, journal.bytes.cast_signed()])?;
            }
        }
        if !journals.iter().any(JournalTail::is_gone) {
            transaction.commit()?;
            return Ok(true);
        }
        remove_orphans(&transaction)?;
        transaction.commit()?;
        self.shrink(MIN_SHRUNK_PAGES);
        Ok(true)
    }

    /// Forgets journals and segments in a way that no power cut takes back; fails at once where another process writes. Those
    /// of which it has read more than the length given with the name it keeps, and returns their names.
    ///
    /// Whoever began to read the store's files before this cannot be about to add them once it returns.
    pub fn forget(&mut self, journals: &[(String, u64)]) -> Result<Vec<String>, IndexError> {
        // The folder is flushed as well, or SQLite's own journal might come back and undo this.
        self.connection.execute_batch("PRAGMA synchronous = EXTRA")?;
        let transaction = self.connection.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        let (mut known, mut kept) = (0, Vec::new());
        for (name, bytes) in journals {
            let bytes = i64::try_from(*bytes).unwrap_or(i64::MAX);
            known += transaction
                .prepare_cached("DELETE FROM journals WHERE name = ?1 AND bytes <= ?2")?
                .execute(params![name, bytes])?;
            if transaction.prepare_cached("SELECT 1 FROM journals WHERE name = ?1")?.exists([name])? {
                kept.push(name.clone());
            }
        }
        if known > 0 {
            remove_orphans(&transaction)?;
        }
        // Something has to be written for anything to be flushed: what was forgotten earlier may not have been.
        transaction.execute("UPDATE store SET generation = generation", [])?;
        transaction.commit()?;
        Ok(kept)
    }

    /// Gives the room back that rows have left, where it is most of a file of at least so many pages.
    pub fn shrink(&self, min_pages: i64) {
        let count = |pragma: &str| self.connection.query_row(pragma, [], |row| row.get::<_, i64>(0)).unwrap_or(0);
        if count("PRAGMA freelist_count") * 2 > count("PRAGMA page_count").max(min_pages) {
            // A reader in the way only means that the file stays as large as it is.
            // Every page is written: half of them would be no index.
            let _ = self.connection.execute_batch("PRAGMA synchronous = EXTRA; VACUUM");
        }
    }
}

/// Opens an index that is only looked at.
fn read_only(path: &Path) -> Result<Connection, IndexError> {
    Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_NO_MUTEX | OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// The store and the generation that an index is of.
fn owner(connection: &Connection) -> Result<Option<(String, u64)>, IndexError> {
    let row = connection.query_row("SELECT id, generation FROM store", [], |row| {
        Ok((row.get(0)?, row.get::<_, i64>(1)?.cast_unsigned()))
    });
    row.optional()
}

/// Removes the rows of journals that are gone. No index leads from a journal to its rows: one look at all of them for all.
fn remove_orphans(connection: &Connection) -> Result<usize, IndexError> {
    connection.execute("DELETE FROM runs WHERE journal NOT IN (SELECT number FROM journals)", [])
}

fn indexed_run(row: &rusqlite::Row<'_>) -> Result<IndexedRun, IndexError> {
    Ok(IndexedRun {
        journal: row.get(0)?,
        offset: row.get::<_, i64>(1)?.cast_unsigned(),
        run: RunId(row.get(2)?),
        name: row.get(3)?,
    })
}

/// As if another process were writing the index.
pub fn busy() -> IndexError {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY), None)
}

/// Whether another process is writing the index just now, or maintains the store.
pub fn is_busy(error: &IndexError) -> bool {
    matches!(error.sqlite_error_code(), Some(rusqlite::ErrorCode::DatabaseBusy | rusqlite::ErrorCode::DatabaseLocked))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_index_of_a_later_generation_is_left_alone_as_long_as_the_store_has_it() {
        let (raised, not_raised) = (|| true, || false);
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (path, store) = (folder.path().join("index.sqlite"), StoreId([7; 16]));
        let tail = JournalTail { name: "j".into(), from: 0, bytes: 90, runs: Vec::new(), newest: Vec::new() };
        let mut index = Index::open_or_create(&path, store, 4, &not_raised).expect("made");
        assert!(index.add(&[], &[tail], &|| true).expect("added"));
        drop(index);
        let refused = Index::open_or_create(&path, store, 3, &raised).expect_err("it is of another generation");
        assert!(is_busy(&refused), "{refused}");
        let journals =
            |generation| Index::open(&path, store, generation).map(|index| index.journals().expect("read").len());
        assert_eq!((journals(3), journals(4)), (None, Some(1)));
        // One of an earlier generation, or of another store, is made anew.
        drop(Index::open_or_create(&path, store, 5, &raised).expect("made"));
        assert_eq!((journals(4), journals(5)), (None, Some(0)));
        // So is that of a generation which the store has not, for its config was made again.
        drop(Index::open_or_create(&path, store, 0, &not_raised).expect("made"));
        assert_eq!((journals(5), journals(0)), (None, Some(0)));
        drop(Index::open_or_create(&path, StoreId([8; 16]), 2, &raised).expect("made"));
        assert_eq!(journals(0), None);
    }

    #[test]
    fn what_an_index_has_read_beyond_what_was_merged_it_does_not_forget() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("index.sqlite");
        let tail =
            |name: &str, bytes| JournalTail { name: name.into(), from: 0, bytes, runs: Vec::new(), newest: Vec::new() };
        let mut index = Index::open_or_create(&path, StoreId([7; 16]), 0, &|| false).expect("made");
        assert!(!index.add(&[], &[tail("late", 9)], &|| false).expect("asked"), "it was overtaken");
        assert!(index.add(&[], &[tail("whole", 100), tail("longer", 101), tail("other", 5)], &|| true).expect("added"));
        let merged = ["whole", "longer", "unknown"].map(|name| (name.to_owned(), 100));
        assert_eq!(index.forget(&merged).expect("forgotten"), ["longer"]);
        let left: Vec<String> = index.journals().expect("read").into_iter().map(|file| file.name).collect();
        assert_eq!(left, ["longer", "other"]);
    }
}
