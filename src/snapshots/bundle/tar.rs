//! An archive of files: the plain tar of POSIX (ustar), of regular files only.
//!
//! ```text
//!   header 512 ─ bytes, filled up to 512 ─ header ─ bytes ─ … ─ 1024 zeros
//! ```
//!
//! `tar` reads what is written here. The reader accepts only what the writer produces: no links, devices, directories
//! or extensions, no name that leads out of the target directory, and none twice. So a second file of one name, or a
//! file below a link, cannot occur.
//!
//! The format: POSIX.1-2017, pax, "ustar Interchange Format".

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path, PathBuf};

/// Everything comes in these.
const BLOCK: usize = 512;
/// More files than any node has of configuration and keys.
pub const MAX_FILES: usize = 1024;

/// A field of a header: where it begins, and its length.
type Field = (usize, usize);
const NAME: Field = (0, 100);
const MODE: Field = (100, 8);
const UID: Field = (108, 8);
const GID: Field = (116, 8);
const SIZE: Field = (124, 12);
const TIME: Field = (136, 12);
const SUM: Field = (148, 8);
const KIND: Field = (156, 1);
const MAGIC: Field = (257, 8);
const PREFIX: Field = (345, 155);

/// "ustar", and its version.
const USTAR: &[u8] = b"ustar\x0000";

#[derive(Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it lay: a path from / on.
    pub path: PathBuf,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub bytes: Vec<u8>,
}

/// Without the bytes: they may be keys.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({:o}, {}:{}, {} bytes)", self.path.display(), self.mode, self.uid, self.gid, self.bytes.len())
    }
}

/// Why bytes are no archive of ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {what}")]
pub struct Fault {
    pub at: usize,
    pub what: String,
}

/// Whether a file can be put into an archive.
///
/// # Errors
/// A clause: why not.
pub(super) fn fits(entry: &Entry) -> Result<(), String> {
    split(&name_of(&entry.path)?)?;
    octal(UID, entry.uid.into())
        .and(octal(GID, entry.gid.into()))
        .ok_or("has an owner beyond what an archive can say")?;
    Ok(())
}

/// Writes an archive. `time`: of every file, in seconds since the epoch; when a file changed is of no use later, and the
/// same files are to make the same bytes.
///
/// # Errors
/// A sentence, where a file does not [`fit`](fits).
pub(super) fn write(entries: &[Entry], time: u64) -> Result<Vec<u8>, String> {
    let mut out = Vec::new();
    for entry in entries {
        let header = header(entry, time).map_err(|why| format!("{} {why}", entry.path.display()))?;
        out.extend_from_slice(&header);
        out.extend_from_slice(&entry.bytes);
        out.resize(out.len().next_multiple_of(BLOCK), 0);
    }
    out.resize(out.len() + 2 * BLOCK, 0);
    Ok(out)
}

fn header(entry: &Entry, time: u64) -> Result<[u8; BLOCK], String> {
    let name = name_of(&entry.path)?;
    let (prefix, name) = split(&name)?;
    let mut header = [0; BLOCK];
    let mut put = |field: Field, bytes: &[u8]| {
        if let Some(place) = header.get_mut(field.0..field.0 + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    };
    put(NAME, name.as_bytes());
    put(PREFIX, prefix.as_bytes());
    put(KIND, b"0");
    put(MAGIC, USTAR);
    put(SUM, b"        ");
    let numbers = [
        (MODE, u64::from(entry.mode & 0o7777)),
        (UID, entry.uid.into()),
        (GID, entry.gid.into()),
        (SIZE, entry.bytes.len() as u64),
        (TIME, time),
    ];
    for (field, number) in numbers {
        put(field, octal(field, number).ok_or("has a number beyond what an archive can say")?.as_bytes());
    }
    let sum = format!("{:06o}\0 ", sum(&header));
    if let Some(place) = header.get_mut(SUM.0..SUM.0 + SUM.1) {
        place.copy_from_slice(sum.as_bytes());
    }
    Ok(header)
}

/// Octal digits that fill a field but for its last byte.
fn octal(field: Field, number: u64) -> Option<String> {
    let digits = format!("{number:0width$o}", width = field.1 - 1);
    (digits.len() < field.1).then_some(digits)
}

/// The sum of a header's bytes, those of the sum itself taken for blanks.
fn sum(header: &[u8]) -> u64 {
    let counts = |at: usize| !(SUM.0..SUM.0 + SUM.1).contains(&at);
    header.iter().enumerate().map(|(at, byte)| if counts(at) { u64::from(*byte) } else { u64::from(b' ') }).sum()
}

/// The name of a path in an archive: without its first slash.
fn name_of(path: &Path) -> Result<String, String> {
    let text = path.to_str().ok_or("has a name that is not UTF-8")?;
    let name = text.strip_prefix('/').ok_or("is a relative path")?;
    is_plain(name)?;
    Ok(name.to_owned())
}

/// Whether a name leads below the directory it is unpacked into, and nowhere else, in one spelling.
fn is_plain(name: &str) -> Result<(), &'static str> {
    if name.is_empty() {
        return Err("has no name");
    }
    if name.chars().any(char::is_control) {
        return Err("has a name with control characters");
    }
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    let respelt: PathBuf = Path::new(name).components().collect();
    if !plain || respelt.as_os_str() != name {
        return Err("has a name that is no plain relative path");
    }
    Ok(())
}

/// A long name's two halves, at a slash.
fn split(name: &str) -> Result<(&str, &str), &'static str> {
    if name.len() <= NAME.1 {
        return Ok(("", name));
    }
    let halves = name.match_indices('/').filter_map(|(at, _)| Some((name.get(..at)?, name.get(at + 1..)?)));
    let mut fitting = halves.filter(|(prefix, rest)| prefix.len() <= PREFIX.1 && rest.len() <= NAME.1);
    fitting.next().ok_or("has a name that is too long for an archive")
}

/// Reads an archive.
///
/// # Errors
/// [`Fault`]: what is not as it was written, and where.
pub fn read(archive: &[u8]) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    let mut names = BTreeSet::new();
    let mut at = 0;
    loop {
        let fault = |what: &str| Fault { at, what: what.to_owned() };
        let header = archive.get(at..at + BLOCK).ok_or_else(|| fault("it is truncated"))?;
        if header.iter().all(|byte| *byte == 0) {
            let rest = archive.get(at..).unwrap_or_default();
            return match rest.len() == 2 * BLOCK && rest.iter().all(|byte| *byte == 0) {
                true if names.iter().any(|path| lies_below(&names, path)) => Err(fault("a file is below another file")),
                true => Ok(entries),
                false => Err(fault("it does not end as an archive does")),
            };
        }
        if entries.len() == MAX_FILES {
            return Err(fault("it has too many files"));
        }
        let (entry, size) = described(header).map_err(fault)?;
        let began = at + BLOCK;
        let ended = began.checked_add(size).ok_or_else(|| fault("a file is too large"))?;
        let bytes = archive.get(began..ended).ok_or_else(|| fault("it is truncated in a file"))?;
        let next = ended.next_multiple_of(BLOCK);
        if next > archive.len() {
            return Err(fault("it is truncated after a file"));
        }
        if !names.insert(entry.path.clone()) {
            return Err(fault("a file occurs twice"));
        }
        entries.push(Entry { bytes: bytes.to_vec(), ..entry });
        at = next;
    }
}

fn lies_below(names: &BTreeSet<PathBuf>, path: &Path) -> bool {
    path.ancestors().skip(1).any(|above| names.contains(above))
}

/// A header's file without its bytes, and how many there are.
fn described(header: &[u8]) -> Result<(Entry, usize), &'static str> {
    if number(header, SUM)? != sum(header) {
        return Err("the checksum of a header does not match");
    }
    if field(header, MAGIC) != USTAR {
        return Err("a header is not of this format");
    }
    if field(header, KIND) != b"0" {
        return Err("it contains something other than a regular file");
    }
    let (prefix, rest) = (text(header, PREFIX)?, text(header, NAME)?);
    let name = if prefix.is_empty() { rest.to_owned() } else { format!("{prefix}/{rest}") };
    is_plain(&name)?;
    let small = |field| u32::try_from(number(header, field)?).map_err(|_| "a number is too large");
    let entry = Entry {
        path: Path::new("/").join(name),
        mode: small(MODE)? & 0o7777,
        uid: small(UID)?,
        gid: small(GID)?,
        bytes: Vec::new(),
    };
    let size = usize::try_from(number(header, SIZE)?).map_err(|_| "a file is too large")?;
    Ok((entry, size))
}

fn field(header: &[u8], (at, length): Field) -> &[u8] {
    header.get(at..at + length).unwrap_or_default()
}

fn text(header: &[u8], of: Field) -> Result<&str, &'static str> {
    let bytes = field(header, of);
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    std::str::from_utf8(bytes.get(..end).unwrap_or_default()).map_err(|_| "a name is not UTF-8")
}

fn number(header: &[u8], of: Field) -> Result<u64, &'static str> {
    let digits = text(header, of)?.trim_matches(' ');
    // A sign is no digit, to whoever reads strictly.
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("a number field contains no number");
    }
    u64::from_str_radix(digits, 8).map_err(|_| "a number field contains no number")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn entry(path: &str, bytes: &[u8]) -> Entry {
        Entry { path: path.into(), mode: 0o640, uid: 0, gid: 7, bytes: bytes.to_vec() }
    }

    /// An archive of one file under a name that the writer would refuse.
    fn named(name: &str) -> Vec<u8> {
        let mut archive = write(&[entry("/x", b"x")], 0).unwrap();
        archive[..100].fill(0);
        archive[..name.len()].copy_from_slice(name.as_bytes());
        reseal(&mut archive);
        archive
    }

    fn reseal(archive: &mut [u8]) {
        let sum = format!("{:06o}\0 ", sum(&archive[..BLOCK]));
        archive[SUM.0..SUM.0 + SUM.1].copy_from_slice(sum.as_bytes());
    }

    #[test]
    fn tar_reads_what_is_written_and_what_tar_writes_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let long = format!("/{}/{}", "d".repeat(90), "f".repeat(90));
        let entries = [entry("/etc/kubernetes/a.yaml", b"a: 1\n"), entry(&long, &[7; 1000]), entry("/empty", b"")];
        let archive = write(&entries, 1_800_000_000).unwrap();
        assert_eq!(read(&archive).unwrap(), entries);
        let path = dir.path().join("a.tar");
        std::fs::write(&path, &archive).unwrap();
        let tar = |words: &[&str]| {
            let out = std::process::Command::new("tar").args(words).current_dir(dir.path()).output().unwrap();
            assert!(out.status.success(), "{words:?}: {}", String::from_utf8_lossy(&out.stderr));
        };
        tar(&["-xf", "a.tar"]);
        for entry in &entries {
            let unpacked = std::fs::read(dir.path().join(entry.path.strip_prefix("/").unwrap())).unwrap();
            assert_eq!(unpacked, entry.bytes, "{entry:?}");
        }
        tar(&["-cf", "b.tar", "--format=ustar", "--blocking-factor=1", "etc/kubernetes/a.yaml"]);
        let theirs = read(&std::fs::read(dir.path().join("b.tar")).unwrap()).unwrap();
        assert_eq!((&theirs[0].path, &theirs[0].bytes), (&entries[0].path, &entries[0].bytes));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_refused_by_both() {
        for name in ["/etc/passwd", "../x", "a/../../x", "a/./b", "a//b", "a/", ".", "..", "", "a\nb", "a\x1b[2J"] {
            let read = read(&named(name)).unwrap_err();
            assert!(read.what.contains("name"), "{name:?}: {read}");
            assert!(write(&[entry(&format!("/{name}"), b"")], 0).is_err(), "{name:?}");
        }
        assert!(write(&[entry("relative", b"")], 0).is_err());
        assert!(write(&[entry(&format!("/{}", "n".repeat(101)), b"")], 0).is_err(), "no slash to part it at");
    }

    #[test]
    fn what_is_no_plain_file_and_what_is_twice_there_is_refused() {
        for kind in [b'1', b'2', b'5', b'x', b'L', 0] {
            let mut archive = write(&[entry("/a", b"")], 0).unwrap();
            archive[KIND.0] = kind;
            reseal(&mut archive);
            assert!(read(&archive).unwrap_err().what.contains("regular file"), "{kind}");
        }
        let twice = write(&[entry("/a", b"1"), entry("/a", b"2")], 0).unwrap();
        assert!(read(&twice).unwrap_err().what.contains("twice"));
        for pair in [["/a", "/a/b"], ["/a/b", "/a"]] {
            let below = write(&pair.map(|path| entry(path, b"")), 0).unwrap();
            assert!(read(&below).unwrap_err().what.contains("below another"));
        }
        let many: Vec<Entry> = (0..=MAX_FILES).map(|n| entry(&format!("/{n}"), b"")).collect();
        assert!(read(&write(&many, 0).unwrap()).unwrap_err().what.contains("too many files"));
    }

    #[test]
    fn a_hostile_size_takes_no_memory() {
        for size in ["77777777777", "00000002001"] {
            let mut archive = write(&[entry("/a", b"x")], 0).unwrap();
            archive[SIZE.0..SIZE.0 + 11].copy_from_slice(size.as_bytes());
            reseal(&mut archive);
            assert!(read(&archive).unwrap_err().what.contains("truncated"), "{size}");
        }
    }

    #[test]
    fn every_cut_is_found() {
        let archive = write(&[entry("/a", b"one"), entry("/b", &[1; 600])], 0).unwrap();
        for end in 0..archive.len() {
            let fault = read(&archive[..end]).unwrap_err();
            assert!(fault.at <= end, "cut at {end}: {fault}");
        }
        let longer = [archive, vec![0]].concat();
        assert!(read(&longer).is_err());
    }

    proptest! {
        #[test]
        fn whatever_fits_comes_back(names in prop::collection::btree_set("[a-z.]{1,20}(/[a-zä]{1,60}){0,3}", 0..6),
            bytes in prop::collection::vec(any::<u8>(), 0..1200), mode in 0_u32..0o10000, uid in 0_u32..0o1_0000_0000) {
            let entries: Vec<Entry> = names.iter().map(|name| Entry {
                path: Path::new("/").join(name), mode, uid, gid: 3, bytes: bytes.clone(),
            }).filter(|entry| fits(entry).is_ok()).collect();
            let archive = write(&entries, 5).unwrap();
            match read(&archive) {
                Ok(read) => prop_assert_eq!(read, entries),
                Err(fault) => prop_assert!(fault.what.contains("below another"), "{}", fault),
            }
        }

        #[test]
        fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..1600)) {
            let _ = read(&bytes);
        }
    }
}
