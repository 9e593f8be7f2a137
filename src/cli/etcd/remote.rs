//! The snapshot commands for object storage: a URL instead of a file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::timeout;

use super::bundle::but;
use super::list::agreed_to;
use crate::cli::{ConfirmArgs, Exit, Failure, out};
use crate::config::Settings;
use crate::config::object_url::{NotAPlace, ObjectUrl};
use crate::etcd::snapshot::{RawCopy, verify};
use crate::ops::etcd::node;
use crate::ops::progress::Progress as Line;
use crate::report::{Format, Snapshot, SnapshotList, SnapshotRow};
use crate::snapshots::bundle::{self, Bundle, Staged};
use crate::snapshots::remote::list::Proofs;
use crate::snapshots::remote::send::{Doing, Parcel, Progress};
use crate::snapshots::remote::{Fetched, Remote, Stored, Surplus, Trouble, meant, own_clusters, surplus};
use crate::snapshots::retention::Rules;
use crate::snapshots::save::Proven;
use crate::snapshots::{By, Directory, Proof};

/// For taking back what was sent, where the store may be what does not answer.
const TAKE_BACK: Duration = Duration::from_secs(10);

/// What a command names: a file, or a place in object storage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Where {
    File(PathBuf),
    ObjectUrl(ObjectUrl),
}

impl Where {
    /// What is in an argument.
    pub(super) fn of(given: &Path) -> Result<Self, Failure> {
        match given.to_str().filter(|text| ObjectUrl::is_meant(text)) {
            Some(text) => text
                .parse()
                .map(Self::ObjectUrl)
                .map_err(|error: NotAPlace| Failure { exit: Exit::Usage, sentence: error.to_string() }),
            None => Ok(Self::File(given.to_owned())),
        }
    }
}

/// Where snapshots are sent by themselves.
pub(super) fn configured(settings: &Settings) -> Result<ObjectUrl, Failure> {
    let url = settings.snapshots.remote.url.as_deref();
    let url =
        url.ok_or_else(|| Failure::refused("no object storage is configured: set snapshots.remote.url".to_owned()))?;
    url.parse().map_err(|error: NotAPlace| Failure::failed(error.to_string()))
}

fn open(settings: &Settings, place: &ObjectUrl) -> Result<Remote, Failure> {
    Ok(Remote::open(&settings.snapshots.remote, place)?)
}

fn row(place: &ObjectUrl, stored: &Stored, now: Timestamp, why: Option<String>) -> SnapshotRow {
    SnapshotRow {
        path: format!("{place}/{}", stored.name),
        at: stored.name.at,
        age_seconds: now.duration_since(stored.name.at).as_secs().try_into().unwrap_or_default(),
        revision: stored.name.revision,
        cluster: format!("{:x}", stored.name.cluster),
        bytes: stored.bytes,
        origin: stored.name.origin.into(),
        verified: stored.proof.as_ref().ok().map(|proof| proof.verified),
        why: why.or_else(|| stored.proof.as_ref().err().map(|why| format!("not verified: {why}"))),
    }
}

pub(super) async fn list(settings: &Settings, place: &ObjectUrl, output: Format) -> Result<Exit, Failure> {
    let list = open(settings, place)?.list(&mut Proofs::default()).await?;
    let now = Timestamp::now();
    let rows = list.stored.iter().map(|stored| row(place, stored, now, None)).collect();
    out::text(&output.print(&SnapshotList::new(place.to_string(), rows), SnapshotList::text)?)
}

/// `named`: the clusters that the operator names; none: this node's.
pub(super) async fn prune(settings: &Settings, named: BTreeSet<u64>, care: ConfirmArgs) -> Result<Exit, Failure> {
    let output = care.output;
    let place = configured(settings)?;
    let now = Timestamp::now();
    let rules = Rules::from(&settings.snapshots.remote);
    let there = open(settings, &place)?.list(&mut Proofs::default()).await?;
    let clusters = match named.is_empty() {
        true => {
            // None of it has to be here: what is pruned is elsewhere.
            let here = Directory::at(&settings.snapshot_dir()).list().unwrap_or_else(|error| {
                eprintln!("the snapshots of this node cannot be listed: {error}");
                Vec::new()
            });
            let mut own = own_clusters(settings, &here);
            if own.is_empty() {
                own.extend(node::cluster(settings));
            }
            meant(&there, own).map_err(|several| {
                let words = "it is unknown which cluster this node belongs to, and there are snapshots of several \
                             clusters";
                Failure::refused(format!("{words}: name the clusters with --cluster, out of {}", listed(&several)))
            })?
        }
        false => named,
    };
    let planned = surplus(&there, &clusters, &rules, now);
    let list = |gone: &[Surplus]| {
        let rows = gone.iter().map(|(stored, why)| row(&place, stored, now, Some(why.to_string()))).collect();
        SnapshotList::new(place.to_string(), rows)
    };
    let of = if clusters.is_empty() { "any cluster".to_owned() } else { format!("cluster {}", listed(&clusters)) };
    if let Some(exit) = agreed_to(&list(&planned), care, &format!("nothing to prune of {of}"))? {
        return Ok(exit);
    }
    // What was shown may have changed while the operator thought: only what goes by the rules now, and was shown, goes.
    let remote = open(settings, &place)?;
    let mut gone = surplus(&remote.list(&mut Proofs::default()).await?, &clusters, &rules, now);
    gone.retain(|(gone, _)| planned.iter().any(|(planned, _)| planned.name == gone.name));
    for (stored, _) in &gone {
        remote.remove(stored).await?;
    }
    out::text(&output.print(&list(&gone), |list| format!("pruned {} snapshots\n", list.snapshots.len()))?)
}

fn listed(clusters: &BTreeSet<u64>) -> String {
    clusters.iter().map(|cluster| format!("{cluster:x}")).collect::<Vec<_>>().join(", ")
}

/// What a command has begun to send, which nobody else would take away or finish.
#[derive(Debug)]
pub(super) struct Begun {
    place: ObjectUrl,
    /// In the order in which they go.
    names: Vec<String>,
}

impl Begun {
    /// What is left there where it could not be taken back.
    pub(super) fn left(&self, why: &str) -> String {
        let (place, names) = (&self.place, self.names.join(", "));
        format!("the uploaded objects could not be deleted ({why}); delete from {place}: {names}")
    }
}

/// Takes back what was begun.
pub(super) async fn take_back(settings: &Settings, begun: &Begun) -> Result<(), String> {
    let removed = async {
        let remote = Remote::open(&settings.snapshots.remote, &begun.place)?;
        remote.remove_all(begun.names.iter().cloned()).await
    };
    match timeout(TAKE_BACK, removed).await {
        Ok(removed) => removed.map_err(|trouble| trouble.to_string()),
        Err(_) => Err(format!("it was not complete within {} s", TAKE_BACK.as_secs())),
    }
}

/// Sends what was just proven, with its bundle, under the name that the place says, or else under its own. `dir`: where
/// the bundle may be meanwhile.
pub(super) async fn send(
    settings: &Settings,
    place: &ObjectUrl,
    dir: &Path,
    proven: &Proven,
    begun: &OnceLock<Begun>,
) -> Result<SnapshotRow, Failure> {
    let proof = proven.proof().clone();
    let (place, file) = place.object().unwrap_or_else(|| (place.clone(), proof.file.clone()));
    let proof = Proof { file, ..proof };
    let staged = bundle::stage(settings, dir, &proof, proven.sha256());
    crate::cli::etcd::bundle::tell(staged.as_ref().map(Staged::bundle), "is uploaded");
    let parts = staged.as_ref().map(Staged::files).unwrap_or_default();
    let parcel = Parcel { proof, database: proven.path().to_owned(), parts };
    let remote = open(settings, &place)?.recording(&settings.snapshot_dir());
    for name in parcel.names() {
        if remote.holds(&name).await? {
            return Err(Failure::refused(format!("{place}/{name} exists already; give another name")));
        }
    }
    let begun = begun.get_or_init(|| Begun { place: place.clone(), names: parcel.names() });
    remote.send(&parcel, None, &progress()).await?;
    let proof = parcel.proof;
    let path = format!("{}/{}", begun.place, proof.file);
    let stored = Stored { name: proof.name, bytes: proof.bytes, proof: Ok(proof), files: Default::default() };
    Ok(SnapshotRow { path, ..row(&place, &stored, Timestamp::now(), None) })
}

/// The bundle of a snapshot there: the one that is named, or the newest verified of the place that has one. What the snapshot
/// is called, the manifest, and the bytes of the parts.
pub(super) async fn bundle(
    settings: &Settings,
    place: &ObjectUrl,
) -> Result<(String, Bundle, BTreeMap<String, Vec<u8>>), Failure> {
    let named = place.object();
    let dir = named.as_ref().map_or(place, |(dir, _)| dir);
    let remote = open(settings, dir)?;
    let name = match &named {
        Some((_, name)) => name.clone(),
        None => remote.newest_with_bundle().await?,
    };
    let (bundle, parts) = remote.bundle(&name).await?;
    Ok((format!("{dir}/{name}"), bundle, parts))
}

/// Has a snapshot here, privately, as long as the value lives: the one that is named, or the newest verified of the place.
pub(super) async fn fetch(settings: &Settings, place: &ObjectUrl, trust: RawCopy) -> Result<Fetched, Failure> {
    let named = place.object();
    let remote = open(settings, named.as_ref().map_or(place, |(dir, _)| dir))?;
    let name = match named {
        Some((_, name)) => name,
        None => remote.newest(trust).await?,
    };
    let line = Mutex::new(Line::new("fetching"));
    let seen = |done, of| line.lock().unwrap_or_else(PoisonError::into_inner).at(done, of);
    let fetched = remote.fetch(&name, &settings.snapshot_dir(), &seen).await?;
    drop(line);
    match &fetched.proof {
        Some(proof) => eprintln!(
            "fetched {}, of {:.0}, revision {}, cluster {:x}: it matches its verification record",
            fetched.from, proof.name.at, proof.name.revision, proof.name.cluster
        ),
        None => eprintln!("fetched {}; it has no verification record", fetched.from),
    }
    Ok(fetched)
}

pub(super) async fn verified(
    settings: &Settings,
    place: &ObjectUrl,
    trust: RawCopy,
    output: Format,
) -> Result<Exit, Failure> {
    let fetched = fetch(settings, place, trust).await?;
    let mut progress = Line::new("verifying");
    let verified = verify(fetched.path(), trust, &mut |done, of| progress.at(done, of))
        .map_err(|rejected| Failure::from(rejected).called(fetched.path(), &fetched.from))?;
    drop(progress);
    let snapshot = Snapshot::new(Path::new(&fetched.from), verified.clone(), By::Reading);
    let (dir, name) = fetched.from.rsplit_once('/').unwrap_or_default();
    let remote = open(settings, &dir.parse().map_err(|error: NotAPlace| Failure::failed(error.to_string()))?)?;
    let bundle = match remote.bundle(name).await {
        Ok((bundle, parts)) => match bundle::verify_fetched(bundle, &parts, fetched.path(), &verified) {
            Ok(bundle) => Some(bundle),
            Err(fault) => return but(&snapshot, &fault, output),
        },
        Err(Trouble::Absent(_)) => None,
        Err(fault @ Trouble::Differs(_)) => return but(&snapshot, &fault, output),
        Err(trouble) => return Err(trouble.into()),
    };
    out::text(&output.print(&snapshot.with(bundle), Snapshot::verdict)?)
}

/// Two lines after each other: of what goes, and of what comes back.
fn progress() -> Progress {
    let lines = Mutex::new((Some(Line::new("sending")), Line::new("comparing")));
    Arc::new(move |doing, done, of| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        match doing {
            Doing::Sending => lines.0.iter_mut().for_each(|line| line.at(done, of)),
            Doing::Comparing => {
                lines.0 = None;
                lines.1.at(done, of);
            }
        }
    })
}

impl From<Trouble> for Failure {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Disk(error) => error.into(),
            Trouble::NoRoom { .. } => Failure::refused(trouble.to_string()),
            Trouble::Differs(_) => Self { exit: Exit::Unwell, sentence: trouble.to_string() },
            _ => Self::failed(trouble.to_string()),
        }
    }
}
