//! What the standard library does before main and is needed here.

use std::fs::File;
use std::os::fd::IntoRawFd;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use rustix::io::{Errno, fcntl_getfd};
use rustix::stdio::{stderr, stdin, stdout};

/// Makes sure that nothing is printed into a file of the store, and that a reader who goes away ends nothing.
pub fn prepare() {
    for standard in [stdin(), stdout(), stderr()] {
        // The next file to be opened would get the number of one that is closed.
        if fcntl_getfd(standard) == Err(Errno::BADF)
            && let Ok(nothing) = File::options().read(true).write(true).open("/dev/null")
        {
            let _ = nothing.into_raw_fd();
        }
    }
    // Whoever writes to a pipe or socket that nobody reads is told so by an error, rather than killed.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGPIPE, Arc::new(AtomicBool::new(false)));
}
