//! Who may do what: the bindings a kubeadm cluster has for its own parts, as one plain function.

use super::identity::User;

/// What a request touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A path that is no resource, such as `/livez`.
    Path(String),
    /// A resource.
    Resource(ResourceTarget),
}

/// A resource as authorization sees it; what does not apply is empty.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ResourceTarget {
    /// The API group, empty for core.
    pub group: String,
    /// The plural, such as `pods`.
    pub resource: String,
    /// Such as `status`.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The object's name.
    pub name: String,
    /// The node a list is restricted to by `spec.nodeName=`.
    pub of_node: String,
}

/// The answer, with the words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Yes.
    Allowed,
    /// No rule says so.
    Denied,
}

/// Whether the user may.
#[must_use]
pub fn authorize(user: &User, verb: &str, target: &Target) -> Verdict {
    let in_group = |name: &str| user.groups.iter().any(|group| group == name);
    let allowed = in_group("system:masters")
        || in_group("kubeadm:cluster-admins")
        || match target {
            Target::Path(path) => verb == "get" && path_is_open(path, in_group("system:monitoring")),
            Target::Resource(target) => {
                // SelfSubjectAccessReview is system:basic-user's, which every authenticated user has.
                (in_group("system:authenticated") && target.resource == "selfsubjectaccessreviews")
                    || match user.name.as_str() {
                        "system:kube-controller-manager" => component(verb, target, Writes::AlsoObjects),
                        "system:kube-scheduler" => component(verb, target, Writes::LeasesOnly),
                        "kube-apiserver-kubelet-client" => kubelet_api_admin(verb, target),
                        name => match name.strip_prefix("system:node:") {
                            Some(node) if in_group("system:nodes") => node_may(node, verb, target),
                            _ => false,
                        },
                    }
            }
        };
    if allowed { Verdict::Allowed } else { Verdict::Denied }
}

/// system:public-info-viewer, and what system:monitoring adds: the single checks are not for everybody.
fn path_is_open(path: &str, monitoring: bool) -> bool {
    matches!(path, "/livez" | "/readyz" | "/healthz" | "/version" | "/version/")
        || (monitoring && ["/livez/", "/readyz/", "/healthz/"].iter().any(|prefix| path.starts_with(prefix)))
}

const READS: &[&str] = &["get", "list", "watch"];
const WRITES: &[&str] = &["create", "update", "patch", "delete"];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Writes {
    LeasesOnly,
    AlsoObjects,
}

fn component(verb: &str, target: &ResourceTarget, writes: Writes) -> bool {
    let reads = READS.contains(&verb);
    // Reading nodes is not looking into kubelets: nodes/proxy is another right.
    if !matches!(target.subresource.as_str(), "" | "status" | "binding") {
        return false;
    }
    match target.resource.as_str() {
        "leases" => target.namespace == "kube-system" || reads,
        "subjectaccessreviews" | "tokenreviews" => verb == "create",
        "events" => true,
        "secrets" => writes == Writes::AlsoObjects,
        "pods" | "nodes" | "namespaces" | "configmaps" | "serviceaccounts" | "services" | "daemonsets"
        | "deployments" | "replicasets" => reads || (writes == Writes::AlsoObjects && WRITES.contains(&verb)),
        _ => false,
    }
}

/// ClusterRole system:kubelet-api-admin.
fn kubelet_api_admin(verb: &str, target: &ResourceTarget) -> bool {
    target.group.is_empty()
        && target.resource == "nodes"
        && match target.subresource.as_str() {
            "" => READS.contains(&verb) || verb == "proxy",
            "proxy" | "log" | "stats" | "metrics" | "checkpoint" | "configz" | "healthz" | "pods" => true,
            _ => false,
        }
}

/// The node authorizer and system:node: a kubelet's own node, lease and pods.
fn node_may(node: &str, verb: &str, target: &ResourceTarget) -> bool {
    let reads = READS.contains(&verb);
    match target.resource.as_str() {
        "nodes" if !matches!(target.subresource.as_str(), "" | "status") => false,
        "nodes" => target.name == node || (verb == "create" && target.name.is_empty()),
        "leases" => {
            target.namespace == "kube-node-lease"
                && (target.name == node || (verb == "create" && target.name.is_empty()))
                && verb != "list"
        }
        // Which pods exactly is a question of their content, asked where the object is at hand.
        "pods" => match verb {
            "list" | "watch" => target.of_node == node,
            _ => matches!(target.subresource.as_str(), "" | "status"),
        },
        "services" | "namespaces" => reads,
        "configmaps" => verb == "get",
        "subjectaccessreviews" | "tokenreviews" | "events" => verb == "create",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(text: &str) -> Target {
        let mut parts = text.split(' ');
        let mut next = || parts.next().unwrap_or_default().trim_matches('-').to_owned();
        Target::Resource(ResourceTarget {
            resource: next(),
            subresource: next(),
            namespace: next(),
            name: next(),
            of_node: next(),
            group: String::new(),
        })
    }

    #[test]
    fn who_may_do_what() {
        use Verdict::{Allowed, Denied};
        let admin = User::authenticated("kubernetes-admin", &["kubeadm:cluster-admins"]);
        let master = User::authenticated("kube-apiserver-lg", &["system:masters"]);
        let node = User::authenticated("system:node:m1", &["system:nodes"]);
        let impostor = User::authenticated("system:node:m1", &[]);
        let manager = User::authenticated("system:kube-controller-manager", &[]);
        let scheduler = User::authenticated("system:kube-scheduler", &[]);
        let kubelet_client = User::authenticated("kube-apiserver-kubelet-client", &[]);
        let anonymous = User::anonymous();
        // resource, subresource, namespace, name, the node a list is restricted to; `-` where there is none.
        for (user, verb, target, verdict) in [
            (&admin, "delete", "secrets - default x", Allowed),
            (&master, "create", "configmaps - default", Allowed),
            (&node, "update", "leases - kube-node-lease m1", Allowed),
            (&node, "update", "leases - kube-node-lease m2", Denied),
            (&node, "update", "leases - kube-system m1", Denied),
            (&node, "create", "leases - kube-node-lease", Allowed),
            (&node, "list", "pods - - - m1", Allowed),
            (&node, "list", "pods - - - m2", Denied),
            (&node, "list", "pods", Denied),
            (&node, "update", "nodes status - m1", Allowed),
            (&node, "update", "nodes status - m2", Denied),
            (&node, "create", "subjectaccessreviews", Allowed),
            (&node, "get", "secrets - kube-system x", Denied),
            (&impostor, "update", "nodes status - m1", Denied),
            (&manager, "update", "leases - kube-system kube-controller-manager", Allowed),
            (&manager, "update", "leases - kube-node-lease m1", Denied),
            (&scheduler, "create", "leases - kube-system", Allowed),
            (&scheduler, "create", "configmaps - default", Denied),
            (&kubelet_client, "get", "nodes proxy - m1", Allowed),
            (&kubelet_client, "get", "nodes pods - m1", Allowed),
            (&kubelet_client, "list", "pods", Denied),
            (&scheduler, "get", "nodes proxy - m1", Denied),
            (&node, "get", "nodes proxy - m1", Denied),
            (&anonymous, "list", "pods", Denied),
            (&anonymous, "create", "selfsubjectaccessreviews", Denied),
            (&scheduler, "create", "selfsubjectaccessreviews", Allowed),
        ] {
            assert_eq!(authorize(user, verb, &resource(target)), verdict, "{} {verb} {target}", user.name);
        }
    }

    #[test]
    fn health_is_for_everybody_and_single_checks_are_not() {
        let path = |path: &str| Target::Path(path.to_owned());
        let anonymous = User::anonymous();
        for open in ["/livez", "/readyz", "/healthz", "/version"] {
            assert_eq!(authorize(&anonymous, "get", &path(open)), Verdict::Allowed);
        }
        for closed in ["/livez/etcd", "/metrics", "/", "/api"] {
            assert_eq!(authorize(&anonymous, "get", &path(closed)), Verdict::Denied);
        }
        let monitor = User::authenticated("probe", &["system:monitoring"]);
        assert_eq!(authorize(&monitor, "get", &path("/livez/etcd")), Verdict::Allowed);
    }
}
