//! The status line of `systemctl status`. It contains no durations: it is sent only when it changes.

use super::Status;
use crate::model::Verdict;
use crate::model::overall::Overall;
use crate::model::policy::Mode;

/// One line, for `STATUS=`.
pub fn systemd_line(status: &Status) -> String {
    let all = status.components.len();
    let healthy = status.components.iter().filter(|c| c.verdict == Verdict::Healthy).count();
    let mut parts = vec![match status.overall {
        Overall::Good => status.sentence.clone(),
        _ => format!("{} ({healthy} of {all} healthy)", status.sentence),
    }];
    for component in &status.components {
        let id = &component.component;
        if let Some(replacement) = &component.replacement {
            parts.push(match replacement.suspended {
                true => format!("{id}: suspended, {}", replacement.stage),
                false => format!("{id}: rolling back to generation {}, {}", replacement.to, replacement.stage),
            });
        } else if let (Some(_), Some(generation)) = (&component.trial, component.generation) {
            parts.push(format!("{id}: generation {generation} on probation"));
        }
    }
    if status.mode == Mode::Observe {
        parts.push("observing only".to_owned());
    }
    if let Some(pause) = &status.pause {
        parts.push(format!("paused until {:.0}", pause.until));
    }
    parts.extend(status.holds.iter().take(1).cloned());
    // systemd shows one line; a sentence with a line break in it would be cut there.
    parts.join("; ").replace(['\n', '\r'], " ")
}
