//! `/livez`, `/readyz`, `/healthz`: named checks, and the text real components print about them.
//!
//! The bodies are those of the recorded fixtures: `[+]name ok` per check, `[-]name failed: reason withheld` for a failed
//! one, and a last line that says whether the endpoint passed. The reason goes to the log, as with the real ones.

use hyper::StatusCode;

use super::serve::{Call, Reply};

/// One check and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Check {
    /// Its name, as in `/livez/<name>`.
    pub name: String,
    /// Why it fails, or nothing.
    pub result: Result<(), String>,
}

impl Check {
    /// A check that is well.
    #[must_use]
    pub fn ok(name: &str) -> Self {
        Self { name: name.to_owned(), result: Ok(()) }
    }

    /// A check with its result.
    #[must_use]
    pub fn new(name: &str, result: Result<(), String>) -> Self {
        Self { name: name.to_owned(), result }
    }
}

/// The answer of `/<endpoint>`, with `?verbose` and `?exclude=name` (repeatable).
#[must_use]
pub fn answer(endpoint: &str, call: &Call, checks: &[Check]) -> Reply {
    let excluded: Vec<&str> = call.query("exclude").collect();
    let mut text = String::new();
    let mut failed: Vec<String> = Vec::new();
    for check in checks {
        let name = &check.name;
        if excluded.contains(&name.as_str()) {
            text.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match &check.result {
            Ok(()) => text.push_str(&format!("[+]{name} ok\n")),
            Err(reason) => {
                text.push_str(&format!("[-]{name} failed: reason withheld\n"));
                failed.push(format!("[-]{name} failed: {reason}"));
            }
        }
    }
    let unmatched: Vec<String> = excluded
        .iter()
        .filter(|name| !checks.iter().any(|check| check.name == **name))
        .map(|name| format!("{name:?}"))
        .collect();
    if !unmatched.is_empty() {
        let unmatched = unmatched.join(",");
        text.push_str(&format!("warn: some health checks cannot be excluded: no matches for {unmatched}\n"));
    }
    if !failed.is_empty() {
        let line = format!("{endpoint} check failed: {}", failed.join(", "));
        super::klog::log(super::klog::Level::Info, "healthz.go:280", &line);
        return Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{endpoint} check failed\n"));
    }
    if call.query("verbose").next().is_none() {
        return Reply::text(StatusCode::OK, "ok".to_owned());
    }
    Reply::text(StatusCode::OK, format!("{text}{endpoint} check passed\n"))
}

/// The answer of `/<endpoint>/<check>`.
#[must_use]
pub fn answer_one(check: &Check) -> Reply {
    match &check.result {
        Ok(()) => Reply::text(StatusCode::OK, "ok".to_owned()),
        Err(reason) => Reply::text(StatusCode::INTERNAL_SERVER_ERROR, format!("internal server error: {reason}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks(etcd: Result<(), String>) -> Vec<Check> {
        vec![Check::ok("ping"), Check::ok("log"), Check::new("etcd", etcd)]
    }

    fn body(reply: &Reply) -> &str {
        std::str::from_utf8(&reply.body).expect("text")
    }

    #[test]
    fn all_well_is_ok_and_nothing_else() {
        let reply = answer("livez", &Call::get("/livez"), &checks(Ok(())));
        assert_eq!((reply.status, body(&reply)), (StatusCode::OK, "ok"));
    }

    #[test]
    fn verbose_lists_every_check_in_order() {
        let reply = answer("livez", &Call::get("/livez?verbose"), &checks(Ok(())));
        assert_eq!(body(&reply), "[+]ping ok\n[+]log ok\n[+]etcd ok\nlivez check passed\n");
    }

    #[test]
    fn a_failed_check_withholds_its_reason_and_is_listed_even_without_verbose() {
        let reply = answer("readyz", &Call::get("/readyz"), &checks(Err("context deadline exceeded".into())));
        assert_eq!(reply.status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body(&reply), "[+]ping ok\n[+]log ok\n[-]etcd failed: reason withheld\nreadyz check failed\n");
    }

    #[test]
    fn an_excluded_check_cannot_fail_and_an_unknown_one_is_warned_of() {
        let call = Call::get("/livez?verbose&exclude=etcd&exclude=nosuch");
        let reply = answer("livez", &call, &checks(Err("down".into())));
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(
            body(&reply),
            "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nwarn: some health checks cannot be excluded: no matches for \
             \"nosuch\"\nlivez check passed\n"
        );
    }

    #[test]
    fn a_single_check_tells_its_reason() {
        let reply = answer_one(&Check::new("etcd", Err("context deadline exceeded".into())));
        assert_eq!(body(&reply), "internal server error: context deadline exceeded\n");
        assert_eq!(body(&answer_one(&Check::ok("etcd"))), "ok");
    }
}
