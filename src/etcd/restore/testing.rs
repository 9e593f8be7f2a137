//! For tests: the recorded snapshot, its expected content, and the whole path from request to exchange.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::{Fault, Node, RestoreOptions, Restored, Unreadable, receipt};
use crate::etcd::bbolt::{Database, Item};
use crate::etcd::snapshot::{RawCopy, Rejected, Verified, verify};
use crate::observe::testing::etcd_binary;
use crate::sys::files;

/// The snapshot of a cluster of one member, `vm`, at revision 754.
pub(super) fn snapshot(dir: &Path) -> PathBuf {
    crate::etcd::tests::snapshot(dir)
}

/// Who the recorded snapshot is of.
pub(super) const VM: &str = "vm=https://127.0.0.1:2380";

/// Restoring a snapshot into a directory, as this cluster's first member.
pub(in crate::etcd) fn ask(from: &Path, data_dir: &Path, cluster: &str) -> RestoreOptions {
    RestoreOptions {
        from: from.to_owned(),
        raw_copy: RawCopy::Refuse,
        name: cluster.split_once('=').map(|(name, _)| name.to_owned()),
        initial_cluster: Some(cluster.to_owned()),
        token: None,
        advertised: None,
        data_dir: Some(data_dir.to_owned()),
        wal_dir: None,
        bump: None,
        replace: false,
        stopped: vec!["vm".to_owned()],
        etcd_version: None,
        unreadable: Unreadable::Refuse,
    }
}

/// Verifies it by all of it.
pub(super) fn read(snapshot: &Path, trust: RawCopy) -> Result<Verified, Rejected> {
    verify(snapshot, trust, &mut |_, _| {})
}

/// All of it, without the operator in between.
pub(in crate::etcd) fn restore(ask: &RestoreOptions, node: &Node) -> Result<Restored, Fault> {
    let mut quiet = |_, _| {};
    ask.plan(node, read)?.build(&mut quiet)?.check(&mut quiet)?.swap()
}

/// What is in a data directory, without the records of what was restored; and how many of those.
pub(super) fn names(data_dir: &Path) -> (Vec<String>, usize) {
    let (records, mut names): (Vec<String>, Vec<_>) =
        files::names(data_dir).unwrap().into_iter().partition(|name| name.starts_with(receipt::PREFIX));
    names.sort();
    (names, records.len())
}

/// Why it is refused.
pub(super) fn refused(ask: &RestoreOptions, node: &Node) -> String {
    match ask.plan(node, read) {
        Err(fault @ Fault::Refused { .. }) => fault.to_string(),
        other => panic!("it is not refused: {other:?}"),
    }
}

/// A program of etcd's, run to its end.
pub(super) fn etcdutl(args: &[&str]) -> Output {
    let out = Command::new(etcd_binary("3.5", "etcdutl")).args(args).output().unwrap();
    assert!(out.status.success(), "etcdutl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
    out
}

/// Every bucket with all that is in it.
pub(super) fn dump(path: &Path) -> BTreeMap<String, Vec<Item>> {
    let db = Database::open(path).unwrap();
    let mut dump = BTreeMap::new();
    for name in db.buckets().unwrap() {
        let mut items = Vec::new();
        db.walk(&name, |key, value| -> ControlFlow<()> {
            items.push((key.to_vec(), value.to_vec()));
            ControlFlow::Continue(())
        })
        .unwrap();
        dump.insert(String::from_utf8(name).unwrap(), items);
    }
    dump
}
