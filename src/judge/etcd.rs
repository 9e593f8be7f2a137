//! Adds the status that an etcd member reports about itself to the result of its probes.
//!
//! ```text
//!   learner ────────────▶ Healthy: it is alive, and serves no linearizable reads
//!   NOSPACE, CORRUPT ───▶ Failing, Cause::Alarm     every write fails; no restart and no rollback helps
//!   no leader, no quorum▶ Cause::Cluster            names the members that do not answer; not where the others agree without it
//!   TLS ────────────────▶ Cause::KeyMaterial        in either direction, of clients or peers; expiry is checked before
//!   slow fsync ─────────▶ Cause::Disk               if it is unhealthy; otherwise evidence only
//! ```

use std::time::Duration;

use super::finding::{Answer, Finding};
use crate::model::etcd::{AlarmKind, LEADER_WITHIN};
use crate::model::reading::{Question, SymptomKind};
use crate::model::verdict::{Cause, Verdict};
use crate::model::{ComponentId, EtcdStatus, Observation, Probe, Reading, Tick};

/// Reads a finding about a running member again, with what it said of itself since its process started.
pub(super) fn look(tick: Tick, seen: &Observation, id: &ComponentId, up_for: Duration, found: Finding) -> Finding {
    let fresh = |at: Duration| tick.now.boot.saturating_sub(at) <= up_for;
    let Some(status) = seen.etcd.get(id).filter(|status| fresh(status.at)) else { return found };
    let probes: Vec<&Probe> = seen.probes.get(id).into_iter().flatten().filter(|probe| fresh(probe.at)).collect();
    let of = |question| probes.iter().copied().find(|probe| probe.question == question);
    let bad = |question| match of(question).map(|probe| &probe.reading) {
        Some(Reading::Bad(symptom)) => Some(symptom),
        _ => None,
    };

    let mut finding = found;
    let live = of(Question::Live).filter(|live| live.reading == Reading::Good);
    if let Some(live) = live.filter(|_| status.is_learner() && bad(Question::AsDependent).is_none()) {
        finding.verdict = Verdict::Healthy;
        finding.serving = true;
        finding.evidence = vec![
            format!("{} answers", live.target),
            "it is a learner: it has no vote, and serves no linearizable reads until it is promoted".to_owned(),
        ];
        finding.cause = None;
        finding.answer = Some((live.at, Answer::Good));
    }
    if let Some(detail) = alarm(status) {
        // What only reads may be content; whatever writes is not, and that is every API server.
        if finding.verdict == Verdict::Healthy {
            finding.verdict = Verdict::Failing;
            finding.answer = finding.answer.map(|(at, _)| (at, Answer::Bad));
        }
        finding.evidence.insert(0, format!("alarm {detail}"));
        finding.cause = Some(Cause::Alarm { detail });
    }
    let well = finding.verdict == Verdict::Healthy;
    let leaderless = status.is_leaderless();
    let no_quorum = bad(Question::Quorum).filter(|symptom| symptom.kind == SymptomKind::ClusterWide);
    let explained = |finding: &Finding| finding.cause.as_ref().is_some_and(|c| !matches!(c, Cause::Cluster { .. }));
    let electing = up_for < LEADER_WITHIN;
    if !well && !electing && (leaderless || no_quorum.is_some()) && !explained(&finding) {
        finding.cause = match status.is_cut_off() {
            true => certificates_of_peers(status),
            false => Some(Cause::Cluster { detail: cluster(status, leaderless) }),
        };
        finding.evidence.extend(status.is_cut_off().then(|| CUT_OFF.to_owned()));
    }
    let tls = [Question::Live, Question::AsDependent].into_iter().find_map(|question| match of(question)?.reading {
        Reading::Bad(ref symptom) | Reading::CannotTell(ref symptom) => {
            (symptom.kind == SymptomKind::Tls).then_some(symptom)
        }
        Reading::Good => None,
    });
    if let Some(symptom) = tls.filter(|_| !well && finding.cause.is_none()) {
        finding.cause = Some(Cause::KeyMaterial { detail: symptom.detail.clone() });
    }
    if let Some(above) = status.slow_fsync() {
        let detail = format!("the 99th percentile of its WAL fsyncs is above {} ms", above.as_millis());
        // A leader that cannot write its log in time gets no agreement either, and it is not the others' doing.
        let by_it = finding.cause.as_ref().is_none_or(|cause| matches!(cause, Cause::Cluster { .. }) && !leaderless);
        if !well && by_it {
            finding.cause = Some(Cause::Disk { detail: detail.clone() });
        }
        finding.evidence.push(format!("slow disk: {detail}"));
    }
    finding.evidence.extend(itself(status));
    finding
}

/// The cluster serves, and this member has no part in it.
const CUT_OFF: &str = "the other members agree without this one, which knows no leader";

/// What keeps a member that is cut off from its peers, where it is their certificates. Else it is not told: the network
/// between the peers' ports, or what this very member was started with.
fn certificates_of_peers(status: &EtcdStatus) -> Option<Cause> {
    let (id, symptom) = status.peers_refuse.first_key_value()?;
    let detail = format!("with {}: {symptom}", status.name_of(*id));
    Some(match symptom.kind {
        SymptomKind::CertificateDates => Cause::Certificate { detail },
        _ => Cause::KeyMaterial { detail },
    })
}

/// The alarm that counts: CORRUPT before NOSPACE, since the operator has to look at data before they make room for
/// more.
fn alarm(status: &EtcdStatus) -> Option<String> {
    if let Some(alarm) = status.alarm(&AlarmKind::Corrupt) {
        let whose = status.name_of(alarm.member);
        return Some(format!("CORRUPT, raised for {whose}: its data differ from the others'"));
    }
    let alarm = status.alarm(&AlarmKind::NoSpace)?;
    let whose = status.name_of(alarm.member);
    Some(format!("NOSPACE, raised by {whose}: its database reached its quota, and nothing can be written"))
}

fn cluster(status: &EtcdStatus, leaderless: bool) -> String {
    let members = status.members.as_ref().or(status.members_elsewhere.as_ref());
    let (silent, all) = (status.silent_names(), members.map_or(0, Vec::len));
    let mut words = if all == 1 && !leaderless {
        "this member, the only one, answers but commits nothing to its WAL: its disk may be slow".to_owned()
    } else if leaderless && status.own.is_err() {
        "this member has started and finds no leader".to_owned()
    } else if leaderless {
        "this member is healthy and knows no leader".to_owned()
    } else {
        "this member is healthy and gets no agreement from the others".to_owned()
    };
    if !silent.is_empty() {
        words.push_str(&format!("; {} of {all} members do not answer: {}", silent.len(), silent.join(", ")));
    }
    words
}

/// What it says of itself, as sentences.
fn itself(status: &EtcdStatus) -> Vec<String> {
    let own = match &status.own {
        Ok(own) => own,
        Err(why) => return vec![format!("its status is unknown: {why}")],
    };
    let role = match own.leader {
        _ if own.learner => "learner".to_owned(),
        Some(leader) if leader == own.member => "leader".to_owned(),
        Some(leader) => format!("follower of {}", status.name_of(leader)),
        None => "without a leader".to_owned(),
    };
    let members = status.members.as_ref().map(|members| format!(" of {}", members.len())).unwrap_or_default();
    let mut size = String::new();
    if let Some(bytes) = own.db_size {
        size = format!(", database of {} MiB", bytes >> 20);
        if let Some(quota) = status.quota() {
            size.push_str(&format!(" ({} % of its quota)", bytes.saturating_mul(100) / quota.max(1)));
        }
    }
    let mut sentences = vec![format!(
        "etcd {}, member {:x}{members} in cluster {:x}, {role}, term {}, revision {}{size}",
        own.version, own.member, own.cluster, own.term, own.revision
    )];
    sentences.extend(status.not_answering().into_iter().map(|why| format!("cannot tell how {why}")));
    sentences.extend(status.other_versions());
    sentences
}
