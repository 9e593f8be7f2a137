//! What people read: the README and the man pages, held against the program.

use clap::error::ErrorKind;
use clap::{CommandFactory as _, Parser as _};
use lastgood::cli::Cli;

use super::{files, read};

/// What a person reads before they decide.
const README_BYTES: usize = 12 << 10;

/// The README and the written man pages.
fn documents() -> impl Iterator<Item = (String, String)> {
    let wanted = |name: &String| name == "README.md" || name.starts_with("packaging/man/");
    files().into_iter().filter(wanted).map(|name| {
        let text = read(&name).replace("\\-", "-").replace("\\&", "").replace("\\(aq", "'");
        (name, text)
    })
}

/// A command of ours that a document shows.
#[derive(Debug, PartialEq, Eq)]
enum Shown {
    /// In a code block or an example: as a person types it.
    Typed(String),
    /// In a sentence: it may lack its arguments.
    Named(String),
}

fn commands(text: &str) -> Vec<Shown> {
    let known = Cli::command();
    // In prose, a line may begin with our name.
    let is_ours = |command: &str| {
        let second = command.strip_prefix("lastgood ").and_then(|rest| rest.split(' ').next()).unwrap_or_default();
        second.starts_with('-') || second == "COMMAND" || known.get_subcommands().any(|sub| sub.get_name() == second)
    };
    let mut found = Vec::new();
    let mut prose = String::new();
    let mut fenced = false;
    for line in text.lines() {
        let line = line.trim();
        if line.starts_with("```") {
            fenced = !fenced;
        }
        // Behind two spaces a block explains the command.
        let typed = line.trim_start_matches(".B ").trim_matches('"').split("  ").next().unwrap_or_default();
        if is_ours(typed) {
            found.push(Shown::Typed(typed.to_owned()));
        } else if !fenced && !line.starts_with("```") {
            prose.push_str(line);
            prose.push(' ');
        }
    }
    let spans = prose.split('`').skip(1).step_by(2).filter(|span| is_ours(span));
    found.extend(spans.map(|span| Shown::Named(span.to_owned())));
    found
}

/// A command with values in the place of its placeholders.
fn filled(command: &str) -> Vec<String> {
    let value = |word: &str| match word {
        "COMMAND" => "status".to_owned(),
        "COMPONENT" | "[COMPONENT]" => "etcd".to_owned(),
        "N" => "3".to_owned(),
        "TIME" => "1h".to_owned(),
        word => word.trim_matches(['[', ']', '\'', '"']).to_owned(),
    };
    let words = command.split(' ').take_while(|word| !["|", ">", "&&", ";"].contains(word));
    words.map(value).collect()
}

#[test]
fn the_readme_can_be_read_in_ten_minutes() {
    let bytes = read("README.md").len();
    assert!(bytes <= README_BYTES, "README.md has {bytes} bytes, and may have {README_BYTES}");
}

#[test]
fn every_command_that_is_shown_is_one() {
    let mut count = 0;
    for (name, text) in documents() {
        for shown in commands(&text) {
            count += 1;
            let (command, named) = match &shown {
                Shown::Typed(command) => (command, false),
                Shown::Named(command) => (command, true),
            };
            let Err(error) = Cli::try_parse_from(filled(command)) else { continue };
            let is_fine = match error.kind() {
                ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => true,
                ErrorKind::MissingRequiredArgument | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => named,
                _ => false,
            };
            assert!(is_fine, "{name}: {command}\n{error}");
        }
    }
    assert!(count >= 20, "only {count} commands are found");
}

#[test]
fn commands_are_found_where_they_are_shown() {
    let text = "Use `lastgood\nstatus`, or\n\n```\nlastgood rollback etcd   puts it back\n```\n.B lastgood doctor\nlastgood is fine";
    let typed = |command: &str| Shown::Typed(command.to_owned());
    let expected =
        [typed("lastgood rollback etcd"), typed("lastgood doctor"), Shown::Named("lastgood status".to_owned())];
    assert_eq!(commands(text), expected);
    assert_eq!(filled("lastgood rollback COMPONENT --to N | cat"), ["lastgood", "rollback", "etcd", "--to", "3"]);
    assert!(Cli::try_parse_from(filled("lastgood rollback COMPONENT --nonsense")).is_err());
}
