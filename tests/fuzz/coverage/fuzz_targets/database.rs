//! Bytes of a database file. A seed is the snapshot among the fixtures, unpacked.

#![no_main]

#[path = "../../targets.rs"]
#[allow(dead_code, reason = "each target is one of several")]
mod targets;

use std::path::Path;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    // One process, one file.
    let path = format!("/dev/shm/lastgood-fuzz-{}", std::process::id());
    std::fs::write(&path, bytes).expect("room");
    targets::database(Path::new(&path)).expect("a value or a place");
});
