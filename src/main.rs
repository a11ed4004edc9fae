//! The `runsnap` command.
#![cfg_attr(all(target_os = "linux", target_env = "gnu", not(test)), no_main)]

mod cli;

/// Takes the place of what the standard library does before its main, most of which is to ask the kernel where the stack
/// is, in order to explain an overflow: a fifteenth of a capture. What it does else is in [`cli::start`].
///
/// The attribute says that no other function has this name.
#[cfg(all(target_os = "linux", target_env = "gnu", not(test)))]
#[allow(unsafe_code)]
#[unsafe(no_mangle)]
extern "C" fn main() -> std::ffi::c_int {
    cli::start::prepare();
    // Which writes out what is still to be printed.
    std::process::exit(cli::main().into())
}

#[cfg(not(all(target_os = "linux", target_env = "gnu", not(test))))]
fn main() -> std::process::ExitCode {
    std::process::ExitCode::from(cli::main())
}
