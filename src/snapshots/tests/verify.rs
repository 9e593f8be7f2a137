//! A verified snapshot is identified by its checksum, everything else is read, and both give the same result.

use std::fs;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::proof::{Found, MAX_BYTES, this_build};
use super::super::save::take_here;
use super::super::{By, Depth, Directory, Earlier, Origin, Proof, verify};
use super::{fixture, keep};
use crate::etcd::snapshot::{self, RawCopy, Rejected, Trailer, Verified};
use crate::record::envelope;

fn saved(dir: &Path, origin: Origin) -> PathBuf {
    keep(dir, origin, 0)
}

fn quietly(path: &Path, trust: RawCopy, depth: Depth) -> Result<(Verified, By), Rejected> {
    verify(path, trust, depth, &mut |_, _| {})
}

fn proof(path: &Path) -> Proof {
    Proof::read(path, fs::metadata(path).unwrap().len()).unwrap()
}

#[test]
fn what_is_known_of_it_is_what_reading_it_finds() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let read = snapshot::verify(&path, RawCopy::Refuse, &mut |_, _| {}).unwrap();
    let earlier = |path: &Path| By::Checksum(Earlier { at: proof(path).verified, by: this_build() });
    let mut told = Vec::new();
    let known = verify(&path, RawCopy::Refuse, Depth::AsNeeded, &mut |done, of| told.push((done, of))).unwrap();
    assert_eq!(known, (read.clone(), earlier(&path)));
    let length = fs::metadata(&path).unwrap().len();
    assert_eq!(told.last(), Some(&(length, length)));
    assert_eq!(read.bytes(), length);
    assert_eq!(quietly(&path, RawCopy::Refuse, Depth::Whole).unwrap(), (read.clone(), By::Reading));
    // The operator's file as well.
    let mine = dir.path().join("mine");
    take_here(dir.path(), Origin::Stream, Timestamp::UNIX_EPOCH, &fixture()).unwrap().keep_as(&mine).unwrap().unwrap();
    assert_eq!(quietly(&mine, RawCopy::Refuse, Depth::AsNeeded).unwrap(), (read, earlier(&mine)));
}

#[test]
fn a_raw_copy_is_taken_for_no_more_than_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::DataDir);
    let refused = quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap_err();
    assert!(matches!(refused, Rejected::NoTrailer { .. }), "{refused}");
    let read = snapshot::verify(&path, RawCopy::Allow, &mut |_, _| {}).unwrap();
    let (known, by) = quietly(&path, RawCopy::Allow, Depth::AsNeeded).unwrap();
    let earlier = Earlier { at: proof(&path).verified, by: this_build() };
    assert_eq!((known.trailer, by), (Trailer::Absent, By::Checksum(earlier)));
    assert_eq!(known, read);
}

#[test]
fn a_bit_that_flips_anywhere_is_found_and_told_as_reading_tells_it() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let length = fs::metadata(&path).unwrap().len();
    let file = fs::File::options().read(true).write(true).open(&path).unwrap();
    // In a meta, in pages, in what is free, in the digest.
    for at in [0, 4096 + 40, 3 * 4096 + 7, length / 3, length / 2, length - 4096, length - 33, length - 1] {
        let mut byte = [0];
        file.read_exact_at(&mut byte, at).unwrap();
        file.write_all_at(&[byte[0] ^ 4], at).unwrap();
        let found = quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap_err();
        let read = snapshot::verify(&path, RawCopy::Refuse, &mut |_, _| {}).unwrap_err();
        assert_eq!(found.to_string(), read.to_string(), "byte {at}");
        file.write_all_at(&byte, at).unwrap();
    }
    assert!(matches!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Checksum(_)));
    file.set_len(length - 1).unwrap();
    quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap_err();
}

#[test]
fn what_another_build_found_is_valid_and_names_it_and_what_an_older_format_does_not_tell_is_found_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let good = proof(&path);
    assert!(good.by == this_build() && good.found.is_some());
    let by = "lastgood 0.0.1 (commit 0123abc)".to_owned();
    Proof { by: by.clone(), ..good.clone() }.write(&path).unwrap();
    let found = quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1;
    assert_eq!(found, By::Checksum(Earlier { at: good.verified, by }));
    let hostile = Proof { by: "\u{1b}[2J".into(), ..good.clone() };
    hostile.write(&path).unwrap();
    assert_eq!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Reading);
    // Of a format that this program does not know: no proof at all.
    let newer = envelope::encode(99, "proof", &good).unwrap();
    fs::write(super::super::proof::path_of(&path), newer).unwrap();
    assert_eq!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Reading);
    // Of the first format: as good a proof, and nothing to know it by.
    let first = Proof { found: None, ..good.clone() };
    let text = envelope::encode(1, "proof", &first).unwrap();
    fs::write(super::super::proof::path_of(&path), text).unwrap();
    assert_eq!(proof(&path), first);
    assert_eq!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Reading);
    good.write(&path).unwrap();
    assert!(matches!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Checksum(_)));
}

#[test]
fn a_proof_that_somebody_else_can_write_says_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let proof = super::super::proof::path_of(&path);
    let by = || quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1;
    assert!(matches!(by(), By::Checksum(_)));
    for mode in [0o620, 0o602] {
        fs::set_permissions(&proof, fs::Permissions::from_mode(mode)).unwrap();
        assert_eq!(by(), By::Reading, "{mode:o}");
    }
    fs::set_permissions(&proof, fs::Permissions::from_mode(0o644)).unwrap();
    assert!(matches!(by(), By::Checksum(_)));
    // Where this is not root, it cannot be given away.
    if std::os::unix::fs::chown(&proof, Some(65534), None).is_ok() {
        assert_eq!(by(), By::Reading);
        // Whose the snapshot is, however, may say what they like of it.
        std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
        assert!(matches!(by(), By::Checksum(_)));
    }
}

#[test]
fn a_proof_holds_for_no_name_that_says_something_else() {
    let dir = tempfile::tempdir().unwrap();
    let directory = Directory::at(dir.path());
    drop(directory.lock().unwrap());
    // As the operator may call one, in the directory of snapshots itself.
    let boasts = dir.path().join("20350101T000000Z-0000000000000007-r999999999999.db");
    take_here(dir.path(), Origin::Stream, Timestamp::UNIX_EPOCH, &fixture())
        .unwrap()
        .keep_as(&boasts)
        .unwrap()
        .unwrap();
    let listed = directory.list().unwrap();
    let why = listed[0].proof.as_ref().unwrap_err();
    assert!(listed.len() == 1 && why.contains("a snapshot named 19700101T000000Z-"), "{why}");
}

#[test]
fn bytes_that_are_read_now_so_and_now_so_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let good = proof(&path);
    let found = good.found.clone().unwrap();
    // As if the checksum had come out otherwise, once.
    let checksum = "00000000000000000000000000000001".to_owned().try_into().unwrap();
    Proof { found: Some(Found { checksum, ..found }), ..good }.write(&path).unwrap();
    let (verified, by) = quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap();
    assert_eq!(by, By::Reading);
    assert!(verified.contents.remarks.concat().contains("is faulty"), "{:?}", verified.contents.remarks);
}

#[test]
fn a_proof_never_grows_past_what_is_read_of_one() {
    let dir = tempfile::tempdir().unwrap();
    let path = saved(dir.path(), Origin::Stream);
    let mut large = proof(&path);
    large.found.as_mut().unwrap().contents.remarks = vec!["x".repeat(100); MAX_BYTES as usize / 100];
    let bounded = large.bounded();
    assert_eq!(bounded.found, None);
    bounded.write(&path).unwrap();
    assert_eq!(proof(&path), bounded);
    assert_eq!(quietly(&path, RawCopy::Refuse, Depth::AsNeeded).unwrap().1, By::Reading);
}
