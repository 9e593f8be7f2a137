//! For tests: certificates as a cluster has them, made by openssl, a real etcd's binaries, and the paths of the
//! fixtures.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A recorded file of a real cluster.
pub(super) fn fixture(path: &str) -> Vec<u8> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/cluster").join(path);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A binary of a real etcd of this series (3.4, 3.5, or the newest), from where `tests/install` unpacks them:
/// `$LASTGOOD_LAB_CACHE`, or `lab/cache` in the build's target directory.
pub(crate) fn etcd_binary(series: &str, name: &str) -> PathBuf {
    installed(&format!("etcd/{series}/{name}"))
}

/// The series of Debian's unstable, where that held one when `tests/install` looked.
pub(crate) fn newest_etcd() -> Option<&'static str> {
    let version = std::fs::read_to_string(etcd_binary("newest", "version")).unwrap();
    println!("the newest etcd: {}", version.trim());
    version.starts_with(|first: char| first.is_ascii_digit()).then_some("newest")
}

/// What `tests/install` put into the lab's cache under this name.
pub(crate) fn installed(name: &str) -> PathBuf {
    let cache = std::env::var_os("LASTGOOD_LAB_CACHE").map(PathBuf::from);
    let built = std::env::current_exe().unwrap();
    let cache = cache.into_iter().chain(built.ancestors().map(|target| target.join("lab/cache")));
    let mut found = cache.map(|cache| cache.join(name));
    found.find(|path| path.exists()).unwrap_or_else(|| panic!("there is no {name}: run tests/install"))
}

fn openssl(dir: &Path, args: &[&str]) {
    let out = Command::new("openssl").args(args).current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(out.status.success(), "openssl {args:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// A directory with authorities and the certificates they signed.
pub(crate) struct Pki {
    dir: PathBuf,
}

impl Pki {
    /// With one authority, `ca`.
    pub(crate) fn new(dir: &Path) -> Self {
        let pki = Self { dir: dir.to_owned() };
        pki.authority("ca");
        pki
    }

    /// Makes another authority.
    pub(crate) fn authority(&self, name: &str) {
        let (key, cert, subject) = (format!("{name}.key"), format!("{name}.crt"), format!("/CN={name}"));
        openssl(
            &self.dir,
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &cert,
                "-subj",
                &subject,
                "-days",
                "10",
            ],
        );
    }

    /// Signs a certificate for server and client, for 127.0.0.1, valid for so many days (negative: expired).
    pub(crate) fn sign(&self, name: &str, authority: &str, days: i32) {
        let extensions = "subjectAltName=IP:127.0.0.1\nextendedKeyUsage=serverAuth,clientAuth\n";
        self.sign_with(name, authority, days, extensions);
    }

    /// The same with these extensions.
    pub(crate) fn sign_with(&self, name: &str, authority: &str, days: i32, extensions: &str) {
        let [csr, cert, ext] = self.request(name, extensions);
        let (ca, ca_key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let days = days.to_string();
        openssl(
            &self.dir,
            &[
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-out",
                &cert,
                "-days",
                &days,
                "-extfile",
                &ext,
            ],
        );
    }

    /// Signs one that was valid in the January of 2024.
    pub(crate) fn sign_expired(&self, name: &str, authority: &str, extensions: &str) {
        let [csr, cert, ext] = self.request(name, extensions);
        let (ca, ca_key) = (format!("{authority}.crt"), format!("{authority}.key"));
        let config = "[ca]\ndefault_ca = here\n[here]\ndatabase = index.txt\nnew_certs_dir = .\ndefault_md = sha256\n\
                      policy = any\nunique_subject = no\nserial = serial\nrand_serial = yes\n[any]\ncommonName = supplied\n";
        std::fs::write(self.dir.join("ca.cnf"), config).unwrap();
        std::fs::write(self.dir.join("index.txt"), "").unwrap();
        let words = format!(
            "ca -batch -notext -config ca.cnf -cert {ca} -keyfile {ca_key} -in {csr} -out {cert} -extfile {ext} \
             -startdate 20240101000000Z -enddate 20240201000000Z"
        );
        openssl(&self.dir, &words.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>());
    }

    /// A key, and the names of the request for its certificate, of the certificate and of the extensions.
    fn request(&self, name: &str, extensions: &str) -> [String; 3] {
        let (key, csr, subject) = (format!("{name}.key"), format!("{name}.csr"), format!("/CN={name}"));
        openssl(
            &self.dir,
            &[
                "req",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-keyout",
                &key,
                "-out",
                &csr,
                "-subj",
                &subject,
            ],
        );
        let ext = format!("{name}.ext");
        std::fs::write(self.dir.join(&ext), extensions).unwrap();
        [csr, format!("{name}.crt"), ext]
    }

    /// Where a file of it is.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.path(name)).unwrap()
    }
}

/// An answer a test server gives: its status and body.
pub(super) type Canned = (u16, &'static str);

/// A server on a loopback port that answers every request with what its function says of the path.
pub(super) struct Server {
    pub(super) port: u16,
    _task: tokio::task::JoinSet<()>,
}

impl Server {
    /// Over plain HTTP, or TLS with this configuration.
    pub(super) async fn start(tls: Option<rustls::ServerConfig>, answer: fn(&str) -> Canned) -> Self {
        use http_body_util::Full;
        use hyper::body::{Bytes, Incoming};
        use hyper::service::service_fn;
        use hyper::{Request, Response};
        use hyper_util::rt::TokioIo;

        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = tls.map(|config| tokio_rustls::TlsAcceptor::from(std::sync::Arc::new(config)));
        let mut task = tokio::task::JoinSet::new();
        task.spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let acceptor = acceptor.clone();
                connections.spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| async move {
                        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
                        let (status, body) = answer(path);
                        let body = Full::new(Bytes::from_static(body.as_bytes()));
                        Response::builder().status(status).body(body)
                    });
                    let http = hyper::server::conn::http1::Builder::new();
                    match acceptor {
                        Some(acceptor) => {
                            if let Ok(stream) = acceptor.accept(stream).await {
                                let _ = http.serve_connection(TokioIo::new(stream), service).await;
                            }
                        }
                        None => {
                            let _ = http.serve_connection(TokioIo::new(stream), service).await;
                        }
                    }
                });
            }
        });
        Self { port, _task: task }
    }
}

impl Pki {
    /// A server's side of TLS; with an authority, it wants clients' certificates signed by it.
    pub(crate) fn server(&self, name: &str, clients: Option<&str>) -> rustls::ServerConfig {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        use std::sync::Arc;

        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates = |name: &str| -> Vec<CertificateDer<'static>> {
            CertificateDer::pem_slice_iter(&self.read(name)).map(Result::unwrap).collect()
        };
        let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider));
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = rustls::RootCertStore::empty();
                roots.add_parsable_certificates(certificates(&format!("{authority}.crt")));
                let verifier = rustls::server::WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from_pem_slice(&self.read(&format!("{name}.key"))).unwrap();
        builder.with_single_cert(certificates(&format!("{name}.crt")), key).unwrap()
    }

    /// As whom a probe comes.
    pub(super) fn identity(&self, name: &str) -> crate::observe::probes::security::Identity {
        crate::observe::probes::security::Identity {
            certificate: self.path(&format!("{name}.crt")),
            key: self.path(&format!("{name}.key")),
        }
    }
}

impl Pki {
    /// The way to an etcd on this port of the loopback, as a client with this certificate, who takes any server.
    pub(crate) fn way(&self, port: u16, client: &str) -> super::EtcdEndpoint {
        use super::probes::connect::Address;
        use crate::observe::probes::security::{Security, Trust};
        let security = Security::Tls { identities: vec![self.identity(client)], trust: Trust::Anyone };
        super::EtcdEndpoint { address: Address { host: "127.0.0.1".into(), port }, security }
    }
}

/// A manifest file of a pod on the host's network, whose one container has this in it.
pub(super) fn manifest_file(name: &str, container: &str) -> std::sync::Arc<crate::model::observation::ManifestFile> {
    use crate::model::observation::{ManifestFile, Settled};
    let text = format!(
        "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, spec: {{hostNetwork: true, \
         containers: [{{name: {name}, image: '{name}:v1', {container}}}]}}}}"
    );
    let content = crate::model::Manifest::parse(text.as_bytes().into());
    std::sync::Arc::new(ManifestFile {
        name: format!("{name}.yaml"),
        content,
        closure: Vec::new(),
        digest: crate::model::Digest::of(text.as_bytes()),
        changed: jiff::Timestamp::UNIX_EPOCH,
        uid: 0,
        settled: Settled::Yes,
    })
}
