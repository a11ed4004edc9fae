//! Names and lookups with several known values.

use super::*;

#[test]
fn imports_of_several_names() {
    let with = |source: &str| {
        let all = imports(&format!("from importlib import import_module\n{source}"));
        let shown = all.split_once("importlib{import_module}").map_or("", |(_, rest)| rest).trim().to_owned();
        shown.replace("Conditional ", "")
    };
    all(
        with,
        &[
            ("for n in ('a', 'b'): import_module(n)", "Call a Call b"),
            ("N = ['a', 'b']\nfor n in N: import_module(n)", "Call a Call b"),
            ("[__import__(n) for n in ('a', 'b')]", "Call a Call b"),
            ("x = {n: import_module(f'p.{n}') for n in ('a', 'b')}", "Call p.a Call p.b"),
            ("for n in sorted({'a', 'b'}): import_module(n)", "Call a Call b"),
            ("for i, n in enumerate(['a', 'b']): import_module(n)", "Call a Call b"),
            ("for x, n in zip(y, ['a', 'b']): import_module(n)", "Call a Call b"),
            ("for n, c in (('a', 'A'), ('b', 'B')): import_module(n)", "Call a Call b"),
            ("for n in 'a b'.split(): import_module(n)", "Call a Call b"),
            ("for n in 'a,b'.split(','): import_module(n)", "Call a Call b"),
            ("for n in ['a'] + ['b']: import_module(n)", "Call a Call b"),
            ("M = ['b']\nfor n in ['a', *M]: import_module(n)", "Call a Call b"),
            ("for n in ['a']: import_module(n)\nfor n in ['b']: import_module(n)", "Call a Call b Call a Call b"),
            ("E = {'x': 'a', 'y': 'b'}\nimport_module(E[k])", "Call a Call b"),
            ("E = {'x': 'a', 'y': 'b'}\nimport_module(E['y'])", "Call b"),
            ("E = {'x': 'a', 'y': 'b'}\nimport_module(E.get(k, 'c'))", "Call a Call b"),
            ("E = {'x': {'m': 'a'}, 'y': {'m': 'b'}}\nimport_module(E[k]['m'])", "Call a Call b"),
            ("E = {'x': 'a'}\nfor k, v in E.items(): import_module(v)", "Call a"),
            ("E = {'x': 'a'}\nfor v in E.values(): import_module(v)", "Call a"),
            ("E = {'a': 1}\nfor k in E: import_module(k)", "Call a"),
            ("import_module(['a', 'b'][i])", "Call a Call b"),
            ("import_module(['a', 'b'][1])", "Call b"),
            ("import_module('a' if x else 'b')", "Call a Call b"),
            ("for n in ('a', y): import_module('p.' + n)", "Call p.a Prefix p"),
            ("G = [['a'], ['b']]\nfor g in G:\n    for n in g: import_module(n)", "Call a Call b"),
            ("for n in x: import_module(n)", ""),
            ("for n, *m in [('a', 'b')]: import_module(n)", "Call a"),
            ("for n, *m in [('a', 'b')]: import_module(m)", ""),
            ("for n in n: import_module(n)", ""),
            ("E = {'x': 'a'}\nimport_module(E['z'])", ""),
            ("import_module(['a'][1:])", ""),
            ("n = 'a'\nfor n in ['b']: import_module(n)", ""),
        ],
    );
}

#[test]
fn files_of_several_names() {
    all(
        files,
        &[
            ("for s in ('A', 'B'): open(f'data/{s}.csv')", "Conditional ./data/A.csv Conditional ./data/B.csv"),
            (
                "S = 'A B'.split()\nx = {s: open('data/' + s + '.csv') for s in S}",
                "Conditional ./data/A.csv Conditional ./data/B.csv",
            ),
            ("for y in (2022, 2023): open(f'{y}.csv')", "Conditional ./2022.csv Conditional ./2023.csv"),
            ("for i in range(2): open('%s.csv' % i)", "Conditional ./0.csv Conditional ./1.csv"),
            ("import os\nopen(os.environ.get('X', 'a.csv'))", "./a.csv"),
            ("import os\nopen(os.environ.get('X') or 'a.csv')", "./a.csv"),
            ("import os\nopen(os.getenv('X'))", ""),
            ("for y in (0, 1): open(y)", ""),
        ],
    );
}

#[test]
fn combinations_have_an_end() {
    let many = (0..300).map(|n| format!("'m{n}'")).collect::<Vec<_>>().join(",");
    let source = format!("N = [{many}]\nfor a in N:\n  for b in N:\n    __import__(a + b)\n");
    let found = scanned(&source).imports.len();
    assert!((64..=300).contains(&found), "{found}");
    let lookups = "open(f'{a}{b}{c}{d}')\n".repeat(300);
    let source = format!("N = [{many}]\nfor a, b, c, d in zip(N, N, N, N):\n  pass\n{lookups}");
    assert!(scanned(&source).files.len() <= 300 * 300);
}

#[test]
fn what_functions_are_given() {
    let edits = |source: &str| {
        let edits = scanned(&format!("import sys, os\n{source}")).search_path;
        edits.iter().map(|edit| shown_path(&edit.path)).collect::<Vec<_>>().join(" ")
    };
    all(
        edits,
        &[
            ("def add(p): sys.path.append(p)\nadd('a')\nadd('b')", "./a ./b"),
            (
                "def add(p): sys.path.append(os.path.join('x', p))\ndef f():\n    for n in ('a', 'b'): add(n)",
                "./x/a ./x/b",
            ),
            ("def add(x, p): sys.path.append(p)\nadd(1, p='a')", "./a"),
            ("def add(p): sys.path.append(p)\nadd(x)", ""),
            ("def add(p): sys.path.append(p)\nadd(*x)", ""),
            ("def add(p):\n    p = f(p)\n    sys.path.append(p)\nadd('a')", ""),
            ("def add(p): add(p)\nadd(add)", ""),
        ],
    );
    let source = "def load(name):\n    return open(f'data/{name}.csv')\nload('a')\nload('b')";
    assert_eq!(files(source), "Lazy ./data/a.csv Lazy ./data/b.csv");
    // A default is what nobody gives.
    assert_eq!(
        files("def f(x='a.csv', *, y=None, z=N, w='c'): open(x); open(y); open(w + '.csv')"),
        "Lazy ./a.csv Lazy ./c.csv"
    );
    assert_eq!(
        files("import os\nclass A:\n    def __init__(self, x='a'): self.x = x\n    def f(self): open(self.x + '/b')"),
        "Lazy ./a/b"
    );
    assert_eq!(imports("def f(x='a'): __import__(x)"), "Call Lazy a");
}
