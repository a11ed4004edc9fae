//! Brings what is known of a tree up to what is on the disk, and stores what is new in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Map;

use super::take_files::{Earlier, Taking, left_out_warning};
use super::target::Tracked;
use super::tree_state::stamp::Horizon;
use super::tree_state::{FileState, KeptState, Structure, Summary, Taken, Totals, TreeLook, TreeState, packs_now};
use crate::error::Result;
use crate::id::{ObjectId, RunId};
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::run_record::{DataFile, FileStatus, LeftOut, LeftOutReason, Project, RunStart, StatusOf, TrackedBy};
use crate::snapshot::Snapshot;
use crate::store::{Files, RecentVersions, Writer};
use crate::tracked_files::Selection;

/// What a capture says of a run's files beyond the snapshot itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// How they were chosen.
    pub tracked_by: TrackedBy,
    /// Files that are not in the snapshot.
    pub left_out: Vec<LeftOut>,
    /// Data files that are named and too long to be in it.
    pub data: Vec<DataFile>,
    /// The real paths of the outside trees, by label.
    pub outside: BTreeMap<String, String>,
    /// Files whose status is not the usual one.
    pub statuses: Vec<StatusOf>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// Whether something that was asked for could not be done.
    pub has_problems: bool,
}

/// A tree as it is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Current {
    /// What was seen.
    pub state: TreeState,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// What is to be said of them.
    pub told: Told,
}

/// A tree as it is now, as far as a capture asks.
#[derive(Debug)]
pub enum Now {
    /// It is as it was kept, and there is nothing else to say of it.
    AsKept(Box<KeptState>),
    /// It has been brought up to date; what the state was like as it is kept, if one is.
    Current(Box<Current>, Option<Summary>),
}

impl Now {
    /// The snapshot.
    pub fn snapshot(&self) -> ObjectId {
        match self {
            Self::AsKept(kept) => kept.outline.snapshot,
            Self::Current(current, _) => current.state.snapshot,
        }
    }

    /// As [`Current::start_record`].
    pub fn start_record(
        &self,
        run: (RunId, String),
        project: Project,
        environment: &BTreeMap<String, String>,
    ) -> RunStart {
        match self {
            Self::AsKept(kept) => {
                let Totals { files, bytes, .. } = kept.outline.totals;
                let told = told_by_files(Vec::new());
                start_record(told, (kept.outline.snapshot, files, bytes), run, project, environment)
            }
            Self::Current(current, _) => current.start_record(run, project, environment),
        }
    }

    /// Whether something that was asked for could not be done.
    pub fn has_problems(&self) -> bool {
        matches!(self, Self::Current(current, _) if current.told.has_problems)
    }

    /// Which files these are, if that can be told by stats.
    pub fn structure(&self) -> Option<&Structure> {
        match self {
            Self::AsKept(kept) => kept.outline.structure.as_ref(),
            Self::Current(current, _) => current.state.structure.as_ref(),
        }
    }
}

/// Finds out what has changed since `before`, and hands what is new to `writer`. Nothing is flushed yet.
///
/// `look` is what somebody who has just looked has found.
pub fn take_current(
    writer: &mut Writer<'_>,
    tracked: &Tracked,
    before: Option<TreeState>,
    look: Option<TreeLook>,
    progress: &dyn Progress,
) -> Result<Current> {
    let Some(mut state) = before else { return take_all(writer, tracked, None, false, progress) };
    let is_vouched_for = state.is_vouched_for(writer).unwrap_or(false);
    if is_vouched_for {
        writer.set_recent_versions(std::mem::take(&mut state.recent));
        if !tracked.is_entry() {
            match look.unwrap_or_else(|| state.look(&tracked.root, Horizon::now(&tracked.root))) {
                TreeLook::Same(changed) if changed.is_empty() => {
                    writer.found_durable();
                    return Ok(current(state, told_by_files(Vec::new())));
                }
                TreeLook::Same(changed) => match take_changed(writer, tracked, state, &changed, progress)? {
                    Ok(taken) => return Ok(taken),
                    Err(same) => state = same,
                },
                TreeLook::Walk => {}
            }
        }
    }
    take_all(writer, tracked, Some(state), is_vouched_for, progress)
}

/// What the states of the files, and of the structure, say.
fn told_by_files(statuses: Vec<StatusOf>) -> Told {
    Told {
        tracked_by: TrackedBy::Tree,
        left_out: Vec::new(),
        data: Vec::new(),
        outside: BTreeMap::new(),
        has_problems: !statuses.is_empty(),
        statuses,
        warnings: Vec::new(),
    }
}

/// Puts together what is to be said where the structure is as it was.
fn current(state: TreeState, mut told: Told) -> Current {
    if let Some(structure) = &state.structure {
        told.left_out.extend(structure.left_out.iter().cloned());
        told.warnings.splice(0..0, structure.warnings.iter().cloned());
    }
    for file in &*state.files {
        told.warnings.extend(file.warnings.iter().cloned());
        if file.taken == Taken::Secret {
            let path = file.path.clone();
            told.left_out.push(LeftOut { path, reason: LeftOutReason::Secret, detail: None });
        }
    }
    told.left_out.sort();
    told.warnings.extend(told.left_out.iter().map(left_out_warning));
    told.has_problems |= told.left_out.iter().any(|left_out| left_out.reason != LeftOutReason::Secret);
    counted(state, told)
}

fn counted(state: TreeState, told: Told) -> Current {
    let Totals { files, bytes, .. } = state.totals();
    Current { state, files, bytes, told }
}

/// Reads the files that have changed; gives the state back where it comes out that which files are tracked has changed as
/// well.
fn take_changed(
    writer: &mut Writer<'_>,
    tracked: &Tracked,
    mut state: TreeState,
    changed: &[usize],
    progress: &dyn Progress,
) -> Result<std::result::Result<Current, TreeState>> {
    let mut selection = Selection::new(TrackedBy::Tree);
    for file in changed.iter().filter_map(|place| state.files.get(*place)) {
        let Some(path) = file.path.to_path() else { return Ok(Err(state)) };
        selection.files.insert(file.path.clone(), tracked.root.join(path));
    }
    let mut taking = Taking::new(selection, Earlier::State { state: &state, is_vouched_for: true });
    let store = writer.store();
    taking.take_all(writer, store, tracked.include_secrets, progress)?;
    if taking.selection.left_out.iter().any(|left_out| left_out.reason != LeftOutReason::Secret) {
        return Ok(Err(state));
    }
    let (seen, statuses) = (std::mem::take(&mut taking.seen), std::mem::take(&mut taking.statuses));
    let mut renewed = Vec::new();
    for seen in seen {
        let taken = seen.taken.clone();
        // Only files of the state were read.
        if let Some((place, before)) = state.renew_file(seen)
            && before != taken
        {
            renewed.push(place);
        }
    }
    if renewed.is_empty() {
        writer.found_durable();
    } else {
        let mut snapshot = Snapshot { root: ObjectId::of(&[]), outside: BTreeMap::new() };
        for (tree, older) in state.renew_trees(&renewed) {
            snapshot.root = tree.id;
            writer.add(ObjectKind::Tree, tree.id, tree.bytes, older)?;
        }
        let encoded = snapshot.encode();
        state.snapshot = ObjectId::of(&encoded);
        writer.add(ObjectKind::Snapshot, state.snapshot, encoded, None)?;
    }
    let changing: Vec<String> = statuses.iter().map(|status| changing_warning(&status.path.to_string())).collect();
    let mut told = told_by_files(statuses);
    told.warnings = changing;
    Ok(Ok(current(state, told)))
}

/// What the user is told of a file that would not hold still.
pub fn changing_warning(path: &str) -> String {
    format!("{path} changed each time it was read: what is stored may mix two states")
}

impl Current {
    /// The record of a run with these files, and with nothing beyond them but what is given.
    ///
    /// Where its content was put is known only once the writer has flushed it.
    pub fn start_record(
        &self,
        run: (RunId, String),
        project: Project,
        environment: &BTreeMap<String, String>,
    ) -> RunStart {
        let told = self.told.clone();
        start_record(told, (self.state.snapshot, self.files, self.bytes), run, project, environment)
    }
}

/// The record of a run with a snapshot of so many files and bytes, and with nothing beyond them but what is given.
pub fn start_record(
    told: Told,
    (snapshot, files, bytes): (ObjectId, u64, u64),
    (run, time): (RunId, String),
    project: Project,
    environment: &BTreeMap<String, String>,
) -> RunStart {
    // What ran, and always the runsnap that stored it.
    let mut environment = environment.clone();
    environment.entry("runsnap".to_owned()).or_insert_with(|| env!("CARGO_PKG_VERSION").to_owned());
    RunStart {
        run,
        time,
        name: None,
        sweep: None,
        snapshot,
        files,
        bytes,
        new_bytes: 0,
        packs: Vec::new(),
        project,
        entry_point: None,
        tracked_by: told.tracked_by,
        file_status: FileStatus::Unknown,
        statuses: told.statuses,
        left_out: told.left_out,
        data: told.data,
        warnings: told.warnings,
        params: Map::new(),
        metrics: Map::new(),
        tags: Vec::new(),
        outside: told.outside,
        environment,
        git_commit: None,
        host: None,
        run_folder: None,
        imported: None,
    }
}

/// Finds the files anew, and reads all of which nothing is known.
fn take_all(
    writer: &mut Writer<'_>,
    tracked: &Tracked,
    before: Option<TreeState>,
    is_vouched_for: bool,
    progress: &dyn Progress,
) -> Result<Current> {
    let horizon = Horizon::now(&tracked.root);
    let selection = tracked.select();
    let structure = if tracked.is_entry() { None } else { Structure::after_walk(&tracked.root, &selection, horizon) };
    let generation = writer.generation()?;
    // Trees are found by their folders where the state knows these; else by the files of an older version. To look for that may
    // take long where many captures have just been recorded: their records are read.
    let older = if before.is_some() { Files::default() } else { tracked.files_of_newest(writer.store()) };
    let earlier = match &before {
        Some(state) => Earlier::State { state, is_vouched_for },
        None => Earlier::Files(&older),
    };
    let store = writer.store();
    let mut taking = Taking::new(selection, earlier);
    taking.take_all(writer, store, tracked.include_secrets, progress)?;
    // No stamp is kept of what could not be read. It is looked for again, and told of again, until it can be.
    let structure = structure.filter(|structure| {
        let is_told = |l: &LeftOut| l.reason == LeftOutReason::Secret || structure.left_out.contains(l);
        taking.selection.left_out.iter().all(is_told)
    });
    let is_same = |state: &&TreeState| is_vouched_for && state.entries().eq(taking.entries.iter());
    let (snapshot, mut trees) = match before.as_ref().filter(is_same) {
        Some(state) => {
            writer.found_durable();
            (state.snapshot, state.trees.clone())
        }
        None => taking.store_snapshot(writer)?,
    };
    trees.sort();
    let mut files: Vec<FileState> = std::mem::take(&mut taking.seen);
    files.sort_by(|a, b| a.path.cmp(&b.path));
    let packs = match &before {
        Some(before) if is_vouched_for => before.packs.clone(),
        // All that was found is in one of these, and they have durable names once the writer has flushed.
        _ => packs_now(store)?,
    };
    let recent = RecentVersions::default();
    let files = Arc::new(files);
    let state = TreeState { generation, packs, snapshot, files, trees, structure, recent, kept: None };
    Ok(counted(state, taking.told()))
}
