//! Notebooks: what of their cells is Python, and what IPython's commands load.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

fn target() -> Target {
    Target { version: (3, 12), platform: "linux".into(), os_name: "posix".into() }
}

fn notebook_of(cells: &[&str]) -> Value {
    let cells: Vec<_> =
        cells.iter().map(|source| json!({"cell_type": "code", "source": source, "outputs": []})).collect();
    json!({"nbformat": 4, "metadata": {"language_info": {"name": "python"}}, "cells": cells})
}

fn bytes(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).expect("JSON")
}

/// What the cells say: imports by their module, files by their path, each with cell and line.
fn said(cells: &[&str]) -> String {
    let (scan, notebook) = scan(&bytes(&notebook_of(cells)), &target()).expect("a notebook");
    assert_eq!(scan.problem, None, "{cells:?}");
    let place = |line| {
        let (cell, line) = notebook.place_of(line);
        format!("{cell}:{line}")
    };
    let imports = scan.imports.iter().map(|import| {
        let names = import.names.as_ref().map(|names| format!("{{{}}}", names.join(","))).unwrap_or_default();
        format!("{} {}{names}", place(import.line), import.module)
    });
    let files = scan.files.iter().map(|file| format!("{} {:?} {}", place(file.line), file.usage, file.path.rest));
    imports.chain(files).collect::<Vec<_>>().join(", ")
}

#[test]
fn cells_are_one_source() {
    assert_eq!(said(&["import a\nP = 'x.csv'", "", "import b\nopen(P)"]), "1:1 a, 3:1 b, 3:2 Data x.csv");
    assert_eq!(said(&["x = 1\r\nimport a\r\n", "import b\r", "import c"]), "1:2 a, 2:1 b, 3:1 c");
    let lists = json!({"cells": [
        {"cell_type": "markdown", "source": ["import no"]},
        {"cell_type": "code", "source": ["import a\n", "import b"]},
        {"cell_type": "raw", "source": "import no"},
        {"cell_type": "code", "source": []},
        {"cell_type": "code", "source": "import c"},
    ]});
    let (scan, notebook) = scan(&bytes(&lists), &target()).expect("a notebook");
    let places: Vec<_> =
        scan.imports.iter().map(|import| (import.module.as_str(), notebook.place_of(import.line))).collect();
    assert_eq!(places, [("a", (2, 1)), ("b", (2, 2)), ("c", (5, 1))]);
}

#[test]
fn a_cell_that_does_not_parse_leaves_the_others_alone() {
    let broken = notebook_of(&["import a", "def f(:\n    pass\nimport b", "import c"]);
    let (scan, notebook) = scan(&bytes(&broken), &target()).expect("a notebook");
    let modules: Vec<_> = scan.imports.iter().map(|import| import.module.as_str()).collect();
    assert_eq!(modules, ["a", "b", "c"]);
    assert_eq!(scan.problem.map(|problem| notebook.place_of(problem.line).0), Some(2));
}

#[test]
fn commands_of_ipython_are_followed() {
    for (cell, expected) in [
        ("%run a.py", "1:1 Process a.py"),
        ("x = 1\n%run -i 'my file.py' --n 3", "1:2 Process my file.py"),
        ("%run a", "1:1 Process a.py"),
        ("%run ../nb.ipynb", "1:1 Process ../nb.ipynb"),
        ("%run -t -m pkg.mod x", "1:1 pkg.mod{__main__}"),
        ("%time %run a.py", "1:1 Process a.py"),
        ("%load a.py", "1:1 Code a.py"),
        ("%loadpy -r 1-3 a.py", "1:1 Code a.py"),
        ("%load_ext pkg.ext", "1:1 pkg.ext"),
        ("%reload_ext pkg", "1:1 pkg"),
        ("%load_ext autoreload\n%autoreload 2", "1:1 IPython.extensions.autoreload"),
        ("!python a.py --x", "1:1 Process a.py"),
        ("!python -m pkg", "1:1 pkg{__main__}"),
        ("!{sys.executable} a.py", "1:1 Process a.py"),
        ("out = !python a.py\nimport b", "1:2 b, 1:1 Process a.py"),
        ("!!python a.py", "1:1 Process a.py"),
        ("%%time\nimport a", "1:2 a"),
        ("\n%%capture out\nimport a", "1:3 a"),
        ("%%timeit -n 3\nimport a", "1:2 a"),
        ("%%python\nimport a", "1:2 a"),
        ("%%bash\nset -e\n\n  python a.py\n", "1:4 Process a.py"),
        ("%%sh\n# comment\npython -m pkg", "1:3 pkg{__main__}"),
        ("if x:\n    %run a.py", "1:2 Process a.py"),
        ("%run a.py \\\n  --x\nimport b", "1:3 b, 1:1 Process a.py"),
        ("import a; x = 1\na?", "1:1 a"),
        ("x = '''\n%run no.py\n'''\n%run a.py", "1:4 Process a.py"),
        ("x = (1\n%run\n)\nimport b", "1:4 b"),
        ("x = 5 \\\n% 3\nimport b", "1:3 b"),
        ("x = \"it's\" # it's\n!python a.py", "1:2 Process a.py"),
        ("!echo \"it's\nimport b", "1:2 b"),
        ("get_ipython().run_line_magic('run', 'a.py')", "1:1 Process a.py"),
        ("get_ipython().system('python a.py')", "1:1 Process a.py"),
        ("get_ipython().run_cell_magic('bash', '', 'python a.py')", "1:1 Process a.py"),
    ] {
        assert_eq!(said(&[cell]), expected, "{cell}");
    }
}

#[test]
fn what_is_not_python_is_left_out() {
    for cell in [
        "%%bash\nimport a",
        "%%html\n<import a>",
        "%%writefile x.py\nimport a",
        "%%javascript\nimport a from 'b'",
        "%%sql\nselect import",
        "%%python2\nprint 'x'",
        "%matplotlib inline\n%env A=1\n%cd dir\n%autoreload 2",
        "!ls a.py",
        "!pip install a",
        "x = %pwd",
        "?open\nopen?\nopen??",
        "%run $name",
        "%run {name}.py",
        "%run ~/a.py",
        "%load_ext",
        "!cd sub && python a.py",
    ] {
        assert_eq!(said(&[cell]), "", "{cell}");
        assert_eq!(said(&[cell, "import b"]), "2:1 b", "{cell}");
    }
}

#[test]
fn older_formats_are_read() {
    let third = json!({"nbformat": 3, "metadata": {"name": ""}, "worksheets": [{"cells": [
        {"cell_type": "heading", "source": "x", "level": 1},
        {"cell_type": "code", "language": "python", "input": ["import a\n", "import b"]},
        {"cell_type": "code", "language": "r", "input": "import c"},
    ]}]});
    let (scan, _) = scan(&bytes(&third), &target()).expect("a notebook");
    let modules: Vec<_> = scan.imports.iter().map(|import| import.module.as_str()).collect();
    assert_eq!(modules, ["a", "b"]);
}

#[test]
fn what_is_no_notebook_of_python_is_refused_with_the_reason() {
    let reason = |value: &[u8]| source_of(value).expect_err("refused");
    assert!(reason(b"").contains("not a notebook"));
    assert!(reason(b"{}").contains("no cells"));
    assert!(reason(b"[1]").contains("not a notebook"));
    assert!(reason(b"{\"cells\": 3}").contains("not a notebook"));
    assert!(reason(b"{\"cells\": [{\"cell_type\": \"code\", \"source\": 3}]}").contains("not a notebook"));
    let of = |metadata: Value| json!({"metadata": metadata, "cells": []});
    assert!(reason(&bytes(&of(json!({"language_info": {"name": "R"}})))).contains("another language: R"));
    assert!(reason(&bytes(&of(json!({"kernelspec": {"language": "julia"}})))).contains("julia"));
    for python in [
        json!({"kernelspec": {"language": "python"}}),
        json!({"language_info": {"name": "ipython3"}}),
        json!({"language_info": {"name": "Python"}}),
        json!({}),
        json!(null),
        json!(3),
    ] {
        assert_eq!(source_of(&bytes(&of(python.clone()))), Ok(Notebook::default()), "{python}");
    }
    assert_eq!(source_of(b"\xef\xbb\xbf{\"cells\": []}"), Ok(Notebook::default()), "a byte order mark");
    let nested = format!("{{\"metadata\": {}{}, \"cells\": []}}", "[".repeat(100_000), "]".repeat(100_000));
    assert!(reason(nested.as_bytes()).contains("recursion limit"));
    assert!(reason(&vec![b' '; (64 << 20) + 1]).contains("bytes long"));
    let deep = notebook_of(&[&format!("x = {}", "(".repeat(100_000))]);
    let (scan, _) = scan(&bytes(&deep), &target()).expect("a notebook");
    assert!(scan.problem.is_some_and(|problem| problem.message.contains("nested too deeply")));
}

#[test]
fn damaged_brackets_before_a_command_are_read() {
    let cell = "x[ b, 3\nopen`'x')\n?o\n%x\n!y = %z";
    assert!(scan(&bytes(&notebook_of(&[cell])), &target()).expect("a notebook").0.problem.is_some());
}

proptest! {
    #[test]
    fn any_cells_are_read(cells in proptest::collection::vec("(%%?|!|\\?|\\\\|x = [%!])?[a-z ./{}$'\"-]{0,12}([\n\r(:\\\\?é][ -~]{0,10}){0,3}", 0..5)) {
        let cells: Vec<_> = cells.iter().map(String::as_str).collect();
        let (scan, notebook) = scan(&bytes(&notebook_of(&cells)), &target()).expect("a notebook");
        let mut lines: Vec<_> = scan.imports.iter().map(|import| import.line).collect();
        lines.extend(scan.problem.map(|problem| problem.line));
        for line in lines {
            let (cell, line) = notebook.place_of(line);
            prop_assert!((1..=cells.len() as u32).contains(&cell) && line >= 1, "{} {}", cell, line);
        }
    }

    #[test]
    fn any_bytes_are_refused_or_read(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = scan(&bytes, &target());
    }
}
