//! import: turns copies of code that runs have left into runs of the store, and on request deletes the copies.
//!
//! All of a copy is taken, whatever ignore rules and secrets' rules say, because the copy may be gone afterwards. Copies of
//! one folder are imported from the oldest to the newest, several of them into one pack. What is deleted, and when, is
//! `delete`'s subject.

mod copies;
mod delete;
mod estimate;
mod known;
mod look;
mod metadata;
mod tree;

use std::path::PathBuf;
use std::rc::Rc;

use serde::Serialize;

use super::current_tree::start_record;
use super::run_folder::{self, Manifest, ManifestState};
use super::take_files::{Earlier, Taking};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
use crate::progress::Progress;
use crate::run_record::{
    Imported as Origin, Layout, LeftOut, Project, RunFolder, RunRecord, RunStart, TrackedBy, time_text,
};
use crate::snapshot::Entry;
use crate::storage::Lock;
use crate::store::location::project_of;
use crate::store::slot::FOLDER as WRITERS;
use crate::store::{Files, INDEX_PATH, Store, Writer};
use crate::tracked_files::Selection;
use crate::tracked_path::TrackedPath;

use copies::{RunCopy, Source};
use delete::{Deleted, delete_originals, flush_store};
use known::{KnownRuns, Standing, run_name};
use look::Seen;
use tree::{SeenBlocks, Tree, walk};

pub use estimate::{Estimate, estimate};
pub use look::{Found, find, project_root_of};

/// Whoever holds the lock of this file imports; two at once could give one copy two runs.
const LOCK: &str = "import";
/// So many copies go into one pack, and so much content, before their records are committed.
const BATCH_RUNS: usize = 64;
const BATCH_BYTES: u64 = 256 << 20;

/// What to import, and how.
#[derive(Debug, Clone)]
pub struct ImportOptions {
    /// The folders that hold the copies.
    pub folders: Vec<PathBuf>,
    /// How the copies lie in them.
    pub layout: Layout,
    /// The current folder, absolute and resolved: neither it nor a folder above it is imported.
    pub current_folder: PathBuf,
    /// Deletes each original whose content has been read back from the store.
    pub delete_originals: bool,
    /// The sweep that the runs become part of.
    pub sweep: Option<String>,
    /// Their tags.
    pub tags: Vec<String>,
}

/// A run that was made of a copy.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ImportedRun {
    /// The run.
    pub run: RunId,
    /// Its name, absent where that of the folder cannot be one.
    pub name: Option<String>,
    /// The run's folder.
    pub folder: String,
    /// When the run was, as far as the copy tells.
    pub time: String,
    /// The code.
    pub snapshot: ObjectId,
    /// How many files and links it has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// What an import did.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Imported {
    /// The runs that were made.
    pub runs: Vec<ImportedRun>,
    /// How many copies were in the store already.
    pub already_imported: u64,
    /// How many bytes of packs were written.
    pub new_bytes: u64,
    /// How many originals were deleted.
    pub deleted_files: u64,
    /// Their bytes.
    pub deleted_bytes: u64,
    /// The room that they took on the disk.
    pub freed_bytes: u64,
    /// What was to be deleted and stays, and why, a line each.
    pub kept: Vec<String>,
    /// Folders that were empty before: no snapshot has them, so they stay.
    pub kept_empty_folders: Vec<String>,
    /// Copies that were not imported, and why, a line each.
    pub problems: Vec<String>,
    /// What the user should know, a line each.
    pub notes: Vec<String>,
    /// The store.
    pub store: PathBuf,
}

/// Imports copies. It may be killed at any time and run again: what it has done is recognised.
pub fn import(store: &Store, found: Found, options: &ImportOptions, progress: &dyn Progress) -> Result<Imported> {
    store.check_writable()?;
    let store_folder = store.storage().root().canonicalize().unwrap_or_else(|_| store.storage().root().to_owned());
    let _lock = lock(store)?;
    let known = KnownRuns::new(store, &store.runs()?, &found.sources);
    let out = Imported { store: store.storage().root().to_owned(), ..Imported::default() };
    let mut importing =
        Importing { store, options, known, out, deletions: Vec::new(), is_flushed: false, last: None, warned: 0 };
    progress.begin("Importing", found.seen.iter().flatten().map(|one| one.files).sum());
    for (source, seen) in found.sources.iter().zip(found.seen) {
        let project = project_of(&store_folder, &project_root_of(&source.folder, &options.current_folder));
        importing.import_source(source, seen, &project, progress)?;
    }
    progress.end();
    // An import that was killed while it made the index has left one that cannot be read.
    let is_index_broken =
        store.storage().length(INDEX_PATH).is_ok() && store.catalog().ask_index(|index| index.packs()).is_none();
    if is_index_broken && let Err(error) = store.update_index(true) {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    if importing.warned > 0 {
        let runs = importing.warned;
        let note =
            format!("{runs} of the runs have warnings, such as secrets in their code: `runsnap show RUN` tells them");
        importing.out.notes.push(note);
    }
    Ok(importing.out)
}

fn lock(store: &Store) -> Result<Box<dyn Lock>> {
    let storage = store.storage();
    storage.create_folder(WRITERS)?;
    storage
        .try_lock(&format!("{WRITERS}/{LOCK}"))?
        .ok_or_else(|| Error::io("import into", storage.root(), std::io::Error::other("another import is under way")))
}

struct Importing<'s> {
    store: &'s Store,
    options: &'s ImportOptions,
    known: KnownRuns,
    out: Imported,
    /// Copies whose originals are to be deleted: their runs are committed.
    deletions: Vec<(RunCopy, Rc<RunStart>)>,
    /// Whether what earlier commands wrote has been flushed.
    is_flushed: bool,
    /// The time of the last run that was made, in nanoseconds.
    last: Option<u64>,
    /// How many runs have warnings in their records.
    warned: u64,
}

/// Copies whose content is on its way into one pack.
struct Batch<'s> {
    writer: Writer<'s>,
    /// The newest version that is in the store already: what new versions are stored as differences to.
    base: Files,
    runs: Vec<(RunCopy, RunStart)>,
    bytes: u64,
}

impl<'s> Importing<'s> {
    fn import_source(
        &mut self,
        source: &Source,
        seen: Vec<Seen>,
        project: &Project,
        progress: &dyn Progress,
    ) -> Result<()> {
        let mut newest: Option<ObjectId> = None;
        let mut batch: Option<Batch<'s>> = None;
        for one in seen {
            let mut tree = walk(&one.copy.tree, &mut SeenBlocks::new());
            self.known.without_own_files(source, &one.copy, &mut tree);
            let standing = match &tree.forbidden {
                Some(path) => Standing::Refused(format!("{} is more than a copy of code", path.display())),
                None => self.known.standing(self.store, source, &one.copy, &mut tree)?,
            };
            let files = one.files;
            match standing {
                Standing::Refused(reason) => self.problem(&one.copy, &reason),
                Standing::Stored(start, stored) => {
                    newest = Some(start.snapshot);
                    self.stored(one.copy, tree, start, &stored)?;
                }
                Standing::New if tree.files.is_empty() && tree.left_out.is_empty() => {}
                Standing::New => {
                    let mut open = match batch.take() {
                        Some(batch) => batch,
                        None => self.begin(newest)?,
                    };
                    self.take(&mut open, source, one, tree, project)?;
                    // The first of a folder goes alone, so that all others can be differences to it.
                    let limit = if newest.is_none() { 1 } else { BATCH_RUNS };
                    if open.runs.len() >= limit || open.bytes >= BATCH_BYTES {
                        newest = open.runs.last().map(|(_, start)| start.snapshot).or(newest);
                        self.commit(open, progress)?;
                    } else {
                        batch = Some(open);
                    }
                }
            }
            if self.deletions.len() >= BATCH_RUNS {
                self.delete()?;
            }
            progress.advance(files);
        }
        if let Some(batch) = batch {
            self.commit(batch, progress)?;
        }
        self.delete()
    }

    fn problem(&mut self, copy: &RunCopy, reason: &str) {
        self.out.problems.push(format!("Not imported: {}: {reason}", copy.tree.display()));
    }

    /// A copy that was imported before: what may be missing since a kill is made good.
    fn stored(&mut self, copy: RunCopy, tree: Tree, start: Rc<RunStart>, stored: &Files) -> Result<()> {
        self.out.already_imported += 1;
        let unreadable = tree.unreadable();
        if !unreadable.is_empty() {
            self.problem(&copy, &format!("cannot be read: {}", unreadable.join(", ")));
            return Ok(());
        }
        self.tell_left_out(&copy, &tree.left_out);
        self.write_manifest(&copy, &start);
        let is_there = tree.files.keys().any(|path| stored.entries.contains_key(path));
        let has_folders = stored.trees.keys().flatten().any(|path| tree.empty_folders.contains(path));
        // An emptied `code` folder is left where the process was killed just before it went.
        let is_emptied = !copy.is_whole_folder() && tree.files.is_empty();
        if self.options.delete_originals && (is_there || has_folders || is_emptied) {
            if !self.is_flushed {
                flush_store(self.store)?;
                self.is_flushed = true;
            }
            self.deletions.push((copy, start));
        }
        Ok(())
    }

    /// Names sockets, pipes and the like, which no snapshot can have.
    fn tell_left_out(&mut self, copy: &RunCopy, left_out: &[LeftOut]) {
        for left_out in left_out {
            self.out.kept.push(format!("{}: it cannot be part of a snapshot", shown(copy, &left_out.path)));
        }
    }

    fn begin(&self, newest: Option<ObjectId>) -> Result<Batch<'s>> {
        let writer = self.store.writer()?;
        // The version before only makes differences small: where it cannot be read, whole files are stored.
        let base = newest.and_then(|snapshot| self.store.files_of(snapshot).ok()).unwrap_or_default();
        Ok(Batch { writer, base, runs: Vec::new(), bytes: 0 })
    }

    /// Reads a copy, hands what is new to the store, and makes the run's record.
    fn take(&mut self, batch: &mut Batch<'s>, source: &Source, one: Seen, tree: Tree, project: &Project) -> Result<()> {
        let Seen { copy, metadata, time, .. } = one;
        let mut selection = Selection::new(TrackedBy::Tree);
        (selection.files, selection.left_out) = (tree.files, tree.left_out);
        selection.warnings.extend(metadata.warning.clone());
        let mut taking = Taking::new(selection, Earlier::Files(&batch.base));
        taking.take_all(&mut batch.writer, self.store, true, &())?;
        let mut unreadable = tree::unreadable(&taking.selection.left_out);
        unreadable
            .extend(taking.statuses.iter().map(|status| format!("{} (it changes while it is read)", status.path)));
        if !unreadable.is_empty() {
            self.problem(&copy, &format!("cannot be read: {}", unreadable.join(", ")));
            return Ok(());
        }
        self.tell_left_out(&copy, &taking.selection.left_out);
        let (snapshot, _) = taking.store_snapshot(&mut batch.writer)?;
        let nanoseconds = self.next_time(time);
        let entry_point = metadata.entry_point(&taking.entries);
        let bytes = taking.entries.values().map(Entry::bytes).sum();
        let counted = (snapshot, taking.entries.len() as u64, bytes);
        let environment = &metadata.environment;
        let mut start = RunStart {
            name: run_name(&copy),
            sweep: self.options.sweep.clone(),
            entry_point,
            params: metadata.params,
            tags: self.options.tags.clone(),
            imported: Some(Origin { layout: copy.layout, from: known::origin_text(source), folder: copy.name.clone() }),
            ..start_record(
                taking.told(),
                counted,
                (RunId::at(nanoseconds), time_text(time)),
                project.clone(),
                environment,
            )
        };
        let manifest = Manifest::of(&start, self.store.config().store).encode();
        if self.has_manifest(&copy) && run_folder::manifest_state(&copy.folder, &manifest) != ManifestState::Foreign {
            let path = copy.folder.to_string_lossy().into_owned();
            start.run_folder = Some(RunFolder { path, metadata_hash: metadata.hash });
        }
        batch.bytes += start.bytes;
        batch.runs.push((copy, start));
        Ok(())
    }

    /// A run's time in nanoseconds, a little later than that of the run before where both have the same.
    fn next_time(&mut self, time: jiff::Timestamp) -> u64 {
        let time = u64::try_from(time.as_nanosecond()).unwrap_or(0);
        let time = match self.last {
            Some(last) if last >= time && last - time < 1_000_000 => last + 1,
            _ => time,
        };
        self.last = Some(time);
        time
    }

    /// Whether the run's folder gets a manifest. Where it is the copy, it stays as it is until it is to be emptied.
    fn has_manifest(&self, copy: &RunCopy) -> bool {
        !copy.is_whole_folder() || self.options.delete_originals
    }

    fn write_manifest(&mut self, copy: &RunCopy, start: &RunStart) {
        let manifest = Manifest::of(start, self.store.config().store).encode();
        // A captured run has its manifest elsewhere, and is not known by one here.
        if start.imported.is_none() {
            return;
        }
        if !self.has_manifest(copy) || run_folder::manifest_state(&copy.folder, &manifest) != ManifestState::Missing {
            return;
        }
        if let Err(error) = run_folder::write_manifest(&*self.store.storage().at(&copy.folder), &manifest) {
            self.out.notes.push(format!("The run is imported, but its folder lacks its manifest: {error}"));
        }
    }

    /// Makes durable what was taken: content first, then the records of all runs at once; then the manifests.
    fn commit(&mut self, batch: Batch<'s>, progress: &dyn Progress) -> Result<()> {
        let Batch { mut writer, mut runs, .. } = batch;
        if runs.is_empty() {
            return Ok(());
        }
        writer.flush_objects()?;
        let mut new_bytes = writer.new_bytes();
        self.out.new_bytes += new_bytes;
        for (_, start) in &mut runs {
            start.packs = writer.new_packs();
            // The first has the bytes of the pack that all of them share.
            start.new_bytes = std::mem::take(&mut new_bytes);
        }
        let records: Vec<RunRecord> = runs.iter().map(|(_, start)| RunRecord::Start(Box::new(start.clone()))).collect();
        writer.commit(&records)?;
        drop(writer);
        for (copy, start) in runs {
            let start = Rc::new(start);
            // Another folder may have a copy of the same name.
            self.known.add(Rc::clone(&start));
            self.write_manifest(&copy, &start);
            self.warned += u64::from(!start.warnings.is_empty());
            self.out.runs.push(ImportedRun {
                run: start.run,
                name: start.name.clone(),
                folder: copy.folder.display().to_string(),
                time: start.time.clone(),
                snapshot: start.snapshot,
                files: start.files,
                bytes: start.bytes,
            });
            if self.options.delete_originals {
                self.deletions.push((copy, start));
            }
        }
        // Each name is looked up before the next batch: with the index up to date, that reads no journal.
        if let Err(error) = self.store.update_index(true) {
            progress.warn(&format!("The index is not up to date: {error}"));
        }
        self.delete()
    }

    fn delete(&mut self) -> Result<()> {
        if self.deletions.is_empty() {
            return Ok(());
        }
        let mut deleted = Deleted::default();
        delete_originals(self.store, &std::mem::take(&mut self.deletions), &mut deleted)?;
        self.out.deleted_files += deleted.files;
        self.out.deleted_bytes += deleted.bytes;
        self.out.freed_bytes += deleted.allocated_bytes;
        self.out.kept.extend(deleted.kept);
        self.out.kept.sort();
        self.out.kept.dedup();
        self.out.kept_empty_folders.extend(deleted.empty_folders);
        Ok(())
    }
}

/// The full path of something in a copy.
fn shown(copy: &RunCopy, path: &TrackedPath) -> String {
    path.to_path().map_or_else(|| copy.tree.clone(), |path| copy.tree.join(path)).display().to_string()
}

impl Imported {
    /// Whether something that was asked for could not be done.
    pub fn has_problems(&self) -> bool {
        !self.problems.is_empty() || !self.kept.is_empty()
    }

    /// How many of the runs have no name because their folder's cannot be one.
    pub fn nameless(&self) -> u64 {
        self.runs.iter().filter(|run| run.name.is_none()).count() as u64
    }
}
