//! Flags and configuration file as kubeadm's unit passes them, plus the lab's own switches.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Parser;
use serde::Deserialize;

use super::scale::Scale;

/// A kubelet for the lab: static pods through the CRI, as a real one was measured to run them.
#[derive(Debug, Parser)]
#[command(name = "kubelet", version)]
pub struct Flags {
    /// KubeletConfiguration
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Drop-ins over the configuration: *.conf, in alphabetical order
    #[arg(long, value_name = "DIR")]
    pub config_dir: Option<PathBuf>,
    /// How to reach the API server; without it the kubelet stands alone
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Used by kubeadm join; accepted, but a missing --kubeconfig file stays an error
    #[arg(long, value_name = "FILE")]
    pub bootstrap_kubeconfig: Option<PathBuf>,
    /// The container runtime's socket; wins over the configuration file
    #[arg(long, value_name = "URL")]
    pub container_runtime_endpoint: Option<String>,
    /// Address shown in the pods' status
    #[arg(long, value_name = "IP")]
    pub node_ip: Option<IpAddr>,
    /// Accepted for kubeadm's sake: containerd's own configuration names the pause image
    #[arg(long, value_name = "IMAGE")]
    pub pod_infra_container_image: Option<String>,
    /// Node name, in place of the host's
    #[arg(long, value_name = "NAME")]
    pub hostname_override: Option<String>,
    /// The kubelet's own files
    #[arg(long, value_name = "DIR", default_value = "/var/lib/kubelet")]
    pub root_dir: PathBuf,
    /// Log verbosity: 4 and above also logs what nobody asked for
    #[arg(short, long, default_value_t = 2)]
    pub v: u8,
    /// Lab only: factor on every wait of the kubelet's own
    #[arg(long, env = "LAB_SCALE", default_value = "1")]
    pub lab_scale: Scale,
    /// Lab only: the cgroup below which the pods' cgroups are made, as a path in every hierarchy
    #[arg(long, env = "LAB_CGROUP_PARENT", value_name = "PATH")]
    pub lab_cgroup_parent: Option<String>,
}

/// The fields of KubeletConfiguration that matter to static pods. Unknown ones are accepted: kubeadm writes many.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Configuration {
    static_pod_path: Option<PathBuf>,
    file_check_frequency: Option<String>,
    healthz_bind_address: Option<IpAddr>,
    healthz_port: Option<u16>,
    address: Option<IpAddr>,
    port: Option<u16>,
    authentication: Authentication,
    authorization: Authorization,
    tls_cert_file: Option<PathBuf>,
    tls_private_key_file: Option<PathBuf>,
    container_runtime_endpoint: Option<String>,
    pod_logs_dir: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Authentication {
    anonymous: Enabled,
    x509: X509,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Enabled {
    enabled: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct X509 {
    #[serde(rename = "clientCAFile")]
    client_ca_file: Option<PathBuf>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Authorization {
    mode: Option<String>,
}

/// Who may ask on 10250 without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// Nobody: 401.
    Refused,
    /// Anybody, as `system:anonymous`.
    Allowed,
}

/// How 10250 decides what an authenticated user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthorizationMode {
    /// SubjectAccessReview at the API server (kubeadm's default).
    Webhook,
    /// Everything.
    AlwaysAllow,
}

/// The server's certificate and key.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// PEM certificate chain.
    pub certificate: PathBuf,
    /// PEM private key.
    pub key: PathBuf,
}

/// Flags and files, merged and checked.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The node's name, lower case.
    pub node: String,
    /// Address in the pods' status.
    pub node_ip: IpAddr,
    /// The manifest directory; none: no static pods.
    pub static_pod_path: Option<PathBuf>,
    /// Time between two full scans of it, true to life.
    pub file_check: Duration,
    /// Where /healthz listens.
    pub healthz: Option<SocketAddr>,
    /// Where /pods listens.
    pub server: Option<SocketAddr>,
    /// CA of the clients of /pods.
    pub client_ca: Option<PathBuf>,
    /// What happens to clients without a certificate.
    pub anonymous: Anonymous,
    /// What happens to clients with one.
    pub authorization: AuthorizationMode,
    /// Serving certificate; none: self-signed at each start.
    pub tls: Option<TlsFiles>,
    /// The runtime's Unix socket.
    pub runtime_socket: PathBuf,
    /// The API server's kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The kubelet's own directory.
    pub root_dir: PathBuf,
    /// Directory of the pods' logs.
    pub pod_logs: PathBuf,
    /// Factor on own waits.
    pub scale: Scale,
    /// Parent of the pods' cgroups.
    pub cgroup_parent: Option<String>,
}

impl Settings {
    /// Reads the files that `flags` name.
    ///
    /// # Errors
    /// An unreadable or unparsable file, or a value of the wrong form, by name.
    pub fn load(flags: Flags) -> Result<Self> {
        let configuration = configuration(flags.config.as_deref(), flags.config_dir.as_deref())?;
        let endpoint = flags
            .container_runtime_endpoint
            .or(configuration.container_runtime_endpoint)
            .unwrap_or_else(|| "unix:///run/containerd/containerd.sock".into());
        let node = match flags.hostname_override {
            Some(name) => name,
            None => nix::unistd::gethostname().context("reading the host's name")?.to_string_lossy().into_owned(),
        };
        let node = node.trim().to_lowercase();
        if node.is_empty() {
            bail!("the node has no name; give --hostname-override");
        }
        let address =
            |ip: Option<IpAddr>, fallback: Ipv4Addr, port: Option<u16>, usual: u16| match port.unwrap_or(usual) {
                0 => None,
                port => Some(SocketAddr::new(ip.unwrap_or(IpAddr::V4(fallback)), port)),
            };
        let file_check = match configuration.file_check_frequency.as_deref() {
            None | Some("0s" | "0") => Duration::from_secs(20),
            Some(text) => go_duration(text).with_context(|| format!("fileCheckFrequency: {text:?}"))?,
        };
        Ok(Self {
            node,
            node_ip: flags.node_ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            static_pod_path: configuration.static_pod_path,
            file_check,
            healthz: address(
                configuration.healthz_bind_address,
                Ipv4Addr::LOCALHOST,
                configuration.healthz_port,
                10248,
            ),
            server: address(configuration.address, Ipv4Addr::UNSPECIFIED, configuration.port, 10250),
            client_ca: configuration.authentication.x509.client_ca_file,
            anonymous: match configuration.authentication.anonymous.enabled {
                Some(true) => Anonymous::Allowed,
                _ => Anonymous::Refused,
            },
            authorization: match configuration.authorization.mode.as_deref() {
                None | Some("" | "Webhook") => AuthorizationMode::Webhook,
                Some("AlwaysAllow") => AuthorizationMode::AlwaysAllow,
                Some(other) => bail!("authorization.mode {other:?} is neither Webhook nor AlwaysAllow"),
            },
            tls: match (configuration.tls_cert_file, configuration.tls_private_key_file) {
                (Some(certificate), Some(key)) => Some(TlsFiles { certificate, key }),
                (None, None) => None,
                _ => bail!("tlsCertFile and tlsPrivateKeyFile must be given together"),
            },
            runtime_socket: PathBuf::from(endpoint.strip_prefix("unix://").unwrap_or(&endpoint)),
            kubeconfig: flags.kubeconfig,
            root_dir: flags.root_dir,
            pod_logs: configuration.pod_logs_dir.unwrap_or_else(|| "/var/log/pods".into()),
            scale: flags.lab_scale,
            cgroup_parent: flags.lab_cgroup_parent,
        })
    }
}

/// The configuration file with the drop-ins laid over it, field by field.
fn configuration(file: Option<&Path>, drop_ins: Option<&Path>) -> Result<Configuration> {
    let mut merged = serde_yaml::Value::Null;
    let mut files: Vec<PathBuf> = file.map(Path::to_owned).into_iter().collect();
    if let Some(dir) = drop_ins {
        let entries = std::fs::read_dir(dir).with_context(|| format!("reading --config-dir {}", dir.display()))?;
        let mut found: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
        found.retain(|path| path.extension().is_some_and(|ending| ending == "conf"));
        found.sort();
        files.extend(found);
    }
    for file in files {
        let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
        let value = serde_yaml::from_str(&text).with_context(|| format!("parsing {}", file.display()))?;
        overlay(&mut merged, value);
    }
    if merged.is_null() {
        return Ok(Configuration::default());
    }
    serde_yaml::from_value(merged).context("the kubelet's configuration")
}

fn overlay(below: &mut serde_yaml::Value, above: serde_yaml::Value) {
    match (below, above) {
        (serde_yaml::Value::Mapping(below), serde_yaml::Value::Mapping(above)) => {
            for (key, value) in above {
                overlay(below.entry(key).or_insert(serde_yaml::Value::Null), value);
            }
        }
        (below, above) => *below = above,
    }
}

/// A duration as Go prints it: `20s`, `1m30s`, `500ms`.
fn go_duration(text: &str) -> Result<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        bail!("is empty");
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let number: f64 = rest[..digits].parse().with_context(|| format!("{text:?} is not a duration such as 20s"))?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        let unit = match &rest[digits..unit_end] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            other => bail!("{other:?} in {text:?} is not one of h, m, s, ms"),
        };
        total += Duration::try_from_secs_f64(number * unit).context("is too long")?;
        rest = &rest[unit_end..];
    }
    Ok(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_go_prints_them() {
        for (text, millis) in [("20s", 20_000), ("1m30s", 90_000), ("500ms", 500), ("1.5s", 1_500), ("1h", 3_600_000)] {
            assert_eq!(go_duration(text).expect(text), Duration::from_millis(millis), "{text}");
        }
        for bad in ["", "20", "s", "20 years"] {
            assert!(go_duration(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn kubeadms_configuration_is_read_and_a_drop_in_changes_one_field_of_it() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join("config.yaml");
        std::fs::write(
            &config,
            "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /etc/kubernetes/manifests\n\
             authentication:\n  anonymous: {enabled: false}\n  x509: {clientCAFile: /etc/kubernetes/pki/ca.crt}\n\
             authorization: {mode: Webhook}\nfileCheckFrequency: 0s\ncgroupDriver: systemd\nrotateCertificates: true\n",
        )
        .expect("written");
        let drop_ins = dir.path().join("conf.d");
        std::fs::create_dir(&drop_ins).expect("made");
        std::fs::write(drop_ins.join("10.conf"), "authentication: {anonymous: {enabled: true}}\nhealthzPort: 0\n")
            .expect("written");
        std::fs::write(drop_ins.join("20.yaml"), "staticPodPath: /elsewhere\n").expect("written");
        let flags = Flags::parse_from([
            "kubelet".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "--config-dir".as_ref(),
            drop_ins.as_os_str(),
            "--hostname-override=Node1".as_ref(),
        ]);
        let settings = Settings::load(flags).expect("valid");
        assert_eq!(settings.static_pod_path.as_deref(), Some(Path::new("/etc/kubernetes/manifests")));
        assert_eq!(settings.client_ca.as_deref(), Some(Path::new("/etc/kubernetes/pki/ca.crt")));
        assert_eq!((settings.anonymous, settings.authorization), (Anonymous::Allowed, AuthorizationMode::Webhook));
        assert_eq!((settings.file_check, settings.healthz), (Duration::from_secs(20), None));
        assert_eq!(settings.node, "node1");
        assert_eq!(settings.runtime_socket, Path::new("/run/containerd/containerd.sock"));
    }
}
