//! The feature: hands what passes find to the server and the client, and shows what the others said.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{self, Tracks};
use super::master::{Master, name_of};
use super::report::Reporter;
use super::server::{self, Shared};
use super::{doctor, notices, settings};
use crate::config::Settings;
use crate::feature::{Feature, PassEnd, Registration, View};
use crate::model::etcd::Member;
use crate::model::memory::Machine;
use crate::model::notice::FeatureNotice;
use crate::model::overall::Overall;
use crate::model::peer::{EtcdId, Peer, Peers};
use crate::observe::PeerUrls;

/// The agents of other masters, in the agent's table of features.
pub const REGISTRATION: Registration = Registration {
    name: "peer",
    keys: settings::KEYS,
    start: |settings, machine, _| Box::new(PeerTask::start(settings, machine)),
    // What another agent says is known to the one that asked it.
    look: |_, _, _| {},
    doctor: |view, _| view.peers.as_ref().map_or_else(Vec::new, doctor::checks),
};

#[derive(Debug)]
pub(super) struct PeerTask {
    port: u16,
    master: watch::Sender<Option<Master>>,
    shared: Arc<Shared>,
    pub(super) tracks: Tracks,
    /// The peers that the notice names.
    silent: Mutex<BTreeSet<u64>>,
    /// End with this value.
    _tasks: JoinSet<()>,
}

impl PeerTask {
    pub(super) fn start(settings: &Settings, machine: &Machine) -> Self {
        let (master, masters) = watch::channel(None);
        let shared = Arc::new(Shared::new(Reporter::new(machine, settings.policy.mode)));
        let (port, tracks) = (settings.peers.port, Tracks::default());
        let mut tasks = JoinSet::new();
        if port != 0 {
            tasks.spawn(server::serve(Arc::clone(&shared), port, masters.clone()));
            tasks.spawn(client::ask(Arc::clone(&tracks), port, masters));
        }
        Self { port, master, shared, tracks, silent: Mutex::default(), _tasks: tasks }
    }

    /// What is known of every member; nothing where there is no other, or nobody is to be asked.
    pub(super) fn peers(&self) -> Option<Peers> {
        let master = self.master.borrow().clone()?;
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let now = Timestamp::now();
        let own = |member: &Member| {
            let report = self.shared.reporter.last();
            Peer {
                id: EtcdId(master.own),
                name: name_of(member),
                address: PeerUrls::of(member).shown,
                local: true,
                trouble: None,
                trouble_since: None,
                answered: report.as_ref().map(|report| report.observed),
                clock_ahead_millis: None,
                certificate: None,
                report,
            }
        };
        let show = |member: &Member| match tracks.get(&member.id) {
            Some(track) => track.show(member),
            None if member.id == master.own => own(member),
            None => client::unasked(member),
        };
        let mut peers = Peers {
            at: now,
            cluster: EtcdId(master.cluster),
            port: self.port,
            not_answering: self.shared.trouble(),
            members: master.members.iter().map(show).collect(),
        };
        peers.tell_apart();
        Some(peers)
    }

    /// The members whose agents answered before and do not any more. Where others join them, there are none for one pass:
    /// the notice is reported again then, with all of them.
    pub(super) fn silent(&self) -> BTreeSet<u64> {
        let tracks = self.tracks.lock().unwrap_or_else(PoisonError::into_inner);
        let now: BTreeSet<u64> = tracks.iter().filter(|(_, track)| track.is_silent()).map(|(id, _)| *id).collect();
        drop(tracks);
        let mut named = self.silent.lock().unwrap_or_else(PoisonError::into_inner);
        let again = !named.is_empty() && *named != now;
        *named = if again { BTreeSet::new() } else { now };
        named.clone()
    }
}

impl Feature for PeerTask {
    fn after_pass(&mut self, pass: PassEnd<'_>) {
        if self.port == 0 {
            return;
        }
        self.shared.reporter.note_pass(pass);
        self.master.send_if_modified(|before| {
            let master = Master::of(pass.known, pass.member, before.as_ref());
            let changed = *before != master;
            *before = master;
            changed
        });
    }

    fn after_status(&mut self, overall: Overall, sentence: &str) {
        self.shared.reporter.note_status(overall, sentence);
    }

    fn notices(&self, _: Timestamp) -> Vec<FeatureNotice> {
        let Some(peers) = self.peers() else { return Vec::new() };
        let etcd = self.master.borrow().as_ref().map(|master| master.etcd.clone());
        let unanswered = self.shared.lasting_trouble();
        etcd.map_or_else(Vec::new, |etcd| notices::notices(&peers, &self.silent(), unanswered.as_deref(), &etcd))
    }

    fn show(&self, view: &mut View) {
        view.peers = self.peers();
    }
}
