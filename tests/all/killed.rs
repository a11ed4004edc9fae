//! Killed with SIGKILL at a random moment: what returned is there, and what did not is there whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use runsnap::id::ObjectId;
use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::store::Store;
use serde_json::json;

use crate::support::{Finished, Project, tree};

const WRITERS: u64 = 4;
const KILLS: usize = 200;
const SIGKILL: i32 = 9;

/// Numbers that are the same whenever the test runs.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn bytes(&mut self, count: usize) -> Vec<u8> {
        let mut out = vec![0; count];
        blake3::Hasher::new().update(&self.next().to_le_bytes()).finalize_xof().fill(&mut out);
        out
    }
}

/// The hashes of what a folder holds.
type Hashes = BTreeMap<PathBuf, (&'static str, ObjectId)>;

fn hashes(folder: &Path) -> Hashes {
    tree(folder).into_iter().map(|(path, (kind, content))| (path, (kind, ObjectId::of(&content)))).collect()
}

/// What the project held when a capture was begun, and whether that capture returned.
struct Attempt {
    files: Hashes,
    returned: bool,
}

/// One of several that capture into one store.
struct Writer {
    number: u64,
    project: Project,
    random: Random,
    /// The longest time until the kill. It goes up with each kill and down with each return, so that about half of the
    /// captures return on machines of any speed, and the others die at all stages.
    limit: f64,
    attempts: BTreeMap<String, Attempt>,
}

impl Writer {
    fn new(number: u64) -> Self {
        let random = Random(0x5eed_0000 + number);
        Self { number, project: Project::with_code(), random, limit: 20_000.0, attempts: BTreeMap::new() }
    }

    /// Edits the project as a sweep's author would: mostly a line, at times a large file, a new file or one less.
    fn edit(&mut self) {
        let n = self.attempts.len();
        let momentum = format!("WINDOW = {n}\n{}", "# a line that stays\n".repeat(100 + self.number as usize));
        self.project.write("momentum/signal.py", momentum);
        match n % 6 {
            // So large that its pack is written in several steps.
            1 => self.project.write("model.bin", self.random.bytes(5 << 20)),
            2 => self.project.write("model.bin", b"a small one\n".repeat(5_000)),
            5 => self.project.write(format!("generated/rule_{n}.py"), format!("RULE = {n}\n")),
            3 => drop(fs::remove_file(self.project.path(format!("generated/rule_{}.py", n.saturating_sub(4))))),
            4 => {
                let mode = if n.is_multiple_of(4) { 0o644 } else { 0o755 };
                fs::set_permissions(self.project.path("run.sh"), fs::Permissions::from_mode(mode)).expect("chmod");
            }
            _ => {}
        }
    }

    /// Captures and kills after a while; whether the kill hit a live process.
    fn capture_and_kill(&mut self, store: &Path) -> bool {
        self.edit();
        let name = format!("t{}-{}", self.number, self.attempts.len());
        let mut command = self.project.command(["capture", "--tree", ".", "--run", &name, "--quiet", "--store"]);
        command.arg(store).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        let delay = self.limit * self.random.below(1_000) as f64 / 1_000.0;
        thread::sleep(Duration::from_micros(delay as u64));
        child.kill().expect("its own child");
        let output = child.wait_with_output().expect("it ended");
        let killed = output.status.signal() == Some(SIGKILL);
        if !killed {
            let finished = Finished::from(output).expect(0);
            assert_eq!((finished.stdout, finished.stderr), (String::new(), String::new()));
        }
        self.limit *= if killed { 1.25 } else { 0.8 };
        self.attempts.insert(name, Attempt { files: hashes(&self.project.root()), returned: !killed });
        killed
    }
}

/// Looks at everything that a store with such a past must still give.
fn check(store: &Path, writers: &[Writer]) {
    let project = Project::new();
    let store_option = store.to_str().expect("text");
    let verified = project.run(["verify", "--read-data", "--json", "--store", store_option]).expect(0).json();
    assert_eq!(verified["problems"], json!([]));

    let listed = project.run(["list", "--json", "--all-projects", "--store", store_option]).expect(0).json();
    let names: Vec<String> = listed["runs"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|run| run["name"].as_str().expect("all have names").to_owned())
        .collect();
    let listed: BTreeSet<&String> = names.iter().collect();
    assert_eq!(listed.len(), names.len(), "no name twice");

    let attempts: BTreeMap<&String, &Attempt> = writers.iter().flat_map(|writer| &writer.attempts).collect();
    let returned: BTreeSet<&String> =
        attempts.iter().filter(|(_, attempt)| attempt.returned).map(|(name, _)| *name).collect();
    assert_eq!(returned.difference(&listed).collect::<Vec<_>>(), Vec::<&&String>::new(), "runs that are lost");

    let opened = Store::open(store).expect("opens");
    for run in opened.runs().expect("readable").iter() {
        let output = project.beside("restored");
        let options = RestoreOptions { output: output.clone(), ..RestoreOptions::default() };
        let restored = restore(&opened, &run, &options, &()).expect("restored");
        assert_eq!(restored.problems, Vec::<String>::new());
        assert_eq!(hashes(&output), attempts[&run.label()].files, "{}", run.label());
        fs::remove_dir_all(output).expect("removed");
    }
    for name in listed.iter().step_by(16) {
        let output = project.beside(name);
        let arguments = ["restore", name, "--quiet", "--store", store_option, "--output"];
        let restored = project.command(arguments).arg(&output).output().expect("it starts");
        assert_eq!(Finished::from(restored).expect(0).stderr, "");
        assert_eq!(hashes(&output), attempts[name].files, "{name}");
    }
}

#[test]
fn two_hundred_kills_over_four_writers_cost_nothing_that_returned() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = folder.path().join("store");
    Project::new().command(["init", "--store"]).arg(&store).output().map(Finished::from).expect("it starts").expect(0);
    let mut writers: Vec<Writer> = (0..WRITERS).map(Writer::new).collect();
    let kills = AtomicUsize::new(0);
    for target in [KILLS / 2, KILLS] {
        thread::scope(|scope| {
            for writer in &mut writers {
                scope.spawn(|| {
                    while kills.load(Ordering::Relaxed) < target {
                        if writer.capture_and_kill(&store) {
                            kills.fetch_add(1, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        check(&store, &writers);
    }
    let attempts = || writers.iter().flat_map(|writer| writer.attempts.values());
    assert!(kills.into_inner() >= KILLS);
    assert!(attempts().filter(|attempt| !attempt.returned).count() >= KILLS);
    let returned = attempts().filter(|attempt| attempt.returned).count();
    println!("{KILLS} kills over {WRITERS} writers, {returned} captures returned");
    assert!(returned >= 20, "only {returned} captures returned: these kills come too early to show anything");

    // What the dead left in tmp/ goes, what they left elsewhere is whole, and the next capture does as always.
    let project = Project::with_code();
    let run = |arguments: &[&str]| {
        project.command(arguments).arg("--store").arg(&store).output().map(Finished::from).expect("it starts").expect(0)
    };
    run(&["gc", "--quiet"]);
    assert_eq!(fs::read_dir(store.join("tmp")).expect("there").count(), 0);
    run(&["capture", "--tree", ".", "--run", "after"]);
    run(&["restore", "after", "--output", project.beside("after").to_str().expect("text")]);
    assert_eq!(tree(&project.beside("after")), tree(&project.root()));
    // The index that the dead wrote too is right, and so is one that is made from nothing but packs and journals.
    let verified = || run(&["verify", "--read-data", "--json"]).json();
    assert_eq!(verified()["problems"], json!([]));
    run(&["reindex"]);
    assert_eq!(verified()["problems"], json!([]));
}
