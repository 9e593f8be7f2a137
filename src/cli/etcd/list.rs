//! `lastgood etcd snapshot list` and `prune`.

use jiff::Timestamp;

use crate::cli::rollback::agreed;
use crate::cli::{ConfirmArgs, Exit, Failure, out};
use crate::config::Settings;
use crate::report::{Format, SnapshotList, SnapshotRow};
use crate::snapshots::directory::{Pruned, surplus};
use crate::snapshots::retention::Rules;
use crate::snapshots::{Directory, Snapshot};

/// One snapshot as it is printed; `why` it goes, where it does.
pub(super) fn row(snapshot: &Snapshot, now: Timestamp, why: Option<String>) -> SnapshotRow {
    SnapshotRow {
        path: snapshot.path.display().to_string(),
        at: snapshot.name.at,
        age_seconds: now.duration_since(snapshot.name.at).as_secs().try_into().unwrap_or_default(),
        revision: snapshot.name.revision,
        cluster: format!("{:x}", snapshot.name.cluster),
        bytes: snapshot.bytes,
        origin: snapshot.name.origin.into(),
        verified: snapshot.proof.as_ref().ok().map(|proof| proof.verified),
        why: why.or_else(|| snapshot.proof.as_ref().err().map(|why| format!("not verified: {why}"))),
    }
}

pub(super) fn list(settings: &Settings, output: Format) -> Result<Exit, Failure> {
    let directory = Directory::at(&settings.snapshot_dir());
    let now = Timestamp::now();
    let rows = directory.list()?.iter().map(|snapshot| row(snapshot, now, None)).collect();
    let list = SnapshotList::new(directory.path().display().to_string(), rows);
    out::text(&output.print(&list, SnapshotList::text)?)
}

pub(super) fn prune(settings: &Settings, care: ConfirmArgs) -> Result<Exit, Failure> {
    let output = care.output;
    let directory = Directory::at(&settings.snapshot_dir());
    let rules = Rules::from(&settings.snapshots);
    let now = Timestamp::now();
    let list = |gone: &[Pruned]| {
        let rows = gone.iter().map(|gone| row(&gone.snapshot, now, Some(gone.why.to_string()))).collect();
        SnapshotList::new(directory.path().display().to_string(), rows)
    };
    let planned = surplus(&directory, &rules, now)?;
    if let Some(exit) = agreed_to(&list(&planned), care, "nothing to prune")? {
        return Ok(exit);
    }
    // What was shown may have changed while the operator thought: only what goes by the rules now, and was shown, goes.
    let locked = directory.lock()?;
    let mut gone = locked.surplus(&rules, now)?;
    gone.retain(|gone| planned.iter().any(|planned| planned.snapshot.path == gone.snapshot.path));
    for gone in &gone {
        locked.remove(&gone.snapshot)?;
    }
    out::text(&output.print(&list(&gone), |list| format!("pruned {} snapshots\n", list.snapshots.len()))?)
}
/// Shows what would go, and asks. How it ends, where nothing is to be done about it.
pub(super) fn agreed_to(would_go: &SnapshotList, care: ConfirmArgs, none: &str) -> Result<Option<Exit>, Failure> {
    let ConfirmArgs { dry_run, yes, output } = care;
    let none_would = would_go.snapshots.is_empty();
    if dry_run || none_would {
        let text = |list: &SnapshotList| {
            if none_would { format!("{none}\n") } else { format!("would prune:\n{}", list.text()) }
        };
        return out::text(&output.print(would_go, text)?).map(Some);
    }
    if yes {
        return Ok(None);
    }
    if output != Format::Text {
        return Err(Failure::refused("-o goes with --dry-run or --yes".to_owned()));
    }
    out::text(&would_go.text())?;
    if agreed()? { Ok(None) } else { Err(Failure::refused("nothing was changed".to_owned())) }
}
