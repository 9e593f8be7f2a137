//! A JSON value to a Pod, as Go decodes it: `null` is nothing, a quantity may be a number, names are case-sensitive except
//! the two that say what the object is.

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Map, Value};

use super::Undecodable;

/// What a document says it is: (`apiVersion`, `kind`). The kubelet looks for the two in any case before it decodes the rest.
pub(in crate::model) fn group_version_kind(document: &Map<String, Value>) -> Result<(String, String), Undecodable> {
    let says = |name: &str| match document.iter().rfind(|(key, _)| key.eq_ignore_ascii_case(name)) {
        None | Some((_, Value::Null)) => Ok(String::new()),
        Some((_, Value::String(text))) => Ok(text.clone()),
        Some((key, _)) => Err(Undecodable::Refused(format!("{key}: text belongs there"))),
    };
    let version = says("apiVersion")?;
    Ok((version.strip_prefix('/').map(str::to_owned).unwrap_or(version), says("kind")?))
}

/// The Pod that a document decodes to.
///
/// # Errors
/// The first field that holds another type than the kubelet decodes there.
pub(in crate::model) fn fit(document: &Value) -> Result<Pod, Undecodable> {
    let mut fitted = like_go("", "", document.clone());
    if let Some(top) = fitted.as_object_mut() {
        top.retain(|key, _| !key.eq_ignore_ascii_case("apiVersion") && !key.eq_ignore_ascii_case("kind"));
        top.insert("apiVersion".to_owned(), "v1".into());
        top.insert("kind".to_owned(), "Pod".into());
    }
    serde_json::from_value(fitted.clone()).map_err(|error| {
        let path = blame(&mut fitted);
        Undecodable::Refused(if path.is_empty() { error.to_string() } else { format!("{path}: {error}") })
    })
}

/// Maps from text to text: a `null` in one is an empty text there.
const TEXT_MAPS: [&str; 4] = ["annotations", "labels", "matchLabels", "nodeSelector"];
/// Maps to quantities, and single ones.
const QUANTITY_MAPS: [&str; 4] = ["limits", "requests", "overhead", "allocatedResources"];
const QUANTITIES: [&str; 2] = ["sizeLimit", "divisor"];
/// Lists of text: a `null` in one is an empty text; in any other list it is an object without fields.
const TEXT_LISTS: [&str; 14] = [
    "accessModes",
    "add",
    "args",
    "command",
    "drop",
    "finalizers",
    "hostnames",
    "ips",
    "monitors",
    "nameservers",
    "namespaces",
    "portals",
    "searches",
    "values",
];

fn like_go(parent: &str, key: &str, value: Value) -> Value {
    match value {
        Value::Object(map) => {
            let fitted = map.into_iter().filter_map(|(name, value)| match value {
                Value::Null => TEXT_MAPS.contains(&key).then(|| (name, Value::String(String::new()))),
                value => {
                    let value = like_go(key, &name, value);
                    Some((name, value))
                }
            });
            Value::Object(fitted.collect())
        }
        Value::Array(items) => {
            let nothing = || if TEXT_LISTS.contains(&key) { "".into() } else { Value::Object(Map::new()) };
            items.into_iter().map(|item| if item.is_null() { nothing() } else { like_go(parent, key, item) }).collect()
        }
        Value::Number(number) if QUANTITY_MAPS.contains(&parent) || QUANTITIES.contains(&key) => {
            Value::String(number.to_string())
        }
        other => other,
    }
}

/// The path of the value without which a document decodes: the one at fault. Empty where there is no single one.
fn blame(document: &mut Value) -> String {
    let mut path = String::new();
    while let Some(step) = next_to_blame(document, &path) {
        path = step;
    }
    path.replacen('/', "", 1).replace('/', ".").replace(".[", "[")
}

/// The child of the value at a path (`/spec/containers/[0]`) whose removal mends the document.
fn next_to_blame(document: &mut Value, path: &str) -> Option<String> {
    let pointer = path.replace("/[", "/").replace(']', "");
    let names: Vec<String> = match document.pointer(&pointer)? {
        Value::Object(map) => map.keys().filter(|key| !key.contains(['/', '~'])).cloned().collect(),
        Value::Array(items) => (0..items.len()).map(|at| format!("[{at}]")).collect(),
        _ => return None,
    };
    names.into_iter().map(|name| format!("{path}/{name}")).find(|child| {
        let pointer = child.replace("/[", "/").replace(']', "");
        let Some(value) = document.pointer_mut(&pointer).map(Value::take) else { return false };
        // What is nothing in a field is no item of a list.
        let nothings = [Value::Null, Value::Object(Map::new()), "".into()];
        let mended = nothings.into_iter().any(|nothing| {
            set(document, &pointer, nothing);
            serde_json::from_value::<Pod>(document.clone()).is_ok()
        });
        set(document, &pointer, value);
        mended
    })
}

fn set(document: &mut Value, pointer: &str, value: Value) {
    if let Some(slot) = document.pointer_mut(pointer) {
        *slot = value;
    }
}
