//! The options of Python that change what it imports.

use crate::python::variables::Variables;

/// Options of a Python's start that change what is found where.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Flags {
    /// `-I`: neither the script's folder, nor variables, nor the user's site-packages.
    pub isolated: bool,
    /// `-S`: no site-packages at all.
    pub no_site: bool,
    /// `-s`: not the user's site-packages.
    pub no_user_site: bool,
    /// `-P`: not the script's folder.
    pub safe_path: bool,
    /// `-E`: variables that begin with PYTHON mean nothing.
    pub ignore_environment: bool,
}

impl Flags {
    /// Adds what the variables ask for, and what one flag says of the others, as Python does at its start.
    #[must_use]
    pub fn with_variables(self, variables: &Variables) -> Self {
        let ignored = self.ignores_environment();
        let asks = |name| !ignored && variables.non_empty(name).is_some();
        Self {
            isolated: self.isolated,
            no_site: self.no_site,
            no_user_site: self.no_user_site || self.isolated || asks("PYTHONNOUSERSITE"),
            safe_path: self.safe_path || self.isolated || asks("PYTHONSAFEPATH"),
            ignore_environment: ignored,
        }
    }

    /// Whether variables that begin with PYTHON mean nothing.
    pub fn ignores_environment(&self) -> bool {
        self.isolated || self.ignore_environment
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_count_unless_they_are_ignored() {
        let variables = [("PYTHONNOUSERSITE", "1"), ("PYTHONSAFEPATH", "")].into_iter().collect();
        let flags = Flags::default().with_variables(&variables);
        assert_eq!((flags.no_user_site, flags.safe_path), (true, false));
        let ignoring = Flags { ignore_environment: true, ..Flags::default() };
        assert!(!ignoring.with_variables(&variables).no_user_site);
        let isolated = Flags { isolated: true, ..Flags::default() }.with_variables(&variables);
        assert!(isolated.no_user_site && isolated.safe_path && isolated.ignore_environment && !isolated.no_site);
    }
}
