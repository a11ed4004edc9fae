//! What is known of Python: its sources, its interpreters, its command line.

pub mod command_line;
pub mod flags;
pub mod interpreter;
pub mod notebook;
pub mod source;
pub mod variables;
