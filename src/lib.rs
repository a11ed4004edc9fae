//! Snapshots the exact code of every backtest in a sweep, deduplicated, and restores it byte for byte.
//!
//! Start at [`store::Store`], which opens or makes a store, and [`operations`], which has one function for each thing
//! that can be done with it. The library neither prints nor reads the environment; what an operation has to say beyond
//! its result goes through [`progress::Progress`].

#![forbid(unsafe_code)]

pub mod checksum;
pub mod chunker;
pub mod decode;
pub mod dense_trees;
pub mod entry_point;
pub mod error;
pub mod file_footer;
pub mod file_header;
pub mod forked;
pub mod id;
pub mod index;
pub mod journal;
pub mod operations;
pub mod pack;
pub mod progress;
pub mod python;
pub mod run_record;
pub mod segment;
pub mod snapshot;
pub mod storage;
pub mod store;
pub mod text_or_base64;
pub mod tracked_files;
pub mod tracked_path;

pub use error::{Error, Result};
