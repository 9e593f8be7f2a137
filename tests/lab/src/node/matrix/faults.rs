//! The faults: the name of each, the component it hits, and the clients that are affected.

use crate::manifests::Component;
use crate::manifests::Component::{ApiServer, ControllerManager, Etcd, Scheduler};

use super::clients::Client;
use super::ground::Ground;

/// One fault.
#[derive(Debug)]
pub(super) struct Fault {
    /// How it is chosen.
    pub name: &'static str,
    /// How it is called in the table.
    pub title: &'static str,
    /// The component that it hits; none for the kubelet and the runtime.
    pub subject: Option<Component>,
    /// What the node must be before.
    pub ground: Ground,
    /// What is done.
    pub breakage: Breakage,
    /// Who is hurt.
    pub client: Client,
}

/// What is done to the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Breakage {
    /// A flag that the program does not know is written into its manifest.
    Flag(Component),
    /// A flag that it takes is written into its manifest.
    GoodFlag(Component),
    /// Its manifest names an image that is nowhere.
    Image(Component),
    /// Its manifest is truncated.
    Empty(Component),
    /// Its manifest is deleted.
    Delete(Component),
    /// An older copy of its manifest lies beside it.
    Copy(Component),
    /// A level that does not exist is written into the audit policy, and the API server's process ends.
    Audit,
    /// SIGSTOP to its process.
    Stop(Component),
    /// SIGSTOP to the kubelet.
    StopKubelet,
    /// SIGSTOP to containerd.
    StopRuntime,
    /// A stand-in's fault switch.
    Tell(Component, &'static str),
    /// SIGSTOP to both other members.
    StopMembers,
    /// etcd is written full to its quota.
    WriteFull,
    /// The disk under etcd's data is filled.
    FillDisk,
    /// The API server's serving certificate is one that ended yesterday, and its process ends.
    EndCertificate,
    /// The power goes, and comes back with a flag in the manifest that the program does not know.
    Boot(Component),
    /// etcd's data are replaced by an earlier snapshot of them while the API server stays.
    Restore,
    /// The node boots without the disk of etcd's data: etcd founds an empty store below its mount point. To be found: that the
    /// store is empty, that its disk is not mounted, and that no API server serves it.
    LoseDisk,
}

const PLAIN: Fault = Fault {
    name: "",
    title: "",
    subject: Some(ApiServer),
    ground: Ground::Plain,
    breakage: Breakage::Flag(ApiServer),
    client: Client::Write,
};

/// All of them, in the order of the table.
pub(super) const FAULTS: [Fault; 24] = [
    Fault { name: "apiserver-flag", title: "an unknown flag in kube-apiserver's manifest", ..PLAIN },
    Fault {
        name: "etcd-flag",
        title: "an unknown flag in etcd's manifest",
        subject: Some(Etcd),
        breakage: Breakage::Flag(Etcd),
        ..PLAIN
    },
    Fault {
        name: "etcd-good-flag",
        title: "a good change of etcd's manifest",
        subject: Some(Etcd),
        breakage: Breakage::GoodFlag(Etcd),
        ..PLAIN
    },
    Fault {
        name: "scheduler-flag",
        title: "an unknown flag in kube-scheduler's manifest",
        subject: Some(Scheduler),
        breakage: Breakage::Flag(Scheduler),
        client: Client::Lease(Scheduler),
        ..PLAIN
    },
    Fault {
        name: "image",
        title: "an image that does not exist in kube-apiserver's manifest",
        breakage: Breakage::Image(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "empty",
        title: "kube-apiserver's manifest is emptied",
        breakage: Breakage::Empty(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "deleted",
        title: "kube-apiserver's manifest is deleted",
        breakage: Breakage::Delete(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "audit-policy",
        title: "the audit policy is broken, and kube-apiserver starts anew",
        ground: Ground::Audited,
        breakage: Breakage::Audit,
        ..PLAIN
    },
    Fault {
        name: "second-file",
        title: "an older copy of kube-apiserver's manifest lies beside it (`.bak`)",
        breakage: Breakage::Copy(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "boot",
        title: "the node boots with an unknown flag in kube-apiserver's manifest",
        breakage: Breakage::Boot(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "etcd-stopped",
        title: "etcd hangs (SIGSTOP)",
        subject: Some(Etcd),
        breakage: Breakage::Stop(Etcd),
        ..PLAIN
    },
    Fault {
        name: "apiserver-stopped",
        title: "kube-apiserver hangs (SIGSTOP)",
        breakage: Breakage::Stop(ApiServer),
        ..PLAIN
    },
    Fault {
        name: "controllers-stopped",
        title: "kube-controller-manager hangs (SIGSTOP)",
        subject: Some(ControllerManager),
        breakage: Breakage::Stop(ControllerManager),
        client: Client::Lease(ControllerManager),
        ..PLAIN
    },
    Fault {
        name: "scheduler-stopped",
        title: "kube-scheduler hangs (SIGSTOP)",
        subject: Some(Scheduler),
        breakage: Breakage::Stop(Scheduler),
        client: Client::Lease(Scheduler),
        ..PLAIN
    },
    Fault {
        name: "kubelet-stopped",
        title: "the kubelet hangs (SIGSTOP)",
        subject: None,
        breakage: Breakage::StopKubelet,
        client: Client::Kubelet,
        ..PLAIN
    },
    Fault {
        name: "runtime-stopped",
        title: "containerd hangs (SIGSTOP)",
        subject: None,
        breakage: Breakage::StopRuntime,
        client: Client::Runtime,
        ..PLAIN
    },
    Fault {
        name: "lease",
        title: "kube-scheduler answers its probes, and its lease stands still",
        subject: Some(Scheduler),
        breakage: Breakage::Tell(Scheduler, "freeze-lease"),
        client: Client::Lease(Scheduler),
        ..PLAIN
    },
    Fault {
        name: "reads",
        title: "kube-apiserver answers its probes and no read or write",
        breakage: Breakage::Tell(ApiServer, "hang-requests"),
        ..PLAIN
    },
    Fault {
        name: "quorum",
        title: "etcd's quorum is lost (two of three members hang)",
        subject: Some(Etcd),
        ground: Ground::Members,
        breakage: Breakage::StopMembers,
        ..PLAIN
    },
    Fault {
        name: "nospace",
        title: "etcd is full to its quota (NOSPACE)",
        subject: Some(Etcd),
        ground: Ground::SmallQuota,
        breakage: Breakage::WriteFull,
        ..PLAIN
    },
    Fault {
        name: "disk",
        title: "the disk under etcd's data is full",
        subject: Some(Etcd),
        ground: Ground::SmallDisk,
        breakage: Breakage::FillDisk,
        ..PLAIN
    },
    Fault {
        name: "certificate",
        title: "kube-apiserver's serving certificate has ended, and it starts anew",
        breakage: Breakage::EndCertificate,
        ..PLAIN
    },
    Fault {
        name: "restored",
        title: "etcd was restored to an earlier state under a running kube-apiserver",
        subject: Some(Etcd),
        breakage: Breakage::Restore,
        client: Client::Fresh,
        ..PLAIN
    },
    Fault {
        name: "disk-missing",
        title: "the node boots, and the disk of etcd's data is not mounted",
        subject: Some(Etcd),
        ground: Ground::OwnDisk,
        breakage: Breakage::LoseDisk,
        client: Client::Same,
    },
];
