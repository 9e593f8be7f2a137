//! Addresses that a recovery depends on: what is rolled back or started again listens where its manifest says, and the
//! kubelet waits for the API server that its kubeconfig names.

use super::{Check, CheckResult, Examined};
use crate::model::environment::User;

/// One check for each address that no interface has, that does not answer, or that has to be raised first; nothing where
/// all is well.
pub(super) fn checks(examined: &Examined<'_>) -> Vec<Check> {
    const HELD: &str = "addresses";
    const WAY: &str = "way to the API server";
    let addresses = &examined.seen.node.addresses;
    let own = addresses.api_server.as_deref().unwrap_or("https://ADDRESS-OF-THIS-NODE:6443");
    let missing = addresses
        .missing
        .iter()
        .map(|missing| Check::bad(HELD, CheckResult::Failed, addresses.sentence(missing), addresses.next(missing)));
    let bad = examined.seen.node.endpoints.iter().filter_map(|endpoint| {
        let detail = format!("{}, used by {}, {}", endpoint.server, endpoint.users(), endpoint.trouble()?);
        let fix = match addresses.unraised(&endpoint.server) {
            Some(raised) => addresses.why_unraised(raised),
            None => format!("look at the load balancer; `server:` of kubelet.conf may be {own}"),
        };
        Some(Check::bad(WAY, CheckResult::Warning, detail, fix))
    });
    let answers = |server: &str| {
        !examined.seen.node.endpoints.iter().any(|endpoint| endpoint.server == server && endpoint.trouble().is_some())
    };
    let raised = addresses.raised.iter().filter(|raised| answers(&raised.server)).filter_map(|raised| {
        let (_, kubeconfig) = raised.used.iter().find(|(user, _)| *user == User::Kubelet)?;
        let detail = format!(
            "{} leads to {}, which {}, a pod of this node, raises: after a start of all masters the kubelet waits for \
             an address that no pod holds yet",
            kubeconfig.display(),
            raised.server,
            raised.by
        );
        let fix = format!("set `server:` in {} to {own}, and `systemctl restart kubelet`", kubeconfig.display());
        Some(Check::bad(WAY, CheckResult::Warning, detail, fix))
    });
    missing.chain(bad).chain(raised).collect()
}
