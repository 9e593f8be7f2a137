//! The sandbox: a prompt inside a node, with the agent's journal running through it.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::process::Stdio;

use anyhow::{Context, Result};

use super::Node;
use super::place::write;
use super::spec::log;

/// Things to try, with what to look for.
const SUGGESTIONS: [(&str, &str); 5] = [
    (
        "an unknown flag in the API server",
        "sed -i 's/- kube-apiserver$/&\\n    - --no-such-flag/' /etc/kubernetes/manifests/kube-apiserver.yaml",
    ),
    ("garbage for etcd", "echo garbage > /etc/kubernetes/manifests/etcd.yaml"),
    ("no scheduler", "rm /etc/kubernetes/manifests/kube-scheduler.yaml"),
    ("a backup that takes the pod over", "cd /etc/kubernetes/manifests && cp kube-apiserver.yaml kube-apiserver.yaml~"),
    ("a hung API server", "lab tell kube-apiserver hang"),
];

/// Opens a shell in the node and returns when it ends. Without a terminal it waits for the end of its input.
///
/// # Errors
/// When no shell can be started.
pub async fn open(node: &Node, agent: Agent) -> Result<()> {
    write(&node.path("/root/.bashrc"), &startup(agent))?;
    let mut command = node.enter(&["bash", "-i"])?;
    command.env("TERM", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()));
    if !std::io::stdin().is_terminal() {
        // bash -i without a terminal complains about job control and works.
        command.stderr(Stdio::inherit());
    }
    let mut shell = tokio::process::Command::from(command);
    // The prompt takes SIGINT for itself; the lab must outlive it.
    let _interrupts = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt())?;
    shell.status().await.context("cannot open a shell in the node")?;
    Ok(())
}

/// Whether the agent runs in the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Agent {
    /// It does.
    Running,
    /// It does not.
    Absent,
}

fn startup(agent: Agent) -> String {
    let mut text = String::from("PS1='\\h:\\w# '\nalias ll='ls -l'\n");
    let mut say = |line: &str| {
        let _ = writeln!(text, "printf '%s\\n' '{}'", line.replace('\'', "'\\''"));
    };
    say("");
    say(
        "You are root on a Kubernetes master of your own: real etcd and containerd, stand-ins for what is Kubernetes'.",
    );
    say("Leave with exit; nothing of it remains.");
    say("");
    if agent == Agent::Running {
        say("  lastgood status        what the agent thinks");
        say("  lastgood history       what it did, and why");
    }
    say("  ctr -n k8s.io c ls     the containers");
    say("");
    say("Break something:");
    for (what, how) in SUGGESTIONS {
        say(&format!("  # {what}"));
        say(&format!("  {how}"));
    }
    say("");
    if agent == Agent::Running {
        let _ = writeln!(text, "tail -n +1 -F {} 2>/dev/null & disown", log("lastgood"));
        let _ = writeln!(text, "trap 'kill %% 2>/dev/null; kill '$!' 2>/dev/null' EXIT");
    }
    text
}
