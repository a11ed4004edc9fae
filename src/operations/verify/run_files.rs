//! The files in runs/: damage in journals and segments, and files that the index or a writer's note knows and that are gone or
//! shorter.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::time::Instant;

use super::{INDEX_ADVICE, INDEX_PATIENCE, Problem, Verification};
use crate::error::Result;
use crate::index::{Index, IndexedFile, IndexedRun};
use crate::journal::{decode_record, mend};
use crate::run_record::RunRecord;
use crate::store::slot::{self, JOURNALS};
use crate::store::{INDEX_PATH, JournalProblem, Runs, Store, merged_into};

/// What index and notes say of journals and segments.
struct Known {
    /// `None` where there is none, or where it is in use all the time.
    index: Option<Index>,
    is_index_busy: bool,
    indexed: Vec<IndexedFile>,
    /// The length that writers' notes tell.
    noted: HashMap<String, u64>,
    /// The greater of both, of each file that either knows.
    flushed: BTreeMap<String, u64>,
}

impl Known {
    fn of(store: &Store, deadline: Instant) -> Result<Self> {
        let index = store.wait_for_index(deadline);
        let is_index_busy = index.is_err();
        let index = index.ok().flatten();
        let indexed = index.as_ref().and_then(|index| index.journals().ok()).unwrap_or_default();
        let mut noted: HashMap<String, u64> = HashMap::new();
        let mut flushed: BTreeMap<String, u64> = indexed.iter().map(|file| (file.name.clone(), file.bytes)).collect();
        for note in slot::notes(&**store.storage())? {
            let known = flushed.entry(note.journal.clone()).or_default();
            *known = note.bytes.max(*known);
            let known = noted.entry(note.journal).or_default();
            *known = note.bytes.max(*known);
        }
        Ok(Self { index, is_index_busy, indexed, noted, flushed })
    }

    /// The runs that the index has in a part of a journal.
    fn runs_between(&self, name: &str, from: u64, to: u64) -> Vec<IndexedRun> {
        let Some(journal) = self.indexed.iter().find(|journal| journal.name == name) else { return Vec::new() };
        let mut known = self.index.as_ref().and_then(|index| index.runs_in(journal.number).ok()).unwrap_or_default();
        known.retain(|run| (from..to).contains(&run.offset));
        known
    }
}

/// Files that are gone or shorter than they were.
#[derive(Default)]
struct Lacking {
    problems: Vec<Problem>,
    /// The names of those that are shorter.
    cut: HashSet<String>,
}

/// Those of `known` that are not there, by name or id.
fn lost(runs: &Runs, known: Vec<IndexedRun>) -> BTreeSet<String> {
    let lost = known.into_iter().filter(|run| runs.between(run.run, run.run).is_empty());
    lost.map(|run| run.name.unwrap_or_else(|| run.run.to_string())).collect()
}

impl Verification<'_> {
    /// Looks at all journals and segments; the runs in them.
    pub(super) fn run_files(&mut self) -> Result<Runs> {
        // What is flushed after a journal was read is not damaged.
        let deadline = Instant::now() + INDEX_PATIENCE;
        let flushed = Known::of(self.store, deadline)?.flushed;
        // What the index names and a merge removes in between is not missing.
        let (mut runs, known, lacking) = self.store.at_one_moment(|_| {
            let runs = self.store.runs()?;
            let known = Known::of(self.store, deadline)?;
            let lacking = self.lacking(&runs, &known);
            Ok((runs, known, lacking))
        })?;
        self.is_index_busy = known.is_index_busy;
        let Lacking { problems, cut } = lacking;
        self.out.problems.extend(problems);
        runs.check();
        runs.problems.append(&mut runs.late_problems());
        for problem in &runs.problems {
            let file = self.shown(&problem.path);
            let place = format!("bytes {} to {}: {}", problem.offset, problem.end, problem.reason);
            // What a writer noted as flushed was whole once.
            if problem.unfinished && flushed.get(&problem.name).is_none_or(|flushed| problem.offset >= *flushed) {
                if !cut.contains(&problem.name) {
                    self.out.notes.push(format!("{file}: {place}: no capture returned for it"));
                }
                continue;
            }
            let mut hit = lost(&runs, known.runs_between(&problem.name, problem.offset, problem.end));
            if hit.is_empty() {
                hit.extend(self.mended_run(problem));
            }
            self.blame_for(file, place, hit, BTreeSet::new());
        }
        Ok(runs)
    }

    fn lacking(&self, runs: &Runs, known: &Known) -> Lacking {
        let merged = merged_into(runs.segments());
        let mut lacking = Lacking::default();
        for (name, &bytes) in &known.flushed {
            let path = format!("{JOURNALS}/{name}");
            let known_between = |from, to| known.runs_between(name, from, to);
            let (length, what, known_runs) = match self.store.storage().length(&path) {
                Ok(length) if length >= bytes => continue,
                Ok(length) => {
                    lacking.cut.insert(name.clone());
                    let what = format!(
                        "cut short: {length} bytes of the {bytes} that were flushed; the runs recorded after that are lost"
                    );
                    (length, what, known_between(length.saturating_sub(1), u64::MAX))
                }
                Err(error) if error.is_not_found() => match merged.get(name) {
                    // Its records are in a segment, and the index has not been told.
                    Some(&merged) if merged >= bytes => continue,
                    Some(&merged) => {
                        let what = format!("missing: the runs recorded in it after byte {merged} are lost");
                        (merged, what, known_between(merged, u64::MAX))
                    }
                    None => (0, "missing: the runs recorded in it are lost".to_owned(), known_between(0, u64::MAX)),
                },
                Err(error) => (0, error.to_string(), Vec::new()),
            };
            let is_noted = known.noted.get(name).is_some_and(|noted| *noted > length);
            let is_known = !known_runs.is_empty();
            let hit = lost(runs, known_runs);
            let (file, what) = if !is_noted && is_known && hit.is_empty() {
                // Every run that should be there is there: it is the index that has a wrong name or length.
                (self.full(INDEX_PATH), format!("it has wrong places for the runs of {path}; {INDEX_ADVICE}"))
            } else {
                (self.full(&path), what)
            };
            lacking.problems.push(Problem { file, what, runs: hit, paths: BTreeSet::new() });
        }
        lacking
    }

    /// The run that a record with one flipped bit is about.
    fn mended_run(&self, problem: &JournalProblem) -> Option<String> {
        let path = format!("{JOURNALS}/{}", problem.name);
        let length = usize::try_from(problem.end.checked_sub(problem.offset)?).ok()?;
        let bytes = self.store.storage().read_range(&path, problem.offset, length).ok()?;
        Some(match decode_record(&mend(&bytes)?).ok()? {
            RunRecord::Start(start) => start.name.unwrap_or_else(|| start.run.to_string()),
            other => other.run().to_string(),
        })
    }
}
