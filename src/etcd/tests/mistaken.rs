//! Files that are given for a snapshot and are something else.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use super::victim::{PAGE, Victim};
use crate::etcd::snapshot::{Archive, Is, Other, Packed, RawCopy, Rejected, Verified, verify};

impl Victim {
    fn named(&self, name: &str, bytes: &[u8], trust: RawCopy) -> Result<Verified, Rejected> {
        let path = self.path().with_file_name(name);
        fs::write(&path, bytes).unwrap();
        verify(&path, trust, &mut |_, _| {})
    }

    fn is(&self, name: &str, bytes: &[u8]) -> (Is, String) {
        let rejected = self.named(name, bytes, RawCopy::Refuse).unwrap_err();
        let said = rejected.to_string();
        match rejected {
            Rejected::Mistaken(mistaken) => (mistaken.is, said),
            other => panic!("{name}: {other}"),
        }
    }
}

/// What a tool makes of some bytes.
fn through(tool: &[&str], bytes: &[u8]) -> Vec<u8> {
    let mut command = Command::new(tool[0]);
    let mut child = command.args(&tool[1..]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let writer = std::thread::spawn(move || stdin.write_all(&bytes).unwrap());
    let out = child.wait_with_output().unwrap();
    writer.join().unwrap();
    out.stdout
}

fn lines(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some(at) = rest.windows(from.len()).position(|window| window == from) {
        out.extend(&rest[..at]);
        out.extend(to);
        rest = &rest[at + from.len()..];
    }
    out.extend(rest);
    out
}

#[test]
fn what_a_file_is_is_named_instead_of_a_fault_of_its_pages() {
    let victim = Victim::new();
    let whole = &victim.whole;
    let (length, size) = (whole.len() as u64, whole.len() as u64 - 32);
    let cut = |bytes| Is::CutOff { bytes, expected: length };
    let followed = |by, newline| Is::Followed { whole: length, by, newline };
    let with = |more: &[u8]| [whole.as_slice(), more].concat();
    let mut zeroes = whole.clone();
    zeroes[400_000..].fill(0);
    let mut raw_and_newline = whole[..size as usize].to_vec();
    raw_and_newline.extend(b"\n");
    for (situation, bytes, expected) in [
        ("empty", vec![], Is::Empty),
        ("allotted", vec![0; whole.len()], Is::Zeroes),
        ("allotted, written up to a point", zeroes, Is::ZeroesFrom(400_000)),
        ("compressed", through(&["gzip", "-c"], whole), Is::Other(Other::Packed(Packed::Gzip))),
        ("two pages", whole[..2 * PAGE].to_vec(), cut(2 * PAGE as u64)),
        ("cut within a page", whole[..500_000].to_vec(), cut(500_000)),
        ("cut at a page", whole[..100 * PAGE].to_vec(), cut(100 * PAGE as u64)),
        ("cut within its SHA-256", whole[..whole.len() - 10].to_vec(), cut(length - 10)),
        ("a newline", with(b"\n"), followed(1, true)),
        ("of Windows", with(b"\r\n"), followed(2, true)),
        ("four bytes", with(b"xx\0y"), followed(4, false)),
        ("as much as a sector", with(&[7; 512]), followed(512, false)),
        ("a copy of a database, and a newline", raw_and_newline, Is::Odd { bytes: size + 1 }),
        ("line ends of Windows", lines(whole, b"\n", b"\r\n"), Is::CrLf),
        ("line ends of Unix", lines(whole, b"\r\n", b"\n"), Is::NoCr),
        ("words before it", [b"Defaulted\n", whole.as_slice()].concat(), Is::Other(Other::Preceded(10))),
        ("read as UTF-8", String::from_utf8_lossy(whole).into_owned().into_bytes(), Is::Other(Other::Replaced)),
        (
            "read as Latin-1",
            whole.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes(),
            Is::Other(Other::Recoded),
        ),
        ("base64", through(&["base64"], whole), Is::Other(Other::Base64)),
    ] {
        let (is, said) = victim.is("given.db", &bytes);
        assert_eq!(is, expected, "{situation}");
        assert!(said.contains("; next: ") && said.lines().count() == 1, "{situation}: {said}");
    }
    let dir = victim.path();
    let dir = dir.parent().unwrap();
    let rejected = verify(dir, RawCopy::Refuse, &mut |_, _| {}).unwrap_err();
    assert!(matches!(rejected, Rejected::Mistaken(mistaken) if mistaken.is == Is::Directory));
}

#[test]
fn a_command_is_named_that_makes_a_snapshot_of_it() {
    let victim = Victim::new();
    let dir = victim.path().parent().unwrap().to_owned();
    let whole = victim.whole.clone();
    let crlf = lines(&whole, b"\n", b"\r\n");
    let more = [whole.as_slice(), b"\n"].concat();
    let before = [b"Defaulted\n", whole.as_slice()].concat();
    let latin: Vec<u8> = whole.iter().map(|byte| char::from(*byte)).collect::<String>().into_bytes();
    let gzip = through(&["gzip", "-c"], &whole);
    for (name, bytes, made) in [
        ("a.db.gz", gzip.clone(), "a.db"),
        ("it's b.db", gzip, "it's b.db.fixed"),
        ("c.db", more, "c.db.fixed"),
        ("d.db", crlf, "d.db.fixed"),
        ("e.db", before, "e.db.fixed"),
        ("f.db", latin, "f.db.fixed"),
        ("g.b64", through(&["base64"], &whole), "g"),
    ] {
        let (_, said) = victim.is(name, &bytes);
        let (_, command) = said.split_once("; next: ").unwrap();
        let command = command.strip_suffix(", and verify that").unwrap_or(command);
        let out = Command::new("sh").args(["-c", command]).current_dir(&dir).output().unwrap();
        assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
        assert!(verify(&dir.join(made), RawCopy::Refuse, &mut |_, _| {}).is_ok(), "{command}");
    }
}

#[test]
fn the_name_of_a_file_tells_what_its_bytes_do_not() {
    let victim = Victim::new();
    let (_, said) = victim.is("a.db.part", &victim.whole[..500_000]);
    assert!(said.contains(".part"), "{said}");
    for name in ["a.node.tar", "a.keys.tar.age", "a.bundle.json", "a.db.proof.json"] {
        let (is, _) = victim.is(name, b"{}");
        assert_eq!(is, Is::PartOf(victim.path().with_file_name("a.db")), "{name}");
    }
    let zip = [b"PK\x03\x04".as_slice(), &[9; 600]].concat();
    assert_eq!(victim.is("a.zip", &zip).0, Is::Other(Other::Archive(Archive::Zip)));
}

#[test]
fn what_is_accepted_without_a_sha_256_says_what_follows_it() {
    let victim = Victim::new();
    let followed = [victim.whole.as_slice(), b"\n"].concat();
    let remarks = |bytes: &[u8]| victim.named("a.db", bytes, RawCopy::Allow).unwrap().contents.remarks;
    assert!(matches!(remarks(&followed).as_slice(), [one] if one.contains("; next: head -c ")));
    assert!(remarks(&victim.whole[..victim.whole.len() - 32]).is_empty(), "a copy of a database");
    assert!(remarks(&victim.whole).is_empty());
}

#[test]
fn what_is_damaged_and_nothing_else_is_said_as_before() {
    let victim = Victim::new();
    let (_, leaf) = victim.branch();
    let page = victim.named("a.db", &victim.with(leaf, 0, &9999u64.to_le_bytes()), RawCopy::Refuse).unwrap_err();
    assert!(matches!(page, Rejected::Fault(_)), "{page}");
    let mut flipped = victim.whole.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let sum = victim.named("a.db", &flipped, RawCopy::Refuse).unwrap_err();
    assert!(matches!(sum, Rejected::Trailer { .. }), "{sum}");
    let raw = victim.named("a.db", &victim.whole[..victim.whole.len() - 32], RawCopy::Refuse).unwrap_err();
    assert!(matches!(raw, Rejected::NoTrailer { .. }), "{raw}");
}

/// A hole of any size is not read: this takes as long as the head of the file.
#[test]
fn zeroes_that_nobody_wrote_are_found_without_reading_them() {
    let victim = Victim::new();
    let path = victim.path().with_file_name("holes.db");
    for (head, has_data) in [(&b""[..], false), (&victim.whole[..3 * PAGE], true)] {
        fs::write(&path, head).unwrap();
        fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(4 << 40).unwrap();
        let rejected = verify(&path, RawCopy::Allow, &mut |_, _| {}).unwrap_err();
        let Rejected::Mistaken(mistaken) = rejected else { panic!("{rejected}") };
        let is = if has_data { matches!(mistaken.is, Is::ZeroesFrom(_)) } else { mistaken.is == Is::Zeroes };
        assert!(is, "{:?}", mistaken.is);
    }
}
