//! Imports: how they are said, and when they are done.

use super::*;

#[test]
fn statements() {
    all(
        imports,
        &[
            ("import a.b, c as d", "a.b c"),
            ("from a.b import c, d as e", "a.b{c,d}"),
            ("from . import x", ".{x}"),
            ("from .. a import x", "..a{x}"),
            ("from .... a import *", "....a{*}"),
            ("import ﬁn\nfrom ﬁn import ﬀ", "fin fin{ff}"),
            ("x = 'import a'\n# import b", ""),
            ("from __future__ import annotations", "__future__{annotations}"),
        ],
    );
}

#[test]
fn calls() {
    all(
        imports,
        &[
            ("import importlib\nimportlib.import_module('a.b')", "importlib Call a.b"),
            ("import importlib as il\nil.import_module('a')", "importlib Call a"),
            ("from importlib import import_module as im\nim('a')", "importlib{import_module} Call a"),
            (
                "import importlib.util, importlib\nload = importlib.import_module\nload('a')",
                "importlib.util importlib Call a",
            ),
            ("import importlib\nNAME = 'a' '.b'\nimportlib.import_module(NAME)", "importlib Literal a.b Call a.b"),
            ("import importlib\nimportlib.import_module(name='a')", "importlib Call a"),
            ("import importlib\nimportlib.import_module('.x', package=__package__)", "importlib Call .x"),
            ("import importlib\nimportlib.import_module('..x', __name__)", "importlib Call ..x"),
            ("import importlib\nimportlib.import_module('.x', package='a.b')", "importlib Call a.b.x"),
            ("import importlib\nimportlib.import_module('..x', 'a.b')", "importlib Call a.x"),
            ("import importlib\nimportlib.import_module('...x', 'a.b')", "importlib"),
            ("import importlib\nimportlib.import_module('.x')", "importlib"),
            ("import importlib\nimportlib.import_module('.x', package=p)", "importlib"),
            ("import importlib\nimportlib.import_module(__package__ + '.x')", "importlib Call .x"),
            ("import importlib\nimportlib.import_module(f'{__package__}.x')", "importlib Call .x"),
            ("import importlib\nimportlib.import_module(name)", "importlib"),
            ("import importlib\nimportlib.import_module('not a name')", "importlib"),
            ("importlib.import_module('a')", ""),
            ("import_module('a')", ""),
            ("from mine import import_module\nimport_module('a')", "mine{import_module} Given a{mine.import_module}"),
            ("import importlib\nimportlib.reload(x)", "importlib"),
            ("import importlib.util\nimportlib.util.find_spec('a')", "importlib.util Literal a"),
            ("import importlib.util\nimportlib.util.LazyLoader('a')", "importlib.util"),
            ("__import__('a.b')", "Call a.b"),
            ("__import__('a', globals(), locals(), ['x', 'y'], 0)", "Call a{x,y}"),
            ("__import__('a', fromlist=['x'], level=1)", "Call .a{x}"),
            ("__import__('', globals(), level=1, fromlist=['x'])", "Call .{x}"),
            ("__import__('a.b', fromlist=[''])", "Call a.b"),
            ("__import__('__main__')", ""),
            ("__import__('a', level=2)", "Call ..a"),
            ("def __import__(x): pass\n__import__('a')", "Given a{:__import__}"),
            ("import runpy\nrunpy.run_module('a.b')", "runpy Call a.b{__main__}"),
            ("import runpy\nrunpy.run_module('a-b')", "runpy"),
            ("from pkgutil import resolve_name\nresolve_name('a.b:c.d')", "pkgutil{resolve_name} Call a.b{c}"),
            ("import pkgutil\npkgutil.resolve_name('a.b.c')", "pkgutil Call a.b{c}"),
            (
                "import multiprocessing as mp\nmp.set_forkserver_preload(['a', 'b.c', '__main__'])",
                "multiprocessing Call a Call b.c",
            ),
            (
                "import multiprocessing as mp\nmp.get_context('forkserver').set_forkserver_preload(['a'])",
                "multiprocessing Call a",
            ),
        ],
    );
}

#[test]
fn processes() {
    all(
        imports,
        &[
            (
                "import subprocess, sys\nsubprocess.run([sys.executable, '-m', 'a.b', 'x'])",
                "subprocess sys Call a.b{__main__}",
            ),
            ("from subprocess import Popen as P\nP(['python3', '-um', 'a'])", "subprocess{Popen} Call a{__main__}"),
            ("import os\nos.system('python -m a.b --x')", "os Call a.b{__main__}"),
            ("import os, sys\nos.system(f'{sys.executable} -m a {x}')", "os sys Call a{__main__}"),
            ("import os\nos.execvp('python', ['python', '-m', 'a'])", "os Call a{__main__}"),
            (
                "import subprocess\ncmd = ['python', '-m', 'a']\nsubprocess.call(cmd + args)",
                "subprocess Call a{__main__}",
            ),
            ("import subprocess\nsubprocess.run(['git', '-m', 'a'])", "subprocess"),
            ("import subprocess\nsubprocess.run(['python', '-m', name])", "subprocess"),
            ("mine.run(['python', '-m', 'a'])", ""),
            ("run(['python', '-m', 'a'])", ""),
        ],
    );
}

#[test]
fn computed_names() {
    let with = |source: &str| {
        imports(&format!("from importlib import import_module\n{source}")).replacen("importlib{import_module}", "", 1)
    };
    all(
        with,
        &[
            ("import_module(f'strategies.{name}')", " Prefix strategies"),
            ("import_module('strategies.' + name)", " Prefix strategies"),
            ("import_module('strategies.%s' % name)", " Prefix strategies"),
            ("import_module('strategies.%s.%s' % (a, b))", " Prefix strategies"),
            ("import_module('strategies.{}'.format(name))", " Prefix strategies"),
            ("import_module('a.strategies.s_' + name)", " Prefix a.strategies"),
            ("import_module(f'.{name}', package=__package__)", " Prefix ."),
            ("import_module(f'.sub.{name}', __name__)", " Prefix .sub"),
            ("import_module(f'.{name}', 'pkg.sub')", " Prefix pkg.sub"),
            ("import_module(f'{__package__}.{name}')", " Prefix ."),
            ("import_module(f'{__name__}.sub.{name}')", " Prefix .sub"),
            ("__import__('a.' + name)", " Prefix a"),
            ("BASE = 'a.b'\nimport_module(f'{BASE}.{name}')", " Literal a.b Prefix a.b"),
            ("import_module('a.%s' % 'b')", " Call a.b"),
            ("import_module('.'.join(['a', 'b']))", " Call a.b"),
            ("import_module('.'.join(['a', x]))", " Prefix a"),
            ("import_module('{0}.{x}'.format('a', x='b'))", " Call a.b"),
            ("import_module(f's_{name}')", ""),
            ("import_module(name + '.x')", ""),
            ("import_module(f'{name}.x')", ""),
        ],
    );
}

#[test]
fn all_submodules() {
    all(
        imports,
        &[
            ("import pkgutil\nfor m in pkgutil.iter_modules(__path__): pass", "pkgutil AllSubmodules ."),
            (
                "import pkgutil, a.b\npkgutil.walk_packages(a.b.__path__, a.b.__name__ + '.')",
                "pkgutil a.b AllBelow a.b",
            ),
            ("import pkgutil\nfrom . import x\npkgutil.walk_packages(path=x.__path__)", "pkgutil .{x} AllBelow .x"),
            (
                "from pkgutil import iter_modules as im\nfrom a import b as c\nim(c.__path__)",
                "pkgutil{iter_modules} a{b} AllSubmodules a.b",
            ),
            ("import pkgutil, os\npkgutil.iter_modules([os.path.dirname(__file__)])", "pkgutil os AllSubmodules ."),
            (
                "import pkgutil\nfrom pathlib import Path\npkgutil.iter_modules([str(Path(__file__).parent / 'x')])",
                "pkgutil pathlib{Path} AllSubmodules .x",
            ),
            (
                "import pkgutil, importlib\npkg = importlib.import_module('a.b')\npkgutil.iter_modules(pkg.__path__)",
                "pkgutil importlib Call a.b AllSubmodules a.b",
            ),
            ("import pkgutil\npkgutil.iter_modules()", "pkgutil"),
            ("import pkgutil\npkgutil.iter_modules(paths)", "pkgutil"),
            ("iter_modules(__path__)", ""),
        ],
    );
}

#[test]
fn when_they_are_done() {
    all(
        imports,
        &[
            ("if x: import a\nelif y: import b\nelse: import c", "Conditional a Conditional b Conditional c"),
            (
                "try: import a\nexcept E: import b\nelse: import c\nfinally: import d",
                "Conditional a Conditional b Conditional c d",
            ),
            ("try: import a\nfinally: import b", "a b"),
            ("for x in y: import a\nwhile x: import b", "Conditional a Conditional b"),
            ("match x:\n    case 1: import a", "Conditional a"),
            ("with x: import a", "a"),
            ("from contextlib import suppress\nwith suppress(E): import a", "contextlib{suppress} Conditional a"),
            ("class A:\n    import a\nif x:\n    class B:\n        import b", "a Conditional b"),
            ("def f():\n    import a\n    class A:\n        import b", "Lazy a Lazy b"),
            ("async def f():\n    import a", "Lazy a"),
            ("class A:\n    def f(self):\n        if x: import a", "Lazy a"),
            ("f = lambda: __import__('a')", "Call Lazy a"),
            ("f = lambda x=__import__('a'): x", "Call a"),
            ("@__import__('a').b\ndef f(x=__import__('c')): pass", "Call a Call c"),
            ("@__import__('a').b\nclass A(__import__('c').d): pass", "Call a Call c"),
            ("if __name__ == '__main__': import a\nelse: import b", "MainOnly a Conditional b"),
            ("if '__main__' == __name__: import a", "MainOnly a"),
            ("if __name__ != '__main__': import a\nelse: import b", "Conditional a MainOnly b"),
            ("if __name__ == '__main__' and x: import a", "MainOnly a"),
            ("if __name__ == '__main__':\n    def f(): import a", "Lazy a"),
            ("if __name__ == '__mp_main__': import a", "Conditional a"),
            ("__import__('a') if x else __import__('b')", "Call Conditional a Call Conditional b"),
            ("x and __import__('a')", "Call Conditional a"),
            ("x = [__import__(n, 'a') or __import__('a') for n in y]", "Call Conditional a"),
            ("lazy import a\nlazy from b import c", "Lazy a Lazy b{c}"),
        ],
    );
}

#[test]
fn for_type_checkers() {
    let with = |source: &str| {
        imports(&format!("import typing as t\nfrom typing import TYPE_CHECKING as TC, TYPE_CHECKING\n{source}"))
            .replacen("typing typing{TYPE_CHECKING,TYPE_CHECKING}", "", 1)
    };
    all(
        with,
        &[
            ("if TYPE_CHECKING: import a\nelse: import b", " TypeOnly a b"),
            ("if TC: import a", " TypeOnly a"),
            ("if t.TYPE_CHECKING: import a", " TypeOnly a"),
            ("if not TYPE_CHECKING: import a\nelse: import b", " a TypeOnly b"),
            ("if TYPE_CHECKING or x: import a", " Conditional a"),
            ("if TYPE_CHECKING and x: import a", " TypeOnly a"),
            ("def f():\n    if TYPE_CHECKING: import a", " TypeOnly a"),
            ("if x:\n    if TYPE_CHECKING: import a\n    import b", " TypeOnly a Conditional b"),
        ],
    );
    all(
        imports,
        &[
            ("if TYPE_CHECKING: import a", "Conditional a"),
            ("TYPE_CHECKING = False\nif TYPE_CHECKING: import a", "TypeOnly a"),
            ("MYPY = False\nif MYPY: import a", "TypeOnly a"),
            ("if False:\n    from typing import X\n    import a", "TypeOnly typing{X} TypeOnly a"),
            ("if False: import a", "Never a"),
            ("from mine import TYPE_CHECKING\nif TYPE_CHECKING: import a", "mine{TYPE_CHECKING} Conditional a"),
            (
                "try: from typing import TYPE_CHECKING\nexcept ImportError: TYPE_CHECKING = False\nif TYPE_CHECKING: import a",
                "Conditional typing{TYPE_CHECKING} TypeOnly a",
            ),
        ],
    );
}

#[test]
fn versions_and_platforms() {
    let with = |target: Target| {
        move |source: &str| {
            let scan = scan(format!("import sys, os, six\n{source}").as_bytes(), &target);
            let shown: Vec<_> = scan.imports.iter().skip(3).map(shown_import).collect();
            shown.join(" ")
        }
    };
    all(
        with(target()),
        &[
            ("if sys.version_info >= (3, 11): import a\nelse: import b", "a Never b"),
            (
                "if sys.version_info < (3, 11): import a\nelif x: import b\nelse: import c",
                "Never a Conditional b Conditional c",
            ),
            ("if sys.version_info >= (3, 12): import a", "a"),
            ("if sys.version_info > (3, 12): import a", "a"),
            ("if sys.version_info <= (3, 12): import a", "Never a"),
            ("if sys.version_info == (3, 12): import a", "Never a"),
            ("if sys.version_info >= (3, 12, 4): import a", "Conditional a"),
            ("if sys.version_info >= (3, 11, 4): import a", "a"),
            ("if (3, 13) <= sys.version_info: import a", "Never a"),
            ("if sys.version_info[0] == 2: import a\nelse: import b", "Never a b"),
            ("if sys.version_info[:2] >= (3, 13): import a", "Never a"),
            ("if sys.version_info[:2] == (3, 12): import a", "a"),
            ("if sys.version_info.major >= 3: import a", "a"),
            ("if sys.version_info.minor < 9: import a", "Never a"),
            ("if sys.version_info[1] < x: import a", "Conditional a"),
            ("from sys import version_info as v\nif v < (3,): import a", "sys{version_info} Never a"),
            ("PY2 = sys.version_info[0] == 2\nif PY2: import a\nelse: import b", "Never a b"),
            ("if six.PY2: import a", "Conditional a"),
            ("if sys.platform == 'win32': import a\nelse: import b", "Never a b"),
            ("if sys.platform.startswith('win'): import a", "Never a"),
            ("if sys.platform.startswith(('linux', 'darwin')): import a", "a"),
            ("if sys.platform in ('win32', 'cygwin'): import a", "Never a"),
            ("if sys.platform not in ['win32']: import a", "a"),
            ("if os.name == 'nt': import a\nelse: import b", "Never a b"),
            ("if os.name != 'nt': import a", "a"),
            ("if x and os.name == 'nt': import a", "Never a"),
            ("if x or os.name == 'nt': import a", "Conditional a"),
            ("if not (os.name == 'nt' or sys.version_info < (3,)): import a", "a"),
            ("if 0: import a\nelif 1: import b\nelse: import c", "Never a b Never c"),
            ("if os.name == 'nt':\n    def f():\n        if TYPE_CHECKING: import a", "Never a"),
            ("DEBUG = False\nif DEBUG: import a", "Conditional a"),
            ("if sys.foo == 'win32': import a", "Conditional a"),
            ("if sys.implementation.name == 'pypy': import a", "Never a"),
            ("if os.name == 'posix' and sys.implementation.name != 'cpython': import a", "Never a"),
            ("x = __import__('a') if os.name == 'nt' else __import__('b')", "Call Never a Call b"),
            ("os.name == 'nt' and __import__('a')", "Call Never a"),
            ("os.name == 'nt' or __import__('a')", "Call a"),
        ],
    );
    all(
        with(windows()),
        &[
            ("if sys.version_info >= (3, 11): import a\nelse: import b", "Never a b"),
            ("if sys.platform == 'win32': import a\nelse: import b", "a Never b"),
            ("if os.name == 'nt': import a", "a"),
        ],
    );
}

#[test]
fn names_that_are_bound_anew_mean_nothing_known() {
    all(
        imports,
        &[
            ("import importlib\ndef f(importlib):\n    importlib.import_module('a')", "importlib"),
            ("import importlib\ndef f():\n    importlib = g()\n    importlib.import_module('a')", "importlib"),
            ("def f():\n    import importlib\n    importlib.import_module('a')", "Lazy importlib Call Lazy a"),
            ("def f():\n    import importlib\nimportlib.import_module('a')", "Lazy importlib"),
            ("import importlib\nimportlib = 3 + 4\nimportlib.import_module('a')", "importlib"),
            (
                "import importlib\ndef f():\n    global importlib\n    importlib = 1\nimportlib.import_module('a')",
                "importlib",
            ),
            ("N = 'a'\nN = 'b'\n__import__(N)", ""),
            ("N = 'a'\nfor N in x: __import__(N)", ""),
            ("N = 'a'\n[__import__(N) for N in x]", ""),
            ("N = 'a'\n(lambda N: __import__(N))", ""),
            ("N = 'a'\nif (N := 'b'): __import__(N)", ""),
            ("A, B = 'a', 'b'\n__import__(B)", "Call b"),
            ("N = 'a'\nclass C:\n    N = 'b'\n    def f(self): __import__(N)", "Call Lazy a"),
            ("class C:\n    N = 'b'\n    __import__(N)", "Call b"),
            ("A = B\nB = A\n__import__(A)", ""),
            (
                "try: import importlib\nexcept E: importlib = None\nimportlib.import_module('a')",
                "Conditional importlib Call a",
            ),
        ],
    );
}

#[test]
fn code_in_strings() {
    all(
        imports,
        &[
            ("exec('import a')", "a"),
            ("if x: exec('import a')", "Conditional a"),
            ("def f(): exec('def g(): import a')", "Lazy a"),
            ("eval(\"__import__('a')\")", "Call a"),
            ("c = compile('import a', 'x', 'exec')\nexec(c)", "a"),
            ("import timeit\ntimeit.timeit('import b', setup='import a')", "timeit a b"),
            ("for n in ('a', 'b'): exec(f'import {n}')", "Conditional a Conditional b"),
            ("import subprocess, sys\nsubprocess.run([sys.executable, '-c', 'import a'])", "subprocess sys a"),
            ("import os\nos.system('python -c \"import a\" | cat')", "os a"),
            ("exec(\"exec('import a')\")", "a"),
            ("df.eval('import a')\ndef eval(x): pass\neval('import b')", ""),
            ("exec('import (')\nexec(x)", ""),
        ],
    );
}

#[test]
fn walks_and_lazy_submodules() {
    all(
        imports,
        &[
            ("import pkgutil\npkgutil.walk_packages(__path__)", "pkgutil AllBelow ."),
            ("import pkgutil\npkgutil.iter_modules(__path__)", "pkgutil AllSubmodules ."),
            (
                "import lazy_loader as l\nl.attach(__name__, submodules=['a'], submod_attrs={'b': ['C']})",
                "lazy_loader Call Lazy .{a,b}",
            ),
            ("import lazy_loader as l\nl.attach_stub(__name__, __file__)", "lazy_loader AllSubmodules Lazy ."),
            ("x.attach(__name__, submodules=['a'])", ""),
        ],
    );
}
