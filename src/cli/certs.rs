//! `lastgood certs`. It reads the files itself: it needs no agent and, if they are readable, no root.

use jiff::Timestamp;

use super::{CertsCommand, Exit, Failure, out};
use crate::config::Settings;
use crate::observe;
use crate::report::Certificates;

pub(super) fn certs(settings: &Settings, command: &CertsCommand) -> Result<Exit, Failure> {
    let CertsCommand::Check { output } = command;
    let (found, unreadable, findings) = observe::certificates(settings);
    if let Some((path, why)) = unreadable.first_key_value().filter(|_| found.is_empty()) {
        return Err(Failure::unreachable(format!("{} {why}: is this a master, and are you root?", path.display())));
    }
    let certificates = Certificates::new(Timestamp::now(), &found, unreadable, &findings);
    out::text(&output.print(&certificates, Certificates::text)?)?;
    Ok(if certificates.are_well() { Exit::Ok } else { Exit::Unwell })
}
