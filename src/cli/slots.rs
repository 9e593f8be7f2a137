//! `lastgood fill-slots`: completes interrupted replacements. ExecStopPost runs it after any end of the agent (Q11).

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::ops::offline::Offline;

pub(super) fn fill(settings: &Settings) -> Result<Exit, Failure> {
    for filled in Offline::fill_slots(settings) {
        out::text(&format!("{filled}\n"))?;
    }
    Ok(Exit::Ok)
}
