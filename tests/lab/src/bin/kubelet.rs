//! The kubelet stand-in's process: flags, log, run, exit code.

use std::process::ExitCode;

use clap::Parser;
use lastgood_lab::kubelet::options::{Flags, Settings};
use lastgood_lab::kubelet::run;
use tracing::error;
use tracing_subscriber::EnvFilter;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let flags = Flags::parse();
    let level = if flags.v >= 4 { "debug" } else { "info" };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("warn,lastgood_lab={level},kubelet={level}")));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .with_target(false)
        .init();
    let result = match Settings::load(flags) {
        Ok(settings) => run::run(settings).await,
        Err(why) => Err(why),
    };
    let code = match result {
        Ok(()) => 0,
        Err(why) => {
            error!("command failed: {why:#}");
            1
        }
    };
    // Not a return: a thread that is blocked opening a fifo would keep the runtime from ending.
    std::process::exit(code)
}
