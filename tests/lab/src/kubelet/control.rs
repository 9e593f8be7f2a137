//! The lab's handle on a running kubelet: the abstract Unix socket `@lab/kubelet` of its network namespace. One command a
//! line, one answer a line.
//!
//! | command | effect |
//! |---|---|
//! | `ignore-manifests on` / `off` | neither events nor scans are looked at, until `off` |
//! | `healthz ok` / `fail` / `hang` | what 10248 says |
//! | `status` | the switches as they stand |

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener as StdListener};

use anyhow::{Context, Result};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tracing::info;

use super::server::Health;
use super::source::Attention;

/// The socket's name, without the leading zero byte.
pub const NAME: &str = "lab/kubelet";

/// The switches.
#[derive(Debug, Clone)]
pub struct Switches {
    /// Whether the manifest directory counts.
    pub attention: watch::Sender<Attention>,
    /// What /healthz says.
    pub health: watch::Sender<Health>,
}

impl Default for Switches {
    fn default() -> Self {
        Self { attention: watch::Sender::new(Attention::Attentive), health: watch::Sender::new(Health::Honest) }
    }
}

impl Switches {
    /// Does what a line says; the answer is `ok …` or `error …`.
    pub fn obey(&self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words[..] {
            ["ignore-manifests", "on"] => drop(self.attention.send_replace(Attention::Ignoring)),
            ["ignore-manifests", "off"] => drop(self.attention.send_replace(Attention::Attentive)),
            ["healthz", "ok"] => drop(self.health.send_replace(Health::Honest)),
            ["healthz", "fail"] => drop(self.health.send_replace(Health::Failing)),
            ["healthz", "hang"] => drop(self.health.send_replace(Health::Hanging)),
            ["status"] => {}
            _ => return "error: say ignore-manifests on|off, healthz ok|fail|hang, or status".into(),
        }
        format!("ok manifests={:?} healthz={:?}", *self.attention.borrow(), *self.health.borrow()).to_lowercase()
    }
}

/// Listens for ever.
///
/// # Errors
/// The name is taken: another kubelet runs in this network namespace.
pub fn listen(switches: Switches) -> Result<()> {
    let address = SocketAddr::from_abstract_name(NAME).context("naming the control socket")?;
    let listener = StdListener::bind_addr(&address).with_context(|| format!("binding @{NAME}"))?;
    listener.set_nonblocking(true).context("preparing the control socket")?;
    let listener = UnixListener::from_std(listener).context("preparing the control socket")?;
    tokio::spawn(async move {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                continue;
            };
            tokio::spawn(converse(stream, switches.clone()));
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, switches: Switches) {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        let answer = switches.obey(&line);
        info!(command = line, answer, "control");
        if writer.write_all(format!("{answer}\n").as_bytes()).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_turn_the_switches_and_nonsense_is_answered_with_what_is_known() {
        let switches = Switches::default();
        assert_eq!(switches.obey("ignore-manifests on"), "ok manifests=ignoring healthz=honest");
        assert_eq!(switches.obey(" healthz  hang "), "ok manifests=ignoring healthz=hanging");
        assert!(switches.obey("dance").starts_with("error"));
        assert_eq!(switches.obey("status"), "ok manifests=ignoring healthz=hanging");
    }
}
