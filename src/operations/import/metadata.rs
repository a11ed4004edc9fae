//! What rustybt's `metadata/backtest_metadata.json` tells of a run. The file itself is never touched.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::run_folder::{METADATA_PATH, metadata_hash};
use crate::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use crate::snapshot::Entry;
use crate::storage::Storage;
use crate::tracked_path::TrackedPath;

/// A longer file is not read as metadata.
const MAX_METADATA_BYTES: u64 = 64 << 20;
/// How sure an entry point is where the file does not say.
const UNSTATED_CONFIDENCE: f64 = 0.5;

/// What the file says, as far as it can be read.
#[derive(Debug, Default)]
pub struct Metadata {
    /// The hash that the run record keeps, where there is a file.
    pub hash: Option<String>,
    /// When the run was captured.
    pub time: Option<jiff::Timestamp>,
    /// Versions of what ran.
    pub environment: BTreeMap<String, String>,
    /// Parameters.
    pub params: Map<String, Value>,
    /// The entry point as the file names it, and how sure that is.
    entry: Option<(String, f64)>,
    /// Why it was not understood.
    pub warning: Option<String>,
}

/// Reads the metadata file in a run's folder.
pub fn read(folder: &dyn Storage) -> Metadata {
    let mut metadata = Metadata::default();
    let bytes = match folder.read(METADATA_PATH, MAX_METADATA_BYTES) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() => return metadata,
        Err(error) => {
            metadata.warning = Some(error.to_string());
            return metadata;
        }
    };
    metadata.hash = Some(metadata_hash(&bytes));
    let json: Value = match serde_json::from_slice(&bytes) {
        Ok(json @ Value::Object(_)) => json,
        _ => {
            metadata.warning = Some(format!("{METADATA_PATH} is not a JSON object: nothing was taken from it"));
            return metadata;
        }
    };
    let text = |pointer: &str| {
        json.pointer(pointer).and_then(Value::as_str).filter(|text| !matches!(*text, "" | "unknown")).map(str::to_owned)
    };
    if let Some(time) = text("/timestamp") {
        metadata.time = parse_time(&time);
        if metadata.time.is_none() {
            metadata.warning = Some(format!("{METADATA_PATH} has a timestamp that is none: {time:?}"));
        }
    }
    for (key, field) in [("framework", "/framework_version"), ("python", "/python_version")] {
        if let Some(version) = text(field) {
            metadata.environment.insert(key.to_owned(), version);
        }
    }
    let params = ["/params", "/parameters"].iter().find_map(|field| json.pointer(field).and_then(Value::as_object));
    metadata.params = params.cloned().unwrap_or_default();
    let confidence = json.pointer("/code_capture/detection_confidence").and_then(Value::as_f64);
    let confidence = confidence.filter(|c| (0.0..=1.0).contains(c)).unwrap_or(UNSTATED_CONFIDENCE);
    let entry = text("/code_capture/entry_point_file").or_else(|| text("/strategy_entry_point"));
    metadata.entry = entry.map(|entry| (entry, confidence));
    metadata
}

/// Reads an ISO time; one without an offset is UTC, as rustybt means it.
fn parse_time(text: &str) -> Option<jiff::Timestamp> {
    let utc = || Some(text.parse::<jiff::civil::DateTime>().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp());
    text.parse::<jiff::Timestamp>().ok().or_else(utc).filter(|time| time.as_nanosecond() >= 0)
}

impl Metadata {
    /// The entry point among the files of the copy: the file whose path is the longest end of the path that was noted,
    /// which is absolute and of another place.
    pub fn entry_point(&self, entries: &BTreeMap<TrackedPath, Entry>) -> Option<EntryPoint> {
        let (noted, confidence) = self.entry.as_ref()?;
        let parts: Vec<&str> = noted.split(['/', '\\']).filter(|part| !matches!(*part, "" | "." | "..")).collect();
        let path = (0..parts.len())
            .filter_map(|from| TrackedPath::from_path(Path::new(&parts.get(from..)?.join("/"))))
            .find(|path| entries.contains_key(path))?;
        Some(EntryPoint {
            path: Some(path),
            kind: EntryPointKind::Script,
            module: None,
            launcher: None,
            found_by: FoundBy::Metadata,
            confidence: *confidence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_unless_they_say_otherwise() {
        let seconds = |text| parse_time(text).map(jiff::Timestamp::as_second);
        for text in
            ["2025-10-18T14:32:11Z", "2025-10-18T14:32:11", "2025-10-18 14:32:11.0", "2025-10-18T16:32:11+02:00"]
        {
            assert_eq!(seconds(text), Some(1_760_797_931), "{text}");
        }
        for bad in ["", "yesterday", "2025-13-01T00:00:00", "1960-01-01T00:00:00Z"] {
            assert_eq!(seconds(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_entry_point_is_the_longest_end_of_its_path() {
        let path = |text: &str| TrackedPath::from_bytes(text).expect("valid");
        let link = Entry::Symlink { target: b"x".to_vec() };
        let entries = BTreeMap::from([(path("a.py"), link.clone()), (path("s/a.py"), link)]);
        let found = |noted: &str| {
            let metadata = Metadata { entry: Some((noted.to_owned(), 1.0)), ..Metadata::default() };
            metadata.entry_point(&entries).and_then(|entry| entry.path).map(|path| path.to_string())
        };
        assert_eq!(found("/home/u/p/s/a.py").as_deref(), Some("s/a.py"));
        assert_eq!(found("C:\\p\\a.py").as_deref(), Some("a.py"));
        assert_eq!(found("/home/u/b.py"), None);
    }
}
