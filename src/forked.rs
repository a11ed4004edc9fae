//! What a process that was forked from another cannot use of what it has inherited.
//!
//! A fork takes no threads along. The pool among whose threads all divide their work then has none, and who gives it work
//! waits for ever; and any lock may be held by a thread that is not there, those inside SQLite among them.

use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, Result};

/// The siblings of a forked process want the cores as well.
const THREADS: usize = 2;

/// The process that was the first to open a store; 0 before.
static FIRST_PROCESS: AtomicU32 = AtomicU32::new(0);

/// Notes that this process may have threads and SQLite in use from now on.
pub fn note_process() {
    let _ = FIRST_PROCESS.compare_exchange(0, std::process::id(), Ordering::Relaxed, Ordering::Relaxed);
}

/// Whether this process was forked from one that had opened a store.
pub fn is_forked() -> bool {
    let first = FIRST_PROCESS.load(Ordering::Relaxed);
    first != 0 && first != std::process::id()
}

/// Threads of a forked process's own; the path is for the message.
pub fn pool(root: &Path) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(THREADS).build();
    pool.map_err(|error| Error::io("start threads for", root, io::Error::other(error)))
}
