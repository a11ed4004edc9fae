//! Group commit: the thread of a session that flushes what its runs have written.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::storage::WriteFile;
use crate::store::Store;
use crate::store::slot::{JOURNALS, Slot};

/// How long a record waits to be flushed, at most, and how long what is known of the store is relied on.
pub const FLUSH_EVERY: Duration = Duration::from_millis(50);

/// What the thread that flushes shares with the session.
#[derive(Default)]
pub struct Shared {
    pub slot: Option<Slot>,
    /// When the first record was written that is not flushed.
    pub dirty_since: Option<Instant>,
    pub last_run: Option<Instant>,
    pub flushes: u64,
    pub failed: Option<Error>,
    pub is_over: bool,
}

#[derive(Default)]
pub struct Flushing {
    shared: Mutex<Shared>,
    pub wake: Condvar,
}

impl Flushing {
    pub fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flushes what is not. Captures go on meanwhile: the lock is held for a moment at its beginning and end.
    pub fn flush(&self, store: &Store, open: &mut Option<(String, Box<dyn WriteFile>)>) -> Result<()> {
        let (journal, bytes) = {
            let mut shared = self.shared();
            let Some((journal, bytes)) = shared.slot.as_ref().and_then(Slot::journal) else { return Ok(()) };
            let found = (journal.to_owned(), bytes);
            if shared.dirty_since.take().is_none() {
                return Ok(());
            }
            found
        };
        let flushed = (|| {
            let is_open = open.as_ref().is_some_and(|(name, _)| *name == journal);
            if !is_open {
                *open = Some((journal.clone(), store.storage().append(&format!("{JOURNALS}/{journal}"))?));
            }
            open.as_mut().map_or(Ok(()), |(_, file)| file.sync())
        })();
        let mut shared = self.shared();
        match &flushed {
            Ok(()) => {
                shared.flushes += 1;
                if let Some(slot) = &mut shared.slot {
                    slot.note_flushed(&journal, bytes);
                }
            }
            // Nobody knows what of the journal is on the disk: the next record goes into a new one.
            Err(_) => {
                *open = None;
                if let Some(slot) = &mut shared.slot {
                    slot.give_up_journal();
                }
            }
        }
        flushed
    }

    /// What the thread does until the session is over.
    pub fn run(&self, store: &Store) {
        let mut open = None;
        loop {
            {
                let mut shared = self.shared();
                loop {
                    if shared.is_over {
                        return;
                    }
                    let wait = match (shared.dirty_since, shared.last_run) {
                        (Some(since), _) => FLUSH_EVERY.saturating_sub(since.elapsed()),
                        // The slot is given back once no run has come for a while.
                        (None, Some(last)) if shared.slot.is_some() => FLUSH_EVERY.saturating_sub(last.elapsed()),
                        _ => Duration::MAX,
                    };
                    if wait.is_zero() {
                        break;
                    }
                    shared = if wait == Duration::MAX {
                        self.wake.wait(shared).unwrap_or_else(PoisonError::into_inner)
                    } else {
                        self.wake.wait_timeout(shared, wait).unwrap_or_else(PoisonError::into_inner).0
                    };
                }
            }
            if let Err(error) = self.flush(store, &mut open) {
                self.shared().failed.get_or_insert(error);
            }
            let mut shared = self.shared();
            let is_idle = shared.last_run.is_none_or(|last| last.elapsed() >= FLUSH_EVERY);
            if shared.dirty_since.is_none() && is_idle {
                // Maintenance need not wait for a session that rests.
                shared.slot = None;
            }
        }
    }
}
