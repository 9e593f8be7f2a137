//! State that is set aside because it is damaged or foreign. A bounded number is kept, for the operator to inspect.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{DIR_MODE, Guard};
use crate::sys::files;

/// The most entries kept: damage that recurs must not fill the disk.
const MOST: usize = 20;

impl Guard {
    /// Moves a file or directory of ours aside and says where it went.
    ///
    /// # Errors
    /// When it cannot be moved; it stays where it is then.
    pub(super) fn set_aside(&self, path: &Path) -> io::Result<PathBuf> {
        self.may_write()?;
        let aside = self.path().join("aside");
        files::make_dir(&aside, DIR_MODE)?;
        self.prune_aside(&aside);
        // Its path below the state directory, flattened: generations/kube-system_etcd/3 keeps telling what it was.
        let relative = path.strip_prefix(self.path()).unwrap_or(path);
        let flat: Vec<_> = relative.iter().map(|part| part.to_string_lossy()).collect();
        let stamp = Timestamp::now().strftime("%Y%m%dT%H%M%S%6fZ").to_string();
        let mut attempt = 0;
        loop {
            let suffix = if attempt == 0 { String::new() } else { format!("-{attempt}") };
            let to = aside.join(format!("{stamp}{suffix}.{}", flat.join("+")));
            match files::rename_noreplace(path, &to) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists && attempt < 100 => attempt += 1,
                moved => return moved.map(|()| to),
            }
        }
    }

    /// Moves all generations and the memory before the present one aside, of a cluster that this node belonged to before.
    /// Says where each went.
    ///
    /// # Errors
    /// When one cannot be moved; it stays where it is then, and is wanted moved again.
    pub fn set_generations_aside(&self) -> io::Result<Vec<PathBuf>> {
        let mut kept = Vec::new();
        for path in [self.generations_dir(), self.old_memory_path()] {
            if files::standing(&path)?.is_some() {
                kept.push(self.set_aside(&path)?);
            }
        }
        Ok(kept)
    }

    /// Makes room for one more. What cannot be removed stays.
    fn prune_aside(&self, aside: &Path) {
        let names = files::names(aside).unwrap_or_default();
        let surplus = (names.len() + 1).saturating_sub(MOST);
        // The names begin with the time: the oldest come first.
        for name in names.iter().take(surplus) {
            let path = aside.join(name);
            let directory = fs::symlink_metadata(&path).is_ok_and(|metadata| metadata.is_dir());
            let _ = if directory { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::Store;

    #[test]
    fn what_is_set_aside_is_kept_and_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let guard = Store::at(dir.path()).unwrap().lock().unwrap();
        for round in 0..MOST + 5 {
            let path = dir.path().join("memory.json");
            fs::write(&path, round.to_string()).unwrap();
            let kept = guard.set_aside(&path).unwrap();
            assert_eq!(fs::read_to_string(kept).unwrap(), round.to_string());
            assert!(!path.exists());
        }
        assert_eq!(files::names(&dir.path().join("aside")).unwrap().len(), MOST);
    }
}
