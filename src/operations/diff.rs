//! diff: what changed between two runs, or between a run and the working tree.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde_json::Value;
use similar::{Algorithm, ChangeTag, TextDiff};

use super::read_stable::is_executable;
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::run_record::TrackedBy;
use crate::snapshot::Entry;
use crate::store::{Run, Store};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_path::{TrackedPath, name_bytes};

/// Lines around a change.
const CONTEXT_LINES: usize = 3;
/// A file longer than this is said to differ, not shown.
const MAX_TEXT_BYTES: usize = 4 << 20;
/// After this long a diff need not be the shortest any more.
const PATIENCE: Duration = Duration::from_secs(2);

/// How one file changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// Only the new side has it.
    Added,
    /// Only the old side has it.
    Removed,
    /// Both have it, with different content.
    Modified,
    /// Only the executable bit differs, or one side is a link.
    TypeChanged,
}

/// A file that differs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The file.
    #[serde(flatten)]
    pub path: TrackedPath,
    /// How it changed.
    pub kind: ChangeKind,
    /// Lines that only the new side has; 0 where it is not text.
    pub added_lines: u64,
    /// Lines that only the old side has.
    pub removed_lines: u64,
    /// Whether it is not text, or too long to show.
    pub binary: bool,
    /// The hunks of a unified diff, without the file's header.
    pub hunks: String,
}

/// A parameter that differs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ParamChange {
    /// Its name.
    pub name: String,
    /// The old side's value.
    pub old: Option<Value>,
    /// The new side's value.
    pub new: Option<Value>,
}

/// All that differs.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Diff {
    /// Files, by path.
    pub files: Vec<Change>,
    /// Parameters, by name.
    pub params: Vec<ParamChange>,
}

/// One side of a comparison.
struct Side<'a> {
    entries: BTreeMap<TrackedPath, Entry>,
    source: Source<'a>,
}

enum Source<'a> {
    Store(&'a Store),
    Folder(PathBuf),
}

impl Side<'_> {
    fn content(&self, path: &TrackedPath) -> Result<Vec<u8>> {
        match (self.entries.get(path), &self.source) {
            (None, _) => Ok(Vec::new()),
            (Some(Entry::Symlink { target }), _) => Ok([b"-> ", target.as_slice(), b"\n"].concat()),
            (Some(Entry::File { id, bytes, .. }), Source::Store(store)) => store.file(*id, *bytes),
            (Some(Entry::File { .. }), Source::Folder(root)) => {
                let full = path.to_path().map_or_else(|| root.clone(), |path| root.join(path));
                std::fs::read(&full).map_err(|e| Error::io("read", full, e))
            }
        }
    }
}

/// Compares two runs.
pub fn diff_runs(store: &Store, old: &Run, new: &Run) -> Result<Diff> {
    let side = |run: &Run| -> Result<Side<'_>> {
        Ok(Side { entries: store.files_of(run.start.snapshot)?.entries, source: Source::Store(store) })
    };
    let files = changes(&side(old)?, &side(new)?)?;
    let names: BTreeSet<&String> = old.start.params.keys().chain(new.start.params.keys()).collect();
    let change = |name: &String| {
        let (old, new) = (old.start.params.get(name).cloned(), new.start.params.get(name).cloned());
        (old != new).then(|| ParamChange { name: name.clone(), old, new })
    };
    Ok(Diff { files, params: names.into_iter().filter_map(change).collect() })
}

/// Compares a run with what stands in `root` now: the files of the run, and for a run of a whole tree new ones as well.
pub fn diff_working_tree(store: &Store, old: &Run, root: &Path) -> Result<Diff> {
    let root = root.canonicalize().map_err(|e| Error::io("read", root, e))?;
    let old_side = Side { entries: store.files_of(old.start.snapshot)?.entries, source: Source::Store(store) };
    let mut paths: BTreeSet<TrackedPath> = old_side.entries.keys().cloned().collect();
    if old.start.tracked_by == TrackedBy::Tree {
        let store_folder = store.storage().root().canonicalize().ok();
        paths.extend(walk(&root, &root, store_folder.as_deref(), IgnoreRules::Honoured).files.into_keys());
    }
    // What the capture left out is not new.
    paths.retain(|path| old_side.entries.contains_key(path) || !old.start.left_out.iter().any(|l| l.path == *path));
    let mut entries = BTreeMap::new();
    for path in paths {
        let Some(full) = path.to_path().map(|path| root.join(path)) else { continue };
        let entry = match full.symlink_metadata() {
            Ok(metadata) if metadata.is_symlink() => {
                let target = full.read_link().map_err(|e| Error::io("read", &full, e))?;
                Entry::Symlink { target: name_bytes(target.as_os_str()).unwrap_or_default().to_vec() }
            }
            Ok(metadata) if metadata.is_file() => {
                let content = std::fs::read(&full).map_err(|e| Error::io("read", &full, e))?;
                let executable = is_executable(&metadata);
                Entry::File { id: ObjectId::of(&content), bytes: content.len() as u64, executable }
            }
            _ => continue,
        };
        entries.insert(path, entry);
    }
    Ok(Diff { files: changes(&old_side, &Side { entries, source: Source::Folder(root) })?, params: Vec::new() })
}

fn changes(old: &Side<'_>, new: &Side<'_>) -> Result<Vec<Change>> {
    let paths: BTreeSet<&TrackedPath> = old.entries.keys().chain(new.entries.keys()).collect();
    let mut out = Vec::new();
    for path in paths {
        let kind = match (old.entries.get(path), new.entries.get(path)) {
            (a, b) if a == b => continue,
            (None, _) => ChangeKind::Added,
            (_, None) => ChangeKind::Removed,
            (Some(Entry::File { id: a, .. }), Some(Entry::File { id: b, .. })) if a == b => ChangeKind::TypeChanged,
            (Some(Entry::File { .. }), Some(Entry::File { .. })) => ChangeKind::Modified,
            (Some(Entry::Symlink { .. }), Some(Entry::Symlink { .. })) => ChangeKind::Modified,
            _ => ChangeKind::TypeChanged,
        };
        let (before, after) = (old.content(path)?, new.content(path)?);
        let mut change =
            Change { path: path.clone(), kind, added_lines: 0, removed_lines: 0, binary: false, hunks: String::new() };
        match (text(&before), text(&after)) {
            (Some(before), Some(after)) => compare(before, after, &mut change),
            _ => change.binary = true,
        }
        out.push(change);
    }
    Ok(out)
}

fn text(content: &[u8]) -> Option<&str> {
    std::str::from_utf8(content).ok().filter(|text| text.len() <= MAX_TEXT_BYTES && !text.contains('\0'))
}

fn compare(before: &str, after: &str, change: &mut Change) {
    let mut config = TextDiff::configure();
    config.algorithm(Algorithm::Myers).deadline(Instant::now() + PATIENCE);
    let diff = config.diff_lines(before, after);
    for line in diff.iter_all_changes() {
        match line.tag() {
            ChangeTag::Insert => change.added_lines += 1,
            ChangeTag::Delete => change.removed_lines += 1,
            ChangeTag::Equal => {}
        }
    }
    change.hunks = diff.unified_diff().context_radius(CONTEXT_LINES).to_string();
}
