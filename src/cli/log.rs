use runsnap::Result;
use runsnap::operations::log::log;
use serde_json::{Map, Value, json};

use super::capture::key_value;
use super::context::Context;
use super::output::{Outcome, print_json};

/// Add metrics and tags to a run
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run: id, name, a unique prefix of either, `latest`, `latest~2`, or its folder
    run: String,
    /// A metric; the latest value counts
    #[arg(long = "metric", value_name = "K=V", value_parser = key_value)]
    metrics: Vec<(String, Value)>,
    /// A tag
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let run = context.find(&store, &runs, &arguments.run)?.id();
    let metrics: Map<String, Value> = arguments.metrics.into_iter().collect();
    let answer = json!({ "run": run, "metrics": metrics, "tags": arguments.tags });
    log(&store, run, metrics, arguments.tags)?;
    if context.json {
        print_json(&answer)?;
    }
    Ok(Outcome::Done)
}
