//! The files of `/proc` that belong to one process.

use std::ffi::OsString;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::python::command_line::{PythonCommand, parse_in};
use crate::python::variables::Variables;

/// Neither command lines nor variables are longer: the kernel allows 6 MB for both.
const MAX_BYTES: u64 = 8 << 20;
/// What the system writes behind the path of something that is gone.
const DELETED: &str = " (deleted)";

/// What `stat` says of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// `R`, `S`, `Z` and others.
    pub state: u8,
    /// The number of its parent.
    pub parent: u32,
    /// When it was started, in ticks after the system was.
    pub started: u64,
}

/// A process as it is at one moment.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Its number.
    pub pid: u32,
    /// Its parent's.
    pub parent: u32,
    /// When it was started.
    pub started: u64,
    /// Its command line.
    pub argv: Vec<OsString>,
    /// What that means.
    pub command: Option<PythonCommand>,
    /// Its folder.
    pub folder: PathBuf,
    /// Its variables.
    pub variables: Variables,
    /// Its executable, resolved.
    pub resolved: PathBuf,
}

/// Reads what `stat` says.
pub fn stat(proc: &Path, pid: u32) -> Result<Stat> {
    let bytes = read(proc, pid, "stat")?;
    parsed(&bytes).ok_or_else(|| unclear(pid, "shows itself in a way that is not known"))
}

fn parsed(bytes: &[u8]) -> Option<Stat> {
    // The name in front may have any bytes in it, brackets as well.
    let at = bytes.iter().rposition(|byte| *byte == b')')?;
    let text = std::str::from_utf8(bytes.get(at + 1..)?).ok()?;
    let fields: Vec<&str> = text.split_ascii_whitespace().collect();
    let state = *fields.first()?.as_bytes().first()?;
    Some(Stat { state, parent: fields.get(1)?.parse().ok()?, started: fields.get(19)?.parse().ok()? })
}

/// Looks at a process; all that is said of it is of the same one, not of another that has its number meanwhile.
pub fn look(proc: &Path, pid: u32) -> Result<Snapshot> {
    let before = stat(proc, pid)?;
    if matches!(before.state, b'Z' | b'X' | b'x') {
        return Err(unclear(pid, "has ended; its parent has not taken notice yet"));
    }
    let argv = words(&read(proc, pid, "cmdline")?);
    if argv.iter().all(|word| word.is_empty()) {
        return Err(unclear(pid, "has no command line, as those of the kernel have none"));
    }
    let variables = words(&read(proc, pid, "environ")?);
    let variables: Variables = variables.iter().filter_map(variable).collect();
    let folder = folder(proc, pid)?;
    let resolved = link(proc, pid, "exe")?;
    let command = parse_in(&argv, &folder, &variables);
    if stat(proc, pid)?.started != before.started {
        return Err(Error::NoSuchProcess { pid });
    }
    Ok(Snapshot { pid, parent: before.parent, started: before.started, argv, command, folder, variables, resolved })
}

/// The folder that a process is in.
pub fn folder(proc: &Path, pid: u32) -> Result<PathBuf> {
    let folder = link(proc, pid, "cwd")?;
    if folder.to_string_lossy().ends_with(DELETED) && !folder.exists() {
        return Err(unclear(pid, "is in a folder that has been deleted"));
    }
    Ok(folder)
}

/// The numbers of the processes that a process has started, sorted.
pub fn children(proc: &Path, pid: u32) -> Vec<u32> {
    let threads = numbers_in(&proc.join(pid.to_string()).join("task"));
    let lists: Option<Vec<Vec<u8>>> =
        threads.iter().map(|thread| read(proc, pid, &format!("task/{thread}/children")).ok()).collect();
    let mut children: Vec<u32> = match lists.filter(|lists| !lists.is_empty()) {
        Some(lists) => {
            let text = lists.concat();
            String::from_utf8_lossy(&text).split_ascii_whitespace().filter_map(|number| number.parse().ok()).collect()
        }
        // Not every kernel has these lists.
        None => {
            let is_child = |other: &u32| stat(proc, *other).is_ok_and(|stat| stat.parent == pid);
            numbers_in(proc).into_iter().filter(is_child).collect()
        }
    };
    children.sort_unstable();
    children
}

fn numbers_in(folder: &Path) -> Vec<u32> {
    let names = std::fs::read_dir(folder).into_iter().flatten().filter_map(Result::ok);
    names.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// An error for a process of which something cannot be told.
pub fn unclear(pid: u32, reason: impl Into<String>) -> Error {
    Error::UnclearProcess { pid, reason: reason.into() }
}

fn wrong(pid: u32, path: PathBuf, error: io::Error) -> Error {
    match error.kind() {
        // A process that ends while it is looked at reads as one that is not there.
        io::ErrorKind::NotFound => Error::NoSuchProcess { pid },
        _ if error.raw_os_error() == Some(NO_SUCH_PROCESS) => Error::NoSuchProcess { pid },
        io::ErrorKind::PermissionDenied => Error::ForeignProcess { pid },
        _ => Error::io("read", path, error),
    }
}

/// `ESRCH`, the same on all systems that are like Unix.
const NO_SUCH_PROCESS: i32 = 3;

fn read(proc: &Path, pid: u32, name: &str) -> Result<Vec<u8>> {
    let path = proc.join(pid.to_string()).join(name);
    let mut bytes = Vec::new();
    let read = std::fs::File::open(&path).and_then(|file| file.take(MAX_BYTES).read_to_end(&mut bytes));
    read.map(|_| bytes).map_err(|error| wrong(pid, path, error))
}

fn link(proc: &Path, pid: u32, name: &str) -> Result<PathBuf> {
    let path = proc.join(pid.to_string()).join(name);
    std::fs::read_link(&path).map_err(|error| wrong(pid, path, error))
}

fn words(bytes: &[u8]) -> Vec<OsString> {
    let bytes = bytes.strip_suffix(b"\0").unwrap_or(bytes);
    if bytes.is_empty() { Vec::new() } else { bytes.split(|byte| *byte == 0).map(os_string).collect() }
}

fn variable(word: &OsString) -> Option<(OsString, OsString)> {
    let bytes = word.as_encoded_bytes();
    let at = bytes.iter().position(|byte| *byte == b'=')?;
    Some((os_string(bytes.get(..at)?), os_string(bytes.get(at + 1..)?)))
}

#[cfg(unix)]
fn os_string(bytes: &[u8]) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes.to_vec())
}

#[cfg(not(unix))]
fn os_string(bytes: &[u8]) -> OsString {
    String::from_utf8_lossy(bytes).into_owned().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_brackets_does_not_hide_the_fields() {
        let line = b"12 (a) Z (b) S 7 1 1 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0\n";
        assert_eq!(parsed(line), Some(Stat { state: b'S', parent: 7, started: 4242 }));
        assert_eq!(parsed(b"12 (a) S 7 1"), None);
        assert_eq!(parsed(b""), None);
    }

    #[test]
    fn words_end_with_a_nul_and_errors_are_told_apart() {
        assert_eq!(words(b"python\0\0x.py\0"), ["python", "", "x.py"]);
        assert_eq!(words(b"a title"), ["a title"]);
        assert!(words(b"").is_empty());
        let of = |kind: io::ErrorKind| wrong(7, "/proc/7/environ".into(), kind.into());
        assert!(matches!(of(io::ErrorKind::PermissionDenied), Error::ForeignProcess { pid: 7 }));
        assert!(matches!(of(io::ErrorKind::NotFound), Error::NoSuchProcess { pid: 7 }));
        assert!(matches!(of(io::ErrorKind::Other), Error::Io { .. }));
        let gone = io::Error::from_raw_os_error(NO_SUCH_PROCESS);
        assert!(matches!(wrong(7, "/proc/7/stat".into(), gone), Error::NoSuchProcess { pid: 7 }));
        assert_eq!(variable(&"A=b=c".into()), Some(("A".into(), "b=c".into())));
        assert_eq!(variable(&"odd".into()), None);
    }
}
