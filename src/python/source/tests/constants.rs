//! Values of other modules in paths, and those that a source has for others.

use super::*;

#[test]
fn values_of_other_modules() {
    all(
        files,
        &[
            ("import settings\nopen(settings.CONFIG)", "$settings.CONFIG$"),
            ("import settings as s\nopen(s.DATA + '/a.csv')", "$settings.DATA$/a.csv"),
            ("import settings, os\nopen(os.path.join(settings.DATA, 'a.csv'))", "$settings.DATA$/a.csv"),
            ("from settings import DATA as D\nopen(f'{D}/a.csv')", "$settings.DATA$/a.csv"),
            ("from settings import DATA\nopen(DATA / 'a' / 'b.csv')", "$settings.DATA$/a/b.csv"),
            ("from settings import DATA\n(DATA / 'a.csv').read_text()", "$settings.DATA$/a.csv"),
            ("from . import paths\nopen(paths.DATA / 'a.csv')", "$.paths.DATA$/a.csv"),
            ("from ..paths import DATA\nopen(DATA / 'a.csv')", "$..paths.DATA$/a.csv"),
            ("import settings\nopen('{}/{}'.format(settings.D, settings.N))", "$settings.D$/$settings.N$"),
            ("import settings\nopen('%s/x/%s.md' % (settings.D, 'a'))", "$settings.D$/x/a.md"),
            ("import settings, os\nopen(os.path.dirname(settings.CONFIG))", ""),
            ("from settings import DATA\nopen(DATA.parent / 'a.csv')", ""),
            ("import sys\nopen(sys.prefix + '/a.csv')", ""),
            ("open(settings.DATA)\nopen(self.path + '/a.csv')", ""),
            ("open('\\x02a.B\\x02/c.csv')", ""),
        ],
    );
    let own = "import importlib, settings\n";
    assert_eq!(imports(&format!("{own}importlib.import_module(settings.NAME)")), "importlib settings");
    assert_eq!(imports(&format!("{own}importlib.import_module('a.' + settings.N)")), "importlib settings Prefix a");
}

#[test]
fn values_for_others() {
    let constants = |source: &str| {
        let shown = |(name, path): &(String, PathExpression)| format!("{name}={}", shown_path(path));
        scanned(source).constants.iter().map(shown).collect::<Vec<_>>().join(" ")
    };
    all(
        constants,
        &[
            ("A = 'data'\nB: str = 'x.csv'", "A=./data B=./x.csv"),
            ("import os\nD = os.path.join(os.path.dirname(__file__), 'data')", "D=<1>/data"),
            ("from pathlib import Path\nR = Path(__file__).parent\nD = R / 'data'", "R=<1>/ D=<1>/data"),
            ("from base import R\nD = R / 'data'", "D=$base.R$/data"),
            ("A = 1\nB = f()\nC = ''\nD = 'x\\ny'\n__version__ = '1'", ""),
            ("A = 'a'\nA = 'b'\ndef f():\n    B = 'b'", ""),
        ],
    );
}
