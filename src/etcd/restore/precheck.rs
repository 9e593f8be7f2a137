//! Whether a data directory is in use: by the lock on its database, by open file descriptors, and by command lines.
//!
//! bbolt locks the file while it is open. lastgood holds the lock until the data directory is exchanged, so that an
//! etcd that starts meanwhile waits instead of serving data that are about to be replaced.

use std::fs::File;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use super::Fault;
use crate::sys::{files, proc};

/// The lock on the database that exists; nothing if there is none.
#[derive(Debug)]
pub(super) struct Idle {
    _lock: Option<Flock<File>>,
}

/// Takes the lock, or says who works there.
pub(super) fn hold(data_dir: &Path) -> Result<Idle, Fault> {
    // In a container it is known by another name perhaps; the lock tells then.
    let real = |dir: &Path| std::fs::canonicalize(dir).unwrap_or_else(|_| dir.to_owned());
    let here = real(data_dir);
    let named = proc::processes().into_iter().find(|process| {
        let dir = process.flag("data-dir").filter(|_| process.program() == "etcd");
        dir.is_some_and(|dir| real(Path::new(&dir)) == here) && proc::in_our_namespace(process.pid)
    });
    if let Some(process) = named {
        return Err(busy(data_dir, &format!("an etcd (pid {}) runs with it as its --data-dir", process.pid)));
    }
    let database = data_dir.join("member/snap/db");
    if !files::standing(&database)?.is_some_and(|metadata| metadata.is_file()) {
        return Ok(Idle { _lock: None });
    }
    let file = File::open(&database).map_err(files::named("open", &database))?;
    let metadata = file.metadata().map_err(files::named("look at", &database))?;
    if let Some(pid) = proc::having_open((metadata.dev(), metadata.ino())).into_iter().next() {
        return Err(busy(data_dir, &format!("process {pid} has its database open")));
    }
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Idle { _lock: Some(lock) }),
        Err((_, Errno::EWOULDBLOCK)) => Err(busy(data_dir, "its database is locked, as a running etcd locks it")),
        Err((_, errno)) => Err(files::named("lock", &database)(errno.into()).into()),
    }
}

fn busy(data_dir: &Path, who: &str) -> Fault {
    Fault::refused(
        format!("{} is in use: {who}", data_dir.display()),
        "stop that etcd first; where it is a static pod, take its manifest out of the manifest directory, \
         kube-apiserver's before it",
    )
}
