//! Slots.
use crate::config::Settings;

/// Fills every emptied slot. (to come)
pub fn finish_interrupted(settings: &Settings) -> Vec<String> {
    let _ = settings;
    Vec::new()
}

/// As [`finish_interrupted`], unless another lastgood is at work. (to come)
pub fn fill_slots(settings: &Settings) -> Vec<String> {
    finish_interrupted(settings)
}
