//! Runs forgotten by name and by policy: which go, which stay, and what is left alone.

use std::fs;

use serde_json::{Value, json};

use crate::support::{Project, tree};

/// Five runs in two sweeps, with tags and metrics, and one outside of any.
fn field() -> Project {
    let project = Project::with_code();
    for (name, sweep, tag) in [
        ("a-1", "a", "good"),
        ("a-2", "a", "draft"),
        ("a-3", "a", "draft"),
        ("b-1", "b", "good"),
        ("b-2", "b", "draft"),
    ] {
        project.write("momentum/signal.py", format!("WINDOW = {name:?}\n"));
        project.run(["capture", "--tree", ".", "--run", name, "--sweep", sweep, "--tag", tag, "--quiet"]).expect(0);
    }
    project.run(["log", "a-2", "--metric", "sharpe=2"]).expect(0);
    project.capture("lone");
    project
}

fn names(listed: &Value) -> Vec<String> {
    listed.as_array().expect("a list").iter().map(|run| run["name"].as_str().expect("named").to_owned()).collect()
}

fn left(project: &Project) -> Vec<String> {
    names(&project.run(["list", "--json"]).expect(0).json()["runs"])
}

/// The runs that a policy would forget.
#[track_caller]
fn would_forget(project: &Project, arguments: &[&str]) -> Vec<String> {
    let told = project.run([&["forget", "--dry-run", "--json"], arguments].concat()).expect(0).json();
    assert_eq!(told["dry_run"], json!(true));
    names(&told["forgotten"])
}

#[test]
fn runs_by_name_are_gone_and_their_folders_stay() {
    let project = field();
    project.run(["capture", "--tree", ".", "--run", "foldered", "--run-dir", "results/x", "--quiet"]).expect(0);
    let folder = tree(&project.path("results/x"));
    let told = project.run(["forget", "a-1", "latest", "a-1", "results/x"]).expect(0);
    assert_eq!(told.stderr, "");
    assert!(told.stdout.contains("a-1") && told.stdout.contains("foldered"), "{}", told.stdout);
    assert!(
        told.stdout.ends_with("Forgot 2 runs; their space comes back at the next `runsnap gc`\n"),
        "{}",
        told.stdout
    );
    assert_eq!(left(&project), ["a-2", "a-3", "b-1", "b-2", "lone"]);
    assert_eq!(tree(&project.path("results/x")), folder);
    project.run(["restore", "a-1", "--output", "gone"]).expect_line(1, &["\"a-1\""]);
    project.run(["forget", "a-1"]).expect_line(1, &["\"a-1\""]);
    project.run(["verify", "--read-data"]).expect(0);
    // Its name is not given again: it must not come to mean other code.
    project.run(["capture", "--tree", ".", "--run", "a-1"]).expect_line(1, &["a-1"]);
}

#[test]
fn an_unknown_run_among_others_forgets_none() {
    let project = field();
    let journals = || project.store_files("runs").iter().map(|file| fs::read(file).expect("there")).collect::<Vec<_>>();
    let before = journals();
    project.run(["forget", "a-1", "nobody", "a-2"]).expect_line(1, &["nobody"]);
    project.run(["forget", "a"]).expect_line(1, &["ambiguous"]);
    assert_eq!(journals(), before);
    assert_eq!(left(&project).len(), 6);
}

#[test]
fn policies_combine() {
    let project = field();
    let all = ["a-1", "a-2", "a-3", "b-1", "b-2", "lone"];
    assert_eq!(would_forget(&project, &["--keep-last", "2"]), all[..4]);
    assert_eq!(would_forget(&project, &["--keep-last", "99"]), Vec::<String>::new());
    assert_eq!(would_forget(&project, &["--sweep", "a"]), ["a-1", "a-2", "a-3"]);
    assert_eq!(would_forget(&project, &["--sweep", "a", "--keep-last", "1"]), ["a-1", "a-2"]);
    assert_eq!(would_forget(&project, &["--keep-tag", "good"]), ["a-2", "a-3", "b-2", "lone"]);
    assert_eq!(would_forget(&project, &["--keep-tag", "good", "--keep-last", "2"]), ["a-2", "a-3"]);
    assert_eq!(would_forget(&project, &["--keep-tag", "good", "--keep-tag", "draft"]), ["lone"]);
    assert_eq!(would_forget(&project, &["--where", "tag = 'draft'"]), ["a-2", "a-3", "b-2"]);
    assert_eq!(would_forget(&project, &["--where", "tag = 'draft' and not sharpe > 1", "--keep-last", "1"]), ["a-3"]);
    assert_eq!(would_forget(&project, &["--where", "tag = 'draft'", "--sweep", "b"]), ["b-2"]);
    assert_eq!(would_forget(&project, &["--keep-within", "1d"]), Vec::<String>::new());
    assert_eq!(left(&project), all);

    let told = project.run(["forget", "--where", "tag = 'draft'", "--keep-last", "1", "--json"]).expect(0).json();
    assert_eq!(
        (names(&told["forgotten"]), &told["dry_run"]),
        (vec!["a-2".to_owned(), "a-3".to_owned()], &json!(false))
    );
    assert_eq!(left(&project), ["a-1", "b-1", "b-2", "lone"]);
    let again = project.run(["forget", "--where", "tag = 'draft'", "--keep-last", "1"]).expect(0);
    assert_eq!(again.stdout, "No run to forget\n");
}

#[test]
fn only_the_current_project_is_meant() {
    let project = field();
    for name in ["other-1", "other-2"] {
        project.write("other/setup.py", format!("NAME = {name:?}\n"));
        project.run(["capture", "--tree", "other", "--run", name, "--quiet"]).expect(0);
    }
    assert!(!would_forget(&project, &["--keep-last", "1"]).iter().any(|name| name.starts_with("other")));
    let everywhere = would_forget(&project, &["--keep-last", "1", "--all-projects"]);
    assert_eq!(everywhere.len(), 7);
    assert!(everywhere.contains(&"other-1".to_owned()));
}

#[test]
fn nobody_forgets_everything_by_mistake() {
    let project = field();
    for arguments in [
        &["forget"][..],
        &["forget", "--all-projects"],
        &["forget", "--dry-run"],
        &["forget", "--keep-last", "0"],
        &["forget", "--keep-tag", "no-such-tag"],
        &["forget", "--keep-within", "3x"],
        &["forget", "a-1", "--keep-last", "1"],
        &["forget", "a-1", "--sweep", "a"],
    ] {
        project.run(arguments).expect(2);
    }
    assert_eq!(left(&project).len(), 6);
    // Who names what is to go has said so.
    project.run(["forget", "--sweep", "a", "--keep-tag", "no-such-tag"]).expect(0);
    project.run(["forget", "--where", "time exists"]).expect(0);
    assert_eq!(left(&project), Vec::<String>::new());
    project.run(["forget", "--keep-last", "1"]).expect(0);
}
