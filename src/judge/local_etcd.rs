//! Whether the API server of this node and the etcd of this node belong together.

use crate::model::manifest::DataIdentity;
use crate::model::{Memory, Observation, Role};

/// Whether the API server of this node reads from an etcd of this node: a candidate that points elsewhere is not
/// explained by what the local member does.
pub(super) fn uses_local_etcd(seen: &Observation, memory: &Memory) -> bool {
    let standing =
        seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).find(|m| m.role == Role::ApiServer);
    let identity = standing.and_then(|manifest| manifest.data_identity()).or_else(|| {
        let record = memory.components.values().find(|record| record.role == Role::ApiServer)?;
        record.generations.get(&record.last_served?)?.data.clone()
    });
    match identity {
        Some(DataIdentity::ApiServer { servers, .. }) => {
            let ports =
                seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).find(|m| m.role == Role::Etcd);
            let ports = ports.map(|etcd| etcd.ports()).unwrap_or_default();
            // Without etcd's manifest its ports cannot be compared; then it is taken to be the one.
            ports.is_empty()
                || servers.iter().any(|url| {
                    url.rsplit_once(':')
                        .and_then(|(_, port)| port.parse().ok())
                        .is_some_and(|port| ports.contains(&port))
                })
        }
        _ => true,
    }
}
