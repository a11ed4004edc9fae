//! A storage as it would be without some of its files.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use super::{Lock, Storage, StoredFile, WriteFile};
use crate::error::Result;

/// Lists all files of another storage but some: what a store would still have if they were gone.
pub struct Without {
    storage: Arc<dyn Storage>,
    hidden: BTreeSet<String>,
}

impl Without {
    /// Hides the files with these paths from listings.
    pub fn new(storage: Arc<dyn Storage>, hidden: BTreeSet<String>) -> Self {
        Self { storage, hidden }
    }
}

impl Storage for Without {
    fn root(&self) -> &Path {
        self.storage.root()
    }

    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        self.storage.at(root)
    }

    fn create_folder(&self, path: &str) -> Result<bool> {
        self.storage.create_folder(path)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        self.storage.create(path)
    }

    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        self.storage.append(path)
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        self.storage.rename(from, to)
    }

    fn remove(&self, path: &str) -> Result<()> {
        self.storage.remove(path)
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        self.storage.sync_folder(path)
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        self.storage.read(path, limit)
    }

    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        self.storage.read_range(path, offset, bytes)
    }

    fn look(&self, path: &str) -> Result<StoredFile> {
        self.storage.look(path)
    }

    fn list(&self, path: &str) -> Result<Vec<StoredFile>> {
        let mut files = self.storage.list(path)?;
        files.retain(|file| !self.hidden.contains(&format!("{path}/{}", file.name)));
        Ok(files)
    }

    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>> {
        self.storage.try_lock(path)
    }
}
