//! The table of features, and those that run.

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::config::keys::{self, Key};
use crate::config::{Keys, Settings};
use crate::feature::{Feature, PassEnd, Registration, View, inbox};
use crate::hook;
use crate::model::check::Check;
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::model::overall::Overall;
use crate::model::{Event, Memory};
use crate::peer;
use crate::snapshots;

/// Every feature. A new one is a room and a line here.
const FEATURES: &[Registration] = &[snapshots::REGISTRATION, hook::REGISTRATION, peer::REGISTRATION];

/// Every configuration key: those of the core, then those of each feature.
pub const KEYS: Keys = Keys(&GROUPS);

const GROUPS: [&[Key]; FEATURES.len() + 1] = {
    let mut groups = [keys::CORE; FEATURES.len() + 1];
    let mut at = 0;
    while at < FEATURES.len() {
        groups[at + 1] = FEATURES[at].keys;
        at += 1;
    }
    groups
};

/// What the features have to show where no agent runs.
pub fn look(settings: &Settings, memory: &Memory) -> View {
    let mut view = View::default();
    FEATURES.iter().for_each(|feature| (feature.look)(settings, memory, &mut view));
    view
}

/// What doctor says of the features.
pub fn checks(view: &View, now: Timestamp) -> Vec<Check> {
    FEATURES.iter().flat_map(|feature| (feature.doctor)(view, now)).collect()
}

/// The features that run, with the one inbox of all of them.
pub(super) struct Features {
    running: Vec<Box<dyn Feature>>,
    inbox: Option<mpsc::Receiver<Event>>,
}

impl Features {
    pub(super) fn none() -> Self {
        Self { running: Vec::new(), inbox: None }
    }

    pub(super) fn start(settings: &Settings, machine: &Machine) -> Self {
        let (tell, told) = inbox();
        let running = FEATURES.iter().map(|slot| (slot.start)(settings, machine, tell.clone())).collect();
        Self { running, inbox: Some(told) }
    }

    pub(super) fn after_pass(&mut self, pass: PassEnd<'_>) {
        self.running.iter_mut().for_each(|feature| feature.after_pass(pass));
    }

    pub(super) fn after_status(&mut self, overall: Overall, sentence: &str) {
        self.running.iter_mut().for_each(|feature| feature.after_status(overall, sentence));
    }

    pub(super) fn notices(&self, now: Timestamp) -> Vec<FeatureNotice> {
        self.running.iter().flat_map(|feature| feature.notices(now)).collect()
    }

    pub(super) fn view(&self) -> View {
        let mut view = View::default();
        self.running.iter().for_each(|feature| feature.show(&mut view));
        view
    }

    /// The next report. Cancel-safe; never resolves where no feature reports any more.
    pub(super) async fn next(&mut self) -> Event {
        if let Some(inbox) = &mut self.inbox
            && let Some(event) = inbox.recv().await
        {
            return event;
        }
        self.inbox = None;
        std::future::pending().await
    }
}
