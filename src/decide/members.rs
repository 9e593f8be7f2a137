//! Notices about etcd that the operator has to act on, each reported once, with the next step. Nothing here changes the
//! node: these are faults of a cluster, a disk or data, which neither a restart nor a rollback cures.
//!
//! ```text
//!   NOSPACE ─────────────▶ notice                      CORRUPT ──────────────▶ notice, and etcd is held
//!   close to its quota ──▶ notice                      no leader, no quorum ─▶ notice: which members do not answer
//!   slow disk ───────────▶ notice                      mixed versions ───────▶ notice
//!   cut off from peers ──▶ notice: their ports and certificates
//!   grows into its quota ▶ notice
//! ```

use std::time::Duration;

use super::draft::Draft;
use crate::model::component_state::Until;
use crate::model::etcd::{AlarmKind, NEAR_QUOTA};
use crate::model::kubelet_probe::etcdctl;
use crate::model::notice::Notice;
use crate::model::verdict::Cause;
use crate::model::{ComponentId, ComponentState, EtcdStatus, Role, Verdict};

/// What keeps a member from having a leader: one at a time.
const LEADERLESS: [Notice; 3] = [Notice::EtcdCluster, Notice::EtcdPeers, Notice::EtcdCutOff];
/// A database that reaches its quota within this time is reported: a long weekend.
const SOON: Duration = Duration::from_secs(4 * 24 * 3600);

/// Tells what the members said.
pub(super) fn tell(draft: &mut Draft<'_>) {
    let etcds: Vec<ComponentId> =
        draft.memory.components.iter().filter(|(_, r)| r.role == Role::Etcd).map(|(id, _)| id.clone()).collect();
    for id in etcds {
        let certificates = certificates(draft, &id);
        once(draft, &id, Notice::EtcdCertificates, certificates);
        let Some(status) = draft.scene.seen.etcd.get(&id) else { continue };
        // A member that says nothing takes nothing back.
        let why = leaderless(draft, &id, status);
        if why.is_some() || status.own.is_ok() {
            for about in LEADERLESS {
                let text = why.clone().and_then(|(of, text)| (of == about).then_some(text));
                once(draft, &id, about, text);
            }
        }
        if status.own.is_err() {
            continue;
        }
        let growth = growth(draft, &id, status);
        let texts = [
            (Notice::EtcdNoSpace, no_space(draft, &id, status)),
            (Notice::EtcdCorrupt, corrupt(draft, &id, status)),
            (Notice::EtcdQuota, quota(status)),
            (Notice::EtcdDisk, disk(status)),
            (Notice::EtcdVersions, versions(status)),
            (Notice::EtcdGrowth, growth),
        ];
        for (about, text) in texts {
            once(draft, &id, about, text);
        }
        hold_corrupt(draft, &id, status);
    }
}

/// Figures and names change from look to look; that something is so is said once while it is.
pub(super) fn once(draft: &mut Draft<'_>, id: &ComponentId, about: Notice, text: Option<String>) {
    let known = draft.record(id).is_some_and(|record| record.notices.contains_key(&about));
    if !(known && text.is_some()) {
        draft.notice_if(id, about, text);
    }
}

fn no_space(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<String> {
    let alarm = status.alarm(&AlarmKind::NoSpace)?;
    let whose = status.name_of(alarm.member);
    let probe = draft.scene.seen.node.failing_probes.get(id).filter(|probe| probe.counts_alarm());
    let probe = probe.map_or_else(String::new, |probe| {
        let file = draft.record(id).and_then(|record| record.file_name()).unwrap_or("its manifest");
        format!("{}; {}; then ", probe.sentence(), probe.next(file))
    });
    Some(format!(
        "NOSPACE: the database of {whose} reached its quota, nothing can be written, and no restart or rollback cures \
         that; next: {probe}1. `lastgood etcd compact`, 2. `lastgood etcd defrag` on one master after the other, 3. \
         `lastgood etcd disarm`; where that frees too little, a larger --quota-backend-bytes on all members"
    ))
}

/// How etcdctl is called for this member.
fn of_its_container(draft: &Draft<'_>, id: &ComponentId) -> String {
    let mut manifests = draft.scene.seen.manifests.files().filter_map(|file| file.content.as_ref().ok());
    etcdctl(manifests.find(|manifest| manifest.id == *id))
}

fn corrupt(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<String> {
    let alarm = status.alarm(&AlarmKind::Corrupt)?;
    let whose = status.name_of(alarm.member);
    let etcdctl = of_its_container(draft, id);
    Some(format!(
        "CORRUPT: the data of {whose} differ from the others'; next: `E=\"{etcdctl}\"`, compare `$E endpoint hashkv \
         --cluster`, remove the member that differs and add it again with an empty data directory, then `$E alarm disarm`"
    ))
}

fn quota(status: &EtcdStatus) -> Option<String> {
    status.alarm(&AlarmKind::NoSpace).is_none().then_some(())?;
    let (size, quota) = status.near_quota()?;
    Some(format!(
        "its database has {} MiB of the {} MiB it may have, more than {NEAR_QUOTA} %: at its quota etcd refuses all \
         writes; next: `lastgood etcd compact`, then `lastgood etcd defrag` on one master after the other, or a larger \
         --quota-backend-bytes on all members",
        size >> 20,
        quota >> 20
    ))
}

fn growth(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<String> {
    let growth = draft.scene.seen.growth.get(id)?;
    let quota = status.quota()?;
    let left = growth.reaches(quota).filter(|left| *left <= SOON && status.near_quota().is_none())?;
    Some(format!(
        "its database grew from {} to {} MiB in {} h: at that rate it reaches its quota of {} MiB in {} h, and etcd \
         then refuses all writes; next: see what writes so much (`lastgood etcd snapshot show` on two snapshots), \
         `lastgood etcd defrag` on one master after the other, or a larger --quota-backend-bytes on all members",
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
        "slow disk: the 99th percentile of its WAL fsyncs is above {} ms, repeatedly; next: see what else writes to \
         the disk of its data directory (`iostat -x 1`), give etcd a dedicated disk",
        above.as_millis()
    ))
}

/// Why it has no leader, where it has none, and the key of that notice.
fn leaderless(draft: &Draft<'_>, id: &ComponentId, status: &EtcdStatus) -> Option<(Notice, String)> {
    let assessment = draft.assessment(id).filter(|assessment| assessment.verdict() != Verdict::Healthy)?;
    if status.is_cut_off() {
        let alone = "the other members agree without this one, which knows no leader";
        return Some(match status.peers_refuse.first_key_value() {
            Some((other, symptom)) => {
                let with = status.name_of(*other);
                let text = format!(
                    "{alone}; with {with}: {symptom}; next: see whether the CA of the other members signed \
                     --peer-cert-file, and whether --peer-trusted-ca-file holds that CA (`kubeadm certs renew \
                     etcd-peer`), then restart etcd"
                );
                (Notice::EtcdPeers, text)
            }
            None => {
                let next = "see whether this node reaches the peer ports of the others, and they reach its peer port";
                (Notice::EtcdCutOff, format!("{alone}; next: {next}"))
            }
        });
    }
    let Some(Cause::Cluster { detail }) = assessment.cause.as_ref() else { return None };
    let silent = status.not_answering();
    let next = if status.members.as_ref().is_some_and(|members| members.len() == 1) {
        "see what else writes to the disk of its data directory (`iostat -x 1`)".to_owned()
    } else if silent.is_empty() {
        "`lastgood etcd status` on the other masters".to_owned()
    } else {
        format!("bring back the members that do not answer, or the network to them: {}", silent.join("; "))
    };
    Some((Notice::EtcdCluster, format!("{detail}; nothing is restarted or rolled back for that; next: {next}")))
}

/// Whoever does not take whose certificate, the files are to be compared in both directions; of peers it is told above.
fn certificates(draft: &Draft<'_>, id: &ComponentId) -> Option<String> {
    let cut_off = draft.scene.seen.etcd.get(id).is_some_and(EtcdStatus::is_cut_off);
    let assessment = draft.assessment(id).filter(|assessment| assessment.verdict() != Verdict::Healthy && !cut_off)?;
    let Some(Cause::KeyMaterial { detail }) = &assessment.cause else { return None };
    Some(format!(
        "key material does not fit: {detail}; nothing is rolled back for that; next: compare --cert-file and \
         --peer-cert-file of etcd, and --etcd-certfile of the API server, with the authority that the other side \
         trusts (`openssl verify -CAfile`), put the right one in place, then restart the components that read it"
    ))
}

fn versions(status: &EtcdStatus) -> Option<String> {
    let others = status.other_versions();
    let own = status.own.as_ref().ok()?;
    (!others.is_empty()).then(|| {
        format!(
            "members of several versions: this one runs {}, {}; this is supported only during an upgrade; next: finish \
             it",
            own.version,
            others.join(", ")
        )
    })
}

/// Data that differ are nothing to try things on: the operator looks first.
fn hold_corrupt(draft: &mut Draft<'_>, id: &ComponentId, status: &EtcdStatus) {
    let Some(assessment) = draft.assessment(id) else { return };
    let corrupt = status.alarm(&AlarmKind::Corrupt).is_some();
    let Some(record) = draft.record(id) else { return };
    let free = matches!(
        record.state,
        ComponentState::Steady { .. } | ComponentState::Unread { .. } | ComponentState::Probation(_)
    );
    let stands = record.deployed.as_ref().and_then(|stands| record.by_digest(stands.digest));
    let Some(over) = stands.map(|generation| generation.number) else { return };
    if corrupt && free && assessment.verdict() == Verdict::Failing {
        let why = assessment.evidence.first().cloned().unwrap_or_default();
        let next = format!("`lastgood explain {id}` says how; when the alarm is disarmed, `lastgood resume {id}`");
        draft.hold_back(id, Some(over), why, next, Until::Person);
    }
}
