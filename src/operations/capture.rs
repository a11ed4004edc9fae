//! capture: takes a snapshot of a run's files and records the run.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader, Read as _};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value};

use super::read_stable::{all_bytes, read_stable};
use super::{git_commit, run_folder};
use crate::entry_point::{EntryPoint, EntryPointKind, FoundBy};
use crate::error::{Error, Result};
use crate::id::{ObjectId, RunId, random_bytes};
use crate::pack::format::ObjectKind;
use crate::progress::Progress;
use crate::run_record::{
    FileStatus, LeftOut, LeftOutReason, RunFolder, RunRecord, RunStart, StatusOf, TrackedBy, check_label, check_name,
    now,
};
use crate::snapshot::{ChunkRef, Entry, MAX_DEPTH, Snapshot, build_trees, encode_chunks, is_valid_target};
use crate::store::location::{project_of, project_root};
use crate::store::{Files, Store, Writer};
use crate::tracked_files::walk::{IgnoreRules, walk};
use crate::tracked_files::{Selection, secrets, strategy_yaml};
use crate::tracked_path::{TrackedPath, name_bytes};

/// Files are read in groups of at most this many bytes, so that memory stays bounded.
const GROUP_BYTES: u64 = 32 << 20;
/// Longer files are read in pieces, twice if they are new.
const STREAM_BYTES: u64 = 32 << 20;
/// A large file that changes between its two reads is tried this often.
const STREAM_ATTEMPTS: usize = 3;

/// What to capture.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// Every file below a folder, ignored ones aside.
    Tree(PathBuf),
    /// What a script uses.
    Entry(PathBuf),
}

impl Target {
    /// The root of the project that the target is in: the tree itself, or the nearest folder above the script with a
    /// root marker.
    pub fn root(&self) -> Result<PathBuf> {
        match self {
            Self::Tree(folder) => resolve(folder, Path::is_dir, "a folder"),
            Self::Entry(file) => {
                let file = resolve(file, Path::is_file, "a file")?;
                Ok(project_root(file.parent().unwrap_or(&file)))
            }
        }
    }
}

fn resolve(path: &Path, is_right: fn(&Path) -> bool, what: &str) -> Result<PathBuf> {
    let resolved = path.canonicalize().map_err(|e| Error::io("read", path, e))?;
    if is_right(&resolved) { Ok(resolved) } else { Err(Error::Usage(format!("Not {what}: {}", path.display()))) }
}

/// How to capture it.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// What to capture.
    pub target: Target,
    /// The run's name.
    pub name: Option<String>,
    /// The sweep that it is part of.
    pub sweep: Option<String>,
    /// Its parameters.
    pub params: Map<String, Value>,
    /// Its tags.
    pub tags: Vec<String>,
    /// The folder that gets the manifest and the metadata file.
    pub run_folder: Option<PathBuf>,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
}

impl CaptureOptions {
    /// Captures `target` without a name, sweep or run folder.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            name: None,
            sweep: None,
            params: Map::new(),
            tags: Vec::new(),
            run_folder: None,
            include_secrets: false,
            environment: BTreeMap::new(),
            host: None,
        }
    }
}

/// A captured run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Captured {
    /// The run.
    pub run: RunId,
    /// Its name.
    pub name: Option<String>,
    /// The code.
    pub snapshot: ObjectId,
    /// How many files and links the snapshot has.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many bytes of packs this capture wrote: 0 for code that was there already.
    pub new_bytes: u64,
    /// The store.
    pub store: PathBuf,
    /// What was run.
    pub entry_point: Option<EntryPoint>,
    /// How the files were chosen.
    pub tracked_by: TrackedBy,
    /// Files that are not in the snapshot.
    pub left_out: Vec<LeftOut>,
    /// Files whose status is not `unknown`.
    pub statuses: Vec<StatusOf>,
    /// What the user should know, a line each.
    pub warnings: Vec<String>,
    /// Whether something that was asked for could not be done.
    #[serde(skip)]
    pub has_problems: bool,
}

/// Captures a run: once this returns, it survives a power cut.
pub fn capture(store: &Store, options: &CaptureOptions, progress: &dyn Progress) -> Result<Captured> {
    check_options(options)?;
    let root = options.target.root()?;
    let store_folder = store.storage().root().canonicalize().unwrap_or_else(|_| store.storage().root().to_owned());
    let project = project_of(&store_folder, &root);
    let mut writer = store.writer()?;
    let (is_taken, newest) = store.look_before_capture(options.name.as_deref(), &project.path)?;
    if let (true, Some(name)) = (is_taken, &options.name) {
        return Err(Error::NameInUse { name: name.clone() });
    }
    let (selection, entry_point) = select(&root, &store_folder, &options.target)?;
    // The version before this one only makes differences small: when it cannot be read, whole files are stored.
    let base = newest.and_then(|snapshot| store.files_of(snapshot).ok()).unwrap_or_default();
    let (time, nanoseconds) = now();
    let mut taking = Taking::new(selection, &base);
    taking.take_all(&mut writer, store, options.include_secrets, progress)?;
    let trees = build_trees(&taking.entries).map_err(Error::Usage)?;
    let mut snapshot = Snapshot { root: ObjectId::of(&[]), outside: BTreeMap::new() };
    for tree in trees {
        snapshot.root = tree.id;
        let older = base.trees.get(&tree.path).copied();
        writer.add(ObjectKind::Tree, tree.id, tree.bytes, older)?;
    }
    let encoded = snapshot.encode();
    let snapshot = ObjectId::of(&encoded);
    writer.add(ObjectKind::Snapshot, snapshot, encoded, None)?;
    writer.flush_objects()?;

    let folder = options.run_folder.as_deref().map(std::path::absolute).transpose();
    let folder = folder.map_err(|e| Error::io("find", options.run_folder.clone().unwrap_or_default(), e))?;
    taking.selection.left_out.sort();
    taking.statuses.sort_by(|a, b| a.path.cmp(&b.path));
    let mut start = RunStart {
        run: RunId::new(nanoseconds, random_bytes()),
        time,
        name: options.name.clone(),
        sweep: options.sweep.clone(),
        snapshot,
        files: taking.entries.len() as u64,
        bytes: taking.entries.values().map(length).sum(),
        new_bytes: writer.new_bytes(),
        packs: writer.new_packs().to_vec(),
        project,
        entry_point,
        tracked_by: taking.selection.tracked_by,
        file_status: FileStatus::Unknown,
        statuses: taking.statuses,
        left_out: taking.selection.left_out,
        warnings: taking.selection.warnings,
        params: options.params.clone(),
        metrics: Map::new(),
        tags: options.tags.clone(),
        outside: BTreeMap::new(),
        environment: with_version(&options.environment),
        git_commit: git_commit::of_folder(&root),
        host: options.host.clone(),
        run_folder: None,
    };
    let mut files_for_folder = None;
    if let Some(folder) = folder {
        let metadata = run_folder::metadata(&start, store.config().store, &taking.entries);
        let path = folder.to_string_lossy().into_owned();
        start.run_folder = Some(RunFolder { path, metadata_hash: run_folder::metadata_hash(&metadata) });
        files_for_folder = Some((folder, metadata));
    }
    let record = RunRecord::Start(Box::new(start));
    writer.commit(std::slice::from_ref(&record))?;
    drop(writer);
    let RunRecord::Start(start) = record else { unreachable!("made above") };
    let mut captured = Captured {
        run: start.run,
        name: start.name.clone(),
        snapshot,
        files: start.files,
        bytes: start.bytes,
        new_bytes: start.new_bytes,
        store: store_folder,
        entry_point: start.entry_point.clone(),
        tracked_by: start.tracked_by,
        left_out: start.left_out.clone(),
        statuses: start.statuses.clone(),
        warnings: start.warnings.clone(),
        has_problems: taking.selection.has_problems,
    };
    // From here on the run is safe: what fails now is told, and costs nothing that cannot be made again.
    if let Some((folder, metadata)) = files_for_folder {
        let manifest = run_folder::Manifest::of(&start, store.config().store).encode();
        if let Err(error) = run_folder::write(&*store.storage().at(&folder), &manifest, &metadata) {
            captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
            captured.has_problems = true;
        }
    }
    if let Err(error) = store.update_index(false) {
        progress.warn(&format!("The index is not up to date: {error}"));
    }
    Ok(captured)
}

/// What ran, and always the runsnap that captured it.
fn with_version(environment: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut out = environment.clone();
    out.entry("runsnap".to_owned()).or_insert_with(|| env!("CARGO_PKG_VERSION").to_owned());
    out
}

fn check_options(options: &CaptureOptions) -> Result<()> {
    if let Some(name) = &options.name {
        check_name(name)?;
    }
    if let Some(sweep) = &options.sweep {
        check_label("sweep", sweep)?;
    }
    options.tags.iter().try_for_each(|tag| check_label("tag", tag))
}

fn length(entry: &Entry) -> u64 {
    match entry {
        Entry::File { bytes, .. } => *bytes,
        Entry::Symlink { target } => target.len() as u64,
    }
}

/// Chooses the files of a target.
fn select(root: &Path, store: &Path, target: &Target) -> Result<(Selection, Option<EntryPoint>)> {
    let entry = match target {
        Target::Tree(_) => return Ok((walk(root, root, Some(store), IgnoreRules::Honoured), None)),
        Target::Entry(entry) => resolve(entry, Path::is_file, "a file")?,
    };
    let tracked = entry.strip_prefix(root).ok().and_then(TrackedPath::from_path);
    let path = tracked.ok_or_else(|| Error::Usage(format!("Its name cannot be stored: {}", entry.display())))?;
    let entry_point = EntryPoint {
        path: path.clone(),
        kind: EntryPointKind::Script,
        found_by: FoundBy::CommandLine,
        confidence: 1.0,
    };
    let mut warnings = Vec::new();
    let selection = strategy_yaml::select(root, &entry, Some(store), &mut warnings).unwrap_or_else(|| {
        let mut alone = Selection::new(TrackedBy::EntryPointOnly);
        alone.has_problems = !warnings.is_empty();
        alone.warnings = std::mem::take(&mut warnings);
        alone.warnings.push(format!(
            "Only {path} itself is tracked: list the other files of this run in a {} beside it",
            strategy_yaml::FILE_NAME
        ));
        alone.files.insert(path, entry.clone());
        alone
    });
    Ok((selection, Some(entry_point)))
}

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
struct Taking<'a> {
    selection: Selection,
    base: &'a Files,
    entries: BTreeMap<TrackedPath, Entry>,
    statuses: Vec<StatusOf>,
}

impl<'a> Taking<'a> {
    fn new(selection: Selection, base: &'a Files) -> Self {
        Self { selection, base, entries: BTreeMap::new(), statuses: Vec::new() }
    }

    fn take_all(
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
        super::read_stable::open(path)?.take(secrets::HEAD_BYTES as u64).read_to_end(&mut head)?;
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
        let file = match super::read_stable::open(path) {
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
