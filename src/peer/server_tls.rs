//! The server's side of TLS, made again when one of its files, or who may ask, has changed. A disk that does not answer
//! holds up nobody: what was made last is used meanwhile.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::ServerConfig;
use rustls::server::NoServerSessionStorage;
use rustls::sign::SingleCertAndKey;
use tokio::time::{Instant, sleep};

use super::verifier::{Allowed, Verifier};
use crate::observe::{Bounded, PeerFiles, PeerSecurity};

/// For three small files.
const READ: Duration = Duration::from_secs(2);
/// Before another connection, which reads them at this moment, is looked for again.
const AGAIN: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct ServerTls {
    made: Bounded<Option<Made>>,
    last: Mutex<Option<(Wanted, Arc<ServerConfig>)>>,
}

/// What it is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    pub security: PeerSecurity,
    pub allowed: Allowed,
}

#[derive(Debug)]
struct Made {
    wanted: Wanted,
    files: PeerFiles,
    config: Arc<ServerConfig>,
}

impl Default for ServerTls {
    fn default() -> Self {
        Self { made: Bounded::new("reading the peer certificates of etcd", None), last: Mutex::default() }
    }
}

impl ServerTls {
    /// As the files are now.
    ///
    /// # Errors
    /// A sentence, when they cannot be used.
    pub(super) async fn config(&self, wanted: &Wanted) -> Result<Arc<ServerConfig>, String> {
        let until = Instant::now() + READ;
        loop {
            let now = wanted.clone();
            match self.made.run(READ, move |made| current(made, now)).await {
                Ok(made) => {
                    let config = made?;
                    let last = Some((wanted.clone(), Arc::clone(&config)));
                    *self.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
                    return Ok(config);
                }
                // Another connection reads them at this moment, or the disk does not answer. Who may ask is never of before.
                Err(why) => {
                    let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
                    match last.filter(|(made_for, _)| made_for == wanted) {
                        Some((_, config)) => return Ok(config),
                        None if Instant::now() >= until => return Err(why),
                        None => sleep(AGAIN).await,
                    }
                }
            }
        }
    }
}

fn current(made: &mut Option<Made>, wanted: Wanted) -> Result<Arc<ServerConfig>, String> {
    let is_current = |made: &Made| made.wanted == wanted && made.files.are_current();
    if let Some(made) = made.as_ref().filter(|made| is_current(made)) {
        return Ok(Arc::clone(&made.config));
    }
    let files = PeerFiles::read(&wanted.security)?;
    let config = Arc::new(make(&files, wanted.allowed.clone())?);
    *made = Some(Made { wanted, files, config: Arc::clone(&config) });
    Ok(config)
}

fn make(files: &PeerFiles, allowed: Allowed) -> Result<ServerConfig, String> {
    let verifier = Verifier::new(files, allowed)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&files.provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let resolver = SingleCertAndKey::from(files.pair.clone());
    let mut config = builder.with_client_cert_verifier(Arc::new(verifier)).with_cert_resolver(Arc::new(resolver));
    // Nothing is resumed: who was let in once is asked for its certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}
