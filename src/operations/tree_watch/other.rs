//! Systems whose notifications are not used.

use std::convert::Infallible;
use std::path::Path;

use super::{Changes, Untrusted};

/// Watches a tree for changes: not on this system.
#[derive(Debug)]
pub struct TreeWatch {
    none: Infallible,
}

impl TreeWatch {
    /// Refuses.
    pub fn new(_root: &Path) -> Result<Self, Untrusted> {
        Err(Untrusted::NoNotifications)
    }

    /// Watches the files of a folder.
    pub fn add_folder(&mut self, _path: &Path) -> Result<usize, Untrusted> {
        match self.none {}
    }

    /// Watches a file under all its names.
    pub fn add_file(&mut self, _folder: usize, _path: &Path) -> Result<(), Untrusted> {
        match self.none {}
    }

    /// Tells what has happened since the last look.
    pub fn take(&mut self) -> Changes {
        match self.none {}
    }
}

/// Whether this system alone changes what is below a folder, and sets its times. There is no telling.
pub fn is_local(_folder: &Path) -> bool {
    false
}
