//! Field and label selectors of a list, as far as the stand-ins and their tests use them.

use serde_json::{Map, Value};

/// `spec.nodeName=m1,metadata.name!=x`.
pub(super) fn fields_match(selector: &str, object: &Value) -> Result<bool, String> {
    for part in selector.split(',').filter(|part| !part.is_empty()) {
        let (path, value, wanted) = requirement(part).ok_or_else(|| format!("invalid field selector {part:?}"))?;
        let known = matches!(
            path,
            "metadata.name" | "metadata.namespace" | "spec.nodeName" | "status.phase" | "spec.unschedulable" | "type"
        );
        if !known {
            return Err(format!("field label not supported: {path}"));
        }
        let found = path.split('.').fold(object, |value, name| &value[name]).as_str().unwrap_or_default();
        if (found == value) != wanted {
            return Ok(false);
        }
    }
    Ok(true)
}

/// `component=etcd,tier!=x,has,!hasnot`; sets (`in`, `notin`) are not understood and match nothing.
pub(super) fn labels_match(selector: &str, object: &Value) -> bool {
    let empty = Map::new();
    let labels = object["metadata"]["labels"].as_object().unwrap_or(&empty);
    selector.split(',').filter(|part| !part.is_empty()).all(|part| match requirement(part) {
        Some((name, value, wanted)) => (labels.get(name).and_then(Value::as_str) == Some(value)) == wanted,
        None => match part.strip_prefix('!') {
            Some(name) => !labels.contains_key(name),
            None => labels.contains_key(part),
        },
    })
}

/// Splits `a=b`, `a==b`, `a!=b` into name, value and whether they are to be equal.
fn requirement(part: &str) -> Option<(&str, &str, bool)> {
    for (sign, wanted) in [("!=", false), ("==", true), ("=", true)] {
        if let Some((name, value)) = part.split_once(sign) {
            return Some((name, value, wanted));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn selectors_choose_by_field_and_label() {
        let pod = json!({
            "metadata": { "name": "etcd-m1", "labels": { "component": "etcd" } },
            "spec": { "nodeName": "m1" }, "status": { "phase": "Pending" },
        });
        for (selector, wanted) in
            [("spec.nodeName=m1", true), ("spec.nodeName==m2", false), ("spec.nodeName!=m2,status.phase=Pending", true)]
        {
            assert_eq!(fields_match(selector, &pod), Ok(wanted), "{selector}");
        }
        assert_eq!(fields_match("spec.colour=red", &pod), Err("field label not supported: spec.colour".to_owned()));
        for (selector, wanted) in
            [("component=etcd", true), ("component!=etcd", false), ("tier", false), ("!tier", true)]
        {
            assert_eq!(labels_match(selector, &pod), wanted, "{selector}");
        }
    }
}
