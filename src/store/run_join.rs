//! A run: everything that its records say, joined.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::id::RunId;
use crate::run_record::{RunRecord, RunStart};

/// A run with everything that its records say.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    /// How it began.
    pub start: RunStart,
    /// The latest value of each metric.
    pub metrics: Map<String, Value>,
    /// All tags, sorted.
    pub tags: Vec<String>,
    /// The exit status of its process, once it has ended.
    pub exit_status: Option<Option<i32>>,
}

impl Run {
    /// Its id.
    pub fn id(&self) -> RunId {
        self.start.run
    }

    /// Its name, or its id where it has none.
    pub fn label(&self) -> String {
        self.start.name.clone().unwrap_or_else(|| self.start.run.to_string())
    }
}

/// Joins records into runs. Per field the latest wins, by (time, run, sequence).
pub(super) fn join(records: Vec<RunRecord>) -> Vec<Run> {
    let mut runs: BTreeMap<RunId, Run> = BTreeMap::new();
    let mut later = Vec::new();
    for record in records {
        match record {
            RunRecord::Start(start) => {
                let start = *start;
                runs.insert(
                    start.run,
                    Run { metrics: start.metrics.clone(), tags: start.tags.clone(), exit_status: None, start },
                );
            }
            other => later.push(other),
        }
    }
    // The text decides between records of one moment, so that it does not matter which file they stand in.
    let text = |record: &RunRecord| serde_json::to_string(record).unwrap_or_default();
    later.sort_by(|a, b| order(a).cmp(&order(b)).then_with(|| text(a).cmp(&text(b))));
    for record in later {
        if let RunRecord::Forget(forget) = &record {
            runs.remove(&forget.run);
        }
        let Some(run) = runs.get_mut(&record.run()) else { continue };
        match record {
            RunRecord::Update(update) => {
                run.metrics.extend(update.metrics);
                run.tags.extend(update.tags);
            }
            RunRecord::End(end) => run.exit_status = Some(end.exit_status),
            RunRecord::Start(_) | RunRecord::Forget(_) => {}
        }
    }
    for run in runs.values_mut() {
        run.tags.sort();
        run.tags.dedup();
    }
    runs.into_values().collect()
}

fn order(record: &RunRecord) -> (&str, RunId, u64) {
    match record {
        RunRecord::Start(r) => (&r.time, r.run, 0),
        RunRecord::Update(r) => (&r.time, r.run, r.sequence),
        RunRecord::End(r) => (&r.time, r.run, r.sequence),
        RunRecord::Forget(r) => (&r.time, r.run, u64::MAX),
    }
}
