//! One connection to one component, within a deadline; each stage has its own error.
//!
//! ```text
//!   resolve ─▶ connect ─▶ TLS handshake ─▶ (the request)
//!             refused     certificate,      timed out, interrupted, a wrong answer
//!             timed out   timed out
//! ```

use std::future::Future;
use std::net::SocketAddr;
use std::{fmt, io};

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::clients;
use super::noted_stream::{Heard, Listening};
use super::security::Security;
use super::tls::{self, Client};
use crate::model::reading::SymptomKind;
use crate::model::{Reading, Symptom};
use crate::observe::credentials::Described;

/// A host, as a URL has it, and a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct Address {
    /// A name or an address; an IPv6 address in brackets or without.
    pub(in crate::observe) host: String,
    /// The TCP port.
    pub(in crate::observe) port: u16,
}

impl Address {
    /// The host without the brackets of a URL.
    pub(in crate::observe) fn bare(&self) -> &str {
        self.host.trim_matches(['[', ']'])
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.bare().contains(':') {
            write!(f, "[{}]:{}", self.bare(), self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Either kind of stream.
pub(super) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// An established connection.
pub(in crate::observe) struct Connection {
    pub(super) stream: Box<dyn Stream>,
    /// What is wrong with the dates of the server's certificate.
    pub(super) theirs: Option<String>,
    /// The server's certificate.
    pub(in crate::observe) shown: Option<Described>,
    /// What it takes to say why it ended early, if it does.
    pub(super) trail: Trail,
}

/// What an error is to be read with.
#[derive(Clone, Debug, Default)]
pub(super) struct Trail {
    /// What is wrong with the dates of the certificate we came with.
    ours: Option<String>,
    heard: Heard,
}

/// Opens a TCP connection.
pub(super) async fn tcp(address: &Address, deadline: Instant) -> Result<TcpStream, Reading> {
    tcp_to(address, resolve(address), deadline).await
}

/// The addresses of its host.
///
/// # Errors
/// What the system's resolver says.
pub(super) async fn resolve(address: &Address) -> io::Result<Vec<SocketAddr>> {
    // Never a name server for what a name in every URL of this node means.
    Ok(match address.bare() {
        "localhost" => vec![([127, 0, 0, 1], address.port).into()],
        host => lookup_host((host, address.port)).await?.collect(),
    })
}

/// Opens a TCP connection to the first of these that takes one.
async fn tcp_to(
    address: &Address,
    addresses: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    deadline: Instant,
) -> Result<TcpStream, Reading> {
    let open = async {
        let addresses = addresses.await?;
        let mut last = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(stream) => return Ok(stream),
                Err(error) => last = error,
            }
        }
        Err(last)
    };
    match timeout_at(deadline, open).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => {
            let kind = match error.kind() {
                io::ErrorKind::ConnectionRefused => SymptomKind::Refused,
                io::ErrorKind::TimedOut => SymptomKind::TimedOut,
                _ => SymptomKind::Broken,
            };
            let words =
                if kind == SymptomKind::Refused { "nothing listens there".to_owned() } else { error.to_string() };
            Err(Reading::Bad(Symptom::new(kind, format!("{address}: {words}"))))
        }
        Err(_) => Err(timed_out(address, "did not accept the connection in time")),
    }
}

/// Opens a connection, secured as wanted.
///
/// # Errors
/// The reading it comes to. What we lack ourselves is [`Reading::CannotTell`].
pub(in crate::observe) async fn connect(
    address: &Address,
    security: &Security,
    alpn: &[u8],
    deadline: Instant,
) -> Result<Connection, Reading> {
    connect_to(address, resolve(address), security, alpn, deadline).await
}

/// The same, to a host whose addresses the caller finds.
///
/// # Errors
/// As [`connect`].
pub(super) async fn connect_to(
    address: &Address,
    addresses: impl Future<Output = io::Result<Vec<SocketAddr>>>,
    security: &Security,
    alpn: &[u8],
    deadline: Instant,
) -> Result<Connection, Reading> {
    let (identities, trust) = match security {
        Security::Plain => {
            let stream = Box::new(tcp_to(address, addresses, deadline).await?);
            return Ok(Connection { stream, theirs: None, shown: None, trail: Trail::default() });
        }
        Security::Tls { identities, trust } => (identities, trust),
    };
    let no_means = |words: String| Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, words));
    let files = {
        let (identities, trust, alpn) = (identities.clone(), trust.clone(), alpn.to_vec());
        tokio::task::spawn_blocking(move || clients::client(&identities, &trust, &alpn))
    };
    let made = within(deadline, address, files).await?;
    let made = made.unwrap_or_else(|error| Err(format!("reading the certificates failed: {error}")));
    let Client { config, ours } = made.map_err(no_means)?;
    let name = ServerName::try_from(address.bare().to_owned())
        .map_err(|_| no_means(format!("{} cannot be the name of a certificate", address.bare())))?;
    let stream = tcp_to(address, addresses, deadline).await?;
    let handshake = TlsConnector::from(config).connect(name, stream);
    let trail = Trail { ours, heard: Heard::default() };
    match timeout_at(deadline, handshake).await {
        Ok(Ok(stream)) => {
            let theirs = tls::trouble_of(stream.get_ref().1.peer_certificates());
            let shown = stream.get_ref().1.peer_certificates().and_then(|chain| Described::of(chain.first()?));
            let stream = Box::new(Listening { stream, heard: trail.heard.clone() });
            Ok(Connection { stream, theirs, shown, trail })
        }
        Ok(Err(error)) => Err(broken(&error, address, &trail)),
        Err(_) => Err(timed_out(address, "accepted the connection and did not finish the TLS handshake in time")),
    }
}

/// What an error after the connection existed means.
pub(super) fn broken(error: &(dyn std::error::Error + 'static), address: &Address, trail: &Trail) -> Reading {
    if let Some(error) = tls::innermost(error).cloned().or_else(|| trail.heard.get()) {
        return tls::meaning(&error, &address.to_string(), trail.ours.as_deref());
    }
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(deeper) = cause {
        words = deeper.to_string();
        cause = deeper.source();
    }
    Reading::Bad(Symptom::new(SymptomKind::Broken, format!("{address}: the connection was interrupted: {words}")))
}

/// The reading of a deadline that passed.
pub(super) fn timed_out(address: &Address, words: &str) -> Reading {
    Reading::Bad(Symptom::new(SymptomKind::TimedOut, format!("{address} {words}")))
}

/// Our own preparations may hang too, on a disk; that says nothing about the component.
async fn within<T>(deadline: Instant, address: &Address, work: impl Future<Output = T>) -> Result<T, Reading> {
    timeout_at(deadline, work).await.map_err(|_| {
        let words = format!("{address} was not probed: reading the certificates took too long");
        Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, words))
    })
}
