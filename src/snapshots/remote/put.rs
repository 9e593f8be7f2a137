//! Uploads a file to object storage. The object appears complete, or not at all.
//!
//! ```text
//!   thread: read 5 MiB, tally ──▶ part ──▶ part (two in flight) ──▶ does it match its proof? ──▶ complete
//!                                     any failure: abort; if that fails too, the parts are invisible, and
//!                                     the next round of the agent aborts the upload by its record (unfinished.rs)
//! ```

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use object_store::multipart::PartId;
use object_store::path::Path as ObjectPath;
use object_store::{MultipartId, ObjectStoreExt as _};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::aside;
use super::store::Remote;
use super::trouble::Trouble;
use super::unfinished::{Record, Upload};
use crate::snapshots::save::spawn;
use crate::snapshots::tally::{Sum, Tally};
use crate::sys::files;

/// The smallest that S3 takes; ten thousand of them, as many as it takes, are 50 GB.
const PART: usize = 5 << 20;
/// Parts on their way at once.
const FLYING: usize = 2;
/// To take back what was begun.
const ABORT: Duration = Duration::from_secs(10);

/// A file that a thread reads.
struct Reading {
    parts: mpsc::Receiver<Vec<u8>>,
    sum: oneshot::Receiver<io::Result<Sum>>,
}

impl Reading {
    fn start(file: &Path, hold: u64) -> io::Result<Self> {
        let (send, parts) = mpsc::channel(1);
        let path = file.to_owned();
        let sum = spawn(move || {
            let mut file = File::open(&path).map_err(files::named("read", &path))?;
            let mut tally = Tally::holding_back(hold);
            loop {
                let mut part = Vec::with_capacity(PART);
                (&mut file).take(PART as u64).read_to_end(&mut part).map_err(files::named("read", &path))?;
                if part.is_empty() {
                    return Ok(tally.sum());
                }
                tally.push(&part);
                if send.blocking_send(part).is_err() {
                    return Err(io::Error::other("the upload has ended"));
                }
            }
        })?;
        Ok(Self { parts, sum })
    }

    async fn sum(self) -> io::Result<Sum> {
        self.sum.await.map_err(|_| io::Error::other("the reader thread has ended"))?
    }
}

/// Removes a record. One that stays is removed by the next round of the agent, which aborts what is over already.
async fn end(record: Record) {
    if let Err(error) = aside(move || record.end()).await {
        tracing::warn!(%error, "the record of an upload that is over was not removed");
    }
}

fn warn_unrecorded(error: &io::Error) {
    tracing::warn!(%error, "an upload is not recorded: if it is interrupted, its parts stay in the store until it expires them");
}

impl Remote {
    /// Puts a file there, if its bytes come to what is expected of them: what they come to.
    pub(super) async fn put(
        &self,
        name: &str,
        file: &Path,
        hold: u64,
        expected: Option<&Sum>,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Sum, Trouble> {
        let (path, what) = (self.path(name), format!("{}: the upload failed", self.called(name)));
        let mut reading = Reading::start(file, hold)?;
        let first = reading.parts.recv().await.unwrap_or_default();
        let Some(second) = reading.parts.recv().await else {
            let sum = fitting(file, reading.sum().await?, expected)?;
            self.within(&what, self.store.put(&path, first.into())).await?;
            return Ok(sum);
        };
        let (record, id) = self.begin(&what, name).await?;
        let sent = async {
            let parts = self.parts(&what, (&path, &id), [first, second], &mut reading, seen).await?;
            let sum = fitting(file, reading.sum().await?, expected)?;
            self.within(&what, self.store.complete_multipart(&path, &id, parts)).await?;
            Ok(sum)
        };
        let sent: Result<Sum, Trouble> = sent.await;
        let ended = sent.is_ok() || self.take_back(&path, &id).await;
        // What could not be taken back is visible to nobody, and its record stays.
        if let Some(record) = record.filter(|_| ended) {
            end(record).await;
        }
        sent
    }

    /// Begins an upload in parts, recorded before the first part goes. It goes on without a record that cannot be written, on a
    /// full disk for example: the copy elsewhere is worth more than parts that are aborted.
    async fn begin(&self, what: &str, name: &str) -> Result<(Option<Record>, MultipartId), Trouble> {
        let (path, records) = (self.path(name), self.records.clone());
        let record = aside(move || records.map_or(Ok(None), |dir| Record::begin(&dir))).await;
        let record = record.unwrap_or_else(|error| {
            warn_unrecorded(&error);
            None
        });
        let id = match self.within(what, self.store.create_multipart(&path)).await {
            Ok(id) => id,
            Err(trouble) => {
                if let Some(record) = record {
                    end(record).await;
                }
                return Err(trouble);
            }
        };
        let Some(mut record) = record else { return Ok((None, id)) };
        let begun = Upload {
            place: self.place().to_string(),
            endpoint: self.endpoint.clone(),
            object: name.to_owned(),
            id: id.clone(),
        };
        let written = aside(move || {
            let written = record.write(&begun);
            Ok((record, written))
        });
        match written.await {
            Ok((record, Ok(()))) => Ok((Some(record), id)),
            Ok((record, Err(error))) => {
                warn_unrecorded(&error);
                end(record).await;
                Ok((None, id))
            }
            Err(error) => {
                warn_unrecorded(&error);
                Ok((None, id))
            }
        }
    }

    /// Takes back what was begun; whether the store says that it is done.
    async fn take_back(&self, path: &ObjectPath, id: &MultipartId) -> bool {
        matches!(timeout(ABORT, self.store.abort_multipart(path, id)).await, Ok(Ok(())))
    }

    /// Puts a few bytes there.
    pub(super) async fn put_bytes(&self, name: &str, bytes: Vec<u8>) -> Result<(), Trouble> {
        let (path, what) = (self.path(name), format!("{}: the upload failed", self.called(name)));
        self.within(&what, self.store.put(&path, bytes.into())).await.map(drop)
    }

    async fn parts(
        &self,
        what: &str,
        (path, id): (&ObjectPath, &MultipartId),
        begun: [Vec<u8>; 2],
        reading: &mut Reading,
        seen: &(dyn Fn(u64) + Sync),
    ) -> Result<Vec<PartId>, Trouble> {
        let mut flying: JoinSet<object_store::Result<(usize, PartId)>> = JoinSet::new();
        let mut landed = BTreeMap::new();
        let (mut sent, mut number) = (0, 0);
        let mut begun = begun.into_iter();
        loop {
            let part = match begun.next() {
                Some(part) => Some(part),
                None => reading.parts.recv().await,
            };
            let Some(part) = part else { break };
            if flying.len() >= FLYING {
                landed.extend(self.landed(what, &mut flying).await?);
            }
            sent += part.len() as u64;
            let (store, path, id, index) = (Arc::clone(&self.store), path.clone(), id.clone(), number);
            flying.spawn(async move { Ok((index, store.put_part(&path, &id, index, part.into()).await?)) });
            number += 1;
            seen(sent);
        }
        while !flying.is_empty() {
            landed.extend(self.landed(what, &mut flying).await?);
        }
        // In the order of their numbers.
        Ok(landed.into_values().collect())
    }

    async fn landed(
        &self,
        what: &str,
        flying: &mut JoinSet<object_store::Result<(usize, PartId)>>,
    ) -> Result<Option<(usize, PartId)>, Trouble> {
        let landed = async {
            match flying.join_next().await {
                Some(Ok(landed)) => landed.map(Some),
                Some(Err(error)) => Err(error.into()),
                None => Ok(None),
            }
        };
        self.within(what, landed).await
    }
}

/// Whether a local file is still what was proven.
fn fitting(file: &Path, sum: Sum, expected: Option<&Sum>) -> Result<Sum, Trouble> {
    match expected.is_none_or(|expected| *expected == sum) {
        true => Ok(sum),
        false => Err(Trouble::Differs(format!(
            "{} differs from the verified snapshot: `lastgood etcd snapshot verify` says what is wrong with it",
            file.display()
        ))),
    }
}
