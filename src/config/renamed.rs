//! Keys that had another name before. The loader takes the old name with a warning, `lastgood config migrate` rewrites it.

use std::fmt;
use std::path::PathBuf;

use serde::Serialize;

use super::keys::{Key, Keys};

/// The old name of a key, and its name in the table of keys. An old name is never given to another key: a file that was
/// written for the old one would change its meaning.
pub const RENAMED: &[(&str, &str)] = &[
    ("candidate.deadline", "candidate.progress-deadline"),
    ("candidate.relapse", "candidate.unhealthy-grace"),
    ("candidate.crashes", "candidate.max-crashes"),
    ("candidate.quiet", "candidate.debounce"),
    ("candidate.change-memory", "candidate.max-change-age"),
    ("candidate.rewrites", "candidate.max-rewrites"),
    // `restore` is what `lastgood etcd restore` does, and none of these keys belongs to it.
    ("restore.deleted-grace", "rollback.deleted-grace"),
    ("restore.all-deleted-grace", "rollback.all-deleted-grace"),
    ("restore.after-gone", "rollback.settle"),
    ("restore.gone-margin", "rollback.stop-margin"),
    ("restore.hasten-after", "rollback.force-stop-after"),
    ("restore.appear", "rollback.kubelet-timeout"),
    ("restore.parking", "rollback.apiserver-max-downtime"),
    ("intruders.action", "duplicates.action"),
    ("etcd.revisions-went-back", "etcd.on-revision-regression"),
    ("passes.interval", "loop.interval"),
    ("passes.busy-interval", "loop.busy-interval"),
    ("passes.longest-gap", "loop.longest-gap"),
];

/// A key that a file gives under its old name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OldName {
    /// The file.
    pub file: PathBuf,
    /// The line, counted from 1.
    pub line: usize,
    /// As it is written there.
    pub old: &'static str,
    /// Its name now.
    pub new: &'static str,
}

impl OldName {
    /// What the operator can do about it.
    pub fn next_step(&self) -> String {
        format!("`lastgood config migrate {}`", self.file.display())
    }
}

impl fmt::Display for OldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {} is the old name of {}", self.file.display(), self.line, self.old, self.new)
    }
}

/// The key of that name, and the old name where it is one.
pub(super) fn resolve(keys: Keys, name: &str) -> Option<(&'static Key, Option<&'static str>)> {
    if let Some(key) = keys.named(name) {
        return Some((key, None));
    }
    let (old, new) = RENAMED.iter().find(|(old, _)| *old == name)?;
    Some((keys.named(new)?, Some(old)))
}

/// The table that the keys of an old one are in now; none where the table keeps its name.
pub(super) fn new_table(old: &str) -> Option<&'static str> {
    let moved = |(from, to): &(&'static str, &'static str)| Some((from.rsplit_once('.')?.0, to.rsplit_once('.')?.0));
    RENAMED.iter().filter_map(moved).find(|(from, to)| *from == old && from != to).map(|(_, to)| to)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::agent::KEYS;

    #[test]
    fn every_new_name_is_a_key_and_no_old_one_is() {
        for (old, new) in RENAMED {
            assert!(KEYS.named(new).is_some(), "{new} is no key");
            assert!(KEYS.named(old).is_none(), "{old} is a key");
            assert!(!KEYS.has_table(old), "{old} is a table");
        }
        let old: BTreeSet<&str> = RENAMED.iter().map(|(old, _)| *old).collect();
        let new: BTreeSet<&str> = RENAMED.iter().map(|(_, new)| *new).collect();
        assert_eq!((old.len(), new.len()), (RENAMED.len(), RENAMED.len()), "a name is there twice");
    }

    /// `config migrate` gives a table its new name by its header, with all that is in it.
    #[test]
    fn a_table_moves_whole_or_not_at_all() {
        for (old, new) in RENAMED {
            let (Some((from, _)), Some((to, _))) = (old.rsplit_once('.'), new.rsplit_once('.')) else {
                panic!("{old} or {new} is at the top level");
            };
            assert!(!from.contains('.') && !to.contains('.'), "{old} or {new} is in a table of a table");
            assert_eq!(new_table(from), (from != to).then_some(to), "{old} and another key of [{from}] part");
            assert_eq!(from != to, !KEYS.has_table(from), "[{from}] is there still");
        }
        assert_eq!(new_table("paths"), None);
    }
}
