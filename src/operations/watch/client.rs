//! Asks the watcher of a tree for a capture, and captures alone where there is none or it does not answer.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::protocol::{Answer, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Request, VERSION, encode, read_message};
use super::{FOLDER, TreeKey, at_socket, peer_of_same_user};
use crate::error::{Error, Result};
use crate::id::RunId;
use crate::operations::capture::{CaptureOptions, Captured, Target, capture, check_run};
use crate::operations::run_folder::{self, Manifest};
use crate::progress::Progress;
use crate::run_record::{LeftOutReason, RunRecord, RunStart, now};
use crate::store::Store;

/// A watcher that has not begun by then is not waited for.
pub const CLAIM_WAIT: Duration = Duration::from_millis(500);
/// So often it is looked whether a watcher that has begun still runs.
const LIVE_WAIT: Duration = Duration::from_secs(1);

/// Captures a run like [`capture`]: by the watcher of its tree, where `store` (a store's folder) has one.
///
/// The store itself is opened only where it is needed.
pub fn capture_with_watcher(
    store: Option<&Path>,
    open: impl FnOnce() -> Result<Store>,
    options: &CaptureOptions,
    progress: &dyn Progress,
) -> Result<Captured> {
    check_run(options.name.as_deref(), options.sweep.as_deref(), &options.tags)?;
    match store.map_or(Ok(Asked::Nobody), |store| ask(store, options))? {
        Asked::Captured(captured) => Ok(*captured),
        Asked::Nobody => capture(&open()?, options, progress),
        Asked::Unknown(run) => {
            let store = open()?;
            match recorded(&store, run)? {
                Some(captured) => Ok(captured),
                None => capture(&store, &CaptureOptions { run: Some(run), ..options.clone() }, progress),
            }
        }
    }
}

/// What came of asking.
enum Asked {
    /// It is done.
    Captured(Box<Captured>),
    /// Nobody has done it or ever will.
    Nobody,
    /// A watcher has begun, and will do nothing any more: perhaps the run is there.
    Unknown(RunId),
}

fn ask(store: &Path, options: &CaptureOptions) -> Result<Asked> {
    let Some(key) = watched(store, options) else { return Ok(Asked::Nobody) };
    let run = RunId::at(now().1);
    let Some(request) = encode_request(key.clone(), run, options) else { return Ok(Asked::Nobody) };
    let Some(cookie) = Cookie::make(store, &key, run) else { return Ok(Asked::Nobody) };
    let Some((stream, process)) = connect(store, &key) else {
        cookie.take_back();
        return Ok(Asked::Nobody);
    };
    let set_wait = |wait| stream.set_read_timeout(Some(wait)).and_then(|()| stream.set_write_timeout(Some(wait)));
    let sent = set_wait(CLAIM_WAIT).and_then(|()| (&stream).write_all(&request));
    // Until it is known that the watcher has begun, the client may still take the task back.
    let (mut has_begun, mut was_taken_back, mut was_stopped, mut is_stopped) = (false, false, false, false);
    let answer = sent.and_then(|()| {
        read_message(&stream, MAX_ANSWER_BYTES, None, || {
            if !has_begun {
                was_taken_back = cookie.take_back();
                has_begun = true;
                return !was_taken_back && set_wait(LIVE_WAIT).is_ok();
            }
            // Two looks in a row, as a debugger stops a process for a moment.
            (was_stopped, is_stopped) = (is_stopped, is_process_stopped(process));
            !(was_stopped && is_stopped)
        })
    });
    if was_taken_back {
        return Ok(Asked::Nobody);
    }
    match answer.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        Some(Answer::Captured { captured, has_problems }) => {
            Ok(Asked::Captured(Box::new(Captured { has_problems, ..*captured })))
        }
        Some(Answer::Declined(_)) => {
            cookie.take_back();
            Ok(Asked::Nobody)
        }
        // It has died, or what it has sent cannot be read.
        Some(Answer::Failed) | None if !has_begun && cookie.take_back() => Ok(Asked::Nobody),
        _ if was_stopped && is_stopped => Err(Error::WatcherStopped { process, run }),
        _ => Ok(Asked::Unknown(run)),
    }
}

/// The file by whose removal it is decided who captures.
struct Cookie {
    path: PathBuf,
}

impl Cookie {
    /// Makes one, as another name of the lock's file: that takes a third of the time of a new file, and much less where a
    /// file system has to look for a free place for one.
    fn make(store: &Path, key: &TreeKey, run: RunId) -> Option<Self> {
        let path = store.join(key.cookie(run));
        let linked = fs::hard_link(store.join(key.lock()), &path);
        linked.or_else(|_| File::create_new(&path).map(drop)).ok()?;
        Some(Self { path })
    }

    /// Whether the watcher has not begun, and cannot begin any more.
    fn take_back(&self) -> bool {
        fs::remove_file(&self.path).is_ok()
    }
}

/// The tree to capture, if there seems to be a watcher of it.
fn watched(store: &Path, options: &CaptureOptions) -> Option<TreeKey> {
    let Target::Tree(_) = &options.target else { return None };
    let root = options.root.clone().or_else(|| options.target.root().ok())?;
    let key = TreeKey::of(&root, options.include_secrets).ok()?;
    store.join(FOLDER).join(key.socket()).symlink_metadata().ok().map(|_| key)
}

/// Connects when there is all that is needed to ask: a watcher that is woken by it need not wait for the rest.
fn connect(store: &Path, key: &TreeKey) -> Option<(UnixStream, i32)> {
    let stream = at_socket(&store.join(FOLDER), &key.socket(), |path| UnixStream::connect(path)).ok()?;
    let process = peer_of_same_user(&stream)?;
    Some((stream, process))
}

fn encode_request(tree: TreeKey, run: RunId, options: &CaptureOptions) -> Option<Vec<u8>> {
    let folder = options.run_folder.as_deref().map(std::path::absolute).transpose().ok()?;
    let request = Request {
        version: VERSION,
        runsnap: env!("CARGO_PKG_VERSION").to_owned(),
        tree,
        run,
        name: options.name.clone(),
        sweep: options.sweep.clone(),
        params: options.params.clone(),
        tags: options.tags.clone(),
        run_folder: folder,
        environment: options.environment.clone(),
        host: options.host.clone(),
    };
    encode(&request, MAX_REQUEST_BYTES)
}

/// Whether a process has been stopped, by a signal or a debugger.
fn is_process_stopped(process: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    matches!(state, Some('T' | 't'))
}

/// The run of that id, if a watcher has recorded it before it died.
fn recorded(store: &Store, run: RunId) -> Result<Option<Captured>> {
    let runs = store.runs()?;
    let found = runs.between(run, run).first().and_then(|row| runs.run(*row));
    let Some(start) = found.map(|run| run.start) else { return Ok(None) };
    // Perhaps it was not flushed any more. The same record again says nothing new, and is.
    store.writer()?.commit(&[RunRecord::Start(Box::new(start.clone()))])?;
    let mut captured = captured(store, start.clone());
    if let Err(error) = write_run_folder(store, &start) {
        captured.warnings.push(format!("The run is captured, but its folder lacks its two files: {error}"));
        captured.has_problems = true;
    }
    Ok(Some(captured))
}

fn captured(store: &Store, start: RunStart) -> Captured {
    let is_problem = |reason: LeftOutReason| reason != LeftOutReason::Secret;
    let has_problems = !start.statuses.is_empty() || start.left_out.iter().any(|file| is_problem(file.reason));
    let folder = store.storage().root();
    Captured {
        run: start.run,
        name: start.name,
        snapshot: start.snapshot,
        files: start.files,
        bytes: start.bytes,
        new_bytes: start.new_bytes,
        store: folder.canonicalize().unwrap_or_else(|_| folder.to_owned()),
        entry_point: start.entry_point,
        tracked_by: start.tracked_by,
        left_out: start.left_out,
        data: start.data,
        statuses: start.statuses,
        warnings: start.warnings,
        has_problems,
    }
}

/// Writes the two files of a run's folder, which the watcher may not have come to.
fn write_run_folder(store: &Store, start: &RunStart) -> Result<()> {
    let Some(folder) = &start.run_folder else { return Ok(()) };
    let files = store.files_of(start.snapshot)?;
    let metadata = run_folder::metadata(start, store.config().store, &files.entries);
    let manifest = Manifest::of(start, store.config().store).encode();
    run_folder::write(&*store.storage().at(Path::new(&folder.path)), &manifest, run_folder::Metadata::whole(&metadata))
}
