//! Who may ask on 10250: a SubjectAccessReview at the API server, and the memory of its answers.
//!
//! ```text
//!  nodes/pods asked lately (5 min if allowed, 30 s if denied)? ──no──▶ API server ──no answer──▶ an error: HTTP 500
//!        │ allowed: yes          │ denied: the same for nodes/proxy, the older right ──denied──▶ HTTP 403
//! ```

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::Method;
use serde_json::{Value, json};

use super::mirror::Mirrors;
use super::scale::Scale;

/// How long an allowed answer is believed: `authorization.webhook.cacheAuthorizedTTL`.
const ALLOWED_FOR: Duration = Duration::from_secs(300);
/// How long a denied one: `cacheUnauthorizedTTL`.
const DENIED_FOR: Duration = Duration::from_secs(30);
/// How long the API server may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Who asks.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct User {
    /// The certificate's common name.
    pub name: String,
    /// Its organisations, and what every user is in.
    pub groups: Vec<String>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// Who.
    pub user: User,
    /// `get`, `create` …
    pub verb: &'static str,
    /// The right below `nodes`: `pods`, `healthz`, `proxy`.
    pub subresource: &'static str,
}

/// The API server's word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ruling {
    /// Go ahead.
    Allowed,
    /// 403.
    Denied,
}

/// The answers of late.
#[derive(Debug)]
pub struct Reviews {
    mirrors: Arc<Mirrors>,
    node: String,
    scale: Scale,
    cache: Mutex<HashMap<Question, (Ruling, Instant)>>,
}

impl Reviews {
    /// None yet: after a restart the first question goes to the API server.
    #[must_use]
    pub fn new(mirrors: Arc<Mirrors>, node: String, scale: Scale) -> Self {
        Self { mirrors, node, scale, cache: Mutex::default() }
    }

    /// Whether the question's right, or else nodes/proxy, is granted.
    ///
    /// # Errors
    /// The API server did not answer, and nothing is remembered.
    pub async fn rule(&self, question: &Question) -> Result<Ruling, String> {
        let ruling = self.one(question).await?;
        if ruling == Ruling::Allowed || question.subresource == "proxy" {
            return Ok(ruling);
        }
        self.one(&Question { subresource: "proxy", ..question.clone() }).await
    }

    async fn one(&self, question: &Question) -> Result<Ruling, String> {
        if let Some(ruling) = self.remembered(question, Instant::now()) {
            return Ok(ruling);
        }
        let api = self.mirrors.api().ok_or("there is no API server to ask")?;
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": question.user.name, "groups": question.user.groups,
                "resourceAttributes": {
                    "verb": question.verb, "version": "v1", "resource": "nodes",
                    "subresource": question.subresource, "name": self.node,
                },
            },
        });
        let deadline = self.scale.with_floor(PATIENCE, Duration::from_secs(2));
        let path = "/apis/authorization.k8s.io/v1/subjectaccessreviews";
        let answer = api.call(Method::POST, path, Some(&review), deadline).await.map_err(|why| why.to_string())?;
        let ruling = match answer.pointer("/status/allowed").and_then(Value::as_bool) {
            Some(true) => Ruling::Allowed,
            _ => Ruling::Denied,
        };
        self.remember(question.clone(), ruling, Instant::now());
        Ok(ruling)
    }

    fn remembered(&self, question: &Question, now: Instant) -> Option<Ruling> {
        let (ruling, at) = *self.cache.lock().unwrap_or_else(PoisonError::into_inner).get(question)?;
        let fresh = self.scale.of(match ruling {
            Ruling::Allowed => ALLOWED_FOR,
            Ruling::Denied => DENIED_FOR,
        });
        (now.saturating_duration_since(at) < fresh).then_some(ruling)
    }

    fn remember(&self, question: Question, ruling: Ruling, now: Instant) {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner).insert(question, (ruling, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(subresource: &'static str) -> Question {
        Question { user: User { name: "agent".into(), groups: vec![] }, verb: "get", subresource }
    }

    #[test]
    fn an_allowed_answer_outlives_the_api_server_by_five_minutes_and_a_denied_one_by_half_a_minute() {
        let mirrors = Arc::new(Mirrors::new(None, "n", Scale::TRUE_TO_LIFE).expect("standalone"));
        let reviews = Reviews::new(mirrors, "n".into(), Scale::TRUE_TO_LIFE);
        let start = Instant::now();
        for (ruling, seconds) in [(Ruling::Allowed, 300), (Ruling::Denied, 30)] {
            reviews.remember(question("pods"), ruling, start);
            assert_eq!(reviews.remembered(&question("pods"), start + Duration::from_secs(seconds - 1)), Some(ruling));
            assert_eq!(reviews.remembered(&question("pods"), start + Duration::from_secs(seconds)), None);
        }
        assert_eq!(reviews.remembered(&question("healthz"), start), None, "another right is another question");
    }

    #[tokio::test]
    async fn without_an_api_server_and_a_memory_there_is_no_ruling() {
        let mirrors = Arc::new(Mirrors::new(None, "n", Scale::TRUE_TO_LIFE).expect("standalone"));
        let reviews = Reviews::new(mirrors, "n".into(), Scale::TRUE_TO_LIFE);
        assert!(reviews.rule(&question("pods")).await.is_err());
        reviews.remember(question("pods"), Ruling::Denied, Instant::now());
        assert!(reviews.rule(&question("pods")).await.is_err(), "nodes/proxy is asked for next");
        reviews.remember(question("proxy"), Ruling::Allowed, Instant::now());
        assert_eq!(reviews.rule(&question("pods")).await, Ok(Ruling::Allowed));
    }
}
