//! The sentences are those of kubernetes' `pkg/apis/core/validation`, and of its `field.Error`.

use super::*;
use crate::model::Manifest;

const API: &str = "\
apiVersion: v1
kind: Pod
metadata:
  name: kube-apiserver
  namespace: kube-system
  labels: {component: kube-apiserver}
  # annotations
spec:
  # spec
  hostNetwork: true
  priorityClassName: system-node-critical
  containers:
  - name: kube-apiserver
    image: registry.k8s.io/kube-apiserver:v1.36.2
    command: [kube-apiserver]
    # container
    resources: {requests: {cpu: 250m}}
    livenessProbe:
      # probe
      httpGet: {path: /livez, port: 6443, scheme: HTTPS}
    volumeMounts:
    - {name: certs, mountPath: /etc/kubernetes/pki, readOnly: true}
    # mount
  volumes:
  - name: certs
    # volume
    hostPath: {path: /etc/kubernetes/pki, type: DirectoryOrCreate}
  # volumes
";

fn predicted(text: &str) -> Vec<Prediction> {
    Manifest::parse(text.as_bytes().into()).unwrap().predicted
}

/// The manifest with more in it: `mark` is the comment that it replaces.
fn with(mark: &str, more: &str) -> String {
    let changed = API.replace(&format!("# {mark}\n"), &format!("{more}\n"));
    assert_ne!(changed, API, "{mark}");
    changed
}

#[test]
fn what_runs_on_real_masters_is_predicted_to_run() {
    assert_eq!(predicted(API), []);
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/cluster/manifests");
    for name in ["etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler"] {
        let text = std::fs::read_to_string(format!("{directory}/{name}.yaml")).unwrap();
        assert_eq!(predicted(&text), [], "{name}");
    }
    for (mark, more) in [
        ("container", "ports: [{containerPort: 6443, hostPort: 6443, name: https, protocol: TCP}]"),
        (
            "container",
            "env: [{name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, {name: my.env-1, value: ''}]",
        ),
        ("container", "securityContext: {privileged: true, seccompProfile: {type: RuntimeDefault}, runAsUser: 0}"),
        ("container", "restartPolicy: Always"),
        ("probe", "successThreshold: 0"),
        ("mount", "- {name: certs, mountPath: /b, subPath: a/b}"),
        ("volumes", "- name: none"),
        ("volumes", "- {name: a, hostPath: {path: /a, type: ''}}"),
        ("volumes", "- {name: a, downwardAPI: {defaultMode: 0444}}"),
        ("spec", "tolerations: [{operator: Exists}, {key: a, effect: NoExecute, tolerationSeconds: 5}]"),
        (
            "spec",
            "initContainers: [{name: init, image: i}, {name: side, image: i, restartPolicy: Always, livenessProbe: {exec: {command: [a]}}}]",
        ),
    ] {
        assert_eq!(predicted(&with(mark, more)), [], "{more}");
    }
}

#[test]
fn what_the_kubelet_refuses_is_predicted_in_its_words() {
    const C: &str = "spec.containers[0]";
    let rows: Vec<(&str, &str, String)> = vec![
        ("mount", "- {name: certs, mountPath: /etc/kubernetes/pki}", format!("{C}.volumeMounts[1].mountPath: Invalid value: \"/etc/kubernetes/pki\": must be unique")),
        ("mount", "- {name: certs}", format!("{C}.volumeMounts[1].mountPath: Required value")),
        ("mount", "- {name: certs, mountPath: /b, subPath: ../b}", format!("{C}.volumeMounts.subPath: Invalid value: \"../b\": must not contain '..'")),
        ("mount", "- {name: certs, mountPath: /b, mountPropagation: Both}", format!("{C}.volumeMounts.mountPropagation: Unsupported value: \"Both\": supported values: \"Bidirectional\", \"HostToContainer\", \"None\"")),
        ("mount", "- {name: certs, mountPath: /b, mountPropagation: Bidirectional}", format!("{C}.volumeMounts.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers")),
        ("spec", "restartPolicy: Sometimes", "spec.restartPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"OnFailure\", \"Never\"".to_owned()),
        ("spec", "dnsPolicy: Host", "spec.dnsPolicy: Unsupported value: \"Host\": supported values: \"ClusterFirstWithHostNet\", \"ClusterFirst\", \"Default\", \"None\"".to_owned()),
        ("spec", "dnsPolicy: None", "spec.dnsConfig: Required value: must provide `dnsConfig` when `dnsPolicy` is None".to_owned()),
        ("spec", "hostUsers: false", "spec.hostNetwork: Forbidden: when `pod.Spec.HostUsers` is false".to_owned()),
        ("spec", "activeDeadlineSeconds: 0", "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive".to_owned()),
        ("spec", "tolerations: [{effect: NoSchedule}]", "spec.tolerations[0].operator: Invalid value: \"\": operator must be Exists when `key` is empty, which means \"match all values and all keys\"".to_owned()),
        ("spec", "initContainers: [{name: kube-apiserver, image: i}]", "spec.initContainers[0].name: Duplicate value: \"kube-apiserver\"".to_owned()),
        ("spec", "initContainers: [{name: i, image: i, lifecycle: {}}]", "spec.initContainers[0].lifecycle: Forbidden: may not be set for init containers without restartPolicy=Always".to_owned()),
        ("volumes", "- {name: a, hostPath: {path: /a, type: Fil}}", "spec.volumes[1].hostPath.type: Unsupported value: \"Fil\": supported values: \"\", \"BlockDevice\", \"CharDevice\", \"Directory\", \"DirectoryOrCreate\", \"File\", \"FileOrCreate\", \"Socket\"".to_owned()),
        ("volumes", "- {name: a, hostPath: {path: ''}}", "spec.volumes[1].hostPath.path: Required value".to_owned()),
        ("volumes", "- {name: a, hostPath: {path: /a/../b}}", "spec.volumes[1].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'".to_owned()),
        ("volumes", "- {name: a, hostPath: {path: /a}, emptyDir: {}}", "spec.volumes[1].hostPath: Forbidden: may not specify more than 1 volume type".to_owned()),
        ("volumes", "- {name: certs, emptyDir: {}}", "spec.volumes[1].name: Duplicate value: \"certs\"".to_owned()),
        ("volumes", "- {name: a.b, emptyDir: {}}", "spec.volumes[1].name: Invalid value: \"a.b\": must not contain dots".to_owned()),
        ("volumes", "- {name: a, downwardAPI: {defaultMode: 644}}", "spec.volumes[1].downwardAPI.defaultMode: Invalid value: 644: must be a number between 0 and 0777 (octal), both inclusive".to_owned()),
        ("container", "env: [{value: a}]", format!("{C}.env[0].name: Required value")),
        ("container", "env: [{name: 'A=B'}]", format!("{C}.env[0].name: Invalid value: \"A=B\": a valid environment variable name must consist only of printable ASCII characters other than '='")),
        ("container", "env: [{name: A, value: b, valueFrom: {fieldRef: {fieldPath: metadata.uid}}}]", format!("{C}.env[0].valueFrom: Invalid value: \"\": may not be specified when `value` is not empty")),
        ("container", "env: [{name: A, valueFrom: {fieldRef: {fieldPath: spec.ip}}}]", format!("{C}.env[0].valueFrom.fieldRef.fieldPath: Invalid value: \"spec.ip\": error converting fieldPath: field label not supported: spec.ip")),
        ("container", "ports: [{name: a, containerPort: 0}]", format!("{C}.ports[0].containerPort: Required value")),
        ("container", "ports: [{containerPort: 70000}]", format!("{C}.ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive")),
        ("container", "ports: [{containerPort: 1, protocol: tcp}]", format!("{C}.ports[0].protocol: Unsupported value: \"tcp\": supported values: \"SCTP\", \"TCP\", \"UDP\"")),
        ("container", "ports: [{containerPort: 1, hostPort: 2}]", format!("{C}.ports[0].hostPort: Invalid value: 2: must match `containerPort` when `hostNetwork` is true")),
        ("container", "ports: [{containerPort: 1}, {containerPort: 1}]", format!("{C}.ports[1].hostPort: Duplicate value: \"TCP//1\"")),
        ("container", "ports: [{name: a, containerPort: 1}, {name: a, containerPort: 2}]", format!("{C}.ports[1].name: Duplicate value: \"a\"")),
        ("container", "ports: [{name: metrics-and-more-of-it, containerPort: 1}]", format!("{C}.ports[0].name: Invalid value: \"metrics-and-more-of-it\": must be no more than 15 characters")),
        ("container", "imagePullPolicy: Sometimes", format!("{C}.imagePullPolicy: Unsupported value: \"Sometimes\": supported values: \"Always\", \"IfNotPresent\", \"Never\"")),
        ("container", "terminationMessagePolicy: Log", format!("{C}.terminationMessagePolicy: Unsupported value: \"Log\": supported values: \"File\", \"FallbackToLogsOnError\"")),
        ("container", "securityContext: {runAsUser: -1}", format!("{C}.securityContext.runAsUser: Invalid value: -1: must be between 0 and 2147483647, inclusive")),
        ("container", "securityContext: {seccompProfile: {type: Default}}", format!("{C}.securityContext.seccompProfile.type: Unsupported value: \"Default\": supported values: \"Localhost\", \"RuntimeDefault\", \"Unconfined\"")),
        ("container", "lifecycle: {preStop: {}}", format!("{C}.lifecycle.preStop: Required value: must specify a handler type")),
        ("container", "startupProbe: {}", format!("{C}.startupProbe: Required value: must specify a handler type")),
        ("probe", "exec: {command: [a]}", format!("{C}.livenessProbe.httpGet: Forbidden: may not specify more than 1 handler type")),
        ("probe", "periodSeconds: -1", format!("{C}.livenessProbe.periodSeconds: Invalid value: -1: must be greater than or equal to 0")),
        ("probe", "successThreshold: 2", format!("{C}.livenessProbe.successThreshold: Invalid value: 2: must be 1")),
        ("probe", "terminationGracePeriodSeconds: 0", format!("{C}.livenessProbe.terminationGracePeriodSeconds: Invalid value: 0: must be greater than 0")),
        ("container", "readinessProbe: {tcpSocket: {port: 0}}", format!("{C}.readinessProbe.tcpSocket.port: Invalid value: 0: must be between 1 and 65535, inclusive")),
        ("container", "readinessProbe: {tcpSocket: {port: '6443'}}", format!("{C}.readinessProbe.tcpSocket.port: Invalid value: \"6443\": must contain at least one letter (a-z)")),
        ("annotations", "annotations: {'a b': c}", "metadata.annotations: Invalid value: \"a b\": name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character".to_owned()),
    ];
    for (mark, more, expected) in rows {
        let said: Vec<String> = predicted(&with(mark, more)).iter().map(ToString::to_string).collect();
        assert_eq!(said, [expected], "{more}");
    }
    let twice = API.replace("  volumes:\n", "  - {name: kube-apiserver, image: ' i'}\n  volumes:\n");
    let said: Vec<String> = predicted(&twice).iter().map(ToString::to_string).collect();
    assert_eq!(
        said,
        [
            "spec.containers[1].image: Invalid value: \" i\": must not have leading or trailing whitespace",
            "spec.containers[1].name: Duplicate value: \"kube-apiserver\"",
        ]
    );
}

#[test]
fn requests_and_limits_are_compared_as_numbers() {
    let asked = |needs: &str| {
        let text = API.replace("{requests: {cpu: 250m}}", needs);
        predicted(&text).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let path = "spec.containers[0].resources";
    assert_eq!(
        asked("{requests: {cpu: 2}, limits: {cpu: 1}}"),
        [format!("{path}.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1")]
    );
    for fine in [
        "{cpu: 1000m}, limits: {cpu: 1}",
        "{memory: 1Gi}, limits: {memory: 1100M}",
        "{cpu: 0.5}, limits: {cpu: 5e-1}",
        "{cpu: .5}, limits: {cpu: 500m}",
    ] {
        assert_eq!(asked(&format!("{{requests: {fine}}}")), [""; 0], "{fine}");
    }
    for more in [
        "{memory: 1Gi}, limits: {memory: 1024M}",
        "{cpu: 1001m}, limits: {cpu: 1}",
        "{memory: 1Ti}, limits: {memory: 1e12}",
    ] {
        assert_eq!(asked(&format!("{{requests: {more}}}")).len(), 1, "{more}");
    }
    for none in ["abc", "1GiB", "1 Gi", "''", "1.2.3", "--1", "1mm", "+"] {
        let said = asked(&format!("{{requests: {{memory: {none}}}}}"));
        assert!(said.len() == 1 && said[0].contains("must match the regular expression"), "{none}: {said:?}");
    }
    assert_eq!(asked("{requests: {cpu: -1}}").len(), 1);
    assert_eq!(asked("{requests: {gpu: 1}}").len(), 1);
    assert_eq!(asked("{requests: {example.com/gpu: 1}, limits: {example.com/gpu: 1}}"), [""; 0]);
    assert!(values::quantity("9E").unwrap() < values::quantity("9Ei").unwrap());
}

#[test]
fn a_rule_that_came_or_went_names_its_kubelets() {
    let first = |mark: &str, more: &str| {
        let prediction = predicted(&with(mark, more)).remove(0);
        (prediction.path, prediction.kubelets)
    };
    let api = Kubelets::From(34);
    for (mark, more, path) in [
        (
            "container",
            "env: [{name: A, valueFrom: {secretKeyRef: {name: s, key: k}}}]",
            "spec.containers[0].env[0].valueFrom.secretKeyRef",
        ),
        ("container", "envFrom: [{configMapRef: {name: c}}]", "spec.containers[0].envFrom[0].configMapRef"),
        ("spec", "serviceAccountName: default", "spec.serviceAccountName"),
        ("spec", "imagePullSecrets: [{name: s}]", "spec.imagePullSecrets[0]"),
        ("volumes", "- {name: a, secret: {secretName: s}}", "spec.volumes[1].secret"),
        ("volumes", "- {name: a, persistentVolumeClaim: {claimName: c}}", "spec.volumes[1].persistentVolumeClaim"),
        (
            "volumes",
            "- {name: a, projected: {sources: [{configMap: {name: c}}]}}",
            "spec.volumes[1].projected.sources[0].configMap",
        ),
    ] {
        assert_eq!(first(mark, more), (path.to_owned(), api), "{more}");
    }
    let relaxed = ("spec.containers[0].env[0].name".to_owned(), Kubelets::Before(32));
    assert_eq!(first("container", "env: [{name: 1A}]"), relaxed);
    assert_eq!([api.has(Some(33)), api.has(Some(34)), api.has(None)], [Some(false), Some(true), None]);
    assert_eq!([relaxed.1.has(Some(31)), relaxed.1.has(Some(32))], [Some(true), Some(false)]);
    assert_eq!(Kubelets::All.has(None), Some(true));
}
