//! Reads the files that were selected for a run, and hands what is new in them to the store.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::current_tree::{Told, changing_warning};
use super::read_stable::{all_bytes, open, read_stable};
use super::tree_state::stamp::{Horizon, of_metadata};
use super::tree_state::{FileState, Taken, TreeState};
use crate::error::{Error, Result};
use crate::id::ObjectId;
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::run_record::{FileStatus, LeftOut, LeftOutReason, StatusOf};
use crate::snapshot::{ChunkRef, Entry, MAX_DEPTH, Snapshot, build_trees, encode_chunks, is_valid_target};
use crate::store::{Files, OUTSIDE_FOLDER, Store, Writer};
use crate::tracked_files::{Selection, secrets};
use crate::tracked_path::{TrackedPath, name_bytes};

/// Files are read in groups of at most this many bytes, so that memory stays bounded.
const GROUP_BYTES: u64 = 32 << 20;
/// Longer files are read in pieces, twice if they are new.
const STREAM_BYTES: u64 = 32 << 20;
/// Fewer files are read by one core: to call up the others takes longer.
const PARALLEL_FILES: usize = 16;
/// A large file that changes between its two reads is tried this often.
const STREAM_ATTEMPTS: usize = 3;

/// What came of reading one file.
enum Outcome {
    /// A file whose content the store has.
    Known(Entry),
    /// A file with new content.
    New(Entry, Vec<u8>),
    /// A large file, still to be read in pieces.
    Large,
    /// A file that is left out.
    LeftOut(LeftOutReason, Option<String>),
}

struct Read {
    outcome: Outcome,
    stable: bool,
    /// What the file system said of it, if that can be relied on later.
    stamp: Option<u64>,
    warnings: Vec<String>,
}

/// What is known of the files before they are read.
#[derive(Clone, Copy)]
pub enum Earlier<'a> {
    /// An older version, whose files make differences small.
    Files(&'a Files),
    /// What the last capture has seen.
    State {
        /// The state.
        state: &'a TreeState,
        /// Whether all that it names is sure to be in the store.
        is_vouched_for: bool,
    },
}

impl Earlier<'_> {
    /// The older version of a file: id and length.
    fn file(&self, path: &TrackedPath) -> Option<(ObjectId, u64)> {
        let entry = match self {
            Self::Files(files) => files.entries.get(path),
            Self::State { state, .. } => state.file(path).and_then(|file| match &file.taken {
                Taken::Entry(entry) => Some(entry),
                Taken::Secret => None,
            }),
        };
        match entry {
            Some(Entry::File { id, bytes, .. }) => Some((*id, *bytes)),
            _ => None,
        }
    }

    fn tree(&self, folder: Option<&TrackedPath>) -> Option<ObjectId> {
        match self {
            Self::Files(files) => files.trees.get(&folder.cloned()).copied(),
            Self::State { state, .. } => state.tree(folder),
        }
    }

    /// What is known of a file with that stamp, and whether its content is sure to be stored.
    fn seen(&self, path: &TrackedPath, stamp: u64) -> Option<(&FileState, bool)> {
        let Self::State { state, is_vouched_for } = self else { return None };
        let file = state.file(path).filter(|file| file.stamp == Some(stamp))?;
        Some((file, *is_vouched_for))
    }
}

/// Files and links by their paths.
type Entries = BTreeMap<TrackedPath, Entry>;

/// The trees of folders; the root has no path.
pub type FolderTrees = Vec<(Option<TrackedPath>, ObjectId)>;

/// Reads the selected files and stores what is new.
pub struct Taking<'a> {
    /// What was chosen; its warnings and the files left out grow while files are taken.
    pub selection: Selection,
    earlier: Earlier<'a>,
    /// What was taken.
    pub entries: BTreeMap<TrackedPath, Entry>,
    /// The files as they were seen, those included that were left out as secrets.
    pub seen: Vec<FileState>,
    /// Files that would not hold still.
    pub statuses: Vec<StatusOf>,
}

impl<'a> Taking<'a> {
    /// Begins with nothing taken.
    pub fn new(selection: Selection, earlier: Earlier<'a>) -> Self {
        Self { selection, earlier, entries: BTreeMap::new(), seen: Vec::new(), statuses: Vec::new() }
    }

    /// Hands the trees and the snapshot of what was taken to the store; the snapshot's id, and the trees' by folder.
    pub fn store_snapshot(&self, writer: &mut Writer<'_>) -> Result<(ObjectId, FolderTrees)> {
        let mut snapshot = Snapshot { root: ObjectId::of(&[]), outside: BTreeMap::new() };
        let mut trees = Vec::new();
        let (inside, outside) = self.split_outside();
        snapshot.root = self.store_trees(writer, &inside, None, &mut trees)?;
        for (label, entries) in outside {
            let folder = TrackedPath::from_bytes(OUTSIDE_FOLDER).and_then(|folder| folder.join(&label));
            let tree = self.store_trees(writer, &entries, folder.as_ref(), &mut trees)?;
            snapshot.outside.insert(label, tree);
        }
        let encoded = snapshot.encode();
        let id = ObjectId::of(&encoded);
        writer.add(ObjectKind::Snapshot, id, encoded, None)?;
        Ok((id, trees))
    }

    /// Parts the files of the project from those outside of it, which are found below their labels.
    fn split_outside(&self) -> (Entries, BTreeMap<Vec<u8>, Entries>) {
        let (mut inside, mut outside) = (Entries::new(), BTreeMap::<Vec<u8>, Entries>::new());
        for (path, entry) in &self.entries {
            let mut parts = path.parts();
            let label = match (parts.next(), parts.next()) {
                (Some(first), Some(label)) if first == OUTSIDE_FOLDER.as_bytes() => {
                    std::str::from_utf8(label).ok().filter(|label| self.selection.outside.contains_key(*label))
                }
                _ => None,
            };
            let rest = parts.collect::<Vec<_>>().join(&b'/');
            match label.and_then(|label| Some((label, TrackedPath::from_bytes(rest)?))) {
                Some((label, rest)) => {
                    outside.entry(label.as_bytes().to_vec()).or_default().insert(rest, entry.clone());
                }
                None => drop(inside.insert(path.clone(), entry.clone())),
            }
        }
        (inside, outside)
    }

    /// Hands the trees of files to the store, and notes them under their paths below `folder`. The id of the topmost.
    fn store_trees(
        &self,
        writer: &mut Writer<'_>,
        entries: &Entries,
        folder: Option<&TrackedPath>,
        trees: &mut FolderTrees,
    ) -> Result<ObjectId> {
        let mut top = ObjectId::of(&[]);
        for tree in build_trees(entries).map_err(Error::Usage)? {
            top = tree.id;
            let path = match (folder, tree.path) {
                (Some(folder), Some(path)) => path.parts().try_fold(folder.clone(), |folder, part| folder.join(part)),
                (folder, path) => path.or_else(|| folder.cloned()),
            };
            let older = self.earlier.tree(path.as_ref());
            writer.add(ObjectKind::Tree, tree.id, tree.bytes, older)?;
            trees.push((path, tree.id));
        }
        Ok(top)
    }

    /// What is to be said of what was taken.
    pub fn told(&mut self) -> Told {
        let mut left_out = std::mem::take(&mut self.selection.left_out);
        left_out.sort();
        let mut statuses = std::mem::take(&mut self.statuses);
        statuses.sort_by(|a, b| a.path.cmp(&b.path));
        Told {
            tracked_by: self.selection.tracked_by,
            left_out,
            data: std::mem::take(&mut self.selection.data),
            outside: self
                .selection
                .outside
                .iter()
                .map(|(label, folder)| (label.clone(), folder.to_string_lossy().into_owned()))
                .collect(),
            statuses,
            warnings: std::mem::take(&mut self.selection.warnings),
            has_problems: self.selection.has_problems,
        }
    }

    /// Takes every selected file.
    pub fn take_all(
        &mut self,
        writer: &mut Writer<'_>,
        store: &Store,
        include_secrets: bool,
        progress: &dyn Progress,
    ) -> Result<()> {
        let files = std::mem::take(&mut self.selection.files);
        progress.begin("Reading", files.len() as u64);
        let horizon = files.values().next().map_or_else(|| Horizon::now(Path::new("/")), |path| Horizon::now(path));
        // Files of one kind stand together in the packs: they compress better side by side.
        let mut files: Vec<(TrackedPath, PathBuf)> = files.into_iter().collect();
        files.sort_by(|(a, _), (b, _)| (extension(a), a).cmp(&(extension(b), b)));
        let mut rest = files.as_slice();
        while !rest.is_empty() {
            let mut bytes = 0;
            let fits = |(_, path): &&(TrackedPath, PathBuf)| {
                bytes += path.symlink_metadata().map_or(0, |m| m.len()).min(STREAM_BYTES);
                bytes <= GROUP_BYTES
            };
            let count = rest.iter().take_while(fits).count().max(1);
            let (group, later) = rest.split_at(count);
            rest = later;
            let reader = Reader { writer, earlier: self.earlier, horizon, include_secrets };
            let read: Vec<Read> = if group.len() < PARALLEL_FILES {
                group.iter().map(|(tracked, path)| reader.read(tracked, path)).collect()
            } else {
                group.par_iter().map(|(tracked, path)| reader.read(tracked, path)).collect()
            };
            for ((tracked, path), read) in group.iter().zip(read) {
                self.take(writer, store, tracked, path, read)?;
                progress.advance(1);
            }
        }
        progress.end();
        let secrets: Vec<String> = self.selection.left_out.iter().map(left_out_warning).collect();
        self.selection.has_problems |= self.selection.left_out.iter().any(|l| l.reason != LeftOutReason::Secret);
        self.selection.warnings.extend(secrets);
        Ok(())
    }

    fn take(
        &mut self,
        writer: &mut Writer<'_>,
        store: &Store,
        tracked: &TrackedPath,
        path: &Path,
        read: Read,
    ) -> Result<()> {
        let Read { outcome, mut stable, mut stamp, warnings } = read;
        let entry = match outcome {
            Outcome::Known(entry) => entry,
            Outcome::New(entry, content) => {
                if let Entry::File { id, .. } = entry {
                    self.add_content(writer, store, tracked, id, content)?;
                }
                entry
            }
            Outcome::Large => match stream_file(writer, store, path)? {
                Ok((entry, held_still, seen)) => {
                    (stable, stamp) = (held_still, seen);
                    entry
                }
                Err(error) => {
                    self.leave_out(tracked, reason_of(&error), Some(error.kind().to_string()));
                    return Ok(());
                }
            },
            Outcome::LeftOut(reason, detail) => {
                self.leave_out(tracked, reason, detail);
                if reason == LeftOutReason::Secret {
                    self.seen.push(FileState { path: tracked.clone(), stamp, taken: Taken::Secret, warnings });
                }
                return Ok(());
            }
        };
        if !stable {
            self.statuses.push(StatusOf { path: tracked.clone(), status: FileStatus::Changing });
            self.selection.warnings.push(changing_warning(&tracked.to_string()));
            self.selection.has_problems = true;
        }
        self.selection.warnings.extend_from_slice(&warnings);
        let taken = Taken::Entry(entry.clone());
        self.seen.push(FileState { path: tracked.clone(), stamp: stamp.filter(|_| stable), taken, warnings });
        self.entries.insert(tracked.clone(), entry);
        Ok(())
    }

    fn leave_out(&mut self, path: &TrackedPath, reason: LeftOutReason, detail: Option<String>) {
        self.selection.left_out.push(LeftOut { path: path.clone(), reason, detail });
    }

    fn add_content(
        &self,
        writer: &mut Writer<'_>,
        store: &Store,
        path: &TrackedPath,
        id: ObjectId,
        content: Vec<u8>,
    ) -> Result<()> {
        let older = self.earlier.file(path);
        let cuts = store.config().chunker.cut(&content);
        if cuts.len() == 1 {
            // The older version is one chunk as well, of the file's id, unless it was far longer.
            let older = match older {
                Some((id, bytes)) if !self.is_one_chunk(store, bytes) => store.chunks_of(id, bytes).unwrap_or_default(),
                Some((id, bytes)) => vec![ChunkRef { id, bytes: bytes as u32 }],
                None => Vec::new(),
            };
            writer.add(ObjectKind::Chunk, id, content, older.first().map(|chunk| chunk.id))?;
            return Ok(());
        }
        let older = older.and_then(|(id, bytes)| store.chunks_of(id, bytes).ok()).unwrap_or_default();
        let pieces: Vec<&[u8]> = cuts.into_iter().filter_map(|cut| content.get(cut)).collect();
        let chunks: Vec<ChunkRef> =
            pieces.par_iter().map(|piece| ChunkRef { id: ObjectId::of(piece), bytes: piece.len() as u32 }).collect();
        let replaced = replaced_chunks(&chunks, &older);
        for ((piece, chunk), older) in pieces.iter().zip(&chunks).zip(replaced) {
            writer.add(ObjectKind::Chunk, chunk.id, piece.to_vec(), older)?;
        }
        writer.add(ObjectKind::ChunkList, id, encode_chunks(&chunks), None)?;
        Ok(())
    }

    /// Whether files of that length are never cut.
    fn is_one_chunk(&self, store: &Store, bytes: u64) -> bool {
        bytes > 0 && bytes <= store.config().chunker.whole_bytes() as u64
    }
}

/// What the user is told of a file that was left out.
pub fn left_out_warning(left_out: &LeftOut) -> String {
    let LeftOut { path, reason, detail } = left_out;
    let because = detail.as_ref().map(|detail| format!(" ({detail})")).unwrap_or_default();
    match reason {
        LeftOutReason::Secret => format!("Left out, a secret: {path} (--include-secrets takes it in)"),
        LeftOutReason::Unreadable => format!("Left out, cannot be read: {path}{because}"),
        LeftOutReason::Vanished => format!("Left out, it went away: {path}"),
        LeftOutReason::SpecialFile => format!("Left out, neither file nor link: {path}"),
        LeftOutReason::Name => format!("Left out, its name or target cannot be stored: {path}{because}"),
    }
}

fn extension(path: &TrackedPath) -> &[u8] {
    path.name().rsplit(|b| *b == b'.').next().unwrap_or_default()
}

fn reason_of(error: &io::Error) -> LeftOutReason {
    if error.kind() == io::ErrorKind::NotFound { LeftOutReason::Vanished } else { LeftOutReason::Unreadable }
}

/// Reads single files.
#[derive(Clone, Copy)]
struct Reader<'r, 'w> {
    writer: &'r Writer<'w>,
    earlier: Earlier<'r>,
    horizon: Horizon,
    include_secrets: bool,
}

impl Reader<'_, '_> {
    fn read(&self, tracked: &TrackedPath, path: &Path) -> Read {
        self.try_read(tracked, path).unwrap_or_else(|error| {
            let detail = (error.kind() != io::ErrorKind::NotFound).then(|| error.kind().to_string());
            Read {
                outcome: Outcome::LeftOut(reason_of(&error), detail),
                stable: true,
                stamp: None,
                warnings: Vec::new(),
            }
        })
    }

    fn try_read(&self, tracked: &TrackedPath, path: &Path) -> io::Result<Read> {
        let done = |outcome, stamp| Ok(Read { outcome, stable: true, stamp, warnings: Vec::new() });
        if tracked.parts().count() > MAX_DEPTH {
            return done(Outcome::LeftOut(LeftOutReason::Name, Some(format!("over {MAX_DEPTH} folders deep"))), None);
        }
        let metadata = path.symlink_metadata()?;
        let look = of_metadata(&metadata, self.horizon);
        if let Some(known) = self.unchanged(tracked, look.stamp) {
            return Ok(known);
        }
        if metadata.is_symlink() {
            let target = path.read_link()?;
            let target = name_bytes(target.as_os_str()).filter(|target| is_valid_target(target)).map(<[u8]>::to_vec);
            return match target {
                Some(target) => done(Outcome::Known(Entry::Symlink { target }), look.trusted()),
                None => done(Outcome::LeftOut(LeftOutReason::Name, None), None),
            };
        }
        if metadata.len() > STREAM_BYTES {
            let mut head = Vec::new();
            open(path)?.0.take(secrets::HEAD_BYTES as u64).read_to_end(&mut head)?;
            let secret = !self.include_secrets && secrets::is_whole_file_secret(tracked, &head);
            let left_out = || Outcome::LeftOut(LeftOutReason::Secret, None);
            return done(if secret { left_out() } else { Outcome::Large }, None);
        }
        let content = read_stable(path, self.horizon, all_bytes)?;
        let (bytes, stamp) = (content.value, content.stamp);
        let head = bytes.get(..secrets::HEAD_BYTES).unwrap_or(&bytes);
        if !self.include_secrets && secrets::is_whole_file_secret(tracked, head) {
            return done(Outcome::LeftOut(LeftOutReason::Secret, None), stamp);
        }
        let id = ObjectId::of(&bytes);
        let length = bytes.len() as u64;
        let entry = Entry::File { id, bytes: length, executable: content.executable };
        let warning = |token: secrets::Token| {
            let (line, kind) = (token.line, token.kind);
            format!("{tracked}:{line} holds what looks like a secret ({kind}); it is stored with the code")
        };
        let warnings = secrets::find_tokens(&bytes).into_iter().map(warning).collect();
        let is_known = self.is_known(tracked, id) || is_stored(self.writer, id, length);
        let outcome = if is_known { Outcome::Known(entry) } else { Outcome::New(entry, bytes) };
        Ok(Read { outcome, stable: content.stable, stamp, warnings })
    }

    /// What is known of a file that has not changed since it was last seen.
    fn unchanged(&self, tracked: &TrackedPath, stamp: u64) -> Option<Read> {
        let (file, is_vouched_for) = self.earlier.seen(tracked, stamp)?;
        let outcome = match &file.taken {
            Taken::Secret => Outcome::LeftOut(LeftOutReason::Secret, None),
            Taken::Entry(entry) => {
                let is_there = match entry {
                    Entry::File { id, bytes, .. } => is_vouched_for || is_stored(self.writer, *id, *bytes),
                    Entry::Symlink { .. } => true,
                };
                if !is_there {
                    return None;
                }
                Outcome::Known(entry.clone())
            }
        };
        Some(Read { outcome, stable: true, stamp: Some(stamp), warnings: file.warnings.clone() })
    }

    /// Whether a file has the content that it was last seen with, which is sure to be stored.
    fn is_known(&self, tracked: &TrackedPath, id: ObjectId) -> bool {
        let Earlier::State { is_vouched_for: true, .. } = self.earlier else { return false };
        self.earlier.file(tracked).is_some_and(|(known, _)| known == id)
    }
}

/// What a snapshot would have for a file or link; `None` where it would not hold still.
pub fn entry_of(path: &Path) -> io::Result<Option<Entry>> {
    if path.symlink_metadata()?.is_symlink() {
        let target = path.read_link()?;
        let target = name_bytes(target.as_os_str()).filter(|target| is_valid_target(target)).map(<[u8]>::to_vec);
        let target = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a target that cannot be stored"));
        return Ok(Some(Entry::Symlink { target: target? }));
    }
    let content = read_stable(path, Horizon::now(path), |file, _| {
        let mut hasher = blake3::Hasher::new();
        let bytes = io::copy(file, &mut hasher)?;
        Ok(((ObjectId(*hasher.finalize().as_bytes()), bytes), bytes))
    })?;
    let (id, bytes) = content.value;
    Ok(content.stable.then_some(Entry::File { id, bytes, executable: content.executable }))
}

/// Whether a file's content is in the store in full.
fn is_stored(writer: &Writer<'_>, id: ObjectId, bytes: u64) -> bool {
    bytes == 0
        || writer.contains(ObjectKind::Chunk, id)
        || (writer.contains(ObjectKind::ChunkList, id)
            && writer
                .store()
                .chunks_of(id, bytes)
                .is_ok_and(|chunks| chunks.iter().all(|chunk| writer.contains(ObjectKind::Chunk, chunk.id))))
}

/// Stores a file that is too large for memory: read once to know it, and again to store it if it is new.
fn stream_file(writer: &mut Writer<'_>, store: &Store, path: &Path) -> Result<io::Result<(Entry, bool, Option<u64>)>> {
    let chunker = store.config().chunker;
    let mut last = None;
    for _ in 0..STREAM_ATTEMPTS {
        let looked = read_stable(path, Horizon::now(path), |file, _| {
            let (mut hasher, mut chunks, mut bytes) = (blake3::Hasher::new(), Vec::new(), 0u64);
            for chunk in chunker.cut_stream(BufReader::new(file)) {
                let chunk = chunk?;
                hasher.update(&chunk);
                bytes += chunk.len() as u64;
                chunks.push(ChunkRef { id: ObjectId::of(&chunk), bytes: chunk.len() as u32 });
            }
            Ok(((ObjectId(*hasher.finalize().as_bytes()), bytes, chunks), bytes))
        });
        let content = match looked {
            Ok(content) => content,
            Err(error) => return Ok(Err(error)),
        };
        let (id, bytes, chunks) = content.value;
        let entry = Entry::File { id, bytes, executable: content.executable };
        if is_stored(writer, id, bytes) {
            return Ok(Ok((entry, content.stable, content.stamp)));
        }
        let file = match open(path) {
            Ok((file, _)) => file,
            Err(error) => return Ok(Err(error)),
        };
        let mut expected = chunks.iter();
        let mut same = true;
        for chunk in chunker.cut_stream(BufReader::new(file)) {
            let chunk = match chunk {
                Ok(chunk) => chunk,
                Err(error) => return Ok(Err(error)),
            };
            let id = ObjectId::of(&chunk);
            same = expected.next().is_some_and(|expected| expected.id == id);
            if !same {
                break;
            }
            writer.add(ObjectKind::Chunk, id, chunk, None)?;
        }
        if same && expected.next().is_none() {
            match chunks.as_slice() {
                [_] => {}
                _ => drop(writer.add(ObjectKind::ChunkList, id, encode_chunks(&chunks), None)?),
            }
            return Ok(Ok((entry, content.stable, content.stamp)));
        }
        last = Some(io::Error::other("it changed between two reads, each time"));
    }
    Ok(Err(last.unwrap_or_else(|| io::Error::other("never read"))))
}

/// For each chunk of a new version, the chunk of the old version that probably stood in its place.
///
/// Between two chunks that both versions have, the i-th new chunk goes with the i-th that is gone.
fn replaced_chunks(new: &[ChunkRef], old: &[ChunkRef]) -> Vec<Option<ObjectId>> {
    let place_in_old: HashMap<ObjectId, usize> = old.iter().enumerate().map(|(n, chunk)| (chunk.id, n)).collect();
    let kept: std::collections::HashSet<ObjectId> =
        new.iter().map(|chunk| chunk.id).filter(|id| place_in_old.contains_key(id)).collect();
    let mut next = 0;
    new.iter()
        .map(|chunk| {
            if let Some(place) = place_in_old.get(&chunk.id) {
                next = place + 1;
                return None;
            }
            let candidate = old.get(next).filter(|old| !kept.contains(&old.id)).map(|old| old.id);
            match candidate {
                Some(id) => {
                    next += 1;
                    Some(id)
                }
                // More new chunks than old ones here: the last one that was replaced is the nearest relative.
                None => next.checked_sub(1).and_then(|last| old.get(last)).map(|old| old.id),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaced_chunks_go_with_those_that_stood_there() {
        let list = |names: &str| -> Vec<ChunkRef> {
            names.bytes().map(|b| ChunkRef { id: ObjectId([b; 32]), bytes: 1 }).collect()
        };
        let found = |new: &str, old: &str| -> String {
            replaced_chunks(&list(new), &list(old)).into_iter().map(|id| id.map_or('-', |id| id.0[0] as char)).collect()
        };
        assert_eq!(found("aXc", "abc"), "-b-");
        assert_eq!(found("aXYd", "abcd"), "-bc-");
        assert_eq!(found("aXYc", "abc"), "-bb-");
        assert_eq!(found("abcX", "abc"), "---c");
        assert_eq!(found("XY", ""), "--");
        assert_eq!(found("Xbc", "abc"), "a--");
    }
}
