use std::path::{Path, PathBuf};

use runsnap::Result;
use runsnap::operations::capture::{CaptureOptions, Captured, Target};
use serde_json::{Map, Value};

use super::context::{Context, environment, host};
use super::output::{Bar, Outcome, bytes, counted, print, print_json, warn};
use super::program::ProgramArguments;

/// Capture a run: snapshot its code and record it
#[derive(Debug, clap::Args)]
pub struct Arguments {
    #[command(flatten)]
    program: ProgramArguments,
    /// Capture every file below a folder instead, ignored ones aside
    #[arg(long, value_name = "DIR", conflicts_with = "program")]
    tree: Option<PathBuf>,
    /// The run's name: up to 128 of A-Z a-z 0-9 . _ -
    #[arg(long = "run", value_name = "NAME")]
    name: Option<String>,
    /// The run's folder, which gets metadata/manifest.json and metadata/backtest_metadata.json
    #[arg(long, value_name = "DIR")]
    run_dir: Option<PathBuf>,
    /// The sweep that the run is part of
    #[arg(long, value_name = "NAME")]
    sweep: Option<String>,
    /// A parameter of the run; numbers, true, false and null are taken as such
    #[arg(long = "param", value_name = "K=V", value_parser = key_value)]
    params: Vec<(String, Value)>,
    /// A tag
    #[arg(long = "tag", value_name = "T")]
    tags: Vec<String>,
    /// Take in files that are secrets as a whole: .env, private keys, credentials
    #[arg(long)]
    include_secrets: bool,
    /// Print warnings alone
    #[arg(long, short)]
    quiet: bool,
}

/// Takes `key=value` apart; a value that is a JSON number, bool or null is taken as that, any other as text.
pub fn key_value(text: &str) -> Result<(String, Value), String> {
    let (key, value) = text.split_once('=').ok_or("it has no `=`")?;
    if key.is_empty() {
        return Err("nothing stands before the `=`".into());
    }
    let value = match serde_json::from_str(value) {
        Ok(plain @ (Value::Number(_) | Value::Bool(_) | Value::Null)) => plain,
        _ => Value::String(value.to_owned()),
    };
    Ok((key.to_owned(), value))
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let target = match arguments.tree {
        Some(folder) => Target::Tree(folder),
        None => Target::Program(Box::new(arguments.program.target()?)),
    };
    let root = target.root()?;
    let options = CaptureOptions {
        name: arguments.name,
        sweep: arguments.sweep,
        params: arguments.params.into_iter().collect::<Map<_, _>>(),
        tags: arguments.tags,
        run_folder: arguments.run_dir,
        include_secrets: arguments.include_secrets,
        environment: environment(&root),
        host: host(),
        root: Some(root.clone()),
        ..CaptureOptions::new(target)
    };
    let captured = capture(context, &root, &options)?;
    for warning in &captured.warnings {
        warn(warning);
    }
    if context.json {
        print_json(&captured)?;
    } else if !arguments.quiet {
        print(&line(&captured))?;
    }
    Ok(Outcome::problems_if(captured.has_problems))
}

/// A captured run in a line.
pub fn line(captured: &Captured) -> String {
    let label = captured.name.clone().unwrap_or_else(|| captured.run.to_string());
    let new = match captured.new_bytes {
        0 => "nothing new".to_owned(),
        new => format!("{} new in the store", bytes(new)),
    };
    let (snapshot, files) = (captured.snapshot.short(12), counted(captured.files, "file", "files"));
    format!("Captured {label}: snapshot {snapshot}, {files}, {}, {new}\n", bytes(captured.bytes))
}

/// Captures, by the watcher of the tree where there is one.
fn capture(context: &Context, root: &Path, options: &CaptureOptions) -> Result<Captured> {
    let open = || context.open_or_init(root);
    #[cfg(target_os = "linux")]
    {
        let store = context.store_folder(root);
        runsnap::operations::watch::capture_with_watcher(store.as_deref(), open, options, &Bar::default())
    }
    #[cfg(not(target_os = "linux"))]
    runsnap::operations::capture::capture(&open()?, options, &Bar::default())
}
