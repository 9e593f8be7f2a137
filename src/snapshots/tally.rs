//! Counts a stream of bytes: its length, its SHA-256, and its last bytes.

use sha2::{Digest as _, Sha256};

use crate::model::Digest;

/// Bytes as they come.
pub(super) struct Tally {
    hasher: Sha256,
    /// The last bytes that came: of a stream of etcd's they are no part of the database, and are known only when nothing
    /// follows.
    held_back: Vec<u8>,
    hold: usize,
    bytes: u64,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Sum {
    /// Bytes of it.
    pub(super) bytes: u64,
    /// SHA-256 of all of them but those that are kept apart.
    pub(super) sha256: Digest,
    pub(super) last: Vec<u8>,
}

impl Tally {
    /// With so many of the last bytes kept apart.
    pub(super) fn holding_back(hold: u64) -> Self {
        Self { hasher: Sha256::new(), held_back: Vec::new(), hold: hold as usize, bytes: 0 }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.bytes += bytes.len() as u64;
        // All but the last of it goes straight in.
        let straight = bytes.len().saturating_sub(self.hold);
        if straight > 0 {
            self.hasher.update(&self.held_back);
            self.held_back.clear();
        }
        let (first, last) = bytes.split_at_checked(straight).unwrap_or((bytes, &[]));
        self.hasher.update(first);
        self.held_back.extend_from_slice(last);
        let surplus = self.held_back.len().saturating_sub(self.hold);
        self.hasher.update(self.held_back.get(..surplus).unwrap_or_default());
        self.held_back.drain(..surplus);
    }

    /// So many came until now.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(super) fn sum(self) -> Sum {
        self.sums().0
    }

    /// The sum, and the SHA-256 of all of it, what is kept apart included.
    pub(super) fn sums(self) -> (Sum, Digest) {
        let whole = self.hasher.clone().chain_update(&self.held_back);
        let [sha256, whole] = [self.hasher, whole].map(|hasher| Digest::from(<[u8; 32]>::from(hasher.finalize())));
        (Sum { bytes: self.bytes, sha256, last: self.held_back }, whole)
    }
}
