//! Files that are named, and edits of the search path.

use super::*;

const HEAD: &str = "import os, sys, io, codecs, gzip, json, pickle, ctypes, runpy, subprocess, importlib.util, importlib.resources, pkgutil\nimport pandas as pd, numpy as np\nfrom pathlib import Path\n";

fn with_imports(source: &str) -> String {
    files(&format!("{HEAD}{source}"))
}

#[test]
fn files_that_are_read() {
    all(
        with_imports,
        &[
            ("open('a/b.csv')", "./a/b.csv"),
            ("open('a', 'r')\nopen('b', mode='rb')\nopen('c', 'r+')", "./a ./b ./c"),
            ("open('a', 'w')\nopen('b', mode='ab')\nopen('c', 'x')\nopen('d', 'w+')", ""),
            ("open('a', mode)", "./a"),
            ("open(file='a')", "./a"),
            (
                "io.open('a')\ncodecs.open('b', 'r', 'utf-8')\ngzip.open('c.gz', 'rt')\ngzip.open('d.gz', 'wb')",
                "./a ./b ./c.gz",
            ),
            ("from bz2 import open as bopen\nbopen('a')", "./a"),
            ("def open(x): pass\nopen('a')", ""),
            ("from mine import open\nopen('a')", ""),
            ("json.load(open('a.json'))", "./a.json"),
            ("with open('a') as f: pass", "./a"),
            ("Path('a').open()\nPath('b').read_text()\nPath('c').read_bytes()", "./a ./b ./c"),
            ("Path('a.txt').open('w')\nPath('b.txt').write_text('x')\nPath('c.d').mkdir()", ""),
            ("pd.read_csv('a')\npd.read_parquet('b.parquet')\npd.read_excel(io='c.xlsx')", "./a ./b.parquet ./c.xlsx"),
            ("pd.read_csv(filepath_or_buffer='a')", "./a"),
            ("np.load('a.npy')\nnp.loadtxt('b')\nnp.load(name)", "./a.npy ./b"),
            ("x.load('strategy')\nx.load('a.pkl')\nx.load('dir/a')", "./a.pkl ./dir/a"),
            ("pickle.load(f)\njson.loads('a.json')", ""),
            (
                "import sqlite3\nsqlite3.connect('a.db')\nsqlite3.connect(':memory:')\nsqlite3.connect('file:x?mode=ro')",
                "./a.db",
            ),
            ("sock.connect('localhost')", ""),
            ("import configparser\nc = configparser.ConfigParser()\nc.read(['a.ini', 'b.ini'])", "./a.ini ./b.ini"),
            ("import h5py\nh5py.File('a.h5', 'r')\nh5py.File('b.h5', 'w')\nh5py.File('c.h5')", "./a.h5 ./c.h5"),
            ("np.memmap('a.bin', dtype='f4', mode='r')\nnp.memmap('b.bin', dtype='f4', mode='w+')", "./a.bin"),
            ("pd.read_csv('https://x/a.csv')\nopen('')\nopen('a\\nb')\npd.read_csv('s3://a/b.csv')", ""),
            ("df.to_csv('a.csv')\nplt.savefig('b.png')\nnp.save('c.npy', x)", ""),
            ("def f():\n    open('a')\nif __name__ == '__main__':\n    open('b')", "Lazy ./a MainOnly ./b"),
            ("open('a'); open('a')", "./a"),
            ("open('/a/b')\nopen('../c')\nopen('~/d')", "/a/b ./../c"),
        ],
    );
}

#[test]
fn paths_that_are_mentioned() {
    all(
        with_imports,
        &[
            ("x = Path('a.csv')", "./a.csv"),
            ("x = Path('a')", ""),
            ("f(Path('d') / 'a.csv')", "./d/a.csv"),
            ("f(Path('a.d') / 'b.csv')", "./a.d/b.csv"),
            ("f(Path(__file__).parent / 'a.json')", "<1>/a.json"),
            ("f(os.path.join(os.path.dirname(__file__), 'a.json'))", "<1>/a.json"),
            ("f(os.path.join('x', name))", ""),
            ("df.to_csv(Path('a.csv'))", ""),
            ("OUT = Path('a.csv')\ndf.to_csv(OUT)", ""),
            ("OUT = Path('a.csv')\ndf.to_csv(OUT)\npd.read_csv(OUT)", "./a.csv"),
            ("OUT = Path('a.csv')\nwith open(OUT, 'w') as f: pass", ""),
            ("', '.join(['a.csv'])", ""),
            ("a / 'b.csv'", ""),
            ("x = Path('v1.0')", ""),
            ("Path('a.csv').exists()", "./a.csv"),
        ],
    );
}

#[test]
fn files_that_are_executed_or_loaded() {
    all(
        with_imports,
        &[
            ("runpy.run_path('a.py')", "Code ./a.py"),
            ("runpy.run_path(path_name=os.path.join(os.path.dirname(__file__), 'a.py'))", "Code <1>/a.py"),
            ("exec(open('a.py').read())", "Code ./a.py"),
            ("exec(compile(open('a.py', 'rb').read(), 'a.py', 'exec'), g)", "Code ./a.py"),
            ("exec(Path('a.py').read_text())", "Code ./a.py"),
            ("with open('a.py') as f:\n    exec(f.read())", "Code ./a.py"),
            ("with open('a.py') as f:\n    exec(compile(f.read(), 'a.py', 'exec'))", "Code ./a.py"),
            ("code = open('a.py').read()\nexec(code)", "Code ./a.py"),
            ("exec('x = 1')", ""),
            ("def exec(x): pass\nexec(open('a.py').read())", "./a.py"),
            ("importlib.util.spec_from_file_location('x', 'a.py')", "Code ./a.py"),
            ("importlib.util.spec_from_file_location('x', location=Path(__file__).with_name('a.py'))", "Code <1>/a.py"),
            ("from importlib.machinery import SourceFileLoader as L\nL('x', 'a/b.py').load_module()", "Code ./a/b.py"),
            ("import imp\nimp.load_source('x', 'a.py')", "Code ./a.py"),
            ("subprocess.run([sys.executable, 'a.py', 'x'])", "Process ./a.py"),
            ("subprocess.run([sys.executable, __file__])", "Process <0>/"),
            ("subprocess.Popen('python a/b.py --x', shell=True)", "Process ./a/b.py"),
            ("subprocess.run(['python', Path(__file__).parent / 'a.py'])", "Process <1>/a.py"),
            ("subprocess.run(['python', 'a.py'], cwd='sub')", "Process ./sub/a.py"),
            ("subprocess.run(['python', 'a.py'], cwd=x)", ""),
            ("subprocess.run(['python', 'a.py'], cwd=None)", "Process ./a.py"),
            ("os.system('python a.py')", "Process ./a.py"),
            ("os.execl(sys.executable, sys.executable, 'a.py')", "Process ./a.py"),
            ("os.execv(sys.executable, [sys.executable, 'a.py'])", "Process ./a.py"),
            ("os.spawnl(os.P_WAIT, 'python', 'python', 'a.py')", "Process ./a.py"),
            ("os.system(f'python {os.path.dirname(__file__)}/a.py {x}')", "Process <1>/a.py"),
            ("os.system('cat a.py')", ""),
            (
                "ctypes.CDLL('./a.so')\nctypes.cdll.LoadLibrary('/x/b.so')\nctypes.PyDLL('c/d.so')",
                "Library ./a.so Library /x/b.so Library ./c/d.so",
            ),
            ("ctypes.CDLL(os.path.join(os.path.dirname(__file__), 'a.so'))", "Library <1>/a.so"),
            ("ctypes.CDLL('libc.so.6')\nctypes.CDLL(None)", ""),
        ],
    );
}

#[test]
fn files_of_packages() {
    all(
        with_imports,
        &[
            ("importlib.resources.files('a.b') / 'x.csv'", "a.b:x.csv"),
            ("from importlib.resources import files\nfiles('a').joinpath('d', 'x').read_text()", "a:d/x"),
            ("from importlib import resources as r\nwith r.as_file(r.files('a') / 'x') as p: pass", "a:x"),
            ("D = importlib.resources.files('a')\nD / 'x.csv'", "a:x.csv"),
            ("importlib.resources.files(__package__) / 'x'", ".:x"),
            ("importlib.resources.files(__name__).joinpath('x').open()", ".:x"),
            ("import a.b\nimportlib.resources.files(a.b) / 'x'", "a.b:x"),
            ("from . import d\nimportlib.resources.files(d) / 'x'", ".d:x"),
            ("importlib.resources.files(x) / 'x.csv'", ""),
            ("importlib.resources.read_text('a', 'x.txt')", "a:x.txt"),
            ("importlib.resources.open_binary('a', 'x')", "a:x"),
            ("with importlib.resources.path('a.b', 'x') as p: pass", "a.b:x"),
            ("pkgutil.get_data('a', 'd/x.bin')\npkgutil.get_data(__name__, 'y')", "a:d/x.bin .:y"),
            ("import pkg_resources\npkg_resources.resource_filename(__name__, 'x')", ".:x"),
            ("import pkg_resources\npkg_resources.resource_string('a', 'x')", "a:x"),
            ("importlib.resources.files('a')", ""),
            ("pkgutil.get_data(x, 'y.csv')", ""),
        ],
    );
}

fn edits(source: &str) -> String {
    let shown = |edit: &SearchPathEdit| {
        let when = if edit.when == When::Always { String::new() } else { format!("{:?} ", edit.when) };
        let target = match edit.target {
            SearchPath::Global => "",
            SearchPath::Site => "site ",
            SearchPath::Removed => "removed ",
            SearchPath::Working => "working ",
            SearchPath::OwnPackage => "own ",
            SearchPath::EveryPortion => "every ",
        };
        format!("{when}{target}{}{}", if edit.first { "first " } else { "" }, shown_path(&edit.path))
    };
    scanned(&format!("{HEAD}import site\n{source}")).search_path.iter().map(shown).collect::<Vec<_>>().join(", ")
}

#[test]
fn files_that_are_listed() {
    let listed = |source: &str| {
        let shown = |listed: &Listed| format!("{:?} {}", listed.when, shown_path(&listed.path)).replace("Always ", "");
        scanned(&format!("{HEAD}import glob\n{source}")).listings.iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    all(
        listed,
        &[
            ("glob.glob('a/*.csv')", "./a/*.csv"),
            ("from glob import iglob as g\nfor x in g('a/**/*.csv', recursive=True): pass", "./a/**/*.csv"),
            ("glob.glob(os.path.join(os.path.dirname(__file__), '*.json'))", "<1>/*.json"),
            ("os.listdir('a')\nos.scandir(Path(__file__).parent / 'b')", "./a/* <1>/b/*"),
            ("os.walk('a')", "./a/**/*"),
            ("Path('a').glob('*.csv')\nPath('b').rglob('*.txt')\nPath('c').iterdir()", "./a/*.csv ./b/**/*.txt ./c/*"),
            ("for s in ('A', 'B'): glob.glob(f'd/{s}/*.csv')", "Conditional ./d/A/*.csv Conditional ./d/B/*.csv"),
            ("os.listdir()\nos.listdir(x)\nx.glob('*.csv')\nast.walk(tree)", ""),
        ],
    );
}

#[test]
fn edits_of_the_search_path() {
    all(
        edits,
        &[
            ("sys.path.insert(0, 'a')", "first ./a"),
            ("sys.path.insert(1, 'a')", "first ./a"),
            ("sys.path.insert(5, 'a')", "./a"),
            ("sys.path.append('a')", "./a"),
            ("sys.path.append('')", "./"),
            ("sys.path.append('..')", "./.."),
            ("sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))", "first <2>/"),
            ("sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'src'))", "first <2>/src"),
            ("ROOT = Path(__file__).parent\nsys.path.append(str(ROOT))", "<1>/"),
            ("sys.path.extend(['a', 'b'])", "./a, ./b"),
            ("sys.path += ['a', 'b']", "./a, ./b"),
            ("sys.path = ['a', 'b'] + sys.path", "first ./b, first ./a"),
            ("sys.path = sys.path + ['a']", "./a"),
            ("sys.path = ['a'] + sys.path + ['b']", "first ./a, ./b"),
            ("sys.path[0:0] = ['a', 'b']", "first ./b, first ./a"),
            ("sys.path[:0] = ['a']", "first ./a"),
            ("sys.path[:] = ['a'] + sys.path[:]", "first ./a"),
            ("sys.path[0] = 'a'", "first ./a"),
            ("from sys import path\npath.append('a')", "./a"),
            ("site.addsitedir('a')", "site ./a"),
            ("__path__.append('a')", "own ./a"),
            ("__path__.insert(0, os.path.join(os.path.dirname(__file__), 'x'))", "own first <1>/x"),
            ("__path__ = pkgutil.extend_path(__path__, __name__)", "every <1>/"),
            ("__import__('pkgutil').extend_path(__path__, __name__)", ""),
            ("import pkg_resources\npkg_resources.declare_namespace(__name__)", "every <1>/"),
            ("if x:\n    sys.path.append('a')\ndef f(): sys.path.append('b')", "Conditional ./a, Lazy ./b"),
            ("sys.path.append(x)\nsys.path.append(os.environ['X'])", ""),
            ("path.append('a')\nmine.path.append('b')\nsys.meta_path.append('c')", ""),
            ("sys.path.remove('a')", "removed ./a"),
            ("for p in ('a', 'b'): sys.path.append(p)", "Conditional ./a, Conditional ./b"),
            ("sys.path.extend(os.path.join('x', p) for p in ['a'])", "./x/a"),
            ("import glob\nsys.path[:0] = sorted(glob.glob('libs/*.egg'))", "first ./libs/*.egg"),
            ("import glob\nfor p in glob.glob('libs/*.whl'): sys.path.append(p)", "Conditional ./libs/*.whl"),
            ("os.chdir('a')\nos.chdir(x)", "working first ./a"),
            ("sys.path.append(sys.path[0] + '/a')", "<main 1>/a"),
            ("sys.path.append(os.path.dirname(sys.argv[0]))", "<main 1>/"),
        ],
    );
}
