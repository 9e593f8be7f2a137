//! Real etcds over a barred data directory: none starts, none writes into it, and the data come back.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::learners::{Killed, ctl, free_ports, start};
use crate::etcd::bar::{ASIDE, Unbarred, bar, unbar};
use crate::sys::files;

/// Waits until it has exited; whether it succeeded.
fn exits(etcd: &mut Killed) -> bool {
    let until = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = etcd.0.try_wait().unwrap() {
            return status.success();
        }
        assert!(Instant::now() < until, "it runs over a barred directory");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Every file below a directory.
fn below(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for name in files::names(dir).unwrap() {
        let path = dir.join(&name);
        if path.is_dir() {
            found.extend(below(&path).into_iter().map(|inner| format!("{name}/{inner}")));
        } else {
            found.push(name);
        }
    }
    found
}

#[test]
fn no_etcd_starts_over_a_barred_directory_and_its_data_come_back() {
    let newest = crate::observe::testing::newest_etcd().map(|_| "newest");
    for series in ["3.4", "3.5"].into_iter().chain(newest) {
        let dir = tempfile::tempdir().unwrap();
        let ports = free_ports(1);
        let data = dir.path().join("m0");
        let served = start(series, dir.path(), 0, &ports, "new");
        ctl(series, ports[0].0, &["put", "key", "value"]);
        drop(served);

        // With data, and without any.
        for unbarred in [Unbarred::DataBack, Unbarred::Empty] {
            if unbarred == Unbarred::Empty {
                fs::remove_dir_all(data.join("member")).unwrap();
            }
            bar(&data, "the disk is not mounted").unwrap();
            let text = fs::read(data.join("member/snap/db")).unwrap();
            for state in ["new", "existing"] {
                assert!(!exits(&mut start(series, dir.path(), 0, &ports, state)), "{series}, {state}");
                assert_eq!(below(&data.join("member")), ["snap/db"], "{series}, {state}");
                assert_eq!(fs::read(data.join("member/snap/db")).unwrap(), text, "{series}, {state}");
            }
            assert_eq!(unbar(&data).unwrap(), unbarred, "{series}");
            assert!(!data.join(ASIDE).exists());
            if unbarred == Unbarred::DataBack {
                let _again = start(series, dir.path(), 0, &ports, "new");
                assert!(ctl(series, ports[0].0, &["get", "key"]).contains("value"), "{series}");
            }
        }
    }
}
