//! Messages of the commands about the bundle of a snapshot.

use crate::cli::{Exit, Failure, out};
use crate::model::snapshot::Bundled;
use crate::report::{Format, Snapshot};
use crate::snapshots::bundle::Bundle;

/// Says what travels with a snapshot, or why nothing does. `how` the snapshot is nevertheless.
pub(super) fn tell(bundle: Result<&Bundle, &String>, how: &str) {
    match bundle {
        Ok(bundle) => eprintln!("its bundle contains: {}", Bundled::from(bundle.clone()).briefly),
        Err(why) => eprintln!("the snapshot {how} without a bundle: {why}"),
    }
}

/// The data are whole, and what travels with them is not.
pub(super) fn but(snapshot: &Snapshot, fault: &dyn std::fmt::Display, output: Format) -> Result<Exit, Failure> {
    out::text(&output.print(snapshot, Snapshot::verdict)?)?;
    Err(Failure { exit: Exit::Unwell, sentence: format!("but its bundle is not: {fault}") })
}
