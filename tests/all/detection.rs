//! What detection finds in the projects of `tests/projects`, against what Python really loads.
//!
//! Python lays the projects out, since it makes their archives, their bytecode and their venvs:
//! `tests/projects/README.md` describes them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use rayon::prelude::*;
use serde::Deserialize;
use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Finished, RUNSNAP};

/// The share of projects in which every file is found: the goal.
/// `docs/detection.md` lists what is missed.
const COMPLETE_PERCENT: usize = 95;
/// The share of files that are captured although they are not loaded.
const EXTRA_PERCENT: usize = 5;
/// What is traced again whenever the tests run; all projects, where this variable is set.
const TRACE_ALL: &str = "RUNSNAP_TRACE_ALL";
const TRACED: [&str; 8] = [
    "bytecode_package",
    "data_written",
    "editable_finder",
    "flat_script",
    "link_chain_outside",
    "multiprocessing_spawn",
    "notebook_run",
    "star_import_all",
];

/// A project of the table.
#[derive(Debug, Deserialize)]
struct Case {
    name: String,
    /// Why this Python cannot run it.
    skipped: Option<String>,
    laid_out: Option<LaidOut>,
    loaded: Option<BTreeSet<String>>,
    /// What a strategy.yaml lists.
    tracked: Option<BTreeSet<String>>,
    prints: Option<String>,
    missed: BTreeMap<String, String>,
    extra: BTreeMap<String, String>,
}

/// Where a project lies, and how it is run.
#[derive(Debug, Clone, Deserialize)]
struct LaidOut {
    base: PathBuf,
    root: PathBuf,
    /// The working folder.
    folder: PathBuf,
    run: Vec<String>,
    /// What the program is given.
    arguments: Vec<String>,
    /// Python's arguments; those of a notebook run its cells.
    command: Vec<String>,
    /// The folder in which `command` is run.
    start: PathBuf,
    environment: BTreeMap<String, String>,
    /// A Python in a venv: the project's own, or one that has nothing installed.
    python: PathBuf,
    /// The project's own venv.
    venv: Option<PathBuf>,
}

/// All projects that this Python can run, laid out.
struct Table {
    _folder: TempDir,
    cases: Vec<(Case, LaidOut)>,
}

/// What detection missed and what it had too much of, in one project.
#[derive(Debug, Default)]
struct Compared {
    files: usize,
    missing: BTreeSet<String>,
    extra: BTreeSet<String>,
    problems: Vec<String>,
}

fn python() -> Command {
    let mut command = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()));
    command.env("PYTHONDONTWRITEBYTECODE", "1").stdin(Stdio::null());
    command
}

fn projects() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/projects")
}

fn project_files() -> Vec<PathBuf> {
    let entries = fs::read_dir(projects()).expect("the table is there").map(|entry| entry.expect("readable").path());
    let mut files: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|name| name == "project")).collect();
    files.sort();
    files
}

impl Table {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let output = python()
            .arg(projects().join("trace.py"))
            .arg("--lay-out-all")
            .arg(folder.path())
            .args(project_files())
            .output()
            .expect("python3 is there");
        let all: Vec<Case> = serde_json::from_value(Finished::from(output).expect(0).json()).expect("cases");
        let mut cases = Vec::new();
        for case in all {
            match (&case.laid_out, &case.skipped) {
                (Some(laid_out), None) => {
                    let laid_out = laid_out.clone();
                    // The root is where the project begins, whatever the entry point's folder is.
                    fs::create_dir(laid_out.root.join(".git")).expect("made");
                    cases.push((case, laid_out));
                }
                (_, why) => println!("skipped {}: {}", case.name, why.as_deref().unwrap_or("not laid out")),
            }
        }
        assert!(cases.len() >= 70, "{} projects", cases.len());
        Self { _folder: folder, cases }
    }
}

impl Case {
    fn loaded(&self) -> &BTreeSet<String> {
        self.loaded.as_ref().unwrap_or_else(|| panic!("{}: trace.py --write has not been run", self.name))
    }

    /// What detection should find, but for what it is known to miss.
    fn expected(&self) -> &BTreeSet<String> {
        self.tracked.as_ref().unwrap_or_else(|| self.loaded())
    }

    fn compare(&self, laid_out: &LaidOut, detected: &Value) -> Compared {
        let found = found(laid_out, detected);
        let mut compared = Compared {
            files: found.len(),
            missing: self.expected().difference(&found).cloned().collect(),
            extra: found.difference(self.expected()).cloned().collect(),
            problems: Vec::new(),
        };
        let known: BTreeSet<String> = self.missed.keys().cloned().collect();
        compared.problems.extend(compared.missing.difference(&known).map(|path| format!("missing: {path}")));
        compared.problems.extend(known.difference(&compared.missing).map(|path| format!("no longer missed: {path}")));
        let known: BTreeSet<String> = self.extra.keys().cloned().collect();
        compared.problems.extend(compared.extra.difference(&known).map(|path| format!("too much: {path}")));
        compared.problems.extend(known.difference(&compared.extra).map(|path| format!("no longer extra: {path}")));
        compared
    }
}

impl LaidOut {
    fn bin(&self) -> PathBuf {
        self.python.parent().expect("it has a folder").to_owned()
    }

    /// A command as a user types it in the project: the venv activated, the variables set.
    fn command(&self, program: impl AsRef<std::ffi::OsStr>, folder: &Path) -> Command {
        let mut command = Command::new(program);
        let path = std::env::join_paths([self.bin(), "/usr/bin".into(), "/bin".into()]).expect("no colon in it");
        command.current_dir(folder).stdin(Stdio::null()).env("PATH", path).env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("XDG_CACHE_HOME", self.base.with_extension("caches"));
        for name in ["RUNSNAP_STORE", "VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME", "NO_COLOR"] {
            command.env_remove(name);
        }
        command.envs(&self.environment);
        command
    }

    fn runsnap(&self, arguments: &[&str]) -> Finished {
        let command = &mut self.command(RUNSNAP, &self.folder);
        command.args(arguments).args(&self.run);
        if !self.arguments.is_empty() {
            command.arg("--").args(&self.arguments);
        }
        command.output().expect("it starts").into()
    }

    fn run_python(&self) -> Output {
        self.command(&self.python, &self.start).args(&self.command).output().expect("it starts")
    }

    /// A path as the table writes it, which is relative to the root and free of dots and links.
    fn relative(&self, path: &Path) -> String {
        let text = |path: &Path| path.to_str().expect("text").to_owned();
        match path.strip_prefix(&self.root) {
            Ok(inside) => text(inside),
            Err(_) => format!("../{}", text(path.strip_prefix(&self.base).unwrap_or(path))),
        }
    }
}

/// The files that detection gave, as the table writes them.
fn found(laid_out: &LaidOut, detected: &Value) -> BTreeSet<String> {
    let root = Path::new(detected["root"].as_str().expect("a root"));
    let mut out = BTreeSet::new();
    // What is too long to be tracked is found all the same, and recorded by its hash.
    let lists = ["files", "data"].map(|list| detected[list].as_array().expect("a list"));
    for file in lists.into_iter().flatten() {
        let path = match file["real_path"].as_str() {
            Some(real) => PathBuf::from(real),
            None => root.join(file["path"].as_str().expect("text")),
        };
        out.extend(on_the_way(&path).iter().map(|path| laid_out.relative(path)));
    }
    out
}

/// What has to be there for a path to open: the links that it leads over, and the file itself.
fn on_the_way(path: &Path) -> Vec<PathBuf> {
    let parts = |path: &Path| path.iter().rev().map(PathBuf::from).collect::<Vec<_>>();
    let (mut links, mut done, mut waiting) = (Vec::new(), PathBuf::from("/"), parts(path));
    while let Some(part) = waiting.pop() {
        if part == Path::new("..") {
            done.pop();
            continue;
        }
        let here = done.join(&part);
        match fs::read_link(&here) {
            Ok(target) if links.len() < 40 => {
                waiting.extend(parts(&target));
                links.push(here);
            }
            _ => done = here,
        }
    }
    // A link to a folder may be named itself.
    if links.is_empty() || !done.is_dir() {
        links.push(done);
    }
    links
}

#[test]
fn detection_finds_what_python_loads() {
    let table = Table::new();
    let compared: Vec<Compared> = table
        .cases
        .par_iter()
        .map(|(case, laid_out)| {
            let finished = laid_out.runsnap(&["detect", "--json"]);
            match finished.status {
                Some(0 | 3) => case.compare(laid_out, &finished.json()),
                status => Compared {
                    missing: case.expected().clone(),
                    problems: vec![format!("status {status:?}: {}", finished.stderr)],
                    ..Compared::default()
                },
            }
        })
        .collect();

    let (mut complete, mut files, mut extra, mut wrong) = (0, 0, 0, String::new());
    for ((case, _), compared) in table.cases.iter().zip(&compared) {
        complete += usize::from(compared.missing.is_empty());
        files += compared.files;
        extra += compared.extra.len();
        if !compared.missing.is_empty() || !compared.extra.is_empty() {
            println!("{}: missing {:?}, extra {:?}", case.name, compared.missing, compared.extra);
        }
        if !compared.problems.is_empty() {
            writeln!(wrong, "{}:\n  {}", case.name, compared.problems.join("\n  ")).expect("a string");
        }
    }
    let projects = table.cases.len();
    let totals = format!("{complete} of {projects} projects complete, {extra} of {files} files not needed");
    println!("{totals}");
    assert!(wrong.is_empty(), "not as the table says:\n{wrong}{totals}");
    assert!(complete * 100 >= projects * COMPLETE_PERCENT, "{totals}");
    assert!(extra * 100 <= files * EXTRA_PERCENT, "{totals}");
}

#[test]
fn what_is_restored_runs_as_the_original_did() {
    let table = Table::new();
    // What is missed is not restored, and a list of the user's own says what is.
    let runs = |case: &Case| case.missed.is_empty() && case.tracked.is_none();
    for (case, _) in table.cases.iter().filter(|(case, _)| !runs(case)) {
        println!("not restored: {}", case.name);
    }
    let wrong: Vec<String> = table
        .cases
        .par_iter()
        .filter(|(case, _)| runs(case))
        .filter_map(|(case, laid_out)| restored_differs(case, laid_out).map(|why| format!("{}: {why}", case.name)))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Captures a project, puts what is restored into its place and runs that; says what is wrong. Files outside of the project go
/// back to where `show` tells that they were; data that is over the limit, of which the hash is kept, the user has.
fn restored_differs(case: &Case, laid_out: &LaidOut) -> Option<String> {
    let failed = |what: &str, finished: &Finished| Some(format!("{what}: {:?} {}", finished.status, finished.stderr));
    let store = laid_out.base.with_extension("store");
    let store = store.to_str().expect("text");
    laid_out.command(RUNSNAP, &laid_out.folder).args(["init", "--store", store]).output().expect("it starts");
    let captured = laid_out.runsnap(&["capture", "--store", store, "--run", "original", "--quiet"]);
    if !matches!(captured.status, Some(0 | 3)) {
        return failed("capture", &captured);
    }
    let shown =
        laid_out.command(RUNSNAP, &laid_out.folder).args(["show", "original", "--json", "--store", store]).output();
    let shown: Value = Finished::from(shown.expect("it starts")).json();
    let root = Path::new(shown["project"]["root"].as_str().expect("a root"));
    // The original goes away, and the copy comes to its place: what names a place by its absolute path, such as an
    // editable install, finds the copy, and nothing that was not captured can help out.
    let away = laid_out.base.with_extension("original");
    fs::rename(&laid_out.base, &away).expect("moved");
    fs::create_dir(&laid_out.base).expect("made");
    let before = |path: &Path| away.join(path.strip_prefix(&laid_out.base).expect("below"));
    fs::create_dir_all(root.parent().expect("it has one")).expect("made");
    let mut command = laid_out.command(RUNSNAP, &away);
    let restored: Finished = command
        .args(["restore", "original", "--store", store, "--quiet", "--output"])
        .arg(root)
        .output()
        .expect("it starts")
        .into();
    if restored.status != Some(0) {
        return failed("restore", &restored);
    }
    for (label, real) in shown["outside"].as_object().into_iter().flatten() {
        let outside = root.join(".runsnap-outside").join(label);
        move_into(&outside, Path::new(real.as_str().expect("text")));
    }
    for data in shown["data"].as_array().into_iter().flatten() {
        let path = root.join(data["path"].as_str().expect("text"));
        fs::create_dir_all(path.parent().expect("it has one")).expect("made");
        fs::copy(before(&path), &path).expect("copied");
    }
    if let Some(venv) = &laid_out.venv {
        // Installed packages are not captured.
        fs::create_dir_all(venv.parent().expect("it has one")).expect("made");
        fs::rename(before(venv), venv).expect("moved");
    }
    fs::create_dir_all(&laid_out.start).expect("made");
    let ran: Finished = laid_out.run_python().into();
    if ran.status != Some(0) {
        return failed("run", &ran);
    }
    let prints = case.prints.as_deref().unwrap_or_default();
    (ran.stdout != prints).then(|| format!("prints {:?} instead of {prints:?}", ran.stdout))
}

/// Moves what is below a folder to another, beside what is there.
fn move_into(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for entry in fs::read_dir(from).expect("lists") {
        let entry = entry.expect("readable");
        let (path, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().expect("readable").is_dir() {
            move_into(&path, &target);
        } else {
            fs::rename(path, target).expect("moved");
        }
    }
}

#[test]
fn the_table_says_what_python_does() {
    let all = std::env::var_os(TRACE_ALL).is_some();
    let traced = |path: &PathBuf| all || TRACED.iter().any(|name| path.file_stem().is_some_and(|stem| stem == *name));
    let files: Vec<PathBuf> = project_files().into_iter().filter(traced).collect();
    assert!(files.len() >= TRACED.len(), "a project of the list is gone");
    traced_by("--check", &files);
}

/// What is traced cannot tell: `sys.path`, the modules, the stack and more are the same as without the tracer.
#[test]
fn tracing_cannot_be_noticed() {
    traced_by("--probe", &[]);
}

#[track_caller]
fn traced_by(how: &str, files: &[PathBuf]) {
    let output = python().arg(projects().join("trace.py")).arg(how).args(files).output().expect("python3 is there");
    let finished = Finished::from(output);
    assert_eq!(finished.status, Some(0), "{}{}", finished.stdout, finished.stderr);
    print!("{}", finished.stdout);
}
