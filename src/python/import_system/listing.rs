//! The names in folders, and in zip archives that Python looks into as if they were folders; each is listed once.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, BufReader, Read as _};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use foldhash::HashMap;
use zip::ZipArchive;

/// A longer member of an archive is not read: no Python source has this length.
const MAX_MEMBER_BYTES: u64 = 16 << 20;
/// An archive with more members is not looked into.
const MAX_MEMBERS: usize = 200_000;
/// So many bytes of a folder's entries are asked for at once.
#[cfg(target_os = "linux")]
const ENTRIES_BYTES: usize = 16 << 10;

/// What stands under a name; links are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// A file.
    File,
    /// A folder.
    Folder,
}

/// The names in one folder.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// All names, one behind the other.
    text: Vec<u8>,
    /// Where in it each name begins and ends, and what stands under it. Sorted by the names.
    names: Vec<(Range<usize>, Kind)>,
}

impl Listing {
    /// Notes a name; [`Listing::sorted`] makes that a listing.
    fn push(&mut self, name: &[u8], kind: Kind) {
        let start = self.text.len();
        self.text.extend_from_slice(name);
        self.names.push((start..self.text.len(), kind));
    }

    /// Puts the names in order. Of equal ones the first stays.
    fn sorted(mut self) -> Self {
        let Self { text, names } = &mut self;
        let name = |place: &Range<usize>| text.get(place.clone()).unwrap_or_default();
        names.sort_by(|(a, _), (b, _)| name(a).cmp(name(b)));
        names.dedup_by(|(next, _), (first, _)| name(next) == name(first));
        self
    }

    fn name(&self, place: &Range<usize>) -> &[u8] {
        self.text.get(place.clone()).unwrap_or_default()
    }

    /// What stands under a name.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Option<Kind> {
        let name = name.as_ref().as_encoded_bytes();
        let at = self.names.binary_search_by(|(known, _)| self.name(known).cmp(name)).ok()?;
        self.names.get(at).map(|(_, kind)| *kind)
    }

    /// Whether there is a file of that name.
    pub fn has_file(&self, name: impl AsRef<OsStr>) -> bool {
        self.kind(name) == Some(Kind::File)
    }

    /// Of the names that go on with a dot after `stem`, what follows, from the dot on, and what stands there.
    pub fn endings<'a>(&'a self, stem: &'a str) -> impl Iterator<Item = (&'a [u8], Kind)> + Clone {
        let stem = stem.as_bytes();
        let is_before = |name: &[u8]| match name.split_at_checked(stem.len()) {
            Some((start, rest)) => match start.cmp(stem) {
                Ordering::Equal => rest.first().is_none_or(|next| *next < b'.'),
                order => order == Ordering::Less,
            },
            None => name < stem,
        };
        let first = self.names.partition_point(|(place, _)| is_before(self.name(place)));
        self.names.iter().skip(first).map_while(move |(place, kind)| {
            let ending = self.name(place).strip_prefix(stem)?;
            ending.starts_with(b".").then_some((ending, *kind))
        })
    }

    /// All names that are text, sorted.
    pub fn names(&self) -> impl Iterator<Item = (&str, Kind)> {
        self.names.iter().filter_map(|(place, kind)| Some((std::str::from_utf8(self.name(place)).ok()?, *kind)))
    }

    fn read(folder: &Path) -> io::Result<Self> {
        let mut listing = Self::default();
        for_each_entry(folder, |name, kind| {
            // Where a link leads nowhere, Python finds nothing either.
            let kind = match kind {
                Some(kind) => Some(kind),
                None => match folder.join(name).metadata() {
                    Ok(metadata) if metadata.is_file() => Some(Kind::File),
                    Ok(metadata) if metadata.is_dir() => Some(Kind::Folder),
                    _ => None,
                },
            };
            if let Some(kind) = kind {
                listing.push(name.as_encoded_bytes(), kind);
            }
        })?;
        Ok(listing.sorted())
    }
}

/// Tells the names in a folder, and what stands under them where that is said without another look. What is neither a
/// file nor a folder nor a link is passed over.
#[cfg(target_os = "linux")]
fn for_each_entry(folder: &Path, mut tell: impl FnMut(&OsStr, Option<Kind>)) -> io::Result<()> {
    use std::mem::MaybeUninit;
    use std::os::unix::ffi::OsStrExt as _;

    use rustix::fs::{FileType, Mode, OFlags, RawDir, open};

    // One buffer and no name of its own for each entry: this is done for each folder that a run imports from.
    let descriptor = open(folder, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
    let mut buffer = [MaybeUninit::<u8>::uninit(); ENTRIES_BYTES];
    let mut entries = RawDir::new(&descriptor, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        let kind = match entry.file_type() {
            FileType::RegularFile => Some(Kind::File),
            FileType::Directory => Some(Kind::Folder),
            // Some file systems do not say what it is.
            FileType::Symlink | FileType::Unknown => None,
            _ => continue,
        };
        if name != b"." && name != b".." {
            tell(OsStr::from_bytes(name), kind);
        }
    }
    Ok(())
}

/// Tells the names in a folder, and what stands under them where that is said without another look. What is neither a
/// file nor a folder nor a link is passed over.
#[cfg(not(target_os = "linux"))]
fn for_each_entry(folder: &Path, mut tell: impl FnMut(&OsStr, Option<Kind>)) -> io::Result<()> {
    for entry in folder.read_dir()? {
        let entry = entry?;
        let kind = match entry.file_type()? {
            kind if kind.is_file() => Some(Kind::File),
            kind if kind.is_dir() => Some(Kind::Folder),
            kind if kind.is_symlink() => None,
            _ => continue,
        };
        tell(&entry.file_name(), kind);
    }
    Ok(())
}

/// A zip archive with its folders.
struct Archive {
    folders: BTreeMap<PathBuf, Rc<Listing>>,
}

impl Archive {
    fn open(path: &Path) -> Option<Self> {
        let archive = ZipArchive::new(BufReader::new(File::open(path).ok()?)).ok()?;
        if archive.len() > MAX_MEMBERS {
            return None;
        }
        let mut folders: BTreeMap<PathBuf, Listing> = BTreeMap::from([(PathBuf::new(), Listing::default())]);
        // A name in an encoding that cannot be read is no module's.
        for name in archive.file_names().filter_map(Result::ok) {
            let is_folder = name.ends_with('/');
            let mut kind = if is_folder { Kind::Folder } else { Kind::File };
            let mut path = PathBuf::from(name.trim_end_matches('/').to_owned());
            // Each folder above it is there, whether the archive lists it or not.
            while let (Some(last), Some(folder)) = (path.file_name(), path.parent()) {
                folders.entry(folder.to_owned()).or_default().push(last.as_encoded_bytes(), kind);
                if kind == Kind::Folder {
                    folders.entry(path.clone()).or_default();
                }
                kind = Kind::Folder;
                path = folder.to_owned();
            }
        }
        Some(Self { folders: folders.into_iter().map(|(path, listing)| (path, Rc::new(listing.sorted()))).collect() })
    }
}

/// Lists folders and archives, each at most once.
#[derive(Default)]
pub struct Listings {
    folders: HashMap<PathBuf, Option<Rc<Listing>>>,
    archives: HashMap<PathBuf, Option<Archive>>,
}

impl Listings {
    /// The names in a folder, or in a folder inside of an archive; `None` where there is no such folder.
    pub fn of(&mut self, folder: &Path) -> Option<Rc<Listing>> {
        if let Some(known) = self.folders.get(folder) {
            return known.clone();
        }
        let listing = match Listing::read(folder) {
            Ok(listing) => Some(Rc::new(listing)),
            Err(_) => self.in_archive(folder),
        };
        self.folders.insert(folder.to_owned(), listing.clone());
        listing
    }

    /// Whether a file is there.
    pub fn has_file(&mut self, path: &Path) -> bool {
        let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return false };
        self.of(folder).is_some_and(|listing| listing.has_file(name))
    }

    fn in_archive(&mut self, folder: &Path) -> Option<Rc<Listing>> {
        let (path, inner) = split_archive(folder)?;
        let archive = self.archives.entry(path.clone()).or_insert_with(|| Archive::open(&path));
        archive.as_ref()?.folders.get(&inner).cloned()
    }
}

/// The archive that a path leads into, and the rest of the path.
pub fn split_archive(path: &Path) -> Option<(PathBuf, PathBuf)> {
    let archive = path.ancestors().find(|ancestor| ancestor.exists())?;
    let inner = path.strip_prefix(archive).ok()?;
    archive.is_file().then(|| (archive.to_owned(), inner.to_owned()))
}

/// Whether a file is a zip archive that Python can be started with.
pub fn is_runnable_archive(path: &Path) -> bool {
    let archive = File::open(path).ok().and_then(|file| ZipArchive::new(BufReader::new(file)).ok());
    let is_main = |name: &str| name == "__main__.py" || name == "__main__.pyc";
    archive.is_some_and(|archive| archive.file_names().filter_map(Result::ok).any(|name| is_main(&name)))
}

/// The content of a member of an archive.
pub fn read_member(archive: &Path, member: &Path) -> io::Result<Vec<u8>> {
    let name = member.to_str().ok_or(io::ErrorKind::InvalidData)?;
    let mut archive = ZipArchive::new(BufReader::new(File::open(archive)?))?;
    let file = archive.by_name(name)?;
    let mut content = Vec::new();
    file.take(MAX_MEMBER_BYTES).read_to_end(&mut content)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    #[test]
    fn folders_and_archives_are_listed_alike() {
        let folder = tempfile::tempdir().expect("a folder");
        let archive = folder.path().join("app.pyz");
        let mut writer = zip::ZipWriter::new(File::create(&archive).expect("created"));
        let options = zip::write::SimpleFileOptions::default().compression_method(zip::CompressionMethod::Stored);
        for (name, text) in [("__main__.py", "import pkg.deep.x"), ("pkg/deep/x.py", "X = 1")] {
            writer.start_file(name, options).expect("begun");
            writer.write_all(text.as_bytes()).expect("written");
        }
        writer.finish().expect("finished");
        std::fs::create_dir(folder.path().join("sub")).expect("made");
        #[cfg(unix)]
        {
            std::os::unix::fs::symlink("sub", folder.path().join("linked")).expect("linked");
            std::os::unix::fs::symlink("nowhere", folder.path().join("broken")).expect("linked");
        }

        let mut listings = Listings::default();
        let here = listings.of(folder.path()).expect("there");
        assert_eq!(here.kind("app.pyz"), Some(Kind::File));
        #[cfg(unix)]
        assert_eq!((here.kind("linked"), here.kind("broken")), (Some(Kind::Folder), None));
        let top = listings.of(&archive).expect("an archive");
        assert_eq!(top.names().collect::<Vec<_>>(), [("__main__.py", Kind::File), ("pkg", Kind::Folder)]);
        assert!(listings.has_file(&archive.join("pkg/deep/x.py")));
        assert!(listings.of(&archive.join("pkg/none")).is_none());
        assert!(listings.of(&folder.path().join("none")).is_none());
        assert!(is_runnable_archive(&archive));
        assert_eq!(read_member(&archive, Path::new("pkg/deep/x.py")).expect("read"), b"X = 1");
        assert!(read_member(&archive, Path::new("none.py")).is_err());
        assert_eq!(split_archive(&archive.join("pkg/a")), Some((archive, PathBuf::from("pkg/a"))));
    }

    #[test]
    fn names_are_found_whole_and_by_what_follows_them() {
        let mut listing = Listing::default();
        let names: [&[u8]; 10] =
            [b"ab", b"a.pyc", b"a", b"a-b.py", b"a.b.py", b"ab.py", b"a.py", b"a.", b"a\xff.py", b"a0.py"];
        for name in names {
            listing.push(name, Kind::File);
        }
        // An archive may have a name twice: the first counts.
        listing.push(b"a.py", Kind::Folder);
        let listing = listing.sorted();
        for name in ["a", "ab", "a.py", "a-b.py", "a0.py"] {
            assert_eq!(listing.kind(name), Some(Kind::File), "{name}");
        }
        for name in ["", "a.p", "a.pyx", "b", "a-", "z"] {
            assert_eq!(listing.kind(name), None, "{name}");
        }
        let endings = |stem| listing.endings(stem).map(|(rest, _)| rest).collect::<Vec<_>>();
        assert_eq!(endings("a"), [&b"."[..], b".b.py", b".py", b".pyc"]);
        assert_eq!(endings("ab"), [b".py"]);
        for stem in ["a.p", "a-", "b", "0", "zz"] {
            assert!(endings(stem).is_empty(), "{stem}");
        }
        assert_eq!(listing.names().count(), 9, "one of the ten is no text");
    }

    #[cfg(unix)]
    #[test]
    fn what_is_no_file_is_not_listed() {
        let folder = tempfile::tempdir().expect("a folder");
        let _socket = std::os::unix::net::UnixListener::bind(folder.path().join("socket.py")).expect("bound");
        std::os::unix::fs::symlink("socket.py", folder.path().join("linked.py")).expect("linked");
        for number in 0..2_000 {
            std::fs::write(folder.path().join(format!("a_module_with_a_long_name_{number}.py")), "").expect("written");
        }
        let listing = Listings::default().of(folder.path()).expect("there");
        assert_eq!((listing.kind("socket.py"), listing.kind("linked.py")), (None, None));
        assert_eq!(listing.names().count(), 2_000);
    }
}
