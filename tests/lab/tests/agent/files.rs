//! The manifest directory contains a file that is no manifest, or a duplicate; and the contents of inactive-manifests.

use std::fs::{self, File};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::journal::From;
use lastgood_lab::node::{Node, Writing};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// More actions than a person allows in an hour: these tests break one component several times.
const PATIENT: &str = "[limits]\nactions-per-hour = 20\n";

/// Where what was replaced is kept.
const REPLACED: &str = "/etc/kubernetes/.lastgood/replaced";

/// Where the known-good manifests lie.
const INACTIVE: &str = "/etc/kubernetes/inactive-manifests";

/// The container of a component that runs.
async fn running(node: &Node, component: Component) -> Result<String> {
    let began = Instant::now();
    loop {
        let found = node.containers(component).await?;
        match found.into_iter().rev().find(|container| container.state == Life::Running) {
            Some(container) => return Ok(container.id),
            None => ensure!(began.elapsed() < SOON, "{component} does not run"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

/// The sandbox of a component that stands. A pod that lives on keeps it, even where its container loses a lease and is
/// started again, as those of the controller manager and the scheduler are on a busy machine.
async fn sandbox(node: &Node, component: Component) -> Result<String> {
    let pod = format!("{component}-{}", node.name());
    let found = node.sandboxes().await?.into_iter().rev().find(|sandbox| sandbox.ready && sandbox.pod == pod);
    Ok(found.with_context(|| format!("{component} has no sandbox"))?.id)
}

/// What is kept of a file, the oldest first.
fn kept(node: &Node, name: &str) -> Result<Vec<PathBuf>> {
    let dir = node.path(REPLACED);
    let prefix = format!("{name}.2");
    let mut found: Vec<PathBuf> = match fs::read_dir(&dir) {
        Ok(entries) => entries.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?,
        Err(_) => Vec::new(),
    };
    found.retain(|path| path.file_name().is_some_and(|found| found.to_string_lossy().starts_with(&prefix)));
    found.sort();
    Ok(found)
}

/// Has the kubelet scan its directory every minute only, so that a pod that survives was saved by quickness and not by
/// luck; events reach it all the same.
async fn scan_seldom(stage: &Stage) -> Result<()> {
    let path = stage.node.path("/var/lib/kubelet/config.yaml");
    let text = fs::read_to_string(&path)?;
    let seldom = text.replace("fileCheckFrequency: 0s", "fileCheckFrequency: 10m");
    ensure!(seldom != text, "the kubelet's configuration has no fileCheckFrequency");
    fs::write(&path, seldom)?;
    let mut journal = stage.node.kubelet().journal(From::Now)?;
    stage.node.kubelet().restart().await?;
    // Its first scan has to be over: a pod that it does not find there is one to be killed.
    for _ in Component::ALL {
        journal.wait_for_line("SyncLoop ADD", SOON).await?;
    }
    stage.all_serve().await
}

/// Puts something in a file's place by one rename, as an editor would: no moment without the name.
fn swap_in(path: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let beside = path.with_file_name(".lab-swap");
    make(&beside)?;
    fs::rename(&beside, path).with_context(|| format!("cannot move {} into place", path.display()))
}

/// What becomes of a manifest, and what the agent calls that.
struct Ruin {
    component: Component,
    called: &'static str,
    deed: fn(&Path) -> Result<()>,
}

const RUINS: [Ruin; 6] = [
    Ruin { component: Component::Scheduler, called: "is empty", deed: |path| Ok(fs::write(path, "")?) },
    Ruin {
        component: Component::ApiServer,
        called: "is neither YAML nor JSON",
        deed: |path| Ok(fs::write(path, "apiVersion: v1\nkind: Pod\nmetadata: {name: [\n")?),
    },
    // Longer than what stood there: what a power cut leaves on some file systems.
    Ruin {
        component: Component::Etcd,
        called: "is neither YAML nor JSON",
        deed: |path| Ok(fs::write(path, [0; 8192])?),
    },
    Ruin {
        component: Component::Scheduler,
        called: "is 20971520 bytes, more than the kubelet reads",
        deed: |path| Ok(File::create(path)?.set_len(20 << 20)?),
    },
    Ruin {
        component: Component::ControllerManager,
        called: "is a symbolic link to /etc/kubernetes/nowhere.yaml, which does not exist",
        deed: |path| swap_in(path, |at| Ok(symlink("/etc/kubernetes/nowhere.yaml", at)?)),
    },
    Ruin {
        component: Component::Scheduler,
        called: "is a fifo, not a regular file",
        deed: |path| swap_in(path, |at| Ok(mkfifo(at, Mode::S_IRUSR | Mode::S_IWUSR)?)),
    },
];

/// Group 2, all that holds no pod. The fifo comes last: the kubelet opens it, and would read nothing else ever after.
#[tokio::test]
async fn what_holds_no_pod_is_replaced_before_the_kubelet_looks_and_kept() -> Result<()> {
    let stage = Stage::with(&format!("{QUICK}{PATIENT}")).await?;
    scan_seldom(&stage).await?;
    for (nth, ruin) in RUINS.iter().enumerate() {
        let (component, file) = (ruin.component, ruin.component.file());
        let good = stage.manifest(component)?;
        let before = sandbox(&stage.node, component).await?;
        let had = kept(&stage.node, &file)?.len();
        let path = stage.node.manifest_path(&file);
        (ruin.deed)(&path)?;
        let ruined = fs::symlink_metadata(&path)?;
        let took = stage.back(component, &good).await.with_context(|| format!("{nth}: {}", ruin.called))?;
        eprintln!("{}: back after {took:?}", ruin.called);
        ensure!(fs::symlink_metadata(&path)?.is_file(), "{}: no regular file stands again", ruin.called);
        stage.told(&format!("{file} {}", ruin.called)).await?;
        stage.steady_on(component, 1).await?;
        stage.node.await_serving(component, SOON).await?;
        let now = sandbox(&stage.node, component).await?;
        ensure!(now == before, "{}: another sandbox stands:\n{}", ruin.called, stage.story());
        let kept = kept(&stage.node, &file)?;
        ensure!(kept.len() == had + 1, "{}: kept are {kept:?}", ruin.called);
        let last = fs::symlink_metadata(&kept[had])?;
        ensure!(
            last.file_type() == ruined.file_type() && last.len() == ruined.len(),
            "{}: kept is {last:?}",
            ruin.called
        );
        let history = stage.node.lastgood(&["history", component.name()]).await?.success()?;
        ensure!(history.contains(ruin.called), "the history does not know that it {}:\n{history}", ruin.called);
    }
    // Q16. What decodes, and the kubelet's own line refuses: back before the kubelet's scan ends the pod.
    let (component, before) = (Component::Scheduler, sandbox(&stage.node, Component::Scheduler).await?);
    let good = stage.manifest(component)?;
    stage.write(&component.file(), &good.replace("spec:\n", "spec:\n  restartPolicy: Sometimes\n"))?;
    stage.back(component, &good).await.context("what the kubelet refuses")?;
    stage.told("the kubelet refuses it").await?;
    stage.steady_on(component, 1).await?;
    ensure!(sandbox(&stage.node, component).await? == before, "another sandbox stands:\n{}", stage.story());
    // The kubelet still listens: a changed manifest has it start another pod, without a restart of the kubelet.
    let before = running(&stage.node, Component::Scheduler).await?;
    stage.add_flag(Component::Scheduler, "--v=3")?;
    stage.steady_on(Component::Scheduler, 3).await?;
    ensure!(running(&stage.node, Component::Scheduler).await? != before, "the kubelet listens no more");
    ensure!(!stage.story().contains("the kubelet is restarted"), "{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// Q16. What does not decode for lastgood may be a pod to the kubelet: nothing is done before the kubelet has shown that it
/// does not run it.
#[tokio::test]
async fn q16_what_the_kubelet_refuses_comes_back_when_it_has_shown_that() -> Result<()> {
    // On a host whose log of the kubelet cannot be read.
    let stage = Stage::with(&format!("{QUICK}{PATIENT}[kubelet]\nlog = [\"true\"]\n")).await?;
    let cut = |text: &str| Ok(text[..text.find("spec:\n").context("no spec")? + "spec:\n".len()].to_owned());
    let other = |text: &str| Ok(text.replace("apiVersion: v1\n", "apiVersion: apps/v1\n").replace("Pod", "Deployment"));
    type Ruins = fn(&str) -> Result<String>;
    let ruins: [(Component, &str, Ruins); 2] = [
        (Component::Scheduler, "is not a valid Pod", cut),
        (Component::ControllerManager, "is apps/v1/Deployment", other),
    ];
    for (component, called, ruin) in ruins {
        let good = stage.manifest(component)?;
        let ruined = ruin(&good)?;
        stage.write(&component.file(), &ruined)?;
        stage.told("no pod of it runs; lastgood deploys generation 1 when the kubelet has started none").await?;
        ensure!(stage.manifest(component)? == ruined, "{called}: undone at once:\n{}", stage.story());
        let took = stage.back(component, &good).await.with_context(|| called.to_owned())?;
        eprintln!("{called}: back after {took:?}");
        stage.told(&format!("{} {called}", component.file())).await?;
        stage.told("and the kubelet has started no pod of it for 20 s").await?;
        stage.steady_on(component, 1).await?;
        stage.node.await_serving(component, SOON).await?;
        let kept = kept(&stage.node, &component.file())?;
        ensure!(kept.len() == 1 && fs::read_to_string(&kept[0])? == ruined, "{called}: kept are {kept:?}");
    }
    stage.the_same_after_a_restart().await
}

/// A character that no YAML may hold, behind the first document, where the kubelet's reader has stopped.
const ONLY_THE_KUBELET_READS: &str = "---\n# \u{7}\n";

/// Q16. What the kubelet takes and lastgood does not: it cannot tell where the kubelet stops reading.
#[tokio::test]
async fn q16_what_the_kubelet_runs_and_lastgood_cannot_read_is_told_and_left_alone() -> Result<()> {
    let stage = Stage::adopted().await?;
    let scheduler = Component::Scheduler;
    let good = stage.manifest(scheduler)?;
    let before = uid(&stage.node, scheduler).await?;
    let changed = older(&good, scheduler);
    let written = format!("{changed}{ONLY_THE_KUBELET_READS}");
    stage.write(&scheduler.file(), &written)?;
    let began = Instant::now();
    while running(&stage.node, scheduler).await.is_err() || uid(&stage.node, scheduler).await.is_ok_and(|u| u == before)
    {
        ensure!(began.elapsed() < SOON, "the kubelet does not run it:\n{}", stage.story());
        sleep(Duration::from_millis(100)).await;
    }
    stage.node.await_serving(scheduler, SOON).await?;
    let container = running(&stage.node, scheduler).await?;
    let words = "the kubelet runs a pod of it, so lastgood leaves it";
    stage.told(words).await?;
    // Longer than the kubelet could take to refuse it.
    sleep(Duration::from_secs(25)).await;
    for restarted in [false, true] {
        if restarted {
            stage.node.agent().restart().await?;
            stage.in_state(scheduler, "steady").await?;
            sleep(Duration::from_secs(5)).await;
        }
        ensure!(stage.manifest(scheduler)? == written, "it was undone:\n{}", stage.story());
        ensure!(running(&stage.node, scheduler).await? == container, "it was restarted:\n{}", stage.story());
        let status = stage.status().await?.to_string();
        ensure!(status.contains(words), "the status does not say so: {status}");
        let explained = stage.node.lastgood(&["explain", "kube-scheduler"]).await?.stdout;
        ensure!(explained.contains("cannot read") && explained.contains("a control character"), "{explained}");
    }
    let diff = stage.node.lastgood(&["diff", "kube-scheduler"]).await?.stdout;
    ensure!(diff.contains("+---"), "the diff does not show it: {diff}");
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    ensure!(stage.times_told("restarting its container") == 0, "{}", stage.story());
    // It decodes again, and is the pod that runs: the kubelet starts no other, and is not taken for deaf.
    stage.write(&scheduler.file(), &changed)?;
    stage.in_state(scheduler, "unread").await?;
    sleep(Duration::from_secs(25)).await;
    ensure!(running(&stage.node, scheduler).await? == container, "the same pod was started again:\n{}", stage.story());
    let status = stage.status().await?.to_string();
    ensure!(!status.contains("cannot read"), "the notice lingers: {status}");
    stage.steady_on(scheduler, 2).await?;
    ensure!(running(&stage.node, scheduler).await? == container, "the same pod was started again:\n{}", stage.story());
    ensure!(!stage.story().contains("the kubelet is restarted"), "{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// A directory cannot take a file's name without a moment in which the name is gone, so the kubelet ends the pod at once.
#[tokio::test]
async fn a_directory_in_a_manifests_place_and_a_link_to_a_good_file() -> Result<()> {
    let stage = Stage::adopted().await?;
    let file = Component::Scheduler.file();
    let good = stage.manifest(Component::Scheduler)?;
    let path = stage.node.manifest_path(&file);
    let mode = |path: &Path| Ok::<u32, std::io::Error>(fs::metadata(path)?.permissions().mode() & 0o777);
    let had = mode(&path)?;
    fs::remove_file(&path)?;
    fs::create_dir(&path)?;
    fs::write(path.join("note"), "mine")?;
    stage.back(Component::Scheduler, &good).await?;
    stage.told(&format!("{file} is a directory")).await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    stage.node.await_serving(Component::Scheduler, SOON).await?;
    let kept = kept(&stage.node, &file)?;
    ensure!(fs::read_to_string(kept[0].join("note"))? == "mine", "{kept:?}");
    ensure!(mode(&path)? == had, "the manifest has the mode {:o}, not {had:o}", mode(&path)?);

    // A link to the same bytes elsewhere is the same pod under the same name: nothing happens to it.
    let before = running(&stage.node, Component::ControllerManager).await?;
    let path = stage.node.manifest_path(&Component::ControllerManager.file());
    let elsewhere = stage.node.path("/etc/kubernetes/real.yaml");
    fs::copy(&path, &elsewhere)?;
    swap_in(&path, |at| Ok(symlink("/etc/kubernetes/real.yaml", at)?))?;
    // A change of the file behind the link is a change of the pod, and a candidate.
    stage.node.kubelet().restart().await?;
    stage.steady_on(Component::ControllerManager, 1).await?;
    ensure!(running(&stage.node, Component::ControllerManager).await? == before, "another container runs");
    ensure!(fs::symlink_metadata(&path)?.is_symlink(), "the link was replaced:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// A manifest that was cut short may still be a pod, a smaller one: then it is a candidate, and fails as one.
#[tokio::test]
async fn a_torn_manifest_that_is_still_a_pod_fails_its_probation() -> Result<()> {
    let stage = Stage::adopted().await?;
    let good = stage.manifest(Component::ApiServer)?;
    // Behind the container's name: no probes, no volumes, no host network.
    let at = good.find("\n    name: kube-apiserver\n").context("no name")? + 1;
    let end = at + good[at..].find('\n').context("no line")? + 1;
    stage.write(&Component::ApiServer.file(), &good[..end])?;
    stage.told("generation 2 is on probation").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    // Within its volumes: mounts without their volume make it invalid to the kubelet, which ends the pod at its next scan.
    let at = good.rfind("      type: DirectoryOrCreate").context("no volume")?;
    let start = good[..at].rfind("  - hostPath:").context("no volume")?;
    stage.write(&Component::ApiServer.file(), &good[..start])?;
    // The kubelet's own line may be read before lastgood has read the file.
    stage.told("\"usr-share-ca-certificates\"").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.the_same_after_a_restart().await
}

/// Waits until a name has left the manifest directory.
async fn left(stage: &Stage, name: &str) -> Result<()> {
    let began = Instant::now();
    while stage.names()?.iter().any(|found| found == name) {
        ensure!(began.elapsed() < SOON, "{name} still stands:\n{}", stage.story());
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// An older copy of a manifest: another pod than the one that stands.
fn older(text: &str, component: Component) -> String {
    text.replacen(&format!("- {component}\n"), &format!("- {component}\n    - --v=1\n"), 1)
}

#[tokio::test]
async fn a_second_file_of_a_pod_is_named_moved_out_and_kept() -> Result<()> {
    let stage = Stage::with(&format!("{QUICK}{PATIENT}")).await?;
    let duplicates = [
        (Component::Scheduler, "kube-scheduler.yaml~"),
        (Component::ControllerManager, "a-copy.yaml"),
        (Component::ApiServer, "kube-apiserver.yaml.bak"),
        (Component::Etcd, "z-etcd.yaml"),
    ];
    for (component, name) in duplicates {
        let good = stage.manifest(component)?;
        let uid = uid(&stage.node, component).await?;
        let duplicate = if name == "a-copy.yaml" { good.clone() } else { older(&good, component) };
        stage.write(name, &duplicate)?;
        left(&stage, name).await?;
        stage.told(&format!("{name} in the manifest directory claims the pod of {component}")).await?;
        stage.told(&format!("moved {name}, which claimed the pod")).await?;
        stage.steady_on(component, 1).await?;
        stage.node.await_serving(component, SOON).await?;
        ensure!(stage.manifest(component)? == good, "{component}: another manifest is deployed");
        let found = kept(&stage.node, name)?;
        ensure!(found.len() == 1 && fs::read_to_string(&found[0])? == duplicate, "{name}: kept are {found:?}");
        ensure!(self::uid(&stage.node, component).await? == uid, "{component}: the duplicate's pod runs");
    }
    // An editor that leaves a backup beside the change: the change is on trial, the backup out of its way.
    let before = stage.manifest(Component::Scheduler)?;
    let changed = older(&before, Component::Scheduler);
    stage.write("kube-scheduler.yaml~", &before)?;
    stage.write("kube-scheduler.yaml", &changed)?;
    left(&stage, "kube-scheduler.yaml~").await?;
    stage
        .until(Component::Scheduler, "the edited manifest proves itself", |c| {
            c["state"].as_str() == Some("Steady") && c["generation"] != 1
        })
        .await?;
    ensure!(stage.manifest(Component::Scheduler)? == changed, "the edit was lost:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

/// The UID of the pod that runs.
async fn uid(node: &Node, component: Component) -> Result<String> {
    let id = running(node, component).await?;
    let found = node.containers(component).await?.into_iter().find(|container| container.id == id);
    Ok(found.context("the container went")?.pod_uid)
}

#[tokio::test]
async fn where_duplicates_are_only_reported_they_stay() -> Result<()> {
    let stage = Stage::with(&format!("{QUICK}[duplicates]\naction = \"report\"\n")).await?;
    let good = stage.manifest(Component::Scheduler)?;
    let own = uid(&stage.node, Component::Scheduler).await?;
    stage.write("kube-scheduler.yaml.bak", &older(&good, Component::Scheduler))?;
    stage.told("kube-scheduler.yaml.bak in the manifest directory claims the pod of kube-scheduler").await?;
    let began = Instant::now();
    while uid(&stage.node, Component::Scheduler).await? == own {
        ensure!(began.elapsed() < SOON, "the kubelet does not run the duplicate");
        sleep(Duration::from_millis(100)).await;
    }
    stage.node.await_serving(Component::Scheduler, SOON).await?;
    let status = stage.component(Component::Scheduler).await?;
    ensure!(status["state"] == "Steady", "{status}");
    ensure!(stage.names()?.contains(&"kube-scheduler.yaml.bak".to_owned()), "it was moved out");
    ensure!(kept(&stage.node, "kube-scheduler.yaml.bak")?.is_empty());
    stage.node.agent().restart().await?;
    stage.in_state(Component::Scheduler, "Steady").await?;
    stage.node.remove_manifest("kube-scheduler.yaml.bak")?;
    while uid(&stage.node, Component::Scheduler).await? != own {
        ensure!(began.elapsed() < SOON * 2, "the kubelet does not run its own again");
        sleep(Duration::from_millis(100)).await;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n11_t11_dot_files_and_files_that_are_nobodys_are_untouched() -> Result<()> {
    let stage = Stage::adopted().await?;
    let foreign = stage.node.path(INACTIVE).join("my-notes.yaml");
    fs::write(&foreign, "kind: Note\n")?;
    let other_pod =
        "apiVersion: v1\nkind: Pod\nmetadata: {name: other}\nspec: {containers: [{name: a, image: none}]}\n";
    fs::write(stage.node.path(INACTIVE).join("other.yaml"), other_pod)?;
    let good = stage.manifest(Component::ApiServer)?;
    let before = running(&stage.node, Component::ApiServer).await?;
    let strays = [
        (".kube-apiserver.yaml.swp", "b0VIM 9.0"),
        (".#kube-apiserver.yaml", good.as_str()),
        ("README.txt", "These are ours."),
        ("4913", ""),
    ];
    for (name, text) in strays {
        stage.write(name, text)?;
    }
    // A change elsewhere goes its way beside them, so the agent has looked at them more than once.
    stage.add_flag(Component::Scheduler, "--v=3")?;
    stage.steady_on(Component::Scheduler, 2).await?;
    for (name, text) in strays {
        ensure!(stage.node.manifest_text(name)? == text, "{name} was touched");
        ensure!(kept(&stage.node, name)?.is_empty(), "{name} was copied away");
        let told = stage.story().lines().filter(|line| line.contains(name)).count();
        ensure!(told <= 1, "{name} was mentioned {told} times:\n{}", stage.story());
    }
    ensure!(fs::read_to_string(&foreign)? == "kind: Note\n");
    ensure!(fs::read_to_string(stage.node.path(INACTIVE).join("other.yaml"))? == other_pod);
    ensure!(running(&stage.node, Component::ApiServer).await? == before, "another container runs");
    stage.steady_on(Component::ApiServer, 1).await?;
    // The end of every test finds nothing lying about that begins with a dot; these are the test's own.
    for name in [".kube-apiserver.yaml.swp", ".#kube-apiserver.yaml"] {
        stage.node.remove_manifest(name)?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n12_an_inactive_manifest_edited_by_hand_is_kept_offered_and_tried_on_request() -> Result<()> {
    let stage = Stage::adopted().await?;
    let inactive = stage.node.path(INACTIVE).join(Component::Scheduler.file());
    let good = stage.manifest(Component::Scheduler)?;
    ensure!(fs::read_to_string(&inactive)? == good, "inactive-manifests does not hold the known-good manifest");
    // Broken: left as it is, and said.
    fs::write(&inactive, "apiVersion: v1\nkind: [\n")?;
    stage.told("inactive-manifests/kube-scheduler.yaml is neither YAML nor JSON").await?;
    // Edited: kept and offered.
    let edited = older(&good, Component::Scheduler);
    fs::write(&inactive, &edited)?;
    stage.told("inactive-manifests/kube-scheduler.yaml was edited by hand: kept as generation 2").await?;
    stage.told("`lastgood rollback kube-scheduler --to 2` tries it").await?;
    ensure!(fs::read_to_string(&inactive)? == edited, "the edit was overwritten");
    ensure!(stage.manifest(Component::Scheduler)? == good, "the edit was put in place unasked");
    stage.node.agent().restart().await?;
    // A status is also had of an agent that does not answer yet; a request is not.
    let began = Instant::now();
    while stage.status().await?["agent"]["process"]["is"] != "running" {
        ensure!(began.elapsed() < SOON, "the agent does not answer:\n{}", stage.story());
        sleep(Duration::from_millis(50)).await;
    }
    stage.steady_on(Component::Scheduler, 1).await?;
    ensure!(fs::read_to_string(&inactive)? == edited, "the edit was overwritten after a restart");
    let said = stage.node.lastgood(&["rollback", "kube-scheduler", "--to", "2", "--yes"]).await?;
    ensure!(said.code == 0, "exit code {}: {}{}", said.code, said.stdout, said.stderr);
    stage.steady_on(Component::Scheduler, 2).await?;
    ensure!(stage.manifest(Component::Scheduler)? == edited);
    ensure!(fs::read_to_string(&inactive)? == edited);
    stage.the_same_after_a_restart().await
}

/// N23. Somebody whose mistakes come faster than they can be mended.
#[tokio::test]
async fn n23_a_manifest_that_flaps_is_held_after_a_few_actions_until_a_person_resumes() -> Result<()> {
    let stage = Stage::adopted().await?;
    let file = Component::Scheduler.file();
    let good = stage.manifest(Component::Scheduler)?;
    let began = Instant::now();
    let mut ruined = 0;
    // Whatever stands is ruined again as soon as it is good.
    while stage.state(Component::Scheduler).await? != "held" {
        ensure!(began.elapsed() < SOON * 2, "still acting after {ruined} ruins:\n{}", stage.story());
        if stage.manifest(Component::Scheduler)? == good && stage.state(Component::Scheduler).await? == "steady" {
            ruined += 1;
            stage.node.write_manifest(&file, &format!("broken {ruined}: [\n"), Writing::Plain)?;
        }
        sleep(Duration::from_millis(100)).await;
    }
    let acted = stage.story().matches("put generation 1 of kube-scheduler in place").count();
    ensure!(acted == 4, "{acted} actions, not the 4 an hour that are the default:\n{}", stage.story());
    let held = stage.component(Component::Scheduler).await?;
    ensure!(held["next"].as_str().unwrap_or_default().contains("lastgood resume"), "no next step: {held}");
    // Held across a restart: a restart is no new budget.
    stage.node.agent().restart().await?;
    stage.in_state(Component::Scheduler, "held").await?;
    ensure!(stage.manifest(Component::Scheduler)? != good, "it acted beyond its budget");
    stage.node.lastgood(&["resume"]).await?.success()?;
    stage.back(Component::Scheduler, &good).await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}
