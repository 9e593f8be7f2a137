//! Whether there is a recent verified snapshot of etcd's data: what a recovery from a lost disk hangs on.

use super::{Check, Examined, Mark};
use crate::config::duration::roughly;

/// Whether they are in object storage as well, where they are to be. By what the agent saw there: a store may hang.
pub(super) fn remote(examined: &Examined<'_>) -> Option<Check> {
    let snapshots = examined.snapshots?;
    let remote = snapshots.remote.as_ref()?;
    let subject = "snapshot in object storage";
    let failing = remote.failing.as_ref().map(|failing| {
        format!("; nothing gets there since {:.0} ({} tries): {}", failing.since, failing.times, failing.why)
    });
    let failing = failing.unwrap_or_default();
    let next = "`lastgood etcd snapshot list --remote` says what is in its way";
    let Some(newest) = &remote.newest else {
        let detail = format!("no verified one is known to be in {}{failing}", remote.url);
        return Some(Check::bad(subject, Mark::Warning, detail, next.to_owned()));
    };
    let detail = format!("{} is verified in {}, revision {}{failing}", newest.file, remote.url, newest.revision);
    Some(match snapshots.is_behind(examined.now) {
        true => {
            let detail = format!("behind those on this node: the newest, {detail}");
            Check::bad(subject, Mark::Warning, detail, next.to_owned())
        }
        false => Check::ok(subject, detail),
    })
}

/// One check, where this node has an etcd of its own.
pub(super) fn check(examined: &Examined<'_>) -> Option<Check> {
    let snapshots = examined.snapshots?;
    let subject = "snapshot of etcd";
    let dir = &snapshots.directory;
    if let Some(why) = &snapshots.unreadable {
        return Some(Check::bad(subject, Mark::CannotTell, why, format!("`ls -l {dir}`")));
    }
    let save = "`lastgood etcd snapshot save`";
    let Some((newest, age)) = snapshots.newest.as_ref().zip(snapshots.age(examined.now)) else {
        let fix = if snapshots.enabled { save.to_owned() } else { format!("{save}, or snapshots.enabled = true") };
        let detail = format!("no verified one is in {dir}: data that are lost would stay lost");
        return Some(Check::bad(subject, Mark::Warning, detail, fix));
    };
    let detail = format!("{} is verified, {} old, revision {}", newest.file, roughly(age), newest.revision);
    if age > snapshots.longest() {
        let detail = format!("the newest, {detail}: what was written since would be lost with the data");
        return Some(Check::bad(
            subject,
            Mark::Warning,
            detail,
            format!("{save} takes one, or says what is in its way"),
        ));
    }
    Some(Check::ok(subject, detail))
}
