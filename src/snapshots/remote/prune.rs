//! Which snapshots in object storage to remove: by the same pure rules as local ones ([`retention`]), each cluster
//! separately, and only this node's clusters. A bucket may be shared, and the snapshots of other clusters are not ours
//! to remove.
//!
//! ```text
//!   this node's clusters: those of local snapshots, and those its etcd has served (known.json); where neither is here, the
//!   one that its WAL names
//!   the operator selects others by ID; if none is known here (a new machine) and the bucket has only one cluster, that one
//! ```

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::list::{SnapshotList, Stored};
use super::store::Remote;
use super::trouble::Trouble;
use crate::config::{Settings, settings};
use crate::record;
use crate::snapshots::Snapshot;
use crate::snapshots::retention::{self, Held, Rules, Why};

/// One that goes, or went, and why.
pub type Surplus = (Stored, Why);

impl From<&settings::Remote> for Rules {
    /// Room is not short there: nothing goes for its size.
    fn from(settings: &settings::Remote) -> Self {
        Self {
            last: settings.keep_last,
            hourly: settings.keep_hourly,
            daily: settings.keep_daily,
            weekly: settings.keep_weekly,
            total: u64::MAX,
        }
    }
}

/// The clusters of this node, whether their snapshots are on it or not.
pub fn own_clusters(settings: &Settings, here: &[Snapshot]) -> BTreeSet<u64> {
    let known = record::last_known(settings).0.worlds.into_iter().map(|world| world.cluster);
    here.iter().map(|snapshot| snapshot.name.cluster).chain(known).collect()
}

/// The clusters of a list that the operator means who names none. `own`: those of this node.
///
/// # Errors
/// Where none is this node's, and several are there: all of them.
pub fn meant(list: &SnapshotList, own: BTreeSet<u64>) -> Result<BTreeSet<u64>, BTreeSet<u64>> {
    if !own.is_empty() {
        return Ok(own);
    }
    let there: BTreeSet<u64> = list.stored.iter().map(|stored| stored.name.cluster).collect();
    if there.len() > 1 { Err(there) } else { Ok(there) }
}

/// What the rules do not keep, of these clusters: the last verified one of each stays, whatever is there of the others.
pub fn surplus(list: &SnapshotList, clusters: &BTreeSet<u64>, rules: &Rules, now: Timestamp) -> Vec<Surplus> {
    let of_one = |cluster: &u64| {
        let its: Vec<&Stored> = list.stored.iter().filter(|stored| stored.name.cluster == *cluster).collect();
        let held: Vec<Held> = its.iter().map(|stored| stored.held()).collect();
        let gone = retention::surplus(&held, rules, now).into_iter();
        gone.filter_map(|(at, why)| Some(((*its.get(at)?).clone(), why))).collect::<Vec<_>>()
    };
    clusters.iter().flat_map(of_one).collect()
}

impl Remote {
    /// Removes what is left of removals that were interrupted.
    pub(super) async fn sweep(&self, list: &SnapshotList) -> Result<(), Trouble> {
        for name in list.remains.iter().flatten() {
            self.delete(name).await?;
        }
        Ok(())
    }
}
