//! Changes are made by another process, and have to be told as soon as it says that its call has returned.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use tempfile::{TempDir, tempdir};

use super::*;

/// Executes a line of Python and says when it is done.
const WRITER: &str = "
import mmap, os, shutil, sys
for line in sys.stdin:
    exec(line)
    print('done', flush=True)
";

/// A Python process in a folder.
struct Writer {
    process: Child,
    lines: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Writer {
    fn new(folder: &Path) -> Self {
        let mut command = Command::new("python3");
        command.arg("-c").arg(WRITER).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let lines = process.stdin.take().unwrap();
        let answers = BufReader::new(process.stdout.take().unwrap());
        Self { process, lines, answers }
    }

    /// Returns once the line has been executed.
    fn run(&mut self, line: &str) {
        writeln!(self.lines, "{line}").unwrap();
        let mut answer = String::new();
        self.answers.read_line(&mut answer).unwrap();
        assert_eq!(answer, "done\n", "{line}");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A temporary folder with the folders tree, tree/package and elsewhere; the first two are watched, as 0 and 1.
struct Fixture {
    // The writer ends before its folder goes.
    writer: Writer,
    folder: TempDir,
    watch: TreeWatch,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::create_dir_all(path("tree/package")).unwrap();
        fs::create_dir(path("elsewhere")).unwrap();
        // Not written here: a process that another test starts at that moment would hold the descriptor a little longer, and
        // the file would be closed for good after it is watched.
        let mut writer = Writer::new(folder.path());
        writer.run("for n in ['tree/a', 'tree/b', 'tree/package/c', 'elsewhere/e']: open(n, 'w').write('content')");
        symlink("a", path("tree/link")).unwrap();
        let mut watch = TreeWatch::new(&path("tree")).unwrap();
        assert_eq!(watch.add_folder(&path("tree")), Ok(0));
        assert_eq!(watch.add_folder(&path("tree/package")), Ok(1));
        Self { writer, folder, watch }
    }

    /// What is told after a line of Python.
    fn after(&mut self, line: &str) -> Changes {
        assert_eq!(self.watch.take(), Changes::None, "before {line}");
        self.writer.run(line);
        self.watch.take()
    }
}

fn files(expected: &[(usize, &str)]) -> Changes {
    Changes::Files(expected.iter().map(|&(folder, name)| Changed { folder, name: name.into() }).collect())
}

#[test]
fn each_kind_of_change_of_a_file_is_told_once_its_call_has_returned() {
    let mut fixture = Fixture::new();
    for (line, told) in [
        ("f = open('tree/a', 'r+b', buffering=0)", &[][..]),
        ("f.write(b'w')", &[(0, "a")]),
        ("os.pwrite(f.fileno(), b'p', 3)", &[(0, "a")]),
        ("f.truncate(2)", &[(0, "a")]),
        ("os.fchmod(f.fileno(), 0o600)", &[(0, "a")]),
        ("f.close()", &[(0, "a")]),
        ("open('tree/a', 'a').write('appended')", &[(0, "a")]),
        ("f = os.open('tree/b', os.O_WRONLY | os.O_TRUNC)", &[(0, "b")]),
        ("os.close(f)", &[(0, "b")]),
        ("os.truncate('tree/package/c', 3)", &[(1, "c")]),
        ("open('tree/package/new', 'w').write('n')", &[(1, "new")]),
        ("os.rename('tree/package/new', 'tree/a')", &[(0, "a"), (1, "new")]),
        ("os.rename('elsewhere/e', 'tree/b')", &[(0, "b")]),
        ("os.rename('tree/b', 'elsewhere/b')", &[(0, "b")]),
        ("os.link('elsewhere/b', 'tree/b')", &[(0, "b")]),
        ("os.unlink('tree/b')", &[(0, "b")]),
        ("os.chmod('tree/a', 0o755)", &[(0, "a")]),
        ("os.utime('tree/a', (1, 1))", &[(0, "a")]),
        ("os.symlink('b', 'tree/next')", &[(0, "next")]),
        ("os.replace('tree/next', 'tree/link')", &[(0, "link"), (0, "next")]),
        ("os.mkfifo('tree/pipe')", &[(0, "pipe")]),
        ("open(b'tree/\\xff', 'w')", &[(0, "\u{fffd}")]),
    ] {
        let told = if told.is_empty() { Changes::None } else { files(told) };
        let mut taken = fixture.after(line);
        if let Changes::Files(all) = &mut taken {
            all.iter_mut().for_each(|file| file.name = String::from_utf8_lossy(&file.name).into_owned().into());
        }
        assert_eq!(taken, told, "{line}");
    }
}

#[test]
fn names_are_raw_bytes() {
    let mut fixture = Fixture::new();
    fixture.writer.run("open(b'tree/\\xff\\n', 'w')");
    assert_eq!(fixture.watch.take(), Changes::Files(vec![Changed { folder: 0, name: b"\xff\n".to_vec() }]));
}

#[test]
fn a_write_through_a_memory_map_is_told_when_the_writer_lets_go() {
    let mut fixture = Fixture::new();
    let line = "f = open('tree/a', 'r+b'); m = mmap.mmap(f.fileno(), 0); f.close(); m[0] = 65";
    assert_eq!(fixture.after(line), Changes::None);
    assert_eq!(fixture.after("m.close()"), files(&[(0, "a")]));
}

#[test]
fn each_change_of_folders_is_told_as_a_change_of_all() {
    for line in [
        "os.mkdir('tree/new')",
        "os.rename('elsewhere', 'tree/elsewhere')",
        "os.rename('tree/package', 'tree/renamed')",
        "os.rename('tree/package', 'elsewhere/package')",
        "shutil.rmtree('tree/package')",
        "os.chmod('tree/package', 0o755)",
        "os.chmod('tree', 0o755)",
        "os.rename('tree', 'renamed')",
        "os.rename('tree', 'renamed'); os.symlink('renamed', 'tree')",
        "shutil.rmtree('tree')",
    ] {
        let mut fixture = Fixture::new();
        assert_eq!(fixture.after(line), Changes::All, "{line}");
        assert_eq!(fixture.watch.take(), Changes::All, "again after {line}");
    }
}

#[test]
fn a_folder_that_was_not_known_to_its_parent_tells_when_it_goes() {
    let folder = tempdir().unwrap();
    fs::create_dir(folder.path().join("alone")).unwrap();
    for line in ["os.rename('alone', 'renamed')", "os.rmdir('renamed')"] {
        let name = if line.contains("rmdir") { "renamed" } else { "alone" };
        let mut watch = TreeWatch::new(folder.path()).unwrap();
        watch.add_folder(&folder.path().join(name)).unwrap();
        Writer::new(folder.path()).run(line);
        assert_eq!(watch.take(), Changes::All, "{line}");
    }
}

#[test]
fn files_are_watched_under_all_their_names() {
    let mut fixture = Fixture::new();
    fixture.writer.run("os.link('tree/a', 'elsewhere/a'); os.link('tree/a', 'tree/package/a')");
    assert_eq!(fixture.watch.take(), files(&[(1, "a")]));
    // This is what the folders' watches cannot tell.
    assert_eq!(fixture.after("open('elsewhere/a', 'a').write('1')"), Changes::None);

    let tree = fixture.folder.path().join("tree");
    for _ in 0..2 {
        fixture.watch.add_file(0, &tree.join("a")).unwrap();
        fixture.watch.add_file(1, &tree.join("package/a")).unwrap();
    }
    let both = files(&[(0, "a"), (1, "a")]);
    assert_eq!(fixture.after("open('elsewhere/a', 'a').write('2')"), both);
    assert_eq!(fixture.after("os.truncate('elsewhere/a', 0)"), both);
    assert_eq!(fixture.after("os.chmod('elsewhere/a', 0o700)"), both);
    assert_eq!(fixture.after("open('tree/a', 'a').write('3')"), both);
    assert_eq!(fixture.after("os.unlink('elsewhere/a')"), both);
}

#[test]
fn a_watched_file_may_go_and_its_successor_be_added() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().join("tree/a");
    fixture.watch.add_file(0, &path).unwrap();
    assert_eq!(fixture.after("os.rename('elsewhere/e', 'tree/a')"), files(&[(0, "a")]));
    assert_eq!(fixture.after("os.link('tree/a', 'elsewhere/a')"), Changes::None);
    fixture.watch.add_file(0, &path).unwrap();
    assert_eq!(fixture.after("open('elsewhere/a', 'a').write('1')"), files(&[(0, "a")]));
    assert_eq!(fixture.after("os.unlink('tree/a'); os.unlink('elsewhere/a')"), files(&[(0, "a")]));
    // Two folders are left.
    assert_eq!(fixture.watch.watched(), 2);
}

#[test]
fn each_of_2000_edits_by_another_process_is_told_at_once() {
    let mut fixture = Fixture::new();
    let edits = ["open(N, 'a').write('1')", "open(N, 'w').write('2')", "os.utime(N)", "os.unlink(N)", "open(N, 'x')"];
    let names = [(0, "a"), (1, "c"), (0, "b")];
    for (i, (edit, (folder, name))) in
        edits.into_iter().flat_map(|e| names.map(|n| (e, n))).cycle().take(2000).enumerate()
    {
        let path = if folder == 0 { "tree/" } else { "tree/package/" };
        let line = format!("N = '{path}{name}'; {edit}");
        assert_eq!(fixture.after(&line), files(&[(folder, name)]), "edit {i}: {line}");
    }
}

#[test]
fn reading_is_no_change() {
    let mut fixture = Fixture::new();
    for line in [
        "open('tree/a').read()",
        "os.listdir('tree'), os.scandir('tree/package')",
        "os.stat('tree/a'), os.readlink('tree/link'), os.access('tree/a', os.W_OK)",
        "shutil.copytree('tree', 'elsewhere/copy', symlinks=True)",
        "m = mmap.mmap(os.open('tree/a', os.O_RDONLY), 0, prot=mmap.PROT_READ); m.read(); m.close()",
        "open('elsewhere/e', 'w').write('not in the tree')",
    ] {
        assert_eq!(fixture.after(line), Changes::None, "{line}");
    }
}

#[test]
fn what_is_never_part_of_a_snapshot_is_no_change() {
    let mut fixture = Fixture::new();
    for name in ["__pycache__", ".git", ".runsnap"] {
        for line in [
            format!("os.mkdir('tree/{name}'); os.mkdir('tree/package/{name}')"),
            format!("open('tree/{name}/f', 'w').write('1'); os.mkdir('tree/{name}/g')"),
            format!("os.chmod('tree/{name}', 0o700); os.rename('tree/{name}', 'elsewhere/{name}')"),
            format!("shutil.rmtree('tree/package/{name}'); open('tree/{name}', 'w').write('2')"),
            format!("os.unlink('tree/{name}')"),
        ] {
            assert_eq!(fixture.after(&line), Changes::None, "{line}");
        }
    }
    fixture.writer.run("open('tree/package/m.py', 'w').write('')");
    fixture.watch.take();
    let import = "sys.dont_write_bytecode = False; sys.path.insert(0, 'tree/package'); import m; os.stat('tree/package/__pycache__')";
    assert_eq!(fixture.after(import), Changes::None);
    assert_eq!(fixture.after("os.mkdir('tree/__pycache')"), Changes::All);
}

#[test]
fn each_file_is_told_once() {
    let mut fixture = Fixture::new();
    let line = "exec(\"for i in range(100):\\n for n in ['b', 'package/c', 'a']: open('tree/' + n, 'a').write('1')\")";
    assert_eq!(fixture.after(line), files(&[(0, "a"), (0, "b"), (1, "c")]));
    // Only changes since the last look are told.
    assert_eq!(fixture.after("os.utime('tree/b')"), files(&[(0, "b")]));
}

#[test]
fn more_events_than_one_read_gives_are_all_told() {
    let mut fixture = Fixture::new();
    let line = "[open(f'tree/{i:03}' + 'n' * 252, 'w').write('1') for i in range(200)]";
    let expected: Vec<_> =
        (0..200).map(|i| Changed { folder: 0, name: format!("{i:03}{}", "n".repeat(252)).into() }).collect();
    assert_eq!(fixture.after(line), Changes::Files(expected));
}

#[test]
fn lost_events_are_a_change_of_all() {
    let mut fixture = Fixture::new();
    let queued: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();
    // The kernel counts an event once that repeats the last one, hence two files.
    fixture.writer.run("f = [os.open('tree/' + n, os.O_WRONLY) for n in ['a', 'b']]");
    let line = format!("[os.pwrite(f[i % 2], b'1', 0) for i in range({})]", queued + 1);
    assert_eq!(fixture.after(&line), Changes::All);
    assert_eq!(fixture.watch.take(), Changes::All);
}

#[test]
fn a_writer_that_does_not_stop_does_not_hold_the_look() {
    for (most, told) in [(11, files(&[(0, "a"), (0, "b")])), (10, Changes::All)] {
        let mut fixture = Fixture::new();
        fixture.writer.run("[os.utime('tree/' + n) for i in range(5) for n in ['a', 'b']]");
        assert_eq!(fixture.watch.take_at_most(most), told, "{most}");
    }
}

#[test]
fn another_process_learns_nothing_and_takes_nothing() {
    let mut fixture = Fixture::new();
    fixture.writer.run("os.utime('tree/a')");
    let owner = fixture.watch.owned_by(rustix::process::getppid().unwrap());
    assert_eq!(fixture.watch.take(), Changes::All);
    fixture.watch.owned_by(owner);
    assert_eq!(fixture.watch.take(), files(&[(0, "a")]));
}

#[test]
fn programs_do_not_inherit_the_descriptor() {
    let list = |folder: &str| {
        let output = Command::new("ls").args(["-l", folder]).output().unwrap();
        String::from_utf8(output.stdout).unwrap().matches("inotify").count()
    };
    let _fixture = Fixture::new();
    assert!(list(&format!("/proc/{}/fd", std::process::id())) > 0);
    assert_eq!(list("/proc/self/fd"), 0);
}

#[test]
fn only_folders_are_added_as_folders_and_each_once() {
    let mut fixture = Fixture::new();
    let tree = fixture.folder.path().join("tree");
    symlink("package", tree.join("linked")).unwrap();
    assert_eq!(fixture.watch.take(), files(&[(0, "linked")]));
    for (name, reason) in [
        ("a", "Not a directory"),
        ("linked", "Not a directory"),
        ("missing", "No such file"),
        ("package", "is watched already"),
    ] {
        let refused = fixture.watch.add_folder(&tree.join(name)).unwrap_err();
        assert!(
            matches!(&refused, Untrusted::Failed(text) if text.contains(reason) && text.contains(name)),
            "{refused}"
        );
    }
    assert!(matches!(fixture.watch.add_file(0, &tree.join("package")), Err(Untrusted::Failed(_))));
    fs::create_dir(fixture.folder.path().join("third")).unwrap();
    assert_eq!(fixture.watch.add_folder(&fixture.folder.path().join("third")), Ok(2));
    // The attempts took nothing away.
    assert_eq!(fixture.after("os.unlink('tree/package/c')"), files(&[(1, "c")]));
}

#[test]
fn folders_with_unusual_names_are_watched() {
    let mut fixture = Fixture::new();
    let path = fixture.folder.path().join(OsStr::from_bytes(b"\xfe"));
    fs::create_dir(&path).unwrap();
    assert_eq!(fixture.watch.add_folder(&path), Ok(2));
    assert_eq!(fixture.after("open(b'\\xfe/f', 'w')"), files(&[(2, "f")]));
}

#[test]
fn other_file_systems_are_refused_wherever_they_begin() {
    let mut fixture = Fixture::new();
    let proc = Untrusted::SharedFileSystem("a file system of the unknown type 0x9fa0".into());
    assert_eq!(TreeWatch::new("/proc/self".as_ref()).unwrap_err(), proc);
    assert_eq!(fixture.watch.add_folder("/proc/self".as_ref()), Err(proc.clone()));
    assert_eq!(fixture.watch.add_file(0, "/proc/self/maps".as_ref()), Err(proc));
}
