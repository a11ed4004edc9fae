use runsnap::Result;
use runsnap::operations::gc::gc;

use super::context::Context;
use super::output::{Bar, Outcome, bytes, counted, print, print_json};

/// Sweep up what killed captures left, and bring the index up to date
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Tell what would be removed, and remove nothing
    #[arg(long)]
    dry_run: bool,
    /// Print nothing
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let collected = gc(&store, arguments.dry_run, &Bar::default())?;
    if context.json {
        print_json(&collected)?;
    } else if !arguments.quiet {
        let verb = if arguments.dry_run { "Would remove" } else { "Removed" };
        let files = counted(collected.removed_files, "leftover file", "leftover files");
        print(&format!("{verb} {files}, {}\n", bytes(collected.removed_bytes)))?;
    }
    Ok(Outcome::Done)
}
