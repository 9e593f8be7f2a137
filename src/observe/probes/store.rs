//! Which Kubernetes cluster a store belongs to: Namespace kube-system, read with the quorum and decoded up to its UID.
//!
//! ```text
//!   PREFIX/namespaces/kube-system ──▶ "k8s\0" Unknown{2: raw} ─▶ Namespace{1: metadata} ─▶ ObjectMeta{5: uid}    protobuf
//!                                     {"kind": "Namespace", "metadata": {"uid": …}}                              JSON
//!                                     k8s:enc:PROVIDER:…                                                         encrypted
//! ```
//!
//! A value that cannot be decoded still has the revision that created its key.

use etcd_client::{GetOptions, GetResponse};
use tokio::time::{Instant, timeout_at};

use super::etcd::Etcd;
use crate::etcd::proto::{Value, fields};
use crate::model::etcd_data::{DEFAULT_PREFIX, KubeSystem, StoreIdentity};

/// How every value that an API server stores as protobuf begins (`k8s.io/apimachinery/pkg/runtime/serializer/protobuf`).
const PROTOBUF: &[u8] = b"k8s\0";
/// A UID is a UUID of 36 characters; whatever is much longer is none.
const MAX_UID: usize = 128;

/// The prefix as kube-apiserver uses it (`path.Join("/", prefix)`), without a slash at its end; of one that was never given,
/// the default.
pub(super) fn prefix(flag: Option<&str>) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in flag.unwrap_or(DEFAULT_PREFIX).split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.iter().map(|part| format!("/{part}")).collect()
}

impl Etcd<'_> {
    /// Whose the store is; nothing where it could not be read: without a quorum, without permission, from a learner.
    pub(super) async fn store(&self, prefix: &str, deadline: Instant) -> Option<StoreIdentity> {
        let mut client = self.client().kv_client();
        let key = format!("{prefix}/namespaces/kube-system");
        let get = client.get(key, Some(GetOptions::new().with_limit(1)));
        let response = timeout_at(deadline, get).await.ok()?.ok()?;
        Some(StoreIdentity { prefix: prefix.to_owned(), namespace: namespace(&response) })
    }
}

fn namespace(response: &GetResponse) -> KubeSystem {
    match response.kvs().first() {
        Some(found) => KubeSystem::Present { uid: uid(found.value()), created: found.create_revision() },
        None => KubeSystem::Absent,
    }
}

/// The UID of an object as an API server stores it.
fn uid(value: &[u8]) -> Option<String> {
    let uid = match value.strip_prefix(PROTOBUF) {
        Some(unknown) => {
            let metadata = field(field(unknown, 2)?, 1)?;
            String::from_utf8(field(metadata, 5)?.to_vec()).ok()?
        }
        None => {
            let object: serde_json::Value = serde_json::from_slice(value).ok()?;
            object.get("metadata")?.get("uid")?.as_str()?.to_owned()
        }
    };
    let is_one = (1..=MAX_UID).contains(&uid.len()) && uid.bytes().all(|byte| byte.is_ascii_graphic());
    is_one.then_some(uid)
}

/// A field of bytes; of several the last, as protobuf has it. Nothing where the message does not decode to its end.
fn field(message: &[u8], number: u64) -> Option<&[u8]> {
    let mut found = None;
    for field in fields(message) {
        match field.ok()? {
            (at, Value::Bytes(bytes)) if at == number => found = Some(bytes),
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use super::*;
    use crate::etcd::bbolt::Database;
    use crate::etcd::key_value::KeyValue;

    const UID: &str = "26d8fabc-b22c-4e8c-8fb4-10b9f111862f";
    /// As an API server with `--storage-media-type=application/json` stores it.
    const JSON: &str = r#"{"kind":"Namespace","apiVersion":"v1","metadata":{"name":"kube-system","uid":"26d8fabc-b22c-4e8c-8fb4-10b9f111862f","creationTimestamp":"2026-11-29T00:00:00Z","labels":{"kubernetes.io/metadata.name":"kube-system"}},"spec":{"finalizers":["kubernetes"]},"status":{"phase":"Active"}}
"#;

    /// What an API server wrote into a real cluster's store.
    fn protobuf() -> Vec<u8> {
        let dir = tempfile::tempdir().unwrap();
        let database = Database::open(&crate::etcd::testing::snapshot(dir.path())).unwrap();
        let found = database.walk(b"key", |_, value| match KeyValue::decode(value) {
            Some(read) if read.key == b"/registry/namespaces/kube-system" => ControlFlow::Break(read.value.to_vec()),
            _ => ControlFlow::Continue(()),
        });
        found.unwrap().unwrap()
    }

    #[test]
    fn the_uid_is_read_from_what_api_servers_store() {
        let protobuf = protobuf();
        assert!(protobuf.starts_with(PROTOBUF));
        assert_eq!(uid(&protobuf).as_deref(), Some(UID));
        assert_eq!(uid(JSON.as_bytes()).as_deref(), Some(UID));
    }

    #[test]
    fn what_cannot_be_read_has_no_uid_and_does_no_harm() {
        for whole in [protobuf(), JSON.trim_end().as_bytes().to_vec()] {
            for length in 0..whole.len() {
                // Behind the object protobuf has two fields that are empty, and does without them as well.
                let expected =
                    (whole.len() - length <= 4 && length % 2 == 0 && whole[0] == b'k').then(|| UID.to_owned());
                assert_eq!(uid(&whole[..length]), expected, "cut after {length} bytes of {}", whole.len());
            }
            for at in 0..whole.len() {
                let mut flipped = whole.clone();
                flipped[at] ^= 0x80;
                // Whatever it is, it ends, and is a word.
                assert!(uid(&flipped).is_none_or(|uid| uid.bytes().all(|byte| byte.is_ascii_graphic())));
            }
        }
        let message = |field: u8, bytes: &[u8]| [&[field << 3 | 2, bytes.len() as u8][..], bytes].concat();
        let object = |uid: &[u8]| [PROTOBUF, &message(2, &message(1, &message(5, uid)))].concat();
        assert_eq!(uid(&object(b"a-uid")).as_deref(), Some("a-uid"));
        for value in [
            &b"k8s:enc:aescbc:v1:key1:\x00\x01\x02"[..],
            b"k8s:enc:kms:v2:",
            b"",
            b"k8s\0",
            b"k8s\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xd9\xd9\xf7\xa1\x68metadata",
            b"null",
            br#"{"metadata":{"uid":7}}"#,
            br#"{"metadata":{"uid":""}}"#,
            br#"{"metadata":"uid"}"#,
            &object(b""),
            &object(b"a\nb"),
            &object(&[0xff; 8]),
            &[&b"{\"metadata\":"[..], &[b'['; 100_000]].concat(),
            format!(r#"{{"metadata":{{"uid":"{}"}}}}"#, "x".repeat(MAX_UID + 1)).as_bytes(),
        ] {
            assert_eq!(uid(value), None, "{:?}", String::from_utf8_lossy(&value[..value.len().min(80)]));
        }
    }

    #[test]
    fn the_prefix_is_the_one_that_kube_apiserver_makes_of_its_flag() {
        for (flag, expected) in [
            (None, "/registry"),
            (Some("/registry"), "/registry"),
            (Some("registry"), "/registry"),
            (Some("/registry/"), "/registry"),
            (Some("kubernetes.io/one//two/"), "/kubernetes.io/one/two"),
            (Some("/a/./b/../c"), "/a/c"),
            (Some("/../a"), "/a"),
            (Some("/"), ""),
            (Some(""), ""),
        ] {
            assert_eq!(prefix(flag), expected, "{flag:?}");
        }
    }
}
