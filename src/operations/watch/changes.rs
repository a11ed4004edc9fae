//! Changes of a tree as the notify crate tells of them: when it is time to look, and whose cookies have come.
//!
//! What has changed is not learned here: whoever captures finds that out by himself, since a thread that is told of
//! changes may be behind. It is behind no longer once it has told of a cookie.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{Config, ErrorKind, Event, EventKind, INotifyWatcher, RecursiveMode, Watcher};

use super::FOLDER;
use super::stop::wake;
use crate::error::{Error, Result};
use crate::operations::tree_watch::is_local;
use crate::tracked_files::walk::{IGNORE_FILES, IgnoreRules, is_never_tracked, walk};

/// A tree that changes all the time is captured this long after the first change.
const MAX_DELAY: Duration = Duration::from_secs(2);
/// Cookies of clients that were killed are remembered up to this number.
const MAX_COOKIES: usize = 1024;

/// Watches a tree's folders and the folder of the cookies, by one queue of events.
pub struct Changes {
    watcher: INotifyWatcher,
    shared: Arc<Mutex<Pending>>,
    root: PathBuf,
    store: PathBuf,
    /// Not all changes are told of, so it is looked every [`MAX_DELAY`].
    is_deaf: bool,
}

#[derive(Debug, Default)]
struct Pending {
    /// When the first and the last change since the last look were told.
    times: Option<(Instant, Instant)>,
    /// Whether there may be folders that are not watched.
    may_have_new_folders: bool,
    cookies: HashSet<String>,
    /// Whether somebody waits for one of them: else it is not worth waking anybody.
    is_cookie_awaited: bool,
}

impl Changes {
    /// Begins to watch. With the first change after a look, and a cookie that is waited for, a byte is written to `writer`.
    pub fn begin(root: &Path, store: &Path, cookie_ending: String, writer: UnixStream) -> Result<Self> {
        let shared = Arc::new(Mutex::new(Pending::default()));
        let cookies = Cookies { folder: store.join(FOLDER), ending: cookie_ending };
        let (told, folder) = (Arc::clone(&shared), cookies.folder.clone());
        let handler = move |event: notify::Result<Event>| {
            if take(&mut lock(&told), event, &cookies, Instant::now()) {
                wake(&writer);
            }
        };
        let watcher = INotifyWatcher::new(handler, Config::default()).map_err(|e| cannot_watch(root, e))?;
        let mut changes =
            Self { watcher, shared, root: root.to_owned(), store: store.to_owned(), is_deaf: !is_local(root) };
        changes.watcher.watch(&folder, RecursiveMode::NonRecursive).map_err(|e| cannot_watch(&folder, e))?;
        changes.watch_folders()?;
        Ok(changes)
    }

    /// Whether not all changes of the tree are told of.
    pub fn is_deaf(&self) -> bool {
        self.is_deaf
    }

    /// Watches all folders of the tree that are not left out of snapshots, if there may be new ones.
    ///
    /// Not by notify's own recursion: that would watch ignored folders and `.git` as well, of which some trees have more than
    /// there may be watches.
    pub fn watch_new_folders(&mut self) -> Result<()> {
        if std::mem::take(&mut lock(&self.shared).may_have_new_folders) {
            self.watch_folders()?;
        }
        Ok(())
    }

    fn watch_folders(&mut self) -> Result<()> {
        // All anew: the watch of a folder goes with it, and another one may be in its place.
        let mut watched = HashSet::new();
        loop {
            let found = walk(&self.root, &self.root, Some(&self.store), IgnoreRules::Honoured).folders;
            let new: Vec<PathBuf> = found.into_iter().filter(|folder| !watched.contains(folder)).collect();
            // A folder's names were listed before it was watched, so what has come to it in between is found by listing again.
            if new.is_empty() {
                return Ok(());
            }
            for folder in new {
                match self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                    Ok(()) => {}
                    Err(error) if is_gone(&error) && folder != self.root => {}
                    Err(error) => {
                        self.is_deaf = true;
                        return Err(cannot_watch(&folder, error));
                    }
                }
                watched.insert(folder);
            }
        }
    }

    /// How long until the tree is to be looked at; `None` until it changes.
    pub fn due_in(&self, now: Instant, debounce: Duration, last_look: Instant) -> Option<Duration> {
        let after_change = lock(&self.shared).times.map(|times| due(times, debounce));
        let regular = self.is_deaf.then(|| last_look + MAX_DELAY);
        let due = after_change.into_iter().chain(regular).min()?;
        Some(due.saturating_duration_since(now))
    }

    /// Notes that a look begins now: what was told until now will have been seen.
    pub fn begin_look(&self) {
        let mut pending = lock(&self.shared);
        // New folders are to be watched first, and the look after that is the one that counts.
        if !pending.may_have_new_folders {
            pending.times = None;
        }
    }

    /// Whether a cookie has come; it is forgotten. Where it has not, whoever waits is woken up by the next one.
    pub fn take_cookie(&self, name: &str) -> bool {
        let mut pending = lock(&self.shared);
        let has_come = pending.cookies.remove(name);
        pending.is_cookie_awaited = !has_come;
        has_come
    }
}

/// When changes are to be looked at of which the first and the last came at these times.
fn due((first, last): (Instant, Instant), debounce: Duration) -> Instant {
    (last + debounce).min(first + MAX_DELAY)
}

fn lock(shared: &Mutex<Pending>) -> MutexGuard<'_, Pending> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_gone(error: &notify::Error) -> bool {
    match &error.kind {
        ErrorKind::PathNotFound => true,
        ErrorKind::Io(error) => matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory),
        _ => false,
    }
}

fn cannot_watch(path: &Path, error: notify::Error) -> Error {
    let reason = match error.kind {
        ErrorKind::Io(error) => error,
        ErrorKind::PathNotFound => io::ErrorKind::NotFound.into(),
        ErrorKind::MaxFilesWatch => {
            io::Error::other("too many files and folders are watched (fs.inotify.max_user_watches)")
        }
        other => io::Error::other(format!("{other:?}")),
    };
    Error::io("watch", path, reason)
}

/// Which files are cookies.
struct Cookies {
    folder: PathBuf,
    ending: String,
}

/// Takes an event in; whether there is something to do now that there was not before.
fn take(pending: &mut Pending, event: notify::Result<Event>, cookies: &Cookies, now: Instant) -> bool {
    let Ok(event) = event else { return pending.changed(true, now) };
    if event.need_rescan() {
        return pending.changed(true, now);
    }
    // Captures open and read files themselves. That a writer has closed a file matters: it may have written through a map.
    let is_look = matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write));
    if is_look {
        return false;
    }
    let mut is_news = false;
    for path in &event.paths {
        if path.parent() == Some(&cookies.folder) {
            is_news |= matches!(event.kind, EventKind::Create(_)) && pending.cookie(path.file_name(), cookies);
        } else if *path != cookies.folder
            && !path.file_name().is_some_and(|name| is_never_tracked(name.as_encoded_bytes()))
        {
            is_news |= pending.changed(may_bring_folders(&event.kind, path), now);
        }
    }
    is_news
}

/// Whether there may be a folder to watch now that was not there, or was ignored.
fn may_bring_folders(kind: &EventKind, path: &Path) -> bool {
    let is_rule = path.file_name().is_some_and(|name| IGNORE_FILES.iter().any(|rule| *rule == name));
    is_rule
        || match kind {
            EventKind::Create(CreateKind::Folder) => true,
            EventKind::Modify(ModifyKind::Name(_)) => path.is_dir(),
            _ => false,
        }
}

impl Pending {
    fn changed(&mut self, may_bring_folders: bool, now: Instant) -> bool {
        let is_first = self.times.is_none();
        self.times = Some((self.times.map_or(now, |(first, _)| first), now));
        self.may_have_new_folders |= may_bring_folders;
        is_first
    }

    fn cookie(&mut self, name: Option<&OsStr>, cookies: &Cookies) -> bool {
        let name = name.and_then(OsStr::to_str).filter(|name| name.ends_with(&cookies.ending));
        let Some(name) = name else { return false };
        if self.cookies.len() >= MAX_COOKIES {
            self.cookies.clear();
        }
        self.cookies.insert(name.to_owned());
        self.is_cookie_awaited
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{DataChange, Flag, RemoveKind, RenameMode};

    use super::*;

    fn cookies() -> Cookies {
        Cookies { folder: "/tree/.runsnap/watch".into(), ending: "-a-b.cookie".into() }
    }

    fn after(kind: EventKind, path: &str) -> (bool, Pending) {
        let mut pending = Pending::default();
        let event = Event::new(kind).add_path(path.into());
        let is_news = take(&mut pending, Ok(event), &cookies(), Instant::now());
        (is_news, pending)
    }

    #[test]
    fn changes_are_news_once_and_looks_are_none() {
        let modify = EventKind::Modify(ModifyKind::Data(DataChange::Any));
        let close = |mode| EventKind::Access(AccessKind::Close(mode));
        for (kind, path, expected) in [
            (modify, "/tree/a.py", true),
            (close(AccessMode::Write), "/tree/a.py", true),
            (close(AccessMode::Read), "/tree/a.py", false),
            (EventKind::Access(AccessKind::Open(AccessMode::Any)), "/tree/a.py", false),
            (EventKind::Remove(RemoveKind::File), "/tree/a.py", true),
            (EventKind::Create(CreateKind::Folder), "/tree/.git", false),
            (EventKind::Create(CreateKind::Folder), "/tree/.runsnap/watch", false),
        ] {
            let (is_news, pending) = after(kind, path);
            assert_eq!((is_news, pending.times.is_some()), (expected, expected), "{kind:?} {path}");
        }
        let (_, mut pending) = after(modify, "/tree/a.py");
        assert!(!pending.changed(false, Instant::now()));
    }

    #[test]
    fn a_look_waits_for_quiet_but_not_for_ever() {
        let first = Instant::now();
        let after = |milliseconds| first + Duration::from_millis(milliseconds);
        let due = |last, debounce| due((first, after(last)), Duration::from_millis(debounce));
        assert_eq!(due(0, 200), after(200));
        assert_eq!(due(500, 200), after(700));
        assert_eq!(due(1900, 200), after(2000));
        assert_eq!(due(0, 60_000), after(2000));
    }

    #[test]
    fn new_folders_and_rules_are_told_from_the_rest() {
        let create = |kind| EventKind::Create(kind);
        for (kind, path, expected) in [
            (create(CreateKind::Folder), "/tree/a", true),
            (create(CreateKind::File), "/tree/a.py", false),
            (create(CreateKind::File), "/tree/a/.gitignore", true),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/", true),
            (EventKind::Modify(ModifyKind::Name(RenameMode::To)), "/no/such/folder", false),
        ] {
            assert_eq!(after(kind, path).1.may_have_new_folders, expected, "{kind:?} {path}");
        }
        let lost = Event::new(EventKind::Other).set_flag(Flag::Rescan);
        let mut pending = Pending::default();
        assert!(take(&mut pending, Ok(lost), &cookies(), Instant::now()));
        assert!(pending.may_have_new_folders);
    }

    #[test]
    fn cookies_are_those_of_the_tree() {
        let create = EventKind::Create(CreateKind::File);
        for (path, expected) in [
            ("/tree/.runsnap/watch/1-a-b.cookie", true),
            ("/tree/.runsnap/watch/1-a-c.cookie", false),
            ("/tree/.runsnap/watch/a-b.sock", false),
        ] {
            let (is_news, mut pending) = after(create, path);
            assert_eq!((is_news, pending.cookies.len()), (false, usize::from(expected)), "{path}");
            assert!(pending.times.is_none());
            pending.is_cookie_awaited = true;
            assert_eq!(pending.cookie(Path::new(path).file_name(), &cookies()), expected, "{path}");
        }
    }
}
