//! `lastgood etcd compact`, `defrag` and `disarm`: shows the plan, asks, and carries it out.

use std::collections::BTreeSet;

use clap::Args;
use jiff::Timestamp;
use nix::unistd::{Uid, geteuid};

use super::status::Look;
use crate::cli::{ConfirmArgs, Exit, Failure, out, rollback};
use crate::config::Settings;
use crate::journal;
use crate::model::etcd::AlarmKind;
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::kubelet_probe::etcdctl;
use crate::model::{ComponentId, ComponentState, Event, Memory, Role};
use crate::observe;
use crate::ops::etcd::maintenance::{
    self, Cluster, Here, Interrupt, Targets, Unchecked, run_compact, run_defrag, run_disarm,
};
use crate::record::{self, Store};
use crate::report::{EtcdPlan, EtcdWork, Format};

/// How to compact.
#[derive(Clone, Copy, Debug, Args)]
pub struct CompactArgs {
    /// Revision to compact to [default: the revision of kube-apiserver's last compaction, which keeps the history of up to 5
    /// minutes; under NOSPACE the newest revision]
    #[arg(long, value_name = "N")]
    revision: Option<i64>,
    #[command(flatten)]
    care: ConfirmArgs,
}

/// Which members are defragmented.
#[derive(Clone, Debug, Args)]
pub struct DefragArgs {
    /// Defragment every member of the cluster, one after the other, the leader last
    #[arg(long, conflicts_with = "member")]
    cluster: bool,
    /// Defragment this member only, by its name or ID [default: the member of this node]
    #[arg(long, value_name = "NAME|ID")]
    member: Option<String>,
    /// Defragment members of other nodes although their free disk space and liveness probe cannot be read here
    #[arg(long)]
    accept_unchecked: bool,
    #[command(flatten)]
    care: ConfirmArgs,
}

/// What all three begin with.
struct Found {
    component: ComponentId,
    cluster: Cluster,
    here: Here,
}

pub(super) async fn compact(settings: &Settings, args: CompactArgs) -> Result<Exit, Failure> {
    let found = find(settings, EtcdWork::Compact).await?;
    let plan = maintenance::compact(&found.cluster, &found.here, args.revision)?;
    if !agreed(&plan, args.care)? {
        return Ok(Exit::Ok);
    }
    let mut interrupt = Interrupt::listen()?;
    let _lock = maintenance::lock(settings)?;
    // All of it again (Q15): the operator may have read the plan for hours.
    let found = find(settings, EtcdWork::Compact).await?;
    let plan = maintenance::compact(&found.cluster, &found.here, args.revision.or(plan.compact_to))?;
    let done = run_compact(&found.cluster, plan.compact_to.unwrap_or(plan.revision), &mut interrupt).await;
    end(settings, &found.component, "etcd compact", done)
}

pub(super) async fn defrag(settings: &Settings, args: DefragArgs) -> Result<Exit, Failure> {
    let targets = match (args.cluster, &args.member) {
        (true, _) => Targets::All,
        (false, Some(name)) => Targets::Named(name.clone()),
        (false, None) => Targets::Local,
    };
    let unchecked = if args.accept_unchecked { Unchecked::Accepted } else { Unchecked::Refused };
    let found = find(settings, EtcdWork::Defrag).await?;
    let (shown, plan) = maintenance::defrag(&found.cluster, &found.here, &targets, unchecked)?;
    if !agreed(&plan, args.care)? {
        return Ok(Exit::Ok);
    }
    let mut interrupt = Interrupt::listen()?;
    let _lock = maintenance::lock(settings)?;
    let apart = maintenance::apart(settings)?;
    maintenance::turn(&found.cluster, &mut interrupt).await?;
    let found = find(settings, EtcdWork::Defrag).await?;
    let (ids, _) = maintenance::defrag(&found.cluster, &found.here, &targets, unchecked)?;
    as_shown(&shown, &ids)?;
    let mut tell = |line: &str| journal::say(line);
    let done = run_defrag(&found.cluster, &found.here, &ids, apart.as_ref(), &mut interrupt, &mut tell).await;
    let done = done.map(|done| {
        let names: Vec<String> = done.iter().map(|id| found.cluster.name(*id)).collect();
        format!(
            "{} defragmented: {}",
            if names.len() == 1 { "1 member is" } else { "all members are" },
            names.join(", ")
        )
    });
    end(settings, &found.component, "etcd defrag", done)
}

pub(super) async fn disarm(settings: &Settings, care: ConfirmArgs) -> Result<Exit, Failure> {
    let found = find(settings, EtcdWork::Disarm).await?;
    let (raised, plan) = maintenance::disarm(&found.cluster, &found.here)?;
    if raised.is_empty() {
        return out::text(&care.output.print(&plan, EtcdPlan::text)?);
    }
    if !agreed(&plan, care)? {
        return Ok(Exit::Ok);
    }
    let mut interrupt = Interrupt::listen()?;
    let _lock = maintenance::lock(settings)?;
    let found = find(settings, EtcdWork::Disarm).await?;
    let (raised, _) = maintenance::disarm(&found.cluster, &found.here)?;
    let done = run_disarm(&found.cluster, &raised, &mut interrupt).await;
    end(settings, &found.component, "etcd disarm", done)
}

/// Looks at this node and at every member; refuses where the operator's own requests are refused as well.
async fn find(settings: &Settings, work: EtcdWork) -> Result<Found, Failure> {
    for_root(geteuid())?;
    let look = Look::start(settings).await?;
    let member = look.member()?;
    let mut node = look.seen.node.clone();
    node.newer_state = Store::open(settings).map(|store| store.newer_state(&look.memory)).unwrap_or_default();
    permitted(&Inhibitor::all(&node, settings.policy.mode, look.memory.pause.as_ref()))?;
    maintenance::unlocked(settings)?;
    let component = member.component;
    let (known, _) = record::last_known(settings);
    let asked = look.observer.ask_etcd(&component, &known);
    let (cluster, status) = tokio::join!(maintenance::look(&member.way), asked);
    let cluster = cluster.map_err(|why| {
        let under_way = maintenance::under_way(settings).map_or(String::new(), |words| format!("; {words}"));
        Failure::unwell(format!(
            "the etcd of this node does not answer: {why}{under_way}; next: `lastgood etcd status`, `crictl ps -a --name etcd`"
        ))
    })?;
    settled(&look.memory, &component, work, &cluster)?;
    let manifests = || look.seen.manifests.files().filter_map(|file| file.content.as_ref().ok());
    let manifest = manifests().find(|manifest| manifest.id == component);
    let apiserver = manifests().find(|manifest| manifest.role == Role::ApiServer);
    let file = look.memory.components.get(&component).and_then(|record| record.file_name()).unwrap_or("etcd.yaml");
    let here = Here {
        quota: status.and_then(|status| status.quota()),
        room: member
            .data_dir
            .as_deref()
            .and_then(|dir| observe::disk_of(&dir.join("member/snap")))
            .map(|disk| disk.available),
        data_dir: member.data_dir.clone(),
        limit: look.observer.liveness_limit(&component),
        apiserver: apiserver.and_then(|manifest| look.observer.liveness_limit(&manifest.id)),
        manifest: look.observer.environment().manifests.value.join(file).display().to_string(),
        etcdctl: etcdctl(manifest),
    };
    Ok(Found { component, cluster, here })
}

fn for_root(user: Uid) -> Result<(), Failure> {
    match user.is_root() {
        true => Ok(()),
        false => Err(Failure::unreachable("etcd's keys, data and lock are for root alone: use sudo".to_owned())),
    }
}

/// Refuses under an inhibitor that binds the operator as well. Who maintains etcd is not asked here: the lock tells that,
/// which this process may hold, and etcd itself tells whether it is at work.
fn permitted(inhibitors: &[Inhibitor]) -> Result<(), Failure> {
    let mut binding = inhibitors.iter().filter(|inhibitor| !inhibitor.yields_to_operator());
    match binding.find(|inhibitor| !matches!(inhibitor, Inhibitor::EtcdMaintenance { .. })) {
        Some(inhibitor) => Err(Failure::refused(format!("refused: {inhibitor}; next: {}", inhibitor.next_step()))),
        None => Ok(()),
    }
}

/// Refuses while a replacement is under way, and a defragmentation while it would disturb a trial. Under NOSPACE nothing
/// counts against anybody, and neither ends before the alarm is disarmed: waiting for them would be for ever.
fn settled(memory: &Memory, etcd: &ComponentId, work: EtcdWork, cluster: &Cluster) -> Result<(), Failure> {
    let full = cluster.alarms().iter().any(|(_, kind)| *kind == AlarmKind::NoSpace);
    let disturbs = work == EtcdWork::Defrag && !full;
    for (id, record) in &memory.components {
        let own = id == etcd;
        let next = match &record.state {
            ComponentState::Replacing(_) if own || disturbs && record.role.depends_on().is_some() => {
                "wait until it serves (`lastgood status`)".to_owned()
            }
            ComponentState::Probation(_) if own && disturbs => format!(
                "wait until its generation is known-good (`lastgood status`), or `lastgood checkpoint {id}`, and run it again"
            ),
            _ => continue,
        };
        return Err(Failure::refused(format!("refused: {id} is {}; next: {next}", record.state)));
    }
    Ok(())
}

/// Refuses to defragment other members than those that the operator has agreed to.
fn as_shown(shown: &[u64], now: &[u64]) -> Result<(), Failure> {
    let set = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
    match set(shown) == set(now) {
        true => Ok(()),
        false => Err(Failure::refused(
            "refused: the members of the cluster have changed since the plan was shown; next: run it again".to_owned(),
        )),
    }
}

/// Shows the plan and asks. Whether it is to be carried out.
fn agreed(plan: &EtcdPlan, care: ConfirmArgs) -> Result<bool, Failure> {
    if care.dry_run {
        return out::text(&care.output.print(plan, EtcdPlan::text)?).map(|_| false);
    }
    if care.output != Format::Text {
        return Err(Failure { exit: Exit::Usage, sentence: "-o goes with --dry-run".to_owned() });
    }
    out::text(&plan.text())?;
    match care.yes || rollback::agreed()? {
        true => Ok(true),
        false => Err(Failure::refused("nothing was changed".to_owned())),
    }
}

/// Records what was done, and prints it.
fn end(
    settings: &Settings,
    component: &ComponentId,
    what: &str,
    done: Result<String, Failure>,
) -> Result<Exit, Failure> {
    let (kind, because) = match &done {
        Ok(done) => (EventKind::Request, done.clone()),
        Err(failure) => (EventKind::Failure, failure.sentence.clone()),
    };
    let event = Event::new(Timestamp::now(), kind, Some(component), what, because);
    journal::record(&event);
    // A running agent holds the history; the journal has the event then.
    if settings.paths.state.is_dir()
        && let Ok(guard) = Store::open(settings).map_err(drop).and_then(|store| store.lock().map_err(drop))
    {
        let _ = guard.append([&event]);
    }
    out::text(&format!("{}\n", done?))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::time::Duration;

    use nix::sys::signal::Signal;
    use tokio::time::{Instant, sleep};

    use super::*;
    use crate::model::component_state::{Probation, Purpose, Replacement};
    use crate::model::memory::{Pause, Record};
    use crate::model::observation::{BusyKind, BusyProcess, Node};
    use crate::model::policy::Mode;
    use crate::snapshots::tests::real;
    use crate::sys::shared_lock;

    const YES: ConfirmArgs = ConfirmArgs { dry_run: false, yes: true, output: Format::Text };
    const SOON: Duration = Duration::from_secs(60);

    /// A node with this manifest of etcd, if with any.
    fn node(root: &Path, etcd: Option<&str>) -> Settings {
        let mut settings = Settings::default();
        for dir in ["manifests", "inactive", "state", "kubernetes"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        settings.paths.manifests = Some(root.join("manifests"));
        settings.paths.inactive_manifests = root.join("inactive");
        settings.paths.kubernetes = root.join("kubernetes");
        (settings.paths.state, settings.paths.run) = (root.join("state"), root.join("state"));
        settings.paths.staging = root.join("kubernetes/.lastgood");
        settings.kubelet.config = root.join("kubelet/config.yaml");
        settings.kubelet.kubeconfig = root.join("kubelet.conf");
        if let Some(manifest) = etcd {
            fs::write(root.join("manifests/etcd.yaml"), manifest).unwrap();
        }
        settings
    }

    fn defrag_args() -> DefragArgs {
        DefragArgs { cluster: false, member: None, accept_unchecked: false, care: YES }
    }

    /// How each of the three ends.
    async fn ends(settings: &Settings) -> [Result<Exit, Exit>; 3] {
        let exit = |failure: Failure| {
            assert!(failure.sentence.contains("; next: ") || failure.exit == Exit::Refused, "{failure}");
            failure.exit
        };
        [
            compact(settings, CompactArgs { revision: None, care: YES }).await.map_err(exit),
            defrag(settings, defrag_args()).await.map_err(exit),
            disarm(settings, YES).await.map_err(exit),
        ]
    }

    fn root() -> bool {
        geteuid().is_root()
    }

    #[test]
    fn an_inhibitor_that_binds_the_operator_refuses_and_this_command_s_own_lock_does_not() {
        let busy = |kind| vec![BusyProcess { pid: 7, command: "x".to_owned(), kind }];
        let rows: [(&str, Node, bool); 6] = [
            ("nothing", Node::default(), true),
            ("kubeadm", Node { busy: busy(BusyKind::Kubeadm), ..Node::default() }, false),
            ("this command", Node { busy: busy(BusyKind::EtcdMaintenance), ..Node::default() }, true),
            (
                "this command and kubeadm",
                Node { busy: [busy(BusyKind::EtcdMaintenance), busy(BusyKind::Kubeadm)].concat(), ..Node::default() },
                false,
            ),
            ("a read-only directory", Node { read_only: Some("EROFS".to_owned()), ..Node::default() }, false),
            ("etcdctl", Node { busy: busy(BusyKind::EtcdTool), ..Node::default() }, true),
        ];
        let pause = Pause { until: Timestamp::MAX, reason: String::new(), warned: false };
        for (name, node, expected) in rows {
            for (mode, pause) in [(Mode::Act, None), (Mode::Observe, Some(&pause))] {
                let answer = permitted(&Inhibitor::all(&node, mode, pause)).map_err(|failure| failure.exit);
                assert_eq!(answer, if expected { Ok(()) } else { Err(Exit::Refused) }, "{name}");
            }
        }
    }

    #[tokio::test]
    async fn a_trial_of_etcd_and_a_replacement_are_not_disturbed_except_where_nospace_keeps_them_from_ending() {
        let cluster = real::Cluster::start("3.5", 1);
        let well = maintenance::look(&cluster.way()).await.unwrap();
        let mut full = well.clone();
        let status = full.members[0].answer.as_mut().unwrap();
        status.alarms.push(crate::model::etcd::Alarm { member: full.own, kind: AlarmKind::NoSpace });
        let trial = || ComponentState::Probation(Probation::begin(2, 1));
        let replaced = || ComponentState::Replacing(Replacement::new(Purpose::roll_back(Some(2)), 1, "it crashed"));
        let etcd = ComponentId::system("etcd");
        // Refused: compact, defrag, and defrag under NOSPACE.
        let rows = [
            (Role::Etcd, "etcd", ComponentState::Steady { good: 1 }, [false, false, false]),
            (Role::Etcd, "etcd", ComponentState::Adopting { candidate: 1, healthy: SOON }, [false, false, false]),
            (Role::Etcd, "etcd", trial(), [false, true, false]),
            (Role::Etcd, "etcd", replaced(), [true, true, true]),
            (Role::ApiServer, "kube-apiserver", trial(), [false, false, false]),
            (Role::ApiServer, "kube-apiserver", replaced(), [false, true, false]),
            (Role::Scheduler, "kube-scheduler", replaced(), [false, true, false]),
            (Role::Other, "kube-vip", replaced(), [false, false, false]),
        ];
        for (role, name, state, expected) in rows {
            let mut memory = Memory::default();
            memory.components.insert(ComponentId::system(name), Record::new(role, state.clone()));
            let refused = |work, cluster| match settled(&memory, &etcd, work, cluster) {
                Ok(()) => false,
                Err(failure) => failure.exit == Exit::Refused && failure.sentence.contains("; next: "),
            };
            let found =
                [refused(EtcdWork::Compact, &well), refused(EtcdWork::Defrag, &well), refused(EtcdWork::Defrag, &full)];
            assert_eq!(found, expected, "{name}: {state}");
        }
    }

    #[test]
    fn another_user_than_root_cannot_reach_it() {
        assert_eq!(for_root(Uid::from_raw(1000)).map_err(|failure| failure.exit), Err(Exit::Unreachable));
        assert!(for_root(Uid::from_raw(0)).is_ok());
    }

    #[test]
    fn only_the_members_of_the_plan_are_defragmented() {
        assert!(as_shown(&[1, 2, 3], &[3, 1, 2]).is_ok(), "another one leads");
        for now in [&[1, 2][..], &[1, 2, 3, 4], &[1, 2, 4]] {
            assert_eq!(as_shown(&[1, 2, 3], now).map_err(|failure| failure.exit), Err(Exit::Refused));
        }
    }

    #[test]
    fn nothing_is_done_without_a_yes() {
        let plan: EtcdPlan = serde_json::from_str(
            r#"{"work": "disarm", "revision": 1, "members": [], "alarms": [], "steps": [], "effects": []}"#,
        )
        .unwrap();
        let asked =
            |dry_run, yes, output| agreed(&plan, ConfirmArgs { dry_run, yes, output }).map_err(|failure| failure.exit);
        assert_eq!(asked(false, true, Format::Text), Ok(true));
        assert_eq!(asked(true, true, Format::Text), Ok(false));
        assert_eq!(asked(true, false, Format::Json), Ok(false));
        assert_eq!(asked(false, true, Format::Json), Err(Exit::Usage));
        if !crate::journal::watched_by_a_person() {
            assert_eq!(asked(false, false, Format::Text), Err(Exit::Refused));
        }
    }

    #[tokio::test]
    async fn a_node_without_an_etcd_refuses_and_an_etcd_that_does_not_run_is_unhealthy() {
        if !root() {
            return;
        }
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(ends(&node(dir.path(), None)).await, [Err(Exit::Refused); 3]);
        let mut cluster = real::Cluster::start("3.5", 1);
        let manifest = cluster.manifest(0);
        cluster.stop();
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path(), Some(&manifest));
        assert_eq!(ends(&settings).await, [Err(Exit::Unwell); 3]);
        assert!(!settings.paths.staging.exists(), "nothing is locked before there is a plan");
    }

    #[tokio::test]
    async fn what_is_done_is_recorded_and_a_snapshot_keeps_a_defragmentation_away() {
        if !root() {
            return;
        }
        let (cluster, dir) = (real::Cluster::start("3.5", 1), tempfile::tempdir().unwrap());
        let settings = node(dir.path(), Some(&cluster.manifest(0)));
        assert_eq!(ends(&settings).await, [Ok(Exit::Ok); 3]);
        let recorded = || -> Vec<(EventKind, String)> {
            let history = Store::open(&settings).unwrap().history(None, 10);
            history.events.into_iter().map(|event| (event.kind, event.to)).collect()
        };
        let done = |to: &str| (EventKind::Request, to.to_owned());
        assert_eq!(recorded(), [done("etcd compact"), done("etcd defrag")], "there was no alarm to disarm");
        assert_eq!(shared_lock::Mark::read(&settings.defrag_lock()), None, "etcd has answered");
        let snapshot = crate::snapshots::apart(&settings).unwrap();
        assert_eq!(ends(&settings).await, [Ok(Exit::Ok), Err(Exit::Refused), Ok(Exit::Ok)]);
        drop(snapshot);
        let far = CompactArgs { revision: Some(i64::MAX), care: YES };
        assert_eq!(compact(&settings, far).await.map_err(|failure| failure.exit), Err(Exit::Refused));
        assert_eq!(recorded().len(), 3, "a refusal changes nothing");
    }

    #[tokio::test]
    async fn q10_q15_a_member_that_fails_after_the_plan_was_agreed_to_ends_the_defragmentation() {
        if !root() {
            return;
        }
        let (cluster, dir) = (real::Cluster::start("3.5", 3), tempfile::tempdir().unwrap());
        let all = maintenance::look(&cluster.way()).await.unwrap();
        let number = |name: &str| name.trim_start_matches('m').parse::<usize>().unwrap();
        // The last in turn has the time between the two looks; a leader that hangs would leave nobody to ask.
        let last = all.members.iter().max_by_key(|asked| asked.member.id).unwrap();
        let follower =
            all.members.iter().find(|asked| ![Some(last.member.id), all.leader()].contains(&Some(asked.member.id)));
        let (own, other) = (number(&last.name()), number(&follower.unwrap().name()));
        let settings = node(dir.path(), Some(&cluster.manifest(own)));
        let began = Instant::now();
        let hangs = async {
            while !matches!(shared_lock::share(&settings.defrag_lock()), Ok(None)) {
                assert!(began.elapsed() < SOON, "it takes no lock");
                sleep(Duration::from_millis(20)).await;
            }
            cluster.signal_member(other, Signal::SIGSTOP);
        };
        let (done, ()) = tokio::join!(defrag(&settings, defrag_args()), hangs);
        cluster.signal_member(other, Signal::SIGCONT);
        assert_eq!(done.map_err(|failure| failure.exit), Err(Exit::Refused));
        assert_eq!(Store::open(&settings).unwrap().history(None, 10).events, []);
    }
}
