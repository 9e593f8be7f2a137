//! Downloads an object in pieces: each piece is a separate request with its own retries, so that a lost connection
//! costs one piece and not the whole. All pieces are of the same version of the object.

use hyper::body::Bytes;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStoreExt as _};

use super::store::Remote;
use super::trouble::Trouble;
use crate::snapshots::tally::{Sum, Tally};

/// What is asked for at once.
const PIECE: u64 = 8 << 20;

/// An object that is being read.
pub(super) struct Pieces<'r> {
    remote: &'r Remote,
    name: String,
    meta: ObjectMeta,
    at: u64,
}

impl Remote {
    /// Begins to read an object.
    pub(super) async fn read(&self, name: &str) -> Result<Pieces<'_>, Trouble> {
        let path = self.path(name);
        let meta = self.within(&what(self, name), self.store.head(&path)).await?;
        Ok(Pieces { remote: self, name: name.to_owned(), meta, at: 0 })
    }

    /// All of an object that is no larger than this.
    pub(super) async fn read_all(&self, name: &str, max: u64) -> Result<Vec<u8>, Trouble> {
        let mut pieces = self.read(name).await?;
        if pieces.size() > max {
            let bytes = pieces.size();
            return Err(Trouble::Differs(format!(
                "{} has {bytes} bytes, more than its kind permits",
                self.called(name)
            )));
        }
        let mut all = Vec::new();
        while let Some(piece) = pieces.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all)
    }

    /// The last bytes of an object that has so many.
    pub(super) async fn last(&self, name: &str, size: u64, count: u64) -> Result<Bytes, Trouble> {
        let path = self.path(name);
        let range = size.saturating_sub(count)..size;
        self.within(&what(self, name), self.store.get_range(&path, range)).await
    }

    /// What an object's bytes come to, with so many of the last kept apart.
    pub(super) async fn sum(&self, name: &str, hold: u64, seen: &(dyn Fn(u64, u64) + Sync)) -> Result<Sum, Trouble> {
        let mut pieces = self.read(name).await?;
        let mut tally = Tally::holding_back(hold);
        while let Some(piece) = pieces.next().await? {
            tally.push(&piece);
            seen(tally.bytes(), pieces.size());
        }
        Ok(tally.sum())
    }
}

impl Pieces<'_> {
    /// Bytes of all of it.
    pub(super) fn size(&self) -> u64 {
        self.meta.size
    }

    /// The next piece; nothing at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Trouble> {
        if self.at >= self.meta.size {
            return Ok(None);
        }
        let end = self.meta.size.min(self.at.saturating_add(PIECE));
        let options = GetOptions {
            // Were it replaced meanwhile, the pieces would be of two.
            if_match: self.meta.e_tag.clone(),
            range: Some(GetRange::Bounded(self.at..end)),
            ..GetOptions::default()
        };
        let got = async { self.remote.store.get_opts(&self.meta.location, options).await?.bytes().await };
        let bytes = self.remote.within(&what(self.remote, &self.name), got).await?;
        if bytes.len() as u64 != end - self.at {
            let (called, wanted) = (self.remote.called(&self.name), end - self.at);
            return Err(Trouble::Differs(format!("{called}: received {} bytes instead of {wanted}", bytes.len())));
        }
        self.at = end;
        Ok(Some(bytes))
    }
}

fn what(remote: &Remote, name: &str) -> String {
    format!("{}: the download failed", remote.called(name))
}
