use std::time::Duration;

use runsnap::Result;
use runsnap::operations::gc::{Collected, GcOptions, gc};

use super::context::Context;
use super::output::{Bar, Outcome, bytes, counted, print, print_json, warn};

/// Compact the store, give back the room of what no run needs, and sweep up what killed captures left
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Tell what there is to do, and change nothing
    #[arg(long)]
    dry_run: bool,
    /// How long to wait for other maintenance, and for captures under way that may need what is to go
    #[arg(long, value_name = "SECONDS", default_value_t = 10)]
    wait: u64,
    /// Print warnings alone
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let options = GcOptions { dry_run: arguments.dry_run, patience: Duration::from_secs(arguments.wait) };
    let collected = gc(&store, options, &Bar::default())?;
    for problem in &collected.problems {
        warn(problem);
    }
    if context.json {
        print_json(&collected)?;
    } else if !arguments.quiet {
        print(&text(&collected, arguments.dry_run))?;
    }
    Ok(Outcome::problems_if(!collected.problems.is_empty()))
}

fn text(collected: &Collected, dry_run: bool) -> String {
    let (compact, remove) = if dry_run { ("Would compact", "Would remove") } else { ("Compacted", "Removed") };
    let mut out = format!("{compact} {}", counted(collected.compacted_packs, "pack", "packs"));
    if collected.garbage_bytes > 0 {
        out += &format!(", with {} uncompressed that no run needs", bytes(collected.garbage_bytes));
    }
    if !dry_run && collected.compacted_packs > 0 {
        out += &format!(": {} of packs, {} before", bytes(collected.packs_bytes), bytes(collected.packs_bytes_before));
    }
    out.push('\n');
    if collected.waiting_packs > 0 {
        let packs = counted(collected.waiting_packs, "pack", "packs");
        out += &format!("Left {packs} for the next time: captures under way may need what is in them\n");
    }
    if collected.removed_files > 0 {
        let files = counted(collected.removed_files, "leftover file", "leftover files");
        out += &format!("{remove} {files}, {}\n", bytes(collected.removed_bytes));
    }
    out
}
