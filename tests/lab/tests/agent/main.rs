//! The agent on a node: faults are injected, and the result is checked from outside.
//!
//! Every test begins with a node that the agent has adopted without configuration, and ends with a restart of the agent
//! and the same end ([`Stage::the_same_after_a_restart`]).
//!
//! | Module | What is broken |
//! |---|---|
//! | `changes` | a manifest is changed for the worse |
//! | `files` | the manifest directory contains a file that is no manifest, or a duplicate |
//! | `absence` | manifests are deleted, moved away, reset |
//! | `closures` | a file that a manifest mounts is changed |
//! | `etcd` | etcd's manifest, while the API server runs |
//! | `versions` | an upgrade of etcd, whose data may have been moved on |
//! | `members` | the etcd cluster, its alarms, and a restored lineage |
//! | `peers` | one etcd member among others: it hangs, is cut off, is a learner, is older, has a slow disk |
//! | `restored` | etcd regressed to an earlier state: which components cached the later one |
//! | `wrong_data` | etcd's data: another disk, a wrong path, an older copy, a new cluster |
//! | `upgrades` | an upgrade by kubeadm, whole and cut short |
//! | `boots` | the node starts with a bad manifest on disk |
//! | `power` | the whole node: its power is cut in the middle of anything |
//! | `crashes` | the agent itself: killed, its state damaged, its disk full |
//! | `flapping` | the same thing, again and again |
//! | `stalls` | nothing: a process hangs, or looks well and does nothing |
//! | `surroundings` | the environment: a certificate ends, a disk fills, an address dies |
//! | `random` | anything at all, by chance, with an observer outside |
//! | `snapshots` | nothing: snapshots of etcd are taken, kept and shown |
//! | `bare` | the whole machine: another becomes it, by lastgood-restore(7) |
//! | `figures` | nothing: etcd's status and sizing, and the metrics |
//! | `hands` | the operator's commands |

#[allow(dead_code, reason = "more tests than these stand on it")]
mod stage;

mod absence;
mod bare;
mod boots;
mod changes;
mod closures;
mod crashes;
mod etcd;
mod figures;
mod files;
mod flapping;
mod hands;
mod members;
mod peers;
mod power;
mod random;
mod restored;
mod restoring;
mod snapshots;
mod stalls;
mod surroundings;
mod upgrades;
mod versions;
mod wrong_data;
