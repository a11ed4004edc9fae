//! The command line: arguments, what is printed, and exit statuses. The only place that prints or reads the environment.

mod capture;
mod cat;
mod completions;
mod context;
mod detect;
mod diff;
mod forget;
mod gc;
mod import;
mod init;
mod list;
mod log;
mod output;
mod program;
mod reindex;
mod repair;
mod report;
mod report_html;
mod restore;
mod show;
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
pub mod start;
mod verify;
#[cfg(target_os = "linux")]
mod watch;

use std::path::PathBuf;

use clap::{Parser, Subcommand};
use runsnap::Error;

use context::Context;
pub use output::Outcome;

/// Snapshots the exact code of every backtest, deduplicated, and restores it byte for byte
#[derive(Debug, Parser)]
#[command(name = "runsnap", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Arguments {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    command: Command,
}

/// What every command takes.
#[derive(Debug, clap::Args)]
struct Common {
    /// The store's folder [default: $RUNSNAP_STORE, else the nearest .runsnap upwards]
    #[arg(long, global = true, value_name = "DIR")]
    store: Option<PathBuf>,
    /// Print JSON
    #[arg(long, global = true)]
    json: bool,
}

// The one command that is run thousands of times in a row, by itself: to prepare for all the others as well takes an eighth
// of the time of a capture. What its help says is said where its arguments are.
#[derive(Debug, Parser)]
#[command(name = "runsnap capture", bin_name = "runsnap capture")]
struct CaptureAlone {
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    arguments: capture::Arguments,
}

/// Reads the command line; ends the process where it asks for help or is wrong.
fn parse() -> (Common, Command) {
    let mut arguments = std::env::args_os().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == "capture") {
        let CaptureAlone { common, arguments } = CaptureAlone::parse_from(arguments);
        return (common, Command::Capture(arguments));
    }
    let Arguments { common, command } = Arguments::parse();
    (common, command)
}

#[derive(Debug, Subcommand)]
enum Command {
    Init(init::Arguments),
    Capture(capture::Arguments),
    Detect(detect::Arguments),
    Log(log::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Cat(cat::Arguments),
    Diff(diff::Arguments),
    Restore(restore::Arguments),
    Report(report::Arguments),
    Import(import::Arguments),
    Forget(forget::Arguments),
    #[cfg(target_os = "linux")]
    Watch(watch::Arguments),
    Verify(verify::Arguments),
    Repair(repair::Arguments),
    Reindex(reindex::Arguments),
    Gc(gc::Arguments),
    Completions(completions::Arguments),
}

/// Done.
const DONE: u8 = 0;
/// Failed.
const FAILED: u8 = 1;
/// Wrong usage; clap uses the same number.
const USAGE: u8 = 2;
/// Done, but with problems that the output names.
const PROBLEMS: u8 = 3;

/// Runs the command that the arguments name; the exit status.
pub fn main() -> u8 {
    let (Common { store, json }, command) = parse();
    let context = Context::new(store, json);
    let result = match command {
        Command::Init(arguments) => init::run(&context, arguments),
        Command::Capture(arguments) => capture::run(&context, arguments),
        Command::Detect(arguments) => detect::run(&context, arguments),
        Command::Log(arguments) => log::run(&context, arguments),
        Command::List(arguments) => list::run(&context, arguments),
        Command::Show(arguments) => show::run(&context, &arguments),
        Command::Cat(arguments) => cat::run(&context, &arguments),
        Command::Diff(arguments) => diff::run(&context, &arguments),
        Command::Restore(arguments) => restore::run(&context, arguments),
        Command::Report(arguments) => report::run(&context, &arguments),
        Command::Import(arguments) => import::run(&context, arguments),
        Command::Forget(arguments) => forget::run(&context, arguments),
        #[cfg(target_os = "linux")]
        Command::Watch(arguments) => watch::run(&context, arguments),
        Command::Verify(arguments) => verify::run(&context, &arguments),
        Command::Repair(arguments) => repair::run(&context, arguments),
        Command::Reindex(arguments) => reindex::run(&context, &arguments),
        Command::Gc(arguments) => gc::run(&context, &arguments),
        Command::Completions(arguments) => completions::run(&arguments),
    };
    match result {
        Ok(Outcome::Done) if context.has_problems() => PROBLEMS,
        Ok(Outcome::Done) => DONE,
        Ok(Outcome::WithProblems) => PROBLEMS,
        Err(error) => {
            output::error(&error);
            if matches!(error, Error::Usage(_)) { USAGE } else { FAILED }
        }
    }
}
