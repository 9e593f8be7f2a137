//! Which etcd version may open which data (R9), and so which generation of etcd may be deployed over them.
//!
//! An etcd exits over data of a cluster version above its own (`MustDetectDowngrade` in `server/etcdserver/version`);
//! from 3.6 on also over a storage version that it does not know (`server/storage/schema`); up to 3.5 over data with an
//! active downgrade to a version other than its own. Both versions are minor versions; a patch release changes nothing
//! about the data.

use std::fmt;

use super::kubelet_probe::KUBEADM_ETCDCTL;
use super::memory::Record;
use super::versions::{DataVersion, Minor};
use super::{ComponentState, Generation, Role};

/// The last etcd that looks at a downgrade under way before it opens its data; 3.4 knows of none.
const HEEDS_DOWNGRADE: Minor = (3, 5);

/// Why an etcd may not be started over some data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barred {
    /// Which versions, and why.
    pub why: String,
    /// What the operator can do.
    pub next_step: String,
}

impl fmt::Display for Barred {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; next: {}", self.why, self.next_step)
    }
}

/// Whether an etcd of this minor version may open this data.
///
/// # Errors
/// Both versions, the reason and the next step. What is not known is refused with its own reason.
pub fn may_open(binary: Option<Minor>, data: &DataVersion) -> Result<(), Barred> {
    let barred = |why: String, next_step: &str| Err(Barred { why, next_step: next_step.to_owned() });
    let Some(binary) = binary else {
        return barred(
            "its image does not name etcd's version, so it is unknown whether it can open the data".to_owned(),
            "name the image by a tag that begins with etcd's version (3.5.16-0), or put the manifest in place by hand",
        );
    };
    let etcd = format!("etcd {}", shown(binary));
    let versions = match data {
        DataVersion::Known(versions) => versions,
        DataVersion::Unknown { why } => {
            return barred(
                format!("it is unknown whether {etcd} can open the data: {why}"),
                "look at the data (`etcdutl snapshot status` of member/snap/db), then put the manifest in place by hand",
            );
        }
    };
    const NEWER: &str = "deploy an etcd that is at least as new and fix what keeps it from serving; or, with a \
                         snapshot from before the upgrade, restore that for the older one";
    if let Some(storage) = versions.storage.filter(|storage| *storage > binary) {
        let storage = shown(storage);
        return barred(
            format!("{etcd} cannot open data of storage version {storage}: an etcd {storage} wrote it"),
            NEWER,
        );
    }
    if let Some(target) = versions.downgrade.filter(|_| binary <= HEEDS_DOWNGRADE) {
        if binary == target {
            return Ok(());
        }
        if binary == HEEDS_DOWNGRADE {
            let why = format!("{etcd} does not open data that is being downgraded to {}", shown(target));
            let next = format!("finish the downgrade, or end it with `{KUBEADM_ETCDCTL} downgrade cancel`");
            return barred(why, &next);
        }
    }
    match versions.cluster {
        Some(cluster) if cluster > binary => {
            let cluster = shown(cluster);
            let why = format!(
                "{etcd} does not open data of cluster version {cluster} (invalid downgrade): an etcd {cluster} served it \
                 and raised the version"
            );
            barred(why, NEWER)
        }
        Some(_) => Ok(()),
        None => barred(
            format!("it is unknown whether {etcd} can open the data: they contain no cluster version yet"),
            "let the etcd that made them serve once, or put the manifest in place by hand",
        ),
    }
}

/// Whether this generation of an etcd may be put over the data as they are. One whose program is the only one known to
/// have run over them may, whatever its image is called; one that is not older than any that did may even where the data
/// cannot be read.
///
/// # Errors
/// As [`may_open`].
pub fn may_return(record: &Record, target: &Generation, data: &DataVersion) -> Result<(), Barred> {
    if record.role != Role::Etcd {
        return Ok(());
    }
    let others: Vec<&Generation> = ran_since(record).filter(|other| other.images != target.images).collect();
    let served = record.data_dir.as_ref().map(|(_, kept)| &kept.versions);
    match data {
        DataVersion::Known(_) if others.is_empty() && (served == Some(data) || target.minor.is_none()) => Ok(()),
        DataVersion::Unknown { .. } if others.iter().all(|other| not_newer(other.minor, target.minor)) => Ok(()),
        data => may_open(target.minor, data),
    }
}

/// Whether another program than this generation's may have written the data since: then they have to be looked at once
/// more, when nobody writes them any longer (Q15).
pub fn follows_another(record: &Record, target: &Generation) -> bool {
    record.role == Role::Etcd && ran_since(record).any(|other| other.images != target.images)
}

fn not_newer(other: Option<Minor>, target: Option<Minor>) -> bool {
    other.zip(target).is_some_and(|(other, target)| other <= target)
}

/// The generations that may have run over the data last: the one that served, and the one that is deployed or was
/// deployed.
fn ran_since(record: &Record) -> impl Iterator<Item = &Generation> {
    let stands = record.deployed.as_ref().and_then(|stands| record.by_digest(stands.digest));
    let in_hand = match &record.state {
        ComponentState::Replacing(replacement) => replacement.from(),
        ComponentState::Probation(probation) => Some(probation.candidate),
        ComponentState::Held(held) => held.over,
        _ => None,
    };
    let numbered = [record.last_served, in_hand].into_iter().flatten();
    numbered.filter_map(|number| record.generations.get(&number)).chain(stands)
}

fn shown((major, minor): Minor) -> String {
    format!("{major}.{minor}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::versions::Versions;

    fn known(cluster: Option<Minor>, storage: Option<Minor>, downgrade: Option<Minor>) -> DataVersion {
        DataVersion::Known(Versions { cluster, storage, downgrade })
    }

    #[test]
    fn r9_each_pair_of_binary_and_data() {
        let (v34, v35, v36, v37) = (Some((3, 4)), Some((3, 5)), Some((3, 6)), Some((3, 7)));
        for (binary, data, opens, why) in [
            (v34, known(v34, None, None), true, "its own"),
            (v35, known(v34, None, None), true, "an upgrade"),
            (v36, known(v34, None, None), true, "whether two steps at once are wise is not the guard's question"),
            (v34, known(v35, None, None), false, "etcd 3.4 does not open data of cluster version 3.5"),
            (v35, known(v36, v36, None), false, "etcd 3.5 cannot open data of storage version 3.6"),
            (v35, known(v35, v36, None), false, "storage version 3.6"),
            (v36, known(v36, v37, None), false, "storage version 3.7"),
            (v36, known(v36, v36, None), true, "its own"),
            (v35, known(v36, None, v35), true, "a downgrade to it is under way"),
            (v35, known(v35, v36, v35), false, "storage version 3.6"),
            (v35, known(v35, None, v34), false, "being downgraded to 3.4"),
            (v34, known(v34, None, v34), true, "3.4 reads no word of it"),
            (v34, known(v35, None, Some((3, 3))), false, "cluster version 3.5"),
            (v36, known(v36, None, v35), true, "3.6 runs on while it downgrades"),
            (v35, known(None, None, None), false, "they contain no cluster version yet"),
            (v35, DataVersion::Unknown { why: "the disk is gone".to_owned() }, false, "the disk is gone"),
            (None, known(v34, None, None), false, "does not name etcd's version"),
            (Some((4, 0)), known(v37, v37, None), true, "another major"),
        ] {
            match may_open(binary, &data) {
                Ok(()) => assert!(opens, "{binary:?} over {data:?}: {why}"),
                Err(barred) => {
                    assert!(!opens && barred.why.contains(why), "{binary:?} over {data:?}: {barred}");
                    assert!(!barred.next_step.is_empty());
                }
            }
        }
    }
}
