use std::ffi::OsString;
use std::path::Path;

use runsnap::snapshot::Entry;
use runsnap::text_or_base64::text_or_base64;
use runsnap::tracked_path::{TrackedPath, name_bytes, os_name};
use runsnap::{Error, Result};
use serde::Serialize;

use super::context::Context;
use super::output::{Outcome, print_bytes, print_json};

/// Print one file of a run
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run and the file, as in run-12:strategy.py
    #[arg(value_name = "RUN:PATH")]
    place: OsString,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let (name, path) =
        split_place(&arguments.place).ok_or_else(|| Error::Usage(format!("Not RUN:PATH: {:?}", arguments.place)))?;
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let run = context.find(&store, &runs, &name)?;
    let no_such_path = || Error::NoSuchPath { run: run.label(), path: path.to_string_lossy().into_owned() };
    let tracked = TrackedPath::from_path(Path::new(&path)).ok_or_else(no_such_path)?;
    match store.entry_at(run.start.snapshot, &tracked)? {
        Some(Entry::File { id, bytes, .. }) => print_content(context, &tracked, &store.content(id, bytes)?)?,
        Some(Entry::Symlink { target }) => print_content(context, &tracked, &target)?,
        None => return Err(no_such_path()),
    }
    Ok(Outcome::Done)
}

/// Takes `RUN:PATH` apart; the path need not be UTF-8.
fn split_place(place: &OsString) -> Option<(String, OsString)> {
    if let Some((name, path)) = place.to_str().and_then(|text| text.split_once(':')) {
        return Some((name.to_owned(), path.into()));
    }
    let bytes = name_bytes(place)?;
    let (name, path) = bytes.split_at_checked(bytes.iter().position(|byte| *byte == b':')?)?;
    Some((String::from_utf8(name.to_vec()).ok()?, os_name(path.get(1..)?)?))
}

/// Prints content as it is, or as JSON: in `text`, or in base64 in `content` where it is not UTF-8.
fn print_content(context: &Context, path: &TrackedPath, content: &[u8]) -> Result<()> {
    if !context.json {
        return print_bytes(content);
    }
    #[derive(Serialize)]
    struct Json<'a> {
        #[serde(flatten)]
        path: &'a TrackedPath,
        bytes: usize,
        #[serde(skip_serializing_if = "Option::is_none")]
        text: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        content: Option<String>,
    }
    let (text, base64) = match text_or_base64(content) {
        Ok(text) => (Some(text), None),
        Err(base64) => (None, Some(base64)),
    };
    print_json(&Json { path, bytes: content.len(), text, content: base64 })
}
