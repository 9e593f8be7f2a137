//! What the manifests of this node say by themselves, for who needs no pass: the manifest of a role, and what the API server
//! decrypts with.

use std::path::{Path, PathBuf};

use crate::config::Settings;
use crate::etcd::encryption::{Configuration, Encryption};
use crate::model::{Manifest, Role, manifest};
use crate::sys::files;

/// An EncryptionConfiguration has some hundred bytes a key.
const MAX_ENCRYPTION: u64 = 1 << 20;

/// The manifest of a role in a directory, and its file.
pub fn role_manifest(dir: &Path, role: Role) -> Option<(PathBuf, Manifest)> {
    let names = files::names(dir).unwrap_or_default();
    let visible = names.iter().filter(|name| !name.starts_with('.')).map(|name| dir.join(name));
    visible.into_iter().find_map(|path| {
        let bytes = files::read_bounded(&path, manifest::MAX_BYTES).ok()?;
        let manifest = Manifest::parse(bytes.into()).ok().filter(|manifest| manifest.role == role)?;
        Some((path, manifest))
    })
}

/// What this node's API server decrypts with, by the names in the file that its manifest names.
pub fn encryption(settings: &Settings) -> Encryption {
    let (_, environment) = super::find(settings);
    let found = role_manifest(&environment.manifests.value, Role::ApiServer)
        .or_else(|| role_manifest(&settings.paths.inactive_manifests, Role::ApiServer));
    let Some((manifest, api_server)) = found else { return Encryption::NoApiServer };
    let Some(inside) = api_server.flag("encryption-provider-config").filter(|file| !file.is_empty()) else {
        return Encryption::NotConfigured { manifest };
    };
    let inside = PathBuf::from(inside);
    let file = api_server.host_path(&inside).unwrap_or(inside);
    let read = files::read_bounded(&file, MAX_ENCRYPTION).map_err(|error| error.to_string());
    let text = read.and_then(|bytes| String::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()));
    match text.and_then(|text| Configuration::parse(&text)) {
        Ok(configuration) => Encryption::Configured { file, configuration },
        Err(why) => Encryption::Unreadable { file, why },
    }
}
