//! Virtual IPs: the addresses of the API server that a static pod of this node has to raise (kube-vip, keepalived). Such
//! a pod may need the address before it can raise it.

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use super::endpoints::Servers;
use super::file;
use crate::model::addresses::{Held, Raised, address_in};
use crate::model::observation::ManifestFile;
use crate::model::{Manifest, Role};

/// Programs that raise an address, by the name of the pod or of its image.
const RAISERS: [&str; 4] = ["kube-vip", "keepalived", "vrrp", "ucarp"];
/// How kube-vip's environment names its address, of its manifests for the control plane.
const VARIABLES: [&str; 3] = ["address", "vip_address", "VIP"];
/// keepalived's configuration is smaller.
const MAX_CONFIG: u64 = 64 << 10;

/// The servers of kubeconfigs whose address a pod of this node raises. `all` are the addresses of all interfaces.
pub(super) fn find(manifests: &[Arc<ManifestFile>], servers: &Servers, all: &[Held], hosts: &Path) -> Vec<Raised> {
    let pods = || manifests.iter().filter_map(|file| file.content.as_ref().ok()).filter(|pod| pod.role == Role::Other);
    let raised = servers.iter().filter_map(|(server, used)| {
        // Without such a pod, nothing is read.
        pods().next()?;
        let address = address_of(server, hosts)?;
        let by = pods().find(|pod| raises(pod, address))?.id.clone();
        let here = all.iter().any(|held| held.address == address);
        Some(Raised { server: server.clone(), address, used: used.clone(), by, here, words: None })
    });
    raised.collect()
}

fn raises(pod: &Manifest, address: IpAddr) -> bool {
    let containers = pod.pod.spec.iter().flat_map(|spec| &spec.containers);
    let set = containers.flat_map(|container| container.env.iter().flatten()).any(|variable| {
        let value = variable.value.as_deref().and_then(|value| address_in(value.split('/').next()?));
        VARIABLES.contains(&variable.name.as_str()) && value == Some(address)
    });
    let named = |text: &str| RAISERS.iter().any(|raiser| text.contains(raiser));
    let is_raiser = || named(pod.id.name()) || pod.images().iter().any(|image| named(image));
    set || is_raiser() && (has(&String::from_utf8_lossy(&pod.raw), address) || is_configured(pod, address))
}

/// Whether a file that is mounted into it names the address: keepalived's configuration does.
fn is_configured(pod: &Manifest, address: IpAddr) -> bool {
    let names = |path: &Path| {
        file::read(path, MAX_CONFIG).is_ok_and(|(bytes, _)| has(&String::from_utf8_lossy(&bytes), address))
    };
    pod.host_mounts().iter().any(|(_, path)| match fs::metadata(path) {
        Ok(meta) if meta.is_file() => names(path),
        Ok(meta) if meta.is_dir() => names(&path.join("keepalived.conf")),
        _ => false,
    })
}

/// Whether a text has the address as a word of itself, not as a part of a longer one.
fn has(text: &str, address: IpAddr) -> bool {
    let part = |c: char| c.is_ascii_hexdigit() || c == '.' || c == ':';
    text.split(|c: char| !part(c)).any(|word| {
        word.parse() == Ok(address) || word.rsplit_once(':').is_some_and(|(host, _)| host.parse() == Ok(address))
    })
}

/// The address of a URL: its own, or the one that `hosts` has for its name. No name server is asked.
fn address_of(server: &str, hosts: &Path) -> Option<IpAddr> {
    if let Some(address) = address_in(server) {
        return Some(address);
    }
    let authority = server.split_once("://").map_or(server, |(_, rest)| rest).split('/').next()?;
    let name = authority.split(':').next()?;
    let text = fs::read_to_string(hosts).ok()?;
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default());
    lines.into_iter().find_map(|line| {
        let mut words = line.split_whitespace();
        let address = words.next()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then(|| address_in(address)).flatten()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::model::environment::User;
    use crate::observe::testing::manifest_file;

    #[test]
    fn a_pod_raises_the_address_that_its_environment_its_text_or_its_configuration_names() {
        let dir = tempfile::tempdir().unwrap();
        let none = dir.path().join("hosts");
        let used = BTreeSet::from([(User::Kubelet, "/etc/kubernetes/kubelet.conf".into())]);
        let servers = Servers::from([("https://10.88.0.9:6443".to_owned(), used)]);
        let held = |address: &str| Held { address: address.parse().unwrap(), prefix: 32, device: "lo".into() };
        let by = |name: &str, container: &str| {
            let found = find(&[manifest_file(name, container)], &servers, &[held("10.88.0.9")], &none);
            found.first().map(|raised| (raised.by.name().to_owned(), raised.here))
        };
        let vip = |name: &str| Some((name.to_owned(), true));
        assert_eq!(by("vip", "env: [{name: address, value: 10.88.0.9}]"), vip("vip"));
        assert_eq!(by("vip", "env: [{name: vip_address, value: 10.88.0.9/32}]"), vip("vip"));
        assert_eq!(by("vip", "env: [{name: address, value: 10.88.0.90}]"), None);
        assert_eq!(
            by("kube-vip", "args: ['until curl -k https://10.88.0.9:6443/livez; do sleep 1; done']"),
            vip("kube-vip")
        );
        assert_eq!(by("haproxy", "args: ['10.88.0.9']"), None, "a balancer listens there and raises nothing");
        assert_eq!(by("kube-scheduler", "command: [kube-scheduler], env: [{name: address, value: 10.88.0.9}]"), None);

        let config = dir.path().join("keepalived.conf");
        fs::write(&config, "virtual_ipaddress {\n  10.88.0.9/24 dev eth0\n}\n").unwrap();
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: ha, namespace: kube-system}}, spec: {{volumes: [{{name: c, \
             hostPath: {{path: {}}}}}], containers: [{{name: a, image: 'osixia/keepalived:2', volumeMounts: [{{name: c, \
             mountPath: /etc/keepalived}}]}}]}}}}",
            dir.path().display()
        );
        let pod = Manifest::parse(text.into_bytes().into()).unwrap();
        assert!(raises(&pod, "10.88.0.9".parse().unwrap()));
        assert!(!raises(&pod, "10.88.0.8".parse().unwrap()));
    }
    #[test]
    fn a_name_is_looked_for_in_the_hosts_file_alone() {
        let hosts = tempfile::NamedTempFile::new().unwrap();
        fs::write(hosts.path(), "127.0.0.1 localhost\n# 10.0.0.1 vip\n10.88.0.9\tk8s-api vip # the VIP\n").unwrap();
        let of = |server: &str| address_of(server, hosts.path()).map(|address| address.to_string());
        assert_eq!(of("https://vip:6443").as_deref(), Some("10.88.0.9"));
        assert_eq!(of("https://192.0.2.1:6443").as_deref(), Some("192.0.2.1"));
        assert_eq!(of("https://other:6443"), None);
        assert_eq!(of("https://localhost:6443"), None);
    }
}
