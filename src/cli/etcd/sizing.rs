//! `lastgood etcd sizing`: is this disk, this database and this node fit for etcd?
//!
//! ```text
//!   nothing is written ── the member's own histograms, its sizes, its recorded growth, the node
//!   --write-test       ── the same, and test writes on the file system of etcd's WAL
//!        an etcd runs on that disk: shown, and confirmed; refused without a terminal and without --yes
//! ```
//!
//! The writes have normal I/O priority: those of an idle process would measure the other users of the disk.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::timeout;

use super::status::{Look, growth};
use crate::cli::rollback::agreed;
use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::EtcdStatus;
use crate::model::etcd_data::LockState;
use crate::model::etcd_history::{EtcdHistory, Growth};
use crate::observe::{self, LocalMember};
use crate::ops::etcd::node::no_member;
use crate::record;
use crate::report::sizing::{Examined, beside_a_running_etcd};
use crate::report::{Format, Sizing};
use crate::sys::fsync_bench::{self, Limits, Measured};

/// Writes that are made unless more or fewer are asked for: twenty of them lie beyond the 99th percentile.
const WRITES: u32 = 2000;
/// As many as the fio recipe makes: 22 MB.
const MOST_WRITES: u32 = 10_000;
/// The longest that a disk is kept busy.
const LONGEST: Duration = Duration::from_secs(10);
/// For the write that is under way when somebody interrupts.
const LAST_WRITE: Duration = Duration::from_secs(5);

/// How to size.
#[derive(Clone, Debug, Args)]
pub struct SizingArgs {
    /// Measure the WAL's disk with writes of 2300 bytes, each followed by fdatasync, for 10 s at most, to a temporary
    /// file next to etcd's data; asks first when an etcd runs on that disk
    #[arg(long)]
    write_test: bool,
    /// Directory on the disk to measure, for example on a node without etcd [default: the WAL directory]
    #[arg(long, value_name = "DIR", requires = "write_test")]
    dir: Option<PathBuf>,
    /// Largest number of writes
    #[arg(long, value_name = "N", default_value_t = WRITES, value_parser = clap::value_parser!(u32).range(100..=i64::from(MOST_WRITES)), requires = "write_test")]
    writes: u32,
    /// Skip the confirmation prompt
    #[arg(short, long, requires = "write_test")]
    yes: bool,
    /// Output format
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

pub(super) async fn sizing(settings: &Settings, args: SizingArgs) -> Result<Exit, Failure> {
    let look = Look::start(settings).await?;
    let member = match look.member() {
        Ok(member) => Some(member),
        Err(_) if args.dir.is_some() => None,
        Err(_) => {
            return Err(no_member(settings, "`--write-test --dir DIR` measures the disk for a future one"));
        }
    };
    let (known, _) = record::last_known(settings);
    let status = match &member {
        Some(member) => look.observer.ask_etcd(&member.component, &known).await,
        None => None,
    };
    let runs = member.as_ref().is_some_and(|member| runs(&look, member)) || answers(status.as_ref());
    let place = Place::find(&look, member.as_ref(), args.dir.as_deref())?;
    let measured = match args.write_test {
        true => Some(measure(&place, runs, &args).await?),
        false => None,
    };
    let at = Timestamp::now();
    let found = look.observer.environment();
    let database = member.as_ref().and_then(|member| member.data_dir.as_ref()).map(|dir| dir.join("member/snap/db"));
    // Where the log is separate, the database grows on its own disk.
    let grows = member.as_ref().and_then(|member| member.data_dir.as_deref()).filter(|_| args.dir.is_none());
    let disk = observe::disk_of(grows.unwrap_or(&place.of));
    let examined = Examined {
        at,
        node: &found.node_name.value,
        component: member.as_ref().map(|member| &member.component),
        directory: place.of.display().to_string(),
        status: status.as_ref(),
        db_bytes: database.and_then(|database| Some(std::fs::metadata(database).ok()?.len())),
        growth: status.as_ref().and_then(|status| growth(&known, status, at)).or_else(|| last_growth(&known)),
        disk: disk.as_ref(),
        in_memory: statfs(&place.of).is_ok_and(|stat| stat.filesystem_type() == TMPFS_MAGIC),
        pressure: look.seen.node.pressure,
        cores: std::thread::available_parallelism().ok().map(Into::into),
        memory: observe::memory(),
        measured,
    };
    let sizing = Sizing::new(&examined);
    out::text(&args.output.print(&sizing, Sizing::text)?)?;
    Ok(if sizing.is_well() { Exit::Ok } else { Exit::Unwell })
}

/// How it grew until it was seen last.
fn last_growth(known: &EtcdHistory) -> Option<Growth> {
    let world = known.latest()?;
    world.growth(*world.sizes.last()?)
}

fn answers(status: Option<&EtcdStatus>) -> bool {
    status.is_some_and(|status| status.own.is_ok() || status.agreed.is_ok())
}

/// Whether something holds its database, as far as that is known.
fn runs(look: &Look, member: &LocalMember) -> bool {
    let seen = member.data_dir.as_ref().and_then(|dir| look.seen.node.data_dirs.get(dir));
    seen.is_some_and(|seen| seen.lock == LockState::Held)
}

/// Which file system counts, and where our own file may be on it.
struct Place {
    /// The directory that is asked about.
    of: PathBuf,
    /// One on the same file system that is not etcd's own; none where there is only etcd's own.
    ours: Option<PathBuf>,
    /// Whether this node's etcd writes there.
    etcds: bool,
}

impl Place {
    fn find(look: &Look, member: Option<&LocalMember>, named: Option<&Path>) -> Result<Self, Failure> {
        let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
        let log = member.and_then(|member| look.observer.etcd_log(&member.component));
        let data = member.and_then(|member| member.data_dir.clone());
        if let Some(named) = named {
            let here = device(named).map_err(|error| failed(named, &error))?;
            let etcds = [&log, &data].into_iter().flatten().any(|dir| device(dir).is_ok_and(|there| there == here));
            return Ok(Self { of: named.to_owned(), ours: Some(named.to_owned()), etcds });
        }
        let Some(data) = data else {
            return Err(Failure::refused(
                "etcd's manifest names no data directory: name one with --write-test --dir DIR".to_owned(),
            ));
        };
        // A log that is not there yet will be where the data are.
        let of = log.filter(|log| log.is_dir()).unwrap_or_else(|| data.clone());
        let here = device(&of).map_err(|error| failed(&of, &error))?;
        let inside = of.starts_with(data.join("member"));
        let beside = if inside { Some(data.clone()) } else { of.parent().map(Path::to_owned) };
        let ours = beside.filter(|dir| device(dir).is_ok_and(|there| there == here));
        Ok(Self { of, ours, etcds: true })
    }
}

fn failed(dir: &Path, error: &io::Error) -> Failure {
    let sentence = format!("cannot read {}: {error}", dir.display());
    match error.kind() {
        io::ErrorKind::PermissionDenied => Failure::unreachable(format!("{sentence}: use sudo")),
        _ => Failure::failed(sentence),
    }
}

async fn measure(place: &Place, runs: bool, args: &SizingArgs) -> Result<Measured, Failure> {
    let Some(dir) = place.ours.clone() else {
        return Err(Failure::refused(format!(
            "{} is a dedicated file system, and only etcd writes there: etcd's own histograms show its latency \
             (without --write-test), or name another directory of that disk with --dir",
            place.of.display()
        )));
    };
    if runs && place.etcds && !args.yes {
        if args.output != Format::Text {
            return Err(Failure::refused("an etcd runs on this disk: -o goes with --yes there".to_owned()));
        }
        eprintln!("{}", beside_a_running_etcd(args.writes, LONGEST));
        if !agreed()? {
            return Err(Failure::refused("nothing was written".to_owned()));
        }
    }
    let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let stop = Arc::new(AtomicBool::new(false));
    let limits = Limits { writes: args.writes, longest: LONGEST };
    let (told, there) = (Arc::clone(&stop), dir.clone());
    let mut task = tokio::task::spawn_blocking(move || fsync_bench::measure(&there, limits, &told));
    let measured = tokio::select! {
        measured = &mut task => measured,
        () = async { tokio::select! { _ = terminate.recv() => {}, _ = interrupt.recv() => {} } } => {
            stop.store(true, Ordering::Relaxed);
            match timeout(LAST_WRITE, task).await {
                Ok(measured) => measured,
                Err(_) => return Err(Failure::failed(format!(
                    "interrupted; a write to {} has been blocked for {} s, so its file in .lastgood-sizing remains: \
                     the next run removes it",
                    dir.display(),
                    LAST_WRITE.as_secs()
                ))),
            }
        }
    };
    let measured = measured.map_err(|error| Failure::failed(format!("the measurement was cut short: {error}")))?;
    measured.map_err(|error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::ResourceBusy => Failure::refused(error.to_string()),
        io::ErrorKind::Interrupted => Failure::failed(format!("interrupted: {error}; its files were removed")),
        _ => error.into(),
    })
}
