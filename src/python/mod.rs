//! What is known of Python: its sources, its interpreters, its command line.

pub mod flags;
pub mod interpreter;
pub mod variables;
