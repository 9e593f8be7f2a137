//! Writes a bundle's files below a directory with their paths on the node: `DIR/etc/kubernetes/…`, with their modes and
//! owners. The operator inspects them and copies them to their places: nothing of a running node is changed.
//!
//! On a machine with SELinux each file gets the label that it had on its node (`cp -a` keeps it); elsewhere a label means
//! nothing, and a policy that does not know one is no reason to unpack nothing.
//!
//! Keys keep their modes and owners as well: a control plane that does not run as root reads them as a member of their
//! group, and other programs read certificates that are world-readable.

use std::io;
use std::os::unix::fs::symlink;
use std::path::{Component, Path, PathBuf};

use super::manifest::Fault;
use super::tar::Entry;
use super::{Contents, Keys};
use crate::sys::files::{self, Attributes};
use crate::sys::label;

/// Root's alone: keys may be in it.
const DIR_MODE: u32 = 0o700;
/// Of the directories in it, as they are on a node: whoever copies them with their modes changes none there.
const INNER_MODE: u32 = 0o755;
/// How the name of the kubelet's certificate in use ends. It has to be a link, of any name next to it: where it is a
/// file, the kubelet renews its certificate no more ("expected … to be a symlink but it is a file", `updateSymlink` in
/// client-go's `util/certificate/certificate_store.go`), and is a stranger to its API server within a year.
const IN_USE: &str = "-current.pem";

/// Where a file of a bundle goes.
///
/// # Errors
/// Where its path leads elsewhere, which no archive of ours says.
pub fn target(dir: &Path, entry: &Entry) -> Result<PathBuf, Fault> {
    let path = entry.path.strip_prefix("/").unwrap_or(&entry.path);
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(dir.join(path)),
        false => Err(Fault::Damaged(format!("{} is outside the directory", entry.path.display()))),
    }
}

/// Writes everything below a directory, which is made where it is missing, and has to be empty.
///
/// # Errors
/// Names what is in the way, or could not be written. What was written by then stays.
pub fn place(contents: &Contents, dir: &Path) -> Result<(), Fault> {
    placed(contents, dir, if label::is_used() { Labels::Set } else { Labels::Ignore })
}

/// What to do with the SELinux labels of a bundle.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Labels {
    Set,
    Ignore,
}

pub(super) fn placed(contents: &Contents, dir: &Path, labels: Labels) -> Result<(), Fault> {
    let refused = |error: io::Error| Fault::Refused(error.to_string());
    match files::standing(dir).map_err(refused)? {
        None => files::make_dir(dir, DIR_MODE).map_err(refused)?,
        Some(metadata) if !metadata.is_dir() => {
            let what = files::kind_of(&metadata);
            return Err(Fault::Refused(format!("{} is a {what}: give a directory for --to", dir.display())));
        }
        Some(_) => {
            let mut entries = std::fs::read_dir(dir).map_err(files::named("read directory", dir)).map_err(refused)?;
            if entries.next().is_some() {
                let words = "is not empty, and lastgood overwrites nothing: give another directory for --to";
                return Err(Fault::Refused(format!("{} {words}", dir.display())));
            }
        }
    }
    let keys: &[Entry] = match &contents.keys {
        Keys::Opened(keys) => keys,
        Keys::Absent | Keys::Closed => &[],
    };
    contents.plain.iter().chain(keys).try_for_each(|entry| {
        let label = contents.bundle.labels.get(&entry.path).filter(|_| labels == Labels::Set);
        write(dir, entry, label.map(String::as_str))
    })
}

fn write(dir: &Path, entry: &Entry, label: Option<&str>) -> Result<(), Fault> {
    let path = target(dir, entry)?;
    let place = files::dir_of(&path);
    let (path, link) = match linked(&path) {
        Some(file) => (place.join(&file), Some((file, path.clone()))),
        None => (path.clone(), None),
    };
    let above: Vec<&Path> = place.ancestors().take_while(|above| *above != dir).collect();
    let written = above.iter().rev().try_for_each(|above| files::make_dir(above, INNER_MODE)).and_then(|()| {
        let own = Attributes::private();
        // Only root can give a file away.
        let (uid, gid) = if own.uid == 0 { (entry.uid, entry.gid) } else { (own.uid, own.gid) };
        // Nothing that was written by a bundle runs as somebody else.
        let attributes = Attributes { mode: entry.mode & 0o777, uid, gid, extended_from: None };
        files::replace(place, &path, &entry.bytes, &attributes)?;
        if let Some(Err(error)) = label.map(|label| label::set(&path, label)) {
            tracing::warn!(%error, "the file is unpacked without its SELinux label; `restorecon` gives it the policy's");
        }
        match &link {
            Some((file, link)) => symlink(file, link).map_err(files::named("link", link)),
            None => Ok(()),
        }
    });
    written.map_err(|error| Fault::Refused(error.to_string()))
}

/// The name of the file that a link of this path leads to, where it has to be one.
fn linked(path: &Path) -> Option<String> {
    Some(format!("{}-unpacked.pem", path.file_name()?.to_str()?.strip_suffix(IN_USE)?))
}
