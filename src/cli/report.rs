use std::path::PathBuf;

use runsnap::operations::report::{Report, Usage, report};
use runsnap::{Error, Result};

use super::context::Context;
use super::output::{Outcome, bytes, counted, print, print_json, table, warn};
use super::report_html::page;

/// Report what the store saves over full copies
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Count the runs of this sweep alone
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// Write a page for a browser as well
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let report = report(&store, &runs, arguments.sweep.as_deref())?;
    for problem in &report.problems {
        warn(problem);
    }
    if let Some(file) = &arguments.html {
        std::fs::write(file, page(&report)).map_err(|e| Error::io("write", file, e))?;
    }
    if context.json {
        print_json(&report)?;
    } else {
        print(&text(&report))?;
    }
    Ok(Outcome::problems_if(!report.problems.is_empty()))
}

fn text(report: &Report) -> String {
    let copies = &report.copies;
    let mut out = format!(
        "{} of {}\n\n",
        counted(copies.runs, "run", "runs"),
        counted(copies.snapshots, "different snapshot", "different snapshots")
    );
    let mut rows = vec![["", "BYTES", "ON DISK", "FILES"].map(str::to_owned).to_vec()];
    rows.push(vec![
        "full copies".to_owned(),
        bytes(copies.logical_bytes),
        String::new(),
        copies.logical_files.to_string(),
    ]);
    rows.extend(report.parts().iter().chain(&[("stored", report.stored)]).map(|(name, usage)| usage_row(name, usage)));
    out += &table(&rows);
    out += &format!(
        "\nreduction {:.2} %, {} and {} saved\n",
        report.reduction_percent,
        signed(report.files_saved, "file", "files"),
        signed(report.inodes_saved, "inode", "inodes")
    );
    if report.sweeps.iter().any(|sweep| sweep.sweep.is_some()) {
        let heading = ["SWEEP", "RUNS", "SNAPSHOTS", "FULL COPIES", "CONTENT", "RUN FOLDERS", "REDUCTION"];
        let mut rows = vec![heading.map(str::to_owned).to_vec()];
        rows.extend(report.sweeps.iter().map(|sweep| {
            vec![
                sweep.sweep.clone().unwrap_or_else(|| "(none)".to_owned()),
                sweep.copies.runs.to_string(),
                sweep.copies.snapshots.to_string(),
                bytes(sweep.copies.logical_bytes),
                bytes(sweep.content_bytes),
                bytes(sweep.run_folders.bytes),
                format!("{:.2} %", sweep.reduction_percent),
            ]
        }));
        out.push('\n');
        out += &table(&rows);
    }
    out
}

fn usage_row(name: &str, usage: &Usage) -> Vec<String> {
    vec![name.to_owned(), bytes(usage.bytes), bytes(usage.allocated_bytes), usage.files.to_string()]
}

fn signed(count: i64, one: &str, many: &str) -> String {
    let text = counted(count.unsigned_abs(), one, many);
    if count < 0 { format!("-{text}") } else { text }
}
