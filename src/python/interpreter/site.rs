//! What Python's own `site` would make of the folders of packages: the search path, and what comes with it.

use std::collections::{BTreeSet, HashSet};
use std::path::{Path, PathBuf};

use super::answer::{Answer, Reach};
use super::cache::Cache;
use super::editable::{Editable, read_finder};
use super::pth::{self, Line, Step, normal};
use crate::python::flags::Flags;
use crate::python::variables::Variables;

/// `addsitedir` that adds folders which add folders: nobody needs more.
const MAX_DEPTH: usize = 4;

/// What is found on the way.
#[derive(Debug, Default)]
pub struct Found {
    /// `sys.path`, without what comes from the command line and from PYTHONPATH.
    pub search_path: Vec<PathBuf>,
    /// The folders of packages that are there, whether they are searched or not.
    pub site_packages: Vec<PathBuf>,
    /// What finders map.
    pub editable: Editable,
    /// Names of top-level modules that lines import.
    pub loaded: BTreeSet<String>,
    /// What was looked at, whether it was there or not.
    pub conditions: Vec<PathBuf>,
    /// What is odd.
    pub warnings: Vec<String>,
}

/// Goes through the folders of packages in the order in which `site` does.
pub fn look(answer: &Answer, reach: Reach<'_>, flags: Flags, variables: &Variables, cache: &Cache) -> Found {
    let mut site = Site { answer, cache, known: HashSet::new(), seen: HashSet::new(), found: Found::default() };
    for entry in &answer.path {
        site.push(normal(&entry.path()));
    }
    let user = answer.user_site(variables).map(|folder| normal(&folder));
    if !flags.no_site {
        let uses_own = matches!(reach, Reach::Environment(_));
        if let Reach::Environment(prefix) | Reach::EnvironmentAndBase(prefix) = reach {
            site.add_all(answer.site_folders(Reach::Environment(prefix)));
        }
        if let Some(user) = user.as_ref().filter(|_| !flags.no_user_site && !uses_own) {
            site.add_all([user.clone()]);
        }
        site.add_all(answer.site_folders(reach));
    }
    // What lies in the others is installed all the same.
    let others = answer.site_folders(reach).into_iter().chain(answer.site_folders(Reach::Base)).chain(user);
    for folder in others.filter(|folder| folder.is_dir()) {
        if !site.found.site_packages.contains(&folder) {
            site.found.site_packages.push(folder);
        }
    }
    site.found
}

struct Site<'a> {
    answer: &'a Answer,
    cache: &'a Cache,
    /// What is in the search path, or was.
    known: HashSet<PathBuf>,
    /// Folders that have been looked at.
    seen: HashSet<PathBuf>,
    found: Found,
}

impl Site<'_> {
    fn push(&mut self, path: PathBuf) {
        if self.known.insert(path.clone()) {
            self.found.search_path.push(path);
        }
    }

    fn add_all(&mut self, folders: impl IntoIterator<Item = PathBuf>) {
        for folder in folders {
            if folder.is_dir() {
                self.add_site_folder(&folder, 0);
            } else {
                self.found.conditions.push(folder);
            }
        }
    }

    fn add_site_folder(&mut self, folder: &Path, depth: usize) {
        let folder = normal(folder);
        self.push(folder.clone());
        // A second look would find the same and add nothing.
        if depth > MAX_DEPTH || !self.seen.insert(folder.clone()) {
            return;
        }
        self.found.site_packages.push(folder.clone());
        self.found.conditions.push(folder.clone());
        for name in pth::names_in(&folder, pth::skips_hidden(self.answer.version), self.cache) {
            let file = folder.join(name);
            match pth::read(&file, self.answer.version) {
                Some(lines) => self.follow(&file, lines, depth),
                None if file.is_file() => self.warn(&file, "it cannot be read"),
                None => {}
            }
            self.found.conditions.push(file);
        }
    }

    fn follow(&mut self, file: &Path, lines: Vec<Line>, depth: usize) {
        for line in lines {
            match line {
                Line::Path(path) if path.exists() => self.push(path),
                Line::Path(path) => self.found.conditions.push(path),
                Line::Statements(steps) => {
                    if !steps.into_iter().all(|step| self.step(file, step, depth)) {
                        // Python tells of the error and passes over the rest.
                        return;
                    }
                }
            }
        }
    }

    /// Whether the statement can be executed.
    fn step(&mut self, file: &Path, step: Step, depth: usize) -> bool {
        match step {
            Step::Import(name) => return self.import(file, &name),
            Step::SiteFolder(folder) => self.add_site_folder(&file.with_file_name(folder), depth + 1),
            Step::Insert(place, path) => {
                let end = self.found.search_path.len();
                self.found.search_path.insert(place.unwrap_or(end).min(end), path);
            }
        }
        true
    }

    fn import(&mut self, file: &Path, name: &str) -> bool {
        let top = name.split('.').next().unwrap_or_default();
        self.found.loaded.insert(top.to_owned());
        let is_known = |names: &[String]| names.iter().any(|known| known == top);
        if is_known(&self.answer.standard_names) || is_known(&self.answer.built_in) {
            return true;
        }
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let places: Vec<PathBuf> = std::iter::once(folder).chain(self.found.search_path.iter().cloned()).collect();
        for place in places {
            let module = place.join(format!("{top}.py"));
            if module.is_file() {
                if let Some(editable) = read_finder(&module, &place, &self.answer.extension_suffixes) {
                    self.found.editable.add(editable);
                } else if top.starts_with("__editable___") {
                    self.warn(&module, "it maps names in a way that is not known");
                }
                self.found.conditions.push(module);
                return true;
            }
            let others = ["", ".pyc"].into_iter().chain(self.answer.extension_suffixes.iter().map(String::as_str));
            if others.into_iter().any(|ending| place.join(format!("{top}{ending}")).exists()) {
                return true;
            }
        }
        self.warn(file, &format!("it imports {top:?}, which is nowhere"));
        false
    }

    fn warn(&mut self, file: &Path, what: &str) {
        self.found.warnings.push(format!("{}: {what}", file.display()));
    }
}
