//! Whether a disk, a database and a node are fit for etcd, line by line against what etcd's own documentation asks for.
//!
//! ```text
//!   the member's own histograms ─┐
//!   writes measured by us ───────┤
//!   size, quota, growth ─────────┼──▶ a Line each: found, wanted, by whose word, next ──▶ Sizing ──▶ text | JSON | YAML
//!   disk, pressure, processors ──┘
//! ```
//!
//! Pure, like all of this room. Where a histogram's bucket holds the limit, neither side of it is claimed.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::doctor::Mark;
use super::etcd::GrowthView;
use super::text::{lines, section, table};
use crate::config::duration::roughly;
use crate::config::size;
use crate::model::etcd::{AlarmKind, Latency, NEAR_QUOTA};
use crate::model::known::Growth;
use crate::model::surroundings::{Disk, Pressure, Room, Stall};
use crate::model::{ComponentId, EtcdStatus};
use crate::sys::sync_writes::Measured;

/// The version of the printed form: raised when a field changes its meaning, not when one is added.
const VERSION: u32 = 1;

/// etcd's frequently asked questions: latencies under "failed to send out heartbeat on time" and "apply entries took too
/// long", memory and quota under "System requirements".
const FAQ: &str = "https://etcd.io/docs/v3.5/faq/";
/// etcd's hardware recommendations: processors, memory, sequential IOPS.
const HARDWARE: &str = "https://etcd.io/docs/v3.5/op-guide/hardware/";
/// When a defragmentation is worth its pause: from 100 MB on, 45 % of it unused, as OpenShift's etcd operator has it.
const OPERATOR: &str = "https://github.com/openshift/cluster-etcd-operator (defragmentation)";
/// Ours.
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

/// The examination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sizing {
    /// Of this form.
    pub version: u32,
    /// When it was made.
    pub at: Timestamp,
    /// The node's name.
    pub node: String,
    /// The member; absent where the node has none.
    pub component: Option<ComponentId>,
    /// The directory whose file system counts.
    pub directory: String,
    /// The worst of all.
    pub verdict: Mark,
    /// The same as a sentence.
    pub sentence: String,
    /// Every line, the worst first.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// What was looked at.
    pub subject: String,
    /// How it came out.
    pub verdict: Mark,
    /// What was found.
    pub found: String,
    /// What is wanted.
    pub wanted: String,
    /// Who says so: where to read it.
    pub source: String,
    /// What mends it; absent where nothing has to be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// All that is examined.
#[derive(Clone, Debug)]
pub struct Examined<'e> {
    /// When.
    pub at: Timestamp,
    /// The node's name.
    pub node: &'e str,
    /// The member of this node.
    pub component: Option<&'e ComponentId>,
    /// The directory whose file system counts: etcd's log, or another one that was named.
    pub directory: String,
    /// What the member says; absent where there is none.
    pub status: Option<&'e EtcdStatus>,
    /// Bytes of the database file, where the member does not say it.
    pub db_bytes: Option<u64>,
    /// How it grew, as far as that was watched.
    pub growth: Option<Growth>,
    /// The disk.
    pub disk: Option<&'e Disk>,
    /// Whether the file system lies in memory alone.
    pub in_memory: bool,
    /// What tasks wait for.
    pub pressure: Pressure,
    /// Processors of the node.
    pub cores: Option<usize>,
    /// Bytes of its memory.
    pub memory: Option<u64>,
    /// What was measured by writing; absent where nothing was.
    pub measured: Option<Measured>,
}

impl Sizing {
    /// Examines.
    pub fn new(examined: &Examined<'_>) -> Self {
        let mut all = latencies(examined);
        all.extend(database(examined));
        all.extend(disk(examined));
        all.extend(pressure(&examined.pressure));
        all.extend(node(examined));
        all.sort_by_key(|line| std::cmp::Reverse(line.verdict));
        let verdict = all.iter().map(|line| line.verdict).max().unwrap_or(Mark::CannotTell);
        let named: Vec<&str> = all.iter().filter(|l| l.verdict == verdict).map(|l| l.subject.as_str()).collect();
        let named = named.join("; ");
        let sentence = match verdict {
            Mark::Ok => "fit for etcd".to_owned(),
            Mark::Warning => format!("fit for etcd, with little to spare: {named}"),
            Mark::CannotTell => format!("whether it is fit for etcd cannot be told: {named}"),
            Mark::Failed => format!("not fit for etcd: {named}"),
        };
        Self {
            version: VERSION,
            at: examined.at,
            node: examined.node.to_owned(),
            component: examined.component.cloned(),
            directory: examined.directory.clone(),
            verdict,
            sentence,
            lines: all,
        }
    }

    /// Whether it is fit, as far as anybody can tell.
    pub fn is_well(&self) -> bool {
        self.verdict <= Mark::Warning
    }

    /// For people: the worst first, what mends it, who asks for it, and the verdict as the last line.
    pub fn text(&self) -> String {
        let mut table = table(&["VERDICT", "WHAT", "FOUND", "WANTED"]);
        for line in &self.lines {
            table.add_row([line.verdict.to_string(), line.subject.clone(), line.found.clone(), line.wanted.clone()]);
        }
        let mut out = lines(&table);
        let next = self.lines.iter().filter_map(|line| Some(format!("{}: {}", line.subject, line.next.as_ref()?)));
        section(&mut out, "What to do", next);
        let mut sources: Vec<&str> = self.lines.iter().map(|line| line.source.as_str()).collect();
        sources.retain(|source| source.starts_with("https://"));
        sources.sort_unstable();
        sources.dedup();
        section(&mut out, "By the word of", sources.into_iter().map(str::to_owned));
        let node = if self.node.is_empty() { "this node" } else { &self.node };
        out.push_str(&format!("\n{node}, {}: {}\n", self.directory, self.sentence));
        out
    }
}

fn line(subject: &str, verdict: Mark, found: String, wanted: &str, source: &str, next: &str) -> Line {
    Line {
        subject: subject.to_owned(),
        verdict,
        found,
        wanted: wanted.to_owned(),
        source: source.to_owned(),
        next: (verdict != Mark::Ok).then(|| next.to_owned()),
    }
}

fn ms(duration: Duration) -> String {
    format!("{:.1} ms", duration.as_secs_f64() * 1000.0)
}

const OTHER_DISK: &str =
    "see who else writes to this disk (`iostat -x 1`), and give etcd a faster one of its own: an SSD, not shared";

fn latencies(examined: &Examined<'_>) -> Vec<Line> {
    let metrics = examined.status.and_then(|status| status.metrics.as_ref());
    let own = |subject: &str, every: Option<Latency>, limit: Duration, wanted: &str| {
        let every = every?;
        let found = format!("half {}, 99 in 100 {}, of {} since etcd started", every.p50, every.p99, every.count);
        let verdict = match every.p99.at_most {
            Some(at_most) if at_most <= limit => Mark::Ok,
            _ if every.p99.above >= limit => Mark::Failed,
            _ => Mark::Warning,
        };
        Some(line(subject, verdict, found, wanted, FAQ, OTHER_DISK))
    };
    let mut all: Vec<Line> = [
        own("etcd's log on disk", metrics.and_then(|m| m.every_fsync), FSYNC, "99 in 100 below 10 ms"),
        own("etcd's database commits", metrics.and_then(|m| m.every_commit), COMMIT, "99 in 100 below 25 ms"),
    ]
    .into_iter()
    .flatten()
    .collect();
    if let Some(measured) = &examined.measured {
        let found = format!(
            "half {}, 99 in 100 {}, the longest {}, of {} writes of 2300 bytes",
            ms(measured.p50),
            ms(measured.p99),
            ms(measured.max),
            measured.writes
        );
        let verdict = if measured.p99 < FSYNC { Mark::Ok } else { Mark::Failed };
        all.push(line("fdatasync, measured", verdict, found, "99 in 100 below 10 ms", FAQ, OTHER_DISK));
        let rate = measured.per_second();
        let verdict = match rate {
            rate if rate >= HEAVY => Mark::Ok,
            rate if rate >= LIGHT => Mark::Warning,
            _ => Mark::Failed,
        };
        let found = format!("{rate:.0} a second");
        let wanted = "50 a second, and 500 under heavy load";
        all.push(line("sequential writes, measured", verdict, found, wanted, HARDWARE, OTHER_DISK));
    }
    if all.is_empty() {
        let found = "nothing was measured, and no etcd tells".to_owned();
        let next = "`lastgood etcd sizing --write-test` measures it, with writes of its own";
        all.push(line("the disk's latency", Mark::CannotTell, found, "99 in 100 below 10 ms", FAQ, next));
    }
    all
}

fn database(examined: &Examined<'_>) -> Vec<Line> {
    let mut all = Vec::new();
    let own = examined.status.and_then(|status| status.own.as_ref());
    let quota = examined.status.and_then(EtcdStatus::quota);
    let bytes = own.and_then(|own| own.db_size).or(examined.db_bytes);
    let full = examined.status.and_then(|status| status.alarm(&AlarmKind::NoSpace)).is_some();
    let room = "`etcdctl compact` to the present revision and `etcdctl defrag` on each member, then `etcdctl alarm \
                disarm` where it was raised; or a larger --quota-backend-bytes on all members, up to 8 GiB";
    if let Some(bytes) = bytes {
        let (mark, found) = match quota {
            Some(quota) => {
                let percent = bytes.saturating_mul(100) / quota.max(1);
                let mark = if full || percent >= NEAR_QUOTA { Mark::Failed } else { Mark::Ok };
                (mark, format!("{}, {percent} % of its quota of {}", size::roughly(bytes), size::roughly(quota)))
            }
            None => (Mark::CannotTell, format!("{}; its quota is not told", size::roughly(bytes))),
        };
        let found = if full { format!("{found}; NOSPACE is raised: nothing is written any more") } else { found };
        let next = if mark == Mark::CannotTell { "start etcd: it tells its quota" } else { room };
        all.push(line("database", mark, found, "below 90 % of the quota", LASTGOOD, next));
    }
    if let (Some(bytes), Some(used)) = (bytes, own.and_then(|own| own.db_in_use)) {
        let unused = bytes.saturating_sub(used).saturating_mul(100) / bytes.max(1);
        let worth = bytes >= DEFRAGMENT_FROM && unused >= DEFRAGMENT_UNUSED;
        let mark = if worth { Mark::Warning } else { Mark::Ok };
        let found = format!("{unused} % of {} is unused", size::roughly(bytes));
        let next = "`etcdctl defrag`, one member after the other, the leader last: it serves nobody meanwhile";
        all.push(line("fragmentation", mark, found, "below 45 %, or a small database", OPERATOR, next));
    }
    if let Some(growth) = examined.growth {
        let view = GrowthView::new(growth, quota);
        let mark = match view.reaches_quota_in_seconds.map(Duration::from_secs) {
            Some(left) if left <= DAYS => Mark::Failed,
            Some(left) if left <= WEEKS => Mark::Warning,
            _ => Mark::Ok,
        };
        let next = "see what writes so much (`lastgood etcd snapshot show` on two snapshots)";
        all.push(line("growth", mark, view.sentence(), "its quota is more than 60 days away", LASTGOOD, next));
    }
    if let Some(quota) = quota {
        let (mut mark, mut found) = (Mark::Ok, size::roughly(quota));
        if quota > LARGEST_QUOTA {
            mark = Mark::Warning;
        }
        if let Some(memory) = examined.memory.filter(|memory| *memory < quota) {
            mark = Mark::Failed;
            found.push_str(&format!(", and the node has {} of memory", size::roughly(memory)));
        }
        let next = "a smaller --quota-backend-bytes on all members, or more memory";
        all.push(line("quota", mark, found, "at most 8 GiB, and no more than the node's memory", FAQ, next));
    }
    all
}

fn disk(examined: &Examined<'_>) -> Vec<Line> {
    let mut all = Vec::new();
    if examined.in_memory {
        let found = "a file system in memory".to_owned();
        let next = "put etcd's data on a disk: with the machine's next start they are gone, and every latency here says \
                    nothing";
        all.push(line("file system", Mark::Failed, found, "one that outlives a power cut", LASTGOOD, next));
    }
    let Some(disk) = examined.disk else { return all };
    let quota = examined.status.and_then(EtcdStatus::quota);
    let own = examined.status.and_then(|status| status.own.as_ref()).and_then(|own| own.db_size);
    let bytes = own.or(examined.db_bytes).unwrap_or_default();
    // What it may grow by, and the copy of what there is that defragmenting makes beside it: the quota, together.
    let wanted = quota.unwrap_or_default().max(bytes);
    let mark = match disk.room(0) {
        Room::None | Room::NoInodes | Room::ReadOnly => Mark::Failed,
        _ if disk.available < wanted => Mark::Warning,
        Room::Little | Room::FewInodes => Mark::Warning,
        Room::Enough => Mark::Ok,
    };
    let mut found = format!("{} of {}", size::roughly(disk.available), size::roughly(disk.size));
    match disk.room(0) {
        Room::ReadOnly => found.push_str("; it is read-only"),
        Room::NoInodes => found.push_str("; no inodes are left"),
        Room::FewInodes => found.push_str("; few inodes are left"),
        Room::None | Room::Little | Room::Enough => {}
    }
    let wanted =
        format!("{}: what the database may grow by, and the copy that defragmenting makes", size::roughly(wanted));
    let next = "free some (`crictl rmi --prune`, `journalctl --vacuum-size=1G`, old backups), or enlarge it";
    all.push(line("free room", mark, found, &wanted, LASTGOOD, next));
    all
}

fn pressure(pressure: &Pressure) -> Vec<Line> {
    let rows = [
        ("waiting for disks", pressure.io, IO_STALLED, "`iotop`, `systemd-cgtop -i`"),
        ("waiting for memory", pressure.memory, MEMORY_STALLED, "`systemd-cgtop -m`"),
        ("waiting for processors", pressure.cpu, f64::INFINITY, "`systemd-cgtop`"),
    ];
    let row = |(subject, stall, limit, next): (&str, Option<Stall>, f64, &str)| {
        let Stall { some_60, full_60, .. } = stall?;
        let mark = if full_60 >= limit {
            Mark::Failed
        } else if some_60 >= SOME_WAITED {
            Mark::Warning
        } else {
            Mark::Ok
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

fn node(examined: &Examined<'_>) -> Vec<Line> {
    let cores = examined.cores.map(|cores| {
        let mark = if cores >= CORES { Mark::Ok } else { Mark::Warning };
        let wanted = "two to four; eight to sixteen for thousands of clients";
        line("processors", mark, cores.to_string(), wanted, HARDWARE, "give the node more processors")
    });
    let memory = examined.memory.map(|memory| {
        let mark = match memory {
            memory if memory >= MEMORY => Mark::Ok,
            memory if memory >= LEAST_MEMORY => Mark::Warning,
            _ => Mark::Failed,
        };
        let wanted = "8 GB; 16 to 64 GB for millions of keys; never less than 2 GB";
        line("memory", mark, size::roughly(memory), wanted, HARDWARE, "give the node more memory")
    });
    cores.into_iter().chain(memory).collect()
}

/// That a measurement is about to be made beside an etcd that runs.
pub fn beside_a_running_etcd(writes: u32, longest: Duration) -> String {
    format!(
        "An etcd runs on this disk. Up to {writes} writes, each followed by fdatasync, for {} at most, are made beside its \
         own: it may answer slower meanwhile, and on a slow disk lose its leadership for a moment.",
        roughly(longest)
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::etcd::{Alarm, MemberStatus, Metrics, Within};

    const MS: fn(u64) -> Duration = Duration::from_millis;

    fn says(db_size: u64, in_use: u64) -> MemberStatus {
        MemberStatus {
            version: "3.5.16".into(),
            cluster: 1,
            member: 1,
            leader: Some(1),
            term: 1,
            raft_index: 1,
            applied_index: None,
            revision: 1,
            db_size: Some(db_size),
            db_in_use: Some(in_use),
            quota: None,
            learner: false,
            alarms: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn latency(above: u64, at_most: Option<u64>) -> Option<Latency> {
        let within = Within { above: MS(above), at_most: at_most.map(MS) };
        Some(Latency { count: 9, p50: Within { above: MS(0), at_most: Some(MS(1)) }, p99: within })
    }

    /// An etcd on a good disk of a good node.
    fn etcd() -> EtcdStatus {
        let metrics = Metrics {
            every_fsync: latency(2, Some(4)),
            every_commit: latency(8, Some(16)),
            quota: Some(2 << 30),
            ..Metrics::default()
        };
        EtcdStatus { own: Some(says(50 << 20, 40 << 20)), metrics: Some(metrics), ..EtcdStatus::default() }
    }

    fn a_disk() -> Disk {
        Disk {
            holds: [(crate::model::surroundings::DiskUse::Etcd, "/var/lib/etcd".into())].into(),
            size: 100 << 30,
            available: 50 << 30,
            free: 50 << 30,
            inodes: 1000,
            inodes_free: 900,
            read_only: false,
        }
    }

    fn measured(p99: Duration, per_second: u64) -> Option<Measured> {
        let took = Duration::from_secs(1000 / per_second);
        Some(Measured { writes: 1000, took, p50: MS(1), p99, max: p99 * 2 })
    }

    fn sized(change: impl FnOnce(&mut EtcdStatus, &mut Disk, &mut Examined<'_>)) -> Sizing {
        let (mut status, mut disk) = (etcd(), a_disk());
        let component = ComponentId::system("etcd");
        let mut examined = Examined {
            at: Timestamp::UNIX_EPOCH,
            node: "m1",
            component: Some(&component),
            directory: "/var/lib/etcd".into(),
            status: None,
            db_bytes: None,
            growth: None,
            disk: None,
            in_memory: false,
            pressure: Pressure::default(),
            cores: Some(4),
            memory: Some(8_000_000_000),
            measured: None,
        };
        change(&mut status, &mut disk, &mut examined);
        let examined = Examined { status: Some(&status), disk: Some(&disk), ..examined };
        Sizing::new(&examined)
    }

    fn mark(sizing: &Sizing, subject: &str) -> Mark {
        let line = sizing.lines.iter().find(|line| line.subject == subject);
        let line = line.unwrap_or_else(|| panic!("no line {subject} in {sizing:#?}"));
        assert_eq!(line.verdict == Mark::Ok, line.next.is_none(), "what is not well has a next step: {line:?}");
        line.verdict
    }

    #[test]
    fn a_good_disk_under_a_small_database_is_fit() {
        let sizing = sized(|_, _, examined| examined.measured = measured(MS(4), 500));
        assert_eq!((sizing.verdict, sizing.sentence.as_str()), (Mark::Ok, "fit for etcd"), "{}", sizing.text());
        for subject in ["etcd's log on disk", "etcd's database commits", "fdatasync, measured", "quota", "free room"] {
            assert_eq!(mark(&sizing, subject), Mark::Ok);
        }
        assert!(sizing.text().contains(FAQ) && sizing.text().contains(HARDWARE), "{}", sizing.text());
    }

    #[test]
    fn a_bucket_that_holds_the_limit_claims_neither_side() {
        for (above, at_most, verdict) in [
            (4, Some(8), Mark::Ok),
            (8, Some(16), Mark::Warning),
            (16, Some(32), Mark::Failed),
            (8192, None, Mark::Failed),
        ] {
            let sizing = sized(|status, _, _| status.metrics.as_mut().unwrap().every_fsync = latency(above, at_most));
            assert_eq!(mark(&sizing, "etcd's log on disk"), verdict, "above {above} ms");
        }
    }

    #[test]
    fn what_is_measured_is_held_against_etcds_own_numbers() {
        for (p99, rate, sync, writes) in [
            (MS(2), 500, Mark::Ok, Mark::Ok),
            (MS(9), 100, Mark::Ok, Mark::Warning),
            (MS(10), 50, Mark::Failed, Mark::Warning),
            (MS(40), 25, Mark::Failed, Mark::Failed),
        ] {
            let sizing = sized(|_, _, examined| examined.measured = measured(p99, rate));
            assert_eq!(mark(&sizing, "fdatasync, measured"), sync, "{p99:?}");
            assert_eq!(mark(&sizing, "sequential writes, measured"), writes, "{rate} a second");
        }
        let nothing = sized(|status, _, _| status.metrics.as_mut().unwrap().every_fsync = None);
        assert_eq!(mark(&nothing, "etcd's database commits"), Mark::Ok, "one of the two is something");
        let nothing = sized(|status, _, _| status.metrics = None);
        assert_eq!(mark(&nothing, "the disk's latency"), Mark::CannotTell);
        assert_eq!(mark(&nothing, "database"), Mark::CannotTell, "nobody tells its quota");
        assert!(!nothing.is_well());
    }

    #[test]
    fn a_database_is_measured_by_its_quota_its_growth_and_what_of_it_is_used() {
        let full = sized(|status, _, _| {
            let own = status.own.as_mut().unwrap();
            own.alarms = vec![Alarm { member: 1, kind: AlarmKind::NoSpace }];
        });
        assert_eq!(mark(&full, "database"), Mark::Failed);
        let close = sized(|status, _, _| status.own = Some(says(1900 << 20, 1800 << 20)));
        assert_eq!(mark(&close, "database"), Mark::Failed);
        let holes = sized(|status, _, _| status.own = Some(says(400 << 20, 100 << 20)));
        assert_eq!(mark(&holes, "fragmentation"), Mark::Warning);
        let small = sized(|status, _, _| status.own = Some(says(50 << 20, 1 << 20)));
        assert_eq!(mark(&small, "fragmentation"), Mark::Ok, "not worth a pause");
        for (to, verdict) in [(50 << 20, Mark::Ok), (100 << 20, Mark::Warning), (900 << 20, Mark::Failed)] {
            let growth = Some(Growth { from: 50 << 20, to, over: Duration::from_secs(24 * 3600) });
            let sizing = sized(|_, _, examined| examined.growth = growth);
            assert_eq!(mark(&sizing, "growth"), verdict, "to {to}");
        }
        let huge = sized(|status, _, _| status.metrics.as_mut().unwrap().quota = Some(9 << 30));
        assert_eq!(mark(&huge, "quota"), Mark::Failed, "more than the memory");
        let large = sized(|status, _, examined| {
            status.metrics.as_mut().unwrap().quota = Some(9 << 30);
            examined.memory = Some(64 << 30);
        });
        assert_eq!(mark(&large, "quota"), Mark::Warning);
    }

    #[test]
    fn the_disk_the_pressure_and_the_node_have_their_lines() {
        let full = sized(|_, disk, _| (disk.free, disk.available) = (1 << 20, 1 << 20));
        assert_eq!(mark(&full, "free room"), Mark::Failed);
        let tight = sized(|_, disk, _| disk.available = 1 << 30);
        assert_eq!(mark(&tight, "free room"), Mark::Warning, "it may not grow as far as it is allowed to");
        let memory = sized(|_, _, examined| examined.in_memory = true);
        assert_eq!(mark(&memory, "file system"), Mark::Failed);
        let stalled = |some_60, full_60| Some(Stall { some_10: 0.0, some_60, full_10: 0.0, full_60 });
        for (some, full, verdict) in [(10.0, 5.0, Mark::Ok), (60.0, 30.0, Mark::Warning), (80.0, 55.0, Mark::Failed)] {
            let io = stalled(some, full);
            let sizing = sized(|_, _, examined| examined.pressure.io = io);
            assert_eq!(mark(&sizing, "waiting for disks"), verdict);
        }
        let busy = sized(|_, _, examined| examined.pressure.cpu = stalled(99.0, 99.0));
        assert_eq!(mark(&busy, "waiting for processors"), Mark::Warning, "`full` has no meaning there");
        let poor = sized(|_, _, examined| (examined.cores, examined.memory) = (Some(1), Some(1 << 30)));
        assert_eq!((mark(&poor, "processors"), mark(&poor, "memory")), (Mark::Warning, Mark::Failed));
        assert!(poor.sentence.starts_with("not fit for etcd: "), "{}", poor.sentence);
        let json = serde_json::to_string(&poor).unwrap();
        assert_eq!(serde_json::from_str::<Sizing>(&json).unwrap(), poor);
    }
}
