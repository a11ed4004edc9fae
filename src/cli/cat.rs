use std::path::Path;

use runsnap::snapshot::Entry;
use runsnap::tracked_path::TrackedPath;
use runsnap::{Error, Result};

use super::context::Context;
use super::output::{Outcome, print_bytes};

/// Print one file of a run
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run and the file, as in run-12:strategy.py
    #[arg(value_name = "RUN:PATH")]
    place: String,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let (name, path) = arguments.place.split_once(':').ok_or_else(|| Error::Usage(format!("Not RUN:PATH: {:?}", arguments.place)))?;
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let run = context.find(&store, &runs, name)?;
    let no_such_path = || Error::NoSuchPath { run: run.label(), path: path.to_owned() };
    let tracked = TrackedPath::from_path(Path::new(path)).ok_or_else(no_such_path)?;
    let mut damage = None;
    let files = store.readable_files_of(run.start.snapshot, |error| damage = Some(error))?;
    match (files.entries.get(&tracked), damage) {
        (Some(Entry::File { id, bytes, .. }), _) => print_bytes(&store.file(*id, *bytes)?)?,
        (Some(Entry::Symlink { target }), _) => print_bytes(target)?,
        (None, Some(damage)) => return Err(damage),
        (None, None) => return Err(no_such_path()),
    }
    Ok(Outcome::Done)
}
