//! A small kube-apiserver over the real etcd, started by the manifest kubeadm writes.
//!
//! ```text
//!  flags ─▶ files ─▶ port ─▶ etcd (20 s) ─▶ serving ── SIGTERM ─▶ draining ─▶ exit 0
//!    └────────┴───────┴─────────┴── exit 1    │                    readyz fails at once; ends when the last
//!                                             │                    connection is gone, after 30 s at most
//!                                             ├ livez, readyz, healthz: named checks, etcd among them
//!                                             └ resources: who (identity) may (authz) do what (objects, reviews)
//! ```
//!
//! It fails when etcd fails: the etcd check within 2 s, requests that need storage after 34 s (writes) or 60 s (reads).
//! The recorded readyz of one real build lists no etcd check at all, which is why it went on saying 200 over a stopped
//! etcd until the kubelet killed the server; `LAB_READYZ=recorded` makes this one do the same. Upstream has the checks.

pub mod authz;
pub mod documents;
pub mod etcd;
pub mod files;
pub mod health;
pub mod identity;
pub mod klog;
pub mod known;
pub mod objects;
pub mod options;
pub mod resources;
pub mod reviews;
mod selectors;
pub mod serve;
pub mod status;

use std::{
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use anyhow::{Result, anyhow};
use hyper::{Method, StatusCode};
use serde_json::json;
use tokio::{
    sync::watch,
    time::{Instant, sleep},
};

use self::{
    authz::{Target, Verdict},
    etcd::Store,
    health::Check,
    identity::Authenticator,
    klog::{Level, log},
    known::TABLE,
    objects::Objects,
    options::Options,
    serve::{Answerer, Call, Reply},
};
use crate::control::{self, Faults, scaled};

/// What it says it is.
pub const VERSION: &str = "v1.36.2";

/// How long etcd may be away at start before the process gives up.
const ETCD_AT_START: Duration = Duration::from_secs(20);
/// How often the system's namespaces are looked for again: a store that was emptied meanwhile gets others.
const NAMESPACES: Duration = Duration::from_secs(60);
/// How long the slower post-start hooks take.
const HOOKS: Duration = Duration::from_secs(2);
/// The longest drain; a real one was measured to use it up with a kubelet's grace of the same length.
const DRAIN: Duration = Duration::from_secs(30);
/// Below this a compressed etcd check would tell of a busy machine rather than of etcd.
const SHORTEST_CHECK: Duration = Duration::from_millis(500);

/// Hooks that are through as soon as the server serves, and those that take [`HOOKS`]; the order is the recorded one.
const POST_START: &[(&str, Hook)] = &[
    ("poststarthook/start-apiserver-admission-initializer", Hook::Quick),
    ("poststarthook/generic-apiserver-start-informers", Hook::Quick),
    ("poststarthook/priority-and-fairness-config-consumer", Hook::Quick),
    ("poststarthook/priority-and-fairness-filter", Hook::Quick),
    ("poststarthook/storage-object-count-tracker-hook", Hook::Quick),
    ("poststarthook/start-apiextensions-informers", Hook::Quick),
    ("poststarthook/start-apiextensions-controllers", Hook::Quick),
    ("poststarthook/crd-informer-synced", Hook::Slow),
    ("poststarthook/start-system-namespaces-controller", Hook::Slow),
    ("poststarthook/peer-endpoint-reconciler-controller", Hook::Quick),
    ("poststarthook/start-cluster-authentication-info-controller", Hook::Quick),
    ("poststarthook/start-kube-apiserver-identity-lease-controller", Hook::Quick),
    ("poststarthook/start-kube-apiserver-identity-lease-garbage-collector", Hook::Quick),
    ("poststarthook/storage-readiness", Hook::Quick),
    ("poststarthook/start-legacy-token-tracking-controller", Hook::Quick),
    ("poststarthook/start-service-ip-repair-controllers", Hook::Slow),
    ("poststarthook/rbac/bootstrap-roles", Hook::Slow),
    ("poststarthook/scheduling/bootstrap-system-priority-classes", Hook::Slow),
    ("poststarthook/priority-and-fairness-config-producer", Hook::Slow),
    ("poststarthook/bootstrap-controller", Hook::Quick),
    ("poststarthook/start-kubernetes-service-cidr-controller", Hook::Slow),
    ("poststarthook/aggregator-reload-proxy-client-cert", Hook::Quick),
    ("poststarthook/start-kube-aggregator-informers", Hook::Quick),
    ("poststarthook/apiservice-status-local-available-controller", Hook::Quick),
    ("poststarthook/apiservice-status-remote-available-controller", Hook::Quick),
    ("poststarthook/apiservice-registration-controller", Hook::Slow),
    ("poststarthook/apiservice-wait-for-first-sync", Hook::Slow),
    ("poststarthook/apiservice-discovery-controller", Hook::Slow),
    ("poststarthook/kube-apiserver-autoregistration", Hook::Quick),
    ("autoregister-completion", Hook::Slow),
    ("poststarthook/apiservice-openapi-controller", Hook::Quick),
    ("poststarthook/apiservice-openapiv3-controller", Hook::Quick),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Hook {
    Quick,
    Slow,
}

/// Runs the process to its end; the exit code is for `main`.
pub async fn main(arguments: impl IntoIterator<Item = String>) -> i32 {
    let given = match TABLE.parse(arguments) {
        Ok(given) => given,
        Err(refusal) => return refusal.print(&TABLE),
    };
    match run(&given).await {
        Ok(()) => 0,
        Err(why) => {
            klog::command_failed(&why);
            1
        }
    }
}

async fn run(given: &crate::flags::Given) -> Result<()> {
    let options = Options::from_flags(given)?;
    files::check_all(given)?;
    let faults = control::listen("kube-apiserver");
    let mut ended = faults.clone();
    // From here on: process 1 of a container has no default for SIGTERM, it would not be heard while etcd is awaited.
    let terminated = control::terminated(&mut ended);
    tokio::pin!(terminated);
    let listener = serve::bind(options.listen).await?;
    let tls = identity::server_config(options.serving.clone())?;
    let store = Store::new(options.etcd.clone()).await?;
    let health_key = format!("{}/health", options.prefix);
    tokio::select! {
        reached = await_etcd(&store, &health_key) => reached?,
        heard = &mut terminated => return heard,
    }

    let server = Arc::new(Server {
        authenticator: Authenticator::new(options.client_ca.clone(), options.anonymous),
        objects: Objects::new(store.clone(), &options.prefix, options.request_timeout),
        store,
        health_key,
        etcd_check: scaled(options.etcd_check).max(SHORTEST_CHECK.min(options.etcd_check)),
        readyz: Readyz::from_environment(),
        hooks_done: AtomicBool::new(false),
        terminating: AtomicBool::new(false),
        faults: faults.clone(),
    });
    let answering = Arc::clone(&server);
    let answer: Answerer = Arc::new(move |call| {
        let server = Arc::clone(&answering);
        Box::pin(async move { server.answer(call).await }) as Pin<Box<dyn Future<Output = Reply> + Send>>
    });
    let serving = serve::serve(listener, Arc::new(tls), faults.clone(), answer);
    log(Level::Info, "secure_serving.go:213", &format!("Serving securely on {}", options.listen));
    tokio::spawn(Arc::clone(&server).post_start());

    terminated.await?;
    log(Level::Info, "genericapiserver.go:548", "\"[graceful-termination] shutdown event\" name=\"ShutdownInitiated\"");
    server.terminating.store(true, Ordering::Relaxed);
    sleep(scaled(options.shutdown_delay)).await;
    serving.stop(scaled(DRAIN)).await;
    log(Level::Info, "genericapiserver.go:669", "\"[graceful-termination] apiserver is exiting\"");
    Ok(())
}

async fn await_etcd(store: &Store, health_key: &str) -> Result<()> {
    let deadline = Instant::now() + scaled(ETCD_AT_START);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match store.probe(health_key, left.min(Duration::from_secs(5))).await {
            Ok(()) => return Ok(()),
            Err(why) if Instant::now() >= deadline => {
                log(Level::Warning, "logging.go:55", &format!("[core] grpc: addrConn.createTransport failed: {why}"));
                return Err(anyhow!(
                    "error creating leases: error creating storage factory: context deadline exceeded"
                ));
            }
            Err(why) => {
                log(Level::Warning, "logging.go:55", &format!("[core] grpc: addrConn.createTransport failed: {why}"));
                sleep(scaled(Duration::from_secs(1)).min(deadline.saturating_duration_since(Instant::now()))).await;
            }
        }
    }
}

/// Which checks readyz has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Readyz {
    /// etcd and etcd-readiness among them.
    Upstream,
    /// As recorded from one real build: nothing about etcd.
    Recorded,
}

impl Readyz {
    fn from_environment() -> Self {
        match std::env::var("LAB_READYZ").as_deref() {
            Ok("recorded") => Self::Recorded,
            _ => Self::Upstream,
        }
    }
}

struct Server {
    authenticator: Authenticator,
    objects: Objects,
    store: Store,
    health_key: String,
    etcd_check: Duration,
    readyz: Readyz,
    hooks_done: AtomicBool,
    terminating: AtomicBool,
    faults: watch::Receiver<Faults>,
}

impl Server {
    /// The slow hooks: the system's namespaces, and the time the others take. The namespaces' controller goes on.
    async fn post_start(self: Arc<Self>) {
        let begun = Instant::now();
        while self.objects.bootstrap(Instant::now() + scaled(Duration::from_secs(10))).await.is_err() {
            sleep(scaled(Duration::from_secs(1))).await;
        }
        tokio::time::sleep_until(begun + scaled(HOOKS)).await;
        self.hooks_done.store(true, Ordering::Relaxed);
        loop {
            sleep(scaled(NAMESPACES)).await;
            // Without etcd there is nothing to make; the health checks tell.
            let _ = self.objects.bootstrap(Instant::now() + scaled(Duration::from_secs(10))).await;
        }
    }

    async fn answer(&self, call: Call) -> Reply {
        let Ok(user) = self.authenticator.user(&call) else {
            return status::unauthorized();
        };
        let target = match resources::target(&call.path) {
            Some(mut target) => {
                target.of_node = restricted_to_node(&call);
                Target::Resource(target)
            }
            None => Target::Path(call.path.clone()),
        };
        let verb = verb(&call, &target);
        if authz::authorize(&user, verb, &target) == Verdict::Denied {
            return status::forbidden(&user, verb, &target);
        }
        match &target {
            Target::Path(path) => self.path(path, &call).await,
            Target::Resource(target) => match reviews::answer(&user, target, &call) {
                Some(reply) => reply,
                None => self.objects.handle(&user, target, &call).await,
            },
        }
    }

    async fn path(&self, path: &str, call: &Call) -> Reply {
        let path = path.trim_matches('/');
        let (endpoint, single) = path.split_once('/').unwrap_or((path, ""));
        match (endpoint, single) {
            ("version", "") => {
                let text = serde_json::to_string_pretty(&version()).unwrap_or_default();
                Reply { status: StatusCode::OK, content_type: "application/json", body: text.into_bytes() }
            }
            ("livez" | "readyz" | "healthz", _) if call.method != Method::GET => status::method_not_allowed(),
            ("livez" | "readyz" | "healthz", "") => health::answer(endpoint, call, &self.checks(endpoint).await),
            ("livez" | "readyz" | "healthz", name) => {
                let checks = self.checks(endpoint).await;
                let found = checks.iter().find(|check| check.name == name);
                found.map_or_else(
                    || Reply::text(StatusCode::NOT_FOUND, "404 page not found\n".into()),
                    health::answer_one,
                )
            }
            _ => status::no_such_path(),
        }
    }

    async fn checks(&self, endpoint: &str) -> Vec<Check> {
        let ready = endpoint == "readyz";
        let mut checks = vec![Check::ok("ping"), Check::ok("log")];
        if !ready {
            checks.push(Check::ok("loopback-serving-certificate"));
        }
        if !ready || self.readyz == Readyz::Upstream {
            let etcd = self.store.probe(&self.health_key, self.etcd_check).await;
            checks.push(Check::new("etcd", etcd.clone()));
            if ready {
                checks.push(Check::new("etcd-readiness", etcd));
            }
        }
        if ready {
            checks.push(Check::ok("informer-sync"));
        }
        let hooks_done = self.hooks_done.load(Ordering::Relaxed);
        checks.extend(POST_START.iter().map(|(name, hook)| match hook {
            Hook::Slow if !hooks_done => Check::new(name, Err("not finished".to_owned())),
            _ => Check::ok(name),
        }));
        if ready {
            let terminating = self.terminating.load(Ordering::Relaxed);
            let shutdown = if terminating { Err("process is shutting down".to_owned()) } else { Ok(()) };
            checks.push(Check::new("shutdown", shutdown));
        }
        control::apply_failures(&self.faults, endpoint, &mut checks);
        checks
    }
}

/// The verb authorization knows for a request.
fn verb(call: &Call, target: &Target) -> &'static str {
    let named = match target {
        // A path's verb is the method's name, and `head` counts as reading.
        Target::Path(_) => true,
        Target::Resource(target) => !target.name.is_empty(),
    };
    match (&call.method, named) {
        (&Method::GET | &Method::HEAD, false) if call.query("watch").any(|on| matches!(on, "" | "1" | "true")) => {
            "watch"
        }
        (&Method::GET | &Method::HEAD, false) => "list",
        (&Method::GET | &Method::HEAD, true) => "get",
        (&Method::POST, _) => "create",
        (&Method::PUT, _) => "update",
        (&Method::PATCH, _) => "patch",
        (&Method::DELETE, true) => "delete",
        (&Method::DELETE, false) => "deletecollection",
        _ => "options",
    }
}

/// The node of `fieldSelector=spec.nodeName=…`.
fn restricted_to_node(call: &Call) -> String {
    call.query("fieldSelector")
        .flat_map(|selector| selector.split(','))
        .find_map(|part| part.strip_prefix("spec.nodeName="))
        .map(|node| node.trim_start_matches('=').to_owned())
        .unwrap_or_default()
}

fn version() -> serde_json::Value {
    json!({
        "major": "1", "minor": "36", "emulationMajor": "1", "emulationMinor": "36", "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "35", "gitVersion": VERSION,
        "gitCommit": "98b35193b2ac7a23a673325f5e9b830ecd5ba406", "gitTreeState": "clean",
        "buildDate": "2026-08-21T00:00:00Z", "goVersion": "go1.26.6", "compiler": "gc", "platform": "linux/amd64",
    })
}
