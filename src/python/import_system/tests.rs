use std::fs;

use tempfile::TempDir;

use super::*;

/// A project and a folder of installed packages, both with the files that are named.
struct Laid {
    folder: TempDir,
    interpreter: Interpreter,
}

impl Laid {
    fn new(files: &[&str]) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let base = folder.path().canonicalize().expect("resolved");
        for file in ["project/main.py", "site-packages/README"].iter().chain(files) {
            let path = base.join(file);
            fs::create_dir_all(path.parent().expect("a folder")).expect("made");
            fs::write(path, "").expect("written");
        }
        let site = base.join("site-packages");
        let interpreter = Interpreter {
            executable: None,
            version: (3, 11, 0),
            platform: "linux".into(),
            os_name: "posix".into(),
            prefix: PathBuf::new(),
            programs: PathBuf::new(),
            standard_library: Vec::new(),
            site_packages: vec![site.clone()],
            search_path: vec![site],
            editable_modules: Default::default(),
            editable_namespaces: Default::default(),
            editable_first: Default::default(),
            built_in: Default::default(),
            loaded_at_start: Default::default(),
            standard_names: ["json".to_owned()].into_iter().collect(),
            extension_suffixes: vec![".abi3.so".into(), ".so".into()],
            conditions: Vec::new(),
        };
        Self { folder, interpreter }
    }

    fn base(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("resolved")
    }

    fn finder(&self) -> Finder<'_> {
        let root = self.base().join("project");
        Finder::new(&self.interpreter, &root, std::slice::from_ref(&root), Vec::new())
    }

    /// What a name leads to, in one word or by the file's path.
    fn told(&self, name: &str) -> String {
        match self.finder().find(name) {
            Found::Module(module) => module.file.strip_prefix(self.base()).expect("below").display().to_string(),
            Found::Namespace(_) => "namespace".into(),
            Found::Installed => "installed".into(),
            Found::Missing => "missing".into(),
        }
    }
}

#[test]
fn what_is_installed_is_told_from_what_is_only_a_folder() {
    let laid = Laid::new(&[
        "site-packages/source/__init__.py",
        "site-packages/bytecode/__init__.pyc",
        "site-packages/extension/__init__.abi3.so",
        "site-packages/single.py",
        "site-packages/beside/data.csv",
        "site-packages/beside.py",
        "site-packages/no_package/data.csv",
        "site-packages/text/__init__.txt",
        "project/json.py",
    ]);
    for name in ["source", "bytecode", "extension", "single", "beside", "source.part"] {
        assert_eq!(laid.told(name), "installed", "{name}");
    }
    for name in ["no_package", "text", "README", "__init__", "gone"] {
        assert_eq!(laid.told(name), "missing", "{name}");
    }
    assert_eq!(laid.told("json"), "project/json.py", "what comes first wins over the library");
}

#[test]
fn the_project_comes_first_and_a_part_of_a_namespace_last() {
    let laid = Laid::new(&[
        "project/both/__init__.py",
        "site-packages/both/__init__.py",
        "project/part/inner.py",
        "site-packages/part/__init__.py",
        "project/own/inner.py",
    ]);
    assert_eq!(laid.told("both"), "project/both/__init__.py");
    assert_eq!(laid.told("part"), "installed", "a package wins over a folder that comes before it");
    assert_eq!((laid.told("own"), laid.told("own.inner")), ("namespace".into(), "project/own/inner.py".into()));
}

#[test]
fn endings_are_tried_in_pythons_order() {
    let laid = Laid::new(&[
        "project/pkg/a.py",
        "project/pkg/a.pyc",
        "project/pkg/a.so",
        "project/pkg/a.abi3.so",
        "project/pkg/b.so",
        "project/pkg/b.py",
        "project/pkg/c.pyc",
        "project/pkg/c.py",
        "project/pkg/d.pyc",
        "project/pkg/d.other.so",
        "project/pkg/e.py",
        "project/pkg/e/__init__.py",
        "project/pkg/f.pyw",
        "project/pkg/g.py/x",
        "project/pkg/__init__.py",
    ]);
    let files = ["a.abi3.so", "b.so", "c.py", "d.pyc", "e/__init__.py"];
    for (name, file) in ["a", "b", "c", "d", "e"].iter().zip(files) {
        assert_eq!(laid.told(&format!("pkg.{name}")), format!("project/pkg/{file}"));
    }
    for name in ["f", "g", "pk", "a.b"] {
        assert_eq!(laid.told(&format!("pkg.{name}")), "missing", "{name}");
    }
}

#[test]
fn what_lies_in_an_environment_below_the_project_is_installed() {
    let mut laid = Laid::new(&["project/env/__init__.py", "project/env/site/pkg/__init__.py", "project/env/own.py"]);
    laid.interpreter.site_packages.push(laid.base().join("project/env/site"));
    assert_eq!(laid.told("env.own"), "project/env/own.py");
    assert_eq!(laid.told("env.site"), "namespace");
    assert_eq!(laid.told("env.site.pkg"), "installed");
}

#[test]
fn before_the_start_there_is_no_folder_of_the_program() {
    let laid = Laid::new(&["project/sitecustomize.py", "site-packages/usercustomize.py", "other/early.py"]);
    let finder = laid.finder();
    let before = finder.before_start(&[laid.base().join("other")]);
    assert_eq!(before.find_on_path("sitecustomize"), Found::Missing);
    assert_eq!(before.find_on_path("usercustomize"), Found::Installed);
    assert!(matches!(before.find_on_path("early"), Found::Module(_)));
    assert!(matches!(finder.find_on_path("sitecustomize"), Found::Module(_)));
}
