//! Cargo's build script: links the C library into the program, and lays what captures run close together, where that can be
//! done.
//!
//! The program is started once for each run of a sweep, and a start is a third of what a capture of unchanged code takes. To
//! load three shared libraries, to look up what is used of them and to move the program's own pointers to wherever it was put
//! takes a third of that start. Nothing here is needed but files, sockets and threads, for which the system's static library
//! does as well: names of users and hosts, which it could not look up, are never asked for.
//!
//! A capture runs a twelfth of the program's code. Scattered over all of it, that costs seventy page faults at each start, each
//! of which maps sixteen pages; in a row, a fifth of them.

// What a build script prints is how it talks to Cargo.
#![allow(clippy::print_stdout)]

use std::env;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

fn main() {
    println!("cargo:rerun-if-changed=scripts/link.rs");
    let is = |variable: &str, value: &str| env::var(variable).is_ok_and(|found| found == value);
    let is_cross = env::var("HOST") != env::var("TARGET");
    if is_cross || !is("CARGO_CFG_TARGET_OS", "linux") || !is("CARGO_CFG_TARGET_ENV", "gnu") {
        return;
    }
    let (Some(unwinding), Some(out)) = (library("gcc_eh"), env::var_os("OUT_DIR")) else { return };
    let folder = PathBuf::from(out).join("libraries");
    // By itself in a folder: beside it in gcc's own stands the shared one, which would be found first.
    if fs::create_dir_all(&folder).and_then(|()| fs::copy(&unwinding, folder.join("libgcc_eh.a"))).is_err() {
        return;
    }
    println!("cargo:rustc-link-search=native={}", folder.display());
    println!("cargo:rustc-link-lib=static:-bundle,+whole-archive=gcc_eh");
    let (Some(c), Some(m), Some(gcc)) = (library("c"), library("m"), library("gcc")) else { return };
    let folder = folder.join("static");
    if stand_in(&folder, "c", &[&c, &gcc, &unwinding])
        .and_then(|()| stand_in(&folder, "m", &[&m]))
        .and_then(|()| stand_in(&folder, "gcc_s", &[&unwinding, &gcc]))
        .is_ok()
    {
        println!("cargo:rustc-link-arg-bins=-L{}", folder.display());
        println!("cargo:rustc-link-arg-bins=-static");
        println!("cargo:rustc-link-arg-bins=-no-pie");
    }
    lay_close_together();
}

/// Tells the linker which functions captures run. Their names are those of a release build.
fn lay_close_together() {
    const SCRIPT: &str = "scripts/hot_functions.ld";
    println!("cargo:rerun-if-changed={SCRIPT}");
    let (Some(root), Some(out)) = (env::var_os("CARGO_MANIFEST_DIR"), env::var_os("OUT_DIR")) else { return };
    if env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        let argument = format!("-Wl,-T,{}", Path::new(&root).join(SCRIPT).display());
        if links_with(&argument, Path::new(&out)).unwrap_or(false) {
            println!("cargo:rustc-link-arg-bins={argument}");
        }
    }
}

/// Whether the system's linker understands an argument.
fn links_with(argument: &str, out: &Path) -> io::Result<bool> {
    let source = out.join("nothing.c");
    fs::write(&source, "int main(void) { return 0; }\n")?;
    let done = Command::new("cc").arg(&source).arg("-o").arg(out.join("nothing")).arg(argument).output()?;
    Ok(done.status.success())
}

/// Where a static library is, if it is installed: not every system has that of the C library.
fn library(name: &str) -> Option<PathBuf> {
    let found = Command::new("cc").arg(format!("-print-file-name=lib{name}.a")).output().ok()?;
    let path = PathBuf::from(String::from_utf8(found.stdout).ok()?.trim());
    // Where there is none, the answer is the bare name.
    (path.is_absolute() && path.is_file()).then_some(path)
}

/// Makes a file that the linker takes for a shared library, and that leads it to static ones.
///
/// rustc asks for the shared ones unless it is told otherwise for all of a build, and then it could not build macros.
fn stand_in(folder: &Path, name: &str, libraries: &[&Path]) -> io::Result<()> {
    fs::create_dir_all(folder)?;
    let libraries: Vec<String> = libraries.iter().map(|path| format!("\"{}\"", path.display())).collect();
    fs::write(folder.join(format!("lib{name}.so")), format!("GROUP ( {} )\n", libraries.join(" ")))
}
