//! Certificates and keys, as far as must be known of them: until when, and whether they fit. Never shown, never kept.

use rustls::crypto::aws_lc_rs::sign::any_supported_type;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{Error, InconsistentKeys};
use x509_parser::parse_x509_certificate;
use x509_parser::x509::X509Name;

use crate::model::Digest;

/// A certificate's dates, in seconds since the epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dates {
    /// Valid from.
    pub(super) not_before: i64,
    /// Valid until.
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
    /// The same of who signed it.
    pub(super) issuer: String,
    /// Its dates.
    pub(super) dates: Dates,
    /// Whether it may sign others.
    pub(super) authority: bool,
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
            fingerprint: Digest::of(certificate),
        })
    }
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

/// The common name in a certificate's subject.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = parse_x509_certificate(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?.as_str().ok()?;
    Some(name.to_owned())
}

/// A certificate and its key that fit each other, and the certificate's dates.
pub(super) fn pair(certificate: &[u8], key: &[u8]) -> Result<(CertifiedKey, Dates), String> {
    let chain = certificates(certificate).map_err(|error| format!("the client certificate {error}"))?;
    let dates = chain.first().and_then(Dates::of).ok_or("the client certificate does not parse")?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| format!("the client key does not parse: {error}"))?;
    let key = any_supported_type(&key).map_err(|error| format!("the client key is of no use: {error}"))?;
    let pair = CertifiedKey::new(chain, key);
    match pair.keys_match() {
        Err(Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err("the client key does not fit the client certificate".to_owned())
        }
        // An odd certificate that the comparison cannot read is for its server to judge.
        _ => Ok((pair, dates)),
    }
}
