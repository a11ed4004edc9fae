//! Packs: immutable files of compressed frames, each frame a sequence of objects.
//!
//! The bytes are described in `schema/pack.md`. Nothing here knows what an object means or where else it may be.

pub mod compression;
pub mod format;
mod reader;
mod writer;

pub use reader::{Frame, Object, Pack};
pub use writer::{PackSummary, PackWriter, PreparedFrame};
