//! The conditions that surround a place in a source, and how tests add to them.

use super::When;
use super::conditions::Verdict;

/// The conditions that a place in a source stands under.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Conditions {
    pub(super) conditional: bool,
    pub(super) main_only: bool,
    pub(super) lazy: bool,
    pub(super) type_only: bool,
    pub(super) never: bool,
}

impl Conditions {
    /// The strongest of them.
    pub(super) fn when(self) -> When {
        match self {
            Self { never: true, .. } => When::Never,
            Self { type_only: true, .. } => When::TypeOnly,
            Self { lazy: true, .. } => When::Lazy,
            Self { main_only: true, .. } => When::MainOnly,
            Self { conditional: true, .. } => When::Conditional,
            _ => When::Always,
        }
    }

    /// With a test that nobody knows.
    pub(super) fn maybe(self) -> Self {
        Self { conditional: true, ..self }
    }

    /// Where a test is true, and where it is not.
    pub(super) fn branches(self, verdict: Verdict) -> (Self, Self) {
        let never = Self { never: true, ..self };
        let type_only = Self { type_only: true, ..self };
        let main_only = Self { main_only: true, ..self };
        match verdict {
            Verdict::Known(true) => (self, never),
            Verdict::Known(false) => (never, self),
            Verdict::TypeChecking(true) => (type_only, self),
            Verdict::TypeChecking(false) => (self, type_only),
            Verdict::Main(true) => (main_only, self.maybe()),
            Verdict::Main(false) => (self.maybe(), main_only),
            Verdict::Unknown => (self.maybe(), self.maybe()),
        }
    }
}
