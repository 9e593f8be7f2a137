//! Certificates that a recovery depends on: rolled back components read them as they are now.

use super::{Check, CheckResult, Examined};
use crate::model::certificate_use::{KubeletCertificate, OlderInUse, is_kubelet_client, kubelet_steps};
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
        let of_the_kubelet = validity == Validity::Ended && is_kubelet_client(certificate);
        let detail = format!("{} ({}) {how}", certificate.path.display(), listed(&certificate.users));
        let fix = if of_the_kubelet {
            kubelet_steps(&examined.memory.machine.node_name)
        } else {
            "`kubeadm certs renew` renews its own; `lastgood certs check` lists all".to_owned()
        };
        Some(Check::bad(SUBJECT, mark, detail, fix))
    });
    let node = &examined.seen.node;
    let used = node.older_in_use.iter().map(OlderInUse::finding);
    let used = used.chain(node.kubelet_certificate.as_ref().map(KubeletCertificate::finding));
    let used =
        used.map(|finding| Check::bad("certificates in use", CheckResult::Warning, finding.detail, finding.next));
    let mut checks: Vec<Check> = troubled.collect();
    if checks.is_empty() {
        checks.push(Check::ok(SUBJECT, format!("{} are valid, and none ends within 30 days", all.len())));
    }
    checks.extend(used);
    checks
}
