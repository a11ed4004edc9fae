//! Frames that are longer than what is wanted of them: they are decoded in pieces, and as far as that is needed.

use std::fs;
use std::path::PathBuf;

use runsnap::pack::Frame;
use runsnap::store::Store;

use crate::damage::Action;
use crate::support::{Project, Tree, tree};

/// Lines that are like no others, and compress.
fn text(seed: u64, bytes: usize) -> Vec<u8> {
    let mut noise = vec![0; bytes / 8];
    blake3::Hasher::new().update(&seed.to_le_bytes()).finalize_xof().fill(&mut noise);
    noise.chunks(4).flat_map(|four| format!("window = {four:02x?}\n").into_bytes()).take(bytes).collect()
}

struct Field {
    project: Project,
    /// What each run must come back as.
    runs: Vec<(&'static str, Tree)>,
}

impl Field {
    /// Two versions of a project in one long frame, and a third in differences to some of its files.
    fn new() -> Self {
        let mut field = Self { project: Project::with_code(), runs: Vec::new() };
        for number in 0..50 {
            field.project.write(format!("model/{number:02}/signal.py"), text(number, 100_000));
        }
        // The same content under two names, and one file that is as long as many.
        field.project.write("model/copy.py", text(7, 100_000));
        field.project.write("model/table.csv", text(1000, 600_000));
        field.capture("first");
        field.edit(&[0, 25, 49]);
        field.capture("second");
        field.project.run(["gc"]).expect(0);
        field.edit(&[1, 25, 26, 48]);
        field.capture("third");
        field
    }

    fn edit(&self, numbers: &[u32]) {
        for number in numbers {
            let path = format!("model/{number:02}/signal.py");
            let mut content = fs::read(self.project.path(&path)).expect("there");
            content.extend_from_slice(b"window = 20\n");
            self.project.write(path, content);
        }
    }

    fn capture(&mut self, name: &'static str) {
        self.project.capture(name);
        self.runs.push((name, tree(&self.project.root())));
    }

    /// The longest frame of all packs.
    fn longest(&self) -> (PathBuf, Frame) {
        let packs = Store::open(&self.project.store()).expect("opens").catalog().packs();
        let frames = packs.iter().flat_map(|pack| pack.frames.iter().map(move |frame| (pack, frame)));
        let (pack, frame) = frames.max_by_key(|(_, frame)| frame.raw_bytes).expect("a frame");
        (self.project.store().join(&pack.path), frame.clone())
    }
}

#[test]
fn everything_comes_back_and_any_one_file() {
    let field = Field::new();
    let (_, longest) = field.longest();
    assert!(longest.raw_bytes > 4 << 20 && longest.objects.len() > 50, "{longest:?}");
    for (name, files) in &field.runs {
        assert_eq!(field.project.restored(name), *files, "{name}");
        for path in ["model/00/signal.py", "model/25/signal.py", "model/49/signal.py", "model/copy.py"] {
            let printed = field.project.run(["cat", &format!("{name}:{path}")]).expect(0).stdout;
            assert_eq!(printed.as_bytes(), files[&PathBuf::from(path)].1, "{name}:{path}");
        }
    }
}

/// What stands before the damage is whole; of the rest nothing wrong gets a name, and each file is named that is missing.
#[test]
fn what_is_damaged_is_told_file_by_file() {
    let field = Field::new();
    let (pack, longest) = field.longest();
    Action::Flip(longest.offset + longest.stored_bytes / 2).apply(&pack);
    for (name, files) in &field.runs {
        let output = field.project.beside(name);
        let restored = field.project.run(["restore", name, "--output", output.to_str().expect("text"), "--json"]);
        let restored = restored.expect(3).json();
        let found = tree(&output);
        let problems = restored["problems"].as_array().expect("a list");
        assert!(found.iter().all(|(path, content)| files[path] == *content), "{name}: wrong content");
        assert_eq!(found.len() + problems.len(), files.len(), "{name}");
        assert_eq!(restored["files"], found.len());
        assert!(found.len() > 10 && problems.len() > 10, "{name}: {} and {}", found.len(), problems.len());
        for path in files.keys().filter(|path| !found.contains_key(*path)) {
            let line = format!("Not restored: {} (", path.display());
            assert!(problems.iter().any(|problem| problem.as_str().is_some_and(|text| text.starts_with(&line))));
        }
    }
}

/// A folder that is to be restored into is there once everything is in it; nothing of another name stays beside it.
#[test]
fn no_temporary_folder_stays() {
    let field = Field::new();
    field.project.run(["restore", "third", "--output", "../out/new", "--quiet"]).expect(0);
    let beside = fs::read_dir(field.project.beside("out")).expect("there").count();
    assert_eq!(beside, 1);
    field.project.run(["restore", "third", "--output", "../out/new"]).expect_line(1, &["Not empty"]);
}
