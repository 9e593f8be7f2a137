//! Objects over etcd: get, list, create, update, delete, as JSON below the real server's keys.
//!
//! resourceVersion is the revision of the key's last change and is never stored. Every write names the revision it
//! expects, so two writers cannot both win. A request that finds no etcd hangs for the time the real one gives it.

use std::time::Duration;

use hyper::{Method, StatusCode};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::{
    authz::ResourceTarget,
    etcd::{Failure, Store, Stored, Written},
    identity::User,
    resources::{Resource, Scope, find, key},
    selectors::{fields_match, labels_match},
    serve::{Call, Reply},
    status,
};
use crate::control::scaled;

/// A write's share of the request timeout, a constant of the real server (requestTimeoutUpperBound); it is the 34 s
/// that a kubelet's mirror-pod deletion was measured to hang with etcd gone.
const WRITE_DEADLINE: Duration = Duration::from_secs(34);
/// How often an update without resourceVersion is tried against other writers.
const RACES: usize = 10;
/// What marks a pod as the image of a static one.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// The objects.
#[derive(Clone)]
pub struct Objects {
    store: Store,
    prefix: String,
    request_timeout: Duration,
}

/// What a request on a resource comes to: an answer either way.
type Outcome = Result<Reply, Reply>;

struct Place<'a> {
    resource: &'static Resource,
    target: &'a ResourceTarget,
    key: String,
    deadline: Instant,
}

impl Objects {
    /// Objects in this store, below this prefix.
    #[must_use]
    pub fn new(store: Store, prefix: &str, request_timeout: Duration) -> Self {
        Self { store, prefix: prefix.to_owned(), request_timeout }
    }

    /// Answers a request that authorization has let through.
    pub async fn handle(&self, user: &User, target: &ResourceTarget, call: &Call) -> Reply {
        let Some(resource) = find(&target.group, &target.resource) else {
            return status::no_such_path();
        };
        if !matches!(target.subresource.as_str(), "" | "status") {
            return status::no_such_path();
        }
        let allowance = match call.method {
            Method::GET => self.request_timeout,
            _ => self.request_timeout.min(WRITE_DEADLINE),
        };
        let key = key(&self.prefix, resource, &target.namespace, &target.name);
        let place = Place { resource, target, key, deadline: Instant::now() + scaled(allowance) };
        let outcome = match (&call.method, target.name.is_empty()) {
            (&Method::GET, true) if call.query("watch").any(|on| matches!(on, "" | "1" | "true")) => {
                Err(status::method_not_allowed())
            }
            (&Method::GET, true) => self.list(&place, call).await,
            (&Method::GET, false) => self.get(user, &place).await,
            (&Method::POST, true) => self.create(user, &place, call).await,
            (&Method::PUT, false) => self.update(user, &place, call).await,
            (&Method::DELETE, false) => self.delete(user, &place, call).await,
            _ => Err(status::method_not_allowed()),
        };
        outcome.unwrap_or_else(|refusal| refusal)
    }

    /// Makes the namespaces every cluster has, where they are missing, each with a new UID: that of kube-system tells
    /// one cluster's store from another's. Where they are there, nothing is written, not even a transaction that fails.
    ///
    /// # Errors
    /// etcd did not take them.
    pub async fn bootstrap(&self, deadline: Instant) -> Result<(), Failure> {
        let Some(resource) = find("", "namespaces") else {
            return Ok(());
        };
        for name in ["default", "kube-system", "kube-public", "kube-node-lease"] {
            let mut object = json!({
                "metadata": { "name": name, "labels": { "kubernetes.io/metadata.name": name } },
                "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
            });
            let key = key(&self.prefix, resource, "", name);
            if self.store.get(&key, deadline).await?.is_some() {
                continue;
            }
            complete(&mut object, resource, "");
            let bytes = object.to_string();
            // Raced: it is there, which is all we want.
            self.store.put(&key, bytes.as_bytes(), 0, deadline).await?;
        }
        Ok(())
    }

    async fn get(&self, user: &User, place: &Place<'_>) -> Outcome {
        let found = self.found(place).await?;
        let object = shown(&found, place.resource);
        node_owns(user, place, &object)?;
        Ok(Reply::json(StatusCode::OK, &object))
    }

    async fn list(&self, place: &Place<'_>, call: &Call) -> Outcome {
        let (all, revision) = self.store.list(&place.key, place.deadline).await.map_err(storage)?;
        let mut items = Vec::new();
        for stored in &all {
            let object = shown(stored, place.resource);
            let mut wanted = true;
            for selector in call.query("fieldSelector") {
                wanted &= fields_match(selector, &object).map_err(|why| status::bad_request(&why))?;
            }
            wanted &= call.query("labelSelector").all(|selector| labels_match(selector, &object));
            if wanted {
                items.push(object);
            }
        }
        let list = json!({
            "kind": format!("{}List", place.resource.kind), "apiVersion": place.resource.api_version(),
            "metadata": { "resourceVersion": revision.to_string() }, "items": items,
        });
        Ok(Reply::json(StatusCode::OK, &list))
    }

    async fn create(&self, user: &User, place: &Place<'_>, call: &Call) -> Outcome {
        let mut object = parse(call, place)?;
        let name = name_of(&mut object).map_err(|why| status::invalid(place.target, place.resource.kind, why))?;
        let target = ResourceTarget { name: name.clone(), ..place.target.clone() };
        if place.resource.scope == Scope::Namespaced {
            if target.namespace.is_empty() {
                return Err(status::bad_request("an empty namespace may not be set during creation"));
            }
            self.namespace_exists(&target.namespace, place.deadline).await?;
        }
        let place = Place {
            key: key(&self.prefix, place.resource, &target.namespace, &name),
            target: &target,
            resource: place.resource,
            deadline: place.deadline,
        };
        node_creates(user, &place, &object)?;
        complete(&mut object, place.resource, &target.namespace);
        match self.store.put(&place.key, object.to_string().as_bytes(), 0, place.deadline).await.map_err(storage)? {
            Written::At(revision) => Ok(Reply::json(StatusCode::CREATED, &versioned(object, revision))),
            Written::Raced => Err(status::already_exists(&target)),
        }
    }

    async fn update(&self, user: &User, place: &Place<'_>, call: &Call) -> Outcome {
        let sent = parse(call, place)?;
        let expected = meta(&sent, "resourceVersion").to_owned();
        for _ in 0..RACES {
            let Some(stored) = self.store.get(&place.key, place.deadline).await.map_err(storage)? else {
                // A lease may be created by updating it (AllowCreateOnUpdate), nothing else here.
                if place.resource.plural == "leases" && expected.is_empty() {
                    let parent = ResourceTarget { name: String::new(), ..place.target.clone() };
                    let place = Place { target: &parent, key: place.key.clone(), ..*place };
                    return self.create(user, &place, call).await;
                }
                return Err(status::not_found(place.target));
            };
            let current = shown(&stored, place.resource);
            node_owns(user, place, &current)?;
            if expected.is_empty() && place.resource.plural == "leases" {
                let why = "metadata.resourceVersion: Invalid value: 0: must be specified for an update";
                return Err(status::invalid(place.target, place.resource.kind, why));
            }
            if !expected.is_empty() && expected != stored.revision.to_string() {
                return Err(status::modified(place.target));
            }
            let next = merged(&current, &sent, &place.target.subresource).map_err(|(sent, ours)| {
                let why = format!("Precondition failed: UID in precondition: {sent}, UID in object meta: {ours}");
                status::conflict(place.target, &why)
            })?;
            if next == unversioned(current.clone()) {
                return Ok(Reply::json(StatusCode::OK, &current));
            }
            let bytes = next.to_string();
            let written = self.store.put(&place.key, bytes.as_bytes(), stored.revision, place.deadline).await;
            match written.map_err(storage)? {
                Written::At(revision) => return Ok(Reply::json(StatusCode::OK, &versioned(next, revision))),
                Written::Raced if !expected.is_empty() => return Err(status::modified(place.target)),
                Written::Raced => {}
            }
        }
        Err(status::modified(place.target))
    }

    async fn delete(&self, user: &User, place: &Place<'_>, call: &Call) -> Outcome {
        let options: Value = match call.body.is_empty() {
            true => Value::Null,
            false => serde_json::from_slice(&call.body)
                .map_err(|why| status::bad_request(&format!("the delete options cannot be read: {why}")))?,
        };
        for _ in 0..RACES {
            let stored = self.found(place).await?;
            let object = shown(&stored, place.resource);
            node_owns(user, place, &object)?;
            for (precondition, name) in [("uid", "UID"), ("resourceVersion", "ResourceVersion")] {
                let wanted = options["preconditions"][precondition].as_str().unwrap_or_default();
                let ours = meta(&object, precondition);
                if !wanted.is_empty() && wanted != ours {
                    let why =
                        format!("Precondition failed: {name} in precondition: {wanted}, {name} in object meta: {ours}");
                    return Err(status::conflict(place.target, &why));
                }
            }
            let written = self.store.delete(&place.key, stored.revision, place.deadline).await.map_err(storage)?;
            if matches!(written, Written::At(_)) {
                return Ok(match place.resource.plural {
                    "pods" => Reply::json(StatusCode::OK, &object),
                    _ => status::success(place.target),
                });
            }
        }
        Err(status::modified(place.target))
    }

    async fn found(&self, place: &Place<'_>) -> Result<Stored, Reply> {
        let stored = self.store.get(&place.key, place.deadline).await.map_err(storage)?;
        stored.ok_or_else(|| status::not_found(place.target))
    }

    async fn namespace_exists(&self, namespace: &str, deadline: Instant) -> Result<(), Reply> {
        let Some(resource) = find("", "namespaces") else {
            return Ok(());
        };
        let stored = self.store.get(&key(&self.prefix, resource, "", namespace), deadline).await.map_err(storage)?;
        let target = ResourceTarget { resource: "namespaces".into(), name: namespace.to_owned(), ..Default::default() };
        stored.map(drop).ok_or_else(|| status::not_found(&target))
    }
}

fn storage(failure: Failure) -> Reply {
    match failure {
        Failure::Deadline => status::timed_out(),
        Failure::Answered(words) => status::storage_failed(&words),
    }
}

fn meta<'a>(object: &'a Value, field: &str) -> &'a str {
    object["metadata"][field].as_str().unwrap_or_default()
}

fn parse(call: &Call, place: &Place<'_>) -> Result<Value, Reply> {
    let object: Value = serde_json::from_slice(&call.body)
        .map_err(|why| status::bad_request(&format!("the object provided is unrecognized: {why}")))?;
    if !object.is_object() || !object["metadata"].is_object() {
        return Err(status::bad_request("the object provided is unrecognized: it has no metadata"));
    }
    let (kind, version) = (place.resource.kind, place.resource.api_version());
    for (field, expected) in [("kind", kind), ("apiVersion", version.as_str())] {
        let given = object[field].as_str().unwrap_or(expected);
        if given != expected {
            let why = format!("the {field} in the data ({given}) does not match the expected {field} ({expected})");
            return Err(status::bad_request(&why));
        }
    }
    for (field, expected) in [("name", &place.target.name), ("namespace", &place.target.namespace)] {
        let given = meta(&object, field);
        let applies = field == "name" || place.resource.scope == Scope::Namespaced;
        if applies && !given.is_empty() && !expected.is_empty() && given != expected {
            let why = format!("the {field} of the object ({given}) does not match the {field} on the URL ({expected})");
            return Err(status::bad_request(&why));
        }
    }
    Ok(object)
}

/// The name to create under; a `generateName` gets its five letters.
fn name_of(object: &mut Value) -> Result<String, &'static str> {
    let mut name = meta(object, "name").to_owned();
    if name.is_empty() {
        let begin = meta(object, "generateName");
        if begin.is_empty() {
            return Err("metadata.name: Required value: name or generateName is required");
        }
        let letters: String = new_uid().chars().filter(char::is_ascii_alphanumeric).take(5).collect();
        name = format!("{begin}{letters}");
        object["metadata"]["name"] = json!(name);
    }
    let fits = name.len() <= 253
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '.' | ':'))
        && name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if fits {
        return Ok(name);
    }
    Err("metadata.name: Invalid value: a lowercase RFC 1123 subdomain must consist of lower case alphanumeric \
         characters, '-' or '.', and must start and end with an alphanumeric character")
}

fn new_uid() -> String {
    let uid = std::fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
    uid.trim().to_owned()
}

/// What the server itself writes into a new object.
fn complete(object: &mut Value, resource: &Resource, namespace: &str) {
    object["kind"] = json!(resource.kind);
    object["apiVersion"] = json!(resource.api_version());
    object["metadata"]["uid"] = json!(new_uid());
    object["metadata"]["creationTimestamp"] = json!(Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
    if resource.scope == Scope::Namespaced {
        object["metadata"]["namespace"] = json!(namespace);
    }
    if resource.plural == "pods" && object["status"]["phase"].is_null() {
        object["status"]["phase"] = json!("Pending");
    }
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
}

fn shown(stored: &Stored, resource: &Resource) -> Value {
    // What somebody else wrote there (a real server's protobuf) is shown as an object without content, not hidden.
    let object = serde_json::from_slice(&stored.value).unwrap_or_else(|_| {
        let name = stored.key.rsplit('/').next().unwrap_or_default();
        json!({ "kind": resource.kind, "apiVersion": resource.api_version(), "metadata": { "name": name } })
    });
    versioned(object, stored.revision)
}

fn versioned(mut object: Value, revision: i64) -> Value {
    object["metadata"]["resourceVersion"] = json!(revision.to_string());
    object
}

fn unversioned(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut() {
        metadata.remove("resourceVersion");
    }
    object
}

/// The object to store: what was sent, with what a client cannot change taken from what stands. On `status` only the
/// status is taken; otherwise the status of pods and nodes stays. Refuses another UID, returning (sent, ours).
fn merged(current: &Value, sent: &Value, subresource: &str) -> Result<Value, (String, String)> {
    let (theirs, ours) = (meta(sent, "uid"), meta(current, "uid"));
    if !theirs.is_empty() && theirs != ours {
        return Err((theirs.to_owned(), ours.to_owned()));
    }
    if subresource == "status" {
        let mut next = unversioned(current.clone());
        next["status"] = sent["status"].clone();
        return Ok(next);
    }
    let mut next = unversioned(sent.clone());
    for field in ["kind", "apiVersion"] {
        next[field] = current[field].clone();
    }
    for field in ["name", "namespace", "uid", "creationTimestamp"] {
        if let Some(value) = current["metadata"].get(field) {
            next["metadata"][field] = value.clone();
        }
    }
    if matches!(current["kind"].as_str(), Some("Pod" | "Node" | "Namespace"))
        && let Some(fields) = next.as_object_mut()
    {
        match current.get("status") {
            Some(status) => fields.insert("status".to_owned(), status.clone()),
            None => fields.remove("status"),
        };
    }
    Ok(next)
}

fn node_name(user: &User) -> Option<&str> {
    let node = user.name.strip_prefix("system:node:")?;
    user.groups.iter().any(|group| group == "system:nodes").then_some(node)
}

/// NodeRestriction: a kubelet creates its own node and lease, and mirror pods bound to itself.
fn node_creates(user: &User, place: &Place<'_>, object: &Value) -> Result<(), Reply> {
    let Some(node) = node_name(user) else { return Ok(()) };
    let refused = |why: String| Err(status::forbidden_because(place.target, &why));
    match place.resource.plural {
        "pods" if object["metadata"]["annotations"][MIRROR].as_str().is_none() => {
            refused(format!("pod does not have \"{MIRROR}\" annotation, node \"{node}\" can only create mirror pods"))
        }
        "pods" if object["spec"]["nodeName"].as_str() != Some(node) => {
            refused(format!("node \"{node}\" can only create pods with spec.nodeName set to itself"))
        }
        "nodes" | "leases" if place.target.name != node => {
            refused(format!("node \"{node}\" is not allowed to create another node's {}", place.resource.kind))
        }
        _ => Ok(()),
    }
}

/// A kubelet sees and changes only pods bound to its node.
fn node_owns(user: &User, place: &Place<'_>, object: &Value) -> Result<(), Reply> {
    match node_name(user) {
        Some(node) if place.resource.plural == "pods" && object["spec"]["nodeName"].as_str() != Some(node) => {
            let why = format!("node \"{node}\" has no relationship to this pod");
            Err(status::forbidden_because(place.target, &why))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({
            "kind": "Pod", "apiVersion": "v1",
            "metadata": {
                "name": "etcd-m1", "namespace": "kube-system", "uid": "u1", "resourceVersion": "7",
                "creationTimestamp": "2026-11-22T20:04:40Z", "labels": { "component": "etcd" },
            },
            "spec": { "nodeName": "m1" }, "status": { "phase": "Pending" },
        })
    }

    #[test]
    fn a_status_update_changes_the_status_alone_and_the_other_leaves_it() {
        let mut sent = pod();
        sent["status"]["phase"] = json!("Running");
        sent["spec"]["nodeName"] = json!("m2");
        let status = merged(&pod(), &sent, "status").expect("same uid");
        assert_eq!((&status["status"]["phase"], &status["spec"]["nodeName"]), (&json!("Running"), &json!("m1")));
        let main = merged(&pod(), &sent, "").expect("same uid");
        assert_eq!((&main["status"]["phase"], &main["spec"]["nodeName"]), (&json!("Pending"), &json!("m2")));
        assert!(main["metadata"].get("resourceVersion").is_none());
    }

    #[test]
    fn what_the_server_gave_cannot_be_changed() {
        let mut sent = pod();
        sent["metadata"]["creationTimestamp"] = json!("1999-01-01T00:00:00Z");
        let next = merged(&pod(), &sent, "").expect("same uid");
        assert_eq!(next["metadata"]["creationTimestamp"], "2026-11-22T20:04:40Z");
        sent["metadata"]["uid"] = json!("u2");
        assert_eq!(merged(&pod(), &sent, ""), Err(("u2".to_owned(), "u1".to_owned())));
    }

    #[test]
    fn every_namespace_that_is_made_can_be_told_from_another_of_its_name() {
        let resource = find("", "namespaces").expect("there are namespaces");
        assert_eq!(key("/registry", resource, "", "kube-system"), "/registry/namespaces/kube-system");
        let made = || {
            let mut object = json!({ "metadata": { "name": "kube-system" } });
            complete(&mut object, resource, "");
            object
        };
        let (one, other) = (made(), made());
        assert_eq!((&one["kind"], &one["apiVersion"]), (&json!("Namespace"), &json!("v1")));
        assert_eq!(meta(&one, "uid").len(), 36);
        assert_ne!(meta(&one, "uid"), meta(&other, "uid"));
    }

    #[test]
    fn a_name_is_given_or_generated_and_never_a_path() {
        assert_eq!(name_of(&mut json!({ "metadata": { "name": "a.b-c" } })), Ok("a.b-c".to_owned()));
        let generated = name_of(&mut json!({ "metadata": { "generateName": "x-" } })).expect("generated");
        assert!(generated.starts_with("x-") && generated.len() == 7, "{generated}");
        for wrong in ["", "a/b", "../x", "A"] {
            assert!(name_of(&mut json!({ "metadata": { "name": wrong } })).is_err(), "{wrong}");
        }
    }
}
