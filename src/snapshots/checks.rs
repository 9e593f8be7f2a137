//! The daily check of the snapshots that are kept: when each was last compared with the checksum of its verification record,
//! and which of them differ, in a file next to the snapshots: `.checks.json`. The schedule survives a restart with it.
//!
//! A snapshot that differs does not count as verified: no restore takes it by itself, and no rule of retention counts on it
//! or removes it. What was found is valid for the file as it was then: one that was written since is checked again.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Snapshot;
use crate::model::clock::between;
use crate::model::{Format, lift};
use crate::record::envelope;
use crate::sys::files::{self, Attributes};

/// The format.
const FORMAT: Format =
    Format { key: "checks", versions: &["when snapshots were checked, and what was found"], lift: lift::nothing };
/// A hundred bytes for each snapshot.
const MAX_BYTES: u64 = 1 << 20;
/// Between two checks of one snapshot.
const INTERVAL: Duration = Duration::from_secs(24 * 3600);

/// The checks of a directory's snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Checks {
    /// By the snapshot's name.
    files: BTreeMap<String, CheckedFile>,
}

/// One snapshot, as it was found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct CheckedFile {
    /// When all of it had been read.
    pub(super) at: Timestamp,
    /// When the file had changed last, in seconds and nanoseconds.
    pub(super) changed: (i64, i64),
    /// What is wrong with it, where something is: a clause.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) damaged: Option<String>,
}

fn path_in(dir: &Path) -> PathBuf {
    dir.join(".checks.json")
}

/// When a file changed last: by a clock that no program sets.
pub(super) fn changed(metadata: &Metadata) -> (i64, i64) {
    (metadata.ctime(), metadata.ctime_nsec())
}

impl Checks {
    /// What is known of the snapshots of a directory. What cannot be read is found again soon enough.
    pub(super) fn read(dir: &Path) -> Self {
        let bytes = files::read_bounded(&path_in(dir), MAX_BYTES).ok();
        bytes.and_then(|bytes| envelope::decode_any(&FORMAT, &bytes).ok()).unwrap_or_default()
    }

    /// Whether a newer lastgood wrote it: it is kept, and this program, which could write nothing down, checks nothing.
    pub(super) fn is_newer(dir: &Path) -> bool {
        let bytes = files::read_bounded(&path_in(dir), MAX_BYTES).ok();
        bytes.is_some_and(|bytes| envelope::newer(&FORMAT, &bytes).is_some())
    }

    /// Writes it down, without what is no longer there.
    pub(super) fn write(mut self, dir: &Path) -> io::Result<()> {
        let path = path_in(dir);
        let there = files::names(dir)?;
        self.files.retain(|file, _| there.contains(file));
        files::replace(dir, &path, &envelope::wrap(&FORMAT, &self)?, &Attributes::private())
    }

    pub(super) fn note(&mut self, file: &str, found: CheckedFile) {
        self.files.insert(file.to_owned(), found);
    }

    /// What was found of a file, where it was not written since.
    pub(super) fn of(&self, file: &str, metadata: &Metadata) -> Option<&CheckedFile> {
        self.files.get(file).filter(|found| found.changed == changed(metadata))
    }
}

/// Which of these is to be checked now: of those that were checked or verified a day ago, the one where that is longest ago.
/// A time in the future says nothing: the clock was wrong. Without those that wait, by name.
pub(super) fn due(snapshots: &[Snapshot], now: Timestamp, waits: impl Fn(&str) -> bool) -> Option<&Snapshot> {
    let last = |snapshot: &Snapshot| {
        let verified = snapshot.proof.as_ref().ok().map(|proof| proof.verified);
        let checked = snapshot.checked.as_ref().map(|found| found.at);
        checked.max(verified).filter(|at| *at <= now)
    };
    // One without a record has nothing to be compared with.
    let comparable = snapshots.iter().filter(|snapshot| snapshot.proof.is_ok() || snapshot.damaged().is_some());
    let comparable = comparable.filter(|snapshot| !waits(&snapshot.name.to_string()));
    let due = comparable.filter(|snapshot| last(snapshot).is_none_or(|at| between(at, now) >= INTERVAL));
    due.min_by_key(|snapshot| last(snapshot))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::tests::keep;
    use crate::snapshots::{Directory, Origin};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn what_was_found_is_read_in_every_version() {
        let damaged = Some("its checksum differs".to_owned());
        let found = |damaged| CheckedFile { at: Timestamp::UNIX_EPOCH, changed: (1, 2), damaged };
        let files = [("a.db".to_owned(), found(None)), ("b.db".to_owned(), found(damaged))];
        envelope::golden(&FORMAT, (1, ""), &Checks { files: files.into() });
    }

    #[test]
    fn each_is_due_once_a_day_the_one_that_waits_longest_first_and_a_restart_forgets_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second] = [1, 2].map(|at| keep(dir.path(), Origin::Stream, at));
        let list = || Directory::at(dir.path()).list().unwrap();
        let verified = list().iter().map(|snapshot| snapshot.proof.as_ref().unwrap().verified).max().unwrap();
        let after = |hours: i64| at(verified.as_second() + hours * 3600);
        let due_at = |hours: i64| due(&list(), after(hours), |_| false).map(|snapshot| snapshot.path.clone());
        assert_eq!(due_at(23), None, "they were just verified");
        assert_eq!(due_at(25), Some(first.clone()));
        let note = |path: &Path, hours: i64| {
            let mut checks = Checks::read(dir.path());
            let name = path.file_name().unwrap().to_str().unwrap();
            let metadata = std::fs::metadata(path).unwrap();
            checks.note(name, CheckedFile { at: after(hours), changed: changed(&metadata), damaged: None });
            checks.write(dir.path()).unwrap();
        };
        note(&first, 25);
        assert_eq!(due_at(26), Some(second.clone()));
        note(&second, 26);
        assert_eq!(due_at(48), None);
        assert_eq!(due_at(50), Some(first.clone()));
        // A clock that was ahead puts nothing off, and neither does a check of other bytes.
        note(&first, 10_000);
        note(&second, 10_000);
        assert!(due_at(60).is_some());
        note(&first, 60);
        note(&second, 60);
        std::fs::set_permissions(&second, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(due_at(61), Some(second));
        // What is gone is forgotten.
        std::fs::remove_file(&first).unwrap();
        Checks::read(dir.path()).write(dir.path()).unwrap();
        assert_eq!(Checks::read(dir.path()).files.len(), 1);
    }
}
