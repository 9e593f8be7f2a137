//! The record: everything the agent persists below its state directory. Each file has one owner; writing is a method of
//! the [`Guard`], which holds the lock.
//!
//! ```text
//!  /var/lib/lastgood                0700
//!    lock                           flock, with the holder's pid in it            lock
//!    memory.json, memory.json.old   the memory, and the one before it             memory_file, rebuild
//!    generations/NAMESPACE_NAME/N/  manifest, files/DIGEST, contents.json,        generations
//!                                   generation.json
//!    history.jsonl, history.jsonl.old                                             history
//!    published.json                 what we wrote to inactive-manifests           published
//!    known.json                     etcd facts that a restore needs               known
//!    aside/                         damaged or foreign state                      aside
//!    tmp/                           files being written; emptied when the lock is taken
//! ```
//!
//! Reading takes no lock: every file is replaced by one rename, so a reader sees the old file or the new one. No
//! content found here stops the agent: a file that cannot be read is set aside, kept and reported. A file of a newer
//! lastgood stays in its place, and while there is one, nothing is written (newer).

mod aside;
pub(crate) mod envelope;
mod etcd_history_file;
#[cfg(test)]
mod format_tests;
mod generations;
mod history;
mod lock;
mod memory_file;
mod newer;
#[cfg(test)]
mod newer_tests;
mod published;
mod rebuild;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::sys::files;

pub use etcd_history_file::last_known;
pub use generations::{Captured, Capturing, KeptFile};
pub use history::History;
pub use lock::Guard;

pub use crate::sys::lock_file::LockError;
pub use published::{Published, PublishedFile};

/// The mode of every directory of ours: configuration and kubeconfigs lie in them.
const DIR_MODE: u32 = 0o700;

/// The state directory, for reading.
#[derive(Clone, Debug)]
pub struct Store {
    state: PathBuf,
    /// The run directory, where it is known.
    run: Option<PathBuf>,
}

/// Something found about the state on disk that a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// About which file or directory.
    pub path: PathBuf,
    /// The sentence, for journal and history.
    pub sentence: String,
}

impl Finding {
    fn new(path: &Path, sentence: impl fmt::Display) -> Self {
        Self { path: path.to_owned(), sentence: format!("{} {sentence}", path.display()) }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.sentence)
    }
}

impl Store {
    /// The store these settings name. Nothing is made and nothing locked: status, history and diff work beside a running
    /// agent, and where there never was one.
    ///
    /// # Errors
    /// When something else than a directory stands there, or it may not be looked at (only root may).
    pub fn open(settings: &Settings) -> io::Result<Self> {
        Ok(Self { run: Some(settings.paths.run.clone()), ..Self::at(&settings.paths.state)? })
    }

    fn at(state: &Path) -> io::Result<Self> {
        match files::standing(state)? {
            Some(metadata) if !metadata.is_dir() => {
                let what = files::kind_of(&metadata);
                Err(files::fault(
                    io::ErrorKind::NotADirectory,
                    state,
                    &format!("is a {what}; the state directory is needed there (paths.state)"),
                ))
            }
            Some(_) => {
                // Read permission is found out here, with one sentence, and not as forty missing files later.
                files::names(state)?;
                Ok(Self { state: state.to_owned(), run: None })
            }
            None => Ok(Self { state: state.to_owned(), run: None }),
        }
    }

    /// The state directory.
    pub fn path(&self) -> &Path {
        &self.state
    }

    fn run(&self) -> Option<&Path> {
        self.run.as_deref()
    }

    fn tmp(&self) -> PathBuf {
        self.state.join("tmp")
    }
}
