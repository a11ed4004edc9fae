//! detect: what a program's entry point is, which files a capture of it would track, and why.

pub use super::target::Choice;
use super::target::entry_point_of;
use crate::entry_point::EntryPoint;
use crate::entry_point::find::{self, ProgramTarget, Start};
use crate::error::Result;

/// What was found.
#[derive(Debug, Clone)]
pub struct Detected {
    /// How the run would start.
    pub start: Start,
    /// The entry point.
    pub entry_point: EntryPoint,
    /// Its files, unless only the entry point was asked for.
    pub choice: Option<Choice>,
}

/// Finds the entry point of a program, and the files that a capture of it would track.
pub fn detect(program: &ProgramTarget, with_files: bool) -> Result<Detected> {
    let start = find::find(program)?;
    let choice = with_files.then(|| Choice::of(&start, program, None));
    Ok(Detected { entry_point: entry_point_of(&start), start, choice })
}
