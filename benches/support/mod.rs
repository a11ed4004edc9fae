//! What the benches share: content that is the same in every run of a bench, and a project made of it.

// Each bench is a program of its own and uses a part of this.
#![allow(dead_code)]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use criterion::Criterion;
use runsnap::operations::capture::{CaptureOptions, Target};
use tempfile::TempDir;

/// How many modules a [`Project`] has.
const MODULES: u64 = 350;
/// How long to wait after writing files that a bench then captures: the content of a file that changed a moment ago is
/// read twice, which is not what the benches are about.
const SETTLE: Duration = Duration::from_millis(50);

/// Few samples: a bench of the whole store ends in seconds, and differences worth acting on still show.
pub fn criterion() -> Criterion {
    let criterion = Criterion::default().sample_size(10);
    criterion.warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(5))
}

/// Numbers that look random and are the same every time.
pub struct Numbers(pub u64);

impl Numbers {
    /// The next number below `limit`.
    pub fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % limit.max(1) as u64) as usize
    }

    fn pick<'w>(&mut self, words: &[&'w str]) -> &'w str {
        words.get(self.below(words.len())).copied().unwrap_or_default()
    }
}

/// Bytes that nothing can make shorter.
pub fn noise(seed: u64, bytes: usize) -> Vec<u8> {
    let mut out = vec![0; bytes];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut out);
    out
}

/// Text that is about as repetitive as Python source, of `bytes` bytes or a little more.
pub fn source(seed: u64, bytes: usize) -> Vec<u8> {
    const NAMES: &str = "price signal window close volume weight order position equity returns momentum threshold \
                         portfolio slippage commission benchmark";
    let names: Vec<&str> = NAMES.split_whitespace().collect();
    let verbs = ["update", "compute", "rolling", "normalise", "rank", "apply", "load", "rebalance"];
    let mut numbers = Numbers(seed);
    let mut text = String::from("from __future__ import annotations\n\nimport math\n");
    while text.len() < bytes {
        let (verb, noun) = (numbers.pick(&verbs), numbers.pick(&names));
        let (argument, width) = (numbers.pick(&names), numbers.below(250));
        text += &format!(
            "\n\ndef {verb}_{noun}_{}({argument}: list[float], window: int = {width}) -> float:\n",
            numbers.below(1000)
        );
        text += &format!("    \"\"\"Return the {verb}d {noun} of the last `window` values of `{argument}`.\"\"\"\n");
        text += &format!(
            "    if len({argument}) < window:\n        return {}.{:02}\n",
            numbers.below(10),
            numbers.below(100)
        );
        for _ in 0..numbers.below(9) {
            let (left, right) = (numbers.pick(&names), numbers.pick(&names));
            text += &format!(
                "    {left} = sum({argument}[-{}:]) / window - math.sqrt({right}_{})\n",
                numbers.below(60),
                numbers.below(20)
            );
        }
        text += &format!("    return {argument}[-1] * {}.{:04}\n", numbers.below(3), numbers.below(10_000));
    }
    text.into_bytes()
}

/// A project of some 350 modules in 20 packages, in a temporary folder of its own; stores and restored files go beside it.
pub struct Project {
    folder: TempDir,
    made: std::cell::Cell<u64>,
}

impl Project {
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder"), made: std::cell::Cell::new(0) };
        let mut numbers = Numbers(1);
        for module in 0..MODULES {
            let path = project.module(module);
            fs::create_dir_all(path.parent().expect("it has a folder")).expect("folders");
            fs::write(path, source(module, 500 + numbers.below(24_000))).expect("written");
        }
        fs::write(project.root().join("pyproject.toml"), "[project]\nname = \"bench\"\n").expect("written");
        fs::write(project.root().join("strategy.py"), source(MODULES, 8_000)).expect("written");
        std::thread::sleep(SETTLE);
        project
    }

    /// Its root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The path of one of its modules.
    pub fn module(&self, number: u64) -> PathBuf {
        self.root().join(format!("library/package_{:02}/module_{number:03}.py", number % 20))
    }

    /// Writes a new version of a module, which differs from all earlier ones in one line.
    pub fn edit(&self, number: u64) {
        let path = self.module(number);
        let mut text = String::from_utf8(fs::read(&path).expect("readable")).expect("text");
        let kept = text.rfind("\nEDITION = ").unwrap_or(text.len());
        text.truncate(kept);
        text += &format!("\nEDITION = {}\n", self.next());
        fs::write(path, text).expect("written");
        std::thread::sleep(SETTLE);
    }

    /// A path beside the project that nothing has yet. Nothing is removed before the bench ends: freeing many files slows
    /// down some file systems for a while.
    pub fn beside(&self, what: &str) -> PathBuf {
        self.folder.path().join(format!("{what}-{}", self.next()))
    }

    /// What captures all of it.
    pub fn capture_options(&self) -> CaptureOptions {
        CaptureOptions::new(Target::Tree(self.root()))
    }

    /// The bytes of its files.
    pub fn bytes(&self) -> u64 {
        fn below(folder: &Path) -> u64 {
            let entries = fs::read_dir(folder).expect("readable").map(|entry| entry.expect("readable"));
            let length = |entry: fs::DirEntry| match entry.metadata().expect("there") {
                metadata if metadata.is_dir() => below(&entry.path()),
                metadata => metadata.len(),
            };
            entries.map(length).sum()
        }
        below(&self.root())
    }

    fn next(&self) -> u64 {
        self.made.set(self.made.get() + 1);
        self.made.get()
    }
}
