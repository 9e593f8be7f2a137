//! Certificates, as far as a recovery hangs on them.

use super::{Check, Examined};

/// The checks of certificates: none are looked at yet.
pub(super) fn checks(_examined: &Examined<'_>) -> Vec<Check> {
    Vec::new()
}
