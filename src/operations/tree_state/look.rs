//! Looks at a tree by stats, in order to tell what has changed since a state of it was seen.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicUsize, Ordering};

use super::outline::{KeptState, SeenFiles};
use super::stamp::{Below, Horizon, Kind};
use super::{Condition, FileState, Structure, Summary, TreeState};
use crate::id::ObjectId;
use crate::store::Store;
use crate::tracked_files::walk::{IGNORE_FILES, MANIFEST_PATH, is_never_tracked};
use crate::tracked_path::{TrackedPath, name_bytes};

/// From this many files on another thread helps. To start one takes as long as some dozen looks.
const HELPED_FILES: usize = 128;
/// One of the two takes so much of the files that are left, to look at them in a row, and no fewer than so many. Those that
/// the other has not finished at the end are looked at again.
const SHARE_OF_FILES: usize = 4;
const FILES_AT_ONCE: usize = 4;
/// The helping thread's stack: a look takes little of it.
const HELPER_STACK_BYTES: usize = 128 << 10;

/// What a look at a tree tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TreeLook {
    /// The same files are tracked; these, by their place in [`TreeState::files`], have to be read.
    Same(Vec<usize>),
    /// Which files are tracked has to be found out again.
    Walk,
}

/// A state that is kept, after a look at its tree.
#[derive(Debug)]
pub struct Looked {
    state: KeptState,
    seen: Seen,
}

impl Looked {
    /// Whether nothing has changed, and there is nothing to say of anything.
    pub fn is_as_kept(&self) -> bool {
        let Seen { is_same, changed, renewed } = &self.seen;
        *is_same && changed.is_empty() && renewed.is_empty() && !self.state.outline.totals.has_remarks
    }

    /// The state as it is kept.
    pub fn kept(&self) -> &KeptState {
        &self.state
    }

    /// The state as it is kept.
    pub fn into_kept(self) -> KeptState {
        self.state
    }

    /// The state, what it was like before the look, and what the look has told.
    pub fn open(self) -> Option<(TreeState, Summary, TreeLook)> {
        let before = self.state.summary();
        let mut state = self.state.open()?;
        let look = state.note(self.seen);
        Some((state, before, look))
    }
}

impl KeptState {
    /// Reads the state that is kept under a path and looks at the tree; does something else meanwhile.
    pub fn load_and_look<T>(store: &Store, path: &str, root: &Path, other: impl FnOnce() -> T) -> (Option<Looked>, T) {
        let state = Self::load(store, path);
        // Of a moment before the first look.
        let files = state.as_ref().map(|state| Files::of(&state.outline.files, root, Horizon::now(root)));
        let given = other();
        let looked = state.zip(files).map(|(state, files)| {
            let seen = files.look(state.outline.structure.as_ref());
            Looked { state, seen }
        });
        (looked, given)
    }
}

impl TreeState {
    /// Looks at a tree by stats. Stamps of folders that list as before are brought up to date on the way.
    pub fn look(&mut self, root: &Path, horizon: Horizon) -> TreeLook {
        let files = Files::of(&self.files, root, horizon);
        let seen = files.look(self.structure.as_ref());
        self.note(seen)
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

/// Files of which it is known how they looked.
trait Known: Send + Sync + 'static {
    /// How many there are.
    fn count(&self) -> usize;
    /// The path of one of them, and its stamp if that was settled.
    fn known(&self, place: usize) -> Option<(&[u8], Option<u64>)>;
}

impl Known for Vec<FileState> {
    fn count(&self) -> usize {
        self.len()
    }

    fn known(&self, place: usize) -> Option<(&[u8], Option<u64>)> {
        self.get(place).map(|file| (file.path.as_bytes(), file.stamp))
    }
}

impl Known for SeenFiles {
    fn count(&self) -> usize {
        self.stamps.len()
    }

    fn known(&self, place: usize) -> Option<(&[u8], Option<u64>)> {
        Some((self.paths.get(place)?, *self.stamps.get(place)?))
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

/// The files of a tree that is being looked at, by one thread or two.
///
/// Nobody waits for the other: where all cores have work, as in a sweep, a thread that helps may get its turn only once all is
/// done. What it has taken and not finished by then is looked at again.
struct Files<K> {
    root: PathBuf,
    horizon: Horizon,
    files: Arc<K>,
    /// The first file that nobody has taken yet.
    next: Apart<AtomicUsize>,
    /// For each file one of the three below.
    seen: Vec<AtomicU8>,
}

/// What both threads write, in a cache line of its own: what they read for each file would go with it from core to core.
#[repr(align(128))]
struct Apart<T>(T);

/// Nobody has looked at it.
const UNSEEN: u8 = 0;
/// It is as it was.
const SAME: u8 = 1;
/// It has to be read.
const CHANGED: u8 = 2;

impl<K: Known> Files<K> {
    /// From now on another thread may be looking at them.
    fn of(files: &Arc<K>, root: &Path, horizon: Horizon) -> Arc<Self> {
        let files = Arc::new(Self::unhelped(files, root, horizon));
        if files.files.count() >= HELPED_FILES && has_several_cores() {
            let helped = Arc::clone(&files);
            // Where there is no thread to be had, one does it all. It only looks, so it may outlast whoever started it.
            let _ = std::thread::Builder::new().stack_size(HELPER_STACK_BYTES).spawn(move || {
                // Where the root cannot be opened, the other cannot open it either, and says so.
                let Ok(below) = Below::open(&helped.root) else { return };
                helped.look_at_all(&below);
            });
        }
        files
    }

    fn unhelped(files: &Arc<K>, root: &Path, horizon: Horizon) -> Self {
        let files = Arc::clone(files);
        let seen = (0..files.count()).map(|_| AtomicU8::new(UNSEEN)).collect();
        Self { root: root.to_owned(), horizon, files, next: Apart(AtomicUsize::new(0)), seen }
    }

    /// Looks at the folders, and at all files that nobody else has looked at.
    fn look(&self, structure: Option<&Structure>) -> Seen {
        let mut renewed = Vec::new();
        let Some(structure) = structure else { return Seen::default() };
        let Ok(below) = Below::open(&self.root) else { return Seen::default() };
        let is_same = self.look_at_structure(structure, &below, &mut renewed);
        self.look_at_all(&below);
        // What the other has taken and not finished is looked at here, from its end: the two meet in the middle.
        let is_changed = |(place, seen): (usize, &AtomicU8)| {
            let seen = match seen.load(Ordering::Relaxed) {
                UNSEEN => self.look_at(place, &below),
                seen => seen,
            };
            (seen == CHANGED).then_some(place)
        };
        let mut changed: Vec<usize> = self.seen.iter().enumerate().rev().filter_map(is_changed).collect();
        changed.reverse();
        Seen { is_same, changed, renewed }
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
                    None => Some(self.root.clone()),
                };
                // Editors that save by a rename change the folder's time, and no name.
                let names = full.and_then(|full| hash_of_names(&full, |_| ()));
                if folder.stamp != look.trusted() {
                    renewed.push((place, look.trusted()));
                }
                names == Some(folder.names)
            })
    }

    /// Looks at all files that nobody else takes.
    fn look_at_all(&self, below: &Below) {
        while let Some(some) = self.take() {
            for place in some {
                self.look_at(place, below);
            }
        }
    }

    /// Takes some files that nobody has taken: many at first, so that the two do not write side by side.
    fn take(&self) -> Option<Range<usize>> {
        let count = self.files.count();
        let after = |first: usize| first + (count.saturating_sub(first) / SHARE_OF_FILES).max(FILES_AT_ONCE);
        let first = self.next.0.update(Ordering::Relaxed, Ordering::Relaxed, after);
        (first < count).then(|| first..count.min(after(first)))
    }

    /// Looks at a file, and notes what it has seen.
    fn look_at(&self, place: usize, below: &Below) -> u8 {
        let is_same = |(path, stamp): (&[u8], Option<u64>)| stamp.is_some() && below.stamp(path) == stamp;
        let seen = if self.files.known(place).is_some_and(is_same) { SAME } else { CHANGED };
        if let Some(note) = self.seen.get(place) {
            note.store(seen, Ordering::Relaxed);
        }
        seen
    }
}

/// Whether this process may run on more than one core.
#[cfg(target_os = "linux")]
fn has_several_cores() -> bool {
    rustix::thread::sched_getaffinity(None).is_ok_and(|cores| cores.count() > 1)
}

/// Whether this process may run on more than one core.
#[cfg(not(target_os = "linux"))]
fn has_several_cores() -> bool {
    std::thread::available_parallelism().is_ok_and(|cores| cores.get() > 1)
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
            files: Arc::new((0..100).map(file).collect()),
            trees: Vec::new(),
            structure: None,
            recent: RecentVersions::default(),
            kept: None,
        };
        let names = hash_of_names(folder.path(), |_| ()).expect("lists");
        state.structure =
            Some(Structure { folders: vec![FolderState { path: None, stamp: None, names }], ..Structure::default() });
        for number in [3, 5, 40, 99] {
            std::fs::write(folder.path().join(format!("{number:03}.py")), "edited").expect("written");
        }
        let changed = TreeLook::Same(vec![3, 5, 40, 99]);
        let files = |state: &TreeState| Files::unhelped(&state.files, folder.path(), horizon);
        let help = |files: &Files<Vec<FileState>>, pieces: usize| {
            for place in (0..pieces).filter_map(|_| files.take()).flatten() {
                files.look_at(place, &below);
            }
        };
        // All by the one, some by each, and all by the other.
        for pieces in [0, 1, 3, 100] {
            let files = files(&state);
            help(&files, pieces);
            let seen = files.look(state.structure.as_ref());
            assert_eq!(state.note(seen), changed, "{pieces}");
        }
        // What was taken and not finished is looked at again.
        let files = files(&state);
        help(&files, 1);
        assert_eq!(files.take().map(|taken| taken.start), Some(100 / SHARE_OF_FILES));
        while files.take().is_some() {}
        let seen = files.look(state.structure.as_ref());
        assert_eq!((state.note(seen), state.look(folder.path(), horizon)), (changed.clone(), changed));
    }
}
