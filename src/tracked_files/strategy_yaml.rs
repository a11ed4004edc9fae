//! strategy.yaml: the list of files that a strategy's author decides on.
//!
//! The only place that uses serde_yaml, which is archived upstream: the input is capped, and aliases that blow up are
//! refused by the parser's own limit.

use std::path::{Component, Path, PathBuf};

use globset::{GlobBuilder, GlobSet, GlobSetBuilder};
use serde_yaml::Value;

use super::Selection;
use super::walk::{IgnoreRules, walk};
use crate::run_record::TrackedBy;
use crate::tracked_path::TrackedPath;

/// The file's name.
pub const FILE_NAME: &str = "strategy.yaml";
/// A longer file is refused.
const MAX_BYTES: u64 = 1 << 20;
/// Brackets that are open at once. The parser takes no more either, but time that grows with the square of them.
const MAX_OPEN_BRACKETS: usize = 128;

/// What strategy.yaml asks for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StrategyYaml {
    files: Vec<String>,
    exclude: Vec<String>,
    entry_point_only: bool,
    /// What was wrong with single entries.
    warnings: Vec<String>,
}

/// Reads the text of a strategy.yaml; an error says why it decides nothing.
pub fn parse(text: &str) -> Result<StrategyYaml, String> {
    if is_nested_too_deeply(text) {
        return Err(format!("not valid YAML: over {MAX_OPEN_BRACKETS} brackets open at once"));
    }
    let value: Value = serde_yaml::from_str(text).map_err(|e| format!("not valid YAML: {e}"))?;
    let Value::Mapping(mapping) = value else { return Err("not a mapping".into()) };
    let mut out = StrategyYaml::default();
    match mapping.get("mode") {
        None | Some(Value::Null) => {}
        Some(Value::String(mode)) if mode == "entry_point_only" => out.entry_point_only = true,
        Some(Value::String(mode)) if mode == "tracked" => {}
        Some(other) => out.warnings.push(format!("unknown mode {}", shown(other))),
    }
    match mapping.get("files") {
        Some(Value::Sequence(files)) => out.files = strings("files", files, &mut out.warnings),
        None if out.entry_point_only => {}
        None => return Err("it has no `files`".into()),
        Some(_) => return Err("`files` is not a list".into()),
    }
    match mapping.get("exclude") {
        None | Some(Value::Null) => {}
        Some(Value::Sequence(exclude)) => out.exclude = strings("exclude", exclude, &mut out.warnings),
        Some(_) => out.warnings.push("`exclude` is not a list and is ignored".into()),
    }
    Ok(out)
}

/// Whether more brackets are open somewhere than a list of files can have; brackets in quotes are not told apart.
fn is_nested_too_deeply(text: &str) -> bool {
    let mut open = 0usize;
    text.bytes().any(|byte| {
        match byte {
            b'[' | b'{' => open += 1,
            b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        open > MAX_OPEN_BRACKETS
    })
}

fn strings(key: &str, values: &[Value], warnings: &mut Vec<String>) -> Vec<String> {
    let mut out = Vec::new();
    for value in values {
        match value {
            Value::String(text) if !text.is_empty() => out.push(text.clone()),
            other => warnings.push(format!("an entry of `{key}` is not a path: {}", shown(other))),
        }
    }
    out
}

fn shown(value: &Value) -> String {
    serde_json::to_string(value).unwrap_or_default().chars().take(60).collect()
}

/// The files that the strategy.yaml in `folder`, that of the entry point, decides on; `None` where there is none that
/// decides.
///
/// `root`, `folder` and `entry` are absolute and resolved. What is wrong goes into `warnings`, which are shown even where the
/// result is `None`.
pub fn select(
    root: &Path,
    folder: &Path,
    entry: Option<&Path>,
    store: Option<&Path>,
    warnings: &mut Vec<String>,
) -> Option<Selection> {
    let path = folder.join(FILE_NAME);
    let metadata = path.metadata().ok()?;
    let read = || {
        // A pipe or a device would be read for ever.
        if !metadata.is_file() {
            return Err("not a file".to_owned());
        }
        if metadata.len() > MAX_BYTES {
            return Err(format!("over {MAX_BYTES} bytes long"));
        }
        let bytes = std::fs::read(&path).map_err(|e| e.kind().to_string())?;
        parse(&String::from_utf8(bytes).map_err(|_| "not UTF-8")?)
    };
    let yaml = match read() {
        Ok(yaml) => yaml,
        Err(reason) => {
            warnings.push(format!("{} decides nothing: {reason}", path.display()));
            return None;
        }
    };
    let mut choice = Choice { root, folder, store, selection: Selection::new(TrackedBy::StrategyYaml), path: &path };
    for warning in &yaml.warnings {
        choice.problem(warning);
    }
    if yaml.entry_point_only {
        choice.selection.tracked_by = TrackedBy::EntryPointOnly;
    } else {
        for pattern in &yaml.files {
            choice.add(pattern);
        }
        choice.exclude(&yaml.exclude);
    }
    // The entry point and the list itself always belong to the run.
    if let Some(entry) = entry {
        choice.add_file(entry);
    }
    choice.add_file(&path);
    Some(choice.selection)
}

struct Choice<'a> {
    root: &'a Path,
    folder: &'a Path,
    store: Option<&'a Path>,
    selection: Selection,
    path: &'a Path,
}

impl Choice<'_> {
    fn problem(&mut self, what: &str) {
        self.selection.problem(format!("{}: {what}", self.path.display()));
    }

    fn tracked(&self, path: &Path) -> Option<TrackedPath> {
        path.strip_prefix(self.root).ok().and_then(TrackedPath::from_path)
    }

    fn add(&mut self, pattern: &str) {
        if Path::new(pattern).is_absolute() {
            return self.problem(&format!("an absolute path is not taken: {pattern:?}"));
        }
        let Some(path) = join(self.folder, pattern).filter(|path| path.starts_with(self.root)) else {
            return self.problem(&format!("leads out of the project: {pattern:?}"));
        };
        let Some(path) = self.through_links(path) else {
            return self.problem(&format!("leads out of the project through a link: {pattern:?}"));
        };
        match path.symlink_metadata() {
            Ok(metadata) if metadata.is_dir() => {
                let below = walk(self.root, &path, self.store, IgnoreRules::Overruled);
                self.selection.files.extend(below.files);
                self.selection.left_out.extend(below.left_out);
                self.selection.warnings.extend(below.warnings);
            }
            Ok(_) if self.tracked(&path).is_some() => self.add_file(&path),
            _ if has_wildcard(Path::new(pattern)) => self.add_glob(pattern, &path),
            _ => self.problem(&format!("not found: {pattern:?}")),
        }
    }

    /// Follows links to folders on the way to what was asked for, and takes them along as links. `None` where they lead
    /// out of the project.
    fn through_links(&mut self, path: PathBuf) -> Option<PathBuf> {
        let has_wildcard = |folder: &Path| has_wildcard(folder.strip_prefix(self.root).unwrap_or(folder));
        let folder = path.ancestors().skip(1).find(|folder| !has_wildcard(folder))?;
        let real = match folder.canonicalize() {
            Ok(real) if real != folder => real,
            // What is not there is told later.
            _ => return Some(path),
        };
        let rest = path.strip_prefix(folder).ok()?;
        let target = real.starts_with(self.root).then(|| real.join(rest))?;
        for link in folder.ancestors().filter(|ancestor| ancestor.is_symlink()) {
            if let Some(tracked) = self.tracked(link) {
                self.selection.files.insert(tracked, link.to_owned());
            }
        }
        Some(target)
    }

    fn add_file(&mut self, path: &Path) {
        let Some(tracked) = self.tracked(path) else { return };
        self.selection.files.insert(tracked, path.to_owned());
        // A link is kept as a link; what it leads to is what runs.
        if let (true, Ok(target)) = (path.is_symlink(), path.canonicalize()) {
            match self.tracked(&target) {
                Some(tracked) if target.is_file() => drop(self.selection.files.insert(tracked, target)),
                Some(_) => {
                    self.problem(&format!("{} leads to a folder and is kept as a link alone", path.display()));
                }
                None => {
                    self.problem(&format!("{} leads out of the project and is kept as a link alone", path.display()))
                }
            }
        }
    }

    fn add_glob(&mut self, pattern: &str, full: &Path) {
        let set = match self.glob(full) {
            Ok(set) => set,
            Err(reason) => return self.problem(&format!("not a pattern: {pattern:?} ({reason})")),
        };
        // Only the folder above the first wildcard needs a walk.
        let (base, relative) = self.split(full);
        let plain = |part: &Component<'_>| !has_wildcard(Path::new(part));
        let fixed = base.join(relative.components().take_while(plain).collect::<PathBuf>());
        let found: Vec<_> = walk(self.root, &fixed, self.store, IgnoreRules::Overruled)
            .files
            .into_iter()
            .filter(|(_, path)| set.is_match(path))
            .collect();
        if found.is_empty() {
            self.problem(&format!("nothing matches {pattern:?}"));
        }
        for (_, path) in found {
            self.add_file(&path);
        }
    }

    /// The part of a path that the pattern's author did not write, and the part that may have wildcards.
    fn split<'p>(&'p self, full: &'p Path) -> (&'p Path, &'p Path) {
        let below = |base: &'p Path| full.strip_prefix(base).ok().map(|relative| (base, relative));
        below(self.folder).or_else(|| below(self.root)).unwrap_or((Path::new(""), full))
    }

    /// A set that matches absolute paths; `*` stays within one folder, `**` does not.
    fn glob(&self, full: &Path) -> Result<GlobSet, String> {
        let (base, relative) = self.split(full);
        let (base, relative) = (base.to_str().ok_or("not UTF-8")?, relative.to_str().ok_or("not UTF-8")?);
        let text = format!("{}/{relative}", globset::escape(base));
        let glob = GlobBuilder::new(&text).literal_separator(true).build().map_err(|e| e.kind().to_string())?;
        GlobSetBuilder::new().add(glob).build().map_err(|e| e.kind().to_string())
    }

    fn exclude(&mut self, patterns: &[String]) {
        for pattern in patterns {
            let set = join(self.folder, pattern)
                .ok_or_else(|| "leads out of the project".to_owned())
                .and_then(|p| self.glob(&p));
            match set {
                Ok(set) => self.selection.files.retain(|_, path| !path.ancestors().any(|p| set.is_match(p))),
                Err(reason) => self.problem(&format!("not a pattern: {pattern:?} ({reason})")),
            }
        }
    }
}

fn has_wildcard(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '[', '{'])
}

/// Joins without looking at the file system; `None` where `..` leads above the root of it.
fn join(folder: &Path, relative: &str) -> Option<PathBuf> {
    let mut path = folder.to_owned();
    for part in Path::new(relative).components() {
        match part {
            Component::Normal(name) => path.push(name),
            Component::CurDir => {}
            Component::ParentDir => {
                if !path.pop() {
                    return None;
                }
            }
            Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    Some(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_mapping_with_a_list_decides() {
        for bad in ["", "[]", "files: x", &"[{".repeat(200_000), "other: 1", "files: [", "a: &a [1]\nb: *c", "\t"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        assert_eq!(parse("files: []").map(|y| y.files), Ok(vec![]));
        assert_eq!(parse("mode: entry_point_only").map(|y| y.entry_point_only), Ok(true));
        let odd = parse("files: [a.py, 3, null, '']\nmode: odd\nexclude: x").expect("decides");
        assert_eq!(odd.files, ["a.py"]);
        assert_eq!(odd.warnings.len(), 5, "{:?}", odd.warnings);
    }

    #[test]
    fn aliases_that_blow_up_are_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let alias = format!("*a{}", n - 1);
            text += &format!("a{n}: &a{n} [{}]\n", [alias.as_str(); 9].join(", "));
        }
        assert!(parse(&(text + "files: []\n")).is_err());
    }

    #[test]
    fn joining_knows_no_way_out() {
        assert_eq!(join(Path::new("/a/b"), "../c/./d"), Some("/a/c/d".into()));
        assert_eq!(join(Path::new("/a"), "../../etc"), None);
        assert_eq!(join(Path::new("/a"), "/etc"), None);
    }
}
