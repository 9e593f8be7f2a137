//! Fields that are not of a Pod: the kubelet ignores them without a word, a misspelt one (`volumemounts`) as well as one
//! that is newer than it.

use serde_json::Value;

use super::Manifest;
use super::kubelet_yaml::to_json;

/// The paths of the fields that the decoded pod has not.
pub fn unknown_fields(manifest: &Manifest) -> Vec<String> {
    let Ok(Value::Object(mut document)) = to_json(&manifest.raw) else { return Vec::new() };
    let Ok(pod) = serde_json::to_value(&manifest.pod) else { return Vec::new() };
    // The kubelet overwrites it, and finds these two in any case.
    document.retain(|key, _| {
        key != "status" && !key.eq_ignore_ascii_case("kind") && !key.eq_ignore_ascii_case("apiVersion")
    });
    let mut found = Vec::new();
    compare("", &Value::Object(document), &pod, &mut found);
    found
}

fn compare(path: &str, written: &Value, decoded: &Value, found: &mut Vec<String>) {
    match (written, decoded) {
        (Value::Object(written), Value::Object(decoded)) => {
            for (key, value) in written.iter().filter(|(_, value)| !value.is_null()) {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                match decoded.get(key) {
                    Some(known) => compare(&path, value, known, found),
                    None => found.push(path),
                }
            }
        }
        (Value::Array(written), Value::Array(decoded)) => {
            for (at, (value, known)) in written.iter().zip(decoded).enumerate() {
                compare(&format!("{path}[{at}]"), value, known, found);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kubelet_ignores_is_named_and_what_is_empty_is_no_such() {
        let text = "Kind: Pod\napiVersion: v1\nmetadata: {name: p, labels: {}, annotation: {a: b}, creationTimestamp: null}\n\
                    Spec: {}\nspec:\n  hostnetwork: true\n  nodeName: ''\n  containers:\n  - name: a\n    image: i\n    env: []\n    \
                    volumemounts: []\n    resources: {limits: {cpu: 1}}\n    livenessProbe: {httpGet: {port: 1, sheme: a}}\nstatus: {x: y}\n";
        let manifest = Manifest::parse(text.as_bytes().into()).unwrap();
        let unknown = unknown_fields(&manifest);
        let expected = [
            "Spec",
            "metadata.annotation",
            "spec.containers[0].livenessProbe.httpGet.sheme",
            "spec.containers[0].volumemounts",
            "spec.hostnetwork",
        ];
        assert_eq!(unknown, expected);
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cluster/manifests");
        for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
            let raw = std::fs::read(format!("{directory}/{name}.yaml")).unwrap();
            assert_eq!(unknown_fields(&Manifest::parse(raw.into()).unwrap()), [""; 0], "{name}");
        }
    }
}
