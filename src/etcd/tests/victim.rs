//! A real database of a few hundred pages, to be damaged.

use std::fs;
use std::path::PathBuf;

use super::snapshot;

/// Its page size.
pub(super) const PAGE: usize = 4096;

pub(super) struct Victim {
    dir: tempfile::TempDir,
    pub(super) whole: Vec<u8>,
}

impl Victim {
    pub(super) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let whole = fs::read(snapshot(dir.path())).unwrap();
        Self { dir, whole }
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("db")
    }

    /// With one number of a page replaced.
    pub(super) fn with(&self, page: u64, at: usize, bytes: &[u8]) -> Vec<u8> {
        let mut broken = self.whole.clone();
        let at = page as usize * PAGE + at;
        broken[at..at + bytes.len()].copy_from_slice(bytes);
        broken
    }

    pub(super) fn long(&self, page: u64, at: usize) -> u64 {
        let at = page as usize * PAGE + at;
        u64::from_le_bytes(self.whole[at..at + 8].try_into().unwrap())
    }

    pub(super) fn newest(&self) -> u64 {
        u64::from(self.long(1, 16 + 48) > self.long(0, 16 + 48))
    }

    /// The page of the root bucket.
    pub(super) fn root(&self) -> u64 {
        self.long(self.newest(), 16 + 16)
    }

    /// A branch, and the leaf it names first: those of the bucket `key`.
    pub(super) fn branch(&self) -> (u64, u64) {
        let flags = |page: u64| self.whole[page as usize * PAGE + 8];
        let pages = self.whole.len() / PAGE;
        let root = (2..pages as u64).find(|page| flags(*page) == 1 && self.long(*page, 0) == *page).unwrap();
        (root, self.long(root, 16 + 8))
    }
}
