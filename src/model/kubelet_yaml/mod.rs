//! Text to JSON as the kubelet does it, so that what it takes and what it refuses is what we take and refuse (Q16).
//!
//! ```text
//!   file ──┬─ begins with `{` ────────────────────────────────▶ JSON ─┐
//!          └─ UTF-8, or UTF-16 with a byte order mark ─▶ events ──────┤
//!             (libyaml)    tree.rs: the first document, aliases,      │
//!                          merges; scalar.rs: the words of YAML 1.1   ▼
//!                                                             JSON value ─▶ fit.rs: the Pod
//! ```
//!
//! The kubelet (`tryDecodeSinglePod` in its `pkg/kubelet/config/common.go`) converts the text to JSON *without* looking at
//! the type of a field, and decodes the JSON afterwards, with case-sensitive names and unknown fields ignored. So
//! `hostNetwork: yes` is a boolean and taken; `value: yes` and `value: 5` are a boolean and a number where text belongs, and
//! refused; `defaultMode: 0444` is the number 292. Its YAML parser is a port of libyaml with scalars of YAML 1.1.
//!
//! Why not `serde_yaml_ng`: it resolves scalars by YAML 1.2, and neither its `Value` nor a visitor tells `yes` from `'yes'`.
//! Why not `saphyr-parser`: its scanner is one of YAML 1.2, and what it refuses the kubelet may run. Of a document that
//! cannot be scanned we replace the file at once, so the scanner must be libyaml's: `libyaml-safer` is that code in safe
//! Rust, without dependencies.

mod fit;
mod scalar;
mod tree;

#[cfg(test)]
mod tests;

use serde_json::Value;

pub(super) use fit::{fit, group_version_kind};
pub use tree::parses;

/// Why the kubelet's decoder gets no value from a file.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// It is no document of its language: the place, and what is wrong there.
    Syntax(String),
    /// It is a document, and one that the kubelet refuses to convert.
    Refused(String),
    /// It is beyond what we read, and the kubelet may read it.
    Beyond(String),
}

/// What the kubelet gets from a file: a JSON value. `Null` where there is no document.
pub(super) fn to_json(raw: &[u8]) -> Result<Value, Undecodable> {
    if begins_with_brace(raw) {
        // Go replaces what is no UTF-8 in a string and goes on.
        return serde_json::from_str(&String::from_utf8_lossy(raw)).map_err(|error| json_error(&error));
    }
    let text = decode(raw)?;
    tree::first_document(&text)
}

/// Whether the kubelet takes a file for JSON, whatever it is then: YAML with braces around it is none.
fn begins_with_brace(raw: &[u8]) -> bool {
    let start = raw.utf8_chunks().next().map_or("", |chunk| chunk.valid());
    start.trim_start().starts_with('{')
}

fn json_error(error: &serde_json::Error) -> Undecodable {
    let error = error.to_string();
    // These are limits of ours, not of the kubelet's.
    const OURS: [&str; 4] =
        ["recursion limit", "number out of range", "lone leading surrogate", "unexpected end of hex"];
    if OURS.iter().any(|ours| error.starts_with(ours)) {
        return Undecodable::Beyond(error);
    }
    Undecodable::Syntax(format!("{error}; it begins with `{{`, so the kubelet reads it as JSON, and not as YAML"))
}

/// The characters of a file, as the kubelet's reader takes them: by their byte order mark, or else UTF-8.
///
/// That reader stops where the first document ends, so that what it cannot read behind that may not matter to it.
fn decode(raw: &[u8]) -> Result<String, Undecodable> {
    let (text, undecoded) = match raw {
        [0xff, 0xfe, rest @ ..] => utf16(rest, u16::from_le_bytes),
        [0xfe, 0xff, rest @ ..] => utf16(rest, u16::from_be_bytes),
        _ => {
            let rest = raw.strip_prefix(b"\xef\xbb\xbf").unwrap_or(raw);
            let valid = rest.utf8_chunks().next().map_or("", |chunk| chunk.valid());
            (valid.to_owned(), (valid.len() < rest.len()).then_some("bytes that are no UTF-8"))
        }
    };
    let control = text.find(|c| !is_printable(c));
    let Some(what) = control.map(|_| "a control character").or(undecoded) else { return Ok(text) };
    let before = &text[..control.unwrap_or(text.len())];
    let error = format!("line {}: {what}", before.matches('\n').count() + 1);
    let ended = before.lines().skip(1).any(|line| line.starts_with("---") || line.starts_with("..."));
    Err(if ended { Undecodable::Beyond(error) } else { Undecodable::Syntax(error) })
}

fn utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> (String, Option<&'static str>) {
    let mut pairs = bytes.chunks_exact(2);
    let units: Vec<u16> = pairs.by_ref().filter_map(|pair| Some(unit(pair.try_into().ok()?))).collect();
    let mut text = String::new();
    for decoded in char::decode_utf16(units) {
        match decoded {
            Ok(c) => text.push(c),
            Err(_) => return (text, Some("half a character of UTF-16")),
        }
    }
    let odd = !pairs.remainder().is_empty();
    (text, odd.then_some("half a character of UTF-16"))
}

/// The characters that libyaml's reader lets through.
fn is_printable(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='~' | '\u{85}' | '\u{a0}'..='\u{fffd}' | '\u{10000}'..)
}
