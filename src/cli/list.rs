use std::path::PathBuf;

use runsnap::operations::list::{ListOptions, Listed, list, list_sweeps};
use runsnap::operations::run_filter::{Filter, parse_sort};
use runsnap::tracked_path::TrackedPath;
use runsnap::{Error, Result};
use serde_json::{Value, json};

use super::context::Context;
use super::output::{Outcome, print, print_json, table};
use super::show::run_json;

/// List runs
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Runs of this sweep alone
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// Runs that this holds for alone, as in 'metrics.sharpe > 1.5 and params.fast < 20'
    #[arg(long = "where", value_name = "EXPRESSION")]
    filter: Option<String>,
    /// Sort by a key, as in metrics.sharpe; downwards with a `-` before it [default: by time]
    #[arg(long, value_name = "KEY", allow_hyphen_values = true)]
    sort: Option<String>,
    /// Runs that have this file alone, with the id of its content
    #[arg(long, value_name = "PATH")]
    file: Option<PathBuf>,
    /// At most so many: the newest, or with --sort the first
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
    /// List sweeps
    #[arg(long, conflicts_with_all = ["sort", "file"])]
    sweeps: bool,
    /// Runs of all projects in the store, not of the current one alone
    #[arg(long)]
    all_projects: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let filter = arguments.filter.as_deref().map(Filter::parse).transpose()?;
    let sort = arguments.sort.as_deref().map(parse_sort).transpose()?;
    let file = match &arguments.file {
        Some(text) => {
            let path = TrackedPath::from_path(text);
            Some(path.ok_or_else(|| Error::Usage(format!("Not a path inside a snapshot: {text:?}")))?)
        }
        None => None,
    };
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let project = if arguments.all_projects { None } else { context.project(&store, &runs) };
    let options = ListOptions { project, sweep: arguments.sweep, filter, sort, file, limit: arguments.limit };
    if arguments.sweeps {
        let mut sweeps = list_sweeps(&runs, &options);
        sweeps.truncate(arguments.limit.unwrap_or(usize::MAX));
        if context.json {
            print_json(&json!({ "sweeps": sweeps }))?;
        } else {
            let mut rows = vec![["SWEEP", "RUNS", "SNAPSHOTS", "FIRST", "LAST"].map(str::to_owned).to_vec()];
            rows.extend(sweeps.into_iter().map(|s| {
                let label = s.sweep.unwrap_or_else(|| "(none)".to_owned());
                vec![label, s.runs.to_string(), s.snapshots.to_string(), short_time(&s.first), short_time(&s.last)]
            }));
            print(&table(&rows))?;
        }
        return Ok(Outcome::Done);
    }
    let listed = list(&store, &runs, &options)?;
    if context.json {
        let lines: Vec<Value> = listed.iter().map(json_line).collect();
        print_json(&json!({ "runs": lines }))?;
    } else {
        print(&table(&text_rows(&listed)))?;
    }
    Ok(Outcome::Done)
}

fn json_line(listed: &Listed<'_>) -> Value {
    let mut line = run_json(listed.run);
    if let (Some(id), Value::Object(line)) = (listed.file, &mut line) {
        line.insert("file".to_owned(), json!(id));
    }
    line
}

fn short_time(time: &str) -> String {
    time.chars().take(19).collect::<String>().replace('T', " ")
}

/// Runs as a table's rows, the heading first.
pub fn text_rows(listed: &[Listed<'_>]) -> Vec<Vec<String>> {
    let has_file = listed.iter().any(|one| one.file.is_some());
    let mut heading = vec!["RUN", "TIME", "SWEEP", "SNAPSHOT", "FILES", "PARAMS", "METRICS", "TAGS"];
    if has_file {
        heading.insert(4, "FILE");
    }
    let mut rows = vec![heading.into_iter().map(str::to_owned).collect::<Vec<_>>()];
    let pairs = |map: &serde_json::Map<String, Value>| {
        let shown = |(key, value): (&String, &Value)| match value {
            Value::String(text) => format!("{key}={text}"),
            Value::Number(number) if number.is_f64() => {
                format!("{key}={}", number.as_f64().map(|f| (f * 1e6).round() / 1e6).unwrap_or_default())
            }
            other => format!("{key}={other}"),
        };
        map.iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    for one in listed {
        let run = one.run;
        let mut row = vec![
            run.label(),
            short_time(&run.start.time),
            run.start.sweep.clone().unwrap_or_default(),
            run.start.snapshot.short(12),
            run.start.files.to_string(),
            pairs(&run.start.params),
            pairs(&run.metrics),
            run.tags.join(" "),
        ];
        if has_file {
            row.insert(4, one.file.map(|id| id.short(12)).unwrap_or_default());
        }
        rows.push(row);
    }
    rows
}
