//! What must hold of any bytes; the errors are what did not.

use std::ops::ControlFlow;
use std::path::Path;

use lastgood::etcd::bbolt::Database;
use lastgood::etcd::snapshot::{RawCopy, Verified, verify};
use lastgood::etcd::{backend, wal};

/// Of a database, with a trailer or without: it is whole, or the error names the page, or what it lacks. What is whole is
/// read by the reader, too, and to the same end.
pub(crate) fn database(path: &Path) -> Result<(), String> {
    let names = ["page ", "SHA-256", "no database of etcd's"];
    let Verified { contents, .. } = match verify(path, RawCopy::Allow, &mut |_, _| {}) {
        Ok(verified) => verified,
        Err(rejected) => {
            let said = rejected.to_string();
            // The reader goes its own way through the same bytes.
            let _ = backend::read(path);
            return if names.iter().any(|name| said.contains(name)) { Ok(()) } else { Err(said) };
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
