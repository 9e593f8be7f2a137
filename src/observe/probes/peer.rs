//! How the etcd of this node meets its peers, and one question to an agent next to another member: with etcd's own peer
//! certificates, at the host of its peer URL.
//!
//! The server's side of TLS is read here as well; who may ask is for the room that answers.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustls::RootCertStore;
use rustls::crypto::CryptoProvider;
use rustls::sign::CertifiedKey;
use tokio::time::{Instant, timeout};

use super::connect::{self, Address};
use super::files::Files;
use super::http::{self, Get};
use super::plan::{flag_identity, flag_path};
use super::security::{Identity, Security, Trust};
use super::tls;
use super::url::Url;
use crate::model::etcd::Member;
use crate::model::{Manifest, Symptom};

/// For the system's resolver: what it does not know in this time is taken from what is known.
const RESOLVE: Duration = Duration::from_secs(1);
/// Peer URLs of one member that are asked: a host with several networks has two.
const MOST_URLS: usize = 4;

/// How an etcd meets its peers, by its manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peering {
    /// The addresses of `--listen-peer-urls`, without those that an unspecified one contains.
    pub listens: BTreeSet<IpAddr>,
    /// Its certificates there; a sentence where there are none that others could be known by.
    pub security: Result<PeerSecurity, String>,
}

/// The certificates of an etcd among its peers, as paths on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerSecurity {
    /// `--peer-cert-file` and its key.
    server: Identity,
    /// `--peer-client-cert-file` and its key, or the same.
    client: Identity,
    /// `--peer-trusted-ca-file`.
    authority: PathBuf,
    /// `--peer-cert-allowed-cn`: one of these, where there are any.
    pub allowed_cn: Vec<String>,
    /// `--peer-cert-allowed-hostname`.
    pub allowed_hostname: Vec<String>,
}

impl Peering {
    /// Reads its flags.
    pub fn of(manifest: &Manifest) -> Self {
        let urls = manifest.flag("listen-peer-urls").unwrap_or_else(|| "http://localhost:2380".to_owned());
        let bound: Vec<_> = urls.split(',').filter_map(Url::bound).collect();
        let mut listens: BTreeSet<IpAddr> = bound.iter().filter_map(|(_, address)| *address).collect();
        // One socket of every IPv6 address takes IPv4 as well.
        let every = |ip: &IpAddr| ip.is_unspecified();
        if listens.iter().any(|ip| every(ip) && ip.is_ipv6()) {
            listens.retain(|ip| every(ip) && ip.is_ipv6());
        } else if listens.iter().any(every) {
            listens.retain(|ip| every(ip) || ip.is_ipv6());
        }
        let security = if bound.iter().any(|(https, _)| *https) {
            PeerSecurity::of(manifest)
        } else {
            Err("--listen-peer-urls of etcd has no https:// URL".to_owned())
        };
        Self { listens, security }
    }
}

impl PeerSecurity {
    fn of(manifest: &Manifest) -> Result<Self, String> {
        let flag = |name: &str| manifest.flag(name).filter(|value| !value.is_empty());
        let pair = |certificate: &str, key: &str| {
            flag(certificate).and(flag(key)).and_then(|_| flag_identity(manifest, certificate, key))
        };
        let lacks = |names: &str| {
            let auto = manifest.flag("peer-auto-tls").is_some_and(|on| on != "false");
            let auto = if auto { ", and --peer-auto-tls makes certificates that no CA signs" } else { "" };
            format!("the manifest of etcd has no {names}{auto}")
        };
        let server =
            pair("peer-cert-file", "peer-key-file").ok_or_else(|| lacks("--peer-cert-file and --peer-key-file"))?;
        let authority = flag("peer-trusted-ca-file").and_then(|_| flag_path(manifest, "peer-trusted-ca-file"));
        let list = |name: &str| -> Vec<String> {
            let all = flag(name).unwrap_or_default();
            all.split(',').map(str::trim).filter(|one| !one.is_empty()).map(str::to_owned).collect()
        };
        Ok(Self {
            client: pair("peer-client-cert-file", "peer-client-key-file").unwrap_or_else(|| server.clone()),
            server,
            authority: authority.ok_or_else(|| lacks("--peer-trusted-ca-file"))?,
            allowed_cn: list("peer-cert-allowed-cn"),
            allowed_hostname: list("peer-cert-allowed-hostname"),
        })
    }
}

/// What the server's side of TLS is made of, as its files were read.
#[derive(Debug)]
pub struct PeerFiles {
    pub pair: CertifiedKey,
    pub roots: RootCertStore,
    pub provider: Arc<CryptoProvider>,
    files: Files,
    settled: bool,
}

impl PeerFiles {
    /// Reads them. Blocks on the disk.
    ///
    /// # Errors
    /// A sentence that names the file.
    pub fn read(security: &PeerSecurity) -> Result<Self, String> {
        let mut files = Files::default();
        let pair = tls::read(&security.server, &mut files)?.pair;
        let roots = tls::roots(&security.authority, &mut files)?;
        let settled = files.are_settled(jiff::Timestamp::now());
        Ok(Self { pair, roots, provider: Arc::clone(&tls::PROVIDER), files, settled })
    }

    /// Whether the files are still the same. Blocks on the disk.
    pub fn are_current(&self) -> bool {
        self.settled && self.files.are_the_same(jiff::Timestamp::now())
    }
}

/// The hosts of a member's peer URLs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerUrls {
    /// Those with TLS, without brackets.
    pub hosts: Vec<String>,
    /// The first of all, for people.
    pub shown: String,
}

impl PeerUrls {
    pub fn of(member: &Member) -> Self {
        let urls: Vec<Url> = member.peer_urls.iter().filter_map(|url| Url::parse(url)).take(MOST_URLS).collect();
        let secure = urls.iter().filter(|url| url.https).map(|url| url.address.bare().to_owned());
        let mut hosts: Vec<String> = secure.collect();
        hosts.dedup();
        let shown = urls.first().map_or_else(|| "-".to_owned(), |url| url.address.bare().to_owned());
        Self { hosts, shown }
    }
}

/// The addresses of hosts, as they were resolved last: a name server may be down when a master is asked.
#[derive(Clone, Debug, Default)]
pub struct KnownAddresses(Arc<Mutex<BTreeMap<String, Vec<IpAddr>>>>);

impl KnownAddresses {
    async fn resolve(self, address: Address) -> io::Result<Vec<SocketAddr>> {
        let found = timeout(RESOLVE, connect::resolve(&address)).await;
        let found =
            found.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::NotFound, "the name server does not answer")));
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match found {
            Ok(found) if !found.is_empty() => {
                known.insert(address.bare().to_owned(), found.iter().map(SocketAddr::ip).collect());
                Ok(found)
            }
            found => match known.get(address.bare()) {
                Some(before) => Ok(before.iter().map(|ip| (*ip, address.port).into()).collect()),
                None => found,
            },
        }
    }

    /// Forgets every host but these.
    pub fn retain(&self, hosts: &BTreeSet<String>) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).retain(|host, _| hosts.contains(host));
    }
}

/// What was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerAnswer {
    /// The status of HTTP.
    pub status: u16,
    pub body: Vec<u8>,
    /// What is wrong with the dates of the certificate that was shown.
    pub certificate: Option<String>,
}

/// Asks an agent next to another member once. Its certificate has to be of etcd's peer CA and for this host; it may have
/// expired. No more than `most` bytes are read.
///
/// # Errors
/// Why there is no answer.
pub async fn ask_peer(
    security: &PeerSecurity,
    known: &KnownAddresses,
    (host, port): (&str, u16),
    path: &str,
    most: usize,
    within: Duration,
) -> Result<PeerAnswer, Symptom> {
    let deadline = Instant::now() + within;
    let address = Address { host: host.to_owned(), port };
    let trust = Trust::AuthorityOnceValid(security.authority.clone());
    let secured = Security::Tls { identities: vec![security.client.clone()], trust };
    let addresses = known.clone().resolve(address.clone());
    let connection = connect::connect_to(&address, addresses, &secured, b"", deadline).await?;
    let get = Get { address, security: secured, path: path.to_owned(), headers: Vec::new(), max_body: most };
    let answer = http::get_over(connection, &get, deadline).await?;
    Ok(PeerAnswer { status: answer.status, body: answer.body.to_vec(), certificate: answer.certificate })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(flags: &str) -> Manifest {
        let text = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec: {{volumes: [{{name: v, \
             hostPath: {{path: /host/pki}}}}], containers: [{{name: etcd, image: i, volumeMounts: [{{name: v, mountPath: /pki}}], \
             command: [etcd, {flags}]}}]}}"
        );
        Manifest::parse(text.as_bytes().into()).unwrap()
    }

    const FILES: &str =
        "--peer-cert-file=/pki/peer.crt, --peer-key-file=/pki/peer.key, --peer-trusted-ca-file=/pki/ca.crt";

    #[test]
    fn the_addresses_of_listen_peer_urls_are_bound_each_once() {
        let rows: [(&str, &[&str]); 6] = [
            ("https://10.0.0.1:2380", &["10.0.0.1"]),
            ("https://127.0.0.1:2380,https://10.0.0.1:2380", &["10.0.0.1", "127.0.0.1"]),
            ("https://0.0.0.0:2380,https://10.0.0.1:2381", &["0.0.0.0"]),
            ("https://[::]:2380,https://10.0.0.1:2381,https://[fd00::1]:2382", &["::"]),
            ("https://[fd00::1]:2380,https://0.0.0.0:2380", &["0.0.0.0", "fd00::1"]),
            ("https://localhost:2380,https://m1.example:2380,nonsense", &["127.0.0.1"]),
        ];
        for (urls, bound) in rows {
            let peering = Peering::of(&manifest(&format!("{FILES}, '--listen-peer-urls={urls}'")));
            let listens: Vec<String> = peering.listens.iter().map(ToString::to_string).collect();
            assert_eq!(listens, bound, "{urls}");
            assert!(peering.security.is_ok(), "{urls}");
        }
    }

    #[test]
    fn the_certificates_are_those_of_the_flags_and_what_is_missing_is_named() {
        let https = "--listen-peer-urls=https://10.0.0.1:2380";
        let security = Peering::of(&manifest(&format!("{FILES}, {https}"))).security.unwrap();
        assert_eq!(security.server.certificate, PathBuf::from("/host/pki/peer.crt"));
        assert_eq!((&security.client, security.authority.as_path()), (&security.server, "/host/pki/ca.crt".as_ref()));
        assert!(security.allowed_cn.is_empty() && security.allowed_hostname.is_empty());

        let more = "--peer-client-cert-file=/pki/c.crt, --peer-client-key-file=/pki/c.key, \
                    '--peer-cert-allowed-cn=etcd-peer,other', --peer-cert-allowed-hostname=m.example";
        let security = Peering::of(&manifest(&format!("{FILES}, {https}, {more}"))).security.unwrap();
        assert_eq!(security.client.key, PathBuf::from("/host/pki/c.key"));
        assert_eq!(security.allowed_cn, ["etcd-peer", "other"]);
        assert_eq!(security.allowed_hostname, ["m.example"]);

        for (flags, named) in [
            ("--listen-peer-urls=http://10.0.0.1:2380", "https://"),
            ("--peer-auto-tls, --listen-peer-urls=https://10.0.0.1:2380", "--peer-auto-tls"),
            (
                "--peer-cert-file=/pki/p.crt, --peer-key-file=/pki/p.key, --listen-peer-urls=https://10.0.0.1:2380",
                "--peer-trusted-ca-file",
            ),
        ] {
            let why = Peering::of(&manifest(flags)).security.unwrap_err();
            assert!(why.contains(named), "{flags}: {why}");
        }
    }

    #[test]
    fn a_member_is_asked_at_the_hosts_of_its_peer_urls_that_have_tls() {
        let member = |urls: &[&str]| Member {
            id: 1,
            name: "m1".into(),
            peer_urls: urls.iter().map(|url| (*url).to_owned()).collect(),
            client_urls: Vec::new(),
            learner: false,
        };
        let urls =
            PeerUrls::of(&member(&["https://[fd00::1]:2380", "https://m1.example:2380", "http://10.0.0.1:2380"]));
        assert_eq!(urls, PeerUrls { hosts: vec!["fd00::1".into(), "m1.example".into()], shown: "fd00::1".into() });
        assert_eq!(
            PeerUrls::of(&member(&["http://10.0.0.1:2380"])),
            PeerUrls { hosts: vec![], shown: "10.0.0.1".into() }
        );
        assert_eq!(PeerUrls::of(&member(&[])).shown, "-");
        assert_eq!(PeerUrls::of(&member(&["https://10.0.0.1:2380"; 40])).hosts.len(), 1);
    }

    #[tokio::test]
    async fn a_name_that_does_not_resolve_any_more_is_dialled_at_the_addresses_known_last() {
        let known = KnownAddresses::default();
        let name = Address { host: "m2.invalid".into(), port: 2384 };
        assert!(known.clone().resolve(name.clone()).await.is_err());
        known.0.lock().unwrap().insert("m2.invalid".into(), vec![[192, 0, 2, 2].into()]);
        assert_eq!(known.clone().resolve(name.clone()).await.unwrap(), [([192, 0, 2, 2], 2384).into()]);
        known.retain(&BTreeSet::new());
        assert!(known.resolve(name).await.is_err());
    }
}
