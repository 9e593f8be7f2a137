//! The lines: each value found, compared with its requirement. The limits are etcd's own where it documents one.

use std::time::Duration;

use super::{Examined, Line};
use crate::config::size;
use crate::model::EtcdStatus;
use crate::model::environment::{Pressure, Room, Stall};
use crate::model::etcd::{AlarmKind, Latency, NEAR_QUOTA};
use crate::report::doctor::CheckResult;
use crate::report::etcd::GrowthView;

/// etcd's frequently asked questions: latencies under "failed to send out heartbeat on time" and "apply entries took too
/// long", memory and quota under "System requirements".
pub(super) const FAQ: &str = "https://etcd.io/docs/v3.5/faq/";
/// etcd's hardware recommendations: processors, memory, sequential IOPS.
pub(super) const HARDWARE: &str = "https://etcd.io/docs/v3.5/op-guide/hardware/";
/// When a defragmentation is worth its pause: from 100 MB on, 45 % of it unused, as OpenShift's etcd operator has it.
const OPERATOR: &str = "https://github.com/openshift/cluster-etcd-operator (defragmentation)";
const LASTGOOD: &str = "lastgood";

/// The 99th percentile of the log's fsync stays below this (FAQ).
const FSYNC: Duration = Duration::from_millis(10);
/// And of the database's commits (FAQ).
const COMMIT: Duration = Duration::from_millis(25);
/// Sequential writes a second that are typically required (hardware).
const LIGHT: f64 = 50.0;
/// And for heavily loaded clusters (hardware).
const HEAVY: f64 = 500.0;
/// The largest quota suggested (FAQ); etcd warns beyond it.
const LARGEST_QUOTA: u64 = 8 << 30;
/// The quota of an etcd that is told none (`--quota-backend-bytes`).
const DEFAULT_QUOTA: u64 = 2 << 30;
/// Typical clusters need two to four cores (hardware).
const CORES: usize = 2;
/// Typically 8 GB of memory are enough (hardware); what the kernel and the firmware keep of them is left out of its total.
const MEMORY: u64 = 7_000_000_000;
/// 2 GB at the very least (FAQ), less the same.
const LEAST_MEMORY: u64 = 1_800_000_000;
/// See [`OPERATOR`].
const DEFRAGMENT_FROM: u64 = 100 << 20;
const DEFRAGMENT_UNUSED: u64 = 45;
/// A quota reached within this time is a matter of days: what the agent tells of as well.
const DAYS: Duration = Duration::from_secs(4 * 24 * 3600);
/// And within this one of weeks.
const WEEKS: Duration = Duration::from_secs(60 * 24 * 3600);
/// Of the last minute everything waited for memory in this share, in percent: the agent tells of it as well.
const MEMORY_STALLED: f64 = 10.0;
/// The same of disks.
const IO_STALLED: f64 = 50.0;
/// Something waited for a disk, or for a processor, in this share: etcd's heartbeat is 100 ms, and its election a second.
const SOME_WAITED: f64 = 50.0;

fn line(subject: &str, verdict: CheckResult, found: String, wanted: &str, source: &str, next: &str) -> Line {
    Line {
        subject: subject.to_owned(),
        verdict,
        found,
        wanted: wanted.to_owned(),
        source: source.to_owned(),
        next: (verdict != CheckResult::Ok).then(|| next.to_owned()),
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

const OTHER_DISK: &str =
    "see what else writes to this disk (`iostat -x 1`), and give etcd a faster, dedicated disk: an SSD";

pub(super) fn latencies(examined: &Examined<'_>) -> Vec<Line> {
    let metrics = examined.status.and_then(|status| status.metrics.as_ref());
    let own = |subject: &str, every: Option<Latency>, limit: Duration, wanted: &str| {
        let every = every?;
        let found = format!("median {}, p99 {}, of {} since etcd started", every.p50, every.p99, every.count);
        let verdict = match every.p99.at_most {
            Some(at_most) if at_most <= limit => CheckResult::Ok,
            _ if every.p99.above >= limit => CheckResult::Failed,
            _ => CheckResult::Warning,
        };
        Some(line(subject, verdict, found, wanted, FAQ, OTHER_DISK))
    };
    let mut all: Vec<Line> = [
        own("etcd's WAL fsync", metrics.and_then(|m| m.every_fsync), FSYNC, "p99 below 10 ms"),
        own("etcd's database commits", metrics.and_then(|m| m.every_commit), COMMIT, "p99 below 25 ms"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(measured) = &examined.measured {
        let found = format!(
            "median {}, p99 {}, maximum {}, of {} writes of 2300 bytes",
            ms(measured.p50),
            ms(measured.p99),
            ms(measured.max),
            measured.writes
        );
        let verdict = if measured.p99 < FSYNC { CheckResult::Ok } else { CheckResult::Failed };
        all.push(line("fdatasync, measured", verdict, found, "p99 below 10 ms", FAQ, OTHER_DISK));
        let rate = measured.per_second();
        let verdict = match rate {
            rate if rate >= HEAVY => CheckResult::Ok,
            rate if rate >= LIGHT => CheckResult::Warning,
            _ => CheckResult::Failed,
        };
        let found = format!("{rate:.0} a second");
        let wanted = "50 a second, and 500 under heavy load";
        all.push(line("sequential writes, measured", verdict, found, wanted, HARDWARE, OTHER_DISK));
    }
    if all.is_empty() {
        let found = "nothing was measured, and no etcd reports it".to_owned();
        let next = "`lastgood etcd sizing --write-test` measures it, with test writes";
        all.push(line("the disk's latency", CheckResult::CannotTell, found, "p99 below 10 ms", FAQ, next));
    }
    all
}

pub(super) fn database(examined: &Examined<'_>) -> Vec<Line> {
    let mut all = Vec::new();
    let own = examined.status.and_then(|status| status.own.as_ref().ok());
    let quota = examined.status.and_then(EtcdStatus::quota);
    let bytes = own.and_then(|own| own.db_size).or(examined.db_bytes);
    let full = examined.status.and_then(|status| status.alarm(&AlarmKind::NoSpace)).is_some();
    let room = "`lastgood etcd compact`, `lastgood etcd defrag` on one master after the other, then `lastgood etcd disarm` \
                where the alarm was raised; or a larger --quota-backend-bytes on all members, up to 8 GiB";
    if let Some(bytes) = bytes {
        let (mark, found) = match quota {
            Some(quota) => {
                let percent = bytes.saturating_mul(100) / quota.max(1);
                let mark = if full || percent >= NEAR_QUOTA { CheckResult::Failed } else { CheckResult::Ok };
                (mark, format!("{}, {percent} % of its quota of {}", size::roughly(bytes), size::roughly(quota)))
            }
            None => (CheckResult::CannotTell, format!("{}; its quota is unknown", size::roughly(bytes))),
        };
        let found = if full { format!("{found}; NOSPACE is raised: etcd refuses writes") } else { found };
        let next = if mark == CheckResult::CannotTell { "start etcd: it reports its quota" } else { room };
        all.push(line("database", mark, found, "below 90 % of the quota", LASTGOOD, next));
    }
    if let (Some(bytes), Some(used)) = (bytes, own.and_then(|own| own.db_in_use)) {
        let unused = bytes.saturating_sub(used).saturating_mul(100) / bytes.max(1);
        let worth = bytes >= DEFRAGMENT_FROM && unused >= DEFRAGMENT_UNUSED;
        let mark = if worth { CheckResult::Warning } else { CheckResult::Ok };
        let found = format!("{unused} % of {} is unused", size::roughly(bytes));
        let next =
            "`lastgood etcd defrag` on one master after the other, the leader last: a member does not serve meanwhile";
        all.push(line("fragmentation", mark, found, "below 45 %, or a small database", OPERATOR, next));
    }
    if let Some(growth) = examined.growth {
        let view = GrowthView::new(growth, quota);
        let mark = match view.reaches_quota_in_seconds.map(Duration::from_secs) {
            Some(left) if left <= DAYS => CheckResult::Failed,
            Some(left) if left <= WEEKS => CheckResult::Warning,
            _ => CheckResult::Ok,
        };
        let next = "see what writes so much (`lastgood etcd snapshot show` on two snapshots)";
        all.push(line("growth", mark, view.sentence(), "its quota is more than 60 days away", LASTGOOD, next));
    }
    if let Some(quota) = quota {
        let (mut mark, mut found) = (CheckResult::Ok, size::roughly(quota));
        if quota > LARGEST_QUOTA {
            mark = CheckResult::Warning;
        }
        if let Some(memory) = examined.memory.filter(|memory| *memory < quota) {
            mark = CheckResult::Failed;
            found.push_str(&format!(", and the node has {} of memory", size::roughly(memory)));
        }
        let next = "a smaller --quota-backend-bytes on all members, or more memory";
        all.push(line("quota", mark, found, "at most 8 GiB, and no more than the node's memory", FAQ, next));
    }
    all
}

pub(super) fn disk(examined: &Examined<'_>) -> Vec<Line> {
    let mut all = Vec::new();
    if examined.in_memory {
        let found = "a file system in memory".to_owned();
        let next = "put etcd's data on a disk: in memory they are lost at the next boot, and every latency here is \
                    meaningless";
        all.push(line("file system", CheckResult::Failed, found, "one that survives a power cut", LASTGOOD, next));
    }
    let Some(disk) = examined.disk else { return all };
    let quota = examined.status.and_then(EtcdStatus::quota);
    let own = examined.status.and_then(|status| status.own.as_ref().ok()).and_then(|own| own.db_size);
    let bytes = own.or(examined.db_bytes).unwrap_or_default();
    // What it may grow by, and the copy of what there is that defragmenting makes beside it: the quota, together.
    let wanted = quota.unwrap_or(DEFAULT_QUOTA).max(bytes);
    let mark = match disk.room(0) {
        Room::None | Room::NoInodes | Room::ReadOnly => CheckResult::Failed,
        _ if disk.available < wanted => CheckResult::Warning,
        Room::Little | Room::FewInodes => CheckResult::Warning,
        Room::Enough => CheckResult::Ok,
    };
    let mut found = format!("{} of {}", size::roughly(disk.available), size::roughly(disk.size));
    match disk.room(0) {
        Room::ReadOnly => found.push_str("; it is read-only"),
        Room::NoInodes => found.push_str("; no inodes are left"),
        Room::FewInodes => found.push_str("; few inodes are left"),
        Room::None | Room::Little | Room::Enough => {}
    }
    let wanted = format!("{}: the rest of the quota, and the copy that a defragmentation makes", size::roughly(wanted));
    let next = "free some (`crictl rmi --prune`, `journalctl --vacuum-size=1G`, old backups), or enlarge it";
    all.push(line("free space", mark, found, &wanted, LASTGOOD, next));
    all
}

pub(super) fn pressure(pressure: &Pressure) -> Vec<Line> {
    let rows = [
        ("waiting for disks", pressure.io, IO_STALLED, "`iotop`, `systemd-cgtop -i`"),
        ("waiting for memory", pressure.memory, MEMORY_STALLED, "`systemd-cgtop -m`"),
        ("waiting for processors", pressure.cpu, f64::INFINITY, "`systemd-cgtop`"),
    ];
    let row = |(subject, stall, limit, next): (&str, Option<Stall>, f64, &str)| {
        let Stall { some_60, full_60, .. } = stall?;
        let mark = if full_60 >= limit {
            CheckResult::Failed
        } else if some_60 >= SOME_WAITED {
            CheckResult::Warning
        } else {
            CheckResult::Ok
        };
        let found = format!("something in {some_60:.0} %, everything in {full_60:.0} % of the last minute");
        let wanted = match limit.is_finite() {
            true => format!("something in less than {SOME_WAITED} %, everything in less than {limit} %"),
            false => format!("something in less than {SOME_WAITED} %"),
        };
        let next = format!("see what uses them: {next}");
        Some(line(subject, mark, found, &wanted, LASTGOOD, &next))
    };
    rows.into_iter().filter_map(row).collect()
}

pub(super) fn node(examined: &Examined<'_>) -> Vec<Line> {
    let cores = examined.cores.map(|cores| {
        let mark = if cores >= CORES { CheckResult::Ok } else { CheckResult::Warning };
        let wanted = "two to four; eight to sixteen for thousands of clients";
        line("processors", mark, cores.to_string(), wanted, HARDWARE, "give the node more processors")
    });
    let memory = examined.memory.map(|memory| {
        let mark = match memory {
            memory if memory >= MEMORY => CheckResult::Ok,
            memory if memory >= LEAST_MEMORY => CheckResult::Warning,
            _ => CheckResult::Failed,
        };
        let wanted = "8 GB; 16 to 64 GB for millions of keys; never less than 2 GB";
        line("memory", mark, size::roughly(memory), wanted, HARDWARE, "give the node more memory")
    });
    cores.into_iter().chain(memory).collect()
}
