//! The values that a restore put there, which the API server of this node cannot decrypt (`--accept-unreadable`): known from
//! the record of the restore, until the keys are back in the EncryptionConfiguration or a newer snapshot shows that the values
//! are gone.

use std::path::PathBuf;

use jiff::Timestamp;

use crate::config::Settings;
use crate::etcd::encryption::{Encryption, called, compare, described};
use crate::etcd::restore::accepted;
use crate::etcd::snapshot::EncryptedBy;
use crate::model::Role;
use crate::model::snapshot::Undecryptable;
use crate::observe;

/// What is left of them. `newest`: when the newest verified snapshot was taken, and what is encrypted in it.
pub(super) fn find(settings: &Settings, newest: Option<(Timestamp, Vec<EncryptedBy>)>) -> Option<Undecryptable> {
    let (since, values) = accepted(&data_dir(settings)?)?;
    let newest = newest.as_ref().map(|(taken, values)| (*taken, values.as_slice()));
    left(since, &values, newest, &observe::encryption(settings))
}

/// The data directory of this node's etcd.
fn data_dir(settings: &Settings) -> Option<PathBuf> {
    let (_, environment) = observe::find(settings);
    let dirs = [&environment.manifests.value, &settings.paths.inactive_manifests];
    let (_, manifest) = dirs.into_iter().find_map(|dir| observe::role_manifest(dir, Role::Etcd))?;
    let inside = PathBuf::from(manifest.flag("data-dir").filter(|dir| !dir.is_empty())?);
    Some(manifest.host_path(&inside).unwrap_or(inside))
}

fn left(
    since: Timestamp,
    values: &[EncryptedBy],
    newest: Option<(Timestamp, &[EncryptedBy])>,
    node: &Encryption,
) -> Option<Undecryptable> {
    let key = |by: &EncryptedBy| (by.provider.clone(), by.version.clone(), by.key.clone());
    // Only keys that the restore lacked: an older snapshot still shows those of a rotation.
    let now: Vec<EncryptedBy> = match newest.filter(|(taken, _)| *taken > since) {
        Some((_, now)) => now.iter().filter(|by| values.iter().any(|lacked| key(lacked) == key(by))).cloned().collect(),
        None => values.to_vec(),
    };
    let lacking = compare(&now, node).lacking;
    (!lacking.is_empty()).then(|| Undecryptable {
        since,
        values: lacking.iter().flat_map(|by| by.values.values()).fold(0, |sum, count| sum.saturating_add(*count)),
        keys: lacking.iter().map(called).collect(),
        what: lacking.iter().map(described).collect(),
        next: match node {
            Encryption::Configured { file, .. } | Encryption::Unreadable { file, .. } => {
                format!("put the keys back into {} as a further provider of these resources", file.display())
            }
            Encryption::NotConfigured { manifest } => format!(
                "put the EncryptionConfiguration back and name it in {} (--encryption-provider-config)",
                manifest.display()
            ),
            Encryption::NoApiServer => "put the keys back".to_owned(),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd::encryption::Configuration;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn by(key: &str, count: u64) -> EncryptedBy {
        let values = [("secrets".to_owned(), count)].into();
        EncryptedBy { provider: "aescbc".into(), version: "v1".into(), key: key.into(), values }
    }

    #[test]
    fn it_is_said_until_the_keys_are_back_or_the_values_are_gone() {
        let node = |key: &str| {
            let text =
                format!("resources: [{{resources: [secrets], providers: [{{aescbc: {{keys: [{{name: {key}}}]}}}}]}}]");
            let configuration = Configuration::parse(&text).unwrap();
            Encryption::Configured { file: "/etc/kubernetes/enc.yaml".into(), configuration }
        };
        let none = Encryption::NotConfigured { manifest: "/etc/kubernetes/manifests/kube-apiserver.yaml".into() };
        let accepted = [by("old", 4)];
        let count = |newest: Option<(Timestamp, &[EncryptedBy])>, node: &Encryption| {
            left(at(100), &accepted, newest, node).map(|left| left.values)
        };
        assert_eq!(count(None, &node("new")), Some(4));
        assert_eq!(count(None, &node("old")), None, "the key is back");
        assert_eq!(count(None, &none), Some(4));
        // A snapshot of before the restore tells nothing, and a later one how many are left.
        assert_eq!(count(Some((at(90), &[])), &node("new")), Some(4));
        assert_eq!(count(Some((at(200), &[by("old", 1), by("new", 9)])), &node("new")), Some(1));
        assert_eq!(count(Some((at(200), &[by("new", 9)])), &node("new")), None, "the values are gone");
        assert_eq!(count(Some((at(200), &[by("rotated", 9)])), &node("new")), None, "no restore lacked it");
        let said = left(at(100), &accepted, None, &node("new")).unwrap();
        assert_eq!(said.keys, ["aescbc old"]);
        assert!(said.next.contains("/etc/kubernetes/enc.yaml"), "{said:?}");
    }
}
