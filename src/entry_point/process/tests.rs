use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use super::*;

const PROC: &str = "/proc";
/// Tells that it has come so far, and waits until its input ends.
const WAIT: &str = "import os, sys\nos.write(1, b'ready\\n')\nsys.stdin.read()\n";

/// A process that ends when it is dropped, as do those that it has started: their input ends.
struct Running {
    child: Child,
    output: BufReader<std::process::ChildStdout>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("starts");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let mut running = Self { child, output };
        assert_eq!(running.line(), "ready");
        running
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.read_line(&mut line).expect("read");
        line.trim().to_owned()
    }

    fn look(&self) -> Result<Process> {
        of_pid(self.child.id(), Path::new(PROC))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        // A parent that is killed would leave its children to others: it ends after them.
        let _ = std::io::copy(&mut self.output, &mut std::io::sink());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Project {
    folder: tempfile::TempDir,
}

impl Project {
    fn new() -> Self {
        let project = Self { folder: tempfile::tempdir().expect("a temporary folder") };
        project.write("x.py", WAIT);
        project.write("pkg/__init__.py", "");
        project.write("pkg/__main__.py", WAIT);
        project.write("other/y.py", "");
        project
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("there")
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    /// An environment without packages: a link and a file.
    fn python(&self) -> PathBuf {
        let said = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("runs");
        let base = PathBuf::from(String::from_utf8(said.stdout).expect("text").trim());
        let python = self.root().join("venv/bin/python");
        if !python.exists() {
            let home = base.parent().expect("in a folder").display();
            self.write("venv/pyvenv.cfg", &format!("home = {home}\n"));
            fs::create_dir_all(python.parent().expect("in a folder")).expect("made");
            std::os::unix::fs::symlink(base, &python).expect("linked");
        }
        python
    }

    fn command(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.root()).env_remove("PWD");
        command
    }

    fn run(&self, arguments: &[&str]) -> Running {
        Running::start(&mut self.command(self.python(), arguments))
    }
}

fn program(process: &Process) -> &Program {
    &process.command.as_ref().expect("a command").program
}

#[test]
fn what_a_python_was_started_with() {
    let project = Project::new();
    let running = project.run(&["-s", "x.py", "--fast", "10"]);
    let process = running.look().expect("found");
    assert_eq!((process.pid, process.followed.as_slice()), (running.child.id(), [].as_slice()));
    assert_eq!(program(&process), &Program::Script("x.py".into()));
    assert_eq!(
        process.command.as_ref().map(|command| command.arguments.as_slice()),
        Some(["--fast".into(), "10".into()].as_slice())
    );
    assert!(process.command.as_ref().is_some_and(|command| command.flags.no_user_site));
    assert_eq!(process.script, Some(project.root().join("x.py")));
    assert_eq!(process.working_folder, project.root());
    assert_eq!(process.executable, project.python(), "not what it is a link to");
    assert!(process.variables.get("PATH").is_some());
    assert_eq!(process.warnings, [""; 0]);
    assert!(process.is_same(Path::new(PROC)));
    let other = Process { started: process.started + 1, ..process };
    assert!(!other.is_same(Path::new(PROC)));

    let process = project.run(&["-m", "pkg"]).look().expect("found");
    assert_eq!((program(&process), process.script.as_ref()), (&Program::Module("pkg".into()), None));
    let process = project.run(&["-c", WAIT]).look().expect("found");
    assert_eq!(program(&process), &Program::Command(WAIT.into()));
    let full = project.root().join("x.py");
    let process = project.run(&[full.to_str().expect("text")]).look().expect("found");
    assert_eq!(process.script, Some(full));
    // Found on PATH, as a shell does it.
    let python = project.python();
    let path = format!("{}:/usr/bin:/bin", python.parent().expect("in a folder").display());
    let running = Running::start(project.command("env", &["python", "x.py"]).env("PATH", path));
    assert_eq!(running.look().expect("found").executable, python);
}

#[test]
fn wrappers_are_followed_to_their_python() {
    let project = Project::new();
    let python = project.python();
    let python = python.to_str().expect("text");
    // What follows the Python keeps the shell from becoming it.
    let inner = format!("cd pkg && {python} ../x.py; true");
    let script = format!("A=1 sh -c '{inner}'; true");
    for arguments in [&["-c", &inner][..], &["-c", &script]] {
        let running = Running::start(&mut project.command("sh", arguments));
        let process = running.look().expect("found");
        assert_ne!(process.pid, running.child.id());
        assert_eq!(process.followed.first(), Some(&running.child.id()));
        assert_eq!(process.followed.len(), if arguments[1] == inner { 1 } else { 2 });
        assert_eq!(process.working_folder, project.root().join("pkg"));
        assert_eq!(process.script, Some(project.root().join("pkg/../x.py")));
        assert_eq!(process.variables.get("A").is_some(), arguments[1] == script);
    }
    let running = Running::start(&mut project.command("timeout", &["600", "sh", "-c", "echo ready; read line; true"]));
    let error = running.look().expect_err("no Python").to_string();
    assert_eq!(error, format!("Process {} is no Python and has started none", running.child.id()));
    // Two that run the same are as good as one; two that do not are not.
    for (second, is_found) in [("x.py", true), ("x.py b", false)] {
        let script = format!("{python} x.py <&0 & {python} {second} <&0; wait");
        let mut running = Running::start(&mut project.command("bash", &["-c", &script]));
        assert_eq!(running.line(), "ready");
        let found = running.look();
        assert_eq!(found.is_ok(), is_found, "{found:?}");
        if let Err(error) = found {
            assert!(error.to_string().contains("has started several Pythons: name one of "), "{error}");
        }
    }
}

#[test]
fn a_process_may_have_gone_elsewhere() {
    let project = Project::new();
    let gone = format!("import os\nos.chdir('other')\n{WAIT}");
    project.write("gone.py", &gone);
    let start = |command: &mut Command| Running::start(command);
    let root = project.root();
    let python = project.python();
    let with_pwd = start(project.command(&python, &["gone.py"]).env("PWD", &root));
    let process = with_pwd.look().expect("found");
    assert_eq!((process.script, process.working_folder), (Some(root.join("gone.py")), root.clone()));
    assert!(process.warnings[0].contains(" has gone from "), "{:?}", process.warnings);
    // Where nothing tells but its parent.
    let script = format!("env -u PWD {} gone.py; true", python.display());
    let below = start(&mut project.command("sh", &["-c", &script]));
    assert_eq!(below.look().expect("found").script, Some(root.join("gone.py")));
    let without = start(&mut project.command(&python, &["gone.py"]));
    let error = without.look().expect_err("nowhere").to_string();
    assert_eq!(error, format!("Process {} was started with gone.py, which is not there", without.child.id()));
    project.write("other/gone.py", "");
    let process = with_pwd.look().expect("found");
    assert_eq!(process.script, Some(root.join("other/gone.py")));
    assert!(process.warnings[0].contains(" may have been started with "), "{:?}", process.warnings);
    fs::remove_dir_all(root.join("other")).expect("removed");
    let error = with_pwd.look().expect_err("deleted").to_string();
    assert_eq!(error, format!("Process {} is in a folder that has been deleted", with_pwd.child.id()));
}

#[test]
fn workers_lead_to_their_program() {
    let project = Project::new();
    let sweep = "import multiprocessing, os\n\
                 def work(end):\n    print(os.getpid(), flush=True)\n    end.recv()\n\n\
                 if __name__ == '__main__':\n    \
                 context = multiprocessing.get_context(os.environ['METHOD'])\n    \
                 ours, theirs = context.Pipe()\n    \
                 process = context.Process(target=work, args=(theirs,))\n    \
                 print('ready', flush=True)\n    process.start()\n    \
                 __import__('sys').stdin.read()\n    ours.send(1)\n    process.join()\n";
    project.write("sweep.py", sweep);
    for method in ["spawn", "forkserver", "fork"] {
        let mut running = Running::start(project.command(project.python(), &["sweep.py"]).env("METHOD", method));
        let worker = running.line().parse::<u32>().expect("a number");
        let process = of_pid(worker, Path::new(PROC)).expect("found");
        assert_eq!(process.script, Some(project.root().join("sweep.py")), "{method}");
        let is_followed = method != "fork";
        assert_eq!(process.pid == running.child.id(), is_followed, "{method}");
        assert_eq!(process.followed.first(), Some(&worker).filter(|_| is_followed), "{method}");
    }
}

#[test]
fn kernels_are_known_with_their_notebook() {
    let project = Project::new();
    project.write("ipykernel_launcher.py", WAIT);
    project.write("a.ipynb", "{}");
    project.write("newer.ipynb", "{}");
    let arguments = ["-m", "ipykernel_launcher", "-f", "/run/kernel.json"];
    let named = Running::start(project.command(project.python(), &arguments).env("JPY_SESSION_NAME", "a.ipynb"));
    let process = named.look().expect("found");
    assert_eq!(program(&process), &Program::Kernel { connection_file: Some("/run/kernel.json".into()) });
    let notebook = process.notebook.expect("known");
    assert_eq!((notebook.path, notebook.variable), (project.root().join("a.ipynb"), "JPY_SESSION_NAME"));
    let unknown = Running::start(project.command(project.python(), &arguments).env_remove("JPY_SESSION_NAME"));
    assert_eq!(unknown.look().expect("found").notebook, None);
}

#[test]
fn each_problem_has_its_error() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let proc = folder.path();
    let error = |pid| of_pid(pid, proc).expect_err("refused").to_string();
    let nowhere = format!("Processes cannot be looked at: there is no {} on this system", proc.display());
    assert_eq!(error(7), nowhere);
    fs::create_dir_all(proc.join("self")).expect("made");
    assert_eq!(error(7), "There is no process 7");
    let shown = |state: &str, argv: &str| {
        fs::create_dir_all(proc.join("7")).expect("made");
        let stat = format!("7 (x) {state} 2 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0\n");
        fs::write(proc.join("7/stat"), stat).expect("written");
        fs::write(proc.join("7/cmdline"), argv).expect("written");
    };
    shown("Z", "");
    assert_eq!(error(7), "Process 7 has ended; its parent has not taken notice yet");
    shown("S", "");
    assert_eq!(error(7), "Process 7 has no command line, as those of the kernel have none");
    shown("S", "python\0x.py\0");
    assert_eq!(error(7), "There is no process 7", "it ends in between");
    fs::write(proc.join("7/stat"), "odd").expect("written");
    assert_eq!(error(7), "Process 7 shows itself in a way that is not known");
    let zombie = Command::new("true").spawn().expect("starts");
    let pid = rustix::process::Pid::from_child(&zombie);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options).expect("waited for");
    let error = of_pid(zombie.id(), Path::new(PROC)).expect_err("ended").to_string();
    assert_eq!(error, format!("Process {} has ended; its parent has not taken notice yet", zombie.id()));
    let mut zombie = zombie;
    zombie.wait().expect("waited for");
    let gone = of_pid(zombie.id(), Path::new(PROC)).expect_err("gone");
    assert!(matches!(gone, Error::NoSuchProcess { .. }), "{gone}");
}
