//! One good node, and a deviation for each line.

use super::lines::{FAQ, HARDWARE};
use super::*;
use crate::model::environment::Stall;
use crate::model::etcd::{Alarm, AlarmKind, Latency, MemberStatus, Metrics, Within};

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
    EtcdStatus { own: Ok(says(50 << 20, 40 << 20)), metrics: Some(metrics), ..EtcdStatus::default() }
}

fn a_disk() -> Disk {
    Disk {
        holds: [(crate::model::environment::DiskUse::Etcd, "/var/lib/etcd".into())].into(),
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

/// One that is fit, and one that is not.
pub(in crate::report) fn samples() -> [Sizing; 2] {
    let slow = latency(16, Some(32));
    [sized(|_, _, _| {}), sized(|status, _, _| status.metrics.as_mut().unwrap().every_fsync = slow)]
}

fn mark(sizing: &Sizing, subject: &str) -> CheckResult {
    let line = sizing.lines.iter().find(|line| line.subject == subject);
    let line = line.unwrap_or_else(|| panic!("no line {subject} in {sizing:#?}"));
    assert_eq!(line.verdict == CheckResult::Ok, line.next.is_none(), "what is not well has a next step: {line:?}");
    line.verdict
}

#[test]
fn a_good_disk_under_a_small_database_is_fit() {
    let sizing = sized(|_, _, examined| examined.measured = measured(MS(4), 500));
    assert_eq!((sizing.verdict, sizing.sentence.as_str()), (CheckResult::Ok, "fit for etcd"), "{}", sizing.text());
    for subject in ["etcd's WAL fsync", "etcd's database commits", "fdatasync, measured", "quota", "free space"] {
        assert_eq!(mark(&sizing, subject), CheckResult::Ok);
    }
    assert!(sizing.text().contains(FAQ) && sizing.text().contains(HARDWARE), "{}", sizing.text());
}

#[test]
fn a_bucket_that_holds_the_limit_claims_neither_side() {
    for (above, at_most, verdict) in [
        (4, Some(8), CheckResult::Ok),
        (8, Some(16), CheckResult::Warning),
        (16, Some(32), CheckResult::Failed),
        (8192, None, CheckResult::Failed),
    ] {
        let sizing = sized(|status, _, _| status.metrics.as_mut().unwrap().every_fsync = latency(above, at_most));
        assert_eq!(mark(&sizing, "etcd's WAL fsync"), verdict, "above {above} ms");
    }
}

#[test]
fn what_is_measured_is_held_against_etcds_own_numbers() {
    for (p99, rate, sync, writes) in [
        (MS(2), 500, CheckResult::Ok, CheckResult::Ok),
        (MS(9), 100, CheckResult::Ok, CheckResult::Warning),
        (MS(10), 50, CheckResult::Failed, CheckResult::Warning),
        (MS(40), 25, CheckResult::Failed, CheckResult::Failed),
    ] {
        let sizing = sized(|_, _, examined| examined.measured = measured(p99, rate));
        assert_eq!(mark(&sizing, "fdatasync, measured"), sync, "{p99:?}");
        assert_eq!(mark(&sizing, "sequential writes, measured"), writes, "{rate} a second");
    }
    let nothing = sized(|status, _, _| status.metrics.as_mut().unwrap().every_fsync = None);
    assert_eq!(mark(&nothing, "etcd's database commits"), CheckResult::Ok, "one of the two is something");
    let nothing = sized(|status, _, _| status.metrics = None);
    assert_eq!(mark(&nothing, "the disk's latency"), CheckResult::CannotTell);
    assert_eq!(mark(&nothing, "database"), CheckResult::CannotTell, "nobody tells its quota");
    assert!(!nothing.is_well());
    let room = nothing.lines.iter().find(|line| line.subject == "free space").unwrap();
    assert!(room.wanted.starts_with("2.0 GiB"), "as much as an etcd takes that is told nothing: {room:?}");
}

#[test]
fn a_database_is_measured_by_its_quota_its_growth_and_what_of_it_is_used() {
    let full = sized(|status, _, _| {
        let own = status.own.as_mut().unwrap();
        own.alarms = vec![Alarm { member: 1, kind: AlarmKind::NoSpace }];
    });
    assert_eq!(mark(&full, "database"), CheckResult::Failed);
    let close = sized(|status, _, _| status.own = Ok(says(1900 << 20, 1800 << 20)));
    assert_eq!(mark(&close, "database"), CheckResult::Failed);
    let holes = sized(|status, _, _| status.own = Ok(says(400 << 20, 100 << 20)));
    assert_eq!(mark(&holes, "fragmentation"), CheckResult::Warning);
    let small = sized(|status, _, _| status.own = Ok(says(50 << 20, 1 << 20)));
    assert_eq!(mark(&small, "fragmentation"), CheckResult::Ok, "not worth a pause");
    for (to, verdict) in
        [(50 << 20, CheckResult::Ok), (100 << 20, CheckResult::Warning), (900 << 20, CheckResult::Failed)]
    {
        let growth = Some(Growth { from: 50 << 20, to, over: Duration::from_secs(24 * 3600) });
        let sizing = sized(|_, _, examined| examined.growth = growth);
        assert_eq!(mark(&sizing, "growth"), verdict, "to {to}");
    }
    let huge = sized(|status, _, _| status.metrics.as_mut().unwrap().quota = Some(9 << 30));
    assert_eq!(mark(&huge, "quota"), CheckResult::Failed, "more than the memory");
    let large = sized(|status, _, examined| {
        status.metrics.as_mut().unwrap().quota = Some(9 << 30);
        examined.memory = Some(64 << 30);
    });
    assert_eq!(mark(&large, "quota"), CheckResult::Warning);
}

#[test]
fn the_disk_the_pressure_and_the_node_have_their_lines() {
    let full = sized(|_, disk, _| (disk.free, disk.available) = (1 << 20, 1 << 20));
    assert_eq!(mark(&full, "free space"), CheckResult::Failed);
    let tight = sized(|_, disk, _| disk.available = 1 << 30);
    assert_eq!(mark(&tight, "free space"), CheckResult::Warning, "it may not grow as far as it is allowed to");
    let memory = sized(|_, _, examined| examined.in_memory = true);
    assert_eq!(mark(&memory, "file system"), CheckResult::Failed);
    let stalled = |some_60, full_60| Some(Stall { some_10: 0.0, some_60, full_10: 0.0, full_60 });
    for (some, full, verdict) in
        [(10.0, 5.0, CheckResult::Ok), (60.0, 30.0, CheckResult::Warning), (80.0, 55.0, CheckResult::Failed)]
    {
        let io = stalled(some, full);
        let sizing = sized(|_, _, examined| examined.pressure.io = io);
        assert_eq!(mark(&sizing, "waiting for disks"), verdict);
    }
    for (some, full, verdict) in
        [(9.0, 9.0, CheckResult::Ok), (60.0, 9.0, CheckResult::Warning), (60.0, 10.0, CheckResult::Failed)]
    {
        let memory = stalled(some, full);
        let sizing = sized(|_, _, examined| examined.pressure.memory = memory);
        assert_eq!(mark(&sizing, "waiting for memory"), verdict);
    }
    let busy = sized(|_, _, examined| examined.pressure.cpu = stalled(99.0, 99.0));
    assert_eq!(mark(&busy, "waiting for processors"), CheckResult::Warning, "`full` has no meaning there");
    let poor = sized(|_, _, examined| (examined.cores, examined.memory) = (Some(1), Some(1 << 30)));
    assert_eq!((mark(&poor, "processors"), mark(&poor, "memory")), (CheckResult::Warning, CheckResult::Failed));
    assert!(poor.sentence.starts_with("not fit for etcd: "), "{}", poor.sentence);
    let json = serde_json::to_string(&poor).unwrap();
    assert_eq!(serde_json::from_str::<Sizing>(&json).unwrap(), poor);
}
