//! Lifts what earlier versions of a format wrote to the present form, before it is read as the types of the present.
//!
//! ```text
//!   memory, generation 1, 2 ─▶ 3    other names      (a type here reads by the earlier name and writes by the present one)
//!   memory             1, 2 ─▶ 3    a replacement    one record for every purpose ─▶ a purpose, and a stage with its data
//! ```
//!
//! A replacement that was under way goes on where it was. Version 2 does not distinguish a missing manifest that returns from
//! a roll back of one that nobody can decode: both are lifted to a roll back from no generation, which takes the same stages.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::ComponentState;
use super::component_state::{Initiator, KubeletRestarted, Method, Purpose, Replacement, SeenInPlace, Stage, Startup};

/// Of a format whose earlier versions only lack what has a default.
///
/// # Errors
/// Never.
pub fn nothing(_version: u64, body: Value) -> serde_json::Result<Value> {
    Ok(body)
}

/// The body of memory.json.
///
/// # Errors
/// When it is not what that version wrote.
pub fn memory(version: u64, body: Value) -> serde_json::Result<Value> {
    if version < 3 { serde_json::to_value(Memory2::deserialize(body)?) } else { Ok(body) }
}

/// The body of generation.json.
///
/// # Errors
/// When it is not what that version wrote.
pub fn generation(version: u64, body: Value) -> serde_json::Result<Value> {
    if version < 3 { serde_json::to_value(Described2::deserialize(body)?) } else { Ok(body) }
}

#[derive(Deserialize, Serialize)]
struct Memory2 {
    components: BTreeMap<String, Record2>,
    #[serde(rename(deserialize = "parked"), default)]
    stopped_apiserver: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Record2 {
    #[serde(rename(deserialize = "slot"), deserialize_with = "state")]
    state: Value,
    #[serde(rename(deserialize = "stands"), default)]
    deployed: Value,
    generations: BTreeMap<String, Generation2>,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Described2 {
    generation: Generation2,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Generation2 {
    #[serde(rename(deserialize = "standing"))]
    trust: Trust2,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

#[derive(Deserialize, Serialize)]
struct Trust2 {
    #[serde(rename(deserialize = "standing"))]
    trust: Value,
    #[serde(flatten)]
    rest: Map<String, Value>,
}

/// A place in the state machine: only that of a replacement had another form.
fn state<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Value, D::Error> {
    let state = Value::deserialize(deserializer)?;
    if state["state"] != "rolling-back" {
        return Ok(state);
    }
    let lifted = Rollback2::deserialize(state).map(|old| ComponentState::Replacing(old.into()));
    lifted.and_then(serde_json::to_value).map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
struct Rollback2 {
    from: Option<u32>,
    to: u32,
    why: String,
    wish: Wish2,
    way: Way2,
    intruders: Vec<String>,
    stage: Stage2,
    in_stage: Duration,
    crashes: u32,
    nudged: KubeletRestarted,
    #[serde(rename = "stood", default)]
    seen_in_place: SeenInPlace,
    vacated: Option<Vacated2>,
}

#[derive(Deserialize)]
struct Vacated2 {
    longest: Duration,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Wish2 {
    Ours,
    Operator,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Way2 {
    InPlace,
    TwoSteps,
    Restart,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Stage2 {
    Parking,
    TakingOut,
    AwaitingGone,
    Settling,
    Vacant,
    PuttingIn,
    StoppingOld,
    Nudging,
    AwaitingServing,
}

impl From<Rollback2> for Replacement {
    fn from(old: Rollback2) -> Self {
        let initiator = match old.wish {
            Wish2::Ours => Initiator::Agent,
            Wish2::Operator => Initiator::Operator,
        };
        // Duplicates that appear while a generation that replaces another is awaited to serve are of its stage.
        let (purpose, duplicates) = match (old.vacated, old.from, initiator) {
            (Some(Vacated2 { longest }), ..) => (Purpose::Suspend { longest }, old.intruders),
            (None, None, Initiator::Agent) if !old.intruders.is_empty() => {
                (Purpose::MoveOutDuplicates { files: old.intruders }, Vec::new())
            }
            (None, from, initiator) => (Purpose::RollBack { from, initiator }, old.intruders),
        };
        let startup = Startup { crashes: old.crashes, seen_in_place: old.seen_in_place, duplicates };
        let stage = match old.stage {
            Stage2::Parking => Stage::StoppingApiServer,
            Stage2::TakingOut => Stage::TakingOut,
            Stage2::AwaitingGone => Stage::AwaitingGone,
            Stage2::Settling => Stage::Settling,
            Stage2::Vacant => Stage::Suspended,
            Stage2::PuttingIn => Stage::PuttingIn,
            Stage2::StoppingOld => Stage::StoppingOld(startup),
            Stage2::Nudging => Stage::RestartingKubelet(startup),
            Stage2::AwaitingServing => Stage::AwaitingServing { startup, kubelet_restarted: old.nudged },
        };
        let method = match old.way {
            Way2::InPlace => Method::Rename,
            Way2::TwoSteps => Method::RemoveThenAdd,
            Way2::Restart => Method::RenameAndRestartKubelet,
        };
        Self { purpose, to: old.to, why: old.why, method, stage, in_stage: old.in_stage }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::Memory;

    /// A memory as version 1 and 2 wrote it, with this state of its components.
    pub(crate) fn earlier_memory(memory: &Memory, slot: &Value) -> Value {
        let rename = |value: &mut Value, from: &str, to: &str| {
            let fields = value.as_object_mut().unwrap();
            let moved = fields.remove(from).unwrap();
            fields.insert(to.to_owned(), moved);
        };
        let mut body = serde_json::to_value(memory).unwrap();
        rename(&mut body, "stopped_apiserver", "parked");
        for record in body["components"].as_object_mut().unwrap().values_mut() {
            rename(record, "state", "slot");
            rename(record, "deployed", "stands");
            record["slot"] = slot.clone();
            for generation in record["generations"].as_object_mut().unwrap().values_mut() {
                rename(&mut generation["trust"], "trust", "standing");
                rename(generation, "trust", "standing");
            }
        }
        body
    }

    /// A replacement by generation 1 as version 2 wrote it, with these fields besides.
    pub(crate) fn version_2(stage: &str, fields: Value) -> Value {
        let mut old = json!({
            "state": "rolling-back", "from": null, "to": 1, "why": "it crashed twice", "wish": "ours", "way": "two-steps",
            "intruders": [], "stage": stage, "in_stage": {"secs": 5, "nanos": 0}, "crashes": 0, "nudged": "not-yet",
        });
        let Value::Object(fields) = fields else { panic!("fields") };
        fields.into_iter().for_each(|(name, value)| old[name] = value);
        old
    }

    fn lifted(slot: Value) -> serde_json::Result<ComponentState> {
        let lifted = memory(2, json!({"components": {"etcd": {"slot": slot, "generations": {}}}}))?;
        serde_json::from_value(lifted["components"]["etcd"]["state"].clone())
    }

    fn expected(purpose: Purpose, method: Method, stage: Stage) -> ComponentState {
        let in_stage = Duration::from_secs(5);
        ComponentState::Replacing(Replacement {
            method,
            stage,
            in_stage,
            ..Replacement::new(purpose, 1, "it crashed twice")
        })
    }

    #[test]
    fn q11_a_replacement_of_version_2_keeps_its_purpose() {
        let two = Method::RemoveThenAdd;
        let by = |from, initiator| Purpose::RollBack { from, initiator };
        let suspend = Purpose::Suspend { longest: Duration::from_secs(60) };
        let files = vec!["etcd.yaml~".to_owned()];
        let rows = [
            (json!({"from": 3}), by(Some(3), Initiator::Agent)),
            (json!({"from": 3, "wish": "operator"}), by(Some(3), Initiator::Operator)),
            // A file that nobody can decode, or none.
            (json!({}), by(None, Initiator::Agent)),
            (json!({"wish": "operator"}), by(None, Initiator::Operator)),
            (json!({"intruders": ["etcd.yaml~"]}), Purpose::MoveOutDuplicates { files }),
            (json!({"from": 1, "wish": "operator", "vacated": {"longest": {"secs": 60, "nanos": 0}}}), suspend),
        ];
        let stages = [
            ("taking-out", Stage::TakingOut),
            ("awaiting-gone", Stage::AwaitingGone),
            ("putting-in", Stage::PuttingIn),
        ];
        for (fields, purpose) in rows {
            for (word, stage) in &stages {
                let state = lifted(version_2(word, fields.clone())).unwrap();
                assert_eq!(state, expected(purpose.clone(), two, stage.clone()), "{fields}");
            }
        }
    }

    #[test]
    fn q11_a_replacement_of_version_2_keeps_its_stage_and_what_was_seen_in_it() {
        let seen = json!({"from": 3, "crashes": 1, "stood": "yes", "intruders": ["late.yaml"]});
        let startup = Startup { crashes: 1, seen_in_place: SeenInPlace::Yes, duplicates: vec!["late.yaml".to_owned()] };
        let waits = |startup: &Startup, kubelet_restarted| Stage::AwaitingServing {
            startup: startup.clone(),
            kubelet_restarted,
        };
        let rows = [
            ("parking", Stage::StoppingApiServer),
            ("taking-out", Stage::TakingOut),
            ("awaiting-gone", Stage::AwaitingGone),
            ("settling", Stage::Settling),
            ("vacant", Stage::Suspended),
            ("putting-in", Stage::PuttingIn),
            ("stopping-old", Stage::StoppingOld(startup.clone())),
            ("nudging", Stage::RestartingKubelet(startup.clone())),
            ("awaiting-serving", waits(&startup, KubeletRestarted::NotYet)),
        ];
        let methods = [
            ("in-place", Method::Rename),
            ("two-steps", Method::RemoveThenAdd),
            ("restart", Method::RenameAndRestartKubelet),
        ];
        for (word, stage) in rows {
            for (way, method) in methods {
                let mut old = version_2(word, seen.clone());
                old["way"] = way.into();
                assert_eq!(lifted(old).unwrap(), expected(Purpose::roll_back(Some(3)), method, stage.clone()));
            }
        }
        let restarted = version_2("awaiting-serving", json!({"from": 3, "nudged": "yes"}));
        let stage = waits(&Startup::default(), KubeletRestarted::Yes);
        assert_eq!(
            lifted(restarted).unwrap(),
            expected(Purpose::roll_back(Some(3)), Method::RemoveThenAdd, stage),
            "a memory without `stood`"
        );
    }

    #[test]
    fn what_has_no_known_form_is_no_state() {
        for (name, value) in
            [("wish", json!("mine")), ("way", json!("sideways")), ("to", json!(null)), ("stage", json!("sideways"))]
        {
            assert!(lifted(version_2("taking-out", json!({name: value}))).is_err(), "{name}");
        }
        for odd in [json!(null), json!([]), json!({"components": 3}), json!({"components": {"etcd": null}})] {
            assert!(memory(2, odd.clone()).is_err() && generation(2, odd.clone()).is_err(), "{odd}");
        }
    }
}
