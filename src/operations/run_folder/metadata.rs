//! `metadata/backtest_metadata.json`: what was captured and how, with the fields that rustybt writes.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::json::{Content, to_json};
use crate::id::{ObjectId, RunId, StoreId};
use crate::run_record::{DataFile, FileStatus, LeftOut, RunStart, TrackedBy};
use crate::snapshot::Entry;
use crate::text_or_base64::text_or_base64;
use crate::tracked_path::TrackedPath;

/// Where a run's folder has its metadata file.
pub const METADATA_PATH: &str = "metadata/backtest_metadata.json";

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
    file_status: FileStatus,
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

/// An entry of `files` in the metadata file: of the file at the same place in `captured_files`.
#[derive(Serialize, Deserialize)]
struct ListedFile {
    /// The path, as files of older versions have it.
    #[serde(skip_serializing)]
    path: Option<String>,
    /// The path in base64, where it is not UTF-8 and `captured_files` has it with replacements.
    #[serde(skip_serializing_if = "Option::is_none")]
    path_bytes: Option<String>,
    #[serde(flatten)]
    content: Content,
    #[serde(skip_serializing_if = "Option::is_none", skip_deserializing)]
    status: Option<FileStatus>,
}

impl ListedFile {
    /// The file, given the path at its place in `captured_files`.
    fn entry(&self, listed: Option<&String>) -> Option<(TrackedPath, Entry)> {
        let path = match (&self.path_bytes, &self.path) {
            (Some(text), _) => BASE64.decode(text).ok()?,
            (None, path) => path.as_ref().or(listed)?.clone().into_bytes(),
        };
        Some((TrackedPath::from_bytes(path)?, self.content.to_entry()?))
    }
}

/// The files that a metadata file lists, with their ids: by its `captured_files` and, where those give others, by those in
/// `code_capture`, for somebody may have edited either. None where neither fits.
pub fn listed_files(metadata: &[u8]) -> Vec<BTreeMap<TrackedPath, Entry>> {
    #[derive(Deserialize)]
    struct Paths {
        captured_files: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Lists {
        #[serde(flatten)]
        paths: Paths,
        code_capture: Paths,
        files: Vec<ListedFile>,
    }
    let mut all = Vec::new();
    let Ok(Lists { paths, code_capture, files }) = serde_json::from_slice(metadata) else { return all };
    for Paths { captured_files } in [paths, code_capture] {
        let is_of_these = captured_files.len() == files.len();
        let listed = |place: usize| captured_files.get(place).filter(|_| is_of_these);
        let entries = files.iter().enumerate().map(|(place, file)| file.entry(listed(place)));
        all.extend(entries.collect::<Option<BTreeMap<_, _>>>().filter(|entries| !all.contains(entries)));
    }
    all
}

/// The content of `metadata/backtest_metadata.json`, the long part of which other runs share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metadata<'c> {
    pub(super) common: &'c [u8],
    pub(super) own: &'c [u8],
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

/// A list with a line for each file: people see each as a whole, and the list is an eighth shorter.
fn one_a_line(files: &[ListedFile]) -> Box<RawValue> {
    let lines: Vec<String> = files.iter().map(|file| serde_json::to_string(file).unwrap_or_default()).collect();
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
    let text = |path: &TrackedPath| String::from_utf8_lossy(path.as_bytes()).into_owned();
    let listed = |(path, entry): (&TrackedPath, &Entry)| {
        let path_bytes = text_or_base64(path.as_bytes()).err();
        (text(path), ListedFile { path: None, path_bytes, content: entry.into(), status: start.own_status(path) })
    };
    let (captured_files, files): (Vec<String>, Vec<ListedFile>) = files.into_iter().map(listed).unzip();
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
        file_status: start.file_status,
        files: one_a_line(&files),
        left_out: &start.left_out,
        data: &start.data,
    })
}

/// The first 16 hexadecimal digits of a metadata file's hash, as the run record keeps it.
pub fn metadata_hash(metadata: &[u8]) -> String {
    ObjectId::of(metadata).short(16)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn path(bytes: &[u8]) -> TrackedPath {
        TrackedPath::from_bytes(bytes).expect("a path")
    }

    fn files() -> BTreeMap<TrackedPath, Entry> {
        let file = |text: &[u8], executable| Entry::File { id: ObjectId::of(text), bytes: 4, executable };
        BTreeMap::from([
            (path(b"a.py"), file(b"a", false)),
            (path(b"caf\xe9.py"), file(b"b", false)),
            (path(b"caf\xff.py"), file(b"c", false)),
            (path(b"latest.py"), Entry::Symlink { target: b"a.py".to_vec() }),
            (path(b"odd.py"), Entry::Symlink { target: b"caf\xe9.py".to_vec() }),
            (path(b"run.sh"), file(b"d", true)),
        ])
    }

    fn written(files: &BTreeMap<TrackedPath, Entry>) -> Value {
        let start = json!({
            "run": "a".repeat(32), "time": "2026-11-22T10:00:00.000000Z", "snapshot": "cd".repeat(32),
            "files": 6, "bytes": 29, "new_bytes": 0, "project": {"path": ".", "root": "/home/u/p"},
            "tracked_by": "tree", "file_status": "verified",
            "statuses": [{"path": "a.py", "status": "edited"}, {"path": "gone.py", "status": "changing"}],
            "environment": {"runsnap": "0.0.1"},
        });
        let start: RunStart = serde_json::from_value(start).expect("a start record");
        serde_json::from_slice(&metadata(&start, StoreId([0; 16]), files)).expect("JSON")
    }

    fn listed(metadata: &Value) -> Vec<BTreeMap<TrackedPath, Entry>> {
        listed_files(metadata.to_string().as_bytes())
    }

    #[test]
    fn a_metadata_file_tells_of_each_file_what_a_snapshot_knows() {
        let metadata = written(&files());
        assert_eq!(listed(&metadata), [files()]);
        assert_eq!(listed(&written(&BTreeMap::new())), [BTreeMap::new()]);
        assert_eq!(metadata["file_status"], "verified");
        assert_eq!(metadata["files"][0]["status"], "edited");
        let own = metadata["files"].as_array().expect("a list").iter().filter(|file| file.get("status").is_some());
        assert_eq!(own.count(), 1);
    }

    /// Until `file_status`, each entry named its path and its status.
    #[test]
    fn the_older_form_is_read_as_well() {
        let mut older = written(&files());
        older.as_object_mut().expect("an object").remove("file_status");
        let paths = older["captured_files"].as_array().expect("a list").clone();
        for (file, path) in older["files"].as_array_mut().expect("a list").iter_mut().zip(paths) {
            let file = file.as_object_mut().expect("an object");
            file.insert("status".to_owned(), json!("unknown"));
            if !file.contains_key("path_bytes") {
                file.insert("path".to_owned(), path);
            }
        }
        assert_eq!(listed(&older), [files()]);
        for list in ["/captured_files", "/code_capture/captured_files"] {
            *older.pointer_mut(list).expect(list) = json!([]);
        }
        assert_eq!(listed(&older), [files()], "each entry has its path");
    }

    #[test]
    fn a_list_of_paths_that_somebody_edited_leaves_the_other() {
        let whole = written(&files());
        for list in ["/captured_files", "/code_capture/captured_files"] {
            let longer = json!(["new.py", "a.py", "caf1.py", "caf2.py", "latest.py", "odd.py", "run.sh"]);
            let outside = json!(["../a.py", "caf1.py", "caf2.py", "latest.py", "odd.py", "run.sh"]);
            for edited in [json!([]), longer, outside] {
                let mut changed = whole.clone();
                *changed.pointer_mut(list).expect(list) = edited;
                assert_eq!(listed(&changed), [files()], "{list}");
            }
            let mut changed = whole.clone();
            changed.pointer_mut(list).and_then(Value::as_array_mut).expect(list).swap(0, 3);
            assert!(listed(&changed).len() == 2 && listed(&changed).contains(&files()), "{list}");
        }
    }

    #[test]
    fn a_status_that_only_newer_versions_know_is_no_obstacle() {
        let mut newer = written(&files());
        newer["files"][1]["status"] = json!("replayed");
        newer["file_status"] = json!("replayed");
        assert_eq!(listed(&newer), [files()]);
    }

    #[test]
    fn a_list_that_cannot_be_of_a_snapshot_is_none() {
        let whole = written(&files());
        let wrong: [(&str, Value); 6] = [
            ("/captured_files", json!(1)),
            ("/files/0", json!({"bytes": 4})),
            ("/files/0/id", json!("ab")),
            ("/files/1/path_bytes", json!("no base64")),
            ("/files/3", json!({"id": "cd".repeat(32), "bytes": 4, "target": "a.py"})),
            ("/files/4/target_bytes", json!("no base64")),
        ];
        for (pointer, value) in wrong {
            let mut changed = whole.clone();
            *changed.pointer_mut(pointer).expect(pointer) = value;
            assert_eq!(listed(&changed), [], "{pointer}");
        }
        assert_eq!(listed_files(b"{\"captured_files\": ["), []);
    }
}
