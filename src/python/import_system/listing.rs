//! The names in folders, and in zip archives that Python looks into as if they were folders; each is listed once.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use zip::ZipArchive;

/// A longer member of an archive is not read: no Python source has this length.
const MAX_MEMBER_BYTES: u64 = 16 << 20;
/// An archive with more members is not looked into.
const MAX_MEMBERS: usize = 200_000;

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
    names: HashMap<OsString, Kind>,
    /// What the names begin with, up to the first dot: most of what is looked for is not there.
    stems: HashSet<OsString>,
}

impl Listing {
    /// What stands under a name.
    pub fn kind(&self, name: impl AsRef<OsStr>) -> Option<Kind> {
        self.names.get(name.as_ref()).copied()
    }

    /// Whether there is a name that is this one, or this one with an ending.
    pub fn has_stem(&self, stem: impl AsRef<OsStr>) -> bool {
        self.stems.contains(stem.as_ref())
    }

    fn insert(&mut self, name: OsString, kind: Kind) {
        let stem = name.to_str().and_then(|name| name.split('.').next()).unwrap_or_default();
        if !self.stems.contains(OsStr::new(stem)) {
            self.stems.insert(stem.into());
        }
        self.names.entry(name).or_insert(kind);
    }

    /// Whether there is a file of that name.
    pub fn has_file(&self, name: impl AsRef<OsStr>) -> bool {
        self.kind(name) == Some(Kind::File)
    }

    /// All names, sorted.
    pub fn names(&self) -> Vec<(&OsStr, Kind)> {
        let mut names: Vec<_> = self.names.iter().map(|(name, kind)| (name.as_os_str(), *kind)).collect();
        names.sort();
        names
    }

    fn read(folder: &Path) -> std::io::Result<Self> {
        let mut listing = Self::default();
        for entry in folder.read_dir()? {
            let entry = entry?;
            let kind = entry.file_type()?;
            // Where a link leads nowhere, Python finds nothing either.
            let followed =
                if kind.is_symlink() { entry.path().metadata().ok().map(|m| m.file_type()) } else { Some(kind) };
            let kind = match followed {
                Some(kind) if kind.is_file() => Kind::File,
                Some(kind) if kind.is_dir() => Kind::Folder,
                _ => continue,
            };
            listing.insert(entry.file_name(), kind);
        }
        Ok(listing)
    }
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
                folders.entry(folder.to_owned()).or_default().insert(last.to_owned(), kind);
                if kind == Kind::Folder {
                    folders.entry(path.clone()).or_default();
                }
                kind = Kind::Folder;
                path = folder.to_owned();
            }
        }
        Some(Self { folders: folders.into_iter().map(|(path, listing)| (path, Rc::new(listing))).collect() })
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
pub fn read_member(archive: &Path, member: &Path) -> std::io::Result<Vec<u8>> {
    let name = member.to_str().ok_or(std::io::ErrorKind::InvalidData)?;
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
        assert_eq!(top.names(), [(OsStr::new("__main__.py"), Kind::File), (OsStr::new("pkg"), Kind::Folder)]);
        assert!(listings.has_file(&archive.join("pkg/deep/x.py")));
        assert!(listings.of(&archive.join("pkg/none")).is_none());
        assert!(listings.of(&folder.path().join("none")).is_none());
        assert!(is_runnable_archive(&archive));
        assert_eq!(read_member(&archive, Path::new("pkg/deep/x.py")).expect("read"), b"X = 1");
        assert!(read_member(&archive, Path::new("none.py")).is_err());
        assert_eq!(split_archive(&archive.join("pkg/a")), Some((archive, PathBuf::from("pkg/a"))));
    }
}
