//! What a `.pyc` file says of the files that a run of it needs: its imports, and the source that it was made from.
//!
//! A `.pyc` is a header (a magic number that tells Python's version, flags, and what the source was like) and a code object
//! in the format of Python's `marshal` module. Imports are `IMPORT_NAME` instructions in the code, with the level and the
//! names loaded as constants by the two instructions before it.

mod marshal;

use std::path::Path;

use marshal::{Code, Value, read};

use super::source::{Base, FileUse, How, Import, NamedFile, PathExpression, Problem, Scan, When};

/// Numbers of instructions in a version.
struct Instructions {
    import_name: u8,
    load_const: u8,
    extended_arg: u8,
}

/// From Python 3.6 to 3.12.
const UNTIL_3_12: Instructions = Instructions { import_name: 108, load_const: 100, extended_arg: 144 };
/// Of Python 3.13.
const OF_3_13: Instructions = Instructions { import_name: 75, load_const: 83, extended_arg: 71 };

/// Reads a `.pyc` file: what it says as a source would, and in line 0 the source that it was made from, as its path was
/// then. Takes any bytes, in time and memory that their length bounds.
pub fn scan(bytes: &[u8]) -> Scan {
    let refused = |message: &str| {
        let problem = Some(Problem { line: 0, message: message.to_owned() });
        Scan { problem, ..Scan::default() }
    };
    let Some(([low, high, b'\r', b'\n'], _)) = bytes.split_first_chunk::<4>() else {
        return refused("no bytecode");
    };
    let magic = u16::from_le_bytes([*low, *high]);
    // The numbers stand in a comment of CPython's Lib/importlib/_bootstrap_external.py.
    let (header, layout, instructions) = match magic {
        3379 => (12, marshal::Layout::Until3_7, Some(UNTIL_3_12)),
        3390..=3399 => (16, marshal::Layout::Until3_7, Some(UNTIL_3_12)),
        3400..=3449 => (16, marshal::Layout::Until3_10, Some(UNTIL_3_12)),
        3450..=3549 => (16, marshal::Layout::Since3_11, Some(UNTIL_3_12)),
        3550..=3599 => (16, marshal::Layout::Since3_11, Some(OF_3_13)),
        3600..=3699 => (16, marshal::Layout::Since3_11, None),
        _ => return refused("bytecode of a Python that is not known here"),
    };
    let code = match bytes.get(header..).ok_or_else(|| "cut short".to_owned()).and_then(|code| read(code, layout)) {
        Ok(Value::Code(code)) => code,
        Ok(_) => return refused("no code in it"),
        Err(reason) => return refused(&format!("damaged bytecode: {reason}")),
    };
    let mut out = Scan::default();
    out.files.extend(code.file_name.as_deref().and_then(source_of));
    match instructions {
        Some(instructions) => imports_of(&code, &instructions, When::Always, &mut out.imports),
        None => {
            let message = "bytecode of this version is not looked into for imports".to_owned();
            out.problem = Some(Problem { line: 0, message });
        }
    }
    out
}

/// The source that code was made from.
fn source_of(path: &str) -> Option<NamedFile> {
    // Code that was made from no file has a name such as `<string>`.
    let is_path = !path.is_empty() && !path.starts_with('<');
    let base = if Path::new(path).is_absolute() { Base::Absolute } else { Base::Working };
    let path = PathExpression { base, rest: path.to_owned() };
    is_path.then_some(NamedFile { line: 0, path, usage: FileUse::Data, when: When::Always })
}

fn imports_of(code: &Code, instructions: &Instructions, when: When, imports: &mut Vec<Import>) {
    let mut argument = 0usize;
    // The constants that the last two instructions have loaded.
    let mut loaded: [Option<&Value>; 2] = [None, None];
    for instruction in code.instructions.chunks_exact(2) {
        let [operation, low] = *instruction else { continue };
        argument = (argument << 8) | usize::from(low);
        if operation == instructions.extended_arg {
            continue;
        }
        if operation == instructions.import_name {
            let [level, names] = loaded;
            let level = if let Some(Value::Number(level)) = level { u32::try_from(*level).unwrap_or(0) } else { 0 };
            let names = match names {
                Some(Value::Tuple(names)) => Some(names.iter().filter_map(Value::text).map(str::to_owned).collect()),
                _ => None,
            };
            if let Some(module) = code.names.get(argument) {
                let (module, how) = (module.clone(), How::Statement);
                // A condition cannot be told from the way around it: what stands at the top is likely to be done.
                imports.push(Import { line: code.first_line, module, level, names, how, when });
            }
        }
        let [_, second] = loaded;
        let constant = (operation == instructions.load_const).then(|| code.constants.get(argument)).flatten();
        loaded = [second, constant];
        argument = 0;
    }
    for inner in &code.constants {
        if let Value::Code(inner) = inner {
            // A class's body has no arguments and runs at once, but so looks a function: rather too much than too little.
            imports_of(inner, instructions, When::Lazy, imports);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    const SOURCE: &str = "import os, lib.deep as d\nfrom . import a, b\nfrom ..up.x import y\nfrom star import *\n\
                          def f():\n    import lazy\nclass C:\n    from inner import z\n";

    #[test]
    fn imports_are_read_from_what_python_compiles() {
        let folder = tempfile::tempdir().expect("a folder");
        let (source, compiled) = (folder.path().join("mod.py"), folder.path().join("mod.pyc"));
        // Enough names that an instruction needs a longer argument.
        let many: String = (0..300).map(|n| format!("name_{n} = {n}\n")).collect();
        std::fs::write(&source, format!("{many}{SOURCE}")).expect("written");
        let program = "import py_compile, sys; py_compile.compile(sys.argv[1], sys.argv[2], doraise=True)";
        let status = Command::new("python3").arg("-c").arg(program).args([&source, &compiled]).status();
        assert!(status.expect("python3 runs").success());
        let bytes = std::fs::read(&compiled).expect("readable");
        let read = scan(&bytes);
        assert_eq!(read.files[0].path.rest, source.to_str().expect("UTF-8"));
        let told: Vec<(&str, u32, Vec<&str>, When)> = read
            .imports
            .iter()
            .map(|i| (&*i.module, i.level, i.names.iter().flatten().map(String::as_str).collect(), i.when))
            .collect();
        if read.problem.is_none() {
            let expected = [
                ("os", 0, vec![], When::Always),
                ("lib.deep", 0, vec![], When::Always),
                ("", 1, vec!["a", "b"], When::Always),
                ("up.x", 2, vec!["y"], When::Always),
                ("star", 0, vec!["*"], When::Always),
                ("lazy", 0, vec![], When::Lazy),
                ("inner", 0, vec!["z"], When::Lazy),
            ];
            assert_eq!(told, expected);
        }
        for end in 0..bytes.len() {
            assert!(scan(&bytes[..end]).problem.is_some(), "cut to {end}");
        }
        for place in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[place] ^= 0x55;
            // Whatever comes of it, it comes.
            let _ = scan(&changed);
        }
    }
}
