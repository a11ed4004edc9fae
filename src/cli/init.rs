use std::path::PathBuf;

use runsnap::Result;
use runsnap::store::Store;
use runsnap::store::location::STORE_FOLDER;
use serde_json::json;

use super::context::{Context, current_folder};
use super::output::{Outcome, print, print_json};

/// Make a store
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The project's folder, which gets a .runsnap; with --store, that is the store
    #[arg(conflicts_with = "store")]
    dir: Option<PathBuf>,
}

pub fn run(context: &Context, arguments: Arguments) -> Result<Outcome> {
    let folder = match (arguments.dir, context.named_store()) {
        (Some(dir), _) => dir.join(STORE_FOLDER),
        (None, Some(store)) => store.to_owned(),
        (None, None) => current_folder()?.join(STORE_FOLDER),
    };
    let (store, is_new) = Store::init(&folder)?;
    if context.json {
        print_json(&json!({ "path": folder, "store": store.config().store, "created": is_new }))?;
    } else {
        let what = if is_new { "Made a store in" } else { "There is a store already in" };
        print(&format!("{what} {}\n", folder.display()))?;
    }
    Ok(Outcome::Done)
}
