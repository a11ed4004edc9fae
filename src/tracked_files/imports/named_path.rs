//! Where paths that a source names may lead on this system.

use std::path::{Path, PathBuf};

use crate::python::import_system::normalised;
use crate::python::source::{Base, PathExpression};

/// The folders that paths are looked for in.
#[derive(Debug, Clone)]
pub struct Folders {
    /// The project's root: files outside of it are not tracked as data.
    pub root: PathBuf,
    /// The folder that the run starts in.
    pub working: PathBuf,
    /// The folder of the entry point.
    pub entry: PathBuf,
    /// Folders that the run goes to, first those that it certainly goes to.
    pub further: Vec<PathBuf>,
}

impl Folders {
    /// Whether a path leads to a file by way of the project: a link in it may lead elsewhere.
    pub fn is_inside(&self, path: &Path) -> bool {
        path.starts_with(&self.root) || path.canonicalize().is_ok_and(|path| path.starts_with(&self.root))
    }
}

/// The paths that an expression in a source may mean, the likeliest first. A path that begins nowhere is relative to
/// the working folder of the run; where that is another than now, to the entry point's or the root.
pub fn candidates(folders: &Folders, source: &Path, path: &PathExpression) -> Vec<PathBuf> {
    let mut found = Vec::new();
    match path.base {
        Base::Absolute => found.push(PathBuf::from(&path.rest)),
        Base::Source(up) => {
            let from = source.ancestors().nth(up as usize);
            found.extend(from.map(|from| if path.rest.is_empty() { from.to_owned() } else { from.join(&path.rest) }));
        }
        Base::Working => {
            let usual = [&folders.working, &folders.entry, &folders.root];
            for folder in folders.further.iter().chain(usual) {
                let joined = if path.rest.is_empty() { folder.clone() } else { folder.join(&path.rest) };
                if !found.contains(&joined) {
                    found.push(joined);
                }
            }
        }
        Base::Main(0) | Base::Package => {}
        Base::Main(up) => {
            let from = folders.entry.ancestors().nth(up as usize - 1);
            found.extend(from.map(|from| if path.rest.is_empty() { from.to_owned() } else { from.join(&path.rest) }));
        }
    }
    found.into_iter().map(|path| normalised(&path)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_relative_to_what_they_say() {
        let folders =
            Folders { root: "/p".into(), working: "/p/w".into(), entry: "/p/w/e".into(), further: Vec::new() };
        let paths = |base, rest: &str| {
            let path = PathExpression { base, rest: rest.to_owned() };
            candidates(&folders, Path::new("/p/lib/mod.py"), &path)
        };
        let text = |paths: Vec<PathBuf>| paths.iter().map(|p| p.display().to_string()).collect::<Vec<_>>();
        assert_eq!(text(paths(Base::Working, "a.csv")), ["/p/w/a.csv", "/p/w/e/a.csv", "/p/a.csv"]);
        assert_eq!(text(paths(Base::Source(1), "../data/x")), ["/p/data/x"]);
        assert_eq!(text(paths(Base::Source(0), "")), ["/p/lib/mod.py"]);
        assert_eq!(text(paths(Base::Absolute, "/x/../y")), ["/y"]);
        assert_eq!(text(paths(Base::Main(1), "x")), ["/p/w/e/x"]);
        assert_eq!(text(paths(Base::Main(2), "")), ["/p/w"]);
        assert!(paths(Base::Main(0), "").is_empty());
        assert!(paths(Base::Source(9), "x").is_empty());
        let folders = Folders { further: vec!["/p/cd".into()], ..folders.clone() };
        let path = PathExpression { base: Base::Working, rest: "a".to_owned() };
        assert_eq!(text(candidates(&folders, Path::new("/p/x.py"), &path)), ["/p/cd/a", "/p/w/a", "/p/w/e/a", "/p/a"]);
    }
}
