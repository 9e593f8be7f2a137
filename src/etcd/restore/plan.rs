//! Plans a restore before anything is changed, or refuses it with the reason.
//!
//! ```text
//!   Ask, Node ─▶ settled: name, cluster, data directory ─▶ verified ─▶ other members ─▶ which etcd ─▶ disk space ─▶ Planned
//! ```
//!
//! The members of a restored cluster have to agree on three things: the snapshot, the token, and the revision bump. So
//! a token that lastgood generates contains the other two (`lastgood-SHA256-REVISION-RANDOM`), and a given token is
//! checked against the snapshot: only the token has to be passed on to the next member.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use nix::sys::statvfs::statvfs;
use serde::Serialize;

use super::cluster::{NewCluster, NoCluster, peer_url};
use super::layout::{Owner, Stamp, not_empty, random, stamp};
use super::{Fault, Node, OfManifest, RestoreOptions, Unreadable, precheck, revisions, separate_wal};
use crate::etcd::backend::{self, Member};
use crate::etcd::encryption::{self, Encryption, Readable};
use crate::etcd::snapshot::{Contents, EncryptedBy, RawCopy, Rejected, Trailer, Verified};
use crate::etcd::versions;
use crate::model::etcd_guard::may_open;
use crate::model::versions::Minor;
use crate::model::{DataVersion, Digest};
use crate::sys::files;

/// What an etcd allots at its start: two segments of its log, 64 MB each.
const LOG: u64 = 128_000_000;
/// How many hex digits of the snapshot's SHA-256 a token of ours carries.
const OF_SHA: usize = 12;
const TOKEN: &str = "lastgood";

/// What a restore would do.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Plan {
    /// What it is made of.
    pub snapshot: Source,
    /// The cluster it makes.
    pub cluster: NewCluster,
    /// Where it goes.
    pub data_dir: PathBuf,
    /// What is there and is put aside, if anything does.
    pub stands: Option<PathBuf>,
    /// Where its log goes, if apart from them (`--wal-dir`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wal_dir: Option<PathBuf>,
    /// How far revisions move.
    pub revisions: Revisions,
    /// What is lost or changed by it, a sentence each.
    pub lost: Vec<String>,
    /// What the operator has to do afterwards, a sentence each.
    pub afterwards: Vec<String>,
    /// Bytes of room that it takes, and that there are.
    pub room: Room,
    /// Which other restore of this node is under way, in a plan that waits for nobody (`--dry-run`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub under_way: Option<String>,
    /// Who works at the data directory and has to be stopped first, if anybody does.
    pub in_use: Option<String>,
    /// How that is done, where it is: step by step, the restore itself among them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<String>,
}

/// The snapshot, as far as it matters here.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Source {
    pub file: PathBuf,
    /// Bytes of its database.
    pub size: u64,
    /// Its SHA-256.
    pub sha256: Digest,
    /// Whether it carries that SHA-256 itself; a copy of a database file does not.
    pub proven: bool,
    /// Its newest revision.
    pub revision: i64,
    /// How many leases it holds.
    pub leases: u64,
    /// Its members, by name.
    pub members: Vec<String>,
}

/// The revisions before and after.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Revisions {
    /// The snapshot's newest.
    pub snapshot: i64,
    /// The highest that is known to have been given out, by whatever tells.
    pub highest_known: i64,
    /// The one that is moved to and marked compacted; the next write gets the one above. Nothing where none is moved.
    pub moved_to: Option<i64>,
}

/// Room on the data directory's file system.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Room {
    /// Bytes that it takes.
    pub needed: u64,
    /// Bytes that there are.
    pub free: u64,
}

/// A restore that may be done.
#[derive(Debug)]
pub struct Planned {
    pub plan: Plan,
    pub(super) source: PathBuf,
    pub(super) data_dir: PathBuf,
    pub(super) owner: Owner,
    pub(super) stamp: Stamp,
    /// Whether the token was made here, and not given.
    pub(super) token_is_ours: bool,
    /// `--bump-revision`.
    pub(super) bump: Option<u64>,
    /// Whether how far revisions move was worked out here, and neither given nor told by a token.
    pub(super) moves_freely: bool,
    /// Whether the existing data may be put aside.
    pub(super) may_replace: bool,
    of_manifest: bool,
    /// What the API server lacks the keys of.
    pub(super) unreadable: Vec<EncryptedBy>,
    /// Why an etcd may be started over it at any moment, where one may.
    pub(super) startable: Option<String>,
}

impl Planned {
    /// Why an etcd may be started over it at any moment, where one may: its manifest exists.
    pub fn startable(&self) -> Option<&str> {
        self.startable.as_deref()
    }

    /// Whether it is the data directory of this node's etcd manifest.
    pub fn of_manifest(&self) -> bool {
        self.of_manifest
    }

    /// The same plan, where the manifest was looked at once more since.
    pub fn looked_again(self, startable: Option<String>) -> Self {
        Self { startable, ..self }
    }
}

/// Name, cluster and place, from the flags and the manifest.
struct Settled {
    name: String,
    initial: String,
    advertised: Option<String>,
    data_dir: PathBuf,
    /// Where its log goes, if apart.
    wal_dir: Option<PathBuf>,
    /// Whether the manifest names this data directory.
    of_manifest: bool,
}

impl RestoreOptions {
    /// Works out what would be done. `verify` tells whether the snapshot is whole: as [`crate::etcd::snapshot::verify`], or by
    /// what is known of it.
    ///
    /// # Errors
    /// Everything that speaks against it. Nothing is touched.
    pub fn plan(
        &self,
        node: &Node,
        verify: impl FnOnce(&Path, RawCopy) -> Result<Verified, Rejected>,
    ) -> Result<Planned, Fault> {
        let settled = self.settled(node.etcd.as_ref())?;
        // Before minutes are spent on reading.
        NewCluster::new(&settled.initial, "", &settled.name, settled.advertised.as_deref()).map_err(no_cluster)?;
        let data_dir = &settled.data_dir;
        let stands = self.stands(&settled)?;
        let stamp = stamp(&self.from)?;
        let verified = verify(&self.from, self.raw_copy)?;
        let contents = &verified.contents;
        let old = stands.as_ref().map(|stands| backend::read(&stands.join("snap/db")));
        let old_members = old.as_ref().and_then(|old| Some(old.as_ref().ok()?.members.clone())).unwrap_or_default();
        let others = self.others(node, &settled, &contents.members, &old_members)?;
        self.version(node.etcd.as_ref(), contents)?;
        let readable = self.readable(node, &settled, contents)?;

        // A new etcd begins at 1.
        let snapshot = contents.revision.map_or(1, |revision| revision.main).max(1);
        let of_old = old.as_ref().and_then(|old| old.as_ref().ok()?.revision).map_or(0, |revision| revision.main);
        let recorded = node.recorded.as_ref().map_or(0, |recorded| recorded.revision);
        let highest_known = snapshot.max(of_old).max(recorded);
        let told = self.token.as_deref().and_then(Token::parse);
        let moves_freely = told.is_none() && self.bump.is_none();
        let moved_to = match told {
            Some(token) => self.of_token(&token, snapshot, highest_known, verified.sha256)?,
            None => revisions::moved_to(snapshot, highest_known, self.bump)?,
        };
        let token = match &self.token {
            Some(token) => token.clone(),
            None => Token::make(verified.sha256, moved_to)?,
        };
        let cluster = NewCluster::new(&settled.initial, &token, &settled.name, settled.advertised.as_deref())
            .map_err(no_cluster)?;
        if cluster.size() > 1
            && self.token.as_deref().is_some_and(|token| Token::parse(token).is_none())
            && self.bump.is_none()
        {
            return Err(Fault::refused(
                "a token that you choose does not carry the revision bump, which must be equal on all members",
                "give --bump-revision as well (1000000000 unless you need another value), or leave both out: the plan \
                 then shows the token for the others",
            ));
        }
        let room = rooms(data_dir, settled.wal_dir.as_deref(), verified.size)?;
        let revisions = Revisions { snapshot, highest_known, moved_to };
        let told = Told { contents, proven: verified.trailer != Trailer::Absent, old: old.as_ref(), node, revisions };
        let startable = node.etcd.as_ref().filter(|_| settled.of_manifest).and_then(|etcd| etcd.startable.clone());
        let plan = Plan {
            snapshot: Source {
                file: self.from.clone(),
                size: verified.size,
                sha256: verified.sha256,
                proven: told.proven,
                revision: snapshot,
                leases: contents.leases,
                members: contents.members.iter().map(called).collect(),
            },
            lost: told.lost(Timestamp::now()).into_iter().chain(readable.unreadable).collect(),
            afterwards: self
                .afterwards(&cluster, node, &old_members, contents)
                .into_iter()
                .chain(others)
                .chain(readable.remarks)
                .collect(),
            cluster,
            data_dir: data_dir.clone(),
            stands,
            wal_dir: settled.wal_dir.clone(),
            revisions,
            room,
            under_way: None,
            in_use: match precheck::hold(data_dir) {
                Ok(_given_back) => startable.clone(),
                Err(Fault::Refused { why, .. }) => Some(why),
                Err(other) => return Err(other),
            },
            first: Vec::new(),
        };
        Ok(Planned {
            plan,
            source: self.from.clone(),
            data_dir: data_dir.clone(),
            owner: owner(data_dir, node.etcd.as_ref().filter(|_| settled.of_manifest))?,
            stamp,
            token_is_ours: self.token.is_none(),
            bump: self.bump,
            moves_freely,
            may_replace: settled.of_manifest || self.replace,
            of_manifest: settled.of_manifest,
            unreadable: readable.lacking,
            startable,
        })
    }

    /// The data directory this is about, before anything else is known: where an earlier restore may have been
    /// interrupted.
    ///
    /// # Errors
    /// Where neither the flags nor a manifest name one.
    pub fn data_dir(&self, node: &Node) -> Result<PathBuf, Fault> {
        let found = self.data_dir.clone().or_else(|| node.etcd.as_ref()?.data_dir.clone());
        let dir = found.ok_or_else(|| match &node.etcd {
            None => Fault::refused("no etcd manifest is on this node", FLAGS),
            Some(etcd) => Fault::refused(
                format!("{} does not name its data directory (--data-dir)", etcd.file.display()),
                "give --data-dir",
            ),
        })?;
        real(&dir).map_err(|error| files::named("find", &dir)(error).into())
    }

    fn settled(&self, etcd: Option<&OfManifest>) -> Result<Settled, Fault> {
        let data_dir = self.data_dir(&Node { etcd: etcd.cloned(), ..Node::default() })?;
        let of_etcd = etcd.and_then(|etcd| real(etcd.data_dir.as_ref()?).ok());
        let of_manifest = of_etcd.as_ref() == Some(&data_dir);
        // Another data directory than the node's own is another member's: nothing of the manifest goes for it.
        let etcd = etcd.filter(|_| of_manifest);
        let wal_dir = match self.wal_dir.as_ref().or_else(|| etcd?.wal_dir.as_ref()) {
            Some(dir) => real(dir).map_err(files::named("find", dir)).map(Some)?,
            None => None,
        };
        let wal_dir = wal_dir.filter(|dir| *dir != data_dir.join("member/wal"));
        // etcd's own default.
        let of_etcd = etcd.map(|etcd| etcd.name.clone().unwrap_or_else(|| "default".to_owned()));
        let Some(name) = self.name.clone().or(of_etcd) else {
            return Err(Fault::refused(
                format!("it is unknown which member {} belongs to: no etcd manifest names it", data_dir.display()),
                FLAGS,
            ));
        };
        let advertised = self.advertised.clone().or_else(|| etcd?.advertised.clone());
        let initial = match (&self.initial_cluster, &advertised) {
            (Some(initial), _) => initial.clone(),
            (None, Some(urls)) => {
                urls.split(',').map(|url| format!("{name}={}", url.trim())).collect::<Vec<_>>().join(",")
            }
            (None, None) => {
                return Err(Fault::refused("it is unknown at which URL the peers reach this member", FLAGS));
            }
        };
        Ok(Settled { name, initial, advertised, data_dir, wal_dir, of_manifest })
    }

    /// The existing data in the data directory, where it may be put aside.
    fn stands(&self, settled: &Settled) -> Result<Option<PathBuf>, Fault> {
        let dir = &settled.data_dir;
        let Some(metadata) = files::standing(dir)? else {
            there(files::dir_of(dir))?;
            return Ok(None);
        };
        if !metadata.is_dir() {
            let what = files::kind_of(&metadata);
            return Err(Fault::refused(
                format!("{} is a {what}, no directory", dir.display()),
                "give another --data-dir",
            ));
        }
        let others = files::names(dir)?;
        // Ours is not in the way, nor what a file system brings with it.
        let in_the_way = others.iter().find(|name| !name.starts_with('.') && *name != "lost+found");
        if let Some(name) = in_the_way
            && !settled.of_manifest
            && !self.replace
        {
            return Err(not_empty(dir, name));
        }
        let member = dir.join("member");
        if let Some(wal_dir) = &settled.wal_dir {
            self.log_stands(settled, wal_dir, &member)?;
        }
        Ok(files::standing(&member)?.map(|_| member))
    }

    /// Whether a log may go into this directory, and what is in it be put aside.
    fn log_stands(&self, settled: &Settled, wal_dir: &Path, member: &Path) -> Result<(), Fault> {
        let dir = wal_dir.display();
        if wal_dir.starts_with(member) {
            let why = format!("{dir} is inside {}, which is exchanged as a whole", member.display());
            return Err(Fault::refused(why, "give a --wal-dir outside, as its etcd is given it"));
        }
        match files::standing(wal_dir)? {
            Some(metadata) if metadata.is_dir() => {}
            Some(metadata) => {
                let why = format!("{dir} is a {}, no directory", files::kind_of(&metadata));
                return Err(Fault::refused(why, "give another --wal-dir, as its etcd is given it"));
            }
            None => there(files::dir_of(wal_dir))?,
        }
        match separate_wal::standing(wal_dir)?.first() {
            Some(name) if !settled.of_manifest && !self.replace => Err(not_empty(wal_dir, name)),
            _ => Ok(()),
        }
    }

    /// Whether everything is given that a restore next to the node's own etcd needs: nothing starts over such a directory by
    /// itself, as with etcdutl. Where no manifest says where the node's own etcd has its data, the directory may be its own, as on
    /// a node that is built again: that is no trial.
    fn is_trial(&self, node: &Node, settled: &Settled) -> bool {
        let given = self.name.is_some() && self.initial_cluster.is_some() && self.data_dir.is_some();
        let own_is_elsewhere = node.etcd.as_ref().is_some_and(|etcd| etcd.data_dir.is_some()) && !settled.of_manifest;
        given && own_is_elsewhere
    }

    /// Q2: who else is of this cluster has to be named, and stopped. A warning, where the manifest names another directory and
    /// only the snapshot or the memory names them: its etcd is started by hand, and meets the others only by its peer URLs.
    fn others(
        &self,
        node: &Node,
        settled: &Settled,
        snapshot: &[Member],
        old: &[Member],
    ) -> Result<Option<String>, Fault> {
        let mut mine: BTreeSet<String> = BTreeSet::new();
        for part in settled.initial.split(',').filter_map(|part| part.split_once('=')) {
            mine.extend((part.0 == settled.name).then(|| peer_url(part.1).ok()).flatten());
        }
        let recorded = node.recorded.as_ref().map_or(&[][..], |recorded| &recorded.members);
        let others_of = |lists: &[&'_ [Member]]| {
            let mut others: Vec<Member> =
                lists.iter().flat_map(|members| not_me(members, &settled.name, &mine)).cloned().collect();
            others.sort_by_key(|member| member.id);
            others.dedup_by_key(|member| member.id);
            others
        };
        let is_trial = self.is_trial(node, settled);
        let others = if is_trial { others_of(&[old]) } else { others_of(&[snapshot, old, recorded]) };
        let named = |member: &Member| {
            let id = format!("{:x}", member.id);
            self.stopped.iter().any(|said| *said == id || (!member.name.is_empty() && *said == member.name))
        };
        let unnamed =
            |others: &[Member]| -> Vec<String> { others.iter().filter(|member| !named(member)).map(called).collect() };
        let running = unnamed(&others);
        if running.is_empty() && (others.is_empty() || self.initial_cluster.is_some()) {
            let elsewhere = unnamed(&others_of(&[snapshot, recorded]));
            let warning = format!(
                "the snapshot or the agent's memory names other members: {}. The etcd manifest of this node does not name {}, so \
                 lastgood restores it for a trial: let no client of that cluster reach the etcd that you start over it; if \
                 it is to replace the cluster, stop the etcd of these members first and keep it stopped",
                elsewhere.join(", "),
                settled.data_dir.display()
            );
            return Ok((is_trial && !elsewhere.is_empty()).then_some(warning));
        }
        let who = match running.as_slice() {
            [] => "the members of the new cluster are not given (--initial-cluster)".to_owned(),
            running => {
                format!("the snapshot, the data or the agent's memory name other members: {}", running.join(", "))
            }
        };
        Err(Fault::refused(
            format!(
                "{who}. A cluster is restored as a whole: a member that continues would serve the old data next to the \
                 new"
            ),
            format!(
                "stop the etcd of every member and leave it stopped; then, on each, with the same file: lastgood etcd \
                 restore --from {} --name NAME --initial-cluster NAME=URL,NAME=URL… --stopped NAME,NAME… (the others, \
                 by name or ID), from the second on with the --initial-cluster-token that the first one shows; start \
                 them when the last one is restored. For a cluster of this member alone: --initial-cluster with its \
                 own name and URL, and --stopped with those who will never start again on their old data",
                self.from.display()
            ),
        ))
    }

    /// R9: an etcd that is older than the data is not given them.
    fn version(&self, etcd: Option<&OfManifest>, contents: &Contents) -> Result<(), Fault> {
        let Some(binary): Option<Minor> = self.etcd_version.or_else(|| etcd?.version) else { return Ok(()) };
        let DataVersion::Known(mut known) = versions::of_snapshot(&contents.versions) else {
            return Err(Fault::refused(
                "the snapshot records no etcd version, so compatibility cannot be checked",
                "look at it with `lastgood etcd snapshot show`",
            ));
        };
        // It is cleared.
        known.downgrade = None;
        if known.cluster.is_none() && known.storage.is_none() {
            // Taken before the first leader had set one: nothing an etcd could stumble over.
            return Ok(());
        }
        may_open(Some(binary), &DataVersion::Known(known)).map_err(|barred| {
            Fault::refused(
                barred.why,
                "restore it for an etcd that is at least as new (--etcd-version names the one that will open it)",
            )
        })
    }

    /// Q4: keys are never put back, so what the API server cannot decrypt stays unreadable.
    fn readable(&self, node: &Node, settled: &Settled, contents: &Contents) -> Result<Readable, Fault> {
        // The data of another member's directory are another API server's to read.
        let own = settled.of_manifest || node.etcd.is_none();
        let encryption = if own { &node.encryption } else { &Encryption::NoApiServer };
        let readable = encryption::compare(contents.encrypted.as_deref().unwrap_or_default(), encryption);
        if readable.unreadable.is_empty() || self.unreadable == Unreadable::Accept {
            return Ok(readable);
        }
        let next = match encryption {
            Encryption::Configured { file, .. } => {
                format!("add what is missing to {} as a further provider of these resources", file.display())
            }
            _ => "put the EncryptionConfiguration back that the snapshot was written with".to_owned(),
        };
        Err(Fault::refused(
            readable.unreadable.join("; "),
            format!("{next}; --accept-unreadable restores it nevertheless"),
        ))
    }

    /// How far revisions move by a token of ours, which another member showed.
    fn of_token(&self, token: &Token, snapshot: i64, highest_known: i64, sha256: Digest) -> Result<Option<i64>, Fault> {
        if !sha256.to_string().starts_with(&token.sha256) {
            return Err(Fault::refused(
                format!(
                    "the token is of a snapshot whose SHA-256 begins with {}, and this one's with {}",
                    token.sha256,
                    sha256.short()
                ),
                "restore every member from the same file",
            ));
        }
        let bump = token.moved_to.map_or(0, |moved| moved.saturating_sub(snapshot));
        let asked = self.bump.map_or(bump, |asked| i64::try_from(asked).unwrap_or(i64::MAX));
        if asked != bump {
            return Err(Fault::refused(
                format!("the token says that revisions move by {bump}, and --bump-revision by {asked}"),
                "leave --bump-revision out",
            ));
        }
        match u64::try_from(bump) {
            Ok(bump) => revisions::moved_to(snapshot, highest_known, Some(bump)),
            Err(_) => {
                Err(Fault::refused("the token moves revisions backwards", "take the one that the first member shows"))
            }
        }
    }

    fn afterwards(&self, cluster: &NewCluster, node: &Node, old: &[Member], contents: &Contents) -> Vec<String> {
        let mut afterwards = Vec::new();
        let others: Vec<&str> = cluster
            .members
            .iter()
            .filter(|member| member.id != cluster.me)
            .map(|member| member.name.as_str())
            .collect();
        if !others.is_empty() {
            let stopped = if self.stopped.is_empty() { String::new() } else { " and --stopped".to_owned() };
            afterwards.push(format!(
                "restore {} from the same file as well, before any is started, with the same \
                 --initial-cluster{stopped}, its own --name, and --initial-cluster-token {}",
                others.join(", "),
                cluster.token
            ));
        }
        let kept: BTreeSet<&str> = cluster.members.iter().map(|member| member.name.as_str()).collect();
        let mut gone: Vec<String> = contents
            .members
            .iter()
            .chain(old)
            .filter(|member| !kept.contains(member.name.as_str()))
            .map(called)
            .collect();
        gone.sort();
        gone.dedup();
        if !gone.is_empty() {
            afterwards.push(format!(
                "{} is no longer a member: move its data directory away before its etcd is started again",
                gone.join(", ")
            ));
        }
        if self.etcd_version.or_else(|| node.etcd.as_ref()?.version).is_none()
            && let Some(version) = &contents.versions.cluster_version
        {
            afterwards.push(format!(
                "start an etcd of version {version} or newer; the version of the etcd that will start was not given"
            ));
        }
        afterwards
    }
}

const FLAGS: &str = "give --name, --initial-cluster (name=peer URL, of every member) and --data-dir";

/// What is reported a restore.
struct Told<'a> {
    contents: &'a Contents,
    proven: bool,
    old: Option<&'a Result<backend::Backend, crate::etcd::bbolt::Fault>>,
    node: &'a Node,
    revisions: Revisions,
}

impl Told<'_> {
    fn lost(&self, now: Timestamp) -> Vec<String> {
        let mut lost = Vec::new();
        let Revisions { snapshot, highest_known, moved_to } = self.revisions;
        let seen = self.node.recorded.as_ref().map_or(String::new(), |recorded| {
            format!(" (revision {} was seen {} ago)", recorded.revision, ago(now, recorded.at))
        });
        lost.push(match highest_known > snapshot {
            true => format!("the revisions {} to {highest_known}{seen}, and whatever was written since", snapshot + 1),
            false => format!("whatever was written after revision {snapshot}{seen}"),
        });
        lost.push(match moved_to {
            Some(to) => format!("revisions continue above {to}: a watch from an older one is answered as compacted, and its client lists again"),
            None => "revisions continue where the snapshot ends and are given out a second time: restart every client \
                     that watches the API server, on every node"
                .to_owned(),
        });
        if !self.proven {
            lost.push(
                "the file carries no SHA-256: a damaged value would not be noticed, and entries that its etcd had only \
                 in the WAL are missing"
                    .to_owned(),
            );
        }
        if let Some(Err(fault)) = self.old {
            lost.push(format!("the existing data cannot be read, so their members and revisions are unknown: {fault}"));
        }
        if self.contents.leases > 0 {
            lost.push(format!("{} leases are kept; the TTL of each starts again", self.contents.leases));
        }
        for alarm in &self.contents.alarms {
            let kind = match alarm.kind {
                1 => "NOSPACE".to_owned(),
                2 => "CORRUPT".to_owned(),
                other => format!("number {other}"),
            };
            lost.push(format!("the alarm {kind} of member {:x} is cleared", alarm.member));
        }
        if let Some(downgrade) = self.contents.versions.downgrade.as_ref().filter(|downgrade| downgrade.enabled) {
            lost.push(format!("the downgrade to {} is cancelled", downgrade.target_version));
        }
        for learner in self.contents.members.iter().filter(|member| member.is_learner) {
            lost.push(format!("the learner {} is forgotten", called(learner)));
        }
        lost
    }
}

impl Plan {
    pub fn text(&self) -> String {
        let mut out = String::new();
        let source = &self.snapshot;
        let proof = if source.proven { "matches" } else { "is not in the snapshot" };
        let (mib, needed, free) = (source.size >> 20, self.room.needed >> 20, self.room.free >> 20);
        let me = self.cluster.me;
        let mut line = |what: &str, text: String| {
            let _ = writeln!(out, "{what:<11} {text}");
        };
        line("restore", format!("{}, {mib} MiB, revision {}", source.file.display(), source.revision));
        line("SHA-256", format!("{} {proof}", source.sha256));
        line("into", self.data_dir.display().to_string());
        for member in &self.cluster.members {
            let own = if member.id == me { ", this one" } else { "" };
            line("member", format!("{member}{own}"));
        }
        line("cluster", format!("ID {:x}, token {}", self.cluster.id, self.cluster.token));
        match &self.stands {
            Some(member) => line("old data", format!("{} is kept next to it", member.display())),
            None => line("old data", "nothing".to_owned()),
        }
        if let Some(wal_dir) = &self.wal_dir {
            line("log", format!("into {}; an existing WAL is kept in it", wal_dir.display()));
        }
        self.lost.iter().enumerate().for_each(|(at, lost)| line(if at == 0 { "lost" } else { "" }, lost.clone()));
        line("room", format!("{needed} MiB needed, {free} MiB free"));
        self.afterwards.iter().for_each(|then| line("afterwards", then.clone()));
        self.under_way.iter().for_each(|other| line("under way", other.clone()));
        match &self.in_use {
            Some(who) if self.first.is_empty() => line("first", format!("stop etcd: {who}")),
            _ => {
                for (at, step) in self.first.iter().enumerate() {
                    line(if at == 0 { "steps" } else { "" }, format!("{}. {step}", at + 1));
                }
            }
        }
        out
    }
}

/// The members of a list that are not the one that is restored: it has one of its peer URLs, or where nobody has, its name.
fn not_me<'a>(members: &'a [Member], name: &str, urls: &BTreeSet<String>) -> Vec<&'a Member> {
    let by_url = |member: &Member| member.peer_urls.iter().any(|url| urls.contains(url));
    let by_name = |member: &Member| member.name == name;
    match members.iter().any(by_url) {
        true => members.iter().filter(|member| !by_url(member)).collect(),
        false => members.iter().filter(|member| !by_name(member)).collect(),
    }
}

fn called(member: &Member) -> String {
    let name = if member.name.is_empty() { "one that never started" } else { &member.name };
    format!("{name} ({:x}, {})", member.id, member.peer_urls.join(", "))
}

/// A directory by the one name it has: it may be reached through links, also of a place that is yet to be made.
fn real(dir: &Path) -> std::io::Result<PathBuf> {
    match std::fs::canonicalize(dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => std::path::absolute(dir),
        real => real,
    }
}

/// A token of ours.
struct Token {
    sha256: String,
    moved_to: Option<i64>,
}

impl Token {
    fn make(sha256: Digest, moved_to: Option<i64>) -> std::io::Result<String> {
        let random = random()?.replace('-', "");
        let sha: String = sha256.to_string().chars().take(OF_SHA).collect();
        Ok(format!("{TOKEN}-{sha}-{}-{random}", moved_to.unwrap_or_default()))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (ours, sha256, moved_to, _random) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let whole = ours == TOKEN && sha256.len() == OF_SHA && parts.next().is_none();
        let moved_to: i64 = moved_to.parse().ok()?;
        whole.then(|| Self { sha256: sha256.to_owned(), moved_to: (moved_to > 0).then_some(moved_to) })
    }
}

/// A directory that others are made in.
fn there(parent: &Path) -> Result<(), Fault> {
    match files::standing(parent)? {
        Some(_) => Ok(()),
        None => Err(Fault::refused(
            format!("{} does not exist", parent.display()),
            "mount it, or make it, if it is the right place",
        )),
    }
}

fn no_cluster(NoCluster(why): NoCluster) -> Fault {
    Fault::refused(why, FLAGS)
}

/// Room for the database and its log, on one file system or on two.
fn rooms(data_dir: &Path, wal_dir: Option<&Path>, database: u64) -> Result<Room, Fault> {
    let device =
        |dir: &Path| std::fs::metadata(place(dir)).map(|place| place.dev()).map_err(files::named("look at", dir));
    match wal_dir {
        Some(wal_dir) if device(wal_dir)? != device(data_dir)? => {
            room(wal_dir, LOG).and_then(|_| room(data_dir, database))
        }
        _ => room(data_dir, database.saturating_add(LOG)),
    }
}

/// A directory, or the one it is yet to be made in.
fn place(dir: &Path) -> &Path {
    if dir.exists() { dir } else { files::dir_of(dir) }
}

fn room(data_dir: &Path, needed: u64) -> Result<Room, Fault> {
    let there = place(data_dir);
    let found = statvfs(there).map_err(|errno| files::named("determine the free space of", there)(errno.into()))?;
    let free = found.blocks_available().saturating_mul(found.fragment_size());
    if free >= needed {
        return Ok(Room { needed, free });
    }
    Err(Fault::refused(
        format!("{} has {} MiB of free space, and {} MiB are needed", there.display(), free >> 20, needed >> 20),
        "free space; the data that an earlier restore kept there (member.before-restore-…) may be moved to another \
         disk",
    ))
}

/// Of the existing data, or of the directory it will be in. Where neither exists: the user and the group that the manifest
/// runs etcd as (an etcd that is not root could not open data of root's), or ours.
fn owner(data_dir: &Path, etcd: Option<&OfManifest>) -> std::io::Result<Owner> {
    for path in [data_dir.join("member"), data_dir.to_owned()] {
        if let Some(metadata) = files::standing(&path)? {
            return Ok(Owner { uid: metadata.uid(), gid: metadata.gid() });
        }
    }
    let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
    let runs_as = etcd.map(|etcd| etcd.runs_as).unwrap_or_default();
    Ok(Owner { uid: runs_as.user.unwrap_or(uid), gid: runs_as.group.unwrap_or(gid) })
}

fn ago(now: Timestamp, at: Timestamp) -> String {
    let seconds = now.as_second().saturating_sub(at.as_second()).max(0);
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7200 => format!("{} min", seconds / 60),
        7200..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} days", seconds / 86_400),
    }
}
