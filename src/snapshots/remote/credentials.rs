//! Credentials of the object store: from a file that only root can read, else from the environment, else the library
//! asks for the machine's role. Secrets are passed only to that library.

use std::collections::BTreeMap;
use std::fmt;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use crate::config::object_url::Scheme;
use crate::sys::files;

/// A handful of lines.
const MAX_BYTES: u64 = 1 << 16;

/// A key, the variable of the environment that represents it, and whether it must not be seen.
struct Known {
    key: &'static str,
    variable: &'static str,
    secret: bool,
}

const fn known(key: &'static str, variable: &'static str, secret: bool) -> Known {
    Known { key, variable, secret }
}

/// The variables are those of the providers' own tools.
fn all(scheme: Scheme) -> &'static [Known] {
    const S3: &[Known] = &[
        known("access-key-id", "AWS_ACCESS_KEY_ID", true),
        known("secret-access-key", "AWS_SECRET_ACCESS_KEY", true),
        known("session-token", "AWS_SESSION_TOKEN", true),
    ];
    const GCS: &[Known] = &[known("service-account", "GOOGLE_APPLICATION_CREDENTIALS", false)];
    const AZURE: &[Known] = &[
        known("account", "AZURE_STORAGE_ACCOUNT_NAME", false),
        known("account-key", "AZURE_STORAGE_ACCOUNT_KEY", true),
        known("sas-token", "AZURE_STORAGE_SAS_TOKEN", true),
    ];
    match scheme {
        Scheme::S3 => S3,
        Scheme::Gcs => GCS,
        Scheme::Azure => AZURE,
    }
}

/// Keys and their values.
#[derive(Clone, Default, PartialEq, Eq)]
pub(super) struct Credentials {
    values: BTreeMap<&'static str, String>,
    secrets: Vec<String>,
}

/// The keys alone.
impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.values.keys()).finish()
    }
}

impl Credentials {
    /// From a file.
    ///
    /// # Errors
    /// A sentence that names the file and the line, never a value.
    pub(super) fn read(file: &Path, scheme: Scheme) -> Result<Self, String> {
        let named = |words: String| format!("{}: {words}", file.display());
        let metadata = std::fs::metadata(file).map_err(|error| named(format!("cannot be read: {error}")))?;
        let me = nix::unistd::geteuid().as_raw();
        if metadata.uid() != 0 && metadata.uid() != me {
            return Err(named(format!("belongs to user {}: chown it to root", metadata.uid())));
        }
        if metadata.mode() & 0o077 != 0 {
            let mode = metadata.mode() & 0o7777;
            return Err(named(format!("other users may read or write it (mode {mode:04o}): chmod 600 it")));
        }
        let bytes = files::read_bounded(file, MAX_BYTES).map_err(|error| error.to_string())?;
        let text = String::from_utf8(bytes).map_err(|_| named("is not text".to_owned()))?;
        Self::parse(&text, scheme).map_err(|(line, words)| format!("{}:{line}: {words}", file.display()))
    }

    fn parse(text: &str, scheme: Scheme) -> Result<Self, (usize, String)> {
        let mut credentials = Self::default();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let (key, value) = text.split_once('=').ok_or((line, "is no `key = value`".to_owned()))?;
            let (key, value) = (key.trim(), value.trim());
            let keys = all(scheme);
            let found = keys.iter().find(|known| known.key == key).ok_or_else(|| {
                let names: Vec<&str> = keys.iter().map(|known| known.key).collect();
                // Whoever wrote a value without its key must not find it in a log.
                (line, format!("no such key for {}://; there are: {}", scheme.text(), names.join(", ")))
            })?;
            let value = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
            if value.is_empty() {
                return Err((line, format!("{key} is empty")));
            }
            if credentials.values.contains_key(found.key) {
                return Err((line, format!("{key} is given twice")));
            }
            credentials.add(found, value);
        }
        Ok(credentials)
    }

    /// From the environment; nothing where it holds none.
    pub(super) fn of_environment(scheme: Scheme) -> Self {
        let mut credentials = Self::default();
        for known in all(scheme) {
            if let Some(value) = std::env::var(known.variable).ok().filter(|value| !value.is_empty()) {
                credentials.add(known, &value);
            }
        }
        credentials
    }

    fn add(&mut self, known: &Known, value: &str) {
        self.values.insert(known.key, value.to_owned());
        if known.secret {
            self.secrets.push(value.to_owned());
        }
    }

    /// The value of a key.
    pub(super) fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(String::as_str)
    }

    /// Whether there is none at all.
    pub(super) fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    /// A text from outside without any of them: a store may say in its answer what it was sent.
    pub(super) fn without(&self, text: &str) -> String {
        self.secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), "***"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn file(text: &str, mode: u32) -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("credentials");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        (dir, path)
    }

    #[test]
    fn a_file_is_read_and_its_values_are_not_shown() {
        let (_dir, path) =
            file("# of the backup user\naccess-key-id = AKIA1\n\nsecret-access-key=\"s3=cr3t\"\n", 0o600);
        let read = Credentials::read(&path, Scheme::S3).unwrap();
        assert_eq!((read.get("access-key-id"), read.get("secret-access-key")), (Some("AKIA1"), Some("s3=cr3t")));
        assert_eq!(read.get("session-token"), None);
        assert_eq!(format!("{read:?}"), r#"{"access-key-id", "secret-access-key"}"#);
        assert_eq!(read.without("you sent s3=cr3t as AKIA1"), "you sent *** as ***");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let (_dir, path) = file("access-key-id = AKIA1\n", 0o640);
        let why = Credentials::read(&path, Scheme::S3).unwrap_err();
        assert!(why.contains("mode 0640") && why.contains("chmod 600"), "{why}");
    }

    #[test]
    fn mistakes_are_named_by_line_and_no_value_is() {
        for (text, scheme, line, words) in [
            ("hunter2\n", Scheme::S3, 1, "is no `key = value`"),
            ("\nsecret = hunter2\n", Scheme::S3, 2, "there are: access-key-id, secret-access-key, session-token"),
            ("hunter2 = x\n", Scheme::Azure, 1, "there are: account, account-key, sas-token"),
            ("account-key = hunter2\n", Scheme::S3, 1, "no such key for s3://"),
            ("access-key-id =\n", Scheme::S3, 1, "access-key-id is empty"),
            ("sas-token = hunter2\nsas-token = hunter2\n", Scheme::Azure, 2, "sas-token is given twice"),
        ] {
            let (_dir, path) = file(text, 0o600);
            let why = Credentials::read(&path, scheme).unwrap_err();
            assert!(why.starts_with(&format!("{}:{line}: ", path.display())) && why.contains(words), "{text:?}: {why}");
            assert!(!why.contains("hunter2"), "{why}");
        }
    }
}
