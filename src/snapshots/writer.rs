//! The bytes of a snapshot on their way to disk: hashed as they come, given to the disk bit by bit.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use super::tally::{Sum, Tally};
use crate::model::Digest;
use crate::sys::files;

/// Bytes after which the disk is made to take what there is. Without it the kernel would gather a database in memory and
/// write it all at the end, and etcd's own log would wait behind that.
const SYNC_EVERY: u64 = 32 << 20;

/// A file that is being written.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    tally: Tally,
    synced: u64,
}

/// A file that was written, and lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// What its bytes come to.
    pub(super) sum: Sum,
    /// SHA-256 of all of them.
    pub(super) whole: Digest,
}

impl Writer {
    /// So many of the last bytes are kept apart in its sum.
    pub(super) fn new(file: File, path: &Path, hold: u64) -> Self {
        Self { file, path: path.to_owned(), tally: Tally::holding_back(hold), synced: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(files::named("write", &self.path))?;
        self.tally.push(bytes);
        if self.tally.bytes() - self.synced >= SYNC_EVERY {
            self.file.sync_data().map_err(files::named("sync", &self.path))?;
            self.synced = self.tally.bytes();
        }
        Ok(())
    }

    /// What was written, and lies on the disk.
    pub(super) fn finish(self) -> io::Result<Written> {
        self.file.sync_all().map_err(files::named("sync", &self.path))?;
        let (sum, whole) = self.tally.sums();
        Ok(Written { sum, whole })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshots::proof::TRAILER;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_it_comes_in_parts_the_digest_is_that_of_all_but_the_last_32(
            bytes in prop::collection::vec(any::<u8>(), 32..300), cuts in prop::collection::vec(0_usize..300, 0..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let mut writer = Writer::new(File::create(&path).unwrap(), &path, TRAILER);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                writer.push(&bytes[pair[0]..pair[1]]).unwrap();
            }
            let (database, last) = bytes.split_at(bytes.len() - 32);
            let written = writer.finish().unwrap();
            let sum = Sum { bytes: bytes.len() as u64, sha256: Digest::of(database), last: last.to_vec() };
            let wanted = Written { sum, whole: Digest::of(&bytes) };
            prop_assert_eq!(written, wanted);
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
