//! The uploads in parts that lastgood began and did not finish: a store keeps, and charges for, their parts until they are
//! aborted. Each has a record next to the snapshots while it is under way, `.upload-ID.json`.
//!
//! ```text
//!   record made, locked ─▶ the store names the upload ─▶ its name recorded ─▶ parts ─▶ complete or aborted ─▶ record removed
//!                                                             └ the process ends: the lock ends, the record stays
//!   next round ─▶ a record that nobody locks ─▶ abort that upload, in that place ─▶ record removed
//! ```
//!
//! What has no record is not touched: another program, or another node, may be uploading it. The lock tells an upload that
//! is under way, by the agent or by a command, from one that ended with its process.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};

use super::aside;
use super::store::Remote;
use super::trouble::Trouble;
use crate::config::object_url::ObjectUrl;
use crate::config::settings;
use crate::model::{Format, lift};
use crate::record::envelope;
use crate::sys::files;

/// The format.
const FORMAT: Format = Format { key: "upload", versions: &["an upload that was begun"], lift: lift::nothing };
/// An ID of S3's has some hundred bytes.
const MAX_BYTES: u64 = 1 << 16;
const BEGINS: &str = ".upload-";
const ENDS: &str = ".json";

/// An upload, as it was begun.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Upload {
    /// `s3://bucket/prefix`.
    pub(super) place: String,
    /// snapshots.remote.endpoint then: the same place of another store is another place.
    pub(super) endpoint: Option<String>,
    /// The object's name there.
    pub(super) object: String,
    /// As the store calls the upload.
    pub(super) id: String,
}

/// The record of an upload that is under way in this process.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    lock: Flock<File>,
}

impl Record {
    /// Makes it, empty. Nothing where the directory is not there: no agent would look for it.
    pub(super) fn begin(dir: &Path) -> io::Result<Option<Self>> {
        if files::standing(dir)?.is_none() {
            return Ok(None);
        }
        let id = files::read_bounded(Path::new("/proc/sys/kernel/random/uuid"), 64)?;
        let path = dir.join(format!("{BEGINS}{}{ENDS}", String::from_utf8_lossy(&id).trim()));
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let file = file.map_err(files::named("make", &path))?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Ok(Some(Self { path, lock })),
            Err((_, errno)) => {
                files::remove(&path)?;
                Err(files::named("lock", &path)(errno.into()))
            }
        }
    }

    /// Writes down what was begun. On disk to stay when this returns.
    pub(super) fn write(&mut self, upload: &Upload) -> io::Result<()> {
        let bytes = envelope::wrap(&FORMAT, upload)?;
        let written = self.lock.write_all(&bytes).and_then(|()| self.lock.sync_all());
        written.map_err(files::named("write", &self.path))?;
        files::fsync_dir(files::dir_of(&self.path))
    }

    /// The upload is complete, or aborted.
    pub(super) fn end(self) -> io::Result<()> {
        files::remove(&self.path)
    }
}

/// A record that no process holds; nothing where one does, or a newer lastgood wrote it. One that says nothing is removed: its
/// process ended before the store had named an upload.
fn left(path: &Path) -> io::Result<Option<(Flock<File>, Upload)>> {
    let file = File::open(path).map_err(files::named("read", path))?;
    let lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => lock,
        Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
        Err((_, errno)) => return Err(files::named("lock", path)(errno.into())),
    };
    let bytes = files::read_bounded(path, MAX_BYTES)?;
    if envelope::newer(&FORMAT, &bytes).is_some() {
        return Ok(None);
    }
    match envelope::decode::<Upload>(&FORMAT, &bytes) {
        Ok(upload) => Ok(Some((lock, upload))),
        Err(_) => files::remove(path).map(|()| None),
    }
}

/// All of them in a directory.
fn all_left(dir: &Path) -> io::Result<Vec<(PathBuf, Flock<File>, Upload)>> {
    let names = files::names(dir)?.into_iter().filter(|name| name.starts_with(BEGINS) && name.ends_with(ENDS));
    let mut found = Vec::new();
    for path in names.map(|name| dir.join(name)) {
        found.extend(left(&path)?.map(|(lock, upload)| (path, lock, upload)));
    }
    Ok(found)
}

/// Aborts what an earlier process began and did not finish: the objects. What the store does not abort now stays recorded.
///
/// # Errors
/// The first of them that could not be aborted; the others were tried nevertheless.
pub(super) async fn abort(settings: &settings::Remote, dir: &Path) -> Result<Vec<String>, Trouble> {
    let dir = dir.to_owned();
    let (mut aborted, mut trouble) = (Vec::new(), None);
    for (path, _lock, upload) in aside(move || all_left(&dir)).await? {
        // Its store is not the one that these settings lead to.
        if upload.endpoint != settings.endpoint {
            continue;
        }
        match abort_one(settings, &upload).await {
            Ok(called) => {
                aside(move || files::remove(&path)).await?;
                aborted.push(called);
            }
            Err(fault) => trouble = trouble.or(Some(fault)),
        }
    }
    trouble.map_or(Ok(aborted), Err)
}

async fn abort_one(settings: &settings::Remote, upload: &Upload) -> Result<String, Trouble> {
    let place: ObjectUrl =
        upload.place.parse().map_err(|error| Trouble::Setup(format!("{}: {error}", upload.place)))?;
    let remote = Remote::open(settings, &place)?;
    let (path, called) = (remote.path(&upload.object), remote.called(&upload.object));
    let what = format!("{called}: an unfinished upload could not be aborted");
    match remote.within(&what, remote.store.abort_multipart(&path, &upload.id)).await {
        Ok(()) | Err(Trouble::Absent(_)) => Ok(called),
        Err(trouble) => Err(trouble),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn upload() -> Upload {
        Upload { place: "s3://backups/etcd".into(), endpoint: None, object: "a.db".into(), id: "u1".into() }
    }

    #[test]
    fn an_upload_that_was_begun_is_read_in_every_version() {
        envelope::golden(&FORMAT, (1, ""), &upload());
    }

    #[test]
    fn a_record_is_left_when_its_process_ends_and_one_that_names_no_upload_goes() {
        let dir = tempfile::tempdir().unwrap();
        assert!(Record::begin(&dir.path().join("none")).unwrap().is_none());
        let mut record = Record::begin(dir.path()).unwrap().unwrap();
        record.write(&upload()).unwrap();
        let path = record.path.clone();
        assert!(left(&path).unwrap().is_none(), "it is under way");
        drop(record);
        assert_eq!(left(&path).unwrap().unwrap().1, upload());
        fs::write(&path, envelope::encode(2, "upload", &serde_json::json!({"surprise": 1})).unwrap()).unwrap();
        assert!(left(&path).unwrap().is_none() && path.exists(), "a newer lastgood wrote it");
        let empty = Record::begin(dir.path()).unwrap().unwrap().path;
        assert!(left(&empty).unwrap().is_none() && !empty.exists());
        let ended = Record::begin(dir.path()).unwrap().unwrap();
        let path = ended.path.clone();
        ended.end().unwrap();
        assert!(!path.exists());
    }
}
