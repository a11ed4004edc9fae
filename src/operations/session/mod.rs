//! A session: one process that captures many runs of one tree.
//!
//! Three things make a run cost microseconds. Whether anything has changed the session learns from the kernel at the moment
//! of the capture ([`tree_watch`](super::tree_watch)), and by stats where notifications cannot be relied on. Records are
//! written at once, so that they survive the end of the process, and flushed together every [`FLUSH_EVERY`] by a thread of
//! the session. And what the store may have deleted or merged meanwhile is looked up once in that time, not for each run.

mod flushing;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::{Map, Value};

pub use self::flushing::FLUSH_EVERY;
use self::flushing::Flushing;
use super::capture::{Captured, after_new_packs, captured_of, check_run};
use super::current_tree::{Current, take_current};
use super::run_folder::{self, CommonMetadata};
use super::target::{Target, Tracked};
use super::tree_state::stamp::Horizon;
use super::tree_state::{TreeLook, TreeState};
use super::tree_watch::{Changes, TreeWatch, Untrusted};
use crate::error::{Error, Result};
use crate::forked::{self, is_forked};
use crate::id::{ObjectId, RandomPool, RunId};
use crate::journal::encode_record;
use crate::run_record::{RunFolder, RunRecord, RunStart, now};
use crate::store::slot::Slot;
use crate::store::{KnownNames, Store};
use crate::tracked_path::TrackedPath;

/// So often files are looked at by their stats even where the kernel tells of changes: there are some that it does not tell.
pub const STATS_EVERY: Duration = Duration::from_secs(1);
/// More conditions than these, as a thousand folders of earlier runs in the tree make, are looked at every [`STATS_EVERY`].
const MAX_CONDITIONS: usize = 64;
/// How often a tree is looked at again that changes while it is being looked at.
const MAX_LOOKS: usize = 3;

/// What a session captures.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// What is captured.
    pub target: Target,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
}

/// One run of a session.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The id that it gets, where that has been chosen already.
    pub run: Option<RunId>,
    /// Its name.
    pub name: Option<String>,
    /// The sweep that it is part of.
    pub sweep: Option<String>,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The folder that gets the manifest and the metadata file.
    pub run_folder: Option<PathBuf>,
}

/// What a session has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Statistics {
    /// The runs captured.
    pub runs: u64,
    /// How often the kernel's word was enough that nothing, or what, had changed.
    pub notified: u64,
    /// How often files were looked at by their stats.
    pub looked_at: u64,
    /// How often something had changed.
    pub changed: u64,
    /// How often records were flushed.
    pub flushes: u64,
    /// How often a fork has made the session begin anew, in the child.
    pub forks: u64,
    /// Why the kernel's word is not relied on, where it is not.
    pub untrusted: Option<String>,
}

/// The kernel's word on the tree.
enum Watch {
    /// Not asked yet, or events were lost.
    None,
    /// Asked, with the folders in the order of their numbers.
    Kernel(TreeWatch, Vec<Option<TrackedPath>>),
    /// Not to be relied on.
    Untrusted,
}

/// Captures runs of one tree, or of one entry point, from one process. See the [module](self).
///
/// A child that was forked from the process goes on with a store handle, a journal, threads and a watch of its own; what the
/// parent has not flushed is the parent's to flush.
pub struct Session {
    store: Arc<Store>,
    options: SessionOptions,
    tracked: Tracked,
    current: Option<Current>,
    watch: Watch,
    looked_at: Instant,
    is_look_due: bool,
    /// Since when what is known of the store is relied on.
    since: Instant,
    git_commit: Option<String>,
    names: Option<KnownNames>,
    /// Of the runs of what is current.
    metadata: Option<CommonMetadata>,
    flushing: Arc<Flushing>,
    thread: Option<JoinHandle<()>>,
    merging: Option<JoinHandle<()>>,
    random: RandomPool,
    /// In a forked child: threads of its own.
    pool: Option<rayon::ThreadPool>,
    process: u32,
    statistics: Statistics,
}

impl Session {
    /// Begins a session. Nothing is captured yet.
    pub fn open(store: Store, options: SessionOptions) -> Result<Self> {
        store.check_writable()?;
        let pool = if is_forked() { Some(forked::pool(store.storage().root())?) } else { None };
        let find = || Tracked::find(&store, &options.target, None, options.include_secrets);
        let tracked = pool.as_ref().map_or_else(find, |pool| pool.install(find))?;
        let environment = tracked.environment(&options.environment);
        let options = SessionOptions { environment, ..options };
        let current = None;
        let now = Instant::now();
        Ok(Self {
            store: Arc::new(store),
            options,
            tracked,
            current,
            watch: Watch::None,
            looked_at: now,
            is_look_due: false,
            since: now,
            git_commit: None,
            names: None,
            metadata: None,
            flushing: Arc::default(),
            thread: None,
            merging: None,
            random: RandomPool::default(),
            pool,
            process: std::process::id(),
            statistics: Statistics::default(),
        })
    }

    /// Captures a run. Once this returns, the run survives the end of the process, and [`FLUSH_EVERY`] later, or after
    /// [`Session::flush`], a power cut.
    ///
    /// # Errors
    ///
    /// Also where an earlier run could not be flushed: that one may be lost in a power cut.
    pub fn capture(&mut self, run: &RunOptions) -> Result<Captured> {
        let captured = self.capture_unless(run, None)?;
        captured.map_or_else(|| unreachable!("no snapshot was named"), Ok)
    }

    /// Captures a run unless it would have a certain snapshot: then nothing is recorded, and there is none.
    pub fn capture_unless(&mut self, run: &RunOptions, unwanted: Option<ObjectId>) -> Result<Option<Captured>> {
        check_run(run.name.as_deref(), run.sweep.as_deref(), &run.tags)?;
        if std::process::id() != self.process {
            self.begin_anew_after_fork()?;
        }
        let flushing = Arc::clone(&self.flushing);
        let mut shared = flushing.shared();
        if let Some(error) = shared.failed.take() {
            return Err(error);
        }
        let mut slot = shared.slot.take();
        let captured = self.capture_in(&mut slot, run, unwanted);
        shared.slot = slot;
        let now = Instant::now();
        shared.last_run = Some(now);
        let Ok(Some(captured)) = captured else {
            drop(shared);
            // The thread gives the slot back.
            flushing.wake.notify_one();
            self.ensure_thread();
            return captured;
        };
        if shared.dirty_since.is_none() {
            shared.dirty_since = Some(now);
            flushing.wake.notify_one();
        }
        drop(shared);
        self.statistics.runs += 1;
        self.ensure_thread();
        Ok(Some(captured))
    }

    fn capture_in(
        &mut self,
        slot: &mut Option<Slot>,
        run: &RunOptions,
        unwanted: Option<ObjectId>,
    ) -> Result<Option<Captured>> {
        let is_due = slot.is_none() || self.current.is_none() || self.since.elapsed() >= FLUSH_EVERY;
        let new_packs =
            if is_due { self.in_pool(|session| session.look_at_store(slot))? } else { self.look_at_tree(slot)? };
        if let (Some(name), Some(names)) = (&run.name, &mut self.names)
            && names.contains(name)
        {
            return Err(Error::NameInUse { name: name.clone() });
        } else if let (Some(name), None) = (&run.name, &self.names) {
            let mut names = KnownNames::default();
            self.in_pool(|session| names.refresh(&session.store))?;
            let is_taken = names.contains(name);
            self.names = Some(names);
            if is_taken {
                return Err(Error::NameInUse { name: name.clone() });
            }
        }
        let no_slot = || Error::io("write to", self.store.storage().root(), std::io::ErrorKind::NotFound.into());
        let (Some(current), Some(slot)) = (&self.current, slot.as_mut()) else { return Err(no_slot()) };
        if unwanted == Some(current.state.snapshot) {
            return Ok(None);
        }
        let (new_bytes, packs) = new_packs;
        let (time, nanoseconds) = now();
        let id = run.run.unwrap_or_else(|| RunId::new(nanoseconds, self.random.take()));
        let told = current.start_record((id, time), self.tracked.project.clone(), &self.options.environment);
        let mut start = RunStart {
            name: run.name.clone(),
            sweep: run.sweep.clone(),
            new_bytes,
            packs,
            entry_point: self.tracked.entry_point(),
            params: run.params.clone(),
            tags: run.tags.clone(),
            git_commit: self.git_commit.clone(),
            host: self.options.host.clone(),
            ..told
        };
        let mut files = None;
        if let Some(folder) = &run.run_folder {
            let folder = std::path::absolute(folder).map_err(|e| Error::io("find", folder, e))?;
            let common = self
                .metadata
                .get_or_insert_with(|| CommonMetadata::of(&start, self.store.config().store, current.state.entries()));
            let (own_metadata, hash) = common.of_run(&start);
            let path = folder.to_string_lossy().into_owned();
            start.run_folder = Some(RunFolder { path, metadata_hash: Some(hash) });
            files = Some((folder, own_metadata));
        }
        let has_problems = current.told.has_problems;
        let record = RunRecord::Start(Box::new(start));
        let payload = encode_record(&record).map_err(|e| Error::Usage(format!("Cannot encode the run record: {e}")))?;
        let store = Arc::clone(&self.store);
        let storage = &**store.storage();
        if slot.is_journal_full() {
            // What is in the old one is flushed before anything goes into the new one.
            slot.flush()?;
            self.merge_beside();
        }
        slot.write(storage, self.store.config().store, &[payload])?;
        if let (Some(name), Some(names)) = (&run.name, &mut self.names) {
            names.add(name);
        }
        let RunRecord::Start(start) = record else { unreachable!("made above") };
        let mut captured = captured_of(&start, self.tracked.store_folder.clone(), has_problems);
        if let (Some((folder, own_metadata)), Some(common)) = (files, &self.metadata) {
            let manifest = run_folder::Manifest::of(&start, self.store.config().store).encode();
            if let Err(error) = run_folder::write(&*storage.at(&folder), &manifest, common.with(&own_metadata)) {
                captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
                captured.has_problems = true;
            }
        }
        Ok(Some(captured))
    }

    /// Has the next capture look at everything by its stats. Of most changes the kernel tells at once; rules above the
    /// project's root, and what decides that a folder is left out, are looked at every [`FLUSH_EVERY`], and writes through a
    /// memory map every [`STATS_EVERY`], unless this is called.
    pub fn look_again(&mut self) {
        self.watch = match self.watch {
            Watch::Untrusted => Watch::Untrusted,
            _ => Watch::None,
        };
        self.is_look_due = true;
    }

    /// Flushes every run captured so far: they survive a power cut once this returns.
    pub fn flush(&mut self) -> Result<()> {
        if std::process::id() != self.process {
            return Ok(());
        }
        self.flushing.flush(&self.store, &mut None)?;
        self.flushing.shared().failed.take().map_or(Ok(()), Err)
    }

    /// What it has done so far.
    pub fn statistics(&self) -> Statistics {
        if std::process::id() != self.process {
            // Forked, and nothing done yet: what is here is the parent's.
            return Statistics::default();
        }
        let flushes = self.flushing.shared().flushes;
        Statistics { flushes, ..self.statistics.clone() }
    }

    /// Becomes a new writer and looks at everything by stats where the store has changed; what was written for it.
    fn look_at_store(&mut self, slot: &mut Option<Slot>) -> Result<(u64, Vec<String>)> {
        let storage = &**self.store.storage();
        let mut taken = match slot.take() {
            Some(mut slot) => {
                slot.renew()?;
                slot
            }
            None => Slot::take(storage)?,
        };
        self.since = Instant::now();
        self.git_commit = self.tracked.git_commit(None);
        let store = Arc::clone(&self.store);
        let writer = store.writer_in(taken)?;
        let is_vouched_for = match &self.current {
            Some(current) => current.state.is_vouched_for(&writer)?,
            None => false,
        };
        taken = writer.into_slot();
        *slot = Some(taken);
        if let Some(names) = &mut self.names {
            names.refresh(&self.store)?;
        }
        if let (Some(current), false) = (&self.current, self.is_look_due) {
            self.is_look_due = !current.state.do_conditions_hold(MAX_CONDITIONS);
        }
        if is_vouched_for { self.look_at_tree(slot) } else { self.take(slot, None) }
    }

    /// Finds out what has changed and stores it; what was written for it.
    fn look_at_tree(&mut self, slot: &mut Option<Slot>) -> Result<(u64, Vec<String>)> {
        let is_stats_due = std::mem::take(&mut self.is_look_due) || self.looked_at.elapsed() >= STATS_EVERY;
        let Some(current) = &mut self.current else { return self.take(slot, None) };
        let root = &self.tracked.root;
        let look = match &mut self.watch {
            Watch::Kernel(watch, folders) => match watch.take() {
                Changes::None if !is_stats_due => {
                    self.statistics.notified += 1;
                    return Ok((0, Vec::new()));
                }
                Changes::Files(changed) if !is_stats_due => {
                    self.statistics.notified += 1;
                    let changed = changed.iter().map(|one| (folders.get(one.folder), one.name.as_slice()));
                    current.state.look_at(root, changed, Horizon::now(root))
                }
                Changes::All => {
                    self.watch = Watch::None;
                    return self.take(slot, None);
                }
                _ => {
                    self.statistics.looked_at += 1;
                    self.looked_at = Instant::now();
                    current.state.look(root, Horizon::now(root))
                }
            },
            Watch::None | Watch::Untrusted => return self.take(slot, None),
        };
        match look {
            TreeLook::Same(changed) if changed.is_empty() => Ok((0, Vec::new())),
            other => self.take(slot, Some(other)),
        }
    }

    /// Brings what is known of the tree up to date, and asks the kernel to tell of changes from there on.
    fn take(&mut self, slot: &mut Option<Slot>, look: Option<TreeLook>) -> Result<(u64, Vec<String>)> {
        self.in_pool(|session| session.take_until_still(slot, look))
    }

    fn take_until_still(&mut self, slot: &mut Option<Slot>, mut look: Option<TreeLook>) -> Result<(u64, Vec<String>)> {
        let mut written = (0, Vec::new());
        for _ in 0..MAX_LOOKS {
            // Folders may have come: they are watched before they are looked at again.
            if !matches!(look, Some(TreeLook::Same(_))) {
                self.watch = match self.watch {
                    Watch::Untrusted => Watch::Untrusted,
                    _ => Watch::None,
                };
                self.statistics.looked_at += 1;
                self.looked_at = Instant::now();
            }
            let (bytes, packs) = self.take_once(slot, look.take())?;
            written.0 += bytes;
            written.1.extend(packs);
            if !matches!(self.watch, Watch::None) {
                return Ok(written);
            }
            let watched = self.begin_to_watch();
            match (watched, &mut self.current) {
                (Ok(true), Some(current)) => {
                    let root = &self.tracked.root;
                    match current.state.look(root, Horizon::now(root)) {
                        TreeLook::Same(changed) if changed.is_empty() => return Ok(written),
                        other => look = Some(other),
                    }
                }
                (Ok(_), _) => return Ok(written),
                (Err(why), _) => {
                    self.statistics.untrusted = Some(why.to_string());
                    self.watch = Watch::Untrusted;
                    return Ok(written);
                }
            }
        }
        // It changes all the time: what was captured is what was read, and the next run looks again.
        self.watch = match self.watch {
            Watch::Untrusted => Watch::Untrusted,
            _ => Watch::None,
        };
        Ok(written)
    }

    /// Watches the folders of the tree. `false` where they are not known well enough just now.
    fn begin_to_watch(&mut self) -> std::result::Result<bool, Untrusted> {
        let Some(current) = &self.current else { return Ok(false) };
        if self.tracked.is_entry() {
            return Err(Untrusted::Failed("the files of an entry point are looked at each time".to_owned()));
        }
        let Some(structure) = &current.state.structure else { return Ok(false) };
        let root = &self.tracked.root;
        let mut watch = TreeWatch::new(root)?;
        let mut folders = Vec::new();
        let full = |path: &TrackedPath| path.to_path().map(|path| root.join(path));
        for folder in &structure.folders {
            let Some(full) = folder.path.as_ref().map_or_else(|| Some(root.clone()), full) else { return Ok(false) };
            if !full.is_dir() {
                return Ok(false);
            }
            watch.add_folder(&full)?;
            folders.push(folder.path.clone());
        }
        for path in current.state.linked_files(root) {
            let folder = folders.iter().position(|folder| *folder == path.folder());
            if let (Some(folder), Some(full)) = (folder, full(&path)) {
                watch.add_file(folder, &full)?;
            }
        }
        self.watch = Watch::Kernel(watch, folders);
        Ok(true)
    }

    fn take_once(&mut self, slot: &mut Option<Slot>, look: Option<TreeLook>) -> Result<(u64, Vec<String>)> {
        let store = Arc::clone(&self.store);
        let Some(taken) = slot.take() else { return Ok((0, Vec::new())) };
        let mut writer = store.writer_in(taken)?;
        self.metadata = None;
        let before = match self.current.take() {
            Some(current) => Some(current.state),
            None => TreeState::load(&store, &self.tracked.state_path),
        };
        let snapshot = before.as_ref().map(|state| state.snapshot);
        let current = take_current(&mut writer, &self.tracked, before, look, &())
            .and_then(|current| writer.flush_objects().map(|()| current));
        let (new_bytes, packs, written) = (writer.new_bytes(), writer.new_packs(), writer.take_new_packs());
        let recent = writer.take_recent_versions();
        *slot = Some(writer.into_slot());
        let mut current = current?;
        current.state.recent = recent;
        if !written.is_empty() {
            after_new_packs(&store, &written, &mut current.state)?;
        }
        if snapshot.is_some_and(|before| before != current.state.snapshot) {
            self.statistics.changed += 1;
        }
        if let Watch::Kernel(_, watched) = &self.watch {
            let folders = current.state.structure.iter().flat_map(|structure| &structure.folders);
            if !folders.map(|folder| &folder.path).eq(watched) {
                // It came out while files were read that folders have come or gone.
                self.watch = Watch::None;
            }
        }
        self.current = Some(current);
        Ok((new_bytes, packs))
    }

    /// Merges journals in a thread of its own: captures do not wait for that.
    fn merge_beside(&mut self) {
        if self.merging.as_ref().is_some_and(|merging| !merging.is_finished()) {
            return;
        }
        let store = Arc::clone(&self.store);
        let merge = move || {
            // One core: the other is the captures'. What cannot be merged now is merged another time.
            if let Ok(pool) = rayon::ThreadPoolBuilder::new().num_threads(1).build() {
                let _ = pool.install(|| store.merge_runs_step());
            }
        };
        self.merging = std::thread::Builder::new().name("runsnap merge".to_owned()).spawn(merge).ok();
    }

    fn ensure_thread(&mut self) {
        if self.thread.is_none() {
            let (store, flushing) = (Arc::clone(&self.store), Arc::clone(&self.flushing));
            let run = move || flushing.run(&store);
            self.thread = std::thread::Builder::new().name("runsnap flush".to_owned()).spawn(run).ok();
        }
    }

    /// In a forked child: what belongs to the parent is left alone, without so much as an unlock. A thread of the parent may
    /// have held any lock of the store, and the threads that work is divided among have stayed there.
    fn begin_anew_after_fork(&mut self) -> Result<()> {
        let store = Store::open_in(Arc::clone(self.store.storage()))?;
        store.check_writable()?;
        let pool = forked::pool(store.storage().root())?;
        self.leave_to_parent();
        self.store = Arc::new(store);
        self.pool = Some(pool);
        self.process = std::process::id();
        Ok(())
    }

    fn leave_to_parent(&mut self) {
        // Its index is a connection of the parent's: even to close that is the parent's.
        std::mem::forget(Arc::clone(&self.store));
        std::mem::forget(std::mem::take(&mut self.flushing));
        // To close what the kernel tells the parent by takes nothing from it.
        self.watch = Watch::None;
        std::mem::forget((self.thread.take(), self.merging.take(), self.pool.take()));
        self.statistics = Statistics { forks: self.statistics.forks + 1, ..Statistics::default() };
        self.random = RandomPool::default();
    }

    /// Does what may be divided among threads.
    fn in_pool<T: Send>(&mut self, work: impl FnOnce(&mut Self) -> T + Send) -> T {
        let Some(pool) = self.pool.take() else { return work(self) };
        let done = pool.install(|| work(self));
        self.pool = Some(pool);
        done
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            self.leave_to_parent();
            return;
        }
        let _ = self.flushing.flush(&self.store, &mut None);
        self.flushing.shared().is_over = true;
        self.flushing.wake.notify_all();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Some(merging) = self.merging.take() {
            let _ = merging.join();
        }
        let slot = self.flushing.shared().slot.take();
        // The next capture of the tree, by whatever process, goes on from here.
        let slot = slot.map_or_else(|| Slot::take(&**self.store.storage()), Ok);
        if let (Some(current), Ok(slot)) = (&mut self.current, slot) {
            // Others may have noted something since it was read: then what is noted after it now would not count.
            current.state.kept = None;
            let _ = current.state.save(&self.store, &self.tracked.state_path, &slot.temporary());
        }
    }
}
