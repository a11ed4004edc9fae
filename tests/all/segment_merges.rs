//! Merges of journals and segments that are killed, overtaken, or cannot tell the index: nothing is lost by them, nothing that is
//! lost otherwise is hidden, and nobody is accused.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use runsnap::operations::repair::{RepairOptions, repair};
use runsnap::storage::{LocalStorage, Lock, ReadFile, Storage, StoredFile, WriteFile};
use runsnap::store::{MergeExtent, Store};
use serde_json::json;

use crate::segments::{Recorded, check, plain_records, problems_with_records, record, run_id, time_text};

/// What is asked before each operation on a storage: its word and the path.
type Before = Arc<dyn Fn(&str, &str) -> runsnap::Result<()> + Send + Sync>;

/// Storage that asks before it does something that changes files, or lists a folder.
struct Asking {
    inner: LocalStorage,
    before: Before,
}

struct AskingFile(Box<dyn WriteFile>, Before);

impl ReadFile for AskingFile {
    fn read_range(&self, offset: u64, bytes: usize) -> runsnap::Result<Vec<u8>> {
        self.0.read_range(offset, bytes)
    }

    fn length(&self) -> runsnap::Result<u64> {
        self.0.length()
    }
}

impl WriteFile for AskingFile {
    fn write(&mut self, bytes: &[u8]) -> runsnap::Result<()> {
        (self.1)("write", "a file")?;
        self.0.write(bytes)
    }

    fn sync(&mut self) -> runsnap::Result<()> {
        (self.1)("sync", "a file")?;
        self.0.sync()
    }
}

impl Storage for Asking {
    fn root(&self) -> &Path {
        self.inner.root()
    }
    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        self.inner.at(root)
    }
    fn create_folder(&self, path: &str) -> runsnap::Result<bool> {
        self.inner.create_folder(path)
    }
    fn create(&self, path: &str) -> runsnap::Result<Box<dyn WriteFile>> {
        (self.before)("create", path)?;
        Ok(Box::new(AskingFile(self.inner.create(path)?, Arc::clone(&self.before))))
    }
    fn append(&self, path: &str) -> runsnap::Result<Box<dyn WriteFile>> {
        (self.before)("append", path)?;
        self.inner.append(path)
    }
    fn rename(&self, from: &str, to: &str) -> runsnap::Result<()> {
        (self.before)("rename", to)?;
        self.inner.rename(from, to)
    }
    fn remove(&self, path: &str) -> runsnap::Result<()> {
        (self.before)("remove", path)?;
        self.inner.remove(path)
    }
    fn sync_folder(&self, path: &str) -> runsnap::Result<()> {
        (self.before)("sync", path)?;
        self.inner.sync_folder(path)
    }
    fn read(&self, path: &str, limit: u64) -> runsnap::Result<Vec<u8>> {
        self.inner.read(path, limit)
    }
    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> runsnap::Result<Vec<u8>> {
        self.inner.read_range(path, offset, bytes)
    }
    fn look(&self, path: &str) -> runsnap::Result<StoredFile> {
        self.inner.look(path)
    }
    fn list(&self, path: &str) -> runsnap::Result<Vec<StoredFile>> {
        (self.before)("list", path)?;
        self.inner.list(path)
    }
    fn try_lock(&self, path: &str) -> runsnap::Result<Option<Box<dyn Lock>>> {
        self.inner.try_lock(path)
    }
}

/// Refuses everything that changes files after so many changes.
fn refusing_after(changes: i64) -> Before {
    let left = AtomicI64::new(changes);
    Arc::new(move |what, path| {
        if what == "list" || left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(runsnap::Error::io("write", Path::new(path), std::io::Error::other("refused")))
    })
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).expect("readable");
    bytes[at] ^= 16;
    std::fs::write(path, bytes).expect("written");
}

fn killed_before(operation: &'static str, path: &'static str) -> Before {
    Arc::new(move |what, at| match (what, at) == (operation, path) {
        true => Err(runsnap::Error::io("write", Path::new(at), std::io::Error::other("killed"))),
        false => Ok(()),
    })
}

impl Recorded {
    fn asking(&self, before: Before) -> Store {
        let inner = LocalStorage::new(self.folder.path().join("store"));
        Store::open_in(Arc::new(Asking { inner, before })).expect("opens")
    }

    fn path(&self, ending: &str) -> PathBuf {
        self.folder.path().join("store/runs").join(&self.files(ending)[0])
    }
}

/// The index is a cache: what merges could not tell it is no sign that anything is lost, however many merges have passed.
#[test]
fn an_index_that_was_busy_while_merges_went_on_accuses_nobody() {
    for locked in ["BEGIN IMMEDIATE", "BEGIN EXCLUSIVE"] {
        let mut recorded = Recorded::new();
        let sources = |recorded: &Recorded| -> usize {
            let store = recorded.store();
            let runs = store.runs().expect("readable");
            runs.segments().iter().map(|segment| segment.sources.len()).sum()
        };
        // Two journals and a segment, and a run that no merge will leave there.
        let forget = json!({"type": "forget", "run": run_id(2).to_string(), "time": time_text(2, 900)});
        recorded.journal(&plain_records(0..2));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        recorded.journal(&plain_records(2..3));
        recorded.journal(&[record(forget)]);
        recorded.store().update_index(true).expect("written");
        let index = rusqlite::Connection::open(recorded.folder.path().join("store/index.sqlite")).expect("opens");
        index.execute_batch(locked).expect("locked");
        for number in 3..6 {
            recorded.journal(&plain_records(number..number + 1));
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        }
        assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1), "{locked}");
        index.execute_batch("ROLLBACK").expect("unlocked");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{locked}");
        let options = RepairOptions { dry_run: true, ..RepairOptions::default() };
        let repaired = repair(recorded.store(), &options, &()).expect("looked");
        assert_eq!(repaired.lost_runs, Vec::<String>::new(), "{locked}");
        // Once it has been told, nobody has to remember any more.
        recorded.journal(&plain_records(6..7));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{locked}");
        assert_eq!(sources(&recorded), 2, "{locked}: the segment before and the journal");
        assert_eq!(index.query_row("SELECT count(*) FROM journals", [], |row| row.get(0)), Ok(1), "{locked}");
    }
}

/// A store whose journals others merge once, and then once more, when it reads the writers' notes after so many times.
fn overtaken(recorded: &Recorded, looks: u64) -> Store {
    let (store, more) = (recorded.store(), plain_records(4..6));
    let looked = AtomicU64::new(0);
    let before: Before = Arc::new(move |what, path| {
        if (what, path) == ("list", "writers") && looked.fetch_add(1, Ordering::Relaxed) == looks {
            store.merge_runs(MergeExtent::Full).expect("merged");
            store.writer().and_then(|mut writer| writer.commit(&more)).expect("recorded");
            // The second merge knows nothing of what the first was made of.
            store.merge_runs(MergeExtent::Full).expect("merged");
        }
        Ok(())
    });
    recorded.asking(before)
}

#[test]
fn an_index_that_is_written_by_who_was_overtaken_names_nothing_that_is_gone() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    overtaken(&recorded, 0).update_index(true).expect("written");
    let index = rusqlite::Connection::open(recorded.folder.path().join("store/index.sqlite")).expect("opens");
    let count = |table: &str| {
        index.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get::<_, i64>(0)).expect("a number")
    };
    assert_eq!((count("journals"), count("runs")), (1, 0), "the last segment, whose runs are not listed");
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

#[test]
fn a_verify_that_merges_overtake_accuses_nobody() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    recorded.store().update_index(true).expect("written");
    assert_eq!(problems_with_records(&overtaken(&recorded, 1)), Vec::new());
    assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1));
}

/// A segment that was damaged when it was written takes nothing with it.
#[test]
fn sources_stay_until_their_segment_has_been_read_back() {
    let all = [plain_records(0..2), plain_records(2..4)].concat();
    let recorded = || {
        let mut recorded = Recorded::new();
        recorded.journal(&plain_records(0..2));
        recorded.journal(&plain_records(2..4));
        recorded
    };

    // The disk keeps something else than it was given.
    let flipped = recorded();
    let folder = flipped.folder.path().join("store/runs");
    let flips = AtomicBool::new(true);
    let before: Before = Arc::new(move |what, path| {
        let segments = std::fs::read_dir(&folder).expect("listed").map(|file| file.expect("readable").path());
        for segment in segments.filter(|path| path.extension().is_some_and(|ending| ending == "segment")) {
            if (what, path) == ("sync", "runs") && flips.swap(false, Ordering::Relaxed) {
                flip(&segment, 60);
            }
        }
        Ok(())
    });
    flipped.asking(before).merge_runs(MergeExtent::Full).expect_err("it does not read back");
    assert_eq!((flipped.files(".journal").len(), flipped.files(".segment").len()), (2, 0));
    check(&flipped.store(), &all);

    // The same, and the merge was killed before it could find that.
    let killed = recorded();
    let merge = killed.asking(killed_before("rename", "runs/merges"));
    merge.merge_runs(MergeExtent::Full).expect_err("killed");
    flip(&killed.path(".segment"), 60);
    let merged = killed.store().merge_runs(MergeExtent::Full).expect("merged");
    assert_eq!((merged.taken_back, merged.journals), (1, 2));
    assert_eq!((killed.files(".journal").len(), killed.files(".segment").len()), (0, 1));
    check(&killed.store(), &all);
    assert_eq!(problems_with_records(&killed.store()), Vec::new());

    // Where one of the sources is gone, the damaged segment may have what nothing else has.
    let partly = recorded();
    let merge = partly.asking(killed_before("rename", "runs/merges"));
    merge.merge_runs(MergeExtent::Full).expect_err("killed");
    flip(&partly.path(".segment"), 60);
    std::fs::remove_file(partly.path(".journal")).expect("removed");
    for _ in 0..2 {
        assert_eq!(partly.store().merge_runs(MergeExtent::Full).expect("looked").taken_back, 0);
        assert_eq!((partly.files(".journal").len(), partly.files(".segment").len()), (1, 1));
    }
}

/// A whole segment has the beginning of a journal, a damaged one all of it.
#[test]
fn a_journal_of_which_only_the_beginning_is_safe_stays() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..1));
    let journal = recorded.path(".journal");
    let killed = |recorded: &Recorded, extent| {
        let merge = recorded.asking(killed_before("rename", "runs/merges"));
        merge.merge_runs(extent).expect_err("killed");
    };
    killed(&recorded, MergeExtent::Full);
    let first = recorded.path(".segment");
    // It goes on.
    recorded.journal(&plain_records(1..2));
    let other_than = |recorded: &Recorded, path: &Path, ending| -> PathBuf {
        let mut all = recorded.files(ending).into_iter().map(|name| path.with_file_name(name));
        all.find(|found| found != path).expect("another one")
    };
    let other = other_than(&recorded, &journal, ".journal");
    let more = std::fs::read(&other).expect("readable").split_off(32);
    std::fs::remove_file(&other).expect("removed");
    let grown = [std::fs::read(&journal).expect("readable"), more].concat();
    std::fs::write(&journal, grown).expect("written");
    (2..17).for_each(|number| recorded.journal(&plain_records(number..number + 1)));
    killed(&recorded, MergeExtent::Step);
    let second = other_than(&recorded, &first, ".segment");
    flip(&second, 60);
    std::fs::remove_file(other_than(&recorded, &journal, ".journal")).expect("removed");
    for extent in [MergeExtent::Step, MergeExtent::Full] {
        recorded.store().merge_runs(extent).expect("looked");
        assert!(journal.exists() && second.exists());
    }
}

/// A journal that went on after a merge, and is gone: that the beginning of it is in a segment is no excuse.
#[test]
fn a_journal_that_is_merged_in_part_and_lost_is_told() {
    for is_indexed in [true, false] {
        let mut recorded = Recorded::new();
        let commit = |recorded: &Recorded, number| {
            let records = plain_records(number..number + 1);
            recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
        };
        commit(&recorded, 0);
        let merge = recorded.asking(killed_before("rename", "runs/merges"));
        merge.merge_runs(MergeExtent::Full).expect_err("killed");
        commit(&recorded, 1);
        if is_indexed {
            recorded.store().update_index(true).expect("written");
        }
        assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (1, 1), "it went on");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new());
        std::fs::remove_file(recorded.path(".journal")).expect("removed");
        for number in 2..5 {
            let problems = problems_with_records(&recorded.store());
            let lost: Vec<_> = problems.iter().flat_map(|problem| problem.runs.iter().cloned()).collect();
            // The writer's note knows no names.
            let expected = if is_indexed { vec!["run-1".to_owned()] } else { Vec::new() };
            assert_eq!((problems.len(), lost), (1, expected), "{number}: {problems:?}");
            if is_indexed {
                commit(&recorded, number);
            } else {
                recorded.journal(&plain_records(number..number + 1));
            }
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        }
    }
}

/// A power cut can bring an old note back. Its slot is held by somebody who appends nothing.
#[test]
fn an_old_note_of_a_held_slot_accuses_nobody() {
    let mut recorded = Recorded::new();
    recorded.store().writer().and_then(|mut writer| writer.commit(&plain_records(0..1))).expect("recorded");
    let slot = recorded.folder.path().join("store/writers/0000");
    let note = std::fs::read(&slot).expect("a note");
    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    std::fs::write(&slot, note).expect("written");
    let storage = LocalStorage::new(recorded.folder.path().join("store"));
    let held = storage.try_lock("writers/0000").expect("looked").expect("free");
    for number in 1..4 {
        recorded.journal(&plain_records(number..number + 1));
        recorded.store().merge_runs(MergeExtent::Full).expect("merged");
        assert_eq!(problems_with_records(&recorded.store()), Vec::new(), "{number}");
    }
    drop(held);
    recorded.journal(&plain_records(4..5));
    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
    assert!(!String::from_utf8_lossy(&std::fs::read(&slot).expect("there")).contains(".journal"), "cleared at last");
}

/// Notes of what was flushed are read after the journals, and tell of more.
#[test]
fn a_record_that_is_finished_while_verify_reads_is_no_damage() {
    let recorded = Recorded::new();
    let slot = recorded.folder.path().join("store/writers/0000");
    let commit = |number| {
        let records = plain_records(number..number + 1);
        recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
    };
    commit(0);
    let (journal, old_note) = (recorded.path(".journal"), std::fs::read(&slot).expect("a note"));
    let old_bytes = std::fs::metadata(&journal).expect("there").len() as usize;
    commit(1);
    let (whole, new_note) = (std::fs::read(&journal).expect("there"), std::fs::read(&slot).expect("a note"));
    std::fs::write(&journal, &whole[..old_bytes + 20]).expect("written");
    std::fs::write(&slot, old_note).expect("written");
    let looks = AtomicU64::new(0);
    let before: Before = Arc::new(move |what, path| {
        if (what, path) == ("list", "writers") && looks.fetch_add(1, Ordering::Relaxed) == 1 {
            std::fs::write(&journal, &whole).expect("written");
            std::fs::write(&slot, &new_note).expect("written");
        }
        Ok(())
    });
    assert_eq!(problems_with_records(&recorded.asking(before)), Vec::new());
}

/// What is moved away by hand of `repair` is known to be gone, whoever writes the index meanwhile.
#[test]
fn what_repair_moves_away_is_named_by_no_index() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    let (store, other, path) = (recorded.store(), recorded.store(), recorded.path(".journal"));
    let name = recorded.files(".journal").remove(0);
    let moves = AtomicBool::new(true);
    let before: Before = Arc::new(move |what, at| {
        if (what, at) == ("list", "writers") && moves.swap(false, Ordering::Relaxed) {
            let take_out = || {
                // Who writes the index now names it once more.
                other.update_index(true).expect("written");
                std::fs::remove_file(&path).expect("moved");
                Ok(())
            };
            store.take_out_run_files(&[name.as_str()], take_out).expect("taken out");
        }
        Ok(())
    });
    recorded.asking(before).update_index(true).expect("written");
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

/// And where `repair` is killed as soon as it has moved it.
#[test]
fn what_a_killed_repair_has_moved_away_is_named_by_no_index() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    let (store, path) = (recorded.store(), recorded.path(".journal"));
    let name = recorded.files(".journal").remove(0);
    store.update_index(true).expect("written");
    let take_out = || {
        std::fs::remove_file(&path).expect("moved");
        Err(runsnap::Error::Usage("killed".to_owned()))
    };
    store.take_out_run_files(&[name.as_str()], take_out).expect_err("killed");
    assert_eq!(problems_with_records(&recorded.store()), Vec::new());
}

/// A reader that lists runs/ all the while must be told, even where it was another merge that wrote the segment.
#[test]
fn nothing_is_removed_before_the_mark_has_changed() {
    let mut recorded = Recorded::new();
    recorded.journal(&plain_records(0..2));
    recorded.journal(&plain_records(2..4));
    let folder = recorded.folder.path().join("store");
    let killed = recorded.asking(killed_before("rename", "runs/merges"));
    killed.merge_runs(MergeExtent::Full).expect_err("killed");
    assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (2, 1));
    let mark = std::fs::read(folder.join("runs/merges")).ok();
    let (mark_path, is_checked) = (folder.join("runs/merges"), Arc::new(AtomicBool::new(false)));
    let has_checked = Arc::clone(&is_checked);
    let checking = recorded.asking(Arc::new(move |what, path| {
        if what == "remove" && path.starts_with("runs/") {
            assert_ne!(std::fs::read(&mark_path).ok(), mark);
            is_checked.store(true, Ordering::Relaxed);
        }
        Ok(())
    }));
    checking.merge_runs(MergeExtent::Full).expect("merged");
    assert!(has_checked.load(Ordering::Relaxed) && recorded.files(".journal").is_empty());
}

#[test]
fn a_merge_that_ends_anywhere_loses_nothing() {
    for extent in [MergeExtent::Full, MergeExtent::Step] {
        for changes in 0.. {
            let mut recorded = Recorded::new();
            let mut all = Vec::new();
            let forgets = json!({"type": "forget", "run": run_id(2).to_string(), "time": time_text(2, 900)});
            for number in 0..24 {
                let mut records = plain_records(number..number + 1);
                if number == 3 {
                    records.push(record(forgets.clone()));
                }
                if number == 7 {
                    // The journal that writers go on in.
                    recorded.store().writer().and_then(|mut writer| writer.commit(&records)).expect("recorded");
                } else {
                    recorded.journal(&records);
                }
                all.extend(records);
                if number == 5 {
                    recorded.store().merge_runs(MergeExtent::Full).expect("merged");
                }
            }
            let is_done = recorded.asking(refusing_after(changes)).merge_runs(extent).is_ok();
            check(&recorded.store(), &all);
            // Captures go on, in the same journal where the merge has not got that far.
            let more = plain_records(40..41);
            recorded.store().writer().and_then(|mut writer| writer.commit(&more)).expect("recorded");
            all.extend(more);
            check(&recorded.store(), &all);
            recorded.store().merge_runs(MergeExtent::Full).expect("merged");
            check(&recorded.store(), &all);
            assert_eq!((recorded.files(".journal").len(), recorded.files(".segment").len()), (0, 1), "{changes}");
            if is_done {
                assert!(changes > 8, "only {changes} changes were seen");
                break;
            }
        }
    }
}

#[test]
fn readers_miss_nothing_while_others_merge() {
    let mut recorded = Recorded::new();
    let done = AtomicBool::new(false);
    let written = AtomicU64::new(0);
    let folder = recorded.folder.path().join("store");
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let before = written.load(Ordering::SeqCst);
                    let store = Store::open(&folder).expect("opens");
                    let runs = store.runs().expect("readable");
                    let seen = runs.len() as u64;
                    assert!(seen >= before, "{seen} of {before} runs");
                    // What was opened stays readable after it has been merged.
                    assert_eq!(runs.iter().count() as u64, seen);
                    assert_eq!(runs.late_problems(), []);
                    if before > 0 {
                        assert!(store.is_name_taken("run-0").expect("looked"));
                    }
                    assert_eq!(problems_with_records(&store), Vec::new());
                }
            });
        }
        for number in 0..60 {
            recorded.journal(&plain_records(number..number + 1));
            written.store(number + 1, Ordering::SeqCst);
            if number % 3 == 0 {
                recorded.store().update_index(true).expect("written");
                recorded.store().merge_runs(MergeExtent::Full).expect("merged");
            }
        }
        done.store(true, Ordering::Relaxed);
    });
}
