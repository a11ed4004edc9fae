//! What loads code by names that only the run knows: folders that are listed, the project's own importers, entry points; and
//! files of which only the folder is known.

use super::*;

const HEAD: &str = "import os, importlib, importlib.util, runpy\nfrom pathlib import Path\n";

fn listed(source: &str) -> String {
    let shown = |listed: &Listed| {
        let usage = if listed.usage == ListedUse::Data { String::new() } else { format!("{:?} ", listed.usage) };
        let when = if listed.when == When::Always { String::new() } else { format!("{:?} ", listed.when) };
        format!("{usage}{when}{}", shown_path(&listed.path))
    };
    scanned(&format!("{HEAD}{source}")).listings.iter().map(shown).collect::<Vec<_>>().join(" ")
}

#[test]
fn folders_are_listed_for_their_modules() {
    all(
        listed,
        &[
            ("for n in os.listdir('a'): importlib.import_module(n)", "Modules ./a/*"),
            (
                "for n in os.listdir('a'):\n    if not n.startswith('_'): importlib.import_module(n)",
                "PublicModules ./a/*",
            ),
            ("for n in os.listdir('a'):\n    if not n.startswith('x'): __import__(n)", "Modules ./a/*"),
            ("for e in os.scandir('a'): runpy.run_path(e.path)", "Modules ./a/*"),
            ("for p in Path('a').iterdir(): exec(p.read_text())", "Modules ./a/*"),
            ("for p in Path('a').iterdir(): importlib.util.spec_from_file_location(p.stem, p)", "Modules ./a/*"),
            ("for n in os.listdir('a'): open(n)", "./a/*"),
            ("os.listdir('a')\nimportlib.import_module('b')\nrunpy.run_path('c.py')", "./a/*"),
            ("os.listdir('a')\nimportlib.import_module(f'b.{c}')", "./a/*"),
        ],
    );
}

#[test]
fn attributes_have_the_value_that_they_are_given_once() {
    all(
        listed,
        &[
            ("class A:\n    x = 'a'\n    def f(self): os.listdir(self.x)", "Lazy ./a/*"),
            ("class A:\n    x: str = 'a'\n    @classmethod\n    def f(cls): os.listdir(cls.x)", "Lazy ./a/*"),
            ("class A:\n    x = 'a'\nos.listdir(A.x)", "./a/*"),
            ("class A:\n    def __init__(self): self.x = 'a'\n    def f(self): os.listdir(self.x)", "Lazy ./a/*"),
            (
                "R = 'r'\nclass A:\n    def __init__(self):\n        self.x = R + '/a'\n        self.y = self.x + '/b'\n    def f(self): os.listdir(self.y)",
                "Lazy ./r/a/b/*",
            ),
            (
                "class A:\n    def __init__(self, x): self.x = x\n    def f(self): os.listdir(self.x)\nA('a')",
                "Lazy ./a/*",
            ),
            // What has several values, or means something else here, is not known.
            ("class A:\n    x = 'a'\n    x = 'b'\n    def f(self): os.listdir(self.x)", ""),
            ("class A:\n    x = 'a'\n    def f(self): os.listdir(self.x)\n    def g(self): self.x = 'b'", ""),
            (
                "class A:\n    x = 'a'\n    def f(self): os.listdir(self.x)\n    def g(self, y):\n        for self.x in y: pass",
                "",
            ),
            ("class A:\n    x = 'a'\n    def f(self, other): os.listdir(other.x)", ""),
            ("class A:\n    x = 'a'\ndef f(self): os.listdir(self.x)", ""),
            (
                "R = 'r'\nclass A:\n    def __init__(self, R): self.x = R + '/a'\n    def f(self): os.listdir(self.x)",
                "",
            ),
            (
                "R = 'r'\nclass A:\n    def __init__(self): self.x = R + '/a'\n    def f(self, R): os.listdir(self.x)",
                "",
            ),
            ("R = 'r'\nclass A:\n    R = 'q'\n    x = R + '/a'\nos.listdir(A.x)", ""),
            ("class A:\n    x = x.x\n    y = A.y\nos.listdir(A.y)", ""),
        ],
    );
}

#[test]
fn one_of_the_files_of_a_folder_is_read() {
    all(
        listed,
        &[
            ("open(f'a/{x}.csv')", "OneOf Lazy ./a/*.csv"),
            ("open('a/' + x)", "OneOf Lazy ./a/*"),
            ("open(os.path.join('a', x, 'b.csv'))", "OneOf Lazy ./a/*/b.csv"),
            ("open('a/%s_%s.csv' % (x, y))", "OneOf Lazy ./a/*_*.csv"),
            ("open(f'{x}.csv')", "OneOf Lazy ./*.csv"),
            ("open(f'a/{x}{y}.csv')", "OneOf Lazy ./a/*.csv"),
            ("open(Path(__file__).parent / x)", ""),
            ("open(Path(__file__).parent / f'{x}.csv')", "OneOf Lazy <1>/*.csv"),
            ("(Path('a') / x / f'{y}.json').read_text()", "OneOf Lazy ./a/*/*.json"),
            ("import pandas as pd\npd.read_parquet(f'a/{x}.parquet')", "OneOf Lazy ./a/*.parquet"),
            ("from mine import ROOT\nopen(ROOT / f'{x}.csv')", "OneOf Lazy $mine.ROOT$/*.csv"),
            ("if __name__ == '__main__': open(f'a/{x}.csv')", "OneOf MainOnly ./a/*.csv"),
            ("importlib.util.spec_from_file_location(x, f'a/{x}.py')", "OneOf Lazy ./a/*.py"),
            // Nothing is known, or nothing but what it is relative to.
            ("open(x)\nopen(f'{x}/{y}.csv')\nopen(x + '/a.csv')\nopen(f'/{x}/a.csv')\nopen(f'../{x}')", ""),
            ("open(os.path.dirname(x) + '/a.csv')\nopen(os.path.join(os.path.dirname(x), 'b', y))", ""),
            ("x.open()\nx.read_text()\nload(x)", ""),
            ("open(f'a/{x}.py')\nrunpy.run_path(f'a/{x}')", ""),
            // What is written is no part of the run, and what is known is known.
            ("open(f'a/{x}.csv', 'w')\nopen(f'a/{x}.csv')", ""),
            ("def f(x): open(f'a/{x}.csv')\nf('b')", ""),
            ("def f(x='b'): open(f'a/{x}.csv')", "OneOf Lazy ./a/*.csv"),
            ("def f(x='b'): open(f'a/{x}.csv')\nf('c')", ""),
        ],
    );
}

#[test]
fn functions_and_classes_import_what_they_are_given() {
    let importers = |source: &str| scanned(&format!("{HEAD}{source}")).importers.join(" ");
    all(
        importers,
        &[
            ("def f(x): importlib.import_module(x)", "f"),
            ("def f(x): return importlib.util.find_spec(x)\ndef g(x): __import__(x)", "f g"),
            ("class A:\n    def f(self, x): importlib.import_module(x)", "A.f"),
            ("class A:\n    def __init__(self, x): importlib.import_module(x)", "A"),
            ("class A:\n    def __init__(self, x): self.x = x\n    def f(self): importlib.import_module(self.x)", "A"),
            ("def f(x):\n    def g(): importlib.import_module(x)", "f"),
            ("def f(x):\n    y = 'a'\n    importlib.import_module(y)", ""),
            ("def f(x): importlib.import_module('a')", ""),
            ("class A:\n    def f(self): importlib.import_module(self.x)", ""),
            ("f = lambda x: importlib.import_module(x)", ""),
        ],
    );
    all(
        imports,
        &[
            ("from a import f\nf('b')", "a{f} Given b{a.f}"),
            ("import a.b\na.b.f(x='c')", "a.b Given c{a.b.f}"),
            ("from .a import A as B\nB.f('c', 'd')", ".a{A} Given c{.a.A.f} Given d{.a.A.f}"),
            ("def f(x): pass\nf('b')", "Given b{:f}"),
            ("class A: pass\nA.f('b')", "Given b{:A.f}"),
            ("from a import f\nf('b c', 'd/e', '', 1)", "a{f}"),
            ("import logging\nlogging.getLogger('b')", "logging"),
            ("x.f('b')\nf('b')", ""),
        ],
    );
}

#[test]
fn modules_are_looked_for_and_named_by_entry_points() {
    all(
        imports,
        &[
            (
                "from importlib.util import find_spec\nfind_spec('a')\nfind_spec(x)",
                "importlib.util{find_spec} Literal a",
            ),
            (
                "from importlib.metadata import entry_points\nentry_points(group='a.b')\nentry_points()",
                "importlib.metadata{entry_points} EntryPoints a.b EntryPoints ",
            ),
            ("import pkg_resources\npkg_resources.iter_entry_points('a-b')", "pkg_resources EntryPoints a-b"),
            ("entry_points(group='a')\nx.entry_points()", ""),
        ],
    );
}

#[test]
fn the_first_line_that_loads_what_is_not_known_is_told() {
    let line = |source: &str| scanned(&format!("{HEAD}{source}")).loads_unknown;
    assert_eq!(line("x\nimportlib.import_module(x)\n__import__(x)"), Some(4));
    assert_eq!(line("exec('import importlib\\nimportlib.import_module(x)')"), Some(3));
    assert_eq!(line("def f(x='a'):\n    importlib.import_module(x)"), Some(4));
    for known in
        ["importlib.import_module('x')", "importlib.import_module(f'x.{y}')", "exec(x)", "runpy.run_module('x')"]
    {
        assert_eq!(line(known), None, "{known}");
    }
}
