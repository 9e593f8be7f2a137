//! memory.json: the memory, saved as a whole. The previous version remains as memory.json.old, so that damage to one
//! file costs one pass and not the memory.
//!
//! ```text
//!   new in tmp/, synced ─┐
//!   memory.json ──link──▶ memory.json.old      (one rename)
//!                     └─▶ memory.json          (one rename: there is always one)
//! ```
//!
//! A memory that a newer lastgood saved is read as far as this program understands it, and never replaced.

use std::fs;
use std::io;
use std::path::PathBuf;

use serde_json::Value;

use super::envelope::{self, Fault};
use super::{Guard, Store};
use crate::model::memory::{FORMAT, Record};
use crate::model::{ComponentId, Memory};
use crate::sys::files::{self, Attributes, Written};

/// The largest memory that is read, in bytes. A node with a hundred static pods has one of a megabyte.
pub(super) const MAX_BYTES: u64 = 64 << 20;

/// What one of the two files holds.
#[derive(Debug)]
pub(super) enum Kept {
    Memory(Box<Memory>),
    /// A memory of a newer lastgood: what this program understands of it.
    Newer(Option<Box<Memory>>),
    Missing,
    /// Something else: a sentence that follows the path.
    Unusable(String),
}

impl Store {
    pub(super) fn memory_path(&self) -> PathBuf {
        self.path().join("memory.json")
    }

    pub(super) fn old_memory_path(&self) -> PathBuf {
        self.path().join("memory.json.old")
    }
}

/// The file's bytes for a memory.
pub(super) fn encode(memory: &Memory) -> io::Result<Vec<u8>> {
    envelope::wrap(&FORMAT, memory)
}

/// The memory of a file's bytes.
pub(super) fn decode(bytes: &[u8]) -> Result<Memory, Fault> {
    envelope::decode(&FORMAT, bytes)
}

/// Reads one of the two files.
pub(super) fn read(path: &std::path::Path) -> Kept {
    match files::read_bounded(path, MAX_BYTES) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Kept::Missing,
        Err(error) => Kept::Unusable(format!("cannot be used: {error}")),
        Ok(bytes) => match decode(&bytes) {
            Ok(memory) => Kept::Memory(Box::new(memory)),
            Err(Fault::Newer { .. }) => {
                Kept::Newer(envelope::of_newer(&FORMAT, &bytes).and_then(as_far_as_known).map(Box::new))
            }
            Err(fault) => Kept::Unusable(fault.to_string()),
        },
    }
}

/// What this program understands of a newer memory. A field that it does not know is passed over; one that it knows, with
/// a value that it does not know, costs that field, and within a component that component.
fn as_far_as_known(body: &str) -> Option<Memory> {
    if let Ok(memory) = serde_json::from_str(body) {
        return Some(memory);
    }
    let (Ok(Value::Object(fields)), Ok(Value::Object(mut kept))) =
        (serde_json::from_str(body), serde_json::to_value(Memory::default()))
    else {
        return None;
    };
    for (name, mut value) in fields {
        if let ("components", Value::Object(components)) = (name.as_str(), &mut value) {
            components.retain(|id, record| {
                id.parse::<ComponentId>().is_ok() && serde_json::from_value::<Record>(record.clone()).is_ok()
            });
        }
        let mut with = kept.clone();
        with.insert(name, value);
        if serde_json::from_value::<Memory>(Value::Object(with.clone())).is_ok() {
            kept = with;
        }
    }
    serde_json::from_value(Value::Object(kept)).ok()
}

impl Guard {
    /// Saves the memory, if it is another than the one on disk. When this returns, it is on disk to stay.
    ///
    /// # Errors
    /// When it cannot be written: the one before it stands, whole. Nothing may be done to the node then that relies on
    /// the intent being remembered.
    pub fn save_memory(&self, memory: &Memory) -> io::Result<Written> {
        self.may_write()?;
        let bytes = encode(memory)?;
        let path = self.memory_path();
        if files::read_bounded(&path, MAX_BYTES).is_ok_and(|standing| standing == bytes) {
            return Ok(Written::AlreadySo);
        }
        let tmp = self.make_tmp()?;
        let new = files::write_new(&tmp, &bytes, &Attributes::private())?;
        if files::standing(&path)?.is_some_and(|metadata| metadata.is_file()) {
            // Not synced one by one: the older copy may be lost in a power cut, and the sync of the new one's directory
            // below takes it along.
            let (link, old) = (tmp.join("memory.json.old"), self.old_memory_path());
            let _ = fs::remove_file(&link);
            fs::hard_link(&path, &link).map_err(files::named("make", &link))?;
            fs::rename(&link, &old).map_err(files::named("replace", &old))?;
        }
        files::put(new, &path)?;
        Ok(Written::Changed)
    }
}
