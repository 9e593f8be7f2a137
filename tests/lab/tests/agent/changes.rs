//! A manifest is changed, for the worse or for the better; the fault may also be outside of it.
//!
//! ```text
//!   its own fault        flag, URL, file, relapse, deadline, harm to dependents  ─▶ rolled back, quarantined
//!   another's            image, port                                            ─▶ rolled back, tried again when written
//!                        etcd absent, a foreign process on the known-good's port ─▶ waited for, with its name
//!   none                                                                        ─▶ known-good, published
//! ```

use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};

/// The demonstration's waits with some of them changed (`key = "value"` lines of it), and a budget that several breakages
/// on one node do not spend.
pub(crate) fn quick(changes: &[(&str, &str)]) -> String {
    let mut text = QUICK.to_owned();
    for (line, with) in changes {
        assert!(text.contains(line), "the demonstration's configuration has no line {line:?}");
        text = text.replacen(line, with, 1);
    }
    format!("{text}[limits]\nactions-per-hour = 40\n")
}

/// A deadline that no test waits for: whatever is rolled back under it was decided by what proves it.
const NO_DEADLINE: (&str, &str) = ("progress-deadline = \"30s\"", "progress-deadline = \"1h\"");

/// A process of the node that is none of its control plane's.
pub(crate) struct Foreign(Child);

impl Foreign {
    /// Takes a port of the node's loopback as soon as it is free, and answers nobody.
    pub(crate) fn on_port(node: &Node, port: u16) -> Result<Self> {
        let program = "use Socket; socket(my $s, PF_INET, SOCK_STREAM, 0); setsockopt($s, SOL_SOCKET, SO_REUSEADDR, 1); \
                       select(undef, undef, undef, 0.002) until bind($s, pack_sockaddr_in($ARGV[0], INADDR_ANY)); \
                       listen($s, 64); print STDERR \"taken\\n\"; sleep 600;";
        let mut command = node.enter(&["perl", "-e", program, &port.to_string()])?;
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        Ok(Self(child.context("cannot run perl in the node")?))
    }

    /// Ends it. nsenter waits for what it entered, so both are killed: the child by the name only this test uses.
    pub(crate) async fn end(mut self, node: &Node, port: u16) -> Result<()> {
        node.exec(&["pkill", "-KILL", "-f", &format!("INADDR_ANY.* {port}$")]).await?;
        self.0.wait().context("the foreign process does not end")?;
        Ok(())
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Whether a field of a component's status is this word.
pub(crate) fn is(component: &Value, field: &str, word: &str) -> bool {
    component[field].as_str().is_some_and(|found| found.eq_ignore_ascii_case(word))
}

impl Stage {
    /// Waits until a component's candidate has been seen to serve by itself: the verdict alone may be its predecessor's.
    pub(crate) async fn serves_on_trial(&self, component: Component, generation: u64) -> Result<Value> {
        let what = format!("generation {generation} serves on probation");
        let healthy = |c: &Value| c["trial"]["healthy_seconds"].as_u64().is_some_and(|seconds| seconds > 0);
        self.until(component, &what, |c| is(c, "state", "probation") && c["generation"] == generation && healthy(c))
            .await
    }

    /// Waits until what stands was given up and the known-good generation serves again.
    pub(crate) async fn rolled_back(&self, component: Component, failed: u64, good: (&str, u64)) -> Result<()> {
        let (text, number) = good;
        self.told(&format!("RollingBack(to generation {number})")).await?;
        self.back(component, text).await.with_context(|| format!("after generation {failed}"))?;
        self.steady_on(component, number).await
    }

    /// How often something was said so far.
    pub(crate) fn times_told(&self, words: &str) -> usize {
        self.story().matches(words).count()
    }

    /// Waits until something was said so many times.
    pub(crate) async fn told_times(&self, words: &str, times: usize) -> Result<()> {
        let began = std::time::Instant::now();
        while self.times_told(words) < times {
            ensure!(began.elapsed() < SOON, "it did not say {words:?} {times} times:\n{}", self.story());
            sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// The lines the agent said about one component.
    pub(crate) fn story_of(&self, component: Component) -> Vec<String> {
        let of = |line: &&str| line.contains(component.name());
        self.story().lines().filter(of).map(str::to_owned).collect()
    }

    /// The pod whose container runs now.
    pub(crate) async fn running_pod(&self, component: Component) -> Result<Option<String>> {
        let containers = self.node.containers(component).await?;
        Ok(containers.into_iter().rev().find(|c| c.state == Life::Running).map(|c| c.pod_uid))
    }
}

#[tokio::test]
async fn n1_an_unknown_flag_is_rolled_back_quarantined_and_reverted_at_once_when_written_again() -> Result<()> {
    let stage = Stage::adopted().await?;
    let good = stage.manifest(Component::ApiServer)?;
    let bad = stage.add_flag(Component::ApiServer, "--no-such-flag=1")?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    stage.told("unknown flag: --no-such-flag").await?;
    stage.write(&Component::ApiServer.file(), &bad)?;
    stage.told("quarantined generation 2 is deployed again").await?;
    stage.back(Component::ApiServer, &good).await?;
    stage.steady_on(Component::ApiServer, 1).await?;
    let history = stage.node.lastgood(&["history", "kube-system/kube-apiserver"]).await?.success()?;
    ensure!(history.contains("unknown flag: --no-such-flag"), "the reason is not in history:\n{history}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_wrong_etcd_url_and_a_missing_file_are_decided_by_their_crashes_and_not_by_the_deadline() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;

    // It never serves: 20 s without etcd, then exit 1, again and again.
    stage
        .node
        .edit_manifest(&api.file(), |text| text.replacen("https://127.0.0.1:2379", "https://127.0.0.1:12379", 1))?;
    stage.rolled_back(api, 2, (&good, 1)).await?;
    stage.told("generation 2 is quarantined").await?;
    stage.told("context deadline exceeded").await?;

    let named = |text: &str| text.replacen("pki/apiserver.crt", "pki/no-such.crt", 1);
    stage.node.edit_manifest(&api.file(), named)?;
    stage.told("generation 3 is quarantined").await?;
    stage.rolled_back(api, 3, (&good, 1)).await?;
    stage.told("/etc/kubernetes/pki/no-such.crt: no such file or directory").await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_image_that_cannot_be_had_is_rolled_back_and_not_held_against_the_manifest() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let release = stage.node.cluster().kubernetes.clone();
    let elsewhere = |text: &str| text.replacen(&release, "v0.0.0-none", 1);

    let scheduler = Component::Scheduler;
    let good = stage.manifest(scheduler)?;
    let bad = stage.node.edit_manifest(&scheduler.file(), elsewhere)?;
    stage.told("v0.0.0-none is not on this node").await?;
    stage.rolled_back(scheduler, 2, (&good, 1)).await?;
    ensure!(stage.times_told("is quarantined") == 0, "an image fault lapses:\n{}", stage.story());

    // Written again it is given another trial: the image might have come.
    stage.write(&scheduler.file(), &bad)?;
    stage.told_times("Probation(generation 2)", 2).await?;
    stage.back(scheduler, &good).await?;
    stage.steady_on(scheduler, 1).await?;

    // The same where the kubelet cannot be asked for long: its /pods goes dark with the API server. Then the sandbox that
    // waits for its container tells.
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;
    stage.node.edit_manifest(&api.file(), elsewhere)?;
    stage.told("kube-apiserver: Probation(generation 2) -> RollingBack(to generation 1)").await?;
    stage.back(api, &good).await?;
    stage.steady_on(api, 1).await?;
    ensure!(stage.times_told("is quarantined") == 0, "an image fault lapses:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n18_a_port_that_a_foreign_process_holds_is_named_and_nothing_is_quarantined_for_it() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;

    // The candidate's own choice of a port: it goes, but it may come again when the port is free.
    let squatter = Foreign::on_port(&stage.node, 7443)?;
    while stage.node.connect(7443).await.is_err() {
        sleep(Duration::from_millis(20)).await;
    }
    let moved = stage.node.edit_manifest(&api.file(), |text| text.replace("6443", "7443"))?;
    stage.rolled_back(api, 2, (&good, 1)).await?;
    stage.told("address already in use").await?;
    ensure!(stage.times_told("is quarantined") == 0, "a port fault lapses:\n{}", stage.story());
    stage.all_serve().await?;
    squatter.end(&stage.node, 7443).await?;
    drop(moved);

    // The port of what is known-good: nothing to go back to would help, so nothing is done but to say who holds it.
    let rollbacks = stage.times_told("RollingBack");
    let squatter = Foreign::on_port(&stage.node, 6443)?;
    stage.node.tell("kube-apiserver", "crash").await?;
    stage.told("port 6443").await?;
    let seen = stage
        .until(api, "the holder of its port named", |c| c.to_string().contains("perl") && is(c, "state", "steady"))
        .await?;
    ensure!(seen["generation"] == 1, "{seen}");
    // It crashes on, and its dependents with it; none of that is a reason to do anything.
    stage.crashed(api, 3).await?;
    for dependent in [Component::ControllerManager, Component::Scheduler] {
        stage.crashed(dependent, 1).await?;
        let said = stage.story_of(dependent);
        ensure!(!said.iter().any(|line| line.contains("RollingBack") || line.contains("Held")), "{said:#?}");
    }
    ensure!(stage.times_told("RollingBack") == rollbacks, "it thrashes:\n{}", stage.story());
    squatter.end(&stage.node, 6443).await?;
    stage.all_serve().await?;
    stage.until(api, "healthy again", |c| is(c, "verdict", "healthy") && is(c, "state", "steady")).await?;
    ensure!(stage.times_told("RollingBack") == rollbacks, "it thrashes:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

impl Stage {
    /// Waits until the newest pod of a component has been restarted so many times.
    async fn crashed(&self, component: Component, times: u32) -> Result<()> {
        let began = std::time::Instant::now();
        loop {
            let attempt = self.node.containers(component).await?.last().map_or(0, |c| c.attempt);
            if attempt >= times {
                return Ok(());
            }
            ensure!(began.elapsed() < SOON, "{component}: attempt {attempt} after {SOON:?}\n{}", self.story());
            sleep(Duration::from_millis(100)).await;
        }
    }
}

#[tokio::test]
async fn n2_a_candidate_that_answers_and_turns_bad_within_the_soak_is_rolled_back() -> Result<()> {
    // A soak that nobody sits out, however busy the machine is.
    let stage = Stage::with(&quick(&[NO_DEADLINE, ("soak = \"10s\"", "soak = \"10m\"")])).await?;
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;
    for (generation, fault) in [(2, "fail livez ping"), (3, "fail readyz ping"), (4, "hang")] {
        stage.add_flag(api, &format!("--v={generation}"))?;
        stage.serves_on_trial(api, generation).await?;
        stage.node.tell("kube-apiserver", fault).await?;
        stage.told(&format!("generation {generation} is quarantined")).await.context(fault)?;
        stage.back(api, &good).await.context(fault)?;
        stage.steady_on(api, 1).await.context(fault)?;
    }
    ensure!(stage.times_told("it served, then was unhealthy for") >= 3, "{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_candidate_that_crashes_twice_within_the_soak_goes_and_one_that_crashes_once_may_stay() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE, ("soak = \"10s\"", "soak = \"15s\"")])).await?;
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;
    stage.add_flag(api, "--v=2")?;
    stage.serves_on_trial(api, 2).await?;
    stage.node.tell("kube-apiserver", "crash").await?;
    stage.told("generation 2 crashed").await?;
    stage.serves_on_trial(api, 2).await?;
    stage.node.tell("kube-apiserver", "crash").await?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(api, &good).await?;
    stage.steady_on(api, 1).await?;

    stage.add_flag(api, "--v=3")?;
    stage.serves_on_trial(api, 3).await?;
    stage.node.tell("kube-apiserver", "crash").await?;
    stage.told("generation 3 crashed").await?;
    stage.steady_on(api, 3).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn an_etcd_that_is_away_is_not_held_against_a_new_api_server_which_proves_itself_when_it_is_back() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let (api, etcd) = (Component::ApiServer, Component::Etcd);
    let away = async {
        loop {
            // The kubelet kills it and starts another, which is stopped as well.
            drop(stage.node.exec(&["pkill", "-STOP", "-x", "etcd"]).await);
            sleep(Duration::from_millis(100)).await;
        }
    };
    let meanwhile = async {
        stage.until(etcd, "etcd is seen to be away", |c| !is(c, "verdict", "healthy")).await?;
        stage.add_flag(api, "--v=3")?;
        stage.told("not held against it").await?;
        stage.told_times("generation 2 crashed", 3).await?;
        stage.in_state(api, "probation").await
    };
    let seen = tokio::select! {
        () = away => unreachable!("it goes on for ever"),
        seen = meanwhile => seen?,
    };
    ensure!(seen["generation"] == 2, "{seen}");
    stage.node.exec(&["pkill", "-CONT", "-x", "etcd"]).await?;
    stage.steady_on(api, 2).await?;
    ensure!(stage.times_told("RollingBack") == 0, "{}", stage.story());
    for dependent in [Component::ControllerManager, Component::Scheduler] {
        ensure!(stage.state(dependent).await? == "steady", "{dependent}: {:#?}", stage.story_of(dependent));
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn a_candidate_that_is_merely_not_ready_has_its_deadline_and_not_less() -> Result<()> {
    let stage = Stage::with(&quick(&[("progress-deadline = \"30s\"", "progress-deadline = \"20s\"")])).await?;
    let scheduler = Component::Scheduler;
    let good = stage.manifest(scheduler)?;
    // Alive, and never ready; its start-up probe allows 10 s.
    let began = std::time::Instant::now();
    stage.node.edit_manifest(&scheduler.file(), |text| {
        text.replacen("path: /readyz", "path: /readyz/no-such-check", 1).replacen(
            "failureThreshold: 24",
            "failureThreshold: 1",
            1,
        )
    })?;
    stage.told("it did not serve within 20 s").await?;
    ensure!(began.elapsed() > Duration::from_secs(19), "it had only {:?}", began.elapsed());
    stage.told("generation 2 is quarantined").await?;
    stage.back(scheduler, &good).await?;
    stage.steady_on(scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n24_promoted_rolled_back_and_promoted_in_quick_succession_each_of_them_starts() -> Result<()> {
    let stage = Stage::with(&quick(&[])).await?;
    let (api, scheduler) = (Component::ApiServer, Component::Scheduler);

    // A good candidate becomes known-good, and lies in inactive-manifests byte for byte.
    for component in [api, scheduler] {
        stage.add_flag(component, "--v=3")?;
    }
    for component in [api, scheduler] {
        stage.steady_on(component, 2).await?;
        let published = stage.node.path("/etc/kubernetes/inactive-manifests").join(component.file());
        stage
            .until(component, "published", |_| {
                std::fs::read_to_string(&published).ok() == stage.manifest(component).ok()
            })
            .await?;
    }

    let id = format!("kube-system/{scheduler}");
    let mut ran = vec![stage.running_pod(scheduler).await?.context("it runs")?];
    for to in ["1", "2", "1"] {
        let said = stage.node.lastgood(&["rollback", &id, "--to", to, "--yes"]).await?;
        ensure!(said.code == 0, "rollback to {to}: {said:?}\n{}", stage.story());
        // A lease of a tenth may be lost on a busy machine, and the process with it: not asked for at once.
        stage.node.await_serving(scheduler, SOON).await.with_context(|| stage.story())?;
        let pod = stage.running_pod(scheduler).await?.context("it runs")?;
        ensure!(ran.last() != Some(&pod), "generation {to} did not start: {ran:?}");
        ran.push(pod);
    }
    ensure!(ran[1] == ran[3] && ran[0] == ran[2], "each generation is one pod: {ran:?}");

    // And not even waited for: the last content is what runs in the end.
    let one = stage.manifest(scheduler)?;
    let two = stage.add_flag(scheduler, "--v=3")?;
    for text in [&one, &two, &one] {
        sleep(Duration::from_millis(700)).await;
        stage.write(&scheduler.file(), text)?;
    }
    stage.steady_on(scheduler, 1).await?;
    stage.all_serve().await?;
    ensure!(stage.running_pod(scheduler).await?.as_ref() == ran.last(), "{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q12_the_same_quarantined_content_three_times_is_held_until_a_person_resumes_or_writes_another() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE])).await?;
    let scheduler = Component::Scheduler;
    let good = stage.manifest(scheduler)?;
    let bad = stage.add_flag(scheduler, "--no-such-flag=1")?;
    stage.told("generation 2 is quarantined").await?;
    stage.steady_on(scheduler, 1).await?;
    // A comment makes other bytes of it and the same pod: it is the same content.
    for text in [bad.clone(), format!("# by GitOps\n{bad}")] {
        stage.write(&scheduler.file(), &text)?;
        stage.back(scheduler, &good).await?;
        stage.steady_on(scheduler, 1).await?;
    }
    stage.write(&scheduler.file(), &bad)?;
    let held = stage.in_state(scheduler, "held").await?;
    stage.told("was written again 3 times (by uid 0)").await?;
    ensure!(stage.manifest(scheduler)? == bad, "held means that nothing is done: {held}");

    let said = stage.node.lastgood(&["resume", "kube-system/kube-scheduler"]).await?;
    ensure!(said.code == 0, "{said:?}");
    stage.back(scheduler, &good).await?;
    stage.steady_on(scheduler, 1).await?;

    for _ in 0..2 {
        stage.write(&scheduler.file(), &bad)?;
        stage.back(scheduler, &good).await?;
        stage.steady_on(scheduler, 1).await?;
    }
    stage.write(&scheduler.file(), &bad)?;
    stage.in_state(scheduler, "held").await?;
    stage.write(&scheduler.file(), &good)?;
    stage.steady_on(scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q13_an_etcd_that_its_api_server_cannot_use_counts_against_the_etcd_that_changed() -> Result<()> {
    let stage = Stage::with(&quick(&[("progress-deadline = \"30s\"", "progress-deadline = \"20s\"")])).await?;
    let (api, etcd) = (Component::ApiServer, Component::Etcd);
    let good = stage.manifest(etcd)?;
    let pki = stage.node.path("/etc/kubernetes/pki");
    std::fs::copy(pki.join("ca.crt"), pki.join("etcd/other-ca.crt"))?;
    // It is healthy by its own probes, and trusts nobody who comes with the API server's certificate.
    stage.node.edit_manifest(&etcd.file(), |text| {
        let text = text.replacen(
            "- --trusted-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
            "- --trusted-ca-file=/etc/kubernetes/pki/etcd/other-ca.crt",
            1,
        );
        text.replacen("failureThreshold: 24", "failureThreshold: 1", 1)
    })?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(etcd, &good).await?;
    stage.steady_on(etcd, 1).await?;
    let said = stage.story_of(api);
    ensure!(!said.iter().any(|line| line.contains("RollingBack")), "{said:#?}");
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q13_an_api_server_that_refuses_its_dependents_counts_against_the_api_server_that_changed() -> Result<()> {
    let stage = Stage::with(&quick(&[NO_DEADLINE, ("soak = \"10s\"", "soak = \"10m\"")])).await?;
    let api = Component::ApiServer;
    let good = stage.manifest(api)?;
    // It answers everybody who asks after its health, and knows none of its clients any more.
    stage.node.edit_manifest(&api.file(), |text| {
        text.replacen(
            "--client-ca-file=/etc/kubernetes/pki/ca.crt",
            "--client-ca-file=/etc/kubernetes/pki/etcd/ca.crt",
            1,
        )
    })?;
    stage.serves_on_trial(api, 2).await?;
    stage.told("became unhealthy after this change").await?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(api, &good).await?;
    stage.steady_on(api, 1).await?;
    stage.the_same_after_a_restart().await
}
