//! `lastgood etcd snapshot save`. This process takes the snapshot, whether the agent runs or not; the lock of the
//! directory keeps the two from interfering.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, sleep};

use super::bundle::tell;
use super::list::row;
use super::remote::{self, Begun, Where};
use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::config::object_url::ObjectUrl;
use crate::config::size::roughly;
use crate::observe::LocalMember;
use crate::ops::etcd::node::{log_of, member};
use crate::ops::offline::Offline;
use crate::ops::progress::Progress as Line;
use crate::report::snapshot_list::OriginView;
use crate::report::{Format, SnapshotRow};
use crate::snapshots::directory::LockError;
use crate::snapshots::save::{Doing, Fault, Limits, Progress, Proven, Taken, from_data_dir, from_member};
use crate::snapshots::{Defragmented, Directory, Locked, Proof, Snapshot, apart, bundle, in_the_way};
use crate::sys::files;

/// Between two looks whether another lastgood is still at the directory.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// What is wanted of a save besides the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum With {
    /// What a bare machine needs, next to the FILE that is named.
    Bundle,
    /// The FILE alone. In the directory of snapshots, and in object storage, its bundle goes with every snapshot.
    FileAlone,
}

pub(super) async fn save(
    settings: &Settings,
    file: Option<PathBuf>,
    with: With,
    data_dir: Option<PathBuf>,
    output: Format,
) -> Result<Exit, Failure> {
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let begun = OnceLock::new();
    let work = async {
        let to = file.as_deref().map(Where::of).transpose()?;
        if data_dir.is_none() && !matches!(to, Some(Where::File(_))) {
            counts(settings)?;
        }
        match to {
            Some(Where::ObjectUrl(place)) => sent(settings, &place, data_dir, &begun).await,
            _ => Ok(row(&saved(settings, file, with, data_dir).await?, Timestamp::now(), None)),
        }
    };
    let saved = tokio::select! {
        saved = work => saved.map_err(NoSnapshot::Failed),
        // What is half done here goes with the future.
        _ = terminate.recv() => Err(NoSnapshot::Ended("ended")),
        _ = interrupt.recv() => Err(NoSnapshot::Ended("interrupted")),
    };
    let none = match saved {
        Ok(saved) => return out::text(&output.print(&saved, said)?),
        Err(none) => none,
    };
    // And what is half done there does not.
    let back = match begun.get() {
        None => Ok(()),
        Some(begun) => tokio::select! {
            back = remote::take_back(settings, begun) => back,
            _ = terminate.recv() => Err("terminated".to_owned()),
            _ = interrupt.recv() => Err("interrupted".to_owned()),
        }
        .map_err(|why| begun.left(&why)),
    };
    Err(none.failure(back))
}

/// Why there is no snapshot.
#[derive(Debug)]
enum NoSnapshot {
    /// A signal came first: how it is called.
    Ended(&'static str),
    /// Something failed.
    Failed(Failure),
}

impl NoSnapshot {
    /// With what is left of it, where something is.
    fn failure(self, taken_back: Result<(), String>) -> Failure {
        match (self, taken_back) {
            (Self::Ended(how), back) => {
                let left = back.err().unwrap_or("its files were removed".to_owned());
                Failure::failed(format!("{how} before the snapshot was complete; {left}"))
            }
            (Self::Failed(failure), Ok(())) => failure,
            (Self::Failed(failure), Err(left)) => {
                Failure { sentence: format!("{}; {left}", failure.sentence), ..failure }
            }
        }
    }
}

/// Refuses a snapshot that `latest`, retention and object storage would go by while etcd serves other data than those on
/// record.
fn counts(settings: &Settings) -> Result<(), Failure> {
    let memory = Offline::open(settings).and_then(|offline| offline.memory());
    let Some(wrong) = memory.ok().and_then(|memory| memory.wrong_data) else { return Ok(()) };
    Err(Failure::refused(format!(
        "{} serves {} data, not those on record ({}), so a snapshot of them must not count; next: give a FILE to save \
         a copy anyway, or see `lastgood explain {}`",
        wrong.etcd,
        wrong.kind.word(),
        wrong.serves,
        wrong.etcd
    )))
}

/// By private files here, which go when it is there.
async fn sent(
    settings: &Settings,
    place: &ObjectUrl,
    data_dir: Option<PathBuf>,
    begun: &OnceLock<Begun>,
) -> Result<SnapshotRow, Failure> {
    let directory = Directory::at(&settings.snapshot_dir());
    // Makes the directory where it is missing; what is written into it has its own lock.
    drop(lock(&directory, settings.snapshots.timeout).await?);
    let proven = proven(settings, directory.path(), data_dir).await?;
    remote::send(settings, place, directory.path(), &proven, begun).await
}

/// Takes one into a private file, and reads all of it again.
async fn proven(settings: &Settings, dir: &Path, data_dir: Option<PathBuf>) -> Result<Proven, Failure> {
    let progress = progress();
    let taken = match data_dir {
        Some(data_dir) => from_data_dir(&data_dir, &log_of(settings, &data_dir), dir, &progress).await?,
        None => of_this_node(settings, dir, &progress).await?,
    };
    let proven = taken.prove(&progress).await?;
    for remark in proven.remarks() {
        eprintln!("{remark}");
    }
    Ok(proven)
}

fn said(row: &SnapshotRow) -> String {
    let raw = match row.origin {
        OriginView::Stream => "",
        OriginView::DataDir => "; a raw copy: it has no SHA-256 and lacks the newest WAL entries",
    };
    format!("{}: revision {}, {}, verified{raw}\n", row.path, row.revision, roughly(row.bytes))
}

async fn saved(
    settings: &Settings,
    file: Option<PathBuf>,
    with: With,
    data_dir: Option<PathBuf>,
) -> Result<Snapshot, Failure> {
    let Some(file) = file.map(std::path::absolute).transpose()? else {
        let directory = Directory::at(&settings.snapshot_dir());
        let locked = lock(&directory, settings.snapshots.timeout).await?;
        let proven = proven(settings, directory.path(), data_dir).await?;
        return keep(settings, proven, &locked);
    };
    let beside: Vec<PathBuf> = match with {
        With::Bundle => bundle::paths(&file).collect(),
        With::FileAlone => Vec::new(),
    };
    if with == With::Bundle && beside.is_empty() {
        return Err(Failure::refused(format!(
            "{}: give a file that ends in .db for --bundle: the names of its parts are derived from it",
            file.display()
        )));
    }
    for path in [&file].into_iter().chain(&beside) {
        if let Some(standing) = files::standing(path)? {
            let what = files::kind_of(&standing);
            return Err(Failure::refused(format!("{}: a {what} exists there; give another file name", path.display())));
        }
    }
    if let Some(path) = in_the_way(&file)? {
        let why = "is in the place of this file's verification record, and lastgood did not write it; give another \
                   file name";
        return Err(Failure::refused(format!("{}: {why}", path.display())));
    }
    let proven = proven(settings, files::dir_of(&file), data_dir).await?;
    keep_as(settings, proven, file, with)
}

/// Into the directory of snapshots, with its bundle.
fn keep(settings: &Settings, proven: Proven, locked: &Locked) -> Result<Snapshot, Failure> {
    let (proof, sha256) = (proven.proof().clone(), proven.sha256());
    let path = proven.keep(locked)?;
    tell(bundle::add(settings, locked, &proof, sha256).as_ref(), "is kept");
    Ok(Snapshot::kept(path, proof))
}

/// Under the name that the operator wants. All of its bundle is written before any of it has a name: what can go wrong
/// has by then.
pub(super) fn keep_as(settings: &Settings, proven: Proven, path: PathBuf, with: With) -> Result<Snapshot, Failure> {
    let (dir, proof) = (files::dir_of(&path), proven.proof().clone());
    let staged = match with {
        With::Bundle => {
            let file = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            Some(bundle::stage(settings, dir, &Proof { file, ..proof.clone() }, proven.sha256()))
        }
        With::FileAlone => None,
    };
    if let Err(error) = proven.keep_as(&path)? {
        eprintln!("the snapshot has no verification record: {error}");
    }
    if let Some(staged) = staged {
        tell(staged.and_then(|staged| staged.put(dir)).as_ref(), "is kept");
    }
    Ok(Snapshot::kept(path, proof))
}

/// From the member of this node; from its files, where it does not run and nothing holds them.
async fn of_this_node(settings: &Settings, dir: &Path, progress: &Progress) -> Result<Taken, Failure> {
    let LocalMember { way, data_dir, .. } = member(settings).await?;
    let _apart = free(settings.snapshots.timeout, || apart(settings), |_| true).await?;
    let why = match from_member(&way, Limits::from(&settings.snapshots), dir, progress).await {
        Err(Fault::Member(why)) => why,
        taken => return Ok(taken?),
    };
    let Some(data_dir) = data_dir else { return Err(Failure::failed(why)) };
    eprintln!("{why}; copying its database in {} instead, if nothing holds it", data_dir.display());
    Ok(from_data_dir(&data_dir, &log_of(settings, &data_dir), dir, progress).await?)
}

async fn lock(directory: &Directory, longest: Duration) -> Result<Locked, Failure> {
    free(longest, || directory.lock(), |error| matches!(error, LockError::Busy(_))).await
}

/// Waits for what somebody else holds, as far as the error says that; says once for what it waits.
async fn free<T, E: std::fmt::Display + Into<Failure>>(
    longest: Duration,
    mut take: impl FnMut() -> Result<T, E>,
    passes: impl Fn(&E) -> bool,
) -> Result<T, Failure> {
    let deadline = Instant::now() + longest;
    let mut told = false;
    loop {
        match take() {
            Ok(taken) => return Ok(taken),
            Err(error) if passes(&error) && Instant::now() < deadline => {
                if !told {
                    eprintln!("{error}; waiting for it");
                    told = true;
                }
                sleep(LOOK_AGAIN).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
}

impl From<Defragmented> for Failure {
    fn from(defragmented: Defragmented) -> Self {
        Self::refused(format!("{defragmented}; next: save it again when that has ended"))
    }
}

/// Two lines after each other: of what comes, and of what is read again.
fn progress() -> Progress {
    let lines = Mutex::new((Some(Line::new("receiving")), Line::new("verifying")));
    Arc::new(move |doing, done, of| {
        let mut lines = lines.lock().unwrap_or_else(PoisonError::into_inner);
        match doing {
            Doing::Receiving => lines.0.iter_mut().for_each(|line| line.at(done, of)),
            Doing::Verifying => {
                lines.0 = None;
                lines.1.at(done, of);
            }
        }
    })
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Disk(error) if error.kind() == io::ErrorKind::PermissionDenied => error.into(),
            Fault::NoRoom { .. } | Fault::InUse(_) => Self::refused(fault.to_string()),
            Fault::NotWhole(_) => Self { exit: Exit::Unwell, sentence: fault.to_string() },
            _ => Self::failed(fault.to_string()),
        }
    }
}
