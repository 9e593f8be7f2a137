//! Garbage: exited containers beyond the last, sandboxes beyond the newest, the logs of pods that are over.

use std::sync::Arc;
use std::time::Duration;

use tracing::{debug, warn};

use super::manifest::Uid;
use super::pleg::{PodState, Readiness};
use super::sync::Node;
use super::workers::PodWorkers;
use crate::cri::ContainerState;

/// `ContainerGCPeriod`.
const PERIOD: Duration = Duration::from_secs(60);

/// After a container died: all but the newest exited one of its name go; all, if the pod was deleted.
pub async fn after_death(node: &Node, workers: &PodWorkers, uid: &Uid, died: &[String]) {
    let Some(state) = node.cache.get(uid) else { return };
    let all = workers.may_remove_content(uid);
    let name_of = |id: &String| {
        state
            .containers
            .iter()
            .find(|one| one.id == *id)
            .and_then(|one| one.metadata.as_ref())
            .map(|meta| meta.name.clone())
    };
    for name in died.iter().filter_map(name_of) {
        remove_exited(node, &state, &name, if all { 0 } else { 1 }).await;
    }
}

async fn remove_exited(node: &Node, state: &PodState, name: &str, keep: usize) {
    let exited = state.of_name(name).filter(|one| one.state() == ContainerState::ContainerExited);
    for container in exited.skip(keep) {
        debug!(pod = %state.full_name, container = name, id = container.id, "Removing container");
        match node.runtime.remove(&container.id).await {
            Ok(()) => {
                // The kubelet removes the log with the container.
                let _ = std::fs::remove_file(&container.log_path);
            }
            Err(why) => warn!(id = container.id, %why, "Failed to remove container"),
        }
    }
}

/// Collects once a minute, for ever.
pub async fn run(node: Arc<Node>, workers: PodWorkers) {
    let mut ticks = tokio::time::interval(node.settings.scale.of(PERIOD));
    ticks.tick().await;
    loop {
        ticks.tick().await;
        if node.mirrors.source_seen() {
            collect(&node, &workers).await;
        }
    }
}

async fn collect(node: &Node, workers: &PodWorkers) {
    for (uid, state) in node.cache.all() {
        let deleted = workers.may_remove_content(&uid);
        let keep = if deleted { 0 } else { 1 };
        let names: std::collections::BTreeSet<String> =
            state.containers.iter().filter_map(|one| Some(one.metadata.as_ref()?.name.clone())).collect();
        for name in names {
            remove_exited(node, &state, &name, keep).await;
        }
        // A sandbox that still has containers waits for them to be gone at the next round.
        let dead = state.sandboxes.iter().enumerate().filter(|(at, sandbox)| {
            sandbox.readiness == Readiness::NotReady && (deleted && state.containers.is_empty() || *at > 0)
        });
        for (_, sandbox) in dead {
            if let Err(why) = node.runtime.remove_sandbox(&sandbox.id).await {
                warn!(sandbox = sandbox.id, %why, "Failed to remove sandbox");
            }
        }
    }
    let Ok(logs) = std::fs::read_dir(&node.settings.pod_logs) else {
        return;
    };
    for entry in logs.flatten() {
        let name = entry.file_name().into_string().unwrap_or_default();
        let parts: Vec<&str> = name.split('_').collect();
        let [_, _, uid] = parts[..] else { continue };
        let uid = Uid(uid.to_owned());
        if workers.is_over(&uid) && node.cache.get(&uid).is_none_or(|state| !state.is_running()) {
            debug!(logs = name, "Removing pod logs");
            let _ = std::fs::remove_dir_all(entry.path());
            let _ = std::fs::remove_dir_all(node.settings.root_dir.join("pods").join(&uid.0));
            remove_cgroups(node, &uid);
        }
    }
}

/// Takes the pod's empty cgroups away, in every hierarchy; one that is in use stays by itself.
fn remove_cgroups(node: &Node, uid: &Uid) {
    let Some(below) = super::spec::cgroup_of(uid, &node.settings) else {
        return;
    };
    let Ok(hierarchies) = std::fs::read_dir("/sys/fs/cgroup") else {
        return;
    };
    for hierarchy in hierarchies.flatten() {
        let _ = std::fs::remove_dir(hierarchy.path().join(below.trim_start_matches('/')));
    }
}
