//! `.pth` files: which there are in a folder of packages, and what their lines mean.

use std::fs;
use std::path::{Component, Path, PathBuf};
use std::time::SystemTime;

use super::cache::{Cache, Stamp, file_name};
use super::literals::{Literal, Statement, statements};
use super::read_limited;

/// A longer file is not read.
const MAX_BYTES: u64 = 1 << 20;
/// From this many names on a folder's list is kept.
const KEPT_FROM: usize = 64;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A folder, or an archive, is added to the search path if it is there.
    Path(PathBuf),
    /// Statements are executed.
    Statements(Vec<Step>),
}

/// What a statement asks for that is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A module is imported: its full name.
    Import(String),
    /// `site.addsitedir`: a folder of packages is added.
    SiteFolder(PathBuf),
    /// `sys.path.insert` and `sys.path.append`: a folder is added, at that place or at the end.
    Insert(Option<usize>, PathBuf),
}

/// The names of the `.pth` files in a folder, in the order in which they are read.
pub fn names_in(folder: &Path, skips_hidden: bool, cache: &Cache) -> Vec<String> {
    let Ok(metadata) = fs::metadata(folder) else { return Vec::new() };
    let bytes = folder.as_os_str().as_encoded_bytes();
    let (key, kept_as) = ((bytes.to_vec(), Stamp::of(&metadata)), file_name("folder", &[bytes]));
    let names = cache.get::<_, Vec<String>>(&kept_as, &key).unwrap_or_else(|| {
        let now = SystemTime::now();
        let mut count = 0usize;
        let entries = fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok).inspect(|_| count += 1);
        // A name that is no text is no name that a build backend gives.
        let mut names: Vec<String> = entries
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| name.ends_with(".pth"))
            .collect();
        names.sort();
        if count >= KEPT_FROM && key.1.is_settled(now) {
            cache.put(&kept_as, &key, &names);
        }
        names
    });
    names.into_iter().filter(|name| !(skips_hidden && name.starts_with('.'))).collect()
}

/// Whether `site` passes over `.pth` files whose names begin with a dot: since security releases of all versions.
pub fn skips_hidden(version: (u8, u8, u8)) -> bool {
    match version {
        (3, 8, patch) => patch >= 19,
        (3, 9, patch) => patch >= 19,
        (3, 10, patch) => patch >= 14,
        (3, 11, patch) => patch >= 8,
        (3, 12, patch) => patch >= 2,
        version => version >= (3, 13, 0),
    }
}

/// The lines of a file that ask for something; `None` where it cannot be read.
pub fn read(path: &Path, version: (u8, u8, u8)) -> Option<Vec<Line>> {
    let bytes = read_limited(path, MAX_BYTES)?;
    Some(lines(&bytes, path.parent()?, version))
}

fn lines(bytes: &[u8], folder: &Path, version: (u8, u8, u8)) -> Vec<Line> {
    let is_new = version >= (3, 13, 0);
    let bytes = if is_new { bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes) } else { bytes };
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        // The locale's encoding, which for such files has ever been this one or UTF-8.
        Err(_) => bytes.iter().map(|byte| char::from(*byte)).collect(),
    };
    // `str.splitlines` knows more ends than files have.
    let is_end = |char: char| match char {
        '\n' | '\r' => true,
        '\u{b}' | '\u{c}' | '\u{1c}'..='\u{1e}' | '\u{85}' | '\u{2028}' | '\u{2029}' => is_new,
        _ => false,
    };
    let lines = text.split(is_end).filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    lines.map(|line| line_of(line, folder)).collect()
}

fn line_of(line: &str, folder: &Path) -> Line {
    if !line.starts_with("import ") && !line.starts_with("import\t") {
        return Line::Path(normal(&folder.join(line.trim_end())));
    }
    let mut steps = Vec::new();
    for statement in statements(line) {
        match statement {
            Statement::Import(names) => steps.extend(names.into_iter().map(Step::Import)),
            Statement::Call(name, arguments) => steps.extend(step(&name, &arguments)),
            Statement::Other => {}
        }
    }
    Line::Statements(steps)
}

fn step(name: &str, arguments: &[Literal]) -> Option<Step> {
    match (name, arguments) {
        ("site.addsitedir", [Literal::Text(path)]) => Some(Step::SiteFolder(path.into())),
        ("sys.path.append", [Literal::Text(path)]) => Some(Step::Insert(None, path.into())),
        ("sys.path.insert", [Literal::Word(place), Literal::Text(path)]) => {
            Some(Step::Insert(Some(place.parse().ok()?), path.into()))
        }
        _ => None,
    }
}

/// The path without `.` and `..`, as `os.path.abspath` writes an absolute one: links are not followed.
pub fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            part => out.push(part),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(path: &str) -> Line {
        Line::Path(path.into())
    }

    #[test]
    fn lines_are_paths_or_imports() {
        let read = |bytes: &[u8]| lines(bytes, Path::new("/s/p"), (3, 13, 0));
        assert_eq!(
            read(b"# a\n\n  \t\n/x/y  \n../z\r\n./a/./b\rname"),
            [path("/x/y"), path("/s/z"), path("/s/p/a/b"), path("/s/p/name")]
        );
        assert_eq!(read(b"\xef\xbb\xbf/caf\xc3\xa9"), [path("/café")]);
        assert_eq!(read(b"/caf\xe9"), [path("/café")]);
        assert_eq!(lines(b"/a\x0cb", Path::new("/s"), (3, 12, 0)), [path("/a\u{c}b")]);
        assert_eq!(read(b"/a\x0c/b"), [path("/a"), path("/b")]);
        assert_eq!(lines(b"\xef\xbb\xbf/a", Path::new("/s"), (3, 12, 0)), [path("/s/\u{feff}/a")], "no mark before");
        assert_eq!(read(b"importlib_x"), [path("/s/p/importlib_x")]);
        let found = read(b"import __editable___a_finder; __editable___a_finder.install()\nimport\tsys; sys.path.insert(0, '/f'); sys.path.append(x)\nimport site; site.addsitedir('/o')");
        let import = |name: &str| Step::Import(name.into());
        assert_eq!(
            found,
            [
                Line::Statements(vec![import("__editable___a_finder")]),
                Line::Statements(vec![import("sys"), Step::Insert(Some(0), "/f".into())]),
                Line::Statements(vec![import("site"), Step::SiteFolder("/o".into())]),
            ]
        );
    }

    #[test]
    fn names_are_sorted_and_kept_for_large_folders_alone() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let (site, kept) = (folder.path().join("site"), folder.path().join("kept"));
        fs::create_dir(&site).expect("made");
        for name in ["b.pth", "a.pth", ".h.pth", "c.py"] {
            fs::write(site.join(name), "").expect("written");
        }
        let cache = Cache::in_folder(Some(&kept));
        assert_eq!(names_in(&site, true, &cache), ["a.pth", "b.pth"]);
        assert_eq!(names_in(&site, false, &cache), [".h.pth", "a.pth", "b.pth"]);
        for n in 0..KEPT_FROM {
            fs::write(site.join(format!("{n}.py")), "").expect("written");
        }
        assert_eq!(names_in(&site, true, &cache).len(), 2);
        assert_eq!(fs::read_dir(&kept).expect("there").count(), 0, "changed too recently");
        let metadata = fs::metadata(&site).expect("there");
        let bytes = site.as_os_str().as_encoded_bytes();
        cache.put(&file_name("folder", &[bytes]), (bytes, Stamp::of(&metadata)), &vec!["known.pth"]);
        assert_eq!(names_in(&site, true, &cache), ["known.pth"], "as it is kept");
        fs::write(site.join("d.pth"), "").expect("written");
        assert_eq!(names_in(&site, true, &cache), ["a.pth", "b.pth", "d.pth"], "the folder has changed");
    }
}
