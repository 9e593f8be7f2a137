//! What every recovery on this node depends on: an agent that acts, disks, the runtime, the kubelet, the clock.

use std::time::Duration;

use jiff::Timestamp;

use super::{Check, CheckResult, Examined};
use crate::config::OldName;
use crate::judge;
use crate::model::inhibitor::Inhibitor;
use crate::model::observation::{Directory, ImagePresence};
use crate::model::reading::SymptomKind;
use crate::model::{Memory, Reading};
use crate::observe::DirAccess;
use crate::report::Process;

/// The least room, in bytes: the largest manifest a kubelet reads has 10 MiB, real ones some kilobytes; a memory and its
/// older copy, a generation and a line of history take less than this together.
const MIN_BYTES: u64 = 4 << 20;
/// The least inodes: a generation takes a dozen.
const MIN_INODES: u64 = 64;
/// A clock this far behind what was already written was set back.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// In the order of dependence.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    let places = examined.places;
    let mut checks = vec![agent(examined)];
    checks.extend(configuration(examined));
    checks.extend(acting(examined));
    checks.push(master(examined));
    for (name, place) in
        [("state directory", &places.state), ("staging", &places.staging), ("manifest directory", &places.manifests)]
    {
        checks.push(room(name, place));
    }
    checks.extend([manifests(examined), renames(examined), clock(examined), runtime(examined)]);
    checks.extend(kubelet(examined));
    checks.extend(sandboxes(examined));
    checks
}

/// What the next sandbox needs: nobody misses it before a pod has to be made again.
fn sandboxes(examined: &Examined<'_>) -> Vec<Check> {
    let setup = &examined.seen.node.sandboxes;
    let mut checks = Vec::new();
    if let Some(image) = &setup.image {
        checks.push(match examined.seen.images.get(image) {
            Some(ImagePresence::Present { .. }) => Check::ok("sandbox image", format!("{image} is on this node")),
            Some(ImagePresence::Absent) => {
                let detail = format!("{image} is not on this node: without a registry no pod can be started again");
                Check::bad("sandbox image", CheckResult::Warning, detail, format!("`crictl pull {image}`"))
            }
            None => {
                let detail = format!("it is unknown whether {image} is on this node");
                Check::bad("sandbox image", CheckResult::CannotTell, detail, "`crictl images`")
            }
        });
    }
    if let Some(file) = &setup.resolv_conf {
        let path = file.path.display();
        checks.push(if file.exists {
            Check::ok("resolvConf", format!("{path} exists"))
        } else {
            let detail = format!("{path} ({}) does not exist: the kubelet makes no sandbox without it", file.named_by);
            let fix = "create it, or name another one, then `systemctl restart kubelet`";
            Check::bad("resolvConf", CheckResult::Failed, detail, fix)
        });
    }
    if let (Some((kubelet, file)), Some(runtime)) = (&setup.kubelet_cgroups, setup.runtime_cgroups) {
        checks.push(if *kubelet == runtime {
            Check::ok("cgroup driver", format!("{kubelet}, for the kubelet and the container runtime"))
        } else {
            let detail = format!("{kubelet} for the kubelet ({}), {runtime} for the container runtime", file.display());
            let fix =
                "set SystemdCgroup of the runtime as the kubelet has it, then `systemctl restart containerd kubelet`";
            Check::bad("cgroup driver", CheckResult::Failed, detail, fix)
        });
    }
    checks
}

fn agent(examined: &Examined<'_>) -> Check {
    let start = "`systemctl start lastgood`";
    match examined.agent {
        Ok(Process::Running { pid, .. }) => Check::ok("agent", format!("it runs (pid {pid})")),
        Ok(Process::Stopped) => {
            let detail = "it does not run: nothing is rolled back by itself; `lastgood rollback` works without it";
            Check::bad("agent", CheckResult::Warning, detail, start)
        }
        Err(why) => Check::bad("agent", CheckResult::Failed, why, "`journalctl -u lastgood` shows what it does"),
    }
}

/// What keeps the agent from acting, each by itself.
fn acting(examined: &Examined<'_>) -> Vec<Check> {
    let Examined { seen, memory, policy, now, .. } = examined;
    let pause = memory.pause.as_ref().filter(|pause| pause.until > *now);
    let inhibitors = Inhibitor::all(&seen.node, policy.mode, pause);
    let runs = matches!(examined.agent, Ok(Process::Running { .. }));
    if inhibitors.is_empty() {
        let detail =
            if runs { "nothing keeps lastgood from acting" } else { "nothing else keeps lastgood from acting" };
        return vec![Check::ok("acting", detail)];
    }
    let observes = if runs { "lastgood only observes" } else { "an agent only observes" };
    let check = |inhibitor: &Inhibitor| {
        let mark = match inhibitor {
            Inhibitor::NewerState { .. } | Inhibitor::ReadOnly { .. } => CheckResult::Failed,
            Inhibitor::Kubeadm { .. }
            | Inhibitor::EtcdMaintenance { .. }
            | Inhibitor::Observe
            | Inhibitor::Paused { .. }
            | Inhibitor::NoAgent => CheckResult::Warning,
        };
        Check::bad("acting", mark, format!("{inhibitor}: {observes}"), inhibitor.next_step())
    };
    inhibitors.iter().map(check).collect()
}

/// Old names of keys, one check for each file; the names are in the order of the files.
fn configuration(examined: &Examined<'_>) -> Vec<Check> {
    let check = |of_file: &[OldName]| {
        let (first, rest) = of_file.split_first()?;
        let detail = match rest.len() {
            0 => first.to_string(),
            more => format!("{first}; {more} more of its keys have an old name"),
        };
        Some(Check::bad("configuration", CheckResult::Warning, detail, first.next_step()))
    };
    examined.old_names.chunk_by(|a, b| a.file == b.file).filter_map(check).collect()
}

fn master(examined: &Examined<'_>) -> Check {
    match examined.seen.node.master.missing.first() {
        None => Check::ok("master", "the signs of a master are present"),
        Some(sign) => {
            let detail = format!("{} is missing: lastgood would not restore a deleted manifest", sign.display());
            Check::bad("master", CheckResult::Warning, detail, format!("bring {} back", sign.display()))
        }
    }
}

fn room(name: &str, place: &DirAccess) -> Check {
    let path = place.path.display();
    if let Err(why) = &place.writable {
        return Check::bad(name, CheckResult::Failed, why, format!("make {path} a writable directory"));
    }
    let Some(bytes) = place.bytes else {
        let detail = format!("the free space of {path} is unknown");
        return Check::bad(name, CheckResult::CannotTell, detail, format!("`df {path}`"));
    };
    let inodes = place.inodes.unwrap_or(u64::MAX);
    if bytes < MIN_BYTES || inodes < MIN_INODES {
        let left = if bytes < MIN_BYTES { format!("{} KiB are", bytes >> 10) } else { format!("{inodes} inodes are") };
        let detail = format!("{left} left in {path}");
        return Check::bad(name, CheckResult::Failed, detail, format!("free space on the file system of {path}"));
    }
    Check::ok(name, format!("{path} is writable and has {} MiB left", bytes >> 20))
}

fn manifests(examined: &Examined<'_>) -> Check {
    let subject = "manifests";
    let dir = examined.found.manifests.value.display();
    match &examined.seen.manifests {
        Directory::Present { files, .. } => Check::ok(subject, format!("{} files are in {dir}", files.len())),
        Directory::Missing { .. } => {
            let detail = format!("{dir} does not exist");
            Check::bad(subject, CheckResult::Failed, detail, format!("`mkdir {dir}`, if this is still a master"))
        }
        Directory::Unreadable(why) => Check::bad(subject, CheckResult::Failed, why, format!("make {dir} readable")),
    }
}

fn renames(examined: &Examined<'_>) -> Check {
    match &examined.places.renames {
        Ok(()) => Check::ok("rename", "staging and manifests are on one mount"),
        Err(why) => {
            let fix = "set paths.staging to a directory next to the manifests, on the same mount";
            Check::bad("rename", CheckResult::Failed, why, fix)
        }
    }
}

/// The newest time that was ever written down here. Until the next change, a clock that is behind it was set back: what
/// is written then looks older than what was there before, and certificates look younger than they are.
fn clock(examined: &Examined<'_>) -> Check {
    let newest = newest(examined.memory);
    match newest.filter(|newest| examined.now + CLOCK_SLACK < *newest) {
        None => Check::ok("clock", format!("{:.0}", examined.now)),
        Some(newest) => {
            let detail = format!("it shows {:.0}, but a time of {newest:.0} is on record", examined.now);
            Check::bad("clock", CheckResult::Warning, detail, "set the clock (`timedatectl`, `chronyc tracking`)")
        }
    }
}

fn newest(memory: &Memory) -> Option<Timestamp> {
    let records = memory.components.values();
    let times = records.flat_map(|record| {
        let generations = record.generations.values().map(|generation| generation.first_seen);
        let verdict = record.verdict.map(|(_, since)| since);
        generations.chain(verdict).chain(record.pinned.as_ref().map(|pin| pin.since))
    });
    times.max()
}

fn runtime(examined: &Examined<'_>) -> Check {
    match &examined.seen.runtime {
        Ok(pods) => Check::ok("container runtime", format!("it answers and runs {} static pods", pods.len())),
        Err(why) => match &examined.seen.node.sandboxes.cri_disabled {
            Some(line) => {
                let file = line.file.display();
                let detail = format!("containerd runs without its CRI: {file}:{}: {}", line.line, line.text);
                let fix = format!("remove cri from disabled_plugins in {file}, then `systemctl restart containerd`");
                Check::bad("container runtime", CheckResult::Failed, detail, fix)
            }
            None => {
                let fix = "`systemctl status containerd` (or crio); runtime.endpoint names another socket";
                Check::bad("container runtime", CheckResult::Failed, &why.detail, fix)
            }
        },
    }
}

fn kubelet(examined: &Examined<'_>) -> Vec<Check> {
    let Examined { seen, memory, policy, places, .. } = examined;
    let kubelet = &seen.kubelet;
    let crash_loop = judge::crash_loop(seen);
    let mut checks = vec![match &kubelet.process {
        _ if crash_loop.is_some() => {
            let (detail, next) =
                crash_loop.map_or_else(Default::default, |of| (format!("it does not run: {of}"), of.next_step));
            Check::bad("kubelet", CheckResult::Failed, detail, next)
        }
        Some(process) => Check::ok("kubelet", format!("it runs (pid {})", process.pid)),
        None => {
            let detail = "it does not run, so no deployed manifest is started";
            Check::bad("kubelet", CheckResult::Failed, detail, "`systemctl start kubelet`")
        }
    }];
    let look = "`journalctl -u kubelet`";
    checks.push(match &kubelet.healthz {
        Reading::Good => Check::ok("kubelet health", "/healthz is ok"),
        Reading::Bad(symptom) => Check::bad("kubelet health", CheckResult::Failed, symptom.to_string(), look),
        Reading::CannotTell(symptom) if symptom.kind == SymptomKind::NoMeans => {
            let fix = "`healthzPort` in the kubelet's configuration enables it; kubelet.healthz sets the URL";
            Check::bad("kubelet health", CheckResult::Warning, symptom.to_string(), fix)
        }
        Reading::CannotTell(symptom) => {
            Check::bad("kubelet health", CheckResult::CannotTell, symptom.to_string(), look)
        }
    });
    let restart = format!("`{}`", policy.kubelet_restart.join(" "));
    if let Some(process) = &kubelet.process {
        checks.push(match &process.changed_since {
            None => Check::ok("kubelet unchanged", "its binary and configuration are those it started with"),
            Some(path) => {
                let path = path.display();
                let detail = format!("{path} changed since it started, so lastgood does not restart it");
                Check::bad(
                    "kubelet unchanged",
                    CheckResult::Warning,
                    detail,
                    format!("{restart}, if you want this change"),
                )
            }
        });
    }
    checks.push(match &places.restart {
        Ok(program) => Check::ok("kubelet restart", format!("{} exists", program.display())),
        Err(why) => Check::bad(
            "kubelet restart",
            CheckResult::Failed,
            why,
            "set kubelet.restart to the command that restarts it",
        ),
    });
    let (spent, limit) = (memory.kubelet_restarts.len(), policy.kubelet_restarts_per_hour);
    checks.push(if spent < limit {
        Check::ok("kubelet restarts left", format!("{} of {limit} this hour", limit - spent))
    } else {
        let detail = format!("all {limit} of this hour are used");
        let fix = format!("wait, or restart it by hand if it does not start pods: {restart}");
        Check::bad("kubelet restarts left", CheckResult::Warning, detail, fix)
    });
    checks
}
