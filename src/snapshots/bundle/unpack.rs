//! A bundle's files, below a directory, as they lay on the node: `DIR/etc/kubernetes/…`. To be looked at, and copied to
//! their places by a person: nothing of a running node is touched.

use std::io;
use std::path::{Component, Path, PathBuf};

use super::manifest::Fault;
use super::tar::Entry;
use super::{Contents, Keys};
use crate::sys::files::{self, Attributes};

/// Root's alone: keys may lie in it.
const DIR_MODE: u32 = 0o700;
/// Of the directories in it, as they are on a node: whoever copies them with their modes changes none there.
const INNER_MODE: u32 = 0o755;
/// Of every key, whatever it had.
const KEY_MODE: u32 = 0o600;

/// Where a file of a bundle goes.
///
/// # Errors
/// Where its path leads elsewhere, which no archive of ours says.
pub fn target(dir: &Path, entry: &Entry) -> Result<PathBuf, Fault> {
    let path = entry.path.strip_prefix("/").unwrap_or(&entry.path);
    match path.components().all(|part| matches!(part, Component::Normal(_))) {
        true => Ok(dir.join(path)),
        false => Err(Fault::Damaged(format!("{} leads out of the directory", entry.path.display()))),
    }
}

/// Writes everything below a directory, which is made where it is missing, and has to be empty.
///
/// # Errors
/// Names what is in the way, or could not be written. What was written by then stays.
pub fn place(contents: &Contents, dir: &Path) -> Result<(), Fault> {
    let refused = |error: io::Error| Fault::Refused(error.to_string());
    match files::standing(dir).map_err(refused)? {
        None => files::make_dir(dir, DIR_MODE).map_err(refused)?,
        Some(metadata) if !metadata.is_dir() => {
            let what = files::kind_of(&metadata);
            return Err(Fault::Refused(format!("{} is a {what}: name a directory for --to", dir.display())));
        }
        Some(_) => {
            let mut entries = std::fs::read_dir(dir).map_err(files::named("read directory", dir)).map_err(refused)?;
            if entries.next().is_some() {
                let words = "is not empty, and nothing is written over: name another directory for --to";
                return Err(Fault::Refused(format!("{} {words}", dir.display())));
            }
        }
    }
    let keys: &[Entry] = match &contents.keys {
        Keys::Opened(keys) => keys,
        Keys::Absent | Keys::Closed => &[],
    };
    let plain = contents.plain.iter().map(|entry| (entry, entry.mode));
    for (entry, mode) in plain.chain(keys.iter().map(|entry| (entry, KEY_MODE))) {
        write(dir, entry, mode)?;
    }
    Ok(())
}

fn write(dir: &Path, entry: &Entry, mode: u32) -> Result<(), Fault> {
    let path = target(dir, entry)?;
    let place = files::dir_of(&path);
    let above: Vec<&Path> = place.ancestors().take_while(|above| *above != dir).collect();
    let written = above.iter().rev().try_for_each(|above| files::make_dir(above, INNER_MODE)).and_then(|()| {
        let own = Attributes::private();
        // Only root can give a file away.
        let (uid, gid) = if own.uid == 0 { (entry.uid, entry.gid) } else { (own.uid, own.gid) };
        // Nothing that was written by a bundle runs as somebody else.
        let attributes = Attributes { mode: mode & 0o777, uid, gid, extended_from: None };
        files::replace(place, &path, &entry.bytes, &attributes)
    });
    written.map_err(|error| Fault::Refused(error.to_string()))
}
