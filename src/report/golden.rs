//! Files that hold what the program says, so that a sentence is asserted in one place: texts in tests/golden, schemas in
//! packaging/schemas.
//!
//! ```text
//!   LASTGOOD_REWRITE=1 cargo nextest run --lib report::        writes them; git diff shows what changed
//! ```

use std::fs;
use std::path::PathBuf;

use similar::TextDiff;

/// The command that writes the files again.
pub(super) const REWRITE: &str = "LASTGOOD_REWRITE=1 cargo nextest run --lib report::";

/// Whether the files are to be written.
pub(super) fn rewriting() -> bool {
    std::env::var_os("LASTGOOD_REWRITE").is_some_and(|value| !value.is_empty() && value != "0")
}

/// A path of this repository.
pub(super) fn in_tree(path: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// Holds a text against tests/golden/NAME.txt.
#[track_caller]
pub(super) fn same(name: &str, text: &str) {
    let path = in_tree("tests/golden").join(format!("{name}.txt"));
    if rewriting() {
        fs::write(&path, text).unwrap();
        return;
    }
    let golden = fs::read_to_string(&path).unwrap_or_default();
    let diff = TextDiff::from_lines(golden.as_str(), text);
    let diff = diff.unified_diff().header("the file", "the program").to_string();
    assert!(diff.is_empty(), "{} is not what the program says:\n{diff}\nif it is meant: {REWRITE}", path.display());
}
