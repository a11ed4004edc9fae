//! Run records: what a journal says about runs, as JSON that `schema/run-record.schema.json` describes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::entry_point::EntryPoint;
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId};
use crate::tracked_path::TrackedPath;

/// The longest run name, sweep label or tag, in bytes.
pub const MAX_LABEL_BYTES: usize = 128;

/// The only tag of what a watcher captures on its own account.
pub const WATCHERS_TAG: &str = "watch";

/// One record of a journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum RunRecord {
    /// A run was captured.
    Start(Box<RunStart>),
    /// Metrics or tags came later.
    Update(RunUpdate),
    /// A run has ended.
    End(RunEnd),
    /// A run is to be forgotten.
    Forget(RunForget),
}

impl RunRecord {
    /// The run that the record is about.
    pub fn run(&self) -> RunId {
        match self {
            Self::Start(r) => r.run,
            Self::Update(r) => r.run,
            Self::End(r) => r.run,
            Self::Forget(r) => r.run,
        }
    }
}

/// The project that a run belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Project {
    /// The root, relative to the folder that the store is in where it is below that, so that both can move together;
    /// else absolute.
    pub path: String,
    /// The root's absolute path when the run was captured.
    pub root: String,
}

/// A file that belongs to the run but is not in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LeftOut {
    /// The file.
    #[serde(flatten)]
    pub path: TrackedPath,
    /// Why.
    pub reason: LeftOutReason,
    /// The operating system's words, where it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// Why a file is not in the snapshot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LeftOutReason {
    /// The whole file is a secret: `.env`, a private key, a credentials file.
    Secret,
    /// It could not be read.
    Unreadable,
    /// It went away between the walk and the read.
    Vanished,
    /// It is neither a file nor a link: a socket, a pipe, a device.
    SpecialFile,
    /// Its name or its path cannot be stored.
    Name,
}

/// What is known of a file beyond its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FileStatus {
    /// The bytes stored are the bytes that ran.
    Verified,
    /// The file was edited after it was loaded.
    Edited,
    /// Nobody looked at what ran.
    Unknown,
    /// The file changed each time it was read: what is stored may be a mixture of two states.
    Changing,
}

/// A file whose status is not the run's usual one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusOf {
    /// The file.
    #[serde(flatten)]
    pub path: TrackedPath,
    /// Its status.
    pub status: FileStatus,
}

/// The two files in a run's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFolder {
    /// The folder's absolute path when the run was captured.
    pub path: String,
    /// The first 16 hexadecimal digits of the BLAKE3 hash of `metadata/backtest_metadata.json`: as a capture wrote it, or as
    /// an import found it. Absent where an import found none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata_hash: Option<String>,
}

/// How copies of code lie in the folder that was imported.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Layout {
    /// A folder for each run, as rustybt makes them: `code`, `metadata` and `results` in it.
    Rustybt,
    /// A folder for each run, all of it a copy.
    Copies,
}

/// Where an imported run's code was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Imported {
    /// How the copies lay.
    pub layout: Layout,
    /// The absolute path of the folder that was imported.
    pub from: String,
    /// The name of the run's folder in it.
    #[serde(flatten)]
    pub folder: TrackedPath,
}

/// How the tracked files were chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TrackedBy {
    /// A whole folder.
    Tree,
    /// The list in strategy.yaml.
    StrategyYaml,
    /// The entry file alone.
    EntryPointOnly,
    /// What the entry point imports and names, directly and in steps.
    Imports,
}

/// A data file that the run names and that is too long to be in the snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DataFile {
    /// The file.
    #[serde(flatten)]
    pub path: TrackedPath,
    /// Its length.
    pub bytes: u64,
    /// The hash of its content.
    pub id: ObjectId,
}

/// A captured run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunStart {
    /// The run.
    pub run: RunId,
    /// UTC, RFC 3339 with microseconds.
    pub time: String,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The sweep that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sweep: Option<String>,
    /// The code.
    pub snapshot: ObjectId,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes the packs written by this capture have.
    pub new_bytes: u64,
    /// Their names: where the content that came with this run was put first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packs: Vec<String>,
    /// Where it belongs.
    pub project: Project,
    /// What was run, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry_point: Option<EntryPoint>,
    /// How the files were chosen.
    pub tracked_by: TrackedBy,
    /// The status of all files that `statuses` does not list.
    pub file_status: FileStatus,
    /// The exceptions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub statuses: Vec<StatusOf>,
    /// Files that are not in the snapshot.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub left_out: Vec<LeftOut>,
    /// Data files that are not in the snapshot because they are too long.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub data: Vec<DataFile>,
    /// What the user was told.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// Parameters.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub params: Map<String, Value>,
    /// Metrics known at the start.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// Tags.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
    /// Real paths of the outside trees, by label.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outside: BTreeMap<String, String>,
    /// Versions of what ran: `runsnap` always.
    pub environment: BTreeMap<String, String>,
    /// The commit that the project's git work tree stood at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub git_commit: Option<String>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
    /// The run's folder, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_folder: Option<RunFolder>,
    /// Where the code was, where it was imported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub imported: Option<Imported>,
}

impl RunStart {
    /// What is known of a file of the run.
    pub fn status_of(&self, path: &TrackedPath) -> FileStatus {
        self.own_status(path).unwrap_or(self.file_status)
    }

    /// The status of a file that is one of the exceptions.
    pub fn own_status(&self, path: &TrackedPath) -> Option<FileStatus> {
        self.statuses.iter().find(|status| status.path == *path).map(|status| status.status)
    }
}

/// Whether a run is a state that a watcher has kept on its own account, and nobody's backtest.
///
/// It is a run all the same, so that it can be listed, restored, compared and forgotten like any other; and it needs no
/// record of another type, which older readers would not understand. But nobody who asks for the latest run means it.
pub fn is_watchers_own(start: &RunStart) -> bool {
    start.name.is_none() && start.tags == [WATCHERS_TAG]
}

/// Later news of a run. Per field the latest wins, by time, then run, then sequence.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunUpdate {
    /// The run.
    pub run: RunId,
    /// UTC, RFC 3339 with microseconds.
    pub time: String,
    /// Orders the updates that one process made in the same microsecond.
    pub sequence: u64,
    /// Metrics to set.
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metrics: Map<String, Value>,
    /// Tags to add.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tags: Vec<String>,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The run.
    pub run: RunId,
    /// UTC, RFC 3339 with microseconds.
    pub time: String,
    /// Orders records of the same microsecond.
    pub sequence: u64,
    /// The process's exit status, absent where a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit_status: Option<i32>,
}

/// A run that is to be forgotten.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunForget {
    /// The run.
    pub run: RunId,
    /// UTC, RFC 3339 with microseconds.
    pub time: String,
}

/// Checks a run name: 1 to 128 of `A-Z a-z 0-9 . _ -`, no dot first.
pub fn check_name(name: &str) -> Result<()> {
    let valid = (1..=MAX_LABEL_BYTES).contains(&name.len())
        && !name.starts_with('.')
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if valid && !is_reserved(name) {
        return Ok(());
    }
    let rule =
        if valid { "`latest` has a meaning of its own" } else { "use 1 to 128 of A-Z a-z 0-9 . _ -, no dot first" };
    Err(Error::Usage(format!("Not a run name: {name:?} ({rule})")))
}

fn is_reserved(name: &str) -> bool {
    name == "latest"
}

/// Checks a sweep label or tag: 1 to 128 bytes, no control characters.
pub fn check_label(what: &str, label: &str) -> Result<()> {
    if (1..=MAX_LABEL_BYTES).contains(&label.len()) && !label.chars().any(char::is_control) {
        return Ok(());
    }
    Err(Error::Usage(format!("Not a {what}: {label:?} (use 1 to {MAX_LABEL_BYTES} bytes without control characters)")))
}

/// The current time in the form of the records, and as nanoseconds since 1970.
pub fn now() -> (String, u64) {
    let now = jiff::Timestamp::now();
    (time_text(now), u64::try_from(now.as_nanosecond()).unwrap_or(0))
}

/// A time in the form of the records.
pub fn time_text(time: jiff::Timestamp) -> String {
    format!("{time:.6}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "run-1", "A.b_c", &"x".repeat(128), "latest-fit"] {
            assert!(check_name(good).is_ok(), "{good}");
        }
        for bad in ["", ".hidden", "a b", "a/b", "é", &"x".repeat(129), "latest", "a~1", ".."] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
        assert!(check_label("sweep", "grid search é").is_ok());
        assert!(check_label("sweep", "").is_err());
        assert!(check_label("sweep", "a\nb").is_err());
    }

    #[test]
    fn time_has_microseconds() {
        let (text, _) = now();
        assert_eq!(text.len(), "2026-01-01T00:00:00.000000Z".len(), "{text}");
    }
}
