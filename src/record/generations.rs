//! The stored generations: one directory each, created atomically and never changed, except for two small files.
//!
//! ```text
//!   generations/kube-system_etcd/3/
//!     manifest            byte for byte
//!     files/DIGEST        a configuration file or a kubeconfig, byte for byte, named by its digest
//!     contents.json       the files here, with digests: written with the rest, and again when a kubeconfig is renewed
//!     generation.json     its trust and evidence: a lost memory is rebuilt from it
//!
//!   .new-3 ── everything written and synced ──rename──▶ 3 ──rename──▶ .gone-3… ── removed
//! ```
//!
//! Key material is not stored here (Q4): it is never rolled back, so there is no reason to keep a copy of it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::envelope::{self, Fault};
use super::{DIR_MODE, Finding, Guard, Store};
use crate::model::config_files::{KubeconfigHealth, MAX_FILE_BYTES};
use crate::model::generation::Stored;
use crate::model::manifest::MAX_BYTES;
use crate::model::memory::Machine;
use crate::model::observation::ManifestFile;
use crate::model::{
    ClosureFile, ComponentId, Digest, FileKind, FileState, Format, Generation, Memory, Observation, lift,
};
use crate::sys::files::{self, Attributes, Written};

/// The format of contents.json.
pub(super) const CONTENTS: Format =
    Format { key: "contents", versions: &["the manifest and the files of its closure"], lift: lift::nothing };
/// The format of generation.json.
pub(super) const DESCRIBED: Format = Format {
    key: "generation",
    versions: &[
        "the generation; files of this version may have what version 2 lists, and may lack it",
        "of the data of an etcd: wal_dir",
        "trust in the place of standing",
    ],
    lift: lift::generation,
};
/// The largest of these two files that is read, in bytes: a hundred closure files take a tenth of it.
pub(super) const MAX_JSON: u64 = 1 << 20;
/// A generation on its way in.
const NEW: &str = ".new-";
/// A generation on its way out.
const GONE: &str = ".gone-";

/// What is needed to keep a generation.
#[derive(Debug)]
pub struct Capturing<'a> {
    pub component: &'a ComponentId,
    /// What is known of it; its number names the directory.
    pub generation: &'a Generation,
    /// The manifest as it was observed, with its closure.
    pub file: &'a ManifestFile,
    /// The mode and owner its manifest has.
    pub attributes: Attributes,
    /// The machine it is kept on (Q7).
    pub machine: &'a Machine,
}

/// How keeping a generation went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Captured {
    /// It is on disk now.
    Now,
    /// It was already.
    Already,
}

/// One kept file of a generation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptFile {
    /// Its bytes, verified.
    pub bytes: Vec<u8>,
    /// What it was when it was kept: its kind, mode and owner.
    pub state: FileState,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Contents {
    pub(super) manifest: KeptManifest,
    pub(super) files: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct KeptManifest {
    pub(super) digest: Digest,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Entry {
    /// Where it belongs on the host.
    pub(super) path: PathBuf,
    /// Of the kept bytes; also their file name.
    pub(super) bytes: Digest,
    /// As it was observed.
    pub(super) state: FileState,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Described {
    pub(super) machine: Machine,
    pub(super) component: ComponentId,
    pub(super) generation: Generation,
}

/// One generation found on disk.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) component: ComponentId,
    pub(super) number: u32,
    pub(super) dir: PathBuf,
    /// What it holds, every byte verified; or why it is not believed.
    pub(super) verified: io::Result<(Described, Vec<u8>)>,
}

impl Store {
    pub(super) fn generations_dir(&self) -> PathBuf {
        self.path().join("generations")
    }

    fn component_dir(&self, component: &ComponentId) -> PathBuf {
        self.generations_dir().join(component.slug())
    }

    pub(super) fn generation_dir(&self, component: &ComponentId, number: u32) -> PathBuf {
        self.component_dir(component).join(number.to_string())
    }

    /// A generation's manifest, byte for byte as it was kept.
    ///
    /// # Errors
    /// When it is not there, or is not what was kept.
    pub fn manifest(&self, component: &ComponentId, number: u32) -> io::Result<Vec<u8>> {
        let dir = self.generation_dir(component, number);
        let contents = contents(&dir)?;
        verified(&dir.join("manifest"), MAX_BYTES, contents.manifest.digest)
    }

    /// Where a generation's manifest is kept, if it is what was kept.
    pub fn manifest_path(&self, component: &ComponentId, number: u32) -> Option<PathBuf> {
        self.manifest(component, number).ok().map(|_| self.generation_dir(component, number).join("manifest"))
    }

    /// The mode and owner a generation's manifest had when it was kept.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn manifest_attributes(&self, component: &ComponentId, number: u32) -> io::Result<Attributes> {
        let KeptManifest { mode, uid, gid, .. } = contents(&self.generation_dir(component, number))?.manifest;
        Ok(Attributes { mode, uid, gid, extended_from: None })
    }

    /// The digest of a generation's manifest bytes, as kept.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn manifest_digest(&self, component: &ComponentId, number: u32) -> io::Result<Digest> {
        Ok(contents(&self.generation_dir(component, number))?.manifest.digest)
    }

    /// A kept file of a generation's closure.
    ///
    /// # Errors
    /// When no such file was kept ([`io::ErrorKind::NotFound`]), or it is not what was kept.
    pub fn file(&self, component: &ComponentId, number: u32, path: &Path) -> io::Result<KeptFile> {
        let dir = self.generation_dir(component, number);
        let entry = contents(&dir)?.files.into_iter().find(|entry| entry.path == path).ok_or_else(|| {
            let sentence = format!("is not among the stored files of generation {number} of {component}");
            files::fault(io::ErrorKind::NotFound, path, &sentence)
        })?;
        let bytes = verified(&entry.path_in(&dir), MAX_FILE_BYTES, entry.bytes)?;
        let FileState::Present { mode, uid, gid, .. } = entry.state else {
            return Err(files::fault(io::ErrorKind::InvalidData, &dir, "names a stored file that did not exist"));
        };
        Ok(KeptFile { bytes, mode, uid, gid, state: entry.state })
    }

    /// The paths of the files kept with a generation.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn files(&self, component: &ComponentId, number: u32) -> io::Result<Vec<PathBuf>> {
        let contents = contents(&self.generation_dir(component, number))?;
        Ok(contents.files.into_iter().map(|entry| entry.path).collect())
    }

    /// Reads all of a generation again, and compares it with what the memory says of it. Mends nothing.
    ///
    /// # Errors
    /// Names what is missing, damaged, or of another generation.
    pub fn whole(&self, component: &ComponentId, generation: &Generation) -> io::Result<()> {
        let dir = self.generation_dir(component, generation.number);
        let (described, manifest) = verify(&dir, component, generation.number)?;
        if described.generation.digest != generation.digest || Digest::of(&manifest) != generation.raw_digest {
            return Err(files::fault(io::ErrorKind::InvalidData, &dir, "differs from the memory"));
        }
        let kept = self.files(component, generation.number)?;
        let missing = generation.closure.iter().find(|file| {
            let is_kept = matches!(
                &file.state,
                FileState::Present {
                    kind: FileKind::Config | FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. },
                    ..
                }
            );
            is_kept && !kept.contains(&file.path)
        });
        match missing {
            None => Ok(()),
            Some(file) => {
                let sentence = format!("does not contain {}", file.path.display());
                Err(files::fault(io::ErrorKind::NotFound, &dir, &sentence))
            }
        }
    }

    /// The numbers of the generations on disk, verified or not.
    pub fn numbers(&self, component: &ComponentId) -> Vec<u32> {
        numbers_in(&self.component_dir(component))
    }

    /// The directory of every generation on disk.
    pub(super) fn generation_dirs(&self) -> Vec<PathBuf> {
        let slugs = files::names(&self.generations_dir()).unwrap_or_default();
        let of = |slug: String| {
            let dir = self.generations_dir().join(slug);
            numbers_in(&dir).into_iter().map(move |number| dir.join(number.to_string()))
        };
        slugs.into_iter().flat_map(of).collect()
    }

    /// Every generation on disk, read whole. What is in there and no generation is reported beside them.
    pub(super) fn scan(&self) -> (Vec<Found>, Vec<Finding>) {
        let root = self.generations_dir();
        let (mut found, mut findings) = (Vec::new(), Vec::new());
        let slugs = files::names(&root).unwrap_or_else(|error| {
            findings.push(Finding { path: root.clone(), sentence: error.to_string() });
            Vec::new()
        });
        for slug in slugs {
            let dir = root.join(&slug);
            let id = slug.split_once('_').and_then(|(namespace, name)| format!("{namespace}/{name}").parse().ok());
            let Some(component) = id else {
                findings.push(Finding::new(&dir, "names no component; it is left alone"));
                continue;
            };
            for number in numbers_in(&dir) {
                let dir = dir.join(number.to_string());
                let verified = verify(&dir, &component, number);
                found.push(Found { component: ComponentId::clone(&component), number, dir, verified });
            }
        }
        (found, findings)
    }
}

impl Guard {
    /// Keeps a generation: its manifest and the configuration files of its closure. Everything is read again from disk
    /// and must be what was observed; a kubeconfig that works is kept as it stands.
    ///
    /// # Errors
    /// When a file changed since it was observed, or anything cannot be read or written: nothing is kept then.
    pub fn capture(&self, what: &Capturing<'_>) -> io::Result<Captured> {
        self.may_write()?;
        let Capturing { component, generation, file, attributes, machine } = what;
        let number = generation.number;
        let final_dir = self.generation_dir(component, number);
        let manifest = file.content.as_ref().map_err(|fault| {
            let sentence = format!("cannot keep {} of {component}: it {fault}", file.name);
            io::Error::new(io::ErrorKind::InvalidData, sentence)
        })?;
        if files::standing(&final_dir)?.is_some() {
            match verify(&final_dir, component, number) {
                Ok((described, _)) if described.generation.digest == generation.digest => return Ok(Captured::Already),
                // A number is never used twice, so this one is damaged, or of a memory that was lost.
                _ => self.set_aside(&final_dir).map(drop)?,
            }
        }
        files::make_dir(&self.generations_dir(), DIR_MODE)?;
        let component_dir = self.component_dir(component);
        files::make_dir(&component_dir, DIR_MODE)?;
        let dir = component_dir.join(format!("{NEW}{number}"));
        remove_tree(&dir)?;
        files::make_dir(&dir, DIR_MODE)?;
        let written = (|| {
            let files_dir = dir.join("files");
            files::make_dir(&files_dir, DIR_MODE)?;
            let mut entries = Vec::new();
            for closure in &file.closure {
                entries.extend(keep_file(&files_dir, closure)?);
            }
            write(&dir.join("manifest"), &manifest.raw)?;
            let contents = Contents {
                manifest: KeptManifest {
                    digest: Digest::of(&manifest.raw),
                    mode: attributes.mode,
                    uid: attributes.uid,
                    gid: attributes.gid,
                },
                files: entries,
            };
            write(&dir.join("contents.json"), &envelope::wrap(&CONTENTS, &contents)?)?;
            write(&dir.join("generation.json"), &describe(machine, component, generation)?)?;
            files::rename_noreplace(&dir, &final_dir)
        })();
        if written.is_err() {
            // Best done now: on a full disk the half of a generation is in the way.
            let _ = fs::remove_dir_all(&dir);
        }
        written.map(|()| Captured::Now)
    }

    /// Keeps what is held of a generation beside its bytes, so that a lost memory costs no proof.
    ///
    /// # Errors
    /// When it cannot be written, or the generation is not on disk ([`io::ErrorKind::NotFound`]).
    pub fn describe(&self, machine: &Machine, component: &ComponentId, generation: &Generation) -> io::Result<Written> {
        let dir = self.generation_dir(component, generation.number);
        if files::standing(&dir)?.is_none() {
            let sentence = format!("is missing: generation {} of {component} was not stored", generation.number);
            return Err(files::fault(io::ErrorKind::NotFound, &dir, &sentence));
        }
        self.may_write()?;
        let bytes = describe(machine, component, generation)?;
        files::write_if_different(&self.make_tmp()?, &dir.join("generation.json"), &bytes, &Attributes::private())
    }

    /// [`Guard::describe`] for every stored generation of a memory; for after each save.
    ///
    /// # Errors
    /// The first that failed; the others are written all the same.
    pub fn describe_all(&self, memory: &Memory) -> io::Result<()> {
        let mut first = Ok(());
        for (component, record) in &memory.components {
            for generation in record.generations.values().filter(|generation| generation.stored == Stored::Yes) {
                let described = self.describe(&memory.machine, component, generation).map(drop);
                first = first.and(described);
            }
        }
        first
    }

    /// Lets the kept copy of a kubeconfig follow a renewal of its certificate: the one that stands works, and is the same
    /// but for its credentials. `state` is how it was just observed.
    ///
    /// # Errors
    /// When it does not work or is another one, cannot be read, or cannot be written: the old copy stays.
    pub fn refresh_kubeconfig(
        &self,
        component: &ComponentId,
        number: u32,
        path: &Path,
        state: &FileState,
    ) -> io::Result<Written> {
        let dir = self.generation_dir(component, number);
        let refuse = |why: &str| {
            let sentence =
                format!("does not replace the copy stored with generation {number} of {component}: it {why}");
            files::fault(io::ErrorKind::InvalidInput, path, &sentence)
        };
        let FileState::Present {
            kind: FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. }, digest, ..
        } = state
        else {
            return Err(refuse("cannot work"));
        };
        let mut contents = contents(&dir)?;
        let entry = contents.files.iter_mut().find(|entry| entry.path == path);
        let entry = entry.ok_or_else(|| refuse("was not stored"))?;
        if !matches!(&entry.state, FileState::Present { digest: kept, .. } if kept == digest) {
            return Err(refuse("is a different one"));
        }
        if entry.state == *state {
            return Ok(Written::AlreadySo);
        }
        self.may_write()?;
        let bytes = files::read_bounded(path, MAX_FILE_BYTES)?;
        let tmp = self.make_tmp()?;
        let old = entry.bytes;
        *entry = Entry { path: path.to_owned(), bytes: Digest::of(&bytes), state: state.clone() };
        let new = entry.bytes;
        // The bytes first, under their own name; the contents point to them last, by one rename.
        files::replace(&tmp, &entry.path_in(&dir), &bytes, &Attributes::private())?;
        files::replace(
            &tmp,
            &dir.join("contents.json"),
            &envelope::wrap(&CONTENTS, &contents)?,
            &Attributes::private(),
        )?;
        if old != new && !contents.files.iter().any(|entry| entry.bytes == old) {
            files::remove(&dir.join("files").join(old.to_string()))?;
        }
        Ok(Written::Changed)
    }

    /// [`Guard::refresh_kubeconfig`] for every kept generation that stands as it was observed. For once a pass: where
    /// nothing was renewed, nothing is written. Returns what was renewed and what could not be, a sentence each.
    pub fn refresh_kubeconfigs(&self, memory: &Memory, observation: &Observation) -> Vec<String> {
        let mut told = Vec::new();
        if self.may_write().is_err() {
            return told;
        }
        for (component, record) in &memory.components {
            for generation in record.generations.values().filter(|generation| generation.stored == Stored::Yes) {
                let standing = observation.manifests.file(&generation.file_name);
                let Some(standing) = standing.filter(|file| file.digest == generation.digest) else { continue };
                for ClosureFile { path, state } in &standing.closure {
                    let FileState::Present { kind: FileKind::Kubeconfig { works, .. }, .. } = state else { continue };
                    if matches!(works, KubeconfigHealth::Cannot { .. }) {
                        continue;
                    }
                    match self.refresh_kubeconfig(component, generation.number, path, state) {
                        Ok(Written::AlreadySo) => {}
                        Ok(Written::Changed) => told.push(format!(
                            "{} was renewed; its copy with generation {} of {component} is the new one",
                            path.display(),
                            generation.number
                        )),
                        Err(error) => told.push(error.to_string()),
                    }
                }
            }
        }
        told
    }

    /// Forgets a generation's bytes. A generation that is not there is forgotten already.
    ///
    /// # Errors
    /// When its directory cannot be taken away.
    pub fn forget(&self, component: &ComponentId, number: u32) -> io::Result<Written> {
        let dir = self.generation_dir(component, number);
        if files::standing(&dir)?.is_none() {
            return Ok(Written::AlreadySo);
        }
        self.may_write()?;
        let gone = self.component_dir(component).join(format!("{GONE}{number}"));
        remove_tree(&gone)?;
        files::rename_noreplace(&dir, &gone)?;
        remove_tree(&gone)?;
        Ok(Written::Changed)
    }

    /// Removes generations that a crash left on their way in or out.
    pub(super) fn tidy_generations(&self) {
        let root = self.generations_dir();
        for slug in files::names(&root).unwrap_or_default() {
            for name in files::names(&root.join(&slug)).unwrap_or_default() {
                if name.starts_with(NEW) || name.starts_with(GONE) {
                    let _ = fs::remove_dir_all(root.join(&slug).join(name));
                }
            }
        }
    }
}

impl Entry {
    fn path_in(&self, generation: &Path) -> PathBuf {
        generation.join("files").join(self.bytes.to_string())
    }
}

/// Keeps one file of a closure, if it is of the kind that is kept.
fn keep_file(files_dir: &Path, closure: &ClosureFile) -> io::Result<Option<Entry>> {
    let FileState::Present { kind, digest, .. } = &closure.state else { return Ok(None) };
    let bytes = match kind {
        FileKind::Config => {
            let bytes = files::read_bounded(&closure.path, MAX_FILE_BYTES)?;
            if Digest::of(&bytes) != *digest {
                return Err(files::fault(
                    io::ErrorKind::InvalidData,
                    &closure.path,
                    "changed while lastgood stored it; the next pass tries again",
                ));
            }
            bytes
        }
        // One that cannot work would never be put back.
        FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. } => {
            files::read_bounded(&closure.path, MAX_FILE_BYTES)?
        }
        FileKind::Kubeconfig { .. } | FileKind::KeyMaterial => return Ok(None),
    };
    let entry = Entry { path: closure.path.clone(), bytes: Digest::of(&bytes), state: closure.state.clone() };
    write(&files_dir.join(entry.bytes.to_string()), &bytes)?;
    Ok(Some(entry))
}

/// Writes one file of a generation that is being built.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let dir = path.parent().unwrap_or(path);
    files::replace(dir, path, bytes, &Attributes::private())
}

/// generation.json: where it can be read, its bytes are there too, whatever the memory thought at the time.
fn describe(machine: &Machine, component: &ComponentId, generation: &Generation) -> io::Result<Vec<u8>> {
    let generation = Generation { stored: Stored::Yes, ..generation.clone() };
    envelope::wrap(&DESCRIBED, &Described { machine: machine.clone(), component: component.clone(), generation })
}

fn numbers_in(dir: &Path) -> Vec<u32> {
    let names = files::names(dir).unwrap_or_default();
    let mut numbers: Vec<u32> = names.iter().filter_map(|name| name.parse().ok()).collect();
    numbers.sort_unstable();
    numbers
}

fn read_json<T: Serialize + DeserializeOwned>(path: &Path, format: &Format) -> io::Result<T> {
    let bytes = files::read_bounded(path, MAX_JSON)?;
    envelope::decode_any(format, &bytes)
        .map_err(|fault: Fault| files::fault(io::ErrorKind::InvalidData, path, &fault.to_string()))
}

fn contents(dir: &Path) -> io::Result<Contents> {
    read_json(&dir.join("contents.json"), &CONTENTS)
}

/// The bytes of a kept file, if they are still what was kept.
fn verified(path: &Path, max: u64, digest: Digest) -> io::Result<Vec<u8>> {
    let bytes = files::read_bounded(path, max)?;
    if Digest::of(&bytes) == digest {
        return Ok(bytes);
    }
    Err(files::fault(io::ErrorKind::InvalidData, path, "is damaged: its digest differs"))
}

/// Reads all of a generation.
fn verify(dir: &Path, component: &ComponentId, number: u32) -> io::Result<(Described, Vec<u8>)> {
    let contents = contents(dir)?;
    let manifest = verified(&dir.join("manifest"), MAX_BYTES, contents.manifest.digest)?;
    for entry in &contents.files {
        verified(&entry.path_in(dir), MAX_FILE_BYTES, entry.bytes)?;
    }
    let path = dir.join("generation.json");
    let described: Described = read_json(&path, &DESCRIBED)?;
    if described.component != *component || described.generation.number != number {
        return Err(files::fault(io::ErrorKind::InvalidData, &path, "belongs to another generation"));
    }
    Ok((described, manifest))
}

fn remove_tree(dir: &Path) -> io::Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(files::named("remove", dir)),
    }
}
