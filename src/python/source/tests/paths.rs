//! Paths that are computed.

use super::*;

fn opened(expression: &str) -> String {
    files(&format!(
        "import os, pathlib, inspect, sys\nimport os.path as osp\nfrom os.path import join as j, dirname\nfrom pathlib import Path\nHERE = os.path.dirname(os.path.abspath(__file__))\nROOT = Path(__file__).resolve().parent.parent\nNAME = 'x'\nopen({expression})"
    ))
}

#[test]
fn expressions_that_are_known() {
    all(
        opened,
        &[
            ("'a' 'b'", "./ab"),
            ("'a/' + 'b'", "./a/b"),
            ("'a/' + NAME + '.csv'", "./a/x.csv"),
            ("f'a/{NAME}.csv'", "./a/x.csv"),
            ("f'{NAME!s}'", "./x"),
            ("'%s/%s.csv' % (HERE, NAME)", "<1>/x.csv"),
            ("'{}/{}.csv'.format(HERE, NAME)", "<1>/x.csv"),
            ("'%s%%' % NAME", "./x%"),
            ("__file__", "<0>/"),
            ("HERE + '/a.csv'", "<1>/a.csv"),
            ("f'{HERE}/a.csv'", "<1>/a.csv"),
            ("os.path.join(HERE, 'a', '..', 'b.csv')", "<1>/b.csv"),
            ("os.path.join(HERE, '..', 'b.csv')", "<2>/b.csv"),
            ("os.path.join(HERE, os.pardir, os.pardir, 'b')", "<3>/b"),
            ("os.path.join(HERE, '/a')", "/a"),
            ("osp.join(HERE, 'a')", "<1>/a"),
            ("j(dirname(__file__), 'a')", "<1>/a"),
            ("os.path.normpath(os.path.join(HERE, '../a'))", "<2>/a"),
            ("os.path.realpath(os.path.join(os.curdir, 'a'))", "./a"),
            ("os.path.dirname(os.path.join(HERE, 'a', 'b'))", "<1>/a"),
            ("os.path.join(os.getcwd(), 'a')", "./a"),
            ("os.path.join(os.path.dirname(os.getcwd()), 'a')", "./../a"),
            ("os.path.join(os.path.dirname('a/b'), 'c')", "./a/c"),
            ("os.path.join(os.path.split(__file__)[0], 'c')", "<1>/c"),
            ("os.path.splitext(HERE + '/a.py')[0] + '.json'", "<1>/a.json"),
            ("os.path.expanduser('a')", "./a"),
            ("os.fspath(ROOT / 'a')", "<2>/a"),
            ("str(ROOT) + os.sep + 'a'", "<2>/a"),
            ("ROOT / 'a' / 'b.csv'", "<2>/a/b.csv"),
            ("ROOT.joinpath('a', 'b')", "<2>/a/b"),
            ("Path(__file__).parents[2] / 'a'", "<3>/a"),
            ("Path(__file__).with_name('a.json')", "<1>/a.json"),
            ("(ROOT / 'a.csv').with_suffix('.json')", "<2>/a.json"),
            ("Path('a', 'b', 'c')", "./a/b/c"),
            ("Path('a') / '/b'", "/b"),
            ("pathlib.PurePath('a').joinpath('b')", "./a/b"),
            ("Path.cwd() / 'a'", "./a"),
            ("Path.cwd().parent / 'a'", "./../a"),
            ("Path(HERE, 'a')", "<1>/a"),
            ("Path(HERE).absolute() / Path('a')", "<1>/a"),
            ("'a' / Path('b')", "./a/b"),
            ("Path(os.path.dirname(os.path.realpath(__file__))) / '..' / 'a'", "<2>/a"),
            ("os.path.join(os.path.dirname(inspect.getfile(inspect.currentframe())), 'a')", "<1>/a"),
            ("(ROOT / 'a.csv').as_posix()", "<2>/a.csv"),
        ],
    );
}

#[test]
fn expressions_that_are_not() {
    for expression in [
        "x",
        "x + '/a.csv'",
        "'a/' + x",
        "f'a/{x}.csv'",
        "f'{NAME:>10}'",
        "f'{NAME=}'",
        "os.path.join(x, 'a')",
        "os.path.join('a', x)",
        "os.path.join(*x)",
        "os.path.expanduser('~/a')",
        "os.environ['A']",
        "os.environ.get('A')",
        "os.path.dirname(sys.executable)",
        "Path.home() / 'a'",
        "Path(x) / 'a'",
        "Path('~/a').expanduser()",
        "HERE + 'a.csv'",
        "'%d' % 3",
        "'%(a)s' % x",
        "'{:>3}'.format(NAME)",
        "'{}/{}'.format(NAME)",
        "NAME / 'a'",
        "mine.join('a', 'b')",
        "sys.argv[1]",
        "input()",
        "3",
        "self.path",
        "HERE[0]",
        "'a' * 3",
    ] {
        assert_eq!(opened(expression), "", "{expression}");
    }
}

#[test]
fn names_are_seen_from_where_they_are_bound() {
    all(
        files,
        &[
            ("A = 'a'\ndef f():\n    B = A + '/b'\n    open(B)", "Lazy ./a/b"),
            ("A = 'a'\ndef f(A):\n    open(A)", ""),
            ("def f():\n    A = 'a'\nopen(A)", ""),
            ("A = 'a'\nA += 'b'\nopen(A)", ""),
            ("if x: A = 'a'\nelse: A = 'b'\nopen(A)", ""),
            ("if x: A = 'a'\nopen(A)", "./a"),
            ("for A in 'a', 'b': open(A)", "Conditional ./a Conditional ./b"),
            ("A: str = 'a'\nopen(A)", "./a"),
            ("A = A + 'a'\nopen(A)", ""),
            ("__file__ = 'x'\nopen(__file__)", "./x"),
        ],
    );
}

#[test]
fn windows_has_its_own_separator() {
    let shown = |source: &str| {
        let scan = scan(source.as_bytes(), &windows());
        scan.files.iter().map(shown_file).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(shown(r"open('a\\b.csv')"), "./a/b.csv");
    assert_eq!(shown(r"open('C:\\a\\b.csv')"), "C:/a/b.csv");
    assert_eq!(shown("import os\nopen(os.path.dirname(__file__) + '\\\\a.csv')"), "<1>/a.csv");
    assert_eq!(files(r"open('a\\b.csv')"), r"./a\b.csv");
}
