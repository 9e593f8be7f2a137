//! Configuration files put back. The rules about key material (Q4) are enforced here a second time, against the file as
//! it stands at this moment.

use std::fs;
use std::io;
use std::path::{Component, Path};

use super::staging::Why;
use super::{Deed, Hands, Outcome, refuse};
use crate::model::closure::{KubeconfigHealth, MAX_FILE_BYTES};
use crate::model::{ComponentId, FileKind, FileState, Observation};
use crate::record::Store;
use crate::sys::files::{self, Attributes};

/// The mode of a directory that has to be made for a configuration file. The files guard themselves; a component that
/// runs as its own user must get to them.
const DIR_MODE: u32 = 0o755;

impl Hands {
    pub(super) fn restore_file(
        &self,
        store: &Store,
        component: &ComponentId,
        number: u32,
        path: &Path,
        observation: &Observation,
    ) -> Deed {
        let root = &self.settings.paths.kubernetes;
        let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
        if !path.is_absolute() || !plain || !path.starts_with(root) {
            return refuse(format!("{} is not below {}: nothing is put back there", path.display(), root.display()));
        }
        let kept = store.file(component, number, path)?;
        let now = (self.surroundings.look)(path);
        if let Err(why) = may_replace(&now, &kept.state, observation.at.wall.as_second()) {
            return refuse(format!("{} of generation {number} is not put back: {why}", path.display()));
        }
        let standing = files::standing(path)?;
        let regular = standing.as_ref().is_some_and(fs::Metadata::is_file);
        let mut attributes = Attributes { mode: kept.mode, uid: kept.uid, gid: kept.gid, extended_from: None };
        if let Some(standing) = Attributes::of_standing(path)? {
            let same = (standing.mode, standing.uid, standing.gid) == (kept.mode, kept.uid, kept.gid);
            if same && files::read_bounded(path, MAX_FILE_BYTES).is_ok_and(|bytes| bytes == kept.bytes) {
                return Ok(Outcome::Nothing(format!("{} is already as in generation {number}", path.display())));
            }
            attributes.extended_from = standing.extended_from;
        }
        let staging = self.staging()?;
        let dir = path.parent().unwrap_or(root);
        make_dirs(root, dir)?;
        let temp_dir = staging.tmp_for(dir)?;
        // Written first: on a full disk this fails before anything is touched.
        let new = files::write_new(&temp_dir, &kept.bytes, &attributes)?;
        let aside = match &standing {
            None => None,
            Some(metadata) if metadata.is_dir() => Some(staging.move_aside(path, Why::Replaced)?),
            Some(_) => match staging.link_aside(path, Why::Replaced) {
                // Another file system below /etc/kubernetes: no link leads out of it, so the bytes are copied.
                Err(error) if error.kind() == io::ErrorKind::CrossesDevices && regular => {
                    let bytes = files::read_bounded(path, MAX_FILE_BYTES)?;
                    let copy = files::write_new(&staging.tmp(), &bytes, &Attributes::private())?;
                    let name = path.file_name().unwrap_or_default();
                    let beside = staging.tmp().join(name);
                    files::put(copy, &beside)?;
                    Some(staging.move_aside(&beside, Why::Replaced)?)
                }
                linked => Some(linked?),
            },
        };
        files::put(new, path)?;
        let aside = aside.map_or(String::new(), |kept| format!("; what stood there is kept as {}", kept.display()));
        Ok(Outcome::Done(format!("put {} of generation {number} of {component} back{aside}", path.display())))
    }
}

/// Makes the directories from `root` down to `dir` that are missing. `root` itself is not made.
fn make_dirs(root: &Path, dir: &Path) -> io::Result<()> {
    let Ok(below) = dir.strip_prefix(root) else { return Ok(()) };
    let mut path = root.to_owned();
    for part in below {
        path.push(part);
        if !path.is_dir() {
            files::make_dir(&path, DIR_MODE)?;
        }
    }
    Ok(())
}

/// Whether what stands may give way to what was kept, at this second since the epoch (Q4).
///
/// | kept          | stands                                 | may                                    |
/// |---------------|----------------------------------------|----------------------------------------|
/// | key material  | anything                               | no                                     |
/// | anything      | key material                           | no                                     |
/// | configuration | configuration, nothing, no file        | yes                                    |
/// | configuration | a kubeconfig that works                | no: it would be lost                   |
/// | kubeconfig    | nothing, no file, no kubeconfig        | if it works and its certificate is valid |
/// | kubeconfig    | one that cannot work                   | the same                               |
/// | kubeconfig    | one that works, the same credentials   | the same                               |
/// | kubeconfig    | one that works, other credentials      | no                                     |
fn may_replace(now: &FileState, kept: &FileState, second: i64) -> Result<(), String> {
    let FileState::Present { kind: kept, .. } = kept else {
        return Err("nothing was kept of it".to_owned());
    };
    let standing = match now {
        FileState::Present { kind, .. } => Some(kind),
        FileState::Missing | FileState::Unreadable { .. } => None,
    };
    if matches!(standing, Some(FileKind::KeyMaterial)) {
        return Err("what stands there is key material, which is never overwritten".to_owned());
    }
    match kept {
        FileKind::KeyMaterial => Err("key material is never put back".to_owned()),
        FileKind::Config => match standing {
            Some(FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. }) => {
                Err("what stands there is a kubeconfig that works".to_owned())
            }
            _ => Ok(()),
        },
        FileKind::Kubeconfig { works: KubeconfigHealth::Cannot { reason }, .. } => {
            Err(format!("the kept kubeconfig cannot work: {reason}"))
        }
        FileKind::Kubeconfig { works: KubeconfigHealth::Works { not_after }, credentials } => {
            if let Some(end) = not_after.filter(|end| *end <= second) {
                let end = jiff::Timestamp::from_second(end).map_or(end.to_string(), |end| end.to_string());
                return Err(format!("the kept kubeconfig's certificate ended at {end}"));
            }
            match standing {
                // The same key and certificate, so neither is older.
                Some(FileKind::Kubeconfig { credentials: standing, .. }) if standing == credentials => Ok(()),
                Some(FileKind::Kubeconfig { works: KubeconfigHealth::Works { .. }, .. }) => {
                    Err("the kubeconfig that stands works, and has other credentials".to_owned())
                }
                _ => Ok(()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Digest;

    const NOW: i64 = 1_000;

    fn present(kind: FileKind) -> FileState {
        FileState::Present { kind, digest: Digest::of(b"x"), mode: 0o600, uid: 0, gid: 0 }
    }

    fn works(credentials: &str, not_after: Option<i64>) -> FileState {
        let works = KubeconfigHealth::Works { not_after };
        present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) })
    }

    fn cannot(credentials: &str) -> FileState {
        let works = KubeconfigHealth::Cannot { reason: "its key does not fit".into() };
        present(FileKind::Kubeconfig { works, credentials: Digest::of(credentials.as_bytes()) })
    }

    #[test]
    fn q4_what_may_be_put_back_over_what() {
        let config = || present(FileKind::Config);
        let keys = || present(FileKind::KeyMaterial);
        let unreadable = || FileState::Unreadable { reason: "is a directory".into() };
        let rows: [(&str, FileState, FileState, bool); 15] = [
            ("configuration over configuration", config(), config(), true),
            ("configuration where nothing is", FileState::Missing, config(), true),
            ("configuration over what is no file", unreadable(), config(), true),
            ("configuration over a key", keys(), config(), false),
            ("configuration over a kubeconfig that works", works("a", None), config(), false),
            ("a key over a key", keys(), keys(), false),
            ("a key where nothing is", FileState::Missing, keys(), false),
            ("a kubeconfig over one that cannot work", cannot("b"), works("a", Some(NOW + 1)), true),
            ("a kubeconfig over what is none", config(), works("a", Some(NOW + 1)), true),
            ("a kubeconfig where nothing is", FileState::Missing, works("a", None), true),
            ("an expired kubeconfig over one that cannot work", cannot("b"), works("a", Some(NOW)), false),
            ("a kubeconfig over a working one with other credentials", works("b", None), works("a", None), false),
            ("a kubeconfig over a working one with the same credentials", works("a", None), works("a", None), true),
            ("a kubeconfig that cannot work over another such", cannot("b"), cannot("a"), false),
            ("a kubeconfig over a key", keys(), works("a", None), false),
        ];
        for (situation, standing, kept, may) in rows {
            let answer = may_replace(&standing, &kept, NOW);
            assert_eq!(answer.is_ok(), may, "{situation}: {answer:?}");
        }
    }
}
