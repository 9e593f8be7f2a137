//! `lastgood etcd compact`, `defrag` and `disarm`: shows the plan, asks, and carries it out.

use clap::Args;
use jiff::Timestamp;

use super::status::Look;
use crate::cli::{ConfirmArgs, Exit, Failure, out, rollback};
use crate::config::Settings;
use crate::journal;
use crate::model::event::EventKind;
use crate::model::inhibitor::Inhibitor;
use crate::model::kubelet_probe::etcdctl;
use crate::model::{ComponentId, ComponentState, Event};
use crate::observe;
use crate::ops::etcd::maintenance::{
    self, Cluster, Here, Interrupt, Targets, Unchecked, run_compact, run_defrag, run_disarm,
};
use crate::record::{self, Store};
use crate::report::{EtcdPlan, Format};

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
    let found = find(settings).await?;
    let plan = maintenance::compact(&found.cluster, &found.here, args.revision)?;
    if !agreed(&plan, args.care)? {
        return Ok(Exit::Ok);
    }
    let mut interrupt = Interrupt::listen()?;
    let _lock = maintenance::lock(settings)?;
    // What was seen when the plan was made may have changed while the operator read it.
    let cluster = again(&found).await?;
    let plan = maintenance::compact(&cluster, &found.here, args.revision.or(plan.compact_to))?;
    let done = run_compact(&cluster, plan.compact_to.unwrap_or(plan.revision), &mut interrupt).await;
    end(settings, &found.component, "etcd compact", done)
}

pub(super) async fn defrag(settings: &Settings, args: DefragArgs) -> Result<Exit, Failure> {
    let targets = match (args.cluster, &args.member) {
        (true, _) => Targets::All,
        (false, Some(name)) => Targets::Named(name.clone()),
        (false, None) => Targets::Local,
    };
    let unchecked = if args.accept_unchecked { Unchecked::Accepted } else { Unchecked::Refused };
    let found = find(settings).await?;
    let (ids, plan) = maintenance::defrag(&found.cluster, &found.here, &targets, unchecked)?;
    if !agreed(&plan, args.care)? {
        return Ok(Exit::Ok);
    }
    let mut interrupt = Interrupt::listen()?;
    let _lock = maintenance::lock(settings)?;
    let mut tell = |line: &str| eprintln!("{line}");
    let done = run_defrag(&found.cluster, &found.here, &ids, &mut interrupt, &mut tell).await;
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
    let found = find(settings).await?;
    let (raised, plan) = maintenance::disarm(&found.cluster, &found.here)?;
    if raised.is_empty() {
        return out::text(&care.output.print(&plan, EtcdPlan::text)?);
    }
    if !agreed(&plan, care)? {
        return Ok(Exit::Ok);
    }
    let _lock = maintenance::lock(settings)?;
    let cluster = again(&found).await?;
    let (raised, _) = maintenance::disarm(&cluster, &found.here)?;
    let done = run_disarm(&cluster, &raised).await;
    end(settings, &found.component, "etcd disarm", done)
}

/// Looks at this node and at every member; refuses where the operator's own requests are refused as well.
async fn find(settings: &Settings) -> Result<Found, Failure> {
    let look = Look::start(settings).await?;
    let member = look.member()?;
    let mut node = look.seen.node.clone();
    node.newer_state = Store::open(settings).map(|store| store.newer_state(&look.memory)).unwrap_or_default();
    let inhibitors = Inhibitor::all(&node, settings.policy.mode, look.memory.pause.as_ref());
    if let Some(inhibitor) = inhibitors.iter().find(|inhibitor| !inhibitor.yields_to_operator()) {
        return Err(Failure::refused(format!("refused: {inhibitor}; next: {}", inhibitor.next_step())));
    }
    let component = member.component;
    let record = look.memory.components.get(&component);
    if let Some(state @ ComponentState::Replacing(_)) = record.map(|record| &record.state) {
        return Err(Failure::refused(format!(
            "refused: {component} is {state}; next: wait until it serves (`lastgood status`)"
        )));
    }
    let (known, _) = record::last_known(settings);
    let asked = look.observer.ask_etcd(&component, &known);
    let (cluster, status) = tokio::join!(maintenance::look(&member.way), asked);
    let cluster = cluster.map_err(|why| {
        Failure::failed(format!("the etcd of this node does not answer: {why}; next: `lastgood explain {component}`"))
    })?;
    let mut manifests = look.seen.manifests.files().filter_map(|file| file.content.as_ref().ok());
    let manifest = manifests.find(|manifest| manifest.id == component);
    let file = record.and_then(|record| record.file_name()).unwrap_or("etcd.yaml");
    let here = Here {
        quota: status.and_then(|status| status.quota()),
        room: member
            .data_dir
            .as_deref()
            .and_then(|dir| observe::disk_of(&dir.join("member/snap")))
            .map(|disk| disk.available),
        data_dir: member.data_dir.clone(),
        limit: look.observer.liveness_limit(&component),
        manifest: look.observer.environment().manifests.value.join(file).display().to_string(),
        etcdctl: etcdctl(manifest),
    };
    Ok(Found { component, cluster, here })
}

async fn again(found: &Found) -> Result<Cluster, Failure> {
    maintenance::look(&found.cluster.endpoint)
        .await
        .map_err(|why| Failure::failed(format!("{why}; nothing was changed")))
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
