use std::collections::BTreeSet;

use runsnap::Result;
use runsnap::operations::verify::{Problem, verify};

use super::context::Context;
use super::output::{Bar, Outcome, bytes, counted, print, print_json};

/// So many names are listed; --json lists all.
const SHOWN: usize = 8;

/// Check every file of the store, and tell what damage costs
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Read and hash all content
    #[arg(long)]
    read_data: bool,
}

pub fn run(context: &Context, arguments: &Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let verified = verify(&store, arguments.read_data, &Bar::default())?;
    if context.json {
        print_json(&verified)?;
        return Ok(Outcome::problems_if(!verified.problems.is_empty()));
    }
    let mut out = String::new();
    for problem in &verified.problems {
        out += &shown(problem);
    }
    for note in &verified.notes {
        out += &format!("note: {note}\n");
    }
    let read = if arguments.read_data { format!(", {} read", bytes(verified.read_bytes)) } else { String::new() };
    out += &format!(
        "{}, {}, {}, {}{read}: {}\n",
        counted(verified.runs, "run", "runs"),
        counted(verified.snapshots, "snapshot", "snapshots"),
        counted(verified.packs, "pack", "packs"),
        counted(verified.objects, "object", "objects"),
        match verified.problems.len() as u64 {
            0 => "nothing wrong".to_owned(),
            count => counted(count, "problem", "problems"),
        }
    );
    print(&out)?;
    Ok(Outcome::problems_if(!verified.problems.is_empty()))
}

/// A problem as people read it.
pub fn shown(problem: &Problem) -> String {
    let mut out = format!("problem: {}: {}\n", problem.file, problem.what);
    for (what, names) in [("runs", &problem.runs), ("files", &problem.paths)] {
        if !names.is_empty() {
            out += &format!("  {what} hit: {}\n", some(names));
        }
    }
    out
}

fn some(names: &BTreeSet<String>) -> String {
    let mut shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = names.len().saturating_sub(SHOWN);
    let rest = format!("and {more} more");
    if more > 0 {
        shown.push(&rest);
    }
    shown.join(", ")
}
