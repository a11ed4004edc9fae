//! The watcher itself.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};

use super::changes::Changes;
use super::client::CLAIM_WAIT;
use super::protocol::{Answer, MAX_ANSWER_BYTES, MAX_REQUEST_BYTES, Request, encode, read_message};
use super::{FOLDER, Stop, TreeKey, at_socket, peer_of_same_user};
use crate::error::{Error, Result};
use crate::id::{ObjectId, random_name};
use crate::operations::capture::{Captured, Target};
use crate::operations::session::{RunOptions, Session, SessionOptions};
use crate::run_record::WATCHERS_TAG;
use crate::storage::{Lock, Storage};
use crate::store::Store;
use crate::store::location::project_of;

/// A client that has connected sends its request at once.
const REQUEST_WAIT: Duration = Duration::from_millis(100);
/// Shorter than what the client waits, so that it is told no before it gives up.
const COOKIE_WAIT: Duration = CLAIM_WAIT.saturating_sub(REQUEST_WAIT);
/// A client that does not read its answer does not keep others waiting for longer.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// Clients in more environments than this take turns.
const MAX_SESSIONS: usize = 4;

/// What to watch and how.
#[derive(Debug, Clone)]
pub struct WatchOptions {
    /// The tree's root.
    pub tree: PathBuf,
    /// Takes files in that are secrets as a whole.
    pub include_secrets: bool,
    /// Versions of what runs.
    pub environment: BTreeMap<String, String>,
    /// The host's name.
    pub host: Option<String>,
    /// A change is captured once nothing has changed for so long.
    pub debounce: Duration,
}

/// What a watcher tells of.
#[derive(Debug)]
pub enum News<'a> {
    /// It has begun: changes are noticed, and requests answered from now on.
    Watching(&'a Path),
    /// The tree has changed, and was captured.
    Changed(&'a Captured),
    /// A client has asked for a capture and got it.
    Answered(&'a Captured),
    /// Something went wrong that does not end it.
    Problem(String),
}

/// Watches a tree until `stop` is set.
pub fn watch(store: Store, options: &WatchOptions, stop: &Stop, tell: &mut dyn FnMut(News<'_>)) -> Result<()> {
    let mut watcher = Watcher::begin(store, options, stop, tell)?;
    watcher.look(tell)?;
    let listener = watcher.listen()?;
    tell(News::Watching(&watcher.root));
    let result = watcher.serve(&listener, tell);
    watcher.end(listener, result.is_ok(), tell);
    result
}

struct Watcher<'o> {
    options: &'o WatchOptions,
    stop: &'o Stop,
    root: PathBuf,
    key: TreeKey,
    folder: PathBuf,
    changes: Changes,
    last_look: Instant,
    /// What was captured last, by this watcher's own account or for others.
    snapshot: Option<ObjectId>,
    sessions: Vec<OpenSession>,
    store: Arc<dyn Storage>,
    /// Ends with the process, however it ends.
    _lock: Box<dyn Lock>,
}

/// A session, and in what its runs run.
struct OpenSession {
    environment: BTreeMap<String, String>,
    host: Option<String>,
    session: Session,
}

impl<'o> Watcher<'o> {
    fn begin(store: Store, options: &'o WatchOptions, stop: &'o Stop, tell: &mut dyn FnMut(News<'_>)) -> Result<Self> {
        store.check_writable()?;
        let root = Target::Tree(options.tree.clone()).root()?;
        let key = key_of(&root, options)?;
        let storage = Arc::clone(store.storage());
        let folder = storage.root().canonicalize().map_err(|e| Error::io("find", storage.root(), e))?;
        storage.create_folder(FOLDER)?;
        let lock_path = key.lock();
        let Some(mut lock) = storage.try_lock(&lock_path)? else {
            let note = storage.read(&lock_path, MAX_NOTE_BYTES).unwrap_or_default();
            let process = String::from_utf8_lossy(&note).trim().parse().ok();
            return Err(Error::Watched { root, process });
        };
        lock.write_note(0, format!("{:<10}\n", std::process::id()).as_bytes())?;
        remove_leftovers(&*storage, &root);
        let writer = stop.writer().map_err(|e| Error::io("watch", &root, e))?;
        let changes = Changes::begin(&root, &folder, key.cookie_ending(), writer)?;
        if changes.is_deaf() {
            tell(News::Problem(format!(
                "This system may not be told of all changes in {}: it is looked at every few seconds",
                root.display()
            )));
        }
        let snapshot = store.newest_of(&project_of(&folder, &root).path)?;
        let mut watcher = Self {
            options,
            stop,
            root,
            key,
            folder,
            changes,
            last_look: Instant::now(),
            snapshot,
            sessions: Vec::new(),
            store: storage,
            _lock: lock,
        };
        watcher.open_session(store, options.environment.clone(), options.host.clone())?;
        Ok(watcher)
    }

    fn open_session(
        &mut self,
        store: Store,
        environment: BTreeMap<String, String>,
        host: Option<String>,
    ) -> Result<()> {
        let options = SessionOptions {
            target: Target::Tree(self.root.clone()),
            include_secrets: self.options.include_secrets,
            environment: environment.clone(),
            host: host.clone(),
        };
        let session = Session::open(store, options)?;
        self.sessions.insert(0, OpenSession { environment, host, session });
        self.sessions.truncate(MAX_SESSIONS);
        Ok(())
    }

    /// The session of runs in that environment: what a client runs in is its own, not the watcher's.
    fn session(&mut self, environment: &BTreeMap<String, String>, host: &Option<String>) -> Result<&mut Session> {
        let is_right = |open: &OpenSession| open.environment == *environment && open.host == *host;
        match self.sessions.iter().position(is_right) {
            Some(place) => {
                // The one that was used last comes first, so that the one not used for longest goes.
                let used = self.sessions.remove(place);
                self.sessions.insert(0, used);
            }
            None => self.open_session(Store::open(&self.folder)?, environment.clone(), host.clone())?,
        }
        let first = self.sessions.first_mut().map(|open| &mut open.session);
        first.ok_or_else(|| Error::Usage("No session is open".into()))
    }

    /// Binds the socket. Under another name first: whoever finds it can connect, and only its user.
    fn listen(&self) -> Result<UnixListener> {
        let (folder, name) = (self.folder.join(FOLDER), self.key.socket());
        let new = format!("{}.new", random_name());
        let bind = |path: &Path| {
            let listener = UnixListener::bind(path)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            Ok(listener)
        };
        let listener = at_socket(&folder, &new, bind).map_err(|e| Error::io("listen at", folder.join(&name), e));
        let named =
            listener.and_then(|listener| self.store.rename(&in_folder(&new), &in_folder(&name)).map(|()| listener));
        if named.is_err() {
            // The first error is the one to report.
            let _ = self.store.remove(&in_folder(&new));
        }
        named
    }

    fn serve(&mut self, listener: &UnixListener, tell: &mut dyn FnMut(News<'_>)) -> Result<()> {
        while !self.stop.is_set() {
            let due = self.changes.due_in(Instant::now(), self.options.debounce, self.last_look);
            if due.is_some_and(|due| due.is_zero()) {
                self.look(tell)?;
                continue;
            }
            self.sleep(Some(listener), due)?;
            // One at a time, so that those who ask all the time do not keep it from looking.
            match listener.accept() {
                Ok((stream, _)) => self.answer(&stream, tell),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // Too many files are open, perhaps. Whoever asks goes on alone meanwhile.
                Err(_) => self.sleep(None, Some(REQUEST_WAIT))?,
            }
        }
        Ok(())
    }

    /// Waits until somebody connects, a change or cookie has come, or it is to end; or a while.
    fn sleep(&self, listener: Option<&UnixListener>, longest: Option<Duration>) -> Result<()> {
        let readable = self.stop.readable();
        let mut waited_for = vec![PollFd::from_borrowed_fd(readable, PollFlags::IN)];
        waited_for.extend(listener.map(|listener| PollFd::from_borrowed_fd(listener.as_fd(), PollFlags::IN)));
        // A part of a millisecond too much does no harm, a busy loop would.
        let longest = longest.and_then(|longest| longest.try_into().ok());
        match poll(&mut waited_for, longest.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(Error::io("watch", &self.root, error.into())),
        }
        self.stop.drain();
        Ok(())
    }

    /// Captures the tree on the watcher's own account, unless it is as it was.
    fn look(&mut self, tell: &mut dyn FnMut(News<'_>)) -> Result<()> {
        self.last_look = Instant::now();
        if key_of(&self.root, self.options).ok().as_ref() != Some(&self.key) {
            let reason = io::Error::new(io::ErrorKind::NotFound, "it is gone, or another folder is in its place");
            return Err(Error::io("watch", &self.root, reason));
        }
        if let Err(error) = self.changes.watch_new_folders() {
            tell(News::Problem(format!("Not all changes are noticed at once any more: {error}")));
        }
        self.changes.begin_look();
        let (environment, host, snapshot) =
            (self.options.environment.clone(), self.options.host.clone(), self.snapshot);
        let run = RunOptions { tags: vec![WATCHERS_TAG.to_owned()], ..RunOptions::default() };
        let captured = self.session(&environment, &host).and_then(|session| {
            let captured = session.capture_unless(&run, snapshot)?;
            session.flush()?;
            Ok(captured)
        });
        match captured {
            Ok(Some(captured)) => {
                self.snapshot = Some(captured.snapshot);
                tell(News::Changed(&captured));
            }
            Ok(None) => {}
            // Others may free the disk, or mend the store: the next change is the next try.
            Err(error) => tell(News::Problem(format!("A state of the tree is not captured: {error}"))),
        }
        Ok(())
    }

    /// Reads a request and answers it. What goes wrong with a client is the client's to tell of.
    fn answer(&mut self, stream: &UnixStream, tell: &mut dyn FnMut(News<'_>)) {
        let Ok(request) = read_request(stream) else { return };
        let captured = match self.claim(request) {
            Ok(Some(run)) => self.capture_for(run),
            // The client does it by itself.
            Ok(None) => return,
            Err(reason) => {
                send(stream, &Answer::Declined(reason));
                return;
            }
        };
        match captured {
            Ok(captured) => {
                let has_problems = captured.has_problems;
                let answer = Answer::Captured { captured: Box::new(captured), has_problems };
                send(stream, &answer);
                if let Answer::Captured { captured, .. } = answer {
                    tell(News::Answered(&captured));
                }
            }
            Err(_) => send(stream, &Answer::Failed),
        }
    }

    /// Decides whether to do what is asked for: from then on the client does not. Nothing if the client does already.
    fn claim(&mut self, request: Vec<u8>) -> Result<Option<Request>, String> {
        let request = Request::decode(&request)?;
        if request.runsnap != env!("CARGO_PKG_VERSION") {
            return Err(format!("runsnap {}, not {}", request.runsnap, env!("CARGO_PKG_VERSION")));
        }
        // The root's own place is looked at again: it may have been renamed since.
        if request.tree != self.key || key_of(&self.root, self.options).ok().as_ref() != Some(&self.key) {
            return Err("another tree".into());
        }
        let cookie = self.key.cookie(request.run);
        let name = cookie.rsplit('/').next().unwrap_or_default();
        let end = Instant::now() + COOKIE_WAIT;
        while !self.changes.take_cookie(name) {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err("the cookie has not come".into());
            }
            self.sleep(None, Some(left)).map_err(|error| error.to_string())?;
        }
        if self.stop.is_set() {
            return Err("about to end".into());
        }
        Ok(self.store.remove(&cookie).is_ok().then_some(request))
    }

    fn capture_for(&mut self, request: Request) -> Result<Captured> {
        let Request { environment, host, run, name, sweep, params, tags, run_folder, .. } = request;
        let run = RunOptions { run: Some(run), name, sweep, params, tags, run_folder };
        self.changes.begin_look();
        let session = self.session(&environment, &host)?;
        let captured = session.capture(&run)?;
        session.flush()?;
        self.snapshot = Some(captured.snapshot);
        Ok(captured)
    }

    /// Nobody connects from here on. What has changed is still captured, whether or not it has been told of already.
    fn end(&mut self, listener: UnixListener, may_look: bool, tell: &mut dyn FnMut(News<'_>)) {
        // Others take the name for a watcher's, so it goes before the socket does.
        let _ = self.store.remove(&in_folder(&self.key.socket()));
        drop(listener);
        if may_look && let Err(error) = self.look(tell) {
            tell(News::Problem(error.to_string()));
        }
        remove_leftovers(&*self.store, &self.root);
    }
}

/// More than a note has.
const MAX_NOTE_BYTES: u64 = 64;

fn key_of(root: &Path, options: &WatchOptions) -> Result<TreeKey> {
    TreeKey::of(root, options.include_secrets).map_err(|e| Error::io("read", root, e))
}

fn in_folder(name: &str) -> String {
    format!("{FOLDER}/{name}")
}

/// Removes what earlier watchers of this tree, with whatever options, and their clients have left when they were killed.
///
/// If a client is still about to ask an earlier watcher, it finds its cookie gone and nobody at the other end. It then looks
/// for its run before it captures, as if it had been taken.
fn remove_leftovers(store: &dyn Storage, root: &Path) {
    // A list names files alone, so cookies are among them and sockets are not.
    let files = store.list(FOLDER).unwrap_or_default();
    for key in [false, true].iter().filter_map(|include_secrets| TreeKey::of(root, *include_secrets).ok()) {
        let cookies = files.iter().filter(|file| file.name.ends_with(&key.cookie_ending()));
        for name in cookies.map(|file| file.name.clone()).chain([key.socket()]) {
            let _ = store.remove(&in_folder(&name));
        }
    }
}

/// Reads what somebody sends who has the right to ask.
fn read_request(stream: &UnixStream) -> io::Result<Vec<u8>> {
    peer_of_same_user(stream).ok_or(io::ErrorKind::PermissionDenied)?;
    stream.set_read_timeout(Some(REQUEST_WAIT))?;
    stream.set_write_timeout(Some(ANSWER_WAIT))?;
    read_message(stream, MAX_REQUEST_BYTES, Some(Instant::now() + REQUEST_WAIT), || false)
}

/// Sends an answer. A client that does not get one looks in the store.
fn send(mut stream: &UnixStream, answer: &Answer) {
    if let Some(bytes) = encode(answer, MAX_ANSWER_BYTES) {
        let _ = stream.write_all(&bytes);
    }
}
