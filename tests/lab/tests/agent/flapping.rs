//! Faults that come and go: a bounded number of actions, then the component is held until the operator releases it.
//!
//! ```text
//!   broken as soon as it serves ─▶ action ─▶ serves ─▶ broken … ─▶ Held ─▶ broken and fixed again and again: no action
//!                                    │ after the second: the agent is killed                         │
//!                                    └▶ its budget is unchanged             `lastgood resume` ─▶ serves, steady
//! ```
//!
//! Every 10 s for an hour is, on a node with a tenth of the usual waits, every second for six minutes. A fault of one
//! second is over before it can be proven, and causes no action; so each fault lasts until lastgood acts on it, and
//! returns at the first tick at which the component serves: no schedule could waste more actions. This continues until
//! the component is held, and then for a while more. The hour of the budget is not compressed, so none of it is
//! given back meanwhile. The observer of `random` counts the actions, from the directory and containerd's log.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use lastgood_lab::manifests::Component;
use tokio::time::sleep;

use crate::random::breakable;
use crate::random::faults::{Breaker, Fault};
use crate::stage::{SOON, every_point, rounds};

/// Ten seconds, at a tenth.
const TICK: Duration = Duration::from_secs(1);

/// So many faults of one tick move nothing.
fn short() -> u32 {
    rounds(4, 8)
}

/// A hang is proven by two questions of which neither is answered within its 2 s, and then left for a second.
const PROVABLE: Duration = Duration::from_secs(3);

/// After this long a person mends what nobody has acted upon.
const UNMENDED: Duration = Duration::from_secs(20);

/// How long the fault comes and goes where it is held: five minutes, at a tenth; half of it in a short run.
fn held_for() -> Duration {
    Duration::from_secs(rounds(15, 30).into())
}

/// The longest any of this takes on a busy machine.
const LONG: Duration = Duration::from_secs(240);

/// The actions of an hour, by the agent's own defaults.
const ACTIONS: usize = 4;

/// The kubelet's restarts of an hour, by the same.
const KUBELET_RESTARTS: usize = 2;

/// How much was done to a component.
fn done(breaker: &Breaker, component: Component) -> usize {
    let deeds = breaker.outside.deeds(component);
    deeds.arrivals.len() + deeds.stops.len()
}

/// One component's fault, and what mends it.
struct Flap {
    component: Component,
    /// By the number of the tick: a bad flag is another one each time.
    breaks: fn(u64) -> Fault,
    mends: fn(&Breaker) -> Fault,
}

/// Breaks if it serves; mends if it has been broken for long. True if it was broken.
async fn toggle(breaker: &Breaker, flap: &Flap, tick: u64, broken: &mut Option<Instant>) -> Result<bool> {
    let serves = {
        let stage = breaker.stage.read().await;
        let text = stage.manifest(flap.component).unwrap_or_default();
        stage.node.serving(flap.component).await.is_ok() && breaker.outside.is_good(flap.component, &text)
    };
    if serves {
        *broken = Some(Instant::now());
        breaker.inflict((flap.breaks)(tick)).await?;
        return Ok(true);
    }
    if broken.is_some_and(|since| since.elapsed() > UNMENDED) {
        *broken = None;
        mend(breaker, flap, tick).await?;
    }
    Ok(false)
}

async fn mend(breaker: &Breaker, flap: &Flap, tick: u64) -> Result<()> {
    breaker.cure((flap.breaks)(tick)).await?;
    breaker.inflict((flap.mends)(breaker)).await
}

/// The whole of it for one fault.
async fn flaps(breaker: &Breaker, flap: &Flap) -> Result<()> {
    let component = flap.component;
    let began = Instant::now();
    let (mut tick, mut broken, mut killed) = (0, None, false);
    let held = loop {
        tick += 1;
        toggle(breaker, flap, tick, &mut broken).await?;
        sleep(TICK).await;
        let so_far = done(breaker, component);
        ensure!(so_far <= ACTIONS, "{component}: {so_far} actions\n{}", breaker.outside.seen());
        if so_far >= 2 && !killed {
            killed = true;
            let stage = breaker.stage.read().await;
            stage.node.agent().kill().await?;
            stage.node.agent().start().await?;
        }
        // Between a kill and a start the command line tells what the disk says.
        let found = breaker.stage.read().await.component(component).await?;
        if found["state"] == "Held" {
            break found;
        }
        ensure!(began.elapsed() < LONG, "{component} is not held:\n{}", breaker.stage.read().await.story());
    };
    let story = breaker.stage.read().await.story();
    let so_far = done(breaker, component);
    ensure!(so_far == ACTIONS, "{component}: held after {so_far} actions: {held}\n{}\n{story}", breaker.outside.seen());
    ensure!(killed, "{component}: the agent was never killed");
    let resume = format!("`lastgood resume {component}`");
    let next_step = held["held"]["next_step"].as_str().unwrap_or_default();
    ensure!(next_step.contains(&resume), "{component} is held without {resume} as its next step: {held}");
    let explained = breaker.stage.read().await.node.lastgood(&["explain", component.name()]).await?.stdout;
    ensure!(explained.contains(&resume), "explain does not say what to do:\n{explained}");

    // Whatever it does now, nothing is done.
    let (began, mut times) = (Instant::now(), 0);
    while began.elapsed() < held_for() || times < 2 && began.elapsed() < SOON {
        tick += 1;
        times += u32::from(toggle(breaker, flap, tick, &mut broken).await?);
        if broken.is_some_and(|since| since.elapsed() > 4 * TICK) {
            broken = None;
            mend(breaker, flap, tick).await?;
        }
        sleep(TICK).await;
    }
    ensure!(times >= 2, "{component}: broken {times} times while it was held: nothing was shown");
    let after = done(breaker, component);
    ensure!(after == ACTIONS, "{component}: {after} actions in the end\n{}", breaker.outside.seen());

    // A person mends the cause, and releases it.
    mend(breaker, flap, tick).await?;
    breaker.resume(Some(component)).await?;
    let stage = breaker.stage.read().await;
    stage.node.await_serving(component, SOON).await.with_context(|| stage.story())?;
    stage.in_state(component, "Steady").await?;
    drop(stage);
    // And it acts again.
    breaker.inflict((flap.breaks)(tick + 1)).await?;
    let began = Instant::now();
    while done(breaker, component) == 0 {
        ensure!(
            began.elapsed() < SOON,
            "{component}: released, and nothing is done:\n{}",
            breaker.stage.read().await.story()
        );
        sleep(TICK).await;
    }
    mend(breaker, flap, tick + 1).await?;
    let stage = breaker.stage.read().await;
    stage.all_serve().await?;
    stage.in_state(component, "Steady").await?;
    breaker.outside.nothing_broken()
}

/// Ends like every test.
async fn ends(breaker: Breaker) -> Result<()> {
    let Breaker { stage, outside, disks, .. } = breaker;
    outside.nothing_broken()?;
    outside.end(&stage).await?;
    let stage = std::sync::Arc::into_inner(stage).context("somebody still looks")?.into_inner();
    let ended = stage.the_same_after_a_restart().await;
    drop(disks);
    ended
}

fn nothing(_: &Breaker) -> Fault {
    Fault::Quiet
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n23_hangs_that_come_and_go_meet_bounded_restarts_and_then_a_person() -> Result<()> {
    let breaker = breakable().await?;
    // Shorter than anybody could prove: nothing is done.
    for component in [Component::Scheduler, Component::ApiServer, Component::Etcd] {
        for _ in 0..short() {
            let began = Instant::now();
            breaker.inflict(Fault::Hung(component)).await?;
            sleep(TICK).await;
            breaker.cure(Fault::Hung(component)).await?;
            // On a busy machine even that takes longer, and is a fault that lasts.
            let lasted = began.elapsed();
            let (before, short) = (done(&breaker, component), lasted < PROVABLE);
            sleep(TICK).await;
            ensure!(
                before == 0 || !short,
                "{component}: hung for {lasted:?} and acted upon\n{}",
                breaker.outside.seen()
            );
            if !short {
                println!("{component}: a hang of {TICK:?} took {lasted:?}: nothing is shown by it");
                break;
            }
        }
        breaker.stage.read().await.all_serve().await?;
        breaker.outside.forgives(component);
    }
    let fresh = breaker.stage.read().await.story().matches("restarting its container").count() == 0;
    ensure!(fresh, "a machine too busy for this: what is counted below began before");
    let flap = |component, breaks| Flap { component, breaks, mends: nothing };
    if every_point() {
        flaps(&breaker, &flap(Component::Scheduler, |_| Fault::Hung(Component::Scheduler))).await?;
    }
    flaps(&breaker, &flap(Component::Etcd, |_| Fault::Hung(Component::Etcd))).await?;
    ends(breaker).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n23_manifests_that_break_and_go_over_and_over_meet_bounded_writes_and_then_a_person() -> Result<()> {
    let breaker = breakable().await?;
    let flag = Flap {
        component: Component::Scheduler,
        breaks: |tick| Fault::BadFlag(Component::Scheduler, 100 + tick),
        mends: |_| Fault::WrittenBack(Component::Scheduler),
    };
    let gone = Flap {
        component: Component::ControllerManager,
        breaks: |_| Fault::Deleted(Component::ControllerManager),
        mends: |_| Fault::WrittenBack(Component::ControllerManager),
    };
    flaps(&breaker, &flag).await?;
    if every_point() {
        flaps(&breaker, &gone).await?;
    }
    ends(breaker).await
}

/// How often the kubelet was started, by its own log.
async fn kubelet_starts(breaker: &Breaker) -> usize {
    breaker.stage.read().await.node.kubelet().log().matches("kubelet stand-in starts").count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n23_a_kubelet_that_hangs_again_and_again_and_an_etcd_that_is_cut_off() -> Result<()> {
    let breaker = breakable().await?;
    let before = kubelet_starts(&breaker).await;
    // It hangs again as soon as it answers; the agent is killed in the middle.
    let (began, mut starts) = (Instant::now(), before);
    breaker.inflict(Fault::KubeletUnwell).await?;
    loop {
        let now = kubelet_starts(&breaker).await;
        ensure!(now - before <= KUBELET_RESTARTS, "{} restarts of the kubelet", now - before);
        if now > starts {
            starts = now;
            sleep(2 * TICK).await;
            breaker.inflict(Fault::KubeletUnwell).await?;
            if now - before == 1 {
                breaker.inflict(Fault::AgentKilled).await?;
                breaker.cure(Fault::AgentKilled).await?;
            }
        }
        let stage = breaker.stage.read().await;
        let told = stage.story().contains("the kubelet is not restarted: the limit of 2 restarts per hour is reached");
        drop(stage);
        if told {
            break;
        }
        // A switch that was told between two lives of the kubelet is told again.
        breaker.inflict(Fault::KubeletUnwell).await?;
        ensure!(began.elapsed() < LONG, "not told:\n{}", breaker.stage.read().await.story());
        sleep(TICK).await;
    }
    ensure!(kubelet_starts(&breaker).await - before == KUBELET_RESTARTS, "not so many restarts as the limit allows");
    for _ in 0..short() {
        breaker.cure(Fault::KubeletUnwell).await?;
        sleep(TICK).await;
        breaker.inflict(Fault::KubeletUnwell).await?;
        sleep(4 * TICK).await;
    }
    ensure!(kubelet_starts(&breaker).await - before == KUBELET_RESTARTS, "restarted beyond the limit");
    let began = Instant::now();
    for words in ["restart kubelet` does it", "`lastgood resume` permits it again"] {
        loop {
            let notices = breaker.stage.read().await.status().await?["notices"].to_string();
            if notices.contains(words) {
                break;
            }
            ensure!(began.elapsed() < SOON, "{words:?} is not told: {notices}");
            sleep(TICK).await;
        }
    }
    breaker.resume(None).await?;
    let began = Instant::now();
    while kubelet_starts(&breaker).await - before == KUBELET_RESTARTS {
        ensure!(began.elapsed() < SOON, "released, and not restarted:\n{}", breaker.stage.read().await.story());
        sleep(TICK).await;
    }
    breaker.stage.read().await.all_serve().await?;

    // Nobody's question reaches etcd, again and again, while it does well: whatever is made of that, it is bounded.
    let stage = breaker.stage.read().await;
    // A rule of ours comes before the table of the node's own addresses only once that has made room.
    stage.node.sh("ip rule add pref 10 lookup local && ip rule del pref 0").await?;
    drop(stage);
    let (cut, join) = ("ip rule add pref 5 ipproto tcp dport 2379 blackhole", "ip rule del pref 5");
    let (few, all) = ([1, 4, 12, 12], [1, 1, 1, 1, 4, 4, 4, 12, 12, 12, 12, 12]);
    for &seconds in if every_point() { &all[..] } else { &few[..] } {
        breaker.stage.read().await.node.sh(cut).await?;
        sleep(Duration::from_secs(seconds)).await;
        breaker.stage.read().await.node.sh(join).await?;
        sleep(Duration::from_secs(seconds.min(4))).await;
        for component in Component::ALL {
            let so_far = done(&breaker, component);
            ensure!(so_far <= ACTIONS, "{component}: {so_far} actions\n{}", breaker.outside.seen());
        }
    }
    let story = breaker.stage.read().await.story();
    ensure!(!story.contains("RollingBack"), "nothing was changed, and something was rolled back:\n{story}");
    for component in Component::ALL {
        if breaker.stage.read().await.component(component).await?["state"] == "Held" {
            breaker.resume(Some(component)).await?;
        }
    }
    let stage = breaker.stage.read().await;
    stage.all_serve().await?;
    for component in Component::ALL {
        stage.in_state(component, "Steady").await?;
    }
    drop(stage);
    ends(breaker).await
}
