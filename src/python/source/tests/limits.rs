//! Sources that were made to hurt, and large ones that are only large.

use proptest::prelude::*;

use super::*;

/// Scans where rayon's threads do.
fn scan_on_small_stack(source: String) -> Scan {
    let scan = std::thread::Builder::new().stack_size(2 << 20).spawn(move || scan(source.as_bytes(), &target()));
    scan.expect("started").join().expect("no panic")
}

fn monsters(times: usize) -> Vec<(&'static str, String)> {
    let nested =
        |open: &str, inner: &str, close: &str| format!("x = {}{inner}{}\n", open.repeat(times), close.repeat(times));
    let indented = |head: &str| {
        let mut out = String::new();
        for depth in 0..times.min(2500) {
            out += &" ".repeat(depth);
            out += head;
            out.push('\n');
        }
        out + &" ".repeat(times.min(2500)) + "pass\n"
    };
    vec![
        ("parentheses", nested("(", "1", ")")),
        ("unclosed parentheses", nested("(", "", "")),
        ("lists", nested("[", "", "]")),
        ("dicts", nested("{1:", "1", "}")),
        ("calls", nested("f(", "", ")")),
        ("call chains", nested("", "f", "()")),
        ("method chains", nested("", "f", ".g()")),
        ("attributes", nested("", "f", ".g")),
        ("subscripts", nested("", "f", "[0]")),
        ("nested subscripts", nested("f[", "0", "]")),
        ("sums", nested("1 + ", "1", "")),
        ("powers", nested("1 ** ", "1", "")),
        ("quotients", nested("'a' / ", "b", "")),
        ("minuses", nested("-", "1", "")),
        ("tildes", nested("~", "1", "")),
        ("nots", nested("not ", "1", "")),
        ("awaits", nested("await ", "x", "")),
        ("yields", nested("yield ", "x", "")),
        ("stars", nested("*", "x", "")),
        ("lambdas", nested("lambda: ", "1", "")),
        ("lambda defaults", nested("lambda x=", "1", ": 1")),
        ("ternaries", nested("1 if x else ", "1", "")),
        ("ternaries in the test", nested("1 if ", "1", " else 1")),
        ("and or", nested("a and b or ", "1", "")),
        ("comparisons", nested("a < ", "1", "")),
        ("walruses", nested("(a := ", "1", ")")),
        ("open walruses", nested("a := ", "1", "")),
        ("comprehensions", nested("[x for x in ", "y", "]")),
        ("f-strings", nested("f'{", "1", "}'")),
        ("format specs", format!("f'{}1{}'\n", "{x:".repeat(times), "}".repeat(times))),
        ("unclosed f-strings", nested("f'{", "", "")),
        ("triple f-strings", nested("f'''{", "", "")),
        ("ifs", indented("if x:")),
        ("ifs without colons", indented("if x")),
        ("functions", indented("def f():")),
        ("classes", indented("class A:")),
        ("withs", indented("with x:")),
        ("tries", indented("try:")),
        ("matches", indented("match x:")),
        ("elifs", format!("if x: pass\n{}", "elif y: pass\n".repeat(times))),
        ("elses", format!("if x: pass\n{}", "else: pass\n".repeat(times))),
        ("asyncs", format!("{}x\n", "async ".repeat(times))),
        ("decorators", format!("{}def f(): pass\n", "@x\n".repeat(times))),
        ("ifs in one line", format!("{}pass\n", "if x: ".repeat(times))),
        ("patterns", format!("match x:\n case {}1{}: pass\n", "[".repeat(times), "]".repeat(times))),
        ("pattern classes", format!("match x:\n case {}1{}: pass\n", "A(".repeat(times), ")".repeat(times))),
        ("pattern choices", format!("match x:\n case {}1: pass\n", "1 | ".repeat(times))),
        ("targets", format!("{}1\n", "x = ".repeat(times))),
        ("dots", format!("from {} import x\n", ".".repeat(times))),
        ("continuations", "\\\n".repeat(times)),
        ("assertions", nested("assert ", "x", "")),
        ("string prefixes", "f'".repeat(times)),
        ("type parameters", format!("def f{}T{}(): pass\n", "[T: ".repeat(times), "]".repeat(times))),
        (
            "names of names",
            (0..times.min(20_000)).map(|n| format!("a{} = a{n} + a{n}\n", n + 1)).collect::<String>() + "open(a9)\n",
        ),
        ("sums of calls", nested("__import__('a') + ", "1", "")),
        ("opens", "open('a');".repeat(times.min(20_000))),
        (
            "attributes of a class",
            format!("class A:\n{}", " x = 'a'\n y = [1, 2]\n".repeat(times.min(20_000)))
                + &"open(A.z + A.x)\n".repeat(times.min(20_000)),
        ),
        (
            "attributes of instances",
            format!(
                "class A:\n def f(self):\n{}",
                "  self.a = self.b + 'a'\n  open(self.a)\n".repeat(times.min(20_000))
            ),
        ),
        (
            "attributes of attributes",
            "class A:\n def __init__(self):\n".to_owned()
                + &(0..times.min(20_000))
                    .map(|n| format!("  self.a{} = self.a{n} + self.a{n}\n", n + 1))
                    .collect::<String>()
                + "  open(self.a99)\n",
        ),
        ("names that are given", "import x\n".to_owned() + &"x.y('a', 'b', c='d')\n".repeat(times.min(20_000))),
        (
            "defaults",
            format!("def f({}):\n", (0..200).map(|n| format!("x{n}='a',")).collect::<String>())
                + &format!("  open({}'b')\n", (0..200).map(|n| format!("x{n} + ")).collect::<String>())
                    .repeat(times / 100),
        ),
        ("holes", format!("open('a/' + {}'.csv')\n", "x + ".repeat(times))),
        ("recovering", format!("x = (\n{}", "def f(:\n x = [\n".repeat(times.min(20_000)))),
        ("recovering blocks", format!("x = (\n{}", indented("if x: y = ("))),
    ]
}

#[test]
fn monsters_are_read_or_refused() {
    for times in [90, 1_500, 4_900, 60_000] {
        for (name, source) in monsters(times) {
            let scan = scan_on_small_stack(source);
            if times == 60_000
                && matches!(name, "parentheses" | "sums" | "minuses" | "attributes" | "f-strings" | "nots")
            {
                let problem = scan.problem.unwrap_or_else(|| panic!("{name} is too much"));
                assert!(problem.message.starts_with("nested too deeply"), "{name}: {}", problem.message);
            }
        }
    }
}

#[test]
fn what_real_projects_have_passes() {
    let pass = |name: &str, source: String| {
        let scan = scan_on_small_stack(format!("import a\n{source}\nimport b\n"));
        assert_eq!(scan.problem, None, "{name}");
        assert_eq!(scan.imports.len(), 2, "{name}");
    };
    pass("sums", format!("x = {}'a'", "'a' + ".repeat(3_000)));
    pass("sums over lines", format!("x = ({}'a')", "'a' +\n".repeat(3_000)));
    pass("negative numbers", format!("x = [{}]", "-1.5, ".repeat(100_000)));
    pass("dict", format!("x = {{{}}}", "'a': -1,\n".repeat(50_000)));
    pass("dict of lists", format!("x = {{{}}}", "'a': [1, (2, 3), f(x.y, -1)],\n".repeat(20_000)));
    pass("calls", "f(x.y[0], a=-1 + 2)\n".repeat(20_000));
    pass("chain", format!("x = (f{})", ".g(1)\n".repeat(400)));
    pass("elifs", format!("if x: pass\n{}", "elif x == 1: pass\n".repeat(3_000)));
    pass("brackets", format!("x = {}{}", "[".repeat(199), "]".repeat(199)));
    pass("indents", (0..99).map(|n| " ".repeat(n) + "if x:\n").collect::<String>() + &" ".repeat(99) + "pass");
    pass("f-strings", "x = f'{a.b} {c[0]:>{w}}'\n".repeat(10_000));
}

#[test]
fn a_source_of_over_4_mib_is_refused() {
    let scan = scan(&vec![b'\n'; (4 << 20) + 1], &target());
    assert!(scan.problem.is_some_and(|problem| problem.message.contains("bytes long")));
    assert_eq!(super::scan(&vec![b'\n'; 4 << 20], &target()).problem, None);
}

fn soup() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "import ",
        "from ",
        "a",
        ".b",
        "..",
        " as ",
        "*",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ":",
        ",",
        "\n",
        "\n    ",
        "\n        ",
        "\\\n",
        "\r",
        "\x0c",
        "if ",
        "else:",
        "elif ",
        "try:",
        "except ",
        "finally:",
        "with ",
        "def f(",
        "class A",
        "lambda ",
        "async ",
        "await ",
        "match ",
        "case ",
        "for ",
        "while ",
        "in ",
        "not ",
        "and ",
        "or ",
        "is ",
        "=",
        "==",
        ":=",
        "+",
        "-",
        "/",
        "%",
        "@",
        "->",
        "'",
        "\"",
        "'''",
        "f'",
        "f\"",
        "f'''{",
        "rb'",
        "t'",
        "\\",
        "#",
        ";",
        "0",
        "1.5",
        "'x.csv'",
        "open(",
        "__file__",
        "__path__",
        "__all__",
        "sys.path",
        ".append(",
        "Path(",
        "importlib.import_module(",
        "subprocess.run([",
        "'python'",
        "exec(",
        "%s",
        "é",
        "ﬁ",
        "\u{feff}",
        "\u{2028}",
        "$",
        "?",
        "!",
        "`",
        "lazy ",
        "type ",
        "del ",
        "global ",
        "yield ",
        "TYPE_CHECKING",
        "sys.version_info",
        ">=(3,",
        "pkgutil.iter_modules(",
    ]);
    prop::collection::vec(words, 0..120).prop_map(|words| words.concat())
}

/// A source that has a bit of everything, to be cut and changed.
const SAMPLE: &str = r#"# -*- coding: utf-8 -*-
from __future__ import annotations
import importlib, os, sys, subprocess, pkgutil
from pathlib import Path
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import a
HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE / "src"))
__all__ = ["f"] + ["g"]
@deco(x=1)
async def f(x: int = 3, *args, **kw) -> str:
    with open(f"{HERE}/data/{x!r:>{width}}.csv", "r") as file, (lock):
        return [line async for line in file if (n := len(line)) > 3]
class A(B, metaclass=C):
    y = lambda self, z=1: {**z, 'a': 1 if z else 2}
    match x:
        case {"a": [1, *_], **rest} | A(b=3) if rest: pass
try:
    mod = importlib.import_module("strategies.%s" % name)
except* (ImportError, KeyError) as e:
    exec(compile(open("x.py").read(), "x.py", "exec"))
finally:
    subprocess.run([sys.executable, "-m", "pkg.mod", *sys.argv[1:]], cwd=HERE)
for m in pkgutil.iter_modules(__path__): __import__(m.name, fromlist=["x"])
print(f'''{x["a"]:{y}} {{}} {f"{1}"}''')
"#;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 400 } else { 4000 }))]

    #[test]
    fn soup_is_read(source in soup()) {
        let found = scan(source.as_bytes(), &target());
        prop_assert!(found.imports.iter().all(|import| import.line >= 1));
    }

    #[test]
    fn damaged_sources_are_read(changes in prop::collection::vec((any::<prop::sample::Index>(), 0usize..12, "[ -~\n]{0,6}|[^a]{0,3}"), 1..8)) {
        let mut bytes = SAMPLE.as_bytes().to_vec();
        for (at, removed, inserted) in changes {
            let at = at.index(bytes.len() + 1);
            let end = (at + removed).min(bytes.len());
            bytes.splice(at..end, inserted.bytes());
        }
        let _ = scan(&bytes, &target());
    }

    #[test]
    fn bytes_are_read(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = scan(&bytes, &target());
    }
}
