//! Reads a file that others may be writing: until two looks agree, or until patience ends.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;
use std::time::{Duration, SystemTime};

/// A file that is still changing after this many reads is reported.
const ATTEMPTS: usize = 5;
/// A change within this time of the look may carry the same time stamp as the look: Linux counts in ticks of up to 10 ms.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);

/// What a look at an open file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    bytes: u64,
    changed: Option<(i64, i64)>,
    modified: Option<SystemTime>,
    recent: bool,
    executable: bool,
}

impl Stat {
    fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok();
        Self {
            bytes: metadata.len(),
            changed: changed(metadata),
            modified,
            recent: modified.is_none_or(|time| time.elapsed().is_ok_and(|age| age < CLOCK_GRAIN)),
            executable: is_executable(metadata),
        }
    }

    fn same_as(&self, other: &Self) -> bool {
        (self.bytes, self.changed, self.modified) == (other.bytes, other.changed, other.modified)
    }
}

#[cfg(unix)]
fn changed(metadata: &Metadata) -> Option<(i64, i64)> {
    use std::os::unix::fs::MetadataExt;
    Some((metadata.ctime(), metadata.ctime_nsec()))
}

#[cfg(not(unix))]
fn changed(_metadata: &Metadata) -> Option<(i64, i64)> {
    None
}

/// Whether a file's owner may execute it.
#[cfg(unix)]
pub fn is_executable(metadata: &Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt;
    metadata.permissions().mode() & 0o100 != 0
}

/// Whether a file's owner may execute it.
#[cfg(not(unix))]
pub fn is_executable(_metadata: &Metadata) -> bool {
    false
}

/// A file as it was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content<T> {
    /// What the reader made of its bytes.
    pub value: T,
    /// Whether its owner may execute it.
    pub executable: bool,
    /// Whether it held still; where not, the value may be a mixture of two states.
    pub stable: bool,
}

/// Opens a file for reading, never through a symbolic link and never waiting for a pipe's other end.
pub fn open(path: &Path) -> io::Result<File> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no longer a regular file"))
    }
}

/// Reads a whole file of which `read` makes a value of a given length; equal values mean equal bytes.
pub fn read_stable<T: PartialEq>(
    path: &Path,
    read: impl Fn(&mut File) -> io::Result<(T, u64)>,
) -> io::Result<Content<T>> {
    settle(|| {
        let mut file = open(path)?;
        let before = Stat::of(&file.metadata()?);
        let (value, bytes) = read(&mut file)?;
        Ok((before, value, bytes, Stat::of(&file.metadata()?)))
    })
}

/// Reads all bytes.
pub fn all_bytes(file: &mut File) -> io::Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::with_capacity(usize::try_from(file.metadata()?.len()).unwrap_or(0).min(64 << 20) + 1);
    file.read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    Ok((bytes, length))
}

fn settle<T: PartialEq>(mut look: impl FnMut() -> io::Result<(Stat, T, u64, Stat)>) -> io::Result<Content<T>> {
    let mut last: Option<(T, bool)> = None;
    for _ in 0..ATTEMPTS {
        let (before, value, bytes, after) = look()?;
        let quiet = before.same_as(&after) && bytes == after.bytes;
        // Time stamps prove nothing about the last few milliseconds; a second read of the same bytes does.
        let agreed = last.as_ref().is_some_and(|(earlier, _)| *earlier == value);
        if quiet && (!after.recent || agreed) {
            return Ok(Content { value, executable: after.executable, stable: true });
        }
        last = Some((value, after.executable));
    }
    let (value, executable) = last.ok_or_else(|| io::Error::other("never read"))?;
    Ok(Content { value, executable, stable: false })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stat(version: i64, bytes: u64, recent: bool) -> Stat {
        Stat { bytes, changed: Some((version, 0)), modified: None, recent, executable: false }
    }

    #[test]
    fn a_quiet_file_is_read_once() {
        let mut reads = 0;
        let content = settle(|| {
            reads += 1;
            Ok((stat(1, 1, false), "a", 1, stat(1, 1, false)))
        });
        assert_eq!((content.map(|c| (c.value, c.stable)).ok(), reads), (Some(("a", true)), 1));
    }

    #[test]
    fn a_change_while_reading_means_another_read() {
        let mut looks = vec![
            (stat(1, 1, false), "mixed", 1, stat(2, 1, false)),
            (stat(2, 1, false), "short", 9, stat(2, 1, false)),
            (stat(2, 1, false), "whole", 1, stat(2, 1, false)),
        ]
        .into_iter();
        let content = settle(|| looks.next().ok_or_else(|| io::Error::other("too many reads"))).expect("settles");
        assert_eq!((content.value, content.stable), ("whole", true));
    }

    #[test]
    fn a_file_just_written_is_read_twice() {
        let mut values = ["old", "new", "new"].into_iter();
        let content = settle(|| Ok((stat(1, 3, true), values.next().expect("three reads"), 3, stat(1, 3, true))));
        assert_eq!(content.map(|c| (c.value, c.stable)).ok(), Some(("new", true)));
        assert_eq!(values.next(), None);
    }

    #[test]
    fn a_file_that_never_holds_still_is_reported() {
        let mut version = 0;
        let content = settle(|| {
            version += 1;
            Ok((stat(version, 1, false), version, 1, stat(version + 1, 1, false)))
        });
        assert_eq!(content.map(|c| (c.value, c.stable)).ok(), Some((ATTEMPTS as i64, false)));
    }
}
