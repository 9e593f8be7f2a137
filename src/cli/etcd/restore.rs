//! `lastgood etcd restore`: the plan first, then the deed. It needs no agent, no etcdutl and no running etcd.

use std::path::{Path, PathBuf};

use clap::Args;

use super::progress::Progress;
use crate::cli::offline::Offline;
use crate::cli::{Exit, Failure, out, rollback};
use crate::config::Settings;
use crate::etcd::restore::{Ask, Fault, Finished, Node, OfManifest, Planned, Recorded, Restored, finish};
use crate::etcd::snapshot::RawCopy;
use crate::model::versions::Minor;
use crate::model::{ComponentId, Manifest, Role, manifest};
use crate::observe;
use crate::report::Format;
use crate::sys::{files, proc};

/// How to restore. What is left out is taken from the etcd manifest of this node, where there is one.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// The snapshot, as etcdctl, etcdutl or lastgood saved it
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The member's name
    #[arg(long)]
    name: Option<String>,
    /// All members of the new cluster: name=peer URL, name=peer URL …
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// What the IDs of the new cluster are made with; a random one when absent, so that no old member joins by mistake
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// The peer URLs of this member [default: those of its name in --initial-cluster]
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<String>,
    /// Where the data go
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// How far revisions move forward; 0: not at all [default: a billion above the highest that was seen]
    #[arg(long, value_name = "N")]
    bump_revision: Option<u64>,
    /// Goes with --bump-revision, as with etcdutl: revisions that moved are always marked compacted
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Take a file without a SHA-256 at its end, such as a copy of member/snap/db
    #[arg(long)]
    skip_hash_check: bool,
    /// What stands in --data-dir may be put aside; it is kept
    #[arg(long)]
    replace: bool,
    /// The other members that the snapshot or the data name: you say that their etcd is stopped, and stays so
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    stopped: Vec<String>,
    /// The etcd that will open the data [default: the one in the manifest's image]
    #[arg(long, value_name = "3.N", value_parser = minor)]
    etcd_version: Option<Minor>,
    /// Show the plan, and do nothing
    #[arg(long)]
    dry_run: bool,
    /// Do not ask
    #[arg(short, long)]
    yes: bool,
    /// How to print the plan, and what was done
    #[arg(short, long, value_enum, default_value_t)]
    output: Format,
}

fn minor(text: &str) -> Result<Minor, String> {
    let mut numbers = text.trim_start_matches('v').split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err("3.5 and 3.5.16 are versions of etcd".to_owned()),
    }
}

pub(in crate::cli) fn restore(settings: &Settings, args: &RestoreArgs) -> Result<Exit, Failure> {
    if args.from == Path::new("latest") {
        let sentence = "refused: lastgood keeps no snapshots of its own yet; next: name the file (--from FILE)";
        return Err(Failure { exit: Exit::Refused, sentence: sentence.to_owned() });
    }
    let node = node(settings);
    let ask = args.ask();
    let data_dir = ask.data_dir(&node)?;
    let finished = if args.dry_run { Vec::new() } else { finish(&data_dir)? };
    let planned = {
        let mut progress = Progress::new("verifying");
        ask.plan(&node, &mut |done, of| progress.at(done, of))?
    };
    for finished in finished {
        match finished {
            Finished::Undone => eprintln!("a restore that was broken off is undone: what stood stands"),
            Finished::Completed(restored) if restored.is(&planned) => {
                eprintln!("this very restore was broken off when it was all but done, and is completed now");
                return done(args, &data_dir, &restored);
            }
            Finished::Completed(_) => eprintln!("an earlier restore that was broken off is completed"),
        }
    }
    if args.dry_run || args.output == Format::Text {
        out::text(&args.output.print(&planned.plan, |plan| plan.text())?)?;
    }
    if let Some(who) = &planned.plan.in_use {
        let next = stop(&node);
        return match args.dry_run {
            true => Ok(Exit::Ok),
            false => Err(Failure { exit: Exit::Refused, sentence: format!("refused: {who}; next: {next}") }),
        };
    }
    if args.dry_run {
        return Ok(Exit::Ok);
    }
    if !args.yes && !rollback::agreed()? {
        return Err(Failure { exit: Exit::Refused, sentence: "nothing was done".to_owned() });
    }
    let restored = carry_out(planned)?;
    done(args, &data_dir, &restored)
}

fn carry_out(planned: Planned) -> Result<Restored, Fault> {
    let mut progress = Progress::new("building");
    let built = planned.build(&mut |done, of| progress.at(done, of))?;
    let mut progress = Progress::new("checking");
    built.check(&mut |done, of| progress.at(done, of))?.swap()
}

fn done(args: &RestoreArgs, data_dir: &Path, restored: &Restored) -> Result<Exit, Failure> {
    out::text(&args.output.print(restored, |restored| {
        let kept = match &restored.aside {
            Some(aside) => format!("; what stood there is kept in {}", data_dir.join(aside).display()),
            None => String::new(),
        };
        format!("{} is restored{kept}\nnow start its etcd\n", data_dir.join("member").display())
    })?)
}

/// How a person stops the etcd that is in the way.
fn stop(node: &Node) -> String {
    match node.etcd.as_ref().map(|etcd| etcd.file.as_path()).filter(|file| file.exists()) {
        Some(file) => {
            let dir = file.parent().unwrap_or(file).display();
            format!(
                "`lastgood pause --for 1h --reason restore`; move kube-apiserver's manifest and then {} out of {dir} to a \
                 directory beside it; when `crictl ps` shows neither any more, run this again; then move etcd's manifest \
                 back, kube-apiserver's when etcd serves, and `lastgood resume`",
                file.display()
            )
        }
        None => "stop it, and run this again".to_owned(),
    }
}

impl RestoreArgs {
    fn ask(&self) -> Ask {
        Ask {
            from: self.from.clone(),
            raw_copy: if self.skip_hash_check { RawCopy::Allow } else { RawCopy::Refuse },
            name: self.name.clone(),
            initial_cluster: self.initial_cluster.clone(),
            token: self.initial_cluster_token.clone(),
            advertised: self.initial_advertise_peer_urls.clone(),
            data_dir: self.data_dir.clone(),
            bump: self.bump_revision,
            replace: self.replace,
            stopped: self.stopped.clone(),
            etcd_version: self.etcd_version,
        }
    }
}

/// What this node's etcd manifest and the agent's memory say.
fn node(settings: &Settings) -> Node {
    let (_, surroundings) = observe::find(settings);
    let dir = &surroundings.manifests.value;
    let stands = etcd_manifest(dir);
    let startable = stands.as_ref().and_then(|(file, _)| startable(file));
    // Taken out for the restore, it lies where every known-good manifest does.
    let Some((file, manifest)) = stands.or_else(|| etcd_manifest(&settings.paths.inactive_manifests)) else {
        return Node::default();
    };
    let on_host = |flag: &str| {
        let inside = PathBuf::from(manifest.flag(flag)?);
        Some(manifest.host_path(&inside).unwrap_or(inside))
    };
    let etcd = OfManifest {
        file,
        name: manifest.flag("name"),
        advertised: manifest.flag("initial-advertise-peer-urls"),
        data_dir: on_host("data-dir"),
        wal_dir: on_host("wal-dir"),
        version: manifest.minor_version(),
        startable,
    };
    Node { etcd: Some(etcd), recorded: recorded(settings, &manifest.id) }
}

fn etcd_manifest(dir: &Path) -> Option<(PathBuf, Manifest)> {
    let names = files::names(dir).unwrap_or_default();
    let visible = names.iter().filter(|name| !name.starts_with('.')).map(|name| dir.join(name));
    visible.into_iter().find_map(|path| {
        let bytes = files::read_bounded(&path, manifest::MAX_BYTES).ok()?;
        let manifest = Manifest::parse(bytes.into()).ok().filter(|manifest| manifest.role == Role::Etcd)?;
        Some((path, manifest))
    })
}

/// Why the etcd of a manifest that stands may be started at any moment.
fn startable(file: &Path) -> Option<String> {
    let mut processes = proc::processes().into_iter();
    let kubelet = processes.find(|process| process.program() == "kubelet" && proc::in_our_namespace(process.pid))?;
    Some(format!("{} stands, and the kubelet (pid {}) starts it whenever it likes", file.display(), kubelet.pid))
}

/// What the agent saw of it last. Without a memory there is none, which moves revisions as far as for the unknown.
fn recorded(settings: &Settings, etcd: &ComponentId) -> Option<Recorded> {
    let memory = Offline::open(settings).ok()?.memory().ok()?;
    let seen = memory.incarnations.get(etcd)?;
    Some(Recorded { revision: seen.revision, at: seen.at, members: seen.members })
}

impl From<Fault> for Failure {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Refused { .. } => Self { exit: Exit::Refused, sentence: format!("refused: {fault}") },
            Fault::Rejected(rejected) => rejected.into(),
            Fault::Io(error) => error.into(),
            Fault::Unfit(_) | Fault::Read(_) => Self::failed(fault.to_string()),
        }
    }
}
