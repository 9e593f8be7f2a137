//! `lastgood explain`.

use jiff::Timestamp;

use super::{Exit, Failure, out};
use crate::config::Settings;
use crate::model::ComponentId;
use crate::ops::backend::Backend;
use crate::report::{Explanation, Format, List};

pub(super) async fn explain(
    settings: &Settings,
    component: Option<ComponentId>,
    output: Format,
) -> Result<Exit, Failure> {
    let explanations = List { items: Backend::open(settings).await?.explain(component.as_ref()).await? };
    let text = |explanations: &List<Explanation>| {
        let now = Timestamp::now();
        let texts: Vec<String> = explanations.items.iter().map(|explanation| explanation.text(now)).collect();
        if texts.is_empty() { "no component is known yet\n".to_owned() } else { texts.join("\n") }
    };
    out::text(&output.print(&explanations, text)?)
}
