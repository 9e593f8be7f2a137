//! A barred data directory: no etcd starts over it, whichever program starts one (the kubelet at boot, fill-slots, kubeadm, GitOps).
//!
//! ```text
//!   DATA_DIR/member            what an etcd would open: snap/db is a text that says why, and how to undo it
//!   DATA_DIR/member.barred     the data, where there were any
//!
//!   bar:    make member.barred with the text ─▶ exchange the two names     (no data: member.barred becomes member)
//!   unbar:  exchange them again ─▶ remove the one with the text             (no data: remove member)
//! ```
//!
//! bbolt takes no file below the size of two pages, and every etcd (3.4 to 3.6) opens the database before it touches a WAL
//! or founds a cluster. The bar is in the data and not in an empty slot: a manifest can be written by many programs.
//!
//! One rename changes the state, so a crash leaves either one. A `member.barred` that holds the text while `member` holds
//! data is left by a crash, and is removed.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::fcntl::{AT_FDCWD, Flock, FlockArg, RenameFlags, renameat2};

use crate::sys::files;

/// How the text begins.
const HEAD: &str = "lastgood bars etcd from this data directory: ";
/// Below this, bbolt opens no file: two pages.
const MAX_TEXT: u64 = 8191;
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;
/// The name of the data while they are barred.
pub const ASIDE: &str = "member.barred";

/// What the text says; nothing where `member` is not barred.
pub fn reason(member: &Path) -> Option<String> {
    let text = files::read_bounded(&member.join("snap/db"), MAX_TEXT).ok()?;
    let text = String::from_utf8(text).ok()?;
    Some(text.lines().next()?.strip_prefix(HEAD)?.to_owned())
}

/// Bars it. Barred already, it stays as it is.
///
/// # Errors
/// When an etcd has the data, when other data are in the place of those that would be kept, or what the system says.
/// The data are where they were then.
pub fn bar(data_dir: &Path, why: &str) -> io::Result<()> {
    let (member, aside) = (data_dir.join("member"), data_dir.join(ASIDE));
    if reason(&member).is_some() {
        return Ok(());
    }
    discard(&aside)?;
    let owner = fs::metadata(data_dir).map_err(files::named("look at", data_dir))?;
    let has_data = files::standing(&member)?.is_some();
    let _until_the_exchange = has_data.then(|| idle(&member)).transpose()?;
    make(data_dir, &aside, why, (owner.uid(), owner.gid()))?;
    if has_data {
        exchange(&member, &aside)?;
    } else {
        files::rename_noreplace(&aside, &member)?;
    }
    files::fsync_dir(data_dir)
}

/// What [`unbar`] did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unbarred {
    /// It was not barred.
    NotBarred,
    /// The data are in their place again.
    DataBack,
    /// There were none: an etcd that starts now founds a new store, or joins as its manifest says.
    Empty,
}

/// Undoes it.
///
/// # Errors
/// What the system says.
pub fn unbar(data_dir: &Path) -> io::Result<Unbarred> {
    let (member, aside) = (data_dir.join("member"), data_dir.join(ASIDE));
    if reason(&member).is_none() {
        return Ok(Unbarred::NotBarred);
    }
    let unbarred = if files::standing(&aside)?.is_some() {
        exchange(&member, &aside)?;
        files::fsync_dir(data_dir)?;
        discard(&aside)?;
        Unbarred::DataBack
    } else {
        remove_text(&member)?;
        Unbarred::Empty
    };
    files::fsync_dir(data_dir)?;
    Ok(unbarred)
}

/// Makes a directory that no etcd opens.
fn make(data_dir: &Path, dir: &Path, why: &str, (uid, gid): (u32, u32)) -> io::Result<()> {
    let (snap, database) = (dir.join("snap"), dir.join("snap/db"));
    for made in [dir, &snap] {
        fs::DirBuilder::new().mode(DIR_MODE).create(made).map_err(files::named("make the directory", made))?;
    }
    let made = File::options().write(true).create_new(true).mode(FILE_MODE).open(&database);
    let mut file = made.map_err(files::named("make", &database))?;
    let written = file.write_all(text(data_dir, why).as_bytes()).and_then(|()| file.sync_all());
    written.map_err(files::named("write", &database))?;
    for made in [&database, &snap, dir] {
        std::os::unix::fs::chown(made, Some(uid), Some(gid)).map_err(files::named("give its owner to", made))?;
    }
    files::fsync_dir(&snap)?;
    files::fsync_dir(dir)
}

fn text(data_dir: &Path, why: &str) -> String {
    let (now, dir) = (Timestamp::now(), data_dir.display());
    let mut why: String = why.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    while why.len() > 4096 {
        why.pop();
    }
    format!(
        "{HEAD}{why}\nsince {now:.0}. This text is in the place of the database, so no etcd starts here.\n\
         Data that were here are in {dir}/{ASIDE}.\n\
         To undo it: lastgood etcd unbar --data-dir {dir}\n"
    )
}

/// Removes what a crash left of the text. Data under that name are nobody's to remove.
fn discard(aside: &Path) -> io::Result<()> {
    if files::standing(aside)?.is_none() {
        return Ok(());
    }
    let is_text = reason(aside).is_some() || !aside.join("snap/db").exists() && !aside.join("wal").exists();
    if !is_text {
        let sentence = "holds data that were barred before; move it to another directory first";
        return Err(files::fault(ErrorKind::AlreadyExists, aside, sentence));
    }
    remove_text(aside)
}

/// Removes a directory that was made for a bar. Whatever else somebody put into it keeps it.
fn remove_text(dir: &Path) -> io::Result<()> {
    for (inner, ours) in [(dir.to_owned(), "snap"), (dir.join("snap"), "db")] {
        let names = if inner.exists() { files::names(&inner)? } else { Vec::new() };
        if let Some(other) = names.iter().find(|name| *name != ours) {
            let sentence = "is not lastgood's; move it to another directory first";
            return Err(files::fault(ErrorKind::DirectoryNotEmpty, &inner.join(other), sentence));
        }
    }
    files::remove(&dir.join("snap/db"))?;
    for made in [&dir.join("snap"), dir] {
        match fs::remove_dir(made) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(files::named("remove", made)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// The lock that etcd holds on its database: with it, none is running and none starts.
fn idle(member: &Path) -> io::Result<Option<Flock<File>>> {
    let path: PathBuf = member.join("snap/db");
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(files::named("open", &path)(error)),
    };
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map(Some)
        .map_err(|_| files::fault(ErrorKind::ResourceBusy, &path, "is in use by an etcd that runs"))
}

fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE)
        .map_err(|errno| files::named("exchange", one)(errno.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHY: &str = "the disk is not mounted\nreally";

    fn data_dir(data: bool) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        if data {
            fs::create_dir_all(dir.path().join("member/snap")).unwrap();
            fs::create_dir_all(dir.path().join("member/wal")).unwrap();
            fs::write(dir.path().join("member/snap/db"), vec![7; 9000]).unwrap();
        }
        dir
    }

    fn names(dir: &Path) -> Vec<String> {
        let mut names = files::names(dir).unwrap();
        names.sort();
        names
    }

    #[test]
    fn data_are_kept_and_come_back() {
        let dir = data_dir(true);
        for _ in 0..2 {
            bar(dir.path(), WHY).unwrap();
            assert_eq!(reason(&dir.path().join("member")).as_deref(), Some("the disk is not mounted really"));
            assert_eq!(fs::read(dir.path().join(ASIDE).join("snap/db")).unwrap().len(), 9000);
        }
        let text = fs::metadata(dir.path().join("member/snap/db")).unwrap();
        assert!(text.len() <= MAX_TEXT && text.mode() & 0o777 == FILE_MODE, "{text:?}");
        assert_eq!(unbar(dir.path()).unwrap(), Unbarred::DataBack);
        assert_eq!(names(dir.path()), ["member"]);
        assert_eq!(fs::read(dir.path().join("member/snap/db")).unwrap().len(), 9000);
        assert_eq!(unbar(dir.path()).unwrap(), Unbarred::NotBarred);
    }

    #[test]
    fn an_empty_directory_is_barred_and_empty_again() {
        let dir = data_dir(false);
        bar(dir.path(), &"w".repeat(100_000)).unwrap();
        assert_eq!(names(dir.path()), ["member"]);
        assert_eq!(unbar(dir.path()).unwrap(), Unbarred::Empty);
        assert_eq!(names(dir.path()), [""; 0]);
    }

    #[test]
    fn what_somebody_else_put_into_a_barred_directory_is_not_removed() {
        let dir = data_dir(false);
        bar(dir.path(), WHY).unwrap();
        let notes = dir.path().join("member/notes");
        fs::write(&notes, "why").unwrap();
        assert_eq!(unbar(dir.path()).unwrap_err().kind(), ErrorKind::DirectoryNotEmpty);
        assert!(notes.exists() && reason(&dir.path().join("member")).is_some(), "it is barred as before");
    }

    #[test]
    fn what_a_crash_left_is_removed_and_older_barred_data_are_not() {
        // Before the exchange, and after the one of the undoing.
        let dir = data_dir(true);
        make(dir.path(), &dir.path().join(ASIDE), WHY, (0, 0)).unwrap();
        bar(dir.path(), WHY).unwrap();
        assert_eq!(unbar(dir.path()).unwrap(), Unbarred::DataBack);
        // Half made: without the text.
        fs::create_dir_all(dir.path().join(ASIDE).join("snap")).unwrap();
        bar(dir.path(), WHY).unwrap();
        // Somebody removes the bar by hand, and another etcd makes other data.
        fs::remove_dir_all(dir.path().join("member")).unwrap();
        fs::create_dir_all(dir.path().join("member/wal")).unwrap();
        assert_eq!(bar(dir.path(), WHY).unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(names(dir.path()), ["member", ASIDE]);
        assert_eq!(fs::read(dir.path().join(ASIDE).join("snap/db")).unwrap().len(), 9000);
    }

    #[test]
    fn data_that_an_etcd_has_are_not_touched() {
        let dir = data_dir(true);
        let database = File::open(dir.path().join("member/snap/db")).unwrap();
        let etcd = Flock::lock(database, FlockArg::LockSharedNonblock).unwrap();
        assert_eq!(bar(dir.path(), WHY).unwrap_err().kind(), ErrorKind::ResourceBusy);
        assert_eq!(names(dir.path()), ["member"]);
        drop(etcd);
        bar(dir.path(), WHY).unwrap();
    }
}
