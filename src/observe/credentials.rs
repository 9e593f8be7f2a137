//! Certificates and keys: their validity, and whether they match. Their content is never shown and never stored.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::{PemObject, SectionKind};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, Error, InconsistentKeys};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

use crate::model::Digest;

/// A certificate's dates, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dates {
    pub(super) not_before: i64,
    pub(super) not_after: i64,
}

impl Dates {
    /// Of a certificate; absent when it does not parse.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        let validity = certificate.validity();
        Some(Self { not_before: validity.not_before.timestamp(), not_after: validity.not_after.timestamp() })
    }

    /// What is wrong with them now, as the rest of a sentence that begins with the certificate.
    pub(super) fn trouble(self, now: jiff::Timestamp) -> Option<String> {
        let day = |at: i64| {
            jiff::Timestamp::from_second(at).map_or_else(|_| at.to_string(), |at| at.strftime("%F %TZ").to_string())
        };
        if now.as_second() > self.not_after {
            Some(format!("expired on {}", day(self.not_after)))
        } else if now.as_second() < self.not_before {
            Some(format!("is not valid before {}", day(self.not_before)))
        } else {
            None
        }
    }
}

/// What is shown of a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Described {
    /// The common name of its subject; of one without, the whole subject.
    pub(super) subject: String,
    /// The same for who signed it.
    pub(super) issuer: String,
    pub(super) dates: Dates,
    /// Whether it may sign others.
    pub(super) authority: bool,
    /// The addresses among its subject alternative names.
    pub(super) addresses: BTreeSet<IpAddr>,
    /// Of its bytes.
    pub(super) fingerprint: Digest,
}

impl Described {
    /// Of a certificate; absent when it does not parse.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = parse_x509_certificate(certificate).ok()?;
        let name = |name: &X509Name<'_>| {
            let common = name.iter_common_name().next().and_then(|name| name.as_str().ok());
            common.map_or_else(|| name.to_string(), str::to_owned)
        };
        Some(Self {
            subject: name(parsed.subject()),
            issuer: name(parsed.issuer()),
            dates: Dates::of(certificate)?,
            authority: parsed.is_ca(),
            addresses: addresses(&parsed),
            fingerprint: Digest::of(certificate),
        })
    }
}

fn addresses(certificate: &X509Certificate<'_>) -> BTreeSet<IpAddr> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.into_iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::IPAddress(bytes) => match *bytes {
                [a, b, c, d] => Some(IpAddr::from([*a, *b, *c, *d])),
                bytes => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
            },
            _ => None,
        })
        .collect()
}

/// SHA-256 over what is public in a PEM text: the DER of each certificate and public key, of each private key that of
/// its public one, one after the other. Nothing where nothing is public, or a section cannot be read. What else exists
/// there, such as a password, has no part in it: who knows the digest could try which one fits.
pub(super) fn public(pem: &[u8]) -> Option<Digest> {
    let mut public = Vec::new();
    for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(pem) {
        let (kind, der) = section.ok()?;
        match kind {
            SectionKind::Certificate | SectionKind::PublicKey => public.extend(der),
            SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey => {
                let key = any_supported_type(&PrivateKeyDer::from_pem(kind, der)?).ok()?;
                public.extend_from_slice(&key.public_key()?);
            }
            _ => {}
        }
    }
    (!public.is_empty()).then(|| Digest::of(&public))
}

/// The certificates of a PEM text, in their order.
pub(super) fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match all {
        Ok(all) if all.is_empty() => Err("holds no certificate".to_owned()),
        Ok(all) => Ok(all),
        Err(error) => Err(format!("holds no readable certificate: {error}")),
    }
}

/// SHA-256 over the public keys of the certificates in a PEM text, as they are in them (SubjectPublicKeyInfo), sorted. Nothing
/// where there is no certificate, or one cannot be read.
pub(super) fn public_keys(pem: &[u8]) -> Option<Digest> {
    let key = |certificate: &CertificateDer<'_>| {
        let (_, certificate) = parse_x509_certificate(certificate).ok()?;
        Some(certificate.public_key().raw.to_vec())
    };
    let mut keys: Vec<Vec<u8>> = certificates(pem).ok()?.iter().map(key).collect::<Option<_>>()?;
    keys.sort();
    keys.dedup();
    Some(Digest::of(&keys.concat()))
}

/// The common name in a certificate's subject.
pub fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// Verifies a certificate, and one that has expired as of a time at which it was valid: what an expired one is good for, the
/// caller decides.
///
/// # Errors
/// What is wrong with it besides.
pub fn even_expired<T>(
    certificate: &CertificateDer<'_>,
    now: UnixTime,
    verify: impl Fn(UnixTime) -> Result<T, Error>,
) -> Result<T, Error> {
    let expired = |error: &Error| {
        matches!(error, Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }))
    };
    let mut verified = verify(now);
    let dates = Dates::of(certificate).into_iter();
    // An intermediate may have ended before it, or begun after it.
    for at in dates.flat_map(|dates| [dates.not_after, dates.not_before]) {
        if !verified.as_ref().err().is_some_and(&expired) {
            break;
        }
        let at = Duration::from_secs(u64::try_from(at).unwrap_or_default());
        verified = verify(UnixTime::since_unix_epoch(at));
    }
    verified
}

/// A certificate and its key that fit each other, and the certificate's dates.
pub(super) fn pair(certificate: &[u8], key: &[u8]) -> Result<(CertifiedKey, Dates), String> {
    let chain = certificates(certificate).map_err(|error| format!("the client certificate {error}"))?;
    let dates = chain.first().and_then(Dates::of).ok_or("the client certificate does not parse")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the client key does not parse: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("the client key is unusable: {error}"))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the client key does not match the client certificate".to_owned())
        }
        // An odd certificate that the comparison cannot read is for its server to judge.
        _ => Ok((pair, dates)),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::process::Command;

    use super::*;

    fn openssl(dir: &Path, words: &str) -> Vec<u8> {
        let out = Command::new("openssl").args(words.split(' ')).current_dir(dir).output().unwrap();
        assert!(out.status.success(), "{words}: {}", String::from_utf8_lossy(&out.stderr));
        out.stdout
    }

    #[test]
    fn what_is_public_of_a_file_is_what_openssl_says_and_nothing_else_has_a_part_in_it() {
        let home = tempfile::tempdir().unwrap();
        let dir = home.path();
        for (name, algorithm) in [("rsa", "rsa:2048"), ("ec", "ec -pkeyopt ec_paramgen_curve:P-256"), ("ed", "ed25519")]
        {
            openssl(
                dir,
                &format!("req -x509 -newkey {algorithm} -nodes -keyout {name}.key -out {name}.crt -subj /CN=a"),
            );
            let certificate = openssl(dir, &format!("x509 -in {name}.crt -outform DER"));
            let public_key = openssl(dir, &format!("pkey -in {name}.key -pubout -outform DER"));
            let pem = openssl(dir, &format!("pkey -in {name}.key -pubout"));
            let read = |ending: &str| std::fs::read(dir.join(format!("{name}.{ending}"))).unwrap();
            assert_eq!(public(&read("crt")), Some(Digest::of(&certificate)), "{name}");
            assert_eq!(public(&read("key")), Some(Digest::of(&public_key)), "{name}");
            assert_eq!(public(&pem), Some(Digest::of(&public_key)), "{name}");
            let both = [read("crt"), b"password: hunter2\n".to_vec(), read("key")].concat();
            assert_eq!(public(&both), Some(Digest::of(&[certificate, public_key].concat())), "{name}");
        }
        for nothing in [
            "".as_bytes(),
            b"hunter2",
            b"token,admin,1\n",
            b"-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n",
            b"-----BEGIN PRIVATE KEY-----\naHVudGVyMg==\n-----END PRIVATE KEY-----\n",
        ] {
            assert_eq!(public(nothing), None, "{}", String::from_utf8_lossy(nothing));
        }
    }
}
