//! TLS for probes: trusted CAs, the client identity, and the meaning of a failed handshake.
//!
//! A component of this node is probed without verifying its certificate, as the kubelet does. Its validity is checked
//! nevertheless, since an expired certificate is the likeliest reason why other clients fail. A probe on behalf of a
//! dependent (Q13) verifies the certificate as the dependent does.

use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, RootCertStore,
    SignatureScheme,
};

use super::files::Files;
use super::security::{Identity, Trust};
use crate::model::reading::SymptomKind;
use crate::model::{Reading, Symptom};
use crate::observe::credentials::{self, Dates};
use crate::observe::kubeconfig;

pub(super) static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// A chain, a key, a bundle of authorities: none is larger.
const MAX_PEM: u64 = 1 << 20;

/// A client's side of TLS, ready to connect with.
#[derive(Clone, Debug)]
pub(super) struct Client {
    pub(super) config: Arc<ClientConfig>,
    /// What is wrong with the dates of the certificate that it comes with.
    pub(super) ours: Option<String>,
}

/// Makes it of its files.
///
/// # Errors
/// A sentence, when the authority to trust cannot be read, or a dependent's own certificate: a dependent that cannot read
/// that does not get as far as asking.
pub(super) fn client(identities: &[Identity], trust: &Trust, alpn: &[u8], files: &mut Files) -> Result<Client, String> {
    let (pair, ours) = match first_usable(identities, files) {
        Ok(presented) => (Some(presented.pair), presented.trouble),
        Err(why) if !matches!(trust, Trust::Anyone) && !identities.is_empty() => return Err(why),
        Err(_) => (None, None),
    };
    Ok(Client { config: Arc::new(config(pair, trust, alpn, files)?), ours })
}

/// An identity that was read, and what is wrong with its dates.
pub(super) struct Presented {
    pub(super) pair: CertifiedKey,
    trouble: Option<String>,
}

/// The first of these identities that can be used; why not, where none can.
fn first_usable(identities: &[Identity], files: &mut Files) -> Result<Presented, String> {
    let mut why = "no client certificate is known".to_owned();
    let mut expired = None;
    for identity in identities {
        match read(identity, files) {
            Ok(presented) if presented.trouble.is_none() => return Ok(presented),
            Ok(presented) => expired = expired.or(Some(presented)),
            Err(error) => why = error,
        }
    }
    expired.ok_or(why)
}

pub(super) fn read(identity: &Identity, files: &mut Files) -> Result<Presented, String> {
    let mut read = |path: &Path| files.read(path, MAX_PEM).map_err(|fault| format!("{} {fault}", path.display()));
    let mut certificate = read(&identity.certificate)?;
    let mut key = read(&identity.key)?;
    // A kubelet's PEM holds both and is named twice, too; what begins a PEM begins no kubeconfig.
    if identity.certificate == identity.key && !certificate.starts_with(b"-----BEGIN") {
        let client = kubeconfig::client(&certificate);
        match client.map_err(|error| format!("{} {error}", identity.certificate.display()))? {
            kubeconfig::Client::Embedded(embedded, its_key) => (certificate, key) = (embedded, its_key),
            kubeconfig::Client::Files(path, its_key) => {
                // Relative to the kubeconfig, as clientcmd has it.
                let beside = |path: PathBuf| identity.certificate.parent().map_or(path.clone(), |dir| dir.join(&path));
                (certificate, key) = (read(&beside(path))?, read(&beside(its_key))?);
            }
        }
    }
    let (pair, dates) = credentials::pair(&certificate, &key)
        .map_err(|error| format!("{}: {error}", identity.certificate.display()))?;
    let now = jiff::Timestamp::now();
    files.turn_at(dates, now);
    let trouble = dates.trouble(now);
    let trouble = trouble.map(|trouble| format!("the client certificate {} {trouble}", identity.certificate.display()));
    Ok(Presented { pair, trouble })
}

fn config(pair: Option<CertifiedKey>, trust: &Trust, alpn: &[u8], files: &mut Files) -> Result<ClientConfig, String> {
    let provider = Arc::clone(&PROVIDER);
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| format!("TLS cannot be set up: {error}"))?;
    let builder = match trust {
        Trust::Anyone => builder.dangerous().with_custom_certificate_verifier(Arc::new(Anyone(provider))),
        Trust::Authority(path) => builder.with_webpki_verifier(verifier(path, provider, files)?),
        Trust::AuthorityOnceValid(path) => {
            let verifier = OnceValid(verifier(path, provider, files)?);
            builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
        }
    };
    let mut config = match pair {
        Some(pair) => builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(pair))),
        None => builder.with_no_client_auth(),
    };
    // Every question is to be answered as a newcomer's would be.
    config.resumption = Resumption::disabled();
    if !alpn.is_empty() {
        config.alpn_protocols = vec![alpn.to_vec()];
    }
    Ok(config)
}

/// The authorities of a bundle.
pub(super) fn roots(path: &Path, files: &mut Files) -> Result<RootCertStore, String> {
    let pem = files.read(path, MAX_PEM).map_err(|fault| format!("{} {fault}", path.display()))?;
    let mut roots = RootCertStore::empty();
    let certificates = credentials::certificates(&pem).map_err(|error| format!("{} {error}", path.display()))?;
    roots.add_parsable_certificates(certificates);
    Ok(roots)
}

fn verifier(
    path: &Path,
    provider: Arc<CryptoProvider>,
    files: &mut Files,
) -> Result<Arc<WebPkiServerVerifier>, String> {
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(path, files)?), provider).build();
    verifier.map_err(|error| format!("{} contains no usable CA: {error}", path.display()))
}

/// Takes what the authorities signed, expired or not.
#[derive(Debug)]
struct OnceValid(Arc<WebPkiServerVerifier>);

impl ServerCertVerifier for OnceValid {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        credentials::even_expired(end_entity, now, |at| {
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at)
        })
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        self.0.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_verify_schemes()
    }
}

/// Takes any certificate whose holder proves to have its key.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls12_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        rustls::crypto::verify_tls13_signature(message, cert, dss, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// What is wrong with the dates of the certificate a server showed.
pub(super) fn trouble_of(peer: Option<&[CertificateDer<'_>]>) -> Option<String> {
    let dates = Dates::of(peer?.first()?)?;
    Some(format!("its certificate {}", dates.trouble(jiff::Timestamp::now())?))
}

/// What a TLS error means. `ours` is what is wrong with the certificate we came with.
///
/// A certificate of ours that the other side does not take says nothing about its health: whoever refuses us lives.
pub(super) fn meaning(error: &TlsError, target: &str, ours: Option<&str>) -> Reading {
    let bad = |kind, words: String| Reading::Bad(Symptom::new(kind, format!("{target}: {words}")));
    match error {
        TlsError::AlertReceived(alert) if is_about_our_certificate(*alert) => {
            let kind = if ours.is_some() || *alert == AlertDescription::CertificateExpired {
                SymptomKind::CertificateDates
            } else {
                SymptomKind::Tls
            };
            let because = ours.map(|ours| format!("; {ours}")).unwrap_or_default();
            Reading::CannotTell(Symptom::new(
                kind,
                format!("{target} rejects the client certificate ({alert:?}){because}"),
            ))
        }
        TlsError::InvalidCertificate(
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. },
        ) => bad(SymptomKind::CertificateDates, error.to_string()),
        _ => bad(SymptomKind::Tls, format!("the TLS handshake failed: {error}")),
    }
}

fn is_about_our_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as Alert;
    matches!(
        alert,
        Alert::NoCertificate
            | Alert::BadCertificate
            | Alert::UnsupportedCertificate
            | Alert::CertificateRevoked
            | Alert::CertificateExpired
            | Alert::CertificateUnknown
            | Alert::UnknownCA
            | Alert::AccessDenied
            | Alert::CertificateRequired
    )
}

/// The TLS error in a chain of causes; libraries wrap it in each other's errors, and io::Error hides it from `source`.
pub(super) fn innermost<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a TlsError> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref::<TlsError>() {
            return Some(found);
        }
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}
