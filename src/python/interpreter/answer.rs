//! What an interpreter says of itself.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::defaults;
use crate::python::variables::Variables;

/// Stands in an answer for the folder of an environment.
const ENVIRONMENT: &str = "/:environment:";
/// Stands in an answer for the user's home, or for the user's base folder.
const HOME: &str = "/:home:";

/// A path as an answer has it: each byte is one character.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaidPath(String);

impl SaidPath {
    /// The path itself.
    pub fn path(&self) -> PathBuf {
        let bytes: Option<Vec<u8>> = self.0.chars().map(|char| u8::try_from(u32::from(char)).ok()).collect();
        // An interpreter writes no other characters. A cache that has some is not ours.
        bytes.map(|bytes| os_string(bytes).into()).unwrap_or_default()
    }

    /// The path with its first part replaced, where that is `placeholder`.
    fn filled(&self, placeholder: &str, folder: &Path) -> PathBuf {
        let path = self.path();
        path.strip_prefix(placeholder).map(|rest| folder.join(rest)).unwrap_or(path)
    }
}

#[cfg(unix)]
fn os_string(bytes: Vec<u8>) -> OsString {
    std::os::unix::ffi::OsStringExt::from_vec(bytes)
}

#[cfg(not(unix))]
fn os_string(bytes: Vec<u8>) -> OsString {
    String::from_utf8_lossy(&bytes).into_owned().into()
}

/// What an interpreter says of itself, the same for all environments that are made from it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// `sys.version_info`.
    pub version: (u8, u8, u8),
    /// `sys.platform`.
    pub platform: String,
    /// `os.name`.
    pub os_name: String,
    /// `sys.executable`.
    pub executable: SaidPath,
    /// `sys.base_prefix`.
    pub base_prefix: SaidPath,
    /// `sys.base_exec_prefix`.
    pub base_exec_prefix: SaidPath,
    /// `sys.path` without site.
    pub path: Vec<SaidPath>,
    /// Folders of the standard library.
    pub standard_library: Vec<SaidPath>,
    site_plain: Vec<SaidPath>,
    site_inner: Vec<SaidPath>,
    site_outer: Vec<SaidPath>,
    user_base: SaidPath,
    user_site: SaidPath,
    home: SaidPath,
    /// The endings of compiled modules.
    pub extension_suffixes: Vec<String>,
    /// Names of modules that are in the executable.
    pub built_in: Vec<String>,
    /// Names of modules that are loaded before anything of a project.
    pub loaded_at_start: Vec<String>,
    /// Names of the standard library's modules.
    pub standard_names: Vec<String>,
}

/// Which folders of packages belong to a Python.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach<'a> {
    /// Its own; it is no environment.
    Base,
    /// An environment's alone.
    Environment(&'a Path),
    /// An environment's, then those of the Python that it is made from.
    EnvironmentAndBase(&'a Path),
}

impl Answer {
    /// The folders in which `site` looks for packages, whether they are there or not.
    pub fn site_folders(&self, reach: Reach<'_>) -> Vec<PathBuf> {
        let (said, prefix) = match reach {
            Reach::Base => (&self.site_plain, Path::new("")),
            Reach::Environment(prefix) => (&self.site_inner, prefix),
            Reach::EnvironmentAndBase(prefix) => (&self.site_outer, prefix),
        };
        said.iter().map(|folder| folder.filled(ENVIRONMENT, prefix)).collect()
    }

    /// The folder of the packages that a user has installed for himself, for the user whose variables these are.
    pub fn user_site(&self, variables: &Variables) -> Option<PathBuf> {
        let home = || match self.os_name.as_str() {
            "nt" => variables.path("APPDATA").or_else(|| variables.path("USERPROFILE")),
            // The user's own, where it is not told otherwise.
            _ => variables.path("HOME").or_else(|| Some(self.home.path()).filter(|home| home.is_absolute())),
        };
        let base = match variables.path("PYTHONUSERBASE") {
            Some(base) => base,
            None => self.user_base.filled(HOME, &home()?),
        };
        Some(self.user_site.filled(HOME, &base)).filter(|folder| !folder.as_os_str().is_empty())
    }

    /// The same Python with its library elsewhere, as PYTHONHOME asks for.
    #[must_use]
    pub fn moved(&self, prefix: &Path, exec_prefix: &Path) -> Self {
        let (base, base_exec) = (self.base_prefix.path(), self.base_exec_prefix.path());
        let moved = |said: &SaidPath| {
            let path = said.path();
            // What is compiled lies below the second, where the two differ.
            let rest = |from: &Path, to: &Path| path.strip_prefix(from).map(|rest| to.join(rest)).ok();
            let exec = base != base_exec || path.ends_with("lib-dynload");
            let found = if exec { rest(&base_exec, exec_prefix) } else { None };
            found.or_else(|| rest(&base, prefix)).map_or_else(|| said.clone(), |path| said_path(&path))
        };
        let all = |said: &[SaidPath]| said.iter().map(moved).collect();
        Self {
            base_prefix: said_path(prefix),
            base_exec_prefix: said_path(exec_prefix),
            path: all(&self.path),
            standard_library: all(&self.standard_library),
            site_plain: all(&self.site_plain),
            site_outer: all(&self.site_outer),
            ..self.clone()
        }
    }

    /// Whether it is one that this program can work with.
    pub fn is_sound(&self) -> bool {
        let paths = [&self.path, &self.standard_library, &self.site_plain, &self.site_inner, &self.site_outer];
        let mut paths = paths.into_iter().flatten().chain([&self.base_prefix]);
        !self.path.is_empty() && paths.all(|said| said.path().has_root())
    }

    /// What most interpreters would say, where there is none to be asked.
    pub fn of_no_interpreter() -> Self {
        let texts = |names: &str| names.split_whitespace().map(str::to_owned).collect();
        let none = || SaidPath(String::new());
        Self {
            version: defaults::VERSION,
            platform: defaults::PLATFORM.to_owned(),
            os_name: defaults::OS_NAME.to_owned(),
            executable: none(),
            base_prefix: none(),
            base_exec_prefix: none(),
            path: Vec::new(),
            standard_library: Vec::new(),
            site_plain: Vec::new(),
            site_inner: Vec::new(),
            site_outer: Vec::new(),
            user_base: none(),
            user_site: none(),
            home: none(),
            extension_suffixes: defaults::EXTENSION_SUFFIXES.iter().map(|&suffix| suffix.to_owned()).collect(),
            built_in: texts(defaults::BUILT_IN),
            loaded_at_start: texts(defaults::LOADED_AT_START),
            standard_names: texts(defaults::STANDARD_NAMES),
        }
    }
}

fn said_path(path: &Path) -> SaidPath {
    SaidPath(path.as_os_str().as_encoded_bytes().iter().map(|byte| char::from(*byte)).collect())
}

/// Variables for the interpreter that is asked: none that would change what it says of itself.
pub fn without_python_variables(variables: &Variables) -> BTreeMap<OsString, OsString> {
    let is_kept = |name: &str| !name.starts_with("PYTHON") && name != "__PYVENV_LAUNCHER__";
    let all = variables.iter().filter(|(name, _)| is_kept(&name.to_string_lossy()));
    all.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_bytes_that_are_no_text() {
        let said = SaidPath("/a/\u{ff}\u{c3}\u{a9}".into());
        #[cfg(unix)]
        assert_eq!(said.path().as_os_str().as_encoded_bytes(), b"/a/\xff\xc3\xa9");
        assert_eq!(said_path(&said.path()), said);
        assert_eq!(SaidPath("/a/\u{100}".into()).path(), PathBuf::new());
    }

    #[test]
    fn placeholders_are_filled() {
        let mut answer = Answer::of_no_interpreter();
        answer.site_inner = vec![SaidPath("/:environment:/lib/python3.12/site-packages".into())];
        answer.user_base = SaidPath("/:home:/.local".into());
        answer.user_site = SaidPath("/:home:/lib/python3.12/site-packages".into());
        answer.home = SaidPath("/home/me".into());
        let folders = answer.site_folders(Reach::Environment(Path::new("/p/.venv")));
        assert_eq!(folders, [PathBuf::from("/p/.venv/lib/python3.12/site-packages")]);
        let user_site = |variables: &[(&str, &str)]| answer.user_site(&variables.iter().copied().collect());
        assert_eq!(user_site(&[("HOME", "/h")]), Some("/h/.local/lib/python3.12/site-packages".into()));
        assert_eq!(user_site(&[("PYTHONUSERBASE", "/u")]), Some("/u/lib/python3.12/site-packages".into()));
        assert_eq!(user_site(&[]), Some("/home/me/.local/lib/python3.12/site-packages".into()));
    }
}
