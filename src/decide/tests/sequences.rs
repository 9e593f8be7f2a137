//! Random sequences of faults, requests and restarts. `never` checks what must hold at every pass; these tests check
//! that every sequence ends in a healthy node.

use proptest::prelude::*;

use super::world::{FOUR, World, id, manifest};
use super::wrong_data;
use crate::model::lineage::WrongDataKind;
use crate::model::observation::Gone;
use crate::model::reading::{Symptom, SymptomKind};
use crate::model::{ComponentState, Memory, Request, Step};

#[derive(Clone, Debug)]
pub(super) enum Deed {
    Write(usize, &'static str),
    Tear(usize),
    Intrude(usize),
    Delete(usize),
    Pause,
    Resume,
    RollBack(usize),
    Pin(usize),
    Unpin(usize),
    Quarantine(usize),
    KillAgent,
    RuntimeDies,
    RuntimeReturns,
    HandsFail,
    HandsWork,
    /// etcd starts on other data than those on record.
    OtherData(WrongDataKind),
    /// It starts on the data on record.
    RightData,
    Wait(u64),
}

pub(super) fn deed() -> impl Strategy<Value = Deed> {
    let who = 0..FOUR.len();
    let what = prop::sample::select(vec!["", "--v=3", "--v=4", "--crash", "--unready", "--sour=60"]);
    prop_oneof![
        4 => (who.clone(), what).prop_map(|(who, what)| Deed::Write(who, what)),
        2 => who.clone().prop_map(Deed::Tear),
        2 => who.clone().prop_map(Deed::Intrude),
        1 => who.clone().prop_map(Deed::Delete),
        1 => Just(Deed::Pause),
        2 => Just(Deed::Resume),
        1 => who.clone().prop_map(Deed::RollBack),
        1 => who.clone().prop_map(Deed::Pin),
        1 => who.clone().prop_map(Deed::Unpin),
        1 => who.prop_map(Deed::Quarantine),
        1 => Just(Deed::KillAgent),
        1 => Just(Deed::RuntimeDies),
        2 => Just(Deed::RuntimeReturns),
        1 => Just(Deed::HandsFail),
        2 => Just(Deed::HandsWork),
        8 => (1u64..90).prop_map(Deed::Wait),
    ]
}

fn carry_out(world: &mut World, deed: &Deed) {
    match deed {
        Deed::Write(who, what) => world.write(&format!("{}.yaml", FOUR[*who]), &manifest(FOUR[*who], what)),
        Deed::Tear(who) => world.write(&format!("{}.yaml", FOUR[*who]), "apiVersion: ["),
        Deed::Intrude(who) => world.write(&format!("{}.yaml~", FOUR[*who]), &manifest(FOUR[*who], "--v=9")),
        Deed::Delete(who) => world.remove(&format!("{}.yaml", FOUR[*who]), Gone::Deleted),
        Deed::Pause => drop(world.ask(&Request::Pause { seconds: 900, reason: String::new() })),
        Deed::Resume => drop(world.ask(&Request::Resume { component: None })),
        Deed::RollBack(who) => drop(world.ask(&Request::Rollback { component: id(FOUR[*who]), to: None })),
        Deed::Pin(who) => {
            let request = Request::Pin { component: id(FOUR[*who]), number: None, reason: String::new() };
            drop(world.ask(&request));
        }
        Deed::Unpin(who) => drop(world.ask(&Request::Unpin { component: id(FOUR[*who]) })),
        Deed::Quarantine(who) => {
            let request = Request::Quarantine { component: id(FOUR[*who]), number: None, reason: String::new() };
            drop(world.ask(&request));
        }
        Deed::KillAgent => world.restart_agent(),
        Deed::RuntimeDies => world.runtime_dead = Some(Symptom::new(SymptomKind::Refused, "gone")),
        Deed::RuntimeReturns => world.runtime_dead = None,
        Deed::HandsFail => world.hands_fail = true,
        Deed::HandsWork => world.hands_fail = false,
        Deed::OtherData(kind) => wrong_data::serves(world, *kind),
        Deed::RightData => wrong_data::serves_the_record(world),
        Deed::Wait(_) => {}
    }
}

/// What one pass did.
pub(super) struct Passed<'a> {
    /// The memory before it.
    pub(super) before: &'a Memory,
    /// The node after it.
    pub(super) world: &'a World,
    /// The steps it took.
    pub(super) steps: &'a [Step],
}

/// Has a sequence happen, and every pass of it looked at.
pub(super) fn play(world: &mut World, deeds: &[Deed], mut look: impl FnMut(Passed<'_>)) {
    for deed in deeds {
        carry_out(world, deed);
        let wait = if let Deed::Wait(seconds) = deed { *seconds } else { 1 };
        for _ in 0..wait {
            let (from, before) = (world.steps.len(), world.memory.clone());
            world.run(1);
            look(Passed { before: &before, world, steps: &world.steps[from..] });
        }
    }
}

/// proptest's own settings, with so many cases where PROPTEST_CASES says nothing: a long run raises it.
pub(super) fn with_cases(cases: u32) -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { usual.cases } else { cases };
    ProptestConfig { cases, ..usual }
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 400, ..with_cases(20) })]

    #[test]
    fn whatever_happens_all_serve_again_when_the_faults_are_gone(deeds in prop::collection::vec(deed(), 1..40)) {
        let mut world = World::adopted();
        play(&mut world, &deeds, |_| {});
        // In the end, with every fault gone and the operator's help, all four serve.
        world.runtime_dead = None;
        world.hands_fail = false;
        world.files.retain(|name, _| !name.ends_with('~'));
        drop(world.ask(&Request::Resume { component: None }));
        for name in FOUR {
            world.write(&format!("{name}.yaml"), &manifest(name, "--v=5"));
        }
        let all = |w: &World| FOUR.iter().all(|name| matches!(w.state(name), ComponentState::Steady { .. }) && w.serves(name));
        world.until(3000, "all four serve", all);
        // A slot is never left empty.
        prop_assert_eq!(world.files.len(), FOUR.len());
    }
}
