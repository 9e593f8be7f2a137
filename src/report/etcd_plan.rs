//! What `lastgood etcd compact`, `defrag` and `disarm` would do: shown before it is done, as every plan is.

use serde::{Deserialize, Serialize};

use super::planned::steps_and_effects;
use super::table::{lines, table};
use crate::config::size;

/// Which of the commands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum EtcdWork {
    Compact,
    Defrag,
    Disarm,
}

/// A plan for the operator to agree to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdPlan {
    pub work: EtcdWork,
    /// The newest MVCC revision.
    pub revision: i64,
    /// The revision that the history is compacted to; of `compact` only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compact_to: Option<i64>,
    /// All members of the cluster; those that are defragmented, in order, are in the steps.
    pub members: Vec<EtcdPlanMember>,
    /// The alarms that are raised.
    pub alarms: Vec<EtcdPlanAlarm>,
    /// What will be done, in order.
    pub steps: Vec<String>,
    /// What that means for the cluster.
    pub effects: Vec<String>,
    /// The longest that one member does not answer, in seconds, by estimate; absent where each goes on answering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub away_seconds: Option<u64>,
}

/// A member, as it answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdPlanMember {
    pub name: String,
    /// In hex.
    pub id: String,
    pub leader: bool,
    /// Whether it runs on this node.
    pub this_node: bool,
    /// Bytes of the database file.
    pub db_bytes: Option<u64>,
    /// Bytes of it in use.
    pub db_in_use_bytes: Option<u64>,
    /// The quota in bytes, where it is known.
    pub quota_bytes: Option<u64>,
    /// Why it did not answer, where it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<String>,
}

/// An alarm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct EtcdPlanAlarm {
    /// `NOSPACE`, `CORRUPT`, or what etcd calls it.
    pub alarm: String,
    /// The name of the member that raised it.
    pub member: String,
}

/// A plan of each command.
#[cfg(test)]
pub(super) fn samples() -> Vec<EtcdPlan> {
    let member = |name: &str, silent: Option<&str>| EtcdPlanMember {
        name: name.to_owned(),
        id: "8e9e05c52164694d".to_owned(),
        leader: silent.is_none(),
        this_node: silent.is_none(),
        db_bytes: silent.is_none().then_some(10 << 20),
        db_in_use_bytes: silent.is_none().then_some(5 << 20),
        quota_bytes: silent.is_none().then_some(2 << 30),
        silent: silent.map(str::to_owned),
    };
    let plan = |work, compact_to, away_seconds| EtcdPlan {
        work,
        revision: 5000,
        compact_to,
        members: vec![member("master-1", None), member("master-2", Some("it timed out"))],
        alarms: vec![EtcdPlanAlarm { alarm: "NOSPACE".to_owned(), member: "master-1".to_owned() }],
        steps: vec!["one".to_owned(), "two".to_owned()],
        effects: vec!["three".to_owned()],
        away_seconds,
    };
    vec![
        plan(EtcdWork::Compact, Some(4000), None),
        plan(EtcdWork::Defrag, None, Some(3)),
        plan(EtcdWork::Disarm, None, None),
    ]
}

impl EtcdPlan {
    pub fn text(&self) -> String {
        let bytes = |bytes: Option<u64>| bytes.map_or_else(|| "unknown".to_owned(), size::roughly);
        let mut table = table(&["MEMBER", "ID", "ROLE", "DATABASE", "IN USE", "QUOTA"]);
        for member in &self.members {
            let role = match (&member.silent, member.leader) {
                (Some(_), _) => "no answer",
                (None, true) => "leader",
                (None, false) => "member",
            };
            table.add_row([
                member.name.clone(),
                member.id.clone(),
                role.to_owned(),
                bytes(member.db_bytes),
                bytes(member.db_in_use_bytes),
                bytes(member.quota_bytes),
            ]);
        }
        let mut out = lines(&table);
        for alarm in &self.alarms {
            out.push_str(&format!("alarm {} is raised for {}\n", alarm.alarm, alarm.member));
        }
        out.push_str(&steps_and_effects(&self.steps, &self.effects));
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_shows_the_members_the_alarms_and_then_what_is_done() {
        let text = samples()[0].text();
        let at = |part: &str| text.find(part).unwrap_or_else(|| panic!("{part} is not in\n{text}"));
        assert!(at("leader") < at("no answer") && at("no answer") < at("NOSPACE"), "{text}");
        assert!(at("NOSPACE") < at("  1. one\n  2. two\n") && at("  2. two") < at("  three.\n"), "{text}");
        assert!(text.contains("10 MiB") && text.contains("unknown"), "{text}");
    }
}
