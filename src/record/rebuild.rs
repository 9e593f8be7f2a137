//! Loads the memory from whatever is on disk. Loading never fails, and never uses part of a damaged file.
//!
//! ```text
//!   memory.json ──sound──▶ it            (of this machine, Q7)
//!      │ not
//!   memory.json.old ─────▶ it, and a finding
//!      │ not
//!   generations on disk ─▶ rebuilt: the newest known-good one is assumed to be deployed, the next pass compares
//!      │ none
//!      ▼
//!   empty: a first start
//! ```
//!
//! State that is not used is set aside if the lock is held; a reader without the lock changes nothing.
//! The same holds with the lock while there are files of a newer lastgood: this program uses what it understands of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::generations::Found;
use super::memory_file::{self, Kept};
use super::{Finding, Guard, Store, newer};
use crate::model::generation::Stored;
use crate::model::memory::{Machine, Record};
use crate::model::{ComponentId, ComponentState, Generation, Manifest, Memory, Role};

/// What moves out of the way.
type Aside<'a> = dyn FnMut(&Path) -> String + 'a;

impl Store {
    /// The memory, as far as it can be read, and what was wrong with it. Changes nothing on disk.
    pub fn load_memory(&self, machine: &Machine) -> (Memory, Vec<Finding>) {
        self.load(machine, &mut |_| "it stays where it is: the lock is not held".to_owned())
    }

    fn load(&self, machine: &Machine, aside: &mut Aside<'_>) -> (Memory, Vec<Finding>) {
        let mut findings: Vec<Finding> = self.newer().iter().map(newer::finding).collect();
        let mut foreign = false;
        let mut usable = None;
        for path in [self.memory_path(), self.old_memory_path()] {
            let why = match memory_file::read(&path) {
                Kept::Missing | Kept::Newer(None) => continue,
                Kept::Memory(memory) | Kept::Newer(Some(memory)) if memory.machine.is(machine) => {
                    if usable.is_none() {
                        usable = Some((path, memory));
                    }
                    continue;
                }
                Kept::Memory(memory) | Kept::Newer(Some(memory)) => {
                    foreign = true;
                    let Machine { machine_id, node_name } = &memory.machine;
                    format!("was made on another machine ({node_name}, machine-id {machine_id})")
                }
                Kept::Unusable(why) => why,
            };
            let went = aside(&path);
            findings.push(Finding::new(&path, format!("{why}; {went}")));
        }
        let (found, strange) = self.scan();
        findings.extend(strange);
        let found = self.sort_out(machine, found, aside, &mut findings);
        let mut memory = match usable {
            Some((path, memory)) => {
                if path != self.memory_path() {
                    findings.push(Finding::new(&path, "is used instead: it is one save older"));
                }
                let mut memory = *memory;
                reconcile(&mut memory, found, self, &mut findings);
                memory
            }
            None => {
                let memory = rebuild(machine, found);
                if !findings.is_empty() || !memory.components.is_empty() {
                    let sentence = match (memory.components.len(), foreign) {
                        (0, true) => "starts empty: the state of another machine is not used".to_owned(),
                        (0, false) => "starts empty".to_owned(),
                        (n, _) => format!("is rebuilt from the generations of {n} components on disk"),
                    };
                    findings.push(Finding::new(&self.memory_path(), sentence));
                }
                memory
            }
        };
        memory.machine = machine.clone();
        (memory, findings)
    }

    /// Leaves the generations that are sound and of this machine; the others are set aside.
    fn sort_out(
        &self,
        machine: &Machine,
        found: Vec<Found>,
        aside: &mut Aside<'_>,
        findings: &mut Vec<Finding>,
    ) -> Sorted {
        let mut sorted = Sorted::default();
        for Found { component, number, dir, verified } in found {
            let highest = sorted.highest.entry(component.clone()).or_default();
            *highest = number.max(*highest);
            let why = match verified {
                Ok((described, manifest)) if described.machine.is(machine) => {
                    let role = role_of(&manifest);
                    sorted.sound.entry(component).or_default().push((role, described.generation));
                    continue;
                }
                Ok((described, _)) => format!("was stored on another machine ({})", described.machine.node_name),
                Err(error) => format!("is not used: {error}"),
            };
            let went = aside(&dir);
            findings.push(Finding::new(&dir, format!("{why}; {went}")));
        }
        sorted
    }
}

impl Guard {
    /// The memory, as far as it can be read, and what was wrong with it. What is damaged or foreign is set aside and kept;
    /// nothing is, while there are files of a newer lastgood.
    pub fn load_memory(&self, machine: &Machine) -> (Memory, Vec<Finding>) {
        let newer = !self.newer_files().is_empty();
        let mut keep = |path: &Path| match self.set_aside(path) {
            Ok(to) => format!("it is kept as {}", to.display()),
            Err(_) if newer => "it is left where it is".to_owned(),
            Err(error) => format!("it could not be set aside: {error}"),
        };
        let (memory, mut findings) = self.load(machine, &mut keep);
        // What we published is known again from the generations; what lies in its list's place must not be in the way.
        if let (_, Some(mut finding)) = self.published()
            && !newer
        {
            finding.sentence = format!("{}; {}", finding.sentence, keep(&finding.path));
            findings.push(finding);
        }
        (memory, findings)
    }
}

/// The generations on disk.
#[derive(Debug, Default)]
struct Sorted {
    /// Those that can be used, by component.
    sound: BTreeMap<ComponentId, Vec<(Role, Generation)>>,
    /// The highest number seen, usable or not: the next one is higher.
    highest: BTreeMap<ComponentId, u32>,
}

fn role_of(manifest: &[u8]) -> Role {
    Manifest::parse(manifest.into()).map_or(Role::Other, |manifest| manifest.role)
}

/// Makes a memory that was read agree with the generations on disk.
///
/// A component the memory does not know is not brought back: it may have been given up on purpose.
fn reconcile(memory: &mut Memory, mut found: Sorted, store: &Store, findings: &mut Vec<Finding>) {
    for (component, record) in &mut memory.components {
        let sound = found.sound.remove(component).unwrap_or_default();
        let on_disk: BTreeSet<u32> = sound.iter().map(|(_, generation)| generation.number).collect();
        for generation in record.generations.values_mut() {
            if generation.stored == Stored::Yes && !on_disk.contains(&generation.number) {
                generation.stored = Stored::Pending;
                let sentence = format!("of {component} cannot be deployed: its bytes are lost");
                findings.push(Finding::new(&store.generation_dir(component, generation.number), sentence));
            } else if on_disk.contains(&generation.number) {
                // A crash between the keeping and the saving.
                generation.stored = Stored::Yes;
            }
        }
        for (_, generation) in sound {
            record.generations.entry(generation.number).or_insert(generation);
        }
        let highest = found.highest.get(component).copied().unwrap_or(0);
        record.next_number = record.next_number.max(highest + 1);
    }
}

/// A memory from nothing but the generations on disk.
///
/// What was asked, counted and timed is lost. The newest known-good generation is taken to be the one that stands: if
/// something else stands the next pass sees a change, and if nothing stands it sees an absence that nobody witnessed,
/// which stays (Q14).
fn rebuild(machine: &Machine, found: Sorted) -> Memory {
    let mut memory = Memory { machine: machine.clone(), ..Memory::default() };
    for (component, sound) in found.sound {
        let highest = found.highest.get(&component).copied().unwrap_or(0);
        // The newest manifest knows the role best: it may have been given a program since.
        let Some((role, newest)) = sound.iter().max_by_key(|(_, generation)| generation.number) else { continue };
        let (role, newest) = (*role, newest.number);
        let generations: BTreeMap<u32, Generation> =
            sound.into_iter().map(|(_, generation)| (generation.number, generation)).collect();
        let good = generations.values().rev().find(|generation| generation.trust.is_known_good());
        let slot = match good {
            Some(good) => ComponentState::Steady { good: good.number },
            None => ComponentState::Adopting { candidate: newest, healthy: Duration::ZERO },
        };
        let last_served = generations
            .values()
            .filter(|generation| generation.served.is_some())
            .max_by_key(|generation| (generation.served, generation.number))
            .map(|generation| generation.number);
        let record = Record { generations, next_number: highest + 1, last_served, ..Record::new(role, slot) };
        memory.components.insert(component, record);
    }
    memory
}
