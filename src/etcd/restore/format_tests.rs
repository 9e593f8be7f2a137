//! Files of every version that a restore ever wrote.

use std::fs;
use std::path::PathBuf;

use serde_json::json;

use super::Log;
use super::intent::{FORMAT, Intent, Restored, Step};
use crate::model::Digest;

fn fixture(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats").join(name)
}

/// The bytes of a fixture; written first where it is missing and `LASTGOOD_WRITE_GOLDEN` is set.
pub(super) fn golden(name: &str, bytes: &[u8]) -> String {
    let path = fixture(name);
    if std::env::var_os("LASTGOOD_WRITE_GOLDEN").is_some() && !path.exists() {
        fs::write(&path, bytes).unwrap();
    }
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn restored() -> Restored {
    Restored {
        snapshot: Digest::of(b"snapshot"),
        name: "m1".to_owned(),
        cluster: "m1=https://10.0.0.1:2380".to_owned(),
        token: "token".to_owned(),
        moved_to: Some(1_000_000_000),
        bump: None,
        aside: Some("member.before-restore-20261122T183000Z".to_owned()),
        log: None,
    }
}

#[test]
fn an_intent_of_every_version_is_read() {
    let built = |database| Step::Swapping { built: 7, database };
    let database = serde_json::from_value(json!({"inode": 8, "bytes": 9, "modified": [10, 11]})).unwrap();
    let log = Some(Log { dir: "/var/lib/wal".into(), aside: Some("wal.before-restore-20261122T183000Z".to_owned()) });
    let intents = [
        Intent { version: 1, step: built(None), restored: restored() },
        Intent { version: 2, step: built(Some(database)), restored: Restored { bump: Some(5), log, ..restored() } },
    ];
    for intent in intents {
        let now = serde_json::to_vec_pretty(&intent).unwrap();
        let text = golden(&format!("intent-v{}.json", intent.version), &now);
        assert_eq!(serde_json::from_str::<Intent>(&text).unwrap(), intent);
        if intent.version == FORMAT.version() {
            assert_eq!(text, String::from_utf8(now).unwrap(), "it is written in another way now");
        }
    }
}
