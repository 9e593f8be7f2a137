//! The addresses of this node's interfaces, read at each pass, and which of those that its files name none of them has.
//!
//! ```text
//!   getifaddrs(3) ──▶ held ──────────────┐
//!   flags of manifests, --node-ip ──▶ named, not held, cannot be bound ──▶ missing
//! ```
//!
//! Binding is asked as well: a route of type local, and `net.ipv4.ip_nonlocal_bind`, make an address usable that no
//! interface has. An address of a manifest that only advertises it may be a load balancer's, so it counts only where
//! another flag binds it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::ErrorKind;
use std::net::{IpAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use nix::net::if_::InterfaceFlags;
use nix::sys::socket::SockaddrStorage;

use super::endpoints::Servers;
use super::raised;
use crate::model::addresses::{AddressUse, Addresses, Held, Missing, Naming, address_in, named, same_network, whole};
use crate::model::environment::User;
use crate::model::observation::ManifestFile;
use crate::model::{Manifest, Role};

/// Interfaces of containers and of service proxies: their addresses are no addresses of the node.
const NOT_OF_THE_NODE: [&str; 16] = [
    "br-",
    "cali",
    "cilium",
    "cni",
    "docker",
    "dummy",
    "flannel",
    "ip6tnl",
    "kube-",
    "lxc",
    "nodelocaldns",
    "podman",
    "tunl",
    "veth",
    "virbr",
    "vxlan",
];

/// Names of this node's own choice.
const HOSTS: &str = "/etc/hosts";

/// What the files of this node name.
pub(super) struct Named<'a> {
    pub(super) manifests: &'a [Arc<ManifestFile>],
    /// The kubelet's `--node-ip`, and where it is set.
    pub(super) node_ip: Option<(String, PathBuf)>,
    pub(super) servers: &'a Servers,
    /// The addresses that each certificate is for.
    pub(super) sans: &'a BTreeMap<PathBuf, BTreeSet<IpAddr>>,
}

/// What is remembered of interfaces from pass to pass.
#[derive(Debug, Default)]
pub(super) struct Interfaces {
    /// Where each address was last.
    places: BTreeMap<IpAddr, (String, u8)>,
    /// Since when each has been missing, on the boot clock.
    gone: BTreeMap<IpAddr, Duration>,
}

impl Interfaces {
    pub(super) fn look(&mut self, names: &Named<'_>, now: Duration) -> Addresses {
        let Ok(all) = getifaddrs() else { return Addresses::default() };
        let all: Vec<Held> = all.filter_map(held).collect();
        let raised = raised::find(names.manifests, names.servers, &all, Path::new(HOSTS));
        Addresses { raised, ..self.compare(all, names, now, can_bind) }
    }

    /// `can_bind` is asked of what no interface has.
    fn compare(&mut self, all: Vec<Held>, names: &Named<'_>, now: Duration, can_bind: fn(IpAddr) -> bool) -> Addresses {
        self.places.extend(all.iter().map(|held| (held.address, (held.device.clone(), held.prefix))));
        let mut found: BTreeMap<IpAddr, BTreeSet<Naming>> = BTreeMap::new();
        for file in names.manifests {
            let Ok(manifest) = &file.content else { continue };
            for (address, flag, how) in named(manifest) {
                let user = User::Component(manifest.id.clone());
                found.entry(address).or_default().insert(Naming { file: file.name.clone().into(), flag, user, how });
            }
        }
        if let Some((value, file)) = &names.node_ip {
            for address in value.split(',').filter_map(address_in) {
                let naming = Naming {
                    file: file.clone(),
                    flag: "--node-ip".to_owned(),
                    user: User::Kubelet,
                    how: AddressUse::Bound,
                };
                found.entry(address).or_default().insert(naming);
            }
        }
        found.retain(|address, namings| {
            let binds = namings.iter().any(|naming| naming.how == AddressUse::Bound);
            binds && !all.iter().any(|held| held.address == *address) && !can_bind(*address)
        });
        self.gone.retain(|address, _| found.contains_key(address));
        let missing = found.into_iter().map(|(address, named)| {
            let since = *self.gone.entry(address).or_insert(now);
            self.missing(address, named, &all, names, now.saturating_sub(since))
        });
        let missing = missing.collect();
        let mut held: Vec<Held> = all;
        held.retain(|held| address_in(&held.address.to_string()).is_some() && is_of_the_node(&held.device));
        let manifests = names.manifests.iter().filter_map(|file| file.content.as_ref().ok());
        let api_server = manifests.into_iter().find(|manifest| manifest.role == Role::ApiServer).and_then(api_url);
        Addresses { held, missing, raised: Vec::new(), api_server }
    }

    fn missing(
        &self,
        address: IpAddr,
        mut named: BTreeSet<Naming>,
        all: &[Held],
        names: &Named<'_>,
        gone_for: Duration,
    ) -> Missing {
        let there = names.servers.iter().filter(|(server, _)| address_in(server) == Some(address));
        named.extend(there.flat_map(|(_, used)| used).map(|(user, path)| Naming {
            file: path.clone(),
            flag: "server".to_owned(),
            user: user.clone(),
            how: AddressUse::Advertised,
        }));
        let certificates = names.sans.values().filter(|sans| sans.contains(&address)).count();
        let fits =
            || all.iter().find(|held| same_network(held, address)).map(|held| (held.device.clone(), held.prefix));
        let leads_out = || default_device().map(|device| (device, whole(address)));
        let place = self.places.get(&address).cloned().or_else(fits).or_else(leads_out);
        Missing { address, named, certificates, place, gone_for }
    }
}

/// An address of an interface that is up.
fn held(found: InterfaceAddress) -> Option<Held> {
    let address = found.address.as_ref().and_then(ip)?;
    let up = found.flags.contains(InterfaceFlags::IFF_UP);
    let prefix = match found.netmask.as_ref().and_then(ip) {
        Some(IpAddr::V4(mask)) => mask.to_bits().count_ones(),
        Some(IpAddr::V6(mask)) => mask.to_bits().count_ones(),
        None => whole(address).into(),
    };
    up.then(|| Held { address, prefix: u8::try_from(prefix).unwrap_or(0), device: found.interface_name })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
}

/// Whether a process can listen there. Only "no such address" is a no.
fn can_bind(address: IpAddr) -> bool {
    match UdpSocket::bind((address, 0)) {
        Ok(_) => true,
        Err(error) => error.kind() != ErrorKind::AddrNotAvailable,
    }
}

fn is_of_the_node(device: &str) -> bool {
    device != "lo" && !NOT_OF_THE_NODE.iter().any(|prefix| device.starts_with(prefix))
}

/// The interface of the default route.
pub(super) fn default_device() -> Option<String> {
    let routes = fs::read_to_string("/proc/net/route").ok()?;
    let fields = routes.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let default = fields
        .filter(|fields| fields.get(1) == Some(&"00000000"))
        .min_by_key(|fields| fields.get(6).and_then(|metric| metric.parse::<u32>().ok()).unwrap_or(u32::MAX));
    default?.first().map(|device| (*device).to_owned())
}

/// Where this node's API server is reached: its advertised address is in its certificate, and 127.0.0.1 is not.
fn api_url(manifest: &Manifest) -> Option<String> {
    let address = manifest.flag("advertise-address").as_deref().and_then(address_in)?;
    let port = manifest.flag("secure-port").and_then(|port| port.parse::<u16>().ok()).unwrap_or(6443);
    Some(match address {
        IpAddr::V4(v4) => format!("https://{v4}:{port}"),
        IpAddr::V6(v6) => format!("https://[{v6}]:{port}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::testing::manifest_file;

    const API: &str = "command: [kube-apiserver, --advertise-address=192.0.2.10, --secure-port=6444], \
                       livenessProbe: {httpGet: {host: 192.0.2.10, port: 6444}}";
    const ETCD: &str = "command: [etcd, '--listen-client-urls=https://127.0.0.1:2379,https://192.0.2.10:2379']";

    fn held(address: &str, prefix: u8, device: &str) -> Held {
        Held { address: address.parse().unwrap(), prefix, device: device.to_owned() }
    }

    #[test]
    fn an_address_that_files_name_and_no_interface_has_is_found_with_its_last_place() {
        let manifests = [manifest_file("etcd", ETCD), manifest_file("kube-apiserver", API)];
        let used = BTreeSet::from([(User::Kubelet, PathBuf::from("/etc/kubernetes/kubelet.conf"))]);
        let servers = Servers::from([("https://192.0.2.10:6444".to_owned(), used)]);
        let address: IpAddr = "192.0.2.10".parse().unwrap();
        let sans = BTreeMap::from([(PathBuf::from("/pki/a.crt"), BTreeSet::from([address]))]);
        let names = Named {
            manifests: &manifests,
            node_ip: Some(("192.0.2.10".to_owned(), "kubeadm-flags.env".into())),
            servers: &servers,
            sans: &sans,
        };
        let mut interfaces = Interfaces::default();
        let seconds = Duration::from_secs;
        let there = vec![held("192.0.2.10", 24, "eth0"), held("127.0.0.1", 8, "lo"), held("10.1.0.1", 24, "cni0")];
        let found = interfaces.compare(there, &names, seconds(1), |_| false);
        assert_eq!(found.missing, []);
        assert_eq!(found.held, [held("192.0.2.10", 24, "eth0")], "neither the loopback's nor a bridge's");
        assert_eq!(found.api_server.as_deref(), Some("https://192.0.2.10:6444"));

        let other = || vec![held("10.99.0.7", 24, "eth0")];
        assert_eq!(interfaces.compare(other(), &names, seconds(2), |_| true).missing, [], "it can be bound");
        interfaces.compare(other(), &names, seconds(10), |_| false);
        let found = interfaces.compare(other(), &names, seconds(15), |_| false);
        let [missing] = &found.missing[..] else { panic!("{found:?}") };
        assert_eq!((missing.address, missing.certificates, missing.gone_for), (address, 1, seconds(5)));
        assert_eq!(missing.place, Some(("eth0".to_owned(), 24)), "where it was");
        let flags: Vec<&str> = missing.named.iter().map(|naming| naming.flag.as_str()).collect();
        assert_eq!(flags, ["server", "--listen-client-urls", "--advertise-address", "--node-ip"]);
        let etcd = crate::model::ComponentId::system("etcd");
        assert!(missing.binds(&etcd));
        assert_eq!(
            found.next(missing),
            "`ip addr add 192.0.2.10/24 dev eth0`, and the same in the network configuration of this node"
        );
    }

    #[test]
    fn what_is_only_advertised_may_be_a_balancers() {
        let api = "command: [kube-apiserver, --advertise-address=192.0.2.10]";
        let manifests = [manifest_file("kube-apiserver", api)];
        let names = Named { manifests: &manifests, node_ip: None, servers: &Servers::new(), sans: &BTreeMap::new() };
        let found = Interfaces::default().compare(Vec::new(), &names, Duration::ZERO, |_| false);
        assert_eq!(found.missing, []);
    }

    #[test]
    fn the_interfaces_of_this_machine_are_read_and_only_what_exists_can_be_bound() {
        let names = Named { manifests: &[], node_ip: None, servers: &Servers::new(), sans: &BTreeMap::new() };
        let mut interfaces = Interfaces::default();
        interfaces.look(&names, Duration::ZERO);
        let place = interfaces.places.get(&"127.0.0.1".parse().unwrap());
        assert_eq!(place, Some(&("lo".to_owned(), 8)));
        assert!(can_bind("127.0.0.1".parse().unwrap()));
    }
}
