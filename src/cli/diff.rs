//! `lastgood diff`: manifests and configuration files of two generations. Key material and kubeconfigs are named if
//! they differ, never shown.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use similar::TextDiff;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::memory::Record;
use crate::model::notice::Notice;
use crate::model::{ComponentId, FileKind, FileState, Generation};
use crate::ops::offline::Offline;

/// A diff of two large files that have nothing in common is cut short after this, and is then coarser.
const DIFF_DEADLINE: Duration = Duration::from_secs(5);

enum Side<'r> {
    /// A generation of the store.
    Kept(&'r Generation),
    /// What is deployed on the node, where it is no generation of the store.
    Trust { file_name: String, closure: Vec<PathBuf> },
}

pub(super) fn diff(
    settings: &Settings,
    component: &ComponentId,
    a: Option<u32>,
    b: Option<u32>,
) -> Result<Exit, Failure> {
    let offline = Offline::open(settings)?;
    offline.components(Some(component))?;
    let memory = offline.memory()?;
    let record = memory.components.get(component).ok_or_else(|| Failure::failed(format!("{component} is unknown")))?;
    let a = match a {
        Some(number) => kept(component, record, number)?,
        None => Side::Kept(known_good(component, record)?),
    };
    let b = match b {
        Some(number) => kept(component, record, number)?,
        None => standing(record),
    };
    let mut text = String::new();
    let left = manifest(&offline, component, &a)?;
    let right = manifest(&offline, component, &b)?;
    text.push_str(&unified(&left, &right, &a.title(a.file_name()), &b.title(b.file_name())));
    let paths: BTreeSet<PathBuf> = a.paths().into_iter().chain(b.paths()).collect();
    for path in paths {
        text.push_str(&closure(&offline, component, &path, &a, &b)?);
    }
    if text.is_empty() {
        text = format!("{} and {} of {component} do not differ\n", a.name(), b.name());
    }
    out::text(&text)
}

fn kept<'r>(component: &ComponentId, record: &'r Record, number: u32) -> Result<Side<'r>, Failure> {
    record.generations.get(&number).map(Side::Kept).ok_or_else(|| {
        let known: Vec<String> = record.generations.keys().map(u32::to_string).collect();
        Failure {
            exit: Exit::Refused,
            sentence: format!("{component} has no generation {number}; there are: {}", known.join(", ")),
        }
    })
}

fn known_good<'r>(component: &ComponentId, record: &'r Record) -> Result<&'r Generation, Failure> {
    let good = record.state.good().and_then(|number| record.generations.get(&number));
    good.or_else(|| record.known_good().next()).ok_or_else(|| Failure {
        exit: Exit::Refused,
        sentence: format!("{component} has no known-good generation yet: name two generations"),
    })
}

/// What is deployed: a generation, where it is one, or else the file itself.
fn standing(record: &Record) -> Side<'_> {
    // A file that does not decode is no generation, whatever was the last that did.
    let decodes = !record.notices.contains_key(&Notice::Undecodable);
    let stands = record.deployed.as_ref().filter(|_| decodes);
    match stands.and_then(|stands| record.by_digest(stands.digest)) {
        Some(generation) => Side::Kept(generation),
        None => {
            let newest = record.generations.values().next_back();
            Side::Trust {
                file_name: record.file_name().unwrap_or_default().to_owned(),
                closure: newest.map(config_paths).unwrap_or_default(),
            }
        }
    }
}

impl Side<'_> {
    fn name(&self) -> String {
        match self {
            Self::Kept(generation) => format!("generation {}", generation.number),
            Self::Trust { .. } => "the deployed manifest".to_owned(),
        }
    }

    fn title(&self, of: &str) -> String {
        format!("{of} ({})", self.name())
    }

    fn file_name(&self) -> &str {
        match self {
            Self::Kept(generation) => &generation.file_name,
            Self::Trust { file_name, .. } => file_name,
        }
    }

    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Kept(generation) => generation.closure.iter().map(|file| file.path.clone()).collect(),
            Self::Trust { closure, .. } => closure.clone(),
        }
    }

    fn state(&self, path: &Path) -> Option<&FileState> {
        match self {
            Self::Kept(generation) => generation.closure.iter().find(|file| file.path == path).map(|file| &file.state),
            Self::Trust { .. } => None,
        }
    }
}

fn config_paths(generation: &Generation) -> Vec<PathBuf> {
    let is_config =
        |state: &FileState| matches!(state, FileState::Present { kind: FileKind::Config, .. } | FileState::Missing);
    generation.closure.iter().filter(|file| is_config(&file.state)).map(|file| file.path.clone()).collect()
}

fn manifest(offline: &Offline, component: &ComponentId, side: &Side<'_>) -> Result<Vec<u8>, Failure> {
    match side {
        Side::Kept(generation) => offline.manifest(component, generation.number),
        Side::Trust { file_name, .. } => Ok(read(&offline.manifests_dir().join(file_name))),
    }
}

/// A file as it is; one that does not, or cannot be read, has no lines.
fn read(path: &Path) -> Vec<u8> {
    let small =
        std::fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.len() <= crate::model::manifest::MAX_BYTES);
    if small { std::fs::read(path).unwrap_or_default() } else { Vec::new() }
}

/// What differs of one file of the closure.
fn closure(
    offline: &Offline,
    component: &ComponentId,
    path: &Path,
    a: &Side<'_>,
    b: &Side<'_>,
) -> Result<String, Failure> {
    let (left, right) = (a.state(path), b.state(path));
    if left.is_some() && left == right {
        return Ok(String::new());
    }
    let secret = |state: Option<&FileState>| {
        matches!(state, Some(FileState::Present { kind: FileKind::KeyMaterial | FileKind::Kubeconfig { .. }, .. }))
    };
    if secret(left) || secret(right) {
        let knows = matches!((a, b), (Side::Kept(_), Side::Kept(_)));
        let says = if knows { "differs" } else { "may differ" };
        return Ok(format!("{} {says}; it contains credentials and is not shown\n", path.display()));
    }
    let bytes = |side: &Side<'_>, state: Option<&FileState>| match (side, state) {
        (Side::Kept(generation), Some(FileState::Present { .. })) => offline.file(component, generation.number, path),
        (Side::Trust { .. }, _) => Ok(read(path)),
        _ => Ok(Vec::new()),
    };
    let name = path.display().to_string();
    Ok(unified(&bytes(a, left)?, &bytes(b, right)?, &a.title(&name), &b.title(&name)))
}

/// A unified diff; empty when the two are equal.
pub(super) fn unified(a: &[u8], b: &[u8], a_title: &str, b_title: &str) -> String {
    let (a, b) = (String::from_utf8_lossy(a), String::from_utf8_lossy(b));
    if a == b {
        return String::new();
    }
    TextDiff::configure()
        .timeout(DIFF_DEADLINE)
        .diff_lines(&*a, &*b)
        .unified_diff()
        .header(a_title, b_title)
        .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_diff_names_both_sides_and_is_empty_for_equals() {
        let text = unified(b"a: 1\nb: 2\n", b"a: 1\nb: 3\n", "x (generation 1)", "x (what stands)");
        assert_eq!(text, "--- x (generation 1)\n+++ x (what stands)\n@@ -1,2 +1,2 @@\n a: 1\n-b: 2\n+b: 3\n");
        assert_eq!(unified(b"same", b"same", "a", "b"), "");
    }
}
