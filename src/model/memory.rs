//! The memory: what the agent knows from earlier passes, also across restarts and reboots. It is one value, saved as a
//! whole.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::config_files::generation_digest;
use super::etcd_data::{ClusterFiles, DataDir};
use super::format::Format;
use super::host_path::AbsentPaths;
use super::lift;
use super::lineage::{Incarnation, WentBack, WrongData};
use super::notice::{NodeNotice, Notice, known_only};
use super::{ClosureFile, ComponentId, ComponentState, Digest, FileKind, FileState, Generation, Role, Verdict};

/// The format of the memory on disk. Every version ever written has a fixture.
pub const FORMAT: Format = Format {
    key: "memory",
    versions: &[
        "the memory; files of this version may have what version 2 lists, and may lack it",
        "runtime_restarts, incarnations, went_back, wrong_data, cluster, rebuilt, change_set; of a component: restart, pinned, \
         unstarted; of a trial: imageless; of a rollback: `stood`, `vacated`; of an incarnation: raft_index, store, members; of a \
         data directory: versions, origin, at_rest, mount; of the data of an etcd: wal_dir",
        "a replacement has a purpose, and its stage what was seen in it; assists of a component; other names (model/lift.rs)",
    ],
    lift: lift::memory,
};

/// Everything remembered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The machine it was made on: another's is set aside, unused (Q7).
    pub machine: Machine,
    /// The components of this node.
    pub components: BTreeMap<ComponentId, Record>,
    /// The operator's pause, while it lasts.
    pub pause: Option<Pause>,
    /// kube-apiserver, while it is taken out around an etcd change.
    pub stopped_apiserver: Option<ApiServerStopped>,
    /// How long ago each restart of the kubelet was that still counts.
    pub kubelet_restarts: VecDeque<Duration>,
    /// The same for the container runtime.
    #[serde(default)]
    pub runtime_restarts: VecDeque<Duration>,
    /// When the API server was last seen to serve: in which boot, and when on its clock.
    pub api_served: Option<ApiServed>,
    /// What the operator has to know about the node as a whole.
    #[serde(deserialize_with = "known_only")]
    pub notices: BTreeMap<NodeNotice, String>,
    /// Which world each etcd of this node has served.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub incarnations: BTreeMap<ComponentId, Incarnation>,
    /// An etcd world that regressed, while somebody may still remember the one before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub went_back: Option<WentBack>,
    /// An etcd that serves other data than those on record, while it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub wrong_data: Option<WrongData>,
    /// The cluster that this node's files made it a member of while etcd served the data on record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<ClusterFiles>,
    /// What the operator was seen to do since then that makes another cluster of this node: a sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebuilt: Option<String>,
    /// The components that changed together last. Left out where none has changed since there are change sets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_set: Option<ChangeSet>,
}

/// Components that changed within a bounded time of each other, as an upgrade changes them (Q6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeSet {
    /// Since the last of them changed: watched time in which nobody held us. It stops where no other joins any more.
    pub age: Duration,
    /// The generation that each of them changed to.
    pub members: BTreeMap<ComponentId, u32>,
    /// Those of them that we have begun to put back.
    pub undone: BTreeSet<ComponentId>,
}

/// What binds a memory to a machine.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// `/etc/machine-id`.
    pub machine_id: String,
    /// The node's name.
    pub node_name: String,
}

impl Machine {
    /// Whether both are of one machine (Q7): by the machine ID. Another host name alone is no other machine; where an ID is
    /// unknown, the name decides.
    pub fn is(&self, other: &Self) -> bool {
        match self.machine_id.is_empty() || other.machine_id.is_empty() {
            true => self.node_name == other.node_name,
            false => self.machine_id == other.machine_id,
        }
    }
}

/// When the API server last served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiServed {
    /// The boot it was in.
    pub boot_id: String,
    /// When, on that boot's clock.
    pub at: Duration,
}

/// The operator's pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// When it ends. By the wall clock, which the person who gave it goes by.
    pub until: Timestamp,
    /// Why, where they said so.
    pub reason: String,
    /// Whether its coming end was reported.
    pub warned: bool,
}

/// kube-apiserver, whose manifest is out around a change of etcd.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiServerStopped {
    pub component: ComponentId,
    /// The generation that was deployed and comes back.
    pub generation: u32,
    /// The etcd that is replaced.
    pub for_component: ComponentId,
    /// How long it has been.
    pub age: Duration,
}

/// All that is remembered of one component.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// What it is to the others.
    pub role: Role,
    /// Its place in the state machine.
    pub state: ComponentState,
    /// What is deployed in the manifest directory, and since when.
    pub deployed: Option<Deployed>,
    /// Its generations, by number.
    pub generations: BTreeMap<u32, Generation>,
    /// The number the next one gets.
    pub next_number: u32,
    /// The generation that served last: which data a rollback must not leave (Q1).
    pub last_served: Option<u32>,
    /// How long ago each action was that still counts against the budget.
    pub actions: VecDeque<Duration>,
    /// What the operator has to know about it.
    #[serde(deserialize_with = "known_only")]
    pub notices: BTreeMap<Notice, String>,
    /// How it was judged last, and since when.
    pub verdict: Option<(Verdict, Timestamp)>,
    /// etcd's data directory as it was while etcd served (Q3).
    pub data_dir: Option<(PathBuf, DataDir)>,
    /// The container that is being stopped because its process is stalled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub restart: Option<Restart>,
    /// The generation that the operator fixed as the one to roll back to. Left out where there is none: so a memory
    /// from before there were pins is read and written as it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pinned: Option<Pin>,
    /// A manifest that we cannot read and that the kubelet has started no pod of so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unstarted: Option<Unstarted>,
    /// What was done to shorten its outages. Left out where nothing was.
    #[serde(default, skip_serializing_if = "Assists::is_empty")]
    pub assists: Assists,
    /// Since when the pod of what is deployed has been deployed, whatever happened to its configuration files since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_deployed: Option<Timestamp>,
    /// What the deployed manifest mounts and did not exist when it was first seen in place; during a rollback still that of
    /// the manifest that failed. Left out where everything existed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_paths: Option<AbsentPaths>,
}

/// What was done lately to shorten the outages of a component: each of it once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assists {
    /// Its container that was stopped, because its process had closed its port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stopped: Option<String>,
    /// Of an etcd: the change of its manifest for which kube-apiserver was stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_stopped_for: Option<Deployed>,
    /// Its earlier sandbox that was stopped, because the later one could not start next to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<String>,
    /// Its container, whose next attempt did not come, for which the kubelet was restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_attempt: Option<String>,
    /// How long ago a back-off of it was ended, while that bars another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub back_off: Option<Duration>,
    /// How long ago each of them was that still counts. They are counted apart from the other actions, so that what only
    /// shortens an outage takes none from a rollback.
    #[serde(default, skip_serializing_if = "VecDeque::is_empty")]
    pub done: VecDeque<Duration>,
}

impl Assists {
    /// A component whose back-off is ended again and again would restart in a loop (Never 9).
    pub const BACK_OFF_EVERY: Duration = Duration::from_secs(600);

    fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn grow_older(&mut self, age: impl Fn(&mut VecDeque<Duration>), credit: Duration) {
        age(&mut self.done);
        self.back_off = self.back_off.map(|age| age + credit).filter(|age| *age < Self::BACK_OFF_EVERY);
    }
}

/// A file that we cannot read, while no pod of its component runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unstarted {
    /// Of its bytes: another file is another matter.
    pub file: Digest,
    /// For how long no pod has run and none was started: watched time.
    pub age: Duration,
}

/// A container that is stopped for the kubelet to start it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restart {
    /// Its ID: another container is another restart.
    pub container: String,
    /// How long ago it received a signal to stop, last.
    pub age: Duration,
}

/// The operator's word on where to roll back to: our rollbacks go there, inactive-manifests holds it, and it is never
/// forgotten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pin {
    /// Which generation. It is known-good, and stays so while it is pinned.
    pub generation: u32,
    /// Why, where they said so.
    pub reason: String,
    pub since: Timestamp,
}

/// The deployed generation, and the newest change among its files when it was first seen to stand. Kept while the
/// digest stays, so that rewriting a file with the same content does not make its process look old.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deployed {
    pub digest: Digest,
    pub changed: Timestamp,
}

impl Record {
    /// Of a component that was just met: nothing is known of it but its place.
    pub fn new(role: Role, state: ComponentState) -> Self {
        Self {
            role,
            state,
            deployed: None,
            generations: BTreeMap::new(),
            next_number: 1,
            last_served: None,
            actions: VecDeque::new(),
            notices: BTreeMap::new(),
            verdict: None,
            data_dir: None,
            restart: None,
            pinned: None,
            unstarted: None,
            assists: Assists::default(),
            pod_deployed: None,
            absent_paths: None,
        }
    }

    /// The generation of that digest.
    pub fn by_digest(&self, digest: Digest) -> Option<&Generation> {
        self.generations.values().find(|generation| generation.digest == digest)
    }

    /// The digest that names what a file holds, for this component: files that are known as key material take no part,
    /// also when they are missing (Q4: they are never rolled back, so they must not make a generation).
    pub fn digest_of(&self, pod: Digest, closure: &[ClosureFile]) -> Digest {
        let kept = self.generations.values().flat_map(|generation| &generation.closure);
        let keys = kept.filter(|file| matches!(file.state, FileState::Present { kind: FileKind::KeyMaterial, .. }));
        let keys: BTreeSet<&Path> = keys.map(|file| file.path.as_path()).collect();
        let mut closure: Vec<_> = closure.iter().filter(|file| !keys.contains(file.path.as_path())).cloned().collect();
        // A directory that was made for this very pod in the place of a file: the file is as missing as before.
        for path in self.made_for(pod).filter(|path| self.was_missing(pod, path) && !keys.contains(*path)) {
            if let Err(at) = closure.binary_search_by(|file| file.path.as_path().cmp(path)) {
                closure.insert(at, ClosureFile { path: path.to_owned(), state: FileState::Missing });
            }
        }
        generation_digest(pod, &closure)
    }

    /// The paths at which a directory may have been made for this pod.
    fn made_for(&self, pod: Digest) -> impl Iterator<Item = &Path> {
        let absent = self.absent_paths.as_ref().filter(|absent| absent.pod == pod);
        absent.into_iter().flat_map(|absent| absent.paths.union(&absent.used).map(PathBuf::as_path))
    }

    /// Whether a generation of this pod names that file as missing.
    fn was_missing(&self, pod: Digest, path: &Path) -> bool {
        let of_pod = self.generations.values().filter(|generation| generation.pod_digest == pod);
        let mut files = of_pod.flat_map(|generation| &generation.closure);
        files.any(|file| file.path == path && file.state == FileState::Missing)
    }

    /// Since when what has this digest is deployed: as first noticed, where it was noticed before. What is new and
    /// bears no newer time than what was deployed before (a file that was removed, or cannot be read) changed since the
    /// last look, so a process from before has not read it (Q5).
    pub fn standing_since(&self, digest: Digest, changed: Timestamp, now: Timestamp) -> Timestamp {
        match &self.deployed {
            Some(known) if known.digest == digest => known.changed,
            Some(known) if changed <= known.changed => now,
            _ => changed,
        }
    }

    /// Its known-good generations, the newest first.
    pub fn known_good(&self) -> impl Iterator<Item = &Generation> {
        self.generations.values().rev().filter(|generation| generation.trust.is_known_good())
    }

    /// The number of the pinned generation.
    pub fn pin(&self) -> Option<u32> {
        self.pinned.as_ref().map(|pin| pin.generation)
    }

    /// Where a rollback of ours would go, if everything allows it: the one under way goes where it goes; otherwise to the
    /// pinned generation, unless that is the one on trial; otherwise to the slot's known-good one.
    pub fn goes_back_to(&self) -> Option<u32> {
        match &self.state {
            ComponentState::Replacing(rollback) => Some(rollback.to),
            slot => {
                let tried = matches!(slot, ComponentState::Probation(p) if Some(p.candidate) == self.pin());
                self.pin().filter(|_| !tried).or_else(|| slot.good())
            }
        }
    }

    /// The name its file has in the manifest directory: of the generation it would roll back to, or of the newest.
    pub fn file_name(&self) -> Option<&str> {
        let generation = self.state.good().and_then(|good| self.generations.get(&good));
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
        age(&mut self.runtime_restarts);
        for record in self.components.values_mut() {
            age(&mut record.actions);
            record.assists.grow_older(age, credit);
        }
        if let Some(stopped) = &mut self.stopped_apiserver {
            stopped.age += credit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q5_what_changed_without_a_newer_time_stands_since_it_was_noticed() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let (known, new) = (Digest::of(b"known"), Digest::of(b"new"));
        let record = Record {
            deployed: Some(Deployed { digest: known, changed: at(100) }),
            next_number: 2,
            ..Record::new(Role::Other, ComponentState::Steady { good: 1 })
        };
        assert_eq!(record.standing_since(known, at(150), at(200)), at(100), "rewritten with the same content");
        assert_eq!(record.standing_since(new, at(150), at(200)), at(150), "written anew");
        assert_eq!(record.standing_since(new, at(100), at(200)), at(200), "a file of its closure was removed");
        let fresh = Record { deployed: None, ..record };
        assert_eq!(fresh.standing_since(new, at(100), at(200)), at(100), "first sight");
    }
}
