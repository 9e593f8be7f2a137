//! A bundle, read again: every part whole and as its manifest says, or the one that is not named.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::manifest::{Bundle, Fault, Part};
use super::tar::{self, Entry};
use super::{MAX_PART, seal};
use crate::model::Digest;
use crate::sys::files;

/// What a bundle holds besides the data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// Its manifest.
    pub bundle: Bundle,
    /// Manifests and configuration.
    pub plain: Vec<Entry>,
    /// Key material.
    pub keys: Keys,
}

/// Key material in a bundle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It is not in it: there was nobody to encrypt it to.
    Absent,
    /// It is in it, and nobody has opened it.
    Closed,
    /// Opened.
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
        let bytes = parts.get(&listed.name).ok_or_else(|| damaged("is not there".to_owned()))?;
        compare(listed, bytes.len() as u64, || Ok(Digest::of(bytes))).map_err(damaged)?;
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
                return Err(Fault::Damaged(format!("{} does not hold the keys that the bundle lists", listed.name)));
            }
            Keys::Opened(keys)
        }
    };
    Ok(Contents { bundle, plain, keys })
}

fn entries(name: &str, archive: &[u8]) -> Result<Vec<Entry>, Fault> {
    tar::read(archive).map_err(|fault| Fault::Damaged(format!("{name} is no archive of ours: {fault}")))
}

/// One part's bytes, if they are those that were listed.
fn part(snapshot: &Path, listed: &Part) -> Result<Vec<u8>, Fault> {
    let path = snapshot.with_file_name(&listed.name);
    let damaged = |why: String| Fault::Damaged(format!("{} {why}", path.display()));
    let bytes = files::read_bounded(&path, MAX_PART).map_err(|error| Fault::Damaged(error.to_string()))?;
    compare(listed, bytes.len() as u64, || Ok(Digest::of(&bytes))).map_err(damaged)?;
    Ok(bytes)
}

fn compare(listed: &Part, bytes: u64, sha256: impl FnOnce() -> io::Result<Digest>) -> Result<(), String> {
    if bytes != listed.bytes {
        return Err(format!("has {bytes} bytes, and had {} when the bundle was made", listed.bytes));
    }
    match sha256() {
        Ok(sha256) if sha256 == listed.sha256 => Ok(()),
        Ok(_) => Err("is not what it was when the bundle was made: its SHA-256 is another".to_owned()),
        Err(error) => Err(format!("cannot be read: {error}")),
    }
}

/// Reads every part again, the data too, and compares it with what the manifest says. `progress`: bytes of the data.
///
/// # Errors
/// [`Fault`]: the first that is not as it was.
pub fn verify(snapshot: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<Bundle, Fault> {
    let Contents { bundle, .. } = open(snapshot, None)?;
    data(&bundle, snapshot, progress)?;
    Ok(bundle)
}

/// The same of a bundle whose parts were fetched, the data into this file.
///
/// # Errors
/// As [`verify`].
pub fn verify_fetched(
    bundle: Bundle,
    parts: &BTreeMap<String, Vec<u8>>,
    file: &Path,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Bundle, Fault> {
    let Contents { bundle, .. } = open_fetched(bundle, parts, None)?;
    data(&bundle, file, progress)?;
    Ok(bundle)
}

/// Whether the data are those that a bundle lists.
fn data(bundle: &Bundle, snapshot: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<(), Fault> {
    let data = bundle.parts.first().ok_or_else(|| Fault::Damaged("it lists no part".to_owned()))?;
    let file = File::open(snapshot).and_then(|file| Ok((file.metadata()?.len(), file)));
    let (bytes, file) = file.map_err(|error| Fault::Damaged(files::named("read", snapshot)(error).to_string()))?;
    let digest = || hash(file, &mut |done| progress(done, bytes));
    compare(data, bytes, digest).map_err(|why| Fault::Damaged(format!("{} {why}", snapshot.display())))
}

fn hash(mut file: impl Read, progress: &mut dyn FnMut(u64)) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    let mut done = 0;
    loop {
        let read = file.read(&mut piece)?;
        let bytes = piece.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return Ok(Digest::from(<[u8; 32]>::from(hasher.finalize())));
        }
        hasher.update(bytes);
        done += read as u64;
        progress(done);
    }
}
