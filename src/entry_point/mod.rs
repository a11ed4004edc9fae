//! What was run?

pub mod find;
pub mod process;

use serde::{Deserialize, Serialize};

use crate::tracked_path::TrackedPath;

/// The kind of thing that Python was started with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EntryPointKind {
    /// A file of source.
    Script,
    /// A module, by `-m`.
    Module,
    /// A folder with a `__main__.py` in it.
    Folder,
    /// A zip archive with a `__main__.py` in it.
    Zipapp,
    /// A notebook.
    Notebook,
    /// Bytecode without its source.
    Bytecode,
    /// A command given by `-c`: there is no file.
    Command,
    /// A program that came through standard input: there is no file.
    StandardInput,
    /// Somebody types: there is no file.
    Interactive,
    /// Nobody knows.
    Unknown,
}

impl EntryPointKind {
    /// What rustybt's users know it as: the `execution_context` of `backtest_metadata.json`.
    pub fn execution_context(self) -> &'static str {
        match self {
            Self::Script | Self::Folder | Self::Zipapp | Self::Bytecode | Self::Command | Self::StandardInput => "file",
            Self::Module => "module",
            Self::Notebook => "notebook",
            Self::Interactive => "interactive",
            Self::Unknown => "unknown",
        }
    }
}

/// Where the knowledge of the entry point comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoundBy {
    /// It was named on the command line.
    CommandLine,
    /// A running process was asked for.
    Process,
    /// The backtest's metadata file, which somebody else wrote, says so.
    Metadata,
}

/// The entry point of a run.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EntryPoint {
    /// The file, relative to the project's root; none where the program is in no file, or in one that is installed.
    #[serde(flatten)]
    pub path: Option<TrackedPath>,
    /// What it is.
    pub kind: EntryPointKind,
    /// The module that runs as `__main__`, by its full name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub module: Option<String>,
    /// What was started in order to start it: pytest, a profiler, a debugger.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub launcher: Option<String>,
    /// How it was found.
    pub found_by: FoundBy,
    /// 1.0 certain, 0.0 nothing known.
    pub confidence: f64,
}
