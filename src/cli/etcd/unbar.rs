//! `lastgood etcd unbar`: undoes the bar of a data directory.

use std::path::PathBuf;

use clap::Args;

use crate::cli::rollback::agreed;
use crate::cli::{Exit, Failure, out};
use crate::config::Settings;
use crate::etcd::bar::{self, Unbarred};
use crate::ops::etcd::node::of_manifest;
use crate::sys::files;

/// Which directory.
#[derive(Debug, Args)]
pub struct UnbarArgs {
    /// Data directory, for example /var/lib/etcd [default: as etcd's manifest says]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Print the plan and exit
    #[arg(long)]
    dry_run: bool,
    /// Skip the confirmation prompt
    #[arg(short, long)]
    yes: bool,
}

pub(super) fn unbar(settings: &Settings, args: UnbarArgs) -> Result<Exit, Failure> {
    let Some(data_dir) = args.data_dir.or_else(|| of_manifest(settings)?.0.data_dir) else {
        return Err(Failure::refused("this node has no etcd manifest; name the directory with --data-dir".to_owned()));
    };
    let dir = data_dir.display();
    // What this user may not see is not said to be absent.
    std::fs::read_dir(&data_dir).map_err(files::named("read", &data_dir))?;
    let Some(why) = bar::reason(&data_dir.join("member")) else {
        return Err(Failure::refused(format!("{dir} is not barred: nothing to do")));
    };
    let aside = data_dir.join(bar::ASIDE);
    let effect = match aside.exists() {
        true => format!("the data in {} are in their place again, and etcd starts over them", aside.display()),
        false => "there are no data: an etcd that starts founds a new, empty cluster, unless its manifest says \
                  --initial-cluster-state=existing"
            .to_owned(),
    };
    out::text(&format!(
        "{dir} is barred: {why}\nThe plan:\n  1. remove the text in {dir}/member/snap/db\nThen {effect}.\n"
    ))?;
    if args.dry_run {
        return Ok(Exit::Ok);
    }
    if !args.yes && !agreed()? {
        return Err(Failure { exit: Exit::Refused, sentence: "nothing was changed".to_owned() });
    }
    let done = bar::unbar(&data_dir).map_err(|error| Failure::failed(format!("{dir} is still barred: {error}")))?;
    out::text(match done {
        Unbarred::DataBack => "the data are back; the kubelet starts etcd by itself within some minutes\n",
        Unbarred::Empty => "the directory is empty again; the kubelet starts etcd by itself within some minutes\n",
        Unbarred::NotBarred => "it was not barred any more\n",
    })
}
