//! The `lastgood` command: parse, log, dispatch, exit code.

use std::process::ExitCode;

use clap::Parser as _;
use lastgood::cli::{Cli, dispatch};
use lastgood::journal::{self, Verbosity};

fn main() -> ExitCode {
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
