//! Cargo's build script: links gcc's part of unwinding into the program, where that can be done.
//!
//! The program is started once for each run of a sweep. To load `libgcc_s.so.1` takes a tenth of such a start, and all that
//! is needed of it are a few functions for backtraces.

// What a build script prints is how it talks to Cargo.
#![allow(clippy::print_stdout)]

use std::env;
use std::path::Path;
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=scripts/link.rs");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    let is_cross = env::var("HOST") != env::var("TARGET");
    if is_cross || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let found = Command::new("cc").arg("-print-file-name=libgcc_eh.a").output();
    let path = found.ok().and_then(|out| String::from_utf8(out.stdout).ok()).unwrap_or_default();
    let library = Path::new(path.trim());
    // Where there is none, the answer is the bare name: then the shared one is used, as ever.
    if let (true, Some(folder)) = (library.is_absolute() && library.is_file(), library.parent()) {
        println!("cargo:rustc-link-search=native={}", folder.display());
        println!("cargo:rustc-link-lib=static:-bundle,+whole-archive=gcc_eh");
    }
}
