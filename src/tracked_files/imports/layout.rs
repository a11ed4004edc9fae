//! Under which paths a snapshot has the files of a run: those of the project under their own, all others below a label.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

use foldhash::HashMap;

use crate::python::import_system::listing::split_archive;
use crate::store::OUTSIDE_FOLDER;
use crate::tracked_path::TrackedPath;

/// Links on the way to one file; Linux follows as many.
const MAX_LINKS: usize = 40;

/// Where a file is, and where the snapshot has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// In the snapshot.
    pub tracked: TrackedPath,
    /// On this system. A link that is to be kept as a link is not followed.
    pub disk: PathBuf,
    /// Links on the way to it that are kept as links.
    pub links: Vec<(TrackedPath, PathBuf)>,
}

/// Gives files their places.
#[derive(Debug)]
pub struct Layout {
    root: PathBuf,
    outside: BTreeMap<PathBuf, String>,
    /// Whether a folder of the project is one, with no link on the way to it.
    plain: HashMap<PathBuf, bool>,
}

impl Layout {
    /// For a project.
    pub fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), outside: BTreeMap::new(), plain: HashMap::default() }
    }

    /// Makes labels for folders outside of the project, so that they depend on nothing but the folders' names and order.
    pub fn label(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        let mut folders: Vec<PathBuf> = folders.into_iter().filter(|folder| !folder.starts_with(&self.root)).collect();
        folders.sort_by(|a, b| (a.file_name(), a).cmp(&(b.file_name(), b)));
        folders.dedup();
        for folder in folders {
            let name = folder.file_name().and_then(|name| name.to_str()).unwrap_or("root").to_owned();
            let is_free = |label: &String| self.outside.values().all(|known| known != label);
            let numbered = (2..).map(|number| format!("{name}-{number}"));
            if let Some(label) = std::iter::once(name.clone()).chain(numbered).find(is_free) {
                self.outside.insert(folder, label);
            }
        }
    }

    /// The folders outside of the project, by their labels.
    pub fn outside(&self) -> BTreeMap<String, PathBuf> {
        self.outside.iter().map(|(folder, label)| (label.clone(), folder.clone())).collect()
    }

    /// The place of a file that was found by a folder of the search path; of a member of an archive, that of the archive.
    /// `None` where its name cannot be stored. It may be known already to be a file, and no link to one.
    pub fn place(&mut self, path: &Path, base: &Path, is_file: bool) -> Option<Placed> {
        // Nearly all files are plain ones of the project: a look at each is enough.
        if let (Ok(relative), Some(folder)) = (path.strip_prefix(&self.root), path.parent()) {
            let is_file = is_file || path.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
            if is_file && self.is_plain(folder) {
                let (tracked, disk) = (TrackedPath::from_path(relative)?, path.to_owned());
                return Some(Placed { tracked, disk, links: Vec::new() });
            }
        }
        let archive = if path.exists() { None } else { split_archive(path) };
        let (path, base) = match &archive {
            Some((archive, _)) => (archive.as_path(), if base.starts_with(archive) { archive.parent()? } else { base }),
            None => (path, base),
        };
        match path.strip_prefix(&self.root) {
            Ok(relative) => self.inside(relative),
            Err(_) => {
                let label = self.outside.get(base)?;
                let relative = TrackedPath::from_path(path.strip_prefix(base).ok()?)?;
                let folder = TrackedPath::from_bytes(OUTSIDE_FOLDER)?.join(label.as_bytes())?;
                let tracked = relative.parts().try_fold(folder, |folder, part| folder.join(part))?;
                // Links lead to where nobody knows: what they lead to is kept in their place.
                Some(Placed { tracked, disk: path.canonicalize().ok()?, links: Vec::new() })
            }
        }
    }

    /// Whether a folder of the project is one, with no link on the way to it from the root.
    fn is_plain(&mut self, folder: &Path) -> bool {
        if let Some(known) = self.plain.get(folder) {
            return *known;
        }
        let is_plain = match folder.parent() {
            _ if folder == self.root => folder.is_dir(),
            Some(above) => folder.symlink_metadata().is_ok_and(|metadata| metadata.is_dir()) && self.is_plain(above),
            None => false,
        };
        self.plain.insert(folder.to_owned(), is_plain);
        is_plain
    }

    /// The place of a file in the project. Links that stay within are kept as links, and what they lead to under its own
    /// path; what others lead to is kept in their place.
    fn inside(&self, relative: &Path) -> Option<Placed> {
        let mut links = Vec::new();
        let mut done = self.root.clone();
        let mut waiting = parts_of(relative);
        while let Some(part) = waiting.pop() {
            if part == ".." {
                done.pop();
                continue;
            }
            let here = done.join(&part);
            let Some(target) = here.read_link().ok().filter(|_| here.is_symlink()) else {
                done = here;
                continue;
            };
            let tracked = TrackedPath::from_path(here.strip_prefix(&self.root).ok()?)?;
            if here.canonicalize().ok()?.starts_with(&self.root) {
                if links.len() == MAX_LINKS {
                    return None;
                }
                links.push((tracked, here));
                if target.is_absolute() {
                    done = PathBuf::from("/");
                }
                waiting.extend(parts_of(&target));
            } else {
                let rest: PathBuf = waiting.iter().rev().collect();
                let path = if waiting.is_empty() { here } else { here.join(rest) };
                let tracked = TrackedPath::from_path(path.strip_prefix(&self.root).ok()?)?;
                return Some(Placed { tracked, disk: path.canonicalize().ok()?, links });
            }
        }
        let tracked = TrackedPath::from_path(done.strip_prefix(&self.root).ok()?)?;
        Some(Placed { tracked, disk: done, links })
    }
}

/// The parts of a path, the last first; without that of an absolute one's beginning.
fn parts_of(path: &Path) -> Vec<OsString> {
    let is_part = |part: &Component<'_>| matches!(part, Component::Normal(_) | Component::ParentDir);
    path.components().filter(is_part).map(|part| part.as_os_str().to_owned()).rev().collect()
}

#[cfg(all(test, unix))]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_are_kept_where_they_stay_within() {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().canonicalize().expect("resolved");
        let root = base.join("project");
        fs::create_dir_all(root.join("pkg")).expect("made");
        fs::create_dir_all(base.join("shared/lib")).expect("made");
        for file in ["project/pkg/a.py", "shared/lib/b.py", "shared/c.py"] {
            fs::write(base.join(file), "").expect("written");
        }
        symlink("pkg", root.join("alias")).expect("linked");
        symlink("alias/a.py", root.join("twice.py")).expect("linked");
        symlink("../shared/lib", root.join("lib")).expect("linked");
        symlink("round.py", root.join("round.py")).expect("linked");
        let mut layout = Layout::new(&root);
        layout.label([base.join("shared"), root.clone()]);
        // Whether it is said that a file is none of its links changes nothing.
        let mut place = |path: &str, found_by: &str| {
            let place = layout.place(&base.join(path), &base.join(found_by), false);
            if base.join(path).symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                assert_eq!(layout.place(&base.join(path), &base.join(found_by), true), place, "{path}");
            }
            place
        };
        let told = |placed: &Placed| {
            let links: Vec<String> = placed.links.iter().map(|(link, _)| link.to_string()).collect();
            (placed.tracked.to_string(), placed.disk.strip_prefix(&base).expect("below").display().to_string(), links)
        };
        let mut is = |path: &str, found_by: &str| told(&place(path, found_by).expect("a place"));
        let text = |tracked: &str, disk: &str, links: &[&str]| {
            (tracked.to_owned(), disk.to_owned(), links.iter().map(|link| (*link).to_owned()).collect::<Vec<_>>())
        };
        assert_eq!(is("project/pkg/a.py", "project"), text("pkg/a.py", "project/pkg/a.py", &[]));
        assert_eq!(is("project/alias/a.py", "project"), text("pkg/a.py", "project/pkg/a.py", &["alias"]));
        assert_eq!(is("project/twice.py", "project"), text("pkg/a.py", "project/pkg/a.py", &["twice.py", "alias"]));
        assert_eq!(is("project/lib/b.py", "project"), text("lib/b.py", "shared/lib/b.py", &[]));
        assert_eq!(is("shared/c.py", "shared"), text(".runsnap-outside/shared/c.py", "shared/c.py", &[]));
        assert_eq!(place("project/round.py", "project"), None);
        assert_eq!(place("shared/c.py", "elsewhere"), None);
    }

    #[test]
    fn labels_are_told_apart() {
        let mut layout = Layout::new(Path::new("/p"));
        layout.label(["/b/lib", "/a/lib", "/a/lib", "/p/lib", "/"].map(PathBuf::from));
        let labels = layout.outside();
        let told: Vec<(&str, &str)> = labels.iter().map(|(l, f)| (l.as_str(), f.to_str().expect("text"))).collect();
        assert_eq!(told, [("lib", "/a/lib"), ("lib-2", "/b/lib"), ("root", "/")]);
    }
}
