//! capture: takes a snapshot of a run's files and records the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::current_tree::{Wanted, files_of_newest, take_current};
use super::tree_state::{self, TreeState};
use super::{git_commit, run_folder};
use crate::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
use crate::progress::Progress;
use crate::run_record::{LeftOut, RunFolder, RunRecord, RunStart, StatusOf, TrackedBy, check_label, check_name, now};
use crate::store::Store;
use crate::store::location::{project_of, project_root};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_files::{Selection, strategy_yaml};
use crate::tracked_path::TrackedPath;

/// What to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every file below a folder, ignored ones aside.
    Tree(PathBuf),
    /// What a script uses.
    Entry(PathBuf),
}

impl Target {
    /// The root of the project that the target is in: the tree itself, or the nearest folder above the script with a
    /// root marker.
    pub fn root(&self) -> Result<PathBuf> {
        match self {
            Self::Tree(folder) => resolve(folder, Path::is_dir, "a folder"),
            Self::Entry(file) => {
                let file = resolve(file, Path::is_file, "a file")?;
                Ok(project_root(file.parent().unwrap_or(&file)))
            }
        }
    }
}

impl Target {
    /// The resolved path of the script, and what is to be said of it; `None` for a tree.
    fn entry(&self, root: &Path) -> Result<Option<(PathBuf, EntryPoint)>> {
        let Self::Entry(entry) = self else { return Ok(None) };
        let entry = resolve(entry, Path::is_file, "a file")?;
        let tracked = entry.strip_prefix(root).ok().and_then(TrackedPath::from_path);
        let path = tracked.ok_or_else(|| Error::Usage(format!("Its name cannot be stored: {}", entry.display())))?;
        let (kind, found_by) = (EntryPointKind::Script, FoundBy::CommandLine);
        Ok(Some((entry, EntryPoint { path, kind, found_by, confidence: 1.0 })))
    }
}

fn resolve(path: &Path, is_right: fn(&Path) -> bool, what: &str) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|e| Error::io("read", path, e))?;
    if is_right(&resolved) { Ok(resolved) } else { Err(Error::Usage(format!("Not {what}: {}", path.display()))) }
}

/// How to capture it.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// What to capture.
    pub target: Target,
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
    let captured = capture_unless(store, options, None, progress)?;
    captured.map_or_else(|| unreachable!("no snapshot was named"), Ok)
}

/// Captures a run unless it would have a certain snapshot: then nothing is recorded, and there is none.
pub fn capture_unless(
    store: &Store,
    options: &CaptureOptions,
    unwanted: Option<ObjectId>,
    progress: &dyn Progress,
) -> Result<Option<Captured>> {
    check_options(options)?;
    let root = options.target.root()?;
    let store_folder = store.storage().root().canonicalize().unwrap_or_else(|_| store.storage().root().to_owned());
    let project = project_of(&store_folder, &root);
    let mut writer = store.writer()?;
    if let Some(name) = &options.name
        && store.is_name_taken(name)?
    {
        return Err(Error::NameInUse { name: name.clone() });
    }
    let entry = options.target.entry(&root)?;
    let entry_path = entry.as_ref().map(|(path, _)| path.as_path());
    let entry_point = entry.as_ref().map(|(_, entry_point)| entry_point.clone());
    let wanted = Wanted {
        root: &root,
        is_tree: entry.is_none(),
        include_secrets: options.include_secrets,
        select: &|| select(&root, &store_folder, entry.as_ref()),
        older: &|| files_of_newest(store, &project.path),
    };
    let state_path = tree_state::path_in_store(&root, entry_path, options.include_secrets);
    let before = TreeState::load(store, &state_path);
    let kept = before.as_ref().map(TreeState::summary);
    let time = now();
    let current = take_current(&mut writer, &wanted, before, progress)?;
    if unwanted == Some(current.state.snapshot) {
        return Ok(None);
    }
    writer.flush_objects()?;

    let folder = options.run_folder.as_deref().map(std::path::absolute).transpose();
    let folder = folder.map_err(|e| Error::io("find", options.run_folder.clone().unwrap_or_default(), e))?;
    let told = current.start_record(time, project, &options.environment);
    let mut start = RunStart {
        run: options.run.unwrap_or(told.run),
        name: options.name.clone(),
        sweep: options.sweep.clone(),
        new_bytes: writer.new_bytes(),
        packs: writer.new_packs().to_vec(),
        entry_point,
        params: options.params.clone(),
        tags: options.tags.clone(),
        git_commit: git_commit::of_folder(&root),
        host: options.host.clone(),
        ..told
    };
    let mut files_for_folder = None;
    if let Some(folder) = folder {
        let metadata = run_folder::metadata(&start, store.config().store, current.state.entries());
        let path = folder.to_string_lossy().into_owned();
        start.run_folder = Some(RunFolder { path, metadata_hash: Some(run_folder::metadata_hash(&metadata)) });
        files_for_folder = Some((folder, metadata));
    }
    let record = RunRecord::Start(Box::new(start));
    writer.commit(std::slice::from_ref(&record))?;
    let RunRecord::Start(start) = record else { unreachable!("made above") };
    let mut captured = Captured {
        run: start.run,
        name: start.name.clone(),
        snapshot: start.snapshot,
        files: start.files,
        bytes: start.bytes,
        new_bytes: start.new_bytes,
        store: store_folder.clone(),
        entry_point: start.entry_point.clone(),
        tracked_by: start.tracked_by,
        left_out: start.left_out.clone(),
        statuses: start.statuses.clone(),
        warnings: start.warnings.clone(),
        has_problems: current.told.has_problems,
    };
    // From here on the run is safe: what fails now is told, and costs nothing that cannot be made again.
    let mut state = TreeState { recent: writer.take_recent_versions(), ..current.state };
    let new_packs = writer.new_packs().to_vec();
    let journal_has_grown = writer.has_journal_grown();
    if let Some((folder, metadata)) = files_for_folder {
        let manifest = run_folder::Manifest::of(&start, store.config().store).encode();
        if let Err(error) = run_folder::write(&*store.storage().at(&folder), &manifest, &metadata) {
            captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
            captured.has_problems = true;
        }
    }
    // Every so often a capture also merges a few files, so that a store stays small without anybody's help.
    let merged = if new_packs.is_empty() { Ok(()) } else { after_new_packs(store, &new_packs, &mut state) };
    if state.is_worth_keeping(kept.as_ref())
        && let Err(error) = state.save(store, &state_path, &writer.temporary())
    {
        progress.warn(&format!("What was seen of the tree is not kept: {error}"));
    }
    // Its journal may be merged from here on.
    drop(writer);
    if let Err(error) = merged.and_then(|()| store.merge_runs_step()) {
        progress.warn(&format!("The store's files are not merged: {error}"));
    }
    if (!new_packs.is_empty() && store.has_many_packs() || journal_has_grown)
        && let Err(error) = store.update_index(false)
    {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    Ok(Some(captured))
}

/// Notes the packs that a capture has written, and merges some if there are enough.
fn after_new_packs(store: &Store, new: &[String], state: &mut TreeState) -> Result<()> {
    store.catalog().forget_listing();
    state.add_packs(store, new)?;
    state.replace_packs(&store.merge_packs_step()?);
    Ok(())
}

/// Refuses what cannot be recorded.
pub(super) fn check_options(options: &CaptureOptions) -> Result<()> {
    if let Some(name) = &options.name {
        check_name(name)?;
    }
    if let Some(sweep) = &options.sweep {
        check_label("sweep", sweep)?;
    }
    options.tags.iter().try_for_each(|tag| check_label("tag", tag))
}

/// Chooses the files of a tree, or of an entry point.
fn select(root: &Path, store: &Path, entry: Option<&(PathBuf, EntryPoint)>) -> Result<Selection> {
    let Some((entry, entry_point)) = entry else { return Ok(walk(root, root, Some(store), IgnoreRules::Honoured)) };
    let path = &entry_point.path;
    let mut warnings = Vec::new();
    Ok(strategy_yaml::select(root, entry, Some(store), &mut warnings).unwrap_or_else(|| {
        let mut alone = Selection::new(TrackedBy::EntryPointOnly);
        alone.has_problems = !warnings.is_empty();
        alone.warnings = std::mem::take(&mut warnings);
        alone.warnings.push(format!(
            "Only {path} itself is tracked: list the other files of this run in a {} beside it",
            strategy_yaml::FILE_NAME
        ));
        alone.files.insert(path.clone(), entry.clone());
        alone
    }))
}
