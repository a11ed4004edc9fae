//! The store: opens or makes it, and joins packs, journals and index into one.

mod catalog;
mod compaction;
mod config;
mod files;
mod held_journals;
mod known_names;
pub mod location;
mod maintenance;
mod merge_leftovers;
mod merge_packs;
mod merge_runs;
mod merge_sweep;
pub mod name_filters;
mod objects;
mod pack_keys;
mod reachable;
mod read_chunks;
mod recent_versions;
mod run_files;
mod run_index;
mod run_join;
mod runs;
pub mod slot;
mod writer;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use crate::chunker::Chunker;
use crate::error::{Error, Result};
use crate::file_header::Header;
use crate::forked;
use crate::id::{StoreId, random_bytes, random_name};
use crate::journal;
use crate::pack::Pack;
use crate::storage::{LocalStorage, Storage};

pub use catalog::{Catalog, INDEX_PATH, PACK_ENDING, PACKS, Place, list_packs};
pub use compaction::{Compacted, CompactionOptions};
pub use config::{CONFIG_PATH, Config, Features};
pub use files::{Files, OUTSIDE_FOLDER};
pub use known_names::{KnownNames, NAMES_PATH};
pub use maintenance::{CONDEMNED_PATH, Maintenance, Swept};
pub use merge_packs::{MergedPacks, SETTLED_TIER};
pub use merge_runs::{MergeExtent, MergedRuns};
pub use objects::{FrameCache, ObjectBytes};
pub use reachable::{Reached, ReachedFile, ReachedSnapshot, ReachedTree};
pub use recent_versions::RecentVersions;
pub use run_files::{JournalProblem, merged_into};
pub use run_join::Run;
pub use runs::{Found, RowRef, Runs};
pub use writer::Writer;

/// The folder of what captures have seen of working trees: a cache.
pub const STATES: &str = "states";
/// The file that keeps a store in a project's root out of git.
const GITIGNORE_PATH: &str = ".gitignore";

/// An open store.
pub struct Store {
    storage: Arc<dyn Storage>,
    config: Config,
    /// config.json as it was when the store was opened.
    config_text: Vec<u8>,
    config_problem: Option<Error>,
    catalog: Catalog,
    frames: FrameCache,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Store({:?}, {})", self.storage.root(), self.config.store)
    }
}

impl Store {
    /// Opens the store in a folder of the local file system.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_in(Arc::new(LocalStorage::new(folder)))
    }

    /// Opens the store at the root of `storage`.
    ///
    /// Where config.json is missing or damaged but packs or journals are there, the store opens for reading alone, and
    /// [`Store::config_problem`] says why.
    pub fn open_in(storage: Arc<dyn Storage>) -> Result<Self> {
        forked::note_process();
        let not_a_store =
            |reason: &str| Error::NotAStore { path: storage.root().to_owned(), reason: reason.to_owned() };
        let text = storage.read(CONFIG_PATH, config::MAX_BYTES);
        let read = text.and_then(|text| Config::decode(&*storage, &text).map(|config| (config, text)));
        let mut config_text = Vec::new();
        let read = read.map(|(config, text)| {
            config_text = text;
            config
        });
        let (config, config_problem) = match read {
            Ok(config) => (config, None),
            Err(error) if error.is_not_found() || error.is_damage() => match recover_id(&*storage) {
                Some(id) => {
                    let problem = if error.is_not_found() {
                        Error::damaged(storage.full_path(CONFIG_PATH), "the file is missing")
                    } else {
                        error
                    };
                    (Config::new(id, Chunker::default()), Some(problem))
                }
                None if !storage.root().exists() => return Err(not_a_store("there is no such folder")),
                None if error.is_not_found() => return Err(not_a_store("it has no config.json")),
                None => return Err(error),
            },
            Err(error) => return Err(error),
        };
        let catalog = Catalog::new(Arc::clone(&storage), config.store, config.generation);
        Ok(Self { storage, config, config_text, config_problem, catalog, frames: FrameCache::default() })
    }

    /// Makes a store in a folder of the local file system, or opens the one that is there; whether it is new.
    pub fn init(folder: &Path) -> Result<(Self, bool)> {
        Self::init_in(Arc::new(LocalStorage::new(folder)), Chunker::default())
    }

    /// Makes a store at the root of `storage`, or opens the one that is there; whether it is new.
    ///
    /// Where config.json is lost, it is written again under the id that packs and journals have.
    pub fn init_in(storage: Arc<dyn Storage>, chunker: Chunker) -> Result<(Self, bool)> {
        match Self::open_in(Arc::clone(&storage)) {
            Ok(store) if store.config_problem.is_none() => return Ok((store, false)),
            Err(error @ (Error::NewerFormat { .. } | Error::UnknownFeature { .. })) => return Err(error),
            _ => {}
        }
        if !chunker.is_valid() {
            return Err(Error::Usage(format!("Impossible chunk sizes: {chunker:?}")));
        }
        make_folders(&*storage, true)?;
        // Two processes may make one store at the same time: the lock lets one write config.json, the other then opens it.
        let lock = loop {
            if let Some(lock) = storage.try_lock(&format!("{}/init", slot::FOLDER))? {
                break lock;
            }
            std::thread::sleep(std::time::Duration::from_millis(1));
        };
        let missing = match Config::read(&*storage) {
            Ok(_) => false,
            Err(error) if error.is_not_found() || error.is_damage() => true,
            Err(error) => return Err(error),
        };
        if missing {
            let temporary = |what: &str| format!("{}/init-{what}-{}.tmp", slot::TEMPORARY, random_name());
            crate::storage::write_whole(&*storage, &temporary("ignore"), GITIGNORE_PATH, b"*\n", false)?;
            let id = recover_id(&*storage).unwrap_or_else(|| StoreId(random_bytes()));
            // config.json comes last: a folder without it is no store yet.
            Config::new(id, chunker).write(&*storage, &temporary("config"))?;
        }
        drop(lock);
        Ok((Self::open_in(storage)?, missing))
    }

    /// Its files.
    pub fn storage(&self) -> &Arc<dyn Storage> {
        &self.storage
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Why config.json could not be used, where it could not.
    pub fn config_problem(&self) -> Option<&Error> {
        self.config_problem.as_ref()
    }

    /// Its packs.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Notes in config.json that packs are about to be deleted, so that nobody goes by what was known of them.
    fn raise_generation(&self, temporary: &str) -> Result<()> {
        let mut config = Config::read(&*self.storage)?;
        config.generation += 1;
        config.write(&*self.storage, temporary)
    }

    /// The packs that a gc was deleting when it was killed, or is deleting now. Nothing needs them, and what they are
    /// differences to may be gone.
    pub fn half_deleted_packs(&self) -> Result<HashSet<String>> {
        maintenance::half_deleted(&*self.storage)
    }

    /// The generation as it is now.
    fn generation_now(&self) -> Result<u64> {
        let text = self.storage.read(CONFIG_PATH, config::MAX_BYTES)?;
        if text == self.config_text {
            return Ok(self.config.generation);
        }
        Config::decode(&*self.storage, &text).map(|config| config.generation)
    }

    /// Whether the generation is another one than when this store was opened.
    pub fn has_been_raised(&self) -> bool {
        self.generation_now().is_ok_and(|generation| generation != self.config.generation)
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        if let Some(problem) = &self.config_problem {
            return Err(Error::damaged(
                self.storage.full_path(CONFIG_PATH),
                format!(
                    "{problem}; nothing is written until `runsnap init --store {}` has made it again",
                    self.storage.root().display()
                ),
            ));
        }
        match self.config.features.read_only_compatible.first() {
            Some(feature) => {
                Err(Error::UnknownFeature { path: self.storage.root().to_owned(), feature: feature.clone() })
            }
            None => Ok(()),
        }
    }
}

/// Makes the folders of a store that are missing, so that they survive a power cut.
///
/// A copy of a store may have lost its empty folders, which is no reason to refuse it.
fn make_folders(storage: &dyn Storage, is_init: bool) -> Result<()> {
    let root = std::path::absolute(storage.root()).map_err(|e| Error::io("find", storage.root(), e))?;
    let missing = root.ancestors().take_while(|folder| !folder.exists()).count();
    storage.create_folder("")?;
    // An init that was killed, or one under way beside this one, may have made folders that nobody has flushed.
    for beside in root.ancestors().skip(1).take(missing.max(usize::from(is_init))) {
        storage.at(beside).sync_folder("")?;
    }
    let mut is_new = is_init;
    for folder in [PACKS, slot::JOURNALS, slot::FOLDER, slot::TEMPORARY] {
        is_new |= storage.create_folder(folder)?;
    }
    if is_new { storage.sync_folder("") } else { Ok(()) }
}

/// Makes a file, and first the store's folders where one is missing: what copies a store may leave out those that are empty.
fn with_folders<T>(storage: &dyn Storage, make: impl Fn() -> Result<T>) -> Result<T> {
    match make() {
        Err(error) if error.is_not_found() => {
            make_folders(storage, false)?;
            make()
        }
        made => made,
    }
}

/// The id that the first readable pack or journal says its store has.
fn recover_id(storage: &dyn Storage) -> Option<StoreId> {
    let from_pack = list_packs(storage)
        .ok()?
        .iter()
        .find_map(|file| Pack::open(storage, &format!("{PACKS}/{}", file.name)).ok())
        .map(|pack| pack.store);
    from_pack.or_else(|| {
        storage.list(slot::JOURNALS).ok()?.iter().find_map(|file| {
            let path = format!("{}/{}", slot::JOURNALS, file.name);
            match journal::FILE.decode(&storage.read_range(&path, 0, journal::HEADER_BYTES).ok()?) {
                Ok(Header::Known(id)) => Some(id),
                _ => None,
            }
        })
    })
}
