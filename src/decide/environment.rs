//! Notices about the node, each reported once, with the next step, and shown while they last. Nothing here plans a
//! step.
//!
//! ```text
//!   certificates   in less than 30, 14, 7 days, 1 day ▶ ended         endpoints.rs, addresses.rs
//!   disks          low space ▶ few inodes ▶ none ▶ read-only          clock       jumped
//!   pressure       memory, disks: above a share of the last minute
//! ```
//!
//! A sentence contains thresholds, never current values: nothing is reported while nothing changes.

use std::collections::BTreeMap;

use super::draft::Draft;
use super::{addresses, certificate_use, endpoints, kubelet_probe};
use crate::model::certificate_use::{is_kubelet_client, kubelet_steps};
use crate::model::environment::{Certificate, Disk, Room, Stall, Validity, listed, second};
use crate::model::notice::NodeNotice;

/// A shortage that was told is over when there is this much more than what makes one, in percent.
const MARGIN: u64 = 20;

/// Of the last minute everything that wanted to run waited for memory in this share, in percent: the machine thrashes.
/// etcd's election timeout is a second, so that a tenth of every minute already costs leaders.
const MEMORY_STALLED: f64 = 10.0;

/// The same for disks. A busy disk is no trouble by itself; one for which everything waits half of the time makes
/// etcd's fsync, and with it every write of the cluster, take as long.
const IO_STALLED: f64 = 50.0;

/// Where it was reported, pressure is over below this part of it.
const RELIEVED: f64 = 0.5;

/// Tells what is to be known of the surroundings.
pub(super) fn tell(draft: &mut Draft<'_>) {
    certificates(draft);
    certificate_use::tell(draft);
    disks(draft);
    pressure(draft);
    endpoints::tell(draft);
    addresses::tell(draft);
    sandboxes(draft);
    next_start(draft);
    kubelet_probe::tell(draft);
    let jump = draft.scene.seen.node.clock_jump.map(|jump| {
        let way = if jump.seconds < 0 { "back" } else { "forward" };
        format!(
            "the clock jumped {way} by {} s: certificates, leases and tokens depend on it; next: see what set it \
             (`timedatectl`, `chronyc tracking`)",
            jump.seconds.unsigned_abs()
        )
    });
    match jump {
        Some(text) => draft.node_notice(NodeNotice::Clock, text),
        None => draft.clear_node_notice(&NodeNotice::Clock),
    }
}

/// What a kubelet finds at its next start, and the running one does not know yet.
fn next_start(draft: &mut Draft<'_>) {
    let node = &draft.scene.seen.node;
    let renamed = node.renamed.as_ref().map(|name| {
        format!(
            "a kubelet goes by the name {} here ({}), and its certificate is of node {}: the API server refuses what it says as \
             another node; next: `hostnamectl set-hostname {}`, or --hostname-override={} for the kubelet, then `systemctl restart kubelet`",
            name.now, name.by, name.joined, name.joined, name.joined
        )
    });
    let manifests = node.next_manifests.as_ref().map(|next| {
        format!(
            "{} names {} as the static pod directory, and changed after the kubelet started: the kubelet reads it from its next \
             start on, and ends every pod that is not there; next: move the manifests there before that, or change it back",
            next.named_by.display(),
            next.dir.display()
        )
    });
    for (about, text) in [(NodeNotice::NodeName, renamed), (NodeNotice::StaticPodPath, manifests)] {
        match text {
            Some(text) => draft.node_notice(about, text),
            None => draft.clear_node_notice(&about),
        }
    }
}

/// What the next sandbox lacks, told while the containers of today still run.
fn sandboxes(draft: &mut Draft<'_>) {
    let setup = &draft.scene.seen.node.sandboxes;
    let resolv_conf = setup.missing_resolv_conf().map(|file| {
        format!(
            "{}, the kubelet's resolvConf (named by {}), does not exist: the kubelet makes no sandbox without it; next: create it, \
             or name another one, then `systemctl restart kubelet`",
            file.path.display(),
            file.named_by
        )
    });
    let drivers = setup.cgroup_mismatch().map(|(kubelet, runtime, file)| {
        format!(
            "the kubelet's cgroupDriver is {kubelet} ({}), the container runtime's is {runtime}: pods end without a reason, or do \
             not start; next: set SystemdCgroup of the runtime as the kubelet has it, then `systemctl restart containerd kubelet`",
            file.display()
        )
    });
    for (about, text) in [(NodeNotice::ResolvConf, resolv_conf), (NodeNotice::CgroupDrivers, drivers)] {
        match text {
            Some(text) => draft.node_notice(about, text),
            None => draft.clear_node_notice(&about),
        }
    }
}

/// One notice per file, of the worst in it.
fn certificates(draft: &mut Draft<'_>) {
    let now = draft.scene.tick.now.wall;
    let all = &draft.scene.seen.node.certificates;
    // Nothing was read yet: that is no reason to take back what was reported.
    if all.is_empty() {
        return;
    }
    let node = draft.memory.machine.node_name.clone();
    let mut worst: BTreeMap<String, &Certificate> = BTreeMap::new();
    for certificate in all.iter().filter(|certificate| certificate.validity(now) != Validity::Valid) {
        let known = worst.entry(certificate.path.display().to_string()).or_insert(certificate);
        if certificate.not_after < known.not_after {
            *known = certificate;
        }
    }
    let notices = worst
        .into_iter()
        .filter_map(|(path, one)| Some((NodeNotice::Certificate(path), dates(one, one.validity(now), &node)?)))
        .collect();
    draft.keep_node_notices(|about| matches!(about, NodeNotice::Certificate(_)), notices);
}

fn dates(certificate: &Certificate, validity: Validity, node: &str) -> Option<String> {
    let whose =
        format!("{} ({}, used by {})", certificate.path.display(), certificate.subject, listed(&certificate.users));
    let end = second(certificate.not_after);
    let (how, next) = match validity {
        Validity::Valid => return None,
        Validity::Ending(1) => (format!("ends within a day, at {end}"), renewal(certificate)),
        Validity::Ending(days) => (format!("ends within {days} days, at {end}"), renewal(certificate)),
        Validity::Ended if is_kubelet_client(certificate) => (format!("ended at {end}"), kubelet_steps(node)),
        Validity::Ended => (format!("ended at {end}"), renewal(certificate)),
        Validity::NotYet => (
            format!("is not valid before {}", second(certificate.not_before)),
            "see whether the clock of this node is right (`timedatectl`)".to_owned(),
        ),
    };
    Some(format!("the certificate {whose} {how}; next: {next}"))
}

/// What kubeadm calls the files it renews (`kubeadm certs renew NAME`), by how their paths end.
const KUBEADM: [(&str, &str); 10] = [
    ("pki/apiserver.crt", "apiserver"),
    ("pki/apiserver-kubelet-client.crt", "apiserver-kubelet-client"),
    ("pki/apiserver-etcd-client.crt", "apiserver-etcd-client"),
    ("pki/front-proxy-client.crt", "front-proxy-client"),
    ("pki/etcd/server.crt", "etcd-server"),
    ("pki/etcd/peer.crt", "etcd-peer"),
    ("controller-manager.conf", "controller-manager.conf"),
    ("scheduler.conf", "scheduler.conf"),
    ("admin.conf", "admin.conf"),
    ("super-admin.conf", "super-admin.conf"),
];

fn renewal(certificate: &Certificate) -> String {
    if certificate.authority {
        return "no command renews a certificate authority: add a new one by hand before it expires".to_owned();
    }
    if certificate.path.ends_with("pki/kubelet-client-current.pem") {
        return "the kubelet renews it by itself where it reaches the API server: see `journalctl -u kubelet`"
            .to_owned();
    }
    if certificate.path.ends_with("pki/kubelet.crt") {
        return "move it and its key aside and restart the kubelet, which signs itself another".to_owned();
    }
    match KUBEADM.iter().find(|(end, _)| certificate.path.ends_with(end)) {
        Some((_, name)) if name.ends_with("admin.conf") => format!("`kubeadm certs renew {name}`"),
        Some((_, name)) => {
            format!("`kubeadm certs renew {name}`, then restart {}", listed(&certificate.users))
        }
        None => format!("renew it where it comes from, then restart {}", listed(&certificate.users)),
    }
}

fn disks(draft: &mut Draft<'_>) {
    let all = &draft.scene.seen.node.disks;
    if all.is_empty() {
        return;
    }
    let mut notices = BTreeMap::new();
    for disk in all {
        let Some((_, first)) = disk.holds.first() else { continue };
        let about = |room| NodeNotice::Disk(room, first.display().to_string());
        // A shortage that is shown stays until there is a margin more than what makes one.
        let with_margin = disk.room(MARGIN);
        let shown = draft.memory.notices.contains_key(&about(with_margin));
        let room = if shown { with_margin } else { disk.room(0) };
        if let Some(text) = shortage(disk, room) {
            notices.insert(about(room), text);
        }
    }
    draft.keep_node_notices(|about| matches!(about, NodeNotice::Disk(..)), notices);
}

fn shortage(disk: &Disk, room: Room) -> Option<String> {
    let held = disk.held();
    Some(match room {
        Room::Enough => return None,
        Room::Little => format!(
            "little space is left on the disk of {held}: the kubelet evicts pods there, or etcd's database cannot \
             grow; next: free some (`crictl rmi --prune`, `journalctl --vacuum-size=1G`, old backups), or enlarge it"
        ),
        Room::FewInodes => {
            format!(
                "few inodes are left on the disk of {held}; next: find what made so many small files and remove \
                     them"
            )
        }
        Room::NoInodes => format!(
            "no inodes are left on the disk of {held}: no file can be created there; next: find what made so many \
             small files and remove them"
        ),
        Room::None => format!(
            "no space is left on the disk of {held}: every write there fails; next: free some (`crictl rmi --prune`, \
             `journalctl --vacuum-size=1G`, old backups), or enlarge it"
        ),
        Room::ReadOnly => format!(
            "the file system of {held} is read-only; next: see in `dmesg` whether its disk failed, then check and \
             remount it"
        ),
    })
}

fn pressure(draft: &mut Draft<'_>) {
    let pressure = draft.scene.seen.node.pressure;
    let rows = [
        (
            NodeNotice::MemoryPressure,
            pressure.memory,
            MEMORY_STALLED,
            "memory",
            "find what uses it (`systemd-cgtop -m`)",
        ),
        (
            NodeNotice::IoPressure,
            pressure.io,
            IO_STALLED,
            "its disks",
            "find what uses them (`iotop`, `systemd-cgtop -i`)",
        ),
    ];
    for (about, stall, limit, what, next) in rows {
        let Some(Stall { full_60, .. }) = stall else { continue };
        let known = draft.memory.notices.contains_key(&about);
        if full_60 >= if known { limit * RELIEVED } else { limit } {
            let text = format!(
                "the machine waits for {what}: for more than {limit} % of the last minute every task was stalled; \
                 next: {next}"
            );
            draft.node_notice(about, text);
        } else {
            draft.clear_node_notice(&about);
        }
    }
}
