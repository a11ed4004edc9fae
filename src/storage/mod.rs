//! The only door to the files of a store and of a run folder.
//!
//! Everything durable is written through [`Storage`], so that a test can record the operations, cut power between any
//! two of them or refuse the n-th. The SQLite index is the one exception: it is a cache, and SQLite opens its own file.
//!
//! Paths are relative to the storage's root and use `/`.

mod listing;
mod local;
mod without;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use local::LocalStorage;
pub use without::Without;

use crate::error::Result;

/// A file in a folder of the storage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StoredFile {
    /// The name within its folder.
    pub name: String,
    /// The length in bytes.
    pub bytes: u64,
    /// Changes when the file is written to or replaced, as far as the storage can tell.
    pub stamp: u64,
}

/// A file open for reading, which can be read to its end even once its name is gone.
pub trait ReadFile: Send + Sync {
    /// Reads `bytes` bytes from `offset`; fewer only where the file ends.
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>>;
    /// The length of the file.
    fn length(&self) -> Result<u64>;
}

/// A file open for writing, in which what is there can be read as well.
pub trait WriteFile: ReadFile {
    /// Appends all of `bytes`.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
    /// Appends all of several pieces.
    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<()> {
        parts.iter().try_for_each(|bytes| self.write(bytes))
    }
    /// Returns once what was written is on the disk.
    fn sync(&mut self) -> Result<()>;
}

/// An exclusive lock that ends when it is dropped or when its process dies.
pub trait Lock: Send + Sync {
    /// Reads from the locked file; fewer than `bytes` bytes only where it ends.
    fn read_note(&self, offset: u64, bytes: usize) -> Result<Vec<u8>>;
    /// Writes into the locked file, over what stands there. Nothing is flushed.
    fn write_note(&mut self, offset: u64, note: &[u8]) -> Result<()>;
}

/// Files under one root, and the operations that a store needs on them.
///
/// A rename replaces the target. New names, renames and removals are durable only after [`Storage::sync_folder`].
pub trait Storage: Send + Sync {
    /// The root, for messages.
    fn root(&self) -> &Path;
    /// The same kind of storage at another root.
    fn at(&self, root: &Path) -> Arc<dyn Storage>;
    /// Makes a folder and those above it, unless they are there; whether it is new.
    fn create_folder(&self, path: &str) -> Result<bool>;
    /// Creates a file that must not exist yet.
    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>>;
    /// Opens an existing file to append to it.
    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>>;
    /// Moves a file, replacing the target.
    fn rename(&self, from: &str, to: &str) -> Result<()>;
    /// Removes a file.
    fn remove(&self, path: &str) -> Result<()>;
    /// Makes the names in a folder durable.
    fn sync_folder(&self, path: &str) -> Result<()>;
    /// Reads a whole file of at most `limit` bytes.
    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>>;
    /// Reads `bytes` bytes from `offset`; fewer only where the file ends.
    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>>;
    /// Opens a file to read it; `None` where this storage reads by name alone.
    fn open(&self, path: &str) -> Result<Option<Box<dyn ReadFile>>> {
        let _ = path;
        Ok(None)
    }
    /// Looks at a file.
    fn look(&self, path: &str) -> Result<StoredFile>;
    /// The length of a file.
    fn length(&self, path: &str) -> Result<u64> {
        Ok(self.look(path)?.bytes)
    }
    /// The files (not folders) in a folder, sorted by name; empty where the folder is missing.
    fn list(&self, path: &str) -> Result<Vec<StoredFile>>;
    /// Takes the exclusive lock of a file, making the file where it is missing; `None` where another holds it.
    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>>;

    /// The path of a file, for messages and for SQLite.
    fn full_path(&self, path: &str) -> PathBuf {
        self.root().join(path)
    }
}

/// Writes a small file so that it is there whole or not at all: under a temporary name, then renamed.
///
/// With `durable` it also survives a power cut once this returns.
pub fn write_whole(storage: &dyn Storage, temporary: &str, path: &str, bytes: &[u8], durable: bool) -> Result<()> {
    write_parts(storage, temporary, path, &[bytes], durable)
}

/// As [`write_whole`], for content that would have to be put together first.
pub fn write_parts(storage: &dyn Storage, temporary: &str, path: &str, parts: &[&[u8]], durable: bool) -> Result<()> {
    let written = storage.create(temporary).and_then(|mut file| {
        file.write_parts(parts)?;
        if durable { file.sync() } else { Ok(()) }
    });
    if let Err(error) = written.and_then(|()| storage.rename(temporary, path)) {
        // The first error is the one to report; a leftover that cannot be removed is swept up by gc.
        let _ = storage.remove(temporary);
        return Err(error);
    }
    if durable {
        storage.sync_folder(parent(path))?;
    }
    Ok(())
}

/// Removes a file, unless it is gone already; whether it was there.
pub fn remove_if_there(storage: &dyn Storage, path: &str) -> Result<bool> {
    match storage.remove(path) {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// A file that is opened anew for each read.
struct ByName {
    storage: Arc<dyn Storage>,
    path: String,
}

impl ReadFile for ByName {
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.storage.read_range(&self.path, offset, bytes)
    }

    fn length(&self) -> Result<u64> {
        self.storage.length(&self.path)
    }
}

/// Opens a file to read parts of it.
pub fn open_file(storage: &Arc<dyn Storage>, path: &str) -> Result<Box<dyn ReadFile>> {
    match storage.open(path)? {
        Some(file) => Ok(file),
        None => Ok(Box::new(ByName { storage: Arc::clone(storage), path: path.to_owned() })),
    }
}

/// The folder of a storage path, empty for the root.
pub fn parent(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
