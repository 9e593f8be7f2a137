//! Writes the bytes of a snapshot to disk as they arrive, and reads back and hashes each chunk while the next one
//! arrives. So the checksum that follows the data is compared with the bytes in the file.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use super::checksum::{Checksum, Summing};
use super::tally::{Sum, Tally};
use crate::model::Digest;
use crate::sys::files;

/// Bytes after which the disk is made to take what there is. Without it the kernel would gather a database in memory and
/// write it all at the end, and etcd's own log would wait behind that. What tests write is small, and is synced in the middle,
/// too.
const SYNC_EVERY: u64 = if cfg!(test) { 256 << 10 } else { 16 << 20 };
/// What is read back at once.
const PIECE: usize = 256 << 10;

/// A file that is being written.
pub(super) struct Writer {
    file: File,
    /// By it an error calls the file: its own name is another one each time, and the same trouble is reported once.
    dir: PathBuf,
    /// Bytes of it.
    written: u64,
    /// What was read back.
    tally: Tally,
    checksum: Summing,
    piece: Vec<u8>,
}

/// A file that was written, and is on the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// What its bytes come to.
    pub(super) sum: Sum,
    /// SHA-256 of all of them.
    pub(super) whole: Digest,
    /// By which all of them are known again.
    pub(super) checksum: Checksum,
}

impl Writer {
    /// So many of the last bytes are kept apart in its sum. The file is empty, and open for reading as well.
    pub(super) fn new(file: File, path: &Path, hold: u64) -> Self {
        Self {
            file,
            dir: files::dir_of(path).to_owned(),
            written: 0,
            tally: Tally::holding_back(hold),
            checksum: Summing::default(),
            piece: vec![0; PIECE],
        }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes).map_err(files::named("write a file in", &self.dir))?;
        self.written += bytes.len() as u64;
        if self.written - self.tally.bytes() >= SYNC_EVERY {
            self.file.sync_data().map_err(files::named("sync a file in", &self.dir))?;
            self.read_back()?;
        }
        Ok(())
    }

    fn read_back(&mut self) -> io::Result<()> {
        while let Some(left) = self.written.checked_sub(self.tally.bytes()).filter(|left| *left > 0) {
            let next = usize::try_from(left).unwrap_or(PIECE).min(PIECE);
            let piece = self.piece.get_mut(..next).unwrap_or_default();
            self.file
                .read_exact_at(piece, self.tally.bytes())
                .map_err(files::named("read back a file in", &self.dir))?;
            self.tally.push(piece);
            self.checksum.push(piece);
        }
        Ok(())
    }

    /// What was written, and is on the disk.
    pub(super) fn finish(mut self) -> io::Result<Written> {
        self.file.sync_all().map_err(files::named("sync a file in", &self.dir))?;
        self.read_back()?;
        let (sum, whole) = self.tally.sums();
        Ok(Written { sum, whole, checksum: self.checksum.finish() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::snapshot::TRAILER;
    use crate::snapshots::checksum;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn however_it_comes_in_parts_the_digest_is_that_of_all_but_the_last_32(
            bytes in prop::collection::vec(any::<u8>(), 32..300), cuts in prop::collection::vec(0_usize..300, 0..6),
        ) {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("a");
            let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
            let mut writer = Writer::new(file, &path, TRAILER);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).chain([0, bytes.len()]).collect();
            cuts.sort_unstable();
            for pair in cuts.windows(2) {
                writer.push(&bytes[pair[0]..pair[1]]).unwrap();
            }
            let (database, last) = bytes.split_at(bytes.len() - 32);
            let written = writer.finish().unwrap();
            let sum = Sum { bytes: bytes.len() as u64, sha256: Digest::of(database), last: last.to_vec() };
            let again = File::open(&path).unwrap();
            let checksum = checksum::of(&again, bytes.len() as u64, &mut |_| ()).unwrap();
            let wanted = Written { sum, whole: Digest::of(&bytes), checksum };
            prop_assert_eq!(written, wanted);
            prop_assert_eq!(std::fs::read(&path).unwrap(), bytes);
        }
    }

    #[test]
    fn the_digest_is_that_of_what_lies_in_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let file = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        let mut writer = Writer::new(file, &path, 0);
        writer.push(&[7; 5000]).unwrap();
        // As a disk that keeps another byte than it was given.
        let disk = File::options().write(true).open(&path).unwrap();
        disk.write_all_at(&[8], 4000).unwrap();
        let whole = writer.finish().unwrap().whole;
        assert_eq!(whole, Digest::of(&std::fs::read(&path).unwrap()));
        assert_ne!(whole, Digest::of(&[7; 5000]));
    }
}
