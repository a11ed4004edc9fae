//! The index, opened when it is first needed.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use super::{INDEX_PATH, locked};
use crate::forked::is_forked;
use crate::id::StoreId;
use crate::index::{Index, IndexError, busy, is_busy};
use crate::storage::Storage;
use crate::store::Config;

/// The index of a store in one generation.
pub(super) struct OpenIndex {
    storage: Arc<dyn Storage>,
    path: PathBuf,
    store: StoreId,
    generation: u64,
    state: Mutex<State>,
}

#[derive(Default)]
enum State {
    #[default]
    Unopened,
    Absent,
    Open(Index),
}

impl OpenIndex {
    pub fn new(storage: Arc<dyn Storage>, store: StoreId, generation: u64) -> Self {
        let path = storage.full_path(INDEX_PATH);
        Self { storage, path, store, generation, state: Mutex::default() }
    }

    pub fn path(&self) -> PathBuf {
        self.path.clone()
    }

    pub fn is_opened(&self) -> bool {
        matches!(*locked(&self.state), State::Open(_))
    }

    /// Runs `question` on the index, which is opened if it was not; `None` where there is none, and in a forked process.
    pub fn ask<T>(&self, question: impl FnOnce(&Index) -> T) -> Option<T> {
        if is_forked() {
            return None;
        }
        let mut state = locked(&self.state);
        if matches!(*state, State::Unopened) {
            let opened = Index::open(&self.path, self.store, self.generation);
            *state = opened.map_or(State::Absent, State::Open);
        }
        match &*state {
            State::Open(index) => Some(question(index)),
            _ => None,
        }
    }

    /// Does without it from now on.
    pub fn give_up(&self) {
        *locked(&self.state) = State::Absent;
    }

    /// Opens the index for writing, makes it where there is none, and leaves it open. To a forked process it is busy.
    pub fn write<T>(&self, write: impl Fn(&mut Index) -> Result<T, IndexError>) -> Result<T, IndexError> {
        if is_forked() {
            return Err(busy());
        }
        let mut state = locked(&self.state);
        let is_raised = || Config::read(&*self.storage).is_ok_and(|config| config.generation != self.generation);
        let open = || Index::open_or_create(&self.path, self.store, self.generation, &is_raised);
        let mut index = match std::mem::take(&mut *state) {
            State::Open(index) => index,
            _ => open()?,
        };
        let mut written = write(&mut index);
        if written.as_ref().is_err_and(|error| !is_busy(error)) {
            // Somebody has removed the index since it was opened, to make it anew.
            drop(index);
            index = open()?;
            written = write(&mut index);
        }
        *state = State::Open(index);
        written
    }
}
