//! `lastgood config`. A mistake in the configuration has already ended the program when this runs, except for `migrate`,
//! which works on files that have other mistakes.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{ConfigCommand, Exit, Failure, diff, out};
use crate::agent::KEYS;
use crate::config::migrate::{self, Migration};
use crate::config::{Loaded, Settings, show};
use crate::hook::{self, Unusable};

pub(super) async fn config(loaded: &Loaded, command: &ConfigCommand) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Check => out::text(&check(loaded)?),
        ConfigCommand::Show { output } => {
            out::text(&output.print(&show::for_machines(loaded), |_| show::as_toml(loaded))?)
        }
        ConfigCommand::TestNotify => test_notify(&loaded.settings).await,
        ConfigCommand::Migrate { .. } | ConfigCommand::Example => without_settings(command, None),
    }
}

/// The commands that take the files as they are.
pub(super) fn without_settings(command: &ConfigCommand, config: Option<&Path>) -> Result<Exit, Failure> {
    match command {
        ConfigCommand::Migrate { file, dry_run } => migrate(config, file.as_deref(), *dry_run),
        ConfigCommand::Example => out::text(&crate::config::example(KEYS)),
        ConfigCommand::Check | ConfigCommand::Show { .. } | ConfigCommand::TestNotify => {
            Err(Failure::failed("this command needs the configuration".to_owned()))
        }
    }
}

async fn test_notify(settings: &Settings) -> Result<Exit, Failure> {
    let host = || nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let node = settings.node_name.clone().unwrap_or_else(host);
    hook::try_command(settings, &node).await.map_err(Failure::failed)?;
    out::text(&format!("{} succeeded\n{IN_THE_UNIT}", settings.notify.command.join(" ")))
}

/// What the test does not show: systemd/lastgood.service.
const IN_THE_UNIT: &str = "\
The agent runs it in lastgood.service, where
  /usr, /boot and the home directories are read-only (ProtectSystem, ProtectHome)
  a setuid program such as sudo gains no rights (NoNewPrivileges)
  no memory becomes executable, as some just-in-time compilers need it (MemoryDenyWriteExecute)
  the variables of this shell are unknown, PATH and a proxy among them
To test it there: `systemd-run --wait --pipe -p ProtectSystem=yes -p ProtectHome=read-only -p NoNewPrivileges=yes \
-p MemoryDenyWriteExecute=yes lastgood config test-notify`
";

/// What is right; a command that a package may bring later is a warning.
fn check(loaded: &Loaded) -> Result<String, Failure> {
    let files: Vec<PathBuf> = loaded.settings.files.clone();
    if files.is_empty() {
        return Ok("no configuration file: the defaults apply\n".to_owned());
    }
    let place = || loaded.origins.get("notify.command").map_or_else(String::new, |origin| format!("{origin}: "));
    let command = hook::check_command(&loaded.settings);
    if let Err(Unusable::Wrong(why)) = &command {
        return Err(Failure::failed(format!("{}notify.command: {why}", place())));
    }
    let mut text = format!("no mistake in\n{}", listed(&files));
    if !loaded.old_names.is_empty() {
        text.push_str("keys with an old name; `lastgood config migrate` renames them\n");
        for old in &loaded.old_names {
            let _ = writeln!(text, "  {old}");
        }
    }
    if let Err(why) = command {
        let _ = writeln!(text, "warning: the agent could not run it now\n  {}notify.command: {why}", place());
    }
    Ok(text)
}

fn listed(files: &[PathBuf]) -> String {
    files.iter().map(|file| format!("  {}\n", file.display())).collect()
}

fn migrate(config: Option<&Path>, file: Option<&Path>, dry_run: bool) -> Result<Exit, Failure> {
    let files = match file {
        Some(file) => vec![file.to_owned()],
        None => migrate::files(config)?,
    };
    let plans = migrate::plan(&files, KEYS)?;
    let changed: Vec<&Migration> = plans.iter().filter(|plan| !plan.changes.is_empty()).collect();
    if changed.is_empty() {
        return match files.as_slice() {
            [] => out::text("no configuration file: nothing to rename\n"),
            files => out::text(&format!("no key with an old name in\n{}", listed(files))),
        };
    }
    for plan in changed {
        let name = plan.file.display().to_string();
        if dry_run {
            let title = format!("{name} (migrated)");
            out::text(&diff::unified(plan.before.as_bytes(), plan.after.as_bytes(), &name, &title))?;
        } else {
            // One by one: what is printed as done is done, whatever becomes of the next file.
            plan.apply().map_err(unwritten)?;
            out::text(&summary(plan))?;
        }
    }
    if dry_run {
        return Ok(Exit::Ok);
    }
    out::text("The values are the same, so a running agent needs no restart.\n")
}

/// A file that cannot be written can still be changed by hand.
fn unwritten(error: std::io::Error) -> Failure {
    let failure = Failure::from(error);
    match failure.exit {
        Exit::Unreachable => failure,
        _ => {
            Failure { sentence: format!("{}; `--dry-run` prints what to change by hand", failure.sentence), ..failure }
        }
    }
}

fn summary(plan: &Migration) -> String {
    let mut text = format!("{}: rewritten\n", plan.file.display());
    for change in &plan.changes {
        let _ = writeln!(text, "  line {}: {change}", change.line);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn the_restrictions_that_are_named_are_those_of_the_unit() {
        let unit = include_str!("../../systemd/lastgood.service");
        for restriction in
            ["ProtectSystem=yes", "ProtectHome=read-only", "NoNewPrivileges=yes", "MemoryDenyWriteExecute=yes"]
        {
            assert!(unit.lines().any(|line| line == restriction) && IN_THE_UNIT.contains(restriction), "{restriction}");
        }
    }

    #[test]
    fn a_command_that_cannot_run_is_a_mistake_and_one_that_may_come_a_warning() {
        let dir = tempfile::tempdir().unwrap();
        let (file, program) = (dir.path().join("lastgood.toml"), dir.path().join("page"));
        fs::write(&file, format!("[notify]\ncommand = [\"{}\"]\n", program.display())).unwrap();
        let loaded = crate::config::load(Some(&file), KEYS).unwrap();
        let place = format!("{}:2: notify.command", file.display());
        let absent = check(&loaded).unwrap();
        assert!(absent.contains("warning") && absent.contains(&place), "{absent}");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o644)).unwrap();
        let wrong = check(&loaded).unwrap_err();
        assert_eq!(wrong.exit, Exit::Failed);
        assert!(wrong.sentence.contains(&place), "{wrong}");
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let right = check(&loaded).unwrap();
        assert!(!right.contains("notify.command"), "{right}");
    }
}
