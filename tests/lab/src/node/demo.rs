//! Three faults, with the agent running, and the time of each stage.
//!
//! ```text
//! up ─▶ agent ─▶ adopted ─▶ break ─▶ (down) ─▶ good file back ─▶ serving ─▶ break the next … ─▶ agent restarted, steady
//! ```
//!
//! All knowledge of the agent's output is in [`Face`].

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::Value;
use tokio::time::sleep;

use super::{LOOK_AGAIN, Node, Writing};
use crate::manifests::{Component, EtcdVersion};

/// A breakage to play.
struct Breakage {
    title: &'static str,
    component: Component,
    deed: Deed,
}

/// What is done to the component's manifest.
enum Deed {
    /// A flag the program does not know, as a typing mistake would be.
    UnknownFlag,
    /// The file holds something that is no manifest.
    Garbage,
    /// The file is gone.
    Delete,
}

const BREAKAGES: [Breakage; 3] = [
    Breakage {
        title: "kube-apiserver gets a flag that it does not know",
        component: Component::ApiServer,
        deed: Deed::UnknownFlag,
    },
    Breakage { title: "etcd's manifest is replaced by garbage", component: Component::Etcd, deed: Deed::Garbage },
    Breakage { title: "kube-scheduler's manifest is deleted", component: Component::Scheduler, deed: Deed::Delete },
];

/// The agent's configuration for a demonstration: the waits of the defaults are for production.
pub const QUICK: &str = include_str!("quick.toml");

/// True-to-life time that one recovery may take: the deleted manifest's announced grace of a minute, the API server's
/// 30 s of saying goodbye, the kubelet's 15 s of parking, and the start-up probes behind it.
const RECOVERY: Duration = Duration::from_secs(240);

/// Plays all three on a fresh node.
///
/// # Errors
/// When the node does not come up, the agent does not adopt it, or one breakage is not recovered from.
pub async fn play(scale: f64, etcd: EtcdVersion) -> Result<()> {
    let clock = Instant::now();
    let say = |what: &str| println!("{:7.1}s  {what}", clock.elapsed().as_secs_f64());
    let mut node = Node::builder().scale(scale).etcd(etcd).start().await?;
    node.up().await?;
    say(&format!(
        "{} is up: etcd {}, Kubernetes {}",
        node.name(),
        node.cluster().etcd_release,
        node.cluster().kubernetes
    ));
    node.spawn_agent(QUICK).await?;
    let face = Face { node: &node };
    face.await_steady(node.within(RECOVERY)).await.context("the agent did not adopt the control plane")?;
    say("lastgood has adopted it as known-good");

    for breakage in &BREAKAGES {
        println!();
        say(&format!("=== {}", breakage.title));
        let good = node.manifest_text(&breakage.component.file())?;
        let broken = Instant::now();
        breakage.apply(&node)?;
        let back = returned(&node, breakage.component, &good).await.context("the good manifest did not come back")?;
        say(&format!("good manifest back in place after {:.1} s", (back - broken).as_secs_f64()));
        for component in Component::ALL {
            node.await_serving(component, node.within(RECOVERY)).await?;
        }
        say(&format!("everything serves again after {:.1} s", broken.elapsed().as_secs_f64()));
        face.await_steady(node.within(RECOVERY)).await?;
        say("steady again");
    }

    println!();
    node.agent().restart().await?;
    face.await_steady(node.within(RECOVERY)).await.context("the agent does not find its way back after a restart")?;
    say("the agent was restarted and finds the same");
    println!("\n{} breakages, {} recovered", BREAKAGES.len(), BREAKAGES.len());
    Ok(())
}

/// Waits until the agent of a node calls every component steady.
///
/// # Errors
/// When it does not in time: which one, and the agent's last lines.
pub async fn await_steady(node: &Node, limit: Duration) -> Result<()> {
    Face { node }.await_steady(limit).await
}

impl Breakage {
    fn apply(&self, node: &Node) -> Result<()> {
        let file = self.component.file();
        match self.deed {
            Deed::UnknownFlag => {
                let command = format!("- {}\n", self.component);
                let with_flag = format!("{command}    - --no-such-flag=1\n");
                node.edit_manifest(&file, |text| text.replacen(&command, &with_flag, 1)).map(drop)
            }
            Deed::Garbage => node.write_manifest(&file, "this is {{ no manifest\n", Writing::Plain),
            Deed::Delete => node.remove_manifest(&file),
        }
    }
}

/// When the file holds what it held.
async fn returned(node: &Node, component: Component, good: &str) -> Result<Instant> {
    let limit = node.within(RECOVERY);
    let began = Instant::now();
    loop {
        if node.manifest_text(&component.file()).is_ok_and(|text| text == good) {
            return Ok(Instant::now());
        }
        if began.elapsed() > limit {
            bail!("{} is still not what it was after {limit:?}", component.file());
        }
        sleep(LOOK_AGAIN).await;
    }
}

/// The agent as its users see it: `lastgood status -o json`.
struct Face<'a> {
    node: &'a Node,
}

impl Face<'_> {
    /// Waits until the agent calls every component of the node steady.
    async fn await_steady(&self, limit: Duration) -> Result<()> {
        let began = Instant::now();
        loop {
            let why = match self.status().await {
                Ok(status) => match unsteady(&status) {
                    None => return Ok(()),
                    Some(why) => why,
                },
                Err(e) => format!("{e:#}"),
            };
            if began.elapsed() > limit {
                let log = self.node.agent().log();
                let lines: Vec<_> = log.lines().collect();
                let tail = lines[lines.len().saturating_sub(15)..].join("\n");
                bail!("not steady after {limit:?}: {why}\nthe agent's last lines:\n{tail}");
            }
            sleep(LOOK_AGAIN * 4).await;
        }
    }

    async fn status(&self) -> Result<Value> {
        let said = self.node.lastgood(&["status", "-o", "json"]).await?;
        // A status that is not all well may have an exit code that says so; the text is what counts.
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("lastgood status -o json: exit code {}, {}", said.code, said.stderr.trim()))
    }
}

/// The first component that is not steady, with what the status says of it.
fn unsteady(status: &Value) -> Option<String> {
    let Some(components) = status.get("components").and_then(Value::as_array) else {
        return Some(format!("the status has no components: {status}"));
    };
    for component in Component::ALL {
        let of = |c: &&Value| {
            let name = c.get("name").or_else(|| c.get("component")).and_then(Value::as_str).unwrap_or_default();
            name.rsplit('/').next() == Some(component.name())
        };
        let Some(found) = components.iter().find(of) else {
            return Some(format!("{component} is not in the status"));
        };
        let state = found.get("state").and_then(Value::as_str);
        if state.is_none_or(|state| !state.eq_ignore_ascii_case("steady")) {
            return Some(format!("{component}: {found}"));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_status_is_steady_when_each_component_is() {
        let status = |scheduler: &str| {
            let mut all: Vec<_> =
                Component::ALL.iter().map(|c| json!({"name": format!("kube-system/{c}"), "state": "steady"})).collect();
            all[3]["state"] = json!(scheduler);
            json!({ "components": all })
        };
        assert_eq!(unsteady(&status("steady")), None);
        assert!(unsteady(&status("probation")).expect("not steady").starts_with("kube-scheduler"));
        assert!(unsteady(&json!({"components": []})).expect("not steady").contains("etcd is not in the status"));
    }
}
