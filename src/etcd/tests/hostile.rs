//! Malicious databases: each gives a value, or an error that names the page.

use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use proptest::prelude::*;

use super::victim::{PAGE, Victim};
use crate::etcd::backend;
use crate::etcd::bbolt::{Database, Fault};

impl Victim {
    /// Reads all there is of some bytes.
    fn read(&self, bytes: &[u8]) -> Result<usize, Fault> {
        fs::write(self.path(), bytes).unwrap();
        all(&self.path())
    }
}

fn all(path: &Path) -> Result<usize, Fault> {
    backend::read(path)?;
    backend::head(path)?;
    let db = Database::open(path)?;
    let mut keys = 0;
    for bucket in
        ["key", "meta", "lease", "alarm", "cluster", "members", "members_removed", "auth", "authUsers", "authRoles"]
    {
        db.walk(bucket.as_bytes(), |_, _| -> ControlFlow<()> {
            keys += 1;
            ControlFlow::Continue(())
        })?;
        db.last(bucket.as_bytes())?;
        db.get(bucket.as_bytes(), b"no-such-key")?;
    }
    Ok(keys)
}

/// An error about this page.
fn about(result: Result<usize, Fault>, page: u64, words: &str) {
    let fault = result.unwrap_err();
    let said = fault.to_string();
    assert!(said.contains(&format!("page {page}: ")) && said.contains(words), "{said}, not page {page}: {words}");
}

#[test]
fn a_database_that_ends_at_any_page_names_the_page_that_is_missing() {
    let victim = Victim::new();
    let whole = victim.read(&victim.whole).unwrap();
    assert!(whole > 311);
    for pages in 0..victim.whole.len() / PAGE {
        match victim.read(&victim.whole[..pages * PAGE]) {
            // Behind the last page in use there are free ones.
            Ok(keys) => assert_eq!(keys, whole, "{pages} pages"),
            Err(fault) => assert!(fault.to_string().contains("page "), "{pages} pages: {fault}"),
        }
    }
    about(victim.read(b""), 0, "the file ends before it");
    about(victim.read(&[0; 40]), 0, "the file ends before it");
}

#[test]
fn one_torn_meta_page_is_made_up_for_by_the_other_and_two_are_named() {
    let victim = Victim::new();
    let newest = victim.newest();
    fs::write(victim.path(), &victim.whole).unwrap();
    let txid = Database::open(&victim.path()).unwrap().meta().txid;
    // Every byte of the meta, its checksum included.
    for at in 16..16 + 64 {
        let byte = victim.whole[newest as usize * PAGE + at] ^ 0x40;
        let broken = victim.with(newest, at, &[byte]);
        fs::write(victim.path(), &broken).unwrap();
        let other = Database::open(&victim.path()).unwrap();
        assert_eq!(other.meta().txid, txid - 1, "byte {at}");
        let mut both = broken;
        both[(1 - newest as usize) * PAGE + at] ^= 0x40;
        let said = victim.read(&both).unwrap_err().to_string();
        assert!(said.contains("is no bbolt database: page 0: ") && said.contains("page 1: "), "{said}");
    }
}

#[test]
fn each_field_of_a_page_that_lies_is_named_with_its_page() {
    let victim = Victim::new();
    let (branch, leaf) = victim.branch();
    let root = victim.root();
    for page in [branch, leaf, root] {
        about(victim.read(&victim.with(page, 0, &9999u64.to_le_bytes())), page, "it claims to be page 9999");
        about(victim.read(&victim.with(page, 8, &[0x10])), page, "neither a branch nor a leaf");
        about(victim.read(&victim.with(page, 10, &[0xff, 0xff])), page, "65535 elements do not fit");
        about(victim.read(&victim.with(page, 12, &[0xff; 4])), page, "overflow pages reach beyond");
    }
    about(victim.read(&victim.with(branch, 10, &[0, 0])), branch, "a branch without children");
    about(victim.read(&victim.with(leaf, 10, &[0, 0])), leaf, "it is empty");
    // The first element: pos and ksize of a branch, pos, ksize and vsize of a leaf.
    for (page, at) in [(branch, 16), (branch, 20), (leaf, 20), (leaf, 24), (leaf, 28)] {
        about(victim.read(&victim.with(page, at, &[0xff; 4])), page, "element 0 is at bytes");
    }
    about(victim.read(&victim.with(leaf, 20, &[0; 4])), leaf, "element 0 is at bytes");
    for child in [0, 1, 1 << 40, u64::MAX] {
        about(victim.read(&victim.with(branch, 24, &child.to_le_bytes())), child, "it is named, and pages 2 to");
    }
}

#[test]
fn pages_that_name_each_other_in_a_circle_are_not_followed_for_ever() {
    let victim = Victim::new();
    let (branch, leaf) = victim.branch();
    about(victim.read(&victim.with(branch, 24, &branch.to_le_bytes())), branch, "in a cycle");
    // The second child is the first once more.
    let again = victim.read(&victim.with(branch, 40, &leaf.to_le_bytes()));
    about(again, leaf, "its first key is below the one that");
}

#[test]
fn what_is_no_file_is_no_database() {
    let dir = tempfile::tempdir().unwrap();
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(Database::open(&fifo).unwrap_err().to_string().contains("not a regular file"));
    assert!(Database::open(dir.path()).unwrap_err().to_string().contains("not a regular file"));
    assert!(matches!(Database::open(&dir.path().join("none")), Err(Fault::Io { .. })));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_bytes_in_any_pages_end_in_a_value_or_an_error(
        changes in prop::collection::vec((0..211usize, 0..64usize, any::<u8>()), 1..40),
    ) {
        let victim = Victim::new();
        let mut broken = victim.whole.clone();
        for (page, at, byte) in changes {
            broken[page * PAGE + at] = byte;
        }
        if let Err(fault) = victim.read(&broken) {
            prop_assert!(fault.to_string().contains("page "), "{}", fault);
        }
    }
}
