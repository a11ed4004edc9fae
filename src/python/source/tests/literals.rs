//! Strings that may name modules and files, whoever gets them.

use super::*;

#[test]
fn strings_that_may_name_modules() {
    all(
        imports,
        &[
            ("run('a.b')", "Literal a.b"),
            ("X = ['a.b', 'c.d.E']", "Literal a.b Literal c.d.E"),
            ("x = {'k': 'a.b:C'}", "Literal a.b"),
            ("def f(x='a.b'): return 'c.d'", "Literal a.b Literal Lazy c.d"),
            ("if x: run('a.b')", "Literal Conditional a.b"),
            ("'''a.b'''\ndef f():\n    'c.d'", ""),
            ("# 'a.b'", ""),
            ("import logging\nlogging.getLogger('a.b')", "logging"),
            ("__all__ = ['a.b']\n__all__ += ['c.d']", ""),
            ("run('a')\nrun('a b.c')\nrun('.a.b')\nrun('a..b')\nrun('a.b.')\nrun('a.1')\nrun('a:b')", ""),
            ("x = 'a.csv'\ny = ['b.json', 'c.py']", ""),
            ("run(f'a.b')\nrun(b'a.b')", ""),
            ("__import__('a.b')", "Call a.b"),
        ],
    );
}

#[test]
fn paths_that_are_given_away() {
    all(
        files,
        &[
            ("f('a/b.csv')", "Lazy ./a/b.csv"),
            ("f(x, path='a.csv')", "Lazy ./a.csv"),
            ("p.add_argument('--x', default='a/b.json')", "Lazy ./a/b.json"),
            ("import os\nf(os.environ.get('X', 'a/b.csv'))", "Lazy ./a/b.csv"),
            ("P = 'a.csv'\nf(P)", "Lazy ./a.csv"),
            ("f(['a.csv', 'b.csv'])", "Lazy ./a.csv Lazy ./b.csv"),
            ("for s in ('A', 'B'): f('d/' + s)", "Lazy ./d/A Lazy ./d/B"),
            ("def load(p): pass\nload('a.csv')", "Lazy ./a.csv"),
            ("if __name__ == '__main__': f('a.csv')", "MainOnly ./a.csv"),
            ("open('a.csv')\nf('a.csv')", "./a.csv"),
            ("f('a')\nf('a b')\nf('http://x/a.csv')\nf('*.csv')\nf('a\\n.csv')", ""),
            ("print('a.csv')\nlog.info('a/b.csv')\nraise ValueError('a.csv')", ""),
            ("x.endswith('a.csv')\nx.replace('a/b', 'c/d')\nos.rename('a.csv', 'b.csv')", ""),
            ("import re\nre.search('a/b.c', x)", ""),
            ("x.to_sql('a.csv')\nx.save_all('a.csv')\nx.write('a.csv')\nx.exists('a.csv')", ""),
            ("P = 'a.csv'\nf(P)\nwith open(P, 'w') as g: pass", ""),
        ],
    );
}

#[test]
fn files_that_are_written() {
    let written = |source: &str| scanned(source).written.iter().map(shown_path).collect::<Vec<_>>().join(" ");
    all(
        written,
        &[
            ("open('a.bin', 'wb')", "./a.bin"),
            ("open('a.txt', 'a')", "./a.txt"),
            ("df.to_csv('out/a.csv', sep='/')", "./out/a.csv"),
            ("import json\njson.dump(x, open('a.json', 'w'))", "./a.json"),
            ("from pathlib import Path\nPath('a.txt').write_text('x')", "./a.txt"),
            ("from pathlib import Path\nP = Path(__file__).parent / 'a.txt'\nP.open('w')", "<1>/a.txt"),
            ("torch.save(model, 'a.pt')\nplt.savefig('b.png')\nnp.savetxt('c.txt', x)", "./a.pt ./b.png ./c.txt"),
            ("import shutil\nshutil.copy('a.csv', 'b.csv')", "./b.csv"),
            ("for s in 'A B'.split(): df.to_csv(f'{s}.csv')", "./A.csv ./B.csv"),
            ("open('a.csv')\nopen('b.csv', 'r+')\nf('c.csv')", ""),
            ("if False: df.to_csv('a.csv')", ""),
        ],
    );
}
