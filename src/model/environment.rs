//! The environment of the control plane: certificates, disk space, pressure, the clock, and the addresses by which its
//! clients reach the API server. These are observed and reported, and are never a reason to change the node.

use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::reading::SymptomKind;
use super::{ComponentId, Digest, Manifest, Reading};

/// Days before its end at which a certificate is reported, the last first: a month leaves time for an upgrade, which
/// renews what kubeadm made, a week for a change window, a day for a night shift.
pub const WARN_DAYS: [i64; 4] = [1, 7, 14, 30];

/// Within this many days of its end a certificate is urgent: `certs check` fails.
pub const URGENT_DAYS: i64 = 7;

/// A warning comes only in the last tenth of a certificate's life. The kubelet renews its own after 70 to 90 % of it
/// (client-go's `util/certificate`, nextRotationDeadline): one that lives a day is not told of every day.
const LAST_PART: i64 = 10;

const DAY: i64 = 24 * 3600;

/// Who uses a certificate, a kubeconfig, or an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum User {
    /// A static pod of this node.
    Component(ComponentId),
    Kubelet,
    /// People, with kubectl.
    Administrators,
}

impl fmt::Display for User {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Component(id) => id.fmt(f),
            Self::Kubelet => f.write_str("kubelet"),
            Self::Administrators => f.write_str("kubectl"),
        }
    }
}

/// Users as they stand in a sentence.
pub fn listed(users: &BTreeSet<User>) -> String {
    users.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// One certificate that something on this node goes by: the first of a file, of an authority's bundle the one that lasts
/// longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The file it is in: a certificate file, or a kubeconfig that embeds it.
    pub path: PathBuf,
    /// The files of flags that lead to it: itself, or the kubeconfigs that name or embed it.
    pub named: BTreeSet<PathBuf>,
    /// Who uses it.
    pub users: BTreeSet<User>,
    /// The common name of its subject.
    pub subject: String,
    /// The common name of who signed it.
    pub issuer: String,
    /// Valid from, seconds since the epoch.
    pub not_before: i64,
    /// Valid until, seconds since the epoch.
    pub not_after: i64,
    /// Whether it is an authority's.
    pub authority: bool,
    /// Of its bytes: the same one in two files is one certificate.
    pub fingerprint: Digest,
}

/// How a certificate's dates stand to the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validity {
    /// Valid, and its end is far.
    Valid,
    /// Valid for less than this many days: one of [`WARN_DAYS`].
    Ending(i64),
    /// Its end has passed.
    Ended,
    /// Its beginning is ahead.
    NotYet,
}

impl Certificate {
    /// How its dates stand at this time.
    pub fn validity(&self, now: Timestamp) -> Validity {
        let now = now.as_second();
        let (left, life) = (self.not_after.saturating_sub(now), self.not_after.saturating_sub(self.not_before));
        if left < 0 {
            return Validity::Ended;
        }
        if now < self.not_before {
            return Validity::NotYet;
        }
        let due = |days: &&i64| left < **days * DAY && **days * DAY <= life / LAST_PART;
        WARN_DAYS.iter().find(due).map_or(Validity::Valid, |days| Validity::Ending(*days))
    }

    /// What is wrong with its dates, as a sentence that names it; absent while it is valid.
    pub fn trouble(&self, now: Timestamp) -> Option<String> {
        let path = self.path.display();
        match self.validity(now) {
            Validity::Ended => Some(format!("{path} ({}) ended at {}", self.subject, second(self.not_after))),
            Validity::NotYet => {
                Some(format!("{path} ({}) is not valid before {}", self.subject, second(self.not_before)))
            }
            Validity::Valid | Validity::Ending(_) => None,
        }
    }
}

/// A second since the epoch, for people.
pub fn second(second: i64) -> String {
    Timestamp::from_second(second).map_or_else(|_| second.to_string(), |at| at.strftime("%F %TZ").to_string())
}

/// The host paths of the certificates a manifest's flags name, of the API server (`--tls-cert-file`, `--etcd-cafile`,
/// `--kubelet-client-certificate`, `--tls-sni-cert-key=CERT,KEY` …), of etcd (`--peer-trusted-ca-file` …) and of
/// whoever calls its flags so. What no mount brings in is in the image, and is not ours to see.
pub fn certificate_files(manifest: &Manifest) -> BTreeSet<PathBuf> {
    const ENDS: [&str; 6] =
        ["cert-file", "certfile", "ca-file", "cafile", "client-certificate", "certificate-authority"];
    let flags = manifest.flags();
    let plain = flags.iter().filter(|(name, _)| ENDS.iter().any(|end| name.ends_with(end))).flat_map(|(_, all)| all);
    let pairs = flags.get("tls-sni-cert-key").into_iter().flatten().filter_map(|pair| pair.split(',').next());
    let paths = plain.map(String::as_str).chain(pairs).filter(|path| path.starts_with('/'));
    paths.filter_map(|path| manifest.host_path(path.as_ref())).collect()
}

/// The host paths of the kubeconfigs a manifest's flags name (`--kubeconfig`, `--authentication-kubeconfig` …).
pub fn kubeconfig_files(manifest: &Manifest) -> BTreeSet<PathBuf> {
    let flags = manifest.flags();
    let named = flags.iter().filter(|(name, _)| name.ends_with("kubeconfig")).flat_map(|(_, all)| all);
    named.filter(|path| path.starts_with('/')).filter_map(|path| manifest.host_path(path.as_ref())).collect()
}

/// What a file system is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskUse {
    /// etcd's data directory.
    Etcd,
    /// The manifests and what they mount.
    Manifests,
    /// Our own state.
    State,
    /// The kubelet's directory: pods' logs and volumes.
    Kubelet,
    /// The container runtime's images and containers.
    Runtime,
}

impl fmt::Display for DiskUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Etcd => "etcd's data",
            Self::Manifests => "the manifests",
            Self::State => "lastgood's state",
            Self::Kubelet => "the kubelet's directory",
            Self::Runtime => "the container runtime's directory",
        })
    }
}

/// One file system that holds something of ours, as statvfs(3) has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// What it holds, and where: several may be on one.
    pub holds: BTreeSet<(DiskUse, PathBuf)>,
    /// Its size, in bytes; never zero.
    pub size: u64,
    /// What is left for everybody, in bytes.
    pub available: u64,
    /// What is left for root, in bytes: more, where a share is reserved.
    pub free: u64,
    /// Inodes in all; zero where the file system makes them as needed.
    pub inodes: u64,
    pub inodes_free: u64,
    /// Whether it is mounted read-only.
    pub read_only: bool,
}

/// How much room is left on a disk, the worse last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Room {
    Enough,
    /// Little: the kubelet begins to evict, etcd's database cannot grow as far as it may.
    Little,
    FewInodes,
    /// Not one inode: no file can be made there.
    NoInodes,
    /// None: what writes there fails, or will at its next step.
    None,
    /// It cannot be written at all.
    ReadOnly,
}

/// The kubelet evicts below 10 % of its own disk (`nodefs.available`, the default of its evictionHard).
const LITTLE_PERCENT: u64 = 10;
/// And below 5 % of its inodes (`nodefs.inodesFree`).
const FEW_INODES_PERCENT: u64 = 5;
/// Elsewhere a tenth of a large disk is plenty: twice etcd's default quota (`--quota-backend-bytes`, 2 GiB) holds the
/// largest database there may be, and the copy of it that defragmenting makes.
const PLENTY: u64 = 4 << 30;
/// etcd allots its next WAL segment whole (SegmentSizeBytes, 64 MB) and ends itself where that fails; its database grows
/// by 16 MiB at a time (bbolt's DefaultAllocSize). The segment allotted ahead is given back when etcd ends, so that a full
/// disk has just that much room while it does not run.
const LEAST_FOR_ETCD: u64 = 64 * 1000 * 1000 + (16 << 20);
/// Anything else needs this for its next file: the largest that is kept with a generation.
const LEAST: u64 = super::config_files::MAX_FILE_BYTES;

impl Disk {
    /// How much room there is. `margin` percent more is asked for where a shortage was told already, so that a disk on
    /// the edge is not told of again and again.
    pub fn room(&self, margin: u64) -> Room {
        let more = |bytes: u64| bytes.saturating_add(bytes / 100 * margin);
        let holds = |what: DiskUse| self.holds.iter().any(|(held, _)| *held == what);
        if self.read_only {
            return Room::ReadOnly;
        }
        let least = if holds(DiskUse::Etcd) { LEAST_FOR_ETCD } else { LEAST };
        if self.free < more(least) {
            return Room::None;
        }
        if self.inodes > 0 && self.inodes_free == 0 {
            return Room::NoInodes;
        }
        let tenth = self.size / 100 * LITTLE_PERCENT;
        let evicts = holds(DiskUse::Kubelet) || holds(DiskUse::Runtime);
        if self.available < more(if evicts { tenth } else { tenth.min(PLENTY) }) {
            return Room::Little;
        }
        if self.inodes_free < more(self.inodes / 100 * FEW_INODES_PERCENT) {
            return Room::FewInodes;
        }
        Room::Enough
    }

    /// What it holds, for a sentence.
    pub fn held(&self) -> String {
        let all: Vec<String> = self.holds.iter().map(|(what, path)| format!("{what} ({})", path.display())).collect();
        all.join(", ")
    }
}

/// Shares of the time in which tasks waited for a resource, in percent: one file of /proc/pressure. `some` of them
/// waited, or all that wanted to run (`full`), over the last 10 and 60 seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// Some, over 10 s.
    pub some_10: f64,
    /// Some, over 60 s.
    pub some_60: f64,
    /// All, over 10 s; zero of the cpu, where it has no meaning.
    pub full_10: f64,
    /// All, over 60 s.
    pub full_60: f64,
}

/// /proc/pressure; absent where the kernel does not tell.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    /// Of the processors.
    pub cpu: Option<Stall>,
    /// Of the disks.
    pub io: Option<Stall>,
    pub memory: Option<Stall>,
}

/// The wall clock jumped against the boot clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClockJump {
    /// By how many seconds, backwards where negative.
    pub seconds: i64,
}

/// An address kubeconfigs of this node name for the API server that is not this node's own: a load balancer's or a
/// floating one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// The URL, as the kubeconfigs have it.
    pub server: String,
    /// Who uses it, by which kubeconfig.
    pub used: BTreeSet<(User, PathBuf)>,
    /// Whether the address is one of this node.
    pub place: Location,
    /// Whether it takes connections, whatever comes of them.
    pub accepts: Accepts,
    /// What it answered last.
    pub reading: Reading,
    /// When that was, on the boot clock.
    pub at: Duration,
    /// For how long it has answered nothing else but badly, by the boot clock; zero while it answers.
    pub bad_for: Duration,
}

impl Endpoint {
    /// Who uses it, for a sentence.
    pub fn users(&self) -> String {
        listed(&self.used.iter().map(|(user, _)| user.clone()).collect())
    }

    /// What is wrong with it; absent while it answers, or where that is unknown.
    pub fn trouble(&self) -> Option<Trouble> {
        let Reading::Bad(symptom) = &self.reading else { return None };
        Some(match (symptom.kind, self.accepts) {
            (SymptomKind::Refused, _) => Trouble::Refuses,
            (SymptomKind::TimedOut, Accepts::Yes) => Trouble::Silent,
            (SymptomKind::Broken, Accepts::Yes) => Trouble::Closes,
            (SymptomKind::TimedOut | SymptomKind::Broken, Accepts::No) => Trouble::Unreachable,
            _ => Trouble::Wrong,
        })
    }
}

/// Whether an address takes connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accepts {
    Yes,
    /// It does not, or that is unknown.
    No,
}

/// What is wrong with an address of the API server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// It takes connections and answers nothing: a client waits until its own deadline.
    Silent,
    /// It takes connections and ends them: a balancer without a backend.
    Closes,
    /// Nothing listens there.
    Refuses,
    /// No connection comes about: nobody holds the address, or a network is in between.
    Unreachable,
    /// It answers, and not as an API server does.
    Wrong,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Silent => "does not answer, although it takes connections",
            Self::Closes => "does not answer: it takes connections and closes them",
            Self::Refuses => "does not answer: it refuses connections",
            Self::Unreachable => "does not answer: it cannot be reached",
            Self::Wrong => "does not answer as an API server does",
        })
    }
}

/// Where an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Location {
    /// On this node.
    Here,
    /// Elsewhere, or it is unknown.
    Elsewhere,
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn now() -> Timestamp {
        Timestamp::from_second(NOW).unwrap()
    }

    fn certificate(from_days: i64, to_days: i64) -> Certificate {
        Certificate {
            path: "/etc/kubernetes/pki/apiserver.crt".into(),
            named: BTreeSet::new(),
            users: BTreeSet::new(),
            subject: "kube-apiserver".into(),
            issuer: "kubernetes".into(),
            not_before: NOW + from_days * DAY,
            not_after: NOW + to_days * DAY,
            authority: false,
            fingerprint: Digest::of(b"x"),
        }
    }

    #[test]
    fn a_certificate_is_told_of_by_threshold_in_the_last_tenth_of_its_life() {
        let rows = [
            ("of a year, with months to go", -300, 65, Validity::Valid),
            ("of a year, with 29 days to go", -336, 29, Validity::Ending(30)),
            ("of a year, with 13 days to go", -352, 13, Validity::Ending(14)),
            ("of a year, with 6 days to go", -359, 6, Validity::Ending(7)),
            ("of a year, in its last hours", -365, 0, Validity::Ending(1)),
            ("of a year, past its end", -366, -1, Validity::Ended),
            ("of a month, which the kubelet renews in good time", -24, 6, Validity::Valid),
            ("of a month, on its last day", -30, 0, Validity::Ending(1)),
            ("of a day, whose end is always near", -1, 0, Validity::Valid),
            ("from tomorrow on", 1, 300, Validity::NotYet),
        ];
        for (situation, from, to, validity) in rows {
            assert_eq!(certificate(from, to).validity(now()), validity, "a certificate {situation}");
        }
    }

    fn disk(holds: DiskUse, size: u64, left: u64) -> Disk {
        let holds = [(holds, PathBuf::from("/x"))].into();
        Disk { holds, size, available: left, free: left, inodes: 1000, inodes_free: 500, read_only: false }
    }

    #[test]
    fn room_is_measured_by_what_a_disk_holds() {
        const GIB: u64 = 1 << 30;
        let rows = [
            ("the kubelet's, with a twelfth left", disk(DiskUse::Kubelet, 1200 * GIB, 100 * GIB), Room::Little),
            ("etcd's own, large, with a twelfth left", disk(DiskUse::Etcd, 1200 * GIB, 100 * GIB), Room::Enough),
            ("etcd's own, with 3 GiB left", disk(DiskUse::Etcd, 100 * GIB, 3 * GIB), Room::Little),
            (
                "etcd's, with room for no more than a WAL segment",
                disk(DiskUse::Etcd, 100 * GIB, 64_000_000),
                Room::None,
            ),
            ("ours, with as much left", disk(DiskUse::State, 200_000_000, 60_000_000), Room::Enough),
            ("ours, full", disk(DiskUse::State, 200_000_000, 4096), Room::None),
            ("short of inodes", Disk { inodes_free: 40, ..disk(DiskUse::State, GIB, GIB / 2) }, Room::FewInodes),
            ("out of inodes", Disk { inodes_free: 0, ..disk(DiskUse::State, GIB, GIB / 2) }, Room::NoInodes),
            (
                "of a file system that makes inodes as needed",
                Disk { inodes: 0, inodes_free: 0, ..disk(DiskUse::State, GIB, GIB / 2) },
                Room::Enough,
            ),
            ("read-only", Disk { read_only: true, ..disk(DiskUse::State, GIB, GIB / 2) }, Room::ReadOnly),
        ];
        for (situation, disk, room) in rows {
            assert_eq!(disk.room(0), room, "a disk that is {situation}");
        }
        let edge = disk(DiskUse::Kubelet, 100 * GIB, 11 * GIB);
        assert_eq!((edge.room(0), edge.room(20)), (Room::Enough, Room::Little), "on the edge");
    }

    #[test]
    fn the_files_that_flags_name_are_found_on_the_host() {
        let text = "apiVersion: v1\nkind: Pod\nmetadata: {name: kube-apiserver, namespace: kube-system}\nspec: {\
                    volumes: [{name: v, hostPath: {path: /host/pki}}], containers: [{name: a, image: i, \
                    volumeMounts: [{name: v, mountPath: /pki}], command: [kube-apiserver, --tls-cert-file=/pki/a.crt, \
                    --tls-private-key-file=/pki/a.key, --etcd-cafile=/pki/etcd/ca.crt, '--tls-sni-cert-key=/pki/s.crt,/pki/s.key', \
                    --kubelet-client-certificate=/pki/k.crt, --client-ca-file=/in/the/image.crt, \
                    --authentication-kubeconfig=/pki/x.conf]}]}";
        let manifest = Manifest::parse(text.as_bytes().into()).unwrap();
        let paths = |set: BTreeSet<PathBuf>| set.iter().map(|path| path.display().to_string()).collect::<Vec<_>>();
        let certificates = ["/host/pki/a.crt", "/host/pki/etcd/ca.crt", "/host/pki/k.crt", "/host/pki/s.crt"];
        assert_eq!(paths(certificate_files(&manifest)), certificates);
        assert_eq!(paths(kubeconfig_files(&manifest)), ["/host/pki/x.conf"]);
    }
}
