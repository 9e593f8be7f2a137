//! Keys and certificates are renewed: what a healthy process has loaded is the new normal (Q4).

use super::world::{World, id};
use crate::model::verdict::{Cause, ProcessActivity};
use crate::model::{FileKind, FileState, Step};

const CERTIFICATE: &str = "/etc/kubernetes/pki/apiserver.crt";
const MANAGER: &str = "kube-controller-manager";

/// A node whose components have been adopted with these keys.
fn with_keys() -> World {
    let mut world = World::new();
    let long_ago = world.wall_at(100);
    for path in [CERTIFICATE, "/etc/kubernetes/pki/sa.key"] {
        world.keys.insert(path.into(), ("old".to_owned(), long_ago));
    }
    world.run(90);
    world.events.clear();
    world.steps.clear();
    world
}

fn renew(world: &mut World) {
    let now = world.moment().wall;
    world.keys.insert(CERTIFICATE.into(), ("new".to_owned(), now));
}

/// Ends a process as `crictl stop` does; the kubelet starts another.
fn restart(world: &mut World, name: &str) {
    let pod = world.pods.get_mut(&id(name)).unwrap();
    (pod.up, pod.next_start) = (super::world::Up::Exited, world.seconds + 2);
    world.run(60);
    assert!(world.serves(name), "{}", world.story());
}

/// The cause that is found when the controller manager hangs, and whether it was restarted.
fn hangs(world: &mut World) -> (Option<Cause>, bool) {
    world.steps.clear();
    world.hung.insert(MANAGER.to_owned(), ProcessActivity::Stopped);
    let mut cause = None;
    for _ in 0..30 {
        world.run(1);
        cause = cause.or(world.judged.components[&id(MANAGER)].cause.clone());
    }
    (cause, world.steps.iter().any(|step| matches!(step, Step::StopContainer { .. })))
}

#[test]
fn q4_after_a_renewal_what_a_healthy_process_has_loaded_is_the_new_normal() {
    type Happens = fn(&mut World);
    let rows: [(&str, Happens, bool); 6] = [
        ("nothing was renewed", |_| {}, false),
        (
            "renewed, and the process started since then",
            |world| {
                renew(world);
                world.run(1);
                restart(world, MANAGER);
            },
            false,
        ),
        (
            "renewed, and the process is the one from before",
            |world| {
                renew(world);
                world.run(60);
            },
            true,
        ),
        (
            "renewed again after the process had started",
            |world| {
                renew(world);
                world.run(1);
                restart(world, MANAGER);
                world.keys.get_mut(std::path::Path::new(CERTIFICATE)).unwrap().0 = "newer".to_owned();
                let now = world.moment().wall;
                world.keys.get_mut(std::path::Path::new(CERTIFICATE)).unwrap().1 = now;
            },
            true,
        ),
        (
            "renewed, and what started since then is not well",
            |world| {
                renew(world);
                world.run(1);
                world.hung.insert(MANAGER.to_owned(), ProcessActivity::Busy);
                let pod = world.pods.get_mut(&id(MANAGER)).unwrap();
                (pod.started, pod.attempt) = (crate::decide::tests::renewal::soon(world.seconds), pod.attempt + 1);
                world.run(60);
            },
            true,
        ),
        (
            "missing, also when the process started since then",
            |world| {
                world.keys.remove(std::path::Path::new(CERTIFICATE));
                world.run(1);
                restart(world, MANAGER);
            },
            true,
        ),
    ];
    for (situation, happens, explained) in rows {
        let mut world = with_keys();
        happens(&mut world);
        let (cause, restarted) = hangs(&mut world);
        let keys = matches!(cause, Some(Cause::KeyMaterial { .. }));
        assert_eq!((keys, restarted), (explained, !explained), "{situation}: {cause:?}\n{}", world.story());
    }
}

fn soon(seconds: u64) -> jiff::Timestamp {
    jiff::Timestamp::from_second(1_800_000_001 + seconds as i64).unwrap()
}

#[test]
fn a_node_that_an_earlier_version_left_with_old_keys_is_cured_at_the_first_healthy_pass() {
    let mut world = with_keys();
    renew(&mut world);
    world.run(1);
    restart(&mut world, MANAGER);
    assert_eq!(world.events.iter().filter(|e| e.to_string().contains("are in use")).count(), 1, "{}", world.story());
    // As it would have been remembered.
    for generation in world.memory.components.get_mut(&id(MANAGER)).unwrap().generations.values_mut() {
        for file in &mut generation.closure {
            let FileState::Present { digest, .. } = &mut file.state else { panic!("{file:?}") };
            *digest = crate::model::Digest::of(b"of another year");
        }
    }
    world.restart_agent();
    world.run(5);
    assert!(matches!(hangs(&mut world), (None, true)), "{}", world.story());
}

#[test]
fn other_kinds_of_files_do_not_follow_and_no_generation_is_another_for_it() {
    let mut world = with_keys();
    // A configuration file and a kubeconfig that are no longer what was kept, under a process that is younger than both.
    let other =
        |kind| FileState::Present { kind, digest: crate::model::Digest::of(b"kept"), mode: 0o600, uid: 0, gid: 0 };
    let credentials = crate::model::Digest::of(b"credentials");
    let works = crate::model::config_files::KubeconfigHealth::Works { not_after: None };
    let kept = [
        other(FileKind::Config),
        other(FileKind::Kubeconfig { works, credentials }),
        FileState::Missing,
        FileState::Unreadable { reason: "is a directory".to_owned() },
    ];
    for state in kept {
        let generation = world.memory.components.get_mut(&id(MANAGER)).unwrap().generations.get_mut(&1).unwrap();
        generation.closure[0].state = state.clone();
        renew(&mut world);
        world.run(1);
        restart(&mut world, MANAGER);
        assert_eq!(world.generation(MANAGER, 1).closure[0].state, state);
        assert_eq!(world.memory.components[&id(MANAGER)].generations.len(), 1, "{}", world.story());
    }
}
