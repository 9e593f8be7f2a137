//! The certificates of the node, as `certs check` prints them: kubeadm's columns, and the users of each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use jiff::Timestamp;
use serde::Serialize;

use super::table::{lines, table};
use crate::model::certificate_use::CertificateFinding;
use crate::model::environment::{Certificate, URGENT_DAYS, Validity, second};

const DAY: i64 = 24 * 3600;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Certificates {
    /// When they were looked at.
    pub at: Timestamp,
    /// The ones that could be read, the first to end first.
    pub certificates: Vec<Row>,
    /// What is named and could not be read, and why.
    pub unreadable: BTreeMap<PathBuf, String>,
    /// What has to be done although the files are valid: a process that has an older certificate in memory, a kubelet
    /// whose rotation cannot replace its own.
    pub findings: Vec<Finding>,
}

/// Something to be done about certificates.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finding {
    pub detail: String,
    /// The next step.
    pub next: String,
}

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Row {
    /// The file it stands in.
    pub certificate: PathBuf,
    /// The common name of its subject.
    pub subject: String,
    pub begins: String,
    pub expires: String,
    /// Seconds left; negative after the end.
    pub residual_seconds: i64,
    /// Who signed it.
    pub authority: String,
    /// Whether it is an authority's itself.
    pub is_authority: bool,
    /// Who uses it.
    pub used_by: Vec<String>,
    /// How its dates stand: `valid`, `ending`, `ended` or `not-yet-valid`.
    pub state: State,
}

/// How a certificate's dates stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// Valid for long enough.
    Valid,
    /// About to end: within a week, or in the last tenth of a short life.
    Ending,
    /// Past its end.
    Ended,
    /// Before its beginning.
    NotYetValid,
}

impl Certificates {
    /// Of what was found.
    pub fn new(
        at: Timestamp,
        found: &[Certificate],
        unreadable: BTreeMap<PathBuf, String>,
        findings: &[CertificateFinding],
    ) -> Self {
        let mut found: Vec<&Certificate> = found.iter().collect();
        found.sort_by_key(|certificate| certificate.not_after);
        let certificates = found.into_iter().map(|certificate| Row::new(at, certificate)).collect();
        let findings = findings.iter().map(|one| Finding { detail: one.detail.clone(), next: one.next.clone() });
        Self { at, certificates, unreadable, findings: findings.collect() }
    }

    /// Whether nothing has to be done about any of them soon.
    pub fn are_well(&self) -> bool {
        self.findings.is_empty() && self.certificates.iter().all(|row| row.state == State::Valid)
    }

    /// The table for people.
    pub fn text(&self) -> String {
        let mut table = table(&["CERTIFICATE", "EXPIRES", "RESIDUAL TIME", "AUTHORITY", "USED BY"]);
        for row in &self.certificates {
            table.add_row([
                row.certificate.display().to_string(),
                row.expires.clone(),
                residual(row),
                if row.is_authority { format!("{} (a CA)", row.authority) } else { row.authority.clone() },
                row.used_by.join(", "),
            ]);
        }
        let mut out =
            if self.certificates.is_empty() { "no certificate was found\n".to_owned() } else { lines(&table) };
        if !self.findings.is_empty() {
            out.push_str("\nTo do:\n");
            for finding in &self.findings {
                let _ = writeln!(out, "  {}\n    next: {}", finding.detail, finding.next);
            }
        }
        if !self.unreadable.is_empty() {
            out.push_str("\nNot read:\n");
            for (path, why) in &self.unreadable {
                let _ = writeln!(out, "  {} {why}", path.display());
            }
        }
        out
    }
}

impl Row {
    fn new(at: Timestamp, certificate: &Certificate) -> Self {
        let state = match certificate.validity(at) {
            Validity::Ended => State::Ended,
            Validity::NotYet => State::NotYetValid,
            Validity::Ending(days) if days <= URGENT_DAYS => State::Ending,
            Validity::Ending(_) | Validity::Valid => State::Valid,
        };
        Self {
            certificate: certificate.path.clone(),
            subject: certificate.subject.clone(),
            begins: second(certificate.not_before),
            expires: second(certificate.not_after),
            residual_seconds: certificate.not_after.saturating_sub(at.as_second()),
            authority: certificate.issuer.clone(),
            is_authority: certificate.authority,
            used_by: certificate.users.iter().map(ToString::to_string).collect(),
            state,
        }
    }
}

fn residual(row: &Row) -> String {
    let left = row.residual_seconds;
    match row.state {
        State::Ended => "ended".to_owned(),
        State::NotYetValid => format!("not valid before {}", row.begins),
        State::Valid | State::Ending if left >= 2 * DAY => format!("{}d", left / DAY),
        State::Valid | State::Ending if left >= 2 * 3600 => format!("{}h", left / 3600),
        State::Valid | State::Ending => format!("{}m", left / 60),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::model::certificate_use::{KubeletCertificate, OlderInUse};
    use crate::model::environment::User;
    use crate::model::{ComponentId, Digest};
    use crate::report::golden;

    const NOW: i64 = 1_800_000_000;

    fn certificate(path: &str, days: i64, authority: bool) -> Certificate {
        Certificate {
            path: path.into(),
            named: [path.into()].into(),
            users: [User::Component(ComponentId::system("kube-apiserver")), User::Kubelet].into(),
            subject: "kube-apiserver".into(),
            issuer: "kubernetes".into(),
            not_before: NOW - 300 * DAY,
            not_after: NOW + days * DAY,
            authority,
            fingerprint: Digest::of(path.as_bytes()),
        }
    }

    fn report(all: &[Certificate]) -> Certificates {
        let unreadable = [(PathBuf::from("/etc/kubernetes/kubelet.conf"), "cannot be read: denied".to_owned())];
        Certificates::new(Timestamp::from_second(NOW).unwrap(), all, unreadable.into(), &[])
    }

    /// Two that are valid, and a file that could not be read.
    pub(in crate::report) fn sample() -> Certificates {
        report(&[certificate("/pki/ca.crt", 3000, true), certificate("/pki/apiserver.crt", 65, false)])
    }

    #[test]
    fn the_first_to_end_comes_first_and_the_rest_is_told() {
        let certificates = sample();
        golden::same("certs-check", &certificates.text());
        let found: Vec<_> = certificates.certificates.iter().map(|row| (row.certificate.to_str(), row.state)).collect();
        assert_eq!(found, [(Some("/pki/apiserver.crt"), State::Valid), (Some("/pki/ca.crt"), State::Valid)]);
        assert_eq!(certificates.unreadable.len(), 1);
    }

    #[test]
    fn what_has_to_be_done_is_printed_and_is_not_well() {
        let older = OlderInUse {
            component: ComponentId::system("kube-scheduler"),
            path: "/etc/kubernetes/scheduler.conf".into(),
            renewed: Timestamp::from_second(NOW).unwrap(),
            started: Timestamp::from_second(NOW - DAY).unwrap(),
            ends: Some(NOW + 20 * DAY),
        };
        let no_link = KubeletCertificate::NoLink {
            path: "/var/lib/kubelet/pki/kubelet-client-current.pem".into(),
            rotated: Some("/var/lib/kubelet/pki/kubelet-client-2026-01-31-10-11-12.pem".into()),
        };
        let embedded = KubeletCertificate::Embedded {
            kubeconfig: "/etc/kubernetes/kubelet.conf".into(),
            not_after: NOW + 20 * DAY,
            path: "/var/lib/kubelet/pki/kubelet-client-current.pem".into(),
            rotates: true,
        };
        let findings = [older.finding(), no_link.finding(), embedded.finding()];
        let all = [certificate("/pki/apiserver.crt", 65, false)];
        let report = Certificates::new(Timestamp::from_second(NOW).unwrap(), &all, BTreeMap::new(), &findings);
        assert!(!report.are_well());
        golden::same("certs-check-findings", &report.text());
    }

    #[test]
    fn what_ends_within_a_week_is_not_well() {
        for (days, well) in [(65, true), (20, true), (8, true), (6, false), (0, false), (-1, false)] {
            assert_eq!(report(&[certificate("/pki/a.crt", days, false)]).are_well(), well, "{days} days to go");
        }
        let ended = report(&[certificate("/pki/a.crt", -1, false)]);
        assert_eq!((ended.certificates[0].state, residual(&ended.certificates[0])), (State::Ended, "ended".to_owned()));
    }
}
