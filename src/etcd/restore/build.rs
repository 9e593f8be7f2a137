//! Builds the planned data directory next to the existing one, and verifies it as if another program had built it.
//!
//! ```text
//!   snapshot ──pages, transform.rs, writer.rs──▶ block_pipe.rs ──▶ member/snap/db ─┬─ fsync
//!                one thread                        the caller's              └─ read again
//! ```
//!
//! A separate WAL is built in its own directory. The fsync of the database, which takes the longest of all, runs during
//! the verification: until both have ended, the intent says `building`, and a crash removes what was built.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::thread::{self, ScopedJoinHandle};

use super::intent::Intent;
use super::layout::DIR_MODE;
use super::plan::Planned;
use super::precheck::{self, Idle};
use super::separate_wal::Log;
use super::staging::Staging;
use super::transform::{self, Broken};
use super::{Fault, NewMember, block_pipe, raft_snapshot, wal_writer};
use crate::etcd::backend::Member;
use crate::etcd::bbolt::Database;
use crate::etcd::bbolt::writer::Writer;
use crate::etcd::snapshot::data_dir;
use crate::sys::files;

/// What is built, and not looked at yet.
#[derive(Debug)]
pub struct Built {
    pub(super) planned: Planned,
    /// Its database, which is not on the disk yet.
    database: File,
    pub(super) staging: Staging,
    pub(super) idle: Idle,
}

/// What is built and whole.
#[derive(Debug)]
pub struct Checked {
    pub(super) planned: Planned,
    pub(super) staging: Staging,
    pub(super) idle: Idle,
}

impl Planned {
    /// Builds it in a directory of ours below the data directory. `progress` hears how many bytes of how many are written.
    ///
    /// # Errors
    /// The file or directory, and why. The existing data are not touched, and what was built is removed.
    pub fn build(self, progress: &mut dyn FnMut(u64, u64)) -> Result<Built, Fault> {
        if let Some(why) = &self.startable {
            return Err(Fault::refused(why, "take its manifest out of the manifest directory first"));
        }
        // Kept until the data directory is exchanged.
        let idle = precheck::hold(&self.data_dir)?;
        self.prepare_data_dir()?;
        let staging = Staging::new(&self.data_dir, &Intent::building(&self))?;
        let written = self.alone(&staging).and_then(|()| self.write(&staging, progress));
        match written.and_then(|database| self.unchanged().map(|()| database)) {
            Ok(database) => Ok(Built { planned: self, database, staging, idle }),
            Err(fault) => {
                // What cannot be removed now is removed by the next run.
                let _ = staging.discard(self.log().as_ref());
                Err(fault)
            }
        }
    }

    /// Nobody else builds there, and nobody has put anything there since it was planned that may not be put aside. From
    /// here on whoever comes finds our directory.
    fn alone(&self, staging: &Staging) -> Result<(), Fault> {
        staging.alone()?;
        let member = files::standing(&self.data_dir.join("member"))?;
        match member.filter(|_| !self.may_replace) {
            Some(_) => Err(crate::etcd::restore::layout::not_empty(&self.data_dir, "member")),
            None => Ok(()),
        }
    }

    fn prepare_data_dir(&self) -> Result<(), Fault> {
        if files::standing(&self.data_dir)?.is_some() {
            return Ok(());
        }
        files::make_dir(&self.data_dir, DIR_MODE)?;
        Ok(self.owner.own(&self.data_dir)?)
    }

    /// Its log, where that is separate.
    pub(super) fn log(&self) -> Option<Log> {
        self.plan.wal_dir.clone().map(|dir| Log { dir, aside: None })
    }

    /// Where its log is built.
    fn log_in(&self, staging: &Staging) -> PathBuf {
        self.log().map_or_else(|| staging.member().join("wal"), |log| log.staged(staging.name()))
    }

    /// All of it; of the database, the bytes without the fsync.
    fn write(&self, staging: &Staging, progress: &mut dyn FnMut(u64, u64)) -> Result<File, Fault> {
        let member = &staging.member();
        let (snap, log) = (member.join("snap"), self.log_in(staging));
        for dir in [member, &snap] {
            self.owner.dir(dir)?;
        }
        match self.log() {
            Some(apart) => apart.make(staging.name(), self.owner)?,
            None => self.owner.dir(&log)?,
        }
        let path = snap.join("db");
        let file = self.owner.file(&path)?;
        // Before the database, whose bytes the disk would otherwise write first.
        self.owner.whole(
            &snap.join(raft_snapshot::file_name(&self.plan.cluster)),
            &raft_snapshot::file(&self.plan.cluster),
        )?;
        self.owner.whole(&log.join(wal_writer::FILE_NAME), &wal_writer::segment(&self.plan.cluster))?;
        for dir in [&snap, &log, member] {
            files::fsync_dir(dir)?;
        }
        match self.copy(&file, progress) {
            Ok(()) => Ok(file),
            Err(Broken::Read(fault)) => Err(fault.into()),
            Err(Broken::Write(error)) => Err(files::named("write", &path)(error).into()),
        }
    }

    /// The database: read and put together in its own thread, written in this one.
    fn copy(&self, mut file: &File, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Broken> {
        let from = Database::open(&self.source)?;
        let of = self.plan.snapshot.size;
        let (copied, written) = thread::scope(|scope| {
            let (to, mut blocks) = block_pipe::new();
            let copying = thread::Builder::new().name("pages".to_owned()).spawn_scoped(scope, || {
                let mut to = Writer::new(to, from.meta().page_size)?;
                transform::copy(&from, &mut to, &self.plan.cluster, self.plan.revisions.moved_to)?;
                Ok::<_, Broken>(to.finish()?.1)
            })?;
            let written = blocks.drain(|block, done| {
                file.write_all(block)?;
                progress(done.min(of), of);
                Ok(())
            });
            // Where writing has failed, the other end is told so by that.
            drop(blocks);
            Ok::<_, io::Error>((joined(copying), written))
        })?;
        // Why it was not written says more than that nobody took it.
        written?;
        Ok(file.write_all_at(&copied?, 0)?)
    }

    /// The bytes that were copied are the ones that were verified.
    fn unchanged(&self) -> Result<(), Fault> {
        if crate::etcd::restore::layout::stamp(&self.source)? == self.stamp {
            return Ok(());
        }
        Err(Fault::refused(
            format!("{} changed while it was restored", self.source.display()),
            "restore from a file that does not change",
        ))
    }
}

impl Built {
    /// Reads it again, with the reader that takes nothing for granted.
    ///
    /// # Errors
    /// [`Fault::Unfit`] says what is wrong; the existing data are not touched, and what was built is removed.
    pub fn check(self, progress: &mut dyn FnMut(u64, u64)) -> Result<Checked, Fault> {
        let members: Vec<Member> = self.planned.plan.cluster.members.iter().map(intended).collect();
        let Self { planned, database, staging, idle } = self;
        match whole(&staging, &planned.log_in(&staging), &members, &database, progress) {
            Ok(()) => Ok(Checked { planned, staging, idle }),
            Err(fault) => {
                let _ = staging.discard(planned.log().as_ref());
                Err(fault)
            }
        }
    }

    /// Where it is built: a data directory.
    pub fn root(&self) -> PathBuf {
        self.staging.root().to_owned()
    }
}

/// Whether what was built is whole, and on the disk. The disk's word goes first.
fn whole(
    staging: &Staging,
    log: &Path,
    members: &[Member],
    database: &File,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(), Fault> {
    let (checked, synced) = thread::scope(|scope| {
        let (tell, told) = mpsc::channel();
        let mut next = 0;
        let mut tell = move |done: u64, of: u64| {
            if done >= next || done == of {
                next = done + TOLD;
                // Nobody listens where the disk has failed.
                let _ = tell.send((done, of));
            }
        };
        let checking = thread::Builder::new()
            .name("check".to_owned())
            .spawn_scoped(scope, move || data_dir::check(staging.root(), log, members, &mut tell))?;
        let synced = database.sync_all();
        told.iter().for_each(|(done, of)| progress(done, of));
        Ok::<_, io::Error>((joined(checking), synced))
    })?;
    synced.map_err(files::named("sync", &staging.member().join("snap/db")))?;
    checked.map_err(Box::new)?;
    Ok(())
}

/// What a thread has made; its panic is ours.
fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A member as it is to be found in the database.
fn intended(member: &NewMember) -> Member {
    Member { id: member.id, name: member.name.clone(), peer_urls: member.peer_urls.clone(), ..Member::default() }
}

/// Bytes between two words about how far it is.
const TOLD: u64 = 4 << 20;
