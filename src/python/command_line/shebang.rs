//! Scripts that say in their first line which program runs them.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::python::variables::Variables;

/// The kernel reads no more of a first line.
const MAX_LINE: u64 = 512;

/// The command that a script's first line asks for; `None` where it is no such script.
pub fn command(script: &Path) -> Option<Vec<OsString>> {
    // Looked at first: a pipe would be waited for.
    if !script.metadata().is_ok_and(|metadata| metadata.is_file()) {
        return None;
    }
    let mut bytes = Vec::new();
    std::fs::File::open(script).ok()?.take(MAX_LINE).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let mut lines = text.lines();
    let line = lines.next()?.strip_prefix("#!")?.trim();
    if line == "/bin/sh"
        && let Some(second) = lines.next().and_then(|line| line.strip_prefix("'''exec' "))
    {
        // What pip writes where the path of the Python is too long for the kernel, or has a space in it.
        let words = super::shell::commands(second, &[], &Variables::default()).into_iter().next()?;
        return words.into_iter().next().map(|python| vec![python]);
    }
    let (program, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    let words = [program, argument].into_iter().filter(|word| !word.is_empty());
    Some(words.map(OsString::from).collect())
}

/// The first file of that name on PATH.
pub fn on_path(name: &OsStr, folder: &Path, variables: &Variables) -> Option<PathBuf> {
    let folders = std::env::split_paths(variables.non_empty("PATH")?);
    folders.map(|place| folder.join(place).join(name)).find(|file| file.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines_name_a_program() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let script = folder.path().join("script");
        let read = |text: &str| {
            std::fs::write(&script, text).expect("written");
            command(&script)
                .map(|words| words.into_iter().map(|word| word.into_string().expect("text")).collect::<Vec<_>>())
        };
        let words = |words: &[&str]| Some(words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
        assert_eq!(read("#!/v/bin/python\nx"), words(&["/v/bin/python"]));
        assert_eq!(read("#! /v/bin/python3 -I -s \nx"), words(&["/v/bin/python3", "-I -s"]));
        assert_eq!(read("#!/usr/bin/env -S uv run --script"), words(&["/usr/bin/env", "-S uv run --script"]));
        assert_eq!(read("#!/bin/sh\n'''exec' \"/a b/python\" \"$0\" \"$@\"\n' '''\n"), words(&["/a b/python"]));
        assert_eq!(read("import os\n"), None);
        assert_eq!(read(""), None);
        assert_eq!(command(folder.path()), None);
        let variables = [("PATH", folder.path())].into_iter().collect();
        assert_eq!(on_path(OsStr::new("script"), Path::new("/"), &variables), Some(script.clone()));
        assert_eq!(on_path(OsStr::new("none"), Path::new("/"), &variables), None);
    }
}
