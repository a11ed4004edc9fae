//! The finders that editable installs put into a folder of packages: which names they map to which files.
//!
//! What setuptools writes (`__editable___X_finder.py`), and what the `editables` library, scikit-build-core and
//! meson-python write. Nothing of it is executed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::literals::{Literal, assigned, calls, last_call, last_call_within};
use crate::python::interpreter::read_limited;

/// A longer finder is not read. It has a line for each module at most.
const MAX_FINDER_BYTES: u64 = 4 << 20;
/// The same for meson's plan of what it installs.
const MAX_PLAN_BYTES: u64 = 16 << 20;

/// What finders map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Editable {
    /// Names of modules, with a file or the folder of a package.
    pub modules: BTreeMap<String, PathBuf>,
    /// Names of namespace packages, with the folders that they have beside the mapped modules in them; often none.
    pub namespaces: BTreeMap<String, Vec<PathBuf>>,
    /// The names among both that are found before `sys.path` is searched.
    pub first: BTreeSet<String>,
}

impl Editable {
    /// Adds what another finder maps. Who comes first is asked first.
    pub fn add(&mut self, other: Self) {
        self.first.extend(other.first.into_iter().filter(|name| !self.modules.contains_key(name)));
        for (name, path) in other.modules {
            self.modules.entry(name).or_insert(path);
        }
        for (name, folders) in other.namespaces {
            let known = self.namespaces.entry(name).or_default();
            for folder in folders {
                if !known.contains(&folder) {
                    known.push(folder);
                }
            }
        }
    }

    fn map(&mut self, name: &str, path: PathBuf) {
        let is_package = path.file_stem().is_some_and(|stem| stem == "__init__");
        let path = if is_package { path.parent().map_or_else(|| path.clone(), Path::to_owned) } else { path };
        self.modules.insert(name.to_owned(), path);
    }
}

/// What a module maps that a `.pth` file imports; `None` where it is no finder that is known. `folder` is the folder of
/// packages that it lies in.
pub fn read_finder(module: &Path, folder: &Path, suffixes: &[String]) -> Option<Editable> {
    let name = module.file_stem()?.to_str()?;
    let is_candidate = name.contains("editable");
    let text = if is_candidate { read_limited(module, MAX_FINDER_BYTES) } else { None }?;
    let text = String::from_utf8(text).ok()?;
    if name.starts_with("__editable___") && name.ends_with("_finder") {
        return setuptools(&text, suffixes);
    }
    if name.starts_with("_editable_impl_") {
        return Some(editables(&text));
    }
    // Newer versions of meson-python make the finder in a function.
    if let Some(arguments) = last_call_within(&text, "MesonpyMetaFinder") {
        return meson_python(&arguments);
    }
    let arguments = last_call(&text, "install")?;
    meson_python(&arguments).or_else(|| scikit_build_core(&arguments, folder))
}

fn setuptools(text: &str, suffixes: &[String]) -> Option<Editable> {
    let mut found = Editable::default();
    for (name, path) in assigned(text, "MAPPING")?.entries() {
        let path = Path::new(path.text()?);
        // The finder tries the package, then each ending; `with_extension` replaces one, as it does.
        let ending = |suffix: &str| path.with_extension(suffix.trim_start_matches('.'));
        let endings = ["py", "pyc"].into_iter().chain(suffixes.iter().map(String::as_str)).map(ending);
        let file =
            if path.join("__init__.py").exists() { None } else { endings.into_iter().find(|file| file.exists()) };
        found.modules.insert(name.to_owned(), file.unwrap_or_else(|| path.to_owned()));
    }
    for (name, folders) in assigned(text, "NAMESPACES").iter().flat_map(Literal::entries) {
        found.namespaces.insert(name.to_owned(), folders.texts().into_iter().map(PathBuf::from).collect());
    }
    Some(found)
}

fn editables(text: &str) -> Editable {
    let mut found = Editable::default();
    for call in calls(text, "F.map_module") {
        if let [Literal::Text(name), Literal::Text(path)] = call.as_slice() {
            found.map(name, path.into());
        }
    }
    found
}

/// `install({module: source}, {module: file in the folder of packages}, ...)`.
fn scikit_build_core(arguments: &[Literal], folder: &Path) -> Option<Editable> {
    let [sources @ Literal::Mapping(_), installed @ Literal::Mapping(_), others @ ..] = arguments else { return None };
    let mut found = Editable::default();
    for (name, path) in installed.entries() {
        found.map(name, folder.join(path.text()?));
    }
    for (name, path) in sources.entries() {
        found.map(name, path.text()?.into());
    }
    // Newer versions tell the folders of all packages, of those without an `__init__` as well.
    for (name, folders) in others.first().into_iter().flat_map(Literal::entries) {
        if !found.modules.contains_key(name) {
            let folders = folders.texts().into_iter().map(|path| folder.join(path));
            found.namespaces.insert(name.to_owned(), folders.collect());
        }
    }
    found.first = found.modules.keys().chain(found.namespaces.keys()).cloned().collect();
    Some(found)
}

/// `install([name,] {top-level modules}, build folder, ...)`: the rest stands in meson's plan in the build folder.
fn meson_python(arguments: &[Literal]) -> Option<Editable> {
    let at = arguments.iter().position(|argument| matches!(argument, Literal::Sequence(_)))?;
    let names = arguments.get(at)?.texts();
    let build = Path::new(arguments.get(at + 1)?.text()?);
    let plan = read_limited(&build.join("meson-info/intro-install_plan.json"), MAX_PLAN_BYTES)?;
    let plan: Value = serde_json::from_slice(&plan).ok()?;
    let mut found = Editable::default();
    let files = plan.as_object()?.values().filter_map(Value::as_object).flatten();
    for (source, said) in files {
        let Some(destination) = said.get("destination").and_then(Value::as_str) else { continue };
        let below = ["{py_purelib}/", "{py_platlib}/"].iter().find_map(|place| destination.strip_prefix(place));
        let Some(below) = below else { continue };
        let module = match below.strip_suffix("/__init__.py") {
            Some(package) => package,
            None => below.split_once('.').map_or(below, |(stem, _)| stem),
        };
        let name = module.replace('/', ".");
        if names.contains(&name.split('.').next().unwrap_or_default()) {
            found.map(&name, source.into());
        }
    }
    found.first = found.modules.keys().cloned().collect();
    Some(found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(path, text).expect("written");
    }

    fn modules(found: &Editable, root: &Path) -> Vec<(String, String)> {
        let shown = |path: &Path| path.strip_prefix(root).unwrap_or(path).display().to_string();
        found.modules.iter().map(|(name, path)| (name.clone(), shown(path))).collect()
    }

    fn rows(rows: &[(&str, &str)]) -> Vec<(String, String)> {
        rows.iter().map(|(name, path)| ((*name).to_owned(), (*path).to_owned())).collect()
    }

    #[test]
    fn setuptools_maps_packages_modules_and_namespaces() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        write(&root.join("src/a/__init__.py"), "");
        write(&root.join("src/m.py"), "");
        write(&root.join("src/c.abi3.so"), "");
        let finder = root.join("__editable___a_1_0_finder.py");
        let at = root.display();
        let text = format!(
            "import sys\nMAPPING: dict[str, str] = {{'a': '{at}/src/a', 'm': '{at}/src/m', 'c': '{at}/src/c'}}\n\
             NAMESPACES: dict[str, list[str]] = {{'n': ['{at}/src/n'], 'e': []}}\n\nclass X:\n    pass\n"
        );
        write(&finder, &text);
        let found = read_finder(&finder, root, &[".abi3.so".into()]).expect("known");
        assert_eq!(modules(&found, root), rows(&[("a", "src/a"), ("c", "src/c.abi3.so"), ("m", "src/m.py")]));
        let namespaces = [("e".to_owned(), vec![]), ("n".to_owned(), vec![root.join("src/n")])];
        assert_eq!(found.namespaces, namespaces.into_iter().collect());
        assert!(found.first.is_empty());
    }

    #[test]
    fn other_finders_are_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let finder = root.join("_editable_impl_x.py");
        write(
            &finder,
            "from editables.redirector import RedirectingFinder as F\nF.install()\nF.map_module('x', '/p/x/__init__.py')\n",
        );
        assert_eq!(modules(&read_finder(&finder, root, &[]).expect("known"), root), rows(&[("x", "/p/x")]));
        let finder = root.join("_y_editable.py");
        write(
            &finder,
            "def install(a):\n    pass\n\n\ninstall({'y': '/p/y/__init__.py', 'y.z': '/p/y/z.py'}, {'y.c': 'y/c.so'}, None, False, True, [], [], '')\n",
        );
        let found = read_finder(&finder, root, &[]).expect("known");
        assert_eq!(modules(&found, root), rows(&[("y", "/p/y"), ("y.c", "y/c.so"), ("y.z", "/p/y/z.py")]));
        assert_eq!(found.first.len(), 3);
        let finder = root.join("_editable_skbc_z.py");
        write(
            &finder,
            "\n\ninstall({'z': '/p/z/__init__.py'}, {}, {'z': ['/p/z'], 'z.n': ['/p/z/n', 'z/n']}, ['z'], None, False)\n",
        );
        let found = read_finder(&finder, root, &[]).expect("known");
        assert_eq!(modules(&found, root), rows(&[("z", "/p/z")]));
        assert_eq!(found.namespaces.get("z.n"), Some(&vec!["/p/z/n".into(), root.join("z/n")]));
    }

    #[test]
    fn mesons_plan_is_read() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let root = folder.path();
        let plan = r#"{"python": {
            "/p/w/__init__.py": {"destination": "{py_purelib}/w/__init__.py", "tag": "python-runtime"},
            "/p/w/a.py": {"destination": "{py_purelib}/w/a.py"},
            "/p/other.py": {"destination": "{py_purelib}/other.py"}},
            "targets": {"/b/w/c.cpython-312.so": {"destination": "{py_platlib}/w/c.cpython-312.so"},
            "/b/tool": {"destination": "{bindir}/tool"}}}"#;
        write(&root.join("build/meson-info/intro-install_plan.json"), plan);
        for name in ["", "'w', "] {
            let finder = root.join("_w_editable_loader.py");
            let build = root.join("build");
            write(
                &finder,
                &format!("\ninstall(\n    {name}{{'w'}},\n    '{}',\n    ['ninja'],\n    False,\n)\n", build.display()),
            );
            let found = read_finder(&finder, root, &[]).expect("known");
            assert_eq!(
                modules(&found, root),
                rows(&[("w", "/p/w"), ("w.a", "/p/w/a.py"), ("w.c", "/b/w/c.cpython-312.so")])
            );
        }
        let finder = root.join("_w_editable_loader.py");
        let build = root.join("build");
        let text =
            "class MesonpyMetaFinder(MetaPathFinder):\n    pass\n\ndef init():\n    finder = MesonpyMetaFinder(\n";
        write(
            &finder,
            &format!(
                "{text}        'w',\n        {{'w'}},\n        '{}',\n        ['ninja'],\n        False,\n    )\n",
                build.display()
            ),
        );
        assert_eq!(read_finder(&finder, root, &[]).expect("known").modules.len(), 3);
        assert_eq!(read_finder(&root.join("none_editable.py"), root, &[]), None);
    }
}
