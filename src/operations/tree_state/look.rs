//! Looks at a tree by stats, in order to tell what has changed since a state of it was seen.

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};

use super::stamp::{Below, Horizon, Kind};
use super::{Condition, FileState, Structure, Summary, TreeState, format};
use crate::id::ObjectId;
use crate::store::Store;
use crate::tracked_files::walk::{IGNORE_FILES, MANIFEST_PATH, is_never_tracked};
use crate::tracked_path::{TrackedPath, name_bytes};

/// From this many files on they are looked at by two threads. To start one and to wait for it takes as long as some hundred
/// looks, and in a sweep the other core has a backtest to run.
const PARALLEL_FILES: usize = 1024;
/// So many files are looked at in a row by one of them.
const FILES_AT_ONCE: usize = 32;
/// A kept state of fewer bytes is of fewer files than two threads are worth.
const PARALLEL_BYTES: usize = PARALLEL_FILES * 64;

/// What a look at a tree tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeLook {
    /// The same files are tracked; these, by their place in [`TreeState::files`], have to be read.
    Same(Vec<usize>),
    /// Which files are tracked has to be found out again.
    Walk,
}

/// A state that was kept, after a look at its tree.
#[derive(Debug)]
pub struct Looked {
    /// The state.
    pub state: TreeState,
    /// What it was like before the look.
    pub before: Summary,
    /// What the look has told.
    pub look: TreeLook,
}

impl Looked {
    fn after(mut state: TreeState, look: impl FnOnce(&mut TreeState) -> TreeLook) -> Self {
        let before = state.summary();
        let look = look(&mut state);
        Self { state, before, look }
    }
}

impl TreeState {
    /// Looks at a tree by stats. Stamps of folders that list as before are brought up to date on the way.
    pub fn look(&mut self, root: &Path, horizon: Horizon) -> TreeLook {
        let looking = Looking::new(root, horizon);
        let seen = if self.files.len() < PARALLEL_FILES {
            looking.look(self)
        } else {
            std::thread::scope(|scope| {
                // Where there is no thread to be had, this one does it all.
                let helping = std::thread::Builder::new().spawn_scoped(scope, || looking.help(self)).ok();
                looking.look(self).joined(helping.and_then(|helping| helping.join().ok()))
            })
        };
        self.note(seen)
    }

    /// Reads the state that is kept under a path and looks at the tree, while another thread does something else, and then helps.
    pub fn load_and_look<T: Send>(
        store: &Store,
        path: &str,
        root: &Path,
        other: impl FnOnce() -> T + Send,
    ) -> (Option<Looked>, T) {
        let bytes = store.storage().read(path, format::MAX_BYTES).unwrap_or_default();
        let is_small = bytes.len() < PARALLEL_BYTES;
        let load = || format::decode(bytes, store.config().store).ok();
        // Of a moment before the first look.
        let looking = Looking::new(root, Horizon::now(root));
        if is_small {
            let given = other();
            return (load().map(|state| Looked::after(state, |state| state.look(root, looking.horizon))), given);
        }
        let loaded: OnceLock<Option<Self>> = OnceLock::new();
        let waiting = Mutex::new(Some(other));
        let do_other = || waiting.lock().unwrap_or_else(PoisonError::into_inner).take().map(|other| other());
        let (seen, given) = std::thread::scope(|scope| {
            let helping = std::thread::Builder::new().spawn_scoped(scope, || {
                let given = do_other();
                (given, loaded.wait().as_ref().map(|state| looking.help(state)).unwrap_or_default())
            });
            let state = loaded.get_or_init(load).as_ref();
            let seen = state.map(|state| looking.look(state));
            // Where there is no thread to be had, this one does it all.
            let (given, theirs) = match helping.map(|helping| helping.join()) {
                Ok(Ok((given, theirs))) => (given, Some(theirs)),
                Ok(Err(panic)) => std::panic::resume_unwind(panic),
                Err(_) => (None, None),
            };
            (seen.map(|seen| seen.joined(theirs)), given)
        });
        let given = given.or_else(do_other);
        let state = loaded.into_inner().flatten();
        let looked = state.zip(seen).map(|(state, seen)| Looked::after(state, |state| state.note(seen)));
        match given {
            Some(given) => (looked, given),
            None => unreachable!("done by one of the two"),
        }
    }

    /// Brings the stamps of folders up to date, and says what a look has told.
    fn note(&mut self, seen: Seen) -> TreeLook {
        for (place, stamp) in seen.renewed {
            let folder = self.structure.as_mut().and_then(|structure| structure.folders.get_mut(place));
            if let Some(folder) = folder {
                folder.stamp = stamp;
            }
            if let Some(kept) = &mut self.kept {
                kept.folders.insert(place);
            }
        }
        let decides = |place: &usize| self.files.get(*place).is_some_and(|file| decides_what_is_tracked(&file.path));
        let is_same = seen.is_same && !seen.changed.iter().any(decides);
        if is_same { TreeLook::Same(seen.changed) } else { TreeLook::Walk }
    }
}

/// What was seen of a tree.
#[derive(Debug, Default)]
struct Seen {
    /// Whether a walk would find the same files.
    is_same: bool,
    /// The places of files that have to be read, sorted.
    changed: Vec<usize>,
    /// The places of folders that list as before and have other stamps now.
    renewed: Vec<(usize, Option<u64>)>,
}

impl Seen {
    /// Adds what another thread has seen of the files.
    fn joined(mut self, theirs: Option<Vec<usize>>) -> Self {
        self.changed.extend(theirs.into_iter().flatten());
        self.changed.sort_unstable();
        self
    }
}

/// A tree that is being looked at, by one thread or two.
struct Looking<'r> {
    root: &'r Path,
    horizon: Horizon,
    /// The first file that nobody looks at yet.
    next: AtomicUsize,
}

impl<'r> Looking<'r> {
    fn new(root: &'r Path, horizon: Horizon) -> Self {
        Self { root, horizon, next: AtomicUsize::new(0) }
    }

    /// Looks at everything but the files that somebody else looks at meanwhile.
    fn look(&self, state: &TreeState) -> Seen {
        let mut renewed = Vec::new();
        let Some(structure) = &state.structure else { return Seen::default() };
        let Ok(below) = Below::open(self.root) else { return Seen::default() };
        let is_same = self.look_at_structure(structure, &below, &mut renewed);
        Seen { is_same, changed: self.look_at_files(&state.files, &below), renewed }
    }

    /// Looks at files that nobody else looks at; the places of those that have changed.
    fn help(&self, state: &TreeState) -> Vec<usize> {
        // Where the root cannot be opened, nobody else can either, and says so.
        Below::open(self.root).map_or_else(|_| Vec::new(), |below| self.look_at_files(&state.files, &below))
    }

    fn look_at_files(&self, files: &[FileState], below: &Below) -> Vec<usize> {
        let mut changed = Vec::new();
        let is_same = |file: &FileState| {
            let look = || below.look(file.path.as_bytes(), self.horizon).map(|look| look.stamp);
            file.stamp.is_some() && look() == file.stamp
        };
        loop {
            let first = self.next.fetch_add(FILES_AT_ONCE, Ordering::Relaxed);
            let Some(left) = files.get(first..) else { return changed };
            let some = left.iter().take(FILES_AT_ONCE).enumerate();
            changed.extend(some.filter(|(_, file)| !is_same(file)).map(|(place, _)| first + place));
            if left.len() <= FILES_AT_ONCE {
                return changed;
            }
        }
    }

    fn look_at_structure(&self, structure: &Structure, below: &Below, renewed: &mut Vec<(usize, Option<u64>)>) -> bool {
        structure.conditions.iter().all(Condition::holds)
            && structure.folders.iter().enumerate().all(|(place, folder)| {
                let path = folder.path.as_ref().map_or(&[][..], TrackedPath::as_bytes);
                let look = below.look(path, self.horizon).filter(|look| look.kind == Kind::Folder);
                let Some(look) = look else { return false };
                if folder.stamp == Some(look.stamp) {
                    return true;
                }
                let full = match &folder.path {
                    Some(path) => path.to_path().map(|path| self.root.join(path)),
                    None => Some(self.root.to_owned()),
                };
                // Editors that save by a rename change the folder's time, and no name.
                let names = full.and_then(|full| hash_of_names(&full, |_| ()));
                if folder.stamp != look.trusted() {
                    renewed.push((place, look.trusted()));
                }
                names == Some(folder.names)
            })
    }
}

/// Whether a change of a file can change which files are tracked.
pub(super) fn decides_what_is_tracked(path: &TrackedPath) -> bool {
    let name = path.name();
    IGNORE_FILES.iter().any(|rule| rule.as_bytes() == name)
        || name == b"pyvenv.cfg"
        || path.as_bytes() == b"metadata/manifest.json"
        || path.as_bytes().strip_suffix(MANIFEST_PATH.as_bytes()).is_some_and(|rest| rest.ends_with(b"/"))
}

/// What a folder's names and their types hash to, in whatever order they are listed.
pub(super) fn hash_of_names(folder: &Path, mut each: impl FnMut(&[u8])) -> Option<u64> {
    let mut sum = 0u64;
    for entry in folder.read_dir().ok()? {
        let entry = entry.ok()?;
        let name = entry.file_name();
        let name = name_bytes(&name)?;
        if is_never_tracked(name) {
            continue;
        }
        each(name);
        let kind = match entry.file_type().ok()? {
            kind if kind.is_file() => 1,
            kind if kind.is_dir() => 2,
            kind if kind.is_symlink() => 3,
            _ => 4,
        };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&[kind]).update(name);
        sum = sum.wrapping_add(ObjectId(*hasher.finalize().as_bytes()).key());
    }
    Some(sum)
}

#[cfg(test)]
mod tests {
    use super::super::{FolderState, Taken};
    use super::*;
    use crate::store::RecentVersions;

    #[test]
    fn what_either_thread_has_seen_counts() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let horizon = Horizon::now(folder.path());
        let below = Below::open(folder.path()).expect("there");
        let file = |number: usize| {
            let name = format!("{number:03}.py");
            std::fs::write(folder.path().join(&name), name.as_bytes()).expect("written");
            let stamp = below.look(name.as_bytes(), horizon).map(|look| look.stamp);
            let path = TrackedPath::from_bytes(name).expect("valid");
            FileState { path, stamp, taken: Taken::Secret, warnings: Vec::new() }
        };
        let mut state = TreeState {
            generation: 0,
            packs: Vec::new(),
            snapshot: ObjectId::of(b""),
            files: (0..100).map(file).collect(),
            trees: Vec::new(),
            structure: None,
            recent: RecentVersions::default(),
            kept: None,
        };
        let names = hash_of_names(folder.path(), |_| ()).expect("lists");
        state.structure =
            Some(Structure { folders: vec![FolderState { path: None, stamp: None, names }], ..Structure::default() });
        for number in [3, 40, 99] {
            std::fs::write(folder.path().join(format!("{number:03}.py")), "edited").expect("written");
        }
        let changed = TreeLook::Same(vec![3, 40, 99]);
        // All by the one, all by the other, and some by each.
        let looking = Looking::new(folder.path(), horizon);
        let theirs = looking.help(&state);
        let seen = looking.look(&state).joined(Some(theirs));
        assert_eq!(state.note(seen), changed);
        let looking = Looking::new(folder.path(), horizon);
        let seen = looking.look(&state);
        let theirs = looking.help(&state);
        assert_eq!(
            (state.note(seen.joined(Some(theirs))), state.look(folder.path(), horizon)),
            (changed.clone(), changed.clone())
        );
        let looking = Looking::new(folder.path(), horizon);
        looking.next.store(64, Ordering::Relaxed);
        let later = looking.look(&state);
        looking.next.store(0, Ordering::Relaxed);
        state.files.truncate(64);
        let earlier = looking.help(&state);
        assert_eq!((&later.changed[..], &earlier[..]), (&[99][..], &[3, 40][..]));
        assert_eq!(later.joined(Some(earlier)).changed, [3, 40, 99]);
    }
}
