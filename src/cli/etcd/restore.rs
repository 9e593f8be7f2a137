//! `lastgood etcd restore`: shows the plan, then restores. It needs no agent, no etcdutl and no running etcd. If etcd's
//! manifest is deployed, its pod and kube-apiserver's are stopped meanwhile (suspension.rs).

use std::path::{Path, PathBuf};

use clap::Args;

use crate::cli::{ConfirmArgs, Exit, Failure, out, rollback};
use crate::config::Settings;
use crate::config::duration::roughly;
use crate::etcd::restore::{Fault, Log, RestoreOptions, Restored, Unreadable, finish};
use crate::etcd::snapshot::RawCopy;
use crate::model::clock::between;
use crate::model::versions::Minor;
use crate::ops::etcd::node::{denied, node};
use crate::ops::etcd::restore::{carry_out, completed, left, plan, stop};
use crate::ops::etcd::snapshot_ref::{self, LATEST, trust};
use crate::ops::etcd::suspension::{self, Suspension};
use crate::report::Format;
use crate::snapshots::remote::Fetched;
use crate::snapshots::{Name, Snapshot};

/// How to restore. What is left out is taken from the etcd manifest of this node, where there is one.
#[derive(Debug, Args)]
pub struct RestoreArgs {
    /// Snapshot saved by etcdctl, etcdutl or lastgood: a file, a name that `etcd snapshot list` prints, `latest` (the newest
    /// verified one), or a URL (of a prefix: the newest verified one there)
    #[arg(long, value_name = "FILE|NAME|URL|latest")]
    from: PathBuf,
    /// Name of this member
    #[arg(long)]
    name: Option<String>,
    /// All members of the new cluster, for example m0=https://10.0.0.1:2380,m1=https://10.0.0.2:2380
    #[arg(long, value_name = "MEMBERS")]
    initial_cluster: Option<String>,
    /// Token that the IDs of the new cluster are derived from [default: a random one, so that no old member can join]
    #[arg(long, value_name = "TOKEN")]
    initial_cluster_token: Option<String>,
    /// Peer URLs of this member [default: those of its name in --initial-cluster]
    #[arg(long, value_name = "URLS")]
    initial_advertise_peer_urls: Option<String>,
    /// Data directory
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// WAL directory [default: the manifest's, or below --data-dir]
    #[arg(long, value_name = "DIR")]
    wal_dir: Option<PathBuf>,
    /// How far revisions move forward; 0: not at all [default: to a billion above the highest revision seen]
    #[arg(long, value_name = "N")]
    bump_revision: Option<u64>,
    /// Accepted for etcdutl's sake: bumped revisions are always marked compacted
    #[arg(long, requires = "bump_revision")]
    mark_compacted: bool,
    /// Accept a file without a SHA-256 at its end, such as a copy of member/snap/db
    #[arg(long)]
    skip_hash_check: bool,
    /// Move existing contents of --data-dir aside; they are kept
    #[arg(long)]
    replace: bool,
    /// Other members that the snapshot or the data name, whose etcd you have stopped and keep stopped
    #[arg(long, value_name = "NAMES", value_delimiter = ',')]
    stopped: Vec<String>,
    /// etcd version that will open the data [default: the version of the image in the manifest]
    #[arg(long, value_name = "3.N", value_parser = minor)]
    etcd_version: Option<Minor>,
    /// Restore although this node's EncryptionConfiguration lacks keys: what the plan lists, such as all Secrets, stays
    /// unreadable, and the API server fails to list it, until the missing keys are back in that file
    #[arg(long)]
    accept_unreadable: bool,
    #[command(flatten)]
    care: ConfirmArgs,
    /// What the snapshot is called where it was fetched from.
    #[arg(skip)]
    called: Option<String>,
}

fn minor(text: &str) -> Result<Minor, String> {
    let mut numbers = text.trim_start_matches('v').split('.').map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor)),
        _ => Err("3.5 and 3.5.16 are versions of etcd".to_owned()),
    }
}

pub(super) async fn restore(settings: &Settings, args: &RestoreArgs) -> Result<Exit, Failure> {
    let (node, etcd) = node(settings);
    if let (None, Some(failure)) = (&etcd, denied(settings)) {
        return Err(failure);
    }
    let mut ask = args.ask(args.file(settings)?);
    if let Some(newer) = args.passed_over(settings, &ask.from)? {
        let why = Failure::unwell(format!("{}: {}", newer.path.display(), newer.damaged().unwrap_or_default()));
        ask.from = args.instead(settings, &newer.path, &why)?;
    }
    let data_dir = ask.data_dir(&node)?;
    let lock = suspension::lock(settings, args.care.dry_run)?;
    if args.care.dry_run {
        left(&data_dir)?.iter().for_each(|left| eprintln!("{left}"));
    }
    let finished = if args.care.dry_run { Vec::new() } else { finish(&data_dir)? };
    finished.iter().for_each(|finished| eprintln!("{finished}"));
    if let Some((restored, planned)) = completed(finished, &ask, &node)? {
        eprintln!("this restore is already done, and nothing was written since: nothing to do");
        let proven = suspension::back(settings, lock, etcd.filter(|_| planned.of_manifest())).await?;
        return done(args, &data_dir, &restored, proven);
    }
    let mut planned = loop {
        match plan(&ask, &node) {
            Err(Fault::Rejected(rejected)) if args.is_latest() => {
                ask.from = args.instead(settings, &ask.from, &rejected.into())?;
            }
            planned => break planned?,
        }
    };
    if let Some(called) = &args.called {
        planned.plan.snapshot.file = called.into();
    }
    planned.plan.under_way = suspension::under_way(settings).filter(|_| args.care.dry_run);
    let in_use = planned.plan.in_use.clone();
    let etcd = etcd.filter(|_| planned.of_manifest());
    let mut suspension = match etcd.clone().filter(|_| planned.startable().is_some()) {
        Some(etcd) => Some(Suspension::plan(settings, etcd, args.care.dry_run.into()).await),
        None => None,
    };
    if let Some(Ok(suspension)) = &suspension {
        planned.plan.first.clone_from(&suspension.steps);
    }
    if args.care.dry_run || args.care.output == Format::Text {
        out::text(&args.care.output.print(&planned.plan, |plan| plan.text())?)?;
    }
    if let (Some(who), None | Some(Err(_))) = (&in_use, &suspension) {
        if args.care.dry_run {
            return Ok(Exit::Ok);
        }
        let why = suspension
            .and_then(Result::err)
            .map(|failure| format!(", and lastgood cannot take its manifest out: {failure}"));
        let (why, next) = (why.unwrap_or_default(), stop(&node));
        return Err(Failure { exit: Exit::Refused, sentence: format!("refused: {who}{why}; next: {next}") });
    }
    if args.care.dry_run {
        return Ok(Exit::Ok);
    }
    if !args.care.yes && !rollback::agreed()? {
        return Err(Failure { exit: Exit::Refused, sentence: "nothing was changed".to_owned() });
    }
    let Some(Ok(suspension)) = &mut suspension else {
        let restored = carry_out(planned, &node)?;
        // An earlier run may have been killed when its slot was empty.
        let proven = suspension::back(settings, lock, etcd).await?;
        return done(args, &data_dir, &restored, proven);
    };
    if let Err(failure) = suspension.empty().await {
        drop(lock);
        return Err(failure);
    }
    let restored = carry_out(planned, &node);
    drop(lock);
    let filled = suspension.fill().await;
    // Why it was not restored comes before how the old data do.
    let restored = restored?;
    filled?;
    let proven = suspension.prove().await?;
    done(args, &data_dir, &restored, Some(proven))
}

fn done(args: &RestoreArgs, data_dir: &Path, restored: &Restored, proven: Option<i64>) -> Result<Exit, Failure> {
    out::text(&args.care.output.print(restored, |restored| {
        let kept = match &restored.aside {
            Some(aside) => format!("; the previous data are kept in {}", data_dir.join(aside).display()),
            None => String::new(),
        };
        let log = match &restored.log {
            Some(Log { dir, aside: Some(aside) }) => format!(", its WAL in {}", dir.join(aside).display()),
            _ => String::new(),
        };
        let now = match proven {
            Some(revision) => format!("its etcd serves: a write was read back at revision {revision}"),
            None => "start its etcd now; if its manifest is deployed, the kubelet does this: `systemctl start kubelet`"
                .to_owned(),
        };
        format!("{} is restored{kept}{log}\n{now}\n", data_dir.join("member").display())
    })?)
}

/// What is damaged, what could be restored instead, and what that lacks.
fn offer(damaged: &Path, why: &Failure, older: &Snapshot) -> String {
    let (file, at, revision) = (&older.name, older.name.at, older.name.revision);
    let newest = damaged.file_name().and_then(|file| file.to_str()?.parse::<Name>().ok());
    let lost = match newest {
        Some(newest) if newest.cluster == older.name.cluster && newest.revision >= revision => {
            let age = roughly(between(at, newest.at));
            format!(
                "the {} revisions that were written in the {age} between the two are lost",
                newest.revision - revision
            )
        }
        _ => format!("what was written after revision {revision} is lost"),
    };
    format!(
        "the newest snapshot is damaged: {why}; the one before it is {file}, of {at:.0}, revision {revision}: {lost}"
    )
}

impl RestoreArgs {
    /// What is to be restored, as it was named.
    pub(super) fn from(&self) -> &Path {
        &self.from
    }

    /// Whether what carries no SHA-256 is taken.
    pub(super) fn trust(&self) -> RawCopy {
        trust(self.skip_hash_check)
    }

    /// It is here for the moment.
    pub(super) fn take_from(&mut self, fetched: &Fetched) {
        self.from = fetched.path().to_owned();
        self.called = Some(fetched.from.clone());
    }

    /// The file that is meant.
    fn file(&self, settings: &Settings) -> Result<PathBuf, Failure> {
        snapshot_ref::trusted(settings, &self.from, self.trust())
    }

    fn is_latest(&self) -> bool {
        self.from == Path::new(LATEST) && snapshot_ref::is_meant(&self.from)
    }

    /// A damaged snapshot that is newer than the one that `latest` takes.
    fn passed_over(&self, settings: &Settings, taken: &Path) -> Result<Option<Snapshot>, Failure> {
        match self.is_latest() {
            true => snapshot_ref::passed_over(settings, self.trust(), taken),
            false => Ok(None),
        }
    }

    /// The snapshot before one that `latest` took and that is damaged, if the operator agrees to that very one: it lacks what
    /// was written in between. Only an operator at a terminal is asked; `--yes` agreed to the newest.
    fn instead(&self, settings: &Settings, damaged: &Path, why: &Failure) -> Result<PathBuf, Failure> {
        // What cannot be read now may be whole.
        if why.exit != Exit::Unwell {
            return Err(Failure { exit: why.exit, sentence: why.sentence.clone() });
        }
        let Some(older) = snapshot_ref::before(settings, self.trust(), damaged)? else {
            let dir = settings.snapshot_dir();
            let next = "`lastgood etcd snapshot list --remote` shows those in object storage";
            return Err(Failure::unwell(format!("{why}; {} holds no older verified one; next: {next}", dir.display())));
        };
        let offer = offer(damaged, why, &older);
        let ConfirmArgs { dry_run, yes, output } = self.care;
        if dry_run || yes || output != Format::Text || !crate::journal::watched_by_a_person() {
            let name = &older.name;
            return Err(Failure::unwell(format!(
                "{offer}; lastgood takes no older snapshot by itself; next: `lastgood etcd restore --from {name}`, with the \
                 other options as you gave them"
            )));
        }
        eprintln!("{offer}. Plan a restore of {} instead?", older.name);
        match rollback::agreed()? {
            true => Ok(older.path),
            false => Err(Failure { exit: Exit::Refused, sentence: "nothing was changed".to_owned() }),
        }
    }

    fn ask(&self, from: PathBuf) -> RestoreOptions {
        RestoreOptions {
            from,
            raw_copy: self.trust(),
            name: self.name.clone(),
            initial_cluster: self.initial_cluster.clone(),
            token: self.initial_cluster_token.clone(),
            advertised: self.initial_advertise_peer_urls.clone(),
            data_dir: self.data_dir.clone(),
            wal_dir: self.wal_dir.clone(),
            bump: self.bump_revision,
            replace: self.replace,
            stopped: self.stopped.clone(),
            etcd_version: self.etcd_version,
            unreadable: if self.accept_unreadable { Unreadable::Accept } else { Unreadable::Refuse },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt as _;
    use std::process::Command;

    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command as What, EtcdCommand};
    use crate::ops::etcd::node::log_of;
    use crate::snapshots::Origin;
    use crate::snapshots::tests::{check_one, keep};
    use crate::sys::files;

    fn parsed(line: &str) -> RestoreArgs {
        let words = ["lastgood", "etcd", "restore"].into_iter().chain(line.split(' '));
        match Cli::try_parse_from(words).unwrap().command {
            What::Etcd(EtcdCommand::Restore(args)) => *args,
            other => panic!("{other:?}"),
        }
    }

    async fn run(settings: &Settings, line: &str) -> Result<Exit, Failure> {
        restore(settings, &parsed(line)).await
    }

    /// A node whose etcd manifest was taken out for a restore: it is among the known-good ones.
    fn node(root: &Path) -> Settings {
        let mut settings = Settings::default();
        for dir in ["manifests", "inactive", "state", "etcd"] {
            fs::create_dir(root.join(dir)).unwrap();
        }
        settings.paths.manifests = Some(root.join("manifests"));
        settings.paths.inactive_manifests = root.join("inactive");
        settings.paths.state = root.join("state");
        settings.paths.run = root.join("state");
        settings.paths.staging = root.join(".lastgood");
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec:\n  containers:\n  - name: \
             etcd\n    image: registry.k8s.io/etcd:3.6.4-0\n    command: [etcd, --name=vm, --data-dir={0}, \
             '--initial-advertise-peer-urls=https://127.0.0.1:2380']\n",
            root.join("etcd").display()
        );
        fs::write(root.join("inactive/etcd.yaml"), manifest).unwrap();
        settings
    }

    fn snapshot(root: &Path) -> String {
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
        let out = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
        let path = root.join("snapshot.db");
        fs::write(&path, out.stdout).unwrap();
        path.to_str().unwrap().to_owned()
    }

    #[tokio::test]
    async fn a_file_is_all_that_is_needed_on_a_node_of_one_member() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = snapshot(dir.path());
        let member = dir.path().join("etcd/member");
        assert_eq!(run(&settings, &format!("--from {from} --dry-run -o json")).await.unwrap(), Exit::Ok);
        assert!(!member.exists() && !settings.paths.staging.exists(), "a dry run makes nothing");
        assert_eq!(run(&settings, &format!("--from {from} --yes")).await.unwrap(), Exit::Ok);
        assert!(member.join("snap/db").exists());
        // Over what is deployed, as the manifest names the place.
        assert_eq!(run(&settings, &format!("--from {from} -y -o json")).await.unwrap(), Exit::Ok);
        assert_eq!(asides(&dir.path().join("etcd")).len(), 1);
    }

    /// As a restore of this file leaves it that is killed when it has exchanged what was deployed.
    fn all_but_done(root: &Path, from: &str) {
        let data = root.join("etcd");
        let aside = asides(&data).pop().unwrap();
        let staging = data.join(".lastgood-restore-0123");
        fs::create_dir(&staging).unwrap();
        fs::rename(data.join(&aside), staging.join("member")).unwrap();
        let snapshot = fs::read(from).unwrap();
        let sha256: String = snapshot[snapshot.len() - 32..].iter().map(|byte| format!("{byte:02x}")).collect();
        let (member, database) = (data.join("member"), data.join("member/snap/db"));
        let database = fs::metadata(database).unwrap();
        let intent = serde_json::json!({
            "version": 1,
            "step": {"is": "swapping", "built": fs::metadata(member).unwrap().ino(), "database":
                {"inode": database.ino(), "bytes": database.len(), "modified": [database.mtime(), database.mtime_nsec()]}},
            "restored": {"snapshot": sha256, "name": "vm", "cluster": "vm=https://127.0.0.1:2380", "token": "t",
                "moved_to": 1_000_000_754, "aside": aside},
        });
        fs::write(staging.join("intent.json"), intent.to_string()).unwrap();
    }

    fn asides(data: &Path) -> Vec<String> {
        let mut names = files::names(data).unwrap();
        names.retain(|name| name.starts_with("member.before-restore-"));
        names
    }

    #[tokio::test]
    async fn one_that_was_all_but_done_is_completed_and_done_again_only_if_it_is_another_or_was_written_since() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = snapshot(dir.path());
        let (data, line) = (dir.path().join("etcd"), format!("--from {from} --yes"));
        run(&settings, &line).await.unwrap();
        run(&settings, &line).await.unwrap();
        all_but_done(dir.path(), &from);
        // Asked what would be done, it is reported, and stays.
        assert!(left(&data).unwrap()[0].contains("/.lastgood-restore-0123 belongs to a restore that was interrupted"));
        run(&settings, &format!("--from {from} --dry-run")).await.unwrap();
        assert_eq!((left(&data).unwrap().len(), asides(&data).len()), (1, 0));
        assert_eq!(run(&settings, &line).await.unwrap(), Exit::Ok);
        assert_eq!(asides(&data).len(), 1, "it is done, and not once more");

        all_but_done(dir.path(), &from);
        run(&settings, &format!("{line} --bump-revision 9000000000")).await.unwrap();
        assert_eq!(asides(&data).len(), 2, "another one was asked for");

        fs::remove_dir_all(data.join(&asides(&data)[0])).unwrap();
        all_but_done(dir.path(), &from);
        let database = fs::OpenOptions::new().append(true).open(data.join("member/snap/db")).unwrap();
        std::io::Write::write_all(&mut &database, &[0; 4096]).unwrap();
        run(&settings, &line).await.unwrap();
        assert_eq!(asides(&data).len(), 2, "it was written since");
    }

    #[tokio::test]
    async fn where_nothing_stood_one_that_was_all_but_done_is_not_in_its_own_way() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        fs::remove_file(dir.path().join("inactive/etcd.yaml")).unwrap();
        let (from, data) = (snapshot(dir.path()), dir.path().join("etcd"));
        let line = format!(
            "--from {from} --yes --data-dir {} --name vm --initial-cluster vm=https://127.0.0.1:2380",
            data.display()
        );
        run(&settings, &line).await.unwrap();
        fs::create_dir(data.join("member.before-restore-1")).unwrap();
        all_but_done(dir.path(), &from);
        assert_eq!(run(&settings, &line).await.unwrap(), Exit::Ok);
        fs::remove_dir_all(data.join("member.before-restore-1")).unwrap();
        // It is in the way of any other.
        let failure = run(&settings, &format!("{line} --bump-revision 9000000000")).await.unwrap_err();
        assert!(failure.sentence.contains("is not empty: member is in it"), "{failure}");
    }

    #[tokio::test]
    async fn a_damaged_newest_snapshot_is_never_replaced_silently_and_the_one_before_it_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let mut settings = node(dir.path());
        settings.snapshots.directory = Some(dir.path().join("snapshots"));
        let [older, newest] = [100, 4000].map(|at| keep(&settings.snapshot_dir(), Origin::Stream, at));
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let whole = fs::read(&newest).unwrap();
        let mut flipped = whole.clone();
        flipped[100_000] ^= 4;
        fs::write(&newest, &flipped).unwrap();
        for line in ["--from latest --yes", "--from latest --dry-run", "--from latest"] {
            let failure = run(&settings, line).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Unwell, "{line}: {failure}");
            let command = format!("`lastgood etcd restore --from {}`", name(&older));
            assert!(failure.sentence.contains(&command), "{line}: {failure}");
            assert!(failure.sentence.contains(&name(&newest)) && failure.sentence.contains("0 revisions"), "{failure}");
        }
        assert!(!dir.path().join("etcd/member").exists());
        // The same where the daily check found it, and `latest` is an older one by now.
        let tomorrow = jiff::Timestamp::from_second(jiff::Timestamp::now().as_second() + 90_000).unwrap();
        for _ in 0..2 {
            check_one(&settings.snapshot_dir(), tomorrow).await;
        }
        assert_eq!(snapshot_ref::trusted(&settings, Path::new(LATEST), trust(false)).unwrap(), older);
        let failure = run(&settings, "--from latest --yes").await.unwrap_err();
        assert!(failure.exit == Exit::Unwell && failure.sentence.contains(&name(&newest)), "{failure}");
        // A snapshot that is named is taken, or refused, and no other.
        let failure = run(&settings, &format!("--from {} --yes", name(&newest))).await.unwrap_err();
        assert!(failure.exit == Exit::Unwell && !failure.sentence.contains(&name(&older)), "{failure}");
        assert_eq!(run(&settings, &format!("--from {} --yes", name(&older))).await.unwrap(), Exit::Ok);
        // None before it.
        fs::remove_file(&older).unwrap();
        fs::write(&newest, whole).unwrap();
        assert_eq!(run(&settings, "--from latest --yes").await.unwrap(), Exit::Ok);
        fs::write(&newest, flipped).unwrap();
        let failure = run(&settings, "--from latest --yes").await.unwrap_err();
        assert!(failure.sentence.contains("no older verified one"), "{failure}");
    }

    #[tokio::test]
    async fn a_dry_run_takes_no_lock_and_its_plan_says_who_restores() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = snapshot(dir.path());
        fs::create_dir(&settings.paths.staging).unwrap();
        let lock = || crate::sys::lock_file::LockFile::take(&settings.restore_lock());
        {
            let _dry = suspension::lock(&settings, true).unwrap();
            assert_eq!(suspension::under_way(&settings), None);
            drop(lock().unwrap());
        }
        let _held = lock().unwrap();
        assert_eq!(run(&settings, &format!("--from {from} --dry-run")).await.unwrap(), Exit::Ok);
        let (node, _) = crate::ops::etcd::node::node(&settings);
        let RestoreArgs { from, .. } = parsed(&format!("--from {from} --dry-run"));
        let ask = parsed(&format!("--from {}", from.display())).ask(from);
        let mut planned = plan(&ask, &node).unwrap();
        planned.plan.under_way = suspension::under_way(&settings);
        let pid = std::process::id().to_string();
        assert!(planned.plan.under_way.as_ref().is_some_and(|other| other.contains(&pid)), "{:?}", planned.plan);
        assert!(planned.plan.text().contains(&pid), "{}", planned.plan.text());
        // Nothing is restored next to the other one.
        let failure = run(&settings, &format!("--from {} --yes", ask.from.display())).await.unwrap_err();
        assert_eq!(failure.exit, Exit::Refused);
        assert!(failure.sentence.contains("is running and holds"), "{failure}");
    }

    #[test]
    fn a_log_is_looked_for_where_the_manifest_of_these_data_says() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let (data, other) = (dir.path().join("etcd"), dir.path().join("other"));
        assert_eq!(log_of(&settings, &data), data.join("member/wal"));
        let file = dir.path().join("inactive/etcd.yaml");
        let apart = fs::read_to_string(&file).unwrap().replace("--name=vm", "--name=vm, --wal-dir=/fast/wal");
        fs::write(&file, apart).unwrap();
        assert_eq!(log_of(&settings, &data), Path::new("/fast/wal"));
        assert_eq!(log_of(&settings, &other), other.join("member/wal"));
    }

    #[tokio::test]
    async fn q11_a_slot_that_an_earlier_restore_left_empty_is_filled_at_the_end_of_the_next() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = snapshot(dir.path());
        let slots = settings.paths.staging.join("slots");
        fs::create_dir_all(&slots).unwrap();
        std::os::unix::fs::symlink(dir.path().join("manifests"), settings.paths.staging.join("manifests")).unwrap();
        fs::copy(dir.path().join("inactive/etcd.yaml"), slots.join("etcd.yaml")).unwrap();
        assert_eq!(run(&settings, &format!("--from {from} --yes")).await.unwrap(), Exit::Ok);
        assert!(dir.path().join("manifests/etcd.yaml").exists(), "it is back");
        assert!(!slots.join("etcd.yaml").exists());
    }

    #[tokio::test]
    async fn q4_the_encryption_keys_of_the_api_server_s_manifest_are_compared_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = crate::etcd::testing::encrypted(dir.path(), "key1");
        let line = format!("--from {} --dry-run", from.display());
        assert_eq!(run(&settings, &line).await.unwrap(), Exit::Ok, "no API server is here");
        let pki = dir.path().join("pki");
        fs::create_dir(&pki).unwrap();
        let manifest = format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: kube-apiserver, namespace: kube-system}}\nspec:\n  \
             containers:\n  - name: kube-apiserver\n    image: registry.k8s.io/kube-apiserver:v1.36.2\n    command: \
             [kube-apiserver, --encryption-provider-config=/etc/enc/enc.yaml]\n    volumeMounts: [{{name: enc, mountPath: \
             /etc/enc}}]\n  volumes: [{{name: enc, hostPath: {{path: {}}}}}]\n",
            pki.display()
        );
        fs::write(dir.path().join("manifests/kube-apiserver.yaml"), manifest).unwrap();
        let refused = run(&settings, &line).await.unwrap_err();
        assert!(refused.exit == Exit::Refused && refused.sentence.contains("enc.yaml"), "{refused}");
        let written = |key: &str| {
            let text = format!(
                "kind: EncryptionConfiguration\nresources:\n- resources: [secrets]\n  providers:\n  - aescbc: {{keys: \
                 [{{name: {key}, secret: c2VjcmV0}}]}}\n"
            );
            fs::write(pki.join("enc.yaml"), text).unwrap();
        };
        written("key2");
        let refused = run(&settings, &line).await.unwrap_err();
        let words = ["aescbc key1", "(secrets)", "enc.yaml", "--accept-unreadable"];
        assert!(words.iter().all(|word| refused.sentence.contains(word)), "{refused}");
        assert!(!refused.sentence.contains("c2VjcmV0"), "{refused}");
        assert_eq!(run(&settings, &format!("{line} --accept-unreadable")).await.unwrap(), Exit::Ok);
        written("key1");
        assert_eq!(run(&settings, &line).await.unwrap(), Exit::Ok);
    }

    #[tokio::test]
    async fn what_is_refused_ends_with_its_own_code_and_the_next_step() {
        let dir = tempfile::tempdir().unwrap();
        let settings = node(dir.path());
        let from = snapshot(dir.path());
        for (line, words) in [
            ("--from latest --yes".to_owned(), "contains no verified snapshot that carries its SHA-256"),
            (
                format!("--from {from} --yes --name other --initial-advertise-peer-urls https://10.0.0.9:2380"),
                "name other members: vm (",
            ),
            (format!("--from {from} --yes --etcd-version 3.5.16"), "etcd 3.5 cannot open data of storage version 3.6"),
            (format!("--from {from} --yes --data-dir {}", dir.path().join("state/x").display()), "which member"),
        ] {
            let failure = run(&settings, &line).await.unwrap_err();
            assert_eq!(failure.exit, Exit::Refused, "{line}: {failure}");
            assert!(failure.sentence.contains(words) && failure.sentence.contains("next: "), "{line}: {failure}");
        }
        fs::write(&from, "torn").unwrap();
        assert_ne!(run(&settings, &format!("--from {from} --yes")).await.unwrap_err().exit, Exit::Ok);
        assert_eq!(files::names(&dir.path().join("etcd")).unwrap(), Vec::<String>::new());
    }
}
