use std::path::PathBuf;

use runsnap::operations::repair::{RepairOptions, Repaired, repair};
use runsnap::store::Store;
use runsnap::{Error, Result};
use serde_json::{Value, json};

use super::context::Context;
use super::output::{Bar, Outcome, counted, print, print_json, warn};
use super::verify::shown;

/// Save what can be saved of a damaged store
///
/// Damaged packs and journals are moved to the store's folder `damaged` once all that is whole in them is safe. Lost content
/// is looked for in the projects and folders of the runs. Files of runs' folders that are missing, and the index, are
/// made again. Nothing is deleted.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Look for lost content in this folder as well; may be given several times
    #[arg(long, value_name = "DIR")]
    from: Vec<PathBuf>,
    /// Tell what would be done, and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    if let Some(folder) = arguments.from.iter().find(|folder| !folder.is_dir()) {
        return Err(Error::Usage(format!("Not a folder: {}", folder.display())));
    }
    let mut store = context.open_quietly()?;
    let mut rewrote_config = false;
    if store.config_problem().is_some() && !arguments.dry_run {
        let folder = store.storage().root().to_owned();
        drop(store);
        (store, rewrote_config) = Store::init(&folder)?;
    }
    let options = RepairOptions { from: arguments.from, dry_run: arguments.dry_run };
    let repaired = repair(store, &options, &Bar::default())?;
    if context.json {
        let mut told = serde_json::to_value(&repaired).unwrap_or_default();
        if let Value::Object(fields) = &mut told {
            fields.insert("rewrote_config".to_owned(), json!(rewrote_config));
            fields.insert("dry_run".to_owned(), json!(options.dry_run));
        }
        print_json(&told)?;
    } else {
        for note in &repaired.notes {
            warn(note);
        }
        print(&text(&repaired, rewrote_config, options.dry_run))?;
    }
    Ok(Outcome::problems_if(!repaired.problems.is_empty() || !repaired.lost_runs.is_empty()))
}

fn text(repaired: &Repaired, rewrote_config: bool, dry_run: bool) -> String {
    let mut out = String::new();
    let mut line = |count: u64, one: &str, many: &str, done: &str| {
        if count > 0 {
            out += &format!("{} {}{done}\n", counted(count, one, many), if dry_run { "to be " } else { "" });
        }
    };
    line(u64::from(rewrote_config), "config.json", "config.json", "written again");
    line(repaired.mended_records, "record", "records", "mended");
    line(
        repaired.rewritten_objects,
        "whole object of damaged packs",
        "whole objects of damaged packs",
        "written again",
    );
    line(repaired.set_aside.len() as u64, "damaged file", "damaged files", "set aside");
    line(repaired.found_objects, "lost object", "lost objects", "found and stored again");
    line(repaired.written_files.len() as u64, "file of runs' folders", "files of runs' folders", "written again");
    line(u64::from(repaired.rebuilt_index), "index", "indexes", "made again");
    if repaired.is_nothing() && !rewrote_config {
        out += "Nothing to repair\n";
    }
    for path in &repaired.set_aside {
        out += &format!("set aside: {path}\n");
    }
    for run in &repaired.lost_runs {
        out += &format!("lost: the run {run}: its record is in no journal any more\n");
    }
    for problem in &repaired.problems {
        out += &shown(problem);
    }
    let problems = repaired.problems.len() as u64;
    out += &match (problems, dry_run) {
        (0, _) => "Nothing is wrong\n".to_owned(),
        (_, true) => format!("{} now\n", counted(problems, "problem", "problems")),
        (_, false) => format!("{} left\n", counted(problems, "problem", "problems")),
    };
    out
}
