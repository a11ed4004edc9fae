//! Which run does the user mean?

use std::path::Path;

use super::run_folder::Manifest;
use crate::error::{Error, Result};
use crate::store::{Run, Runs};
use crate::tracked_files::walk::{MANIFEST_PATH, MAX_MANIFEST_BYTES};

/// So many candidates are named when a prefix is ambiguous.
const MAX_CANDIDATES: usize = 5;

/// Finds the run that `text` names: an id, a name, a unique prefix of either, `latest`, `latest~2`, or the path of a
/// run folder or manifest. `project` is the path of the project that `latest` is of, `None` for the whole store.
pub fn find_run<'r>(runs: &'r Runs, text: &str, project: Option<&str>) -> Result<&'r Run> {
    let unknown = || Error::UnknownRun { name: text.to_owned() };
    if let Some(back) = latest(text) {
        let of_project = |run: &&Run| project.is_none_or(|project| run.start.project.path == project);
        return runs.runs.iter().rev().filter(of_project).nth(back).ok_or_else(unknown);
    }
    let is = |run: &&Run| run.start.name.as_deref() == Some(text) || run.id().to_string() == text;
    let exact: Vec<&Run> = runs.runs.iter().filter(is).collect();
    if !exact.is_empty() {
        return one(exact, text);
    }
    if let Some(manifest) = read_manifest(Path::new(text)) {
        return runs.runs.iter().find(|run| run.id() == manifest.run).ok_or_else(unknown);
    }
    if text.is_empty() {
        return Err(unknown());
    }
    let begins = |run: &&Run| {
        run.start.name.as_deref().is_some_and(|name| name.starts_with(text)) || run.id().to_string().starts_with(text)
    };
    one(runs.runs.iter().filter(begins).collect(), text)
}

fn one<'r>(found: Vec<&'r Run>, text: &str) -> Result<&'r Run> {
    match found.as_slice() {
        [] => Err(Error::UnknownRun { name: text.to_owned() }),
        [run] => Ok(run),
        many => {
            let mut candidates: Vec<String> = many
                .iter()
                .take(MAX_CANDIDATES)
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
