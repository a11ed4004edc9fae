//! What one Python source says of the files that a run of it needs: imports, files it names, edits of the search path.
//!
//! Bytes in, values out: nothing here opens a file, and nothing is executed. What a name leads to on disk is decided by
//! who asks. Each kind of statement that matters has its file: `walk` goes over the syntax tree and asks them.

mod attributes;
mod calls;
mod commands;
mod computed;
mod conditions;
mod constants;
mod decode;
mod dynamic;
mod encodings;
mod escapes;
mod evaluate;
mod exports;
mod files;
mod format;
mod given;
mod importers;
mod inner_code;
mod lines;
mod listings;
mod literals;
mod naming;
mod nesting;
mod patterns;
mod place;
mod readers;
mod resources;
mod scopes;
mod search_path;
mod several;
mod shell;
mod text_forms;
mod walk;

use ruff_python_parser::{Mode, ParseOptions, parse_unchecked};

pub use constants::MARK;
pub use lines::Lines;
pub(super) use nesting::Depth;
pub(super) use walk::Walker;

/// Counts up when a scan of the same source says something else than before: what is kept of it then counts no more.
pub const SCANNER_VERSION: u32 = 3;

/// What a source says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Scan {
    /// What it imports, in the order of the source.
    pub imports: Vec<Import>,
    /// The files that it names by a path which is known without running it.
    pub files: Vec<NamedFile>,
    /// The files that it lists.
    pub listings: Vec<Listed>,
    /// Its edits of the search path, in the order in which they are made one by one.
    pub search_path: Vec<SearchPathEdit>,
    /// The files that it writes, by paths that are known without running it.
    pub written: Vec<PathExpression>,
    /// What names at the top of the module stand for, where that is a path or may be a part of one.
    pub constants: Vec<(String, PathExpression)>,
    /// The first line that loads a module or a file with code by a name that is not known without running it.
    pub loads_unknown: Option<u32>,
    /// Its functions and classes that import what they are given, by their names in the module: `load`, `Lazy`, `Registry.get`.
    pub importers: Vec<String>,
    /// The literal `__all__`; `None` where there is none, or none that is known without running it.
    pub exports: Option<Vec<String>>,
    /// The first thing that is wrong with it. What could be read is in the other fields all the same.
    pub problem: Option<Problem>,
}

/// One import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Import {
    /// The line it stands in, from 1.
    pub line: u32,
    /// The dotted name, normalised as Python does; empty for `from . import x`.
    pub module: String,
    /// How many dots stand before it: 0 is absolute, 1 the own package.
    pub level: u32,
    /// `None` for `import a.b`; what `from a.b import ...` names otherwise, each of which may be a submodule.
    pub names: Option<Vec<String>>,
    /// How it is said.
    pub how: How,
    /// When it is done.
    pub when: When,
}

/// How an import is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum How {
    /// By an import statement.
    Statement,
    /// By a call with a literal name. What is run as `python -m x` also names `__main__`, which a package runs.
    Call,
    /// By a computed name that begins with `module`: any submodule of that may be meant.
    Prefix,
    /// By a walk over a package: all submodules of `module` are meant.
    AllSubmodules,
    /// The same, with the submodules of these.
    AllBelow,
    /// By the entry points of installed metadata: all modules that they name in the group `module`; where that is empty, in
    /// any group but those of commands.
    EntryPoints,
    /// By the text `module` that is given to a function or class, `names`: a name in dots by the imports of the source, behind
    /// a colon one of its own. It counts if that is one of [`Scan::importers`].
    Given,
    /// By a string that whoever gets it may import, if it leads to a module: `module` may go on with names in that.
    Literal,
}

/// When something is done, from the weakest restriction to the strongest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum When {
    /// Whenever the source is imported or run.
    Always,
    /// When a test at run time says so.
    Conditional,
    /// When the source is the main program.
    MainOnly,
    /// When a function is called.
    Lazy,
    /// By type checkers alone.
    TypeOnly,
    /// On other versions or platforms.
    Never,
}

/// A file that is named.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct NamedFile {
    /// The line it stands in, from 1.
    pub line: u32,
    /// Where it is.
    pub path: PathExpression,
    /// What it is used as.
    pub usage: FileUse,
    /// When it is used.
    pub when: When,
}

/// Files that are listed, by a folder or a pattern.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// The line it stands in, from 1.
    pub line: u32,
    /// Their paths, with `*`, `?` and `[...]` in the parts that stand for several, and `**` for any number of folders.
    pub path: PathExpression,
    /// What is done with them.
    pub usage: ListedUse,
    /// When it is done.
    pub when: When,
}

/// What is done with files that are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ListedUse {
    /// They are read, as far as is known.
    Data,
    /// One or more of them are read, by a name that is not known.
    OneOf,
    /// The source loads modules by names that are not known: those among the files may be meant.
    Modules,
    /// The same, but for names that begin with an underscore, which the source asks for.
    PublicModules,
}

/// What a named file is used as.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum FileUse {
    /// It is read, or named in a way that lets expect so.
    Data,
    /// It is executed as Python, by the process that names it.
    Code,
    /// It is run as a program: its own folder is searched first.
    Process,
    /// It is loaded as a native library.
    Library,
    /// It belongs to a package; the path begins at [`Base::Package`].
    Resource(Package),
}

/// A package as an import names it: `level` dots, then `module`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Package {
    /// 0 is absolute, 1 the own package.
    pub level: u32,
    /// The dotted name; empty for the own package itself.
    pub module: String,
}

/// An edit of a search path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SearchPathEdit {
    /// The line it stands in, from 1.
    pub line: u32,
    /// The folder that is added.
    pub path: PathExpression,
    /// Which search path.
    pub target: SearchPath,
    /// Whether it goes before what is there (an insertion at 0 or 1: the script's own folder is the only thing that may
    /// still come first), or behind.
    pub first: bool,
    /// When it is made.
    pub when: When,
}

/// What is searched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SearchPath {
    /// `sys.path`.
    Global,
    /// `sys.path`, to which `site.addsitedir` adds what the folder's `.pth` files name as well.
    Site,
    /// `sys.path`, which the folder is taken off.
    Removed,
    /// What relative paths begin at: the folder that the process goes to.
    Working,
    /// The own package's `__path__`.
    OwnPackage,
    /// The own package's `__path__`, by `pkgutil.extend_path` and its like: every folder of the package's name on the
    /// search path belongs to it. The edit's path is the source's own folder.
    EveryPortion,
}

/// A path as far as it is known without running anything.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PathExpression {
    /// Where it begins.
    pub base: Base,
    /// What follows, with `/` between the parts and neither `.` nor empty ones; `..` only at the beginning. With
    /// [`Base::Absolute`] it is the whole path. Values of other modules stand in it by their names, between two [`MARK`]s.
    pub rest: String,
}

/// Where a path begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Base {
    /// At the working folder of the process.
    Working,
    /// At the root.
    Absolute,
    /// So many folders above the source: 0 is the source itself, 1 its folder.
    Source(u32),
    /// So many folders above the main program's source.
    Main(u32),
    /// At the folder of the package that [`FileUse::Resource`] names.
    Package,
}

/// What is wrong with a source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The line, from 1.
    pub line: u32,
    /// What it is, without a final period.
    pub message: String,
}

/// The Python that decides tests of version and platform.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Major and minor.
    pub version: (u8, u8),
    /// `sys.platform`.
    pub platform: String,
    /// `os.name`.
    pub os_name: String,
}

/// Reads a source. Takes any bytes, in time and memory that their length bounds.
pub fn scan(bytes: &[u8], target: &Target) -> Scan {
    let (text, problem) = decode::decode(bytes);
    let mut scan = scan_text(&text, target, 0);
    scan.problem = problem.or(scan.problem);
    scan
}

/// Reads a text that stands within so many others.
fn scan_text(text: &str, target: &Target, within: u8) -> Scan {
    let lines = Lines::new(text);
    let depth = match Depth::of(text, Mode::Module) {
        Ok(depth) => depth,
        Err(refused) => return Scan { problem: Some(refused), ..Scan::default() },
    };
    depth.with_stack(|| {
        let parsed = parse_unchecked(text, ParseOptions::from(Mode::Module));
        let found = parsed
            .errors()
            .first()
            .map(|error| Problem { line: lines.of(error.location.start()), message: error.error.to_string() });
        let Some(module) = parsed.syntax().as_module() else { return Scan::default() };
        let mut scan = Walker::new(&lines, target, &module.body).within(within).walk(&module.body);
        scan.problem = found;
        scan
    })
}

#[cfg(test)]
mod tests;
