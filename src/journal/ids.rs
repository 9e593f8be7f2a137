//! One MESSAGE_ID per kind of event; `packaging/lastgood.catalog` explains each to `journalctl -x`. They never change.

use crate::model::event::EventKind;

/// Every kind with its word and its ID.
pub const ALL: [(EventKind, &str, &str); 9] = [
    (EventKind::Agent, "agent", "457e8a45171d474e86c1346a67ca3c0e"),
    (EventKind::Verdict, "verdict", "dfeed49f8d194013ad48f971711db652"),
    (EventKind::State, "state", "3aee1e281dd84e938ddc9c98e3b64980"),
    (EventKind::Generation, "generation", "d161066e131f4bc09d7d074ea8650917"),
    (EventKind::Action, "action", "dfc39378b8c8485e9d2d6e3cdcb415ae"),
    (EventKind::Failure, "failure", "d0669f7193ef4b3f9f4ffdeccd592669"),
    (EventKind::Notice, "notice", "6425d074798e41d1affa632603079ab1"),
    (EventKind::Request, "request", "56ecb84fc76446b987af5bce93d2c07c"),
    (EventKind::Snapshot, "snapshot", "f005401070544c64bf21c528886ba4da"),
];

/// The ID of a kind.
pub fn of(kind: EventKind) -> &'static str {
    entry(kind).2
}

/// The word of a kind, as the history has it.
pub fn word(kind: EventKind) -> &'static str {
    entry(kind).1
}

fn entry(kind: EventKind) -> &'static (EventKind, &'static str, &'static str) {
    &ALL[match kind {
        EventKind::Agent => 0,
        EventKind::Verdict => 1,
        EventKind::State => 2,
        EventKind::Generation => 3,
        EventKind::Action => 4,
        EventKind::Failure => 5,
        EventKind::Notice => 6,
        EventKind::Request => 7,
        EventKind::Snapshot => 8,
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_own_id_and_the_word_of_the_history() {
        for (kind, word, id) in ALL {
            assert_eq!(of(kind), id);
            assert_eq!(serde_json::to_value(kind).unwrap(), word);
            assert!(id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()), "{id}");
            assert_eq!(ALL.iter().filter(|(_, _, other)| *other == id).count(), 1);
        }
    }

    #[test]
    fn the_catalog_explains_each() {
        let catalog = include_str!("../../packaging/lastgood.catalog");
        for (_, word, id) in ALL {
            assert!(catalog.contains(&format!("-- {id}\n")), "{word} ({id}) is not in the catalog");
        }
        assert_eq!(catalog.lines().filter(|line| line.starts_with("-- ")).count(), ALL.len());
    }
}
