//! A store on a local file system.

use std::fs::{self, File, OpenOptions};
use std::io::{self, IoSlice, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{Lock, ReadFile, Storage, StoredFile, WriteFile, listing};
use crate::error::{Error, Result};

/// Files below a folder of the local file system.
#[derive(Debug, Clone)]
pub struct LocalStorage {
    root: PathBuf,
    /// Set where the root is writable for its group: new files then are as well, whatever the umask says.
    shared_mode: Option<u32>,
}

impl LocalStorage {
    /// Names the root; nothing is read or made.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        let root = root.into();
        Self { shared_mode: shared_mode(&root), root }
    }

    fn path(&self, path: &str) -> PathBuf {
        if path.is_empty() { self.root.clone() } else { self.root.join(path) }
    }

    fn open_local(&self, path: &str, options: &mut OpenOptions, action: &'static str) -> Result<(File, PathBuf)> {
        let path = self.path(path);
        options.open(&path).map(|file| (file, path.clone())).map_err(|e| Error::io(action, path, e))
    }

    fn open_to_read(&self, path: &str) -> Result<(File, PathBuf)> {
        let path = self.path(path);
        open_to_read(&path).map(|file| (file, path.clone())).map_err(|e| Error::io("read", path, e))
    }

    fn share(&self, file: &File) {
        #[cfg(unix)]
        if let Some(mode) = self.shared_mode {
            use std::os::unix::fs::PermissionsExt;
            // A file that its group cannot write is a nuisance, not a failure.
            let _ = file.set_permissions(fs::Permissions::from_mode(mode & 0o666));
        }
        #[cfg(not(unix))]
        let _ = file;
    }
}

/// Opens a file to read it. A pipe is not waited for: it cannot be read at an offset.
#[cfg(unix)]
fn open_to_read(path: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    let without_wait = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    match File::options().read(true).custom_flags(without_wait).open(path) {
        // A server has the file for itself, and gives it up to who waits.
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => File::open(path),
        other => other,
    }
}

/// Opens a file to read it.
#[cfg(not(unix))]
fn open_to_read(path: &Path) -> io::Result<File> {
    File::open(path)
}

#[cfg(unix)]
fn shared_mode(root: &Path) -> Option<u32> {
    use std::os::unix::fs::PermissionsExt;
    // A store that is about to be made takes after the folder that it will be in.
    let metadata = fs::metadata(root).or_else(|e| root.parent().map_or(Err(e), fs::metadata)).ok()?;
    let mode = metadata.permissions().mode();
    (metadata.is_dir() && mode & 0o020 != 0).then_some(mode & 0o2777)
}

#[cfg(not(unix))]
fn shared_mode(_root: &Path) -> Option<u32> {
    None
}

struct LocalFile {
    file: File,
    path: PathBuf,
}

impl WriteFile for LocalFile {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.file.write_all(bytes).map_err(|e| Error::io("write", &self.path, e))
    }

    fn write_parts(&mut self, parts: &[&[u8]]) -> Result<()> {
        let slices: Vec<IoSlice<'_>> = parts.iter().map(|part| IoSlice::new(part)).collect();
        let written = self.file.write_vectored(&slices).and_then(|mut done| {
            // Where that was not all, the rest piece by piece.
            for part in parts {
                self.file.write_all(part.get(done..).unwrap_or_default())?;
                done = done.saturating_sub(part.len());
            }
            Ok(())
        });
        written.map_err(|e| Error::io("write", &self.path, e))
    }

    fn sync(&mut self) -> Result<()> {
        // The length counts as data here, so fdatasync is enough for a journal and for a new file alike.
        self.file.sync_data().map_err(|e| Error::io("flush", &self.path, e))
    }
}

impl ReadFile for LocalFile {
    fn read_range(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        read_range(&self.file, &self.path, offset, bytes)
    }

    fn length(&self) -> Result<u64> {
        self.file.metadata().map(|metadata| metadata.len()).map_err(|e| Error::io("read", &self.path, e))
    }
}

fn read_range(file: &File, path: &Path, offset: u64, bytes: usize) -> Result<Vec<u8>> {
    let mut buffer = Vec::with_capacity(bytes);
    while buffer.len() < bytes {
        let at = offset.saturating_add(buffer.len() as u64);
        match read_at(file, &mut buffer, bytes, at) {
            Ok(0) => break,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(Error::io("read", path, e)),
        }
    }
    Ok(buffer)
}

struct LocalLock {
    file: File,
    path: PathBuf,
}

impl Drop for LocalLock {
    fn drop(&mut self) {
        // A child that was forked meanwhile has the file open as well: to close it would not be enough.
        let _ = self.file.unlock();
    }
}

impl Lock for LocalLock {
    fn read_note(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        read_range(&self.file, &self.path, offset, bytes)
    }

    fn write_note(&mut self, offset: u64, note: &[u8]) -> Result<()> {
        write_all_at(&self.file, note, offset).map_err(|e| Error::io("write", &self.path, e))
    }
}

impl Storage for LocalStorage {
    fn root(&self) -> &Path {
        &self.root
    }

    fn at(&self, root: &Path) -> Arc<dyn Storage> {
        Arc::new(Self::new(root))
    }

    fn create_folder(&self, path: &str) -> Result<bool> {
        let path = self.path(path);
        if path.is_dir() {
            return Ok(false);
        }
        fs::create_dir_all(&path).map_err(|e| Error::io("make the folder", &path, e))?;
        #[cfg(unix)]
        if let Some(mode) = self.shared_mode {
            use std::os::unix::fs::PermissionsExt;
            let _ = fs::set_permissions(&path, fs::Permissions::from_mode(mode));
        }
        Ok(true)
    }

    fn create(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        let (file, path) =
            self.open_local(path, OpenOptions::new().read(true).write(true).create_new(true), "create")?;
        self.share(&file);
        Ok(Box::new(LocalFile { file, path }))
    }

    fn append(&self, path: &str) -> Result<Box<dyn WriteFile>> {
        let (file, path) = self.open_local(path, OpenOptions::new().read(true).append(true), "append to")?;
        Ok(Box::new(LocalFile { file, path }))
    }

    fn rename(&self, from: &str, to: &str) -> Result<()> {
        let to = self.path(to);
        fs::rename(self.path(from), &to).map_err(|e| Error::io("rename a new file to", to, e))
    }

    fn remove(&self, path: &str) -> Result<()> {
        let path = self.path(path);
        fs::remove_file(&path).map_err(|e| Error::io("remove", path, e))
    }

    fn sync_folder(&self, path: &str) -> Result<()> {
        #[cfg(unix)]
        {
            let path = self.path(path);
            File::open(&path).and_then(|folder| folder.sync_all()).map_err(|e| Error::io("flush", path, e))?;
        }
        // Windows has no handle to flush a folder by; NTFS journals its names.
        #[cfg(not(unix))]
        let _ = path;
        Ok(())
    }

    fn read(&self, path: &str, limit: u64) -> Result<Vec<u8>> {
        let (file, path) = self.open_to_read(path)?;
        let metadata = file.metadata().map_err(|e| Error::io("read", &path, e))?;
        // A device would be read for ever.
        if !metadata.is_file() {
            return Err(Error::io("read", path, io::Error::new(io::ErrorKind::InvalidInput, "not a regular file")));
        }
        // What is appended meanwhile is as if it came later.
        let bytes = read_range(&file, &path, 0, metadata.len().min(limit.saturating_add(1)) as usize)?;
        if bytes.len() as u64 > limit {
            return Err(Error::damaged(path, format!("longer than the {limit} bytes that it may have")));
        }
        Ok(bytes)
    }

    fn read_range(&self, path: &str, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        let (file, path) = self.open_to_read(path)?;
        read_range(&file, &path, offset, bytes)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn ReadFile>>> {
        let (file, path) = self.open_to_read(path)?;
        Ok(Some(Box::new(LocalFile { file, path })))
    }

    fn look(&self, path: &str) -> Result<StoredFile> {
        let full = self.path(path);
        let metadata = fs::metadata(&full).map_err(|e| Error::io("read", full, e))?;
        Ok(listing::of_metadata(path.rsplit('/').next().unwrap_or(path), &metadata))
    }

    fn list(&self, path: &str) -> Result<Vec<StoredFile>> {
        let folder = self.path(path);
        let mut files = match listing::files_in(&folder) {
            Ok(files) => files,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("list", folder, e)),
        };
        files.sort();
        Ok(files)
    }

    fn try_lock(&self, path: &str) -> Result<Option<Box<dyn Lock>>> {
        loop {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).truncate(false);
            let (file, full) = self.open_local(path, &mut options, "lock")?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return Ok(None),
                Err(fs::TryLockError::Error(e)) => return Err(Error::io("lock", full, e)),
            }
            // Whoever removes lock files may have unlinked this one between the open and the lock.
            if same_file(&file, &full) {
                self.share(&file);
                return Ok(Some(Box::new(LocalLock { file, path: full })));
            }
        }
    }
}

/// Reads behind what is in `buffer` already, which gets no longer than `most`.
#[cfg(unix)]
fn read_at(file: &File, buffer: &mut Vec<u8>, most: usize, offset: u64) -> io::Result<usize> {
    // There may be more room than was asked for.
    let before = buffer.len();
    let read = rustix::io::pread(file, rustix::buffer::spare_capacity(buffer), offset)?;
    buffer.truncate(most);
    Ok(read.min(most.saturating_sub(before)))
}

/// Reads behind what is in `buffer` already, which gets no longer than `most`.
#[cfg(windows)]
fn read_at(file: &File, buffer: &mut Vec<u8>, most: usize, offset: u64) -> io::Result<usize> {
    let before = buffer.len();
    buffer.resize(most, 0);
    let read = std::os::windows::fs::FileExt::seek_read(file, buffer.get_mut(before..).unwrap_or_default(), offset);
    buffer.truncate(before + read.as_ref().copied().unwrap_or(0));
    read
}

#[cfg(unix)]
fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    std::os::unix::fs::FileExt::write_all_at(file, bytes, offset)
}

#[cfg(windows)]
fn write_all_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    use std::io::{Seek, SeekFrom};
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

#[cfg(unix)]
fn same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    match (file.metadata(), fs::metadata(path)) {
        (Ok(a), Ok(b)) => a.dev() == b.dev() && a.ino() == b.ino(),
        _ => false,
    }
}

#[cfg(not(unix))]
fn same_file(_file: &File, path: &Path) -> bool {
    // A locked file cannot be removed there.
    path.exists()
}
