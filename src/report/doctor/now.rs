//! What is not healthy at present, with its cause: said first, whatever a recovery would need.

use super::{Check, CheckResult, Examined};
use crate::model::Verdict;
use crate::model::component::HostService;

/// One check for each component and service that is not well, by the agent's verdicts; none where no agent runs.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    let Some(status) = examined.status else { return Vec::new() };
    let bad = |verdict| matches!(verdict, Verdict::Failing | Verdict::Stalled | Verdict::Down);
    let services = status.services.iter().filter(|service| service.is_unwell()).map(|service| {
        let look = service.component.service().map_or("`lastgood status`", HostService::look);
        let next = service.next_step.clone().unwrap_or_else(|| look.to_owned());
        let detail = format!("it is {}: {}", service.verdict, service.note);
        Check::bad(service.component.to_string(), CheckResult::Failed, detail, next)
    });
    let components = status.components.iter().filter(|component| bad(component.verdict)).map(|component| {
        let id = &component.component;
        let detail = match component.note.as_str() {
            "" => format!("it is {}", component.verdict),
            note => format!("it is {}: {note}", component.verdict),
        };
        Check::bad(id.to_string(), CheckResult::Failed, detail, format!("`lastgood explain {id}`"))
    });
    services.chain(components).collect()
}
