//! The addresses of this node: those that its interfaces have, and those that its manifests, its kubelet and its
//! kubeconfigs name and no interface has.
//!
//! ```text
//!   flags that bind        a process cannot start without the address, or the kubelet's probe cannot reach it: a cause
//!   flags that advertise   name it as well, and are listed; alone they prove nothing (an address of a load balancer)
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::core::v1::Probe;

use super::environment::{Endpoint, User};
use super::{ComponentId, Manifest, Role};

/// How a flag uses an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AddressUse {
    /// The process listens there, or the kubelet probes it there.
    Bound,
    /// Others are sent there.
    Advertised,
}

/// One address of an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    pub address: IpAddr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The interface.
    pub device: String,
}

/// One place that names an address.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Naming {
    pub file: PathBuf,
    /// The flag, or the field.
    pub flag: String,
    /// Whose file it is.
    pub user: User,
    pub how: AddressUse,
}

/// An address that this node's own files name for this node, and that no interface has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    pub address: IpAddr,
    pub named: BTreeSet<Naming>,
    /// How many certificates have it as a subject alternative name.
    pub certificates: usize,
    /// Where it was, or where it fits: the interface and the length of the prefix.
    pub place: Option<(String, u8)>,
    /// For how long it has been missing, on the boot clock.
    pub gone_for: Duration,
}

/// An address of the API server that a static pod of this node has to raise: a virtual IP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Raised {
    /// The URL, as the kubeconfigs have it.
    pub server: String,
    pub address: IpAddr,
    /// Who goes there, by which kubeconfig.
    pub used: BTreeSet<(User, PathBuf)>,
    /// The pod.
    pub by: ComponentId,
    /// Whether an interface of this node has it now.
    pub here: bool,
    /// The last words of that pod's log, while no interface of this node has it.
    pub words: Option<String>,
}

/// What is known of the addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// Of the interfaces that lead out of this node.
    pub held: Vec<Held>,
    pub missing: Vec<Missing>,
    pub raised: Vec<Raised>,
    /// Where this node's own API server is reached, as a URL.
    pub api_server: Option<String>,
}

/// At most so many addresses are listed: the sentence has to fit a screen.
const LISTED: usize = 4;

impl Addresses {
    /// Whether a URL with a port is of this node: of its loopback, or of an interface. Of a name that is unknown.
    pub fn is_here(&self, url: &str) -> bool {
        let host = url.split_once("://").map_or(url, |(_, rest)| rest).rsplit_once(':').map_or("", |(host, _)| host);
        let address: Option<IpAddr> = host.trim_matches(['[', ']']).parse().ok();
        host == "localhost"
            || address
                .is_some_and(|address| address.is_loopback() || self.held.iter().any(|held| held.address == address))
    }

    /// What is known of a missing address, as a sentence without its next step.
    pub fn sentence(&self, missing: &Missing) -> String {
        let mut files: BTreeMap<String, Vec<&str>> = BTreeMap::new();
        for naming in &missing.named {
            let name = naming
                .file
                .file_name()
                .map_or_else(|| naming.file.display().to_string(), |name| name.to_string_lossy().into_owned());
            files.entry(name).or_default().push(&naming.flag);
        }
        let mut named: Vec<String> =
            files.into_iter().map(|(file, flags)| format!("{file} ({})", flags.join(", "))).collect();
        if missing.certificates > 0 {
            let s = if missing.certificates == 1 { "" } else { "s" };
            named.push(format!("{} certificate{s}", missing.certificates));
        }
        let last = named.pop().unwrap_or_default();
        let named = if named.is_empty() { last } else { format!("{} and {last}", named.join(", ")) };
        let verb = if missing.named.len() + missing.certificates == 1 { "names" } else { "name" };
        let same_family = self.held.iter().filter(|held| held.address.is_ipv4() == missing.address.is_ipv4());
        let has: Vec<String> = same_family
            .take(LISTED)
            .map(|held| format!("{}/{} ({})", held.address, held.prefix, held.device))
            .collect();
        let has = if has.is_empty() { "no other address".to_owned() } else { has.join(", ") };
        format!("no interface of this node has {}, which {named} {verb}; it has {has}", missing.address)
    }

    /// The address that a pod of this node has to raise for this server, and has not.
    pub fn unraised(&self, server: &str) -> Option<&Raised> {
        self.raised.iter().find(|raised| raised.server == server && !raised.here)
    }

    /// What the silence of an address means for a kubelet that goes this way, and the next step.
    pub fn silent_for_the_kubelet(&self, endpoint: &Endpoint) -> String {
        let own = self.api_server.as_deref().unwrap_or("https://ADDRESS-OF-THIS-NODE:6443");
        let kubeconfig = endpoint.used.iter().find(|(user, _)| *user == User::Kubelet);
        let kubeconfig = kubeconfig.map_or_else(|| "kubelet.conf".to_owned(), |(_, path)| path.display().to_string());
        format!(
            "{}, the kubelet's way to the API server, takes connections and does not answer; the kubelet starts static \
             pods late or not at all while it waits; next: set `server:` in {kubeconfig} to {own}, and `systemctl restart \
             kubelet`",
            endpoint.server
        )
    }

    /// What keeps a pod of this node from raising its address, and the next step.
    pub fn why_unraised(&self, raised: &Raised) -> String {
        let (by, address) = (&raised.by, raised.address);
        let words = raised.words.as_deref().unwrap_or_default().trim();
        let fits = |held: &&Held| same_network(held, address);
        let device = self.held.iter().find(fits).or(self.held.first()).map_or("DEV", |held| &held.device);
        let by_hand = format!("`ip addr add {address}/{} dev {device}`", whole(address));
        let (how, next) = if words.contains("orbidden") {
            // kubeadm 1.29 took the rights of admin.conf away until `init` has bound its group.
            (
                "is denied the rights that it needs".to_owned(),
                format!("mount super-admin.conf in place of admin.conf in its manifest, or {by_hand}"),
            )
        } else if words.contains(&address.to_string()) {
            ("waits for the very address that it should raise".to_owned(), by_hand)
        } else {
            ("has not raised it".to_owned(), by_hand)
        };
        let said = if words.is_empty() { String::new() } else { format!(" (its log: {})", words.replace('\n', " | ")) };
        format!("{address} is on no interface of this node, and {by}, whose work it is, {how}{said}; next: {next}")
    }

    /// The next step with the least loss: the old address back. A new one needs every file and certificate again.
    pub fn next(&self, missing: &Missing) -> String {
        let (device, prefix) = missing.place.clone().unwrap_or_else(|| ("DEV".to_owned(), whole(missing.address)));
        format!(
            "`ip addr add {}/{prefix} dev {device}`, and the same in the network configuration of this node",
            missing.address
        )
    }
}

/// The prefix of one address alone.
pub fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

impl Missing {
    /// Whether it keeps this component from starting, or the kubelet from finding it alive.
    pub fn binds(&self, id: &ComponentId) -> bool {
        self.named
            .iter()
            .any(|naming| naming.how == AddressUse::Bound && matches!(&naming.user, User::Component(of) if of == id))
    }
}

/// The addresses that a manifest's flags give this node, each with the flag. A name is no address, `0.0.0.0` is all of
/// them, and a loopback address cannot go.
pub fn named(manifest: &Manifest) -> BTreeSet<(IpAddr, String, AddressUse)> {
    use AddressUse::{Advertised, Bound};
    let on_host = manifest.pod.spec.as_ref().is_some_and(|spec| spec.host_network == Some(true));
    let flags: &[(&str, AddressUse)] = match manifest.role {
        _ if !on_host => &[],
        Role::Etcd => &[
            ("listen-client-urls", Bound),
            ("listen-peer-urls", Bound),
            ("listen-metrics-urls", Bound),
            ("initial-advertise-peer-urls", Advertised),
            ("advertise-client-urls", Advertised),
        ],
        Role::ApiServer => &[("bind-address", Bound), ("advertise-address", Advertised)],
        Role::ControllerManager | Role::Scheduler => &[("bind-address", Bound)],
        Role::Other => &[],
    };
    let given = manifest.flags();
    let probed = probed_at(manifest);
    let mut all = BTreeSet::new();
    for (flag, how) in flags {
        let Some(value) = given.get(*flag).and_then(|values| values.last()) else { continue };
        for address in value.split(',').filter_map(address_in) {
            // kubeadm has the kubelet probe an API server where it advertises itself.
            let how = if manifest.role == Role::ApiServer && probed.contains(&address) { Bound } else { *how };
            all.insert((address, format!("--{flag}"), how));
        }
    }
    all
}

fn probed_at(manifest: &Manifest) -> BTreeSet<IpAddr> {
    let container = manifest.main_container();
    let probes = container.map(|c| [&c.liveness_probe, &c.startup_probe]).into_iter().flatten().flatten();
    let host = |probe: &Probe| probe.http_get.as_ref()?.host.clone();
    probes.filter_map(host).filter_map(|host| address_in(&host)).collect()
}

/// The address in a flag's value: of a URL, of `HOST:PORT`, or alone. Nothing where it is a name, or no address that an
/// interface could lose.
pub fn address_in(value: &str) -> Option<IpAddr> {
    let value = value.trim();
    let authority = value.split_once("://").map_or(value, |(_, rest)| rest).split('/').next()?;
    let bare = || authority.trim_matches(['[', ']']).parse().ok();
    let address: IpAddr = authority.parse::<SocketAddr>().map(|socket| socket.ip()).ok().or_else(bare)?;
    let link_local = matches!(address, IpAddr::V6(v6) if v6.is_unicast_link_local());
    (!address.is_unspecified() && !address.is_loopback() && !address.is_multicast() && !link_local).then_some(address)
}

/// Whether an address is in the network of another one.
pub fn same_network(held: &Held, address: IpAddr) -> bool {
    let bits = |address: IpAddr| match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    };
    let kept = u32::from(held.prefix.min(whole(held.address)));
    let mask = if kept == 0 { 0 } else { u128::MAX << (128 - kept) };
    held.address.is_ipv4() == address.is_ipv4() && (bits(held.address) ^ bits(address)) & mask == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(name: &str, network: &str, rest: &str) -> Manifest {
        let text = format!(
            "--- {{apiVersion: v1, kind: Pod, metadata: {{name: {name}, namespace: kube-system}}, spec: {{{network} \
             containers: [{{name: a, image: i, {rest}}}]}}}}"
        );
        Manifest::parse(text.into_bytes().into()).unwrap()
    }

    #[test]
    fn only_addresses_that_an_interface_can_lose_are_read_off_flags() {
        let rows = [
            ("192.0.2.10", Some("192.0.2.10")),
            ("https://192.0.2.10:2379", Some("192.0.2.10")),
            (" http://[fd00::7]:2381/", Some("fd00::7")),
            ("fd00::7", Some("fd00::7")),
            ("https://127.0.0.1:2379", None),
            ("0.0.0.0", None),
            ("::", None),
            ("https://[::1]:2379", None),
            ("fe80::1", None),
            ("https://master-1:2379", None),
            ("", None),
        ];
        for (value, address) in rows {
            assert_eq!(address_in(value), address.map(|a| a.parse().unwrap()), "{value}");
        }
    }

    #[test]
    fn a_flag_binds_or_advertises_and_a_pod_of_its_own_network_names_nothing() {
        let host = "hostNetwork: true,";
        let etcd = "command: [etcd, '--listen-client-urls=https://127.0.0.1:2379,https://192.0.2.1:2379', \
                    '--initial-advertise-peer-urls=https://192.0.2.1:2380']";
        let api = "command: [kube-apiserver, --advertise-address=192.0.2.1, --bind-address=0.0.0.0]";
        let probe = "livenessProbe: {httpGet: {host: 192.0.2.1, port: 6443}}";
        let uses =
            |manifest: Manifest| named(&manifest).into_iter().map(|(_, flag, how)| (flag, how)).collect::<Vec<_>>();
        let flag = |flag: &str, how| (flag.to_owned(), how);
        let both = [
            flag("--initial-advertise-peer-urls", AddressUse::Advertised),
            flag("--listen-client-urls", AddressUse::Bound),
        ];
        assert_eq!(uses(manifest("etcd", host, etcd)), both);
        assert_eq!(uses(manifest("etcd", "", etcd)), []);
        assert_eq!(uses(manifest("api", host, api)), [flag("--advertise-address", AddressUse::Advertised)]);
        let probed = manifest("api", host, &format!("{api}, {probe}"));
        assert_eq!(uses(probed), [flag("--advertise-address", AddressUse::Bound)], "the kubelet probes it there");
        let scheduler = "command: [kube-scheduler, --bind-address=192.0.2.1]";
        assert_eq!(uses(manifest("s", host, scheduler)), [flag("--bind-address", AddressUse::Bound)]);
    }

    #[test]
    fn a_url_is_of_this_node_by_its_loopback_or_an_interface() {
        let held = vec![Held { address: "10.0.0.7".parse().unwrap(), prefix: 24, device: "eth0".into() }];
        let here = Addresses { held, ..Addresses::default() };
        let rows = [
            ("https://127.0.0.1:2379", true),
            ("https://[::1]:2379/", true),
            ("https://localhost:2379", true),
            ("https://10.0.0.7:2379", true),
            ("https://10.0.0.8:2379", false),
            ("https://etcd-1:2379", false),
            ("127.0.0.1", false),
        ];
        for (url, is) in rows {
            assert_eq!(here.is_here(url), is, "{url}");
        }
    }

    #[test]
    fn networks_are_compared_by_their_prefix() {
        let held = |address: &str, prefix| Held { address: address.parse().unwrap(), prefix, device: "eth0".into() };
        let rows = [
            ("10.0.0.7", 24, "10.0.0.9", true),
            ("10.0.0.7", 24, "10.0.1.9", false),
            ("10.0.0.7", 0, "192.0.2.1", true),
            ("fd00::1", 64, "fd00::2", true),
            ("fd00::1", 64, "fd00:0:0:1::2", false),
            ("::1", 0, "10.0.0.1", false),
        ];
        for (one, prefix, other, same) in rows {
            assert_eq!(same_network(&held(one, prefix), other.parse().unwrap()), same, "{one}/{prefix} and {other}");
        }
    }
}
