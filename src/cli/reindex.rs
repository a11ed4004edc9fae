use runsnap::Result;
use runsnap::operations::reindex::reindex;

use super::context::Context;
use super::output::{Outcome, counted, print, print_json, warn};

/// Make the index anew from packs and journals
#[derive(Debug, clap::Args)]
pub struct Arguments {}

pub fn run(context: &Context, _arguments: &Arguments) -> Result<Outcome> {
    let reindexed = reindex(context.open()?)?;
    for problem in &reindexed.problems {
        warn(problem);
    }
    if context.json {
        print_json(&reindexed)?;
    } else {
        print(&format!(
            "Indexed {}, {}, {}\n",
            counted(reindexed.packs, "pack", "packs"),
            counted(reindexed.objects, "object", "objects"),
            counted(reindexed.runs, "run", "runs")
        ))?;
    }
    Ok(Outcome::problems_if(!reindexed.problems.is_empty()))
}
