use std::collections::HashSet;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use runsnap::operations::capture::{Captured, Target};
use runsnap::operations::watch::{News, Stop, WatchOptions, watch};
use runsnap::{Error, Result};
use serde_json::{Value, json};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};

use super::capture::line;
use super::context::{Context, environment, host};
use super::output::{Outcome, print_if_read, warn};

/// Snapshot a tree whenever it changes, and keep captures of it nearly free
///
/// Each state of the tree becomes a run without a name, tagged `watch`. `runsnap capture --tree` of the same folder is
/// answered by the watcher. Ends on Ctrl-C.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The folder
    #[arg(default_value = ".")]
    dir: PathBuf,
    /// Wait until nothing has changed for so many milliseconds, though not for longer than 2 s
    #[arg(long, value_name = "MS", default_value_t = 200)]
    debounce: u64,
    /// Take in files that are secrets as a whole: .env, private keys, credentials
    #[arg(long)]
    include_secrets: bool,
    /// Print warnings alone
    #[arg(long, short)]
    quiet: bool,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let tree = Target::Tree(arguments.dir).root()?;
    let store = context.open_or_init(&tree)?;
    let stop = Stop::new().and_then(|stop| end_by_signals(&stop).map(|()| stop));
    let stop = stop.map_err(|e| Error::io("handle signals in", &tree, e))?;
    let options = WatchOptions {
        environment: environment(&tree),
        host: host(),
        tree,
        include_secrets: arguments.include_secrets,
        debounce: Duration::from_millis(arguments.debounce),
    };
    let mut teller = Teller { json: context.json, quiet: arguments.quiet, told: HashSet::new() };
    watch(store, &options, &stop, &mut |news| teller.tell(&news))?;
    Ok(Outcome::Done)
}

/// The first of these signals ends the watcher once it has finished what it is at, the second at once.
fn end_by_signals(stop: &Stop) -> io::Result<()> {
    let was_told: Arc<AtomicBool> = stop.flag();
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        signal_hook::flag::register_conditional_default(signal, Arc::clone(&was_told))?;
        signal_hook::flag::register(signal, Arc::clone(&was_told))?;
        signal_hook::low_level::pipe::register(signal, stop.writer()?)?;
    }
    Ok(())
}

/// Prints the news.
struct Teller {
    json: bool,
    quiet: bool,
    /// What has been warned of: a file that is left out is left out of each snapshot.
    told: HashSet<String>,
}

impl Teller {
    fn tell(&mut self, news: &News<'_>) {
        let (what, text, json) = match news {
            News::Watching(root) => ("watching", format!("Watching {}\n", root.display()), json!({ "root": root })),
            News::Changed(captured) => ("changed", self.captured(captured), json!(captured)),
            News::Answered(captured) => ("answered", self.captured(captured), json!(captured)),
            News::Problem(problem) => return warn(problem),
        };
        match (self.json, self.quiet) {
            (true, _) => print_if_read(&format!("{}\n", Value::from_iter([("news", json!(what)), (what, json)]))),
            (false, true) => {}
            (false, false) => print_if_read(&text),
        }
    }

    fn captured(&mut self, captured: &Captured) -> String {
        for warning in &captured.warnings {
            if self.told.insert(warning.clone()) {
                warn(warning);
            }
        }
        line(captured)
    }
}
