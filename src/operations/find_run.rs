//! Which run does the user mean?

use std::path::Path;

use super::run_filter::Filter;
use super::run_folder::Manifest;
use super::select::{chosen, chosen_from_newest, rows_in};
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::run_record::is_watchers_own;
use crate::segment::NameHash;
use crate::store::{RowRef, Run, Runs};
use crate::tracked_files::walk::{MANIFEST_PATH, MAX_MANIFEST_BYTES};

/// So many candidates are named when a prefix is ambiguous.
const MAX_CANDIDATES: usize = 5;

/// Finds the run that `text` names: an id, a name, a unique prefix of either, `latest`, `latest~2`, or the path of a
/// run folder or manifest. `project` is the path of the project that `latest` is of, `None` for the whole store.
pub fn find_run(runs: &Runs, text: &str, project: Option<&str>) -> Result<Run> {
    let unknown = || Error::UnknownRun { name: text.to_owned() };
    if let Some(back) = latest(text) {
        let of_project = Filter::of(project, None);
        // What a watcher keeps on its own account is not what its user has run last.
        let newest = chosen_from_newest(runs, &of_project).filter_map(|row| runs.run(row));
        let mut meant = newest.filter(|run| !is_watchers_own(&run.start));
        return meant.nth(back).ok_or_else(unknown);
    }
    let mut exact = named(runs, text);
    if let Ok(id) = text.parse() {
        exact.extend(runs.between(id, id));
    }
    if !exact.is_empty() {
        return one(runs, exact, text);
    }
    if let Some(manifest) = read_manifest(Path::new(text)) {
        let found = runs.between(manifest.run, manifest.run);
        return found.first().and_then(|row| runs.run(*row)).ok_or_else(unknown);
    }
    if text.is_empty() {
        return Err(unknown());
    }
    let mut begins = chosen(runs, &Filter::name_begins(text));
    begins.extend(ids_that_begin(text).into_iter().flat_map(|(first, last)| runs.between(first, last)));
    one(runs, begins, text)
}

/// The runs of exactly that name.
fn named(runs: &Runs, name: &str) -> Vec<RowRef> {
    let (filter, hash) = (Filter::named(name), NameHash::of(name));
    let spans = (0..runs.spans()).filter(|span| runs.may_have_name(*span, hash));
    spans.flat_map(|span| rows_in(runs, span, &filter)).collect()
}

/// The first and the last id that begin with some digits.
fn ids_that_begin(digits: &str) -> Option<(RunId, RunId)> {
    let is_hex = digits.len() <= 32 && digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let padded = |with: &str| format!("{digits}{}", with.repeat(32 - digits.len())).parse().ok();
    if is_hex { Some((padded("0")?, padded("f")?)) } else { None }
}

fn one(runs: &Runs, mut found: Vec<RowRef>, text: &str) -> Result<Run> {
    found.sort();
    found.dedup();
    match found.as_slice() {
        [] => Err(Error::UnknownRun { name: text.to_owned() }),
        [row] => runs.run(*row).ok_or_else(|| Error::UnknownRun { name: text.to_owned() }),
        many => {
            let mut candidates: Vec<String> = many
                .iter()
                .take(MAX_CANDIDATES)
                .filter_map(|row| runs.run(*row))
                .map(|run| match &run.start.name {
                    Some(name) => format!("{name} ({})", run.id()),
                    None => run.id().to_string(),
                })
                .collect();
            if many.len() > MAX_CANDIDATES {
                candidates.push(format!("and {} more", many.len() - MAX_CANDIDATES));
            }
            Err(Error::AmbiguousRun { name: text.to_owned(), candidates })
        }
    }
}

/// How many runs before the newest `latest` or `latest~N` names.
fn latest(text: &str) -> Option<usize> {
    match text.strip_prefix("latest")? {
        "" => Some(0),
        rest => rest.strip_prefix('~')?.parse().ok(),
    }
}

fn read_manifest(path: &Path) -> Option<Manifest> {
    let file = if path.is_dir() { path.join(MANIFEST_PATH) } else { path.to_owned() };
    // A pipe or a device would be read for ever.
    if !file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.len() <= MAX_MANIFEST_BYTES) {
        return None;
    }
    Manifest::decode(&std::fs::read(file).ok()?)
}
