//! The command line: its commands, and the file that answers each.
//!
//! ```text
//!   args ─▶ Command ─▶ Backend ─ running ─▶ control socket ─▶ the agent
//!                         └──── stopped ─▶ offline: the state directory, and the same decide under the lock
//! ```

mod certs;
mod check;
mod config;
mod diff;
mod doctor;
mod etcd;
mod explain;
mod gate;
mod history;
mod man;
mod metrics;
mod out;
mod pause;
mod removal;
mod rollback;
mod slots;
mod status;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, CommandFactory as _, Parser, Subcommand};

pub use crate::ops::failure::{Exit, Failure};
pub use etcd::{CompactArgs, DefragArgs, EtcdCommand, RestoreArgs, SizingArgs, SnapshotCommand};

use crate::agent::KEYS;
use crate::config::{Loaded, duration};
use crate::model::{ComponentId, Request};
use crate::ops::{failure, service};
use crate::report::Format;

/// Keeps the last known-good state of a Kubernetes control plane on the node itself, and puts it back.
#[derive(Debug, Parser)]
#[command(name = "lastgood", version, about, after_help = after_help(), max_term_width = 100)]
pub struct Cli {
    /// Configuration file; fragments are read from config.d/ next to it [default: /etc/lastgood/config.toml]
    #[arg(long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Log more; twice: everything
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What nobody finds in the list of commands.
fn after_help() -> String {
    format!(
        "Examples:\n  lastgood status                          is the control plane up, and what should I do\n  \
         lastgood explain kube-apiserver          why is it not healthy\n  \
         lastgood rollback kube-apiserver         deploy its last known-good version\n  \
         lastgood etcd restore --from latest      restore etcd from the newest snapshot\n\n{}\n\n{}",
        man::pages(),
        failure::help()
    )
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the agent in the foreground; the systemd unit does this
    #[command(after_help = "EXAMPLES\n  lastgood run -v")]
    Run,
    /// Show the state of the node, what is wrong, and the next step; exit code 5 when something is unhealthy, held or unknown
    #[command(
        after_help = "EXAMPLES\n  lastgood status\n  lastgood status --watch\n  lastgood status --cluster\n  lastgood status -o json | jq .components"
    )]
    Status {
        /// Print the status again whenever it changes
        #[arg(short, long)]
        watch: bool,
        /// Show every master of the cluster, one row per member of etcd, by what the agents report to each other; exit code 5
        /// when one does not answer, or its etcd does not serve
        #[arg(long, conflicts_with = "watch")]
        cluster: bool,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// List the generations of the components, and what lastgood decided about them
    #[command(after_help = "EXAMPLES\n  lastgood history kube-apiserver\n  lastgood history --number 100")]
    History {
        /// Component, for example kube-apiserver [default: all]
        component: Option<ComponentId>,
        /// Number of events to print
        #[arg(short, long, value_name = "N", default_value_t = 20)]
        number: usize,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Explain why lastgood acts or does not: evidence, cause and next step
    #[command(
        after_help = "EXAMPLES\n  lastgood explain kube-apiserver\n  lastgood explain kubelet\n  lastgood explain -o json"
    )]
    Explain {
        /// Component, for example kube-apiserver, kubelet or runtime [default: all]
        component: Option<ComponentId>,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Compare two generations of a component
    #[command(
        after_help = "EXAMPLES\n  lastgood diff kube-apiserver        known-good with what is deployed\n  lastgood diff kube-apiserver 3 5    generation 3 with generation 5"
    )]
    Diff {
        /// Component to compare, for example kube-apiserver
        component: ComponentId,
        /// Generation [default: known-good]
        a: Option<u32>,
        /// Generation to compare it with [default: the deployed manifest]
        b: Option<u32>,
    },
    /// Roll a component back to an earlier generation, and follow it until it serves; prints the plan and asks first
    #[command(
        after_help = "EXAMPLES\n  lastgood rollback kube-apiserver --dry-run\n  lastgood rollback kube-apiserver\n  lastgood rollback etcd --to 3 --yes"
    )]
    Rollback {
        /// Component to roll back, for example kube-apiserver
        component: ComponentId,
        /// Generation to roll back to [default: the newest known-good one that is not deployed]
        #[arg(long, value_name = "N")]
        to: Option<u32>,
        /// How to go about it.
        #[command(flatten)]
        care: ConfirmArgs,
    },
    /// Take no action for a time; lastgood goes on observing
    #[command(after_help = "EXAMPLES\n  lastgood pause --for 45m --reason \"API server flags\"")]
    Pause {
        /// How long, for example 45m or 2h
        #[arg(long = "for", value_name = "TIME", value_parser = duration::parse, default_value = "30m")]
        length: Duration,
        /// Reason, shown in status
        #[arg(long, default_value = "")]
        reason: String,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Mark the deployed generation as known-good now, without a soak time
    #[command(
        visible_alias = "mark-good",
        after_help = "EXAMPLES\n  lastgood checkpoint kube-apiserver --reason \"tested by hand\""
    )]
    Checkpoint {
        /// Component, for example kube-apiserver
        component: ComponentId,
        /// Reason, kept in the history
        #[arg(long, default_value = "")]
        reason: String,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Release a generation from quarantine, so that it may be tried again
    #[command(after_help = "EXAMPLES\n  lastgood release kube-apiserver 5")]
    Release {
        /// Component, for example kube-apiserver
        component: ComponentId,
        /// Generation [default: the newest quarantined one]
        number: Option<u32>,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Fix the generation that failed changes are rolled back to; it is never removed
    #[command(after_help = "EXAMPLES\n  lastgood pin kube-apiserver 3 --reason \"before the upgrade\"")]
    Pin {
        /// Component, for example kube-apiserver
        component: ComponentId,
        /// Generation [default: the deployed one if it is known-good, else the newest known-good one]
        number: Option<u32>,
        /// Reason, kept in the history
        #[arg(long, default_value = "")]
        reason: String,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Remove the pin: failed changes are rolled back to the newest known-good generation again
    #[command(after_help = "EXAMPLES\n  lastgood unpin kube-apiserver")]
    Unpin {
        /// Component, for example kube-apiserver
        component: ComponentId,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Mark a generation as bad; if it is deployed, roll back immediately
    #[command(after_help = "EXAMPLES\n  lastgood quarantine kube-apiserver 5 --reason \"leaks memory\"")]
    Quarantine {
        /// Component, for example kube-apiserver
        component: ComponentId,
        /// Generation [default: the deployed one]
        number: Option<u32>,
        /// Reason, kept in the history
        #[arg(long, default_value = "")]
        reason: String,
        /// How to go about it.
        #[command(flatten)]
        care: ConfirmArgs,
    },
    /// End the pause; without a pause, release what is held
    #[command(after_help = "EXAMPLES\n  lastgood resume\n  lastgood resume kube-apiserver")]
    Resume {
        /// Release only this component, for example kube-apiserver [default: end the pause, or else release all]
        component: Option<ComponentId>,
        /// Print what would happen and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Check the certificates of this node
    #[command(subcommand)]
    Certs(CertsCommand),
    /// etcd: state of the member, fitness of its disk, snapshots, restore, and the way out of NOSPACE
    #[command(subcommand)]
    Etcd(EtcdCommand),
    /// Check whether a recovery would succeed now: images, stored generations, disks, runtime, kubelet; exit code 5 when not
    #[command(after_help = "EXAMPLES\n  lastgood doctor\n  lastgood doctor -o json")]
    Doctor {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Check a manifest before it is deployed: whether the kubelet accepts it, and whether its pod can start on this node;
    /// exit code 5 when not. It does not know the flags of the programs
    ///
    /// Checked are the kubelet's decoder and validation, the image, the ports, the volumes, the files that flags name, and
    /// certificates. Not checked is whether the program in the container knows a flag or takes a value: only the program
    /// itself finds that, when it starts, and lastgood then rolls the manifest back.
    #[command(
        after_help = "EXAMPLES\n  lastgood check /root/kube-apiserver.yaml\n  sed 's/:3.5.16/:3.5.17/' /etc/kubernetes/manifests/etcd.yaml | lastgood check -\n  lastgood check -o json *.yaml"
    )]
    Check {
        /// Manifest to check, for example /root/kube-apiserver.yaml; `-` for standard input
        #[arg(required = true, value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Print the status as metrics in Prometheus' text format, as metrics.textfile holds them
    #[command(after_help = "EXAMPLES\n  lastgood metrics | grep lastgood_verdict")]
    Metrics,
    /// Check or print the configuration, or give its keys their new names
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print a manual page that is generated from the program
    #[command(hide = true)]
    Man {
        /// The page
        #[arg(value_enum, default_value_t)]
        page: man::Page,
    },
    /// Print shell completions
    #[command(after_help = "EXAMPLES\n  lastgood completions bash > /etc/bash_completion.d/lastgood")]
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    /// Keep etcd from starting where its data are missing; a unit runs it before the kubelet
    #[command(hide = true, after_help = "EXAMPLES\n  lastgood gate")]
    Gate,
    /// Put back manifests that an interrupted rollback left out; the unit runs it as ExecStopPost
    #[command(hide = true)]
    FillSlots,
    /// Print which manifests lastgood keeps out of the manifest directory, and how to put them back; the package runs it
    ///
    /// Reads the stored state, changes nothing, prints nothing when no manifest is out, and always exits with 0.
    #[command(hide = true, after_help = "EXAMPLES\n  systemctl stop lastgood && lastgood removal-notice")]
    RemovalNotice,
}

/// How to go about a change.
#[derive(Clone, Copy, Debug, Args)]
pub struct ConfirmArgs {
    /// Print the plan and exit
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt
    #[arg(short, long)]
    yes: bool,
    /// Output format of the plan
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

/// What can be done with certificates.
#[derive(Debug, Subcommand)]
pub enum CertsCommand {
    /// List every certificate with its end and its users; exit code 5 when one has expired, is not valid yet, or expires
    /// within a week (a short-lived one: within the last tenth of its life), when a process has an older one than the file,
    /// or when the kubelet cannot rotate its own
    #[command(after_help = "EXAMPLES\n  lastgood certs check")]
    Check {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

/// What can be done with the configuration.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Report every mistake in every file; exit code 1 when there is one
    #[command(after_help = "EXAMPLES\n  lastgood config check\n  lastgood --config /tmp/new.toml config check")]
    Check,
    /// Print the effective values, and the file and line each comes from
    #[command(after_help = "EXAMPLES\n  lastgood config show\n  lastgood config show -o json")]
    Show {
        /// Output format
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
    /// Give the keys that have an old name their new one; values, comments and order stay as they are
    #[command(
        after_help = "EXAMPLES\n  lastgood config migrate --dry-run\n  lastgood config migrate\n  lastgood config migrate /etc/lastgood/config.d/20-site.toml"
    )]
    Migrate {
        /// File to rewrite [default: the configuration file and config.d/*.toml next to it]
        file: Option<PathBuf>,
        /// Print the differences and exit
        #[arg(long)]
        dry_run: bool,
    },
    /// Run notify.command once with a test message; exit code 1 when it fails
    #[command(after_help = "EXAMPLES\n  lastgood config test-notify")]
    TestNotify,
    /// Print the example file of the package
    #[command(hide = true)]
    Example,
}

/// What a command needs besides its arguments.
enum Needs {
    /// Nothing: it never fails for a mistake in the configuration.
    Nothing,
    /// The configuration.
    Settings,
    /// What can be understood of the configuration: it has to work however broken that is.
    WhatIsRight,
    /// The configuration, and threads: it is the agent.
    Service,
}

impl Command {
    fn needs(&self) -> Needs {
        match self {
            Self::Completions { .. }
            | Self::Man { .. }
            | Self::Config(ConfigCommand::Example | ConfigCommand::Migrate { .. }) => Needs::Nothing,
            // A file is looked at on any machine, however that is configured.
            Self::Etcd(EtcdCommand::Snapshot(command)) if command.is_offline() => Needs::Nothing,
            Self::Run => Needs::Service,
            // A mistake in the configuration keeps nobody from their data.
            Self::FillSlots
            | Self::Gate
            | Self::RemovalNotice
            | Self::Etcd(EtcdCommand::Restore(_) | EtcdCommand::Snapshot(SnapshotCommand::Unpack(_))) => {
                Needs::WhatIsRight
            }
            _ => Needs::Settings,
        }
    }
}

/// Carries a command out.
///
/// # Errors
/// A sentence for the person, and the exit code.
pub fn dispatch(cli: Cli) -> Result<Exit, Failure> {
    let loaded = match cli.command.needs() {
        Needs::Nothing => return without_settings(&cli.command, cli.config.as_deref()),
        Needs::Settings | Needs::Service => crate::config::load(cli.config.as_deref(), KEYS).map_err(Failure::from)?,
        Needs::WhatIsRight => {
            let (loaded, mistakes) = crate::config::load_leniently(cli.config.as_deref(), KEYS);
            // Without root these commands come to nothing, and would say a wrong reason.
            if mistakes.are_denied() && !nix::unistd::geteuid().is_root() {
                return Err(mistakes.into());
            }
            if !mistakes.0.is_empty() {
                crate::journal::complain(&mistakes.to_string());
            }
            loaded
        }
    };
    let mut builder = match cli.command.needs() {
        // The passes and the socket; a probe that hangs holds up neither.
        Needs::Service => tokio::runtime::Builder::new_multi_thread(),
        _ => tokio::runtime::Builder::new_current_thread(),
    };
    let runtime = builder.worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| Failure::failed(format!("no runtime: {error}")))?;
    let exit = runtime.block_on(command(cli.command, loaded));
    // A task that hangs on something outside does not keep the process.
    runtime.shutdown_timeout(Duration::from_secs(1));
    exit
}

async fn command(command: Command, loaded: Loaded) -> Result<Exit, Failure> {
    let settings = &loaded.settings;
    match command {
        Command::Run => service::run(loaded).await,
        Command::Status { cluster: true, output, .. } => status::cluster(settings, output).await,
        Command::Status { watch, output, .. } => status::status(settings, watch.into(), output).await,
        Command::History { component, number, output } => history::history(settings, component, number, output),
        Command::Explain { component, output } => explain::explain(settings, component, output).await,
        Command::Diff { component, a, b } => diff::diff(settings, &component, a, b),
        Command::Rollback { component, to, care } => {
            let request = Request::Rollback { component: component.clone(), to };
            rollback::replace(settings, component, request, care).await
        }
        Command::Quarantine { component, number, reason, care } => {
            let request = Request::Quarantine { component: component.clone(), number, reason };
            rollback::replace(settings, component, request, care).await
        }
        Command::Pin { component, number, reason, dry_run } => {
            pause::perform(settings, Request::Pin { component, number, reason }, dry_run.into()).await
        }
        Command::Unpin { component, dry_run } => {
            pause::perform(settings, Request::Unpin { component }, dry_run.into()).await
        }
        Command::Pause { length, reason, dry_run } => pause::pause(settings, length, reason, dry_run.into()).await,
        Command::Checkpoint { component, reason, dry_run } => {
            pause::perform(settings, Request::Checkpoint { component, reason }, dry_run.into()).await
        }
        Command::Release { component, number, dry_run } => {
            pause::perform(settings, Request::Release { component, number }, dry_run.into()).await
        }
        Command::Resume { component, dry_run } => pause::resume(settings, component, dry_run.into()).await,
        Command::Certs(command) => certs::certs(settings, &command),
        Command::Check { files, output } => check::check_files(settings, &files, output).await,
        Command::Doctor { output } => doctor::doctor(&loaded, output).await,
        Command::Metrics => metrics::metrics(settings).await,
        Command::Config(config) => config::config(&loaded, &config).await,
        Command::FillSlots => slots::fill(settings),
        Command::Gate => gate::run(settings).await,
        Command::RemovalNotice => Ok(removal::notice(settings)),
        Command::Etcd(command) => etcd::etcd(settings, command).await,
        Command::Completions { .. } | Command::Man { .. } => without_settings(&command, None),
    }
}

fn without_settings(command: &Command, file: Option<&Path>) -> Result<Exit, Failure> {
    match command {
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(*shell, &mut Cli::command(), "lastgood", &mut script);
            out::bytes(&script)
        }
        Command::Etcd(command) => etcd::offline(command),
        Command::Man { page } => out::text(&page.print(&Cli::command())),
        Command::Config(command) => config::without_settings(command, file),
        _ => Err(Failure::failed("this command needs the configuration".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_fit_together() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_people_type_is_understood() {
        for line in [
            "lastgood run",
            "lastgood --config /tmp/x.toml status --watch -o json",
            "lastgood status -o yaml -v",
            "lastgood history etcd -n 5",
            "lastgood explain edge/haproxy",
            "lastgood diff kube-apiserver 1 3",
            "lastgood rollback kube-apiserver --to 2 --dry-run -o json",
            "lastgood rollback etcd -y",
            "lastgood pin kube-apiserver 2 --reason audited",
            "lastgood pin etcd --dry-run",
            "lastgood unpin etcd",
            "lastgood quarantine kube-scheduler --reason leaks -y",
            "lastgood quarantine kube-scheduler 3 --dry-run -o yaml",
            "lastgood pause --for 1h30m --reason upgrade",
            "lastgood pause",
            "lastgood resume etcd",
            "lastgood certs check -o yaml",
            "lastgood etcd status",
            "lastgood etcd status -o json",
            "lastgood etcd sizing",
            "lastgood etcd sizing --write-test -y -o yaml",
            "lastgood etcd sizing --write-test --dir /mnt/disk --writes 500",
            "lastgood etcd snapshot verify /backup/etcd.db",
            "lastgood etcd snapshot verify --skip-hash-check db -o json",
            "lastgood etcd snapshot show /backup/etcd.db -o yaml",
            "lastgood etcd compact --dry-run -o json",
            "lastgood etcd compact --revision 12 -y",
            "lastgood etcd defrag",
            "lastgood etcd defrag --member master-1 --accept-unchecked -y",
            "lastgood etcd defrag --cluster --dry-run -o yaml",
            "lastgood etcd disarm --yes",
            "lastgood etcd restore --from latest",
            "lastgood etcd restore --from f --name m0 --initial-cluster m0=http://h:1,m1=http://i:1 --stopped m1,m2 -y",
            "lastgood etcd restore --from f --data-dir d --replace --bump-revision 5 --mark-compacted --dry-run -o json",
            "lastgood etcd restore --from f --skip-hash-check --etcd-version 3.5.16 --initial-cluster-token t",
            "lastgood metrics",
            "lastgood doctor",
            "lastgood doctor -o json",
            "lastgood etcd snapshot save",
            "lastgood etcd snapshot save /root/before.db -o json",
            "lastgood etcd snapshot save /root/before.db --bundle",
            "lastgood etcd snapshot save --from-data-dir /var/lib/etcd",
            "lastgood etcd snapshot save s3://backups/etcd",
            "lastgood etcd snapshot list --remote",
            "lastgood etcd snapshot list gs://backups/etcd -o json",
            "lastgood etcd snapshot prune --remote --dry-run",
            "lastgood etcd snapshot prune --remote --cluster cdf818194e3a8c32 --cluster aa -y",
            "lastgood etcd snapshot unpack s3://backups/etcd/x.db --to /root/node --identity key.txt",
            "lastgood etcd snapshot verify s3://backups/etcd/x.db",
            "lastgood etcd restore --from s3://backups/etcd --dry-run",
            "lastgood etcd snapshot list -o yaml",
            "lastgood etcd snapshot prune --dry-run",
            "lastgood etcd snapshot prune -y",
            "lastgood etcd snapshot unpack latest --to /root/node",
            "lastgood etcd snapshot unpack /backup/a.db --to node --identity key.txt --dry-run -o json",
            "lastgood config check",
            "lastgood config show -o json",
            "lastgood config migrate",
            "lastgood config migrate /etc/lastgood/config.d/a.toml --dry-run",
            "lastgood completions bash",
            "lastgood fill-slots",
            "lastgood gate",
            "lastgood etcd unbar --data-dir /var/lib/etcd --dry-run",
            "lastgood etcd unbar -y",
            "lastgood removal-notice",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "lastgood",
            "lastgood rollback",
            "lastgood rollback ../etc",
            "lastgood pause --for 5",
            "lastgood diff etcd one",
            "lastgood pin",
            "lastgood pin etcd newest",
            "lastgood unpin etcd 2",
            "lastgood status -o xml",
            "lastgood etcd sizing --dir /mnt/disk",
            "lastgood etcd sizing --write-test --writes 1",
            "lastgood etcd restore",
            "lastgood etcd compact --revision newest",
            "lastgood etcd defrag --cluster --member m0",
            "lastgood etcd restore --from f --mark-compacted",
            "lastgood etcd snapshot unpack latest",
            "lastgood etcd restore --from f --etcd-version new",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), i32::from(Exit::Usage.code()), "{line}");
        }
    }

    #[test]
    fn what_only_the_package_calls_is_hidden_and_explains_itself() {
        let mut command = Cli::command();
        assert!(!command.render_long_help().to_string().contains("removal-notice"));
        let notice = command.find_subcommand_mut("removal-notice").unwrap();
        let help = notice.render_long_help().to_string();
        assert!(help.contains("EXAMPLES") && help.contains("always exits"), "{help}");
    }

    #[test]
    fn help_names_every_exit_code() {
        let help = Cli::command().render_long_help().to_string();
        for exit in Exit::ALL {
            assert!(help.contains(&format!("{}  {}", exit.code(), exit.meaning())), "{exit:?} in\n{help}");
        }
    }
}
