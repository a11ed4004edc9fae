//! log: adds metrics and tags to a run that was captured earlier.

use serde_json::{Map, Value};

use crate::error::{Error, Result};
use crate::id::RunId;
use crate::run_record::{RunRecord, RunUpdate, check_label, now};
use crate::store::Store;

/// Records metrics and tags for a run; once this returns they survive a power cut.
pub fn log(store: &Store, run: RunId, metrics: Map<String, Value>, tags: Vec<String>) -> Result<()> {
    if metrics.is_empty() && tags.is_empty() {
        return Err(Error::Usage("Nothing to log: give --metric or --tag".into()));
    }
    tags.iter().try_for_each(|tag| check_label("tag", tag))?;
    let mut writer = store.writer()?;
    let (time, _) = now();
    writer.commit(&[RunRecord::Update(RunUpdate { run, time, sequence: 0, metrics, tags })])
}
