//! `lastgood history`: read from the state directory, whether the agent runs or not.

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::ComponentId;
use crate::ops::offline::Offline;
use crate::report::{Format, History, List};

pub(super) fn history(
    settings: &Settings,
    component: Option<ComponentId>,
    number: usize,
    output: Format,
) -> Result<Exit, Failure> {
    let offline = Offline::open(settings)?;
    let memory = offline.memory()?;
    let mut items = Vec::new();
    for id in offline.components(component.as_ref())? {
        items.push(History::new(&memory, &id, offline.events(Some(&id), number)));
    }
    let text = |histories: &List<History>| {
        let texts: Vec<String> = histories.items.iter().map(History::text).collect();
        if texts.is_empty() { "no component is known yet\n".to_owned() } else { texts.join("\n") }
    };
    out::text(&output.print(&List { items }, text)?)
}
