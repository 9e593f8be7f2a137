//! The SELinux label of a file: its extended attribute `security.selinux`. Where the file system or the kernel has none,
//! there is none to read, and none is set.

use std::io;
use std::path::Path;

use rustix::fs::{XattrFlags, lgetxattr, lsetxattr};
use rustix::io::Errno;

/// The attribute.
const SELINUX: &str = "security.selinux";
/// No context of a policy is longer.
const MAX_BYTES: usize = 4096;
/// selinuxfs, where the kernel enforces or reports by a policy.
const SELINUXFS: &str = "/sys/fs/selinux/enforce";

/// The label of a file itself, links not followed; nothing where it has none, or one that is no text.
pub fn of(path: &Path) -> Option<String> {
    read(path, SELINUX)
}

/// Whether this machine has SELinux: what is labelled elsewhere means nothing.
pub fn is_used() -> bool {
    Path::new(SELINUXFS).exists()
}

/// Labels a file itself.
///
/// # Errors
/// Where the system refuses it: the policy may not know that label.
pub fn set(path: &Path, label: &str) -> io::Result<()> {
    write(path, SELINUX, label)
}

fn read(path: &Path, attribute: &str) -> Option<String> {
    let mut bytes = vec![0; MAX_BYTES];
    let length = lgetxattr(path, attribute, bytes.as_mut_slice()).ok()?;
    bytes.truncate(length);
    // The kernel ends it with a zero.
    while bytes.last() == Some(&0) {
        bytes.pop();
    }
    String::from_utf8(bytes).ok().filter(|label| is_label(label))
}

/// Whether a text can be a label: `system_u:object_r:etc_t:s0`.
pub fn is_label(text: &str) -> bool {
    !text.is_empty() && text.len() < MAX_BYTES && !text.chars().any(char::is_control) && text.split(':').count() >= 3
}

fn write(path: &Path, attribute: &str, label: &str) -> io::Result<()> {
    let value = [label.as_bytes(), &[0]].concat();
    match lsetxattr(path, attribute, &value, XattrFlags::empty()) {
        // A file system without labels.
        Err(Errno::NOTSUP) => Ok(()),
        set => set.map_err(|errno| {
            let error = io::Error::from(errno);
            io::Error::new(error.kind(), format!("cannot label {} as {label}: {error}", path.display()))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_read_as_it_was_set_and_what_is_none_is_none() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("file");
        std::fs::write(&file, "x").unwrap();
        let label = "system_u:object_r:etc_t:s0:c1,c2";
        // Anybody may set an attribute of this name space, and the kernel keeps it as it is.
        const STAND_IN: &str = "user.selinux";
        assert_eq!(read(&file, STAND_IN), None);
        write(&file, STAND_IN, label).unwrap();
        assert_eq!(read(&file, STAND_IN).as_deref(), Some(label));
        write(&file, STAND_IN, "x\u{1b}:y:z").unwrap();
        assert_eq!(read(&file, STAND_IN), None, "it is shown on terminals");
        assert_eq!(of(&dir.path().join("none")), None);
        let error = set(&dir.path().join("none"), label).unwrap_err();
        assert!(error.to_string().contains("/none as system_u:"), "{error}");
    }

    #[test]
    fn what_is_no_label_is_not_set() {
        for text in ["", "etc_t", "a:b", "a:b:\n", &"a:".repeat(4096)] {
            assert!(!is_label(text), "{text:?}");
        }
        assert!(is_label("u:r:t"));
    }
}
