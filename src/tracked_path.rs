//! Paths of tracked files: relative, `/` between the parts, raw bytes as the file system has them.

use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::ser::SerializeMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::text_or_base64::text_or_base64;

/// The longest name of one file or folder, in bytes.
pub const MAX_NAME_BYTES: usize = 1024;

/// A relative path inside a snapshot. It cannot leave the folder that it is restored to: no part of it is empty, `.`
/// or `..`, and none holds `/` or NUL.
///
/// In JSON it is an object with `path`, or with `path_bytes` (base64) where the bytes are not UTF-8.
///
/// A copy shares the bytes, and so do paths that were read together: each capture reads those of all files.
#[derive(Clone)]
pub struct TrackedPath {
    // Not `Arc<[u8]>`: paths that were read together would be copied once more, and each would be longer.
    shared: Arc<Vec<u8>>,
    start: u32,
    end: u32,
}

/// Whether `name` can be the name of one file or folder.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.len() <= MAX_NAME_BYTES
        && name != b"."
        && name != b".."
        && !name.iter().any(|b| matches!(b, b'/' | 0))
}

/// Whether all names between the slashes are valid, in one pass: each capture reads the path of every file.
fn is_valid_path(path: &[u8]) -> bool {
    let is_valid = |name: &[u8]| !matches!(name, b"" | b"." | b"..") && name.len() <= MAX_NAME_BYTES;
    let mut start = 0;
    for (place, byte) in path.iter().enumerate() {
        // Neither letters nor digits come before the slash.
        if *byte > b'/' {
            continue;
        }
        if *byte == 0 {
            return false;
        }
        if *byte == b'/' {
            if !path.get(start..place).is_some_and(is_valid) {
                return false;
            }
            start = place + 1;
        }
    }
    path.get(start..).is_some_and(is_valid)
}

impl TrackedPath {
    /// Checks and takes a path in its stored form.
    pub fn from_bytes(bytes: impl AsRef<[u8]>) -> Option<Self> {
        let bytes = bytes.as_ref();
        if is_valid_path(bytes) { Self::whole(bytes.to_vec()) } else { None }
    }

    /// A path that is known to be valid.
    fn whole(bytes: Vec<u8>) -> Option<Self> {
        let end = u32::try_from(bytes.len()).ok()?;
        Some(Self { shared: Arc::new(bytes), start: 0, end })
    }

    /// Takes a relative path of this system, `None` where it is absolute, empty or has `..` in it.
    pub fn from_path(path: &Path) -> Option<Self> {
        let mut bytes = Vec::new();
        for part in path.components() {
            match part {
                std::path::Component::Normal(name) => {
                    if !bytes.is_empty() {
                        bytes.push(b'/');
                    }
                    bytes.extend(name_bytes(name)?.iter());
                }
                std::path::Component::CurDir => {}
                _ => return None,
            }
        }
        Self::from_bytes(bytes)
    }

    /// The path one level below `self`.
    pub fn join(&self, name: &[u8]) -> Option<Self> {
        if is_valid_name(name) { Self::whole([self.as_bytes(), b"/", name].concat()) } else { None }
    }

    /// The stored form.
    pub fn as_bytes(&self) -> &[u8] {
        self.shared.get(self.start as usize..self.end as usize).unwrap_or_default()
    }

    /// The parts between the slashes.
    pub fn parts(&self) -> impl DoubleEndedIterator<Item = &[u8]> {
        self.as_bytes().split(|b| *b == b'/')
    }

    /// The last part.
    pub fn name(&self) -> &[u8] {
        self.parts().next_back().unwrap_or_default()
    }

    /// The folder that it is in; none where that is the root.
    pub fn folder(&self) -> Option<Self> {
        let length = self.as_bytes().iter().rposition(|byte| *byte == b'/')?;
        Some(Self { end: self.start + length as u32, ..self.clone() })
    }

    /// The path of a name in a folder, whose own path the root lacks.
    pub fn in_folder(folder: Option<&Self>, name: &[u8]) -> Option<Self> {
        folder.map_or_else(|| Self::from_bytes(name), |folder| folder.join(name))
    }

    /// Whether `self` is `folder` or lies below it.
    pub fn is_within(&self, folder: &Self) -> bool {
        self.as_bytes().strip_prefix(folder.as_bytes()).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// The path as this system writes it, `None` where it cannot.
    pub fn to_path(&self) -> Option<PathBuf> {
        self.parts().map(os_name).collect()
    }
}

impl PartialEq for TrackedPath {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for TrackedPath {}

impl PartialOrd for TrackedPath {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for TrackedPath {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

impl Hash for TrackedPath {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.as_bytes().hash(state);
    }
}

/// Room for so long a path is made beforehand.
const TYPICAL_PATH_BYTES: usize = 48;

/// Puts paths in ascending order together in one piece of memory, each told as what it shares with the one before and the
/// rest. Whether they lead anywhere else is looked at last.
#[derive(Debug, Clone, Default)]
pub struct SortedPaths {
    bytes: Vec<u8>,
    places: Vec<Place>,
}

/// Where a path is.
#[derive(Debug, Clone, Copy)]
struct Place {
    start: u32,
    end: u32,
    /// So much of it the path before has as well.
    shared: u32,
}

impl SortedPaths {
    /// For so many paths that were told in so many bytes.
    pub fn with_capacity(paths: usize, bytes: usize) -> Self {
        Self {
            bytes: Vec::with_capacity(bytes.saturating_mul(8).min(paths.saturating_mul(TYPICAL_PATH_BYTES))),
            places: Vec::with_capacity(paths),
        }
    }

    /// Adds a path; whether it is told right, and comes after the one before. The first may be empty: the root's.
    ///
    /// `shared` is to be as long as it can be.
    #[must_use]
    pub fn push(&mut self, shared: usize, rest: &[u8]) -> bool {
        let last = self.places.last().map_or(0, |last| last.start as usize);
        let start = self.bytes.len();
        let before = self.bytes.get(last..start).unwrap_or_default();
        if shared > before.len() {
            return false;
        }
        let is_root = self.places.is_empty() && rest.is_empty();
        let is_after = rest.first() > before.get(shared);
        self.bytes.extend_from_within(last..last + shared);
        self.bytes.extend_from_slice(rest);
        let Ok(end) = u32::try_from(self.bytes.len()) else { return false };
        self.places.push(Place { start: start as u32, end, shared: shared as u32 });
        is_after || is_root
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.places.len()
    }

    /// A path as it was told.
    pub fn get(&self, place: usize) -> Option<&[u8]> {
        let Place { start, end, .. } = *self.places.get(place)?;
        self.bytes.get(start as usize..end as usize)
    }

    /// The paths, if all of them are valid; none for the root's.
    pub fn finish(self) -> Option<impl ExactSizeIterator<Item = Option<TrackedPath>>> {
        let is_valid = |place: &Place| {
            let path = self.bytes.get(place.start as usize..place.end as usize).unwrap_or_default();
            // What the path before has as whole names has been looked at there.
            let shared = path.get(..place.shared as usize).unwrap_or_default();
            let whole = shared.iter().rposition(|byte| *byte == b'/').map_or(0, |slash| slash + 1);
            place.end == 0 || path.get(whole..).is_some_and(is_valid_path)
        };
        if !self.places.iter().all(is_valid) {
            return None;
        }
        let shared = Arc::new(self.bytes);
        let path = move |Place { start, end, .. }| {
            (start < end).then(|| TrackedPath { shared: Arc::clone(&shared), start, end })
        };
        Some(self.places.into_iter().map(path))
    }
}

/// The name of a file as this system writes it, `None` where it cannot.
#[cfg(unix)]
pub fn os_name(name: &[u8]) -> Option<std::ffi::OsString> {
    use std::os::unix::ffi::OsStringExt;
    Some(std::ffi::OsString::from_vec(name.to_vec()))
}

/// The name of a file as this system writes it, `None` where it cannot.
#[cfg(not(unix))]
pub fn os_name(name: &[u8]) -> Option<std::ffi::OsString> {
    // `:` and `\` would lead elsewhere on Windows.
    std::str::from_utf8(name).ok().filter(|n| !n.contains([':', '\\'])).map(Into::into)
}

/// The stored form of a file's name, `None` where this system's name has none.
#[cfg(unix)]
pub fn name_bytes(name: &std::ffi::OsStr) -> Option<&[u8]> {
    use std::os::unix::ffi::OsStrExt;
    Some(name.as_bytes())
}

/// The stored form of a file's name, `None` where this system's name has none.
#[cfg(not(unix))]
pub fn name_bytes(name: &std::ffi::OsStr) -> Option<&[u8]> {
    name.to_str().map(str::as_bytes)
}

impl fmt::Display for TrackedPath {
    /// For people: bytes that are not UTF-8 become U+FFFD, control characters are escaped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = String::from_utf8_lossy(self.as_bytes());
        // So are nearly all.
        if text.bytes().all(|byte| matches!(byte, b' '..=b'~')) {
            return f.write_str(&text);
        }
        for c in text.chars() {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        Ok(())
    }
}

impl fmt::Debug for TrackedPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", String::from_utf8_lossy(self.as_bytes()))
    }
}

impl Serialize for TrackedPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(1))?;
        match text_or_base64(self.as_bytes()) {
            Ok(text) => map.serialize_entry("path", text)?,
            Err(base64) => map.serialize_entry("path_bytes", &base64)?,
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for TrackedPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Form {
            path: Option<String>,
            path_bytes: Option<String>,
        }
        let bytes = match Form::deserialize(deserializer)? {
            Form { path: Some(text), path_bytes: None } => text.into_bytes(),
            Form { path: None, path_bytes: Some(text) } => BASE64.decode(text).map_err(serde::de::Error::custom)?,
            _ => return Err(serde::de::Error::custom("needs either path or path_bytes")),
        };
        Self::from_bytes(bytes).ok_or_else(|| serde::de::Error::custom("not a path inside a snapshot"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_could_escape_are_refused() {
        for bad in [&b""[..], b"/", b"/etc", b"..", b"a/..", b"a/../b", b"a//b", b"a/", b"./a", b"a\0b", &[b'x'; 1025]]
        {
            assert!(TrackedPath::from_bytes(bad).is_none(), "{bad:?}");
        }
        for bad in ["/etc", "..", "a/../b", ""] {
            assert!(TrackedPath::from_path(Path::new(bad)).is_none(), "{bad}");
        }
        assert_eq!(TrackedPath::from_path(Path::new("./a/./b")), TrackedPath::from_bytes(*b"a/b"));
    }

    proptest::proptest! {
        #[test]
        fn a_path_is_valid_if_all_its_names_are(
            path in proptest::collection::vec(proptest::sample::select(b"./a\0".to_vec()), 0..12)
        ) {
            let is_valid = path.split(|byte| *byte == b'/').all(is_valid_name);
            proptest::prop_assert_eq!(TrackedPath::from_bytes(path).is_some(), is_valid);
        }
    }

    /// What each path shares with the one before, and the rest.
    fn told(paths: &[&[u8]]) -> Vec<(usize, Vec<u8>)> {
        let before = |place: usize| if place == 0 { &[][..] } else { paths[place - 1] };
        let shared = |place| before(place).iter().zip(paths[place]).take_while(|(a, b)| a == b).count();
        (0..paths.len()).map(|place| (shared(place), paths[place][shared(place)..].to_vec())).collect()
    }

    fn together(paths: &[&[u8]]) -> Option<Vec<Option<TrackedPath>>> {
        let mut sorted = SortedPaths::default();
        let is_told = told(paths).iter().all(|(shared, rest)| sorted.push(*shared, rest));
        sorted.finish().filter(|_| is_told).map(Iterator::collect)
    }

    #[test]
    fn paths_read_together_are_as_if_read_one_by_one() {
        let paths = [&b""[..], b"a", b"a.py", b"a/b", b"a/b.py", b"a/c/d", b"b"];
        let found = together(&paths).expect("valid");
        assert_eq!(found, paths.map(TrackedPath::from_bytes));
        let folder = found[5].as_ref().and_then(TrackedPath::folder).expect("has one");
        assert_eq!((folder.as_bytes(), folder.folder()), (&b"a/c"[..], found[1].clone()));
        for bad in [&[&b"a"[..], b"a"][..], &[b"b", b"a"], &[b"a/b", b"a"], &[b"a", b""], &[b"a/b", b"a/..", b"a/c"]] {
            assert_eq!(together(bad), None, "{bad:?}");
        }
        assert!(!SortedPaths::default().push(1, b"a"), "shares more than there is");
    }

    proptest::proptest! {
        #[test]
        fn of_paths_read_together_each_is_valid(
            mut paths in proptest::collection::vec(
                proptest::collection::vec(proptest::sample::select(b"./ab\0".to_vec()), 1..6), 0..6)
        ) {
            paths.sort_unstable();
            paths.dedup();
            let paths: Vec<&[u8]> = paths.iter().map(Vec::as_slice).collect();
            let alone: Option<Vec<_>> = paths.iter().map(|path| TrackedPath::from_bytes(path).map(Some)).collect();
            proptest::prop_assert_eq!(together(&paths), alone);
        }
    }

    #[test]
    fn json_names_bytes_that_are_not_text() {
        let text = TrackedPath::from_bytes("dir/é.py").expect("valid");
        let raw = TrackedPath::from_bytes(*b"dir/\xff.py").expect("valid");
        for (path, json) in [(text, r#"{"path":"dir/é.py"}"#), (raw, r#"{"path_bytes":"ZGlyL/8ucHk="}"#)] {
            assert_eq!(serde_json::to_string(&path).expect("serialises"), json);
            assert_eq!(serde_json::from_str::<TrackedPath>(json).expect("parses"), path);
        }
        assert!(serde_json::from_str::<TrackedPath>(r#"{"path":"../x"}"#).is_err());
    }

    #[test]
    fn within_goes_by_whole_parts() {
        let path = |p: &str| TrackedPath::from_bytes(p).expect("valid");
        assert!(path("a/b").is_within(&path("a")));
        assert!(path("a").is_within(&path("a")));
        assert!(!path("ab").is_within(&path("a")));
    }
}
