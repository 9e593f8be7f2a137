//! Certificates that a recovery depends on: rolled back components read them as they are now.

use super::{Check, CheckResult, Examined};
use crate::model::environment::{Validity, listed, second};

/// One check for all that are well, and one for each that is not.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    const SUBJECT: &str = "certificates";
    let all = &examined.seen.node.certificates;
    if all.is_empty() {
        let fix = "`lastgood certs check` says which files cannot be read";
        return vec![Check::bad(SUBJECT, CheckResult::CannotTell, "none could be read", fix)];
    }
    let troubled = all.iter().filter_map(|certificate| {
        let validity = certificate.validity(examined.now);
        let end = second(certificate.not_after);
        let (mark, how) = match validity {
            Validity::Valid => return None,
            Validity::Ending(days) => (CheckResult::Warning, format!("ends within {days} days, at {end}")),
            Validity::Ended => (CheckResult::Failed, format!("ended at {end}")),
            Validity::NotYet => {
                (CheckResult::Failed, format!("is not valid before {}", second(certificate.not_before)))
            }
        };
        let detail = format!("{} ({}) {how}", certificate.path.display(), listed(&certificate.users));
        Some(Check::bad(
            SUBJECT,
            mark,
            detail,
            "`kubeadm certs renew` renews its own; `lastgood certs check` lists all",
        ))
    });
    let mut checks: Vec<Check> = troubled.collect();
    if checks.is_empty() {
        checks.push(Check::ok(SUBJECT, format!("{} are valid, and none ends within 30 days", all.len())));
    }
    checks
}
