//! What a capability with background tasks registers with. Static pods and host services go through observe, judge, decide and
//! act; everything else (snapshots, certificates, peers …) is a feature: a room of this layer, which the agent
//! starts from one table (`agent/features.rs`).
//!
//! ```text
//!   agent ── start(settings, machine, Inbox) ──▶ feature's tasks ──Event──▶ Inbox ──▶ journal, history
//!     │                                              ▲    │
//!     ├── after each pass: PassEnd (what was seen, the memory) ┘    └── before each pass: FeatureNotice ──▶ decide
//!     ├── after its status: the node as a whole
//!     └── for a report: View
//! ```
//!
//! A pass never waits for a feature, and a feature never waits for a pass. A feature changes no manifest.

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::config::keys::Key;
use crate::model::check::Check;
use crate::model::etcd_history::EtcdHistory;
use crate::model::hook::HookView;
use crate::model::inhibitor::Inhibitor;
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::model::overall::Overall;
use crate::model::peer::Peers;
use crate::model::{Event, Judgement, Memory, Observation, Snapshots};
use crate::observe::LocalMember;

/// Events of features that wait to be reported.
const EVENTS: usize = 64;

/// Where features report what they did: one for all of them.
pub type Inbox = mpsc::Sender<Event>;

/// The agent's end of the [`Inbox`], and the first of its senders.
pub fn inbox() -> (Inbox, mpsc::Receiver<Event>) {
    mpsc::channel(EVENTS)
}

/// What one pass knows, for the features.
#[derive(Clone, Copy, Debug)]
pub struct PassEnd<'a> {
    /// What the pass saw.
    pub seen: &'a Observation,
    /// How it was judged.
    pub judged: &'a Judgement,
    /// What lastgood knows after it.
    pub memory: &'a Memory,
    /// Why nothing is changed at present.
    pub inhibitors: &'a [Inhibitor],
    /// What is on record of the clusters that this node's etcd has served.
    pub known: &'a EtcdHistory,
    /// The etcd member of this node, and how it is asked.
    pub member: Option<&'a LocalMember>,
}

/// What reports show of the features: a field for each one that has something to show.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// The snapshots of this node's etcd; nothing if it runs no etcd.
    pub snapshots: Option<Snapshots>,
    /// The command that notifies people; nothing where none is configured.
    pub hook: Option<HookView>,
    /// The agents next to the other members of etcd; nothing where it has none.
    pub peers: Option<Peers>,
}

/// A feature that runs.
pub trait Feature: Send {
    /// Takes in what a pass found. Returns at once.
    fn after_pass(&mut self, pass: PassEnd<'_>);

    /// Takes in how the node as a whole is, as the status after a pass says it. Returns at once.
    fn after_status(&mut self, _overall: Overall, _sentence: &str) {}

    /// What the operator has to know about it now, and what is over.
    fn notices(&self, now: Timestamp) -> Vec<FeatureNotice>;

    /// Fills in its part of the view.
    fn show(&self, view: &mut View);
}

/// A row of the agent's table.
#[derive(Clone, Copy)]
pub struct Registration {
    /// The feature's name, for people who read the code.
    pub name: &'static str,
    /// Its configuration keys, in the order of the file.
    pub keys: &'static [Key],
    /// Starts its tasks. They end when the value is dropped.
    pub start: fn(&Settings, &Machine, Inbox) -> Box<dyn Feature>,
    /// Fills in its part of the view where no agent runs.
    pub look: fn(&Settings, &Memory, &mut View),
    /// What doctor says of it.
    pub doctor: fn(&View, Timestamp) -> Vec<Check>,
}
