//! Learns from the kernel whether anything in a tree has changed, without looking at the tree.
//!
//! On Linux a [`TreeWatch`] is an inotify descriptor that is read when somebody asks, and never in between: the kernel
//! queues an event before the call that made the change returns, so a writer that has finished has been told of. There is
//! no thread. On other systems there is nothing here, and [`TreeWatch::new`] says so.
//!
//! Who watches a tree adds each folder *before* listing it, and looks at everything once after that: only what happens
//! after a folder was added is told. What it means for a snapshot that a file has changed is for the caller to find out;
//! that a `.gitignore` decides about other files, for example, is not known here.
//!
//! # What the kernel does not tell
//!
//! - Writes through a shared memory map, and those with Linux's older asynchronous calls (`io_submit`), until the writer
//!   lets go of the map or closes the file: that is told.
//! - Writes through another name of the file (a hard link) in a folder that is not watched, but for files that were
//!   given to [`TreeWatch::add_file`]. That a file gets such a name is not told either.
//! - Writes on another host, or by a program that is a file system: where they are to be expected, it is refused to watch.
//! - Writes below the file system: to the layers of an overlay, or by rolling back to a file system's snapshot.
//! - A file system or a single file that is mounted over a part of the tree, and writes to such a file through its
//!   original name.
//! - What happens above the tree: after one of the folders above has been renamed, its path leads elsewhere.
//!
//! Who cannot live with these looks at the files' stats now and then.

use thiserror::Error;

#[cfg(target_os = "linux")]
mod file_systems;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(not(target_os = "linux"))]
mod other;
#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

#[cfg(target_os = "linux")]
pub use linux::{TreeWatch, is_local};
#[cfg(not(target_os = "linux"))]
pub use other::{TreeWatch, is_local};

/// Why notifications cannot be relied on: a phrase for people, to stand within a sentence.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Untrusted {
    /// The system has none.
    #[error("this system does not tell of changes")]
    NoNotifications,
    /// The kernel is not told of all changes on this file system, or this is not known.
    #[error("{0} may be changed without this system's knowledge")]
    SharedFileSystem(String),
    /// The user's programs watch as many files and folders as they may.
    #[error("too many files and folders are watched (fs.inotify.max_user_watches)")]
    TooManyWatches,
    /// As many of the user's programs watch something as may, or the process has as many files open as it may.
    #[error("too many programs watch files (fs.inotify.max_user_instances), or too many files are open")]
    TooManyWatchers,
    /// Something else.
    #[error("{0}")]
    Failed(String),
}

/// What has happened since the last look.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Nothing.
    None,
    /// Something happened to these files and to no others; sorted, each named once.
    Files(Vec<Changed>),
    /// Anything may have changed: events were lost, a folder came, went, moved or has other permissions. Look at everything
    /// again and make a new [`TreeWatch`]: this one will not say anything else any more.
    All,
}

/// A file to which something happened: it may be new or gone, it may have other content, or nothing that matters.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Changed {
    /// The folder it is in, as numbered by [`TreeWatch::add_folder`].
    pub folder: usize,
    /// Its name there.
    pub name: Vec<u8>,
}
