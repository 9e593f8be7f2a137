//! Sockets inside the node's network, for a process outside: a thread steps into the network namespace, connects, and
//! hands the socket out; a socket stays in the namespace it was made in.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A network namespace that one can dial into.
#[derive(Debug, Clone)]
pub struct Network {
    namespace: Arc<File>,
}

impl Network {
    /// That of a process.
    ///
    /// # Errors
    /// When there is no such process.
    pub fn of(pid: i32) -> Result<Self> {
        let path = format!("/proc/{pid}/ns/net");
        let file = File::open(&path).with_context(|| format!("cannot open {path}: is the node down?"))?;
        Ok(Self { namespace: Arc::new(file) })
    }

    /// A connection to a port on the node's 127.0.0.1.
    ///
    /// # Errors
    /// When nobody listens, or nothing answers within `limit`.
    pub async fn connect(&self, port: u16, limit: Duration) -> Result<tokio::net::TcpStream> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let stream = self
            .inside(move || {
                let stream = TcpStream::connect_timeout(&address, limit)
                    .with_context(|| format!("cannot connect to {address} in the node"))?;
                stream.set_nonblocking(true)?;
                Ok(stream)
            })
            .await?;
        Ok(tokio::net::TcpStream::from_std(stream)?)
    }

    /// Runs `work` in the namespace. The thread is used once: another task on it would be in the wrong network.
    async fn inside<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let namespace = Arc::clone(&self.namespace);
        let (tell, told) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let result = setns(&*namespace, CloneFlags::CLONE_NEWNET)
                .context("cannot enter the node's network namespace")
                .and_then(|()| work());
            // Nobody may wait any more; then the result is nobody's.
            let _ = tell.send(result);
        });
        match told.await {
            Ok(result) => result,
            Err(_) => bail!("the thread in the node's network namespace ended early"),
        }
    }
}
