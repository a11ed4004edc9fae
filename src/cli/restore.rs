use std::path::PathBuf;

use runsnap::Result;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::store::OUTSIDE_FOLDER;

use super::context::Context;
use super::output::{Bar, Outcome, bytes, counted, print, print_json, warn};

/// Write the exact files of a run into a folder
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The run: id, name, a unique prefix of either, `latest`, `latest~2`, or its folder
    run: String,
    /// The folder, which must be new or empty
    #[arg(long, short, value_name = "DIR")]
    output: PathBuf,
    /// Restore these files and folders alone
    paths: Vec<PathBuf>,
    /// Write into a folder that is not empty: files of the same names are replaced, all others stay
    #[arg(long)]
    force: bool,
    /// Print problems alone
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let store = context.open()?;
    let runs = context.runs(&store)?;
    let run = context.find(&store, &runs, &arguments.run)?;
    let options = RestoreOptions { output: arguments.output, paths: arguments.paths, force: arguments.force };
    let restored = restore(&store, &run, &options, &Bar::default())?;
    for problem in &restored.problems {
        warn(problem);
    }
    if context.json {
        print_json(&restored)?;
    } else if !arguments.quiet {
        print(&format!(
            "Restored {} into {}: {}, {}\n",
            run.label(),
            restored.output.display(),
            counted(restored.files, "file", "files"),
            bytes(restored.bytes)
        ))?;
        for (label, folder) in &run.start.outside {
            let place = restored.output.join(OUTSIDE_FOLDER).join(label);
            print(&format!("Files of {folder}, outside of the project, are in {}\n", place.display()))?;
        }
    }
    Ok(Outcome::problems_if(!restored.problems.is_empty()))
}
