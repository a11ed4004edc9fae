//! What each command prints and does when all is well.

use std::fs;

use crate::support::{Project, tree};

#[test]
fn capture_and_restore_give_back_every_byte() {
    let project = Project::with_code();
    let captured = project.capture("first");
    assert_eq!(captured["files"], 7);
    assert_eq!(project.restored("first"), tree(&project.root()));
}

#[test]
fn unchanged_code_writes_no_pack() {
    let project = Project::with_code();
    let first = project.capture("first");
    let second = project.capture("second");
    assert_eq!(first["snapshot"], second["snapshot"]);
    assert_eq!(second["new_bytes"], 0);
    assert_eq!(project.store_files("packs").len(), 1);
    assert_eq!(project.store_files("runs").len(), 1);
}

#[test]
fn each_version_comes_back_as_it_was() {
    let project = Project::with_code();
    let mut versions = Vec::new();
    for n in 0..40 {
        project.write("momentum/signal.py", format!("WINDOW = {n}\n{}", "# a line that stays\n".repeat(200)));
        project.write(format!("momentum/new_{}.py", n % 7), format!("VALUE = {n}\n"));
        project.capture(&format!("run-{n}"));
        versions.push(tree(&project.root()));
    }
    for (n, version) in versions.iter().enumerate() {
        assert_eq!(&project.restored(&format!("run-{n}")), version, "run-{n}");
    }
    project.run(["verify", "--read-data"]).expect(0);
    fs::remove_file(project.store().join("index.sqlite")).expect("made by then");
    assert_eq!(&project.restored("run-11"), &versions[11]);
    let indexed = project.run(["reindex", "--json"]).expect(0).json();
    assert_eq!((indexed["runs"].as_u64(), indexed["packs"].as_u64()), (Some(40), Some(40)));
    assert_eq!(&project.restored("run-39"), &versions[39]);
}
