//! Opens a bundle: every part is complete and matches its manifest, or the error names the one that does not.

use std::collections::BTreeMap;
use std::path::Path;

use super::manifest::{Bundle, Fault, Part};
use super::tar::{self, Entry};
use super::{MAX_PART, seal};
use crate::etcd::snapshot::Verified;
use crate::model::Digest;
use crate::sys::files;

/// What a bundle holds besides the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub bundle: Bundle,
    /// Manifests and configuration.
    pub plain: Vec<Entry>,
    pub keys: Keys,
}

/// Key material in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It is not in it: there was nobody to encrypt it to.
    Absent,
    /// It is in it, and nobody has opened it.
    Closed,
    Opened(Vec<Entry>),
}

/// Opens the bundle of a snapshot. The data themselves are not read.
///
/// # Errors
/// [`Fault`]: names the file, and what is wrong with it.
pub fn open(snapshot: &Path, identities: Option<&Path>) -> Result<Contents, Fault> {
    opened(Bundle::read(snapshot)?, &|listed| part(snapshot, listed), identities)
}

/// Opens a bundle whose parts were fetched: their bytes by name.
///
/// # Errors
/// As [`open`].
pub fn open_fetched(
    bundle: Bundle,
    parts: &BTreeMap<String, Vec<u8>>,
    identities: Option<&Path>,
) -> Result<Contents, Fault> {
    let part = |listed: &Part| {
        let damaged = |why: String| Fault::Damaged(format!("{} {why}", listed.name));
        let bytes = parts.get(&listed.name).ok_or_else(|| damaged("does not exist".to_owned()))?;
        compare(listed, bytes.len() as u64, || Digest::of(bytes)).map_err(damaged)?;
        Ok(bytes.clone())
    };
    opened(bundle, &part, identities)
}

fn opened(
    bundle: Bundle,
    part: &dyn Fn(&Part) -> Result<Vec<u8>, Fault>,
    identities: Option<&Path>,
) -> Result<Contents, Fault> {
    let node = bundle.node_part().ok_or_else(|| Fault::Damaged("it lists no files of the node".to_owned()))?;
    let plain = entries(&node.name, &part(node)?)?;
    let keys = match (bundle.keys_part(), identities) {
        (None, _) => Keys::Absent,
        (Some(listed), None) => {
            part(listed)?;
            Keys::Closed
        }
        (Some(listed), Some(identities)) => {
            let sealed = part(listed)?;
            let opened = seal::open(&sealed, identities);
            let opened = opened.map_err(|why| Fault::Refused(format!("{} {why}", listed.name)))?;
            let keys = entries(&listed.name, &opened)?;
            let fit = bundle.keys.iter().zip(&keys).all(|(listed, entry)| listed.fits(entry));
            if bundle.keys.len() != keys.len() || !fit {
                return Err(Fault::Damaged(format!("{} does not contain the keys that the bundle lists", listed.name)));
            }
            Keys::Opened(keys)
        }
    };
    Ok(Contents { bundle, plain, keys })
}

fn entries(name: &str, archive: &[u8]) -> Result<Vec<Entry>, Fault> {
    tar::read(archive).map_err(|fault| Fault::Damaged(format!("{name} is no archive that lastgood wrote: {fault}")))
}

/// One part's bytes, if they are those that were listed.
fn part(snapshot: &Path, listed: &Part) -> Result<Vec<u8>, Fault> {
    let path = snapshot.with_file_name(&listed.name);
    let damaged = |why: String| Fault::Damaged(format!("{} {why}", path.display()));
    let bytes = files::read_bounded(&path, MAX_PART).map_err(|error| Fault::Damaged(error.to_string()))?;
    compare(listed, bytes.len() as u64, || Digest::of(&bytes)).map_err(damaged)?;
    Ok(bytes)
}

fn compare(listed: &Part, bytes: u64, sha256: impl FnOnce() -> Digest) -> Result<(), String> {
    if bytes != listed.bytes {
        return Err(format!("has {bytes} bytes, and had {} when the bundle was made", listed.bytes));
    }
    match sha256() == listed.sha256 {
        true => Ok(()),
        false => Err("changed since the bundle was made: its SHA-256 differs".to_owned()),
    }
}

/// Reads every part of the bundle of a snapshot again, and compares it with what the manifest says; and so the data, as they
/// were verified.
///
/// # Errors
/// [`Fault`]: the first that is not as it was.
pub fn verify(snapshot: &Path, verified: &Verified) -> Result<Bundle, Fault> {
    let Contents { bundle, .. } = open(snapshot, None)?;
    data(&bundle, snapshot, verified)?;
    Ok(bundle)
}

/// The same for a bundle whose parts were fetched, the data into this file.
///
/// # Errors
/// As [`verify`].
pub fn verify_fetched(
    bundle: Bundle,
    parts: &BTreeMap<String, Vec<u8>>,
    file: &Path,
    verified: &Verified,
) -> Result<Bundle, Fault> {
    let Contents { bundle, .. } = open_fetched(bundle, parts, None)?;
    data(&bundle, file, verified)?;
    Ok(bundle)
}

/// Whether the data are those that a bundle lists.
fn data(bundle: &Bundle, snapshot: &Path, verified: &Verified) -> Result<(), Fault> {
    let data = bundle.parts.first().ok_or_else(|| Fault::Damaged("it lists no part".to_owned()))?;
    let same = compare(data, verified.bytes(), || verified.whole);
    same.map_err(|why| Fault::Damaged(format!("{} {why}", snapshot.display())))
}
