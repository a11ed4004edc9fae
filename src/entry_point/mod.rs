//! What was run?

pub mod process;

use serde::{Deserialize, Serialize};

use crate::tracked_path::TrackedPath;

/// The kind of thing that Python was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryPointKind {
    /// A file.
    Script,
}

/// Where the knowledge of the entry point comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// It was named on the command line.
    CommandLine,
    /// The backtest's metadata file, which somebody else wrote, says so.
    Metadata,
}

/// The entry point of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryPoint {
    /// The file, relative to the project's root.
    #[serde(flatten)]
    pub path: TrackedPath,
    /// What it is.
    pub kind: EntryPointKind,
    /// How it was found.
    pub found_by: FoundBy,
    /// 1.0 certain, 0.0 nothing known.
    pub confidence: f64,
}
