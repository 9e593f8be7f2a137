//! What an etcd member's words oblige a person to: told once, with the next step. Nothing here touches anything: all of
//! it concerns a cluster, a disk or data, and none of that is cured by a restart or a rollback.
//!
//! ```text
//!   NOSPACE ─────────────▶ notice                      CORRUPT ──────────────▶ notice, and etcd is held for a person
//!   close to its quota ──▶ notice                      no leader, no quorum ─▶ notice: who does not answer
//!   slow disk ───────────▶ notice                      versions apart ───────▶ notice
//!   grows into its quota ▶ notice
//! ```

use std::time::Duration;

use super::draft::Draft;
use crate::model::etcd::{AlarmKind, NEAR_QUOTA};
use crate::model::slot::Until;
use crate::model::verdict::Cause;
use crate::model::{ComponentId, EtcdStatus, Role, Slot, Verdict};

/// Each thing that may have to be told.
const KEYS: [&str; 7] =
    ["etcd-no-space", "etcd-corrupt", "etcd-quota", "etcd-disk", "etcd-cluster", "etcd-versions", "etcd-growth"];
/// A database that reaches its quota within this time is told of: a long weekend.
const SOON: Duration = Duration::from_secs(4 * 24 * 3600);

/// Tells what the members said.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let etcds: Vec<ComponentId> =
        draft.memory.components.iter().filter(|(_, r)| r.role == Role::Etcd).map(|(id, _)| id.clone()).collect();
    for id in etcds {
        // A member that says nothing takes nothing back.
        let Some(status) = draft.scene.seen.etcd.get(&id).filter(|status| status.own.is_some()) else { continue };
        let texts = [no_space(status), corrupt(status), quota(status), disk(status), cluster(draft, &id, status)];
        let texts = texts.into_iter().chain([versions(status), growth(draft, &id, status)]);
        for (key, text) in KEYS.into_iter().zip(texts) {
            once(draft, &id, key, text);
        }
        hold_corrupt(draft, &id, status);
    }
}

/// Figures and names change from look to look; that something is so is said once while it is.
pub(super) fn once(draft: &mut Draft<'_>, id: &ComponentId, key: &str, text: Option<String>) {
    let known = draft.record(id).is_some_and(|record| record.notices.contains_key(key));
    if !(known && text.is_some()) {
        draft.notice_if(id, key, text);
    }
}

fn no_space(status: &EtcdStatus) -> Option<String> {
    let alarm = status.alarm(&AlarmKind::NoSpace)?;
    let whose = status.name_of(alarm.member);
    Some(format!(
        "NOSPACE: the database of {whose} reached its quota, nothing can be written, and no restart or rollback cures \
         that; next: `etcdctl compact` to the present revision, `etcdctl defrag` on each member, then `etcdctl alarm \
         disarm`, or a larger --quota-backend-bytes on all members"
    ))
}

fn corrupt(status: &EtcdStatus) -> Option<String> {
    let alarm = status.alarm(&AlarmKind::Corrupt)?;
    let whose = status.name_of(alarm.member);
    Some(format!(
        "CORRUPT: the data of {whose} differ from the others'; next: compare `etcdctl endpoint hashkv --cluster`, \
         remove the member that differs and join it anew over an empty directory, then `etcdctl alarm disarm`"
    ))
}

fn quota(status: &EtcdStatus) -> Option<String> {
    status.alarm(&AlarmKind::NoSpace).is_none().then_some(())?;
    let (size, quota) = status.near_quota()?;
    Some(format!(
        "its database has {} MiB of the {} MiB it may have, more than {NEAR_QUOTA} %: at all of it nothing can be \
         written any more; next: `etcdctl defrag`, or a larger --quota-backend-bytes on all members",
        size >> 20,
        quota >> 20
    ))
}

fn growth(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<String> {
    let growth = draft.scene.seen.growth.get(id)?;
    let quota = status.quota()?;
    let left = growth.reaches(quota).filter(|left| *left <= SOON && status.near_quota().is_none())?;
    Some(format!(
        "its database grew from {} to {} MiB in {} h: at that rate it reaches its quota of {} MiB in {} h, and nothing can \
         be written any more; next: see what writes so much (`lastgood etcd snapshot show` on two snapshots), `etcdctl \
         defrag`, or a larger --quota-backend-bytes on all members",
        growth.from >> 20,
        growth.to >> 20,
        growth.over.as_secs() / 3600,
        quota >> 20,
        left.as_secs() / 3600
    ))
}

fn disk(status: &EtcdStatus) -> Option<String> {
    let above = status.slow_fsync()?;
    Some(format!(
        "slow disk: 99 in 100 syncs of its log are done only within more than {} ms, look after look; next: see who \
         else writes to the disk of its data directory (`iostat -x 1`), give etcd a disk of its own",
        above.as_millis()
    ))
}

fn cluster(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<String> {
    let assessment = draft.assessment(id)?;
    let Some(Cause::Cluster { detail }) = assessment.cause.as_ref().filter(|_| assessment.verdict == Verdict::Failing)
    else {
        return None;
    };
    let silent = status.not_answering();
    let next = if silent.is_empty() {
        "`etcdctl endpoint status --cluster` on the other masters".to_owned()
    } else {
        format!("bring back the members that do not answer, or the network to them: {}", silent.join("; "))
    };
    Some(format!("{detail}; nothing is restarted or rolled back for that; next: {next}"))
}

fn versions(status: &EtcdStatus) -> Option<String> {
    let others = status.other_versions();
    let own = status.own.as_ref()?;
    (!others.is_empty()).then(|| {
        format!(
            "members of several versions: this one runs {}, {}; that is meant to last for the time of an upgrade \
             only; next: finish it",
            own.version,
            others.join(", ")
        )
    })
}

/// Data that differ are nothing to try things on: a person looks first.
fn hold_corrupt(draft: &mut Draft<'_>, id: &ComponentId, status: &EtcdStatus) {
    let Some(assessment) = draft.assessment(id) else { return };
    let corrupt = status.alarm(&AlarmKind::Corrupt).is_some();
    let Some(record) = draft.record(id) else { return };
    let free = matches!(record.slot, Slot::Steady { .. } | Slot::Unread { .. } | Slot::Probation(_));
    let stands = record.stands.as_ref().and_then(|stands| record.by_digest(stands.digest));
    let Some(over) = stands.map(|generation| generation.number) else { return };
    if corrupt && free && assessment.verdict == Verdict::Failing {
        let why = assessment.evidence.first().cloned().unwrap_or_default();
        let next = format!("`lastgood explain {id}` says how; when the alarm is disarmed, `lastgood resume {id}`");
        draft.hold_back(id, Some(over), why, next, Until::Person);
    }
}
