//! One read from etcd: serializable, which this process answers alone, or linearizable, which needs the quorum.
//!
//! The connection is our own, TLS included, and only then given to the client: its own connector leaves the handshake
//! without a deadline, and a stopped etcd, whose kernel still takes connections, would hold it for ever.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use etcd_client::{Channel, Client, Error, GetOptions};
use hyper_util::rt::TokioIo;
use tokio::time::{Instant, timeout_at};
use tonic::transport::{Endpoint, Uri};
use tonic::{Code, Status};
use tower::service_fn;

use super::connect::{self, Address, Security};
use crate::model::reading::SymptomKind;
use crate::model::{Reading, Symptom};

/// The key etcd's own health check reads. That it is not there is an answer too.
const KEY: &str = "health";

/// One way to an etcd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct Way {
    /// Where it listens for clients.
    pub(in crate::observe) address: Address,
    /// With which credentials, and whom we take.
    pub(in crate::observe) security: Security,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.security.scheme(), self.address)
    }
}

/// A client on one connection.
pub(super) struct Etcd<'a> {
    way: &'a Way,
    client: Client,
    /// What is wrong with the dates of the certificate we came with.
    ours: Option<String>,
}

/// Which of the two reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Read {
    /// From this process' own store.
    Serializable,
    /// Agreed upon with the quorum.
    Linearizable,
}

impl<'a> Etcd<'a> {
    /// Connects within the deadline.
    pub(super) async fn connect(way: &'a Way, deadline: Instant) -> Result<Self, Reading> {
        let connection = connect::connect(&way.address, &way.security, b"h2", deadline).await?;
        let stream = Arc::new(Mutex::new(Some(connection.stream)));
        let once = service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            std::future::ready(stream.map(TokioIo::new).ok_or_else(|| io::Error::other("the connection was lost")))
        });
        let ours = connection.ours;
        let open = async {
            let channel = Endpoint::from_static("http://etcd").connect_with_connector(once).await;
            let channel = channel.map_err(|error| connect::broken(&error, &way.address, ours.as_deref()))?;
            Client::from_channel(Channel::Tonic(channel), None)
                .await
                .map_err(|error| meaning(way, error, ours.as_deref()))
        };
        match timeout_at(deadline, open).await {
            Ok(client) => Ok(Self { client: client?, way, ours }),
            Err(_) => Err(connect::timed_out(&way.address, "took the connection and did not speak HTTP/2 in time")),
        }
    }

    /// Reads once, within the deadline.
    pub(super) async fn read(&self, read: Read, deadline: Instant) -> Reading {
        let options = match read {
            Read::Serializable => GetOptions::new().with_serializable().with_count_only(),
            Read::Linearizable => GetOptions::new().with_count_only(),
        };
        let mut client = self.client.kv_client();
        match timeout_at(deadline, client.get(KEY, Some(options))).await {
            Ok(Ok(_)) => Reading::Good,
            Ok(Err(error)) => meaning(self.way, error, self.ours.as_deref()),
            Err(_) => connect::timed_out(&self.way.address, "took a read and did not answer it in time"),
        }
    }
}

/// Reads from its own store.
pub(super) async fn live(way: &Way, deadline: Instant) -> Reading {
    match Etcd::connect(way, deadline).await {
        Ok(etcd) => etcd.read(Read::Serializable, deadline).await,
        Err(reading) => reading,
    }
}

/// Reads with the quorum. That fails for the cluster's sake, unless this very process does not answer by itself.
pub(super) async fn quorum(way: &Way, deadline: Instant) -> Reading {
    let etcd = match Etcd::connect(way, deadline).await {
        Ok(etcd) => etcd,
        Err(reading) => return untold(way, &reading),
    };
    let (alone, agreed) =
        tokio::join!(etcd.read(Read::Serializable, deadline), etcd.read(Read::Linearizable, deadline));
    match (alone, agreed) {
        (_, Reading::Good) => Reading::Good,
        (Reading::Good, Reading::Bad(symptom)) => {
            let words = format!("it answers by itself, and not with its quorum: {symptom}");
            Reading::Bad(Symptom::new(SymptomKind::ClusterWide, words))
        }
        (Reading::Good, agreed) => agreed,
        (alone, _) => untold(way, &alone),
    }
}

fn untold(way: &Way, alone: &Reading) -> Reading {
    let symptom = alone.symptom().cloned();
    let symptom = symptom.unwrap_or_else(|| Symptom::new(SymptomKind::NoMeans, format!("{way} was not asked")));
    Reading::CannotTell(symptom)
}

/// Reads as a dependent would: by any of the ways its dependents have (Q13). One that works is enough, since the others
/// may be the dependent's own mistake.
pub(super) async fn as_dependent(ways: &[Way], deadline: Instant) -> Reading {
    let mut first = None;
    for way in ways {
        match live(way, deadline).await {
            Reading::Good => return Reading::Good,
            reading => first = first.or(Some(reading)),
        }
    }
    match first {
        // To a dependent, not being taken is not being served.
        Some(Reading::CannotTell(symptom)) if symptom.kind != SymptomKind::NoMeans => Reading::Bad(symptom),
        Some(reading) => reading,
        None => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, "no dependent names an address")),
    }
}

fn meaning(way: &Way, error: Error, ours: Option<&str>) -> Reading {
    match error {
        Error::GRpcStatus(status) => of_status(way, &status, ours),
        Error::TransportError(error) => connect::broken(&error, &way.address, ours),
        error => Reading::Bad(Symptom::new(SymptomKind::Broken, format!("{way}: {error}"))),
    }
}

fn of_status(way: &Way, status: &Status, ours: Option<&str>) -> Reading {
    // A status with a cause was made on our side, of a transport that broke.
    if let Some(cause) = std::error::Error::source(status) {
        return connect::broken(cause, &way.address, ours);
    }
    let words = format!("{way} answered a read with {:?}: {}", status.code(), status.message());
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => {
            Reading::CannotTell(Symptom::new(SymptomKind::Unauthorized, words))
        }
        // A learner serves no linearizable reads, and is well.
        _ if status.message().contains("learner") => Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, words)),
        Code::Unimplemented => Reading::Bad(Symptom::new(SymptomKind::WrongBody, words)),
        _ => Reading::Bad(Symptom::new(SymptomKind::Unhealthy, words)),
    }
}
