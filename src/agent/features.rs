//! The table of features, and those that run.

use jiff::Timestamp;
use tokio::sync::mpsc;

use crate::config::Settings;
use crate::feature::{Feature, PassEnd, Registration, View, inbox};
use crate::model::Event;
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::snapshots;

/// Every feature. A new one is a room and a line here.
const FEATURES: &[Registration] = &[snapshots::REGISTRATION];

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
