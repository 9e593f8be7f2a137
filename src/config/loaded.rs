//! The merged configuration, and which line of which file each value comes from.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Serialize;

use super::keys::Keys;
use super::{OldName, Settings};

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
    /// The keys that there are.
    pub keys: Keys,
    /// The effective values.
    pub settings: Settings,
    /// Where they come from.
    pub origins: Origins,
    /// The keys that the files give under an old name, in the order of the files.
    pub old_names: Vec<OldName>,
}

impl Loaded {
    /// The defaults of these keys.
    pub fn new(keys: Keys) -> Self {
        Self { keys, settings: Settings::default(), origins: Origins::new(), old_names: Vec::new() }
    }

    /// The old name that the effective value of a key is given under.
    pub fn old_name(&self, key: &str) -> Option<&OldName> {
        let origin = self.origins.get(key)?;
        self.old_names.iter().find(|old| old.new == key && old.file == origin.file && old.line == origin.line)
    }
}
