//! Recognises by its first bytes what a file is that is no database.

/// Of a tar, where its mark is.
const USTAR: usize = 257;
/// How far the database is searched for behind what precedes it: a tool's own output is a line or two.
pub(super) const HEAD: usize = 64 << 10;
/// What is shown of a text, in characters.
const SHOWN: usize = 80;
/// What is not UTF-8 became this, where something read a database as text.
const REPLACED: &[u8] = "\u{fffd}".as_bytes();
/// So many of them are no accident.
const MANY_REPLACED: usize = 8;

/// What a file is instead of a database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Other {
    Packed(Packed),
    /// Several files in one.
    Archive(Archive),
    Encrypted(Cipher),
    /// What a server answered instead of the file; what it says, where that can be read.
    Answer(&'static str, Option<String>),
    /// A pointer of Git LFS.
    LfsPointer,
    /// The database, encoded in base64.
    Base64,
    /// UTF-16, which PowerShell writes by `>`.
    Utf16,
    /// It was read as text: what is not UTF-8 was replaced.
    Replaced,
    /// Its bytes were taken for Latin-1 and written as UTF-8.
    Recoded,
    Sqlite,
    /// A segment of etcd's WAL.
    Wal,
    /// One of etcd's `*.snap`, which has the members and not the keys.
    RaftSnapshot,
    /// Any other text.
    Text,
    /// So many bytes precede the database.
    Preceded(u64),
}

/// One file, compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packed {
    Gzip,
    Zstd,
    Xz,
    Bzip2,
    Lz4,
    Lzip,
    Snappy,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Archive {
    Zip,
    SevenZip,
    Tar,
    Cpio,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cipher {
    Age,
    Pgp,
    OpenSsl,
    Vault,
}

/// What a file is by its first bytes; nothing where nothing is known of them.
pub(super) fn recognise(head: &[u8]) -> Option<Other> {
    by_magic(head).or_else(|| as_text(head)).or_else(|| preceded(head))
}

fn by_magic(head: &[u8]) -> Option<Other> {
    const MAGIC: [(&[u8], Other); 22] = [
        (&[0x1f, 0x8b], Other::Packed(Packed::Gzip)),
        (&[0x28, 0xb5, 0x2f, 0xfd], Other::Packed(Packed::Zstd)),
        (&[0xfd, b'7', b'z', b'X', b'Z', 0], Other::Packed(Packed::Xz)),
        (b"BZh", Other::Packed(Packed::Bzip2)),
        (&[0x04, 0x22, 0x4d, 0x18], Other::Packed(Packed::Lz4)),
        (b"LZIP", Other::Packed(Packed::Lzip)),
        (&[0xff, 0x06, 0, 0, b's', b'N', b'a', b'P', b'p', b'Y'], Other::Packed(Packed::Snappy)),
        (b"PK\x03\x04", Other::Archive(Archive::Zip)),
        (b"PK\x05\x06", Other::Archive(Archive::Zip)),
        (&[b'7', b'z', 0xbc, 0xaf, 0x27, 0x1c], Other::Archive(Archive::SevenZip)),
        (b"070701", Other::Archive(Archive::Cpio)),
        (b"age-encryption.org/", Other::Encrypted(Cipher::Age)),
        (b"-----BEGIN AGE ENCRYPTED FILE-----", Other::Encrypted(Cipher::Age)),
        (b"-----BEGIN PGP MESSAGE-----", Other::Encrypted(Cipher::Pgp)),
        // The first packet is a session key for a public key, or for a passphrase.
        (&[0x85, 0x01], Other::Encrypted(Cipher::Pgp)),
        (&[0x85, 0x02], Other::Encrypted(Cipher::Pgp)),
        (&[0x8c, 0x0d, 0x04], Other::Encrypted(Cipher::Pgp)),
        (b"Salted__", Other::Encrypted(Cipher::OpenSsl)),
        (b"$ANSIBLE_VAULT", Other::Encrypted(Cipher::Vault)),
        (b"SQLite format 3\0", Other::Sqlite),
        (&[0xff, 0xfe], Other::Utf16),
        (b"version https://git-lfs", Other::LfsPointer),
    ];
    let found = MAGIC.iter().find(|(magic, _)| head.starts_with(magic)).map(|(_, other)| other.clone());
    found
        .or_else(|| (head.get(USTAR..USTAR + 5) == Some(b"ustar")).then_some(Other::Archive(Archive::Tar)))
        .or_else(|| is_wal(head).then_some(Other::Wal))
        .or_else(|| is_raft_snapshot(head).then_some(Other::RaftSnapshot))
}

/// A frame of a few bytes, whose record is of type 4.
fn is_wal(head: &[u8]) -> bool {
    matches!(head, [length, 0, 0, 0, 0, 0, 0, _, 0x08, 0x04, 0x10, ..] if (4..16).contains(length))
}

/// A checksum, and a message in which the store of etcd's version 2 is.
fn is_raft_snapshot(head: &[u8]) -> bool {
    head.first() == Some(&0x08) && begins_with(head, b"{\"Root\":{")
}

/// Whether this is among the first bytes.
fn begins_with(head: &[u8], wanted: &[u8]) -> bool {
    head.get(..head.len().min(64)).is_some_and(|head| head.windows(wanted.len()).any(|window| window == wanted))
}

fn as_text(head: &[u8]) -> Option<Other> {
    if head.windows(REPLACED.len()).filter(|window| *window == REPLACED).count() >= MANY_REPLACED {
        return Some(Other::Replaced);
    }
    // bbolt's magic number, recoded.
    if begins_with(head, "\u{ed}\u{da}\u{c}\u{ed}".as_bytes()) {
        return Some(Other::Recoded);
    }
    let text = match std::str::from_utf8(head) {
        Ok(text) => text,
        // The last character may be cut in two.
        Err(error) if error.error_len().is_none() => std::str::from_utf8(head.get(..error.valid_up_to())?).ok()?,
        Err(_) => return None,
    };
    let text = text.trim_start_matches('\u{feff}').trim_start();
    if text.is_empty() || text.chars().any(|c| c.is_control() && !c.is_whitespace() && c != '\u{1b}') {
        return None;
    }
    let lower: String = text.chars().take(SHOWN).collect::<String>().to_ascii_lowercase();
    Some(match () {
        // A meta page begins with eight zeroes, and its flags.
        () if text.starts_with("AAAAAAAAAAA") => Other::Base64,
        () if lower.starts_with("<!doctype html") || lower.starts_with("<html") => {
            Other::Answer("an HTML page", between(text, "<title>", "</title>"))
        }
        () if text.starts_with('<') => Other::Answer("an XML document", between(text, "<Code>", "</Code>")),
        () if text.starts_with('{') || text.starts_with('[') => {
            let said = ["\"message\":\"", "\"message\": \"", "\"error\":\"", "\"error\": \""];
            Other::Answer("a JSON document", said.iter().find_map(|key| between(text, key, "\"")))
        }
        () => Other::Text,
    })
}

/// What is between two marks: one line, and not all of a long one.
fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let (_, rest) = text.split_once(before)?;
    let (found, _) = rest.split_once(after)?;
    let words = found.split_whitespace().collect::<Vec<_>>().join(" ");
    Some(words.chars().filter(|c| !c.is_control()).take(SHOWN).collect()).filter(|words: &String| !words.is_empty())
}

/// The first meta page, elsewhere than at the beginning: its number, its flags, and its magic number.
fn preceded(head: &[u8]) -> Option<Other> {
    const META: [u8; 24] = [0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0];
    head.windows(META.len()).position(|window| window == META).filter(|at| *at > 0).map(|at| Other::Preceded(at as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_file_is_is_known_by_its_first_bytes() {
        let mut tar = vec![0; 600];
        tar[..5].copy_from_slice(b"etcd/");
        tar[USTAR..USTAR + 5].copy_from_slice(b"ustar");
        let answer = |kind, said: Option<&str>| Other::Answer(kind, said.map(str::to_owned));
        let html = b"<!DOCTYPE html>\n<html><head><title>404\n Not Found</title>".to_vec();
        let xml = b"<?xml version=\"1.0\"?><Error><Code>NoSuchKey</Code><Message>x</Message></Error>".to_vec();
        let json = br#"{"kind":"Status","message":"pods \"etcd\" not found"}"#.to_vec();
        let mut before = b"Defaulted container \"etcd\" out of: etcd\n".to_vec();
        before.extend([0, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0xed, 0xda, 0x0c, 0xed, 2, 0, 0, 0]);
        let replaced = "\u{fffd}\u{fffd}\u{c}\u{fffd}".repeat(4).into_bytes();
        for (situation, head, expected) in [
            ("gzip", vec![0x1f, 0x8b, 8, 0, 0xff], Some(Other::Packed(Packed::Gzip))),
            ("zstd", vec![0x28, 0xb5, 0x2f, 0xfd, 4], Some(Other::Packed(Packed::Zstd))),
            ("xz", b"\xfd7zXZ\0\0".to_vec(), Some(Other::Packed(Packed::Xz))),
            ("bzip2", b"BZh91AY".to_vec(), Some(Other::Packed(Packed::Bzip2))),
            ("zip", b"PK\x03\x04\x14".to_vec(), Some(Other::Archive(Archive::Zip))),
            ("tar", tar, Some(Other::Archive(Archive::Tar))),
            ("age", b"age-encryption.org/v1\n-> X25519".to_vec(), Some(Other::Encrypted(Cipher::Age))),
            ("openssl", b"Salted__12345678".to_vec(), Some(Other::Encrypted(Cipher::OpenSsl))),
            ("an error page", html, Some(answer("an HTML page", Some("404 Not Found")))),
            ("an object store's error", xml, Some(answer("an XML document", Some("NoSuchKey")))),
            ("the API server's", json, Some(answer("a JSON document", Some("pods \\")))),
            ("JSON without a word", b"[1, 2]".to_vec(), Some(answer("a JSON document", None))),
            ("LFS", b"version https://git-lfs.github.com/spec/v1\n".to_vec(), Some(Other::LfsPointer)),
            ("base64", b"AAAAAAAAAAAEAAAAAAAAAO3aDO0CAAAA".to_vec(), Some(Other::Base64)),
            ("PowerShell", b"\xff\xfe\0\0\0\0".to_vec(), Some(Other::Utf16)),
            ("read as text", replaced, Some(Other::Replaced)),
            ("recoded", "\0\0\u{4}\0\u{ed}\u{da}\u{c}\u{ed}\u{2}".repeat(9).into_bytes(), Some(Other::Recoded)),
            ("k3s", b"SQLite format 3\0\x10".to_vec(), Some(Other::Sqlite)),
            ("a WAL", b"\x04\0\0\0\0\0\0\x84\x08\x04\x10\0".to_vec(), Some(Other::Wal)),
            ("a raft snapshot", b"\x08\x8f\x12\x12\x90\x01{\"Root\":{\"Path\"".to_vec(), Some(Other::RaftSnapshot)),
            ("words", b"connection refused\n".to_vec(), Some(Other::Text)),
            ("a tool's line before it", before, Some(Other::Preceded(40))),
            ("nothing", vec![], None),
            ("zeroes", vec![0; 100], None),
            ("anything", vec![0x93, 1, 0, 200, 7], None),
        ] {
            assert_eq!(recognise(&head), expected, "{situation}");
        }
    }
}
