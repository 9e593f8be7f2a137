//! The server side of the control socket, in the agent.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{Semaphore, broadcast, mpsc, oneshot};
use tokio::time::timeout;

use super::protocol::{Answer, Call, MAX_ASK_BYTES, read_ask, write_answer};
use super::socket_path;
use crate::config::Settings;
use crate::model::{ComponentId, Event};

/// The most connections at once: the operator, a monitor, and a few that hang.
pub const MAX_CONNECTIONS: usize = 16;
/// From the connection, or the last answer, to a complete line.
pub const READ_DEADLINE: Duration = Duration::from_secs(10);
/// For a client to take an answer.
pub const WRITE_DEADLINE: Duration = Duration::from_secs(10);
/// For the agent to answer: it may be in the middle of a step, the longest of which is a restart of the kubelet (60 s).
pub const ANSWER_DEADLINE: Duration = Duration::from_secs(90);

/// A question on its way to the agent.
#[derive(Debug)]
pub struct Asked {
    /// What is asked. Never [`Call::Follow`]: the server answers that itself.
    pub ask: Call,
    /// Who asks, for the journal.
    pub pid: i32,
    /// Where the answer goes. A client that has gone away is no error.
    pub reply: oneshot::Sender<Answer>,
}

/// The bound socket. Its file goes when this does.
#[derive(Debug)]
pub struct Listener {
    listener: UnixListener,
    path: PathBuf,
    inode: u64,
    allowed: u32,
}

impl Listener {
    /// Binds the socket: a file left by an agent that is gone is replaced, one behind which an agent listens is not.
    ///
    /// # Errors
    /// Names the path, and the process that listens there.
    pub async fn bind(settings: &Settings) -> io::Result<Self> {
        Self::at(&socket_path(settings), 0).await
    }

    async fn at(path: &Path, allowed: u32) -> io::Result<Self> {
        let told =
            |what: &str, error: io::Error| io::Error::new(error.kind(), format!("{what} {}: {error}", path.display()));
        if let Some(dir) = path.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(dir)
                .map_err(|e| told("cannot make the directory of", e))?;
        }
        make_room(path).await?;
        // Bound aside, made private, and moved into place: there is no moment at which another user could connect.
        let aside = path.with_extension("new");
        match std::fs::remove_file(&aside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(told("cannot replace", error)),
            _ => {}
        }
        let listener = UnixListener::bind(&aside).map_err(|e| told("cannot listen on", e))?;
        std::fs::set_permissions(&aside, std::fs::Permissions::from_mode(0o600))
            .and_then(|()| std::fs::rename(&aside, path))
            .map_err(|e| told("cannot put in place", e))?;
        let inode = std::fs::symlink_metadata(path).map_err(|e| told("cannot inspect", e))?.ino();
        Ok(Self { listener, path: path.to_owned(), inode, allowed })
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Another agent's socket may stand there by now.
        if std::fs::symlink_metadata(&self.path).is_ok_and(|meta| meta.ino() == self.inode) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Sees to it that nobody listens at this path.
async fn make_room(path: &Path) -> io::Result<()> {
    use std::os::unix::fs::FileTypeExt as _;
    match std::fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(meta) if !meta.file_type().is_socket() => {
            let what = format!("{} is not a socket: move it away, or set paths.run", path.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
        }
        _ => {}
    }
    match timeout(WRITE_DEADLINE, UnixStream::connect(path)).await {
        Ok(Ok(stream)) => {
            let who = peer(&stream).map_or("a process".to_owned(), |(_, pid)| format!("process {pid}"));
            let what = format!("{who} already listens on {}: only one lastgood runs at a time", path.display());
            Err(io::Error::new(io::ErrorKind::AddrInUse, what))
        }
        // Refused, or gone: the agent that made it is no more.
        _ => Ok(()),
    }
}

/// The user and process at the other end, as the kernel says.
fn peer(stream: &UnixStream) -> io::Result<(u32, i32)> {
    let credentials = getsockopt(stream, PeerCredentials).map_err(io::Error::from)?;
    Ok((credentials.uid(), credentials.pid()))
}

/// Takes connections until the agent no longer listens to `asked`.
///
/// # Errors
/// When the socket no longer accepts, which it does not recover from.
pub async fn serve(listener: Listener, asked: mpsc::Sender<Asked>, events: broadcast::Sender<Event>) -> io::Result<()> {
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let stream = tokio::select! {
            accepted = listener.listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors or memory: both pass. Trying at once would only spin.
                Err(error) if matches!(error.raw_os_error(), Some(23 | 24 | 12 | 105)) => {
                    tracing::warn!(%error, "a connection was not accepted");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
                Err(error) if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::Interrupted) => continue,
                Err(error) => return Err(error),
            },
            () = asked.closed() => return Ok(()),
        };
        let slot = Arc::clone(&slots).try_acquire_owned();
        let (asked, events, allowed) = (asked.clone(), events.clone(), listener.allowed);
        tokio::spawn(async move {
            let Ok(_slot) = slot else {
                let busy = format!("{MAX_CONNECTIONS} connections are open already: close one, or try again later");
                let _ = send(&mut stream.into_split().1, Answer::Failed(busy)).await;
                return;
            };
            if let Err(error) = connection(stream, asked, events, allowed).await {
                tracing::debug!(%error, "a connection ended");
            }
        });
    }
}

/// One connection: questions and answers in turn, until the client closes it or goes silent.
async fn connection(
    stream: UnixStream,
    asked: mpsc::Sender<Asked>,
    events: broadcast::Sender<Event>,
    allowed: u32,
) -> io::Result<()> {
    let (uid, pid) = peer(&stream)?;
    let (read, mut write) = stream.into_split();
    if uid != allowed {
        let refused = format!("only root may send requests, not user {uid} (process {pid}): use sudo");
        return send(&mut write, Answer::Failed(refused)).await;
    }
    let mut read = BufReader::new(read);
    loop {
        let line = match timeout(READ_DEADLINE, read_line(&mut read)).await {
            Err(_) => return send(&mut write, Answer::Failed("no request came in time".to_owned())).await,
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                return send(&mut write, Answer::Failed(error.to_string())).await;
            }
            Ok(line) => line?,
        };
        let Some(line) = line else { return Ok(()) };
        match read_ask(&line) {
            Err(sentence) => return send(&mut write, Answer::Failed(sentence)).await,
            Ok(Call::Follow { component }) => {
                return follow(read, write, events.subscribe(), component).await;
            }
            Ok(ask) => {
                let answer = ask_agent(&asked, ask, pid).await;
                send(&mut write, answer).await?;
            }
        }
    }
}

async fn ask_agent(asked: &mpsc::Sender<Asked>, ask: Call, pid: i32) -> Answer {
    let (reply, answer) = oneshot::channel();
    let question = async {
        asked.send(Asked { ask, pid, reply }).await.map_err(|_| ())?;
        answer.await.map_err(|_| ())
    };
    match timeout(ANSWER_DEADLINE, question).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(())) => Answer::Failed("the agent is stopping: try again when it runs".to_owned()),
        Err(_) => Answer::Failed(format!(
            "the agent did not answer within {} s: `journalctl -u lastgood` shows what it does",
            ANSWER_DEADLINE.as_secs()
        )),
    }
}

/// Tells events until the client closes its end.
async fn follow(
    mut read: BufReader<OwnedReadHalf>,
    mut write: OwnedWriteHalf,
    mut events: broadcast::Receiver<Event>,
    component: Option<ComponentId>,
) -> io::Result<()> {
    send(&mut write, Answer::Following).await?;
    let mut ignored = [0; 256];
    loop {
        let answer = tokio::select! {
            event = events.recv() => match event {
                Ok(event) if component.is_none() || event.component == component => Answer::Event(event),
                Ok(_) => continue,
                Err(RecvError::Lagged(count)) => Answer::Missed(count),
                Err(RecvError::Closed) => return Ok(()),
            },
            got = read.read(&mut ignored) => match got? {
                0 => return Ok(()),
                _ => continue,
            },
        };
        send(&mut write, answer).await?;
    }
}

async fn send(write: &mut OwnedWriteHalf, answer: Answer) -> io::Result<()> {
    let line = write_answer(answer)?;
    timeout(WRITE_DEADLINE, write.write_all(&line)).await.map_err(|_| io::ErrorKind::TimedOut)?
}

/// One line without its line break; absent at the end of the stream. A line without an end is refused before it is kept.
async fn read_line(read: &mut BufReader<OwnedReadHalf>) -> io::Result<Option<Vec<u8>>> {
    let mut line = Vec::new();
    let got = read.take(MAX_ASK_BYTES as u64).read_until(b'\n', &mut line).await?;
    if got == 0 {
        return Ok(None);
    }
    if line.pop() == Some(b'\n') {
        return Ok(Some(line));
    }
    let what = if got == MAX_ASK_BYTES {
        format!("a line is longer than {MAX_ASK_BYTES} bytes")
    } else {
        "the connection ended within a line".to_owned()
    };
    Err(io::Error::new(io::ErrorKind::InvalidData, what))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::protocol::{Execution, read_answer, write_ask};
    use crate::control::{Client, Reach};
    use crate::model::Request;
    use crate::model::event::EventKind;
    use crate::model::plan::Refusal;

    struct Bench {
        dir: tempfile::TempDir,
        settings: Settings,
        events: broadcast::Sender<Event>,
    }

    impl Bench {
        fn path(&self) -> PathBuf {
            self.dir.path().join("lastgood.sock")
        }

        async fn raw(&self) -> BufReader<UnixStream> {
            BufReader::new(UnixStream::connect(self.path()).await.unwrap())
        }

        async fn client(&self) -> Client {
            match Client::connect(&self.settings).await.unwrap() {
                Reach::Running(client) => client,
                Reach::Stopped => panic!("nobody listens"),
            }
        }
    }

    /// An agent that refuses everything, on a socket for this user.
    async fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = Settings::default();
        settings.paths.run = dir.path().to_owned();
        let me = nix::unistd::geteuid().as_raw();
        let listener = Listener::at(&dir.path().join("lastgood.sock"), me).await.unwrap();
        let (tx, mut rx) = mpsc::channel::<Asked>(4);
        let (events, _) = broadcast::channel(4);
        tokio::spawn(serve(listener, tx, events.clone()));
        tokio::spawn(async move {
            while let Some(asked) = rx.recv().await {
                let why = format!("asked by {}", asked.pid);
                let _ = asked.reply.send(Answer::Refused(Refusal::NotActing { why }));
            }
        });
        Bench { dir, settings, events }
    }

    async fn answer(stream: &mut BufReader<UnixStream>) -> Answer {
        let mut line = Vec::new();
        timeout(Duration::from_secs(5), stream.read_until(b'\n', &mut line)).await.unwrap().unwrap();
        read_answer(&line).unwrap()
    }

    #[tokio::test]
    async fn a_request_reaches_the_agent_and_its_answer_comes_back() {
        let bench = bench().await;
        let mut client = bench.client().await;
        let ask = Call::Do { request: Request::Resume { component: None }, how: Execution::ForReal };
        for _ in 0..2 {
            let why = format!("asked by {}", std::process::id());
            assert_eq!(client.ask(&ask).await.unwrap(), Answer::Refused(Refusal::NotActing { why }));
        }
    }

    #[tokio::test]
    async fn never_8_the_socket_is_for_its_owner_alone() {
        let bench = bench().await;
        let meta = std::fs::metadata(bench.path()).unwrap();
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
    }

    #[tokio::test]
    async fn never_8_another_user_is_refused_with_a_sentence() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lastgood.sock");
        let me = nix::unistd::geteuid().as_raw();
        let listener = Listener::at(&path, me + 1).await.unwrap();
        let (tx, mut rx) = mpsc::channel(1);
        let (events, _) = broadcast::channel(1);
        tokio::spawn(serve(listener, tx, events));
        let mut stream = BufReader::new(UnixStream::connect(&path).await.unwrap());
        stream.write_all(&write_ask(&Call::Status).unwrap()).await.unwrap();
        let told = answer(&mut stream).await;
        assert!(matches!(&told, Answer::Failed(told) if told.contains("only root may send requests")), "{told:?}");
        assert!(rx.try_recv().is_err(), "the agent was asked");
    }

    #[tokio::test]
    async fn garbage_is_answered_and_the_server_lives_on() {
        let bench = bench().await;
        let long = vec![b'x'; MAX_ASK_BYTES + 10];
        for garbage in [&b"hello\n"[..], b"\n", b"\xff\x00\n", b"{\"version\":1}\n", &long] {
            let mut stream = bench.raw().await;
            // A line beyond the bound is refused while the rest of it is still being written.
            let _ = stream.write_all(garbage).await;
            let told = answer(&mut stream).await;
            assert!(matches!(told, Answer::Failed(_)), "{told:?}");
        }
        assert!(matches!(bench.client().await.ask(&Call::Status).await.unwrap(), Answer::Refused(_)));
    }

    #[tokio::test]
    async fn connections_are_bounded_and_the_next_one_is_told() {
        let bench = bench().await;
        let mut held = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut client = bench.client().await;
            client.ask(&Call::Status).await.unwrap();
            held.push(client);
        }
        let mut stream = bench.raw().await;
        let told = answer(&mut stream).await;
        assert!(matches!(&told, Answer::Failed(told) if told.contains("16 connections")), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_client_that_says_nothing_is_sent_away() {
        let bench = bench().await;
        let mut stream = bench.raw().await;
        let mut line = Vec::new();
        stream.read_until(b'\n', &mut line).await.unwrap();
        assert!(matches!(read_answer(&line).unwrap(), Answer::Failed(told) if told.contains("in time")));
    }

    #[tokio::test]
    async fn follow_tells_what_happens_to_one_component() {
        let bench = bench().await;
        let mut client = bench.client().await;
        let etcd: ComponentId = "etcd".parse().unwrap();
        let first = client.ask(&Call::Follow { component: Some(etcd.clone()) }).await.unwrap();
        assert_eq!(first, Answer::Following);
        let event = |component: Option<ComponentId>| Event {
            at: jiff::Timestamp::UNIX_EPOCH,
            kind: EventKind::State,
            component,
            generation: None,
            from: None,
            to: "Steady(generation 1)".to_owned(),
            because: String::new(),
        };
        bench.events.send(event(None)).unwrap();
        bench.events.send(event(Some(etcd.clone()))).unwrap();
        assert_eq!(client.next().await.unwrap(), Some(Answer::Event(event(Some(etcd)))));
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_named() {
        let bench = bench().await;
        let me = nix::unistd::geteuid().as_raw();
        let error = Listener::at(&bench.path(), me).await.unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");

        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lastgood.sock");
        // The standard library's listener leaves its file behind, as a killed agent does.
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let listener = Listener::at(&path, me).await.unwrap();
        drop(listener);
        assert!(!path.exists(), "an agent that stops takes its socket along");

        std::fs::write(&path, "mine").unwrap();
        let error = Listener::at(&path, me).await.unwrap_err().to_string();
        assert!(error.contains("is not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    }
}
