//! The API's answers that are no objects: Status bodies, by reason, worded as the real server words them.

use hyper::StatusCode;
use serde_json::{Value, json};

use super::{
    authz::{ResourceTarget, Target},
    identity::User,
    serve::Reply,
};

fn failure(code: StatusCode, reason: &str, message: &str, details: Value) -> Reply {
    let mut body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "details": details, "code": code.as_u16(),
    });
    if let Some(fields) = body.as_object_mut() {
        fields.retain(|name, value| !(value.is_null() || (name == "reason" && value == "")));
    }
    let text = serde_json::to_string_pretty(&body).unwrap_or_default();
    Reply { status: code, content_type: "application/json", body: text.into_bytes() }
}

/// `leases.coordination.k8s.io`, `pods`.
fn qualified(target: &ResourceTarget) -> String {
    if target.group.is_empty() { target.resource.clone() } else { format!("{}.{}", target.resource, target.group) }
}

fn details(target: &ResourceTarget) -> Value {
    let mut details = json!({ "name": target.name, "group": target.group, "kind": target.resource });
    if let Some(fields) = details.as_object_mut() {
        fields.retain(|_, value| value != "");
    }
    details
}

/// 401.
#[must_use]
pub fn unauthorized() -> Reply {
    failure(StatusCode::UNAUTHORIZED, "Unauthorized", "Unauthorized", Value::Null)
}

/// 403.
#[must_use]
pub fn forbidden(user: &User, verb: &str, target: &Target) -> Reply {
    let name = &user.name;
    match target {
        Target::Path(path) => failure(
            StatusCode::FORBIDDEN,
            "Forbidden",
            &format!("forbidden: User \"{name}\" cannot {verb} path \"{path}\""),
            json!({}),
        ),
        Target::Resource(target) => {
            let object = if target.name.is_empty() { String::new() } else { format!(" \"{}\"", target.name) };
            let resource = match target.subresource.as_str() {
                "" => target.resource.clone(),
                sub => format!("{}/{sub}", target.resource),
            };
            let place = match target.namespace.as_str() {
                "" => "at the cluster scope".to_owned(),
                namespace => format!("in the namespace \"{namespace}\""),
            };
            failure(
                StatusCode::FORBIDDEN,
                "Forbidden",
                &format!(
                    "{}{object} is forbidden: User \"{name}\" cannot {verb} resource \"{resource}\" in API group \
                     \"{}\" {place}",
                    qualified(target),
                    target.group
                ),
                details(target),
            )
        }
    }
}

/// 403 for what a node may not do with this very object.
#[must_use]
pub fn forbidden_because(target: &ResourceTarget, why: &str) -> Reply {
    let message = format!("{} \"{}\" is forbidden: {why}", qualified(target), target.name);
    failure(StatusCode::FORBIDDEN, "Forbidden", &message, details(target))
}

/// 404 for an object.
#[must_use]
pub fn not_found(target: &ResourceTarget) -> Reply {
    let message = format!("{} \"{}\" not found", qualified(target), target.name);
    failure(StatusCode::NOT_FOUND, "NotFound", &message, details(target))
}

/// 404 for a path nothing is behind.
#[must_use]
pub fn no_such_path() -> Reply {
    failure(StatusCode::NOT_FOUND, "NotFound", "the server could not find the requested resource", json!({}))
}

/// 405.
#[must_use]
pub fn method_not_allowed() -> Reply {
    let message = "the server does not allow this method on the requested resource";
    failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message, json!({}))
}

/// 409: it is there already.
#[must_use]
pub fn already_exists(target: &ResourceTarget) -> Reply {
    let message = format!("{} \"{}\" already exists", qualified(target), target.name);
    failure(StatusCode::CONFLICT, "AlreadyExists", &message, details(target))
}

/// 409: somebody was quicker.
#[must_use]
pub fn conflict(target: &ResourceTarget, why: &str) -> Reply {
    let message = format!("Operation cannot be fulfilled on {} \"{}\": {why}", qualified(target), target.name);
    failure(StatusCode::CONFLICT, "Conflict", &message, details(target))
}

/// 409, in the sentence every controller knows.
#[must_use]
pub fn modified(target: &ResourceTarget) -> Reply {
    conflict(target, "the object has been modified; please apply your changes to the latest version and try again")
}

/// 400.
#[must_use]
pub fn bad_request(message: &str) -> Reply {
    failure(StatusCode::BAD_REQUEST, "BadRequest", message, Value::Null)
}

/// 422.
#[must_use]
pub fn invalid(target: &ResourceTarget, kind: &str, why: &str) -> Reply {
    let qualified = if target.group.is_empty() { kind.to_owned() } else { format!("{kind}.{}", target.group) };
    let message = format!("{qualified} \"{}\" is invalid: {why}", target.name);
    failure(StatusCode::UNPROCESSABLE_ENTITY, "Invalid", &message, details(target))
}

/// 504: etcd did not answer in the time the request has.
#[must_use]
pub fn timed_out() -> Reply {
    let message = "Timeout: request did not complete within requested timeout - context deadline exceeded";
    failure(StatusCode::GATEWAY_TIMEOUT, "Timeout", message, json!({}))
}

/// 500 with etcd's own words.
#[must_use]
pub fn storage_failed(words: &str) -> Reply {
    failure(StatusCode::INTERNAL_SERVER_ERROR, "", words, Value::Null)
}

/// A deletion that leaves nothing to show.
#[must_use]
pub fn success(target: &ResourceTarget) -> Reply {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details(target),
    });
    Reply::json(StatusCode::OK, &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_name_user_verb_resource_and_place() {
        let target = ResourceTarget { resource: "pods".into(), namespace: "kube-system".into(), ..Default::default() };
        let reply = forbidden(&User::anonymous(), "list", &Target::Resource(target));
        let body: Value = serde_json::from_slice(&reply.body).expect("JSON");
        assert_eq!(
            body["message"],
            "pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" in the \
             namespace \"kube-system\""
        );
        assert_eq!((body["code"].as_u64(), &body["reason"]), (Some(403), &json!("Forbidden")));
    }
}
