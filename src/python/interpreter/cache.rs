//! What has been learnt of interpreters and of folders of packages, kept for the next time.
//!
//! One small file for each. Whatever is wrong with one, or with the folder, means that it is learnt anew.

use std::fs::{self, Metadata};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// What the files begin with; another number means that nothing older or newer is believed.
const FORMAT: &str = "runsnap python 1";
/// A longer file is none of ours.
const MAX_BYTES: u64 = 1 << 20;
/// A change this soon before the look may be followed by one with the same times.
const SETTLED_AFTER: Duration = Duration::from_secs(2);

/// What tells that a file or a folder is as it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of what is known already.
    #[cfg(unix)]
    pub fn of(metadata: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// The stamp of what is known already. There is no time of the last change of anything here.
    #[cfg(not(unix))]
    pub fn of(metadata: &Metadata) -> Self {
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified = modified.unwrap_or_default();
        let seconds = i64::try_from(modified.as_secs()).unwrap_or_default();
        let modified = (seconds, i64::from(modified.subsec_nanos()));
        Self { device: 0, inode: 0, bytes: metadata.len(), modified, changed: modified }
    }

    /// Whether a change from `now` on is sure to give another stamp.
    pub fn is_settled(&self, now: SystemTime) -> bool {
        let latest = self.modified.max(self.changed);
        let whole = u64::try_from(latest.0).ok().zip(u32::try_from(latest.1).ok());
        let latest = whole.map(|(seconds, nanoseconds)| Duration::new(seconds, nanoseconds));
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        latest.and_then(|latest| latest.checked_add(SETTLED_AFTER)).is_some_and(|end| end <= now)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<K, V> {
    format: String,
    key: K,
    value: V,
}

/// A folder in which files are kept; none where it is not the user's own.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    folder: Option<PathBuf>,
}

impl Cache {
    /// Uses a folder, or makes it. `None`, or a folder that others could write to, keeps nothing.
    pub fn in_folder(folder: Option<&Path>) -> Self {
        Self { folder: folder.filter(|folder| is_own(folder) || made(folder)).map(Path::to_owned) }
    }

    /// What is kept under a name, if it was kept for the same key.
    pub fn get<K: DeserializeOwned + PartialEq, V: DeserializeOwned>(&self, name: &str, key: &K) -> Option<V> {
        let file = fs::File::open(self.folder.as_ref()?.join(name)).ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() || metadata.len() > MAX_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).ok()?.saturating_add(1));
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        let kept: Kept<K, V> = serde_json::from_slice(&bytes).ok()?;
        (kept.format == FORMAT && kept.key == *key).then_some(kept.value)
    }

    /// Keeps a value under a name. What cannot be kept is learnt again.
    pub fn put<K: Serialize, V: Serialize>(&self, name: &str, key: K, value: &V) {
        let Some(folder) = &self.folder else { return };
        let Ok(bytes) = serde_json::to_vec(&Kept { format: FORMAT.to_owned(), key, value }) else { return };
        let Ok(suffix) = getrandom::u64() else { return };
        let temporary = folder.join(format!("{name}.{suffix:016x}.tmp"));
        if bytes.len() as u64 > MAX_BYTES || fs::write(&temporary, &bytes).is_err() {
            return;
        }
        if fs::rename(&temporary, folder.join(name)).is_err() {
            let _ = fs::remove_file(&temporary);
        }
    }
}

/// The name of the file that keeps something about a path.
pub fn file_name(kind: &str, about: &[&[u8]]) -> String {
    let mut hasher = blake3::Hasher::new();
    for part in about {
        hasher.update(&(part.len() as u64).to_le_bytes()).update(part);
    }
    let hex = hasher.finalize().to_hex();
    format!("{kind}-{}.json", hex.get(..32).unwrap_or_default())
}

#[cfg(unix)]
fn is_own(folder: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let own = |metadata: Metadata| {
        let is_mine = metadata.uid() == rustix::process::geteuid().as_raw();
        metadata.is_dir() && is_mine && metadata.mode() & 0o022 == 0
    };
    folder.symlink_metadata().is_ok_and(own)
}

#[cfg(not(unix))]
fn is_own(folder: &Path) -> bool {
    folder.is_dir()
}

#[cfg(unix)]
fn made(folder: &Path) -> bool {
    use std::os::unix::fs::DirBuilderExt;
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.is_ok() && is_own(folder)
}

#[cfg(not(unix))]
fn made(folder: &Path) -> bool {
    fs::create_dir_all(folder).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_kept_for_the_same_key_comes_back() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let inner = folder.path().join("a/b");
        let cache = Cache::in_folder(Some(&inner));
        cache.put("x.json", 1u64, &vec!["y".to_owned()]);
        assert_eq!(cache.get("x.json", &1u64), Some(vec!["y".to_owned()]));
        assert_eq!(cache.get::<u64, Vec<String>>("x.json", &2), None);
        let path = inner.join("x.json");
        let text = fs::read_to_string(&path).expect("kept");
        for (damage, bytes) in [
            ("cut", text.get(..text.len() - 1).expect("long enough").to_owned()),
            ("foreign", text.replace(FORMAT, "runsnap python 0")),
            ("another shape", text.replace('[', "{")),
            ("too long", text.clone() + &" ".repeat(1 << 20)),
        ] {
            fs::write(&path, bytes).expect("written");
            assert_eq!(cache.get::<u64, Vec<String>>("x.json", &1), None, "{damage}");
        }
        fs::write(&path, text).expect("written");
        assert!(cache.get::<u64, Vec<String>>("x.json", &1).is_some());
        assert_eq!(fs::read_dir(&inner).expect("there").count(), 1, "no temporary file is left");
    }

    #[cfg(unix)]
    #[test]
    fn a_folder_that_others_can_write_to_is_not_used() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mode = |mode| fs::set_permissions(folder.path(), fs::Permissions::from_mode(mode)).expect("chmod");
        for (bits, is_used) in [(0o700, true), (0o755, true), (0o775, false), (0o777, false)] {
            mode(bits);
            assert_eq!(Cache::in_folder(Some(folder.path())).folder.is_some(), is_used, "{bits:o}");
        }
        mode(0o700);
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/", &link).expect("linked");
        assert!(Cache::in_folder(Some(&link)).folder.is_none());
        let new = folder.path().join("new");
        assert!(Cache::in_folder(Some(&new)).folder.is_some());
        assert_eq!(fs::metadata(&new).expect("made").permissions().mode() & 0o777, 0o700);
    }

    #[cfg(unix)]
    #[test]
    fn a_stamp_is_settled_two_seconds_later() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let metadata = fs::metadata(folder.path()).expect("there");
        let stamp = Stamp::of(&metadata);
        let made = metadata.modified().expect("a time");
        assert!(!stamp.is_settled(made + Duration::from_millis(1_900)));
        assert!(stamp.is_settled(made + Duration::from_millis(2_100)));
        fs::write(folder.path().join("a.pth"), "").expect("written");
        assert_ne!(Stamp::of(&fs::metadata(folder.path()).expect("there")), stamp);
    }
}
