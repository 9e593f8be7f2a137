//! The snapshot stream of a member (`Maintenance.Snapshot`). It works without a quorum.
//!
//! The stream has no deadline, and a client's time-out covers only its beginning: an etcd that stops in the middle
//! would block it forever. So each part has a deadline.

use std::time::Duration;

use etcd_client::{Client, SnapshotStreaming};
use tokio::time::{Instant, timeout};

use super::etcd::{Etcd, EtcdEndpoint};
use super::peer::Peering;
use crate::model::etcd::MemberStatus;
use crate::model::{ComponentId, Reading};

/// An etcd member of this node: a static pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalMember {
    pub component: ComponentId,
    /// How it is reached.
    pub way: EtcdEndpoint,
    /// Its data directory on the host, where its manifest names one.
    pub data_dir: Option<std::path::PathBuf>,
    /// How it meets its peers, by its manifest; nothing while that cannot be read.
    pub peering: Option<Peering>,
}

/// A snapshot that is being sent.
pub struct Feed {
    stream: SnapshotStreaming,
    way: EtcdEndpoint,
    stall: Duration,
    /// The connection ends with it.
    _client: Client,
}

/// Connects to a member of this node, for whoever wants more of it than a look.
///
/// # Errors
/// A sentence: what it answered instead, or that it did not within this time.
pub async fn client(way: &EtcdEndpoint, within: Duration) -> Result<Client, String> {
    let etcd = Etcd::connect(way, Instant::now() + within).await;
    let etcd = etcd.map_err(|reading| reading.symptom().map(ToString::to_string).unwrap_or_default())?;
    Ok(etcd.client().clone())
}

/// One part of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    pub bytes: Vec<u8>,
    /// Bytes of the database that are still to come.
    pub remaining: u64,
}

impl Feed {
    /// Asks a member what it is, and for its snapshot.
    ///
    /// # Errors
    /// A sentence: what it answered instead, or that it did not within `stall`.
    pub async fn open(way: &EtcdEndpoint, stall: Duration) -> Result<(MemberStatus, Self), String> {
        let deadline = Instant::now() + stall;
        let said = |reading: Reading| reading.symptom().map(ToString::to_string).unwrap_or_default();
        let etcd = Etcd::connect(way, deadline).await.map_err(said)?;
        let status = etcd.status(deadline).await.map_err(said)?;
        let client = etcd.client().clone();
        let mut maintenance = client.maintenance_client();
        let stream = match timeout(stall, maintenance.snapshot()).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => return Err(said(etcd.meaning(error))),
            Err(_) => return Err(format!("{way} did not answer the request for a snapshot within {stall:?}")),
        };
        Ok((status, Self { stream, way: way.clone(), stall, _client: client }))
    }

    /// The next part; `None` after the last.
    ///
    /// # Errors
    /// A sentence: that it ended early, or that nothing came within the time of a stall.
    pub async fn next(&mut self) -> Result<Option<Part>, String> {
        match timeout(self.stall, self.stream.message()).await {
            Ok(Ok(Some(part))) => Ok(Some(Part { bytes: part.blob().to_vec(), remaining: part.remaining_bytes() })),
            Ok(Ok(None)) => Ok(None),
            Ok(Err(error)) => Err(format!("{}: the snapshot ended early: {error}", self.way)),
            Err(_) => Err(format!(
                "{} has sent no part of its snapshot for {} s: it is stalled, or its disk is",
                self.way,
                self.stall.as_secs_f32()
            )),
        }
    }
}
