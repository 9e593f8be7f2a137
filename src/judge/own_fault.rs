//! Recognises a process that ends at once because of what its own manifest gives it, so that one crash decides.
//!
//! ```text
//!   the end of its log                  the message in it                             proves
//!   ─────────────────────────────────   ───────────────────────────────────────────   ─────────────────────────────
//!   Error: …            (cobra)         unknown flag, invalid argument, no argument    Flag, Value, Argument
//!   flag … / invalid …  (Go's flag)     not defined, needs an argument, invalid value  Flag, Value
//!   klog E or F         command failed  cannot decode a configuration                  Configuration
//!   zap JSON, capnslog  verify flags    anything about flags                           Configuration
//!   any of them                         a file that a flag names, and that the         File
//!                                       known-good generation does not read
//! ```
//!
//! Only what another attempt cannot cure: no word of a network, a port, a disk, a right or an address (an address may be
//! raised a second later, Q12), and no file that the known-good generation reads too, which may be half written by a
//! renewal. Every message that is not in the table proves nothing, and crashes are counted as ever.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::model::klog;
use crate::model::observation::{ContainerRun, ContainerState};
use crate::model::verdict::OwnFault;
use crate::model::{ClosureFile, Manifest};

/// A process that refuses its configuration ends within a second; a slow disk and a large binary need some more.
const AT_ONCE: Duration = Duration::from_secs(10);

/// SIGKILL, SIGTERM, and an end without an error.
const NOT_BY_ITSELF: [i32; 3] = [137, 143, 0];

/// What the end of a container proves. `known` are the files of the known-good generation that was deployed before.
pub(super) fn of(container: &ContainerRun, manifest: Option<&Manifest>, known: &[ClosureFile]) -> Option<OwnFault> {
    let ContainerState::Exited { started, finished, code, reason } = &container.state else { return None };
    let ran = Duration::try_from(finished.duration_since(*started)).ok()?;
    if ran > AT_ONCE || NOT_BY_ITSELF.contains(code) || reason == "OOMKilled" {
        return None;
    }
    let line = container.log_tail.as_ref()?.lines().rfind(|line| !line.trim().is_empty())?;
    let message = last_message(line)?;
    recognise(&message).or_else(|| {
        let new = manifest.map(|manifest| new_files(manifest, known)).unwrap_or_default();
        is_about_a_file(&message, &new).then_some(OwnFault::File)
    })
}

/// What a fatal line says, without the frame that its logger puts around it.
#[derive(Debug, PartialEq, Eq)]
struct Message {
    text: String,
    /// The program says that it could not take its flags.
    about_flags: bool,
}

impl Message {
    fn plain(text: &str) -> Self {
        Self { text: text.trim().replace("\\\"", "\""), about_flags: false }
    }
}

/// What etcd calls the error of its flags and of its configuration file: since 3.5, and before.
const ABOUT_FLAGS: [&str; 2] = ["failed to verify flags", "error verifying flags"];

/// The message of a last line, if a process may have ended by it.
fn last_message(line: &str) -> Option<Message> {
    let line = line.trim();
    if line.starts_with('{') {
        return json(line);
    }
    if let Some((severity, text)) = klog::split(line) {
        // klog.Fatal ends the process; of errors only the one that the command ended with does.
        return match text.strip_prefix("\"command failed\" err=") {
            Some(error) => Some(Message::plain(error.trim_matches('"'))),
            None => (severity == 'F').then(|| Message::plain(text)),
        };
    }
    let about_flags = ABOUT_FLAGS.iter().any(|words| line.contains(words));
    let text = line.strip_prefix("Error: ").or_else(|| line.strip_prefix("error: ")).unwrap_or(line);
    Some(Message { about_flags, ..Message::plain(text) })
}

/// A line of zap's, which may be cut at its end.
fn json(line: &str) -> Option<Message> {
    let level = field(line, "level").unwrap_or_default();
    let message = field(line, "msg")?;
    let about_flags = ABOUT_FLAGS.contains(&message.as_str());
    if !about_flags && !matches!(level.as_str(), "fatal" | "panic") {
        return None;
    }
    let error = field(line, "error").unwrap_or_default();
    Some(Message { about_flags, ..Message::plain(&format!("{message}: {error}")) })
}

/// The text of a field, as far as the line goes.
fn field(line: &str, name: &str) -> Option<String> {
    let (_, rest) = line.split_once(&format!("\"{name}\":\""))?;
    let mut text = String::new();
    let mut escaped = false;
    for letter in rest.chars() {
        match letter {
            '"' if !escaped => return Some(text),
            '\\' if !escaped => escaped = true,
            _ => {
                text.push(letter);
                escaped = false;
            }
        }
    }
    Some(text)
}

/// What a network, a port, an address, a disk, a right or the kernel does: another attempt may well succeed (Q12).
const NOT_ITS_OWN: [&str; 22] = [
    "dial ",
    "connection re",
    "timeout",
    "timed out",
    "deadline exceeded",
    "no route to host",
    "network is unreachable",
    "no such host",
    "lookup ",
    "address already in use",
    "cannot assign requested address",
    "permission denied",
    "operation not permitted",
    "no space left",
    "read-only file system",
    "input/output error",
    "stale file handle",
    "too many open files",
    "cannot allocate memory",
    "resource temporarily unavailable",
    "expired",
    "tls: ",
];

/// How a message begins, of the flag libraries.
const FLAGS: [(&str, OwnFault); 9] = [
    ("unknown flag: ", OwnFault::Flag),
    ("unknown shorthand flag: ", OwnFault::Flag),
    ("flag provided but not defined: ", OwnFault::Flag),
    ("flag needs an argument: ", OwnFault::Flag),
    ("bad flag syntax: ", OwnFault::Flag),
    ("invalid argument \"", OwnFault::Value),
    ("invalid value \"", OwnFault::Value),
    ("invalid boolean value \"", OwnFault::Value),
    ("unknown command \"", OwnFault::Argument),
];

/// What the decoders of configuration files say, wherever in the message.
const CONFIGURATION: [&str; 11] = [
    "strict decoding error",
    "error unmarshaling JSON",
    "error converting YAML to JSON",
    "yaml: line ",
    "yaml: unmarshal errors",
    "failed loading config file",
    "is a required flag",
    "unrecognized feature gate",
    "error decoding encryption provider configuration",
    "error decoding audit",
    "failed to decode",
];

fn recognise(message: &Message) -> Option<OwnFault> {
    let text = message.text.as_str();
    if NOT_ITS_OWN.iter().any(|words| text.contains(words)) {
        return None;
    }
    if let Some((_, fault)) = FLAGS.iter().find(|(words, _)| text.starts_with(words)) {
        return Some(*fault);
    }
    // kube-apiserver says it of every word that is no flag.
    if text.contains("does not take any arguments, got") {
        return Some(OwnFault::Argument);
    }
    let about_a_file = MISSING.iter().any(|words| text.contains(words));
    let configuration = message.about_flags || CONFIGURATION.iter().any(|words| text.contains(words));
    (configuration && !about_a_file).then_some(OwnFault::Configuration)
}

/// What is wrong with a file, as Go's library says it.
const MISSING: [&str; 2] = ["no such file or directory", "is a directory"];
/// And with what is in it.
const UNFIT: [&str; 2] = ["failed to find any PEM data", "does not contain any valid"];

/// Whether the message is about one of these files.
fn is_about_a_file(message: &Message, files: &BTreeSet<String>) -> bool {
    let text = message.text.as_str();
    let missing = MISSING.iter().any(|words| text.contains(words)) && !text.contains("dial ");
    if !missing && !UNFIT.iter().any(|words| text.contains(words)) {
        return false;
    }
    let parts = text.split(|c: char| !(c.is_alphanumeric() || "/._-".contains(c)));
    parts.map(|part| part.trim_end_matches('.')).any(|part| files.contains(part))
}

/// The flags whose values are directories of data: a mistake looks like an absent mount there (Q2).
const OF_DATA: [&str; 2] = ["data-dir", "wal-dir"];

/// The files that flags name and that the known-good generation does not read.
fn new_files(manifest: &Manifest, known: &[ClosureFile]) -> BTreeSet<String> {
    let of_files = manifest.flags().into_iter().filter(|(flag, _)| !OF_DATA.contains(&flag.as_str()));
    let values = of_files.flat_map(|(_, values)| values);
    let is_known = |path: &str| known.iter().any(|file| file.path.as_os_str() == path);
    values.filter(|value| value.starts_with('/') && !is_known(value)).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::model::FileState;

    const FLAG: Option<OwnFault> = Some(OwnFault::Flag);
    const VALUE: Option<OwnFault> = Some(OwnFault::Value);
    const ARGUMENT: Option<OwnFault> = Some(OwnFault::Argument);
    const CONFIGURATION: Option<OwnFault> = Some(OwnFault::Configuration);
    const FILE: Option<OwnFault> = Some(OwnFault::File);

    /// It names a file that is new with it, and one that the known-good generation reads too is not looked for here.
    fn manifest() -> Manifest {
        let text = "--- {apiVersion: v1, kind: Pod, metadata: {name: kube-apiserver, namespace: kube-system}, spec: \
                    {containers: [{name: kube-apiserver, image: i, command: [kube-apiserver, \
                    --audit-policy-file=/etc/kubernetes/audit.yaml, --data-dir=/var/lib/etcd]}]}}";
        Manifest::parse(text.as_bytes().into()).unwrap()
    }

    fn exited(code: i32, seconds: i64, reason: &str, words: &str) -> ContainerRun {
        let at = |second| Timestamp::from_second(1_800_000_000 + second).unwrap();
        ContainerRun {
            id: "c".to_owned(),
            name: "kube-apiserver".to_owned(),
            attempt: 0,
            image: "i".to_owned(),
            image_id: String::new(),
            state: ContainerState::Exited { started: at(0), finished: at(seconds), code, reason: reason.to_owned() },
            command_line: None,
            log_tail: Some(words.to_owned()),
            work: None,
        }
    }

    #[test]
    fn q12_one_crash_proves_only_what_no_other_attempt_can_cure() {
        let rows = [
            // The four of Kubernetes, 1.28 to 1.36.
            ("Error: unknown flag: --no-such-flag", FLAG),
            ("Error: unknown shorthand flag: 'x' in -x", FLAG),
            ("Error: flag needs an argument: --v", FLAG),
            (
                "Error: invalid argument \"two\" for \"--v\" flag: strconv.ParseInt: parsing \"two\": invalid syntax",
                VALUE,
            ),
            ("Error: invalid argument \"A=true\" for \"--feature-gates\" flag: unrecognized feature gate: A", VALUE),
            ("Error: unknown command \"serve\" for \"kube-scheduler\"", ARGUMENT),
            ("Error: \"kube-apiserver\" does not take any arguments, got [\"x\"]", ARGUMENT),
            (
                r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="strict decoding error: unknown field \"leader\"""#,
                CONFIGURATION,
            ),
            (
                r#"E1122 19:33:50.1 1 run.go:74] "command failed" err="[service-account-issuer is a required flag]""#,
                CONFIGURATION,
            ),
            (
                r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="loading audit policy file: failed to read file path \"/etc/kubernetes/audit.yaml\": open /etc/kubernetes/audit.yaml: no such file or directory""#,
                FILE,
            ),
            (
                r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="unable to parse /etc/kubernetes/audit.yaml: data does not contain any valid RSA or ECDSA certificates""#,
                FILE,
            ),
            // etcd 3.4 to 3.6.
            ("flag provided but not defined: -no-such-flag", FLAG),
            ("invalid value \"x\" for flag -quota-backend-bytes: parse error", VALUE),
            ("invalid boolean value \"maybe\" for -force-new-cluster: parse error", VALUE),
            (
                r#"{"level":"warn","caller":"etcdmain/etcd.go:75","msg":"failed to verify flags","error":"'serve' is not a valid flag"}"#,
                CONFIGURATION,
            ),
            (
                r#"{"level":"warn","msg":"failed to verify flags","error":"expected IP in URL for binding (https://m1:2380)"}"#,
                CONFIGURATION,
            ),
            (
                r#"{"level":"warn","msg":"failed to verify flags","error":"error unmarshaling JSON: while decod…"#,
                CONFIGURATION,
            ),
            (
                "2026-11-22 19:33:50.123456 E | etcdmain: error verifying flags, --x must be y. See 'etcd --help'.",
                CONFIGURATION,
            ),
            (
                r#"{"level":"fatal","msg":"discovery failed","error":"open /etc/kubernetes/audit.yaml: no such file or directory","stacktrace":"go.etcd.io"#,
                FILE,
            ),
            // What something else explains, or what is not the end.
            (
                r#"{"level":"fatal","msg":"discovery failed","error":"listen tcp 10.0.0.9:2380: bind: cannot assign requested address"}"#,
                None,
            ),
            (
                r#"{"level":"fatal","msg":"discovery failed","error":"listen tcp 127.0.0.1:2379: bind: address already in use"}"#,
                None,
            ),
            (
                r#"{"level":"fatal","msg":"discovery failed","error":"open /var/lib/etcd: no such file or directory"}"#,
                None,
            ),
            (
                r#"{"level":"fatal","msg":"discovery failed","error":"open /etc/kubernetes/pki/etcd/server.crt: no such file or directory"}"#,
                None,
            ),
            (
                r#"{"level":"warn","msg":"failed to verify flags","error":"open /etc/etcd.yaml: permission denied"}"#,
                None,
            ),
            (r#"{"level":"error","msg":"rejected","error":"invalid value \"x\" for flag -a"}"#, None),
            (r#"E1122 19:33:50.1 1 webhook.go:1] "Failed" err="strict decoding error: unknown field \"x\"""#, None),
            (r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="context deadline exceeded""#, None),
            (
                r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="dial unix /etc/kubernetes/audit.yaml: connect: no such file or directory""#,
                None,
            ),
            (
                r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="tls: private key does not match public key""#,
                None,
            ),
            (r#"E1122 19:33:50.1 1 run.go:72] "command failed" err="leaderelection lost""#, None),
            ("panic: runtime error: invalid memory address", None),
            ("the client sent an unknown flag: --x", None),
            ("", None),
        ];
        for (words, fault) in rows {
            assert_eq!(of(&exited(1, 1, "Error", words), Some(&manifest()), &[]), fault, "{words}");
        }
        let proof = "Error: unknown flag: --x";
        for (code, seconds, reason) in
            [(137, 1, "Error"), (143, 1, "Error"), (0, 1, "Completed"), (1, 11, "Error"), (1, 1, "OOMKilled")]
        {
            assert_eq!(
                of(&exited(code, seconds, reason, proof), Some(&manifest()), &[]),
                None,
                "{code} {seconds} {reason}"
            );
        }
        let later = format!("{proof}\nsomething else was the end");
        assert_eq!(of(&exited(1, 1, "Error", &later), Some(&manifest()), &[]), None, "only the last line is the end");
    }

    #[test]
    fn a_file_that_the_known_good_generation_reads_too_proves_nothing() {
        let words = "Error: open /etc/kubernetes/audit.yaml: no such file or directory";
        let container = exited(1, 1, "Error", words);
        assert_eq!(of(&container, Some(&manifest()), &[]), FILE);
        let file = ClosureFile { path: "/etc/kubernetes/audit.yaml".into(), state: FileState::Missing };
        assert_eq!(of(&container, Some(&manifest()), &[file]), None);
    }
}
