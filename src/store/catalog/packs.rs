//! The packs folder as it was last listed, and those of its packs that have been opened.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::pack::Pack;
use crate::storage::StoredFile;

/// A pack in the folder. What is known of it outlives the listing, as long as the file is there.
pub(super) struct PackFile {
    pub name: String,
    pub stamp: u64,
    /// The opened pack; `None` inside where it cannot be opened.
    pub pack: OnceLock<Option<Arc<Pack>>>,
    /// Whether its table was found to be too long to be read without having asked the index first.
    pub is_large: AtomicBool,
    /// The keys of its objects, sorted, with their places in [`Pack::objects`].
    by_key: OnceLock<Vec<(u64, u32)>>,
}

impl PackFile {
    pub fn new(name: String, stamp: u64) -> Self {
        Self { name, stamp, pack: OnceLock::new(), is_large: AtomicBool::new(false), by_key: OnceLock::new() }
    }

    /// The pack, if it has been opened and could be.
    pub fn opened(&self) -> Option<&Arc<Pack>> {
        self.pack.get()?.as_ref()
    }

    /// The places in [`Pack::objects`] of the opened pack that have a key. With `sorts` the keys are sorted for it, unless they
    /// are: that takes as long as going through the table a few times.
    pub fn ordinals(&self, key: u64, sorts: bool) -> Vec<usize> {
        let Some(pack) = self.opened() else { return Vec::new() };
        let objects = pack.objects.iter().enumerate();
        if !sorts && self.by_key.get().is_none() {
            return objects.filter(|(_, object)| object.name.key() == key).map(|(ordinal, _)| ordinal).collect();
        }
        let by_key = self.by_key.get_or_init(|| {
            let mut keys: Vec<(u64, u32)> = objects.map(|(n, object)| (object.name.key(), n as u32)).collect();
            keys.sort_unstable();
            keys
        });
        let first = by_key.partition_point(|(known, _)| *known < key);
        let found = by_key.get(first..).unwrap_or_default().iter().take_while(|(known, _)| *known == key);
        found.map(|(_, ordinal)| *ordinal as usize).collect()
    }
}

/// What is known of the packs folder.
#[derive(Default)]
pub(super) struct Listing {
    pub files: Vec<Arc<PackFile>>,
    by_name: HashMap<String, usize>,
    /// Place in `files` by the index's number.
    pub indexed: HashMap<i64, usize>,
    /// Which packs' tables have been read, or found to be unreadable, by place in `files`. Where a key is in these needs no index.
    pub in_memory: Vec<bool>,
    /// Whether the folder has been listed since somebody asked for that.
    pub is_listed: bool,
    /// Whether all that was listed is in memory or known to be in the index.
    pub is_taken_in: bool,
}

impl Listing {
    /// The folder as it is now: of files that are as they were, all that `self` knows is kept.
    pub fn renewed(&self, there: Vec<StoredFile>) -> Self {
        let mut fresh = Self { is_listed: true, ..Self::default() };
        for StoredFile { name, stamp, .. } in there {
            let known = self.by_name.get(&name).and_then(|place| self.files.get(*place));
            let file = match known.filter(|file| file.stamp == stamp) {
                Some(file) => Arc::clone(file),
                None => Arc::new(PackFile::new(name.clone(), stamp)),
            };
            fresh.by_name.insert(name, fresh.files.len());
            fresh.files.push(file);
        }
        fresh.in_memory = vec![false; fresh.files.len()];
        fresh
    }

    /// Adds a pack that was just written; whether it is new.
    pub fn add(&mut self, name: &str, stamp: u64) -> bool {
        if self.by_name.contains_key(name) {
            return false;
        }
        self.by_name.insert(name.to_owned(), self.files.len());
        self.files.push(Arc::new(PackFile::new(name.to_owned(), stamp)));
        self.in_memory.push(false);
        self.is_taken_in = false;
        true
    }

    /// Notes under which number the index knows a pack, if that is there.
    pub fn note_indexed(&mut self, name: &str, number: i64) {
        if let Some(place) = self.by_name.get(name) {
            self.indexed.insert(number, *place);
        }
    }

    /// The places in `files` of the packs that the index knows.
    pub fn indexed_places(&self) -> HashSet<usize> {
        self.indexed.values().copied().collect()
    }

    /// Where the packs in memory have a key.
    pub fn find(&self, key: u64, sorts: bool) -> impl Iterator<Item = (&Arc<PackFile>, usize)> {
        let files = self.files.iter().zip(&self.in_memory).filter(|(_, is_in)| **is_in).map(|(file, _)| file);
        files.flat_map(move |file| file.ordinals(key, sorts).into_iter().map(move |ordinal| (file, ordinal)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StoreId;
    use crate::pack::Object;
    use crate::pack::format::{ObjectKind, ObjectName};

    #[test]
    fn sorted_or_not_every_object_of_a_key_is_found() {
        // Keys of 0 to 9 in no order, each of them several times.
        let keys: Vec<u64> = (0..97u64).map(|n| n * n * 31 % 10).collect();
        let object = |key: &u64| {
            let name = ObjectName::Key(*key);
            Object { kind: ObjectKind::Tree, name, frame: 0, offset: 0, bytes: 1 }
        };
        let objects = keys.iter().map(object).collect();
        let pack = Pack { path: "p".into(), store: StoreId([0; 16]), bytes: 0, tier: 0, frames: Vec::new(), objects };
        let file = PackFile::new("p".into(), 1);
        assert_eq!(file.ordinals(1, true), Vec::<usize>::new(), "it has not been opened");
        file.pack.set(Some(Arc::new(pack))).expect("not set");
        for sorts in [false, true, false] {
            for key in 0..12 {
                let expected: Vec<usize> = (0..keys.len()).filter(|n| keys[*n] == key).collect();
                assert_eq!(file.ordinals(key, sorts), expected, "{key}");
            }
        }
    }

    #[test]
    fn what_is_known_of_a_file_outlives_the_listing_as_long_as_it_is_the_same() {
        let file = |name: &str, stamp| StoredFile { name: name.into(), bytes: 1, stamp };
        let first = Listing::default().renewed(vec![file("a", 1), file("b", 2), file("c", 3)]);
        let second = first.renewed(vec![file("b", 2), file("c", 4), file("d", 5)]);
        let names: Vec<&str> = second.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!((names, second.in_memory.len()), (vec!["b", "c", "d"], 3));
        assert!(Arc::ptr_eq(&second.files[0], &first.files[1]));
        assert!(!Arc::ptr_eq(&second.files[1], &first.files[2]), "another file of the same name");
    }
}
