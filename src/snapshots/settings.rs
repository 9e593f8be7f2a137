//! The configuration of snapshots: the keys of `[snapshots]` and `[snapshots.remote]`.

use crate::config::keys::Zero::Refused;
use crate::config::keys::{Field, Key, key};
use crate::config::object_url::ObjectUrl;

/// The keys, in the order of the file.
pub(super) const KEYS: &[Key] = &[
    key("snapshots.enabled", Field::Switch(|s| &mut s.snapshots.enabled), "whether the agent takes snapshots of etcd"),
    key("snapshots.interval", Field::Duration(Refused, |s| &mut s.snapshots.interval), "time between two snapshots"),
    key("snapshots.directory", Field::FoundPath(|s| &mut s.snapshots.directory), "where snapshots are kept").absent("`snapshots` below paths.state", "\"/var/lib/lastgood/snapshots\""),
    key("snapshots.keep-last", Field::Count(1, |s| &mut s.snapshots.keep_last), "number of newest snapshots to keep"),
    key(
        "snapshots.keep-hourly",
        Field::Count(0, |s| &mut s.snapshots.keep_hourly),
        "number of hours of which the newest snapshot is kept",
    ),
    key(
        "snapshots.keep-daily",
        Field::Count(0, |s| &mut s.snapshots.keep_daily),
        "number of days (UTC) of which the newest snapshot is kept",
    ),
    key(
        "snapshots.keep-weekly",
        Field::Count(0, |s| &mut s.snapshots.keep_weekly),
        "number of weeks of which the newest snapshot is kept",
    ),
    key(
        "snapshots.max-total",
        Field::Size(|s| &mut s.snapshots.max_total),
        "size of all snapshots together; the oldest are removed first, the newest verified one never",
    ),
    key(
        "snapshots.recipients",
        Field::Recipients(|s| &mut s.snapshots.recipients),
        "age public keys (`age1…`) to which the node's keys in a bundle are encrypted; without one, bundles contain no keys",
    ),
    key(
        "snapshots.stall-timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.stall_timeout),
        "a snapshot fails when etcd sends nothing for this time",
    ),
    key("snapshots.timeout", Field::Duration(Refused, |s| &mut s.snapshots.timeout), "time-out of one whole snapshot"),
    key(
        "snapshots.remote.url",
        Field::Found(place, |s| &mut s.snapshots.remote.url),
        "object storage that the newest verified snapshot is also sent to: `s3://bucket/prefix`, `gs://…`, `az://…`",
    ).absent("nothing is sent", "\"s3://backups/etcd\""),
    key(
        "snapshots.remote.endpoint",
        Field::Found(origin, |s| &mut s.snapshots.remote.endpoint),
        "address of the object store",
    ).absent("the provider's", "\"https://minio.example:9000\""),
    key(
        "snapshots.remote.region",
        Field::Found(region, |s| &mut s.snapshots.remote.region),
        "region for S3 signatures",
    ).absent("`us-east-1`", "\"eu-central-1\""),
    key(
        "snapshots.remote.path-style",
        Field::Switch(|s| &mut s.snapshots.remote.path_style),
        "whether the bucket is in the path (`true`) or in the host name (`false`)",
    ),
    key(
        "snapshots.remote.ca-file",
        Field::FoundPath(|s| &mut s.snapshots.remote.ca_file),
        "certificate authorities (PEM) for the object store, instead of the system's",
    ).absent("the system's", "\"/etc/lastgood/minio-ca.crt\""),
    key(
        "snapshots.remote.credentials-file",
        Field::FoundPath(|s| &mut s.snapshots.remote.credentials_file),
        "file of `key = value` lines with mode 0600: access-key-id, secret-access-key, session-token for S3; service-account (a file) for GCS; account, account-key, sas-token for Azure",
    ).absent("the environment, then the machine's own role", "\"/etc/lastgood/remote.credentials\""),
    key(
        "snapshots.remote.allow-http",
        Field::Switch(|s| &mut s.snapshots.remote.allow_http),
        "whether an endpoint without TLS is allowed: everybody on the way can read every secret of the cluster",
    ),
    key(
        "snapshots.remote.keep-last",
        Field::Count(1, |s| &mut s.snapshots.remote.keep_last),
        "number of newest snapshots to keep there",
    ),
    key(
        "snapshots.remote.keep-hourly",
        Field::Count(0, |s| &mut s.snapshots.remote.keep_hourly),
        "number of hours of which the newest snapshot is kept there",
    ),
    key(
        "snapshots.remote.keep-daily",
        Field::Count(0, |s| &mut s.snapshots.remote.keep_daily),
        "number of days (UTC) of which the newest snapshot is kept there",
    ),
    key(
        "snapshots.remote.keep-weekly",
        Field::Count(0, |s| &mut s.snapshots.remote.keep_weekly),
        "number of weeks of which the newest snapshot is kept there",
    ),
    key(
        "snapshots.remote.stall-timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.remote.stall_timeout),
        "an upload fails when the object store takes less than 5 MiB, or answers nothing, for this time",
    ),
    key(
        "snapshots.remote.timeout",
        Field::Duration(Refused, |s| &mut s.snapshots.remote.timeout),
        "time-out of one upload with the comparison after it",
    ),
];

fn place(given: &str) -> Result<(), String> {
    given.parse::<ObjectUrl>().map(drop).map_err(|error| error.to_string())
}

/// A scheme, a host, a port, and a path, where a store lies below one (as Azure's emulator has the account there): nothing
/// that names a user or carries a key may stand in the configuration.
fn origin(given: &str) -> Result<(), String> {
    let rest = given.strip_prefix("http://").or_else(|| given.strip_prefix("https://"));
    let of_host = |c: char| c.is_ascii_alphanumeric() || "-.:[]".contains(c);
    let of_path = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    let mut parts = rest.unwrap_or_default().split('/');
    let host = parts.next().filter(|host| !host.is_empty() && host.chars().all(of_host));
    match host {
        Some(_) if parts.all(|part| !part.is_empty() && part.chars().all(of_path)) => Ok(()),
        _ => Err("is no address of an object store: write it like \"https://minio.example:9000\"".to_owned()),
    }
}

fn region(given: &str) -> Result<(), String> {
    let of_region = |c: char| c.is_ascii_alphanumeric() || c == '-';
    match !given.is_empty() && given.chars().all(of_region) {
        true => Ok(()),
        false => Err(format!("{given:?} is no region: write it like \"eu-central-1\"")),
    }
}

#[cfg(test)]
mod tests {
    use super::origin;

    #[test]
    fn an_endpoint_is_an_address_perhaps_with_a_path_and_never_carries_a_secret() {
        for right in ["https://minio.example:9000", "http://[::1]:9000", "http://127.0.0.1:10000/devstoreaccount1"] {
            assert_eq!(origin(right), Ok(()), "{right}");
        }
        let wrong = [
            "minio.example",
            "https://",
            "https://u:p@host",
            "https://host/?key=x",
            "https://host/",
            "https://host//a",
        ];
        for wrong in wrong {
            assert!(origin(wrong).is_err(), "{wrong}");
        }
    }
}
