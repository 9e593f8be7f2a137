//! `lastgood check`: a manifest before it is deployed. It reads the files and the node itself: it needs no agent, and
//! changes nothing.

use std::io::Read as _;
use std::path::PathBuf;

use jiff::Timestamp;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::manifest::MAX_BYTES;
use crate::model::{FileFault, Manifest};
use crate::observe;
use crate::report::{Format, List, ManifestCheck, check};

/// Standard input, in place of a file.
const STDIN: &str = "-";

pub(super) async fn check_files(settings: &Settings, names: &[PathBuf], output: Format) -> Result<Exit, Failure> {
    let checked = check_all(settings, names).await;
    out::text(&output.print(&checked, check::text)?)?;
    let well = checked.items.iter().all(ManifestCheck::is_well);
    Ok(if well { Exit::Ok } else { Exit::Unwell })
}

/// One result for each, whatever is wrong with another.
async fn check_all(settings: &Settings, names: &[PathBuf]) -> List<ManifestCheck> {
    let mut items = Vec::new();
    for name in names {
        let shown = name.display().to_string();
        let manifest = if name.as_os_str() == STDIN { standard_input() } else { observe::manifest_at(name) };
        items.push(match manifest {
            Ok(manifest) => {
                let found = observe::preflight(settings, &manifest).await;
                ManifestCheck::of_manifest(&shown, &manifest, &found, Timestamp::now())
            }
            Err(fault) => ManifestCheck::of_fault(&shown, &fault),
        });
    }
    List { items }
}

fn standard_input() -> Result<Manifest, FileFault> {
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| FileFault::Unreadable { error: error.to_string() })?;
    Manifest::parse(bytes.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::check::CheckResult;

    #[tokio::test]
    async fn a_file_that_cannot_be_read_is_one_result_among_the_others() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name);
        std::fs::File::create(path("huge")).unwrap().set_len(MAX_BYTES + 1).unwrap();
        std::fs::write(path("torn"), "a: [").unwrap();
        let names = ["torn", "huge", "absent", ""].map(path);
        let checked = check_all(&Settings::default(), &names).await;
        let verdicts: Vec<CheckResult> = checked.items.iter().map(|item| item.verdict).collect();
        let (failed, unknown) = (CheckResult::Failed, CheckResult::CannotTell);
        assert_eq!(verdicts, [failed, failed, unknown, failed]);
        assert!(checked.items.iter().all(|item| !item.is_well()));
    }
}
