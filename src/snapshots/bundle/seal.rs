//! Encrypts key material to the operator's recipients, and decrypts it with one of their identities: the age format,
//! version 1 (age-encryption.org/v1), which the tools age and rage open as well. All of it in memory.

use std::io::{Read as _, Write as _};
use std::path::Path;

use age::{Decryptor, Encryptor, Identity, IdentityFile, Recipient};

use super::MAX_PART;
use crate::config::recipient;
use crate::sys::files;

/// An identity file holds some lines of some seventy bytes.
const MAX_IDENTITIES: u64 = 1 << 16;

/// Encrypts to all of these.
///
/// # Errors
/// A sentence.
pub(super) fn seal(plain: &[u8], recipients: &[String]) -> Result<Vec<u8>, String> {
    let recipients = recipients.iter().map(|text| recipient::parse(text));
    let recipients = recipients.collect::<Result<Vec<_>, _>>().map_err(|why| format!("snapshots.recipients {why}"))?;
    let each = recipients.iter().map(|recipient| recipient as &dyn Recipient);
    let encryptor = Encryptor::with_recipients(each).map_err(|error| format!("no key could be encrypted: {error}"))?;
    let mut sealed = Vec::new();
    let written = encryptor.wrap_output(&mut sealed).and_then(|mut writer| {
        writer.write_all(plain)?;
        writer.finish()
    });
    written.map_err(|error| format!("no key could be encrypted: {error}"))?;
    Ok(sealed)
}

/// Decrypts by the identities in a file, as `age-keygen` writes it.
///
/// # Errors
/// A sentence.
pub(super) fn open(sealed: &[u8], identities: &Path) -> Result<Vec<u8>, String> {
    let text = files::read_bounded(identities, MAX_IDENTITIES).map_err(|error| error.to_string())?;
    let no_identities = |error: &dyn std::fmt::Display| {
        format!(
            "{} is no age identity file: {error}; write it as `age-keygen` does, without a passphrase",
            identities.display()
        )
    };
    let own = IdentityFile::from_buffer(text.as_slice()).map_err(|error| no_identities(&error))?;
    let own = own.into_identities().map_err(|error| no_identities(&error))?;
    let each = own.iter().map(|identity| identity.as_ref() as &dyn Identity);
    let decryptor = Decryptor::new_buffered(sealed).map_err(|error| format!("is no age file: {error}"))?;
    let plain = decryptor.decrypt(each).map_err(|error| match error {
        age::DecryptError::NoMatchingKeys => {
            format!("is not encrypted to any identity in {}: give another with --identity", identities.display())
        }
        error => format!("cannot be decrypted: {error}"),
    })?;
    let mut bytes = Vec::new();
    let read = plain.take(MAX_PART + 1).read_to_end(&mut bytes);
    read.map_err(|error| format!("cannot be decrypted: {error}"))?;
    if bytes.len() as u64 > MAX_PART { Err("contains too many keys".to_owned()) } else { Ok(bytes) }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use age::secrecy::ExposeSecret as _;

    use super::*;

    fn identity(dir: &Path, name: &str) -> (std::path::PathBuf, String) {
        let identity = age::x25519::Identity::generate();
        let path = dir.join(name);
        let public = identity.to_public().to_string();
        fs::write(&path, format!("# public key: {public}\n{}\n", identity.to_string().expose_secret())).unwrap();
        (path, public)
    }

    #[test]
    fn every_recipient_opens_it_and_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let [first, second, stranger] = ["first", "second", "stranger"].map(|name| identity(dir.path(), name));
        let sealed = seal(b"a key", &[first.1, second.1]).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"a key"));
        for path in [&first.0, &second.0] {
            assert_eq!(open(&sealed, path).unwrap(), b"a key");
        }
        let error = open(&sealed, &stranger.0).unwrap_err();
        assert!(error.contains("not encrypted to any identity in") && error.contains("--identity"), "{error}");
        for end in [0, 30, sealed.len() - 1] {
            assert!(open(&sealed[..end], &first.0).is_err(), "cut at {end}");
        }
        let mut flipped = sealed.clone();
        *flipped.last_mut().unwrap() ^= 1;
        assert!(open(&flipped, &first.0).is_err());
    }

    #[test]
    fn what_is_no_identity_file_is_named_and_not_repeated() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("id");
        let sealed = seal(b"a key", &[identity(dir.path(), "own").1]).unwrap();
        fs::write(&path, "-----BEGIN OPENSSH PRIVATE KEY-----\n").unwrap();
        let error = open(&sealed, &path).unwrap_err();
        assert!(error.contains("is no age identity file") && !error.contains("OPENSSH"), "{error}");
        assert!(open(&sealed, &dir.path().join("none")).unwrap_err().contains("none"));
    }

    #[test]
    fn nobody_to_encrypt_to_is_an_error() {
        assert!(seal(b"a key", &[]).is_err());
        assert!(seal(b"a key", &["age1nonsense".to_owned()]).unwrap_err().contains("snapshots.recipients"));
    }

    #[test]
    fn the_tool_called_age_opens_what_is_sealed_and_what_it_seals_is_opened() {
        let there = std::process::Command::new("age").arg("--version").output();
        assert!(there.is_ok(), "this test needs the tool age: tests/install brings it");
        let dir = tempfile::tempdir().unwrap();
        let (path, public) = identity(dir.path(), "own");
        fs::write(dir.path().join("ours"), seal(b"a key", std::slice::from_ref(&public)).unwrap()).unwrap();
        let age = |words: &[&str]| {
            let out = std::process::Command::new("age").args(words).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
            out.stdout
        };
        assert_eq!(age(&["-d", "-i", "own", "ours"]), b"a key");
        fs::write(dir.path().join("plain"), "another").unwrap();
        age(&["-r", &public, "-o", "theirs", "plain"]);
        assert_eq!(open(&fs::read(dir.path().join("theirs")).unwrap(), &path).unwrap(), b"another");
    }
}
