//! What can be done with a store: one verb a file.

pub mod capture;
mod current_tree;
pub mod detect;
pub mod diff;
pub mod find_run;
pub mod forget;
pub mod gc;
mod git_commit;
pub mod import;
pub mod list;
pub mod log;
mod read_stable;
pub mod reindex;
pub mod repair;
pub mod report;
pub mod restore;
mod restore_folder;
pub mod run_filter;
pub mod run_folder;
mod select;
pub mod session;
mod take_files;
mod target;
mod tree_state;
pub mod tree_watch;
pub mod verify;
#[cfg(target_os = "linux")]
pub mod watch;
