//! Looks at every member of the cluster before anything is done to one.

use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;

use crate::model::etcd::{AlarmKind, Member, MemberStatus};
use crate::model::kubelet_probe::LivenessLimit;
use crate::observe::{self, EtcdEndpoint};
use crate::ops::etcd::serves::within;

/// For one question to one member.
pub(super) const QUESTION: Duration = Duration::from_secs(5);
/// Where kube-apiserver writes each revision that it compacts to (`compact_rev_key` of its etcd3 compactor).
const KUBERNETES_MARK: &str = "compact_rev_key";

/// What is known of this node, which no other member can be asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Here {
    /// The quota in bytes, from its metrics: etcd reports it in its status from 3.6 on only.
    pub(crate) quota: Option<u64>,
    /// Bytes that are free on the file system of its database.
    pub(crate) room: Option<u64>,
    pub(crate) data_dir: Option<PathBuf>,
    /// What the kubelet allows it.
    pub(crate) limit: Option<LivenessLimit>,
    /// What the kubelet allows kube-apiserver of this node, which does not answer its probe without etcd.
    pub(crate) apiserver: Option<LivenessLimit>,
    /// Its manifest, as the operator names it.
    pub(crate) manifest: String,
    /// How etcdctl is called in its container.
    pub(crate) etcdctl: String,
}

/// The cluster, as its members answered.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    /// The ID of the member of this node.
    pub(crate) own: u64,
    pub(crate) endpoint: EtcdEndpoint,
    pub(crate) members: Vec<Asked>,
    /// The newest revision; or why the member of this node answers no linearizable read.
    pub(crate) revision: Result<i64, String>,
    /// The revision at which kube-apiserver compacted last.
    pub(crate) mark: Option<i64>,
}

/// One member.
#[derive(Clone, Debug)]
pub(crate) struct Asked {
    pub(crate) member: Member,
    pub(crate) endpoints: Vec<EtcdEndpoint>,
    pub(crate) answer: Result<MemberStatus, String>,
    /// Why it answers no linearizable read, where it answers otherwise: nobody can rely on it.
    pub(crate) unread: Option<String>,
}

impl Asked {
    pub(crate) fn name(&self) -> String {
        if self.member.started() { self.member.name.clone() } else { format!("{:x}", self.member.id) }
    }

    /// The first address that answers as this very member.
    pub(super) async fn reach(&self) -> Result<(EtcdEndpoint, observe::MemberAnswer), String> {
        let mut why = "it has advertised no client URL".to_owned();
        for endpoint in &self.endpoints {
            match observe::ask_member(endpoint, QUESTION).await {
                Ok(answer) if answer.status.member == self.member.id => return Ok((endpoint.clone(), answer)),
                Ok(answer) => why = format!("{endpoint} is member {:x}, not this one", answer.status.member),
                Err(said) => why = said,
            }
        }
        Err(why)
    }
}

impl Cluster {
    pub(crate) fn find(&self, id: u64) -> Option<&Asked> {
        self.members.iter().find(|asked| asked.member.id == id)
    }

    /// The name of a member, also of one that is no longer listed.
    pub(crate) fn name(&self, id: u64) -> String {
        self.find(id).map_or_else(|| format!("{id:x}, which is no member"), Asked::name)
    }

    /// The alarms that any member knows of, each once.
    pub(crate) fn alarms(&self) -> Vec<(u64, AlarmKind)> {
        let mut all: Vec<(u64, AlarmKind)> = Vec::new();
        for alarm in self.members.iter().filter_map(|asked| asked.answer.as_ref().ok()).flat_map(|own| &own.alarms) {
            let alarm = (alarm.member, alarm.kind.clone());
            if !all.contains(&alarm) {
                all.push(alarm);
            }
        }
        all
    }

    /// The place of the member of this node among the voters, by ID: nobody waits for the first one.
    pub(super) fn rank(&self) -> u32 {
        let before = |asked: &&Asked| !asked.member.learner && asked.member.id < self.own;
        u32::try_from(self.members.iter().filter(before).count()).unwrap_or(u32::MAX)
    }

    pub(crate) fn leader(&self) -> Option<u64> {
        self.find(self.own)?.answer.as_ref().ok()?.leader
    }
}

/// Looks at the cluster of the member of this node.
///
/// # Errors
/// A sentence, where that member answers nothing.
pub(crate) async fn look(endpoint: &EtcdEndpoint) -> Result<Cluster, String> {
    let own = observe::ask_member(endpoint, QUESTION).await?;
    let members = observe::list_members(endpoint, QUESTION).await?;
    let mark = mark(endpoint).await;
    let mut asking = JoinSet::new();
    for (at, member) in members.into_iter().enumerate() {
        let (own, endpoint) = (own.status.clone(), endpoint.clone());
        asking.spawn(async move {
            if member.id == own.member {
                return (at, Asked { member, endpoints: vec![endpoint], answer: Ok(own), unread: None });
            }
            let endpoints = observe::member_endpoints(&endpoint, &member);
            let asked = Asked { member, endpoints, answer: Err(String::new()), unread: None };
            match asked.reach().await {
                Ok((_, answer)) => (at, Asked { answer: Ok(answer.status), unread: answer.agreed.err(), ..asked }),
                Err(why) => (at, Asked { answer: Err(why), ..asked }),
            }
        });
    }
    let mut members = Vec::new();
    while let Some(asked) = asking.join_next().await {
        members.push(asked.map_err(|error| error.to_string())?);
    }
    members.sort_by_key(|(at, _)| *at);
    let members = members.into_iter().map(|(_, asked)| asked).collect();
    let revision = own.agreed.map(|agreed| agreed.revision);
    Ok(Cluster { own: own.status.member, endpoint: endpoint.clone(), members, revision, mark })
}

/// The revision of kube-apiserver's last mark. It writes one every five minutes and then compacts to the one before, so
/// what is newer than the mark is five minutes old at the most.
async fn mark(endpoint: &EtcdEndpoint) -> Option<i64> {
    let client = observe::client(endpoint, QUESTION).await.ok()?;
    let mut kv = client.kv_client();
    let found = within("a read", QUESTION, kv.get(KUBERNETES_MARK, None)).await.ok()?;
    found.kvs().first().map(etcd_client::KeyValue::mod_revision)
}
