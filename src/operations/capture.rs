//! capture: takes a snapshot of a run's files and records the run.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value};

use super::take_files::Taking;
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

fn resolve(path: &Path, is_right: fn(&Path) -> bool, what: &str) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|e| Error::io("read", path, e))?;
    if is_right(&resolved) { Ok(resolved) } else { Err(Error::Usage(format!("Not {what}: {}", path.display()))) }
}

/// How to capture it.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// What to capture.
    pub target: Target,
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
#[derive(Debug, Clone, PartialEq, Serialize)]
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
    check_options(options)?;
    let root = options.target.root()?;
    let store_folder = store.storage().root().canonicalize().unwrap_or_else(|_| store.storage().root().to_owned());
    let project = project_of(&store_folder, &root);
    let mut writer = store.writer()?;
    let (is_taken, newest) = store.look_before_capture(options.name.as_deref(), &project.path)?;
    if let (true, Some(name)) = (is_taken, &options.name) {
        return Err(Error::NameInUse { name: name.clone() });
    }
    let (selection, entry_point) = select(&root, &store_folder, &options.target)?;
    // The version before this one only makes differences small: when it cannot be read, whole files are stored.
    let base = newest.and_then(|snapshot| store.files_of(snapshot).ok()).unwrap_or_default();
    let time = now();
    let mut taking = Taking::new(selection, &base);
    taking.take_all(&mut writer, store, options.include_secrets, progress)?;
    let snapshot = taking.store_snapshot(&mut writer)?;
    writer.flush_objects()?;

    let folder = options.run_folder.as_deref().map(std::path::absolute).transpose();
    let folder = folder.map_err(|e| Error::io("find", options.run_folder.clone().unwrap_or_default(), e))?;
    let mut start = RunStart {
        name: options.name.clone(),
        sweep: options.sweep.clone(),
        new_bytes: writer.new_bytes(),
        packs: writer.new_packs().to_vec(),
        entry_point,
        params: options.params.clone(),
        tags: options.tags.clone(),
        git_commit: git_commit::of_folder(&root),
        host: options.host.clone(),
        ..taking.start_record(time, snapshot, project, &options.environment)
    };
    let mut files_for_folder = None;
    if let Some(folder) = folder {
        let metadata = run_folder::metadata(&start, store.config().store, &taking.entries);
        let path = folder.to_string_lossy().into_owned();
        start.run_folder = Some(RunFolder { path, metadata_hash: Some(run_folder::metadata_hash(&metadata)) });
        files_for_folder = Some((folder, metadata));
    }
    let record = RunRecord::Start(Box::new(start));
    writer.commit(std::slice::from_ref(&record))?;
    drop(writer);
    let RunRecord::Start(start) = record else { unreachable!("made above") };
    let mut captured = Captured {
        run: start.run,
        name: start.name.clone(),
        snapshot,
        files: start.files,
        bytes: start.bytes,
        new_bytes: start.new_bytes,
        store: store_folder,
        entry_point: start.entry_point.clone(),
        tracked_by: start.tracked_by,
        left_out: start.left_out.clone(),
        statuses: start.statuses.clone(),
        warnings: start.warnings.clone(),
        has_problems: taking.selection.has_problems,
    };
    // From here on the run is safe: what fails now is told, and costs nothing that cannot be made again.
    if let Some((folder, metadata)) = files_for_folder {
        let manifest = run_folder::Manifest::of(&start, store.config().store).encode();
        if let Err(error) = run_folder::write(&*store.storage().at(&folder), &manifest, &metadata) {
            captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
            captured.has_problems = true;
        }
    }
    // Every so often a capture also merges a few files, so that a store stays small without anybody's help.
    let merged = if captured.new_bytes > 0 { store.merge_packs_step() } else { Ok(()) };
    if let Err(error) = merged.and_then(|()| store.merge_runs_step()) {
        progress.warn(&format!("The store's files are not merged: {error}"));
    }
    if let Err(error) = store.update_index(false) {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    Ok(captured)
}

fn check_options(options: &CaptureOptions) -> Result<()> {
    if let Some(name) = &options.name {
        check_name(name)?;
    }
    if let Some(sweep) = &options.sweep {
        check_label("sweep", sweep)?;
    }
    options.tags.iter().try_for_each(|tag| check_label("tag", tag))
}

/// Chooses the files of a target.
fn select(root: &Path, store: &Path, target: &Target) -> Result<(Selection, Option<EntryPoint>)> {
    let entry = match target {
        Target::Tree(_) => return Ok((walk(root, root, Some(store), IgnoreRules::Honoured), None)),
        Target::Entry(entry) => resolve(entry, Path::is_file, "a file")?,
    };
    let tracked = entry.strip_prefix(root).ok().and_then(TrackedPath::from_path);
    let path = tracked.ok_or_else(|| Error::Usage(format!("Its name cannot be stored: {}", entry.display())))?;
    let entry_point = EntryPoint {
        path: path.clone(),
        kind: EntryPointKind::Script,
        found_by: FoundBy::CommandLine,
        confidence: 1.0,
    };
    let mut warnings = Vec::new();
    let selection = strategy_yaml::select(root, &entry, Some(store), &mut warnings).unwrap_or_else(|| {
        let mut alone = Selection::new(TrackedBy::EntryPointOnly);
        alone.has_problems = !warnings.is_empty();
        alone.warnings = std::mem::take(&mut warnings);
        alone.warnings.push(format!(
            "Only {path} itself is tracked: list the other files of this run in a {} beside it",
            strategy_yaml::FILE_NAME
        ));
        alone.files.insert(path, entry.clone());
        alone
    });
    Ok((selection, Some(entry_point)))
}
