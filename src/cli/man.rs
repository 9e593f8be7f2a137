//! Generates two manual pages: lastgood(8) from the parser, lastgood.toml(5) from the configuration keys. The others
//! are written by hand, in packaging/man.

use std::fmt::Write as _;

use clap::{Arg, Command, ValueEnum};

use super::Exit;
use crate::agent::KEYS;
use crate::config::renamed::RENAMED;
use crate::config::{DEFAULT_FILE, Settings, settings};
use crate::report::API_VERSION;

/// Where the package puts them.
const SCHEMAS: &str = "/usr/share/lastgood/schemas";

/// The pages, with what each is for.
const PAGES: [(&str, &str); 5] = [
    ("lastgood(8)", "all commands and options"),
    ("lastgood-behavior(7)", "what lastgood does by itself, for each symptom"),
    ("lastgood-restore(7)", "restore etcd: one member, all members, a bare machine"),
    ("lastgood-backup(7)", "snapshots, bundles, object storage"),
    ("lastgood.toml(5)", "the configuration keys"),
];

/// The pages, for --help.
pub(super) fn pages() -> String {
    let lines: Vec<String> = PAGES.iter().map(|(page, purpose)| format!("  {page:<22}{purpose}")).collect();
    format!("Manual pages:\n{}", lines.join("\n"))
}

/// A page that is generated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Page {
    /// lastgood(8), the commands.
    #[default]
    #[value(name = "lastgood.8")]
    Commands,
    /// lastgood.toml(5), the configuration.
    #[value(name = "lastgood.toml.5")]
    Configuration,
}

impl Page {
    /// The page in roff.
    pub(super) fn print(self, command: &Command) -> String {
        let version = command.get_version().unwrap_or_default();
        match self {
            Self::Commands => commands(command, version),
            Self::Configuration => configuration(version),
        }
    }
}

fn commands(command: &Command, version: &str) -> String {
    let about = styled(command.get_about());
    let mut out = format!(".TH LASTGOOD 8 \"\" \"lastgood {version}\"\n.SH NAME\nlastgood \\- {}\n", text(&about));
    out.push_str(".SH SYNOPSIS\n.B lastgood\n[\\-\\-config FILE] [\\-v] COMMAND\n.SH COMMANDS\n");
    subcommands(&mut out, "", command);
    out.push_str(".SH OPTIONS\n");
    options(&mut out, command);
    let _ = write!(out, ".SH JSON AND YAML\n{}\n", text(&machines()));
    out.push_str(".SH EXIT STATUS\n");
    for exit in Exit::ALL {
        let _ = write!(out, ".TP\n{}\n{}\n", exit.code(), text(exit.meaning()));
    }
    out.push_str(".SH FILES\n");
    for (path, what) in [
        (DEFAULT_FILE, "Configuration, optional; lastgood.toml(5) lists its keys."),
        (settings::INACTIVE_DIR, "The last known-good manifests, which cp alone can restore."),
        (settings::STATE_DIR, "Generations, memory, history and snapshots."),
        (settings::STAGING_DIR, "Staging directory of the manifests."),
        (SCHEMAS, "The JSON Schemas of the documents, one file per kind."),
    ] {
        let _ = write!(out, ".TP\n.I {}\n{}\n", text(path), text(what));
    }
    see_also(&mut out, "lastgood(8)");
    out
}

/// What the readers of `-o json` can rely on.
fn machines() -> String {
    format!(
        "With -o json or -o yaml a command prints one document. It begins with apiVersion ({API_VERSION}) and kind, for \
         example Status. history and explain print a list, HistoryList and ExplanationList, whose items are its values, \
         whether a component is named or not. A later lastgood may add fields and values under the same apiVersion, so a \
         script ignores the fields that it does not know. A field or value that changes its meaning, its name or its type, \
         or goes, raises apiVersion. Sentences, such as next and note, are for people and change at any time."
    )
}

fn configuration(version: &str) -> String {
    let mut out = format!(
        ".TH LASTGOOD.TOML 5 \"\" \"lastgood {version}\"\n.SH NAME\nlastgood.toml \\- configuration of lastgood\n"
    );
    let _ = write!(
        out,
        ".SH DESCRIPTION\nlastgood reads {}, then config.d/*.toml next to it in lexical order. Every file is optional, \
         and a later value wins. An unknown key is a mistake, and lastgood reports all mistakes at once (\n.B lastgood \
         config check\n).\n\
         .B lastgood config show\nprints the effective values and where each comes from. A change takes effect with\n\
         .BR \"systemctl restart lastgood\" .\n.SH KEYS\n",
        text(DEFAULT_FILE)
    );
    let defaults = Settings::default();
    for key in KEYS.iter() {
        let default = key.print(&defaults).unwrap_or_else(|| key.found().to_owned());
        let _ = write!(out, ".TP\n.B {}\n{}. Default: {}.\n", text(key.name), sentence(key.meaning), text(&default));
    }
    out.push_str(
        ".SH OLD NAMES\nThese keys had another name. lastgood takes the old name, with a warning, unless the same file has the new \
         one as well.\n.B lastgood config migrate\nwrites the new names into the files.\n",
    );
    for (old, new) in RENAMED {
        let _ = write!(out, ".TP\n.B {}\nis now\n.BR {} .\n", text(old), text(new));
    }
    see_also(&mut out, "lastgood.toml(5)");
    out
}

fn see_also(out: &mut String, own: &str) {
    let others: Vec<&str> = PAGES.iter().map(|(page, _)| *page).filter(|page| *page != own).collect();
    let _ = write!(out, ".SH SEE ALSO\n{}\n", text(&others.join(", ")));
}

/// Text that begins with a capital.
fn sentence(meaning: &str) -> String {
    let escaped = text(meaning);
    let mut letters = escaped.chars();
    letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
}

/// What the examples of a command's help begin with.
const EXAMPLES: &str = "EXAMPLES";

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
        let examples = styled(sub.get_after_help());
        if let Some(examples) = examples.strip_prefix(EXAMPLES) {
            out.push_str(".RS\n.PP\nExamples:\n.nf\n");
            examples.trim_matches('\n').lines().for_each(|line| out.push_str(&format!("{}\n", text(line))));
            out.push_str(".fi\n.RE\n");
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
    fn the_pages_have_every_command_key_and_exit_code() {
        let command = crate::cli::Cli::command();
        let commands = Page::Commands.print(&command);
        for part in [
            "rollback COMPONENT",
            "certs check",
            "config show",
            "\\-\\-dry\\-run",
            "\\-\\-for TIME",
            API_VERSION,
            "\n.SH SEE ALSO",
        ] {
            assert!(commands.contains(part), "{part} in\n{commands}");
        }
        assert!(!commands.contains("fill\\-slots"), "what is hidden stays hidden");
        let configuration = Page::Configuration.print(&command);
        assert_eq!(configuration.matches("Default: ").count(), KEYS.iter().count());
        assert!(configuration.contains(".B candidate.soak\n"), "{configuration}");
        assert_eq!(configuration.matches("\nis now\n").count(), RENAMED.len());
    }

    #[test]
    fn help_names_every_page() {
        let generated =
            Page::value_variants().iter().filter_map(|page| Some(page.to_possible_value()?.get_name().to_owned()));
        let written = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging/man");
        let written = std::fs::read_dir(written).into_iter().flatten().flatten();
        let files: Vec<String> =
            generated.chain(written.map(|file| file.file_name().to_string_lossy().into_owned())).collect();
        assert!(files.len() >= 2, "{files:?}");
        let help = crate::cli::Cli::command().render_long_help().to_string();
        for file in files {
            let (name, section) = file.rsplit_once('.').unwrap();
            assert!(help.contains(&format!("  {name}({section})")), "{file} in\n{help}");
        }
    }

    /// Leaves of the tree of commands, by their words.
    fn leaves(command: &Command, before: &str, found: &mut Vec<(String, Command)>) {
        for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set() && sub.get_name() != "help") {
            let name = format!("{before} {}", sub.get_name());
            if sub.has_subcommands() { leaves(sub, &name, found) } else { found.push((name, sub.clone())) }
        }
    }

    #[test]
    fn every_command_has_a_purpose_and_examples_of_itself() {
        let mut found = Vec::new();
        leaves(&crate::cli::Cli::command(), "lastgood", &mut found);
        for (name, command) in found {
            assert!(!styled(command.get_about()).is_empty(), "{name} has no purpose");
            let help = styled(command.get_after_help());
            let examples = help.strip_prefix(EXAMPLES).unwrap_or_default();
            let own = examples.lines().filter(|line| line.trim().starts_with("lastgood")).count();
            assert!(own > 0, "{name} has no EXAMPLES");
        }
    }
}
