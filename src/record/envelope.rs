//! The envelope of every JSON file that lastgood persists: `{"version":1,"checksum":"…","KEY":…}` on one line.
//!
//! The checksum covers the bytes of the body as written, so any flipped bit and any lost byte is found before a field
//! is used. The body's own types refuse unknown fields.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::model::Digest;

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Written by a newer program.
    Future { version: u64 },
    /// Not what was once written: why.
    Damaged(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Future { version } => write!(f, "was written by a newer lastgood (format {version})"),
            Self::Damaged(why) => write!(f, "is damaged: {why}"),
        }
    }
}

/// Wraps a body.
pub(crate) fn encode<T: Serialize>(version: u32, key: &str, body: &T) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_string(body)?;
    let checksum = Digest::of(body.as_bytes());
    Ok(format!("{{\"version\":{version},\"checksum\":\"{checksum}\",\"{key}\":{body}}}\n").into_bytes())
}

/// Unwraps a body, if it is the one that was wrapped.
pub(crate) fn decode<T: DeserializeOwned>(version: u32, key: &str, bytes: &[u8]) -> Result<T, Fault> {
    /// Of a file of another version nothing else is looked at.
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    let damaged = |why: &str| Fault::Damaged(why.to_owned());
    if bytes.is_empty() {
        return Err(damaged("it is empty"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| damaged("it is not text"))?;
    let Some(rest) = text.strip_prefix(&format!("{{\"version\":{version},\"checksum\":\"")) else {
        return Err(match serde_json::from_str::<Version>(text) {
            Ok(Version { version: other }) if other > u64::from(version) => Fault::Future { version: other },
            Ok(Version { version: other }) => Fault::Damaged(format!("there is no format {other}")),
            Err(error) => Fault::Damaged(error.to_string()),
        });
    };
    let (checksum, rest) = rest.split_at_checked(64).ok_or_else(|| damaged("it ends within its checksum"))?;
    let checksum: Digest = checksum.parse().map_err(|error| Fault::Damaged(format!("its checksum: {error}")))?;
    let body = rest
        .strip_prefix(&format!("\",\"{key}\":"))
        .and_then(|rest| rest.strip_suffix("}\n"))
        .ok_or_else(|| damaged("it ends early"))?;
    if Digest::of(body.as_bytes()) != checksum {
        return Err(damaged("its checksum does not match"));
    }
    serde_json::from_str(body).map_err(|error| Fault::Damaged(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_wrapped_comes_back() {
        let bytes = encode(1, "list", &vec![1, 2, 3]).unwrap();
        assert_eq!(decode::<Vec<u32>>(1, "list", &bytes).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_newer_format_is_called_that_and_not_damage() {
        let newer = br#"{"version":7,"checksum":"md5:1","memory":{"new":true}}"#;
        assert_eq!(decode::<Vec<u32>>(1, "list", newer), Err(Fault::Future { version: 7 }));
    }

    #[test]
    fn every_flipped_bit_and_every_lost_byte_is_found() {
        let bytes = encode(1, "list", &vec![10, 20, 30]).unwrap();
        for at in 0..bytes.len() {
            assert!(decode::<Vec<u32>>(1, "list", &bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // Hex digits of the checksum mean the same in either case.
                let same = decode::<Vec<u32>>(1, "list", &flipped);
                assert!(same.is_err() || same == Ok(vec![10, 20, 30]), "bit {bit} of byte {at}");
            }
        }
    }
}
