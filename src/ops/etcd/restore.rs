//! The steps of a restore on this node: the plan, what an earlier run left, and carrying the plan out.

use std::io;
use std::path::{Path, PathBuf};

use super::node::startable;
use crate::etcd::restore::{Fault, Finished, Node, Planned, RestoreOptions, Restored, unfinished};
use crate::ops::failure::{Exit, Failure};
use crate::ops::progress::Progress;
use crate::snapshots::{Depth, verify};

pub(crate) fn plan(ask: &RestoreOptions, node: &Node) -> Result<Planned, Fault> {
    let mut progress = Progress::new("verifying");
    ask.plan(node, |file, trust| {
        let verified = verify(file, trust, Depth::AsNeeded, &mut |done, of| progress.at(done, of));
        verified.map(|(verified, _)| verified)
    })
}

/// What is asked for, where an earlier run had all but done it and it is completed now.
pub(crate) fn completed(
    finished: Vec<Finished>,
    ask: &RestoreOptions,
    node: &Node,
) -> Result<Option<(Restored, Planned)>, Fault> {
    let mut completed = finished.into_iter().filter_map(|finished| match finished {
        Finished::Completed(restored) => Some(restored),
        Finished::Undone | Finished::Overtaken(_) => None,
    });
    let Some(restored) = completed.next() else { return Ok(None) };
    // What it has put there is not in its own way.
    let planned = plan(&RestoreOptions { replace: true, ..ask.clone() }, node)?;
    Ok(restored.is(&planned).then_some((restored, planned)))
}

/// What an earlier restore has left, for who only asks what would be done.
pub(crate) fn left(data_dir: &Path) -> io::Result<Vec<String>> {
    let left = unfinished(data_dir)?;
    let sentence = |left: PathBuf| {
        format!(
            "{} belongs to a restore that was interrupted or is running: without --dry-run, lastgood completes, undoes or \
             awaits it first",
            left.display()
        )
    };
    Ok(left.into_iter().map(sentence).collect())
}

pub(crate) fn carry_out(planned: Planned, node: &Node) -> Result<Restored, Fault> {
    // Only what was found to be startable over these data is looked for again.
    let file = node.etcd.as_ref().map(|etcd| etcd.file.as_path()).filter(|_| planned.startable().is_some());
    let stands = || file.filter(|file| file.exists()).and_then(startable);
    let planned = planned.looked_again(stands());
    let mut progress = Progress::new("building");
    let built = planned.build(&mut |done, of| progress.at(done, of))?;
    let mut progress = Progress::new("checking");
    let checked = built.check(&mut |done, of| progress.at(done, of))?;
    match stands() {
        // Its pod would wait for the lock on what is about to be put aside, and then write there.
        Some(why) => Err(checked.given_up(&why)),
        None => checked.swap(),
    }
}

/// How the operator stops the etcd that is in the way.
pub(crate) fn stop(node: &Node) -> String {
    match node.etcd.as_ref().map(|etcd| etcd.file.as_path()).filter(|file| file.exists()) {
        Some(file) => {
            let dir = file.parent().unwrap_or(file).display();
            format!(
                "`lastgood pause --for 1h --reason restore`; move kube-apiserver's manifest and then {} out of {dir} to another \
                 directory; when `crictl ps` shows neither, run this again; then move etcd's manifest back, \
                 kube-apiserver's when etcd serves, and `lastgood resume`",
                file.display()
            )
        }
        None => "stop it, and run this again".to_owned(),
    }
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { .. } => Self { exit: Exit::Refused, sentence: format!("refused: {fault}") },
            Fault::Rejected(rejected) => rejected.into(),
            Fault::Io(error) => error.into(),
            Fault::Unfit(_) | Fault::Read(_) => Self::failed(fault.to_string()),
        }
    }
}
