//! TLS settings of a probe: the client identity, and which server certificates it accepts.

use std::path::PathBuf;

/// Whose certificate is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) enum Trust {
    /// Anybody's, as the kubelet's probes do it.
    Anyone,
    /// One that this bundle of authorities signed, for the host that is asked.
    Authority(PathBuf),
    /// The same, expired or not: an agent next to another etcd, of which nothing more is wanted than a report.
    AuthorityOnceValid(PathBuf),
}

/// How a connection is secured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) enum Security {
    /// Not at all.
    Plain,
    Tls {
        /// The client identities; the first usable one is presented.
        identities: Vec<Identity>,
        /// Whom we take.
        trust: Trust,
    },
}

impl Security {
    /// The scheme, the part before `://`.
    pub(in crate::observe) fn scheme(&self) -> &'static str {
        match self {
            Self::Plain => "http",
            Self::Tls { .. } => "https",
        }
    }
}

/// A client identity: a certificate and its key, by path, read again after each change of its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct Identity {
    /// PEM, the chain; or a kubeconfig, whose user it is.
    pub(in crate::observe) certificate: PathBuf,
    /// PEM; the same kubeconfig.
    pub(in crate::observe) key: PathBuf,
}

impl Identity {
    /// The user of a kubeconfig.
    pub(in crate::observe) fn of_kubeconfig(path: PathBuf) -> Self {
        Self { certificate: path.clone(), key: path }
    }
}
