//! Tests at the boundary: the real binary, real files, real processes.
//!
//! A module for each thing that a user does or that can happen to a store; `support` has what they share.

#![allow(clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::print_stderr, clippy::unwrap_used)]

mod bad_input;
mod commands;
mod concurrency;
mod damage;
mod detection;
mod forget;
mod formats;
mod gc;
mod gc_killed;
mod history;
mod ids;
mod import;
mod killed;
mod long_frames;
mod merges;
mod million;
mod power_cut;
mod repair;
mod schemas;
mod segment_merges;
mod segments;
mod sessions;
mod states;
mod support;
mod warm;
mod watch;
