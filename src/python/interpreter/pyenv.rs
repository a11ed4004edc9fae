//! pyenv: which Python one of its shims would start, without starting it.

use std::path::{Path, PathBuf};

use super::read_limited;
use crate::python::variables::Variables;

/// A longer file of versions is none.
const MAX_BYTES: u64 = 64 << 10;

/// What a shim stands for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Shim {
    /// This executable.
    Executable(PathBuf),
    /// What comes later on PATH.
    System,
    /// Versions that do not have it, or are not installed.
    Missing(Vec<String>),
}

/// pyenv's folder, if a folder on PATH is that of its shims.
pub fn root_of_shims(folder: &Path, variables: &Variables) -> Option<PathBuf> {
    let home = || variables.path("HOME").map(|home| home.join(".pyenv"));
    let root = variables.path("PYENV_ROOT").or_else(home)?;
    let is_root = |root: &PathBuf| folder == root.join("shims");
    // Wherever else it is, pyenv keeps what it has installed beside its shims.
    let other = || folder.parent().filter(|_| folder.ends_with("shims")).filter(|root| root.join("versions").is_dir());
    Some(root).filter(is_root).or_else(|| other().map(Path::to_owned))
}

/// What the shim `name` stands for in a folder.
pub fn resolve(root: &Path, name: &str, folder: &Path, variables: &Variables, looked: &mut Vec<PathBuf>) -> Shim {
    let mut missing = Vec::new();
    for version in versions(root, folder, variables, looked) {
        if version == "system" {
            return Shim::System;
        }
        let installed = installed(&root.join("versions"), &version);
        let program = installed.map(|folder| folder.join(if cfg!(windows) { "" } else { "bin" }).join(name));
        match program.filter(|program| program.is_file()) {
            Some(program) => return Shim::Executable(program),
            None => missing.push(version),
        }
    }
    if missing.is_empty() { Shim::System } else { Shim::Missing(missing) }
}

/// The versions that are chosen: by a variable, by the nearest file upwards, or for the user.
fn versions(root: &Path, folder: &Path, variables: &Variables, looked: &mut Vec<PathBuf>) -> Vec<String> {
    if let Some(versions) = variables.non_empty("PYENV_VERSION") {
        return versions.to_string_lossy().split(':').map(str::to_owned).collect();
    }
    let files = folder.ancestors().map(|folder| folder.join(".python-version")).chain([root.join("version")]);
    for file in files {
        looked.push(file.clone());
        let text = read_limited(&file, MAX_BYTES).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
        let versions: Vec<String> = lines.flat_map(str::split_whitespace).map(str::to_owned).collect();
        if !versions.is_empty() {
            return versions;
        }
    }
    Vec::new()
}

/// The folder of a version, or of the newest that begins with it: `3.11` is 3.11.7.
fn installed(versions: &Path, version: &str) -> Option<PathBuf> {
    let is_name = |version: &str| !version.contains("..") && !version.starts_with('/');
    let version = Some(version).filter(|version| is_name(version))?;
    for name in [Some(version), version.strip_prefix("python-")].into_iter().flatten() {
        let exact = versions.join(name);
        if exact.is_dir() {
            return Some(exact);
        }
        let newest = std::fs::read_dir(versions).into_iter().flatten().filter_map(|entry| {
            let entry = entry.ok()?.file_name().into_string().ok()?;
            let rest = entry.strip_prefix(name)?.strip_prefix('.')?;
            let numbers: Option<Vec<u32>> = rest.split('.').map(|part| part.parse().ok()).collect();
            Some((numbers?, entry))
        });
        if let Some((_, newest)) = newest.max() {
            return Some(versions.join(newest));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn shims_are_resolved_as_pyenv_does() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path().join("pyenv");
        for version in ["3.9.9", "3.9.18", "3.12.1", "mine"] {
            fs::create_dir_all(root.join("versions").join(version).join("bin")).expect("made");
            fs::write(root.join("versions").join(version).join("bin/python3"), "").expect("written");
        }
        fs::create_dir_all(root.join("versions/3.9.20-dev")).expect("made");
        fs::create_dir_all(root.join("shims")).expect("made");
        let inner = folder.path().join("p/a");
        fs::create_dir_all(&inner).expect("made");
        let with = |version: &str| [("PYENV_VERSION", version)].into_iter().collect();
        let resolve = |variables: &Variables| resolve(&root, "python3", &inner, variables, &mut Vec::new());
        let python = |version: &str| Shim::Executable(root.join("versions").join(version).join("bin/python3"));
        assert_eq!(resolve(&Variables::default()), Shim::System, "nothing is chosen");
        fs::write(root.join("version"), "3.12.1\n").expect("written");
        assert_eq!(resolve(&Variables::default()), python("3.12.1"));
        fs::write(folder.path().join("p/.python-version"), "# ours\nnone\n3.9\n").expect("written");
        assert_eq!(resolve(&Variables::default()), python("3.9.18"), "the nearest file, its newest");
        assert_eq!(resolve(&with("mine")), python("mine"));
        assert_eq!(resolve(&with("python-3.12.1")), python("3.12.1"));
        assert_eq!(resolve(&with("system:mine")), Shim::System);
        assert_eq!(resolve(&with("3.1")), Shim::Missing(vec!["3.1".into()]));
        assert_eq!(resolve(&with("../versions/mine")), Shim::Missing(vec!["../versions/mine".into()]));
        let shims = |variables: &Variables| root_of_shims(&root.join("shims"), variables);
        let named = [("PYENV_ROOT", root.to_str().expect("text"))].into_iter().collect();
        assert_eq!(shims(&named), Some(root.clone()));
        let other = [("HOME", "/nowhere")].into_iter().collect();
        assert_eq!(shims(&other), Some(root.clone()), "by what lies beside them");
        assert_eq!(root_of_shims(Path::new("/usr/bin"), &named), None);
    }
}
