//! The words for a component's place in the state machine, and for how far a replacement is: each is spelled here, once, and
//! compared by its variant.

use std::fmt;

use serde::de::value::{Error, StrDeserializer};
use serde::{Deserialize, Serialize};

use crate::model::ComponentState;
use crate::model::component_state::Stage;

/// A component's place in the state machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum State {
    /// Nothing is known-good yet.
    Adopting,
    /// What is deployed is known-good.
    Steady,
    /// A configuration file changed, and the process has not read it.
    Unread,
    /// A candidate is on trial.
    Probation,
    /// Another generation is being put in place.
    RollingBack,
    /// Its manifest is out while a restore works on its data.
    #[serde(alias = "Vacated")]
    Suspended,
    /// The manifest is gone.
    Missing,
    /// Nothing is done until a person does something.
    Held,
    /// Its manifest is out while etcd serves other data than those on record.
    Stopped,
}

impl State {
    /// Every state.
    pub(super) const ALL: [Self; 9] = [
        Self::Adopting,
        Self::Steady,
        Self::Unread,
        Self::Probation,
        Self::RollingBack,
        Self::Suspended,
        Self::Missing,
        Self::Held,
        Self::Stopped,
    ];

    /// The state that an event of kind `state` left or entered: its text begins with the state's word.
    pub(super) fn of_event(text: &str) -> Option<Self> {
        let word = text.split_once('(').map_or(text, |(word, _)| word);
        Self::deserialize(StrDeserializer::<Error>::new(word)).ok()
    }

    /// Whether a component that enters or leaves it is news.
    pub(super) fn is_of_note(self) -> bool {
        match self {
            Self::RollingBack | Self::Suspended | Self::Held | Self::Missing => true,
            Self::Adopting | Self::Steady | Self::Unread | Self::Probation | Self::Stopped => false,
        }
    }
}

impl From<&ComponentState> for State {
    fn from(slot: &ComponentState) -> Self {
        match slot {
            ComponentState::Adopting { .. } => Self::Adopting,
            ComponentState::Steady { .. } => Self::Steady,
            ComponentState::Unread { .. } => Self::Unread,
            ComponentState::Probation(_) => Self::Probation,
            ComponentState::Replacing(replacement) if replacement.suspended_for().is_some() => Self::Suspended,
            ComponentState::Replacing(_) => Self::RollingBack,
            ComponentState::Missing { .. } => Self::Missing,
            ComponentState::Held(_) => Self::Held,
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How far a replacement is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub enum StageView {
    /// kube-apiserver is stopped before etcd is touched.
    StoppingApiServer,
    /// The failed manifest is to leave the directory.
    TakingOut,
    /// It has left; its sandbox is to go.
    AwaitingGone,
    /// The sandbox has gone.
    Settling,
    /// A restore works on its data.
    Suspended,
    /// The good manifest is to be put in.
    PuttingIn,
    /// The good manifest is in; the old sandbox is stopped through CRI.
    StoppingOld,
    /// The kubelet is restarted.
    RestartingKubelet,
    /// The good pod is to serve.
    AwaitingServing,
}

impl From<&Stage> for StageView {
    fn from(stage: &Stage) -> Self {
        match stage {
            Stage::StoppingApiServer => Self::StoppingApiServer,
            Stage::TakingOut => Self::TakingOut,
            Stage::AwaitingGone => Self::AwaitingGone,
            Stage::Settling => Self::Settling,
            Stage::Suspended => Self::Suspended,
            Stage::PuttingIn => Self::PuttingIn,
            Stage::StoppingOld(_) => Self::StoppingOld,
            Stage::RestartingKubelet(_) => Self::RestartingKubelet,
            Stage::AwaitingServing { .. } => Self::AwaitingServing,
        }
    }
}

/// The stage in words, for people.
impl fmt::Display for StageView {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::StoppingApiServer => "stopping kube-apiserver first",
            Self::TakingOut => "removing the deployed manifest",
            Self::AwaitingGone => "waiting for the old pod to end",
            Self::Settling => "giving the kubelet a moment to notice",
            Self::Suspended => "restoring its data",
            Self::PuttingIn => "deploying the known-good manifest",
            Self::StoppingOld => "stopping the old sandbox",
            Self::RestartingKubelet => "restarting the kubelet",
            Self::AwaitingServing => "waiting for it to serve",
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::model::component_state::{Held, Probation, Purpose, Replacement, Until};
    use crate::model::observation::Gone;

    fn replacing(purpose: Purpose) -> ComponentState {
        ComponentState::Replacing(Replacement::new(purpose, 1, ""))
    }

    /// One slot of every kind.
    fn slots() -> Vec<ComponentState> {
        let held = Held { over: None, good: None, why: String::new(), next_step: String::new(), until: Until::Person };
        let (since, age) = (jiff::Timestamp::UNIX_EPOCH, Duration::ZERO);
        vec![
            ComponentState::Adopting { candidate: 1, healthy: age },
            ComponentState::Steady { good: 1 },
            ComponentState::Unread { candidate: 2, good: 1, age },
            ComponentState::Probation(Probation::begin(2, 1)),
            replacing(Purpose::roll_back(Some(2))),
            replacing(Purpose::Suspend { longest: age }),
            ComponentState::Missing { good: 1, how: Gone::Deleted, since, age },
            ComponentState::Held(held),
        ]
    }

    #[test]
    fn a_state_has_the_word_of_its_slot_and_is_found_in_the_slots_events() {
        let slots = slots();
        let states: Vec<State> = slots.iter().map(State::from).collect();
        assert_eq!(states, State::ALL[..8], "a slot never says that it is stopped");
        for (slot, state) in slots.iter().zip(states) {
            assert_eq!(state.to_string(), slot.word());
            assert_eq!(State::of_event(&slot.to_string()), Some(state));
        }
        for state in State::ALL {
            assert_eq!(State::of_event(&state.to_string()), Some(state));
        }
        assert_eq!(State::of_event("healthy"), None);
        assert_eq!(State::of_event(""), None);
    }

    #[test]
    fn a_stage_is_a_word_for_machines() {
        let stage = StageView::from(&Stage::awaiting_serving());
        let json = serde_json::to_value(stage).unwrap();
        assert_eq!(json, "awaiting-serving");
        assert_eq!(serde_json::from_value::<StageView>(json).unwrap(), stage);
    }
}
