//! What the recovery of one component depends on: a known-good generation, its bytes, its images, its files, and a
//! budget.

use super::{Check, CheckResult, Examined};
use crate::model::config_files::{self, FileKind};
use crate::model::memory::Record;
use crate::model::observation::ImagePresence;
use crate::model::{ComponentId, ComponentState, Digest, FileState, Generation, Proof, Trust};

/// In the order of dependence, all of one component together.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    let mut records: Vec<(&ComponentId, &Record)> = examined.memory.components.iter().collect();
    if records.is_empty() {
        let fix = "`systemctl start lastgood`, and a minute of health";
        return vec![Check::bad(
            "components",
            CheckResult::Failed,
            "none is known yet: nothing could be restored",
            fix,
        )];
    }
    records.sort_by_key(|(id, record)| (record.role, *id));
    records.into_iter().flat_map(|(id, record)| component(examined, id, record)).collect()
}

/// The generation that a recovery would put back.
pub fn wanted(record: &Record) -> Option<&Generation> {
    let aimed = record.goes_back_to().and_then(|number| record.generations.get(&number));
    aimed.filter(|generation| generation.trust.is_known_good()).or_else(|| record.known_good().next())
}

fn component(examined: &Examined<'_>, id: &ComponentId, record: &Record) -> Vec<Check> {
    let mut checks = Vec::new();
    if let ComponentState::Held(held) = &record.state {
        checks.push(Check::bad(format!("{id}: held"), CheckResult::Failed, &held.why, &held.next_step));
    }
    let Some(generation) = wanted(record) else {
        let detail = format!("it has no known-good generation yet ({})", record.state);
        let fix = format!(
            "`lastgood explain {id}` shows what it waits for; `lastgood checkpoint {id}` marks it as known-good now"
        );
        checks.push(Check::bad(format!("{id}: known-good"), CheckResult::Failed, detail, fix));
        return checks;
    };
    checks.push(Check::ok(format!("{id}: known-good"), proven(record, generation)));
    checks.push(stored(examined, id, generation));
    checks.push(published(examined, id, generation));
    checks.push(images(examined, id, generation));
    checks.extend(files(examined, id, generation));
    checks.push(budget(examined, id, record));
    checks
}

fn proven(record: &Record, generation: &Generation) -> String {
    let number = generation.number;
    let pinned = if record.pin() == Some(number) { ", pinned" } else { "" };
    match &generation.trust {
        Trust::KnownGood { proof: Proof::Soak { seconds, .. }, since } => {
            format!("generation {number}{pinned}, proven {since:.0} by {seconds} s of health")
        }
        Trust::KnownGood { proof: Proof::Asserted { reason }, since } => {
            let reason = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            format!("generation {number}{pinned}, marked as known-good {since:.0} by the operator{reason}")
        }
        Trust::Candidate | Trust::Quarantined { .. } => format!("generation {number}{pinned}"),
    }
}

fn stored(examined: &Examined<'_>, id: &ComponentId, generation: &Generation) -> Check {
    let subject = format!("{id}: kept");
    let number = generation.number;
    match examined.store.get(&(id.clone(), number)) {
        Some(Ok(())) => Check::ok(subject, format!("generation {number} is stored without damage")),
        Some(Err(why)) => {
            let fix = format!(
                "while it is deployed and the agent runs, `systemctl restart lastgood` stores it again; otherwise \
                 `lastgood history {id}` shows the other generations"
            );
            Check::bad(subject, CheckResult::Failed, why, fix)
        }
        None => {
            let detail = format!("generation {number} was not read");
            Check::bad(subject, CheckResult::CannotTell, detail, "try again")
        }
    }
}

fn published(examined: &Examined<'_>, id: &ComponentId, generation: &Generation) -> Check {
    let subject = format!("{id}: inactive-manifests");
    let (name, number) = (&generation.file_name, generation.number);
    let warning = |detail: String, fix: String| Check::bad(subject.clone(), CheckResult::Warning, detail, fix);
    let Some(file) = examined.seen.inactive.get(name) else {
        let path = examined.places.inactive.path.join(name);
        return warning(format!("{} does not exist", path.display()), "a running agent writes it".to_owned());
    };
    let bytes = file.content.as_ref().map(|manifest| Digest::of(&manifest.raw));
    if bytes == Ok(generation.raw_digest) {
        return Check::ok(subject, format!("{name} is generation {number}, byte for byte"));
    }
    let detail = format!("{name} is not generation {number}");
    warning(detail, format!("if that was not intended, remove {name} from there: a running agent writes it again"))
}

fn images(examined: &Examined<'_>, id: &ComponentId, generation: &Generation) -> Check {
    let subject = format!("{id}: images");
    let images = &examined.seen.images;
    if let Some(absent) = generation.images.iter().find(|image| images.get(*image) == Some(&ImagePresence::Absent)) {
        let detail = format!("{absent} is not on this node");
        return Check::bad(subject, CheckResult::Failed, detail, format!("`crictl pull {absent}`"));
    }
    if let Some(unknown) = generation.images.iter().find(|image| !images.contains_key(*image)) {
        let detail = format!("it is unknown whether {unknown} is on this node");
        return Check::bad(subject, CheckResult::CannotTell, detail, "make the container runtime answer");
    }
    let listed: Vec<&str> = generation.images.iter().map(String::as_str).collect();
    Check::ok(subject, listed.join(", "))
}

/// Each file that differs and could not be put back, and each that could not be if it went (Q4).
fn files(examined: &Examined<'_>, id: &ComponentId, generation: &Generation) -> Vec<Check> {
    let subject = format!("{id}: files");
    let second = examined.now.as_second();
    let (mut bad, mut count) = (Vec::new(), 0);
    for kept in &generation.closure {
        let FileState::Present { kind, digest, .. } = &kept.state else { continue };
        if *kind == FileKind::KeyMaterial {
            continue;
        }
        count += 1;
        let path = kept.path.display();
        let stands = examined.seen.files.get(&kept.path).unwrap_or(&FileState::Missing);
        if matches!(stands, FileState::Present { digest: standing, .. } if standing == digest) {
            if let Err(why) = config_files::may_replace(&FileState::Missing, &kept.state, second) {
                let detail = format!("{path} is unchanged, but could not be restored: {why}");
                bad.push(Check::bad(subject.clone(), CheckResult::Warning, detail, format!("keep a copy of {path}")));
            }
        } else if let Err(why) = config_files::may_replace(stands, &kept.state, second) {
            let detail = format!("{path} differs from generation {} and is not restored: {why}", generation.number);
            bad.push(Check::bad(subject.clone(), CheckResult::Failed, detail, format!("fix {path} by hand")));
        }
    }
    if bad.is_empty() {
        let detail = match count {
            0 => "it has no configuration files".to_owned(),
            1 => "its 1 file is present or can be restored".to_owned(),
            count => format!("its {count} files are present or can be restored"),
        };
        bad.push(Check::ok(subject, detail));
    }
    bad
}

fn budget(examined: &Examined<'_>, id: &ComponentId, record: &Record) -> Check {
    let subject = format!("{id}: actions left");
    let (spent, limit) = (record.actions.len(), examined.policy.actions_per_hour);
    if spent < limit {
        return Check::ok(subject, format!("{} of {limit} this hour", limit - spent));
    }
    let detail = format!("all {limit} of this hour are used: the next failure would be held");
    Check::bad(subject, CheckResult::Failed, detail, format!("fix the cause (`lastgood explain {id}`), or wait"))
}
