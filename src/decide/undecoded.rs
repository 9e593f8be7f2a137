//! A manifest that lastgood cannot decode. What the kubelet accepts, runs or refuses is the fact; our parser only
//! predicts it (Q16).
//!
//! ```text
//!   not a document in any YAML parser ─▶ the known-good one is deployed at once, before the kubelet's next scan
//!   YAML, but not a Pod for lastgood
//!      │  the kubelet's log says that it refuses the file ─▶ the known-good one is deployed at once
//!      │  a pod of the component runs, or the runtime does not answer ─▶ reported only
//!      ▼  none runs
//!      │  a kubelet runs, and has created no sandbox for as long as that may take
//!      ▼
//!   the kubelet does not run it ─▶ the known-good one is deployed
//! ```
//!
//! Measured on a real kubelet: if it accepts a changed manifest, it kills the old pod at once and starts the new one 10
//! to 15 s later; if it refuses it, it drops the pod at its next 20 s scan and kills it then. So a missing pod proves
//! nothing; one that does not start does.

use std::sync::Arc;
use std::time::Duration;

use super::begin::Begin;
use super::draft::Draft;
use super::{begin, kubelet, pods, refused, targets};
use crate::model::component_state::{Initiator, Purpose, Replacement};
use crate::model::config_files::generation_digest;
use crate::model::memory::Unstarted;
use crate::model::notice::Notice;
use crate::model::observation::{ManifestFile, PodRun, SandboxState};
use crate::model::{ComponentId, ComponentState, FileFault, Generation, Role, Verdict};

/// The kubelet starts an accepted pod at most 15 s after it has killed the one before (10 s of back-off, up to half as
/// much again); with the time between two of its 20 s scans to spare for a busy node.
const REFUSED_AFTER: Duration = Duration::from_secs(20);

/// The same for etcd: before it starts a changed one, the kubelet deletes the mirror pod through an API server that
/// hangs on the etcd that is away. 47 s were measured.
const ETCD_REFUSED_AFTER: Duration = Duration::from_secs(60);

/// The same for the others while an API server runs and does not serve: the kubelet's calls to it give up after 34 s
/// each, two in a row were measured, and the 15 s come on top.
const HANGING_REFUSED_AFTER: Duration = Duration::from_secs(90);

/// The runtime's clock is read after ours: a sandbox may seem to be made a moment from now, but not longer.
const AHEAD: i64 = 2;

/// The kubelet ends the pod of a changed manifest at once, or at one of its 20 s scans: two of them.
const SAME_POD_AFTER: Duration = Duration::from_secs(40);

/// What the kubelet makes of the file.
enum Kubelet {
    /// It has made a sandbox since the file came to stand.
    Runs,
    /// The pod from before runs on: the kubelet has not read the file yet, or takes it for the same pod.
    NotReplaced,
    /// No pod runs, and one may still be started.
    MayStart,
    /// No pod runs, and none was started for as long as that may take.
    Refuses(Duration),
    /// It is unknown: why.
    CannotTell(String),
}

/// One pass of a component whose file holds no pod that we could read.
pub(super) fn step(draft: &mut Draft<'_>, id: &ComponentId, file: &Arc<ManifestFile>, fault: &FileFault) {
    let Some(slot) = draft.record(id).map(|record| record.state.clone()) else { return };
    // What no kubelet decodes is named as lastgood sees it.
    let refused = refused::by_the_kubelet(draft, file).filter(|_| fault.kubelet_may_run());
    let kubelet = (fault.kubelet_may_run() && refused.is_none()).then(|| ask(draft, id, file));
    let what = format!("{} {fault}", file.name);
    let may_run = match kubelet {
        Some(_) => "; lastgood cannot read it, but the kubelet may run it",
        None => "",
    };
    let Some(good) = slot.good() else {
        let text = format!("{what}{may_run}; no generation of {id} is known-good yet, so lastgood does not replace it");
        return draft.notice(id, Notice::Undecodable, text);
    };
    if matches!(slot, ComponentState::Held(_)) {
        return draft.notice(
            id,
            Notice::Undecodable,
            format!("{what}{may_run}; {id} is held, so lastgood does not replace it"),
        );
    }
    let why = match kubelet {
        None => {
            let why = refused.map_or(what, |why| format!("{}: {why}", file.name));
            draft.notice(id, Notice::Undecodable, format!("{why}: the kubelet kills its pod at the next scan"));
            why
        }
        Some(Kubelet::Refuses(waited)) => {
            let why = format!("{what}, and the kubelet has started no pod of it for {} s", waited.as_secs());
            draft.notice(id, Notice::Undecodable, why.clone());
            why
        }
        Some(kubelet) => {
            let back = targets::aim(draft, id, good, None).0;
            let text =
                format!("lastgood cannot read {} (it {fault}); {}", file.name, meanwhile(draft, id, &kubelet, back));
            return draft.notice(id, Notice::Undecodable, text);
        }
    };
    begin::begin(draft, id, Begin { purpose: Purpose::roll_back(None), to: good, why, in_place: true });
}

/// What is done about a file that we cannot read, and what the operator can do.
fn meanwhile(draft: &Draft<'_>, id: &ComponentId, kubelet: &Kubelet, back: u32) -> String {
    let comes_back = format!("lastgood deploys generation {back}");
    let patience = patience(draft, id).as_secs();
    let mend = format!("write it without what is named here; `lastgood diff {id}` compares");
    match kubelet {
        Kubelet::Runs => format!(
            "the kubelet runs a pod of it, so lastgood leaves it, and it cannot become known-good; next: {mend}, \
             `lastgood rollback {id}` deploys generation {back}"
        ),
        Kubelet::NotReplaced => format!(
            "the pod of the earlier manifest still runs, so lastgood does not replace it yet; {comes_back} when none \
             has run for {patience} s; next: {mend}"
        ),
        Kubelet::MayStart => {
            format!("no pod of it runs; {comes_back} when the kubelet has started none for {patience} s; next: {mend}")
        }
        Kubelet::CannotTell(why) => {
            format!("it is unknown whether the kubelet runs it ({why}), so lastgood does not replace it; next: {mend}")
        }
        Kubelet::Refuses(_) => comes_back,
    }
}

/// Asks what the kubelet makes of a file, and remembers since when no pod of it runs. Also while somebody holds us: it is
/// evidence, no grace.
fn ask(draft: &mut Draft<'_>, id: &ComponentId, file: &ManifestFile) -> Kubelet {
    let (credit, patience) = (draft.credit(), patience(draft, id));
    let now = draft.scene.tick.now;
    let newest = pods::runs_of(draft, id).max_by_key(|run| run.created);
    let cannot_tell = cannot_tell(draft);
    let runs = pods::runs(draft, id);
    let kubelet = draft.scene.seen.kubelet.process.as_ref();
    // Only what has passed since the kubelet started, and since it last made a sandbox, tells.
    let up = kubelet.map_or(Duration::ZERO, |process| now.boot.saturating_sub(process.started));
    let idle = newest.map_or(Duration::MAX, |run| made_before(run, now.wall));
    let Some(record) = draft.record_mut(id) else { return Kubelet::MayStart };
    let before = record.unstarted.take().filter(|unstarted| unstarted.file == file.digest);
    if let Some(why) = cannot_tell {
        return Kubelet::CannotTell(why);
    }
    if runs {
        return match newest {
            Some(run) if run.created >= file.changed => Kubelet::Runs,
            _ => Kubelet::NotReplaced,
        };
    }
    let waited = before.map_or(Duration::ZERO, |unstarted| unstarted.age + credit).min(up).min(idle);
    record.unstarted = Some(Unstarted { file: file.digest, age: waited });
    if waited >= patience { Kubelet::Refuses(patience) } else { Kubelet::MayStart }
}

/// Why nothing follows from there being no pod.
fn cannot_tell(draft: &Draft<'_>) -> Option<String> {
    if let Err(symptom) = &draft.scene.seen.runtime {
        return Some(format!("the container runtime does not answer: {symptom}"));
    }
    match (&draft.scene.seen.kubelet.process, draft.scene.judged.kubelet.verdict) {
        (None, _) => Some("no kubelet runs".to_owned()),
        (_, Verdict::Stalled) => Some("the kubelet does not answer".to_owned()),
        _ => None,
    }
}

/// How long ago a sandbox was made. One that was made later than now is older than a clock that was set back since.
fn made_before(run: &PodRun, now: jiff::Timestamp) -> Duration {
    let ago = now.duration_since(run.created);
    Duration::try_from(ago).unwrap_or(if ago.as_secs() < -AHEAD { Duration::MAX } else { Duration::ZERO })
}

/// How long an accepted pod may take to be started.
fn patience(draft: &Draft<'_>, id: &ComponentId) -> Duration {
    let hangs = |other: &ComponentId, role: Role| {
        role == Role::ApiServer
            && other != id
            && pods::runs(draft, other)
            && !draft.assessment(other).is_some_and(|assessment| assessment.serving)
    };
    if draft.record(id).is_some_and(|record| record.role == Role::Etcd) {
        return ETCD_REFUSED_AFTER;
    }
    let hanging = draft.memory.components.iter().any(|(other, record)| hangs(other, record.role));
    if hanging { HANGING_REFUSED_AFTER } else { REFUSED_AFTER }
}

/// Whether the pod that runs is one of what is deployed, which decodes again and bears a newer time than the pod: the
/// kubelet, which hears of changes, has let it run on. Then it has been deployed since the pod was made (Q5), as far as
/// the files that it brings are the ones from before as well.
pub(super) fn is_the_same_pod(
    draft: &mut Draft<'_>,
    id: &ComponentId,
    candidate: u32,
    good: u32,
    age: Duration,
) -> bool {
    if age < SAME_POD_AFTER || cannot_tell(draft).is_some() || !kubelet::kubelet_hears(draft) {
        return false;
    }
    let ready = pods::runs_of(draft, id).filter(|run| run.ready == SandboxState::Ready);
    let Some(made) = ready.map(|run| run.created).max() else { return false };
    let Some(record) = draft.record_mut(id) else { return false };
    let Some((candidate, good)) = record.generations.get(&candidate).zip(record.generations.get(&good)) else {
        return false;
    };
    // Of what differs in its files alone, the pod is the same and its process is what has to be waited for.
    let files = |generation: &Generation| generation_digest(good.pod_digest, &generation.closure);
    if candidate.pod_digest == good.pod_digest || files(candidate) != files(good) {
        return false;
    }
    if let Some(stands) = &mut record.deployed {
        stands.changed = stands.changed.min(made);
    }
    true
}

/// Whether a file that is deployed in the way of our own rollback is somebody's, and the kubelet may run it: one that
/// it was not seen to refuse. What the operator has asked for is done whatever is deployed.
pub(super) fn is_anothers(
    draft: &Draft<'_>,
    id: &ComponentId,
    r: &Replacement,
    file: &ManifestFile,
    fault: &FileFault,
) -> bool {
    let unstarted = draft.record(id).and_then(|record| record.unstarted.as_ref());
    let refused = refused::by_the_kubelet(draft, file).is_some()
        || unstarted.is_some_and(|unstarted| unstarted.file == file.digest && unstarted.age >= REFUSED_AFTER);
    r.initiator() == Initiator::Agent && fault.kubelet_may_run() && !refused
}
