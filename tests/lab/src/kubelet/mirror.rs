//! Mirror pods: what the API server is shown of the static pods, and the API source, whose first successful list makes
//! the sources ready.
//!
//! ```text
//!   list fails, fails … ──────── first success ────────▶ seen (for the rest of this process's life)
//!   until then: no pod is deleted, no housekeeping            from then on: deletions, orphans, mirror pods
//! ```
//!
//! The calls are made where the real kubelet makes them, as their hanging is what hurts: in a pod's own sync (delays that
//! pod) and in housekeeping (blocks the sync loop). A server that refuses costs nothing; one that hangs costs 34 s.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;
use hyper::{Method, StatusCode};
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};
use tokio::sync::{mpsc, watch};
use tracing::{error, info};

use super::api::{ApiError, ApiServer};
use super::manifest::{FullName, MIRROR, StaticPod, Uid};
use super::scale::Scale;

/// "Timeout: request did not complete within requested timeout": what the API server grants a request when etcd hangs.
const HANGING_CALL: Duration = Duration::from_secs(34);
/// First and longest wait between two lists that fail: client-go's reflector.
const LIST_RETRY: (Duration, Duration) = (Duration::from_millis(800), Duration::from_secs(30));
/// Time between two lists that succeed, in place of the real one's watch.
const LIST: Duration = Duration::from_secs(1);

/// A pod of the API server that shows a static pod of this node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MirrorPod {
    /// The UID it got from the API server, which is not the static pod's.
    pub uid: String,
    /// The static pod it shows.
    pub of: Uid,
}

/// The mirror pods, and whether the API source was ever seen.
#[derive(Debug)]
pub struct Mirrors {
    api: Option<ApiServer>,
    known: Mutex<BTreeMap<FullName, MirrorPod>>,
    seen: watch::Sender<bool>,
    node: String,
    scale: Scale,
}

impl Mirrors {
    /// A client for `kubeconfig`; without one there is no API source to wait for.
    ///
    /// # Errors
    /// A kubeconfig that cannot be used.
    pub fn new(kubeconfig: Option<&Path>, node: &str, scale: Scale) -> Result<Self> {
        let api = kubeconfig.map(ApiServer::new).transpose()?;
        let seen = watch::Sender::new(api.is_none());
        Ok(Self { api, known: Mutex::default(), seen, node: node.to_owned(), scale })
    }

    /// Whether pods may be deleted: the API server was listed successfully since the start.
    #[must_use]
    pub fn source_seen(&self) -> bool {
        *self.seen.borrow()
    }

    /// The API server, if there is one.
    #[must_use]
    pub fn api(&self) -> Option<&ApiServer> {
        self.api.as_ref()
    }

    fn deadline(&self) -> Duration {
        self.scale.with_floor(HANGING_CALL, Duration::from_secs(2))
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeMap<FullName, MirrorPod>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lists this node's pods for ever; tells the names whose mirror pod changed.
    pub async fn follow(&self, changed: mpsc::UnboundedSender<FullName>) {
        let Some(api) = &self.api else { return };
        let path = format!("/api/v1/pods?fieldSelector=spec.nodeName%3D{}", self.node);
        let mut retry = LIST_RETRY.0;
        loop {
            match api.call(Method::GET, &path, None, self.deadline()).await {
                Ok(list) => {
                    retry = LIST_RETRY.0;
                    let now = mirrors_in(&list);
                    let before = std::mem::replace(&mut *self.known(), now.clone());
                    if !self.seen.send_replace(true) {
                        info!(mirror_pods = now.len(), "API source seen: the sources are ready");
                    }
                    let differ = |name: &&FullName| before.get(*name) != now.get(*name);
                    let names: std::collections::BTreeSet<&FullName> =
                        before.keys().chain(now.keys()).filter(differ).collect();
                    for name in names {
                        let _ = changed.send(name.clone());
                    }
                    tokio::time::sleep(self.scale.of(LIST)).await;
                }
                Err(why) => {
                    if !self.source_seen() {
                        info!(%why, "Unable to list this node's pods, the sources aren't ready yet");
                    }
                    tokio::time::sleep(self.scale.jittered(retry, 1.0)).await;
                    retry = (retry * 2).min(LIST_RETRY.1);
                }
            }
        }
    }

    /// The step of a pod's sync: an outdated mirror pod is deleted, a missing one created. Errors are logged, not
    /// returned: the pod starts without its mirror.
    pub async fn reconcile(&self, pod: &StaticPod) {
        let Some(api) = &self.api else { return };
        if !self.source_seen() {
            return;
        }
        let existing = self.known().get(&pod.full_name).cloned();
        if let Some(existing) = existing {
            if existing.of == pod.uid {
                return;
            }
            if self.delete(api, &pod.full_name, &existing).await.is_err() {
                return;
            }
        }
        self.create(api, pod).await;
    }

    /// The step of housekeeping: deletes the mirror pods whose static pod is gone, one after the other. Says whether a
    /// call hung.
    pub async fn delete_orphans(&self, is_wanted: impl Fn(&FullName) -> bool) -> Hung {
        let Some(api) = &self.api else { return Hung::No };
        let mut hung = Hung::No;
        let known = self.known().clone();
        for (name, mirror) in known.into_iter().filter(|(name, _)| !is_wanted(name)) {
            let began = tokio::time::Instant::now();
            let failed = self.delete(api, &name, &mirror).await.is_err();
            if failed && began.elapsed() >= self.deadline() / 2 {
                hung = Hung::Yes;
            }
        }
        hung
    }

    async fn delete(&self, api: &ApiServer, name: &FullName, mirror: &MirrorPod) -> Result<(), ()> {
        info!(pod = %name, mirror_uid = mirror.uid, "Deleting a mirror pod");
        let path = format!("/api/v1/namespaces/{}/pods/{}", name.namespace, name.name);
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": mirror.uid},
        });
        match api.call(Method::DELETE, &path, Some(&options), self.deadline()).await {
            Ok(_) | Err(ApiError::Status(StatusCode::NOT_FOUND | StatusCode::CONFLICT, _)) => {
                self.known().remove(name);
                Ok(())
            }
            Err(why) => {
                error!(pod = %name, %why, "Failed deleting a mirror pod");
                Err(())
            }
        }
    }

    async fn create(&self, api: &ApiServer, pod: &StaticPod) {
        let body = mirror_of(pod);
        let path = format!("/api/v1/namespaces/{}/pods", pod.full_name.namespace);
        match api.call(Method::POST, &path, Some(&body), self.deadline()).await {
            Ok(created) => {
                info!(pod = %pod.full_name, uid = %pod.uid, "Created mirror pod");
                if let Some((name, mirror)) = mirror_in(&created) {
                    self.known().insert(name, mirror);
                }
            }
            Err(ApiError::Status(StatusCode::CONFLICT, _)) => {}
            Err(why) => error!(pod = %pod.full_name, %why, "Failed creating a mirror pod"),
        }
    }
}

/// Whether a call used up its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hung {
    /// It did.
    Yes,
    /// It answered, or was refused at once.
    No,
}

/// The object that is posted: the static pod without its UID and status.
fn mirror_of(pod: &StaticPod) -> Value {
    let mut mirror: Pod = (*pod.pod).clone();
    mirror.metadata.uid = None;
    mirror.metadata.annotations.get_or_insert_default().insert(MIRROR.into(), pod.uid.0.clone());
    mirror.status = None;
    serde_json::to_value(mirror).unwrap_or_default()
}

fn mirrors_in(list: &Value) -> BTreeMap<FullName, MirrorPod> {
    list.get("items").and_then(Value::as_array).into_iter().flatten().filter_map(mirror_in).collect()
}

fn mirror_in(pod: &Value) -> Option<(FullName, MirrorPod)> {
    let meta = pod.get("metadata")?;
    let text = |field: &str| meta.get(field).and_then(Value::as_str).unwrap_or_default().to_owned();
    let of = meta.get("annotations")?.get(MIRROR)?.as_str()?;
    let name = FullName { namespace: text("namespace"), name: text("name") };
    Some((name, MirrorPod { uid: text("uid"), of: Uid(of.to_owned()) }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kubelet::manifest::decode;

    #[test]
    fn a_mirror_pod_carries_the_hash_but_not_the_uid_and_is_recognised_again() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec: {containers: [{name: c, image: 'x:1'}]}\n";
        let pod = decode(text.as_bytes(), Path::new("/m/p.yaml"), "n").expect("valid");
        let mut body = mirror_of(&pod);
        assert!(body["metadata"]["uid"].is_null());
        body["metadata"]["uid"] = json!("given");
        let (name, mirror) = mirror_in(&body).expect("a mirror pod");
        assert_eq!((name, mirror), (pod.full_name.clone(), MirrorPod { uid: "given".into(), of: pod.uid.clone() }));
        assert_eq!(mirrors_in(&json!({"items": [body, {"metadata": {"name": "coredns"}}]})).len(), 1);
        assert!(mirrors_in(&json!({"items": null})).is_empty());
    }

    #[test]
    fn without_a_kubeconfig_there_is_nothing_to_wait_for() {
        let mirrors = Mirrors::new(None, "n", Scale::TRUE_TO_LIFE).expect("standalone");
        assert!(mirrors.source_seen());
    }
}
