//! A path while it is being computed, and Python's operations on it.

use super::constants::has_mark;
use super::{Base, Package, PathExpression};

/// A path, by what it begins at. Unlike in [`PathExpression`], `..` stays where it is until the path is resolved, since
/// `dirname("a/..")` is `a`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) base: Base,
    /// The parts, without empty ones and `.`; with [`Base::Absolute`] the root too.
    pub(super) rest: String,
    /// Whether it is a path object: only those know `/`.
    pub(super) is_object: bool,
    /// Whether the base was made absolute: then the working folder has a parent.
    pub(super) is_resolved: bool,
    /// The package that [`Base::Package`] is the folder of.
    pub(super) package: Option<Package>,
}

impl Place {
    /// The beginning of a path.
    pub(super) fn at(base: Base) -> Self {
        Self { base, rest: String::new(), is_object: false, is_resolved: false, package: None }
    }

    /// What a string is as a path; `None` where it is plainly none.
    pub(super) fn from_text(text: &str, is_windows: bool) -> Option<Self> {
        if text.contains(['\n', '\r', '\0']) || text.contains("://") || text.starts_with('~') {
            return None;
        }
        let mut place = Self::at(Base::Working);
        place.push(text, is_windows);
        Some(place)
    }

    /// Appends as `os.path.join` does: an absolute path replaces what there is.
    pub(super) fn push(&mut self, text: &str, is_windows: bool) {
        let text = if is_windows { text.replace('\\', "/") } else { text.to_owned() };
        if text.starts_with('/') {
            (self.base, self.rest, self.package) = (Base::Absolute, "/".into(), None);
        } else if is_windows && has_drive(&text) {
            (self.base, self.rest, self.package) = (Base::Absolute, String::new(), None);
        }
        for part in text.split('/').filter(|part| !part.is_empty() && *part != ".") {
            if !self.rest.is_empty() && !self.rest.ends_with('/') {
                self.rest.push('/');
            }
            self.rest.push_str(part);
        }
    }

    /// Joins another path.
    pub(super) fn join(&mut self, other: &Self, is_windows: bool) {
        if other.base == Base::Working && !other.is_resolved {
            self.push(&other.rest, is_windows);
        } else {
            *self = Self { is_object: self.is_object, ..other.clone() };
        }
    }

    /// Appends text as `+` does: the last part goes on.
    pub(super) fn append_text(&mut self, text: &str, is_windows: bool) -> Option<()> {
        let separated = text.starts_with('/') || is_windows && text.starts_with('\\');
        if text.is_empty() {
            return Some(());
        }
        if !separated && self.rest.is_empty() {
            return None;
        }
        if text.contains(['\n', '\r', '\0']) {
            return None;
        }
        if separated {
            self.push(text.trim_start_matches(['/', '\\']), is_windows);
        } else {
            let (first, more) = text.split_once('/').unwrap_or((text, ""));
            self.rest.push_str(first);
            self.push(more.trim_start_matches('/'), is_windows);
        }
        Some(())
    }

    /// The folder it is in, as `dirname` and `.parent` see it.
    pub(super) fn parent(mut self) -> Option<Self> {
        // Of another module's value the folder is not known.
        if has_mark(self.rest.rsplit('/').next().unwrap_or_default()) {
            return None;
        }
        match (self.rest.rfind('/'), self.base) {
            (Some(0), Base::Absolute) => self.rest.truncate(1),
            (None, Base::Absolute) => {}
            (_, Base::Working)
                if self.is_resolved && self.rest.split('/').all(|part| part == ".." || part.is_empty()) =>
            {
                self.push("..", false);
            }
            (Some(at), _) => self.rest.truncate(at),
            (None, _) if !self.rest.is_empty() => self.rest.clear(),
            (None, Base::Source(up)) => self.base = Base::Source(up.checked_add(1)?),
            (None, Base::Main(up)) => self.base = Base::Main(up.checked_add(1)?),
            (None, Base::Working) => {}
            (None, Base::Package) => return None,
        }
        Some(self)
    }

    /// Its last part; `None` where that is not known.
    pub(super) fn name(&self) -> Option<&str> {
        self.rest.rsplit('/').next().filter(|name| !name.is_empty() && *name != ".." && !has_mark(name))
    }

    /// Resolves `..`.
    pub(super) fn resolve(mut self) -> Self {
        let PathExpression { base, rest } = self.finish();
        (self.base, self.rest, self.is_resolved) = (base, rest, true);
        self
    }

    /// The path as it is given away.
    pub(super) fn finish(&self) -> PathExpression {
        let mut base = self.base;
        let (root, relative) = match self.rest.strip_prefix('/') {
            Some(relative) => ("/", relative),
            None => ("", self.rest.as_str()),
        };
        let mut parts: Vec<&str> = Vec::new();
        for part in relative.split('/').filter(|part| !part.is_empty()) {
            if part != ".." {
                parts.push(part);
                continue;
            }
            match (parts.last(), base) {
                (Some(&last), _) if last != ".." => drop(parts.pop()),
                (_, Base::Absolute) => {}
                (_, Base::Source(up)) => base = Base::Source(up.saturating_add(1)),
                (_, Base::Main(up)) => base = Base::Main(up.saturating_add(1)),
                _ => parts.push(part),
            }
        }
        PathExpression { base, rest: format!("{root}{}", parts.join("/")) }
    }
}

fn has_drive(text: &str) -> bool {
    matches!(text.as_bytes(), [letter, b':', b'/', ..] if letter.is_ascii_alphabetic())
}

/// Whether the last part of a path has an extension, as files have.
pub(super) fn has_extension(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    name.rsplit_once('.').is_some_and(|(stem, extension)| {
        !stem.trim_matches('.').is_empty()
            && (1..=12).contains(&extension.len())
            && extension.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
            && !extension.bytes().all(|byte| byte.is_ascii_digit())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(text: &str) -> Place {
        Place::from_text(text, false).expect("a path")
    }

    #[test]
    fn texts_that_are_no_paths_are_none() {
        for text in ["http://x/a.csv", "s3://b/k", "~/x", "a\nb", "a\0"] {
            assert_eq!(Place::from_text(text, false), None, "{text:?}");
        }
    }

    #[test]
    fn results_are_lexically_clean() {
        for (text, base, rest) in [
            ("a/./b//c.csv", Base::Working, "a/b/c.csv"),
            ("./x", Base::Working, "x"),
            ("a/../x", Base::Working, "x"),
            ("../../x", Base::Working, "../../x"),
            ("/a/../../b", Base::Absolute, "/b"),
            ("/", Base::Absolute, "/"),
            (".", Base::Working, ""),
            ("C:\\x", Base::Working, "C:\\x"),
        ] {
            assert_eq!(path(text).finish(), PathExpression { base, rest: rest.into() }, "{text}");
        }
        let windows = Place::from_text("C:\\a\\..\\b", true).map(|place| place.finish());
        assert_eq!(windows, Some(PathExpression { base: Base::Absolute, rest: "C:/b".into() }));
    }

    #[test]
    fn parents_go_up() {
        let up =
            |place: Place, times| (0..times).try_fold(place, |place, _| place.parent()).map(|place| place.finish());
        let is = |base, rest: &str| Some(PathExpression { base, rest: rest.into() });
        assert_eq!(up(Place::at(Base::Source(0)), 3), is(Base::Source(3), ""));
        assert_eq!(up(path("a/b"), 1), is(Base::Working, "a"));
        assert_eq!(up(path("a/b"), 4), is(Base::Working, ""), "the parent of `.` is `.`");
        assert_eq!(up(path("a/..").resolve(), 2), is(Base::Working, "../.."), "that of the working folder is `..`");
        assert_eq!(up(path("a/.."), 1), is(Base::Working, "a"), "which is what Python does");
        assert_eq!(up(path("/a"), 3), is(Base::Absolute, "/"));
        assert_eq!(up(Place::at(Base::Package), 1), None);
    }

    #[test]
    fn text_goes_on_where_the_path_ends() {
        let mut place = Place::at(Base::Source(1));
        assert_eq!(place.append_text("x", false), None, "the folder's own name is not known");
        assert_eq!(place.append_text("/da", false), Some(()));
        assert_eq!(place.append_text("ta/x.csv", false), Some(()));
        assert_eq!(place.finish(), PathExpression { base: Base::Source(1), rest: "data/x.csv".into() });
    }

    #[test]
    fn extensions_are_told_from_numbers_and_dot_files() {
        for yes in ["x.csv", "a/b.json", "x.tar.gz", ".env.local", "m.7z", "x.h5"] {
            assert!(has_extension(yes), "{yes}");
        }
        for no in ["x", "a.b/c", ".env", "..", "v1.0", "x.", "a.not an extension"] {
            assert!(!has_extension(no), "{no}");
        }
    }
}
