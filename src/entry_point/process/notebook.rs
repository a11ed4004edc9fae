//! Which notebook a kernel executes, as far as its variables tell.
//!
//! A kernel whose notebook is not known stays so: the newest notebook of its folder would be a guess.

use std::path::{Path, PathBuf};

use crate::python::variables::Variables;

/// Variables that name the notebook, the surest first, each with how sure that is. The front ends set the second once:
/// it is stale after a rename.
const VARIABLES: [(&str, f64); 2] = [("PAPERMILL_INPUT_PATH", 0.9), ("JPY_SESSION_NAME", 0.7)];
/// What VS Code puts into the name of a session, with something random behind it.
const SESSION_MARK: &str = "-jvsc-";

/// A notebook that a kernel executes.
#[derive(Debug, Clone, PartialEq)]
pub struct KernelNotebook {
    /// The file, absolute.
    pub path: PathBuf,
    /// The variable that names it.
    pub variable: &'static str,
    /// How sure that is.
    pub confidence: f64,
}

/// The notebook of a kernel with these variables.
pub fn of_kernel(variables: &Variables, folder: &Path, warnings: &mut Vec<String>) -> Option<KernelNotebook> {
    for (variable, confidence) in VARIABLES {
        let Some(named) = variables.path(variable) else { continue };
        let path = without_session(&folder.join(named));
        if path.is_file() {
            return Some(KernelNotebook { path, variable, confidence });
        }
        if path.extension().is_some_and(|ending| ending == "ipynb") {
            warnings.push(format!("{variable} names {}, which is not there", path.display()));
        }
    }
    None
}

fn without_session(path: &Path) -> PathBuf {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    match name.split_once(SESSION_MARK) {
        Some((stem, _)) if stem.ends_with(".ipynb") => path.with_file_name(stem),
        Some((stem, _)) => path.with_file_name(format!("{stem}.ipynb")),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notebook_is_what_a_variable_names_if_it_is_there() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let at = |name: &str| folder.path().join(name);
        for name in ["a.ipynb", "b.ipynb"] {
            std::fs::write(at(name), "{}").expect("written");
        }
        let read = |variables: &[(&str, &str)]| {
            let mut warnings = Vec::new();
            let variables = variables.iter().copied().collect();
            let found = of_kernel(&variables, folder.path(), &mut warnings);
            (found.map(|found| (found.path, found.variable, found.confidence)), warnings.len())
        };
        let session = Some((at("a.ipynb"), "JPY_SESSION_NAME", 0.7));
        assert_eq!(read(&[("JPY_SESSION_NAME", "a.ipynb")]), (session.clone(), 0));
        let full = at("a-jvsc-0123.ipynb");
        assert_eq!(read(&[("JPY_SESSION_NAME", full.to_str().expect("text"))]), (session.clone(), 0));
        assert_eq!(read(&[("JPY_SESSION_NAME", "a.ipynb-jvsc-0123.ipynb")]), (session, 0));
        let papermill = Some((at("b.ipynb"), "PAPERMILL_INPUT_PATH", 0.9));
        assert_eq!(read(&[("JPY_SESSION_NAME", "a.ipynb"), ("PAPERMILL_INPUT_PATH", "b.ipynb")]), (papermill, 0));
        assert_eq!(read(&[("JPY_SESSION_NAME", "renamed.ipynb")]), (None, 1), "never another one");
        assert_eq!(read(&[("JPY_SESSION_NAME", "a console")]), (None, 0));
        assert_eq!(read(&[]), (None, 0));
    }
}
