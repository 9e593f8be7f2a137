//! What must hold of any bytes; the errors are what did not.

use std::ops::ControlFlow;
use std::path::Path;

use lastgood::etcd::bbolt::Database;
use lastgood::etcd::snapshot::{RawCopy, Rejected, Verified, verify};
use lastgood::etcd::{backend, wal};
use lastgood::model::Digest;
use lastgood::snapshots::bundle::{Bundle, MAX_PART, tar, target};

/// The snapshot whose bundle is read.
pub(crate) const SNAPSHOT: &str = "20261126T152030Z-cdf818194e3a8c32-r123456.db";

/// Of a database, with a trailer or without: it is whole, or the error names the page, or what it lacks, or says what the file
/// is instead. What is whole is read by the reader, too, and to the same end.
pub(crate) fn database(path: &Path) -> Result<(), String> {
    let names = ["page ", "SHA-256", "no database of etcd's"];
    let Verified { contents, .. } = match verify(path, RawCopy::Allow, &mut |_, _| {}) {
        Ok(verified) => verified,
        Err(rejected) => {
            let said = rejected.to_string();
            // The reader goes its own way through the same bytes.
            let _ = backend::read(path);
            let is_named = matches!(rejected, Rejected::Mistaken(_)) || names.iter().any(|name| said.contains(name));
            return if is_named { Ok(()) } else { Err(said) };
        }
    };
    let read = backend::read(path).map_err(|fault| format!("whole, and not read: {fault}"))?;
    if read.revision != contents.revision || read.members != contents.members {
        return Err(format!("{read:?} is read, and {contents:?} verified"));
    }
    let db = Database::open(path).map_err(|fault| fault.to_string())?;
    let mut keys = 0;
    for bucket in &contents.buckets {
        let walked = db.walk(bucket.name.as_bytes(), |_, _| -> ControlFlow<()> {
            keys += 1;
            ControlFlow::Continue(())
        });
        walked.map_err(|fault| format!("whole, and not walked: {fault}"))?;
    }
    // A name that is no text is told as one.
    let told = contents.buckets.iter().any(|bucket| bucket.name.contains('\u{fffd}'));
    if keys == contents.total_keys || told { Ok(()) } else { Err(format!("{keys} keys, not {}", contents.total_keys)) }
}

/// Of a log: it is read, or the error names the segment and the byte.
pub(crate) fn log(dir: &Path) -> Result<(), String> {
    match wal::read(dir, |_| {}) {
        Ok(_) => Ok(()),
        Err(fault @ wal::Fault::Corrupt { .. }) if fault.to_string().contains(".wal at byte ") => Ok(()),
        Err(fault) => Err(fault.to_string()),
    }
}

/// Of a bundle's manifest with this body, its checksum right: it is read, and then names nothing but parts beside it, no
/// larger than what may be held; or the error says something.
pub(crate) fn manifest(body: &[u8]) -> Result<(), String> {
    let head = format!("{{\"version\":1,\"checksum\":\"{}\",\"bundle\":", Digest::of(body));
    let text = [head.as_bytes(), body, b"}\n"].concat();
    let bundle = match Bundle::decode(&text, SNAPSHOT) {
        Ok(bundle) => bundle,
        Err(why) if !why.is_empty() => return Ok(()),
        Err(_) => return Err("it says nothing".to_owned()),
    };
    let stem = SNAPSHOT.trim_end_matches("db");
    let names: Vec<&str> = bundle.parts.iter().map(|part| part.name.as_str()).collect();
    let held = bundle.parts.iter().skip(1).all(|part| part.bytes <= MAX_PART);
    let beside = names.iter().all(|name| name.starts_with(stem) && !name.contains('/'));
    let each = names.iter().collect::<std::collections::BTreeSet<_>>().len() == names.len();
    if held && beside && each && names.len() <= 3 { Ok(()) } else { Err(format!("{bundle:?} is believed")) }
}

/// Of an archive: it is read, and every file of it lies below the directory, once, and has come out of these bytes; or the
/// error names the place.
pub(crate) fn archive(bytes: &[u8]) -> Result<(), String> {
    let entries = match tar::read(bytes) {
        Ok(entries) => entries,
        Err(fault) if fault.at <= bytes.len() && fault.to_string().starts_with("at byte ") => return Ok(()),
        Err(fault) => return Err(fault.to_string()),
    };
    let mut seen = std::collections::BTreeSet::new();
    for entry in &entries {
        let to = target(Path::new("/to"), entry).map_err(|fault| fault.to_string())?;
        let plain = to.components().all(|part| part != std::path::Component::ParentDir);
        if !plain || !to.starts_with("/to") || to == Path::new("/to") || !seen.insert(to) {
            return Err(format!("{entry:?} leads elsewhere, or is there twice"));
        }
    }
    let held: usize = entries.iter().map(|entry| entry.bytes.len() + 512).sum();
    if held <= bytes.len() { Ok(()) } else { Err(format!("{held} bytes of {}", bytes.len())) }
}
