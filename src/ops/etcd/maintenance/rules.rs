//! What may be done: a plan, or a refusal with the next step. Functions of what was seen, without I/O.

use std::time::Duration;

use super::look::{Asked, Cluster, Here};
use crate::config::{duration, size};
use crate::model::etcd::{AlarmKind, MemberStatus};
use crate::ops::failure::Failure;
use crate::report::{EtcdPlan, EtcdPlanAlarm, EtcdPlanMember, EtcdWork};

/// Bytes in use that a defragmentation copies in a second: a fourth of the slowest that was measured (etcd 3.4.23, 3.5.16
/// and 3.5.30 with values of 1 kB and 20 kB copy 62 to 118 MiB/s on an SSD), for a slower or busier disk.
const PACE: u64 = 15 << 20;
/// For opening the new database, whatever its size.
const AT_LEAST: Duration = Duration::from_secs(2);
/// The largest request by default (`--max-request-bytes`): a database with less room than this below its quota raises the
/// alarm again.
const ONE_REQUEST: u64 = 3 << 19;

/// Which members are defragmented.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Targets {
    /// The one of this node.
    Local,
    All,
    /// By name or by ID in hex.
    Named(String),
}

/// Whether a member may be defragmented of whose disk and liveness probe nothing is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unchecked {
    Accepted,
    Refused,
}

/// Why something is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Why {
    /// CORRUPT is raised.
    Corrupt,
    /// No quorum, or none without the member.
    Quorum,
    /// A member does not answer.
    Silent,
    NoSuchMember,
    /// The disk has no room for a second database.
    Room,
    /// How large the database is, is unknown, and with it the room and the time that are needed.
    Size,
    /// The kubelet would end the container before the end.
    Probe,
    /// The liveness probe counts NOSPACE, and the kubelet is ending the container already.
    ProbeCountsAlarm,
    /// A member of another node, of which nothing is known here.
    Unchecked,
    /// The database is still at its quota.
    OverQuota,
    /// No such revision yet.
    Future,
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) why: Why,
    pub(crate) sentence: String,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::refused(format!("refused: {}", refused.sentence))
    }
}

fn refused<T>(why: Why, sentence: String) -> Result<T, Refused> {
    Err(Refused { why, sentence })
}

/// How long a defragmentation takes at the most, by estimate.
pub(super) fn estimate(status: &MemberStatus) -> Duration {
    let copied = status.db_in_use.or(status.db_size).unwrap_or_default();
    AT_LEAST + Duration::from_secs(copied.div_ceil(PACE))
}

/// Compacts the history to this revision, or to the one that the rules choose.
pub(crate) fn compact(cluster: &Cluster, here: &Here, to: Option<i64>) -> Result<EtcdPlan, Refused> {
    not_corrupt(cluster, here)?;
    let revision = agreed(cluster)?;
    let full = cluster.alarms().iter().any(|(_, kind)| *kind == AlarmKind::NoSpace);
    let (to, margin) = match (to, cluster.mark) {
        (Some(to), _) if to > revision || to <= 0 => {
            return refused(
                Why::Future,
                format!(
                    "the newest revision is {revision}, and {to} is none; next: give a revision from 1 to {revision}"
                ),
            );
        }
        (Some(to), _) => (to, "as --revision names it".to_owned()),
        (None, _) if full => (revision, "the newest one, since nothing is written while NOSPACE is raised".to_owned()),
        (None, Some(mark)) if mark < revision => {
            (mark, "kube-apiserver's last mark, so that the history of up to 5 minutes remains".to_owned())
        }
        (None, _) => (revision, "the newest one, since kube-apiserver has left no older mark".to_owned()),
    };
    let mut plan = plan(EtcdWork::Compact, cluster, here, revision);
    plan.compact_to = Some(to);
    plan.steps.push(format!("compact the history to revision {to} ({margin}), and wait until etcd has removed it"));
    plan.effects
        .push("no current value is changed; a client that watches from an older revision reads all again".to_owned());
    plan.effects.push("the database file keeps its size until `lastgood etcd defrag`".to_owned());
    Ok(plan)
}

/// Defragments members, one after the other. The IDs are in order.
pub(crate) fn defrag(
    cluster: &Cluster,
    here: &Here,
    targets: &Targets,
    unchecked: Unchecked,
) -> Result<(Vec<u64>, EtcdPlan), Refused> {
    not_corrupt(cluster, here)?;
    let revision = agreed(cluster)?;
    let mut chosen = chosen(cluster, targets)?;
    // The leader last: another member that is down moves no leader.
    chosen.sort_by_key(|asked| Some(asked.member.id) == cluster.leader());
    let mut longest = Duration::ZERO;
    for asked in &chosen {
        let status = answered(asked)?;
        keeps_quorum(cluster, asked)?;
        let Some(size) = status.db_size else {
            return refused(
                Why::Size,
                format!(
                    "{} does not report the size of its database, so the room and the time for a defragmentation are \
                     unknown; next: `{} endpoint status --cluster -w table`",
                    asked.name(),
                    here.etcdctl
                ),
            );
        };
        if asked.member.id == cluster.own {
            fits(here, size, status, cluster)?;
        } else if unchecked == Unchecked::Refused {
            let name = asked.name();
            return refused(
                Why::Unchecked,
                format!(
                    "{name} runs on another node, and neither its free disk space nor its liveness probe can be read \
                     here; next: run `lastgood etcd defrag` on the node of {name}, or look at both and add \
                     --accept-unchecked"
                ),
            );
        }
        longest = longest.max(estimate(status));
    }
    let mut plan = plan(EtcdWork::Defrag, cluster, here, revision);
    for asked in &chosen {
        let role = if Some(asked.member.id) == cluster.leader() { ", the leader" } else { "" };
        plan.steps.push(format!("defragment {}{role}, and wait until it answers a linearizable read", asked.name()));
    }
    let seconds = longest.as_secs();
    plan.away_seconds = Some(seconds);
    plan.effects
        .push(format!("a member answers nothing while it is defragmented, for at most {seconds} s by estimate"));
    match voters(cluster).count() {
        0 | 1 => plan.effects.push(
            "this is the only member: it is defragmented nevertheless, and the API is away meanwhile; running pods go on"
                .to_owned(),
        ),
        2 => plan.effects.push(
            "a cluster of two tolerates the loss of no member: kube-apiserver gets no answers meanwhile on either master"
                .to_owned(),
        ),
        _ => {}
    }
    if let Some(own) = chosen.iter().find(|asked| asked.member.id == cluster.own) {
        plan.effects.push("lastgood on this node acts on nothing meanwhile".to_owned());
        plan.effects.extend(own.answer.as_ref().ok().and_then(|status| restarts_apiserver(here, status)));
    }
    if chosen.iter().any(|asked| asked.member.id != cluster.own) {
        plan.effects.push(
            "free disk space and liveness probe of the members of other nodes are not checked; lastgood on those nodes \
             may take the pause for a stall: run `lastgood pause` there first"
                .to_owned(),
        );
    }
    Ok((chosen.iter().map(|asked| asked.member.id).collect(), plan))
}

/// What the kubelet does to kube-apiserver of this node meanwhile, whose liveness probe asks etcd.
fn restarts_apiserver(here: &Here, status: &MemberStatus) -> Option<String> {
    let limit = here.apiserver.as_ref().filter(|limit| estimate(status) >= limit.ends_after)?;
    Some(format!(
        "the kubelet may restart kube-apiserver of this node: its livenessProbe waits {} for an answer (failureThreshold \
         {} times periodSeconds {}), and it gives none without etcd; it serves again after etcd does",
        duration::roughly(limit.ends_after),
        limit.threshold,
        limit.period.as_secs()
    ))
}

/// Disarms every NOSPACE alarm. The members whose alarm it is.
pub(crate) fn disarm(cluster: &Cluster, here: &Here) -> Result<(Vec<u64>, EtcdPlan), Refused> {
    not_corrupt(cluster, here)?;
    let revision = agreed(cluster)?;
    let alarms = cluster.alarms();
    let raised: Vec<u64> = alarms.iter().filter(|(_, kind)| *kind == AlarmKind::NoSpace).map(|(id, _)| *id).collect();
    let mut plan = plan(EtcdWork::Disarm, cluster, here, revision);
    if raised.is_empty() {
        plan.effects.push("no NOSPACE alarm is raised: nothing to do".to_owned());
        return Ok((raised, plan));
    }
    // Any member at its quota raises the alarm again with its next write.
    for asked in &cluster.members {
        let status = match &asked.answer {
            Ok(status) => status,
            Err(_) if raised.contains(&asked.member.id) => answered(asked)?,
            Err(_) => continue,
        };
        has_room(asked, status, quota(cluster, here, asked))?;
    }
    for id in &raised {
        plan.steps.push(format!("disarm NOSPACE of {}", cluster.name(*id)));
    }
    plan.steps.push("write a key, read it back, and delete it".to_owned());
    plan.effects.push("etcd accepts writes again".to_owned());
    let silent: Vec<String> = cluster.members.iter().filter(|asked| asked.answer.is_err()).map(Asked::name).collect();
    if !silent.is_empty() {
        let silent = silent.join(", ");
        plan.effects.push(format!("{silent} did not answer: at its quota, it raises the alarm again"));
    }
    Ok((raised, plan))
}

fn has_room(asked: &Asked, status: &MemberStatus, quota: Option<u64>) -> Result<(), Refused> {
    let name = asked.name();
    let (Some(size), Some(quota)) = (status.db_size, quota) else {
        return refused(
            Why::OverQuota,
            format!(
                "the size of the database of {name} or its quota is unknown, so the alarm may be raised again at once; \
                 next: `lastgood etcd status` on the node of {name}"
            ),
        );
    };
    if size.saturating_add(ONE_REQUEST.min(quota / 8)) < quota {
        return Ok(());
    }
    refused(
        Why::OverQuota,
        format!(
            "the database of {name} has {} of the {} it may have, so the alarm is raised again at once; next: 1. \
             `lastgood etcd compact`, 2. `lastgood etcd defrag` on the node of {name}, 3. `lastgood etcd disarm`; where \
             that frees too little, a larger --quota-backend-bytes on all members",
            size::roughly(size),
            size::roughly(quota)
        ),
    )
}

/// The quota of a member: as it reports it, or else that of this node, as all members of a cluster should have one.
fn quota(cluster: &Cluster, here: &Here, asked: &Asked) -> Option<u64> {
    let told = asked.answer.as_ref().ok().and_then(|status| status.quota).filter(|quota| *quota > 0);
    let own = cluster.find(cluster.own).and_then(|own| own.answer.as_ref().ok()?.quota).filter(|quota| *quota > 0);
    told.or(here.quota).or(own)
}

/// With data that differ nothing is removed or rewritten: what shows the difference is kept.
fn not_corrupt(cluster: &Cluster, here: &Here) -> Result<(), Refused> {
    let alarms = cluster.alarms();
    let Some((id, _)) = alarms.iter().find(|(_, kind)| *kind == AlarmKind::Corrupt) else { return Ok(()) };
    let ctl = &here.etcdctl;
    refused(
        Why::Corrupt,
        format!(
            "CORRUPT is raised for {}: members have different data, and neither compacting, defragmenting nor disarming \
             cures that; next: `{ctl} endpoint hashkv --cluster` shows which member differs; remove that member and add \
             it again with an empty data directory, then `{ctl} alarm disarm`",
            cluster.name(*id)
        ),
    )
}

fn agreed(cluster: &Cluster) -> Result<i64, Refused> {
    match &cluster.revision {
        Ok(revision) => Ok(*revision),
        Err(why) => refused(
            Why::Quorum,
            format!("the member of this node answers no linearizable read ({why}); next: `lastgood etcd status`"),
        ),
    }
}

fn chosen<'c>(cluster: &'c Cluster, targets: &Targets) -> Result<Vec<&'c Asked>, Refused> {
    let chosen: Vec<&Asked> = match targets {
        Targets::All => cluster.members.iter().collect(),
        Targets::Local => cluster.find(cluster.own).into_iter().collect(),
        Targets::Named(name) => {
            let is = |asked: &&Asked| asked.member.name == *name || format!("{:x}", asked.member.id) == *name;
            cluster.members.iter().filter(is).collect()
        }
    };
    match (&chosen[..], targets) {
        ([], _) => {
            let known: Vec<String> = cluster.members.iter().map(Asked::name).collect();
            refused(Why::NoSuchMember, format!("there is no such member; next: name one of {}", known.join(", ")))
        }
        ([_, _, ..], Targets::Named(name)) => refused(
            Why::NoSuchMember,
            format!("several members are called {name}; next: give the ID, as `lastgood etcd status` shows it"),
        ),
        _ => Ok(chosen),
    }
}

fn answered(asked: &Asked) -> Result<&MemberStatus, Refused> {
    match &asked.answer {
        Ok(status) => Ok(status),
        Err(why) => refused(
            Why::Silent,
            format!("{} does not answer ({why}); next: `lastgood etcd status` on its node", asked.name()),
        ),
    }
}

fn voters(cluster: &Cluster) -> impl Iterator<Item = &Asked> {
    cluster.members.iter().filter(|asked| !asked.member.learner)
}

/// Whether the others have a quorum without this member, and serve. A cluster of one or two never has, and does nothing
/// wrong: all its members have to answer, and the cluster waits for the one that is defragmented.
fn keeps_quorum(cluster: &Cluster, asked: &Asked) -> Result<(), Refused> {
    if asked.member.learner {
        return Ok(());
    }
    let all = voters(cluster).count();
    let follows = |other: &Asked| other.answer.as_ref().is_ok_and(|status| status.leader == cluster.leader());
    let is_well = |other: &&Asked| follows(other) && other.unread.is_none();
    let well = voters(cluster).filter(|other| other.member.id != asked.member.id).filter(is_well).count();
    let needed = if all < 3 { all.saturating_sub(1) } else { all / 2 + 1 };
    if cluster.leader().is_some() && well >= needed {
        return Ok(());
    }
    let ill = voters(cluster).filter(|other| other.member.id != asked.member.id && !is_well(other));
    let ill: Vec<String> = ill.map(Asked::name).collect();
    let next = match ill.is_empty() {
        true => "`lastgood etcd status`".to_owned(),
        false => {
            let ill = ill.join(", ");
            format!("where {ill} is being defragmented, wait until that has ended; otherwise bring {ill} back first")
        }
    };
    refused(
        Why::Quorum,
        format!(
            "without {} only {well} of {all} voters follow the leader and answer, and {needed} are needed: one master is \
             defragmented after the other; next: {next}",
            asked.name()
        ),
    )
}

/// Whether the member of this node has the room and the time.
fn fits(here: &Here, size: u64, status: &MemberStatus, cluster: &Cluster) -> Result<(), Refused> {
    let name = cluster.name(cluster.own);
    let wanted = size.saturating_add(size / 10);
    let dir = here.data_dir.as_ref().map_or_else(|| "its data directory".to_owned(), |dir| dir.display().to_string());
    match here.room {
        Some(room) if room >= wanted => {}
        Some(room) => {
            return refused(
                Why::Room,
                format!(
                    "the defragmentation of {name} writes a second database, which needs {} in {dir}, and {} are free; \
                     next: free disk space there (`df -h {dir}`)",
                    size::roughly(wanted),
                    size::roughly(room)
                ),
            );
        }
        None => {
            return refused(
                Why::Room,
                format!(
                    "the free space of {dir} cannot be read; next: `df -h {dir}`, and correct --data-dir in {}",
                    here.manifest
                ),
            );
        }
    }
    let Some(limit) = &here.limit else { return Ok(()) };
    let full = cluster.alarms().iter().any(|(_, kind)| *kind == AlarmKind::NoSpace);
    if full && limit.counts_no_space() {
        return refused(
            Why::ProbeCountsAlarm,
            format!(
                "livenessProbe in {} counts the NOSPACE alarm, so the kubelet ends etcd in the middle of the \
                 defragmentation; next: set its path to /health?exclude=NOSPACE&serializable=true, and wait until etcd \
                 serves again (`lastgood etcd status`)",
                here.manifest
            ),
        );
    }
    let takes = estimate(status);
    if takes < limit.ends_after {
        return Ok(());
    }
    let period = limit.period.max(Duration::from_secs(1));
    let enough = takes.as_secs().div_ceil(period.as_secs()) + 1;
    refused(
        Why::Probe,
        format!(
            "the defragmentation of {name} takes up to {}, and the kubelet ends an etcd that does not answer its \
             livenessProbe after {}; next: set failureThreshold of livenessProbe in {} to {enough}, which restarts etcd \
             once, and back to {} afterwards",
            duration::roughly(takes),
            duration::roughly(limit.ends_after),
            here.manifest,
            limit.threshold
        ),
    )
}

fn plan(work: EtcdWork, cluster: &Cluster, here: &Here, revision: i64) -> EtcdPlan {
    let member = |asked: &Asked| {
        let status = asked.answer.as_ref().ok();
        EtcdPlanMember {
            name: asked.name(),
            id: format!("{:x}", asked.member.id),
            leader: Some(asked.member.id) == cluster.leader(),
            this_node: asked.member.id == cluster.own,
            db_bytes: status.and_then(|status| status.db_size),
            db_in_use_bytes: status.and_then(|status| status.db_in_use),
            quota_bytes: status.and_then(|_| quota(cluster, here, asked)),
            silent: asked.answer.as_ref().err().cloned(),
        }
    };
    let alarm = |(id, kind): &(u64, AlarmKind)| EtcdPlanAlarm { alarm: kind.to_string(), member: cluster.name(*id) };
    EtcdPlan {
        work,
        revision,
        compact_to: None,
        members: cluster.members.iter().map(member).collect(),
        alarms: cluster.alarms().iter().map(alarm).collect(),
        steps: Vec::new(),
        effects: Vec::new(),
        away_seconds: None,
    }
}
