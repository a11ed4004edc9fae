//! What sources say, kept from one analysis to the next.
//!
//! It is a cache by content: a source that says the same bytes says the same things, whatever its name. A file whose
//! stamp is that of the last look is not even read. Nothing in it is believed without the checksum of the whole, and
//! anything wrong with it makes it an empty one.
//!
//! The bytes: magic, the length and text of what made it (versions of runsnap, of the scanner and of the Python it was
//! made for), then varints and counted byte strings as [`ScanCache::save`] writes them, and at the end the first eight bytes
//! of the BLAKE3 hash of all that.

use std::fs;
use std::io::Write as _;
use std::ops::Range;
use std::path::{Path, PathBuf};

use foldhash::HashMap;

use crate::decode::{DecodeResult, Decoder, push_varint};
use crate::id::{ObjectId, random_name};
use crate::python::source::{SCANNER_VERSION, Target};

const MAGIC: &[u8; 8] = b"RUNSNAPI";
const CHECKSUM_BYTES: usize = 8;
/// A longer file is no cache of ours.
const MAX_FILE_BYTES: u64 = 256 << 20;
/// So many projects have caches; where there are more, those that were written longest ago go.
const MAX_PROJECTS: usize = 256;
const ENDING: &str = "imports";
/// Scans that were not used lately are kept up to this length altogether.
const MAX_UNUSED_BYTES: usize = 8 << 20;

/// What a source is known by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// The beginning of the hash of its content.
    pub content: [u8; 16],
    /// How it is read.
    pub form: u8,
}

impl Key {
    /// The key of a content.
    pub fn of(content: &[u8], form: u8) -> Self {
        let ObjectId(hash) = ObjectId::of(content);
        let (content, _) = hash.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        Self { content: *content, form }
    }
}

#[derive(Debug, Clone)]
enum Bytes {
    /// These.
    Own(Vec<u8>),
    /// Those in this place of the cache as it was read.
    Kept(Range<usize>),
}

#[derive(Debug, Clone)]
struct Known {
    bytes: Bytes,
    /// How many analyses ago it was used; 0 is the current one.
    age: u64,
}

/// A cache, and where it is kept.
#[derive(Debug, Default)]
pub struct ScanCache {
    path: Option<PathBuf>,
    made_by: String,
    /// The bytes that it was read from: nearly all scans stay in there.
    kept: Vec<u8>,
    stamps: HashMap<PathBuf, (u64, Key)>,
    scans: HashMap<Key, Known>,
    hashes: HashMap<PathBuf, (u64, u64, ObjectId)>,
    is_changed: bool,
}

impl ScanCache {
    /// One that is kept nowhere.
    pub fn none() -> Self {
        Self::default()
    }

    /// The one of a project, for a Python, in a folder of caches.
    pub fn load(folder: &Path, root: &Path, target: &Target) -> Self {
        let name = ObjectId::of(root.as_os_str().as_encoded_bytes()).short(16);
        let path = folder.join(format!("{name}.{ENDING}"));
        let made_by = format!("{} {SCANNER_VERSION} {target:?}", env!("CARGO_PKG_VERSION"));
        let empty = Self { path: Some(path.clone()), made_by: made_by.clone(), ..Self::default() };
        let is_short = |m: &fs::Metadata| m.is_file() && m.len() <= MAX_FILE_BYTES;
        let Some(bytes) = fs::metadata(&path).ok().filter(is_short).and_then(|_| fs::read(&path).ok()) else {
            return empty;
        };
        match Self::decode(bytes, &made_by) {
            Ok(cache) => Self { path: Some(path), ..cache },
            Err(_) => empty,
        }
    }

    /// The key of a file, as long as its stamp is the same.
    pub fn key_of(&self, path: &Path, stamp: u64) -> Option<Key> {
        self.stamps.get(path).filter(|(known, _)| *known == stamp).map(|(_, key)| *key)
    }

    /// A scan in its encoded form.
    pub fn scan(&self, key: &Key) -> Option<&[u8]> {
        self.scans.get(key).map(|known| bytes_in(&self.kept, &known.bytes))
    }

    /// Notes that a file was read, by which stamp it is known again, and what it says where that is new.
    pub fn note(&mut self, path: &Path, stamp: Option<u64>, key: Key, encoded: Option<Vec<u8>>) {
        if let Some(bytes) = encoded {
            self.scans.insert(key, Known { bytes: Bytes::Own(bytes), age: 0 });
            self.is_changed = true;
        } else if let Some(known) = self.scans.get_mut(&key) {
            known.age = 0;
        }
        if let Some(stamp) = stamp
            && self.stamps.get(path) != Some(&(stamp, key))
        {
            self.stamps.insert(path.to_owned(), (stamp, key));
            self.is_changed = true;
        }
    }

    /// The length and hash of a file, as long as its stamp is the same.
    pub fn hash_of(&self, path: &Path, stamp: u64) -> Option<(u64, ObjectId)> {
        self.hashes.get(path).filter(|(known, _, _)| *known == stamp).map(|(_, bytes, id)| (*bytes, *id))
    }

    /// Notes the length and hash of a file.
    pub fn note_hash(&mut self, path: &Path, stamp: u64, bytes: u64, id: ObjectId) {
        if self.hashes.insert(path.to_owned(), (stamp, bytes, id)) != Some((stamp, bytes, id)) {
            self.is_changed = true;
        }
    }

    /// Writes it, if there is anything new in it. It is a cache: nothing is flushed, and what fails is lost time alone.
    pub fn save(mut self) -> std::io::Result<()> {
        let Some(path) = self.path.take().filter(|_| self.is_changed) else { return Ok(()) };
        let bytes = self.encode();
        let folder = path.parent().unwrap_or(Path::new("."));
        make_private(folder)?;
        if !path.exists() {
            make_room(folder);
        }
        let temporary = folder.join(format!("{}.tmp", random_name()));
        let written = fs::File::options()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .and_then(|mut file| file.write_all(&bytes))
            .and_then(|()| fs::rename(&temporary, &path));
        if written.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        written
    }

    fn encode(&mut self) -> Vec<u8> {
        let mut scans: Vec<(&Key, &Known)> = self.scans.iter().collect();
        // Those used last come first; the rest as far as there is room.
        scans.sort_by_key(|(key, known)| (known.age, **key));
        let mut unused = 0;
        scans.retain(|(_, known)| {
            unused += if known.age == 0 { 0 } else { bytes_in(&self.kept, &known.bytes).len() };
            known.age == 0 || unused <= MAX_UNUSED_BYTES
        });
        let numbers: HashMap<&Key, usize> = scans.iter().enumerate().map(|(number, (key, _))| (*key, number)).collect();
        let mut out = MAGIC.to_vec();
        push_bytes(&mut out, self.made_by.as_bytes());
        push_varint(&mut out, scans.len() as u64);
        for (key, known) in &scans {
            out.extend(key.content);
            out.push(key.form);
            push_varint(&mut out, known.age + 1);
            push_bytes(&mut out, bytes_in(&self.kept, &known.bytes));
        }
        let mut stamps: Vec<_> = self.stamps.iter().filter_map(|(p, (s, k))| Some((p, *s, *numbers.get(k)?))).collect();
        stamps.sort();
        push_varint(&mut out, stamps.len() as u64);
        for (path, stamp, number) in stamps {
            push_bytes(&mut out, path.as_os_str().as_encoded_bytes());
            out.extend(stamp.to_le_bytes());
            push_varint(&mut out, number as u64);
        }
        let mut hashes: Vec<_> = self.hashes.iter().collect();
        hashes.sort();
        push_varint(&mut out, hashes.len() as u64);
        for (path, (stamp, bytes, id)) in hashes {
            push_bytes(&mut out, path.as_os_str().as_encoded_bytes());
            out.extend(stamp.to_le_bytes());
            push_varint(&mut out, *bytes);
            out.extend(id.0);
        }
        out.extend(checksum(&out));
        out
    }

    fn decode(bytes: Vec<u8>, made_by: &str) -> DecodeResult<Self> {
        let split = bytes.len().checked_sub(CHECKSUM_BYTES).and_then(|end| bytes.split_at_checked(end));
        let (said, check) = split.ok_or("cut short")?;
        if check != checksum(said) {
            return Err("its checksum does not match".into());
        }
        let mut decoder = Decoder::new(said);
        if decoder.array::<8>()? != *MAGIC || bytes_of(&mut decoder)? != made_by.as_bytes() {
            return Err("made by another version".into());
        }
        let mut cache = Self { made_by: made_by.to_owned(), ..Self::default() };
        let mut keys = Vec::new();
        for _ in 0..decoder.count(19)? {
            let key = Key { content: decoder.array()?, form: decoder.u8()? };
            let age = decoder.varint()?;
            let length = decoder.count(1)?;
            let start = said.len() - decoder.rest().len();
            decoder.take(length)?;
            cache.scans.insert(key, Known { age, bytes: Bytes::Kept(start..start + length) });
            keys.push(key);
        }
        for _ in 0..decoder.count(10)? {
            let path = path_of(bytes_of(&mut decoder)?).ok_or("a path of another system")?;
            let stamp = decoder.u64()?;
            let key = usize::try_from(decoder.varint()?).ok().and_then(|number| keys.get(number));
            cache.stamps.insert(path, (stamp, *key.ok_or("a scan that is not there")?));
        }
        for _ in 0..decoder.count(42)? {
            let path = path_of(bytes_of(&mut decoder)?).ok_or("a path of another system")?;
            let (stamp, bytes) = (decoder.u64()?, decoder.varint()?);
            cache.hashes.insert(path, (stamp, bytes, ObjectId(decoder.array()?)));
        }
        cache.kept = bytes;
        Ok(cache)
    }
}

/// Removes what was written longest ago, if there is too much.
fn make_room(folder: &Path) {
    let entries = folder.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let caches = entries.filter(|path| path.extension().is_some_and(|ending| ending == ENDING));
    let mut caches: Vec<_> = caches.filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path))).collect();
    caches.sort();
    let many = caches.len().saturating_sub(MAX_PROJECTS - 1);
    for (_, path) in caches.into_iter().take(many) {
        // Somebody else may have removed it.
        let _ = fs::remove_file(path);
    }
}

/// Makes a folder that only the user can read: what is in it tells of their code.
pub(super) fn make_private(folder: &Path) -> std::io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    let mut builder = fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(folder)
}

fn bytes_in<'a>(kept: &'a [u8], bytes: &'a Bytes) -> &'a [u8] {
    match bytes {
        Bytes::Own(bytes) => bytes,
        Bytes::Kept(place) => kept.get(place.clone()).unwrap_or_default(),
    }
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    ObjectId::of(bytes).key().to_le_bytes()
}

fn push_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    push_varint(out, bytes.len() as u64);
    out.extend(bytes);
}

fn bytes_of<'a>(decoder: &mut Decoder<'a>) -> DecodeResult<&'a [u8]> {
    let length = decoder.count(1)?;
    decoder.take(length)
}

#[cfg(unix)]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    use std::os::unix::ffi::OsStrExt as _;
    Some(std::ffi::OsStr::from_bytes(bytes).into())
}

#[cfg(not(unix))]
fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    std::str::from_utf8(bytes).ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target() -> Target {
        Target { version: (3, 11), platform: "linux".into(), os_name: "posix".into() }
    }

    fn key(byte: u8) -> Key {
        Key { content: [byte; 16], form: 0 }
    }

    #[test]
    fn what_was_noted_is_known_again_until_the_stamp_changes() {
        let folder = tempfile::tempdir().expect("a folder");
        let (caches, root) = (folder.path().join("caches"), Path::new("/project"));
        let mut cache = ScanCache::load(&caches, root, &target());
        cache.note(Path::new("/project/a.py"), Some(7), key(1), Some(b"one".to_vec()));
        cache.note(Path::new("/project/b.py"), None, key(2), Some(b"two".to_vec()));
        cache.note_hash(Path::new("/project/d.csv"), 9, 5, ObjectId([3; 32]));
        cache.save().expect("saved");
        let cache = ScanCache::load(&caches, root, &target());
        assert_eq!(cache.key_of(Path::new("/project/a.py"), 7), Some(key(1)));
        assert_eq!(cache.key_of(Path::new("/project/a.py"), 8), None);
        assert_eq!(cache.key_of(Path::new("/project/b.py"), 0), None);
        assert_eq!((cache.scan(&key(1)), cache.scan(&key(2))), (Some(&b"one"[..]), Some(&b"two"[..])));
        assert_eq!(cache.hash_of(Path::new("/project/d.csv"), 9), Some((5, ObjectId([3; 32]))));
        assert!(ScanCache::load(&caches, Path::new("/other"), &target()).scans.is_empty());
        let newer = Target { version: (3, 12), ..target() };
        assert!(ScanCache::load(&caches, root, &newer).scans.is_empty());
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt as _;
            let mode = caches.metadata().expect("there").permissions().mode();
            assert_eq!(mode & 0o777, 0o700);
        }
    }

    #[test]
    fn a_damaged_one_is_an_empty_one() {
        let mut cache = ScanCache { made_by: "x".into(), ..ScanCache::default() };
        cache.note(Path::new("/a.py"), Some(7), key(1), Some(b"one".to_vec()));
        let bytes = cache.encode();
        assert!(ScanCache::decode(bytes.clone(), "x").is_ok());
        assert!(ScanCache::decode(bytes.clone(), "y").is_err());
        for place in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[place] ^= 1;
            assert!(ScanCache::decode(flipped, "x").is_err(), "byte {place}");
            assert!(ScanCache::decode(bytes[..place].to_vec(), "x").is_err(), "cut to {place}");
        }
    }

    #[test]
    fn there_are_not_more_and_more_of_them() {
        let folder = tempfile::tempdir().expect("a folder");
        for project in 0..MAX_PROJECTS + 10 {
            let path = folder.path().join(format!("{project:04}.{ENDING}"));
            fs::write(&path, "").expect("written");
            let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(project as u64);
            fs::File::options()
                .write(true)
                .open(&path)
                .and_then(|file| file.set_modified(time))
                .expect("a time is set");
        }
        fs::write(folder.path().join("python-1.json"), "").expect("written");
        let mut cache = ScanCache::load(folder.path(), Path::new("/project"), &target());
        cache.note(Path::new("/project/a.py"), Some(7), key(1), Some(b"one".to_vec()));
        cache.save().expect("saved");
        let names = folder.path().read_dir().expect("there").map(|entry| entry.expect("readable").file_name());
        let names: Vec<_> = names.filter_map(|name| name.into_string().ok()).collect();
        assert_eq!(names.len(), MAX_PROJECTS + 1);
        assert!(!names.contains(&"0010.imports".to_owned()) && names.contains(&"0011.imports".to_owned()));
        assert!(names.contains(&"python-1.json".to_owned()));
    }

    #[test]
    fn what_was_not_used_for_long_makes_room() {
        let mut cache = ScanCache::default();
        for byte in 0..20 {
            cache.note(Path::new("/a.py"), None, key(byte), Some(vec![byte; 1 << 20]));
        }
        let read = |cache: &mut ScanCache| ScanCache::decode(cache.encode(), "").expect("whole");
        let mut later = read(&mut cache);
        assert_eq!(later.scans.len(), 20, "all were used just now");
        later.note(Path::new("/a.py"), None, key(5), None);
        let kept = read(&mut later);
        assert_eq!(kept.scans.len(), 9, "one in use and 8 MiB of others");
        assert!(kept.scan(&key(5)).is_some());
    }
}
