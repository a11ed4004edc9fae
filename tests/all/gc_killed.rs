//! Captures, forgets and gc all at once, and killed with SIGKILL at random moments: what returned and was not forgotten is
//! there, and in the end the room comes back.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use runsnap::operations::restore::{RestoreOptions, restore};
use runsnap::operations::verify::verify;
use runsnap::store::{CONDEMNED_PATH, Store};

use crate::support::{Finished, Project, Tree, tree};

/// Numbers that are the same whenever the test runs.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11) % limit
    }
}

/// Kills its child after a while, or not; the end of the one that was not killed.
fn run_or_kill(command: &mut Command, random: &mut Random, limit: &mut f64, kills: &AtomicUsize) -> Option<Finished> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    if random.below(2) == 0 {
        let delay = *limit * random.below(1_000) as f64 / 1_000.0;
        thread::sleep(Duration::from_micros(delay as u64));
        child.kill().expect("its own child");
    }
    let output = child.wait_with_output().expect("it ended");
    if output.status.signal().is_some() {
        kills.fetch_add(1, Ordering::Relaxed);
        *limit *= 1.25;
        return None;
    }
    *limit *= 0.9;
    Some(output.into())
}

/// What a run must come back as, and whether its capture returned.
struct Attempt {
    files: Tree,
    returned: bool,
}

struct Writer {
    number: u64,
    project: Project,
    random: Random,
    limit: f64,
    captures: u64,
    attempts: BTreeMap<String, Attempt>,
    forgotten: BTreeSet<String>,
}

impl Writer {
    fn new(number: u64) -> Self {
        let (project, random) = (Project::with_code(), Random(0x9e37_79b9 + number));
        let (attempts, forgotten) = (BTreeMap::new(), BTreeSet::new());
        Self { number, project, random, limit: 100_000.0, captures: 0, attempts, forgotten }
    }

    /// Edits, captures, and at times forgets: contents that others have as well, come and go.
    fn step(&mut self, store: &Path, kills: &AtomicUsize) {
        let shared = self.random.below(12);
        self.project.write("momentum/signal.py", format!("WINDOW = {shared}\n{}", "# shared\n".repeat(200)));
        let lines: String = (0..200).map(|n| format!("{n} {}\n", n * n % (self.number + 7))).collect();
        self.project.write("momentum/own.py", format!("OWN = {}\n{lines}", self.captures));
        let seed = [self.random.below(4) as u8];
        let mut table = vec![0; 60_000];
        blake3::Hasher::new().update(&seed).finalize_xof().fill(&mut table);
        self.project.write("table.bin", table);
        let name = format!("w{}-{}", self.number, self.captures);
        self.captures += 1;
        let mut command = self.project.command(["capture", "--tree", ".", "--quiet", "--run", &name, "--store"]);
        command.arg(store);
        let finished = run_or_kill(&mut command, &mut self.random, &mut self.limit, kills);
        if let Some(finished) = &finished {
            finished.clone().expect(0);
        }
        self.attempts.insert(name, Attempt { files: tree(&self.project.root()), returned: finished.is_some() });
        if self.random.below(3) == 0 {
            let known: Vec<&String> = self.attempts.iter().filter(|(_, a)| a.returned).map(|(name, _)| name).collect();
            if known.is_empty() {
                return;
            }
            let name = known[self.random.below(known.len() as u64) as usize].clone();
            self.attempts.remove(&name);
            let mut command = self.project.command(["forget", &name, "--store"]);
            Finished::from(command.arg(store).output().expect("it starts")).expect(0);
            self.forgotten.insert(name);
        }
    }
}

/// Every run that is there has its files, and every one that must be there is.
fn check(store: &Path, writers: &[Writer], output: &Path) -> usize {
    let store = Store::open(store).expect("opens");
    let verified = verify(&store, true, &()).expect("verified");
    assert_eq!(verified.problems, Vec::new());
    let runs = store.runs().expect("readable");
    let attempts: BTreeMap<&String, &Attempt> = writers.iter().flat_map(|writer| &writer.attempts).collect();
    let mut found = BTreeSet::new();
    for run in runs.iter() {
        let label = run.label();
        let attempt = attempts.get(&label).unwrap_or_else(|| panic!("{label} was forgotten"));
        let options = RestoreOptions { output: output.to_owned(), ..RestoreOptions::default() };
        let restored = restore(&store, &run, &options, &()).expect("restored");
        assert_eq!(restored.problems, Vec::<String>::new(), "{label}");
        assert!(tree(output) == attempt.files, "{label} came back with other files");
        fs::remove_dir_all(output).expect("removed");
        assert!(found.insert(label), "a name twice");
    }
    let lost: Vec<_> = attempts.iter().filter(|(name, a)| a.returned && !found.contains(**name)).collect();
    assert!(lost.is_empty(), "lost: {:?}", lost.iter().map(|(name, _)| name).collect::<Vec<_>>());
    found.len()
}

fn packs_bytes(store: &Path) -> u64 {
    let packs = fs::read_dir(store.join("packs")).expect("there");
    packs.map(|pack| pack.expect("readable").metadata().expect("there").len()).sum()
}

/// Goes on for that long at least, and until so many captures and so many gcs have been killed.
fn storm(writers: u64, time: Duration, kills_wanted: usize, gc_kills_wanted: usize) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store: PathBuf = folder.path().join("store");
    let project = Project::new();
    let run = |arguments: &[&str]| {
        Finished::from(project.command(arguments).arg("--store").arg(&store).output().expect("it starts")).expect(0)
    };
    run(&["init"]);
    let mut writers: Vec<Writer> = (0..writers).map(Writer::new).collect();
    let (kills, gc_kills, gcs) = (AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0));
    let begun = Instant::now();
    let goes_on = || {
        begun.elapsed() < time
            || kills.load(Ordering::Relaxed) < kills_wanted
            || gc_kills.load(Ordering::Relaxed) < gc_kills_wanted
    };
    thread::scope(|scope| {
        for writer in &mut writers {
            scope.spawn(|| {
                while goes_on() {
                    writer.step(&store, &kills);
                }
            });
        }
        let (mut random, mut limit) = (Random(0xc011_ec70), 200_000.0);
        while goes_on() {
            let wait = ["0", "1", "5"][random.below(3) as usize];
            let mut command = project.command(["gc", "--quiet", "--wait", wait, "--store"]);
            if let Some(finished) = run_or_kill(command.arg(&store), &mut random, &mut limit, &gc_kills) {
                // A capture may be merging a few files just now.
                assert!(finished.status == Some(0) || finished.stderr.contains("maintain"), "{}", finished.stderr);
                gcs.fetch_add(1, Ordering::Relaxed);
            }
        }
    });
    let restored = check(&store, &writers, &folder.path().join("restored"));
    let captures: u64 = writers.iter().map(|writer| writer.captures).sum();
    let forgotten: usize = writers.iter().map(|writer| writer.forgotten.len()).sum();
    run(&["gc"]);
    check(&store, &writers, &folder.path().join("restored"));
    let all = packs_bytes(&store);

    run(&["forget", "--keep-last", "3", "--all-projects"]);
    run(&["gc"]);
    let few = packs_bytes(&store);
    let opened = Store::open(&store).expect("opens");
    let left: BTreeSet<String> = opened.runs().expect("readable").iter().map(|run| run.label()).collect();
    for writer in &mut writers {
        writer.attempts.retain(|name, _| left.contains(name));
    }
    assert_eq!(check(&store, &writers, &folder.path().join("restored")), 3);
    // Three snapshots, with a table that does not compress in each.
    assert!(few < 3 * 70_000, "{few} bytes of packs for three runs");
    assert_eq!(fs::read_dir(store.join("tmp")).expect("there").count(), 0);
    assert!(!store.join(CONDEMNED_PATH).exists());
    println!(
        "{captures} captures, {} of them killed, {forgotten} runs forgotten, {} gcs ended and {} were killed in {:.0} s; \
         {restored} runs restored; packs of {all} bytes, {few} for the last three runs",
        kills.into_inner(),
        gcs.into_inner(),
        gc_kills.into_inner(),
        begun.elapsed().as_secs_f64(),
    );
}

#[test]
fn captures_forgets_and_gcs_that_are_killed() {
    storm(4, Duration::ZERO, 20, 5);
}

/// `cargo test --release --test all -- --ignored --nocapture sixteen_writers`.
#[test]
#[ignore = "takes minutes"]
fn sixteen_writers_forgets_and_gcs_that_are_killed_for_a_minute() {
    storm(16, Duration::from_secs(60), 100, 20);
}
