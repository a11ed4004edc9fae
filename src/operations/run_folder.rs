//! The two small files that a run's folder gets in place of a copy of the code.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::Result;
use crate::id::{ObjectId, RunId, StoreId, random_name};
use crate::run_record::{DataFile, FileStatus, LeftOut, RunStart, TrackedBy};
use crate::snapshot::Entry;
use crate::storage::{Storage, write_parts, write_whole};
use crate::tracked_files::walk::{MANIFEST_FORMAT, MANIFEST_PATH};
use crate::tracked_path::TrackedPath;

/// Where a run's folder has its metadata file.
pub const METADATA_PATH: &str = "metadata/backtest_metadata.json";
const MANIFEST_VERSION: u64 = 1;

/// `metadata/manifest.json`, under 1 KiB however large the project: `schema/manifest.schema.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    format: String,
    version: u64,
    /// The run.
    pub run: RunId,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Its sweep.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
    /// Its code.
    pub snapshot: ObjectId,
    /// The store that has it.
    pub store: StoreId,
    /// When it was captured.
    pub time: String,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Manifest {
    /// The manifest of a run.
    pub fn of(start: &RunStart, store: StoreId) -> Self {
        Self {
            format: MANIFEST_FORMAT.to_owned(),
            version: MANIFEST_VERSION,
            run: start.run,
            name: start.name.clone(),
            sweep: start.sweep.clone(),
            snapshot: start.snapshot,
            store,
            time: start.time.clone(),
            files: start.files,
            bytes: start.bytes,
        }
    }

    /// The file's content.
    pub fn encode(&self) -> Vec<u8> {
        to_json(self)
    }

    /// Reads a manifest's content.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice::<Self>(bytes)
            .ok()
            .filter(|m| m.format == MANIFEST_FORMAT && m.version == MANIFEST_VERSION)
    }
}

fn to_json<T: Serialize>(value: &T) -> Vec<u8> {
    // Strings, numbers and lists: nothing that could fail to be written as JSON.
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// What runs of the same files have in common.
#[derive(Serialize)]
struct Common<'a> {
    framework_version: String,
    python_version: &'a str,
    strategy_entry_point: String,
    captured_files: Vec<String>,
    data_bundle_info: Option<()>,
    code_capture: CodeCapture<'a>,
    snapshot: ObjectId,
    store: StoreId,
    files: Box<RawValue>,
    left_out: &'a [LeftOut],
    #[serde(skip_serializing_if = "<[DataFile]>::is_empty")]
    data: &'a [DataFile],
}

/// What is each run's own.
#[derive(Serialize)]
struct Own<'a> {
    backtest_id: String,
    timestamp: &'a str,
    run: RunId,
}

#[derive(Serialize)]
struct CodeCapture<'a> {
    code_capture_mode: &'static str,
    entry_point_file: Option<String>,
    captured_files: Vec<String>,
    total_code_size_bytes: u64,
    detection_method: &'static str,
    detection_confidence: f64,
    detection_warnings: &'a [String],
    execution_context: &'static str,
    fallback_used: bool,
    yaml_config_used: bool,
}

/// A file of a snapshot as JSON shows it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FileLine<'a> {
    /// The file.
    #[serde(flatten)]
    pub path: &'a TrackedPath,
    /// The hash of its content; a link has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<ObjectId>,
    /// Its length.
    pub bytes: u64,
    /// Whether its owner may execute it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub executable: bool,
    /// Where a link leads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Where a link leads, in base64, where that is not UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target_bytes: Option<String>,
    /// What is known beyond the content.
    pub status: FileStatus,
}

/// The files of a run as JSON shows them.
pub fn file_lines<'a>(
    start: &RunStart,
    files: impl IntoIterator<Item = (&'a TrackedPath, &'a Entry)>,
) -> Vec<FileLine<'a>> {
    let status =
        |path: &TrackedPath| start.statuses.iter().find(|s| s.path == *path).map_or(start.file_status, |s| s.status);
    let line = |(path, entry): (&'a TrackedPath, &Entry)| match entry {
        Entry::File { id, bytes, executable } => FileLine {
            path,
            id: Some(*id),
            bytes: *bytes,
            executable: *executable,
            target: None,
            target_bytes: None,
            status: status(path),
        },
        Entry::Symlink { target } => {
            use base64::Engine as _;
            let text = std::str::from_utf8(target).ok().map(str::to_owned);
            let bytes = || base64::engine::general_purpose::STANDARD.encode(target);
            FileLine {
                path,
                id: None,
                bytes: target.len() as u64,
                executable: false,
                target_bytes: if text.is_none() { Some(bytes()) } else { None },
                target: text,
                status: status(path),
            }
        }
    };
    files.into_iter().map(line).collect()
}

/// The content of `metadata/backtest_metadata.json`, the long part of which other runs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata<'c> {
    common: &'c [u8],
    own: &'c [u8],
}

impl<'c> Metadata<'c> {
    /// Content that is at hand as a whole.
    pub fn whole(content: &'c [u8]) -> Self {
        Self { common: content, own: &[] }
    }
}

/// The content of `metadata/backtest_metadata.json`, but for what is each run's own: made once for many runs of the same
/// files, and hashed once.
pub struct CommonMetadata {
    text: Vec<u8>,
    hasher: blake3::Hasher,
}

impl std::fmt::Debug for CommonMetadata {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CommonMetadata({} bytes)", self.text.len())
    }
}

impl CommonMetadata {
    /// Of a run, and of all that have the same files and about which there is the same to say.
    pub fn of<'a>(
        start: &RunStart,
        store: StoreId,
        files: impl IntoIterator<Item = (&'a TrackedPath, &'a Entry)>,
    ) -> Self {
        let mut text = common(start, store, files);
        // The run's own fields come last, so that all before them is hashed once.
        text.truncate(text.len().saturating_sub(b"\n}\n".len()));
        text.extend(b",\n");
        let mut hasher = blake3::Hasher::new();
        hasher.update(&text);
        Self { text, hasher }
    }

    /// What the file ends with for a run, and the file's hash as the run record keeps it.
    pub fn of_run(&self, start: &RunStart) -> (Vec<u8>, String) {
        let backtest_id = start.name.clone().unwrap_or_else(|| start.run.to_string());
        let mut own = to_json(&Own { backtest_id, timestamp: &start.time, run: start.run });
        own.drain(..b"{\n".len());
        let hash = ObjectId(*self.hasher.clone().update(&own).finalize().as_bytes());
        (own, hash.short(16))
    }

    /// The file's content, given what it ends with.
    pub fn with<'c>(&'c self, own: &'c [u8]) -> Metadata<'c> {
        Metadata { common: &self.text, own }
    }
}

/// The content of `metadata/backtest_metadata.json`: rustybt's fields and ours.
pub fn metadata<'a>(
    start: &RunStart,
    store: StoreId,
    files: impl IntoIterator<Item = (&'a TrackedPath, &'a Entry)>,
) -> Vec<u8> {
    let mut common = CommonMetadata::of(start, store, files);
    let (own, _) = common.of_run(start);
    common.text.extend(own);
    common.text
}

/// A list with a line for each file: what people look for stands together, and the file is a fifth shorter.
fn one_a_line(lines: &[FileLine<'_>]) -> Box<RawValue> {
    let lines: Vec<String> = lines.iter().filter_map(|line| serde_json::to_string(line).ok()).collect();
    let list = match lines.as_slice() {
        [] => "[]".to_owned(),
        lines => format!("[\n    {}\n  ]", lines.join(",\n    ")),
    };
    RawValue::from_string(list).unwrap_or_default()
}

fn common<'a>(
    start: &RunStart,
    store: StoreId,
    files: impl IntoIterator<Item = (&'a TrackedPath, &'a Entry)>,
) -> Vec<u8> {
    let lines = file_lines(start, files);
    let captured_files: Vec<String> =
        lines.iter().map(|line| String::from_utf8_lossy(line.path.as_bytes()).into_owned()).collect();
    let text = |path: &TrackedPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
    let entry_point = start.entry_point.as_ref().and_then(|entry| entry.path.as_ref()).map(text);
    let yaml = start.tracked_by == TrackedBy::StrategyYaml;
    to_json(&Common {
        framework_version: start.environment.get("framework").cloned().unwrap_or_else(|| "unknown".to_owned()),
        python_version: start.environment.get("python").map_or("unknown", String::as_str),
        strategy_entry_point: entry_point.clone().unwrap_or_default(),
        data_bundle_info: None,
        code_capture: CodeCapture {
            code_capture_mode: match start.tracked_by {
                TrackedBy::Tree | TrackedBy::Imports => "tracked",
                TrackedBy::StrategyYaml => "yaml",
                TrackedBy::EntryPointOnly => "entry_point",
            },
            entry_point_file: entry_point,
            captured_files: captured_files.clone(),
            total_code_size_bytes: start.bytes,
            detection_method: match (start.tracked_by, &start.entry_point) {
                (TrackedBy::StrategyYaml, _) => "yaml_override",
                (TrackedBy::Imports, Some(_)) => "ast_analysis",
                (_, Some(_)) => "named",
                (_, None) => "not_detected",
            },
            detection_confidence: start.entry_point.as_ref().map_or(0.0, |entry| entry.confidence),
            detection_warnings: &start.warnings,
            execution_context: start.entry_point.as_ref().map_or("unknown", |entry| entry.kind.execution_context()),
            fallback_used: start
                .entry_point
                .as_ref()
                .is_some_and(|entry| entry.confidence > 0.0 && entry.confidence < 0.75),
            yaml_config_used: yaml,
        },
        captured_files,
        snapshot: start.snapshot,
        store,
        files: one_a_line(&lines),
        left_out: &start.left_out,
        data: &start.data,
    })
}

/// The first 16 hexadecimal digits of a metadata file's hash, as the run record keeps it.
pub fn metadata_hash(metadata: &[u8]) -> String {
    ObjectId::of(metadata).short(16)
}

/// Writes both files into a run's folder, each there whole or not at all. They can be made again, so nothing is flushed.
pub fn write(folder: &dyn Storage, manifest: &[u8], metadata: Metadata<'_>) -> Result<()> {
    let random = random_name();
    let metadata = [metadata.common, metadata.own];
    let write = |path: &str, parts: &[&[u8]]| write_parts(folder, &format!("{path}.{random}.tmp"), path, parts, false);
    match write(METADATA_PATH, &metadata) {
        // Who runs many backtests has mostly made it.
        Err(error) if error.is_not_found() => {
            folder.create_folder("metadata")?;
            write(METADATA_PATH, &metadata)?;
        }
        written => written?,
    }
    write(MANIFEST_PATH, &[manifest])
}

/// The files in a run's folder that are the run's manifest, or what was left of it when its writer was killed or the power
/// failed: `manifest.json` and its temporary names, where they hold the manifest or a beginning of it.
pub fn own_manifests(folder: &Path, manifest: &[u8]) -> Vec<PathBuf> {
    let path = folder.join(MANIFEST_PATH);
    let Some(entries) = path.parent().filter(|parent| !parent.is_symlink()).and_then(|p| p.read_dir().ok()) else {
        return Vec::new();
    };
    let is_own = |path: &PathBuf| {
        let name = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let rest = name.strip_prefix("manifest.json");
        let is_temporary = |rest: &str| {
            let random = rest.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp"));
            random.is_some_and(|digits| digits.len() == 16 && digits.bytes().all(|b| b.is_ascii_hexdigit()))
        };
        let is_file = path.symlink_metadata().is_ok_and(|m| m.is_file() && m.len() <= manifest.len() as u64);
        is_file
            && rest.is_some_and(|rest| rest.is_empty() || is_temporary(rest))
            && std::fs::read(path).is_ok_and(|bytes| manifest.starts_with(&bytes))
    };
    entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).filter(is_own).collect()
}

/// What stands where a run's manifest belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ManifestState {
    /// The manifest.
    Whole,
    /// Nothing, or a beginning of the manifest.
    Missing,
    /// Something else.
    Foreign,
}

/// Looks at the manifest in a run's folder.
pub fn manifest_state(folder: &Path, manifest: &[u8]) -> ManifestState {
    let path = folder.join(MANIFEST_PATH);
    if path.parent().is_some_and(Path::is_symlink) {
        return ManifestState::Foreign;
    }
    match path.symlink_metadata() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => ManifestState::Missing,
        Ok(metadata) if metadata.is_file() && metadata.len() <= manifest.len() as u64 => match std::fs::read(&path) {
            Ok(bytes) if bytes == manifest => ManifestState::Whole,
            Ok(bytes) if manifest.starts_with(&bytes) => ManifestState::Missing,
            _ => ManifestState::Foreign,
        },
        _ => ManifestState::Foreign,
    }
}

/// Writes the manifest alone into a run's folder, and removes what killed writers have left of it.
pub fn write_manifest(folder: &dyn Storage, manifest: &[u8]) -> Result<()> {
    folder.create_folder("metadata")?;
    for left in own_manifests(folder.root(), manifest) {
        if let Some(name) = left.file_name().and_then(OsStr::to_str).filter(|name| name.ends_with(".tmp")) {
            folder.remove(&format!("metadata/{name}"))?;
        }
    }
    write_whole(folder, &format!("{MANIFEST_PATH}.{}.tmp", random_name()), MANIFEST_PATH, manifest, false)
}
