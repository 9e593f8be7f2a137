//! The manual page, from the same places as --help and the configuration table.

use std::fmt::Write as _;

use clap::{Arg, Command};

use super::Exit;
use crate::config::{DEFAULT_FILE, KEYS, Settings, settings};

/// `lastgood(8)` in roff.
pub(super) fn page(command: &Command) -> String {
    let version = command.get_version().unwrap_or_default();
    let about = styled(command.get_about());
    let mut out = format!(".TH LASTGOOD 8 \"\" \"lastgood {version}\"\n.SH NAME\nlastgood \\- {}\n", text(&about));
    out.push_str(".SH SYNOPSIS\n.B lastgood\n[\\-\\-config FILE] [\\-v] COMMAND\n.SH COMMANDS\n");
    subcommands(&mut out, "", command);
    out.push_str(".SH OPTIONS\n");
    options(&mut out, command);
    out.push_str(".SH EXIT STATUS\n");
    for exit in Exit::ALL {
        let _ = write!(out, ".TP\n{}\n{}\n", exit.code(), text(exit.meaning()));
    }
    let _ = write!(
        out,
        ".SH CONFIGURATION\n{} and config.d/*.toml beside it, all optional; a later value wins.\n",
        text(DEFAULT_FILE)
    );
    let defaults = Settings::default();
    for key in KEYS {
        let default = key.print(&defaults).unwrap_or_else(|| key.found().to_owned());
        let _ = write!(out, ".TP\n.B {}\n{}. Default: {}.\n", text(key.name), text(key.meaning), text(&default));
    }
    out.push_str(".SH FILES\n");
    for (path, what) in [
        (settings::INACTIVE_DIR, "The last known-good manifests, for a person with nothing but cp."),
        (settings::STATE_DIR, "Generations, memory and history."),
        (settings::STAGING_DIR, "Files on their way in or out of the manifest directory."),
    ] {
        let _ = write!(out, ".TP\n.I {}\n{}\n", text(path), text(what));
    }
    out
}

fn subcommands(out: &mut String, prefix: &str, command: &Command) {
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
        let name = format!("{prefix}{}", sub.get_name());
        if sub.has_subcommands() {
            subcommands(out, &format!("{name} "), sub);
            continue;
        }
        let operands: Vec<String> = sub
            .get_positionals()
            .map(|arg| {
                let name = arg.get_id().as_str().to_uppercase();
                if arg.is_required_set() { name } else { format!("[{name}]") }
            })
            .collect();
        let _ = write!(
            out,
            ".TP\n.B {}\n{}.\n",
            text(&format!("{name} {}", operands.join(" "))),
            text(&styled(sub.get_about()))
        );
        if sub.get_opts().chain(sub.get_arguments()).any(shown) {
            out.push_str(".RS\n");
            options(out, sub);
            out.push_str(".RE\n");
        }
    }
}

fn shown(arg: &Arg) -> bool {
    !arg.is_positional() && !arg.is_hide_set() && !matches!(arg.get_id().as_str(), "help" | "version")
}

fn options(out: &mut String, command: &Command) {
    for arg in command.get_arguments().filter(|arg| shown(arg)) {
        let names: Vec<String> = arg
            .get_short()
            .map(|short| format!("-{short}"))
            .into_iter()
            .chain(arg.get_long().map(|long| format!("--{long}")))
            .collect();
        let takes_value = arg.get_action().takes_values();
        let value = arg.get_value_names().and_then(|names| names.first()).filter(|_| takes_value);
        let value = value.map_or(String::new(), |value| format!(" {value}"));
        let _ = write!(out, ".TP\n.B {}\n{}.\n", text(&(names.join(", ") + &value)), text(&styled(arg.get_help())));
    }
}

fn styled(text: Option<&clap::builder::StyledStr>) -> String {
    text.map(ToString::to_string).unwrap_or_default()
}

/// Text that roff leaves as it is.
fn text(text: &str) -> String {
    let escaped = text.trim().replace('\\', "\\e").replace('-', "\\-").replace('`', "");
    // A dot or an apostrophe at the start of a line is a request.
    if escaped.starts_with(['.', '\'']) { format!("\\&{escaped}") } else { escaped }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_page_has_every_command_key_and_exit_code() {
        let page = page(&crate::cli::Cli::command());
        for part in
            ["rollback COMPONENT", "certs check", "config show", "\\-\\-dry\\-run", "candidate.soak", "\\-\\-for TIME"]
        {
            assert!(page.contains(part), "{part} in\n{page}");
        }
        assert_eq!(page.matches("Default: ").count(), KEYS.len());
        assert!(!page.contains("fill\\-slots"), "what is hidden stays hidden");
    }
}
