//! Reads the files that were selected for a run, and hands what is new in them to the store.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::Map;

use super::read_stable::{all_bytes, open, read_stable};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId, random_bytes};
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::run_record::{FileStatus, LeftOut, LeftOutReason, Project, RunStart, StatusOf};
use crate::snapshot::{ChunkRef, Entry, MAX_DEPTH, Snapshot, build_trees, encode_chunks, is_valid_target};
use crate::store::{Files, Store, Writer};
use crate::tracked_files::{Selection, secrets};
use crate::tracked_path::{TrackedPath, name_bytes};

/// Files are read in groups of at most this many bytes, so that memory stays bounded.
const GROUP_BYTES: u64 = 32 << 20;
/// Longer files are read in pieces, twice if they are new.
const STREAM_BYTES: u64 = 32 << 20;
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
    tokens: Vec<secrets::Token>,
}

/// Reads the selected files and stores what is new.
pub struct Taking<'a> {
    /// What was chosen; its warnings and the files left out grow while files are taken.
    pub selection: Selection,
    /// The version before, whose files make differences small.
    base: &'a Files,
    /// What was taken.
    pub entries: BTreeMap<TrackedPath, Entry>,
    /// Files that would not hold still.
    pub statuses: Vec<StatusOf>,
}

impl<'a> Taking<'a> {
    /// Begins with nothing taken.
    pub fn new(selection: Selection, base: &'a Files) -> Self {
        Self { selection, base, entries: BTreeMap::new(), statuses: Vec::new() }
    }

    /// Hands the trees and the snapshot of what was taken to the store; the snapshot's id.
    pub fn store_snapshot(&self, writer: &mut Writer<'_>) -> Result<ObjectId> {
        let mut snapshot = Snapshot { root: ObjectId::of(&[]), outside: BTreeMap::new() };
        for tree in build_trees(&self.entries).map_err(Error::Usage)? {
            snapshot.root = tree.id;
            let older = self.base.trees.get(&tree.path).copied();
            writer.add(ObjectKind::Tree, tree.id, tree.bytes, older)?;
        }
        let encoded = snapshot.encode();
        let id = ObjectId::of(&encoded);
        writer.add(ObjectKind::Snapshot, id, encoded, None)?;
        Ok(id)
    }

    /// The record of a run with the files that were taken, and with nothing beyond them but what is given.
    ///
    /// Where its content was put is known only once the writer has flushed it.
    pub fn start_record(
        &mut self,
        (time, nanoseconds): (String, u64),
        snapshot: ObjectId,
        project: Project,
        environment: &BTreeMap<String, String>,
    ) -> RunStart {
        self.selection.left_out.sort();
        self.statuses.sort_by(|a, b| a.path.cmp(&b.path));
        // What ran, and always the runsnap that stored it.
        let mut environment = environment.clone();
        environment.entry("runsnap".to_owned()).or_insert_with(|| env!("CARGO_PKG_VERSION").to_owned());
        RunStart {
            run: RunId::new(nanoseconds, random_bytes()),
            time,
            name: None,
            sweep: None,
            snapshot,
            files: self.entries.len() as u64,
            bytes: self.entries.values().map(Entry::bytes).sum(),
            new_bytes: 0,
            packs: Vec::new(),
            project,
            entry_point: None,
            tracked_by: self.selection.tracked_by,
            file_status: FileStatus::Unknown,
            statuses: std::mem::take(&mut self.statuses),
            left_out: std::mem::take(&mut self.selection.left_out),
            warnings: std::mem::take(&mut self.selection.warnings),
            params: Map::new(),
            metrics: Map::new(),
            tags: Vec::new(),
            outside: BTreeMap::new(),
            environment,
            git_commit: None,
            host: None,
            run_folder: None,
            imported: None,
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
            let read: Vec<Read> =
                group.par_iter().map(|(tracked, path)| read_one(tracked, path, writer, include_secrets)).collect();
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
        let mut stable = read.stable;
        let entry = match read.outcome {
            Outcome::Known(entry) => entry,
            Outcome::New(entry, content) => {
                if let Entry::File { id, .. } = entry {
                    self.add_content(writer, store, tracked, id, content)?;
                }
                entry
            }
            Outcome::Large => match stream_file(writer, store, path)? {
                Ok((entry, held_still)) => {
                    stable = held_still;
                    entry
                }
                Err(error) => {
                    self.leave_out(tracked, reason_of(&error), Some(error.kind().to_string()));
                    return Ok(());
                }
            },
            Outcome::LeftOut(reason, detail) => {
                self.leave_out(tracked, reason, detail);
                return Ok(());
            }
        };
        if !stable {
            self.statuses.push(StatusOf { path: tracked.clone(), status: FileStatus::Changing });
            self.selection
                .warnings
                .push(format!("{tracked} changed each time it was read: what is stored may mix two states"));
            self.selection.has_problems = true;
        }
        for token in &read.tokens {
            let place = format!("{tracked}:{}", token.line);
            self.selection
                .warnings
                .push(format!("{place} holds what looks like a secret ({}); it is stored with the code", token.kind));
        }
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
        let older = match self.base.entries.get(path) {
            Some(Entry::File { id, bytes, .. }) => store.chunks_of(*id, *bytes).unwrap_or_default(),
            _ => Vec::new(),
        };
        let cuts = store.config().chunker.cut(&content);
        if cuts.len() == 1 {
            writer.add(ObjectKind::Chunk, id, content, older.first().map(|chunk| chunk.id))?;
            return Ok(());
        }
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
}

fn left_out_warning(left_out: &LeftOut) -> String {
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

fn read_one(tracked: &TrackedPath, path: &Path, writer: &Writer<'_>, include_secrets: bool) -> Read {
    match try_read(tracked, path, writer, include_secrets) {
        Ok(read) => read,
        Err(error) => {
            let detail = (error.kind() != io::ErrorKind::NotFound).then(|| error.kind().to_string());
            Read { outcome: Outcome::LeftOut(reason_of(&error), detail), stable: true, tokens: Vec::new() }
        }
    }
}

fn try_read(tracked: &TrackedPath, path: &Path, writer: &Writer<'_>, include_secrets: bool) -> io::Result<Read> {
    let done = |outcome| Ok(Read { outcome, stable: true, tokens: Vec::new() });
    if tracked.parts().count() > MAX_DEPTH {
        return done(Outcome::LeftOut(LeftOutReason::Name, Some(format!("over {MAX_DEPTH} folders deep"))));
    }
    let metadata = path.symlink_metadata()?;
    if metadata.is_symlink() {
        let target = path.read_link()?;
        let target = name_bytes(target.as_os_str()).filter(|target| is_valid_target(target)).map(<[u8]>::to_vec);
        return done(match target {
            Some(target) => Outcome::Known(Entry::Symlink { target }),
            None => Outcome::LeftOut(LeftOutReason::Name, None),
        });
    }
    if metadata.len() > STREAM_BYTES {
        let mut head = Vec::new();
        open(path)?.take(secrets::HEAD_BYTES as u64).read_to_end(&mut head)?;
        let secret = !include_secrets && secrets::is_whole_file_secret(tracked, &head);
        return done(if secret { Outcome::LeftOut(LeftOutReason::Secret, None) } else { Outcome::Large });
    }
    let content = read_stable(path, all_bytes)?;
    let bytes = content.value;
    if !include_secrets && secrets::is_whole_file_secret(tracked, bytes.get(..secrets::HEAD_BYTES).unwrap_or(&bytes)) {
        return done(Outcome::LeftOut(LeftOutReason::Secret, None));
    }
    let id = ObjectId::of(&bytes);
    let entry = Entry::File { id, bytes: bytes.len() as u64, executable: content.executable };
    let tokens = secrets::find_tokens(&bytes);
    let outcome =
        if is_stored(writer, id, bytes.len() as u64) { Outcome::Known(entry) } else { Outcome::New(entry, bytes) };
    Ok(Read { outcome, stable: content.stable, tokens })
}

/// What a snapshot would have for a file or link; `None` where it would not hold still.
pub fn entry_of(path: &Path) -> io::Result<Option<Entry>> {
    if path.symlink_metadata()?.is_symlink() {
        let target = path.read_link()?;
        let target = name_bytes(target.as_os_str()).filter(|target| is_valid_target(target)).map(<[u8]>::to_vec);
        let target = target.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "a target that cannot be stored"));
        return Ok(Some(Entry::Symlink { target: target? }));
    }
    let content = read_stable(path, |file| {
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
fn stream_file(writer: &mut Writer<'_>, store: &Store, path: &Path) -> Result<io::Result<(Entry, bool)>> {
    let chunker = store.config().chunker;
    let mut last = None;
    for _ in 0..STREAM_ATTEMPTS {
        let looked = read_stable(path, |file| {
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
            return Ok(Ok((entry, content.stable)));
        }
        let file = match open(path) {
            Ok(file) => file,
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
            return Ok(Ok((entry, content.stable)));
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
