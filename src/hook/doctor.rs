//! What doctor says of the command that notifies people.

use crate::model::check::{Check, CheckResult};
use crate::model::hook::HookView;

pub(super) fn checks(hook: &HookView) -> Vec<Check> {
    let subject = "command that notifies people";
    let next = "`lastgood config test-notify` runs it";
    let trouble = hook.unusable.as_ref().or(hook.failed.as_ref());
    let check = match trouble {
        Some(why) if hook.waiting > 0 => {
            let detail = format!("{why}; messages that wait for it: {}", hook.waiting);
            Check::bad(subject, CheckResult::Warning, detail, next)
        }
        Some(why) => Check::bad(subject, CheckResult::Warning, why, next),
        None => Check::ok(subject, &hook.program),
    };
    vec![check]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_fails_is_a_warning() {
        let well = HookView { program: "/bin/page".to_owned(), unusable: None, waiting: 0, failed: None };
        let absent = HookView { unusable: Some("/bin/page: no such file".to_owned()), ..well.clone() };
        let failing = HookView { failed: Some("exit status: 1".to_owned()), waiting: 2, ..well.clone() };
        for (hook, verdict) in
            [(well, CheckResult::Ok), (absent, CheckResult::Warning), (failing, CheckResult::Warning)]
        {
            assert_eq!(checks(&hook).iter().map(|check| check.verdict).collect::<Vec<_>>(), [verdict]);
        }
    }
}
