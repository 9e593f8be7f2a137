//! The `lastgood` command: parse, log, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lastgood::cli::{Cli, dispatch};
use lastgood::journal::{self, Verbosity};
use lastgood::model::kubelet_yaml;

fn main() -> ExitCode {
    // The journal gets no lines of a panic that a parser's caller catches and answers.
    let print = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if !kubelet_yaml::parses() {
            print(panic);
        }
    }));
    let cli = Cli::parse();
    journal::start(Verbosity::from_count(cli.verbose));
    match dispatch(cli) {
        Ok(exit) => ExitCode::from(exit.code()),
        Err(failure) => {
            journal::complain(&failure.to_string());
            ExitCode::from(failure.exit.code())
        }
    }
}
