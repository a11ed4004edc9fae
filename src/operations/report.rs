//! report: what full copies would take, what the store takes, and what that saves.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use rayon::prelude::*;
use serde::Serialize;
use serde_json::Value;
use walkdir::WalkDir;

use super::run_filter::{Filter, Key};
use super::run_folder::METADATA_PATH;
use super::select;
use crate::error::Result;
use crate::id::ObjectId;
use crate::pack::format::ObjectKind;
use crate::run_record::{WATCHERS_TAG, is_watchers_own};
use crate::snapshot::Entry;
use crate::store::{INDEX_PATH, Runs, Store};
use crate::tracked_files::walk::MANIFEST_PATH;

/// Bytes and files on a disk.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// The lengths of the files.
    pub bytes: u64,
    /// What the file system allocated for them.
    pub allocated_bytes: u64,
    /// How many files.
    pub files: u64,
    /// How many folders.
    pub folders: u64,
}

impl Usage {
    fn add(&mut self, other: Self) {
        self.bytes += other.bytes;
        self.allocated_bytes += other.allocated_bytes;
        self.files += other.files;
        self.folders += other.folders;
    }

    fn of_file(path: &Path) -> Self {
        path.symlink_metadata().map_or_else(|_| Self::default(), |metadata| Self::of(&metadata))
    }

    fn of(metadata: &std::fs::Metadata) -> Self {
        if metadata.is_dir() {
            return Self { allocated_bytes: allocated(metadata), folders: 1, ..Self::default() };
        }
        Self { bytes: metadata.len(), allocated_bytes: allocated(metadata), files: 1, folders: 0 }
    }

    fn inodes(&self) -> u64 {
        self.files + self.folders
    }
}

#[cfg(unix)]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    use std::os::unix::fs::MetadataExt;
    metadata.blocks() * 512
}

#[cfg(not(unix))]
fn allocated(metadata: &std::fs::Metadata) -> u64 {
    metadata.len()
}

/// What full copies of the code of some runs would take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Copies {
    /// How many runs.
    pub runs: u64,
    /// How many different snapshots they have.
    pub snapshots: u64,
    /// The bytes of one copy for each run.
    pub logical_bytes: u64,
    /// The files and links in those copies.
    pub logical_files: u64,
    /// The folders in those copies.
    pub logical_folders: u64,
}

/// The runs of one sweep.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct SweepReport {
    /// The sweep, absent for runs outside of any.
    pub sweep: Option<String>,
    /// What copies of them would take.
    #[serde(flatten)]
    pub copies: Copies,
    /// The bytes of packs that their snapshots refer to. Content that sweeps share counts for each of them.
    pub content_bytes: u64,
    /// The manifests and metadata files in their folders.
    pub run_folders: Usage,
    /// How much less that is than the copies, in percent.
    pub reduction_percent: f64,
}

/// What a store saves.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Report {
    /// What copies of all runs would take, watchers' own aside.
    #[serde(flatten)]
    pub copies: Copies,
    /// The packs.
    pub packs: Usage,
    /// The index.
    pub index: Usage,
    /// The journals and segments.
    pub journals: Usage,
    /// Everything else in the store's folder, and its folders.
    pub other: Usage,
    /// The manifests and metadata files in the runs' folders.
    pub run_folders: Usage,
    /// All of these together.
    pub stored: Usage,
    /// How many files fewer than in the copies.
    pub files_saved: i64,
    /// How many inodes (files and folders) fewer than in the copies.
    pub inodes_saved: i64,
    /// How much less is stored than the copies have, in percent of bytes.
    pub reduction_percent: f64,
    /// Sweep by sweep, the runs outside of any first.
    pub sweeps: Vec<SweepReport>,
    /// Snapshots that could not be read, which makes the figures too small.
    pub problems: Vec<String>,
}

impl Report {
    /// What the stored bytes consist of, by name.
    pub fn parts(&self) -> [(&'static str, Usage); 5] {
        [
            ("packs", self.packs),
            ("index", self.index),
            ("journals", self.journals),
            ("other", self.other),
            ("run folders", self.run_folders),
        ]
    }
}

/// One snapshot's part in the figures.
struct SnapshotFacts {
    folders: u64,
    objects: Vec<(ObjectKind, ObjectId)>,
}

/// The runs of one sweep and snapshot.
#[derive(Default)]
struct Group {
    runs: u64,
    bytes: u64,
    files: u64,
    run_folders: Usage,
}

type Groups = BTreeMap<(Option<String>, String), Group>;

/// Sums up the runs by sweep and snapshot. Without what watchers keep on their own account: nobody would have made a copy
/// each time that a file was saved, so those would be savings that nobody has.
fn groups(runs: &Runs, sweep: Option<&str>) -> Groups {
    let filter = Filter::of(None, sweep);
    let keys = ["sweep", "snapshot", "bytes", "files"].map(Key::field);
    let keys = [keys.as_slice(), &[Key::run_folder(), Key::first_tags()]].concat();
    let watchers_tags = Value::from([WATCHERS_TAG]);
    let of_span = |span: usize| {
        // Neighbours mostly belong together: their texts are compared, not looked up.
        let mut groups: Vec<((Option<String>, String), Group)> = Vec::new();
        let mut last = 0;
        select::each(runs, span, &filter, &keys, |row, values| {
            let [sweep, snapshot, bytes, files, folder, tags] = values else { return };
            let is_named = || runs.run(row).is_some_and(|run| !is_watchers_own(&run.start));
            if tags.as_deref() == Some(&watchers_tags) && !is_named() {
                return;
            }
            let text = |value: &'_ Option<Cow<'_, Value>>| value.as_deref().and_then(Value::as_str).map(str::to_owned);
            let is = |((a, b), _): &((Option<String>, String), Group)| {
                sweep.as_deref().and_then(Value::as_str) == a.as_deref()
                    && snapshot.as_deref().and_then(Value::as_str) == Some(b)
            };
            if !groups.get(last).is_some_and(is) {
                last = groups.iter().position(is).unwrap_or(groups.len());
            }
            if last == groups.len() {
                groups.push(((text(sweep), text(snapshot).unwrap_or_default()), Group::default()));
            }
            let Some((_, group)) = groups.get_mut(last) else { return };
            let number = |value: &Option<Cow<'_, Value>>| value.as_deref().and_then(Value::as_u64).unwrap_or_default();
            group.runs += 1;
            group.bytes += number(bytes);
            group.files += number(files);
            if let Some(folder) = folder.as_deref().and_then(Value::as_str) {
                for path in [MANIFEST_PATH, METADATA_PATH] {
                    group.run_folders.add(Usage::of_file(&Path::new(folder).join(path)));
                }
            }
        });
        Groups::from_iter(groups)
    };
    (0..runs.spans()).into_par_iter().map(of_span).reduce(Groups::new, |mut all, some| {
        for (key, group) in some {
            let sum = all.entry(key).or_default();
            sum.runs += group.runs;
            sum.bytes += group.bytes;
            sum.files += group.files;
            sum.run_folders.add(group.run_folders);
        }
        all
    })
}

/// Reports on the runs of a sweep, or on all; the store's own figures are always the whole store's.
pub fn report(store: &Store, runs: &Runs, sweep: Option<&str>) -> Result<Report> {
    let mut report = Report::default();
    let mut facts: HashMap<ObjectId, SnapshotFacts> = HashMap::new();
    let mut by_sweep: BTreeMap<Option<String>, Vec<(ObjectId, Group)>> = BTreeMap::new();
    for ((label, snapshot), group) in groups(runs, sweep) {
        let Ok(snapshot) = snapshot.parse() else { continue };
        facts.entry(snapshot).or_insert_with(|| snapshot_facts(store, snapshot, &mut report.problems));
        by_sweep.entry(label).or_default().push((snapshot, group));
    }
    let mut all = HashSet::new();
    for (label, groups) in by_sweep {
        let mut one = SweepReport { sweep: label, ..SweepReport::default() };
        let mut snapshots = HashSet::new();
        for (snapshot, group) in &groups {
            one.copies.runs += group.runs;
            one.copies.logical_bytes += group.bytes;
            one.copies.logical_files += group.files;
            one.copies.logical_folders += group.runs * facts.get(snapshot).map_or(0, |facts| facts.folders);
            one.run_folders.add(group.run_folders);
            snapshots.insert(*snapshot);
        }
        one.copies.snapshots = snapshots.len() as u64;
        one.content_bytes = content_bytes(store, snapshots.iter().filter_map(|snapshot| facts.get(snapshot)));
        one.reduction_percent = reduction(one.content_bytes + one.run_folders.bytes, one.copies.logical_bytes);
        let total = &mut report.copies;
        total.runs += one.copies.runs;
        total.logical_bytes += one.copies.logical_bytes;
        total.logical_files += one.copies.logical_files;
        total.logical_folders += one.copies.logical_folders;
        report.run_folders.add(one.run_folders);
        all.extend(snapshots);
        report.sweeps.push(one);
    }
    report.copies.snapshots = all.len() as u64;
    measure_store(store, &mut report);
    for (_, part) in report.parts() {
        report.stored.add(part);
    }
    report.files_saved = report.copies.logical_files.cast_signed() - report.stored.files.cast_signed();
    let inodes = report.copies.logical_files + report.copies.logical_folders;
    report.inodes_saved = inodes.cast_signed() - report.stored.inodes().cast_signed();
    report.reduction_percent = reduction(report.stored.bytes, report.copies.logical_bytes);
    Ok(report)
}

fn reduction(stored: u64, logical: u64) -> f64 {
    if logical == 0 { 0.0 } else { 100.0 * (1.0 - stored as f64 / logical as f64) }
}

fn measure_store(store: &Store, report: &mut Report) {
    let root = store.storage().root();
    for entry in WalkDir::new(root).into_iter().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        let path = entry.path().strip_prefix(root).unwrap_or(entry.path());
        let part = match path.components().next() {
            _ if metadata.is_dir() => &mut report.other,
            Some(first) if first.as_os_str() == crate::store::PACKS => &mut report.packs,
            Some(first) if first.as_os_str() == crate::store::slot::JOURNALS => &mut report.journals,
            _ if path.to_string_lossy().starts_with(INDEX_PATH) => &mut report.index,
            _ => &mut report.other,
        };
        part.add(Usage::of(&metadata));
    }
}

fn snapshot_facts(store: &Store, snapshot: ObjectId, problems: &mut Vec<String>) -> SnapshotFacts {
    let mut objects = vec![(ObjectKind::Snapshot, snapshot)];
    let files = match store.readable_files_of(snapshot, |error| problems.push(error.to_string())) {
        Ok(files) => files,
        Err(error) => {
            problems.push(error.to_string());
            return SnapshotFacts { folders: 0, objects };
        }
    };
    objects.extend(files.trees.values().map(|id| (ObjectKind::Tree, *id)));
    for entry in files.entries.values() {
        let Entry::File { id, bytes, .. } = entry else { continue };
        match store.chunks_of(*id, *bytes) {
            Ok(chunks) => {
                if chunks.len() > 1 {
                    objects.push((ObjectKind::ChunkList, *id));
                }
                objects.extend(chunks.iter().map(|chunk| (ObjectKind::Chunk, chunk.id)));
            }
            Err(error) => problems.push(error.to_string()),
        }
    }
    SnapshotFacts { folders: files.trees.len() as u64, objects }
}

/// The bytes that some snapshots have in packs, each object once: of a frame that holds several, its share by length.
fn content_bytes<'f>(store: &Store, facts: impl Iterator<Item = &'f SnapshotFacts>) -> u64 {
    let objects: HashSet<(ObjectKind, ObjectId)> = facts.flat_map(|facts| facts.objects.iter().copied()).collect();
    let share = |(kind, id): &(ObjectKind, ObjectId)| {
        let places = store.catalog().places(*kind, *id);
        let place = places.first()?;
        let (frame, object) = (place.frame()?, place.object()?);
        Some(frame.stored_bytes as f64 * object.bytes as f64 / frame.raw_bytes.max(1) as f64)
    };
    objects.iter().filter_map(share).sum::<f64>().round() as u64
}
