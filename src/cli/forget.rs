use std::collections::BTreeSet;

use runsnap::operations::forget::{Policy, forget, parse_duration};
use runsnap::operations::list::Listed;
use runsnap::operations::run_filter::Filter;
use runsnap::store::{Run, Runs};
use runsnap::{Error, Result};
use serde_json::{Value, json};

use super::context::Context;
use super::list::print_table;
use super::output::{Outcome, counted, print, print_json};
use super::show::run_json;

/// Forget runs, by name or by a policy of what to keep
///
/// A policy looks at the runs of the current project, or at those that --sweep and --where name. A run is kept if any of
/// the --keep rules keeps it; all others are forgotten. Without --keep rules every run that --sweep and --where name is
/// forgotten. Folders of runs are not touched; space in the store comes back at the next `runsnap gc`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The runs: id, name, a unique prefix of either, `latest`, `latest~2`, or the folder
    #[arg(conflicts_with_all = ["sweep", "filter", "keep_last", "keep_within", "keep_tags", "all_projects"])]
    runs: Vec<String>,
    /// Runs of this sweep alone
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// Runs that this holds for alone, as in 'metrics.sharpe < 0.5'
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Keep so many, the newest
    #[arg(long, value_name = "N")]
    keep_last: Option<usize>,
    /// Keep those captured within this time before now, as in 12h, 30d, 4w, 6mo
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    keep_within: Option<u64>,
    /// Keep those with this tag; may be given several times
    #[arg(long = "keep-tag", value_name = "T")]
    keep_tags: Vec<String>,
    /// Runs of all projects in the store, not of the current one alone
    #[arg(long)]
    all_projects: bool,
    /// Tell what would be forgotten, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let filter = arguments.filter.as_deref().map(Filter::parse).transpose()?;
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let chosen: Vec<Listed> = if arguments.runs.is_empty() {
        let policy = Policy {
            project: if arguments.all_projects { None } else { context.project(&store, &runs) },
            sweep: arguments.sweep,
            filter,
            keep_last: arguments.keep_last,
            keep_within: arguments.keep_within,
            keep_tags: arguments.keep_tags,
        };
        policy.choose(&store, &runs)?
    } else {
        let mut found =
            arguments.runs.iter().map(|text| context.find(&store, &runs, text)).collect::<Result<Vec<_>, Error>>()?;
        found.sort_by_key(Run::id);
        found.dedup_by_key(|run| run.id());
        let rows = found.iter().flat_map(|run| runs.between(run.id(), run.id()));
        rows.map(|row| Listed { row, file: None }).collect()
    };
    if !arguments.dry_run {
        forget(&store, &chosen.iter().filter_map(|one| runs.id(one.row)).collect::<BTreeSet<_>>())?;
    }
    if context.json {
        let lines: Vec<Value> = chosen.iter().filter_map(|one| Some(run_json(&runs.run(one.row)?))).collect();
        print_json(&json!({ "forgotten": lines, "dry_run": arguments.dry_run }))?;
    } else {
        print_text(&runs, &chosen, arguments.dry_run)?;
    }
    Ok(Outcome::Done)
}

fn print_text(runs: &Runs, chosen: &[Listed], dry_run: bool) -> Result<()> {
    if chosen.is_empty() {
        return print("No run to forget\n");
    }
    print_table(runs, chosen)?;
    let verb = if dry_run { "Would forget" } else { "Forgot" };
    let count = counted(chosen.len() as u64, "run", "runs");
    let whose = if chosen.len() == 1 { "its" } else { "their" };
    print(&format!("{verb} {count}; {whose} space comes back at the next `runsnap gc`\n"))
}
