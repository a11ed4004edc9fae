use std::path::PathBuf;

use runsnap::operations::list::{ListOptions, Listed, list, list_sweeps};
use runsnap::operations::run_filter::{Filter, parse_sort};
use runsnap::store::{Run, Runs};
use runsnap::tracked_path::TrackedPath;
use runsnap::{Error, Result};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use super::context::Context;
use super::output::{Layout, Outcome, print, print_json, table};
use super::show::run_json;

/// So many rows of a table are in memory at a time.
const ROWS_IN_MEMORY: usize = 8192;

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
        print_json(&Lines { runs: &runs, listed: &listed })?;
    } else {
        print_table(&runs, &listed)?;
    }
    Ok(Outcome::Done)
}

/// The list as JSON, of which one run at a time is in memory.
struct Lines<'a> {
    runs: &'a Runs,
    listed: &'a [Listed],
}

impl Serialize for Lines<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        map.serialize_entry("runs", &LinesOf(self))?;
        map.end()
    }
}

struct LinesOf<'a>(&'a Lines<'a>);

impl Serialize for LinesOf<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> std::result::Result<S::Ok, S::Error> {
        let Lines { runs, listed } = self.0;
        serializer.collect_seq(listed.iter().filter_map(|one| Some(json_line(&runs.run(one.row)?, one))))
    }
}

fn json_line(run: &Run, listed: &Listed) -> Value {
    let mut line = run_json(run);
    if let (Some(id), Value::Object(line)) = (listed.file, &mut line) {
        line.insert("file".to_owned(), json!(id));
    }
    line
}

fn short_time(time: &str) -> String {
    time.chars().take(19).collect::<String>().replace('T', " ")
}

/// Prints the table. A long one is gone through twice, for its widths and for its lines, rather than kept in memory.
pub fn print_table(runs: &Runs, listed: &[Listed]) -> Result<()> {
    let has_file = listed.iter().any(|one| one.file.is_some());
    let mut heading = vec!["RUN", "TIME", "SWEEP", "SNAPSHOT", "FILES", "PARAMS", "METRICS", "TAGS"];
    if has_file {
        heading.insert(4, "FILE");
    }
    let heading: Vec<String> = heading.into_iter().map(str::to_owned).collect();
    let rows = |listed: &[Listed]| -> Vec<Vec<String>> {
        listed.iter().filter_map(|one| Some(text_row(&runs.run(one.row)?, one, has_file))).collect()
    };
    let mut layout = Layout::default();
    layout.add(&heading);
    let mut groups = listed.chunks(ROWS_IN_MEMORY);
    if listed.len() <= ROWS_IN_MEMORY {
        let rows = rows(listed);
        rows.iter().for_each(|row| layout.add(row));
        return print(&std::iter::once(&heading).chain(&rows).map(|row| layout.line(row)).collect::<String>());
    }
    groups.clone().for_each(|group| rows(group).iter().for_each(|row| layout.add(row)));
    print(&layout.line(&heading))?;
    groups.try_for_each(|group| print(&rows(group).iter().map(|row| layout.line(row)).collect::<String>()))
}

fn text_row(run: &Run, listed: &Listed, has_file: bool) -> Vec<String> {
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
        row.insert(4, listed.file.map(|id| id.short(12)).unwrap_or_default());
    }
    row
}
