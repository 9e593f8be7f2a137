//! What a newer lastgood wrote here: it is found before anything is written, and while it is here nothing is.
//!
//! ```text
//!   lock ──▶ look at the version of every file ──none newer──▶ read, lift, write
//!                          └─ some are ──▶ read what is understood, write nothing (inhibitor NewerState)
//! ```
//!
//! Overwriting a newer file would lose the fields that this program does not know, and a second file would contradict it.
//! Snapshots travel between nodes of several versions and are not examined here: this program ignores and keeps the
//! verification record of a newer one.

use std::io;
use std::path::{Path, PathBuf};

use super::{Finding, Guard, Store, envelope, etcd_history_file, generations, history, memory_file, published};
use crate::etcd::restore;
use crate::model::{Format, Memory, NewerFile, memory};
use crate::sys::files;

impl Store {
    /// The files of the state directory, and of the run directory, that a newer lastgood wrote.
    pub(super) fn newer(&self) -> Vec<NewerFile> {
        let own = [
            (self.memory_path(), &memory::FORMAT, memory_file::MAX_BYTES),
            (self.old_memory_path(), &memory::FORMAT, memory_file::MAX_BYTES),
            (self.known_path(), &etcd_history_file::FORMAT, etcd_history_file::MAX_BYTES),
            (self.published_path(), &published::FORMAT, published::MAX_BYTES),
        ];
        let run = self
            .run()
            .map(|run| (run.join(etcd_history_file::NAME), &etcd_history_file::FORMAT, etcd_history_file::MAX_BYTES));
        let files = own.into_iter().chain(run).chain(self.generation_files());
        let mut found: Vec<NewerFile> =
            files.filter_map(|(path, format, most)| newer_file(&path, format, most)).collect();
        found.extend(history::newer(self));
        found
    }

    /// Those, and what a newer lastgood left of a restore in the data directories that a memory names.
    pub fn newer_state(&self, memory: &Memory) -> Vec<NewerFile> {
        let mut found = self.newer();
        let mut dirs: Vec<&Path> =
            memory.components.values().filter_map(|record| Some(record.data_dir.as_ref()?.0.as_path())).collect();
        dirs.sort_unstable();
        dirs.dedup();
        found.extend(dirs.into_iter().flat_map(restore::newer));
        found
    }

    fn generation_files(&self) -> impl Iterator<Item = (PathBuf, &'static Format, u64)> {
        self.generation_dirs().into_iter().flat_map(|dir| {
            let file = |name: &str, format| (dir.join(name), format, generations::MAX_JSON);
            [file("contents.json", &generations::CONTENTS), file("generation.json", &generations::DESCRIBED)]
        })
    }
}

impl Guard {
    /// Whether anything may be written here.
    ///
    /// # Errors
    /// Names the first file that a newer lastgood wrote.
    pub(super) fn may_write(&self) -> io::Result<()> {
        match self.newer_files().first() {
            None => Ok(()),
            Some(newer) => {
                let sentence = format!("nothing is written to {}: {newer}", self.path().display());
                Err(io::Error::new(io::ErrorKind::Unsupported, sentence))
            }
        }
    }
}

/// A file of a format, if a newer lastgood wrote it. One that cannot be read is another matter.
pub(super) fn newer_file(path: &Path, format: &Format, most: u64) -> Option<NewerFile> {
    let bytes = files::read_bounded(path, most).ok()?;
    let version = envelope::newer(format, &bytes)?;
    Some(NewerFile { path: path.to_owned(), version, known: format.version() })
}

/// The sentence for journal and history.
pub(super) fn finding(newer: &NewerFile) -> Finding {
    let NewerFile { path, version, known } = newer;
    let sentence = format!(
        "was written by a newer lastgood (format {version}; this lastgood knows format {known}): it is kept as it is, and \
         lastgood only observes; `lastgood doctor` shows what to do"
    );
    Finding::new(path, sentence)
}
