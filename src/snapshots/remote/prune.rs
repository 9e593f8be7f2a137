//! Which of those in object storage go: by the same pure rules as here ([`retention`]), and of this node's clusters alone. A
//! bucket may be shared, and what another cluster keeps there is not ours to judge.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::shelf::{Shelf, Stored};
use super::store::Remote;
use super::trouble::Trouble;
use crate::config::settings;
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

/// What the rules do not keep, of these clusters.
pub fn surplus(shelf: &Shelf, clusters: &BTreeSet<u64>, rules: &Rules, now: Timestamp) -> Vec<Surplus> {
    let ours: Vec<&Stored> = shelf.stored.iter().filter(|stored| clusters.contains(&stored.name.cluster)).collect();
    let held: Vec<Held> = ours.iter().map(|stored| stored.held()).collect();
    let gone = retention::surplus(&held, rules, now).into_iter();
    gone.filter_map(|(at, why)| Some(((*ours.get(at)?).clone(), why))).collect()
}

impl Remote {
    /// Removes what is left of removals that were broken off.
    pub(super) async fn sweep(&self, shelf: &Shelf) -> Result<(), Trouble> {
        for name in shelf.remains.iter().flatten() {
            self.delete(name).await?;
        }
        Ok(())
    }
}
