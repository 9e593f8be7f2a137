//! The notices of features: each is reported when its subject begins, and taken back when it is over. Features find them
//! by their own tasks; nothing here waits for that.

use super::draft::Draft;
use super::members::once;

/// Takes over what the features report.
pub(super) fn tell(draft: &mut Draft<'_>) {
    for notice in draft.scene.seen.notices.clone() {
        once(draft, &notice.component, notice.about, notice.text);
    }
}
