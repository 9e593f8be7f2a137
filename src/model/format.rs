//! The formats of the files that lastgood writes for itself, and a file of a format that this program does not know yet.
//!
//! Every added, removed or changed field is another version: one more line in the table of the format. A test holds the
//! fields of each format against the list that is recorded for its version (`tests/house/formats.rs`).

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// A format beyond this number is damage: no program has so many.
pub const MOST_VERSIONS: u64 = 9_999;

/// One format: what each of its versions added, the first one first. So the number of lines is its version.
#[derive(Clone, Copy, Debug)]
pub struct Format {
    /// What the file is about; the key of its body, where it has an envelope.
    pub key: &'static str,
    /// What each version added.
    pub versions: &'static [&'static str],
    /// Makes the present form of what an earlier version wrote, where the file has an envelope.
    pub lift: fn(version: u64, body: Value) -> serde_json::Result<Value>,
}

impl Format {
    /// The version that this program writes, which is the newest that it knows.
    pub const fn version(&self) -> u32 {
        // No table has 2^32 lines.
        #[expect(clippy::cast_possible_truncation, reason = "the length of a table in the source")]
        let version = self.versions.len() as u32;
        version
    }

    /// Whether a version is one that only a newer program knows.
    pub fn is_newer(&self, version: u64) -> bool {
        version > u64::from(self.version()) && version <= MOST_VERSIONS
    }
}

/// A file of ours that a newer lastgood wrote. It is kept, and nothing is written over it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NewerFile {
    /// Where it is.
    pub path: PathBuf,
    /// The version of its format.
    pub version: u64,
    /// The newest version that this program knows.
    pub known: u32,
}

impl fmt::Display for NewerFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, version, known } = self;
        write!(f, "{} has format {version} of a newer lastgood, and this lastgood knows format {known}", path.display())
    }
}
