//! The node's lease, renewed every 10 s through the API server: how the cluster tells that this kubelet lives.

use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::{Timestamp, Unit};
use serde_json::{Value, json};
use tracing::{debug, info};

use super::api::{ApiError, ApiServer};
use super::mirror::Mirrors;
use super::scale::Scale;

/// A quarter of `nodeLeaseDurationSeconds` (40).
const RENEW: Duration = Duration::from_secs(10);
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases";

/// Renews for ever.
pub async fn keep(mirrors: Arc<Mirrors>, node: String, scale: Scale) {
    let Some(api) = mirrors.api() else { return };
    let mut ticks = tokio::time::interval(scale.of(RENEW));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let deadline = scale.with_floor(RENEW, Duration::from_secs(2));
    loop {
        ticks.tick().await;
        match renew(api, &node, deadline).await {
            Ok(()) => debug!("node lease renewed"),
            Err(why) => info!(%why, "Failed to ensure lease exists, will retry"),
        }
    }
}

async fn renew(api: &ApiServer, node: &str, deadline: Duration) -> Result<(), ApiError> {
    let path = format!("{LEASES}/{node}");
    let now = Timestamp::now().round(Unit::Microsecond).unwrap_or_else(|_| Timestamp::now());
    let now = Value::from(format!("{now:.6}"));
    match api.call(Method::GET, &path, None, deadline).await {
        Ok(mut lease) => {
            let Some(spec) = lease.get_mut("spec").and_then(Value::as_object_mut) else {
                return Ok(());
            };
            spec.insert("renewTime".into(), now);
            api.call(Method::PUT, &path, Some(&lease), deadline).await.map(drop)
        }
        Err(ApiError::Status(StatusCode::NOT_FOUND, _)) => {
            let lease = json!({
                "apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                "metadata": {"name": node, "namespace": "kube-node-lease"},
                "spec": {"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": now},
            });
            api.call(Method::POST, LEASES, Some(&lease), deadline).await.map(drop)
        }
        Err(why) => Err(why),
    }
}
