//! Reads a file that others may be writing: until two looks agree, or until patience ends.

use std::fs::{File, Metadata};
use std::io::{self, Read};
use std::path::Path;

use super::tree_state::stamp::{Horizon, Look, of_metadata};

/// A file that is still changing after this many reads is reported.
const ATTEMPTS: usize = 5;
/// What a look at an open file gives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    look: Look,
    executable: bool,
}

impl Stat {
    fn of(metadata: &Metadata, horizon: Horizon) -> Self {
        Self { look: of_metadata(metadata, horizon.renewed()), executable: is_executable(metadata) }
    }
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
    /// What the file system said of it, if any later change of it is sure to show there.
    pub stamp: Option<u64>,
    /// Whether it held still; where not, the value may be a mixture of two states.
    pub stable: bool,
}

/// Opens a file for reading, never through a symbolic link and never waiting for a pipe's other end; with a look at it.
pub fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        options.custom_flags(flags.bits().cast_signed());
    }
    let file = options.open(path)?;
    let metadata = file.metadata()?;
    if metadata.is_file() {
        Ok((file, metadata))
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "no longer a regular file"))
    }
}

/// Reads a whole file of which `read` makes a value of a given length; equal values mean equal bytes. `read` is told how long
/// the file was when it was opened.
pub fn read_stable<T: PartialEq>(
    path: &Path,
    horizon: Horizon,
    read: impl Fn(&mut File, u64) -> io::Result<(T, u64)>,
) -> io::Result<Content<T>> {
    settle(|| {
        let (mut file, metadata) = open(path)?;
        let before = Stat::of(&metadata, horizon);
        let (value, bytes) = read(&mut file, metadata.len())?;
        Ok((before, value, bytes, Stat::of(&file.metadata()?, horizon)))
    })
}

/// Reads all bytes of a file that was `length` bytes long.
pub fn all_bytes(file: &mut File, length: u64) -> io::Result<(Vec<u8>, u64)> {
    let mut bytes = Vec::with_capacity(length.min(64 << 20) as usize + 1);
    // Of a bare file it would be asked again how long it is.
    file.take(u64::MAX).read_to_end(&mut bytes)?;
    let length = bytes.len() as u64;
    Ok((bytes, length))
}

fn settle<T: PartialEq>(mut look: impl FnMut() -> io::Result<(Stat, T, u64, Stat)>) -> io::Result<Content<T>> {
    let mut last: Option<(T, bool)> = None;
    for _ in 0..ATTEMPTS {
        let (before, value, bytes, after) = look()?;
        let quiet = before.look.stamp == after.look.stamp && bytes == after.look.bytes;
        // Time stamps prove nothing about the last few milliseconds; a second read of the same bytes does.
        let agreed = last.as_ref().is_some_and(|(earlier, _)| *earlier == value);
        if quiet && (after.look.is_settled || agreed) {
            let stamp = before.look.trusted();
            return Ok(Content { value, executable: after.executable, stamp, stable: true });
        }
        last = Some((value, after.executable));
    }
    let (value, executable) = last.ok_or_else(|| io::Error::other("never read"))?;
    Ok(Content { value, executable, stamp: None, stable: false })
}

#[cfg(test)]
mod tests {
    use super::super::tree_state::stamp::Kind;
    use super::*;

    fn stat(version: i64, bytes: u64, recent: bool) -> Stat {
        let stamp = version.cast_unsigned();
        let look = Look { stamp, is_settled: !recent, kind: Kind::File, bytes, is_linked: false };
        Stat { look, executable: false }
    }

    #[test]
    fn a_quiet_file_is_read_once() {
        let mut reads = 0;
        let content = settle(|| {
            reads += 1;
            Ok((stat(1, 1, false), "a", 1, stat(1, 1, false)))
        });
        assert_eq!((content.map(|c| (c.value, c.stable, c.stamp)).ok(), reads), (Some(("a", true, Some(1))), 1));
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
        assert_eq!(content.map(|c| (c.value, c.stable, c.stamp)).ok(), Some(("new", true, None)));
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
