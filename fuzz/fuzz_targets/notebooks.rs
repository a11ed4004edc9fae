//! Any bytes as a notebook, and any text as the cells of one: every line that is named leads to a cell.
#![no_main]

use libfuzzer_sys::fuzz_target;
use runsnap::python::notebook::scan;
use runsnap::python::source::Target;

fuzz_target!(|bytes: &[u8]| {
    let target = Target { version: (3, 12), platform: "win32".into(), os_name: "nt".into() };
    let _ = scan(bytes, &target);
    // Cells that are apart by a form feed, so that the fuzzer need not find its way through JSON.
    let text = String::from_utf8_lossy(bytes);
    let cells: Vec<_> =
        text.split('\x0c').map(|source| serde_json::json!({"cell_type": "code", "source": source})).collect();
    let count = cells.len() as u32;
    let json = serde_json::to_vec(&serde_json::json!({ "cells": cells })).expect("JSON");
    let (found, notebook) = scan(&json, &target).expect("a notebook");
    let imports = found.imports.iter().map(|import| import.line);
    let files = found.files.iter().map(|file| file.line);
    for line in imports.chain(files).chain(found.problem.iter().map(|problem| problem.line)) {
        let (cell, line) = notebook.place_of(line);
        assert!((1..=count).contains(&cell) && line >= 1, "{cell} {line}");
    }
});
