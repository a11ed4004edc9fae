//! Asks an interpreter what only it knows, in a way that runs nothing but itself.

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::answer::{Answer, without_python_variables};
use crate::python::variables::Variables;

/// What it is asked.
const QUESTION: &str = include_str!("ask.py");
/// Who has not answered by then does not.
const PATIENCE: Duration = Duration::from_secs(10);
/// A longer answer is none.
const MAX_BYTES: u64 = 1 << 20;
/// How much of what an interpreter complains about is shown.
const SHOWN_CHARS: usize = 200;
/// How often a process is looked at that has closed its output but has not ended.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// Runs the interpreter and returns what it says; an error tells why it does not.
///
/// Isolated (neither a folder of the project nor PYTHON variables) and without site: no line of a `.pth` file, no
/// sitecustomize and nothing else that is installed is executed.
pub fn ask(executable: &Path, folder: &Path, variables: &Variables) -> Result<Answer, String> {
    ask_within(PATIENCE, executable, folder, variables)
}

fn ask_within(patience: Duration, executable: &Path, folder: &Path, variables: &Variables) -> Result<Answer, String> {
    let mut command = Command::new(executable);
    command.args(["-I", "-S", "-B", "-c", QUESTION]).env_clear().envs(without_python_variables(variables));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if folder.is_dir() {
        // Scripts that stand in for an interpreter may choose by the folder.
        command.current_dir(folder);
    }
    own_group(&mut command);
    let mut child = command.spawn().map_err(|e| format!("it does not start: {}", e.kind()))?;
    let said = read(child.stdout.take());
    let complaint = read(child.stderr.take());
    let end = Instant::now() + patience;
    let outcome = said.recv_timeout(patience).ok().and_then(|said| {
        let complaint = complaint.recv_timeout(end.saturating_duration_since(Instant::now())).ok()?;
        Some((said, complaint, ended(&mut child, end)?))
    });
    let Some((said, complaint, success)) = outcome else {
        kill(&mut child);
        return Err(format!("no answer within {} s", patience.as_secs_f32()));
    };
    if said.len() as u64 >= MAX_BYTES {
        return Err("its answer is too long".into());
    }
    if !success {
        return Err(refusal(&complaint));
    }
    // A script in between may have said something first.
    let said = String::from_utf8_lossy(&said);
    let answer = said.lines().last().and_then(|line| serde_json::from_str::<Answer>(line).ok());
    answer.filter(Answer::is_sound).ok_or_else(|| "it does not answer as Python does".into())
}

/// Why an interpreter has failed, of what it has complained about.
fn refusal(complaint: &[u8]) -> String {
    let complaint = String::from_utf8_lossy(complaint);
    if complaint.contains("Unknown option: -I") {
        return "it is Python 2, which is not supported".into();
    }
    let line = complaint.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("it fails and does not say why");
    line.trim().chars().take(SHOWN_CHARS).collect()
}

/// Reads a stream up to its end or the limit. Whoever writes more than that is not read, and ends or is killed.
fn read(stream: Option<impl Read + Send + 'static>) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(stream) = stream {
            let _ = stream.take(MAX_BYTES).read_to_end(&mut bytes);
        }
        // Nobody listens any more once the time is over.
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits for the end of a process; `None` where that does not come in time.
fn ended(child: &mut Child, end: Instant) -> Option<bool> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Some(status.success()),
            Ok(None) if Instant::now() < end => std::thread::sleep(LOOK_EVERY),
            _ => return None,
        }
    }
}

#[cfg(unix)]
fn own_group(command: &mut Command) {
    std::os::unix::process::CommandExt::process_group(command, 0);
}

#[cfg(not(unix))]
fn own_group(_command: &mut Command) {}

/// Kills a process, with those that it has started: they have a group of their own.
fn kill(child: &mut Child) {
    #[cfg(unix)]
    if let Some(group) = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw) {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

#[cfg(all(test, unix))]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn script(folder: &Path, text: &str) -> std::path::PathBuf {
        let path = folder.join("python3");
        std::fs::write(&path, text).expect("written");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        path
    }

    fn outcome(text: &str) -> String {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let variables = [("PATH", "/usr/bin:/bin")].into_iter().collect();
        let path = script(folder.path(), text);
        ask_within(Duration::from_millis(1_500), &path, folder.path(), &variables).map(|_| ()).expect_err("no Python")
    }

    #[test]
    fn what_is_no_python_is_told() {
        assert_eq!(outcome("#!/bin/sh\necho hello\n"), "it does not answer as Python does");
        assert_eq!(outcome("#!/bin/sh\necho '{}'\n"), "it does not answer as Python does");
        assert_eq!(outcome("#!/bin/sh\necho broken >&2; exit 1\n"), "broken");
        assert_eq!(outcome("#!/bin/sh\nexit 1\n"), "it fails and does not say why");
        assert_eq!(
            outcome("#!/bin/sh\necho 'Unknown option: -I' >&2; exit 2\n"),
            "it is Python 2, which is not supported"
        );
        assert_eq!(outcome("#!/nowhere/sh\n"), "it does not start: entity not found");
    }

    #[test]
    fn neither_silence_nor_endless_talk_holds_it_up() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let left = folder.path().join("left");
        // The one that is started in between would write the file, if it lived.
        let text = format!("#!/bin/sh\n(sleep 2; echo x > '{}') & sleep 60\n", left.display());
        assert_eq!(outcome(&text), "no answer within 1.5 s");
        let endless = outcome("#!/bin/sh\nexec tr '\\0' x < /dev/zero\n");
        assert_eq!(endless, "its answer is too long");
        assert!(!left.exists());
    }
}
