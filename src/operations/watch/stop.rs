//! How a watcher is woken up, and told to end.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Ends a watcher: set the flag, then write a byte, as the handler of a signal can.
#[derive(Debug)]
pub struct Stop {
    flag: Arc<AtomicBool>,
    read: UnixStream,
    write: UnixStream,
}

impl Stop {
    /// Not stopped yet.
    pub fn new() -> io::Result<Self> {
        let (read, write) = UnixStream::pair()?;
        // Where nobody has read for long, one byte more or less does not matter.
        read.set_nonblocking(true)?;
        write.set_nonblocking(true)?;
        Ok(Self { flag: Arc::default(), read, write })
    }

    /// What is to be set first.
    pub fn flag(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.flag)
    }

    /// What a byte is to be written to then.
    pub fn writer(&self) -> io::Result<UnixStream> {
        self.write.try_clone()
    }

    pub(super) fn is_set(&self) -> bool {
        self.flag.load(Ordering::SeqCst)
    }

    /// What is readable when there may be something to do.
    pub(super) fn readable(&self) -> BorrowedFd<'_> {
        self.read.as_fd()
    }

    /// Reads all bytes, so that the next one wakes.
    pub(super) fn drain(&self) {
        let mut bytes = [0; 64];
        while (&self.read).read(&mut bytes).is_ok_and(|count| count == bytes.len()) {}
    }
}

/// Wakes a watcher.
pub(super) fn wake(mut writer: &UnixStream) {
    // If it cannot take another byte, it has enough to wake up by.
    let _ = writer.write(&[0]);
}
