//! One HTTP request, and the meaning of its answer.

use std::fmt;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};

use super::connect::{self, Address};
use super::security::Security;
use crate::model::reading::SymptomKind;
use crate::model::{Reading, Symptom};

/// What a health endpoint says fits many times over.
pub(in crate::observe) const MAX_BODY: usize = 256 << 10;
/// What of a body is quoted.
const QUOTED: usize = 120;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::observe) struct Get {
    pub(in crate::observe) address: Address,
    pub(in crate::observe) security: Security,
    /// What, query included.
    pub(in crate::observe) path: String,
    /// Headers a manifest's probe names.
    pub(in crate::observe) headers: Vec<(String, String)>,
    /// The largest body that is taken.
    pub(in crate::observe) max_body: usize,
}

impl fmt::Display for Get {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}{}", self.security.scheme(), self.address, self.path)
    }
}

#[derive(Debug)]
pub(in crate::observe) struct Answer {
    pub(in crate::observe) status: u16,
    pub(in crate::observe) body: Bytes,
    /// What is wrong with the dates of the server's certificate.
    pub(in crate::observe) certificate: Option<String>,
}

impl Answer {
    fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.body)
    }

    /// The checks a verbose health answer names as failed.
    fn failed_checks(&self) -> Vec<String> {
        let text = self.text();
        let lines = text.lines().filter_map(|line| line.trim().strip_prefix("[-]"));
        lines.filter_map(|line| line.split_whitespace().next()).map(str::to_owned).collect()
    }

    fn quote(&self) -> String {
        let text = self.text();
        let line = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or("nothing");
        line.chars().take(QUOTED).collect()
    }
}

/// Asks once, within the deadline.
///
/// # Errors
/// The reading it comes to when there is no answer.
pub(in crate::observe) async fn get(get: &Get, deadline: Instant) -> Result<Answer, Reading> {
    let connection = connect::connect(&get.address, &get.security, b"", deadline).await?;
    get_over(connection, get, deadline).await
}

/// Asks once over this connection, within the deadline.
///
/// # Errors
/// As [`get`].
pub(super) async fn get_over(connection: connect::Connection, get: &Get, deadline: Instant) -> Result<Answer, Reading> {
    let (certificate, trail) = (connection.theirs, connection.trail);
    let broken = |error: hyper::Error| connect::broken(&error, &get.address, &trail);
    let mut request = Request::get(&get.path).header(header::CONNECTION, "close");
    if !get.headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        request = request.header(header::HOST, get.address.to_string());
    }
    request = request.header(header::USER_AGENT, concat!("lastgood/", env!("CARGO_PKG_VERSION")));
    for (name, value) in &get.headers {
        request = request.header(name, value);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| {
        Reading::CannotTell(Symptom::new(SymptomKind::NoMeans, format!("{get} is no valid HTTP request: {error}")))
    })?;
    let exchange = async {
        let (mut sender, driver) = http1::handshake(TokioIo::new(connection.stream)).await.map_err(broken)?;
        // Ends with this question, however it ends.
        let mut driving = JoinSet::new();
        driving.spawn(driver);
        let answer = sender.send_request(request).await.map_err(broken)?;
        let status = answer.status().as_u16();
        let body = Limited::new(answer.into_body(), get.max_body).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(*error),
            Err(error) => Reading::Bad(Symptom::new(SymptomKind::WrongBody, format!("{get}: {error}"))),
        })?;
        Ok(Answer { status, body: body.to_bytes(), certificate })
    };
    match timeout_at(deadline, exchange).await {
        Ok(answer) => answer,
        Err(_) => Err(connect::timed_out(
            &get.address,
            &format!("accepted the request for {} and did not answer it in time", get.path),
        )),
    }
}

/// What the right answer looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::observe) enum Expect {
    /// 200 and `ok`, as Kubernetes' own components say it.
    Ok,
    /// 200 and `ok`, or a JSON object whose `health` is true.
    EtcdHealth,
    /// Any status the kubelet takes: 200 to 399.
    Success,
}

/// What an answer means.
pub(super) fn meaning(get: &Get, answer: &Answer, expect: Expect) -> Reading {
    let bad = |kind, words: String| Reading::Bad(Symptom::new(kind, format!("{get} answered {words}")));
    match answer.status {
        401 | 403 => {
            let words = format!("{get} answered {}: it is alive, but denies lastgood access", answer.status);
            Reading::CannotTell(Symptom::new(SymptomKind::Unauthorized, words))
        }
        200..=399 if expect == Expect::Success => Reading::Good,
        200 if says_ok(&answer.text()) => Reading::Good,
        200 if expect == Expect::EtcdHealth && health_field(&answer.body) == Some(true) => Reading::Good,
        200 if expect == Expect::EtcdHealth && health_field(&answer.body) == Some(false) => {
            unhealthy(get, answer, expect)
        }
        200 => bad(
            SymptomKind::WrongBody,
            format!("200 with {:?}, which is not the answer of a healthy process", answer.quote()),
        ),
        500..=599 => unhealthy(get, answer, expect),
        429 => unhealthy(get, answer, expect),
        status if expect == Expect::Success => bad(SymptomKind::Unhealthy, format!("{status}: {}", answer.quote())),
        status => bad(SymptomKind::WrongBody, format!("{status}: {}", answer.quote())),
    }
}

fn unhealthy(get: &Get, answer: &Answer, expect: Expect) -> Reading {
    let failed = answer.failed_checks();
    let words = if failed.is_empty() { answer.quote() } else { format!("failed: {}", failed.join(", ")) };
    // etcd without a leader says so, and it says nothing about this member.
    let text = answer.text();
    let leaderless = text.contains("NO LEADER") || failed == ["linearizable_read"];
    let kind =
        if expect == Expect::EtcdHealth && leaderless { SymptomKind::ClusterWide } else { SymptomKind::Unhealthy };
    Reading::Bad(Symptom::new(kind, format!("{get} answered {}: {words}", answer.status)))
}

/// Whether an answer that failed names no check, so that asking `?verbose` says more.
pub(super) fn says_too_little(answer: &Answer) -> bool {
    answer.status >= 500 && answer.failed_checks().is_empty()
}

/// `ok`, alone or as the last line of a verbose answer.
fn says_ok(text: &str) -> bool {
    let last = text.lines().map(str::trim).rfind(|line| !line.is_empty()).unwrap_or("");
    last == "ok" || (last.ends_with("check passed") && !text.contains("[-]"))
}

fn health_field(body: &[u8]) -> Option<bool> {
    let document: serde_json::Value = serde_json::from_slice(body).ok()?;
    match document.get("health")? {
        serde_json::Value::Bool(health) => Some(*health),
        serde_json::Value::String(health) => Some(health == "true"),
        _ => None,
    }
}
