//! A candidate mounts a file that does not exist, and the runtime makes a directory in its place.

use std::path::{Path, PathBuf};

use super::world::{API, FILE, World, back_to_good, id, manifest};
use crate::model::Step;
use crate::model::host_path::PathState::{self, Absent, EmptyDirectory, Other, UsedDirectory};
use crate::model::verdict::Cause;

const AUDIT: &str = "/etc/kubernetes/audit.yaml";

/// An API server with an audit policy, which it mounts without a type.
fn audited(extra: &str) -> String {
    let flags = format!("--audit-policy-file={AUDIT}', '{extra}");
    let mount = format!("volumeMounts: [{{name: audit, mountPath: {AUDIT}}}], image:");
    let volume = format!("volumes: [{{name: audit, hostPath: {{path: {AUDIT}}}}}], hostNetwork: true");
    manifest(API, &flags).replacen("image:", &mount, 1).replacen("hostNetwork: true", &volume, 1)
}

fn set(world: &mut World, state: PathState) {
    world.around.host_paths.insert(PathBuf::from(AUDIT), state);
}

fn state(world: &World) -> PathState {
    world.around.host_paths[Path::new(AUDIT)]
}

fn names_it(world: &World) -> bool {
    matches!(&world.judged.components[&id(API)].cause, Some(Cause::HostPath { path, .. }) if path == Path::new(AUDIT))
}

fn removed(world: &World) -> usize {
    world.steps.iter().filter(|step| matches!(step, Step::RemoveDirectory { .. })).count()
}

/// Whether the candidate has been given up.
fn failed(world: &World) -> bool {
    world.memory.components[&id(API)].generations.contains_key(&2) && world.is_quarantined(API, 2)
}

fn kubelet_restarts(world: &World) -> usize {
    world.steps.iter().filter(|step| matches!(step, Step::RestartKubelet)).count()
}

#[test]
fn what_the_runtime_makes_belongs_to_the_candidate_and_goes_with_it() {
    // What the process says, and how many of its crashes decide.
    for (crash, most) in [("--crash=directory", 25), ("--crash", 45)] {
        let mut world = World::adopted();
        set(&mut world, Absent);
        world.write(FILE, &audited(crash));
        world.until(60, "the runtime makes it", |w| state(w) == EmptyDirectory);
        world.until(3, "it is named", names_it);
        let took = world.until(120, "known-good back", |w| back_to_good(w, API));
        assert!(took < most, "{crash}: {took} s\n{}", world.story());
        assert_eq!(world.memory.components[&id(API)].generations.len(), 2, "{crash}: {}", world.story());
        assert!(world.is_quarantined(API, 2), "{crash}: {}", world.story());
        assert_eq!(kubelet_restarts(&world), 0, "{crash}: {}", world.story());
        assert_eq!((removed(&world), state(&world)), (1, Absent), "{crash}: {}", world.story());
        world.run(30);
        assert_eq!(removed(&world), 1, "{crash}: once");
        assert_eq!(world.memory.components[&id(API)].absent_paths, None, "{crash}: nothing is left to do");
    }
}

#[test]
fn only_a_directory_that_was_absent_before_and_is_still_empty_is_removed() {
    let made_then = |then: PathState| {
        let mut world = World::adopted();
        set(&mut world, Absent);
        world.write(FILE, &audited("--crash"));
        world.until(60, "the runtime makes it", |w| state(w) == EmptyDirectory);
        set(&mut world, then);
        world
    };
    let there_before = |before: PathState| {
        let mut world = World::adopted();
        set(&mut world, before);
        world.write(FILE, &audited("--crash"));
        world
    };
    let rows = [
        ("it is still empty", made_then(EmptyDirectory), 1),
        ("something was put in it, or mounted on it", made_then(UsedDirectory), 0),
        ("a file took its place", made_then(Other), 0),
        ("an empty directory was there before", there_before(EmptyDirectory), 0),
        ("a directory in use was there before", there_before(UsedDirectory), 0),
    ];
    for (situation, mut world, expected) in rows {
        let before = state(&world);
        world.until(150, "known-good back", |w| failed(w) && back_to_good(w, API));
        world.run(5);
        assert_eq!(removed(&world), expected, "{situation}: {}", world.story());
        assert_eq!(state(&world), if expected == 1 { Absent } else { before }, "{situation}");
        assert_eq!(kubelet_restarts(&world), 0, "{situation}: {}", world.story());
    }
}

#[test]
fn a_directory_that_another_manifest_mounts_or_that_the_operator_rolls_back_by_hand_stays() {
    let mut world = World::adopted();
    set(&mut world, Absent);
    world.write(FILE, &audited("--crash"));
    world.until(60, "the runtime makes it", |w| state(w) == EmptyDirectory);
    world.write(FILE, &manifest(API, ""));
    world.until(60, "known-good back", |w| back_to_good(w, API));
    world.run(5);
    assert_eq!((removed(&world), state(&world)), (0, EmptyDirectory), "no rollback of ours: {}", world.story());

    let mut world = World::adopted();
    let volume =
        format!("volumes: [{{name: audit, hostPath: {{path: {AUDIT}, type: DirectoryOrCreate}}}}], hostNetwork: true");
    set(&mut world, Absent);
    world.write(FILE, &audited("--crash"));
    world.until(60, "the runtime makes it", |w| state(w) == EmptyDirectory);
    let other = "kube-scheduler";
    world.write(&format!("{other}.yaml"), &manifest(other, "").replacen("hostNetwork: true", &volume, 1));
    world.until(150, "known-good back", |w| failed(w) && back_to_good(w, API));
    assert_eq!((removed(&world), state(&world)), (0, EmptyDirectory), "another mounts it: {}", world.story());
}

#[test]
fn a_candidate_that_has_had_a_container_is_no_reason_to_restart_the_kubelet() {
    let mut world = World::adopted();
    set(&mut world, Other);
    // It is not mounted, so that nobody makes a directory there.
    world.write(FILE, &manifest(API, &format!("--audit-policy-file={AUDIT}', '--crash")));
    world.until(60, "it has crashed", |w| w.crashes(API).is_some_and(|crashes| crashes > 0));
    // A file of it goes while it crashes: no process has read that, and the pod is the same.
    set(&mut world, Absent);
    world.policy.max_crashes = 100;
    world.run(1);
    let changed = world.memory.components[&id(API)].deployed.as_ref().unwrap().changed;
    assert!(changed > world.pods[&id(API)].created, "the sandbox is older than the change");
    world.run(400);
    assert_eq!(kubelet_restarts(&world), 0, "{}", world.story());
}
