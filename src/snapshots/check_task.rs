//! The task that checks the snapshots that are kept: one after the other, each once a day, slowly.
//!
//! ```text
//!   look: is one due? ─▶ 1 MiB read, summed, dropped from the page cache ─▶ rest ─▶ … ─▶ compare ─▶ .checks.json
//!                              └ an error: event; tried again in an hour, the others meanwhile  └ differs: event, notice
//! ```
//!
//! One that cannot be read several times in a row counts as damaged: no restore can read it either.
//!
//! etcd waits for its disk with every write, so this reads a fraction of what any disk gives, and leaves the page cache as
//! it was. Nothing is deleted: what is damaged may be all that is left.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::checks::{CheckedFile, Checks, changed, due};
use super::checksum::Summing;
use super::tally::Tally;
use super::task_input::TaskInput;
use super::{Directory, Proof, Snapshot};
use crate::feature::Inbox;
use crate::model::Event;
use crate::model::clock::between;
use crate::model::event::EventKind;
use crate::sys::{clock, files};

/// Between two looks whether one is due.
const LOOK: Duration = Duration::from_secs(60);
/// After one that failed, or whose result could not be saved: all of it is read again.
const AGAIN: Duration = Duration::from_secs(3600);
/// How many errors in a row make one damaged: a moment in which a disk does not answer makes none.
const TRIES: u32 = 3;
const PIECE: u64 = 1 << 20;
/// After each piece: at most 16 MiB a second, so that 8 GiB take nine minutes.
const REST: Duration = Duration::from_millis(64);

#[derive(Debug)]
pub(super) struct CheckTask {
    /// Ends with this value, between two pieces.
    _task: JoinSet<()>,
}

impl CheckTask {
    pub(super) fn start(dir: PathBuf, wanted: watch::Receiver<TaskInput>, tell: Inbox) -> Self {
        let mut task = JoinSet::new();
        task.spawn(async move {
            let mut failed = Failed::default();
            loop {
                let checked = one(&dir, Timestamp::now(), REST, &mut failed).await;
                let rest = if checked.is_ok() { LOOK } else { AGAIN };
                if let Ok(Some((file, checked))) = checked
                    && let Some((to, why)) = checked.news(&file)
                {
                    let etcd = wanted.borrow().member.as_ref().map(|member| member.component.clone());
                    let event = Event::new(clock::now().wall, EventKind::Failure, etcd.as_ref(), &to, why);
                    // Nobody listens any more where the agent ends.
                    let _ = tell.send(event).await;
                }
                sleep(rest).await;
            }
        });
        Self { _task: task }
    }
}

/// What came of one check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Checked {
    /// It was compared, or given up as damaged: what is on record now.
    Noted(CheckedFile),
    /// It could not be checked, so many times in a row: nothing is known of it.
    NotRead { why: String, times: u32 },
}

impl Checked {
    /// What is to be reported of it, and because of what.
    fn news(&self, file: &str) -> Option<(String, &'static str)> {
        match self {
            Self::Noted(CheckedFile { damaged: Some(damaged), .. }) => Some((
                format!("snapshot {file} is damaged: {damaged}"),
                "the daily check compared it with its verification record",
            )),
            Self::NotRead { why, times: 1 } => Some((
                format!("snapshot {file} could not be checked: {why}"),
                "the daily check tries it again in an hour, and checks the others meanwhile",
            )),
            Self::Noted(_) | Self::NotRead { .. } => None,
        }
    }
}

/// Those that could not be checked lately: how many times in a row, and when last.
#[derive(Debug, Default)]
pub(super) struct Failed(BTreeMap<String, (u32, Timestamp)>);

impl Failed {
    /// Whether this one is left alone for now. A time in the future says nothing: the clock was wrong.
    fn waits(&self, file: &str, now: Timestamp) -> bool {
        self.0.get(file).is_some_and(|(_, at)| *at <= now && between(*at, now) < AGAIN)
    }

    /// Notes another failure: its number in a row.
    fn note(&mut self, file: &str, now: Timestamp) -> u32 {
        let (times, at) = self.0.entry(file.to_owned()).or_insert((0, now));
        (*times, *at) = (times.saturating_add(1), now);
        *times
    }
}

/// Checks the one that is due, if one is: which, and what came of it. An error where nothing is known of any of them now.
pub(super) async fn one(
    dir: &Path,
    now: Timestamp,
    rest: Duration,
    failed: &mut Failed,
) -> io::Result<Option<(String, Checked)>> {
    one_by(dir, now, failed, async |snapshot| compared(snapshot, rest).await).await
}

/// The same, by this comparison.
async fn one_by(
    dir: &Path,
    now: Timestamp,
    failed: &mut Failed,
    compared: impl AsyncFnOnce(&Snapshot) -> io::Result<Comparison>,
) -> io::Result<Option<(String, Checked)>> {
    let directory = Directory::at(dir);
    let snapshots = aside(move || match Checks::is_newer(directory.path()) {
        true => Ok(Vec::new()),
        false => directory.list(),
    })
    .await?;
    let Some(snapshot) = due(&snapshots, now, |name| failed.waits(name, now)) else { return Ok(None) };
    let name = snapshot.name.to_string();
    let found = match compared(snapshot).await {
        Ok((changed, damaged)) => CheckedFile { at: now, changed, damaged },
        Err(error) => {
            let (why, times) = (error.to_string(), failed.note(&name, now));
            let path = snapshot.path.clone();
            let metadata = aside(move || fs::metadata(path)).await;
            let Some(metadata) = metadata.ok().filter(|_| times >= TRIES) else {
                return Ok(Some((name, Checked::NotRead { why, times })));
            };
            let damaged = Some(format!("it could not be read {times} times in a row: {why}"));
            CheckedFile { at: now, changed: changed(&metadata), damaged }
        }
    };
    failed.0.remove(&name);
    let (dir, noted, file) = (dir.to_owned(), found.clone(), name.clone());
    aside(move || {
        let mut checks = Checks::read(&dir);
        checks.note(&file, noted);
        checks.write(&dir)
    })
    .await?;
    Ok(Some((name, Checked::Noted(found))))
}

/// When a snapshot had changed last, and what is wrong with its bytes, if anything.
type Comparison = ((i64, i64), Option<String>);

/// Reads all of a snapshot. An error where that cannot be done.
async fn compared(snapshot: &Snapshot, rest: Duration) -> io::Result<Comparison> {
    let path = snapshot.path.clone();
    let (proof, bytes) = (record_of(snapshot)?, snapshot.bytes);
    let file = Arc::new(
        aside({
            let path = path.clone();
            move || File::open(&path).map_err(files::named("read", &path))
        })
        .await?,
    );
    let before = file.metadata()?;
    let is_whole = compare(&file, bytes, &proof, rest).await.map_err(files::named("read", &path))?;
    let after = file.metadata()?;
    if after.len() != bytes || changed(&after) != changed(&before) || after.nlink() == 0 {
        return Err(files::fault(io::ErrorKind::ResourceBusy, &path, "was changed while it was read"));
    }
    Ok((changed(&after), (!is_whole).then(|| "its bytes are no longer those that were verified".to_owned())))
}

/// The record of one that is verified, or was until it was found damaged.
fn record_of(snapshot: &Snapshot) -> io::Result<Proof> {
    match &snapshot.proof {
        Ok(proof) => Ok(proof.clone()),
        Err(_) => Proof::read(&snapshot.path, snapshot.bytes).map_err(io::Error::other),
    }
}

/// Whether all bytes are those that the record is about.
async fn compare(file: &Arc<File>, bytes: u64, proof: &Proof, rest: Duration) -> io::Result<bool> {
    // A record of the first format has no checksum: its SHA-256 covers what that would.
    let mut checksum = proof.found.as_ref().map(|found| (Summing::default(), found.checksum));
    let mut tally = Tally::holding_back(proof.trailer().unwrap_or_default());
    let mut at = 0;
    while at < bytes {
        let length = PIECE.min(bytes - at);
        let from = Arc::clone(file);
        let piece = aside(move || {
            let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
            from.read_exact_at(&mut piece, at)?;
            // Advice: where it is not taken, the cache only holds more.
            let (start, length) = (at.try_into().unwrap_or_default(), length.try_into().unwrap_or_default());
            let _ = posix_fadvise(from.as_fd(), start, length, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
            Ok(piece)
        })
        .await?;
        match &mut checksum {
            Some((summing, _)) => summing.push(&piece),
            None => tally.push(&piece),
        }
        at += length;
        sleep(rest).await;
    }
    Ok(match checksum {
        Some((summing, expected)) => summing.finish() == expected,
        None => tally.sum() == proof.sum(),
    })
}

/// Looks at the disk, which may hang, next to everybody else.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|_| io::Error::other("a thread ended before its work was done"))?
}

#[cfg(test)]
mod tests {
    use super::super::retention::{Rules, surplus};
    use super::super::tests::keep;
    use super::super::{Origin, look};
    use super::*;
    use crate::config::Settings;

    /// A day after all of them were verified.
    fn tomorrow() -> Timestamp {
        Timestamp::from_second(Timestamp::now().as_second() + 25 * 3600).unwrap()
    }

    async fn check(dir: &Path) -> Option<(String, CheckedFile)> {
        match one(dir, tomorrow(), Duration::ZERO, &mut Failed::default()).await.unwrap()? {
            (file, Checked::Noted(found)) => Some((file, found)),
            (file, not_read) => panic!("{file}: {not_read:?}"),
        }
    }

    /// A check so many hours later, by a disk that does not give this one.
    async fn attempt(dir: &Path, broken: &Path, hours: i64, failed: &mut Failed) -> Option<(String, Checked)> {
        let now = Timestamp::from_second(tomorrow().as_second() + hours * 3600).unwrap();
        let compare = async |snapshot: &Snapshot| match snapshot.path == *broken {
            true => Err(io::Error::from_raw_os_error(nix::libc::EIO)),
            false => compared(snapshot, Duration::ZERO).await,
        };
        one_by(dir, now, failed, compare).await.unwrap()
    }

    #[tokio::test]
    async fn one_that_cannot_be_read_is_damaged_after_several_tries_and_keeps_no_other_from_being_checked() {
        let dir = tempfile::tempdir().unwrap();
        let [broken, other] = [1, 2].map(|at| keep(dir.path(), Origin::Stream, at));
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let damaged = || Checks::read(dir.path()).of(&name(&broken), &fs::metadata(&broken).unwrap()).cloned();
        let mut failed = Failed::default();
        let (file, first) = attempt(dir.path(), &broken, 0, &mut failed).await.unwrap();
        assert!(file == name(&broken) && matches!(first, Checked::NotRead { times: 1, .. }), "{file}: {first:?}");
        assert!(first.news(&file).is_some(), "it is reported");
        let (file, second) = attempt(dir.path(), &broken, 0, &mut failed).await.unwrap();
        assert!(file == name(&other) && matches!(second, Checked::Noted(_)), "the other meanwhile: {file}: {second:?}");
        assert_eq!(attempt(dir.path(), &broken, 0, &mut failed).await, None, "it is left alone for an hour");
        let (_, again) = attempt(dir.path(), &broken, 1, &mut failed).await.unwrap();
        assert!(matches!(again, Checked::NotRead { times: 2, .. }) && again.news(&file).is_none(), "{again:?}");
        assert_eq!(damaged(), None, "nothing is known of it");
        let (file, given_up) = attempt(dir.path(), &broken, 2, &mut failed).await.unwrap();
        assert!(matches!(&given_up, Checked::Noted(found) if found.damaged.is_some()), "{given_up:?}");
        assert!(file == name(&broken) && given_up.news(&file).is_some() && damaged().is_some(), "{file}");
        // A day later it is read again.
        let (_, found) = one(dir.path(), tomorrow() + Duration::from_secs(30 * 3600), Duration::ZERO, &mut failed)
            .await
            .unwrap()
            .unwrap();
        assert!(matches!(found, Checked::Noted(CheckedFile { damaged: None, .. })), "{found:?}");
    }

    #[tokio::test]
    async fn a_flipped_bit_is_found_and_counts_until_the_bytes_are_right_again() {
        let dir = tempfile::tempdir().unwrap();
        let [older, newest] = [1, 2].map(|at| keep(dir.path(), Origin::Stream, at));
        let mut settings = Settings::default();
        settings.snapshots.directory = Some(dir.path().to_owned());
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        assert_eq!(
            one(dir.path(), Timestamp::now(), Duration::ZERO, &mut Failed::default()).await.unwrap(),
            None,
            "they were just verified"
        );

        let flip = || {
            let file = fs::File::options().read(true).write(true).open(&newest).unwrap();
            let mut byte = [0];
            file.read_exact_at(&mut byte, 100_000).unwrap();
            file.write_all_at(&[byte[0] ^ 4], 100_000).unwrap();
        };
        flip();
        let (file, found) = check(dir.path()).await.unwrap();
        assert_eq!((file, found.damaged), (name(&older), None));
        let (file, found) = check(dir.path()).await.unwrap();
        assert_eq!((file, found.damaged.is_some()), (name(&newest), true));
        assert_eq!(check(dir.path()).await, None, "each once a day");

        let known = look(&settings, Timestamp::UNIX_EPOCH);
        assert_eq!(known.newest.unwrap().file, name(&older));
        assert_eq!((known.verified, known.unverified.len()), (1, 0));
        assert_eq!(known.damaged.iter().map(|(file, _)| file.clone()).collect::<Vec<_>>(), [name(&newest)]);
        // No rule removes it, nor the one that is whole.
        let held: Vec<_> = Directory::at(dir.path()).list().unwrap().iter().map(Snapshot::held).collect();
        let nothing = Rules { last: 0, hourly: 0, daily: 0, weekly: 0, total: 0 };
        assert_eq!(surplus(&held, &nothing, Timestamp::now()), []);

        flip();
        assert_eq!(look(&settings, Timestamp::UNIX_EPOCH).damaged, [], "it was written since");
        let (_, found) = check(dir.path()).await.unwrap();
        assert_eq!(found.damaged, None);
        assert_eq!(look(&settings, Timestamp::UNIX_EPOCH).verified, 2);
    }

    #[tokio::test]
    async fn what_a_newer_lastgood_wrote_down_is_kept_and_nothing_is_read_over_and_over() {
        let dir = tempfile::tempdir().unwrap();
        keep(dir.path(), Origin::Stream, 1);
        let newer = crate::record::envelope::encode(99, "checks", &serde_json::json!({"surprise": 1})).unwrap();
        fs::write(dir.path().join(".checks.json"), &newer).unwrap();
        assert_eq!(check(dir.path()).await, None);
        assert_eq!(fs::read(dir.path().join(".checks.json")).unwrap(), newer);
    }

    #[tokio::test]
    async fn a_raw_copy_and_a_record_without_a_checksum_are_checked_as_well() {
        let dir = tempfile::tempdir().unwrap();
        let path = keep(dir.path(), Origin::DataDir, 1);
        let proof = Proof::read(&path, fs::metadata(&path).unwrap().len()).unwrap();
        assert_eq!(check(dir.path()).await.unwrap().1.damaged, None);
        Proof { found: None, ..proof.clone() }.write(&path).unwrap();
        let file = Arc::new(fs::File::options().read(true).write(true).open(&path).unwrap());
        let brief = proof.clone().brief();
        assert!(compare(&file, proof.bytes, &brief, Duration::ZERO).await.unwrap());
        file.write_all_at(b"x", 50_000).unwrap();
        assert!(!compare(&file, proof.bytes, &brief, Duration::ZERO).await.unwrap());
        assert!(!compare(&file, proof.bytes, &proof, Duration::ZERO).await.unwrap());
    }
}
