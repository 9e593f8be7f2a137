//! Whether the configured program may be run: it runs as root, so nobody else may be able to change it.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Why it cannot or must not be run.
///
/// # Errors
/// A sentence that names the file and what is wrong with it.
pub(super) fn check(program: &Path) -> Result<(), String> {
    let shown = program.display();
    let metadata = fs::metadata(program).map_err(|error| format!("{shown}: {error}"))?;
    let mode = metadata.mode();
    if !metadata.is_file() {
        return Err(format!("{shown} is no regular file"));
    }
    if mode & 0o111 == 0 {
        return Err(format!("{shown} is not executable: `chmod 755 {shown}`"));
    }
    if mode & 0o022 != 0 {
        return Err(format!("others than its owner can write {shown}, and it runs as root: `chmod go-w {shown}`"));
    }
    if metadata.uid() != 0 && metadata.uid() != nix::unistd::geteuid().as_raw() {
        return Err(format!("{shown} belongs to user {}, and it runs as root: `chown root {shown}`", metadata.uid()));
    }
    Ok(())
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
}
