//! The mistakes in the configuration: every mistake of every file, with its place and the correct form.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::Serialize;

use super::Origin;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistake {
    /// The file it stands in.
    pub file: PathBuf,
    /// The line, counted from 1, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<usize>,
    /// The key, with its table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// Where the same key is given again, where that is the mistake.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub also: Option<Origin>,
    /// What is wrong, and what would be right: a sentence.
    pub what: String,
    /// It is none of the file: this process may not read that.
    #[serde(skip)]
    pub denied: bool,
}

impl Mistake {
    /// One of a file as a whole.
    pub(super) fn of_file(file: PathBuf, what: String) -> Self {
        Self { file, line: None, key: None, also: None, what, denied: false }
    }

    /// One of a file or directory that cannot be read.
    pub(super) fn unreadable(file: PathBuf, error: &io::Error, next: &str) -> Self {
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        let next = if denied { ": use sudo" } else { next };
        Self { denied, ..Self::of_file(file, format!("cannot be read: {error}{next}")) }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        if let Some(key) = &self.key {
            write!(f, ": {key}")?;
        }
        write!(f, ": {}", self.what)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Mistakes(pub Vec<Mistake>);

impl Mistakes {
    /// Whether this process may not read one of the files.
    pub fn are_denied(&self) -> bool {
        self.0.iter().any(|mistake| mistake.denied)
    }
}

impl fmt::Display for Mistakes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let s = if self.0.len() == 1 { "" } else { "s" };
        write!(f, "{} mistake{s} in the configuration:", self.0.len())?;
        self.0.iter().try_for_each(|mistake| write!(f, "\n{mistake}"))
    }
}

impl std::error::Error for Mistakes {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_file_that_this_process_may_not_read_is_denied() {
        for (kind, denied) in [
            (io::ErrorKind::PermissionDenied, true),
            (io::ErrorKind::NotFound, false),
            (io::ErrorKind::InvalidData, false),
        ] {
            let mistake = Mistake::unreadable(PathBuf::from("/a.toml"), &kind.into(), "");
            assert_eq!(Mistakes(vec![mistake]).are_denied(), denied, "{kind}");
        }
    }
}
