//! A file that a pod mounts and that does not exist: what starts the container makes an empty directory in its place.
//!
//! ```text
//!   the path      made for this pod    a flag names a file     the last words of its log      cause
//!   absent        -                    at it or in it          -                              the file does not exist
//!   empty dir     yes                  at it or in it          -                              the same, and what was made
//!   empty dir     yes                  no                      about the mount's path         the same
//!   any dir       no                   at it                   "is a directory"               a directory where a file belongs
//! ```

use std::path::Path;

use crate::model::host_path::{HostSource, PathState, sources};
use crate::model::observation::ContainerState;
use crate::model::verdict::{Assessment, Cause, Verdict};
use crate::model::{ComponentId, Memory, Observation};

/// What Go's library says of a directory that is read as a file, and of a file that does not exist.
const IS_DIRECTORY: &str = "is a directory";
const NO_FILE: &str = "no such file or directory";

pub(super) fn cause(id: &ComponentId, assessment: &Assessment, seen: &Observation, memory: &Memory) -> Option<Cause> {
    if !matches!(assessment.verdict(), Verdict::Down | Verdict::Failing | Verdict::Starting) {
        return None;
    }
    let manifest = seen.manifests.files().filter_map(|file| file.content.as_ref().ok()).find(|m| m.id == *id)?;
    let absent = memory.components.get(id).and_then(|record| record.absent_paths.as_ref());
    let absent = absent.filter(|absent| absent.pod == manifest.digest);
    let words = last_words(id, seen);
    let about = |source: &HostSource| {
        let state = *seen.node.host_paths.get(&source.path)?;
        let made = absent.is_some_and(|absent| absent.paths.contains(&source.path));
        about(source, state, made, words)
    };
    sources(manifest).iter().find_map(about)
}

fn about(source: &HostSource, state: PathState, made: bool, words: &str) -> Option<Cause> {
    let path = source.path.display();
    let file = source.files.first();
    let (subject, wanted) = match file {
        Some((flag, file)) if *file == source.path => {
            (format!("{path}, which {flag} names and the pod mounts as volume {}", source.volume), file.as_path())
        }
        Some((flag, file)) => (
            format!(
                "{path}, which the pod mounts as volume {} and in which {flag} names {}",
                source.volume,
                name(file)
            ),
            file.as_path(),
        ),
        None => (format!("{path}, which the pod mounts as volume {}", source.volume), source.path.as_path()),
    };
    let in_place = wanted == source.path;
    let named_by_log = source.inside.as_ref().is_some_and(|inside| {
        words.contains(&inside.display().to_string()) && (words.contains(IS_DIRECTORY) || words.contains(NO_FILE))
    });
    let (detail, next_step) = match state {
        PathState::Absent if file.is_some() => (
            format!(
                "{subject}, does not exist; the container runtime makes an empty directory there when it starts the container"
            ),
            format!("put the file at {}", wanted.display()),
        ),
        PathState::EmptyDirectory if made && (file.is_some() || named_by_log) => (
            format!("{subject}, did not exist; the container runtime made an empty directory there"),
            if in_place { replace(wanted) } else { format!("put the file at {}", wanted.display()) },
        ),
        PathState::EmptyDirectory if file.is_some() && in_place && words.contains(IS_DIRECTORY) => {
            (format!("{subject}, is an empty directory and no file"), replace(wanted))
        }
        PathState::UsedDirectory if file.is_some() && in_place && words.contains(IS_DIRECTORY) => (
            format!("{subject}, is a directory and no file"),
            format!("`ls -la {path}`; move the directory away, then put the file there"),
        ),
        _ => return None,
    };
    Some(Cause::HostPath { path: source.path.clone(), detail, next_step })
}

/// The kubelet starts the container again and again, and each start would make the directory anew: the file takes its place
/// in one command.
fn replace(path: &Path) -> String {
    let path = path.display();
    format!("write the file as {path}.new, then `rmdir {path} && mv {path}.new {path}`")
}

fn name(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// The end of the log of its newest container that has ended.
fn last_words<'a>(id: &ComponentId, seen: &'a Observation) -> &'a str {
    let runs = seen.runtime.iter().flatten().filter(|run| run.component == *id);
    let ended = runs.flat_map(|run| &run.containers).filter_map(|container| match container.state {
        ContainerState::Exited { finished, .. } => Some((finished, container.log_tail.as_deref()?)),
        _ => None,
    });
    ended.max_by_key(|(finished, _)| *finished).map_or("", |(_, words)| words)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use PathState::{Absent, EmptyDirectory, Other, UsedDirectory};

    const FILE: &str = "/etc/kubernetes/audit.yaml";
    const READ: &str = "read /conf/audit.yaml: is a directory";

    fn source(file: Option<&str>) -> HostSource {
        let files = file.map(|file| ("--audit-policy-file".to_owned(), PathBuf::from(file))).into_iter().collect();
        HostSource { path: FILE.into(), volume: "audit".to_owned(), inside: Some("/conf/audit.yaml".into()), files }
    }

    #[test]
    fn a_missing_source_is_named_by_its_state_its_flag_and_the_last_words() {
        let below = format!("{FILE}/policy.yaml");
        type Row<'r> = (&'r str, Option<&'r str>, PathState, bool, &'r str, bool);
        let rows: [Row<'_>; 13] = [
            ("absent, a flag names it", Some(FILE), Absent, false, "", true),
            ("absent, a flag names a file in it", Some(&below), Absent, false, "", true),
            ("absent, no flag: a directory may be wanted", None, Absent, true, "", false),
            ("made, a flag names it", Some(FILE), EmptyDirectory, true, "", true),
            ("made, a flag names a file in it", Some(&below), EmptyDirectory, true, "", true),
            ("made, no flag, the log is about it", None, EmptyDirectory, true, READ, true),
            (
                "made, no flag, the log is about something else",
                None,
                EmptyDirectory,
                true,
                "read /x: is a directory",
                false,
            ),
            ("made, no flag, no log", None, EmptyDirectory, true, "", false),
            ("an older empty directory, nothing said", Some(FILE), EmptyDirectory, false, "", false),
            ("an older empty directory, the log says so", Some(FILE), EmptyDirectory, false, READ, true),
            ("a directory with content, the log says so", Some(FILE), UsedDirectory, false, READ, true),
            ("a directory with content, nothing said", Some(FILE), UsedDirectory, false, "", false),
            ("a file", Some(FILE), Other, true, READ, false),
        ];
        for (situation, file, state, made, words, is_cause) in rows {
            let cause = about(&source(file), state, made, words);
            assert_eq!(cause.is_some(), is_cause, "{situation}: {cause:?}");
            if let Some(cause) = cause {
                assert!(
                    matches!(&cause, Cause::HostPath { path, .. } if path == Path::new(FILE)),
                    "{situation}: {cause:?}"
                );
            }
        }
    }
}
