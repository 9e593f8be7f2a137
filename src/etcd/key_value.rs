//! The values of the bucket `key`: one revision of a key each (`mvccpb.KeyValue` in go.etcd.io/etcd).

use super::proto::{NoMessage, Value, fields};

/// One revision of a key. Of a tombstone only the key is set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyValue<'a> {
    /// The client's key.
    pub key: &'a [u8],
    /// The revision at which this life of the key began.
    pub create_revision: i64,
    /// The revision at which this was written.
    pub mod_revision: i64,
    /// How often it was written in this life; from 1 on.
    pub version: i64,
    /// The client's value.
    pub value: &'a [u8],
    /// The lease it ends with; 0 for none.
    pub lease: i64,
}

impl<'a> KeyValue<'a> {
    /// Of a message; `None` where it is none.
    pub fn decode(message: &'a [u8]) -> Option<Self> {
        let mut found = Self::default();
        for field in fields(message) {
            match field.map_err(|NoMessage| ()).ok()? {
                (1, Value::Bytes(key)) => found.key = key,
                (2, Value::Number(revision)) => found.create_revision = revision.cast_signed(),
                (3, Value::Number(revision)) => found.mod_revision = revision.cast_signed(),
                (4, Value::Number(version)) => found.version = version.cast_signed(),
                (5, Value::Bytes(value)) => found.value = value,
                (6, Value::Number(lease)) => found.lease = lease.cast_signed(),
                // Of a known number and another kind: etcd does not take it either.
                (1..=6, _) => return None,
                // What a later etcd may add.
                _ => {}
            }
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_etcd_writes_is_read_and_another_kind_of_field_is_not() {
        let message = [0x0a, 1, b'k', 0x10, 2, 0x18, 5, 0x20, 3, 0x2a, 2, b'v', b'w', 0x30, 7];
        let read = KeyValue { key: b"k", create_revision: 2, mod_revision: 5, version: 3, value: b"vw", lease: 7 };
        assert_eq!(KeyValue::decode(&message), Some(read));
        assert_eq!(KeyValue::decode(&message[..12]), None, "cut off");
        assert_eq!(KeyValue::decode(&[0x08, 1]), None, "a number for a key");
        assert_eq!(KeyValue::decode(&[0x0a, 1, b'k', 0x58, 1]).map(|read| read.key), Some(&b"k"[..]), "a later field");
        assert_eq!(KeyValue::decode(b""), Some(KeyValue::default()));
    }
}
