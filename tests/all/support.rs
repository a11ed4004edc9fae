//! A project in a temporary folder, and the binary run in it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// The binary under test.
pub const RUNSNAP: &str = env!("CARGO_BIN_EXE_runsnap");

/// Longer than any tick of a clock that files are stamped by: what has been still for that long is believed.
const SETTLED: Duration = Duration::from_millis(25);

/// Not to wait for anybody: a file's time has to be past for its stamp to be trusted.
pub fn time_passes() {
    std::thread::sleep(SETTLED);
}

/// A folder `project` with a root marker, in a temporary folder of its own.
pub struct Project {
    pub folder: TempDir,
}

/// What a finished command left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    /// Asserts the exit status and gives itself back.
    #[track_caller]
    pub fn expect(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Asserts that it failed with one clear line that holds all of `parts`.
    #[track_caller]
    pub fn expect_line(self, status: i32, parts: &[&str]) -> Self {
        let this = self.expect(status);
        let errors: Vec<&str> = this.stderr.lines().filter(|line| line.starts_with("error: ")).collect();
        assert_eq!(errors.len(), 1, "one line: {}", this.stderr);
        assert!(!this.stderr.contains("panicked"), "{}", this.stderr);
        for part in parts {
            assert!(errors[0].contains(part), "{part:?} is not in {:?}", errors[0]);
        }
        this
    }

    /// The JSON on standard output.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {} {}", self.stdout, self.stderr))
    }
}

impl From<Output> for Finished {
    fn from(output: Output) -> Self {
        Self {
            status: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Project {
    /// An empty project with a `pyproject.toml` as its root marker.
    pub fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        project.write("pyproject.toml", "[project]\nname = \"demo\"\n");
        project
    }

    /// A project with a few modules in two folders, an executable, a link and an empty file.
    pub fn with_code() -> Self {
        let project = Self::new();
        project.write("strategy.py", "import momentum\nprint(momentum.WINDOW)\n");
        project.write("momentum/__init__.py", "from .signal import WINDOW\n");
        project.write("momentum/signal.py", "WINDOW = 20\n");
        project.write("momentum/empty.py", "");
        project.write("run.sh", "#!/bin/sh\nexec python3 strategy.py\n");
        fs::set_permissions(project.path("run.sh"), fs::Permissions::from_mode(0o755)).expect("chmod");
        std::os::unix::fs::symlink("strategy.py", project.path("latest.py")).expect("link");
        project
    }

    /// The project's root.
    pub fn root(&self) -> PathBuf {
        self.folder.path().join("project")
    }

    /// The store that captures make.
    pub fn store(&self) -> PathBuf {
        self.root().join(".runsnap")
    }

    /// A path in the project.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    /// A path beside the project.
    pub fn beside(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    /// Writes a file, and the folders that it is in.
    pub fn write(&self, path: impl AsRef<Path>, content: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("it has a folder")).expect("folders");
        fs::write(path, content).expect("written");
    }

    /// A command with the project's root as its folder and a clean environment.
    pub fn command<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Command {
        let mut command = Command::new(RUNSNAP);
        command.args(arguments).current_dir(self.root()).env("XDG_CACHE_HOME", self.beside("caches"));
        for name in ["RUNSNAP_STORE", "VIRTUAL_ENV", "NO_COLOR"] {
            command.env_remove(name);
        }
        command
    }

    /// Runs the binary.
    pub fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Finished {
        self.command(arguments).output().expect("it starts").into()
    }

    /// Captures the whole project under a name; what `--json` printed.
    #[track_caller]
    pub fn capture(&self, name: &str) -> Value {
        self.run(["capture", "--tree", ".", "--run", name, "--json"]).expect(0).json()
    }

    /// Restores a run into a new folder and gives its tree.
    #[track_caller]
    pub fn restored(&self, name: &str) -> Tree {
        let output = self.folder.path().join(format!("restored-{name}-{}", fastrand()));
        self.run(["restore".as_ref(), name.as_ref(), "--output".as_ref(), output.as_os_str(), "--quiet".as_ref()])
            .expect(0);
        tree(&output)
    }

    /// The files of one of the store's folders.
    pub fn store_files(&self, folder: &str) -> Vec<PathBuf> {
        let entries = fs::read_dir(self.store().join(folder)).expect("the folder is there");
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("readable").path()).collect();
        files.sort();
        files
    }
}

fn fastrand() -> u64 {
    u64::from_le_bytes(runsnap::id::random_bytes())
}

/// What a folder holds: by path, the kind with the executable bit, and the content or the link's target.
pub type Tree = BTreeMap<PathBuf, (&'static str, Vec<u8>)>;

/// The bytes that this thread has read from files so far.
pub fn bytes_read() -> u64 {
    let text = fs::read_to_string("/proc/thread-self/io").expect("Linux tells");
    let line = text.lines().find_map(|line| line.strip_prefix("rchar: ")).expect("it has that");
    line.parse().expect("a number")
}

/// Reads a folder, `.runsnap` left out.
pub fn tree(root: &Path) -> Tree {
    let mut out = Tree::new();
    let mut waiting = vec![root.to_owned()];
    while let Some(folder) = waiting.pop() {
        for entry in fs::read_dir(&folder).expect("readable") {
            let path = entry.expect("readable").path();
            let name = path.strip_prefix(root).expect("below").to_owned();
            let metadata = path.symlink_metadata().expect("there");
            if name == Path::new(".runsnap") {
                continue;
            } else if metadata.is_symlink() {
                let target = fs::read_link(&path).expect("a link");
                out.insert(name, ("link", std::os::unix::ffi::OsStrExt::as_bytes(target.as_os_str()).to_vec()));
            } else if metadata.is_dir() {
                waiting.push(path);
            } else {
                let kind = if metadata.permissions().mode() & 0o100 != 0 { "executable" } else { "file" };
                out.insert(name, (kind, fs::read(&path).expect("readable")));
            }
        }
    }
    out
}
