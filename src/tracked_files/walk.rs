//! The files below a folder: all but the ignored ones, caches, environments, the store and earlier runs' folders.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use ignore::{DirEntry, WalkBuilder, WalkState};

use super::Selection;
use crate::run_record::{LeftOut, LeftOutReason, TrackedBy};
use crate::tracked_path::TrackedPath;

/// The file whose patterns (in the form of .gitignore) leave files out of snapshots alone.
pub const IGNORE_FILE: &str = ".runsnapignore";
/// The files whose patterns leave files out of snapshots.
pub const IGNORE_FILES: [&str; 2] = [".gitignore", IGNORE_FILE];
/// Names that are never part of a snapshot.
const NEVER: [&str; 3] = [".git", ".runsnap", "__pycache__"];
/// More threads do not list folders more quickly.
const MAX_THREADS: usize = 4;
/// Where a run's folder has its manifest.
pub const MANIFEST_PATH: &str = "metadata/manifest.json";
/// What a manifest says it is.
pub const MANIFEST_FORMAT: &str = "runsnap-manifest";
/// A longer file is no manifest.
pub const MAX_MANIFEST_BYTES: u64 = 4096;

/// Whether files and folders of this name are never part of a snapshot, whatever ignore rules say.
pub fn is_never_tracked(name: &[u8]) -> bool {
    NEVER.iter().any(|never| never.as_bytes() == name)
}

/// Whether .gitignore and .runsnapignore count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IgnoreRules {
    /// They leave files out.
    Honoured,
    /// The files were asked for by name.
    Overruled,
}

/// Chooses the files below `folder` for a snapshot of `root`, which holds it; both absolute and resolved.
///
/// The user's global git settings and .git/info/exclude do not count: equal folders give equal snapshots for everybody.
pub fn walk(root: &Path, folder: &Path, store: Option<&Path>, rules: IgnoreRules) -> Selection {
    let mut selection = Selection::new(TrackedBy::Tree);
    let honoured = rules == IgnoreRules::Honoured;
    let inside_git = root.ancestors().any(|ancestor| ancestor.join(".git").exists());
    let store = store.map(Path::to_owned);
    let start = folder.to_owned();
    let markers = Arc::new(Mutex::new(Vec::new()));
    let found_markers = Arc::clone(&markers);
    let mut builder = WalkBuilder::new(folder);
    builder
        .standard_filters(false)
        .hidden(false)
        .git_ignore(honoured)
        .require_git(false)
        // Ignore files above the folder count as far as git looks for them: up to the top of its work tree.
        .parents(honoured && inside_git)
        .follow_links(false)
        .threads(std::thread::available_parallelism().map_or(1, |cores| cores.get().min(MAX_THREADS)))
        .filter_entry(move |entry| match left_out_by(entry, &start, store.as_deref()) {
            None => true,
            Some(marker) => {
                found_markers.lock().unwrap_or_else(PoisonError::into_inner).extend(marker);
                false
            }
        });
    if honoured {
        builder.add_custom_ignore_filename(IGNORE_FILE);
    }
    let (send, parts) = std::sync::mpsc::channel();
    builder.build_parallel().run(|| {
        let mut part = Part { selection: Selection::new(TrackedBy::Tree), send: send.clone() };
        Box::new(move |entry| {
            part.take(root, folder, entry);
            WalkState::Continue
        })
    });
    drop(send);
    for part in parts {
        selection.files.extend(part.files);
        selection.left_out.extend(part.left_out);
        selection.warnings.extend(part.warnings);
        selection.folders.extend(part.folders);
        selection.has_problems |= part.has_problems;
    }
    // Which thread found what is chance.
    selection.left_out.sort();
    selection.warnings.sort();
    selection.folders.sort();
    selection.conditions = std::mem::take(&mut markers.lock().unwrap_or_else(PoisonError::into_inner));
    selection
}

/// What one thread finds; handed over when the thread is done.
struct Part {
    selection: Selection,
    send: Sender<Selection>,
}

impl Part {
    fn take(&mut self, root: &Path, folder: &Path, entry: Result<DirEntry, ignore::Error>) {
        let selection = &mut self.selection;
        match entry {
            Ok(entry) => {
                if let Some(error) = entry.error() {
                    selection.warnings.push(format!("Ignore rules: {error}"));
                }
                take(selection, root, &entry);
            }
            Err(error) => match error_path(&error).and_then(|path| relative(root, &path)) {
                Some(path) => selection.left_out.push(LeftOut {
                    path,
                    reason: LeftOutReason::Unreadable,
                    detail: Some(error.io_error().map_or_else(|| error.to_string(), plain)),
                }),
                None => selection.problem(format!("Cannot walk {}: {error}", folder.display())),
            },
        }
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let found = std::mem::replace(&mut self.selection, Selection::new(TrackedBy::Tree));
        // Whoever waits for it is there until all threads are done.
        let _ = self.send.send(found);
    }
}

fn plain(error: &std::io::Error) -> String {
    error.kind().to_string()
}

fn take(selection: &mut Selection, root: &Path, entry: &DirEntry) {
    let Some(kind) = entry.file_type() else { return };
    if kind.is_dir() {
        selection.folders.push(entry.path().to_owned());
        return;
    }
    let Some(path) = relative(root, entry.path()) else {
        selection.problem(format!("Left out, its name cannot be stored: {}", entry.path().display()));
        return;
    };
    if kind.is_file() || kind.is_symlink() {
        selection.files.insert(path, entry.path().to_owned());
    } else {
        selection.left_out.push(LeftOut { path, reason: LeftOutReason::SpecialFile, detail: None });
    }
}

fn relative(root: &Path, path: &Path) -> Option<TrackedPath> {
    path.strip_prefix(root).ok().and_then(TrackedPath::from_path)
}

fn error_path(error: &ignore::Error) -> Option<PathBuf> {
    match error {
        ignore::Error::WithPath { path, .. } => Some(path.clone()),
        ignore::Error::WithDepth { err, .. } | ignore::Error::WithLineNumber { err, .. } => error_path(err),
        ignore::Error::Partial(errors) => errors.iter().find_map(error_path),
        _ => None,
    }
}

/// Whether an entry is no part of a snapshot, and the file in it that says so, if it is one.
fn left_out_by(entry: &DirEntry, start: &Path, store: Option<&Path>) -> Option<Option<PathBuf>> {
    if entry.depth() == 0 {
        return None;
    }
    if is_never_tracked(entry.file_name().as_encoded_bytes()) {
        return Some(None);
    }
    let path = entry.path();
    if !entry.file_type().is_some_and(|kind| kind.is_dir()) {
        return None;
    }
    if store == Some(path) {
        return Some(None);
    }
    marker_in(path, start).map(Some)
}

/// What says that a folder is a virtual environment or the folder of an earlier run.
fn marker_in(path: &Path, start: &Path) -> Option<PathBuf> {
    let environment = path.join("pyvenv.cfg");
    if environment.is_file() {
        return Some(environment);
    }
    let environment = path.join("conda-meta");
    if environment.is_dir() {
        return Some(environment);
    }
    // A capture into the tree's own root leaves its two files in metadata/; they are no part of the code either.
    let is_own = path.parent() == Some(start) && path.file_name() == Some("metadata".as_ref());
    let manifest = if is_own { path.join("manifest.json") } else { path.join(MANIFEST_PATH) };
    if is_manifest(&manifest) {
        return Some(manifest);
    }
    let manifest = path.join(MANIFEST_PATH);
    (is_own && is_manifest(&manifest)).then_some(manifest)
}

/// Whether a file is a manifest of runsnap's.
pub fn is_manifest(path: &Path) -> bool {
    let small = fs::symlink_metadata(path).is_ok_and(|m| m.is_file() && m.len() <= MAX_MANIFEST_BYTES);
    let read = || fs::read(path).ok().and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
    small && read().is_some_and(|json| json.get("format").and_then(|f| f.as_str()) == Some(MANIFEST_FORMAT))
}
