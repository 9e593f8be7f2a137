//! Completes replacements that an earlier run began (Q11), with only the staging directory. Runs at every start of the
//! agent, and in `ExecStopPost=`.

use std::io;
use std::path::Path;

use super::data;
use super::staging::Staging;
use crate::config::Settings;
use crate::model::manifest::MAX_BYTES;
use crate::model::{ComponentId, Manifest};
use crate::record::{LockError, Store};
use crate::sys::files;

/// Fills every emptied slot from its staged successor, and drops a successor whose slot is not empty. Returns what was
/// done, a sentence each.
///
/// A slot is not empty if its file is there, whatever it holds, or if another file of the directory holds its pod: a
/// second claimant would be its own outage. Where the manifest directory is gone, nothing is brought back: that is not
/// how a slot is emptied by us.
///
/// Call it with the lock held, or before anything else of this node's agent runs; [`fill_slots`] sees to that itself.
pub fn finish_interrupted(settings: &Settings) -> Vec<String> {
    let staging = Staging::at(&settings.paths.staging);
    staging.tidy();
    let slots = staging.slots();
    let names = match files::names(&slots) {
        Ok(names) => names,
        Err(error) => return vec![error.to_string()],
    };
    let names: Vec<String> = names.into_iter().filter(|name| files::is_plain_name(name)).collect();
    if names.is_empty() {
        return Vec::new();
    }
    // The directory the slots were emptied in, whatever the configuration says by now.
    let Some(manifests) = staging.manifests().or_else(|| settings.paths.manifests.clone()) else {
        return vec![format!(
            "{} holds staged manifests, and it is unknown which directory they belong to; put them back by hand",
            slots.display()
        )];
    };
    let fill = |name: &String| fill(settings, &staging, &manifests, name).unwrap_or_else(|error| error.to_string());
    names.iter().map(fill).collect()
}

/// [`finish_interrupted`], unless another lastgood holds the lock: that one knows better what it is doing. A lock that
/// cannot be asked for (a full disk, a lost state directory) does not keep a slot empty.
pub fn fill_slots(settings: &Settings) -> Vec<String> {
    let locked = Store::open(settings).map_err(LockError::from).and_then(|store| store.lock());
    match &locked {
        Err(held @ LockError::Held { .. }) => vec![format!("lastgood puts no manifest back: {held}")],
        Ok(_) | Err(LockError::Io(_)) => finish_interrupted(settings),
    }
}

fn fill(settings: &Settings, staging: &Staging, manifests: &Path, name: &str) -> io::Result<String> {
    let slots = staging.slots();
    let (slot, target) = (slots.join(name), manifests.join(name));
    let dropped = |why: String| {
        files::remove(&slot)?;
        Ok(format!("the staged {name} is not needed: {why}"))
    };
    if files::standing(manifests)?.is_none() {
        return Ok(format!(
            "{} does not exist, so {name} stays in {}; put it back by hand if it is needed",
            manifests.display(),
            slots.display()
        ));
    }
    if files::standing(&target)?.is_some() {
        return dropped(format!("{} exists", target.display()));
    }
    if files::standing(&staging.withheld().join(name))?.is_some() {
        return dropped("it is withheld until etcd serves the right data".to_owned());
    }
    if let Some(claimant) = claimant(manifests, pod_of(&slot).as_ref())? {
        return dropped(format!("{claimant} defines its pod"));
    }
    let settled = match data::staged_settled(settings, &slot) {
        Ok(told) => told,
        // The next run fills it, or the restore itself at its end.
        Err(why) => return Ok(format!("the staged {name} stays out: {why}")),
    };
    if let Err(barred) = data::may_fill(staging, &slot) {
        let back = data::put_back(staging, manifests, name, &barred.pod)?;
        return Ok(format!("the staged {name} stays out: {}; {back}; next: {}", barred.why.why, barred.why.next_step));
    }
    match files::rename_noreplace(&slot, &target) {
        // Somebody was quicker.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => dropped(format!("{} exists", target.display())),
        renamed => renamed.map(|()| {
            let settled: String = settled.iter().map(|told| format!("; {told}")).collect();
            format!("put {} back from staging{settled}", target.display())
        }),
    }
}

/// The file of the manifest directory that holds this pod, if one does.
fn claimant(manifests: &Path, pod: Option<&ComponentId>) -> io::Result<Option<String>> {
    let Some(pod) = pod else { return Ok(None) };
    let names = files::names(manifests)?;
    let mut names = names.into_iter().filter(|name| files::is_plain_name(name));
    Ok(names.find(|name| pod_of(&manifests.join(name)).as_ref() == Some(pod)))
}

fn pod_of(path: &Path) -> Option<ComponentId> {
    let bytes = files::read_bounded(path, MAX_BYTES).ok()?;
    Manifest::parse(bytes.into()).ok().map(|manifest| manifest.id)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;
    use crate::sys::lock_file::LockFile;

    const POD: &str = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\n\
                       spec: {containers: [{name: etcd, image: etcd}]}\n";

    struct Node {
        dir: tempfile::TempDir,
        settings: Settings,
    }

    impl Node {
        /// A node on which a run was killed after etcd.yaml was taken out.
        fn with_an_empty_slot() -> Self {
            let dir = tempfile::tempdir().unwrap();
            let mut settings = Settings::default();
            settings.paths.staging = dir.path().join(".lastgood");
            settings.paths.state = dir.path().join("state");
            let node = Self { dir, settings };
            fs::create_dir(node.manifests()).unwrap();
            Staging::prepare(&node.settings.paths.staging, &node.manifests()).unwrap();
            fs::write(node.slot(), POD).unwrap();
            node
        }

        fn manifests(&self) -> PathBuf {
            self.dir.path().join("manifests")
        }

        fn slot(&self) -> PathBuf {
            self.settings.paths.staging.join("slots/etcd.yaml")
        }

        fn deployed(&self) -> Option<String> {
            fs::read_to_string(self.manifests().join("etcd.yaml")).ok()
        }
    }

    #[test]
    fn q11_an_empty_slot_is_filled_from_staging_alone() {
        let node = Node::with_an_empty_slot();
        let told = finish_interrupted(&node.settings);
        assert_eq!(node.deployed().as_deref(), Some(POD));
        assert!(!node.slot().exists());
        assert!(told[0].contains("back from staging"), "{told:?}");
        assert_eq!(finish_interrupted(&node.settings), Vec::<String>::new(), "once is enough");
    }

    #[test]
    fn a_slot_stays_empty_while_a_restore_works_on_its_data_and_is_filled_after_it() {
        let node = Node::with_an_empty_slot();
        let data = node.dir.path().join("etcd");
        fs::create_dir(&data).unwrap();
        let pod = POD.replace("image: etcd", &format!("image: etcd, command: [etcd, --data-dir={}]", data.display()));
        fs::write(node.slot(), &pod).unwrap();
        let restore = LockFile::take(&node.settings.restore_lock()).unwrap();
        let told = finish_interrupted(&node.settings);
        let who = format!("(pid {})", std::process::id());
        assert!(told[0].contains("stays out") && told[0].contains(&who), "{told:?}");
        assert_eq!(node.deployed(), None);
        drop(restore);
        finish_interrupted(&node.settings);
        assert_eq!(node.deployed(), Some(pod));
    }

    #[test]
    fn a_slot_that_somebody_filled_is_theirs() {
        let node = Node::with_an_empty_slot();
        fs::write(node.manifests().join("etcd.yaml"), "theirs").unwrap();
        finish_interrupted(&node.settings);
        assert_eq!(node.deployed().as_deref(), Some("theirs"));
        assert!(!node.slot().exists());
    }

    #[test]
    fn a_pod_that_stands_under_another_name_gets_no_second_claimant() {
        let node = Node::with_an_empty_slot();
        fs::write(node.manifests().join("member.yaml"), POD).unwrap();
        let told = finish_interrupted(&node.settings);
        assert_eq!(node.deployed(), None);
        assert!(told[0].contains("member.yaml defines its pod"), "{told:?}");
    }

    #[test]
    fn where_the_manifest_directory_is_gone_nothing_comes_back() {
        let node = Node::with_an_empty_slot();
        fs::remove_dir(node.manifests()).unwrap();
        let told = finish_interrupted(&node.settings);
        assert!(!node.manifests().exists());
        assert!(node.slot().exists());
        assert!(told[0].contains("by hand"), "{told:?}");
    }

    #[test]
    fn a_running_lastgood_is_left_to_its_work_and_a_broken_state_directory_is_no_hindrance() {
        let node = Node::with_an_empty_slot();
        let guard = Store::open(&node.settings).unwrap().lock().unwrap();
        assert!(fill_slots(&node.settings)[0].contains("another lastgood"));
        assert_eq!(node.deployed(), None);
        drop(guard);
        fs::remove_dir_all(&node.settings.paths.state).unwrap();
        fs::write(&node.settings.paths.state, "not a directory").unwrap();
        fill_slots(&node.settings);
        assert_eq!(node.deployed().as_deref(), Some(POD));
    }

    #[test]
    fn a_node_that_never_had_a_staging_directory_has_nothing_to_finish() {
        let mut settings = Settings::default();
        settings.paths.staging = "/nonexistent/.lastgood".into();
        assert_eq!(finish_interrupted(&settings), Vec::<String>::new());
    }
}
