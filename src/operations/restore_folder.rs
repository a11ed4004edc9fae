//! The folder that a run is restored into, as a door that leads nowhere else.
//!
//! Every folder is opened from its parent's handle and never through a symbolic link, so that neither a stored name nor
//! a link that stands (or is put) in the folder can send a write outside of it.
//!
//! A folder that is new gets its name last: until then it has a temporary one beside it, and everything is written into
//! it there. So it is there with all that could be restored, or not at all, and a file in it needs no temporary name of
//! its own. In a folder that was there before, each file has one until its content is complete.

use std::io;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::tracked_path::TrackedPath;

/// What happens to a file that is there already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the one from the snapshot is reported as not restored. In a folder that was empty this means that
    /// two names of the snapshot are one for this file system.
    Refuse,
    /// It is replaced.
    Replace,
}

/// A file being written.
pub struct RestoredFile {
    file: std::fs::File,
    path: PathBuf,
}

impl RestoredFile {
    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        io::Write::write_all(&mut self.file, bytes).map_err(|e| Error::io("write", &self.path, e))
    }
}

fn in_the_way(existing: Existing) -> io::Error {
    let reason = match existing {
        Existing::Refuse => "its name is taken: for this file system two names of the snapshot are one",
        Existing::Replace => "a folder of that name is in the way",
    };
    io::Error::new(io::ErrorKind::AlreadyExists, reason)
}

fn temporary_name() -> String {
    format!(".runsnap-{}.tmp", crate::id::random_name())
}

/// Whether a folder has anything in it; a missing one has not.
fn is_empty(path: &Path) -> Result<bool> {
    match path.read_dir() {
        Ok(mut entries) => Ok(entries.next().is_none()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(Error::io("restore into", path, e)),
    }
}

#[cfg(unix)]
mod platform {
    use std::collections::HashMap;
    use std::os::fd::{AsFd, OwnedFd};
    use std::sync::{Arc, Mutex, PoisonError};

    use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, symlinkat, unlinkat};
    use rustix::io::Errno;
    use rustix::path::Arg;

    use super::{
        Error, Existing, Path, PathBuf, RestoredFile, Result, TrackedPath, in_the_way, io, is_empty, temporary_name,
    };

    const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::RDONLY);
    const NEW_FOLDER: Mode = Mode::from_raw_mode(0o777);
    const NEW_FILE: OFlags =
        OFlags::WRONLY.union(OFlags::CREATE).union(OFlags::EXCL).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

    /// An open folder to restore into.
    pub struct RestoreFolder {
        path: PathBuf,
        /// Where the folder is until [`RestoreFolder::finish`], if it is this restore that makes it.
        unnamed: Option<PathBuf>,
        root: Arc<OwnedFd>,
        /// Handles of folders below; cleared when there are many, because a process may open only so many.
        open: Mutex<HashMap<Vec<u8>, Arc<OwnedFd>>>,
    }

    const MAX_OPEN: usize = 200;

    impl RestoreFolder {
        /// Opens the folder, making it where it is missing; refuses one with something in it unless `force`.
        pub fn open(path: &Path, force: bool) -> Result<Self> {
            let is_missing = path.symlink_metadata().is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
            if let (true, Some(parent), Some(_)) = (is_missing, path.parent(), path.file_name()) {
                return Self::create(path, parent);
            }
            if !force && !is_empty(path)? {
                return Err(Error::NotEmpty { path: path.to_owned() });
            }
            std::fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, e))?;
            // The folder itself may be reached through a link: that is where the user pointed.
            let flags = OFlags::DIRECTORY | OFlags::CLOEXEC | OFlags::RDONLY;
            let root = openat(CWD, path, flags, Mode::empty()).map_err(|e| Error::io("open", path, e.into()))?;
            Ok(Self { path: path.to_owned(), unnamed: None, root: Arc::new(root), open: Mutex::default() })
        }

        fn create(path: &Path, parent: &Path) -> Result<Self> {
            let failed = |e: io::Error| Error::io("make the folder", path, e);
            if !parent.as_os_str().is_empty() {
                std::fs::create_dir_all(parent).map_err(failed)?;
            }
            let unnamed = path.with_file_name(temporary_name());
            mkdirat(CWD, &unnamed, NEW_FOLDER).map_err(|e| failed(e.into()))?;
            let root = openat(CWD, &unnamed, FOLDER, Mode::empty()).map_err(|e| failed(e.into()))?;
            Ok(Self { path: path.to_owned(), unnamed: Some(unnamed), root: Arc::new(root), open: Mutex::default() })
        }

        /// Gives the folder its name, if it is new.
        pub fn finish(self) -> Result<()> {
            let Some(unnamed) = &self.unnamed else { return Ok(()) };
            rename_new(CWD, unnamed.as_path(), self.path.as_path()).map_err(|e| {
                let reason = match e {
                    Errno::EXIST => "it has been made meanwhile".to_owned(),
                    other => io::Error::from(other).to_string(),
                };
                let reason = format!("{reason}; everything has been restored into {}", unnamed.display());
                Error::io("give its name to the folder", &self.path, io::Error::other(reason))
            })
        }

        fn error(&self, path: &TrackedPath, error: impl Into<io::Error>) -> Error {
            Error::io("write", self.full(path), error.into())
        }

        fn full(&self, path: &TrackedPath) -> PathBuf {
            path.to_path().map_or_else(|| self.path.clone(), |path| self.path.join(path))
        }

        /// The folder that a path is in, made where it is missing.
        fn folder_of(&self, path: &TrackedPath) -> io::Result<Arc<OwnedFd>> {
            self.folder(parent(path.as_bytes()))
        }

        /// A folder, each opened from the handle of the one above.
        fn folder(&self, key: &[u8]) -> io::Result<Arc<OwnedFd>> {
            if key.is_empty() {
                return Ok(Arc::clone(&self.root));
            }
            if let Some(folder) = self.open.lock().unwrap_or_else(PoisonError::into_inner).get(key) {
                return Ok(Arc::clone(folder));
            }
            let above = self.folder(parent(key))?;
            let part = key.rsplit(|b| *b == b'/').next().unwrap_or_default();
            let open = || openat(&*above, part, FOLDER, Mode::empty());
            let make = || match mkdirat(&*above, part, NEW_FOLDER) {
                // Another thread was quicker. What stands there if it was somebody else is found out by opening it.
                Err(Errno::EXIST) => Ok(()),
                other => other,
            };
            let opened = match &self.unnamed {
                Some(_) => make().and_then(|()| open()),
                None => match open() {
                    Err(Errno::NOENT) => make().and_then(|()| open()),
                    other => other,
                },
            };
            let folder = Arc::new(match opened {
                Err(Errno::LOOP | Errno::NOTDIR) => {
                    let what = format!("{} is a file or a link, not a folder", String::from_utf8_lossy(part));
                    return Err(io::Error::new(io::ErrorKind::NotADirectory, what));
                }
                other => other?,
            });
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.len() >= MAX_OPEN {
                open.clear();
            }
            open.insert(key.to_vec(), Arc::clone(&folder));
            Ok(folder)
        }

        /// Writes a file whose content has been checked.
        ///
        /// In a new folder it is created under its own name. A temporary one and a rename would keep three things from
        /// happening, none of which can happen there. A file of wrong content gets no name, because this content is
        /// right. One that is there is neither replaced nor written to, and no link followed, because the file has to
        /// be new (`EXCL`). And nobody takes the part of a file that a restore leaves behind that is killed for the
        /// whole, because the folder itself has no name yet.
        pub fn write(&self, path: &TrackedPath, executable: bool, existing: Existing, content: &[u8]) -> Result<()> {
            if self.unnamed.is_none() || existing == Existing::Replace {
                return self.write_pieces(path, executable, existing, |file| file.write(content));
            }
            let folder = self.folder_of(path).map_err(|e| self.error(path, e))?;
            let file = openat(&*folder, path.name(), NEW_FILE, mode_of(executable));
            let file = file.map_err(|e| self.not_placed(path, existing, e))?;
            io::Write::write_all(&mut std::fs::File::from(file), content).map_err(|e| {
                let _ = unlinkat(&*folder, path.name(), AtFlags::empty());
                self.error(path, e)
            })
        }

        /// Writes a file piece by piece: under a temporary name, and under its own once `content` has returned without an
        /// error.
        pub fn write_pieces(
            &self,
            path: &TrackedPath,
            executable: bool,
            existing: Existing,
            content: impl FnOnce(&mut RestoredFile) -> Result<()>,
        ) -> Result<()> {
            let folder = self.folder_of(path).map_err(|e| self.error(path, e))?;
            let temporary = temporary_name();
            let file = openat(&*folder, &temporary, NEW_FILE, mode_of(executable)).map_err(|e| self.error(path, e))?;
            let mut file = RestoredFile { file: file.into(), path: self.full(path) };
            let placed = content(&mut file).and_then(|()| self.place(&folder, &temporary, path, existing));
            if placed.is_err() {
                let _ = unlinkat(&*folder, &temporary, AtFlags::empty());
            }
            placed
        }

        /// Makes a symbolic link.
        pub fn link(&self, path: &TrackedPath, target: &[u8], existing: Existing) -> Result<()> {
            let folder = self.folder_of(path).map_err(|e| self.error(path, e))?;
            let temporary = temporary_name();
            symlinkat(target, folder.as_fd(), &temporary).map_err(|e| self.error(path, e))?;
            let placed = self.place(&folder, &temporary, path, existing);
            if placed.is_err() {
                let _ = unlinkat(folder.as_fd(), &temporary, AtFlags::empty());
            }
            placed
        }

        fn place(&self, folder: &OwnedFd, temporary: &str, path: &TrackedPath, existing: Existing) -> Result<()> {
            let name = path.name();
            let moved = match existing {
                Existing::Replace => renameat(folder, temporary, folder, name),
                Existing::Refuse => rename_new(folder, temporary, name),
            };
            moved.map_err(|e| self.not_placed(path, existing, e))
        }

        fn not_placed(&self, path: &TrackedPath, existing: Existing, error: Errno) -> Error {
            match error {
                Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY => self.error(path, in_the_way(existing)),
                other => self.error(path, other),
            }
        }
    }

    /// The folder of a path that is no root.
    fn parent(path: &[u8]) -> &[u8] {
        let end = path.iter().rposition(|b| *b == b'/');
        end.and_then(|end| path.get(..end)).unwrap_or_default()
    }

    fn mode_of(executable: bool) -> Mode {
        Mode::from_raw_mode(if executable { 0o777 } else { 0o666 })
    }

    #[cfg(any(target_os = "linux", target_os = "android", target_os = "macos"))]
    fn rename_new(folder: impl AsFd, from: impl Arg + Copy, to: impl Arg + Copy) -> rustix::io::Result<()> {
        use rustix::fs::{RenameFlags, renameat_with};
        match renameat_with(&folder, from, &folder, to, RenameFlags::NOREPLACE) {
            // Some file systems cannot do it in one step.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => rename_in_two_steps(folder, from, to),
            other => other,
        }
    }

    #[cfg(not(any(target_os = "linux", target_os = "android", target_os = "macos")))]
    fn rename_new(folder: impl AsFd, from: impl Arg + Copy, to: impl Arg + Copy) -> rustix::io::Result<()> {
        rename_in_two_steps(folder, from, to)
    }

    fn rename_in_two_steps(folder: impl AsFd, from: impl Arg + Copy, to: impl Arg + Copy) -> rustix::io::Result<()> {
        match rustix::fs::statat(&folder, to, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Err(Errno::EXIST),
            Err(Errno::NOENT) => renameat(&folder, from, &folder, to),
            Err(e) => Err(e),
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use super::{
        Error, Existing, Path, PathBuf, RestoredFile, Result, TrackedPath, in_the_way, io, is_empty, temporary_name,
    };

    /// A folder to restore into.
    pub struct RestoreFolder {
        path: PathBuf,
    }

    impl RestoreFolder {
        /// Opens the folder, making it where it is missing; refuses one with something in it unless `force`.
        pub fn open(path: &Path, force: bool) -> Result<Self> {
            if !force && !is_empty(path)? {
                return Err(Error::NotEmpty { path: path.to_owned() });
            }
            std::fs::create_dir_all(path).map_err(|e| Error::io("make the folder", path, e))?;
            Ok(Self { path: path.to_owned() })
        }

        fn full(&self, path: &TrackedPath) -> Result<PathBuf> {
            let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "this system cannot have a file of that name");
            let relative = path.to_path().ok_or_else(|| Error::io("write", &self.path, invalid()))?;
            let full = self.path.join(relative);
            let mut folder = self.path.clone();
            for part in
                full.parent().unwrap_or(&self.path).strip_prefix(&self.path).unwrap_or(Path::new("")).components()
            {
                folder.push(part);
                match folder.symlink_metadata() {
                    Ok(metadata) if metadata.is_dir() => {}
                    Ok(_) => return Err(Error::io("write", &full, io::ErrorKind::NotADirectory.into())),
                    Err(_) => match std::fs::create_dir(&folder) {
                        Ok(()) => {}
                        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {}
                        Err(e) => return Err(Error::io("make the folder", &folder, e)),
                    },
                }
            }
            Ok(full)
        }

        /// Nothing is left to do: the folder has had its name from the beginning.
        pub fn finish(self) -> Result<()> {
            Ok(())
        }

        /// Writes a file whose content has been checked.
        pub fn write(&self, path: &TrackedPath, executable: bool, existing: Existing, content: &[u8]) -> Result<()> {
            self.write_pieces(path, executable, existing, |file| file.write(content))
        }

        /// Writes a file piece by piece: under a temporary name, and under its own once `content` has returned without an
        /// error.
        pub fn write_pieces(
            &self,
            path: &TrackedPath,
            _executable: bool,
            existing: Existing,
            content: impl FnOnce(&mut RestoredFile) -> Result<()>,
        ) -> Result<()> {
            let full = self.full(path)?;
            if existing == Existing::Refuse && full.symlink_metadata().is_ok() {
                return Err(Error::io("write", &full, in_the_way(existing)));
            }
            let temporary = full.with_file_name(temporary_name());
            let file = std::fs::File::create_new(&temporary).map_err(|e| Error::io("write", &full, e))?;
            let mut file = RestoredFile { file, path: full.clone() };
            let placed = content(&mut file).and_then(|()| {
                drop(file);
                std::fs::rename(&temporary, &full).map_err(|e| Error::io("write", &full, e))
            });
            if placed.is_err() {
                let _ = std::fs::remove_file(&temporary);
            }
            placed
        }

        /// Symbolic links need a right on Windows that few users have: reported, not made.
        pub fn link(&self, path: &TrackedPath, _target: &[u8], _existing: Existing) -> Result<()> {
            let full = self.full(path)?;
            Err(Error::io("make the link", full, io::ErrorKind::Unsupported.into()))
        }
    }
}

pub use platform::RestoreFolder;

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> TrackedPath {
        TrackedPath::from_bytes(text).expect("valid")
    }

    /// On a file system that folds case, the second of two names finds the first one's file: as here.
    #[test]
    fn a_name_that_is_taken_is_refused_and_the_first_file_stays() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("out");
        let read = || std::fs::read(out.join("d/model.py")).expect("there");
        let files = |folder: &Path| folder.read_dir().expect("there").count();
        // In a folder that is new, and in one that was there before.
        for is_new in [true, false] {
            if !is_new {
                std::fs::remove_dir_all(&out).expect("there");
                std::fs::create_dir(&out).expect("new");
            }
            let target = RestoreFolder::open(&out, false).expect("opens");
            let write = |content: &[u8], existing| target.write(&path("d/model.py"), false, existing, content);
            write(b"first", Existing::Refuse).expect("written");
            let error = write(b"second", Existing::Refuse).expect_err("taken");
            assert!(error.to_string().contains("two names of the snapshot are one"), "{error}");
            let pieces = target.write_pieces(&path("d/model.py"), false, Existing::Refuse, |file| file.write(b"third"));
            assert!(pieces.is_err());
            assert!(target.link(&path("d/model.py"), b"x", Existing::Refuse).is_err());
            target.finish().expect("named");
            assert_eq!(read(), b"first");
            assert_eq!(files(&out.join("d")), 1, "a temporary file is left");
        }
        let target = RestoreFolder::open(&out, true).expect("opens");
        target.write(&path("d/model.py"), false, Existing::Replace, b"third").expect("replaced");
        target.finish().expect("named");
        assert_eq!(read(), b"third");
        assert_eq!(files(&out.join("d")), 1, "a temporary file is left");
        assert_eq!(files(folder.path()), 1, "a temporary folder is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_new_folder_gets_its_name_last_and_takes_nobody_elses() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let out = folder.path().join("deep/out");
        let target = RestoreFolder::open(&out, false).expect("opens");
        target.write(&path("a.py"), true, Existing::Refuse, b"content").expect("written");
        assert!(!out.exists(), "it has a name before it is complete");
        std::fs::create_dir(&out).expect("new");
        let error = target.finish().expect_err("somebody else's");
        assert!(error.to_string().contains("it has been made meanwhile"), "{error}");
        assert_eq!(out.read_dir().expect("there").count(), 0);
    }

    /// Whoever can write beside the folder finds it by its temporary name.
    #[cfg(unix)]
    #[test]
    fn no_link_is_followed_that_appears_in_a_new_folder() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (out, elsewhere) = (folder.path().join("out"), folder.path().join("elsewhere"));
        std::fs::create_dir(&elsewhere).expect("new");
        let target = RestoreFolder::open(&out, false).expect("opens");
        let is_temporary = |path: &PathBuf| path.file_name().is_some_and(|name| name.as_encoded_bytes()[0] == b'.');
        let mut beside = folder.path().read_dir().expect("there").map(|entry| entry.expect("an entry").path());
        let unnamed = beside.find(is_temporary).expect("a folder with a temporary name");
        std::os::unix::fs::symlink(&elsewhere, unnamed.join("d")).expect("made");
        std::os::unix::fs::symlink(elsewhere.join("b.py"), unnamed.join("b.py")).expect("made");
        for name in ["d/a.py", "b.py"] {
            assert!(target.write(&path(name), false, Existing::Refuse, b"content").is_err(), "{name}");
        }
        assert_eq!(elsewhere.read_dir().expect("there").count(), 0);
    }

    #[test]
    fn a_file_that_turns_out_wrong_gets_no_name() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let target = RestoreFolder::open(folder.path(), false).expect("opens");
        let wrong = |file: &mut RestoredFile| {
            file.write(b"half of it")?;
            Err(Error::damaged("pack", "wrong hash"))
        };
        assert!(target.write_pieces(&path("a.py"), false, Existing::Refuse, wrong).is_err());
        assert_eq!(folder.path().read_dir().expect("there").count(), 0);
    }
}
