use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// What a program says that the Python under test runs.
fn said_by(python: &Path, options: &[&str], variables: &Variables, folder: &Path, program: &str) -> String {
    let mut command = Command::new(python);
    command.args(options).args(["-c", program]).env_clear().current_dir(folder);
    command.envs(variables.iter());
    let output = command.output().expect("Python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("text")
}

fn environment_path() -> String {
    std::env::var("PATH").expect("PATH is set")
}

/// The Python of this machine, by the very way that is under test, and by asking it.
fn base_python() -> PathBuf {
    let variables = std::env::vars_os().collect();
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output();
    let said = String::from_utf8(output.expect("there is a python3").stdout).expect("text");
    let found = found(Path::new("/"), None, &variables, Flags::default()).0;
    assert_eq!(found.executable.as_deref(), Some(Path::new(said.trim())));
    said.trim().into()
}

fn found(root: &Path, python: Option<&Path>, variables: &Variables, flags: Flags) -> (Interpreter, Vec<String>) {
    find(&Choice { python, root, working_folder: root, variables, flags }, None).expect("a Python")
}

struct Setup {
    folder: tempfile::TempDir,
    base: PathBuf,
}

impl Setup {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder"), base: base_python() }
    }

    fn root(&self) -> PathBuf {
        self.folder.path().canonicalize().expect("there")
    }

    /// Makes an environment and returns its folder.
    fn environment(&self, name: &str, options: &[&str]) -> PathBuf {
        let folder = self.root().join(name);
        let made = Command::new(&self.base).args(["-m", "venv", "--without-pip"]).args(options).arg(&folder).status();
        assert!(made.expect("Python runs").success());
        folder
    }

    fn write(&self, path: impl AsRef<Path>, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.root().join(path);
        fs::create_dir_all(path.parent().expect("in a folder")).expect("made");
        fs::write(&path, text).expect("written");
        path
    }

    fn variables(&self, more: &[(&str, &str)]) -> Variables {
        let home = self.root().join("home");
        let mut variables: Variables = more.iter().copied().collect();
        variables.set("HOME", home);
        if variables.get("PATH").is_none() {
            variables.set("PATH", environment_path());
        }
        variables
    }
}

fn site_packages(environment: &Path, python: &Path) -> PathBuf {
    let program = "import site; print(site.getsitepackages()[0])";
    let said = said_by(python, &[], &Variables::default(), Path::new("/"), program);
    let folder = PathBuf::from(said.trim());
    assert!(folder.starts_with(environment), "{said}");
    folder
}

/// The search path of a Python under some flags is what it says itself.
fn assert_same_path(python: &Path, options: &[&str], flags: Flags, variables: &Variables, root: &Path) -> Interpreter {
    let (interpreter, warnings) = found(root, Some(python), variables, flags);
    assert!(warnings.is_empty(), "{warnings:?}");
    let said = said_by(python, options, variables, root, "import sys; print('\\n'.join(sys.path))");
    let with = flags.with_variables(variables);
    let skipped = usize::from(!with.safe_path)
        + variables.get("PYTHONPATH").map_or(0, |path| std::env::split_paths(path).count());
    // A finder of setuptools adds a word that names no folder.
    // What lines append they append again where `site` reads a folder twice.
    let mut seen = BTreeSet::new();
    let said = said.lines().skip(skipped).filter(|line| !line.ends_with(".__path_hook__") && seen.insert(*line));
    let said: Vec<PathBuf> = said.map(PathBuf::from).collect();
    assert_eq!(interpreter.search_path, said, "{options:?} {variables:?}");
    let program = "import sys; print('%d %d %d' % sys.version_info[:3], sys.platform, sys.prefix, sep='\\n')";
    let said = said_by(python, options, variables, root, program);
    let mut said = said.lines();
    let version =
        said.next().expect("said").split(' ').map(|part| part.parse().expect("a number")).collect::<Vec<u8>>();
    assert_eq!(version, [interpreter.version.0, interpreter.version.1, interpreter.version.2]);
    assert_eq!(said.next(), Some(interpreter.platform.as_str()));
    if !flags.no_site {
        assert_eq!(said.next().map(Path::new), Some(interpreter.prefix.as_path()));
    }
    interpreter
}

#[test]
fn the_search_path_is_what_python_says_itself() {
    let setup = Setup::new();
    let root = setup.root();
    let plain = setup.environment("plain", &[]);
    let copied = setup.environment("copied", &["--copies"]);
    let outer = setup.environment("outer", &["--system-site-packages"]);
    let python = |environment: &Path| environment.join("bin/python");
    let user =
        said_by(&setup.base, &[], &setup.variables(&[]), &root, "import site; print(site.getusersitepackages())");
    let user = PathBuf::from(user.trim());
    setup.write(user.join("u.pth"), "../added\n");
    setup.write(user.parent().expect("above").join("added/x.py"), "");
    for environment in [&plain, &outer] {
        let site = site_packages(environment, &python(environment));
        setup
            .write(site.join("b.pth"), format!("# note\n\n{}\nmissing\nsub/../sub\nsub\n", root.join("src").display()));
        setup.write(site.join("a.pth"), "import sys; sys.path.append('/appended')\nimport os\narchive.zip\n");
        setup.write(site.join("c.pth"), "import nothing_of_that_name_xyz if False else os\nsub2\n");
        setup.write(site.join("archive.zip"), "");
        setup.write(site.join("sub/x.py"), "");
        setup.write(site.join("d.pth"), b"import site; site.addsitedir('/nowhere')\nsub3  \t\nlast".as_slice());
        setup.write(site.join("sub3/x.py"), "");
        setup.write(site.join(".hidden.pth"), "sub4\n");
        setup.write(site.join("sub4/x.py"), "");
        setup.write(site.join("last/x.py"), "");
        fs::remove_file(site.join("c.pth")).expect("removed");
    }
    setup.write("src/a.py", "");
    let none = Flags::default();
    let all_flags = [
        (vec![], none),
        (vec!["-I"], Flags { isolated: true, ..none }),
        (vec!["-S"], Flags { no_site: true, ..none }),
        (vec!["-s"], Flags { no_user_site: true, ..none }),
        (vec!["-E"], Flags { ignore_environment: true, ..none }),
    ];
    let user_base = root.join("other_base");
    let other = user_base.join(user.strip_prefix(root.join("home/.local")).expect("below it"));
    setup.write(other.join("x.py"), "");
    let pythonpath = format!("{}:/nowhere", root.join("src2").display());
    let all_variables = [
        setup.variables(&[]),
        setup.variables(&[("PYTHONNOUSERSITE", "1")]),
        setup.variables(&[("PYTHONUSERBASE", user_base.to_str().expect("text"))]),
        setup.variables(&[("PYTHONPATH", &pythonpath)]),
    ];
    for python in [&setup.base, &python(&plain), &python(&copied), &python(&outer)] {
        for (options, flags) in &all_flags {
            for variables in &all_variables {
                if variables.get("PYTHONPATH").is_some() && flags.ignores_environment() {
                    continue;
                }
                assert_same_path(python, options, *flags, variables, &root);
            }
        }
    }
}

#[test]
fn every_python_of_this_machine_agrees() {
    let setup = Setup::new();
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let installed = fs::read_dir(home.join(".pyenv/versions")).into_iter().flatten().filter_map(Result::ok);
    let all = installed
        .map(|version| version.path().join("bin/python3"))
        .chain(["/usr/bin/python3".into(), setup.base.clone()]);
    for python in all.filter(|python| python.is_file()) {
        let old = ["3.6.", "3.7.", "3.8."].iter().any(|old| python.to_string_lossy().contains(&format!("/{old}")));
        if old {
            let warnings = found(&setup.root(), Some(&python), &setup.variables(&[]), Flags::default()).1;
            assert!(warnings[0].contains("older than what is tested"), "{warnings:?}");
            continue;
        }
        let root = setup.root();
        let interpreter = assert_same_path(&python, &[], Flags::default(), &setup.variables(&[]), &root);
        for options in [&["--system-site-packages"][..], &[]] {
            let environment = root.join(format!("e{}{}", options.len(), python.to_string_lossy().replace('/', "_")));
            let mut made = Command::new(&python);
            made.args(["-m", "venv", "--without-pip"]).args(options).arg(&environment);
            // A distribution may have left the module out.
            if made.output().expect("Python runs").status.success() {
                let own = environment.join("bin/python");
                setup.write(site_packages(&environment, &own).join("a.pth"), "../../..\n");
                assert_same_path(&own, &[], Flags::default(), &setup.variables(&[]), &root);
            }
        }
        // Neither what is loaded nor what is in the executable is known better elsewhere.
        let program = "import sys; print('\\n'.join(sys.builtin_module_names)); print('|'); print('\\n'.join(sys.modules)); \
                       print('|'); print('\\n'.join(getattr(sys, 'stdlib_module_names', ['os', 'json', '_json', 'math'])))";
        let said = said_by(&python, &["-S"], &setup.variables(&[]), &root, program);
        let parts: Vec<&str> = said.split("|\n").collect();
        assert!(parts[0].lines().all(|name| interpreter.built_in.contains(name)), "{}", python.display());
        let loaded = |name: &str| name.contains('.') || ["__main__", "linecache"].contains(&name);
        let is_known = |name: &str| loaded(name) || interpreter.loaded_at_start.contains(name);
        let unknown: Vec<&str> = parts[1].lines().filter(|name| !is_known(name)).collect();
        assert!(unknown.is_empty(), "{} {unknown:?}", python.display());
        assert!(parts[2].lines().all(|name| interpreter.standard_names.contains(name)), "{}", python.display());
        assert!(!interpreter.standard_names.contains("site-packages") && !interpreter.standard_names.contains("pip"));
        assert!(interpreter.loaded_at_start.contains("site") && !interpreter.loaded_at_start.contains("json"));
        assert!(interpreter.extension_suffixes.iter().any(|suffix| suffix == ".abi3.so"));
    }
}

#[test]
fn editable_installs_are_found() {
    let setup = Setup::new();
    let environment = setup.environment("e", &[]);
    let python = environment.join("bin/python");
    let site = site_packages(&environment, &python);
    let root = setup.root();
    setup.write("p/src/pkg/__init__.py", "");
    setup.write("p/src/pkg/inner.py", "");
    setup.write("p/single.py", "");
    setup.write("p/part/__init__.py", "");
    setup.write("q/q.py", "");
    setup.write(site.join("easy-install.pth"), format!("{}\n", root.join("q").display()));
    setup.write(
        site.join("__editable__.p-0.1.pth"),
        "import __editable___p_0_1_finder; __editable___p_0_1_finder.install()",
    );
    let at = root.join("p");
    let at = at.display();
    let finder = format!(
        "import sys\nfrom importlib.machinery import PathFinder\nfrom importlib.util import spec_from_file_location\n\
         MAPPING = {{'pkg': '{at}/src/pkg', 'single': '{at}/single', 'ns.part': '{at}/part'}}\nNAMESPACES = {{'ns': []}}\n\n\
         class Finder:\n    @classmethod\n    def find_spec(cls, name, path=None, target=None):\n        pass\n\n\
         def install():\n    sys.meta_path.append(Finder)\n"
    );
    setup.write(site.join("__editable___p_0_1_finder.py"), finder);
    let interpreter = assert_same_path(&python, &[], Flags::default(), &setup.variables(&[]), &root);
    let mapped: Vec<_> =
        interpreter.editable_modules.iter().map(|(name, path)| (name.as_str(), path.clone())).collect();
    let in_root = |path: &str| root.join(path);
    assert_eq!(
        mapped,
        [("ns.part", in_root("p/part")), ("pkg", in_root("p/src/pkg")), ("single", in_root("p/single.py"))]
    );
    assert_eq!(interpreter.editable_namespaces, [("ns".to_owned(), vec![])].into_iter().collect());
    assert!(interpreter.search_path.contains(&root.join("q")));
    assert!(interpreter.conditions.contains(&site.join("__editable___p_0_1_finder.py")));
    // With the finder gone Python cannot import it, and tells so.
    fs::remove_file(site.join("__editable___p_0_1_finder.py")).expect("removed");
    let warnings = found(&root, Some(&python), &setup.variables(&[]), Flags::default()).1;
    assert!(warnings[0].ends_with("it imports \"__editable___p_0_1_finder\", which is nowhere"), "{warnings:?}");
}

#[test]
fn the_nearest_environment_is_chosen() {
    let setup = Setup::new();
    let root = setup.root();
    let inner = root.join("a/b");
    fs::create_dir_all(&inner).expect("made");
    let choose = |python: Option<&str>, more: &[(&str, &str)]| {
        let variables = setup.variables(more);
        let python = python.map(Path::new);
        let choice =
            Choice { python, root: &root, working_folder: &inner, variables: &variables, flags: Flags::default() };
        let (interpreter, warnings) = find(&choice, None)?;
        Ok::<_, Error>((interpreter.executable.expect("found"), warnings))
    };
    let plain = |path: PathBuf| (path, Vec::<String>::new());
    assert_eq!(choose(None, &[]).expect("found"), plain(setup.base.clone()));
    let upper = setup.environment(".venv", &[]);
    assert_eq!(choose(None, &[]).expect("found"), plain(upper.join("bin/python")));
    let lower = setup.environment("a/venv", &[]);
    assert_eq!(choose(None, &[]).expect("found"), plain(lower.join("bin/python")));
    let other = setup.environment("elsewhere", &[]);
    let other_text = other.to_str().expect("text");
    assert_eq!(choose(None, &[("CONDA_PREFIX", other_text)]).expect("found"), plain(other.join("bin/python")));
    let both = [("CONDA_PREFIX", upper.to_str().expect("text")), ("VIRTUAL_ENV", other_text)];
    assert_eq!(choose(None, &both).expect("found"), plain(other.join("bin/python")));
    let (chosen, warnings) = choose(None, &[("VIRTUAL_ENV", "/nowhere")]).expect("found");
    assert_eq!(chosen, lower.join("bin/python"));
    assert_eq!(warnings, ["VIRTUAL_ENV is /nowhere, where there is no Python"]);
    // What is named wins over all.
    assert_eq!(choose(Some(other_text), &both).expect("found"), plain(other.join("bin/python")));
    assert_eq!(choose(Some("../venv"), &both).expect("found"), plain(inner.join("../venv/bin/python")));
    let path = format!("{other_text}/bin");
    assert_eq!(choose(Some("python3"), &[("PATH", &path)]).expect("found"), plain(other.join("bin/python3")));
    let refused = |python: &str| choose(Some(python), &[]).expect_err("refused").to_string();
    assert_eq!(refused("/nowhere/python"), "Not a Python that can be used: /nowhere/python (there is no such file)");
    assert_eq!(
        refused("no-python-of-this-name"),
        "Not a Python that can be used: no-python-of-this-name (it is not on PATH)"
    );
    assert!(refused(inner.to_str().expect("text")).contains("there is no Python in that folder"));
    assert!(refused("/bin/cat").contains("/bin/cat"), "{}", refused("/bin/cat"));
}

#[test]
fn without_a_python_defaults_stand_in() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let variables = [("PATH", "/nowhere")].into_iter().collect();
    let (interpreter, warnings) = found(folder.path(), None, &variables, Flags::default());
    assert_eq!((interpreter.executable, interpreter.version), (None, (3, 14, 0)));
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    for name in ["os", "json", "annotationlib"] {
        assert!(interpreter.standard_names.contains(name), "{name}");
    }
    assert!(interpreter.built_in.contains("sys") && interpreter.loaded_at_start.contains("site"));
}

#[test]
fn what_was_said_is_kept_as_long_as_the_executable_is_the_same() {
    use std::os::unix::fs::PermissionsExt;
    let setup = Setup::new();
    let root = setup.root();
    let kept = root.join("kept");
    let environments = [setup.environment("one", &[]), setup.environment("two", &[])];
    let ask = |python: &Path| {
        let variables = setup.variables(&[]);
        let python = Some(python);
        let choice =
            Choice { python, root: &root, working_folder: &root, variables: &variables, flags: Flags::default() };
        find(&choice, Some(&kept)).expect("a Python").0
    };
    let files = || {
        let names = fs::read_dir(&kept).expect("there").map(|entry| entry.expect("there").path());
        names.filter(|path| path.to_string_lossy().contains("/python-")).collect::<Vec<_>>()
    };
    let first = ask(&environments[0]);
    assert_eq!(files().len(), 1);
    let file = files().remove(0);
    // Where the two share one file, what is written into it is what both say.
    let text = fs::read_to_string(&file).expect("kept");
    assert!(text.contains("\"loaded_at_start\":["));
    fs::write(&file, text.replace("\"loaded_at_start\":[", "\"loaded_at_start\":[\"from_the_cache\","))
        .expect("written");
    for environment in &environments {
        assert!(ask(environment).loaded_at_start.contains("from_the_cache"));
    }
    assert_eq!(files().len(), 1);
    fs::write(&file, "damaged").expect("written");
    assert_eq!(ask(&environments[0]), first);
    assert_eq!(fs::read_to_string(&file).expect("kept"), text);
    // A script in place of an interpreter may choose another the next time.
    let shim = setup.write("shim/python3", format!("#!/bin/sh\nexec '{}' \"$@\"\n", setup.base.display()));
    fs::set_permissions(&shim, fs::Permissions::from_mode(0o755)).expect("chmod");
    let through = ask(&shim);
    assert_eq!(through.executable, Some(setup.base.clone()));
    assert_eq!(files().len(), 1, "nothing is kept for it");
}

#[test]
fn the_innermost_tree_decides() {
    let interpreter = Interpreter {
        standard_library: vec!["/usr/lib/python3.12".into()],
        site_packages: vec!["/usr/lib/python3.12/site-packages".into(), "/p/.venv/lib/python3.12/site-packages".into()],
        ..without_python(Vec::new())
    };
    let place = |path: &str, root: Option<&str>| interpreter.is_installed(Path::new(path), root.map(Path::new));
    assert_eq!(place("/usr/lib/python3.12/json/__init__.py", None), Some(Place::StandardLibrary));
    assert_eq!(place("/usr/lib/python3.12/site-packages/a.py", None), Some(Place::SitePackages));
    assert_eq!(place("/usr/lib/python3.12_strategies/a.py", None), None);
    assert_eq!(place("/lib/python_strategies/site-packages/a.py", None), None);
    assert_eq!(place("/p/a.py", Some("/p")), None);
    assert_eq!(place("/p/.venv/lib/python3.12/site-packages/a.py", Some("/p")), Some(Place::SitePackages));
    let root = Some("/usr/lib/python3.12/site-packages/mine");
    assert_eq!(place("/usr/lib/python3.12/site-packages/mine/a.py", root), None);
    assert_eq!(place("/usr/lib/python3.12/site-packages/other/a.py", root), Some(Place::SitePackages));
    assert_eq!(place("/usr/lib/python3.12/site-packages/a.py", Some("/usr/lib/python3.12/site-packages")), None);
}
