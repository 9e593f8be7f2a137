//! The envelope of every JSON file that lastgood persists: `{"version":1,"checksum":"…","KEY":…}` on one line.
//!
//! ```text
//!   of an earlier version   lifted: what was added since has its default, what has another form gets it (model/lift.rs)
//!   of this version         every field is one that this program knows, or the file is damaged
//!   of a later version      a [`Fault::Newer`]; [`of_newer`] reads what this program understands of it
//! ```
//!
//! The checksum covers the bytes of the body as written, so any flipped bit and any lost byte is found before a field
//! is used.

use std::fmt;
use std::io;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Digest, Format};

/// Why a file is not believed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Written by a newer program.
    Newer {
        /// Its format.
        version: u64,
        /// The newest format that this program knows.
        known: u32,
    },
    /// Not what was once written: why.
    Damaged(String),
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { version, known } => {
                write!(f, "was written by a newer lastgood (format {version}; this lastgood knows format {known})")
            }
            Self::Damaged(why) => write!(f, "is damaged: {why}"),
        }
    }
}

impl Fault {
    fn damaged(why: impl fmt::Display) -> Self {
        Self::Damaged(why.to_string())
    }
}

/// Wraps a body, as a format has it.
pub(crate) fn wrap<T: Serialize>(format: &Format, body: &T) -> io::Result<Vec<u8>> {
    encode(format.version(), format.key, body).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Wraps a body, as a version of a format.
pub(crate) fn encode<T: Serialize>(version: u32, key: &str, body: &T) -> serde_json::Result<Vec<u8>> {
    let body = serde_json::to_string(body)?;
    let checksum = Digest::of(body.as_bytes());
    Ok(format!("{{\"version\":{version},\"checksum\":\"{checksum}\",\"{key}\":{body}}}\n").into_bytes())
}

/// Unwraps a body of this version or an earlier one, if it is the one that was wrapped.
pub(crate) fn decode<T: Serialize + DeserializeOwned>(format: &Format, bytes: &[u8]) -> Result<T, Fault> {
    let Opened { version, body } = open(format, bytes)?;
    let known = format.version();
    let body = body.filter(|_| version <= u64::from(known)).ok_or(Fault::Newer { version, known })?;
    if version < u64::from(known) {
        let lifted = serde_json::from_str(body).and_then(|earlier| (format.lift)(version, earlier));
        return lifted.and_then(serde_json::from_value).map_err(Fault::damaged);
    }
    let read = serde_json::from_str(body).map_err(Fault::damaged)?;
    let (found, understood) = serde_json::from_str(body)
        .and_then(|found: Value| Ok((found, serde_json::to_value(&read)?)))
        .map_err(Fault::damaged)?;
    match unknown_field(&found, &understood) {
        Some(field) => Err(Fault::Damaged(format!("unknown field `{field}`"))),
        None => Ok(read),
    }
}

/// The body of a file of a later version, where it is wrapped as ours are.
pub(crate) fn of_newer<'b>(format: &Format, bytes: &'b [u8]) -> Option<&'b str> {
    let Opened { version, body } = open(format, bytes).ok()?;
    body.filter(|_| format.is_newer(version))
}

/// The version of a file that a newer program wrote.
pub(crate) fn newer(format: &Format, bytes: &[u8]) -> Option<u64> {
    open(format, bytes).ok().map(|opened| opened.version).filter(|version| format.is_newer(*version))
}

/// [`decode`], and of a later version what this program understands: fields that it does not know are passed over.
pub(crate) fn decode_any<T: Serialize + DeserializeOwned>(format: &Format, bytes: &[u8]) -> Result<T, Fault> {
    decode(format, bytes)
        .or_else(|fault| of_newer(format, bytes).and_then(|body| serde_json::from_str(body).ok()).ok_or(fault))
}

/// A file whose version is known, and whose body is the one that was wrapped.
struct Opened<'b> {
    version: u64,
    /// Nothing where a later version is wrapped in another way.
    body: Option<&'b str>,
}

fn open<'b>(format: &Format, bytes: &'b [u8]) -> Result<Opened<'b>, Fault> {
    /// Of a file of another version nothing else is looked at.
    #[derive(Deserialize)]
    struct Version {
        version: u64,
    }
    if bytes.is_empty() {
        return Err(Fault::damaged("it is empty"));
    }
    let text = std::str::from_utf8(bytes).map_err(|_| Fault::damaged("it is not text"))?;
    let after = |version: u64| text.strip_prefix(&format!("{{\"version\":{version},\"checksum\":\""));
    let known = u64::from(format.version());
    if let Some((version, rest)) = (1..=known).find_map(|version| Some((version, after(version)?))) {
        return body(format.key, rest).map(|body| Opened { version, body: Some(body) });
    }
    let Version { version } = serde_json::from_str(text).map_err(Fault::damaged)?;
    if !format.is_newer(version) {
        return Err(Fault::Damaged(match version {
            version if (1..=known).contains(&version) => "it is not wrapped as its format is".to_owned(),
            version => format!("there is no format {version}"),
        }));
    }
    // Where it is wrapped as ours are, its checksum has to fit as well: the digit of the version may be what was damaged.
    let ours = after(version).filter(|rest| rest.get(..64).is_some_and(|sum| sum.parse::<Digest>().is_ok()));
    let body = ours.map(|rest| body(format.key, rest)).transpose()?;
    Ok(Opened { version, body })
}

/// The body behind its checksum, if it is the one that the checksum was made of.
fn body<'b>(key: &str, rest: &'b str) -> Result<&'b str, Fault> {
    let (checksum, rest) = rest.split_at_checked(64).ok_or_else(|| Fault::damaged("it ends within its checksum"))?;
    let checksum: Digest = checksum.parse().map_err(|error| Fault::Damaged(format!("its checksum: {error}")))?;
    let body = rest
        .strip_prefix(&format!("\",\"{key}\":"))
        .and_then(|rest| rest.strip_suffix("}\n"))
        .ok_or_else(|| Fault::damaged("it ends early"))?;
    if Digest::of(body.as_bytes()) == checksum { Ok(body) } else { Err(Fault::damaged("its checksum does not match")) }
}

/// The name of a field that was found and not understood.
fn unknown_field(found: &Value, understood: &Value) -> Option<String> {
    match (found, understood) {
        (Value::Object(found), Value::Object(understood)) => {
            found.iter().find_map(|(name, found)| match understood.get(name) {
                Some(understood) => unknown_field(found, understood),
                None => (!found.is_null()).then(|| name.clone()),
            })
        }
        (Value::Array(found), Value::Array(understood)) => {
            found.iter().zip(understood).find_map(|(found, understood)| unknown_field(found, understood))
        }
        _ => None,
    }
}

/// For tests: holds the file of a version against the value that was written to it. Of this version every byte is the same;
/// an earlier one is lifted. A file that is missing is written where `LASTGOOD_WRITE_GOLDEN` is set.
#[cfg(test)]
pub(crate) fn golden<T>(format: &Format, file: (u32, &str), value: &T)
where
    T: Serialize + DeserializeOwned + PartialEq + fmt::Debug,
{
    let (version, about) = file;
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/formats");
    let path = dir.join(format!("{}-v{version}{about}.json", format.key));
    if std::env::var_os("LASTGOOD_WRITE_GOLDEN").is_some() && !path.exists() {
        std::fs::write(&path, encode(version, format.key, value).unwrap()).unwrap();
    }
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(&decode::<T>(format, &bytes).unwrap(), value, "{}", path.display());
    if version == format.version() {
        let now = String::from_utf8(wrap(format, value).unwrap()).unwrap();
        assert_eq!(now, String::from_utf8(bytes).unwrap(), "{}: it is written in another way now", path.display());
    }
}

/// For tests: a file as the next version of its format may be, with fields at two places that this program does not know.
#[cfg(test)]
pub(crate) fn of_the_future<T: Serialize>(format: &Format, value: &T, inside: &str) -> Vec<u8> {
    let mut body = serde_json::to_value(value).unwrap();
    for at in ["", inside] {
        let object = body.pointer_mut(at).and_then(Value::as_object_mut).unwrap_or_else(|| panic!("nothing at {at}"));
        object.insert("of_the_future".to_owned(), serde_json::json!({"is": "unknown"}));
    }
    encode(format.version() + 1, format.key, &body).unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::lift;

    const FORMAT: Format = Format { key: "list", versions: &["the list", "nothing"], lift: lift::nothing };

    fn list(bytes: &[u8]) -> Result<Vec<u32>, Fault> {
        decode(&FORMAT, bytes)
    }

    #[test]
    fn what_was_wrapped_comes_back_and_so_does_what_an_earlier_version_wrapped() {
        assert_eq!(list(&wrap(&FORMAT, &vec![1, 2, 3]).unwrap()).unwrap(), [1, 2, 3]);
        assert_eq!(list(&encode(1, "list", &vec![1, 2, 3]).unwrap()).unwrap(), [1, 2, 3]);
    }

    #[test]
    fn a_newer_format_is_called_that_and_not_damage() {
        let newer = br#"{"version":7,"checksum":"md5:1","memory":{"new":true}}"#;
        assert_eq!(list(newer), Err(Fault::Newer { version: 7, known: 2 }));
        assert_eq!(of_newer(&FORMAT, newer), None, "it is wrapped in another way");
        let newer = encode(3, "list", &vec![1]).unwrap();
        assert_eq!(list(&newer), Err(Fault::Newer { version: 3, known: 2 }));
        assert_eq!(of_newer(&FORMAT, &newer), Some("[1]"));
        assert_eq!(decode_any::<Vec<u32>>(&FORMAT, &newer).unwrap(), [1]);
        let torn = String::from_utf8(newer).unwrap().replace("[1]", "[2]");
        assert!(matches!(list(torn.as_bytes()), Err(Fault::Damaged(_))), "its checksum does not fit");
    }

    #[test]
    fn a_version_that_no_program_wrote_is_damage() {
        let good = String::from_utf8(wrap(&FORMAT, &vec![1]).unwrap()).unwrap();
        let versions = ["0", "-1", "2.5", "10000", "18446744073709551616", "\"2\"", "null", "[2]", "02"];
        let hostile =
            versions.iter().map(|version| good.replacen("\"version\":2", &format!("\"version\":{version}"), 1));
        let missing = good.replacen("\"version\":2,", "", 1);
        for text in hostile.chain([missing]) {
            assert!(matches!(list(text.as_bytes()), Err(Fault::Damaged(_))), "{text}");
            assert_eq!(of_newer(&FORMAT, text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn every_flipped_bit_and_every_lost_byte_is_found() {
        let bytes = wrap(&FORMAT, &vec![10, 20, 30]).unwrap();
        for at in 0..bytes.len() {
            assert!(list(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut flipped = bytes.clone();
                flipped[at] ^= 1 << bit;
                // Hex digits of the checksum mean the same in either case, and a list has the same fields in each version.
                let same = list(&flipped);
                assert!(same.is_err() || same == Ok(vec![10, 20, 30]), "bit {bit} of byte {at}");
            }
        }
    }
}
