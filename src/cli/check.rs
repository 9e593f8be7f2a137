//! `lastgood check`: a manifest before it is deployed. It reads the files and the node itself: it needs no agent, and
//! changes nothing.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::Manifest;
use crate::model::manifest::MAX_BYTES;
use crate::observe;
use crate::report::{Format, List, ManifestCheck, check};
use crate::sys::files;

/// Standard input, in place of a file.
const STDIN: &str = "-";

pub(super) async fn check_files(settings: &Settings, names: &[PathBuf], output: Format) -> Result<Exit, Failure> {
    let mut items = Vec::new();
    for name in names {
        let shown = name.display().to_string();
        items.push(match Manifest::parse(read(name)?.into()) {
            Ok(manifest) => {
                let found = observe::preflight(settings, &manifest).await;
                ManifestCheck::of_manifest(&shown, &manifest, &found, Timestamp::now())
            }
            Err(fault) => ManifestCheck::of_fault(&shown, &fault),
        });
    }
    let well = items.iter().all(ManifestCheck::is_well);
    let checked = List { items };
    out::text(&output.print(&checked, check::text)?)?;
    Ok(if well { Exit::Ok } else { Exit::Unwell })
}

fn read(name: &Path) -> Result<Vec<u8>, Failure> {
    if name.as_os_str() != STDIN {
        return Ok(files::read_bounded(name, MAX_BYTES)?);
    }
    let mut bytes = Vec::new();
    let read = std::io::stdin().lock().take(MAX_BYTES + 1).read_to_end(&mut bytes);
    read.map_err(|error| Failure::failed(format!("standard input cannot be read: {error}")))?;
    Ok(bytes)
}
