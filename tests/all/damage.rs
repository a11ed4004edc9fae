//! A flipped bit, a truncation or a removal in each kind of file of a store: what `verify --read-data` names, and that
//! everything else comes back as it was.
//!
//! Damage is action x location. What it really costs is found out apart from verify: every run is restored from the
//! damaged store and compared with the files that were captured.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use runsnap::pack::Pack;
use runsnap::storage::LocalStorage;
use serde_json::Value;

use crate::support::{Finished, Project, Tree, tree};

/// What happens to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    /// One bit of a byte changes.
    Flip(u64),
    /// The file ends there.
    Cut(u64),
    /// The file goes away.
    Remove,
}

impl Action {
    fn apply(self, path: &Path) {
        match self {
            Self::Flip(at) => {
                let mut bytes = fs::read(path).expect("readable");
                // Another bit each time, so that no bit is always spared.
                bytes[at as usize] ^= 1 << (at % 8);
                fs::write(path, bytes).expect("written");
            }
            Self::Cut(bytes) => fs::File::options().write(true).open(path).expect("there").set_len(bytes).expect("cut"),
            Self::Remove => fs::remove_file(path).expect("removed"),
        }
    }
}

/// To nothing, to the half, by one byte, and all of it.
fn cuts_and_removal(bytes: u64) -> [Action; 4] {
    [Action::Cut(0), Action::Cut(bytes / 2), Action::Cut(bytes - 1), Action::Remove]
}

/// A store with runs of three projects, and what each run must come back as.
struct Field {
    project: Project,
    originals: BTreeMap<String, Tree>,
    copies: AtomicUsize,
}

/// Lines that look like prices and do not compress to nothing.
fn prices(lines: usize, seed: u64) -> String {
    let mut state = seed;
    let mut price = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state >> 20
    };
    (0..lines).map(|n| format!("{n},{},{}\n", price(), price())).collect()
}

impl Field {
    /// Two projects that share a module and a third with a file of several chunks; versions of each; two run folders.
    fn new() -> Self {
        let mut field = Self { project: Project::new(), originals: BTreeMap::new(), copies: AtomicUsize::new(0) };
        let store = field.project.store();
        field.project.run(["init"]).expect(0);
        let shared = "def clamp(x, low, high):\n    return max(low, min(x, high))\n".repeat(8);
        for version in 1..=4 {
            let signal = format!("WINDOW = {version}\n{}", "# a line that stays as it is\n".repeat(40));
            field.project.write("alpha/strategy.py", "from momentum import signal\nimport shared\n");
            field.project.write("alpha/momentum/signal.py", signal);
            field.project.write("alpha/shared.py", &shared);
            field.project.write("alpha/empty.py", "");
            field.capture("alpha", &format!("alpha-{version}"), &[]);
        }
        let folder = field.project.beside("results/alpha-again");
        field.capture("alpha", "alpha-again", &["--run-dir", folder.to_str().expect("UTF-8")]);
        // Another writer's journal: who finds no note begins a new one.
        fs::remove_file(store.join("writers/0000")).expect("a slot");
        for version in 1..=2 {
            field.project.write("beta/main.py", format!("import shared\nLIMIT = {version}\n"));
            field.project.write("beta/lib/shared.py", &shared);
            std::os::unix::fs::symlink("lib/shared.py", field.project.path(format!("beta/link-{version}"))).expect("link");
            field.capture("beta", &format!("beta-{version}"), &[]);
        }
        let mut table = prices(9_000, 7).into_bytes();
        for version in 1..=3usize {
            table.splice(version * 80_000..version * 80_000 + 40, *b"edited");
            field.project.write("big/prices.csv", &table);
            field.project.write("big/main.py", format!("VERSION = {version}\n"));
            let folder = field.project.beside("results/big-2");
            let options = ["--run-dir", folder.to_str().expect("UTF-8")];
            field.capture("big", &format!("big-{version}"), if version == 2 { &options } else { &[] });
        }
        assert!(!store.join("index.sqlite").exists());
        assert_eq!(field.project.store_files("runs").len(), 2);
        field
    }

    fn capture(&mut self, folder: &str, name: &str, options: &[&str]) {
        self.project.run([&["capture", "--tree", folder, "--run", name, "--quiet"], options].concat()).expect(0);
        self.originals.insert(name.to_owned(), tree(&self.project.path(folder)));
    }

    /// The paths of a store's files, relative to it.
    fn files(&self, folder: &str) -> Vec<String> {
        let name = |path: &PathBuf| format!("{folder}/{}", path.file_name().expect("a name").to_str().expect("UTF-8"));
        self.project.store_files(folder).iter().map(name).collect()
    }

    fn bytes(&self, path: &str) -> u64 {
        fs::metadata(self.project.store().join(path)).expect("there").len()
    }

    fn pack(&self, path: &str) -> Pack {
        Pack::open(&LocalStorage::new(self.project.store()), path).expect("a whole pack")
    }

    /// A copy of the store with one file damaged.
    fn damaged(&self, path: &str, action: Action) -> Damaged<'_> {
        let number = self.copies.fetch_add(1, Ordering::Relaxed);
        let store = self.project.beside(&format!("copy-{number}"));
        copy(&self.project.store(), &store);
        action.apply(&store.join(path));
        Damaged { field: self, store, what: format!("{action:?} of {path}") }
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).expect("new");
    for entry in fs::read_dir(from).expect("readable") {
        let entry = entry.expect("readable");
        if entry.file_type().expect("known").is_dir() {
            copy(&entry.path(), &to.join(entry.file_name()));
        } else {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("copied");
        }
    }
}

/// A damaged copy of a field's store. Removed when dropped, as there are many.
struct Damaged<'f> {
    field: &'f Field,
    store: PathBuf,
    what: String,
}

impl Drop for Damaged<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.store);
    }
}

/// What verify said, and what restoring every run showed.
struct Found {
    status: i32,
    problems: Vec<Value>,
    /// By run, the files that did not come back.
    hit: BTreeMap<String, BTreeSet<String>>,
}

fn texts(value: &Value) -> BTreeSet<String> {
    value.as_array().expect("a list").iter().map(|text| text.as_str().expect("text").to_owned()).collect()
}

impl Damaged<'_> {
    fn run(&self, arguments: &[&str]) -> Finished {
        let store = self.store.to_str().expect("UTF-8");
        let finished = self.field.project.run([arguments, &["--store", store]].concat());
        assert!(!finished.stderr.contains("panicked"), "{}: {arguments:?}: {}", self.what, finished.stderr);
        assert!(finished.status.is_some(), "{}: {arguments:?}: killed", self.what);
        finished
    }

    /// Restores a run: the files that did not come back. A wrong file is a failure of the test.
    fn restore(&self, name: &str) -> (i32, BTreeSet<String>) {
        let output = self.store.join("restored");
        let original = &self.field.originals[name];
        let finished = self.run(&["restore", name, "--quiet", "--output", output.to_str().expect("UTF-8")]);
        let restored = if output.exists() { tree(&output) } else { Tree::new() };
        if output.exists() {
            fs::remove_dir_all(&output).expect("removed");
        }
        for (path, content) in &restored {
            assert!(original.get(path) == Some(content), "{}: {name}: {} is wrong", self.what, path.display());
        }
        let missing: BTreeSet<String> =
            original.keys().filter(|path| !restored.contains_key(*path)).map(|path| path.display().to_string()).collect();
        let status = finished.status.expect("ended");
        match status {
            0 | 3 if missing.is_empty() => {}
            1 => assert!(restored.is_empty(), "{}: {name} failed but left files", self.what),
            3 => assert!(missing.iter().all(|path| restored.is_empty() || !path.is_empty())),
            _ => panic!("{}: {name}: status {status} without {missing:?}: {}", self.what, finished.stderr),
        }
        (status, missing)
    }

    fn look(&self) -> Found {
        let verified = self.run(&["verify", "--read-data", "--json"]);
        let status = verified.status.expect("ended");
        assert!(matches!(status, 0 | 3), "{}: verify: {status}: {}", self.what, verified.stderr);
        let mut hit = BTreeMap::new();
        for name in self.field.originals.keys() {
            let (status, missing) = self.restore(name);
            if !missing.is_empty() || status == 1 {
                hit.insert(name.clone(), missing);
            }
        }
        let problems = verified.json()["problems"].as_array().expect("a list").clone();
        assert_eq!(status == 3, !problems.is_empty(), "{}: {problems:?}", self.what);
        Found { status, problems, hit }
    }
}

#[test]
#[ignore = "exploration"]
fn explore() {
    let field = Field::new();
    for folder in ["packs", "runs", "writers"] {
        for file in field.files(folder) {
            println!("{file}: {}", field.bytes(&file));
        }
    }
    let _ = std::io::stdout().flush();
    let found = field.damaged("config.json", Action::Flip(3)).look();
    println!("{} {:?} {:?}", found.status, found.problems, found.hit);
    for file in field.files("packs") {
        let pack = field.pack(&file);
        for frame in &pack.frames {
            let objects: Vec<_> = pack.objects[frame.objects.clone()].iter().map(|o| (o.kind, o.bytes)).collect();
            println!("{file} {} {} {:?} {:?} {:?}", frame.offset, frame.stored_bytes, frame.codec, frame.prefix, objects);
        }
    }
}

#[test]
#[ignore = "exploration"]
fn explore_bits() {
    use runsnap::operations::restore::{RestoreOptions, restore};
    use runsnap::operations::verify::verify;
    let field = Field::new();
    if std::env::var("INDEXED").is_ok() {
        field.project.run(["reindex"]).expect(0);
    }
    let which = std::env::var("WHICH").expect("folder");
    let step: usize = std::env::var("STEP").ok().and_then(|s| s.parse().ok()).unwrap_or(1);
    let files = if which.contains('.') { vec![which.clone()] } else { field.files(&which) };
    struct Silent;
    impl runsnap::progress::Progress for Silent {
        fn begin(&self, _: &'static str, _: u64) {}
        fn advance(&self, _: u64) {}
        fn end(&self) {}
        fn warn(&self, _: &str) {}
    }
    let store = field.project.beside("work");
    copy(&field.project.store(), &store);
    let out = field.project.beside("out");
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for file in files {
        let path = store.join(&file);
        let original = fs::read(&path).expect("readable");
        let step = if original.len() > 20_000 && file.ends_with(".pack") { original.len() * 8 / 200 } else { step };
        for bit in (0..original.len() * 8).step_by(step) {
            let mut bytes = original.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, &bytes).expect("written");
            let mut tell = |what: String| {
                let n = counts.entry(format!("{file}: {}", what.split(':').next().unwrap_or(""))).or_default();
                *n += 1;
                if *n <= 6 { println!("{file} byte {} bit {}: {}", bit / 8, bit % 8, what.chars().take(400).collect::<String>()); }
            };
            let opened = match runsnap::store::Store::open(&store) {
                Ok(s) => s,
                Err(e) => { tell(format!("cannot open: {e}")); continue }
            };
            let verified = match verify(&opened, true, &Silent) {
                Ok(v) => v,
                Err(e) => { tell(format!("verify fails: {e}")); continue }
            };
            let named: BTreeSet<String> = verified.problems.iter().flat_map(|p| p.runs.iter().cloned()).collect();
            let names_file = verified.problems.iter().any(|p| p.file.contains(&file));
            let opened = runsnap::store::Store::open(&store).unwrap();
            let runs = opened.runs().expect("runs");
            let mut hit = BTreeSet::new();
            for (name, original) in &field.originals {
                let Ok(run) = runsnap::operations::find_run::find_run(&runs, name, None) else { hit.insert(name.clone()); continue };
                let _ = fs::remove_dir_all(&out);
                let options = RestoreOptions { output: out.clone(), paths: vec![], force: false };
                match restore(&opened, run, &options, &Silent) {
                    Ok(r) => {
                        let t = tree(&out);
                        for (p, c) in &t { if original.get(p) != Some(c) { tell(format!("WRONG CONTENT: {name} {p:?}")); } }
                        if t != *original { hit.insert(name.clone()); if r.problems.is_empty() { tell(format!("SILENT LOSS: {name}")); } }
                        else if !r.problems.is_empty() { tell(format!("odd: {:?}", r.problems)); }
                    }
                    Err(_) => { hit.insert(name.clone()); }
                }
            }
            if verified.problems.is_empty() { tell(format!("verify is silent: hit {hit:?}")); }
            else if !names_file { tell(format!("file not named: {:?}", verified.problems)); }
            if !hit.is_subset(&named) { tell(format!("hit but not named: {hit:?} {named:?} {:?}", verified.problems)); }
            if !named.is_subset(&hit) { tell(format!("named but not hit: {hit:?} {named:?}")); }
            // the problem that names the file should name the runs
            let by_file: BTreeSet<String> = verified.problems.iter().filter(|p| p.file.contains(&file)).flat_map(|p| p.runs.iter().cloned()).collect();
            if names_file && !hit.is_subset(&by_file) && hit.is_subset(&named) { tell(format!("runs named elsewhere: {:?}", verified.problems)); }
        }
        fs::write(&path, &original).expect("written");
        println!("{file}: {} bits", original.len() * 8);
    }
    println!("{counts:#?}");
}
