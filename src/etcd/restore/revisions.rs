//! The revision bump of a restore.
//!
//! A restore returns to an earlier state. Controllers cache objects by revision; a revision that is given out twice,
//! with another content, is taken for the cached one. So the first new revision has to be above every revision that
//! ever existed: in the snapshot, as observed of this etcd, in the replaced data directory, and written since the last
//! observation. A bump of a billion covers the last part: a thousand writes a second for eleven days; the number has
//! room for nine billion such bumps.

use super::Fault;

/// What is left for revisions that nobody has seen.
pub(super) const UNSEEN: i64 = 1_000_000_000;
/// Half of what the number holds: what is left is the clients'.
const MOST: i64 = i64::MAX / 2;

/// The revision that is moved to, or nothing where the operator asked for no move.
pub(super) fn moved_to(snapshot: i64, highest_known: i64, asked: Option<u64>) -> Result<Option<i64>, Fault> {
    let too_high = || {
        Fault::refused(
            format!("revisions that end at {snapshot} cannot be moved so far: a revision is at most {MOST}"),
            "give a smaller --bump-revision",
        )
    };
    let least = highest_known.max(snapshot) - snapshot;
    let bump = match asked {
        Some(0) => return Ok(None),
        Some(asked) => {
            let bump = i64::try_from(asked).map_err(|_| too_high())?;
            if bump < least {
                return Err(Fault::refused(
                    format!(
                        "--bump-revision {asked} ends at {}, but revision {highest_known} was already given out",
                        snapshot.saturating_add(bump)
                    ),
                    format!("give more than {least}, or leave it out"),
                ));
            }
            bump
        }
        None => least.checked_add(UNSEEN).ok_or_else(too_high)?,
    };
    snapshot.checked_add(bump).filter(|moved| *moved <= MOST).map(Some).ok_or_else(too_high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_revision_is_above_all_that_were_given_out() {
        assert_eq!(moved_to(700, 700, None).unwrap(), Some(UNSEEN + 700));
        assert_eq!(moved_to(700, 900, None).unwrap(), Some(UNSEEN + 900), "seen later");
        assert_eq!(moved_to(700, 1, None).unwrap(), Some(UNSEEN + 700), "an older record");
        assert_eq!(moved_to(700, 900, Some(0)).unwrap(), None);
        assert_eq!(moved_to(700, 900, Some(200)).unwrap(), Some(900));
        for asked in [199, u64::MAX, i64::MAX as u64] {
            assert!(matches!(moved_to(700, 900, Some(asked)), Err(Fault::Refused { .. })), "{asked}");
        }
        assert!(moved_to(MOST, MOST, None).is_err());
    }
}
