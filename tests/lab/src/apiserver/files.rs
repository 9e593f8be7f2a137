//! Every file a flag names, opened and checked before anything is served; mistakes worded as the real program's.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::{
    RootCertStore,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    sign::CertifiedKey,
};

use super::documents;
use crate::flags::Given;

type Check = fn(&Path) -> Result<()>;

/// Checks all of them.
///
/// # Errors
/// The first that cannot be used, with its path.
pub fn check_all(given: &Given) -> Result<()> {
    for (certificate, key) in [
        ("tls-cert-file", "tls-private-key-file"),
        ("etcd-certfile", "etcd-keyfile"),
        ("kubelet-client-certificate", "kubelet-client-key"),
        ("proxy-client-cert-file", "proxy-client-key-file"),
    ] {
        if let (Some(certificate), Some(key)) = (given.text(certificate), given.text(key)) {
            pair(Path::new(certificate), Path::new(key))?;
        }
    }
    for flag in ["client-ca-file", "requestheader-client-ca-file", "etcd-cafile", "kubelet-certificate-authority"] {
        if let Some(path) = given.text(flag) {
            authorities(Path::new(path))?;
        }
    }
    for path in given.list("service-account-key-file") {
        public_key(Path::new(path))?;
    }
    if let Some(path) = given.text("service-account-signing-key-file") {
        read(Path::new(path)).context("failed to parse service-account-issuer-key-file")?;
        PrivateKeyDer::from_pem_file(path).map_err(|_| {
            anyhow!("failed to parse service-account-issuer-key-file: data does not contain a valid RSA or ECDSA private key")
        })?;
    }
    let documents: [(&str, Check); 7] = [
        ("audit-policy-file", documents::audit_policy),
        ("admission-control-config-file", documents::admission),
        ("encryption-provider-config", documents::encryption),
        ("authentication-config", documents::authentication),
        ("authorization-config", documents::authorization),
        ("egress-selector-config-file", documents::egress_selector),
        ("tracing-config-file", documents::tracing),
    ];
    for (flag, check) in documents {
        if let Some(path) = given.text(flag) {
            check(Path::new(path))?;
        }
    }
    for flag in
        ["audit-webhook-config-file", "authentication-token-webhook-config-file", "authorization-webhook-config-file"]
    {
        if let Some(path) = given.text(flag) {
            crate::election::kubeconfig::Kubeconfig::load(Path::new(path))?;
        }
    }
    if let Some(path) = given.text("audit-log-path").filter(|path| *path != "-") {
        audit_log(Path::new(path))?;
    }
    Ok(())
}

/// Reads a file; the error is Go's.
///
/// # Errors
/// It cannot be read.
pub fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).map_err(|why| anyhow!("open {}: {}", path.display(), go_words(&why)))
}

/// An I/O error in Go's words.
fn go_words(why: &std::io::Error) -> String {
    match why.raw_os_error().map(nix::errno::Errno::from_raw) {
        Some(errno) => errno.desc().to_lowercase(),
        None => why.to_string(),
    }
}

/// A certificate chain and a key that fit each other.
///
/// # Errors
/// Unreadable, not PEM, or they do not fit.
pub fn pair(certificate: &Path, key: &Path) -> Result<CertifiedKey> {
    let said = |what: &str| anyhow!("failed to load {} and {}: {what}", certificate.display(), key.display());
    read(certificate)?;
    read(key)?;
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| said("tls: failed to find any PEM data in certificate input"))?;
    if chain.is_empty() {
        return Err(said("tls: failed to find any PEM data in certificate input"));
    }
    let parsed =
        PrivateKeyDer::from_pem_file(key).map_err(|_| said("tls: failed to find any PEM data in key input"))?;
    let provider = aws_lc_rs::default_provider();
    CertifiedKey::from_der(chain, parsed, &provider).map_err(|why| match why {
        rustls::Error::InconsistentKeys(_) => said("tls: private key does not match public key"),
        other => said(&format!("tls: {other}")),
    })
}

/// A bundle of authorities.
///
/// # Errors
/// Unreadable or without a certificate.
pub fn authorities(path: &Path) -> Result<RootCertStore> {
    let bytes = read(path).with_context(|| format!("unable to load client CA provider: {}", path.display()))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|why| anyhow!("error reading {}: {why}", path.display()))?;
        roots.add(certificate).map_err(|why| anyhow!("error reading {}: {why}", path.display()))?;
    }
    if roots.is_empty() {
        bail!(
            "unable to load client CA provider: error reading {}: data does not contain any valid RSA or ECDSA certificates",
            path.display()
        );
    }
    Ok(roots)
}

/// A service-account key: public, private or inside a certificate.
fn public_key(path: &Path) -> Result<()> {
    let bytes = read(path).with_context(|| format!("failed to read service-account-key-file {}", path.display()))?;
    let text = String::from_utf8_lossy(&bytes);
    let known = ["PUBLIC KEY", "RSA PUBLIC KEY", "PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "CERTIFICATE"]
        .iter()
        .any(|label| {
            text.contains(&format!("-----BEGIN {label}-----")) && text.contains(&format!("-----END {label}-----"))
        });
    if known {
        return Ok(());
    }
    bail!("error reading public key file {}: data does not contain any valid RSA or ECDSA public keys", path.display())
}

/// The audit log is opened for writing at start, and made if it is not there.
fn audit_log(path: &Path) -> Result<()> {
    fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .map(drop)
        .map_err(|why| anyhow!("ensureLogFile: open {}: {}", path.display(), go_words(&why)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_file_is_told_as_go_tells_it() {
        let why = read(Path::new("/no/such/file")).expect_err("missing").to_string();
        assert_eq!(why, "open /no/such/file: no such file or directory");
    }

    #[test]
    fn a_key_must_fit_its_certificate() {
        let dir = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            fs::write(&path, text).expect("written");
            path
        };
        let mine = rcgen::generate_simple_self_signed(["a".to_owned()]).expect("generated");
        let other = rcgen::generate_simple_self_signed(["b".to_owned()]).expect("generated");
        let certificate = write("a.crt", &mine.cert.pem());
        let fitting = write("a.key", &mine.signing_key.serialize_pem());
        let foreign = write("b.key", &other.signing_key.serialize_pem());
        let torn = write("c.key", &mine.signing_key.serialize_pem()[..40]);
        assert!(pair(&certificate, &fitting).is_ok());
        let why = pair(&certificate, &foreign).expect_err("foreign").to_string();
        assert!(why.ends_with("tls: private key does not match public key"), "{why}");
        let why = pair(&certificate, &torn).expect_err("torn").to_string();
        assert!(why.ends_with("tls: failed to find any PEM data in key input"), "{why}");
        assert!(authorities(&certificate).is_ok());
        assert!(authorities(&fitting).is_err());
    }
}
