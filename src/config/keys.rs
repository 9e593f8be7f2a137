//! Every key there is: name, kind, meaning, and the field of [`Settings`] behind it. The one place.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::place::Place;
use super::{Settings, duration, recipient, size};
use crate::model::component::is_dns_name;
use crate::model::policy::{Intruders, Mode, WentBackAction};

/// One key.
pub struct Key {
    /// Its name with its table: `candidate.soak`.
    pub name: &'static str,
    /// What it means: a sentence.
    pub meaning: &'static str,
    /// Its kind, and the field behind it.
    pub(super) field: Field,
}

/// A key's kind, and the field behind it.
pub(super) enum Field {
    Switch(At<bool>),
    Duration(Zero, At<Duration>),
    Size(At<u64>),
    Small(u32, At<u32>),
    Count(usize, At<usize>),
    Path(At<PathBuf>),
    /// Found on the node when absent.
    FoundPath(At<Option<PathBuf>>),
    /// Found on the node when absent; checked by the function, which says what would be right.
    Found(fn(&str) -> Result<(), String>, At<Option<String>>),
    Words(At<Vec<String>>),
    Recipients(At<Vec<String>>),
    Mode(At<Mode>),
    Intruders(At<Intruders>),
    WentBack(At<WentBackAction>),
}

/// The way to a field.
type At<T> = fn(&mut Settings) -> &mut T;

/// Whether nought makes sense for a duration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Zero {
    Allowed,
    Refused,
}

use Zero::{Allowed, Refused};

/// A year: no setting needs more, and sums of them stay far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

const fn key(name: &'static str, field: Field, meaning: &'static str) -> Key {
    Key { name, meaning, field }
}

/// Every key, in the order of the file.
pub const KEYS: &[Key] = &[
    key("mode", Field::Mode(|s| &mut s.policy.mode), "`act`, or `observe`: watch, keep and tell, and change nothing"),
    key("node-name", Field::Found(node_name, |s| &mut s.node_name), "the node's name"),
    key(
        "adoption.soak",
        Field::Duration(Refused, |s| &mut s.policy.adoption_soak),
        "health that makes what is found running at first sight known-good",
    ),
    key(
        "candidate.soak",
        Field::Duration(Refused, |s| &mut s.policy.candidate_soak),
        "health that proves a changed manifest",
    ),
    key(
        "candidate.deadline",
        Field::Duration(Refused, |s| &mut s.policy.deadline),
        "from the change to the first healthy moment; never less than the pod's own startup probe allows",
    ),
    key(
        "candidate.image-grace",
        Field::Duration(Refused, |s| &mut s.policy.image_grace),
        "how long a candidate's image may take to come to the node while nothing else is known of it",
    ),
    key(
        "candidate.relapse",
        Field::Duration(Refused, |s| &mut s.policy.relapse),
        "how long a candidate that served and turned bad may take to recover by itself",
    ),
    key(
        "candidate.crashes",
        Field::Small(1, |s| &mut s.policy.crashes),
        "crashes with healthy dependencies that decide against a candidate",
    ),
    key(
        "candidate.quiet",
        Field::Duration(Refused, |s| &mut s.policy.quiet),
        "a file that changed within this time may still be in writing",
    ),
    key(
        "candidate.change-memory",
        Field::Duration(Refused, |s| &mut s.policy.change_memory),
        "earlier generations answer only a change seen this lately",
    ),
    key(
        "candidate.rewrites",
        Field::Small(1, |s| &mut s.policy.rewrites),
        "the same quarantined content written again this often: held, no longer reverted",
    ),
    key(
        "restore.deleted-grace",
        Field::Duration(Allowed, |s| &mut s.policy.deleted_grace),
        "a deleted manifest comes back after this long",
    ),
    key(
        "restore.all-deleted-grace",
        Field::Duration(Allowed, |s| &mut s.policy.all_deleted_grace),
        "several deleted at once, or etcd's, come back after this long",
    ),
    key(
        "restore.after-gone",
        Field::Duration(Allowed, |s| &mut s.policy.after_gone),
        "between the end of a sandbox and the write of its successor",
    ),
    key(
        "restore.gone-margin",
        Field::Duration(Allowed, |s| &mut s.policy.gone_margin),
        "beyond its termination grace, how long a sandbox may take to go before the good file is written anyway",
    ),
    key(
        "restore.hasten-after",
        Field::Duration(Allowed, |s| &mut s.policy.hasten_after),
        "how long a pod that is taken out and serves nobody is left to end by itself",
    ),
    key(
        "restore.appear",
        Field::Duration(Refused, |s| &mut s.policy.appear),
        "a kubelet that has not started a sandbox this long after a manifest was put in place does not listen",
    ),
    key(
        "restore.parking",
        Field::Duration(Refused, |s| &mut s.policy.parking),
        "the longest that kube-apiserver is taken out around an etcd change",
    ),
    key(
        "limits.actions-per-hour",
        Field::Count(1, |s| &mut s.policy.actions_per_hour),
        "actions an hour and component, then held",
    ),
    key(
        "limits.kubelet-restarts-per-hour",
        Field::Count(0, |s| &mut s.policy.kubelet_restarts_per_hour),
        "restarts of the kubelet an hour",
    ),
    key(
        "limits.runtime-restarts-per-hour",
        Field::Count(0, |s| &mut s.policy.runtime_restarts_per_hour),
        "restarts of the container runtime an hour",
    ),
    key(
        "limits.generations",
        Field::Count(2, |s| &mut s.policy.keep_generations),
        "generations kept per component, known-good ones last to go",
    ),
    key(
        "stall.after",
        Field::Duration(Refused, |s| &mut s.policy.stall_after),
        "how long a process that was found to stand still is left to go on by itself; one that a signal stopped is not",
    ),
    key(
        "stall.lease",
        Field::Duration(Refused, |s| &mut s.policy.lease_still),
        "a lease not renewed for this long (at least its own duration and a third), while others are: its holder does nothing",
    ),
    key(
        "intruders.action",
        Field::Intruders(|s| &mut s.policy.intruders),
        "a second file of one pod: `move-out` of the directory (kept and recorded), or `report`",
    ),
    key(
        "etcd.revisions-went-back",
        Field::WentBack(|s| &mut s.policy.went_back),
        "etcd was restored to an earlier state: `restart` what remembers the later one, or `report`",
    ),
    key("paths.manifests", Field::FoundPath(|s| &mut s.paths.manifests), "the kubelet's static pod directory"),
    key(
        "paths.inactive-manifests",
        Field::Path(|s| &mut s.paths.inactive_manifests),
        "the last known-good manifests, for people",
    ),
    key(
        "paths.staging",
        Field::Path(|s| &mut s.paths.staging),
        "files on their way in or out; on the file system of the manifests, outside their directory",
    ),
    key(
        "paths.kubernetes",
        Field::Path(|s| &mut s.paths.kubernetes),
        "the directory whose files may belong to a generation",
    ),
    key("paths.state", Field::Path(|s| &mut s.paths.state), "generations, memory and history"),
    key("paths.run", Field::Path(|s| &mut s.paths.run), "the directory of the socket"),
    key("runtime.endpoint", Field::Found(endpoint, |s| &mut s.runtime.endpoint), "the container runtime's CRI socket"),
    key("runtime.timeout", Field::Duration(Refused, |s| &mut s.runtime.timeout), "for one call to the runtime"),
    key(
        "runtime.restart",
        Field::Words(|s| &mut s.policy.runtime_restart),
        "the command that restarts the runtime when it stands still",
    ),
    key(
        "runtime.restart-timeout",
        Field::Duration(Refused, |s| &mut s.runtime.restart_timeout),
        "a restart that takes longer has failed",
    ),
    key("kubelet.config", Field::Path(|s| &mut s.kubelet.config), "the kubelet's `--config`"),
    key("kubelet.kubeconfig", Field::Path(|s| &mut s.kubelet.kubeconfig), "the kubelet's `--kubeconfig`"),
    key("kubelet.healthz", Field::Found(url, |s| &mut s.kubelet.healthz), "the kubelet's health URL"),
    key("kubelet.restart", Field::Words(|s| &mut s.policy.kubelet_restart), "the command that restarts the kubelet"),
    key(
        "kubelet.restart-timeout",
        Field::Duration(Refused, |s| &mut s.kubelet.restart_timeout),
        "a restart that takes longer has failed",
    ),
    key(
        "probes.interval",
        Field::Duration(Refused, |s| &mut s.probes.interval),
        "between two questions to a component",
    ),
    key("probes.timeout", Field::Duration(Refused, |s| &mut s.probes.timeout), "for one answer"),
    key(
        "passes.interval",
        Field::Duration(Refused, |s| &mut s.passes.interval),
        "between two passes when nothing wakes the agent",
    ),
    key(
        "passes.busy-interval",
        Field::Duration(Refused, |s| &mut s.passes.busy_interval),
        "between two passes while a replacement is under way",
    ),
    key(
        "passes.longest-gap",
        Field::Duration(Refused, |s| &mut s.passes.longest_gap),
        "a longer gap between two passes was not watched and counts for nothing",
    ),
    key(
        "snapshots.enabled",
        Field::Switch(|s| &mut s.snapshots.enabled),
        "whether etcd's data is snapshotted by itself",
    ),
    key(
        "snapshots.interval",
        Field::Duration(Refused, |s| &mut s.snapshots.interval),
        "between two snapshots of etcd's data",
    ),
    key("snapshots.directory", Field::FoundPath(|s| &mut s.snapshots.directory), "where snapshots are kept"),
    key("snapshots.keep-last", Field::Count(1, |s| &mut s.snapshots.keep_last), "the newest snapshots, kept"),
    key(
        "snapshots.keep-hourly",
        Field::Count(0, |s| &mut s.snapshots.keep_hourly),
        "the newest snapshot of each of so many hours, kept",
    ),
    key("snapshots.keep-daily", Field::Count(0, |s| &mut s.snapshots.keep_daily), "the same of days (UTC)"),
    key("snapshots.keep-weekly", Field::Count(0, |s| &mut s.snapshots.keep_weekly), "the same of weeks"),
    key(
        "snapshots.max-total",
        Field::Size(|s| &mut s.snapshots.max_total),
        "all snapshots together; the oldest go first, the last verified one never",
    ),
    key(
        "snapshots.recipients",
        Field::Recipients(|s| &mut s.snapshots.recipients),
        "age public keys (`age1…`) that the node's keys are encrypted to in a snapshot's bundle; without one they are not in it",
    ),
    key(
        "snapshots.stall-timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.stall_timeout),
        "an etcd that sends nothing for this long in the middle of a snapshot has hung",
    ),
    key("snapshots.timeout", Field::Duration(Refused, |s| &mut s.snapshots.timeout), "for one whole snapshot"),
    key(
        "snapshots.remote.url",
        Field::Found(place, |s| &mut s.snapshots.remote.url),
        "object storage that every snapshot is sent to as well: `s3://bucket/prefix`, `gs://…`, `az://…`",
    ),
    key(
        "snapshots.remote.endpoint",
        Field::Found(origin, |s| &mut s.snapshots.remote.endpoint),
        "the object store's own address",
    ),
    key(
        "snapshots.remote.region",
        Field::Found(region, |s| &mut s.snapshots.remote.region),
        "the region that S3 signatures are made for",
    ),
    key(
        "snapshots.remote.path-style",
        Field::Switch(|s| &mut s.snapshots.remote.path_style),
        "whether the bucket stands in the path; `false`: in the host's name",
    ),
    key(
        "snapshots.remote.ca-file",
        Field::FoundPath(|s| &mut s.snapshots.remote.ca_file),
        "authorities (PEM) to trust for the object store, instead of the system's",
    ),
    key(
        "snapshots.remote.credentials-file",
        Field::FoundPath(|s| &mut s.snapshots.remote.credentials_file),
        "lines `key = value`, for root alone (0600): access-key-id, secret-access-key, session-token of S3; \
         service-account (a file) of GCS; account, account-key, sas-token of Azure",
    ),
    key(
        "snapshots.remote.allow-http",
        Field::Switch(|s| &mut s.snapshots.remote.allow_http),
        "whether an endpoint without TLS is used: everybody on the way could read every secret of the cluster",
    ),
    key(
        "snapshots.remote.keep-last",
        Field::Count(1, |s| &mut s.snapshots.remote.keep_last),
        "the newest snapshots, kept there",
    ),
    key(
        "snapshots.remote.keep-hourly",
        Field::Count(0, |s| &mut s.snapshots.remote.keep_hourly),
        "the newest snapshot of each of so many hours, kept there",
    ),
    key(
        "snapshots.remote.keep-daily",
        Field::Count(0, |s| &mut s.snapshots.remote.keep_daily),
        "the same of days (UTC)",
    ),
    key("snapshots.remote.keep-weekly", Field::Count(0, |s| &mut s.snapshots.remote.keep_weekly), "the same of weeks"),
    key(
        "snapshots.remote.stall-timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.remote.stall_timeout),
        "an object store that does not take 5 MiB, or says nothing, for this long has hung",
    ),
    key(
        "snapshots.remote.timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.remote.timeout),
        "for one whole snapshot, there and back to be compared",
    ),
    key(
        "metrics.textfile",
        Field::FoundPath(|s| &mut s.metrics.textfile),
        "where the metrics are written for the textfile collector of Prometheus' node_exporter; ends in `.prom`",
    ),
    key(
        "metrics.interval",
        Field::Duration(Refused, |s| &mut s.metrics.interval),
        "between two writes of them, while no verdict changes",
    ),
];

impl Key {
    /// The key of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        KEYS.iter().find(|key| key.name == name)
    }

    /// Its table, empty for the top level, and its name there.
    pub fn split(&self) -> (&'static str, &'static str) {
        self.name.rsplit_once('.').unwrap_or(("", self.name))
    }

    /// The value in these settings as TOML writes it; absent where it is found on the node.
    pub fn print(&self, settings: &Settings) -> Option<String> {
        let s = &mut settings.clone();
        Some(match &self.field {
            Field::Switch(at) => at(s).to_string(),
            Field::Duration(_, at) => quoted(&duration::print(*at(s))),
            Field::Size(at) => quoted(&size::print(*at(s))),
            Field::Small(_, at) => at(s).to_string(),
            Field::Count(_, at) => at(s).to_string(),
            Field::Path(at) => quoted(&at(s).to_string_lossy()),
            Field::FoundPath(at) => quoted(&at(s).as_ref()?.to_string_lossy()),
            Field::Found(_, at) => quoted(at(s).as_ref()?),
            Field::Words(at) | Field::Recipients(at) => {
                format!("[{}]", at(s).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
            }
            Field::Mode(at) => quoted(match at(s) {
                Mode::Act => "act",
                Mode::Observe => "observe",
            }),
            Field::Intruders(at) => quoted(match at(s) {
                Intruders::MoveOut => "move-out",
                Intruders::Report => "report",
            }),
            Field::WentBack(at) => quoted(match at(s) {
                WentBackAction::Restart => "restart",
                WentBackAction::Report => "report",
            }),
        })
    }

    /// What stands in for a default where the value is found on the node.
    pub fn found(&self) -> &'static str {
        match self.name {
            "node-name" => "found as the kubelet finds it",
            "runtime.endpoint" => "the kubelet's",
            "snapshots.directory" => "`snapshots` below paths.state",
            "metrics.textfile" => "none is written",
            "snapshots.remote.url" => "nowhere else",
            "snapshots.remote.endpoint" => "the provider's",
            "snapshots.remote.region" => "`us-east-1`",
            "snapshots.remote.ca-file" => "the system's",
            "snapshots.remote.credentials-file" => "the environment, then the machine's own role",
            _ => "from the kubelet's configuration",
        }
    }

    /// A value that a person could write there, for the shipped example.
    pub(super) fn sample(&self) -> &'static str {
        match self.name {
            "node-name" => "\"master-1\"",
            "runtime.endpoint" => "\"unix:///run/containerd/containerd.sock\"",
            "kubelet.healthz" => "\"http://127.0.0.1:10248/healthz\"",
            "snapshots.directory" => "\"/var/lib/lastgood/snapshots\"",
            "metrics.textfile" => "\"/var/lib/prometheus/node-exporter/lastgood.prom\"",
            "snapshots.remote.url" => "\"s3://backups/etcd\"",
            "snapshots.remote.endpoint" => "\"https://minio.example:9000\"",
            "snapshots.remote.region" => "\"eu-central-1\"",
            "snapshots.remote.ca-file" => "\"/etc/lastgood/minio-ca.crt\"",
            "snapshots.remote.credentials-file" => "\"/etc/lastgood/remote.credentials\"",
            _ => "\"/etc/kubernetes/manifests\"",
        }
    }

    /// Puts a value from a file into the settings.
    ///
    /// # Errors
    /// A sentence: what stands there, and what would be right.
    pub(super) fn set(&self, settings: &mut Settings, value: &DeValue<'_>) -> Result<(), String> {
        match &self.field {
            Field::Switch(at) => {
                let wrong = || format!("is {}, but true or false is wanted", article(value.type_str()));
                *at(settings) = value.as_bool().ok_or_else(wrong)?;
            }
            Field::Size(at) => {
                let given = text(value, "an amount of bytes such as \"10GB\"")?;
                *at(settings) = size::parse(given).map_err(|error| error.to_string())?;
            }
            Field::Duration(zero, at) => {
                let parsed = duration::parse(text(value, "a duration such as \"60s\"")?).map_err(|e| e.to_string())?;
                if parsed.is_zero() && *zero == Refused {
                    return Err("must be longer than nought".to_owned());
                }
                if parsed > LONGEST {
                    return Err("is longer than a year".to_owned());
                }
                *at(settings) = parsed;
            }
            Field::Small(least, at) => *at(settings) = count(value, *least)?,
            Field::Count(least, at) => {
                let least = u32::try_from(*least).unwrap_or(u32::MAX);
                *at(settings) = count(value, least)? as usize;
            }
            Field::Path(at) => *at(settings) = path(value)?,
            Field::FoundPath(at) => *at(settings) = Some(path(value)?),
            Field::Found(check, at) => {
                let given = text(value, "text in quotes")?;
                check(given)?;
                *at(settings) = Some(given.to_owned());
            }
            Field::Words(at) => *at(settings) = words(value)?,
            Field::Recipients(at) => *at(settings) = recipients(value)?,
            Field::Mode(at) => {
                *at(settings) = match text(value, "\"act\" or \"observe\"")? {
                    "act" => Mode::Act,
                    "observe" => Mode::Observe,
                    other => return Err(format!("{other:?} is no mode: write \"act\" or \"observe\"")),
                }
            }
            Field::Intruders(at) => {
                *at(settings) = match text(value, "\"move-out\" or \"report\"")? {
                    "move-out" => Intruders::MoveOut,
                    "report" => Intruders::Report,
                    other => return Err(format!("{other:?} is no action: write \"move-out\" or \"report\"")),
                }
            }
            Field::WentBack(at) => {
                *at(settings) = match text(value, "\"restart\" or \"report\"")? {
                    "restart" => WentBackAction::Restart,
                    "report" => WentBackAction::Report,
                    other => return Err(format!("{other:?} is no action: write \"restart\" or \"report\"")),
                }
            }
        }
        Ok(())
    }
}

/// A TOML basic string.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04X}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn text<'v>(value: &'v DeValue<'_>, wanted: &str) -> Result<&'v str, String> {
    value.as_str().ok_or_else(|| format!("is {}, but {wanted} is wanted", article(value.type_str())))
}

fn count(value: &DeValue<'_>, least: u32) -> Result<u32, String> {
    let wrong = || format!("is {}, but a whole number of at least {least} is wanted", article(value.type_str()));
    let number = value.as_integer().ok_or_else(wrong)?;
    let number = i64::from_str_radix(number.as_str(), number.radix())
        .map_err(|_| format!("{} is not a number that fits", number.as_str()))?;
    match u32::try_from(number) {
        Ok(number) if number >= least => Ok(number),
        _ => Err(format!("is {number}, but a whole number of at least {least} is wanted")),
    }
}

fn path(value: &DeValue<'_>) -> Result<PathBuf, String> {
    let given = text(value, "a path in quotes")?;
    let path = Path::new(given);
    if !path.is_absolute() {
        return Err(format!("{given:?} is a relative path: write it from / on"));
    }
    if path.components().any(|part| part == std::path::Component::ParentDir) {
        return Err(format!("{given:?} goes up by `..`: write the path without it"));
    }
    // Without doubled or trailing slashes, so that two spellings of one directory compare equal.
    Ok(path.components().collect())
}

fn words(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    const WANTED: &str = "write the command as a list of words, such as [\"systemctl\", \"restart\", \"kubelet\"]";
    let list = value.as_array().ok_or_else(|| format!("is {}: {WANTED}", article(value.type_str())))?;
    let words: Vec<String> = list.iter().filter_map(|word| word.get_ref().as_str()).map(str::to_owned).collect();
    if words.len() != list.len() {
        return Err(format!("has an entry that is not text: {WANTED}"));
    }
    match words.first() {
        Some(program) if !program.trim().is_empty() => Ok(words),
        _ => Err(format!("names no program: {WANTED}")),
    }
}

fn recipients(value: &DeValue<'_>) -> Result<Vec<String>, String> {
    const WANTED: &str = "write them as a list, such as [\"age1ql3z7…\"]";
    let list = value.as_array().ok_or_else(|| format!("is {}: {WANTED}", article(value.type_str())))?;
    let mut recipients = Vec::new();
    for entry in list {
        let text = entry.get_ref().as_str().ok_or_else(|| format!("has an entry that is not text: {WANTED}"))?;
        recipient::parse(text)?;
        recipients.push(text.to_owned());
    }
    Ok(recipients)
}

fn article(kind: &str) -> String {
    let vowel = kind.starts_with(['a', 'e', 'i', 'o', 'u']);
    format!("{} {kind}", if vowel { "an" } else { "a" })
}

fn node_name(given: &str) -> Result<(), String> {
    if is_dns_name(given) { Ok(()) } else { Err(format!("{given:?} is no node name: lower case, digits, - and .")) }
}

fn endpoint(given: &str) -> Result<(), String> {
    match given.strip_prefix("unix://") {
        Some(path) if path.starts_with('/') => Ok(()),
        _ => Err(format!("{given:?} is no CRI endpoint: write it like \"unix:///run/containerd/containerd.sock\"")),
    }
}

fn place(given: &str) -> Result<(), String> {
    given.parse::<Place>().map(drop).map_err(|error| error.to_string())
}

/// A scheme, a host, a port, and a path, where a store lies below one (as Azure's emulator has the account there): nothing
/// that names a user or carries a key may stand in the configuration.
fn origin(given: &str) -> Result<(), String> {
    let rest = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let of_path = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let mut parts = rest.unwrap_or_default().split('/');
    let host = parts.next().filter(|host| !host.is_empty() && host.chars().all(of_host));
    match host {
        Some(_) if parts.all(|part| !part.is_empty() && part.chars().all(of_path)) => Ok(()),
        _ => Err("is no address of an object store: write it like \"https://minio.example:9000\"".to_owned()),
    }
}

fn region(given: &str) -> Result<(), String> {
    let of_region = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match !given.is_empty() && given.chars().all(of_region) {
        true => Ok(()),
        false => Err(format!("{given:?} is no region: write it like \"eu-central-1\"")),
    }
}

fn url(given: &str) -> Result<(), String> {
    let rest = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err(format!("{given:?} is no URL: write it like \"http://127.0.0.1:10248/healthz\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_endpoint_is_an_address_perhaps_with_a_path_and_never_carries_a_secret() {
        for right in ["https://minio.example:9000", "http://[::1]:9000", "http://127.0.0.1:10000/devstoreaccount1"] {
            assert_eq!(origin(right), Ok(()), "{right}");
        }
        let wrong = [
            "minio.example",
            "https://",
            "https://u:p@host",
            "https://host/?key=x",
            "https://host/",
            "https://host//a",
        ];
        for wrong in wrong {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
