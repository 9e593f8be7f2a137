//! The configuration of notifications: the keys of `[notify]`.

use crate::config::keys::Zero::{Allowed, Refused};
use crate::config::keys::{Field, Key, key};

/// The keys, in the order of the file.
pub(super) const KEYS: &[Key] = &[
    key(
        "notify.command",
        Field::Command(|s| &mut s.notify.command),
        "command that is run when something begins or ceases to wait for the operator; it reads a JSON message from its \
         standard input; `[]` runs none",
    ),
    key("notify.timeout", Field::Duration(Refused, |s| &mut s.notify.timeout), "time-out of one run of it"),
    key(
        "notify.unhealthy-after",
        Field::Duration(Allowed, |s| &mut s.notify.unhealthy_after),
        "what is not healthy for so long waits for the operator",
    ),
];
