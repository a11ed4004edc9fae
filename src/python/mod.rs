//! What is known of Python: its sources, its interpreters, its import system, its command line.

pub mod bytecode;
pub mod command_line;
pub mod flags;
pub mod import_system;
pub mod interpreter;
pub mod notebook;
pub mod source;
pub mod variables;
