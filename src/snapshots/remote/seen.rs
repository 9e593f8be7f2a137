//! The last known state of object storage, in a file next to the snapshots: `.remote.json`. The agent writes it; after
//! a restart its back-off continues, and doctor and status need not query a store that may be stalled.

use std::io;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::config::object_url::ObjectUrl;
use crate::model::snapshot::Remote;
use crate::model::{Format, lift};
use crate::record::envelope;
use crate::sys::files::{self, Attributes};

/// The format.
const FORMAT: Format = Format { key: "remote", versions: &["what was seen of object storage"], lift: lift::nothing };
/// Some hundred bytes, and a few for each snapshot that is not verified.
const MAX_BYTES: u64 = 1 << 20;

fn path_in(dir: &Path) -> PathBuf {
    dir.join(".remote.json")
}

/// Where snapshots are to be sent, where they are.
pub(super) fn place(settings: &Settings) -> Option<ObjectUrl> {
    // The configuration was checked when it was read.
    settings.snapshots.remote.url.as_ref()?.parse().ok()
}

/// What is known of object storage; nothing where no snapshots are sent there.
pub fn seen(settings: &Settings) -> Option<Remote> {
    let url = place(settings)?.to_string();
    let bytes = files::read_bounded(&path_in(&settings.snapshot_dir()), MAX_BYTES).ok();
    // What cannot be read is looked at again soon enough.
    let read = bytes.and_then(|bytes| envelope::decode_any::<Remote>(&FORMAT, &bytes).ok());
    // Of another place it says nothing.
    Some(read.filter(|read| read.url == url).unwrap_or_else(|| Remote::unseen(url)))
}

/// Writes it down. Without a directory there is no snapshot yet, and nothing to write. What a newer lastgood wrote is kept:
/// only a restart has to look again.
pub(super) fn write(dir: &Path, remote: &Remote) -> io::Result<()> {
    if files::standing(dir)?.is_none() {
        return Ok(());
    }
    let path = path_in(dir);
    let newer = files::read_bounded(&path, MAX_BYTES).ok().and_then(|bytes| envelope::newer(&FORMAT, &bytes));
    if newer.is_some() {
        return Ok(());
    }
    files::replace(dir, &path, &envelope::wrap(&FORMAT, remote)?, &Attributes::private())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::snapshot::{Failing, Sent};

    #[test]
    fn what_was_seen_is_read_in_every_version() {
        let at = jiff::Timestamp::UNIX_EPOCH;
        let remote = Remote {
            url: "s3://backups/etcd".into(),
            newest: Some(Sent { file: "a.db".into(), at, revision: 4, bytes: 5, verified: at }),
            verified: 3,
            unverified: vec![("b.db".into(), "it has no verification record".into())],
            looked: Some(at),
            failing: Some(Failing { since: at, at, times: 2, why: "it does not answer".into() }),
        };
        envelope::golden(&FORMAT, (1, ""), &remote);
    }

    #[test]
    fn what_was_seen_is_known_again_and_nothing_of_another_place() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.snapshots.directory = Some(dir.path().to_owned());
        assert_eq!(seen(&settings), None);
        settings.snapshots.remote.url = Some("s3://backups/etcd/".into());
        assert_eq!(seen(&settings), Some(Remote::unseen("s3://backups/etcd".into())));
        let known = Remote { verified: 3, ..Remote::unseen("s3://backups/etcd".into()) };
        write(dir.path(), &known).unwrap();
        assert_eq!(seen(&settings), Some(known.clone()));
        settings.snapshots.remote.url = Some("s3://other".into());
        assert_eq!(seen(&settings), Some(Remote::unseen("s3://other".into())));
        settings.snapshots.remote.url = Some("s3://backups/etcd".into());
        std::fs::write(path_in(dir.path()), "half").unwrap();
        assert_eq!(seen(&settings), Some(Remote::unseen("s3://backups/etcd".into())));
        write(&dir.path().join("none"), &known).unwrap();

        let newer = envelope::encode(2, "remote", &serde_json::json!({"surprise": 1})).unwrap();
        std::fs::write(path_in(dir.path()), &newer).unwrap();
        write(dir.path(), &known).unwrap();
        assert_eq!(std::fs::read(path_in(dir.path())).unwrap(), newer, "a newer lastgood wrote it");
    }
}
