//! What `kubeadm init` leaves on a node besides certificates and manifests: the kubelet's configuration and flags.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::place::write;
use crate::images::PAUSE;

/// KubeletConfiguration as kubeadm 1.34 writes it; cgroupfs instead of systemd, which is not process 1 here.
const CONFIGURATION: &str = "\
apiVersion: kubelet.config.k8s.io/v1beta1
authentication:
  anonymous:
    enabled: false
  webhook:
    cacheTTL: 0s
    enabled: true
  x509:
    clientCAFile: /etc/kubernetes/pki/ca.crt
authorization:
  mode: Webhook
  webhook:
    cacheAuthorizedTTL: 0s
    cacheUnauthorizedTTL: 0s
cgroupDriver: cgroupfs
clusterDNS:
- 10.96.0.10
clusterDomain: cluster.local
containerRuntimeEndpoint: \"\"
cpuManagerReconcilePeriod: 0s
crashLoopBackOff: {}
evictionPressureTransitionPeriod: 0s
fileCheckFrequency: 0s
healthzBindAddress: 127.0.0.1
healthzPort: 10248
httpCheckFrequency: 0s
imageMaximumGCAge: 0s
imageMinimumGCAge: 0s
kind: KubeletConfiguration
logging:
  flushFrequency: 0
  options:
    json:
      infoBufferSize: \"0\"
    text:
      infoBufferSize: \"0\"
  verbosity: 0
memorySwap: {}
nodeStatusReportFrequency: 0s
nodeStatusUpdateFrequency: 0s
rotateCertificates: true
runtimeRequestTimeout: 0s
shutdownGracePeriod: 0s
shutdownGracePeriodCriticalPods: 0s
staticPodPath: /etc/kubernetes/manifests
streamingConnectionIdleTimeout: 0s
syncFrequency: 0s
volumeStatsAggPeriod: 0s
";

/// The kubelet's command line as kubeadm's unit file has it, its environment file expanded.
pub fn kubelet_command() -> Vec<String> {
    let fixed = [
        "/lab/bin/kubelet",
        "--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf",
        "--kubeconfig=/etc/kubernetes/kubelet.conf",
        "--config=/var/lib/kubelet/config.yaml",
    ];
    fixed.into_iter().map(str::to_owned).chain(kubeadm_arguments()).collect()
}

fn kubeadm_arguments() -> [String; 2] {
    [
        "--container-runtime-endpoint=unix:///run/containerd/containerd.sock".to_owned(),
        format!("--pod-infra-container-image={PAUSE}"),
    ]
}

/// Writes /var/lib/kubelet below `root`.
///
/// # Errors
/// When a file cannot be written.
pub fn write_kubelet(root: &Path) -> Result<()> {
    let dir = root.join("var/lib/kubelet");
    fs::create_dir_all(dir.join("pki")).with_context(|| format!("cannot make {}", dir.display()))?;
    write(&dir.join("config.yaml"), CONFIGURATION)?;
    let line = format!("KUBELET_KUBEADM_ARGS=\"{}\"\n", kubeadm_arguments().join(" "));
    write(&dir.join("kubeadm-flags.env"), &line)
}
