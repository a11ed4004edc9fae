//! What can go wrong, each variant with the path or id that it is about.

use std::io;
use std::path::{Path, PathBuf};

use crate::id::{ObjectId, RunId};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error that ends an operation.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The operating system refused to read or write.
    #[error("Cannot {action} {}: {}", path.display(), plain_io_reason(source))]
    Io {
        /// What was tried, as a verb: `read`, `write`, `flush`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// No store was found from a folder upwards.
    #[error("No store in {} or any folder above it", start.display())]
    NoStore {
        /// Where the search began.
        start: PathBuf,
    },
    /// A folder was named as a store but is none.
    #[error("Not a store: {} ({reason})", path.display())]
    NotAStore {
        /// The folder.
        path: PathBuf,
        /// What is missing.
        reason: String,
    },
    /// A file was written by a newer runsnap in a form that this one does not know.
    #[error("{} has format version {found}, this runsnap reads up to {known}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// The version in the file.
        found: u64,
        /// The newest version known here.
        known: u64,
    },
    /// A store uses a feature that this runsnap does not have.
    #[error("The store {} uses the feature {feature:?}, which this runsnap does not know", path.display())]
    UnknownFeature {
        /// The store.
        path: PathBuf,
        /// The feature's name in config.json.
        feature: String,
    },
    /// The bytes of a file are not what its format or its hash demands.
    #[error("Damaged: {}: {reason}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A frame is a difference to content that is in no readable pack.
    #[error("Damaged: {}: frame at byte {offset}: the content it is a difference to is missing", path.display())]
    MissingBase {
        /// The pack that the frame is in.
        path: PathBuf,
        /// Where the frame begins.
        offset: u64,
    },
    /// An object that something refers to is in no readable pack.
    #[error("Missing from the store: {kind} {id}")]
    Missing {
        /// `chunk`, `file`, `tree` or `snapshot`.
        kind: &'static str,
        /// The id under which it was looked for.
        id: ObjectId,
    },
    /// No run has that id, name or prefix.
    #[error("No run {name:?} in this store")]
    UnknownRun {
        /// What the user wrote.
        name: String,
    },
    /// Several runs match.
    #[error("{name:?} is ambiguous: {}", candidates.join(", "))]
    AmbiguousRun {
        /// What the user wrote.
        name: String,
        /// The first few matches.
        candidates: Vec<String>,
    },
    /// A name was given to a new run that another run has.
    #[error("A run named {name:?} is in the store already")]
    NameInUse {
        /// The name.
        name: String,
    },
    /// A path is not in a snapshot.
    #[error("{path:?} is not in the snapshot of run {run}")]
    NoSuchPath {
        /// The run as the user knows it.
        run: String,
        /// The path as the user wrote it.
        path: String,
    },
    /// A restore into a folder that holds something.
    #[error("Not empty: {}", path.display())]
    NotEmpty {
        /// The folder.
        path: PathBuf,
    },
    /// Another process is merging or deleting files of a store.
    #[error("Another process maintains the store {} just now", store.display())]
    Maintained {
        /// The store.
        store: PathBuf,
    },
    /// Another process watches a tree.
    #[error("Another process{} watches {} already", number(*process), root.display())]
    Watched {
        /// The tree's root.
        root: PathBuf,
        /// The process, where that is known.
        process: Option<u32>,
    },
    /// A watcher has begun with a capture for somebody else and been stopped then: neither dead nor alive.
    #[error("The watcher, process {process}, was stopped while it captured this run as {run}")]
    WatcherStopped {
        /// The watcher.
        process: i32,
        /// The run that may be there, or come.
        run: RunId,
    },
    /// Something was named as a Python, and is none that can be used.
    #[error("Not a Python that can be used: {} ({reason})", path.display())]
    NotAPython {
        /// What was named.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// This system does not show its processes as files.
    #[error("Processes cannot be looked at: there is no {} on this system", folder.display())]
    NoProcessFolder {
        /// Where they would be.
        folder: PathBuf,
    },
    /// No process has that number, or it has ended while it was looked at.
    #[error("There is no process {pid}")]
    NoSuchProcess {
        /// The number.
        pid: u32,
    },
    /// A process belongs to somebody else, and what it runs cannot be read.
    #[error("Process {pid} belongs to another user")]
    ForeignProcess {
        /// Its number.
        pid: u32,
    },
    /// What a process runs cannot be told.
    #[error("Process {pid} {reason}")]
    UnclearProcess {
        /// Its number.
        pid: u32,
        /// Why not: the rest of a sentence.
        reason: String,
    },
    /// Arguments that fit the command line's form but have no meaning.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// Wraps an operating system error with what was tried on which path.
    pub fn io(action: &'static str, path: impl AsRef<Path>, source: io::Error) -> Self {
        Self::Io { action, path: path.as_ref().to_owned(), source }
    }

    /// Reports wrong bytes in a file.
    pub fn damaged(path: impl AsRef<Path>, reason: impl Into<String>) -> Self {
        Self::Damaged { path: path.as_ref().to_owned(), reason: reason.into() }
    }

    /// Whether it says that a file or folder is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }

    /// Whether content is lost or wrong, as opposed to a failed operation.
    pub fn is_damage(&self) -> bool {
        matches!(self, Self::Damaged { .. } | Self::MissingBase { .. } | Self::Missing { .. })
    }
}

/// A process's number as a part of a sentence.
fn number(process: Option<u32>) -> String {
    process.map(|process| format!(" ({process})")).unwrap_or_default()
}

/// The reason without Rust's `(os error 28)`.
fn plain_io_reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.rfind(" (os error ") {
        Some(at) => text.chars().take(at).collect(),
        None => text,
    }
}
