//! What the file system says of a file or folder beside its content, put together so that any change of it shows.

use std::fs::Metadata;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::super::tree_watch::is_local;

/// A change within this time of the look may carry the same time stamp as the look: Linux counts in ticks of up to 10 ms.
const CLOCK_GRAIN: Duration = Duration::from_millis(20);
/// The same where the file system keeps whole seconds, or two of them, as FAT does.
const COARSE_GRAIN: Duration = Duration::from_secs(3);
/// The same where the time is set by another host, whose clock may be a little behind.
const NETWORK_GRAIN: Duration = Duration::from_secs(60);

/// The moment before which changes are sure to have another time stamp than changes from now on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Horizon {
    now: Duration,
    is_network: bool,
}

impl Horizon {
    /// For looks that begin now, at files below `root`.
    pub fn now(root: &Path) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { now, is_network: !is_local(root) }
    }

    /// The same for another moment: now.
    #[must_use]
    pub fn renewed(self) -> Self {
        Self { now: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default(), ..self }
    }

    fn is_settled(&self, changed: Duration, modified: Duration) -> bool {
        let grain = match (self.is_network, changed.subsec_nanos(), modified.subsec_nanos()) {
            (true, _, _) => NETWORK_GRAIN,
            (_, 0, 0) => COARSE_GRAIN,
            _ => CLOCK_GRAIN,
        };
        changed.checked_add(grain).is_some_and(|end| end <= self.now)
    }
}

/// A look at a file or folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Hash of device, inode, size, type and permissions, and the times of the last change of content and of anything, in
    /// nanoseconds.
    pub stamp: u64,
    /// Whether any later change is sure to change the stamp.
    pub is_settled: bool,
    /// What it is.
    pub kind: Kind,
    /// The length.
    pub bytes: u64,
    /// Whether it has more names than one.
    pub is_linked: bool,
}

/// What stands under a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A regular file.
    File,
    /// A symbolic link.
    Symlink,
    /// A folder.
    Folder,
    /// Something else.
    Other,
}

impl Look {
    /// The stamp, where it says enough to do without reading the content.
    pub fn trusted(&self) -> Option<u64> {
        self.is_settled.then_some(self.stamp)
    }
}

#[cfg(unix)]
mod platform {
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt;

    use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, open, statat};

    use super::{Duration, Horizon, Kind, Look, Metadata, Path, hash};

    /// A folder below which files are looked at by their paths in it.
    pub struct Below {
        folder: OwnedFd,
    }

    impl Below {
        /// Opens the folder.
        pub fn open(folder: &Path) -> std::io::Result<Self> {
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            Ok(Self { folder: open(folder, flags, Mode::empty())? })
        }

        /// Looks at a path, without following a link at its end; `None` where there is nothing.
        pub fn look(&self, path: &[u8], horizon: Horizon) -> Option<Look> {
            self.stat(path).map(|stat| of_stat(&stat, horizon))
        }

        /// The stamp of what is at a path, as [`Below::look`] tells it.
        pub fn stamp(&self, path: &[u8]) -> Option<u64> {
            self.stat(path).map(|stat| hash(numbers_of(&stat)))
        }

        fn stat(&self, path: &[u8]) -> Option<Stat> {
            // To open each folder and look at the names in it takes no less time than to resolve the paths.
            let path = if path.is_empty() { b"." } else { path };
            statat(&self.folder, path, AtFlags::SYMLINK_NOFOLLOW).ok()
        }
    }

    fn time(seconds: i64, nanoseconds: i64) -> Duration {
        Duration::new(u64::try_from(seconds).unwrap_or(0), u32::try_from(nanoseconds).unwrap_or(0))
    }

    // The types of these fields differ between systems.
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn numbers_of(stat: &Stat) -> [u64; 8] {
        [
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_size as u64,
            u64::from(stat.st_mode as u32),
            stat.st_ctime as u64,
            stat.st_ctime_nsec as u64,
            stat.st_mtime as u64,
            stat.st_mtime_nsec as u64,
        ]
    }

    #[allow(clippy::unnecessary_cast, clippy::useless_conversion)]
    fn of_stat(stat: &Stat, horizon: Horizon) -> Look {
        let changed = (stat.st_ctime as i64, stat.st_ctime_nsec as i64);
        let modified = (stat.st_mtime as i64, stat.st_mtime_nsec as i64);
        let kind = match FileType::from_raw_mode(stat.st_mode as _) {
            FileType::RegularFile => Kind::File,
            FileType::Symlink => Kind::Symlink,
            FileType::Directory => Kind::Folder,
            _ => Kind::Other,
        };
        Look {
            stamp: hash(numbers_of(stat)),
            is_settled: horizon.is_settled(time(changed.0, changed.1), time(modified.0, modified.1)),
            kind,
            bytes: stat.st_size as u64,
            is_linked: stat.st_nlink as u64 > 1 && kind != Kind::Folder,
        }
    }

    /// The stamp of what is known already.
    pub fn stamp_of(metadata: &Metadata) -> u64 {
        hash([
            metadata.dev(),
            metadata.ino(),
            metadata.size(),
            u64::from(metadata.mode()),
            metadata.ctime().cast_unsigned(),
            metadata.ctime_nsec().cast_unsigned(),
            metadata.mtime().cast_unsigned(),
            metadata.mtime_nsec().cast_unsigned(),
        ])
    }

    /// The same of what is known already.
    pub fn of_metadata(metadata: &Metadata, horizon: Horizon) -> Look {
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Other,
        };
        let changed = time(metadata.ctime(), metadata.ctime_nsec());
        Look {
            stamp: stamp_of(metadata),
            is_settled: horizon.is_settled(changed, time(metadata.mtime(), metadata.mtime_nsec())),
            kind,
            bytes: metadata.size(),
            is_linked: metadata.nlink() > 1 && kind != Kind::Folder,
        }
    }
}

#[cfg(not(unix))]
mod platform {
    use std::path::PathBuf;

    use super::{Horizon, Kind, Look, Metadata, Path, hash};

    /// A folder below which files are looked at by their paths in it.
    pub struct Below {
        folder: PathBuf,
    }

    impl Below {
        /// Opens the folder.
        pub fn open(folder: &Path) -> std::io::Result<Self> {
            Ok(Self { folder: folder.to_owned() })
        }

        /// Looks at a path, without following a link at its end; `None` where there is nothing.
        pub fn look(&self, path: &[u8], horizon: Horizon) -> Option<Look> {
            self.metadata(path).map(|metadata| of_metadata(&metadata, horizon))
        }

        /// The stamp of what is at a path, as [`Below::look`] tells it.
        pub fn stamp(&self, path: &[u8]) -> Option<u64> {
            self.metadata(path).map(|metadata| stamp_of(&metadata))
        }

        fn metadata(&self, path: &[u8]) -> Option<Metadata> {
            self.folder.join(std::str::from_utf8(path).ok()?).symlink_metadata().ok()
        }
    }

    /// The stamp of what is known already.
    pub fn stamp_of(metadata: &Metadata) -> u64 {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(super::UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default();
        hash([0, 0, metadata.len(), 0, 0, 0, modified.as_secs(), u64::from(modified.subsec_nanos())])
    }

    /// The same of what is known already. There is no time of the last change of anything here: nothing is trusted.
    pub fn of_metadata(metadata: &Metadata, _horizon: Horizon) -> Look {
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_symlink() => Kind::Symlink,
            kind if kind.is_dir() => Kind::Folder,
            _ => Kind::Other,
        };
        Look { stamp: stamp_of(metadata), is_settled: false, kind, bytes: metadata.len(), is_linked: false }
    }
}

pub use platform::{Below, of_metadata, stamp_of};

/// Folds numbers into one, by the multiplication to twice the width that wyhash is made of: this is done for each file of
/// each capture, and nobody chooses a file's times to make two of them alike.
fn hash(numbers: [u64; 8]) -> u64 {
    const MULTIPLIER: u64 = 0xa076_1d64_78bd_642f;
    numbers.into_iter().fold(0xe703_7ed1_a0b4_28db, |folded: u64, number| {
        let product = u128::from(folded ^ number) * u128::from(MULTIPLIER);
        (product as u64) ^ ((product >> 64) as u64) ^ folded.rotate_left(23)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn horizon(now: Duration, is_network: bool) -> Horizon {
        Horizon { now, is_network }
    }

    #[test]
    fn a_stamp_is_trusted_only_once_the_clock_has_moved_on() {
        let changed = Duration::new(1_000, 5);
        let settled = |later, modified, is_network| {
            let now = changed + Duration::from_millis(later);
            horizon(now, is_network).is_settled(changed, modified)
        };
        assert!(!settled(0, changed, false));
        assert!(!settled(19, changed, false));
        assert!(settled(20, changed, false));
        assert!(!settled(59_999, changed, true), "the server's clock may be behind");
        assert!(settled(60_000, changed, true));
        let whole = Duration::from_secs(1_000);
        assert!(!horizon(whole + Duration::from_millis(2_999), false).is_settled(whole, whole));
        assert!(horizon(whole + Duration::from_secs(3), false).is_settled(whole, whole));
        assert!(
            !horizon(Duration::from_secs(999), false).is_settled(changed, changed),
            "a time to come proves nothing"
        );
    }

    #[cfg(unix)]
    #[test]
    fn each_change_changes_the_stamp() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("a.py");
        let below = Below::open(folder.path()).expect("opens");
        let horizon = Horizon::now(folder.path());
        let look = || below.look(b"a.py", horizon).expect("there");
        let mut seen = std::collections::HashSet::new();
        let set_time = |file: &std::fs::File, seconds| {
            file.set_modified(UNIX_EPOCH + Duration::new(seconds, 7)).expect("a time is set");
        };
        std::fs::write(&path, "one").expect("written");
        let file = std::fs::File::options().write(true).open(&path).expect("opens");
        set_time(&file, 1);
        assert!(seen.insert(look().stamp));
        set_time(&file, 2);
        assert!(seen.insert(look().stamp), "the time");
        std::fs::write(&path, "longer").expect("written");
        set_time(&file, 2);
        assert!(seen.insert(look().stamp), "the size");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        assert!(seen.insert(look().stamp), "the permissions");
        std::fs::write(folder.path().join("b.py"), "longer").expect("written");
        std::fs::rename(folder.path().join("b.py"), &path).expect("renamed");
        assert!(seen.insert(look().stamp), "the inode");
        let metadata = path.symlink_metadata().expect("there");
        assert_eq!(of_metadata(&metadata, horizon), look(), "both ways of looking agree");
        assert_eq!(below.stamp(b"a.py"), Some(look().stamp));
        assert_eq!(look().kind, Kind::File);
        assert_eq!(below.look(b"", horizon).expect("there").kind, Kind::Folder);
        assert_eq!(below.look(b"none.py", horizon), None);
    }
}
