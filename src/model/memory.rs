//! The memory: what the agent knows from earlier passes, also across restarts and reboots. One value, saved whole.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::observation::DataDir;
use super::{ComponentId, Digest, Generation, Role, Slot, Verdict};

/// The format this program writes. A file of a higher version is set aside, unread; every version ever written has a
/// fixture.
pub const VERSION: u32 = 1;

/// Everything remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Memory {
    /// The machine it was made on: another's is set aside, unused (Q7).
    pub machine: Machine,
    /// The components of this node.
    pub components: BTreeMap<ComponentId, Record>,
    /// A person's pause, while it lasts.
    pub pause: Option<Pause>,
    /// kube-apiserver, while it is taken out around an etcd change.
    pub parked: Option<Parked>,
    /// How long ago each restart of the kubelet was that still counts.
    pub kubelet_restarts: VecDeque<Duration>,
    /// When the API server was last seen to serve: in which boot, and when on its clock.
    pub api_served: Option<ApiServed>,
    /// What is to be known about the node as a whole, by a key; told once, shown while it lasts.
    pub notices: BTreeMap<String, String>,
}

/// What binds a memory to a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The node's name.
    pub node_name: String,
}

/// When the API server last served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApiServed {
    /// The boot it was in.
    pub boot_id: String,
    /// When, on that boot's clock.
    pub at: Duration,
}

/// A person's pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// When it ends. By the wall clock, which the person who gave it goes by.
    pub until: Timestamp,
    /// Why, where they said so.
    pub reason: String,
    /// Whether its coming end was told.
    pub warned: bool,
}

/// kube-apiserver, taken out around an etcd change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parked {
    /// Its component.
    pub component: ComponentId,
    /// The generation that stood and comes back.
    pub generation: u32,
    /// For whom it was parked.
    pub for_component: ComponentId,
    /// How long it has been.
    pub age: Duration,
}

/// All that is remembered of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// What it is to the others.
    pub role: Role,
    /// Its place in the state machine.
    pub slot: Slot,
    /// What stands in the manifest directory, and since when.
    pub stands: Option<Stands>,
    /// Its generations, by number.
    pub generations: BTreeMap<u32, Generation>,
    /// The number the next one gets.
    pub next_number: u32,
    /// The generation that served last: which data a rollback must not leave (Q1).
    pub last_served: Option<u32>,
    /// How long ago each action was that still counts against the budget.
    pub actions: VecDeque<Duration>,
    /// What is to be known about it, by a key; told once, shown while it lasts.
    pub notices: BTreeMap<String, String>,
    /// How it was judged last, and since when.
    pub verdict: Option<(Verdict, Timestamp)>,
    /// etcd's data directory as it was while etcd served (Q3).
    pub data_dir: Option<(PathBuf, DataDir)>,
}

/// The generation that stands, and the newest change among its files when it was first seen to stand. Kept while the
/// digest stays, so that rewriting a file with the same content does not make its process look old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stands {
    /// Which.
    pub digest: Digest,
    /// Since when.
    pub changed: Timestamp,
}

impl Record {
    /// The generation of that digest.
    pub fn by_digest(&self, digest: Digest) -> Option<&Generation> {
        self.generations.values().find(|generation| generation.digest == digest)
    }

    /// Its known-good generations, the newest first.
    pub fn known_good(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values().rev().filter(|generation| generation.standing.is_known_good())
    }

    /// The name its file has in the manifest directory: of the generation it would go back to, or of the newest.
    pub fn file_name(&self) -> Option<&str> {
        let generation = self.slot.good().and_then(|good| self.generations.get(&good));
        generation.or_else(|| self.generations.values().next_back()).map(|generation| generation.file_name.as_str())
    }
}

impl Memory {
    /// Lets watched time pass for everything that only ages.
    pub fn grow_older(&mut self, credit: Duration) {
        const HOUR: Duration = Duration::from_secs(3600);
        let age = |list: &mut VecDeque<Duration>| {
            list.iter_mut().for_each(|age| *age += credit);
            list.retain(|age| *age < HOUR);
        };
        age(&mut self.kubelet_restarts);
        self.components.values_mut().for_each(|record| age(&mut record.actions));
        if let Some(parked) = &mut self.parked {
            parked.age += credit;
        }
    }
}
