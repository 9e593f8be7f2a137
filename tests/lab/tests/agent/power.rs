//! A power cut of the whole node, in the middle of what the agent does: at random moments of an adoption, a probation,
//! a rollback and an etcd replacement, and around the restart of a stalled process.
//!
//! ```text
//!   break ─▶ … any moment … ─▶ every process killed ─▶ the files on disk are whole ─▶ boot: containerd, kubelet, agent,
//!                                                       no other node in reach ─▶ serving, the same data, nothing left over
//! ```
//!
//! The moments are drawn from a seed that is printed: `LASTGOOD_LAB_SEED=N` draws the same again. Upgrades that a power
//! cut ends are in `upgrades`. This lab does not lose data that the kernel had not written yet;
//! `src/act/crash_tests.rs` tests that each file is synced before it is renamed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Writing;
use lastgood_lab::node::demo::QUICK;
use serde_json::Value;
use tokio::time::sleep;

use crate::stage::{SOON, Stage, rounds};

/// Where the agent keeps everything.
const STATE: &str = "/var/lib/lastgood";

/// Cuts of one kind, each at another moment.
fn cuts() -> u32 {
    rounds(2, 3)
}

/// One node is cut more often than a person would stand by. The longer debounce has a broken pod seen as not serving before
/// anything is decided: such a one is replaced in two steps, with an empty slot in between.
fn config() -> String {
    let quick = QUICK.replace("debounce = \"300ms\"", "debounce = \"1500ms\"");
    format!("{quick}[limits]\nactions-per-hour = 100\nkubelet-restarts-per-hour = 100\n")
}

/// Moments from a seed (splitmix64).
struct Chance(u64);

impl Chance {
    fn new() -> Result<Self> {
        let seed = match std::env::var("LASTGOOD_LAB_SEED") {
            Ok(seed) => seed.parse().context("LASTGOOD_LAB_SEED is no number")?,
            Err(_) => u64::from(SystemTime::now().duration_since(UNIX_EPOCH)?.subsec_nanos()),
        };
        println!("LASTGOOD_LAB_SEED={seed}");
        Ok(Self(seed))
    }

    fn below(&mut self, most: Duration) -> Duration {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let millis = u64::try_from(most.as_millis()).unwrap_or(u64::MAX).max(1);
        Duration::from_millis((z ^ (z >> 31)) % millis)
    }
}

/// A node whose power is cut, and what may be found on it.
struct Cut {
    stage: Stage,
    chance: Chance,
    /// Every manifest that was ever written as a whole.
    whole: BTreeSet<String>,
    /// The known-good one of each component.
    good: BTreeMap<Component, (u64, String)>,
}

impl Cut {
    fn of(stage: Stage) -> Result<Self> {
        let text = |component: Component| -> Result<_> { Ok((component, (1, stage.manifest(component)?))) };
        let good: BTreeMap<_, _> = Component::ALL.into_iter().map(text).collect::<Result<_>>()?;
        let whole = good.values().map(|(_, text)| text.clone()).collect();
        Ok(Self { chance: Chance::new()?, stage, whole, good })
    }

    /// Writes a component's known-good manifest with one more flag.
    fn change(&mut self, component: Component, flag: &str) -> Result<String> {
        let command = format!("- {component}\n");
        let text = self.good[&component].1.replacen(&command, &format!("{command}    - {flag}\n"), 1);
        self.whole.insert(text.clone());
        self.stage.node.write_manifest(&component.file(), &text, Writing::Atomic)?;
        Ok(text)
    }

    /// Lets some time pass, at most so long.
    async fn some_time(&mut self, most: Duration) {
        sleep(self.chance.below(most)).await;
    }

    /// Cuts the power, looks at what lies there, and boots. Says where the cut fell.
    async fn cut(&mut self, what: &str, watched: Component) -> Result<()> {
        self.stage.node.power_off();
        let fell = self.on_disk().with_context(|| format!("{what}: what lies on disk"))?;
        println!("{what}: cut at {}", fell.get(watched.name()).map_or("nothing known", String::as_str));
        self.stage.node.power_on().await
    }

    /// Nothing is partial, and nothing known-good is gone. Returns where each component stood, by name.
    fn on_disk(&self) -> Result<BTreeMap<String, String>> {
        let node = &self.stage.node;
        let staged = node.path("/etc/kubernetes/.lastgood/slots");
        for component in Component::ALL {
            let file = component.file();
            let text = match fs::read_to_string(node.manifest_path(&file)) {
                // Its slot is empty for a moment: what fills it lies beside it (Q11).
                Err(_) => fs::read_to_string(staged.join(&file)).with_context(|| format!("{file}: nowhere"))?,
                Ok(text) => text,
            };
            ensure!(self.whole.contains(&text), "{file} is partial: {text:?}");
        }
        let memory = node.path(STATE).join("memory.json");
        let mut fell = BTreeMap::new();
        // Before the first pass there is none.
        if memory.exists() {
            let value: Value = serde_json::from_slice(&fs::read(&memory)?).context("memory.json is partial")?;
            let records = find(&value, "components").and_then(|all| all["components"].as_object().cloned());
            for (id, record) in records.context("a memory without components")? {
                let name = id.rsplit('/').next().unwrap_or(&id).to_owned();
                let state = &record["state"];
                let stage = state["stage"]["stage"].as_str().map(|stage| format!(", {stage}")).unwrap_or_default();
                let stopped = if value.to_string().contains("\"for_component\"") { ", API server stopped" } else { "" };
                fell.insert(name, format!("{}{stage}{stopped}", state["state"].as_str().unwrap_or("?")));
            }
        }
        Ok(fell)
    }

    /// Everything serves again, with no help from anybody, and is as it was.
    async fn whole_again(&self) -> Result<()> {
        let stage = &self.stage;
        for (component, (number, text)) in &self.good {
            stage.back(*component, text).await?;
            stage.node.await_serving(*component, SOON).await.with_context(|| stage.story())?;
            stage.steady_on(*component, *number).await?;
            let kept = format!("generations/kube-system_{component}/{number}/manifest");
            let kept = fs::read_to_string(stage.node.path(STATE).join(&kept)).with_context(|| kept.clone())?;
            ensure!(kept == *text, "{component}: the known-good generation is kept as {kept:?}");
        }
        let data = stage.node.get_data("/lab/kept").await?;
        ensure!(data.as_deref() == Some("written before"), "the data is {data:?}");
        let names: Vec<String> = self.good.keys().map(|component| component.file()).collect();
        let found = stage.names()?;
        ensure!(found.iter().all(|name| names.contains(name)), "left in the manifest directory: {found:?}");
        for left in ["/etc/kubernetes/.lastgood/slots", "/etc/kubernetes/.lastgood/tmp", "/var/lib/lastgood/tmp"] {
            let left = entries(&stage.node.path(left));
            ensure!(left.is_empty(), "left over: {left:?}\n{}", stage.story());
        }
        let aside = entries(&stage.node.path(STATE).join("aside"));
        ensure!(aside.is_empty(), "something was damaged: {aside:?}\n{}", stage.story());
        Ok(())
    }

    /// How many lines about a component said something.
    fn told(&self, component: Component, words: &str) -> usize {
        let about = format!("{component}: ");
        let story = self.stage.story();
        story.lines().filter(|line| line.contains(&about) && line.contains(words)).count()
    }

    /// The node has nobody to turn to but itself.
    async fn alone(&self) -> Result<()> {
        let links = self.stage.node.exec(&["ip", "-o", "link"]).await?.success()?;
        ensure!(links.lines().count() == 1 && links.contains(": lo:"), "it has a network: {links}");
        Ok(())
    }
}

fn entries(dir: &Path) -> Vec<PathBuf> {
    fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// The first object that has such a key, at any depth.
fn find<'a>(value: &'a Value, key: &str) -> Option<&'a Value> {
    match value {
        Value::Object(map) if map.contains_key(key) => Some(value),
        Value::Object(map) => map.values().find_map(|inner| find(inner, key)),
        _ => None,
    }
}

#[tokio::test]
async fn never_1_7_power_cuts_at_random_moments_of_adoption_trial_and_rollback_leave_everything_whole() -> Result<()> {
    let mut cut = Cut::of(Stage::fresh(&config()).await?)?;
    cut.alone().await?;
    for round in 1..cuts() {
        cut.some_time(Duration::from_secs(6)).await;
        cut.cut(&format!("adoption {round}"), Component::Scheduler).await?;
    }
    cut.whole_again().await?;

    let scheduler = Component::Scheduler;
    for round in 1..=cuts() {
        let number = u64::from(round) + 1;
        let text = cut.change(scheduler, &format!("--v={number}"))?;
        cut.some_time(Duration::from_secs(12)).await;
        cut.cut(&format!("trial {round}"), scheduler).await?;
        cut.good.insert(scheduler, (number, text));
        cut.whole_again().await?;
    }
    for round in 1..=cuts() {
        for component in [scheduler, Component::ApiServer] {
            cut.change(component, &format!("--no-such-flag={round}"))?;
            cut.some_time(Duration::from_secs(if component == scheduler { 6 } else { 12 })).await;
            cut.cut(&format!("rollback {round}"), component).await?;
            cut.whole_again().await?;
        }
    }
    ensure!(cut.stage.times_told("-> Held") == 0, "something is held:\n{}", cut.stage.story());
    cut.stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn never_1_7_power_cuts_at_random_moments_of_an_etcd_replacement_leave_everything_whole() -> Result<()> {
    let mut cut = Cut::of(Stage::with(&config()).await?)?;
    cut.alone().await?;
    for round in 1..=cuts() {
        cut.change(Component::Etcd, &format!("--no-such-flag={round}"))?;
        // Only now something is replaced; the API server takes some 3 s to end, and etcd's own moment follows.
        cut.stage.in_state(Component::Etcd, "RollingBack").await?;
        cut.some_time(Duration::from_secs(7)).await;
        cut.cut(&format!("etcd {round}"), Component::Etcd).await?;
        cut.whole_again().await?;
    }
    ensure!(cut.stage.times_told("stopped before etcd") > 0, "kube-apiserver was not stopped:\n{}", cut.stage.story());
    ensure!(cut.stage.times_told("-> Held") == 0, "something is held:\n{}", cut.stage.story());
    cut.stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n3_n4_a_power_cut_before_or_after_a_hung_process_is_restarted_ends_the_matter() -> Result<()> {
    let mut cut = Cut::of(Stage::with(&config()).await?)?;
    for component in [Component::Etcd, Component::ApiServer] {
        for told in ["-> Stalled", "restarting its container"] {
            let words = format!("{component}: {told}");
            // One that was not seen healthy since the boot may still be coming up, for as long as its probes allow.
            cut.stage.until(component, "healthy", |c| c["verdict"] == "healthy").await?;
            let before = cut.told(component, told);
            let line = format!("^{} ", component.name());
            cut.stage.node.exec(&["pkill", "-STOP", "-f", &line]).await?.success()?;
            let began = Instant::now();
            while cut.told(component, told) == before {
                ensure!(began.elapsed() < SOON, "{words}: not told\n{}", cut.stage.story());
                sleep(Duration::from_millis(20)).await;
            }
            cut.some_time(Duration::from_millis(800)).await;
            let restarts = cut.stage.times_told("restarting its container");
            cut.cut(&words, component).await?;
            cut.whole_again().await?;
            let again = cut.stage.times_told("restarting its container") - restarts;
            ensure!(again == 0, "{words}: what the cut had ended was restarted once more:\n{}", cut.stage.story());
        }
    }
    ensure!(cut.stage.times_told("RollingBack") == 0, "nothing was changed:\n{}", cut.stage.story());
    cut.stage.the_same_after_a_restart().await
}
