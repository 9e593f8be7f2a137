//! The machine around the control plane: the signs that it is a master, programs that work on it, and listening
//! processes.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nix::sys::statvfs::{FsFlags, statvfs};

use crate::config::settings::Settings;
use crate::model::observation::{BusyKind, BusyProcess, Listener, MasterSigns};
use crate::sys::lock_file;
use crate::sys::proc::{self, Process};

/// What of a busy process' command line is kept.
const MAX_COMMAND: usize = 200;
/// Besides the two that every master has, signs that count where they existed when we first looked.
const OPTIONAL_SIGNS: [&str; 3] = ["pki/sa.key", "pki/sa.pub", "pki/etcd/ca.crt"];

/// What a `kubeadm reset` takes away.
#[derive(Debug)]
pub(super) struct Signs(Vec<PathBuf>);

impl Signs {
    /// What is to stand: the cluster's CA and the kubelet's kubeconfig, which every master has, and what exists now.
    pub(super) fn at_first_sight(settings: &Settings) -> Self {
        let root = &settings.paths.kubernetes;
        let standing = OPTIONAL_SIGNS.iter().map(|sign| root.join(sign)).filter(|sign| sign.exists());
        Self([settings.kubelet.kubeconfig.clone(), root.join("pki/ca.crt")].into_iter().chain(standing).collect())
    }

    /// What is missing of it.
    pub(super) fn look(&self) -> MasterSigns {
        MasterSigns { missing: self.0.iter().filter(|sign| !sign.exists()).cloned().collect() }
    }
}

/// Root's processes that must not be disturbed (Q6, Q3).
pub(super) fn busy(processes: &[Process]) -> Vec<BusyProcess> {
    let roots = processes.iter().filter(|process| process.uid == 0);
    roots
        .filter_map(|process| {
            let kind = kind_of(&process.args)?;
            let command = process.args.join(" ").chars().take(MAX_COMMAND).collect();
            Some(BusyProcess { pid: process.pid, command, kind })
        })
        .collect()
}

/// The command that works on etcd's data, as the lock that it holds names it.
pub(super) fn restores(lock: &Path) -> Option<BusyProcess> {
    let pid = lock_file::holder(lock)?;
    let words = proc::command_line(pid).unwrap_or_default();
    let command = words.join(" ").chars().take(MAX_COMMAND).collect();
    Some(BusyProcess { pid, command, kind: work_on_etcd(&words) })
}

/// Which of the commands that hold the lock this one is. Anything else counts as a restore, during which no etcd is started.
fn work_on_etcd(words: &[String]) -> BusyKind {
    let commands = ["compact", "defrag", "disarm", "restore"];
    match words.iter().find(|word| commands.contains(&word.as_str())).map(String::as_str) {
        None | Some("restore") => BusyKind::Restore,
        Some(_) => BusyKind::EtcdMaintenance,
    }
}

/// The container runtime's own process: the oldest of root's in our namespace that has one of the runtimes' names. The
/// socket's name says which where several runtimes are installed.
pub(super) fn runtime(processes: &[Process], endpoint: Option<&str>) -> Option<i32> {
    let wanted: Vec<&str> = match endpoint {
        Some(socket) if socket.contains("crio") => vec!["crio"],
        Some(socket) if socket.contains("containerd") => vec!["containerd"],
        _ => vec!["containerd", "crio", "cri-dockerd"],
    };
    let named = processes.iter().filter(|process| process.uid == 0 && wanted.contains(&process.program()));
    let ours = named.filter(|process| proc::in_our_namespace(process.pid));
    ours.map(|process| process.pid).min_by_key(|pid| proc::started(*pid))
}

fn kind_of(args: &[String]) -> Option<BusyKind> {
    let base = |word: &str| word.rsplit('/').next().unwrap_or(word).to_owned();
    // A wrapper script runs as its shell, with its own name second.
    let at = usize::from(args.len() > 1 && matches!(base(&args[0]).as_str(), "sh" | "bash" | "dash"));
    let program = base(args.get(at)?);
    let mut words = args[at + 1..].iter().filter(|word| !word.starts_with('-')).map(String::as_str);
    match program.as_str() {
        "kubeadm" => {
            let dry = args.iter().any(|word| word == "--dry-run" || word == "--dry-run=true");
            let works = match words.next()? {
                "upgrade" => !matches!(words.next(), None | Some("plan" | "diff")),
                "init" | "join" | "reset" => true,
                _ => false,
            };
            (works && !dry).then_some(BusyKind::Kubeadm)
        }
        "etcdctl" | "etcdutl" => Some(BusyKind::EtcdTool),
        _ => None,
    }
}

/// Who listens on ports; whose a socket is, is looked for once per socket.
#[derive(Debug, Default)]
pub(super) struct Listeners {
    known: BTreeMap<u64, Listener>,
}

impl Listeners {
    /// Who listens on each of these ports. Where several do, one that is in no container comes first: it is foreign.
    pub(super) fn look(&mut self, ports: &BTreeSet<u16>) -> BTreeMap<u16, Listener> {
        let sockets = proc::listening(ports);
        let inodes: BTreeSet<u64> = sockets.iter().map(|(_, inode)| *inode).collect();
        self.known.retain(|inode, _| inodes.contains(inode));
        let new: BTreeSet<u64> = inodes.into_iter().filter(|inode| !self.known.contains_key(inode)).collect();
        if !new.is_empty() {
            let holders = proc::holders(&new);
            self.known.extend(new.into_iter().map(|inode| (inode, listener(holders.get(&inode).copied()))));
        }
        let mut listeners: BTreeMap<u16, Listener> = BTreeMap::new();
        for (port, inode) in sockets {
            let Some(listener) = self.known.get(&inode) else { continue };
            let known = listeners.get(&port);
            if known
                .is_none_or(|known| known.container.is_some() && listener.container.is_none() && listener.pid.is_some())
            {
                listeners.insert(port, listener.clone());
            }
        }
        // A socket whose owner was not found may have been on its way from one process to another.
        self.known.retain(|_, listener| listener.pid.is_some());
        listeners
    }
}

fn listener(pid: Option<i32>) -> Listener {
    let program =
        pid.and_then(proc::process).map_or_else(|| "an unknown process".to_owned(), |p| p.program().to_owned());
    Listener { pid, program, container: pid.and_then(proc::container_of) }
}

/// Why a directory cannot be written, when its file system is read-only.
pub(super) fn read_only(dir: &Path) -> Option<String> {
    let there = dir.ancestors().find(|path| path.exists())?;
    let flags = statvfs(there).ok()?.flags();
    flags.contains(FsFlags::ST_RDONLY).then(|| format!("{} is on a read-only file system", there.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn kind(line: &str) -> Option<BusyKind> {
        kind_of(&line.split(' ').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn who_works_on_the_control_plane_is_told_from_who_only_looks() {
        for line in [
            "kubeadm init",
            "/usr/bin/kubeadm join 10.0.0.1:6443 --token x",
            "kubeadm reset -f",
            "kubeadm --v=5 upgrade apply v1.34.2",
            "kubeadm upgrade node",
            "/bin/sh /opt/kubeadm upgrade node",
        ] {
            assert_eq!(kind(line), Some(BusyKind::Kubeadm), "{line}");
        }
        for line in [
            "kubeadm upgrade plan",
            "kubeadm upgrade diff",
            "kubeadm version",
            "kubeadm",
            "kubeadm upgrade apply v1 --dry-run",
            "vi kubeadm init",
            "bash",
        ] {
            assert_eq!(kind(line), None, "{line}");
        }
        assert_eq!(kind("etcdutl snapshot restore x"), Some(BusyKind::EtcdTool));
        let holds = |line: &str| work_on_etcd(&line.split(' ').map(str::to_owned).collect::<Vec<_>>());
        for line in [
            "lastgood etcd defrag",
            "/usr/bin/lastgood --config x etcd -v compact -y",
            "lastgood etcd --config x disarm",
        ] {
            assert_eq!(holds(line), BusyKind::EtcdMaintenance, "{line}");
        }
        for line in ["lastgood etcd restore --from defrag", "lastgood run", "", "sh restore compact"] {
            assert_eq!(holds(line), BusyKind::Restore, "{line}");
        }
        let plain = Process { pid: 1, uid: 1000, args: vec!["kubeadm".into(), "init".into()] };
        assert!(busy(&[plain]).is_empty(), "not root's");
    }

    #[test]
    fn a_listener_is_found_with_its_process() {
        let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = socket.local_addr().unwrap().port();
        let mut listeners = Listeners::default();
        let found = listeners.look(&[port].into());
        assert_eq!(found[&port].pid, i32::try_from(std::process::id()).ok());
        assert_eq!(listeners.look(&[port].into()), found, "from memory");
        drop(socket);
        assert_eq!(listeners.look(&[port].into()), BTreeMap::new());
    }

    #[test]
    fn what_a_reset_takes_away_is_missed() {
        let root = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.kubernetes = root.path().to_owned();
        settings.kubelet.kubeconfig = root.path().join("kubelet.conf");
        fs::create_dir(root.path().join("pki")).unwrap();
        for sign in ["kubelet.conf", "pki/ca.crt", "pki/sa.key"] {
            fs::write(root.path().join(sign), "x").unwrap();
        }
        let signs = Signs::at_first_sight(&settings);
        assert_eq!(signs.look().missing, Vec::<PathBuf>::new());
        fs::remove_dir_all(root.path().join("pki")).unwrap();
        assert_eq!(signs.look().missing.len(), 2);
        assert_eq!(
            Signs::at_first_sight(&settings).look().missing,
            [root.path().join("pki/ca.crt")],
            "also for a newcomer"
        );
        assert_eq!(read_only(root.path()), None);
    }
}
