//! Bytes of a log's only segment.

#![no_main]

#[path = "../../targets.rs"]
#[allow(dead_code, reason = "each target is one of several")]
mod targets;

use std::path::PathBuf;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let dir = PathBuf::from(format!("/dev/shm/lastgood-fuzz-log-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("room");
    std::fs::write(dir.join("0000000000000000-0000000000000000.wal"), bytes).expect("room");
    targets::log(&dir).expect("a value or a place");
});
