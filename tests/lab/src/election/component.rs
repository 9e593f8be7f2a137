//! A process around the election: flags, files, health port, and the ways it ends.
//!
//! ```text
//!  flags ─▶ files ─▶ port ─▶ API server (10 s) ─▶ standby ─▶ leading ── lease not renewed ─▶ exit 1
//!    └────────┴───────┴─────────────┴── exit 1       └──────────┴────── SIGTERM: 0 (scheduler), 2 (manager)
//! ```
//! Both codes after SIGTERM are measured ones. The scheduler gives its lease back, the manager lets it run out, so a new
//! manager waits for the old one's lease before it leads.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, bail};
use hyper::{Method, StatusCode};
use jiff::Timestamp;
use rustls::{
    ServerConfig,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout_at},
};

use super::{
    client::ApiClient,
    elector::{Elector, Intent, Record, Role, Timings},
    kubeconfig::Kubeconfig,
};
use crate::{
    apiserver::{
        files, health,
        health::Check,
        identity,
        klog::{self, Level, log},
        options::Pair,
        serve::{self, Answerer, Call, Reply},
        status,
    },
    control::{self, Faults, LeaseFault, Reach, scaled},
    flags::{Given, Table},
};

/// Compressed waits end here: a renewal goes through etcd to the disk, and a machine that runs several nodes takes seconds
/// for what a real one does in milliseconds. With 1 s in place of 10 s all leases were lost again and again.
const SHORTEST_RENEWAL: Duration = Duration::from_secs(5);
/// The same for the lease, which must outlast the renewal.
const SHORTEST_LEASE: Duration = Duration::from_secs(7);
/// How long the API server may be away at start.
const API_AT_START: Duration = Duration::from_secs(10);
/// Giving a lease back at the end is a courtesy; nobody waits for it.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);
/// Open health connections at the end.
const DRAIN: Duration = Duration::from_millis(100);

/// What becomes of the lease when the process is told to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AtEnd {
    /// It runs out.
    Keep,
    /// It is given back.
    Release,
}

/// What distinguishes the two.
#[derive(Debug, Clone, Copy)]
pub struct Component {
    table: &'static Table,
    port: i64,
    at_end: AtEnd,
    /// Exit code after SIGTERM.
    terminated: i32,
    /// Checks beside leaderElection while it leads.
    leading_checks: &'static [&'static str],
    /// Checks readyz has beside those.
    ready_checks: &'static [&'static str],
    /// Flags that name certificate bundles, and single key or certificate files.
    bundles: &'static [&'static str],
    keys: &'static [&'static str],
}

/// kube-controller-manager.
pub const CONTROLLER_MANAGER: Component = Component {
    table: &super::component_flags::CONTROLLER_MANAGER,
    port: 10257,
    at_end: AtEnd::Keep,
    terminated: 2,
    leading_checks: super::component_flags::CONTROLLERS,
    ready_checks: &[],
    bundles: &["client-ca-file", "requestheader-client-ca-file", "root-ca-file", "cluster-signing-cert-file"],
    keys: &["cluster-signing-key-file", "service-account-private-key-file"],
};

/// kube-scheduler.
pub const SCHEDULER: Component = Component {
    table: &super::component_flags::SCHEDULER,
    port: 10259,
    at_end: AtEnd::Release,
    terminated: 0,
    leading_checks: &[],
    ready_checks: &["sched-handler-sync", "shutdown"],
    bundles: &["client-ca-file", "requestheader-client-ca-file"],
    keys: &[],
};

/// Runs the process to its end; the exit code is for `main`.
pub async fn main(component: &'static Component, arguments: impl IntoIterator<Item = String>) -> i32 {
    let given = match component.table.parse(arguments) {
        Ok(given) => given,
        Err(refusal) => return refusal.print(component.table),
    };
    match run(component, &given).await {
        Ok(code) => code,
        Err(why) => {
            klog::command_failed(&why);
            1
        }
    }
}

async fn run(component: &'static Component, given: &Given) -> Result<i32> {
    let kubeconfig = check_files(component, given)?;
    let mut faults = control::listen(component.table.program);
    let mut ended = faults.clone();
    let terminated = control::terminated(&mut ended);
    tokio::pin!(terminated);

    let port = u16::try_from(given.number("secure-port", component.port)).context("--secure-port is no port")?;
    let address = SocketAddr::new(given.ip("bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port);
    let listener = serve::bind(address).await?;
    let (role_sender, role) = watch::channel(Role::Standby);
    let serving =
        serve::serve(listener, Arc::new(tls(given)?), faults.clone(), answerer(component, role, faults.clone()));
    log(Level::Info, "secure_serving.go:213", &format!("Serving securely on {address}"));

    let client = ApiClient::new(kubeconfig);
    let mut candidate = Candidate {
        lease: component.table.program,
        elector: Elector::new(identity(), timings(given)),
        client: &client,
        role: role_sender,
        timings: timings(given),
    };
    let life = async {
        await_api(&client).await?;
        if !given.enabled("leader-elect", true) {
            candidate.role.send_replace(Role::Leading { tried_since: None });
            std::future::pending::<()>().await;
        }
        candidate.campaign(&mut faults).await
    };
    let outcome = tokio::select! {
        outcome = life => outcome.map(|()| component.terminated),
        heard = &mut terminated => heard.map(|()| component.terminated),
    };
    if outcome.is_ok() && component.at_end == AtEnd::Release {
        candidate.release().await;
    }
    serving.stop(DRAIN).await;
    outcome
}

/// A wait in the lab's time, but no less than `least` unless it is shorter in truth.
fn patient(wait: Duration, least: Duration) -> Duration {
    scaled(wait).max(least.min(wait))
}

fn timings(given: &Given) -> Timings {
    let default = Timings::DEFAULT;
    Timings {
        lease: patient(given.duration("leader-elect-lease-duration", default.lease), SHORTEST_LEASE),
        renew_deadline: patient(
            given.duration("leader-elect-renew-deadline", default.renew_deadline),
            SHORTEST_RENEWAL,
        ),
        retry: scaled(given.duration("leader-elect-retry-period", default.retry)),
    }
}

/// `<host>_<uuid>`: another one at every start, so a restarted process waits for its own old lease.
fn identity() -> String {
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let uuid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    format!("{host}_{}", uuid.trim())
}

fn check_files(component: &Component, given: &Given) -> Result<Kubeconfig> {
    if let Some(path) = given.text("config") {
        let bytes = files::read(Path::new(path))?;
        let document: serde_yaml::Value =
            serde_yaml::from_slice(&bytes).with_context(|| format!("couldn't get version/kind in {path}"))?;
        if document.get("kind").and_then(serde_yaml::Value::as_str) != Some("KubeSchedulerConfiguration") {
            bail!("{path}: couldn't decode as KubeSchedulerConfiguration");
        }
    }
    for flag in ["authentication-kubeconfig", "authorization-kubeconfig"] {
        if let Some(path) = given.text(flag) {
            let said = "failed to get delegated authentication kubeconfig: failed to load kubeconfig";
            Kubeconfig::load(Path::new(path)).with_context(|| format!("{said} (--{flag}={path})"))?;
        }
    }
    for flag in component.bundles {
        if let Some(path) = given.text(flag) {
            files::authorities(Path::new(path)).with_context(|| format!("--{flag}"))?;
        }
    }
    for flag in component.keys {
        if let Some(path) = given.text(flag) {
            let bytes = files::read(Path::new(path)).with_context(|| format!("--{flag}"))?;
            PrivateKeyDer::from_pem_slice(&bytes)
                .map_err(|_| anyhow!("--{flag}: {path}: data does not contain a valid RSA or ECDSA private key"))?;
        }
    }
    let path = given.text("kubeconfig").ok_or_else(|| {
        anyhow!("invalid configuration: no configuration has been provided, try setting KUBERNETES_MASTER environment variable")
    })?;
    Kubeconfig::load(Path::new(path))
}

/// The named certificate, or one made for this life.
fn tls(given: &Given) -> Result<ServerConfig> {
    if let (Some(certificate), Some(key)) = (given.text("tls-cert-file"), given.text("tls-private-key-file")) {
        return identity::server_config(Pair { certificate: certificate.into(), key: key.into() });
    }
    let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
    let made = rcgen::generate_simple_self_signed(names).context("error creating self-signed certificates")?;
    let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(made.signing_key.serialize_der()));
    let mut config =
        ServerConfig::builder().with_no_client_auth().with_single_cert(vec![made.cert.der().clone()], key)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn answerer(component: &'static Component, role: watch::Receiver<Role>, faults: watch::Receiver<Faults>) -> Answerer {
    Arc::new(move |call| {
        let reply = answer(component, *role.borrow(), &faults, &call);
        Box::pin(std::future::ready(reply)) as Pin<Box<dyn Future<Output = Reply> + Send>>
    })
}

/// Health is for everybody here (`--authorization-always-allow-paths`), nothing else is served.
fn answer(component: &Component, role: Role, faults: &watch::Receiver<Faults>, call: &Call) -> Reply {
    let path = call.path.trim_matches('/');
    let (endpoint, single) = path.split_once('/').unwrap_or((path, ""));
    if call.method != Method::GET {
        return status::method_not_allowed();
    }
    if !matches!(endpoint, "livez" | "readyz" | "healthz") {
        return Reply::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned());
    }
    let mut names = vec!["leaderElection"];
    if matches!(role, Role::Leading { .. }) {
        names.extend(component.leading_checks);
    }
    if endpoint == "readyz" {
        names.extend(component.ready_checks);
    }
    let mut checks: Vec<Check> = names.into_iter().map(Check::ok).collect();
    control::apply_failures(faults, endpoint, &mut checks);
    match single {
        "" => health::answer(endpoint, call, &checks),
        name => checks
            .iter()
            .find(|check| check.name == name)
            .map_or_else(|| Reply::text(StatusCode::NOT_FOUND, "404 page not found\n".to_owned()), health::answer_one),
    }
}

async fn await_api(client: &ApiClient) -> Result<()> {
    let deadline = Instant::now() + patient(API_AT_START, SHORTEST_RENEWAL);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let answered = client.request(Method::GET, "/healthz", None, left.max(Duration::from_millis(1))).await;
        let why = match answered {
            Ok(answer) if answer.status == StatusCode::OK => return Ok(()),
            // Not healthy yet, but somebody who knows us.
            Ok(answer) => anyhow!("failed to get apiserver /healthz status: {}", answer.status),
            Err(why) => why.context("failed to get apiserver /healthz status"),
        };
        if Instant::now() + scaled(Duration::from_secs(1)) >= deadline {
            return Err(why.context("failed to wait for apiserver being healthy: timed out waiting for the condition"));
        }
        sleep(scaled(Duration::from_secs(1))).await;
    }
}

struct Candidate<'a> {
    lease: &'static str,
    elector: Elector,
    client: &'a ApiClient,
    role: watch::Sender<Role>,
    timings: Timings,
}

impl Candidate<'_> {
    /// Campaigns and leads until the lease is lost.
    async fn campaign(&mut self, faults: &mut watch::Receiver<Faults>) -> Result<()> {
        loop {
            // A hung process does nothing; what it missed shows when it goes on.
            drop(faults.wait_for(|faults| faults.reach != Reach::Hanging).await);
            let frozen = faults.borrow().lease == LeaseFault::Frozen;
            if !frozen {
                // Not while frozen: a lease that thaws is renewed as if nothing had been, the deadline never ran.
                self.elector.begin(Instant::now());
                let lost_at = self.elector.lost_at();
                let round = self.round();
                let told = match lost_at {
                    Some(deadline) => timeout_at(deadline, round).await.unwrap_or_else(|_| Err(anyhow!("timed out"))),
                    None => round.await,
                };
                if let Err(why) = told {
                    let what = format!("error retrieving resource lock kube-system/{}: {why:#}", self.lease);
                    log(Level::Error, "leaderelection.go:436", &what);
                }
                if self.elector.lost_at().is_some_and(|deadline| Instant::now() >= deadline) {
                    log(
                        Level::Info,
                        "leaderelection.go:297",
                        &format!("\"failed to renew lease\" lease=\"kube-system/{}\"", self.lease),
                    );
                    bail!("leaderelection lost");
                }
            }
            let lost = self.elector.lost_at().map(|deadline| deadline.saturating_duration_since(Instant::now()));
            sleep(lost.filter(|_| !frozen).map_or(self.timings.retry, |left| left.min(self.timings.retry))).await;
        }
    }

    /// Reads the lease, and writes it where it is ours to write.
    async fn round(&mut self) -> Result<()> {
        let path = self.path();
        let found = self.client.request(Method::GET, &path, None, self.patience()).await?;
        let current = match found.status {
            StatusCode::OK => Some(found.json()),
            StatusCode::NOT_FOUND => None,
            _ => bail!("{}", found.message()),
        };
        let record: Option<Record> =
            current.as_ref().and_then(|lease| serde_json::from_value(lease["spec"].clone()).ok());
        let intent = self.elector.intend(Instant::now(), &now(), record.as_ref());
        let (record, written) = match intent {
            Intent::Wait => return Ok(()),
            Intent::Create(record) => {
                let collection = path.rsplit_once('/').map_or(path.as_str(), |(collection, _)| collection);
                let metadata = json!({ "name": self.lease, "namespace": "kube-system" });
                let body = lease(metadata, &record);
                let answer = self.client.request(Method::POST, collection, Some(&body), self.patience()).await?;
                (record, answer)
            }
            Intent::Update(record) => {
                let body = lease(current.map(|lease| lease["metadata"].clone()).unwrap_or_default(), &record);
                let answer = self.client.request(Method::PUT, &path, Some(&body), self.patience()).await?;
                (record, answer)
            }
        };
        if !written.status.is_success() {
            bail!("{}", written.message());
        }
        if self.elector.role() == Role::Standby {
            let what = format!("successfully acquired lease kube-system/{}", self.lease);
            log(Level::Info, "leaderelection.go:271", &what);
        }
        self.elector.held(Instant::now(), record);
        self.role.send_replace(self.elector.role());
        Ok(())
    }

    /// Gives the lease back, if there is time.
    async fn release(&mut self) {
        let Some(record) = self.elector.release(&now()) else {
            return;
        };
        let giving = async {
            let found = self.client.request(Method::GET, &self.path(), None, RELEASE_DEADLINE).await?;
            let lease = lease(found.json()["metadata"].clone(), &record);
            self.client.request(Method::PUT, &self.path(), Some(&lease), RELEASE_DEADLINE).await
        };
        drop(tokio::time::timeout(RELEASE_DEADLINE, giving).await);
    }

    fn path(&self) -> String {
        format!("/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/{}", self.lease)
    }

    /// client-go gives a single request half the renew deadline.
    fn patience(&self) -> Duration {
        self.timings.renew_deadline / 2
    }
}

fn lease(metadata: Value, record: &Record) -> Value {
    json!({ "kind": "Lease", "apiVersion": "coordination.k8s.io/v1", "metadata": metadata, "spec": record })
}

fn now() -> String {
    Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(component: &Component, role: Role, target: &str, faults: Faults) -> (u16, String) {
        let (_sender, receiver) = watch::channel(faults);
        let reply = answer(component, role, &receiver, &Call::get(target));
        (reply.status.as_u16(), String::from_utf8(reply.body).expect("text"))
    }

    const LEADING: Role = Role::Leading { tried_since: None };

    #[test]
    fn a_standby_is_healthy_and_runs_no_controller() {
        let (code, text) = body(&CONTROLLER_MANAGER, Role::Standby, "/healthz?verbose", Faults::default());
        assert_eq!((code, text.as_str()), (200, "[+]leaderElection ok\nhealthz check passed\n"));
        let (_, text) = body(&CONTROLLER_MANAGER, LEADING, "/healthz?verbose", Faults::default());
        assert_eq!(text.lines().count(), 44);
        assert!(text.starts_with("[+]leaderElection ok\n[+]serviceaccount-token-controller ok\n"));
    }

    #[test]
    fn the_schedulers_health_reads_as_recorded() {
        let (code, text) = body(&SCHEDULER, LEADING, "/healthz?verbose", Faults::default());
        assert_eq!((code, text.as_str()), (200, "[+]leaderElection ok\nhealthz check passed\n"));
        assert_eq!(body(&SCHEDULER, LEADING, "/configz", Faults::default()).0, 404);
    }

    #[test]
    fn a_check_that_is_told_to_fail_fails() {
        let faults = Faults {
            failing: vec![control::FailedCheck { endpoint: None, check: "leaderElection".into() }],
            ..Faults::default()
        };
        let (code, text) = body(&SCHEDULER, LEADING, "/livez", faults);
        assert_eq!((code, text.as_str()), (500, "[-]leaderElection failed: reason withheld\nlivez check failed\n"));
    }
}
