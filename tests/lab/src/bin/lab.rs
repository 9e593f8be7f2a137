//! `lab`: a Kubernetes master to try things on.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Parser, Subcommand};
use lastgood_lab::control;
use lastgood_lab::manifests::{Component, EtcdVersion};
use lastgood_lab::node::cache::Cache;
use lastgood_lab::node::shell::Agent;
use lastgood_lab::node::spec::{Request, SOCKET};
use lastgood_lab::node::{self, Node, bench, demo, furnish, idle, matrix, shell, supervisor};

/// A Kubernetes master in namespaces: real etcd, containerd and runc, stand-ins for the rest.
#[derive(Parser)]
#[command(name = "lab", version)]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// Bring a node up and open a prompt inside it; it is gone when the prompt ends
    Up {
        #[command(flatten)]
        kind: Kind,
        /// Leave the agent out
        #[arg(long)]
        no_agent: bool,
    },
    /// Play three breakages with the agent at work; exit 0 only if each recovered
    Demo {
        #[command(flatten)]
        kind: Kind,
    },
    /// Measure how long a crash lasts, with the agent and with a person at the first crash; prints a table
    Bench {
        /// Rounds of each
        #[arg(long, default_value_t = 10)]
        rounds: usize,
        /// Nodes at a time
        #[arg(long, default_value_t = 3)]
        at_once: usize,
        /// Where every figure is appended, one JSON object a line
        #[arg(long, default_value = "target/bench.jsonl")]
        raw: PathBuf,
    },
    /// Measure what the agent says and does about each fault, and how fast, beside the kubelet alone; writes a table
    Matrix(matrix::Options),
    /// Measure what the agent costs while all is well; prints a table
    Idle(idle::Options),
    /// Tell a stand-in's fault switch something, inside the node: `lab tell kube-apiserver hang`
    Tell {
        /// For example kube-apiserver, kube-scheduler, kubelet
        process: String,
        /// Its command, for example `slow 500`
        #[arg(required = true)]
        command: Vec<String>,
    },
    /// Restart a service, inside the node, where no systemd does
    Restart {
        /// kubelet or containerd
        service: String,
    },
    /// Make a directory the root of a master that something else boots, without its kubelet's unit
    #[command(hide = true)]
    Furnish {
        /// What becomes the machine's /
        root: PathBuf,
        /// Its host name
        #[arg(long, default_value = "master-1")]
        name: String,
        /// etcd's series: 3.4 or 3.5
        #[arg(long, default_value = "3.5", value_name = "SERIES")]
        etcd: EtcdVersion,
    },
    /// The node's first process; started by the lab itself
    #[command(hide = true)]
    Init {
        /// The node's directory
        dir: PathBuf,
    },
}

#[derive(Args)]
struct Kind {
    /// Factor on the kubelet's and the stand-ins' waits; 1 is true to life
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// etcd's series: 3.4 or 3.5
    #[arg(long, default_value = "3.5", value_name = "SERIES")]
    etcd: EtcdVersion,
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Cmd) -> Result<()> {
    if let Cmd::Init { dir } = command {
        // Without a runtime: it reaps by itself.
        return node::init::run(&dir);
    }
    if let Cmd::Furnish { root, name, etcd } = &command {
        return furnish::furnish(&Cache::open()?, root, name, *etcd, &Component::ALL).map(drop);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(async {
        match command {
            Cmd::Up { kind, no_agent } => up(&kind, if no_agent { Agent::Absent } else { Agent::Running }).await,
            // Interrupted, the node is dropped like at any other end.
            Cmd::Demo { kind } => tokio::select! {
                played = demo::play(kind.scale, kind.etcd) => played,
                stop = interrupted() => { stop?; bail!("interrupted") }
            },
            Cmd::Bench { rounds, at_once, raw } => tokio::select! {
                done = bench::bench(rounds, at_once, &raw) => done,
                stop = interrupted() => { stop?; bail!("interrupted") }
            },
            Cmd::Matrix(options) => tokio::select! {
                done = matrix::matrix(&options) => done,
                stop = interrupted() => { stop?; bail!("interrupted") }
            },
            Cmd::Idle(options) => tokio::select! {
                done = idle::idle(&options) => done,
                stop = interrupted() => { stop?; bail!("interrupted") }
            },
            Cmd::Tell { process, command } => control::tell(&process, &command.join(" ")).await,
            Cmd::Restart { service } => restart(&service).await,
            Cmd::Init { .. } | Cmd::Furnish { .. } => Ok(()),
        }
    })
}

async fn up(kind: &Kind, agent: Agent) -> Result<()> {
    let began = std::time::Instant::now();
    let mut node = Node::builder().scale(kind.scale).etcd(kind.etcd).start().await?;
    tokio::select! {
        up = node.up() => up?,
        stop = interrupted() => { stop?; bail!("interrupted") }
    }
    eprintln!(
        "{} is up after {:.1} s; its files are in {}",
        node.name(),
        began.elapsed().as_secs_f64(),
        node.dir().display()
    );
    if agent == Agent::Running {
        node.spawn_agent(demo::QUICK).await?;
    }
    shell::open(&node, agent).await
}

async fn interrupted() -> Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}

async fn restart(service: &str) -> Result<()> {
    let socket = Path::new(SOCKET);
    let stop = Request::Stop { service: service.to_owned(), grace_ms: 20_000 };
    supervisor::ask(socket, &stop).await.context("is this the inside of a node?")?;
    supervisor::ask(socket, &Request::Start(service.to_owned())).await?;
    Ok(())
}
