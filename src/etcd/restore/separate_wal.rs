//! A WAL in a separate directory (`--wal-dir`), possibly on another disk.
//!
//! Two directories cannot be exchanged atomically, and an etcd that started between the two renames would apply the WAL
//! of one lineage to the database of the other. So the new database gets its name only at the last rename:
//!
//! ```text
//!   member/snap/db.lastgood              the new database
//!   member/snap/db                       a text, which no etcd opens; and no etcd touches a WAL before it has opened that
//!   WAL_DIR/.lastgood-restore-ID/*.wal   the new WAL
//!   WAL_DIR/wal.before-restore-TIME/     the old one, kept; etcd ignores names that are no segments
//!
//!   exchange member ─▶ move the old WAL aside ─▶ move the new WAL in ─▶ db.lastgood becomes db
//! ```
//!
//! Each step after the exchange detects whether it was done, so that a later run can continue.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::layout::{Owner, free_name};
use super::wal_writer;
use crate::sys::files;

/// The database, while its log is not in place.
const HIDDEN: &str = "db.lastgood";
/// What is in its place meanwhile. bbolt takes no file below the size of two pages.
const SENTENCE: &str = "lastgood has not finished restoring this member: run `lastgood etcd restore` again.\n";

/// A log directory apart from the data directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Log {
    pub dir: PathBuf,
    /// The name, in it, of the directory where what was there before is kept.
    pub aside: Option<String>,
}

impl Log {
    /// Where it is built, by the name of the directory in which its data are.
    pub(super) fn staged(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Makes the directory where it is built, and the one it belongs to.
    pub(super) fn make(&self, name: &str, owner: Owner) -> io::Result<()> {
        if files::standing(&self.dir)?.is_none() {
            owner.dir(&self.dir)?;
            files::fsync_dir(files::dir_of(&self.dir))?;
        }
        owner.dir(&self.staged(name))
    }

    /// It, with a name under which the existing data are to be kept, should anything.
    pub(super) fn keeping(self) -> io::Result<Self> {
        let aside = Some(free_name(&self.dir, "wal")?);
        Ok(Self { aside, ..self })
    }

    /// It, with that name only where anything is kept under it.
    pub(super) fn kept(self) -> Self {
        let aside = self.aside.filter(|aside| self.dir.join(aside).exists());
        Self { aside, ..self }
    }

    /// Removes what was built.
    pub(super) fn discard(&self, name: &str) -> io::Result<()> {
        let staged = self.staged(name);
        if files::standing(&staged)?.is_some() {
            fs::remove_dir_all(&staged).map_err(files::named("remove", &staged))?;
            files::fsync_dir(&self.dir)?;
        }
        Ok(())
    }

    /// Puts it in the place of the existing data, and gives the database of `member` its name. Done already, it does
    /// nothing.
    pub(super) fn exchange(&self, name: &str, member: &Path) -> io::Result<()> {
        let (staged, segment) = (self.staged(name), self.dir.join(wal_writer::FILE_NAME));
        let built = staged.join(wal_writer::FILE_NAME);
        if files::standing(&built)?.is_some() {
            self.put_aside()?;
            files::rename_noreplace(&built, &segment)?;
        }
        let (snap, hidden) = (member.join("snap"), member.join("snap").join(HIDDEN));
        if files::standing(&hidden)?.is_some() {
            // Its disk may be gone.
            if files::standing(&segment)?.is_none() {
                return Err(files::fault(io::ErrorKind::NotFound, &segment, "is gone: the data have no WAL"));
            }
            files::rename(&hidden, &snap.join("db"))?;
        }
        if files::standing(&staged)?.is_some() {
            fs::remove_dir(&staged).map_err(files::named("remove directory", &staged))?;
            files::fsync_dir(&self.dir)?;
        }
        Ok(())
    }

    fn put_aside(&self) -> io::Result<()> {
        let old = standing(&self.dir)?;
        let Some(aside) = self.aside.as_ref().filter(|_| !old.is_empty()) else { return Ok(()) };
        let aside = self.dir.join(aside);
        if files::standing(&aside)?.is_none() {
            files::make_dir(&aside, 0o700)?;
        }
        for name in old {
            files::rename_noreplace(&self.dir.join(&name), &aside.join(&name))?;
        }
        Ok(())
    }
}

/// Takes the database's name from it, until its log is in place.
pub(super) fn hide(member: &Path, owner: Owner) -> io::Result<()> {
    let snap = member.join("snap");
    let database = snap.join("db");
    files::rename(&database, &snap.join(HIDDEN))?;
    owner.whole(&database, SENTENCE.as_bytes())?;
    files::fsync_dir(&snap)
}

/// The files of the log in a directory: what etcd calls so (`server/storage/wal`).
pub(super) fn standing(dir: &Path) -> io::Result<Vec<String>> {
    if files::standing(dir)?.is_none() {
        return Ok(Vec::new());
    }
    let of_log = |name: &String| [".wal", ".tmp", ".broken"].iter().any(|end| name.ends_with(end));
    Ok(files::names(dir)?.into_iter().filter(|name| !name.starts_with('.') && of_log(name)).collect())
}
