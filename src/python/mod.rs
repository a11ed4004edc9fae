//! What is known of Python: its sources, its interpreters, its command line.

pub mod notebook;
pub mod source;
