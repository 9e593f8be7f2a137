//! The merged configuration, and which line of which file each value comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::Settings;

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Origin {
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.file.display(), self.line)
    }
}

/// Where each key that a file gives comes from; a key that is not in here has its default.
pub type Origins = BTreeMap<&'static str, Origin>;

#[derive(Clone, Debug)]
pub struct Loaded {
    /// The effective values.
    pub settings: Settings,
    /// Where they come from.
    pub origins: Origins,
}
