//! A manifest that the kubelet refuses, in its own words.
//!
//! ```text
//!   E0418 12:54:45.660923  1533 file.go:187] "Could not process manifest file" err="…" path="/etc/kubernetes/manifests/x.yaml"
//! ```
//!
//! The kubelet writes it at each 20 s scan of the directory (`extractFromDir` in `pkg/kubelet/config/file.go`), and once at the
//! event of the write, where `run` of the same file says "Unable to process watch event" with the path in its sentence.
//! `err` is `invalid pod: [spec.containers: Required value]`, or `<path>: couldn't parse as pod(<why>), please check config file`.

use std::path::PathBuf;

use super::klog::{Entry, unquoted};

/// The file that an entry refuses, and why: the kubelet's sentence without what only frames it.
pub(super) fn refused(entry: &Entry) -> Option<(PathBuf, String)> {
    let error = entry.value("err")?;
    let (path, error) = match entry.message.as_str() {
        "Could not process manifest file" => (entry.value("path")?.to_owned(), error),
        "Unable to process watch event" => {
            // fmt.Errorf("can't process config file %q: %v", fileName, err)
            let (path, rest) = unquoted(error.strip_prefix("can't process config file ")?)?;
            (path, rest.strip_prefix(": ")?)
        }
        _ => return None,
    };
    let error = error.trim();
    let why = error.strip_prefix(&format!("{path}: ")).unwrap_or(error);
    let bare =
        why.strip_prefix("couldn't parse as pod(").and_then(|inner| Some(inner.rsplit_once("), please check")?.0));
    let why = bare.or_else(|| why.strip_prefix("invalid pod: ")).unwrap_or(why);
    // A list of one is that one.
    let one = why.strip_prefix('[').and_then(|inner| inner.strip_suffix(']'));
    Some((path.into(), one.unwrap_or(why).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_file_is_found_in_every_form_of_the_log() {
        const API: &str = "/etc/kubernetes/manifests/kube-apiserver.yaml";
        let rows = [
            (
                "as journalctl prints it",
                r#"E0418 12:54:45.660923    1533 file.go:187] "Could not process manifest file" err="/etc/kubernetes/manifests/kube-apiserver.yaml: couldn't parse as pod(yaml: line 4: could not find expected ':'), please check config file" path="/etc/kubernetes/manifests/kube-apiserver.yaml""#,
                Some("yaml: line 4: could not find expected ':'"),
            ),
            (
                "another version of the API",
                r#"E0225 13:49:33.524864   20958 file.go:187] "Could not process manifest file" err="/etc/kubernetes/manifests/kube-apiserver.yaml: couldn't parse as pod(no kind \"Pod\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"), please check config file" path="/etc/kubernetes/manifests/kube-apiserver.yaml""#,
                Some(
                    "no kind \"Pod\" is registered for version \"v2\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
                ),
            ),
            (
                "validation, contextual logging puts the logger first",
                r#"E1129 10:00:00.000000       1 file.go:191] "Could not process manifest file" logger="UnhandledError" err="invalid pod: [spec.containers[0].volumeMounts[14].mountPath: Invalid value: \"/x\": must be unique]" path="/etc/kubernetes/manifests/kube-apiserver.yaml""#,
                Some("spec.containers[0].volumeMounts[14].mountPath: Invalid value: \"/x\": must be unique"),
            ),
            (
                "--logging-format=json",
                r#"{"ts":1764410000000.1,"caller":"config/file.go:187","msg":"Could not process manifest file","path":"/etc/kubernetes/manifests/kube-apiserver.yaml","err":"invalid pod: name is needed for the pod"}"#,
                Some("name is needed for the pod"),
            ),
            (
                "at the write",
                r#"E1129 10:00:00.000000       1 file.go:128] "Unable to process watch event" err="can't process config file \"/etc/kubernetes/manifests/kube-apiserver.yaml\": invalid pod: [spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"]""#,
                Some(
                    "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"",
                ),
            ),
            (
                "another line of that file",
                r#"E1129 10:00:00.000000       1 file.go:182] "Provided manifest path is a directory, not recursing into manifest path" path="/etc/kubernetes/manifests/sub""#,
                None,
            ),
            ("a cut line", r#"E1129 file.go:187] "Could not process manifest file" err="inval"#, None),
            (
                "another event",
                r#"E1129 10:00:00.0 1 file.go:128] "Unable to process watch event" err="the pod with key a doesn't exist in cache""#,
                None,
            ),
        ];
        for (situation, line, expected) in rows {
            let expected = expected.map(|why: &str| (PathBuf::from(API), why.to_owned()));
            assert_eq!(Entry::read(line).and_then(|entry| refused(&entry)), expected, "{situation}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(rest in "[ -~é\\\\\"=<>{}]{0,60}") {
            let _ = Entry::read(&format!("E1129 1] \"Could not process manifest file\" {rest}")).map(|entry| refused(&entry));
            let _ = Entry::read(&format!("{{\"msg\":\"Could not process manifest file\"{rest}"));
        }
    }
}
