//! known.json: the etcd facts that a restore needs, in two copies. The copy in the run directory is in memory, is
//! written every ten seconds and ends with the boot; the copy in the state directory is written every ten minutes and
//! persists.

use std::io;
use std::path::{Path, PathBuf};

use super::envelope;
use super::{DIR_MODE, Finding, Guard, Store};
use crate::config::Settings;
use crate::model::etcd_history::EtcdHistory;
use crate::model::{Format, lift};
use crate::sys::files::{self, Attributes, Written};

/// The format of known.json.
pub(super) const FORMAT: Format =
    Format { key: "known", versions: &["the clusters that this node's etcd has served"], lift: lift::nothing };
pub(super) const MAX_BYTES: u64 = 1 << 20;
pub(super) const NAME: &str = "known.json";

/// What is known of the etcds of this node, from either copy or both; nothing where there never was an agent. A copy that
/// cannot be used is named.
pub fn last_known(settings: &Settings) -> (EtcdHistory, Vec<Finding>) {
    let mut findings = Vec::new();
    let mut known = EtcdHistory::default();
    for path in [settings.paths.run.join(NAME), settings.paths.state.join(NAME)] {
        match read(&path) {
            Ok(found) => known = known.merged(found),
            Err(finding) => findings.extend(finding),
        }
    }
    (known, findings)
}

fn read(path: &Path) -> Result<EtcdHistory, Option<Finding>> {
    let bytes = files::read_bounded(path, MAX_BYTES).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => None,
        _ => Some(Finding { path: path.to_owned(), sentence: error.to_string() }),
    })?;
    envelope::decode_any(&FORMAT, &bytes).map_err(|fault| Some(Finding::new(path, fault)))
}

fn encode(known: &EtcdHistory) -> io::Result<Vec<u8>> {
    envelope::wrap(&FORMAT, known)
}

impl Store {
    pub(super) fn known_path(&self) -> PathBuf {
        self.path().join(NAME)
    }
}

impl Guard {
    /// Writes the copy on disk. There to stay when this returns.
    ///
    /// # Errors
    /// When it cannot be written: the one before it stands.
    pub fn save_known(&self, known: &EtcdHistory) -> io::Result<Written> {
        self.may_write()?;
        let tmp = self.make_tmp()?;
        files::write_if_different(&tmp, &self.known_path(), &encode(known)?, &Attributes::private())
    }

    /// Writes the copy in the run directory.
    ///
    /// # Errors
    /// As [`Guard::save_known`].
    pub fn show_known(&self, run: &Path, known: &EtcdHistory) -> io::Result<Written> {
        self.may_write()?;
        files::make_dir(run, DIR_MODE)?;
        files::write_if_different(run, &run.join(NAME), &encode(known)?, &Attributes::private())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::model::etcd_history::ClusterHistory;

    fn known(revision: i64, at: i64) -> EtcdHistory {
        let world = ClusterHistory {
            cluster: u64::MAX,
            member: 1,
            members: Vec::new(),
            term: 1,
            raft_index: 1,
            revision,
            highest_revision: revision,
            at: jiff::Timestamp::from_second(at).unwrap(),
            version: "3.5.16".into(),
            sizes: Vec::new(),
        };
        EtcdHistory { worlds: vec![world] }
    }

    #[test]
    fn either_copy_is_enough_and_a_torn_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.state = dir.path().join("state");
        settings.paths.run = dir.path().join("run");
        assert_eq!(last_known(&settings), (EtcdHistory::default(), vec![]), "there never was an agent");
        let guard = Store::open(&settings).unwrap().lock().unwrap();
        assert_eq!(guard.save_known(&known(70, 100)).unwrap(), Written::Changed);
        assert_eq!(guard.save_known(&known(70, 100)).unwrap(), Written::AlreadySo);
        guard.show_known(&settings.paths.run, &known(90, 200)).unwrap();
        assert_eq!(last_known(&settings), (known(90, 200), vec![]));

        let run = settings.paths.run.join(NAME);
        let whole = fs::read(&run).unwrap();
        for cut in [0, 1, whole.len() / 2, whole.len() - 1] {
            fs::write(&run, &whole[..cut]).unwrap();
            let (found, findings) = last_known(&settings);
            assert_eq!((found, findings.len()), (known(70, 100), 1), "cut at {cut}");
        }
        fs::write(&run, &whole).unwrap();
        fs::remove_file(settings.paths.state.join(NAME)).unwrap();
        assert_eq!(last_known(&settings), (known(90, 200), vec![]), "the state directory is lost");
    }
}
