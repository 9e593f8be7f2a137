//! `lab`: a Kubernetes master to try things on.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use lastgood_lab::node;

/// A Kubernetes master in namespaces: real etcd, containerd and runc, stand-ins for the rest.
#[derive(Parser)]
#[command(name = "lab")]
struct Cli {
    #[command(subcommand)]
    command: Cmd,
}

#[derive(Subcommand)]
enum Cmd {
    /// The node's first process; started by the lab itself.
    #[command(hide = true)]
    Init {
        /// The node's directory.
        dir: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(Cli::parse().command) {
        Ok(code) => code,
        Err(e) => {
            eprintln!("lab: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Cmd) -> Result<ExitCode> {
    match command {
        Cmd::Init { dir } => node::init::run(&dir).map(|()| ExitCode::SUCCESS),
    }
}
