//! `lastgood history`: read from the state directory, whether the agent runs or not.

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::ComponentId;
use crate::ops::offline::Offline;
use crate::report::{Format, History};

pub(super) fn history(
    settings: &Settings,
    component: Option<ComponentId>,
    number: usize,
    output: Format,
) -> Result<Exit, Failure> {
    let offline = Offline::open(settings)?;
    let memory = offline.memory()?;
    let mut histories = Vec::new();
    for id in offline.components(component.as_ref())? {
        histories.push(History::new(&memory, &id, offline.events(Some(&id), number)?));
    }
    let text = |histories: &Vec<History>| {
        let texts: Vec<String> = histories.iter().map(History::text).collect();
        if texts.is_empty() { "no component is known yet\n".to_owned() } else { texts.join("\n") }
    };
    out::text(&output.print(&histories, text)?)
}
