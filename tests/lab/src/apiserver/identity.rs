//! Who is asking: a client certificate's CN is the user, its O the groups, as the real x509 authenticator has it.
//!
//! The handshake takes any certificate whose key the client holds; whether it is *ours* is judged per request. So a
//! foreign or expired one gets a 401 in HTTP, not a TLS alert, and one that expires on an open connection is noticed.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use anyhow::Result;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, UnixTime},
    server::{
        ClientHello, ResolvesServerCert, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
    sign::CertifiedKey,
};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    files,
    options::{Anonymous, Pair},
    serve::Call,
};

/// A user with its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// The name, from CN.
    pub name: String,
    /// The groups, from O, and `system:authenticated`.
    pub groups: Vec<String>,
}

impl User {
    /// Somebody without a certificate.
    #[must_use]
    pub fn anonymous() -> Self {
        Self { name: "system:anonymous".to_owned(), groups: vec!["system:unauthenticated".to_owned()] }
    }

    /// Somebody with a certificate of ours.
    #[must_use]
    pub fn authenticated(name: &str, organizations: &[&str]) -> Self {
        let mut groups: Vec<String> = organizations.iter().map(|group| (*group).to_owned()).collect();
        groups.push("system:authenticated".to_owned());
        Self { name: name.to_owned(), groups }
    }
}

/// Nobody we know: 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unauthorized;

/// Tells users from strangers.
pub struct Authenticator {
    client_ca: Option<PathBuf>,
    anonymous: Anonymous,
}

impl Authenticator {
    /// With the authority's file (read anew when needed, so a renewed one counts) and the word on anonymous callers.
    #[must_use]
    pub fn new(client_ca: Option<PathBuf>, anonymous: Anonymous) -> Self {
        Self { client_ca, anonymous }
    }

    /// Who sent this request.
    ///
    /// # Errors
    /// The certificate is not ours or has expired, a token was sent (none exist here), or anonymous callers are refused.
    pub fn user(&self, call: &Call) -> Result<User, Unauthorized> {
        if call.authorization.is_some() {
            return Err(Unauthorized);
        }
        let Some((own, chain)) = call.certificates.split_first() else {
            return match self.anonymous {
                Anonymous::Admitted => Ok(User::anonymous()),
                Anonymous::Refused => Err(Unauthorized),
            };
        };
        let path = self.client_ca.as_ref().ok_or(Unauthorized)?;
        let roots = files::authorities(path).map_err(|_| Unauthorized)?;
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier =
            WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().map_err(|_| Unauthorized)?;
        verifier.verify_client_cert(own, chain, UnixTime::now()).map_err(|_| Unauthorized)?;
        let (_, parsed) = X509Certificate::from_der(own).map_err(|_| Unauthorized)?;
        let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
        let organizations: Vec<&str> =
            parsed.subject().iter_organization().filter_map(|name| name.as_str().ok()).collect();
        Ok(User::authenticated(name.ok_or(Unauthorized)?, &organizations))
    }
}

/// The serving side: our certificate, read again when its file changes, and any certificate of the client.
///
/// # Errors
/// The certificate or its key cannot be used.
pub fn server_config(serving: Pair) -> Result<ServerConfig> {
    let certified = Arc::new(files::pair(&serving.certificate, &serving.key)?);
    let read_at = modified(&serving);
    let resolver = Reloading { serving, current: Mutex::new((read_at, certified)) };
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(Arc::new(AnyCertificate(provider)))
        .with_cert_resolver(Arc::new(resolver));
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

type ModifiedAt = (Option<SystemTime>, Option<SystemTime>);

fn modified(pair: &Pair) -> ModifiedAt {
    let of = |path: &PathBuf| std::fs::metadata(path).and_then(|metadata| metadata.modified()).ok();
    (of(&pair.certificate), of(&pair.key))
}

#[derive(Debug)]
struct Reloading {
    serving: Pair,
    current: Mutex<(ModifiedAt, Arc<CertifiedKey>)>,
}

impl ResolvesServerCert for Reloading {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let mut current = self.current.lock().unwrap_or_else(PoisonError::into_inner);
        let now = modified(&self.serving);
        if now != current.0
            && let Ok(renewed) = files::pair(&self.serving.certificate, &self.serving.key)
        {
            *current = (now, Arc::new(renewed));
        }
        Some(Arc::clone(&current.1))
    }
}

/// Asks for a certificate, takes none or any, and checks only that the client holds its key.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyCertificate {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd,
    };

    use super::*;

    fn authority() -> (String, Issuer<'static, KeyPair>) {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "kubernetes");
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("signed").pem();
        (pem, Issuer::new(params, key))
    }

    fn leaf(issuer: &Issuer<'static, KeyPair>, until: i32, usage: ExtendedKeyUsagePurpose) -> CertificateDer<'static> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "system:node:m1");
        params.distinguished_name.push(DnType::OrganizationName, "system:nodes");
        params.extended_key_usages = vec![usage];
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().expect("a key");
        params.signed_by(&key, issuer).expect("signed").der().clone()
    }

    #[test]
    fn only_a_valid_client_certificate_of_ours_is_a_user() {
        use ExtendedKeyUsagePurpose::{ClientAuth, ServerAuth};
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("ca.crt");
        let ((pem, ours), (_, foreign)) = (authority(), authority());
        std::fs::write(&path, pem).expect("written");
        let authenticator = Authenticator::new(Some(path), Anonymous::Admitted);
        let asks = |certificate: Option<CertificateDer<'static>>| {
            let mut call = Call::get("/livez");
            call.certificates = Arc::new(certificate.into_iter().collect());
            authenticator.user(&call)
        };
        let node = User::authenticated("system:node:m1", &["system:nodes"]);
        assert_eq!(asks(Some(leaf(&ours, 4000, ClientAuth))), Ok(node));
        assert_eq!(asks(None), Ok(User::anonymous()));
        for (situation, certificate) in [
            ("expired", leaf(&ours, 2021, ClientAuth)),
            ("of another authority with the same name", leaf(&foreign, 4000, ClientAuth)),
            ("for servers only", leaf(&ours, 4000, ServerAuth)),
        ] {
            assert_eq!(asks(Some(certificate)), Err(Unauthorized), "{situation}");
        }
        let mut call = Call::get("/livez");
        call.authorization = Some("Bearer x".to_owned());
        assert_eq!(authenticator.user(&call), Err(Unauthorized), "no token exists");
    }
}
