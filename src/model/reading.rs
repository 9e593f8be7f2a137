//! The answer of a probe: good, bad, or cannot tell. "Cannot tell" changes nothing.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// One probe's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "reading", content = "symptom")]
pub enum Reading {
    /// What was asked for was answered.
    Good,
    /// It was asked rightly and did not answer as it should.
    Bad(Symptom),
    /// The question could not be put, or the answer says nothing about health.
    CannotTell(Symptom),
}

impl Reading {
    /// The symptom, unless all is well.
    pub fn symptom(&self) -> Option<&Symptom> {
        match self {
            Self::Good => None,
            Self::Bad(symptom) | Self::CannotTell(symptom) => Some(symptom),
        }
    }
}

/// What was wrong with an answer, for people and for judgement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Symptom {
    /// The kind, which judgement goes by.
    pub kind: SymptomKind,
    /// The sentence, which people read.
    pub detail: String,
}

impl Symptom {
    /// A symptom and its sentence.
    pub fn new(kind: SymptomKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }
}

impl From<Reading> for Symptom {
    /// What a reading lacks to be good.
    fn from(reading: Reading) -> Self {
        match reading {
            Reading::Bad(symptom) | Reading::CannotTell(symptom) => symptom,
            Reading::Good => Self::new(SymptomKind::NoMeans, "nothing is wrong"),
        }
    }
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

/// The kinds of trouble a probe tells apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum SymptomKind {
    /// Nothing listens on the port.
    Refused,
    /// Something listens, and does not answer within the probe's deadline.
    TimedOut,
    /// The connection ended early, or another transport error.
    Broken,
    /// The TLS handshake failed for a reason other than a certificate's dates.
    Tls,
    /// A certificate is past its not-after, or not yet valid.
    CertificateDates,
    /// 401 or 403: alive, and not for our eyes.
    Unauthorized,
    /// An HTTP status or a gRPC code that means unhealthy.
    Unhealthy,
    /// Answered, but not with what this component answers.
    WrongBody,
    /// The cluster as a whole cannot: no leader, no quorum. Never a reason to touch a local process.
    ClusterWide,
    /// We lack what the question needs: a certificate, a port, a supported version.
    NoMeans,
}

/// Which question was asked. The name decides what a bad answer means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Question {
    /// Does this process live and answer by itself? (livez, etcd's serializable read)
    Live,
    /// Does it serve? (readyz, healthz) Failing this alone is never a reason for a restart (Q8).
    Ready,
    /// Does the cluster behind it serve? (etcd's linearizable read) Never counted against the local process.
    Quorum,
    /// Does it serve with the credentials and the address its dependents use? (Q13)
    AsDependent,
}

/// A question, its answer, and when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probe {
    pub question: Question,
    /// Whom: a URL or an address, for evidence.
    pub target: String,
    pub reading: Reading,
    /// When it was answered, on the boot clock.
    pub at: Duration,
    /// How long the answer took.
    pub took: Duration,
}
