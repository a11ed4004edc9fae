use std::path::PathBuf;

use clap::ValueEnum;
use runsnap::operations::import::{self, Estimate, ImportOptions, Imported};
use runsnap::run_record::Layout;
use runsnap::store::Store;
use runsnap::store::location::{STORE_FOLDER, find_store, looks_like_store};
use runsnap::{Error, Result};
use serde_json::{Value, json};

use super::context::{Context, current_folder};
use super::output::{Bar, Outcome, bytes, counted, print, print_json, warn};

/// Turn copies of code that runs have left into runs, and delete the copies on request
///
/// Everything in a copy is taken: ignored files, caches, and files that are secrets. The same copies imported again change
/// nothing. An import can be interrupted at any time and run again.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folders that hold the copies, a folder for each run in them
    #[arg(required = true, value_name = "DIR")]
    folders: Vec<PathBuf>,
    /// How the copies lie in them
    #[arg(long, value_enum)]
    layout: LayoutArgument,
    /// Delete each original whose content has been read back from the store; all else stays
    #[arg(long)]
    delete_originals: bool,
    /// Tell what would be imported and saved, and touch nothing
    #[arg(long)]
    dry_run: bool,
    /// The sweep that the runs become part of
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// A tag for the runs
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
    /// Print problems alone
    #[arg(long, short)]
    quiet: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum LayoutArgument {
    /// DIR/{id}/code is the copy; DIR/{id}/metadata and DIR/{id}/results stay
    Rustybt,
    /// All of DIR/{id} is the copy
    Copies,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let current = current_folder()?;
    let current = current.canonicalize().map_err(|e| Error::io("find", &current, e))?;
    let options = ImportOptions {
        folders: arguments.folders,
        layout: match arguments.layout {
            LayoutArgument::Rustybt => Layout::Rustybt,
            LayoutArgument::Copies => Layout::Copies,
        },
        current_folder: current,
        delete_originals: arguments.delete_originals,
        sweep: arguments.sweep,
        tags: arguments.tags,
    };
    let folder = store_folder(context, &options)?;
    // What must not be imported is refused before a store is made for it.
    let found = import::find(&options, &resolved(&folder), &Bar::default())?;
    let is_there = context.named_store().is_some() || looks_like_store(&folder);
    if arguments.dry_run {
        let store = if is_there { Some(Store::open(&folder)?) } else { None };
        let estimate = import::estimate(store.as_ref(), found, &options, &Bar::default())?;
        return tell_estimate(context, &estimate, arguments.quiet);
    }
    // A mistyped --store must not quietly become a store of its own.
    let store = if is_there { Store::open(&folder)? } else { Store::init(&folder)?.0 };
    let imported = import::import(&store, found, &options, &Bar::default())?;
    tell(context, &imported, options.delete_originals, arguments.quiet)
}

/// Where the store is, or where it will be made: at the root of the project that the first folder belongs to.
fn store_folder(context: &Context, options: &ImportOptions) -> Result<PathBuf> {
    if let Some(folder) = context.named_store() {
        return std::path::absolute(folder).map_err(|e| Error::io("find", folder, e));
    }
    if let Ok(folder) = find_store(&options.current_folder) {
        return Ok(folder);
    }
    let first = options.folders.first().and_then(|folder| folder.canonicalize().ok());
    let root = import::project_root_of(first.as_deref().unwrap_or(&options.current_folder), &options.current_folder);
    Ok(root.join(STORE_FOLDER))
}

fn resolved(folder: &std::path::Path) -> PathBuf {
    let above = |folder: &std::path::Path| Some(folder.parent()?.canonicalize().ok()?.join(folder.file_name()?));
    folder.canonicalize().ok().or_else(|| above(folder)).unwrap_or_else(|| folder.to_owned())
}

fn tell_estimate(context: &Context, estimate: &Estimate, quiet: bool) -> Result<Outcome> {
    for problem in &estimate.problems {
        warn(problem);
    }
    if context.json {
        let mut told = serde_json::to_value(estimate).unwrap_or_default();
        if let Value::Object(fields) = &mut told {
            fields.insert("dry_run".to_owned(), json!(true));
        }
        print_json(&told)?;
    } else if !quiet {
        let percent = 100.0 * estimate.estimated_saving_bytes as f64 / estimate.allocated_bytes.max(1) as f64;
        print(&format!(
            "Would import {}: {}, {}, {} on disk; {} imported already\n{} of that are distinct and new. The store would \
             grow by at most {} or so; without the originals {} ({percent:.1} %) would be saved\n",
            counted(estimate.runs, "run", "runs"),
            counted(estimate.files, "file", "files"),
            bytes(estimate.bytes),
            bytes(estimate.allocated_bytes),
            counted(estimate.already_imported, "copy", "copies"),
            bytes(estimate.distinct_bytes),
            bytes(estimate.estimated_store_bytes),
            bytes(estimate.estimated_saving_bytes),
        ))?;
    }
    Ok(Outcome::problems_if(!estimate.problems.is_empty()))
}

fn tell(context: &Context, imported: &Imported, deletes: bool, quiet: bool) -> Result<Outcome> {
    for problem in &imported.problems {
        warn(problem);
    }
    for kept in &imported.kept {
        warn(&format!("Stays: {kept}"));
    }
    if context.json {
        print_json(imported)?;
    } else if !quiet {
        for note in &imported.notes {
            print(&format!("note: {note}\n"))?;
        }
        let (runs, nameless) = (imported.runs.len() as u64, imported.nameless());
        let mut out = format!(
            "Imported {}, {} in the store already; {} new in the store\n",
            counted(runs, "run", "runs"),
            counted(imported.already_imported, "copy", "copies"),
            bytes(imported.new_bytes)
        );
        if nameless > 0 {
            out += &format!("{} without a name: that of the folder cannot be one\n", counted(nameless, "run", "runs"));
        }
        if deletes {
            out += &format!(
                "Deleted {}, {}; {} on disk are free\n",
                counted(imported.deleted_files, "original", "originals"),
                bytes(imported.deleted_bytes),
                bytes(imported.freed_bytes)
            );
        }
        if !imported.kept_empty_folders.is_empty() {
            let count = counted(imported.kept_empty_folders.len() as u64, "folder", "folders");
            out += &format!("{count} that were empty before stay: a snapshot has none\n");
        }
        print(&out)?;
    }
    Ok(Outcome::problems_if(imported.has_problems()))
}
