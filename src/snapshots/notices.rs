//! What the operator has to know about the snapshots of etcd's data, with the next step.

use jiff::Timestamp;

use crate::model::notice::{FeatureNotice, Notice};
use crate::model::{ComponentId, Snapshots};

/// Every subject, with its sentence where something is wrong.
pub(super) fn notices(snapshots: &Snapshots, etcd: &ComponentId, now: Timestamp) -> Vec<FeatureNotice> {
    let about = |about, text| FeatureNotice { component: etcd.clone(), about, text };
    vec![
        about(Notice::SnapshotOld, late(snapshots, now)),
        about(Notice::SnapshotUnverified, unverified(snapshots)),
        about(Notice::SnapshotDamaged, damaged(snapshots)),
        about(Notice::ValuesUnreadable, undecryptable(snapshots)),
        about(Notice::SnapshotRemoteBehind, behind(snapshots, now)),
    ]
}

fn late(snapshots: &Snapshots, now: Timestamp) -> Option<String> {
    snapshots.is_late(now).then_some(())?;
    let minutes = snapshots.longest().as_secs() / 60;
    let newest = match &snapshots.newest {
        Some(newest) => format!("the newest is of {:.0}, revision {}", newest.at, newest.revision),
        None => "there is no snapshot".to_owned(),
    };
    let why = match (&snapshots.failed, &snapshots.unreadable) {
        (_, Some(why)) => format!("; {why}"),
        (Some(failed), None) => format!("; the last attempt failed: {}", failed.why),
        (None, None) => String::new(),
    };
    Some(format!(
        "no verified snapshot of etcd's data of the last {minutes} minutes: {newest}{why}; what was written since would \
         be lost with the data; next: `lastgood etcd snapshot save` takes one, or says why it cannot"
    ))
}

fn behind(snapshots: &Snapshots, now: Timestamp) -> Option<String> {
    snapshots.is_behind(now).then_some(())?;
    let remote = snapshots.remote.as_ref()?;
    let url = &remote.url;
    let newest = match &remote.newest {
        Some(newest) => format!("the newest verified one there is of {:.0}, revision {}", newest.at, newest.revision),
        None => "no verified one is known to be there".to_owned(),
    };
    let why = match &remote.failing {
        Some(failing) => format!("; uploads have failed since {:.0}: {}", failing.since, failing.why),
        None => String::new(),
    };
    Some(format!(
        "the snapshots in {url} are behind those on this node: {newest}{why}; with this node's disk they would be lost; \
         next: `lastgood etcd snapshot list --remote` says why"
    ))
}

fn undecryptable(snapshots: &Snapshots) -> Option<String> {
    let values = snapshots.undecryptable.as_ref()?;
    Some(format!(
        "kube-apiserver cannot decrypt what the restore of {:.0} put into etcd: {}, and the key is missing on this node; reading \
         and listing these objects fails; next: {}, and restart kube-apiserver; if the keys are lost, delete the objects and run \
         `lastgood etcd snapshot save`",
        values.since,
        values.what.join("; "),
        values.next
    ))
}

fn damaged(snapshots: &Snapshots) -> Option<String> {
    let (file, why) = snapshots.damaged.first()?;
    let more = snapshots.damaged.len() - 1;
    let more = if more == 0 { String::new() } else { format!(", and {more} more are damaged") };
    Some(format!(
        "the snapshot {file} is damaged: {why}{more}; a restore does not take it by itself, and lastgood does not delete it; \
         next: `lastgood etcd snapshot verify {file}` names the place, `dmesg` shows faults of the disk; while etcd serves, \
         `lastgood etcd snapshot save` takes another one; otherwise `lastgood etcd snapshot list`, also with --remote, shows \
         what `lastgood etcd restore` can take"
    ))
}

fn unverified(snapshots: &Snapshots) -> Option<String> {
    let (file, why) = snapshots.unverified.first()?;
    let more = snapshots.unverified.len() - 1;
    let more = if more == 0 { String::new() } else { format!(", and {more} more like it") };
    let dir = &snapshots.directory;
    Some(format!(
        "{dir}/{file} is not verified: {why}{more}; a restore does not take it by itself, and it is not pruned; next: \
         `lastgood etcd snapshot verify {dir}/{file}`, then move it elsewhere or delete it"
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::snapshot::{Failed, Failing, Newest, Remote, Sent, Undecryptable};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn snapshots() -> Snapshots {
        Snapshots {
            enabled: true,
            interval: Duration::from_secs(600),
            directory: "/var/lib/lastgood/snapshots".into(),
            newest: None,
            verified: 0,
            bytes: 0,
            unverified: Vec::new(),
            damaged: Vec::new(),
            checked: None,
            undecryptable: None,
            failed: None,
            since: at(0),
            unreadable: None,
            remote: None,
        }
    }

    fn newest(second: i64) -> Option<Newest> {
        let at = at(second);
        Some(Newest { file: "a.db".into(), at, revision: 5, bytes: 1, verified: at, bundle: Err("none".into()) })
    }

    fn sent(second: i64) -> Option<Sent> {
        Some(Sent { file: "a.db".into(), at: at(second), revision: 5, bytes: 1, verified: at(second) })
    }

    /// The subjects that have a sentence.
    fn wrong(snapshots: &Snapshots, second: i64) -> Vec<(Notice, String)> {
        let all = notices(snapshots, &ComponentId::system("etcd"), at(second));
        assert_eq!(all.len(), 5, "a subject without a sentence takes the notice back");
        all.into_iter().filter_map(|one| Some((one.about, one.text?))).collect()
    }

    #[test]
    fn what_is_wrong_with_the_snapshots_by_when_it_is_looked_at() {
        let failed = Failed { at: at(0), times: 3, why: "the disk is full".into() };
        let never = Snapshots { failed: Some(failed), ..snapshots() };
        let taken = Snapshots { newest: newest(1500), ..snapshots() };
        let unverified = vec![("a.db".to_owned(), "it has no verification record".to_owned()); 2];
        let foreign = Snapshots { newest: newest(0), unverified, ..snapshots() };
        let failing = Some(Failing { since: at(0), at: at(0), times: 3, why: "SlowDown".into() });
        let remote = Some(Remote { newest: sent(0), failing, ..Remote::unseen("s3://backups".into()) });
        let lags = Snapshots { newest: newest(1800), remote, ..snapshots() };
        let remote = Some(Remote { newest: sent(1800), ..Remote::unseen("s3://backups".into()) });
        let sent = Snapshots { newest: newest(1800), remote, ..snapshots() };
        let damaged = vec![("a.db".to_owned(), "its bytes differ".to_owned())];
        let damaged = Snapshots { newest: newest(0), damaged, ..snapshots() };
        let undecryptable = Some(Undecryptable {
            since: at(5),
            values: 4,
            keys: vec!["aescbc key1".into()],
            what: vec!["4 values (secrets) are encrypted with aescbc key1".into()],
            next: "put the keys back into /etc/kubernetes/enc.yaml".into(),
        });
        let locked = Snapshots { newest: newest(0), undecryptable, ..snapshots() };
        let [(_, said)] = &wrong(&locked, 10)[..] else { panic!("no notice") };
        assert!(
            ["4 values", "aescbc key1", "/etc/kubernetes/enc.yaml"].iter().all(|word| said.contains(word)),
            "{said}"
        );
        let rows: [(&str, &Snapshots, i64, &[Notice]); 9] = [
            ("a key is missing", &locked, 10, &[Notice::ValuesUnreadable]),
            ("none yet, in the first interval", &never, 600, &[]),
            ("none after two intervals", &never, 1600, &[Notice::SnapshotOld]),
            ("one was taken", &taken, 1600, &[]),
            ("one is damaged", &damaged, 10, &[Notice::SnapshotDamaged]),
            ("two are not verified", &foreign, 10, &[Notice::SnapshotUnverified]),
            ("object storage lags by an interval", &Snapshots { newest: newest(0), ..lags.clone() }, 600, &[]),
            ("object storage lags by three", &lags, 1900, &[Notice::SnapshotRemoteBehind]),
            ("object storage has caught up", &sent, 1900, &[]),
        ];
        for (situation, snapshots, second, about) in rows {
            let found: Vec<Notice> = wrong(snapshots, second).into_iter().map(|(about, _)| about).collect();
            assert_eq!(found, about, "{situation}");
        }
    }

    #[test]
    fn each_sentence_has_its_cause_and_its_next_step() {
        let failed = Failed { at: at(0), times: 3, why: "the disk is full".into() };
        let failing = Some(Failing { since: at(0), at: at(0), times: 3, why: "SlowDown".into() });
        let remote = Some(Remote { newest: sent(0), failing, ..Remote::unseen("s3://backups".into()) });
        let unverified = vec![("a.db".to_owned(), "it has no verification record".to_owned())];
        let damaged = vec![("a.db".to_owned(), "its bytes differ".to_owned())];
        let never = Snapshots { failed: Some(failed), unverified, damaged, ..snapshots() };
        let lags = Snapshots { newest: newest(1800), remote, ..snapshots() };
        let words = [
            [Some("the disk is full"), Some("`lastgood etcd snapshot save`")],
            [Some("it has no verification record"), Some("`lastgood etcd snapshot verify ")],
            [Some("its bytes differ"), Some("`lastgood etcd snapshot verify a.db`")],
            [Some("SlowDown"), Some("`lastgood etcd snapshot list --remote`")],
        ];
        let found = [wrong(&never, 1600), wrong(&lags, 1900)].concat();
        assert_eq!(found.len(), words.len(), "{found:?}");
        for ((_, text), words) in found.iter().zip(words) {
            assert!(words.into_iter().flatten().all(|word| text.contains(word)), "{text}");
        }
    }
}
