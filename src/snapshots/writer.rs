//! The bytes of a snapshot on their way to disk: hashed as they come, given to the disk bit by bit.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::proof::TRAILER;
use crate::model::Digest;
use crate::sys::files;

/// Bytes after which the disk is made to take what there is. Without it the kernel would gather a database in memory and
/// write it all at the end, and etcd's own log would wait behind that.
const SYNC_EVERY: u64 = 32 << 20;

/// A file that is being written.
pub(super) struct Writer {
    file: File,
    path: PathBuf,
    hasher: Sha256,
    /// The last bytes that came: of a stream they are no part of the database, and are known only when nothing follows.
    held_back: Vec<u8>,
    bytes: u64,
    synced: u64,
}

/// A file that was written, and lies on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Bytes of it.
    pub(super) bytes: u64,
    /// SHA-256 of all but the last 32 of them.
    pub(super) sha256: Digest,
    /// Of all of them.
    pub(super) whole: Digest,
    /// Those.
    pub(super) last: Vec<u8>,
}

impl Writer {
    pub(super) fn new(file: File, path: &Path) -> Self {
        Self { file, path: path.to_owned(), hasher: Sha256::new(), held_back: Vec::new(), bytes: 0, synced: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(files::named("write", &self.path))?;
        self.bytes += bytes.len() as u64;
        self.held_back.extend_from_slice(bytes);
        let surplus = self.held_back.len().saturating_sub(TRAILER as usize);
        self.hasher.update(self.held_back.get(..surplus).unwrap_or_default());
        self.held_back.drain(..surplus);
        if self.bytes - self.synced >= SYNC_EVERY {
            self.file.sync_data().map_err(files::named("sync", &self.path))?;
            self.synced = self.bytes;
        }
        Ok(())
    }

    pub(super) fn finish(self) -> io::Result<Written> {
        self.file.sync_all().map_err(files::named("sync", &self.path))?;
        let whole = self.hasher.clone().chain_update(&self.held_back);
        let [sha256, whole] = [self.hasher, whole].map(|hasher| Digest::from(<[u8; 32]>::from(hasher.finalize())));
        Ok(Written { bytes: self.bytes, sha256, whole, last: self.held_back })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_it_comes_in_parts_the_digest_is_that_of_all_but_the_last_32(
            bytes in prop::collection::vec(any::<u8>(), 32..300), cuts in prop::collection::vec(0_usize..300, 0..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let mut writer = Writer::new(File::create(&path).unwrap(), &path);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                writer.push(&bytes[pair[0]..pair[1]]).unwrap();
            }
            let (database, last) = bytes.split_at(bytes.len() - 32);
            let written = writer.finish().unwrap();
            let wanted = Written {
                bytes: bytes.len() as u64,
                sha256: Digest::of(database),
                whole: Digest::of(&bytes),
                last: last.to_vec(),
            };
            prop_assert_eq!(written, wanted);
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }
}
