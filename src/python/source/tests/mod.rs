//! What sources say, as tables of text: a statement on the left, what is found in it on the right.

mod constants;
mod files;
mod imports;
mod limits;
mod literals;
mod loading;
mod paths;
mod several;

use super::*;

pub(super) fn target() -> Target {
    Target { version: (3, 12), platform: "linux".into(), os_name: "posix".into() }
}

pub(super) fn windows() -> Target {
    Target { version: (3, 9), platform: "win32".into(), os_name: "nt".into() }
}

pub(super) fn scanned(source: &str) -> Scan {
    let scan = scan(source.as_bytes(), &target());
    assert_eq!(scan.problem, None, "{source}");
    scan
}

/// An import in one line: `Call Lazy ..pkg.mod{a,b}`, without what is most usual.
pub(super) fn shown_import(import: &Import) -> String {
    let mut out = String::new();
    if import.how != How::Statement {
        out += &format!("{:?} ", import.how);
    }
    if import.when != When::Always {
        out += &format!("{:?} ", import.when);
    }
    out += &".".repeat(import.level as usize);
    out += &import.module;
    if let Some(names) = &import.names {
        out += &format!("{{{}}}", names.join(","));
    }
    out
}

pub(super) fn shown_path(path: &PathExpression) -> String {
    let path = &PathExpression { base: path.base, rest: path.rest.replace(MARK, "$") };
    match path.base {
        Base::Working if path.rest.starts_with('$') => path.rest.clone(),
        Base::Working => format!("./{}", path.rest),
        Base::Absolute => path.rest.clone(),
        Base::Source(up) => format!("<{up}>/{}", path.rest),
        Base::Main(up) => format!("<main {up}>/{}", path.rest),
        Base::Package => path.rest.clone(),
    }
}

pub(super) fn shown_file(file: &NamedFile) -> String {
    let when = if file.when == When::Always { String::new() } else { format!("{:?} ", file.when) };
    let usage = match &file.usage {
        FileUse::Data => String::new(),
        FileUse::Code => "Code ".into(),
        FileUse::Process => "Process ".into(),
        FileUse::Library => "Library ".into(),
        FileUse::Resource(package) => format!("{}{}:", ".".repeat(package.level as usize), package.module),
    };
    format!("{when}{usage}{}", shown_path(&file.path))
}

pub(super) fn imports(source: &str) -> String {
    scanned(source).imports.iter().map(shown_import).collect::<Vec<_>>().join(" ")
}

pub(super) fn files(source: &str) -> String {
    scanned(source).files.iter().map(shown_file).collect::<Vec<_>>().join(" ")
}

/// Every source says exactly what stands beside it.
#[track_caller]
pub(super) fn all(say: impl Fn(&str) -> String, table: &[(&str, &str)]) {
    let wrong: Vec<_> = table
        .iter()
        .map(|(source, expected)| (source, say(source), expected))
        .filter(|(_, found, expected)| found != *expected)
        .map(|(source, found, expected)| format!("{source}\n    says     {found}\n    expected {expected}"))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n\n"));
}

#[test]
fn lines_are_those_of_an_editor() {
    let lines = |source: &str| scanned(source).imports.iter().map(|import| import.line).collect::<Vec<_>>();
    assert_eq!(lines("import a\nimport b\n\nimport c"), [1, 2, 4]);
    assert_eq!(lines("import a\r\nimport b\rimport c\n"), [1, 2, 3]);
    assert_eq!(lines("import a\n\x0cimport b"), [1, 2]);
    assert_eq!(lines("'''\n\n'''\nimport a, \\\n  b"), [4, 5]);
    assert_eq!(lines("x = (\n  __import__('a'),\n  __import__('b'))"), [2, 3]);
    assert_eq!(lines("if x:\n\timport a\n\tfrom b import (\n\t\tc)"), [2, 3]);
    assert_eq!(scan("\u{feff}import a".as_bytes(), &target()).imports.len(), 1);
}

#[test]
fn what_does_not_parse_is_read_as_far_as_it_can_be() {
    for (source, line, found) in [
        ("import a\ndef f(:\n    pass\nimport b\n", 2, "a b"),
        ("import a\nprint 'x'\nimport b\n", 2, "a b"),
        ("import a\nx = (1,\nimport b\n", 2, "a b"),
        ("import a\nexcept:\n", 2, "a"),
        ("import a\nx = 'open\nimport b", 2, "a b"),
        ("import a\n  import b", 2, "a b"),
    ] {
        let scan = scan(source.as_bytes(), &target());
        let problem = scan.problem.unwrap_or_else(|| panic!("{source} has a problem"));
        assert_eq!(problem.line, line, "{source}: {}", problem.message);
        assert!(!problem.message.is_empty() && !problem.message.ends_with('.'), "{}", problem.message);
        assert_eq!(scan.imports.iter().map(shown_import).collect::<Vec<_>>().join(" "), found, "{source}");
    }
    let newer = Target { version: (3, 9), ..target() };
    assert_eq!(scan(b"match x:\n    case 1: import a\ntype X = int\n", &newer).problem, None, "newer syntax is read");
}

#[test]
fn a_literal_all_is_the_exports() {
    for (source, expected) in [
        ("__all__ = ['a', 'b']", "a b"),
        ("__all__ = ('a',)", "a"),
        ("__all__ = []", ""),
        ("__all__: list[str] = ['a']", "a"),
        ("__all__ = ['a']\n__all__ += ['b']", "a b"),
        ("__all__ = ['a']\n__all__ = __all__ + ['b']", "a b"),
        ("__all__ = ['a'] + ['b'] + ['c']", "a b c"),
        ("__all__ = ['a']\n__all__.append('b')\n__all__.extend(('c', 'd'))", "a b c d"),
        ("__all__ = ['a', 'b']\n__all__.remove('a')", "b"),
        ("_x = ['a']\n__all__ = _x + ['b']", "a b"),
        ("__all__ = ['a']\nif x:\n    __all__ += ['b']", "a b"),
        ("__all__ = list(('a', 'b'))", "a b"),
    ] {
        assert_eq!(scanned(source).exports.map(|names| names.join(" ")).as_deref(), Some(expected), "{source}");
    }
    let computed = "import os\n__all__ = [name[:-3] for name in os.listdir(os.path.dirname(__file__))]";
    assert_eq!(scanned(computed).exports.map(|names| names.join(" ")).as_deref(), Some("*"), "what is there decides");
    for source in [
        "",
        "all = ['a']",
        "__all__ = [a]",
        "__all__ = [*x]",
        "__all__ = x.__all__ + ['a']",
        "__all__ = ['a']\n__all__ += x.__all__",
        "__all__ = ['a']\n__all__.append(x)",
        "__all__ += ['a']",
        "__all__ = ['a' for x in y]",
        "def f():\n    __all__ = ['a']",
        "class A:\n    __all__ = ['a']",
        "__all__ = ['a']\ndel __all__",
    ] {
        assert_eq!(scanned(source).exports, None, "{source}");
    }
}
