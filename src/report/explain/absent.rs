//! A component of the control plane that this node has no manifest and no record of: what that means, and the next step.

use super::Explanation;
use crate::model::{ComponentId, Role, Verdict};
use crate::report::input::{Process, ReportInput};

/// In the place of a component's state.
const STATE: &str = "no manifest, and no record";

/// Nothing for a component that need not exist on a master, or whose role another one has here.
pub(super) fn explanation(material: ReportInput<'_>, id: &ComponentId) -> Option<Explanation> {
    let role = role(id).filter(|role| material.memory.components.values().all(|record| record.role != *role))?;
    Some(Explanation {
        component: id.clone(),
        verdict: Verdict::Unknown,
        since: None,
        evidence: evidence(material),
        etcd: None,
        cause: None,
        reads: None,
        breaks_dependent: None,
        state: STATE.to_owned(),
        next: next(id, role),
        pinned: None,
        notices: Vec::new(),
        generations: Vec::new(),
        events: Vec::new(),
    })
}

/// The role that kubeadm gives a static pod of that name.
fn role(id: &ComponentId) -> Option<Role> {
    let role = Role::of_program(id.name())?;
    (*id == ComponentId::system(id.name())).then_some(role)
}

fn evidence(material: ReportInput<'_>) -> Vec<String> {
    let manifest = match material.agent.process {
        Process::Running { .. } => "no manifest in the manifest directory declares it",
        Process::Stopped => "the agent does not run, so the manifest directory was not read",
    };
    vec![
        manifest.to_owned(),
        "lastgood has no record of it: the agent of this node has never seen its manifest".to_owned(),
    ]
}

fn next(id: &ComponentId, role: Role) -> String {
    let elsewhere = match role {
        Role::Etcd => {
            "nothing if an external etcd serves this cluster (`lastgood explain kube-apiserver` shows its health)"
        }
        _ => "nothing if it does not run on this node",
    };
    format!(
        "{elsewhere}. Otherwise the operator must act: put the manifest of {id} into the manifest directory, from \
         inactive-manifests or from the bundle of a snapshot; lastgood-restore(7), A BARE MACHINE, has the steps"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{Scene, id};

    #[test]
    fn a_component_of_the_control_plane_is_explained_also_where_nothing_is_known_of_it() {
        let mut scene = Scene::new();
        let explained = |scene: &Scene, component: &ComponentId| {
            Explanation::new(scene.material(), component, Vec::new()).map(|explained| explained.state)
        };
        assert_eq!(explained(&scene, &id("kube-controller-manager")).as_deref(), Some(STATE));
        assert_ne!(explained(&scene, &id("etcd")).as_deref(), Some(STATE), "it has a record");
        for other in [id("kube-vip"), ComponentId::new("edge", "etcd")] {
            assert_eq!(explained(&scene, &other), None, "{other}");
        }
        let record = scene.memory.components.remove(&id("etcd")).unwrap();
        assert_eq!(explained(&scene, &id("etcd")).as_deref(), Some(STATE));
        scene.memory.components.insert(id("etcd-events"), record);
        assert_eq!(explained(&scene, &id("etcd")), None, "the etcd of this node has another name");
    }
}
