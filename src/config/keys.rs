//! The table of configuration keys: name, kind, meaning, and the field of [`Settings`] behind each.

use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::de::DeValue;

use super::{Settings, duration, recipient, size};
use crate::model::component::is_dns_name;
use crate::model::policy::{Duplicates, Mode, RevisionRegression};

pub struct Key {
    /// Its name with its table: `candidate.soak`.
    pub name: &'static str,
    /// What it means: a sentence.
    pub meaning: &'static str,
    /// Its kind, and the field behind it.
    field: Field,
    /// Where it has no default: what stands in for one, and a value that a person could write there.
    absent: Option<(&'static str, &'static str)>,
}

/// A key's kind, and the field behind it.
pub enum Field {
    Switch(At<bool>),
    Duration(Zero, At<Duration>),
    Size(At<u64>),
    Small(u32, At<u32>),
    /// A TCP port; zero for none.
    Port(At<u16>),
    Count(usize, At<usize>),
    Path(At<PathBuf>),
    /// Found on the node when absent.
    FoundPath(At<Option<PathBuf>>),
    /// Found on the node when absent; checked by the function, which says what would be right.
    Found(fn(&str) -> Result<(), String>, At<Option<String>>),
    Words(At<Vec<String>>),
    /// Like `Words`; an empty list runs nothing, and the program is an absolute path.
    Command(At<Vec<String>>),
    Recipients(At<Vec<String>>),
    Mode(At<Mode>),
    Duplicates(At<Duplicates>),
    RevisionRegression(At<RevisionRegression>),
}

/// The way to a field.
pub type At<T> = fn(&mut Settings) -> &mut T;

/// Whether nought makes sense for a duration.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Zero {
    Allowed,
    Refused,
}

use Zero::{Allowed, Refused};

/// A year: no setting needs more, and sums of them stay far from overflow.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

pub const fn key(name: &'static str, field: Field, meaning: &'static str) -> Key {
    Key { name, meaning, field, absent: None }
}

/// The keys that belong to no feature.
pub const CORE: &[Key] = &[
    key(
        "mode",
        Field::Mode(|s| &mut s.policy.mode),
        "`act`, or `observe`: watch, keep and report, and change nothing on the node",
    ),
    key(
        "assist",
        Field::Switch(|s| &mut s.policy.assist),
        "whether lastgood shortens outages that are nobody's fault: a terminating kube-apiserver, a back-off after an outage",
    ),
    key("node-name", Field::Found(node_name, |s| &mut s.node_name), "the name of this node")
        .absent("found as the kubelet finds it", "\"master-1\""),
    key(
        "adoption.soak",
        Field::Duration(Refused, |s| &mut s.policy.adoption_soak),
        "how long a component found at the first start must stay healthy to become known-good",
    ),
    key(
        "candidate.soak",
        Field::Duration(Refused, |s| &mut s.policy.candidate_soak),
        "how long a changed manifest must stay healthy to become known-good",
    ),
    key(
        "candidate.progress-deadline",
        Field::Duration(Refused, |s| &mut s.policy.progress_deadline),
        "time from a change to the first healthy moment, then the change is rolled back; never shorter than the pod's startup probe allows",
    ),
    key(
        "candidate.image-grace",
        Field::Duration(Refused, |s| &mut s.policy.image_grace),
        "how long the kubelet may take to pull a candidate's image while the runtime reports nothing else",
    ),
    key(
        "candidate.unhealthy-grace",
        Field::Duration(Refused, |s| &mut s.policy.unhealthy_grace),
        "how long a candidate that was healthy may be unhealthy before it is rolled back",
    ),
    key(
        "candidate.max-crashes",
        Field::Small(1, |s| &mut s.policy.max_crashes),
        "crashes with healthy dependencies after which a candidate is rolled back",
    ),
    key(
        "candidate.debounce",
        Field::Duration(Refused, |s| &mut s.policy.debounce),
        "how long a file must be unchanged before lastgood reads it",
    ),
    key(
        "candidate.max-change-age",
        Field::Duration(Refused, |s| &mut s.policy.max_change_age),
        "lastgood rolls back by itself only a change that is younger than this",
    ),
    key(
        "candidate.max-rewrites",
        Field::Small(1, |s| &mut s.policy.max_rewrites),
        "how often the same quarantined content may be written again before the component is held",
    ),
    key(
        "rollback.deleted-grace",
        Field::Duration(Allowed, |s| &mut s.policy.deleted_grace),
        "a deleted manifest is put back after this time",
    ),
    key(
        "rollback.all-deleted-grace",
        Field::Duration(Allowed, |s| &mut s.policy.all_deleted_grace),
        "several manifests deleted at once, or etcd's, are put back after this time",
    ),
    key(
        "rollback.settle",
        Field::Duration(Allowed, |s| &mut s.policy.settle),
        "time between the end of a sandbox and the write of the next manifest",
    ),
    key(
        "rollback.stop-margin",
        Field::Duration(Allowed, |s| &mut s.policy.stop_margin),
        "time beyond a pod's termination grace until the good manifest is written anyway",
    ),
    key(
        "rollback.force-stop-after",
        Field::Duration(Allowed, |s| &mut s.policy.force_stop_after),
        "how long a failed pod whose manifest was taken out may take to end before its containers are stopped",
    ),
    key(
        "rollback.kubelet-timeout",
        Field::Duration(Refused, |s| &mut s.policy.kubelet_timeout),
        "how long the kubelet may take to create a pod sandbox before lastgood restarts the kubelet",
    ),
    key(
        "rollback.apiserver-max-downtime",
        Field::Duration(Refused, |s| &mut s.policy.apiserver_max_downtime),
        "the longest time that kube-apiserver is stopped around a change of etcd",
    ),
    key(
        "limits.actions-per-hour",
        Field::Count(1, |s| &mut s.policy.actions_per_hour),
        "actions per hour and component, after that the component is held",
    ),
    key(
        "limits.kubelet-restarts-per-hour",
        Field::Count(0, |s| &mut s.policy.kubelet_restarts_per_hour),
        "restarts of the kubelet per hour",
    ),
    key(
        "limits.runtime-restarts-per-hour",
        Field::Count(0, |s| &mut s.policy.runtime_restarts_per_hour),
        "restarts of the container runtime per hour",
    ),
    key(
        "limits.generations",
        Field::Count(2, |s| &mut s.policy.keep_generations),
        "generations kept per component; known-good ones are removed last",
    ),
    key(
        "stall.after",
        Field::Duration(Refused, |s| &mut s.policy.stall_after),
        "how long a stalled process may take to recover before its container is stopped; a process that a signal stopped is not waited for",
    ),
    key(
        "stall.lease",
        Field::Duration(Refused, |s| &mut s.policy.lease_still),
        "a leader that does not renew its lease for this time (at least the lease's duration and a third), while others renew theirs, is stalled",
    ),
    key(
        "duplicates.action",
        Field::Duplicates(|s| &mut s.policy.duplicates),
        "what happens to a second file of one pod: `move-out` of the directory (kept and recorded), or `report`",
    ),
    key(
        "etcd.on-revision-regression",
        Field::RevisionRegression(|s| &mut s.policy.on_revision_regression),
        "after etcd was restored to an earlier state: `restart` the components that cached the later one, or `report`",
    ),
    key("paths.manifests", Field::FoundPath(|s| &mut s.paths.manifests), "the kubelet's static pod directory")
        .absent("from the kubelet's configuration", "\"/etc/kubernetes/manifests\""),
    key(
        "paths.inactive-manifests",
        Field::Path(|s| &mut s.paths.inactive_manifests),
        "where lastgood publishes the last known-good manifests",
    ),
    key(
        "paths.staging",
        Field::Path(|s| &mut s.paths.staging),
        "staging directory for manifests, on the same file system as the manifest directory and outside it",
    ),
    key(
        "paths.kubernetes",
        Field::Path(|s| &mut s.paths.kubernetes),
        "the directory whose files belong to a generation when a manifest mounts them",
    ),
    key("paths.state", Field::Path(|s| &mut s.paths.state), "generations, memory and history"),
    key("paths.run", Field::Path(|s| &mut s.paths.run), "directory of the control socket"),
    key("runtime.endpoint", Field::Found(endpoint, |s| &mut s.runtime.endpoint), "the container runtime's CRI socket")
        .absent("the kubelet's", "\"unix:///run/containerd/containerd.sock\""),
    key("runtime.timeout", Field::Duration(Refused, |s| &mut s.runtime.timeout), "time-out of one call to the runtime"),
    key(
        "runtime.restart",
        Field::Words(|s| &mut s.policy.runtime_restart),
        "command that restarts a stalled container runtime",
    ),
    key(
        "runtime.restart-timeout",
        Field::Duration(Refused, |s| &mut s.runtime.restart_timeout),
        "time-out of that command",
    ),
    key("kubelet.config", Field::Path(|s| &mut s.kubelet.config), "the kubelet's `--config`"),
    key("kubelet.kubeconfig", Field::Path(|s| &mut s.kubelet.kubeconfig), "the kubelet's `--kubeconfig`"),
    key("kubelet.healthz", Field::Found(url, |s| &mut s.kubelet.healthz), "the kubelet's health URL")
        .absent("from the kubelet's configuration", "\"http://127.0.0.1:10248/healthz\""),
    key("kubelet.restart", Field::Words(|s| &mut s.policy.kubelet_restart), "command that restarts the kubelet"),
    key(
        "kubelet.restart-timeout",
        Field::Duration(Refused, |s| &mut s.kubelet.restart_timeout),
        "time-out of that command",
    ),
    key(
        "kubelet.log",
        Field::Words(|s| &mut s.kubelet.log),
        "command that prints the last minutes of the kubelet's log; it runs only while something is wrong",
    ),
    key(
        "probes.interval",
        Field::Duration(Refused, |s| &mut s.probes.interval),
        "time between two probes of a component",
    ),
    key("probes.timeout", Field::Duration(Refused, |s| &mut s.probes.timeout), "time-out of one probe"),
    key(
        "loop.interval",
        Field::Duration(Refused, |s| &mut s.agent_loop.interval),
        "time between two passes when no event wakes the agent",
    ),
    key(
        "loop.busy-interval",
        Field::Duration(Refused, |s| &mut s.agent_loop.busy_interval),
        "time between two passes during a rollback",
    ),
    key(
        "loop.longest-gap",
        Field::Duration(Refused, |s| &mut s.agent_loop.longest_gap),
        "time between two passes counts towards soak times and deadlines only up to this gap",
    ),
    key(
        "metrics.textfile",
        Field::FoundPath(|s| &mut s.metrics.textfile),
        "file for the textfile collector of Prometheus' node_exporter; ends in `.prom`",
    )
    .absent("no file is written", "\"/var/lib/prometheus/node-exporter/lastgood.prom\""),
    key(
        "metrics.interval",
        Field::Duration(Refused, |s| &mut s.metrics.interval),
        "time between two writes of that file while no verdict changes",
    ),
];

/// The keys of a configuration, in the order of the file: those of the core, and those of each feature.
#[derive(Clone, Copy)]
pub struct Keys(pub &'static [&'static [Key]]);

impl Keys {
    /// Every key.
    pub fn iter(self) -> impl Iterator<Item = &'static Key> {
        self.0.iter().copied().flatten()
    }

    /// The key of that name.
    pub fn named(self, name: &str) -> Option<&'static Key> {
        self.iter().find(|key| key.name == name)
    }

    /// Whether keys are in a table of that name.
    pub fn has_table(self, name: &str) -> bool {
        self.iter().any(|key| key.split().0 == name)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|key| key.name)).finish()
    }
}

impl Key {
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
            Field::Port(at) => at(s).to_string(),
            Field::Path(at) => quoted(&at(s).to_string_lossy()),
            Field::FoundPath(at) => quoted(&at(s).as_ref()?.to_string_lossy()),
            Field::Found(_, at) => quoted(at(s).as_ref()?),
            Field::Words(at) | Field::Command(at) | Field::Recipients(at) => {
                format!("[{}]", at(s).iter().map(|word| quoted(word)).collect::<Vec<_>>().join(", "))
            }
            Field::Mode(at) => quoted(match at(s) {
                Mode::Act => "act",
                Mode::Observe => "observe",
            }),
            Field::Duplicates(at) => quoted(match at(s) {
                Duplicates::MoveOut => "move-out",
                Duplicates::Report => "report",
            }),
            Field::RevisionRegression(at) => quoted(match at(s) {
                RevisionRegression::Restart => "restart",
                RevisionRegression::Report => "report",
            }),
        })
    }

    /// The same key without a default: `found` stands in for one, and `sample` is a value that a person could write there.
    pub const fn absent(self, found: &'static str, sample: &'static str) -> Self {
        Self { absent: Some((found, sample)), ..self }
    }

    /// What stands in for a default where there is none.
    pub fn found(&self) -> &'static str {
        self.absent.map_or("", |(found, _)| found)
    }

    /// A value that a person could write there, for the shipped example.
    pub(super) fn sample(&self) -> &'static str {
        self.absent.map_or("", |(_, sample)| sample)
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
                    return Err("must be greater than zero".to_owned());
                }
                if parsed > LONGEST {
                    return Err("is longer than a year".to_owned());
                }
                *at(settings) = parsed;
            }
            Field::Small(least, at) => *at(settings) = count(value, *least)?,
            Field::Port(at) => {
                let number = count(value, 0)?;
                let wrong = |_| format!("is {number}, but a TCP port (1 to 65535), or 0 for none, is wanted");
                *at(settings) = u16::try_from(number).map_err(wrong)?;
            }
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
            Field::Command(at) => {
                let none = value.as_array().is_some_and(|list| list.is_empty());
                let words = if none { Vec::new() } else { words(value)? };
                if let Some(program) = words.first() {
                    path_of(program)?;
                }
                *at(settings) = words;
            }
            Field::Recipients(at) => *at(settings) = recipients(value)?,
            Field::Mode(at) => {
                *at(settings) = match text(value, "\"act\" or \"observe\"")? {
                    "act" => Mode::Act,
                    "observe" => Mode::Observe,
                    other => return Err(format!("{other:?} is no mode: write \"act\" or \"observe\"")),
                }
            }
            Field::Duplicates(at) => {
                *at(settings) = match text(value, "\"move-out\" or \"report\"")? {
                    "move-out" => Duplicates::MoveOut,
                    "report" => Duplicates::Report,
                    other => return Err(format!("{other:?} is no action: write \"move-out\" or \"report\"")),
                }
            }
            Field::RevisionRegression(at) => {
                *at(settings) = match text(value, "\"restart\" or \"report\"")? {
                    "restart" => RevisionRegression::Restart,
                    "report" => RevisionRegression::Report,
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
    path_of(text(value, "a path in quotes")?)
}

fn path_of(given: &str) -> Result<PathBuf, String> {
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

fn url(given: &str) -> Result<(), String> {
    let rest = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    match rest {
        Some(rest) if !rest.is_empty() && !rest.starts_with('/') => Ok(()),
        _ => Err(format!("{given:?} is no URL: write it like \"http://127.0.0.1:10248/healthz\"")),
    }
}
