//! Which messages are due: what waits for the operator, compared with what was sent. Nothing is queued, so a command that fails
//! for an hour sends then what is true then.

use std::collections::BTreeSet;

use jiff::Timestamp;

use super::sent_file::{Notified, Sent};
use super::waiting::{Found, Waiting};
use crate::model::ComponentId;
use crate::model::hook::{Matter, Message, Turn};

/// A message, and what is on record once it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub component: ComponentId,
    pub message: Message,
    /// Absent where nothing waits any more.
    pub sent: Option<Sent>,
}

impl Due {
    /// What is due, the beginnings first, and of them the gravest.
    pub(super) fn all(found: &Found, notified: &Notified, node: &str, now: Timestamp) -> Vec<Self> {
        let begins = found.waiting.iter().filter_map(|(id, waiting)| Self::begin(id, waiting, notified, node, now));
        let mut due: Vec<Self> = begins.collect();
        due.sort_by_key(|due| due.message.matter);
        let settled: BTreeSet<&ComponentId> = found.healthy.iter().collect();
        let ends = notified.components.iter().filter(|(id, _)| settled.contains(id) || !found.all.contains(id));
        due.extend(ends.map(|(id, sent)| Self::end(id, sent, node)));
        due
    }

    fn begin(
        component: &ComponentId,
        waiting: &Waiting,
        notified: &Notified,
        node: &str,
        now: Timestamp,
    ) -> Option<Self> {
        let before = notified.components.get(component);
        if before.is_some_and(|before| is_same(before, waiting)) {
            return None;
        }
        let sent = Sent {
            matter: waiting.matter,
            since: waiting.since.unwrap_or(now),
            message: waiting.message.clone(),
            next_step: waiting.next_step.clone(),
        };
        let message = message(component, &sent, node, Turn::Begins);
        Some(Self { component: component.clone(), message, sent: Some(sent) })
    }

    fn end(component: &ComponentId, sent: &Sent, node: &str) -> Self {
        let message = message(component, sent, node, Turn::Ends);
        Self { component: component.clone(), message, sent: None }
    }
}

/// Another reason to be held is news. The sentences of the other matters contain figures that move.
fn is_same(before: &Sent, waiting: &Waiting) -> bool {
    before.matter == waiting.matter && (waiting.matter != Matter::Held || before.message == waiting.message)
}

fn message(component: &ComponentId, sent: &Sent, node: &str, turn: Turn) -> Message {
    Message {
        node: node.to_owned(),
        turn,
        matter: sent.matter,
        component: Some(component.clone()),
        since: sent.since,
        message: sent.message.clone(),
        next_step: sent.next_step.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(name: &str) -> ComponentId {
        name.parse().unwrap()
    }

    fn waiting(matter: Matter, message: &str) -> Waiting {
        Waiting { matter, since: None, message: message.to_owned(), next_step: "look".to_owned() }
    }

    fn found(what: Option<Waiting>, healthy: bool) -> Found {
        let etcd = id("etcd");
        Found {
            healthy: if healthy { vec![etcd.clone()] } else { Vec::new() },
            waiting: what.map(|waiting| (etcd.clone(), waiting)).into_iter().collect(),
            all: vec![etcd],
        }
    }

    #[test]
    fn the_gravest_is_sent_first_and_what_is_over_last() {
        let rows = [("a", Matter::Unhealthy), ("b", Matter::Held), ("c", Matter::WrongData), ("d", Matter::Held)];
        let found = Found {
            waiting: rows.map(|(name, matter)| (id(name), waiting(matter, "x"))).into(),
            healthy: vec![id("0")],
            all: Vec::new(),
        };
        let sent = Sent {
            matter: Matter::WrongData,
            since: Timestamp::UNIX_EPOCH,
            message: String::new(),
            next_step: String::new(),
        };
        let notified = Notified { components: [(id("0"), sent)].into() };
        let due = Due::all(&found, &notified, "m1", Timestamp::UNIX_EPOCH);
        let order: Vec<String> = due.iter().map(|due| due.component.to_string()).collect();
        assert_eq!(order, ["c", "b", "d", "a", "0"]);
    }

    #[test]
    fn each_matter_is_sent_once_and_its_end_once_it_is_healthy_or_gone() {
        let held = |why| Some(waiting(Matter::Held, why));
        let unhealthy = |why| Some(waiting(Matter::Unhealthy, why));
        let gone = Found::default();
        let (begins, ends) = (Some(Turn::Begins), Some(Turn::Ends));
        let days = [
            ("nothing waits", found(None, true), None),
            ("it is unhealthy", found(unhealthy("for 5 min"), false), begins),
            ("another figure", found(unhealthy("for 6 min"), false), None),
            ("graver", found(held("twice"), false), begins),
            ("the same", found(held("twice"), false), None),
            ("another reason", found(held("no image"), false), begins),
            ("on probation", found(None, false), None),
            ("healthy", found(None, true), ends),
            ("still healthy", found(None, true), None),
            ("again", found(held("no image"), false), begins),
            ("removed", gone.clone(), ends),
            ("and no more", gone, None),
        ];
        let mut notified = Notified::default();
        for (day, found, turn) in days {
            let due = Due::all(&found, &notified, "m1", Timestamp::UNIX_EPOCH);
            assert_eq!(due.first().map(|due| due.message.turn), turn, "{day}");
            for due in due {
                match due.sent {
                    Some(sent) => drop(notified.components.insert(due.component, sent)),
                    None => drop(notified.components.remove(&due.component)),
                }
            }
        }
    }
}
