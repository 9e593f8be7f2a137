//! Asks the agents next to the other members for their reports, all that are due at once, each with its own deadline.
//!
//! ```text
//!   answers ─────── 30 s ──▶ asked again
//!   stopped to answer ─ 5 s ─▶ asked again, for 2 min; then it is reported, and asked every 30 s
//!   never answered ─ 30 s ─▶ asked again: no agent may be there
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::answer::{self, Asked, MAX_BYTES};
use super::master::{Master, name_of};
use super::server::REPORT;
use crate::model::Symptom;
use crate::model::etcd::Member;
use crate::model::peer::{EtcdId, Peer, PeerReport, PeerTrouble, PeerTroubleKind};
use crate::model::reading::SymptomKind;
use crate::observe::{KnownAddresses, PeerSecurity, PeerUrls, ask_peer};

/// For one answer.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between two questions to one agent.
const INTERVAL: Duration = Duration::from_secs(30);
/// The same while one that answered before does not.
const SOON: Duration = Duration::from_secs(5);
/// One that answered before and has not for so long is reported: an agent restarts in a second, a master in a minute.
pub(super) const SILENT: Duration = Duration::from_secs(2 * 60);

/// What is known of each member on another node, by its ID.
pub(super) type Tracks = Arc<Mutex<BTreeMap<u64, Track>>>;

/// What is known of one of them.
#[derive(Clone, Debug)]
pub(super) struct Track {
    /// When it is asked next.
    next: Instant,
    trouble: Option<PeerTrouble>,
    /// Since when it has trouble.
    since: Option<(Instant, Timestamp)>,
    heard: Option<Heard>,
}

/// The last report.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    at: Timestamp,
    clock_ahead_millis: i64,
    certificate: Option<String>,
    pub(super) report: PeerReport,
}

impl Track {
    fn new() -> Self {
        let trouble = PeerTrouble { kind: PeerTroubleKind::NotAsked, detail: "it was not asked yet".to_owned() };
        Self { next: Instant::now(), trouble: Some(trouble), since: None, heard: None }
    }

    /// Whether it answered once, and has not for a while.
    pub(super) fn is_silent(&self) -> bool {
        self.heard.is_some() && self.since.is_some_and(|(since, _)| since.elapsed() >= SILENT)
    }

    fn take(&mut self, answer: Result<Heard, PeerTrouble>) {
        let now = Instant::now();
        match answer {
            Ok(heard) => *self = Self { next: now + INTERVAL, trouble: None, since: None, heard: Some(heard) },
            Err(trouble) => {
                self.trouble = Some(trouble);
                self.since.get_or_insert((now, Timestamp::now()));
                let soon = self.heard.is_some() && !self.is_silent();
                self.next = now + if soon { SOON } else { INTERVAL };
            }
        }
    }

    /// For people and machines.
    pub(super) fn show(&self, member: &Member) -> Peer {
        let heard = self.heard.as_ref();
        Peer {
            id: EtcdId(member.id),
            name: name_of(member),
            address: PeerUrls::of(member).shown,
            local: false,
            trouble: self.trouble.clone(),
            trouble_since: self.since.map(|(_, since)| since),
            answered: heard.map(|heard| heard.at),
            clock_ahead_millis: heard.map(|heard| heard.clock_ahead_millis),
            certificate: heard.and_then(|heard| heard.certificate.clone()),
            report: heard.map(|heard| heard.report.clone()),
        }
    }
}

/// A member that is listed, and that the task has not seen yet.
pub(super) fn unasked(member: &Member) -> Peer {
    Track::new().show(member)
}

/// Asks until nobody hands it masters any more.
pub(super) async fn ask(tracks: Tracks, port: u16, mut masters: watch::Receiver<Option<Master>>) {
    let known = KnownAddresses::default();
    loop {
        let master = masters.borrow_and_update().clone();
        let wanted: BTreeSet<u64> = master.iter().flat_map(|master| master.others().map(|member| member.id)).collect();
        let (due, next) = {
            let mut tracks = tracks.lock().unwrap_or_else(PoisonError::into_inner);
            tracks.retain(|id, _| wanted.contains(id));
            for id in &wanted {
                tracks.entry(*id).or_insert_with(Track::new);
            }
            let now = Instant::now();
            let due: Vec<u64> = tracks.iter().filter(|(_, track)| track.next <= now).map(|(id, _)| *id).collect();
            (due, tracks.values().map(|track| track.next).min())
        };
        if let Some(master) = master.filter(|_| !due.is_empty()) {
            known.retain(&master.hosts());
            round(&tracks, &master, &due, port, &known).await;
            continue;
        }
        let rest = async {
            match next {
                Some(next) => sleep_until(next).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = rest => {}
            changed = masters.changed() => if changed.is_err() { return },
        }
    }
}

async fn round(tracks: &Tracks, master: &Master, due: &[u64], port: u16, known: &KnownAddresses) {
    let mut asking = JoinSet::new();
    for member in master.others().filter(|member| due.contains(&member.id)) {
        let (member, security, known) = (member.clone(), master.peering.security.clone(), known.clone());
        let asked = Asked { cluster: master.cluster, member: member.id };
        asking.spawn(async move { (member.id, one(&member, security, asked, port, &known).await) });
    }
    while let Some(answer) = asking.join_next().await {
        let Ok((id, answer)) = answer else { continue };
        if let Some(track) = tracks.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&id) {
            track.take(answer);
        }
    }
    // A question that ended in no answer at all is not asked again at once.
    let now = Instant::now();
    let mut tracks = tracks.lock().unwrap_or_else(PoisonError::into_inner);
    for track in tracks.values_mut().filter(|track| track.next <= now) {
        track.next = now + SOON;
    }
}

/// Asks at every host of a member's peer URLs, and takes the first report.
pub(super) async fn one(
    member: &Member,
    security: Result<PeerSecurity, String>,
    asked: Asked,
    port: u16,
    known: &KnownAddresses,
) -> Result<Heard, PeerTrouble> {
    let no_means = |detail: String| PeerTrouble { kind: PeerTroubleKind::NoMeans, detail };
    let security = security.map_err(no_means)?;
    let mut asking = JoinSet::new();
    for host in PeerUrls::of(member).hosts {
        let (security, known) = (security.clone(), known.clone());
        asking.spawn(async move { at_host(&security, &known, &host, port, asked).await });
    }
    let mut trouble = no_means("it has no https:// peer URL".to_owned());
    while let Some(answer) = asking.join_next().await {
        match answer {
            Ok(Ok(heard)) => return Ok(heard),
            Ok(Err(why)) => trouble = why,
            Err(error) => trouble = no_means(format!("the question ended early: {error}")),
        }
    }
    Err(trouble)
}

async fn at_host(
    security: &PeerSecurity,
    known: &KnownAddresses,
    host: &str,
    port: u16,
    asked: Asked,
) -> Result<Heard, PeerTrouble> {
    let (began, sent) = (Instant::now(), Timestamp::now());
    let answer = ask_peer(security, known, (host, port), REPORT, MAX_BYTES, DEADLINE).await.map_err(trouble_of)?;
    let took = began.elapsed();
    let report = answer::read(&answer, asked)?;
    // Halfway between the question and its answer, as nothing else is known of when the report was made.
    let here = sent.checked_add(took / 2).unwrap_or(sent);
    let ahead = report.at.duration_since(here).as_millis();
    let clock_ahead_millis = i64::try_from(ahead).unwrap_or(if ahead < 0 { i64::MIN } else { i64::MAX });
    Ok(Heard { at: sent, clock_ahead_millis, certificate: answer.certificate, report })
}

fn trouble_of(symptom: Symptom) -> PeerTrouble {
    let kind = match symptom.kind {
        SymptomKind::Refused => PeerTroubleKind::Refused,
        SymptomKind::TimedOut => PeerTroubleKind::TimedOut,
        SymptomKind::Tls | SymptomKind::CertificateDates | SymptomKind::Unauthorized => PeerTroubleKind::Certificate,
        SymptomKind::NoMeans => PeerTroubleKind::NoMeans,
        SymptomKind::WrongBody | SymptomKind::Unhealthy => PeerTroubleKind::Answer,
        SymptomKind::Broken | SymptomKind::ClusterWide => PeerTroubleKind::Unreachable,
    };
    PeerTrouble { kind, detail: symptom.detail }
}

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::super::tests::report;
    use super::*;

    fn heard() -> Heard {
        Heard { at: Timestamp::UNIX_EPOCH, clock_ahead_millis: 0, certificate: None, report: report("m2", 1, 2) }
    }

    fn refused() -> PeerTrouble {
        PeerTrouble { kind: PeerTroubleKind::Refused, detail: "nothing listens there".to_owned() }
    }

    /// After how long it is asked next.
    fn rest(track: &Track) -> Duration {
        track.next.duration_since(Instant::now())
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_stops_to_answer_is_asked_often_for_two_minutes_and_then_reported() {
        let mut track = Track::new();
        assert_eq!(rest(&track), Duration::ZERO, "at once");
        track.take(Err(refused()));
        assert_eq!((rest(&track), track.is_silent()), (INTERVAL, false), "it never answered");
        advance(SILENT * 2).await;
        assert!(!track.is_silent(), "nobody may be there");
        track.take(Ok(heard()));
        assert_eq!(rest(&track), INTERVAL);
        let mut asked = 0;
        while !track.is_silent() {
            track.take(Err(refused()));
            asked += 1;
            advance(rest(&track)).await;
        }
        assert_eq!(asked, SILENT.as_secs() / SOON.as_secs());
        track.take(Err(refused()));
        assert_eq!(rest(&track), INTERVAL, "not for ever");
        assert!(track.heard.is_some(), "what it said last is kept");
        track.take(Ok(heard()));
        assert_eq!((track.is_silent(), track.since), (false, None));
    }

    #[tokio::test(start_paused = true)]
    async fn the_notice_is_withdrawn_for_one_pass_where_another_agent_falls_silent() {
        let task = super::super::task::PeerTask::start(&no_port(), &crate::model::memory::Machine::default());
        let silence = |id| {
            let mut track = Track::new();
            track.take(Ok(heard()));
            track.take(Err(refused()));
            task.tracks.lock().unwrap().insert(id, track);
        };
        silence(2);
        assert!(task.silent().is_empty(), "not for long enough");
        advance(SILENT).await;
        assert_eq!(task.silent(), [2].into());
        silence(3);
        advance(SILENT).await;
        assert!(task.silent().is_empty(), "the notice ends");
        assert_eq!(task.silent(), [2, 3].into(), "and names both");
        task.tracks.lock().unwrap().clear();
        assert!(task.silent().is_empty());
    }

    fn no_port() -> crate::config::Settings {
        let mut settings = crate::config::Settings::default();
        settings.peers.port = 0;
        settings
    }
}
