//! Which certificates a client may come with: signed by etcd's peer CA, with client usage or none at all, for the host of a
//! member's peer URL, and what `--peer-cert-allowed-cn` and `--peer-cert-allowed-hostname` ask for. One that has expired
//! may still report: it is needed when certificates are what is wrong.

use std::collections::BTreeSet;
use std::sync::Arc;

use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};

use super::master::Master;
use crate::observe::{PeerFiles, PeerSecurity, common_name, even_expired};

/// Who is let in, besides what the CA says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowed {
    hosts: BTreeSet<String>,
    common_names: Vec<String>,
    hostnames: Vec<String>,
}

impl Allowed {
    pub(super) fn of(master: &Master, security: &PeerSecurity) -> Self {
        Self {
            hosts: master.hosts(),
            common_names: security.allowed_cn.clone(),
            hostnames: security.allowed_hostname.clone(),
        }
    }

    fn admits(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(certificate)?;
        let names = |host: &String| {
            ServerName::try_from(host.as_str()).is_ok_and(|name| verify_server_name(&parsed, &name).is_ok())
        };
        let common_name = || common_name(certificate).is_some_and(|name| self.common_names.contains(&name));
        let admitted = self.hosts.iter().any(names)
            && (self.common_names.is_empty() || common_name())
            && (self.hostnames.is_empty() || self.hostnames.iter().any(names));
        if admitted { Ok(()) } else { Err(Error::InvalidCertificate(CertificateError::ApplicationVerificationFailure)) }
    }
}

/// Verifies those who come.
#[derive(Debug)]
pub(super) struct Verifier {
    authority: Arc<dyn ClientCertVerifier>,
    allowed: Allowed,
}

impl Verifier {
    /// # Errors
    /// A sentence, when the bundle has no usable CA.
    pub(super) fn new(files: &PeerFiles, allowed: Allowed) -> Result<Self, String> {
        let (roots, provider) = (Arc::new(files.roots.clone()), Arc::clone(&files.provider));
        let authority = WebPkiClientVerifier::builder_with_provider(roots, provider).build();
        let authority = authority.map_err(|error| format!("--peer-trusted-ca-file contains no usable CA: {error}"))?;
        Ok(Self { authority, allowed })
    }
}

impl ClientCertVerifier for Verifier {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.authority.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified =
            even_expired(end_entity, now, |at| self.authority.verify_client_cert(end_entity, intermediates, at))?;
        self.allowed.admits(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.authority.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.authority.supported_verify_schemes()
    }
}
