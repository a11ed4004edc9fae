//! Detection that knows all sources from the last time: it says the same, and whatever has changed is noticed.

use std::fs;
use std::os::unix::fs::symlink;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::support::Project;

/// A project, and what its caches have to say of it.
struct Warm(Project);

impl Warm {
    fn new() -> Self {
        let project = Project::new();
        project.write("main.py", "import pkg.a\nimport helper\nfrom pkg import later\nopen('data.json')\n");
        project.write("pkg/__init__.py", "");
        project.write("pkg/a.py", "import first\n");
        for module in ["first.py", "other.py", "helper.py"] {
            project.write(module, "");
        }
        Self(project)
    }

    fn detect(&self, is_json: bool) -> (String, String) {
        let arguments = ["detect", "main.py", "--json"];
        let found = self.0.run(&arguments[..if is_json { 3 } else { 2 }]);
        assert_eq!(found.status, Some(0), "{}", found.stderr);
        (found.stdout, found.stderr)
    }

    /// The files, after it has been seen that nothing depends on what is known already.
    #[track_caller]
    fn files(&self) -> Vec<String> {
        // What has only just changed would not be believed the next time.
        sleep(Duration::from_millis(50));
        let warm = [self.detect(true), self.detect(true), self.detect(false)];
        fs::remove_dir_all(self.0.beside("caches")).expect("there are caches");
        let cold = [self.detect(true), self.detect(true), self.detect(false)];
        assert_eq!(warm, cold);
        let json: Value = serde_json::from_str(&cold[0].0).expect("JSON");
        let files = json["files"].as_array().expect("a list").iter();
        files.map(|file| file["path"].as_str().expect("text").to_owned()).collect()
    }

    #[track_caller]
    fn is(&self, expected: &[&str]) {
        let mut all = vec!["helper.py", "main.py"];
        all.extend(expected);
        all.sort_unstable();
        assert_eq!(self.files(), all);
    }
}

#[test]
fn nothing_has_changed() {
    let warm = Warm::new();
    for _ in 0..2 {
        warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py"]);
    }
}

#[test]
fn what_a_source_says_has_changed() {
    let warm = Warm::new();
    warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py"]);
    // With the same length, and with the same time.
    let time = warm.0.path("pkg/a.py").metadata().and_then(|metadata| metadata.modified()).expect("a time");
    warm.0.write("pkg/a.py", "import other\n");
    let file = fs::File::options().write(true).open(warm.0.path("pkg/a.py")).expect("there");
    file.set_modified(time).expect("a time is set");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "other.py"]);
    // Another file in its place.
    warm.0.write("new.py", "import first\n");
    fs::rename(warm.0.path("new.py"), warm.0.path("pkg/a.py")).expect("renamed");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py"]);
    // A link in its place, and then what that leads to.
    warm.0.write("kept/a.py", "import other\n");
    fs::remove_file(warm.0.path("pkg/a.py")).expect("removed");
    symlink("../kept/a.py", warm.0.path("pkg/a.py")).expect("linked");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "kept/a.py", "other.py"]);
    warm.0.write("kept/a.py", "import first\n");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "kept/a.py", "first.py"]);
    // The folder becomes a link to another.
    fs::rename(warm.0.path("pkg"), warm.0.path("moved")).expect("renamed");
    symlink("moved", warm.0.path("pkg")).expect("linked");
    warm.is(&["pkg", "moved/__init__.py", "moved/a.py", "kept/a.py", "first.py"]);
}

#[test]
fn names_lead_elsewhere() {
    let warm = Warm::new();
    warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py"]);
    // What was an attribute is a module now.
    warm.0.write("pkg/later.py", "");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "first.py"]);
    // A package comes before a module of its name.
    warm.0.write("first/__init__.py", "import other\n");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "first/__init__.py", "other.py"]);
    fs::remove_dir_all(warm.0.path("first")).expect("removed");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "first.py"]);
    // A module of the library is found here, and a data file has come that names a module.
    warm.0.write("pkg/later.py", "import json\n");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "first.py"]);
    warm.0.write("json.py", "");
    warm.0.write("data.json", "{\"class\": \"other:Thing\"}");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "first.py", "json.py", "data.json", "other.py"]);
    // A file is gone.
    fs::remove_file(warm.0.path("first.py")).expect("removed");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "pkg/later.py", "json.py", "data.json", "other.py"]);
}

#[test]
fn what_lies_around_the_sources_has_changed() {
    let warm = Warm::new();
    warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py"]);
    let listed = "files: [main.py]\n";
    warm.0.write("strategy.yaml", listed);
    let found = warm.0.run(["detect", "main.py", "--json"]).expect(0).json();
    assert_eq!(found["tracked_by"], "strategy_yaml");
    fs::remove_file(warm.0.path("strategy.yaml")).expect("removed");
    // A folder on PYTHONPATH comes before what is only beside the program, but not before the program's own.
    fs::create_dir_all(warm.0.path("extra")).expect("made");
    fs::rename(warm.0.path("first.py"), warm.0.path("extra/first.py")).expect("renamed");
    warm.is(&["pkg/__init__.py", "pkg/a.py"]);
    let mut command = warm.0.command(["detect", "main.py"]);
    let output = command.env("PYTHONPATH", "extra").output().expect("it starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(text.contains("  extra/first.py  (import, line 1)\n"), "{text}");
    warm.is(&["pkg/__init__.py", "pkg/a.py"]);
    // A time long ago is no sign that a file is as it was.
    warm.0.write("pkg/a.py", "import other\n");
    let file = fs::File::options().write(true).open(warm.0.path("pkg/a.py")).expect("there");
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1)).expect("a time is set");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "other.py"]);
}

#[test]
fn nothing_stands_below_a_link() {
    let warm = Warm::new();
    fs::create_dir_all(warm.0.path("real")).expect("made");
    fs::rename(warm.0.path("helper.py"), warm.0.path("real/helper.py")).expect("renamed");
    warm.0.write("real/helper.py", "import other\n");
    symlink("real/helper.py", warm.0.path("helper.py")).expect("linked");
    warm.is(&["pkg/__init__.py", "pkg/a.py", "first.py", "real/helper.py", "other.py"]);
    let (text, _) = warm.detect(false);
    let below = "  real/helper.py  (import, line 2)\n    other.py  (import, line 1)\n";
    assert!(text.contains("  helper.py  (import, line 2)\n") && text.contains(below), "{text}");
    assert_eq!(text.matches("other.py").count(), 1, "{text}");
}
