//! Finds a snapshot of this node by its name, as `list` shows it, or as `latest`.

use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::etcd::snapshot::RawCopy;
use crate::ops::failure::Failure;
use crate::snapshots::{Directory, Name, Snapshot};
use crate::sys::files;

/// The newest that is verified.
pub(crate) const LATEST: &str = "latest";

/// Whether it is called so, and is not a file that is where the command is given.
pub(crate) fn is_meant(named: &Path) -> bool {
    let called = named.to_str().is_some_and(|name| name == LATEST || name.parse::<Name>().is_ok());
    called && !matches!(files::standing(named), Ok(Some(_)))
}

/// The file that is meant, whatever it is called. `latest` is the newest verified one that `fits`; `what` calls it in a
/// refusal.
///
/// # Errors
/// Where there is none such, or the directory cannot be read.
pub(crate) fn file(
    settings: &Settings,
    named: &Path,
    what: &str,
    fits: impl Fn(&Snapshot) -> bool,
) -> Result<PathBuf, Failure> {
    if !is_meant(named) {
        return Ok(std::path::absolute(named)?);
    }
    let directory = Directory::at(&settings.snapshot_dir());
    if named != Path::new(LATEST) {
        return Ok(directory.path().join(named));
    }
    // By time, the latest last.
    let mut newest = directory.list()?.into_iter().rev();
    let found = newest.find(|snapshot| snapshot.proof.is_ok() && fits(snapshot));
    found.map(|snapshot| snapshot.path).ok_or_else(|| {
        let dir = directory.path().display();
        Failure::refused(format!(
            "{dir} contains no {what}; next: give the path or the URL of one: `lastgood etcd snapshot list --remote` shows \
             those in object storage"
        ))
    })
}

/// The same for those that are taken where so much is trusted: `latest` passes over a raw copy unless it may lack its
/// SHA-256.
///
/// # Errors
/// As [`file`]'s.
pub(crate) fn trusted(settings: &Settings, named: &Path, trust: RawCopy) -> Result<PathBuf, Failure> {
    file(settings, named, verified(trust), |snapshot| {
        let suffices = snapshot.name.suffices(trust);
        if !suffices {
            eprintln!("skipping {}: it is a raw copy without a SHA-256; --skip-hash-check accepts it", snapshot.name);
        }
        suffices
    })
}

/// The snapshot that `latest` passes over: newer than the one that it takes, and found damaged by the daily check.
///
/// # Errors
/// Where the directory cannot be read.
pub(crate) fn passed_over(settings: &Settings, trust: RawCopy, taken: &Path) -> Result<Option<Snapshot>, Failure> {
    let newest = Directory::at(&settings.snapshot_dir()).list()?.into_iter().rev();
    let newer = newest.take_while(|snapshot| snapshot.path != taken).filter(|snapshot| snapshot.name.suffices(trust));
    Ok(newer.into_iter().find(|snapshot| snapshot.damaged().is_some()))
}

/// The newest verified snapshot before one of the directory.
///
/// # Errors
/// Where the directory cannot be read.
pub(crate) fn before(settings: &Settings, trust: RawCopy, one: &Path) -> Result<Option<Snapshot>, Failure> {
    let newest = Directory::at(&settings.snapshot_dir()).list()?.into_iter().rev();
    let mut older = newest.skip_while(|snapshot| snapshot.path != one).skip(1);
    Ok(older.find(|snapshot| snapshot.proof.is_ok() && snapshot.name.suffices(trust)))
}

/// What that is called in a refusal.
fn verified(trust: RawCopy) -> &'static str {
    match trust {
        RawCopy::Refuse => "verified snapshot that carries its SHA-256",
        RawCopy::Allow => "verified snapshot",
    }
}

/// By `--skip-hash-check`.
pub(crate) fn trust(skip_hash_check: bool) -> RawCopy {
    if skip_hash_check { RawCopy::Allow } else { RawCopy::Refuse }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::Origin;
    use crate::snapshots::tests::keep;

    #[test]
    fn latest_is_no_raw_copy_unless_one_is_taken() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.snapshots.directory = Some(dir.path().to_owned());
        let latest = |trust| trusted(&settings, Path::new(LATEST), trust);
        let raw = keep(dir.path(), Origin::DataDir, 200);
        let none = latest(RawCopy::Refuse).unwrap_err();
        assert!(none.sentence.contains("contains no verified snapshot that carries its SHA-256"), "{none}");
        let stream = keep(dir.path(), Origin::Stream, 100);
        assert_eq!(latest(RawCopy::Refuse).unwrap(), stream, "older, and all that is taken");
        assert_eq!(latest(RawCopy::Allow).unwrap(), raw);
    }

    #[test]
    fn a_name_is_one_that_is_kept_and_whatever_lies_here_is_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.snapshots.directory = Some(dir.path().to_owned());
        let found = |named: &str| trusted(&settings, Path::new(named), RawCopy::Allow);
        let name = "20261127T000000Z-a55691f8868a7a16-r31.db";
        assert_eq!(found(name).unwrap(), dir.path().join(name));
        assert_eq!(found("/backup/etcd.db").unwrap(), Path::new("/backup/etcd.db"));
        assert!(is_meant(Path::new(LATEST)) && !is_meant(Path::new("etcd.db")));
        let here = dir.path().join(name);
        assert_eq!(found(here.to_str().unwrap()).unwrap(), here, "a path is no name");
        let none = found(LATEST).unwrap_err();
        assert!(none.sentence.contains("contains no verified snapshot") && none.sentence.contains("next: "), "{none}");
        assert_eq!(none.exit, crate::ops::failure::Exit::Refused);
    }
}
