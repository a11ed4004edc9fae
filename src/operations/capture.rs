//! capture: takes a snapshot of a run's files and records the run.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::current_tree::{Now, take_current};
use super::run_folder;
pub use super::target::Target;
use super::target::Tracked;
use super::tree_state::{KeptState, Looked, Summary, TreeLook, TreeState};
use crate::entry_point::EntryPoint;
use crate::error::{Error, Result};
use crate::forked::{self, is_forked};
use crate::id::{ObjectId, RunId};
use crate::pack::PackSummary;
use crate::progress::Progress;
use crate::run_record::{
    DataFile, LeftOut, RunFolder, RunRecord, RunStart, StatusOf, TrackedBy, check_label, check_name, now,
};
use crate::store::{Store, Writer};

/// How to capture it.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// What to capture.
    pub target: Target,
    /// The target's root, where [`Target::root`] has been asked already.
    pub root: Option<PathBuf>,
    /// The id that the run gets, where it has been chosen already.
    pub run: Option<RunId>,
    /// The run's name.
    pub name: Option<String>,
    /// The sweep that it is part of.
    pub sweep: Option<String>,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The folder that gets the manifest and the metadata file.
    pub run_folder: Option<PathBuf>,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
}

impl CaptureOptions {
    /// Captures `target` without a name, sweep or run folder.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            root: None,
            run: None,
            name: None,
            sweep: None,
            params: Map::new(),
            tags: Vec::new(),
            run_folder: None,
            include_secrets: false,
            environment: BTreeMap::new(),
            host: None,
        }
    }
}

/// A captured run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Captured {
    /// The run.
    pub run: RunId,
    /// Its name.
    pub name: Option<String>,
    /// The code.
    pub snapshot: ObjectId,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes of packs this capture wrote: 0 for code that was there already.
    pub new_bytes: u64,
    /// The store.
    pub store: PathBuf,
    /// What was run.
    pub entry_point: Option<EntryPoint>,
    /// How the files were chosen.
    pub tracked_by: TrackedBy,
    /// Files that are not in the snapshot.
    pub left_out: Vec<LeftOut>,
    /// Data files that are named and too long to be in the snapshot.
    #[serde(default)]
    pub data: Vec<DataFile>,
    /// Files whose status is not `unknown`.
    pub statuses: Vec<StatusOf>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// Whether something that was asked for could not be done.
    #[serde(skip)]
    pub has_problems: bool,
}

/// Captures a run: once this returns, it survives a power cut.
pub fn capture(store: &Store, options: &CaptureOptions, progress: &dyn Progress) -> Result<Captured> {
    let capture = || capture_unless(store, options, None, progress);
    let captured = if is_forked() { forked::pool(store.storage().root())?.install(capture)? } else { capture()? };
    captured.map_or_else(|| unreachable!("no snapshot was named"), Ok)
}

/// Captures a run unless it would have a certain snapshot: then nothing is recorded, and there is none.
pub fn capture_unless(
    store: &Store,
    options: &CaptureOptions,
    unwanted: Option<ObjectId>,
    progress: &dyn Progress,
) -> Result<Option<Captured>> {
    check_run(options.name.as_deref(), options.sweep.as_deref(), &options.tags)?;
    let tracked = Tracked::find(store, &options.target, options.root.as_deref(), options.include_secrets)?;
    let (time, nanoseconds) = now();
    let run = options.run.unwrap_or_else(|| RunId::at(nanoseconds));
    let (writer, seen) = begin(store, options.name.as_deref(), &tracked);
    let mut writer = writer?;
    let now = seen.now(&mut writer, &tracked, options.run_folder.is_some(), progress)?;
    if unwanted == Some(now.snapshot()) {
        return Ok(None);
    }
    writer.flush_objects()?;

    let folder = options.run_folder.as_deref().map(std::path::absolute).transpose();
    let folder = folder.map_err(|e| Error::io("find", options.run_folder.clone().unwrap_or_default(), e))?;
    let environment = tracked.environment(&options.environment);
    let told = now.start_record((run, time), tracked.project.clone(), &environment);
    let mut start = RunStart {
        name: options.name.clone(),
        sweep: options.sweep.clone(),
        new_bytes: writer.new_bytes(),
        packs: writer.new_packs(),
        entry_point: tracked.entry_point(),
        params: options.params.clone(),
        tags: options.tags.clone(),
        git_commit: tracked.git_commit(now.structure()),
        host: options.host.clone(),
        ..told
    };
    let mut files_for_folder = None;
    if let (Some(folder), Now::Current(current, _)) = (folder, &now) {
        let metadata = run_folder::metadata(&start, store.config().store, current.state.entries());
        let path = folder.to_string_lossy().into_owned();
        start.run_folder = Some(RunFolder { path, metadata_hash: Some(run_folder::metadata_hash(&metadata)) });
        files_for_folder = Some((folder, metadata));
    }
    let record = RunRecord::Start(Box::new(start));
    writer.commit(std::slice::from_ref(&record))?;
    let RunRecord::Start(start) = record else { unreachable!("made above") };
    if let Some(name) = &start.name {
        writer.note_name(name);
    }
    let mut captured = captured_of(&start, tracked.store_folder.clone(), now.has_problems());
    // From here on the run is safe: what fails now is told, and costs nothing that cannot be made again.
    let (journal_has_grown, is_merge_likely) = (writer.has_journal_grown(), writer.may_have_much_to_merge());
    if let Some((folder, metadata)) = files_for_folder {
        let manifest = run_folder::Manifest::of(&start, store.config().store).encode();
        if let Err(error) =
            run_folder::write(&*store.storage().at(&folder), &manifest, run_folder::Metadata::whole(&metadata))
        {
            captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
            captured.has_problems = true;
        }
    }
    let new_packs = writer.take_new_packs();
    let merged = keep(&mut writer, &new_packs, &tracked, now, progress);
    // Its journal may be merged from here on.
    drop(writer);
    if let Err(error) = merged.and_then(|()| if is_merge_likely { store.merge_runs_step() } else { Ok(()) }) {
        progress.warn(&format!("The store's files are not merged: {error}"));
    }
    if (!new_packs.is_empty() && store.has_many_packs() || journal_has_grown)
        && let Err(error) = store.update_index(false)
    {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    Ok(Some(captured))
}

/// What earlier captures have seen, as far as that is kept.
enum Seen {
    /// Nothing.
    Nothing,
    /// So much of what an entry point uses.
    State(KeptState),
    /// So much of a tree, and how it is now, as far as that can be told by stats.
    Looked(Looked),
}

impl Seen {
    /// The tree as it is now; `wants_files` where each of its files is asked for.
    fn now(
        self,
        writer: &mut Writer<'_>,
        tracked: &Tracked,
        wants_files: bool,
        progress: &dyn Progress,
    ) -> Result<Now> {
        let is_vouched_for = |kept: &KeptState| kept.is_vouched_for(writer).unwrap_or(false);
        match self {
            Self::Looked(looked) if !wants_files && looked.is_as_kept() && is_vouched_for(looked.kept()) => {
                writer.found_durable();
                Ok(Now::AsKept(Box::new(looked.into_kept())))
            }
            seen => {
                let (state, kept, look) = seen.open();
                Ok(Now::Current(Box::new(take_current(writer, tracked, state, look, progress)?), kept))
            }
        }
    }

    /// The state, what it is like as it is kept, and how the tree is now.
    fn open(self) -> (Option<TreeState>, Option<Summary>, Option<TreeLook>) {
        let opened = match self {
            Self::Nothing => None,
            Self::State(kept) => Some(kept.summary()).zip(kept.open()).map(|(before, state)| (state, before, None)),
            Self::Looked(looked) => looked.open().map(|(state, before, look)| (state, before, Some(look))),
        };
        opened.map_or((None, None, None), |(state, before, look)| (Some(state), Some(before), look))
    }
}

/// Takes a writer and sees that the name is free; meanwhile reads what was seen of the tree, and looks at it.
fn begin<'s>(store: &'s Store, name: Option<&str>, tracked: &Tracked) -> (Result<Writer<'s>>, Seen) {
    let take_writer = || {
        let writer = store.writer()?;
        match name {
            Some(name) if store.is_name_taken(name)? => return Err(Error::NameInUse { name: name.to_owned() }),
            _ => {}
        }
        // It is asked for soon. Who cannot list it then is told why.
        let _ = store.catalog().stamps();
        Ok(writer)
    };
    let path = &tracked.state_path;
    if tracked.is_entry() {
        let writer = take_writer();
        return (writer, KeptState::load(store, path).map_or(Seen::Nothing, Seen::State));
    }
    let (looked, writer) = KeptState::load_and_look(store, path, &tracked.root, take_writer);
    (writer, looked.map_or(Seen::Nothing, Seen::Looked))
}

/// Keeps what was seen of the tree, if that is anything new. Every so often a capture also merges a few packs, so that a
/// store stays small without anybody's help; whether that was done where it was due.
fn keep(
    writer: &mut Writer<'_>,
    new_packs: &[PackSummary],
    tracked: &Tracked,
    now: Now,
    progress: &dyn Progress,
) -> Result<()> {
    let Now::Current(current, kept) = now else { return Ok(()) };
    let store = writer.store();
    let mut state = TreeState { recent: writer.take_recent_versions(), ..current.state };
    let merged = if new_packs.is_empty() { Ok(()) } else { after_new_packs(store, new_packs, &mut state) };
    if state.is_worth_keeping(kept.as_ref())
        && let Err(error) = state.save(store, &tracked.state_path, &writer.temporary())
    {
        progress.warn(&format!("What was seen of the tree is not kept: {error}"));
    }
    merged
}

/// Notes the packs that a capture has written, and merges some if there are enough.
pub(super) fn after_new_packs(store: &Store, new: &[PackSummary], state: &mut TreeState) -> Result<()> {
    state.add_packs(&store.catalog().take_written(new)?);
    let merged = store.merge_packs_step()?;
    if !merged.replaced.is_empty() {
        let _ = store.catalog().keep_keys();
    }
    state.replace_packs(&merged);
    Ok(())
}

/// What there is to say of a captured run.
pub(super) fn captured_of(start: &RunStart, store: PathBuf, has_problems: bool) -> Captured {
    Captured {
        run: start.run,
        name: start.name.clone(),
        snapshot: start.snapshot,
        files: start.files,
        bytes: start.bytes,
        new_bytes: start.new_bytes,
        store,
        entry_point: start.entry_point.clone(),
        tracked_by: start.tracked_by,
        left_out: start.left_out.clone(),
        data: start.data.clone(),
        statuses: start.statuses.clone(),
        warnings: start.warnings.clone(),
        has_problems,
    }
}

/// Checks what the user calls a run.
pub(super) fn check_run(name: Option<&str>, sweep: Option<&str>, tags: &[String]) -> Result<()> {
    if let Some(name) = name {
        check_name(name)?;
    }
    if let Some(sweep) = sweep {
        check_label("sweep", sweep)?;
    }
    tags.iter().try_for_each(|tag| check_label("tag", tag))
}
