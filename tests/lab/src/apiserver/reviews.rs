//! Reviews: questions to the API server that are answered and not stored. They need no etcd, as RBAC is in memory.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    authz::{ResourceTarget, Target, Verdict, authorize},
    identity::User,
    serve::{Call, Reply},
    status,
};

/// Answers a posted review, or `None` when the target is none.
#[must_use]
pub fn answer(user: &User, target: &ResourceTarget, call: &Call) -> Option<Reply> {
    let known = matches!(
        (target.group.as_str(), target.resource.as_str()),
        ("authorization.k8s.io", "subjectaccessreviews" | "selfsubjectaccessreviews")
            | ("authentication.k8s.io", "tokenreviews" | "selfsubjectreviews")
    );
    if !known {
        return None;
    }
    if call.method != hyper::Method::POST {
        return Some(status::method_not_allowed());
    }
    let mut review: Value = match serde_json::from_slice(&call.body) {
        Ok(review) => review,
        Err(why) => {
            return Some(status::bad_request(&format!("the object provided is unrecognized: {why}")));
        }
    };
    if !review.is_object() {
        return Some(status::bad_request("the object provided is unrecognized: it is no object"));
    }
    review["status"] = match target.resource.as_str() {
        // No token exists in this cluster.
        "tokenreviews" => json!({ "authenticated": false, "user": {}, "error": "invalid bearer token" }),
        "selfsubjectreviews" => json!({ "userInfo": { "username": user.name, "groups": user.groups } }),
        "selfsubjectaccessreviews" => verdict(user, &review["spec"]),
        _ => {
            let spec = &review["spec"];
            let name = spec["user"].as_str().unwrap_or_default();
            let groups: Vec<String> = spec["groups"]
                .as_array()
                .map(|groups| groups.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default();
            if name.is_empty() && groups.is_empty() {
                let why = "spec.user: Invalid value: \"\": at least one of user or group must be specified";
                return Some(status::invalid(target, "SubjectAccessReview", why));
            }
            verdict(&User { name: name.to_owned(), groups }, spec)
        }
    };
    if review["metadata"].is_null() {
        review["metadata"] = json!({});
    }
    Some(Reply::json(StatusCode::CREATED, &review))
}

fn verdict(user: &User, spec: &Value) -> Value {
    let asked = |attributes: &Value, name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
    let (verb, target) = if spec["resourceAttributes"].is_object() {
        let attributes = &spec["resourceAttributes"];
        let target = ResourceTarget {
            group: asked(attributes, "group"),
            resource: asked(attributes, "resource"),
            subresource: asked(attributes, "subresource"),
            namespace: asked(attributes, "namespace"),
            name: asked(attributes, "name"),
            of_node: String::new(),
        };
        (asked(attributes, "verb"), Target::Resource(target))
    } else {
        let attributes = &spec["nonResourceAttributes"];
        (asked(attributes, "verb"), Target::Path(asked(attributes, "path")))
    };
    match authorize(user, &verb, &target) {
        Verdict::Allowed => json!({ "allowed": true, "reason": "RBAC: allowed" }),
        Verdict::Denied => json!({ "allowed": false }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::resources;

    fn allowed(user: &str, groups: &[&str], attributes: Value) -> bool {
        let body = json!({
            "kind": "SubjectAccessReview", "apiVersion": "authorization.k8s.io/v1",
            "spec": { "user": user, "groups": groups, "resourceAttributes": attributes },
        });
        let mut call = Call::get("/apis/authorization.k8s.io/v1/subjectaccessreviews");
        call.method = hyper::Method::POST;
        call.body = body.to_string().into();
        let target = resources::target(&call.path).expect("a resource");
        let reply = answer(&User::anonymous(), &target, &call).expect("a review");
        assert_eq!(reply.status, StatusCode::CREATED);
        let review: Value = serde_json::from_slice(&reply.body).expect("JSON");
        review["status"]["allowed"].as_bool().expect("an answer")
    }

    #[test]
    fn a_kubelet_learns_who_may_look_into_it() {
        let proxy = || json!({ "verb": "get", "resource": "nodes", "subresource": "proxy", "name": "m1" });
        assert!(allowed("kube-apiserver-kubelet-client", &["system:authenticated"], proxy()));
        assert!(allowed("kubernetes-admin", &["kubeadm:cluster-admins"], proxy()));
        assert!(!allowed("system:kube-scheduler", &["system:authenticated"], proxy()));
    }
}
