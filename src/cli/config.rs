//! `lastgood config`. A mistake in the configuration has already ended the program when this runs.

use super::{ConfigCommand, Exit, Failure, out};
use crate::config::{Loaded, show};

pub(super) fn config(loaded: &Loaded, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => {
            let files: Vec<String> =
                loaded.settings.files.iter().map(|file| format!("  {}\n", file.display())).collect();
            match files.as_slice() {
                [] => out::text("no configuration file: the defaults apply\n"),
                files => out::text(&format!("no mistake in\n{}", files.concat())),
            }
        }
        ConfigCommand::Show { output } => {
            out::text(&output.print(&show::for_machines(loaded), |_| show::as_toml(loaded))?)
        }
        ConfigCommand::Example => out::text(&crate::config::example()),
    }
}
