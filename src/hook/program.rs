//! Whether the configured program may be run: it runs as root, so nobody else may be able to change it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// As much of a `#!` line as the kernel reads.
const MAX_LINE: u64 = 256;

/// Why it cannot or must not be run: a sentence that names the file and what is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unusable {
    /// It, or what runs it, does not exist, or not for this user. A package may bring it later.
    Absent(String),
    /// It exists, and somebody has to change it.
    Wrong(String),
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::Absent(why) | Self::Wrong(why)) = self;
        f.write_str(why)
    }
}

/// Whether it can and may be run.
///
/// # Errors
/// Why not.
pub(super) fn check(program: &Path) -> Result<(), Unusable> {
    let shown = program.display();
    let metadata = fs::metadata(program).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Unusable::Absent(format!("{shown} does not exist; install it, or correct the path")),
        io::ErrorKind::PermissionDenied => Unusable::Absent(format!("{shown}: {error}; root may see it")),
        _ => Unusable::Wrong(format!("{shown}: {error}")),
    })?;
    let mode = metadata.mode();
    let wrong = |why: String| Err(Unusable::Wrong(why));
    if !metadata.is_file() {
        return wrong(format!("{shown} is no regular file; name a program"));
    }
    if mode & 0o111 == 0 {
        return wrong(format!("{shown} is not executable: `chmod 755 {shown}`"));
    }
    if mode & 0o022 != 0 {
        return wrong(format!("others than its owner can write {shown}, and it runs as root: `chmod go-w {shown}`"));
    }
    if metadata.uid() != 0 && metadata.uid() != nix::unistd::geteuid().as_raw() {
        return wrong(format!("{shown} belongs to user {}, and it runs as root: `chown root {shown}`", metadata.uid()));
    }
    match interpreter(program) {
        Ok(Some(interpreter)) if !interpreter.is_file() => Err(Unusable::Absent(format!(
            "the interpreter that the first line of {shown} names, {interpreter:?}, does not exist; install it, or correct that \
             line"
        ))),
        Ok(_) => Ok(()),
        // Root reads it.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        Err(error) => wrong(format!("{shown} cannot be read: {error}")),
    }
}

/// What runs a script, by its first line. The kernel takes all up to the first space: with the line end of another system,
/// that is a part of the name.
fn interpreter(program: &Path) -> io::Result<Option<PathBuf>> {
    let mut begin = Vec::new();
    File::open(program)?.take(MAX_LINE).read_to_end(&mut begin)?;
    let line = begin.split(|byte| *byte == b'\n').next().and_then(|line| line.strip_prefix(b"#!"));
    let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let word = line.and_then(|line| line.split(blank).find(|word| !word.is_empty()));
    Ok(word.map(|word| PathBuf::from(OsStr::from_bytes(word))))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, chown};

    use super::*;

    #[test]
    fn a_program_that_somebody_else_can_change_is_not_run() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("page");
        assert!(check(&program).is_err(), "absent");
        assert!(check(dir.path()).is_err(), "a directory");
        fs::write(&program, "#!/bin/sh\n").unwrap();
        for (mode, may_run) in [(0o755, true), (0o700, true), (0o644, false), (0o775, false), (0o757, false)] {
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(check(&program).is_ok(), may_run, "{mode:o}");
        }
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        if nix::unistd::geteuid().is_root() {
            chown(&program, Some(1234), None).unwrap();
            assert!(check(&program).is_err(), "another user's");
        }
    }

    #[test]
    fn what_is_absent_may_come_and_what_is_wrong_has_to_be_changed() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("page");
        let absent = |found: Result<(), Unusable>| match found {
            Ok(()) => None,
            Err(Unusable::Absent(_)) => Some(true),
            Err(Unusable::Wrong(_)) => Some(false),
        };
        assert_eq!(absent(check(&program)), Some(true), "no program");
        let rows: [(&[u8], u32, Option<bool>); 8] = [
            (b"#!/bin/sh\n", 0o755, None),
            (b"#! /bin/sh -e\n", 0o755, None),
            (b"#!/no/such/interpreter\n", 0o755, Some(true)),
            (b"#!/bin/sh\r\n", 0o755, Some(true)),
            (b"#!", 0o755, None),
            (b"\x7fELF", 0o755, None),
            (b"", 0o755, None),
            (b"#!/bin/sh\n", 0o644, Some(false)),
        ];
        for (text, mode, expected) in rows {
            fs::write(&program, text).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(mode)).unwrap();
            let found = check(&program);
            assert_eq!(absent(found.clone()), expected, "{:?} {mode:o}: {found:?}", String::from_utf8_lossy(text));
        }
    }
}
