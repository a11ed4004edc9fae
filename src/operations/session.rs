//! Captures of many runs of one tree.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::{Map, Value};

use super::capture::{CaptureOptions, Captured, Target, capture_unless};
use crate::error::Result;
use crate::id::{ObjectId, RunId};
use crate::store::Store;

/// What all runs of a session have in common.
#[derive(Debug, Clone)]
pub struct SessionOptions {
    /// What to capture.
    pub target: Target,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
}

/// What one run has of its own.
#[derive(Debug, Clone, Default)]
pub struct RunOptions {
    /// The id that it gets, where it has been chosen already.
    pub run: Option<RunId>,
    /// Its name.
    pub name: Option<String>,
    /// The sweep that it is part of.
    pub sweep: Option<String>,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The folder that gets the manifest and the metadata file.
    pub run_folder: Option<PathBuf>,
}

/// What a session has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Statistics {
    /// How many runs it has captured.
    pub captures: u64,
}

/// Captures runs of one tree.
#[derive(Debug)]
pub struct Session {
    store: Store,
    options: SessionOptions,
    statistics: Statistics,
}

impl Session {
    /// Begins.
    pub fn open(store: Store, options: SessionOptions) -> Result<Self> {
        Ok(Self { store, options, statistics: Statistics::default() })
    }

    /// Captures a run. It survives a power cut after the next [`Session::flush`].
    pub fn capture(&mut self, run: &RunOptions) -> Result<Captured> {
        let captured = self.capture_unless(run, None)?;
        captured.map_or_else(|| unreachable!("no snapshot was named"), Ok)
    }

    /// Captures a run unless it would have a certain snapshot: then nothing is recorded, and there is none.
    pub fn capture_unless(&mut self, run: &RunOptions, unwanted: Option<ObjectId>) -> Result<Option<Captured>> {
        let run = run.clone();
        let options = CaptureOptions {
            run: run.run,
            name: run.name,
            sweep: run.sweep,
            params: run.params,
            tags: run.tags,
            run_folder: run.run_folder,
            include_secrets: self.options.include_secrets,
            environment: self.options.environment.clone(),
            host: self.options.host.clone(),
            ..CaptureOptions::new(self.options.target.clone())
        };
        let captured = capture_unless(&self.store, &options, unwanted, &())?;
        self.statistics.captures += u64::from(captured.is_some());
        Ok(captured)
    }

    /// Returns once all captured runs survive a power cut.
    pub fn flush(&mut self) -> Result<()> {
        Ok(())
    }

    /// What was done so far.
    pub fn statistics(&self) -> Statistics {
        self.statistics
    }
}
