//! What a local folder holds, and what tells a file from what it was.

use std::fs;
use std::io;
use std::path::Path;

use super::StoredFile;
use crate::id::ObjectId;

/// The regular files in a folder, in no order. One that vanishes while it is listed was never there for this reader.
#[cfg(target_os = "linux")]
pub fn files_in(folder: &Path) -> io::Result<Vec<StoredFile>> {
    use std::ffi::OsStr;
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, open, statat};

    let folder = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    // A hundred names. The 32 KiB that the C library takes for each folder make the heap grow and shrink again.
    let mut buffer = [const { MaybeUninit::uninit() }; 4096];
    let mut entries = RawDir::new(&folder, &mut buffer);
    let mut files = Vec::new();
    while let Some(entry) = entries.next() {
        let entry = entry?;
        // Some file systems do not say.
        if !matches!(entry.file_type(), FileType::RegularFile | FileType::Unknown) {
            continue;
        }
        let Ok(stat) = statat(&folder, entry.file_name(), AtFlags::SYMLINK_NOFOLLOW) else { continue };
        let name = OsStr::from_bytes(entry.file_name().to_bytes()).to_str();
        if let (FileType::RegularFile, Some(name)) = (FileType::from_raw_mode(stat.st_mode), name) {
            // The types of these fields differ between systems.
            #[allow(clippy::unnecessary_cast)]
            let times =
                [stat.st_ctime as i64, stat.st_ctime_nsec as i64, stat.st_mtime as i64, stat.st_mtime_nsec as i64];
            #[allow(clippy::unnecessary_cast)]
            files.push(stored(name, stat.st_size as u64, times, stat.st_ino as u64));
        }
    }
    Ok(files)
}

/// The regular files in a folder, in no order. One that vanishes while it is listed was never there for this reader.
#[cfg(not(target_os = "linux"))]
pub fn files_in(folder: &Path) -> io::Result<Vec<StoredFile>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let Ok(metadata) = entry.metadata() else { continue };
        if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
            files.push(of_metadata(&name, &metadata));
        }
    }
    Ok(files)
}

/// A file of which the file system has told.
#[cfg(unix)]
pub fn of_metadata(name: &str, metadata: &fs::Metadata) -> StoredFile {
    use std::os::unix::fs::MetadataExt;
    let times = [metadata.ctime(), metadata.ctime_nsec(), metadata.mtime(), metadata.mtime_nsec()];
    stored(name, metadata.len(), times, metadata.ino())
}

/// A file of which the file system has told.
#[cfg(not(unix))]
pub fn of_metadata(name: &str, metadata: &fs::Metadata) -> StoredFile {
    let age = metadata.modified().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let age = age.unwrap_or_default();
    stored(name, metadata.len(), [0, 0, age.as_secs().cast_signed(), i64::from(age.subsec_nanos())], 0)
}

/// Puts together what tells a file from one that was written to since, or is another: its name, its length, the times of
/// the last change of anything and of the content, and the inode.
fn stored(name: &str, bytes: u64, times: [i64; 4], inode: u64) -> StoredFile {
    let mut hasher = blake3::Hasher::new();
    hasher.update(name.as_bytes()).update(&bytes.to_le_bytes());
    for number in times {
        hasher.update(&number.to_le_bytes());
    }
    hasher.update(&inode.to_le_bytes());
    let stamp = ObjectId(*hasher.finalize().as_bytes()).key();
    StoredFile { name: name.to_owned(), bytes, stamp }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_lists_its_files_as_a_look_at_each_shows_them() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        // More names than one call of the kernel gives.
        let names: Vec<String> = (0..400).map(|number| format!("{number:016x}.pack")).collect();
        for (number, name) in names.iter().enumerate() {
            fs::write(folder.path().join(name), vec![0; number]).expect("written");
        }
        fs::create_dir(folder.path().join("folder")).expect("made");
        #[cfg(unix)]
        std::os::unix::fs::symlink("folder", folder.path().join("link")).expect("linked");
        let mut files = files_in(folder.path()).expect("lists");
        files.sort();
        let look = |name: &String| of_metadata(name, &fs::metadata(folder.path().join(name)).expect("there"));
        assert_eq!(files, names.iter().map(look).collect::<Vec<_>>());
        assert!(files_in(&folder.path().join("none")).is_err_and(|error| error.kind() == io::ErrorKind::NotFound));
    }
}
