//! What doctor says of snapshots: whether there is a recent verified one, which a recovery from a lost disk depends on.

use jiff::Timestamp;

use crate::config::duration::roughly;
use crate::model::Snapshots;
use crate::model::check::{Check, CheckResult};

/// What is said of them, where this node has an etcd of its own.
pub(super) fn checks(snapshots: &Snapshots, now: Timestamp) -> Vec<Check> {
    let data = [data(snapshots, now)].into_iter();
    data.chain(undecryptable(snapshots))
        .chain(damaged(snapshots))
        .chain(bundle(snapshots))
        .chain(remote(snapshots, now))
        .collect()
}

/// Whether the API server lacks keys of what a restore put into etcd.
fn undecryptable(snapshots: &Snapshots) -> Option<Check> {
    let values = snapshots.undecryptable.as_ref()?;
    let detail = format!("{}, and kube-apiserver lacks the keys (since {:.0})", values.what.join("; "), values.since);
    Some(Check::bad("encryption keys of etcd's values", CheckResult::Warning, detail, &values.next))
}

/// Whether the bytes of one are no longer those that were verified.
fn damaged(snapshots: &Snapshots) -> Option<Check> {
    let (file, why) = snapshots.damaged.first()?;
    let more = snapshots.damaged.len() - 1;
    let more = if more == 0 { String::new() } else { format!("; {more} more are damaged") };
    let fix = format!("`lastgood etcd snapshot verify {file}` names the place; look at the disk with `dmesg`");
    Some(Check::bad("kept snapshots", CheckResult::Warning, format!("{file} is damaged: {why}{more}"), fix))
}

/// What a bare machine needs besides the data. That keys are not in it is a choice; so it is no warning.
fn bundle(snapshots: &Snapshots) -> Option<Check> {
    let newest = snapshots.newest.as_ref()?;
    let subject = "bundle of the snapshot";
    let bundled = match &newest.bundle {
        Ok(bundled) => bundled,
        Err(why) => {
            let fix = "`lastgood etcd snapshot save` takes one with its bundle, or says why it cannot";
            return Some(Check::bad(subject, CheckResult::Warning, why, fix));
        }
    };
    let left_out = match bundled.left_out.len() {
        0 => String::new(),
        n => format!("; left out: {n} (`lastgood etcd snapshot show` names each)"),
    };
    let mut check = Check::ok(subject, format!("{}{left_out}", bundled.briefly));
    if !bundled.keys {
        let fix = "it contains no keys; run `age-keygen -o FILE` on another machine and set snapshots.recipients = \
                   [\"age1…\"] to its public key: the next bundle contains them, encrypted";
        check.fix = Some(fix.to_owned());
    }
    Some(check)
}

/// Whether they are in object storage as well, where they are to be. By what the agent saw there: a store may hang.
fn remote(snapshots: &Snapshots, now: Timestamp) -> Option<Check> {
    let remote = snapshots.remote.as_ref()?;
    let subject = "snapshot in object storage";
    let failing = remote.failing.as_ref().map(|failing| {
        format!("; uploads have failed since {:.0} ({} tries): {}", failing.since, failing.times, failing.why)
    });
    let failing = failing.unwrap_or_default();
    let next = "`lastgood etcd snapshot list --remote` says why";
    let Some(newest) = &remote.newest else {
        let detail = format!("no verified one is known to be in {}{failing}", remote.url);
        return Some(Check::bad(subject, CheckResult::Warning, detail, next.to_owned()));
    };
    let detail = format!("{} is verified in {}, revision {}{failing}", newest.file, remote.url, newest.revision);
    Some(match snapshots.is_behind(now) {
        true => {
            let detail = format!("behind those on this node: the newest, {detail}");
            Check::bad(subject, CheckResult::Warning, detail, next.to_owned())
        }
        false => Check::ok(subject, detail),
    })
}

/// Whether there is a recent one.
fn data(snapshots: &Snapshots, now: Timestamp) -> Check {
    let subject = "snapshot of etcd";
    let dir = &snapshots.directory;
    if let Some(why) = &snapshots.unreadable {
        return Check::bad(subject, CheckResult::CannotTell, why, format!("`ls -l {dir}`"));
    }
    let save = "`lastgood etcd snapshot save`";
    let Some((newest, age)) = snapshots.newest.as_ref().zip(snapshots.age(now)) else {
        let fix = if snapshots.enabled { save.to_owned() } else { format!("{save}, or snapshots.enabled = true") };
        let detail = format!("no verified one is in {dir}: lost data could not be restored");
        return Check::bad(subject, CheckResult::Warning, detail, fix);
    };
    let detail = format!("{} is verified, {} old, revision {}", newest.file, roughly(age), newest.revision);
    if age > snapshots.longest() {
        let detail = format!("the newest, {detail}: what was written since would be lost with the data");
        return Check::bad(subject, CheckResult::Warning, detail, format!("{save} takes one, or says why it cannot"));
    }
    Check::ok(subject, detail)
}
