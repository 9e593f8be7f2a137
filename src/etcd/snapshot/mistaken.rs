//! Names what a file is that was given for a snapshot and is rejected: by its first bytes, by its length, and by how its
//! line ends read.
//!
//! ```text
//!   rejected ──▶ empty, zeroes ─▶ signatures.rs ─▶ line ends ─▶ shorter or longer than its meta page says ─▶ Mistaken
//!                                                                                └─ none of these: as it was rejected
//! ```

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};
use sha2::{Digest as _, Sha256};

use super::bytes::{SECTOR, TRAILER};
use super::signatures::{Archive, Cipher, HEAD, Other, Packed, recognise};
use crate::etcd::bbolt::Database;

/// What is read at once.
const PIECE: usize = 256 << 10;
/// As far as line ends are counted: one byte in 256 of a database is a line feed.
const COUNTED: u64 = 8 << 20;
/// So many line feeds with a carriage return before each are no accident: one in 256 has one.
const MANY: u64 = 8;
/// So many of which none has one, neither, where bytes are missing.
const VERY_MANY: u64 = 2000;
/// Zeroes at the end that no page has.
const LONG: u64 = 16 << 10;
/// So many bytes of zeroes are read at most: a second of a fast disk.
const SCANNED: u64 = 1 << 30;
/// So many written parts of a file are told apart: a database that was copied with its holes has some.
const EXTENTS: usize = 4096;

/// A file that is something else than a snapshot.
#[derive(Debug, thiserror::Error)]
pub struct Mistaken {
    pub path: PathBuf,
    pub is: Is,
}

/// What it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Is {
    Empty,
    Directory,
    /// Nothing but zeroes.
    Zeroes,
    /// A file that lastgood keeps next to the snapshot of this name.
    PartOf(PathBuf),
    Other(Other),
    /// A carriage return was put before each line feed.
    CrLf,
    /// The carriage returns were taken out.
    NoCr,
    /// It ends too early.
    CutOff {
        bytes: u64,
        expected: u64,
    },
    /// It has no bytes but zeroes from here on.
    ZeroesFrom(u64),
    /// It is whole up to here, and something follows.
    Followed {
        whole: u64,
        by: u64,
        newline: bool,
    },
    /// It ends where neither a database nor a snapshot ends.
    Odd {
        bytes: u64,
    },
}

/// What speaks against a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Against {
    /// Neither meta page is whole, or it cannot be read.
    Meta,
    /// A page is not as it must be.
    Page,
    /// It has no SHA-256, or another one, or is not etcd's.
    Rest,
}

/// What a rejected file is, where it is something else than a damaged snapshot.
pub(super) fn mistaken(path: &Path, against: Against) -> Option<Mistaken> {
    is(path, against).ok().flatten().map(|is| Mistaken { path: path.to_owned(), is })
}

fn is(path: &Path, against: Against) -> io::Result<Option<Is>> {
    if path.is_dir() {
        return Ok(Some(Is::Directory));
    }
    let file = File::open(path)?;
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Some(Is::Empty));
    }
    if let Some(snapshot) = kept_with(path) {
        return Ok(Some(Is::PartOf(snapshot)));
    }
    let zeroes = zeroes_from(&file, length)?;
    if zeroes == 0 {
        return Ok(Some(Is::Zeroes));
    }
    if against == Against::Meta {
        let mut head = vec![0; usize::try_from(length).unwrap_or(HEAD).min(HEAD)];
        file.read_exact_at(&mut head, 0)?;
        if let Some(other) = recognise(&head) {
            return Ok(Some(Is::Other(other)));
        }
    }
    let lines = Lines::count(&file)?;
    if lines.feeds >= MANY && lines.after_return == lines.feeds {
        return Ok(Some(Is::CrLf));
    }
    let Ok(database) = Database::open(path) else { return Ok(None) };
    let meta = database.meta();
    // As etcd sends it: what its meta page says is in use, and the SHA-256.
    let size = meta.high_water.saturating_mul(u64::from(meta.page_size));
    let expected = size.saturating_add(TRAILER);
    let is_page = against == Against::Page;
    if length < size || (length > size && length < expected && !is_newline(&file, size, length)?) {
        let stripped = lines.feeds >= VERY_MANY && lines.after_return == 0;
        return Ok(Some(if stripped { Is::NoCr } else { Is::CutOff { bytes: length, expected } }));
    }
    if is_page && zeroes < size && length - zeroes >= LONG {
        return Ok(Some(Is::ZeroesFrom(zeroes)));
    }
    if is_page || length == size || length == expected {
        return Ok(None);
    }
    if length > expected && is_sha256_of(&file, size)? {
        let newline = is_newline(&file, expected, length)?;
        return Ok(Some(Is::Followed { whole: expected, by: length - expected, newline }));
    }
    let odd = !matches!(length % SECTOR, 0 | TRAILER);
    Ok(odd.then_some(Is::Odd { bytes: length }))
}

/// Whether nothing is between here and the end but a line's end.
fn is_newline(file: &File, from: u64, end: u64) -> io::Result<bool> {
    if end - from > 2 {
        return Ok(false);
    }
    let mut behind = vec![0; (end - from) as usize];
    file.read_exact_at(&mut behind, from)?;
    Ok(behind.iter().all(|byte| matches!(byte, b'\r' | b'\n')))
}

/// The snapshot that a file of this name is kept with.
fn kept_with(path: &Path) -> Option<PathBuf> {
    const PARTS: [&str; 3] = [".node.tar", ".keys.tar.age", ".bundle.json"];
    let name = path.file_name()?.to_str()?;
    let snapshot = match name.strip_suffix(".proof.json") {
        Some(snapshot) => snapshot.to_owned(),
        None => format!("{}.db", PARTS.iter().find_map(|ending| name.strip_suffix(ending))?),
    };
    Some(path.with_file_name(snapshot))
}

/// From where on a file holds nothing but zeroes. Holes are not read: a file may claim any size. Where more zeroes than
/// [`SCANNED`] are written, nothing is said of them.
fn zeroes_from(file: &File, length: u64) -> io::Result<u64> {
    let mut left = SCANNED;
    let mut piece = vec![0; PIECE];
    for (begin, end) in extents(file, length)?.into_iter().rev() {
        let mut end = end;
        while end > begin {
            let start = begin.max(end.saturating_sub(PIECE as u64));
            let piece = piece.get_mut(..(end - start) as usize).unwrap_or_default();
            file.read_exact_at(piece, start)?;
            if let Some(last) = piece.iter().rposition(|byte| *byte != 0) {
                return Ok(start + last as u64 + 1);
            }
            left = left.saturating_sub(end - start);
            if left == 0 {
                return Ok(length);
            }
            end = start;
        }
    }
    Ok(0)
}

/// The parts of a file that are written, in order. What is behind the first [`EXTENTS`] of them counts as one.
fn extents(file: &File, length: u64) -> io::Result<Vec<(u64, u64)>> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < length {
        let begin = match seek(file, at, Whence::SeekData) {
            Ok(begin) => begin,
            // No data behind here.
            Err(Errno::ENXIO) => break,
            // A file system that knows no holes.
            Err(_) => at,
        };
        let end = seek(file, begin, Whence::SeekHole).unwrap_or(length).min(length);
        let end = if found.len() + 1 < EXTENTS && end > begin { end } else { length };
        found.push((begin, end));
        at = end;
    }
    // The position is where the next reader begins.
    seek(file, 0, Whence::SeekSet)?;
    Ok(found)
}

fn seek(file: &File, at: u64, whence: Whence) -> nix::Result<u64> {
    let at = i64::try_from(at).map_err(|_| Errno::EOVERFLOW)?;
    lseek(file, at, whence).map(|found| u64::try_from(found).unwrap_or(0))
}

/// Whether what follows a database is its SHA-256.
fn is_sha256_of(file: &File, size: u64) -> io::Result<bool> {
    let mut hasher = Sha256::new();
    let (mut piece, mut done) = (vec![0; PIECE], 0);
    while done < size {
        let wanted = usize::try_from(size - done).unwrap_or(PIECE).min(PIECE);
        let piece = piece.get_mut(..wanted).unwrap_or_default();
        file.read_exact_at(piece, done)?;
        hasher.update(&piece);
        done += wanted as u64;
    }
    let mut says = [0; TRAILER as usize];
    file.read_exact_at(&mut says, size)?;
    Ok(<[u8; 32]>::from(hasher.finalize()) == says)
}

/// Line feeds, and those with a carriage return before them.
#[derive(Default)]
struct Lines {
    feeds: u64,
    after_return: u64,
}

impl Lines {
    fn count(file: &File) -> io::Result<Self> {
        let mut lines = Self::default();
        let (mut piece, mut before, mut at) = (vec![0; PIECE], 0, 0);
        let mut reader = file.take(COUNTED);
        loop {
            let read = reader.read(&mut piece)?;
            if read == 0 {
                return Ok(lines);
            }
            for byte in piece.iter().take(read) {
                if *byte == b'\n' {
                    lines.feeds += 1;
                    lines.after_return += u64::from(at > 0 && before == b'\r');
                }
                before = *byte;
                at += 1;
            }
        }
    }
}

impl fmt::Display for Mistaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (path, file) = (self.path.display(), quoted(&self.path));
        let unpacked = quoted(&unpacked(&self.path));
        let again = "copy the file from its source again, as binary";
        match &self.is {
            Is::Empty => write!(f, "{path} is empty: nothing was written to it; next: {again}"),
            Is::Directory => write!(
                f,
                "{path} is a directory, not a snapshot; next: name the file in it (in etcd's data directory, \
                 DIR/member/snap/db is the database)"
            ),
            Is::Zeroes => write!(
                f,
                "{path} contains nothing but zeroes: its space was allotted, and the content was never written; next: \
                 {again}"
            ),
            Is::PartOf(snapshot) => {
                let snapshot = quoted(snapshot);
                write!(
                    f,
                    "{path} is a file that lastgood keeps next to a snapshot; next: name the snapshot, {snapshot}"
                )
            }
            Is::Other(Other::Packed(packed)) => {
                let (name, suffix, command, to_output) = packed.tools();
                write!(f, "{path} is compressed with {name}; next: ")?;
                match self.path.extension().is_some_and(|extension| extension == suffix) {
                    true => write!(f, "{command} {file}"),
                    false => write!(f, "{to_output} < {file} > {unpacked}"),
                }
            }
            Is::Other(Other::Archive(archive)) => {
                let (name, command) = archive.tools();
                write!(f, "{path} is {name}; next: unpack it ({command} {file}) and name the snapshot in it")
            }
            Is::Other(Other::Encrypted(cipher)) => {
                let (name, command) = cipher.tools();
                write!(f, "{path} is encrypted with {name}; next: {command} {file} > {unpacked}")
            }
            Is::Other(Other::Answer(kind, said)) => {
                write!(f, "{path} is {kind}")?;
                if let Some(said) = said {
                    write!(f, " ({said})")?;
                }
                write!(
                    f,
                    ", not a snapshot: it is what a server answered instead of the file; next: download it again with \
                     valid credentials and the right URL"
                )
            }
            Is::Other(Other::LfsPointer) => {
                write!(f, "{path} is a pointer of Git LFS, not the file itself; next: git lfs pull --include {file}")
            }
            Is::Other(Other::Base64) => {
                write!(f, "{path} is encoded in base64; next: base64 -d {file} > {unpacked}")
            }
            Is::Other(Other::Utf16) => write!(
                f,
                "{path} is UTF-16 text, as PowerShell's > writes it, and its bytes are lost; next: {again} (kubectl cp, or \
                 > in cmd.exe)"
            ),
            Is::Other(Other::Replaced) => write!(
                f,
                "{path} was copied as text: what is not UTF-8 was replaced by U+FFFD and is lost; next: {again}"
            ),
            Is::Other(Other::Recoded) => write!(
                f,
                "{path} was copied as text: its bytes were taken for Latin-1 and written as UTF-8; next: iconv -f utf-8 -t \
                 latin1 {file} > {unpacked}"
            ),
            Is::Other(Other::Sqlite) => write!(
                f,
                "{path} is an SQLite database, not etcd's (k3s keeps its state in one); next: name a snapshot of etcd"
            ),
            Is::Other(Other::Wal) => write!(
                f,
                "{path} is a segment of etcd's WAL, not its database; next: name the database, member/snap/db in the data \
                 directory, with --skip-hash-check"
            ),
            Is::Other(Other::RaftSnapshot) => write!(
                f,
                "{path} is a snapshot of etcd's raft state, which has no keys; next: name the database next to it, \
                 member/snap/db, with --skip-hash-check"
            ),
            Is::Other(Other::Text) => write!(f, "{path} is a text file, not a snapshot; next: {again}"),
            Is::Other(Other::Preceded(bytes)) => write!(
                f,
                "{path} has {} before the database, such as the output of a tool; next: tail -c +{} {file} > {unpacked}",
                count(*bytes),
                bytes + 1
            ),
            Is::CrLf => write!(
                f,
                "{path} was copied as text: a carriage return was put before each of its line feeds (kubectl exec -t does \
                 that); next: LC_ALL=C sed 's/\\r$//' {file} > {unpacked}, and verify that"
            ),
            Is::NoCr => write!(
                f,
                "{path} was copied as text: the carriage returns before its line feeds were removed and are lost; next: \
                 {again}"
            ),
            Is::CutOff { bytes, expected } => {
                let missing = count(expected - bytes);
                write!(f, "{path} is cut off: {missing} of its {expected} are missing")?;
                if self.path.extension().is_some_and(|extension| extension == "part") {
                    write!(f, ", and etcdctl names a file .part until its download is complete")?;
                }
                write!(f, "; next: {again}, and compare `sha256sum {file}` on both sides")
            }
            Is::ZeroesFrom(at) => write!(
                f,
                "{path} contains nothing but zeroes from byte {at} to its end: the rest was never written to the disk; \
                 next: {again}, and compare `sha256sum {file}` on both sides"
            ),
            Is::Followed { whole, by, newline } => {
                let what = if *newline { ", a newline: it was copied through a terminal or an editor" } else { "" };
                write!(
                    f,
                    "{path} is whole up to byte {whole}, where its SHA-256 ends, and has {} more{what}; next: head -c \
                     {whole} {file} > {unpacked}",
                    count(*by)
                )
            }
            Is::Odd { bytes } => write!(
                f,
                "{path} has {bytes} bytes: a database is a multiple of {SECTOR} bytes long, and a snapshot {TRAILER} bytes \
                 longer; bytes at its end were added or lost; next: {again}"
            ),
        }
    }
}

fn count(bytes: u64) -> String {
    if bytes == 1 { "1 byte".to_owned() } else { format!("{bytes} bytes") }
}

impl Packed {
    /// Its name, the suffix that its tool expects, the command for a file with that suffix, and one for any other.
    fn tools(self) -> (&'static str, &'static str, &'static str, &'static str) {
        match self {
            Self::Gzip => ("gzip", "gz", "gunzip", "gzip -d"),
            Self::Zstd => ("zstd", "zst", "unzstd", "zstd -d"),
            Self::Xz => ("xz", "xz", "unxz", "xz -d"),
            Self::Bzip2 => ("bzip2", "bz2", "bunzip2", "bzip2 -d"),
            Self::Lz4 => ("lz4", "lz4", "unlz4", "lz4 -d"),
            Self::Lzip => ("lzip", "lz", "lzip -d", "lzip -d"),
            Self::Snappy => ("snappy", "sz", "snzip -d", "snzip -d"),
        }
    }
}

impl Archive {
    fn tools(self) -> (&'static str, &'static str) {
        match self {
            Self::Zip => ("a zip archive", "unzip"),
            Self::SevenZip => ("a 7z archive", "7z x"),
            Self::Tar => ("a tar archive", "tar xf"),
            Self::Cpio => ("a cpio archive", "cpio -idF"),
        }
    }
}

impl Cipher {
    fn tools(self) -> (&'static str, &'static str) {
        match self {
            Self::Age => ("age", "age -d -i IDENTITY"),
            Self::Pgp => ("PGP", "gpg -d"),
            Self::OpenSsl => ("openssl enc", "openssl enc -d CIPHER -in"),
            Self::Vault => ("Ansible Vault", "ansible-vault decrypt --output -"),
        }
    }
}

/// Where the snapshot could go that is made from a file: its name without a suffix of another format.
fn unpacked(path: &Path) -> PathBuf {
    const SUFFIXES: [&str; 16] = [
        "gz", "zst", "xz", "bz2", "lz4", "lz", "sz", "age", "asc", "gpg", "pgp", "enc", "b64", "base64", "vault", "bz",
    ];
    let suffix = path.extension().and_then(|extension| extension.to_str());
    match suffix.is_some_and(|suffix| SUFFIXES.contains(&suffix)) {
        true => path.with_extension(""),
        false => {
            let mut other = path.as_os_str().to_owned();
            other.push(".fixed");
            other.into()
        }
    }
}

/// As a shell takes it for one word.
fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=:,@%".contains(c);
    if text.chars().all(plain) { text } else { format!("'{}'", text.replace('\'', "'\\''")) }
}
