//! The packs folder as it was last listed, and those of its packs that have been opened.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use crate::pack::Pack;
use crate::storage::StoredFile;

/// So many packs are asked one after the other; the keys of more are joined.
const SINGLE_PACKS: usize = 16;

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

    /// The objects of the opened pack, with their places in [`Pack::objects`].
    fn keys(&self) -> impl Iterator<Item = (u64, usize)> {
        let objects = self.opened().into_iter().flat_map(|pack| pack.objects.iter().enumerate());
        objects.map(|(ordinal, object)| (object.name.key(), ordinal))
    }

    /// The places in [`Pack::objects`] of the opened pack that have a key. With `sorts` its keys are sorted for that, unless they
    /// are: it takes as long as going through the table a few times.
    fn ordinals(&self, key: u64, sorts: bool) -> Vec<usize> {
        if !sorts && self.by_key.get().is_none() {
            return self.keys().filter(|(known, _)| *known == key).map(|(_, ordinal)| ordinal).collect();
        }
        if self.opened().is_none() {
            return Vec::new();
        }
        let by_key = self.by_key.get_or_init(|| {
            let mut keys: Vec<(u64, u32)> = self.keys().map(|(key, ordinal)| (key, ordinal as u32)).collect();
            keys.sort_unstable();
            keys
        });
        of_key(by_key, key, |(known, _)| *known).iter().map(|(_, ordinal)| *ordinal as usize).collect()
    }
}

/// The part of a sorted list that has a key.
fn of_key<T>(sorted: &[T], key: u64, key_of: impl Fn(&T) -> u64) -> &[T] {
    let from = sorted.get(sorted.partition_point(|entry| key_of(entry) < key)..).unwrap_or_default();
    let count = from.iter().take_while(|entry| key_of(entry) == key).count();
    from.get(..count).unwrap_or_default()
}

/// The keys of many packs together.
#[derive(Default)]
struct JoinedKeys {
    files: Vec<Arc<PackFile>>,
    /// Keys, sorted, with the place in `files` and that in [`Pack::objects`].
    by_key: Vec<(u64, u32, u32)>,
}

impl JoinedKeys {
    fn of(files: Vec<Arc<PackFile>>) -> Self {
        let keys = files.iter().enumerate().flat_map(|(place, file)| file.keys().map(move |key| (place, key)));
        let mut by_key: Vec<_> = keys.map(|(place, (key, ordinal))| (key, place as u32, ordinal as u32)).collect();
        by_key.sort_unstable();
        Self { files, by_key }
    }
}

/// How the packs in memory are asked for many keys.
struct Arranged {
    /// Which of the joined packs are still listed, by their places there.
    is_there: Vec<bool>,
    /// The others in memory, which are asked one by one.
    single: Vec<Arc<PackFile>>,
}

/// What is known of the packs folder.
#[derive(Default)]
pub(super) struct Listing {
    pub files: Vec<Arc<PackFile>>,
    by_name: HashMap<String, usize>,
    /// Place in `files` by the index's number.
    pub indexed: HashMap<i64, usize>,
    /// Which packs' tables have been read, or found to be unreadable, by place in `files`. Where a key is in these needs no index.
    in_memory: Vec<bool>,
    /// Given up whenever another pack comes into memory.
    arranged: Option<Arranged>,
    /// What was joined last.
    joined: Arc<JoinedKeys>,
    /// Whether the folder has been listed since somebody asked for that.
    pub is_listed: bool,
    /// Whether all that was listed is in memory or known to be in the index.
    pub is_taken_in: bool,
}

impl Listing {
    /// The folder as it is now: of files that are as they were, all that `self` knows is kept.
    pub fn renewed(&self, there: Vec<StoredFile>) -> Self {
        let mut fresh = Self { is_listed: true, joined: Arc::clone(&self.joined), ..Self::default() };
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

    /// Which packs are in memory, by place in `files`.
    pub fn in_memory(&self) -> &[bool] {
        &self.in_memory
    }

    /// Notes that a pack's table has been read, or is known to be unreadable, unless the folder was listed anew meanwhile.
    pub fn note_read(&mut self, place: usize, file: &Arc<PackFile>) {
        let is_same = self.files.get(place).is_some_and(|listed| Arc::ptr_eq(listed, file));
        if let Some(is_in) = self.in_memory.get_mut(place).filter(|_| is_same) {
            *is_in = true;
            self.arranged = None;
        }
    }

    fn files_in_memory(&self) -> impl Iterator<Item = &Arc<PackFile>> {
        self.files.iter().zip(&self.in_memory).filter(|(_, is_in)| **is_in).map(|(file, _)| file)
    }

    pub fn is_arranged(&self) -> bool {
        self.arranged.is_some()
    }

    /// Gets ready for many questions. The keys of packs are joined once so many are there that it would take long to ask each.
    pub fn arrange(&mut self) {
        let there: HashSet<*const PackFile> = self.files_in_memory().map(Arc::as_ptr).collect();
        let is_in_memory = |file: &Arc<PackFile>| there.contains(&Arc::as_ptr(file));
        let known: HashSet<*const PackFile> =
            self.joined.files.iter().filter(|file| is_in_memory(file)).map(Arc::as_ptr).collect();
        let is_single = |file: &&Arc<PackFile>| !known.contains(&Arc::as_ptr(file));
        let mut single: Vec<Arc<PackFile>> = self.files_in_memory().filter(is_single).cloned().collect();
        if single.len() > SINGLE_PACKS {
            self.joined = Arc::new(JoinedKeys::of(self.files_in_memory().cloned().collect()));
            single.clear();
        } else if known.is_empty() {
            self.joined = Arc::default();
        }
        let is_there = self.joined.files.iter().map(is_in_memory).collect();
        self.arranged = Some(Arranged { is_there, single });
    }

    /// Where the packs in memory have a key: as they are arranged, or by going through their tables.
    pub fn find(&self, key: u64) -> Vec<(&Arc<PackFile>, usize)> {
        let of_file = |file, sorts| PackFile::ordinals(file, key, sorts).into_iter();
        let Some(Arranged { is_there, single }) = &self.arranged else {
            let files = self.files_in_memory();
            return files.flat_map(|file| of_file(file, false).map(move |ordinal| (file, ordinal))).collect();
        };
        let found = of_key(&self.joined.by_key, key, |(known, ..)| *known).iter();
        let found = found.map(|(_, place, ordinal)| (*place as usize, *ordinal as usize));
        let listed = found.filter(|(place, _)| is_there.get(*place).copied().unwrap_or(false));
        let joined = listed.filter_map(|(place, ordinal)| Some((self.joined.files.get(place)?, ordinal)));
        let single = single.iter().flat_map(|file| of_file(file, true).map(move |ordinal| (file, ordinal)));
        joined.chain(single).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::StoreId;
    use crate::pack::Object;
    use crate::pack::format::{ObjectKind, ObjectName};

    fn opened(file: &PackFile, keys: &[u64]) {
        let object = |key: &u64| {
            let name = ObjectName::Key(*key);
            Object { kind: ObjectKind::Tree, name, frame: 0, offset: 0, bytes: 1 }
        };
        let objects = keys.iter().map(object).collect();
        let pack = Pack { path: "p".into(), store: StoreId([0; 16]), bytes: 0, tier: 0, frames: Vec::new(), objects };
        file.pack.set(Some(Arc::new(pack))).expect("not set");
    }

    #[test]
    fn sorted_or_not_every_object_of_a_key_is_found() {
        // Keys of 0 to 9 in no order, each of them several times.
        let keys: Vec<u64> = (0..97u64).map(|n| n * n * 31 % 10).collect();
        let file = PackFile::new("p".into(), 1);
        assert_eq!(file.ordinals(1, true), Vec::<usize>::new(), "it has not been opened");
        opened(&file, &keys);
        for sorts in [false, true, false] {
            for key in 0..12 {
                let expected: Vec<usize> = (0..keys.len()).filter(|n| keys[*n] == key).collect();
                assert_eq!(file.ordinals(key, sorts), expected, "{key}");
            }
        }
    }

    fn file(name: &str, stamp: u64) -> StoredFile {
        StoredFile { name: name.into(), bytes: 1, stamp }
    }

    #[test]
    fn what_is_known_of_a_file_outlives_the_listing_as_long_as_it_is_the_same() {
        let first = Listing::default().renewed(vec![file("a", 1), file("b", 2), file("c", 3)]);
        let second = first.renewed(vec![file("b", 2), file("c", 4), file("d", 5)]);
        let names: Vec<&str> = second.files.iter().map(|file| file.name.as_str()).collect();
        assert_eq!((names, second.in_memory.len()), (vec!["b", "c", "d"], 3));
        assert!(Arc::ptr_eq(&second.files[0], &first.files[1]));
        assert!(!Arc::ptr_eq(&second.files[1], &first.files[2]), "another file of the same name");
        // Who read the table of a file that was listed before does not vouch for the one that is there now.
        let mut second = second;
        second.note_read(1, &first.files[2]);
        assert_eq!(second.in_memory(), [false, false, false]);
        second.note_read(0, &first.files[1]);
        assert_eq!(second.in_memory(), [true, false, false]);
    }

    /// Packs come and go, few at first and then many, and are asked in every way.
    #[test]
    fn however_packs_are_arranged_the_same_is_found() {
        let mut listing = Listing::default();
        let mut joined = HashSet::new();
        for round in 0..60u64 {
            // Three come with each round; of the older ones every fifth goes.
            let from = round / 2;
            let there = (from..from + 3 + round).filter(|n| *n < 3 || (n * 7 + round / 9) % 5 > 0);
            listing = listing.renewed(there.map(|n| file(&format!("{n:03}"), n)).collect());
            for (place, file) in listing.files.clone().iter().enumerate() {
                if file.pack.get().is_none() {
                    opened(file, &[file.stamp % 13, 100 + file.stamp, file.stamp % 7]);
                }
                // The table of one of them has not been read.
                if file.stamp % 11 != 10 {
                    listing.note_read(place, file);
                }
            }
            let found = |listing: &Listing, key| -> Vec<(u64, usize)> {
                let mut found: Vec<_> = listing.find(key).iter().map(|(file, n)| (file.stamp, *n)).collect();
                found.sort_unstable();
                found
            };
            let keys = (0..14).chain(100..170);
            let scanned: Vec<_> = keys.clone().map(|key| found(&listing, key)).collect();
            assert!(!listing.is_arranged());
            listing.arrange();
            joined.insert(listing.joined.files.len());
            let asked: Vec<_> = keys.map(|key| found(&listing, key)).collect();
            assert!(listing.is_arranged() && asked == scanned, "round {round}");
        }
        assert!(joined.len() > 2 && joined.contains(&0), "{joined:?}");
    }
}
