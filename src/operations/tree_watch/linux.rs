//! inotify.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ffi::CStr;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::inotify::{self, CreateFlags, Event, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;
use rustix::process::{Pid, getpid};

use super::{Changed, Changes, Untrusted, file_systems};
use crate::tracked_files::walk::is_never_tracked;

/// Each write is told by MODIFY before it returns, and so is a cut, by whatever call. CLOSE_WRITE is for writes that no call
/// makes or tells of, through a memory map or by io_submit: it comes when the last holder lets go. For all others it says
/// again what is known, later if a child of the writer has inherited the open file: that costs a look at an unchanged file.
const CONTENT: WatchFlags = WatchFlags::MODIFY.union(WatchFlags::CLOSE_WRITE).union(WatchFlags::ATTRIB);
const FOLDER: WatchFlags = CONTENT
    .union(WatchFlags::CREATE)
    .union(WatchFlags::DELETE)
    .union(WatchFlags::MOVE)
    .union(WatchFlags::DELETE_SELF)
    .union(WatchFlags::MOVE_SELF)
    .union(WatchFlags::ONLYDIR)
    .union(WatchFlags::DONT_FOLLOW);
/// That its names come and go is told to their folders. Added, so that a folder that has come in the file's place and is
/// watched already keeps what it has.
const FILE: WatchFlags = CONTENT.union(WatchFlags::MASK_ADD).union(WatchFlags::DONT_FOLLOW);

/// Some hundred events, or a dozen with the longest names.
const BUFFER_BYTES: usize = 4096;
/// More than the kernel queues unless it is told to: who writes as quickly as we read does not hold us for ever.
const MAX_EVENTS: usize = 1 << 16;

/// Watches a tree for changes.
///
/// It belongs to the process that made it. A child that inherited it by a fork would take the parent's events away: it
/// is told [`Changes::All`], without a look at the events, and makes one of its own. Other programs do not inherit it.
#[derive(Debug)]
pub struct TreeWatch {
    inotify: OwnedFd,
    owner: Pid,
    watched: HashMap<i32, Watched>,
    folders: usize,
    lost: bool,
}

#[derive(Debug)]
enum Watched {
    Folder(usize),
    /// The names it was added under.
    File(Vec<Changed>),
}

impl TreeWatch {
    /// Prepares to watch the tree of a folder; nothing is watched yet, `root` neither.
    ///
    /// Refuses a folder on a file system that the kernel may not know all changes of.
    pub fn new(root: &Path) -> Result<Self, Untrusted> {
        check_file_system(root)?;
        let inotify = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| untrusted(e, root))?;
        Ok(Self { inotify, owner: getpid(), watched: HashMap::new(), folders: 0, lost: false })
    }

    /// Watches the files of a folder, not those of the folders in it; gives the folder's number, counted from 0.
    ///
    /// Refuses what is not a folder, a link to one as well, a folder that it watches already (mounted elsewhere in the
    /// tree), and file systems as [`TreeWatch::new`] does.
    pub fn add_folder(&mut self, path: &Path) -> Result<usize, Untrusted> {
        check_file_system(path)?;
        let watch = inotify::add_watch(&self.inotify, path, FOLDER).map_err(|e| untrusted(e, path))?;
        match self.watched.entry(watch) {
            Entry::Occupied(_) => Err(Untrusted::Failed(format!("{} is watched already", path.display()))),
            Entry::Vacant(entry) => {
                let folder = self.folders;
                entry.insert(Watched::Folder(folder));
                self.folders += 1;
                Ok(folder)
            }
        }
    }

    /// Watches a regular file in a watched folder under all the names (hard links) that it has anywhere.
    ///
    /// Its folder alone is not told of writes through a name elsewhere. The watch goes with the file, not with the name: a
    /// file that was [`Changed`] and has several names is to be added again.
    pub fn add_file(&mut self, folder: usize, path: &Path) -> Result<(), Untrusted> {
        let failed = |what| Err(Untrusted::Failed(format!("{} is {what}", path.display())));
        let Some(name) = path.file_name() else { return failed("not a file") };
        check_file_system(path)?;
        let changed = Changed { folder, name: name.as_bytes().to_vec() };
        let watch = inotify::add_watch(&self.inotify, path, FILE).map_err(|e| untrusted(e, path))?;
        match self.watched.entry(watch).or_insert_with(|| Watched::File(Vec::new())) {
            Watched::Folder(_) => return failed("a folder"),
            Watched::File(names) if names.contains(&changed) => {}
            Watched::File(names) => names.push(changed),
        }
        Ok(())
    }

    /// Tells what has happened since the last look, by all calls that had returned when this one was made.
    pub fn take(&mut self) -> Changes {
        self.take_at_most(MAX_EVENTS)
    }

    pub(super) fn take_at_most(&mut self, events: usize) -> Changes {
        if self.lost || getpid() != self.owner {
            return Changes::All;
        }
        match read_events(&self.inotify, &mut self.watched, events) {
            Some(changed) if changed.is_empty() => Changes::None,
            Some(mut changed) => {
                changed.sort_unstable();
                changed.dedup();
                Changes::Files(changed)
            }
            None => {
                self.lost = true;
                Changes::All
            }
        }
    }
}

/// The files that all queued events are about, or nothing if there is an event that cannot be pinned to files.
fn read_events(inotify: &OwnedFd, watched: &mut HashMap<i32, Watched>, limit: usize) -> Option<Vec<Changed>> {
    let mut buffer = [MaybeUninit::uninit(); BUFFER_BYTES];
    let mut reader = Reader::new(inotify, &mut buffer);
    let mut changed = Vec::new();
    for _ in 0..limit {
        match reader.next() {
            Ok(event) => take_event(&event, watched, &mut changed)?,
            Err(Errno::AGAIN) => return Some(changed),
            Err(_) => return None,
        }
    }
    None
}

fn take_event(event: &Event<'_>, watched: &mut HashMap<i32, Watched>, changed: &mut Vec<Changed>) -> Option<()> {
    let what = event.events();
    if what.intersects(ReadFlags::QUEUE_OVERFLOW | ReadFlags::UNMOUNT) {
        return None;
    }
    match watched.get(&event.wd())? {
        Watched::Folder(folder) => {
            // Without a name it is about the folder itself: it is gone, has moved, or may be read by others now.
            let name = event.file_name().map(CStr::to_bytes)?;
            if is_never_tracked(name) {
                return Some(());
            }
            if what.contains(ReadFlags::ISDIR) {
                return None;
            }
            // A writer's events mostly come in a row.
            if changed.last().is_none_or(|last: &Changed| last.folder != *folder || last.name != name) {
                changed.push(Changed { folder: *folder, name: name.to_vec() });
            }
        }
        Watched::File(names) => {
            changed.extend_from_slice(names);
            if what.contains(ReadFlags::IGNORED) {
                watched.remove(&event.wd());
            }
        }
    }
    Some(())
}

fn check_file_system(path: &Path) -> Result<(), Untrusted> {
    let stat = rustix::fs::statfs(path).map_err(|e| untrusted(e, path))?;
    // The type's width differs between systems, and its sign with it; all numbers have 32 bits.
    file_systems::check(stat.f_type as u32)
}

fn untrusted(error: Errno, path: &Path) -> Untrusted {
    match error {
        Errno::NOSPC => Untrusted::TooManyWatches,
        Errno::MFILE => Untrusted::TooManyWatchers,
        Errno::NOSYS => Untrusted::NoNotifications,
        _ => Untrusted::Failed(format!("{} cannot be watched: {}", path.display(), std::io::Error::from(error))),
    }
}

/// Whether this system alone changes what is below a folder, and sets its times.
pub fn is_local(folder: &Path) -> bool {
    check_file_system(folder).is_ok()
}

#[cfg(test)]
impl TreeWatch {
    /// How many folders and files it knows the watches of.
    pub(super) fn watched(&self) -> usize {
        self.watched.len()
    }

    /// Gives it to another process, as a fork would; tells whose it was.
    pub(super) fn owned_by(&mut self, process: Pid) -> Pid {
        std::mem::replace(&mut self.owner, process)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_say_which_limit_was_met() {
        let error = |errno| untrusted(errno, Path::new("/tree"));
        assert_eq!(error(Errno::NOSPC), Untrusted::TooManyWatches);
        assert_eq!(error(Errno::MFILE), Untrusted::TooManyWatchers);
        assert_eq!(error(Errno::NOSYS), Untrusted::NoNotifications);
        assert_eq!(error(Errno::ACCESS).to_string(), "/tree cannot be watched: Permission denied (os error 13)");
    }
}
