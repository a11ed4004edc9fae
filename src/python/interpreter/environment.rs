//! Environments: `pyvenv.cfg`, and where an environment's Python is.

use std::path::{Path, PathBuf};

use super::read_limited;

/// A longer pyvenv.cfg is none.
const MAX_BYTES: u64 = 64 << 10;
/// The file that makes a folder an environment.
const FILE_NAME: &str = "pyvenv.cfg";

/// An environment that a Python belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its folder.
    pub prefix: PathBuf,
    /// Where the Python is that it was made from, as its pyvenv.cfg says.
    pub home: Option<String>,
    /// Whether the packages of that Python belong to it.
    pub includes_base: bool,
}

/// The environment of an executable, as `site` finds it: the executable is not resolved. Where it looks goes into
/// `conditions`.
pub fn of_executable(executable: &Path, conditions: &mut Vec<PathBuf>) -> Option<Environment> {
    let folder = executable.parent()?;
    let prefix = folder.parent()?;
    for place in [folder, prefix] {
        let file = place.join(FILE_NAME);
        conditions.push(file.clone());
        if file.is_file() {
            let text = read_limited(&file, MAX_BYTES).unwrap_or_default();
            return Some(parsed(&String::from_utf8_lossy(&text), prefix));
        }
    }
    None
}

fn parsed(text: &str, prefix: &Path) -> Environment {
    let mut environment = Environment { prefix: prefix.to_owned(), home: None, includes_base: true };
    for (key, value) in text.lines().filter_map(|line| line.split_once('=')) {
        match key.trim().to_lowercase().as_str() {
            "include-system-site-packages" => environment.includes_base = value.trim().to_lowercase() == "true",
            "home" => environment.home = Some(value.trim().to_owned()),
            _ => {}
        }
    }
    environment
}

/// The folder of an environment that its programs are in.
pub fn programs(prefix: &Path) -> PathBuf {
    prefix.join(if cfg!(windows) { "Scripts" } else { "bin" })
}

/// The Python of an environment's folder, or of conda's.
pub fn python_in(folder: &Path) -> Option<PathBuf> {
    let names = if cfg!(windows) { ["python.exe", "python3.exe"] } else { ["python", "python3"] };
    // conda has it beside its folders on Windows.
    let places = [programs(folder), folder.to_owned()];
    let places = places.iter().take(if cfg!(windows) { 2 } else { 1 });
    places.flat_map(|place| names.map(|name| place.join(name))).find(|python| python.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pyvenv_cfg_is_read_as_site_does() {
        let read = |text| parsed(text, Path::new("/p/.venv"));
        let found = read("home = /usr/bin\ninclude-system-site-packages = false\nversion = 3.11.2\n");
        assert_eq!((found.home.as_deref(), found.includes_base), (Some("/usr/bin"), false));
        let found = read("HOME=/a=b\nInclude-System-Site-Packages = TRUE\nodd\n");
        assert_eq!((found.home.as_deref(), found.includes_base), (Some("/a=b"), true));
        assert!(read("").includes_base, "where nothing is said");
    }
}
