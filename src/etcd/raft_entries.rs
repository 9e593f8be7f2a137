//! Decodes the requests in entries of etcd's WAL, as far as they set the cluster version.
//!
//! Up to 3.5 the cluster version is set through the old store: a `PUT` to `/0/version`, bare (`etcdserverpb.Request`)
//! or wrapped (field 2 of `InternalRaftRequest`). From 3.6 on it is a separate request (field 1300, its field 1 the
//! version), which 3.5 understands already. An older etcd that replays such an entry exits.

use super::proto::{NoMessage, Value, fields};

/// `membership.StoreClusterPrefix` and the name of the version below it.
const PATH: &[u8] = b"/0/version";
/// `InternalRaftRequest.cluster_version_set`.
const CLUSTER_VERSION_SET: u64 = 1300;

/// The cluster version that an entry's data sets, as text (`3.5.0`), if it sets one.
pub(super) fn cluster_version(data: &[u8]) -> Option<String> {
    internal(data).unwrap_or_else(|NoMessage| old(data).unwrap_or_default())
}

fn internal(data: &[u8]) -> Result<Option<String>, NoMessage> {
    let mut found = None;
    for field in fields(data) {
        match field? {
            (2, Value::Bytes(request)) => found = old(request)?.or(found),
            (CLUSTER_VERSION_SET, Value::Bytes(set)) => {
                for field in fields(set) {
                    if let (1, Value::Bytes(version)) = field? {
                        found = text(version);
                    }
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

/// `etcdserverpb.Request`: 2 method, 3 path, 4 value.
fn old(data: &[u8]) -> Result<Option<String>, NoMessage> {
    let (mut path, mut value) = (None, None);
    for field in fields(data) {
        match field? {
            (3, Value::Bytes(bytes)) => path = Some(bytes),
            (4, Value::Bytes(bytes)) => value = text(bytes),
            _ => {}
        }
    }
    Ok(value.filter(|_| path == Some(PATH)))
}

fn text(bytes: &[u8]) -> Option<String> {
    String::from_utf8(bytes.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        for mut part in [number << 3 | 2, bytes.len() as u64] {
            while part >= 0x80 {
                out.push(part as u8 | 0x80);
                part >>= 7;
            }
            out.push(part as u8);
        }
        out.extend(bytes);
        out
    }

    #[test]
    fn the_cluster_version_is_found_in_each_of_its_forms() {
        let put = [field(2, b"PUT"), field(3, b"/0/version"), field(4, b"3.5.0")].concat();
        assert_eq!(cluster_version(&put).as_deref(), Some("3.5.0"), "bare");
        assert_eq!(cluster_version(&field(2, &put)).as_deref(), Some("3.5.0"), "wrapped");
        let set = field(CLUSTER_VERSION_SET, &field(1, b"3.6.0"));
        assert_eq!(cluster_version(&[field(100, b""), set].concat()).as_deref(), Some("3.6.0"), "3.6");
        let other = [field(2, b"PUT"), field(3, b"/0/members/1/attributes"), field(4, b"3.5.0")].concat();
        assert_eq!(cluster_version(&other), None);
        assert_eq!(cluster_version(b"\xff\xff"), None);
    }
}
