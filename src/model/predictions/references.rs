//! What a pod names that only an API server could give. A static pod starts without one: from 1.34 on (gate
//! PreventStaticPodAPIReferences, on by default) the kubelet refuses it. The kubelet says which kind; we say where as well.

use k8s_openapi::api::core::v1::{PodSpec, Volume};

use super::{Found, Kubelets};

/// The first minor version whose kubelet refuses them by default.
const SINCE: u32 = 34;

pub(super) fn all(found: &mut Found, spec: &PodSpec) {
    let mut named = |path: String, what: &str| {
        found.only(Kubelets::From(SINCE), &path, format!("static pods may not reference {what}"));
    };
    let account = spec.service_account_name.as_ref().or(spec.service_account.as_ref());
    if account.is_some_and(|account| !account.is_empty()) {
        named("spec.serviceAccountName".to_owned(), "serviceaccounts");
    }
    for (at, _) in spec.image_pull_secrets.iter().flatten().enumerate() {
        named(format!("spec.imagePullSecrets[{at}]"), "secrets");
    }
    let init =
        spec.init_containers.iter().flatten().enumerate().map(|(at, c)| (format!("spec.initContainers[{at}]"), c));
    let containers = spec.containers.iter().enumerate().map(|(at, c)| (format!("spec.containers[{at}]"), c));
    for (path, container) in containers.chain(init) {
        for (at, source) in container.env_from.iter().flatten().enumerate() {
            if source.secret_ref.is_some() {
                named(format!("{path}.envFrom[{at}].secretRef"), "secrets");
            }
            if source.config_map_ref.is_some() {
                named(format!("{path}.envFrom[{at}].configMapRef"), "configmaps");
            }
        }
        for (at, variable) in container.env.iter().flatten().enumerate() {
            let Some(from) = &variable.value_from else { continue };
            if from.secret_key_ref.is_some() {
                named(format!("{path}.env[{at}].valueFrom.secretKeyRef"), "secrets");
            }
            if from.config_map_key_ref.is_some() {
                named(format!("{path}.env[{at}].valueFrom.configMapKeyRef"), "configmaps");
            }
        }
    }
    if spec.resource_claims.iter().flatten().next().is_some() {
        named("spec.resourceClaims".to_owned(), "resourceclaims");
    }
    for (at, volume) in spec.volumes.iter().flatten().enumerate() {
        of_volume(volume, |field, what| named(format!("spec.volumes[{at}].{field}"), what));
    }
}

fn of_volume(volume: &Volume, mut named: impl FnMut(&str, &str)) {
    for (given, field, what) in [
        (volume.secret.is_some(), "secret", "secrets"),
        (volume.config_map.is_some(), "configMap", "configmaps (via configmap volumes)"),
        (volume.csi.is_some(), "csi", "csidrivers (via CSI volumes)"),
        (volume.glusterfs.is_some(), "glusterfs", "endpoints (via glusterFS volumes)"),
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim", "persistentvolumeclaims"),
        (volume.ephemeral.is_some(), "ephemeral", "persistentvolumeclaims (via ephemeral volumes)"),
        (volume.azure_file.is_some(), "azureFile", "secrets (via azureFile volumes)"),
    ] {
        if given {
            named(field, what);
        }
    }
    let sources = volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten());
    for (at, source) in sources.enumerate() {
        for (given, field, what) in [
            (source.config_map.is_some(), "configMap", "configmaps (via projected volumes)"),
            (source.secret.is_some(), "secret", "secrets (via projected volumes)"),
            (source.service_account_token.is_some(), "serviceAccountToken", "serviceaccounts (via projected volumes)"),
            (source.cluster_trust_bundle.is_some(), "clusterTrustBundle", "clustertrustbundles"),
            (source.pod_certificate.is_some(), "podCertificate", "podcertificates"),
        ] {
            if given {
                named(&format!("projected.sources[{at}].{field}"), what);
            }
        }
    }
}
