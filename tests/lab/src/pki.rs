//! Certificates as `kubeadm init` leaves them in /etc/kubernetes: three authorities, their leaves, the service-account
//! key, and kubeconfigs with everything embedded.
//!
//! ```text
//! pki/ca ── apiserver, apiserver-kubelet-client, and the clients in *.conf
//! pki/etcd/ca ── etcd/server, etcd/peer, etcd/healthcheck-client, apiserver-etcd-client
//! pki/front-proxy-ca ── front-proxy-client
//! pki/sa.key, sa.pub
//! ```
//!
//! RSA 2048 and `RSA PRIVATE KEY` blocks (PKCS#1) because that is kubeadm's default, and what reads our nodes' keys
//! must read those.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize, SanType, date_time_ymd,
};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;

/// A certificate with its key, both as PEM.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate, one block.
    pub cert: String,
    /// The private key, `RSA PRIVATE KEY`.
    pub key: String,
}

/// A certificate authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Pair,
}

/// What a leaf is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Usage {
    /// Answers TLS.
    Server,
    /// Shows itself to a server.
    Client,
    /// Both, as etcd's members do.
    Both,
}

/// Days a leaf is valid; kubeadm's default.
pub const LEAF_DAYS: i64 = 365;
/// Days an authority is valid; kubeadm's default (ten years less the leap days).
pub const AUTHORITY_DAYS: i64 = 3650;

impl Authority {
    /// A new self-signed authority, valid from yesterday.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new(common_name: &str) -> Result<Self> {
        let key = rsa_key()?;
        let mut params = CertificateParams::new(vec![common_name.to_owned()])?;
        params.distinguished_name = subject(common_name, None);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
        validity(&mut params, -1, AUTHORITY_DAYS)?;
        let pair = Pair { cert: params.self_signed(&key)?.pem(), key: pkcs1_pem(&key)? };
        Ok(Self { issuer: Issuer::new(params, key), pair })
    }

    /// The authority that lies in `PATH.crt` and `PATH.key`.
    ///
    /// # Errors
    /// When they cannot be read.
    pub fn load(path: &Path) -> Result<Self> {
        let read = |ending: &str| {
            let file = path.with_extension(ending);
            fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))
        };
        let pair = Pair { cert: read("crt")?, key: read("key")? };
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).context("cannot read an authority's key")?;
        let key = KeyPair::try_from(&key).context("cannot use an authority's key")?;
        Ok(Self { issuer: Issuer::from_ca_cert_pem(&pair.cert, key)?, pair })
    }

    /// The authority's own certificate and key.
    pub fn pair(&self) -> &Pair {
        &self.pair
    }

    /// A leaf, valid from yesterday for [`LEAF_DAYS`].
    ///
    /// # Errors
    /// When the key cannot be made or a name is not one.
    pub fn leaf(&self, name: &str, organization: Option<&str>, usage: Usage, sans: &[San<'_>]) -> Result<Pair> {
        self.leaf_valid(name, organization, usage, sans, -1..LEAF_DAYS)
    }

    /// A leaf with a validity of one's own, in days from today; for certificates that have expired or soon will.
    ///
    /// # Errors
    /// As [`Authority::leaf`].
    pub fn leaf_valid(
        &self,
        name: &str,
        organization: Option<&str>,
        usage: Usage,
        sans: &[San<'_>],
        days: std::ops::Range<i64>,
    ) -> Result<Pair> {
        let key = rsa_key()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = subject(name, organization);
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages = match usage {
            Usage::Server => vec![ExtendedKeyUsagePurpose::ServerAuth],
            Usage::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
            Usage::Both => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        };
        params.use_authority_key_identifier_extension = true;
        params.subject_alt_names = sans
            .iter()
            .map(|san| {
                Ok(match san {
                    San::Name(name) => SanType::DnsName((*name).try_into()?),
                    San::Address(address) => SanType::IpAddress(*address),
                })
            })
            .collect::<Result<_>>()?;
        validity(&mut params, days.start, days.end)?;
        Ok(Pair { cert: params.signed_by(&key, &self.issuer)?.pem(), key: pkcs1_pem(&key)? })
    }
}

/// A subject alternative name.
#[derive(Debug, Clone, Copy)]
pub enum San<'a> {
    /// A DNS name.
    Name(&'a str),
    /// An address.
    Address(IpAddr),
}

/// Where the API server is, as the node's kubeconfigs name it.
pub const API_SERVER: &str = "https://127.0.0.1:6443";

/// Writes everything below `dir`, which stands for /etc/kubernetes of the node `node` (127.0.0.1).
///
/// # Errors
/// When a key cannot be made or a file not written.
pub fn write(dir: &Path, node: &str) -> Result<()> {
    let loopback = San::Address(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let loopback6 = San::Address(IpAddr::V6(Ipv6Addr::LOCALHOST));
    let service = San::Address(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 1)));
    let pki = dir.join("pki");
    fs::create_dir_all(pki.join("etcd")).with_context(|| format!("cannot make {}", pki.display()))?;
    let put = |name: &str, pair: &Pair| -> Result<()> {
        file(&pki.join(format!("{name}.crt")), &pair.cert, 0o644)?;
        file(&pki.join(format!("{name}.key")), &pair.key, 0o600)
    };

    let ca = Authority::new("kubernetes")?;
    put("ca", ca.pair())?;
    let names = [
        San::Name("kubernetes"),
        San::Name("kubernetes.default"),
        San::Name("kubernetes.default.svc"),
        San::Name("kubernetes.default.svc.cluster.local"),
        San::Name("localhost"),
        San::Name(node),
        service,
        loopback,
    ];
    put("apiserver", &ca.leaf("kube-apiserver", None, Usage::Server, &names)?)?;
    let to_kubelet = ca.leaf("kube-apiserver-kubelet-client", Some("kubeadm:cluster-admins"), Usage::Client, &[])?;
    put("apiserver-kubelet-client", &to_kubelet)?;

    let etcd = Authority::new("etcd-ca")?;
    put("etcd/ca", etcd.pair())?;
    let member = [San::Name("localhost"), San::Name(node), loopback, loopback6];
    put("etcd/server", &etcd.leaf(node, None, Usage::Both, &member)?)?;
    put("etcd/peer", &etcd.leaf(node, None, Usage::Both, &member)?)?;
    put("etcd/healthcheck-client", &etcd.leaf("kube-etcd-healthcheck-client", None, Usage::Client, &[])?)?;
    put("apiserver-etcd-client", &etcd.leaf("kube-apiserver-etcd-client", None, Usage::Client, &[])?)?;

    let front = Authority::new("front-proxy-ca")?;
    put("front-proxy-ca", front.pair())?;
    put("front-proxy-client", &front.leaf("front-proxy-client", None, Usage::Client, &[])?)?;

    let sa = rsa_key()?;
    file(&pki.join("sa.key"), &pkcs1_pem(&sa)?, 0o600)?;
    file(&pki.join("sa.pub"), &sa.public_key_pem(), 0o600)?;

    kubeconfigs(dir, &ca, node)
}

/// Writes what `kubeadm init phase kubeconfig all` writes for the node `node`.
///
/// # Errors
/// When a key or a file cannot be made.
pub fn kubeconfigs(dir: &Path, ca: &Authority, node: &str) -> Result<()> {
    // (file, user in the kubeconfig, common name, organization): kubeadm's kubeconfig.go.
    let node_user = format!("system:node:{node}");
    let users = [
        ("admin.conf", "kubernetes-admin", "kubernetes-admin", Some("kubeadm:cluster-admins")),
        ("super-admin.conf", "kubernetes-super-admin", "kubernetes-super-admin", Some("system:masters")),
        ("controller-manager.conf", "system:kube-controller-manager", "system:kube-controller-manager", None),
        ("scheduler.conf", "system:kube-scheduler", "system:kube-scheduler", None),
        ("kubelet.conf", node_user.as_str(), node_user.as_str(), Some("system:nodes")),
    ];
    for (name, user, common_name, organization) in users {
        let client = ca.leaf(common_name, organization, Usage::Client, &[])?;
        file(&dir.join(name), &kubeconfig(&ca.pair().cert, user, &client), 0o600)?;
    }
    Ok(())
}

/// A kubeconfig as kubeadm writes it, for [`API_SERVER`].
pub fn kubeconfig(ca: &str, user: &str, client: &Pair) -> String {
    let (ca, cert, key) = (STANDARD.encode(ca), STANDARD.encode(&client.cert), STANDARD.encode(&client.key));
    format!(
        "apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: {ca}
    server: {API_SERVER}
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: {user}
  name: {user}@kubernetes
current-context: {user}@kubernetes
kind: Config
preferences: {{}}
users:
- name: {user}
  user:
    client-certificate-data: {cert}
    client-key-data: {key}
"
    )
}

fn file(path: &Path, content: &str, mode: u32) -> Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot set the mode of {}", path.display()))
}

fn rsa_key() -> Result<KeyPair> {
    KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).context("cannot make an RSA key")
}

fn subject(common_name: &str, organization: Option<&str>) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    if let Some(organization) = organization {
        name.push(DnType::OrganizationName, organization);
    }
    name.push(DnType::CommonName, common_name);
    name
}

fn validity(params: &mut CertificateParams, from_days: i64, to_days: i64) -> Result<()> {
    let today = jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date();
    let at = |days: i64| -> Result<_> {
        let date = today.checked_add(jiff::Span::new().try_days(days)?)?;
        Ok(date_time_ymd(date.year().into(), date.month().unsigned_abs(), date.day().unsigned_abs()))
    };
    params.not_before = at(from_days)?;
    params.not_after = at(to_days)?;
    Ok(())
}

/// The key as PKCS#1 PEM: rcgen hands out PKCS#8, which wraps PKCS#1 in
/// `SEQUENCE { INTEGER, SEQUENCE algorithm, OCTET STRING pkcs1 }`.
fn pkcs1_pem(key: &KeyPair) -> Result<String> {
    let der = key.serialized_der();
    let (tag, body, _) = element(der).context("the key is not DER")?;
    if tag != 0x30 {
        bail!("the key is no DER sequence");
    }
    let mut rest = body;
    while let Some((tag, body, after)) = element(rest) {
        if tag == 0x04 {
            return Ok(pem("RSA PRIVATE KEY", body));
        }
        rest = after;
    }
    bail!("the key holds no PKCS#1 part")
}

/// The first DER element: tag, content, what follows.
fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = der.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (len, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        let bytes = rest.get(..usize::from(first & 0x7f))?;
        let len = bytes.iter().fold(0usize, |len, b| len << 8 | usize::from(*b));
        (len, &rest[bytes.len()..])
    };
    Some((tag, rest.get(..len)?, rest.get(len..)?))
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    // 64 columns, as RFC 7468 has it; base64 is ASCII, so any cut is on a character.
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + &format!("-----END {label}-----\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::Command;

    /// OpenSSL is the second opinion: it neither shares our code nor rcgen's.
    fn openssl(args: &[&str]) -> (bool, String) {
        let out = Command::new("openssl").args(args).output().expect("openssl runs");
        (
            out.status.success(),
            String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr),
        )
    }

    #[test]
    fn every_leaf_is_accepted_by_its_authority_and_no_other() {
        let dir = tempfile::tempdir().expect("a temp directory");
        write(dir.path(), "master-1").expect("written");
        let path = |name: &str| dir.path().join("pki").join(name).to_string_lossy().into_owned();
        let leaves = [
            ("ca", "apiserver", "sslserver"),
            ("ca", "apiserver-kubelet-client", "sslclient"),
            ("etcd/ca", "etcd/server", "sslserver"),
            ("etcd/ca", "etcd/peer", "sslclient"),
            ("etcd/ca", "etcd/healthcheck-client", "sslclient"),
            ("etcd/ca", "apiserver-etcd-client", "sslclient"),
            ("front-proxy-ca", "front-proxy-client", "sslclient"),
        ];
        for (ca, leaf, purpose) in leaves {
            let (ca_file, leaf_file) = (path(&format!("{ca}.crt")), path(&format!("{leaf}.crt")));
            let (ok, said) = openssl(&["verify", "-purpose", purpose, "-CAfile", &ca_file, &leaf_file]);
            assert!(ok, "{leaf}: {said}");
            let other = path(if ca == "ca" { "etcd/ca.crt" } else { "ca.crt" });
            assert!(
                !openssl(&["verify", "-CAfile", &other, &leaf_file]).0,
                "{leaf} verifies under a foreign authority"
            );
        }
        let (_, text) = openssl(&["x509", "-in", &path("apiserver.crt"), "-noout", "-ext", "subjectAltName"]);
        for name in ["DNS:kubernetes.default.svc", "DNS:master-1", "IP Address:127.0.0.1", "IP Address:10.96.0.1"] {
            assert!(text.contains(name), "{name} is not in {text}");
        }
    }

    #[test]
    fn keys_are_pkcs1_and_private() {
        let dir = tempfile::tempdir().expect("a temp directory");
        let path = dir.path().join("key");
        let leaf = Authority::new("ca").and_then(|ca| ca.leaf("x", None, Usage::Client, &[])).expect("a leaf");
        file(&path, &leaf.key, 0o600).expect("written");
        assert!(leaf.key.starts_with("-----BEGIN RSA PRIVATE KEY-----"), "{}", leaf.key);
        let (ok, said) = openssl(&["rsa", "-check", "-noout", "-in", &path.to_string_lossy()]);
        assert!(ok, "{said}");
    }

    #[test]
    fn a_certificate_can_be_born_expired() {
        let ca = Authority::new("ca").expect("an authority");
        let leaf = ca.leaf_valid("x", None, Usage::Client, &[], -20..-10).expect("a leaf");
        let (_, pem) = x509_parser::pem::parse_x509_pem(leaf.cert.as_bytes()).expect("PEM");
        assert!(!pem.parse_x509().expect("X.509").validity().is_valid());
    }
}
