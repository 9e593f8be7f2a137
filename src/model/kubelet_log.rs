//! What the kubelet says in its journal about a manifest that it does not take.
//!
//! ```text
//!   E0418 12:54:45.660923  1533 file.go:187] "Could not process manifest file" err="…" path="/etc/kubernetes/manifests/x.yaml"
//!   {"ts":…,"caller":"config/file.go:187","msg":"Could not process manifest file","path":"/etc/…","err":"…"}
//! ```
//!
//! At each 20 s scan of the directory (`extractFromDir` in `pkg/kubelet/config/file.go`); and once at the event of the
//! write, where `run` of the same file says "Unable to process watch event" with the path in its sentence. `err` is
//! `invalid pod: [spec.containers: Required value]`, or `<path>: couldn't parse as pod(<why>), please check config file`.

use std::path::PathBuf;

use serde_json::{Map, Value};

/// A manifest that the kubelet has refused, in its own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedFile {
    /// The file.
    pub path: PathBuf,
    /// Why: the kubelet's sentence without what only frames it.
    pub why: String,
}

/// Reads one line of the kubelet's log, with or without what journald or klog put before it.
pub fn refused(line: &str) -> Option<RefusedFile> {
    const SCANNED: &str = "Could not process manifest file";
    const WATCHED: &str = "Unable to process watch event";
    if !line.contains(SCANNED) && !line.contains(WATCHED) {
        return None;
    }
    let (message, fields) = structured(line).or_else(|| json(line))?;
    let said = |name: &str| fields.get(name).and_then(Value::as_str);
    let error = said("err")?;
    let (path, error) = match message.as_str() {
        SCANNED => (said("path")?.to_owned(), error),
        WATCHED => {
            // fmt.Errorf("can't process config file %q: %v", fileName, err)
            let rest = error.strip_prefix("can't process config file ")?;
            let (path, rest) = quoted(rest)?;
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
    Some(RefusedFile { path: path.into(), why: one.unwrap_or(why).to_owned() })
}

/// klog's text: `"message" key="value" key=value`, after a header that ends with `] `.
fn structured(line: &str) -> Option<(String, Map<String, Value>)> {
    let start = line.find("] \"").map(|at| at + 2).or_else(|| line.starts_with('"').then_some(0))?;
    let (message, mut rest) = quoted(&line[start..])?;
    let mut fields = Map::new();
    while let Some((key, after)) = rest.trim_start().split_once('=') {
        let value;
        if let Some((text, after)) = quoted(after) {
            (value, rest) = (text, after);
        } else if let Some(block) = after.strip_prefix('<') {
            // A value of several lines, which journald cuts: what of it is in this one.
            (value, rest) = (block.trim_end_matches('>').trim().to_owned(), "");
        } else {
            let (word, after) = after.split_once(' ').unwrap_or((after, ""));
            (value, rest) = (word.to_owned(), after);
        }
        fields.insert(key.to_owned(), Value::String(value));
    }
    Some((message, fields))
}

fn json(line: &str) -> Option<(String, Map<String, Value>)> {
    let start = line.find('{')?;
    let Ok(Value::Object(fields)) = serde_json::from_str(line[start..].trim_end()) else { return None };
    Some((fields.get("msg")?.as_str()?.to_owned(), fields))
}

/// A text in Go's quotes at the beginning, and what follows it.
fn quoted(text: &str) -> Option<(String, &str)> {
    let inner = text.strip_prefix('"')?;
    let mut value = String::new();
    let mut characters = inner.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return Some((value, &inner[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                't' => value.push('\t'),
                'r' => value.push('\r'),
                code @ ('x' | 'u' | 'U') => {
                    let digits = match code {
                        'x' => 2,
                        'u' => 4,
                        _ => 8,
                    };
                    let hex: String = (0..digits).map_while(|_| characters.next()).map(|(_, c)| c).collect();
                    value.push(u32::from_str_radix(&hex, 16).ok().and_then(char::from_u32)?);
                }
                other => value.push(other),
            },
            c => value.push(c),
        }
    }
    None
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
                r#"Apr 18 12:54:45 controlplane kubelet[1533]: E0418 12:54:45.660923    1533 file.go:187] "Could not process manifest file" err="/etc/kubernetes/manifests/kube-apiserver.yaml: couldn't parse as pod(yaml: line 4: could not find expected ':'), please check config file" path="/etc/kubernetes/manifests/kube-apiserver.yaml""#,
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
                "the message alone",
                r#""Could not process manifest file" err="static pods may not reference secrets" path="/etc/kubernetes/manifests/kube-apiserver.yaml""#,
                Some("static pods may not reference secrets"),
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
                r#"x] "Unable to process watch event" err="the pod with key a doesn't exist in cache""#,
                None,
            ),
        ];
        for (situation, line, expected) in rows {
            let expected = expected.map(|why: &str| RefusedFile { path: API.into(), why: why.to_owned() });
            assert_eq!(refused(line), expected, "{situation}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_line_makes_it_panic(rest in "[ -~é\\\\\"=<>{}]{0,60}") {
            let _ = refused(&format!("] \"Could not process manifest file\" {rest}"));
            let _ = refused(&format!("{{\"msg\":\"Could not process manifest file\"{rest}"));
        }
    }
}
