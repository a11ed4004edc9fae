//! The values of environment variables.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

/// Values of environment variables, given by the caller: the library reads none itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Variables(BTreeMap<OsString, OsString>);

impl Variables {
    /// The value of a variable, if it is set.
    pub fn get(&self, name: &str) -> Option<&OsStr> {
        self.0.get(OsStr::new(name)).map(OsString::as_os_str)
    }

    /// The value of a variable that is set and not empty: what is empty counts as not set for Python.
    pub fn non_empty(&self, name: &str) -> Option<&OsStr> {
        self.get(name).filter(|value| !value.is_empty())
    }

    /// The value of a variable as a path, if it is set and not empty.
    pub fn path(&self, name: &str) -> Option<PathBuf> {
        self.non_empty(name).map(PathBuf::from)
    }

    /// Sets a variable, or changes it.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        self.0.insert(name.into(), value.into());
    }

    /// Removes a variable.
    pub fn remove(&mut self, name: &OsStr) {
        self.0.remove(name);
    }

    /// All of them, sorted by name.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_empty_is_set_but_is_no_path() {
        let mut variables: Variables = [("A", "/x"), ("B", "")].into_iter().collect();
        assert_eq!(variables.path("A"), Some("/x".into()));
        assert_eq!(variables.get("B"), Some(OsStr::new("")));
        assert_eq!((variables.non_empty("B"), variables.path("C")), (None, None));
        variables.set("C", "/y");
        variables.remove(OsStr::new("A"));
        assert_eq!(variables.iter().map(|(name, _)| name).collect::<Vec<_>>(), ["B", "C"]);
    }
}
