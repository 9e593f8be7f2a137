//! The kinds that this server stores, their keys in etcd, and their names in URL paths.

use super::authz::ResourceTarget;

/// Whether objects live in namespaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One per name in the cluster.
    Cluster,
    /// One per name in a namespace.
    Namespaced,
}

/// A kind of object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Resource {
    /// The API group, empty for core.
    pub group: &'static str,
    /// The plural in paths.
    pub plural: &'static str,
    /// The kind in bodies.
    pub kind: &'static str,
    /// Where it lives.
    pub scope: Scope,
    /// Its place below the storage prefix: the real server's, so nodes are `minions`.
    pub stored: &'static str,
}

impl Resource {
    /// `v1`, `coordination.k8s.io/v1`. Every kind here is v1.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { "v1".to_owned() } else { format!("{}/v1", self.group) }
    }
}

const fn namespaced(group: &'static str, plural: &'static str, kind: &'static str, stored: &'static str) -> Resource {
    Resource { group, plural, kind, scope: Scope::Namespaced, stored }
}

const fn cluster(group: &'static str, plural: &'static str, kind: &'static str, stored: &'static str) -> Resource {
    Resource { group, plural, kind, scope: Scope::Cluster, stored }
}

/// All kinds.
pub const RESOURCES: &[Resource] = &[
    cluster("", "namespaces", "Namespace", "namespaces"),
    cluster("", "nodes", "Node", "minions"),
    namespaced("", "pods", "Pod", "pods"),
    namespaced("", "configmaps", "ConfigMap", "configmaps"),
    namespaced("", "secrets", "Secret", "secrets"),
    namespaced("", "serviceaccounts", "ServiceAccount", "serviceaccounts"),
    namespaced("", "services", "Service", "services/specs"),
    namespaced("", "events", "Event", "events"),
    namespaced("apps", "daemonsets", "DaemonSet", "daemonsets"),
    namespaced("apps", "deployments", "Deployment", "deployments"),
    namespaced("apps", "replicasets", "ReplicaSet", "replicasets"),
    namespaced("coordination.k8s.io", "leases", "Lease", "leases"),
];

/// The kind of a group and plural.
#[must_use]
pub fn find(group: &str, plural: &str) -> Option<&'static Resource> {
    RESOURCES.iter().find(|resource| resource.group == group && resource.plural == plural)
}

/// Reads a path below `/api/v1` or `/apis/GROUP/v1`; `None` when it names no resource.
///
/// What it names need not exist: reviews, which are not stored, are read the same way.
#[must_use]
pub fn target(path: &str) -> Option<ResourceTarget> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match parts.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, "v1", rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        // `/namespaces/x` and its status are the namespace itself, anything longer lies in it.
        ["namespaces", namespace, inner @ ..] if !inner.is_empty() && inner[0] != "status" => (*namespace, inner),
        _ => ("", rest),
    };
    let (resource, name, subresource) = match rest {
        [resource] => (*resource, "", ""),
        [resource, name] => (*resource, *name, ""),
        [resource, name, subresource] => (*resource, *name, *subresource),
        _ => return None,
    };
    // The namespace of a namespace is itself, for authorization and for messages.
    let namespace = if resource == "namespaces" { name } else { namespace };
    Some(ResourceTarget {
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        of_node: String::new(),
    })
}

/// The key of an object, or with an empty name the prefix of all of them.
#[must_use]
pub fn key(prefix: &str, resource: &Resource, namespace: &str, name: &str) -> String {
    match resource.scope {
        Scope::Cluster => format!("{prefix}/{}/{name}", resource.stored),
        Scope::Namespaced if namespace.is_empty() => format!("{prefix}/{}/", resource.stored),
        Scope::Namespaced => format!("{prefix}/{}/{namespace}/{name}", resource.stored),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_resources() {
        for (path, (group, resource, namespace, name, subresource)) in [
            ("/api/v1/pods", ("", "pods", "", "", "")),
            ("/api/v1/namespaces/kube-system/pods", ("", "pods", "kube-system", "", "")),
            ("/api/v1/namespaces/kube-system/pods/etcd-m1/status", ("", "pods", "kube-system", "etcd-m1", "status")),
            ("/api/v1/namespaces", ("", "namespaces", "", "", "")),
            ("/api/v1/namespaces/default", ("", "namespaces", "default", "default", "")),
            ("/api/v1/nodes/m1", ("", "nodes", "", "m1", "")),
            (
                "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/m1",
                ("coordination.k8s.io", "leases", "kube-node-lease", "m1", ""),
            ),
        ] {
            let found = target(path).expect(path);
            let read = (
                found.group.as_str(),
                found.resource.as_str(),
                found.namespace.as_str(),
                found.name.as_str(),
                found.subresource.as_str(),
            );
            assert_eq!(read, (group, resource, namespace, name, subresource), "{path}");
        }
        assert_eq!(target("/livez"), None);
        assert_eq!(target("/api/v1"), None);
    }

    #[test]
    fn keys_are_the_real_servers() {
        let of = |group: &str, plural: &str| find(group, plural).expect("known");
        assert_eq!(key("/registry", of("", "nodes"), "", "vm"), "/registry/minions/vm");
        assert_eq!(key("/registry", of("", "pods"), "kube-system", "a"), "/registry/pods/kube-system/a");
        assert_eq!(key("/registry", of("", "pods"), "", ""), "/registry/pods/");
        assert_eq!(
            key("/registry", of("coordination.k8s.io", "leases"), "kube-node-lease", "vm"),
            "/registry/leases/kube-node-lease/vm"
        );
    }
}
