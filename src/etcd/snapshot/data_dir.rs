//! Whether a data directory that was built from a snapshot may be started.
//!
//! ```text
//!   member/snap/db   consistent_index = commit of the WAL   otherwise writes are accepted, skipped, and lost
//!                    members = the intended ones, exactly   otherwise 3.6 waits for peers of the old cluster
//!   member/wal       undamaged, of one of these members
//! ```

use std::path::{Path, PathBuf};

use super::contents::Contents;
use super::verify::{Rejected, reread};
use crate::etcd::backend::Member;
use crate::etcd::wal::{self, Tail, Wal};

/// What a data directory holds that may be started.
#[derive(Clone, Debug)]
pub struct Checked {
    /// What its database holds.
    pub contents: Contents,
    /// What its log says.
    pub wal: Wal,
}

/// Why a data directory may not be started.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Its database is not whole.
    #[error(transparent)]
    Database(#[from] Rejected),
    /// Its log cannot be read.
    #[error(transparent)]
    Log(#[from] wal::Fault),
    /// The two, or one of them and what is intended, do not fit.
    #[error("{}: {what}", path.display())]
    Differs {
        /// Which data directory.
        path: PathBuf,
        /// What does not fit what.
        what: String,
    },
}

/// Checks a data directory that was built and never started: its database is whole, its log ends where the database does,
/// and its members are these, exactly. Their client URLs are not compared: a member announces them when it starts.
///
/// # Errors
/// [`Unfit`] says what does not fit.
pub fn check(
    data_dir: &Path,
    log: &Path,
    intended: &[Member],
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Checked, Unfit> {
    let unfit = |what: String| Unfit::Differs { path: data_dir.to_owned(), what };
    let wal = wal::read(log, |_| {})?;
    let contents = reread(&data_dir.join("member/snap/db"), progress)?;
    let index = contents.consistent_index;
    let Some(state) = wal.hard_state else { return Err(unfit("its WAL contains no hard state".to_owned())) };
    if wal.tail != Tail::Whole {
        return Err(unfit("its WAL ends within a record".to_owned()));
    }
    if index != Some(state.commit) {
        let says = index.map_or("nothing".to_owned(), |index| index.to_string());
        return Err(unfit(format!(
            "the consistent index of its database is {says}, and its WAL is committed up to {}: etcd would skip the \
             requests until then",
            state.commit
        )));
    }
    if wal.last_entry.is_none_or(|(_, index)| index != state.commit) {
        let last = wal.last_entry.map_or("none".to_owned(), |(_, index)| index.to_string());
        return Err(unfit(format!("its WAL is committed up to {}, and its last entry is {last}", state.commit)));
    }
    // An etcd 3.4 keeps no term there.
    if contents.term.is_some_and(|term| term != state.term) {
        let term = contents.term.unwrap_or_default();
        return Err(unfit(format!("the term of its database is {term}, that of its WAL {}", state.term)));
    }
    let (stand, wanted) = (identities(&contents.members), identities(intended));
    if stand != wanted {
        return Err(unfit(format!("its members are {stand:?}, and {wanted:?} are intended")));
    }
    if !contents.removed.is_empty() {
        return Err(unfit(format!("it remembers {} members as removed, of another cluster", contents.removed.len())));
    }
    if !intended.iter().any(|member| member.id == wal.node_id) {
        return Err(unfit(format!("its WAL is that of member {:x}, which is none of these", wal.node_id)));
    }
    Ok(Checked { contents, wal })
}

/// What makes a member: its ID, name, sorted peer URLs, and whether it has a vote.
fn identities(members: &[Member]) -> Vec<(String, String, Vec<String>, bool)> {
    let mut found: Vec<_> = members
        .iter()
        .map(|member| {
            let mut urls = member.peer_urls.clone();
            urls.sort();
            (format!("{:x}", member.id), member.name.clone(), urls, member.is_learner)
        })
        .collect();
    found.sort();
    found
}
