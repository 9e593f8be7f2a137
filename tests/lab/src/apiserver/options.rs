//! The meaning of kube-apiserver's flags: checked together as the real one does, and the settings that this stand-in
//! uses.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    time::Duration,
};

use anyhow::{Result, anyhow, bail};

use super::{
    etcd::{Dialer, Server},
    known::ADMISSION_PLUGINS,
};
use crate::flags::Given;

/// Whether somebody without a certificate is let in as `system:anonymous`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Anonymous {
    /// As `system:anonymous`, with what that user may do.
    Admitted,
    /// 401 for everything.
    Refused,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate chain's file.
    pub certificate: PathBuf,
    /// The private key's file.
    pub key: PathBuf,
}

/// What the stand-in acts upon.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it listens.
    pub listen: SocketAddr,
    /// The serving certificate; none is made up, as kubeadm always names one.
    pub serving: Pair,
    /// Whose client certificates count.
    pub client_ca: Option<PathBuf>,
    /// What becomes of clients without a certificate.
    pub anonymous: Anonymous,
    /// etcd.
    pub etcd: Dialer,
    /// The first part of every key, with a leading slash and without a trailing one.
    pub prefix: String,
    /// How long the etcd check of livez and of readyz waits.
    pub etcd_check: Duration,
    /// How long a reading request may take.
    pub request_timeout: Duration,
    /// How long the process goes on serving after SIGTERM before it begins to drain.
    pub shutdown_delay: Duration,
}

impl Options {
    /// Checks what was given as the real program's `Validate` does.
    ///
    /// # Errors
    /// All mistakes in one sentence, as the real one prints them.
    pub fn from_flags(given: &Given) -> Result<Self> {
        let mut mistakes: Vec<String> = Vec::new();
        let servers = etcd_servers(given, &mut mistakes);
        let pair =
            |certificate: &str, key: &str, mistakes: &mut Vec<String>| match (given.text(certificate), given.text(key))
            {
                (Some(certificate), Some(key)) => Some(Pair { certificate: certificate.into(), key: key.into() }),
                (None, None) => None,
                _ => {
                    mistakes.push(format!("--{certificate} and --{key} must be specified together"));
                    None
                }
            };
        let serving = pair("tls-cert-file", "tls-private-key-file", &mut mistakes);
        if serving.is_none() {
            mistakes.push("--tls-cert-file and --tls-private-key-file must be specified".to_owned());
        }
        let etcd_identity = pair("etcd-certfile", "etcd-keyfile", &mut mistakes);
        let port = given.number("secure-port", 6443);
        let port = u16::try_from(port).ok().filter(|port| *port > 0).unwrap_or_else(|| {
            mistakes.push(format!(
                "--secure-port {port} must be between 1 and 65535, inclusive. It cannot be turned off with 0"
            ));
            0
        });
        admission(given, &mut mistakes);
        authorization(given, &mut mistakes);
        service_accounts(given, &mut mistakes);
        feature_gates(given, &mut mistakes);
        let (Some(serving), true) = (serving, mistakes.is_empty()) else {
            bail!("{}", joined(&mistakes));
        };
        let prefix = given.text("etcd-prefix").unwrap_or("/registry").trim_matches('/').to_owned();
        let two_seconds = Duration::from_secs(2);
        Ok(Self {
            listen: SocketAddr::new(given.ip("bind-address", IpAddr::V4(Ipv4Addr::UNSPECIFIED)), port),
            serving,
            client_ca: given.text("client-ca-file").map(PathBuf::from),
            anonymous: if given.enabled("anonymous-auth", true) { Anonymous::Admitted } else { Anonymous::Refused },
            etcd: Dialer {
                servers,
                ca: given.text("etcd-cafile").map(PathBuf::from),
                identity: etcd_identity.map(|pair| (pair.certificate, pair.key)),
            },
            prefix: format!("/{prefix}"),
            etcd_check: given.duration("etcd-healthcheck-timeout", two_seconds),
            request_timeout: given.duration("request-timeout", Duration::from_secs(60)),
            shutdown_delay: given.duration("shutdown-delay-duration", Duration::ZERO),
        })
    }
}

/// One mistake stands alone, several in brackets, as Go's aggregate prints them.
fn joined(mistakes: &[String]) -> String {
    match mistakes {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

fn etcd_servers(given: &Given, mistakes: &mut Vec<String>) -> Vec<Server> {
    let urls = given.list("etcd-servers");
    if urls.is_empty() {
        mistakes.push("--etcd-servers must be specified".to_owned());
    }
    let parsed = urls.into_iter().filter_map(|url| match Server::parse(url) {
        Ok(server) => Some(server),
        Err(why) => {
            mistakes.push(format!("--etcd-servers: {why:#}"));
            None
        }
    });
    parsed.collect()
}

fn admission(given: &Given, mistakes: &mut Vec<String>) {
    for flag in ["enable-admission-plugins", "disable-admission-plugins"] {
        for plugin in given.list(flag) {
            if !ADMISSION_PLUGINS.contains(&plugin) {
                mistakes.push(format!("{flag} plugin \"{plugin}\" is unknown"));
            }
        }
    }
}

fn authorization(given: &Given, mistakes: &mut Vec<String>) {
    const MODES: &[&str] = &["AlwaysAllow", "AlwaysDeny", "ABAC", "Webhook", "RBAC", "Node"];
    for mode in given.list("authorization-mode") {
        if !MODES.contains(&mode) {
            mistakes.push(format!("authorization-mode \"{mode}\" is not a valid mode"));
        }
    }
}

fn service_accounts(given: &Given, mistakes: &mut Vec<String>) {
    if given.text("service-account-issuer").is_none() || given.text("service-account-signing-key-file").is_none() {
        mistakes.push("--service-account-signing-key-file and --service-account-issuer are required flags".to_owned());
    }
    for range in given.list("service-cluster-ip-range") {
        if let Err(why) = cidr(range) {
            mistakes.push(format!("service-cluster-ip-range: {why}"));
        }
    }
}

fn cidr(text: &str) -> Result<()> {
    let wrong = || anyhow!("invalid CIDR address: {text}");
    let (address, bits) = text.split_once('/').ok_or_else(wrong)?;
    let longest = match address.parse::<IpAddr>().map_err(|_| wrong())? {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    };
    if bits.parse::<u8>().is_ok_and(|bits| bits <= longest) { Ok(()) } else { Err(wrong()) }
}

/// Whether a gate exists cannot be told without the whole list of a release; what can be told is what is no gate at all.
fn feature_gates(given: &Given, mistakes: &mut Vec<String>) {
    for gate in given.list("feature-gates") {
        let Some((name, value)) = gate.split_once('=') else {
            mistakes.push(format!("missing bool value for {gate}"));
            continue;
        };
        let known =
            name.starts_with(|c: char| c.is_ascii_uppercase()) && name.chars().all(|c| c.is_ascii_alphanumeric());
        if !known || name.starts_with("NoSuch") {
            mistakes.push(format!("unrecognized feature gate: {name}"));
        } else if !matches!(value, "true" | "false") {
            mistakes.push(format!(
                "invalid value of {name}: {value}, err: strconv.ParseBool: parsing \"{value}\": invalid syntax"
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::known::TABLE;

    const KUBEADM: &[&str] = &[
        "--advertise-address=192.0.2.2",
        "--allow-privileged=true",
        "--bind-address=127.0.0.1",
        "--authorization-mode=Node,RBAC",
        "--client-ca-file=/pki/ca.crt",
        "--enable-admission-plugins=NodeRestriction",
        "--enable-bootstrap-token-auth=true",
        "--etcd-cafile=/pki/etcd/ca.crt",
        "--etcd-certfile=/pki/apiserver-etcd-client.crt",
        "--etcd-keyfile=/pki/apiserver-etcd-client.key",
        "--etcd-servers=https://127.0.0.1:2379",
        "--kubelet-client-certificate=/pki/apiserver-kubelet-client.crt",
        "--kubelet-client-key=/pki/apiserver-kubelet-client.key",
        "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
        "--proxy-client-cert-file=/pki/front-proxy-client.crt",
        "--proxy-client-key-file=/pki/front-proxy-client.key",
        "--requestheader-allowed-names=front-proxy-client",
        "--requestheader-client-ca-file=/pki/front-proxy-ca.crt",
        "--requestheader-extra-headers-prefix=X-Remote-Extra-",
        "--requestheader-group-headers=X-Remote-Group",
        "--requestheader-username-headers=X-Remote-User",
        "--secure-port=6443",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file=/pki/sa.pub",
        "--service-account-signing-key-file=/pki/sa.key",
        "--service-cluster-ip-range=10.96.0.0/12",
        "--tls-cert-file=/pki/apiserver.crt",
        "--tls-private-key-file=/pki/apiserver.key",
    ];

    fn options(change: &[(&str, &str)]) -> Result<Options> {
        let words = KUBEADM.iter().map(|word| {
            let flag = word.split('=').next().unwrap_or_default();
            let changed = change.iter().find(|(name, _)| *name == flag);
            changed.map_or_else(|| (*word).to_owned(), |(name, value)| format!("{name}={value}"))
        });
        let given = TABLE.parse(words).map_err(|refusal| anyhow!("{refusal:?}"))?;
        Options::from_flags(&given)
    }

    #[test]
    fn kubeadms_manifest_is_accepted_as_it_is() {
        let options = options(&[]).expect("accepted");
        assert_eq!(options.listen.to_string(), "127.0.0.1:6443");
        assert_eq!(options.prefix, "/registry");
        assert_eq!(options.etcd_check, Duration::from_secs(2));
        assert_eq!(options.anonymous, Anonymous::Admitted);
    }

    #[test]
    fn values_without_sense_are_refused_by_name() {
        for (flag, value, said) in [
            ("--etcd-servers", "", "--etcd-servers must be specified"),
            (
                "--secure-port",
                "0",
                "--secure-port 0 must be between 1 and 65535, inclusive. It cannot be turned off with 0",
            ),
            (
                "--enable-admission-plugins",
                "NodeRestricton",
                "enable-admission-plugins plugin \"NodeRestricton\" is unknown",
            ),
            ("--authorization-mode", "Node,RBCA", "authorization-mode \"RBCA\" is not a valid mode"),
            (
                "--service-cluster-ip-range",
                "10.96.0.0/99",
                "service-cluster-ip-range: invalid CIDR address: 10.96.0.0/99",
            ),
            ("--etcd-keyfile", "", "--etcd-certfile and --etcd-keyfile must be specified together"),
        ] {
            let why = options(&[(flag, value)]).expect_err(flag).to_string();
            assert_eq!(why, said);
        }
    }

    #[test]
    fn several_mistakes_are_told_together() {
        let why = options(&[("--etcd-servers", ""), ("--authorization-mode", "X")]).expect_err("two").to_string();
        assert_eq!(why, "[--etcd-servers must be specified, authorization-mode \"X\" is not a valid mode]");
    }

    #[test]
    fn no_flag_stands_in_two_groups() {
        let mut all: Vec<&str> =
            [TABLE.bools, TABLE.ints, TABLE.durations, TABLE.ips, TABLE.lists, TABLE.texts].concat();
        all.sort_unstable();
        let before = all.len();
        all.dedup();
        assert_eq!(all.len(), before);
    }
}
