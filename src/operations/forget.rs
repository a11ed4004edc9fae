//! forget: marks runs as no longer wanted, by name or by a policy of what to keep.

use std::collections::BTreeSet;

use super::list::{ListOptions, Listed, list};
use super::run_filter::Filter;
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::run_record::{RunForget, RunRecord, now, time_text};
use crate::store::{Run, Runs, Store};

/// The units of a duration and their lengths in seconds. A month is 30 days and a year 365: what a policy keeps should not
/// depend on the calendar.
const UNITS: [(&str, u64); 7] = [
    ("s", 1),
    ("m", 60),
    ("h", 3600),
    ("d", 24 * 3600),
    ("w", 7 * 24 * 3600),
    ("mo", 30 * 24 * 3600),
    ("y", 365 * 24 * 3600),
];

/// Which runs to forget by a policy: the candidates, and the rules that keep some of them.
#[derive(Debug, Default)]
pub struct Policy {
    /// Candidates of the project with this path alone.
    pub project: Option<String>,
    /// Candidates of this sweep alone.
    pub sweep: Option<String>,
    /// Candidates that this holds for alone.
    pub filter: Option<Filter>,
    /// Keeps so many of the candidates, the newest.
    pub keep_last: Option<usize>,
    /// Keeps the candidates captured within so many seconds before now.
    pub keep_within: Option<u64>,
    /// Keeps the candidates that have one of these tags.
    pub keep_tags: Vec<String>,
}

impl Policy {
    fn has_rules(&self) -> bool {
        self.keep_last.is_some() || self.keep_within.is_some() || !self.keep_tags.is_empty()
    }

    /// The runs that the policy forgets, in the order of their ids.
    ///
    /// # Errors
    ///
    /// A policy that names no runs and no rule, or whose rules alone would leave nothing: nobody has said that all runs
    /// are to go.
    pub fn choose(self, store: &Store, runs: &Runs) -> Result<Vec<Listed>> {
        let names_runs = self.sweep.is_some() || self.filter.is_some();
        if !names_runs && !self.has_rules() {
            return Err(Error::Usage(
                "This would forget every run: name runs, a --sweep, a --where, or what to keep".into(),
            ));
        }
        if self.keep_last == Some(0) {
            return Err(Error::Usage("--keep-last keeps at least 1: leave it out to keep none".into()));
        }
        let options =
            ListOptions { project: self.project, sweep: self.sweep, filter: self.filter, ..ListOptions::default() };
        let candidates = list(store, runs, &options)?;
        let newest = candidates.len().saturating_sub(self.keep_last.unwrap_or(0));
        let since = self.keep_within.map(seconds_ago);
        let is_kept_by_itself = |run: &Run| {
            since.as_ref().is_some_and(|since| run.start.time >= *since)
                || self.keep_tags.iter().any(|tag| run.tags.contains(tag))
        };
        let looks_at_runs = since.is_some() || !self.keep_tags.is_empty();
        let total = candidates.len();
        let mut forgotten = candidates;
        forgotten.truncate(newest);
        forgotten.retain(|one| !looks_at_runs || !runs.run(one.row).is_some_and(|run| is_kept_by_itself(&run)));
        if !names_runs && total > 0 && forgotten.len() == total {
            return Err(Error::Usage(format!(
                "The rules keep none of the {total} runs: name a --sweep or a --where to forget all of its runs"
            )));
        }
        Ok(forgotten)
    }
}

/// The time so many seconds ago, in the form of the records.
fn seconds_ago(seconds: u64) -> String {
    let span = jiff::SignedDuration::from_secs(i64::try_from(seconds).unwrap_or(i64::MAX));
    time_text(jiff::Timestamp::now().checked_sub(span).unwrap_or(jiff::Timestamp::MIN))
}

/// Reads a duration in seconds: a whole number and a unit, as in `90m`, `12h`, `30d`, `4w`, `6mo`, `1y`.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let rule = || "use a number and one of s m h d w mo y, as in 90m, 12h, 30d, 4w, 6mo".to_owned();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).ok_or_else(rule)?;
    let number: u64 = number.parse().map_err(|_| rule())?;
    let (_, seconds) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(rule)?;
    number.checked_mul(*seconds).filter(|_| number > 0).ok_or_else(rule)
}

/// Records that runs are no longer wanted; once this returns that survives a power cut.
///
/// Their content stays until maintenance finds that nobody needs it, and so do the files in their folders.
pub fn forget(store: &Store, runs: &BTreeSet<RunId>) -> Result<()> {
    if runs.is_empty() {
        return Ok(());
    }
    let mut writer = store.writer()?;
    let (time, _) = now();
    let records: Vec<RunRecord> =
        runs.iter().map(|run| RunRecord::Forget(RunForget { run: *run, time: time.clone() })).collect();
    writer.commit(&records)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_a_number_and_a_unit() {
        let day = 24 * 3600;
        for (text, seconds) in
            [("45s", 45), ("90m", 5400), ("12h", day / 2), ("30d", 30 * day), ("4w", 28 * day), ("6mo", 180 * day)]
        {
            assert_eq!(parse_duration(text), Ok(seconds), "{text}");
        }
        assert_eq!(parse_duration("1y"), Ok(365 * day));
        for bad in ["", "d", "30", "0d", "-1d", "1.5d", "30 d", "30D", "1d12h", "99999999999999999999d", "1é"] {
            assert!(parse_duration(bad).is_err(), "{bad}");
        }
        assert!(parse_duration("18446744073709551615y").is_err());
    }

    #[test]
    fn a_time_before_all_times_keeps_everything() {
        assert!(*seconds_ago(u64::MAX) < *"2026");
        assert_eq!(seconds_ago(5).len(), "2026-01-01T00:00:00.000000Z".len());
    }
}
