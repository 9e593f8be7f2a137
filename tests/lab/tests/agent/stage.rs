//! The common base of the agent's tests.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use lastgood_lab::manifests::Component;
use lastgood_lab::node::demo::QUICK;
use lastgood_lab::node::{Node, Writing};
use serde_json::Value;
use tokio::time::sleep;

/// Between two looks at what nothing announces.
const LOOK: Duration = Duration::from_millis(50);

/// The longest any recovery takes on a compressed node, on a busy machine.
pub(crate) const SOON: Duration = Duration::from_secs(60);

/// What is written before and read after everything.
const KEY: &str = "/lab/kept";

/// How often something is done again that has another moment or another fault each time: `few`, or `all` with
/// `LASTGOOD_EVERY_POINT=1`, which a run over night sets.
pub(crate) fn rounds(few: u32, all: u32) -> u32 {
    if every_point() { all } else { few }
}

/// Whether this is a run of everything (LASTGOOD_EVERY_POINT=1).
pub(crate) fn every_point() -> bool {
    std::env::var_os("LASTGOOD_EVERY_POINT").is_some()
}

/// A node with an agent that has adopted it.
pub(crate) struct Stage {
    pub(crate) node: Node,
}

impl Stage {
    /// A compressed node, adopted with the demonstration's short waits.
    pub(crate) async fn adopted() -> Result<Self> {
        Self::with(QUICK).await
    }

    /// The same with more configuration, which must not repeat a key of the demonstration's.
    pub(crate) async fn with(config: &str) -> Result<Self> {
        let stage = Self::fresh(config).await?;
        for component in Component::ALL {
            stage.steady_on(component, 1).await.context("it was not adopted")?;
        }
        Ok(stage)
    }

    /// The same with an agent that has only just been started.
    pub(crate) async fn fresh(config: &str) -> Result<Self> {
        let node = Node::builder().scale(0.1).start().await?;
        node.up().await?;
        node.put_data(KEY, "written before").await?;
        let mut stage = Self { node };
        stage.node.spawn_agent(config).await?;
        Ok(stage)
    }

    /// `lastgood status -o json`.
    pub(crate) async fn status(&self) -> Result<Value> {
        let said = self.node.lastgood(&["status", "-o", "json"]).await?;
        serde_json::from_str(&said.stdout)
            .with_context(|| format!("status: exit code {}, {}{}", said.code, said.stdout, said.stderr))
    }

    /// One component of the status.
    pub(crate) async fn component(&self, component: Component) -> Result<Value> {
        let status = self.status().await?;
        let all = status["components"].as_array().context("a status without components")?;
        let named = |c: &&Value| c["component"] == component.name() || c["name"] == component.name();
        all.iter().find(named).cloned().with_context(|| format!("{component} is not in {status}"))
    }

    /// A component's state, in the words of the status: Steady, Probation, Held …
    pub(crate) async fn state(&self, component: Component) -> Result<String> {
        let found = self.component(component).await?;
        Ok(found["state"].as_str().unwrap_or_default().to_lowercase())
    }

    /// Waits until something holds of a component's status.
    pub(crate) async fn until(
        &self,
        component: Component,
        what: &str,
        holds: impl Fn(&Value) -> bool,
    ) -> Result<Value> {
        let began = Instant::now();
        loop {
            let last = self.component(component).await;
            match last {
                Ok(found) if holds(&found) => return Ok(found),
                _ if began.elapsed() < SOON => sleep(LOOK).await,
                Ok(found) => bail!("{component}: not within {SOON:?}: {what}\n{found}\n{}", self.story()),
                Err(error) => bail!("{component}: not within {SOON:?}: {what}\n{error}\n{}", self.story()),
            }
        }
    }

    /// Waits until a component is steady on a generation.
    pub(crate) async fn steady_on(&self, component: Component, generation: u64) -> Result<()> {
        let holds = |c: &Value| {
            c["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("steady"))
                && c["generation"] == generation
        };
        self.until(component, &format!("steady on generation {generation}"), holds).await.map(drop)
    }

    /// Waits until a component is in a state.
    pub(crate) async fn in_state(&self, component: Component, state: &str) -> Result<Value> {
        let holds = |c: &Value| c["state"].as_str().is_some_and(|found| found.eq_ignore_ascii_case(state));
        self.until(component, state, holds).await
    }

    /// Waits until the agent has said something, in its journal so far or from now on.
    pub(crate) async fn told(&self, words: &str) -> Result<()> {
        let began = Instant::now();
        while !self.story().contains(words) {
            ensure!(began.elapsed() < SOON, "it did not say {words:?}:\n{}", self.story());
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// The agent's journal.
    pub(crate) fn story(&self) -> String {
        self.node.agent().log()
    }

    /// The manifest that stands.
    pub(crate) fn manifest(&self, component: Component) -> Result<String> {
        self.node.manifest_text(&component.file())
    }

    /// Adds a line to a component's command.
    pub(crate) fn add_flag(&self, component: Component, flag: &str) -> Result<String> {
        let command = format!("- {}\n", component.name());
        let with = format!("{command}    - {flag}\n");
        self.node.edit_manifest(&component.file(), |text| text.replacen(&command, &with, 1))
    }

    /// Waits until a manifest is what it was, and says how long that took.
    pub(crate) async fn back(&self, component: Component, good: &str) -> Result<Duration> {
        let began = Instant::now();
        while !self.manifest(component).is_ok_and(|text| text == good) {
            ensure!(began.elapsed() < SOON, "{} did not come back:\n{}", component.file(), self.story());
            sleep(LOOK).await;
        }
        Ok(began.elapsed())
    }

    /// Waits until all four serve.
    pub(crate) async fn all_serve(&self) -> Result<()> {
        for component in Component::ALL {
            self.node.await_serving(component, SOON).await.with_context(|| self.story())?;
        }
        Ok(())
    }

    /// The names in the manifest directory, dot files included.
    pub(crate) fn names(&self) -> Result<Vec<String>> {
        let dir = self.node.path("/etc/kubernetes/manifests");
        let entries = std::fs::read_dir(&dir).with_context(|| dir.display().to_string())?;
        let mut names: Vec<String> =
            entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
        names.sort();
        Ok(names)
    }

    /// The end of every test: the data is there, nothing lies about, and an agent that starts anew finds the same.
    pub(crate) async fn the_same_after_a_restart(self) -> Result<()> {
        self.all_serve().await?;
        self.ends_alike().await
    }

    /// The same where not everything is meant to serve.
    pub(crate) async fn ends_alike(self) -> Result<()> {
        ensure!(self.node.get_data(KEY).await?.as_deref() == Some("written before"), "what was written before is gone");
        let mut before = Vec::new();
        for component in Component::ALL {
            // What serves again is seen from outside a moment before the agent ends its replacement.
            let ended = |c: &Value| !c["state"].as_str().is_some_and(|state| state.eq_ignore_ascii_case("rollingback"));
            let found = self.until(component, "no longer being replaced", ended).await?;
            before.push((component, found["state"].clone(), found["generation"].clone()));
        }
        let names = self.names()?;
        let strays: Vec<&String> = names.iter().filter(|name| name.starts_with('.')).collect();
        ensure!(strays.is_empty(), "left behind in the manifest directory: {strays:?}");
        let manifests: Vec<Option<String>> = Component::ALL.iter().map(|c| self.manifest(*c).ok()).collect();
        self.node.agent().restart().await?;
        for (component, state, generation) in before {
            let holds = |c: &Value| c["state"] == state && c["generation"] == generation;
            self.until(component, &format!("{state} on {generation} as before the restart"), holds).await?;
        }
        ensure!(self.names()? == names, "the restart changed what lies in the manifest directory: {:?}", self.names()?);
        let after: Vec<Option<String>> = Component::ALL.iter().map(|c| self.manifest(*c).ok()).collect();
        ensure!(after == manifests, "the restart changed a manifest");
        Ok(())
    }

    /// Writes a manifest as a person with an editor would.
    pub(crate) fn write(&self, name: &str, text: &str) -> Result<()> {
        self.node.write_manifest(name, text, Writing::Plain)
    }
}
