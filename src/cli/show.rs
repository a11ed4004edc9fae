use std::collections::BTreeMap;

use runsnap::Result;
use runsnap::operations::run_folder::Content;
use runsnap::run_record::{FileStatus, RunStart};
use runsnap::snapshot::Entry;
use runsnap::store::Run;
use runsnap::tracked_path::TrackedPath;
use serde_json::{Value, json};

use super::context::Context;
use super::output::{Outcome, bytes, counted, print, print_json, warn};

/// Show a run and its files
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run: id, name, a unique prefix of either, `latest`, `latest~2`, or its folder
    run: String,
}

/// A run as JSON shows it: its start record, with the latest metrics and tags.
pub fn run_json(run: &Run) -> Value {
    let mut line = serde_json::to_value(&run.start).unwrap_or_default();
    if let Value::Object(line) = &mut line {
        line.insert("metrics".to_owned(), json!(run.metrics));
        line.insert("params".to_owned(), json!(run.start.params));
        line.insert("tags".to_owned(), json!(run.tags));
        line.entry("name").or_insert(Value::Null);
        line.entry("sweep").or_insert(Value::Null);
        if let Some(status) = run.exit_status {
            line.insert("exit_status".to_owned(), json!(status));
        }
    }
    line
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let run = context.find(&store, &runs, &arguments.run)?;
    let mut problems = Vec::new();
    let files = store.readable_files_of(run.start.snapshot, |error| problems.push(error.to_string()))?;
    for problem in &problems {
        warn(problem);
    }
    if context.json {
        let mut line = run_json(&run);
        if let Value::Object(fields) = &mut line {
            let file_count = fields.insert("files".to_owned(), json!(file_lines(&run.start, &files.entries)));
            fields.insert("file_count".to_owned(), file_count.unwrap_or_default());
            fields.insert("store".to_owned(), json!(store.config().store));
        }
        print_json(&line)?;
    } else {
        print(&text(&run, &files.entries))?;
    }
    Ok(Outcome::problems_if(!problems.is_empty()))
}

/// A file of a run as JSON shows it.
#[derive(serde::Serialize)]
struct FileLine<'a> {
    #[serde(flatten)]
    path: &'a TrackedPath,
    #[serde(flatten)]
    content: Content,
    status: FileStatus,
}

fn file_lines<'a>(start: &RunStart, files: &'a BTreeMap<TrackedPath, Entry>) -> Vec<FileLine<'a>> {
    files.iter().map(|(path, entry)| FileLine { path, content: entry.into(), status: start.status_of(path) }).collect()
}

fn text(run: &Run, files: &BTreeMap<TrackedPath, Entry>) -> String {
    let start = &run.start;
    let mut out = String::new();
    let mut line = |name: &str, value: String| out += &format!("{name:<12} {value}\n");
    line("run", start.run.to_string());
    for (name, value) in
        [("name", &start.name), ("sweep", &start.sweep), ("host", &start.host), ("git commit", &start.git_commit)]
    {
        if let Some(value) = value {
            line(name, value.clone());
        }
    }
    line("time", start.time.clone());
    line("project", start.project.root.clone());
    if let Some(entry) = &start.entry_point {
        let what = entry.path.as_ref().map(ToString::to_string).or_else(|| entry.module.clone());
        line("entry point", what.unwrap_or_else(|| "not in a file".to_owned()));
    }
    line("snapshot", start.snapshot.to_string());
    line("files", format!("{}, {}", counted(start.files, "file", "files"), bytes(start.bytes)));
    for (name, map) in [("params", &start.params), ("metrics", &run.metrics)] {
        for (key, value) in map {
            line(name, format!("{key} = {value}"));
        }
    }
    if !run.tags.is_empty() {
        line("tags", run.tags.join(", "));
    }
    if let Some(folder) = &start.run_folder {
        line("run folder", folder.path.clone());
    }
    if let Some(imported) = &start.imported {
        line("imported", format!("{}/{}", imported.from, imported.folder));
    }
    for warning in &start.warnings {
        line("warning", warning.clone());
    }
    out.push('\n');
    for (path, entry) in files {
        let status = match start.status_of(path) {
            FileStatus::Unknown => "",
            FileStatus::Verified => "  verified",
            FileStatus::Edited => "  edited",
            FileStatus::Changing => "  changing",
        };
        out += &match entry {
            Entry::File { id, bytes, executable } => {
                format!("{} {bytes:>10} {} {path}{status}\n", id.short(12), if *executable { "x" } else { " " })
            }
            Entry::Symlink { target } => format!("{:>25} {path} -> {}\n", "link", String::from_utf8_lossy(target)),
        };
    }
    out
}
