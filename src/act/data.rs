//! Checks data before an etcd starts over them, at a moment when nothing writes them (R9, Q15). An etcd that would be
//! older than its data is not deployed; the previous manifest returns instead, so that the manifest directory is not
//! left without an etcd manifest. While a restore works on the data no etcd is deployed, and an interrupted restore is finished
//! first.

use std::io;
use std::path::Path;

use super::staging::Staging;
use crate::config::Settings;
use crate::etcd;
use crate::etcd::restore;
use crate::model::etcd_guard::{self, Barred};
use crate::model::manifest::{DataIdentity, MAX_BYTES};
use crate::model::{ComponentId, DataVersion, Manifest, Memory, Role};
use crate::sys::files::{self, Attributes};
use crate::sys::lock_file;

/// That nobody is restoring these data, and nobody left them in the middle of it: what was brought to an end, or why no
/// etcd may be started over them.
pub(super) fn settled(settings: &Settings, identity: Option<&DataIdentity>) -> Result<Vec<String>, String> {
    let Some(DataIdentity::Etcd { data_dir, .. }) = identity else { return Ok(Vec::new()) };
    let lock = settings.restore_lock();
    if let Some(pid) = lock_file::holder(&lock) {
        return Err(format!("another lastgood (pid {pid}) works on its data and holds {}", lock.display()));
    }
    if files::standing(data_dir).map_err(|error| error.to_string())?.is_none() {
        return Ok(Vec::new());
    }
    let finished = restore::finish(data_dir).map_err(|fault| fault.to_string())?;
    Ok(finished.into_iter().map(|finished| format!("{}: {finished}", data_dir.display())).collect())
}

/// Whether a generation may be put over its data as they are now. Only of an etcd that follows another is it asked.
pub(super) fn may_be_put_in(component: &ComponentId, number: u32, memory: &Memory) -> Result<(), Barred> {
    let Some(record) = memory.components.get(component) else { return Ok(()) };
    let Some(target) = record.generations.get(&number) else { return Ok(()) };
    if !etcd_guard::follows_another(record, target) {
        return Ok(());
    }
    etcd_guard::may_return(record, target, &data_of(target.data.as_ref()))
}

fn data_of(identity: Option<&DataIdentity>) -> DataVersion {
    match identity {
        Some(DataIdentity::Etcd { data_dir, wal_dir }) => etcd::versions::at_rest(data_dir, wal_dir.as_deref()),
        _ => DataVersion::unnamed(),
    }
}

/// Why a staged manifest must not fill its slot.
pub(super) struct Staged {
    pub(super) pod: ComponentId,
    pub(super) why: Barred,
}

/// [`settled`], of what is staged for a slot.
pub(super) fn staged_settled(settings: &Settings, slot: &Path) -> Result<Vec<String>, String> {
    let staged = pod_at(slot).filter(|staged| staged.role == Role::Etcd);
    settled(settings, staged.and_then(|staged| staged.data_identity()).as_ref())
}

/// The same with nothing but the staging directory: what is staged is compared with what was taken out for it.
pub(super) fn may_fill(staging: &Staging, slot: &Path) -> Result<(), Staged> {
    let Some(staged) = pod_at(slot).filter(|staged| staged.role == Role::Etcd) else { return Ok(()) };
    let stood = stood(staging, &staged.id).map(|(_, _, stood)| stood);
    if stood.as_ref().is_none_or(|stood| stood.images() == staged.images()) {
        return Ok(());
    }
    let data = data_of(staged.data_identity().as_ref());
    let newer = stood.and_then(|stood| stood.minor_version()).zip(staged.minor_version());
    if matches!(data, DataVersion::Unknown { .. }) && newer.is_some_and(|(stood, staged)| stood <= staged) {
        return Ok(());
    }
    etcd_guard::may_open(staged.minor_version(), &data).map_err(|why| Staged { pod: staged.id.clone(), why })
}

/// Puts what was taken out of a slot last back into it, and drops what was staged for it. If there is a file, that one
/// is left alone. Returns what was done, as a part of a sentence.
pub(super) fn put_back(staging: &Staging, manifests: &Path, name: &str, pod: &ComponentId) -> io::Result<String> {
    let slot = staging.slot(name);
    if files::standing(&manifests.join(name))?.is_some() {
        files::remove(&slot)?;
        return Ok("the deployed manifest stays".to_owned());
    }
    let Some((stood_as, kept, manifest)) = stood(staging, pod) else {
        return Ok(format!("the previous manifest was not kept, and {} is missing", manifests.join(name).display()));
    };
    let target = manifests.join(&stood_as);
    let attributes = Attributes::of_standing(&kept)?.unwrap_or_else(Attributes::private);
    files::replace(&staging.tmp(), &target, &manifest.raw, &attributes)?;
    files::remove(&slot)?;
    Ok(format!("the previous manifest is back as {}", target.display()))
}

/// What was deployed of a pod when its slot was emptied last: the name it had, where it is kept, and itself.
fn stood(staging: &Staging, pod: &ComponentId) -> Option<(String, std::path::PathBuf, Manifest)> {
    let mut taken_out = staging.taken_out().into_iter();
    taken_out.find_map(|(name, path)| {
        let manifest = pod_at(&path).filter(|manifest| manifest.id == *pod && files::is_plain_name(&name))?;
        Some((name, path, manifest))
    })
}

fn pod_at(path: &Path) -> Option<Manifest> {
    Manifest::parse(files::read_bounded(path, MAX_BYTES).ok()?.into()).ok()
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use super::*;
    use crate::act::tests::Node;
    use crate::act::{Outcome, finish_interrupted};
    use crate::model::Step;
    use crate::model::memory::Deployed;
    use crate::record::Guard;

    /// A node on which an etcd 3.5 is generation 1, and an etcd 3.6, whose data are here, is generation 2 and is
    /// deployed. The manifest's name is that of every manifest of these nodes; it means nothing.
    async fn upgraded(root: &Path) -> (Node, Guard) {
        let mut node = Node::at(root);
        let mut record = node.memory.components.remove(&node.id).unwrap();
        record.role = Role::Etcd;
        node.id = ComponentId::system("etcd");
        node.memory.components.insert(node.id.clone(), record);
        let guard = node.guard();
        for release in ["3.5.16", "3.6.13"] {
            node.write(&manifest(root, release));
            node.keep(&guard).await;
        }
        let record = node.memory.components.get_mut(&node.id).unwrap();
        let stands = record.generations[&2].digest;
        record.deployed = Some(Deployed { digest: stands, changed: jiff::Timestamp::UNIX_EPOCH });
        let packed = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/etcd/snapshot-3.6.db.gz");
        let database = Command::new("gzip").arg("-dc").arg(packed).output().unwrap();
        fs::create_dir_all(root.join("etcd/member/snap")).unwrap();
        fs::write(root.join("etcd/member/snap/db"), database.stdout).unwrap();
        (node, guard)
    }

    fn manifest(root: &Path, release: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Pod\nmetadata: {{name: etcd, namespace: kube-system}}\nspec:\n  containers:\n  - \
             name: etcd\n    image: registry.k8s.io/etcd:{release}-0\n    command: [etcd, '--data-dir={}']\n",
            root.join("etcd").display()
        )
    }

    fn refused(outcome: Outcome) -> String {
        match outcome {
            Outcome::Refused(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    fn put_in(node: &Node, number: u32) -> Step {
        Step::PutIn { component: node.id.clone(), number, file_name: "kube-apiserver.yaml".to_owned() }
    }

    #[tokio::test]
    async fn r9_an_etcd_that_is_older_than_its_data_is_not_put_in_and_what_stood_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let (node, guard) = upgraded(dir.path()).await;
        node.take(&guard, &node.take_out()).await;
        assert_eq!(node.deployed(), None);
        let said = refused(node.take(&guard, &put_in(&node, 1)).await);
        assert!(said.contains("etcd 3.5 cannot open data of storage version 3.6"), "{said}");
        assert!(said.contains("the previous manifest is back"), "{said}");
        assert_eq!(node.deployed().unwrap(), manifest(dir.path(), "3.6.13"));
        assert!(
            !node.settings.paths.staging.join("slots/kube-apiserver.yaml").exists(),
            "it would be filled at the next start"
        );
        // Over an existing file it is not put either, and the newer one may.
        refused(node.take(&guard, &put_in(&node, 1)).await);
        assert_eq!(node.deployed().unwrap(), manifest(dir.path(), "3.6.13"));
        assert!(matches!(node.take(&guard, &put_in(&node, 2)).await, Outcome::Done(_)));
    }

    #[tokio::test]
    async fn r9_data_that_cannot_be_read_are_not_opened_by_an_older_etcd() {
        let dir = tempfile::tempdir().unwrap();
        let (node, guard) = upgraded(dir.path()).await;
        node.take(&guard, &node.take_out()).await;
        fs::write(dir.path().join("etcd/member/snap/db"), "torn").unwrap();
        let said = refused(node.take(&guard, &put_in(&node, 1)).await);
        assert!(said.contains("it is unknown whether") && said.contains("snap/db is no bbolt database"), "{said}");
        assert_eq!(node.deployed().unwrap(), manifest(dir.path(), "3.6.13"));
    }

    #[tokio::test]
    async fn r9_q11_an_emptied_slot_is_not_filled_with_an_etcd_that_is_older_than_its_data() {
        let dir = tempfile::tempdir().unwrap();
        let (node, guard) = upgraded(dir.path()).await;
        node.take(&guard, &node.take_out()).await;
        drop(guard);
        let told = finish_interrupted(&node.settings);
        assert!(told[0].contains("stays out: etcd 3.5 cannot open data of storage version 3.6"), "{told:?}");
        assert_eq!(node.deployed().unwrap(), manifest(dir.path(), "3.6.13"));
        assert_eq!(finish_interrupted(&node.settings), Vec::<String>::new());
    }

    #[tokio::test]
    async fn q11_an_emptied_slot_is_filled_with_the_same_etcd_whatever_its_data_look_like() {
        let dir = tempfile::tempdir().unwrap();
        let (node, guard) = upgraded(dir.path()).await;
        node.write(&manifest(dir.path(), "3.5.16").replace("[etcd,", "[etcd, --v=1,"));
        node.take(&guard, &node.take_out()).await;
        drop(guard);
        finish_interrupted(&node.settings);
        assert_eq!(node.deployed().unwrap(), manifest(dir.path(), "3.5.16"));
    }
}
