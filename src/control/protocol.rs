//! The protocol of the control socket: one JSON object per line, with a version.

use serde::{Deserialize, Serialize};

use crate::model::plan::Refusal;
use crate::model::{ComponentId, Event, Request};
use crate::report::{Explanation, Planned, Status};

/// The protocol's version. Agent and CLI are one binary, but an upgrade replaces the file under a running agent.
pub const VERSION: u32 = 1;

/// The longest line that is read from a client, in bytes, its line break included.
pub const MAX_ASK_BYTES: usize = 64 << 10;

/// The longest line that a client reads: a status of hundreds of components is a tenth of it.
pub const MAX_ANSWER_BYTES: usize = 8 << 20;

/// What can be asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Call {
    /// How is the node?
    Status,
    /// Why?
    Explain { component: Option<ComponentId> },
    Do {
        request: Request,
        /// Whether it is done, or only said what would be.
        how: Execution,
    },
    /// Tell events as they happen, until the connection is closed.
    Follow { component: Option<ComponentId> },
}

/// Whether a request is carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Execution {
    ForReal,
    /// The plan is shown, and nothing else happens.
    DryRun,
}

/// What can be answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To [`Call::Status`].
    Status(Box<Status>),
    /// To [`Call::Explain`].
    Explanations(Vec<Explanation>),
    /// To [`Call::Do`] as a dry run: what would be done.
    Planned(Planned),
    /// To [`Call::Do`]: it is accepted, written down, and under way.
    Accepted(Planned),
    /// To [`Call::Do`]: it is not granted.
    Refused(Refusal),
    /// To [`Call::Follow`], first: everything that happens from now on is reported.
    Following,
    /// To [`Call::Follow`], then.
    Event(Event),
    /// To [`Call::Follow`]: the client read too slowly, and this many events were left out.
    Missed(u64),
    /// It could not be answered: a sentence.
    Failed(String),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct AskLine {
    version: u32,
    ask: Call,
}

#[derive(Serialize, Deserialize)]
struct AnswerLine {
    version: u32,
    answer: Answer,
}

#[derive(Deserialize)]
struct AnyLine {
    version: u32,
}

/// Reads a client's line.
///
/// # Errors
/// A sentence for the client.
pub fn read_ask(line: &[u8]) -> Result<Call, String> {
    other_version(line)?;
    serde_json::from_slice::<AskLine>(line).map(|line| line.ask).map_err(|error| format!("not a request: {error}"))
}

/// Reads the agent's line.
///
/// # Errors
/// A sentence for the person.
pub fn read_answer(line: &[u8]) -> Result<Answer, String> {
    other_version(line)?;
    let line = serde_json::from_slice::<AnswerLine>(line);
    line.map(|line| line.answer).map_err(|error| format!("the agent's answer cannot be read: {error}"))
}

fn other_version(line: &[u8]) -> Result<(), String> {
    match serde_json::from_slice::<AnyLine>(line) {
        Ok(AnyLine { version: VERSION }) => Ok(()),
        Ok(AnyLine { version }) => Err(format!(
            "the other side speaks version {version} of the protocol and this one version {VERSION}: restart the agent with \
             `systemctl restart lastgood`"
        )),
        Err(error) => Err(format!("not a line of this protocol: {error}")),
    }
}

/// Writes a client's line, with its line break.
///
/// # Errors
/// When the value cannot be put into JSON.
pub fn write_ask(ask: &Call) -> serde_json::Result<Vec<u8>> {
    line(&AskLine { version: VERSION, ask: ask.clone() })
}

/// Writes the agent's line, with its line break.
///
/// # Errors
/// When the value cannot be put into JSON.
pub fn write_answer(answer: Answer) -> serde_json::Result<Vec<u8>> {
    line(&AnswerLine { version: VERSION, answer })
}

fn line<T: Serialize>(value: &T) -> serde_json::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(value)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_asked_looks_like_this() {
        let ask = Call::Do {
            request: Request::Rollback { component: "kube-apiserver".parse().unwrap(), to: Some(3) },
            how: Execution::DryRun,
        };
        let line = write_ask(&ask).unwrap();
        assert_eq!(
            String::from_utf8_lossy(&line),
            "{\"version\":1,\"ask\":{\"do\":{\"request\":{\"request\":\"rollback\",\"component\":\"kube-apiserver\",\
             \"to\":3},\"how\":\"dry-run\"}}}\n"
        );
        assert_eq!(read_ask(&line).unwrap(), ask);
        assert_eq!(read_ask(b"{\"version\":1,\"ask\":\"status\"}").unwrap(), Call::Status);
    }

    #[test]
    fn what_is_not_understood_is_refused_with_a_sentence() {
        for (line, part) in [
            (&b"{\"version\":2,\"ask\":\"status\"}"[..], "systemctl restart lastgood"),
            (b"{\"version\":1,\"ask\":\"selfdestruct\"}", "not a request"),
            (b"{\"version\":1,\"ask\":\"status\",\"as\":\"root\"}", "unknown field"),
            (b"{\"version\":1,\"ask\":{\"explain\":{\"component\":\"../etc\"}}}", "is not a component"),
            (b"\xff\xfe", "not a line"),
            (b"", "not a line"),
        ] {
            let told = read_ask(line).unwrap_err();
            assert!(told.contains(part), "{told}");
        }
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read_ask(&bytes);
            let _ = read_answer(&bytes);
        }

        #[test]
        fn damaged_lines_never_panic(at in 0usize..120, byte: u8) {
            let ask = Call::Do { request: Request::Pause { seconds: 60, reason: "work".to_owned() }, how: Execution::ForReal };
            let mut line = write_ask(&ask).unwrap();
            let at = at % line.len();
            line[at] = byte;
            let _ = read_ask(&line);
        }
    }
}
