//! An observer that is independent of the agent: it reads the manifest directory, the runtime, the disk and the logs.
//!
//! ```text
//!   a thread   every 3 ms    the four slots: who wrote the file (by inode), since when it is absent
//!   a task     every 0.3 s   containers by CRI, containerd's log of stops, the agent's state and journal, etcd's data,
//!                            the kept generations
//!   a task     every second  a key written through etcd; every acknowledged write has to exist at the end
//! ```
//!
//! Every file that a test puts into the directory goes through [`Outside`], which remembers its inode and holds it
//! open, so that no file of the agent's can get the same number. Every other file there is the agent's. A violation is
//! recorded when it is seen, and ends the run.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::spec::{self, State};
use tokio::sync::RwLock;
use tokio::time::sleep;

use crate::stage::Stage;

/// Between two looks at the four slots.
const BLINK: Duration = Duration::from_millis(3);

/// Between two looks at everything else.
const LOOK: Duration = Duration::from_millis(300);

/// The longest an emptied slot may stay empty by our doing: a pod's grace (30 s), `rollback.stop-margin` after it, as long
/// again until it is settled, and room for a killed agent to be started again.
const EMPTY_AT_MOST: Duration = Duration::from_secs(60);

/// Two containers of one component that run for so long at once are no sample taken in the wrong moment.
const BOTH_AT_MOST: Duration = Duration::from_secs(2);

/// The most memory the agent may hold, in kB.
const MEMORY: u64 = 100_000;

/// The graces, in seconds, that only the agent gives a container: the kubelet of a compressed node gives its own.
const OUR_GRACES: [&str; 2] = [" with timeout 2 (s)", " with timeout 0 (s)"];

/// Where the counted keys lie.
const COUNTED: &str = "/lab/count/";

/// What a text is worth that somebody wrote into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Worth {
    /// Its pod serves.
    Good,
    /// It is a pod, and it fails.
    Bad,
}

/// What was done to one slot by us, counted since a person last gave its budget back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Deeds {
    /// Files of ours that came into the slot.
    pub(crate) arrivals: Vec<Instant>,
    /// Files that left the slot although nobody else took them.
    pub(crate) departures: usize,
    /// Containers that we had stopped.
    pub(crate) stops: BTreeSet<String>,
}

impl Deeds {
    /// Files of ours that came into the slot within the last hour.
    pub(crate) fn arrivals_lately(&self) -> usize {
        self.arrivals.iter().filter(|at| at.elapsed() < Duration::from_secs(3600)).count()
    }
}

#[derive(Default)]
struct Ledger {
    /// Files that somebody else wrote, by inode, held open so that the number is not given away again.
    theirs: HashMap<u64, File>,
    /// Everything whole that was ever written into a slot, by file name.
    whole: BTreeMap<String, BTreeMap<String, bool>>,
    /// Slots that a person emptied.
    away: BTreeSet<String>,
    /// Other names that somebody put into the directory.
    beside: BTreeSet<String>,
    /// Nothing may be done meanwhile.
    paused: bool,
    /// By component.
    deeds: BTreeMap<String, Deeds>,
    /// The text that has to be among the kept generations, by component.
    kept: BTreeMap<String, String>,
    /// Numbers that etcd acknowledged.
    acknowledged: Vec<u64>,
}

struct Shared {
    began: Instant,
    manifests: PathBuf,
    staged: PathBuf,
    over: AtomicBool,
    ledger: Mutex<Ledger>,
    seen: Mutex<Vec<String>>,
    broken: Mutex<Vec<String>>,
}

/// See the module.
pub(crate) struct Outside {
    shared: Arc<Shared>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Shared {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, what: &str) {
        let line = format!("{:8.2} s  {what}", self.began.elapsed().as_secs_f64());
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).push(line);
    }

    /// Something that must never be.
    fn breaks(&self, what: &str) {
        self.note(&format!("NEVER: {what}"));
        let mut broken = self.broken.lock().unwrap_or_else(PoisonError::into_inner);
        if broken.len() < 20 {
            broken.push(format!("{:.2} s: {what}", self.began.elapsed().as_secs_f64()));
        }
    }
}

impl Outside {
    /// Begins to watch. What stands in the directory now was put there by others, and is good.
    pub(crate) async fn begin(stage: &Arc<RwLock<Stage>>) -> Result<Self> {
        let held = stage.read().await;
        let node = &held.node;
        let shared = Arc::new(Shared {
            began: Instant::now(),
            manifests: node.path("/etc/kubernetes/manifests"),
            staged: node.path("/etc/kubernetes"),
            over: AtomicBool::new(false),
            ledger: Mutex::default(),
            seen: Mutex::default(),
            broken: Mutex::default(),
        });
        {
            let mut ledger = shared.ledger();
            for component in Component::ALL {
                let path = shared.manifests.join(component.file());
                let (file, text) = (File::open(&path)?, fs::read_to_string(&path)?);
                ledger.theirs.insert(file.metadata()?.ino(), file);
                ledger.whole.entry(component.file()).or_default().insert(text.clone(), true);
                ledger.kept.insert(component.name().to_owned(), text);
            }
        }
        let member = fs::metadata(node.path("/var/lib/etcd/member")).context("etcd has no data")?.ino();
        let logs = Logs {
            containerd: Tail::at_end(node.path(spec::log("containerd"))),
            agent: Tail::at_end(node.path(spec::log("lastgood"))),
        };
        let looks = Looks {
            member_path: node.path("/var/lib/etcd/member"),
            generations: node.path("/var/lib/lastgood/generations"),
            member,
            logs,
            both: BTreeMap::new(),
            names: BTreeMap::new(),
            weighed: Instant::now(),
            most: 0,
        };
        drop(held);
        let blinking = Arc::clone(&shared);
        std::thread::spawn(move || blink(&blinking));
        let (looking, writing) = (Arc::clone(&shared), Arc::clone(&shared));
        let (to_look, to_write) = (Arc::clone(stage), Arc::clone(stage));
        let tasks = vec![
            tokio::spawn(async move { look(&looking, &to_look, looks).await }),
            tokio::spawn(async move { write(&writing, &to_write).await }),
        ];
        Ok(Self { shared, tasks })
    }

    /// Writes down what happens, beside what is seen.
    pub(crate) fn note(&self, what: &str) {
        self.shared.note(what);
    }

    /// Everything written down so far.
    pub(crate) fn seen(&self) -> String {
        self.shared.seen.lock().unwrap_or_else(PoisonError::into_inner).join("\n")
    }

    /// Fails when something was seen that must never be.
    pub(crate) fn nothing_broken(&self) -> Result<()> {
        let broken = self.shared.broken.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(broken.is_empty(), "seen from outside, and must never be:\n{}", broken.join("\n"));
        Ok(())
    }

    /// What was done to a component since its budget was given back.
    pub(crate) fn deeds(&self, component: Component) -> Deeds {
        self.shared.ledger().deeds.get(component.name()).cloned().unwrap_or_default()
    }

    /// A person gave its budget back.
    pub(crate) fn forgives(&self, component: Component) {
        self.shared.ledger().deeds.remove(component.name());
    }

    /// From now on nothing may be done, or may be again.
    pub(crate) fn paused(&self, paused: bool) {
        self.shared.note(if paused { "paused" } else { "no longer paused" });
        self.shared.ledger().paused = paused;
    }

    /// Whether this text was written as a good one.
    pub(crate) fn is_good(&self, component: Component, text: &str) -> bool {
        self.shared.ledger().whole.get(&component.file()).and_then(|texts| texts.get(text)) == Some(&true)
    }

    /// This text is known-good now: from now on it has to be among the kept generations.
    pub(crate) fn is_kept(&self, component: Component, text: &str) {
        self.shared.ledger().kept.insert(component.name().to_owned(), text.to_owned());
    }

    /// Puts a whole manifest in place by one rename.
    pub(crate) fn places(&self, component: Component, text: &str, worth: Worth) -> Result<()> {
        let name = component.file();
        self.shared.ledger().whole.entry(name.clone()).or_default().insert(text.to_owned(), worth == Worth::Good);
        self.rename_in(&name, text.as_bytes())
    }

    /// Puts a second file beside a component's own.
    pub(crate) fn puts_beside(&self, name: &str, text: &str) -> Result<()> {
        self.shared.ledger().beside.insert(name.to_owned());
        self.rename_in(name, text.as_bytes())
    }

    fn rename_in(&self, name: &str, bytes: &[u8]) -> Result<()> {
        let staged = self.shared.staged.join(format!(".{name}.lab"));
        let mut file = File::create(&staged).with_context(|| staged.display().to_string())?;
        file.write_all(bytes).with_context(|| staged.display().to_string())?;
        let mut ledger = self.shared.ledger();
        ledger.theirs.insert(file.metadata()?.ino(), file);
        ledger.away.remove(name);
        drop(ledger);
        let path = self.shared.manifests.join(name);
        fs::rename(&staged, &path).with_context(|| path.display().to_string())
    }

    /// Overwrites what stands, in place, as an editor or a power cut does. The file is a person's from then on.
    pub(crate) fn ruins(&self, component: Component, bytes: &[u8]) -> Result<()> {
        let path = self.shared.manifests.join(component.file());
        let mut file = match File::options().write(true).open(&path) {
            Ok(file) => file,
            // Between the two steps of a replacement there is nothing to overwrite.
            Err(error) if error.kind() == ErrorKind::NotFound => return self.rename_in(&component.file(), bytes),
            Err(error) => return Err(error).with_context(|| path.display().to_string()),
        };
        let mut ledger = self.shared.ledger();
        ledger.theirs.insert(file.metadata()?.ino(), file.try_clone()?);
        drop(ledger);
        file.set_len(0)?;
        Ok(file.write_all(bytes)?)
    }

    /// Deletes a manifest.
    pub(crate) fn deletes(&self, component: Component) -> Result<()> {
        self.goes(&component.file(), |path| fs::remove_file(path))
    }

    /// Moves a manifest out of the directory.
    pub(crate) fn moves_away(&self, component: Component, to: &Path) -> Result<()> {
        self.goes(&component.file(), |path| fs::rename(path, to))
    }

    /// Moves it back.
    pub(crate) fn moves_back(&self, component: Component, from: &Path) -> Result<()> {
        let path = self.shared.manifests.join(component.file());
        let mut ledger = self.shared.ledger();
        let file = File::open(from).with_context(|| from.display().to_string())?;
        ledger.theirs.insert(file.metadata()?.ino(), file);
        ledger.away.remove(&component.file());
        drop(ledger);
        fs::rename(from, &path).with_context(|| path.display().to_string())
    }

    fn goes(&self, name: &str, how: impl Fn(&Path) -> std::io::Result<()>) -> Result<()> {
        self.shared.ledger().away.insert(name.to_owned());
        let path = self.shared.manifests.join(name);
        match how(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
            done => done.with_context(|| path.display().to_string()),
        }
    }

    /// Ends the watch: nothing was broken, and what etcd acknowledged is there. Returns how many writes that were.
    pub(crate) async fn end(mut self, stage: &Arc<RwLock<Stage>>) -> Result<usize> {
        self.shared.over.store(true, Ordering::Relaxed);
        for task in std::mem::take(&mut self.tasks) {
            task.await.context("an observer ended early")?;
        }
        let said = stage.read().await.node.etcdctl(&["get", COUNTED, "--prefix", "--keys-only"]).await?;
        let there: BTreeSet<u64> =
            said.lines().filter_map(|line| line.strip_prefix(COUNTED)?.trim().parse().ok()).collect();
        let acknowledged = self.shared.ledger().acknowledged.clone();
        let lost: Vec<u64> = acknowledged.iter().filter(|number| !there.contains(number)).copied().collect();
        ensure!(lost.is_empty(), "acknowledged by etcd, and gone: {lost:?}");
        Ok(acknowledged.len())
    }
}

impl Drop for Outside {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

/// What the thread knows of one slot.
#[derive(Default)]
struct ComponentState {
    inode: Option<u64>,
    stamp: Option<(u64, i64, i64, u64)>,
    empty: Option<Instant>,
    told: bool,
}

/// Looks at the slots until it is over.
fn blink(shared: &Shared) {
    let mut slots: BTreeMap<String, (Component, ComponentState)> =
        Component::ALL.iter().map(|component| (component.file(), (*component, ComponentState::default()))).collect();
    let mut turn = 0_u32;
    while !shared.over.load(Ordering::Relaxed) {
        for (name, (component, slot)) in &mut slots {
            if let Err(error) = blink_at(shared, name, *component, slot) {
                shared.breaks(&format!("{name} cannot be looked at: {error:#}"));
            }
        }
        turn = turn.wrapping_add(1);
        if turn.is_multiple_of(16) {
            strays(shared);
        }
        std::thread::sleep(BLINK);
    }
}

fn blink_at(shared: &Shared, name: &str, component: Component, slot: &mut ComponentState) -> Result<()> {
    let path = shared.manifests.join(name);
    let read = || -> std::io::Result<Option<(fs::Metadata, Option<Vec<u8>>)>> {
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let meta = file.metadata()?;
        if slot.stamp == Some(stamp(&meta)) {
            return Ok(Some((meta, None)));
        }
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(Some((meta, Some(bytes))))
    };
    let found = read().with_context(|| path.display().to_string())?;
    // What is registered before the deed is seen by whoever sees the deed.
    let mut ledger = shared.ledger();
    let by_person = ledger.away.contains(name);
    let Some((meta, bytes)) = found else {
        if slot.inode.take().is_some() && !by_person {
            ledger.deeds.entry(component.name().to_owned()).or_default().departures += 1;
            shared.note(&format!("{name} was taken out"));
            if ledger.paused {
                shared.breaks(&format!("{name} was taken out while paused"));
            }
        }
        slot.stamp = None;
        let since = *slot.empty.get_or_insert_with(Instant::now);
        if by_person {
            slot.empty = None;
        } else if since.elapsed() > EMPTY_AT_MOST && !slot.told {
            slot.told = true;
            shared.breaks(&format!("{name} has been gone for {:?} by no person's doing", since.elapsed()));
        }
        return Ok(());
    };
    (slot.empty, slot.told) = (None, false);
    let Some(bytes) = bytes else { return Ok(()) };
    let theirs = ledger.theirs.contains_key(&meta.ino());
    let new = slot.inode != Some(meta.ino());
    (slot.inode, slot.stamp) = (Some(meta.ino()), Some(stamp(&meta)));
    if theirs {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let worth = ledger.whole.get(name).and_then(|texts| texts.get(&text)).copied();
    match worth {
        Some(true) => {}
        // What stood is put back as it stood where the API server makes way for etcd.
        Some(false) if component == Component::ApiServer => {}
        Some(false) => shared.breaks(&format!("we put a manifest in {name} that never served:\n{text}")),
        None => shared.breaks(&format!("in {name} we wrote what nobody ever wrote ({} bytes):\n{text}", bytes.len())),
    }
    if new {
        ledger.away.remove(name);
        ledger.deeds.entry(component.name().to_owned()).or_default().arrivals.push(Instant::now());
        shared.note(&format!("{name} was put in"));
        if ledger.paused {
            shared.breaks(&format!("{name} was put in while paused"));
        }
    }
    Ok(())
}

fn stamp(meta: &fs::Metadata) -> (u64, i64, i64, u64) {
    (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.size())
}

/// Names in the directory that nobody else put there.
fn strays(shared: &Shared) {
    let Ok(entries) = fs::read_dir(&shared.manifests) else { return };
    let known = |name: &str| Component::ALL.iter().any(|component| component.file() == name);
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !known(&name) && !shared.ledger().beside.contains(&name) {
            shared.breaks(&format!("{name} lies in the manifest directory"));
        }
    }
}

/// A log from where it was last read.
struct Tail {
    path: PathBuf,
    offset: u64,
}

impl Tail {
    fn at_end(path: PathBuf) -> Self {
        let offset = fs::metadata(&path).map_or(0, |meta| meta.len());
        Self { path, offset }
    }

    fn more(&mut self) -> Vec<String> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.offset))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new();
        }
        let Some(end) = bytes.iter().rposition(|byte| *byte == b'\n') else { return Vec::new() };
        self.offset += end as u64 + 1;
        String::from_utf8_lossy(&bytes[..end]).lines().map(str::to_owned).collect()
    }
}

struct Logs {
    containerd: Tail,
    agent: Tail,
}

/// What the looking task knows.
struct Looks {
    member_path: PathBuf,
    generations: PathBuf,
    member: u64,
    logs: Logs,
    /// Since when two containers of a component run.
    both: BTreeMap<String, Instant>,
    /// The component of each container ever seen.
    names: BTreeMap<String, String>,
    weighed: Instant,
    most: u64,
}

async fn look(shared: &Shared, stage: &RwLock<Stage>, mut looks: Looks) {
    while !shared.over.load(Ordering::Relaxed) {
        {
            let stage = stage.read().await;
            // A runtime that does not answer is one of the faults.
            if let Ok(mut runtime) = stage.node.runtime().await
                && let Ok(containers) = runtime.names().await
            {
                looks.containers(shared, &containers);
            }
            if let Ok(State::Exited { code }) = stage.node.agent().state().await {
                shared.breaks(&format!("the agent ended by itself with {code}"));
            }
            if looks.weighed.elapsed() > Duration::from_secs(5)
                && let Ok(pid) = stage.node.agent().pid().await
            {
                looks.weigh(shared, pid);
            }
        }
        looks.logs(shared);
        looks.disk(shared);
        sleep(LOOK).await;
    }
    shared.note(&format!("the agent held at most {} kB of memory", looks.most));
}

impl Looks {
    fn containers(&mut self, shared: &Shared, containers: &[(String, String, bool)]) {
        self.names.extend(containers.iter().map(|(id, name, _)| (id.clone(), name.clone())));
        for component in Component::ALL {
            let count = containers.iter().filter(|(_, name, runs)| *runs && name == component.name()).count();
            // A second file of a pod is somebody's second pod.
            let beside =
                !shared.ledger().beside.is_empty() && std::fs::read_dir(&shared.manifests).is_ok_and(|d| d.count() > 4);
            if count < 2 || beside {
                self.both.remove(component.name());
                continue;
            }
            let since = *self.both.entry(component.name().to_owned()).or_insert_with(Instant::now);
            if since.elapsed() > BOTH_AT_MOST {
                shared.breaks(&format!("{count} containers of {component} run at once"));
            }
        }
    }

    fn weigh(&mut self, shared: &Shared, pid: i32) {
        self.weighed = Instant::now();
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let held = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0);
        self.most = self.most.max(held);
        if held > MEMORY {
            shared.breaks(&format!("the agent holds {held} kB of memory"));
        }
    }

    fn logs(&mut self, shared: &Shared) {
        for line in self.logs.containerd.more() {
            let ours = OUR_GRACES.iter().any(|grace| line.contains(grace));
            let Some((_, rest)) = line.split_once("StopContainer for \\\"").filter(|_| ours) else {
                continue;
            };
            let id = rest.split('\\').next().unwrap_or_default().to_owned();
            let name = self.names.get(&id).cloned().unwrap_or_default();
            let mut ledger = shared.ledger();
            let new = ledger.deeds.entry(name.clone()).or_default().stops.insert(id.clone());
            if new {
                shared.note(&format!("we had container {} of {name} stopped", id.get(..12).unwrap_or(&id)));
            }
            if ledger.paused {
                shared.breaks(&format!("a container of {name} was stopped while paused"));
            }
        }
        for line in self.logs.agent.more() {
            if line.contains("panicked at") {
                shared.breaks(&line);
            }
        }
    }

    fn disk(&self, shared: &Shared) {
        match fs::metadata(&self.member_path) {
            Ok(meta) if meta.ino() == self.member => {}
            Ok(_) => shared.breaks("etcd's data are another directory"),
            Err(error) => shared.breaks(&format!("etcd's data: {error}")),
        }
        let kept = shared.ledger().kept.clone();
        for (component, text) in kept {
            let dir = self.generations.join(format!("kube-system_{component}"));
            let holds = |dir: fs::DirEntry| fs::read_to_string(dir.path().join("manifest")).is_ok_and(|t| t == text);
            let found = fs::read_dir(&dir).is_ok_and(|mut entries| entries.any(|entry| entry.is_ok_and(holds)));
            if !found {
                shared.breaks(&format!("the known-good generation of {component} is gone from {}", dir.display()));
            }
        }
    }
}

/// Counts upwards in etcd, and remembers what was acknowledged.
async fn write(shared: &Shared, stage: &RwLock<Stage>) {
    let mut number = 0_u64;
    while !shared.over.load(Ordering::Relaxed) {
        number += 1;
        let written = stage.read().await.node.put_data(&format!("{COUNTED}{number}"), "written").await;
        if written.is_ok() {
            shared.ledger().acknowledged.push(number);
        }
        sleep(Duration::from_secs(1)).await;
    }
}

/// The base texts and their variants.
pub(crate) fn variant(component: Component, base: &str, flag: &str) -> Result<String> {
    let command = format!("- {}\n", component.name());
    if !base.contains(&command) {
        bail!("no command of {component} in its manifest");
    }
    Ok(base.replacen(&command, &format!("{command}    - {flag}\n"), 1))
}
