//! A liveness probe of the kubelet that fails. Where lastgood's own question is answered, the two disagree about what is
//! healthy, and the kubelet ends a container that is well.

use std::time::Duration;

use super::Manifest;

/// A probe of a manifest that fails when it is asked as the kubelet asks it: at the same place, without credentials.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailingProbe {
    /// `livenessProbe`, or `startupProbe` where there is no other.
    pub field: &'static str,
    /// Where it is asked.
    pub target: String,
    /// The path of its GET; empty where it only connects.
    pub path: String,
    /// What is wrong with the answer.
    pub why: String,
    /// How often the kubelet asks, and how many failures in a row end the container.
    pub period: Duration,
    pub threshold: u32,
    /// For how long it has failed, on the boot clock.
    pub failing_for: Duration,
    /// Whether lastgood's own liveness question is answered.
    pub answers_us: AnswersUs,
}

/// Whether a process answers lastgood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswersUs {
    Yes,
    /// It does not, or has not been asked.
    No,
}

impl FailingProbe {
    /// How long a container lives under it.
    pub fn ends_after(&self) -> Duration {
        self.period * self.threshold
    }

    /// Whether an alarm of etcd makes it fail.
    pub fn counts_alarm(&self) -> bool {
        self.why.contains("ALARM NOSPACE")
    }

    /// What is so, without the next step.
    pub fn sentence(&self) -> String {
        let seconds = self.ends_after().as_secs();
        if self.counts_alarm() {
            return format!(
                "the kubelet's {} ({}) counts the NOSPACE alarm and ends the container every {seconds} s",
                self.field, self.path
            );
        }
        format!(
            "the kubelet's {} ({}) fails although the process answers lastgood: {}; the kubelet ends the container every \
             {seconds} s",
            self.field, self.target, self.why
        )
    }

    /// The next step, in this manifest.
    pub fn next(&self, file: &str) -> String {
        if self.counts_alarm() {
            let path = self.path.split('?').next().unwrap_or_default();
            return format!(
                "in {file}, set the path of {} to {path}?exclude=NOSPACE&serializable=true, before the database is compacted \
                 and defragmented",
                self.field
            );
        }
        format!("in {file}, set {} to what the process answers without credentials", self.field)
    }
}

/// How long the kubelet lets a container live that has stopped answering its liveness probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LivenessLimit {
    /// The path of the probe's GET; absent for a probe of another kind.
    pub path: Option<String>,
    /// From the first question without an answer to the end of the container, at the least.
    pub ends_after: Duration,
    /// How many failures in a row end it, and how often the kubelet asks.
    pub threshold: u32,
    pub period: Duration,
}

impl LivenessLimit {
    /// Nothing where no probe ends the container, or where the kernel answers the probe for the process (`tcpSocket`).
    pub fn of(manifest: &Manifest) -> Option<Self> {
        let probe = manifest.main_container()?.liveness_probe.as_ref()?;
        if probe.tcp_socket.is_some() {
            return None;
        }
        // The kubelet's defaults, where the manifest is silent.
        let number = |value: Option<i32>, default: u32| {
            value.and_then(|value| u32::try_from(value).ok()).filter(|value| *value > 0).unwrap_or(default)
        };
        let seconds = |value, default| Duration::from_secs(number(value, default).into());
        let (period, timeout) = (seconds(probe.period_seconds, 10), seconds(probe.timeout_seconds, 1));
        let threshold = number(probe.failure_threshold, 3);
        let path = probe.http_get.as_ref().map(|get| get.path.clone().unwrap_or_else(|| "/".to_owned()));
        // A question that is under way when the process stops answering is the first that fails, and there is no period
        // before it.
        let ends_after = period * threshold.saturating_sub(1) + timeout;
        Some(Self { path, ends_after, threshold, period })
    }

    /// Whether the probe fails for as long as etcd's NOSPACE alarm is raised: `/livez` never counts it, `/health` does
    /// unless it is excluded (from 3.5 on).
    pub fn counts_no_space(&self) -> bool {
        let Some(path) = &self.path else { return false };
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        path == "/health" && !query.split('&').any(|part| part == "exclude=NOSPACE")
    }
}

/// How etcdctl is called on another master, whose manifest is not known here: with what kubeadm puts there.
pub const KUBEADM_ETCDCTL: &str = "crictl exec $(crictl ps -q --name etcd) etcdctl \
                                   --cacert=/etc/kubernetes/pki/etcd/ca.crt --cert=/etc/kubernetes/pki/etcd/server.crt \
                                   --key=/etc/kubernetes/pki/etcd/server.key";

/// How etcdctl is called on a node that has only what kubeadm needs: in etcd's own container, with its own certificate.
pub fn etcdctl(etcd: Option<&Manifest>) -> String {
    let flag = |name: &str| etcd.and_then(|manifest| manifest.flag(name)).filter(|value| !value.is_empty());
    let urls = flag("listen-client-urls").unwrap_or_default();
    let own = |url: &&str| url.contains("127.0.0.1") || url.contains("[::1]") || url.contains("localhost");
    let urls: Vec<&str> = urls.split(',').map(str::trim).collect();
    let url = urls.iter().copied().find(own).or(urls.first().copied()).filter(|url| !url.is_empty());
    let mut command = "crictl exec $(crictl ps -q --name etcd) etcdctl".to_owned();
    let given = [
        ("endpoints", url.map(str::to_owned)),
        ("cacert", flag("trusted-ca-file")),
        ("cert", flag("cert-file")),
        ("key", flag("key-file")),
    ];
    for (name, value) in given {
        if let Some(value) = value {
            command.push_str(&format!(" --{name}={value}"));
        }
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_is_excluded_and_anything_else_is_shown_as_it_failed() {
        let probe = |why: &str| FailingProbe {
            field: "livenessProbe",
            target: "http://127.0.0.1:2381/health".to_owned(),
            path: "/health".to_owned(),
            why: why.to_owned(),
            period: Duration::from_secs(10),
            threshold: 8,
            failing_for: Duration::ZERO,
            answers_us: AnswersUs::Yes,
        };
        let alarm = probe("503: {\"health\":\"false\",\"reason\":\"ALARM NOSPACE\"}");
        assert!(alarm.counts_alarm() && alarm.sentence().contains("every 80 s"));
        assert!(alarm.next("etcd.yaml").contains("/health?exclude=NOSPACE&serializable=true"));
        let other = probe("nothing listens there");
        assert!(!other.counts_alarm() && other.sentence().contains("nothing listens there"));
    }

    #[test]
    fn the_kubelet_ends_an_etcd_that_does_not_answer_after_the_last_failure_it_allows() {
        let limit = |probe: &str| {
            let text = format!(
                "--- {{apiVersion: v1, kind: Pod, metadata: {{name: etcd}}, spec: {{containers: [{{name: etcd, image: i, \
                 command: [etcd]{probe}}}]}}}}"
            );
            LivenessLimit::of(&Manifest::parse(text.as_bytes().into()).unwrap())
        };
        assert_eq!(limit(""), None);
        assert_eq!(limit(", livenessProbe: {tcpSocket: {port: 2379}}"), None);
        for (path, counts) in [
            ("/livez", false),
            ("/health", true),
            ("/health?serializable=true", true),
            ("/health?exclude=NOSPACE&serializable=true", false),
        ] {
            let kubeadm = format!(
                ", livenessProbe: {{httpGet: {{path: '{path}', port: 2381}}, periodSeconds: 10, failureThreshold: 8, \
                 timeoutSeconds: 15}}"
            );
            let limit = limit(&kubeadm).unwrap();
            assert_eq!((limit.ends_after, limit.counts_no_space()), (Duration::from_secs(85), counts), "{path}");
        }
        let silent = limit(", livenessProbe: {exec: {command: [check]}}").unwrap();
        assert_eq!((silent.ends_after, silent.counts_no_space()), (Duration::from_secs(21), false), "the defaults");
    }

    #[test]
    fn etcdctl_is_called_in_etcds_container_with_its_own_certificate() {
        let text = "--- {apiVersion: v1, kind: Pod, metadata: {name: etcd}, spec: {containers: [{name: etcd, image: i, \
                    command: [etcd, '--listen-client-urls=https://192.0.2.1:2379,https://127.0.0.1:2379', \
                    --cert-file=/pki/server.crt, --key-file=/pki/server.key, --trusted-ca-file=/pki/ca.crt]}]}}";
        let manifest = Manifest::parse(text.as_bytes().into()).unwrap();
        assert_eq!(
            etcdctl(Some(&manifest)),
            "crictl exec $(crictl ps -q --name etcd) etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/pki/ca.crt \
             --cert=/pki/server.crt --key=/pki/server.key"
        );
        assert_eq!(etcdctl(None), "crictl exec $(crictl ps -q --name etcd) etcdctl");
    }
}
