//! Which files belong to a run?

pub mod imports;
pub mod secrets;
pub mod strategy_yaml;
pub mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::run_record::{DataFile, LeftOut, TrackedBy};
use crate::tracked_path::TrackedPath;

/// The files chosen for a run, not read yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Where each file is on this system.
    pub files: BTreeMap<TrackedPath, PathBuf>,
    /// Files that are known to belong to the run but cannot be taken.
    pub left_out: Vec<LeftOut>,
    /// Data files that are named and too long to be taken.
    pub data: Vec<DataFile>,
    /// Folders outside of the project that files are in, by the labels that stand for them.
    pub outside: BTreeMap<String, PathBuf>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// The folders that were walked to find them.
    pub folders: Vec<PathBuf>,
    /// Files outside of these folders, or not tracked, whose presence or content decided what was found.
    pub conditions: Vec<PathBuf>,
    /// How they were chosen.
    pub tracked_by: TrackedBy,
    /// Whether `warnings` has more than remarks: something that was asked for could not be done.
    pub has_problems: bool,
}

impl Selection {
    /// An empty one.
    pub fn new(tracked_by: TrackedBy) -> Self {
        Self {
            files: BTreeMap::new(),
            left_out: Vec::new(),
            data: Vec::new(),
            outside: BTreeMap::new(),
            warnings: Vec::new(),
            folders: Vec::new(),
            conditions: Vec::new(),
            tracked_by,
            has_problems: false,
        }
    }

    /// Adds a warning of something that was asked for and could not be done.
    pub fn problem(&mut self, message: String) {
        self.warnings.push(message);
        self.has_problems = true;
    }
}
