//! Reads what another agent answered. Nothing in it is trusted but that it came over a connection with a certificate of the
//! peer CA: it is bounded, its texts are cut to what a terminal and a journal take, and it has to name the member that was
//! asked.

use serde_json::Value;

use crate::model::document::{API_VERSION, Document as _};
use crate::model::peer::{PeerReport, PeerTrouble, PeerTroubleKind};
use crate::observe::PeerAnswer;

/// The most bytes that are read of an answer: a report has some two thousand.
pub(super) const MAX_BYTES: usize = 64 << 10;
/// Characters of a text that are kept.
const MAX_TEXT: usize = 400;
/// Entries of a list that are kept.
const MAX_ITEMS: usize = 32;

/// The member that was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Asked {
    pub cluster: u64,
    pub member: u64,
}

/// The report in an answer.
///
/// # Errors
/// Why it is none, or none of the member that was asked.
pub(super) fn read(answer: &PeerAnswer, asked: Asked) -> Result<PeerReport, PeerTrouble> {
    let wrong = |kind, detail: String| Err(PeerTrouble { kind, detail });
    let status = answer.status;
    if status != 200 {
        return wrong(PeerTroubleKind::Answer, format!("it answers with status {status} and not with a report"));
    }
    let mut document = match serde_json::from_slice::<Value>(&answer.body) {
        Ok(document) => document,
        Err(error) => return wrong(PeerTroubleKind::Answer, format!("its answer is not JSON: {error}")),
    };
    tidy(&mut document);
    let kind = document["kind"].as_str().unwrap_or("no kind");
    if kind != PeerReport::KIND {
        return wrong(PeerTroubleKind::Answer, format!("its answer is {kind} and not {}", PeerReport::KIND));
    }
    let version = document["apiVersion"].as_str().unwrap_or("no version");
    if version != API_VERSION {
        let detail = format!("it reports in version {version}, and this lastgood reads {API_VERSION}");
        return wrong(PeerTroubleKind::Version, detail);
    }
    let report: PeerReport = match serde_json::from_value(document) {
        Ok(report) => report,
        Err(error) => return wrong(PeerTroubleKind::Answer, format!("its report cannot be read: {error}")),
    };
    let Asked { cluster, member } = asked;
    match (report.etcd.cluster, report.etcd.member) {
        (Some(theirs), _) if theirs.0 != cluster => wrong(
            PeerTroubleKind::AnotherMember,
            format!("it reports of cluster {theirs}, and this one is {cluster:x}"),
        ),
        (Some(_), Some(theirs)) if theirs.0 == member => Ok(report),
        (Some(_), Some(theirs)) => {
            wrong(PeerTroubleKind::AnotherMember, format!("it reports of member {theirs}, and {member:x} was asked"))
        }
        _ => {
            wrong(PeerTroubleKind::AnotherMember, "it does not know yet which member of etcd it reports of".to_owned())
        }
    }
}

/// Cuts texts and lists, and takes out what moves a cursor.
fn tidy(value: &mut Value) {
    match value {
        Value::String(text) => {
            *text = text.chars().take(MAX_TEXT).map(|c| if c.is_control() { ' ' } else { c }).collect()
        }
        Value::Array(items) => {
            items.truncate(MAX_ITEMS);
            items.iter_mut().for_each(tidy);
        }
        Value::Object(fields) => fields.values_mut().for_each(tidy),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
