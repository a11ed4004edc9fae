//! Finds modules where the interpreter's import system would find them. Nothing is imported.
//!
//! The order is that of `sys.path`, and within one of its folders that of `importlib.machinery.FileFinder`: a package, an
//! extension module, a source, bytecode, and last a folder without `__init__`, which is a part of a namespace package.

pub mod listing;
#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use foldhash::HashMap;

use crate::python::interpreter::{Interpreter, Place};
use listing::{Kind, Listing, Listings};

/// Takes `.` and `..` out of a path by its text alone, as Python does with the folders that it is to search.
pub fn normalised(path: &Path) -> PathBuf {
    let mut out = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => drop(out.pop()),
            Component::CurDir => {}
            other => out.push(other),
        }
    }
    out
}

/// What a module's file is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Source text.
    Source,
    /// Compiled by Python, without its source.
    Bytecode,
    /// Compiled from another language.
    Extension,
}

/// A module with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its file, that is of a package its `__init__`. It may lie in an archive.
    pub file: PathBuf,
    /// What that is.
    pub form: Form,
    /// The folders in which its submodules are looked for; none for what is no package.
    pub folders: Vec<PathBuf>,
    /// The folder of the search path that it was found by.
    pub base: PathBuf,
    /// Whether no folder of the interpreter's own search path has it: it was found because it lies in the project.
    pub is_assumed: bool,
}

/// What a name leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Found {
    /// A local module.
    Module(Rc<Module>),
    /// A namespace package: it has no file. Its folders, each with the folder of the search path that it was found by.
    Namespace(Vec<(PathBuf, PathBuf)>),
    /// Part of the standard library, or an installed package.
    Installed,
    /// Nothing.
    Missing,
}

/// A folder of the search path.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Searched {
    folder: PathBuf,
    place: Option<Place>,
}

enum Hit {
    /// A module, and whether its file belongs to the standard library or to what is installed.
    Module(Module, bool),
    Portion(PathBuf),
}

/// A folder that was looked into.
#[derive(Debug, Clone)]
struct Seen {
    /// The names in it; `None` where there is no such folder.
    listing: Option<Rc<Listing>>,
    /// Whether it belongs to the standard library or to what is installed.
    is_installed: bool,
}

/// Finds modules by their dotted names.
pub struct Finder<'i> {
    interpreter: &'i Interpreter,
    root: PathBuf,
    search: Vec<Searched>,
    /// Folders that the interpreter does not search, in which modules are looked for that are nowhere else.
    fallback: Vec<PathBuf>,
    listings: Rc<RefCell<Listings>>,
    seen: RefCell<HashMap<PathBuf, Seen>>,
    found: HashMap<String, Found>,
    /// Whether folders have been added since something was missing.
    is_changed: bool,
}

impl<'i> Finder<'i> {
    /// Searches the folders of `first`, then the interpreter's own, then those of `fallback`.
    pub fn new(interpreter: &'i Interpreter, root: &Path, first: &[PathBuf], fallback: Vec<PathBuf>) -> Self {
        let mut finder = Self {
            interpreter,
            root: root.to_owned(),
            search: Vec::new(),
            fallback,
            listings: Rc::default(),
            seen: RefCell::default(),
            found: HashMap::default(),
            is_changed: false,
        };
        for folder in first.iter().chain(&interpreter.search_path) {
            if finder.search.iter().all(|known| known.folder != *folder) {
                let place = finder.place_of(folder);
                finder.search.push(place);
            }
        }
        finder
    }

    /// Finds what is found before the program starts, which has other folders first.
    pub fn before_start(&self, first: &[PathBuf]) -> Self {
        let finder = Self::new(self.interpreter, &self.root, first, Vec::new());
        Self { listings: Rc::clone(&self.listings), ..finder }
    }

    /// Finds what a program finds that this one starts: its own folder is searched first.
    pub fn of_started(&self, folder: &Path) -> Self {
        let mut finder = Self {
            interpreter: self.interpreter,
            root: self.root.clone(),
            search: self.search.clone(),
            fallback: self.fallback.clone(),
            listings: Rc::clone(&self.listings),
            seen: RefCell::default(),
            found: HashMap::default(),
            is_changed: false,
        };
        finder.search.retain(|known| known.folder != folder);
        finder.search.insert(0, finder.place_of(folder));
        finder
    }

    fn place_of(&self, folder: &Path) -> Searched {
        let is_installed = |name: &str| folder.file_name().is_some_and(|last| last == name);
        let place = match self.interpreter.is_installed(folder, Some(&self.root)) {
            // Another interpreter's packages are installed all the same.
            None if is_installed("site-packages") || is_installed("dist-packages") => Some(Place::SitePackages),
            place => place,
        };
        Searched { folder: folder.to_owned(), place }
    }

    /// Adds a folder to the search path, as a program does by `sys.path.insert` or `append`.
    pub fn add_folder(&mut self, folder: &Path, is_first: bool) {
        if self.search.iter().any(|known| known.folder == folder) {
            return;
        }
        let place = self.place_of(folder);
        self.search.insert(if is_first { 0 } else { self.search.len() }, place);
        self.is_changed = true;
    }

    /// Takes a folder off the search path. What is found nowhere else is still found there: modules that were imported
    /// before import more.
    pub fn remove_folder(&mut self, folder: &Path) {
        if let Some(at) = self.search.iter().position(|known| known.folder == folder) {
            let place = self.search.remove(at);
            self.search.push(place);
        }
    }

    /// The version of Python that is searched for.
    pub fn version(&self) -> (u8, u8, u8) {
        self.interpreter.version
    }

    /// Adds a folder in which a package's submodules are looked for, as a package does by `__path__.append`.
    pub fn add_to_package(&mut self, package: &str, folder: &Path) {
        if let Some(Found::Module(module)) = self.found.get_mut(package)
            && !module.folders.iter().any(|known| known == folder)
        {
            Rc::make_mut(module).folders.push(folder.to_owned());
            self.is_changed = true;
        }
    }

    /// Adds every folder of a package's name on the search path, as `pkgutil.extend_path` does.
    pub fn add_every_portion(&mut self, package: &str) {
        let Some(Found::Module(module)) = self.found.get(package).cloned() else { return };
        let parents: Vec<PathBuf> = match package.rsplit_once('.') {
            None => self.search.iter().map(|place| place.folder.clone()).collect(),
            Some((parent, _)) => self.folders_of(parent),
        };
        let last = package.rsplit('.').next().unwrap_or(package);
        for folder in parents.into_iter().map(|parent| parent.join(last)) {
            if !module.folders.contains(&folder) && self.listings.borrow_mut().of(&folder).is_some() {
                self.add_to_package(package, &folder);
            }
        }
    }

    /// Whether a top-level name is one of the standard library.
    pub fn is_standard(&self, name: &str) -> bool {
        let top = name.split('.').next().unwrap_or(name);
        let names = [&self.interpreter.standard_names, &self.interpreter.built_in, &self.interpreter.loaded_at_start];
        names.iter().any(|names| names.contains(top))
    }

    /// Forgets what was missing or only assumed, if there is more to search than there was then. Whether that is so.
    pub fn look_again(&mut self) -> bool {
        if std::mem::take(&mut self.is_changed) {
            let is_sure = |found: &Found| match found {
                Found::Module(module) => !module.is_assumed,
                found => *found != Found::Missing,
            };
            self.found.retain(|_, found| is_sure(found));
            return true;
        }
        false
    }

    /// Makes a folder known as a package of that name: for programs that are run by path and import relatively.
    pub fn assume_package(&mut self, name: &str, folder: &Path) {
        let portion = (folder.to_owned(), folder.parent().unwrap_or(folder).to_owned());
        self.found.entry(name.to_owned()).or_insert_with(|| Found::Namespace(vec![portion]));
    }

    /// What a dotted name leads to.
    pub fn find(&mut self, name: &str) -> Found {
        if let Some(known) = self.found.get(name) {
            return known.clone();
        }
        let found = match name.rsplit_once('.') {
            None => self.find_top(name),
            Some((parent, last)) => match self.find(parent) {
                Found::Module(package) if package.folders.is_empty() => Found::Missing,
                Found::Module(package) => {
                    let folders = package.folders.iter().map(|folder| (folder.as_path(), package.base.as_path()));
                    self.find_below(last, folders, package.is_assumed)
                }
                Found::Namespace(folders) => {
                    let folders = folders.iter().map(|(folder, base)| (folder.as_path(), base.as_path()));
                    self.find_below(last, folders, false)
                }
                other => other,
            },
        };
        self.found.insert(name.to_owned(), found.clone());
        found
    }

    /// Whether a dotted name leads to something that has submodules.
    pub fn is_package(&mut self, name: &str) -> bool {
        if !self.found.contains_key(name) {
            self.find(name);
        }
        match self.found.get(name) {
            Some(Found::Module(module)) => !module.folders.is_empty(),
            found => matches!(found, Some(Found::Namespace(_))),
        }
    }

    /// The modules and packages directly in a package, by name.
    pub fn submodules(&mut self, package: &str) -> Vec<String> {
        let folders: Vec<PathBuf> = match self.find(package) {
            Found::Module(module) => module.folders.clone(),
            Found::Namespace(folders) => folders.into_iter().map(|(folder, _)| folder).collect(),
            _ => Vec::new(),
        };
        let mut names = Vec::new();
        for folder in folders {
            let Some(listing) = self.listings.borrow_mut().of(&folder) else { continue };
            for (name, kind) in listing.names() {
                let module = match kind {
                    Kind::File => self.suffixes().find_map(|(suffix, _)| name.strip_suffix(suffix)).map(str::to_owned),
                    Kind::Folder => Some(name.to_owned()).filter(|name| {
                        self.listings
                            .borrow_mut()
                            .of(&folder.join(name))
                            .is_some_and(|inner| inner.has_file("__init__.py"))
                    }),
                };
                names.extend(module.filter(|name| name != "__init__" && name != "__main__" && !name.contains('.')));
            }
        }
        names.sort();
        names.dedup();
        names
    }

    /// The folders of a package, or the one that a plain module is in.
    pub fn folders_of(&mut self, name: &str) -> Vec<PathBuf> {
        match self.find(name) {
            Found::Module(module) if module.folders.is_empty() => {
                module.file.parent().map(Path::to_owned).into_iter().collect()
            }
            Found::Module(module) => module.folders.clone(),
            Found::Namespace(folders) => folders.into_iter().map(|(folder, _)| folder).collect(),
            _ => Vec::new(),
        }
    }

    /// The `entry_points.txt` of what is installed on the search path, the first first.
    pub fn entry_points(&mut self) -> Vec<PathBuf> {
        let mut out = Vec::new();
        let folders = self.search.iter().filter(|searched| searched.place != Some(Place::StandardLibrary));
        for folder in folders.map(|searched| &searched.folder) {
            let Some(listing) = self.listings.borrow_mut().of(folder) else { continue };
            let is_metadata = |name: &str| name.ends_with(".dist-info") || name.ends_with(".egg-info");
            let metadata = listing.names().filter(|(name, kind)| *kind == Kind::Folder && is_metadata(name));
            let files = metadata.map(|(name, _)| folder.join(name).join("entry_points.txt"));
            out.extend(files.filter(|file| self.listings.borrow_mut().has_file(file)));
        }
        out
    }

    /// Whether a file is there, in a folder or an archive.
    pub fn has_file(&mut self, path: &Path) -> bool {
        self.listings.borrow_mut().has_file(path)
    }

    /// Whether a path belongs to the standard library or to what is installed.
    pub fn is_installed(&self, path: &Path) -> bool {
        self.interpreter.is_installed(path, Some(&self.root)).is_some()
    }

    fn find_top(&self, name: &str) -> Found {
        if self.interpreter.built_in.contains(name) || self.interpreter.loaded_at_start.contains(name) {
            return Found::Installed;
        }
        self.find_on_path(name)
    }

    /// What a top-level name leads to, if nothing of that name is there before a program starts.
    pub fn find_on_path(&self, name: &str) -> Found {
        let is_standard = self.interpreter.standard_names.contains(name);
        let mut portions = Vec::new();
        let is_first = self.interpreter.editable_first.contains(name);
        if is_first && let Some(module) = self.find_editable(name, &mut portions) {
            return Found::Module(Rc::new(module));
        }
        for Searched { folder, place } in &self.search {
            if *place == Some(Place::StandardLibrary) {
                // Its folders need not be listed: what is in it is known.
                if is_standard {
                    return Found::Installed;
                }
                continue;
            }
            if place.is_some() && self.has_package(folder, name) {
                return Found::Installed;
            }
            match self.hit(folder, name, folder) {
                Some(Hit::Module(module, false)) if place.is_none() => return Found::Module(Rc::new(module)),
                Some(Hit::Module(..)) => return Found::Installed,
                Some(Hit::Portion(portion)) => portions.push((portion, folder.clone())),
                None => {}
            }
        }
        if !is_first && let Some(module) = self.find_editable(name, &mut portions) {
            return Found::Module(Rc::new(module));
        }
        portions.retain(|(folder, _)| !self.is_installed(folder));
        if is_standard {
            return Found::Installed;
        }
        for folder in &self.fallback {
            match self.hit(folder, name, folder) {
                Some(Hit::Module(module, _)) if portions.is_empty() => {
                    return Found::Module(Rc::new(Module { is_assumed: true, ..module }));
                }
                Some(Hit::Portion(portion)) if !portions.iter().any(|(known, _)| *known == portion) => {
                    portions.push((portion, folder.clone()));
                }
                _ => {}
            }
        }
        if portions.is_empty() { Found::Missing } else { Found::Namespace(portions) }
    }

    /// Asks what an editable install has put in place of a folder on the search path.
    fn find_editable(&self, name: &str, portions: &mut Vec<(PathBuf, PathBuf)>) -> Option<Module> {
        if let Some(path) = self.interpreter.editable_modules.get(name) {
            let base = path.parent().unwrap_or(path).to_owned();
            match self.hit(&base, name, &base) {
                Some(Hit::Module(module, _)) => return Some(module),
                Some(Hit::Portion(portion)) => portions.push((portion, base)),
                None => {}
            }
        }
        let namespace = self.interpreter.editable_namespaces.get(name).into_iter().flatten();
        portions.extend(namespace.map(|folder| (folder.clone(), folder.parent().unwrap_or(folder).to_owned())));
        None
    }

    fn find_below<'f>(
        &self,
        name: &str,
        folders: impl Iterator<Item = (&'f Path, &'f Path)>,
        is_assumed: bool,
    ) -> Found {
        let mut portions = Vec::new();
        for (folder, base) in folders {
            match self.hit(folder, name, base) {
                Some(Hit::Module(_, true)) => return Found::Installed,
                Some(Hit::Module(module, false)) => return Found::Module(Rc::new(Module { is_assumed, ..module })),
                Some(Hit::Portion(portion)) => portions.push((portion, base.to_owned())),
                None => {}
            }
        }
        if portions.is_empty() { Found::Missing } else { Found::Namespace(portions) }
    }

    /// The endings of modules' files in the order in which they are tried.
    fn suffixes(&self) -> impl Iterator<Item = (&'i str, Form)> + use<'i> {
        let extensions = self.interpreter.extension_suffixes.iter().map(|suffix| (suffix.as_str(), Form::Extension));
        extensions.chain([(".py", Form::Source), (".pyc", Form::Bytecode)])
    }

    fn look_into(&self, folder: &Path) -> Seen {
        if let Some(known) = self.seen.borrow().get(folder) {
            return known.clone();
        }
        let listing = self.listings.borrow_mut().of(folder);
        let seen = Seen { listing, is_installed: self.is_installed(folder) };
        self.seen.borrow_mut().insert(folder.to_owned(), seen.clone());
        seen
    }

    /// Whether a package of that name lies in a folder of installed ones, as nearly all do. It takes one look, where to
    /// list the folders of all packages that are imported takes long.
    fn has_package(&self, folder: &Path, name: &str) -> bool {
        let listing = self.look_into(folder).listing;
        listing.is_some_and(|listing| listing.kind(name) == Some(Kind::Folder))
            && folder.join(name).join("__init__.py").is_file()
    }

    fn hit(&self, folder: &Path, name: &str, base: &Path) -> Option<Hit> {
        let Seen { listing, is_installed } = self.look_into(folder);
        let listing = listing?;
        let module = |file: PathBuf, form: Form, folders: Vec<PathBuf>, is_installed: bool| {
            let module = Module { file, form, folders, base: base.to_owned(), is_assumed: false };
            Some(Hit::Module(module, is_installed))
        };
        let is_folder = listing.kind(name) == Some(Kind::Folder);
        if is_folder {
            let package = folder.join(name);
            let inner = self.look_into(&package);
            if let Some((file, form)) = inner.listing.and_then(|listing| self.file_of(&package, &listing, "__init__")) {
                return module(file, form, vec![package], inner.is_installed);
            }
        }
        if let Some((file, form)) = self.file_of(folder, &listing, name) {
            return module(file, form, Vec::new(), is_installed);
        }
        is_folder.then(|| Hit::Portion(folder.join(name)))
    }

    fn file_of(&self, folder: &Path, listing: &Listing, name: &str) -> Option<(PathBuf, Form)> {
        // Most of what is looked for is not there.
        let files = listing.endings(name).filter(|(_, kind)| *kind == Kind::File).map(|(ending, _)| ending);
        files.clone().next()?;
        let (suffix, form) = self.suffixes().find(|(suffix, _)| files.clone().any(|file| file == suffix.as_bytes()))?;
        Some((folder.join(format!("{name}{suffix}")), form))
    }
}
