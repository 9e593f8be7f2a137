//! Everything that the lab can break, how it is drawn, done and undone.
//!
//! What is drawn hangs on the seed alone, and on nothing that was seen: a run that is given the seed again breaks the same
//! things in the same order.

use std::fmt;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use nix::sys::signal::Signal;
use tokio::sync::RwLock;
use tokio::time::sleep;

use super::chance::Chance;
use super::outside::{Outside, Worth, variant};
use crate::stage::Stage;
use lastgood_lab::node::small_disk::SmallDisk;

/// One fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fault {
    /// A flag the program does not know, one of a few: some are written again.
    BadFlag(Component, u64),
    /// The file is emptied in place.
    Empty(Component),
    /// The file is cut short in place, after so many hundredths.
    Torn(Component, u64),
    /// The file holds another kind of object.
    NotAPod(Component),
    /// The file is longer than it was, and all zeros.
    Zeros(Component),
    /// An editor's backup beside it.
    Beside(Component),
    /// The file is deleted.
    Deleted(Component),
    /// The file is moved away, and back when it is undone.
    MovedAway(Component),
    /// A person writes another manifest, which serves.
    Written(Component, u64),
    /// A person writes the manifest the node began with.
    WrittenBack(Component),
    /// The kubeconfig it mounts is broken, and it starts anew.
    Closure(Component),
    /// SIGSTOP, and SIGCONT when it is undone.
    Hung(Component),
    /// SIGKILL.
    Killed(Component),
    /// It answers and does nothing, by the fault switch.
    Useless(Component),
    /// The kubelet: SIGSTOP, and SIGCONT when it is undone.
    KubeletHung,
    /// The kubelet: SIGKILL; its service manager starts it again.
    KubeletKilled,
    /// The kubelet's own health check hangs.
    KubeletUnwell,
    /// The same of containerd.
    RuntimeHung,
    /// The same of containerd.
    RuntimeKilled,
    /// etcd's database is filled to its quota; emptied and disarmed when it is undone.
    NoSpace,
    /// No room where etcd's data lie.
    DataDiskFull,
    /// No room where the agent keeps everything.
    StateDiskFull,
    /// No room where the manifests lie.
    ManifestDiskFull,
    /// The agent: SIGKILL, and started when it is undone.
    AgentKilled,
    /// The agent: stopped and started at once.
    AgentRestarted,
    /// The agent: SIGSTOP, and SIGCONT when it is undone.
    AgentFrozen,
    /// The whole node is cut off its power, and boots at once.
    PowerCut,
    /// A person pauses, and resumes when it is undone. Nothing may be done meanwhile.
    Paused,
    /// A person rolls back, to wherever that goes.
    RolledBack(Component),
    /// Nothing at all.
    Quiet,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// Those who mount a kubeconfig.
pub(crate) const WITH_KUBECONFIG: [(Component, &str); 2] = [
    (Component::ControllerManager, "/etc/kubernetes/controller-manager.conf"),
    (Component::Scheduler, "/etc/kubernetes/scheduler.conf"),
];

impl Fault {
    /// Draws one.
    pub(crate) fn draw(chance: &mut Chance) -> Self {
        let component = chance.one(&Component::ALL);
        let number = chance.below(6);
        let (conf, _) = chance.one(&WITH_KUBECONFIG);
        match chance.below(47) {
            0..5 => Self::BadFlag(component, number),
            5 => Self::Empty(component),
            6 | 7 => Self::Torn(component, 10 + chance.below(85)),
            8 => Self::NotAPod(component),
            9 => Self::Zeros(component),
            10 | 11 => Self::Beside(component),
            12 | 13 => Self::Deleted(component),
            14 => Self::MovedAway(component),
            15..18 => Self::Written(component, number),
            18 => Self::WrittenBack(component),
            19 | 20 => Self::Closure(conf),
            21..24 => Self::Hung(component),
            24..26 => Self::Killed(component),
            26 => Self::Useless(chance.one(&Component::ALL[1..])),
            27 => Self::KubeletHung,
            28 => Self::KubeletKilled,
            29 => Self::KubeletUnwell,
            30 => Self::RuntimeHung,
            31 => Self::RuntimeKilled,
            32 => Self::NoSpace,
            33 => Self::DataDiskFull,
            34 => Self::StateDiskFull,
            35 => Self::ManifestDiskFull,
            36 | 37 => Self::AgentKilled,
            38 => Self::AgentRestarted,
            39 => Self::AgentFrozen,
            40 | 41 => Self::PowerCut,
            42 | 43 => Self::Paused,
            44 | 45 => Self::RolledBack(component),
            _ => Self::Quiet,
        }
    }

    /// One fault, sometimes two at once, and how long until what has to be undone is.
    pub(crate) fn draw_some(chance: &mut Chance) -> (Vec<Self>, Duration) {
        let mut faults = vec![Self::draw(chance)];
        if chance.below(3) == 0 {
            // Drawn anew until they go together; every draw counts, so this too hangs on the seed alone.
            let other =
                std::iter::repeat_with(|| Self::draw(chance)).take(50).find(|other| faults[0].goes_with(*other));
            faults.extend(other);
        }
        // A pause comes first, and the disk fills last: who writes a bad manifest needs room for it.
        faults.sort_by_key(|fault| match fault {
            Self::Paused => 0,
            Self::StateDiskFull | Self::ManifestDiskFull | Self::DataDiskFull => 2,
            Self::AgentKilled | Self::AgentRestarted | Self::AgentFrozen | Self::PowerCut => 3,
            _ => 1,
        });
        (faults, Duration::from_millis(500 + chance.below(9000)))
    }

    fn goes_with(self, other: Self) -> bool {
        let alone = |fault| matches!(fault, Self::Quiet | Self::NoSpace);
        let agent =
            |fault| matches!(fault, Self::AgentKilled | Self::AgentRestarted | Self::AgentFrozen | Self::PowerCut);
        let runner = |fault| {
            matches!(
                fault,
                Self::KubeletHung | Self::KubeletKilled | Self::KubeletUnwell | Self::RuntimeHung | Self::RuntimeKilled
            )
        };
        // What a person asks for is done in spite of a pause.
        let asked = |fault| matches!(fault, Self::RolledBack(_));
        let paused = |fault| matches!(fault, Self::Paused);
        !(alone(self)
            || alone(other)
            || agent(self) && (agent(other) || asked(other))
            || asked(self) && agent(other)
            || runner(self) && runner(other)
            || paused(self) && (asked(other) || paused(other))
            || asked(self) && paused(other)
            || self.component().is_some() && self.component() == other.component()
            || self == other)
    }

    /// Whose it is.
    pub(crate) fn component(self) -> Option<Component> {
        match self {
            Self::BadFlag(component, _)
            | Self::Empty(component)
            | Self::Torn(component, _)
            | Self::NotAPod(component)
            | Self::Zeros(component)
            | Self::Beside(component)
            | Self::Deleted(component)
            | Self::MovedAway(component)
            | Self::Written(component, _)
            | Self::WrittenBack(component)
            | Self::Closure(component)
            | Self::Hung(component)
            | Self::Killed(component)
            | Self::Useless(component)
            | Self::RolledBack(component) => Some(component),
            _ => None,
        }
    }
}

/// The file systems that can be filled.
pub(crate) struct Disks {
    pub(crate) data: SmallDisk,
    pub(crate) state: SmallDisk,
    pub(crate) manifests: SmallDisk,
}

/// Who breaks, and mends.
pub(crate) struct Breaker {
    pub(crate) stage: Arc<RwLock<Stage>>,
    pub(crate) outside: Outside,
    pub(crate) disks: Disks,
    /// What each component's manifest was at the beginning, and each kubeconfig.
    pub(crate) originals: Vec<(Component, String)>,
    pub(crate) kubeconfigs: Vec<(Component, String)>,
}

impl Breaker {
    pub(crate) fn original(&self, component: Component) -> &str {
        self.originals.iter().find(|(of, _)| *of == component).map_or("", |(_, text)| text)
    }

    fn good(&self, component: Component, number: u64) -> Result<String> {
        let flag = match component {
            Component::Etcd => format!("--snapshot-count={}", 10_001 + number),
            _ => format!("--v={}", 1 + number),
        };
        variant(component, self.original(component), &flag)
    }

    fn bad(&self, component: Component, number: u64) -> Result<String> {
        variant(component, self.original(component), &format!("--no-such-flag={number}"))
    }

    async fn signal(&self, component: Component, signal: &str) -> Result<()> {
        let line = format!("^{} ", component.name());
        // Whoever does not run at this moment takes no signal.
        self.stage.read().await.node.exec(&["pkill", &format!("-{signal}"), "-f", &line]).await.map(drop)
    }

    /// Does it.
    pub(crate) async fn inflict(&self, fault: Fault) -> Result<()> {
        let outside = &self.outside;
        match fault {
            Fault::BadFlag(component, number) => outside.places(component, &self.bad(component, number)?, Worth::Bad),
            Fault::Empty(component) => outside.ruins(component, b""),
            Fault::Torn(component, hundredths) => {
                // Before its start-up probe: what is cut behind it may be a pod that cannot start (without the host's network),
                // and by its probe is to be waited for longer than anybody watches here.
                let text = self.original(component);
                let text = text.split("    startupProbe:").next().unwrap_or_default().as_bytes();
                let end = text.len() * usize::try_from(hundredths)? / 100;
                outside.ruins(component, &text[..end])
            }
            Fault::NotAPod(component) => {
                let text = self.original(component).replace("kind: Pod", "kind: Deployment");
                outside.ruins(component, text.as_bytes())
            }
            Fault::Zeros(component) => outside.ruins(component, &[0; 8192]),
            Fault::Beside(component) => {
                let text = self.good(component, 9)?;
                outside.puts_beside(&format!("{}.bak", component.file()), &text)
            }
            Fault::Deleted(component) => outside.deletes(component),
            Fault::MovedAway(component) => {
                let aside = self.aside(component).await;
                outside.moves_away(component, &aside)
            }
            Fault::Written(component, number) => outside.places(component, &self.good(component, number)?, Worth::Good),
            Fault::WrittenBack(component) => outside.places(component, self.original(component), Worth::Good),
            Fault::Closure(component) => {
                let path = self.kubeconfig(component).await?;
                fs::write(&path, "apiVersion: v1\nkind: Config\nclusters: [\n")?;
                self.tell(component, "crash").await;
                Ok(())
            }
            Fault::Hung(component) => self.signal(component, "STOP").await,
            Fault::Killed(component) => self.signal(component, "KILL").await,
            Fault::Useless(Component::ApiServer) => {
                self.tell(Component::ApiServer, "hang-requests").await;
                Ok(())
            }
            Fault::Useless(component) => {
                self.tell(component, "freeze-lease").await;
                Ok(())
            }
            Fault::KubeletHung => self.kubelet(Signal::SIGSTOP).await,
            Fault::KubeletKilled => self.kubelet(Signal::SIGKILL).await,
            Fault::KubeletUnwell => {
                // It may be between two lives.
                let _ = self.stage.read().await.node.tell("kubelet", "healthz hang").await;
                Ok(())
            }
            Fault::RuntimeHung => self.runtime(Signal::SIGSTOP).await,
            Fault::RuntimeKilled => self.runtime(Signal::SIGKILL).await,
            Fault::NoSpace => self.fill_database().await,
            Fault::DataDiskFull => self.disks.data.fill(),
            Fault::StateDiskFull => self.disks.state.fill(),
            Fault::ManifestDiskFull => self.disks.manifests.fill(),
            Fault::AgentKilled => self.stage.read().await.node.agent().kill().await,
            Fault::AgentRestarted => self.stage.read().await.node.agent().restart().await,
            Fault::AgentFrozen => self.stage.read().await.node.agent().signal(Signal::SIGSTOP).await,
            Fault::PowerCut => self.stage.write().await.node.reboot().await,
            Fault::Paused => {
                let said = self.stage.read().await.node.lastgood(&["pause", "--for", "10m"]).await?;
                said.success()?;
                outside.paused(true);
                Ok(())
            }
            Fault::RolledBack(component) => {
                let said = self.stage.read().await.node.lastgood(&["rollback", component.name(), "--yes"]).await?;
                outside.note(&format!("rollback: {} {}", said.code, said.stderr.trim()));
                // Followed until it serves; refused where there is nothing to go back to.
                ensure!(matches!(said.code, 0 | 1 | 3), "rollback: {} {}{}", said.code, said.stdout, said.stderr);
                Ok(())
            }
            Fault::Quiet => Ok(()),
        }
    }

    /// Undoes what only a person can undo.
    pub(crate) async fn cure(&self, fault: Fault) -> Result<()> {
        let outside = &self.outside;
        match fault {
            Fault::MovedAway(component) => {
                let aside = self.aside(component).await;
                if aside.exists() { outside.moves_back(component, &aside) } else { Ok(()) }
            }
            Fault::Hung(component) => self.signal(component, "CONT").await,
            Fault::Useless(component) => {
                self.tell(component, "ok").await;
                Ok(())
            }
            Fault::KubeletHung => self.kubelet(Signal::SIGCONT).await,
            Fault::KubeletUnwell => {
                let _ = self.stage.read().await.node.tell("kubelet", "healthz ok").await;
                Ok(())
            }
            Fault::RuntimeHung => self.runtime(Signal::SIGCONT).await,
            Fault::NoSpace => self.empty_database().await,
            Fault::DataDiskFull => self.disks.data.free(),
            Fault::StateDiskFull => self.disks.state.free(),
            Fault::ManifestDiskFull => self.disks.manifests.free(),
            Fault::AgentKilled => self.stage.read().await.node.agent().start().await,
            Fault::AgentFrozen => self.stage.read().await.node.agent().signal(Signal::SIGCONT).await,
            Fault::Paused => {
                outside.paused(false);
                self.resume(None).await
            }
            _ => Ok(()),
        }
    }

    /// `lastgood resume`, of one or of all.
    pub(crate) async fn resume(&self, component: Option<Component>) -> Result<()> {
        let mut line = vec!["resume"];
        line.extend(component.map(Component::name));
        for component in component.map_or(Component::ALL.to_vec(), |one| vec![one]) {
            self.outside.forgives(component);
        }
        self.stage.read().await.node.lastgood(&line).await?.success().map(drop)
    }

    pub(crate) async fn kubeconfig(&self, component: Component) -> Result<std::path::PathBuf> {
        let (_, path) = WITH_KUBECONFIG.into_iter().find(|(of, _)| *of == component).context("it has no kubeconfig")?;
        Ok(self.stage.read().await.node.path(path))
    }

    /// Where a manifest is moved to: on the same file system, or it would look like a deletion.
    async fn aside(&self, component: Component) -> std::path::PathBuf {
        self.stage.read().await.node.path("/etc/kubernetes").join(format!("{}.aside", component.file()))
    }

    async fn tell(&self, component: Component, what: &str) {
        // It may be between two lives, and is broken then as it is.
        let _ = self.stage.read().await.node.tell(component.name(), what).await;
    }

    async fn kubelet(&self, signal: Signal) -> Result<()> {
        let _ = self.stage.read().await.node.kubelet().signal(signal).await;
        Ok(())
    }

    async fn runtime(&self, signal: Signal) -> Result<()> {
        let _ = self.stage.read().await.node.containerd().signal(signal).await;
        Ok(())
    }

    /// Writes until etcd raises its alarm.
    async fn fill_database(&self) -> Result<()> {
        let words = format!(
            "i=0; while [ $i -lt 60 ]; do head -c 1000000 /dev/zero | tr '\\0' x | {ETCDCTL} put /lab/fill >/dev/null \
             || exit 0; i=$((i+1)); done; exit 1"
        );
        self.stage.read().await.node.sh(&words).await
    }

    /// Makes room, and disarms the alarm. What etcd does not answer yet is asked again.
    async fn empty_database(&self) -> Result<()> {
        let words = format!(
            "set -e; r=$({ETCDCTL} endpoint status -w json | sed 's/.*\"revision\":\\([0-9]*\\).*/\\1/'); \
             {ETCDCTL} compact $r || true; {ETCDCTL} defrag; {ETCDCTL} alarm disarm"
        );
        let mut last = Ok(());
        for _ in 0..20 {
            last = self.stage.read().await.node.sh(&words).await;
            if last.is_ok() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        last
    }
}

const ETCDCTL: &str = "/lab/etcd/etcdctl --endpoints=https://127.0.0.1:2379 --cacert=/etc/kubernetes/pki/etcd/ca.crt \
                       --cert=/etc/kubernetes/pki/etcd/healthcheck-client.crt \
                       --key=/etc/kubernetes/pki/etcd/healthcheck-client.key";
