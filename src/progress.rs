//! How long operations report what they do, without printing anything themselves.

/// Receives the progress and the non-fatal problems of an operation.
///
/// All methods do nothing by default; `()` is the silent receiver.
pub trait Progress: Sync {
    /// An operation begins a stage of `total` units (0 where the total is not known).
    fn begin(&self, _stage: &'static str, _total: u64) {}
    /// `units` more of the current stage are done.
    fn advance(&self, _units: u64) {}
    /// The current stage is over.
    fn end(&self) {}
    /// Something went wrong that does not end the operation.
    fn warn(&self, _message: &str) {}
}

impl Progress for () {}
