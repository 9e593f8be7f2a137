//! Random faults, one or two at once, over and over, while an observer checks from outside what must never happen.
//!
//! ```text
//!   seed ─▶ draw ─▶ inflict ─▶ wait ─▶ undo what only an operator can ─▶ settled? ─▶ draw …
//!                                                                          │ Held, Missing, or a next step is shown
//!                                                                          └▶ the operator takes it ─▶ settled?
//! ```
//!
//! Settled means: all four serve, each is steady, and the deployed manifests are ones that were written as good. A node
//! that does not settle, although no next step was shown, fails the run; so does any violation that
//! [`outside::Outside`] sees. The failure contains the story and the seed.
//!
//! | Variable | Means | |---|---| | `LASTGOOD_RANDOM_FAULTS_FOR` | how long new faults are drawn: `10m` (the default),
//! `1h`, `90s` | | `LASTGOOD_RANDOM_FAULTS_SEED` | what they are drawn from, as the failed run printed it: `SEED`, or
//! `SEED/EPISODE` to begin later |
//!
//! An hour of it, with its story printed as it goes:
//!
//! ```text
//! LASTGOOD_RANDOM_FAULTS_FOR=1h cargo nextest run -p lastgood-lab --test agent --no-capture -E 'test(/^random::/)'
//! ```

mod chance;
pub(crate) mod faults;
pub(crate) mod outside;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Node;
use lastgood_lab::node::demo::QUICK;
use serde_json::Value;
use tokio::sync::RwLock;
use tokio::time::sleep;

use crate::stage::{SOON, Stage};
use chance::Chance;
use faults::{Breaker, Disks, Fault};
use lastgood_lab::node::small_disk::SmallDisk;
use outside::{Outside, Worth};

/// Where the agent keeps everything.
const STATE: &str = "/var/lib/lastgood";

/// How long without the variable.
const TEN_MINUTES: Duration = Duration::from_secs(600);

/// After what only a person can undo was undone, how long a node may take to settle without anybody being told anything.
/// Most of it is a candidate's trial that begins anew, and a busy machine.
const ALONE: Duration = Duration::from_secs(150);

/// The same with a person who does what is told.
const WITH_A_PERSON: Duration = Duration::from_secs(300);

/// How long a person leaves what is told for them before they do it.
const A_WHILE: Duration = Duration::from_secs(3);

/// What the agent may do to a component in an hour, by its own defaults.
const ACTIONS: usize = 4;

/// A quota that can be filled in seconds.
const QUOTA: &str = "--quota-backend-bytes=20000000";

/// A node on which everything can be broken, and its agent.
pub(crate) async fn breakable() -> Result<Breaker> {
    let mut node = Node::builder().scale(0.1).start().await?;
    let quota = outside::variant(Component::Etcd, &node.manifest_text(&Component::Etcd.file())?, QUOTA)?;
    node.edit_manifest(&Component::Etcd.file(), |_| quota.clone())?;
    node.up().await?;
    node.put_data("/lab/kept", "written before").await?;
    node.power_off();
    let state = node.path(STATE);
    fs::create_dir_all(&state).with_context(|| state.display().to_string())?;
    let disks = Disks {
        data: SmallDisk::over(&node, "/var/lib/etcd", "400m")?,
        state: SmallDisk::over(&node, STATE, "16m")?,
        manifests: SmallDisk::over(&node, "/etc/kubernetes", "16m")?,
    };
    node.power_on().await?;
    node.up().await?;
    let mut stage = Stage { node };
    let config = QUICK.replace("[rollback]\n", "[rollback]\napiserver-max-downtime = \"20s\"\n");
    stage.node.spawn_agent(&config).await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await.context("it was not adopted")?;
    }
    let originals = Component::ALL.map(|component| Ok((component, stage.manifest(component)?)));
    let originals: Vec<_> = originals.into_iter().collect::<Result<_>>()?;
    let mut kubeconfigs = Vec::new();
    for (component, path) in faults::WITH_KUBECONFIG {
        kubeconfigs.push((component, fs::read_to_string(stage.node.path(path))?));
    }
    let stage = Arc::new(RwLock::new(stage));
    let outside = Outside::begin(&stage).await?;
    Ok(Breaker { stage, outside, disks, originals, kubeconfigs })
}

/// A run under way.
struct Run {
    breaker: Breaker,
    /// Put-ins beyond the budget that have their reasons: a person's rollback, a step that a kill had repeated.
    excused: BTreeMap<Component, usize>,
    /// What was done by persons, by what was told.
    asked: BTreeMap<&'static str, usize>,
}

impl Run {
    /// One episode.
    async fn episode(&mut self, faults: &[Fault], wait: Duration) -> Result<()> {
        let told = self.breaker.stage.read().await.story().len();
        for fault in faults {
            self.breaker.outside.note(&format!("inflict {fault}"));
            match fault {
                Fault::AgentKilled | Fault::AgentRestarted | Fault::PowerCut | Fault::ManifestDiskFull => {
                    Component::ALL.iter().for_each(|component| *self.excused.entry(*component).or_default() += 1);
                }
                Fault::RolledBack(component) => *self.excused.entry(*component).or_default() += 1,
                _ => {}
            }
            if let Err(error) = self.breaker.inflict(*fault).await {
                // A full disk refuses the other fault, too; a pod between two lives cannot be told to crash.
                self.breaker.outside.note(&format!("not inflicted: {fault}: {error:#}"));
                ensure!(faults.len() > 1 || matches!(fault, Fault::RolledBack(_)), "{fault}: {error:#}");
            }
        }
        sleep(wait).await;
        for fault in faults.iter().rev() {
            self.breaker.outside.note(&format!("undo {fault}"));
            self.breaker.cure(*fault).await.with_context(|| format!("undoing {fault}"))?;
        }
        let took = self.settles().await?;
        self.breaker.outside.note(&format!("settled after {:.1} s", took.as_secs_f64()));
        for component in Component::ALL {
            let text = self.breaker.stage.read().await.manifest(component)?;
            self.breaker.outside.is_kept(component, &text);
            if let [Fault::Written(written, _)] = faults
                && *written == component
            {
                // A machine so busy that questions are not answered in time is a fault that nobody drew.
                let busy = self.breaker.stage.read().await.story()[told..].contains(" in time");
                let undone = text == self.breaker.original(component);
                ensure!(!undone || busy, "what a person wrote for {component} was undone");
            }
        }
        if faults == [Fault::Quiet] {
            self.stays_quiet().await?;
        }
        self.within_budget()?;
        self.breaker.outside.nothing_broken()
    }

    /// Waits until the node has settled; does meanwhile what a person is told to do.
    async fn settles(&mut self) -> Result<Duration> {
        let began = Instant::now();
        let (mut told, mut helped) = (BTreeMap::<String, Instant>::new(), BTreeMap::<String, u32>::new());
        loop {
            self.breaker.outside.nothing_broken()?;
            let wanted = match self.look().await {
                Ok(wanted) if wanted.is_empty() => return Ok(began.elapsed()),
                Ok(wanted) => wanted,
                Err(error) => vec![Wanted::Nothing(format!("{error:#}"))],
            };
            for want in &wanted {
                let since = *told.entry(format!("{want:?}")).or_insert_with(Instant::now);
                if since.elapsed() >= A_WHILE && !matches!(want, Wanted::Nothing(_)) {
                    told.remove(&format!("{want:?}"));
                    let times = helped.entry(format!("{want:?}")).or_insert(0);
                    *times += 1;
                    let again = *times > 1;
                    self.help(want, again).await?;
                }
            }
            let limit = if helped.is_empty() { ALONE } else { WITH_A_PERSON };
            ensure!(began.elapsed() < limit, "not settled after {limit:?}, persons helped: {helped:?}: {wanted:?}");
            sleep(Duration::from_millis(400)).await;
        }
    }

    /// What is not as it should be, and what a person is told to do about it.
    async fn look(&self) -> Result<Vec<Wanted>> {
        let stage = self.breaker.stage.read().await;
        let status = stage.status().await?;
        let mut wanted = Vec::new();
        let told = |words: &str| status["notices"].to_string().contains(words);
        if told("restart kubelet` does it") {
            wanted.push(Wanted::KubeletRestart);
        }
        if told("restart containerd` does it") {
            wanted.push(Wanted::RuntimeRestart);
        }
        let names = stage.names()?;
        if names.len() > Component::ALL.len() {
            wanted.push(Wanted::Nothing(format!("what lies in the manifest directory: {names:?}")));
        }
        for component in Component::ALL {
            let found = status["components"].as_array().into_iter().flatten();
            let name = |c: &&Value| c["component"] == component.name() || c["name"] == component.name();
            let found = found.clone().find(name).with_context(|| format!("no {component} in the status"))?;
            let state = found["state"].as_str().unwrap_or_default();
            let text = stage.manifest(component).unwrap_or_default();
            // An agent that starts tells what the one before it knew until its first pass: it has to mean what stands.
            let means = found["generation"].as_u64().map(|number| {
                let kept = format!("{STATE}/generations/kube-system_{component}/{number}/manifest");
                fs::read_to_string(stage.node.path(kept)).is_ok_and(|kept| kept == text)
            });
            let well = state == "Steady"
                && means == Some(true)
                && stage.node.serving(component).await.is_ok()
                && self.breaker.outside.is_good(component, &text);
            if well {
                continue;
            }
            wanted.push(match state {
                "Held" => {
                    let held = &found["held"];
                    let useful = |key: &str| held[key].as_str().is_some_and(|text| text.len() > 10);
                    ensure!(useful("why") && useful("next_step"), "Held without a word for a person: {found}");
                    Wanted::Resume(component)
                }
                "Missing" if found["next"].to_string().contains("lastgood rollback") => Wanted::BringBack(component),
                "Unread" => Wanted::Kubeconfig(component),
                _ => Wanted::Nothing(format!("{component} is {state} ({}): {}", found["verdict"], found["next"])),
            });
        }
        Ok(wanted)
    }

    /// A person does what is told.
    async fn help(&mut self, want: &Wanted, again: bool) -> Result<()> {
        self.breaker.outside.note(&format!("a person: {want:?}"));
        *self.asked.entry(want.word()).or_default() += 1;
        let outside = &self.breaker.outside;
        match want {
            Wanted::Resume(component) => {
                // Held once more: what stands is no good.
                if again {
                    outside.places(*component, self.breaker.original(*component), Worth::Good)?;
                }
                self.excused.remove(component);
                self.breaker.resume(Some(*component)).await?;
                if matches!(component, Component::ControllerManager | Component::Scheduler) {
                    self.mend_kubeconfig(*component).await?;
                }
                Ok(())
            }
            Wanted::BringBack(component) => {
                *self.excused.entry(*component).or_default() += 1;
                let said =
                    self.breaker.stage.read().await.node.lastgood(&["rollback", component.name(), "--yes"]).await;
                outside.note(&format!("rollback: {said:?}"));
                Ok(())
            }
            Wanted::Kubeconfig(component) => self.mend_kubeconfig(*component).await,
            Wanted::KubeletRestart => self.breaker.stage.read().await.node.kubelet().restart().await,
            Wanted::RuntimeRestart => self.breaker.stage.read().await.node.containerd().restart().await,
            Wanted::Nothing(_) => Ok(()),
        }
    }

    async fn mend_kubeconfig(&self, component: Component) -> Result<()> {
        let path = self.breaker.kubeconfig(component).await?;
        let text = self.breaker.kubeconfigs.iter().find(|(of, _)| *of == component);
        let (_, text) = text.context("it has no kubeconfig")?;
        if fs::read_to_string(&path).ok().as_ref() != Some(text) {
            fs::write(&path, text)?;
        }
        Ok(())
    }

    /// Counted from outside: no component was acted upon more often than the limit allows.
    fn within_budget(&self) -> Result<()> {
        for component in Component::ALL {
            let deeds = self.breaker.outside.deeds(component);
            let mut most = ACTIONS + self.excused.get(&component).copied().unwrap_or(0);
            if component == Component::ApiServer {
                // Each time etcd is replaced, it makes way and comes back.
                most += self.breaker.outside.deeds(Component::Etcd).arrivals_lately() + ACTIONS;
            }
            let (arrivals, stops) = (deeds.arrivals_lately(), deeds.stops.len());
            ensure!(arrivals <= most, "{component}: {arrivals} files of ours within the hour, {most} are the most");
            ensure!(stops <= 2 * most, "{component}: {stops} containers stopped, {} are the most", 2 * most);
        }
        Ok(())
    }

    /// Nothing changes, and nothing is said or done.
    async fn stays_quiet(&self) -> Result<()> {
        let deeds = || Component::ALL.map(|component| self.breaker.outside.deeds(component));
        let stage = self.breaker.stage.read().await;
        let (names, before, done) = (stage.names()?, stage.story().len(), deeds());
        drop(stage);
        sleep(Duration::from_secs(8)).await;
        let stage = self.breaker.stage.read().await;
        ensure!(deeds() == done, "something was done although nothing changed");
        let story = stage.story();
        // A snapshot that was due, and what became of its bundle, is no fault's doing. On a busy machine a lease is lost
        // now and then, or a question is not answered in time: that is news.
        let mut told = story[before..].lines().filter(|line| !line.contains("snapshot"));
        let silent = told.next().is_none() || story[before..].contains(" -> ");
        ensure!(silent, "said although nothing changed:\n{}", &story[before..]);
        ensure!(stage.names()? == names, "the manifest directory changed: {:?}", stage.names()?);
        Ok(())
    }
}

/// What a person is told to do.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wanted {
    Resume(Component),
    BringBack(Component),
    Kubeconfig(Component),
    KubeletRestart,
    RuntimeRestart,
    /// Nothing: it is waited for.
    Nothing(String),
}

impl Wanted {
    fn word(&self) -> &'static str {
        match self {
            Self::Resume(_) => "resumed what was held",
            Self::BringBack(_) => "brought back what was missing",
            Self::Kubeconfig(_) => "mended a kubeconfig that nothing had read yet",
            Self::KubeletRestart => "restarted the kubelet",
            Self::RuntimeRestart => "restarted the container runtime",
            Self::Nothing(_) => "nothing",
        }
    }
}

/// `10m`, `1h`, `90s`, or seconds.
fn duration(text: &str) -> Result<Duration> {
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit {
        "s" | "" => 1,
        "m" => 60,
        "h" => 3600,
        _ => bail!("LASTGOOD_RANDOM_FAULTS_FOR={text}: give 90s, 10m or 1h"),
    };
    Ok(Duration::from_secs(number.parse::<u64>().with_context(|| text.to_owned())? * seconds))
}

/// The seed, and the first episode.
fn seed() -> Result<(u64, u64)> {
    let Ok(text) = std::env::var("LASTGOOD_RANDOM_FAULTS_SEED") else {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?;
        return Ok((now.as_secs() % 1_000_000 * 1000 + u64::from(now.subsec_millis()), 0));
    };
    let (seed, from) = text.split_once('/').unwrap_or((&text, "0"));
    Ok((seed.parse().with_context(|| text.clone())?, from.parse().with_context(|| text.clone())?))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn random_faults_never_break_what_must_hold() -> Result<()> {
    let length = std::env::var("LASTGOOD_RANDOM_FAULTS_FOR").map_or(Ok(TEN_MINUTES), |text| duration(&text))?;
    let (seed, first) = seed()?;
    println!("seed {seed}, for {length:?}");
    let mut run = Run { breaker: breakable().await?, excused: BTreeMap::new(), asked: BTreeMap::new() };
    let (began, mut episode) = (Instant::now(), first);
    while began.elapsed() < length {
        let (faults, wait) = Fault::draw_some(&mut Chance::of(seed, episode));
        println!("{:7.1} s  episode {episode}: {faults:?}, {wait:?}", began.elapsed().as_secs_f64());
        run.breaker.outside.note(&format!("episode {episode}: {faults:?}, {wait:?}"));
        if let Err(error) = run.episode(&faults, wait).await {
            let stage = run.breaker.stage.read().await;
            let (seen, story) = (run.breaker.outside.seen(), stage.story());
            let status = stage.node.lastgood(&["explain"]).await.map(|said| said.stdout).unwrap_or_default();
            let lately = |text: &str, lines: usize| {
                let all: Vec<&str> = text.lines().collect();
                all[all.len().saturating_sub(lines)..].join("\n")
            };
            bail!(
                "{error:#}\nin episode {episode} of LASTGOOD_RANDOM_FAULTS_SEED={seed}: {faults:?}, {wait:?}\n\n\
                 --- what was done and seen:\n{}\n\n--- the agent:\n{}\n\n--- explain:\n{status}",
                lately(&seen, 80),
                lately(&story, 120)
            );
        }
        episode += 1;
    }
    let Run { breaker, asked, .. } = run;
    let Breaker { stage, outside, disks, .. } = breaker;
    outside.nothing_broken()?;
    let acknowledged = outside.end(&stage).await?;
    println!("{} episodes, {acknowledged} writes acknowledged and kept; persons: {asked:?}", episode - first);
    let stage = Arc::into_inner(stage).context("somebody still looks")?.into_inner();
    for component in Component::ALL {
        stage.node.await_serving(component, SOON).await?;
    }
    let ended = stage.the_same_after_a_restart().await;
    drop(disks);
    ended
}

#[test]
fn the_seed_alone_says_what_is_broken() {
    let all = |seed| (0..200).map(|episode| Fault::draw_some(&mut Chance::of(seed, episode))).collect::<Vec<_>>();
    assert_eq!(all(5), all(5));
    assert_ne!(all(5), all(6));
    let drawn = all(5);
    let two = drawn.iter().filter(|(faults, _)| faults.len() == 2).count();
    assert!((20..120).contains(&two), "two at once in {two} of 200");
    assert_eq!(duration("10m").expect("a duration"), TEN_MINUTES);
    assert!(duration("10 weeks").is_err());
}
