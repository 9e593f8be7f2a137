//! Bytes of what travels with a snapshot: a manifest's body, and an archive.

#![no_main]

#[path = "../../targets.rs"]
#[allow(dead_code, reason = "each target is one of several")]
mod targets;

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| targets::bundle(bytes).expect("a value or a place"));
