//! The agent itself: killed at any step, its state damaged, its disk full, its runtime gone, its questions refused.
//!
//! The sweeps kill it at the N-th call of one system call while it undoes a change, and let it start again:
//!
//! ```text
//!   break ─▶ undoing … rename, fsync, link … SIGKILL ─▶ start ─▶ steady, serving, nothing partial ─▶ N + 1
//! ```
//! In the suite they take some of the points; `LASTGOOD_EVERY_POINT=1` takes all.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::Writing;
use lastgood_lab::node::containers::Life;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::journal::From;
use lastgood_lab::node::small_disk::SmallDisk;
use lastgood_lab::node::spec::{Request, Restart, Service, State};
use lastgood_lab::node::supervisor;
use nix::mount::MsFlags;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::stage::{SOON, Stage, every_point, rounds};

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(20);

/// Where the agent keeps everything.
const STATE: &str = "/var/lib/lastgood";

/// The demonstration's configuration, for a test that breaks one component many times. A longer debounce has the broken pod
/// seen as not serving before anything is decided: such a one is replaced in two steps.
fn patient(debounce: &str) -> String {
    let config = QUICK.replace("debounce = \"300ms\"", &format!("debounce = \"{debounce}\""));
    let config = config.replace("[candidate]\n", "[candidate]\nmax-rewrites = 1000000\n");
    format!("{config}[limits]\nactions-per-hour = 1000000\n")
}

/// Which containers of etcd and kube-apiserver run. The two that hold leases may lose them on a busy machine.
async fn running(stage: &Stage) -> Result<BTreeMap<String, Vec<String>>> {
    let mut all = BTreeMap::new();
    for component in [Component::Etcd, Component::ApiServer] {
        let found = stage.node.containers(component).await?;
        let ids = found.into_iter().filter(|c| c.state == Life::Running).map(|c| c.id).collect();
        all.insert(component.to_string(), ids);
    }
    Ok(all)
}

fn manifests(stage: &Stage) -> Result<Vec<String>> {
    Component::ALL.iter().map(|component| stage.manifest(*component)).collect()
}

/// Waits until something holds.
async fn until(stage: &Stage, what: &str, holds: impl Fn() -> bool) -> Result<()> {
    let began = Instant::now();
    while !holds() {
        ensure!(began.elapsed() < SOON, "not within {SOON:?}: {what}\n{}", stage.story());
        sleep(LOOK).await;
    }
    Ok(())
}

/// Looks at the manifests all the time: whatever it reads must be one of the texts that were ever written as a whole.
struct Watch {
    over: Arc<AtomicBool>,
    strange: Arc<Mutex<Vec<String>>>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Watch {
    pub(crate) fn over(stage: &Stage, allowed: &[&str]) -> Self {
        let paths: Vec<PathBuf> =
            Component::ALL.iter().map(|c| stage.node.path("/etc/kubernetes/manifests").join(c.file())).collect();
        let mut whole: BTreeSet<String> = allowed.iter().map(|text| (*text).to_owned()).collect();
        whole.extend(manifests(stage).unwrap_or_default());
        let (over, strange) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let (ended, found) = (Arc::clone(&over), Arc::clone(&strange));
        let thread = std::thread::spawn(move || {
            let mut looks = 0;
            while !ended.load(Ordering::Relaxed) {
                for path in &paths {
                    // A missing file is a slot between two steps; an unreadable one would be strange.
                    match fs::read_to_string(path) {
                        Ok(text) if whole.contains(&text) => {}
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                        other => {
                            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                            found.push(format!("{}: {other:?}", path.display()));
                        }
                    }
                }
                looks += 1;
                std::thread::sleep(Duration::from_millis(2));
            }
            looks
        });
        Self { over, strange, thread: Some(thread) }
    }

    /// How often it looked; an error if it ever saw something strange.
    fn end(mut self) -> Result<u64> {
        self.over.store(true, Ordering::Relaxed);
        let looks = self.thread.take().and_then(|thread| thread.join().ok()).context("the watch is gone")?;
        let strange = self.strange.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(strange.is_empty(), "partial manifests: {strange:?}");
        Ok(looks)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// Whether the agent survived a breakage.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Killed,
    Survived,
}

/// strace on the agent that kills it at the N-th such call.
async fn assassin(stage: &Stage, call: &str, nth: u32) -> Result<Child> {
    let pid = stage.node.agent().pid().await?.to_string();
    let mut strace = Command::new("strace")
        .args(["-f", "-o", "/dev/null", "-p", &pid, "-e", &format!("trace={call}")])
        .args(["-e", &format!("inject={call}:signal=KILL:when={nth}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("cannot run strace (package strace)")?;
    let mut lines = BufReader::new(strace.stderr.take().context("no stderr")?).lines();
    let attached = timeout(Duration::from_secs(10), lines.next_line()).await.context("strace does not attach")??;
    ensure!(attached.as_deref().is_some_and(|line| line.contains("attached")), "strace: {attached:?}");
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    Ok(strace)
}

/// Breaks one component over and over, and has the agent killed at every call of its undoing.
struct Sweep<'a> {
    stage: &'a Stage,
    component: Component,
    good: &'a str,
    broken: &'a str,
    /// In the suite, only every so many points.
    stride: u32,
}

impl Sweep<'_> {
    /// Sweeps; returns the number of points at which it was killed.
    async fn all(&self) -> Result<u32> {
        let stride = rounds(self.stride, 1);
        let mut points = 0;
        let mut said = Vec::new();
        // The last one is never made so far, and costs a whole replacement to find that out.
        let calls = ["rename", "renameat2", "fsync", "linkat", "link"];
        for call in if every_point() { &calls[..] } else { &calls[..4] } {
            let mut nth = 1 + stride / 2;
            let mut killed = 0;
            loop {
                if self.one(call, nth).await.with_context(|| format!("killed at {call} number {nth}"))?
                    == Fate::Survived
                {
                    break;
                }
                killed += 1;
                nth += stride;
            }
            said.push(format!("{call} {killed}"));
            points += killed;
        }
        println!("{}: killed at {points} points ({}), every {stride}. of each call", self.component, said.join(", "));
        Ok(points)
    }

    async fn one(&self, call: &str, nth: u32) -> Result<Fate> {
        let stage = self.stage;
        let before = stage.story().len();
        let mut strace = assassin(stage, call, nth).await?;
        stage.node.write_manifest(&self.component.file(), self.broken, Writing::Atomic)?;
        let began = Instant::now();
        let fate = loop {
            if matches!(stage.node.agent().state().await?, State::Exited { .. } | State::Stopped) {
                break Fate::Killed;
            }
            let story = stage.story();
            if story[before..].contains("serves again") {
                break Fate::Survived;
            }
            ensure!(began.elapsed() < SOON, "neither killed nor done:\n{}", &story[before..]);
            sleep(LOOK).await;
        };
        // Ended by SIGTERM it lets go of what it traces.
        if let Some(pid) = strace.id() {
            let _ = kill(Pid::from_raw(i32::try_from(pid)?), Signal::SIGTERM);
        }
        let _ = timeout(Duration::from_secs(10), strace.wait()).await;
        stage.node.agent().start().await?;
        stage.back(self.component, self.good).await?;
        self.settled().await?;
        Ok(fate)
    }

    async fn settled(&self) -> Result<()> {
        self.stage.all_serve().await?;
        for component in Component::ALL {
            self.stage.steady_on(component, 1).await?;
        }
        Ok(())
    }
}

/// Has generation 2 of a component quarantined: written again, it is undone at once. Returns good and bad.
async fn quarantined(stage: &Stage, component: Component) -> Result<(String, String)> {
    let good = stage.manifest(component)?;
    let bad = stage.add_flag(component, "--no-such-flag=1")?;
    stage.told("generation 2 is quarantined").await?;
    stage.back(component, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(component, 1).await?;
    Ok((good, bad))
}

#[tokio::test]
async fn t33_killed_at_any_call_of_a_replacement_in_place_it_finishes_it() -> Result<()> {
    let stage = Stage::with(&patient("300ms")).await?;
    let good = stage.manifest(Component::Scheduler)?;
    // No YAML parser finds a document in it, so it is put right at once, in place (Q16).
    let broken = "{ this is no manifest\n";
    let watch = Watch::over(&stage, &[broken]);
    let sweep = Sweep { stage: &stage, component: Component::Scheduler, good: &good, broken, stride: 3 };
    ensure!(sweep.all().await? >= 4, "too few points to mean anything");
    watch.end()?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn t33_killed_at_any_call_of_a_replacement_in_two_steps_it_finishes_it() -> Result<()> {
    let stage = Stage::with(&patient("1500ms")).await?;
    let (good, bad) = quarantined(&stage, Component::Scheduler).await?;
    let watch = Watch::over(&stage, &[&bad]);
    let sweep = Sweep { stage: &stage, component: Component::Scheduler, good: &good, broken: &bad, stride: 8 };
    ensure!(sweep.all().await? >= 3, "too few points to mean anything");
    watch.end()?;
    ensure!(stage.story().contains("took kube-scheduler.yaml out"), "not in two steps:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn t33_killed_at_any_call_of_an_etcd_replacement_with_the_api_server_stopped_it_finishes_it() -> Result<()> {
    let stage = Stage::with(&patient("1500ms")).await?;
    let (good, bad) = quarantined(&stage, Component::Etcd).await?;
    let watch = Watch::over(&stage, &[&bad]);
    let sweep = Sweep { stage: &stage, component: Component::Etcd, good: &good, broken: &bad, stride: 14 };
    ensure!(sweep.all().await? >= 2, "too few points to mean anything");
    watch.end()?;
    ensure!(stage.story().contains("stopped before etcd"), "kube-apiserver was not stopped:\n{}", stage.story());
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn t33_killed_at_random_moments_of_a_rollback_it_finishes_it() -> Result<()> {
    let stage = Stage::with(&patient("800ms")).await?;
    let (good, bad) = quarantined(&stage, Component::Scheduler).await?;
    let watch = Watch::over(&stage, &[&bad]);
    for round in 0..rounds(5, 10) {
        stage.node.write_manifest(&Component::Scheduler.file(), &bad, Writing::Atomic)?;
        let chance = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH)?.subsec_micros() % 400;
        sleep(Duration::from_millis(u64::from(700 + round * rounds(500, 250) + chance))).await;
        stage.node.agent().kill().await?;
        stage.node.agent().start().await?;
        stage.back(Component::Scheduler, &good).await.with_context(|| format!("round {round}"))?;
        stage.node.await_serving(Component::Scheduler, SOON).await.with_context(|| stage.story())?;
        stage.steady_on(Component::Scheduler, 1).await?;
    }
    watch.end()?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q11_an_emptied_slot_is_filled_by_fill_slots_with_the_agent_dead_and_no_memory() -> Result<()> {
    let config = patient("1500ms").replace("settle = \"1s\"", "settle = \"20s\"");
    let stage = Stage::with(&config).await?;
    // SIGTERM as well as SIGKILL in the middle of a two-step replacement.
    let good = stage.manifest(Component::Scheduler)?;
    let emptied = || stage.manifest(Component::Scheduler).is_err();
    stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    until(&stage, "the slot is emptied", emptied).await?;
    let began = Instant::now();
    stage.node.agent().stop().await?;
    ensure!(began.elapsed() < Duration::from_secs(10), "a stop took {:?}", began.elapsed());
    let said = stage.node.lastgood(&["fill-slots"]).await?.success()?;
    ensure!(stage.manifest(Component::Scheduler)? == good, "the slot was not filled: {said}");
    stage.node.agent().start().await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;

    let bad = good.replacen("- kube-scheduler\n", "- kube-scheduler\n    - --no-such-flag=1\n", 1);
    stage.node.write_manifest(&Component::Scheduler.file(), &bad, Writing::Atomic)?;
    until(&stage, "the slot is emptied again", emptied).await?;
    stage.node.agent().kill().await?;
    fs::remove_dir_all(stage.node.path(STATE))?;
    let said = stage.node.lastgood(&["fill-slots"]).await?.success()?;
    ensure!(stage.manifest(Component::Scheduler)? == good, "the slot was not filled without a memory: {said}");
    stage.node.agent().start().await?;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    stage.the_same_after_a_restart().await
}

/// A damage to what the agent keeps.
type Damage = (&'static str, fn(&Path) -> Result<()>);

fn bytes(state: &Path, change: impl Fn(&mut Vec<u8>)) -> Result<()> {
    let path = state.join("memory.json");
    let mut text = fs::read(&path).with_context(|| path.display().to_string())?;
    change(&mut text);
    fs::write(&path, text)?;
    Ok(())
}

fn json(state: &Path, change: impl Fn(&mut serde_json::Value)) -> Result<()> {
    bytes(state, |text| {
        if let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(text) {
            change(&mut value);
            *text = serde_json::to_vec(&value).unwrap_or_default();
        }
    })
}

/// Every file of that name below a directory.
fn named(dir: &Path, name: &str, found: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| dir.display().to_string())? {
        let path = entry?.path();
        if path.is_dir() {
            named(&path, name, found)?;
        } else if path.file_name().is_some_and(|n| n == name) {
            found.push(path);
        }
    }
    Ok(())
}

fn every_manifest(state: &Path, change: impl Fn(&Path) -> Result<()>) -> Result<()> {
    let mut found = Vec::new();
    named(&state.join("generations"), "manifest", &mut found)?;
    ensure!(found.len() >= 4, "only {found:?} are kept");
    found.iter().try_for_each(|path| change(path))
}

const DAMAGES: [Damage; 11] = [
    ("the memory torn in the middle", |state| bytes(state, |text| text.truncate(text.len() / 2))),
    ("the memory truncated to nothing", |state| bytes(state, Vec::clear)),
    ("one bit of the memory flipped", |state| {
        bytes(state, |text| {
            let middle = text.len() / 2;
            text[middle] ^= 4;
        })
    }),
    ("a memory with an unknown field", |state| json(state, |value| value["surprise"] = true.into())),
    ("a directory in the memory's place", |state| {
        fs::remove_file(state.join("memory.json"))?;
        Ok(fs::create_dir(state.join("memory.json"))?)
    }),
    ("both memories torn", |state| {
        bytes(state, |text| text.truncate(100))?;
        Ok(fs::write(state.join("memory.json.old"), "{")?)
    }),
    ("a torn history, and a directory in its predecessor's place", |state| {
        fs::write(state.join("history.jsonl"), "{\"torn")?;
        let _ = fs::remove_file(state.join("history.jsonl.old"));
        Ok(fs::create_dir_all(state.join("history.jsonl.old"))?)
    }),
    ("damaged generations", |state| every_manifest(state, |path| Ok(fs::write(path, "damaged")?))),
    ("published.json as a directory", |state| {
        let _ = fs::remove_file(state.join("published.json"));
        Ok(fs::create_dir_all(state.join("published.json"))?)
    }),
    // It is kept, and nothing is done while it is there: what follows removes it.
    ("a memory of a future version", |state| json(state, |value| value["version"] = 999.into())),
    ("everything deleted", |state| {
        for entry in fs::read_dir(state)? {
            let path = entry?.path();
            if path.is_dir() { fs::remove_dir_all(path)? } else { fs::remove_file(path)? }
        }
        Ok(())
    }),
];

#[tokio::test]
async fn whatever_it_finds_in_its_state_it_starts_says_so_and_does_no_harm() -> Result<()> {
    let stage = Stage::with(&patient("300ms")).await?;
    let (standing, containers) = (manifests(&stage)?, running(&stage).await?);
    for (what, damage) in DAMAGES {
        stage.node.agent().kill().await?;
        damage(&stage.node.path(STATE)).context(what)?;
        let before = stage.story().len();
        stage.node.agent().start().await?;
        // Until it runs, the status is what the disk says.
        until(&stage, "its first pass", || stage.story()[before..].contains("started, version")).await?;
        for component in Component::ALL {
            let steady = |c: &serde_json::Value| c["state"].as_str().is_some_and(|s| s.eq_ignore_ascii_case("steady"));
            stage.until(component, &format!("steady again after {what}"), steady).await?;
        }
        let story = stage.story();
        let said: Vec<&str> = story[before..].lines().collect();
        println!("--- {what}\n{}", said.join("\n"));
        let named = said.iter().any(|line| line.contains(STATE) && !line.contains("started, version"));
        // Nothing left is nothing found: adopting anew says so by itself. A torn line of the history is cut off by the
        // next; what was published is asked when something is published.
        let by_itself = what.contains("history")
            || what.contains("published")
            || said.iter().any(|line| line.contains("is known-good"));
        ensure!(named || by_itself, "{what} was not told: {said:#?}");
        stage.node.lastgood(&["history"]).await?.success().context(what)?;
        ensure!(manifests(&stage)? == standing, "{what}: a manifest was touched");
        ensure!(running(&stage).await? == containers, "{what}: a container was touched");
    }
    let aside = fs::read_dir(stage.node.path(STATE).join("aside")).map(Iterator::count).unwrap_or_default();
    println!("{aside} set aside since everything was deleted");
    // And it still works.
    let good = stage.manifest(Component::Scheduler)?;
    stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.told("is quarantined").await?;
    stage.back(Component::Scheduler, &good).await?;
    stage.the_same_after_a_restart().await
}

/// Powers the node off, lays a small file system over a directory, and boots it again.
pub(crate) async fn on_a_small_disk(stage: &mut Stage, inside: &str, size: &str) -> Result<SmallDisk> {
    stage.node.agent().stop().await?;
    stage.node.power_off();
    let small = SmallDisk::over(&stage.node, inside, size)?;
    stage.node.power_on().await?;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.steady_on(component, 1).await?;
    }
    Ok(small)
}

#[tokio::test]
async fn n9_with_its_state_directory_full_it_says_so_and_acts_when_there_is_room_again() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let small = on_a_small_disk(&mut stage, STATE, "3m").await?;
    let good = stage.manifest(Component::Scheduler)?;
    small.fill()?;
    let bad = stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.told("the memory cannot be saved, so lastgood starts no action that it might leave half done").await?;
    stage.told("No space left").await?;
    stage.told("Probation(generation 2) -> RollingBack").await?;
    let standing = stage.manifest(Component::Scheduler)?;
    ensure!(standing == bad || standing == good, "partial: {standing}");
    // Said, and not said again at every pass.
    sleep(Duration::from_secs(5)).await;
    let said = stage.story().matches("the memory cannot be saved").count();
    ensure!(said <= 3, "said {said} times:\n{}", stage.story());
    // An agent that starts on the full disk says so as well, and loses nothing.
    stage.node.agent().restart().await?;
    stage.in_state(Component::Etcd, "Steady").await?;
    small.free()?;
    stage.back(Component::Scheduler, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    let ended = stage.the_same_after_a_restart().await;
    drop(small);
    ended
}

#[tokio::test]
async fn n9_a_promotion_onto_a_full_disk_is_retried_and_succeeds_when_there_is_room_again() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    let small = on_a_small_disk(&mut stage, "/etc/kubernetes", "2m").await?;
    let good = stage.manifest(Component::Scheduler)?;
    let bad = stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    // Only now: the agent holds the replaced file open until it has seen the new one, and with it a page.
    stage.told("generation 2 is on probation").await?;
    small.fill()?;
    stage.told("is quarantined").await?;
    stage.told("No space left").await?;
    // Nothing is lost: the file that stands is whole, or its slot is empty and what fills it lies in staging.
    match stage.manifest(Component::Scheduler) {
        Ok(text) => ensure!(text == bad || text == good, "partial: {text:?}"),
        Err(_) => bail!("the slot was emptied although nothing could be staged for it"),
    }
    small.free()?;
    stage.back(Component::Scheduler, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;

    // A read-only /etc: it observes, and says so.
    small.access(MsFlags::MS_RDONLY)?;
    stage.told("the manifest directory cannot be written").await?;
    let status = stage.status().await?;
    ensure!(status["holds"].as_array().is_some_and(|holds| !holds.is_empty()), "{status}");
    small.access(MsFlags::empty())?;
    stage.told("acting again").await?;
    let ended = stage.the_same_after_a_restart().await;
    drop(small);
    ended
}

#[tokio::test]
async fn a_staging_directory_on_another_disk_is_said_and_nothing_is_lost() -> Result<()> {
    let mut stage = Stage::adopted().await?;
    fs::create_dir_all(stage.node.path("/etc/kubernetes/.lastgood"))?;
    let small = on_a_small_disk(&mut stage, "/etc/kubernetes/.lastgood", "1m").await?;
    let good = stage.manifest(Component::Scheduler)?;
    let bad = stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.told("is quarantined").await?;
    stage.told("could not").await?;
    ensure!(stage.manifest(Component::Scheduler)? == bad, "it was touched");
    stage.node.power_off();
    drop(small);
    stage.node.power_on().await?;
    stage.back(Component::Scheduler, &good).await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn q14_time_in_which_it_was_stopped_proves_nothing_and_a_second_agent_is_refused() -> Result<()> {
    let stage = Stage::with(&QUICK.replace("[loop]\n", "[loop]\nlongest-gap = \"2s\"\n")).await?;
    let second = stage.node.lastgood(&["run"]).await?;
    ensure!(second.code != 0 && second.stderr.contains("another lastgood"), "{second:?}");
    stage.steady_on(Component::Etcd, 1).await?;

    stage.add_flag(Component::Scheduler, "--v=3")?;
    let healthy = |c: &serde_json::Value| c["trial"]["healthy_seconds"].as_u64();
    let found = stage.until(Component::Scheduler, "on trial", |c| healthy(c) >= Some(1)).await?;
    let before = healthy(&found).context("no trial")?;
    stage.node.agent().signal(Signal::SIGSTOP).await?;
    // Longer than the longest gap, and than what is left of the soak.
    sleep(Duration::from_secs(12)).await;
    stage.node.agent().signal(Signal::SIGCONT).await?;
    let found = stage.component(Component::Scheduler).await?;
    let after = healthy(&found).with_context(|| format!("the stopped time proved it: {found}"))?;
    ensure!(after <= before + 3, "{before} s of health before, {after} s after 12 s that nobody watched");
    stage.steady_on(Component::Scheduler, 2).await?;

    // What went while it was stopped stays away.
    stage.node.agent().signal(Signal::SIGSTOP).await?;
    let file = stage.manifest(Component::Scheduler)?;
    stage.node.remove_manifest(&Component::Scheduler.file())?;
    sleep(Duration::from_secs(4)).await;
    stage.node.agent().signal(Signal::SIGCONT).await?;
    stage.in_state(Component::Scheduler, "Missing").await?;
    stage.told("was removed while lastgood did not run").await?;
    stage.node.write_manifest(&Component::Scheduler.file(), &file, Writing::Atomic)?;
    stage.steady_on(Component::Scheduler, 2).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n5_without_the_runtime_everything_is_unknown_and_nothing_is_moved() -> Result<()> {
    let stage = Stage::adopted().await?;
    let good = manifests(&stage)?;
    stage.node.containerd().stop().await?;
    let unknown = |c: &serde_json::Value| c["verdict"].to_string().to_lowercase().contains("unknown");
    for component in Component::ALL {
        stage.until(component, "unknown", unknown).await?;
    }
    let bad = stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    stage.in_state(Component::Scheduler, "Probation").await?;
    // Longer than any of its deadlines for one that serves no more.
    sleep(Duration::from_secs(6)).await;
    ensure!(stage.manifest(Component::Scheduler)? == bad, "it acted on what it could not see:\n{}", stage.story());
    for component in [Component::Etcd, Component::ApiServer, Component::ControllerManager] {
        stage.in_state(component, "Steady").await?;
    }
    stage.node.containerd().start().await?;
    stage.back(Component::Scheduler, &good[3]).await?;
    ensure!(manifests(&stage)? == good, "something else was moved");
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn n6_an_api_server_that_refuses_our_credentials_is_no_outage() -> Result<()> {
    let stage = Stage::adopted().await?;
    let (standing, containers) = (manifests(&stage)?, running(&stage).await?);
    // A certificate of nobody the API server trusts: 401 on whatever it is shown for.
    let pki = stage.node.path("/etc/kubernetes/pki");
    let (crt, key) = (pki.join("apiserver-kubelet-client.crt"), pki.join("apiserver-kubelet-client.key"));
    let (old_crt, old_key) = (fs::read(&crt)?, fs::read(&key)?);
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=nobody", "-keyout"])
        .arg(&key)
        .arg("-out")
        .arg(&crt)
        .output()
        .await?;
    ensure!(made.status.success(), "openssl: {}", String::from_utf8_lossy(&made.stderr));
    let before = stage.story().len();
    // Many rounds of questions.
    sleep(Duration::from_secs(8)).await;
    let found = stage.component(Component::ApiServer).await?;
    println!("{found}\n{}", &stage.story()[before..]);
    let verdict = found["verdict"].to_string().to_lowercase();
    ensure!(verdict.contains("healthy") || verdict.contains("unknown"), "taken for an outage: {found}");
    ensure!(manifests(&stage)? == standing && running(&stage).await? == containers, "something was moved");
    fs::write(&crt, old_crt)?;
    fs::write(&key, old_key)?;
    for component in Component::ALL {
        let steady = |c: &serde_json::Value| c["state"].as_str().is_some_and(|s| s.eq_ignore_ascii_case("steady"));
        stage.until(component, "steady", steady).await?;
    }
    stage.the_same_after_a_restart().await
}

#[tokio::test]
async fn the_journal_is_silent_while_nothing_changes_and_the_manager_is_told_of_start_life_and_stop() -> Result<()> {
    let stage = Stage::adopted().await?;
    let mut told = stage.node.agent().notifications(From::Start)?;
    let first = told.next_line(Duration::from_secs(5)).await?;
    ensure!(first.contains("READY=1") && first.contains("STATUS="), "{first}");

    // On a busy machine a lease may be lost, and that is news; an agent that talks to itself is never silent.
    let (mut spoken, began) = (Vec::new(), Instant::now());
    let mut told = loop {
        let mut journal = stage.node.agent().journal(From::Now)?;
        let mut told = stage.node.agent().notifications(From::Now)?;
        let silent = Duration::from_secs(10);
        match tokio::join!(journal.next_line(silent), told.next_line(silent)) {
            (Err(_), Err(_)) => break told,
            heard => spoken.push(format!("{heard:?}")),
        }
        ensure!(began.elapsed() < SOON, "told although nothing changed: {spoken:#?}");
    };

    // As systemd starts it where it watches: each pass that ends is told.
    let pid = stage.node.agent().pid().await?;
    let socket = PathBuf::from(format!("/proc/{pid}/root/run/lab/init.sock"));
    let service = Service {
        name: "lastgood".to_owned(),
        argv: vec!["/lab/bin/lastgood".to_owned(), "run".to_owned()],
        env: BTreeMap::from([("WATCHDOG_USEC".to_owned(), "30000000".to_owned())]),
        restart: Restart::Never,
        after: None,
    };
    supervisor::ask(&socket, &Request::Define(service)).await?;
    stage.node.agent().restart().await?;
    told.wait_for_line("STOPPING=1", SOON).await?;
    told.wait_for_line("READY=1", SOON).await?;
    told.wait_for_line("WATCHDOG=1", SOON).await?;
    stage.add_flag(Component::Scheduler, "--no-such-flag=1")?;
    told.wait_for_line("STATUS=", SOON).await?;
    stage.told("is quarantined").await?;
    stage.all_serve().await?;
    stage.steady_on(Component::Scheduler, 1).await?;
    stage.the_same_after_a_restart().await
}
